"""Actions as Data Manager events, and events as the body of a request: pure, and the same bytes for the same input.

A payload is `{"a":"<conversion action>","e":{<the event>}}`, written by hand because a run makes a million of them:
little of it needs escaping. A request is cut and joined from payloads, not parsed and dumped. The Ads API reads the same
payloads; for a phone call they end `…},"callerId":"+7…"}` there, for it takes the caller's number in clear only.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import orjson

from convsync.destinations.google import extras
from convsync.model import Action, Conversion, Person, Skip, SkipReason, key_of
from convsync.normalise import is_currency, major

MOST_IDENTIFIERS = 10
"""User identifiers in an event. DOC dm/devguides/limits."""

GMAIL = ("gmail.com", "googlemail.com")
"""Only here do dots and +tags not count. DOC dm/devguides/concepts/formatting."""

_sha256 = hashlib.sha256
_clean_id = re.compile(r"[A-Za-z0-9_.~=+/:*-]{1,512}").fullmatch
"""Generous around base64, in which Google writes its click ids. Templates that nobody filled in ({gclid}, {{gclid}},
%7Bgclid%7D), blanks and control characters fall through, and what passes needs no escaping in JSON."""
_NO_IDS = frozenset({"null", "none", "undefined", "nan", "n/a", "-", "0", "(none)", "unknown", "false", "gclid"})
_CONSENT = {True: "CONSENT_GRANTED", False: "CONSENT_DENIED"}
_SAID = {"granted": True, "denied": False, "unset": None}
_E164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_TWO_DIGITS = tuple(f"{number:02d}" for number in range(100))

CALL, RETRACT = "call", "retract"
"""Parts of conversions beside clicks, which have none: phone calls, and conversions that are taken back as a whole."""
CALL_SOURCE = "PHONE"


class Defaults(NamedTuple):
    """What a destination adds to an action that does not say it itself."""

    destination: str
    event_source: str
    ad_user_data: bool | None
    ad_personalization: bool | None
    combine: bool
    """Send gclid and gbraid together, and contacts beside a lone braid. Nobody knows yet whether Data Manager takes
    it (the Ads API refuses a braid beside contacts), and an event it does not take is a conversion lost."""
    on_refund: str = "zero"
    """`retract`, `zero` or `ignore`: what becomes of a cancelled, refunded or spam action."""
    merchant: extras.Merchant = extras.Merchant()
    plain_caller: bool = False
    """Whether the number of a caller stays in clear, as the Ads API takes it; Data Manager takes its hash."""


def convert(action: Action, person: Person, target: Any, value: int | None, defaults: Defaults) -> Conversion | Skip:
    """The event of `action`, or why there is none. What `target` tells is its conversion action (which is its
    goal_key), event source, whether it takes calls, and two words of consent.

    A cancelled, refunded or spam action is the same event worth 0, as `on_refund` says to be taken back as a whole.
    Without a currency there is no way to say 0; to be taken back it needs none.
    """
    name, source, data, ads, combine, on_refund, _, _ = defaults
    goal, own_source, calls, said_data, said_ads = target.told
    if said_data is not None:
        data = _SAID[said_data]
    if said_ads is not None:
        ads = _SAID[said_ads]
    own_data, own_ads = action.consent_ad_user_data, action.consent_ad_personalization
    consent = _CONSENTS[data if own_data is None else own_data, ads if own_ads is None else own_ads]
    if consent is None:
        return Skip(name, SkipReason.CONSENT_DENIED)
    currency, status, part = action.currency, action.status, ""
    if currency is not None and not is_currency(currency):
        return Skip(name, SkipReason.NO_CURRENCY, "its currency is not a code of ISO 4217")
    if status != "active":
        if calls:
            return Skip(name, SkipReason.CANNOT_ADJUST, "Google cannot change a call conversion")
        if on_refund == "ignore":
            return Skip(name, SkipReason.REFUND_IGNORED)
        if on_refund == RETRACT:
            part = RETRACT
        elif currency is None:
            return Skip(name, SkipReason.CANNOT_ADJUST, "to set its value to 0, Google needs a currency")
        value, money = (None, "") if currency is None else (0, f',"conversionValue":0,"currency":"{currency}"')
    elif value is None:
        money = ""
    elif currency is None:
        return Skip(name, SkipReason.NO_CURRENCY)
    elif value < 0:
        return Skip(name, SkipReason.NEGATIVE_VALUE)
    else:
        money = f',"conversionValue":{_decimal(value, currency)},"currency":"{currency}"'
    if calls:
        return _call(action, person, target, value, consent + money, defaults)

    clicks, alone, bad = _clicks(action, combine)
    people = "" if alone else _people(action, person)
    if not clicks and not people:
        if bad:
            return Skip(name, SkipReason.BAD_IDENTIFIER, f"{bad} is not a click id of Google")
        return Skip(name, SkipReason.NO_IDENTIFIER)
    if action.cart is not None or action.custom_variables or action.customer_type is not None:
        more = _extras(action, money, part, 'braid"' in clicks, defaults)
        if isinstance(more, Skip):
            return more
        money = more
    key = key_of(action.source, action.external_id, action.action, name, goal)
    payload = (
        f'{{"a":"{goal}","e":{{"transactionId":"cs-{key.hex()}"'
        f',"eventTimestamp":"{_timestamp(action.occurred_at)}","eventSource":"{own_source or source}"'
        f"{clicks}{people}{consent}{money}}}}}"
    )
    # As Conversion(...), without the call of its constructor, which is written in Python.
    return tuple.__new__(
        Conversion, (name, goal, payload.encode(), None, status, value, currency, key, part, True, False, "", "", None)
    )


def _extras(action: Action, money: str, part: str, braid: bool, defaults: Defaults) -> str | Skip:
    """The end of an event: its money, and what few actions have.

    A cart never goes with a braid, where Google drops it (CART_DATA_NOT_SUPPORTED_WITH_GBRAID_OR_WBRAID), nor without
    the currency of its prices.
    """
    cart, currency = action.cart, action.currency
    shopping = ""
    if cart is not None and not braid and (currency is not None or part != RETRACT):
        if extras.is_priced(cart):
            if currency is None:
                return Skip(defaults.destination, SkipReason.NO_CURRENCY, "its cart has prices and no currency")
            money = money or f',"currency":"{currency}"'
        shopping = extras.shopping(cart, currency or "", defaults.merchant)
    variables = extras.custom_variables(action.custom_variables)
    return f"{money}{variables}{shopping}{extras.customer(action.customer_type)}"


def _call(
    action: Action, person: Person, target: Any, value: int | None, said: str, defaults: Defaults
) -> Conversion | Skip:
    """A phone call: found by who called and when, without a click id, and never changed again.

    `said` is the event's consent and money. DOC dm/devguides/events/google-ads/call/upgrade; CODE google-ads 34.0.0
    (CallConversion). A call without a known caller and time could be anybody's.
    """
    name, started = defaults.destination, action.call_start_at
    if started is None:
        return Skip(name, SkipReason.NO_IDENTIFIER, "a call is found by when it began: call_start_at is empty")
    if started > action.occurred_at:
        return Skip(name, SkipReason.BAD_TIME, "call_start_at is later than occurred_at")
    phone = next((phone for phone in person.phones if _E164(phone)), None)
    if phone is None:
        return Skip(name, SkipReason.NO_IDENTIFIER, "a call is found by the number of the caller: no valid phone")
    goal: str = target.conversion_action
    key = key_of(action.source, action.external_id, action.action, name, goal)
    people, caller = (_caller(phone), "") if not defaults.plain_caller else ("", f',"callerId":"{phone}"')
    payload = (
        f'{{"a":"{goal}","e":{{"transactionId":"cs-{key.hex()}"'
        f',"eventTimestamp":"{_timestamp(action.occurred_at)}","eventSource":"{target.event_source or CALL_SOURCE}"'
        f"{people}{said}{extras.custom_variables(action.custom_variables)}"
        f',"callInfo":{{"startTimestamp":"{_timestamp(started)}"}}}}{caller}}}'
    )
    return Conversion(
        name, goal, payload.encode(), None, action.status, value, action.currency, key, CALL, False, bool(caller)
    )


def _caller(phone: str) -> str:
    return f',"userData":{{"userIdentifiers":[{{"phoneNumber":"{_sha256(phone.encode()).hexdigest()}"}}]}}'


def _timestamp(moment: datetime) -> str:
    """As `isoformat()`, put together from tables for whole seconds in UTC, which most times are."""
    if moment.tzinfo is not UTC or moment.microsecond:
        return moment.isoformat()
    two = _TWO_DIGITS
    return f"{_day(moment.toordinal())}T{two[moment.hour]}:{two[moment.minute]}:{two[moment.second]}+00:00"


@functools.lru_cache(maxsize=1024)
def _day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _decimal(minor: int, currency: str) -> str:
    if _digits(currency) != 2:
        return f"{major(minor, currency):f}" if minor else "0.0"  # "0" is the zero of a refund
    return f"{minor // 100}.{_TWO_DIGITS[minor % 100]}"


@functools.cache
def _digits(currency: str) -> int:
    return -int(major(1, currency).as_tuple().exponent)


def _consent(data: bool | None, ads: bool | None) -> str | None:
    """The event's consent, empty when nobody said anything, None when Google may not have the data at all."""
    if data is False:
        return None
    if ads is None:
        return "" if data is None else ',"consent":{"adUserData":"CONSENT_GRANTED"}'
    if data is None:
        return f',"consent":{{"adPersonalization":"{_CONSENT[ads]}"}}'
    return f',"consent":{{"adUserData":"CONSENT_GRANTED","adPersonalization":"{_CONSENT[ads]}"}}'


