"""What Google Ads says was spent, and whose clicks they were, through any way to ask it (`Search`).

Rows are messages as the Google Ads API sends them, in account currency and in the days of the account. A manager account
has no cost of its own: Google refuses to tell metrics of one (DOC, `QueryError.REQUESTED_METRICS_FOR_MANAGER`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from convsync.errors import SourceError, UsageError
from convsync.model import Account, Spend, click_hash
from convsync.normalise import is_currency, minor_units

Search = Callable[[str, str], Iterable[Any]]
"""`(customer id, GAQL)` → rows, as they arrive."""

FIRST_DAYS = 30
"""How far back the first reading of an account goes."""
AGAIN_DAYS = 7
"""Days read again before the last one that was read: Google corrects its numbers for some days."""
MONTHS = 37
"""How long Google keeps numbers by the day. DOC ads/deprecations, since 2026-06-01."""

ENABLED = 2
"""CustomerStatusEnum. CODE google-ads 34.0.0, the same in v23 to v26."""
MILLION = Decimal(1_000_000)

CUSTOMER = (
    "SELECT customer.id, customer.descriptive_name, customer.currency_code, customer.time_zone, customer.manager,"
    " customer.status FROM customer"
)
CLIENTS = (
    "SELECT customer_client.id, customer_client.descriptive_name, customer_client.currency_code,"
    " customer_client.time_zone, customer_client.manager, customer_client.status FROM customer_client"
    " WHERE customer_client.manager = FALSE"
)
COST = (
    "SELECT campaign.id, campaign.name, segments.date, metrics.cost_micros, metrics.clicks, metrics.impressions"
    " FROM campaign WHERE segments.date BETWEEN '{since}' AND '{until}'"
)
CLICKS = "SELECT click_view.gclid, campaign.id, segments.date FROM click_view WHERE segments.date = '{day}'"


class Accounts(NamedTuple):
    """The accounts that an id stands for: itself, or the clients below a manager account."""

    spending: tuple[Account, ...]
    closed: tuple[str, ...]
    """Ids of accounts that are not in use (cancelled, suspended, closed): nothing is asked of them."""


def accounts(search: Search, customer_id: str) -> Accounts:
    """Find the accounts that money is spent from. Whatever `search` raises passes through."""
    spending, closed = [], []
    for row in search(customer_id, CUSTOMER):
        found = (
            [one.customer_client for one in search(customer_id, CLIENTS)] if row.customer.manager else [row.customer]
        )
        for one in found:
            if one.status == ENABLED:
                spending.append(_account(one))
            else:
                closed.append(str(one.id))
    return Accounts(tuple(spending), tuple(closed))


def _account(told: Any) -> Account:
    if not is_currency(told.currency_code):
        raise SourceError(
            f"Google Ads counts the account {told.id} in {told.currency_code[:10]!r}, which is no currency of ISO 4217.",
            "Its cost cannot be kept.",
        )
    return Account("google", str(told.id), told.descriptive_name, told.currency_code, told.time_zone)


def zone(account_id: str, time_zone: str) -> ZoneInfo:
    """The zone whose days an account counts."""
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise SourceError(
            f"The account {account_id} counts its days in {time_zone[:40]!r}, a time zone unknown to this machine.",
            "Bring the time zone data up to date (package tzdata).",
        ) from None


def today(account: Account, now: datetime) -> date:
    """The day it is where the account is."""
    return now.astimezone(zone(account.id, account.time_zone)).date()


def span(since: date | None, until: date | None, *, today: date, pulled_until: date | None) -> tuple[date, date] | None:
    """The first and the last day to ask for; None when none of the days wished for has begun yet.

    Raises UsageError for days that Google no longer keeps.
    """
    oldest = months_before(today, MONTHS)
    if since is not None and since < oldest:
        raise UsageError(
            f"Google keeps cost by the day for {MONTHS} months, and --since {since} is before that.",
            f"The first day it can tell is {oldest}; import older cost from a file: convsync costs import FILE.",
        )
    last = min(until or today, today)
    before = timedelta(days=FIRST_DAYS - 1) if pulled_until is None else timedelta(days=AGAIN_DAYS)
    first = since or max(oldest, min(pulled_until or last, last) - before)
    return None if first > last else (first, last)


def months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    follows = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + timedelta(days=day.day - 1), follows - timedelta(days=1))


# Rows go through `map`, not through a loop: its variable would hold the last row of a message of ten thousand, and with it
# the whole message, 70 MB, while the next one is read. MEASURED protobuf 7.36.2


def spends(search: Search, account: Account, since: date, until: date) -> Iterator[Spend]:
    """What each campaign cost on each of the days, both included. Without VAT: Google adds it on the invoice."""
    return map(partial(_spend, account), search(account.id, COST.format(since=since, until=until)))


def _spend(account: Account, row: Any) -> Spend:
    return Spend(
        day=date.fromisoformat(row.segments.date),
        platform="google",
        account=account.id,
        campaign_id=str(row.campaign.id),
        campaign=" ".join(row.campaign.name.split()),
        amount=minor_units(Decimal(row.metrics.cost_micros) / MILLION, account.currency),
        currency=account.currency,
        vat_included=False,
        clicks=row.metrics.clicks,
        impressions=row.metrics.impressions,
    )


def clicks(search: Search, account: Account, day: date) -> Iterator[tuple[int, str]]:
    """The clicks of a day, each as the hash of its gclid and the id of its campaign. Google keeps 90 days of them."""
    return filter(None, map(_click, search(account.id, CLICKS.format(day=day))))


def _click(row: Any) -> tuple[int, str] | None:
    gclid = row.click_view.gclid
    return (click_hash(gclid), str(row.campaign.id)) if gclid else None


def zones_differ(account: Account, other: ZoneInfo, since: date, until: date) -> bool:
    """Whether days of the account begin at another moment than days of `other`, at either end of a span."""
    own = zone(account.id, account.time_zone)
    noons = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in (since, until)]
    return any(noon.astimezone(own).utcoffset() != noon.astimezone(other).utcoffset() for noon in noons)
