"""What the Google Ads API's replies mean: tables, and nothing but tables. `answers` reads replies by them.

A call either answers with results, some of them empty, and a list of errors that name rows by position (`FATES`), or it
fails as a whole (`CALLS`). An error is named `Family.VALUE` (`ConversionUploadError.EXPIRED_EVENT`); a line `Family.*`
stands for every value of the family that has no line of its own. What has no line at all is never guessed at: a row is
`held`, a call is `unknown`.

Each line says where it was learned: DOC = read in Google's documentation (ads/ = developers.google.com/google-ads/api/docs/),
CODE = read in the enums and comments of Google's client library.
"""

from __future__ import annotations

from collections.abc import Mapping

from convsync.destinations.google.replies import FATES as STATUS
from convsync.destinations.google.replies import (
    OTHER_ACCOUNT,
    OURS,
    QUARTER_HOUR,
    SETUP,
    SIX_HOURS,
    STRANGE,
    TERMS,
    Fate,
    Meaning,
    Means,
    hold,
    stop,
)
from convsync.model import Verdict

ENUM = "CODE google-ads 34.0.0"
LEVELS = "DOC ads/api-policy/access-levels"
LIMITS = "DOC ads/best-practices/rate-limits"
GRPC = "CODE grpcio 1.85.1, google-ads 34.0.0"

DAY = 86_400.0
"""A conversion that Google does not find yet may still be on its way for so long. INFERRED"""
FIVE_SECONDS = 5.0
"""Where a back-off from a rate limit begins. DOC ads/best-practices/rate-limits"""

CLOSED = "NotAllowlistedError.CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE"
NOT_FOUND = "ConversionAdjustmentUploadError.CONVERSION_NOT_FOUND"
"""Its meaning depends on how long ago Google was told of the conversion."""
RETRACTED = "ConversionAdjustmentUploadError.CONVERSION_ALREADY_RETRACTED"
"""Its meaning depends on what was to be done."""


def _refused(sentence: str, advice: str = "", level: str = "") -> Fate:
    return Fate(Verdict.REFUSED, sentence, advice=advice, level=level, source=ENUM)


def _done(sentence: str) -> Fate:
    return Fate(Verdict.DUPLICATE, sentence, source=ENUM)


def _later(sentence: str, wait: float) -> Fate:
    return Fate(Verdict.LATER, sentence, wait=wait, source=ENUM)


def _unmatched(sentence: str) -> Fate:
    return Fate(Verdict.UNMATCHED, sentence, source=ENUM)


def _stop(sentence: str, advice: str) -> Fate:
    return stop(sentence, advice)._replace(source=ENUM)


def _hold(sentence: str) -> Fate:
    return hold(sentence)._replace(source=ENUM)


def _same(reason: str) -> Fate:
    """As the status of the Data Manager API means it."""
    return STATUS[reason]._replace(source=ENUM)


_TWICE = Fate(Verdict.RETURNED, "Google sees one conversion twice in the request and took neither", source=ENUM)
_ATTRIBUTION = "Choose one of Google's own attribution models for the conversion action."
_TRACKING = "conversion tracking was not switched on when it happened"
_POLICY = "Ask Google Ads support, or leave e-mail and phone out of the fields of the source."
_KIND = (
    "In Google Ads make a conversion action of the kind Import, CRM or other data sources, and put its number in place."
)
_SHAPE = "a field is not written as Google wants it"
_OTHER_ACCOUNT = OTHER_ACCOUNT._replace(source=ENUM)

