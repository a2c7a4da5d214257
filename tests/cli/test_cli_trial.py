"""The sandbox as a command, and the demo: all of it together, as a newcomer sees it first."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from convsync.cli import commands
from convsync.cli.trial import EXAMPLE
from convsync.config import parse
from convsync.sandbox import SandboxConfig


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "convsync", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


def test_the_sandbox_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    run = start("sandbox", "--port", "0", cwd=tmp_path)
    url = run.stdout.readline().split()[-1]  # type: ignore[union-attr]
    with urllib.request.urlopen(f"{url}/_sandbox/books.json") as reply:  # noqa: S310 - loopback
        assert json.load(reply)["totals"]["vk"]["hits"] == 0
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=10)
    assert run.returncode == 0


def test_a_port_that_is_taken_exits_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(commands, ["sandbox", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "cannot be used" in result.stderr


def test_settings_that_the_sandbox_does_not_know_exit_2(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    path.write_text('{"gogle": {}}')
    result = CliRunner().invoke(commands, ["sandbox", "--config", str(path)])
    assert result.exit_code == 2
    assert "did you mean 'google'" in result.stderr


def test_the_example_settings_fit_the_sandbox() -> None:
    world = SandboxConfig()
    vk = (world.vk.client_id, world.vk.client_secret, "{api}", "{tracker}", *world.vk.pixels["1234567"].goals)
    signed = (world.google.client_id, world.google.client_secret, world.google.refresh_token)
    for known in (*signed, *world.yandex.tokens, *vk):
        assert known in EXAMPLE
    google = {
        "customer_id": "1234567890",
        "data_manager_url": "http://127.0.0.1:1",
        "token_url": "http://127.0.0.1:1/token",
    }
    assert parse({"destinations": {"google": google}}).destinations["google"].account in world.google.customers


def test_the_demo_refuses_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(commands, ["demo", "--folder", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demo_ends_with_a_ledger_and_platforms_that_agree(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__YANDEX__TOKEN", "the operator's own")
    folder = tmp_path / "demo"
    result = CliRunner().invoke(commands, ["demo", "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("  agrees") == 6
    assert "DIFFERS" not in result.stdout
    assert "Every action counted once" in result.stdout
    for command in (
        "check",
        "sync",
        "settle",
        "costs import",
        "report",
        "ledger stats",
        "ledger show",
        "ledger verify",
    ):
        assert f"$ convsync {command}" in result.stdout
    assert (folder / "report.csv").exists()
    assert "the operator's own" not in result.output
    again = CliRunner().invoke(commands, ["ledger", "verify", "--config", str(folder / "convsync.toml")])
    assert again.exit_code == 0
