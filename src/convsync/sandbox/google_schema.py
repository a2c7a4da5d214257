"""The JSON schema of `events:ingest`: every field by name, strictly, quick when all is well.

CODE google-ads-datamanager 0.9.4 (messages of IngestEventsRequest); DOC dm/reference v1.9 (`callInfo`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Problem:
    """What is wrong at a path such as `events[3].ad_identifiers`; `frontend` = refused while parsing JSON."""

    path: str
    description: str
    frontend: bool = True
    reason: str = ""


class Kind:
    """One type of value: `ok` is quick and says yes or no, `explain` is slow and says what is wrong."""

    def __init__(self, ok: Check, type_name: str) -> None:
        self.ok = ok
        self._type_name = type_name

    def explain(self, value: Any, path: str) -> list[Problem]:
        if value is None or self.ok(value):
            return []
        shown = str(value)[:60]
        return [Problem(path, f"Invalid value at '{path}' ({self._type_name}), \"{shown}\"")]


class Enum(Kind):
    def __init__(self, *names: str) -> None:
        allowed = frozenset(names)
        super().__init__(lambda value: type(value) is str and value in allowed, "TYPE_ENUM")

    def explain(self, value: Any, path: str) -> list[Problem]:
        if value is None or self.ok(value):
            return []
        shown = str(value)[:60]
        return [Problem(path, f"Unknown enum value {shown!r}.", frontend=False, reason="INVALID_ENUM_VALUE")]


class ListOf(Kind):
    def __init__(self, item: Kind) -> None:
        ok = item.ok
        super().__init__(lambda value: type(value) is list and all(map(ok, value)), "list")
        self._item = item

    def explain(self, value: Any, path: str) -> list[Problem]:
        if value is None:
            return []
        if not isinstance(value, list):
            return [Problem(path, f"Invalid value at '{path}': a list is expected.")]
        found: list[Problem] = []
        for i, inner in enumerate(value):
            if inner is None:
                found.append(Problem(f"{path}[{i}]", f"Invalid value at '{path}[{i}]': null in a list."))
            found += self._item.explain(inner, f"{path}[{i}]")
        return found


class Message(Kind):
    def __init__(self, **kinds: Kind) -> None:
        self._kinds = kinds
        self._camel = {snake(name): name for name in kinds}
        quick = {name: kind.ok for name, kind in kinds.items()}

        def ok(value: Any) -> bool:
            if type(value) is not dict:
                return False
            for name, inner in value.items():
                check = quick.get(name)
                if check is None or not check(inner):
                    return False
            return True

        super().__init__(ok, "object")

    def explain(self, value: Any, path: str) -> list[Problem]:
        """Also renames snake_case names, which the JSON mapping of protobuf allows."""
        if value is None:
            return []
        if not isinstance(value, dict):
            return [Problem(path, f"Invalid value at '{path}': an object is expected.")]
        problems: list[Problem] = []
        for name in list(value):
            camel = name if name in self._kinds else self._camel.get(name)
            if camel is None:
                problems.append(_unknown(name, path))
                continue
            inner = value[camel] = value.pop(name)
            at = f"{path}.{snake(camel)}" if path else snake(camel)
            problems += self._kinds[camel].explain(inner, at)
            if inner is None:
                del value[camel]
        return problems


def snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def _unknown(name: str, path: str) -> Problem:
    where = f" at '{path}'" if path else ""
    said = f'Invalid JSON payload received. Unknown name "{name[:60]}"{where}: Cannot find field.'
    return Problem(path, said)


def _is_double(value: Any) -> bool:
    return type(value) in (int, float, Decimal) or (type(value) is str and bool(_NUMBER.fullmatch(value)))


def _is_integer(value: Any) -> bool:
    """CODE: an int64 may come as a number or as text."""
    return type(value) is int or (type(value) is str and bool(re.fullmatch(r"-?\d{1,19}", value)))


_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")

_text = Kind(lambda value: type(value) is str, "TYPE_STRING")
_flag = Kind(lambda value: type(value) is bool, "TYPE_BOOL")
_double = Kind(_is_double, "TYPE_DOUBLE")
_integer = Kind(_is_integer, "TYPE_INT64")
_texts = ListOf(_text)

_ACCOUNT = Message(
    product=Enum(
        "PRODUCT_UNSPECIFIED",
        "GOOGLE_ADS",
        "DISPLAY_VIDEO_PARTNER",
        "DISPLAY_VIDEO_ADVERTISER",
        "DATA_PARTNER",
    ),
    accountId=_text,
    accountType=Enum(
        "ACCOUNT_TYPE_UNSPECIFIED",
        "GOOGLE_ADS",
        "DISPLAY_VIDEO_PARTNER",
        "DISPLAY_VIDEO_ADVERTISER",
        "DATA_PARTNER",
        "GOOGLE_ANALYTICS_PROPERTY",
        "GOOGLE_AD_MANAGER_AUDIENCE_LINK",
        "FLOODLIGHT_CONFIG",
        "GOOGLE_AD_MANAGER",
    ),
)
_DESTINATION = Message(
    reference=_text,
    loginAccount=_ACCOUNT,
    linkedAccount=_ACCOUNT,
    operatingAccount=_ACCOUNT,
    productDestinationId=_text,
)
_consent_status = Enum("CONSENT_STATUS_UNSPECIFIED", "CONSENT_GRANTED", "CONSENT_DENIED")
_CONSENT = Message(adUserData=_consent_status, adPersonalization=_consent_status)
_ADDRESS = Message(
    givenName=_text,
    familyName=_text,
    regionCode=_text,
    postalCode=_text,
    addressLine=_text,
    city=_text,
    administrativeArea=_text,
)
_USER_DATA = Message(userIdentifiers=ListOf(Message(emailAddress=_text, phoneNumber=_text, address=_ADDRESS)))
_DEVICE = Message(
    userAgent=_text,
    ipAddress=_text,
    category=_text,
    languageCode=_text,
    screenHeight=_integer,
    screenWidth=_integer,
    operatingSystem=_text,
    operatingSystemVersion=_text,
    model=_text,
    brand=_text,
    browser=_text,
    browserVersion=_text,
)
_AD_IDENTIFIERS = Message(
    sessionAttributes=_text,
    gclid=_text,
    gbraid=_text,
    wbraid=_text,
    landingPageDeviceInfo=_DEVICE,
    mobileDeviceId=_text,
    dclid=_text,
    impressionId=_text,
    matchId=_text,
    encryptedUserIds=ListOf(
        Message(
            encryptedId=_text,
            entityType=Enum(
                "ENCRYPTION_ENTITY_TYPE_UNSPECIFIED",
                "CAMPAIGN_MANAGER_ACCOUNT",
                "CAMPAIGN_MANAGER_ADVERTISER",
                "DISPLAY_VIDEO_PARTNER",
                "DISPLAY_VIDEO_ADVERTISER",
                "GOOGLE_ADS_CUSTOMER",
                "GOOGLE_AD_MANAGER_NETWORK_CODE",
            ),
            entityId=_integer,
            source=Enum("ENCRYPTION_SOURCE_UNSPECIFIED", "AD_SERVING", "DATA_TRANSFER"),
        )
    ),
    ppid=_text,
    visitorPpid=_text,
)
_VARIABLE = Message(variable=_text, value=_text, destinationReferences=_texts)
_CART = Message(
    merchantId=_text,
    merchantFeedLabel=_text,
    merchantFeedLanguageCode=_text,
    transactionDiscount=_double,
    items=ListOf(
        Message(
            merchantProductId=_text,
            quantity=_integer,
            unitPrice=_double,
            itemId=_text,
            additionalItemParameters=ListOf(Message(parameterName=_text, value=_text)),
            merchantId=_text,
            merchantFeedLabel=_text,
            merchantFeedLanguageCode=_text,
            conversionValue=_double,
            customVariables=ListOf(_VARIABLE),
        )
    ),
    couponCodes=_texts,
)
_USER_PROPERTIES = Message(
    customerType=Enum("CUSTOMER_TYPE_UNSPECIFIED", "NEW", "RETURNING", "REENGAGED"),
    customerValueBucket=Enum("CUSTOMER_VALUE_BUCKET_UNSPECIFIED", "LOW", "MEDIUM", "HIGH"),
    additionalUserProperties=ListOf(Message(propertyName=_text, value=_text)),
)
_EVENT = Message(
    destinationReferences=_texts,
    transactionId=_text,
    eventTimestamp=_text,
    lastUpdatedTimestamp=_text,
    userData=_USER_DATA,
    consent=_CONSENT,
    adIdentifiers=_AD_IDENTIFIERS,
    currency=_text,
    conversionValue=_double,
    conversionCount=_double,
    eventSource=Enum("EVENT_SOURCE_UNSPECIFIED", "WEB", "APP", "IN_STORE", "PHONE", "MESSAGE", "OTHER"),
    eventDeviceInfo=_DEVICE,
    cartData=_CART,
    customVariables=ListOf(_VARIABLE),
    experimentalFields=ListOf(Message(field=_text, value=_text)),
    userProperties=_USER_PROPERTIES,
    eventName=_text,
    clientId=_text,
    userId=_text,
    additionalEventParameters=ListOf(Message(parameterName=_text, value=_text)),
    thirdPartyUserData=_USER_DATA,
    eventLocation=Message(
        storeId=_text,
        city=_text,
        subdivisionCode=_text,
        regionCode=_text,
        subcontinentCode=_text,
        continentCode=_text,
    ),
    appInstanceId=_text,
    callInfo=Message(startTimestamp=_text),
)
_KEY_TYPE = Enum("KEY_TYPE_UNSPECIFIED", "XCHACHA20_POLY1305")
_REQUEST = Message(
    destinations=ListOf(_DESTINATION),
    events=ListOf(_EVENT),
    consent=_CONSENT,
    validateOnly=_flag,
    encoding=Enum("ENCODING_UNSPECIFIED", "HEX", "BASE64"),
    encryptionInfo=Message(
        gcpWrappedKeyInfo=Message(keyType=_KEY_TYPE, wipProvider=_text, kekUri=_text, encryptedDek=_text),
        awsWrappedKeyInfo=Message(keyType=_KEY_TYPE, roleArn=_text, kekUri=_text, encryptedDek=_text),
        coordinatorKeyInfo=Message(keyId=_text),
    ),
)


def problems(body: Mapping[str, Any]) -> list[Problem]:
    """All departures from the schema; snake_case names are renamed in place, nulls dropped."""
    return [] if _REQUEST.ok(body) else _REQUEST.explain(body, "")