_UPLOAD: Mapping[str, Fate] = {
    "ORDER_ID_ALREADY_IN_USE": _done("Google has this conversion already"),
    "CLICK_CONVERSION_ALREADY_EXISTS": _done("Google has a conversion of this click at this time already"),
    "CALL_CONVERSION_ALREADY_EXISTS": _done("Google has a conversion of this call at this time already"),
    "DUPLICATE_ORDER_ID": _TWICE,
    "DUPLICATE_CLICK_CONVERSION_IN_REQUEST": _TWICE,
    "DUPLICATE_CALL_CONVERSION_IN_REQUEST": _TWICE,
    "TOO_RECENT_EVENT": _later("the click is younger than six hours", SIX_HOURS),
    "TOO_RECENT_CALL": _later("the call is younger than six hours", SIX_HOURS),
    "TOO_RECENT_CONVERSION_ACTION": _later("the conversion action is younger than six hours", SIX_HOURS),
    "CLICK_NOT_FOUND": _unmatched("Google finds no click of this person"),
    "EVENT_NOT_FOUND": _unmatched("Google finds no click of this id"),
    "CALL_NOT_FOUND": _unmatched("Google finds no such call from an ad"),
    "UNPARSEABLE_GCLID": _same("INVALID_GCLID"),
    "UNPARSEABLE_WBRAID": _same("INVALID_WBRAID"),
    "UNPARSEABLE_GBRAID": _same("INVALID_GBRAID"),
    "UNPARSEABLE_CALLERS_PHONE_NUMBER": _refused("the caller's phone number is not one"),
    "CONVERSION_PRECEDES_EVENT": _same("CONVERSION_PRECEDES_CLICK"),
    "CONVERSION_PRECEDES_CALL": _refused("the conversion is dated before its call"),
    "EXPIRED_EVENT": _same("EVENT_TOO_OLD"),
    "EXPIRED_CALL": _refused("the call lies outside the look-back window of the conversion action"),
    "CONVERSION_TRACKING_NOT_ENABLED_AT_IMPRESSION_TIME": _refused(_TRACKING),
    "CONVERSION_TRACKING_NOT_ENABLED_AT_CALL_TIME": _refused(_TRACKING),
    "CUSTOM_VARIABLE_VALUE_CONTAINS_PII": _refused("a custom variable looks like personal data"),
    "ORDER_ID_CONTAINS_PII": _refused("the order id looks like personal data"),
    "CONVERSION_NOT_COMPLIANT_WITH_ATT_POLICY": _refused("the person did not consent to tracking on an Apple device"),
    "INVALID_USER_IDENTIFIER": _refused("a hashed contact is not a SHA-256 of a contact"),
    "UNSUPPORTED_USER_IDENTIFIER": _refused("a contact is of a kind that Google does not take here"),
    "GBRAID_WBRAID_BOTH_SET": _refused("gbraid and wbraid exclude each other"),
    "UNAUTHORIZED_CUSTOMER": _OTHER_ACCOUNT,
    "INVALID_CUSTOMER_FOR_CLICK": _OTHER_ACCOUNT,
    "INVALID_CUSTOMER_FOR_CALL": _OTHER_ACCOUNT._replace(sentence="the call belongs to another account"),
    "NO_CONVERSION_ACTION_FOUND": _stop("there is no conversion action with this number", SETUP),
    "INVALID_CONVERSION_ACTION_TYPE": _stop("the conversion action does not take uploads of this kind", _KIND),
    "ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID": _same(
        "ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID"
    ),
    "CUSTOM_VARIABLE_NOT_ENABLED": _stop(
        "a custom variable is switched off in the account",
        "Switch it on in Google Ads, Goals, Custom variables, or remove it from the source's custom_variables.",
    ),
    "CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCED_CONVERSIONS": _stop(
        "Google's data policy does not allow hashed contacts for this account", _POLICY
    ),
    "CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS": _stop(
        "the customer data terms are not accepted in this account", TERMS
    ),
    "CUSTOMER_NOT_ENABLED_ENHANCED_CONVERSIONS_FOR_LEADS": _stop(
        "enhanced conversions for leads are off in this account", TERMS
    ),
    "EXTERNAL_ATTRIBUTION_DATA_SET_FOR_NON_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION": _stop(
        "Google read external attribution in what has none", OURS
    ),
    "EXTERNAL_ATTRIBUTION_DATA_NOT_SET_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION": _stop(
        "the conversion action is set to external attribution, which convsync does not send", _ATTRIBUTION
    ),
    "ORDER_ID_NOT_PERMITTED_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION": _stop(
        "the conversion action is set to external attribution, which takes no order id", _ATTRIBUTION
    ),
    "EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION_NOT_PERMITTED_WITH_USER_IDENTIFIER": _stop(
        "the conversion action is set to external attribution, which takes no contacts", _ATTRIBUTION
    ),
    "TOO_MANY_CONVERSIONS_IN_REQUEST": _stop("there are too many conversions in a request", OURS),
    "INVALID_JOB_ID": _stop("Google does not take the number of the job", OURS),
    "UNSPECIFIED": _hold("Google gives no reason"),
    "UNKNOWN": _hold("Google gives a reason that is newer than this version of its client"),
}
"""ConversionUploadError of `upload_click_conversions` and `upload_call_conversions`: the same in v23 to v26."""

