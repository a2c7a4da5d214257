"""The wire: one session per thread, one clock over every request, one owner of retries, and two words for failure.

    NotSent   no byte of the request left, or the server said that it took none: safe to send again
    Unclear   some of it left and no complete answer came back: it may have been processed

Which of the two it is gets decided where the bytes are, not by the name of an exception: our connection notes the
moment before it writes the first byte of a request. A broken TLS session raises the same error before and after it.
"""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from convsync import __version__
from convsync.errors import NotSent, Unclear, WireError

if TYPE_CHECKING:
    import requests
    import tenacity

USER_AGENT = f"convsync/{__version__}"
BODY_LIMIT = 32 * 1024 * 1024
T = TypeVar("T")
BURST = 4.0
"""Requests that may leave together: few, so that the first second of a run stays below a platform's limit, too."""


def _now() -> datetime:
    return datetime.now(UTC)


class Reply(NamedTuple):
    """A complete answer. `headers` ignore case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or ValueError."""
        return orjson.loads(self.body)

    def retry_after(self, now: datetime) -> float | None:
        """The seconds its Retry-After header asks for, written as seconds or as an HTTP date; None without one."""
        text = next((value for name, value in self.headers.items() if name.lower() == "retry-after"), "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
            return float(text)
        from email.utils import parsedate_to_datetime

        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


class Wire:
    """Requests to one platform: paced, timed, and repeated only when the first try was certainly not processed."""

    before_bytes: Callable[[], None] | None
    """Called in the sending thread, once an attempt, connected and right before its first byte. May raise NotSent."""
    stop: threading.Event
    """Set: no new attempt begins, waits end with NotSent("interrupted"). A request on its way is read to its end."""
    deadline: float | None
    """By time.monotonic(): no wait passes it and no attempt begins after it, NotSent("deadline") instead."""

    def __init__(
        self,
        *,
        requests_per_second: float,
        timeout: float = 60,
        connect_timeout: float = 5,
        keep_alive: bool = True,
        cookies: bool = False,
        ca_bundle: Path | None = None,
        user_agent: str = USER_AGENT,
        attempts: int = 3,
        retry_seconds: float = 60,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = _now,
        before_bytes: Callable[[], None] | None = None,
    ) -> None:
        self.timeout = timeout
        self.connect_timeout = min(connect_timeout, timeout)
        self.attempts = attempts
        self.retry_seconds = retry_seconds
        self.clock = clock
        self.before_bytes = before_bytes
        self.stop = threading.Event()
        self.deadline = None
        self._keep_alive = keep_alive
        self._cookies = cookies
        self._ca_bundle = ca_bundle
        self._user_agent = user_agent
        self._sleep = sleep
        self._bucket = _Bucket(requests_per_second)
        self._budget = _Budget()
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()

    @property
    def longest(self) -> float:
        """The most seconds that one `exchange` may hold its thread, but for waiting its turn."""
        return self.retry_seconds + self.timeout

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes | None = None,
        again: Callable[[Reply], float | None] | None = None,
    ) -> Reply:
        """Send a request and read the whole answer, whatever its status; redirects are answers too.

        `again` names the replies that say "not processed, come back in so many seconds": they are sent once more if
        that is soon enough, and returned if not. Raises NotSent or Unclear.
        """

        def attempt() -> Reply:
            self._take_turn()
            reply = self._once(method, url, headers, body)
            wait = again(reply) if again is not None else None
            if wait is not None:
                raise _Again(reply, wait)
            return reply

        try:
            return self._retrying(attempt)
        except _Again as turned_away:
            return turned_away.reply

    def through(self, call: Callable[[Callable[[], None]], T]) -> T:
        """A call that is not HTTP, paced and repeated as `exchange` is: again after a NotSent that may pass.

        `call` makes one attempt. It is given the gate, to go through once it is connected and right before its first
        byte. What it raises is raised here.
        """

        def attempt() -> T:
            self._take_turn()
            return call(self._gate)

        return self._retrying(attempt)

    def close(self) -> None:
        with self._lock:
            sessions, self._sessions = self._sessions, []
            self._local = threading.local()
        for session in sessions:
            session.close()

    # -- retries and waits -----------------------------------------------------------------------------

    @functools.cached_property
    def _retrying(self) -> tenacity.Retrying:
        import tenacity  # it brings asyncio; a run with nothing due does not pay for it

        jitter = tenacity.wait_random_exponential(multiplier=1, max=30)

        def worth_it(error: BaseException) -> bool:
            return isinstance(error, _Again) or (isinstance(error, NotSent) and error.reason in TRANSIENT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return error.wait if isinstance(error, _Again) else jitter(state)

        def enough(state: tenacity.RetryCallState) -> bool:
            spent = max(state.seconds_since_start or 0.0, state.idle_for)
            out_of_time = spent + state.upcoming_sleep > self.retry_seconds
            return state.attempt_number >= self.attempts or out_of_time or not self._budget.spend()

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_it), wait=wait, stop=enough, sleep=self._wait, reraise=True
        )

    def _take_turn(self) -> None:
        self._check()
        self._budget.earn()
        self._wait(self._bucket.reserve())
        self._check()

    def _check(self) -> None:
        if self.stop.is_set():
            raise NotSent("interrupted")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise NotSent("deadline")

    def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self.deadline is not None and time.monotonic() + seconds > self.deadline:
            raise NotSent("deadline", wait=seconds)
        if self._sleep is time.sleep:
            self.stop.wait(seconds)
        else:
            self._sleep(seconds)
        if self.stop.is_set():
            raise NotSent("interrupted")

    def _gate(self) -> None:
        self._check()
        if self.before_bytes is not None:
            self.before_bytes()

    # -- one attempt -----------------------------------------------------------------------------------

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        import requests  # a fifth of a second that a run with nothing due does not pay
        import urllib3

        session = self._session()
        _attempt.begin(self.timeout, self._gate)
        try:
            request = session.prepare_request(requests.Request(method, url, headers=dict(headers), data=body))
        except Exception:  # noqa: BLE001 - no byte has left yet, whatever is wrong with it
            raise NotSent("bad_request") from None
        try:
            with session.send(
                request,
                stream=True,
                allow_redirects=False,
                timeout=(self.connect_timeout, self.timeout),
                verify=self._trusted(),
                proxies=_proxies(url),
            ) as response:
                return Reply(response.status_code, response.headers, _bounded(response.iter_content(65536)))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
            raise _word_for(fault, started=_attempt.started) from None
        except WireError:
            raise
        except Exception as fault:  # noqa: BLE001 - whoever is at fault, only this counts: may a byte have left?
            word = type(fault).__name__
            raise (NotSent(word) if _attempt.started is False else Unclear(word)) from None
        finally:
            if not self._keep_alive:
                for adapter in session.adapters.values():
                    adapter.close()

    def _trusted(self) -> str | Literal[True]:
        """Where trust comes from. A file can be named; verification has no switch."""
        bundle = self._ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        return str(bundle) if bundle else True

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._new_session()
            with self._lock:
                self._sessions.append(session)
        return session

    def _new_session(self) -> requests.Session:
        import http.cookiejar

        import requests

        chatty = logging.getLogger("urllib3")  # prints addresses with their queries at DEBUG
        chatty.setLevel(max(chatty.level, logging.WARNING))
        session = requests.Session()
        session.trust_env = False  # no password from a .netrc; proxies are looked up in _proxies
        session.headers["User-Agent"] = self._user_agent
        session.headers["Connection"] = "keep-alive" if self._keep_alive else "close"
        if not self._cookies:
            session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            session.mount(scheme, _adapter_class()(pool_connections=1, pool_maxsize=1, max_retries=0))
        return session


