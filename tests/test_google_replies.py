"""What Data Manager's replies mean, row by row of the tables: the most dangerous table of this destination, tested alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from convsync.destinations.google.answers import Reader, refusal
from convsync.destinations.google.replies import CALLS, FATES, REASONS, SEVERITY, Means
from convsync.model import Answer, Outcome, Verdict
from convsync.net import Reply

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
READER = Reader("destinations.google", ZoneInfo("America/Los_Angeles"), lambda: NOW)
SIX_HOURS = 6 * 3600


def reply(status: int, body: Any, **headers: str) -> Reply:
    return Reply(status, headers, body if isinstance(body, bytes) else orjson.dumps(body))


def error(
    status: int, reason: str = "", *violations: tuple[str, str, str], message: str = "No.", **metadata: str
) -> Reply:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "datamanager.googleapis.com",
        "metadata": {"requestId": "req-77"} | metadata,
    }
    shown = [{"field": field, "reason": why, "description": text} for field, why, text in violations]
    bad = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": shown}
    return reply(status, {"error": {"code": status, "message": message, "details": [info, bad]}})


def judge(said: Reply, rows: int = 10, ahead: Mapping[int, float] | None = None) -> Answer:
    return READER.judge(said, rows, lambda: ahead or {})


def verdicts(answer: Answer, rows: int = 10) -> list[Verdict]:
    return [answer.rows.get(row, answer.default).verdict for row in range(rows)]


# -- the tables are complete ---------------------------------------------------------------------------

_REFUSED = """
REQUIRED_FIELD_MISSING INVALID_FORMAT INVALID_HEX_ENCODING INVALID_BASE64_ENCODING INVALID_SHA256_FORMAT
INVALID_POSTAL_CODE INVALID_REGION_CODE INVALID_NUMBER_FORMAT INVALID_ENUM_VALUE INVALID_CURRENCY_CODE INVALID_EVENT
EVENT_TIME_INVALID NO_IDENTIFIERS_PROVIDED TOO_MANY_USER_IDENTIFIERS CUSTOM_VARIABLE_VALUE_CONTAINS_PII
INVALID_CUSTOM_VARIABLE_VALUE FIELD_VALUE_TOO_LONG FIELD_VALUE_TOO_SHORT TOO_MANY_ELEMENTS TOO_FEW_ELEMENTS
INVALID_AD_IDENTIFIER_FOR_ACCOUNT INVALID_MERCHANT_ID INVALID_MERCHANT_FEED_LANGUAGE_CODE INVALID_COUPON_CODE
INVALID_MOBILE_ID_FORMAT INVALID_SUBDIVISION_CODE INVALID_SUBCONTINENT_CODE INVALID_CONTINENT_CODE
INVALID_DEVICE_CATEGORY
"""
_HALTS = """
NOT_FOUND PERMISSION_DENIED INVALID_DESTINATION INVALID_CONVERSION_ACTION_ID INVALID_CONVERSION_ACTION_TYPE
DESTINATION_ACCOUNT_NOT_ENABLED_ENHANCED_CONVERSIONS_FOR_LEADS
DESTINATION_ACCOUNT_DATA_POLICY_PROHIBITS_ENHANCED_CONVERSIONS
DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED TERMS_AND_CONDITIONS_NOT_SIGNED NOT_ALLOWLISTED
DESTINATION_ACCOUNT_TYPE_MISMATCH MISMATCHED_ACCOUNT_TYPE OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH
EVENT_SOURCE_AND_DESTINATION_MISMATCH CUSTOM_VARIABLE_NOT_ENABLED CUSTOM_VARIABLE_NOT_FOUND
DUPLICATE_DESTINATION_REFERENCE ACCOUNT_INELIGIBLE_FOR_STORE_SALES THIRD_PARTY_USER_DATA_NOT_ALLOWED
LINKED_ACCOUNT_ONLY_ALLOWED_WITH_DATA_PARTNER_LOGIN_ACCOUNT UNSUPPORTED_OPERATING_ACCOUNT_FOR_DATA_PARTNER
UNSUPPORTED_LINKED_ACCOUNT_FOR_DATA_PARTNER DIFFERENT_LOGIN_ACCOUNTS_NOT_ALLOWED_FOR_DATA_PARTNER
REQUIRED_PREREQUISITE_LINK_MISSING EU_POLITICAL_ADVERTISING_DECLARATION_REQUIRED MULTIPLE_DATA_TYPES_NOT_ALLOWED
"""
REFUSED, HALTS = _REFUSED.split(), _HALTS.split()


def test_the_table_of_reasons_holds_these_and_no_others() -> None:
    others = {
        "TOO_MANY_DESTINATIONS": Means.SPLIT,
        "TOO_MANY_EVENTS": Means.SPLIT,
        "CONVERSION_ACTION_TOO_RECENTLY_CREATED": Means.LATER,
        "RESOURCE_EXHAUSTED": Means.MINUTE_QUOTA,
        "INTERNAL_ERROR": Means.UNKNOWN,
        "DEADLINE_EXCEEDED": Means.UNKNOWN,
        "INVALID_ARGUMENT": Means.UNTOLD,
        "": Means.UNTOLD,
    }
    expected = dict.fromkeys(REFUSED, Means.REFUSED) | dict.fromkeys(HALTS, Means.HALT) | others
    assert {reason: meaning.means for reason, meaning in REASONS.items()} == expected


def test_every_line_says_what_happened_where_it_was_learned_and_if_it_stops_what_to_do() -> None:
    for reason, meaning in REASONS.items():
        assert meaning.sentence, reason
        assert meaning.source.startswith(("CODE", "DOC")), reason
        assert meaning.advice or meaning.means is not Means.HALT, reason
    for call in CALLS:
        assert call.sentence, call
        assert call.source, call
        assert call.advice or call.means is not Means.HALT, call
    for name, fate in FATES.items():
        assert fate.sentence, name
        assert fate.source, name
        assert fate.advice or not fate.level, name
        assert fate.wait or fate.verdict is not Verdict.LATER, name
        assert fate.verdict in SEVERITY, name


# -- 400, by reason ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("field", ["events.events[3].currency", "events[3]", "events[3].user_data.user_identifiers[0]"])
def test_a_row_that_is_named_is_refused_and_the_others_go_again(reason: str, field: str) -> None:
    answer = judge(error(400, reason, (field, reason, "Why it is bad.")))
    assert answer.rows == {3: Outcome(Verdict.REFUSED, f"{reason}: Why it is bad.")}
    assert answer.default.verdict is Verdict.RETURNED
    assert (answer.split, answer.halt, answer.rest) == (False, None, None)
    (finding,) = answer.findings
    assert (finding.level, finding.code) == ("warning", "rows_refused")
    assert "1 of 10" in finding.message
    assert "req-77" in finding.message


@pytest.mark.parametrize("reason", HALTS)
@pytest.mark.parametrize("field", ["destinations[0].product_destination_id", "events.events[3]", ""])
def test_a_fault_of_the_configuration_stops_the_destination_and_burns_no_row(reason: str, field: str) -> None:
    for said in (error(400, "INVALID_ARGUMENT", (field, reason, "Why.")), error(400, reason)):
        answer = judge(said)
        assert verdicts(answer) == [Verdict.RETURNED] * 10
        assert answer.halt is not None
        assert (answer.halt.level, answer.halt.where) == ("error", "destinations.google")
        assert answer.halt.advice
        assert "req-77" in answer.halt.message


@pytest.mark.parametrize(
    "field", ["destinations[0].operating_account", "encoding", "consent.ad_user_data", "encryption_info"]
)
def test_what_is_said_of_the_request_itself_stops_the_destination(field: str) -> None:
    answer = judge(error(400, "INVALID_ARGUMENT", (field, "REQUIRED_FIELD_MISSING", "Missing.")))
    assert answer.halt is not None
    assert answer.default.verdict is Verdict.RETURNED


@pytest.mark.parametrize(
    "text",
    [
        "Invalid JSON payload received. Unknown name \"gclid\" at 'events[3]': Cannot find field.",
        "Invalid value at 'events[3].conversion_value' (TYPE_DOUBLE), \"x\"",
    ],
)
def test_a_field_that_google_does_not_have_is_our_mistake_and_never_a_rows(text: str) -> None:
    for said in (
        error(400, "", ("events[3]", "", text)),
        reply(400, {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}),
    ):
        answer = judge(said)
        assert answer.halt is not None
        assert not answer.rows


def test_several_named_rows_each_have_their_own_reason() -> None:
    answer = judge(
        error(
            400,
            "INVALID_CURRENCY_CODE",
            ("events.events[0].currency", "INVALID_CURRENCY_CODE", "a"),
            ("events.events[7].event_source", "REQUIRED_FIELD_MISSING", "b"),
            ("events.events[7].currency", "INVALID_CURRENCY_CODE", "c"),
            ("events.events[9]", "A_REASON_OF_NEXT_YEAR", "d"),
            ("events.events[12]", "INVALID_EVENT", "beyond the request"),
        )
    )
    assert answer.rows == {
        0: Outcome(Verdict.REFUSED, "INVALID_CURRENCY_CODE: a"),
        7: Outcome(Verdict.REFUSED, "REQUIRED_FIELD_MISSING: b"),
        9: Outcome(Verdict.HELD, "A_REASON_OF_NEXT_YEAR: d"),
    }


@pytest.mark.parametrize("reason", ["", "INVALID_ARGUMENT", "INVALID_CURRENCY_CODE"])
def test_a_request_refused_without_a_row_is_split(reason: str) -> None:
    answer = judge(error(400, reason))
    assert (answer.split, answer.halt, verdicts(answer)) == (True, None, [Verdict.RETURNED] * 10)


@pytest.mark.parametrize("reason", ["", "INVALID_ARGUMENT", "INVALID_CURRENCY_CODE"])
def test_the_first_row_named_alone_is_not_believed_while_others_are_there(reason: str) -> None:
    """Some answers name events[0] whichever row is bad; refusing it would lose an innocent conversion."""
    said = error(400, reason, ("events.events[0]", reason, "Bad."))
    assert (judge(said).split, judge(said).rows) == (True, {})
    alone = judge(said, rows=1)
    assert (alone.split, verdicts(alone, 1)) == (False, [Verdict.REFUSED])


def test_a_row_refused_alone_is_truly_bad() -> None:
    answer = judge(error(400, "INVALID_ARGUMENT", message="Something about ivan@example.ru"), rows=1)
    assert answer.rows == {0: Outcome(Verdict.REFUSED, "INVALID_ARGUMENT: Something about [email]")}
    assert judge(error(400, "NEW_REASON"), rows=1).rows[0].verdict is Verdict.HELD


def test_rows_dated_in_the_future_wait_until_they_are_not() -> None:
    said = error(400, "INVALID_ARGUMENT")
    answer = judge(said, ahead={4: 600.0})
    assert (answer.split, list(answer.rows)) == (False, [4])
    assert (answer.rows[4].verdict, answer.rows[4].wait) == (Verdict.LATER, 660)
    assert answer.default.verdict is Verdict.RETURNED
    alone = judge(said, rows=1, ahead={0: 5.0})
    assert (alone.rows[0].verdict, alone.rows[0].wait) == (Verdict.LATER, 65)


@pytest.mark.parametrize("status", [400, 404])
def test_a_young_conversion_action_is_tried_again_in_six_hours(status: int) -> None:
    answer = judge(error(status, "CONVERSION_ACTION_TOO_RECENTLY_CREATED"))
    assert (answer.default.verdict, answer.default.wait, answer.halt) == (Verdict.LATER, SIX_HOURS, None)
    at = ("destinations[0].product_destination_id", "CONVERSION_ACTION_TOO_RECENTLY_CREATED", "Young.")
    assert judge(error(400, "INVALID_ARGUMENT", at)).default.verdict is Verdict.LATER


@pytest.mark.parametrize("said", [error(400, "TOO_MANY_DESTINATIONS"), error(400, "TOO_MANY_EVENTS"), reply(413, b"")])
def test_what_is_too_much_for_one_request_is_split(said: Reply) -> None:
    assert judge(said).split
    assert judge(said, rows=1).halt is not None


# -- the call (14.1) ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (401, "ACCESS_TOKEN_EXPIRED", "not_signed_in"),
        (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "scope_missing"),
        (403, "SERVICE_DISABLED", "api_disabled"),
        (403, "PERMISSION_DENIED", "no_access"),
        (403, "ANYTHING", "no_access"),
        (404, "NOT_FOUND", "not_found"),
        (404, "", "not_found"),
        (405, "", "unexpected_answer"),
        (307, "", "unexpected_answer"),
    ],
)
def test_credentials_and_configuration_stop_the_destination(status: int, reason: str, code: str) -> None:
    answer = judge(error(status, reason))
    assert answer.halt is not None
    assert (answer.halt.code, answer.default.verdict) == (code, Verdict.RETURNED)
    assert answer.halt.advice


@pytest.mark.parametrize("status", [500, 502, 503, 504, 501, 302, 408, 599])
@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"error": {"status": "INTERNAL"}}'])
def test_whatever_may_have_arrived_is_unknown(status: int, body: bytes) -> None:
    answer = judge(reply(status, body))
    assert verdicts(answer) == [Verdict.UNKNOWN] * 10
    assert answer.halt is None


def test_a_400_that_is_not_googles_refuses_no_row() -> None:
    """A proxy's page would otherwise be bisected until every single row is refused for good."""
    for rows in (10, 1):
        answer = judge(reply(400, b"<html>blocked by policy</html>"), rows=rows)
        assert answer.halt is not None
        assert "not one of Google's" in answer.halt.message
        assert answer.default.verdict is Verdict.RETURNED


