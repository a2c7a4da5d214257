"""The engine: settle → read → map → plan → (claim → send → record)* → settle. Knows seams, not names."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from convsync.errors import ConvsyncError, SourceError
from convsync.ledger import Ledger
from convsync.ledger.claim import monotonic
from convsync.ledger.export import Exports, InFile
from convsync.mapping import Mapper
from convsync.rehearsal import Rehearsal, Show
from convsync.run import Clock, Progress, Run, Silence, Summary, SystemClock
from convsync.settling import Settling
from convsync.sources import Source, Window
from convsync.uploads import Destination, Uploads
from convsync.watch import Watch

__all__ = ["Destination", "Engine", "Sheet", "Span", "Summary"]

SHORT_REST = timedelta(seconds=60)
"""A pause the platform asks for that a run sits out; a longer one is left to the next run."""

ROUNDS = 3
"""How often a run goes back to what became due again while it was running."""


class Sheet(Protocol):
    """A file of orders on its way."""

    def write(self, payloads: Iterator[bytes]) -> None:
        """Make it, whole and safe on the disk, where nobody reads it yet. Raises ConvsyncError."""
        ...

    def publish(self) -> None:
        """Put it where it is fetched from. Raises ConvsyncError."""
        ...

    def newest(self, payloads: Sequence[bytes]) -> bytes:
        """The row of an order that has these states, in their order."""
        ...


class Span(NamedTuple):
    """`since`: how far back a file repeats what was in one before. What happened at `until` or later is not in it."""

    since: datetime
    until: datetime


class Engine:
    """One run over one ledger. The thread that runs it owns the ledger's connection."""

    def __init__(
        self,
        ledger: Ledger,
        destinations: Sequence[Destination],
        mapper: Mapper,
        sources: Sequence[Source] = (),
        *,
        clock: Clock | None = None,
        stop: threading.Event | None = None,
        deadline: timedelta = timedelta(minutes=45),
        grace: timedelta = timedelta(seconds=20),
        short_rest: timedelta = SHORT_REST,
        progress: Progress | None = None,
        send_to: frozenset[str] | None = None,
        by_file: frozenset[str] = frozenset(),
        configured: frozenset[str] | None = None,
    ) -> None:
        self.ledger = ledger
        self.destinations = destinations
        self.mapper = mapper
        self.sources = sources
        self.clock = clock or SystemClock()
        self.stop = stop or threading.Event()
        self.deadline = deadline
        self.grace = grace
        self.short_rest = short_rest
        self.progress = progress or Silence()
        self.send_to = send_to
        self.by_file = by_file
        """Destinations that nothing is sent to, because they fetch a file: see `export`."""
        self.configured = configured
        """Every destination of the configuration, also those that this run leaves alone; None: not known."""

    # -- commands

    def sync(self) -> Summary:
        """The whole flow: what is new is read, planned and sent; what is open is settled."""
        return self._run("sync", self._read)

    def backfill(self, window: Window, *, actions: frozenset[str] | None = None) -> Summary:
        """Read a span of time anew. Cursors are neither used nor moved; what was sent is recognised by its key."""
        return self._run("backfill", lambda: self._read(window, actions))

    def settle(self) -> Summary:
        """Only find out what became of earlier requests."""
        self._begin("settle")
        self.settling.settle(send=False)
        return self._end()

    def export(self, name: str, sheet: Sheet, span: Span, *, dry_run: bool = False) -> tuple[Summary, InFile | None]:
        """Read and plan as `sync` does, then write the orders of one destination to a file instead of sending them.

        The file is whole before the ledger says that its orders were in one, and in its place after: whoever dies in
        between leaves the old file, and the next one has these orders too. Returns what is in it; None: it was not made.
        """
        with self.ledger.store.rehearsal() if dry_run else nullcontext():
            self._begin("export", dry_run=dry_run)
            self._plan(self._read)
            done = None if self.run.stop.is_set() else self._export(name, sheet, span)
            summary = self._end()
        summary.head = "" if dry_run else summary.head
        return summary, done

    def rehearse(
        self,
        show: Show,
        window: Window | None = None,
        *,
        actions: frozenset[str] | None = None,
        validate: bool = False,
    ) -> Summary:
        """A dry run: everything but the sending, and nothing of it is kept. `show` gets what would be sent.

        `validate`: platforms that can check an upload without taking it are asked to.
        """
        with self.ledger.store.rehearsal():
            self._begin("backfill" if window else "sync", dry_run=True)
            self._read(window, actions)
            rehearsal = Rehearsal(self.run, self.uploads, show, validate=validate)
            for channel in self.uploads.channels:
                rehearsal.of(channel)
            summary = self._end()
        summary.head = ""  # the history it would name was never written
        return summary

    # -- a run from beginning to end

    def _run(self, command: str, take_in: Callable[[], None]) -> Summary:
        self._begin(command)
        self._plan(take_in)
        for _ in range(ROUNDS):
            self.uploads.upload()
            self.settling.settle()
            if not self.uploads.work_left():
                break
        return self._end()

    def _plan(self, take_in: Callable[[], None]) -> None:
        before_id = (self.ledger.store.one("SELECT max(id) FROM delivery") or 0) + 1
        self.settling.settle()
        self.uploads.retire()
        take_in()
        self.uploads.expire(before_id)

    def _begin(self, command: str, *, dry_run: bool = False) -> None:
        started_at = self.clock.now()
        run_id = f"{started_at.astimezone(UTC):%Y%m%dt%H%M%S}{secrets.token_hex(3)}"
        summary = Summary(run_id, command, dry_run, started_at)
        ends_at = monotonic() + self.deadline.total_seconds()
        self.run = Run(self.ledger, summary, self.clock, self.stop, ends_at, self.progress)
        self.ledger.runs.begin(run_id, command, now=self.run.now())
        self.uploads = Uploads(
            self.run,
            self.destinations,
            self.mapper.goals(),
            grace=self.grace.total_seconds(),
            short_rest=self.short_rest.total_seconds(),
        )
        self.settling = Settling(self.run, self.uploads)
        for destination in self.destinations:
            name = destination.route.name
            wanted = name not in self.by_file and (self.send_to is None or name in self.send_to)
            self.uploads.open(destination, send=wanted)

    def _end(self) -> Summary:
        run, summary = self.run, self.run.summary
        self.uploads.close()
        self.uploads.erase()
        Watch(run, self.uploads, self.by_file, self.configured).look_around()
        summary.finished_at = self.clock.now()
        summary.exit_code = run.exit_code()
        summary.head = self.ledger.runs.end(run.id, summary.exit_code, summary.counts(), now=run.now())
        return summary

    # -- files that a platform fetches

    def _export(self, name: str, sheet: Sheet, span: Span) -> InFile | None:
        run, exports = self.run, Exports(self.ledger.store)
        channel = next(one for one in self.uploads.channels if (one.route.name, one.route.door) == (name, ""))
        since, until = (int(when.timestamp() * 1000) for when in span)
        found = exports.choose(channel.id, since, until, now=run.now())
        try:
            sheet.write(exports.payloads(sheet.newest))
            if not run.summary.dry_run:
                exports.mark(now=run.now(), run_id=run.id)
            sheet.publish()
        except ConvsyncError as error:
            run.misconfigured = True
            run.find("error", "export", name, error.message, error.advice)
            return None
        return found

    # -- read → map → plan

    def _read(self, window: Window | None = None, actions: frozenset[str] | None = None) -> None:
        for source in self.sources:
            if self.run.must_stop():
                return
            try:
                self._read_source(source, window, actions)
            except ConvsyncError as error:
                # one broken source never stops the others; its cursor stays where its last whole page left it
                self.run.unfinished |= not isinstance(error, SourceError)
                self.run.misconfigured |= isinstance(error, SourceError)
                self.run.find("error", "source", f"source {source.name}", error.message, error.advice)

    def _read_source(self, source: Source, window: Window | None, actions: frozenset[str] | None) -> None:
        plan, marks = self.ledger.plan, {} if window else self.ledger.plan.marks(source.name)
        for page in source.read(marks, window):
            wanted = page.actions if actions is None else [one for one in page.actions if one.action in actions]
            mapped = self.mapper.page(wanted, self.clock.now())
            mark = None if window or page.cursor is None else (source.name, *page.cursor)
            taken = plan.page(mapped, page.bad, mark, now=self.run.now(), run_id=self.run.id)
            self.run.summary.taken.add(taken)
            self.progress.read(source.name, taken.read)
            for bad in taken.bad:
                self.run.find("error", "bad_row", bad.where, f"{bad.field} {bad.problem}", bad.advice)
            for finding in page.findings:
                self.run.misconfigured |= finding.level == "error"
                self.run.summary.find(finding)
            if self.run.must_stop():
                return