# -- what may have happened at the other end -------------------------------------------------------

TRANSIENT = frozenset({"dns", "connection refused", "connect_timeout", "unreachable", "tls", "proxy"})
"""Reasons of NotSent that the next attempt may not meet again."""
STOPPED = frozenset({"interrupted", "deadline", "lease_lost", "lease_too_short"})
"""Reasons of NotSent that were decided on our side: they are about the run, not about the platform."""


_WHILE_CONNECTING = (
    ("ProxyError", "proxy"),
    ("Timeout", "connect_timeout"),  # of a TLS handshake, which urllib3 calls a read time-out
    ("TimeoutError", "connect_timeout"),
    ("SSLError", "tls"),
)
_WHILE_TALKING = (
    ("Timeout", "read_timeout"),
    ("TimeoutError", "read_timeout"),
    ("ReadTimeoutError", "read_timeout"),
    ("IncompleteRead", "cut"),
    ("InvalidChunkLength", "cut"),
    ("ChunkedEncodingError", "cut"),
    ("RemoteDisconnected", "eof"),
    ("ConnectionResetError", "reset"),
    ("BrokenPipeError", "reset"),
    ("ConnectionAbortedError", "reset"),
    ("SSLError", "tls_broken"),
    ("HTTPException", "bad_reply"),
    ("ContentDecodingError", "bad_reply"),
    ("DecodeError", "bad_reply"),
)
"""Names of exceptions, ours, Python's, urllib3's and those of requests, in order of how much they tell."""


