"""A small HTTP/1.1 server that can also misbehave: reset, hang, cut an answer short."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from convsync.sandbox.web import Request, Response

_MAX_HEAD = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_PHRASES = {int(status): status.phrase for status in HTTPStatus} | {420: "Policy Not Fulfilled"}


@dataclass(slots=True)
class Answer:
    """A response and the way it travels: send | reset | cut | hang (nothing, then close)."""

    response: Response | None
    way: str = "send"
    wait_s: float = 0


class App(Protocol):
    def reset_while_reading(self, request: Request) -> bool: ...

    def begin(self, request: Request) -> None: ...

    def answer(self, request: Request) -> Answer: ...

    def end(self, request: Request) -> None: ...


class BadRequest(Exception):
    """Not HTTP as we know it."""


class _Reset(Exception):
    """Drop the connection with a TCP reset."""


class _Close(Exception):
    """Close the connection quietly."""


class Server:
    def __init__(self, app: App, host: str, port: int) -> None:
        self._app = app
        self._closing = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="sandbox-accept", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open.items())
        for connection, _ in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for _, thread in left:
            if thread is not threading.current_thread():
                thread.join(2)
        self._thread.join(2)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, str(peer[0])), daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        reader = connection.makefile("rb")
        try:
            while not self._closing.is_set() and self._exchange(connection, reader, peer):
                pass
        except _Reset:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except (_Close, OSError):
            pass
        except BadRequest as problem:
            with contextlib.suppress(OSError):
                connection.sendall(_wire(Response(400, str(problem).encode(), "text/plain"), False))
        finally:
            with self._lock:
                self._open.pop(connection, None)
            reader.close()
            connection.close()

    def _exchange(self, connection: socket.socket, reader: BinaryIO, peer: str) -> bool:
        """One request and its answer; True when the connection stays open."""
        request, version = _head(reader, peer)
        if request is None:
            return False
        if self._app.reset_while_reading(request):
            reader.readline(1024)
            raise _Reset
        if request.header("expect").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = _body(reader, request)
        keep = version == "HTTP/1.1" and request.header("connection").lower() != "close"
        self._app.begin(request)
        try:
            answer = self._app.answer(request)
            if answer.wait_s:
                self._wait(connection, answer.wait_s)
        finally:
            self._app.end(request)
        self._deliver(connection, answer, keep)
        return keep

    def _deliver(self, connection: socket.socket, answer: Answer, keep: bool) -> None:
        if answer.way == "reset":
            raise _Reset
        if answer.way == "hang" or answer.response is None:
            raise _Close
        wire = _wire(answer.response, keep)
        if answer.way == "cut":
            connection.sendall(wire[: len(wire) - max(1, len(answer.response.body) // 2)])
            raise _Close
        connection.sendall(wire)

    def _wait(self, connection: socket.socket, seconds: float) -> None:
        """Sleep until the time is over, the client leaves or the sandbox closes."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            readable = poll.poll(min(left, 0.05) * 1000)
            if readable and not connection.recv(1, socket.MSG_PEEK):
                raise _Close
            if readable:
                self._closing.wait(min(left, 0.05))


def _head(reader: BinaryIO, peer: str) -> tuple[Request | None, str]:
    line = reader.readline(_MAX_HEAD)
    while line in (b"\r\n", b"\n"):
        line = reader.readline(_MAX_HEAD)
    if not line:
        return None, ""
    words = line.decode("latin-1").rstrip("\r\n").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("malformed request line")
    target = words[1]
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("//", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    return Request(words[0], unquote(path), query, _headers(reader), peer=peer), words[2]


def _headers(reader: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    size = 0
    while True:
        line = reader.readline(_MAX_HEAD)
        size += len(line)
        if line in (b"\r\n", b"\n"):
            return headers
        if not line or size > _MAX_HEAD:
            raise BadRequest("malformed headers")
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequest("malformed header")
        headers[name.strip().lower()] = value.strip()


def _body(reader: BinaryIO, request: Request) -> bytes:
    if request.header("transfer-encoding").lower() == "chunked":
        return _chunked(reader)
    length = request.header("content-length") or "0"
    if not length.isdigit():
        raise BadRequest("malformed Content-Length")
    body = reader.read(int(length))
    if len(body) < int(length):
        raise _Close
    return body


def _chunked(reader: BinaryIO) -> bytes:
    chunks: list[bytes] = []
    while True:
        size = reader.readline(1024).split(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError:
            raise BadRequest("malformed chunk") from None
        chunks.append(reader.read(length))
        ended = reader.readline(1024)
        if length == 0:
            while ended not in (b"\r\n", b"\n", b""):
                ended = reader.readline(1024)
            return b"".join(chunks)


def _wire(response: Response, keep: bool) -> bytes:
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": response.type,
        "Content-Length": str(len(response.body)),
        "Connection": "keep-alive" if keep else "close",
        **response.headers,
    }
    phrase = _PHRASES.get(response.status, "Status")
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + response.body
