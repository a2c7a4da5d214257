"""Looking into the ledger, and deciding about what waits for a person."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from convsync.cli.ledger_decide import _may_be_there
from convsync.ledger import Lock

DESIGN_FIELDS = [
    "key", "revision", "source", "external_id", "action", "destination", "route", "goal", "state", "attempts", "batch",
    "platform_ref", "reason", "occurred_at", "value", "currency", "updated_at",
]  # fmt: skip


@pytest.fixture
def sent(shop: Any) -> Any:
    shop.three()
    shop.run("sync")
    return shop


@pytest.fixture
def doubtful(shop: Any) -> Any:
    """One call to VK whose answer was lost."""
    shop.row("2")
    shop.box.faults.add(on="vk.tracker", kind="reset_after")
    shop.run("sync")
    shop.box.faults.clear()
    return shop


# -- looking


@pytest.mark.parametrize("args", [("list",), ("show", "shop/1"), ("stats",), ("verify",)])
def test_without_a_ledger_it_says_how_to_get_one(shop: Any, args: tuple[str, ...]) -> None:
    result = shop.run("ledger", *args)
    assert result.exit_code == 2
    assert "There is no ledger" in result.stderr
    assert not shop.ledger.exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--destination", "gogle"), "Did you mean google?"),
        (("--action", "sail"), "Did you mean sale?"),
        (("--source", "shp"), "Did you mean shop?"),
        (("--state", "send"), "is not one of"),
        (("--skipped", "--bad-rows"), "two different lists"),
        (("--skipped", "--state", "held"), "does not apply to --skipped"),
        (("--since", "2026-11-31"), "is not a day"),
    ],
)
def test_a_misspelled_name_is_not_an_empty_list(sent: Any, args: tuple[str, ...], said: str) -> None:
    result = sent.run("ledger", "list", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_list_json_has_exactly_the_fields_of_the_design(sent: Any) -> None:
    rows = sent.rows()
    assert len(rows) == 8
    assert all(list(row) == DESIGN_FIELDS for row in rows)


def test_list_filters_by_state_destination_action_and_reason(sent: Any) -> None:
    assert len(sent.rows("--destination", "vk")) == 2
    assert len(sent.rows("--action", "lead")) == 2
    assert len(sent.rows("--state", "confirmed", "--state", "accepted")) == 8
    assert len(sent.rows("--state", "held")) == 0
    assert len(sent.rows("--since", "2026-01-01", "--until", "2026-01-02")) == 0


def test_list_says_which_of_two_doors_a_row_went_through(shop: Any) -> None:
    lead = 'yandex = { status = "IN_PROGRESS" }'
    shop.configure(lambda text: text.replace(lead, 'yandex = { goal = "crm_lead" }'))
    shop.three()
    shop.run("sync")
    lines = shop.run("ledger", "list", "--destination", "yandex").stdout.splitlines()[1:]
    assert [("yandex (conversions)" in line, "shop/1" in line) for line in lines] == [
        (True, True), (False, False), (False, False)
    ]  # fmt: skip
    assert {row["destination"] for row in shop.rows("--destination", "yandex")} == {"yandex"}


def test_list_says_when_there_is_more(sent: Any) -> None:
    result = sent.run("ledger", "list", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert "more than 2" in result.stderr
    assert "more than" not in sent.run("ledger", "list", "--limit", "8").stderr


def test_skips_and_bad_rows_are_listed_with_their_reasons(shop: Any) -> None:
    shop.three()
    shop.row("4", "call")
    shop.row("5", occurred_at="no time")
    shop.run("sync")
    skipped = shop.run("ledger", "list", "--skipped")
    assert "shop/4" in skipped.stdout
    assert "no [actions.*] section" in skipped.stdout
    bad = [json.loads(line) for line in shop.run("ledger", "list", "--bad-rows", "--json").stdout.splitlines()]
    assert [(row["source"], row["field"]) for row in bad] == [("shop", "occurred_at")]


def test_show_tells_the_life_at_every_destination(sent: Any) -> None:
    result = sent.run("ledger", "show", "shop/2")
    assert result.exit_code == 0
    for sentence in ("sale → google", "sale → yandex: accepted", "sale → vk: accepted", "read from shop", "row 1 of"):
        assert sentence in result.stdout
    lead = sent.run("ledger", "show", "shop/1").stdout
    assert "It is not sent to vk" in lead


def test_show_takes_the_first_digits_of_a_key(sent: Any) -> None:
    row = sent.rows()[0]
    told = json.loads(sent.run("ledger", "show", row["key"][:12], "--json").stdout)
    assert (told["key"], told["state"]) == (row["key"], row["state"])


@pytest.mark.parametrize("what", ["zz", "shop/9", "0123456789abcdef"])
def test_show_of_an_unknown_key_exits_2(sent: Any, what: str) -> None:
    result = sent.run("ledger", "show", what)
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr


def test_stats_count_what_list_lists(sent: Any) -> None:
    told = json.loads(sent.run("ledger", "stats", "--json").stdout)
    assert told["deliveries"] == 8
    assert told["destinations"]["vk"] == {"accepted": 2}
    assert told["last_run"]["command"] == "sync"
    text = sent.run("ledger", "stats").stdout
    assert "3 actions, 8 deliveries, 1 run" in text


# -- verifying


def test_verify_says_what_it_checked(sent: Any) -> None:
    result = sent.run("ledger", "verify")
    assert result.exit_code == 0
    assert "ok       history is chained" in result.stdout
    assert "promises are kept" in result.stdout


def test_a_state_changed_behind_its_back_exits_5(sent: Any) -> None:
    _behind_its_back(sent, "UPDATE delivery SET state = 'confirmed' WHERE state = 'accepted'")
    result = sent.run("ledger", "verify", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 5
    assert {one["code"] for one in told["findings"]} == {"states_follow_from_history"}
    assert "Broken: 1 of" in sent.run("ledger", "verify").stdout
    _behind_its_back(sent, "UPDATE delivery SET state = 'accepted' WHERE destination_id <> 1")


def test_a_head_of_another_history_exits_5(sent: Any) -> None:
    head = json.loads(sent.run("ledger", "verify", "--json").stdout)["head"]
    assert sent.run("ledger", "verify", "--expect", head).exit_code == 0
    number = head.partition(":")[0]
    assert sent.run("ledger", "verify", "--expect", f"{number}:{'0' * 32}").exit_code == 5
    assert sent.run("ledger", "verify", "--expect", "999999:ab").exit_code == 5
    assert sent.run("ledger", "verify", "--expect", "latest").exit_code == 2


def test_the_head_that_a_run_printed_is_still_there_later(sent: Any) -> None:
    sent.row("9")
    head = json.loads(sent.run("sync", "--json").stdout)["head"]
    sent.row("10")
    sent.run("sync")
    assert sent.run("ledger", "verify", "--expect", head).exit_code == 0


def _behind_its_back(shop: Any, statement: str) -> None:
    with closing(sqlite3.connect(shop.ledger)) as store, store:
        store.execute(statement)


# -- deciding


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Say which deliveries"),
        (("--state", "unknown"), "--state needs --destination"),
        (("--state", "held", "--destination", "vk"), "Nothing in the ledger fits"),
        (("0123456789abcdef",), "has no key"),
        (("shop/9",), "has no key"),
    ],
)
def test_a_decision_about_nothing_exits_2(doubtful: Any, args: tuple[str, ...], said: str) -> None:
    result = doubtful.run("ledger", "resolve", *args, "--as", "sent", "--why", "seen")
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_decision_needs_a_reason(doubtful: Any) -> None:
    args = ("ledger", "resolve", "--state", "unknown", "--destination", "vk", "--as", "sent")
    assert doubtful.run(*args).exit_code == 2
    assert doubtful.run(*args, "--why", " ").exit_code == 2


def test_what_is_accepted_is_not_for_a_person_to_decide(sent: Any) -> None:
    key = sent.rows("--destination", "vk")[0]["key"]
    result = sent.run("ledger", "resolve", key, "--as", "give-up", "--why", "no")
    assert result.exit_code == 2
    assert "is accepted: nothing to decide" in result.stderr


def test_a_decision_waits_for_no_running_sync(doubtful: Any) -> None:
    lock = Lock(doubtful.ledger)
    lock.take()
    try:
        key = doubtful.rows("--state", "unknown")[0]["key"]
        assert doubtful.run("ledger", "resolve", key, "--as", "sent", "--why", "seen").exit_code == 4
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("state", "request_state", "reached", "on_unknown", "identities", "twice"),
    [
        ("unknown", "unknown", 2, "hold", "", True),
        ("unknown", "unknown", 2, "ask", "distinct", True),
        ("unknown", "unknown", 2, "ask", "fixed", False),
        ("unknown", "unknown", 2, "resend", "", False),
        ("held", "done", 2, "ask", "distinct", True),
        ("held", "done", 0, "ask", "distinct", False),
        ("refused", "unknown", 0, "hold", "", True),
        ("refused", "done", 0, "hold", "", False),
        ("held", None, 0, "hold", "", False),
    ],
)
def test_a_repeat_counts_twice_where_it_may_be_there_and_cannot_be_recognised(
    state: str, request_state: str | None, reached: int, on_unknown: str, identities: str, twice: bool
) -> None:
    row = {"state": state, "request": request_state, "reached": reached}
    assert _may_be_there(row | {"on_unknown": on_unknown, "identities": identities}) is twice


def test_a_dry_run_of_sending_again_says_that_a_yes_will_be_asked_for(doubtful: Any) -> None:
    args = ("ledger", "resolve", "--state", "unknown", "--destination", "vk", "--why", "mended", "--dry-run", "--as")
    told = doubtful.run(*args, "send-again").stdout
    assert "they may count twice" in told
    assert "It will ask for --yes." in told
    assert "--yes" not in doubtful.run(*args, "send-again", "--yes").stdout + doubtful.run(*args, "sent").stdout


def test_sending_again_what_may_count_twice_needs_a_yes(doubtful: Any) -> None:
    key = doubtful.rows("--state", "unknown")[0]["key"]
    args = ("ledger", "resolve", key, "--as", "send-again", "--why", "not in the statistics")
    result = doubtful.run(*args)
    assert result.exit_code == 2
    assert "may count twice" in result.stderr
    assert doubtful.states("vk") == {"2": "unknown"}
    assert doubtful.run(*args, "--yes").exit_code == 0
    assert doubtful.states("vk") == {"2": "pending"}
    assert doubtful.run("sync").exit_code == 0
    assert doubtful.states("vk") == {"2": "accepted"}


def test_what_arrived_is_counted_as_sent_and_the_person_is_remembered(doubtful: Any) -> None:
    result = doubtful.run(
        "ledger", "resolve", "--state", "unknown", "--destination", "vk", "--as", "sent", "--why", "seen\nin VK"
    )
    assert result.exit_code == 0
    assert "1 delivery to count as sent" in result.stdout
    assert doubtful.states("vk") == {"2": "accepted"}
    story = doubtful.run("ledger", "show", "shop/2").stdout
    assert "it became accepted: a person: seen in VK (who: " in story
    assert doubtful.run("sync").exit_code == 0


def test_a_rehearsed_decision_changes_nothing(doubtful: Any) -> None:
    result = doubtful.run(
        "ledger",
        "resolve",
        "--state",
        "unknown",
        "--destination",
        "vk",
        "--as",
        "give-up",
        "--why",
        "x",
        "--dry-run",
        "--json",
    )
    told = json.loads(result.stdout)
    assert (told["dry_run"], told["moved"], len(told["deliveries"])) == (True, 0, 1)
    assert doubtful.states("vk") == {"2": "unknown"}


def test_what_is_given_up_is_never_sent(doubtful: Any) -> None:
    doubtful.run("ledger", "resolve", "shop/2", "--destination", "vk", "--as", "give-up", "--why", "outage")
    assert doubtful.states("vk") == {"2": "refused"}
    assert doubtful.run("sync").exit_code == 0
    assert doubtful.box.books()["vk"]["totals"]["hits"] == 1


@pytest.mark.parametrize("command", [("resolve", "--as", "send-again", "--why", "mended"), ("retry",)])
def test_what_was_given_up_in_doubt_may_count_twice_as_well(doubtful: Any, command: tuple[str, ...]) -> None:
    doubtful.run("ledger", "resolve", "shop/2", "--destination", "vk", "--as", "give-up", "--why", "outage")
    args = ("ledger", *command, "--state", "refused", "--destination", "vk")
    result = doubtful.run(*args)
    assert (result.exit_code, doubtful.states("vk")) == (2, {"2": "refused"})
    assert "1 of these may have arrived" in result.stderr
    assert doubtful.run(*args, "--yes").exit_code == 0
    assert doubtful.states("vk") == {"2": "pending"}


def test_what_was_refused_goes_again_once_it_is_mended(shop: Any) -> None:
    shop.row("2", gclid="fate-INVALID_GCLID-2")
    shop.run("sync")
    args = ("ledger", "retry", "--state", "refused", "--destination", "google")
    assert shop.run(*args, "--reason", "nothing like it").exit_code == 2
    assert shop.run(*args, "--reason", "gclid").exit_code == 0
    assert shop.states("google") == {"2": "pending"}
    assert shop.run("sync").exit_code == 1


def test_verify_beside_a_running_sync_looks_at_one_moment(shop: Any) -> None:
    for number in range(12):
        shop.row(str(number))
    shop.box.faults.add(on="vk.tracker", kind="slow", seconds=0.3, times=None)
    run = shop.start("sync")
    shop.wait_for("in_flight")
    assert shop.run("ledger", "verify").exit_code == 0
    run.communicate(timeout=20)


def test_an_endless_or_hostile_id_leaves_the_terminal_in_order(shop: Any) -> None:
    shop.row("x" * 500)
    shop.row("esc\x1b[31m\x07\nnext")
    shop.run("sync")
    listed = shop.run("ledger", "list").stdout
    assert max(map(len, listed.splitlines())) < 200
    assert "…" in listed
    told = shop.run("ledger", "show", "shop/esc\x1b[31m\x07\nnext").stdout
    assert told.startswith("shop/esc\ufffd[31m\ufffd\ufffdnext sale")
    assert "\x07" not in listed + told
    assert shop.rows("--destination", "vk")[0]["external_id"] == "x" * 500
