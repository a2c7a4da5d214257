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
            "SELECT d.lane, d.id, a.occurred_at, d.attempts, d.state, p.body, d.after_id"
            " FROM delivery d JOIN action a ON a.id = d.action_id LEFT JOIN payload p ON p.delivery_id = d.id"
            f" WHERE d.destination_id = ? AND d.lane IN ({','.join('?' * len(names))})"
            " AND d.state <> 'superseded' ORDER BY a.occurred_at, d.id"
        )
        for lane, number, occurred_at, attempts, state, body, after in self.conn.execute(
            query, (self.destination_id, *names)
        ):
            claimed = attempts > 0 or state not in (State.PENDING, State.HELD)
            self.members[lane].append(Member(number, occurred_at, claimed, body, after))

    def started(self, lane: str) -> bool:
        """Whether anything of this order was sent, or is about to be."""
        return bool(self.members.get(lane))

    def place(
        self, lane: str, number: int, occurred_at: int, payload: bytes, same_key_as: int | None
    ) -> tuple[int | None, bytes] | None:
        """Put a new delivery into its lane: the one it follows and its merged payload, or None when it comes too late."""
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
        if before is not None and before.payload is not None:
            payload = self.merge(before.payload, payload)
        after = before.id if before is not None else None
        members.insert(position, Member(number, occurred_at, False, payload, after))
        self._rebase(members, position)
        return after, payload

    def _rebase(self, members: list[Member], position: int) -> None:
        """What follows in the lane and was not sent yet follows the newcomer."""
        for before, one in zip(members[position:], members[position + 1 :], strict=False):
            if before.payload is None or one.payload is None:
                continue
            one.payload, one.after, one.changed = self.merge(before.payload, one.payload), before.id, True

    def write(self) -> None:
        """Write what `place` changed about rows that were already in the tables."""
        for members in self.members.values():
            for one in members:
                if one.changed:
                    self.conn.execute("UPDATE delivery SET after_id = ? WHERE id = ?", (one.after, one.id))
                    self.conn.execute("UPDATE payload SET body = ? WHERE delivery_id = ?", (one.payload, one.id))
                    one.changed = False
