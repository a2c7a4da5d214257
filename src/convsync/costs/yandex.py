"""What Yandex.Direct says was spent, through any way to ask it (`Direct`).

Amounts are in the currency of the client's account, which no report names (`Clients.get` does), with or without VAT as
asked. Days are those of Moscow (facts 4.3).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from convsync.costs.days import Keeps
from convsync.errors import ConfigError, PlatformUnavailable, SourceError
from convsync.model import Account, Spend
from convsync.normalise import is_currency, minor_units

KEEPS = Keeps("Yandex.Direct", 36, whole=True)
"""The three years before the current month. DOC DD/restrictions, dg-v4/CreateNewReport."""
ZONE = "Europe/Moscow"
DAY = timedelta(days=1)

COLUMNS = ("Date", "CampaignId", "CampaignName", "Impressions", "Clicks", "Cost")
NO_VALUE = "--"
_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_COUNT = re.compile(r"[0-9]+")
_TOTAL = re.compile(r"[^\t]*: ?[0-9]+")
"""The last line of a report whose summary was not left out."""
_KOPECK = 10_000
"""Of a millionth: amounts in millionths are whole multiples of it."""


class Direct(Protocol):
    """What Direct is asked. `login` is a client's; empty: the account that the token belongs to."""

    def client(self, login: str) -> Mapping[str, Any]:
        """What `Clients.get` tells of the one client, as far as it tells: ClientId, Login, Currency, Type."""
        ...

    def report(self, login: str, params: Mapping[str, Any]) -> bytes | None:
        """A report as TSV, its columns named in the first line; None: Direct cannot make one of so many days in time."""
        ...


class Client(NamedTuple):
    """An account, and the number of the advertiser it belongs to; empty where Direct does not tell."""

    account: Account
    number: str


class Row(NamedTuple):
    """A line of a report. None: Direct tells no value."""

    day: date
    campaign_id: str
    campaign: str
    cost: Decimal | None
    clicks: int | None
    impressions: int | None


def client(direct: Direct, login: str, currency: str | None) -> Client:
    """Find the account behind a login. `currency` counts only where Direct does not tell one.

    Raises ConfigError or SourceError where its money could not be kept; whatever `direct` raises passes through.
    """
    told = direct.client(login)
    name = (login or str(told.get("Login") or "")).lower()
    if told.get("Type") == "AGENCY":
        raise ConfigError(
            f"{name or 'The owner of the token'} is an agency, which has no cost of its own.",
            "Name the logins of its clients in cost_client_logins.",
        )
    if not name:
        raise ConfigError("Yandex.Direct does not tell whose account the token opens.", "Write it in client_login.")
    found = _currency(name, str(told.get("Currency") or ""), currency or "")
    return Client(Account("yandex", name, "", found, ZONE), str(told.get("ClientId") or ""))


def _currency(name: str, told: str, written: str) -> str:
    """What an account is counted in, as Direct tells it or, where it does not, as the operator wrote it."""
    if told and written and told != written:
        raise ConfigError(
            f"Yandex.Direct counts the account {name} in {told[:10]}, direct_currency says {written}.",
            "Take direct_currency out, or correct it.",
        )
    if not told and not written:
        raise ConfigError(
            f"Yandex.Direct does not tell the currency of the account {name}, and its reports name none.",
            "Look it up in Direct and write it in direct_currency.",
        )
    if not is_currency(told or written):
        raise SourceError(
            f"The account {name} is counted in {(told or written)[:10]!r}, which is no currency of ISO 4217.",
            "Its cost cannot be kept.",
        )
    return told or written


def params(account: str, since: date, until: date, *, vat: bool, stamp: str) -> dict[str, Any]:
    """The `params` of a report on these days, both included. The same input gives the same request, for ever.

    A report is told from others by its name: the same name with other parameters is refused, and one that was made
    offline is handed out again for five hours (DOC DD/mode). `stamp` is what makes the numbers fresh.
    """
    wanted: dict[str, Any] = {
        "SelectionCriteria": {"DateFrom": str(since), "DateTo": str(until)},
        "FieldNames": list(COLUMNS),
        "ReportType": "CAMPAIGN_PERFORMANCE_REPORT",
        "DateRangeType": "CUSTOM_DATE",
        "Format": "TSV",
        "IncludeVAT": "YES" if vat else "NO",
    }
    digest = hashlib.sha1(f"{account} {wanted}".encode(), usedforsecurity=False).hexdigest()
    return wanted | {"ReportName": f"convsync-{digest}-{stamp}"}


