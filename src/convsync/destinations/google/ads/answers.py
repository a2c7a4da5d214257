"""Reading the Google Ads API's replies by the tables: one outcome for every row, by position.

Nothing here sends anything, and nothing imports Google's client: messages are read through their own descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from convsync.destinations.google.ads.replies import (
    DAY,
    FIRST,
    FIVE_SECONDS,
    NOT_FOUND,
    RETRACTED,
    SPLITS,
    fate_of,
    meaning_of,
)
from convsync.destinations.google.events import RETRACT
from convsync.destinations.google.replies import OTHER_ACCOUNT, OURS, SEVERITY, SIX_HOURS, Fate, Meaning, Means
from convsync.model import WHOLE, Answer, Finding, Group, Outcome, Verdict
from convsync.net import scrub

SAME_DOOR = {"ACCESS_TOKEN_SCOPE_INSUFFICIENT": "scope_missing", "SERVICE_DISABLED": "api_disabled"}
"""Reasons of Google's front door → the codes of `replies.CALLS`."""
ROWS = frozenset({"conversions", "conversion_adjustments", "operations"})
"""Fields of a request whose index is the position of a row. CODE google-ads 34.0.0"""
FAILURE = re.compile(r"google\.ads\.googleads\.v\d+\.errors\.googleadsfailure-bin")
"""The trailing metadata that holds what went wrong with a call, whichever version of the API wrote it. MEASURED"""
NEVER_LEFT = (
    (re.compile(r"connection refused", re.I), "connection refused"),
    (re.compile(r"resol[uv]|lookup|name or service not known", re.I), "dns"),
    (re.compile(r"handshake|certificate|ssl|verification", re.I), "tls"),
    (re.compile(r"timed? ?out|timeout", re.I), "connect_timeout"),
)
_UNSENT = re.compile(
    r"failed to connect to all addresses|errors resolving|DNS resolution failed|^empty address list", re.I
)
"""Texts of an UNAVAILABLE for a call that found no connection to leave by. MEASURED grpcio 1.85.1"""


