"""sync, backfill and settle: what they do when things go wrong, and what they print and return when they do not."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from convsync.ledger import Lock

DESIGN_FIELDS = {
    "run_id", "command", "dry_run", "started_at", "finished_at", "read", "new", "revised", "skipped", "destinations",
    "findings", "exit_code",
}  # fmt: skip
COUNTS = {
    "claimed", "accepted", "confirmed", "refused", "unmatched", "later", "unknown", "held", "expired", "superseded",
    "in_flight", "already_there",
}  # fmt: skip


# -- what goes wrong


def test_a_missing_configuration_is_named_and_exits_2(shop: Any) -> None:
    shop.path.unlink()
    result = shop.run("sync")
    assert result.exit_code == 2
    assert "there is no such configuration file" in result.stderr
    assert "convsync init" in result.stderr


def test_an_unknown_key_names_its_line_and_the_nearest_known_one(shop: Any) -> None:
    shop.configure(lambda text: text.replace("timezone =", "timezon =", 1))
    result = shop.run("sync")
    assert result.exit_code == 2
    assert "convsync.toml:1" in result.stderr
    assert "Did you mean timezone?" in result.stderr
    assert not shop.ledger.exists()


def test_empty_credentials_stop_sync_before_anything_is_read(shop: Any) -> None:
    shop.three()
    shop.configure(lambda text: text.replace('token = "sandbox-token"', 'token = ""'))
    result = shop.run("sync")
    assert result.exit_code == 2
    assert "CONVSYNC_DESTINATIONS__YANDEX__TOKEN" in result.stderr
    assert not shop.ledger.exists()


def test_credentials_are_asked_only_of_the_destination_that_is_sent_to(shop: Any) -> None:
    shop.three()
    shop.configure(lambda text: text.replace('token = "sandbox-token"', 'token = ""'))
    assert shop.run("sync", "--destination", "vk").exit_code == 0
    assert shop.states("vk") == {"2": "accepted", "3": "accepted"}
    assert set(shop.states("yandex").values()) == {"pending"}


def test_a_locked_ledger_exits_4_and_names_the_holder(shop: Any) -> None:
    shop.three()
    lock = Lock(shop.ledger)
    lock.take()
    try:
        result = shop.run("sync", "--json")
    finally:
        lock.release()
    assert result.exit_code == 4
    assert "Another run holds this ledger: pid" in result.stderr
    assert json.loads(result.stdout)["exit_code"] == 4


def test_a_platform_that_is_not_to_be_had_exits_3_and_loses_nothing(shop: Any) -> None:
    shop.three()
    shop.configure(url="http://127.0.0.1:9")
    result = shop.run("sync", "--deadline", "1s")
    assert result.exit_code == 3
    assert "the next run continues" in result.stdout
    assert set(shop.states("google").values()) == {"pending"}
    shop.configure()
    assert shop.run("sync").exit_code == 0
    assert set(shop.states("yandex").values()) == {"accepted"}


def test_a_source_that_is_not_to_be_had_exits_3(shop: Any) -> None:
    (shop.folder / "shop.db").unlink()
    result = shop.run("sync")
    assert result.exit_code == 3
    assert "there is no database shop.db" in result.stderr


def test_a_wrong_token_stops_that_destination_alone_and_exits_2(shop: Any) -> None:
    shop.three()
    shop.configure(lambda text: text.replace("sandbox-token", "another-token"))
    result = shop.run("sync")
    assert result.exit_code == 2
    assert "another-token" not in result.output + result.stderr
    assert set(shop.states("vk").values()) == {"accepted"}
    assert set(shop.states("yandex").values()) == {"pending"}


def test_refused_rows_exit_1_and_the_summary_says_where_to_look(shop: Any) -> None:
    shop.three()
    shop.row("4", gclid="fate-INVALID_GCLID-4")
    result = shop.run("sync")
    assert result.exit_code == 1
    assert "convsync ledger list --destination google --state refused" in result.stderr
    assert shop.states("google")["4"] == "refused"


def test_what_waited_too_long_is_told_with_where_to_look(shop: Any) -> None:
    shop.three()
    shop.run("sync", "--destination", "vk")
    shop.configure(lambda text: text.replace('token = "sandbox-token"', 'token = "sandbox-token"\nlink_window = "1m"'))
    result = shop.run("sync", "--destination", "yandex")
    assert "yandex: 3 were too late to be sent. Which and why: convsync ledger list" in result.stdout
    assert set(shop.states("yandex").values()) == {"expired"}


def test_bad_rows_exit_1_and_hold_up_nobody(shop: Any) -> None:
    shop.three()
    shop.row("4", occurred_at="yesterday")
    result = shop.run("sync")
    assert result.exit_code == 1
    assert "row id 4 of source shop" in result.stderr
    assert "Unreadable: 1 row" in result.stdout
    assert shop.states("vk") == {"2": "accepted", "3": "accepted"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--since", "22.11.2026", "--until", "2026-11-22"), "is not a day"),
        (("--since", "2026-13-01", "--until", "2026-11-22"), "is not a day"),
        (("--since", "2026-11-22", "--until", "2026-11-21"), "--until lies before --since"),
        (("--since", "2026-11-22"), "Missing option '--until'"),
        (("--since", "2026-11-21", "--until", "2026-11-22", "--action", "sail"), "Did you mean sale?"),
        (("--since", "2026-11-21", "--until", "2026-11-22", "--destination", "gogle"), "Did you mean google?"),
    ],
)
def test_what_cannot_be_meant_exits_2_with_a_way_out(shop: Any, args: tuple[str, ...], said: str) -> None:
    result = shop.run("backfill", *args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_sigterm_lets_answers_in_flight_come_in_and_exits_130(shop: Any) -> None:
    for number in range(12):
        shop.row(str(number))
    shop.box.faults.add(on="vk.tracker", kind="slow", seconds=0.7, times=None)
    run = shop.start("sync")
    shop.wait_for("in_flight")
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=20)
    assert run.returncode == 130, err
    assert "stopping" in err
    assert "the next run settles" in out
    assert "in_flight" not in shop.states("vk").values()
    shop.box.faults.clear()
    assert shop.run("sync").exit_code == 0
    assert set(shop.states("vk").values()) == {"accepted"}
    assert shop.box.books()["vk"]["totals"]["hits"] == 12


def test_a_second_signal_ends_at_once_and_the_next_run_settles(shop: Any) -> None:
    shop.three()
    shop.box.faults.add(on="yandex.orders", kind="timeout_after", times=1)
    run = shop.start("sync", "--destination", "yandex")
    shop.wait_for("in_flight")
    run.send_signal(signal.SIGINT)
    run.stderr.readline()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=5)
    assert run.returncode == 130
    assert set(shop.states("yandex").values()) == {"in_flight"}
    assert shop.run("sync", "--destination", "yandex").exit_code == 0
    assert set(shop.states("yandex").values()) == {"accepted"}


def test_a_lost_answer_at_vk_waits_for_a_person_and_exits_1(shop: Any) -> None:
    shop.row("2")
    shop.box.faults.add(on="vk.tracker", kind="reset_after")
    result = shop.run("sync")
    assert result.exit_code == 1
    assert "1 conversion is in doubt" in result.stderr
    assert shop.states("vk") == {"2": "unknown"}


# -- what goes well


def test_a_first_run_tells_what_was_read_and_sent(shop: Any) -> None:
    shop.three()
    result = shop.run("sync")
    assert result.exit_code == 0, result.stderr
    assert "Read 3 actions from 1 source: 3 new." in result.stdout
    assert result.stdout.rstrip().endswith("Done. Nothing needs a person.")
    assert result.stderr == ""


def test_a_run_with_nothing_to_do_prints_one_line(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    result = shop.run("sync")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Nothing to do: 3 actions read again and known already, nothing to send, no verdict due.\n"


def test_quiet_prints_nothing_when_nothing_needs_a_person(shop: Any) -> None:
    shop.three()
    result = shop.run("-q", "sync")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_json_is_one_object_with_the_fields_of_the_design(shop: Any) -> None:
    shop.three()
    told = json.loads(shop.run("sync", "--json").stdout)
    assert set(told) >= DESIGN_FIELDS
    assert (told["command"], told["read"], told["new"], told["exit_code"]) == ("sync", 3, 3, 0)
    assert set(told["destinations"]) == {"google", "yandex", "vk"}
    assert set(told["destinations"]["vk"]) == COUNTS
    assert told["skipped"] == {"not_mapped": 1}


def test_a_refund_goes_out_as_a_change_and_counts_nothing_new(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    shop.row("3", value="250.50", status="refunded")
    told = json.loads(shop.run("sync", "--json").stdout)
    assert (told["new"], told["revised"]) == (0, 1)
    assert [row["revision"] for row in shop.rows("--destination", "google") if row["external_id"] == "3"] == [1, 2]
    assert shop.box.books()["totals"]["google"]["conversions"] == 3


def test_sending_to_one_destination_leaves_the_others_planned(shop: Any) -> None:
    shop.three()
    assert shop.run("sync", "--destination", "vk").exit_code == 0
    assert set(shop.states("google").values()) == {"pending"}
    assert shop.run("sync").exit_code == 0
    assert "pending" not in shop.states("google").values()


def test_a_dry_run_shows_exactly_what_would_leave_and_keeps_nothing(shop: Any) -> None:
    shop.three()
    target = shop.folder / "payloads.jsonl"
    result = shop.run("sync", "--dry-run", "--payloads", str(target))
    assert result.exit_code == 0, result.stderr
    assert "would send" in result.stdout
    assert "nothing was sent" in result.stdout
    rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [row["destination"] for row in rows].count("vk") == 2
    assert len(rows) == 8
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "anna@example.com" not in target.read_text("utf-8")
    assert shop.rows() == []
    assert shop.box.books()["vk"]["totals"]["hits"] == 0


def test_a_dry_run_can_write_to_stdout_and_talks_on_stderr(shop: Any) -> None:
    shop.row("2")
    result = shop.run("sync", "--dry-run", "--payloads", "-")
    assert {json.loads(line)["destination"] for line in result.stdout.splitlines()} == {"google", "yandex", "vk"}
    assert "Dry run" in result.stderr


def test_payloads_without_a_dry_run_are_refused(shop: Any) -> None:
    assert shop.run("sync", "--payloads", "x").exit_code == 2
    assert shop.run("sync", "--dry-run", "--json", "--payloads", "-").exit_code == 2


def test_a_dry_run_of_a_backfill_keeps_to_its_actions(shop: Any) -> None:
    shop.three()
    days = _days()
    result = shop.run("backfill", *days, "--action", "lead", "--dry-run", "--payloads", "-")
    assert {json.loads(line)["destination"] for line in result.stdout.splitlines()} == {"google", "yandex"}


def test_a_backfill_plans_for_the_named_destination_only_and_moves_no_cursor(shop: Any) -> None:
    shop.three()
    result = shop.run("backfill", *_days(), "--destination", "vk", "--json")
    told = json.loads(result.stdout)
    assert (told["command"], told["read"], list(told["destinations"])) == ("backfill", 3, ["vk"])
    assert shop.run("sync").exit_code == 0
    assert set(shop.states("google")) == {"1", "2", "3"}
    assert shop.box.books()["vk"]["totals"]["hits"] == 2


def test_the_last_day_of_a_backfill_belongs_to_it(shop: Any) -> None:
    shop.row("1", occurred_at="2026-06-01T23:30:00+03:00", updated_at="2026-06-01T23:31:00+03:00")
    for until, read in (("2026-05-31", 0), ("2026-06-01", 1), ("2026-06-01T23:30", 0)):
        told = json.loads(shop.run("backfill", "--since", "2026-05-01", "--until", until, "--json").stdout)
        assert told["read"] == read, until


def test_settle_reads_no_source_and_sends_nothing(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    shop.row("9")
    told = json.loads(shop.run("settle", "--json").stdout)
    assert (told["command"], told["read"]) == ("settle", 0)
    assert "9" not in shop.states("vk")


def test_wait_lets_another_run_end_first(shop: Any) -> None:
    shop.three()
    shop.box.faults.add(on="vk.tracker", kind="slow", seconds=0.5, times=2)
    first = shop.start("sync")
    shop.wait_for("in_flight")
    assert shop.run("sync").exit_code == 4
    assert shop.run("sync", "--wait", "20s").exit_code == 0
    first.communicate(timeout=20)
    assert first.returncode == 0


def test_a_run_with_nothing_to_send_loads_no_http_library(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    heavy = ["requests", "urllib3", "google", "sqlite_utils", "rich", "tenacity", "phonenumbers"]
    code = (
        "import sys\nfrom convsync.cli import commands\n"
        f"try: commands.main(['--config', {str(shop.path)!r}, 'sync'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _days() -> tuple[str, ...]:
    today = datetime.now(UTC).date()
    return "--since", str(today - timedelta(days=2)), "--until", str(today + timedelta(days=1))


def test_contacts_and_secrets_are_never_printed(shop: Any, tmp_path: Path) -> None:
    shop.three()
    shop.row("4", occurred_at="no time", email="boris@example.com")
    said = ""
    for args in (("sync",), ("sync", "-v"), ("check",), ("ledger", "list"), ("ledger", "show", "shop/2")):
        result = shop.run(*args)
        said += result.stdout + result.stderr
    for secret in ("anna@", "boris@", "sandbox-token", "sandbox-secret", "sandbox-refresh"):
        assert secret not in said
