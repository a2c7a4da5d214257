"""The table of Metrica's replies, row by row, read through the real wire, for both routes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
from requests import ConnectionError as CannotConnect
from requests import ReadTimeout

from convsync.destinations.yandex import Conversions, Orders
from convsync.destinations.yandex.metrica import CLIENT_ID_TYPE, REPLIES, Means
from convsync.destinations.yandex.uploadings import STATUSES, Stage
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Answer, Sought, Verdict
from convsync.net import Wire

UPLOAD = "https://api-metrika.yandex.net/cdp/api/v1/counter/12345678/data/simple_orders"
COUNTER = "https://api-metrika.yandex.net/management/v1/counter/12345678"
LAST = "https://api-metrika.yandex.net/cdp/api/v1/counter/12345678/last_uploadings"
BODY = b'--abc\r\nContent-Disposition: form-data; name="file"\r\n\r\nid\n1\n\r\n--abc--\r\n'
NIGHT = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)
PASSED = {"uploading_id": "u-1", "api_validation_status": "PASSED", "elements_count": 2}


@pytest.fixture
def server() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


class Slept(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
def route(slept: Slept) -> Iterator[Orders]:
    wire = Wire(requests_per_second=1000, sleep=slept, clock=lambda: NIGHT)
    made = Orders("yandex", counter_id="12345678", token="secret-token", wire=wire, jitter=lambda low, high: high / 2)
    yield made
    made.close()


def error(kind: str, message: str = "said so") -> dict[str, Any]:
    return {"errors": [{"error_type": kind, "message": message}], "code": 400, "message": message}


def answer(server: responses.RequestsMock, route: Orders, rows: int = 2, **reply: Any) -> Answer:
    server.post(UPLOAD, **reply)
    return route.send(BODY, rows)


# -- refused, and by whom ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["invalid_uploading", "invalid_parameter"])
def test_a_file_with_a_bad_row_is_halved_until_the_row_stands_alone(
    server: responses.RequestsMock, route: Orders, kind: str
) -> None:
    halved = answer(server, route, rows=2, status=400, json=error(kind))
    assert (halved.split, halved.default.verdict) == (True, Verdict.RETURNED)
    alone = route.send(BODY, 1)
    assert (alone.split, alone.default.verdict) == (False, Verdict.REFUSED)
    assert kind in alone.default.reason and "said so" in alone.default.reason


@pytest.mark.parametrize(("status", "kind"), [(400, "too_much_rows"), (413, "")])
def test_what_is_too_large_is_halved_and_halts_when_it_cannot_be(
    server: responses.RequestsMock, route: Orders, status: int, kind: str
) -> None:
    assert answer(server, route, rows=2, status=status, json=error(kind)).split
    assert route.send(BODY, 1).halt


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, "missing_parameter", "newer version"),
        (400, "invalid_json", "newer version"),
        (400, "limit_exceeded", "newer version"),
        (400, "query_error", "newer version"),
        (401, "unauthorized", "new OAuth token"),
        (403, "invalid_token", "new OAuth token"),
        (403, "access_denied", "edit access"),
        (403, "something_new", "proxy"),
        (404, "not_found", "counter_id"),
        (406, "", "newer version"),
        (409, "conflict", "settings"),
        (302, "", "metrica_url"),
    ],
)
def test_what_only_a_person_can_mend_halts_with_advice_and_nothing_is_marked(
    server: responses.RequestsMock, route: Orders, status: int, kind: str, advice: str
) -> None:
    told = answer(server, route, status=status, json=error(kind))
    assert told.default.verdict is Verdict.RETURNED
    assert told.halt and told.halt.level == "error" and advice in told.halt.advice
    assert "12345678" in told.halt.message and "secret-token" not in str(told)


def test_a_refused_file_is_halved_though_the_answer_was_200(server: responses.RequestsMock, route: Orders) -> None:
    failed = {"uploading": {**PASSED, "api_validation_status": "FAILED"}}
    assert answer(server, route, json=failed).split
    alone = route.send(BODY, 1)
    assert alone.default.verdict is Verdict.REFUSED and not alone.split


# -- too often ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [420, 429])
@pytest.mark.parametrize("kind", ["quota_requests_by_ip", "quota_parallel_requests"])
def test_a_short_quota_is_waited_out_on_the_wire(
    server: responses.RequestsMock, route: Orders, slept: Slept, status: int, kind: str
) -> None:
    server.post(UPLOAD, status=status, json=error(kind))
    server.post(UPLOAD, json={"uploading": PASSED})
    assert route.send(BODY, 2).default.verdict is Verdict.ACCEPTED
    assert slept == [15.0]


def test_a_short_quota_that_lasts_is_left_for_later(server: responses.RequestsMock, route: Orders) -> None:
    told = answer(server, route, status=429, json=error("quota_requests_by_ip"))
    assert told.default.verdict is Verdict.LATER
    assert told.default.wait == told.rest == 15.0


def test_a_wish_longer_than_the_wire_waits_is_kept_for_the_ledger(
    server: responses.RequestsMock, route: Orders, slept: Slept
) -> None:
    told = answer(server, route, status=429, json=error("quota_requests_by_ip"), headers={"Retry-After": "300"})
    assert (told.default.wait, slept) == (300.0, [])


@pytest.mark.parametrize("status", [420, 429])
@pytest.mark.parametrize("kind", ["quota_requests_by_uid", "quota_requests_by_counter_id"])
def test_the_quota_of_a_day_rests_until_midnight_in_greenwich(
    server: responses.RequestsMock, route: Orders, slept: Slept, status: int, kind: str
) -> None:
    told = answer(server, route, status=status, json=error(kind))
    assert told.default.verdict is Verdict.LATER
    assert told.rest == told.default.wait == timedelta(hours=2, minutes=30).total_seconds()
    assert told.findings[0].code == "daily_quota" and slept == []


@pytest.mark.parametrize(("headers", "wait"), [({}, None), ({"Retry-After": "40"}, 40.0)])
def test_any_other_quota_waits_as_long_as_it_asks(
    server: responses.RequestsMock, route: Orders, headers: dict[str, str], wait: float | None
) -> None:
    told = answer(server, route, status=429, body="<html>slow down</html>", headers=headers)
    assert (told.default.verdict, told.default.wait) == (Verdict.LATER, wait)


# -- nobody knows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_server_may_have_stored_the_file(server: responses.RequestsMock, route: Orders, status: int) -> None:
    for body in (b'{"errors":[{"error_type":"backend_error"}]}', b"<html>Bad gateway</html>", b""):
        told = answer(server, route, status=status, body=body)
        assert told.default.verdict is Verdict.UNKNOWN and told.halt is None
    assert len(server.calls) == 3


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"uploading": 5}', b'{"upl', b"\xff\xfe", b"null"])
def test_a_success_that_cannot_be_read_is_unknown(server: responses.RequestsMock, route: Orders, body: bytes) -> None:
    assert answer(server, route, body=body).default.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"status": 400, "json": error("brand_new_word")}, Verdict.UNKNOWN),
        ({"status": 400, "body": "<html>"}, Verdict.UNKNOWN),
        ({"status": 418, "body": ""}, Verdict.UNKNOWN),
        ({"status": 599, "body": ""}, Verdict.UNKNOWN),
        ({"status": 425, "body": ""}, Verdict.LATER),
        ({"status": 200, "json": {"uploading": {"api_validation_status": "POSTPONED"}}}, Verdict.UNKNOWN),
    ],
)
def test_a_reply_nobody_documented_is_shown_to_a_person(
    server: responses.RequestsMock, route: Orders, reply: dict[str, Any], verdict: Verdict
) -> None:
    told = answer(server, route, **reply)
    assert told.default.verdict is verdict
    assert told.findings[0].code == "strange_reply"


@pytest.mark.parametrize(
    "errors", [None, [], [None], [{}], "text", [{"error_type": None}], [{"error_type": 5}], {"a": 1}]
)
def test_an_error_of_any_shape_is_read_without_a_stumble(
    server: responses.RequestsMock, route: Orders, errors: object
) -> None:
    assert answer(server, route, status=400, json={"errors": errors}).default.verdict is Verdict.UNKNOWN
    assert answer(server, route, status=403, json={"errors": errors}).halt


def test_what_a_person_left_in_an_error_text_is_not_repeated(server: responses.RequestsMock, route: Orders) -> None:
    told = answer(server, route, rows=1, status=400, json=error("invalid_uploading", "bad e-mail ivan@example.ru"))
    assert "ivan" not in told.default.reason


def test_faults_of_the_wire_come_as_they_are(server: responses.RequestsMock, route: Orders) -> None:
    server.post(UPLOAD, body=ReadTimeout())
    with pytest.raises(Unclear):
        route.send(BODY, 2)


# -- taken -------------------------------------------------------------------------------------------


def test_a_passed_file_is_accepted_for_good_and_nothing_is_asked_later(
    server: responses.RequestsMock, route: Orders
) -> None:
    told = answer(server, route, json={"uploading": PASSED})
    assert (told.default.verdict, told.ref, told.poll_in, told.findings) == (Verdict.ACCEPTED, "u-1", None, ())
    (call,) = server.calls
    assert call.request.url == f"{UPLOAD}?merge_mode=SAVE&delimiter_type=COMMA"
    assert call.request.headers["Authorization"] == "OAuth secret-token"
    assert call.request.headers["Content-Type"] == "multipart/form-data; boundary=abc"
    assert call.request.body == BODY
    polled = route.poll("u-1", 2, timedelta(hours=1))
    assert (polled.default.verdict, polled.poll_in) == (Verdict.ACCEPTED, None)


@pytest.mark.parametrize("counted", [1, 3, 0, "1"])
def test_another_number_of_orders_than_we_sent_is_shown(
    server: responses.RequestsMock, route: Orders, counted: object
) -> None:
    told = answer(server, route, json={"uploading": {**PASSED, "elements_count": counted}})
    assert told.default.verdict is Verdict.ACCEPTED
    assert told.findings[0].code == "elements_count" and "2 orders" in told.findings[0].message


@pytest.mark.parametrize("counted", [2, "2", None])
def test_the_right_number_is_not_worth_a_word(server: responses.RequestsMock, route: Orders, counted: object) -> None:
    assert answer(server, route, json={"uploading": {**PASSED, "elements_count": counted}}).findings == ()


def test_each_line_of_the_table_has_a_meaning_a_person_or_the_ledger_can_use() -> None:
    for meaning in (*REPLIES.values(), *CLIENT_ID_TYPE[True].values(), *CLIENT_ID_TYPE[False].values()):
        if meaning.means in (Means.HALT, Means.TOO_LARGE, Means.TOMORROW):
            assert meaning.message and meaning.advice


# -- the counter -------------------------------------------------------------------------------------


def counter(**told: Any) -> dict[str, Any]:
    return {"counter": {"id": 12345678, "time_zone_name": "Asia/Omsk", "time_zone_offset": 360, **told}}


def test_the_time_zone_is_learned_once_and_remembered(server: responses.RequestsMock, route: Orders) -> None:
    server.get(COUNTER, json=counter())
    known = route.learn({})
    assert known == {"time_zone": "Asia/Omsk"}
    assert route.learn(known) == known
    assert len(server.calls) == 1


def test_a_configured_time_zone_goes_before_a_remembered_one_and_is_not_remembered(slept: Slept) -> None:
    wire = Wire(requests_per_second=1000, sleep=slept)
    route = Orders("yandex", counter_id="1", token="t", counter_timezone="Europe/Moscow", wire=wire)
    payload = b'{"id":"1","created":1793534400,"client_ids":["111111"],"order_status":"PAID"}'
    assert route.learn({"time_zone": "Asia/Omsk"}) == {"time_zone": "Asia/Omsk"}
    assert b" 15:00:00," in route.encode([payload], "")
    assert route.learn({}) == {}


@pytest.mark.parametrize(("minutes", "text", "clock"), [(330, "+05:30", "17:30"), (-210, "-03:30", "08:30")])
def test_an_unknown_time_zone_name_falls_back_to_its_offset(
    server: responses.RequestsMock, route: Orders, minutes: int, text: str, clock: str
) -> None:
    server.get(COUNTER, json=counter(time_zone_name="Mars/Base", time_zone_offset=minutes))
    assert route.learn({}) == {"time_zone": text}
    payload = b'{"id":"1","created":1793534400,"client_ids":["111111"],"order_status":"PAID"}'
    assert f" {clock}:00,".encode() in route.encode([payload], "")


def test_a_counter_without_a_time_zone_halts_with_advice(server: responses.RequestsMock, route: Orders) -> None:
    server.get(COUNTER, json=counter(time_zone_name=None, time_zone_offset=None))
    with pytest.raises(Halted) as stop:
        route.learn({})
    assert "counter_timezone" in stop.value.finding.advice


def test_a_token_that_may_only_upload_hears_how_to_do_without_the_counter(
    server: responses.RequestsMock, route: Orders
) -> None:
    server.get(COUNTER, status=403, json=error("access_denied", "Access is denied."))
    with pytest.raises(Halted) as stop:
        route.learn({})
    assert stop.value.finding.advice.endswith("set `counter_timezone`: then nothing is asked.")
    assert "Access is denied. Give" in stop.value.finding.sentence()


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ({"status": 401, "json": error("unauthorized")}, Halted),
        ({"status": 404, "json": error("not_found")}, Halted),
        ({"status": 400, "json": error("invalid_parameter")}, Halted),
        ({"status": 429, "json": error("quota_requests_by_uid")}, NotSent),
        ({"status": 503, "json": error("backend_error")}, NotSent),
        ({"status": 418, "body": ""}, NotSent),
        ({"status": 200, "body": "<html>"}, NotSent),
        ({"status": 200, "json": []}, NotSent),
        ({"status": 200, "json": {"counter": None}}, NotSent),
        ({"body": ReadTimeout()}, NotSent),
        ({"body": CannotConnect()}, NotSent),
    ],
)
def test_a_question_without_an_answer_halts_or_waits_but_is_never_unclear(
    server: responses.RequestsMock, route: Orders, reply: dict[str, Any], fault: type[Exception]
) -> None:
    server.get(COUNTER, **reply)
    with pytest.raises(fault):
        route.learn({})


# -- check --online ----------------------------------------------------------------------------------


def codes(route: Orders) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in route.probe()]


def test_probing_a_good_counter_tells_zone_and_last_upload(server: responses.RequestsMock, route: Orders) -> None:
    server.get(COUNTER, json=counter(permission="edit"))
    server.get(LAST, json={"uploadings": [{"datetime": "2026-11-20T10:00:00Z", "api_validation_status": "PASSED"}]})
    findings = route.probe()
    assert {finding.level for finding in findings} == {"info"}
    assert "Asia/Omsk" in findings[0].message and "2026-11-20" in findings[1].message


def test_probing_says_that_a_viewer_cannot_upload(server: responses.RequestsMock, route: Orders) -> None:
    server.get(COUNTER, json=counter(permission="view"))
    server.get(LAST, status=403, json=error("access_denied"))
    assert codes(route) == [("error", "no_rights"), ("info", "time_zone"), ("error", "no_rights")]


def test_probing_a_counter_that_is_not_there_gives_one_error(server: responses.RequestsMock, route: Orders) -> None:
    server.get(COUNTER, status=404, json=error("not_found"))
    assert codes(route) == [("error", "no_counter")]


def test_probing_without_an_answer_is_no_error_of_the_configuration(
    server: responses.RequestsMock, route: Orders
) -> None:
    server.get(COUNTER, status=503, json=error("backend_error"))
    assert codes(route) == [("error", "no_answer")]


def test_a_token_that_may_only_upload_is_enough_with_a_configured_zone(server: responses.RequestsMock) -> None:
    wire = Wire(requests_per_second=1000)
    route = Orders("yandex", counter_id="12345678", token="t", counter_timezone="Europe/Moscow", wire=wire)
    server.get(COUNTER, status=403, json=error("access_denied"))
    server.get(LAST, json={"uploadings": []})
    assert codes(route) == [("info", "uploads")]


def test_probing_warns_of_contacts_in_clear(server: responses.RequestsMock) -> None:
    route = Orders("y", counter_id="12345678", token="t", contact_hash="none", wire=Wire(requests_per_second=1000))
    server.get(COUNTER, json=counter(permission="edit"))
    server.get(LAST, json={"uploadings": []})
    assert ("warning", "contacts_in_clear") in codes(route)


def test_probing_names_a_configured_zone_that_is_not_the_counters(server: responses.RequestsMock) -> None:
    wire = Wire(requests_per_second=1000)
    route = Orders("yandex", counter_id="12345678", token="t", counter_timezone="Europe/Moscow", wire=wire)
    server.get(COUNTER, json=counter(permission="edit"))
    server.get(LAST, json={"uploadings": []})
    assert ("warning", "time_zone") in codes(route)


# -- offline conversions -----------------------------------------------------------------------------

OFFLINE = "https://api-metrika.yandex.net/management/v1/counter/12345678/offline_conversions"
TOKEN = "0123456789abcdef01234567"
SOUGHT = Sought(TOKEN, "yclid", 2, NIGHT, frozenset())
ROWS = [
    b'{"kind":"yclid","id":"%d","target":"crm_lead","at":1793534400,"price":"5.00","currency":"RUB"}'
    % (999999 + number)
    for number in range(2)
]
TAKEN = {"id": 7, "create_time": "2026-11-22T21:30:00Z", "status": "UPLOADED", "source_quantity": 2, "line_quantity": 2}


def opened(slept: Slept, **settings: Any) -> Conversions:
    wire = Wire(requests_per_second=1000, sleep=slept, clock=lambda: NIGHT)
    given = {"counter_id": "12345678", "token": "secret-token", "jitter": lambda low, high: high / 2, **settings}
    return Conversions("yandex", wire=wire, **given)


@pytest.fixture
def offline(slept: Slept) -> Iterator[Conversions]:
    made = opened(slept)
    yield made
    made.close()


def upload(server: responses.RequestsMock, route: Conversions, rows: int = 2, **reply: Any) -> Answer:
    server.post(f"{OFFLINE}/upload", **reply)
    return route.send(route.encode(ROWS[:rows], TOKEN), rows)


def looked(server: responses.RequestsMock, route: Conversions, age: timedelta = timedelta(0), **told: Any) -> Answer:
    server.get(f"{OFFLINE}/uploading/7", json={"uploading": {**TAKEN, **told}})
    return route.poll("7", 2, age)


def test_an_upload_names_its_token_and_nothing_of_a_person_in_its_address(
    server: responses.RequestsMock, offline: Conversions
) -> None:
    told = upload(server, offline, json={"uploading": TAKEN})
    assert (told.default.verdict, told.ref, told.poll_in, told.findings) == (Verdict.ACCEPTED, "7", 900.0, ())
    (call,) = server.calls
    assert call.request.url == f"{OFFLINE}/upload?comment={TOKEN}"
    assert call.request.headers["Authorization"] == "OAuth secret-token"
    assert call.request.headers["Content-Type"] == f"multipart/form-data; boundary={TOKEN}"


@pytest.mark.parametrize(
    ("kind", "word"),
    [("yclid", "YCLID"), ("client_id", "CLIENT_ID"), ("user_id", "USER_ID"), ("purchase_id", "PURCHASE_ID")],
)
def test_the_kind_of_id_is_named_only_where_it_is_asked_for(
    server: responses.RequestsMock, slept: Slept, kind: str, word: str
) -> None:
    route = opened(slept, send_client_id_type=True)
    server.post(f"{OFFLINE}/upload", json={"uploading": TAKEN})
    route.send(route.encode([row.replace(b"yclid", kind.encode()) for row in ROWS], TOKEN), 2)
    assert str(server.calls[0].request.url).endswith(f"?comment={TOKEN}&client_id_type={word}")
    route.close()


@pytest.mark.parametrize(("named", "advice"), [(True, "send_client_id_type = true"), (False, "newer version")])
@pytest.mark.parametrize("place", ["message", "location"])
def test_a_missing_parameter_that_is_the_kind_of_id_can_be_mended_by_a_setting(
    server: responses.RequestsMock, offline: Conversions, named: bool, advice: str, place: str
) -> None:
    word = "client_id_type" if named else "something"
    errors = [{"error_type": "missing_parameter", "message": "is required", place: word}]
    told = upload(server, offline, status=400, json={"errors": errors})
    assert told.halt and advice in told.halt.advice and told.default.verdict is Verdict.RETURNED


def test_a_kind_of_id_that_is_not_taken_stops_and_refuses_no_row(server: responses.RequestsMock, slept: Slept) -> None:
    route = opened(slept, send_client_id_type=True)
    told = upload(server, route, rows=1, status=400, json=error("invalid_parameter", "bad client_id_type"))
    assert told.halt and "send_client_id_type" in told.halt.advice and not told.split
    route.close()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_server_may_have_stored_the_conversions(
    server: responses.RequestsMock, offline: Conversions, status: int
) -> None:
    assert upload(server, offline, status=status, json=error("backend_error")).default.verdict is Verdict.UNKNOWN
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"uploading": 5}', b'{"uploading": {}}', b'{"uploading": {"id": "a/b"}}', b"null"]
)
def test_an_upload_without_a_readable_id_is_unknown(
    server: responses.RequestsMock, offline: Conversions, body: bytes
) -> None:
    assert upload(server, offline, body=body).default.verdict is Verdict.UNKNOWN


def test_a_file_of_which_no_row_was_taken_is_refused(server: responses.RequestsMock, offline: Conversions) -> None:
    told = upload(server, offline, json={"uploading": {**TAKEN, "line_quantity": 0}})
    assert (told.default.verdict, told.ref, told.poll_in) == (Verdict.REFUSED, "7", None)
    assert "none of the 2 rows" in told.default.reason


@pytest.mark.parametrize("lines", [1, "1"])
def test_a_file_of_which_a_row_was_dropped_is_held_because_nobody_says_which(
    server: responses.RequestsMock, offline: Conversions, lines: object
) -> None:
    told = upload(server, offline, json={"uploading": {**TAKEN, "line_quantity": lines}})
    assert (told.default.verdict, told.ref, told.poll_in) == (Verdict.STRANDED, "7", None)
    assert "dropped 1 of the 2 rows" in told.default.reason and told.findings[0].code == "rows_dropped"


def test_another_number_of_rows_than_we_sent_is_a_finding(server: responses.RequestsMock, offline: Conversions) -> None:
    told = upload(server, offline, json={"uploading": {**TAKEN, "source_quantity": 3, "line_quantity": 3}})
    assert told.default.verdict is Verdict.ACCEPTED
    assert told.findings[0].code == "source_quantity" and "3 rows in a file of 2" in told.findings[0].message


def test_an_answer_with_nothing_but_an_id_is_enough(server: responses.RequestsMock, offline: Conversions) -> None:
    told = upload(server, offline, json={"uploading": {"id": "7", "line_quantity": None}})
    assert (told.default.verdict, told.ref, told.findings) == (Verdict.ACCEPTED, "7", ())


# -- what became of an upload ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [*(word for word, stage in STATUSES.items() if stage is Stage.WAIT), "NEW_WORD", "", None]
)
def test_an_upload_on_its_way_is_asked_for_again(
    server: responses.RequestsMock, offline: Conversions, status: str | None
) -> None:
    told = looked(server, offline, status=status)
    assert (told.default.verdict, told.poll_in, told.findings) == (Verdict.ACCEPTED, 900.0, ())
    almost = offline.poll("7", 2, timedelta(hours=24) - timedelta(seconds=5))
    assert almost.poll_in == 5.0
    over = offline.poll("7", 2, timedelta(hours=24))
    assert (over.default.verdict, over.poll_in, over.findings[0].code) == (Verdict.ACCEPTED, None, "no_verdict")
    assert (status or "without a status") in over.findings[0].message


@pytest.mark.parametrize("body", ["null", "{}", '{"uploading": null}', '{"uploading": {"id": "x"}}'])
def test_an_upload_that_cannot_be_read_is_asked_for_again(
    server: responses.RequestsMock, offline: Conversions, body: str
) -> None:
    server.get(f"{OFFLINE}/uploading/7", body=body)
    if body == "null":
        with pytest.raises(NotSent):
            offline.poll("7", 2, timedelta(0))
    else:
        assert offline.poll("7", 2, timedelta(0)).poll_in == 900.0


@pytest.mark.parametrize("told", [{}, {"linked_quantity": 2}, {"linked_quantity": 3}, {"linked_quantity": "many"}])
def test_a_processed_upload_is_confirmed(
    server: responses.RequestsMock, offline: Conversions, told: dict[str, Any]
) -> None:
    answer = looked(server, offline, status="PROCESSED", **told)
    assert (answer.default.verdict, answer.default.reason, answer.poll_in) == (Verdict.CONFIRMED, "", None)


def test_a_partly_linked_upload_is_confirmed_with_a_note_on_each_row(
    server: responses.RequestsMock, offline: Conversions
) -> None:
    answer = looked(server, offline, status="PROCESSED", linked_quantity=1, user_not_found_quantity=1)
    assert answer.default.verdict is Verdict.CONFIRMED
    assert answer.default.reason.startswith("partly linked: 1 of 2 rows")
    assert [one.code for one in answer.findings] == ["user_not_found"]
    assert "found no visit; which ones is not told" in answer.findings[0].message


def test_the_rows_that_a_finding_speaks_of_are_found_by_the_number_of_their_upload(
    server: responses.RequestsMock, offline: Conversions
) -> None:
    for linked in (0, 1):
        answer = looked(server, offline, status="PROCESSED", linked_quantity=linked, user_not_found_quantity=2 - linked)
        number = answer.findings[0].advice.rpartition("--reason ")[2]
        assert number and number in answer.default.reason


@pytest.mark.parametrize("told", [{"status": "LINKAGE_FAILURE"}, {"status": "PROCESSED", "linked_quantity": 0}])
def test_an_upload_that_found_nobody_is_unmatched(
    server: responses.RequestsMock, offline: Conversions, told: dict[str, Any]
) -> None:
    answer = looked(server, offline, goal_not_found_quantity=2, **told)
    assert (answer.default.verdict, answer.poll_in) == (Verdict.UNMATCHED, None)
    assert answer.findings[0].code == "goal_not_found" and "convsync yandex goals" in answer.findings[0].advice


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "Metrica found nobody of its file"),
        ({"user_not_found_quantity": 2}, "Metrica found nobody of its file"),
        ({"goal_not_found_quantity": 2}, "no row of its file reached a goal"),
        ({"goal_not_found_quantity": 1, "user_not_found_quantity": 1}, "1 reached no goal, 1 found no visit"),
    ],
)
def test_people_are_not_called_missing_where_the_goal_was(
    server: responses.RequestsMock, offline: Conversions, told: dict[str, Any], why: str
) -> None:
    answer = looked(server, offline, status="PROCESSED", linked_quantity=0, **told)
    assert answer.default.verdict is Verdict.UNMATCHED and why in answer.default.reason


def test_rows_that_are_dropped_later_are_told_as_well(server: responses.RequestsMock, offline: Conversions) -> None:
    answer = looked(server, offline, status="PROCESSED", line_quantity=1)
    assert (answer.default.verdict, answer.findings[0].code) == (Verdict.STRANDED, "rows_dropped")


def test_an_upload_that_metrica_has_forgotten_is_in_doubt_and_a_strange_404_is_not(
    server: responses.RequestsMock, offline: Conversions
) -> None:
    server.get(f"{OFFLINE}/uploading/7", status=404, json=error("not_found"))
    server.get(f"{OFFLINE}/uploading/7", status=404, body="<html>")
    assert offline.poll("7", 2, timedelta(0)).default.verdict is Verdict.UNKNOWN
    with pytest.raises(Halted):
        offline.poll("7", 2, timedelta(0))


# -- found again -------------------------------------------------------------------------------------


def listed(server: responses.RequestsMock, *uploads: dict[str, Any]) -> None:
    query = responses.matchers.query_param_matcher
    server.get(
        f"{OFFLINE}/uploadings", json={"uploadings": list(uploads)}, match=[query({"limit": "1000", "offset": "0"})]
    )
    server.get(
        f"{OFFLINE}/uploadings", json={"uploadings": []}, match=[query({"limit": "1000", "offset": str(len(uploads))})]
    )


@pytest.mark.parametrize("comment", [TOKEN, TOKEN.upper(), f"({TOKEN})", f" {TOKEN[:12]} {TOKEN[12:]} "])
def test_the_token_is_known_however_the_comment_comes_back(
    server: responses.RequestsMock, offline: Conversions, comment: str
) -> None:
    listed(server, {**TAKEN, "comment": "fedcba987654321001234567"}, {**TAKEN, "id": 8, "comment": comment})
    found = offline.find(SOUGHT)
    assert found and (found.ref, found.poll_in, found.default.verdict) == ("8", 900.0, Verdict.ACCEPTED)


def test_what_is_found_is_judged_as_its_answer_would_have_been(
    server: responses.RequestsMock, offline: Conversions
) -> None:
    listed(server, {**TAKEN, "comment": TOKEN, "line_quantity": 0})
    found = offline.find(SOUGHT)
    assert found and found.default.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "told",
    [
        {"comment": "upload of another program"},
        {"source_quantity": 3},
        {"source_quantity": None},
        {"create_time": "2026-11-22T21:20:00Z"},
        {"create_time": "2026-11-22T22:00:00Z"},
        {"create_time": "2026-11-22T21:30:00"},
        {"create_time": None},
    ],
)
def test_an_upload_without_a_token_is_ours_only_if_everything_else_fits(
    server: responses.RequestsMock, offline: Conversions, told: dict[str, Any]
) -> None:
    listed(server, {**TAKEN, "comment": "", **told})
    assert offline.find(SOUGHT) is None


@pytest.mark.parametrize("comment", ["", None, TOKEN[:10]])
def test_the_only_upload_that_fits_is_ours_where_no_tokens_are_kept(
    server: responses.RequestsMock, offline: Conversions, comment: str | None
) -> None:
    listed(server, {**TAKEN, "comment": comment}, {**TAKEN, "id": 8, "comment": "upload of another program"})
    found = offline.find(SOUGHT)
    assert found and found.ref == "7"


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ({"status": 403, "json": error("access_denied")}, Halted),
        ({"status": 404, "json": error("not_found")}, Halted),
        ({"status": 429, "json": error("quota_requests_by_uid")}, NotSent),
        ({"status": 503, "json": error("backend_error")}, NotSent),
        ({"json": {"uploadings": None}}, NotSent),
        ({"body": "<html>"}, NotSent),
        ({"body": ReadTimeout()}, NotSent),
    ],
)
def test_a_list_that_cannot_be_read_is_no_answer_to_whether_it_arrived(
    server: responses.RequestsMock, offline: Conversions, reply: dict[str, Any], fault: type[Exception]
) -> None:
    server.get(f"{OFFLINE}/uploadings", **reply)
    with pytest.raises(fault):
        offline.find(SOUGHT)
