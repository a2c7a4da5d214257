"""What an event carries beyond click, person and money; calls, refunds and consent by action."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convsync.config.action import GoogleTarget
from convsync.destinations.google import events, extras
from convsync.model import Action, Cart, Conversion, Item, Person, Skip, SkipReason
from convsync.sandbox import google_schema

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ACTION = Action("shop", "deal-1", "sale", NOON, currency="RUB", gclid="Cj0KCQ-1_a.b")
TARGET = GoogleTarget(conversion_action="2222222222")
CALLS = GoogleTarget(conversion_action="3333333333", calls=True)
NOBODY = Person()
CALLER = Person((), ("+79161234567", "+79161234568"))
CALL = {"gclid": None, "call_start_at": NOON - timedelta(hours=7)}
DEFAULTS = events.Defaults("google", "WEB", None, None, combine=False)
ACCOUNT = events.Account("1234567890", None)
CART = Cart((Item("sku-1", 2, Decimal("199.9")), Item("sku-2", 1, None)), Decimal(10))


def convert(
    person: Person = NOBODY,
    value: int | None = None,
    target: GoogleTarget = TARGET,
    on: dict[str, Any] | None = None,
    **fields: Any,
) -> Conversion | Skip:
    return events.convert(ACTION._replace(**fields), person, target, value, DEFAULTS._replace(**on or {}))


def made(*args: Any, **fields: Any) -> Conversion:
    found = convert(*args, **fields)
    assert isinstance(found, Conversion), found
    return found


def event(*args: Any, **fields: Any) -> dict[str, Any]:
    """The event as a request holds it, which the schema of Data Manager takes."""
    body = orjson.loads(events.request([made(*args, **fields).payload], ACCOUNT))
    assert google_schema.problems(body) == []
    return dict(body["events"][0])


def skipped(*args: Any, **fields: Any) -> Skip:
    found = convert(*args, **fields)
    assert isinstance(found, Skip), found
    return found


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- custom variables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["ivan@example.ru", "mail: ivan@пример.рф!", "+79161234567", "8 (916) 123-45-67", "тел. 8 916 123 45 67", "79161234567",
     "+44 20 7946 0958", "tel:+7916.123.45.67", "7-916-123-45-67", "(916)1234567,доб.5", "+6834002", "x" * 101],
)  # fmt: skip
def test_a_value_that_google_would_refuse_is_left_out_and_the_conversion_stays(value: str) -> None:
    found = event(custom_variables=(("plan", "gold"), ("note", value)))
    assert found["customVariables"] == [{"variable": "plan", "value": "gold"}]
    assert "customVariables" not in event(custom_variables=(("note", value),))


@pytest.mark.parametrize(
    "value",
    ["gold", "2026-11-22", "12345678", "199.90", "1 234 567", "@handle", "a@", "Cj0KCQ79161234567x", "12:30", "x" * 100,
     "550e8400-e29b-41d4-a716-446655440000", "1234567890123456"],
)  # fmt: skip
def test_an_ordinary_value_is_sent_as_it_is(value: str) -> None:
    assert event(custom_variables=(("plan", value),))["customVariables"] == [{"variable": "plan", "value": value}]


mails = st.from_regex(r"[a-z0-9.+_-]{1,12}@[a-z0-9-]{1,10}\.[a-z]{2,4}", fullmatch=True)
numbers = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
around = st.text(st.characters(exclude_categories=["Cs", "L", "N", "P"]) | st.just(" "), max_size=8)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.text())
@example([("plan", '"},"callerId":"+79161234567"}')], '"},"callerId":"')
@example([("plan", '"}]}}')], "\\")
def test_any_text_of_a_variable_and_of_a_product_stays_text(pairs: list[tuple[str, str]], product: str) -> None:
    found = event(custom_variables=tuple(pairs), cart=Cart((Item(product, 1, Decimal(1)),)))
    sent = [(one["variable"], one["value"]) for one in found.get("customVariables", [])]
    assert sent == [(name, value) for name, value in pairs if len(value) <= 100 and not extras.is_personal(value)]
    assert found["cartData"]["items"][0].get("merchantProductId", product) == product


@given(around, mails | numbers, around, mails, numbers)
def test_no_contact_is_readable_in_a_payload(before: str, contact: str, after: str, mail: str, phone: str) -> None:
    fields: dict[str, Any] = {
        "custom_variables": (("note", before + contact + after),),
        "cart": Cart((Item(contact, 1, Decimal(1)),)),
        "email": mail,
        "phone": phone,
    }
    for target in (TARGET, CALLS):
        one = made(Person((mail,), (phone,)), target=target, call_start_at=NOON, **fields)
        assert not one.clear
        text = one.payload.decode()
        assert not any(private in text for private in (contact, mail, phone))


# -- the cart --------------------------------------------------------------------------------------------------------


def test_a_cart_goes_with_its_shop() -> None:
    shop = extras.Merchant("77", "RU", "ru")
    assert event(value=38980, cart=CART, on={"merchant": shop})["cartData"] == {
        "merchantId": "77",
        "merchantFeedLabel": "RU",
        "merchantFeedLanguageCode": "ru",
        "transactionDiscount": 10.0,
        "items": [
            {"merchantProductId": "sku-1", "quantity": 2, "unitPrice": 199.9},
            {"merchantProductId": "sku-2", "quantity": 1},
        ],
    }
    assert event(cart=Cart((Item(None, 3, None),)))["cartData"] == {"items": [{"quantity": 3}]}


def test_prices_are_exact_decimals_in_the_digits_of_their_currency() -> None:
    cart = Cart((Item("a", 1, Decimal("0.1")), Item("b", 1, Decimal("33.335")), Item("c", 1, Decimal("1E-999999"))))
    assert b'"unitPrice":0.10}' in made(cart=cart).payload
    assert [item["unitPrice"] for item in event(cart=cart)["cartData"]["items"]] == [0.1, 33.34, 0]
    assert b'"unitPrice":33}' in made(cart=cart, currency="JPY").payload


def test_a_cart_without_a_value_still_tells_its_currency() -> None:
    found = event(cart=CART)
    assert (found["currency"], "conversionValue" in found) == ("RUB", False)
    assert "currency" not in event(cart=Cart((Item("a", 1, None),)))


def test_prices_without_a_currency_are_not_sent_and_no_currency_is_assumed() -> None:
    assert skipped(cart=CART, currency=None).reason is SkipReason.NO_CURRENCY
    assert event(cart=Cart((Item("a", 1, None),)), currency=None)["cartData"]["items"] == [
        {"merchantProductId": "a", "quantity": 1}
    ]


@pytest.mark.parametrize("ids", [{"gbraid": "B"}, {"wbraid": "W"}])
def test_a_cart_never_goes_with_a_braid(ids: dict[str, str]) -> None:
    assert "cartData" not in event(cart=CART, gclid=None, **ids)
    assert "cartData" not in event(CALLER, cart=CART, gclid=None, **ids, on={"combine": True})
    assert "cartData" in event(cart=CART, **ids)
    assert "cartData" not in event(cart=CART, gclid="Cj0", gbraid="B", on={"combine": True})


@pytest.mark.parametrize("contact", ["ivan@example.ru", "+79161234567"])
def test_a_contact_is_never_the_id_of_a_product(contact: str) -> None:
    assert event(cart=Cart((Item(contact, 1, None),)))["cartData"] == {"items": [{"quantity": 1}]}
    assert "merchantProductId" in event(cart=Cart((Item("4006381333931", 1, None),)))["cartData"]["items"][0]


@pytest.mark.parametrize("kind", ["new", "returning", "reengaged"])
def test_the_kind_of_customer_is_in_googles_words(kind: str) -> None:
    assert event(customer_type=kind)["userProperties"] == {"customerType": kind.upper()}


def test_an_event_without_anything_special_has_no_more_members_than_ever() -> None:
    assert list(event(value=1)) == [
        "transactionId", "eventTimestamp", "eventSource", "adIdentifiers", "conversionValue", "currency",
    ]  # fmt: skip


# -- consent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "target", "default", "sent"),
    [
        (None, None, True, {"adUserData": "CONSENT_GRANTED"}),
        (None, "granted", None, {"adUserData": "CONSENT_GRANTED"}),
        (None, "granted", False, {"adUserData": "CONSENT_GRANTED"}),
        (None, "unset", True, None),
        (None, "unset", False, None),
        (True, "denied", False, {"adUserData": "CONSENT_GRANTED"}),
    ],
)
def test_a_rows_consent_goes_before_its_actions_and_that_before_the_destinations(
    own: bool | None, target: Any, default: bool | None, sent: Any
) -> None:
    said = GoogleTarget(conversion_action="1", consent_ad_user_data=target)
    found = event(target=said, consent_ad_user_data=own, on={"ad_user_data": default})
    assert found.get("consent") == sent


def test_an_action_whose_people_denied_it_is_not_sent() -> None:
    said = GoogleTarget(conversion_action="1", consent_ad_user_data="denied", consent_ad_personalization="denied")
    assert skipped(target=said, on={"ad_user_data": True}).reason is SkipReason.CONSENT_DENIED
    ads = GoogleTarget(conversion_action="1", consent_ad_personalization="denied")
    assert event(target=ads)["consent"] == {"adPersonalization": "CONSENT_DENIED"}
    assert event(target=ads, consent_ad_personalization=True)["consent"] == {"adPersonalization": "CONSENT_GRANTED"}


# -- calls -----------------------------------------------------------------------------------------------------------


def test_a_call_is_its_caller_and_its_beginning_and_no_click() -> None:
    person = CALLER._replace(emails=("a@b.ru",))
    fields: dict[str, Any] = {**CALL, "gclid": "Cj0KCQ-1_a.b", "cart": CART, "customer_type": "new"}
    one = made(person, 5000, CALLS, **fields, custom_variables=(("plan", "gold"),), consent_ad_user_data=True)
    assert (one.part, one.adjusts, one.clear, one.goal) == ("call", False, False, "3333333333")
    assert (one.value, one.currency, one.status) == (5000, "RUB", "active")
    assert one.key is not None
    assert orjson.loads(one.payload) == {
        "a": "3333333333",
        "e": {
            "transactionId": f"cs-{one.key.hex()}",
            "eventTimestamp": "2026-11-01T12:00:00+00:00",
            "eventSource": "PHONE",
            "userData": {"userIdentifiers": [{"phoneNumber": sha("+79161234567")}]},
            "consent": {"adUserData": "CONSENT_GRANTED"},
            "conversionValue": 50.0,
            "currency": "RUB",
            "customVariables": [{"variable": "plan", "value": "gold"}],
            "callInfo": {"startTimestamp": "2026-11-01T05:00:00+00:00"},
        },
    }
    assert event(CALLER, target=CALLS, **CALL)["callInfo"]


def test_the_ads_api_gets_the_caller_in_clear_and_the_ledger_knows_it() -> None:
    one = made(CALLER, None, CALLS, {"plain_caller": True}, **CALL)
    assert (one.part, one.adjusts, one.clear) == ("call", False, True)
    payload = orjson.loads(one.payload)
    assert list(payload) == ["a", "e", "callerId"]
    assert payload["callerId"] == "+79161234567"
    assert "userData" not in payload["e"]
    assert one.payload.endswith(b'}},"callerId":"+79161234567"}')


def test_the_number_in_clear_can_be_taken_out_of_a_payload() -> None:
    clear = made(CALLER, 1, CALLS, {"plain_caller": True}, **CALL).payload
    cut = events.hashed_caller(clear)
    assert b"9161234567" not in cut
    person = {"userIdentifiers": [{"phoneNumber": sha("+79161234567")}]}
    left = orjson.loads(clear)
    assert orjson.loads(cut) == {"a": left["a"], "e": left["e"] | {"userData": person}}
    assert events.hashed_caller(cut) == cut


def test_a_call_that_was_planned_for_the_ads_api_goes_to_data_manager_with_a_hash() -> None:
    """A user who moves from one way into Google to the other has such rows waiting."""
    hashed = made(CALLER, 100, CALLS, **CALL)
    clear = made(CALLER, 100, CALLS, {"plain_caller": True}, **CALL)
    assert hashed.key == clear.key
    click = made(value=1).payload
    body = events.request([click, clear.payload], ACCOUNT)
    assert b"9161234567" not in body
    assert google_schema.problems(orjson.loads(body)) == []
    assert orjson.loads(body) == orjson.loads(events.request([click, hashed.payload], ACCOUNT))


@pytest.mark.parametrize(
    ("person", "fields", "reason"),
    [
        (CALLER, {"call_start_at": None}, SkipReason.NO_IDENTIFIER),
        (NOBODY, {}, SkipReason.NO_IDENTIFIER),
        (Person(("a@b.ru",)), {}, SkipReason.NO_IDENTIFIER),
        (Person((), ('+7"916', "79161234567")), {}, SkipReason.NO_IDENTIFIER),
        (CALLER, {"call_start_at": NOON + timedelta(seconds=1)}, SkipReason.BAD_TIME),
        (CALLER, {"status": "cancelled"}, SkipReason.CANNOT_ADJUST),
        (CALLER, {"consent_ad_user_data": False}, SkipReason.CONSENT_DENIED),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_call_that_cannot_be_told_says_why(person: Person, fields: Any, reason: SkipReason, plain: bool) -> None:
    found = skipped(person, None, CALLS, {"plain_caller": plain}, **{**CALL, **fields})
    assert found.reason is reason
    assert "916" not in found.detail


def test_the_first_valid_number_is_the_callers() -> None:
    payload = orjson.loads(made(Person((), ("x", "+79161234568")), None, CALLS, {"plain_caller": True}, **CALL).payload)
    assert payload["callerId"] == "+79161234568"


def test_a_call_may_begin_and_end_in_the_same_second() -> None:
    assert event(CALLER, target=CALLS, **{**CALL, "call_start_at": NOON})["callInfo"]


def test_the_event_source_of_a_call_is_the_phone_unless_its_action_says_otherwise() -> None:
    other = GoogleTarget(conversion_action="3", calls=True, event_source="OTHER")
    assert event(CALLER, target=other, **CALL)["eventSource"] == "OTHER"
    assert event(CALLER, target=CALLS, **CALL, on={"event_source": "APP"})["eventSource"] == "PHONE"


# -- refunds ---------------------------------------------------------------------------------------------------------

ENDED = ["cancelled", "refunded", "spam"]


@pytest.mark.parametrize("status", ENDED)
def test_what_is_to_be_taken_back_is_the_event_worth_nothing_in_a_part_of_its_own(status: str) -> None:
    fields: dict[str, Any] = {"status": status, "cart": CART, "customer_type": "new"}
    back = made(value=100, **fields, on={"on_refund": "retract"})
    zero = made(value=100, **fields, on={"on_refund": "zero"})
    assert (back.part, back.adjusts, back.value, back.status) == ("retract", True, 0, status)
    assert zero == back._replace(part="")
    assert orjson.loads(zero.payload)["e"]["conversionValue"] == 0


def test_taking_back_needs_no_currency_and_setting_to_zero_does() -> None:
    fields: dict[str, Any] = {"status": "refunded", "currency": None, "cart": CART}
    back = made(**fields, on={"on_refund": "retract"})
    assert (back.part, back.value, back.currency) == ("retract", None, None)
    assert not {"conversionValue", "currency", "cartData"} & set(orjson.loads(back.payload)["e"])
    assert skipped(**fields).reason is SkipReason.CANNOT_ADJUST


@pytest.mark.parametrize("status", ENDED)
def test_a_refund_that_google_shall_not_hear_of_is_a_skip(status: str) -> None:
    assert skipped(value=100, status=status, on={"on_refund": "ignore"}).reason is SkipReason.REFUND_IGNORED
    assert made(value=100, on={"on_refund": "ignore"}).part == ""


# -- whatever a CRM holds --------------------------------------------------------------------------------------------

amounts = st.none() | st.decimals(0, 10**14, allow_nan=False, allow_infinity=False)
products = st.builds(Item, st.none() | st.text(max_size=8), st.integers(1, 2**31 - 1), amounts)


@given(
    fields=st.fixed_dictionaries(
        {
            "gclid": st.none() | st.text(max_size=8),
            "gbraid": st.sampled_from([None, "B"]),
            "custom_variables": st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
            "cart": st.none() | st.builds(Cart, st.lists(products, max_size=3).map(tuple), amounts),
            "customer_type": st.sampled_from([None, "new", "returning", "reengaged"]),
            "status": st.sampled_from(["active", *ENDED]),
            "currency": st.sampled_from([None, "RUB", "JPY", "CLF"]),
            "call_start_at": st.none() | st.datetimes(timezones=st.just(UTC)),
        }
    ),
    phones=st.lists(st.text(max_size=12) | numbers, max_size=2).map(tuple),
    target=st.sampled_from([TARGET, CALLS]),
    on=st.fixed_dictionaries(
        {
            "on_refund": st.sampled_from(["retract", "zero", "ignore"]),
            "plain_caller": st.booleans(),
            "merchant": st.builds(extras.Merchant, st.none() | st.text(), st.none() | st.text()),
        }
    ),
)
def test_whatever_a_crm_holds_the_event_fits_the_schema(
    fields: dict[str, Any], phones: tuple[str, ...], target: GoogleTarget, on: dict[str, Any]
) -> None:
    one = convert(Person((), phones), None, target, on, **fields)
    if isinstance(one, Conversion):
        payload = orjson.loads(one.payload)
        assert one.clear == ("callerId" in payload)
        assert one.clear <= (one.part == "call" and on["plain_caller"])
        body = orjson.loads(events.request([one.payload, made().payload], ACCOUNT))
        assert google_schema.problems(body) == []
        assert [*body["events"][0]].count("transactionId") == 1
        assert {"adIdentifiers", "userData"} & body["events"][0].keys()
