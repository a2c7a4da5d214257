"""The Data Manager route, one HTTP reply at a time: signing in, sending, asking, looking."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
import requests
import responses

from convsync.config.action import GoogleTarget
from convsync.destinations.google import DataManager
from convsync.destinations.google.auth import DATA_MANAGER, quiet
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Action, Answer, Conversion, Finding, OnUnknown, Outcome, Person, Verdict
from convsync.net import Wire

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
INGEST = "https://datamanager.googleapis.com/v1/events:ingest"
STATUS = "https://datamanager.googleapis.com/v1/requestStatus:retrieve"
TOKEN = "https://oauth2.googleapis.com/token"
HOUR = timedelta(hours=1)
LEAD = GoogleTarget(conversion_action="1111111111")


@pytest.fixture
def web() -> Any:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def route(**options: Any) -> DataManager:
    wire = Wire(requests_per_second=1e6, sleep=lambda _: None, clock=lambda: NOW)
    known: dict[str, Any] = {
        "customer_id": "1234567890",
        "client_id": "client",
        "client_secret": "secret",
        "refresh_token": "refresh",
        "wire": wire,
    }
    return DataManager("google", **(known | options))


def grants(web: Any, *tokens: str, scope: str | None = DATA_MANAGER) -> None:
    for token in tokens or ("t1",):
        said = {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
        web.post(TOKEN, json=said | ({"scope": scope} if scope else {}))


def payload(number: int = 1, occurred_at: datetime = NOW - HOUR) -> bytes:
    made = route().convert(Action("shop", str(number), "lead", occurred_at, gclid="Cj0-1"), Person(), LEAD, None)
    assert isinstance(made, Conversion)
    return made.payload


def send(one: DataManager, rows: int = 2) -> Answer:
    return one.send(one.encode([payload(row) for row in range(rows)], "token"), rows)


def fails(status: int, reason: str = "", **metadata: str) -> dict[str, Any]:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}
    return {"status": status, "json": {"error": {"code": status, "message": "No.", "details": [info]}}}


# -- the declared traits -------------------------------------------------------------------------------


def test_what_the_route_declares() -> None:
    one = route(customer_id="123-456-7890")
    assert (one.route, one.platform, one.account) == ("google.data_manager", "google", "1234567890")
    assert (one.on_unknown, one.adjusts, one.snapshots, one.reason_per_row) == (OnUnknown.RESEND, True, False, True)
    assert (one.batch_rows, one.in_flight) == (2000, 4)
    assert (one.max_age, one.adjust_max_age) == (timedelta(days=90), timedelta(days=54))
    assert one.request_seconds >= 2 * one.wire.longest
    assert one.learn({"x": "y"}) == {"x": "y"}
    assert one.merge(b"earlier", b"later") == b"later"


def test_importing_the_route_loads_no_http_client_and_no_google_library() -> None:
    code = (
        "import sys, convsync.destinations.google as g; g.DataManager('g', customer_id='1');"
        "print(sorted({'requests', 'tenacity', 'google.auth', 'google.oauth2', 'grpc'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -- signing in ----------------------------------------------------------------------------------------


def test_one_token_serves_a_run(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r"})
    one = route()
    for _ in range(3):
        send(one)
    calls = [call.request for call in web.calls]
    assert [call.url for call in calls] == [TOKEN, INGEST, INGEST, INGEST]
    assert parse_qs(calls[0].body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["client"],
        "client_secret": ["secret"],
        "refresh_token": ["refresh"],
    }
    assert calls[1].headers["Authorization"] == "Bearer t1"
    assert calls[1].headers["Content-Type"] == "application/json"


def test_threads_that_start_together_share_one_refresh(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r"})
    one = route()
    threads = [threading.Thread(target=send, args=(one,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [call.request.url for call in web.calls].count(TOKEN) == 1
    assert len(web.calls) == 7


def test_a_token_that_is_not_taken_is_renewed_once(web: Any) -> None:
    grants(web, "stale", "fresh")
    web.post(INGEST, **fails(401, "ACCESS_TOKEN_EXPIRED"))
    web.post(INGEST, json={"requestId": "r"})
    assert send(route()).ref == "r"
    assert web.calls[-1].request.headers["Authorization"] == "Bearer fresh"


def test_a_fresh_token_that_is_not_taken_halts(web: Any) -> None:
    grants(web, "stale", "fresh")
    web.post(INGEST, **fails(401))
    with pytest.raises(Halted) as caught:
        send(route())
    assert caught.value.finding.code == "not_signed_in"
    assert len(web.calls) == 4


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ("invalid_grant", "invalid_grant", "seven days"),
        ("invalid_client", "invalid_client", "client_secret"),
        ("deleted_client", "deleted_client", "convsync google login --client-file"),
        ("unauthorized_client", "unauthorized_client", "one client"),
        ("invalid_scope", "invalid_scope", "every box"),
        ("something_new", "sign_in_refused", "Check"),
    ],
)
def test_credentials_that_are_refused_halt_with_advice_and_are_not_tried_again(
    web: Any, error: str, code: str, says: str
) -> None:
    web.post(TOKEN, status=400, json={"error": error, "error_description": "About ivan@example.ru."})
    one = route()
    for _ in range(2):
        with pytest.raises(Halted) as caught:
            send(one)
    finding = caught.value.finding
    assert (finding.code, finding.level, finding.where) == (code, "error", "destinations.google")
    assert says in finding.sentence()
    assert "ivan" not in finding.sentence()
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"status": 500, "body": "oops"},
        {"status": 503, "json": {"error": "x"}},
        {"status": 429, "json": {"error": "rate_limit_exceeded"}},
        {"status": 400, "json": {"error": "temporarily_unavailable"}},
        {"status": 200, "body": "<html>"},
        {"status": 200, "json": []},
        {"body": requests.ReadTimeout()},
        {"body": requests.ConnectionError(ConnectionResetError())},
    ],
)
def test_a_token_endpoint_that_fails_means_that_nothing_was_sent(web: Any, said: dict[str, Any]) -> None:
    web.post(TOKEN, **said)
    with pytest.raises(NotSent):
        send(route())
    assert {call.request.url for call in web.calls} == {TOKEN}


def test_missing_credentials_are_a_finding_and_not_a_crash(web: Any) -> None:
    with pytest.raises(Halted):
        send(route(refresh_token=None))
    assert not web.calls


def test_a_service_account_signs_its_own_grant(web: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "robot@project.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "private_key_id": "1",
        "token_uri": "https://elsewhere.example/token",
    }
    path = tmp_path / "robot.json"
    path.write_bytes(orjson.dumps(account))
    grants(web, scope=None)
    web.post(INGEST, json={"requestId": "r"})
    assert send(route(credentials_file=path, client_id=None, client_secret=None, refresh_token=None)).ref == "r"
    assert b"jwt-bearer" in web.calls[0].request.body


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"private_key": "x", "client_email": "y"}'])
def test_a_key_file_that_cannot_be_used_halts(web: Any, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "robot.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Halted) as caught:
        send(route(credentials_file=path))
    assert caught.value.finding.code == "credentials_file"
    assert str(tmp_path) not in caught.value.finding.sentence()


def test_libraries_that_print_tokens_are_kept_quiet() -> None:
    loud, grpc = logging.getLogger("google"), logging.getLogger("grpc")
    before = loud.level, grpc.level
    try:
        loud.setLevel(logging.DEBUG)
        grpc.setLevel(logging.ERROR)
        quiet()
        assert (loud.level, grpc.level) == (logging.WARNING, logging.ERROR)
    finally:
        loud.setLevel(before[0])
        grpc.setLevel(before[1])


# -- sending -------------------------------------------------------------------------------------------


def test_an_accepted_request_is_to_be_asked_about(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r-1"})
    assert send(route(poll_after=timedelta(minutes=5))) == Answer(Outcome(Verdict.ACCEPTED), ref="r-1", poll_in=300)


def test_what_is_sent_is_what_was_encoded(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r-1"})
    one = route()
    body = one.encode([payload()], "token")
    one.send(body, 1)
    assert web.calls[-1].request.body == body


def test_an_event_of_the_future_is_found_by_us_when_google_names_nothing(web: Any) -> None:
    grants(web)
    web.post(INGEST, **fails(400, "INVALID_ARGUMENT"))
    one = route()
    rows = [payload(1), payload(2, NOW + HOUR), payload(3)]
    answer = one.send(one.encode(rows, ""), 3)
    assert (answer.split, {row: outcome.wait for row, outcome in answer.rows.items()}) == (False, {1: 3660})
    assert answer.default.verdict is Verdict.RETURNED
    assert send(one, 3).split


def test_a_quota_by_the_minute_whose_end_is_near_is_waited_for(web: Any) -> None:
    grants(web)
    limit = {"quota_limit": "IngestionMutateRequestsPerMinutePerProject"}
    web.post(INGEST, **fails(429, "RESOURCE_EXHAUSTED", **limit), headers={"Retry-After": "5"})
    web.post(INGEST, json={"requestId": "r-1"})
    assert send(route()).ref == "r-1"


@pytest.mark.parametrize(("window", "after"), [("Minute", None), ("Minute", "3000"), ("Day", "5")])
def test_any_other_quota_is_left_to_the_ledger(web: Any, window: str, after: str | None) -> None:
    grants(web)
    limit = {"quota_limit": f"IngestionMutateRequestsPer{window}PerProject"}
    web.post(INGEST, **fails(429, "RESOURCE_EXHAUSTED", **limit), headers={"Retry-After": after} if after else {})
    answer = send(route())
    assert answer.default.verdict is Verdict.RETURNED
    assert answer.rest == answer.default.wait
    assert len(web.calls) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_is_unknown_and_sent_once(web: Any, status: int) -> None:
    grants(web)
    web.post(INGEST, **fails(status, "", requestId="req-9"))
    answer = send(route())
    assert answer.default.verdict is Verdict.UNKNOWN
    assert "req-9" in answer.findings[0].message
    assert len(web.calls) == 2


def test_a_lost_answer_is_unclear_and_a_refused_connection_is_not_sent(web: Any) -> None:
    grants(web)
    web.post(INGEST, body=requests.ReadTimeout())
    with pytest.raises(Unclear):
        send(route())
    web.replace("POST", INGEST, body=requests.ConnectTimeout())
    with pytest.raises(NotSent):
        send(route())


# -- asking --------------------------------------------------------------------------------------------


def done(*words: str) -> dict[str, Any]:
    return {"requestStatusPerDestination": [{"requestStatus": word} for word in words]}


def test_a_finished_request_is_told_by_its_id(web: Any) -> None:
    grants(web)
    web.get(STATUS, json=done("SUCCESS", "SUCCESS"))
    answer = route().poll("r/1+2= 3+7", 10, HOUR)
    assert (answer.default.verdict, answer.poll_in) == (Verdict.CONFIRMED, None)
    assert web.calls[-1].request.url.endswith("?requestId=r%2F1%2B2%3D")


def test_a_request_in_processing_is_asked_about_less_and_less_often(web: Any) -> None:
    grants(web)
    web.get(STATUS, json=done("PROCESSING"))
    one = route()
    waits = [one.poll("r", 1, age).poll_in for age in (HOUR / 2, HOUR, 4 * HOUR, 48 * HOUR, 167 * HOUR)]
    assert waits == [1800, 1800, 7200, 21600, 3600]
    late = one.poll("r", 1, 168 * HOUR)
    assert (late.default.verdict, late.poll_in) == (Verdict.ACCEPTED, None)
    assert [(finding.level, finding.code) for finding in late.findings] == [("warning", "no_verdict")]


@pytest.mark.parametrize(
    "said",
    [
        fails(500),
        fails(503),
        {"status": 200, "body": "<html>"},
        {"status": 502, "body": "<html>"},
        {"body": requests.ReadTimeout()},
        {"body": requests.ConnectTimeout()},
    ],
)
def test_a_look_that_fails_changes_nothing(web: Any, said: dict[str, Any]) -> None:
    grants(web)
    web.get(STATUS, **said)
    answer = route().poll("r", 10, HOUR)
    assert (answer.default, dict(answer.rows), answer.poll_in) == (Outcome(Verdict.ACCEPTED), {}, 1800)
    assert answer.halt is None


def test_a_read_quota_is_waited_for_as_long_as_it_asks(web: Any) -> None:
    grants(web)
    web.get(STATUS, **fails(429, "RESOURCE_EXHAUSTED"), headers={"Retry-After": "9000"})
    assert route().poll("r", 10, HOUR).poll_in == 9000


def test_a_stop_of_ours_is_not_taken_for_a_failed_look() -> None:
    one = route()
    one.wire.stop.set()
    with pytest.raises(NotSent):
        one.poll("r", 10, HOUR)


@pytest.mark.parametrize(
    "said", [fails(404, "INVALID_REQUEST_ID"), fails(404, "NOT_FOUND"), fails(400, "INVALID_REQUEST_ID")]
)
def test_a_request_google_does_not_know_yet_is_asked_about_again_and_later_given_up(
    web: Any, said: dict[str, Any]
) -> None:
    grants(web)
    web.get(STATUS, **said)
    assert route().poll("r", 10, HOUR).poll_in == 1800
    late = route().poll("r", 10, 4 * HOUR)
    assert (late.default.verdict, late.poll_in) == (Verdict.ACCEPTED, None)
    assert late.findings[0].code == "status_gone"


def test_a_request_too_old_to_be_told_is_given_up_at_once(web: Any) -> None:
    grants(web)
    web.get(STATUS, **fails(400, "REQUEST_TOO_OLD"))
    answer = route().poll("r", 10, HOUR)
    assert (answer.default.verdict, answer.poll_in, answer.findings[0].code) == (Verdict.ACCEPTED, None, "status_gone")


def test_lost_access_halts_but_leaves_the_rows_accepted(web: Any) -> None:
    grants(web)
    web.get(STATUS, **fails(403, "PERMISSION_DENIED"))
    answer = route().poll("r", 10, HOUR)
    assert (answer.default.verdict, answer.poll_in) == (Verdict.ACCEPTED, 1800)
    assert answer.halt is not None
    assert answer.halt.code == "no_access"


# -- looking ---------------------------------------------------------------------------------------------


def probe(**options: Any) -> list[Finding]:
    targets = [LEAD, LEAD, GoogleTarget(conversion_action="222")]
    return route(targets=targets, **options).probe()


def test_a_look_asks_google_to_validate_and_not_to_store(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r"})
    found = [(finding.level, finding.code) for finding in probe()]
    assert found == [("info", "signed_in"), ("info", "not_readable"), ("info", "validated")]
    body = orjson.loads(web.calls[-1].request.body)
    assert body["validateOnly"] is True
    assert [one["productDestinationId"] for one in body["destinations"]] == ["1111111111", "222"]
    (event,) = body["events"]
    assert event["adIdentifiers"] == {"gclid": "convsync-check"}
    assert datetime.fromisoformat(event["eventTimestamp"]) < NOW


def test_a_look_names_more_than_ten_conversion_actions_in_several_requests(web: Any) -> None:
    grants(web)
    web.post(INGEST, json={"requestId": "r"})
    targets = [GoogleTarget(conversion_action=str(n)) for n in range(23)]
    assert [finding.code for finding in route(targets=targets).probe()][2:] == ["validated"] * 3
    assert len(web.calls) == 4


def test_a_look_without_targets_only_signs_in(web: Any) -> None:
    grants(web)
    assert [finding.code for finding in route().probe()] == ["signed_in", "not_readable"]


def test_a_token_without_the_scope_is_told_before_anything_is_sent(web: Any) -> None:
    grants(web, scope="https://www.googleapis.com/auth/adwords")
    web.post(INGEST, **fails(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"))
    found = probe()
    assert {finding.code for finding in found} == {"scope_missing"}
    assert all("convsync google login" in finding.advice for finding in found)


@pytest.mark.parametrize(
    ("said", "level", "code"),
    [
        (fails(403, "PERMISSION_DENIED"), "error", "no_access"),
        (fails(400, "INVALID_CONVERSION_ACTION_ID"), "error", "request_refused"),
        (fails(404, "NOT_FOUND"), "error", "not_found"),
        (fails(400, "CONVERSION_ACTION_TOO_RECENTLY_CREATED"), "warning", "not_validated"),
        (fails(400, "INVALID_EVENT"), "warning", "not_validated"),
        (fails(503), "warning", "not_validated"),
        ({"body": requests.ConnectTimeout()}, "error", "no_answer"),
    ],
)
def test_what_a_look_finds_is_said_in_words(web: Any, said: dict[str, Any], level: str, code: str) -> None:
    grants(web)
    web.post(INGEST, **said)
    last = probe()[-1]
    assert (last.level, last.code) == (level, code)
    assert last.advice
    assert last.message[-1] in ".:" or "222" in last.message


def test_a_look_with_dead_credentials_says_so(web: Any) -> None:
    web.post(TOKEN, status=400, json={"error": "invalid_grant"})
    assert [finding.code for finding in probe()] == ["invalid_grant"]
