"""The commands that read and send: sync, backfill, settle."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk, ending, leave, put_json
from convsync.errors import Exit, LedgerError, UsageError

Show = Callable[[str, Iterable[Mapping[str, Any]]], None]

if TYPE_CHECKING:
    from convsync.config import Config
    from convsync.ledger import Ledger
    from convsync.sync import Engine, Summary

as_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
wait = click.option(
    "--wait", type=when.Length(), help="How long to wait for another run to end; else as in [run] wait (0s)."
)
deadline = click.option(
    "--deadline", type=when.Length(), help="Claim nothing more after this long; else as in [run] deadline (45m)."
)
from_source = click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this source. Repeatable.")
dry = click.option("--dry-run", is_flag=True, help="Do everything but the sending, and keep nothing of it.")
payloads = click.option(
    "--payloads", metavar="FILE",
    help="With --dry-run: write what would be sent, one JSON object a line (mode 0600; it holds click ids and contacts, hashed unless contact_hash is none). - is stdout.",
)  # fmt: skip

validated = click.option(
    "--validate", is_flag=True,
    help="With --dry-run: let the platforms that can (Google) check what would be sent, without taking it.",
)  # fmt: skip


@click.command(cls=Command, short_help="Read what is new, send it, find out what became of it.")
@from_source
@click.option(
    "--destination", "destinations", multiple=True, metavar="NAME",
    help="Send to and ask only this one; the others are planned and wait. Repeatable.",
)  # fmt: skip
@dry
@payloads
@validated
@wait
@deadline
@as_json
@click.pass_obj
def sync(
    talk: Talk,
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    dry_run: bool,
    payloads: str | None,
    validate: bool,
    wait: timedelta | None,
    deadline: timedelta | None,
    json_: bool,
) -> None:
    """Read what is new in the sources, send it, and find out what became of it: the command for cron.

    Asks first what became of earlier uploads, then reads, plans and sends. A changed amount, a cancellation or a refund
    of something sent before goes out as a change of it. Running it twice changes nothing; two at once is refused
    (exit 4). It may be killed at any moment: the next run finds out what had arrived.

    \b
    Examples:
      convsync sync
      convsync sync --dry-run --payloads -       see exactly what would leave
      convsync sync --dry-run --validate         have Google check it, without taking it
      */15 * * * *  convsync --config /etc/convsync.toml -q sync

    Never sends one action twice where a platform would count it twice: what may or may not have arrived at VK is held
    for a person instead (see `convsync ledger resolve --help`).

    Exit codes: 0 done · 1 something needs a person · 2 configuration · 3 did not finish, the next run
    continues · 4 another run is at work · 130 interrupted, the next run settles
    """
    _options_make_sense(payloads, validate, dry_run, json_)
    config = talk.config()
    from convsync.cli import assemble

    names = assemble.destination_names(config)
    wanted = assemble.destination_names(config, destinations)
    read_from = assemble.source_names(config, sources)
    _can_sign_in(config, wanted, dry_run=dry_run and not validate)
    send_to = frozenset(wanted) if destinations else None
    with running(talk, config, names, read_from, wait, deadline, send_to) as engine:
        done = _rehearsed(engine, payloads, validate) if dry_run else engine.sync()
    report(talk, done, len(read_from), json_, talk_on_stderr=payloads == "-")


@click.command(cls=Command, short_help="Read a span of days anew and send what is missing.")
@click.option("--since", required=True, type=when.When(), help="The first day, or a moment.")
@click.option(
    "--until", required=True, type=when.When(), help="The last day (it belongs to the span), or a moment (it does not)."
)
@from_source
@click.option(
    "--destination", "destinations", multiple=True, metavar="NAME",
    help="Plan for and send to only this one. Repeatable.",
)  # fmt: skip
@click.option("--action", "actions", multiple=True, metavar="NAME", help="Only these actions. Repeatable.")
@dry
@payloads
@validated
@wait
@deadline
@as_json
@click.pass_obj
def backfill(
    talk: Talk,
    since: date | datetime,
    until: date | datetime,
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    actions: tuple[str, ...],
    dry_run: bool,
    payloads: str | None,
    validate: bool,
    wait: timedelta | None,
    deadline: timedelta | None,
    json_: bool,
) -> None:
    """Read a span of time anew, by when actions happened, and send what was not sent before.

    For a destination that was added later, for rows that came into the source late, after a correction. What was sent
    before is recognised by its key and not sent again. Days are those of `timezone` in the configuration.

    \b
    Examples:
      convsync backfill --since 2026-11-01 --until 2026-11-07
      convsync backfill --since 2026-11-01 --until 2026-11-07 --destination vk --dry-run
      convsync backfill --since 2026-11-22T10:00 --until 2026-11-22T12:00 --source shop

    Never uses or moves the cursors of `sync`. What is too old for a platform (VK 30 days, Google 90, Yandex 21 for a
    conversion and 113 for an order) is skipped, and the skip is counted. An order that Yandex first hears of after 21 days
    reaches no goal, so it expires (`late_orders`).

    Exit codes: as for sync.
    """
    _options_make_sense(payloads, validate, dry_run, json_)
    config = talk.config()
    from convsync.cli import assemble
    from convsync.sources import Window

    names = assemble.destination_names(config, destinations)
    read_from = assemble.source_names(config, sources)
    only = frozenset(assemble.chosen("action", actions, config.actions)) if actions else None
    begin, end = when.span(since, until, config.timezone)
    assert begin is not None
    assert end is not None
    _can_sign_in(config, names, dry_run=dry_run and not validate)
    window = Window(begin, end)
    with running(talk, config, names, read_from, wait, deadline) as engine:
        done = (
            _rehearsed(engine, payloads, validate, window, only) if dry_run else engine.backfill(window, actions=only)
        )
    report(talk, done, len(read_from), json_, talk_on_stderr=payloads == "-")


@click.command(cls=Command, short_help="Only find out what became of earlier uploads.")
@wait
@deadline
@as_json
@click.pass_obj
def settle(talk: Talk, wait: timedelta | None, deadline: timedelta | None, json_: bool) -> None:
    """Ask the platforms what became of earlier uploads. Reads no source and sends nothing.

    `sync` does the same before and after its own work, so this is for the hours between: Google tells its verdict about
    half an hour after an upload, Yandex its verdict on conversions 15 minutes to a day after it. Orders at Yandex and
    events at VK get none.

    \b
    Example:
      convsync settle

    Exit codes: as for sync.
    """
    config = talk.config()
    from convsync.cli import assemble

    names = assemble.destination_names(config)
    _can_sign_in(config, names, dry_run=False)
    with running(talk, config, names, [], wait, deadline) as engine:
        done = engine.settle()
    report(talk, done, 0, json_)


# -- what they share


def _options_make_sense(payloads: str | None, validate: bool, dry_run: bool, json_: bool) -> None:
    if validate and not dry_run:
        raise UsageError("--validate has the platforms check what a dry run would send, so it needs --dry-run.")
    if payloads is not None and not dry_run:
        raise UsageError("--payloads shows what would be sent, so it needs --dry-run.")
    if payloads == "-" and json_:
        raise UsageError("--payloads - and --json would both write to stdout.", "Name a file for one of them.")


def _can_sign_in(config: Config, names: list[str], *, dry_run: bool) -> None:
    """Credentials are asked of those that shall be sent to, and before anything else happens."""
    from convsync.cli import assemble

    if not names:
        raise UsageError("There is no destination to send to.", "Add a [destinations.*] section, or switch one on.")
    if not dry_run:
        assemble.require_credentials(config, names)


def by_file(config: Config, name: str) -> bool:
    """Whether this destination fetches a file (see `convsync export`), so that nothing is sent to it."""
    settings = config.destinations[name]
    return settings.platform == "yandex" and settings.upload == "file"


@contextmanager
def running(
    talk: Talk,
    config: Config,
    names: list[str],
    read_from: list[str],
    wait: timedelta | None,
    deadline: timedelta | None,
    send_to: frozenset[str] | None = None,
) -> Iterator[Engine]:
    """An engine over the locked ledger; signals stop it gently, and everything is closed behind it."""
    from convsync.cli import assemble
    from convsync.cli.show import Bar
    from convsync.sync import Engine

    gc.freeze()
    gc.set_threshold(
        50_000, 20, 20
    )  # a run makes millions of tuples and no cycles: looking for them costs a tenth of it
    made = assemble.destinations(config, names)
    mapper, sources = assemble.mapper(config, made), assemble.sources(config, read_from)
    bar = Bar(talk)
    try:
        with locked(config, wait) as ledger, until_told() as stop, bar.running():
            yield Engine(
                ledger,
                made,
                mapper,
                sources,
                stop=stop,
                deadline=config.run.deadline if deadline is None else deadline,
                progress=bar,
                send_to=send_to,
                by_file=frozenset(name for name in names if by_file(config, name)),
                configured=frozenset(config.destinations),
            )
    finally:
        for one in made:
            one.route.close()


@contextmanager
def locked(config: Config, wait: timedelta | None = None) -> Iterator[Ledger]:
    """The ledger, open for writing. The lock comes first: whoever has it may also bring the schema up to date."""
    import sqlite3

    from convsync.ledger import Ledger, Lock

    lock = Lock(config.ledger.path)
    lock.take((config.run.wait if wait is None else wait).total_seconds())
    try:
        ledger = Ledger.open(config.ledger.path)
        try:
            yield ledger
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            message = f"The ledger {config.ledger.path} cannot be written to."
            raise LedgerError(message, "Check who may write the file and its folder.") from None
        finally:
            ledger.close()
    finally:
        lock.release()


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets. The second ends the process there and then, which is safe too."""
    stop = threading.Event()

    def told(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            _die()
        stop.set()
        os.write(2, b"\nstopping: answers still on their way get up to 20 s; once more stops at once.\n")

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die() -> NoReturn:
    """What is in flight stays in flight on disk; the next run takes it over as unknown."""
    os._exit(Exit.INTERRUPTED)


def _rehearsed(
    engine: Engine, payloads: str | None, validate: bool, window: Any = None, actions: frozenset[str] | None = None
) -> Summary:
    with _shown(payloads) as show:
        return engine.rehearse(show, window, actions=actions, validate=validate)


@contextmanager
def _shown(target: str | None) -> Iterator[Show]:
    """Where a dry run writes what it would send."""
    if target is None:
        yield _nowhere
    elif target == "-":
        yield _writer(sys.stdout)
    else:
        with replaced(Path(target), private=True) as file:
            yield _writer(file)


def _nowhere(destination: str, rows: Iterable[Mapping[str, Any]]) -> None: ...


def _writer(file: IO[str]) -> Show:
    import orjson

    def write(destination: str, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            file.write(orjson.dumps({"destination": destination, **row}, default=str).decode() + "\n")

    return write


@contextmanager
def replaced(path: Path, *, private: bool = False) -> Iterator[IO[str]]:
    """A file that appears whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)


def report(
    talk: Talk,
    done: Summary,
    sources: int,
    json_: bool,
    *,
    talk_on_stderr: bool = False,
    first: Sequence[str] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Tell what a run did, and end the command; `first` are lines above that, `more` are fields beside it."""
    from convsync.cli import show

    ending(done.exit_code)
    talk.tell(done.findings)
    if done.dropped_findings:
        talk.say(f"… and {show.counted(done.dropped_findings, 'finding')} more of the same kinds")
    if json_:
        put_json({**done.as_json(), **more})
    elif not talk.quiet:
        for line in (*first, *show.summary(done, sources)):
            click.echo(line, err=talk_on_stderr)
    leave(done.exit_code)
