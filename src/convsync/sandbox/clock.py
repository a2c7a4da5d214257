"""The sandbox's time: the real time plus an offset, or a time that stands still until it is told to move."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class HasNow(Protocol):
    """Anything that tells the time; a test may hand in its own."""

    def now(self) -> datetime: ...


class SystemTime:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Clock:
    """`base` plus an offset; `frozen_at` stops it. `advance` moves either kind."""

    def __init__(self, *, frozen_at: datetime | None = None, base: HasNow | None = None) -> None:
        self._lock = threading.Lock()
        self._base: HasNow = base or SystemTime()
        self._offset = timedelta(0)
        self._frozen = frozen_at.astimezone(UTC) if frozen_at else None

    def now(self) -> datetime:
        with self._lock:
            return (self._frozen or self._base.now().astimezone(UTC)) + self._offset

    def time(self) -> float:
        return self.now().timestamp()

    def advance(self, seconds: float) -> datetime:
        with self._lock:
            self._offset += timedelta(seconds=seconds)
        return self.now()

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, at `at` or at the present moment."""
        moment = at.astimezone(UTC) if at else self.now()
        with self._lock:
            self._frozen, self._offset = moment, timedelta(0)

    def unfreeze(self) -> None:
        """Run again with the real time from the moment shown now."""
        shown = self.now()
        with self._lock:
            self._frozen = None
            self._offset = shown - self._base.now().astimezone(UTC)


def adopt(clock: HasNow | None) -> Clock:
    """Our own clock, wrapped around a foreign one if need be."""
    if isinstance(clock, Clock):
        return clock
    return Clock(base=clock)


def epoch_iso(seconds: float) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
