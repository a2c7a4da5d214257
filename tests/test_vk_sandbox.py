"""The route vk.pixel against the local emulator: what the tracker counted, not what it answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from convsync.destinations.vk import Pixel
from convsync.errors import NotSent, Unclear
from convsync.model import Action, Answer, Conversion, Person, Verdict
from convsync.net import Wire
from convsync.sandbox import Sandbox, SandboxConfig

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Target(NamedTuple):
    goal: str = "crm_sale"

    @property
    def goal_key(self) -> str:
        return self.goal


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig()) as sandbox:
        yield sandbox


def pixel(url: str, **settings: Any) -> Pixel:
    wire = Wire(requests_per_second=10_000, timeout=0.25, keep_alive=False, sleep=lambda _: None)
    return Pixel("vk", pixel_id="1234567", tracker_url=f"{url}/tracker", wire=wire, **settings)


def sent(route: Pixel, value: int | None = 150050, **told: Any) -> Answer:
    first = {"source": "shop", "external_id": "1", "action": "sale", "occurred_at": NOON, "currency": "RUB"}
    made = route.convert(Action(**{**first, "rb_clickid": "click-1", **told}), Person(), Target(), value)
    assert isinstance(made, Conversion), made
    return route.send(route.encode([made.payload], "token"), 1)


def sale(box: Sandbox) -> Any:
    return box.books()["vk"]["pixels"]["1234567"]["crm_sale"]


@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_a_conversion_is_counted_with_its_value_under_its_click(box: Sandbox, slash: Any) -> None:
    route = pixel(box.url, slash_encoding=slash)
    assert sent(route, rb_clickid="a%3Bb&c=1").default.verdict is Verdict.ACCEPTED
    assert (sale(box)["hits"], sale(box)["value"], sale(box)["by_click"]) == (1, "1501", {"a;b&c=1": 1})
    assert box.books()["vk"]["lost"] == {}


def test_a_person_known_by_user_id_is_counted(box: Sandbox) -> None:
    sent(pixel(box.url), rb_clickid=None, vk_user_id="crm 42")
    assert sale(box)["by_userid"] == {"crm 42": 1}


def test_customers_are_never_glued_together_by_a_cookie(box: Sandbox) -> None:
    route = pixel(box.url)
    for number in range(5):
        sent(route, rb_clickid=f"click-{number}")
    books = box.books()["vk"]
    assert (books["totals"]["persons"], books["glued_persons"]) == (5, 0)


@pytest.mark.parametrize("kind", ["timeout_after", "reset_after", "cut_body", "reset_before"])
def test_a_lost_answer_is_unclear_and_never_sent_twice(box: Sandbox, kind: str) -> None:
    box.faults.add(on="vk.tracker", kind=kind)
    with pytest.raises(Unclear):
        sent(pixel(box.url))
    assert box.books()["totals"]["vk"]["hits"] == (0 if kind == "reset_before" else 1)


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_tracker_is_unknown_and_asked_once(box: Sandbox, status: int) -> None:
    box.faults.add(on="vk.tracker", kind="status", status=status, times=None)
    assert sent(pixel(box.url)).default.verdict is Verdict.UNKNOWN
    assert sum(box.books()["requests"]["vk.tracker"].values()) == 1


def test_a_moved_tracker_halts_and_counts_nothing(box: Sandbox) -> None:
    box.faults.add(on="vk.tracker", kind="redirect")
    assert sent(pixel(box.url)).halt
    assert box.books()["totals"]["vk"]["hits"] == 0


def test_a_throttled_tracker_counts_nothing_and_is_left_alone(box: Sandbox) -> None:
    box.faults.add(on="vk.tracker", kind="status", status=429, headers={"Retry-After": "9"})
    told = sent(pixel(box.url))
    assert (told.default.verdict, told.rest) == (Verdict.LATER, 9.0)
    assert box.books()["totals"]["vk"]["hits"] == 0


def test_a_tracker_that_is_not_there_got_nothing() -> None:
    with Sandbox(SandboxConfig()) as gone:
        url = gone.url
    with pytest.raises(NotSent):
        sent(pixel(url))
