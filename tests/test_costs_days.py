"""Which days of an account are asked for, and when they begin."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.costs import days
from convsync.costs.days import Keeps
from convsync.errors import SourceError, UsageError
from convsync.model import Account

SHOP = Account("google", "1234567890", "Shop", "RUB", "Europe/Moscow")
GOOGLE = Keeps("Google", 37)
TODAY = date(2026, 11, 22)
DAY = timedelta(days=1)


def test_a_zone_that_this_machine_does_not_know_is_said() -> None:
    with pytest.raises(SourceError, match=r"'Mars/Olympus'.*tzdata"):
        days.today(SHOP._replace(time_zone="Mars/Olympus"), datetime.now(UTC))


def test_whole_months_are_kept_from_their_first_day() -> None:
    keeps = Keeps("Yandex.Direct", 36, whole=True)
    assert keeps.oldest(TODAY) == date(2023, 11, 1)
    assert days.span(keeps, date(2023, 11, 1), None, today=TODAY, pulled_until=None) == (date(2023, 11, 1), TODAY)
    with pytest.raises(UsageError, match=r"Yandex\.Direct keeps cost by the day for 36 months"):
        days.span(keeps, date(2023, 10, 31), None, today=TODAY, pulled_until=None)


def span(since: date | None = None, until: date | None = None, pulled: date | None = None) -> tuple[date, date] | None:
    return days.span(GOOGLE, since, until, today=TODAY, pulled_until=pulled)


def test_days_that_a_platform_no_longer_keeps_are_refused_with_the_first_one_it_does() -> None:
    with pytest.raises(UsageError, match="keeps cost by the day for 37 months") as refused:
        span(date(2023, 10, 21))
    assert "2023-10-22" in refused.value.advice
    assert span(date(2023, 10, 22)) == (date(2023, 10, 22), TODAY)


def test_days_that_have_not_begun_in_the_account_are_not_asked_for() -> None:
    assert span(TODAY + DAY) is None
    assert span(TODAY, TODAY + 5 * DAY) == (TODAY, TODAY)


@pytest.mark.parametrize(
    ("until", "pulled", "first"),
    [
        (None, None, TODAY - 29 * DAY),
        (None, TODAY, TODAY - 7 * DAY),
        (None, TODAY - 60 * DAY, TODAY - 67 * DAY),
        (TODAY - 3 * DAY, TODAY, TODAY - 10 * DAY),
        (None, date(2020, 1, 1), date(2023, 10, 22)),
    ],
)
def test_without_since_a_reading_goes_on_a_week_before_the_last(until: date, pulled: date, first: date) -> None:
    found = span(None, until, pulled)
    assert found is not None
    assert found[0] == first


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.integers(1, 60))
def test_months_back_lands_in_the_right_month_and_never_after_the_day(day: date, months: int) -> None:
    found = days.months_before(day, months)
    assert (day.year - found.year) * 12 + day.month - found.month == months
    assert found.day <= day.day
    assert found.day == day.day or (found + DAY).day == 1


def test_today_is_a_day_of_the_account() -> None:
    midnight = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)
    assert days.today(SHOP, midnight) == date(2026, 11, 23)
    assert days.today(SHOP._replace(time_zone="America/New_York"), midnight) == TODAY


def test_zones_differ_by_their_clocks_not_by_their_names() -> None:
    winter = (TODAY, TODAY)
    assert not days.zones_differ(SHOP, ZoneInfo("Europe/Minsk"), *winter)
    assert days.zones_differ(SHOP, ZoneInfo("Asia/Almaty"), *winter)
    berlin = SHOP._replace(time_zone="Europe/Berlin")
    assert not days.zones_differ(berlin, ZoneInfo("Africa/Algiers"), *winter)
    assert days.zones_differ(berlin, ZoneInfo("Africa/Algiers"), date(2026, 7, 1), TODAY)
