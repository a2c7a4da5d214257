"""Taking in a page of actions: what is to be sent, and how far the source was read.

One transaction holds all of it, cursor included, so that a crash re-reads at most one page and the ledger's unique
keys drop the repeats.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from convsync.ledger.page import PageWriter, Traits
from convsync.ledger.rows import Taken
from convsync.ledger.store import Store
from convsync.model import BadRow, Mapped


class Planner:
    """Writes pages. `traits`, by the name of a destination and its door, are set by the engine once a run."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.traits: dict[tuple[str, str], Traits] = {}

    def page(
        self,
        mapped: Sequence[Mapped],
        bad: Sequence[BadRow] = (),
        mark: tuple[str, str, str] | None = None,
        *,
        now: int,
        run_id: str | None = None,
    ) -> Taken:
        """Take in one page and, in the same transaction, the source's mark `(source, part, value)`."""
        with self.store.atomic() as conn:
            writer = PageWriter(conn, self.traits, now)
            writer.take(mapped)
            taken = writer.rows.finish(run_id)
            taken.bad = [row for row in bad if self._is_new(conn, row, now)]
            if taken.bad:
                taken.skipped["bad_row"] += len(taken.bad)
            if mark is not None:
                conn.execute(
                    "INSERT INTO mark VALUES (?, ?, ?, ?) ON CONFLICT (source, part) DO UPDATE"
                    " SET value = excluded.value, updated_at = excluded.updated_at WHERE value <> excluded.value",
                    (*mark, now),
                )
        return taken

    def marks(self, source: str) -> dict[str, str]:
        """How far a source was read: part → value."""
        return dict(self.store.conn.execute("SELECT part, value FROM mark WHERE source = ?", (source,)))

    def _is_new(self, conn: sqlite3.Connection, row: BadRow, now: int) -> bool:
        """Remember a bad row. It is told once, however often an overlap brings it up again."""
        told = conn.execute(
            "INSERT INTO bad_row VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (row.source, row.where, row.field, row.problem, row.advice, now),
        )
        return told.rowcount > 0
