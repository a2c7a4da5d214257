"""What becomes of a conversion that changes while its first telling is refused, lost, delayed, or went another way.

Each scenario ends with the books at Google and a ledger that verifies.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

import worlds
from convsync.config.action import GoogleTarget
from convsync.destinations.google import Ads
from convsync.errors import Exit
from convsync.ledger import Patience
from convsync.ledger.verify import verify
from convsync.mapping import Address, Mapper, Rule
from convsync.model import Action, State
from convsync.sync import Engine
from test_google_contract import CHANGE, INGEST, NOBODY, TOO_RECENT, UNPARSEABLE, box, counted, google, settle, taken
from worlds import World

__all__ = ["box", "google"]  # fixtures

CALL = "3333333333"
HOUR = 3600


def told(world: World) -> list[tuple[int, str]]:
    return [(row["revision"], row["state"]) for row in world.rows("google")]


def pass_time(world: World, hours: int = 36) -> None:
    """Runs every three hours, as cron would start them."""
    for _ in range(hours // 3):
        world.clock.advance(3 * HOUR)
        world.sync()


def stored(world: World) -> bytes:
    return b"".join(row[0] for row in world.ledger.store.conn.execute("SELECT body FROM payload"))


@pytest.fixture
def both(world: World) -> World:
    """Data Manager that takes back through the Ads API."""
    world.platforms, world.ads, world.on_refund, world.source.page = ("google",), True, "retract", 500
    return world


# -- the order of revisions


def test_a_third_value_waits_for_a_first_whose_arrival_is_in_doubt(google: World) -> None:
    google.patience = Patience(first_wait=HOUR)
    google.box.faults.add(on=INGEST[google.api], kind="reset_before", times=None)
    for value in (100, 80, 60):
        google.given(google.action("1", value=Decimal(value)))
        google.sync()
        google.box.faults.clear()
        google.clock.advance(60)
    assert told(google) == [(1, "unknown"), (2, "superseded"), (3, "pending")]
    pass_time(google)
    assert counted(google) == {"1": (1, "60")}


def test_a_value_that_changed_before_a_lost_first_telling_came_again_is_not_lost(google: World) -> None:
    google.patience = Patience(first_wait=60)
    google.box.faults.add(on=INGEST[google.api], kind="reset_before", times=None)
    google.given(google.action("1"))
    google.sync()
    google.box.faults.clear()
    google.clock.advance(HOUR)
    google.given(google.action("1", value=Decimal(80)))
    google.sync()
    pass_time(google)
    assert counted(google) == {"1": (1, "80")}
    assert google.rows("google")[-1]["state"] == taken(google)


def test_a_value_that_changed_after_its_attempts_were_used_up_is_told(google: World) -> None:
    google.patience = Patience(first_wait=60, max_attempts=1)
    google.box.faults.add(on=INGEST[google.api], kind="reset_before", times=None)
    google.given(google.action("1"))
    google.sync()
    google.clock.advance(HOUR)
    google.sync()
    assert told(google) == [(1, "held")]
    google.box.faults.clear()
    google.patience = Patience(first_wait=60)
    google.given(google.action("1", value=Decimal(80)))
    google.sync()
    pass_time(google)
    assert counted(google) == {"1": (1, "80")}


def test_a_row_that_google_gives_back_after_a_newer_one_was_sent_stays_back(world: World) -> None:
    world.platforms = ("google",)
    first = world.action("1", gclid="fate-INTERNAL_ERROR-1")
    world.given(first)
    world.sync()
    world.clock.advance(600)
    world.given(first._replace(value=Decimal(80)))
    world.sync()
    pass_time(world)
    assert told(world) == [(1, "superseded"), (2, "confirmed")]
    assert list(counted(world).values()) == [(1, "80")]


def test_only_the_last_word_on_a_conversion_can_be_sent_again_by_a_person(google: World) -> None:
    first = google.action("1", gclid=f"fate-{NOBODY[google.api]}-1")
    google.given(first)
    google.sync()
    settle(google)
    google.given(first._replace(value=Decimal(80), gclid="Cj0KCQ-1"))
    google.sync()
    assert told(google)[0] == (1, "unmatched")
    assert google.ledger.record.resolve([1], State.PENDING, "again", now=1, run_id=None) == []


# -- refunds


@pytest.mark.parametrize("on_refund", ["zero", "retract"])
@pytest.mark.parametrize("judged", [True, False], ids=["after the verdict", "before the verdict"])
def test_a_lead_that_turns_out_spam_while_its_click_is_too_recent_never_counts(
    google: World, on_refund: str, judged: bool
) -> None:
    google.on_refund = on_refund
    lead = google.action("1", "lead", gclid=f"fate-{TOO_RECENT[google.api]}-1", value=Decimal(5), currency="RUB")
    google.given(lead)
    google.sync()
    if judged:
        settle(google)
    google.given(lead._replace(status="spam"))
    google.sync()
    pass_time(google)
    assert [count for count, _ in counted(google).values()] == [0]
    assert {state for _, state in told(google)} == {"superseded"}


def test_a_refund_in_doubt_of_what_nobody_clicked_does_not_stop_the_destination(both: World) -> None:
    both.patience = Patience(first_wait=HOUR)
    sold = both.action("1", gclid="fate-CLICK_NOT_FOUND-1")
    both.given(sold)
    both.sync()
    both.box.faults.add(on="ads.adjust", kind="reset_before", times=None)
    both.given(sold._replace(status="refunded"))
    both.sync()
    both.box.faults.clear()
    both.clock.advance(2 * HOUR)
    both.given(sold._replace(status="refunded"), both.action("2"))
    both.sync()
    pass_time(both, 6)
    assert both.states("google") == {"1": "superseded", "2": "confirmed"}


def test_a_refund_of_what_a_person_calls_sent_is_told(google: World) -> None:
    google.on_refund = "retract"
    google.given(google.action("1"))
    google.sync(send_to=frozenset())
    google.given(google.action("1", consent_ad_user_data=False))
    google.sync(send_to=frozenset())
    google.ledger.record.resolve([1], State.ACCEPTED, "seen in the account", now=1, run_id=None)
    google.given(google.action("1", status="refunded"), google.action("2"))
    google.sync()
    assert google.states("google")["2"] == "accepted"
    assert google.rows("google")[1]["state"] == {"ads": "unmatched", "data_manager": "held"}[google.api]


def test_what_is_active_again_after_a_refund_that_was_to_be_ignored_is_sent(google: World) -> None:
    google.on_refund = "ignore"
    for status in ("active", "refunded"):
        google.given(google.action("1", status=status))
        google.sync(send_to=frozenset())
    assert told(google) == [(1, "superseded")]
    google.given(google.action("1"))
    google.sync()
    assert counted(google) == {"1": (1, "100")}


def test_a_refund_without_a_currency_that_waited_is_held_when_it_can_only_be_restated(both: World) -> None:
    both.given(both.action("1", "lead"))
    both.sync()
    both.given(both.action("1", "lead", status="spam"))
    both.sync(send_to=frozenset())
    both.on_refund = "zero"
    summary = both.sync()
    assert "refund_untold" in {one.code for one in summary.findings}
    assert told(both) == [(1, "accepted"), (2, "held")]


def test_a_free_order_in_yen_is_no_refund(world: World) -> None:
    world.platforms = ("google",)
    world.given(*[world.action(code, value=Decimal(value), currency=code) for code, value in (("JPY", 0), ("KWD", 1))])
    assert world.sync().findings == []
    assert {code: Decimal(value or 0) for code, (_, value) in counted(world).items()} == {"JPY": 0, "KWD": 1}


# -- calls


@pytest.fixture
def calls(world: World, monkeypatch: pytest.MonkeyPatch) -> Action:
    """A call of yesterday; its conversion action is there."""
    world.platforms, world.ads = ("google",), True
    monkeypatch.setitem(worlds.TARGETS, "google", lambda action: GoogleTarget(conversion_action=CALL, calls=True))
    actions = world.box.config.google.customers["1234567890"]
    actions[CALL] = dataclasses.replace(actions["2222222222"], type="UPLOAD_CALLS")
    return world.action("1", phone="+79161234567", call_start_at=world.clock.now() - timedelta(hours=20))


def test_a_call_that_nobody_made_is_sent_once_however_often_it_is_read(world: World, calls: Action) -> None:
    world.api, world.box.config.ads.known_calls = "ads", {}
    world.given(calls)
    for _ in range(3):
        world.sync()
        world.clock.advance(900)
    assert told(world) == [(1, "unmatched")]
    assert b"9161234567" not in stored(world)


def test_a_call_whose_number_was_corrected_is_sent_again(world: World, calls: Action) -> None:
    world.api = "ads"
    world.box.config.ads.known_calls = {"+79161234560": [calls.call_start_at.isoformat()]}  # type: ignore[union-attr]
    for phone in ("+79161234567", "+79161234560"):
        world.given(calls._replace(phone=phone))
        world.sync()
    assert told(world) == [(1, "unmatched"), (2, "accepted")]
    assert b"916123456" not in stored(world)


@pytest.mark.parametrize("read_again", [True, False])
def test_a_call_that_waited_for_the_ads_api_leaves_no_number_when_it_goes_to_data_manager(
    world: World, calls: Action, read_again: bool
) -> None:
    world.api, world.box.config.ads.allowlisted_calls = "ads", False
    world.given(calls)
    world.sync()
    assert told(world) == [(1, "pending")]
    world.api = "data_manager"
    world.given(*[calls] * read_again)
    world.sync()
    world.settle_everything()
    assert told(world) == [(1, "confirmed")]
    assert b"9161234567" not in stored(world)


def test_a_call_that_waited_for_data_manager_leaves_no_number_when_it_goes_to_the_ads_api(
    world: World, calls: Action
) -> None:
    world.given(calls)
    world.sync(send_to=frozenset())
    world.api = "ads"
    world.sync()
    assert told(world) == [(1, "accepted")]
    assert b"9161234567" not in stored(world)


def test_a_number_of_any_country_that_was_left_in_clear_is_found(world: World, calls: Action) -> None:
    world.given(calls._replace(phone="+380501234567"))
    world.sync()
    world.ledger.store.conn.execute(
        "UPDATE payload SET body = CAST(body || ? AS BLOB)", (b'"callerId":"+380501234567"',)
    )
    assert [one.code for one in verify(world.ledger.store)] == ["no_contact_in_clear"]
    world.ledger.store.conn.execute("DELETE FROM payload")


def test_calls_told_twice_in_one_request_count_once_each(world: World, calls: Action) -> None:
    world.api, world.source.page = "ads", 500
    world.given(*[calls._replace(external_id=str(n), phone=f"+7916123456{n // 2}") for n in range(20)])
    summary = world.sync()
    assert summary.destinations["google"]["accepted"] == 20
    assert summary.destinations["google"]["already_there"] == 10
    assert summary.exit_code == Exit.OK


# -- other ways, other goals


def test_what_data_manager_still_processes_is_told_when_the_way_in_changes(world: World) -> None:
    world.platforms, world.ads = ("google",), True
    world.given(world.action("1"))
    world.sync()
    world.api = "ads"
    world.clock.advance(HOUR)
    assert [one.code for one in world.sync().findings] == ["no_verdict"]


def test_what_waited_for_a_goal_that_was_gone_is_sent_when_the_goal_is_back(
    google: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.given(google.action("1"))
    google.sync(send_to=frozenset())
    with monkeypatch.context() as patch:
        patch.setitem(worlds.TARGETS, "google", lambda action: GoogleTarget(conversion_action="1111111111"))
        google.given()
        google.sync()
    assert told(google) == [(1, "superseded")]
    google.given(google.action("1"))
    google.sync()
    assert counted(google) == {"1": (1, "100")}


def test_a_dozen_conversion_actions_share_few_requests(google: World) -> None:
    actions = google.box.config.google.customers["1234567890"]
    goals = [str(4_000_000_000 + number) for number in range(12)]
    actions.update((goal, dataclasses.replace(actions["2222222222"])) for goal in goals)
    route: Any = google.routes["google"]()
    rules = {
        f"kind{number}": Rule("sale", (Address(route, GoogleTarget(conversion_action=goal)),))
        for number, goal in enumerate(goals)
    }
    google.given(*[google.action(str(n), f"kind{n % 12}", value=Decimal(1), currency="RUB") for n in range(600)])
    destination = worlds.Destination(route, google.patience)
    engine = Engine(google.ledger, [destination], Mapper(rules, [route], "RU"), [google.source], clock=google.clock)
    assert engine.sync().exit_code == Exit.OK
    assert Counter(google.states("google").values()) == {"accepted": 600}
    assert google.ledger.store.one("SELECT count(*) FROM batch") <= 2


# -- quotas and time


@pytest.mark.parametrize("window", ["day", "minute"])
def test_a_quota_that_stays_used_up_holds_no_row_for_a_person(google: World, window: str) -> None:
    google.patience = Patience()
    if google.api == "data_manager":
        setattr(google.box.config.google, f"ingest_per_{window}", 0)
    else:
        word = {"day": "RESOURCE_EXHAUSTED", "minute": "RESOURCE_TEMPORARILY_EXHAUSTED"}[window]
        google.box.faults.add(on="ads.clicks", kind="status", error=f"QuotaError.{word}", times=None)
    google.given(google.action("1"))
    for _ in range(12):
        assert google.sync().exit_code == Exit.UNFINISHED
        google.clock.advance(25 * HOUR)
    assert [(row["state"], row["attempts"]) for row in google.rows("google")] == [("pending", 0)]


def test_data_manager_goes_on_while_the_quota_for_taking_back_is_used_up(both: World) -> None:
    both.batch_rows = {"google": 2}
    both.given(*[both.action(str(number)) for number in range(6)])
    both.sync()
    both.box.faults.add(on="ads.adjust", kind="status", error="QuotaError.RESOURCE_EXHAUSTED", times=None)
    refunds = [both.action(str(number), status="refunded") for number in range(6)]
    both.given(*refunds, *[both.action(f"new-{number}") for number in range(6)])
    assert "daily_quota" in {one.code for one in both.sync().findings}
    states = both.states("google")
    assert {states[f"new-{number}"] for number in range(6)} == {"accepted"}
    assert [row["attempts"] for row in both.rows("google") if row["revision"] == 2] == [0] * 6
    both.box.faults.clear()
    pass_time(both, 6)
    assert {one["retracted"] for click, one in both.conversions().items() if "new" not in click} == {True}


def test_refunds_that_cannot_be_taken_back_are_restated_however_many_requests_it_took_to_learn_that(
    both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = both.routes["google"]

    def wide() -> Any:
        route: Any = made()
        route.in_flight = 8
        return route

    monkeypatch.setitem(both.routes, "google", wide)
    both.batch_rows = {"google": 1}
    both.given(*[both.action(str(number)) for number in range(10)])
    both.sync()
    both.box.config.google.scopes = ["https://www.googleapis.com/auth/datamanager"]
    both.given(*[both.action(str(number), status="refunded") for number in range(10)])
    assert both.sync().exit_code == Exit.OK
    assert set(counted(both).values()) == {(1, "0")}


@pytest.mark.parametrize("timeout", [120, 600])
def test_a_patient_operator_is_not_told_that_the_lease_is_too_short(google: World, timeout: float) -> None:
    google.timeout = timeout
    google.given(google.action("1"))
    google.sync()
    assert google.states("google") == {"1": "accepted"}


def test_a_quota_met_while_asking_for_custom_variables_is_no_fault_of_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.platforms, world.api, world.ads = ("google",), "ads", True
    made = world.routes["google"]

    def asking() -> Ads:
        route: Any = made()
        route._names = ("plan",)
        return route

    monkeypatch.setitem(world.routes, "google", asking)
    world.box.faults.add(on="ads.search", kind="status", error="QuotaError.RESOURCE_EXHAUSTED", times=None)
    world.given(world.action("1"))
    summary = world.sync()
    assert [one.code for one in summary.findings] == ["unavailable"]
    assert summary.exit_code == Exit.UNFINISHED
    rehearsed = world.engine().rehearse(lambda name, rows: None)
    assert rehearsed.exit_code == Exit.UNFINISHED


def test_a_change_lost_on_the_way_is_told_again(google: World) -> None:
    google.patience = Patience(first_wait=60)
    google.given(google.action("1"))
    google.sync()
    google.box.faults.add(on=CHANGE[google.api], kind="reset_before", times=None)
    google.given(google.action("1", value=Decimal(80)))
    google.sync()
    google.box.faults.clear()
    google.clock.advance(HOUR)
    google.given(google.action("1", value=Decimal(60)))
    google.sync()
    pass_time(google, 6)
    assert counted(google) == {"1": (1, "60")}


def test_a_value_corrected_after_a_refusal_is_a_first_telling_even_after_a_switch(google: World) -> None:
    refused = google.action("1", gclid=f"fate-{UNPARSEABLE[google.api]}-1")
    google.given(refused)
    google.sync()
    settle(google)
    google.api = "ads" if google.api == "data_manager" else "data_manager"
    google.given(refused._replace(gclid="Cj0KCQ-1", value=Decimal(7)))
    google.sync()
    assert counted(google)["1"] == (1, "7")


def test_a_request_that_is_too_large_for_google_goes_in_parts(google: World) -> None:
    large: dict[str, Any] = (
        {"status": 413} if google.api == "data_manager" else {"error": "DatabaseError.REQUEST_TOO_LARGE"}
    )
    google.box.faults.add(on=INGEST[google.api], kind="status", times=None, rows={"min": 6}, **large)
    google.given(*[google.action(str(number)) for number in range(20)])
    assert google.sync().exit_code == Exit.OK
    assert len(counted(google)) == 20


def test_a_conversion_that_is_too_large_alone_stops_with_advice(google: World) -> None:
    large: dict[str, Any] = (
        {"status": 413} if google.api == "data_manager" else {"error": "DatabaseError.REQUEST_TOO_LARGE"}
    )
    google.box.faults.add(on=INGEST[google.api], kind="status", times=None, **large)
    google.given(google.action("1"))
    summary = google.sync()
    assert (summary.exit_code, google.states("google")) == (Exit.USAGE, {"1": "pending"})


def test_requests_that_were_out_together_stop_the_destination_with_one_finding(google: World) -> None:
    google.batch_rows = {"google": 1}
    denied: dict[str, Any] = {"status": 403} if google.api == "data_manager" else {"code": "PERMISSION_DENIED"}
    google.box.faults.add(on=INGEST[google.api], kind="status", times=None, **denied)
    google.given(*[google.action(str(number)) for number in range(8)])
    summary = google.sync()
    assert len([one for one in summary.findings if one.level == "error"]) == 1
    assert {(row["state"], row["attempts"]) for row in google.rows("google")} == {("pending", 0)}
