"""The end of a run: what waits for a person, from this run or an earlier one, is told every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from convsync.ledger.export import Exports
from convsync.model import OnUnknown, State
from convsync.run import Run
from convsync.uploads import Channel, Uploads, conversions

ENOUGH = 5
"""So many uploads of an action in a run say something about its usual wait."""


class Watch:
    """Looks at the destinations of one run when all is sent."""

    def __init__(
        self,
        run: Run,
        uploads: Uploads,
        by_file: frozenset[str] = frozenset(),
        configured: frozenset[str] | None = None,
    ) -> None:
        self.run = run
        self.configured = configured
        self.by_file = by_file
        self.ledger = run.ledger
        self.uploads = uploads

    def look_around(self) -> None:
        by_name: dict[str, list[Channel]] = {}
        for channel in self.uploads.channels:
            by_name.setdefault(channel.route.name, []).append(channel)
        for name, channels in by_name.items():
            self._look_around(name, channels)
        for number, name in self.uploads.shut():
            self._shut(number, name)
        if self.configured is not None:
            self._forgotten(self.configured)
        for channel in self.uploads.channels:
            self._late(channel)
            self._too_few(channel)
            if channel.failures and channel.route.on_unknown is not OnUnknown.HOLD:
                self.uploads.give_up(channel, "its last request came to nothing")
            if channel.open and self.run.deadline_passed() and self.uploads.due(channel):
                self.uploads.give_up(channel, "the deadline of the run came first")

    def _look_around(self, name: str, channels: Sequence[Channel]) -> None:
        """All doors of one destination."""
        counts, rehearsed = channels[0].counts, self.run.summary.dry_run
        counts["superseded"] += self.run.summary.taken.superseded[name]
        counts["expired"] += self.run.summary.taken.expired[name]
        in_doubt = {OnUnknown.HOLD: 0, OnUnknown.ASK: 0, OnUnknown.RESEND: 0}
        held = exported = 0
        for channel in channels:
            standing = self.ledger.record.standing(channel.id)
            counts["in_flight"] += 0 if rehearsed else standing[State.IN_FLIGHT]
            in_doubt[channel.route.on_unknown] += standing[State.UNKNOWN]
            held += standing[State.HELD]
            exported += standing["exported"]
        if counts["refused"] and not rehearsed:
            self.run.find(
                "error", "refused", name, f"{conversions(counts['refused'])} refused.",
                f"See: convsync ledger list --destination {name} --state refused",
            )  # fmt: skip
        if again := self.run.summary.taken.overwritten[name]:
            sales = "1 sale belongs" if again == 1 else f"{again} sales belong"
            self.run.find(
                "error", "one_amount", name,
                f"{sales} to an order that has one already (order {self.run.summary.taken.example[name]}): an order has one"
                " amount at this platform, that of the last one told, and a refund of one cancels all of it.",
                "Give each sale an order_id of its own, or tell of an order in one row with its sum.",
            )  # fmt: skip
        if held:
            self.run.find(
                "error", "held", name, f"{conversions(held)} waiting for a person.",
                f"See: convsync ledger list --destination {name} --state held",
            )  # fmt: skip
        if in_doubt[OnUnknown.HOLD]:
            self.run.find(
                "error", "unknown", name,
                f"{conversions(in_doubt[OnUnknown.HOLD])} in doubt: sent, perhaps arrived, and the platform cannot be asked.",
                f"See: convsync ledger list --destination {name} --state unknown",
            )  # fmt: skip
        if in_doubt[OnUnknown.RESEND]:
            self._unsettled(name, in_doubt[OnUnknown.RESEND], "The next run settles this.")
        if in_doubt[OnUnknown.ASK]:
            self._unsettled(
                name, in_doubt[OnUnknown.ASK],
                "The platform is asked for it again in each run; what it does not have when the quarantine is over is sent again.",
            )  # fmt: skip
        if exported or name in self.by_file:
            self._look_at_files(name, channels)

    def _shut(self, number: int, name: str) -> None:
        """What went by a way in that this configuration has no keys or settings for."""
        standing = self.ledger.record.standing(number)
        if count := standing[State.UNKNOWN] + standing[State.HELD] + standing[State.IN_FLIGHT]:
            self.run.find(
                "error", "shut", name,
                f"{conversions(count)} in doubt or held that went by another way in, for which this configuration has no keys.",
                "Put them back until that is settled, or decide: convsync ledger resolve.",
            )  # fmt: skip

    def _forgotten(self, configured: frozenset[str]) -> None:
        """What waits for a destination that the configuration has no section for any more, under this name."""
        waiting = Counter[str]()
        for number, name in self.ledger.runs.others(configured):
            standing = self.ledger.record.standing(number)
            waiting[name] += standing[State.UNKNOWN] + standing[State.HELD] + standing[State.IN_FLIGHT]
            waiting[name] += self.ledger.claim.waiting(number)
        for name, count in sorted((+waiting).items()):
            self.run.find(
                "warning", "no_section", f"destinations.{name}",
                f"{conversions(count)} waiting for it, and the configuration has no such section.",
                "If it was renamed, give it that name again; else decide: convsync ledger resolve, or leave them.",
            )  # fmt: skip

    def _unsettled(self, name: str, count: int, advice: str) -> None:
        self.run.unfinished = True
        self.run.find("warning", "unsettled", name, f"{conversions(count)} without a known outcome yet.", advice)

    def _too_few(self, channel: Channel) -> None:
        """What waits because a request to this platform needs more rows than there are yet."""
        least = channel.route.least
        if least == 1 or not channel.open or self.uploads.due(channel):
            return
        if count := self.ledger.claim.waiting(channel.id, self.run.now()):
            self.run.find(
                "info", "gathering", channel.route.name,
                f"{conversions(count)} waiting until there are {least} of a kind: the platform takes no fewer at once.",
                f"See: convsync ledger list --destination {channel.route.name} --state pending",
            )  # fmt: skip

    def _late(self, channel: Channel) -> None:
        """Platforms tie a conversion to a visit or click of the last weeks: half of that span is too long to wait."""
        window = channel.route.link_window
        if window is None or self.run.summary.dry_run or self.run.summary.command != "sync":
            return
        if not self.ledger.figures.sent_before(self.uploads.first_batch, channel.id):
            return  # the first of all runs brings what was there before it
        waits: dict[str, list[int]] = {}
        for action, waited in self.ledger.figures.waits(self.uploads.first_batch, channel.id):
            waits.setdefault(action, []).append(waited)
        for action, spans in sorted(waits.items()):
            typical = timedelta(milliseconds=median(spans))
            if len(spans) >= ENOUGH and typical > window / 2:
                self.run.find(
                    "warning", "late", channel.route.name,
                    f"{action}: uploaded {round(typical / timedelta(days=1))} days after it happened, half of them later still."
                    f" What comes more than {window.days} days after the visit reaches no goal.",
                    "Tell of each action when it happens: export from the CRM more often, send leads before they are qualified.",
                )  # fmt: skip

    def _look_at_files(self, name: str, channels: Sequence[Channel]) -> None:
        """What waits to be written to a file, and what was in one and waits for a person's word."""
        exports, platform = Exports(self.ledger.store), channels[0].route.platform
        standing = [exports.standing(one.id, now=self.run.now()) for one in channels]
        if waiting := sum(one.waiting for one in standing):
            command = f"convsync export {platform}" + (f" --destination {name}" if name != platform else "")
            self.run.find(
                "info", "to_export", name, f"{_orders(waiting, 'waits', 'wait')} for a file.", f"See: {command}"
            )  # fmt: skip
        if exported := sum(one.exported for one in standing):
            self.run.find(
                "info", "exported", name,
                f"{_orders(exported, 'was', 'were')} in a file; whether the platform has taken it is for a person to say.",
                f"When it shows them: convsync ledger resolve --destination {name} --state held --reason exported"
                ' --as sent --why "seen there"',
            )  # fmt: skip


def _orders(count: int, one: str, more: str) -> str:
    return f"1 order {one}" if count == 1 else f"{count} orders {more}"