class Fault(NamedTuple):
    """One error of a reply. `code` is `Family.VALUE`, the number in place of a value that is newer than our client."""

    code: str
    message: str
    """Google's words, without what could be a row's data."""
    row: int | None = None
    wait: float | None = None
    """Seconds that a quota asks to wait."""

    def said(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class AdsRefused(Exception):
    """The Google Ads API did not take a call, for a reason that is neither configuration nor credentials.

    `code` and `message` are those of the first error (`QueryError.UNRECOGNIZED_FIELD`; the name of the status where
    Google told no more), `means` what the table of calls says of it, None if it has no line. Nothing was processed.
    """

    def __init__(self, errors: Sequence[Fault], means: Means | None = None, request_id: str = "") -> None:
        first = errors[0]
        super().__init__(first.said())
        self.code, self.message = first.code, first.message
        self.errors = tuple(errors)
        self.means = means
        self.wait = max((fault.wait for fault in errors if fault.wait is not None), default=None)
        self.request_id = request_id


# -- errors ------------------------------------------------------------------------------------------


def faults(failure: Any) -> list[Fault]:
    """The errors of a raw `GoogleAdsFailure`, in their order."""
    return [Fault(_code(one), scrub(one.message), _row(one), _wait(one)) for one in failure.errors]


def _code(error: Any) -> str:
    field = error.error_code.WhichOneof("error_code")
    unpublished = error.details.unpublished_error_code if error.HasField("details") else ""
    if field is None:
        return scrub(unpublished) or "UNKNOWN"
    kind = error.error_code.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(error.error_code, field)
    value = kind.values_by_number.get(number)
    return f"{kind.name}.{value.name if value is not None else number}"


def _row(error: Any) -> int | None:
    """The position of the row at fault. Zero is one, so presence counts; an index further inside is not a position."""
    for element in error.location.field_path_elements:
        if element.field_name in ROWS:
            return int(element.index) if element.HasField("index") else None
    return None


def _wait(error: Any) -> float | None:
    if not error.HasField("details") or not error.details.HasField("quota_error_details"):
        return None
    quota = error.details.quota_error_details
    return quota.retry_delay.seconds + quota.retry_delay.nanos / 1e9 if quota.HasField("retry_delay") else None


def failure_in(metadata: Iterable[tuple[str, Any]], parse: Callable[[bytes], Any]) -> Any | None:
    """The `GoogleAdsFailure` of a call's trailing metadata; None if there is none or it cannot be read."""
    for name, value in metadata:
        if FAILURE.fullmatch(name) and isinstance(value, bytes):
            try:
                return parse(value)
            except Exception:  # noqa: BLE001 - protobuf's DecodeError: not Google's, or not whole
                return None
    return None


def never_left(details: str) -> str | None:
    """The word of `net.TRANSIENT` for an UNAVAILABLE whose request found no connection; None if it may have left."""
    if not _UNSENT.search(details):
        return None
    return next((word for pattern, word in NEVER_LEFT if pattern.search(details)), "unreachable")


def weighed(errors: Sequence[Fault]) -> tuple[Fault, Meaning | None]:
    """Which of a call's errors stands for it, and what it means."""
    known = [(one, meaning) for one in errors for meaning in (meaning_of(one.code),) if meaning is not None]
    if not known:
        return errors[0], None
    return min(known, key=lambda pair: FIRST.index(pair[1].means))


# -- answers -----------------------------------------------------------------------------------------


class AdsReader(NamedTuple):
    """What reading a reply takes besides the reply: whose it is, what time it is, how a failure is parsed."""

    where: str
    clock: Callable[[], datetime]

    def finding(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return Finding(level, code, self.where, message, advice)

    def halted(self, fault: Fault, meaning: Meaning, request_id: str = "") -> Finding:
        ours = meaning.advice == OURS and fault.message
        told = f"{meaning.sentence} It says: {fault.message}" if ours else meaning.sentence
        message = f"{told.removesuffix('.')} ({fault.code}{_trace(request_id)})."
        return self.finding("error", _finding_code(fault), message, meaning.advice)

    def refused(self, refused: AdsRefused, rows: int = 1) -> Answer:
        """An upload that failed as a whole: too large, a quota, or what nobody knows."""
        fault, meaning = weighed(refused.errors)
        if meaning is not None and meaning.means is Means.SPLIT:
            halt = None if rows > 1 else self.halted(fault, meaning, refused.request_id)
            return Answer(Outcome(Verdict.RETURNED, fault.said()), halt=halt, split=rows > 1)
        if meaning is not None and meaning.means in (Means.MINUTE_QUOTA, Means.DAY_QUOTA):
            return self._quota(fault, meaning, refused.wait)
        message = f"Google did not take a request, for a reason that convsync does not know: {fault.said()}"
        note = self.finding("warning", "new_reason", f"{message}{_trace(refused.request_id)}", OURS)
        return Answer(Outcome(Verdict.UNKNOWN, fault.said()), findings=(note,))

    def _quota(self, fault: Fault, meaning: Meaning, asked: float | None) -> Answer:
        """Not the rows' fault: however long it lasts, no attempt of theirs counts."""
        if meaning.means is Means.MINUTE_QUOTA:
            wait = asked or FIVE_SECONDS
            return Answer(Outcome(Verdict.RETURNED, fault.said(), wait), rest=wait)
        wait = max(asked or 0.0, SIX_HOURS / 6)
        note = self.finding("warning", "daily_quota", f"{meaning.sentence} ({fault.code}).", meaning.advice)
        return Answer(Outcome(Verdict.RETURNED, fault.said(), wait), rest=wait, findings=(note,))

    def results(
        self,
        response: Any,
        rows: int,
        parse: Callable[[bytes], Any],
        *,
        ref: str | None,
        group: Group = WHOLE,
        dry: bool = False,
    ) -> Answer:
        """A call that succeeded: results by position, empty where an error names the row. `dry`: it has no results."""
        status = response.partial_failure_error
        named: dict[int, tuple[Fault, Fate]] = {}
        trace = ""
        if status.code or status.details:
            read = _failures(status, parse)
            found = [fault for one in read or () for fault in faults(one)]
            trace = next((one.request_id for one in read or () if one.request_id), "")
            rowless = [fault for fault in found if fault.row is None or not 0 <= fault.row < rows]
            if not found or rowless:
                return self._unreadable(rowless, status, trace)
            for fault in found:
                assert fault.row is not None
                self._note(fault, fault.row, group, named)
        outcomes = {row: _outcome(fault, fate, rows) for row, (fault, fate) in sorted(named.items())}
        if not dry:
            outcomes |= _silent(response.results, rows, named)
        return Answer(
            Outcome(Verdict.ACCEPTED),
            outcomes,
            ref=ref,
            halt=self._stops(named),
            split=rows > 1 and any(fault.code in SPLITS for fault, _ in named.values()),
            findings=tuple(self._notes(named, outcomes, rows, trace)),
        )

    def _note(self, fault: Fault, row: int, group: Group, named: dict[int, tuple[Fault, Fate]]) -> None:
        fate, before = self._fate(fault, row, group), named.get(row)
        if before is None or SEVERITY.index(fate.verdict) < SEVERITY.index(before[1].verdict):
            named[row] = fault, fate

    def _fate(self, fault: Fault, row: int, group: Group) -> Fate:
        """Two reasons depend on more than their name.

        A conversion sent within the last day may not be in Google's books yet; after that it never will be. And what
        was taken back is done when it is to be taken back, but lost when it is to have a value again.
        """
        fate = fate_of(fault.code)
        if fault.code == RETRACTED and group.part != RETRACT:
            return fate._replace(verdict=Verdict.REFUSED)
        young = row < len(group.taken_at) and self.clock().timestamp() - (group.taken_at[row] or 0) < DAY
        if fault.code == NOT_FOUND and young:
            return fate._replace(verdict=Verdict.LATER, wait=SIX_HOURS)
        return fate

    def _unreadable(self, rowless: Sequence[Fault], status: Any, trace: str) -> Answer:
        """Something failed, and nobody can tell which rows: none of them counts as done or as refused."""
        told = rowless[0].said() if rowless else scrub(status.message)
        message = f"Google took a request only in part and does not say which rows it means: {told}{_trace(trace)}."
        note = self.finding("warning", "partly", message, "The rows are sent again; what Google has, it recognises.")
        halt = next((self._about(one, fate_of(one.code)) for one in rowless if fate_of(one.code).halts), None)
        return Answer(Outcome(Verdict.UNKNOWN, f"failed in part: {told}"[:300]), halt=halt, findings=(note,))

    def _stops(self, named: Mapping[int, tuple[Fault, Fate]]) -> Finding | None:
        return next((self._about(fault, fate) for fault, fate in named.values() if fate.halts), None)

    def _about(self, fault: Fault, fate: Fate) -> Finding:
        code = fault.code.rpartition(".")[2].lower()
        return self.finding(fate.level, code, f"{fate.sentence} ({fault.said()}).", fate.advice)

    def _notes(
        self, named: Mapping[int, tuple[Fault, Fate]], outcomes: Mapping[int, Outcome], rows: int, trace: str
    ) -> Iterator[Finding]:
        groups: dict[str, list[tuple[Fault, Fate]]] = {}
        for fault, fate in named.values():
            groups.setdefault(fault.code, []).append((fault, fate))
        for code, found in groups.items():
            fault, fate = found[0]
            if fate.verdict is Verdict.HELD and not fate.level:
                message = f"Google gives {len(found)} of {rows} conversions the reason {fault.said()}{_trace(trace)}."
                yield self.finding("warning", "new_reason", message, "Look at them with `convsync ledger list`.")
            elif fate.level and not fate.halts and (fate.advice != OTHER_ACCOUNT.advice or len(found) * 20 >= rows):
                message = f"{len(found)} of {rows} conversions: {fate.sentence} ({code})."
                yield self.finding(fate.level, code.rpartition(".")[2].lower(), message, fate.advice)
        refused = [row for row, one in sorted(outcomes.items()) if one.verdict is Verdict.REFUSED]
        if refused:
            first = outcomes[refused[0]].reason
            message = (
                f"Google refused {len(refused)} of {rows} conversions in a request; the first: {first}{_trace(trace)}."
            )
            advice = (
                "Correct them at the source; `convsync ledger list` shows which. The others were taken without them."
            )
            yield self.finding("warning", "rows_refused", message, advice)


def _failures(status: Any, parse: Callable[[bytes], Any]) -> list[Any] | None:
    """Every `GoogleAdsFailure` of a google.rpc.Status; None if one of its details cannot be read."""
    read = []
    for detail in status.details:
        if not detail.type_url.endswith(".errors.GoogleAdsFailure"):
            return None
        try:
            read.append(parse(detail.value))
        except Exception:  # noqa: BLE001 - protobuf's DecodeError
            return None
    return read


def _outcome(fault: Fault, fate: Fate, rows: int) -> Outcome:
    if fault.code in SPLITS and rows == 1:
        return Outcome(Verdict.HELD, f"{_word(fault)}, in a request of one row")
    return Outcome(fate.verdict, _word(fault), fate.wait)


def _finding_code(fault: Fault) -> str:
    """Google's word in small letters, but where both APIs share a door: there both say the same."""
    return SAME_DOOR.get(fault.code) or fault.code.rpartition(".")[2].lower()


def _word(fault: Fault) -> str:
    """`UNPARSEABLE_GCLID: <Google's words>`."""
    family, _, value = fault.code.partition(".")
    shown = value if family in ("ConversionUploadError", "ConversionAdjustmentUploadError") else fault.code
    return f"{shown or fault.code}: {fault.message}" if fault.message else shown or fault.code


def _silent(results: Sequence[Any], rows: int, named: Mapping[int, Any]) -> dict[int, Outcome]:
    """Rows of which Google says nothing: neither an error nor a result. They may or may not count."""
    if len(results) == rows:
        quiet = [row for row, result in enumerate(results) if row not in named and not result.ByteSize()]
    else:
        quiet = [row for row in range(rows) if row not in named]
    unknown = Outcome(Verdict.UNKNOWN, "Google says neither that it took it nor that it refused it")
    return dict.fromkeys(quiet, unknown)


def _trace(request_id: str) -> str:
    """Not scrubbed, as it looks like a token and is none; but nothing else may stand in its place."""
    return f"; Google's request id: {request_id}" if re.fullmatch(r"[\w.:/+=~-]{1,100}", request_id) else ""
