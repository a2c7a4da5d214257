"""The engine: settle → read → map → plan → (claim → send → record)* → settle. Knows seams, not names.

The thread that runs the engine owns the ledger. Worker threads do nothing but wait for the network; what they bring
back is recorded here. Every step is safe to die after: what the next run does then is said where it is done.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol

from convsync.destinations import Route
from convsync.errors import ConvsyncError, Exit, Halted, NotSent, PlatformUnavailable, SourceError, Unclear
from convsync.ledger import Batch, Lease, Ledger, Patience, Poll, Taken, Traits
from convsync.ledger.claim import monotonic
from convsync.mapping import Mapper
from convsync.model import Answer, Finding, OnUnknown, Outcome, State, Verdict
from convsync.sources import Source, Window
from convsync.workers import Workers

FAILURES_IN_A_ROW = 5
"""After so many requests in a row that brought no answer, a destination rests until the next run."""

SHORT_REST = timedelta(seconds=60)
"""A pause the platform asks for that a run sits out; a longer one is left to the next run."""

SPLITS = 200
"""How many refused requests a destination may halve in a run: enough for a dozen bad rows among thousands."""

FINDINGS_KEPT = 200
ROUNDS = 3


class Clock(Protocol):
    """Where the engine reads the time. The system's, or a test's."""

    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Progress(Protocol):
    """Who is told how far a run is. Called by the engine's thread only."""

    def read(self, source: str, rows: int) -> None: ...

    def sent(self, destination: str, rows: int) -> None: ...


class Silence:
    def read(self, source: str, rows: int) -> None: ...

    def sent(self, destination: str, rows: int) -> None: ...


class Destination(NamedTuple):
    """A route and how patient the operator is with it."""

    route: Route
    patience: Patience = Patience()


@dataclass
class Summary:
    """What a run did: the object that `sync --json` prints (DESIGN section 5)."""

    run_id: str
    command: str
    dry_run: bool
    started_at: datetime
    finished_at: datetime | None = None
    taken: Taken = field(default_factory=Taken)
    destinations: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    dropped_findings: int = 0
    exit_code: Exit = Exit.OK
    head: str = ""

    WORDS = (
        "claimed", "accepted", "confirmed", "refused", "unmatched", "later", "unknown", "held", "expired",
        "superseded", "in_flight",
    )  # fmt: skip

    def find(self, finding: Finding) -> None:
        """Keep a finding once, and no more of them than a person will read."""
        if finding in self.findings:
            return
        if len(self.findings) >= FINDINGS_KEPT:
            self.dropped_findings += 1
        else:
            self.findings.append(finding)

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "command": self.command,
            "dry_run": self.dry_run,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "read": self.taken.read,
            "new": self.taken.new,
            "revised": self.taken.revised,
            "skipped": dict(sorted(self.taken.skipped.items())),
            "destinations": {
                name: {word: counts[word] for word in self.WORDS} for name, counts in self.destinations.items()
            },
            "findings": [finding._asdict() for finding in self.findings],
            "findings_not_shown": self.dropped_findings,
            "head": self.head,
            "exit_code": int(self.exit_code),
        }


@dataclass
class Channel:
    """One destination during a run."""

    destination: Destination
    id: int
    lease: Lease
    counts: Counter[str]
    open: bool = True
    ready: bool = False
    active: int = 0
    failures: int = 0
    splits: int = 0
    rest_until: float = 0.0
    pieces: deque[tuple[int, ...]] = field(default_factory=deque)
    """Halves of a refused request, to be sent apart."""

    @property
    def route(self) -> Route:
        return self.destination.route

    def check_lease(self) -> None:
        """Called by the sending thread right before the first byte: a request must not outlive our right to send."""
        if self.lease.remaining() < self.route.request_seconds + 5:
            raise NotSent("lease_too_short")


class Job(NamedTuple):
    """What a worker thread is waiting for."""

    channel: Channel
    kind: str
    subject: Batch | Poll | None


