"""Uploads: claim → send → record, and settle, for all destinations side by side.

The thread that calls in here owns the ledger. Worker threads only wait for the network; what they bring back is recorded
here. A process that dies on any line leaves at most what it had claimed, and the next run finds that `in_flight`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from convsync.destinations import Route
from convsync.errors import Halted, NotSent, PlatformUnavailable, Unclear
from convsync.ledger import Batch, Doubt, Lease, Patience, Poll, Traits
from convsync.ledger.claim import LEASE_SECONDS, Encode, monotonic
from convsync.model import Answer, Finding, Group, Outcome, Verdict
from convsync.run import Run, milliseconds
from convsync.workers import Workers

FAILURES_IN_A_ROW = 5
"""After so many requests in a row that came to nothing, a destination rests until the next run."""

SPLITS = 200
"""How many refused requests a destination may halve in a run: enough for a dozen bad rows among thousands."""

OURS = ("interrupted", "deadline", "lease_too_short", "lease_lost")
"""Reasons of NotSent that say nothing about the platform."""


class Destination(NamedTuple):
    """A route and how patient the operator is with it."""

    route: Route
    patience: Patience = Patience()


@dataclass
class Channel:
    """One destination during a run."""

    destination: Destination
    id: int
    lease: Lease
    counts: Counter[str]
    open: bool = True
    closed: bool = False
    """Stopped by configuration or credentials, and a person was told."""
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

    @property
    def lease_seconds(self) -> float:
        """Long enough that a patient operator's requests fit in between two renewals."""
        return max(LEASE_SECONDS, 3 * self.route.request_seconds)

    def check_lease(self) -> None:
        """Called by the sending thread right before the first byte: a request must not outlive our right to send."""
        if self.lease.remaining() < self.route.request_seconds + 5:
            raise NotSent("lease_too_short")


class Job(NamedTuple):
    """What a worker thread is waiting for, and who hears of it."""

    channel: Channel
    subject: Batch | Poll | Doubt | None
    heard: Callable[[Job, Future[Any]], None]


