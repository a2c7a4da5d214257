"""Money and counts for the report: what was spent, and what it brought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import groupby, islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from convsync.ledger.store import Store
from convsync.model import Account, Spend, Tally

UPSERT_SPEND = """
INSERT INTO spend (day, platform, account, campaign_key, campaign_id, campaign, amount, currency, vat_included, clicks,
                   impressions, origin, fetched_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, platform, account, campaign_key) DO UPDATE SET
    campaign_id = excluded.campaign_id, campaign = excluded.campaign, amount = excluded.amount,
    currency = excluded.currency, vat_included = excluded.vat_included, clicks = excluded.clicks,
    impressions = excluded.impressions, origin = excluded.origin, fetched_at = excluded.fetched_at
WHERE origin NOT LIKE 'api/%' AND (campaign <> excluded.campaign OR amount <> excluded.amount
    OR currency <> excluded.currency OR vat_included IS NOT excluded.vat_included
    OR clicks IS NOT excluded.clicks OR impressions IS NOT excluded.impressions)"""
"""A campaign is its id, or its name where it has none: a renamed campaign stays the same row. What the platform itself
told of a campaign and day stands, whatever a file says."""

PULLED = """
CREATE TEMP TABLE pulled (
    day TEXT NOT NULL, campaign_key TEXT NOT NULL, campaign_id TEXT NOT NULL, campaign TEXT NOT NULL,
    amount INTEGER NOT NULL, currency TEXT NOT NULL, vat_included INTEGER, clicks INTEGER, impressions INTEGER,
    PRIMARY KEY (day, campaign_key)
) WITHOUT ROWID"""

GONE = """
DELETE FROM spend WHERE platform = :platform AND account = :account AND origin = :origin
    AND day >= :since AND day < :until AND (day, campaign_key) NOT IN (SELECT day, campaign_key FROM temp.pulled)"""

NEW = """
SELECT count(*) FROM temp.pulled p WHERE NOT EXISTS (
    SELECT 1 FROM spend s WHERE s.day = p.day AND s.platform = :platform AND s.account = :account
                          AND s.campaign_key = p.campaign_key)"""

TAKE = """
INSERT INTO spend (day, platform, account, campaign_key, campaign_id, campaign, amount, currency, vat_included, clicks,
                   impressions, origin, fetched_at)
SELECT day, :platform, :account, campaign_key, campaign_id, campaign, amount, currency, vat_included, clicks,
       impressions, :origin, :now
FROM temp.pulled WHERE true
ON CONFLICT (day, platform, account, campaign_key) DO UPDATE SET
    campaign_id = excluded.campaign_id, campaign = excluded.campaign, amount = excluded.amount,
    currency = excluded.currency, vat_included = excluded.vat_included, clicks = excluded.clicks,
    impressions = excluded.impressions, origin = excluded.origin, fetched_at = excluded.fetched_at
WHERE (campaign, amount, currency, origin) <> (excluded.campaign, excluded.amount, excluded.currency, excluded.origin)
    OR vat_included IS NOT excluded.vat_included OR clicks IS NOT excluded.clicks
    OR impressions IS NOT excluded.impressions"""
"""What a platform said takes the place of what a file said of the same campaign and day."""

DOUBLED = """
SELECT s.origin, s.platform, p.account, min(s.day), max(s.day), count(*)
FROM spend s JOIN (SELECT DISTINCT platform, account, day FROM spend WHERE origin LIKE 'api/%') p
     ON p.platform = s.platform AND p.day = s.day
WHERE s.origin NOT LIKE 'api/%' AND (s.account = '' OR lower(s.account) = p.account
    OR replace(replace(s.account, '-', ''), ' ', '') = p.account)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""

