"""The Google Ads API as a way in, for those whom Google still lets in there: verdicts row by row, in the answer itself.

A conversion is known by its order id, the same as the Data Manager route's transaction id, and both routes read the same
payloads: who has to move on writes api = "data_manager", and what waits goes that way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any

import orjson

from convsync.destinations.google import events, readiness, readings
from convsync.destinations.google.ads.answers import AdsRefused
from convsync.destinations.google.ads.replies import CALLS, CLOSED
from convsync.destinations.google.ads.requests import Sheet
from convsync.destinations.google.ads.upload import upload
from convsync.destinations.google.auth import ADWORDS
from convsync.destinations.google.door import NOBODY, Door
from convsync.errors import Halted, NotSent
from convsync.model import WHOLE, Action, Answer, Conversion, Finding, Group, Outcome, Person, Skip, Verdict

_VARIABLE = "custom_variable "
"""Before the name of a custom variable, in what is remembered from run to run."""


class Ads(Door):
    """`UploadClickConversions`, `UploadCallConversions` and `UploadConversionAdjustments`.

    The first telling of a conversion, a call and a change are three methods, so that what shares a request has to be of
    one kind (`apart`). `custom_variables` are the names that the sources give; their numbers are asked for once.
    `targets`, for `probe`, are what the configuration's actions send here.
    """

    route = "google.ads"

    def __init__(self, name: str, *, on_refund: str = "retract", **common: Any) -> None:
        super().__init__(name, scopes=(ADWORDS,), plain_caller=True, on_refund=on_refund, **common)
        self._sheet = Sheet(self.client.version, self.account)

    # -- from an action to a request -----------------------------------------------------------------

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        """As for Data Manager, but that an address finds nobody here: it stands in no event by itself."""
        if not person.emails and not person.phones:
            person = Person()
        return events.convert(action, person, target, value, self._defaults)

    def learn(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """The numbers of the custom variables, which an event knows by name. Raises Halted for a name that is not one."""
        self.client.require_version()
        if not all(_VARIABLE + name in known for name in self._names):
            try:
                there = readings.variables(self.client.search, self.account)
            except AdsRefused as refused:
                raise NotSent(refused.code.rpartition(".")[2].lower(), refused.wait) from None
            known = {**known, **{_VARIABLE + name: number for name, number in there.items()}}
        lacking = [name for name in self._names if _VARIABLE + name not in known]
        if lacking:
            raise Halted(readiness.no_variable(self._where, lacking, self.account))
        prefix = f"customers/{self.account}/conversionCustomVariables/"
        self._sheet = self._sheet._replace(
            variables={name: prefix + known[_VARIABLE + name] for name in self._names},
        )
        return known

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        return self._sheet.body(payloads, token, group)

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        return self._sheet.preview(payloads, group)

    # -- the wire ------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        return upload(self.client, self._sheet, body, rows, group)

    def validate(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        return upload(self.client, self._sheet, body, rows, group, dry=True)

    def poll(self, ref: str, rows: int, age: timedelta) -> Answer:
        """Only Data Manager is ever asked what became of a request, and it is the way in no more."""
        message = "what Data Manager made of the last uploads through it is not known, and no longer asked."
        advice = "Their rows stay accepted, not confirmed. Look into Google Ads, Goals, Summary, for their count."
        return Answer(Outcome(Verdict.ACCEPTED), findings=(self._finding("warning", "no_verdict", message, advice),))

    # -- check --online ------------------------------------------------------------------------------

    def _probe_scopes(self) -> Finding:
        granted = self._sign_in.granted
        if granted is not None and ADWORDS not in granted:
            lacking = CALLS["ACCESS_TOKEN_SCOPE_INSUFFICIENT"]
            return self._finding("error", "scope_missing", lacking.sentence, lacking.advice)
        return self._finding("info", "signed_in", "Google accepts the credentials.")

    def _probe_account(self) -> list[Finding]:
        where, version = self.client.reader.where, self.client.version
        return readiness.probe(
            self.client.search,
            self.account,
            self._targets,
            where=where,
            version=version,
            max_age=self.max_age,
            names=self._names,
        )

    def _probe_targets(self) -> Iterator[Finding]:
        for target in {target.conversion_action: target for target in self._targets}.values():
            found = self._probe_action(target)
            yield found
            if found.code == CLOSED.partition(".")[2].lower():
                return

    def _probe_action(self, target: Any) -> Finding:
        """A conversion of a made-up click or call, only to be validated: Google stores nothing, and counts nothing.

        That the click is none of Google's is the answer hoped for: everything else was in order.
        """
        action, call = target.conversion_action, target.calls
        body = self._sheet.body([self._made_up(action, call)], "0", Group(events.CALL) if call else WHOLE)
        answer = self.validate(body, 1)
        outcome = answer.rows.get(0, answer.default)
        if answer.halt is not None:
            return answer.halt._replace(message=f"{answer.halt.message} Asked about: {action}.")
        fine = outcome.verdict in (Verdict.ACCEPTED, Verdict.UNMATCHED, Verdict.LATER)
        if fine or outcome.reason.startswith(("UNPARSEABLE_GCLID", "UNPARSEABLE_CALLERS_PHONE_NUMBER")):
            return self._finding("info", "validated", f"Google takes conversions for {action} (nothing was sent).")
        message = f"Google did not take a test conversion for {action}: {outcome.reason}"
        return self._finding(
            "warning", "not_validated", message, "Try again; if it stays, check the conversion action."
        )

    def _made_up(self, action: str, call: bool) -> bytes:
        now = self.wire.clock().astimezone(UTC)
        event = {
            "transactionId": "cs-check",
            "eventTimestamp": (now - timedelta(hours=1)).isoformat(timespec="seconds"),
        }
        if call:
            started = (now - timedelta(hours=2)).isoformat(timespec="seconds")
            return orjson.dumps(
                {"a": action, "e": {**event, "callInfo": {"startTimestamp": started}}, "callerId": NOBODY}
            )
        return orjson.dumps({"a": action, "e": {**event, "adIdentifiers": {"gclid": "convsync-check"}}})

    def _finding(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return self.client.reader.finding(level, code, message, advice)
