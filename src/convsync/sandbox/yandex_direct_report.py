"""One report of Yandex.Direct: what may be asked, what each campaign cost, and the lines of the answer.

DOC DD/spec, DD/report-format, DD/money: params of a CAMPAIGN_PERFORMANCE_REPORT in, TSV out, days of Moscow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from convsync.sandbox.config import DirectCampaign, DirectChange, DirectClient, DirectConfig
from convsync.sandbox.decimals import number

MICROS = 1_000_000
KOPECK = 10_000
METRICS = ("Impressions", "Clicks", "Cost")
FIELDS = ("Date", "CampaignId", "CampaignName", *METRICS)
"""All that the sandbox can tell; the other columns of Direct are refused."""
NO_VALUE = "--"

_REQUIRED = ("SelectionCriteria", "FieldNames", "ReportName", "ReportType", "DateRangeType", "Format", "IncludeVAT")
_PARAMS = (*_REQUIRED, "Goals", "AttributionModels", "Page", "OrderBy", "IncludeDiscount")
_CHOICES = {
    "ReportType": ("CAMPAIGN_PERFORMANCE_REPORT",),
    "Format": ("TSV",),
    "IncludeVAT": ("YES", "NO"),
    "IncludeDiscount": ("YES", "NO"),
}
_LAST = (3, 5, 7, 14, 30, 90, 365)

Cell = str | int | None
Row = dict[str, Cell]


class BadSpec(ValueError):
    """The detail of an error 8000."""


@dataclass(frozen=True)
class Spec:
    """What a request asks for, read."""

    name: str
    fields: tuple[str, ...]
    first: date
    last: date
    vat: bool
    keeps: tuple[Callable[[Row], bool], ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    """Field and whether it goes down, the strongest first."""
    offset: int = 0
    limit: int | None = None

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


@dataclass(frozen=True)
class Shape:
    """How the lines are written: what the headers of a request say."""

    micros: bool = True
    report_header: bool = True
    column_header: bool = True
    summary: bool = True
    dash_zeros: bool = False


# Reading what is asked.


def read(body: object, today: date, max_age_days: int) -> Spec:
    """The specification in a request's JSON. Raises BadSpec with what is wrong."""
    given = _object(body, "The body", ("params", "method"))
    params = _object(given.get("params"), "params", _PARAMS)
    for name in _REQUIRED:
        if params.get(name) in (None, "", []):
            raise BadSpec(f"Required parameter {name} is missing")
    for name, allowed in _CHOICES.items():
        if name in params and params[name] not in allowed:
            raise BadSpec(f"{name} must be one of {', '.join(allowed)}")
    report_name = params["ReportName"]
    if not isinstance(report_name, str) or len(report_name) > 255:
        raise BadSpec("ReportName must be text of up to 255 characters")
    criteria = _object(params["SelectionCriteria"], "SelectionCriteria", ("DateFrom", "DateTo", "Filter"))
    first, last = _range(params["DateRangeType"], criteria, today, max_age_days)
    page = _object(params.get("Page", {}), "Page", ("Limit", "Offset"))
    if "Page" in params and "Limit" not in page:
        raise BadSpec("Page.Limit is required")
    return Spec(
        name=report_name,
        fields=_fields(params["FieldNames"]),
        first=first,
        last=last,
        vat=params["IncludeVAT"] == "YES",
        keeps=tuple(_filter(one) for one in _list(criteria.get("Filter", []), "Filter")),
        order=tuple(_order(one) for one in _list(params.get("OrderBy", []), "OrderBy")),
        offset=_count(page.get("Offset", 0), "Page.Offset", 0),
        limit=_count(page["Limit"], "Page.Limit", 1) if "Limit" in page else None,
    )


