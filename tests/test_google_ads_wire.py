"""Calls that are not HTTP go through the same wire: paced, gated, and repeated only when nothing of them was processed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convsync.errors import NotSent, Unclear
from convsync.net import Wire

Gate = Callable[[], None]


def wire(**options: Any) -> Wire:
    return Wire(**({"requests_per_second": 1e6, "sleep": lambda _: None} | options))


class Attempts:
    """Fails as told, attempt by attempt, then answers; remembers whether the gate was passed each time."""

    def __init__(self, *faults: Exception, gated: bool = True) -> None:
        self.faults = list(faults)
        self.gated = gated
        self.made = 0

    def __call__(self, gate: Gate) -> str:
        self.made += 1
        if self.gated:
            gate()
        if self.faults:
            raise self.faults.pop(0)
        return "answer"


def test_what_found_no_connection_goes_again_and_what_may_have_arrived_does_not() -> None:
    again = Attempts(NotSent("connection refused"), NotSent("tls"))
    assert wire().through(again) == "answer"
    assert again.made == 3
    for fault in (Unclear("reset"), NotSent("quota", wait=5), ValueError("ours")):
        once = Attempts(fault)
        with pytest.raises(type(fault)) as caught:
            wire().through(once)
        assert (caught.value, once.made) == (fault, 1)


def test_it_gives_up_after_as_many_attempts_as_a_request() -> None:
    never = Attempts(*[NotSent("connection refused") for _ in range(9)])
    with pytest.raises(NotSent, match="refused"):
        wire(attempts=3).through(never)
    assert never.made == 3


def test_every_attempt_goes_through_the_gate_which_may_close() -> None:
    passed: list[int] = []

    def gate() -> None:
        passed.append(1)
        if len(passed) == 2:
            raise NotSent("lease_lost")

    tried = Attempts(NotSent("connection refused"))
    with pytest.raises(NotSent, match="lease_lost"):
        wire(before_bytes=gate).through(tried)
    assert (len(passed), tried.made) == (2, 2)


def test_a_stop_and_a_deadline_come_before_the_first_attempt() -> None:
    stopped, late, attempt = wire(), wire(), Attempts()
    stopped.stop.set()
    late.deadline = 0.0
    with pytest.raises(NotSent, match="interrupted"):
        stopped.through(attempt)
    with pytest.raises(NotSent, match="deadline"):
        late.through(attempt)
    assert attempt.made == 0


def test_a_stop_that_comes_while_connecting_closes_the_gate() -> None:
    one = wire()

    def attempt(gate: Gate) -> str:
        one.stop.set()
        gate()
        return "sent"

    with pytest.raises(NotSent, match="interrupted"):
        one.through(attempt)


def test_calls_and_requests_share_one_pace() -> None:
    waited: list[float] = []
    one = wire(requests_per_second=2, sleep=waited.append)
    for _ in range(4):
        one.through(Attempts())
    assert len(waited) >= 2
