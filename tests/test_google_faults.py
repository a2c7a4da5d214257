"""Every answer Google is known to give, sent by the emulator through a whole run: what becomes of the row, and of the run.

The lists are the classes of the published enums (google-ads 34.0.0, google-ads-datamanager 0.9.4), written down a second
time on purpose: the tables of the program have to agree with them. Where both APIs say the same of a row, both are asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from convsync.destinations.google import replies
from convsync.destinations.google.ads import replies as ads_replies
from convsync.errors import Exit
from convsync.sandbox import Sandbox, SandboxConfig
from worlds import StandingClock, World


@pytest.fixture
def box(clock: StandingClock, ads_certificate: Path) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=clock, ads=True, ads_folder=ads_certificate.parent) as sandbox:
        yield sandbox


@pytest.fixture
def google(world: World) -> World:
    world.platforms, world.ads = ("google",), True
    world.source.page = 500
    return world


@pytest.fixture
def ads(google: World) -> World:
    google.api = "ads"
    return google


def words(text: str) -> list[str]:
    return text.split()


# -- rows: what the Ads API says of a conversion

UPLOAD = {
    "accepted": words("ORDER_ID_ALREADY_IN_USE CLICK_CONVERSION_ALREADY_EXISTS CALL_CONVERSION_ALREADY_EXISTS"),
    "pending": words("TOO_RECENT_EVENT TOO_RECENT_CALL TOO_RECENT_CONVERSION_ACTION"),
    "unmatched": words("CLICK_NOT_FOUND EVENT_NOT_FOUND CALL_NOT_FOUND"),
    "refused": words(
        "UNPARSEABLE_GCLID UNPARSEABLE_WBRAID UNPARSEABLE_GBRAID UNPARSEABLE_CALLERS_PHONE_NUMBER CONVERSION_PRECEDES_EVENT"
        " CONVERSION_PRECEDES_CALL EXPIRED_EVENT EXPIRED_CALL CONVERSION_TRACKING_NOT_ENABLED_AT_IMPRESSION_TIME"
        " CONVERSION_TRACKING_NOT_ENABLED_AT_CALL_TIME CUSTOM_VARIABLE_VALUE_CONTAINS_PII ORDER_ID_CONTAINS_PII"
        " CONVERSION_NOT_COMPLIANT_WITH_ATT_POLICY INVALID_USER_IDENTIFIER UNSUPPORTED_USER_IDENTIFIER"
        " GBRAID_WBRAID_BOTH_SET UNAUTHORIZED_CUSTOMER INVALID_CUSTOMER_FOR_CLICK INVALID_CUSTOMER_FOR_CALL"
    ),
    "held": words("ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID UNSPECIFIED UNKNOWN"),
}
UPLOAD_STOPS = words(
    "NO_CONVERSION_ACTION_FOUND INVALID_CONVERSION_ACTION_TYPE CUSTOM_VARIABLE_NOT_ENABLED"
    " CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCED_CONVERSIONS CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS"
    " CUSTOMER_NOT_ENABLED_ENHANCED_CONVERSIONS_FOR_LEADS"
    " EXTERNAL_ATTRIBUTION_DATA_SET_FOR_NON_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION"
    " EXTERNAL_ATTRIBUTION_DATA_NOT_SET_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION"
    " ORDER_ID_NOT_PERMITTED_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION"
    " EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION_NOT_PERMITTED_WITH_USER_IDENTIFIER TOO_MANY_CONVERSIONS_IN_REQUEST INVALID_JOB_ID"
)
TWICE = words("DUPLICATE_ORDER_ID DUPLICATE_CLICK_CONVERSION_IN_REQUEST DUPLICATE_CALL_CONVERSION_IN_REQUEST")


def test_the_lists_name_every_error_of_an_upload_once() -> None:
    listed = [name for names in UPLOAD.values() for name in names] + UPLOAD_STOPS + TWICE
    known = [name.partition(".")[2] for name in ads_replies.FATES if name.startswith("ConversionUploadError.")]
    assert sorted(listed) == sorted(known)


def test_every_error_of_a_row_finds_its_row_and_leaves_the_others_alone(ads: World) -> None:
    names = [name for found in UPLOAD.values() for name in found if name not in ("UNSPECIFIED", "UNKNOWN")]
    ads.given(ads.action("0"), *[ads.action(name, gclid=f"fate-{name}-1") for name in names], ads.action("9"))
    ads.sync()
    told = {state: sorted(name for name in names if ads.states("google")[name] == state) for state in UPLOAD}
    assert told == {state: sorted(set(found) & set(names)) for state, found in UPLOAD.items()}
    assert {ads.states("google")[name] for name in ("0", "9")} == {"accepted"}
    for row in ads.rows("google"):
        if row["state"] in ("refused", "unmatched", "held", "pending"):
            assert row["external_id"] in row["reason"], "Google's own word"


@pytest.mark.parametrize("name", [*UPLOAD_STOPS, "NotAllowlistedError.CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE"])
def test_what_is_wrong_with_the_account_stops_the_destination_and_costs_no_row_an_attempt(
    ads: World, name: str
) -> None:
    ads.given(ads.action("1", gclid=f"fate-{name}-1"), ads.action("2"))
    summary = ads.sync()
    assert summary.exit_code == Exit.USAGE
    (finding,) = [one for one in summary.findings if one.level == "error"]
    assert finding.code == name.rpartition(".")[2].lower()
    assert finding.advice
    (row,) = [row for row in ads.rows("google") if row["external_id"] == "1"]
    assert (row["state"], row["attempts"]) == ("pending", 0)


@pytest.mark.parametrize("name", TWICE)
def test_what_google_calls_twice_in_a_request_goes_apart_until_it_is_taken_or_alone(ads: World, name: str) -> None:
    ads.given(ads.action("0"), ads.action("1", gclid=f"fate-{name}-1"), ads.action("2"), ads.action("3"))
    ads.sync()
    states = ads.states("google")
    assert {states[number] for number in ("0", "2", "3")} == {"accepted"}
    assert states["1"] in ("accepted", "held")


# -- rows: what the Ads API says of a change

CHANGE = {
    "accepted": words("RESTATEMENT_ALREADY_EXISTS MORE_RECENT_RESTATEMENT_FOUND CONVERSION_ALREADY_ENHANCED"),
    "pending": words("TOO_RECENT_CONVERSION TOO_RECENT_CONVERSION_ACTION CONVERSION_NOT_FOUND"),
    "refused": words(
        "CONVERSION_EXPIRED ADJUSTMENT_PRECEDES_CONVERSION TOO_MANY_ADJUSTMENTS INVALID_USER_IDENTIFIER"
        " UNSUPPORTED_USER_IDENTIFIER GCLID_DATE_TIME_PAIR_AND_ORDER_ID_BOTH_SET MISSING_ORDER_ID_FOR_WEBPAGE"
        " ORDER_ID_CONTAINS_PII CONVERSION_ALREADY_RETRACTED"
    ),
}
CHANGE_STOPS = words(
    "CANNOT_RESTATE_CONVERSION_ACTION_THAT_ALWAYS_USES_DEFAULT_CONVERSION_VALUE CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS"
    " CONVERSION_ACTION_NOT_ELIGIBLE_FOR_ENHANCEMENT CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCEMENT NO_CONVERSION_ACTION_FOUND"
    " INVALID_CONVERSION_ACTION_TYPE INVALID_JOB_ID TOO_MANY_ADJUSTMENTS_IN_REQUEST"
)
CHANGE_OTHER = words("DUPLICATE_ADJUSTMENT_IN_REQUEST DUPLICATE_ENHANCEMENT_IN_REQUEST UNSPECIFIED UNKNOWN")


def test_the_lists_name_every_error_of_a_change_once() -> None:
    listed = [name for names in CHANGE.values() for name in names] + CHANGE_STOPS + CHANGE_OTHER
    prefix = "ConversionAdjustmentUploadError."
    known = [name.removeprefix(prefix) for name in ads_replies.FATES if name.startswith(prefix)]
    assert sorted(listed) == sorted(known)


def order_id(row: dict[str, str]) -> str:
    return f"cs-{row['key']}"


def test_every_error_of_a_change_finds_its_row(ads: World) -> None:
    names = [name for found in CHANGE.values() for name in found]
    actions = [ads.action(name) for name in names]
    ads.given(*actions)
    ads.sync()
    ads.box.config.ads.adjustment_fates = {order_id(row): row["external_id"] for row in ads.rows("google")}
    ads.given(*[one._replace(value=Decimal(5)) for one in actions])
    ads.sync()
    states = {row["external_id"]: row["state"] for row in ads.rows("google") if row["revision"] == 2}
    assert {state: sorted(name for name in names if states[name] == state) for state in CHANGE} == {
        state: sorted(found) for state, found in CHANGE.items()
    }


@pytest.mark.parametrize("name", CHANGE_STOPS)
def test_a_change_that_the_account_forbids_stops_the_destination(ads: World, name: str) -> None:
    ads.given(ads.action("1"))
    ads.sync()
    ads.box.config.ads.adjustment_fates = {"*": name}
    ads.given(ads.action("1", value=Decimal(5)))
    summary = ads.sync()
    assert summary.exit_code == Exit.USAGE
    assert [row["state"] for row in ads.rows("google")] == ["accepted", "pending"]


# -- rows: what Data Manager says half an hour later

LATER = {
    "accepted": words("DUPLICATE_TRANSACTION_ID DUPLICATE_GCLID"),
    "pending": words("TOO_RECENT_CLICK INTERNAL_ERROR"),
    "unmatched": words("CLICK_NOT_FOUND INVALID_CLICK ORIGINAL_CONVERSIONS_NOT_FOUND"),
    "refused": words(
        "INVALID_GCLID INVALID_GBRAID INVALID_WBRAID INVALID_AD_IDENTIFIERS EVENT_TOO_OLD CONVERSION_PRECEDES_CLICK INVALID_EVENT"
        " INVALID_FORMAT INVALID_CUSTOM_VARIABLE INVALID_MERCHANT_ID INVALID_MOBILE_ID_FORMAT DENIED_CONSENT NO_CONSENT"
        " UNKNOWN_CONSENT OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER INVALID_OPERATING_ACCOUNT_FOR_CLICK"
    ),
    "held": words(
        "ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID INSUFFICIENT_MATCHED_TRANSACTIONS INSUFFICIENT_TRANSACTIONS"
        " MATCH_ID_NOT_FOUND EVENT_ID_DECODE_ERROR USER_ID_NOT_FOUND USER_ID_NOT_FOUND_FOR_MATCH_ID USER_ID_NOT_FOUND_FOR_GCLID"
        " USER_ID_NOT_FOUND_FOR_DCLID USER_ID_NOT_FOUND_FOR_IMPRESSION_ID UNSPECIFIED"
    ),
}
LATER_STOPS = words(
    "CUSTOM_VARIABLE_NOT_ENABLED DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED EXTERNAL_ATTRIBUTION_DATA_MISSING"
    " DECRYPTION_ERROR DEK_DECRYPTION_ERROR USER_IDENTIFIER_DECRYPTION_ERROR INVALID_WIP WIP_AUTH_FAILED INVALID_KEK"
    " KEK_PERMISSION_DENIED AWS_AUTH_FAILED"
)


def test_the_lists_name_every_reason_of_a_status_once() -> None:
    assert sorted([name for names in LATER.values() for name in names] + LATER_STOPS) == sorted(replies.FATES)


def test_every_reason_of_a_status_finds_its_row_and_leaves_the_others_confirmed(google: World) -> None:
    names = [name for found in LATER.values() for name in found]
    google.given(
        google.action("0"), *[google.action(name, gclid=f"fate-{name}-1") for name in names], google.action("9")
    )
    google.sync()
    google.settle_everything()
    states = google.states("google")
    assert {state: sorted(name for name in names if states[name] == state) for state in LATER} == {
        state: sorted(found) for state, found in LATER.items()
    }
    assert (states["0"], states["9"]) == ("confirmed", "confirmed")


@pytest.mark.parametrize("name", LATER_STOPS)
def test_a_status_that_is_about_the_account_stops_the_destination_and_its_rows_wait(google: World, name: str) -> None:
    google.given(google.action("1", gclid=f"fate-{name}-1"))
    google.sync()
    summary = google.settle_everything()
    assert summary.exit_code == Exit.USAGE
    assert [(row["state"], row["attempts"]) for row in google.rows("google")] == [("pending", 0)]


# -- the call as a whole

STOPS = words(
    "QuotaError.ACCESS_PROHIBITED AuthenticationError.OAUTH_TOKEN_REVOKED AuthenticationError.NOT_ADS_USER"
    " AuthorizationError.USER_PERMISSION_DENIED AuthorizationError.CUSTOMER_NOT_ENABLED"
    " AuthorizationError.CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION AuthorizationError.ACTION_NOT_PERMITTED"
    " AuthorizationError.PROJECT_DISABLED AuthorizationError.MISSING_TOS AuthorizationError.INCOMPLETE_SIGNUP"
    " AuthorizationError.INVALID_LOGIN_CUSTOMER_ID_SERVING_CUSTOMER_ID_COMBINATION AuthorizationError.SERVICE_ACCESS_DENIED"
    " AuthorizationError.ACCESS_DENIED_FOR_ACCOUNT_TYPE AuthorizationError.METRIC_ACCESS_DENIED"
    " AuthorizationError.CLOUD_PROJECT_NOT_UNDER_ORGANIZATION AuthorizationError.ACTION_NOT_PERMITTED_FOR_SUSPENDED_ACCOUNT"
    " AuthorizationError.AUTHORIZATION_ERROR AuthenticationError.DEVELOPER_TOKEN_INVALID"
    " AuthorizationError.DEVELOPER_TOKEN_NOT_APPROVED HeaderError.INVALID_LOGIN_CUSTOMER_ID HeaderError.INVALID_LINKED_CUSTOMER_ID"
    " RequestError.LOGIN_CUSTOMER_ID_PARAMETER_MISSING RequestError.CLOUD_PROJECT_NOT_FOUND RequestError.UNSUPPORTED_VERSION"
    " PartialFailureError.PARTIAL_FAILURE_MODE_REQUIRED DatabaseError.REQUEST_TOO_LARGE RequestError.BAD_RESOURCE_ID"
    " SERVICE_DISABLED ACCESS_TOKEN_SCOPE_INSUFFICIENT"
)
WAITS = {
    "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED": 5,
    "QuotaError.RESOURCE_EXHAUSTED": 3600,
    "QuotaError.EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION": 3600,
}
DOUBTFUL = words(
    "InternalError.TRANSIENT_ERROR InternalError.INTERNAL_ERROR InternalError.DEADLINE_EXCEEDED"
    " DatabaseError.CONCURRENT_MODIFICATION RequestError.RPC_DEADLINE_TOO_SHORT"
)


@pytest.mark.parametrize("error", STOPS)
def test_a_call_that_is_refused_for_configuration_stops_with_one_finding(ads: World, error: str) -> None:
    ads.box.faults.add(on="ads.clicks", kind="status", error=error, times=None)
    ads.given(ads.action("1"), ads.action("2"))
    summary = ads.sync()
    assert summary.exit_code == Exit.USAGE
    (finding,) = [one for one in summary.findings if one.level == "error"]
    assert finding.advice
    assert {(row["state"], row["attempts"]) for row in ads.rows("google")} == {("pending", 0)}


@pytest.mark.parametrize("dead_answer", ["UNIMPLEMENTED", "UNSUPPORTED_VERSION"])
def test_a_version_that_google_switched_off_is_told_as_such(ads: World, dead_answer: str) -> None:
    ads.box.config.ads.versions, ads.box.config.ads.dead_answer = ["v25"], dead_answer
    ads.given(ads.action("1"))
    summary = ads.sync()
    (finding,) = [one for one in summary.findings if one.level == "error"]
    assert "ads_api_version" in finding.advice
    assert [(row["state"], row["attempts"]) for row in ads.rows("google")] == [("pending", 0)]


@pytest.mark.parametrize(("error", "seconds"), WAITS.items())
def test_a_quota_rests_at_least_so_long_and_then_everything_counts_once(ads: World, error: str, seconds: int) -> None:
    ads.box.faults.add(on="ads.clicks", kind="status", error=error)
    ads.patience = ads.patience._replace(first_wait=5)
    ads.given(ads.action("1"))
    ads.sync()
    ads.clock.advance(seconds - 1)
    assert ads.sync().destinations["google"]["claimed"] == 0
    ads.clock.advance(24 * 3600)
    ads.sync()
    assert [one["count"] for one in ads.conversions().values()] == [1]


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("error", [*DOUBTFUL, None])
def test_a_call_that_may_have_been_applied_is_resent_and_counts_once(
    ads: World, error: str | None, applied: bool
) -> None:
    code = {"code": "DEADLINE_EXCEEDED"} if error is None else {"error": error}
    ads.box.faults.add(on="ads.clicks", kind="status", applied=applied, **code)
    ads.given(ads.action("1"))
    ads.sync()
    ads.sync()
    assert [one["count"] for one in ads.conversions().values()] == [1]
    assert [(row["state"], row["reason"], row["attempts"]) for row in ads.rows("google")] == [("accepted", "", 2)]


@pytest.mark.parametrize(
    ("switch", "value"), [("errors_located", False), ("details", "absent"), ("details", "undecodable")]
)
def test_a_partial_failure_that_names_no_row_leaves_no_row_guessed_at(ads: World, switch: str, value: object) -> None:
    setattr(ads.box.config.ads, switch, value)
    ads.given(ads.action("1"), ads.action("2", gclid="fate-UNPARSEABLE_GCLID-2"))
    ads.sync()
    assert {row["state"] for row in ads.rows("google")} <= {"unknown", "pending"}
    setattr(ads.box.config.ads, switch, True if switch == "errors_located" else "any")
    ads.sync()
    assert ads.states("google") == {"1": "accepted", "2": "refused"}
    assert ads.conversions()["Cj0KCQ-1"]["count"] == 1
