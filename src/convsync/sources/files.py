"""What CSV and JSON lines have in common: which files there are, which are new, and whether one is still being written.

A file that is as it was (size and time, else the hash of its bytes) is not read; one that changed is read wholly, and
the ledger drops the rows it knows. The state of a file is stored with its last page, so half of a file is never taken
for the whole, and one bad file never stops the rest.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import json
import os
import re
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Required, Unpack

from convsync.errors import SourceError, SourceUnavailable
from convsync.model import BadRow, Finding
from convsync.sources import Page, Window
from convsync.sources.fields import FieldMap, FieldOptions, Rows
from convsync.sources.rounded import Rounded, watched

QUIET = 60.0
"""Seconds without a change after which a file whose last line has no end counts as finished."""

_VERSION = 1
_BLOCK = 1 << 18
_SAMPLE_FILES, _SAMPLE_ROWS = 3, 100


class State(NamedTuple):
    """What a file looked like when it was last read to its end."""

    size: int
    mtime_ns: int
    sha256: str

    def dump(self) -> str:
        return json.dumps({"v": _VERSION, **self._asdict()})

    @classmethod
    def load(cls, text: str | None) -> State | None:
        """The stored state; one that cannot be read only means that the file is read once more."""
        try:
            kept = json.loads(text or "")
            return cls(int(kept["size"]), int(kept["mtime_ns"]), str(kept["sha256"])) if kept["v"] == _VERSION else None
        except (ValueError, KeyError, TypeError):
            return None


@dataclass
class Reading:
    """One file on its way in: its name, whether it has been quiet, and what the reader of its lines noticed."""

    path: Path
    part: str
    quiet: bool
    bad: list[BadRow] = field(default_factory=list)
    unfinished: str = ""
    """Why the file ends before it is complete; nothing when it is complete."""
    digest: str = ""


class FileOptions(FieldOptions, total=False):
    """What every source of files can be told."""

    path: Required[str]
    base: Path | None
    encoding: str
    page_rows: int
    now: Callable[[], float]


class FileSource(ABC):
    """The files that match `path`. Cursors name them relative to `base`, or to the folder before the first wildcard:
    never to the folder that the command happens to run in.
    """

    _newline = ""
    """How the text layer ends lines, in the words of `open`."""

    def __init__(
        self,
        name: str,
        *,
        path: str,
        base: Path | None = None,
        encoding: str = "utf-8-sig",
        page_rows: int = 2000,
        now: Callable[[], float] = time.time,
        **fields: Unpack[FieldOptions],
    ) -> None:
        self.name = name
        self._pattern = (
            path if Path(path).is_absolute() else str(Path(glob.escape(str((base or Path()).absolute()))) / path)
        )
        self._folder = _fixed_folder(self._pattern)
        self._base, self._encoding = base.absolute() if base else self._folder, encoding
        self._page_rows, self._now = page_rows, now
        self._map = FieldMap(name, fields)

    @abstractmethod
    def _rows(self, stream: IO[str], reading: Reading) -> tuple[Rows, Iterator[Sequence[Any]]]:
        """How to read a row, and the rows; the last cell of each is the number of its line."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, cursors: Mapping[str, str], window: Window | None = None) -> Iterator[Page]:
        return watched(self._read(cursors, window), Rounded(self._map))

    def _read(self, cursors: Mapping[str, str], window: Window | None) -> Generator[Page, None, None]:
        paths = self._paths()
        if not paths:
            yield Page([], [], None, (self._none(),))
        gone: list[str] = []
        for path in paths:
            part = self._part(path)
            known = None if window else State.load(cursors.get(part))
            try:
                for page in self._read_file(path, part, known):
                    yield _within(page, window) if window else page
            except SourceError as error:
                yield Page([], [], None, (Finding("error", "file_unreadable", part, error.message, error.advice),))
            except OSError as error:
                gone.append(f"{part}: {error.strerror or type(error).__name__}")
        if gone:
            told = "; ".join(gone)
            raise SourceUnavailable(f"source {self.name}: {told}.", "The next run tries again; the rest has been read.")

    def _read_file(self, path: Path, part: str, known: State | None) -> Iterator[Page]:
        """The last page waits until the whole file is known to have stayed as it was: it carries the cursor."""
        before = path.stat()
        if known is not None and _is_known(path, before, known):
            return
        reading = Reading(path, part, quiet=self._now() - before.st_mtime >= QUIET)
        last = Page([], [])
        for page in self._pages(reading):
            if last.actions or last.bad:
                yield last
            last = page
        if not reading.unfinished and _identity(path.stat()) != _identity(before):
            reading.unfinished = "it changed while it was read"
        if reading.unfinished:
            yield last._replace(findings=(self._again(reading),))
        else:
            state = State(before.st_size, before.st_mtime_ns, reading.digest)
            yield last._replace(cursor=(part, state.dump()))

    def _pages(self, reading: Reading) -> Iterator[Page]:
        def where(row: Sequence[Any]) -> str:
            return f"{reading.part}:{row[-1]}"

        with reading.path.open("rb", buffering=0) as raw:
            hashing = _Hashing(raw)
            try:
                with self._text(io.BufferedReader(hashing, _BLOCK), reading.path) as stream:
                    rows, lines = self._rows(stream, reading)
                    while batch := list(islice(lines, self._page_rows)):
                        actions, refused = rows.read(batch, where)
                        yield Page(actions, [*reading.bad, *refused])
                        reading.bad.clear()
                    if reading.bad:
                        yield Page([], list(reading.bad))
            except UnicodeError:
                raise self._undecodable(reading) from None
            except EOFError:
                reading.unfinished = "its compressed data ends in the middle"
            except (gzip.BadGzipFile, zlib.error):
                raise SourceError(f"{reading.part} is not a sound gzip file.", "Compress it again.") from None
        reading.digest = hashing.sha256.hexdigest()

    def _text(self, binary: io.BufferedReader, path: Path) -> io.TextIOWrapper:
        plain = gzip.GzipFile(fileobj=binary, mode="rb") if path.suffix == ".gz" else binary
        return io.TextIOWrapper(plain, encoding=self._encoding, newline=self._newline)

    # --- which files --------------------------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            told = f"source {self.name}: there is no folder {self._folder}."
            raise SourceUnavailable(told, "Check `path`, and that its disk is mounted.")
        names = glob.glob(self._pattern, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
        return [path for path in sorted(map(Path, names)) if path.is_file() or not path.exists()]

    def _part(self, path: Path) -> str:
        return (path.relative_to(self._base) if path.is_relative_to(self._base) else path).as_posix()

    # --- what people are told -----------------------------------------------------------------------------------------

    def check(self) -> list[Finding]:
        try:
            paths = self._paths()
        except SourceUnavailable as error:
            return [Finding("error", "source_unreadable", f"source {self.name}", error.message, error.advice)]
        findings = [] if paths else [self._none()]
        rounded = Rounded(self._map)
        for path in paths[-_SAMPLE_FILES:]:
            findings += self._look(path, rounded)
        return [*findings, *rounded.findings()]

    def _look(self, path: Path, rounded: Rounded) -> list[Finding]:
        reading = Reading(path, self._part(path), quiet=True)
        try:
            page = next(self._pages(reading), Page([], []))
        except SourceError as error:
            return [Finding("error", "file_unreadable", reading.part, error.message, error.advice)]
        except OSError as error:
            return [Finding("error", "file_unreadable", reading.part, f"it cannot be opened: {error.strerror}.")]
        rounded.look(page.actions)
        if not page.bad:
            return []
        first, rows = page.bad[0], len(page.bad) + len(page.actions)
        message = (
            f"{len(page.bad)} of the first {rows} rows cannot be read: {first.where}: {first.field} {first.problem}."
        )
        return [Finding("warning", "bad_rows", reading.part, message, first.advice)]

    def _none(self) -> Finding:
        message = f"no file matches {self._pattern}."
        return Finding(
            "warning", "no_file", f"source {self.name}", message, "Check `path`, and that the export has run."
        )

    def _again(self, reading: Reading) -> Finding:
        message = f"{reading.unfinished}."
        return Finding("warning", "file_unfinished", reading.part, message, "It is read again on the next run.")

    def _undecodable(self, reading: Reading) -> SourceError:
        offset, line = _first_undecodable(self._text_bytes(reading.path), self._encoding)
        other = 'encoding = "cp1251"' if self._encoding.lower().startswith("utf") else 'encoding = "utf-8-sig"'
        return SourceError(
            f"{reading.part} is not text in {self._encoding}: byte {offset}, on line {line}, cannot be read.",
            f"Set `encoding` of [sources.{self.name}] to what the file was written in; try {other}.",
        )

    @staticmethod
    def _text_bytes(path: Path) -> Iterator[bytes]:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as binary:
            while block := binary.read(_BLOCK):
                yield block


class _Hashing(io.RawIOBase):
    """Hands the bytes of a file on and hashes them on the way."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        return count


def _is_known(path: Path, now: os.stat_result, known: State) -> bool:
    if now.st_size != known.size:
        return False
    if now.st_mtime_ns == known.mtime_ns:
        return True
    with path.open("rb") as binary:
        return hashlib.file_digest(binary, "sha256").hexdigest() == known.sha256


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev


def _within(page: Page, window: Window) -> Page:
    actions = [action for action in page.actions if window.since <= action.occurred_at < window.until]
    return Page(actions, page.bad, None, page.findings)


def _fixed_folder(pattern: str) -> Path:
    """The folder before the first wildcard; a bracket that `glob.escape` wrote is a plain one."""
    folder = Path()
    for part in Path(pattern).parent.parts:
        plain = re.sub(r"\[([*?[])\]", r"\1", part)
        if glob.escape(plain) != part:
            break
        folder /= plain
    return folder


def _first_undecodable(blocks: Iterator[bytes], encoding: str) -> tuple[int, int]:
    """Offset (from 0) and line (from 1) of the first byte that the encoding does not have."""
    decoder = codecs.getincrementaldecoder(encoding.replace("-sig", "").replace("_sig", ""))()
    done, line = 0, 1
    for block in [*blocks, b""]:
        waiting = len(decoder.getstate()[0])
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            start = max(error.start - waiting, 0)
            return done - waiting + error.start, line + block[:start].count(b"\n")
        done, line = done + len(block), line + block.count(b"\n")
    return done, line
