"""A real process, a real SIGKILL, ten times at random moments; then one quiet run. Nothing lost, nothing counted twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from convsync.demo import world as demo
from convsync.ledger import Ledger
from convsync.ledger.verify import verify
from convsync.sandbox import Sandbox, SandboxConfig

COMMAND = [sys.executable, "-m", "convsync"]


def run(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "--config", str(folder / "convsync.toml"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    out, _ = process.communicate(timeout=120)
    return process.returncode, json.loads(out) if out else None


def rows_of(folder: Path) -> list[dict[str, Any]]:
    ledger = Ledger.open(folder / "convsync.db", read_only=True)
    try:
        return list(ledger.audit.deliveries())
    finally:
        ledger.close()


def counts_at_google(books: dict[str, Any]) -> list[int]:
    actions = books["google"]["accounts"]["1234567890"].values()
    return [one["count"] for action in actions for one in action["transactions"].values()]


def hits_at_vk(books: dict[str, Any]) -> dict[str, int]:
    goals = [goal for pixel in books["vk"]["pixels"].values() for goal in pixel.values()]
    return {f"{number}/{click}": n for number, goal in enumerate(goals) for click, n in goal["by_click"].items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "api"), [(1, "data_manager"), pytest.param(2, "data_manager", marks=pytest.mark.soak), (3, "ads")]
)
def test_ten_kills_at_random_moments_lose_nothing_and_count_nothing_twice(
    tmp_path: Path, ads_certificate: Path, seed: int, api: str
) -> None:
    rng = random.Random(seed)
    with Sandbox(SandboxConfig(), ads=True, ads_folder=ads_certificate.parent) as box:
        made = demo.build(tmp_path, datetime.now(UTC), box.url, seed=seed)
        config = tmp_path / "convsync.toml"
        # small batches and slow answers, so that there is much to be killed in the middle of
        config.write_text(
            config.read_text()
            .replace("[destinations.google]", f'[destinations.google]\nbatch_rows = 60\napi = "{api}"')
            .replace(f'ads_endpoint = "127.0.0.1:{box.port}"', f'ads_endpoint = "{box.ads_endpoint}"')
            .replace("[destinations.yandex]", "[destinations.yandex]\nbatch_rows = 90")
        )
        box.configure({"google": {"ingest_per_minute": None}, "yandex": {"requests_per_second": None}})
        assert box.ads_endpoint in config.read_text()
        for operation in ("google.ingest", "ads.clicks"):
            box.faults.add({"on": operation, "kind": "slow", "seconds": 0.1, "times": None})
        box.faults.add({"on": "vk.tracker", "kind": "slow", "seconds": 0.05, "times": None})
        killed = 0
        for _ in range(10):
            process = run(tmp_path, "sync", "--json")
            time.sleep(0.25 + rng.random() * 0.9)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            process.stdout.close()  # type: ignore[union-attr]
        assert killed >= 3, "the process was really killed while it worked"

        box.faults.clear()
        code, summary = wait(run(tmp_path, "sync", "--json"))
        assert code in (0, 1), summary
        code, again = wait(run(tmp_path, "sync", "--json"))
        assert again["new"] == 0
        books = box.books()
        assert bool(books["requests"].get("ads.clicks")) is (api == "ads")

    rows = rows_of(tmp_path)
    assert set(counts_at_google(books)) <= {0, 1}, "0: a click the emulator was asked not to know"
    sent = [row for row in rows if row["destination"] == "google" and row["state"] != "superseded"]
    assert {row["state"] for row in sent} <= {"accepted", "confirmed", "unmatched", "refused"}
    assert len(counts_at_google(books)) == len({row["key"] for row in sent})
    _yandex_agrees(rows, books)
    _vk_agrees(rows, books)
    ledger = Ledger.open(tmp_path / "convsync.db", read_only=True)
    assert verify(ledger.store) == []
    assert ledger.audit.stats()["actions"] == made.made - made.unreadable
    ledger.close()


def _yandex_agrees(rows: list[dict[str, Any]], books: dict[str, Any]) -> None:
    mine = [row for row in rows if row["destination"] == "yandex"]
    assert {row["state"] for row in mine} == {"accepted"}
    orders = books["yandex"]["counters"]["12345678"]["orders"]
    assert sum(len({version["status"] for version in order["versions"]}) for order in orders.values()) == len(mine)
    for order in orders.values():
        statuses = [version["status"] for version in order["versions"]]
        assert statuses == sorted(statuses, key=["IN_PROGRESS", "PAID", "CANCELLED"].index), "never turned back"


def _vk_agrees(rows: list[dict[str, Any]], books: dict[str, Any]) -> None:
    hits = hits_at_vk(books)
    assert set(hits.values()) <= {1}, "no repeat on a platform that counts every one"
    mine = [row for row in rows if row["destination"] == "vk"]
    accepted = sum(row["state"] == "accepted" for row in mine)
    unknown = sum(row["state"] == "unknown" for row in mine)
    assert accepted + unknown == len(mine), "every doubtful row is listed"
    assert accepted <= len(hits) <= accepted + unknown, "the two numbers frame what the platform counted"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_ten_kills_while_conversions_go_through_the_door_that_has_to_be_asked(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with Sandbox(SandboxConfig()) as box:
        config = f"""