@pytest.mark.parametrize(
    ("limit", "after", "wait"),
    [
        ("IngestionMutateRequestsPerMinutePerProject", None, 60),
        ("IngestionMutateRequestsPerMinutePerProject", "7", 60),
        ("IngestionMutateRequestsPerMinutePerProject", "300", 300),
        ("", None, 60),
        ("IngestionMutateRequestsPerDayPerProject", None, 20 * 3600),  # 04:00 in California
        ("IngestionMutateRequestsPerDayPerProject", "90000", 90000),
    ],
)
def test_a_used_up_quota_rests_the_destination_and_stops_nothing(limit: str, after: str | None, wait: float) -> None:
    said = error(429, "RESOURCE_EXHAUSTED", quota_limit=limit)
    answer = judge(said._replace(headers={"Retry-After": after} if after else {}))
    assert (answer.default.verdict, answer.halt) == (Verdict.RETURNED, None)
    assert (answer.default.wait, answer.rest) == (wait, wait)
    assert [finding.code for finding in answer.findings] == (["daily_quota"] if "PerDay" in limit else [])


@pytest.mark.parametrize("status", [420, 425])
def test_what_was_not_processed_by_the_general_table_comes_later(status: int) -> None:
    assert (judge(reply(status, b"")).default.verdict, judge(reply(status, b"")).default.wait) == (Verdict.LATER, 60)