_ADJUSTMENT: Mapping[str, Fate] = {
    "CONVERSION_ALREADY_RETRACTED": _done("the conversion is already taken back"),
    "RESTATEMENT_ALREADY_EXISTS": _done("Google has this change already"),
    "MORE_RECENT_RESTATEMENT_FOUND": _done("Google has a later change already"),
    "CONVERSION_ALREADY_ENHANCED": _done("Google has the contacts of this conversion already"),
    "DUPLICATE_ADJUSTMENT_IN_REQUEST": _TWICE,
    "DUPLICATE_ENHANCEMENT_IN_REQUEST": _TWICE,
    "TOO_RECENT_CONVERSION": _later("the conversion is younger than a day", DAY),
    "TOO_RECENT_CONVERSION_ACTION": _later("the conversion action is younger than six hours", SIX_HOURS),
    "CONVERSION_NOT_FOUND": _unmatched("Google does not have the conversion to be changed"),
    "CONVERSION_EXPIRED": _refused("the conversion is older than the 54 days in which it can be changed"),
    "ADJUSTMENT_PRECEDES_CONVERSION": _refused("the change is dated before its conversion"),
    "TOO_MANY_ADJUSTMENTS": _refused("the conversion was changed as often as Google allows"),
    "INVALID_USER_IDENTIFIER": _refused("a hashed contact is not a SHA-256 of a contact"),
    "UNSUPPORTED_USER_IDENTIFIER": _refused("a contact is of a kind that Google does not take here"),
    "GCLID_DATE_TIME_PAIR_AND_ORDER_ID_BOTH_SET": _refused("the conversion is named twice"),
    "MISSING_ORDER_ID_FOR_WEBPAGE": _refused("a conversion of a website tag can only be changed by its order id"),
    "ORDER_ID_CONTAINS_PII": _refused("the order id looks like personal data"),
    "CANNOT_RESTATE_CONVERSION_ACTION_THAT_ALWAYS_USES_DEFAULT_CONVERSION_VALUE": _stop(
        "the conversion action always uses its default value, so no value can be changed",
        "In Google Ads let the conversion action use different values.",
    ),
    "CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS": _stop(
        "the customer data terms are not accepted in this account", TERMS
    ),
    "CONVERSION_ACTION_NOT_ELIGIBLE_FOR_ENHANCEMENT": _stop("Google took a change for something else", OURS),
    "CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCEMENT": _stop(
        "Google's data policy does not allow hashed contacts for this account", _POLICY
    ),
    "NO_CONVERSION_ACTION_FOUND": _stop("there is no conversion action with this number", SETUP),
    "INVALID_CONVERSION_ACTION_TYPE": _stop("conversions of this conversion action cannot be changed", _KIND),
    "INVALID_JOB_ID": _stop("Google does not take the number of the job", OURS),
    "TOO_MANY_ADJUSTMENTS_IN_REQUEST": _stop("there are too many changes in a request", OURS),
    "UNSPECIFIED": _hold("Google gives no reason"),
    "UNKNOWN": _hold("Google gives a reason that is newer than this version of its client"),
}
"""ConversionAdjustmentUploadError of `upload_conversion_adjustments`: the same in v23 to v26. What is dated later than
what we send was sent by us, or by a person with better knowledge, so MORE_RECENT_RESTATEMENT_FOUND is no loss."""

