"""What Data Manager counts: one conversion per action and transactionId, and the fate of every row."""

from __future__ import annotations

import re
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
        }


@dataclass
class ActionBook:
    transactions: dict[str, Conversion] = field(default_factory=dict)
    rows: int = 0
    nameless: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def values(self) -> list[tuple[str, Decimal]]:
        counted = (c for c in self.transactions.values() if c.count and c.value is not None)
        return [(c.currency, c.value or Decimal(0)) for c in counted]

    def shown(self) -> dict[str, Any]:
        counted = [c for c in self.transactions.values() if c.count]
        return {
            "conversions": len(counted),
            "adjustments": sum(c.adjustments for c in counted),
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


def book(action: ActionBook, row: Row, fates: Fate) -> str:
    """Book one row of an accepted request; the reason why it failed, or nothing."""
    action.rows += 1
    key = row.transaction
    if not key:
        action.nameless += 1
        key = f"(none) {action.nameless}"
    found = action.transactions.get(key)
    if found is None:
        found = action.transactions[key] = Conversion()
    reason = fates.of(row, found.ingests)
    found.ingests += 1
    if reason:
        action.errors[reason] = action.errors.get(reason, 0) + 1
        if not found.count:
            found.status, found.at, found.click = reason, row.at, row.clicks
        return reason
    _count(found, row)
    return ""


def _count(found: Conversion, row: Row) -> None:
    """DOC dm/…/conversion-adjustments: value and currency are overwritten, user data only filled in."""
    if not found.count:
        found.count, found.status, found.click, found.at = 1, "SUCCESS", row.clicks, row.at
        found.value, found.currency = row.value, row.currency
    else:
        value = found.value if row.value is None else row.value
        currency = row.currency or found.currency
        found.adjustments += (value, currency) != (found.value, found.currency)
        found.value, found.currency = value, currency
    found.values.append(row.value)
    found.has_user_data = found.has_user_data or row.has_user_data
