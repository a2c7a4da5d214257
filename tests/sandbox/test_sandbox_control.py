"""The sandbox itself: its server, its books over HTTP, its page, its command."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from google.api_core.exceptions import GoogleAPICallError

import convsync.sandbox
from convsync.sandbox import Clock, Sandbox, SandboxConfig

if TYPE_CHECKING:
    from conftest import AdsCaller, GoogleClient, VkClient, YandexClient

SOURCE = Path(convsync.sandbox.__file__).parent


def test_the_sandbox_imports_nothing_of_the_program_it_judges() -> None:
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for name in _imported(ast.walk(tree)):
            foreign = name.partition(".")[0] in ("cryptography", "google", "grpc")
            assert foreign or _light(name), f"{path.name}: {name}"


def test_grpc_and_cryptography_are_loaded_by_whoever_uses_them_only() -> None:
    for path in SOURCE.rglob("*.py"):
        for name in _imported(ast.parse(path.read_text("utf-8")).body):
            assert _light(name), f"{path.name}: {name}"


def test_a_sandbox_without_the_ads_api_never_loads_grpc() -> None:
    program = """
import sys
from convsync.sandbox import Sandbox
with Sandbox() as box:
    box.books()
sys.exit(bool({"grpc", "cryptography"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1])}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def _light(name: str) -> bool:
    return name.startswith("convsync.sandbox") or name.partition(".")[0] in sys.stdlib_module_names


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_an_unknown_address_is_counted_and_refused(http: requests.Session, box: Sandbox) -> None:
    assert http.get(f"{box.url}/v1/nothing").status_code == 404
    assert http.get(f"{box.url}/v1/events:ingest").status_code == 405
    assert box.books()["unmatched_requests"] == 2


