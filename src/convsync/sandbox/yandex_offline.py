"""Rows of offline conversions: how Metrica reads them, and what becomes of each conversion."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from convsync.sandbox import yandex_visits
from convsync.sandbox.clock import epoch_iso
from convsync.sandbox.decimals import number, sums, text
from convsync.sandbox.yandex_config import YandexConfig
from convsync.sandbox.yandex_files import BadFile, BadRow, check_names
from convsync.sandbox.yandex_goals import Goals

IDS = {"CLIENT_ID": "ClientId", "USER_ID": "UserId", "YCLID": "Yclid", "PURCHASE_ID": "PurchaseId"}
"""client_id_type → column."""
_COLUMNS = frozenset((*IDS.values(), "Target", "DateTime", "Price", "Currency"))
_PRICE = re.compile(r"\d+(?:\.\d+)?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_SECONDS = re.compile(r"\d{1,20}", re.ASCII)

NO_GOAL, NO_USER = "goal not found", "user not found"


def check_header(header: list[str]) -> None:
    """DOC M/management/offline-conv: columns spelled exactly so."""
    check_names(header, _COLUMNS)
    for name in ("Target", "DateTime"):
        if name not in header:
            raise BadFile(f"column {name} is required")
    if not set(header) & set(IDS.values()):
        raise BadFile(f"at least one of the columns {', '.join(IDS.values())} is required")


class Key(NamedTuple):
    """What makes a conversion the same one again. INFERRED from DOC M/faq."""

    kind: str
    id: str
    target: str
    at: int


class Row(NamedTuple):
    key: Key
    price: Decimal | None
    currency: str


class Reader:
    """Turns lines into rows; `kinds` are the columns of ids, the one that wins first."""

    def __init__(self, header: list[str], kinds: list[str], goals: set[str] | None, now: float) -> None:
        self._header = header
        self._kinds = [kind for kind in kinds if kind in header]
        self._goals = goals
        """What Target may be; None = anything."""
        self._now = now

    def row(self, line: list[str]) -> Row:
        if len(line) != len(self._header):
            raise BadRow(f"{len(line)} cells, the header has {len(self._header)}")
        cells = dict(zip(self._header, line, strict=True))
        kind = next((kind for kind in self._kinds if cells[kind]), None)
        if kind is None:
            raise BadRow(f"one of {', '.join(self._kinds)} is required")
        if not cells["Target"]:
            raise BadRow("Target is required")
        if self._goals is not None and cells["Target"] not in self._goals:
            raise BadRow("Target is no goal of this counter")
        key = Key(kind, cells[kind], cells["Target"], self._seconds(cells["DateTime"]))
        return Row(key, _price(cells.get("Price", "")), _currency(cells.get("Currency", "")))

    def _seconds(self, cell: str) -> int:
        """Unix seconds in the past. Milliseconds lie in the far future."""
        if not _SECONDS.fullmatch(cell):
            raise BadRow("DateTime is not a Unix time in seconds")
        if int(cell) > self._now:
            raise BadRow("DateTime is in the future")
        return int(cell)


def _price(cell: str) -> Decimal | None:
    if cell and not _PRICE.fullmatch(cell):
        raise BadRow("Price is not a number ≥ 0 with a decimal point")
    return number(cell) if cell else None


def _currency(cell: str) -> str:
    if cell and not _CURRENCY.fullmatch(cell):
        raise BadRow("Currency is not an ISO code")
    return cell


class Version(NamedTuple):
    """One row that came for a conversion."""

    upload: int
    price: Decimal | None
    currency: str
    why_not: str
    """Empty: it was linked."""


@dataclass(slots=True)
class Conversion:
    key: Key
    count: int = 0
    visit: float | None = None
    price: Decimal | None = None
    currency: str = ""
    versions: list[Version] = field(default_factory=list)

    def spot(self) -> tuple[object, ...]:
        """Goal and visit."""
        return self.key.kind, self.key.id, self.key.target, self.visit

    def shown(self, mixed: bool) -> dict[str, Any]:
        linked = self.visit is not None
        return {
            "kind": self.key.kind,
            "id": self.key.id,
            "target": self.key.target,
            "datetime": self.key.at,
            "price": None if mixed else text(self.price),
            "currency": None if mixed else self.currency or None,
            "count": self.count,
            "linked": linked,
            "visit": None if self.visit is None else epoch_iso(self.visit),
            "why_not": "" if linked else self.versions[-1].why_not,
            "versions": [{**version._asdict(), "price": text(version.price)} for version in self.versions],
        }


@dataclass(slots=True)
class Verdict:
    """What came of the rows of one file. `matched`: those whose visit was found, whether or not the goal was."""

    linked: int = 0
    no_goal: int = 0
    no_user: int = 0
    matched: int = 0


class Book:
    """The conversions of one counter."""

    def __init__(self, config: YandexConfig, goals: Goals, counter: str) -> None:
        self._config = config
        self._goals = goals
        self._counter = counter
        self._conversions: dict[Key, Conversion] = {}

    def process(self, upload: int, rows: Iterable[Row], now: float) -> Verdict:
        """Link the rows of one file. A repeat overwrites the amount and counts no second time (DOC M/faq, INFERRED)."""
        verdict = Verdict()
        goals = self._goals.events(self._counter)
        for row in rows:
            conversion = self._conversions.setdefault(row.key, Conversion(row.key))
            visit = yandex_visits.of_conversion(self._config, row.key.kind, row.key.id, row.key.at, now)
            why_not = _why_not(goals.get(row.key.target), visit)
            verdict.matched += visit is not None
            verdict.linked += not why_not
            verdict.no_goal += why_not == NO_GOAL
            verdict.no_user += why_not == NO_USER
            conversion.versions.append(Version(upload, row.price, row.currency, why_not))
            if not why_not:
                conversion.visit, conversion.price, conversion.currency = visit, row.price, row.currency
                conversion.count += self._config.repeat_counts or conversion.count == 0
        return verdict

    def shown(self) -> dict[str, Any]:
        linked = [one for one in self._conversions.values() if one.count]
        mixed = self._mixed(linked)
        targets = sorted({one.key.target for one in linked})
        by_goal = {target: [one for one in linked if one.key.target == target] for target in targets}
        return {
            "conversions": [one.shown(one.spot() in mixed) for one in self._conversions.values()],
            "goals": {
                target: {"reaches": sum(one.count for one in found), "revenue": _revenue(found, mixed)}
                for target, found in by_goal.items()
            },
            "unlinked": len(self._conversions) - len(linked),
        }

    def _mixed(self, linked: list[Conversion]) -> set[tuple[object, ...]]:
        """Where one goal of one visit has amounts in several currencies: they become empty (DOC, help page)."""
        currencies: dict[tuple[object, ...], set[str]] = {}
        for one in linked:
            if one.price is not None and one.currency:
                currencies.setdefault(one.spot(), set()).add(one.currency)
        return {spot for spot, found in currencies.items() if len(found) > 1}


def _why_not(goal_since: float | None, visit: float | None) -> str:
    if goal_since is None or (visit is not None and visit < goal_since):
        return NO_GOAL
    return NO_USER if visit is None else ""


def _revenue(found: list[Conversion], mixed: set[tuple[object, ...]]) -> dict[str, str]:
    priced = [(one.currency, one.price, one.spot()) for one in found]
    return sums((currency, price) for currency, price, spot in priced if price is not None and spot not in mixed)
