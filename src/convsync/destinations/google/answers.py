"""Reading Data Manager's replies by the tables: one outcome for every row, by position.

Nothing here sends anything. What cannot be read is never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from convsync.destinations.google.replies import (
    CALLS,
    DONE,
    FAULTS,
    OTHER_ACCOUNT,
    OURS,
    SEVERITY,
    SIX_HOURS,
    STRANGE,
    Call,
    Fate,
    Meaning,
    Means,
    fate_of,
    meaning_of,
)
from convsync.model import Answer, Finding, Outcome, Verdict
from convsync.net import Reply, http_fault, scrub

MINUTE = 60.0


# -- google.rpc.Status -------------------------------------------------------------------------------


class Violation(NamedTuple):
    row: int | None
    field: str
    reason: str
    text: str

    def said(self) -> str:
        return f"{self.reason}: {self.text}" if self.reason and self.text else self.reason or self.text or "no reason"


class Refusal(NamedTuple):
    """An error reply, read. `readable` is False when it is not Google's: a proxy answered in its place."""

    status: int
    readable: bool
    message: str
    reason: str
    quota: str
    request_id: str
    violations: tuple[Violation, ...]

    def trace(self) -> str:
        return f" (Google's request id: {self.request_id})" if self.request_id else ""


_ROW = re.compile(r"\bevents\[(\d{1,9})\]")
_SHAPE = re.compile(r"Unknown name|Cannot find field|Invalid value at|Invalid JSON payload")
"""Texts of the JSON parser: we sent what Google's schema does not have, so it is never one row's data."""


def refusal(reply: Reply) -> Refusal:
    error = _mapping(_json(reply).get("error"))
    details = [_mapping(detail) for detail in _sequence(error.get("details"))]
    infos = [detail for detail in details if _text(detail.get("@type")).endswith("ErrorInfo")]
    metadata: dict[str, Any] = {}
    for info in infos:
        metadata |= _mapping(info.get("metadata"))
    return Refusal(
        reply.status,
        bool(error),
        scrub(_text(error.get("message"))),
        next((_reason(info.get("reason")) for info in infos if info.get("reason")), ""),
        _text(metadata.get("quota_limit")),
        _word(metadata.get("requestId")) or _request_info(details),
        tuple(_violations(details)),
    )


def _request_info(details: Sequence[Mapping[str, Any]]) -> str:
    return next((_word(detail.get("requestId")) for detail in details if detail.get("requestId")), "")


