"""Both ways into Metrica in whole runs: what is counted there in the end, and what the ledger says of it."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from convsync.config.action import YandexTarget
from convsync.ledger.life import tell
from convsync.model import Action, State
from worlds import World

YCLID = "1234567890123456789"


GOALS = {"lead": "crm_lead", "sale": "qualified", "odd": "no_such_goal"}
"""JavaScript goals of the emulator's counter, but for the last."""


def by_goal(action: str) -> YandexTarget:
    return YandexTarget(goal=GOALS[action])


def by_order_else_goal(action: str) -> YandexTarget:
    return YandexTarget(status={"lead": "IN_PROGRESS", "sale": "PAID"}[action], goal=GOALS[action])


@pytest.fixture
def metrica(world: World) -> World:
    world.platforms = ("yandex",)
    return world


@pytest.fixture
def goals(metrica: World) -> World:
    metrica.yandex_target = by_goal
    return metrica


def clicked(world: World, name: str, action: str = "sale", **more: Any) -> Action:
    """An action that is known by its yclid alone."""
    return world.action(name, action, **({"ym_client_id": None, "yclid": YCLID, "order_id": None} | more))


def settled(world: World) -> None:
    world.clock.advance(3600)
    world.sync()


# -- the receipt


def test_a_conversion_is_confirmed_when_metrica_says_that_it_processed_the_file(goals: World) -> None:
    goals.given(clicked(goals, "a"))
    goals.sync()
    assert goals.states("yandex") == {"a": "accepted"}
    settled(goals)
    row = goals.rows("yandex")[0]
    assert (row["state"], row["route"], row["goal"]) == ("confirmed", "yandex.conversions", "qualified")
    assert row["platform_ref"] == str(goals.offline()["uploads"][0]["id"])
    assert goals.reached() == {"qualified": (1, {"RUB": "100"})}


def test_one_file_for_each_kind_of_id(goals: World) -> None:
    goals.given(
        clicked(goals, "a"), clicked(goals, "b", yclid=None, ym_client_id="1600000000000000001"), clicked(goals, "c")
    )
    goals.sync()
    settled(goals)
    assert [one["rows"] for one in goals.offline()["uploads"]] == [2, 1]
    assert {one["kind"] for one in goals.offline()["conversions"]} == {"Yclid", "ClientId"}


def test_a_changed_value_and_a_refund_overwrite_the_same_row(goals: World) -> None:
    sale = clicked(goals, "a")
    goals.given(sale)
    goals.sync()
    goals.clock.advance(600)
    goals.given(sale._replace(value=Decimal(70), occurred_at=sale.occurred_at + timedelta(seconds=5)))
    goals.sync()
    assert goals.reached() == {"qualified": (1, {"RUB": "70"})}
    goals.given(sale._replace(status="refunded"))
    goals.sync()
    assert goals.reached() == {"qualified": (1, {"RUB": "0"})}


def test_two_sales_by_one_click_in_one_second_count_twice_and_stay_two_after_a_second_reading(goals: World) -> None:
    goals.given(clicked(goals, "a"), clicked(goals, "b"))
    goals.sync()
    settled(goals)
    assert goals.reached() == {"qualified": (2, {"RUB": "200"})}
    assert len(goals.offline()["uploads"]) == 1


def test_a_file_of_which_nothing_was_linked_is_unmatched(goals: World) -> None:
    goals.box.configure({"yandex": {"known_clicks": {"999999999": "2026-11-20T00:00:00Z"}}})
    goals.given(clicked(goals, "a"), clicked(goals, "b"))
    goals.sync()
    settled(goals)
    assert goals.states("yandex") == {"a": "unmatched", "b": "unmatched"}


def test_a_partly_linked_file_says_so_in_every_row_and_never_which(goals: World) -> None:
    goals.box.configure({"yandex": {"known_clicks": {YCLID: "2026-11-20T00:00:00Z"}}})
    goals.given(clicked(goals, "a"), clicked(goals, "b", yclid="9876543210987654321"))
    goals.sync()
    settled(goals)
    rows = goals.rows("yandex")
    assert {row["state"] for row in rows} == {"confirmed"}
    assert all("1 of 2" in row["reason"] for row in rows)


