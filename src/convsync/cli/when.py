"""Days and moments as people type them."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from convsync.errors import ConfigError, UsageError

if TYPE_CHECKING:
    _Typed = click.ParamType[date | datetime]
    _TypedLength = click.ParamType[timedelta]
else:  # older versions of click 8 take no type in brackets
    _Typed = _TypedLength = click.ParamType

YEARS = range(1990, 2100)


class When(_Typed):
    """A day (2026-11-22) or a moment (2026-11-22T14:30, with or without an offset)."""

    name = "DAY"
    example = "Write 2026-11-22, or a moment such as 2026-11-22T14:30."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date | datetime:
        if isinstance(value, date):
            return value
        text = str(value).strip()
        found: date | datetime | None
        try:
            found = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
        except ValueError:
            found = None
        if found is None or found.year not in YEARS:
            self.fail(f"{text[:40]!r} is not a day. {self.example}", param, ctx)
        return found


class Day(When):
    """A day alone."""

    example = "Write 2026-11-22."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        found = super().convert(value, param, ctx)
        if isinstance(found, datetime):
            self.fail(f"whole days are counted here. {self.example}", param, ctx)
        return found


class Length(_TypedLength):
    """30s, 15m, 2h, or a number of seconds."""

    name = "DUR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        from convsync.config import duration

        try:
            found = duration(value)
        except ValueError as error:
            self.fail(f"{str(value)[:40]!r} {error}", param, ctx)
        assert isinstance(found, timedelta)
        return found


def span(
    since: date | datetime | None, until: date | datetime | None, zone: ZoneInfo | None
) -> tuple[datetime | None, datetime | None]:
    """From the first moment to the one before which it ends: a day is meant as a whole, a last moment is not in it."""
    begin = None if since is None else _moment(since, zone, 0)
    end = None if until is None else _moment(until, zone, 1)
    if begin is not None and end is not None and begin >= end:
        raise UsageError("--until lies before --since.", "Both days belong to the span: the same day twice is one day.")
    return begin, end


def zone_for_days(zone: ZoneInfo | None) -> ZoneInfo:
    if zone is None:
        raise ConfigError(
            "The configuration names no timezone, and without one a day has no beginning.",
            'Write timezone = "Europe/Moscow" at its top.',
        )
    return zone


def _moment(said: date | datetime, zone: ZoneInfo | None, days: int) -> datetime:
    if not isinstance(said, datetime):
        return datetime.combine(said + timedelta(days=days), time(), zone_for_days(zone))
    return said if said.tzinfo else said.replace(tzinfo=zone_for_days(zone))
