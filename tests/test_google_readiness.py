"""What `check --online` says of an account: everything that keeps conversions from counting without any error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from ads_rows import Asked, row
from convsync.config import GoogleTarget
from convsync.destinations.google.ads.answers import AdsRefused, Fault
from convsync.destinations.google.readiness import probe
from convsync.destinations.google.readings import UNREACHED, actions, customer, uploads, uploads_by_action
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import TRANSIENT

ACCOUNT = "1234567890"
LEAD = GoogleTarget(conversion_action="1111111111")
CALL = GoogleTarget(conversion_action="3333333333", calls=True)


def account(setting: Mapping[str, Any] = {}, **fields: Any) -> Any:
    owned = {
        "accepted_customer_data_terms": True, "google_ads_conversion_customer": f"customers/{ACCOUNT}",
        "conversion_tracking_status": "CONVERSION_TRACKING_MANAGED_BY_SELF", "effective_enablement_setting": "ON",
    }  # fmt: skip
    told = {"id": ACCOUNT, "status": "ENABLED", "auto_tagging_enabled": True, "descriptive_name": "Shop"}
    return row(customer=told | {"conversion_tracking_setting": owned | dict(setting)} | fields)


def action(number: str = "1111111111", **fields: Any) -> Any:
    told = {
        "id": number, "name": "Lead", "type": "UPLOAD_CLICKS", "status": "ENABLED", "category": "QUALIFIED_LEAD",
        "counting_type": "MANY_PER_CLICK", "click_through_lookback_window_days": 90,
        "owner_customer": f"customers/{ACCOUNT}",
    }  # fmt: skip
    return row(conversion_action=told | fields)


def look(
    customers: list[Any], known: Sequence[Any] = (), targets: tuple[GoogleTarget, ...] = (), **more: Any
) -> dict[str, Finding]:
    search = Asked(customer=customers, conversion_action=known)
    asked: dict[str, Any] = {"where": "destinations.google", "version": "v26", "max_age": timedelta(days=90)}
    return {one.code: one for one in probe(search, ACCOUNT, targets, **(asked | more))}


def test_a_custom_variable_that_google_does_not_have_is_an_error() -> None:
    search = Asked(customer=[account()], conversion_action=[], conversion_custom_variable=[variable("plan")])
    asked: dict[str, Any] = {"where": "destinations.google", "version": "v26", "max_age": timedelta(days=90)}
    assert probe(search, ACCOUNT, (), names=("plan",), **asked) == []
    (found,) = probe(search, ACCOUNT, (), names=("plan", "tariff"), **asked)
    assert (found.level, found.code) == ("error", "custom_variable")
    assert "tariff" in found.message
    assert "plan" not in found.message


def variable(name: str) -> Any:
    return row(conversion_custom_variable={"id": "7", "name": name})


# -- not being able to look


SHUT = Finding("error", "api_disabled", "destinations.google", "The API is off.", "Switch it on.")
DENIED = Finding("error", "user_permission_denied", "destinations.google", "The user may not.", "Give access.")
CLOSED = Finding("error", "customer_not_enabled", "destinations.google", "The account is closed.", "Look at it.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Halted(SHUT), "api_disabled"),
        (AdsRefused([Fault("QueryError.BAD_FIELD_NAME", "no such field")]), "not_readable"),
        (NotSent("refused"), "no_answer"),
        (Unclear("timeout"), "no_answer"),
    ],
)
def test_an_account_that_cannot_be_read_is_an_error_unless_reading_is_optional(error: Exception, code: str) -> None:
    needed = look([error])
    assert needed[code].level == "error"
    (found,) = look([error], optional=True).values()
    assert found.level == "info"
    assert found.where == "destinations.google"
    if isinstance(error, Halted):
        assert "The API is off." in found.message
        assert found.advice == "Uploads work without it. Switch it on."


def test_what_is_wrong_with_the_account_itself_is_no_note_even_if_reading_is_optional() -> None:
    assert look([Halted(CLOSED)], optional=True) == {"customer_not_enabled": CLOSED}
    (denied,) = look([Halted(DENIED)], optional=True).values()
    assert (denied.level, denied.advice) == ("warning", "Give access.")


@pytest.mark.parametrize(
    ("fault", "message", "advice"),
    [
        (NotSent("tls"), "its certificate is not trusted", "ca_bundle"),
        (NotSent("dns"), "the name of its host is not known here", "network"),
        (Unclear("internal"), "gave no usable answer (internal)", "later"),
    ],
)
def test_no_answer_is_told_in_words(fault: Exception, message: str, advice: str) -> None:
    found = look([fault])["no_answer"]
    assert message in found.message
    assert advice in found.advice


def test_every_word_for_a_request_that_never_left_is_known() -> None:
    assert set(UNREACHED) == TRANSIENT


def test_an_account_of_which_nothing_is_told_is_an_error() -> None:
    assert look([])["no_account"].level == "error"


def test_what_fails_while_conversion_actions_are_read_keeps_what_was_found() -> None:
    found = look([account()], [NotSent("refused")], (LEAD,))
    assert set(found) == {"no_answer"}


def test_older_versions_tell_of_enhanced_conversions_in_another_field() -> None:
    setting = {"accepted_customer_data_terms": True, "enhanced_conversions_for_leads_enabled": False}
    told = {"id": ACCOUNT, "status": "ENABLED", "auto_tagging_enabled": True, "conversion_tracking_setting": setting}
    found = look([row("v25", customer=told)], version="v25")
    assert set(found) == {"enhanced_conversions_off"}


@pytest.mark.parametrize(("version", "level"), [("v22", "error"), ("v23", "warning"), ("v24", ""), ("v26", "")])
def test_a_version_that_ends_is_told_before_it_is_gone(version: str, level: str) -> None:
    found = look([NotSent("refused")], version=version)
    assert [one.level for code, one in found.items() if code.startswith("version")] == ([level] if level else [])


# -- the account


@pytest.mark.parametrize(
    ("customers", "code", "level"),
    [
        (account(status="SUSPENDED"), "account_closed", "error"),
        (account(test_account=True), "test_account", "warning"),
        (account(auto_tagging_enabled=False), "auto_tagging_off", "warning"),
        (account({"accepted_customer_data_terms": False}), "data_terms", "warning"),
        (account({"effective_enablement_setting": "OFF"}), "enhanced_conversions_off", "warning"),
        (account({"google_ads_conversion_customer": "customers/5550001111"}), "not_owner", "error"),
    ],
)
def test_whatever_is_wrong_with_the_account_is_told_alone(customers: Any, code: str, level: str) -> None:
    found = look([customers])
    assert {code: one.level for code, one in found.items()} == {code: level}
    assert found[code].advice


def test_a_manager_account_without_the_conversion_actions_is_the_one_thing_to_mend() -> None:
    found = look([account(manager=True)], [], (LEAD, CALL))
    assert set(found) == {"manager_account"}
    assert "1111111111, 3333333333" in found["manager_account"].message
    assert f'login_customer_id = "{ACCOUNT}"' in found["manager_account"].advice


def test_a_manager_account_may_own_the_conversion_actions() -> None:
    assert set(look([account(manager=True)], [action()], (LEAD,))) == {"actions_ready"}


def test_conversions_of_another_account_name_the_customer_id_to_write() -> None:
    found = look([account({"google_ads_conversion_customer": "customers/5550001111"})])
    assert 'customer_id = "5550001111"' in found["not_owner"].advice


def test_an_account_that_is_set_up_is_not_complained_about() -> None:
    assert look([account()]) == {}
    assert look([account({"effective_enablement_setting": "UNSPECIFIED"})]) == {}


@pytest.mark.parametrize(("version", "field"), [("v26", "effective_enablement_setting"), ("v25", "leads_enabled")])
def test_only_fields_that_the_version_has_are_asked_for(version: str, field: str) -> None:
    search = Asked()
    assert customer(search, ACCOUNT, version) is None
    ((_, query),) = search.queries
    assert field in query
    assert ("enablement_setting" in query) == (version == "v26")


# -- its conversion actions


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "WEBPAGE"}, "wrong_type"),
        ({"type": "UPLOAD_CALLS"}, "wrong_type"),
        ({"status": "REMOVED"}, "action_not_enabled"),
        ({"status": "HIDDEN"}, "action_not_enabled"),
        ({"owner_customer": "customers/5550001111"}, "action_of_another"),
    ],
)
def test_a_conversion_action_that_cannot_be_uploaded_to_is_an_error(fields: dict[str, str], code: str) -> None:
    found = look([account()], [action(**fields), action("4444444444", name="Leads")], (LEAD,))
    assert {code: one.level for code, one in found.items()} == {code: "error"}


def test_one_that_does_not_exist_is_told_with_the_nearest() -> None:
    known = [action("1111111112", name="Lead"), action("9999999999", name="Sale"), action("7", type="WEBPAGE")]
    found = look([account()], known, (LEAD,))
    assert "no conversion action 1111111111" in found["no_conversion_action"].message
    assert found["no_conversion_action"].advice == "Did you mean 1111111112 (Lead)?"
    far = look([account()], [action("9999999999", name="Sale")], (LEAD,))
    assert far["no_conversion_action"].advice.startswith("There are 9999999999 (Sale).")
    none = look([account()], [action("7", type="WEBPAGE")], (LEAD,))
    assert "There is none of type UPLOAD_CLICKS: make one" in none["no_conversion_action"].advice


def test_calls_need_an_action_for_calls() -> None:
    calls = action("3333333333", name="Call", type="UPLOAD_CALLS")
    assert set(look([account()], [calls], (CALL,))) == {"actions_ready"}
    assert look([account()], [action("3333333333")], (CALL,))["wrong_type"].level == "error"


def test_actions_older_than_the_window_and_one_per_click_are_notes() -> None:
    short = action(click_through_lookback_window_days=30, counting_type="ONE_PER_CLICK")
    found = look([account()], [short], (LEAD, LEAD))
    assert {code: one.level for code, one in found.items()} == {
        "window": "info", "one_per_click": "info", "actions_ready": "info",
    }  # fmt: skip
    assert "30 days after the click, and actions up to 90 days old" in found["window"].message
    assert set(look([account()], [short], (LEAD,), max_age=timedelta(days=30))) == {"one_per_click", "actions_ready"}


# -- what is read


def test_a_value_that_is_newer_than_our_library_stays_a_number() -> None:
    newer = action()
    newer.conversion_action.category = 9999
    (one,) = actions(Asked(conversion_action=[newer]), ACCOUNT)
    assert (one.category, one.type, one.owner) == ("9999", "UPLOAD_CLICKS", ACCOUNT)


def test_what_google_made_of_uploads_is_read_by_client_and_by_action() -> None:
    told = {
        "client": "GOOGLE_ADS_API", "status": "NEEDS_ATTENTION", "total_event_count": 10, "successful_event_count": 7,
        "pending_event_count": 1, "last_upload_date_time": "2026-11-22 10:00:00",
        "daily_summaries": [
            {"upload_date": "2026-11-22", "successful_count": 7, "failed_count": 2, "pending_count": 1},
            {"job_id": 5, "successful_count": 1},
        ],
        "alerts": [
            {"error": {"conversion_upload_error": "EVENT_NOT_FOUND"}, "error_percentage": 0.25},
            {"error": {"not_allowlisted_error": "CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE"}, "error_percentage": 1.0},
            {"error": {}, "error_percentage": 0.5},
        ],
    }  # fmt: skip
    search = Asked(
        offline_conversion_upload_client_summary=[row(offline_conversion_upload_client_summary=told)],
        offline_conversion_upload_conversion_action_summary=[
            row(
                offline_conversion_upload_conversion_action_summary=told
                | {"conversion_action_id": 1111111111, "conversion_action_name": "Lead"}
            )
        ],
    )
    (whole,), (part,) = uploads(search, ACCOUNT), uploads_by_action(search, ACCOUNT)
    assert whole.alerts == (
        ("ConversionUploadError.EVENT_NOT_FOUND", 0.25),
        ("NotAllowlistedError.CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE", 1.0),
        ("UNKNOWN", 0.5),
    )
    assert [(str(day.day), day.successful, day.failed, day.pending) for day in whole.days] == [("2026-11-22", 7, 2, 1)]
    assert (part.action, part.name, part._replace(action="", name="")) == ("1111111111", "Lead", whole)