def _object(value: object, name: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadSpec(f"{name} must be an object")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise BadSpec(f"{name} contains an unknown parameter {unknown[0][:40]}")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadSpec(f"{name} must be an array")
    return value


def _count(value: object, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadSpec(f"{name} must be an integer of at least {least}")
    return value


def _fields(value: object) -> tuple[str, ...]:
    asked = _list(value, "FieldNames")
    for name in asked:
        _known_field(name, "FieldNames")
    if len(set(asked)) < len(asked):
        raise BadSpec("FieldNames contains a field more than once")
    return tuple(asked)


def _known_field(name: object, where: str) -> str:
    if not isinstance(name, str) or name not in FIELDS:
        raise BadSpec(f"{where} contains a field that the report cannot show: {str(name)[:40]}")
    return name


def _range(kind: object, criteria: dict[str, Any], today: date, max_age_days: int) -> tuple[date, date]:
    oldest = today - timedelta(days=max_age_days)
    if kind == "CUSTOM_DATE":
        first, last = (_day(criteria.get(name), name) for name in ("DateFrom", "DateTo"))
        if first > last:
            raise BadSpec("DateFrom is later than DateTo")
        if first < oldest:
            raise BadSpec(f"DateFrom must not be earlier than {oldest}")
        return first, last
    if "DateFrom" in criteria or "DateTo" in criteria:
        raise BadSpec("DateFrom and DateTo are allowed only with DateRangeType CUSTOM_DATE")
    yesterday = today - timedelta(days=1)
    ranges = {"TODAY": (today, today), "YESTERDAY": (yesterday, yesterday), "ALL_TIME": (oldest, today)}
    ranges |= {f"LAST_{days}_DAYS": (today - timedelta(days=days), yesterday) for days in _LAST}
    if not isinstance(kind, str) or kind not in ranges:
        raise BadSpec(f"DateRangeType must be one of CUSTOM_DATE, {', '.join(ranges)}")
    return ranges[kind]


def _day(value: object, name: str) -> date:
    if value is None:
        raise BadSpec(f"DateRangeType CUSTOM_DATE requires {name}")
    try:
        if isinstance(value, str) and len(value) == len("2026-11-22"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise BadSpec(f"{name} must be a date YYYY-MM-DD")


def _filter(value: object) -> Callable[[Row], bool]:
    item = _object(value, "Filter", ("Field", "Operator", "Values"))
    field = _known_field(item.get("Field"), "Filter")
    values, operator = _list(item.get("Values"), "Filter.Values"), item.get("Operator")
    if field == "Date" or not values or not all(isinstance(one, str) for one in values):
        raise BadSpec("Filter needs a field other than Date, and Values that are texts")
    if operator in ("EQUALS", "IN"):
        return lambda row: str(row[field]) in values
    if operator in ("NOT_EQUALS", "NOT_IN"):
        return lambda row: str(row[field]) not in values
    bound = number(values[0])
    if operator not in ("GREATER_THAN", "LESS_THAN") or field not in METRICS or bound is None or len(values) > 1:
        raise BadSpec(f"Filter cannot compare {field} so")
    more = operator == "GREATER_THAN"

    def compares(row: Row) -> bool:
        value = row[field]
        return isinstance(value, int) and (value > bound if more else value < bound)

    return compares


def _order(value: object) -> tuple[str, bool]:
    item = _object(value, "OrderBy", ("Field", "SortOrder"))
    direction = item.get("SortOrder", "ASCENDING")
    if direction not in ("ASCENDING", "DESCENDING"):
        raise BadSpec("OrderBy.SortOrder must be one of ASCENDING, DESCENDING")
    return _known_field(item.get("Field"), "OrderBy"), direction == "DESCENDING"


# What a campaign cost.


@dataclass(frozen=True)
class Day:
    """Figures of one campaign on one day; cost in micros without VAT, None = no value."""

    day: date
    campaign_id: str
    name: str
    impressions: int | None = 0
    clicks: int | None = 0
    micros: int | None = 0


class World:
    """What an advertiser's campaigns cost, as far as Direct knows it on a day."""

    def __init__(self, config: DirectConfig, seed: int, login: str, today: date) -> None:
        self._client: DirectClient = config.clients[login]
        self._settling = config.settling_percent
        self._changes: dict[str, list[DirectChange]] = {}
        for change in config.changes:
            if change.login == login:
                self._changes.setdefault(change.campaign_id, []).append(change)
        self._seed, self._login, self._today = seed, login, today

    def days(self, first: date, last: date) -> Iterator[Day]:
        """Day by day, campaign by campaign; no row for what was not even shown."""
        campaigns = self._client.campaigns
        for campaign_id in sorted({*campaigns, *self._changes}):
            campaign = campaigns.get(campaign_id, DirectCampaign(campaign_id))
            for passed in range((min(last, self._today) - first).days + 1):
                day = first + timedelta(days=passed)
                found = self._changed(self._usual(campaign_id, campaign, day))
                if found and (found.impressions, found.clicks, found.micros) != (0, 0, 0):
                    yield found

    def _usual(self, campaign_id: str, campaign: DirectCampaign, day: date) -> Day:
        since, until = campaign.since or "0", campaign.until or "9"
        if not since <= day.isoformat() <= until:
            return Day(day, campaign_id, campaign.name)
        chance = random.Random(f"{self._seed} {self._login} {campaign_id} {day}")
        age = (self._today - day).days
        settled = self._settling[age] if age < len(self._settling) else 100

        def about(usual: int) -> int:
            return usual * chance.randint(70, 130) // 100

        impressions, clicks, click = about(campaign.impressions), about(campaign.clicks), about(campaign.click_micros)
        cost = clicks * click * settled // 100 // KOPECK * KOPECK
        return Day(day, campaign_id, campaign.name, impressions * settled // 100, clicks * settled // 100, cost)

    def _changed(self, usual: Day) -> Day | None:
        found: Day | None = usual
        for change in self._changes.get(usual.campaign_id, ()):
            if change.day not in ("", usual.day.isoformat()):
                continue
            found = None if change.gone else _with(found or usual, change)
        return found


def _with(day: Day, change: DirectChange) -> Day:
    return replace(
        day,
        name=day.name if change.name is None else change.name,
        impressions=_figure(day.impressions, change.impressions),
        clicks=_figure(day.clicks, change.clicks),
        micros=_figure(day.micros, change.cost_micros),
    )


def _figure(usual: int | None, change: int | str | None) -> int | None:
    if change is None:
        return usual
    return None if change == NO_VALUE else int(change)


# The lines of the answer.


def rows(spec: Spec, world: World, vat_percent: int) -> list[Row]:
    """Grouped by campaign, and by day where Date is asked for; cost in micros, with VAT if asked for."""
    groups: dict[tuple[str, str], Row] = {}
    for one in world.days(spec.first, spec.last):
        day = one.day.isoformat() if "Date" in spec.fields else ""
        start: Row = {"Date": day, "CampaignId": one.campaign_id, "CampaignName": one.name}
        row = groups.setdefault((day, one.campaign_id), start | dict.fromkeys(METRICS))
        for name, told in zip(METRICS, (one.impressions, one.clicks, one.micros), strict=True):
            before = row[name]
            if told is not None:
                row[name] = told + (before if isinstance(before, int) else 0)
    for row in groups.values():
        if spec.vat and isinstance(row["Cost"], int):
            row["Cost"] = _kopecks(Decimal(row["Cost"]) * (100 + vat_percent) / 100)
    found = [groups[key] for key in sorted(groups) if all(keep(groups[key]) for keep in spec.keeps)]
    for field, down in reversed(spec.order):
        found.sort(key=lambda row: _rank(row[field]), reverse=down)
    return found[spec.offset :][: spec.limit]


def _rank(value: Cell) -> tuple[int, str]:
    return (value, "") if isinstance(value, int) else (-1, value or "")


def _kopecks(micros: Decimal) -> int:
    return int((micros / KOPECK).quantize(Decimal(1), ROUND_HALF_UP)) * KOPECK


def tsv(spec: Spec, found: list[Row], shape: Shape) -> str:
    """The report as text; no quoting, for the format has none."""
    lines = []
    if shape.report_header:
        lines.append(f'"{_clean(spec.name)} ({spec.first} - {spec.last})"')
    if shape.column_header:
        lines.append("\t".join(spec.fields))
    lines += ["\t".join(_text(name, row[name], shape) for name in spec.fields) for row in found]
    if shape.summary:
        lines.append(f"Total rows: {len(found)}")
    return "".join(line + "\n" for line in lines)


def _text(name: str, value: Cell, shape: Shape) -> str:
    if name not in METRICS:
        return _clean(str(value))
    if not isinstance(value, int) or (value == 0 and shape.dash_zeros):
        return NO_VALUE
    if name != "Cost" or shape.micros:
        return str(value)
    return f"{Decimal(_kopecks(Decimal(value))) / MICROS:.2f}"


def _clean(text: str) -> str:
    return text.translate({ord("\t"): " ", ord("\n"): " ", ord("\r"): " "})
