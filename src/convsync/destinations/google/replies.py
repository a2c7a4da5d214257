"""What Data Manager's replies mean: tables, and nothing but tables. `answers` reads replies by them.

A reply at ingest is about the request as a whole (`CALLS`) or about rows it names by position (`REASONS`); what became
of the rows is told half an hour later by the status (`FATES`). Names new to us are never guessed at: an unknown status
is `unknown`, an unknown reason of a row is `held` until a person has looked.

Each line says where it was learned: DOC = read in Google's documentation (dm/ = developers.google.com/data-manager/api/),
CODE = read in the enums and comments of Google's client library.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from convsync.model import Verdict

SIX_HOURS = 6 * 3600.0
QUARTER_HOUR = 900.0

ENUM = "CODE google-ads-datamanager 0.9.4"
ERRORS = "DOC dm/devguides/concepts/understand-errors"
LIMITS = "DOC dm/devguides/limits"
ACCESS = "DOC dm/devguides/quickstart/set-up-access"


class Means(enum.StrEnum):
    """What a reply, or a reason in it, says."""

    REFUSED = "refused"
    """That row is bad, and nothing of its request was processed."""
    HELD = "held"
    LATER = "later"
    HALT = "halt"
    """Configuration, credentials, or our own mistake: no further request before somebody has looked."""
    SPLIT = "split"
    """Too much for one request."""
    MINUTE_QUOTA = "minute_quota"
    DAY_QUOTA = "day_quota"
    UNKNOWN = "unknown"
    UNTOLD = "untold"
    """Says nothing by itself: look at what else the reply tells."""


class Meaning(NamedTuple):
    means: Means
    sentence: str
    source: str
    advice: str = ""


def _refused(sentence: str) -> Meaning:
    return Meaning(Means.REFUSED, sentence, ENUM)


def _halt(sentence: str, advice: str) -> Meaning:
    return Meaning(Means.HALT, sentence, ENUM, advice)


SETUP = "Check conversion_action and customer_id in the configuration against Google Ads, Goals, Conversions."
TERMS = "In Google Ads, Goals, Settings, switch on enhanced conversions for leads and accept the customer data terms."
OURS = "This is a mistake of convsync or a change at Google: look for a newer version, or report it."
_VARIABLE = (
    "In Google Ads, Goals, Custom variables, make it or switch it on, or correct custom_variables in the source."
)
_PARTNER = "Check customer_id and login_customer_id: convsync works for advertisers, not for data partners."

REASONS: Mapping[str, Meaning] = {
    "REQUIRED_FIELD_MISSING": _refused("a field that Google requires is missing"),
    "INVALID_FORMAT": _refused("a field is not written as Google wants it"),
    "INVALID_HEX_ENCODING": _refused("a hashed contact is not hexadecimal"),
    "INVALID_BASE64_ENCODING": _refused("a hashed contact is not base64"),
    "INVALID_SHA256_FORMAT": _refused("a hashed contact is not a SHA-256"),
    "INVALID_POSTAL_CODE": _refused("the postal code does not exist"),
    "INVALID_REGION_CODE": _refused("the country is not a two-letter code"),
    "INVALID_NUMBER_FORMAT": _refused("a number is not written as a number"),
    "INVALID_ENUM_VALUE": _refused("a field has a word that Google does not know"),
    "INVALID_CURRENCY_CODE": _refused("the currency is not a three-letter ISO code"),
    "INVALID_EVENT": _refused("Google does not take an event of this shape"),
    "EVENT_TIME_INVALID": _refused("the time of the conversion is not acceptable"),
    "NO_IDENTIFIERS_PROVIDED": _refused("there is neither a click id nor a contact"),
    "TOO_MANY_USER_IDENTIFIERS": _refused("there are too many contacts"),
    "CUSTOM_VARIABLE_VALUE_CONTAINS_PII": _refused("a custom variable looks like personal data"),
    "INVALID_CUSTOM_VARIABLE_VALUE": _refused("a custom variable has a value that Google does not take"),
    "FIELD_VALUE_TOO_LONG": _refused("a field is too long"),
    "FIELD_VALUE_TOO_SHORT": _refused("a field is too short"),
    "TOO_MANY_ELEMENTS": _refused("a list is too long"),
    "TOO_FEW_ELEMENTS": _refused("a list is too short"),
    "INVALID_AD_IDENTIFIER_FOR_ACCOUNT": _refused("the click id does not belong to this account"),
    "INVALID_MERCHANT_ID": _refused("the Merchant Center id does not exist"),
    "INVALID_MERCHANT_FEED_LANGUAGE_CODE": _refused("the language of the merchant feed does not exist"),
    "INVALID_COUPON_CODE": _refused("the coupon code is not acceptable"),
    "INVALID_MOBILE_ID_FORMAT": _refused("the mobile device id is not one"),
    "INVALID_SUBDIVISION_CODE": _refused("the region code does not exist"),
    "INVALID_SUBCONTINENT_CODE": _refused("the subcontinent code does not exist"),
    "INVALID_CONTINENT_CODE": _refused("the continent code does not exist"),
    "INVALID_DEVICE_CATEGORY": _refused("the device category does not exist"),
    "CONVERSION_ACTION_TOO_RECENTLY_CREATED": Meaning(
        Means.LATER, "the conversion action is younger than six hours", ENUM, "Nothing to do: it is tried again."
    ),
    "RESOURCE_EXHAUSTED": Meaning(Means.MINUTE_QUOTA, "the quota is used up", LIMITS),
    "INTERNAL_ERROR": Meaning(Means.UNKNOWN, "Google failed", ERRORS),
    "DEADLINE_EXCEEDED": Meaning(Means.UNKNOWN, "Google took too long", ERRORS),
    "NOT_FOUND": _halt("Google does not find what the request names.", SETUP),
    "PERMISSION_DENIED": _halt(
        "these credentials have no access to the account.",
        "Add their e-mail address as a user in Google Ads, or set login_customer_id to the manager account they use.",
    ),
    "INVALID_DESTINATION": _halt("the account does not own the conversion action.", SETUP),
    "INVALID_CONVERSION_ACTION_ID": _halt("there is no conversion action with this number.", SETUP),
    "INVALID_CONVERSION_ACTION_TYPE": _halt(
        "the conversion action does not take imported clicks.",
        "In Google Ads make one of the kind Import, CRM or other data sources, and put its number in the configuration.",
    ),
    "DESTINATION_ACCOUNT_NOT_ENABLED_ENHANCED_CONVERSIONS_FOR_LEADS": _halt(
        "enhanced conversions for leads are off in this account.", TERMS
    ),
    "DESTINATION_ACCOUNT_DATA_POLICY_PROHIBITS_ENHANCED_CONVERSIONS": _halt(
        "Google's data policy does not allow hashed contacts for this account.",
        "Ask Google Ads support, or leave e-mail and phone out of the fields of the source.",
    ),
    "DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED": _halt(
        "the customer data terms are not accepted in this account.", TERMS
    ),
    "TERMS_AND_CONDITIONS_NOT_SIGNED": _halt("the terms of the account are not accepted.", TERMS),
    "NOT_ALLOWLISTED": _halt(
        "Google has not opened this function to the account.", "Ask Google Ads support to open it."
    ),
    "DESTINATION_ACCOUNT_TYPE_MISMATCH": _halt("customer_id is not a Google Ads account.", SETUP),
    "MISMATCHED_ACCOUNT_TYPE": _halt("customer_id is not a Google Ads account.", SETUP),
    "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH": _halt(
        "login_customer_id does not manage customer_id.",
        "Set login_customer_id to the manager account above customer_id, or remove it.",
    ),
    "EVENT_SOURCE_AND_DESTINATION_MISMATCH": _halt(
        "the conversion action does not take events of this event_source.",
        "Set event_source in the configuration to what the conversion action is for.",
    ),
    "CUSTOM_VARIABLE_NOT_ENABLED": _halt("a custom variable is switched off in the account.", _VARIABLE),
    "CUSTOM_VARIABLE_NOT_FOUND": _halt("a custom variable does not exist in the account.", _VARIABLE),
    "DUPLICATE_DESTINATION_REFERENCE": _halt("the request names one conversion action twice.", OURS),
    "ACCOUNT_INELIGIBLE_FOR_STORE_SALES": _halt(
        "the conversion action is for store sales, which this account may not upload.", SETUP
    ),
    "THIRD_PARTY_USER_DATA_NOT_ALLOWED": _halt("Google took our rows for a third party's data.", OURS),
    "LINKED_ACCOUNT_ONLY_ALLOWED_WITH_DATA_PARTNER_LOGIN_ACCOUNT": _halt("the accounts do not fit together.", _PARTNER),
    "UNSUPPORTED_OPERATING_ACCOUNT_FOR_DATA_PARTNER": _halt("the accounts do not fit together.", _PARTNER),
    "UNSUPPORTED_LINKED_ACCOUNT_FOR_DATA_PARTNER": _halt("the accounts do not fit together.", _PARTNER),
    "DIFFERENT_LOGIN_ACCOUNTS_NOT_ALLOWED_FOR_DATA_PARTNER": _halt("the accounts do not fit together.", _PARTNER),
    "REQUIRED_PREREQUISITE_LINK_MISSING": _halt(
        "a link between accounts is missing.", "Link the accounts in Google Ads, Tools, Data manager."
    ),
    "EU_POLITICAL_ADVERTISING_DECLARATION_REQUIRED": _halt(
        "the account has not declared whether it shows political advertising in the EU.",
        "Make the declaration in Google Ads; campaigns and uploads wait for it.",
    ),
    "MULTIPLE_DATA_TYPES_NOT_ALLOWED": _halt("the request mixes kinds of data.", OURS),
    "TOO_MANY_DESTINATIONS": Meaning(Means.SPLIT, "more than ten conversion actions in a request", LIMITS),
    "TOO_MANY_EVENTS": Meaning(Means.SPLIT, "too many conversions in a request", LIMITS),
    "INVALID_ARGUMENT": Meaning(Means.UNTOLD, "Google does not say what is wrong", ERRORS),
    "": Meaning(Means.UNTOLD, "Google does not say what is wrong", ERRORS),
}
"""ErrorReason of a refusal at ingest. The rest of its 129 values belong to other products: HELD, as unknown."""

_OTHER = Meaning(Means.HELD, "Google gave a reason that convsync does not know", "whatever is not in the table")


class Call(NamedTuple):
    """One line about the call as a whole. An empty `reason` stands for every one."""

    status: int
    reason: str
    means: Means
    code: str
    sentence: str
    advice: str
    source: str


CALLS: tuple[Call, ...] = (
    Call(
        401,
        "",
        Means.HALT,
        "not_signed_in",
        "Google does not accept a freshly made access token.",
        "Check that client_id, client_secret and refresh_token, or credentials_file, belong together.",
        ERRORS,
    ),
    Call(
        403,
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        Means.HALT,
        "scope_missing",
        "the credentials were made before the Data Manager API was asked for, so they do not open it.",
        "Run `convsync google login` and tick every box that Google shows.",
        ACCESS,
    ),
    Call(
        403,
        "SERVICE_DISABLED",
        Means.HALT,
        "api_disabled",
        "the Data Manager API is not enabled in the Google Cloud project of these credentials.",
        "Enable it in the Google Cloud console, APIs & Services, Library; it takes a few minutes.",
        ACCESS,
    ),
    Call(
        403,
        "",
        Means.HALT,
        "no_access",
        "these credentials have no access to the account.",
        "Add their e-mail address as a user in Google Ads, or set login_customer_id to the manager account they use.",
        ACCESS,
    ),
    Call(
        404,
        "CONVERSION_ACTION_TOO_RECENTLY_CREATED",
        Means.LATER,
        "too_recent",
        "the conversion action is younger than six hours.",
        "Nothing to do: it is tried again.",
        ENUM,
    ),
    Call(
        404,
        "",
        Means.HALT,
        "not_found",
        "Google does not find the account, the conversion action, or the address of the API.",
        "Check customer_id, conversion_action and data_manager_url. A conversion action made in the last six hours "
        "may not be visible yet.",
        "CODE, seen in public clients: a fresh conversion action answered like this",
    ),
    Call(413, "", Means.SPLIT, "too_large", "the request is too large.", "", "RFC 9110 15.5.14"),
    Call(429, "", Means.MINUTE_QUOTA, "quota", "the quota of the Google Cloud project is used up.", "", LIMITS),
    Call(500, "", Means.UNKNOWN, "server_error", "Google failed, perhaps after taking the rows.", "", ERRORS),
    Call(502, "", Means.UNKNOWN, "server_error", "Google failed, perhaps after taking the rows.", "", ERRORS),
    Call(503, "", Means.UNKNOWN, "server_error", "Google failed, perhaps after taking the rows.", "", ERRORS),
    Call(504, "", Means.UNKNOWN, "server_error", "Google failed, perhaps after taking the rows.", "", ERRORS),
)
"""The call as a whole, but for 200 and 400, which have readers of their own. The first line that fits counts."""

FAULTS = {"not_processed": Means.LATER, "ambiguous": Means.UNKNOWN, "refused": Means.HALT}


class Fate(NamedTuple):
    """What became of one row when the request was processed."""

    verdict: Verdict
    sentence: str
    wait: float | None = None
    advice: str = ""
    level: str = ""
    """Of a finding, for what a person should hear about beyond the row itself."""
    halts: bool = False
    source: str = ENUM


OTHER_ACCOUNT = Fate(
    Verdict.REFUSED,
    "the click belongs to another account",
    advice="If this is frequent, the conversions go to the wrong customer_id, or several accounts share a site.",
    level="info",
)
_CONSENT = "Send consent_ad_user_data with the action, or set it for the destination, if people did agree."
_HALTS = "These rows wait; the destination sends nothing more in this run."


def stop(sentence: str, advice: str) -> Fate:
    return Fate(Verdict.RETURNED, sentence, advice=f"{advice} {_HALTS}", level="error", halts=True)


def hold(sentence: str) -> Fate:
    return Fate(Verdict.HELD, sentence)


_CIPHER = "Google tried to decrypt what was sent in clear."

FATES: Mapping[str, Fate] = {
    "DUPLICATE_TRANSACTION_ID": Fate(Verdict.DUPLICATE, "Google has this conversion already"),
    "DUPLICATE_GCLID": Fate(Verdict.DUPLICATE, "Google has a conversion of this click at this time already"),
    "TOO_RECENT_CLICK": Fate(Verdict.LATER, "the click is younger than six hours", wait=SIX_HOURS),
    "INTERNAL_ERROR": Fate(Verdict.LATER, "Google failed while processing it", wait=QUARTER_HOUR),
    "CLICK_NOT_FOUND": Fate(Verdict.UNMATCHED, "Google finds no click of this person or id"),
    "INVALID_CLICK": Fate(Verdict.UNMATCHED, "the click is not one that Google counts"),
    "ORIGINAL_CONVERSIONS_NOT_FOUND": Fate(Verdict.UNMATCHED, "Google does not have the conversion to be changed"),
    "INVALID_GCLID": Fate(Verdict.REFUSED, "the gclid is not one of Google's"),
    "INVALID_GBRAID": Fate(Verdict.REFUSED, "the gbraid is not one of Google's"),
    "INVALID_WBRAID": Fate(Verdict.REFUSED, "the wbraid is not one of Google's"),
    "INVALID_AD_IDENTIFIERS": Fate(Verdict.REFUSED, "the click ids do not fit together"),
    "EVENT_TOO_OLD": Fate(Verdict.REFUSED, "the conversion lies outside the look-back window of its action"),
    "CONVERSION_PRECEDES_CLICK": Fate(Verdict.REFUSED, "the conversion is dated before its click"),
    "INVALID_EVENT": Fate(Verdict.REFUSED, "Google does not take an event of this shape"),
    "INVALID_FORMAT": Fate(Verdict.REFUSED, "a field is not written as Google wants it"),
    "INVALID_CUSTOM_VARIABLE": Fate(Verdict.REFUSED, "a custom variable is not acceptable"),
    "INVALID_MERCHANT_ID": Fate(Verdict.REFUSED, "the Merchant Center id does not exist"),
    "INVALID_MOBILE_ID_FORMAT": Fate(Verdict.REFUSED, "the mobile device id is not one"),
    "DENIED_CONSENT": Fate(Verdict.REFUSED, "the person did not consent"),
    "NO_CONSENT": Fate(Verdict.REFUSED, "nobody said whether the person consents", advice=_CONSENT, level="warning"),
    "UNKNOWN_CONSENT": Fate(
        Verdict.REFUSED,
        "the account asks for consent and none was sent",
        advice=f"Look at the consent settings of the Google Ads account. {_CONSENT}",
        level="warning",
    ),
    "OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER": OTHER_ACCOUNT,
    "INVALID_OPERATING_ACCOUNT_FOR_CLICK": OTHER_ACCOUNT,
    "ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID": Fate(
        Verdict.HELD,
        "the conversion action counts one per click, which iOS clicks (gbraid, wbraid) do not allow",
        advice="Set the conversion action to count every conversion, then run `convsync ledger retry`.",
        level="error",
    ),
    "CUSTOM_VARIABLE_NOT_ENABLED": stop("a custom variable is switched off in the account", _VARIABLE),
    "DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED": stop(
        "the customer data terms are not accepted in this account", TERMS
    ),
    "EXTERNAL_ATTRIBUTION_DATA_MISSING": stop(
        "the conversion action is set to external attribution, which convsync does not send",
        "Choose one of Google's own attribution models for the conversion action.",
    ),
    "DECRYPTION_ERROR": stop(_CIPHER, OURS),
    "DEK_DECRYPTION_ERROR": stop(_CIPHER, OURS),
    "USER_IDENTIFIER_DECRYPTION_ERROR": stop(_CIPHER, OURS),
    "INVALID_WIP": stop(_CIPHER, OURS),
    "WIP_AUTH_FAILED": stop(_CIPHER, OURS),
    "INVALID_KEK": stop(_CIPHER, OURS),
    "KEK_PERMISSION_DENIED": stop(_CIPHER, OURS),
    "AWS_AUTH_FAILED": stop(_CIPHER, OURS),
    "INSUFFICIENT_MATCHED_TRANSACTIONS": hold("a reason of store sales, which convsync does not upload"),
    "INSUFFICIENT_TRANSACTIONS": hold("a reason of store sales, which convsync does not upload"),
    "MATCH_ID_NOT_FOUND": hold("a reason of Floodlight, to which convsync does not upload"),
    "EVENT_ID_DECODE_ERROR": hold("a reason of Floodlight, to which convsync does not upload"),
    "USER_ID_NOT_FOUND": hold("a reason of Floodlight, to which convsync does not upload"),
    "USER_ID_NOT_FOUND_FOR_MATCH_ID": hold("a reason of Floodlight, to which convsync does not upload"),
    "USER_ID_NOT_FOUND_FOR_GCLID": hold("a reason of Floodlight, to which convsync does not upload"),
    "USER_ID_NOT_FOUND_FOR_DCLID": hold("a reason of Floodlight, to which convsync does not upload"),
    "USER_ID_NOT_FOUND_FOR_IMPRESSION_ID": hold("a reason of Floodlight, to which convsync does not upload"),
    "UNSPECIFIED": hold("Google gives no reason"),
}
"""ProcessingErrorReason 0..44 of the status, prefix stripped. What is not here is held. One per click with a
braid holds its rows instead of stopping the destination: everything else goes on well without them."""

STRANGE = hold("Google gave a reason that convsync does not know")

SEVERITY = (Verdict.RETURNED, Verdict.HELD, Verdict.REFUSED, Verdict.UNMATCHED, Verdict.LATER, Verdict.DUPLICATE)
"""Which outcome stands when a row is named twice."""

STATUS_GONE = frozenset({"INVALID_REQUEST_ID", "REQUEST_TOO_OLD"})
"""Reasons of a status that will never come: a wrong or failed request, or one older than about 50 days. ENUM"""

DONE = frozenset({"SUCCESS", "PARTIAL_SUCCESS", "FAILED"})
"""Words of `requestStatus` after which nothing changes. DOC dm/devguides/diagnostics; its prose writes FAILURE for FAILED."""


def meaning_of(reason: str) -> Meaning:
    return REASONS.get(reason, _OTHER)


def fate_of(reason: str) -> Fate:
    return FATES.get(reason, STRANGE)
