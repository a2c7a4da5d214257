"""One upload through the Google Ads API, from the bytes of a request to one outcome a row; and taking back by it what
another route had sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from convsync.destinations.google.ads.answers import AdsReader, AdsRefused
from convsync.destinations.google.ads.client import AdsClient
from convsync.destinations.google.ads.replies import CLOSED, NOT_FOUND
from convsync.destinations.google.ads.requests import Sheet
from convsync.destinations.google.auth import SignIn
from convsync.errors import Halted
from convsync.model import WHOLE, Answer, Finding, Group, Outcome, Verdict


def upload(
    client: AdsClient, sheet: Sheet, body: bytes, rows: int, group: Group = WHOLE, *, dry: bool = False
) -> Answer:
    """Send a body that `sheet` made, or, `dry`, let Google only look at it. Raises NotSent, Unclear or Halted."""
    method, request = sheet.request(body)
    request.validate_only = dry
    try:
        response = client.call(method.service, method.name, request)
    except AdsRefused as refused:
        return client.reader.refused(refused, rows)
    job = getattr(response, "job_id", 0)
    known = [f"job {job}"] if job else []
    known += [f"request {client.request_id}"] if client.request_id else []
    return client.reader.results(response, rows, client.parse, ref=" ".join(known) or None, group=group, dry=dry)


class Retractions:
    """Taking conversions back that came through the Data Manager API, which cannot: as long as Google allows it.

    The first refusal that is about the account or the credentials ends it for the run; the rows it met wait, to be
    restated to 0 instead. A quota that is used up lets only them wait. Whether Google always finds what came through Data
    Manager by its id is not documented.
    """

    open = True
    _waiting: tuple[float, Outcome] | None = None
    """Until when (epoch seconds) nothing is asked, and what its rows are told instead."""

    def __init__(self, client: AdsClient, sign_in: SignIn, sheet: Sheet) -> None:
        self.client = client
        self._sign_in = sign_in
        self._sheet = sheet
        self._lock = threading.Lock()

    @property
    def _reader(self) -> AdsReader:
        return self.client.reader

    def body(self, payloads: Sequence[bytes], token: str, group: Group) -> bytes:
        return self._sheet.body(payloads, token, group)

    def preview(self, payloads: Sequence[bytes], group: Group) -> Iterator[dict[str, Any]]:
        return self._sheet.preview(payloads, group)

    def send(self, body: bytes, rows: int, group: Group, *, dry: bool = False) -> Answer:
        self._sign_in.token()  # credentials that open nothing at all stop the destination, not only this
        until, outcome = self._waiting or (0.0, Outcome(Verdict.RETURNED))
        if self._reader.clock().timestamp() < until:
            return _each(outcome, rows)
        try:
            answer = upload(self.client, self._sheet, body, rows, group, dry=dry)
        except Halted as stop:
            return self._closed(stop.finding, _each(Outcome(Verdict.RETURNED, stop.finding.code), rows))
        if answer.halt is not None:
            return self._closed(answer.halt, replace(answer, halt=None))
        if answer.rest is not None:
            self._waiting = self._reader.clock().timestamp() + answer.rest, answer.default
            return replace(_each(answer.default, rows), findings=answer.findings)
        return self._hold(answer)

    def _closed(self, why: Finding, answer: Answer) -> Answer:
        with self._lock:
            first, self.open = self.open, False
        if not first:
            return answer
        message = (
            f"Google does not let this account take conversions back: {why.message} They are restated to 0 for the rest of "
            "this run, and stay in the count: bidding by value sees the refund, target CPA and Maximise conversions do not."
        )
        way_out = (
            "" if why.code == CLOSED.partition(".")[2].lower() else f"{why.advice} "
        )  # its way out is this very route
        advice = f'{way_out}Write on_refund = "zero" to ask no more.'
        note = why._replace(level="warning", code="cannot_retract", message=message, advice=advice)
        return replace(answer, findings=(*answer.findings, note))

    def _hold(self, answer: Answer) -> Answer:
        """What Google does not find after a day waits for a person: it may well count, having come another way."""
        word = NOT_FOUND.partition(".")[2]
        lost = {
            row: Outcome(Verdict.HELD, one.reason)
            for row, one in answer.rows.items()
            if one.verdict is Verdict.UNMATCHED and one.reason.startswith(word)
        }
        if not lost:
            return answer
        message = f"Google Ads does not find {len(lost)} conversions that are to be taken back, though they were sent."
        advice = 'Set on_refund = "zero", then run `convsync ledger retry`: their value goes to 0, their count stays.'
        note = self._reader.finding("error", "retraction_not_found", message, advice)
        return replace(answer, rows={**answer.rows, **lost}, findings=(*answer.findings, note))


def _each(outcome: Outcome, rows: int) -> Answer:
    """The same for every row, each by its name: that a request brought nothing is then no word against Data Manager."""
    return Answer(outcome, dict.fromkeys(range(rows), outcome))