# -- 200 -------------------------------------------------------------------------------------------------


def test_an_accepted_request_is_asked_about_later() -> None:
    answer = READER.accepted(reply(200, {"requestId": "r-1"}), 1800, [])
    assert answer == Answer(Outcome(Verdict.ACCEPTED), ref="r-1", poll_in=1800)
    assert READER.accepted(reply(200, {"requestId": "r-1"}), 1800, [3, 7]).ref == "r-1 3+7"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"requestId": ""}', b'{"requestId": 7}', b"\xff\xfe"])
def test_an_answer_that_cannot_be_read_is_unknown(body: bytes) -> None:
    answer = READER.accepted(reply(200, body), 1800, [])
    assert (answer.default.verdict, answer.ref, answer.poll_in) == (Verdict.UNKNOWN, None, None)


def test_warnings_are_told_and_block_nothing() -> None:
    warnings = [{"reason": "WARNING_REASON_GENERIC", "description": "see ivan@example.ru", "field": "events[0]"}] * 2
    answer = READER.accepted(reply(200, {"requestId": "r", "fieldWarnings": warnings}), 60, [])
    assert answer.default.verdict is Verdict.ACCEPTED
    (finding,) = answer.findings
    assert finding.level == "info"
    assert "2 times of GENERIC: see [email]" in finding.message


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[1]", b'{"error": []}', b'{"error": {"details": [1, {"fieldViolations": 2}]}}']
)
def test_a_refusal_in_any_shape_can_be_read(body: bytes) -> None:
    assert refusal(reply(400, body)).violations == ()


