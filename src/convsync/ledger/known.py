"""What the ledger knows of the actions of a page, and what was told of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from convsync.model import Mapped, State


class Known(NamedTuple):
    """An action as the ledger remembers it."""

    id: int
    updated_at: int | None
    facts: tuple[object, ...]


class Sent(NamedTuple):
    """The newest revision of a key, and whether any revision of it may have reached the platform."""

    id: int
    revision: int
    state: str
    attempts: int
    after: int | None
    lane: str | None
    told: tuple[object, ...]
    reached: bool
    erased: bool = False
    """Whether its contact was erased, so that it cannot be sent as it is."""


def known_of(conn: sqlite3.Connection, mapped: Sequence[Mapped]) -> dict[tuple[str, str, str], Known]:
    """By source, external id and name of the action."""
    found: dict[tuple[str, str, str], Known] = {}
    for source in {one.action.source for one in mapped}:
        ids = list({one.action.external_id for one in mapped if one.action.source == source})
        query = (
            "SELECT external_id, action, id, updated_at, kind, occurred_at, value, currency, order_id, status,"
            f" platform, campaign, click, person, lead_form FROM action WHERE source = ? AND external_id IN ({marks(len(ids))})"
        )
        for external_id, action, number, updated_at, *facts in conn.execute(query, (source, *ids)):
            found[source, external_id, action] = Known(number, updated_at, tuple(facts))
    return found


def sent_of(conn: sqlite3.Connection, action_ids: Sequence[int]) -> dict[int, dict[tuple[int, str], Sent]]:
    """By action: the newest revision of each of its keys, by destination and goal."""
    query = (
        "SELECT action_id, destination_id, goal, id, revision, state, attempts, after_id, lane, reached, clear,"
        " value, currency, status"
        f" FROM delivery WHERE action_id IN ({marks(len(action_ids))}) ORDER BY action_id, destination_id, goal, revision"
    )
    found: dict[int, dict[tuple[int, str], Sent]] = {one: {} for one in action_ids}
    for action_id, destination_id, goal, *facts in conn.execute(query, tuple(action_ids)):
        number, revision, state, attempts, after, lane, had, clear, *told = facts
        mine = found[action_id]
        before = mine.get((destination_id, goal))
        reached = (before is not None and before.reached) or bool(had) or state == State.IN_FLIGHT
        sent = Sent(number, revision, state, attempts, after, lane, tuple(told), reached, clear == 2)
        mine[destination_id, goal] = sent
    return found


def marks(count: int) -> str:
    return ",".join("?" * count)
