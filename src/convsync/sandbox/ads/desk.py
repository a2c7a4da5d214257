"""What the services of the Ads API share: the request at hand, its customer, its conversion actions, its row errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from convsync.sandbox.ads.config import Account, AdsConfig
from convsync.sandbox.ads.types import Flaw, Types
from convsync.sandbox.config import ConversionAction, GoogleConfig
from convsync.sandbox.decimals import number
from convsync.sandbox.google_books import ActionBook, Books

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d")
_ACTION = re.compile(r"customers/(\d+)/conversionActions/(\d+)")
_FATE = re.compile(r"fate-([A-Za-z0-9_.+]+)-")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PHONE = re.compile(r"\+\d[\d ()-]{6,17}\d")
_CURRENCY = re.compile(r"[A-Z]{3}")
# The words of Data Manager's fates, so that one world can be told to both APIs.
_ALIASES = {
    "TOO_RECENT_CLICK": "TOO_RECENT_EVENT",
    "EVENT_TOO_OLD": "EXPIRED_EVENT",
    "CONVERSION_PRECEDES_CLICK": "CONVERSION_PRECEDES_EVENT",
    "INVALID_GCLID": "UNPARSEABLE_GCLID",
    "INVALID_GBRAID": "UNPARSEABLE_GBRAID",
    "INVALID_WBRAID": "UNPARSEABLE_WBRAID",
    "DUPLICATE_TRANSACTION_ID": "ORDER_ID_ALREADY_IN_USE",
    "DUPLICATE_GCLID": "CLICK_CONVERSION_ALREADY_EXISTS",
}
_FAMILIES = (
    "NotAllowlistedError", "InternalError", "FieldError", "DateError", "MutateError", "StringFormatError",
    "StringLengthError", "DistinctError", "CollectionSizeError",
)  # fmt: skip


class CallRefused(Exception):
    """The call as a whole fails: a gRPC status, and the errors of its GoogleAdsFailure (none = a bare status)."""

    def __init__(self, status: str, said: str, flaws: Iterable[Flaw] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.said = said
        self.flaws = list(flaws)


def refused(code: str, message: str, path: str = "", status: str = "INVALID_ARGUMENT") -> CallRefused:
    return CallRefused(status, "Request contains an invalid argument.", [Flaw(code, message, path)])


@dataclass
class Upload:
    """One upload that was processed, for the diagnostics."""

    at: float
    customer: str
    job: int
    taken: Counter[str] = field(default_factory=Counter)
    """Conversion action → rows."""
    failed: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(conversion action, error) → rows."""


@dataclass(frozen=True)
class Target:
    """A conversion action and the account that owns it."""

    owner: str
    id: str
    action: ConversionAction
    book: ActionBook


@dataclass
class Desk:
    """One request of one customer, and the books it works on."""

    google: GoogleConfig
    ads: AdsConfig
    types: Types
    books: Books
    customer: str
    now: float
    started: float
    uploads: list[Upload]
    tries: Counter[tuple[str, str]]
    """How often a fate that strikes once was met: (family of errors, id)."""
    _targets: dict[str, Target | None] = field(default_factory=dict)

    def account(self, customer: str) -> Account:
        return self.ads.accounts.get(customer) or Account(name=f"Account {customer}")

    def zone(self, customer: str) -> ZoneInfo:
        return ZoneInfo(self.account(customer).time_zone)

    def local(self, at: float, customer: str) -> datetime:
        return datetime.fromtimestamp(at, self.zone(customer))

    def family(self) -> set[str]:
        """The customer, the accounts below it and the managers above it."""
        found = {self.customer, *below(self.google, self.customer)}
        return found | {manager for manager in self.google.managers if self.customer in below(self.google, manager)}

    def target(self, resource: str) -> Target | None:
        """CODE google-ads 34.0.0: the customer in the name is ignored, only the id counts."""
        if resource not in self._targets:
            self._targets[resource] = self._find(resource)
        return self._targets[resource]

    def _find(self, resource: str) -> Target | None:
        found = _ACTION.fullmatch(resource)
        family = self.family()
        for owner, actions in self.google.customers.items():
            if found and owner in family and found[2] in actions:
                return Target(owner, found[2], actions[found[2]], self.books.of(owner, found[2]))
        return None

    def fate(self, names: Iterable[str], family: str, told: dict[str, str]) -> list[str]:
        """Error codes that a row meets because of its ids: magic ones (`fate-REASON-…`), or those in `told`."""
        for name in names:
            found = _FATE.match(name)
            reasons = told.get(name) or (found[1] if found else "") or told.get("*", "")
            if reasons:
                return [code for one in reasons.split("+") if (code := self._code(one, family, name))]
        return []

    def _code(self, reason: str, family: str, name: str) -> str:
        code = reason if "." in reason else f"{family}.{_ALIASES.get(reason, reason)}"
        if "." not in reason and not self.types.knows(code):
            other = (f"{one}.{reason}" for one in _FAMILIES)
            code = next((one for one in other if self.types.knows(one)), code)
        if code.startswith("InternalError."):
            self.tries[family, name] += 1
            return code if self.tries[family, name] == 1 else ""
        return code


