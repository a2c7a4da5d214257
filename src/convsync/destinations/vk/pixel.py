"""The VK pixel: one server-side call of a JavaScript goal for each conversion, taken without a word.

The call has no time, no id and no receipt, so every repeat counts again: an unknown outcome is held for a person.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import orjson

from convsync.destinations import Route
from convsync.errors import ConfigError
from convsync.model import (
    WHOLE,
    Action,
    Answer,
    Conversion,
    Finding,
    Group,
    OnUnknown,
    Outcome,
    Person,
    Skip,
    SkipReason,
    Verdict,
)
from convsync.net import Reply, Wire, http_fault
from convsync.normalise import major

GOAL = re.compile(r"[A-Za-z0-9_\-]{1,64}", re.ASCII)
ID_LENGTH = 512
MACRO = re.compile(r"\{\{.*?\}\}|\{.*?\}|[{}]")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")
FOREIGN = (
    # What a form's hidden field holds when it was filled from the wrong parameter. Digits alone prove nothing: a
    # yclid is only known by standing in the yclid column as well.
    (re.compile(r"(Cj0KCQ|CjwKCA|EAIaIQ)[\w-]+", re.ASCII), "a gclid of Google Ads"),
    (re.compile(r"IwAR[\w-]+|IwZX[\w-]+", re.ASCII), "an fbclid of Meta"),
)
CONTACT = re.compile(r"[^@\s]+@[^@\s]+|\+\d[\d ()-]{8,}", re.ASCII)

REFUSALS_IN_A_ROW = 5
"""A tracker that refuses everything refuses the address, not the conversions."""
PAUSE = 30.0
"""Seconds to leave a tracker alone that says it is too much and not for how long."""

TAKEN = Outcome(Verdict.ACCEPTED, "accepted by the tracker")


class Pixel(Route):
    """Goals of one pixel, called at `tracker_url`.

    Identified by the click id, else by the user id that the site gave to the pixel. A change or a refund cannot be
    told. The amount is a whole number in the currency of the VK account, to which VK does not convert.
    """

    route = "vk.pixel"
    platform = "vk"
    adjusts = False
    snapshots = False
    reason_per_row = False
    batch_rows = 1

    def __init__(
        self,
        name: str,
        *,
        pixel_id: str,
        wire: Wire,
        tracker_url: str = "https://top-fwz1.mail.ru/tracker",
        on_ambiguous: Literal["hold", "retry"] = "hold",
        slash_encoding: Literal["/", "%2F"] = "/",
        click_max_age: timedelta = timedelta(days=30),
        max_age: timedelta = timedelta(days=30),
        send_value: bool = True,
        max_value: int = 2_147_483_647,
        user_agent: str | None = None,
        in_flight: int = 5,
        ready: Callable[[], list[Finding]] | None = None,
    ) -> None:
        """`max_value`: of whole units; VK's own amount of a goal is a 32-bit number (DOC RemarketingCounterGoal), more is
        not established. `ready` looks at the account through the VK Ads API, where there are keys for it."""
        self.name = name
        self.account = pixel_id
        self.wire = wire
        self.request_seconds = wire.longest
        self.on_unknown = OnUnknown.RESEND if on_ambiguous == "retry" else OnUnknown.HOLD
        self.max_age = self.adjust_max_age = max_age
        self.click_max_age = click_max_age
        self.in_flight = in_flight
        self._where = f"destinations.{name}"
        self._tracker_url = tracker_url
        self._slash = slash_encoding
        self._send_value = send_value
        self._max_value = max_value
        self._headers = {"User-Agent": user_agent} if user_agent else {}
        self._ready = ready
        self._refusals = 0
        self._lock = threading.Lock()
        self._check_settings()

    # -- from an action to a call of a goal ------------------------------------------------------------------

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        if not target.goal or not GOAL.fullmatch(target.goal):
            raise ConfigError(
                f"actions.{action.action}: {target.goal!r} cannot be a goal of a VK pixel.",
                "It is 1 to 64 Latin letters, digits, _ or -.",
            )
        if value is not None and value < 0:
            return Skip(self.name, SkipReason.NEGATIVE_VALUE)
        found = self._identified(action)
        if isinstance(found, Skip):
            return found
        if action.status != "active":
            return Skip(self.name, SkipReason.CANNOT_ADJUST, "VK cannot take a goal back")
        amount = None if value is None or not self._send_value else _whole(value, action.currency)
        if amount is not None and amount > self._max_value:
            return Skip(self.name, SkipReason.VALUE_TOO_LARGE, f"more than {self._max_value} (max_value)")
        call = {"goal": target.goal, "value": amount, found.kind: found.text}
        payload = orjson.dumps({name: part for name, part in call.items() if part is not None})
        return Conversion(self.name, target.goal, payload, None, action.status, value, action.currency)

    def _identified(self, action: Action) -> _Id | Skip:
        """The click id, if it can be one; else the user id; else why neither."""
        reasons = list[Skip]()
        for candidate in (self._click(action), self._user(action)):
            if isinstance(candidate, _Id):
                return candidate
            if candidate is not None:
                reasons.append(candidate)
        return reasons[0] if reasons else Skip(self.name, SkipReason.NO_IDENTIFIER, "it needs rb_clickid or vk_user_id")

    def _click(self, action: Action) -> _Id | Skip | None:
        text = (action.rb_clickid or "").strip()
        if re.search(r"%[0-9A-Fa-f]{2}", text):
            text = unquote(text).strip()  # kept as it stood in the address: decoded once here, encoded once in `_url`
        if not text:
            return None
        problem = _malformed("rb_clickid", text) or _foreign(text, action)
        if problem:
            return Skip(self.name, SkipReason.BAD_IDENTIFIER, problem)
        if action.created_at is not None and action.occurred_at - action.created_at > self.click_max_age:
            detail = f"its click came more than {self.click_max_age.days} days before it (click_max_age)"
            return Skip(self.name, SkipReason.TOO_OLD, detail)
        return _Id("rb_clickid", text)

    def _user(self, action: Action) -> _Id | Skip | None:
        text = (action.vk_user_id or "").strip()
        if not text:
            return None
        problem = _malformed("vk_user_id", text)
        if not problem and CONTACT.fullmatch(text):
            problem = (
                "vk_user_id is an e-mail or a phone in clear: give the site and the CRM the same hash of it instead"
            )
        return Skip(self.name, SkipReason.BAD_IDENTIFIER, problem) if problem else _Id("userid", text)

    # -- from a call to its address ----------------------------------------------------------------------------

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The address to call. It is all that leaves: the request has no body."""
        if len(payloads) != 1:
            raise ValueError("the pixel takes one conversion a request")
        return self._url(orjson.loads(payloads[0])).encode("ascii")

    def _url(self, call: Mapping[str, Any]) -> str:
        """By hand: the tracker separates by `;`, and what an HTTP library makes of parameters it does not understand."""
        kind = "rb_clickid" if "rb_clickid" in call else "userid"
        goal, who = quote(call["goal"], safe=""), quote(call[kind], safe="")
        event = f"RG%3A{call.get('value', '')}{self._slash}{goal}"
        return f"{self._tracker_url}?id={self.account};e={event};{kind}={who}"

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        for payload in payloads:
            call = orjson.loads(payload)
            kind = "rb_clickid" if "rb_clickid" in call else "userid"
            yield {"goal": call["goal"], "value": call.get("value"), "id_kind": kind, "url": self._url(call)}

    # -- the wire ----------------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        reply = self.wire.exchange("GET", body.decode("ascii"), headers=self._headers)
        answer = self._judge(reply)
        if answer.default.verdict is Verdict.REFUSED:
            return self._refused(answer)
        if answer.default.verdict is Verdict.ACCEPTED:
            with self._lock:
                self._refusals = 0
        return answer

    def _judge(self, reply: Reply) -> Answer:
        """The table of replies. VK documents none, so it is what the words of HTTP mean for a call that counts."""
        said = f"HTTP {reply.status}"
        match reply.status:
            case status if 200 <= status < 300:
                return Answer(TAKEN)
            case status if 300 <= status < 400:
                return self._halted(said, "moved", *_moved(reply))
            case 401 | 403:
                message = "the VK tracker refused access, though it needs no login: this address may be blocked."
                return self._halted(said, "forbidden", message, "Check tracker_url, and proxies or firewalls between.")
            case 429:
                wait = reply.retry_after(self.wire.clock())
                return Answer(Outcome(Verdict.LATER, said, wait), rest=PAUSE if wait is None else wait)
            case status if status >= 500:
                return Answer(Outcome(Verdict.UNKNOWN, f"{said}: it may have been counted"))
            case status:
                verdict = {"not_processed": Verdict.LATER, "refused": Verdict.REFUSED, "ambiguous": Verdict.UNKNOWN}
                return Answer(Outcome(verdict[http_fault(status)], said))

    def _refused(self, answer: Answer) -> Answer:
        with self._lock:
            self._refusals += 1
            if self._refusals < REFUSALS_IN_A_ROW:
                return answer
            self._refusals = 0
        message = f"the VK tracker refused {REFUSALS_IN_A_ROW} conversions in a row; the rest waits."
        advice = "Check tracker_url and pixel_id; then `convsync ledger retry` sends the refused ones."
        return self._halted(answer.default.reason, "refuses_all", message, advice)

    def _halted(self, said: str, code: str, message: str, advice: str) -> Answer:
        finding = Finding("error", code, self._where, f"{message} It said: {said}.", advice)
        return Answer(Outcome(Verdict.RETURNED, said), halt=finding)

    def probe(self) -> list[Finding]:
        if self._ready is not None:
            findings = self._ready()
        else:
            message = f"pixel {self.account}: the tracker takes every call and tells nothing, so it is not asked here."
            advice = (
                "Compare the goals of the pixel in VK Ads with the [actions.*] sections: their names must be equal."
                " With client_id and client_secret of the VK Ads API this is done here."
            )
            findings = [Finding("info", "not_checkable", self._where, message, advice)]
        if self.on_unknown is OnUnknown.RESEND:
            message = "on_ambiguous is retry: a conversion whose answer was lost is sent again and may count twice."
            findings.append(Finding("warning", "may_count_twice", self._where, message, 'Write "hold" to be asked.'))
        return findings

    def _check_settings(self) -> None:
        if not re.fullmatch(r"[0-9]{1,20}", self.account):
            raise ConfigError(f"{self._where}.pixel_id must be the number of the pixel, digits only.")
        parts = urlsplit(self._tracker_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[?#;\s]", self._tracker_url):
            advice = "Write the address alone, such as https://top-fwz1.mail.ru/tracker."
            raise ConfigError(
                f"{self._where}.tracker_url is not an address to which parameters could be added.", advice
            )


class _Id(NamedTuple):
    kind: Literal["rb_clickid", "userid"]
    text: str


def _malformed(field: str, text: str) -> str:
    macro = MACRO.search(text)
    if macro:
        advice = (
            "; VK adds rb_clickid to its links itself, and its macro is {{clickid}}" if field == "rb_clickid" else ""
        )
        return f"{field} holds the macro {macro[0][:40]}, which nobody has replaced{advice}"
    if CONTROL.search(text) or len(text) > ID_LENGTH:
        return f"{field} is longer than {ID_LENGTH} characters or has characters that no id has"
    return ""


def _foreign(click: str, action: Action) -> str:
    """Whose click id stands in the column of rb_clickid, if it cannot be VK's."""
    for platform_id in ("gclid", "gbraid", "wbraid", "yclid", "ym_client_id"):
        if click == (getattr(action, platform_id) or "").strip():
            return f"rb_clickid holds the same text as {platform_id}: one of them is filled from the wrong parameter"
    whose = next((words for pattern, words in FOREIGN if pattern.fullmatch(click)), "")
    return f"rb_clickid holds {whose}" if whose else ""


def _whole(value: int, currency: str | None) -> int | None:
    """The amount in whole units, halves up; an amount of no currency is none."""
    return None if currency is None else int(major(value, currency).to_integral_value(ROUND_HALF_UP))


def _moved(reply: Reply) -> tuple[str, str]:
    try:
        host = urlsplit(reply.headers.get("Location", "")).hostname
    except ValueError:
        host = None
    message = "the VK tracker answered with a redirect, which is not followed because a repeat could count twice."
    return message, f"If this is VK's own host, put it into tracker_url: {host}." if host else "Check tracker_url."
