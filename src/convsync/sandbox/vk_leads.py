"""VK's lead forms: the leads people left, page by page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from convsync.sandbox.clock import Clock
from convsync.sandbox.vk_door import MOSCOW, Door
from convsync.sandbox.web import Refusal, Request, Response, Route, route

_PLAIN = "%Y-%m-%d %H:%M:%S"
_OBJECTS = {
    "_form_ids__in": "form_id",
    "_ad_plan_ids__in": "ad_plan_id",
    "_ad_group_ids__in": "ad_group_id",
    "_banner_ids__in": "banner_id",
}
_SINCE, _UNTIL = "_created_at__gte", "_created_at__lte"
_KNOWN = {*_OBJECTS, _SINCE, _UNTIL, "sorting", "limit", "offset"}


@dataclass
class Lead:
    """One person who filled in a form. ValueError: `created` or `arrives` is no ISO time with a zone."""

    id: int = 0
    form_id: int = 0
    form_name: str = ""
    ad_plan_id: int | None = None
    """The campaign."""
    ad_group_id: int | None = None
    banner_id: int | None = None
    created: str = ""
    first_name: str = ""
    last_name: str = ""
    phone: str = ""
    email: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """{"question_text", "answer_options", "answer_text"}"""
    arrives: str = ""
    """When it can be read; empty = from `created` on."""
    user: str = ""
    """Whose it is: `owner` or an agency's client; empty = of whoever asks."""

    def __post_init__(self) -> None:
        for text in (self.created, self.arrives or self.created):
            if datetime.fromisoformat(text).tzinfo is None:
                raise ValueError(f"lead {self.id}: {text!r} has no zone")

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.created)

    @property
    def visible(self) -> datetime:
        return datetime.fromisoformat(self.arrives or self.created)


@dataclass
class LeadsConfig:
    leads: list[Lead] = field(default_factory=list, metadata={"item": Lead, "depth": 1})
    closed: bool = False
    """True: 404, the resource is not open to this client (CODE: one owner saw that)."""
    denied: bool = False
    """True: 403 access_denied."""
    filter_zone: str = "utc"
    """The zone of `_created_at__gte` and `__lte`: utc | moscow. UNSURE."""
    created_zone: str = "utc"
    """The zone of a plain `created_at`: utc | moscow. UNSURE."""
    created_format: str = "plain"
    """plain `2026-07-29 01:00:00` | go `2023-01-31 09:25:41.26 +0000 UTC`. UNSURE."""
    numbers: bool = False
    """True: id and form_id are JSON numbers instead of text."""
    sorting: str = "-id"
    """When none is asked for. UNSURE."""
    arrives_while_reading: int | None = None
    """Index in `leads`: that one arrives when a first page (offset 0) has been answered."""


class Leads:
    def __init__(self, door: Door, config: Callable[[], LeadsConfig], clock: Clock) -> None:
        self._door = door
        self._settings = config
        self._clock = clock
        self._lock = threading.RLock()
        self.reset()

    @property
    def _config(self) -> LeadsConfig:
        return self._settings()

    def reset(self) -> None:
        with self._lock:
            self._pages = 0
            self._late: set[int] = set()
            """Indices of leads that arrived while somebody was reading."""

    def routes(self) -> list[Route]:
        return route("vk.leads", "GET", "/api/v1/lead_ads/leads.json", self._door.guarded(self._listed))

    def _listed(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: 20 a page, at most 50; `count` tells the whole."""
        self._allow()
        asked = request.params()
        request.note = ", ".join(f"unknown parameter {name[:40]}" for name in asked if name not in _KNOWN)
        with self._lock:
            mine = [lead for lead in self._there() if lead.user in ("", self._door.user(request))]
            found = self._sorted(self._chosen(mine, asked), asked.get("sorting") or self._config.sorting)
            made = self._door.page(request, [self._shown(lead) for lead in found])
            self._pages += 1
            late = self._config.arrives_while_reading
            if late is not None and asked.get("offset", "0") in ("", "0"):
                self._late.add(late)
        return made

    def _allow(self) -> None:
        if self._config.closed:
            raise Refusal(self._door.fail(404, "not_found", "Resource not found"))
        if self._config.denied:
            raise Refusal(self._door.fail(403, "access_denied", "Access denied"))

    def _there(self) -> list[Lead]:
        """Those that have arrived."""
        c, now = self._config, self._clock.now()
        hidden = c.arrives_while_reading if c.arrives_while_reading not in self._late else None
        return [lead for index, lead in enumerate(c.leads) if index != hidden and lead.visible <= now]

    def _chosen(self, found: list[Lead], asked: dict[str, str]) -> list[Lead]:
        """What all the filters let pass; both ends of the time belong to it."""
        for name, attribute in _OBJECTS.items():
            if name in asked:
                ids = _ids(asked[name])
                if ids is None:
                    raise self._invalid(name)
                found = [lead for lead in found if getattr(lead, attribute) in ids]
        if _SINCE in asked:
            since = self._moment(_SINCE, asked[_SINCE])
            found = [lead for lead in found if lead.moment >= since]
        if _UNTIL in asked:
            until = self._moment(_UNTIL, asked[_UNTIL])
            found = [lead for lead in found if lead.moment <= until]
        return found

    def _moment(self, name: str, given: str) -> datetime:
        try:
            return datetime.strptime(given, _PLAIN).replace(tzinfo=_zone(self._config.filter_zone))
        except ValueError:
            raise self._invalid(name) from None

    def _sorted(self, leads: list[Lead], sorting: str) -> list[Lead]:
        by, descending = sorting.removeprefix("-"), sorting.startswith("-")
        if by == "id":
            return sorted(leads, key=lambda lead: lead.id, reverse=descending)
        if by == "created_at":
            return sorted(leads, key=lambda lead: (lead.moment, lead.id), reverse=descending)
        raise self._invalid("sorting")

    def _invalid(self, name: str) -> Refusal:
        fields = {name: {"code": "invalid", "message": "The value is not valid"}}
        return Refusal(self._door.fail(400, "validation_failed", "Validation failed", fields))

    def _shown(self, lead: Lead) -> dict[str, Any]:
        numbers = self._config.numbers
        contact = {
            "first_name": lead.first_name,
            "last_name": lead.last_name,
            "phone": lead.phone,
            "email": lead.email,
        }
        return {
            "id": lead.id if numbers else str(lead.id),
            "form_id": lead.form_id if numbers else str(lead.form_id),
            "form_name": lead.form_name,
            "ad_plan_id": lead.ad_plan_id,
            "ad_group_id": lead.ad_group_id,
            "banner_id": lead.banner_id,
            "created_at": self._printed(lead.moment),
            "contact_info": {name: value for name, value in contact.items() if value},
            "answers": lead.answers,
        }

    def _printed(self, moment: datetime) -> str:
        if self._config.created_format != "go":
            return f"{moment.astimezone(_zone(self._config.created_zone)):{_PLAIN}}"
        utc = moment.astimezone(UTC)
        fraction = f".{utc.microsecond:06}".rstrip("0") if utc.microsecond else ""
        return f"{utc:{_PLAIN}}{fraction} +0000 UTC"

    def books(self) -> dict[str, Any]:
        """How many leads there are to read by now, and how often somebody read a page."""
        with self._lock:
            return {"totals": {"leads": len(self._there()), "pages": self._pages}}


def _zone(word: str) -> tzinfo:
    return {"utc": UTC, "moscow": MOSCOW}[word]


def _ids(given: str) -> set[int] | None:
    words = given.split(",")
    return {int(word) for word in words} if all(w.isascii() and w.isdigit() for w in words) else None
