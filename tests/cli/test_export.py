"""`convsync export yandex`: the file as a person or cron asks for it, and the configuration that goes with it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from convsync.config import parse
from convsync.destinations.yandex import centre
from convsync.errors import ConfigError

BY_FILE = 'upload = "file"\ncounter_timezone = "Europe/Moscow"'


def by_file(text: str) -> str:
    return text.replace('token = "sandbox-token"', BY_FILE)


@pytest.fixture
def desk(shop: Any) -> Any:
    shop.configure(by_file)
    shop.three()
    return shop


def orders(text: str) -> dict[str, str]:
    """Order id → status."""
    return {row["id"]: row["order_status"] for row in csv.DictReader(io.StringIO(text), delimiter=";")}


def exported(desk: Any, *args: str) -> dict[str, Any]:
    result = desk.run("export", "yandex", "-o", str(desk.folder / "orders.csv"), "--json", *args)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# -- what is refused


def test_an_uploaded_destination_has_no_file(shop: Any) -> None:
    result = shop.run("export", "yandex")
    assert result.exit_code == 2
    assert "`convsync sync` uploads the orders of [destinations.yandex]" in result.stderr
    assert 'write upload = "file" there' in result.stderr
    assert not shop.ledger.exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--json",), "--json and the file would both be written to stdout"),
        (("--mode", "0644"), "--mode is for a file"),
        (("-o", "orders.csv", "--mode", "777"), "is not a mode"),
        (("-o", "orders.csv", "--mode", "rw"), "is not a mode"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "--until lies before --since"),
        (("--since", "2099-01-01"), "--since lies in the future"),
        (("--destination", "google"), "[destinations.google] is not of Yandex"),
        (("--destination", "yandx"), "no destination 'yandx'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(desk: Any, args: tuple[str, ...], said: str) -> None:
    result = desk.run("export", "yandex", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not desk.ledger.exists()


def test_of_several_files_one_has_to_be_named(desk: Any) -> None:
    second = f'\n[destinations.second]\nplatform = "yandex"\ncounter_id = "87654321"\n{BY_FILE}\n'
    desk.configure(
        lambda text: (
            by_file(text).replace(
                'yandex = { status = "PAID" }', 'yandex = { status = "PAID" }\nsecond = { status = "PAID" }'
            )
            + second
        )
    )
    result = desk.run("export", "yandex")
    assert result.exit_code == 2
    assert "Several destinations have a file: yandex, second." in result.stderr
    result = desk.run("export", "yandex", "--destination", "second")
    assert result.exit_code == 0, result.stderr
    assert orders(result.stdout) == {"order-2": "PAID", "order-3": "PAID"}
    assert "yandex: 3 orders wait for a file. See: convsync export yandex\n" in result.stderr


@pytest.mark.parametrize("name", ["ledger.db", "convsync.toml", "folder"])
def test_only_a_file_of_this_command_is_ever_replaced(desk: Any, name: str) -> None:
    (desk.folder / "folder").mkdir()
    desk.run("sync", "--destination", "yandex")
    before = desk.path.read_bytes()
    result = desk.run("export", "yandex", "-o", str(desk.folder / name))
    assert result.exit_code == 2
    assert "is there already, and not a file of this command" in result.stderr
    assert desk.path.read_bytes() == before


def test_a_file_that_cannot_be_written_marks_nothing_and_is_told(desk: Any) -> None:
    result = desk.run("export", "yandex", "-o", str(desk.folder / "nowhere" / "orders.csv"))
    assert result.exit_code == 2
    assert "cannot be written: No such file or directory" in result.stderr
    assert set(desk.states("yandex").values()) == {"pending"}


def test_a_file_too_large_for_direct_is_not_made(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centre, "LARGEST", 200)
    result = desk.run("export", "yandex", "-o", str(desk.folder / "orders.csv"))
    assert result.exit_code == 2
    assert "The file would be larger than 0 MB, the most that Direct fetches." in result.stderr
    assert set(desk.states("yandex").values()) == {"pending"}
    assert [one.name for one in desk.folder.iterdir() if "orders" in one.name] == []


def test_a_run_at_work_is_not_disturbed(desk: Any) -> None:
    from convsync.ledger import Lock

    lock = Lock(desk.ledger)
    lock.take()
    try:
        assert desk.run("export", "yandex").exit_code == 4
    finally:
        lock.release()


# -- the configuration


def settings(**yandex: Any) -> dict[str, Any]:
    return {
        "actions": {"sale": {"kind": "sale", "yandex": {"status": "PAID"} | yandex.pop("target", {})}},
        "destinations": {"yandex": {"counter_id": "1", "upload": "file", "counter_timezone": "Europe/Moscow"} | yandex},
    }


def test_a_file_needs_the_counters_time_zone_and_no_token() -> None:
    parse(settings(), need_credentials=True)
    with pytest.raises(ConfigError, match=r"destinations\.yandex\.counter_timezone is needed for upload = \"file\""):
        parse(settings(counter_timezone=""))


@pytest.mark.parametrize("target", [{"goal": "crm_sale"}, {"goal": "crm_sale", "status": None}])
def test_a_conversion_cannot_go_into_a_file(target: dict[str, Any]) -> None:
    said = settings(target=target)
    if target.get("status", "") is None:
        del said["actions"]["sale"]["yandex"]["status"]
    with pytest.raises(ConfigError, match=r"actions\.sale\.yandex\.goal needs upload = \"api\": the Conversion Centre"):
        parse(said)
    parse(said | {"destinations": {"yandex": {"counter_id": "1"}}})


# -- what is done


def test_the_file_goes_to_stdout_and_all_talk_to_stderr(desk: Any) -> None:
    result = desk.run("export", "yandex")
    assert result.exit_code == 0, result.stderr
    assert orders(result.stdout) == {"order-1": "IN_PROGRESS", "order-2": "PAID", "order-3": "PAID"}
    assert "The file holds 3 orders: 3 new." in result.stderr
    assert set(desk.states("yandex").values()) == {"held"}
    assert set(desk.states("google").values()) == {"pending"}


def test_what_is_planned_for_the_other_destinations_goes_out_with_the_next_sync(desk: Any) -> None:
    exported(desk)
    result = desk.run("sync", "--json")
    told = json.loads(result.stdout)
    assert told["destinations"]["vk"]["accepted"] == 2
    assert told["destinations"]["yandex"]["claimed"] == 0
    assert desk.box.books()["yandex"]["counters"] == {}


def test_one_object_tells_what_is_in_the_file(desk: Any) -> None:
    told = exported(desk)
    file = desk.folder / "orders.csv"
    assert told["command"] == "export"
    assert (told["destination"], told["file"], told["rows"]) == ("yandex", str(file), 3)
    assert told["orders"] == {"new": 3, "changed": 0, "again": 0}
    assert told["bytes"] == file.stat().st_size
    assert datetime.fromisoformat(told["since"]) < datetime.fromisoformat(told["until"])
    assert [one["code"] for one in told["findings"]] == ["exported"]
    desk.row("2", status="refunded")
    told = exported(desk)
    assert told["orders"] == {"new": 0, "changed": 1, "again": 2}
    assert orders(file.read_text("utf-8"))["order-2"] == "CANCELLED"


def test_the_command_that_the_finding_names_is_the_persons_word(desk: Any) -> None:
    advice = exported(desk)["findings"][0]["advice"]
    command = advice.split("convsync ", 1)[1].replace('"seen there"', "seen").split()
    result = desk.run(*command)
    assert result.exit_code == 0, result.stderr
    assert set(desk.states("yandex").values()) == {"accepted"}
    told = exported(desk)
    assert (told["rows"], told["findings"]) == (3, [])


def test_a_new_file_is_private_and_a_replaced_one_stays_as_readable_as_it_was(desk: Any) -> None:
    file = desk.folder / "orders.csv"
    exported(desk)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    exported(desk)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    exported(desk, "--mode", "0640")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_a_link(desk: Any) -> None:
    (desk.folder / "www").mkdir()
    (desk.folder / "orders.csv").symlink_to(desk.folder / "www" / "real.csv")
    exported(desk)
    assert (desk.folder / "orders.csv").is_symlink()
    assert len(orders((desk.folder / "www" / "real.csv").read_text("utf-8"))) == 3


def test_what_a_dead_run_left_beside_the_file_is_taken_away(desk: Any) -> None:
    (desk.folder / ".orders.csv.part").write_text("half a file")
    exported(desk)
    assert sorted(one.name for one in desk.folder.iterdir() if "orders" in one.name) == ["orders.csv"]


@pytest.mark.parametrize("to", [(), ("-o", "orders.csv")])
def test_a_dry_run_keeps_nothing_and_leaves_the_file_alone(
    desk: Any, monkeypatch: pytest.MonkeyPatch, to: tuple[str, ...]
) -> None:
    monkeypatch.chdir(desk.folder)
    result = desk.run("export", "yandex", "--dry-run", *to)
    assert result.exit_code == 0, result.stderr
    assert "would hold 3 orders" in result.output
    assert ("order-1;" in result.stdout) == (not to)
    assert not (desk.folder / "orders.csv").exists()
    assert desk.rows() == []
    told = json.loads(desk.run("export", "yandex", "--dry-run", "--json", *to).stdout)
    assert (told["rows"], told["dry_run"]) == (3, True)


def test_nothing_to_export_is_a_header_alone(shop: Any) -> None:
    shop.configure(by_file)
    result = shop.run("export", "yandex")
    assert result.exit_code == 0
    assert result.stdout.startswith("id;create_date_time;")
    assert result.stdout.count("\n") == 1


def test_a_source_that_is_down_keeps_nothing_else_out_of_the_file(desk: Any) -> None:
    desk.run("sync", "--destination", "yandex")
    (desk.folder / "shop.db").rename(desk.folder / "away.db")
    result = desk.run("export", "yandex")
    assert result.exit_code in (2, 3)
    assert len(orders(result.stdout)) == 3


def test_until_leaves_the_rest_to_the_next_file(desk: Any) -> None:
    happened = datetime.now(UTC) - timedelta(days=9)
    desk.row("old", occurred_at=happened.isoformat())
    until = f"{happened + timedelta(hours=1):%Y-%m-%dT%H:%M+00:00}"
    assert exported(desk, "--until", until)["orders"] == {"new": 1, "changed": 0, "again": 0}
    assert exported(desk)["orders"] == {"new": 3, "changed": 0, "again": 1}


def test_check_finds_nothing_amiss_with_a_file(desk: Any) -> None:
    result = desk.run("check")
    assert "destinations.yandex" in result.stdout
    assert "token" not in result.stdout


@pytest.mark.slow
def test_a_killed_export_leaves_a_whole_file(desk: Any) -> None:
    """Whatever the moment: the file is the old one or the new one, and the next run has every order in it."""
    file = desk.folder / "orders.csv"
    exported(desk)
    for number in range(6):
        desk.row(f"k{number}")
        command = [sys.executable, "-m", "convsync", "--config", str(desk.path), "export", "yandex", "-o", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.25 + 0.06 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        text = file.read_text("utf-8")
        assert text.endswith("\n")
        assert len(orders(text)) >= 3
    exported(desk)
    assert len(orders(file.read_text("utf-8"))) == 9


def test_a_reader_of_stdout_who_leaves_changes_nothing(desk: Any) -> None:
    """What was in the pipe counts as in a file: the next run has it again."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "convsync", "--config", str(desk.path), "export", "yandex"]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert process.returncode == 0
    assert len(orders(desk.run("export", "yandex").stdout)) == 3


def test_export_imports_no_grpc(desk: Any) -> None:
    code = (
        "import sys\nfrom convsync.cli import commands\n"
        f"try: commands.main(['--config', {str(desk.path)!r}, 'export', 'yandex', '-o', {str(desk.folder / 'o.csv')!r}])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print([name for name in ('grpc', 'google.ads') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_folder_needs_no_name(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    result = desk.run("export", "yandex", "-o", "orders.csv")
    assert result.stdout.startswith("orders.csv holds 3 orders: 3 new.\n")
    assert Path("orders.csv").exists()
