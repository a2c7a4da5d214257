"""Faults on order: what should go wrong, on which operation, how often."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

KINDS = {
    # kind: is the request applied before the fault shows?
    "status": False,  # an error answer
    "reset_in_body": False,  # connection reset while the request's body is still being sent (ads: as reset_before)
    "reset_before": False,  # the request is read, then the connection is reset
    "reset_after": True,  # applied, then the connection is reset
    "reset_late": False,  # reset now, applied `seconds` later on the sandbox's clock (default 30)
    "timeout_before": False,  # no answer for `seconds`, nothing applied
    "timeout_after": True,  # applied, and the answer never comes
    "cut_body": True,  # applied, and the answer breaks off in the middle
    "slow": True,  # applied; the answer comes after `seconds`
    "garbage": True,  # applied; the answer cannot be read
    "empty": True,  # applied; status without a body
    "html": False,  # a proxy's page
    "redirect": False,  # the host moved
}

CODES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "OUT_OF_RANGE",
)  # fmt: skip


@dataclass
class Fault:
    on: str = "*"
    """An operation such as `google.ingest`, a platform such as `google.*`, or `*`."""
    kind: str = "status"
    status: int | None = None
    body: Any = None
    """Text as it is, anything else as JSON; None = the platform's usual answer to that status."""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    """How long `timeout_*` (default 3600) and `slow` (default 1) wait in real time (close() ends it), and
    `reset_late` on the clock."""
    times: int | None = 1
    """None = for ever."""
    skip: int = 0
    rate: float | None = None
    """Probability per request, from the sandbox's seed."""
    rows: int | dict[str, int] | None = None
    """Only requests with exactly that many rows, or with {"min": a, "max": b}."""
    applied: bool | None = None
    """Overrides whether the request is applied before the fault shows."""
    apply_after_s: float | None = None
    """Not None: whatever shows now, the request is applied so many seconds later on the clock, as with `reset_late`."""
    code: str | None = None
    """`status` on `ads.*`: the name of a gRPC status; None = what `error` or `status` stand for."""
    error: str | None = None
    """`status` on `ads.*`: errors of a GoogleAdsFailure such as `QuotaError.RESOURCE_EXHAUSTED`, with + between; a word
    without a dot such as `SERVICE_DISABLED` is the reason of a google.rpc.ErrorInfo. None = a bare gRPC status."""
    retry_after: float | None = None
    """Seconds in the `retry_delay` of such an error."""
    after: int = 0
    """Messages of a stream (ads.search) that come before the fault; with them the call is applied."""
    seen: int = 0
    fired: int = 0

    def delay(self) -> float | None:
        """Seconds of the clock until the request is applied; None = at once, or never."""
        if self.apply_after_s is None and self.kind == "reset_late":
            return 30 if self.seconds is None else self.seconds
        return self.apply_after_s

    def applies_first(self) -> bool:
        if self.apply_after_s is not None:
            return False
        return (KINDS[self.kind] or self.after > 0) if self.applied is None else self.applied

    def active(self) -> bool:
        return self.times is None or self.fired < self.times

    def meets(self, operation: str, rows: int | None) -> bool:
        platform = operation.partition(".")[0] + ".*"
        return self.on in ("*", operation, platform) and self._meets_rows(rows)

    def _meets_rows(self, rows: int | None) -> bool:
        if self.rows is None:
            return True
        if rows is None:
            return False
        if isinstance(self.rows, int):
            return rows == self.rows
        return self.rows.get("min", 0) <= rows <= self.rows.get("max", rows)

    def shown(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


_SETTABLE = {f.name for f in fields(Fault)} - {"seen", "fired"}


class Faults:
    def __init__(self, seed: int, operations: set[str]) -> None:
        self._known = {"*", *operations, *(name.partition(".")[0] + ".*" for name in operations)}
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults: list[Fault] = []

    def add(self, fault: Mapping[str, Any] | Fault | None = None, /, **settings: Any) -> Fault:
        """`add(on="google.ingest", kind="status", status=503)`, or the same as a mapping."""
        made = fault if isinstance(fault, Fault) else _fault({**(fault or {}), **settings})
        if made.on not in self._known:
            raise ValueError(f"unknown operation {made.on!r}; known: {', '.join(sorted(self._known))}")
        with self._lock:
            self._faults.append(made)
        return made

    def clear(self, seed: int | None = None) -> None:
        with self._lock:
            self._faults.clear()
            if seed is not None:
                self._random.seed(seed)

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.shown() for fault in self._faults]

    def choose(self, operation: str, rows: int | None, *, reading: bool = False) -> Fault | None:
        """The first fault due for this request; `reading` = its body has not been read yet."""
        with self._lock:
            for fault in self._faults:
                if (fault.kind == "reset_in_body") == reading and self._due(fault, operation, rows):
                    fault.fired += 1
                    return fault
        return None

    def _due(self, fault: Fault, operation: str, rows: int | None) -> bool:
        if not fault.active() or not fault.meets(operation, rows):
            return False
        fault.seen += 1
        if fault.seen <= fault.skip:
            return False
        return fault.rate is None or self._random.random() < fault.rate


def _fault(settings: dict[str, Any]) -> Fault:
    unknown = sorted(set(settings) - _SETTABLE)
    if unknown:
        raise ValueError(f"unknown fault setting {unknown[0]!r}; known: {', '.join(sorted(_SETTABLE))}")
    made = Fault(**settings)
    if made.code is not None and made.code not in CODES:
        raise ValueError(f"unknown gRPC status {made.code!r}; known: {', '.join(CODES)}")
    if made.kind not in KINDS:
        raise ValueError(f"unknown fault kind {made.kind!r}; known: {', '.join(KINDS)}")
    return made