def _word_for(fault: BaseException, *, started: bool | None) -> NotSent | Unclear:
    """`started` is None when our connection was never asked (a mocked transport): then only plain names count."""
    kinds = {kind.__name__ for link in _chain(fault) for kind in type(link).__mro__}
    codes = {link.errno for link in _chain(fault) if isinstance(link, OSError)}
    before = "connect_timeout" if "ConnectTimeoutError" in kinds or "ConnectTimeout" in kinds else None
    if "NewConnectionError" in kinds:
        before = "connection refused" if errno.ECONNREFUSED in codes else "unreachable"
    if "NameResolutionError" in kinds or "gaierror" in kinds:
        before = "dns"
    if started is False:
        return NotSent(before or next((word for kind, word in _WHILE_CONNECTING if kind in kinds), "unreachable"))
    if started is None and before is not None:
        return NotSent(before)
    return Unclear(next((word for kind, word in _WHILE_TALKING if kind in kinds), "broken"))


def _chain(fault: BaseException) -> Iterator[BaseException]:
    """`fault` and everything it was made from; requests and urllib3 wrap in three different ways."""
    queue, seen = [fault], set[int]()
    while queue:
        link = queue.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        wrapped = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        queue.extend(inner for inner in wrapped if isinstance(inner, BaseException))


class _Fault(NamedTuple):
    statuses: range
    means: Literal["not_processed", "ambiguous", "refused"]
    learned: str


HTTP_FAULTS = (
    _Fault(range(407, 408), "not_processed", "RFC 9110 15.5.8: the proxy kept it"),
    _Fault(range(420, 421), "not_processed", "Yandex Metrica, English page on quotas: the older number of 429"),
    _Fault(range(421, 422), "not_processed", "RFC 9110 15.5.20: this server does not answer for that host"),
    _Fault(range(425, 426), "not_processed", "RFC 8470 5.2: unwilling to process a request that might be replayed"),
    _Fault(range(429, 430), "not_processed", "RFC 6585 4: over the limit, before any work"),
    _Fault(range(307, 309), "refused", "RFC 9110 15.4.8: lives elsewhere; we follow no redirect, so the URL is wrong"),
    _Fault(range(408, 409), "ambiguous", "RFC 9110 15.5.9 says incomplete, but gateways say it of a slow backend"),
    _Fault(range(499, 500), "ambiguous", "nginx: gave up between us and the backend"),
    _Fault(range(400, 500), "refused", "RFC 9110 15.5: the request itself is at fault, nothing was done"),
    _Fault(range(100, 400), "ambiguous", "RFC 9110 15.3, 15.4: a success or a redirect that the route could not read"),
    _Fault(range(500, 600), "ambiguous", "RFC 9110 15.6: the server failed, before or after the work"),
)
"""Statuses that a route does not name itself; the first line that holds the status counts."""


def http_fault(status: int) -> Literal["not_processed", "ambiguous", "refused"]:
    """What a status means for the request that got it, where the platform says nothing of its own."""
    return next((fault.means for fault in HTTP_FAULTS if status in fault.statuses), "ambiguous")


# -- platform error texts may echo what we sent ----------------------------------------------------

_EMAIL = re.compile(r"[^\s@\"'<>(),;:=]+@[^\s@\"'<>(),;]+")
_TOKEN = re.compile(r"(?=[A-Za-z_+=-]*\d)(?=[\d_+=-]*[A-Za-z])[A-Za-z0-9_+=-]{16,}|\b[A-Za-z0-9_+=/-]{64,}")
_NUMBER = re.compile(r"\+?\(?\d[\d ().\u00a0-]{6,}\d")
_DAY = re.compile(r"\d{4}-\d\d-\d\d( \d\d)?")
_QUOTED = re.compile(r"(?P<q>[\"'`])(?P<text>[^\"'`]{1,500}?)(?P=q)")
_NAME = re.compile(r"[A-Za-z_]+([.\[\]]*[A-Za-z_]+|\[\d{1,4}\])*")


