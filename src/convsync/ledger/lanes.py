"""Orders with a life: deliveries that carry the whole state of one order, and so must be sent in its order.

A lane is one order at one destination. What happened earlier goes first; each later row carries on what the earlier
one had fixed. A row that comes to light after a later state was sent is stale: sending it would turn the order back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convsync.model import State


@dataclass
class Member:
    """A delivery in its lane."""

    id: int
    occurred_at: int
    claimed: bool
    payload: bytes | None
    after: int | None
    clear: bool = False
    changed: bool = False


class Lanes:
    """The lanes of one destination that a page touches."""

    def __init__(self, conn: sqlite3.Connection, destination_id: int, merge: Callable[[bytes, bytes], bytes]) -> None:
        self.conn = conn
        self.destination_id = destination_id
        self.merge = merge
        self.members: dict[str, list[Member]] = {}

    def load(self, lanes: Iterable[str]) -> None:
        """Fetch what the ledger knows of these lanes."""
        names = list(set(lanes) - self.members.keys())
        self.members.update((name, []) for name in names)
        query = (
            "SELECT d.lane, d.id, a.occurred_at, d.attempts OR d.reached, d.state, p.body, d.after_id, d.clear = 1"
            " FROM delivery d JOIN action a ON a.id = d.action_id LEFT JOIN payload p ON p.delivery_id = d.id"
            f" WHERE d.destination_id = ? AND d.lane IN ({','.join('?' * len(names))})"
            " AND (d.state NOT IN ('superseded', 'expired') OR d.reached) ORDER BY a.occurred_at, d.id"
        )
        for lane, number, occurred_at, left, state, body, after, clear in self.conn.execute(
            query, (self.destination_id, *names)
        ):
            claimed = bool(left) or state not in (State.PENDING, State.HELD)
            self.members[lane].append(Member(number, occurred_at, claimed, body, after, bool(clear)))

    def started(self, lane: str) -> bool:
        """Whether anything of this order was sent, or is about to be."""
        return bool(self.members.get(lane))

    def place(
        self, lane: str, number: int, occurred_at: int, payload: bytes, clear: bool, same_key_as: int | None
    ) -> Member | None:
        """Put a new delivery into its lane, merged with what it follows; None when it comes too late."""
        members = self.members.setdefault(lane, [])
        replaced = next((one for one in members if one.id == same_key_as and not one.claimed), None)
        if replaced is not None:
            members.remove(replaced)  # superseded: the new revision takes its place
        position = len(members)
        while position and members[position - 1].occurred_at > occurred_at:
            position -= 1
        if any(one.claimed for one in members[position:]):
            return None
        before = members[position - 1] if position else None
        placed = Member(number, occurred_at, False, payload, before.id if before is not None else None, clear)
        if before is not None and before.payload is not None:
            placed.payload, placed.clear = self.merge(before.payload, payload), clear or before.clear
        members.insert(position, placed)
        self._rebase(members, position)
        return placed

    def newest(self, lane: str) -> Member | None:
        """The last of its states."""
        members = self.members.get(lane)
        return members[-1] if members else None

    def refresh(self, lane: str, number: int, payload: bytes, clear: bool) -> None:
        """Give an unsent delivery what its source says now."""
        members = self.members.get(lane, [])
        position = next((at for at, one in enumerate(members) if one.id == number and not one.claimed), None)
        if position is None:
            return
        before = members[position - 1] if position else None
        if before is not None and before.payload is not None:
            payload, clear = self.merge(before.payload, payload), clear or before.clear
        one = members[position]
        if payload != one.payload:
            one.payload, one.clear, one.changed = payload, clear, True
            self._rebase(members, position)

    def _rebase(self, members: list[Member], position: int) -> None:
        """What follows in the lane and was not sent yet follows the newcomer."""
        for before, one in zip(members[position:], members[position + 1 :], strict=False):
            if before.payload is None or one.payload is None:
                continue
            one.payload, one.after, one.changed = self.merge(before.payload, one.payload), before.id, True
            one.clear |= before.clear

    def write(self) -> None:
        """Write what `place` changed about rows that were already in the tables."""
        for members in self.members.values():
            for one in members:
                if one.changed:
                    self.conn.execute(
                        "UPDATE delivery SET after_id = ?, clear = ? WHERE id = ?", (one.after, one.clear, one.id)
                    )
                    self.conn.execute("UPDATE payload SET body = ? WHERE delivery_id = ?", (one.payload, one.id))
                    one.changed = False