FATES: Mapping[str, Fate] = {
    **{f"ConversionUploadError.{name}": fate for name, fate in _UPLOAD.items()},
    **{f"ConversionAdjustmentUploadError.{name}": fate for name, fate in _ADJUSTMENT.items()},
    CLOSED: Fate(
        Verdict.RETURNED,
        "Google takes uploads through the Google Ads API only from projects that made some before June 2026",
        advice='Set api = "data_manager" for this destination and run `convsync google login`: what waits here goes that '
        "way with the same ids, so nothing counts twice.",
        level="error",
        halts=True,
        source="DOC ads/deprecations; CODE, field report superdesigndev/treg#150: row by row in a call that succeeds",
    ),
    "InternalError.*": Fate(
        Verdict.LATER,
        "Google failed while processing it",
        wait=QUARTER_HOUR,
        source="CODE, field report rudderlabs/rudder-transformer#5499: never final",
    ),
    "MutateError.EU_POLITICAL_ADVERTISING_DECLARATION_REQUIRED": _stop(
        "the account has not declared whether it shows political advertising in the EU",
        "Make the declaration in Google Ads; campaigns and uploads wait for it.",
    ),
    "FieldError.REQUIRED": _refused("a field that Google requires is missing"),
    "FieldError.VALUE_MUST_BE_UNSET": _refused("two fields exclude each other"),
    "FieldError.*": _refused(_SHAPE),
    "DateError.EARLIER_THAN_MINIMUM_DATE": _refused("the time is earlier than Google takes"),
    "DateError.LATER_THAN_MAXIMUM_DATE": _refused("the time lies in the future"),
    "DateError.*": _refused("a time is not written as Google wants it"),
    "CollectionSizeError.*": _refused("a list is too long or too short"),
    "CurrencyCodeError.*": _refused("the currency is not a three-letter ISO code"),
    "DistinctError.*": _refused("a list names something twice"),
    "RangeError.*": _refused("a number is too large or too small"),
    "StringFormatError.*": _refused(_SHAPE),
    "StringLengthError.*": _refused("a text is too long or too short"),
    "MutateError.*": _refused("Google does not take a conversion of this shape"),
}
"""What an error that names a row means for it."""

SPLITS = frozenset(name for name, fate in FATES.items() if fate is _TWICE)
"""Reasons after which the halves of a request go apart: the first of the two is then taken, the other recognised."""


# -- the call as a whole -----------------------------------------------------------------------------


def _halt(sentence: str, advice: str, source: str = ENUM) -> Meaning:
    return Meaning(Means.HALT, sentence, source, advice)


def _unknown(sentence: str, source: str = ENUM) -> Meaning:
    return Meaning(Means.UNKNOWN, sentence, source)


_LOGIN = "Run `convsync google login`, or check that client_id, client_secret and refresh_token belong together."
_USER = (
    "Add the e-mail address that signed in as a user in Google Ads, or set login_customer_id to the manager account "
    "through which it reaches customer_id."
)
_PROJECT = (
    "In the Google Cloud console open Google Ads API, Access level, and apply for Explorer or Basic access for the "
    "project that owns the OAuth client."
)
_VERSION = "Raise ads_api_version in the configuration; if convsync does not know a newer one, update it first."
_DEVELOPER = (
    "Leave developer_token empty: since September 2026 the Google Cloud project counts. If it stays, update convsync."
)
_NO_ACCESS = _halt("these credentials have no access to the account.", _USER)
_FAILED = _unknown("Google failed, perhaps after taking the rows.")
_SLOW = _unknown("Google took too long, and may still take the rows.")
_BUSY = Meaning(Means.MINUTE_QUOTA, "Google asks for fewer requests", LIMITS)
_MISTAKE = _halt("Google does not take the request.", OURS)