def scrub(text: str) -> str:
    """A platform's error text without what could be an e-mail, a phone, a token or a person's id; 300 characters."""
    text = "".join(c if c.isprintable() else " " for c in text[:4000])
    text = _EMAIL.sub("[email]", text)
    text = _QUOTED.sub(lambda m: m[0] if _NAME.fullmatch(m["text"]) else f"{m['q']}[value]{m['q']}", text)
    text = _TOKEN.sub("[id]", text)
    text = _NUMBER.sub(_number, text)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def _number(match: re.Match[str]) -> str:
    return match[0] if _DAY.fullmatch(match[0]) or sum(map(str.isdigit, match[0])) < 8 else "[number]"


# -- below: how it is done -------------------------------------------------------------------------


class _Again(Exception):  # a turn of the loop, not an error
    def __init__(self, reply: Reply, wait: float) -> None:
        super().__init__(wait)
        self.reply = reply
        self.wait = wait


class _Bucket:
    """A token bucket that hands out departure times, so that waiting threads keep their order."""

    def __init__(self, per_second: float) -> None:
        self._step = 1 / per_second
        self._slack = (max(1.0, min(BURST, per_second)) - 1) * self._step
        self._next = -1e9
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next departure; the seconds until it."""
        with self._lock:
            now = time.monotonic()
            departure = max(self._next, now - self._slack)
            self._next = departure + self._step
            return max(0.0, departure - now)


class _Budget:
    """Retries of a run: a tenth of its requests and ten more, so that an outage does not multiply the traffic."""

    def __init__(self) -> None:
        self._left = 10.0
        self._lock = threading.Lock()

    def earn(self) -> None:
        with self._lock:
            self._left += 0.1

    def spend(self) -> bool:
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class _Attempt(threading.local):
    """What this thread's connection needs to know, and tells, about the request it carries."""

    started: bool | None = None
    until = 0.0
    gate: Callable[[], None] | None = None

    def begin(self, seconds: float, gate: Callable[[], None]) -> None:
        self.started, self.until, self.gate = None, time.monotonic() + seconds, gate

    def left(self) -> float:
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the request has used up its time")
        return seconds


_attempt = _Attempt()


class _ClockedReader(io.RawIOBase):
    """A socket's reader that gives each read only what is left: an answer that drips cannot hold a request for ever."""

    def __init__(self, sock: Any, raw: Any) -> None:
        self._sock, self._raw = sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_attempt.left())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


@functools.cache
def _adapter_class() -> type[requests.adapters.HTTPAdapter]:
    """Adapter → pool → connection → response of requests and urllib3, each with our one addition."""
    import http.client

    import requests
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class ClockedResponse(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_ClockedReader(sock, self.fp.detach()))

    class Watched(HTTPConnection):
        response_class = ClockedResponse
        dialling = False

        def connect(self) -> None:
            if _attempt.started is None:
                _attempt.started = False
            self.dialling = True
            try:
                super().connect()
            finally:
                self.dialling = False

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            if not _attempt.started and not self.dialling:  # a CONNECT to a proxy is not our request yet
                _attempt.started = False
                if _attempt.gate is not None:
                    _attempt.gate()
                _attempt.left()
                _attempt.started = True
            self.sock.settimeout(_attempt.left())  # or a long upload would be cut by the time-out for connecting
            super().send(data)

    class WatchedTLS(Watched, HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Watched

    class PoolTLS(urllib3.HTTPSConnectionPool):
        ConnectionCls = WatchedTLS

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": PoolTLS}

        def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **kwargs)
            manager.pool_classes_by_scheme = {"http": Pool, "https": PoolTLS}
            return manager

    return Adapter


def _bounded(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Unclear("too_large")
        _attempt.left()
    return bytes(body)


def _proxies(url: str) -> dict[str, str]:
    """The environment's proxies, but never on the way to this machine."""
    from requests.utils import get_environ_proxies

    host = urlsplit(url).hostname or ""
    return {} if host == "localhost" or host == "::1" or host.startswith("127.") else get_environ_proxies(url)
