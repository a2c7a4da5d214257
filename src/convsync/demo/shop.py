"""A made-up web shop: 3,000 target actions of thirty days in a SQLite event store whose columns are not named as ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

from convsync.demo.people import Crowd, Visitor
from convsync.errors import UsageError

ACTIONS = 3000
DEALS = 1150
SHARES = {"google": 36, "yandex": 42, "vk": 6, "": 16}
"""VK has few: one event is one request."""

SCHEMA = """
CREATE TABLE target_actions (
    event_id TEXT PRIMARY KEY, kind TEXT NOT NULL, happened_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    amount TEXT, currency TEXT, deal_id TEXT, gclid TEXT, yclid TEXT, ym_uid TEXT, rb_clickid TEXT, mail TEXT, tel TEXT,
    utm_source TEXT, utm_medium TEXT, utm_campaign TEXT, status TEXT NOT NULL
);
CREATE INDEX target_actions_changed ON target_actions (updated_at, event_id);
CREATE INDEX target_actions_happened ON target_actions (happened_at);
"""
INSERT = f"INSERT INTO target_actions VALUES ({', '.join('?' * 17)})"


@dataclass(frozen=True)
class Event:
    """One row of the store; times are those of the shop's wall clock."""

    kind: str
    happened_at: datetime
    updated_at: datetime
    deal_id: str
    visitor: Visitor
    amount: Decimal | None = None
    status: str = "active"


class Change(NamedTuple):
    """What `refund_one` did: the ids of two sales, and the amounts of the second before and after."""

    refunded: str
    repriced: str
    before: Decimal
    after: Decimal


def events(chance: Random, now: datetime) -> list[Event]:
    """Leads, the sales that came of some of them, and enough carts to fill up; `now` is local time."""
    crowd = Crowd(chance)
    latest = now - timedelta(hours=1)
    made: list[Event] = []
    for number in range(DEALS):
        at = latest - timedelta(seconds=chance.randrange(30 * 86_400 - 7_200))
        made += _deal(chance, f"D{10_000 + number}", crowd.visitor(SHARES, at), at, latest)
    for _ in range(ACTIONS - len(made)):
        at = latest - timedelta(seconds=chance.randrange(30 * 86_400 - 7_200))
        made.append(_event(chance, "cart", at, "", crowd.visitor(SHARES, at)))
    return sorted(made, key=lambda event: (event.happened_at, event.deal_id, event.kind))


def _deal(chance: Random, deal: str, visitor: Visitor, at: datetime, latest: datetime) -> list[Event]:
    lead = _event(chance, "lead", at, deal, visitor, status=_status(chance, "spam"))
    bought_at = at + timedelta(seconds=chance.randrange(3_600, 6 * 86_400))
    if lead.status == "spam" or chance.random() > 0.48 or bought_at > latest:
        return [lead]
    amount = Decimal(chance.randrange(90_000, 1_400_000)) / 100
    status = _status(chance, "refunded" if chance.random() < 0.6 else "cancelled")
    return [lead, _event(chance, "sale", bought_at, deal, visitor, amount, status)]


def _status(chance: Random, sad: str) -> str:
    return sad if chance.random() < 0.03 else "active"


def _event(
    chance: Random,
    kind: str,
    at: datetime,
    deal: str,
    visitor: Visitor,
    amount: Decimal | None = None,
    status: str = "active",
) -> Event:
    return Event(kind, at, at + timedelta(seconds=chance.randrange(300)), deal, visitor, amount, status)


def write(path: Path, made: list[Event]) -> None:
    with closing(sqlite3.connect(path)) as store:
        store.executescript(SCHEMA)
        with store:
            store.executemany(INSERT, [_row(f"e{number:06}", event) for number, event in enumerate(made, start=1)])


def _row(event_id: str, event: Event) -> tuple[str | None, ...]:
    who = event.visitor
    times = (event.happened_at.isoformat(" "), event.updated_at.isoformat(" "))
    money = (f"{event.amount:.2f}", "RUB") if event.amount is not None else ("", "")
    ids = (event.deal_id, who.gclid, who.yclid, who.ym_uid, who.rb_clickid)
    contacts = ("", "") if event.kind == "cart" else (who.email, who.phone)
    return tuple(
        [text or None for text in (event_id, event.kind, *times, *money, *ids, *contacts, *who.utm, event.status)]
    )


def refund_one(path: Path) -> Change:
    """Refund one paid order and change the amount of another, as a shop does a day later: both rows are touched."""
    with closing(sqlite3.connect(path)) as store, store:
        paid = store.execute(
            "SELECT event_id, amount FROM target_actions WHERE kind = 'sale' AND status = 'active' AND ym_uid IS NOT NULL"
            " ORDER BY updated_at, event_id LIMIT 2"
        ).fetchall()
        if len(paid) < 2:
            raise UsageError(f"{path} has no two paid orders left to change.", "Build a new world.")
        latest = store.execute("SELECT max(updated_at) FROM target_actions").fetchone()[0]
        touched = (datetime.fromisoformat(latest) + timedelta(seconds=1)).isoformat(" ")
        (refunded, _), (repriced, amount) = paid
        before = Decimal(amount)
        after = before + Decimal("500.50")
        store.execute(
            "UPDATE target_actions SET status = 'refunded', updated_at = ? WHERE event_id = ?", (touched, refunded)
        )
        store.execute(
            "UPDATE target_actions SET amount = ?, updated_at = ? WHERE event_id = ?",
            (f"{after:.2f}", touched, repriced),
        )
    return Change(refunded, repriced, before, after)
