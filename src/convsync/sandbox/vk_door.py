"""What every resource of VK's API shares: limits, the bearer token, the shapes of a page and of an error."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from convsync.sandbox.clock import Clock
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Handler, Refusal, Request, Response, Route, reply

if TYPE_CHECKING:
    from convsync.sandbox.vk_config import VkConfig

MOSCOW = timezone(timedelta(hours=3), "Europe/Moscow")
DAY = 86400
_PLENTY = 1_000_000
_CODES = {
    400: ("validation_failed", "Validation failed"),
    403: ("access_denied", "Access denied"),
    404: ("not_found", "Resource not found"),
    405: ("method_not_allowed", "Method not allowed"),
    413: ("request_entity_too_large", "Request entity too large"),
    429: ("too_many_requests", "Too many requests"),
}
_ACTIONS = {"GET": "READ", "POST": "CREATE", "DELETE": "DELETE"}


class Door:
    """`whose` tells the user of a request's living token and raises Refusal (401); `peeked` does so without a trace."""

    def __init__(
        self,
        config: Callable[[], VkConfig],
        clock: Clock,
        whose: Callable[[Request], str],
        peeked: Callable[[Request], str],
    ) -> None:
        self._config = config
        self._clock = clock
        self._whose = whose
        self._peeked = peeked
        self._lock = threading.Lock()
        self._quota = Windows()
        self._methods: set[tuple[str, str]] = set()

    def reset(self) -> None:
        self._quota.clear()

    def guarded(self, handler: Handler) -> Handler:
        """A resource: limits, then the token, then `handler`, whose Refusal becomes its answer."""

        def checked(request: Request, names: dict[str, str]) -> Response:
            self._whose(request)
            return handler(request, names)

        return self.limited(checked)

    def limited(self, handler: Handler) -> Handler:
        """DOC: X-RateLimit headers on every answer. The same without a token, for the token endpoint."""

        def wrapped(request: Request, names: dict[str, str]) -> Response:
            moved = self._config().api_redirect
            if moved is not None:
                return away(moved, request)
            fits, headers = self._rates(request)
            if not fits:
                made = self.error(429)
                made.headers.update(self.retry())
            else:
                made = self._answer(handler, request, names)
            made.headers.update(headers)
            return self._packed(request, made)

        return wrapped

    def _answer(self, handler: Handler, request: Request, names: dict[str, str]) -> Response:
        most = self._config().max_body
        if most is not None and len(request.body) > most:
            return self.error(413)
        try:
            made = handler(request, names)
        except Refusal as refusal:
            made = refusal.response
        if made.status != 405:
            with self._lock:
                self._methods.add(_method(request))
        return made

    def wrong_method(self, request: Request, names: dict[str, str]) -> Response:
        return self.error(405)

    def user(self, request: Request) -> str:
        """Whose token it is: `owner` or an agency's client."""
        return self._peeked(request)

    def now(self) -> datetime:
        """In Moscow (DOC: all times of the API)."""
        return self._clock.now().astimezone(MOSCOW)

    def today(self) -> date:
        return self.now().date()

    def page(self, request: Request, items: Sequence[Any]) -> Response:
        """DOC and CODE: default 20, clamped to 50 whatever is asked; `count` tells the whole."""
        limit, offset = span(request, 20)
        limit = min(limit, self._config().max_page)
        return reply({"count": len(items), "offset": offset, "limit": limit, "items": items[offset : offset + limit]})

    def fail(self, status: int, code: str, message: str, fields: Any = None, **more: Any) -> Response:
        """`{"error": {"code", "message"}}`, with `fields` of a validation and whatever else there is."""
        told = {} if fields is None else {"fields": fields}
        return reply({"error": {"code": code, "message": message, **told, **more}}, status)

    def error(self, status: int) -> Response:
        """The usual answer of a status."""
        if status == 401:
            return unauthorised("invalid_token", "Unknown access token")
        return self.fail(status, *_CODES.get(status, ("INTERNAL", "The sandbox was asked to fail.")))

    def retry(self) -> dict[str, str]:
        after = self._config().retry_after
        return {} if after is None else {"Retry-After": str(after)}

    # Limits: per method and path, in calendar seconds, hours and days of Moscow.

    def know(self, routes: Iterable[Route]) -> None:
        """Methods that throttling.json shows before anybody used them."""
        for one in routes:
            path = re.sub(r"\(\?P<(?:id|counter|goal)>[^)]+\)", "<id>", one.pattern.pattern.strip("^$"))
            if "(" not in path:
                self._methods.add((one.method, path.replace("\\", "")))

    def throttling(self) -> dict[str, Any]:
        """`{resource: {"v2": {"READ": {"limits": {"1": 9, …}, "remaining": {"1": 8, …}}}}}` by seconds. DOC"""
        shown: dict[str, Any] = {}
        now = self._clock.time()
        with self._lock:
            methods = sorted(self._methods)
        for method, path in methods:
            version, _, rest = path.removeprefix("/api/").partition("/")
            words = re.findall(r"[a-z0-9]+", re.sub(r"s/<id>\.json$|<id>|\.json$", "", rest))
            windows = {str(seconds): (name, limit) for name, limit, seconds in self._windows()}
            shown.setdefault("".join(map(str.capitalize, words)), {}).setdefault(version, {})[_ACTIONS[method]] = {
                "limits": {seconds: limit for seconds, (_, limit) in windows.items()},
                "remaining": {
                    seconds: self._left(f"{name} {method} {path}", limit, int(seconds), now)
                    for seconds, (name, limit) in windows.items()
                },
            }
        return shown

    def _windows(self) -> list[tuple[str, int, int]]:
        c = self._config()
        minutely = [] if c.api_per_minute is None else [("Minutely", c.api_per_minute, 60)]
        return [
            ("RPS", _shown(c.api_per_second), 1),
            *minutely,
            ("Hourly", _shown(c.api_per_hour), 3600),
            ("Daily", _shown(c.api_per_day), DAY),
        ]

    def _rates(self, request: Request) -> tuple[bool, dict[str, str]]:
        """Whether the request fits into every window, in which it is counted then, and the headers."""
        method, now = " ".join(_method(request)), self._clock.time()
        windows = [(name, f"{name} {method}", limit, s) for name, limit, s in self._windows()]
        with self._lock:
            fits = all(self._left(key, limit, s, now) > 0 for _, key, limit, s in windows)
            headers: dict[str, str] = {}
            for name, key, limit, s in windows:
                if fits:
                    self._quota.take(key, limit, s, now, -3 * 3600)
                headers[f"X-RateLimit-{name}-Limit"] = str(limit)
                headers[f"X-RateLimit-{name}-Remaining"] = str(self._left(key, limit, s, now))
        return fits, headers

    def _left(self, key: str, limit: int, seconds: int, now: float) -> int:
        return max(0, self._quota.left(key, limit, seconds, now, -3 * 3600))

    def _packed(self, request: Request, made: Response) -> Response:
        if self._config().gzip and made.body and "gzip" in request.header("accept-encoding"):
            made.body = gzip.compress(made.body, mtime=0)
            made.headers["Content-Encoding"] = "gzip"
        return made


def unauthorised(code: str, message: str) -> Response:
    """DOC: the body of a 401 is flat."""
    headers = {"WWW-Authenticate": f'Bearer realm="api", error="{code}", error_description="{message}"'}
    return reply({"code": code, "message": message}, 401, headers)


def away(host: str, request: Request) -> Response:
    """302 to the same address on another host."""
    query = f"?{request.query}" if request.query else ""
    return Response(302, b"", "text/html", {"Location": f"{host}{request.path}{query}"})


def span(request: Request, usual: int) -> tuple[int, int]:
    """`limit` and `offset` of the query; what is no number counts as not said."""
    asked = request.params()
    given = {name: asked.get(name, "") for name in ("limit", "offset")}
    numbers = {name: int(one) for name, one in given.items() if one.isascii() and one.isdigit()}
    return numbers.get("limit", usual), numbers.get("offset", 0)


def _method(request: Request) -> tuple[str, str]:
    """What limits are counted by: the verb, and the path without its ids."""
    return request.method, re.sub(r"/\d+(?=[/.])", "/<id>", request.path)


def _shown(limit: int | None) -> int:
    return _PLENTY if limit is None else limit
