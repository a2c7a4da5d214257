"""The Data Manager API: events go in by the thousand, a request id comes back, verdicts by position half an hour later.

A second event with the same transaction id and conversion action overwrites the value of the first and never counts
again. That makes sending again safe, and a changed value an event like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import orjson

from convsync.destinations.google import events, readiness
from convsync.destinations.google.ads.client import is_this_machine
from convsync.destinations.google.ads.requests import ADJUST, Sheet
from convsync.destinations.google.ads.upload import Retractions
from convsync.destinations.google.answers import Reader, call_of, refusal
from convsync.destinations.google.auth import ADWORDS, DATA_MANAGER
from convsync.destinations.google.door import NOBODY, Door, digits
from convsync.destinations.google.replies import CALLS, STATUS_GONE, Means
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import WHOLE, Action, Answer, Conversion, Finding, Group, Outcome, Person, Skip, Verdict
from convsync.net import STOPPED, Reply

LONGEST_PAUSE = 6 * 3600.0
"""Between two looks at a request that Google is still processing."""
MOST_DESTINATIONS = 10
"""Conversion actions in a request. DOC dm/devguides/limits."""

_ACCEPTED = Outcome(Verdict.ACCEPTED)
_RETRACTION = f"{ADJUST.name}\n".encode()
_UNTOLD = b"without_money\n"
"""What a body begins with that is no event: a request to the Ads API; or no request at all."""
_WORTHLESS = b'"conversionValue":0,'


class DataManager(Door):
    """`POST /v1/events:ingest` and `GET /v1/requestStatus:retrieve`, JSON over HTTP.

    Not Google's own client: its newest version has no field for the positions of failed rows and drops them unread.
    Data Manager cannot take a conversion back: a cancelled one is restated to 0 and stays in the count, or, with
    `on_refund` "retract", taken back through the Ads API, for as long as Google lets us.
    `targets`, for `probe`, are what the configuration's actions send here.
    """

    route = "google.data_manager"
    goals_together = MOST_DESTINATIONS

    def __init__(
        self,
        name: str,
        *,
        on_refund: str = "zero",
        login_customer_id: str | None = None,
        data_manager_url: str = "https://datamanager.googleapis.com",
        poll_after: timedelta = timedelta(minutes=30),
        poll_every: timedelta = timedelta(minutes=30),
        poll_until: timedelta = timedelta(days=7),
        quota_zone: str = "America/Los_Angeles",
        **common: Any,
    ) -> None:
        super().__init__(
            name,
            scopes=(DATA_MANAGER, ADWORDS),
            plain_caller=False,
            on_refund=on_refund,
            login_customer_id=login_customer_id,
            **common,
        )
        self._account = events.Account(self.account, digits(login_customer_id or "") or None)
        self._url = data_manager_url.rstrip("/")
        self._after, self._every, self._until = poll_after, poll_every, poll_until
        self._zero_is_told = on_refund != "zero"
        self._takes_back = on_refund == events.RETRACT
        self._read = Reader(self._where, ZoneInfo(quota_zone), self.wire.clock)
        self._retractions = Retractions(self.client, self._sign_in, Sheet(self.client.version, self.account))

    # -- from an action to a request -----------------------------------------------------------------

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        return events.convert(action, person, target, value, self._defaults)

    def learn(self, known: Mapping[str, str]) -> Mapping[str, str]:
        if self._takes_back:
            self.client.require_version()
        return known

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        if group.part != events.RETRACT:
            return events.request(payloads, self._account)
        if self._takes_back and self._retractions.open:
            return self._retractions.body(payloads, token, group)
        # An event worth 0 of what is not known to be there would be a conversion more.
        bare = [row for row, payload in enumerate(payloads) if _WORTHLESS not in payload or not group.adjusts]
        return _UNTOLD + orjson.dumps(bare) if bare else events.request(payloads, self._account)

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        if group.part == events.RETRACT and self._takes_back:
            return self._retractions.preview(payloads, group)
        return events.preview(payloads, self._account)

    # -- the wire ------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        if not body.startswith(b"{"):
            return self._take_back(body, rows, group)
        reply = self._exchange("POST", "/v1/events:ingest", body)
        if reply.status != 200:
            return self._read.judge(reply, rows, lambda: self._ahead(body))
        answer = self._read.accepted(reply, self._after.total_seconds(), events.routed(body))
        if self._zero_is_told or _WORTHLESS not in body:
            return answer
        self._zero_is_told = True
        message = "cancelled or refunded conversions were restated to 0. Google keeps counting them."
        advice = 'Bidding by value sees it, target CPA and Maximise conversions do not: see on_refund = "retract".'
        return replace(answer, findings=(*answer.findings, self._read.finding("info", "restated", message, advice)))

    def validate(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        """The same request, only looked at. Google then checks less than it does for good. CODE, field report"""
        if not body.startswith(b"{"):
            return self._take_back(body, rows, group, dry=True)
        reply = self._exchange("POST", "/v1/events:ingest", b'{"validateOnly":true,' + body[1:])
        if reply.status != 200:
            return self._read.judge(reply, rows, lambda: self._ahead(body))
        answer = self._read.accepted(reply, 0, ())
        return replace(answer, default=_ACCEPTED, ref=None, poll_in=None)

    def _take_back(self, body: bytes, rows: int, group: Group, *, dry: bool = False) -> Answer:
        if body.startswith(_RETRACTION):
            return self._retractions.send(body, rows, group, dry=dry)
        untold = Outcome(
            Verdict.HELD, "it can be neither taken back nor, without a currency or an original, restated to 0"
        )
        message = "refunds without a currency can be told to Google in no way that is open to this account."
        advice = (
            'Give the source a currency for them; or write on_refund = "retract", if the Google Ads API is open to this '
            "account, and run `convsync ledger retry`."
        )
        return Answer(
            Outcome(Verdict.RETURNED, "another row of its request has no currency"),
            dict.fromkeys(orjson.loads(body[len(_UNTOLD) :]), untold),
            findings=(self._read.finding("error", "refund_untold", message, advice),),
        )

    def poll(self, ref: str, rows: int, age: timedelta) -> Answer:
        """Nothing here can make a row worse: whatever hinders the look, the rows stay accepted."""
        request_id, _, routed = ref.partition(" ")
        try:
            reply = self._exchange("GET", f"/v1/requestStatus:retrieve?requestId={quote(request_id, safe='')}")
        except Unclear:
            return self._again(age)
        except NotSent as fault:
            if fault.reason in STOPPED:
                raise
            return self._again(age, fault.wait)
        if reply.status == 200:
            told = self._read.status(reply, rows, [int(count) for count in routed.split("+") if count])
            return told or self._again(age)
        return self._no_status(reply, request_id, age)

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """One request with a token; a token that Google does not take is renewed once."""
        token = self._sign_in.token()
        reply = self._carry(method, path, body, token)
        if reply.status == 401:
            reply = self._carry(method, path, body, self._sign_in.renew(token))
            if reply.status == 401:
                answer = self._read.judge(reply, 1, dict)
                if answer.halt is not None:
                    raise Halted(answer.halt)
        return reply

    def _carry(self, method: str, path: str, body: bytes | None, token: str) -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self.wire.exchange(method, self._url + path, headers=headers, body=body, again=self._shortly)

    def _shortly(self, reply: Reply) -> float | None:
        """Only a quota by the minute whose end Google names is worth waiting for on the spot."""
        if reply.status != 429 or "PerDay" in refusal(reply).quota:
            return None
        return reply.retry_after(self.wire.clock())

    def _ahead(self, body: bytes) -> dict[int, float]:
        now = self.wire.clock()
        waits = ((moment - now).total_seconds() for moment in events.times(body))
        return {row: wait for row, wait in enumerate(waits) if wait > 0}

    # -- looking again -------------------------------------------------------------------------------

    def _again(self, age: timedelta, at_least: float | None = None, halt: Finding | None = None) -> Answer:
        """Look again, later and later: a request that took an hour so far may take half an hour more."""
        left = (self._until - age).total_seconds()
        if left <= 0:
            hours = self._until.total_seconds() / 3600
            message = f"Google has not said within {hours:g} hours what became of a request."
            advice = "Its rows stay accepted, not confirmed. Look into Google Ads, Goals, Summary, for their count."
            return Answer(
                _ACCEPTED, halt=halt, findings=(self._read.finding("warning", "no_verdict", message, advice),)
            )
        growing = min(max(self._every.total_seconds(), age.total_seconds() / 2), LONGEST_PAUSE)
        return Answer(_ACCEPTED, poll_in=max(min(growing, left), at_least or 0.0), halt=halt)

    def _no_status(self, reply: Reply, request_id: str, age: timedelta) -> Answer:
        told = refusal(reply)
        if reply.status == 404 or told.reason in STATUS_GONE:
            if told.reason != "REQUEST_TOO_OLD" and age <= self._after + 6 * self._every:
                return self._again(age)
            message = f"Google no longer tells what became of the request {request_id} ({told.reason or 'not found'})."
            advice = "Its rows stay accepted, not confirmed. Let `convsync settle` run every day: Google keeps 50 days."
            return Answer(_ACCEPTED, findings=(self._read.finding("warning", "status_gone", message, advice),))
        if call_of(told).means is not Means.HALT:
            return self._again(age, reply.retry_after(self.wire.clock()))
        return self._again(age, halt=self._read.judge(reply, 1, dict).halt)

    # -- check --online ------------------------------------------------------------------------------

    def _probe_scopes(self) -> Finding:
        granted = self._sign_in.granted
        if granted is not None and DATA_MANAGER not in granted:
            call = next(call for call in CALLS if call.code == "scope_missing")
            return self._read.finding("error", call.code, call.sentence, call.advice)
        return self._read.finding("info", "signed_in", "Google accepts the credentials.")

    def _probe_account(self) -> list[Finding]:
        """What the Ads API tells of the account, if it may be asked. A rehearsal on this machine asks nobody else."""
        granted = self._sign_in.granted
        if is_this_machine(urlsplit(self._url).netloc) and not is_this_machine(self.client.endpoint):
            return []
        if granted is not None and ADWORDS not in granted:
            return [readiness.not_granted(self.client.reader.where)]
        return readiness.probe(
            self.client.search,
            self.account,
            self._targets,
            where=self.client.reader.where,
            version=self.client.version,
            max_age=self.max_age,
            names=self._names,
            optional=True,
        )

    def _probe_targets(self) -> Iterator[Finding]:
        """Clicks and calls apart: an action takes one or the other."""
        for calls in (False, True):
            actions = list(dict.fromkeys(one.conversion_action for one in self._targets if one.calls is calls))
            for start in range(0, len(actions), MOST_DESTINATIONS):
                yield from self._probe_actions(actions[start : start + MOST_DESTINATIONS], calls)

    def _probe_actions(self, actions: Sequence[str], calls: bool) -> Iterator[Finding]:
        """An event with a made-up click or call, only to be validated: Google stores nothing, and nothing is counted."""
        now = self.wire.clock().astimezone(UTC)
        event: dict[str, Any] = {
            "transactionId": "cs-check",
            "eventTimestamp": (now - timedelta(hours=1)).isoformat(timespec="seconds"),
            "eventSource": events.CALL_SOURCE if calls else self._defaults.event_source,
        }
        if calls:
            event["userData"] = {"userIdentifiers": [{"phoneNumber": hashlib.sha256(NOBODY.encode()).hexdigest()}]}
            event["callInfo"] = {"startTimestamp": (now - timedelta(hours=2)).isoformat(timespec="seconds")}
        else:
            event["adIdentifiers"] = {"gclid": "convsync-check"}
        destinations = [self._account.destination(action, action) for action in actions]
        body = orjson.dumps({"destinations": destinations, "encoding": "HEX", "validateOnly": True, "events": [event]})
        reply = self._exchange("POST", "/v1/events:ingest", body)
        named = ", ".join(actions)
        if reply.status == 200:
            yield self._read.finding("info", "validated", f"Google takes conversions for {named} (nothing was sent).")
            return
        answer = self._read.judge(reply, 1, dict)
        if answer.halt is not None:
            yield answer.halt._replace(message=f"{answer.halt.message} Asked about: {named}.")
        else:
            message = f"Google did not take a test event for {named}: {_first(answer).reason}"
            yield self._read.finding("warning", "not_validated", message, "Try again; if it stays, check the actions.")


def _first(answer: Answer) -> Outcome:
    return next(iter(answer.rows.values()), answer.default)
