"""`UploadConversionAdjustments`: retractions, restatements and enhancements."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from convsync.sandbox.ads.clicks import not_allowlisted
from convsync.sandbox.ads.desk import EMAIL, PHONE, Desk, RowCheck, Target, days, repeated
from convsync.sandbox.ads.types import Flaw
from convsync.sandbox.decimals import number
from convsync.sandbox.google_books import Conversion

_ERROR = "ConversionAdjustmentUploadError"
_NAMES = {2: "RETRACTION", 3: "RESTATEMENT", 4: "ENHANCEMENT"}
_RESTATED = ("SALESFORCE", "UPLOAD_CLICKS", "WEBPAGE")


class AdjustmentRow:
    """One ConversionAdjustment, and the conversion it means."""

    def __init__(self, desk: Desk, row: Any) -> None:
        self._desk = desk
        self._row = row
        self._check = RowCheck()
        self.flaws = self._check.flaws
        self.kind = _NAMES.get(row.adjustment_type, "")
        self.order = row.order_id
        self._pair = row.HasField("gclid_date_time_pair")
        if not self.kind:
            self._check.add("FieldError.REQUIRED", "The required field was not present.", "adjustment_type")
        self.target = self._check.target(desk, row.conversion_action, _RESTATED, _ERROR)
        # Only the conversion must lie in the past: what Google says to an adjustment ahead of its clock is not told.
        self.at = self._check.time(row.adjustment_date_time, "adjustment_date_time", float("inf"))
        self.value: Decimal | None = None
        self._value()
        self._which()
        self._kinds()
        self.found: Conversion | None = None
        if not self.flaws and self.target:
            self._fates()
        if not self.flaws and self.target:
            self.found = self._conversion(self.target)
            self._against(self.found)
        named = self.order or f"{row.gclid_date_time_pair.gclid} {row.gclid_date_time_pair.conversion_date_time}"
        self.key = f"{self.target.id} {named} {self.kind}" if self.target and not self.flaws else ""

    def _value(self) -> None:
        given = self._row.HasField("restatement_value")
        if self.kind == "RESTATEMENT":
            restated = self._row.restatement_value
            if not given or not restated.HasField("adjusted_value"):
                self._check.add("FieldError.REQUIRED", "The required field was not present.", "restatement_value")
                return
            self.value = number(repr(restated.adjusted_value))
            if self.value is None or self.value < 0:
                said = "The value must be a number that is not negative."
                self._check.add("RangeError.TOO_LOW", said, "restatement_value.adjusted_value")
        elif given:
            said = f"Must be unset for a {self.kind.lower() or 'row without a type'}."
            self._check.add("FieldError.VALUE_MUST_BE_UNSET", said, "restatement_value")

    def _which(self) -> None:
        """CODE: an order id or the pair of click and time, never both; an empty order id is refused."""
        if self._row.HasField("order_id") and self._pair:
            said = "Both order id and the pair of click id and time are set."
            self._check.add(f"{_ERROR}.GCLID_DATE_TIME_PAIR_AND_ORDER_ID_BOTH_SET", said)
        elif self._row.HasField("order_id") and not self.order:
            self._check.add("StringLengthError.EMPTY", "The order id is empty.", "order_id")
        elif self._pair:
            pair = self._row.gclid_date_time_pair
            if not pair.gclid:
                said = "The required field was not present."
                self._check.add("FieldError.REQUIRED", said, "gclid_date_time_pair.gclid")
            self._check.time(pair.conversion_date_time, "gclid_date_time_pair.conversion_date_time", self._desk.now)
            if self.target and self.target.action.type == "WEBPAGE":
                said = "An order id is required for a conversion action of type WEBPAGE."
                self._check.add(f"{_ERROR}.MISSING_ORDER_ID_FOR_WEBPAGE", said)
        elif not self.order:
            self._check.add(
                "FieldError.REQUIRED", "An order id or a pair of click id and time is required.", "order_id"
            )
        if EMAIL.search(self.order) or PHONE.search(self.order):
            said = "The order id contains personally identifiable information."
            self._check.add(f"{_ERROR}.ORDER_ID_CONTAINS_PII", said, "order_id")

    def _kinds(self) -> None:
        target, row = self.target, self._row
        if self.kind == "ENHANCEMENT":
            if target and target.action.type != "WEBPAGE":
                said = "Only conversion actions of type WEBPAGE can be enhanced."
                self._check.add(f"{_ERROR}.CONVERSION_ACTION_NOT_ELIGIBLE_FOR_ENHANCEMENT", said, "conversion_action")
            if len(row.user_identifiers) > self._desk.ads.max_identifiers:
                self._check.add("CollectionSizeError.TOO_MANY", "Too many user identifiers.", "user_identifiers")
        elif row.user_identifiers:
            said = "Must be unset unless the adjustment is an enhancement."
            self._check.add("FieldError.VALUE_MUST_BE_UNSET", said, "user_identifiers")
        if self.kind == "RESTATEMENT" and target and target.action.always_default_value:
            code = "CANNOT_RESTATE_CONVERSION_ACTION_THAT_ALWAYS_USES_DEFAULT_CONVERSION_VALUE"
            said = "The conversion action always uses its default value."
            self._check.add(f"{_ERROR}.{code}", said, "conversion_action")

    def _fates(self) -> None:
        names = [self.order or self._row.gclid_date_time_pair.gclid]
        for code in self._desk.fate(names, _ERROR, self._desk.ads.adjustment_fates):
            self._check.add(code, "The sandbox was asked to refuse this row.")

    def _conversion(self, target: Target) -> Conversion | None:
        """DOC ads/conversions/upload-adjustments: a conversion that had an order id is found by it only; no wbraid."""
        if self.order:
            found = target.book.transactions.get(self.order)
        else:
            pair = self._row.gclid_date_time_pair
            at = self._check.time(pair.conversion_date_time, "", self._desk.now)
            name = target.book.natural.get(f"{target.id} {pair.gclid} {at:.0f}", "")
            found = target.book.transactions.get(name) if name.startswith("(none) ") else None
        if found is None or not (found.count or found.retracted) or list(found.click) == ["wbraid"]:
            return None
        hidden = found.via == "data_manager" and not self._desk.ads.retraction_finds_data_manager
        return None if hidden else found

    def _against(self, found: Conversion | None) -> None:
        if found is None:
            said = "The conversion could not be found."
            self._check.add(f"{_ERROR}.CONVERSION_NOT_FOUND", said)
        elif found.retracted:
            said = "The conversion has already been retracted."
            self._check.add(f"{_ERROR}.CONVERSION_ALREADY_RETRACTED", said)
        elif self._desk.now - found.at > days(self._desk.ads.max_adjustment_age_days):
            self._check.add(f"{_ERROR}.CONVERSION_EXPIRED", "The conversion is too old to be adjusted.")
        elif self.at < found.at:
            said = "The adjustment is earlier than the conversion."
            self._check.add(f"{_ERROR}.ADJUSTMENT_PRECEDES_CONVERSION", said, "adjustment_date_time")
        elif self.kind == "RESTATEMENT" and found.adjusted_at is not None and self.at <= found.adjusted_at:
            same = self.at == found.adjusted_at
            code = "RESTATEMENT_ALREADY_EXISTS" if same else "MORE_RECENT_RESTATEMENT_FOUND"
            said = "A restatement with the same or a later time exists."
            self._check.add(f"{_ERROR}.{code}", said, "adjustment_date_time")

    def book(self, target: Target) -> None:
        if self.flaws or self.found is None:
            reason = self.flaws[0].code.partition(".")[2]
            target.book.errors[reason] = target.book.errors.get(reason, 0) + 1
            return
        found = self.found
        found.adjusted_at = self.at
        if self.kind == "RETRACTION":
            found.retracted, found.count, found.value = True, 0, Decimal(0)
            found.values.append(found.value)
        elif self.kind == "RESTATEMENT":
            found.adjustments += 1
            found.value = self.value
            found.currency = self._row.restatement_value.currency_code or found.currency
            found.values.append(found.value)
        else:
            found.has_user_data = True


def adjustments(desk: Desk, rows: Any) -> list[AdjustmentRow]:
    """The rows of one request, checked also against each other."""
    read = [AdjustmentRow(desk, row) for row in rows]
    twice = repeated(row.key for row in read)
    for row in read:
        if not desk.ads.allowlisted_adjustments:
            row.flaws[:] = [not_allowlisted()]
        elif row.key in twice:
            enhanced = row.kind == "ENHANCEMENT"
            code = "DUPLICATE_ENHANCEMENT_IN_REQUEST" if enhanced else "DUPLICATE_ADJUSTMENT_IN_REQUEST"
            said = "The same adjustment occurs more than once in the request; none of these was processed."
            row.flaws.append(Flaw(f"{_ERROR}.{code}", said))
    return read
