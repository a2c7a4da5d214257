"""Whole columns at once: the same reading as cell by cell in `values`, quicker where cells are as most sources write them.

Each reader here takes over the ordinary shapes of its field and leaves every other cell to the careful reader, so the
two never disagree (a property test in test_sources_columns.py). None stays None; a cell may raise `Unreadable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from types import NoneType
from typing import Any

from convsync.sources import values

Convert = Callable[[Any], Any]
Column = Callable[[Sequence[Any]], list[Any]]

_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,2})?").fullmatch
"""No sign, no thousands point (three digits follow one), not too large: an amount whatever the options of the source."""


def each(convert: Convert) -> Column:
    """Any field: one careful call a cell."""
    return lambda cells: [None if cell is None else convert(cell) for cell in cells]


def texts(cells: Sequence[Any]) -> list[Any]:
    """As `values.text`, which strips text and makes None of a blank."""
    text = values.text
    return [(cell.strip() or None) if type(cell) is str else None if cell is None else text(cell) for cell in cells]


def own_ids(cells: Sequence[Any]) -> list[Any]:
    """As `values.own_id`: an integer is its digits, and no text is damaged that is a word or without punctuation."""
    own_id = values.own_id
    return [
        str(cell)
        if type(cell) is int
        else word
        if type(cell) is str and ((word := cell.strip()).isalnum() or (word[:1] > "9" and "@" not in word))
        else None
        if cell is None
        else own_id(cell)
        for cell in cells
    ]


def platform_ids(cells: Sequence[Any]) -> list[Any]:
    """As `values.platform_id`, likewise."""
    platform_id = values.platform_id
    return [
        word
        if type(cell) is str and ((word := cell.strip()).isalnum() or (word[:1] > "9" and "@" not in word))
        else None
        if cell is None
        else platform_id(cell)
        for cell in cells
    ]


def words(convert: Convert) -> Column:
    """A field of few different words: each is read once a page. Only text, for 1 and True are one key of a dictionary."""
    carefully = each(convert)

    def read(cells: Sequence[Any]) -> list[Any]:
        if not {str, NoneType}.issuperset(map(type, cells)):
            return carefully(cells)
        different = list(set(cells))
        meaning = dict(zip(different, carefully(different), strict=True))
        return [meaning[cell] for cell in cells]

    return read


def amounts(convert: Convert) -> Column:
    """As `values.money_reader`, which makes a Decimal of plain digits."""

    def read(cells: Sequence[Any]) -> list[Any]:
        return [
            Decimal(cell) if type(cell) is str and _AMOUNT(cell) else None if cell is None else convert(cell)
            for cell in cells
        ]

    return read


def local_times(convert: Convert, zone: tzinfo | None) -> Column:
    """As `values.time_reader`, if every cell is ISO text without a zone, and in an hour that has one UTC offset."""
    from_iso, carefully = datetime.fromisoformat, each(convert)
    offsets: Mapping[str, Any] = values.Offsets(zone)

    def read(cells: Sequence[Any]) -> list[Any]:
        try:
            return [None if cell is None else from_iso(cell + "Z") - offsets[cell[:13]] for cell in cells]
        except (TypeError, ValueError, OverflowError):  # of another type or shape, or the hour's offset is None
            return carefully(cells)

    return read
