"""What VK Ads says was spent, through any way to ask its API (`Ads`).

Amounts are in the currency of the account, which statistics do not name (`user.json` does), and without VAT: a rate adds
it here. Days are those of Moscow (facts 5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from convsync.costs.days import Keeps
from convsync.errors import SourceError
from convsync.model import Account, Spend
from convsync.normalise import is_currency, minor_units

KEEPS = Keeps("VK Ads", days=366)
"""DOC Statistics."""
ZONE = "Europe/Moscow"
DAY = timedelta(days=1)
IDS = 200
"""Campaigns of one question. DOC Statistics."""
DAYS = 92
"""Days of one question; VK allows more, and an answer would have a row for each of 200 campaigns. INFERRED."""
UNKNOWN = ("WRONG_ADPLANS", "WRONG_IDS")
"""One campaign that VK does not know fails the whole question. DOC Statistics, second-hand."""
TOO_MUCH = "LIMIT_EXCEEDED"

Vat = Decimal | Literal["russia"] | None
"""A part of the net amount (0.22), that of Russia by the day, or none: amounts stay as VK tells them."""
RUSSIA_2026, RUSSIA = Decimal("0.22"), Decimal("0.20")

_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_COUNT = re.compile(r"[0-9]+")


class Ads(Protocol):
    """What VK's API is asked."""

    def ask(
        self, path: str, params: Mapping[str, str] = ..., *, none_if: Collection[str] = ...
    ) -> dict[str, Any] | None:
        """The JSON object at `path`; None where VK refuses with a code of `none_if` ("404": any 404)."""
        ...

    def pages(
        self, path: str, params: Mapping[str, str] = ..., *, limit: int = ..., none_if: Collection[str] = ...
    ) -> Iterator[dict[str, Any]]:
        """Every item of a list."""
        ...


class Row(NamedTuple):
    """A day of a campaign. `cost` without VAT; None: VK tells no value."""

    day: date
    campaign_id: str
    cost: Decimal | None
    clicks: int | None
    impressions: int | None

    @property
    def is_empty(self) -> bool:
        """Nothing happened; the answer has a row for every day of the span."""
        return self.cost == 0 and not self.clicks and not self.impressions


def account(ads: Ads) -> Account:
    """Whose account the keys open. Raises SourceError where its money could not be kept.

    v3 tells the currency; who it is v2 tells as well (facts 5). A username that is an e-mail is nobody's business.
    """
    told = ads.ask("/api/v3/user.json", none_if=("404",)) or {}
    if number(told.get("id")) is None:
        told |= ads.ask("/api/v2/user.json", none_if=("404",)) or {}
    found = number(told.get("id"))
    if found is None:
        raise unreadable("user.json tells no id")
    currency, name = told.get("currency"), told.get("username")
    if not isinstance(currency, str) or not currency:
        raise SourceError(
            f"VK Ads does not tell the currency of the account {found}, and its statistics name none.",
            "Its cost cannot be kept: import it from a file, with its currency: convsync costs import FILE.",
        )
    if not is_currency(currency):
        raise SourceError(
            f"VK Ads counts the account {found} in {currency[:10]!r}, which is no currency of ISO 4217.",
            "Its cost cannot be kept.",
        )
    shown = name if isinstance(name, str) and not re.search(r"@.*\.", name) else ""
    return Account("vk", found, " ".join(shown.split()), currency, ZONE)


def campaigns(ads: Ads) -> dict[str, str]:
    """Id → name of every campaign (`ad_plan`), the deleted ones as well: they spent, too. In the order of their ids, so
    that none slips from one page to another while they are read."""
    asked = {"fields": "id,name,status", "sorting": "id", "_status__in": "active,blocked,deleted"}
    found = {}
    for told in ads.pages("/api/v2/ad_plans.json", asked):
        plan = number(told.get("id"))
        if plan is None:
            raise unreadable("ad_plans.json names a campaign without an id")
        found[plan] = " ".join(str(told.get("name") or "").split())
    return found


def spends(
    ads: Ads,
    account: Account,
    since: date,
    until: date,
    *,
    vat: Vat,
    blank: Callable[[Row], None],
    left_out: Callable[[str], None],
) -> Iterator[Spend]:
    """What each campaign cost on each of the days, both included. `blank` gets the rows without a cost, which is not 0,
    `left_out` the ids that VK lists and whose statistics it does not know.

    Raises SourceError for an answer that cannot be read; whatever `ads` raises passes through.
    """
    names = campaigns(ads)
    ids, unknown, seen = list(names), set[str](), set[tuple[date, str]]()
    for start in range(0, len(ids), IDS):
        for first, last in spans(since, until):
            for row in _rows(ads, ids[start : start + IDS], first, last, unknown):
                if not first <= row.day <= last or (row.day, row.campaign_id) in seen:
                    raise unreadable(f"statistics tell of {row.day}, campaign {row.campaign_id}, unasked or twice")
                seen.add((row.day, row.campaign_id))
                if row.cost is None:
                    blank(row)
                elif not row.is_empty:
                    yield _spend(account, row, row.cost, names[row.campaign_id], vat)
    for one in ids:
        if one in unknown:
            left_out(one)


def spans(since: date, until: date) -> Iterator[tuple[date, date]]:
    """The days, both included, in stretches that fit into one question."""
    while since <= until:
        last = min(until, since + (DAYS - 1) * DAY)
        yield since, last
        since = last + DAY


