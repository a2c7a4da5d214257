"""Ids that a spreadsheet rounded: it keeps 15 digits of a number and writes zeros behind them.

One such id may be genuine (of 17 digits one in a hundred ends so, of 20 one in a hundred thousand), so none is refused.
Many at once are not: then the person is told, for Metrica finds nobody by them and says so days later, if at all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any, NamedTuple

from convsync.errors import SourceError, SourceUnavailable
from convsync.model import Action, Finding
from convsync.sources import Page
from convsync.sources.fields import PLACE, FieldMap

FIELDS = ("ym_client_id", "yclid")
LENGTHS = frozenset((17, 18, 19, 20))
"""Digits of a ClientID and of a yclid: 64 bits without a sign. DOC (facts 2.2)"""
KEPT = 15
"""Significant digits that a spreadsheet keeps of a number."""
FEWEST = 20
"""Ids that are judged together: of fewer nothing is said."""
SHARE = 4
"""More than one in so many must look rounded."""


class _Count(NamedTuple):
    """How many ids are so long, and how many of them look rounded."""

    long: int = 0
    rounded: int = 0

    def __add__(self, other: tuple[Any, ...]) -> _Count:
        return _Count(self.long + other[0], self.rounded + other[1])

    @property
    def is_telling(self) -> bool:
        return self.long >= FEWEST and self.rounded * SHARE > self.long


class Rounded:
    """What was seen of one source, page by page. A page is judged by itself, for one bad export among good ones would
    get lost in a sum over all; what is too little to be judged waits for the next page."""

    def __init__(self, fields: FieldMap) -> None:
        self._map = fields
        self._waiting = dict.fromkeys(FIELDS, _Count())
        self._found = dict.fromkeys(FIELDS, _Count())

    def look(self, actions: Sequence[Action]) -> None:
        for field, get in _CELLS.items():
            ids = list(filter(None, map(get, actions)))
            if not ids:
                continue
            count = _counted(ids)
            if count.long < FEWEST:
                count += self._waiting[field]
                self._waiting[field] = _Count() if count.long >= FEWEST else count
            if count.is_telling:
                self._found[field] += count

    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._finding(field, count) for field, count in self._found.items() if count.long)

    def _finding(self, field: str, count: _Count) -> Finding:
        source, column = self._map.source, self._map.column(field)
        named = f"{column} ({field})" if column != field else field
        message = (
            f"{count.rounded} of {count.long} ids in the column {named} have nothing but zeros behind their 15th digit."
            " A spreadsheet keeps 15 digits of a number: Metrica will find nobody by such an id."
        )
        advice = (
            "Export the column as text, then read these days again:"
            f" convsync backfill --since D --until D --source {source}"
        )
        return Finding("warning", "rounded_ids", f"source {source}", message, advice)


_CELLS = {field: itemgetter(PLACE[field]) for field in FIELDS}


def _counted(ids: Sequence[str]) -> _Count:
    """Over the whole column: an id is looked at by itself only where the column as a whole could look rounded."""
    lengths = list(map(len, ids))
    long = len(ids) if LENGTHS.issuperset(lengths) else sum(map(lengths.count, LENGTHS))
    if long >= FEWEST and f"{' '.join(ids)} ".count("00 ") * SHARE <= long:
        return _Count(long)
    return _Count(long, sum(len(id_) in LENGTHS and id_.isdecimal() and not id_[KEPT:].strip("0") for id_ in ids))


def watched(pages: Generator[Page, None, None], rounded: Rounded) -> Iterator[Page]:
    """The same pages, and what was noticed of them at the end, also of a source that fails on its way."""
    with closing(pages):
        try:
            for page in pages:
                rounded.look(page.actions)
                yield page
        except (SourceError, SourceUnavailable):
            yield from _told(rounded)
            raise
        yield from _told(rounded)


def _told(rounded: Rounded) -> Iterator[Page]:
    if found := rounded.findings():
        yield Page([], [], None, found)
