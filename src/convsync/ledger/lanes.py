"""Orders with a life: deliveries that carry the whole state of one order, and so must be sent in its order.

A lane is one order at one destination. What happened earlier goes first; each later row carries on what the earlier
one had fixed. A row that comes to light after a later state was sent is stale: sending it would turn the order back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convsync.model import SkipReason, State


@dataclass
class Member:
    """A delivery in its lane."""

    id: int
    owner: tuple[int, str]
    """Its action and goal."""
    occurred_at: int
    claimed: bool
    reached: bool
    payload: bytes | None
    after: int | None
    clear: bool = False
    worth: bool = False
    """Whether it has an amount."""
    changed: bool = False


class Lanes:
    """The lanes of one destination that a page touches."""

    def __init__(self, conn: sqlite3.Connection, destination_id: int, merge: Callable[[bytes, bytes], bytes]) -> None:
        self.conn = conn
        self.destination_id = destination_id
        self.merge = merge
        self.members: dict[str, list[Member]] = {}

    def load(self, lanes: Iterable[str]) -> None:
        """Fetch what the ledger knows of these lanes, but for those who said no: nobody else is told of their contacts."""
        names = list(set(lanes) - self.members.keys())
        self.members.update((name, []) for name in names)
        query = (
            "SELECT d.lane, d.id, d.action_id, d.goal, a.occurred_at, d.attempts, d.reached, d.state, p.body, d.after_id,"
            " d.clear = 1, d.value IS NOT NULL AND d.status = 'active'"
            " FROM delivery d JOIN action a ON a.id = d.action_id LEFT JOIN payload p ON p.delivery_id = d.id"
            f" WHERE d.destination_id = ? AND d.lane IN ({','.join('?' * len(names))})"
            " AND (d.reached OR d.state NOT IN ('superseded', 'expired'))"
            " AND (d.reached OR d.state <> 'held' OR d.reason <> ?)"
        )
        bound = (self.destination_id, *names, SkipReason.CONSENT_DENIED.value)
        for lane, number, action, goal, occurred_at, attempts, reached, state, body, after, *flags in self.conn.execute(
            query, bound
        ):
            claimed = attempts > 0 or reached > 0 or state not in (State.PENDING, State.HELD)
            had = reached > 0 or state == State.IN_FLIGHT
            one = Member(number, (action, goal), occurred_at, claimed, had, body, after, *map(bool, flags))
            self.members[lane].append(one)
        for lane in names:
            if len(self.members[lane]) > 1:
                self.members[lane] = _in_order(self.members[lane])

    def before(self, lane: str, occurred_at: int, owner: tuple[int, str]) -> list[Member]:
        """What was sent of this order, or is about to be, and happened no later; but for `owner`'s own."""
        members = self.members.get(lane, [])
        return [one for one in members if one.owner != owner and one.occurred_at <= occurred_at]

    def place(
        self,
        lane: str,
        number: int,
        owner: tuple[int, str],
        occurred_at: int,
        payload: bytes,
        clear: bool,
        worth: bool,
        same_key_as: int | None,
    ) -> Member | None:
        """Put a new delivery into its lane, merged with what it follows; None when it comes too late.

        What was sent before of the same key it follows, whenever the source says by now that it happened.
        """
        members = self.members.setdefault(lane, [])
        replaced = next((one for one in members if one.id == same_key_as and not one.claimed), None)
        if replaced is not None:
            members.remove(replaced)  # superseded: the new revision takes its place
        position = max((at for at, one in enumerate(members, 1) if one.owner == owner), default=0)
        if not position:
            position = len(members)
            while position and members[position - 1].occurred_at > occurred_at:
                position -= 1
        if any(one.claimed for one in members[position:]):
            return None
        before = members[position - 1] if position else None
        after = before.id if before is not None else None
        placed = Member(number, owner, occurred_at, False, False, payload, after, clear, worth)
        if before is not None and before.payload is not None:
            placed.payload, placed.clear = self.merge(before.payload, payload), clear or before.clear
        members.insert(position, placed)
        self._rebase(members, position)
        return placed

    def has_another(self, lane: str, owner: tuple[int, str]) -> bool:
        """Whether another action has an amount for the same goal: the platform keeps one of the two."""
        members = self.members.get(lane, [])
        return any(one.worth and one.owner[1] == owner[1] and one.owner != owner for one in members)

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


def _in_order(members: list[Member]) -> list[Member]:
    """By when they happened, but none before what it was placed behind: a date that changed afterwards moves nothing."""
    by_id = {one.id: one for one in members}
    places: dict[int, tuple[int, int]] = {}
    for one in members:
        walk = [one]
        while (before := by_id.get(walk[-1].after or 0)) is not None and before.id not in places:
            walk.append(before)
        for step in reversed(walk):
            happened, depth = places.get(step.after or 0, (0, 0))
            places[step.id] = max(step.occurred_at, happened), depth + 1
    for one in members:
        one.occurred_at = places[one.id][0]
    return sorted(members, key=lambda one: (*places[one.id], one.id))
