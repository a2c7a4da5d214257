"""CPL, CPA, ROAS and coverage as rows: counted actions joined with spent money. Pure.

    cost      money spent                         clicks    clicks paid for
    actions   all actions, micro ones too         leads, sales   actions of that kind
    value     value of the sales                  (a lead's value is an expectation; with its sale it would count twice)
    cpl       cost / leads                        cpa       cost / sales
    roas      value / cost                        cr        leads / clicks
    coverage  share of the deliveries to the platform of the click that it took (accepted or confirmed)

What cannot be computed is None and the row's notes say why. No leads and no sales are such reasons as well: a source
that tells of no sales looks like a campaign that sold nothing, and a 0 would claim the second.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Context, Decimal
from typing import NamedTuple

from convsync.errors import UsageError
from convsync.model import Kind, Money, Spend, Tally
from convsync.normalise import major
from convsync.report.campaigns import Campaigns

DIMENSIONS = ("platform", "campaign", "action", "day", "source")
UNKNOWN_TO_COST = ("action", "source")
"""Dimensions that spent money does not have."""

FIGURES = ("cost", "currency", "clicks", "actions", "leads", "sales", "value", "cpl", "cpa", "roas", "cr", "coverage")

UNATTRIBUTED = "(unattributed)"
COST_ONLY = "(cost)"
"""Stands for the action and the source of money when a report is split by these."""
TOTAL = "total"

DATING = {
    "event": "Dated by when the action happened; recent days still grow.",
    "click": "Dated by when the click happened; its actions may come weeks later, so recent days still grow.",
}

SKIPPED = " (what was skipped, and why: convsync ledger list --skipped)"

_DIVISION = Context(prec=28)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report. Money is in major units of `currency`; ratios are not rounded."""

    dimensions: tuple[tuple[str, str], ...]
    cost: Decimal | None
    currency: str | None
    clicks: int | None
    actions: int
    leads: int
    sales: int
    value: Decimal | None
    cpl: Decimal | None
    cpa: Decimal | None
    roas: Decimal | None
    cr: Decimal | None
    coverage: Decimal | None
    notes: tuple[str, ...] = ()
    total: bool = False


@dataclass(slots=True)
class _Group:
    """What falls into one row."""

    tallies: list[Tally] = field(default_factory=list)
    spends: list[Spend] = field(default_factory=list)
    campaigns: set[str] = field(default_factory=set)
    remarks: set[str] = field(default_factory=set)


class _Sum(NamedTuple):
    """Money added up: in one currency, or the reason why there is no such sum."""

    amount: Decimal | None
    currency: str | None = None
    reason: str = ""


def build(
    tallies: Iterable[Tally],
    spends: Iterable[Spend],
    *,
    by: Sequence[str] = (),
    currency: str | None = None,
    basis: str = "event",
    asked: Mapping[str, tuple[date, date]] = {},
    skipping: Collection[str] = (),
) -> list[Row]:
    """One row for each combination of the dimensions `by`, in a stable order, and a row with the total at the end.

    `currency` is the reporting currency. There are no rates: money in one other currency is shown in that one, money in
    several is not added, and the notes tell both. Whoever counted the tallies dated them by `basis`. `asked` is, by
    platform, the days whose cost is known even where nothing was spent: the platform itself was asked. `skipping` are the
    platforms that are sent to, if anything was skipped at all: an action of theirs that was not addressed has a reason.
    """
    _known("dimension", by, DIMENSIONS)
    _known("date basis", (basis,), tuple(DATING))
    tallies, spends = list(tallies), list(spends)
    split = tuple(name for name in by if name in UNKNOWN_TO_COST)
    groups = _grouped(tallies, spends, by)
    context = _Context(currency, _spans(spends, asked), frozenset(asked), "day" in by, frozenset(skipping))
    rows = [
        _row(_dimensions(by, key, group), group, context, _unsplit(split, group, bool(spends)))
        for key, group in sorted(groups.items(), key=lambda item: [_place(part) for part in item[0]])
    ]
    everything = _Group(tallies, spends)
    named = tuple(zip(by, (TOTAL, *[""] * len(by)), strict=False))
    return [*rows, _row(named, everything, context, "", total=True)]


