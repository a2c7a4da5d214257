"""Uploads of clicks and calls by the real google-ads client: what is refused, per row, and what is counted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from convsync.sandbox.ads.config import AdClick

if TYPE_CHECKING:
    from conftest import AdsCaller


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_upload_without_partial_failure_is_refused(ads: AdsCaller) -> None:
    refusal = ads.refused(lambda: ads.upload(ads.click(), partial_failure=False))
    assert refusal == ("INVALID_ARGUMENT", ["PARTIAL_FAILURE_MODE_REQUIRED"])
    assert ads.box.books()["google"]["totals"]["conversions"] == 0


def test_no_rows_2001_rows_and_a_negative_job_id_are_refused(ads: AdsCaller) -> None:
    assert ads.refused(ads.upload)[1] == ["REQUIRED"]
    assert ads.refused(lambda: ads.upload(*[ads.click()] * 2001))[1] == ["TOO_MANY_CONVERSIONS_IN_REQUEST"]
    assert ads.refused(lambda: ads.upload(ads.click(), job_id=-1))[1] == ["INVALID_JOB_ID"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"conversion_date_time": None}, "REQUIRED"),
        ({"conversion_date_time": "2026-11-19T10:00:00+03:00"}, "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET"),
        ({"conversion_date_time": "2026-11-19 10:00:00"}, "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET"),
        ({"conversion_date_time": "2026-11-19 10:00:00Z"}, "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET"),
        ({"conversion_date_time": "2026-13-19 10:00:00+03:00"}, "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET"),
        ({"conversion_date_time": "2026-11-20 12:00:01+00:00"}, "LATER_THAN_MAXIMUM_DATE"),
        ({"ago": 91 * 86400}, "EXPIRED_EVENT"),
        ({"conversion_action": None}, "REQUIRED"),
        ({"conversion_action": "customers/1234567890/conversionActions/77"}, "NO_CONVERSION_ACTION_FOUND"),
        ({"conversion_action": "1111111111"}, "NO_CONVERSION_ACTION_FOUND"),
        ({"conversion_action": "customers/9876543210/conversionActions/6666666666"}, "NO_CONVERSION_ACTION_FOUND"),
        ({"conversion_action": "customers/1/conversionActions/4444444444"}, "INVALID_CONVERSION_ACTION_TYPE"),
        ({"conversion_action": "customers/1/conversionActions/8888888888"}, "INVALID_CONVERSION_ACTION_TYPE"),
        ({"conversion_action": "customers/1/conversionActions/5555555555"}, "TOO_RECENT_CONVERSION_ACTION"),
        ({"gclid": None}, "REQUIRED"),
        ({"gclid": None, "gbraid": "a", "wbraid": "b"}, "GBRAID_WBRAID_BOTH_SET"),
        ({"wbraid": "b"}, "VALUE_MUST_BE_UNSET"),
        ({"order_id": ""}, "EMPTY"),
        ({"order_id": "a@example.com"}, "ORDER_ID_CONTAINS_PII"),
        ({"currency_code": "rub"}, "UNSUPPORTED"),
        ({"conversion_value": -1.0}, "TOO_LOW"),
        ({"gclid": "fate-UNPARSEABLE_GCLID-7"}, "UNPARSEABLE_GCLID"),
        ({"gclid": "fate-INVALID_GCLID-7"}, "UNPARSEABLE_GCLID"),
        ({"gclid": "fate-InternalError.TRANSIENT_ERROR-7"}, "TRANSIENT_ERROR"),
        ({"gclid": "fate-NOBODY_KNOWS-7"}, "?"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_and_the_others_are_counted(
    ads: AdsCaller, changes: dict[str, Any], code: str
) -> None:
    answer = ads.upload(ads.click(1), ads.click(2, **changes), ads.click(3))
    assert ads.errors(answer) == [(1, code)]
    assert [result.gclid for result in answer.results] == ["click-1", "", "click-3"]
    assert ads.book()["conversions"] == 2


def test_an_error_in_the_first_row_has_index_0(ads: AdsCaller) -> None:
    assert ads.errors(ads.upload(ads.click(1, currency_code="x"), ads.click(2))) == [(0, "UNSUPPORTED")]


def test_a_row_may_have_several_errors(ads: AdsCaller) -> None:
    row = ads.click(1, currency_code="x", conversion_date_time="now")
    found = ads.errors(ads.upload(ads.click(0), row))
    assert found == [(1, "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET"), (1, "UNSUPPORTED")]
    fated = ads.upload(ads.click(2, gclid="fate-CLICK_NOT_FOUND+EXPIRED_EVENT-1"))
    assert ads.errors(fated) == [(0, "CLICK_NOT_FOUND"), (0, "EXPIRED_EVENT")]


def test_a_contact_is_named_below_its_row(ads: AdsCaller) -> None:
    row = ads.click(1)
    row.user_identifiers.add(hashed_email=sha256("a@example.com"))
    row.user_identifiers.add(hashed_phone_number="+74950000000")
    answer = ads.upload(ads.click(0), row)
    assert ads.errors(answer) == [(1, "INVALID_USER_IDENTIFIER")]
    failure = ads.client.get_type("GoogleAdsFailure")
    answer.partial_failure_error.details[0].Unpack(failure)
    path = [(e.field_name, e.index) for e in failure.errors[0].location.field_path_elements]
    assert path == [("conversions", 1), ("user_identifiers", 1), ("hashed_phone_number", 0)]


def test_an_address_six_contacts_and_a_braid_beside_contacts_are_refused(ads: AdsCaller) -> None:
    address, many, braid = ads.click(1), ads.click(2), ads.click(3, gclid=None, gbraid="b")
    address.user_identifiers.add().address_info.city = "Tver"
    for number in range(6):
        many.user_identifiers.add(hashed_email=sha256(str(number)))
    braid.user_identifiers.add(hashed_email=sha256("a"))
    found = ads.errors(ads.upload(address, many, braid))
    assert found == [(0, "UNSUPPORTED_USER_IDENTIFIER"), (1, "TOO_MANY"), (2, "VALUE_MUST_BE_UNSET")]


def test_a_gclid_goes_with_a_gbraid_and_with_contacts(ads: AdsCaller) -> None:
    both, person = ads.click(1, gbraid="b"), ads.click(2)
    person.user_identifiers.add(hashed_email=sha256("a@example.com"))
    only = ads.click(3, gclid=None)
    only.user_identifiers.add(hashed_phone_number=sha256("+74950000000"))
    assert ads.errors(ads.upload(both, person, only)) == []
    assert ads.book()["transactions"]["cs-3"]["has_user_data"]


def test_a_braid_is_not_for_an_action_that_counts_one_per_click(ads: AdsCaller) -> None:
    ads.box.config.google.customers["1234567890"]["1111111111"].counting_type = "ONE_PER_CLICK"
    answer = ads.upload(ads.click(1, gclid=None, wbraid="w"))
    assert ads.errors(answer) == [(0, "ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID")]


def test_custom_variables_must_exist_be_enabled_and_hold_no_contact(ads: AdsCaller) -> None:
    ads.box.config.ads.disabled_variables = ["branch"]
    row = ads.click(1)
    for number, value in ((700001, "good"), (700001, "a@example.com"), (700002, "x"), (5, "x")):
        name = f"customers/1234567890/conversionCustomVariables/{number}"
        row.custom_variables.add(conversion_custom_variable=name, value=value)
    assert [code for _, code in ads.errors(ads.upload(row))] == [
        "CUSTOM_VARIABLE_VALUE_CONTAINS_PII",
        "CUSTOM_VARIABLE_NOT_ENABLED",
        "CUSTOM_VARIABLE_NOT_ENABLED",
    ]


def test_an_order_id_is_taken_once_for_an_action(ads: AdsCaller) -> None:
    assert ads.errors(ads.upload(ads.click(1))) == []
    assert ads.errors(ads.upload(ads.click(1, conversion_value=7.0))) == [(0, "ORDER_ID_ALREADY_IN_USE")]
    other = ads.click(1, conversion_action="customers/1/conversionActions/2222222222")
    assert ads.errors(ads.upload(other)) == []
    assert ads.book()["transactions"]["cs-1"]["value"] == "100.5"


def test_without_order_id_a_click_and_a_second_are_taken_once(ads: AdsCaller) -> None:
    assert ads.errors(ads.upload(ads.click(1, order_id=None))) == []
    assert ads.errors(ads.upload(ads.click(1, order_id=None))) == [(0, "CLICK_CONVERSION_ALREADY_EXISTS")]
    assert ads.errors(ads.upload(ads.click(1, order_id=None, ago=86401))) == []
    assert ads.book()["without_transaction_id"] == 2


def test_the_same_row_twice_in_a_request_is_refused_each_time_and_never_counted(ads: AdsCaller) -> None:
    nameless = ads.click(2, order_id=None)
    answer = ads.upload(ads.click(1), nameless, ads.click(1), nameless, ads.click(3))
    same = "DUPLICATE_CLICK_CONVERSION_IN_REQUEST"
    assert ads.errors(answer) == [(0, "DUPLICATE_ORDER_ID"), (1, same), (2, "DUPLICATE_ORDER_ID"), (3, same)]
    assert ads.book()["conversions"] == 1


def test_validate_only_tells_errors_and_gives_no_results(ads: AdsCaller) -> None:
    answer = ads.upload(ads.click(1), ads.click(2, currency_code="x"), validate_only=True)
    assert (ads.errors(answer), len(answer.results)) == ([(1, "UNSUPPORTED")], 0)
    assert ads.box.books()["google"]["totals"]["conversions"] == 0
    assert ads.box.books()["ads"]["rows"]["ads.clicks"]["validated"] == 2


def test_the_job_id_comes_back_or_is_made_up(ads: AdsCaller) -> None:
    assert ads.upload(ads.click(1), job_id=77).job_id == 77
    assert ads.upload(ads.click(2)).job_id > 2**31


def test_a_project_that_is_not_on_the_list_is_told_so_on_every_row_of_an_ok_call(ads: AdsCaller) -> None:
    ads.box.config.ads.allowlisted = False
    answer = ads.upload(ads.click(1), ads.click(2))
    code = "CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE"
    assert ads.errors(answer) == [(0, code), (1, code)]
    assert ads.box.books()["google"]["totals"]["conversions"] == 0


def test_a_partial_failure_without_location_without_details_or_unreadable(ads: AdsCaller) -> None:
    bad = ads.click(1, currency_code="x")
    ads.box.config.ads.errors_located = False
    assert ads.errors(ads.upload(bad)) == [(None, "UNSUPPORTED")]
    ads.box.config.ads.details = "absent"
    answer = ads.upload(bad)
    assert (answer.partial_failure_error.code, len(answer.partial_failure_error.details)) == (3, 0)
    ads.box.config.ads.details = "undecodable"
    (detail,) = ads.upload(bad).partial_failure_error.details
    with pytest.raises(Exception, match="Error parsing message"):
        detail.Unpack(ads.client.get_type("GoogleAdsFailure"))


def test_a_known_click_decides_about_the_time(ads: AdsCaller) -> None:
    at = ads.box.clock.now().isoformat()
    ads.box.config.ads.clicks = [
        AdClick("click-1", at="2026-11-20T07:00:00+00:00"),
        AdClick("click-2", at="2026-11-19T13:00:00+00:00"),
        AdClick("click-3", at="2026-08-01T13:00:00+00:00"),
        AdClick("click-4", at="2026-11-01T13:00:00+00:00", account="1112223333"),
        AdClick("click-5", at="2026-11-19T11:00:00+00:00"),
    ]
    recent = ads.click(1, conversion_date_time="2026-11-20 08:00:00+00:00")
    assert at.startswith("2026-11-20T12:00")
    answer = ads.upload(recent, *[ads.click(number) for number in (2, 3, 4, 5)])
    assert ads.errors(answer) == [
        (0, "TOO_RECENT_EVENT"),
        (1, "CONVERSION_PRECEDES_EVENT"),
        (2, "EXPIRED_EVENT"),
        (3, "INVALID_CUSTOMER_FOR_CLICK"),
    ]
    ads.box.clock.advance(6 * 3600)
    assert ads.errors(ads.upload(recent)) == []


def test_a_click_nobody_saw_can_be_refused(ads: AdsCaller) -> None:
    ads.box.config.ads.unknown_click = "EVENT_NOT_FOUND"
    assert ads.errors(ads.upload(ads.click(1))) == [(0, "EVENT_NOT_FOUND")]


def test_a_fate_strikes_by_order_id_and_an_internal_error_only_once(ads: AdsCaller) -> None:
    ads.box.config.ads.fates = {"cs-1": "INTERNAL_ERROR", "cs-2": "CUSTOM_VARIABLE_NOT_ENABLED"}
    rows = [ads.click(1), ads.click(2)]
    assert ads.errors(ads.upload(*rows)) == [(0, "INTERNAL_ERROR"), (1, "CUSTOM_VARIABLE_NOT_ENABLED")]
    assert ads.errors(ads.upload(*rows)) == [(1, "CUSTOM_VARIABLE_NOT_ENABLED")]
    assert ads.book()["transactions"]["cs-2"]["status"] == "CUSTOM_VARIABLE_NOT_ENABLED"


def test_every_error_of_an_upload_can_be_a_fate(ads: AdsCaller) -> None:
    errors = ads.client.get_type("GoogleAdsFailure").errors.add().error_code
    enum = errors.DESCRIPTOR.fields_by_name["conversion_upload_error"].enum_type
    names = [value.name for value in enum.values]
    rows = [ads.click(number, ago=60, gclid=f"fate-{name}-{number}") for number, name in enumerate(names)]
    assert ads.errors(ads.upload(*rows)) == list(enumerate(names))


def test_a_parent_account_may_upload_for_its_child(ads: AdsCaller) -> None:
    assert ads.errors(ads.upload(ads.click(1), customer_id="5550001111")) == []
    assert ads.book()["conversions"] == 1


# Calls.


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"caller_id": None}, "REQUIRED"),
        ({"caller_id": sha256("+74950000000")}, "UNPARSEABLE_CALLERS_PHONE_NUMBER"),
        ({"caller_id": "84950000000"}, "UNPARSEABLE_CALLERS_PHONE_NUMBER"),
        ({"call_start_date_time": None}, "REQUIRED"),
        ({"lasted": -1}, "CONVERSION_PRECEDES_CALL"),
        ({"ago": 6 * 3600 - 1}, "TOO_RECENT_CALL"),
        ({"ago": 95 * 86400, "lasted": 91 * 86400}, "EXPIRED_CALL"),
        ({"conversion_action": "customers/1/conversionActions/1111111111"}, "INVALID_CONVERSION_ACTION_TYPE"),
        ({"conversion_action": "customers/1/conversionActions/7"}, "NO_CONVERSION_ACTION_FOUND"),
    ],
)
def test_a_call_that_breaks_a_rule_is_refused(ads: AdsCaller, changes: dict[str, Any], code: str) -> None:
    answer = ads.upload_calls(ads.call(1), ads.call(2, **changes))
    assert ads.errors(answer) == [(1, code)]
    assert [bool(result.caller_id) for result in answer.results] == [True, False]
    assert ads.book("8888888888")["conversions"] == 1


def test_a_call_is_counted_once(ads: AdsCaller) -> None:
    assert ads.errors(ads.upload_calls(ads.call(1))) == []
    assert ads.errors(ads.upload_calls(ads.call(1))) == [(0, "CALL_CONVERSION_ALREADY_EXISTS")]
    twice = ads.upload_calls(ads.call(2), ads.call(2))
    assert ads.errors(twice) == [(row, "DUPLICATE_CALL_CONVERSION_IN_REQUEST") for row in (0, 1)]
    assert ads.errors(ads.upload_calls(ads.call(1, lasted=60))) == []
    assert ads.book("8888888888")["conversions"] == 2


def test_a_call_that_google_does_not_know_is_not_found(ads: AdsCaller) -> None:
    started = ads.call(1).call_start_date_time
    ads.box.config.ads.known_calls = {"+74950000001": [started]}
    ads.box.config.ads.fates = {"+74950000003": "INVALID_CUSTOMER_FOR_CALL"}
    ads.box.config.ads.known_calls["+74950000003"] = [started]
    answer = ads.upload_calls(ads.call(1), ads.call(2), ads.call(3))
    assert ads.errors(answer) == [(1, "CALL_NOT_FOUND"), (2, "INVALID_CUSTOMER_FOR_CALL")]


def test_the_books_hold_no_telephone_number(ads: AdsCaller) -> None:
    ads.upload_calls(ads.call(1))
    assert "4950000001" not in str(ads.box.books()) + str(ads.box.requests())