_CONSENTS = {(data, ads): _consent(data, ads) for data in (None, True, False) for ads in (None, True, False)}


def _clicks(action: Action, combine: bool) -> tuple[str, bool, str]:
    """The event's click ids, whether they have to travel without contacts, and the name of one that is no click id."""
    bad, gclid = "", action.gclid
    if gclid:
        if _is_id(gclid):
            gbraid = f',"gbraid":"{action.gbraid}"' if combine and action.gbraid and _is_id(action.gbraid) else ""
            return f',"adIdentifiers":{{"gclid":"{gclid}"{gbraid}}}', False, ""
        bad = "gclid"
    if action.gbraid:
        if _is_id(action.gbraid):
            return f',"adIdentifiers":{{"gbraid":"{action.gbraid}"}}', not combine, ""
        bad = bad or "gbraid"
    if action.wbraid:
        if _is_id(action.wbraid):
            return f',"adIdentifiers":{{"wbraid":"{action.wbraid}"}}', not combine, ""
        bad = bad or "wbraid"
    return "", False, bad


def _is_id(text: str) -> bool:
    return _clean_id(text) is not None and (len(text) > 9 or text.lower() not in _NO_IDS)


def _people(action: Action, person: Person) -> str:
    emails, phones, first, last = person
    if len(emails) == 1 and len(phones) == 1 and not (first and last):  # most people, and the same as below
        return (
            f',"userData":{{"userIdentifiers":[{{"emailAddress":"{_sha256(_email(emails[0]).encode()).hexdigest()}"}}'
            f',{{"phoneNumber":"{_sha256(phones[0].encode()).hexdigest()}"}}]}}'
        )
    found = [f'{{"emailAddress":"{_sha256(_email(email).encode()).hexdigest()}"}}' for email in emails]
    for phone in phones:
        found.append(f'{{"phoneNumber":"{_sha256(phone.encode()).hexdigest()}"}}')
    if first and last and action.country and action.postal_code:
        address = _address(first, last, action.country, action.postal_code)
        if address:
            found.insert(MOST_IDENTIFIERS - 1, address)
    return f',"userData":{{"userIdentifiers":[{",".join(found[:MOST_IDENTIFIERS])}]}}' if found else ""


