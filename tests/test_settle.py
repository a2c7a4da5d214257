"""What platforms tell later, how runs end early, and who may send: settling, signals, quotas, leases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from convsync.errors import Exit, LedgerBusy
from convsync.ledger import Filter, Patience
from convsync.net import Wire
from convsync.uploads import Uploads
from worlds import World


def test_every_fate_that_google_tells_later_finds_its_row(world: World) -> None:
    world.platforms = ("google",)
    fates = {
        "CLICK_NOT_FOUND": "unmatched",
        "INVALID_GCLID": "refused",
        "EVENT_TOO_OLD": "refused",
        "DUPLICATE_TRANSACTION_ID": "accepted",
        "A_REASON_OF_TOMORROW": "held",
    }
    world.given(world.action("0"), *[world.action(fate, gclid=f"fate-{fate}-1") for fate in fates], world.action("9"))
    world.source.page = 100
    world.sync()
    settled = world.settle_everything()
    states = world.states("google")
    assert {fate: states[fate] for fate in fates} == fates
    assert (states["0"], states["9"]) == ("confirmed", "confirmed")
    assert settled.exit_code == Exit.ATTENTION
    refused = next(row for row in world.rows("google") if row["external_id"] == "INVALID_GCLID")
    assert "INVALID_GCLID" in refused["reason"]
    assert [row["key"] for row in world.ledger.audit.deliveries(Filter(reason="invalid_gclid"))] == [refused["key"]]


def test_a_click_that_is_too_recent_is_sent_again_after_six_hours(world: World) -> None:
    world.platforms = ("google",)
    world.given(world.action("1", gclid="fate-TOO_RECENT_CLICK-1"))
    world.sync()
    world.settle_everything()
    row = world.rows("google")[0]
    assert row["state"] == "pending"
    assert world.sync().destinations["google"]["claimed"] == 0, "not before its time"
    world.clock.advance(6 * 3600)
    world.sync()
    world.settle_everything()
    assert world.states("google") == {"1": "confirmed"}
    assert {one["count"] for one in world.conversions().values()} == {1}


def test_a_verdict_without_positions_leaves_nobody_confirmed(world: World) -> None:
    world.platforms = ("google",)
    world.box.config.google.indices_absent = True
    world.given(world.action("1"), world.action("2", gclid="fate-CLICK_NOT_FOUND-2"))
    world.sync()
    world.engine().settle()
    world.clock.advance(7200)
    told = world.engine().settle()
    assert told.destinations["google"]["confirmed"] == 0
    assert told.destinations["google"]["unknown"] == 2, "one of them is unmatched, and nobody says which"


def test_a_spent_daily_quota_lets_the_destination_rest_and_burns_no_patience_of_others(world: World) -> None:
    world.box.config.yandex.requests_per_day = 0
    world.given(world.action("1"))
    summary = world.sync()
    assert summary.exit_code == Exit.UNFINISHED
    assert world.states("yandex") == {"1": "pending"}
    assert world.states("google") == {"1": "accepted"}
    world.box.config.yandex.requests_per_day = 5000
    world.clock.advance(24 * 3600)
    world.sync()
    assert world.states("yandex") == {"1": "accepted"}


def test_what_is_tried_too_often_is_held_and_told(world: World) -> None:
    world.platforms = ("google",)
    world.patience = Patience(max_attempts=3, first_wait=0)
    world.box.faults.add({"on": "google.ingest", "kind": "status", "status": 503, "times": None})
    world.given(world.action("1"))
    for _ in range(4):
        summary = world.sync()
    assert world.states("google") == {"1": "held"}
    assert any(finding.code == "held" for finding in summary.findings)
    assert world.sync().exit_code == Exit.ATTENTION


def test_what_waited_past_the_window_expires_instead_of_being_sent(world: World) -> None:
    world.platforms = ("vk",)
    world.box.faults.add({"on": "vk.tracker", "kind": "status", "status": 429, "times": None})
    world.given(world.action("1"))
    world.sync()
    world.box.faults.clear()
    world.clock.advance(31 * 86400)
    world.source.actions = []
    world.sync()
    assert world.states("vk") == {"1": "expired"}
    assert world.hits() == {}


def test_an_interrupted_run_records_what_is_on_its_way_and_the_next_one_settles(world: World) -> None:
    world.platforms = ("google",)
    world.batch_rows = {"google": 1}
    world.given(*[world.action(str(n)) for n in range(6)])
    world.timeout = 30
    world.box.faults.add({"on": "google.ingest", "kind": "timeout_after", "times": None, "skip": 2})
    engine = world.engine()
    threading.Timer(0.4, world.stop.set).start()
    summary = engine.sync()
    assert summary.exit_code == Exit.INTERRUPTED
    states = list(world.states("google").values())
    assert states.count("accepted") == 2
    assert "in_flight" not in states
    assert "unknown" in states

    world.box.faults.clear()
    world.stop.clear()
    world.sync()
    assert set(world.states("google").values()) == {"accepted"}
    assert {one["count"] for one in world.conversions().values()} == {1}


def test_a_request_is_not_begun_when_the_lease_could_end_before_the_answer(world: World) -> None:
    world.platforms = ("vk",)
    world.given(world.action("1"))
    engine = world.engine()
    engine._begin("sync")
    engine.uploads.channels[0].lease.until = 0.0
    engine.uploads.renew = lambda channel: None  # type: ignore[method-assign]  # as if it ran out right after being renewed
    engine._read()
    engine.uploads.upload()
    engine._end()
    assert world.hits() == {}
    assert world.states("vk") == {"1": "pending"}
    assert world.rows("vk")[0]["attempts"] == 0


def test_a_run_whose_lease_was_taken_over_records_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped and wakes up after its lease finds that its batch has been settled by another."""
    world.platforms = ("google",)
    world.given(world.action("1"))
    sleeper = world.engine()
    exchange = Wire.exchange

    def overtaken(self: Wire, *args: object, **options: object) -> object:
        reply = exchange(self, *args, **options)  # type: ignore[arg-type]
        if "ingest" in str(args[1]):
            taken.set()
            go_on.wait(5)
        return reply

    taken, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(Wire, "exchange", overtaken)
    collect = Uploads.collect
    monkeypatch.setattr(Uploads, "collect", lambda self: (_take_over(world, taken, go_on), collect(self)))
    with pytest.raises(LedgerBusy):
        sleeper.sync()
    monkeypatch.undo()
    world.sync()
    assert {one["count"] for one in world.conversions().values()} == {1}
    assert world.states("google") == {"1": "accepted"}