class Engine:
    """One run over one ledger."""

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
    ) -> None:
        self.ledger = ledger
        self.destinations = destinations
        self.mapper = mapper
        self.sources = sources
        self.clock = clock or SystemClock()
        self.stop = stop or threading.Event()
        self.ends_at = monotonic() + deadline.total_seconds()
        self.grace = grace.total_seconds()
        self.short_rest = short_rest.total_seconds()
        self.progress = progress or Silence()
        self.send_to = send_to
        self.channels: list[Channel] = []
        self.jobs: dict[Future[Any], Job] = {}
        self.workers = Workers(max(1, sum(one.route.in_flight for one in destinations)))
        self.drained_at: float | None = None
        self.unfinished = False
        self.misconfigured = False
        self.first_new_delivery = 0

    # -- commands

    def sync(self, *, command: str = "sync") -> Summary:
        """The whole flow: what is new is read, planned and sent; what is open is settled."""
        return self._run(command, lambda: self._read(None))

    def backfill(self, window: Window, *, actions: frozenset[str] | None = None) -> Summary:
        """Read a span of time anew. Cursors are neither used nor moved; what was sent before is recognised by its key."""
        return self._run("backfill", lambda: self._read(window, actions))

    def settle(self) -> Summary:
        """Only find out what became of earlier requests."""
        return self._run("settle", None)

    def rehearse(
        self,
        show: Callable[[str, Iterable[Mapping[str, Any]]], None],
        window: Window | None = None,
        *,
        actions: frozenset[str] | None = None,
    ) -> Summary:
        """A dry run: everything but the sending, and nothing of it is kept. `show` gets what would be sent."""
        with self.ledger.store.rehearsal():
            self._begin("backfill" if window else "sync", dry_run=True)
            self._read(window, actions)
            for channel in self.channels:
                self._rehearse(channel, show)
            summary = self._end()
        summary.head = ""  # the history it would name was never written
        return summary

    # -- a run from beginning to end

    def _run(self, command: str, take_in: Callable[[], None] | None) -> Summary:
        self._begin(command)
        self._settle()
        if take_in is not None:
            take_in()
            self._expire()
        for _ in range(ROUNDS):
            if take_in is not None:
                self._upload()
            self._settle()
            if take_in is None or not any(self._may_claim(channel) for channel in self.channels):
                break
        return self._end()

    def _begin(self, command: str, *, dry_run: bool = False) -> None:
        now = self._now()
        started_at = self.clock.now()
        run_id = f"{started_at.astimezone(UTC):%Y%m%dt%H%M%S}{secrets.token_hex(3)}"
        self.summary = Summary(run_id, command, dry_run, started_at)
        self.ledger.runs.begin(run_id, command, now=now)
        for destination in self.destinations:
            self._open(destination, now)
        self.first_new_delivery = (self.ledger.store.one("SELECT max(id) FROM delivery") or 0) + 1

    def _open(self, destination: Destination, now: int) -> None:
        route, runs = destination.route, self.ledger.runs
        number = runs.enlist(route.name, route.platform, route.account, route.route, route.on_unknown)
        lease = self.ledger.claim.lease(number, self.summary.run_id, now=now)
        counts = self.summary.destinations.setdefault(route.name, Counter())
        channel = Channel(destination, number, lease, counts)
        channel.open = self.send_to is None or route.name in self.send_to
        route.wire.before_bytes = channel.check_lease
        route.wire.stop = self.stop
        route.wire.deadline = time.monotonic() + self.ends_at - monotonic()
        self.channels.append(channel)
        self.ledger.plan.traits[route.name] = Traits(
            number, route.adjusts, route.snapshots, int(route.adjust_max_age.total_seconds() * 1000), route.merge
        )
        # A run that died left its batches in flight: they may have arrived. Unknown first, whatever the route.
        self.ledger.claim.take_over(lease, now=now, run_id=self.summary.run_id)

    def _end(self) -> Summary:
        summary = self.summary
        if self.stop.is_set():
            self._abandon()
        self.workers.close()
        self._look_around()
        summary.finished_at = self.clock.now()
        summary.exit_code = self._exit_code()
        summary.head = self.ledger.runs.end(summary.run_id, summary.exit_code, _run_counts(summary), now=self._now())
        return summary

    # -- read → map → plan

    def _read(self, window: Window | None, actions: frozenset[str] | None = None) -> None:
        for source in self.sources:
            if self._must_stop():
                return
            try:
                self._read_source(source, window, actions)
            except ConvsyncError as error:
                # one broken source never stops the others; its cursor stays where its last whole page left it
                self.unfinished |= not isinstance(error, SourceError)
                self.misconfigured |= isinstance(error, SourceError)
                self._find("error", "source", f"source {source.name}", error.message, error.advice)

    def _read_source(self, source: Source, window: Window | None, actions: frozenset[str] | None) -> None:
        plan, marks = self.ledger.plan, {} if window else self.ledger.plan.marks(source.name)
        for page in source.read(marks, window):
            wanted = [one for one in page.actions if actions is None or one.action in actions]
            mapped = self.mapper.page(wanted, self.clock.now())
            mark = None if window or page.cursor is None else (source.name, *page.cursor)
            taken = plan.page(mapped, page.bad, mark, now=self._now(), run_id=self.summary.run_id)
            self.summary.taken.add(taken)
            self.progress.read(source.name, taken.read)
            for bad in page.bad:
                self._find("error", "bad_row", bad.where, f"{bad.field} {bad.problem}", bad.advice)
            for finding in page.findings:
                self.misconfigured |= finding.level == "error"
                self.summary.find(finding)
            if self._must_stop():
                return

    # -- claim → send → record

    def _upload(self) -> None:
        while True:
            for channel in self.channels:
                self._fill(channel)
            if not self.jobs:
                pause = self._shortest_rest()
                if pause is None:
                    return
                self.stop.wait(pause)
                continue
            self._collect()
            if self.stop.is_set() and not self._drain():
                return

    def _fill(self, channel: Channel) -> None:
        """Claim for a channel as long as it has room. A process that dies here leaves at most what it claimed."""
        while channel.active < channel.route.in_flight and self._may_claim(channel):
            self._renew(channel)
            if not channel.ready:
                self._learn(channel)
                return
            batch = self._claim(channel)
            if batch is None:
                return
            self._submit(channel, "send", batch, partial(channel.route.send, batch.body, len(batch.items)))

    def _may_claim(self, channel: Channel) -> bool:
        if not channel.open or self._must_stop() or channel.rest_until > monotonic():
            return False
        if channel.failures and channel.active:
            return False  # after a failure one request at a time, until one succeeds
        return bool(channel.pieces) or self.ledger.claim.due(channel.id, self._now())

    def _claim(self, channel: Channel) -> Batch | None:
        route, pieces = channel.route, channel.pieces
        batch = self.ledger.claim.batch(
            channel.lease,
            route.batch_rows,
            route.encode,
            now=self._now(),
            run_id=self.summary.run_id,
            ids=pieces.popleft() if pieces else None,
        )
        if batch is not None:
            channel.counts["claimed"] += len(batch.items)
        return batch

    def _learn(self, channel: Channel) -> None:
        """Before the first claim: what only the platform knows, asked once and then remembered by the ledger."""
        if channel.active:
            return
        known = self.ledger.runs.learned(channel.id)
        self._submit(channel, "learn", None, partial(channel.route.learn, known))

    def _renew(self, channel: Channel) -> None:
        if channel.lease.remaining() < 300:
            self.ledger.claim.renew(channel.lease, now=self._now())

    def _submit(self, channel: Channel, kind: str, subject: Batch | Poll | None, call: Callable[[], Any]) -> None:
        channel.active += 1
        self.jobs[self.workers.submit(call)] = Job(channel, kind, subject)

    def _collect(self) -> None:
        """Record whatever came back; wait for it a moment, so that a signal is seen soon."""
        done, _ = wait(self.jobs, timeout=0.25, return_when=FIRST_COMPLETED)
        for future in done:
            job = self.jobs.pop(future)
            job.channel.active -= 1
            {"learn": self._learned, "send": self._answered, "poll": self._polled}[job.kind](job, future)

    def _learned(self, job: Job, future: Future[Any]) -> None:
        channel = job.channel
        try:
            facts = future.result()
        except Halted as halt:
            self._close(channel, halt.finding)
        except (NotSent, Unclear, PlatformUnavailable) as error:
            self._give_up(channel, f"it could not be asked what an upload needs ({error})")
        else:
            channel.ready = True
            if facts != self.ledger.runs.learned(channel.id):
                self.ledger.runs.learn(channel.id, facts)

    def _answered(self, job: Job, future: Future[Any]) -> None:
        batch, channel = job.subject, job.channel
        assert isinstance(batch, Batch)
        answer = self._understand(channel, future, len(batch.items))
        counts = self.ledger.record.answer(
            batch.id,
            answer,
            channel.destination.patience,
            epoch=batch.epoch,
            now=self._now(),
            run_id=self.summary.run_id,
        )
        channel.counts.update(counts)
        self.progress.sent(channel.route.name, len(batch.items))
        if answer.split and len(batch.items) > 1:
            self._split(channel, batch.items)
        self._follow(channel, answer)

    def _split(self, channel: Channel, items: tuple[int, ...]) -> None:
        """Refused as a whole without naming a row: send the halves apart, but not for ever."""
        channel.splits += 1
        if channel.splits > SPLITS:
            channel.pieces.clear()
            self._find(
                "error", "refused_whole", channel.route.name,
                f"{SPLITS} requests were refused as a whole without naming a row: the fault is hardly in the rows.",
                "Compare `convsync sync --dry-run --payloads -` with the platform's documentation, and report it.",
            )  # fmt: skip
            channel.open = False
            return
        middle = len(items) // 2
        channel.pieces += [items[:middle], items[middle:]]

    def _understand(self, channel: Channel, future: Future[Any], rows: int) -> Answer:
        """What came of a request. Nothing that is not understood ever counts as success, or as failure."""
        try:
            answer = future.result()
        except NotSent as error:
            channel.failures += 1
            if error.reason in ("interrupted", "deadline", "lease_too_short"):
                return Answer(Outcome(Verdict.RETURNED, error.reason))
            return Answer(Outcome(Verdict.LATER, f"not sent: {error.reason}", error.wait))
        except Unclear as error:
            channel.failures += 1
            return Answer(Outcome(Verdict.UNKNOWN, f"no answer: {error.reason}"))
        except Halted as halt:
            return Answer(Outcome(Verdict.RETURNED, halt.finding.code), halt=halt.finding)
        except Exception as error:  # noqa: BLE001 - a fault of ours in a worker thread: the bytes may have left
            channel.failures += 1
            self._find(
                "error", "bug", channel.route.name, f"an answer was not understood ({type(error).__name__})",
                "Please report this; the rows are kept as unknown.",
            )  # fmt: skip
            return Answer(Outcome(Verdict.UNKNOWN, f"answer not understood: {type(error).__name__}"))
        assert isinstance(answer, Answer)
        if answer.default.verdict is Verdict.UNKNOWN:
            channel.failures += 1
        elif answer.default.verdict is not Verdict.LATER:
            channel.failures = 0
        return answer

    def _follow(self, channel: Channel, answer: Answer) -> None:
        """What an answer means for the rest of the run."""
        for finding in answer.findings:
            self.summary.find(finding)
        if answer.halt is not None:
            self._close(channel, answer.halt)
        elif answer.rest is not None and answer.rest > self.short_rest:
            self._give_up(channel, f"the platform asks for a pause of {timedelta(seconds=round(answer.rest))}")
        elif answer.rest is not None:
            channel.rest_until = monotonic() + answer.rest
        if channel.failures >= FAILURES_IN_A_ROW:
            self._give_up(channel, f"{channel.failures} requests in a row brought no answer")

    def _close(self, channel: Channel, finding: Finding) -> None:
        """Credentials or configuration: this destination stops, the others go on."""
        channel.open = False
        self.misconfigured = True
        self.summary.find(finding)

    def _give_up(self, channel: Channel, why: str) -> None:
        """This destination is not to be had now. Nothing is lost: its rows are due again in the next run."""
        if channel.open:
            channel.open = False
            self.unfinished = True
            name = channel.route.name
            self._find("warning", "unavailable", name, f"stopped for this run: {why}.", "The next run goes on.")

    def _shortest_rest(self) -> float | None:
        """How long until a resting channel with work may go on; None if there is no such channel."""
        now = monotonic()
        rests = [
            channel.rest_until - now
            for channel in self.channels
            if channel.open and channel.rest_until > now and self.ledger.claim.due(channel.id, self._now())
        ]
        return None if self._must_stop() or not rests else max(0.01, min(rests))

    # -- settle

    def _settle(self) -> None:
        """Ask what became of accepted requests; give what is unknown another try where repeats are harmless."""
        for channel in self.channels:
            if channel.open and not self._must_stop():
                for poll in self.ledger.record.polls_due(channel.id, self._now()):
                    self._ask(channel, poll)
        while self.jobs:
            self._collect()
            if self.stop.is_set() and not self._drain():
                return
        for channel in self.channels:
            if channel.route.on_unknown is OnUnknown.RESEND:
                self.ledger.record.requeue_unknown(
                    channel.id, channel.destination.patience, now=self._now(), run_id=self.summary.run_id
                )

    def _ask(self, channel: Channel, poll: Poll) -> None:
        while channel.active >= channel.route.in_flight:
            self._collect()
            if self.stop.is_set():
                return
        if channel.open:
            age = timedelta(milliseconds=self._now() - poll.created_at)
            self._submit(channel, "poll", poll, partial(channel.route.poll, poll.ref, poll.rows, age))

    def _polled(self, job: Job, future: Future[Any]) -> None:
        poll, channel = job.subject, job.channel
        assert isinstance(poll, Poll)
        try:
            answer = future.result()
        except Halted as halt:
            self._close(channel, halt.finding)
            return
        except (NotSent, Unclear) as error:
            # a question may be asked again at any time: nothing is recorded, the poll stays due
            channel.failures += 1
            if channel.failures >= FAILURES_IN_A_ROW:
                self._give_up(channel, f"it does not tell what became of earlier uploads ({error.reason})")
            return
        counts = self.ledger.record.polled(
            poll.batch_id,
            answer,
            channel.destination.patience,
            epoch=channel.lease.epoch,
            now=self._now(),
            run_id=self.summary.run_id,
        )
        channel.failures = 0
        channel.counts.update(counts)
        self._follow(channel, answer)

    def _expire(self) -> None:
        """What waited in the ledger since earlier runs and is now too old for its platform."""
        for channel in self.channels:
            oldest = self.clock.now() - channel.route.max_age
            channel.counts["expired"] += self.ledger.record.expire(
                channel.id,
                self.first_new_delivery,
                int(oldest.timestamp() * 1000),
                now=self._now(),
                run_id=self.summary.run_id,
            )

    # -- the end

    def _drain(self) -> bool:
        """After a signal: whether to wait on for the answers that are still out."""
        if self.drained_at is None:
            self.drained_at = monotonic() + self.grace
        return bool(self.jobs) and monotonic() < self.drained_at

    def _abandon(self) -> None:
        """After a signal: answers still out when the grace is over are unknown; nobody waits for them any more."""
        while self.jobs and self._drain():
            self._collect()
        for job in list(self.jobs.values()):
            if isinstance(job.subject, Batch):
                outcome = Outcome(Verdict.UNKNOWN, "interrupted while the answer was on its way")
                job.channel.counts.update(
                    self.ledger.record.answer(
                        job.subject.id,
                        Answer(outcome),
                        job.channel.destination.patience,
                        epoch=job.subject.epoch,
                        now=self._now(),
                        run_id=self.summary.run_id,
                    )
                )
        self.jobs.clear()

    def _look_around(self) -> None:
        """What waits for a person, from this run or an earlier one, is told every time."""
        for channel in self.channels:
            name, counts = channel.route.name, channel.counts
            counts["superseded"] += self.summary.taken.superseded[name]
            standing = self.ledger.record.standing(channel.id)
            counts["in_flight"] = standing[State.IN_FLIGHT]
            if standing[State.HELD]:
                self._find(
                    "error", "held", name, f"{standing[State.HELD]} conversions wait for a person.",
                    f"See: convsync ledger list --destination {name} --state held",
                )  # fmt: skip
            if standing[State.UNKNOWN] and channel.route.on_unknown is OnUnknown.HOLD:
                self._find(
                    "error", "unknown", name,
                    f"{standing[State.UNKNOWN]} conversions may or may not have arrived, and the platform cannot be asked.",
                    f"See: convsync ledger list --destination {name} --state unknown",
                )  # fmt: skip
            elif standing[State.UNKNOWN]:
                self.unfinished = True
                self._find(
                    "warning", "unsettled", name,
                    f"{standing[State.UNKNOWN]} conversions have no known outcome yet.", "The next run settles them.",
                )  # fmt: skip
            if channel.failures and channel.route.on_unknown is not OnUnknown.HOLD:
                self._give_up(channel, "its last request brought no answer")
            if channel.open and self._deadline_passed() and self.ledger.claim.due(channel.id, self._now()):
                self._give_up(channel, "the deadline of the run came first")

    def _exit_code(self) -> Exit:
        counts: Counter[str] = sum((channel.counts for channel in self.channels), Counter())
        if self.stop.is_set():
            return Exit.INTERRUPTED
        if self.misconfigured:
            return Exit.USAGE
        if self.unfinished:
            return Exit.UNFINISHED
        errors = any(finding.level == "error" for finding in self.summary.findings)
        if errors or counts["refused"] or counts["held"] or self.summary.taken.skipped["bad_row"]:
            return Exit.ATTENTION
        return Exit.OK

    # -- small things

    def _rehearse(self, channel: Channel, show: Callable[[str, Iterable[Mapping[str, Any]]], None]) -> None:
        if not channel.open or not self.ledger.claim.due(channel.id, self._now()):
            return
        route = channel.route
        try:
            route.learn(self.ledger.runs.learned(channel.id))
        except Halted as halt:
            self._close(channel, halt.finding)
            return
        except (NotSent, Unclear) as error:
            self._give_up(channel, f"it could not be asked what an upload needs ({error.reason})")
            return
        while batch := self._claim(channel):
            items = self.ledger.claim.payloads_of(batch)
            show(route.name, route.preview(items))

    def _now(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    def _deadline_passed(self) -> bool:
        return monotonic() >= self.ends_at

    def _must_stop(self) -> bool:
        return self.stop.is_set() or self._deadline_passed()

    def _find(self, level: str, code: str, where: str, message: str, advice: str = "") -> None:
        self.summary.find(Finding(level, code, where, message, advice))


def _run_counts(summary: Summary) -> dict[str, Any]:
    said = summary.as_json()
    return {word: said[word] for word in ("read", "new", "revised", "skipped", "destinations")}
