"""How far a source got: the mark of a cursor column, where the next run starts from it, and the keyset that walks on.

A mark is kept exactly as it was read (a number or a text). The next run starts `overlap` before it, ties included, so
that a row which was committed late is still seen; the ledger drops what is read twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from convsync.errors import SourceError

Scalar = int | float | str
VERSION = 1

_ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})([T ])([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(.*)", re.DOTALL).fullmatch
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_TAIL = re.compile(r"(?:[.,][0-9]+)?(?P<zone>\s*(?:Z|UTC|[+-][0-9]{2}:?(?:[0-9]{2})?))?", re.IGNORECASE).fullmatch
_DIGITS = re.compile(r"[0-9]{10}|[0-9]{13}").fullmatch
_FIRST_EPOCH = 10**8
_FIRST_MILLISECOND = 10**11
_SLACK = timedelta(days=1)


class Mark(NamedTuple):
    """The last row read, as (cursor, id columns), and the name of the cursor column."""

    column: str
    cursor: Scalar
    id: Sequence[object]

    def dump(self) -> str:
        return json.dumps(
            {"v": VERSION, "column": self.column, "cursor": self.cursor, "id": list(self.id)},
            ensure_ascii=False,
            default=str,
        )

    def after(self, other: Mark | None) -> bool:
        return other is None or order(self.cursor) > order(other.cursor)


def load(text: str, source: str) -> Mark:
    try:
        kept = json.loads(text)
        if kept["v"] == VERSION and isinstance(kept["cursor"], int | float | str):
            return Mark(kept["column"], kept["cursor"], kept["id"])
    except (ValueError, KeyError, TypeError):
        pass
    raise SourceError(
        f"The stored cursor of source {source} cannot be read by this version.",
        "Update convsync, or give the source a new name.",
    )


def order(value: Scalar) -> tuple[int, Scalar]:
    """Numbers come before text, as SQLite sorts them."""
    return (1, value) if isinstance(value, str) else (0, value)


def start(value: Scalar, overlap: timedelta | int, zone: tzinfo | None) -> Scalar | None:
    """The mark less the overlap, written as the mark is; None if nobody can tell what lies before such a text.

    A number counts seconds or milliseconds of an epoch by its size; a smaller one is a counter, and an overlap in
    time takes one from it for each second. A whole number as overlap counts what the cursor counts.
    """
    if isinstance(value, str):
        return _text_start(value, overlap if isinstance(overlap, timedelta) else timedelta(seconds=overlap), zone)
    if isinstance(overlap, int):
        return value - overlap
    seconds = overlap.total_seconds()
    step = seconds * 1000 if value >= _FIRST_MILLISECOND else seconds
    return value - (int(step) if isinstance(value, int) else step)


def _text_start(value: str, overlap: timedelta, zone: tzinfo | None) -> str | None:
    if _DIGITS(value):
        return str(start(int(value), overlap, zone)).zfill(len(value))
    try:
        if _DATE(value):
            return (datetime.fromisoformat(value) - overlap).date().isoformat()
        parts = _ISO(value)
        tail = _TAIL(parts[4]) if parts else None
        if parts is None or tail is None:
            return None
        moment = datetime.fromisoformat(f"{parts[1]}T{parts[3]}")
        if tail["zone"] is None and zone is not None:
            overlap += _repeated(moment, zone)
        earlier = (moment - overlap).isoformat(sep=" " if parts[2] == " " else "T", timespec=_precision(parts[3]))
    except (ValueError, OverflowError):
        return None
    return earlier + parts[4]


def is_time(value: Scalar) -> bool:
    """Whether the overlap could be taken from this mark. Text that is no time sorts behind every honest time."""
    return not isinstance(value, str) or _text_start(value, timedelta(), None) is not None


def _precision(clock: str) -> str:
    return "seconds" if clock.count(":") == 2 else "minutes"


def _repeated(moment: datetime, zone: tzinfo) -> timedelta:
    """In the hour that happens twice when clocks go back, rows written later may carry an earlier local time."""
    first, second = (moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return max(first - second, timedelta()) if first is not None and second is not None else timedelta()


def is_future(value: Scalar, now: float) -> bool:
    """Whether a mark lies more than a day ahead: were it kept, every honest row after it would be passed over."""
    limit = datetime.fromtimestamp(now, UTC) + _SLACK
    if isinstance(value, str):
        if _DIGITS(value):
            return is_future(int(value), now)
        if not _DATE(value[:10]):
            return False
        return value[:10] > (limit.date() + timedelta(days=1)).isoformat()
    if value < _FIRST_EPOCH:
        return False
    return value / (1000 if value >= _FIRST_MILLISECOND else 1) > limit.timestamp()


class Condition(NamedTuple):
    """A piece of SQL and the values bound in it."""

    sql: str
    values: tuple[object, ...] = ()


def beyond(columns: Sequence[str], key: Sequence[object]) -> Condition:
    """Rows that come after `key` in the order of `columns`, in the expanded form, which every database can range over.

    NULL comes first in that order.
    """
    column, value = columns[0], key[0]
    if len(columns) == 1:
        return Condition(f"{column} IS NOT NULL") if value is None else Condition(f"{column} > ?", (value,))
    rest = beyond(columns[1:], key[1:])
    if value is None:
        return Condition(f"({column} IS NOT NULL OR ({column} IS NULL AND {rest.sql}))", rest.values)
    return Condition(f"({column} >= ? AND ({column} > ? OR {rest.sql}))", (value, value, *rest.values))


def whole_groups(rows: list[tuple[object, ...]], places: Sequence[int]) -> list[tuple[object, ...]]:
    """The rows of a full page without the last group of equal keys, which the page may have cut in two."""
    last = [rows[-1][place] for place in places]
    end = len(rows) - 1
    while end and [rows[end - 1][place] for place in places] == last:
        end -= 1
    return rows[:end]


def days_around(since: datetime, until: datetime) -> tuple[date, date]:
    """Whole days that hold the span in every time zone."""
    return (since.astimezone(UTC) - _SLACK).date(), (until.astimezone(UTC) + 2 * _SLACK).date()
