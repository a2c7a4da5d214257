"""The sandbox as a whole: one server, three platforms, one clock, one list of faults, one journal."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from convsync.sandbox.ads.api import OPERATIONS, Ads
from convsync.sandbox.clock import Clock, HasNow, adopt, iso
from convsync.sandbox.config import SandboxConfig, update
from convsync.sandbox.control import Control
from convsync.sandbox.faults import Fault, Faults
from convsync.sandbox.google import Google
from convsync.sandbox.server import Answer, Server
from convsync.sandbox.vk import Vk
from convsync.sandbox.web import Platform, Refusal, Request, Response, Route, decoded, reply
from convsync.sandbox.yandex import Yandex
from convsync.sandbox.yandex_direct import Direct

if TYPE_CHECKING:
    from convsync.sandbox.ads.server import AdsServer


class Sandbox:
    """`with Sandbox() as box:` serves Google, Yandex and VK at `box.url` until the block ends.

    `faults` orders trouble, `clock` moves time, `books()` tells what the platforms counted. `ads=True` also serves the
    Ads API by gRPC at `ads_endpoint`, over TLS with `ads_certificate`, which lies in `ads_folder` (None = a private one
    for this sandbox; a folder given is used again and left).
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        clock: HasNow | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        ads: bool = False,
        ads_port: int = 0,
        ads_folder: Path | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self.clock: Clock = adopt(clock)
        google = Google(self.config, self.clock)
        self.ads = Ads(self, google)
        self.platforms: dict[str, Platform] = {
            "google": google,
            "yandex": Yandex(self.config, self.clock),
            "direct": Direct(self.config, self.clock),
            "vk": Vk(self.config, self.clock),
        }
        self._lock = threading.Lock()
        self._routes = [route for p in self.platforms.values() for route in p.routes()]
        self.faults = Faults(self.config.seed, {*OPERATIONS, *(route.operation for route in self._routes)})
        self._journal: deque[dict[str, Any]] = deque(maxlen=self.config.journal_size)
        self._counts: dict[str, dict[str, int]] = {}
        self._unmatched = 0
        self._late: list[tuple[float, Callable[[], None]]] = []
        self._control = Control(self)
        self._host = host
        self._server: Server | None = Server(self, host, port)
        self.port = self._server.port
        self._ads_server: AdsServer | None = None
        if ads:
            self._serve_ads(ads_port, ads_folder)

    def _serve_ads(self, port: int, folder: Path | None) -> None:
        from convsync.sandbox.ads.server import AdsServer

        try:
            self._ads_server = AdsServer(self.ads, self._host, port, folder)
        except BaseException:
            self.close()
            raise

    @property
    def ads_endpoint(self) -> str:
        """The Ads API as `localhost:PORT`, the name in its certificate."""
        return f"localhost:{self._ads().port}"

    @property
    def ads_certificate(self) -> Path:
        """PEM; a client trusts it by GRPC_DEFAULT_SSL_ROOTS_FILE_PATH."""
        return self._ads().certificate

    def _ads(self) -> AdsServer:
        if self._ads_server is None:
            raise RuntimeError("the sandbox was not started with ads=True, or it is closed")
        return self._ads_server

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        server, self._server = self._server, None
        ads, self._ads_server = self._ads_server, None
        for one in (ads, server):
            if one:
                one.close()

    def reset(self) -> None:
        """Forget everything that was received; configuration and clock stay."""
        for platform in self.platforms.values():
            platform.reset()
        self.ads.reset()
        self.faults.clear(self.config.seed)
        with self._lock:
            self._journal.clear()
            self._counts.clear()
            self._late.clear()
            self._unmatched = 0

    def configure(self, settings: dict[str, Any]) -> None:
        update(self.config, settings)

    def books(self) -> dict[str, Any]:
        """Everything counted, as plain data; amounts are text without trailing zeros."""
        self.arrivals()
        platforms = {name: platform.books() for name, platform in self.platforms.items()}
        with self._lock:
            requests = {name: dict(counts) for name, counts in sorted(self._counts.items())}
            unmatched = self._unmatched
        return {
            "now": iso(self.clock.now()),
            "totals": {name: books["totals"] for name, books in platforms.items()},
            **platforms,
            "ads": self.ads.books(),
            "requests": requests,
            "unmatched_requests": unmatched,
            "faults": self.faults.listed(),
        }

    def requests(self) -> list[dict[str, Any]]:
        """The journal, oldest first: never bodies, tokens, queries."""
        with self._lock:
            return list(self._journal)

    # What the server asks for.

    def begin(self, request: Request) -> None:
        platform = self._platform(request)
        if platform:
            platform.begin(request)

    def end(self, request: Request) -> None:
        platform = self._platform(request)
        if platform:
            platform.end(request)

    def reset_while_reading(self, request: Request) -> bool:
        found = self._find(request)
        operation = found[0].operation if found else ""
        fault = self.faults.choose(operation, None, reading=True) if found else None
        if fault:
            request.fault = fault.kind
            self.note(operation, request, None, 0)
        return fault is not None

    def answer(self, request: Request) -> Answer:
        if request.path.startswith("/_sandbox"):
            return Answer(self._control.handle(request))
        self.arrivals()
        started = time.perf_counter()
        found = self._find(request)
        if not found:
            return Answer(self._unknown(request))
        route, names = found
        platform = self.platforms[route.operation.partition(".")[0]]
        platform.peek(route.operation, request)
        fault = self.faults.choose(route.operation, request.rows)
        if fault:
            self.postpone(fault, lambda: self._arrive(route, request, names))
        response = None if fault and not fault.applies_first() else _handled(route, request, names)
        answer = _faulty(fault, response, platform, self.url) if fault else Answer(response)
        request.fault = fault.kind if fault else None
        told = answer.response.status if answer.response and answer.way == "send" else None
        self.note(route.operation, request, told, time.perf_counter() - started)
        return answer

    def postpone(self, fault: Fault, apply: Callable[[], None]) -> None:
        """Apply a request later on the clock, if the fault says so."""
        seconds = fault.delay()
        if seconds is not None:
            with self._lock:
                self._late.append((self.clock.time() + seconds, apply))

    def arrivals(self) -> None:
        """Apply what was cut off and arrives late, in the order of arrival."""
        if not self._late:
            return
        now = self.clock.time()
        with self._lock:
            due = sorted((late for late in self._late if late[0] <= now), key=lambda late: late[0])
            self._late = [late for late in self._late if late[0] > now]
        for _, apply in due:
            apply()

    def _arrive(self, route: Route, request: Request, names: dict[str, str]) -> None:
        status = _handled(route, request, names).status
        self.note(route.operation, replace(request, fault="arrived late"), status, 0)

    def _platform(self, request: Request) -> Platform | None:
        found = self._find(request)
        return self.platforms[found[0].operation.partition(".")[0]] if found else None

    def _find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        for route in self._routes:
            if route.method == request.method and (match := route.pattern.match(request.path)):
                return route, decoded(match)
        return None

    def _unknown(self, request: Request) -> Response:
        wrong_method = any(route.pattern.match(request.path) for route in self._routes)
        status = 405 if wrong_method else 404
        with self._lock:
            self._unmatched += 1
        self.note("unknown", request, status, 0)
        return reply({"error": {"code": status, "message": "no such route here; the page is /_sandbox/"}}, status)

    def note(self, operation: str, request: Request, status: int | str | None, took: float) -> None:
        """Into the journal: `status` of HTTP or gRPC, None = there was no answer."""
        entry = {
            "at": iso(self.clock.now()),
            "operation": operation,
            "method": request.method,
            "path": request.path[:200],
            "rows": request.rows,
            "status": status,
            "fault": request.fault,
            "note": request.note,
            "ms": round(took * 1000, 1),
        }
        outcome = str(status) if status else f"no answer ({request.fault})"
        with self._lock:
            self._journal.append(entry)
            counts = self._counts.setdefault(operation, {})
            counts[outcome] = counts.get(outcome, 0) + 1