UPLOADS = """
SELECT (SELECT name FROM temp.day WHERE start <= b.created_at ORDER BY start DESC LIMIT 1), d.goal,
       CASE WHEN d.batch_id = b.id THEN d.state ELSE 'again' END, count(*)
FROM batch b JOIN destination t ON t.id = b.destination_id JOIN json_each(b.items) i
     JOIN delivery d ON d.id = i.value
WHERE t.name = :destination AND b.created_at >= :since AND b.created_at < :until AND b.state <> 'not_sent'
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""

FORM_WINDOW = timedelta(days=90)
"""For how long what a person does counts for the lead form that they filled in: what VK attributes to an offline list for,
if nothing else was said (`attribution_period`). That it fits the form as well is our choice."""
FORM_TOLERANCE = timedelta(minutes=1)
"""How much earlier than the form the CRM may say that it had the lead: their clocks differ."""

FORM = f"""
SELECT f.id FROM action f
WHERE f.lead_form = 1 AND f.person = a.person AND (a.platform = '' OR f.platform = a.platform)
  AND f.occurred_at >= a.occurred_at - {FORM_WINDOW // timedelta(milliseconds=1)}
  AND f.occurred_at <= a.occurred_at + {FORM_TOLERANCE // timedelta(milliseconds=1)}
ORDER BY f.occurred_at DESC, f.id DESC LIMIT 1"""
"""The lead form that the person of an action filled in last."""

TALLIES = f"""
SELECT (SELECT name FROM temp.day WHERE start <= a.occurred_at ORDER BY start DESC LIMIT 1),
       coalesce(f.platform, a.platform),
       CASE WHEN a.campaign <> '' THEN a.campaign ELSE
            coalesce((SELECT campaign_id FROM click WHERE id = a.click AND a.platform = 'google'), f.campaign, '') END,
       a.action, a.kind, a.source, a.currency,
       (SELECT max(CASE WHEN d.state IN ('accepted', 'confirmed') THEN 3 WHEN d.state = 'unknown' THEN 2
                        WHEN d.state = 'superseded' THEN 0 ELSE 1 END)
        FROM delivery d JOIN destination t ON t.id = d.destination_id
        WHERE d.action_id = a.id AND t.platform = coalesce(f.platform, a.platform)),
       count(*), sum(a.value)
FROM action a LEFT JOIN action f ON f.id =
     CASE WHEN a.campaign = '' AND a.lead_form = 0 AND a.person IS NOT NULL THEN ({FORM}) END
WHERE a.status = 'active' AND a.occurred_at >= :since AND a.occurred_at < :until
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""
"""An action that names no campaign counts for the campaign of its click, where Google told it (`clicks`), else for that of
the lead form which the same person filled in last; a click of another platform goes before a form.
The eighth column says how far the best delivery to that platform got: 3 taken, 2 unknown, 1 addressed."""

SAME_LEAD = timedelta(hours=4)
"""A lead of the same person so near to that of a form is the same one, told by another source: VK's times may be three hours
off (its zone is UNSURE)."""

TOLD_TWICE = f"""
SELECT f.source, a.source, count(DISTINCT a.id)
FROM action a CROSS JOIN action f ON f.lead_form = 1 AND f.person = a.person
     AND f.occurred_at >= a.occurred_at - {SAME_LEAD // timedelta(milliseconds=1)}
     AND f.occurred_at <= a.occurred_at + {SAME_LEAD // timedelta(milliseconds=1)}
WHERE a.lead_form = 0 AND a.person IS NOT NULL AND a.kind = 'lead' AND a.status = 'active' AND f.kind = 'lead'
  AND f.status = 'active' AND f.source <> a.source AND a.occurred_at >= :since AND a.occurred_at < :until
GROUP BY 1, 2 ORDER BY 1, 2"""


CHUNK = 5000


class Pulled(NamedTuple):
    """What a platform told of an account, against what was known of it."""

    rows: int
    new: int
    changed: int
    removed: int


class Doubled(NamedTuple):
    """Rows of a file beside what a platform told of the same account and days: money that counts twice."""

    origin: str
    platform: str
    account: str
    first: date
    last: date
    rows: int


class Uploads(NamedTuple):
    """How many conversions for a goal left in requests of one day, and where those now stand that were last sent then.

    `state` is a `State`, or `again` for what was sent once more later.
    """

    day: date
    goal: str
    state: str
    rows: int


class Figures:
    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, spends: Iterable[Spend], origin: str, *, now: int) -> tuple[int, int]:
        """Add or correct what was spent. Returns how many rows were given, and how many of them changed anything."""
        given = changed = 0
        with self.store.atomic() as conn:
            for one in spends:
                given += 1
                day, key, *told = _row(one)
                row = (day, one.platform, one.account, key, *told, origin, now)
                changed += conn.execute(UPSERT_SPEND, row).rowcount
        return given, changed

    def pull(self, account: Account, since: date, until: date, spends: Iterable[Spend], *, now: int) -> Pulled:
        """Put what a platform says was spent from an account on the days `since <= day < until` in the place of what it
        said before: rows it no longer tells of go, in one transaction with those that come.

        The rows gather in a table beside the ledger first: no transaction is held open while the network is waited for.
        """
        conn = self.store.conn
        conn.execute("DROP TABLE IF EXISTS temp.pulled")
        conn.execute(PULLED)
        rest, rows = iter(spends), 0
        while chunk := [_row(one) for one in islice(rest, CHUNK)]:
            conn.executemany("INSERT INTO temp.pulled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", chunk)
            rows += len(chunk)
        bound = {
            "platform": account.platform, "account": account.id, "origin": origin_of(account.platform),
            "since": str(since), "until": str(until), "now": now,
        }  # fmt: skip
        with self.store.atomic() as conn:
            removed = conn.execute(GONE, bound).rowcount
            new = conn.execute(NEW, bound).fetchone()[0]
            changed = conn.execute(TAKE, bound).rowcount - new
            self._remember(account, since, until - timedelta(days=1), now)
        conn.execute("DROP TABLE temp.pulled")
        return Pulled(rows, new, changed, removed)

    def _remember(self, account: Account, first: date, last: date, now: int) -> None:
        """The account, and the days that were asked about: joined to those known before, unless there is a gap."""
        known = self.store.conn.execute(
            "SELECT spend_since, spend_until FROM account WHERE platform = ? AND id = ?", (account.platform, account.id)
        ).fetchone()
        if known is not None:
            since, until = map(date.fromisoformat, known)
            if first <= until + timedelta(days=1) and since <= last + timedelta(days=1):
                first, last = min(first, since), max(last, until)
            elif until > last:
                first, last = since, until
        self.store.conn.execute(
            "INSERT OR REPLACE INTO account (platform, id, name, currency, time_zone, read_at, spend_since, spend_until)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*account, now, str(first), str(last)),
        )

    def asked(self) -> dict[str, tuple[date, date]]:
        """By platform: the first and last day about which all of its accounts were asked what was spent."""
        query = "SELECT platform, max(spend_since), min(spend_until) FROM account GROUP BY platform"
        spans = {
            platform: (date.fromisoformat(first), date.fromisoformat(last))
            for platform, first, last in self.store.conn.execute(query)
        }
        return {platform: span for platform, span in spans.items() if span[0] <= span[1]}

    def pulled_until(self, platform: str, account: str) -> date | None:
        """The last day whose cost was asked for."""
        found = self.store.one("SELECT spend_until FROM account WHERE platform = ? AND id = ?", (platform, account))
        return None if found is None else date.fromisoformat(found)

    def accounts(self, since: date, until: date) -> list[Account]:
        """The accounts that told what was spent on the days `since <= day < until`."""
        query = (
            "SELECT platform, id, name, currency, time_zone FROM account WHERE (platform, id) IN (SELECT platform, account"
            " FROM spend WHERE origin LIKE 'api/%' AND day >= ? AND day < ?) ORDER BY platform, id"
        )
        return [Account(*told) for told in self.store.conn.execute(query, (str(since), str(until)))]

    def doubled(self) -> list[Doubled]:
        """Imported rows of accounts and days of which the platform told the cost as well."""
        return [
            Doubled(origin, platform, account, date.fromisoformat(first), date.fromisoformat(last), rows)
            for origin, platform, account, first, last, rows in self.store.conn.execute(DOUBLED)
        ]

    def origins(self) -> dict[str, int]:
        """The files that cost was imported from, and how many rows of each are there."""
        query = "SELECT origin, count(*) FROM spend WHERE origin NOT LIKE 'api/%' GROUP BY origin ORDER BY origin"
        return dict(self.store.conn.execute(query).fetchall())

    def drop(self, origin: str, platform: str | None) -> int:
        """Take out what was imported from a file, of one platform or all. Returns how many rows."""
        with self.store.atomic() as conn:
            return conn.execute(
                "DELETE FROM spend WHERE origin = ? AND platform = coalesce(?, platform)", (origin, platform)
            ).rowcount

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
        if since >= until:
            return
        bound = self._days(since, until, zone)
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

    def told_twice(self, since: date, until: date, zone: ZoneInfo) -> list[tuple[str, str, int]]:
        """Source of lead forms, another source, and how many leads of that seem to be leads of the forms: both count."""
        span = {"since": _midnight(since, zone), "until": _midnight(until, zone)}
        return self.store.conn.execute(TOLD_TWICE, span).fetchall()

    def uploads(self, destination: str, since: date, until: date, zone: ZoneInfo) -> Iterator[Uploads]:
        """What left for a destination on the days `since <= day < until` of `zone`, as it stands now.

        Counted by request: what the platform got twice counts on both days, what it certainly did not get on none.
        """
        if since >= until:
            return
        bound = self._days(since, until, zone) | {"destination": destination}
        for day, *told in self.store.conn.execute(UPLOADS, bound):
            yield Uploads(date.fromisoformat(day), *told)

    def sent_since(self, destination: str, since: int) -> int:
        """How many requests left for a destination since `since` (epoch milliseconds)."""
        query = (
            "SELECT count(*) FROM batch b JOIN destination t ON t.id = b.destination_id"
            " WHERE t.name = ? AND b.created_at >= ? AND b.state <> 'not_sent'"
        )
        return int(self.store.one(query, (destination, since)))

    def sent_before(self, batch: int, destination_id: int) -> bool:
        """Whether anything was sent to a destination before this batch."""
        query = "SELECT 1 FROM batch WHERE destination_id = ? AND id < ? LIMIT 1"
        return self.store.one(query, (destination_id, batch)) is not None

    def waits(self, first_batch: int, destination_id: int) -> Iterator[tuple[str, int]]:
        """Of what was told for the first time: the name of each action and the milliseconds from it to its upload.

        At most a thousand rows of each request, spread over it.
        """
        yield from self.store.conn.execute(
            "SELECT a.action, b.created_at - a.occurred_at FROM batch b CROSS JOIN json_each(b.items) i"
            " CROSS JOIN delivery d ON d.id = i.value CROSS JOIN action a ON a.id = d.action_id"
            " WHERE b.id >= ? AND b.destination_id = ? AND b.state = 'done' AND d.revision = 1"
            " AND i.key % max(1, b.n / 1000) = 0",
            (first_batch, destination_id),
        )

    def _days(self, since: date, until: date, zone: ZoneInfo) -> dict[str, int | str]:
        """Lay out the days in `temp.day`; returns the first moment of the span and the one that ends it."""
        conn = self.store.conn
        conn.execute("DROP TABLE IF EXISTS temp.day")
        conn.execute("CREATE TEMP TABLE day (start INTEGER PRIMARY KEY, name TEXT)")
        days = [since + timedelta(days=number) for number in range((until - since).days)]
        conn.executemany("INSERT INTO temp.day VALUES (?, ?)", [(_midnight(day, zone), str(day)) for day in days])
        return {"since": _midnight(since, zone), "until": _midnight(until, zone)}


def origin_of(platform: str) -> str:
    """What stands as the origin of rows that a platform told itself; no file has a slash in its name."""
    return f"api/{platform}"


def _row(one: Spend) -> tuple[object, ...]:
    """Day and key of a campaign, and what was spent on it. Without an id, its name is its key."""
    return (
        str(one.day), one.campaign_id or one.campaign.casefold(), one.campaign_id, one.campaign, one.amount,
        one.currency, one.vat_included, one.clicks, one.impressions,
    )  # fmt: skip


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp() * 1000)
