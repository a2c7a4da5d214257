"""Data Manager as the documentation and the field reports tell it."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import GoogleClient


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


PEOPLE = {"userIdentifiers": [{"emailAddress": sha256("a@example.com")}]}


def violations(response: Any) -> list[dict[str, str]]:
    details = response.json()["error"].get("details", [])
    return [v for d in details if d["@type"].endswith("BadRequest") for v in d["fieldViolations"]]


def reason(response: Any) -> str:
    details = response.json()["error"].get("details", [])
    return next((d["reason"] for d in details if d["@type"].endswith("ErrorInfo")), "")


def test_a_request_without_a_token_is_401(google: GoogleClient) -> None:
    google.headers = {}
    assert google.ingest(google.event()).status_code == 401


def test_an_expired_token_is_401_on_the_clock(google: GoogleClient) -> None:
    google.box.clock.advance(3600)
    answer = google.ingest(google.event())
    assert answer.status_code == 401
    assert "invalid_token" in answer.headers["WWW-Authenticate"]


def test_a_token_without_the_datamanager_scope_is_403(google: GoogleClient) -> None:
    google.box.config.google.scopes = ["https://www.googleapis.com/auth/adwords"]
    google.login()
    answer = google.ingest(google.event())
    assert (answer.status_code, reason(answer)) == (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT")


def test_a_revoked_refresh_token_is_invalid_grant(google: GoogleClient) -> None:
    google.box.config.google.refresh_revoked = True
    assert (google.token().status_code, google.token().json()["error"]) == (400, "invalid_grant")
    assert google.token(client_secret="x").json()["error"] == "invalid_client"


def test_a_service_account_gets_the_scopes_it_asks_for(google: GoogleClient) -> None:
    claims = {"iss": "robot@example.iam", "scope": "https://www.googleapis.com/auth/datamanager"}
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    answer = google.token(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=f"e30.{middle}.x")
    assert answer.json()["scope"] == claims["scope"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"gclid": "flat"}, "events[0]"),
        ({"adIdentifiers": {"gclid": "x", "clickId": "y"}}, "events[0].ad_identifiers"),
        (
            {"userData": {"userIdentifiers": [{"hashedEmail": "y"}]}},
            "events[0].user_data.user_identifiers[0]",
        ),
        ({"conversionValue": "1,5"}, "events[0].conversion_value"),
        ({"transactionId": 17}, "events[0].transaction_id"),
        ({"cartData": {"items": [{"price": 1}]}}, "events[0].cart_data.items[0]"),
    ],
)
def test_what_the_schema_does_not_know_refuses_the_request(
    google: GoogleClient, change: dict[str, Any], path: str
) -> None:
    answer = google.ingest(google.event(**change))
    assert answer.status_code == 400
    assert violations(answer)[0]["field"] == path
    assert google.box.books()["google"]["totals"]["conversions"] == 0


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"eventSource": None}, ".event_source", "REQUIRED_FIELD_MISSING"),
        ({"eventSource": "SHOP"}, ".event_source", "INVALID_ENUM_VALUE"),
        ({"eventTimestamp": None}, ".event_timestamp", "REQUIRED_FIELD_MISSING"),
        ({"eventTimestamp": "2026-11-20 10:00:00"}, ".event_timestamp", "EVENT_TIME_INVALID"),
        ({"eventTimestamp": "2026-13-20T10:00:00Z"}, ".event_timestamp", "EVENT_TIME_INVALID"),
        ({"adIdentifiers": None}, "", "NO_IDENTIFIERS_PROVIDED"),
        ({"adIdentifiers": {"gclid": ""}}, "", "NO_IDENTIFIERS_PROVIDED"),
        ({"adIdentifiers": {"gbraid": "a", "wbraid": "b"}}, ".ad_identifiers", "INVALID_EVENT"),
        ({"currency": "rub"}, ".currency", "INVALID_CURRENCY_CODE"),
        ({"transactionId": "12345"}, ".transaction_id", "INVALID_FORMAT"),
        ({"transactionId": "a@example.com"}, ".transaction_id", "INVALID_FORMAT"),
        ({"transactionId": "x" * 513}, ".transaction_id", "FIELD_VALUE_TOO_LONG"),
        ({"destinationReferences": ["x"]}, ".destination_references[0]", "INVALID_DESTINATION"),
        (
            {"customVariables": [{"variable": "nobody", "value": "1"}]},
            ".custom_variables[0].variable",
            "CUSTOM_VARIABLE_NOT_FOUND",
        ),
        (
            {"customVariables": [{"variable": "branch", "value": "a@example.com"}]},
            ".custom_variables[0].value",
            "CUSTOM_VARIABLE_VALUE_CONTAINS_PII",
        ),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_stored(
    google: GoogleClient, change: dict[str, Any], field: str, why: str
) -> None:
    answer = google.ingest(google.event(1), google.event(2, **change))
    assert (answer.status_code, reason(answer)) == (400, why)
    assert violations(answer) == [
        {
            "field": f"events.events[1]{field}",
            "reason": why,
            "description": violations(answer)[0]["description"],
        }
    ]
    assert google.box.books()["google"]["totals"]["conversions"] == 0


@pytest.mark.parametrize(
    ("person", "field", "why"),
    [
        ({"emailAddress": "a@example.com"}, ".email_address", "INVALID_HEX_ENCODING"),
        ({"phoneNumber": "abcd"}, ".phone_number", "INVALID_SHA256_FORMAT"),
        ({}, "", "REQUIRED_FIELD_MISSING"),
        ({"emailAddress": sha256("a"), "phoneNumber": sha256("b")}, "", "INVALID_FORMAT"),
        ({"address": {"givenName": sha256("a")}}, ".address.family_name", "REQUIRED_FIELD_MISSING"),
    ],
)
def test_user_data_must_be_one_hashed_identifier_each(
    google: GoogleClient, person: dict[str, Any], field: str, why: str
) -> None:
    event = google.event(adIdentifiers=None, userData={"userIdentifiers": [person]})
    answer = google.ingest(event, encoding="HEX")
    assert violations(answer)[0]["field"] == f"events.events[0].user_data.user_identifiers[0]{field}"
    assert violations(answer)[0]["reason"] == why


def test_user_data_needs_an_encoding(google: GoogleClient) -> None:
    answer = google.ingest(google.event(userData=PEOPLE))
    assert violations(answer)[0]["field"] == "encoding"
    hashed = base64.b64encode(bytes.fromhex(sha256("a"))).decode()
    people = {"userIdentifiers": [{"emailAddress": hashed}]}
    assert google.ingest(google.event(userData=people), encoding="BASE64").status_code == 200
    assert reason(google.ingest(google.event(userData=PEOPLE), encoding="BASE64")) == "INVALID_SHA256_FORMAT"


def test_more_than_ten_identifiers_are_too_many(google: GoogleClient) -> None:
    people = {"userIdentifiers": [{"emailAddress": sha256(str(i))} for i in range(11)]}
    assert reason(google.ingest(google.event(userData=people), encoding="HEX")) == "TOO_MANY_USER_IDENTIFIERS"


def test_a_time_in_the_future_is_a_400_that_names_nothing(google: GoogleClient) -> None:
    answer = google.ingest(google.event(ago=-3600))
    assert answer.status_code == 400
    assert "details" not in answer.json()["error"]
    google.box.clock.advance(3600)
    google.login()
    assert google.ingest(google.event(ago=0)).status_code == 200


@pytest.mark.parametrize(
    ("mode", "named"),
    [
        ("all", ["events.events[1].currency", "events.events[2].currency"]),
        ("first", ["events.events[1].currency"]),
        ("events[0]", ["events.events[0].currency"]),
        ("none", []),
    ],
)
def test_how_many_rows_a_400_names_is_a_switch(google: GoogleClient, mode: str, named: list[str]) -> None:
    google.box.config.google.violations = mode
    answer = google.ingest(google.event(0), google.event(1, currency="x"), google.event(2, currency="y"))
    assert answer.status_code == 400
    assert [v["field"] for v in violations(answer)] == named


@pytest.mark.parametrize(
    ("changes", "status", "why"),
    [
        ({"action": "4444444444"}, 400, "INVALID_CONVERSION_ACTION_TYPE"),
        ({"action": "5555555555"}, 400, "CONVERSION_ACTION_TOO_RECENTLY_CREATED"),
        ({"action": "7777777777"}, 400, "INVALID_CONVERSION_ACTION_ID"),
        ({"action": "lead"}, 400, "INVALID_CONVERSION_ACTION_ID"),
        ({"action": "6666666666"}, 400, "INVALID_DESTINATION"),
        ({"account": "5550001111"}, 400, "INVALID_DESTINATION"),
        ({"account": "1112223333"}, 403, "PERMISSION_DENIED"),
        ({"account": "123-456-7890"}, 400, "INVALID_FORMAT"),
    ],
)
def test_the_account_must_own_an_upload_action_that_is_old_enough(
    google: GoogleClient, changes: dict[str, str], status: int, why: str
) -> None:
    answer = google.ingest(google.event(), destinations=[google.destination(**changes)])
    assert (answer.status_code, reason(answer)) == (status, why)


def test_a_login_account_must_manage_the_operating_account(google: GoogleClient) -> None:
    def ingest(login: str) -> Any:
        account = {"accountType": "GOOGLE_ADS", "accountId": login}
        return google.ingest(google.event(), destinations=[google.destination(loginAccount=account)])

    assert reason(ingest("9876543210")) == "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH"
    assert ingest("5550001111").status_code == 200
    google.box.config.google.login_account_required = True
    assert google.ingest(google.event()).status_code == 403


def test_a_fresh_action_is_accepted_six_hours_later(google: GoogleClient) -> None:
    google.box.clock.advance(6 * 3600 + 1)
    google.login()
    answer = google.ingest(google.event(), destinations=[google.destination("5555555555")])
    assert answer.status_code == 200


def test_2001_events_and_11_destinations_are_too_many(google: GoogleClient) -> None:
    assert reason(google.ingest(*[google.event(i) for i in range(2001)])) == "TOO_MANY_EVENTS"
    eleven = [google.destination(reference=f"r{i}") for i in range(11)]
    assert reason(google.ingest(google.event(), destinations=eleven)) == "TOO_MANY_DESTINATIONS"
    twice = [google.destination(reference="r"), google.destination("2222222222", reference="r")]
    assert reason(google.ingest(google.event(), destinations=twice)) == "DUPLICATE_DESTINATION_REFERENCE"


def test_validate_only_checks_and_stores_nothing(google: GoogleClient) -> None:
    answer = google.ingest(google.event(transactionId="123"), validateOnly=True)
    assert answer.status_code == 200, "the numeric transactionId is not caught here"
    google.box.clock.advance(60)
    assert reason(google.status(answer.json()["requestId"])) == "INVALID_REQUEST_ID"
    assert google.ingest(google.event(currency="x"), validateOnly=True).status_code == 400
    assert google.box.books()["google"]["totals"]["rows"]["accepted"] == 0


def test_the_same_transaction_again_adjusts_and_never_counts_twice(google: GoogleClient) -> None:
    google.ingest(google.event(), encoding="HEX")
    google.ingest(google.event())
    changed = google.event(conversionValue=7, currency="KZT", adIdentifiers={"gclid": "other"}, userData=PEOPLE)
    google.ingest(changed, encoding="HEX")
    book = google.book()
    assert (book["conversions"], book["rows"], book["value"]) == (1, 3, {"KZT": "7"})
    found = book["transactions"]["cs-1"]
    assert found["values"] == ["100.5", "100.5", "7"]
    assert (found["count"], found["ingests"], found["adjustments"]) == (1, 3, 1)
    assert found["click"] == {"gclid": "click-1"}, "the original click stays"
    assert found["has_user_data"]


def test_without_a_transaction_id_every_ingest_counts(google: GoogleClient) -> None:
    for _ in range(3):
        google.ingest(google.event(transactionId=None))
    assert google.book()["conversions"] == 3


def test_the_same_id_counts_apart_on_another_action(google: GoogleClient) -> None:
    google.ingest(google.event())
    google.ingest(google.event(), destinations=[google.destination("2222222222")])
    assert google.book()["conversions"] == google.book("2222222222")["conversions"] == 1


def test_the_status_is_404_then_processing_then_a_verdict(google: GoogleClient) -> None:
    request_id = google.ingest(google.event()).json()["requestId"]
    assert google.status(request_id).status_code == 404
    google.box.clock.advance(0.6)
    assert google.status(request_id).json()["requestStatusPerDestination"][0]["requestStatus"] == "PROCESSING"
    google.box.clock.advance(2)
    assert google.status(request_id).json()["requestStatusPerDestination"][0]["requestStatus"] == "SUCCESS"


def test_failed_rows_are_told_by_their_place_in_the_request(google: GoogleClient) -> None:
    lost = {"gclid": "fate-CLICK_NOT_FOUND-17"}
    odd = {"wbraid": "fate-SOMETHING_NEW-1"}
    foreign = {"gbraid": "fate-OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER-1"}
    answer = google.ingest(
        google.event(0, adIdentifiers=lost),
        google.event(1),
        google.event(2, adIdentifiers=odd),
        google.event(3, adIdentifiers=lost),
        google.event(4, adIdentifiers=foreign),
    )
    (verdict,) = google.settled(answer)
    assert verdict["requestStatus"] == "PARTIAL_SUCCESS"
    assert verdict["eventsIngestionStatus"]["recordCount"] == "5"
    assert {e["reason"]: e["recordIndices"] for e in verdict["errorInfo"]["errorCounts"]} == {
        "PROCESSING_ERROR_REASON_CLICK_NOT_FOUND": [0, 3],
        "PROCESSING_ERROR_REASON_SOMETHING_NEW": [2],
        "PROCESSING_ERROR_OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER": [4],
    }
    book = google.book()
    assert book["conversions"] == 1
    assert book["transactions"]["cs-0"]["status"] == "CLICK_NOT_FOUND"


def test_events_go_to_the_destinations_they_refer_to(google: GoogleClient) -> None:
    places = [google.destination(reference="a"), google.destination("2222222222", reference="b")]
    lost = {"gclid": "fate-CLICK_NOT_FOUND-1"}
    answer = google.ingest(
        google.event(1, destinationReferences=["a"]),
        google.event(2, destinationReferences=["b"], adIdentifiers=lost),
        google.event(3),
        destinations=places,
    )
    first, second = google.settled(answer)
    assert (first["requestStatus"], second["requestStatus"]) == ("SUCCESS", "PARTIAL_SUCCESS")
    assert second["errorInfo"]["errorCounts"][0]["recordIndices"] == [1]
    assert google.book()["conversions"] == 2
    assert google.book("2222222222")["conversions"] == 1


def test_a_click_that_is_too_recent_is_found_six_hours_later(google: GoogleClient) -> None:
    event = google.event(ago=60, adIdentifiers={"gclid": "fate-TOO_RECENT_CLICK-1"})
    (verdict,) = google.settled(google.ingest(event))
    assert verdict["requestStatus"] == "FAILED"
    google.box.clock.advance(6 * 3600)
    google.login()
    (verdict,) = google.settled(google.ingest(event))
    assert verdict["requestStatus"] == "SUCCESS"
    assert google.book()["conversions"] == 1


def test_an_internal_error_happens_once_for_a_transaction(google: GoogleClient) -> None:
    event = google.event(adIdentifiers={"gclid": "fate-INTERNAL_ERROR-1"})
    assert google.settled(google.ingest(event))[0]["requestStatus"] == "FAILED"
    assert google.settled(google.ingest(event))[0]["requestStatus"] == "SUCCESS"


def test_an_event_older_than_ninety_days_is_too_old(google: GoogleClient) -> None:
    (verdict,) = google.settled(google.ingest(google.event(ago=91 * 86400)))
    assert verdict["errorInfo"]["errorCounts"][0]["reason"].endswith("EVENT_TOO_OLD")


def test_the_shape_of_a_verdict_can_be_switched(google: GoogleClient) -> None:
    switches = google.box.config.google
    lost = google.event(adIdentifiers={"gclid": "fate-CLICK_NOT_FOUND-1"})
    answer = google.ingest(lost)
    switches.failed_word, switches.counts_as_strings, switches.indices_absent = "FAILURE", False, True
    (verdict,) = google.settled(answer)
    assert verdict["requestStatus"] == "FAILURE"
    assert verdict["errorInfo"]["errorCounts"] == [
        {"recordCount": 1, "reason": "PROCESSING_ERROR_REASON_CLICK_NOT_FOUND"}
    ]
    switches.error_counts_absent = True
    assert "errorInfo" not in google.settled(answer)[0]


def test_a_status_is_kept_fifty_days(google: GoogleClient) -> None:
    request_id = google.ingest(google.event()).json()["requestId"]
    google.box.clock.advance(51 * 86400)
    google.login()
    assert reason(google.status(request_id)) == "REQUEST_TOO_OLD"
    assert reason(google.status("never-seen")) == "INVALID_REQUEST_ID"


def test_quotas_tell_minute_from_day_and_reading_from_writing(google: GoogleClient) -> None:
    google.box.config.google.ingest_per_minute = 2
    google.box.config.google.ingest_per_day = 3

    def limit() -> str:
        answer = google.ingest(google.event())
        if answer.status_code == 200:
            return ""
        assert answer.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        return str(answer.json()["error"]["details"][0]["metadata"]["quota_limit"])

    assert [limit() for _ in range(3)] == ["", "", "IngestionMutateRequestsPerMinutePerProject"]
    google.box.clock.advance(60)
    assert [limit() for _ in range(2)] == ["", "IngestionMutateRequestsPerDayPerProject"]
    assert google.status("x").status_code == 404, "reading is counted apart"


def test_a_field_warning_never_blocks(google: GoogleClient) -> None:
    cart = {"items": [{"merchantProductId": "a", "quantity": "3", "unitPrice": 2.5}]}
    answer = google.ingest(google.event(adIdentifiers={"gbraid": "b"}, cartData=cart))
    assert answer.json()["fieldWarnings"][0]["reason"].endswith("CART_DATA_NOT_SUPPORTED_WITH_GBRAID_OR_WBRAID")
    assert google.book()["conversions"] == 1


def test_the_json_mapping_of_protobuf_is_honoured(google: GoogleClient) -> None:
    """snake_case names, nulls and numbers as text mean the same."""
    event = google.event(userData=None)
    event["event_source"] = event.pop("eventSource")
    event["ad_identifiers"] = event.pop("adIdentifiers")
    event |= {"conversionValue": "12.50", "userData": None}
    assert google.ingest(event).status_code == 200
    assert google.book()["transactions"]["cs-1"]["value"] == "12.5"


def test_money_is_counted_without_binary_fractions(google: GoogleClient) -> None:
    google.ingest(*[google.event(i, conversionValue=0.1) for i in range(3)])
    assert google.book()["value"] == {"RUB": "0.3"}


def test_two_thousand_events_are_booked_quickly(google: GoogleClient) -> None:
    events = [google.event(i, userData=PEOPLE) for i in range(2000)]
    google.ingest(*events, encoding="HEX")
    took = min(_timed(google, events) for _ in range(3))
    assert took < 0.5, "usually 0.06 s; generous for a loaded machine"
    assert google.book()["conversions"] == 2000


def _timed(google: GoogleClient, events: list[dict[str, Any]]) -> float:
    started = time.perf_counter()
    assert google.ingest(*events, encoding="HEX").status_code == 200
    return time.perf_counter() - started
