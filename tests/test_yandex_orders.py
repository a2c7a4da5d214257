"""The route yandex.orders without a network: what an order is, how its states add up, and the bytes of a file."""

from __future__ import annotations

import csv
import io
import itertools
import re
import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync.destinations import Route
from convsync.destinations.yandex import Orders
from convsync.errors import ConfigError
from convsync.model import Action, Conversion, OnUnknown, Person, Skip, SkipReason
from convsync.net import Wire

CLIENT = "16069999991607000000"
NOBODY = Person()
PERSON = Person(emails=("mail@yandex.ru",), phones=("+79995551111",))
MD5_EMAIL, MD5_PHONE = "3c56ff8fef0f6c65b36b2d25720fe276", "f09f2c3d48f31e2a802944ade2e5aec5"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Target(NamedTuple):
    status: str = "PAID"
    goals: tuple[str, ...] = ()


LEAD, PAID = Target("IN_PROGRESS"), Target("PAID")


def orders(**settings: Any) -> Orders:
    given = {"counter_id": "12345678", "token": "t", "counter_timezone": "Europe/Moscow", **settings}
    return Orders("yandex", wire=Wire(requests_per_second=1000), **given)


def action(**told: Any) -> Action:
    first = {"source": "shop", "external_id": "e1", "action": "sale", "occurred_at": NOON, "order_id": "A-1"}
    return Action(**{**first, "ym_client_id": CLIENT, **told})


def state(route: Orders, told: Action, person: Person = NOBODY, target: Target = PAID, value: int | None = None) -> Any:
    made = route.convert(told, person, target, value)
    assert isinstance(made, Conversion), made
    return orjson.loads(made.payload)


def skip(told: Action, person: Person = NOBODY, value: int | None = None) -> Skip:
    made = orders().convert(told, person, PAID, value)
    assert isinstance(made, Skip), made
    return made


def nameless(**told: Any) -> Skip:
    """Why an order that names nobody cannot be the first of its lane."""
    made = orders().convert(action(**told), NOBODY, PAID, None)
    assert isinstance(made, Conversion) and isinstance(made.alone, Skip), made
    assert skip(action(**told, order_id=None)) == made.alone
    return made.alone


def file_of(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.split(b"\r\n\r\n")[1].rsplit(b"\r\n--")[0].decode(), newline="")))


def rows(route: Orders, *payloads: bytes) -> list[dict[str, str]]:
    return file_of(route.encode(payloads, "token"))


def order(number: object, **told: Any) -> bytes:
    whole = {"id": str(number), "created": 1_793_534_400, "client_ids": [CLIENT], "order_status": "PAID", **told}
    return orjson.dumps(whole)


def test_orders_keeps_the_contract_of_a_route() -> None:
    route: Route = orders()
    assert route.on_unknown is OnUnknown.RESEND
    assert (route.adjusts, route.snapshots, route.reason_per_row) == (True, True, False)
    assert route.request_seconds > 60


# -- refused before anything is sent -----------------------------------------------------------------


def test_a_yclid_alone_is_no_identifier_and_the_detail_says_what_would_be_one() -> None:
    refused = nameless(ym_client_id=None, yclid="1234567890123456789")
    assert refused.reason is SkipReason.NO_IDENTIFIER
    assert "yclid" in refused.detail and "ClientID" in refused.detail


def test_an_action_that_names_nobody_is_no_identifier() -> None:
    assert nameless(ym_client_id=" ").reason is SkipReason.NO_IDENTIFIER


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1606999999.1607000000", "Google Analytics"),
        ("GA1.2.1606999999.1607000000", "Google Analytics"),
        ("1606999999160700000.0", "spreadsheet"),
        ("1606999999160700000,0", "spreadsheet"),
        ("1.6E+18", "spreadsheet"),
        ("1,6E+18", "spreadsheet"),
        ("16069999,5E+11", "spreadsheet"),
        ("1.6E+18; 1.7E+18", "spreadsheet"),
        ("1 606 999 999 160 700 000", "another form"),
        (",;", "holds none"),
        ("12345", "another form"),
        ("1" * 21, "another form"),
        ("١٢٣٤٥٦٧٨", "another form"),
        ("{{client_id}}", "another form"),
    ],
)
def test_a_client_id_that_metrica_never_issued_is_refused_in_words(text: str, says: str) -> None:
    refused = nameless(ym_client_id=text)
    assert refused.reason is SkipReason.BAD_IDENTIFIER
    assert says in refused.detail and "ym_client_id" in refused.detail