def _email(email: str) -> str:
    if not email.endswith(GMAIL):
        return email
    name, _, domain = email.rpartition("@")
    return f"{name.partition('+')[0].replace('.', '')}@{domain}" if domain in GMAIL else email


def _address(first: str, last: str, country: str, postal_code: str) -> str:
    """All four parts or nothing: Google Ads refuses an address that lacks one, and the whole request with it."""
    given, family = _letters(first), _letters(last)
    region, code = country.strip().upper(), postal_code.strip()
    if not (given and family and code and len(code) <= 20 and re.fullmatch("[A-Z]{2}", region)):
        return ""
    return (
        f'{{"address":{{"givenName":"{_sha256(given.encode()).hexdigest()}"'
        f',"familyName":"{_sha256(family.encode()).hexdigest()}"'
        f',"regionCode":"{region}","postalCode":{orjson.dumps(code).decode()}}}}}'
    )


def _letters(name: str) -> str:
    """Names without punctuation. DOC dm/devguides/concepts/formatting."""
    return "".join(c for c in name.lower() if c.isalnum() or c == " ").strip()


# -- payloads as a request ---------------------------------------------------------------------------


class Account(NamedTuple):
    customer: str
    """Owner of the conversion actions: a parent or child account is refused."""
    login: str | None
    """The manager account through which the credentials reach the customer."""

    def destination(self, action: str, reference: str = "") -> dict[str, Any]:
        shown: dict[str, Any] = {"reference": reference} if reference else {}
        if self.login:
            shown["loginAccount"] = {"accountType": "GOOGLE_ADS", "accountId": self.login}
        shown["operatingAccount"] = {"accountType": "GOOGLE_ADS", "accountId": self.customer}
        shown["productDestinationId"] = action
        return shown


