"""Files that a platform fetches by itself: which orders go into one, and that they were in it.

A file holds one row an order: its newest state. What has been in a file is `held` with a reason that begins with
`exported`, and may have reached the platform; whether it has is for a person to say (`Recorder.resolve`). It stays in the
files for as long as the platform wants to see it again, before that word and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from convsync.errors import ConvsyncError
from convsync.ledger import events
from convsync.ledger.store import Store
from convsync.model import State

EXPORTED = "exported: a person says when the platform has taken the file"
WITHIN = "exported within a later state of its order"
"""Both begin alike, so that one `--reason exported` means them all."""

WAS_EXPORTED = "{0}.state = 'held' AND {0}.reason GLOB 'exported*'"

CHOOSE = f"""
INSERT INTO temp.in_file
SELECT d.id, last_value(d.id) OVER states, count(*) OVER states, row_number() OVER (PARTITION BY d.lane ORDER BY a.occurred_at, d.id),
       d.state = 'pending', d.lane, a.occurred_at
FROM delivery d JOIN action a ON a.id = d.action_id
WHERE d.destination_id = :destination AND d.lane IS NOT NULL AND a.occurred_at < :until AND (
    (d.state = 'pending' AND d.not_before <= :now)
    OR ({WAS_EXPORTED.format("d")} AND (a.occurred_at >= :since OR d.updated_at >= :since))
    OR (d.state = 'accepted' AND d.reached & 2 AND (a.occurred_at >= :since OR d.planned_at >= :since)))
WINDOW states AS (PARTITION BY d.lane ORDER BY a.occurred_at, d.id
                  ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"""
"""What was never in a file goes into this one, however long ago it happened: else it never would."""

OVERTAKEN = """
DELETE FROM temp.in_file WHERE last IN (SELECT f.id FROM temp.in_file f WHERE f.id = f.last AND EXISTS (
    SELECT 1 FROM delivery n JOIN action b ON b.id = n.action_id
    WHERE n.destination_id = :destination AND n.lane = f.lane AND (b.occurred_at, n.id) > (f.occurred_at, f.id)
      AND (n.reached OR n.state = 'in_flight')))"""
"""Orders of which the platform was told a later state already: an older one would turn them back."""

COUNT = """
SELECT count(*), coalesce(sum(f.waiting AND NOT told), 0), coalesce(sum(f.waiting AND told), 0) FROM (
    SELECT f.*, EXISTS (SELECT 1 FROM delivery e WHERE e.destination_id = :destination AND e.lane = f.lane AND e.reached) AS told
    FROM temp.in_file f WHERE f.id = f.last) f"""


class InFile(NamedTuple):
    """The orders of one file, and how many of them were in none before, or in another state."""

    orders: int
    new: int
    changed: int


class Standing(NamedTuple):
    """What one destination that fetches files has in the ledger."""

    waiting: int
    """Orders that were in no file yet as they are now."""
    exported: int
    """Orders that were in one and wait for a person's word."""


class Exports:
    """Chooses what is in a file, reads it, and marks it. What is chosen is kept until the next choice."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def choose(self, destination_id: int, since: int, until: int, *, now: int) -> InFile:
        """What happened before `until` (epoch ms) and was in no file, and what was in one and happened, or first was in
        one, at `since` or later."""
        conn = self.store.conn
        conn.execute("DROP TABLE IF EXISTS temp.in_file")
        conn.execute(
            "CREATE TEMP TABLE in_file (id INTEGER PRIMARY KEY, last INTEGER, states INTEGER, place INTEGER,"
            " waiting INTEGER, lane TEXT, occurred_at INTEGER)"
        )
        bound = {"destination": destination_id, "since": since, "until": until, "now": now}
        conn.execute(CHOOSE, bound)
        conn.execute(OVERTAKEN, bound)
        return InFile(*conn.execute(COUNT, bound).fetchone())

    def payloads(self, newest: Callable[[Sequence[bytes]], bytes]) -> Iterator[bytes]:
        """One an order. `newest` makes the row of an order that has several states in the file, given in their order."""
        conn, told = self.store.conn, 0
        conn.execute("CREATE INDEX IF NOT EXISTS temp.in_file_last ON in_file (last, place)")
        several = (
            "SELECT p.body FROM temp.in_file f JOIN payload p ON p.delivery_id = f.id WHERE f.last = ? ORDER BY f.place"
        )
        found = conn.execute(
            "SELECT f.id, f.states, p.body FROM temp.in_file f JOIN payload p ON p.delivery_id = f.id"
            " WHERE f.id = f.last ORDER BY f.id"
        )
        for number, states, body in found:
            yield body if states == 1 else newest([row[0] for row in conn.execute(several, (number,))])
            told += 1
        lost = conn.execute("SELECT count(*) FROM temp.in_file WHERE id = last").fetchone()[0] - told
        if lost:
            raise ConvsyncError(f"{lost} orders have lost what they would tell.", "See `convsync ledger verify`.")

    def mark(self, *, now: int, run_id: str) -> int:
        """Note, before the file is there, that the platform may have what is chosen. Returns how many deliveries."""
        marked = 0
        with self.store.atomic() as conn:
            for reason, which in ((EXPORTED, "id = last"), (WITHIN, "id <> last")):
                found = conn.execute(
                    "UPDATE delivery SET state = 'held', reason = ?, reached = reached | 2, updated_at = ?"
                    f" WHERE id IN (SELECT id FROM temp.in_file WHERE waiting AND {which}) AND state = 'pending' RETURNING id",
                    (reason, now),
                )
                ids = sorted(row[0] for row in found)
                if ids:
                    said = {"to": State.HELD.value, "reason": reason, "ids": ids}
                    events.append(conn, "moved", said, at=now, run_id=run_id, deliveries=ids)
                marked += len(ids)
        return marked

    def standing(self, destination_id: int, *, now: int) -> Standing:
        return Standing(
            *self.store.conn.execute(
                "SELECT count(DISTINCT CASE WHEN state = 'pending' THEN lane END),"
                " count(DISTINCT CASE WHEN exported THEN lane END) FROM ("
                f"SELECT d.state, d.lane, {WAS_EXPORTED.format('d')} AS exported FROM delivery d WHERE d.destination_id = :destination"
                " AND d.state = 'held' UNION ALL SELECT 'pending', d.lane, 0 FROM delivery d"
                " WHERE d.destination_id = :destination AND d.state = 'pending' AND d.not_before <= :now)",
                {"destination": destination_id, "now": now},
            ).fetchone()
        )