def _handled(route: Route, request: Request, names: dict[str, str]) -> Response:
    try:
        return route.handler(request, names)
    except Refusal as refusal:
        return refusal.response


_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_STATUS = {"status": 503, "html": 502, "redirect": 302, "garbage": 200, "empty": 200}


def _faulty(fault: Fault, response: Response | None, platform: Platform, url: str) -> Answer:
    """The way a broken answer travels."""
    if fault.kind in ("reset_before", "reset_after", "reset_late"):
        return Answer(None, "reset")
    if fault.kind in ("timeout_before", "timeout_after"):
        return Answer(None, "hang", 3600 if fault.seconds is None else fault.seconds)
    if fault.kind == "cut_body":
        return Answer(response or platform.error(503), "cut")
    if fault.kind == "slow":
        return Answer(response, "send", 1 if fault.seconds is None else fault.seconds)
    return Answer(_broken(fault, platform, url))


def _broken(fault: Fault, platform: Platform, url: str) -> Response:
    made = Response(fault.status or _STATUS[fault.kind])
    if fault.kind == "html":
        made.body, made.type = _HTML, "text/html"
    elif fault.kind == "garbage":
        made.body = b'{"requestId": "sand\xff\xfe'
    elif fault.kind == "redirect":
        made.headers["Location"] = f"{url}/moved"
    elif fault.kind == "status":
        made = platform.error(made.status)
    if fault.body is not None:
        made.body = (fault.body if isinstance(fault.body, str) else json.dumps(fault.body)).encode()
    made.headers.update({name: str(value) for name, value in fault.headers.items()})
    return made
