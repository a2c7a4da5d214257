"""What a platform counts of a pixel's goals by the day, and what was sent for them: the two sides of a comparison.

A platform that gives no verdict on a conversion (VK's pixel) may tell such counts. They never move a delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from typing import NamedTuple

from convsync.ledger.store import Store

MOSCOW = timezone(timedelta(hours=3))
"""Its days are those of VK's statistics; the same offset all year, since 2014."""
DAY = timedelta(days=1)

COUNTED = """
SELECT day, goal, sum(conversions) FROM goal_day
WHERE platform = :platform AND counter = :counter AND day >= :since AND day < :until GROUP BY 1, 2 ORDER BY 1, 2"""

READ = """
SELECT day, min(read_at) FROM goal_read
WHERE platform = :platform AND counter = :counter AND day >= :since AND day < :until GROUP BY 1"""
"""Where several accounts count one pixel, a day is as old as the oldest reading of it."""

SENT = """
SELECT date(b.created_at / 1000, 'unixepoch', '+3 hours'), d.goal,
    CASE WHEN d.batch_id = b.id AND d.state IN ('accepted', 'confirmed', 'unknown')
         THEN CASE WHEN t.name <> :destination THEN 'other' WHEN d.state = 'unknown' THEN 'unknown' ELSE 'accepted' END
         WHEN b.state IN ('in_flight', 'unknown', 'resent') THEN 'other' ELSE 'refused' END AS became,
    count(*), max(b.created_at)
FROM batch b JOIN destination t ON t.id = b.destination_id JOIN json_each(b.items) i
     JOIN delivery d ON d.id = i.value
WHERE t.platform = :platform AND t.door = '' AND t.account = :counter
  AND b.created_at >= :since AND b.created_at < :until AND b.state <> 'not_sent'
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
"""By request, as a platform that keeps no id counts. What was sent once more is `other` on the day of the request whose
answer was lost, and so are what another section sent to the same goal, and what a person gave up while it was in doubt: that it
shall not be sent again does not say that it never arrived. That it was sent they can say; it stands in the state."""


class Counted(NamedTuple):
    """What the platform counted of one goal on one day."""

    day: date
    goal: str
    conversions: int


class Sent(NamedTuple):
    """What left in requests of one day for one goal, as it stands now."""

    day: date
    goal: str
    accepted: int
    unknown: int
    other: int
    """May have been counted as well: requests in doubt whose rows stand elsewhere now, and those of other sections."""
    last: int
    """When the last of these requests began, epoch milliseconds."""


class Goals:
    def __init__(self, store: Store) -> None:
        self.store = store

    def pull(
        self,
        platform: str,
        account: str,
        counter: str,
        since: date,
        until: date,
        counts: Iterable[tuple[date, str, int, str | None]],
        *,
        now: int,
    ) -> None:
        """Put what an account counts of a pixel on the days `since <= day < until` in the place of what it said before.

        `counts`: day, goal, how many, and their value as a decimal number; what is not among them was not counted.
        """
        whose = (platform, account, counter)
        rows = [(*whose, str(day), *told) for day, *told in counts]
        days = [(*whose, str(since + DAY * number), now) for number in range((until - since).days)]
        with self.store.atomic() as conn:
            conn.execute(
                "DELETE FROM goal_day WHERE platform = ? AND account = ? AND counter = ? AND day >= ? AND day < ?",
                (*whose, str(since), str(until)),
            )
            conn.executemany(
                "INSERT INTO goal_day (platform, account, counter, day, goal, conversions, value)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            conn.executemany(
                "INSERT OR REPLACE INTO goal_read (platform, account, counter, day, read_at) VALUES (?, ?, ?, ?, ?)",
                days,
            )

    def read_until(self, platform: str, account: str, counter: str) -> date | None:
        """The last day whose counts were asked for."""
        query = "SELECT max(day) FROM goal_read WHERE platform = ? AND account = ? AND counter = ?"
        found = self.store.one(query, (platform, account, counter))
        return None if found is None else date.fromisoformat(found)

    def counted(self, platform: str, counter: str, since: date, until: date) -> Iterator[Counted]:
        """What all accounts together counted on the days `since <= day < until`; zeros are not there."""
        for day, goal, conversions in self.store.conn.execute(COUNTED, _bound(platform, counter, since, until)):
            yield Counted(date.fromisoformat(day), goal, conversions)

    def read_at(self, platform: str, counter: str, since: date, until: date) -> dict[date, int]:
        """By day whose counts were asked for: when (epoch milliseconds)."""
        found = self.store.conn.execute(READ, _bound(platform, counter, since, until))
        return {date.fromisoformat(day): moment for day, moment in found}

    def sent(self, platform: str, destination: str, counter: str, since: date, until: date) -> Iterator[Sent]:
        """What a destination sent to a pixel on the days `since <= day < until` of Moscow."""
        bound = {"platform": platform, "destination": destination, "counter": counter}
        rows: dict[tuple[str, str], dict[str, int]] = {}
        lasts: dict[tuple[str, str], int] = {}
        for day, goal, became, number, last in self.store.conn.execute(
            SENT, bound | {"since": _midnight(since), "until": _midnight(until)}
        ):
            rows.setdefault((day, goal), {})[became] = number
            lasts[day, goal] = max(last, lasts.get((day, goal), 0))
        for (day, goal), of in rows.items():
            counts = (of.get("accepted", 0), of.get("unknown", 0), of.get("other", 0))
            yield Sent(date.fromisoformat(day), goal, *counts, lasts[day, goal])


def _bound(platform: str, counter: str, since: date, until: date) -> dict[str, str]:
    return {"platform": platform, "counter": counter, "since": str(since), "until": str(until)}


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), MOSCOW).timestamp() * 1000)
