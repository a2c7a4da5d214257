"""What a run does: each scenario looks into the ledger and into the emulator, and ends with a verified ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

import worlds
from convsync.config.action import GoogleTarget
from convsync.destinations.yandex import Orders
from convsync.errors import Exit
from convsync.ledger import Patience
from convsync.model import BadRow
from convsync.sources import Window
from worlds import World


def test_a_platform_that_is_down_loses_nothing_and_does_not_stop_the_others(world: World) -> None:
    world.given(world.action("1"), world.action("2"))
    world.box.faults.add({"on": "google.ingest", "kind": "status", "status": 503, "times": None})
    down = world.sync()
    assert down.exit_code == Exit.UNFINISHED
    assert set(world.states("yandex").values()) == {"accepted"}
    assert set(world.states("vk").values()) == {"accepted"}
    assert world.conversions() == {}

    world.box.faults.clear()
    world.sync()
    assert {gclid: one["count"] for gclid, one in world.conversions().items()} == {"Cj0KCQ-1": 1, "Cj0KCQ-2": 1}


def test_a_bad_token_stops_one_account_with_advice_and_its_rows_go_out_once_it_is_mended(world: World) -> None:
    world.given(world.action("1"), world.action("2"))
    world.token = "revoked"
    refused = world.sync()
    assert refused.exit_code == Exit.USAGE
    finding = next(one for one in refused.findings if "yandex" in one.where)
    assert finding.advice
    assert world.states("yandex") == {"1": "pending", "2": "pending"}
    assert [row["attempts"] for row in world.rows("yandex")] == [0, 0], "no attempt is burnt"
    assert len(world.conversions()) == 2

    world.token = "sandbox-token"
    assert world.sync().exit_code == Exit.OK
    assert set(world.orders()) == {"order-1", "order-2"}


def test_an_answer_lost_after_it_was_applied_is_settled_and_counts_once_at_google_and_yandex(world: World) -> None:
    world.given(world.action("1"), world.action("2"))
    world.box.faults.add({"on": "google.ingest", "kind": "reset_after"})
    world.box.faults.add({"on": "yandex.orders", "kind": "reset_after"})
    world.sync()
    assert {gclid: one["count"] for gclid, one in world.conversions().items()} == {"Cj0KCQ-1": 1, "Cj0KCQ-2": 1}
    assert world.box.books()["google"]["totals"]["rows"]["accepted"] == 4, "it was sent again, as the route allows"
    assert {order: one["revenue"] for order, one in world.orders().items()} == {
        "order-1": "100",
        "order-2": "100",
    }
    assert set(world.states("google").values()) == {"accepted"}
    assert set(world.states("yandex").values()) == {"accepted"}


def test_a_pixel_hit_without_an_answer_is_listed_as_unknown_and_never_sent_again(world: World) -> None:
    world.given(world.action("1"), world.action("2"), world.action("3"))
    world.platforms = ("vk",)
    world.box.faults.add({"on": "vk.tracker", "kind": "reset_after", "times": 1})
    first = world.sync()
    assert first.exit_code == Exit.ATTENTION
    assert sorted(world.states("vk").values()) == ["accepted", "accepted", "unknown"]
    assert any(finding.code == "unknown" and "ledger list" in finding.advice for finding in first.findings)

    again = world.sync()
    assert again.exit_code == Exit.ATTENTION, "it still waits for a person"
    assert world.hits() == {"rb-1": 1, "rb-2": 1, "rb-3": 1}


def test_a_route_told_to_retry_sends_a_doubtful_hit_again(world: World) -> None:
    world.given(world.action("1"))
    world.platforms, world.on_ambiguous = ("vk",), "retry"
    world.box.faults.add({"on": "vk.tracker", "kind": "reset_after", "times": 1})
    world.sync()
    assert world.states("vk") == {"1": "accepted"}
    assert world.hits() == {"rb-1": 2}, "the price of retrying on a platform that cannot drop repeats"


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_bad_rows_among_many_are_found_whether_google_names_them_or_not(world: World, named: bool) -> None:
    world.platforms = ("google",)
    world.box.config.google.future_named = named
    world.box.config.google.future_tolerance_s = -7200  # whatever is younger than two hours is refused
    young, old = world.clock.now() - timedelta(hours=1), world.clock.now() - timedelta(hours=3)
    world.source.page = 100
    world.given(*[world.action(str(n), occurred_at=young if n in (0, 13, 14, 39) else old) for n in range(40)])
    summary = world.sync()
    assert summary.exit_code == Exit.ATTENTION
    assert {name for name, state in world.states("google").items() if state == "refused"} == {"0", "13", "14", "39"}
    assert summary.destinations["google"]["accepted"] == 36
    assert {one["count"] for one in world.conversions().values()} == {1}
    assert all(row["reason"] for row in world.rows("google") if row["state"] == "refused")


def test_a_second_run_sends_nothing_and_changes_nothing(world: World) -> None:
    world.given(world.action("1"), world.action("2", "lead"), world.action("3", "lead"), world.action("4"))
    first = world.sync()
    assert (first.taken.read, first.taken.new, first.exit_code) == (4, 4, Exit.OK)
    requests = world.box.books()["requests"]
    before = list(world.ledger.audit.deliveries())

    second = world.sync()
    assert (second.taken.read, second.taken.new, second.taken.revised) == (4, 0, 0)
    assert sum(counts.total() for counts in second.destinations.values()) == 0
    assert world.box.books()["requests"] == requests
    assert list(world.ledger.audit.deliveries()) == before
    assert second.head == first.head


def test_each_platform_counts_each_action_once_with_its_value(world: World) -> None:
    world.given(world.action("1", value=Decimal("1299.90")), world.action("2", "lead"))
    world.sync()
    counted = world.conversions()
    assert (counted["Cj0KCQ-1"]["count"], counted["Cj0KCQ-1"]["value"], counted["Cj0KCQ-1"]["currency"]) == (
        1,
        "1299.9",
        "RUB",
    )
    assert world.orders()["order-1"]["revenue"] == "1299.9"
    assert world.hits() == {"rb-1": 1, "rb-2": 1}
    settled = world.settle_everything()
    assert settled.destinations["google"]["confirmed"] == 2
    assert set(world.states("google").values()) == {"confirmed"}
    assert set(world.states("yandex").values()) == {"accepted"}, "no verdict per order is ever given"


def test_a_changed_value_and_a_refund_adjust_the_same_conversion(world: World) -> None:
    sale = world.action("1", updated_at=world.clock.now())
    world.given(sale)
    world.sync()
    world.given(sale._replace(value=Decimal("80.00"), updated_at=world.clock.now() + timedelta(minutes=1)))
    changed = world.sync()
    assert changed.taken.revised == 1
    assert world.conversions()["Cj0KCQ-1"]["values"] == ["100", "80"]
    assert world.orders()["order-1"]["revenue"] == "80"

    refund = {"status": "refunded", "updated_at": world.clock.now() + timedelta(minutes=2)}
    world.given(sale._replace(value=Decimal("80.00"), **refund))
    world.sync()
    counted = world.conversions()["Cj0KCQ-1"]
    assert (counted["count"], counted["values"]) == (1, ["100", "80", "0"])
    order = world.orders()["order-1"]
    assert (order["status"], order["revenue"]) == ("CANCELLED", "0")
    assert world.hits() == {"rb-1": 1}, "VK cannot take a hit back"
    assert {row["revision"] for row in world.rows("google")} == {1, 2, 3}


def test_an_older_state_read_late_changes_nothing(world: World) -> None:
    new = world.action("1", value=Decimal(80), updated_at=world.clock.now())
    world.given(new)
    world.sync()
    world.given(new._replace(value=Decimal(100), updated_at=world.clock.now() - timedelta(hours=1)))
    assert world.sync().taken.revised == 0
    assert world.conversions()["Cj0KCQ-1"]["values"] == ["80"]


def test_a_sale_and_its_lead_new_in_one_run_reach_yandex_in_the_order_of_life(world: World) -> None:
    lead = world.action("L", "lead", order_id="deal-7", occurred_at=world.clock.now() - timedelta(days=3))
    sale = world.action("S", "sale", order_id="deal-7")
    world.given(sale, lead)
    world.sync()
    versions = [version["status"] for version in world.orders()["deal-7"]["versions"]]
    assert versions == ["IN_PROGRESS", "PAID"]
    assert world.box.books()["yandex"]["totals"]["uploads"] == 2, "never two rows of one order in a file"


def test_a_lead_that_comes_to_light_after_its_sale_never_turns_the_order_back(world: World) -> None:
    lead = world.action("L", "lead", order_id="deal-7", occurred_at=world.clock.now() - timedelta(days=3))
    sale = world.action("S", "sale", order_id="deal-7")
    world.given(sale)
    world.sync()
    world.given(sale, lead)
    late = world.sync()
    assert late.taken.skipped["stale"] == 1
    assert [version["status"] for version in world.orders()["deal-7"]["versions"]] == ["PAID"]


def test_what_was_cancelled_before_it_was_sent_is_never_sent(world: World) -> None:
    sale = world.action("1")
    world.given(sale, world.action("2", status="cancelled"))
    world.box.faults.add({"on": "*", "kind": "status", "status": 429, "times": None})
    world.sync()
    world.box.faults.clear()
    world.given(sale._replace(status="cancelled"))
    world.clock.advance(25 * 3600)
    world.ledger.store.conn.execute("SELECT 1")
    world.sync()
    assert world.hits() == {}


def test_an_action_that_gains_an_identifier_later_is_sent_then(world: World) -> None:
    bare = {"gclid": None, "ym_client_id": None, "rb_clickid": None}
    world.given(world.action("1", **bare))
    first = world.sync()
    assert first.taken.skipped["no_identifier"] == 3
    world.given(world.action("1", **bare | {"gclid": "Cj0KCQ-late"}))
    world.sync()
    assert world.conversions()["Cj0KCQ-late"]["count"] == 1
    assert world.states("google") == {"1": "accepted"}


def test_a_backfill_sends_nothing_twice_and_leaves_the_cursor_alone(world: World) -> None:
    world.given(world.action("1"), world.action("2"))
    world.sync()
    marks = world.ledger.plan.marks("shop")
    world.given(world.action("1"), world.action("2"), world.action("3"))
    window = Window(world.clock.now() - timedelta(days=7), world.clock.now())
    filled = world.engine().backfill(window)
    assert (filled.taken.read, filled.taken.new) == (3, 1)
    assert world.ledger.plan.marks("shop") == marks
    assert {one["count"] for one in world.conversions().values()} == {1}
    assert set(world.hits().values()) == {1}


def test_a_dry_run_shows_what_would_be_sent_and_keeps_nothing(world: World) -> None:
    world.given(world.action("1"), world.action("2"))
    world.sync()
    before = list(world.ledger.store.conn.iterdump())
    world.given(world.action("1", value=Decimal(5)), world.action("3"))
    requests = world.box.books()["requests"].get("google.ingest")
    shown: dict[str, list[object]] = {}
    dry = world.engine().rehearse(lambda name, rows: shown.setdefault(name, []).extend(rows))
    assert (dry.dry_run, dry.taken.new, dry.taken.revised) == (True, 1, 1)
    assert {name: len(rows) for name, rows in shown.items()} == {"google": 2, "yandex": 2, "vk": 1}
    assert world.box.books()["requests"].get("google.ingest") == requests
    assert list(world.ledger.store.conn.iterdump()) == before


def test_the_sums_always_add_up(world: World) -> None:
    world.given(*[world.action(str(n)) for n in range(9)], world.action("x", "unheard"))
    world.box.faults.add({"on": "vk.tracker", "kind": "timeout_after", "rate": 0.5, "times": None})
    world.timeout = 0.2
    summary = world.sync()
    assert summary.taken.read == summary.taken.new == 10
    stats = world.ledger.audit.stats()
    assert all(sum(states.values()) == 9 for states in stats["destinations"].values())
    assert stats["skipped"] == {"unknown_action": 1}
    hits = world.hits()
    unknown = [name for name, state in world.states("vk").items() if state == "unknown"]
    assert sum(hits.values()) <= 9
    assert set(hits.values()) <= {1}
    assert (
        len(unknown)
        + list(world.states("vk").values()).count("accepted")
        + list(world.states("vk").values()).count("pending")
        == 9
    )


def test_a_refused_row_goes_out_again_once_its_source_is_corrected(world: World) -> None:
    world.platforms = ("google",)
    world.given(world.action("1", gclid="fate-INVALID_GCLID-1"), world.action("2", gclid="fate-CLICK_NOT_FOUND-2"))
    world.sync()
    world.settle_everything()
    assert world.states("google") == {"1": "refused", "2": "unmatched"}
    assert world.sync().destinations["google"]["claimed"] == 0, "nothing has changed"
    world.given(world.action("1", gclid="Cj0KCQ-mended"), world.action("2", gclid="fate-CLICK_NOT_FOUND-2"))
    world.sync()
    world.settle_everything()
    assert world.states("google") == {"1": "confirmed", "2": "unmatched"}
    assert world.conversions()["Cj0KCQ-mended"]["count"] == 1


def test_a_bad_row_is_told_once_however_often_it_is_read_again(world: World) -> None:
    world.given(world.action("1"))
    world.source.bad = [BadRow("shop", "row id 7 of source shop", "value", "is not a number", "Write 12.50.")]
    first, second = world.sync(), world.sync()
    assert (first.exit_code, first.taken.skipped["bad_row"]) == (Exit.ATTENTION, 1)
    assert (second.exit_code, second.taken.skipped["bad_row"]) == (Exit.OK, 0)
    assert [row["place"] for row in world.ledger.audit.bad_rows()] == ["row id 7 of source shop"]


def test_two_changes_of_a_sent_action_in_one_page_end_with_the_last(world: World) -> None:
    deal = world.action("D")
    world.given(deal)
    world.sync()
    world.given(deal._replace(value=Decimal(200)), deal._replace(value=Decimal(300)))
    assert world.sync().exit_code == Exit.OK
    assert world.conversions()["Cj0KCQ-D"]["values"] == ["100", "300"]
    assert world.orders()["order-D"]["revenue"] == "300"


def test_a_request_that_cannot_be_built_stops_one_destination_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Orders, payloads: object, token: str) -> bytes:
        raise ValueError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(Orders, "encode", broken)
        world.given(world.action("1"))
        assert world.sync().exit_code == Exit.UNFINISHED
    assert world.states("google") == {"1": "accepted"}
    assert world.states("yandex") == {"1": "pending"}
    assert [row["attempts"] for row in world.rows("yandex")] == [0]
    world.sync()
    assert world.states("yandex") == {"1": "accepted"}


def test_a_wrong_conversion_action_is_mended_by_naming_the_right_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the wrong one must not stand in the way of everything after it."""
    world.platforms = ("google",)
    world.given(world.action("1"))
    with monkeypatch.context() as mistaken:
        mistaken.setitem(worlds.TARGETS, "google", lambda action: GoogleTarget(conversion_action="7777777777"))
        assert world.sync().exit_code == Exit.USAGE
    world.given(world.action("2"))
    mended = world.sync()
    assert world.states("google") == {"1": "superseded", "2": "accepted"}
    assert any(finding.code == "goal_gone" and "backfill" in finding.advice for finding in mended.findings)
    world.given(world.action("1"), world.action("2"))
    world.engine().backfill(Window(world.clock.now() - timedelta(days=7), world.clock.now()))
    assert {one["count"] for one in world.conversions().values()} == {1}
    assert set(world.conversions()) == {"Cj0KCQ-1", "Cj0KCQ-2"}


def test_an_outage_of_days_holds_nothing(world: World) -> None:
    """A connection that is refused is not an attempt: however long it lasts, the rows stay due."""
    world.platforms = ("google",)
    world.patience = Patience(max_attempts=2, first_wait=0)
    world.given(world.action("1"))
    url, world.box_url = world.box.url, "http://127.0.0.1:1"
    for _ in range(4):
        assert world.sync().exit_code == Exit.UNFINISHED
        world.clock.advance(86_400)
    world.box_url = url
    world.sync()
    assert world.states("google") == {"1": "accepted"}