def test_a_bad_client_id_beside_a_contact_is_left_out() -> None:
    assert "client_ids" not in state(orders(), action(ym_client_id="1606999999.1607000000"), PERSON)


@pytest.mark.parametrize("order_id", ["a\nb", "a\rb", "a\x00b", "a\u2028b", "\ud800", "x" * 256])
def test_an_order_id_that_would_break_a_file_is_refused(order_id: str) -> None:
    assert skip(action(order_id=order_id)).reason is SkipReason.BAD_IDENTIFIER


def test_an_empty_status_never_leaves_because_metrica_reads_it_as_paid() -> None:
    with pytest.raises(ConfigError, match="PAID"):
        orders().convert(action(), Person(), Target(""), None)


def test_revenue_stays_within_what_metrica_holds() -> None:
    limit = 9_223_372_036_854_00
    assert state(orders(), action(currency="RUB"), value=limit)["revenue"] == "9223372036854.00"
    large = skip(action(currency="RUB"), value=limit + 1)
    assert large.reason is SkipReason.VALUE_TOO_LARGE and "more than Metrica can hold" in large.detail
    negative, bare = skip(action(currency="RUB"), value=-1), skip(action(), value=1)
    assert negative.reason is SkipReason.NEGATIVE_VALUE and "refund" in negative.detail
    assert bare.reason is SkipReason.NO_CURRENCY and "roubles" in bare.detail


@pytest.mark.parametrize(
    ("cost", "reason", "says"),
    [
        ("-0.01", SkipReason.NEGATIVE_VALUE, "from 0"),
        ("9223372036855", SkipReason.VALUE_TOO_LARGE, "more than Metrica can hold"),
    ],
)
def test_a_cost_that_metrica_would_refuse_is_told_before(cost: str, reason: SkipReason, says: str) -> None:
    refused = skip(action(currency="RUB", cost=Decimal(cost)), value=100)
    assert refused.reason is reason and "cost" in refused.detail and says in refused.detail


@pytest.mark.parametrize("settings", [{"counter_id": "12-34"}, {"token": "a b"}, {"counter_timezone": "Moscow/Europe"}])
def test_settings_that_cannot_work_are_named_at_once(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"destinations.yandex.{next(iter(settings))}"):
        orders(**settings)


# -- what an order is --------------------------------------------------------------------------------


def test_contacts_leave_as_the_md5_that_yandex_publishes() -> None:
    made = state(orders(), action(), PERSON)
    assert (made["emails_md5"], made["phones_md5"]) == ([MD5_EMAIL], [MD5_PHONE])


def test_no_contact_stands_in_a_payload_in_clear() -> None:
    made = orders().convert(action(user_id="Mail@yandex.ru"), PERSON, PAID, None)
    assert isinstance(made, Conversion)
    assert b"yandex.ru" not in made.payload.lower() and b"79995551111" not in made.payload
    assert orjson.loads(made.payload)["client_uniq_id"] == MD5_EMAIL


def test_plain_contacts_have_columns_of_their_own() -> None:
    route = orders(contact_hash="none")
    made = orjson.dumps(state(route, action(), PERSON))
    (row,) = rows(route, made)
    assert (row["emails"], row["phones"]) == ("mail@yandex.ru", "79995551111")
    assert "emails_md5" not in row


def test_an_address_with_letters_that_are_not_latin_is_left_out() -> None:
    person = Person(emails=("почта@пример.рф", "a@b.ru"), phones=())
    assert state(orders(contact_hash="none"), action(), person)["emails"] == ["a@b.ru"]


CLIENT_IDS = st.integers(10**5, 2**64 - 1).map(str)


@given(st.lists(CLIENT_IDS, min_size=1, max_size=4, unique=True), st.sampled_from([",", "; ", " ", "/", ", ", "\t"]))
def test_client_ids_of_up_to_twenty_digits_come_from_a_cell_into_the_file_as_text(ids: list[str], mark: str) -> None:
    made = orders().convert(action(ym_client_id=mark.join(ids)), NOBODY, PAID, None)
    assert isinstance(made, Conversion)
    (row,) = rows(orders(), made.payload)
    assert row["client_ids"].split(",") == ids