_BEFORE, _BETWEEN = b'{"destinations":', b',"encoding":"HEX","events":['
_CALLER = b'},"callerId":"'
"""Nowhere but at the end of an event: in any text of it the quotation marks are escaped."""
_BRACE = ord("}")
"""With which an event ends, so that a payload without a caller ends with two."""


def hashed_caller(payload: bytes) -> bytes:
    """A call that was planned for the Ads API, as Data Manager takes it: without the caller's number in clear."""
    end = payload.find(_CALLER)
    if end < 0:
        return payload
    phone = payload[end + len(_CALLER) : -2].decode()
    return payload[:end] + _caller(phone).encode() + b"}}"


def request(payloads: Sequence[bytes], account: Account) -> bytes:
    """One body. With one conversion action, its events go there unsaid; with several, each event names its own."""
    if [payload for payload in payloads if payload[-2] != _BRACE]:
        payloads = [hashed_caller(payload) for payload in payloads]
    first = _head(payloads[0])
    if all(payload.startswith(first) for payload in payloads):
        start = len(first)
        destinations = [account.destination(_action(first))]
        events = [payload[start:-1] for payload in payloads]
    else:
        split = [(head, payload[len(head) : -1]) for payload in payloads for head in (_head(payload),)]
        heads = {head: _action(head) for head, _ in split}
        destinations = [account.destination(action, action) for action in heads.values()]
        routing = {head: _routing(action) for head, action in heads.items()}
        events = [routing[head] + event[1:] for head, event in split]
    return b"".join((_BEFORE, orjson.dumps(destinations), _BETWEEN, b",".join(events), b"]}"))


def preview(payloads: Sequence[bytes], account: Account) -> Iterator[dict[str, Any]]:
    if payloads:
        yield from orjson.loads(request(payloads, account))["events"]


def routed(body: bytes) -> list[int]:
    """How many events of a body go to each of its destinations, in their order; empty if there is only one."""
    destinations = orjson.loads(body[len(_BEFORE) : body.index(_BETWEEN)])
    if len(destinations) == 1:
        return []
    return [body.count(_routing(one["reference"])) for one in destinations]


def times(body: bytes) -> list[datetime]:
    """When the events of a body happened."""
    return [datetime.fromisoformat(event["eventTimestamp"]) for event in orjson.loads(body)["events"]]


def _routing(action: str) -> bytes:
    return b'{"destinationReferences":' + orjson.dumps([action]) + b","


def _head(payload: bytes) -> bytes:
    """`{"a":"1111111111","e":`: all that stands before the event."""
    end = payload.index(b'"', 6) + 6
    head = payload[:end]
    if not (head.startswith(b'{"a":"') and head.endswith(b'","e":')):
        raise ValueError("not a payload of this route")
    return head


def _action(head: bytes) -> str:
    return head[6:-6].decode()