def _known(what: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    for at, name in enumerate(given):
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(allowed)}."
            raise UsageError(f"There is no {what} {name!r}.", hint)
        if name in given[:at]:
            raise UsageError(f"The {what} {name} is named twice.", "Once is enough.")


# Which row does it belong to?


def _grouped(tallies: Sequence[Tally], spends: Sequence[Spend], by: Sequence[str]) -> dict[tuple[str, ...], _Group]:
    if not by:
        return {}
    names = Campaigns(spends)
    groups: defaultdict[tuple[str, ...], _Group] = defaultdict(_Group)
    for tally in tallies:
        label, remark = names.of_action(tally.platform, tally.campaign) if "campaign" in by else ("", "")
        group = groups[tuple([_part(tally, name, label) for name in by])]
        group.tallies.append(tally)
        group.campaigns.add(label)
        if remark:
            group.remarks.add(remark)
    for spend in spends:
        label = names.of_spend(spend)
        group = groups[tuple([_part(spend, name, label) for name in by])]
        group.spends.append(spend)
        group.campaigns.add(label)
    return groups


def _part(thing: Tally | Spend, dimension: str, campaign: str) -> str:
    if dimension == "platform":
        return thing.platform or UNATTRIBUTED
    if dimension == "campaign":
        return campaign.casefold()
    if dimension == "day":
        return thing.day.isoformat()
    return getattr(thing, dimension, COST_ONLY)


def _dimensions(by: Sequence[str], key: Sequence[str], group: _Group) -> tuple[tuple[str, str], ...]:
    shown = [min(group.campaigns) if name == "campaign" else part for name, part in zip(by, key, strict=True)]
    return tuple(zip(by, shown, strict=True))


def _place(part: str) -> tuple[bool, str, str]:
    """Alphabetical; what stands in brackets comes after what has a name."""
    return part.startswith("("), part.casefold(), part


# What stands in it?


class _Context(NamedTuple):
    """What a row has to know of the whole report."""

    currency: str | None
    spans: dict[str, tuple[date, date]]
    asked: frozenset[str]
    daily: bool
    skipping: frozenset[str]


def _spans(spends: Iterable[Spend], asked: Mapping[str, tuple[date, date]]) -> dict[str, tuple[date, date]]:
    spans = dict(asked)
    for spend in spends:
        first, last = spans.get(spend.platform, (spend.day, spend.day))
        spans[spend.platform] = min(first, spend.day), max(last, spend.day)
    return spans


def _unsplit(split: Sequence[str], group: _Group, any_cost: bool) -> str:
    """Why money cannot be divided among rows like this one; empty when it can."""
    if not split or not any_cost:
        return ""
    where = "" if group.spends else f", it stands in the row {COST_ONLY}"
    return f"Cost cannot be split by {' and '.join(split)}{where}"


