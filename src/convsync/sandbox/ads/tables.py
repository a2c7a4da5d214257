"""What search_stream can read: resources, their fields, and their rows from the sandbox's world and books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from convsync.sandbox.ads.desk import Desk, Upload, below, custom_variables, instant, refused
from convsync.sandbox.ads.query import Query, parse

Row = dict[str, Any]
_CUSTOMER = (
    "customer.id", "customer.resource_name", "customer.descriptive_name", "customer.currency_code",
    "customer.time_zone", "customer.manager", "customer.test_account", "customer.auto_tagging_enabled",
    "customer.status", "customer.conversion_tracking_setting.accepted_customer_data_terms",
    "customer.conversion_tracking_setting.conversion_tracking_status",
    "customer.conversion_tracking_setting.google_ads_conversion_customer",
    "customer.conversion_tracking_setting.enablement_setting",
    "customer.conversion_tracking_setting.effective_enablement_setting",
    "customer.conversion_tracking_setting.enhanced_conversions_for_leads_enabled",
)  # fmt: skip
_NEWEST = _CUSTOMER[-3:-1]
"""Fields of v26; the last one was removed there."""
_RECENT_DAYS = 28


@dataclass(frozen=True)
class Table:
    fields: frozenset[str]
    rows: Callable[[Desk, Query], Iterable[Row]]


def search(desk: Desk, text: str) -> tuple[Query, Iterator[Row]]:
    """The query, and the rows it asks for: field → value, enums by name."""
    query = parse(text)
    table = TABLES.get(query.resource)
    if table is None:
        said = f"Error in query: '{query.resource}' is not a valid resource in the FROM clause."
        raise refused("QueryError.BAD_RESOURCE_TYPE_IN_FROM_CLAUSE", said)
    for name in query.named():
        if not desk.types.has(name):
            raise refused("QueryError.UNRECOGNIZED_FIELD", f"Unrecognized field in the query: '{name}'.")
        if name not in table.fields and name not in _CUSTOMER:
            said = f"'{name}' cannot be selected with '{query.resource}', or the sandbox does not emulate it."
            raise refused("QueryError.PROHIBITED_FIELD_COMBINATION_IN_SELECT_CLAUSE", said)
    for condition in query.conditions:
        name = condition.field
        if name.startswith("metrics.") and name not in query.fields:
            said = f"'{name}' must be in the SELECT clause."
            raise refused("QueryError.EXPECTED_REFERENCED_FIELD_IN_SELECT_CLAUSE", said)
    first, last = query.days()
    if first and last and first > last:
        raise refused("QueryError.INVALID_VALUE_WITH_BETWEEN_OPERATOR", "The range of dates ends before it begins.")
    if desk.customer in desk.google.managers and any(name.startswith("metrics.") for name in query.fields):
        said = "Metrics cannot be requested for a manager account."
        raise refused("QueryError.REQUESTED_METRICS_FOR_MANAGER", said)
    own = _customer(desk) if any(name in _CUSTOMER for name in query.named()) else {}
    return query, query.run({**row, **own} for row in table.rows(desk, query))


def _customer(desk: Desk) -> Row:
    who = desk.account(desk.customer)
    setting = "customer.conversion_tracking_setting."
    row: Row = {
        "customer.id": int(desk.customer),
        "customer.resource_name": f"customers/{desk.customer}",
        "customer.descriptive_name": who.name,
        "customer.currency_code": who.currency_code,
        "customer.time_zone": who.time_zone,
        "customer.manager": desk.customer in desk.google.managers,
        "customer.test_account": who.test_account,
        "customer.auto_tagging_enabled": who.auto_tagging,
        "customer.status": who.status,
        f"{setting}accepted_customer_data_terms": who.data_terms,
        f"{setting}conversion_tracking_status": who.tracking_status,
        f"{setting}google_ads_conversion_customer": f"customers/{who.conversion_customer or desk.customer}",
        f"{setting}enhanced_conversions_for_leads_enabled": who.enablement == "ON",
    }
    return row | dict.fromkeys(_NEWEST, who.enablement or None)


def _clients(desk: Desk, query: Query) -> Iterator[Row]:
    """The account itself at level 0, then everything below it."""
    levels = {desk.customer: 0}
    waiting = [desk.customer]
    while waiting:
        above = waiting.pop(0)
        for one in desk.google.managers.get(above, ()):
            if one not in levels:
                levels[one] = levels[above] + 1
                waiting.append(one)
    for one in (desk.customer, *below(desk.google, desk.customer)):
        who = desk.account(one)
        yield {
            "customer_client.id": int(one),
            "customer_client.client_customer": f"customers/{one}",
            "customer_client.resource_name": f"customers/{desk.customer}/customerClients/{one}",
            "customer_client.manager": one in desk.google.managers,
            "customer_client.level": levels[one],
            "customer_client.status": who.status,
            "customer_client.currency_code": who.currency_code,
            "customer_client.time_zone": who.time_zone,
            "customer_client.descriptive_name": who.name,
            "customer_client.test_account": who.test_account,
            "customer_client.hidden": False,
        }


def _campaigns(desk: Desk, query: Query) -> Iterator[Row]:
    if "segments.date" in query.fields and None in query.days():
        said = "A finite range of dates is required when segments.date is selected."
        raise refused("QueryError.EXPECTED_FILTERS_ON_DATE_RANGE", said)
    for cost in desk.ads.costs:
        if cost.account == desk.customer:
            yield {
                "campaign.id": int(cost.campaign_id),
                "campaign.name": cost.campaign or f"Campaign {cost.campaign_id}",
                "campaign.resource_name": f"customers/{desk.customer}/campaigns/{cost.campaign_id}",
                "campaign.status": "ENABLED",
                "segments.date": cost.day,
                "metrics.cost_micros": cost.cost_micros,
                "metrics.clicks": cost.clicks,
                "metrics.impressions": cost.impressions,
            }


def _clicks(desk: Desk, query: Query) -> Iterator[Row]:
    first, last = query.days()
    if first is None or first != last:
        said = "Queries including click_view must filter on a single day."
        raise refused("ClickViewError.EXPECTED_FILTER_ON_A_SINGLE_DAY", said)
    if first < desk.local(desk.now, desk.customer).date() - timedelta(days=90):
        raise refused("ClickViewError.DATE_TOO_OLD", "The date is more than 90 days ago.")
    for click in desk.ads.clicks:
        if click.account == desk.customer and desk.local(instant(click.at), desk.customer).date() == first:
            yield {
                "click_view.gclid": click.gclid,
                "click_view.resource_name": f"customers/{desk.customer}/clickViews/{first:%Y-%m-%d}~{click.gclid}",
                "campaign.id": int(click.campaign_id) if click.campaign_id else None,
                "ad_group.id": int(click.ad_group_id) if click.ad_group_id else None,
                "segments.date": first.isoformat(),
            }


def _actions(desk: Desk, query: Query) -> Iterator[Row]:
    for number, action in desk.google.customers.get(desk.customer, {}).items():
        yield {
            "conversion_action.id": int(number),
            "conversion_action.name": action.name,
            "conversion_action.resource_name": f"customers/{desk.customer}/conversionActions/{number}",
            "conversion_action.type": action.type,
            "conversion_action.status": action.status,
            "conversion_action.category": action.category,
            "conversion_action.counting_type": action.counting_type,
            "conversion_action.click_through_lookback_window_days": action.lookback_days,
            "conversion_action.owner_customer": f"customers/{desk.customer}",
            "conversion_action.primary_for_goal": action.primary_for_goal,
        }


def _variables(desk: Desk, query: Query) -> Iterator[Row]:
    for number, name in custom_variables(desk):
        yield {
            "conversion_custom_variable.id": int(number),
            "conversion_custom_variable.name": name,
            "conversion_custom_variable.tag": name,
            "conversion_custom_variable.status": "PAUSED" if name in desk.ads.disabled_variables else "ENABLED",
            "conversion_custom_variable.resource_name": f"customers/{desk.customer}/conversionCustomVariables/{number}",
            "conversion_custom_variable.owner_customer": f"customers/{desk.customer}",
        }


# Diagnostics: computed from the uploads of this sandbox, or told by the configuration.

_CLIENT = "offline_conversion_upload_client_summary"
_ACTION = "offline_conversion_upload_conversion_action_summary"


def _told(prefix: str, rows: list[Row], customer: str) -> Iterator[Row]:
    for row in rows:
        if row.get("customer", customer) == customer:
            yield {f"{prefix}.{name}": value for name, value in row.items() if name != "customer"}


def _client_summaries(desk: Desk, query: Query) -> Iterator[Row]:
    if desk.ads.client_summaries is not None:
        yield from _told(_CLIENT, desk.ads.client_summaries, desk.customer)
        return
    uploads = [one for one in desk.uploads if one.customer == desk.customer]
    if not uploads:
        return
    made = _summary(desk, uploads, None)
    total = made["total_event_count"]
    made["success_rate"] = made["successful_event_count"] / total if total else 0.0
    made["pending_rate"] = 0.0
    yield from _told(_CLIENT, [made], desk.customer)


def _action_summaries(desk: Desk, query: Query) -> Iterator[Row]:
    if desk.ads.action_summaries is not None:
        yield from _told(_ACTION, desk.ads.action_summaries, desk.customer)
        return
    uploads = [one for one in desk.uploads if one.customer == desk.customer]
    for action in sorted({name for one in uploads for name in one.taken}):
        known = desk.google.customers.get(desk.customer, {}).get(action)
        named = {"conversion_action_id": int(action), "conversion_action_name": known.name if known else ""}
        yield from _told(_ACTION, [_summary(desk, uploads, action) | named], desk.customer)


def _summary(desk: Desk, uploads: list[Upload], action: str | None) -> Row:
    """DOC ads/conversions/upload-summaries: the last seven days and jobs; days in the account's zone."""

    def number(counted: Counter[str]) -> int:
        return counted[action] if action else counted.total()

    uploads = [one for one in uploads if number(one.taken)]
    taken, failed = sum(number(one.taken) for one in uploads), sum(number(one.failed) for one in uploads)
    per_day: dict[str, list[Upload]] = {}
    for one in uploads:
        per_day.setdefault(desk.local(one.at, desk.customer).date().isoformat(), []).append(one)

    def part(some: list[Upload], **dimension: Any) -> Row:
        lost = sum(number(one.failed) for one in some)
        ok = sum(number(one.taken) for one in some) - lost
        return {"successful_count": ok, "failed_count": lost, "pending_count": 0, **dimension}

    errors: Counter[str] = Counter()
    for one in uploads:
        for (where, code), rows in one.errors.items():
            if action in (None, where):
                errors[code] += rows
    latest = max(one.at for one in uploads)
    old = desk.now - latest > _RECENT_DAYS * 86400
    return {
        "resource_name": f"customers/{desk.customer}/offlineConversionUpload{'ConversionAction' if action else 'Client'}"
        f"Summaries/{f'{action}~' if action else ''}GOOGLE_ADS_API",
        "client": "GOOGLE_ADS_API",
        "status": "NO_RECENT_UPLOAD" if old else _word(taken, failed),
        "total_event_count": taken,
        "successful_event_count": taken - failed,
        "pending_event_count": 0,
        "last_upload_date_time": f"{desk.local(latest, desk.customer):%Y-%m-%d %H:%M:%S}",
        "daily_summaries": [part(some, upload_date=day) for day, some in sorted(per_day.items())[-7:]],
        "job_summaries": [part([one], job_id=one.job) for one in uploads[-7:]],
        "alerts": [
            {"error": code, "error_percentage": rows / taken}
            for code, rows in errors.most_common()
            if code.partition(".")[0] in _ALERTS
        ],
    }


