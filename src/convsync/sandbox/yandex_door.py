"""Who may ask Metrica, how often, and how it says no."""

from __future__ import annotations

import threading

from convsync.sandbox.clock import Clock
from convsync.sandbox.config import SandboxConfig
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Refusal, Request, Response, reply
from convsync.sandbox.yandex_config import Counter, YandexConfig

DAY = 86400

# DOC M/intro/authorization: metrika:write uploads everything, so it stands in for metrika:offline_data.
READ = ("metrika:read",)
WRITE = ("metrika:write",)
UPLOAD = ("metrika:offline_data", *WRITE)

TYPES = {
    400: "invalid_parameter",
    401: "unauthorized",
    403: "access_denied",
    404: "not_found",
    409: "conflict",
    420: "quota_requests_by_ip",
    429: "quota_requests_by_ip",
    503: "backend_error",
    504: "timeout",
}


class Door:
    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.Lock()
        self._quota = Windows()
        self._busy: dict[str, int] = {}
        self._refused = 0

    @property
    def config(self) -> YandexConfig:
        return self._world.yandex

    def reset(self) -> None:
        with self._lock:
            self._quota.clear()
            self._refused = 0

    def begin(self, request: Request) -> None:
        with self._lock:
            token = request.header("authorization")
            self._busy[token] = self._busy.get(token, 0) + 1

    def end(self, request: Request) -> None:
        with self._lock:
            self._busy[request.header("authorization")] -= 1

    def admit(self, request: Request, counter: str, rights: tuple[str, ...], kind: str) -> Counter:
        """The counter, if one of `rights` is there and no quota is used up; `kind` is what quotas are counted by.

        Raises Refusal: quota, token, counter, right, in this order.
        """
        self._limit_rate(request, kind)
        token = self._token(request)
        for name, subject in (("uid", token), ("counter_id", counter)):
            day = f"{kind} {name} {subject}"
            if not self._quota.take(day, self.config.requests_per_day, DAY, self._clock.time()):
                raise Refusal(self._over(f"quota_requests_by_{name}"))
        found = self.config.counters.get(counter)
        if found is None:
            raise Refusal(failure(404, "not_found", f"Counter {counter} not found", "counterId"))
        if found.foreign or not set(rights) & set(self.config.tokens[token]):
            raise Refusal(failure(403, "access_denied", f"Access is denied: {' or '.join(rights)}"))
        if kind == "client_write" and found.permission not in ("own", "edit"):
            raise Refusal(failure(403, "access_denied", "Access is denied: the counter may only be viewed"))
        return found

    def _limit_rate(self, request: Request, kind: str) -> None:
        """DOC M/intro/quotas: 30 requests/s per IP, 3 in parallel per user."""
        limit = self.config.requests_per_second
        if not self._quota.take(f"{kind} ip {request.peer}", limit, 1, self._clock.time()):
            raise Refusal(self._over("quota_requests_by_ip"))
        with self._lock:
            busy = self._busy.get(request.header("authorization"), 0)
        if self.config.parallel_requests is not None and busy > self.config.parallel_requests:
            raise Refusal(self._over("quota_parallel_requests"))

    def _over(self, error_type: str) -> Response:
        made = failure(self.config.quota_status, error_type, f"Quota exceeded: {error_type}")
        with self._lock:
            told = self._refused % self.config.retry_after_every == 0
            self._refused += 1
        if self.config.retry_after is not None and told:
            made.headers["Retry-After"] = str(self.config.retry_after)
        return made

    def _token(self, request: Request) -> str:
        scheme, _, token = request.header("authorization").partition(" ")
        schemes = ("oauth", "bearer") if self.config.bearer_accepted else ("oauth",)
        if scheme.lower() in schemes and token.strip() in self.config.tokens:
            return token.strip()
        if self.config.bad_token_status == 401:
            raise Refusal(failure(401, "unauthorized", "Unauthorized"))
        raise Refusal(failure(self.config.bad_token_status, "invalid_token", "Invalid oauth_token"))


def failure(
    status: int, error_type: str, message: str, location: str = "", messages: list[str] | None = None
) -> Response:
    """DOC M/intro/errors."""
    place = {"location": location} if location else {}
    told = messages[:20] if messages else [message]
    errors = [{"error_type": error_type, "message": one, **place} for one in told]
    return reply({"errors": errors, "code": status, "message": message}, status)


def refused(word: str, message: str, location: str = "") -> Refusal:
    """A 400, to be raised."""
    return Refusal(failure(400, word, message, location))


def whole(asked: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    """A whole number of the query; raises Refusal."""
    given = asked.get(name, str(usual))
    if not (given.isascii() and given.isdigit()) or not least <= int(given) <= most:
        raise refused("invalid_parameter", f"{name} must be between {least} and {most}", name)
    return int(given)
