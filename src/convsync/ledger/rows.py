"""The rows of a page on their way into the tables: collected, and written in bulk at the end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from convsync.errors import ConvsyncError
from convsync.ledger import events
from convsync.ledger.lanes import Lanes
from convsync.ledger.store import Insert
from convsync.model import BadRow, Conversion, Mapped, Skip, State, key_of

NOBODY = 0
"""The `destination_id` of a Skip that concerns every destination."""

NEW_DELIVERIES = Insert(
    "delivery (id, action_id, destination_id, goal, revision, key, lane, after_id, state, reason, not_before, status,"
    " value, currency, part, identity, clear, planned_at, updated_at)",
    19,
)
NEW_PAYLOADS = Insert("payload (delivery_id, body)", 2)

UPSERT_SKIP = """
INSERT INTO skip (action_id, destination_id, reason, detail, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (action_id, destination_id) DO UPDATE SET reason = excluded.reason, detail = excluded.detail, at = excluded.at
WHERE reason <> excluded.reason OR detail <> excluded.detail"""


@dataclass
class Taken:
    """What a page, or a run, took in."""

    read: int = 0
    new: int = 0
    revised: int = 0
    superseded: Counter[str] = field(default_factory=Counter)
    expired: Counter[str] = field(default_factory=Counter)
    overwritten: Counter[str] = field(default_factory=Counter)
    """By destination: actions with an amount in an order that has one, where the platform keeps one an order."""
    example: dict[str, str] = field(default_factory=dict)
    """By destination: one of these orders."""
    skipped: Counter[str] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    """The bad rows of a page that were not known yet."""

    def add(self, other: Taken) -> None:
        self.read += other.read
        self.new += other.new
        self.revised += other.revised
        self.superseded.update(other.superseded)
        self.expired.update(other.expired)
        self.overwritten.update(other.overwritten)
        self.example = other.example | self.example
        self.skipped.update(other.skipped)


class Rows:
    """What a page plans: deliveries, payloads, skips and moves. `numbers`: by the name of a destination, its numbers in the
    ledger, the first door first."""

    def __init__(
        self, conn: sqlite3.Connection, numbers: dict[str, list[int]], lanes: Iterable[Lanes], now: int
    ) -> None:
        self.conn = conn
        self.numbers = numbers
        self.lanes = list(lanes)
        self.now = now
        self.taken = Taken()
        self.first_id: int = (conn.execute("SELECT max(id) FROM delivery").fetchone()[0] or 0) + 1
        self.next_id = self.unwritten = self.first_id
        self.base = 0
        """The last action that was known before this page."""
        self.deliveries: list[object] = []  # flat: nineteen values a row
        self.payloads: list[object] = []  # flat: two values a row
        self.skips: list[tuple[int, int, str, str, int]] = []
        self.unskip: list[tuple[int, int]] = []
        self.moved: dict[tuple[str, str], list[int]] = {}
        self.born: list[tuple[int, str, str]] = []

    def add(
        self,
        destination_id: int,
        action_id: int,
        one: Mapped,
        new: Conversion,
        revision: int = 1,
        after: int | None = None,
        state: State = State.PENDING,
        reason: str = "",
    ) -> int:
        """One delivery more to be written at the end of the page. Returns its number."""
        action, number, now = one.action, self.next_id, self.now
        key = new.key or key_of(action.source, action.external_id, action.action, new.destination, new.goal)
        self.next_id = number + 1
        self.deliveries += (
            number, action_id, destination_id, new.goal, revision, key, new.lane, after, state.value, reason, one.due_at,
            new.status, new.value, new.currency, new.part, new.identity or None, new.clear, now, now,
        )  # fmt: skip
        self.payloads += (number, new.payload)
        if action_id <= self.base:
            self.unskip.append((action_id, self.destination(new.destination)))
        if state is not State.PENDING:
            self.born.append((number, state.value, reason))
            self.taken.superseded[new.destination] += state is State.SUPERSEDED
            self.taken.expired[new.destination] += state is State.EXPIRED
        return number

    def skip(self, action_id: int, skip: Skip) -> None:
        self.skips.append((action_id, self.destination(skip.destination), skip.reason.value, skip.detail, self.now))

    def destination(self, name: str) -> int:
        """The number that its skips stand under."""
        return self.numbers[name][0] if name else NOBODY

    def move(self, to: State, reason: str, delivery_id: int, destination: str) -> None:
        if to is State.SUPERSEDED:
            self.taken.superseded[destination] += 1
        self.written(delivery_id)
        self.conn.execute(
            "UPDATE delivery SET state = ?, reason = ?, updated_at = ? WHERE id = ?",
            (to, reason, self.now, delivery_id),
        )
        self.moved.setdefault((to.value, reason), []).append(delivery_id)

    def payload(self, delivery_id: int) -> bytes:
        """What a delivery tells, also one of this page."""
        self.written(delivery_id)
        query = "SELECT body FROM payload WHERE delivery_id = ?"
        row = self.conn.execute(query, (delivery_id,)).fetchone()
        if row is None:
            raise ConvsyncError(f"delivery {delivery_id} has lost what it told.", "See `convsync ledger verify`.")
        body: bytes = row[0]
        return body

    def refresh(self, delivery_id: int, new: Conversion) -> None:
        """An unsent delivery takes on what was learnt since: by the source (a corrected phone), or by the configuration."""
        self.written(delivery_id)
        updated = self.conn.execute(
            "UPDATE payload SET body = ? WHERE delivery_id = ? AND body <> ?", (new.payload, delivery_id, new.payload)
        )
        if updated.rowcount:
            self.conn.execute(
                "UPDATE delivery SET part = ?, identity = ?, clear = ? WHERE id = ?",
                (new.part, new.identity or None, new.clear, delivery_id),
            )

    def written(self, delivery_id: int) -> None:
        """Make sure that a delivery planned earlier in this page can be found in the tables."""
        if delivery_id >= self.unwritten:
            self.flush()

    def flush(self) -> None:
        self.unwritten = self.next_id
        NEW_DELIVERIES.run(self.conn, self.deliveries)
        NEW_PAYLOADS.run(self.conn, self.payloads)
        self.conn.executemany(
            "DELETE FROM skip WHERE action_id = ? AND (destination_id = ? OR destination_id = 0)", self.unskip
        )
        for skip in self.skips:
            if self.conn.execute(UPSERT_SKIP, skip).rowcount:
                self.taken.skipped[skip[2]] += 1
        self.deliveries.clear()
        self.payloads.clear()
        self.skips.clear()
        self.unskip.clear()
        for lanes in self.lanes:
            lanes.write()

    def finish(self, run_id: str | None) -> Taken:
        self.flush()
        if self.next_id > self.first_id:
            body = {"first": self.first_id, "last": self.next_id - 1, "to": "pending", "born": self.born}
            events.append(self.conn, "planned", body, at=self.now, run_id=run_id)
        for (to, reason), ids in self.moved.items():
            body = {"to": to, "reason": reason, "ids": ids}
            events.append(self.conn, "moved", body, at=self.now, run_id=run_id, deliveries=ids)
        return self.taken