# -- the status (14.3, 14.4) -----------------------------------------------------------------------------

FINAL = {
    Verdict.DUPLICATE: "DUPLICATE_TRANSACTION_ID DUPLICATE_GCLID",
    Verdict.LATER: "TOO_RECENT_CLICK INTERNAL_ERROR",
    Verdict.UNMATCHED: "CLICK_NOT_FOUND INVALID_CLICK ORIGINAL_CONVERSIONS_NOT_FOUND",
    Verdict.REFUSED: """INVALID_GCLID INVALID_GBRAID INVALID_WBRAID INVALID_AD_IDENTIFIERS EVENT_TOO_OLD
        CONVERSION_PRECEDES_CLICK INVALID_EVENT INVALID_FORMAT INVALID_CUSTOM_VARIABLE INVALID_MERCHANT_ID
        INVALID_MOBILE_ID_FORMAT DENIED_CONSENT NO_CONSENT UNKNOWN_CONSENT
        OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER INVALID_OPERATING_ACCOUNT_FOR_CLICK""",
    Verdict.RETURNED: """CUSTOM_VARIABLE_NOT_ENABLED DESTINATION_ACCOUNT_ENHANCED_CONVERSIONS_TERMS_NOT_SIGNED
        EXTERNAL_ATTRIBUTION_DATA_MISSING DECRYPTION_ERROR DEK_DECRYPTION_ERROR USER_IDENTIFIER_DECRYPTION_ERROR
        INVALID_WIP WIP_AUTH_FAILED INVALID_KEK KEK_PERMISSION_DENIED AWS_AUTH_FAILED""",
    Verdict.HELD: """INSUFFICIENT_MATCHED_TRANSACTIONS INSUFFICIENT_TRANSACTIONS MATCH_ID_NOT_FOUND
        EVENT_ID_DECODE_ERROR USER_ID_NOT_FOUND USER_ID_NOT_FOUND_FOR_MATCH_ID USER_ID_NOT_FOUND_FOR_GCLID
        USER_ID_NOT_FOUND_FOR_DCLID USER_ID_NOT_FOUND_FOR_IMPRESSION_ID UNSPECIFIED
        ONE_PER_CLICK_CONVERSION_ACTION_NOT_PERMITTED_WITH_BRAID""",
}
BY_REASON = {reason: verdict for verdict, names in FINAL.items() for reason in names.split()}


