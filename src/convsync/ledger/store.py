"""The ledger's file: opening it safely, one transaction at a time, one writing process at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsync.errors import LedgerBusy, LedgerError

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x636F6E76  # "conv"

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL may forget a committed send on power loss, and a forgotten send is sent twice
    "PRAGMA wal_autocheckpoint = 16000",
    "PRAGMA busy_timeout = 30000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -4096",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA fullfsync = ON",  # macOS only; elsewhere it does nothing
)

WAL_RESET_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""SQLite releases with the WAL-reset fix (sqlite.org/wal.html#walresetbug): the first of its line, then two back-ports."""


class Store:
    """One connection to a ledger file. `read_only` opens beside a running writer and changes nothing, not even the WAL."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._rehearsing = False
        if read_only:
            if not path.exists():
                raise LedgerError(
                    f"There is no ledger at {path}.", "Run `convsync init`, or any `convsync sync`, first."
                )
            self.conn = _connect(f"{path.resolve().as_uri()}?mode=ro")
        else:
            _create_private(path)
            self.conn = _connect(path.resolve().as_uri())
        try:
            self._refuse_strangers()
            for pragma in PRAGMAS if not read_only else ():
                self.conn.execute(pragma).fetchall()
        except BaseException:
            self.conn.close()
            raise

    @cached_property
    def db(self) -> Database:
        """The same connection through sqlite-utils: schema, audit reads, exports. Imported only when asked for."""
        from sqlite_utils import Database

        return Database(self.conn)

    def _refuse_strangers(self) -> None:
        try:
            application = self.conn.execute("PRAGMA application_id").fetchone()[0]
            tables = self.conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path} cannot be read as a ledger: {error}.", "Is it a SQLite file?") from error
        if tables and application != APPLICATION_ID:
            raise LedgerError(f"{self.path} is a database, but not a convsync ledger.", "Point [ledger] url elsewhere.")

    @contextmanager
    def atomic(self) -> Iterator[sqlite3.Connection]:
        """One write transaction. Never held open around a network call (a rehearsal, which keeps nothing, aside)."""
        begin, keep, undo = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        if self._rehearsing:
            begin, keep, undo = ("SAVEPOINT step", "RELEASE step", "ROLLBACK TO step")  # the whole is rolled back later
        self.conn.execute(begin)
        try:
            yield self.conn
        except BaseException:
            self.conn.execute(undo)
            raise
        self.conn.execute(keep)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Everything done inside is undone at the end: what a dry run plans and claims never happened."""
        self.conn.execute("BEGIN IMMEDIATE")
        self._rehearsing = True
        try:
            yield
        finally:
            self._rehearsing = False
            self.conn.execute("ROLLBACK")

    def forget(self) -> None:
        """Take what was overwritten out of the write-ahead log as well, where it would stand until the log is written anew.

        As far as readers let it: what one of them still sees goes with the last connection, or with the next call.
        """
        if self._rehearsing:
            return
        self.conn.execute("PRAGMA busy_timeout = 1000")
        self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.conn.execute("PRAGMA busy_timeout = 30000")

    def rows(self, sql: str, parameters: dict[str, Any] | tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
        """Read rows as dictionaries, one at a time."""
        cursor = self.conn.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def one(self, sql: str, parameters: dict[str, Any] | tuple[Any, ...] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.conn.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        self.conn.close()


def _connect(uri: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=64)
    except sqlite3.OperationalError as error:
        raise LedgerError(
            f"The ledger cannot be opened: {error}.", "Check the path and the rights of its folder."
        ) from error


def _create_private(path: Path) -> None:
    """Make the file 0600 before SQLite does (its -wal and -shm take over the mode); refuse one that others can read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.close(descriptor)  # nobody else has this new file open: closing it drops no lock of SQLite's
    except FileExistsError:
        refuse_readable_by_others(path)
    except OSError as error:
        raise LedgerError(f"The ledger cannot be made at {path}: {error.strerror}.") from error


def refuse_readable_by_others(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LedgerError(f"{path} can be read by other users (mode {mode:04o}).", f"Make it private: chmod 600 {path}")


def wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite may corrupt a WAL database when two connections write at once. Ours never do: see `Lock`."""
    if version >= WAL_RESET_FIXED[0] or version < (3, 7, 0):
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in WAL_RESET_FIXED[1:])


class Insert:
    """Inserting many rows by few statements: a third cheaper than `executemany`."""

    ROWS = 200

    def __init__(self, into: str, width: int, conflict: str = "") -> None:
        self.width = width
        self._row = f"({','.join('?' * width)})"
        self._text = f"INSERT INTO {into} VALUES {{rows}} {conflict}"
        self._full = self._statement(self.ROWS)

    def _statement(self, rows: int) -> str:
        return self._text.format(rows=",".join([self._row] * rows))

    def run(self, conn: sqlite3.Connection, values: Sequence[object]) -> None:
        """Insert rows given flat: `width` values after `width` values."""
        step = self.ROWS * self.width
        whole = len(values) // step * step
        for start in range(0, whole, step):
            conn.execute(self._full, values[start : start + step])
        if whole < len(values):
            conn.execute(self._statement((len(values) - whole) // self.width), values[whole:])


class Lock:
    """The kernel's lock on `<ledger>.lock`: one writing process a ledger. It goes away with the process, however it dies.

    A file of its own, because closing any descriptor of the database file itself would drop SQLite's own locks.
    """

    def __init__(self, ledger: Path) -> None:
        self.path = ledger.with_name(ledger.name + ".lock")
        self._descriptor: int | None = None

    def take(self, wait: float = 0.0, poll: float = 0.2) -> None:
        """Take the lock, waiting up to `wait` seconds. Raises LedgerBusy, naming the holder."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "an unnamed process"
                    os.close(descriptor)
                    raise LedgerBusy(
                        f"Another run holds this ledger: {holder}.", "Wait for it, or use --wait SECONDS."
                    ) from None
                time.sleep(poll)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
