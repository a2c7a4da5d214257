"""A loopback relay in front of a server that cannot drop a connection by itself: `cut` resets one like a dead network."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field

_CHUNK = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST


@dataclass(eq=False)
class _End:
    """One side of a relayed connection; `waiting` is what it has not taken yet."""

    socket: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    other: _End | None = None
    interest: int = 0


class Relay:
    """Passes bytes between clients at `port` and the server at `target`, all in one thread."""

    def __init__(self, host: str, port: int, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server((host, port), backlog=64)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._ends: dict[int, _End] = {}
        self._cuts: deque[tuple[int, threading.Event]] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sandbox-relay", daemon=True)
        self._thread.start()

    def cut(self, port: int) -> None:
        """Reset the connection that the server sees as coming from `port`; returns when it is gone."""
        done = threading.Event()
        self._cuts.append((port, done))
        if self._wake():
            done.wait(5)

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join(5)
        self._ring.close()

    def _wake(self) -> bool:
        """False when the thread has ended already."""
        try:
            self._ring.send(b"!")
        except OSError:
            return False
        return True

    def _run(self) -> None:
        while not self._closing:
            for key, ready in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._bell:
                    self._bell.recv(64)
                else:
                    self._move(key.data, ready)
            while self._cuts:
                port, done = self._cuts.popleft()
                end = self._ends.get(port)
                if end:
                    self._drop(end, reset=True)
                done.set()
        for end in list(self._ends.values()):
            self._drop(end)
        for _, done in self._cuts:
            done.set()
        self._selector.close()
        self._listener.close()
        self._bell.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        ends = _End(client), _End(server)
        for end, other in (ends, ends[::-1]):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.other = other
            self._watch(end, selectors.EVENT_READ)
        self._ends[server.getsockname()[1]] = ends[0]

    def _watch(self, end: _End, interest: int) -> None:
        if interest == end.interest:
            return
        if not end.interest:
            self._selector.register(end.socket, interest, end)
        elif interest:
            self._selector.modify(end.socket, interest, end)
        else:
            self._selector.unregister(end.socket)
        end.interest = interest

    def _move(self, end: _End, ready: int) -> None:
        """Read from `end` into its other side, and write what waits for `end`."""
        other = end.other
        if other is None or not end.interest:
            return  # dropped earlier in the same round
        try:
            if ready & selectors.EVENT_WRITE:
                del end.waiting[: end.socket.send(end.waiting)]
            if ready & selectors.EVENT_READ and not other.waiting:
                taken = end.socket.recv(_CHUNK)
                if not taken:
                    self._drop(end)
                    return
                other.waiting += taken
                with contextlib.suppress(BlockingIOError):
                    del other.waiting[: other.socket.send(other.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(end)
            return
        for one, partner in ((end, other), (other, end)):
            reads = 0 if partner.waiting else selectors.EVENT_READ
            self._watch(one, reads | (selectors.EVENT_WRITE if one.waiting else 0))

    def _drop(self, end: _End, *, reset: bool = False) -> None:
        ends = [one for one in (end, end.other) if one]
        for one in ends:
            self._watch(one, 0)
            one.other = None
            if reset:
                with contextlib.suppress(OSError):
                    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.socket.close()
        self._ends = {port: kept for port, kept in self._ends.items() if kept not in ends}
