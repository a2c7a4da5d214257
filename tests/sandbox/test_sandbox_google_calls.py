"""Data Manager: phone calls, cart data and customer properties."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from conftest import GoogleClient

ACTION = "8888888888"


def call(google: GoogleClient, number: int = 1, **changes: Any) -> dict[str, Any]:
    """A call of two hours ago that became a conversion an hour later."""
    phone = hashlib.sha256(f"+7495000000{number}".encode()).hexdigest()
    usual = {
        "adIdentifiers": None,
        "eventSource": "PHONE",
        "callInfo": {"startTimestamp": (google.box.clock.now() - timedelta(hours=2)).isoformat()},
        "userData": {"userIdentifiers": [{"phoneNumber": phone}]},
    }
    return google.event(number, **(usual | changes))


def ingest(google: GoogleClient, *events: dict[str, Any], action: str = ACTION) -> requests.Response:
    return google.ingest(*events, destinations=[google.destination(action)], encoding="HEX")


def violation(answer: requests.Response) -> tuple[str, str]:
    details = answer.json()["error"]["details"]
    found = next(detail["fieldViolations"] for detail in details if "fieldViolations" in detail)
    return found[0]["field"], found[0]["reason"]


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"callInfo": {}}, "call_info.start_timestamp", "REQUIRED_FIELD_MISSING"),
        ({"callInfo": {"startTimestamp": "yesterday"}}, "call_info.start_timestamp", "EVENT_TIME_INVALID"),
        ({"callInfo": {"startTimestamp": "2026-11-20T11:59:00Z"}}, "call_info.start_timestamp", "EVENT_TIME_INVALID"),
        ({"userData": None, "adIdentifiers": {"gclid": "x"}}, "user_data", "REQUIRED_FIELD_MISSING"),
        (
            {"userData": {"userIdentifiers": [{"emailAddress": "0" * 64}]}},
            "user_data",
            "REQUIRED_FIELD_MISSING",
        ),
        (
            {"userData": {"userIdentifiers": [{"phoneNumber": "+74950000001"}]}},
            "user_data.user_identifiers[0].phone_number",
            "INVALID_HEX_ENCODING",
        ),
    ],
)
def test_a_call_needs_a_hashed_number_and_a_start_before_the_conversion(
    google: GoogleClient, changes: dict[str, Any], field: str, why: str
) -> None:
    answer = ingest(google, call(google, 1), call(google, 2, **changes))
    assert (answer.status_code, violation(answer)) == (400, (f"events.events[1].{field}", why))
    assert google.box.books()["google"]["totals"]["conversions"] == 0


def test_calls_and_clicks_have_actions_of_their_own(google: GoogleClient) -> None:
    wrong = ("destinations[0].product_destination_id", "INVALID_CONVERSION_ACTION_TYPE")
    assert violation(ingest(google, call(google), action="1111111111")) == wrong
    assert violation(ingest(google, google.event())) == wrong
    places = [google.destination(reference="click"), google.destination(ACTION, reference="call")]
    events = [google.event(1, destinationReferences=["click"]), call(google, 2, destinationReferences=["call"])]
    assert google.ingest(*events, destinations=places, encoding="HEX").status_code == 200


def test_a_repeated_call_is_dropped_without_a_word_and_never_adjusted(google: GoogleClient) -> None:
    ingest(google, call(google, 1))
    answer = ingest(
        google, call(google, 1, conversionValue=7), call(google, 1, transactionId="cs-other"), call(google, 2)
    )
    assert google.settled(answer)[0]["requestStatus"] == "SUCCESS"
    book = google.book(ACTION)
    assert (book["conversions"], book["adjustments"], book["value"]) == (2, 0, {"RUB": "201"})
    assert book["transactions"]["cs-1"]["values"] == ["100.5"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"userProperties": {"customerType": "OLD"}}, "user_properties.customer_type"),
        ({"userProperties": {"customerValueBucket": "HUGE"}}, "user_properties.customer_value_bucket"),
        ({"consent": {"adUserData": "GRANTED"}}, "consent.ad_user_data"),
    ],
)
def test_an_unknown_word_is_named(google: GoogleClient, change: dict[str, Any], field: str) -> None:
    answer = google.ingest(google.event(**change))
    assert violation(answer) == (f"events.events[0].{field}", "INVALID_ENUM_VALUE")


def test_what_a_shop_knows_travels_along(google: GoogleClient) -> None:
    cart = {
        "merchantId": "12345",
        "merchantFeedLabel": "RU",
        "merchantFeedLanguageCode": "ru",
        "transactionDiscount": 10.5,
        "items": [{"merchantProductId": "sku-1", "quantity": "2", "unitPrice": 199.9}],
    }
    event = google.event(
        cartData=cart,
        userProperties={"customerType": "REENGAGED", "customerValueBucket": "HIGH"},
        customVariables=[{"variable": "branch", "value": "Tver"}],
        consent={"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_DENIED"},
    )
    answer = google.ingest(event)
    assert (answer.status_code, "fieldWarnings" in answer.json()) == (200, False)


@pytest.mark.parametrize(
    ("item", "warning"),
    [
        ({"quantity": 1, "unitPrice": 5}, "CART_DATA_ITEM_MERCHANT_PRODUCT_ID_MISSING"),
        ({"merchantProductId": "a", "quantity": 1}, "CART_DATA_ITEM_UNIT_PRICE_MISSING"),
    ],
)
def test_an_incomplete_cart_is_a_warning_and_the_conversion_counts(
    google: GoogleClient, item: dict[str, Any], warning: str
) -> None:
    answer = google.ingest(google.event(cartData={"items": [{"merchantProductId": "b", "unitPrice": 1}, item]}))
    (told,) = answer.json()["fieldWarnings"]
    assert told["reason"] == f"WARNING_REASON_{warning}"
    assert told["field"].startswith("events.events[0].cart_data.items[1]")
    assert google.book()["conversions"] == 1


def test_a_merchant_id_is_a_number(google: GoogleClient) -> None:
    answer = google.ingest(google.event(cartData={"merchantId": "shop", "items": []}))
    assert violation(answer) == ("events.events[0].cart_data.merchant_id", "INVALID_MERCHANT_ID")
