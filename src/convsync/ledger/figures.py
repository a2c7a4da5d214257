"""Money and counts for the report: what was spent, and what it brought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from convsync.ledger.store import Store
from convsync.model import Spend, Tally

UPSERT_SPEND = """
INSERT INTO spend (day, platform, account, campaign_key, campaign_id, campaign, amount, currency, vat_included, clicks,
                   impressions, origin, fetched_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, platform, account, campaign_key) DO UPDATE SET
    campaign_id = excluded.campaign_id, campaign = excluded.campaign, amount = excluded.amount,
    currency = excluded.currency, vat_included = excluded.vat_included, clicks = excluded.clicks,
    impressions = excluded.impressions, origin = excluded.origin, fetched_at = excluded.fetched_at
WHERE (campaign, amount, currency, coalesce(vat_included, -1), coalesce(clicks, -1), coalesce(impressions, -1)) <>
      (excluded.campaign, excluded.amount, excluded.currency, coalesce(excluded.vat_included, -1),
       coalesce(excluded.clicks, -1), coalesce(excluded.impressions, -1))"""
"""A campaign is its id, or its name where it has none: a renamed campaign stays the same row."""

TALLIES = """
SELECT (SELECT name FROM temp.day WHERE start <= a.occurred_at ORDER BY start DESC LIMIT 1),
       a.platform, a.campaign, a.action, a.kind, a.source, a.currency,
       (SELECT max(CASE WHEN d.state IN ('accepted', 'confirmed') THEN 3 WHEN d.state = 'unknown' THEN 2
                        WHEN d.state = 'superseded' THEN 0 ELSE 1 END)
        FROM delivery d JOIN destination t ON t.id = d.destination_id
        WHERE d.action_id = a.id AND t.platform = a.platform),
       count(*), sum(a.value)
FROM action a WHERE a.status = 'active' AND a.occurred_at >= :since AND a.occurred_at < :until
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""
"""The eighth column says how far the best delivery to the platform of the click got: 3 taken, 2 unknown, 1 addressed."""


class Figures:
    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, spends: Iterable[Spend], origin: str, *, now: int) -> tuple[int, int]:
        """Add or correct what was spent. Returns how many rows were given, and how many of them changed anything."""
        given = changed = 0
        with self.store.atomic() as conn:
            for one in spends:
                given += 1
                row = (
                    one.day.isoformat(), one.platform, one.account, one.campaign_id or one.campaign.casefold(),
                    one.campaign_id, one.campaign, one.amount, one.currency, one.vat_included, one.clicks,
                    one.impressions, origin, now,
                )  # fmt: skip
                changed += conn.execute(UPSERT_SPEND, row).rowcount
        return given, changed

    def spends(self, since: date, until: date) -> Iterator[Spend]:
        """What was spent on the days `since <= day < until`."""
        query = (
            "SELECT day, platform, account, campaign_id, campaign, amount, currency, vat_included, clicks, impressions"
            " FROM spend WHERE day >= ? AND day < ? ORDER BY day, platform, campaign_id, campaign"
        )
        for day, platform, account, campaign_id, campaign, amount, currency, vat, *seen in self.store.conn.execute(
            query, (since.isoformat(), until.isoformat())
        ):
            taxed = None if vat is None else bool(vat)
            paid = (platform, account, campaign_id, campaign, amount, currency)
            yield Spend(date.fromisoformat(day), *paid, taxed, *seen)

    def tallies(self, since: date, until: date, zone: ZoneInfo) -> Iterator[Tally]:
        """Actions that stand today (nothing cancelled, refunded or spam), dated by when they happened, in `zone`."""
        starts = [since + timedelta(days=number) for number in range((until - since).days)]
        if not starts:
            return
        self.store.conn.execute("DROP TABLE IF EXISTS temp.day")
        self.store.conn.execute("CREATE TEMP TABLE day (start INTEGER PRIMARY KEY, name TEXT)")
        self.store.conn.executemany(
            "INSERT INTO temp.day VALUES (?, ?)", [(_midnight(day, zone), str(day)) for day in starts]
        )
        bound = {"since": _midnight(since, zone), "until": _midnight(until, zone)}
        rows = self.store.conn.execute(TALLIES, bound)
        for (day, *same), group in groupby(rows, key=lambda row: row[:7]):
            reached = list(group)
            values = [value for *_, value in reached if value is not None]
            counts = (sum(n for *_, n, _ in reached), sum(values) if values else None)
            far = [sum(n for *_, reach, n, _ in reached if reach in steps) for steps in ((1, 2, 3), (3,), (2,))]
            platform, campaign, action, kind, source, currency = same
            of = (platform, campaign, action, kind, source, currency)
            addressed, taken, unknown = far
            yield Tally(date.fromisoformat(day), *of, *counts, addressed, taken, unknown)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp() * 1000)
