"""How many unknown outcomes arrived, by a count that is kept elsewhere: arithmetic, and the sentences it makes."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.report.doubt import Day, Doubt, weigh

FIRST = date(2026, 11, 20)
PULL = "convsync costs pull"


def day(unknown: int = 0, accepted: int = 0, counted: int | None = None, other: int = 0, after: int = 0) -> Day:
    return Day("crm_sale", FIRST + timedelta(days=after), accepted, unknown, other, counted)


def weighed(*days: Day) -> Doubt:
    found = weigh("vk", days)
    assert found is not None
    return found


def said(*days: Day) -> str:
    return weighed(*days).sentence(PULL)


numbers = st.integers(0, 1000)
any_days = st.lists(
    st.builds(Day, st.just("g"), st.dates(), numbers, numbers, numbers, st.none() | numbers), max_size=20
)


@given(any_days)
def test_never_fewer_than_none_and_never_more_than_are_unknown(days: list[Day]) -> None:
    found = weigh("vk", days)
    if found is None:
        assert all(one.unknown == 0 and one.counted is None for one in days)
        return
    assert 0 <= (found.arrived or 0) <= found.unknown - found.unread - found.unclear
    assert found.more >= 0
    assert found.unknown == sum(one.unknown for one in days)
    assert found.counted is None or found.arrived is None or found.arrived + found.more <= found.counted


@given(numbers, numbers, numbers, numbers)
def test_a_higher_count_never_makes_fewer_arrive(accepted: int, unknown: int, counted: int, more: int) -> None:
    low, high = day(unknown, accepted, counted), day(unknown, accepted, counted + more)
    assert (low.arrived or 0) <= (high.arrived or 0)
    assert low.more <= high.more


@given(any_days)
def test_a_goal_that_somebody_else_fires_proves_nothing(days: list[Day]) -> None:
    found = weigh("vk", days)
    if found is not None and found.more:  # they are all of one goal
        assert found.arrived is None
        assert found.unclear == found.unknown - found.unread


@given(any_days)
def test_what_is_not_read_is_never_a_zero(days: list[Day]) -> None:
    found = weigh("vk", [one._replace(counted=None) for one in days])
    if found is not None:
        assert (found.arrived, found.counted, found.more) == (None, None, 0)
        assert found.unread == found.unknown > 0


def test_a_day_does_not_lend_its_surplus_to_another() -> None:
    found = weighed(day(2, 3, 3), day(0, 1, 5, after=1)._replace(goal="crm_lead"))
    assert (found.arrived, found.more, found.accepted, found.counted) == (0, 4, 4, 8)


def test_what_was_counted_too_often_lately_proves_nothing_today() -> None:
    found = weigh("vk", [day(1, 0, 1, after=1)], before=[day(0, 2, 3)])
    assert found is not None
    assert (found.arrived, found.unclear, found.accepted, found.counted, found.more) == (None, 1, 0, 1, 0)


def test_repeats_of_what_was_in_doubt_are_not_taken_for_others_that_arrived() -> None:
    assert day(2, 3, 5, other=1).arrived == 1
    assert day(2, 3, 6, other=1).more == 0


def test_nothing_unknown_and_nothing_read_says_nothing() -> None:
    assert weigh("vk", []) is None
    assert weigh("vk", [day(0, 5)]) is None


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (
            [day(0, 7, 5)],
            "vk: 7 accepted by the tracker, VK counted 5, of what it ties to its ads.",
        ),
        (
            [day(3, 7, 9)],
            "vk: 3 outcomes unknown; by VK's own count at least 2 of them arrived: it counts only what it ties to its ads.",
        ),
        (
            [day(1, 7, 3)],
            "vk: 1 outcome unknown; by VK's own count none of them arrived for sure: it counts only what it ties to its"
            " ads.",
        ),
        (
            [day(2, 7, 13)],
            "vk: 2 outcomes unknown. VK's count cannot tell of 2 of them: it is higher than what was sent for their goal."
            " VK counted 4 more than was sent: the site itself may fire the same goal.",
        ),
        (
            [day(2, 7, 9)],
            "vk: 2 outcomes unknown; by VK's own count all of them arrived.",
        ),
        (
            [day(0, 5, 6, other=2)],
            "vk: 5 accepted by the tracker, VK counted 6, of what it ties to its ads. 2 more may be among them: sent again"
            " since, or given up while in doubt.",
        ),
        (
            [day(2), day(1, after=1)],
            "vk: 3 outcomes unknown. VK's count was not read since 3 of them left on 2026-11-20, 2026-11-21:"
            " convsync costs pull.",
        ),
        (
            [day(1, 0, 1), *[day(1, after=number) for number in range(1, 6)]],
            "vk: 6 outcomes unknown; by VK's own count at least 1 of them arrived: it counts only what it ties to its ads."
            " VK's count was not read since 5 of them left on 5 days from 2026-11-21 to 2026-11-25: convsync costs pull.",
        ),
    ],
)
def test_what_a_person_reads(days: list[Day], sentence: str) -> None:
    assert said(*days) == sentence


def test_a_program_gets_the_numbers_beside_the_sentence() -> None:
    told: dict[str, Any] = weighed(day(3, 7, 9), day(1, after=1)).as_json(PULL)
    assert told == {
        "destination": "vk", "unknown": 4, "unread": 1, "unread_days": (date(2026, 11, 21),), "arrived": 2,
        "accepted": 7, "counted": 9, "more": 0, "other": 0, "unclear": 0, "message": told["message"],
    }  # fmt: skip
    assert told["message"].startswith("vk: 4 outcomes unknown; ")
