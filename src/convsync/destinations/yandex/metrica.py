"""Metrica's API as every route into it meets it: authorisation, the counter, and the table of replies."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from datetime import timedelta, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from convsync.errors import ConfigError, Halted, NotSent, Unclear
from convsync.model import Answer, Finding, Outcome, Verdict
from convsync.net import Reply, Wire, http_fault, scrub

SHORT_WAIT = (1.0, 30.0)
"""Quotas by address and by parallel requests clear within seconds: the wait is drawn from this span."""


class Means(enum.Enum):
    """What a reply says about the request as a whole."""

    BAD_ROWS = "bad_rows"
    """Some row is refused, which one is not told: send the halves apart; a single row is refused."""
    TOO_LARGE = "too_large"
    """Send the halves apart; a single row that is too large is our mistake."""
    HALT = "halt"
    SHORTLY = "shortly"
    TOMORROW = "tomorrow"
    LATER = "later"
    UNKNOWN = "unknown"
    """It may have been stored."""
    STRANGE = "strange"
    """It may have been stored, and a person should see a reply that nobody documented."""


class Meaning(NamedTuple):
    means: Means
    code: str
    """Of the finding, where there is one."""
    message: str = ""
    advice: str = ""


_BAD_ROWS = Meaning(Means.BAD_ROWS, "rows_refused")
_SERVER = Meaning(Means.UNKNOWN, "server_error")
_REQUEST = Meaning(
    Means.HALT,
    "request_refused",
    "Metrica does not accept the form of the upload.",
    "This is a mistake of convsync or a change at Metrica: look for a newer version, or report it.",
)
_TOKEN = Meaning(
    Means.HALT,
    "bad_token",
    "Metrica does not accept the token.",
    "Issue a new OAuth token and put it in `token`: it lives about a year, and a changed password ends it.",
)
_RIGHTS = Meaning(
    Means.HALT,
    "no_rights",
    "the token may not do this with the counter.",
    "Give its account edit access to the counter, and the token the rights metrika:offline_data and metrika:read.",
)
_DAILY = Meaning(
    Means.TOMORROW,
    "daily_quota",
    "today's quota of requests to Metrica is used up; uploading goes on after 00:00 GMT.",
    "5,000 requests a day are shared by every program of this account and counter: see what else sends.",
)
_SHORTLY = Meaning(Means.SHORTLY, "quota")
_LATER = Meaning(Means.LATER, "quota")

REPLIES: Mapping[tuple[int, str], Meaning] = {
    # (HTTP status, error_type; an empty one stands for every other). Statuses, words and quotas: dev/metrika,
    # "intro/errors" and "intro/quotas"; what each means for a retry is our reading (facts, 12.1).
    (400, "invalid_uploading"): _BAD_ROWS,
    (400, "invalid_parameter"): _BAD_ROWS,
    (400, "too_much_rows"): Meaning(Means.TOO_LARGE, *_REQUEST[1:]),
    (400, "missing_parameter"): _REQUEST,
    (400, "invalid_json"): _REQUEST,
    (400, "limit_exceeded"): _REQUEST,
    (400, "query_error"): _REQUEST,
    (401, ""): _TOKEN,
    (403, "invalid_token"): _TOKEN,
    (403, "access_denied"): _RIGHTS,
    (403, ""): Meaning(
        Means.HALT,
        "forbidden",
        "access was forbidden.",
        "Check the token and its rights; if a proxy stands between, check that it lets requests to Metrica through.",
    ),
    (404, ""): Meaning(
        Means.HALT,
        "no_counter",
        "Metrica does not know this counter.",
        "Compare `counter_id` with the number in Metrica's settings, and `metrica_url` with the default.",
    ),
    (406, ""): _REQUEST,
    (409, ""): Meaning(
        Means.HALT,
        "conflict",
        "Metrica says that the upload conflicts with the counter's state.",
        "Look at the counter's settings in Metrica; the next run tries again.",
    ),
    (413, ""): Meaning(
        Means.TOO_LARGE,
        "too_large",
        "the upload is too large even with one row in it.",
        "A proxy may limit the size of requests: raise its limit.",
    ),
    **{
        # The Russian page of quotas says 429, the English one 420.
        (status, error): meaning
        for status in (420, 429)
        for error, meaning in (
            ("quota_requests_by_ip", _SHORTLY),
            ("quota_parallel_requests", _SHORTLY),
            ("quota_requests_by_uid", _DAILY),
            ("quota_requests_by_counter_id", _DAILY),
            ("", _LATER),
        )
    },
    (500, ""): _SERVER,
    (502, ""): _SERVER,
    (503, ""): _SERVER,
    (504, ""): _SERVER,
}
CLIENT_ID_TYPE: Mapping[bool, Mapping[tuple[int, str, str], Meaning]] = {
    # Required in older documentation, gone from today's (facts, 2.1). By whether it was sent: (HTTP status, error_type,
    # word in the text).
    False: {
        (400, "missing_parameter", "client_id_type"): Meaning(
            Means.HALT,
            "client_id_type",
            "Metrica wants to be told the kind of the ids beside the file.",
            "Write `send_client_id_type = true`.",
        ),
    },
    True: {
        (400, "invalid_parameter", "client_id_type"): Meaning(
            Means.HALT,
            "client_id_type",
            "Metrica does not take the kind of the ids that it was told beside the file.",
            "Remove `send_client_id_type`, or this kind of id from `by`.",
        ),
    },
}
_MOVED = Meaning(
    Means.HALT,
    "moved",
    "Metrica's API answered with a redirect, which is not followed.",
    "Check `metrica_url`, and whether a proxy asks for a login.",
)
_STRANGE = Meaning(
    Means.STRANGE,
    "strange_reply",
    "Metrica gave an answer that its documentation does not know.",
    "It will be found out or sent again, which is harmless; if this repeats, report it.",
)


def meaning(status: int, error: str) -> Meaning:
    """What the table says of a reply that is not a success."""
    found = REPLIES.get((status, error)) or REPLIES.get((status, ""))
    return found or (_MOVED if 300 <= status < 400 else _STRANGE)


class Said(NamedTuple):
    """A reply that is not a success, in Metrica's words."""

    error: str
    text: str


