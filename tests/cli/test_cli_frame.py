"""What all commands share: help, exit codes, how failures are told."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from convsync import __version__
from convsync.cli import commands
from convsync.cli import frame as frame_of_all
from convsync.errors import Exit
from convsync.ledger import Ledger

HEAVY = [
    "pydantic", "requests", "rich", "sqlite_utils", "google", "orjson", "tenacity", "sqlite3", "convsync.sync",
    "convsync.config", "convsync.ledger", "convsync.sandbox",
]  # fmt: skip


def every_command(group: click.Group = commands, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        inside = every_command(command, (*path, name)) if isinstance(command, click.Group) else []
        found += inside or [((*path, name), command)]
    return found


ALL = every_command()


def invoke(*args: str) -> Any:
    return CliRunner().invoke(commands, list(args))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom convsync.cli import commands\n"
        "try: commands.main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convsync", "--version"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout == f"convsync {__version__}\n"


def test_help_lists_every_command_by_its_purpose() -> None:
    shown = invoke("--help").stdout
    for title in ("Set up:", "Every day:", "Look:", "Try:"):
        assert title in shown
    for path, _ in ALL:
        assert re.search(rf"^  {path[0]} ", shown, re.MULTILINE), path


def test_the_table_of_exit_codes_is_complete() -> None:
    shown = invoke("--help").stdout
    table = shown[shown.index("Exit codes:") :]
    assert [int(code) for code in re.findall(r"^ +(\d+) ", table, re.MULTILINE)] == [int(code) for code in Exit]


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids="-".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """What it does, an example, what it never does or how it ends, and no line wider than a terminal."""
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    assert re.search("Examples?:", result.stdout)
    assert re.search("Exit codes|Never|never", result.stdout)
    assert all(len(line) <= 140 for line in result.stdout.splitlines())
    assert "--config" not in result.stdout or path == ("sandbox",) or "convsync --config" in result.stdout


@pytest.mark.parametrize(("path", "command"), ALL, ids=["-".join(path) for path, _ in ALL])
def test_every_command_that_answers_has_json(path: tuple[str, ...], command: click.Command) -> None:
    names = {name for one in command.params for name in one.opts}
    assert "--json" in names or path[-1] in ("init", "demo", "sandbox")


def test_an_unknown_command_suggests_a_near_one_and_exits_2() -> None:
    result = invoke("synk")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "sync" in result.stderr.replace("synk", "")


def test_an_unknown_option_suggests_a_near_one_and_exits_2() -> None:
    result = invoke("sync", "--dry-rum")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dry-run" in result.stderr


def test_no_command_shows_the_help_on_stderr_and_exits_2() -> None:
    result = invoke()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Set up:" in result.stderr


def test_with_json_a_failure_is_an_object_on_stdout_as_well(tmp_path: Path) -> None:
    result = invoke("--config", str(tmp_path / "none.toml"), "sync", "--json")
    told = json.loads(result.stdout)
    assert set(told) == {"error", "advice", "exit_code"}
    assert told["exit_code"] == result.exit_code == 2
    assert told["error"] in result.stderr


def test_common_options_may_stand_behind_the_command(tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    assert path in invoke("sync", "--config", path).stderr
    assert path in invoke("ledger", "list", "--config", path, "-q").stderr


def test_a_bug_shows_its_traceback_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a value that nobody should see")

    monkeypatch.setattr(frame_of_all.Talk, "config", broken)
    result = invoke("sync")
    assert result.exit_code == 3
    assert "this is a bug in convsync (RuntimeError)" in result.stderr
    assert "a value that nobody should see" not in result.stderr
    assert "Traceback" in invoke("sync", "-v").stderr


def test_ctrl_c_is_told_in_a_word_and_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_of_all.Talk, "config", interrupted)
    result = invoke("report")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted.\n"


def test_a_reader_that_leaves_early_hears_no_complaint(shop: Any) -> None:
    for number in range(400):
        shop.row(str(number), rb_clickid=None, gclid=None)
    shop.run("sync")
    command = f"{sys.executable} -m convsync --config {shop.path} ledger list --limit 0 --json | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["source"] == "shop"


def in_bash(shop: Any, command: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m convsync --config {shop.path}"
    return subprocess.run(["bash", "-c", f"{program} {command}"], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["sync --json", "ledger list", "ledger verify --json", "report"])
def test_a_full_disk_behind_stdout_is_told_and_is_no_success(shop: Any, command: str) -> None:
    shop.row("1")
    shop.run("sync")
    done = in_bash(shop, f"{command} > /dev/full")
    assert done.returncode == 3
    assert "No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_does_not_hide_that_the_work_was_done(shop: Any) -> None:
    path = shop.folder / "a.csv"
    path.write_text("day,platform,campaign,amount,currency\n2026-11-01,vk,A,1,RUB\n", "utf-8")
    done = in_bash(shop, f"costs import {path} > /dev/full")
    assert done.returncode == 3
    assert "What was done is done and recorded" in done.stderr


def test_a_ledger_that_cannot_be_written_to_is_named_and_for_a_person(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.run("settle")
    monkeypatch.setattr(Ledger, "open", partial(Ledger.open, read_only=True))
    path = shop.folder / "a.csv"
    path.write_text("day,platform,campaign,amount,currency\n2026-11-01,vk,A,1,RUB\n", "utf-8")
    result = shop.run("costs", "import", str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: The ledger {shop.ledger} cannot be written to.\nadvice: Check who may")


@pytest.mark.parametrize(("typed", "said"), [("yesterday", "is not a day"), ("2026-11-22T10:00", "whole days are")])
@pytest.mark.parametrize("command", ["report", "costs pull"])
def test_where_only_days_count_no_moment_is_proposed(command: str, typed: str, said: str) -> None:
    result = invoke(*command.split(), "--since", typed)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "moment" not in result.stderr


def test_a_closed_stdout_is_no_bug(shop: Any) -> None:
    shop.row("1")
    done = in_bash(shop, "sync >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOSPC, 3), (errno.EIO, 3)])
def test_what_only_a_person_can_permit_is_not_left_to_the_next_run(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(number, "Refused", "ledger.db.lock")

    monkeypatch.setattr(frame_of_all.Talk, "config", refused)
    result = invoke("sync")
    assert result.exit_code == code
    assert "ledger.db.lock: Refused." in result.stderr
