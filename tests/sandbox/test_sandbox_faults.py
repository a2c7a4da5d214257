"""Trouble on order: what the client sees, and whether the platform counted."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from conftest import GoogleClient, VkClient, YandexClient
    from convsync.sandbox import Sandbox


def counted(google: GoogleClient) -> int:
    found: int = google.box.books()["google"]["totals"]["conversions"]
    return found


@pytest.mark.parametrize(("kind", "applied"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_is_a_real_one_and_tells_nothing(google: GoogleClient, kind: str, applied: int) -> None:
    google.box.faults.add(on="google.ingest", kind=kind)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        google.ingest(google.event())
    assert counted(google) == applied


def test_a_reset_in_the_middle_of_the_request_applies_nothing(google: GoogleClient) -> None:
    google.box.faults.add(on="google.ingest", kind="reset_in_body")
    with pytest.raises(requests.ConnectionError):
        google.ingest(*[google.event(n) for n in range(2000)])
    assert counted(google) == 0


def test_a_request_that_was_cut_off_may_arrive_late_and_overtake(google: GoogleClient) -> None:
    """The older value arrives after the newer one and wins: why revisions wait for each other."""
    google.box.faults.add(on="google.ingest", kind="reset_late", seconds=45)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        google.ingest(google.event(conversionValue=1))
    assert google.ingest(google.event(conversionValue=2)).status_code == 200
    assert google.book()["transactions"]["cs-1"]["values"] == ["2"]
    google.box.clock.advance(45)
    assert google.book()["transactions"]["cs-1"]["values"] == ["2", "1"]
    assert google.book()["conversions"] == 1


@pytest.mark.parametrize(("kind", "applied"), [("timeout_before", 0), ("timeout_after", 1)])
def test_a_time_out_withholds_the_answer(google: GoogleClient, kind: str, applied: int) -> None:
    google.box.faults.add(on="google.ingest", kind=kind)
    body = {"destinations": [google.destination()], "events": [google.event()]}
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{google.box.url}/v1/events:ingest", json=body, headers=google.headers, timeout=0.1)
    assert counted(google) == applied


def test_a_cut_answer_breaks_off_after_the_request_was_applied(google: GoogleClient) -> None:
    google.box.faults.add(on="google.ingest", kind="cut_body")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        google.ingest(google.event())
    assert counted(google) == 1


def test_a_time_out_may_end_by_itself_without_an_answer(google: GoogleClient) -> None:
    google.box.faults.add(on="google.ingest", kind="timeout_before", seconds=0.05)
    with pytest.raises(requests.ConnectionError):
        google.ingest(google.event())


@pytest.mark.parametrize(
    ("fault", "status", "applied"),
    [
        ({"kind": "status", "status": 503}, 503, 0),
        ({"kind": "status", "status": 500, "applied": True}, 500, 1),
        ({"kind": "status", "status": 429, "body": {"a": 1}, "headers": {"Retry-After": 5}}, 429, 0),
        ({"kind": "html"}, 502, 0),
        ({"kind": "html", "status": 200, "applied": True}, 200, 1),
        ({"kind": "redirect"}, 302, 0),
        ({"kind": "garbage"}, 200, 1),
        ({"kind": "empty"}, 200, 1),
        ({"kind": "slow", "seconds": 0.01}, 200, 1),
    ],
)
def test_a_broken_answer_says_what_was_ordered(
    http: requests.Session, google: GoogleClient, fault: dict[str, Any], status: int, applied: int
) -> None:
    google.box.faults.add({"on": "google.ingest", **fault})
    body = {"destinations": [google.destination()], "events": [google.event()]}
    url = f"{google.box.url}/v1/events:ingest"
    answer = http.post(url, json=body, headers=google.headers, allow_redirects=False)
    assert (answer.status_code, counted(google)) == (status, applied)
    if fault["kind"] == "empty":
        assert answer.content == b""
    if fault["kind"] == "garbage":
        with pytest.raises(ValueError, match=r"codec|JSON|Expecting|Unterminated"):
            answer.json()
    if "headers" in fault:
        assert (answer.headers["Retry-After"], answer.json()) == ("5", {"a": 1})


def test_each_platform_fails_in_its_own_words(google: GoogleClient, yandex: YandexClient, vk: VkClient) -> None:
    google.box.faults.add(on="*", kind="status", status=503, times=3)
    assert google.ingest(google.event()).json()["error"]["status"] == "UNAVAILABLE"
    assert yandex.upload(yandex.row()).json()["errors"][0]["error_type"] == "backend_error"
    assert vk.token().json()["error"]["code"] == "INTERNAL"


def test_a_fault_skips_fires_so_often_and_then_rests(vk: VkClient) -> None:
    vk.box.faults.add(on="vk.*", kind="status", skip=1, times=2)
    statuses = [vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=a").status_code for _ in range(5)]
    assert statuses == [200, 503, 503, 200, 200]
    assert vk.box.faults.listed()[0]["fired"] == 2


def test_a_rate_is_random_but_repeatable(vk: VkClient) -> None:
    def run() -> list[int]:
        vk.box.faults.add(on="vk.tracker", kind="status", rate=0.3, times=None)
        return [vk.hit("id=1234567").status_code for _ in range(40)]

    first = run()
    vk.box.reset()
    assert run() == first
    assert 3 < first.count(503) < 25


def test_a_fault_can_wait_for_a_request_of_a_certain_size(google: GoogleClient) -> None:
    google.box.faults.add(on="google.ingest", kind="status", status=400, rows={"min": 2}, times=None)
    assert google.ingest(google.event(1), google.event(2)).status_code == 400
    assert google.ingest(google.event(1)).status_code == 200


def test_a_fault_that_could_never_fire_is_refused(box: Sandbox) -> None:
    for wrong in ({"on": "google.injest"}, {"kind": "explode"}, {"foo": 1}):
        with pytest.raises(ValueError, match="unknown"):
            box.faults.add(wrong)


def test_closing_ends_every_request_that_hangs(google: GoogleClient) -> None:
    google.box.faults.add(on="google.ingest", kind="timeout_after", times=None)
    failed: list[type[BaseException]] = []
    headers = dict(google.headers)

    def send() -> None:
        body = {"destinations": [google.destination()], "events": [google.event()]}
        try:
            requests.post(f"{google.box.url}/v1/events:ingest", json=body, headers=headers, timeout=60)
        except requests.RequestException as problem:
            failed.append(type(problem))

    threads = [threading.Thread(target=send, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while sum(entry["operation"] == "google.ingest" for entry in google.box.requests()) < 3:
        time.sleep(0.001)
    google.box.close()
    for thread in threads:
        thread.join(5)
    assert failed == [requests.ConnectionError] * 3