def destination(word: str, *errors: tuple[str, Any, Any]) -> dict[str, Any]:
    counts = [
        {"reason": reason, "recordCount": count} | ({} if indices is None else {"recordIndices": indices})
        for reason, count, indices in errors
    ]
    return {
        "requestStatus": word,
        "eventsIngestionStatus": {"recordCount": "10"},
        "errorInfo": {"errorCounts": counts},
    }


def status(*destinations: dict[str, Any], rows: int = 10, routed: tuple[int, ...] = ()) -> Answer | None:
    return READER.status(reply(200, {"requestStatusPerDestination": list(destinations)}), rows, routed)


def settled(*destinations: dict[str, Any], rows: int = 10, routed: tuple[int, ...] = ()) -> list[Verdict]:
    answer = status(*destinations, rows=rows, routed=routed)
    assert answer is not None
    assert answer.poll_in is None
    return verdicts(answer, rows)


C, U, R, N, D = Verdict.CONFIRMED, Verdict.UNKNOWN, Verdict.REFUSED, Verdict.UNMATCHED, Verdict.DUPLICATE


def test_the_table_of_fates_holds_all_reasons_of_the_enum() -> None:
    assert {reason: fate.verdict for reason, fate in FATES.items()} == BY_REASON
    assert len(FATES) == 45


@pytest.mark.parametrize("reason", sorted(BY_REASON))
@pytest.mark.parametrize("prefix", ["PROCESSING_ERROR_REASON_", "PROCESSING_ERROR_", ""])
@pytest.mark.parametrize("indices", [[2], ["2"]])
def test_a_failed_row_gets_what_its_reason_means(reason: str, prefix: str, indices: list[Any]) -> None:
    answer = status(destination("PARTIAL_SUCCESS", (prefix + reason, "1", indices)))
    assert answer is not None
    assert verdicts(answer) == [C, C, BY_REASON[reason], *[C] * 7]
    assert answer.rows[2].reason.startswith(f"{reason}: ")
    assert (answer.halt is not None) is (BY_REASON[reason] is Verdict.RETURNED)


def test_a_reason_nobody_knows_is_held_and_a_person_is_told() -> None:
    answer = status(destination("PARTIAL_SUCCESS", ("PROCESSING_ERROR_REASON_NEXT_YEAR", 1, [0])))
    assert answer is not None
    assert answer.rows[0].verdict is Verdict.HELD
    assert answer.findings[0].code == "new_reason"
    assert "NEXT_YEAR" in answer.findings[0].message


def test_later_says_when() -> None:
    answer = status(destination("PARTIAL_SUCCESS", ("TOO_RECENT_CLICK", 1, [0]), ("INTERNAL_ERROR", 1, [1])))
    assert answer is not None
    assert [answer.rows[row].wait for row in (0, 1)] == [SIX_HOURS, 900]


