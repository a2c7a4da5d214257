"""From actions to Data Manager events, and from payloads to the bytes of a request."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.config.action import GoogleTarget
from convsync.destinations.google import DataManager, events
from convsync.model import Action, Conversion, Person, Skip, SkipReason, key_of

ACTION = Action(
    "shop", "deal-1", "sale", datetime(2026, 11, 1, 12, 30, tzinfo=timezone(timedelta(hours=3))), gclid="Cj0KCQ-1_a.b"
)
TARGET = GoogleTarget(conversion_action="2222222222")
IVAN = Person(("ivan@example.ru",), ("+79161234567",), "иван", "петров-водкин")
NOBODY = Person()


def route(**options: Any) -> DataManager:
    return DataManager("google", **({"customer_id": "123-456-7890"} | options))


def convert(
    person: Person = NOBODY,
    value: int | None = None,
    target: Any = TARGET,
    on: dict[str, Any] | None = None,
    **fields: Any,
) -> Conversion | Skip:
    return route(**(on or {})).convert(ACTION._replace(**fields), person, target, value)


def event(*args: Any, **fields: Any) -> dict[str, Any]:
    made = convert(*args, **fields)
    assert isinstance(made, Conversion), made
    payload = orjson.loads(made.payload)
    assert list(payload) == ["a", "e"]
    return dict(payload["e"])


def skipped(*args: Any, **fields: Any) -> SkipReason:
    made = convert(*args, **fields)
    assert isinstance(made, Skip), made
    return made.reason


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- an event ----------------------------------------------------------------------------------------


def test_a_whole_event() -> None:
    made = convert(IVAN, 12990, currency="RUB", consent_ad_user_data=True, consent_ad_personalization=False)
    assert isinstance(made, Conversion)
    key = key_of("shop", "deal-1", "sale", "google", "2222222222").hex()
    assert (made.destination, made.goal, made.lane) == ("google", "2222222222", None)
    assert (made.status, made.value, made.currency) == ("active", 12990, "RUB")
    assert orjson.loads(made.payload) == {
        "a": "2222222222",
        "e": {
            "transactionId": f"cs-{key}",
            "eventTimestamp": "2026-11-01T12:30:00+03:00",
            "eventSource": "WEB",
            "adIdentifiers": {"gclid": "Cj0KCQ-1_a.b"},
            "userData": {
                "userIdentifiers": [{"emailAddress": sha("ivan@example.ru")}, {"phoneNumber": sha("+79161234567")}]
            },
            "consent": {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_DENIED"},
            "conversionValue": 129.9,
            "currency": "RUB",
        },
    }


def test_the_same_action_gives_the_same_bytes_in_every_process() -> None:
    first, second = convert(IVAN, 5, currency="EUR"), convert(IVAN, 5, currency="EUR")
    assert first == second
    assert event()["transactionId"] == "cs-" + key_of("shop", "deal-1", "sale", "google", "2222222222").hex()


def test_a_conversion_carries_the_key_that_its_transaction_id_shows() -> None:
    made = convert(IVAN, 5, currency="EUR")
    assert isinstance(made, Conversion)
    assert type(made) is Conversion
    assert made.key == key_of("shop", "deal-1", "sale", "google", "2222222222")
    assert event()["transactionId"] == f"cs-{made.key.hex()}"


def test_the_goal_of_a_conversion_is_that_of_its_target() -> None:
    target = GoogleTarget(conversion_action="77")
    made = convert(target=target)
    assert isinstance(made, Conversion)
    assert made.goal == target.goal_key


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3.5)), ZoneInfo("Asia/Kolkata")]))
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
)
def test_a_time_is_written_as_isoformat_writes_it(moment: datetime) -> None:
    assert event(occurred_at=moment)["eventTimestamp"] == moment.isoformat()


def test_one_address_and_one_number_are_written_as_several_are() -> None:
    """Most people have one of each, which is written without a list."""
    emails, phones = ("i.van@gmail.com", "b@example.com"), ("+79161234567", "+79161234568")
    several = event(Person(emails, phones))["userData"]["userIdentifiers"]
    for first, last in ((None, None), ("иван", None), ("иван", "петров")):
        one = Person(emails[:1], phones[:1], first, last)
        assert event(one)["userData"] == {"userIdentifiers": [several[0], several[2]]}


def test_a_transaction_id_never_looks_like_a_number() -> None:
    assert event(external_id="17")["transactionId"].startswith("cs-")


def test_published_vectors_of_hashes() -> None:
    person = Person(("alexz@example.com",), ("+18005550100",))
    assert event(person)["userData"]["userIdentifiers"] == [
        {"emailAddress": "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a"},
        {"phoneNumber": "fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30"},
    ]


@pytest.mark.parametrize(
    ("email", "hashed"),
    [
        ("i.van.ov+shop@gmail.com", "ivanov@gmail.com"),
        ("i.van.ov+shop+x@googlemail.com", "ivanov@googlemail.com"),
        ("i.van+shop@example.com", "i.van+shop@example.com"),
        ("i.van@gmail.com.example.ru", "i.van@gmail.com.example.ru"),
    ],
)
def test_dots_and_tags_fall_away_at_gmail_only(email: str, hashed: str) -> None:
    assert event(Person((email,)))["userData"]["userIdentifiers"] == [{"emailAddress": sha(hashed)}]


def test_an_address_needs_all_four_parts() -> None:
    place = {"country": "ru", "postal_code": ' 101000 "A" '}
    found = event(IVAN, **place)["userData"]["userIdentifiers"]
    assert found[-1] == {
        "address": {
            "givenName": sha("иван"),
            "familyName": sha("петровводкин"),
            "regionCode": "RU",
            "postalCode": '101000 "A"',
        }
    }
    for lacking in ({"country": None}, {"postal_code": None}, {"country": "Russia"}, {"postal_code": "1" * 21}):
        assert len(event(IVAN, **(place | lacking))["userData"]["userIdentifiers"]) == 2
    assert "userData" not in event(Person(first_name="иван"), **place)


def test_no_event_has_more_contacts_than_google_takes() -> None:
    crowd = Person(tuple(f"a{i}@example.com" for i in range(8)), tuple(f"+7916000000{i}" for i in range(8)), "a", "b")
    found = event(crowd, country="RU", postal_code="101000")["userData"]["userIdentifiers"]
    assert len(found) == 10
    assert "address" in found[9]


def test_the_event_source_of_a_target_goes_before_that_of_the_destination() -> None:
    phone = GoogleTarget(conversion_action="1", event_source="PHONE")
    assert event(target=phone, on={"event_source": "APP"})["eventSource"] == "PHONE"
    assert event(on={"event_source": "APP"})["eventSource"] == "APP"


# -- click ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "sent", "people"),
    [
        ({"gclid": "G"}, {"gclid": "G"}, True),
        ({"gclid": "G", "gbraid": "B", "wbraid": "W"}, {"gclid": "G"}, True),
        ({"gbraid": "B", "wbraid": "W"}, {"gbraid": "B"}, False),
        ({"wbraid": "W"}, {"wbraid": "W"}, False),
        ({}, None, True),
        ({"gclid": "{gclid}", "wbraid": "W"}, {"wbraid": "W"}, False),
        ({"gclid": "{gclid}"}, None, True),
    ],
)
def test_gclid_goes_with_contacts_and_a_braid_goes_alone(
    ids: dict[str, str], sent: dict[str, str] | None, people: bool
) -> None:
    found = event(IVAN, **({"gclid": None} | ids))
    assert found.get("adIdentifiers") == sent
    assert ("userData" in found) is people


def test_identifiers_are_combined_only_if_the_operator_says_so() -> None:
    on = {"combine_identifiers": True}
    assert event(gclid="G", gbraid="B", wbraid="W", on=on)["adIdentifiers"] == {"gclid": "G", "gbraid": "B"}
    found = event(IVAN, gclid=None, wbraid="W", on=on)
    assert (found["adIdentifiers"], len(found["userData"]["userIdentifiers"])) == ({"wbraid": "W"}, 2)


@pytest.mark.parametrize(
    "bad",
    ["{gclid}", "{{gclid}}", "%7Bgclid%7D", "a b", "a\tb", "a\n", "a\x00b", "x" * 513, 'a"b', "a\\b", "ключ", "null",
     "undefined", "None", "(none)", "NaN", "-", "0"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["gclid", "gbraid", "wbraid"])
def test_what_google_never_issued_is_not_sent(field: str, bad: str) -> None:
    ids = {"gclid": None, field: bad}
    assert skipped(**ids) is SkipReason.BAD_IDENTIFIER
    assert "adIdentifiers" not in event(IVAN, **ids)


def test_the_detail_of_a_skip_names_the_field_and_not_the_id() -> None:
    made = convert(gclid="{canary}")
    assert isinstance(made, Skip)
    assert (made.detail, "canary" in made.detail) == ("gclid is not a click id of Google", False)


def test_without_any_identifier_there_is_nothing_to_match() -> None:
    assert skipped(gclid=None) is SkipReason.NO_IDENTIFIER
    assert skipped(gclid="") is SkipReason.NO_IDENTIFIER


# -- consent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "default", "sent"),
    [
        ((None, None), (None, None), None),
        ((True, None), (None, None), {"adUserData": "CONSENT_GRANTED"}),
        ((None, False), (None, None), {"adPersonalization": "CONSENT_DENIED"}),
        ((None, None), (True, True), {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_GRANTED"}),
        ((True, False), (False, True), {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_DENIED"}),
    ],
)
def test_an_actions_consent_goes_before_the_destinations(own: Any, default: Any, sent: Any) -> None:
    on = {"consent_ad_user_data": default[0], "consent_ad_personalization": default[1]}
    found = event(consent_ad_user_data=own[0], consent_ad_personalization=own[1], on=on)
    assert found.get("consent") == sent


def test_data_of_a_person_who_denied_it_never_leaves() -> None:
    assert skipped(IVAN, consent_ad_user_data=False) is SkipReason.CONSENT_DENIED
    assert skipped(on={"consent_ad_user_data": False}) is SkipReason.CONSENT_DENIED
    assert skipped(consent_ad_user_data=False, on={"consent_ad_user_data": True}) is SkipReason.CONSENT_DENIED


# -- money -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (12990, "RUB", b"129.90"),
        (5, "EUR", b"0.05"),
        (0, "USD", b"0.00"),
        (1500, "JPY", b"1500"),
        (1234, "KWD", b"1.234"),
        (1, "CLF", b"0.0001"),
        (10**15 + 1, "RUB", b"10000000000000.01"),
    ],
)
def test_money_is_written_as_an_exact_decimal(value: int, currency: str, text: bytes) -> None:
    made = convert(value=value, currency=currency)
    assert isinstance(made, Conversion)
    assert b'"conversionValue":%b,"currency":"%b"' % (text, currency.encode()) in made.payload


def test_no_value_leaves_value_and_currency_out() -> None:
    found = event(currency="RUB")
    assert not {"conversionValue", "currency"} & set(found)


def test_a_value_that_cannot_be_said_is_a_skip() -> None:
    assert skipped(value=100) is SkipReason.NO_CURRENCY
    assert skipped(value=100, currency='R"B') is SkipReason.NO_CURRENCY
    assert skipped(value=-1, currency="RUB") is SkipReason.NEGATIVE_VALUE


@pytest.mark.parametrize("status", ["cancelled", "refunded", "spam"])
def test_what_is_taken_back_is_the_same_event_worth_nothing(status: str) -> None:
    sold = convert(IVAN, 12990, currency="RUB")
    back = convert(IVAN, 12990, currency="RUB", status=status)
    assert isinstance(sold, Conversion)
    assert isinstance(back, Conversion)
    assert orjson.loads(back.payload)["e"] == orjson.loads(sold.payload)["e"] | {"conversionValue": 0}
    assert (back.status, back.value, back.currency) == (status, 0, "RUB")
    assert event(currency="RUB", status=status)["conversionValue"] == 0


def test_without_a_currency_nothing_can_be_taken_back() -> None:
    assert skipped(status="refunded") is SkipReason.CANNOT_ADJUST


# -- a request ---------------------------------------------------------------------------------------


def payloads(*actions: str, start: int = 0) -> list[bytes]:
    made = [
        convert(target=GoogleTarget(conversion_action=a), external_id=f"d{start + i}") for i, a in enumerate(actions)
    ]
    return [one.payload for one in made if isinstance(one, Conversion)]


def test_one_conversion_action_needs_no_references() -> None:
    rows = payloads("111", "111")
    body = orjson.loads(route(login_customer_id="555-000-1111").encode(rows, "token"))
    assert body == {
        "destinations": [
            {
                "loginAccount": {"accountType": "GOOGLE_ADS", "accountId": "5550001111"},
                "operatingAccount": {"accountType": "GOOGLE_ADS", "accountId": "1234567890"},
                "productDestinationId": "111",
            }
        ],
        "encoding": "HEX",
        "events": [orjson.loads(row)["e"] for row in rows],
    }


def test_several_conversion_actions_are_told_apart_by_references() -> None:
    rows = payloads("222", "111", "222")
    raw = route().encode(rows, "token")
    body = orjson.loads(raw)
    assert [(one["reference"], one["productDestinationId"]) for one in body["destinations"]] == [
        ("222", "222"),
        ("111", "111"),
    ]
    assert [one.pop("destinationReferences") for one in body["events"]] == [["222"], ["111"], ["222"]]
    assert body["events"] == [orjson.loads(row)["e"] for row in rows]
    assert "loginAccount" not in body["destinations"][0]
    assert events.routed(raw) == [2, 1]
    assert events.routed(route().encode(payloads("111"), "")) == []


def test_a_request_is_the_same_bytes_whatever_the_batch_is_called() -> None:
    rows = payloads("222", "111")
    assert route().encode(rows, "one") == route().encode(list(rows), "two")


def test_money_reaches_the_request_as_it_was_written() -> None:
    made = convert(value=10**15 + 1, currency="RUB")
    assert isinstance(made, Conversion)
    assert b'"conversionValue":10000000000000.01,' in route().encode([made.payload], "")


def test_a_preview_shows_what_would_be_sent() -> None:
    one = route()
    for rows in (payloads("111", "111"), payloads("111", "222")):
        assert list(one.preview(rows)) == orjson.loads(one.encode(rows, ""))["events"]
    assert list(one.preview([])) == []


def test_a_payload_of_another_route_is_not_taken_for_ours() -> None:
    with pytest.raises(ValueError, match="not a payload"):
        route().encode([b'{"b":"1","event":{}}'], "")


printable = st.text(max_size=40)


@given(
    ids=st.tuples(*[st.none() | printable] * 3),
    person=st.builds(Person, st.lists(printable, max_size=3).map(tuple), st.lists(printable, max_size=3).map(tuple),
                     st.none() | printable, st.none() | printable),
    place=st.tuples(st.none() | printable, st.none() | printable),
    money=st.tuples(st.none() | st.integers(-5, 10**14), st.sampled_from([None, "RUB", "JPY", "BHD", "rub", '"'])),
    status=st.sampled_from(["active", "cancelled", "refunded", "spam"]),
    consent=st.tuples(*[st.sampled_from([None, True, False])] * 2),
)  # fmt: skip
def test_whatever_a_crm_holds_the_payload_is_json_of_known_fields(
    ids: Any, person: Person, place: Any, money: Any, status: str, consent: Any
) -> None:
    made = convert(
        person,
        money[0],
        external_id="".join(filter(None, ids)),
        gclid=ids[0],
        gbraid=ids[1],
        wbraid=ids[2],
        country=place[0],
        postal_code=place[1],
        currency=money[1],
        status=status,
        consent_ad_user_data=consent[0],
        consent_ad_personalization=consent[1],
    )
    if isinstance(made, Conversion):
        body = orjson.loads(route().encode([made.payload], ""))
        assert set(body["events"][0]) <= {
            "transactionId", "eventTimestamp", "eventSource", "adIdentifiers", "userData", "consent",
            "conversionValue", "currency",
        }  # fmt: skip
        assert "adIdentifiers" in body["events"][0] or "userData" in body["events"][0]


def test_no_contact_is_readable_in_a_payload() -> None:
    made = convert(IVAN, 1, currency="RUB", email="ivan@example.ru", phone="89161234567", country="RU", postal_code="1")
    assert isinstance(made, Conversion)
    text = made.payload.decode()
    assert not any(part in text for part in ("ivan", "example.ru", "9161234567", "иван", "петров"))


def test_times_of_a_request_are_read_back() -> None:
    made = convert(occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC))
    assert isinstance(made, Conversion)
    assert events.times(route().encode([made.payload], "")) == [datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)]


def test_the_value_of_an_action_does_not_matter_here() -> None:
    """Only the minor units handed in do: converting money is somebody else's."""
    assert event(value=100, currency="RUB", on={})["conversionValue"] == 1
    found = route().convert(ACTION._replace(value=Decimal("7"), currency="RUB"), NOBODY, TARGET, 100)
    assert isinstance(found, Conversion)
    assert found.value == 100
