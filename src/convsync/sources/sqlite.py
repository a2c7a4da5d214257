"""A SQLite file as a source: opened read-only three times over (mode=ro, query_only, an authorizer that allows SELECT)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from urllib.parse import quote

from convsync.errors import SourceError, SourceUnavailable
from convsync.sources import Window
from convsync.sources.fields import nearest
from convsync.sources.marks import Condition, days_around

OPTIONS = ("timeout",)
PREFIX = "sqlite:///"

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_MAY_PASS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_READONLY,  # a hot journal that only the writer may roll back
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
}
_BAD_TEXT = "Could not decode to UTF-8"


class Sqlite:
    """One connection. Each page is one short statement, so the shop's own writers are never kept waiting."""

    def __init__(self, source: str, url: str, base: Path, options: Mapping[str, object]) -> None:
        self._where = f"source {source}"
        self.path = base / url.removeprefix(PREFIX)
        for option in options:
            if option not in OPTIONS:
                raise SourceError(f"{self._where}: options.{option} is not known for SQLite.", nearest(option, OPTIONS))
        self._connection = self._connect(float(str(options.get("timeout", 30))))

    def _connect(self, timeout: float) -> sqlite3.Connection:
        if not self.path.is_file():
            raise SourceUnavailable(
                f"{self._where}: there is no database {self.path.name}.", "Check `url`, and that its disk is mounted."
            )
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        with self._told():
            connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)
        try:
            with self._told():
                connection.execute("PRAGMA query_only=ON")
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        connection.set_authorizer(_only_reads)
        return connection

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def ordered(column: str) -> str:
        """A column as keys compare it: byte by byte, so that two ids which a collation holds equal stay two rows."""
        return f'"{column}" COLLATE BINARY'

    def columns(self, sql: str) -> list[str]:
        with self._told():
            cursor = self._connection.execute(sql)
            return [entry[0] for entry in cursor.description]

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._told():
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                # SQLite's sentence quotes the text itself, which may be a contact: never let it out.
                if not str(error).startswith(_BAD_TEXT):
                    raise
            self._connection.text_factory = _text_or_bytes
            try:
                return self._connection.execute(sql, values).fetchall()
            finally:
                self._connection.text_factory = str

    def sorts(self, sql: str, values: Sequence[object]) -> bool:
        """Whether each page would sort the whole table, for want of an index in the order of the keys."""
        steps = self.rows(f"EXPLAIN QUERY PLAN {sql}", values)
        return any(str(step[-1]).startswith("USE TEMP B-TREE FOR ORDER BY") for step in steps)

    @staticmethod
    def within(column: str, window: Window) -> Condition:
        """A superset of the rows in a window, whatever SQLite keeps there: ISO text of any shape, or an epoch.

        Text is bounded by whole days only, which all shapes of ISO 8601 begin with; the exact cut is made afterwards.
        """
        first, last = days_around(*window)
        seconds = [int(datetime.combine(day, time(), UTC).timestamp()) for day in (first, last)]
        spans: list[tuple[object, object]] = [
            (first.isoformat(), last.isoformat()),
            (seconds[0], seconds[1]),
            (seconds[0] * 1000, seconds[1] * 1000),
            (str(seconds[0]), str(seconds[1])),
            (str(seconds[0] * 1000), str(seconds[1] * 1000)),
        ]
        one = f'"{column}" >= ? AND "{column}" < ?'
        return Condition(f"({' OR '.join([one] * len(spans))})", tuple(bound for span in spans for bound in span))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._meaning(error) from None

    def _meaning(self, error: Exception) -> SourceError | SourceUnavailable:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        said = f"{self._where}: SQLite says: {error}."
        if code in _MAY_PASS:
            return SourceUnavailable(
                said, "The next run tries again; if it stays, look at the file, its folder and their rights."
            )
        if code == sqlite3.SQLITE_AUTH:
            return SourceError(f"{said} A source may only read.", "Write a SELECT as `query`.")
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return SourceError(said, f"Check that `url` names a sound SQLite database ({self.path.name}).")
        return SourceError(said, "Check `query` or `table` of this source.")


def _only_reads(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
