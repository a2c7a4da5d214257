"""What both ways into Google Ads owe: the same rows, the same faults, and in the end the same books at Google.

Each scenario runs with Data Manager and with the Google Ads API, against the emulator: real HTTP for the one, the
unmodified google-ads client over gRPC and TLS for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import worlds
from convsync.config.action import GoogleTarget
from convsync.errors import Exit
from convsync.model import Action
from convsync.sandbox import Sandbox, SandboxConfig
from worlds import StandingClock, World, google_target

APIS = ("data_manager", "ads")
INGEST = {"data_manager": "google.ingest", "ads": "ads.clicks"}
CHANGE = {"data_manager": "google.ingest", "ads": "ads.adjust"}
UNPARSEABLE = {"data_manager": "INVALID_GCLID", "ads": "UNPARSEABLE_GCLID"}
NOBODY = {"data_manager": "CLICK_NOT_FOUND", "ads": "EVENT_NOT_FOUND"}
TOO_RECENT = {"data_manager": "TOO_RECENT_CLICK", "ads": "TOO_RECENT_EVENT"}


@pytest.fixture
def box(clock: StandingClock, ads_certificate: Path) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=clock, ads=True, ads_folder=ads_certificate.parent) as sandbox:
        yield sandbox


@pytest.fixture(params=APIS)
def google(world: World, request: pytest.FixtureRequest) -> World:
    world.platforms = ("google",)
    world.api, world.ads = request.param, True
    world.source.page = 500
    return world


def settle(google: World) -> None:
    """Let Data Manager say what it made of the rows; the Ads API said so at once."""
    if google.api == "data_manager":
        google.settle_everything()


def taken(google: World) -> str:
    return "confirmed" if google.api == "data_manager" else "accepted"


def counted(google: World) -> dict[str, tuple[int, str | None]]:
    return {click.removeprefix("Cj0KCQ-"): (one["count"], one["value"]) for click, one in google.conversions().items()}


# -- rows


def test_each_conversion_counts_once_with_its_value(google: World) -> None:
    google.given(google.action("1", "lead"), google.action("2"), google.action("3", value=Decimal("0.55")))
    google.sync()
    settle(google)
    assert counted(google) == {"1": (1, None), "2": (1, "100"), "3": (1, "0.55")}
    assert set(google.states("google").values()) == {taken(google)}
    google.sync()
    assert counted(google) == {"1": (1, None), "2": (1, "100"), "3": (1, "0.55")}


def test_bad_rows_among_two_thousand_are_refused_with_googles_words_and_the_others_taken(google: World) -> None:
    bad = {0, 1, 3, 1999, *range(55, 1980, 60)}
    assert len(bad) == 37
    word = UNPARSEABLE[google.api]
    google.given(*[google.action(str(n), **({"gclid": f"fate-{word}-{n}"} if n in bad else {})) for n in range(2000)])
    google.sync()
    settle(google)
    states = google.states("google")
    assert {int(number) for number, state in states.items() if state == "refused"} == bad
    assert sum(state == taken(google) for state in states.values()) == 1963
    refused = [row for row in google.rows("google") if row["state"] == "refused"]
    assert all(word in row["reason"] for row in refused)
    assert sum(count for count, _ in counted(google).values()) == 1963


def test_what_nobody_clicked_is_unmatched_and_no_error(google: World) -> None:
    google.given(google.action("1", gclid=f"fate-{NOBODY[google.api]}-1"))
    assert google.sync().exit_code == Exit.OK
    settle(google)
    assert google.states("google") == {"1": "unmatched"}


def test_a_click_that_is_too_recent_is_sent_again_after_six_hours(google: World) -> None:
    google.given(google.action("1", gclid=f"fate-{TOO_RECENT[google.api]}-1"))
    google.sync()
    settle(google)
    assert google.states("google") == {"1": "pending"}
    assert google.sync().destinations["google"]["claimed"] == 0, "not before its time"
    google.clock.advance(6 * 3600)
    google.sync()
    settle(google)
    assert google.states("google") == {"1": taken(google)}
    assert [count for count, _ in counted(google).values()] == [1]


def test_a_reason_of_tomorrow_holds_its_row_for_a_person(google: World) -> None:
    google.given(google.action("1", gclid="fate-REASON_OF_TOMORROW-1"), google.action("2"))
    google.sync()
    settle(google)
    assert google.states("google") == {"1": "held", "2": taken(google)}


# -- changes


def test_a_new_value_overwrites_the_old_one_and_counts_nothing_new(google: World) -> None:
    for value in ("100", "80.50", "120"):
        google.given(google.action("1", value=Decimal(value)))
        google.sync()
        google.clock.advance(60)
    assert counted(google) == {"1": (1, "120")}
    assert google.conversions()["Cj0KCQ-1"]["values"] == ["100", "80.5", "120"]


def test_changes_within_one_second_all_arrive_in_their_order(google: World) -> None:
    for value in ("100", "80", "60", "40"):
        google.given(google.action("1", value=Decimal(value)))
        google.sync()
    assert google.conversions()["Cj0KCQ-1"]["values"] == ["100", "80", "60", "40"]


@pytest.mark.parametrize(("on_refund", "left"), [("retract", (0, None)), ("zero", (1, "0")), ("ignore", (1, "100"))])
def test_a_refund_is_told_as_the_operator_wants_it(google: World, on_refund: str, left: tuple[int, str]) -> None:
    google.on_refund = on_refund
    google.given(google.action("1"))
    google.sync()
    google.given(google.action("1", status="refunded"))
    google.sync()
    (conversion,) = google.conversions().values()
    assert conversion["retracted"] is (on_refund == "retract")
    assert (conversion["count"], conversion["value"] if left[0] else None) == left


def test_a_refund_of_what_was_never_sent_is_not_sent(google: World) -> None:
    google.given(google.action("1", status="cancelled"))
    google.sync()
    assert counted(google) == {}
    assert google.states("google") == {}


def test_a_change_that_comes_too_late_is_expired_not_sent(google: World) -> None:
    google.given(google.action("1"))
    google.sync()
    google.clock.advance(55 * 86400)
    google.given(google.action("1", value=Decimal(5), occurred_at=google.clock.now() - timedelta(days=55, hours=1)))
    google.sync()
    assert google.states("google") == {"1": "expired"}
    assert counted(google) == {"1": (1, "100")}


def test_a_change_that_waited_past_its_window_is_expired_not_sent(google: World) -> None:
    sold = google.action("1", occurred_at=google.clock.now() - timedelta(days=53))
    google.given(sold)
    google.sync()
    google.given(sold._replace(value=Decimal(5)))
    google.google_token = "revoked"
    google.sync()
    google.clock.advance(2 * 86400)
    google.google_token = "sandbox-refresh"
    google.sync()
    assert [(row["revision"], row["state"], row["reason"]) for row in google.rows("google")][1:] == [
        (2, "expired", "too old to be adjusted")
    ]
    assert counted(google) == {"1": (1, "100")}


def test_a_change_of_what_google_refused_is_a_first_telling(google: World) -> None:
    google.given(google.action("1", gclid=f"fate-{UNPARSEABLE[google.api]}-1"))
    google.sync()
    settle(google)
    google.given(google.action("1", gclid="Cj0KCQ-right"))
    google.sync()
    settle(google)
    assert counted(google)["right"] == (1, "100")


# -- answers that do not come


@pytest.mark.parametrize("kind", ["reset_after", "garbage", "cut_body"])
def test_a_lost_answer_is_resent_and_counted_once(google: World, kind: str) -> None:
    google.box.faults.add(on=INGEST[google.api], kind=kind)
    google.given(google.action("1"), google.action("2"))
    google.sync()
    google.sync()
    settle(google)
    assert counted(google) == {"1": (1, "100"), "2": (1, "100")}
    assert google.states("google") == {"1": taken(google), "2": taken(google)}
    assert {row["reason"] for row in google.rows("google")} == {""}, "a repeat is what was hoped for"


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
def test_a_change_whose_answer_was_lost_is_told_again_before_the_next_one(google: World, kind: str) -> None:
    google.given(google.action("1"))
    google.sync()
    google.box.faults.add(on=CHANGE[google.api], kind=kind)
    google.given(google.action("1", value=Decimal(80)))
    google.sync()
    google.given(google.action("1", value=Decimal(60)))
    google.sync()
    google.sync()
    values = google.conversions()["Cj0KCQ-1"]["values"]
    assert values == sorted(values, key=Decimal, reverse=True), "never an older one after a newer one"
    assert counted(google) == {"1": (1, "60")}


def test_a_server_error_is_tried_again_and_counts_as_an_attempt(google: World) -> None:
    status: dict[str, Any] = {"status": 503} if google.api == "data_manager" else {"code": "INTERNAL"}
    google.box.faults.add(on=INGEST[google.api], kind="status", times=None, **status)
    google.given(google.action("1"))
    assert google.sync().exit_code == Exit.UNFINISHED
    (row,) = google.rows("google")
    assert row["state"] in ("unknown", "pending")
    assert row["attempts"] > 0
    google.box.faults.clear()
    google.sync()
    assert counted(google) == {"1": (1, "100")}


def test_a_server_that_is_not_there_burns_no_attempt(google: World, monkeypatch: pytest.MonkeyPatch) -> None:
    google.given(google.action("1"))
    if google.api == "ads":
        monkeypatch.setattr(Sandbox, "ads_endpoint", "localhost:1")
        assert google.sync().exit_code == Exit.UNFINISHED
        monkeypatch.undo()
    else:
        google.box_url, there = "http://127.0.0.1:1", google.box_url
        assert google.sync().exit_code == Exit.UNFINISHED
        google.box_url = there
    assert [(row["state"], row["attempts"]) for row in google.rows("google")] == [("pending", 0)]
    google.sync()
    assert counted(google) == {"1": (1, "100")}


# -- credentials, configuration, quotas


def test_a_revoked_token_stops_the_destination_and_burns_nothing(google: World) -> None:
    google.google_token = "revoked"
    google.given(google.action("1"))
    summary = google.sync()
    assert summary.exit_code == Exit.USAGE
    assert [one.code for one in summary.findings if one.level == "error"] == ["invalid_grant"]
    assert [(row["state"], row["attempts"]) for row in google.rows("google")] == [("pending", 0)]
    google.google_token = "sandbox-refresh"
    google.sync()
    assert counted(google) == {"1": (1, "100")}


def test_a_token_without_the_scope_says_which_one_is_missing(google: World) -> None:
    other = {"data_manager": "adwords", "ads": "datamanager"}[google.api]
    google.box.config.google.scopes = [f"https://www.googleapis.com/auth/{other}"]
    google.given(google.action("1"))
    summary = google.sync()
    (finding,) = [one for one in summary.findings if one.level == "error"]
    assert finding.code == "scope_missing"
    assert "convsync google login" in finding.advice
    assert google.states("google") == {"1": "pending"}


def test_an_action_that_is_gone_stops_the_destination_with_one_finding(google: World) -> None:
    del google.box.config.google.customers["1234567890"]["2222222222"]
    google.given(*[google.action(str(number)) for number in range(5)])
    summary = google.sync()
    assert summary.exit_code == Exit.USAGE
    assert len([one for one in summary.findings if one.level == "error"]) == 1
    assert {(row["state"], row["attempts"]) for row in google.rows("google")} == {("pending", 0)}


def test_a_quota_of_the_day_lets_the_destination_rest_for_hours(google: World) -> None:
    if google.api == "data_manager":
        google.box.config.google.ingest_per_day = 0
    else:
        google.box.faults.add(
            on="ads.clicks", kind="status", code="RESOURCE_EXHAUSTED", error="QuotaError.RESOURCE_EXHAUSTED", times=1
        )
    google.given(google.action("1"))
    assert google.sync().exit_code == Exit.UNFINISHED
    google.clock.advance(600)
    assert google.sync().destinations["google"]["claimed"] == 0
    google.box.config.google.ingest_per_day = 100_000
    google.clock.advance(24 * 3600)
    google.sync()
    assert counted(google) == {"1": (1, "100")}


def test_a_quota_of_the_moment_waits_as_long_as_google_asks(google: World) -> None:
    if google.api == "data_manager":
        google.box.faults.add(on="google.ingest", kind="status", status=429, headers={"Retry-After": "90"})
    else:
        google.box.faults.add(
            on="ads.clicks", kind="status", code="RESOURCE_EXHAUSTED",
            error="QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", retry_after=90,
        )  # fmt: skip
    google.given(google.action("1"))
    google.sync()
    google.clock.advance(60)
    assert google.sync().destinations["google"]["claimed"] == 0
    google.clock.advance(60)
    google.sync()
    assert counted(google) == {"1": (1, "100")}


# -- the rest of what a conversion may carry


def test_a_validated_dry_run_sends_nothing_and_says_what_google_would_refuse(google: World) -> None:
    google.given(google.action("1"), google.action("2"))
    summary = google.engine().rehearse(lambda name, rows: list(rows) and None, validate=True)
    assert summary.exit_code == Exit.OK
    assert "validated" in {one.code for one in summary.findings}
    assert counted(google) == {}
    assert google.rows("google") == []


def test_no_contact_of_a_person_is_in_the_ledger(google: World) -> None:
    google.given(google.action("1", email="anna.petrova@example.com", phone="+79161234567", first_name="Анна"))
    google.sync()
    google.ledger.close()
    kept = b"".join(path.read_bytes() for path in google.path.parent.iterdir())
    for trace in ("anna.petrova", "79161234567", "анна"):
        assert trace.encode() not in kept.lower()
    google.restart()


# -- phone calls


@pytest.fixture
def calls(google: World, monkeypatch: pytest.MonkeyPatch) -> World:
    target = GoogleTarget(conversion_action="8888888888", calls=True)
    monkeypatch.setitem(worlds.TARGETS, "google", lambda action: target)
    return google


def call(google: World, number: int, **fields: Any) -> Action:
    known = {"gclid": None, "phone": f"+7916123456{number}", "call_start_at": google.clock.now() - timedelta(hours=9)}
    return google.action(f"call-{number}", "lead", **(known | fields))


def called(google: World) -> list[int]:
    book = google.box.books()["google"]["accounts"]["1234567890"]["8888888888"]
    return [one["count"] for one in book["transactions"].values()]


def test_phone_calls_count_once_though_the_answer_was_lost(calls: World) -> None:
    calls.box.faults.add(on="ads.calls" if calls.api == "ads" else "google.ingest", kind="reset_after")
    calls.given(call(calls, 1), call(calls, 2))
    calls.sync()
    calls.sync()
    settle(calls)
    assert called(calls) == [1, 1]
    assert set(calls.states("google").values()) == {taken(calls)}


def test_a_caller_is_gone_from_the_files_of_the_ledger_when_the_verdict_is_there(calls: World) -> None:
    calls.given(call(calls, 1))
    calls.sync()
    calls.ledger.close()
    kept = b"".join(path.read_bytes() for path in calls.path.parent.iterdir())
    assert b"79161234561" not in kept
    calls.restart()


def test_a_call_that_changes_later_stays_as_it_was_told(calls: World) -> None:
    calls.given(call(calls, 1))
    calls.sync()
    calls.given(call(calls, 1, status="cancelled"))
    assert calls.sync().taken.skipped["cannot_adjust"] == 1
    assert called(calls) == [1]


def test_a_call_without_a_beginning_or_a_number_is_skipped_with_a_reason(calls: World) -> None:
    calls.given(call(calls, 1, call_start_at=None), call(calls, 2, phone=None))
    assert calls.sync().taken.skipped["no_identifier"] == 2


def test_a_look_before_the_first_upload_asks_about_calls_as_calls(calls: World) -> None:
    clicks, called = google_target("sale"), worlds.TARGETS["google"]("lead")
    calls.routes["google"] = lambda: calls.google(targets=(clicks, called))
    route = calls.routes["google"]()
    found = route.probe()
    route.close()
    assert {one.level for one in found} == {"info"}
    told = " ".join(one.message for one in found if one.code == "validated")
    assert "2222222222" in told and "8888888888" in told


# -- moving from one to the other


def test_whoever_moves_to_data_manager_keeps_ids_keys_and_what_waits(google: World) -> None:
    google.api = "ads"
    google.given(google.action("1"))
    google.sync()
    google.box.config.ads.allowlisted = False
    google.given(google.action("1"), google.action("2"))
    stopped = google.sync()
    (finding,) = [one for one in stopped.findings if one.level == "error"]
    assert 'api = "data_manager"' in finding.advice
    google.api = "data_manager"
    google.given(google.action("1", value=Decimal(70)), google.action("2"))
    google.sync()
    assert counted(google) == {"1": (1, "70"), "2": (1, "100")}
