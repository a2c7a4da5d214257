"""What Metrica keeps of an upload of offline conversions: read, judged by its counters and status, found again.

There is never a verdict on a row. DOC M/management/openapi/offline_conversions, findById_1 and findAll_1
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from convsync.destinations.yandex.metrica import Metrica, object_of
from convsync.errors import NotSent
from convsync.model import Answer, Finding, Outcome, Sought, Verdict
from convsync.net import Reply

PAGE = 1000
"""Uploads asked for at a time. DOC findAll_1 has 10,000 in its example; a day's are a handful."""
MARGIN = timedelta(hours=1)
"""How much older than the request an upload may be dated and the search still goes on (facts, 2.7)."""
CLOCKS = timedelta(minutes=5)
"""How far Metrica's clock and ours may be apart, where an upload has to be known by its time."""
TOKEN = re.compile(r"[0-9a-f]{24}")


class Stage(enum.Enum):
    """How far an upload has come."""

    WAIT = "wait"
    DONE = "done"
    NOBODY = "nobody"


STATUSES: Mapping[str, Stage] = {
    # DOC findById_1; what is not listed is waited for, too.
    "PREPARED": Stage.WAIT,
    "UPLOADED": Stage.WAIT,
    "EXPORTED": Stage.WAIT,
    "MATCHED": Stage.WAIT,
    "PROCESSED": Stage.DONE,
    "LINKAGE_FAILURE": Stage.NOBODY,
}


class Uploading(NamedTuple):
    """The object `uploading`. Everything but the id may be missing: the edition of 2025 has fewer counters."""

    id: str
    created: datetime | None
    comment: str
    """Letters and digits of it, small: a token is still known when Metrica writes it another way."""
    kind: str
    """`client_id_type`, which not every edition tells."""
    status: str
    source: int | None
    """Rows in the file."""
    lines: int | None
    """Rows that passed validation."""
    linked: int | None
    no_goal: int | None
    no_user: int | None

    @classmethod
    def of(cls, told: object) -> Uploading | None:
        """None if it cannot be read."""
        if not isinstance(told, dict) or not re.fullmatch(r"[0-9]{1,20}", str(told.get("id"))):
            return None
        return cls(
            str(told["id"]),
            _moment(told.get("create_time")),
            re.sub(r"[^0-9a-z]", "", str(told.get("comment") or "").lower()),
            _word(told.get("client_id_type")),
            _word(told.get("status")),
            _count(told.get("source_quantity")),
            _count(told.get("line_quantity")),
            _count(told.get("linked_quantity")),
            _count(told.get("goal_not_found_quantity")),
            _count(told.get("user_not_found_quantity")),
        )