@given(
    st.integers(10**9, 2**64 - 1),
    st.sampled_from(["{0:.5E}", "{0:.0E}", "{0:.14e}", "{0}.0", "{0},0", "{0}.1606999999", "GA1.2.{0}.1606999999"]),
)
def test_a_client_id_that_something_has_damaged_is_never_sent_as_another(number: int, form: str) -> None:
    for text in (form.format(number), form.format(number).replace("E", "e").replace(".", ",", form[1] == "0")):
        if not text[:4].isdigit() or "." in text or "e" in text.lower():
            assert nameless(ym_client_id=text).reason is SkipReason.BAD_IDENTIFIER


def test_bad_client_ids_among_good_ones_are_left_out() -> None:
    assert state(orders(), action(ym_client_id="111111, 12, 222222, 1.5, 111111"))["client_ids"] == ["111111", "222222"]


@pytest.mark.parametrize("user_id", ["Mail@yandex.ru", "+79995551111", "79995551111", "8 (999) 555-11-11"])
def test_a_customer_id_that_is_a_contact_leaves_as_its_hash(user_id: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", state(orders(), action(user_id=user_id))["client_uniq_id"])


def test_plain_contacts_are_marked_to_be_erased_and_erasing_leaves_their_hashes() -> None:
    route = orders(contact_hash="none")
    made = route.convert(action(), PERSON, PAID, None)
    assert isinstance(made, Conversion) and made.clear
    erased = route.redact(made.payload)
    assert b"yandex.ru" not in erased and b"79995551111" not in erased
    hashed = orders().convert(action(), PERSON, PAID, None)
    assert isinstance(hashed, Conversion) and hashed.payload == erased and not hashed.clear
    assert route.redact(erased) == erased


def test_a_row_that_names_nobody_is_marked_too_because_it_takes_on_what_the_order_knows() -> None:
    made = orders(contact_hash="none").convert(action(ym_client_id=None), NOBODY, PAID, None)
    assert isinstance(made, Conversion) and made.clear


def test_an_order_that_names_nobody_carries_on_who_it_was() -> None:
    route = orders()
    lead, sale = (route.convert(action(ym_client_id=client), NOBODY, PAID, None) for client in (CLIENT, None))
    assert isinstance(lead, Conversion) and isinstance(sale, Conversion)
    assert (lead.alone, sale.lane) == (None, "A-1")
    assert orjson.loads(route.merge(lead.payload, sale.payload))["client_ids"] == [CLIENT]


def test_late_orders_expire_or_are_sent_and_changes_end_after_111_days() -> None:
    route, late = orders(link_window=timedelta(days=20)), orders(late_orders="send")
    assert (route.first_max_age, late.first_max_age) == (timedelta(days=20), None)
    assert (route.max_age, route.adjust_max_age) == (timedelta(days=113), timedelta(days=111))
    assert orders(max_age=timedelta(days=30)).adjust_max_age == timedelta(days=30)


def test_an_action_without_order_id_is_an_order_of_its_source() -> None:
    """Two sources that both count from 1 must not write into each other's orders."""
    ids = {state(orders(), action(source=s, external_id="7", order_id=None))["id"] for s in ("shop", "crm")}
    assert ids == {"shop:7", "crm:7"}


def test_lead_and_sale_of_one_deal_are_one_order_in_one_lane() -> None:
    route = orders()
    lead = route.convert(action(external_id="1", action="lead"), Person(), LEAD, None)
    sale = route.convert(action(external_id="2"), Person(), PAID, None)
    assert isinstance(lead, Conversion) and isinstance(sale, Conversion)
    assert lead.lane == sale.lane == "A-1"
    assert (lead.goal, sale.goal) == ("IN_PROGRESS", "PAID")


@pytest.mark.parametrize(("status", "word"), [("cancelled", "CANCELLED"), ("refunded", "CANCELLED"), ("spam", "SPAM")])
def test_an_action_that_is_no_more_is_an_order_worth_nothing(status: str, word: str) -> None:
    route = orders()
    made = route.convert(action(status=status, currency="RUB"), Person(), PAID, 500000)
    assert isinstance(made, Conversion)
    (row,) = rows(route, made.payload)
    assert (row["order_status"], row["revenue"]) == (word, "0")
    assert (made.status, made.value, made.currency) == (status, 0, "RUB")


def test_a_stage_that_is_mapped_to_cancelled_is_worth_nothing_too() -> None:
    made = orders().convert(action(currency="RUB"), NOBODY, Target("CANCELLED"), 500000)
    assert isinstance(made, Conversion)
    assert (made.status, made.value) == ("active", 0)


def test_a_cancelled_order_without_currency_has_no_value_in_the_ledger() -> None:
    made = orders().convert(action(status="cancelled"), Person(), PAID, None)
    assert isinstance(made, Conversion)
    assert (made.value, made.currency) == (None, None)


def test_a_partial_refund_is_the_same_order_with_less_revenue() -> None:
    assert state(orders(), action(currency="RUB"), value=120050)["revenue"] == "1200.50"


@pytest.mark.parametrize(
    ("value", "currency", "text"), [(5, "RUB", "0.05"), (1500, "JPY", "1500"), (1500, "KWD", "1.500")]
)
def test_revenue_is_exact_in_every_kind_of_currency(value: int, currency: str, text: str) -> None:
    assert state(orders(), action(currency=currency), value=value)["revenue"] == text


def test_the_cost_of_what_was_sold_has_a_column_of_its_own() -> None:
    route = orders()
    sale = route.convert(action(currency="RUB", cost=Decimal("40.5")), NOBODY, PAID, 10000)
    assert isinstance(sale, Conversion)
    margin, other = rows(route, sale.payload, order(2, revenue="1.00", currency="RUB"))
    assert (margin["revenue"], margin["cost"], other["cost"]) == ("100.00", "40.50", "")


def test_a_cost_without_a_value_is_not_sent() -> None:
    assert "cost" not in state(orders(), action(currency="RUB", cost=Decimal(-5)))


def test_what_is_cancelled_costs_nothing() -> None:
    (row,) = rows(orders(), order(1, order_status="CANCELLED", revenue="9.00", cost=["4.00", "RUB"], currency="RUB"))
    assert (row["revenue"], row["cost"]) == ("0", "0")


def test_a_file_without_cost_and_goals_has_no_columns_for_them() -> None:
    made = orders().convert(action(currency="RUB"), NOBODY, PAID, 100)
    assert isinstance(made, Conversion)
    (row,) = rows(orders(), made.payload)
    assert not {"cost", "goals"} & row.keys()


def test_further_goals_stand_in_one_cell_with_their_prices() -> None:
    told = state(orders(), action(), target=Target("PAID", ("a", "b:200.5")))
    one, other = rows(orders(), orjson.dumps(told), order(2))
    assert (one["goals"], other["goals"]) == ("a,b:200.5", "")


def test_an_action_that_is_no_more_reaches_no_further_goal_but_keeps_those_of_its_order_without_money() -> None:
    route, target = orders(), Target("PAID", ("b:200",))
    paid, gone = (route.convert(action(status=status), NOBODY, target, None) for status in ("active", "refunded"))
    assert isinstance(paid, Conversion) and isinstance(gone, Conversion)
    assert "goals" not in orjson.loads(gone.payload)
    (row,) = rows(route, route.merge(paid.payload, gone.payload))
    assert (row["order_status"], row["goals"]) == ("CANCELLED", "b")


# -- how the states of one order add up --------------------------------------------------------------


def merged(*payloads: bytes) -> Any:
    route = orders()
    whole = payloads[0]
    for later in payloads[1:]:
        whole = route.merge(whole, later)
    return orjson.loads(whole)


def test_creation_time_and_id_stay_as_first_sent() -> None:
    after = merged(order("A", created=100), order("A", created=200, order_status="CANCELLED"))
    assert (after["id"], after["created"], after["order_status"]) == ("A", 100, "CANCELLED")


def test_what_is_known_of_the_customer_adds_up_without_repeats() -> None:
    before = order("A", client_ids=["111111"], emails_md5=["x"], client_uniq_id="u")
    after = merged(before, order("A", client_ids=["222222", "111111"], phones_md5=["y"]))
    assert after["client_ids"] == ["111111", "222222"]
    assert (after["emails_md5"], after["phones_md5"], after["client_uniq_id"]) == (["x"], ["y"], "u")


def test_a_status_without_an_amount_keeps_the_amount_that_was_told() -> None:
    after = merged(order("A", revenue="10.00", currency="USD"), order("A", order_status="shipped"))
    assert (after["revenue"], after["currency"], after["order_status"]) == ("10.00", "USD", "shipped")


def test_zero_is_an_amount() -> None:
    after = merged(order("A", revenue="10.00", currency="USD"), order("A", revenue="0.00", currency="USD"))
    assert after["revenue"] == "0.00"


def test_an_order_revived_after_its_cancellation_is_worth_what_it_was() -> None:
    paid, cancelled = order("A", revenue="10.00", currency="USD"), order("A", order_status="CANCELLED")
    route = orders()
    (row,) = rows(route, route.merge(paid, cancelled))
    assert (row["revenue"], row["currency"]) == ("0", "USD")
    assert merged(paid, cancelled, order("A"))["revenue"] == "10.00"


def test_goals_add_up_by_name_and_the_later_price_holds() -> None:
    assert merged(order("A", goals=["a", "b:1"]), order("A", goals=["b:2", "c"]))["goals"] == ["a", "b:2", "c"]


def test_a_cost_holds_until_another_is_told_and_only_in_its_own_currency() -> None:
    paid = order("A", revenue="10.00", cost=["4.00", "USD"], currency="USD")
    less = merged(paid, order("A", revenue="8.00", currency="USD"))
    (row,) = rows(orders(), orjson.dumps(less))
    assert (row["revenue"], row["cost"]) == ("8.00", "4.00")
    (row,) = rows(orders(), orjson.dumps(merged(paid, order("A", revenue="8.00", currency="EUR"))))
    assert (row["revenue"], row["cost"]) == ("8.00", "")


def test_a_contact_known_as_a_hash_and_told_in_clear_is_told_once() -> None:
    route = orders(contact_hash="none")
    hashed = order("A", emails_md5=[MD5_EMAIL, "x"])
    plain = order("A", emails=["mail@yandex.ru"])
    for one, other in ((hashed, plain), (plain, hashed)):
        after = orjson.loads(route.merge(one, other))
        assert (after["emails"], after["emails_md5"]) == (["mail@yandex.ru"], ["x"])
        (row,) = rows(route, orjson.dumps(after))
        assert (row["emails"], row["emails_md5"]) == ("mail@yandex.ru", "x")


def test_what_waits_in_clear_is_hashed_as_soon_as_contacts_are_to_be_hashed() -> None:
    after = merged(order("A", emails=["mail@yandex.ru"]), order("A"))
    assert "emails" not in after and after["emails_md5"] == [MD5_EMAIL]


MONEY = st.sampled_from(
    [
        {},
        {"currency": "USD"},
        {"revenue": "1.00", "currency": "RUB"},
        {"revenue": "0.00", "currency": "USD"},
        {"revenue": "3.00", "cost": ["2.00", "USD"], "currency": "USD"},
        {"revenue": "3.00", "cost": ["1.00", "RUB"], "currency": "RUB"},
    ]
)
CONTACTS = ["mail@yandex.ru", "a@b.ru"]
states = st.builds(
    lambda told, money: order("A", **{name: value for name, value in told.items() if value is not None}, **money),
    st.fixed_dictionaries(
        {
            "created": st.integers(0, 2**31),
            "client_uniq_id": st.none() | st.sampled_from("uv"),
            "client_ids": st.lists(st.sampled_from(["111111", "222222", "333333"]), min_size=1, unique=True),
            "emails": st.none() | st.lists(st.sampled_from(CONTACTS), min_size=1, unique=True),
            "emails_md5": st.none() | st.lists(st.sampled_from(["x", MD5_EMAIL, "z"]), min_size=1, unique=True),
            "goals": st.none()
            | st.lists(st.sampled_from(["a", "a:1", "b:2", "c"]), min_size=1, unique_by=lambda g: g[0]),
            "order_status": st.sampled_from(["IN_PROGRESS", "PAID", "CANCELLED"]),
        }
    ),
    MONEY,
)


@given(states, states, states)
def test_merging_does_not_depend_on_how_it_is_grouped(a: bytes, b: bytes, c: bytes) -> None:
    """The ledger may merge as it plans or as it claims: the bytes are the same."""
    for route in (orders(), orders(contact_hash="none")):
        assert route.merge(route.merge(a, b), c) == route.merge(a, route.merge(b, c))


@given(states, states)
def test_merging_the_same_state_again_changes_nothing(a: bytes, b: bytes) -> None:
    for route in (orders(), orders(contact_hash="none")):
        once = route.merge(a, b)
        assert route.merge(once, b) == once


# -- the file ----------------------------------------------------------------------------------------


def test_a_file_never_holds_one_order_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        orders().encode([order(1), order(2), order(1)], "token")


def test_a_file_is_not_made_before_the_counters_time_zone_is_known() -> None:
    with pytest.raises(ValueError, match="time zone"):
        orders(counter_timezone=None).encode([order(1)], "token")


def test_the_header_is_fixed_and_the_bytes_are_plain() -> None:
    body = orders().encode([order(1)], "token")
    head, content = body.split(b"\r\n\r\n")
    assert b'name="file"' in head
    assert content.startswith(
        b"id,create_date_time,client_uniq_id,client_ids,emails_md5,phones_md5,order_status,revenue,currency\n"
        b"1,2026-11-01 15:00:00,,16069999991607000000,,,PAID,,\n"
    )


def test_several_ids_stand_in_quotes_without_blanks() -> None:
    body = orders().encode([order(1, client_ids=["111111", "222222"])], "token")
    assert b',"111111,222222",' in body


def test_the_same_rows_are_the_same_bytes_and_other_rows_have_another_boundary() -> None:
    first, again, other = (orders().encode([order(n)], token) for n, token in ((1, "a"), (1, "b"), (2, "a")))
    assert first == again
    assert first.split(b"\r\n")[0] != other.split(b"\r\n")[0]


def test_the_date_is_the_counters_wall_clock() -> None:
    route = orders(counter_timezone="America/New_York")
    (row,) = rows(route, order(1))
    assert row["create_date_time"] == "2026-11-01 07:00:00"


ALPHABET = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
TEXT = st.text(ALPHABET, min_size=1, max_size=30).filter(lambda text: text == text.strip())
LISTS = st.lists(st.text("abcdef0123456789", min_size=6, max_size=20), min_size=1, max_size=3, unique=True)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, LISTS), unique_by=lambda row: row[0], max_size=8))
def test_every_order_comes_back_from_its_file_as_it_went_in(told: list[tuple[str, str, list[str]]]) -> None:
    payloads = [order(name, client_uniq_id=who, client_ids=ids) for name, who, ids in told]
    back = rows(orders(), *payloads)
    assert [(row["id"], row["client_uniq_id"], row["client_ids"].split(",")) for row in back] == told


