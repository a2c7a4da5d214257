"""CRM orders of Yandex.Metrica: reading the CSV of `simple_orders`, merging it, reaching goals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from convsync.sandbox.clock import epoch_iso
from convsync.sandbox.decimals import number, text
from convsync.sandbox.yandex_config import Counter, YandexConfig
from convsync.sandbox.yandex_files import BadFile, BadRow, check_names

LISTS = ("client_ids", "emails", "phones", "emails_md5", "phones_md5")
COLUMNS = frozenset(
    (
        "id",
        "create_date_time",
        "client_uniq_id",
        "order_status",
        "revenue",
        "cost",
        "goals",
        "currency",
        *LISTS,
    )
)
STATUSES = frozenset(("IN_PROGRESS", "PAID", "CANCELLED", "SPAM"))
CREATED, PAID = "CRM: Order created", "CRM: Order paid"
CANCELLED, SPAM = "CRM: Order cancelled", "CRM: Spam order"
_REACHED = {"IN_PROGRESS": (CREATED,), "PAID": (CREATED, PAID)}
_REACHED_BY_NEWER_PAGE = {"CANCELLED": (CANCELLED,), "SPAM": (SPAM,)}
_MOST = Decimal(9223372036854)  # DOC M/data-import/simple-orders-data
_TIME = r"(?: (?P<h>\d\d):(?P<m>\d\d)(?::(?P<s>\d\d))?)?"
_DATES = (
    re.compile(r"(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)" + _TIME),
    re.compile(r"(?P<D>\d\d)\.(?P<M>\d\d)\.(?P<Y>\d{4}|\d\d)" + _TIME),
)
_DECIMAL = re.compile(r"\d+(?:\.\d+)?")
_GOAL = re.compile(r"(?P<name>[^:,]+)(?::(?P<price>\d+(?:\.\d+)?))?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_STRICT = {
    # DOC DH/statistics/conversions: lower-case e-mail, phone in digits, MD5 in lower-case hex.
    "client_ids": re.compile(r"\d{1,20}"),
    "emails": re.compile(r"[^\sA-Z@,]+@[^\sA-Z@,]+\.[^\sA-Z@,]+"),
    "phones": re.compile(r"\d{7,15}"),
    "emails_md5": _MD5,
    "phones_md5": _MD5,
}


@dataclass(slots=True)
class Row:
    """One line of a file, read."""

    id: str
    created: float
    created_text: str
    sent: dict[str, Any]
    """Column → value, only of cells that are not empty."""


class Version(NamedTuple):
    """One state that reached an order."""

    at: float
    upload: str
    state: dict[str, Any]
    changed: bool
    taken: bool
    """False: it came later than the window for changes."""

    def shown(self) -> dict[str, Any]:
        return {
            "at": epoch_iso(self.at),
            "upload": self.upload,
            "status": self.state["order_status"],
            "revenue": text(self.state.get("revenue")),
            "cost": text(self.state.get("cost")),
            "currency": self.state.get("currency") or "RUB",
            "goals": {name: text(price) for name, price in self.state.get("goals", {}).items()},
            "identifiers": identifiers(self.state),
            "changed": self.changed,
            "taken": self.taken,
        }


@dataclass(slots=True)
class Order:
    id: str
    created: float
    created_text: str
    state: dict[str, Any]
    versions: list[Version] = field(default_factory=list)
    uploads: int = 0
    visit: float | None = None
    goals: dict[str, Decimal | None] = field(default_factory=dict)
    """Goal reached → its own price, or None for the order's income."""
    unknown_goals: set[str] = field(default_factory=set)

    def status(self) -> str:
        return str(self.state.get("order_status") or "PAID")

    def currency(self) -> str:
        return str(self.state.get("currency") or "RUB")

    def revenue(self) -> Decimal:
        return Decimal(self.state.get("revenue") or 0)

    def income(self) -> Decimal:
        """DOC: with `cost` given, the goal's income is revenue less cost."""
        return self.revenue() - Decimal(self.state.get("cost") or 0)

    def shown(self) -> dict[str, Any]:
        return {
            "status": self.status(),
            "revenue": text(self.state.get("revenue")),
            "cost": text(self.state.get("cost")),
            "currency": self.currency(),
            "create_date_time": self.created_text,
            "created": epoch_iso(self.created),
            "client_uniq_id": self.state.get("client_uniq_id"),
            "identifiers": identifiers(self.state),
            "linked": self.visit is not None,
            "goals": sorted(self.goals),
            "uploads": self.uploads,
            "versions": [version.shown() for version in self.versions],
        }


def identifiers(state: dict[str, Any]) -> dict[str, list[str]]:
    return {name: state[name] for name in LISTS if state.get(name)}


def check_header(header: list[str]) -> None:
    check_names(header, COLUMNS)
    if "create_date_time" not in header:
        raise BadFile("column create_date_time is required")
    if not set(header) & set(LISTS):
        raise BadFile(f"at least one of the columns {', '.join(LISTS)} is required")


