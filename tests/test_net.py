"""The wire against tiny servers that misbehave in one way each, and its tables by themselves."""

from __future__ import annotations

import bisect
import datetime as dt
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from convsync import net
from convsync.errors import NotSent, Unclear, WireError
from convsync.net import Reply, Wire, http_fault, scrub

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Accepts connections and plays `script` on each: a function of the socket and the number of the connection."""

    def __init__(self, script: Callable[[Server, socket.socket, int], None], tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.stop = threading.Event()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/x?secret=canary"

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._play, args=(connection, self.connections), daemon=True).start()

    def _play(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self.script(self, connection, number)
        except OSError:
            pass
        finally:
            connection.close()

    def read(self, connection: socket.socket) -> bytes:
        """One request, whole."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                return data
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        chunks, missing = [body], int(fields.get(b"content-length", 0)) - len(body)
        while missing > 0 and (chunk := connection.recv(65536)):
            chunks.append(chunk)
            missing -= len(chunk)
        self.requests.append(b"".join((head, b"\r\n\r\n", *chunks)))
        return self.requests[-1]

    def close(self) -> None:
        self.stop.set()
        self.sock.close()


@contextmanager
def serving(
    script: Callable[[Server, socket.socket, int], None], tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    server = Server(script, tls)
    try:
        yield server
    finally:
        server.close()


def answers(data: bytes) -> Callable[[Server, socket.socket, int], None]:
    """Reads requests on a connection for ever and answers each with `data`."""

    def script(server: Server, connection: socket.socket, number: int) -> None:
        while server.read(connection):
            connection.sendall(data)

    return script


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@contextmanager
def wire(**options: Any) -> Iterator[Wire]:
    made = Wire(**({"requests_per_second": 1e6, "timeout": 2, "sleep": lambda _: None} | options))
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# -- what may have happened at the other end ---------------------------------------------------------


def test_a_whole_answer_is_returned_whatever_its_status() -> None:
    with serving(answers(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\noops")) as server, wire() as w:
        reply = w.exchange("POST", server.url, headers={"X-Mine": "1"}, body=b"hello")
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (503, b"oops", "7")
    assert b"X-Mine: 1" in server.requests[0]
    assert server.requests[0].endswith(b"hello")


def test_a_refused_connection_was_not_sent_and_is_tried_again() -> None:
    waits: list[float] = []
    with wire(sleep=waits.append) as w, pytest.raises(NotSent) as caught:
        w.exchange("POST", f"http://127.0.0.1:{free_port()}/", body=b"x")
    assert caught.value.reason == "connection refused"
    assert len(waits) == 2
    assert all(0 <= wait <= 30 for wait in waits)


def test_an_unknown_host_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with wire() as w, pytest.raises(NotSent) as caught:
        w.exchange("GET", "http://no.invalid/")
    assert caught.value.reason == "dns"


def test_a_connect_time_out_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr("urllib3.util.connection.create_connection", slow)
    with wire() as w, pytest.raises(NotSent) as caught:
        w.exchange("GET", "http://127.0.0.1:9/")
    assert caught.value.reason == "connect_timeout"


def _reset(server: Server, connection: socket.socket, number: int) -> None:
    server.read(connection)
    reset(connection)


def _close(server: Server, connection: socket.socket, number: int) -> None:
    server.read(connection)


def _stall(server: Server, connection: socket.socket, number: int) -> None:
    server.read(connection)
    server.stop.wait(5)


def _drip(start: bytes) -> Callable[[Server, socket.socket, int], None]:
    def script(server: Server, connection: socket.socket, number: int) -> None:
        server.read(connection)
        connection.sendall(start)
        while not server.stop.wait(0.02):
            connection.sendall(b"a")

    return script


def _sends(data: bytes) -> Callable[[Server, socket.socket, int], None]:
    def script(server: Server, connection: socket.socket, number: int) -> None:
        server.read(connection)
        connection.sendall(data)

    return script


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (_reset, "reset"),
        (_close, "eof"),
        (_stall, "read_timeout"),
        (_drip(b"HTTP/1.1 200 OK\r\nX-Long: "), "read_timeout"),
        (_drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), "read_timeout"),
        (_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "cut"),
        (_sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"), "cut"),
        (_sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhal"), "cut"),
        (_sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"), "bad_reply"),
        (_sends(b"SSH-2.0-OpenSSH_9.9\r\n"), "bad_reply"),
    ],
)
def test_whatever_breaks_after_the_first_byte_is_unclear_and_never_repeated(
    script: Callable[[Server, socket.socket, int], None], reason: str
) -> None:
    with serving(script) as server, wire(timeout=0.2) as w, pytest.raises(Unclear) as caught:
        w.exchange("POST", server.url, body=b"x")
    assert caught.value.reason == reason
    assert len(server.requests) == 1
    assert "canary" not in repr(caught.value)


def test_a_connection_that_breaks_while_it_is_used_again_is_unclear() -> None:
    def second_breaks(server: Server, connection: socket.socket, number: int) -> None:
        server.read(connection)
        connection.sendall(OK)
        server.read(connection)

    with serving(second_breaks) as server, wire() as w:
        assert w.exchange("POST", server.url, body=b"1").status == 200
        with pytest.raises(Unclear):
            w.exchange("POST", server.url, body=b"2")
    assert (len(server.requests), server.connections) == (2, 1)


def test_an_idle_connection_that_the_server_has_dropped_is_not_used() -> None:
    with serving(_sends(OK)) as server, wire() as w:
        for _ in range(3):
            assert w.exchange("POST", server.url, body=b"1").status == 200
            time.sleep(0.02)
    assert server.connections == 3


def test_without_keep_alive_each_request_has_a_connection_of_its_own() -> None:
    with serving(answers(OK)) as server, wire(keep_alive=False) as w:
        for _ in range(3):
            w.exchange("POST", server.url, body=b"1")
    assert server.connections == 3
    assert b"Connection: close" in server.requests[0]


def test_with_keep_alive_a_thread_keeps_its_connection_and_threads_share_none() -> None:
    with serving(answers(OK)) as server, wire() as w:

        def three() -> None:
            for _ in range(3):
                w.exchange("POST", server.url, body=b"1")

        threads = [threading.Thread(target=three) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.connections, len(server.requests)) == (2, 6)


def test_a_long_upload_may_take_longer_than_connecting() -> None:
    def slow_reader(server: Server, connection: socket.socket, number: int) -> None:
        time.sleep(0.2)
        server.read(connection)
        connection.sendall(OK)

    with serving(slow_reader) as server, wire(connect_timeout=0.05) as w:
        assert w.exchange("POST", server.url, body=b"x" * 20_000_000).status == 200


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "BODY_LIMIT", 1000)
    endless = _sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000)
    with serving(endless) as server, wire() as w, pytest.raises(Unclear) as caught:
        w.exchange("GET", server.url)
    assert caught.value.reason == "too_large"


def test_an_address_that_is_none_is_not_sent_and_not_tried_again() -> None:
    waits: list[float] = []
    with wire(sleep=waits.append) as w, pytest.raises(NotSent) as caught:
        w.exchange("GET", "http://[nonsense/")
    assert (caught.value.reason, waits) == ("bad_request", [])


# -- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(days=1), now + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_is_always_checked_and_a_bundle_can_be_named(certificate: Path) -> None:
    with serving(answers(OK), tls_of(certificate)) as server:
        with wire() as w, pytest.raises(NotSent) as caught:
            w.exchange("POST", server.url, body=b"x")
        with wire(ca_bundle=certificate) as w:
            assert w.exchange("POST", server.url, body=b"x").status == 200
    assert caught.value.reason == "tls"
    assert len(server.requests) == 1


def test_tls_that_breaks_after_the_first_byte_is_unclear(certificate: Path) -> None:
    with serving(_reset, tls_of(certificate)) as server, wire(ca_bundle=certificate) as w, pytest.raises(Unclear):
        w.exchange("POST", server.url, body=b"x")
    assert len(server.requests) == 1


def test_tls_that_drips_meets_the_clock(certificate: Path) -> None:
    script = _drip(b"HTTP/1.1 200 OK\r\nX-Long: ")
    impatient = wire(ca_bundle=certificate, timeout=0.2)
    with serving(script, tls_of(certificate)) as server, impatient as w, pytest.raises(Unclear) as caught:
        w.exchange("POST", server.url, body=b"x")
    assert caught.value.reason == "read_timeout"


def test_tls_that_breaks_in_the_handshake_was_not_sent() -> None:
    def hangs_up(server: Server, connection: socket.socket, number: int) -> None:
        connection.recv(10_000)
        reset(connection)

    with serving(hangs_up) as server, wire() as w, pytest.raises(NotSent) as caught:
        w.exchange("POST", server.url.replace("http:", "https:"), body=b"x")
    assert caught.value.reason in ("tls", "unreachable")


# -- what is never sent along -------------------------------------------------------------------------


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    moved = b"HTTP/1.1 307 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with serving(answers(moved)) as server, wire() as w:
        assert w.exchange("POST", server.url, body=b"x").status == 307
    assert len(server.requests) == 1


def test_a_redirect_to_nowhere_is_unclear_for_the_bytes_have_left() -> None:
    """requests takes Location apart even where redirects are not followed, and raises a bare ValueError."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\nContent-Length: 0\r\n\r\n"
    with serving(answers(moved)) as server, wire() as w, pytest.raises(Unclear):
        w.exchange("POST", server.url, body=b"x")
    assert len(server.requests) == 1


def _fails(*_: object) -> Any:
    raise KeyError("canary")


def test_an_error_nobody_thought_of_is_unclear_after_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "_bounded", _fails)
    with serving(answers(OK)) as server, wire() as w, pytest.raises(Unclear) as caught:
        w.exchange("POST", server.url, body=b"x")
    assert (caught.value.reason, len(server.requests)) == ("KeyError", 1)
    assert caught.value.__suppress_context__


def test_an_error_nobody_thought_of_is_not_sent_before_the_first_byte() -> None:
    with serving(answers(OK)) as server, wire(before_bytes=_fails) as w, pytest.raises(NotSent) as caught:
        w.exchange("POST", server.url, body=b"x")
    assert (caught.value.reason, server.requests) == ("KeyError", [])


@pytest.mark.parametrize("cookies", [False, True])
def test_cookies_come_back_only_if_asked_for(cookies: bool) -> None:
    baked = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    with serving(answers(baked)) as server, wire(cookies=cookies) as w:
        for _ in range(2):
            w.exchange("GET", server.url)
    assert (b"Cookie:" in server.requests[1]) is cookies


def test_no_password_of_a_netrc_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with serving(answers(OK)) as server, wire() as w:
        w.exchange("GET", server.url)
    assert b"Authorization" not in server.requests[0]


def test_a_proxy_that_refuses_has_not_seen_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_sends(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as server, wire() as w:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        with pytest.raises(NotSent) as caught:
            w.exchange("POST", "https://platform.example/path?secret=canary", body=b"canary")
    assert caught.value.reason == "proxy"
    assert all(request.startswith(b"CONNECT platform.example:443") for request in server.requests)
    assert not any(b"canary" in request for request in server.requests)


def test_a_proxy_is_never_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with serving(answers(OK)) as server, wire() as w:
        assert w.exchange("GET", server.url).status == 200


# -- before the first byte ----------------------------------------------------------------------------


def test_the_lease_is_looked_at_once_an_attempt_after_connecting_and_before_the_first_byte() -> None:
    seen: list[tuple[int, int]] = []
    with serving(answers(OK)) as server, wire() as w:
        w.before_bytes = lambda: seen.append((server.connections, len(server.requests)))
        w.exchange("POST", server.url, body=b"x")
        w.exchange("POST", server.url, body=b"x")
    assert [requests_before for _, requests_before in seen] == [0, 1]


def test_a_lost_lease_stops_the_request_before_a_byte_leaves() -> None:
    received: list[bytes] = []

    def listen(server: Server, connection: socket.socket, number: int) -> None:
        received.append(connection.recv(100))

    def lost() -> None:
        raise NotSent("lease_lost")

    waits: list[float] = []
    with serving(listen) as server, wire(before_bytes=lost, sleep=waits.append) as w:
        with pytest.raises(NotSent) as caught:
            w.exchange("POST", server.url, body=b"x")
        w.close()
        deadline = time.monotonic() + 2
        while not received and time.monotonic() < deadline:
            time.sleep(0.005)
    assert (caught.value.reason, received, waits) == ("lease_lost", [b""], [])


# -- retries -----------------------------------------------------------------------------------------


def throttled(*statuses: int) -> Callable[[Server, socket.socket, int], None]:
    left = list(statuses)

    def script(server: Server, connection: socket.socket, number: int) -> None:
        while server.read(connection):
            status = left.pop(0) if left else 200
            connection.sendall(b"HTTP/1.1 %d X\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n" % status)

    return script


def short_wait(reply: Reply) -> float | None:
    return reply.retry_after(NOW) if reply.status == 429 else None


def test_a_reply_that_names_a_short_wait_is_obeyed_exactly() -> None:
    waits: list[float] = []
    with serving(throttled(429, 429)) as server, wire(sleep=waits.append) as w:
        assert w.exchange("POST", server.url, body=b"x", again=short_wait).status == 200
    assert waits == [4, 4]


def test_a_longer_wait_than_there_is_time_for_returns_the_reply() -> None:
    waits: list[float] = []
    with serving(throttled(429)) as server, wire(sleep=waits.append, retry_seconds=3) as w:
        assert w.exchange("POST", server.url, body=b"x", again=short_wait).status == 429
    assert (waits, len(server.requests)) == ([], 1)


def test_the_waits_of_one_exchange_add_up() -> None:
    with serving(throttled(429, 429, 429)) as server, wire(retry_seconds=7) as w:
        assert w.exchange("POST", server.url, body=b"x", again=short_wait).status == 429
    assert len(server.requests) == 2


def test_the_number_of_attempts_is_bounded() -> None:
    with serving(throttled(*[429] * 9)) as server, wire(attempts=3) as w:
        assert w.exchange("POST", server.url, body=b"x", again=short_wait).status == 429
    assert len(server.requests) == 3


def test_without_a_word_of_the_route_no_reply_is_repeated() -> None:
    with serving(throttled(429, 503)) as server, wire() as w:
        assert w.exchange("POST", server.url, body=b"x").status == 429
    assert len(server.requests) == 1


def test_an_outage_does_not_multiply_the_traffic() -> None:
    waits: list[float] = []
    with wire(sleep=waits.append) as w:
        for _ in range(40):
            with pytest.raises(NotSent):
                w.exchange("GET", f"http://127.0.0.1:{free_port()}/")
    assert len(waits) <= 40 / 10 + 10 + 2


def test_a_stop_ends_the_wait_and_begins_no_attempt() -> None:
    with serving(throttled(429)) as server, wire() as w:
        w._sleep = lambda _: w.stop.set()
        with pytest.raises(NotSent) as caught:
            w.exchange("POST", server.url, body=b"x", again=short_wait)
        with pytest.raises(NotSent):
            w.exchange("POST", server.url, body=b"x")
    assert (caught.value.reason, len(server.requests)) == ("interrupted", 1)


def test_a_stop_wakes_a_real_wait() -> None:
    with serving(throttled(429)) as server, wire(sleep=time.sleep) as w:
        threading.Timer(0.05, w.stop.set).start()
        with pytest.raises(NotSent, match="interrupted"):
            w.exchange("POST", server.url, body=b"x", again=short_wait)
    assert len(server.requests) == 1


def test_no_wait_passes_the_deadline() -> None:
    with serving(throttled(429)) as server, wire() as w:
        w.deadline = time.monotonic() + 2
        with pytest.raises(NotSent) as caught:
            w.exchange("POST", server.url, body=b"x", again=short_wait)
        w.deadline = time.monotonic()
        with pytest.raises(NotSent):
            w.exchange("POST", server.url, body=b"x")
    assert (caught.value.reason, caught.value.wait, len(server.requests)) == ("deadline", 4, 1)


# -- pace --------------------------------------------------------------------------------------------


def test_a_few_requests_leave_together_and_the_others_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    bucket = net._Bucket(5)
    assert [round(bucket.reserve(), 3) for _ in range(7)] == [0, 0, 0, 0, 0.2, 0.4, 0.6]


def test_a_slow_bucket_hands_out_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    bucket = net._Bucket(0.5)
    assert [bucket.reserve() for _ in range(3)] == [0, 2, 4]


@pytest.mark.parametrize("rate", [0.5, 1, 4.5, 5, 25, 100])
def test_no_window_of_a_minute_sees_more_than_the_rate_and_the_burst(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    bucket = net._Bucket(rate)
    departures = [bucket.reserve() for _ in range(int(rate * 200) + 10)]
    for first, start in enumerate(departures):
        assert bisect.bisect_left(departures, start + 60) - first <= rate * 60 + net.BURST + 1


# -- a mocked transport -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (requests.ConnectTimeout(), NotSent, "connect_timeout"),
        (requests.ReadTimeout(), Unclear, "read_timeout"),
        (requests.ConnectionError(ConnectionResetError()), Unclear, "reset"),
        (requests.ConnectionError("whatever"), Unclear, "broken"),
        (requests.exceptions.ChunkedEncodingError(), Unclear, "cut"),
        (requests.exceptions.SSLError(), Unclear, "tls_broken"),
    ],
)
@responses.activate
def test_where_the_bytes_cannot_be_watched_only_plain_names_mean_not_sent(
    fault: Exception, kind: type[WireError], reason: str
) -> None:
    responses.add("POST", "https://platform.example/", body=fault)
    with wire() as w, pytest.raises(kind) as caught:
        w.exchange("POST", "https://platform.example/", body=b"x")
    assert caught.value.reason == reason


# -- tables and texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, "ambiguous"),
        (302, "ambiguous"),
        (307, "refused"),
        (308, "refused"),
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (407, "not_processed"),
        (408, "ambiguous"),
        (413, "refused"),
        (420, "not_processed"),
        (421, "not_processed"),
        (422, "refused"),
        (425, "not_processed"),
        (429, "not_processed"),
        (499, "ambiguous"),
        (500, "ambiguous"),
        (502, "ambiguous"),
        (503, "ambiguous"),
        (504, "ambiguous"),
        (599, "ambiguous"),
        (999, "ambiguous"),
    ],
)
def test_what_a_status_means_when_the_route_does_not_say(status: int, means: str) -> None:
    assert http_fault(status) == means


def test_only_a_named_few_are_ever_taken_for_not_processed() -> None:
    found = {status for status in range(1000) if http_fault(status) == "not_processed"}
    assert found == {407, 420, 421, 425, 429}
    assert all(fault.learned for fault in net.HTTP_FAULTS)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("1.5", 1.5),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert Reply(429, {"retry-after": header}, b"").retry_after(NOW) == seconds


def test_no_retry_after_is_none_and_a_broken_body_is_a_value_error() -> None:
    reply = Reply(200, {}, b"{")
    assert reply.retry_after(NOW) is None
    with pytest.raises(ValueError, match="unexpected"):
        reply.json()


@pytest.mark.parametrize(
    "secret",
    [
        "ivan.petrov+x@example.co.uk",
        "почта@пример.рф",
        "+7 916 123-45-67",
        "8 (916) 123-45-67",
        "79161234567",
        "ya29.a0AfH6SMBxxxx1234567890yyyyzzzz",
        "1//0gAbCdEfGhIjKl123456789-_xyz",
        "y0_AgAAAABkx1234567890abcdef",
        "Cj0KCQiA0eOPBhCGARIsAFIwTs4a1B2c3D4",
        "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a",
        "UJ6TMBm7KFoTSpM0uLtnnf950M4CPVKa9L10TUe0/Yo=",
    ],
)
@pytest.mark.parametrize("around", ["{}", "bad value {} in row 3", 'Invalid value "{}"', "x={};", "<b>{}</b>"])
def test_scrubbing_takes_out_what_could_name_a_person(secret: str, around: str) -> None:
    text = scrub(around.format(secret))
    assert secret not in text
    assert not any(part in text for part in secret.replace("/", " ").split() if len(part) > 8)


@pytest.mark.parametrize(
    "text",
    [
        "Unknown name \"gclid\" at 'events[0].ad_identifiers': Cannot find field.",
        "DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED: sign them",
        "At most 2000 events in a request.",
        "Order created 2026-11-22 17:00 is too old",
        "Metrica: строка 15, колонка client_ids",
        "Quota exceeded for IngestionMutateRequestsPerMinutePerProject",
    ],
)
def test_scrubbing_leaves_the_explanation(text: str) -> None:
    assert scrub(text) == text


def test_scrubbed_texts_are_short_and_on_one_line() -> None:
    assert scrub("a\r\n\tb\x00c") == "a b c"
    assert len(scrub("слово " * 1000)) == 300


def test_importing_the_wire_loads_no_http_client() -> None:
    code = "import sys, convsync.net; print(sorted({'requests', 'tenacity', 'urllib3', 'asyncio'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert run.stdout.strip() == "[]"
