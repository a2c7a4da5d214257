"""Settling: what became of requests that are over for us, but not for the platform.

What was accepted is polled. What is in doubt is sent again where the platform drops repeats, asked for where it can be
asked, and left to a person where neither is so (`OnUnknown`).
"""

from __future__ import annotations

from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any

from convsync.errors import Halted, NotSent, Unclear
from convsync.ledger import Doubt, Poll
from convsync.model import Answer, OnUnknown
from convsync.run import Run, milliseconds
from convsync.uploads import FAILURES_IN_A_ROW, Channel, Job, Uploads

ASK_AGAIN_MS = 60_000
"""How long after a request was not found it is asked for again: a list may be late by minutes."""

UNHEARD = object()
"""A question that brought no answer."""


class Settling:
    """Asks, on the channels of one run."""

    def __init__(self, run: Run, uploads: Uploads) -> None:
        self.run = run
        self.ledger = run.ledger
        self.uploads = uploads
        self.may_send = True

    def settle(self, *, send: bool = True) -> None:
        """Ask what became of requests; give what is unknown another try where repeats are harmless, if that may `send`."""
        self.may_send = send
        for channel in self.uploads.channels:
            if channel.open and not self.run.must_stop():
                for poll in self.ledger.record.polls_due(channel.id, self.run.now()):
                    self._ask(channel, poll)
                if channel.route.on_unknown is OnUnknown.ASK:
                    self._look(channel)
        while self.uploads.jobs:
            self.uploads.collect()
            if self.run.stop.is_set() and not self.uploads.drain():
                return
        for channel in self.uploads.channels:
            if channel.route.on_unknown is OnUnknown.RESEND:
                self.ledger.record.requeue_unknown(
                    channel.id, channel.destination.patience, now=self.run.now(), run_id=self.run.id
                )

    def _ask(self, channel: Channel, poll: Poll) -> None:
        while channel.active >= channel.route.in_flight:
            self.uploads.collect()
            if self.run.stop.is_set():
                return
        if channel.open:
            self.uploads.renew(channel)
            age = timedelta(milliseconds=self.run.now() - poll.created_at)
            self.uploads.submit(channel, poll, partial(channel.route.poll, poll.ref, poll.rows, age), self._polled)

    def _heard(self, channel: Channel, future: Future[Any]) -> Any:
        """What a question was answered, or UNHEARD. It may be asked again at any time: until then it stays due."""
        try:
            answer = future.result()
        except Halted as halt:
            self.uploads.stop(channel, halt.finding)
            return UNHEARD
        except (NotSent, Unclear) as error:
            channel.failures += 1
            if channel.failures >= FAILURES_IN_A_ROW:
                self.uploads.give_up(channel, f"it does not tell what became of earlier uploads ({error.reason})")
            return UNHEARD
        except Exception as error:  # noqa: BLE001 - a fault of ours in a worker thread: the question stays due
            self.uploads.bug(channel, error)
            return UNHEARD
        channel.failures = 0
        return answer

    def _polled(self, job: Job, future: Future[Any]) -> None:
        poll, channel = job.subject, job.channel
        assert isinstance(poll, Poll)
        answer = self._heard(channel, future)
        if answer is UNHEARD:
            return
        counts = self.ledger.record.polled(
            poll.batch_id,
            answer,
            channel.destination.patience,
            epoch=channel.lease.epoch,
            now=self.run.now(),
            run_id=self.run.id,
        )
        channel.counts.update(counts)
        self.uploads.follow(channel, answer)

    # -- requests in doubt, where the platform can be asked for them

    def _look(self, channel: Channel) -> None:
        for doubt in self.ledger.record.doubts_due(channel.id, self.run.now()):
            while channel.active >= channel.route.in_flight:
                self.uploads.collect()
                if self.run.stop.is_set():
                    return
            if channel.open:
                self.uploads.renew(channel)
                self.uploads.submit(channel, doubt, partial(channel.route.find, doubt.sought), self._looked)

    def _looked(self, job: Job, future: Future[Any]) -> None:
        """Found: adopted as it is. Not there: it may still arrive, until the quarantine is over; then it is sent again."""
        doubt, channel = job.subject, job.channel
        assert isinstance(doubt, Doubt)
        answer = self._heard(channel, future)
        if answer is UNHEARD:
            return
        if isinstance(answer, Answer) and answer.ref not in self.ledger.record.others(channel.id, doubt.batch_id):
            channel.counts.update(
                self.ledger.record.found(
                    doubt.batch_id,
                    answer,
                    channel.destination.patience,
                    epoch=channel.lease.epoch,
                    now=self.run.now(),
                    run_id=self.run.id,
                )
            )
            self.uploads.follow(channel, answer)
            return
        over = doubt.since + milliseconds(channel.route.quarantine)
        if self.run.now() < over:
            self.ledger.record.ask_again(doubt.batch_id, min(over, self.run.now() + ASK_AGAIN_MS))
        elif self.may_send and channel.open and not self.run.must_stop():
            self._resend(channel, doubt)

    def _resend(self, channel: Channel, doubt: Doubt) -> None:
        """The identical bytes once more: were the first to arrive after all, they would be the same rows."""
        if doubt.sent >= channel.destination.patience.max_attempts:
            self._strand(channel, doubt, f"in doubt: sent {doubt.sent} times, and never found")
            return
        if not channel.ready:
            self.uploads.learn(channel)
            return
        if channel.route.passes_contacts:
            gone = self.ledger.record.withdraw(doubt.batch_id, now=self.run.now(), run_id=self.run.id)
            channel.counts["held"] += gone
        self.uploads.renew(channel)
        batch = self.uploads.claimed(
            channel,
            lambda encode: self.ledger.claim.again(
                channel.lease, doubt.batch_id, encode, now=self.run.now(), run_id=self.run.id
            ),
        )
        if batch is not None:
            self.uploads.send(channel, batch)
        elif channel.open:
            self._strand(channel, doubt, "in doubt: its request did not arrive, and cannot be made again as it was")

    def _strand(self, channel: Channel, doubt: Doubt, reason: str) -> None:
        channel.counts["held"] += self.ledger.record.strand(
            doubt.batch_id, reason, now=self.run.now(), run_id=self.run.id
        )