def _violations(details: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    for detail in details:
        for one in map(_mapping, _sequence(detail.get("fieldViolations"))):
            field = _text(one.get("field"))
            row = _ROW.search(field)
            text = scrub(_text(one.get("description")))
            yield Violation(int(row[1]) if row else None, field[:200], _reason(one.get("reason")), text)


def _reason(value: Any) -> str:
    return _word(value).removeprefix("ERROR_REASON_")


# -- the answer to a call ----------------------------------------------------------------------------


class Reader(NamedTuple):
    """What reading a reply takes besides the reply: whose it is and what time it is."""

    where: str
    quota_zone: tzinfo
    """Whose midnight renews the daily quota."""
    clock: Callable[[], datetime]

    def finding(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return Finding(level, code, self.where, message, advice)

    def judge(self, reply: Reply, rows: int, ahead: Callable[[], Mapping[int, float]]) -> Answer:
        """An error reply to an ingest. `ahead` tells which rows are dated in the future, and by how many seconds."""
        told = refusal(reply)
        if told.status == 400 and told.readable:
            return self._bad_request(told, rows, ahead)
        call = call_of(told)
        match call.means:
            case Means.HALT:
                return self._halted(told, call.code, call.sentence, call.advice)
            case Means.SPLIT:
                return self._split(told, rows, call.sentence)
            case Means.LATER:
                wait = reply.retry_after(self.clock()) or (SIX_HOURS if call.status == 404 else MINUTE)
                return Answer(Outcome(Verdict.LATER, _short(told), wait))
            case Means.MINUTE_QUOTA | Means.DAY_QUOTA:
                return self._quota(told, reply)
            case _:
                message = f"Google answered {told.status}; the rows may have arrived.{told.trace()}"
                advice = "They are sent again, and Google recognises those it has by their transaction id."
                note = self.finding("info", call.code, message, advice)
                return Answer(Outcome(Verdict.UNKNOWN, _short(told)), findings=(note,))

    def _quota(self, told: Refusal, reply: Reply) -> Answer:
        """Not the rows' fault: however long it lasts, no attempt of theirs counts."""
        asked = reply.retry_after(self.clock()) or 0.0
        if call_of(told).means is Means.DAY_QUOTA:
            wait = max(asked, self._until_midnight())
            message = f"the daily quota of the Google Cloud project is used up ({scrub(told.quota)})."
            advice = "Sending goes on after midnight, Pacific time. A higher quota can be asked for in Google Cloud."
            notes: tuple[Finding, ...] = (self.finding("warning", "daily_quota", message, advice),)
        else:
            wait, notes = max(asked, MINUTE), ()
        return Answer(Outcome(Verdict.RETURNED, _short(told), wait), rest=wait, findings=notes)

    def _until_midnight(self) -> float:
        now = self.clock().astimezone(self.quota_zone)
        tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return tomorrow.timestamp() - now.timestamp()

    # -- 400 -----------------------------------------------------------------------------------------

    def _bad_request(self, told: Refusal, rows: int, ahead: Callable[[], Mapping[int, float]]) -> Answer:
        """Nothing of the request was processed (ERRORS: fail-fast). Which rows, if any, have to leave it?"""
        blamed = [*told.violations, Violation(None, "", told.reason, told.message)]
        for one in blamed:
            meaning = meaning_of(one.reason)
            if meaning.means is Means.SPLIT:
                return self._split(told, rows, meaning.sentence)
            if _stops(one, meaning):
                sentence = meaning.sentence if meaning.means is Means.HALT else "Google does not take the request."
                advice = meaning.advice if meaning.means is Means.HALT else OURS
                return self._halted(told, "request_refused", f"{sentence} It says: {one.said()}", advice)
            if meaning.means is Means.LATER:
                return Answer(Outcome(Verdict.LATER, one.said(), SIX_HOURS))
        named = {one.row: one for one in reversed(told.violations) if one.row is not None and one.row < rows}
        early = ahead()
        if rows > 1 and (not named or set(named) == {0}):
            # A report tells of answers that name events[0] whichever row is bad (superdesigndev/treg#151). Nothing else
            # tells such an answer from a true one, so a first row named alone is no more than "one of these".
            return self._early(told, early) if early else self._split(told, rows, told.message)
        if rows == 1 and early:
            return self._early(told, early)
        if rows == 1 and not named:
            named = {0: Violation(0, "", told.reason, told.message)}
        outcomes = {row: _row_outcome(one) for row, one in named.items()}
        return Answer(
            Outcome(Verdict.RETURNED, "another row of its request was refused"),
            outcomes,
            findings=(self._rows_refused(told, outcomes, rows),),
        )

    def _early(self, told: Refusal, early: Mapping[int, float]) -> Answer:
        """A time in the future gets a 400 that names nothing. CODE, field report."""
        return Answer(
            Outcome(Verdict.RETURNED, "another row of its request is dated in the future"),
            {
                row: Outcome(Verdict.LATER, f"dated in the future; Google said: {_short(told)}", seconds + MINUTE)
                for row, seconds in early.items()
            },
        )

    def _rows_refused(self, told: Refusal, outcomes: Mapping[int, Outcome], rows: int) -> Finding:
        first = outcomes[min(outcomes)].reason
        message = f"Google refused {len(outcomes)} of {rows} conversions in a request; the first: {first}{told.trace()}"
        advice = "Correct them at the source; `convsync ledger list` shows which. The others are sent without them."
        return self.finding("warning", "rows_refused", message, advice)

    def _split(self, told: Refusal, rows: int, sentence: str) -> Answer:
        if rows > 1:
            return Answer(Outcome(Verdict.RETURNED, _short(told)), split=True)
        return self._halted(told, "request_refused", f"{sentence}, even with one row.", OURS)

    def _halted(self, told: Refusal, code: str, message: str, advice: str) -> Answer:
        finding = self.finding("error", code, f"{message}{told.trace()}", advice)
        return Answer(Outcome(Verdict.RETURNED, _short(told)), halt=finding)

    # -- 200 -----------------------------------------------------------------------------------------

    def accepted(self, reply: Reply, poll_in: float, routed: Sequence[int]) -> Answer:
        """The reference is Google's request id, followed, where rows went to several destinations, by how many each."""
        told = _json(reply)
        request_id = _word(told.get("requestId"))
        if not request_id:
            message = "Google took a request but its answer cannot be read, so nobody can ask what became of it."
            advice = "The same conversions are sent again, and Google recognises them by their transaction id."
            note = self.finding("info", "unreadable", message, advice)
            return Answer(Outcome(Verdict.UNKNOWN, "HTTP 200, the answer cannot be read"), findings=(note,))
        notes = tuple(self._warnings(_sequence(told.get("fieldWarnings")), request_id))
        ref = f"{request_id} {'+'.join(map(str, routed))}" if routed else request_id
        return Answer(Outcome(Verdict.ACCEPTED), ref=ref, poll_in=poll_in, findings=notes)

    def _warnings(self, warnings: Sequence[Any], request_id: str) -> Iterator[Finding]:
        counts: dict[str, list[str]] = {}
        for warning in map(_mapping, warnings):
            reason = _word(warning.get("reason")).removeprefix("WARNING_REASON_") or "no reason"
            counts.setdefault(reason, []).append(scrub(_text(warning.get("description"))))
        for reason, texts in counts.items():
            message = (
                f"Google took the rows but warns {len(texts)} times of {reason}: {texts[0]} (request {request_id})"
            )
            yield self.finding("info", "field_warning", message)

    # -- the status of a request ---------------------------------------------------------------------

    def status(self, reply: Reply, rows: int, routed: Sequence[int]) -> Answer | None:
        """What became of the rows; None while Google has not finished with all of them, or says what cannot be read.

        Positions count within the original request for every destination of it. The answer does not tell which row
        went where, so as long as one destination is not done nothing is said of the rows not named, and if one keeps
        failed rows to itself they are all unknown. `routed` is how many rows each destination was sent.
        """
        found = [_mapping(one) for one in _sequence(_json(reply).get("requestStatusPerDestination"))]
        if not found or not {status_word(one) for one in found} <= DONE:
            return None
        sent = routed if len(routed) == len(found) else [rows] * len(found)
        fates: dict[int, tuple[str, Fate]] = {}
        accounts = [_account_for(one, count, rows, fates) for one, count in zip(found, sent, strict=True)]
        unnamed = Outcome(Verdict.UNKNOWN, "Google says that rows failed but not which")
        return Answer(
            Outcome(Verdict.CONFIRMED) if all(accounts) else unnamed,
            {
                row: Outcome(fate.verdict, f"{reason}: {fate.sentence}", fate.wait)
                for row, (reason, fate) in sorted(fates.items())
            },
            halt=next((self._about(reason, fate) for reason, fate in fates.values() if fate.halts), None),
            findings=tuple(self._notes(fates, rows, found)),
        )

    def _notes(
        self, fates: Mapping[int, tuple[str, Fate]], rows: int, found: Sequence[Mapping[str, Any]]
    ) -> Iterator[Finding]:
        counts: dict[str, int] = {}
        for reason, _ in fates.values():
            counts[reason] = counts.get(reason, 0) + 1
        for reason, count in counts.items():
            fate = fate_of(reason)
            if fate is STRANGE:
                message = (
                    f"Google gives {count} of {rows} conversions the reason {reason}, which convsync does not know."
                )
                yield self.finding("warning", "new_reason", message, "Look at them with `convsync ledger list`.")
            elif fate.level and not fate.halts and (fate is not OTHER_ACCOUNT or count * 20 >= rows):
                message = f"{count} of {rows} conversions: {fate.sentence} ({reason})."
                yield self.finding(fate.level, reason.lower(), message, fate.advice)
        for one in found:
            for warning in map(_mapping, _sequence(_mapping(one.get("warningInfo")).get("warningCounts"))):
                reason = _word(warning.get("reason")).removeprefix("PROCESSING_WARNING_REASON_")
                message = f"Google counted {_count(warning.get('recordCount'))} conversions but warns of {reason}."
                yield self.finding("info", "processing_warning", message)

    def _about(self, reason: str, fate: Fate) -> Finding:
        return self.finding(fate.level, reason.lower(), f"{fate.sentence} ({reason}).", fate.advice)


def call_of(told: Refusal) -> Call:
    for call in CALLS:
        if call.status == told.status and call.reason in ("", told.reason):
            if call.means is Means.MINUTE_QUOTA and "PerDay" in told.quota:
                return call._replace(means=Means.DAY_QUOTA)
            return call
    sentence = "the answer is not one of Google's." if not told.readable else f"Google answered {told.status}."
    advice = "Check data_manager_url, and whether a proxy stands between here and Google."
    means = FAULTS[http_fault(told.status)]
    return Call(told.status, "", means, "unexpected_answer", sentence, advice, "net.http_fault")


def status_word(destination: Mapping[str, Any]) -> str:
    word = _word(destination.get("requestStatus")) or "REQUEST_STATUS_UNKNOWN"
    return "FAILED" if word == "FAILURE" else word


def _stops(one: Violation, meaning: Meaning) -> bool:
    """Whether it is the configuration, or us, and not a row's data."""
    if meaning.means is Means.LATER:
        return False
    of_request = one.row is None and re.match(r"destinations|encoding|encryption|consent|validate_only", one.field)
    return meaning.means is Means.HALT or bool(of_request) or bool(_SHAPE.search(one.text))


def _row_outcome(one: Violation) -> Outcome:
    held = meaning_of(one.reason).means is Means.HELD
    return Outcome(Verdict.HELD if held else Verdict.REFUSED, one.said())


def _account_for(destination: Mapping[str, Any], sent: int, rows: int, fates: dict[int, tuple[str, Fate]]) -> bool:
    """Note the rows that failed for one destination; whether every failed one was named."""
    errors = [_mapping(one) for one in _sequence(_mapping(destination.get("errorInfo")).get("errorCounts"))]
    named = set[int]()
    clear = True
    for error in errors:
        reason = _word(error.get("reason")).removeprefix("PROCESSING_ERROR_").removeprefix("REASON_") or "UNSPECIFIED"
        told = [_count(index) for index in _sequence(error.get("recordIndices"))]
        positions = {index for index in told if index is not None and index < rows}
        clear &= len(positions) == len(told) > 0 and _count(error.get("recordCount")) in (None, len(positions))
        named |= positions
        for row in positions:
            _note(row, reason, fates)
    match status_word(destination):
        case "SUCCESS":
            return clear
        case "FAILED":
            return clear and len(named) == sent
        case _:
            return clear and bool(errors)


def _note(row: int, reason: str, fates: dict[int, tuple[str, Fate]]) -> None:
    fate, before = fate_of(reason), fates.get(row)
    if before is None or SEVERITY.index(fate.verdict) < SEVERITY.index(before[1].verdict):
        fates[row] = (reason, fate)


def _short(told: Refusal) -> str:
    return " ".join(part for part in (f"HTTP {told.status}", told.reason, told.message) if part)[:300]


# -- JSON that may be anything -----------------------------------------------------------------------


def _json(reply: Reply) -> Mapping[str, Any]:
    try:
        return _mapping(reply.json())
    except ValueError:
        return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _word(value: Any) -> str:
    """A name or an id as Google writes them; whatever else stands there is not repeated."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.:/+=~-]{1,200}", value) else ""


def _count(value: Any) -> int | None:
    """An int64 of JSON: Google writes it as text, others as a number."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