def _row(
    dimensions: tuple[tuple[str, str], ...], group: _Group, context: _Context, unsplit: str, *, total: bool = False
) -> Row:
    count = _Counts(group.tallies)
    alone = unsplit if group.spends else ""
    cost = _cost(group.spends, context, unsplit)
    value = _value(group.tallies, cost, context, alone)
    clicks, no_clicks = _clicks(group.spends, unsplit)
    row = Row(
        dimensions=dimensions,
        cost=cost.amount,
        currency=cost.currency or value.currency,
        clicks=clicks,
        actions=count.actions,
        leads=count.leads,
        sales=count.sales,
        value=value.amount,
        cpl=_ratio(cost.amount, count.leads),
        cpa=_ratio(cost.amount, count.sales),
        roas=_ratio(value.amount, cost.amount),
        cr=_ratio(count.leads or None, clicks),
        coverage=_ratio(count.taken, count.addressed),
        total=total,
    )
    why = _Reasons()
    why.add(cost.amount is None, cost.reason, "cost", "cpl", "cpa", "roas")
    why.add(cost.amount == 0, "Nothing was spent", "roas")
    why.add(clicks is None, no_clicks, "clicks", "cr")
    why.add(clicks == 0, "No clicks", "cr")
    why.add(not count.leads, alone or "No leads", "cpl", "cr")
    why.add(not count.sales, alone or "No sales", "value", "cpa", "roas")
    why.add(bool(count.sales) and value.amount is None, value.reason, "value", "roas")
    why.add(not count.addressed, alone or _unaddressed(group, context), "coverage")
    return replace(row, notes=(*why.sentences(), *_remarks(row, group, context, count)))


def _unaddressed(group: _Group, context: _Context) -> str:
    skipped = any(tally.actions and tally.platform in context.skipping for tally in group.tallies)
    return f"Nothing was addressed to a platform{SKIPPED if skipped else ''}"


def _ratio(above: Decimal | int | None, below: Decimal | int | None) -> Decimal | None:
    if above is None or not below:
        return None
    return _DIVISION.divide(Decimal(above), Decimal(below))


class _Counts:
    """Actions, added up."""

    def __init__(self, tallies: Iterable[Tally]) -> None:
        self.actions = self.leads = self.sales = self.addressed = self.taken = self.unknown = self.unvalued = 0
        for tally in tallies:
            self.actions += tally.actions
            self.addressed += tally.addressed
            self.taken += tally.taken
            self.unknown += tally.unknown
            if tally.kind == Kind.LEAD:
                self.leads += tally.actions
            elif tally.kind == Kind.SALE:
                self.sales += tally.actions
                self.unvalued += tally.actions if _worth(tally) is None else 0


class _Reasons:
    """Why figures of a row are None. A reason always names all it prevents, so that it reads alike in every row."""

    def __init__(self) -> None:
        self._figures: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, holds: bool, reason: str, *figures: str) -> None:
        if holds:
            self._figures[reason].update(figures)

    def sentences(self) -> list[str]:
        return [
            f"{reason}: {_listed(sorted(figures, key=FIGURES.index))} cannot be computed."
            for reason, figures in self._figures.items()
        ]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _cost(spends: Sequence[Spend], context: _Context, unsplit: str) -> _Sum:
    if not spends:
        return _Sum(None, reason=unsplit or "No cost is known")
    sums: Counter[str] = Counter()
    for spend in spends:
        sums[spend.currency] += spend.amount
    return _added("Cost is", sums, context.currency)


def _value(tallies: Sequence[Tally], cost: _Sum, context: _Context, alone: str) -> _Sum:
    sales = [tally for tally in tallies if tally.kind == Kind.SALE and tally.actions]
    if not sales:
        return _Sum(None, reason=alone or "No sales")
    sums: Counter[str] = Counter()
    for worth in filter(None, map(_worth, sales)):
        sums[worth.currency] += worth.minor
    if not sums:
        return _Sum(None, reason="No sale has a value")
    value = _added("Sales are", sums, context.currency)
    if value.amount is None or cost.currency in (None, value.currency):
        return value
    if not value.amount:
        return _Sum(value.amount, cost.currency)
    told = f"Sales are in {value.currency} ({value.amount}), cost is in {cost.currency}"
    return _Sum(None, reason=f"{told}, and there is no rate")


def _worth(tally: Tally) -> Money | None:
    return None if tally.value is None or tally.currency is None else Money(tally.value, tally.currency)


