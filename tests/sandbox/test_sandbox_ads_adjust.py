"""Adjustments by the real google-ads client: retractions, restatements, and the books that both APIs share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import AdsCaller, GoogleClient

from convsync.sandbox import Sandbox


@pytest.fixture
def box(ads_box: Sandbox) -> Sandbox:
    """Data Manager and the Ads API of one sandbox."""
    return ads_box


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"kind": "RETRACTION", "order_id": "cs-9"}, "CONVERSION_NOT_FOUND"),
        ({"kind": "RETRACTION", "order_id": None}, "REQUIRED"),
        ({"kind": "RETRACTION", "order_id": ""}, "EMPTY"),
        ({"kind": "RETRACTION", "order_id": "+7 (495) 000-00-00"}, "ORDER_ID_CONTAINS_PII"),
        ({"kind": "RETRACTION", "adjustment_type": 0}, "REQUIRED"),
        ({"kind": "RETRACTION", "value": 0.0}, "VALUE_MUST_BE_UNSET"),
        ({"kind": "RETRACTION", "adjustment_date_time": None}, "REQUIRED"),
        (
            {"kind": "RETRACTION", "adjustment_date_time": "2026-11-20T10:00:00Z"},
            "INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET",
        ),
        (
            {"kind": "RETRACTION", "adjustment_date_time": "2026-11-18 10:00:00+00:00"},
            "ADJUSTMENT_PRECEDES_CONVERSION",
        ),
        ({"kind": "RETRACTION", "conversion_action": None}, "REQUIRED"),
        ({"kind": "RETRACTION", "conversion_action": "customers/1/conversionActions/7"}, "NO_CONVERSION_ACTION_FOUND"),
        (
            {"kind": "RETRACTION", "conversion_action": "customers/1/conversionActions/8888888888"},
            "INVALID_CONVERSION_ACTION_TYPE",
        ),
        (
            {"kind": "RETRACTION", "conversion_action": "customers/1/conversionActions/2222222222"},
            "CONVERSION_NOT_FOUND",
        ),
        ({"kind": "RESTATEMENT"}, "REQUIRED"),
        ({"kind": "RESTATEMENT", "value": -1.0}, "TOO_LOW"),
        ({"kind": "ENHANCEMENT"}, "CONVERSION_ACTION_NOT_ELIGIBLE_FOR_ENHANCEMENT"),
    ],
)
def test_an_adjustment_that_breaks_a_rule_changes_nothing(ads: AdsCaller, row: dict[str, Any], code: str) -> None:
    ads.upload(ads.click(1), ads.click(2))
    answer = ads.adjust(ads.adjustment("RETRACTION", 2), ads.adjustment(**row))
    assert ads.errors(answer) == [(1, code)]
    assert [bool(result.order_id) for result in answer.results] == [True, False]
    book = ads.book()["transactions"]["cs-1"]
    assert (book["count"], book["values"], book["retracted"]) == (1, ["100.5"], False)


def test_a_retraction_takes_the_count_and_the_value_back(ads: AdsCaller) -> None:
    ads.upload(ads.click(1), ads.click(2))
    assert ads.errors(ads.adjust(ads.adjustment("RETRACTION", 1))) == []
    book = ads.book()
    assert (book["conversions"], book["retracted"], book["value"]) == (1, 1, {"RUB": "100.5"})
    assert book["transactions"]["cs-1"]["values"] == ["100.5", "0"]
    again = ads.adjust(ads.adjustment("RETRACTION", 1), ads.adjustment("RESTATEMENT", 1, 5.0))
    assert ads.errors(again) == [(row, "CONVERSION_ALREADY_RETRACTED") for row in (0, 1)]
    assert ads.errors(ads.upload(ads.click(1))) == [(0, "ORDER_ID_ALREADY_IN_USE")]


def test_a_restatement_changes_the_value_and_the_next_one_must_be_later(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    first = ads.adjustment("RESTATEMENT", 1, 70.25)
    first.restatement_value.currency_code = "USD"
    assert ads.errors(ads.adjust(first)) == []
    assert ads.book()["value"] == {"USD": "70.25"}
    same = ads.adjustment("RESTATEMENT", 1, 80.0)
    earlier = ads.adjustment("RESTATEMENT", 1, 90.0, adjustment_date_time=ads.time(ago=60))
    assert ads.errors(ads.adjust(same)) == [(0, "RESTATEMENT_ALREADY_EXISTS")]
    assert ads.errors(ads.adjust(earlier)) == [(0, "MORE_RECENT_RESTATEMENT_FOUND")]
    ads.box.clock.advance(1)
    assert ads.errors(ads.adjust(ads.adjustment("RESTATEMENT", 1, 80.0))) == []
    book = ads.book()["transactions"]["cs-1"]
    assert (book["value"], book["currency"], book["values"]) == ("80", "USD", ["100.5", "70.25", "80"])


def test_a_restatement_to_zero_leaves_the_count(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    ads.adjust(ads.adjustment("RESTATEMENT", 1, 0.0))
    assert (ads.book()["conversions"], ads.book()["value"]) == (1, {"RUB": "0"})


def test_the_same_adjustment_twice_in_a_request_is_refused_each_time(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    rows = [ads.adjustment("RESTATEMENT", 1, 5.0), ads.adjustment("RESTATEMENT", 1, 6.0)]
    assert ads.errors(ads.adjust(*rows)) == [(row, "DUPLICATE_ADJUSTMENT_IN_REQUEST") for row in (0, 1)]
    assert ads.book()["value"] == {"RUB": "100.5"}


def test_after_54_days_a_conversion_cannot_be_adjusted(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    ads.box.clock.advance(54 * 86400)
    assert ads.errors(ads.adjust(ads.adjustment("RETRACTION", 1))) == [(0, "CONVERSION_EXPIRED")]


def test_click_and_time_find_what_has_no_order_id_and_never_go_with_one(ads: AdsCaller) -> None:
    ads.upload(ads.click(1, order_id=None), ads.click(2), ads.click(3, gclid=None, wbraid="w"))
    rows = [ads.adjustment("RETRACTION", number, order_id=None) for number in (1, 2)]
    for number, row in enumerate(rows, 1):
        row.gclid_date_time_pair.gclid = f"click-{number}"
        row.gclid_date_time_pair.conversion_date_time = ads.time(ago=86400)
    both = ads.adjustment("RETRACTION", 2)
    both.gclid_date_time_pair.CopyFrom(rows[1].gclid_date_time_pair)
    answer = ads.adjust(*rows, both, ads.adjustment("RETRACTION", 3))
    assert ads.errors(answer) == [
        (1, "CONVERSION_NOT_FOUND"),
        (2, "GCLID_DATE_TIME_PAIR_AND_ORDER_ID_BOTH_SET"),
        (3, "CONVERSION_NOT_FOUND"),
    ]
    assert ads.book()["retracted"] == 1


def test_contacts_belong_to_enhancements_only(ads: AdsCaller) -> None:
    row = ads.adjustment("RETRACTION", 1)
    row.user_identifiers.add(hashed_email="0" * 64)
    assert ads.errors(ads.adjust(row)) == [(0, "VALUE_MUST_BE_UNSET")]


def test_validate_only_finds_no_conversion_and_changes_nothing(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    rows = [ads.adjustment("RETRACTION", 1), ads.adjustment("RETRACTION", 2)]
    answer = ads.adjust(*rows, validate_only=True)
    assert (ads.errors(answer), len(answer.results)) == ([(1, "CONVERSION_NOT_FOUND")], 0)
    assert ads.book()["retracted"] == 0


def test_a_fate_of_an_adjustment_is_told_by_order_id_or_for_all(ads: AdsCaller) -> None:
    ads.upload(ads.click(1), ads.click(2))
    ads.box.config.ads.adjustment_fates = {"cs-1": "TOO_RECENT_CONVERSION"}
    rows = [ads.adjustment("RETRACTION", 1), ads.adjustment("RETRACTION", 2)]
    assert ads.errors(ads.adjust(*rows)) == [(0, "TOO_RECENT_CONVERSION")]
    ads.box.config.ads.adjustment_fates = {"*": "CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS"}
    assert len(ads.errors(ads.adjust(*rows))) == 2


def test_too_many_adjustments_and_those_of_nobody_on_the_list(ads: AdsCaller) -> None:
    ads.box.config.ads.max_rows = 1
    rows = [ads.adjustment("RETRACTION", 1), ads.adjustment("RETRACTION", 2)]
    assert ads.refused(lambda: ads.adjust(*rows)) == ("INVALID_ARGUMENT", ["TOO_MANY_ADJUSTMENTS_IN_REQUEST"])
    ads.box.config.ads.allowlisted_adjustments = False
    assert ads.errors(ads.adjust(rows[0])) == [(0, "CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE")]


# One id space with Data Manager.


def test_a_conversion_of_data_manager_is_retracted_by_its_transaction_id(ads: AdsCaller, google: GoogleClient) -> None:
    google.ingest(google.event(1), google.event(2))
    assert ads.errors(ads.upload(ads.click(1))) == [(0, "ORDER_ID_ALREADY_IN_USE")]
    ads.box.config.ads.retraction_finds_data_manager = False
    assert ads.errors(ads.adjust(ads.adjustment("RETRACTION", 1))) == [(0, "CONVERSION_NOT_FOUND")]
    ads.box.config.ads.retraction_finds_data_manager = True
    assert ads.errors(ads.adjust(ads.adjustment("RETRACTION", 1))) == []
    assert (ads.book()["conversions"], ads.book()["retracted"]) == (1, 1)


def test_data_manager_adjusts_what_the_ads_api_took_and_never_revives_what_it_retracted(
    ads: AdsCaller, google: GoogleClient
) -> None:
    ads.upload(ads.click(1), ads.click(2))
    ads.adjust(ads.adjustment("RETRACTION", 2))
    google.ingest(google.event(1, conversionValue=7), google.event(2, conversionValue=8))
    book = ads.book()
    assert (book["conversions"], book["value"]) == (1, {"RUB": "7"})
    assert book["transactions"]["cs-1"]["via"] == "ads"


def test_a_row_that_data_manager_failed_can_be_uploaded(ads: AdsCaller, google: GoogleClient) -> None:
    google.ingest(google.event(1, adIdentifiers={"gclid": "fate-CLICK_NOT_FOUND-1"}))
    assert ads.errors(ads.adjust(ads.adjustment("RETRACTION", 1))) == [(0, "CONVERSION_NOT_FOUND")]
    assert ads.errors(ads.upload(ads.click(1))) == []
    assert ads.book()["conversions"] == 1


def test_a_call_is_one_call_in_both(ads: AdsCaller, google: GoogleClient) -> None:
    import hashlib

    ads.upload_calls(ads.call(1))
    began = ads.box.clock.now() - timedelta(days=1)
    event = google.event(
        5,
        adIdentifiers=None,
        eventTimestamp=(began + timedelta(minutes=10)).isoformat(),
        callInfo={"startTimestamp": began.isoformat()},
        userData={"userIdentifiers": [{"phoneNumber": hashlib.sha256(b"+74950000001").hexdigest()}]},
    )
    answer = google.ingest(event, destinations=[google.destination("8888888888")], encoding="HEX")
    assert answer.status_code == 200
    assert ads.book("8888888888")["conversions"] == 1
