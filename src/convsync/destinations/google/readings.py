"""What the Google Ads API tells of an account: its settings, its conversion actions, what it made of uploads.

Each reading takes a `Search`, which answers `(customer id, GAQL)` with messages of any version, and lets through
whatever that raises. Words of an enum are Google's own; a number that our library does not know stays a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any, NamedTuple

from convsync.errors import WireError

Search = Callable[[str, str], Iterable[Any]]

ENABLEMENT = 26
"""The first version with `effective_enablement_setting`, and without what stood in its place. MEASURED."""

OF_THE_ACCOUNT = frozenset({
    "access_denied_for_account_type", "action_not_permitted_for_suspended_account", "client_customer_id_invalid",
    "customer_not_enabled", "customer_not_found", "incomplete_signup", "invalid_customer_id",
    "invalid_login_customer_id_serving_customer_id_combination", "login_customer_id_parameter_missing",
    "permission_denied", "user_permission_denied",
})  # fmt: skip
"""Findings that stop one account and say nothing of the others. CODE google-ads 34.0.0, enums of errors"""
UNREACHED = {
    "connect_timeout": "it did not answer in time",
    "dns": "the name of its host is not known here",
    "proxy": "a proxy did not let the question through",
    "connection refused": "nothing listens at its address",
    "tls": "its certificate is not trusted",
    "unreachable": "it cannot be reached",
}
"""The words of `net.TRANSIENT`, as a person says them."""


class Customer(NamedTuple):
    """The settings of an account that uploads depend on."""

    id: str
    name: str
    currency: str
    time_zone: str
    status: str
    """ENABLED, CANCELED, SUSPENDED, CLOSED."""
    manager: bool
    test_account: bool
    auto_tagging: bool
    data_terms: bool
    tracking: str
    owner: str
    """The id of the account that the conversions of this one belong to; empty when Google names none."""
    leads: str
    """Enhanced conversions: ON, OFF, or UNSPECIFIED when Google does not say."""


class ConversionAction(NamedTuple):
    """A conversion action: `window` in days after the click, `owner` the id of an account."""

    id: str
    name: str
    type: str
    status: str
    category: str
    counting: str
    window: int
    owner: str


class Day(NamedTuple):
    """Events of one day of uploads, in the zone of the account."""

    day: date
    successful: int
    failed: int
    pending: int


class Uploads(NamedTuple):
    """What Google made of the uploads of one client, to the account or (`action` not empty) to one conversion action.

    Counts cover what Google still shows; `alerts` are shares (0 to 1) of the last day with uploads.
    """

    client: str
    action: str
    name: str
    status: str
    total: int
    successful: int
    pending: int
    last: str
    """The time of the last upload in the zone of the account, as Google writes it; empty without one."""
    days: tuple[Day, ...]
    alerts: tuple[tuple[str, float], ...]


def no_answer(fault: WireError, api: str = "the Google Ads API", address: str = "ads_endpoint") -> tuple[str, str]:
    """Half a sentence that says why `api` did not tell, and what to do about it; `address` is the key that holds its."""
    said = UNREACHED.get(fault.reason)
    kind, _, until = fault.reason.partition(": ")
    if kind == "rate_limit":
        return until, "Every program with the same keys shares it. Try again then."
    if said is None:
        what = "takes no more requests for now" if kind.startswith("HTTP 429") else "gave no usable answer"
        return f"{api} {what} ({fault.reason})", "Try again later."
    check = f"{address}, ca_bundle and the clock of this machine" if fault.reason == "tls" else "the network"
    return f"{api} was not reached ({said})", f"Check {check}, then try again."


def variables(search: Search, customer_id: str) -> dict[str, str]:
    """The custom variables of an account: name → number."""
    names = ", ".join(f"conversion_custom_variable.{name}" for name in ("id", "name"))
    found = (
        row.conversion_custom_variable for row in search(customer_id, f"SELECT {names} FROM conversion_custom_variable")
    )
    return {one.name: str(one.id) for one in found}


def customer(search: Search, customer_id: str, version: str) -> Customer | None:
    """The settings of an account; None when Google answers without telling of one."""
    new = int(version.removeprefix("v")) >= ENABLEMENT
    leads = "effective_enablement_setting" if new else "enhanced_conversions_for_leads_enabled"
    fields = (
        "id", "descriptive_name", "currency_code", "time_zone", "status", "manager", "test_account",
        "auto_tagging_enabled",
    )  # fmt: skip
    tracking = ("accepted_customer_data_terms", "conversion_tracking_status", "google_ads_conversion_customer", leads)
    names = [*fields, *(f"conversion_tracking_setting.{name}" for name in tracking)]
    for row in search(customer_id, f"SELECT {', '.join(f'customer.{name}' for name in names)} FROM customer"):
        told, setting = row.customer, row.customer.conversion_tracking_setting
        return Customer(
            id=str(told.id),
            name=told.descriptive_name,
            currency=told.currency_code,
            time_zone=told.time_zone,
            status=word(told, "status"),
            manager=told.manager,
            test_account=told.test_account,
            auto_tagging=told.auto_tagging_enabled,
            data_terms=setting.accepted_customer_data_terms,
            tracking=word(setting, "conversion_tracking_status"),
            owner=last_part(setting.google_ads_conversion_customer),
            leads=word(setting, leads) if new else "ON" if setting.enhanced_conversions_for_leads_enabled else "OFF",
        )
    return None


def actions(search: Search, customer_id: str) -> Iterator[ConversionAction]:
    """Every conversion action that the account can see, removed ones too."""
    names = ("id", "name", "type", "status", "category", "counting_type", "click_through_lookback_window_days",
             "owner_customer")  # fmt: skip
    query = f"SELECT {', '.join(f'conversion_action.{name}' for name in names)} FROM conversion_action"
    for row in search(customer_id, query):
        told = row.conversion_action
        yield ConversionAction(
            id=str(told.id),
            name=told.name,
            type=word(told, "type_"),
            status=word(told, "status"),
            category=word(told, "category"),
            counting=word(told, "counting_type"),
            window=told.click_through_lookback_window_days,
            owner=last_part(told.owner_customer),
        )


_COMMON = (
    "client", "status", "total_event_count", "successful_event_count", "pending_event_count", "last_upload_date_time",
    "daily_summaries", "alerts",
)  # fmt: skip


def uploads(search: Search, customer_id: str) -> Iterator[Uploads]:
    """One for each client that uploads to the account. DOC ads/conversions/upload-summaries."""
    return _uploads(search, customer_id, "offline_conversion_upload_client_summary", ())


def uploads_by_action(search: Search, customer_id: str) -> Iterator[Uploads]:
    """One for each client and conversion action."""
    named = ("conversion_action_id", "conversion_action_name")
    return _uploads(search, customer_id, "offline_conversion_upload_conversion_action_summary", named)


def _uploads(search: Search, customer_id: str, resource: str, named: tuple[str, ...]) -> Iterator[Uploads]:
    fields = ", ".join(f"{resource}.{name}" for name in (*named, *_COMMON))
    for row in search(customer_id, f"SELECT customer.id, {fields} FROM {resource}"):
        told = getattr(row, resource)
        yield Uploads(
            client=word(told, "client"),
            action=str(told.conversion_action_id) if named else "",
            name=told.conversion_action_name if named else "",
            status=word(told, "status"),
            total=told.total_event_count,
            successful=told.successful_event_count,
            pending=told.pending_event_count,
            last=told.last_upload_date_time,
            days=tuple(
                Day(date.fromisoformat(one.upload_date), one.successful_count, one.failed_count, one.pending_count)
                for one in told.daily_summaries
                if one.upload_date
            ),
            alerts=tuple((_error(one.error), one.error_percentage) for one in told.alerts),
        )


def _error(error: Any) -> str:
    """`ConversionUploadError.EVENT_NOT_FOUND`: whichever enum of errors is set, and its value."""
    set_ = (field for field, _ in error.ListFields())
    return next((f"{field.enum_type.name}.{word(error, field.name)}" for field in set_), "UNKNOWN")


def word(message: Any, field: str) -> str:
    """The name of an enum's value, as the message itself describes it."""
    number = getattr(message, field)
    found = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return found.name if found else str(number)


def last_part(resource: str) -> str:
    """The id at the end of a resource name: `customers/1234567890`."""
    return resource.rpartition("/")[2]
