"""What convsync remembers: actions, deliveries and all that became of them. Written before the wire, recorded after it.

The ledger plans, claims and records; `verify` reads it all again and checks every promise. SQL lives only in this folder.
"""

from __future__ import annotations

from pathlib import Path

from convsync.ledger import schema
from convsync.ledger.audit import Audit, Filter
from convsync.ledger.claim import Batch, Claimer, Lease
from convsync.ledger.clicks import Clicks
from convsync.ledger.figures import Figures
from convsync.ledger.goals import Goals
from convsync.ledger.moves import Patience
from convsync.ledger.page import Traits
from convsync.ledger.plan import Planner
from convsync.ledger.record import Doubt, Poll, Recorder
from convsync.ledger.rows import Taken
from convsync.ledger.runs import Runs
from convsync.ledger.store import Lock, Store

__all__ = [
    "Audit",
    "Batch",
    "Doubt",
    "Figures",
    "Filter",
    "Lease",
    "Ledger",
    "Lock",
    "Patience",
    "Poll",
    "Taken",
    "Traits",
]


class Ledger:
    """One open ledger. The rooms share its connection, which belongs to the thread that opened it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.plan = Planner(store)
        self.claim = Claimer(store)
        self.record = Recorder(store)
        self.runs = Runs(store)
        self.audit = Audit(store)
        self.figures = Figures(store)
        self.clicks = Clicks(store)
        self.goals = Goals(store)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open the ledger at `path`; a writer makes it, and brings an older schema up to date, under the lock it holds."""
        store = Store(path, read_only=read_only)
        try:
            schema.migrate(store)
        except BaseException:
            store.close()
            raise
        return cls(store)

    def close(self) -> None:
        self.store.close()
