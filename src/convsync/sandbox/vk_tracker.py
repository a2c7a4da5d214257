"""The pixel's tracker: it always answers with an image, never explains, and counts what it can read."""

from __future__ import annotations

import base64
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from convsync.sandbox.clock import Clock
from convsync.sandbox.decimals import number, text
from convsync.sandbox.quota import Windows
from convsync.sandbox.vk_config import PixelGoal, VkConfig
from convsync.sandbox.vk_door import DAY, MOSCOW, Door, away
from convsync.sandbox.vk_goals import Goals
from convsync.sandbox.web import Request, Response

_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_EVENT = re.compile(r"RG:(?P<value>[^/]*)/(?P<goal>.+)")
_VID = re.compile(r"(?:^|;\s*)VID=([^;]+)")


@dataclass
class Sum:
    """Hits, those of them that were attributed, and the value of all."""

    hits: int = 0
    attributed: int = 0
    value: Decimal = Decimal(0)

    def add(self, value: Decimal, attributed: bool) -> None:
        self.hits += 1
        self.attributed += attributed
        self.value += value

    def shown(self) -> dict[str, Any]:
        return {"hits": self.hits, "attributed": self.attributed, "value": text(self.value)}


@dataclass
class GoalBook:
    all: Sum = field(default_factory=Sum)
    attributed_value: Decimal = Decimal(0)
    bad_values: int = 0
    by_click: dict[str, int] = field(default_factory=dict)
    by_userid: dict[str, int] = field(default_factory=dict)
    by_day: dict[str, Sum] = field(default_factory=dict)
    """Day of arrival, Moscow."""
    by_ad_plan: dict[str, Sum] = field(default_factory=dict)
    """Attributed hits whose click id tells the campaign."""

    def shown(self) -> dict[str, Any]:
        return {
            **self.all.shown(),
            "lost": self.all.hits - self.all.attributed,
            "attributed_value": text(self.attributed_value),
            "bad_values": self.bad_values,
            "by_click": self.by_click,
            "by_userid": self.by_userid,
            "by_day": {day: one.shown() for day, one in sorted(self.by_day.items())},
            "by_ad_plan": {plan: one.shown() for plan, one in sorted(self.by_ad_plan.items())},
        }


@dataclass(frozen=True, slots=True)
class Attributed:
    """A hit that counts: what the statistics of goals are made of."""

    at: float
    """Arrival."""
    clicked: float | None
    """Time of the click, where the sandbox was told it."""
    ad_plan: str | None
    pixel: str
    goal: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Click:
    at: float
    ad_plan: str | None