class Reader:
    """Turns lines into rows, by the rules of one counter at one moment."""

    def __init__(self, config: YandexConfig, counter: Counter, goals: set[str], header: list[str], now: float) -> None:
        self._config = config
        self._header = header
        self._now = now
        self._zone = counter.zone()
        self._goals = goals
        self._oldest = now - config.max_order_age_days * 86400

    def row(self, line: list[str]) -> Row:
        if len(line) != len(self._header):
            raise BadRow(f"{len(line)} cells, the header has {len(self._header)}")
        sent: dict[str, Any] = {name: cell for name, cell in zip(self._header, line, strict=True) if cell}
        order_id = sent.pop("id", "")
        if not order_id and self._config.missing_id == "refused":
            raise BadRow("id is required")
        created_text = sent.pop("create_date_time", "")
        created = self._created(created_text)
        self._identifiers(sent)
        for name in ("revenue", "cost"):
            if name in sent:
                sent[name] = _amount(name, sent[name])
        status = sent.get("order_status")
        if status and status not in STATUSES and status not in self._goals:
            raise BadRow(f"order_status {status!r} is neither a status nor a JavaScript goal")
        if "currency" in sent and not _CURRENCY.fullmatch(sent["currency"]):
            raise BadRow("currency is not an ISO code")
        if "goals" in sent:
            sent["goals"] = _goals(sent["goals"])
        return Row(order_id, created, created_text, sent)

    def _created(self, given: str) -> float:
        if not given:
            raise BadRow("create_date_time is required")
        begins, moment = self._moments(given)
        if begins > self._now:
            raise BadRow("create_date_time is in the future")
        if moment < self._oldest:
            raise BadRow(f"create_date_time is older than {self._config.max_order_age_days} days")
        return moment

    def _moments(self, given: str) -> tuple[float, float]:
        """Earliest and counted moment: a date alone counts as 23:59:59 (DOC M/data-import/date)."""
        found = _DATES[0].fullmatch(given) or _DATES[1].fullmatch(given)
        moment = _moment(found, self._zone) if found else None
        if found is None or moment is None:
            raise BadRow("create_date_time cannot be read")
        counted = moment.timestamp()
        return (counted if found["h"] else counted - 86399), counted

    def _identifiers(self, sent: dict[str, Any]) -> None:
        named = False
        for name in LISTS:
            cell = sent.get(name)
            if cell:
                named = True
                sent[name] = values = cell.split(",")
                pattern = _STRICT[name]
                if self._config.strict_contacts and not all(map(pattern.fullmatch, values)):
                    raise BadRow(f"{name} is not normalised as documented")
        if not named:
            raise BadRow(f"at least one of {', '.join(LISTS)} is required")


def _moment(found: re.Match[str], zone: tzinfo) -> datetime | None:
    year = int(found["Y"]) + (2000 if len(found["Y"]) == 2 else 0)
    h, m, s = (23, 59, 59) if found["h"] is None else (int(found["h"]), int(found["m"]), int(found["s"] or 0))
    try:
        return datetime(year, int(found["M"]), int(found["D"]), h, m, s, tzinfo=zone)
    except ValueError:
        return None


def _amount(name: str, cell: str) -> Decimal:
    value = number(cell) if _DECIMAL.fullmatch(cell) else None
    if value is None:
        raise BadRow(f"{name} is not a number ≥ 0 with a decimal point")
    if value > _MOST:
        raise BadRow(f"{name} is greater than {_MOST}")
    return value


def _goals(cell: str) -> dict[str, Decimal | None]:
    """`goal_a:200,goal_b`: a price is optional."""
    found: dict[str, Decimal | None] = {}
    for piece in cell.split(","):
        read = _GOAL.fullmatch(piece)
        if not read:
            raise BadRow("goals cannot be read")
        found[read["name"]] = Decimal(read["price"]) if read["price"] else None
    return found


def merged(state: dict[str, Any] | None, sent: dict[str, Any], mode: str) -> dict[str, Any]:
    """SAVE replaces all (absent = null), UPDATE changes what is sent, APPEND also extends lists."""
    if state is None or mode == "SAVE":
        new = dict(sent)
    else:
        new = {**state, **sent}
        if mode == "APPEND":
            for name in LISTS:
                new[name] = list(dict.fromkeys([*state.get(name, ()), *sent.get(name, ())]))
            new["goals"] = {**state.get("goals", {}), **sent.get("goals", {})}
    if not new.get("order_status"):
        new["order_status"] = "PAID"  # DOC: empty = PAID
    return new


def reached(state: dict[str, Any], known: Iterable[str], newer_page: bool) -> dict[str, Decimal | None]:
    """Goals that this state of an order reaches."""
    status = state["order_status"]
    names = _REACHED.get(status, ())
    if newer_page:
        names = names or _REACHED_BY_NEWER_PAGE.get(status, ())
    if status not in STATUSES:
        names = (status,)
    goals: dict[str, Decimal | None] = dict.fromkeys(names)
    goals.update({name: price for name, price in state.get("goals", {}).items() if name in known})
    return goals