def test_a_row_that_metrica_refuses_is_found_by_halving_and_the_others_go(goals: World) -> None:
    goals.box.configure({"yandex": {"unknown_target": "refuse", "bad_conversion": "refuse_400"}})
    goals.names = ("lead", "sale", "odd")
    goals.given(*(clicked(goals, f"n{number}", yclid=f"12345678{number:02d}") for number in range(9)))
    goals.source.actions.insert(4, clicked(goals, "bad", "odd", yclid="1234567890", value=None, currency=None))
    summary = goals.sync()
    assert goals.states("yandex").pop("bad") == "refused"
    assert (summary.exit_code, summary.destinations["yandex"]["accepted"]) == (1, 9)
    assert goals.reached()["qualified"][0] == 9


# -- answers that got lost


@pytest.mark.parametrize("kind", ["reset_after", "cut_body", "garbage"])
@pytest.mark.parametrize("door", ["yandex.conversions", "yandex.orders"])
def test_a_lost_answer_of_what_was_applied_counts_once_through_either_door(
    metrica: World, door: str, kind: str
) -> None:
    metrica.yandex_target = by_order_else_goal
    metrica.box.faults.add({"on": door, "kind": kind})
    metrica.given(clicked(metrica, "a"), metrica.action("b"))
    metrica.sync()
    metrica.sync()
    settled(metrica)
    assert metrica.reached() == {"qualified": (1, {"RUB": "100"})}
    assert metrica.orders()["order-b"]["revenue"] == "100"
    assert metrica.states("yandex") == {"a": "confirmed", "b": "accepted"}
    assert metrica.offline()["rows"] == 1, "found in the list, not sent again"


def test_an_upload_that_the_list_shows_after_forty_seconds_is_waited_for(goals: World) -> None:
    goals.box.faults.add({"on": "yandex.conversions", "kind": "reset_after", "apply_after_s": 40})
    goals.given(clicked(goals, "a"))
    assert goals.sync().exit_code == 3
    assert goals.states("yandex") == {"a": "unknown"}
    goals.clock.advance(39)
    goals.sync()
    assert goals.offline()["rows"] == 0
    goals.clock.advance(15 * 60)
    goals.sync()
    settled(goals)
    assert goals.states("yandex") == {"a": "confirmed"}
    assert goals.offline()["rows"] == 1
    assert goals.reached() == {"qualified": (1, {"RUB": "100"})}


def test_an_upload_that_never_arrived_goes_again_after_the_quarantine(goals: World) -> None:
    goals.box.faults.add({"on": "yandex.conversions", "kind": "reset_before"})
    goals.given(clicked(goals, "a"))
    goals.sync()
    goals.clock.advance(16 * 60)
    goals.sync()
    settled(goals)
    assert goals.states("yandex") == {"a": "confirmed"}
    assert goals.reached() == {"qualified": (1, {"RUB": "100"})}


@pytest.mark.parametrize("comment", ["empty", "altered"])
def test_without_its_comment_an_upload_is_known_by_time_and_rows_and_counts_once_either_way(
    goals: World, comment: str
) -> None:
    goals.box.configure({"yandex": {"comment_returned": comment}})
    goals.box.faults.add({"on": "yandex.conversions", "kind": "reset_after"})
    goals.given(clicked(goals, "a"), clicked(goals, "b"))
    goals.sync()
    goals.clock.advance(16 * 60)
    goals.sync()
    settled(goals)
    assert set(goals.states("yandex").values()) == {"confirmed"}
    assert goals.reached() == {"qualified": (2, {"RUB": "200"})}


def test_of_two_lost_uploads_without_comments_one_is_not_taken_for_the_other(goals: World) -> None:
    goals.box.configure({"yandex": {"comment_returned": "empty"}})
    goals.box.faults.add({"on": "yandex.uploadings", "kind": "status", "status": 500, "times": None})
    first, second = clicked(goals, "a"), clicked(goals, "b", yclid="9876543210987654321")
    for rows, kind in (((first,), "reset_after"), ((first, second), "reset_before")):
        goals.box.faults.add({"on": "yandex.conversions", "kind": kind})
        goals.given(*rows)
        goals.sync()
        goals.clock.advance(60)
    goals.box.faults.clear()
    for _ in range(2):
        goals.clock.advance(16 * 60)
        goals.sync()
    assert goals.reached() == {"qualified": (2, {"RUB": "200"})}


