"""What Google counts: one conversion per action and id, whichever API it came through, and the fate of every row."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from convsync.sandbox.clock import epoch_iso
from convsync.sandbox.decimals import sums, text
from convsync.sandbox.google_rules import Row

_FATE = re.compile(r"fate-([A-Za-z0-9_]+)-")
_RECENT_S = 6 * 3600


@dataclass(slots=True)
class Conversion:
    count: int = 0
    ingests: int = 0
    """Rows accepted at ingest, whatever became of them."""
    adjustments: int = 0
    """Later rows that changed the value or the currency."""
    value: Decimal | None = None
    currency: str = ""
    values: list[Decimal | None] = field(default_factory=list)
    """Every value that reached it, in order, repeats included."""
    click: dict[str, str] = field(default_factory=dict)
    has_user_data: bool = False
    at: float = 0
    status: str = ""
    """SUCCESS, or the reason of the latest failure of a row that never became a conversion."""
    retracted: bool = False
    adjusted_at: float | None = None
    """The adjustment_date_time of the latest restatement through the Ads API."""
    via: str = "data_manager"
    """data_manager | ads"""
    key: str = ""
    """What makes it the same without an id: click and second, or caller, call and second."""

    def shown(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "value": text(self.value),
            "currency": self.currency or None,
            "ingests": self.ingests,
            "adjustments": self.adjustments,
            "values": [text(value) for value in self.values],
            "click": self.click,
            "has_user_data": self.has_user_data,
            "timestamp": epoch_iso(self.at),
            "status": self.status,
            "retracted": self.retracted,
            "via": self.via,
        }


@dataclass
class ActionBook:
    transactions: dict[str, Conversion] = field(default_factory=dict)
    rows: int = 0
    nameless: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    natural: dict[str, str] = field(default_factory=dict)
    """Natural key → the id of the conversion that has it: see `Conversion.key`."""

    def open(self, name: str) -> Conversion:
        """The conversion with this id, counted or not yet."""
        return self.transactions.setdefault(name, Conversion())

    def failed(self, name: str, reason: str, at: float, click: dict[str, str]) -> None:
        """A row was processed and did not become a conversion."""
        found = self.open(name)
        found.ingests += 1
        self.errors[reason] = self.errors.get(reason, 0) + 1
        if not found.count and not found.retracted:
            found.status, found.at, found.click = reason, at, click

    def count(self, name: str, key: str, made: Conversion) -> None:
        """Put a new conversion into the books."""
        earlier = self.transactions.get(name)
        made.ingests += earlier.ingests if earlier else 0
        made.count, made.status, made.key = 1, "SUCCESS", key
        made.values.append(made.value)
        self.transactions[name] = made
        if key:
            self.natural[key] = name

    def values(self) -> list[tuple[str, Decimal]]:
        counted = (c for c in self.transactions.values() if c.count and c.value is not None)
        return [(c.currency, c.value or Decimal(0)) for c in counted]

    def shown(self) -> dict[str, Any]:
        counted = [c for c in self.transactions.values() if c.count]
        return {
            "conversions": len(counted),
            "adjustments": sum(c.adjustments for c in counted),
            "retracted": sum(c.retracted for c in self.transactions.values()),
            "rows": self.rows,
            "without_transaction_id": self.nameless,
            "errors": dict(sorted(self.errors.items())),
            "value": sums(self.values()),
            "transactions": {key: c.shown() for key, c in self.transactions.items()},
        }


@dataclass(frozen=True)
class Fate:
    """Why a row fails when it is processed, if it does: by a magic click id, or by its age."""

    now: float
    max_age_s: float

    def of(self, row: Row, earlier: int) -> str:
        for click in row.clicks.values():
            found = _FATE.match(click)
            if found:
                return self._asked(found[1], row, earlier)
        return "EVENT_TOO_OLD" if self.now - row.at > self.max_age_s else ""

    def _asked(self, reason: str, row: Row, earlier: int) -> str:
        if reason == "TOO_RECENT_CLICK" and self.now - row.at >= _RECENT_S:
            return ""
        if reason == "INTERNAL_ERROR" and earlier:
            return ""
        return reason


class Books:
    """The books of all conversion actions; both APIs write into them under one lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.actions: dict[tuple[str, str], ActionBook] = {}

    def of(self, account: str, action: str) -> ActionBook:
        return self.actions.setdefault((account, action), ActionBook())


def book(action: ActionBook, row: Row, fates: Fate) -> str:
    """Book one row of an accepted ingest; the reason why it failed, or nothing."""
    action.rows += 1
    key = row.transaction
    if not key:
        action.nameless += 1
        key = f"(none) {action.nameless}"
    found = action.transactions.get(key)
    reason = fates.of(row, found.ingests if found else 0)
    if reason:
        action.failed(key, reason, row.at, row.clicks)
        return reason
    if row.call:
        _call(action, key, row)
    elif found and (found.count or found.retracted):
        found.ingests += 1
        _adjust(found, row)
    else:
        action.count(key, "", _made(row))
    return ""


def _made(row: Row) -> Conversion:
    return Conversion(
        ingests=1,
        value=row.value,
        currency=row.currency,
        click=row.clicks,
        has_user_data=row.has_user_data,
        at=row.at,
    )


def _adjust(found: Conversion, row: Row) -> None:
    """DOC dm/…/conversion-adjustments: value and currency are overwritten, user data only filled in.

    What an ingest does to a retracted conversion is told nowhere: here it stays retracted.
    """
    found.values.append(row.value)
    if found.retracted:
        return
    value = found.value if row.value is None else row.value
    currency = row.currency or found.currency
    found.adjustments += (value, currency) != (found.value, found.currency)
    found.value, found.currency = value, currency
    found.has_user_data = found.has_user_data or row.has_user_data


def _call(action: ActionBook, key: str, row: Row) -> None:
    """DOC dm/…/call/upgrade: a repeated call is accepted and dropped silently; it cannot be adjusted."""
    known = action.transactions.get(key)
    natural = action.natural.get(row.call)
    repeated = known if known and known.count else action.transactions.get(natural or "")
    if repeated:
        repeated.ingests += 1
    else:
        action.count(key, row.call, _made(row))
