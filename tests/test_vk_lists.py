"""The route vk.offline_list: whose contact goes where, the file, and what becomes of it at the emulator."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.config.action import VkTarget
from convsync.destinations import Route
from convsync.destinations.vk import Lists, files, list_replies
from convsync.destinations.vk.api import Api
from convsync.errors import Halted, NotSent
from convsync.ledger import Patience
from convsync.model import Action, Answer, Conversion, OnUnknown, Skip, SkipReason, State, Verdict
from convsync.net import Reply, Wire
from convsync.normalise import person
from convsync.sandbox.vk_lists import key
from worlds import World

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TOKEN = "0123456789abcdef01234567"
BOTH = VkTarget(goal="crm_sale", list="Sales")
LIST = VkTarget(list="Sales")


class Nobody:
    def bearer(self) -> str:
        return "x"

    def renewed(self, dead: str) -> str:
        raise AssertionError("nothing is asked here")


def route(**settings: Any) -> Lists:
    wire = Wire(requests_per_second=10_000, sleep=lambda _: None, attempts=1)
    api = Api("destinations.vk", tokens=Nobody(), wire=wire, url="http://127.0.0.1:9")
    return Lists("vk", account="1234567", api=api, **settings)


def action(**told: Any) -> Action:
    first = {"source": "shop", "external_id": "e1", "action": "sale", "occurred_at": NOON}
    return Action(**{**first, "phone": "8 916 123-45-67", "consent_ad_user_data": True, **told})


def converted(told: Action, target: VkTarget = LIST, **settings: Any) -> Conversion | Skip:
    return route(**settings).convert(told, person(told, "RU"), target, None)


def made(told: Action, target: VkTarget = LIST, **settings: Any) -> Conversion:
    found = converted(told, target, **settings)
    assert isinstance(found, Conversion), found
    return found


def skipped(told: Action, target: VkTarget = LIST) -> Skip:
    found = converted(told, target)
    assert isinstance(found, Skip), found
    return found


def test_lists_keep_the_contract_of_a_route() -> None:
    one: Route = route()
    assert (one.on_unknown, one.adjusts, one.reason_per_row, one.door) == (OnUnknown.ASK, False, False, "lists")
    assert (one.least, one.distinct, one.goals_together, one.max_age) == (10, True, 1, timedelta(days=90))


# -- from an action to a row -------------------------------------------------------------------------


@pytest.mark.parametrize("consent", [None, False])
def test_without_consent_no_contact_is_passed_on(consent: bool | None) -> None:
    skip = skipped(action(consent_ad_user_data=consent))
    assert skip.reason is SkipReason.NO_CONSENT
    assert "consent_ad_user_data" in skip.detail


def test_an_action_without_a_contact_that_can_be_read_has_no_identifier() -> None:
    assert skipped(action(phone="12", email=None)).reason is SkipReason.NO_IDENTIFIER
    by_mail = VkTarget(list="Sales", by=("email",))
    assert skipped(action(email=None), by_mail).detail == "a list needs email, one that can be read"


@pytest.mark.parametrize("status", ["cancelled", "refunded", "spam"])
def test_nothing_can_be_taken_out_of_a_list(status: str) -> None:
    assert skipped(action(status=status)).reason is SkipReason.CANNOT_ADJUST


@pytest.mark.parametrize(
    ("told", "by", "row"),
    [
        ({"phone": "+7 916 123-45-67"}, ("phone", "email"), {"phone": "79161234567"}),
        ({"phone": "8(916)1234567", "email": "A@Example.ru"}, ("email", "phone"), {"email": "a@example.ru"}),
        ({"phone": None, "email": " A@Example.RU "}, ("phone", "email"), {"email": "a@example.ru"}),
        ({"phone": "+375 29 123-45-67"}, ("phone",), {"phone": "375291234567"}),
    ],
)
def test_the_first_contact_that_can_be_read_goes_as_vk_writes_it(
    told: dict[str, Any], by: tuple[Any, ...], row: dict[str, str]
) -> None:
    conversion = made(action(**told), VkTarget(list="Sales", by=by))
    assert orjson.loads(conversion.payload) == {"list": "Sales", **row, "day": "21.11.2026"}
    assert (conversion.part, conversion.goal, conversion.clear) == (next(iter(row)), "Sales", True)


def test_the_day_is_moscows() -> None:
    late = made(action(occurred_at=datetime(2026, 11, 21, 21, 30, tzinfo=UTC)))
    assert orjson.loads(late.payload)["day"] == "22.11.2026"


def test_a_hash_is_the_md5_of_what_vk_would_get_and_no_contact_in_clear() -> None:
    conversion = made(action(), contact_hash="md5")
    assert orjson.loads(conversion.payload)["phone"] == hashlib.md5(b"79161234567").hexdigest()  # noqa: S324
    assert not conversion.clear


def test_nothing_is_told_of_money_so_nothing_of_it_can_change() -> None:
    conversion = made(action(currency="RUB"))
    assert (conversion.value, conversion.currency) == (None, None)


def test_what_was_erased_is_known_again_and_cannot_be_sent() -> None:
    lists, payload = route(), made(action()).payload
    erased = lists.redact(payload)
    assert b"79161234567" not in erased
    assert lists.redact(erased) == erased == lists.redact(payload)
    with pytest.raises(ValueError, match="erased"):
        lists.encode([erased], TOKEN)


# -- the file ----------------------------------------------------------------------------------------


def rows(count: int) -> list[bytes]:
    return [made(action(external_id=f"e{one}", phone=f"+7916{one:07d}")).payload for one in range(count)]


def test_the_file_is_a_multipart_body_whose_name_ends_with_the_token() -> None:
    body = route().encode(rows(2), TOKEN)
    assert files.fields_of(body) == {"name": f"Sales phone {TOKEN}", "type": "phone", "attribution_period": "90"}
    assert files.lines_of(body) == ["ID,date", "79160000000,21.11.2026", "79160000001,21.11.2026"]
    assert files.boundary_of(body) == TOKEN


def test_the_form_of_the_file_is_a_setting() -> None:
    body = route(header="none", fields_mode="data_json", attribution_period=timedelta(days=30)).encode(rows(1), TOKEN)
    assert files.fields_of(body)["attribution_period"] == "30"
    assert b'name="data"' in body and b'name="type"' not in body
    assert files.lines_of(body) == ["79160000000,21.11.2026"]


@pytest.mark.parametrize("mode", ["fields", "data_json"])
def test_a_list_that_is_there_is_told_only_its_new_name_and_the_rows(mode: Any) -> None:
    body = route(fields_mode=mode).encode(rows(3), TOKEN)
    added = files.renaming(body)
    assert files.fields_of(added) == {"name": f"Sales phone {TOKEN}"}
    assert files.lines_of(added) == files.lines_of(body)
    assert added.endswith(f"--{TOKEN}--\r\n".encode())


def test_rows_of_two_kinds_never_share_a_file() -> None:
    mail = made(action(phone=None, email="a@example.ru")).payload
    with pytest.raises(ValueError, match="one kind"):
        route().encode([*rows(1), mail], TOKEN)


@given(st.lists(st.sampled_from(["79161234567", "a@example.ru", "x,y"]), max_size=5), st.booleans())
def test_what_goes_into_a_file_comes_out_of_it(ids: list[str], data: bool) -> None:
    fields: dict[str, str | int] = {"name": f"Список (1) phone {TOKEN}", "type": "phone", "attribution_period": 90}
    body = files.body(fields, "ID,date", ([one, "21.11.2026"] for one in ids), TOKEN, data=data)
    assert files.fields_of(body) == {name: str(value) for name, value in fields.items()}
    assert files.lines_of(body) == ["ID,date", *(f"{one},21.11.2026" for one in ids)]


# -- what an answer means ----------------------------------------------------------------------------


def judged(status: int, told: Any, count: int = 12) -> Answer:
    lists = route()
    body = lists.encode(rows(count), TOKEN)
    raw = told if isinstance(told, bytes) else orjson.dumps(told)
    return list_replies.judge(lists._api, Reply(status, {}, raw), count, files.lines_of(body)[1:], "ID,date")


def of_lines(*lines: tuple[str, str], field: str = "list_users") -> dict[str, Any]:
    told = [{"line_number": 77, "line": line, "code": code} for line, code in lines]
    return {"error": {"code": "validation_failed", "message": "no", "fields": {field: told}}}


def test_lines_are_known_by_what_stands_in_them_and_the_rest_goes_again() -> None:
    answer = judged(400, of_lines(("79160000003,21.11.2026", "invalid_phone")))
    assert {at: one.verdict for at, one in answer.rows.items()} == {3: Verdict.REFUSED}
    assert (answer.rows[3].reason, answer.default.verdict) == ("HTTP 400 invalid_phone", Verdict.RETURNED)


def test_a_contact_that_stands_twice_goes_in_another_list() -> None:
    answer = judged(400, of_lines(("79160000003,21.11.2026", "duplicated_user_id")))
    assert (answer.rows[3].verdict, answer.default.verdict) == (Verdict.LATER, Verdict.RETURNED)


def test_of_two_days_of_a_contact_that_vk_names_both_one_stays() -> None:
    days = [made(action(external_id=day, phone="+79169999999", occurred_at=NOON - timedelta(int(day)))) for day in "12"]
    lists = route()
    body = lists.encode([*rows(10), *(one.payload for one in days)], TOKEN)
    told = of_lines(*[(line, "duplicated_user_id") for line in files.lines_of(body)[-2:]])
    reply = Reply(400, {}, orjson.dumps(told))
    answer = list_replies.judge(lists._api, reply, 12, files.lines_of(body)[1:], "ID,date")
    assert {at: one.verdict for at, one in answer.rows.items()} == {11: Verdict.LATER}


def test_a_line_with_a_code_that_nobody_knows_is_left_till_nothing_else_is_wrong() -> None:
    answer = judged(
        400, of_lines(("79160000003,21.11.2026", "invalid_phone"), ("79160000004,21.11.2026", "no 79160000004"))
    )
    assert list(answer.rows) == [3]
    assert "79160000004" not in repr(answer)


def test_too_few_without_the_lines_that_are_wrong_refuses_these() -> None:
    answer = judged(400, of_lines(("79160000003,21.11.2026", "invalid_phone"), ("", "not_enough_ids")))
    assert {at: one.verdict for at, one in answer.rows.items()} == {3: Verdict.REFUSED}


def test_a_list_of_nothing_but_bad_rows_is_no_fault_of_the_rows() -> None:
    answer = judged(400, of_lines(*[(f"7916{number:07d},21.11.2026", "invalid_phone") for number in range(12)]))
    assert (answer.rows, answer.default.verdict, answer.halt and answer.halt.code) == (
        {},
        Verdict.RETURNED,
        "rows_refused",
    )


def test_lines_that_vk_does_not_show_are_never_guessed_from_a_number() -> None:
    answer = judged(400, of_lines(("", "invalid_phone")))
    assert (answer.rows, answer.default.verdict) == ({}, Verdict.LATER)
    assert [one.code for one in answer.findings] == ["lines_unknown"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (of_lines(("ID,date", "invalid_csv_header")), "list_form"),
        (of_lines(("ID,date", "invalid_phone")), "list_form"),
        (of_lines(("79160000003,21.11.2026", "csv_line_column_index_error")), "list_form"),
        ({"error": {"code": "file_reading_error", "message": ""}}, "list_form"),
        (of_lines(("79160000003,21.11.2026", "invalid_md5")), "list_hash"),
        ({"error": {"code": "validation_failed", "fields": {"name": {"code": "too_long"}}}}, "list_name"),
        ({"error": {"code": "validation_failed", "fields": {"type": ["invalid"]}}}, "list_type"),
        ({"error": {"code": "validation_failed", "fields": {"attribution_period": "invalid"}}}, "list_period"),
        ({"error": {"code": "something_new"}}, "list_refused"),
        (b"<html>", "list_refused"),
    ],
)
def test_what_is_wrong_with_the_form_stops_the_route_and_says_which_setting(told: Any, code: str) -> None:
    answer = judged(400, told)
    assert answer.halt is not None
    assert (answer.halt.code, answer.default.verdict) == (code, Verdict.RETURNED)


def test_no_access_names_the_right_and_whom_to_ask() -> None:
    told = {
        "error": {"code": "access_denied", "message": "no", "required_permission": "OfflineGoalses_create_permission"}
    }
    halt = judged(403, told).halt
    assert halt is not None
    assert halt.code == "no_access"
    assert "OfflineGoalses_create_permission" in halt.message
    assert "ads_api@vk.team" in halt.advice


def test_too_few_wait_too_many_are_halved() -> None:
    assert judged(400, {"error": {"code": "not_enough_ids"}}).default.wait == 3600
    assert judged(400, {"error": {"code": "too_many_ids"}}).split
    assert judged(413, b"").split
    halt = judged(413, b"", 1).halt
    assert halt is not None


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_failing_server_may_have_taken_it(status: int) -> None:
    assert judged(status, {}).default.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("status", [401, 302])
def test_tokens_and_addresses_stop_as_they_do_everywhere(status: int) -> None:
    with pytest.raises((Halted, NotSent)):
        judged(status, {})


def test_no_word_of_an_answer_repeats_a_contact() -> None:
    for told in (
        of_lines(("79160000003,21.11.2026", "invalid_phone")),
        of_lines(("79160000003,21.11.2026", "new_code")),
    ):
        assert "7916" not in repr(judged(400, told))


# -- at the emulator ---------------------------------------------------------------------------------


@pytest.fixture
def lists(world: World) -> Iterator[World]:
    """A world whose actions go to the pixel, else to a list."""
    world.platforms, world.patience = ("vk",), Patience(first_wait=0)
    world.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list=f"{name}s")
    yield world
    world.is_sound()


def person_of(world: World, number: int, **told: Any) -> Action:
    """An action that only a phone tells of."""
    known: dict[str, Any] = {"rb_clickid": None, "phone": f"+7916{number:07d}", "consent_ad_user_data": True}
    return world.action(f"p{number}", **(known | told))


def people(world: World, count: int, first: int = 0) -> list[Action]:
    return [person_of(world, number) for number in range(first, first + count)]


def counted(world: World) -> dict[str, int]:
    """How often each contact and day stands in all lists together."""
    found: dict[str, int] = {}
    for one in world.lists():
        for contact, count in one["by_contact"].items():
            found[contact] = found.get(contact, 0) + count
    return found


def in_file(world: World, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in Path(world.path.parent).glob(f"{world.path.name}*"))


def test_contacts_go_to_a_list_and_clicks_to_the_pixel(lists: World) -> None:
    lists.given(lists.action("click"), *people(lists, 10))
    summary = lists.sync()
    assert summary.exit_code == 0
    (one,) = lists.lists()
    assert (one["type"], one["rows"], one["attribution_period"]) == ("phone", 10, 90)
    assert one["name"].startswith("sales phone ")
    assert set(counted(lists).values()) == {1}
    assert key("79160000003", "22.11.2026") in counted(lists)
    assert lists.hits() == {"rb-click": 1}
    assert set(lists.states("vk").values()) == {"accepted"}
    lists.settle_everything()
    assert lists.states("vk") == {"click": "accepted"} | {f"p{number}": "confirmed" for number in range(10)}


def test_fewer_than_ten_wait_until_there_are_ten(lists: World) -> None:
    lists.given(*people(lists, 9))
    summary = lists.sync()
    assert [one.code for one in summary.findings] == ["gathering"]
    assert (lists.lists(), summary.exit_code) == ([], 0)
    lists.given(*people(lists, 9), person_of(lists, 9))
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]


def test_each_list_holds_one_kind_of_contact_and_one_kind_of_action(lists: World) -> None:
    mails = [person_of(lists, number, phone=None, email=f"u{number}@example.ru") for number in range(10)]
    mails = [one._replace(external_id=f"m{at}") for at, one in enumerate(mails)]
    leads = [one._replace(external_id=f"l{at}", action="lead", value=None) for at, one in enumerate(people(lists, 10))]
    lists.given(*people(lists, 10), *mails, *leads)
    lists.sync()
    assert sorted(one["name"].rsplit(" ", 1)[0] for one in lists.lists()) == [
        "leads phone",
        "sales email",
        "sales phone",
    ]
    assert [one["rows"] for one in lists.lists()] == [10, 10, 10]


def test_a_person_of_two_sales_a_day_stands_once_in_a_list(lists: World) -> None:
    twice = person_of(lists, 3)._replace(external_id="again")
    lists.given(*people(lists, 10), twice)
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]
    assert lists.states("vk")["again"] == "pending"


def test_clear_contacts_are_in_no_file_of_the_ledger_once_vk_has_them(lists: World) -> None:
    lists.given(*people(lists, 9))
    lists.sync()
    assert in_file(lists, b"79160000003")  # it waits for a tenth
    lists.given(*people(lists, 10))
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]
    for number in range(10):
        assert not in_file(lists, b"7916%07d" % number)
        assert not in_file(lists, b"9160000003")


def test_hashes_need_no_erasing(lists: World) -> None:
    lists.vk_options = {"contact_hash": "md5"}
    lists.given(*people(lists, 10))
    lists.sync()
    assert not in_file(lists, b"79160000003")
    assert [one["rows"] for one in lists.lists()] == [10]


def test_clear_contacts_and_hashes_never_share_a_list(lists: World) -> None:
    lists.given(*people(lists, 9))
    lists.sync()
    lists.vk_options = {"contact_hash": "md5"}
    lists.source.actions = people(lists, 10, 20)  # what waits is not read again
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]
    assert sorted(lists.states("vk").values()) == ["accepted"] * 10 + ["pending"] * 9


def test_an_account_without_the_right_sends_by_the_other_way_in_and_says_whom_to_ask(lists: World) -> None:
    lists.box.config.vk.lists.denied = ["create"]
    lists.given(lists.action("click"), *people(lists, 10))
    summary = lists.sync()
    assert summary.exit_code == 2
    assert [one.code for one in summary.findings] == ["no_access"]
    assert lists.hits() == {"rb-click": 1}
    assert set(lists.states("vk").values()) == {"accepted", "pending"}
    lists.box.config.vk.lists.denied = []
    assert lists.sync().exit_code == 0
    assert [one["rows"] for one in lists.lists()] == [10]


@pytest.mark.parametrize("kind", ["reset_after", "cut_body", "timeout_after"])
def test_a_lost_answer_is_found_by_the_name_and_nothing_is_sent_twice(lists: World, kind: str) -> None:
    lists.timeout = 0.5
    lists.box.faults.add(on="vk.new_list", kind=kind, times=1)
    lists.given(*people(lists, 10))
    lists.sync()
    lists.settle_everything()
    assert set(counted(lists).values()) == {1}
    assert set(lists.states("vk").values()) == {"confirmed"}


@pytest.mark.parametrize("kind", ["reset_before", "timeout_before"])
def test_what_never_arrived_is_sent_again_after_the_quarantine(lists: World, kind: str) -> None:
    lists.timeout = 0.5
    lists.box.faults.add(on="vk.new_list", kind=kind, times=1)
    lists.given(*people(lists, 10))
    assert lists.sync().exit_code == 3
    assert (lists.lists(), set(lists.states("vk").values())) == ([], {"unknown"})
    lists.clock.advance(600)
    lists.sync()
    assert lists.lists() == []
    lists.clock.advance(600)
    lists.sync()
    assert set(counted(lists).values()) == {1}
    (one,) = lists.lists()
    assert one["name"].endswith(next(iter(lists.ledger.store.conn.execute("SELECT token FROM batch")))[0])


def test_who_withdraws_consent_while_a_list_is_in_doubt_is_not_sent_again(lists: World) -> None:
    lists.box.faults.add(on="vk.new_list", kind="reset_before", times=1)
    lists.given(*people(lists, 10))
    lists.sync()
    lists.given(*people(lists, 9), person_of(lists, 9, consent_ad_user_data=False))
    lists.clock.advance(1200)
    lists.sync()
    lists.clock.advance(1200)
    summary = lists.sync()
    assert (lists.lists(), summary.exit_code) == ([], 1)
    assert {row["external_id"]: row["reason"] for row in lists.rows("vk")}["p9"] == "consent_denied"
    assert set(lists.states("vk").values()) == {"held"}
    assert not in_file(lists, b"79160000009")
    assert in_file(lists, b"79160000001"), "a person may still have the others sent again"


def test_a_list_that_is_shown_late_is_not_sent_again(lists: World) -> None:
    lists.box.config.vk.lists.list_delay_s = 300
    lists.box.faults.add(on="vk.new_list", kind="reset_after", times=1)
    lists.given(*people(lists, 10))
    lists.sync()
    for _ in range(4):
        lists.clock.advance(400)
        lists.sync()
    assert set(counted(lists).values()) == {1}
    assert "unknown" not in lists.states("vk").values()


def test_a_list_that_vk_took_and_does_not_show_yet_is_accepted_and_looked_for(lists: World) -> None:
    lists.box.config.vk.lists.list_delay_s = 300
    lists.given(*people(lists, 10))
    lists.sync()
    assert set(lists.states("vk").values()) == {"accepted"}
    assert lists.rows("vk")[0]["platform_ref"].startswith("name/")
    lists.clock.advance(3600)
    lists.sync()
    assert lists.rows("vk")[0]["platform_ref"] == str(lists.lists()[0]["id"])
    assert set(lists.states("vk").values()) == {"confirmed"}


def test_lines_that_vk_refuses_are_refused_and_the_others_go(lists: World) -> None:
    lists.given(*people(lists, 11))
    told = of_lines(("79160000003,22.11.2026", "invalid_phone"))
    lists.box.faults.add(on="vk.new_list", kind="status", status=400, body=told, times=1)
    summary = lists.sync()
    assert summary.exit_code == 1
    assert lists.states("vk") == {f"p{number}": "refused" if number == 3 else "accepted" for number in range(11)}
    assert [one["rows"] for one in lists.lists()] == [10]
    assert not in_file(lists, b"79160000003")


def test_a_run_ends_where_vk_refuses_list_after_list(lists: World) -> None:
    lists.given(*people(lists, 60))
    for number in range(60):
        told = of_lines((f"7916{number:07d},22.11.2026", "invalid_phone"))
        lists.box.faults.add(on="vk.new_list", kind="status", status=400, body=told, times=1)
    summary = lists.sync()
    assert "rows_refused" in {one.code for one in summary.findings}
    assert summary.destinations["vk"]["refused"] == 20


def test_what_is_left_of_a_refused_list_waits_for_enough(lists: World) -> None:
    lists.given(*people(lists, 10))
    told = of_lines(("79160000003,22.11.2026", "invalid_phone"))
    lists.box.faults.add(on="vk.new_list", kind="status", status=400, body=told, times=1)
    lists.sync()
    assert sorted(lists.states("vk").values()) == ["pending"] * 9 + ["refused"]
    lists.given(*people(lists, 10), person_of(lists, 77))
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]


def test_a_setting_that_vk_does_not_take_stops_before_anything_is_counted(lists: World) -> None:
    lists.box.config.vk.lists.header = "forbidden"
    lists.given(*people(lists, 10))
    summary = lists.sync()
    assert ([one.code for one in summary.findings], summary.exit_code) == (["list_form"], 2)
    lists.vk_options = {"header": "none"}
    assert lists.sync().exit_code == 0
    assert set(counted(lists).values()) == {1}


def test_an_address_that_is_no_person_any_more_is_told_by_one_way_only(lists: World) -> None:
    both = person_of(lists, 0)
    lists.given(both, *people(lists, 9, 1))
    lists.sync()
    lists.given(both._replace(rb_clickid="rb-late"), *people(lists, 9, 1))
    lists.sync()
    assert lists.hits() == {}
    lists.given(lists.action("x"))
    lists.sync()
    old = lists.action("x")._replace(rb_clickid=None, phone="+79161112233", consent_ad_user_data=True)
    lists.given(old, *people(lists, 9, 20))
    lists.sync()
    assert [one["rows"] for one in lists.lists()] == [10]


# -- appending ---------------------------------------------------------------------------------------


@pytest.fixture
def appending(lists: World) -> World:
    lists.vk_options = {"mode": "append"}
    return lists


def test_what_comes_later_is_added_to_the_list_that_is_there(appending: World) -> None:
    appending.given(*people(appending, 10))
    appending.sync()
    appending.given(*people(appending, 20))
    appending.sync()
    (one,) = appending.lists()
    assert one["rows"] == 20
    appending.settle_everything()
    assert set(appending.states("vk").values()) == {"confirmed"}


def test_a_list_that_was_deleted_is_made_anew(appending: World) -> None:
    appending.given(*people(appending, 10))
    appending.sync()
    appending.box.faults.add(on="vk.list_add", kind="status", status=404, times=1)
    appending.given(*people(appending, 20))
    appending.sync()
    assert [one["rows"] for one in appending.lists()] == [10, 10]


@pytest.mark.parametrize(("kind", "rows"), [("reset_after", 20), ("reset_before", 20)])
def test_an_addition_whose_answer_was_lost_is_found_by_the_new_name(appending: World, kind: str, rows: int) -> None:
    appending.given(*people(appending, 10))
    appending.sync()
    appending.box.faults.add(on="vk.list_add", kind=kind, times=1)
    appending.given(*people(appending, 20))
    appending.sync()
    appending.clock.advance(1000)
    appending.sync()
    (one,) = appending.lists()
    assert (one["rows"], set(one["by_contact"].values())) == (rows, {1})
    appending.settle_everything()
    assert set(appending.states("vk").values()) <= {State.ACCEPTED, State.CONFIRMED}


def test_lists_of_other_titles_are_left_alone(appending: World) -> None:
    appending.given(*people(appending, 10))
    appending.sync()
    appending.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list="Sales (2)")
    appending.given(*people(appending, 10, 30))
    appending.sync()
    assert sorted(one["rows"] for one in appending.lists()) == [10, 10]


def test_a_field_of_an_answer_is_never_mistaken_for_an_answer() -> None:
    answer = judged(400, {"error": {"code": "validation_failed", "fields": {"list_users": {"code": "not_enough_ids"}}}})
    assert dataclasses.replace(answer, findings=()).default.verdict is Verdict.RETURNED