def spends(
    direct: Direct,
    login: str,
    account: Account,
    since: date,
    until: date,
    *,
    vat: bool,
    stamp: str,
    blank: Callable[[Row], None],
) -> Iterator[Spend]:
    """What each campaign cost on each of the days, both included. `blank` gets the rows without a cost, which is not 0.

    Raises PlatformUnavailable where not even one day can be told in time, SourceError for a report that cannot be read.
    """
    found = direct.report(login, params(account.id, since, until, vat=vat, stamp=stamp))
    if found is None and since == until:
        raise PlatformUnavailable(f"Yandex.Direct cannot make a report of {since} in time.", "Try again later.")
    if found is None:
        middle = since + (until - since) // 2
        for first, last in ((since, middle), (middle + DAY, until)):
            yield from spends(direct, login, account, first, last, vat=vat, stamp=stamp, blank=blank)
        return
    seen = set[tuple[date, str]]()
    for row in rows(found):
        if not since <= row.day <= until or (row.day, row.campaign_id) in seen:
            raise _unreadable(f"tells of {row.day}, campaign {row.campaign_id}, unasked or twice")
        seen.add((row.day, row.campaign_id))
        if row.cost is None:
            blank(row)
        else:
            yield Spend(
                day=row.day,
                platform="yandex",
                account=account.id,
                campaign_id=row.campaign_id,
                campaign=row.campaign,
                amount=minor_units(row.cost, account.currency),
                currency=account.currency,
                vat_included=vat,
                clicks=row.clicks,
                impressions=row.impressions,
            )


def rows(report: bytes) -> Iterator[Row]:
    """The lines of a report. Its columns may stand in any order, with others between; a name above and a count below
    them are known for what they are, also where Direct was asked to leave them out. Raises SourceError."""
    try:
        lines = report.decode("utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise _unreadable("is not UTF-8") from None
    heads = [line.rstrip("\r").split("\t") for line in lines[:2]]
    start = next((number for number, head in enumerate(heads) if set(COLUMNS) <= set(head)), None)
    if start is None:
        raise _unreadable("does not name its columns")
    head = heads[start]
    where = [head.index(name) for name in COLUMNS]
    for number, line in enumerate(lines[start + 1 :], start + 2):
        cells = line.rstrip("\r").split("\t")
        if len(cells) == len(head):
            yield _row([cells[at].strip() for at in where], number)
        elif number < len(lines) or not _TOTAL.fullmatch(line.rstrip("\r")):
            raise _unreadable(f"has {len(cells)} cells in line {number}, not {len(head)}")


def _row(cells: list[str], number: int) -> Row:
    day, campaign_id, campaign, impressions, clicks, cost = cells
    try:
        told = date.fromisoformat(day)
    except ValueError:
        raise _bad("Date", number) from None
    if not _COUNT.fullmatch(campaign_id):
        raise _bad("CampaignId", number)
    return Row(
        day=told,
        campaign_id=campaign_id,
        campaign=" ".join(campaign.split()),
        cost=_cost(cost, number),
        clicks=_count("Clicks", clicks, number),
        impressions=_count("Impressions", impressions, number),
    )


def _cost(cell: str, number: int) -> Decimal | None:
    """`12.30`. Direct was asked for decimals (DOC DD/money): what can only be millionths is not taken for roubles."""
    if cell == NO_VALUE:
        return None
    if not _AMOUNT.fullmatch(cell):
        raise _bad("Cost", number)
    if "." not in cell and cell.strip("-0") and int(cell) % _KOPECK == 0:
        raise _bad("Cost", number, " (it seems to be in millionths)")
    return Decimal(cell)


def _count(column: str, cell: str, number: int) -> int | None:
    if cell == NO_VALUE:
        return None
    if not _COUNT.fullmatch(cell):
        raise _bad(column, number)
    return int(cell)


def _bad(column: str, number: int, more: str = "") -> SourceError:
    return _unreadable(f"has no usable {column} in line {number}{more}")


def _unreadable(why: str) -> SourceError:
    return SourceError(
        f"A report of Yandex.Direct {why}.",
        "Nothing was changed. If it stays so, Direct has changed its reports: look for a newer version, or report it.",
    )
