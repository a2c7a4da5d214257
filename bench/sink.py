"""A zero-latency stand-in for Data Manager, Metrica and VK: reads a request, counts its rows, answers at once. Loopback only."""

from __future__ import annotations

import socket
import sys
import threading

TOKEN = b'{"access_token":"t","expires_in":3599,"token_type":"Bearer","scope":"https://www.googleapis.com/auth/datamanager"}'


ORDERS = b'{"uploading":{"uploading_id":"u%d","api_validation_status":"PASSED","elements_count":%d}}'
UPLOAD = b'{"uploading":{"id":%d,"source_quantity":%d,"line_quantity":%d,"status":"UPLOADED"}}'


class Sink:
    def __init__(self) -> None:
        self.events = 0
        self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                piece = connection.recv(65536)
                if not piece:
                    return
                buffer += piece
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            body = bytearray(buffer)
            while len(body) < length:
                body += connection.recv(1 << 20)
            buffer = b""
            method, path, _ = head.split(b" ", 2)
            connection.sendall(self.vk(method, path, bytes(body)) or self.answer(path, bytes(body)))

    def vk(self, method: bytes, path: bytes, body: bytes) -> bytes:
        """A call of the pixel, a list that is made, or the lists, of which none is ever shown."""
        if path.startswith(b"/tracker?"):
            self.requests, self.events = self.requests + 1, self.events + 1
            return b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: 0\r\n\r\n"
        if b"/offline_goals.json" not in path:
            return b""
        if method == b"GET":
            return b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"items":[]}'
        self.requests, self.events = self.requests + 1, self.events + body.count(b".20")  # a day a row
        return b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"

    def answer(self, path: bytes, body: bytes) -> bytes:
        if path == b"/count":
            text = b"%d %d" % (self.requests, self.events)
        elif path == b"/token" or path.endswith(b"/oauth2/token.json"):
            text = TOKEN
        elif b"simple_orders" in path or b"offline_conversions/upload?" in path:
            rows = body.count(b"\n") - 7  # of them the header and six of the form
            self.requests += 1
            self.events += rows
            text = ORDERS % (self.requests, rows) if b"simple_orders" in path else UPLOAD % (self.requests, rows, rows)
        else:
            self.requests += 1
            self.events += body.count(b'"transactionId"')
            text = b'{"requestId":"r%d"}' % self.requests
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text


if __name__ == "__main__":
    sink = Sink()
    print(sink.port, flush=True)
    try:
        sink.serve()
    except KeyboardInterrupt:
        sys.exit(0)