CALLS: Mapping[str, Meaning] = {
    CLOSED: _halt(f"{FATES[CLOSED].sentence}.", FATES[CLOSED].advice, FATES[CLOSED].source),
    "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED": _BUSY,
    "QuotaError.EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION": _BUSY,
    "QuotaError.RESOURCE_EXHAUSTED": Meaning(
        Means.DAY_QUOTA,
        "the operations that the project's access level allows in 24 hours are used up",
        LEVELS,
        "Sending goes on as soon as some of the last 24 hours are over. A higher access level is granted in Google Cloud.",
    ),
    "QuotaError.EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION": Meaning(
        Means.DAY_QUOTA,
        "the queries of the last 24 hours were too heavy",
        ENUM,
        "Read fewer days or accounts at a time.",
    ),
    "QuotaError.ACCESS_PROHIBITED": _halt("Google has closed the Google Ads API to this project.", _PROJECT),
    "AuthenticationError.NOT_ADS_USER": _halt("the Google account that signed in has no Google Ads account.", _USER),
    "AuthenticationError.CUSTOMER_NOT_FOUND": _halt("there is no account with this customer_id.", SETUP),
    "AuthenticationError.CLIENT_CUSTOMER_ID_INVALID": _halt("customer_id is not the number of an account.", SETUP),
    "AuthenticationError.TWO_STEP_VERIFICATION_NOT_ENROLLED": _halt(
        "the Google account that signed in has no two-step verification.",
        "Switch it on in that Google account, then run `convsync google login`.",
    ),
    "AuthenticationError.DEVELOPER_TOKEN_INVALID": _halt("Google does not know the developer token.", _DEVELOPER),
    "AuthenticationError.*": _halt("Google does not accept the credentials.", _LOGIN),
    "AuthorizationError.USER_PERMISSION_DENIED": _NO_ACCESS,
    "AuthorizationError.CUSTOMER_NOT_ENABLED": _halt(
        "the account is not active: it was never finished, or has been closed.", "Look at it in Google Ads."
    ),
    "AuthorizationError.CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION": _halt(
        "the Google Cloud project may only use test accounts of Google Ads.",
        _PROJECT,
        "DOC ads/api-policy/developer-token",
    ),
    "AuthorizationError.ACTION_NOT_PERMITTED": _halt(
        "the Google Cloud project, or the person who signed in, may not do this.", f"{_PROJECT} {_USER}"
    ),
    "AuthorizationError.PROJECT_DISABLED": _halt("the Google Cloud project is switched off.", _PROJECT),
    "AuthorizationError.MISSING_TOS": _halt("the terms of the Google Ads API are not accepted.", _PROJECT),
    "AuthorizationError.INCOMPLETE_SIGNUP": _halt("the account was never finished.", "Finish it in Google Ads."),
    "AuthorizationError.INVALID_LOGIN_CUSTOMER_ID_SERVING_CUSTOMER_ID_COMBINATION": _halt(
        "login_customer_id does not manage customer_id.",
        "Set login_customer_id to the manager account above customer_id, or remove it.",
    ),
    "AuthorizationError.SERVICE_ACCESS_DENIED": _halt(
        "the project may not use this part of the Google Ads API.", _PROJECT
    ),
    "AuthorizationError.ACCESS_DENIED_FOR_ACCOUNT_TYPE": _halt("an account of this kind has no such function.", SETUP),
    "AuthorizationError.METRIC_ACCESS_DENIED": _halt("the project may not read this metric.", _PROJECT),
    "AuthorizationError.CLOUD_PROJECT_NOT_UNDER_ORGANIZATION": _halt(
        "the Google Cloud project belongs to no organisation.",
        "Move it into the organisation in the Google Cloud console.",
    ),
    "AuthorizationError.ACTION_NOT_PERMITTED_FOR_SUSPENDED_ACCOUNT": _halt(
        "the account is suspended.", "Look at it in Google Ads."
    ),
    "AuthorizationError.DEVELOPER_TOKEN_NOT_ON_ALLOWLIST": _halt("the developer token is not accepted.", _DEVELOPER),
    "AuthorizationError.DEVELOPER_TOKEN_PROHIBITED": _halt("the developer token is not accepted.", _DEVELOPER),
    "AuthorizationError.DEVELOPER_TOKEN_NOT_APPROVED": _halt("the developer token is not accepted.", _DEVELOPER),
    "AuthorizationError.*": _NO_ACCESS,
    "HeaderError.INVALID_LOGIN_CUSTOMER_ID": _halt("login_customer_id is not the number of an account.", _USER),
    "HeaderError.*": _MISTAKE,
    "RequestError.LOGIN_CUSTOMER_ID_PARAMETER_MISSING": _halt("login_customer_id is needed for this account.", _USER),
    "RequestError.CLOUD_PROJECT_NOT_FOUND": _halt("Google does not find the Google Cloud project.", _PROJECT),
    "RequestError.DEVELOPER_TOKEN_PARAMETER_MISSING": _halt(
        "this version of the Google Ads API still asks for a developer token.", _VERSION
    ),
    "RequestError.UNSUPPORTED_VERSION": _halt("this version of the Google Ads API is gone.", _VERSION),
    "RequestError.INVALID_CUSTOMER_ID": _halt("customer_id is not the number of an account.", SETUP),
    "RequestError.CANNOT_BE_EXECUTED_BY_MANAGER_ACCOUNT": _halt(
        "customer_id is a manager account, which has no conversions of its own here.", SETUP
    ),
    "RequestError.RPC_DEADLINE_TOO_SHORT": _SLOW,
    "RequestError.*": _MISTAKE,
    "PartialFailureError.*": _MISTAKE,
    "DatabaseError.CONCURRENT_MODIFICATION": _FAILED,
    "DatabaseError.REQUEST_TOO_LARGE": Meaning(
        Means.SPLIT, "the request is too large.", ENUM, "Lower batch_rows in the configuration."
    ),
    "InternalError.DEADLINE_EXCEEDED": _SLOW,
    "InternalError.*": _FAILED,
    "ConversionUploadError.TOO_MANY_CONVERSIONS_IN_REQUEST": _halt(
        "there are too many conversions in a request.", "Lower batch_rows in the configuration."
    ),
    "ConversionAdjustmentUploadError.TOO_MANY_ADJUSTMENTS_IN_REQUEST": _halt(
        "there are too many changes in a request.", "Lower batch_rows in the configuration."
    ),
    "SERVICE_DISABLED": _halt(
        "the Google Ads API is not enabled in the Google Cloud project of these credentials.",
        "Enable it in the Google Cloud console, APIs & Services, Library; it takes a few minutes.",
        "DOC ads/api-policy/access-levels",
    ),
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _halt(
        "the credentials were made without the Google Ads API among their scopes, so they do not open it.",
        "Run `convsync google login` and tick every box that Google shows.",
        GRPC,
    ),
    "UNAUTHENTICATED": _halt("Google does not accept a freshly made access token.", _LOGIN, GRPC),
    "PERMISSION_DENIED": _NO_ACCESS._replace(source=GRPC),
    "UNIMPLEMENTED": _halt(
        "this version of the Google Ads API is gone.",
        _VERSION,
        "CODE, field report googleads/google-ads-python#897",
    ),
    "RESOURCE_EXHAUSTED": _BUSY,
    "UNAVAILABLE": _FAILED._replace(source=GRPC),
    "INTERNAL": _FAILED._replace(source=GRPC),
    "DEADLINE_EXCEEDED": _SLOW._replace(source=GRPC),
}
"""What a failed call means: by the error in its trailing metadata, else by the reason of its ErrorInfo, else by its status."""

FIRST = (Means.HALT, Means.SPLIT, Means.UNKNOWN, Means.DAY_QUOTA, Means.MINUTE_QUOTA)
"""Which error stands for a call that names several."""


def fate_of(code: str) -> Fate:
    known = FATES.get(code) or FATES.get(_family(code))
    if known is not None:
        return known
    meaning = meaning_of(code)
    if meaning is not None and meaning.means is Means.HALT:  # said of a row, but true of all of them
        return _stop(meaning.sentence.removesuffix("."), meaning.advice)
    return STRANGE


def meaning_of(code: str) -> Meaning | None:
    """None: a word that is about this call alone, or one that nobody knows."""
    return CALLS.get(code) or CALLS.get(_family(code))


def _family(code: str) -> str:
    return f"{code.partition('.')[0]}.*"
