"""What Data Manager checks in each event before it accepts a request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from convsync.sandbox.config import GoogleConfig
from convsync.sandbox.decimals import number

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_CURRENCY = re.compile(r"[A-Z]{3}")
_HEX64 = re.compile(r"[0-9a-fA-F]{64}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_REGION = re.compile(r"[A-Z]{2}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+\d[\d ()-]{6,17}\d")
_CLICKS = ("gclid", "gbraid", "wbraid")
_TRANSACTION_MAX = 512
_ADDRESS = (("givenName", "given_name"), ("familyName", "family_name"))
_PLACE = (("regionCode", "region_code"), ("postalCode", "postal_code"))

Violation = tuple[str, str, str]
"""Field below the event (empty = the event itself), reason, description."""


def instant(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def clicks(event: dict[str, Any]) -> dict[str, str]:
    found = event.get("adIdentifiers") or {}
    return {name: found[name] for name in _CLICKS if found.get(name)}


@dataclass(slots=True)
class Row:
    """One event, read."""

    at: float = 0
    clicks: dict[str, str] = field(default_factory=dict)
    has_user_data: bool = False
    value: Decimal | None = None
    currency: str = ""
    transaction: str = ""
    call: str = ""
    """A phone call: what makes it the same call, else empty."""


def call_key(phone_hash: str, start: float, at: float) -> str:
    """CODE google-ads 34.0.0: caller, start of the call and time of the conversion make a call unique."""
    return f"call {phone_hash[:16]} {start:.0f} {at:.0f}"


class Rules:
    """The checks of one request. `read` gives the row and what is wrong with it."""

    def __init__(self, config: GoogleConfig, body: dict[str, Any], references: set[str], now: float) -> None:
        self._config = config
        self._references = references
        self._latest = now + config.future_tolerance_s
        self._dry = body.get("validateOnly") is True
        self._encrypted = bool(body.get("encryptionInfo"))
        encoding = body.get("encoding") or ""
        self._digest: Callable[[str], str] = _base64_digest if encoding == "BASE64" else _hex_digest
        self._encoded = encoding in ("HEX", "BASE64")
        self.encoding_missing = False
        self.future = False

    def read(self, event: dict[str, Any]) -> tuple[Row, list[Violation]]:
        row = Row(clicks=clicks(event))
        bad: list[Violation] = []
        self._time(event, row, bad)
        self._source(event, bad)
        self._identifiers(event, row, bad)
        self._money(event, row, bad)
        self._transaction(event, row, bad)
        if "callInfo" in event:
            self._call(event, row, bad)
        merchant = (event.get("cartData") or {}).get("merchantId") or ""
        if merchant and not (merchant.isascii() and merchant.isdigit()):
            bad.append(("cart_data.merchant_id", "INVALID_MERCHANT_ID", "The merchant id is a number."))
        if "destinationReferences" in event:
            self._routing(event, bad)
        if "customVariables" in event:
            self._variables(event, bad)
        return row, bad

    def _time(self, event: dict[str, Any], row: Row, bad: list[Violation]) -> None:
        text = event.get("eventTimestamp")
        if not text:
            bad.append(("event_timestamp", "REQUIRED_FIELD_MISSING", "The event timestamp is required."))
            return
        at = instant(text)
        if at is None:
            bad.append(("event_timestamp", "EVENT_TIME_INVALID", "The timestamp is not RFC 3339."))
            return
        row.at = at
        if at > self._latest:
            self.future = True
            if self._config.future_named:
                bad.append(("event_timestamp", "EVENT_TIME_INVALID", "The timestamp is in the future."))

    def _source(self, event: dict[str, Any], bad: list[Violation]) -> None:
        # DOC dm/reference v1.2: required for Google Ads, though the schema calls it optional.
        if event.get("eventSource", "EVENT_SOURCE_UNSPECIFIED") == "EVENT_SOURCE_UNSPECIFIED":
            bad.append(("event_source", "REQUIRED_FIELD_MISSING", "The event source is required."))

    def _identifiers(self, event: dict[str, Any], row: Row, bad: list[Violation]) -> None:
        people = (event.get("userData") or {}).get("userIdentifiers") or []
        row.has_user_data = bool(people)
        if not people and not row.clicks:
            bad.append(("", "NO_IDENTIFIERS_PROVIDED", "The event has no ad or user identifiers."))
        if len(people) > self._config.max_identifiers:
            at = "user_data.user_identifiers"
            bad.append((at, "TOO_MANY_USER_IDENTIFIERS", f"At most {self._config.max_identifiers}."))
        for index, person in enumerate(people):
            self._person(person, f"user_data.user_identifiers[{index}]", bad)
        if self._config.click_id_rule == "ads":
            _combination(row.clicks, bad)

    def _person(self, person: dict[str, Any], at: str, bad: list[Violation]) -> None:
        if not self._encoded:
            self.encoding_missing = True
        if len(person) != 1:
            reason = "REQUIRED_FIELD_MISSING" if not person else "INVALID_FORMAT"
            bad.append((at, reason, "Exactly one of email_address, phone_number, address."))
            return
        for name, text in person.items():
            if name == "address":
                self._address(text, f"{at}.address", bad)
            else:
                field_name = "email_address" if name == "emailAddress" else "phone_number"
                self._hash(text, f"{at}.{field_name}", bad)

    def _address(self, address: dict[str, str], at: str, bad: list[Violation]) -> None:
        # CODE: for Google Ads all four parts are required; names hashed, the rest plain.
        for name, snake in _ADDRESS + _PLACE:
            if not address.get(name):
                bad.append((f"{at}.{snake}", "REQUIRED_FIELD_MISSING", "Required in an address."))
        for name, snake in _ADDRESS:
            if address.get(name):
                self._hash(address[name], f"{at}.{snake}", bad)
        if address.get("regionCode") and not _REGION.fullmatch(address["regionCode"]):
            bad.append((f"{at}.region_code", "INVALID_REGION_CODE", "Not an ISO 3166-1 alpha-2 code."))
        if len(address.get("postalCode") or "") > 20:
            bad.append((f"{at}.postal_code", "INVALID_POSTAL_CODE", "Not a postal code."))

    def _hash(self, text: str, at: str, bad: list[Violation]) -> None:
        if self._encrypted or not self._encoded:
            return
        reason = self._digest(text)
        if reason:
            bad.append((at, reason, "Not an encoded SHA-256 digest."))

    def _money(self, event: dict[str, Any], row: Row, bad: list[Violation]) -> None:
        if "conversionValue" in event:
            row.value = number(event["conversionValue"])
            if row.value is None:
                bad.append(("conversion_value", "INVALID_NUMBER_FORMAT", "Not a finite number."))
            elif row.value < 0 and self._config.negative_value_refused:
                bad.append(("conversion_value", "INVALID_NUMBER_FORMAT", "Must not be negative."))
        row.currency = event.get("currency") or ""
        if row.currency and not _CURRENCY.fullmatch(row.currency):
            bad.append(("currency", "INVALID_CURRENCY_CODE", "Not an ISO 4217 code."))

    def _transaction(self, event: dict[str, Any], row: Row, bad: list[Violation]) -> None:
        row.transaction = text = event.get("transactionId") or ""
        if not text:
            return
        if len(text) > _TRANSACTION_MAX:
            bad.append(("transaction_id", "FIELD_VALUE_TOO_LONG", f"At most {_TRANSACTION_MAX} characters."))
        if _EMAIL.search(text) or _PHONE.search(text):
            bad.append(("transaction_id", "INVALID_FORMAT", "Looks like personal data."))
        refused = self._config.numeric_transaction_id_refused and not self._dry
        if refused and text.isascii() and text.isdigit():
            bad.append(("transaction_id", "INVALID_FORMAT", "The transaction ID is not valid."))

    def _call(self, event: dict[str, Any], row: Row, bad: list[Violation]) -> None:
        """DOC dm/…/call/upgrade: a hashed phone number and the start of the call, before the conversion."""
        people = (event.get("userData") or {}).get("userIdentifiers") or []
        phone = next((person["phoneNumber"] for person in people if person.get("phoneNumber")), "")
        if not phone:
            bad.append(("user_data", "REQUIRED_FIELD_MISSING", "A call needs the caller's phone number."))
        text = (event["callInfo"] or {}).get("startTimestamp")
        if not text:
            bad.append(("call_info.start_timestamp", "REQUIRED_FIELD_MISSING", "The start of the call is required."))
            return
        start = instant(text)
        if start is None:
            bad.append(("call_info.start_timestamp", "EVENT_TIME_INVALID", "The timestamp is not RFC 3339."))
        elif row.at and start > row.at:
            bad.append(("call_info.start_timestamp", "EVENT_TIME_INVALID", "The call began after the conversion."))
        else:
            row.call = call_key(phone.lower(), start, row.at)

    def _routing(self, event: dict[str, Any], bad: list[Violation]) -> None:
        for index, reference in enumerate(event["destinationReferences"]):
            if reference not in self._references:
                at = f"destination_references[{index}]"
                bad.append((at, "INVALID_DESTINATION", "No destination has this reference."))

    def _variables(self, event: dict[str, Any], bad: list[Violation]) -> None:
        for index, variable in enumerate(event["customVariables"]):
            at = f"custom_variables[{index}]"
            if variable.get("variable") not in self._config.custom_variables:
                bad.append((f"{at}.variable", "CUSTOM_VARIABLE_NOT_FOUND", "No such custom variable."))
            value = variable.get("value") or ""
            if _EMAIL.search(value) or _PHONE.search(value):
                bad.append((f"{at}.value", "CUSTOM_VARIABLE_VALUE_CONTAINS_PII", "Looks like personal data."))


def _combination(found: dict[str, str], bad: list[Violation]) -> None:
    """UNSURE for Data Manager; as in the Ads API: gclid with gbraid, wbraid alone, never both braids."""
    if "wbraid" in found and len(found) > 1:
        bad.append(("ad_identifiers", "INVALID_EVENT", "wbraid cannot be combined with another click id."))


def _hex_digest(text: str) -> str:
    if _HEX64.fullmatch(text):
        return ""
    return "INVALID_SHA256_FORMAT" if _HEX.fullmatch(text) else "INVALID_HEX_ENCODING"


def _base64_digest(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "INVALID_BASE64_ENCODING"
    return "" if len(raw) == 32 else "INVALID_SHA256_FORMAT"