# -- one action, one door


def test_only_what_an_order_cannot_carry_goes_to_the_goal(metrica: World) -> None:
    metrica.yandex_target = by_order_else_goal
    metrica.given(clicked(metrica, "click"), metrica.action("client", yclid=YCLID))
    metrica.sync()
    assert {row["external_id"]: row["route"] for row in metrica.rows("yandex")} == {
        "click": "yandex.conversions", "client": "yandex.orders",
    }  # fmt: skip
    assert set(metrica.orders()) == {"order-client"}
    assert metrica.reached() == {"qualified": (1, {"RUB": "100"})}


def test_an_action_stays_with_the_door_it_went_through_when_its_ids_become_known(metrica: World) -> None:
    metrica.yandex_target = by_order_else_goal
    sale = clicked(metrica, "a")
    metrica.given(sale)
    metrica.sync()
    metrica.given(sale._replace(ym_client_id="1600000000000000001", value=Decimal(70)))
    metrica.sync()
    assert metrica.orders() == {}
    assert metrica.reached() == {"qualified": (1, {"RUB": "100"})}
    assert metrica.ledger.audit.stats()["skipped"] == {"other_way": 1}


@pytest.mark.parametrize("goal", ["good_lead", "qualified"])
def test_moving_an_action_to_the_other_door_counts_nothing_again(metrica: World, goal: str) -> None:
    metrica.yandex_target = lambda action: YandexTarget(status="good_lead")
    sale = metrica.action("a", yclid=YCLID)
    metrica.given(sale)
    metrica.sync()
    metrica.yandex_target = lambda action: YandexTarget(goal=goal)
    metrica.given(sale._replace(value=Decimal(70)), metrica.action("b", yclid=YCLID))
    metrica.sync()
    assert metrica.reached() == {goal: (1, {"RUB": "100"})}
    assert set(metrica.orders()) == {"order-a"}


def test_what_waits_at_one_door_goes_by_the_other_when_the_configuration_says_so(metrica: World) -> None:
    metrica.yandex_target = lambda action: YandexTarget(status="good_lead")
    metrica.token = "no-such-token"
    sale = metrica.action("a", yclid=YCLID)
    metrica.given(sale)
    assert metrica.sync().exit_code == 2
    metrica.token, metrica.yandex_target = "sandbox-token", lambda action: YandexTarget(goal="good_lead")
    metrica.sync()
    assert metrica.orders() == {}
    assert metrica.reached() == {"good_lead": (1, {"RUB": "100"})}


# -- orders with a life


def test_a_row_that_names_nobody_goes_behind_the_lead_of_its_order(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=metrica.clock.now() - timedelta(days=2))
    nameless = metrica.action("sale", order_id="deal", ym_client_id=None)
    metrica.given(metrica.action("stray", order_id="nobody's", ym_client_id=None), lead, nameless)
    metrica.sync()
    order = metrica.orders()["deal"]
    assert (order["status"], order["revenue"]) == ("PAID", "100")
    assert order["versions"][0]["identifiers"] == order["versions"][1]["identifiers"]
    assert [one["status"] for one in order["versions"]] == ["IN_PROGRESS", "PAID"]
    assert metrica.ledger.audit.stats()["skipped"] == {"no_identifier": 1}


def test_an_order_that_comes_to_light_too_late_to_be_tied_expires_and_says_why(metrica: World) -> None:
    long_ago = metrica.clock.now() - timedelta(days=22)
    metrica.given(metrica.action("old", occurred_at=long_ago), metrica.action("new"))
    summary = metrica.sync()
    assert metrica.states("yandex") == {"old": "expired", "new": "accepted"}
    assert (summary.destinations["yandex"]["expired"], summary.exit_code) == (1, 0)
    assert "visit" in metrica.rows("yandex")[0]["reason"]
    assert set(metrica.orders()) == {"order-new"}