class Uploads:
    """The destinations of one run, and by name and door the goals that are sent there. `grace`, `short_rest`: seconds."""

    def __init__(
        self,
        run: Run,
        destinations: Sequence[Destination],
        goals: Mapping[tuple[str, str], frozenset[str]],
        *,
        grace: float,
        short_rest: float,
    ) -> None:
        self.run = run
        self.ledger = run.ledger
        self.goals = goals
        self.grace = grace
        self.short_rest = short_rest
        self.channels: list[Channel] = []
        self.first_batch = (self.ledger.store.one("SELECT max(id) FROM batch") or 0) + 1
        """The first that may be of this run."""
        self.jobs: dict[Future[Any], Job] = {}
        self.workers = Workers(max(1, sum(one.route.in_flight for one in destinations)))
        self.drained_at: float | None = None

    def open(self, destination: Destination, *, send: bool) -> None:
        """Take the lease of a destination; what a dead run left in flight there becomes unknown, whatever the route."""
        route, run = destination.route, self.run
        number = self.ledger.runs.enlist(
            route.name,
            route.platform,
            route.account,
            route.route,
            route.on_unknown,
            door=route.door,
            identities="fixed" if route.fixed else "distinct" if route.distinct else "",
        )
        lease = self.ledger.claim.lease(number, run.id, now=run.now())
        counts = run.summary.destinations.setdefault(route.name, Counter())
        channel = Channel(destination, number, lease, counts, open=send)
        self.renew(channel)
        route.wire.before_bytes = channel.check_lease
        route.wire.stop = run.stop
        route.wire.deadline = time.monotonic() + run.ends_at - monotonic()
        self.channels.append(channel)
        self.ledger.plan.traits[route.name, route.door] = Traits(
            number,
            route.adjusts,
            route.snapshots,
            milliseconds(route.adjust_max_age),
            route.merge,
            route.redact,
            None if route.first_max_age is None else milliseconds(route.first_max_age),
            route.tells_more,
            route.fixed,
            route.titles,
            route.passes_contacts,
            route.shift if route.fixed else None,
        )
        self.ledger.claim.take_over(lease, now=run.now(), run_id=run.id)

    def close(self) -> None:
        if self.run.stop.is_set():
            self.abandon()
        self.workers.close()

    def work_left(self) -> bool:
        return any(self.may_claim(channel) for channel in self.channels)

    # -- claim → send → record

    def upload(self) -> None:
        while True:
            for channel in self.channels:
                self._fill(channel)
            if not self.jobs:
                pause = self._shortest_rest()
                if pause is None:
                    return
                self.run.stop.wait(pause)
                continue
            self.collect()
            if self.run.stop.is_set() and not self.drain():
                return

    def _fill(self, channel: Channel) -> None:
        """Claim for a channel as long as it has room. A process that dies here leaves at most what it claimed."""
        while channel.active < channel.route.in_flight and self.may_claim(channel):
            self.renew(channel)
            if not channel.ready:
                self.learn(channel)
                return
            batch = self.claim(channel)
            if batch is None:
                if channel.pieces:
                    continue  # nothing is due any more in this one
                return
            self.send(channel, batch)

    def send(self, channel: Channel, batch: Batch) -> None:
        call = partial(channel.route.send, batch.body, len(batch.items), batch.group)
        self.submit(channel, batch, call, self._answered)

    def may_claim(self, channel: Channel) -> bool:
        if not channel.open or self.run.must_stop() or channel.rest_until > monotonic():
            return False
        if channel.failures and channel.active:
            return False  # after a failure one request at a time, until one succeeds
        if channel.route.hides_doubt and self.ledger.claim.in_doubt(channel.id):
            return False
        return bool(channel.pieces) or self.due(channel)

    def claim(self, channel: Channel) -> Batch | None:
        route, pieces = channel.route, channel.pieces
        return self.claimed(
            channel,
            lambda encode: self.ledger.claim.batch(
                channel.lease,
                route.batch_rows,
                encode,
                now=self.run.now(),
                run_id=self.run.id,
                ids=pieces.popleft() if pieces else None,
                apart=route.apart,
                changes=route.changes_apart,
                goals=route.goals_together if self._many_goals(route) else None,
                least=route.least,
                distinct=route.distinct,
            ),
        )

    def due(self, channel: Channel) -> bool:
        """Whether a request could be made now."""
        return self.ledger.claim.due(channel.id, self.run.now(), channel.route.least)

    def claimed(self, channel: Channel, claim: Callable[[Encode], Batch | None]) -> Batch | None:
        def encode(payloads: Sequence[bytes], token: str, group: Group) -> bytes:
            try:
                return channel.route.encode(payloads, token, group)
            except Exception as error:
                raise _CannotEncode(type(error).__name__) from error

        try:
            batch = claim(encode)
        except _CannotEncode as error:  # nothing was claimed: the transaction is undone
            self.give_up(channel, f"a request could not be built ({error}), please report this")
            return None
        if batch is not None:
            channel.counts["claimed"] += len(batch.items)
        return batch

    def _many_goals(self, route: Route) -> bool:
        return (
            route.goals_together is not None
            and len(self.goals.get((route.name, route.door), ())) > route.goals_together
        )

    def learn(self, channel: Channel) -> None:
        """Before the first claim: what only the platform knows, asked once and then remembered by the ledger."""
        if channel.active:
            return
        known = self.ledger.runs.learned(channel.id)
        self.submit(channel, None, partial(channel.route.learn, known), self._learned)

    def renew(self, channel: Channel) -> None:
        if channel.lease.remaining() < 0.7 * channel.lease_seconds:
            self.ledger.claim.renew(channel.lease, now=self.run.now(), seconds=channel.lease_seconds)

    def submit(
        self,
        channel: Channel,
        subject: Batch | Poll | Doubt | None,
        call: Callable[[], Any],
        heard: Callable[[Job, Future[Any]], None],
    ) -> None:
        """Let a worker thread make `call`; this one hears of it in `collect`."""
        channel.active += 1
        self.jobs[self.workers.submit(call)] = Job(channel, subject, heard)

    def collect(self) -> None:
        """Record whatever came back; wait for it a moment, so that a signal is seen soon."""
        done, _ = wait(self.jobs, timeout=0.25, return_when=FIRST_COMPLETED)
        for future in done:
            job = self.jobs.pop(future)
            job.channel.active -= 1
            job.heard(job, future)

    def _learned(self, job: Job, future: Future[Any]) -> None:
        channel = job.channel
        try:
            facts = future.result()
        except Halted as halt:
            self.stop(channel, halt.finding)
        except (NotSent, Unclear, PlatformUnavailable) as error:
            self.give_up(channel, f"it could not be asked what an upload needs ({error})")
        except Exception as error:  # noqa: BLE001 - a fault of ours in a worker thread stops one destination, not the run
            self.bug(channel, error)
            self.give_up(channel, "what an upload needs could not be found out")
        else:
            channel.ready = True
            if facts != self.ledger.runs.learned(channel.id):
                self.ledger.runs.learn(channel.id, facts)

    def _answered(self, job: Job, future: Future[Any]) -> None:
        batch, channel = job.subject, job.channel
        assert isinstance(batch, Batch)
        answer = self._understand(channel, future)
        counts = self.ledger.record.answer(
            batch.id,
            answer,
            channel.destination.patience,
            epoch=batch.epoch,
            now=self.run.now(),
            run_id=self.run.id,
        )
        channel.counts.update(counts)
        self.run.progress.sent(channel.route.name, len(batch.items))
        if answer.split and len(batch.items) > 1:
            self._split(channel, batch.items)
        self.follow(channel, answer)

    def _split(self, channel: Channel, items: tuple[int, ...]) -> None:
        """Refused as a whole without naming a row: send the halves apart, but not for ever."""
        channel.splits += 1
        if channel.splits > SPLITS:
            channel.pieces.clear()
            self.run.find(
                "error", "refused_whole", channel.route.name,
                f"{SPLITS} requests were refused as a whole without naming a row: the fault is hardly in the rows.",
                "Compare `convsync sync --dry-run --payloads -` with the platform's documentation, and report it.",
            )  # fmt: skip
            channel.open = False
            return
        middle = len(items) // 2
        channel.pieces += [items[:middle], items[middle:]]

    def _understand(self, channel: Channel, future: Future[Any]) -> Answer:
        """What came of a request. Nothing that is not understood ever counts as success, or as failure."""
        try:
            answer = future.result()
        except NotSent as error:
            channel.failures += 1
            if error.reason in OURS:
                return Answer(Outcome(Verdict.RETURNED, error.reason))
            wait = channel.destination.patience.first_wait if error.wait is None else error.wait
            return Answer(Outcome(Verdict.RETURNED, f"not sent: {error.reason}", wait))
        except Unclear as error:
            channel.failures += 1
            return Answer(Outcome(Verdict.UNKNOWN, f"no answer: {error.reason}"))
        except Halted as halt:
            return Answer(Outcome(Verdict.RETURNED, halt.finding.code), halt=halt.finding)
        except Exception as error:  # noqa: BLE001 - a fault of ours in a worker thread: the bytes may have left
            channel.failures += 1
            self.bug(channel, error)
            return Answer(Outcome(Verdict.UNKNOWN, f"answer not understood: {type(error).__name__}"))
        assert isinstance(answer, Answer)
        if answer.default.verdict is Verdict.UNKNOWN or _brought_nothing(answer):
            channel.failures += 1
        elif answer.default.verdict is not Verdict.LATER:
            channel.failures = 0
        return answer

    def bug(self, channel: Channel, error: Exception) -> None:
        self.run.find(
            "error", "bug", channel.route.name, f"an answer was not understood ({type(error).__name__}).",
            "Please report this; what was asked or sent counts neither as done nor as refused.",
        )  # fmt: skip

    def follow(self, channel: Channel, answer: Answer) -> None:
        """What an answer means for the rest of the run."""
        for finding in answer.findings:
            self.run.summary.find(finding)
        if answer.halt is not None:
            self.stop(channel, answer.halt)
        elif answer.rest is not None and answer.rest > self.short_rest:
            self.give_up(channel, f"the platform asks for a pause of {timedelta(seconds=round(answer.rest))}")
        elif answer.rest is not None:
            channel.rest_until = monotonic() + answer.rest
        if channel.failures >= FAILURES_IN_A_ROW:
            self.give_up(channel, f"{channel.failures} requests in a row came to nothing")

    def stop(self, channel: Channel, finding: Finding) -> None:
        """Credentials or configuration: this destination stops, the others go on. Requests that were out say the same again."""
        if not channel.closed:
            self.run.summary.find(finding)
        channel.open, channel.closed = False, True
        self.run.misconfigured = True

    def give_up(self, channel: Channel, why: str) -> None:
        """This destination is not to be had now. Nothing is lost: its rows are due again in the next run."""
        if channel.open:
            channel.open = False
            self.run.unfinished = True
            name = channel.route.name
            self.run.find("warning", "unavailable", name, f"stopped for this run: {why}.", "The next run goes on.")

    def _shortest_rest(self) -> float | None:
        """How long until a resting channel with work may go on; None if there is no such channel."""
        now = monotonic()
        rests = [
            channel.rest_until - now
            for channel in self.channels
            if channel.open and channel.rest_until > now and self.due(channel)
        ]
        return None if self.run.must_stop() or not rests else max(0.01, min(rests))

    # -- what has no more chance

    def retire(self) -> None:
        """What waits for a goal that was mended or taken out of the configuration must not stand in the way."""
        for channel in self.channels:
            name = channel.route.name
            goals = self.goals.get((name, channel.route.door), frozenset())
            gone = self.ledger.record.retire(channel.id, goals, now=self.run.now(), run_id=self.run.id)
            self._tell_of_gone(name, channel.counts, gone)
        for number, name in self.shut():
            gone = self.ledger.record.retire(number, frozenset(), now=self.run.now(), run_id=self.run.id)
            self._tell_of_gone(name, self.run.summary.destinations[name], gone)

    def shut(self) -> list[tuple[int, str]]:
        """Doors of these destinations that there was a route for once, and is none in this configuration: their numbers
        and names."""
        return self.ledger.runs.shut({one.route.name for one in self.channels}, {one.id for one in self.channels})

    def _tell_of_gone(self, name: str, counts: Counter[str], gone: int) -> None:
        counts["superseded"] += gone
        if gone:
            self.run.find(
                "warning", "goal_gone", name, f"{conversions(gone)} not sent: their goal is not configured any more.",
                "If it was mended, `convsync backfill` plans them for the new one.",
            )  # fmt: skip

    def expire(self, before_id: int) -> None:
        """What waited in the ledger since earlier runs and is now too old for its platform."""
        now = self.run.clock.now()
        for channel in self.channels:
            route = channel.route
            oldest, change, first = (
                None if age is None else int((now - age).timestamp() * 1000)
                for age in (route.max_age, route.adjust_max_age, route.first_max_age)
            )
            assert oldest is not None and change is not None
            channel.counts["expired"] += self.ledger.record.expire(
                channel.id, before_id, oldest, change, first, now=self.run.now(), run_id=self.run.id
            )

    # -- the end

    def drain(self) -> bool:
        """After a signal: whether to wait on for the answers that are still out."""
        if self.drained_at is None:
            self.drained_at = monotonic() + self.grace
        return bool(self.jobs) and monotonic() < self.drained_at

    def abandon(self) -> None:
        """After a signal: answers still out when the grace is over are unknown; nobody waits for them any more."""
        while self.jobs and self.drain():
            self.collect()
        for job in list(self.jobs.values()):
            if isinstance(job.subject, Batch):
                outcome = Outcome(Verdict.UNKNOWN, "interrupted while the answer was on its way")
                job.channel.counts.update(
                    self.ledger.record.answer(
                        job.subject.id,
                        Answer(outcome),
                        job.channel.destination.patience,
                        epoch=job.subject.epoch,
                        now=self.run.now(),
                        run_id=self.run.id,
                    )
                )
        self.jobs.clear()

    def erase(self) -> None:
        """Contacts in clear of what has its verdict: nothing more is to be sent with them."""
        for channel in self.channels:
            self.ledger.record.redact(channel.id, channel.route.redact, whole=channel.route.redacted_is_whole)
        for number, _ in self.shut():
            self.ledger.record.redact(number, lambda payload: b"{}")


class _CannotEncode(Exception):
    """A fault of ours in one route: it stops that destination, not the run."""


def conversions(count: int) -> str:
    return "1 conversion is" if count == 1 else f"{count} conversions are"


def _brought_nothing(answer: Answer) -> bool:
    """Everything came back as it was, and nothing says what to do differently: not to be repeated for ever."""
    return answer.default.verdict is Verdict.RETURNED and not answer.rows and not answer.split
