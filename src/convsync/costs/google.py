"""What Google Ads says was spent, and whose clicks they were, through any way to ask it (`Search`).

Rows are messages as the Google Ads API sends them, in account currency and in the days of the account. A manager account
has no cost of its own: Google refuses to tell metrics of one (DOC, `QueryError.REQUESTED_METRICS_FOR_MANAGER`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from convsync.costs.days import Keeps
from convsync.errors import SourceError
from convsync.model import Account, Spend, click_hash
from convsync.normalise import is_currency, minor_units

Search = Callable[[str, str], Iterable[Any]]
"""`(customer id, GAQL)` → rows, as they arrive."""

KEEPS = Keeps("Google", 37)
"""DOC ads/deprecations, since 2026-06-01."""

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