def rate(vat: Decimal | Literal["russia"], day: date) -> Decimal:
    """VAT as a part of the net amount of that day. facts 5."""
    if vat == "russia":
        return RUSSIA_2026 if day >= date(2026, 1, 1) else RUSSIA
    return vat


def _spend(account: Account, row: Row, cost: Decimal, campaign: str, vat: Vat) -> Spend:
    amount = cost if vat is None else cost * (1 + rate(vat, row.day))
    return Spend(
        day=row.day,
        platform="vk",
        account=account.id,
        campaign_id=row.campaign_id,
        campaign=campaign,
        amount=minor_units(amount, account.currency),
        currency=account.currency,
        vat_included=vat is not None,
        clicks=row.clicks,
        impressions=row.impressions,
    )


# -- the questions


def _rows(ads: Ads, ids: Sequence[str], since: date, until: date, unknown: set[str]) -> Iterator[Row]:
    """The days of these campaigns; those that VK does not know go into `unknown` and are not asked about again.

    An answer may hold only the first of them (it has a limit of its own): the others are asked about again, until an
    answer has none of them.
    """
    left = [one for one in ids if one not in unknown]
    while left:
        told = _asked(ads, left, since, until, none_if=(*UNKNOWN, TOO_MUCH))
        if told is None:
            yield from _smaller(ads, left, since, until, unknown)
            return
        for plan, rows in told.items():
            yield from (_row(plan, row) for row in rows)
        if not told:
            return
        left = [one for one in left if one not in told]


def _smaller(ads: Ads, ids: Sequence[str], since: date, until: date, unknown: set[str]) -> Iterator[Row]:
    """The same in halves: of the campaigns down to one, then of the days if VK knows that one."""
    if len(ids) > 1:
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            yield from _rows(ads, half, since, until, unknown)
        return
    last = _asked(ads, ids, until, until, none_if=UNKNOWN)
    if last is None:
        unknown.add(ids[0])
    elif since < until:
        before = since + (until - since - DAY) // 2
        for first, end in ((since, before), (before + DAY, until)):
            yield from _rows(ads, ids, first, end, unknown)
    else:
        yield from (_row(plan, row) for plan, rows in last.items() for row in rows)


def _asked(
    ads: Ads, ids: Sequence[str], since: date, until: date, *, none_if: Collection[str]
) -> dict[str, list[Any]] | None:
    """Campaign → its rows as they came; None where VK refuses."""
    asked = {"id": ",".join(ids), "metrics": "base", **period(since, until)}
    told = ads.ask("/api/v2/statistics/ad_plans/day.json", asked, none_if=none_if)
    return None if told is None else items(told, ids)


def period(since: date, until: date) -> dict[str, str]:
    """Days as statistics take them, both included, each figure on the day of what happened. DOC Statistics."""
    return {"date_from": str(since), "date_to": str(until), "attribution": "conversion"}


def items(told: Mapping[str, Any], ids: Sequence[str]) -> dict[str, list[Any]]:
    """By what was asked about, the rows of an answer of statistics. Raises SourceError for what was not asked about."""
    found: dict[str, list[Any]] = {}
    listed = told.get("items")
    for item in listed if isinstance(listed, list) else [None]:
        one = number(item.get("id")) if isinstance(item, dict) else None
        rows = item.get("rows") if isinstance(item, dict) else None
        if one is None or not isinstance(rows, list):
            raise unreadable("statistics have no list of items with an id and rows")
        if one not in ids or one in found:
            raise unreadable(f"statistics tell of {one}, unasked or twice")
        found[one] = rows
    return found


# -- what is told


def _row(plan: str, told: Any) -> Row:
    day, where = day_of(told), f"of campaign {plan}"
    base = told.get("base")
    if not isinstance(base, dict):
        raise unreadable(f"statistics have no usable base {where} on {day}")
    return Row(
        day=day,
        campaign_id=plan,
        cost=amount(base.get("spent"), "spent", day, where),
        clicks=count(base.get("clicks"), "clicks", day, where),
        impressions=count(base.get("shows"), "shows", day, where),
    )


def day_of(row: Any) -> date:
    """The day of a row of statistics."""
    told = row.get("date") if isinstance(row, dict) else None
    try:
        if isinstance(told, str) and len(told) == 10:
            return date.fromisoformat(told)
    except ValueError:
        pass
    raise unreadable("statistics have a row without a usable date")


def amount(told: Any, name: str, day: date, where: str) -> Decimal | None:
    """`"23328.92"`, also as a number. None: not told."""
    if told is None:
        return None
    text = str(told) if isinstance(told, str | int | float) and not isinstance(told, bool) else ""
    if not _AMOUNT.fullmatch(text):
        raise unreadable(f"statistics have no usable {name} {where} on {day}")
    return Decimal(text)


def count(told: Any, name: str, day: date, where: str) -> int | None:
    """A whole number, also as text. None: not told."""
    if told is None:
        return None
    found = number(told)
    if found is None:
        raise unreadable(f"statistics have no usable {name} {where} on {day}")
    return int(found)


def number(told: Any) -> str | None:
    """An id or a count as digits, whether VK writes it as a number or as text."""
    text = str(told) if isinstance(told, str | int) and not isinstance(told, bool) else ""
    return text if _COUNT.fullmatch(text) else None


def unreadable(why: str) -> SourceError:
    return SourceError(
        f"VK Ads cannot be read: its {why}.",
        "What was known of this stays. If it does not pass, VK has changed its answers: look for a newer version, or report it.",
    )
