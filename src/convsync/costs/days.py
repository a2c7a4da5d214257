"""The days of an account, and which of them a reading asks for: the same for every platform."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from convsync.errors import SourceError, UsageError
from convsync.model import Account

FIRST_DAYS = 30
"""How far back the first reading of an account goes."""
AGAIN_DAYS = 7
"""Days read again before the last one that was read: platforms correct their numbers for some days."""


class Keeps(NamedTuple):
    """How far back a platform tells cost by the day."""

    platform: str
    """As people call it."""
    months: int = 0
    whole: bool = False
    """Whether the first of these months is kept from its first day."""
    days: int = 0
    """Where a platform counts days, not months: so many, today included."""

    def oldest(self, today: date) -> date:
        if self.days:
            return today - timedelta(days=self.days - 1)
        day = months_before(today, self.months)
        return day.replace(day=1) if self.whole else day

    def require(self, since: date | None, today: date) -> None:
        """Raises UsageError for days that the platform no longer keeps."""
        if since is not None and since < self.oldest(today):
            length = f"{self.days} days" if self.days else f"{self.months} months"
            raise UsageError(
                f"{self.platform} keeps cost by the day for {length}, and --since {since} is before that.",
                f"The first day it can tell is {self.oldest(today)};"
                " import older cost from a file: convsync costs import FILE.",
            )


def span(
    keeps: Keeps, since: date | None, until: date | None, *, today: date, pulled_until: date | None
) -> tuple[date, date] | None:
    """The first and the last day to ask for; None when none of the days wished for has begun yet.

    Raises UsageError for days that the platform no longer keeps.
    """
    keeps.require(since, today)
    last = min(until or today, today)
    before = timedelta(days=FIRST_DAYS - 1) if pulled_until is None else timedelta(days=AGAIN_DAYS)
    first = since or max(keeps.oldest(today), min(pulled_until or last, last) - before)
    return None if first > last else (first, last)


def months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    follows = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + timedelta(days=day.day - 1), follows - timedelta(days=1))


def zone(account_id: str, time_zone: str) -> ZoneInfo:
    """The zone whose days an account counts."""
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise SourceError(
            f"The account {account_id} counts its days in {time_zone[:40]!r}, a time zone unknown to this machine.",
            "Bring the time zone data up to date (package tzdata).",
        ) from None


def today(account: Account, now: datetime) -> date:
    """The day it is where the account is."""
    return now.astimezone(zone(account.id, account.time_zone)).date()


def zones_differ(account: Account, other: ZoneInfo, since: date, until: date) -> bool:
    """Whether days of the account begin at another moment than days of `other`, at either end of a span."""
    own = zone(account.id, account.time_zone)
    noons = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in (since, until)]
    return any(noon.astimezone(own).utcoffset() != noon.astimezone(other).utcoffset() for noon in noons)
