"""`UploadCallConversions`: what is checked in each row, and what is booked."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from convsync.sandbox.ads.clicks import not_allowlisted
from convsync.sandbox.ads.desk import Desk, RowCheck, Target, days, instant, repeated
from convsync.sandbox.ads.types import Flaw
from convsync.sandbox.google import created
from convsync.sandbox.google_books import Conversion
from convsync.sandbox.google_rules import call_key

_ERROR = "ConversionUploadError"
_E164 = re.compile(r"\+[1-9]\d{6,14}")


class CallRow:
    """One CallConversion. There is no order id: caller, start, action and time of the conversion make it unique."""

    def __init__(self, desk: Desk, row: Any) -> None:
        self._desk = desk
        self._check = RowCheck()
        self.flaws = self._check.flaws
        self.target = self._check.target(desk, row.conversion_action, ("UPLOAD_CALLS",), _ERROR)
        self.at = self._check.time(row.conversion_date_time, "conversion_date_time", desk.now)
        self._caller = row.caller_id
        self._start = self._check.time(row.call_start_date_time, "call_start_date_time", desk.now)
        self.value, self.currency = self._check.money(row)
        self._check.variables(desk, row)
        if not self._caller:
            self._check.add("FieldError.REQUIRED", "The required field was not present.", "caller_id")
        elif not _E164.fullmatch(self._caller):
            said = "The caller id is not a phone number in E.164 format."
            self._check.add(f"{_ERROR}.UNPARSEABLE_CALLERS_PHONE_NUMBER", said, "caller_id")
        if not self.flaws and self.target:
            self._windows(self.target)
            for code in desk.fate([self._caller], _ERROR, desk.ads.fates):
                self._check.add(code, "The sandbox was asked to refuse this row.")
        hashed = hashlib.sha256(self._caller.encode()).hexdigest()
        self.natural = call_key(hashed, self._start, self.at)
        self.key = f"{self.target.id if self.target else row.conversion_action} {self.natural}"

    def _windows(self, target: Target) -> None:
        desk, known = self._desk, self._desk.ads.known_calls
        if self.at < self._start:
            said = "The conversion is earlier than the call."
            self._check.add(f"{_ERROR}.CONVERSION_PRECEDES_CALL", said, "conversion_date_time")
        elif desk.now - self._start < desk.ads.recent_event_s:
            said = "The call happened less than 6 hours ago. Try again later."
            self._check.add(f"{_ERROR}.TOO_RECENT_CALL", said, "call_start_date_time")
        elif self.at - self._start > days(target.action.lookback_days):
            said = "The call is older than the lookback window of the conversion action."
            self._check.add(f"{_ERROR}.EXPIRED_CALL", said, "call_start_date_time")
        elif known is not None and self._start not in map(instant, known.get(self._caller, ())):
            self._check.add(f"{_ERROR}.CALL_NOT_FOUND", "The call could not be found.", "caller_id")
        if desk.now - created(target.action, desk.started) < desk.google.action_age_s:
            said = "The conversion action was created too recently. Try again in 6 hours."
            self._check.add(f"{_ERROR}.TOO_RECENT_CONVERSION_ACTION", said, "conversion_action")

    def known(self) -> None:
        if self.target and self.natural in self.target.book.natural:
            said = "A conversion with this call and time already exists."
            self._check.add(f"{_ERROR}.CALL_CONVERSION_ALREADY_EXISTS", said)

    def book(self, target: Target) -> None:
        target.book.rows += 1
        if self.flaws:
            target.book.failed(self.natural, self.flaws[0].code.partition(".")[2], self.at, {})
            return
        made = Conversion(ingests=1, value=self.value, currency=self.currency, at=self.at, via="ads")
        target.book.count(self.natural, self.natural, made)


def calls(desk: Desk, rows: Any) -> list[CallRow]:
    """The rows of one request, checked also against each other and against the books."""
    read = [CallRow(desk, row) for row in rows]
    twice = repeated(row.key for row in read if not row.flaws)
    for row in read:
        if not desk.ads.allowlisted_calls:
            row.flaws[:] = [not_allowlisted()]
        elif row.flaws:
            continue
        elif row.key in twice:
            said = "The same call and time occur more than once in the request; none of these was processed."
            row.flaws.append(Flaw(f"{_ERROR}.DUPLICATE_CALL_CONVERSION_IN_REQUEST", said))
        else:
            row.known()
    return read
