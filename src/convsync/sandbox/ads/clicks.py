"""`UploadClickConversions`: what is checked in each row, and what is booked."""

from __future__ import annotations

import re
from typing import Any

from convsync.sandbox.ads.desk import EMAIL, PHONE, Desk, RowCheck, Target, days, instant, repeated
from convsync.sandbox.ads.types import Flaw
from convsync.sandbox.google import created
from convsync.sandbox.google_books import Conversion

_ERROR = "ConversionUploadError"
_CLICKS = ("gclid", "gbraid", "wbraid")
_HEX64 = re.compile(r"[0-9a-f]{64}")


class ClickRow:
    """One ClickConversion, read and checked against the rules that need no other row."""

    def __init__(self, desk: Desk, row: Any) -> None:
        self._desk = desk
        self._row = row
        self._check = RowCheck()
        self.flaws = self._check.flaws
        self.clicks = {name: getattr(row, name) for name in _CLICKS if getattr(row, name)}
        self.order = row.order_id
        self.target = self._check.target(desk, row.conversion_action, ("UPLOAD_CLICKS",), _ERROR)
        self.at = self._check.time(row.conversion_date_time, "conversion_date_time", desk.now)
        self.value, self.currency = self._check.money(row)
        self._order()
        self._identifiers()
        self._people()
        self._check.variables(desk, row)
        if not self.flaws and self.target:
            self._windows(self.target)
            self._fates()
        action = self.target.id if self.target else row.conversion_action
        click = self.clicks.get("gclid") or self.clicks.get("gbraid") or self.clicks.get("wbraid", "")
        self.natural = f"{action} {click} {self.at:.0f}" if click else ""
        self.order_key = f"{action} {self.order}" if self.order else ""

    def _order(self) -> None:
        if self._row.HasField("order_id") and not self.order:
            self._check.add("StringLengthError.EMPTY", "The order id is empty.", "order_id")
        elif EMAIL.search(self.order) or PHONE.search(self.order):
            said = "The order id contains personally identifiable information."
            self._check.add(f"{_ERROR}.ORDER_ID_CONTAINS_PII", said, "order_id")

    def _identifiers(self) -> None:
        found, people = self.clicks, self._row.user_identifiers
        if not found and not people:
            said = "One of gclid, gbraid, wbraid or user_identifiers is required."
            self._check.add("FieldError.REQUIRED", said, "gclid")
        if "gbraid" in found and "wbraid" in found:
            self._check.add(f"{_ERROR}.GBRAID_WBRAID_BOTH_SET", "gbraid and wbraid are both set.")
        elif "wbraid" in found and "gclid" in found:
            # DOC ads/conversions/upload-clicks; gclid with gbraid is allowed since 2025-10-03.
            self._check.add("FieldError.VALUE_MUST_BE_UNSET", "Must be unset beside gclid.", "wbraid")
        braid = next((name for name in ("gbraid", "wbraid") if name in found), "")
        if braid and people:
            said = f"user_identifiers must be unset beside {braid}."
            self._check.add("FieldError.VALUE_MUST_BE_UNSET", said, "user_identifiers")
        if braid and self.target and self.target.action.counting_type == "ONE_PER_CLICK":
            said = "The conversion action counts one conversion per click, which a braid does not allow."
            self._check.add(f"{_ERROR}.ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID", said, braid)

    def _people(self) -> None:
        people = self._row.user_identifiers
        if len(people) > self._desk.ads.max_identifiers:
            self._check.add("CollectionSizeError.TOO_MANY", "Too many user identifiers.", "user_identifiers")
        for index, person in enumerate(people):
            path, kind = f"user_identifiers[{index}]", person.WhichOneof("identifier")
            if kind not in ("hashed_email", "hashed_phone_number"):
                said = "Only hashed_email and hashed_phone_number are supported."
                self._check.add(f"{_ERROR}.UNSUPPORTED_USER_IDENTIFIER", said, path)
            elif not _HEX64.fullmatch(getattr(person, kind)):
                said = "The identifier is not a SHA-256 digest in hexadecimal."
                self._check.add(f"{_ERROR}.INVALID_USER_IDENTIFIER", said, f"{path}.{kind}")

    def _windows(self, target: Target) -> None:
        """CODE google-ads 34.0.0: six hours after the click and after the action was made; the look-back window."""
        desk = self._desk
        if desk.now - created(target.action, desk.started) < desk.google.action_age_s:
            said = "The conversion action was created too recently. Try again in 6 hours."
            self._check.add(f"{_ERROR}.TOO_RECENT_CONVERSION_ACTION", said, "conversion_action")
        window, gclid = days(target.action.lookback_days), self.clicks.get("gclid", "")
        click = next((one for one in desk.ads.clicks if one.gclid == gclid), None) if gclid else None
        if click is None:
            if desk.now - self.at > window:
                self._expired()
            if gclid and desk.ads.unknown_click != "accept":
                said = "The click could not be found."
                self._check.add(f"{_ERROR}.{desk.ads.unknown_click}", said, "gclid")
            return
        clicked = instant(click.at)
        if click.account not in desk.family():
            said = "The click belongs to another customer."
            self._check.add(f"{_ERROR}.INVALID_CUSTOMER_FOR_CLICK", said, "gclid")
        elif self.at < clicked:
            said = "The conversion is earlier than the click."
            self._check.add(f"{_ERROR}.CONVERSION_PRECEDES_EVENT", said, "conversion_date_time")
        elif desk.now - clicked < desk.ads.recent_event_s:
            said = "The click happened less than 6 hours ago. Try again later."
            self._check.add(f"{_ERROR}.TOO_RECENT_EVENT", said, "gclid")
        elif self.at - clicked > window:
            self._expired()

    def _expired(self) -> None:
        said = "The click is older than the click-through lookback window of the conversion action."
        self._check.add(f"{_ERROR}.EXPIRED_EVENT", said, "conversion_date_time")

    def _fates(self) -> None:
        people = [getattr(person, person.WhichOneof("identifier")) for person in self._row.user_identifiers]
        names = [name for name in (*self.clicks.values(), self.order, *people) if name]
        for code in self._desk.fate(names, _ERROR, self._desk.ads.fates):
            waited = self._desk.now - self.at >= self._desk.ads.recent_event_s
            if not (code == f"{_ERROR}.TOO_RECENT_EVENT" and waited):
                self._check.add(code, "The sandbox was asked to refuse this row.")

    def known(self) -> None:
        """DOC: an order id, or without one the click and the second, is taken once."""
        book = self.target.book if self.target else None
        if book is None:
            return
        if self.order:
            found = book.transactions.get(self.order)
            if found and (found.count or found.retracted):
                said = "The order id is already in use."
                self._check.add(f"{_ERROR}.ORDER_ID_ALREADY_IN_USE", said, "order_id")
        elif self.natural in book.natural:
            said = "A conversion with this click and time already exists."
            self._check.add(f"{_ERROR}.CLICK_CONVERSION_ALREADY_EXISTS", said)

    @property
    def name(self) -> str:
        return self.order or f"(none) {self.natural.partition(' ')[2]}"

    def book(self, target: Target) -> None:
        target.book.rows += 1
        if self.flaws:
            target.book.failed(self.name, self.flaws[0].code.partition(".")[2], self.at, self.clicks)
            return
        target.book.nameless += not self.order
        made = Conversion(
            ingests=1,
            value=self.value,
            currency=self.currency,
            click=self.clicks,
            has_user_data=bool(self._row.user_identifiers),
            at=self.at,
            via="ads",
        )
        target.book.count(self.name, self.natural, made)


def clicks(desk: Desk, rows: Any) -> list[ClickRow]:
    """The rows of one request, checked also against each other and against the books."""
    read = [ClickRow(desk, row) for row in rows]
    if not desk.ads.allowlisted:
        for row in read:
            row.flaws[:] = [not_allowlisted()]
        return read
    orders = repeated(row.order_key for row in read)
    naturals = repeated(row.natural for row in read if not row.order_key)
    for row in read:
        if row.flaws:
            continue
        if row.order_key in orders:
            said = "The same order id occurs more than once in the request; none of these was processed."
            row.flaws.append(Flaw(f"{_ERROR}.DUPLICATE_ORDER_ID", said, "order_id"))
        elif not row.order_key and row.natural in naturals:
            said = "The same click and time occur more than once in the request; none of these was processed."
            row.flaws.append(Flaw(f"{_ERROR}.DUPLICATE_CLICK_CONVERSION_IN_REQUEST", said))
        else:
            row.known()
    return read


def not_allowlisted() -> Flaw:
    """CODE, field report: the words begin like this, and they come on every row of an OK call."""
    said = "New integrations for uploading click conversions should use the Data Manager API."
    return Flaw("NotAllowlistedError.CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE", said)