def test_what_is_not_http_is_refused(box: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", box.port)) as raw:
        raw.sendall(b"hello\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_chunked_body_and_expect_continue_are_understood(google: GoogleClient) -> None:
    body = json.dumps({"destinations": [google.destination()], "events": [google.event()]}).encode()
    url = f"{google.box.url}/v1/events:ingest"
    answer = google.session.post(url, data=iter([body[:50], body[50:]]), headers=google.headers)
    assert answer.status_code == 200
    with socket.create_connection(("127.0.0.1", google.box.port)) as raw:
        head = f"POST /v1/events:ingest HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += f"Authorization: {google.headers['Authorization']}\r\nExpect: 100-continue\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")


def test_one_connection_serves_many_requests_without_a_stall(vk: VkClient) -> None:
    started = datetime.now(UTC)
    for n in range(100):
        vk.hit(f"id=1234567;e=RG%3A1/crm_sale;rb_clickid=c{n}")
    assert datetime.now(UTC) - started < timedelta(seconds=2), "a delayed ACK costs 0.04 s each"
    assert vk.goal()["hits"] == 100


def test_many_threads_are_counted_exactly(google: GoogleClient) -> None:
    google.box.config.google.ingest_per_minute = None

    def send(worker: int) -> None:
        session = requests.Session()
        for n in range(10):
            body = {"destinations": [google.destination()], "events": [google.event(worker * 100 + n)]}
            session.post(f"{google.box.url}/v1/events:ingest", json=body, headers=google.headers)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert google.book()["conversions"] == 80


def test_the_books_and_the_journal_come_over_http(http: requests.Session, google: GoogleClient, vk: VkClient) -> None:
    google.ingest(google.event())
    vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=secret-click")
    assert http.get(f"{google.box.url}/_sandbox/books.json").json() == google.box.books()
    journal = http.get(f"{google.box.url}/_sandbox/requests.json")
    assert [entry["operation"] for entry in journal.json()] == ["google.token", "google.ingest", "vk.tracker"]
    assert (journal.json()[1]["rows"], journal.json()[1]["status"]) == (1, 200)
    assert "secret-click" not in journal.text, "never a query"
    assert "ya29" not in journal.text, "never a token"


def test_faults_clock_configuration_and_reset_are_ordered_over_http(http: requests.Session, box: Sandbox) -> None:
    url = f"{box.url}/_sandbox"
    made = http.post(f"{url}/faults", json=[{"on": "vk.tracker", "kind": "status", "status": 500}])
    assert made.json()[0]["status"] == 500
    assert http.get(f"{box.url}/tracker?id=1").status_code == 500
    assert http.delete(f"{url}/faults").json() == []
    before = box.clock.now()
    http.post(f"{url}/clock", json={"advance_s": 90})
    assert box.clock.now() - before == timedelta(seconds=90)
    http.post(f"{url}/config", json={"google": {"violations": "none"}, "vk": {"max_tokens": 2}})
    assert (box.config.google.violations, box.config.vk.max_tokens) == ("none", 2)
    http.post(f"{url}/reset")
    assert box.books()["requests"] == {}


def test_a_wrong_order_over_http_is_explained(http: requests.Session, box: Sandbox) -> None:
    answer = http.post(f"{box.url}/_sandbox/config", json={"google": {"violation": "none"}})
    assert answer.status_code == 400
    assert answer.json()["error"] == "unknown setting 'google.violation'; did you mean 'violations'?"
    assert http.post(f"{box.url}/_sandbox/faults", data="{").status_code == 400
    assert http.get(f"{box.url}/_sandbox/nothing").status_code == 404


def test_a_world_can_be_described_in_json() -> None:
    config = SandboxConfig.from_dict(
        {
            "google": {"customers": {"1": {"2": {"name": "Lead", "created": "start"}}}},
            "yandex": {"counters": {"5": {"time_zone_offset": 0, "goals": [{"id": 1, "name": "A", "url": "a"}]}}},
            "vk": {"pixels": {"7": {"goals": {"lead": {}}}}},
        }
    )
    assert config.google.customers["1"]["2"].created == "start"
    assert config.yandex.counters["5"].goals[0].url == "a"
    assert config.vk.pixels["7"].goals["lead"].condition == "jse"


def test_a_section_can_be_replaced_while_it_runs(google: GoogleClient) -> None:
    from convsync.sandbox.config import GoogleConfig

    google.box.config.google = GoogleConfig(max_events=1)
    assert google.ingest(google.event(1), google.event(2)).status_code == 400


def test_any_clock_with_now_is_accepted_and_can_still_be_advanced() -> None:
    class Mine:
        at = datetime(2026, 1, 1, tzinfo=UTC)

        def now(self) -> datetime:
            return self.at

    mine = Mine()
    with Sandbox(clock=mine) as box:
        mine.at += timedelta(days=1)
        box.clock.advance(60)
        assert box.clock.now() == datetime(2026, 1, 2, 0, 1, tzinfo=UTC)


def test_a_frozen_clock_stands_and_a_thawed_one_runs_on() -> None:
    clock = Clock(frozen_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    clock.unfreeze()
    assert timedelta(0) <= clock.now() - datetime(2026, 1, 1, tzinfo=UTC) < timedelta(seconds=5)
    clock.freeze()
    assert clock.now() == clock.now()


def test_the_page_tells_calls_of_the_ads_api_by_the_names_of_their_statuses(
    http: requests.Session, ads: AdsCaller
) -> None:
    ads.upload(ads.click(1))
    ads.box.faults.add(on="ads.clicks", code="UNAVAILABLE")
    with pytest.raises(GoogleAPICallError):
        ads.upload(ads.click(2))
    page = http.get(f"{ads.box.url}/_sandbox/").text
    assert '<span class="good">OK</span>' in page
    assert "<dt>Rows accepted</dt><dd>1</dd>" in page, "whichever way they came"
    assert '<span class="bad">UNAVAILABLE (status)</span>' in page


def test_the_page_shows_the_counts_and_escapes_everything(
    http: requests.Session, google: GoogleClient, yandex: YandexClient, vk: VkClient
) -> None:
    google.ingest(google.event(adIdentifiers={"gclid": "fate-CLICK_NOT_FOUND-1"}), google.event(2))
    yandex.upload(yandex.row(goals="<script>alert(1)</script>"))
    vk.hit("id=1234567;e=RG%3A1500/crm_sale;rb_clickid=lost-1")
    vk.session.get(f"{vk.box.url}/<b>nowhere")
    google.box.faults.add(on="google.ingest", kind="slow", times=None)
    page = http.get(f"{google.box.url}/_sandbox/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for shown in ("CLICK_NOT_FOUND", "CRM: Order paid", "crm_sale", "unknown_click", "for ever"):
        assert shown in page.text
    assert "<script" not in page.text
    assert "<b>" not in page.text
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text), "no assets from elsewhere"


def test_a_repeated_part_of_a_form_and_a_cut_form_are_refused(yandex: YandexClient) -> None:
    url = f"{yandex.box.url}/cdp/api/v1/counter/12345678/data/simple_orders?merge_mode=SAVE"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nid'
    assert yandex.session.post(url, data=cut, headers=headers).status_code == 400
    files = [("file", ("a.csv", "x")), ("file", ("b.csv", "y"))]
    assert yandex.session.post(url, files=files).status_code == 400


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_and_ends_with_0(
    http: requests.Session, ending: signal.Signals, tmp_path: Path
) -> None:
    config = tmp_path / "world.json"
    config.write_text('{"vk": {"pixels": {"7": {"goals": {"lead": {}}}}}}', "utf-8")
    command = [sys.executable, "-m", "convsync.sandbox", "--port", "0", "--config", str(config), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert re.fullmatch(r"convsync sandbox on http://127\.0\.0\.1:\d+", line)
        url = line.removeprefix("convsync sandbox on ")
        http.get(f"{url}/tracker?id=7;e=RG:1/lead;rb_clickid=a")
        assert http.get(f"{url}/_sandbox/books.json").json()["totals"]["vk"]["attributed"] == 1
        process.send_signal(ending)
        assert process.wait(10) == 0


@pytest.mark.parametrize("program", [["convsync.sandbox"], ["convsync", "sandbox"]])
def test_the_command_serves_the_ads_api_when_asked(tmp_path: Path, program: list[str]) -> None:
    command = [sys.executable, "-m", *program, "--port", "0", "--ads"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1]), "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True, env=environment) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        found = re.fullmatch(r"Google Ads API on localhost:(\d+), certificate (\S+)", process.stdout.readline().strip())
        assert found and Path(found[2]).read_text().startswith("-----BEGIN CERTIFICATE-----")
        with socket.create_connection(("127.0.0.1", int(found[1]))):
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert list(tmp_path.iterdir()) == [], "the private key is gone"


def test_the_command_refuses_a_world_it_does_not_understand(tmp_path: Path) -> None:
    config = tmp_path / "world.json"
    config.write_text('{"gogle": {}}', "utf-8")
    command = [sys.executable, "-m", "convsync.sandbox", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "did you mean 'google'?" in done.stderr
