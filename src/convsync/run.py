"""One invocation: its clock, its end, what it did, and the exit code that says so."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from convsync.errors import Exit
from convsync.ledger import Ledger, Taken
from convsync.ledger.claim import monotonic
from convsync.model import Finding

FINDINGS_KEPT = 200


def milliseconds(span: timedelta) -> int:
    """A span as the ledger counts time."""
    return int(span.total_seconds() * 1000)


class Clock(Protocol):
    """Where a run reads the time. The system's, or a test's."""

    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Progress(Protocol):
    """Who is told how far a run is. Called by the thread that owns the ledger only."""

    def read(self, source: str, rows: int) -> None: ...

    def sent(self, destination: str, rows: int) -> None: ...


class Silence:
    def read(self, source: str, rows: int) -> None: ...

    def sent(self, destination: str, rows: int) -> None: ...


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
        "superseded", "in_flight", "already_there",
    )  # fmt: skip

    def find(self, finding: Finding) -> None:
        """Keep a finding once, and no more of them than a person will read."""
        if finding in self.findings:
            return
        if len(self.findings) >= FINDINGS_KEPT:
            self.dropped_findings += 1
        else:
            self.findings.append(finding)

    def counts(self) -> dict[str, Any]:
        """What the ledger keeps of a run."""
        return {
            "read": self.taken.read,
            "new": self.taken.new,
            "revised": self.taken.revised,
            "skipped": dict(sorted(self.taken.skipped.items())),
            "destinations": {
                name: {word: counts[word] for word in self.WORDS} for name, counts in self.destinations.items()
            },
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "command": self.command,
            "dry_run": self.dry_run,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            **self.counts(),
            "findings": [finding._asdict() for finding in self.findings],
            "findings_not_shown": self.dropped_findings,
            "head": self.head,
            "exit_code": int(self.exit_code),
        }


@dataclass
class Run:
    """What the rooms of the engine share while it runs."""

    ledger: Ledger
    summary: Summary
    clock: Clock
    stop: threading.Event
    """Set by a signal: nothing new is begun."""
    ends_at: float
    """The deadline, by `monotonic`."""
    progress: Progress
    unfinished: bool = False
    """A source or a platform was not to be had: the next run goes on."""
    misconfigured: bool = False
    """Credentials or configuration stopped a source or a destination."""

    @property
    def id(self) -> str:
        return self.summary.run_id

    def now(self) -> int:
        """Epoch milliseconds, as the ledger keeps them."""
        return int(self.clock.now().timestamp() * 1000)

    def deadline_passed(self) -> bool:
        return monotonic() >= self.ends_at

    def must_stop(self) -> bool:
        return self.stop.is_set() or self.deadline_passed()

    def find(self, level: str, code: str, where: str, message: str, advice: str = "") -> None:
        self.summary.find(Finding(level, code, where, message, advice))

    def exit_code(self) -> Exit:
        """The most that can be said in one number: what stops a scheduler first comes first."""
        if self.stop.is_set():
            return Exit.INTERRUPTED
        if self.misconfigured:
            return Exit.USAGE
        if self.unfinished:
            return Exit.UNFINISHED
        return Exit.ATTENTION if self._needs_a_person() else Exit.OK

    def _needs_a_person(self) -> bool:
        counts: Mapping[str, int] = sum(self.summary.destinations.values(), Counter())
        told = any(finding.level == "error" for finding in self.summary.findings)
        return told or bool(counts["refused"] or counts["held"] or self.summary.taken.skipped["bad_row"])
