"""A table or a SELECT as a source, read in keyset pages that survive ties, edits between pages and late commits."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Protocol, Unpack

from convsync.errors import SourceError, SourceUnavailable
from convsync.model import Action, Finding
from convsync.sources import Page, Window
from convsync.sources.fields import FieldMap, FieldOptions, Rows
from convsync.sources.marks import Condition, Mark, beyond, is_future, is_time, load, order, start, whole_groups
from convsync.sources.rounded import Rounded, watched

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_SELECT = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*(?:select|with|values)\b", re.IGNORECASE | re.DOTALL).match
_SCHEME = re.compile(r"([a-z0-9]{1,20})(?:\+[a-z0-9_]+)?://", re.IGNORECASE).match
_UNSORTED_ROWS = 20_000
_SAMPLE_ROWS = 100

Row = tuple[object, ...]
EVERY = Condition("1 = 1")


class Database(Protocol):
    """What the paging needs of a database. SQLite is here; others join through the same six words."""

    def columns(self, sql: str) -> list[str]: ...
    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]: ...
    def sorts(self, sql: str, values: Sequence[object]) -> bool: ...
    def ordered(self, column: str) -> str: ...
    def within(self, column: str, window: Window) -> Condition: ...
    def close(self) -> None: ...


class Select(NamedTuple):
    """The operator's query, wrapped, with its columns in a known order and the keys it is walked by."""

    head: str
    keys: tuple[str, ...]
    places: tuple[int, ...]
    rows: Rows
    occurred_at: str

    def page(self, after: Condition = EVERY, always: Condition = EVERY) -> str:
        return f"{self.head} WHERE {after.sql} AND {always.sql} ORDER BY {', '.join(self.keys)} LIMIT ?"

    def key(self, row: Row) -> list[object]:
        return [row[place] for place in self.places]


