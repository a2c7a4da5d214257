"""Every way a run can fail, as a tree. Each branch knows its exit code and carries advice.

ConvsyncError
├── UsageError            2   what was typed cannot be meant
├── ConfigError           2   what the operator wrote cannot be used: names file and key
├── SourceError           2   a source can only work after somebody changes something
├── SourceUnavailable     3   a source may answer next time
├── PlatformUnavailable   3   a platform may answer next time
├── LedgerError           2   the ledger cannot be opened as it is
├── LedgerBusy            4   another run holds the lease
├── LedgerBroken          5   an invariant does not hold
└── WireError                 one request, told apart by what may have happened at the other end
    ├── NotSent               not a byte of it was processed: safe to send again
    ├── Unclear               it may have arrived: only settling can tell
    └── Halted                no further request makes sense in this run (credentials, configuration)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convsync.model import Finding


class Exit(enum.IntEnum):
    """The exit codes of DESIGN section 5."""

    OK = 0
    ATTENTION = 1
    USAGE = 2
    UNFINISHED = 3
    BUSY = 4
    BROKEN = 5
    INTERRUPTED = 130


class ConvsyncError(Exception):
    """A failure a person can read: what failed, on what, and what to do about it."""

    exit_code: Exit = Exit.UNFINISHED

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class UsageError(ConvsyncError):
    exit_code = Exit.USAGE


class ConfigError(ConvsyncError):
    exit_code = Exit.USAGE


class SourceError(ConvsyncError):
    exit_code = Exit.USAGE


class SourceUnavailable(ConvsyncError):
    exit_code = Exit.UNFINISHED


class PlatformUnavailable(ConvsyncError):
    exit_code = Exit.UNFINISHED


class LedgerError(ConvsyncError):
    exit_code = Exit.USAGE


class LedgerBusy(ConvsyncError):
    exit_code = Exit.BUSY


class LedgerBroken(ConvsyncError):
    exit_code = Exit.BROKEN


class WireError(Exception):
    """One request did not bring a readable answer. `reason` is a short word, safe to print and to keep."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(WireError):
    """Nothing of the request was processed. `wait` is the server's own wish, in seconds, if it had one."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Unclear(WireError):
    """The request may have arrived and been processed."""


class Halted(WireError):
    """Credentials or configuration: this destination stops, its rows stay due, and a person is told once."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code)
        self.finding = finding
