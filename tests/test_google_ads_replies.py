"""What the Google Ads API's replies mean: the tables against the shipped client, and reading by hand-made answers."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.ads.googleads.v26.errors.types.errors import GoogleAdsFailure as WrappedFailure
from google.ads.googleads.v26.services.types.conversion_adjustment_upload_service import (
    UploadConversionAdjustmentsResponse,
)
from google.ads.googleads.v26.services.types.conversion_upload_service import UploadClickConversionsResponse
from hypothesis import given
from hypothesis import strategies as st

from convsync.destinations.google.ads.answers import (
    AdsReader,
    AdsRefused,
    Fault,
    failure_in,
    faults,
    never_left,
    weighed,
)
from convsync.destinations.google.ads.replies import CALLS, CLOSED, FATES, SPLITS, fate_of, meaning_of
from convsync.destinations.google.replies import SEVERITY, Means
from convsync.model import WHOLE, Answer, Group, Outcome, Verdict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
READER = AdsReader("destinations.google", lambda: NOW)
Failure = WrappedFailure.pb()
SIX_HOURS = 6 * 3600
VERSIONS = ("v23", "v24", "v25", "v26")

UPLOAD, ADJUST = "ConversionUploadError", "ConversionAdjustmentUploadError"
RETRACTING = Group("retract", True, (1, 1, 1), (1, 1, 1))


def failed(*errors: tuple[str, str, int, Any], wait: int | None = None) -> Any:
    """A failure of errors given as (field of the oneof, message, number, path): a path is a row, or a list of parts."""
    failure = Failure(request_id="req-1")
    for name, message, number, path in errors:
        error = failure.errors.add(message=message)
        setattr(error.error_code, name, number)
        parts = [("conversions", path)] if isinstance(path, int) else path or []
        for field, index in parts:
            element = error.location.field_path_elements.add(field_name=field)
            if index is not None:
                element.index = index
        if wait is not None:
            error.details.quota_error_details.retry_delay.seconds = wait
    return failure


def error(family: str, value: str, path: Any, message: str = "No.") -> tuple[str, str, int, Any]:
    field = {
        UPLOAD: "conversion_upload_error",
        ADJUST: "conversion_adjustment_upload_error",
        "NotAllowlistedError": "not_allowlisted_error",
        "InternalError": "internal_error",
        "FieldError": "field_error",
        "QuotaError": "quota_error",
        "AuthorizationError": "authorization_error",
        "RequestError": "request_error",
    }[family]
    kind = Failure().errors.add().error_code.DESCRIPTOR.fields_by_name[field].enum_type
    return field, message, kind.values_by_name[value].number, path


def response(rows: int, failure: Any = None, *, kind: Any = UploadClickConversionsResponse) -> Any:
    """As Google writes it: a result for every row, empty for those that failed."""
    answer = kind.pb()(job_id=7)
    named = {fault.row for fault in faults(failure)} if failure is not None else set()
    for row in range(rows):
        result = answer.results.add()
        if row not in named:
            result.conversion_action = "customers/1/conversionActions/2"
    if failure is not None:
        answer.partial_failure_error.code = 3
        answer.partial_failure_error.message = "Multiple errors."
        answer.partial_failure_error.details.add().Pack(failure)
    return answer


def read(said: Any, rows: int = 3, group: Group = WHOLE, *, dry: bool = False) -> Answer:
    return READER.results(said, rows, Failure.FromString, ref="job 7", group=group, dry=dry)


def verdicts(answer: Answer, rows: int = 3) -> list[Verdict]:
    return [answer.rows.get(row, answer.default).verdict for row in range(rows)]


def one(family: str, value: str, group: Group = WHOLE) -> Answer:
    """The answer to three rows of which the second has this error."""
    return read(response(3, failed(error(family, value, 1))), group=group)


# -- the tables are complete ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("family", [UPLOAD, ADJUST])
def test_every_reason_of_a_row_that_the_client_ships_has_a_line(version: str, family: str) -> None:
    name = "conversion_upload_error" if family == UPLOAD else "conversion_adjustment_upload_error"
    module = importlib.import_module(f"google.ads.googleads.{version}.errors.types.{name}")
    shipped = {value.name for value in getattr(getattr(module, f"{family}Enum"), family)}
    assert {code.partition(".")[2] for code in FATES if code.startswith(f"{family}.")} == shipped


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_of_the_tables_is_one_that_some_version_ships(version: str) -> None:
    fields = Failure().errors.add().error_code.DESCRIPTOR.fields
    shipped = {f"{field.enum_type.name}.{name}" for field in fields for name in field.enum_type.values_by_name}
    families = {f"{field.enum_type.name}.*" for field in fields}
    named = {code for code in (*FATES, *CALLS) if "." in code}
    assert named - shipped - families == set()


@pytest.mark.parametrize(
    "family", ["AuthenticationError", "AuthorizationError", "HeaderError", "RequestError", "InternalError"]
)
def test_no_error_of_these_families_is_left_without_a_meaning(family: str) -> None:
    assert meaning_of(f"{family}.A_VALUE_OF_NEXT_YEAR") is not None


def test_every_line_has_a_source_and_a_sentence_and_what_stops_has_advice() -> None:
    for fate in FATES.values():
        assert fate.source and fate.sentence and fate.verdict in SEVERITY
        assert not fate.halts or (fate.level == "error" and fate.advice and fate.verdict is Verdict.RETURNED)
        assert (fate.wait is not None) == (fate.verdict is Verdict.LATER)
    for meaning in CALLS.values():
        assert meaning.source and meaning.sentence
        assert meaning.means is not Means.HALT or (meaning.advice and meaning.sentence.endswith("."))


# -- rows ----------------------------------------------------------------------------------------------

_ROWS = {
    Verdict.DUPLICATE: "ORDER_ID_ALREADY_IN_USE CLICK_CONVERSION_ALREADY_EXISTS CALL_CONVERSION_ALREADY_EXISTS",
    Verdict.LATER: "TOO_RECENT_EVENT TOO_RECENT_CALL TOO_RECENT_CONVERSION_ACTION",
    Verdict.UNMATCHED: "CLICK_NOT_FOUND EVENT_NOT_FOUND CALL_NOT_FOUND",
    Verdict.HELD: "UNSPECIFIED UNKNOWN ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID",
    Verdict.RETURNED: """DUPLICATE_ORDER_ID DUPLICATE_CLICK_CONVERSION_IN_REQUEST DUPLICATE_CALL_CONVERSION_IN_REQUEST
        NO_CONVERSION_ACTION_FOUND INVALID_CONVERSION_ACTION_TYPE CUSTOM_VARIABLE_NOT_ENABLED
        CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCED_CONVERSIONS CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS
        CUSTOMER_NOT_ENABLED_ENHANCED_CONVERSIONS_FOR_LEADS
        EXTERNAL_ATTRIBUTION_DATA_SET_FOR_NON_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION
        EXTERNAL_ATTRIBUTION_DATA_NOT_SET_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION
        ORDER_ID_NOT_PERMITTED_FOR_EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION
        EXTERNALLY_ATTRIBUTED_CONVERSION_ACTION_NOT_PERMITTED_WITH_USER_IDENTIFIER
        TOO_MANY_CONVERSIONS_IN_REQUEST INVALID_JOB_ID""",
}
_CHANGES = {
    Verdict.DUPLICATE: """RESTATEMENT_ALREADY_EXISTS MORE_RECENT_RESTATEMENT_FOUND CONVERSION_ALREADY_ENHANCED
        CONVERSION_ALREADY_RETRACTED""",
    Verdict.LATER: "TOO_RECENT_CONVERSION TOO_RECENT_CONVERSION_ACTION",
    Verdict.UNMATCHED: "CONVERSION_NOT_FOUND",
    Verdict.HELD: "UNSPECIFIED UNKNOWN",
    Verdict.RETURNED: """DUPLICATE_ADJUSTMENT_IN_REQUEST DUPLICATE_ENHANCEMENT_IN_REQUEST
        CANNOT_RESTATE_CONVERSION_ACTION_THAT_ALWAYS_USES_DEFAULT_CONVERSION_VALUE
        CUSTOMER_NOT_ACCEPTED_CUSTOMER_DATA_TERMS CONVERSION_ACTION_NOT_ELIGIBLE_FOR_ENHANCEMENT
        CUSTOMER_DATA_POLICY_PROHIBITS_ENHANCEMENT NO_CONVERSION_ACTION_FOUND INVALID_CONVERSION_ACTION_TYPE
        INVALID_JOB_ID TOO_MANY_ADJUSTMENTS_IN_REQUEST""",
}


@pytest.mark.parametrize(("family", "told"), [(UPLOAD, _ROWS), (ADJUST, _CHANGES)])
def test_what_is_not_done_late_lost_or_stopping_is_refused(family: str, told: dict[Verdict, str]) -> None:
    expected = {name: verdict for verdict, names in told.items() for name in names.split()}
    for code, fate in FATES.items():
        if code.startswith(f"{family}."):
            assert fate.verdict is expected.get(code.partition(".")[2], Verdict.REFUSED), code


def test_a_row_refused_by_google_keeps_its_words() -> None:
    answer = read(
        response(3, failed(error(UPLOAD, "UNPARSEABLE_GCLID", 1, "The imported gclid could not be decoded.")))
    )
    assert verdicts(answer) == [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.ACCEPTED]
    assert answer.rows[1].reason == "UNPARSEABLE_GCLID: The imported gclid could not be decoded."
    assert answer.ref == "job 7"
    assert [note.code for note in answer.findings] == ["rows_refused"]
    assert "req-1" in answer.findings[0].message


def test_the_first_row_is_a_row() -> None:
    answer = read(response(3, failed(error(UPLOAD, "EXPIRED_EVENT", 0))))
    assert verdicts(answer) == [Verdict.REFUSED, Verdict.ACCEPTED, Verdict.ACCEPTED]


def test_a_position_inside_a_row_is_not_a_row() -> None:
    path = [("conversions", 2), ("user_identifiers", 1), ("hashed_email", None)]
    answer = read(response(3, failed(error(UPLOAD, "INVALID_USER_IDENTIFIER", path))))
    assert verdicts(answer) == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REFUSED]


def test_of_several_errors_of_a_row_the_gravest_counts() -> None:
    failure = failed(
        error(UPLOAD, "TOO_RECENT_EVENT", 1),
        error(UPLOAD, "GBRAID_WBRAID_BOTH_SET", 1),
        error(UPLOAD, "CLICK_NOT_FOUND", 1),
    )
    assert read(response(3, failure)).rows[1].reason.startswith("GBRAID_WBRAID_BOTH_SET")


@pytest.mark.parametrize("path", [None, [("conversions", None)], [("user_identifiers", 1)], 3, -1])
def test_an_error_that_names_no_row_leaves_every_row_unknown(path: Any) -> None:
    said = response(3)
    said.partial_failure_error.code = 3
    said.partial_failure_error.details.add().Pack(failed(error(UPLOAD, "UNPARSEABLE_GCLID", path)))
    answer = read(said)
    assert verdicts(answer) == [Verdict.UNKNOWN] * 3
    assert [note.code for note in answer.findings] == ["partly"]


def test_a_partial_failure_that_cannot_be_read_leaves_every_row_unknown() -> None:
    told_nothing, broken, foreign = response(3), response(3), response(3)
    for said in (told_nothing, broken, foreign):
        said.partial_failure_error.code = 3
    broken.partial_failure_error.details.add(
        type_url="type.googleapis.com/google.ads.googleads.v26.errors.GoogleAdsFailure", value=b"\xff\xff\xff"
    )
    foreign.partial_failure_error.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"")
    for said in (told_nothing, broken, foreign):
        assert verdicts(read(said)) == [Verdict.UNKNOWN] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_of_another_version_is_read_all_the_same(version: str) -> None:
    said = response(3)
    said.partial_failure_error.code = 3
    said.partial_failure_error.details.add(
        type_url=f"type.googleapis.com/google.ads.googleads.{version}.errors.GoogleAdsFailure",
        value=failed(error(UPLOAD, "EXPIRED_EVENT", 2)).SerializeToString(),
    )
    said.results[2].Clear()
    assert verdicts(read(said)) == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REFUSED]


def test_a_row_of_which_nothing_is_said_is_unknown() -> None:
    silent, short = response(3), response(2)
    silent.results[1].Clear()
    assert verdicts(read(silent)) == [Verdict.ACCEPTED, Verdict.UNKNOWN, Verdict.ACCEPTED]
    assert verdicts(read(short)) == [Verdict.UNKNOWN] * 3


def test_a_request_that_is_only_looked_at_has_no_results() -> None:
    said = response(0, failed(error(UPLOAD, "EXPIRED_EVENT", 2)))
    assert verdicts(read(said, dry=True)) == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REFUSED]


def test_a_reason_that_nobody_knows_holds_its_row_and_is_shown() -> None:
    answer = read(response(3, failed(("conversion_upload_error", "New!", 4711, 1), ("ad_error", "Odd.", 2, 2))))
    assert verdicts(answer) == [Verdict.ACCEPTED, Verdict.HELD, Verdict.HELD]
    assert answer.rows[1].reason == "4711: New!"
    assert [note.code for note in answer.findings] == ["new_reason", "new_reason"]


def test_an_error_without_a_code_that_we_know_is_held_under_the_name_google_gives() -> None:
    failure = Failure()
    told = failure.errors.add(message="Soon.")
    told.location.field_path_elements.add(field_name="conversions", index=1)
    told.details.unpublished_error_code = "ConversionUploadError.TOO_NEW"
    answer = read(response(3, failure))
    assert (answer.rows[1].verdict, answer.rows[1].reason) == (Verdict.HELD, "TOO_NEW: Soon.")


def test_the_closed_door_stops_the_destination_and_names_the_way_out() -> None:
    answer = one("NotAllowlistedError", "CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE")
    assert verdicts(answer) == [Verdict.ACCEPTED, Verdict.RETURNED, Verdict.ACCEPTED]
    assert answer.halt is not None
    assert 'api = "data_manager"' in answer.halt.advice
    assert "convsync google login" in answer.halt.advice
    assert FATES[CLOSED].halts


def test_a_fault_of_google_is_never_final() -> None:
    answer = one("InternalError", "INTERNAL_ERROR")
    assert answer.rows[1] == Outcome(Verdict.LATER, "InternalError.INTERNAL_ERROR: No.", 900.0)


def test_what_is_wrong_with_the_account_stops_even_when_it_is_said_of_a_row() -> None:
    answer = one("AuthorizationError", "CUSTOMER_NOT_ENABLED")
    assert answer.rows[1].verdict is Verdict.RETURNED
    assert answer.halt is not None


def test_twice_in_a_request_goes_apart_and_alone_it_waits_for_a_person() -> None:
    answer = read(response(3, failed(error(UPLOAD, "DUPLICATE_ORDER_ID", 0), error(UPLOAD, "DUPLICATE_ORDER_ID", 2))))
    assert verdicts(answer) == [Verdict.RETURNED, Verdict.ACCEPTED, Verdict.RETURNED]
    assert answer.split
    assert answer.halt is None
    alone = read(response(1, failed(error(UPLOAD, "DUPLICATE_ORDER_ID", 0))), rows=1)
    assert (verdicts(alone, 1), alone.split) == ([Verdict.HELD], False)
    assert len(SPLITS) == 5


def test_young_clicks_come_again_after_six_hours() -> None:
    assert one(UPLOAD, "TOO_RECENT_EVENT").rows[1].wait == SIX_HOURS


@pytest.mark.parametrize(
    ("age", "verdict", "wait"),
    [
        (timedelta(hours=23, minutes=59), Verdict.LATER, SIX_HOURS),
        (timedelta(hours=24), Verdict.UNMATCHED, None),
        (timedelta(days=40), Verdict.UNMATCHED, None),
    ],
)
def test_a_conversion_not_found_comes_again_for_a_day_and_then_no_more(
    age: timedelta, verdict: Verdict, wait: Any
) -> None:
    taken = int((NOW - age).timestamp())
    answer = one(ADJUST, "CONVERSION_NOT_FOUND", Group("", True, (1, 1, 1), (0, taken, 0)))
    assert (answer.rows[1].verdict, answer.rows[1].wait) == (verdict, wait)


def test_a_retracted_conversion_is_done_for_a_retraction_and_lost_for_a_new_value() -> None:
    assert one(ADJUST, "CONVERSION_ALREADY_RETRACTED", RETRACTING).rows[1].verdict is Verdict.DUPLICATE
    restating = RETRACTING._replace(part="")
    assert one(ADJUST, "CONVERSION_ALREADY_RETRACTED", restating).rows[1].verdict is Verdict.REFUSED


def test_clicks_of_another_account_are_told_when_they_are_many() -> None:
    few = read(response(100, failed(error(UPLOAD, "UNAUTHORIZED_CUSTOMER", 3))), rows=100)
    many = read(response(100, failed(*(error(UPLOAD, "UNAUTHORIZED_CUSTOMER", row) for row in range(5)))), rows=100)
    assert [note.code for note in few.findings] == ["rows_refused"]
    assert [note.code for note in many.findings] == ["unauthorized_customer", "rows_refused"]


def test_changes_are_named_by_their_own_field() -> None:
    path = [("conversion_adjustments", 1), ("adjustment_date_time", None)]
    said = response(3, failed(error(ADJUST, "CONVERSION_EXPIRED", path)), kind=UploadConversionAdjustmentsResponse)
    assert verdicts(read(said)) == [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.ACCEPTED]


def test_what_google_repeats_of_a_row_is_not_kept() -> None:
    message = "The gclid 'Cj0KCQiA7qP9BRCLARIsABDaZzgx' of anna@example.com, +7 916 123-45-67, is bad."
    answer = read(response(3, failed(error(UPLOAD, "UNPARSEABLE_GCLID", 1, message))))
    for text in (answer.rows[1].reason, *(note.sentence() for note in answer.findings)):
        assert not any(secret in text for secret in ("Cj0KCQ", "anna@", "916"))


# -- the call as a whole -------------------------------------------------------------------------------


def refused(*found: Fault) -> Answer:
    return READER.refused(AdsRefused(found))


def test_a_quota_that_names_a_wait_is_obeyed() -> None:
    found = faults(failed(error("QuotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", None), wait=30))
    answer = refused(*found)
    assert (answer.default.verdict, answer.default.wait, answer.rest) == (Verdict.RETURNED, 30, 30)


def test_a_quota_without_a_wait_begins_with_a_short_one() -> None:
    for code in ("QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", "RESOURCE_EXHAUSTED"):
        answer = refused(Fault(code, ""))
        assert (answer.default.verdict, answer.default.wait, answer.rest) == (Verdict.RETURNED, 5, 5)


def test_the_operations_of_a_day_rest_for_hours_and_are_told() -> None:
    answer = refused(Fault("QuotaError.RESOURCE_EXHAUSTED", "", wait=2.5))
    assert answer.default.verdict is Verdict.RETURNED
    assert answer.rest is not None and answer.rest >= 3600
    assert [note.code for note in answer.findings] == ["daily_quota"]


def test_a_refusal_that_nobody_knows_is_unknown_and_shown() -> None:
    answer = refused(Fault("AdError.SOMETHING", "No."))
    assert answer.default == Outcome(Verdict.UNKNOWN, "AdError.SOMETHING: No.")
    assert [note.code for note in answer.findings] == ["new_reason"]


def test_configuration_outweighs_every_other_error_of_a_call() -> None:
    found = faults(
        failed(
            error("QuotaError", "RESOURCE_EXHAUSTED", None),
            error("InternalError", "TRANSIENT_ERROR", None),
            error("AuthorizationError", "USER_PERMISSION_DENIED", None),
        )
    )
    fault, meaning = weighed(found)
    assert fault.code == "AuthorizationError.USER_PERMISSION_DENIED"
    assert meaning is not None and meaning.means is Means.HALT


@pytest.mark.parametrize(
    ("code", "means"),
    [
        ("AuthenticationError.OAUTH_TOKEN_EXPIRED", Means.HALT),
        ("AuthorizationError.CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION", Means.HALT),
        ("HeaderError.INVALID_LINKED_CUSTOMER_ID", Means.HALT),
        ("RequestError.UNSUPPORTED_VERSION", Means.HALT),
        ("RequestError.RPC_DEADLINE_TOO_SHORT", Means.UNKNOWN),
        ("RequestError.OPERATION_REQUIRED", Means.HALT),
        ("PartialFailureError.PARTIAL_FAILURE_MODE_REQUIRED", Means.HALT),
        ("DatabaseError.CONCURRENT_MODIFICATION", Means.UNKNOWN),
        ("DatabaseError.REQUEST_TOO_LARGE", Means.SPLIT),
        ("InternalError.TRANSIENT_ERROR", Means.UNKNOWN),
        ("QuotaError.ACCESS_PROHIBITED", Means.HALT),
        ("QuotaError.EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION", Means.DAY_QUOTA),
        ("UNIMPLEMENTED", Means.HALT),
        ("UNAVAILABLE", Means.UNKNOWN),
        ("DEADLINE_EXCEEDED", Means.UNKNOWN),
        ("INTERNAL", Means.UNKNOWN),
    ],
)
def test_what_a_failed_call_means(code: str, means: Means) -> None:
    meaning = meaning_of(code)
    assert meaning is not None and meaning.means is means


def test_words_that_are_about_one_call_alone_mean_nothing_here() -> None:
    assert meaning_of("QueryError.UNRECOGNIZED_FIELD") is None
    assert meaning_of("INVALID_ARGUMENT") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_failure_of_a_call_is_found_whatever_version_wrote_it(version: str) -> None:
    failure = failed(error("RequestError", "UNSUPPORTED_VERSION", None))
    key = f"google.ads.googleads.{version}.errors.googleadsfailure-bin"
    found = failure_in([("request-id", "x"), (key, failure.SerializeToString())], Failure.FromString)
    assert found == failure
    assert failure_in([(key, b"\xff")], Failure.FromString) is None
    assert failure_in([("request-id", "x")], Failure.FromString) is None


@pytest.mark.parametrize(
    ("details", "word"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused", "connection refused"),
        ("errors resolving nowhere.invalid:443: [field:hostname lookup error:address lookup failed]", "dns"),
        ("DNS resolution failed for nowhere.invalid:443: C-ares status is not ARES_SUCCESS", "dns"),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:443: Tls handshake failed: SSL_ERROR_SSL", "tls"),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:443: connection attempt timed out before receiving SETTINGS frame", "connect_timeout"),
        ("failed to connect to all addresses; last error: something new", "unreachable"),
        ("Socket closed", None),
        ("Connection reset by peer", None),
        ("GOAWAY received", None),
        ("", None),
    ],
)  # fmt: skip
def test_only_what_found_no_connection_never_left(details: str, word: str | None) -> None:
    assert never_left(details) == word


@given(st.text(max_size=40))
def test_any_name_of_an_error_has_a_fate(code: str) -> None:
    assert fate_of(code).verdict in SEVERITY
