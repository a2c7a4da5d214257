"""The files that a platform fetches by itself: `convsync export …`."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from convsync.cli import runs, when
from convsync.cli.frame import Command, Group, Talk, ending
from convsync.errors import UsageError

if TYPE_CHECKING:
    from convsync.config import Config, YandexSettings
    from convsync.ledger.export import InFile
    from convsync.sync import Span

    _TypedMode = click.ParamType[int]
else:  # older versions of click 8 take no type in brackets
    _TypedMode = click.ParamType

DAYS = timedelta(days=3)
"""What Direct wants to see again in each file. DOC DH/statistics/conversions"""


class Mode(_TypedMode):
    """Who may read a file, as chmod takes it."""

    name = "MODE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = int(value, 8)
        except ValueError:
            found = -1
        if found & ~0o666 or not found & 0o400:
            self.fail(f"{value[:20]!r} is not a mode. Write 0640 or 0644.", param, ctx)
        return found


@click.group(cls=Group, short_help="Write a file that a platform fetches by itself.")
def export() -> None:
    """Write a file that a platform fetches by itself, for those who have no access to its API."""


@export.command(cls=Command, short_help="The orders that Direct's Conversion Centre fetches, as CSV.")
@click.option("--since", type=when.When(), help="Repeat what was in a file before from this day on, or this moment.")
@click.option("--until", type=when.When(), help="Only what happened on this day or earlier, or before this moment.")
@click.option("--destination", metavar="NAME", help='Which one, if several have upload = "file".')
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where Direct fetches it; else stdout."
)
@click.option("--mode", type=Mode(), help="Who may read FILE, such as 0644; else as it was, and a new one 0600.")
@click.option("--dry-run", is_flag=True, help="Only show what would be in it: FILE stays as it is, nothing is noted.")
@runs.wait
@runs.as_json
@click.pass_obj
def yandex(
    talk: Talk,
    since: date | datetime | None,
    until: date | datetime | None,
    destination: str | None,
    output: Path | None,
    mode: int | None,
    dry_run: bool,
    wait: timedelta | None,
    json_: bool,
) -> None:
    """Read what is new and write all orders that the Conversion Centre of Yandex.Direct shall fetch: one row an order,
    its newest state.

    For a destination with upload = "file", which needs no token: `sync` reads and plans for it, and sends nothing. In the
    file is what was in none before, and again what happened, or first was in one, in the last three days: run it at least
    daily, before Direct fetches.

    \b
    Examples:
      convsync export yandex -o /srv/www/orders-5f2a.csv --mode 0644
      convsync export yandex --dry-run                       look at it
      convsync export yandex --since 2026-11-01 -o FILE      again with all from that day on

    FILE is replaced as a whole, or stays as it was. Orders that were in a file are `held` as exported. Once Direct shows
    them, say so: `convsync ledger resolve --destination yandex --state held --reason exported --as sent --why "…"`.
    Never asks a platform anything.

    Exit codes: as for sync.
    """
    if json_ and output is None and not dry_run:
        raise UsageError("--json and the file would both be written to stdout.", "Name a file: -o FILE.")
    if mode is not None and output is None:
        raise UsageError("--mode is for a file.", "Name it: -o FILE.")
    config = talk.config()
    from convsync.cli import assemble

    name, settings = _destination(config, destination)
    zone = settings.counter_timezone
    assert zone is not None  # the configuration was checked
    span = _span(since, until, config.timezone or zone, settings.max_age)
    hashed = settings.contact_hash == "md5"
    sheet: _Spool | _File
    sheet = _Spool(zone, hashed) if output is None or dry_run else _File(zone, hashed, output, mode)
    sources = assemble.source_names(config)
    with closing(sheet):
        with runs.running(talk, config, assemble.destination_names(config), sources, wait, None, frozenset()) as engine:
            done, found = engine.export(name, sheet, span, dry_run=dry_run)
        ending(done.exit_code)
        if isinstance(sheet, _Spool) and output is None and found is not None and not json_:
            sheet.copy(sys.stdout.buffer)
    more: dict[str, Any] = {
        "destination": name, "file": None if output is None else str(output), "since": span.since.isoformat(),
        "until": span.until.isoformat(), "bytes": sheet.size, "rows": None, "orders": None,
    }  # fmt: skip
    if found is not None:
        again = found.orders - found.new - found.changed
        more |= {"rows": found.orders, "orders": {"new": found.new, "changed": found.changed, "again": again}}
    lines = [] if found is None else [_told(output, found, dry_run)]
    runs.report(talk, done, len(sources), json_, talk_on_stderr=output is None, first=lines, more=more)


def _told(output: Path | None, found: InFile, dry_run: bool) -> str:
    from convsync.cli.show import count, counted

    where = "The file" if output is None else output.name
    again = found.orders - found.new - found.changed
    words = ((found.new, "new"), (found.changed, "changed since they were in one"), (again, "in one before"))
    told = ", ".join(f"{count(number)} {word}" for number, word in words if number)
    return f"{where} {'would hold' if dry_run else 'holds'} {counted(found.orders, 'order')}{told and ': '}{told}."


def _destination(config: Config, wanted: str | None) -> tuple[str, YandexSettings]:
    """The destination whose file is meant, or in words why there is none."""
    from convsync.cli import assemble

    names = assemble.destination_names(config, [wanted] if wanted else [])
    yandex = {name: one for name in names if (one := config.destinations[name]).platform == "yandex"}
    if not yandex:
        what = f"[destinations.{wanted}] is not of Yandex." if wanted else "There is no destination of Yandex."
        raise UsageError(what, 'It needs platform = "yandex" and upload = "file".')
    files = {name: one for name, one in yandex.items() if one.upload == "file"}
    if not files:
        message = f'`convsync sync` uploads the orders of [destinations.{next(iter(yandex))}]: its upload is "api".'
        advice = (
            'Told both ways, the ledger could not say which of them counted. For a file, write upload = "file" there.'
        )
        raise UsageError(message, advice)
    if len(files) > 1:
        raise UsageError(f"Several destinations have a file: {', '.join(files)}.", "Say which: --destination NAME.")
    return next(iter(files.items()))


def _span(since: date | datetime | None, until: date | datetime | None, zone: ZoneInfo, max_age: timedelta) -> Span:
    """Without `since`, the day of `until` and the three days before it; nothing that is too old for Metrica."""
    from convsync.sync import Span

    now = datetime.now(UTC)
    begin, end = when.span(since, until, zone)
    end = now if end is None else end
    if begin is None:
        begin = datetime.combine((end - timedelta(microseconds=1)).astimezone(zone).date() - DAYS, time(), zone)
    if begin >= end:
        raise UsageError("--since lies in the future.")
    return Span(max(begin, now - max_age), end)


# -- the file


class _Sheet:
    """What both kinds of file share: their lines, and that there are not too many of them."""

    def __init__(self, zone: ZoneInfo, hashed: bool) -> None:
        self._zone = zone
        self._hashed = hashed
        self.size = 0

    def newest(self, payloads: Sequence[bytes]) -> bytes:
        from convsync.destinations.yandex import centre

        return centre.newest(payloads)

    def _fill(self, file: IO[bytes], payloads: Iterable[bytes]) -> None:
        from convsync.destinations.yandex import centre

        self.size = 0
        for line in centre.lines(payloads, self._zone, hashed=self._hashed):
            self.size += len(line)
            if self.size > centre.LARGEST:
                message = (
                    f"The file would be larger than {centre.LARGEST // 1_000_000} MB, the most that Direct fetches."
                )
                raise UsageError(message, "Write a part of it first: with a later --since, or an earlier --until.")
            file.write(line)
        file.flush()


class _Spool(_Sheet):
    """For stdout, or to be looked at by nobody."""

    def __init__(self, zone: ZoneInfo, hashed: bool) -> None:
        super().__init__(zone, hashed)
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def write(self, payloads: Iterator[bytes]) -> None:
        try:
            self._fill(self._file, payloads)
        except OSError as error:
            raise UsageError(f"There is no room to make the file: {error.strerror}.") from error

    def publish(self) -> None:
        """When the run is recorded: whoever reads stdout may go away."""

    def copy(self, out: IO[bytes]) -> None:
        self._file.seek(0)
        shutil.copyfileobj(self._file, out)
        out.flush()

    def close(self) -> None:
        self._file.close()


class _File(_Sheet):
    """Made beside the old one, under a name of its own that whoever comes after a dead run takes over."""

    def __init__(self, zone: ZoneInfo, hashed: bool, path: Path, mode: int | None) -> None:
        super().__init__(zone, hashed)
        self._path = path
        self._at = path.resolve()  # a link stays a link
        self._beside = self._at.with_name(f".{self._at.name}.part")
        self._mode = mode
        self._group: int | None = None
        self._look_at_the_old_one()

    def _look_at_the_old_one(self) -> None:
        """Only what this command wrote is ever replaced, by a file that the same people may read."""
        from convsync.destinations.yandex.centre import BEGINS

        try:
            old = self._at.stat()
            with self._at.open("rb") if stat.S_ISREG(old.st_mode) else tempfile.TemporaryFile() as file:
                begins = file.read(len(BEGINS))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._cannot(error) from error
        if not stat.S_ISREG(old.st_mode) or begins not in (b"", BEGINS):
            raise UsageError(f"{self._path} is there already, and not a file of this command.", "Name another.")
        self._mode = stat.S_IMODE(old.st_mode) if self._mode is None else self._mode
        self._group = old.st_gid

    def write(self, payloads: Iterator[bytes]) -> None:
        try:
            self._beside.unlink(missing_ok=True)
            descriptor = os.open(self._beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                self._fill(file, payloads)
                if self._group not in (None, os.fstat(descriptor).st_gid):
                    os.fchown(descriptor, -1, self._group or 0)
                os.fchmod(descriptor, 0o600 if self._mode is None else self._mode)
                os.fsync(descriptor)
        except OSError as error:
            raise self._cannot(error) from error

    def publish(self) -> None:
        try:
            self._beside.replace(self._at)
            folder = os.open(self._at.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        self._beside.unlink(missing_ok=True)

    def _cannot(self, error: OSError) -> UsageError:
        return UsageError(
            f"{self._path} cannot be written: {error.strerror}.", "Check its folder, then run this again."
        )