def said(reply: Reply) -> Said:
    """`{"errors": [{"error_type", "message", "location"}], "code", "message"}`, or whatever a proxy made of it."""
    try:
        told = reply.json()
    except ValueError:
        page = reply.body.lstrip()[:1] == b"<"
        return Said("", f"HTTP {reply.status}, " + ("a page of HTML instead of JSON" if page else "no JSON"))
    errors = told.get("errors") if isinstance(told, dict) else None
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    error = re.sub(r"[^a-z0-9_]", "", str(first.get("error_type") or "").lower())[:60]
    words = first.get("message") or (told.get("message") if isinstance(told, dict) else "") or ""
    place = f" at {first['location']}" if first.get("location") else ""
    shown = scrub(f"{words}{place}")
    return Said(error, f"HTTP {reply.status} {error} {shown}".strip())


class Metrica:
    """One counter at Metrica, under one token."""

    def __init__(
        self,
        where: str,
        *,
        counter_id: str,
        token: str,
        url: str,
        wire: Wire,
        jitter: Callable[[float, float], float],
    ) -> None:
        if not re.fullmatch(r"[0-9]{1,20}", counter_id):
            raise ConfigError(f"{where}.counter_id must be the number of the counter, digits only.")
        if not re.fullmatch(r"[!-~]*", token):
            raise ConfigError(f"{where}.token has blanks or letters no token has.", "Copy it again, without `OAuth`.")
        self.where = where
        self.counter_id = counter_id
        self.wire = wire
        self._token = token
        self._url = url.rstrip("/")
        self._jitter = jitter

    def exchange(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Reply:
        headers = {"Authorization": f"OAuth {self._token}", "Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        return self.wire.exchange(method, f"{self._url}{path}", headers=headers, body=body, again=self._again)

    def upload(self, path: str, body: bytes, boundary: str) -> Reply:
        """POST a multipart body."""
        return self.exchange("POST", path, body, f"multipart/form-data; boundary={boundary}")

    def ask(self, path: str) -> dict[str, Any]:
        """A question, which changes nothing: without an answer nothing was sent, whatever the wire saw."""
        return self._told(self._asked(path))

    def ask_if_there(self, path: str) -> dict[str, Any] | None:
        """The same about something that Metrica may have forgotten: None if it says that it does not know it."""
        reply = self._asked(path)
        return None if reply.status == 404 and said(reply).error == "not_found" else self._told(reply)

    def _asked(self, path: str) -> Reply:
        try:
            return self.exchange("GET", path)
        except Unclear as fault:
            raise NotSent(fault.reason) from fault

    def _told(self, reply: Reply) -> dict[str, Any]:
        if reply.status == 200:
            return self._read(reply)
        told = said(reply)
        found = meaning(reply.status, told.error)
        if found.means in (Means.HALT, Means.BAD_ROWS, Means.TOO_LARGE):
            raise Halted(self.finding("error", found, told))
        raise NotSent(told.text, self._wait(reply, found))

    def judge(self, reply: Reply, rows: int, named: Mapping[tuple[int, str, str], Meaning] = {}) -> Answer:
        """What a reply that is not a success means for the rows of an upload.

        `named` goes before the table: replies that name a parameter (HTTP status, error_type, the word in its text).
        """
        told = said(reply)
        found = meaning(reply.status, told.error)
        for (status, error, word), meant in named.items():
            if (status, error) == (reply.status, told.error) and word in told.text:
                found = meant
        returned = Outcome(Verdict.RETURNED, told.text)
        match found.means:
            case Means.BAD_ROWS if rows == 1:
                return Answer(Outcome(Verdict.REFUSED, told.text))
            case Means.BAD_ROWS | Means.TOO_LARGE if rows > 1:
                return Answer(returned, split=True)
            case Means.HALT | Means.TOO_LARGE | Means.BAD_ROWS:
                return Answer(returned, halt=self.finding("error", found, told))
            case Means.SHORTLY | Means.LATER:
                wait = self._wait(reply, found)
                return Answer(Outcome(Verdict.LATER, told.text, wait), rest=wait)
            case Means.TOMORROW:
                wait = self._wait(reply, found)
                finding = self.finding("warning", found, told)
                return Answer(Outcome(Verdict.LATER, told.text, wait), rest=wait, findings=(finding,))
            case Means.UNKNOWN:
                return Answer(Outcome(Verdict.UNKNOWN, told.text))
            case Means.STRANGE:
                unprocessed = http_fault(reply.status) == "not_processed"
                return self.strange(told, Verdict.LATER if unprocessed else Verdict.UNKNOWN)

    def strange(self, told: Said, verdict: Verdict = Verdict.UNKNOWN) -> Answer:
        return Answer(Outcome(verdict, told.text), findings=(self.finding("warning", _STRANGE, told),))

    def finding(self, level: str, found: Meaning, told: Said) -> Finding:
        return self.note(level, found.code, f"{found.message} It said: {told.text.rstrip('.')}.", found.advice)

    def note(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return Finding(level, code, self.where, f"counter {self.counter_id}: {message}", advice)

    def _read(self, reply: Reply) -> dict[str, Any]:
        try:
            told = reply.json()
        except ValueError as fault:
            raise NotSent("HTTP 200, no JSON") from fault
        if not isinstance(told, dict):
            raise NotSent("HTTP 200, JSON of an unknown shape")
        return told

    def _again(self, reply: Reply) -> float | None:
        """Seconds until the wire may repeat a request that was certainly not processed; None: it is not for the wire."""
        if reply.status not in (420, 429) or meaning(reply.status, said(reply).error).means is not Means.SHORTLY:
            return None
        wait = reply.retry_after(self.wire.clock())
        if wait is None:
            return self._jitter(*SHORT_WAIT)
        return wait if wait <= SHORT_WAIT[1] else None

    def _wait(self, reply: Reply, found: Meaning) -> float | None:
        """Seconds until a refused request may come again: the server's wish, else what its quota is known for."""
        now = self.wire.clock()
        asked = reply.retry_after(now)
        if found.means is Means.TOMORROW:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            return max((midnight - now).total_seconds(), asked or 0.0)
        if asked is None and found.means is Means.SHORTLY:
            return self._jitter(*SHORT_WAIT)
        return asked


def object_of(reply: Reply) -> dict[str, Any]:
    """The JSON object of a success, empty if it is none."""
    try:
        told = reply.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


# -- the counter's clock --------------------------------------------------------------------------------------


def zone_of(text: str) -> tzinfo | None:
    """A time zone by its name or, for a zone that has none here, by its offset (`+03:00`)."""
    offset = re.fullmatch(r"([+-])(\d\d):(\d\d)", text, re.ASCII)
    if offset:
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-span if offset[1] == "-" else span) if span < timedelta(days=1) else None
    try:
        return ZoneInfo(text) if text else None
    except (ValueError, KeyError, OSError):
        return None


def zone_of_counter(counter: Mapping[str, Any]) -> str:
    """`time_zone_name`, or `time_zone_offset` (minutes east of Greenwich) if the name is none we know."""
    name, offset = counter.get("time_zone_name"), counter.get("time_zone_offset")
    if isinstance(name, str) and zone_of(name):
        return name
    if isinstance(offset, int) and abs(offset) < 24 * 60:
        hours, minutes = divmod(abs(offset), 60)
        return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"
    return ""