class SqlSource:
    """With `cursor`, reads what changed since the mark, less `overlap`, in the order (cursor, id). Without it, reads
    everything on every run in the order of the id, and the ledger drops what it knows. A window is read in the order
    of the id as well: nobody edits an id, so no row can slip between two pages.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        query: str | None = None,
        table: str | None = None,
        cursor: str | None = None,
        overlap: timedelta | int = timedelta(minutes=15),
        page_rows: int = 2000,
        options: Mapping[str, object] | None = None,
        base: Path | None = None,
        now: Callable[[], float] = time.time,
        **fields: Unpack[FieldOptions],
    ) -> None:
        self.name = name
        self._url, self._base, self._options = url, base or Path(), dict(options or {})
        self._zone = fields.get("timezone")
        self._prefilter = fields.get("occurred_format") is None
        self._map = FieldMap(name, fields)
        self._cursor, self._overlap, self._page_rows, self._now = cursor, overlap, page_rows, now
        self._query = self._inner(query, table)
        self._check_names()

    def _inner(self, query: str | None, table: str | None) -> str:
        if (query is None) == (table is None):
            raise SourceError(f"source {self.name} needs either `query` or `table`.")
        if table is not None:
            self._check_name(table, "table")
            return f'SELECT * FROM "{table}"'
        assert query is not None
        if not _SELECT(query):
            raise SourceError(f"source {self.name}: `query` is not a SELECT.", "A source may only read.")
        return query.strip().rstrip(";")

    def _check_names(self) -> None:
        for column in (*self._map.named(), *([self._cursor] if self._cursor else [])):
            self._check_name(column, "column")

    def _check_name(self, name: str, what: str) -> None:
        if not _NAME(name):
            raise SourceError(
                f"source {self.name}: {name[:40]!r} is not a plain {what} name (Latin letters, digits, _).",
                'Give it another name in `query`: SELECT "…" AS plain_name.',
            )

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, cursors: Mapping[str, str], window: Window | None = None) -> Iterator[Page]:
        return watched(self._read(cursors, window), Rounded(self._map))

    def _read(self, cursors: Mapping[str, str], window: Window | None) -> Generator[Page, None, None]:
        with closing(self._open()) as database:
            if window is not None:
                yield from self._read_window(database, window)
            elif self._cursor is None:
                yield from self._read_all(database)
            else:
                yield from self._read_since(database, cursors.get(""))

    def _read_all(self, database: Database) -> Iterator[Page]:
        select = self._select(database, with_cursor=False)
        for rows in self._blocks(database, select):
            actions, bad = select.rows.read(rows, self._where(select))
            yield Page(actions, bad)

    def _read_window(self, database: Database, window: Window) -> Iterator[Page]:
        select = self._select(database, with_cursor=False)
        around = database.within(select.occurred_at, window) if self._prefilter else EVERY
        for rows in self._blocks(database, select, always=around):
            actions, bad = select.rows.read(rows, self._where(select))
            yield Page([action for action in actions if _in(action, window)], bad)

    def _read_since(self, database: Database, stored: str | None) -> Iterator[Page]:
        select = self._select(database, with_cursor=True)
        mark = load(stored, self.name) if stored else None
        mark, timed, findings = self._survey(database, mark)
        condition, doubt = self._since(select, mark)
        if findings or doubt:
            yield Page([], [], None, (*findings, *doubt))
        left: Counter[str] = Counter()
        for rows in self._blocks(database, select, first=condition):
            actions, bad = select.rows.read(rows, self._where(select))
            reached = self._reached(select, rows, timed, left)
            moved = reached is not None and reached.after(mark)
            mark = reached if moved else mark
            yield Page(actions, bad, ("", reached.dump()) if reached is not None and moved else None)
        if left:
            yield Page([], [], None, tuple(self._left(code, count) for code, count in left.items()))

    def _blocks(
        self, database: Database, select: Select, first: Condition = EVERY, always: Condition = EVERY
    ) -> Iterator[list[Row]]:
        """Rows in the order of the keys, at most `page_rows` at a time. `first` is where they begin, `always` holds
        for each. A page that is full may have cut a group of equal keys in two: that group is left to the next page.
        Where there is no index, fewer and larger statements.
        """
        sorts = database.sorts(select.page(first, always), (*first.values, *always.values, 1))
        size = limit = max(self._page_rows, _UNSORTED_ROWS) if sorts else self._page_rows
        after = first
        while True:
            rows = database.rows(select.page(after, always), (*after.values, *always.values, limit))
            full = len(rows) == limit
            if full:
                rows = whole_groups(rows, select.places)
                if not rows:
                    limit *= 2
                    continue
            for at in range(0, len(rows), self._page_rows):
                yield rows[at : at + self._page_rows]
            if not full:
                return
            after, limit = beyond(select.keys, select.key(rows[-1])), size

    def _since(self, select: Select, mark: Mark | None) -> tuple[Condition, tuple[Finding, ...]]:
        column = select.keys[0]
        if mark is None:
            return Condition(f"{column} IS NOT NULL"), ()
        first = start(mark.cursor, self._overlap, self._zone)
        if first is not None:
            return Condition(f"{column} >= ?", (first,)), ()
        message = f"the overlap cannot be applied to {mark.column}: its text is neither a time nor a date."
        advice = "Rows that are committed late may be missed. Choose a column with a time, or an integer, as `cursor`."
        return Condition(f"{column} >= ?", (mark.cursor,)), (self._finding("warning", "no_overlap", message, advice),)

    def _survey(self, database: Database, mark: Mark | None) -> tuple[Mark | None, bool, list[Finding]]:
        """What would make rows invisible to a cursor: NULLs, numbers among text, a mark that is of another kind. Also
        whether the cursor tells times, so that other text among them is not taken for a later one.
        """
        inner, column, findings = f"(\n{self._query}\n) AS source", f'"{self._cursor}"', []
        parts = (
            f"min({column}) FROM {inner}",
            f"max({column}) FROM {inner}",
            f"count(*) FROM {inner} WHERE {column} IS NULL",
        )
        lowest, highest, nulls = database.rows(f"SELECT {', '.join(f'(SELECT {part})' for part in parts)}")[0]
        if nulls:
            message = f"{nulls} rows have no {self._cursor}: they are never read."
            advice = "Fill the column, or use another `cursor`."
            findings.append(self._finding("warning", "null_cursor", message, advice))
        if self._kind(lowest) != self._kind(highest):
            message = f"{self._cursor} holds both numbers and text: new rows with a number would never be read."
            advice = "Write one kind of value into this column."
            findings.append(self._finding("error", "mixed_cursor", message, advice))
        timed = any(isinstance(one, str) and is_time(one) for one in (lowest, highest))
        fits = mark is None or (mark.column == self._cursor and self._kind(highest) in (None, self._kind(mark.cursor)))
        if mark is not None and not (fits and (is_time(mark.cursor) or not timed)):
            message = f"the stored cursor does not fit {self._cursor}: the source is read from its beginning."
            advice = "What is known already is not sent again."
            findings.append(self._finding("warning", "cursor_changed", message, advice))
            mark = None
        return mark, timed, findings

    def _kind(self, value: object) -> int | None:
        """Whether a cursor value is a number or a text; None is neither, and nothing else can be a mark."""
        if value is None:
            return None
        if isinstance(value, int | float | str):
            return order(value)[0]
        raise SourceError(f"source {self.name}: the cursor column {self._cursor} holds neither numbers nor text.")

    def _reached(self, select: Select, rows: list[Row], timed: bool, left: Counter[str]) -> Mark | None:
        """The last row's mark; rows dated in the future, or by no time at all, do not move it, and are counted."""
        assert self._cursor is not None
        now = self._now()
        for row in reversed(rows):
            cursor, *ids = select.key(row)
            assert isinstance(cursor, int | float | str)
            if timed and not is_time(cursor):
                left["odd_cursor"] += 1
            elif is_future(cursor, now):
                left["future_cursor"] += 1
            else:
                return Mark(self._cursor, cursor, ids)
        return None

    # --- the query ----------------------------------------------------------------------------------------------------

    def _open(self) -> Database:
        scheme = _SCHEME(self._url)
        if scheme is None or (scheme[1] == "sqlite" and len(self._url) <= len("sqlite:///")):
            raise SourceError(f"source {self.name}: `url` names no database.", 'Write "sqlite:///shop.db".')
        if not self._url.startswith("sqlite:///"):
            raise SourceError(
                f"source {self.name}: {scheme[1]} databases are not in this version.",
                "Use SQLite, or export to CSV or JSON lines.",
            )
        from convsync.sources.sqlite import Sqlite

        return Sqlite(self.name, self._url, self._base, self._options)

    def _select(self, database: Database, *, with_cursor: bool) -> Select:
        inner = f"FROM (\n{self._query}\n) AS source"
        there = database.columns(f"SELECT * {inner} LIMIT 0")
        where = f"source {self.name}"
        layout = self._map.resolve(there, where)
        keys = layout.ids
        if with_cursor:
            assert self._cursor is not None
            self._cursor = self._map.find(self._cursor, there, where)
            keys = (self._cursor, *layout.ids)
        columns = tuple(dict.fromkeys((*keys, *layout.columns())))
        head = "SELECT " + ", ".join([f'"{column}"' for column in columns]) + f" {inner}"
        return Select(
            head,
            tuple(database.ordered(key) for key in keys),
            tuple(columns.index(key) for key in keys),
            self._map.compile(layout, columns),
            layout.fields["occurred_at"],
        )

    def _where(self, select: Select) -> Callable[[Sequence[object]], str]:
        def where(row: Sequence[object]) -> str:
            if select.rows.id_is_private:
                return f"a row of source {self.name}, whose id is a contact"
            ids = [row[place] for place in select.rows.ids]
            if any(part is None or isinstance(part, bytes) for part in ids):
                return f"a row without a readable id of source {self.name}"
            return f"row id {':'.join(map(str, ids))[:60]} of source {self.name}"

        return where

    # --- findings -----------------------------------------------------------------------------------------------------

    def check(self) -> list[Finding]:
        try:
            with closing(self._open()) as database:
                return self._look(database)
        except (SourceError, SourceUnavailable) as error:
            return [self._finding("error", "source_unreadable", error.message, error.advice)]

    def _look(self, database: Database) -> list[Finding]:
        select = self._select(database, with_cursor=self._cursor is not None)
        findings = self._survey(database, None)[2] if self._cursor else []
        if database.sorts(select.page(), (1,)):
            keys = ", ".join(key.split(" ")[0] for key in select.keys)
            message = f"there is no index on ({keys}): every page sorts the whole table."
            findings.append(self._finding("info", "no_index", message, "Create it if reading is slow."))
        rows = database.rows(select.page(), (_SAMPLE_ROWS,))
        actions, bad = select.rows.read(rows, self._where(select))
        if bad:
            message = f"{len(bad)} of the first {len(rows)} rows cannot be read: {bad[0].where}: {bad[0].field} {bad[0].problem}."
            findings.append(self._finding("warning", "bad_rows", message, bad[0].advice))
        rounded = Rounded(self._map)
        rounded.look(actions)
        return [*findings, *rounded.findings()]

    def _left(self, code: str, count: int) -> Finding:
        """Rows that the cursor does not pass."""
        what = {"future_cursor": "in the future", "odd_cursor": "that is no time"}[code]
        message = f"{count} rows have a {self._cursor} {what}: they are read again on every run."
        return self._finding("warning", code, message, "Correct the clock or the rows; the cursor waits before them.")

    def _finding(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return Finding(level, code, f"source {self.name}", message, advice)


def _in(action: Action, window: Window) -> bool:
    return window.since <= action.occurred_at < window.until
