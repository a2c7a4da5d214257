"""VK: the pixel's tracker (always content, never explains) and the OAuth API around it."""

from __future__ import annotations

import base64
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from convsync.sandbox.clock import Clock
from convsync.sandbox.config import PixelGoal, SandboxConfig, VkConfig
from convsync.sandbox.decimals import number, text
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Handler, Refusal, Request, Response, Route, reply, route

_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_EVENT = re.compile(r"RG:(?P<value>[^/]*)/(?P<goal>.+)")
_VID = re.compile(r"(?:^|;\s*)VID=([^;]+)")
_DAY = 86400
_MOSCOW = 3 * 3600


@dataclass
class GoalBook:
    hits: int = 0
    attributed: int = 0
    value: Decimal = Decimal(0)
    attributed_value: Decimal = Decimal(0)
    bad_values: int = 0
    by_click: dict[str, int] = field(default_factory=dict)
    by_userid: dict[str, int] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        return {
            "hits": self.hits,
            "attributed": self.attributed,
            "lost": self.hits - self.attributed,
            "value": text(self.value),
            "attributed_value": text(self.attributed_value),
            "bad_values": self.bad_values,
            "by_click": self.by_click,
            "by_userid": self.by_userid,
        }


@dataclass
class Pair:
    """A token: access value, refresh value, and whose it is."""

    access: str
    refresh: str
    user: str
    until: float
    used: float


