"""Rows of a report as a table for people, CSV for spreadsheets and JSON for programs. Only here anything is rounded.

CSV and JSON give money to the decimals of its currency and ratios to four decimals; in JSON they are numbers, written out
exactly and never passed through a float. The table shows percentages and, where amounts are large, whole units. Coverage is
rounded down everywhere: 100 % means all of them.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any

import orjson

from convsync.report.rows import DATING, FIGURES, Row

MONEY = ("cost", "value", "cpl", "cpa")
RATIOS = ("roas", "cr", "coverage")
NOTHING = "–"
WHOLE_FROM = 10_000
"""Amounts from here on are shown without their decimals in a table."""
FOLD = ""
LEFT_OUT_FIRST = ("actions", "cr", "clicks", "value", "coverage", FOLD, "roas", "cpa", "cpl")
"""What a narrow table does without, in this order; before the last ones it folds its text."""
NARROWEST_TEXT = (14, 8)
"""How far text may be folded: comfortably, and when nothing more can be left out."""
GAP = 2
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00")

_EXACT = Context(prec=60)


def _rounded(figure: str, number: Decimal, row: Row) -> Decimal:
    how = ROUND_DOWN if figure == "coverage" else ROUND_HALF_UP
    return number.quantize(_step(figure, row), rounding=how, context=_EXACT)


def _step(figure: str, row: Row) -> Decimal:
    """The smallest step of this figure: the money of a row all has the decimals of its currency."""
    if figure in RATIOS:
        return Decimal("0.0001")
    amount = row.value if row.cost is None else row.cost
    assert amount is not None
    return Decimal((0, (1,), int(amount.as_tuple().exponent)))


def _figure(row: Row, figure: str) -> Decimal | int | str | None:
    number: Decimal | int | str | None = getattr(row, figure)
    return _rounded(figure, number, row) if isinstance(number, Decimal) else number


# --- JSON -------------------------------------------------------------------------------------------------------------


def as_json(
    rows: Sequence[Row],
    *,
    since: date,
    until: date,
    basis: str = "event",
    currency: str | None = None,
    remarks: Sequence[str] = (),
    doubts: Sequence[Mapping[str, Any]] = (),
) -> str:
    """One object; the total stands beside the rows, so that nobody adds it to them. `remarks` hold for all of it;
    `doubts` are what `report.doubt` found, one for each destination that confirms nothing."""
    return orjson.dumps(
        {
            "since": since,
            "until": until,
            "basis": basis,
            "currency": currency,
            "rows": [_object(row) for row in rows if not row.total],
            "total": next((_object(row) for row in rows if row.total), None),
            "doubts": doubts,
            "notes": [*remarks, DATING[basis]],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    ).decode()


def _object(row: Row) -> dict[str, Any]:
    named = {} if row.total else dict(row.dimensions)
    return {**named, **{figure: _json(_figure(row, figure)) for figure in FIGURES}, "notes": list(row.notes)}


def _json(number: Decimal | int | str | None) -> Any:
    return orjson.Fragment(f"{number:f}".encode()) if isinstance(number, Decimal) else number


# --- CSV --------------------------------------------------------------------------------------------------------------


def as_csv(rows: Sequence[Row], *, basis: str = "event", remarks: Sequence[str] = ()) -> str:
    """RFC 4180, the total as the last line. Text that a spreadsheet would run as a formula gets an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    names = [name for name, _ in rows[0].dimensions] if rows else []
    writer.writerow([*names, *FIGURES, "notes"])
    for row in rows:
        notes = [*row.notes, *remarks, DATING[basis]] if row.total else row.notes
        texts = [_harmless(text) for _, text in row.dimensions]
        writer.writerow([*texts, *[_cell(_figure(row, figure)) for figure in FIGURES], _harmless(" ".join(notes))])
    return out.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _cell(number: Decimal | int | str | None) -> str:
    if isinstance(number, Decimal):
        return f"{number:f}"
    return "" if number is None else str(number)


# --- table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    name: str
    cells: tuple[str, ...]
    is_text: bool = False

    @property
    def folds(self) -> bool:
        return self.is_text and self.name != "day"

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(map(cell_len, (self.name, *self.cells)))

    def narrowest(self, text: int) -> int:
        return min(self.width, text) if self.folds else self.width


def as_table(
    rows: Sequence[Row],
    *,
    since: date,
    until: date,
    basis: str = "event",
    width: int = 100,
    colour: bool = False,
    remarks: Sequence[str] = (),
) -> str:
    """A table of at most `width` characters, and below it the notes that its last column refers to."""
    notes = list(dict.fromkeys(note for row in rows for note in row.notes))
    columns, left_out, text = _fitted(_columns(rows, notes), width)
    drawn = _drawn(columns, rows, width, text, colour)
    below = [*_numbered(notes, width), *_remarks(rows, [*remarks, DATING[basis]], left_out, width)]
    title = f"From {since} until {until}" + _currency_title(rows)
    return "\n".join([title, "", drawn, *below]) + "\n"