def below(google: GoogleConfig, manager: str) -> list[str]:
    """All accounts below a manager, nearest first."""
    found: list[str] = []
    waiting = list(google.managers.get(manager, ()))
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found.append(one)
            waiting += google.managers.get(one, ())
    return found


class RowCheck:
    """Gathers what is wrong with one row."""

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []

    def add(self, code: str, message: str, path: str = "") -> None:
        self.flaws.append(Flaw(code, message, path))

    def time(self, text: str, path: str, latest: float) -> float:
        """Seconds since 1970 of `yyyy-mm-dd hh:mm:ss+hh:mm`, or 0 and an error."""
        if not text:
            self.add("FieldError.REQUIRED", "The required field was not present.", path)
            return 0
        try:
            at = datetime.fromisoformat(text).timestamp() if _TIME.fullmatch(text) else 0
        except (ValueError, OverflowError):
            at = 0
        if not at:
            said = 'The date time must be in the format "yyyy-mm-dd hh:mm:ss+|-hh:mm".'
            self.add("DateError.INVALID_STRING_DATE_TIME_SECONDS_WITH_OFFSET", said, path)
        elif at > latest:
            self.add("DateError.LATER_THAN_MAXIMUM_DATE", "The date is in the future.", path)
        return at

    def target(self, desk: Desk, resource: str, kinds: tuple[str, ...], errors: str) -> Target | None:
        """The conversion action, if it exists, is of one of these types and is old enough."""
        if not resource:
            self.add("FieldError.REQUIRED", "The required field was not present.", "conversion_action")
            return None
        found = desk.target(resource)
        if found is None or found.action.status == "REMOVED":
            said = "The conversion action specified in the upload request cannot be found. Make sure it's available in this account."
            self.add(f"{errors}.NO_CONVERSION_ACTION_FOUND", said, "conversion_action")
            return None
        if found.action.type not in kinds:
            said = "The conversion action is not of a type that this upload takes."
            self.add(f"{errors}.INVALID_CONVERSION_ACTION_TYPE", said, "conversion_action")
            return None
        return found

    def money(self, row: Any) -> tuple[Decimal | None, str]:
        value = number(repr(row.conversion_value)) if row.HasField("conversion_value") else None
        if row.HasField("conversion_value") and (value is None or value < 0):
            self.add("RangeError.TOO_LOW", "The value must be a number that is not negative.", "conversion_value")
        currency = row.currency_code
        if currency and not _CURRENCY.fullmatch(currency):
            self.add("CurrencyCodeError.UNSUPPORTED", "The currency code is not supported.", "currency_code")
        return value, currency

    def variables(self, desk: Desk, row: Any) -> None:
        """The error of a variable that does not exist is INFERRED; that of one with a contact in it is CODE."""
        known = dict(custom_variables(desk))
        for index, variable in enumerate(row.custom_variables):
            path = f"custom_variables[{index}]"
            name = known.get(variable.conversion_custom_variable.rpartition("/")[2])
            if name is None or name in desk.ads.disabled_variables:
                said = "The custom variable is not enabled."
                self.add(
                    "ConversionUploadError.CUSTOM_VARIABLE_NOT_ENABLED", said, f"{path}.conversion_custom_variable"
                )
            if EMAIL.search(variable.value) or PHONE.search(variable.value):
                said = "The value of a custom variable contains personally identifiable information."
                self.add("ConversionUploadError.CUSTOM_VARIABLE_VALUE_CONTAINS_PII", said, f"{path}.value")


def custom_variables(desk: Desk) -> Iterator[tuple[str, str]]:
    """(id, name) of each conversion custom variable."""
    for index, name in enumerate(desk.google.custom_variables):
        yield str(700001 + index), name


def instant(text: str) -> float:
    """Seconds since 1970 of an ISO time; one without an offset is UTC."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def days(count: float) -> float:
    return timedelta(days=count).total_seconds()


def repeated(keys: Iterable[str]) -> set[str]:
    """Keys that occur more than once; empty ones do not count."""
    return {key for key, seen in Counter(keys).items() if key and seen > 1}