def _take_over(world: World, taken: threading.Event, go_on: threading.Event) -> None:
    if taken.is_set() and not go_on.is_set():
        now = int(world.clock.now().timestamp() * 1000)
        world.ledger.claim.lease(1, "another", now=now)
        go_on.set()


def test_an_action_dated_slightly_ahead_waits_and_one_far_ahead_is_skipped(world: World) -> None:
    world.platforms = ("google",)
    world.given(
        world.action("1", occurred_at=world.clock.now() + timedelta(hours=2)),
        world.action("2", occurred_at=world.clock.now() + timedelta(days=3)),
    )
    first = world.sync()
    assert first.taken.skipped == {"in_future": 1}
    assert world.states("google") == {"1": "pending"}
    world.clock.advance(3 * 3600)
    world.sync()
    assert world.states("google") == {"1": "accepted"}


def test_a_dead_run_leaves_doubt_not_certainty(world: World) -> None:
    """What was in flight when the process died may have arrived: on a route that cannot be asked, a person decides."""
    world.platforms = ("vk",)
    world.given(world.action("1"))
    engine = world.engine()
    engine._begin("sync")
    engine._read()
    engine.uploads.claim(engine.uploads.channels[0])
    world.restart()
    summary = world.sync()
    assert world.states("vk") == {"1": "unknown"}
    assert summary.exit_code == Exit.ATTENTION
    assert world.hits() == {}
