"""Actions as Data Manager events, and events as the body of a request: pure, and the same bytes for the same input.

A payload is `{"a":"<conversion action>","e":{<the event>}}`, written by hand because a run makes a million of them:
nothing in it needs escaping but a postal code. A request is cut and joined from payloads, not parsed and dumped.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import orjson

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
_TWO_DIGITS = tuple(f"{number:02d}" for number in range(100))


class Defaults(NamedTuple):
    """What a destination adds to an action that does not say it itself."""

    destination: str
    event_source: str
    ad_user_data: bool | None
    ad_personalization: bool | None
    combine: bool
    """Send gclid and gbraid together, and contacts beside a lone braid. Nobody knows yet whether Data Manager takes
    it (the Ads API refuses a braid beside contacts), and an event it does not take is a conversion lost."""


def convert(action: Action, person: Person, target: Any, value: int | None, defaults: Defaults) -> Conversion | Skip:
    """The event of `action`, or why there is none.

    Data Manager cannot take a conversion back, it can only overwrite its value. A cancelled, refunded or spam action
    is therefore the same event worth 0; without a currency there is no way to say 0, so nothing is said.
    """
    name, source, data, ads, combine = defaults
    own_data, own_ads = action.consent_ad_user_data, action.consent_ad_personalization
    consent = _CONSENTS[data if own_data is None else own_data, ads if own_ads is None else own_ads]
    if consent is None:
        return Skip(name, SkipReason.CONSENT_DENIED)
    currency, status = action.currency, action.status
    if currency is not None and not is_currency(currency):
        return Skip(name, SkipReason.NO_CURRENCY, "its currency is not a code of ISO 4217")
    if status != "active":
        if currency is None:
            return Skip(name, SkipReason.CANNOT_ADJUST, "to set its value to 0, Google needs a currency")
        value, money = 0, f',"conversionValue":0,"currency":"{currency}"'
    elif value is None:
        money = ""
    elif currency is None:
        return Skip(name, SkipReason.NO_CURRENCY)
    elif value < 0:
        return Skip(name, SkipReason.NEGATIVE_VALUE)
    else:
        money = f',"conversionValue":{_decimal(value, currency)},"currency":"{currency}"'

    clicks, alone, bad = _clicks(action, combine)
    people = "" if alone else _people(action, person)
    if not clicks and not people:
        if bad:
            return Skip(name, SkipReason.BAD_IDENTIFIER, f"{bad} is not a click id of Google")
        return Skip(name, SkipReason.NO_IDENTIFIER)
    goal: str = target.conversion_action  # which is its goal_key
    key = key_of(action.source, action.external_id, action.action, name, goal)
    payload = (
        f'{{"a":"{goal}","e":{{"transactionId":"cs-{key.hex()}"'
        f',"eventTimestamp":"{_timestamp(action.occurred_at)}","eventSource":"{target.event_source or source}"'
        f"{clicks}{people}{consent}{money}}}}}"
    )
    # As Conversion(...), without the call of its constructor, which is written in Python.
    return tuple.__new__(Conversion, (name, goal, payload.encode(), None, status, value, currency, key))


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
        return f"{major(minor, currency):f}"
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


def request(payloads: Sequence[bytes], account: Account) -> bytes:
    """One body. With one conversion action, its events go there unsaid; with several, each event names its own."""
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
