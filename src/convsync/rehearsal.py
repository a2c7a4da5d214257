"""A dry run: what would be sent to one destination, shown row by row, and, if wanted, looked at by the platform itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from convsync.errors import Halted, NotSent, Unclear
from convsync.ledger import Batch
from convsync.model import Answer, Outcome, Verdict
from convsync.run import Run
from convsync.uploads import SPLITS, Channel, Uploads, conversions

Show = Callable[[str, Iterable[Mapping[str, Any]]], None]
"""Who gets the name of a destination and its rows."""


class Rehearsal:
    """Everything but the sending. Nothing of it is kept: the ledger undoes it at the end."""

    def __init__(self, run: Run, uploads: Uploads, show: Show, *, validate: bool) -> None:
        self.run = run
        self.ledger = run.ledger
        self.uploads = uploads
        self.show = show
        self.validate = validate

    def of(self, channel: Channel) -> None:
        """What would be sent to one destination."""
        if not channel.open or not self.uploads.due(channel):
            return
        try:
            checked = self._through(channel)
        except Halted as halt:
            self.uploads.stop(channel, halt.finding)
        except (NotSent, Unclear) as error:
            self.uploads.give_up(channel, f"it could not be asked what it makes of an upload ({error.reason})")
        else:
            if checked:
                message = f"{conversions(checked)} checked by the platform; nothing was taken."
                self.run.find("info", "validated", channel.route.name, message)

    def _through(self, channel: Channel) -> int:
        """Show all that is due. Returns how many rows the platform looked at."""
        route, validate, checked = channel.route, self.validate, 0
        route.learn(self.ledger.runs.learned(channel.id))
        while batch := self.uploads.claim(channel):
            payloads = self.ledger.claim.payloads_of(batch)
            self.show(route.name, route.preview(payloads, batch.group))
            if validate:
                checked += self._validate(channel, batch, payloads)
                validate = channel.open
            self._taken(channel, batch)
        return checked

    def _taken(self, channel: Channel, batch: Batch) -> None:
        """As if the platform had taken it, so that what comes behind it (the sale after its lead) is shown as well."""
        self.ledger.record.answer(
            batch.id,
            Answer(Outcome(Verdict.ACCEPTED)),
            channel.destination.patience,
            epoch=batch.epoch,
            now=self.run.now(),
            run_id=self.run.id,
        )

    def _validate(self, channel: Channel, batch: Batch, payloads: Sequence[bytes]) -> int:
        """Let the platform look at a request, and again at what is left when it refused some of it."""
        route, waiting, splits = channel.route, [tuple(range(len(batch.items)))], 0
        while waiting and channel.open:
            rows = waiting.pop()
            group = batch.group.only(rows)
            body = route.encode([payloads[row] for row in rows], batch.token, group)
            answer = route.validate(body, len(rows), group)
            if answer is None:
                message = "the platform has no way to check an upload without taking it."
                self.run.find("info", "cannot_validate", route.name, message)
                return 0
            for finding in answer.findings:
                self.run.summary.find(finding)
            if answer.halt is not None:
                self.uploads.stop(channel, answer.halt)
            elif answer.split and splits < SPLITS:
                splits += 1
                middle = len(rows) // 2
                waiting += [rows[:middle], rows[middle:]]
            else:
                self._would_refuse(channel, [batch.items[row] for row in rows], answer)
                left = tuple(row for at, row in enumerate(rows) if at not in answer.rows)
                waiting += [left] if left and answer.default.verdict is Verdict.RETURNED and answer.rows else []
        return len(batch.items) if channel.open else 0

    def _would_refuse(self, channel: Channel, items: Sequence[int], answer: Answer) -> None:
        named = dict.fromkeys(range(len(items)), answer.default) | dict(answer.rows)
        for at, outcome in sorted(named.items()):
            if outcome.verdict in (Verdict.REFUSED, Verdict.HELD):
                channel.counts["refused"] += 1
                source, external_id, action = self.ledger.claim.named(items[at])
                message = f"would refuse {action} {external_id} of {source}: {outcome.reason}"
                self.run.find("error", "would_refuse", channel.route.name, message)