class Tracker:
    def __init__(self, door: Door, config: Callable[[], VkConfig], clock: Clock, goals: Goals) -> None:
        self._door = door
        self._config = config
        self._clock = clock
        self._goals = goals
        self._lock = threading.RLock()
        self._quota = Windows()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._pixels: dict[str, dict[str, GoalBook]] = {}
            self._attributed: list[Attributed] = []
            self._lost: dict[str, int] = {}
            self._persons: dict[str, dict[str, int]] = {}
            self._hits = 0
            self._quota.clear()

    def attributed(self) -> list[Attributed]:
        with self._lock:
            return list(self._attributed)

    def hit(self, request: Request, names: dict[str, str]) -> Response:
        c = self._config()
        if c.tracker_redirect is not None:
            return away(c.tracker_redirect, request)
        if not self._quota.take("tracker", c.tracker_per_second, 1, self._clock.time()):
            return Response(429, b"", "text/plain", self._door.retry())
        given = _VID.search(request.header("cookie"))
        person = given[1] if given else secrets.token_hex(8)
        with self._lock:
            self._hits += 1
            request.note = self._hit(request.query or request.body.decode("utf-8", "replace"), person)
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
        if pixel not in self._config().pixels:
            return "unknown_pixel"
        if event is None:
            return "no_event"
        goal = self._goals.of(pixel).get(event["goal"])
        if goal is None or goal.condition != "jse":
            return "unknown_goal"
        book = self._pixels.setdefault(pixel, {}).setdefault(event["goal"], GoalBook())
        value = self._value(book, goal, event["value"])
        click, user = fields.get("rb_clickid", ""), fields.get("userid", "")
        reason = self._unattributed(click, user)
        known = self._click(click) if not reason and self._counts(click) else None
        self._count(book, value, not reason, known)
        for key, by in ((click, book.by_click), (user, book.by_userid)):
            if key:
                by[key] = by.get(key, 0) + 1
        if not reason:
            clicked, plan = (known.at, known.ad_plan) if known else (None, None)
            self._attributed.append(Attributed(self._clock.time(), clicked, plan, pixel, event["goal"], value))
        return reason

    def _value(self, book: GoalBook, goal: PixelGoal, given: str) -> Decimal:
        if not given:
            return Decimal(goal.value)  # DOC, second-hand: an empty value means the goal's default
        value = number(given) if re.fullmatch(r"-?\d+(\.\d+)?", given) else None
        whole = value is not None and value >= 0 and "." not in given
        if value is None or not (whole or self._config().decimal_values):
            book.bad_values += 1
            return Decimal(0)
        return value

    def _count(self, book: GoalBook, value: Decimal, attributed: bool, click: Click | None) -> None:
        """Every repeat counts again: there is no id to recognise it by. The time is that of the arrival."""
        day = self._door.today().isoformat()
        sums = [book.all, book.by_day.setdefault(day, Sum())]
        if click and click.ad_plan:
            sums.append(book.by_ad_plan.setdefault(click.ad_plan, Sum()))
        for one in sums:
            one.add(value, attributed)
        if attributed:
            book.attributed_value += value

    def _unattributed(self, click: str, user: str) -> str:
        if not click and not user:
            return "no_identifier"
        if "{" in click + user:
            return "macro_not_expanded"
        if click and self._counts(click):
            return ""
        if user and self._seen(user):
            return ""
        return "unknown_click" if click else "unknown_userid"

    def _counts(self, click: str) -> bool:
        if self._config().known_clicks is None:
            return not click.startswith("lost-")
        known = self._click(click)
        return known is not None and self._lately(known.at)

    def _seen(self, user: str) -> bool:
        known = self._config().known_users
        if known is None:
            return not user.startswith("lost-")
        return user in known and (not isinstance(known, dict) or self._lately(_instant(known[user])))

    def _lately(self, at: float) -> bool:
        return 0 <= self._clock.time() - at <= self._config().attribution_days * DAY

    def _click(self, name: str) -> Click | None:
        told = (self._config().known_clicks or {}).get(name)
        if told is None:
            return None
        said = told if isinstance(told, dict) else {"time": told}
        plan = said.get("ad_plan_id")
        return Click(_instant(said["time"]), None if plan is None else str(plan))

    def books(self) -> dict[str, Any]:
        with self._lock:
            pixels = {
                pixel: {goal: book.shown() for goal, book in sorted(goals.items())}
                for pixel, goals in sorted(self._pixels.items())
            }
            books = [book for goals in self._pixels.values() for book in goals.values()]
            attributed = sum(book.all.attributed for book in books)
            totals = {
                "hits": self._hits,
                "attributed": attributed,
                "lost": self._hits - attributed,
                "value": text(sum((book.all.value for book in books), Decimal(0))),
                "persons": len(self._persons),
            }
            glued = sum(len(clicks) > 1 for clicks in self._persons.values())
            return {
                "totals": totals,
                "pixels": pixels,
                "lost": dict(sorted(self._lost.items())),
                "glued_persons": glued,
            }


def moscow_day(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, UTC).astimezone(MOSCOW).date()


def _instant(text: str) -> float:
    """ValueError: no ISO time with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return moment.timestamp()


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