def test_a_sale_long_after_its_lead_still_counts(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal")
    metrica.given(lead)
    metrica.sync()
    metrica.clock.advance(40 * 86_400)
    metrica.given(lead, metrica.action("sale", order_id="deal"))
    metrica.sync()
    assert metrica.orders()["deal"]["status"] == "PAID"
    assert metrica.states("yandex") == {"lead": "accepted", "sale": "accepted"}


def test_a_lead_that_expired_does_not_date_the_order_of_its_sale(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=metrica.clock.now() - timedelta(days=30))
    metrica.given(lead, metrica.action("sale", order_id="deal"))
    metrica.sync()
    assert metrica.states("yandex") == {"lead": "expired", "sale": "accepted"}
    assert metrica.orders()["deal"]["created"][:10] == str(metrica.clock.now())[:10]


def test_orders_told_late_are_sent_if_the_operator_says_so(metrica: World) -> None:
    metrica.yandex_options = {"late_orders": "send"}
    metrica.given(metrica.action("old", occurred_at=metrica.clock.now() - timedelta(days=22)))
    metrica.sync()
    assert metrica.states("yandex") == {"old": "accepted"}


def test_leads_that_are_uploaded_late_as_a_rule_are_told_of(metrica: World) -> None:
    long_ago = metrica.clock.now() - timedelta(days=16)
    metrica.given(*(metrica.action(f"first{number}", "lead", occurred_at=long_ago) for number in range(6)))
    assert [one for one in metrica.sync().findings if one.code == "late"] == [], "what was there before convsync"
    metrica.given(*(metrica.action(f"n{number}", "lead", occurred_at=long_ago) for number in range(6)))
    summary = metrica.sync()
    told = [one for one in summary.findings if one.code == "late"]
    assert "lead: uploaded 16 days after it happened" in told[0].message
    metrica.given(*(metrica.action(f"m{number}", "lead") for number in range(6)))
    assert [one for one in metrica.sync().findings if one.code == "late"] == []


def test_contacts_in_clear_are_gone_from_the_ledger_with_the_verdict_and_still_match_in_later_states(
    metrica: World,
) -> None:
    metrica.yandex_options = {"contact_hash": "none"}
    lead = metrica.action("lead", "lead", order_id="deal", ym_client_id=None, email="Anna@example.com")
    metrica.given(lead)
    metrica.sync()
    bodies = [row[0] for row in metrica.ledger.store.conn.execute("SELECT body FROM payload")]
    assert bodies
    assert not any(b"anna@" in body for body in bodies)
    metrica.clock.advance(86_400)
    metrica.given(lead, metrica.action("sale", order_id="deal", ym_client_id=None))
    metrica.sync()
    assert metrica.orders()["deal"]["status"] == "PAID"
    metrica.is_sound()


def test_a_phone_and_a_cost_that_come_to_light_later_are_told_once(metrica: World) -> None:
    sale = metrica.action("a")
    metrica.given(sale)
    metrica.sync()
    fuller = sale._replace(phone="+7 999 555-11-11", cost=Decimal(30))
    metrica.given(fuller)
    summary = metrica.sync()
    assert summary.taken.revised == 1
    order = metrica.orders()["order-a"]
    assert (order["cost"], list(order["identifiers"])) == ("30", ["client_ids", "phones_md5"])
    metrica.given(sale)
    metrica.sync()
    metrica.given(fuller)
    assert metrica.sync().taken.revised == 0
    assert len(metrica.orders()["order-a"]["versions"]) == 2


def test_an_order_that_waits_goes_with_what_its_source_says_by_then(metrica: World) -> None:
    metrica.token = "no-such-token"
    lead = metrica.action("lead", "lead", order_id="deal", ym_client_id=None, email="wrong@example.com")
    sale = metrica.action("sale", order_id="deal", occurred_at=metrica.clock.now() - timedelta(minutes=5))
    metrica.given(lead, sale)
    metrica.sync()
    metrica.given(lead._replace(email="right@example.com"), sale)
    metrica.token = "sandbox-token"
    metrica.sync()
    told = [one["identifiers"].get("emails_md5") for one in metrica.orders()["deal"]["versions"]]
    assert told == [[hashlib.md5(b"right@example.com", usedforsecurity=False).hexdigest()]] * 2


def test_sales_of_one_second_that_have_to_move_ahead_wait_until_that_second_has_passed(goals: World) -> None:
    now = goals.clock.now()
    goals.given(*(clicked(goals, f"n{number}", occurred_at=now - timedelta(seconds=1)) for number in range(5)))
    goals.sync()
    assert goals.offline()["rows"] == 1
    goals.clock.advance(120)
    goals.sync()
    assert goals.reached() == {"qualified": (5, {"RUB": "500"})}


def test_the_reports_sums_agree_with_metrica_after_a_partial_and_a_full_refund(metrica: World) -> None:
    metrica.yandex_target = by_order_else_goal
    sales = [metrica.action("a"), metrica.action("b"), clicked(metrica, "c"), clicked(metrica, "d", yclid="987654321")]
    metrica.given(*sales)
    metrica.sync()
    metrica.given(
        sales[0]._replace(value=Decimal(40)), sales[1]._replace(status="refunded"),
        sales[2]._replace(value=Decimal("7.50")), sales[3]._replace(status="cancelled"),
    )  # fmt: skip
    metrica.sync()
    today = metrica.clock.now().date()
    tallies = metrica.ledger.figures.tallies(today, today + timedelta(days=1), ZoneInfo("Europe/Moscow"))
    reported = Decimal(sum(one.value or 0 for one in tallies)) / 100
    orders = sum(Decimal(one["revenue"]) for one in metrica.orders().values())
    offline = sum(Decimal(money["RUB"]) for _, money in metrica.reached().values())
    assert reported == orders + offline == Decimal("47.50")


# -- changes of mind, and what only waits


def by_order(action: str) -> YandexTarget:
    return YandexTarget(status={"lead": "IN_PROGRESS", "sale": "PAID"}[action])


def shut(world: World) -> None:
    """A run of which nothing leaves: what it plans waits."""
    world.token = "no-such-token"
    assert world.sync().exit_code == 2
    world.token = "sandbox-token"


def skipped(world: World) -> dict[str, str]:
    return {one["external_id"]: one["reason"] for one in world.ledger.audit.skipped()}


def test_a_door_that_was_left_before_anything_went_through_is_not_taken_after_the_other(metrica: World) -> None:
    metrica.yandex_target = by_order
    metrica.given(metrica.action("a", yclid=YCLID))
    shut(metrica)
    metrica.yandex_target = by_goal
    metrica.sync()
    metrica.yandex_target = by_order
    metrica.sync()
    assert metrica.orders() == {}
    assert metrica.reached() == {"qualified": (1, {"RUB": "100"})}


def test_ids_that_come_and_go_do_not_send_an_action_through_the_second_door(metrica: World) -> None:
    metrica.yandex_target = by_order_else_goal
    sale = clicked(metrica, "a")
    metrica.given(sale)
    shut(metrica)
    metrica.given(sale._replace(ym_client_id="1600000000000000001"))
    metrica.sync()
    metrica.given(sale)
    metrica.sync()
    assert set(metrica.orders()) == {"shop:a"}
    assert metrica.reached() == {}
    assert skipped(metrica) == {"a": "other_way"}


def test_an_unmatched_conversion_cannot_be_retried_when_its_order_was_sent(goals: World) -> None:
    goals.box.configure({"yandex": {"known_clicks": {"999999999": "2026-11-20T00:00:00Z"}}})
    sale = clicked(goals, "a")
    goals.given(sale)
    goals.sync()
    settled(goals)
    goals.yandex_target = by_order
    goals.given(sale._replace(ym_client_id="1600000000000000001"))
    goals.sync()
    assert set(goals.orders()) == {"shop:a"}
    unmatched = [row["id"] for row in goals.ledger.audit.find("shop/a") if row["state"] == "unmatched"]
    assert goals.ledger.record.resolve(unmatched, State.PENDING, "again", now=1, run_id=None) == []


def test_what_waits_for_one_goal_makes_way_when_its_action_goes_to_another(goals: World) -> None:
    goals.given(clicked(goals, "a", "lead"), clicked(goals, "b"))
    shut(goals)
    goals.yandex_target = lambda action: YandexTarget(goal={"lead": "qualified", "sale": "crm_lead"}[action])
    goals.sync()
    assert {goal: count for goal, (count, _) in goals.reached().items()} == {"qualified": 1, "crm_lead": 1}


def test_twins_stay_apart_when_their_goal_was_gone_for_a_while(goals: World) -> None:
    twins = clicked(goals, "a"), clicked(goals, "b")
    goals.given(*twins)
    shut(goals)
    goals.yandex_target = lambda action: YandexTarget(goal="crm_lead")
    goals.given()
    goals.sync()
    goals.yandex_target = by_goal
    goals.given(*twins)
    assert goals.sync().exit_code == 0
    assert goals.reached() == {"qualified": (2, {"RUB": "200"})}


def test_a_refund_goes_although_the_configuration_does_not_name_its_goal_any_more(goals: World) -> None:
    sale = clicked(goals, "a")
    goals.given(sale)
    goals.sync()
    goals.given(sale._replace(status="refunded"))
    shut(goals)
    goals.yandex_target = lambda action: YandexTarget(goal="crm_lead")
    goals.given()
    goals.sync()
    assert goals.reached() == {"qualified": (1, {"RUB": "0"})}


def test_a_row_that_waits_and_is_dated_ahead_by_then_goes_when_that_has_passed(goals: World) -> None:
    sale = clicked(goals, "a")
    goals.given(sale)
    shut(goals)
    goals.given(sale._replace(occurred_at=goals.clock.now() + timedelta(hours=3)))
    goals.sync()
    assert goals.states("yandex") == {"a": "pending"}
    goals.clock.advance(4 * 3600)
    goals.sync()
    assert goals.reached() == {"qualified": (1, {"RUB": "100"})}


def test_what_waits_is_stopped_by_a_refund_that_names_nobody(goals: World) -> None:
    sale = clicked(goals, "a")
    goals.given(sale)
    shut(goals)
    goals.given(sale._replace(status="refunded", yclid=None))
    goals.sync()
    assert goals.states("yandex") == {"a": "superseded"}
    assert goals.offline()["rows"] == 0


@pytest.mark.parametrize(("days", "ids", "reason"), [(25, {}, "too_old"), (0, {"yclid": None}, "no_identifier")])
def test_a_refund_that_metrica_cannot_be_told_of_says_why(
    goals: World, days: int, ids: dict[str, None], reason: str
) -> None:
    sale = clicked(goals, "a")
    goals.given(sale)
    goals.sync()
    goals.clock.advance(days * 86_400)
    goals.sync()
    assert skipped(goals) == {}
    goals.given(sale._replace(status="refunded", **ids))
    goals.sync()
    assert skipped(goals) == {"a": reason}


# -- files of which Metrica dropped a row: all of it may be there but that one


@pytest.fixture
def dropped(goals: World) -> World:
    goals.box.configure({"yandex": {"unknown_target": "refuse", "bad_conversion": "drop"}})
    goals.names = ("lead", "sale", "odd")
    goals.given(
        clicked(goals, "a", ym_client_id="1600000000000000001"), clicked(goals, "bad", "odd", yclid="1234567890")
    )
    goals.sync()
    assert goals.states("yandex") == {"a": "held", "bad": "held"}
    return goals


def test_what_may_be_in_a_file_with_a_dropped_row_does_not_go_by_the_other_door(dropped: World) -> None:
    dropped.names, dropped.yandex_target = ("lead", "sale"), by_order
    dropped.sync()
    assert dropped.orders() == {}
    assert skipped(dropped)["a"] == "other_way"


def test_what_may_be_in_a_file_with_a_dropped_row_changes_as_the_row_it_was(dropped: World) -> None:
    sale = dropped.source.actions[0]
    dropped.given(
        sale._replace(value=Decimal(70), yclid="999999999", occurred_at=sale.occurred_at + timedelta(seconds=9))
    )
    dropped.sync()
    assert dropped.reached() == {"qualified": (1, {"RUB": "70"})}
    dropped.given(sale._replace(status="refunded"))
    dropped.sync()
    assert dropped.reached() == {"qualified": (1, {"RUB": "0"})}


def test_a_dry_run_shows_each_state_of_an_order_and_counts_what_a_run_would(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=metrica.clock.now() - timedelta(days=2))
    metrica.given(lead, metrica.action("sale", order_id="deal"))
    shown: list[Any] = []
    dry = metrica.engine().rehearse(lambda name, rows: shown.extend(rows))
    assert [row["order_status"] for row in shown] == ["IN_PROGRESS", "PAID"]
    assert dry.destinations["yandex"]["claimed"] == metrica.sync().destinations["yandex"]["claimed"] == 2


def test_what_is_too_old_for_the_goal_and_names_nobody_for_an_order_is_told_to_be_too_old(metrica: World) -> None:
    metrica.yandex_target = by_order_else_goal
    metrica.given(clicked(metrica, "a", occurred_at=metrica.clock.now() - timedelta(days=30)))
    metrica.sync()
    assert metrica.ledger.audit.stats()["skipped"] == {"too_old": 1}


def test_the_life_of_an_expired_order_says_why_it_expired(metrica: World) -> None:
    metrica.given(metrica.action("old", occurred_at=metrica.clock.now() - timedelta(days=22)))
    metrica.sync()
    (story,) = tell(metrica.ledger.store, "shop/old")
    assert story["sentences"][-1].startswith("Next: nothing: too late to be tied to a visit")


def test_an_order_id_that_is_an_e_mail_address_never_leaves(metrica: World) -> None:
    metrica.given(metrica.action("a", order_id="anna@example.com"), metrica.action("b", order_id="a@b"))
    metrica.sync()
    assert set(metrica.orders()) == {"a@b"}
    assert metrica.ledger.audit.stats()["skipped"] == {"bad_identifier": 1}


def test_two_sales_of_one_order_are_told_of_because_metrica_keeps_one_amount(metrica: World) -> None:
    sales = [metrica.action(name, order_id="o1", value=Decimal(value)) for name, value in (("a", 50), ("b", 70))]
    metrica.given(metrica.action("lead", "lead", order_id="o1"), *sales)
    summary = metrica.sync()
    told = [one.message for one in summary.findings if one.code == "one_amount"]
    assert (
        len(told),
        "1 sale belongs to an order that has one" in told[0],
        "order o1" in told[0],
        summary.exit_code,
    ) == (
        1,
        True,
        True,
        1,
    )
    assert metrica.orders()["o1"]["revenue"] == "70"
    metrica.given(sales[1]._replace(value=Decimal(80)))
    assert metrica.sync().exit_code == 0, "it is told once"


@pytest.mark.parametrize("status", [420, 429])
def test_what_the_days_quota_keeps_back_goes_after_midnight_by_greenwich(metrica: World, status: int) -> None:
    metrica.yandex_target = by_order_else_goal
    metrica.box.configure({"yandex": {"requests_per_day": 1, "quota_status": status}})
    metrica.given(metrica.action("a"), clicked(metrica, "b"))
    assert metrica.sync().exit_code == 3
    (waiting,) = [row for row in metrica.rows("yandex") if row["state"] == "pending"]
    number = metrica.ledger.audit.find(f"shop/{waiting['external_id']}")[0]["id"]
    due = metrica.ledger.store.one("SELECT not_before FROM delivery WHERE id = ?", (number,))
    midnight = metrica.clock.now().replace(hour=0, minute=0, second=0) + timedelta(days=1)
    assert due == int(midnight.timestamp() * 1000)
    uploads = [one["operation"] for one in metrica.box.requests()].count
    before = uploads("yandex.orders") + uploads("yandex.conversions")
    metrica.sync()
    uploads = [one["operation"] for one in metrica.box.requests()].count
    assert uploads("yandex.orders") + uploads("yandex.conversions") == before == 2
    metrica.clock.advance((midnight - metrica.clock.now()).total_seconds() + 1)
    metrica.sync()
    assert metrica.orders()["order-a"]["revenue"] == "100"
    assert metrica.reached() == {"qualified": (1, {"RUB": "100"})}