class Uploadings:
    """The uploads of one counter. Times are those of the configuration: when to look first, how often, how long."""

    def __init__(self, metrica: Metrica, *, after: timedelta, every: timedelta, until: timedelta) -> None:
        self._metrica = metrica
        self._note = metrica.note
        self._path = f"/management/v1/counter/{metrica.counter_id}/offline_conversions"
        self._after, self._every, self._until = after, every, until

    def taken(self, reply: Reply, rows: int) -> Answer:
        """What the success of an upload means for its rows."""
        found = Uploading.of(object_of(reply).get("uploading"))
        if found is None:
            return Answer(Outcome(Verdict.UNKNOWN, f"HTTP {reply.status}, the answer cannot be read"))
        return self._received(found, rows)

    def look(self, ref: str, rows: int, age: timedelta) -> Answer:
        """What became of an upload that was taken `age` ago. One that Metrica has forgotten is in doubt again."""
        told = self._metrica.ask_if_there(f"{self._path}/uploading/{ref}")
        if told is None:
            return Answer(Outcome(Verdict.UNKNOWN, f"Metrica does not know the upload {ref} any more"))
        found = Uploading.of(told.get("uploading"))
        if found is None:
            return self._not_yet(ref, "", age)
        lost, findings = self._lost(found, rows)
        if lost is not None:
            return Answer(lost, findings=findings)
        match STATUSES.get(found.status):
            case Stage.DONE:
                return Answer(_linked(found, rows), findings=(*findings, *self._unlinked(found, rows)))
            case Stage.NOBODY:
                return Answer(_nobody(found), findings=(*findings, *self._unlinked(found, rows)))
            case _:
                return self._not_yet(ref, found.status, age)

    def find(self, sought: Sought, kind: str | None, longest: float) -> Answer | None:
        """The upload that was sent with this token, or None. `kind` is what Metrica calls its kind of id.

        If the list keeps no tokens at all, it is the only one without a comment that has the rows and was made while
        the request may have been out (at most `longest` seconds). Several may be: nothing is adopted, and sending the
        identical bytes again does no harm (facts, 2.6).
        """
        listed = sorted(self._listed(sought.since - MARGIN), key=_age)
        told = [one for one in listed if sought.token in one.comment]
        if not told and not any(TOKEN.search(one.comment) for one in listed):
            alike = [one for one in listed if _may_be(one, sought, kind, timedelta(seconds=longest))]
            told = alike if len(alike) == 1 else []
        return self._received(told[-1], sought.rows) if told else None

    def last(self) -> Uploading | None:
        """The newest upload, if there is any."""
        told = self._read(self._metrica.ask(f"{self._path}/uploadings?limit={PAGE}&offset=0"))
        return max(told, key=_age, default=None)

    # -- judged ---------------------------------------------------------------------------------------------

    def _received(self, found: Uploading, rows: int) -> Answer:
        lost, findings = self._lost(found, rows)
        if lost is not None:
            return Answer(lost, ref=found.id, findings=findings)
        taken = Outcome(Verdict.ACCEPTED, "Metrica took the file; it never tells about single conversions")
        return Answer(taken, ref=found.id, poll_in=self._after.total_seconds(), findings=findings)

    def _lost(self, found: Uploading, rows: int) -> tuple[Outcome | None, tuple[Finding, ...]]:
        """Rows that did not pass validation: Metrica names none of them. CODE, weak; DOC for the counters"""
        findings = []
        if found.source is not None and found.source != rows:
            message = f"Metrica counted {found.source} rows in a file of {rows} (upload {found.id})."
            advice = "It does not tell which; compare its report Offline conversions with `convsync report`."
            findings.append(self._note("warning", "source_quantity", message, advice))
        counted = rows if found.source is None else found.source
        if found.lines is None or found.lines >= counted:
            return None, tuple(findings)
        if found.lines == 0:
            return Outcome(Verdict.REFUSED, f"Metrica took none of the {counted} rows of its file"), tuple(findings)
        dropped = counted - found.lines
        message = f"Metrica dropped {dropped} of the {counted} rows of the upload {found.id} and did not say which."
        advice = (
            "Metrica's report Offline conversions shows those it has: tell so by `convsync ledger resolve`, and send the others"
            " again by `convsync ledger retry` when they are mended. A row that is told twice only overwrites itself."
        )
        findings.append(self._note("error", "rows_dropped", message, advice))
        held = f"Metrica dropped {dropped} of the {counted} rows of its file and did not say which (upload {found.id})"
        return Outcome(Verdict.STRANDED, held), tuple(findings)

    def _unlinked(self, found: Uploading, rows: int) -> Iterator[Finding]:
        which = f"Its rows: convsync ledger list --reason {found.id}"
        if found.no_goal:
            message = (
                f"{found.no_goal} of {rows} conversions of the upload {found.id} reached no goal: Metrica has none of this"
                " identifier, or it was made after the visit."
            )
            advice = f"`convsync yandex goals` shows those that are missing or spelled otherwise. {which}"
            yield self._note("error", "goal_not_found", message, advice)
        if found.no_user:
            untold = "" if found.no_user >= rows else "; which ones is not told"
            message = f"{found.no_user} of {rows} conversions of the upload {found.id} found no visit{untold}."
            advice = f"A visit counts for 21 days. Metrica's report Offline conversions shows each row with the reason. {which}"
            yield self._note("warning", "user_not_found", message, advice)

    def _not_yet(self, ref: str, status: str, age: timedelta) -> Answer:
        left = (self._until - age).total_seconds()
        accepted = Outcome(Verdict.ACCEPTED, status)
        if left > 0:
            return Answer(accepted, poll_in=min(self._every.total_seconds(), left))
        hours = self._until.total_seconds() / 3600
        message = f"after {hours:g} hours the upload {ref} is still {status or 'without a status'}."
        advice = (
            "Its rows stay accepted, not confirmed. Metrica's report Offline conversions shows what became of them."
        )
        return Answer(accepted, findings=(self._note("warning", "no_verdict", message, advice),))

    # -- found again ----------------------------------------------------------------------------------------

    def _listed(self, edge: datetime) -> Iterator[Uploading]:
        """Uploads until those made before `edge`: the list seems to be the newest first, which nobody promises."""
        seen = set[str]()
        while True:
            page = self._read(self._metrica.ask(f"{self._path}/uploadings?limit={PAGE}&offset={len(seen)}"))
            fresh = [one for one in page if one.id not in seen]
            if not fresh:
                return
            seen.update(one.id for one in fresh)
            yield from fresh
            times = [one.created for one in page if one.created is not None]
            if len(times) == len(page) and times[-1] < edge and times == sorted(times, reverse=True):
                return

    def _read(self, told: Mapping[str, Any]) -> list[Uploading]:
        listed = told.get("uploadings")
        if not isinstance(listed, list):
            raise NotSent("the list of uploads cannot be read")
        return [found for one in listed if (found := Uploading.of(one))]


def _age(one: Uploading) -> tuple[float, int]:
    return (one.created.timestamp() if one.created else 0.0, int(one.id))


def _linked(found: Uploading, rows: int) -> Outcome:
    if found.linked is None or found.linked >= rows:
        return Outcome(Verdict.CONFIRMED)
    if found.linked == 0:
        return _nobody(found)
    told = f"partly linked: {found.linked} of {rows} rows of its file, Metrica does not tell which (upload {found.id})"
    return Outcome(Verdict.CONFIRMED, told)


def _nobody(found: Uploading) -> Outcome:
    """No row was linked: for want of a visit, unless Metrica says that it was for want of the goal."""
    if not found.no_goal:
        why = "Metrica found nobody of its file"
    elif not found.no_user:
        why = "no row of its file reached a goal: Metrica has none of this identifier, or it was made after the visit"
    else:
        why = f"no row of its file was linked: {found.no_goal} reached no goal, {found.no_user} found no visit"
    return Outcome(Verdict.UNMATCHED, f"{found.status}: {why} (upload {found.id})")


def _count(told: object) -> int | None:
    """A counter, which JSON may hold as a number or as text."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text := str(told)) else None


def _moment(told: object) -> datetime | None:
    """An aware time; one without a zone says nothing."""
    try:
        moment = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _word(told: object) -> str:
    return re.sub(r"[^A-Z_]", "", str(told or ""))[:40]


def _may_be(one: Uploading, sought: Sought, kind: str | None, longest: timedelta) -> bool:
    """Whether an upload could be the one, by everything but its token. A comment cut short still begins like it."""
    if one.id in sought.others or one.source != sought.rows or not sought.token.startswith(one.comment):
        return False
    if one.kind and kind and one.kind != kind:
        return False
    return one.created is not None and sought.since - CLOCKS <= one.created <= sought.since + longest + CLOCKS