def _added(what: str, sums: Mapping[str, int], preferred: str | None) -> _Sum:
    """Amounts in several currencies have no sum; a zero is a zero in every currency."""
    currencies = sorted(currency for currency, minor in sums.items() if minor)
    if len(currencies) > 1:
        amounts = ", ".join(f"{major(sums[currency], currency)} {currency}" for currency in currencies)
        return _Sum(None, reason=f"{what} in several currencies ({amounts}) and there is no rate")
    nothing = preferred if preferred is not None and preferred in sums else min(sums)
    currency = currencies[0] if currencies else nothing
    return _Sum(major(sums[currency], currency), currency)


def _clicks(spends: Sequence[Spend], unsplit: str) -> tuple[int | None, str]:
    if not spends:
        return None, unsplit or "No cost is known"
    given = [spend.clicks for spend in spends if spend.clicks is not None]
    if len(given) < len(spends):
        return None, "The cost came without clicks" if not given else "A part of the cost came without clicks"
    return sum(given), "No clicks"


# What else should a reader of it know?

TOO_LOW = "make cpl and cpa too low"


def _remarks(row: Row, group: _Group, context: _Context, count: _Counts) -> Iterator[str]:
    yield from sorted(group.remarks)
    if context.currency and row.currency and row.currency != context.currency:
        yield f"There is no rate from {row.currency} to {context.currency}: money is shown in {row.currency}."
    if count.unvalued and row.value is not None:
        yield f"Sales without a value: {count.unvalued} of {count.sales}. Value and roas count the others."
    if row.cost is not None and (count.leads or count.sales):
        yield from _costless(group)
        if not context.daily:
            yield from _outside(group, context.spans)
    yield from _taxed(group.spends, context)
    if count.unknown:
        yield f"Deliveries with an outcome that nobody knows yet: {count.unknown}. Coverage may rise."


def _taxed(spends: Sequence[Spend], context: _Context) -> Iterator[str]:
    """With and without VAT in one sum, and how to mend it. Only Yandex's and VK's can be had either way."""
    kinds: defaultdict[str, set[bool | None]] = defaultdict(set)
    for spend in spends:
        kinds[spend.platform].add(spend.vat_included)
    if len(set[bool | None]().union(*kinds.values())) < 2:
        return
    mend = "Import its files again with the column vat_included."
    for platform, whose, key in (("vk", "VK's", "vat_rate"), ("yandex", "Yandex's", "direct_vat")):
        own = kinds.get(platform, set())
        others = set[bool | None]().union(*(kinds[one] for one in kinds if one != platform))
        pulled = platform in context.asked and own - {None}  # what was pulled says whether it includes VAT
        if pulled and (len(own) > 1 or own.isdisjoint(others)):
            mend = f"To read {whose} again, as {key} says: convsync costs pull --since {context.spans[platform][0]}"
    yield f"The cost mixes amounts that include VAT, amounts that do not, or amounts of which nobody said. {mend}"


def _costless(group: _Group) -> Iterator[str]:
    """A sum over several platforms divides by all of their leads, also where cost is missing."""
    paid = {spend.platform for spend in group.spends}
    counted = _by_platform(group.tallies)
    for platform in sorted(counted.keys() - paid):
        if platform:
            yield f"No cost of {platform} is known, so its leads and sales ({counted[platform]}) {TOO_LOW}."
        else:
            yield f"Leads and sales that no known platform brought ({counted['']}) count in cpl, cpa, roas and cr too."


def _outside(group: _Group, spans: Mapping[str, tuple[date, date]]) -> Iterator[str]:
    paid = {spend.platform for spend in group.spends}
    late = _by_platform(
        tally
        for tally in group.tallies
        if tally.platform in paid and not spans[tally.platform][0] <= tally.day <= spans[tally.platform][1]
    )
    for platform, actions in sorted(late.items()):
        first, last = spans[platform]
        yield f"Cost of {platform} covers {first} to {last}, so leads and sales outside of it ({actions}) {TOO_LOW}."


def _by_platform(tallies: Iterable[Tally]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for tally in tallies:
        if tally.kind in (Kind.LEAD, Kind.SALE):
            counted[tally.platform] += tally.actions
    return +counted
