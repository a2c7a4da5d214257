"""Rows that a platform tells apart by what is in them: two conversions must not come to be one row there.

Metrica knows an offline conversion by its id, goal and second. Two sales of one client in the same second would count as
one, so the later one moves to the next second that is free, once: the ledger keeps what was chosen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from convsync.model import Conversion


class Identities:
    """The rows of one destination that a page touches."""

    def __init__(
        self, conn: sqlite3.Connection, destination_id: int, shift: Callable[[Conversion], Conversion]
    ) -> None:
        self.conn = conn
        self.destination_id = destination_id
        self.shift = shift
        self.owners: dict[str, tuple[int, str] | None] = {}
        """Whose each is: its action and goal; None: nobody's."""

    def load(self, identities: Iterable[str]) -> None:
        """Look up whose these are."""
        names = list(set(identities) - self.owners.keys())
        self.owners.update(dict.fromkeys(names))
        query = (
            "SELECT identity, action_id, goal FROM delivery"
            f" WHERE destination_id = ? AND identity IN ({','.join('?' * len(names))})"
        )
        for identity, action_id, goal in self.conn.execute(query, (self.destination_id, *names)):
            self.owners[identity] = (action_id, goal)

    def place(self, action_id: int, conversion: Conversion) -> tuple[Conversion, int]:
        """The conversion, or the nearest that nobody else stands for, and how many shifts that took."""
        mine = (action_id, conversion.goal)
        shifts = 0
        while True:
            if conversion.identity not in self.owners:
                self.load((conversion.identity,))
            if self.owners[conversion.identity] in (None, mine):
                self.owners[conversion.identity] = mine
                return conversion, shifts
            conversion = self.shift(conversion)
            shifts += 1
