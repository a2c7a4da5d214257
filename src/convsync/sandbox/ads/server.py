"""The Ads API on the loopback interface: gRPC over TLS, behind a relay that can break connections."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convsync.sandbox.ads.api import Ads, Call, Reply
from convsync.sandbox.certificate import certificate_in
from convsync.sandbox.relay import Relay

_METHOD = re.compile(r"/google\.ads\.googleads\.(v\d+)\.services\.(\w+/\w+)")
_THREADS = 16
_MAX_BYTES = 64 * 1024 * 1024


class AdsServer:
    """Listens from the moment it is made until `close()`. `certificate` is what a client must trust."""

    def __init__(self, ads: Ads, host: str, port: int, folder: Path | None) -> None:
        self._ads = ads
        self._closing = threading.Event()
        self._private = None if folder else Path(tempfile.mkdtemp(prefix="convsync-sandbox-"))
        self.certificate, key = certificate_in(folder or self._private or Path())
        import grpc  # slow to load: only whoever asks for the Ads API pays for it

        self._grpc: Any = grpc
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sandbox-ads")
        limits = [("grpc.max_receive_message_length", _MAX_BYTES), ("grpc.so_reuseport", 0)]
        self._server = self._grpc.server(self._pool, handlers=[self], options=limits)
        pair = (key.read_bytes(), self.certificate.read_bytes())
        inner = self._server.add_secure_port("127.0.0.1:0", self._grpc.ssl_server_credentials([pair]))
        self._server.start()
        try:
            self._relay = Relay(host, port, ("127.0.0.1", inner))
        except OSError:
            self._stop()
            raise
        self.port = self._relay.port

    def close(self) -> None:
        self._closing.set()
        self._relay.close()
        self._stop()

    def _stop(self) -> None:
        self._server.stop(grace=None).wait(5)
        self._pool.shutdown()
        if self._private:
            shutil.rmtree(self._private, ignore_errors=True)

    # What grpc asks for: a handler for the method it was called with.

    def service(self, asked: Any) -> Any:
        found = _METHOD.fullmatch(asked.method)
        if not found:
            return None
        version, name = found[1], found[2]
        metadata = {key: value for key, value in asked.invocation_metadata if isinstance(value, str)}

        def call(body: bytes, context: Any) -> Reply:
            port = str(context.peer()).rpartition(":")[2]
            return self._ads.answer(Call(version, name, metadata, body, int(port)))

        def unary(body: bytes, context: Any) -> bytes:
            reply = call(body, context)
            self._wait(reply, context)
            self._travel(reply, context)
            return _bytes(reply.messages[0])

        def stream(body: bytes, context: Any) -> Iterator[bytes]:
            reply = call(body, context)
            self._wait(reply, context)
            for message in reply.messages:
                yield _bytes(message)
            if reply.messages and reply.way != "send":
                # Let what was sent leave before the connection breaks.
                self._closing.wait(0.2)
            self._travel(reply, context)

        if name.endswith("/SearchStream"):
            return self._grpc.unary_stream_rpc_method_handler(stream)
        return self._grpc.unary_unary_rpc_method_handler(unary)

    def _travel(self, reply: Reply, context: Any) -> None:
        """Break the connection or abort, as the reply wants it."""
        if reply.way != "send":
            self._relay.cut(int(str(context.peer()).rpartition(":")[2]))
            context.abort(self._grpc.StatusCode.UNAVAILABLE, "Socket closed")
        context.set_trailing_metadata(tuple(reply.trailing))
        if reply.status != "OK":
            context.abort(self._grpc.StatusCode[reply.status], reply.said)

    def _wait(self, reply: Reply, context: Any) -> None:
        """Until the time is over, the client leaves or the sandbox closes."""
        until = time.monotonic() + reply.wait_s
        while context.is_active() and (left := until - time.monotonic()) > 0:
            if self._closing.wait(min(left, 0.05)):
                return


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())
