"""Payloads as requests of the Google Ads API: what stands in them, and that the same rows are the same bytes."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.config.action import GoogleTarget
from convsync.destinations.google import Ads
from convsync.destinations.google.ads import requests as ads_requests
from convsync.destinations.google.ads.requests import JOBS, METHODS, Sheet
from convsync.model import WHOLE, Action, Cart, Conversion, Group, Item, Person, Skip, SkipReason, key_of

WHEN = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
SALE = GoogleTarget(conversion_action="2222222222")
CALL = GoogleTarget(conversion_action="3333333333", calls=True)
ANNA = Person(("anna@gmail.com",), ("+79161234567",))
SHEET = Sheet("v26", "1234567890", {"plan": "customers/1234567890/conversionCustomVariables/7"})
TOKEN = "ab" * 12
CHANGED = Group("", True, (int(WHEN.timestamp()) + 3600,), (int(WHEN.timestamp()),))


def route(**options: Any) -> Ads:
    return Ads("google", **({"customer_id": "123-456-7890"} | options))


def payload(target: Any = SALE, person: Person = ANNA, value: int | None = 10050, **fields: Any) -> bytes:
    known: dict[str, Any] = {"occurred_at": WHEN, "gclid": "Cj0KCQ-1", "currency": "RUB"}
    made = route().convert(Action("shop", "1", "sale", **(known | fields)), person, target, value)
    assert isinstance(made, Conversion), made
    return made.payload


def request(*payloads: bytes, group: Group = WHOLE, sheet: Sheet = SHEET) -> tuple[str, Any]:
    method, made = sheet.request(sheet.body(payloads, TOKEN, group))
    return method.name, made


def row(*payloads: bytes, group: Group = WHOLE) -> Any:
    method, made = request(*payloads, group=group)
    return getattr(made, METHODS[method].rows)[0]


# -- what must never be sent -----------------------------------------------------------------------------


def test_what_was_perhaps_never_told_is_taken_back_all_the_same_for_that_makes_no_conversion() -> None:
    assert request(payload(), group=Group("retract", False, (1,), (0,)))[0] == "upload_conversion_adjustments"


def test_a_call_is_never_changed_only_told_again() -> None:
    told = payload(CALL, call_start_at=WHEN - timedelta(minutes=5))
    assert request(told, group=Group("call", True, (1,), (1,)))[0] == "upload_call_conversions"


def test_a_braid_never_goes_with_contacts() -> None:
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers={"gbraid": "B-1"}, userData=people(2))}))
    assert (made.gbraid, made.gclid, len(made.user_identifiers)) == ("B-1", "", 0)
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers={"wbraid": "W-1"})}))
    assert made.wbraid == "W-1"


def test_a_gclid_goes_with_contacts_and_with_a_gbraid_only_without_them() -> None:
    both = {"gclid": "G-1", "gbraid": "B-1"}
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers=both, userData=people(1))}))
    assert (made.gclid, made.gbraid, len(made.user_identifiers)) == ("G-1", "", 1)
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers=both)}))
    assert (made.gclid, made.gbraid) == ("G-1", "B-1")


def test_at_most_five_contacts_go_and_no_address() -> None:
    address = {"address": {"givenName": "a", "familyName": "b", "regionCode": "RU", "postalCode": "1"}}
    mixed = {"userIdentifiers": [address, *people(7)["userIdentifiers"]]}
    made = row(orjson.dumps({"a": "2", "e": event(userData=mixed)}))
    assert [one.hashed_email for one in made.user_identifiers] == [f"hash-{number}" for number in range(5)]
    assert not any(one.HasField("address_info") for one in made.user_identifiers)


def test_an_address_alone_finds_nobody() -> None:
    person = Person((), (), "anna", "petrova")
    found = route().convert(Action("shop", "1", "sale", WHEN, country="RU", postal_code="101000"), person, SALE, None)
    assert found == Skip("google", SkipReason.NO_IDENTIFIER)


def test_a_customer_who_came_back_has_no_word_here() -> None:
    assert row(payload(customer_type="reengaged")).customer_type == 0


def test_a_restatement_without_a_value_says_none_rather_than_nothing_worth() -> None:
    made = row(payload(value=None), group=CHANGED)
    assert not made.HasField("restatement_value")


# -- what is sent ----------------------------------------------------------------------------------------


def test_a_click_with_everything_that_it_may_carry() -> None:
    made = row(
        payload(
            consent_ad_user_data=True,
            consent_ad_personalization=False,
            customer_type="returning",
            custom_variables=(("plan", "gold"), ("gone", "x")),
            cart=Cart((Item("sku-1", 2, Decimal("49.90")),), Decimal("0.70")),
        )
    )
    key = key_of("shop", "1", "sale", "google", "2222222222").hex()
    assert made.conversion_action == "customers/1234567890/conversionActions/2222222222"
    assert (made.order_id, made.gclid) == (f"cs-{key}", "Cj0KCQ-1")
    assert made.conversion_date_time == "2026-11-21 10:00:00+00:00"
    assert (made.conversion_value, made.currency_code) == (100.5, "RUB")
    assert [one.WhichOneof("identifier") for one in made.user_identifiers] == ["hashed_email", "hashed_phone_number"]
    assert (made.consent.ad_user_data, made.consent.ad_personalization, made.customer_type) == (2, 3, 3)
    assert [(one.conversion_custom_variable, one.value) for one in made.custom_variables] == [
        ("customers/1234567890/conversionCustomVariables/7", "gold")
    ]
    item = made.cart_data.items[0]
    assert (item.product_id, item.quantity, item.unit_price) == ("sku-1", 2, 49.9)
    assert made.cart_data.local_transaction_cost == 0.7


def test_a_feed_is_named_by_its_country() -> None:
    cart = {"merchantId": "42", "merchantFeedLabel": "RU", "merchantFeedLanguageCode": "ru", "items": []}
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers={"gclid": "G"}, cartData=cart)})).cart_data
    assert (made.merchant_id, made.feed_country_code, made.feed_language_code) == (42, "RU", "ru")
    cart["merchantFeedLabel"] = "SPRING"
    made = row(orjson.dumps({"a": "2", "e": event(adIdentifiers={"gclid": "G"}, cartData=cart)})).cart_data
    assert made.feed_country_code == ""


def test_a_request_wants_partial_failure_and_carries_a_job_of_its_own() -> None:
    name, made = request(payload())
    assert (name, made.customer_id, made.partial_failure, made.validate_only) == (
        "upload_click_conversions", "1234567890", True, False,
    )  # fmt: skip
    assert made.job_id == int(TOKEN, 16) % JOBS + 1


def test_a_call_goes_by_its_number_in_clear_and_has_no_order_id() -> None:
    told = payload(CALL, call_start_at=WHEN - timedelta(minutes=5))
    name, made = request(told, group=Group("call"))
    assert name == "upload_call_conversions"
    call = made.conversions[0]
    assert (call.caller_id, call.call_start_date_time) == ("+79161234567", "2026-11-21 09:55:00+00:00")
    assert (call.conversion_value, call.currency_code) == (100.5, "RUB")


def test_a_number_that_was_erased_is_in_no_request_any_more() -> None:
    erased = route().redact(payload(CALL, call_start_at=WHEN - timedelta(minutes=5)))
    assert b"+7916" not in erased
    assert orjson.loads(erased)["e"]["callInfo"]
    _, made = request(erased, group=Group("call"))
    assert not made.conversions[0].HasField("caller_id")


def test_a_new_value_is_a_restatement_and_a_refund_a_retraction() -> None:
    made = row(payload(value=7550), group=CHANGED)
    assert (made.adjustment_type, made.adjustment_date_time) == (3, "2026-11-21 11:00:00+00:00")
    assert (made.restatement_value.adjusted_value, made.restatement_value.currency_code) == (75.5, "RUB")
    assert made.order_id.startswith("cs-")
    assert not made.HasField("gclid_date_time_pair")
    for currency in ("RUB", None):
        back = row(payload(status="refunded", currency=currency, value=None), group=CHANGED._replace(part="retract"))
        assert (back.adjustment_type, back.HasField("restatement_value")) == (2, False)


def test_a_refund_can_be_told_as_a_value_of_nothing() -> None:
    zero = route(on_refund="zero")
    made = zero.convert(
        Action("shop", "1", "sale", WHEN, gclid="Cj0KCQ-1", currency="RUB", status="spam"), ANNA, SALE, 5
    )
    assert isinstance(made, Conversion) and made.part == ""
    told = row(made.payload, group=CHANGED)
    assert (told.adjustment_type, told.restatement_value.adjusted_value) == (3, 0)
    assert told.restatement_value.HasField("adjusted_value")


def test_the_same_rows_are_the_same_bytes() -> None:
    rows = [payload(customer_type="new", custom_variables=(("plan", "gold"),)), payload(gclid="Cj0KCQ-2")]
    assert len({SHEET.body(rows, TOKEN) for _ in range(5)}) == 1
    assert SHEET.body(rows, TOKEN) != SHEET.body(rows, "cd" * 12)


@pytest.mark.parametrize("version", ["v23", "v24", "v25", "v26"])
def test_every_version_of_the_api_has_the_same_requests(version: str) -> None:
    rows = [payload(customer_type="new")]
    sheet = SHEET._replace(version=version)
    assert sheet.body(rows, TOKEN) == SHEET.body(rows, TOKEN)


def test_the_numbers_of_words_are_those_of_the_client() -> None:
    enums = {
        ("consent_status", "ConsentStatusEnum", "ConsentStatus"): {
            "GRANTED": ads_requests.GRANTED,
            "DENIED": ads_requests.DENIED,
        },
        ("conversion_customer_type", "ConversionCustomerTypeEnum", "ConversionCustomerType"): {
            "NEW": ads_requests.NEW,
            "RETURNING": ads_requests.RETURNING,
        },
        ("conversion_adjustment_type", "ConversionAdjustmentTypeEnum", "ConversionAdjustmentType"): {
            "RETRACTION": ads_requests.RETRACTION,
            "RESTATEMENT": ads_requests.RESTATEMENT,
        },
    }
    for version in ("v23", "v24", "v25", "v26"):
        for (module, outer, inner), numbers in enums.items():
            kinds = importlib.import_module(f"google.ads.googleads.{version}.enums.types.{module}")
            shipped = {word.name: word.value for word in getattr(getattr(kinds, outer), inner)}
            assert numbers.items() <= shipped.items()


# -- times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 11, 21, 10, 0, tzinfo=UTC), "2026-11-21 10:00:00+00:00"),
        (datetime(2026, 11, 21, 10, 0, 0, 999999, tzinfo=UTC), "2026-11-21 10:00:00+00:00"),
        (datetime(2026, 11, 21, 10, 0, tzinfo=timezone(timedelta(hours=-8))), "2026-11-21 10:00:00-08:00"),
        (
            datetime(2026, 11, 21, 10, 0, tzinfo=timezone(timedelta(minutes=150, seconds=17))),
            "2026-11-21 07:29:43+00:00",
        ),
    ],
)
def test_times_are_written_as_google_ads_wants_them(moment: datetime, written: str) -> None:
    assert ads_requests._time(moment.isoformat()) == written


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.timezones()))
def test_any_time_keeps_its_second(moment: datetime) -> None:
    written = ads_requests._time(moment.isoformat())
    assert len(written) == 25
    assert datetime.fromisoformat(written) == datetime.fromisoformat(moment.isoformat()).replace(microsecond=0)


# -- for people ------------------------------------------------------------------------------------------


def test_a_preview_shows_what_is_sent_but_no_number_in_clear() -> None:
    one = route(custom_variables=("plan",))
    click = next(iter(one.preview([payload(custom_variables=(("plan", "gold"),))])))
    assert click["method"] == "upload_click_conversions"
    assert click["conversion_date_time"] == "2026-11-21 10:00:00+00:00"
    assert click["custom_variables"] == [{"conversion_custom_variable": "plan", "value": "gold"}]
    called = next(iter(one.preview([payload(CALL, call_start_at=WHEN)], Group("call"))))
    assert called["caller_id"] == "+7… (sent in clear)"
    changed = next(iter(one.preview([payload(status="refunded")], CHANGED._replace(part="retract"))))
    assert (changed["method"], changed["adjustment_type"]) == ("upload_conversion_adjustments", "RETRACTION")


def event(**more: Any) -> dict[str, Any]:
    return {"transactionId": "cs-1", "eventTimestamp": WHEN.isoformat(), "eventSource": "WEB"} | more


def people(count: int) -> dict[str, Any]:
    return {"userIdentifiers": [{"emailAddress": f"hash-{number}"} for number in range(count)]}


def test_what_the_route_declares() -> None:
    one = route()
    assert (one.route, one.platform, one.account) == ("google.ads", "google", "1234567890")
    assert (one.on_unknown, one.adjusts, one.apart, one.reason_per_row) == ("resend", True, True, True)
    assert (one.batch_rows, one.max_age.days, one.adjust_max_age.days) == (2000, 90, 54)
    assert one.learn({"x": "y"}) == {"x": "y"}