[sources.crm]
type = "jsonl"
path = "sales.jsonl"
id = "id"
page_rows = 200
[actions.sale]
kind = "sale"
yandex = {{ status = "PAID", goal = "qualified" }}
[destinations.yandex]
counter_id = "12345678"
token = "sandbox-token"
metrica_url = "{box.url}"
batch_rows = 40
quarantine = "1s"
poll_after = "1s"
poll_every = "1s"
retry_after = "0s"
max_attempts = 50
"""
        (tmp_path / "convsync.toml").write_text(config)
        happened = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        with (tmp_path / "sales.jsonl").open("w") as file:
            for number in range(1200):
                who = {"yclid": f"{10**9 + number // 3}"} if number % 4 else {"ym_client_id": f"{10**18 + number}"}
                at = {"occurred_at": happened.isoformat(), "value": "10.00", "currency": "RUB", "action": "sale"}
                file.write(json.dumps({"id": f"s{number}", **who, **at}) + "\n")
        box.configure({"yandex": {"requests_per_second": None}})
        box.faults.add({"on": "yandex.conversions", "kind": "slow", "seconds": 0.1, "times": None})
        killed = 0
        for _ in range(10):
            process = run(tmp_path, "sync", "--json")
            time.sleep(0.4 + rng.random() * 0.8)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            process.stdout.close()  # type: ignore[union-attr]
        assert killed >= 3, "the process was really killed while it worked"
        box.faults.clear()
        for _ in range(6):
            code, summary = wait(run(tmp_path, "sync", "--json"))
            time.sleep(1.2)
        assert code == 0, summary
        offline = box.books()["yandex"]["counters"]["12345678"]["offline"]
        orders = box.books()["yandex"]["counters"]["12345678"]["orders"]

    rows = rows_of(tmp_path)
    assert {row["state"] for row in rows if row["route"] == "yandex.conversions"} == {"confirmed"}
    assert len(offline["conversions"]) == 900
    assert {one["count"] for one in offline["conversions"]} == {1}
    assert offline["goals"] == {"qualified": {"reaches": 900, "revenue": {"RUB": "9000"}}}
    assert len(orders) == 300
    ledger = Ledger.open(tmp_path / "convsync.db", read_only=True)
    assert verify(ledger.store) == []
    ledger.close()


@pytest.mark.slow
@pytest.mark.parametrize("events", [600, pytest.param(10_000, marks=pytest.mark.soak)])
def test_calls_of_the_pixel_that_fail_in_every_way_are_never_repeated_and_the_two_numbers_add_up(
    tmp_path: Path, events: int
) -> None:
    """3 % are reset before they count, 3 % after, 2 % get no answer, and the process is killed in between."""
    moscow = datetime.now(timezone(timedelta(hours=3)))
    if (moscow + timedelta(minutes=5)).date() != moscow.date():
        pytest.skip("the day, by which VK tells its counts, ends while this runs")
    rng = random.Random(events)
    with Sandbox(SandboxConfig()) as box:
        config = f"""
timezone = "Europe/Moscow"
[sources.crm]
type = "jsonl"
path = "sales.jsonl"
id = "id"
page_rows = 500
[actions.sale]
kind = "sale"
vk = {{ goal = "crm_sale" }}
[destinations.vk]
pixel_id = "1234567"
client_id = "sandbox-vk"
client_secret = "sandbox-vk-secret"
tracker_url = "{box.url}/tracker"
api_url = "{box.url}"
requests_per_second = 1000
in_flight = 8
timeout = "300ms"
retry_after = "0s"
"""
        (tmp_path / "convsync.toml").write_text(config)
        happened = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        with (tmp_path / "sales.jsonl").open("w") as file:
            for number in range(events):
                at = {"occurred_at": happened.isoformat(), "value": "10.00", "currency": "RUB", "action": "sale"}
                file.write(json.dumps({"id": f"s{number}", "rb_clickid": f"rb-{number}", **at}) + "\n")
        for kind, rate in (
            ("reset_before", 0.03),
            ("reset_after", 0.03),
            ("timeout_before", 0.01),
            ("timeout_after", 0.01),
        ):
            box.faults.add({"on": "vk.tracker", "kind": kind, "rate": rate, "seconds": 1, "times": None})
        killed = 0
        for _ in range(10):
            process = run(tmp_path, "sync", "--json")
            time.sleep(0.3 + rng.random() * events / 2500)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            process.stdout.close()  # type: ignore[union-attr]
        assert killed >= 3, "the process was really killed while it worked"
        for _ in range(20):
            code, summary = wait(run(tmp_path, "sync", "--json"))
            if code != 3:
                break
        assert code == 1, summary
        assert wait(run(tmp_path, "costs", "pull", "--json"))[0] == 0
        since = (moscow - timedelta(days=1)).date()
        _, report = wait(run(tmp_path, "report", "--json", "--since", str(since), "--until", str(moscow.date())))
        books = box.books()

    rows, hits = rows_of(tmp_path), {key.partition("/")[2]: n for key, n in hits_at_vk(books).items()}
    assert set(hits.values()) == {1}, "nothing is counted twice"
    states = {f"rb-{row['external_id'][1:]}": row["state"] for row in rows}
    assert len(states) == events
    assert set(states.values()) == {"accepted", "unknown"}
    accepted = {click for click, state in states.items() if state == "accepted"}
    assert accepted <= set(hits), "what is accepted was counted"
    unknown = events - len(accepted)
    assert unknown > events * 0.04
    (doubt,) = report["doubts"]
    assert (doubt["unknown"], doubt["accepted"], doubt["counted"]) == (unknown, len(accepted), len(hits))
    assert doubt["arrived"] == len(hits) - len(accepted), (
        "what arrived of the doubtful ones, by the platform's own count"
    )
    ledger = Ledger.open(tmp_path / "convsync.db", read_only=True)
    assert verify(ledger.store) == []
    ledger.close()