def _columns(rows: Sequence[Row], notes: Sequence[str]) -> list[_Column]:
    names = [name for name, _ in rows[0].dimensions] if rows else []
    texts = [
        _Column(name, tuple(_printable(row.dimensions[at][1]) for row in rows), is_text=True)
        for at, name in enumerate(names)
    ]
    figures = [_Column(name, tuple(_shown(name, row, rows) for row in rows)) for name in FIGURES]
    if _one_currency(rows):
        figures = [column for column in figures if column.name != "currency"]
    marks = tuple(", ".join(str(notes.index(note) + 1) for note in row.notes) for row in rows)
    return [*texts, *figures, *([_Column("notes", marks, is_text=True)] if notes else [])]


def _shown(name: str, row: Row, rows: Iterable[Row]) -> str:
    number = getattr(row, name)
    if number is None:
        return NOTHING
    if isinstance(number, Decimal):
        return _SHAPES[name](number, row, rows) if name in _SHAPES else _money(name, row, rows)
    return number if isinstance(number, str) else _grouped(number)


def _money(name: str, row: Row, rows: Iterable[Row]) -> str:
    number = getattr(row, name)
    if _is_large(name, rows):
        return _grouped(number.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=_EXACT))
    return _grouped(_rounded(name, number, row))


def _is_large(name: str, rows: Iterable[Row]) -> bool:
    return any(number is not None and abs(number) >= WHOLE_FROM for number in (getattr(row, name) for row in rows))


def _grouped(number: Decimal | int) -> str:
    return f"{number:,f}".replace(",", " ") if isinstance(number, Decimal) else f"{number:,}".replace(",", " ")


def _percent(number: Decimal, how: str) -> str:
    return f"{(number * 100).quantize(Decimal('0.1'), rounding=how, context=_EXACT):f} %"


_SHAPES: dict[str, Callable[[Decimal, Row, Iterable[Row]], str]] = {
    "roas": lambda number, row, rows: _grouped(number.quantize(Decimal("0.01"), ROUND_HALF_UP, _EXACT)),
    "cr": lambda number, row, rows: _percent(number, ROUND_HALF_UP),
    "coverage": lambda number, row, rows: _percent(number, ROUND_DOWN),
}


def _one_currency(rows: Iterable[Row]) -> str:
    currencies = {row.currency for row in rows if row.currency}
    return currencies.pop() if len(currencies) == 1 else ""


def _currency_title(rows: Iterable[Row]) -> str:
    currency = _one_currency(rows)
    return f", money in {currency}" if currency else ""


def _printable(text: str) -> str:
    """Text of a CRM must not move the cursor or turn the line around; every kind of blank is a blank."""
    return "".join(" " if char.isspace() else char if char.isprintable() else "\ufffd" for char in text)


def _fitted(columns: list[_Column], width: int) -> tuple[list[_Column], list[str], int]:
    """The columns that fit, the names of those that do not, and how far text has to be folded."""
    comfortable, tight = NARROWEST_TEXT
    text = comfortable
    left_out: list[str] = []
    for name in LEFT_OUT_FIRST:
        if _needed(columns, text) <= width:
            break
        if name == FOLD:
            text = tight
        elif any(column.name == name for column in columns):
            columns = [column for column in columns if column.name != name]
            left_out.append(name)
    return columns, left_out, text


def _needed(columns: Sequence[_Column], text: int) -> int:
    return sum(column.narrowest(text) + GAP for column in columns) - GAP


def _drawn(columns: Sequence[_Column], rows: Sequence[Row], width: int, text: int, colour: bool) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.name,
            justify="left" if column.is_text else "right",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=column.narrowest(text),
        )
    for at, row in enumerate(rows):
        if row.total and at:
            table.add_section()
        table.add_row(*[Text(column.cells[at]) for column in columns], style="bold" if row.total else "")
    out = io.StringIO()
    console = Console(
        file=out,
        width=max(width, _needed(columns, text) + 1),
        force_terminal=colour,
        color_system="standard" if colour else None,
        _environ={},
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _numbered(notes: Sequence[str], width: int) -> list[str]:
    indent = len(str(len(notes))) + 2
    lines: list[str] = [""] if notes else []
    for at, note in enumerate(notes, start=1):
        lead = f"{at}.".ljust(indent)
        lines += textwrap.wrap(
            _printable(note),
            max(width, 40),
            initial_indent=lead,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
    return lines


def _remarks(rows: Sequence[Row], sentences: list[str], left_out: Sequence[str], width: int) -> list[str]:
    if any(_is_large(name, rows) for name in MONEY):
        sentences.append("Large amounts are shown in whole units; csv and json have all decimals.")
    if left_out:
        sentences.append(f"Too narrow for {', '.join(left_out)}; csv and json have everything.")
    return ["", *textwrap.wrap(" ".join(sentences), max(width, 40), break_on_hyphens=False)]
