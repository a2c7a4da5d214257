"""Which campaign a click belonged to, as Google tells it: hashes of click ids, never the ids themselves.

Google answers one day a question and keeps 90 of them (DOC, CODE google-ads 34.0.0 ClickViewError). Days are those of
the account; the last ones still grow and are read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import islice

from convsync.ledger.store import Insert, Store

LOOKBACK = 90
"""Days that can be asked for, today included."""
GROWING = 3
"""The last days, today included, that are read again."""
KEPT = 100
"""Days after which a click that no action came from is forgotten."""
CHUNK = 100_000
"""Clicks in one transaction: none is held open while the network is waited for."""

NEW_CLICKS = Insert("click (id, campaign_id, day)", 3, "ON CONFLICT (id) DO NOTHING")
READ = """
INSERT INTO click_day (account, day, read_on, clicks) VALUES (?, ?, ?, ?)
ON CONFLICT (account, day) DO UPDATE SET read_on = excluded.read_on, clicks = excluded.clicks"""


class Clicks:
    def __init__(self, store: Store) -> None:
        self.store = store

    def days_to_read(self, account: str, today: date) -> list[date]:
        """The days of an account that were not read yet, or while they still grew; the newest first."""
        read = dict(
            self.store.conn.execute("SELECT day, read_on FROM click_day WHERE account = ?", (account,)).fetchall()
        )
        days = [today - timedelta(days=back) for back in range(LOOKBACK)]
        return [day for day in days if read.get(str(day), "") < str(day + timedelta(days=GROWING))]

    def put(self, account: str, day: date, clicks: Iterable[tuple[int, str]], *, today: date) -> int:
        """Keep the clicks of one day, as `(click_hash, campaign id)`. Returns how many were given.

        The day counts as read when the last of them is in: what an interruption leaves is read again and not doubled.
        """
        rest, given = iter(clicks), 0
        while chunk := sorted(islice(rest, CHUNK)):  # in the order of the table: a million of them touch few pages
            values = [value for one in chunk for value in (*one, str(day))]
            with self.store.atomic() as conn:
                NEW_CLICKS.run(conn, values)
            given += len(chunk)
        with self.store.atomic() as conn:
            conn.execute(READ, (account, str(day), str(today), given))
        return given

    def campaign(self, click: int) -> str | None:
        """The id of the campaign of a click."""
        found = self.store.one("SELECT campaign_id FROM click WHERE id = ?", (click,))
        return None if found is None else str(found)

    def prune(self, today: date) -> int:
        """Forget old clicks that no action came from; a report of past months stays what it was. Returns how many."""
        before = str(today - timedelta(days=KEPT))
        with self.store.atomic() as conn:
            conn.execute("DELETE FROM click_day WHERE day < ?", (before,))
            return conn.execute(
                "DELETE FROM click WHERE day < ? AND id NOT IN (SELECT click FROM action WHERE click IS NOT NULL)",
                (before,),
            ).rowcount