@given(TEXT, st.sampled_from(["+79995551111", "=1+1", "-5", "@x", '"', "'", "a,b", ";"]))
def test_nothing_is_put_before_a_value_that_a_spreadsheet_would_take_for_a_formula(name: str, prefix: str) -> None:
    (row,) = rows(orders(), order(prefix + name))
    assert row["id"] == prefix + name


def test_the_preview_is_what_the_file_says() -> None:
    route = orders()
    payloads = [order(1, revenue="5.00", currency="RUB"), order(2, order_status="CANCELLED", revenue="5.00")]
    assert [dict(row) for row in route.preview(payloads)] == rows(route, *payloads)


def test_the_preview_works_before_the_counter_was_asked() -> None:
    (row,) = orders(counter_timezone=None).preview([order(1)])
    assert row["create_date_time"].startswith("2026-11-01 12:00:00 UTC")


def test_a_hundred_thousand_rows_are_one_file_and_take_little_more_memory_than_it() -> None:
    route = orders()
    payloads = [order(n, emails_md5=[MD5_EMAIL], revenue="1500.00", currency="RUB") for n in range(100_000)]
    body = route.encode(payloads, "token")
    assert body.count(b"1500.00,RUB") == 100_000
    tracemalloc.start()
    route.encode(payloads[:20_000], "token")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(body) / 5  # the file, its growth, and the set of order ids


def test_convert_gives_the_same_bytes_for_the_same_action() -> None:
    made = [orders().convert(action(currency="RUB", user_id="u"), PERSON, PAID, 100) for _ in range(2)]
    assert made[0] == made[1]
    assert isinstance(made[0], Conversion)
    assert re.fullmatch(rb"\{\S+\}", made[0].payload)


def test_moments_within_one_second_and_zone_do_not_change_an_order() -> None:
    later = NOON + timedelta(milliseconds=400)
    shifted = later.astimezone(tz=None)
    first, second = state(orders(), action(occurred_at=later)), state(orders(), action(occurred_at=shifted))
    assert first == second and first["created"] == int(NOON.timestamp())


def test_every_pair_of_lives_keeps_money_a_decimal_text() -> None:
    for value, currency in itertools.product((0, 1, 99, 100, 101, 10**12), ("RUB", "JPY", "KWD")):
        text = state(orders(), action(currency=currency), value=value)["revenue"]
        assert Decimal(text) >= 0 and re.fullmatch(r"\d+(\.\d+)?", text)