class Vk:
    name = "vk"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.RLock()
        self._quota = Windows()
        self.reset()

    @property
    def _config(self) -> VkConfig:
        return self._world.vk

    def reset(self) -> None:
        with self._lock:
            self._pixels: dict[str, dict[str, GoalBook]] = {}
            self._lost: dict[str, int] = {}
            self._persons: dict[str, dict[str, int]] = {}
            self._pairs: list[Pair] = []
            self._hits = 0
            self._quota.clear()

    def routes(self) -> list[Route]:
        return [
            *route("vk.tracker", "GET POST", "/tracker", self._tracker),
            *route("vk.token", "POST", "/api/v2/oauth2/token.json", self._limited(self._token)),
            *route("vk.token_delete", "POST", "/api/v2/oauth2/token/delete.json", self._limited(self._delete)),
            *route("vk.counters", "GET", "/api/v2/remarketing/counters.json", self._limited(self._counters)),
            *route("vk.goals", "GET", "/api/v2/goals.json", self._limited(self._goals)),
        ]

    def peek(self, operation: str, request: Request) -> None:
        if operation == "vk.tracker":
            request.rows = 1

    def begin(self, request: Request) -> None:
        pass

    def end(self, request: Request) -> None:
        pass

    def error(self, status: int) -> Response:
        return reply({"error": {"code": "INTERNAL", "message": "The sandbox was asked to fail."}}, status)

    # The tracker.

    def _tracker(self, request: Request, names: dict[str, str]) -> Response:
        limit = self._config.tracker_per_second
        if not self._quota.take("tracker", limit, 1, self._clock.time()):
            return Response(429, b"", "text/plain", self._retry())
        given = _VID.search(request.header("cookie"))
        person = given[1] if given else secrets.token_hex(8)
        query = request.query or request.body.decode("utf-8", "replace")
        with self._lock:
            self._hits += 1
            request.note = self._hit(query, person)
        headers = {"Cache-Control": "no-store"}
        if not given:
            headers["Set-Cookie"] = f"VID={person}; Path=/; Max-Age=63072000"
        return Response(200, _GIF, "image/gif", headers)

    def _hit(self, query: str, person: str) -> str:
        """Book one request; what became of it, in a word. The answer never tells."""
        fields, ampersand = _fields(query)
        who = self._persons.setdefault(person, {})
        name = fields.get("rb_clickid") or fields.get("userid") or ""
        who[name] = who.get(name, 0) + 1
        reason = self._booked(fields)
        if not reason:
            return "attributed"
        reason = "ampersand" if ampersand else reason
        self._lost[reason] = self._lost.get(reason, 0) + 1
        return reason

    def _booked(self, fields: dict[str, str]) -> str:
        """Nothing, or the reason why the hit is worth nothing."""
        pixel, event = fields.get("id", ""), _EVENT.fullmatch(fields.get("e", ""))
        if pixel not in self._config.pixels:
            return "unknown_pixel"
        if event is None:
            return "no_event"
        goal = self._config.pixels[pixel].goals.get(event["goal"])
        if goal is None or goal.condition != "jse":
            return "unknown_goal"
        book = self._pixels.setdefault(pixel, {}).setdefault(event["goal"], GoalBook())
        value = self._value(book, goal, event["value"])
        return self._count(book, value, fields.get("rb_clickid", ""), fields.get("userid", ""))

    def _value(self, book: GoalBook, goal: PixelGoal, given: str) -> Decimal:
        if not given:
            return Decimal(goal.value)  # DOC, second-hand: an empty value means the goal's default
        value = number(given) if re.fullmatch(r"-?\d+(\.\d+)?", given) else None
        whole = value is not None and value >= 0 and "." not in given
        if value is None or not (whole or self._config.decimal_values):
            book.bad_values += 1
            return Decimal(0)
        return value

    def _count(self, book: GoalBook, value: Decimal, click: str, user: str) -> str:
        """Every repeat counts again: there is no id to recognise it by."""
        book.hits += 1
        book.value += value
        for key, by in ((click, book.by_click), (user, book.by_userid)):
            if key:
                by[key] = by.get(key, 0) + 1
        reason = self._unattributed(click, user)
        if not reason:
            book.attributed += 1
            book.attributed_value += value
        return reason

    def _unattributed(self, click: str, user: str) -> str:
        if not click and not user:
            return "no_identifier"
        if "{" in click + user:
            return "macro_not_expanded"
        if click and self._click_is_known(click):
            return ""
        known = self._config.known_users
        seen = user and (user in known if known is not None else not user.startswith("lost-"))
        return "" if seen else "unknown_click" if click else "unknown_userid"

    def _click_is_known(self, click: str) -> bool:
        known = self._config.known_clicks
        if known is None:
            return not click.startswith("lost-")
        if click not in known:
            return False
        age = self._clock.time() - datetime.fromisoformat(known[click]).timestamp()
        return 0 <= age <= self._config.attribution_days * _DAY

    # The API.

    def _limited(self, handler: Handler) -> Handler:
        """DOC: X-RateLimit headers on every answer; calendar seconds, hours, days (Moscow)."""

        def wrapped(request: Request, names: dict[str, str]) -> Response:
            headers = self._rates(request.path)
            over = any(value == "-1" for value in headers.values())
            if over:
                shown = {name: "0" if value == "-1" else value for name, value in headers.items()}
                error = {"code": "too_many_requests", "message": "Too many requests"}
                return reply({"error": error}, 429, {**shown, **self._retry()})
            try:
                made = handler(request, names)
            except Refusal as refusal:
                made = refusal.response
            made.headers.update(headers)
            return made

        return wrapped

    def _rates(self, path: str) -> dict[str, str]:
        c, now = self._config, self._clock.time()
        headers: dict[str, str] = {}
        for name, limit, seconds in (
            ("RPS", c.api_per_second, 1),
            ("Hourly", c.api_per_hour, 3600),
            ("Daily", c.api_per_day, _DAY),
        ):
            shown = limit if limit is not None else 1_000_000
            taken = self._quota.take(f"{name} {path}", shown, seconds, now, -_MOSCOW)
            left = self._quota.left(f"{name} {path}", shown, seconds, now, -_MOSCOW)
            headers[f"X-RateLimit-{name}-Limit"] = str(shown)
            headers[f"X-RateLimit-{name}-Remaining"] = str(left) if taken else "-1"
        return headers

    def _retry(self) -> dict[str, str]:
        after = self._config.retry_after
        return {} if after is None else {"Retry-After": str(after)}

    def _token(self, request: Request, names: dict[str, str]) -> Response:
        form = request.form()
        c = self._config
        if (form.get("client_id"), form.get("client_secret")) != (c.client_id, c.client_secret):
            return self._oauth(401, "invalid_client", "Client authentication failed")
        grant = form.get("grant_type")
        with self._lock:
            if grant == "client_credentials":
                return self._granted(self._new("owner"))
            if grant == "agency_client_credentials":
                user = form.get("agency_client_name") or form.get("agency_client_id")
                if not user:
                    return self._oauth(400, "invalid_request", "agency_client_name is required")
                return self._granted(self._new(user))
            if grant == "refresh_token":
                return self._granted(self._refreshed(form.get("refresh_token", "")))
        return self._oauth(400, "unsupported_grant_type", "Unsupported grant type")

    def _new(self, user: str) -> Pair:
        """DOC: at most 5 tokens per client and user, whatever their status; idle for a month = deleted."""
        now = self._clock.time()
        idle = self._config.token_idle_days * _DAY
        self._pairs = [pair for pair in self._pairs if now - pair.used < idle]
        if sum(pair.user == user for pair in self._pairs) >= self._config.max_tokens:
            said = "Active access token limit reached. Delete tokens that are not used."
            raise Refusal(self._oauth(403, "token_limit_exceeded", said))
        pair = Pair(secrets.token_hex(20), secrets.token_hex(20), user, now + self._config.token_life_s, now)
        self._pairs.append(pair)
        return pair

    def _refreshed(self, refresh: str) -> Pair:
        """DOC: no new token; the old access value dies at once."""
        pair = next((pair for pair in self._pairs if pair.refresh == refresh), None)
        if pair is None:
            raise Refusal(self._oauth(401, "invalid_token", "Unknown refresh token"))
        pair.access, pair.used = secrets.token_hex(20), self._clock.time()
        pair.until = pair.used + self._config.token_life_s
        if self._config.rotate_refresh_token:
            pair.refresh = secrets.token_hex(20)
        return pair

    def _granted(self, pair: Pair) -> Response:
        scopes = ["read_ads", "create_ads", "read_payments"]
        life = self._config.token_life_s
        return reply(
            {
                "access_token": pair.access,
                "token_type": "bearer",
                "scope": scopes if self._config.scope_as_list else " ".join(scopes),
                "expires_in": str(life) if self._config.expires_in_as_text else life,
                "refresh_token": pair.refresh,
            }
        )

    def _delete(self, request: Request, names: dict[str, str]) -> Response:
        form = request.form()
        c = self._config
        if (form.get("client_id"), form.get("client_secret")) != (c.client_id, c.client_secret):
            return self._oauth(401, "invalid_client", "Client authentication failed")
        user = form.get("username") or form.get("user_id") or "owner"
        with self._lock:
            self._pairs = [pair for pair in self._pairs if pair.user != user]
        return Response(204)

    def _oauth(self, status: int, error: str, description: str) -> Response:
        shape = self._config.token_error_shape
        if shape == "vk":
            return reply({"error": {"code": error, "message": description}}, status)
        if shape == "flat":
            return reply({"code": error, "message": description}, status)
        return reply({"error": error, "error_description": description}, status)

    def _authorise(self, request: Request) -> None:
        scheme, _, access = request.header("authorization").partition(" ")
        with self._lock:
            pair = next((pair for pair in self._pairs if pair.access == access.strip()), None)
            if scheme.lower() != "bearer" or pair is None:
                raise Refusal(_unauthorised("invalid_token", "Unknown access token"))
            if self._clock.time() >= pair.until:
                raise Refusal(_unauthorised("expired_token", "Access token is expired"))
            pair.used = self._clock.time()

    def _counters(self, request: Request, names: dict[str, str]) -> Response:
        self._authorise(request)
        pixels = enumerate(self._config.pixels.items(), 501)
        items = [{"id": i, "counter_id": int(p), "name": pixel.name, "status": "active"} for i, (p, pixel) in pixels]
        return self._page(request, items)

    def _goals(self, request: Request, names: dict[str, str]) -> Response:
        self._authorise(request)
        items = [
            {
                "counter_id": int(pixel),
                "goal": substr,
                "substr": substr,
                "name": goal.name,
                "condition": goal.condition,
                "goal_type": goal.goal_type,
                "value": goal.value,
            }
            for pixel, found in self._config.pixels.items()
            for substr, goal in found.goals.items()
        ]
        return self._page(request, [{"id": i, **item} for i, item in enumerate(items, 9001)])

    def _page(self, request: Request, items: list[dict[str, Any]]) -> Response:
        """DOC and CODE: default 20, clamped to 50 whatever is asked; `count` tells the whole."""
        asked = request.params()
        limit = int(asked["limit"]) if asked.get("limit", "").isdigit() else 20
        offset = int(asked["offset"]) if asked.get("offset", "").isdigit() else 0
        limit = min(limit, self._config.max_page)
        page = items[offset : offset + limit]
        return reply({"count": len(items), "offset": offset, "limit": limit, "items": page})

    # The books.

    def books(self) -> dict[str, Any]:
        with self._lock:
            pixels = {
                pixel: {goal: book.shown() for goal, book in sorted(goals.items())}
                for pixel, goals in sorted(self._pixels.items())
            }
            books = [book for goals in self._pixels.values() for book in goals.values()]
            attributed = sum(book.attributed for book in books)
            totals = {
                "hits": self._hits,
                "attributed": attributed,
                "lost": self._hits - attributed,
                "value": text(sum((book.value for book in books), Decimal(0))),
                "persons": len(self._persons),
            }
            glued = sum(len(clicks) > 1 for clicks in self._persons.values())
            lost, tokens = dict(sorted(self._lost.items())), len(self._pairs)
        return {"totals": totals, "pixels": pixels, "lost": lost, "glued_persons": glued, "tokens": tokens}


def _fields(query: str) -> tuple[dict[str, str], bool]:
    """The parameters of the tracker: `;` separates; what follows an `&` is lost."""
    fields: dict[str, str] = {}
    ampersand = False
    for piece in query.split(";"):
        name, _, value = piece.partition("=")
        value, lost, _ = value.partition("&")
        ampersand = ampersand or bool(lost)
        if name:
            fields.setdefault(unquote(name), unquote(value))
    return fields, ampersand


def _unauthorised(code: str, message: str) -> Response:
    headers = {"WWW-Authenticate": f'Bearer realm="api", error="{code}", error_description="{message}"'}
    return reply({"code": code, "message": message}, 401, headers)