@pytest.mark.parametrize(
    "said",
    [
        (),
        (destination("PROCESSING"),),
        (destination("REQUEST_STATUS_UNKNOWN"),),
        (destination("SOMETHING_NEW"),),
        ({},),
        (destination("SUCCESS"), destination("PROCESSING")),
    ],
)
def test_as_long_as_google_is_not_done_nothing_is_known(said: tuple[dict[str, Any], ...]) -> None:
    assert status(*said) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"requestStatusPerDestination": {}}'])
def test_a_status_that_cannot_be_read_says_nothing(body: bytes) -> None:
    assert READER.status(reply(200, body), 10, ()) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (destination("SUCCESS"), [C] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 2, [0, 9])), [N, *[C] * 8, N]),
        (
            destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", "1", [0]), ("INVALID_GCLID", "1", ["1"])),
            [N, R, *[C] * 8],
        ),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", None, [0])), [N, *[C] * 9]),
        # Rows that are said to have failed without being named make the others unknown.
        (destination("PARTIAL_SUCCESS"), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 2, None)), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 2, [])), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 3, [0, 1])), [N, N, *[U] * 8]),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 2, [0, 0])), [N, *[U] * 9]),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 1, [10])), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 1, [-1])), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 1, [True])), [U] * 10),
        (destination("PARTIAL_SUCCESS", ("CLICK_NOT_FOUND", 1, ["x"])), [U] * 10),
        (destination("SUCCESS", ("CLICK_NOT_FOUND", 3, [0])), [N, *[U] * 9]),
        (destination("FAILED"), [U] * 10),
        (destination("FAILURE"), [U] * 10),
        (destination("FAILED", ("CLICK_NOT_FOUND", 10, None)), [U] * 10),
        (destination("FAILED", ("CLICK_NOT_FOUND", 2, [0, 1])), [N, N, *[U] * 8]),
        (destination("FAILED", ("CLICK_NOT_FOUND", 10, list(range(10)))), [N] * 10),
        (destination("FAILURE", ("CLICK_NOT_FOUND", "10", list(range(10)))), [N] * 10),
    ],
)
def test_counts_that_do_not_add_up_confirm_nothing(said: dict[str, Any], expected: list[Verdict]) -> None:
    assert settled(said) == expected


def test_positions_count_within_the_request_for_every_destination() -> None:
    good = destination("SUCCESS")
    bad = destination("FAILED", ("CLICK_NOT_FOUND", 2, [1, 3]))
    some = destination("PARTIAL_SUCCESS", ("DUPLICATE_GCLID", 1, [0]))
    assert settled(good, bad, routed=(8, 2)) == [C, N, C, N, *[C] * 6]
    assert settled(some, bad, routed=(8, 2)) == [D, N, C, N, *[C] * 6]
    # A destination that failed altogether and names too few, or whose size is not known, keeps rows to itself.
    assert settled(good, bad, routed=(7, 3)) == [U, N, U, N, *[U] * 6]
    assert settled(good, bad) == [U, N, U, N, *[U] * 6]


def test_a_row_named_twice_gets_the_graver_outcome() -> None:
    for order in (1, -1):
        errors = [("DUPLICATE_GCLID", 1, [0]), ("INVALID_GCLID", 1, [0]), ("TOO_RECENT_CLICK", 1, [0])][::order]
        assert settled(destination("PARTIAL_SUCCESS", *errors))[0] is R


def test_clicks_of_another_account_are_told_only_when_frequent() -> None:
    reason = "PROCESSING_ERROR_OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER"
    rare, frequent = (status(destination("PARTIAL_SUCCESS", (reason, 1, [0])), rows=rows) for rows in (100, 10))
    assert rare is not None
    assert frequent is not None
    assert (rare.findings, [one.code for one in frequent.findings]) == (
        (),
        ["operating_account_mismatch_for_ad_identifier"],
    )


def test_consent_is_a_matter_for_a_person_too() -> None:
    answer = status(destination("PARTIAL_SUCCESS", ("PROCESSING_ERROR_REASON_UNKNOWN_CONSENT", 1, [0])))
    assert answer is not None
    assert "consent_ad_user_data" in answer.findings[0].advice


def test_warnings_of_the_processing_are_told() -> None:
    one = destination("SUCCESS")
    one["warningInfo"] = {"warningCounts": [{"reason": "PROCESSING_WARNING_REASON_INTERNAL_ERROR", "recordCount": "3"}]}
    answer = status(one)
    assert answer is not None
    assert "3 conversions but warns of INTERNAL_ERROR" in answer.findings[0].message
    assert answer.default.verdict is C