def _word(taken: int, failed: int) -> str:
    """Where Google draws the lines is told nowhere."""
    if failed * 2 > taken:
        return "NEEDS_ATTENTION"
    return "GOOD" if failed else "EXCELLENT"


_ALERTS = {
    "CollectionSizeError", "ConversionAdjustmentUploadError", "ConversionUploadError", "DateError", "DistinctError",
    "FieldError", "MutateError", "NotAllowlistedError", "StringFormatError", "StringLengthError",
}  # fmt: skip
_SUMMARY = (
    "resource_name client status total_event_count successful_event_count pending_event_count "
    "last_upload_date_time daily_summaries job_summaries alerts"
)


def _fields(resource: str, names: str, *others: str) -> frozenset[str]:
    return frozenset({f"{resource}.{name}" for name in names.split()} | set(others))


_MONEY = ("segments.date", "metrics.cost_micros", "metrics.clicks", "metrics.impressions")
_OF_CLIENT = (
    "id client_customer resource_name manager level status currency_code time_zone descriptive_name test_account hidden"
)
_OF_ACTION = (
    "id name resource_name type status category counting_type click_through_lookback_window_days owner_customer "
    "primary_for_goal"
)
TABLES = {
    "customer": Table(frozenset(_CUSTOMER), lambda desk, query: [{}]),
    "customer_client": Table(_fields("customer_client", _OF_CLIENT), _clients),
    "campaign": Table(_fields("campaign", "id name resource_name status", *_MONEY), _campaigns),
    "click_view": Table(
        _fields("click_view", "gclid resource_name", "campaign.id", "ad_group.id", "segments.date"), _clicks
    ),
    "conversion_action": Table(_fields("conversion_action", _OF_ACTION), _actions),
    "conversion_custom_variable": Table(
        _fields("conversion_custom_variable", "id name tag status resource_name owner_customer"), _variables
    ),
    _CLIENT: Table(_fields(_CLIENT, f"{_SUMMARY} success_rate pending_rate"), _client_summaries),
    _ACTION: Table(_fields(_ACTION, f"{_SUMMARY} conversion_action_id conversion_action_name"), _action_summaries),
}
