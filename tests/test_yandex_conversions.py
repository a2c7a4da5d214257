"""The route yandex.conversions: what a row is, the bytes of a file, and what the local emulator makes of it."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.config.action import YandexTarget
from convsync.destinations import Route
from convsync.destinations.yandex import Conversions, Orders
from convsync.errors import ConfigError, Halted, NotSent, Unclear
from convsync.model import (
    Action,
    Answer,
    Conversion,
    Group,
    OnUnknown,
    Person,
    Skip,
    SkipReason,
    Sought,
    Verdict,
    key_of,
)
from convsync.net import Wire
from convsync.sandbox import Clock, Sandbox, SandboxConfig

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AT = int(NOON.timestamp())
COUNTER = "12345678"
CLIENT, CLICK = "16069999991607000000", "12345678901234567890"
TOKEN = "0123456789abcdef01234567"
NOBODY = Person()
GOAL = YandexTarget(goal="crm_lead")


def conversions(**settings: Any) -> Conversions:
    given = {"counter_id": COUNTER, "token": "t", **settings}
    return Conversions("yandex", wire=Wire(requests_per_second=1000), **given)


def action(**told: Any) -> Action:
    first = {"source": "shop", "external_id": "e1", "action": "lead", "occurred_at": NOON, "yclid": CLICK}
    return Action(**{**first, **told})


def made(told: Action, by: tuple[str, ...] = (), value: int | None = None) -> Conversion:
    target = YandexTarget(goal="crm_lead", by=by) if by else GOAL
    found = conversions().convert(told, NOBODY, target, value)
    assert isinstance(found, Conversion), found
    return found


def skip(told: Action, by: tuple[str, ...] = (), value: int | None = None) -> Skip:
    target = YandexTarget(goal="crm_lead", by=by) if by else GOAL
    found = conversions().convert(told, NOBODY, target, value)
    assert isinstance(found, Skip), found
    return found


def row(number: int = 0, **told: Any) -> bytes:
    return orjson.dumps({"kind": "yclid", "id": CLICK, "target": "crm_lead", "at": AT + number, **told})


def content(body: bytes) -> str:
    return body.split(b"\r\n\r\n")[1].rsplit(b"\r\n--")[0].decode()


def rows(*payloads: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(conversions().encode(payloads, TOKEN)), newline="")))


def test_conversions_keeps_the_contract_of_a_route() -> None:
    route: Route = conversions(link_window=timedelta(days=20), quarantine=timedelta(minutes=1))
    assert (route.on_unknown, route.door, route.in_flight) == (OnUnknown.ASK, "conversions", 1)
    assert (route.adjusts, route.snapshots, route.reason_per_row) == (True, False, False)
    assert (route.apart, route.changes_apart, route.fixed) == (True, False, True)
    assert route.max_age == route.adjust_max_age == timedelta(days=20)
    assert (route.quarantine, route.request_seconds > 60) == (timedelta(minutes=1), True)


# -- refused before anything is sent -----------------------------------------------------------------


def test_a_row_without_the_ids_that_by_asks_for_says_what_it_has_instead() -> None:
    refused = skip(action(yclid=None, user_id="u-1", order_id="A-1"))
    assert refused.reason is SkipReason.NO_IDENTIFIER and refused.destination == "yandex"
    assert "yclid or ym_client_id" in refused.detail and "user_id or order_id" in refused.detail
    assert 'by = ["yclid","client_id","user_id","purchase_id"]' in refused.detail
    assert "u-1" not in refused.detail and "A-1" not in refused.detail


def test_a_row_with_nothing_at_all_says_only_what_is_missing() -> None:
    refused = skip(action(yclid=" "), by=("user_id",))
    assert refused.reason is SkipReason.NO_IDENTIFIER and refused.detail == "`by` asks for user_id, the row has none"


@pytest.mark.parametrize(
    ("field", "kind", "text", "says"),
    [
        ("yclid", "yclid", "1.7E+18", "spreadsheet"),
        ("yclid", "yclid", "1,6E+18", "spreadsheet"),
        ("yclid", "yclid", "12345678901234567.0", "ends in .0"),
        ("yclid", "yclid", "{{yclid}}", "another form"),
        ("yclid", "yclid", "12345", "another form"),
        ("yclid", "yclid", "1" * 33, "another form"),
        ("yclid", "yclid", "١٢٣٤٥٦٧٨", "another form"),
        ("ym_client_id", "client_id", "1606999999.1607000000", "Google Analytics"),
        ("ym_client_id", "client_id", "123.456", "Google Analytics"),
        ("ym_client_id", "client_id", "123.0", "ends in .0"),
        ("ym_client_id", "client_id", "1,6E+18", "spreadsheet"),
        ("ym_client_id", "client_id", "1" * 21, "another form"),
        ("user_id", "user_id", "Ivan@Example.ru", "e-mail address or a phone"),
        ("user_id", "user_id", "+7 999 555-11-11", "e-mail address or a phone"),
        ("user_id", "user_id", "89995551111", "e-mail address or a phone"),
        ("user_id", "user_id", "u\n1", "control character"),
        ("user_id", "user_id", "x" * 256, "longer than 255"),
        ("order_id", "purchase_id", "a\x00", "control character"),
        ("order_id", "purchase_id", "x" * 256, "longer than 255"),
    ],
)
def test_an_id_that_nobody_issued_is_refused_by_the_name_of_its_field(
    field: str, kind: str, text: str, says: str
) -> None:
    refused = skip(action(**{"yclid": None, field: text}), by=(kind,))
    assert refused.reason is SkipReason.BAD_IDENTIFIER
    assert field in refused.detail and says in refused.detail and text not in refused.detail


def test_a_damaged_id_leaves_room_for_the_next_one_of_by() -> None:
    found = made(action(yclid="1.6E+18", ym_client_id=CLIENT))
    assert (found.part, orjson.loads(found.payload)["id"]) == ("client_id", CLIENT)


@given(st.integers(10**9, 2**64 - 1), st.sampled_from(["{:.5E}", "{:.0E}", "{:.14e}", "{}.0", "{},0", "{}.16069999"]))
def test_an_id_that_something_has_damaged_is_never_sent_as_another(number: int, form: str) -> None:
    text = form.format(number)
    for one in (text, text.replace(".", ",") if "e" in text.lower() else text):
        for told in (action(yclid=one), action(yclid=None, ym_client_id=one)):
            assert skip(told).reason is SkipReason.BAD_IDENTIFIER


@pytest.mark.parametrize(
    ("told", "value", "reason"),
    [
        ({}, 100, SkipReason.NO_CURRENCY),
        ({"currency": "RUB"}, -1, SkipReason.NEGATIVE_VALUE),
        ({"occurred_at": datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)}, None, SkipReason.TOO_OLD),
    ],
)
def test_what_metrica_would_read_as_something_else_is_skipped(
    told: dict[str, Any], value: int | None, reason: SkipReason
) -> None:
    refused = skip(action(**told), value=value)
    assert refused.reason is reason and refused.detail


def test_a_target_without_a_goal_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="goal"):
        conversions().convert(action(), NOBODY, YandexTarget(status="PAID"), None)


@pytest.mark.parametrize("settings", [{"counter_id": "12-34"}, {"token": "a b"}])
def test_settings_that_cannot_work_are_named_at_once(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"destinations.yandex.{next(iter(settings))}"):
        conversions(**settings)


# -- what a row is -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "text"),
    [("yclid", CLICK), ("client_id", CLIENT), ("user_id", "u-1"), ("purchase_id", "A-1")],
)
def test_each_kind_of_id_is_a_part_of_its_own(by: str, text: str) -> None:
    found = made(action(ym_client_id=CLIENT, user_id=" u-1 ", order_id="A-1"), by=(by,))
    assert found.part == by
    assert orjson.loads(found.payload) == {"kind": by, "id": text, "target": "crm_lead", "at": AT}


def test_the_first_of_several_client_ids_is_taken() -> None:
    assert orjson.loads(made(action(yclid=None, ym_client_id=f"{CLIENT}; 222222")).payload)["id"] == CLIENT


def test_an_action_never_has_one_key_at_both_doors() -> None:
    """Even where the status of orders is called as the goal of conversions."""
    orders = Orders("yandex", counter_id="1", token="t", wire=Wire(requests_per_second=1000))
    order = orders.convert(action(ym_client_id=CLIENT), NOBODY, YandexTarget(status="crm_lead"), None)
    assert isinstance(order, Conversion)
    found = made(action())
    assert found.key not in (None, key_of("shop", "e1", "lead", "yandex", order.goal))
    assert (found.door, found.goal, found.lane) == ("conversions", "crm_lead", None)
    assert found == made(action())


def test_the_time_is_the_true_second_in_any_zone() -> None:
    local = NOON.replace(microsecond=999_999).astimezone(tz=None)
    assert orjson.loads(made(action(occurred_at=local)).payload)["at"] == AT


@pytest.mark.parametrize(
    ("value", "currency", "price"),
    [(5, "RUB", "0.05"), (0, "RUB", "0.00"), (1500, "JPY", "1500"), (15, "KWD", "0.015")],
)
def test_a_price_is_exact_in_every_kind_of_currency(value: int, currency: str, price: str) -> None:
    found = made(action(currency=currency), value=value)
    (told,) = rows(found.payload)
    assert (told["Price"], told["Currency"]) == (price, currency)
    assert (found.value, found.currency) == (value, currency)


def test_an_action_without_a_value_has_an_empty_price_and_no_currency() -> None:
    bare, priced = rows(made(action(currency="RUB")).payload, row(1, price="1.00", currency="RUB"))
    assert (bare["Price"], bare["Currency"]) == ("", "")
    assert (priced["Price"], priced["Currency"]) == ("1.00", "RUB")


@pytest.mark.parametrize("status", ["cancelled", "refunded", "spam"])
def test_what_is_no_more_is_the_same_row_worth_nothing(status: str) -> None:
    sold, gone = (made(action(currency="RUB", status=one), value=500) for one in ("active", status))
    assert (gone.identity, gone.key) == (sold.identity, sold.key)
    assert (gone.value, gone.currency, gone.status) == (0, "RUB", status)
    (told,) = rows(conversions().merge(sold.payload, gone.payload))
    assert (told["Price"], told["Currency"], told["DateTime"]) == ("0", "RUB", str(AT))


def test_what_is_no_more_and_never_had_a_currency_is_worth_0_all_the_same() -> None:
    gone = made(action(status="refunded"))
    assert (gone.value, gone.currency) == (None, None)
    assert rows(gone.payload)[0]["Price"] == "0"


# -- a change keeps what Metrica tells rows apart by -------------------------------------------------


def merged(*payloads: bytes) -> Any:
    whole = payloads[0]
    for later in payloads[1:]:
        whole = conversions().merge(whole, later)
    return orjson.loads(whole)


def test_a_change_keeps_who_what_and_when_and_takes_the_new_price() -> None:
    later = orjson.dumps(
        {"kind": "client_id", "id": CLIENT, "target": "other", "at": 1, "price": "2.00", "currency": "USD"}
    )
    assert merged(row(price="1.00", currency="RUB"), later) == orjson.loads(row(price="2.00", currency="USD"))


def test_a_change_without_an_amount_keeps_the_amount_that_was_told() -> None:
    assert merged(row(price="1.00", currency="RUB"), row()) == orjson.loads(row(price="1.00", currency="RUB"))


def test_what_is_revived_is_worth_what_it_was() -> None:
    assert merged(row(price="1.00", currency="RUB"), row(void=True), row()) == orjson.loads(
        row(price="1.00", currency="RUB")
    )


ROWS = st.builds(
    lambda kind, number, money: row(number, **kind, **money),
    st.sampled_from([{}, {"kind": "client_id", "id": CLIENT}]),
    st.integers(0, 3),
    st.sampled_from(
        [
            {},
            {"currency": "USD"},
            {"void": True},
            {"price": "1.00", "currency": "RUB"},
            {"price": "2.00", "currency": "USD", "void": True},
        ]
    ),
)


@given(ROWS, ROWS, ROWS)
def test_changes_add_up_however_they_are_grouped(a: bytes, b: bytes, c: bytes) -> None:
    merge = conversions().merge
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(merge(a, b), b) == merge(a, b)


@given(ROWS, ROWS)
def test_a_change_never_moves_a_row(a: bytes, b: bytes) -> None:
    first, after = orjson.loads(a), merged(a, b)
    assert [after[name] for name in ("kind", "id", "target", "at")] == [
        first[name] for name in ("kind", "id", "target", "at")
    ]


def test_two_sales_of_one_second_are_made_two_by_a_second() -> None:
    route = conversions()
    first, other = (
        made(action(external_id=name, currency="RUB"), value=value) for name, value in (("1", 100), ("2", 200))
    )
    assert first.identity == other.identity and first.key != other.key
    moved = route.shift(other)
    assert moved.identity not in ("", first.identity)
    assert moved._replace(payload=b"", identity="") == other._replace(payload=b"", identity="")
    assert orjson.loads(moved.payload) == {**orjson.loads(other.payload), "at": AT + 1}
    later = made(action(external_id="3", occurred_at=NOON + timedelta(seconds=1)))
    assert moved.identity == later.identity


IDENTITY = st.tuples(
    st.sampled_from(["1", "12"]), st.sampled_from(["yclid", "client_id"]), st.sampled_from(["111111", "1111112"]),
    st.sampled_from(["a", "2a"]), st.integers(AT, AT + 2),
)  # fmt: skip


@given(IDENTITY, IDENTITY)
def test_an_identity_is_the_counter_the_id_the_goal_and_the_second(one: Any, other: Any) -> None:
    def identity(told: Any) -> str:
        counter, kind, text, goal, moment = told
        route = conversions(counter_id=counter)
        told = action(
            **{"yclid": None, "ym_client_id": None, {"yclid": "yclid", "client_id": "ym_client_id"}[kind]: text}
        )
        found = route.convert(
            told._replace(occurred_at=datetime.fromtimestamp(moment, UTC)), NOBODY, YandexTarget(goal=goal), None
        )
        assert isinstance(found, Conversion)
        return found.identity

    assert (identity(one) == identity(other)) is (one == other)


# -- the file ----------------------------------------------------------------------------------------


def test_a_file_is_plain_and_its_boundary_is_the_token() -> None:
    body = conversions().encode([row(price="1.00", currency="RUB"), row(1)], TOKEN)
    assert body.startswith(f"--{TOKEN}\r\n".encode()) and body.endswith(f"\r\n--{TOKEN}--\r\n".encode())
    assert b'name="file"' in body and b"\xef\xbb\xbf" not in body
    assert content(body) == (
        f"Yclid,Target,DateTime,Price,Currency\n{CLICK},crm_lead,{AT},1.00,RUB\n{CLICK},crm_lead,{AT + 1},,\n"
    )


def test_a_file_without_money_has_no_columns_for_it() -> None:
    assert content(conversions().encode([row(kind="purchase_id", id="A-1")], TOKEN)) == (
        f"PurchaseId,Target,DateTime\nA-1,crm_lead,{AT}\n"
    )


@pytest.mark.parametrize("kind", [{"kind": "client_id"}, {}])
def test_a_file_holds_one_kind_of_id_and_each_row_once(kind: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one kind" if kind else "twice"):
        conversions().encode([row(), row(price="1.00", currency="RUB", **kind)], TOKEN)


@pytest.mark.parametrize("token", ["", "token", TOKEN.upper(), TOKEN[1:], f"{TOKEN}0", f"{TOKEN[1:]}-"])
def test_a_token_that_metrica_might_not_keep_is_never_used(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        conversions().encode([row()], token)


def test_the_same_rows_and_token_are_the_same_bytes_whatever_the_settings_say() -> None:
    first, other = conversions(), conversions(send_client_id_type=True, link_window=timedelta(days=1))
    assert first.encode([row()], TOKEN) == other.encode([row()], TOKEN, Group("yclid"))


def test_the_preview_is_what_the_file_says() -> None:
    payloads = [row(price="1.00", currency="RUB"), row(1, void=True)]
    assert [dict(one) for one in conversions().preview(payloads)] == rows(*payloads)
    assert list(conversions().preview([])) == []


@given(st.integers(10**17, 2**64 - 1).map(str))
def test_a_client_id_of_twenty_digits_is_the_same_text_in_the_file(client: str) -> None:
    (told,) = rows(made(action(yclid=None, ym_client_id=client)).payload)
    assert told["ClientId"] == client


USERS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=40)


@given(USERS.filter(lambda text: text == text.strip() and "@" not in text and text[0] != "+"))
def test_a_user_id_comes_out_of_the_file_as_it_went_in(user: str) -> None:
    found = conversions().convert(action(user_id=user), NOBODY, YandexTarget(goal="crm_lead", by=("user_id",)), None)
    if isinstance(found, Conversion):
        assert rows(found.payload)[0]["UserId"] == user
    else:
        assert sum(map(str.isdigit, user)) >= 10, user


def test_a_hundred_thousand_rows_are_one_file_and_take_little_more_memory_than_it() -> None:
    route = conversions()
    payloads = [row(number, price="1500.00", currency="RUB") for number in range(100_000)]
    body = route.encode(payloads, TOKEN)
    assert body.count(b",1500.00,RUB\n") == 100_000
    tracemalloc.start()
    route.encode(payloads[:20_000], TOKEN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(body) / 5  # the file, its growth, and what tells rows apart


# -- against the emulator ----------------------------------------------------------------------------


def box_of(**yandex: Any) -> Sandbox:
    return Sandbox(SandboxConfig.from_dict({"yandex": yandex}), clock=Clock(frozen_at=NOW))


def open_route(box: Sandbox, **settings: Any) -> Conversions:
    wire = Wire(requests_per_second=10_000, timeout=5, sleep=lambda _: None, clock=box.clock.now)
    given = {"counter_id": COUNTER, "token": "sandbox-token", "metrica_url": box.url, **settings}
    return Conversions("yandex", wire=wire, **given)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with box_of() as sandbox:
        yield sandbox


@pytest.fixture
def route(box: Sandbox) -> Iterator[Conversions]:
    opened = open_route(box)
    yield opened
    opened.close()


def sent(route: Conversions, *payloads: bytes, token: str = TOKEN) -> Answer:
    return route.send(route.encode(payloads, token), len(payloads), Group("yclid"))


def book(box: Sandbox) -> Any:
    return box.books()["yandex"]["counters"][COUNTER]["offline"]


def polled(box: Sandbox, route: Conversions, answer: Answer, rows: int = 1) -> Answer:
    assert answer.ref
    box.clock.advance(3600)
    return route.poll(answer.ref, rows, timedelta(hours=1))


def test_a_conversion_is_taken_and_confirmed_when_metrica_has_processed_it(box: Sandbox, route: Conversions) -> None:
    answer = sent(route, row(price="10.00", currency="RUB"))
    assert (answer.default.verdict, answer.poll_in, answer.findings) == (Verdict.ACCEPTED, 900.0, ())
    assert answer.ref
    waiting = route.poll(answer.ref, 1, timedelta(minutes=1))
    assert (waiting.default.verdict, waiting.poll_in) == (Verdict.ACCEPTED, 900.0)
    done = polled(box, route, answer)
    assert (done.default.verdict, done.poll_in, done.findings) == (Verdict.CONFIRMED, None, ())


def test_a_refund_overwrites_the_price_and_nothing_is_counted_again(box: Sandbox, route: Conversions) -> None:
    sold = made(action(currency="RUB"), value=1000)
    gone = made(action(currency="RUB", status="refunded"), value=1000)
    polled(box, route, sent(route, sold.payload))
    polled(box, route, sent(route, route.merge(sold.payload, gone.payload), token=TOKEN[::-1]))
    (one,) = book(box)["conversions"]
    assert (one["count"], Decimal(one["price"])) == (1, Decimal(0))


def sought(token: str, rows: int, since: datetime, others: Sequence[str | None] = ()) -> Sought:
    return Sought(token, "yclid", rows, since, frozenset(filter(None, others)))


def test_a_lost_answer_is_found_again_by_its_token(box: Sandbox, route: Conversions) -> None:
    sent(route, row(9), token=TOKEN[::-1])
    box.faults.add(on="yandex.conversions", kind="reset_after")
    with pytest.raises(Unclear):
        sent(route, row())
    found = route.find(sought(TOKEN, 1, NOW))
    assert found and (found.default.verdict, found.poll_in) == (Verdict.ACCEPTED, 900.0)
    assert polled(box, route, found).default.verdict is Verdict.CONFIRMED
    assert len(book(box)["uploads"]) == 2


def test_what_never_arrived_is_not_found_and_the_identical_bytes_are_taken(box: Sandbox, route: Conversions) -> None:
    sent(route, row(9), token=TOKEN[::-1])
    box.faults.add(on="yandex.conversions", kind="reset_before")
    with pytest.raises(Unclear):
        sent(route, row())
    assert route.find(sought(TOKEN, 1, NOW)) is None
    assert sent(route, row()).default.verdict is Verdict.ACCEPTED
    assert [one["comment"] for one in book(box)["uploads"]] == [TOKEN[::-1], TOKEN]


def test_what_arrives_late_is_found_then_and_a_repeat_meanwhile_does_no_harm(box: Sandbox, route: Conversions) -> None:
    box.faults.add(on="yandex.conversions", kind="reset_late", seconds=40)
    with pytest.raises(Unclear):
        sent(route, row(price="1.00", currency="RUB"))
    assert route.find(sought(TOKEN, 1, NOW)) is None
    box.clock.advance(60)
    again = sent(route, row(price="1.00", currency="RUB"))
    found = route.find(sought(TOKEN, 1, NOW))
    assert found and found.ref and found.default.verdict is Verdict.ACCEPTED
    polled(box, route, again)
    assert [one["count"] for one in book(box)["conversions"]] == [1]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("comment", ["verbatim", "altered", "empty"])
def test_an_upload_is_found_though_the_list_is_turned_round_or_forgets_what_was_written(
    comment: str, newest_first: bool
) -> None:
    with box_of(comment_returned=comment, newest_first=newest_first) as box:
        route = open_route(box)
        others = [sent(route, row(9), token=f"{number:024x}") for number in range(3)]
        answer = sent(route, row(), row(1))
        route.close()
        fresh = open_route(box)
        found = fresh.find(sought(TOKEN, 2, NOW))
        fresh.close()
    assert found and found.ref == answer.ref and found.ref not in {one.ref for one in others}


def test_uploads_that_look_alike_are_not_told_apart_by_guessing() -> None:
    with box_of(comment_returned="empty") as box:
        route = open_route(box)
        for number in range(2):
            sent(route, row(number), token=f"{number:024x}")
        route.close()
        fresh = open_route(box)
        assert fresh.find(sought(TOKEN, 1, NOW)) is None
        fresh.close()


def test_an_upload_of_another_request_of_ours_is_not_taken_for_the_one_in_doubt() -> None:
    with box_of(comment_returned="empty") as box:
        route = open_route(box)
        known = sent(route, row(), token=TOKEN[::-1]).ref
        assert route.find(sought(TOKEN, 1, NOW, others=[known])) is None
        assert route.find(sought(TOKEN, 1, NOW))
        route.close()


def test_where_the_list_keeps_tokens_another_programs_upload_is_never_ours(box: Sandbox, route: Conversions) -> None:
    sent(route, row(), token=TOKEN[::-1])
    fresh = open_route(box)
    assert fresh.find(sought(TOKEN, 1, NOW)) is None
    fresh.close()


def test_an_old_upload_is_not_the_one_in_doubt() -> None:
    with box_of(comment_returned="empty") as box:
        route = open_route(box)
        sent(route, row())
        route.close()
        fresh = open_route(box)
        box.clock.advance(1200)
        assert fresh.find(sought(TOKEN, 1, NOW + timedelta(minutes=20))) is None
        fresh.close()


def test_a_file_whose_rows_were_dropped_in_part_is_held_and_wholly_is_refused() -> None:
    with box_of(bad_conversion="drop") as box:
        route = open_route(box)
        bad = row(at=int(NOW.timestamp()) + 3600)
        part = sent(route, row(), bad)
        alone = sent(route, bad, token=TOKEN[::-1])
        route.close()
    assert (part.default.verdict, part.poll_in, part.findings[0].code) == (Verdict.STRANDED, None, "rows_dropped")
    assert (alone.default.verdict, alone.poll_in) == (Verdict.REFUSED, None)


def test_a_bad_row_refuses_its_file_which_is_halved_until_it_stands_alone(box: Sandbox, route: Conversions) -> None:
    bad = row(at=int(NOW.timestamp()) + 3600)
    assert sent(route, row(), bad).split
    assert sent(route, bad).default.verdict is Verdict.REFUSED


def test_nobody_found_is_unmatched_and_some_found_is_confirmed_with_a_note() -> None:
    with box_of(known_clicks={CLICK: ["2026-11-20T11:00:00Z"]}) as box:
        route = open_route(box)
        lost = row(id="999999")
        none = polled(box, route, sent(route, lost))
        some = polled(box, route, sent(route, row(), lost, token=TOKEN[::-1]), rows=2)
        route.close()
    assert none.default.verdict is Verdict.UNMATCHED
    assert some.default.verdict is Verdict.CONFIRMED and "1 of 2" in some.default.reason
    assert "user_not_found" in [one.code for one in some.findings]


def test_a_goal_that_the_counter_lacks_is_named_as_the_cause(box: Sandbox, route: Conversions) -> None:
    done = polled(box, route, sent(route, row(target="nowhere")))
    assert "goal_not_found" in [one.code for one in done.findings]


def test_metrica_that_wants_the_kind_of_id_gets_it_when_it_is_switched_on() -> None:
    with box_of(client_id_type_required=True) as box:
        plain, typed = open_route(box), open_route(box, send_client_id_type=True)
        halted = sent(plain, row()).halt
        assert halted and "send_client_id_type = true" in halted.advice
        assert sent(typed, row()).default.verdict is Verdict.ACCEPTED
        assert book(box)["uploads"][0]["client_id_type"] == "YCLID"
        purchase = sent(typed, row(kind="purchase_id", id="A-1"), token=TOKEN[::-1]).halt
        assert purchase and "Remove `send_client_id_type`" in purchase.advice
        plain.close()
        typed.close()


@pytest.mark.parametrize("fields", ["2025", "short", "id"])
def test_an_older_edition_with_fewer_counters_is_read_as_well(fields: str) -> None:
    with box_of(uploading_fields=fields) as box:
        route = open_route(box)
        done = polled(box, route, sent(route, row()))
        route.close()
    assert done.default.verdict is (Verdict.ACCEPTED if fields == "id" else Verdict.CONFIRMED)


def test_a_status_that_nobody_documented_is_waited_for_and_then_told() -> None:
    with box_of(finished_word="THOUGHT_OVER") as box:
        route = open_route(box, poll_until=timedelta(hours=2))
        answer = sent(route, row())
        assert polled(box, route, answer).poll_in == 900.0
        assert answer.ref
        end = route.poll(answer.ref, 1, timedelta(hours=2))
        route.close()
    assert (end.default.verdict, end.poll_in) == (Verdict.ACCEPTED, None)
    assert end.findings[0].code == "no_verdict" and "THOUGHT_OVER" in end.findings[0].message


def test_an_upload_that_is_gone_is_in_doubt_again(route: Conversions) -> None:
    assert route.poll("424242", 1, timedelta(hours=1)).default.verdict is Verdict.UNKNOWN


def test_every_page_of_a_long_list_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convsync.destinations.yandex.uploadings.PAGE", 2)
    with box_of(newest_first=False) as box:
        route = open_route(box)
        refs = [sent(route, row(number), token=f"{number:024x}").ref for number in range(5)]
        found = [route.find(sought(f"{number:024x}", 1, NOW)) for number in range(5)]
        route.close()
    assert [one.ref for one in found if one] == refs


def test_a_search_ends_at_uploads_that_are_too_old(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convsync.destinations.yandex.uploadings.PAGE", 1)
    route = open_route(box)
    for number in range(4):
        sent(route, row(number), token=f"{number:024x}")
        box.clock.advance(3600)
    assert route.find(sought(TOKEN, 1, box.clock.now())) is None
    assert sum(one["operation"] == "yandex.uploadings" for one in box.requests()) == 2
    route.close()


def test_probing_tells_the_last_upload_or_why_it_cannot(box: Sandbox, route: Conversions) -> None:
    asked = open_route(box, targets=[GOAL])
    before = asked.probe()[-1]
    sent(route, row())
    after = asked.probe()[-1]
    assert (before.code, before.level, after.code, after.level) == ("uploads", "info", "uploads", "info")
    assert "no conversion was uploaded" in before.message and "PREPARED" in after.message
    box.faults.add(on="yandex.uploadings", kind="status", status=503)
    assert asked.probe()[-1].code == "no_answer"
    assert route.probe() == []
    stranger = open_route(box, token="wrong", targets=[GOAL])
    assert [one.level for one in stranger.probe()] == ["error"]
    asked.close()
    stranger.close()


def test_a_list_that_may_not_be_read_stops_and_one_that_cannot_be_read_waits(box: Sandbox, route: Conversions) -> None:
    stranger = open_route(box, token="wrong")
    with pytest.raises(Halted):
        stranger.find(sought(TOKEN, 1, NOW))
    stranger.close()
    box.faults.add(on="yandex.uploadings", kind="status", status=500)
    with pytest.raises(NotSent):
        route.find(sought(TOKEN, 1, NOW))
