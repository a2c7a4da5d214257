"""The client of Yandex.Direct against a server that answers as the test says: refusals and waits first."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.destinations.yandex import direct
from convsync.destinations.yandex.direct import Direct, DirectRefused, Means
from convsync.errors import ConfigError, Halted, NotSent
from convsync.net import Reply, Wire

TOKEN = "y0_sandbox-token"
TSV = b"Date\tCost\n2026-11-22\t1.00\n"
PARAMS = {"ReportName": "convsync-1", "FieldNames": ["Date", "Cost"]}


class Answer(NamedTuple):
    status: int = 200
    body: bytes = TSV
    headers: Mapping[str, str] = {}


def error(code: object, status: int = 400, *, key: str = "error_code", **headers: str) -> Answer:
    told = {key: code, "request_id": "1", "error_string": "Refused", "error_detail": "about 'secret-name' and a@b.ru"}
    return Answer(status, json.dumps({"error": told}).encode(), headers)


class Server:
    """Answers in their order, the last of them for ever; keeps what was asked."""

    def __init__(self) -> None:
        self.answers = [Answer()]
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if answer.status == 0:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


class Client:
    """A client that waits no time, and the waits it would have had."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.waits: list[float] = []
        self.wire = Wire(requests_per_second=10_000, timeout=5)
        known: dict[str, Any] = {"url": server.url, "rest": self._rest, "wire": self.wire, "token": TOKEN}
        self.direct = Direct("destinations.yandex", **(known | options))

    def _rest(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return self.wire.stop.is_set()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    made = Client(server)
    yield made
    made.wire.close()


# -- what stops it


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (53, "direct_token"),
        ("53", "direct_token"),
        (54, "direct_no_rights"),
        (58, "direct_no_access"),
        (3000, "direct_no_access"),
        (513, "direct_no_login"),
        (8800, "direct_no_login"),
        (8000, "direct_bad_request"),
    ],
)
def test_configuration_and_credentials_stop_it_with_advice(
    server: Server, client: Client, code: object, finding: str
) -> None:
    server.answers = [error(code)]
    with pytest.raises(Halted) as stopped:
        client.direct.report("shop", PARAMS)
    assert (stopped.value.finding.code, stopped.value.finding.level) == (finding, "error")
    assert f"{code} Refused" in stopped.value.finding.message
    assert stopped.value.finding.advice
    assert (client.waits, len(server.asked)) == ([], 1)


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (Answer(401, b""), "direct_token"),
        (Answer(403, b"<html>"), "direct_no_rights"),
        (Answer(404, b"<html>"), "direct_address"),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), "direct_address"),
    ],
)
def test_a_status_counts_where_no_error_is_told(server: Server, client: Client, answer: Answer, finding: str) -> None:
    server.answers = [answer]
    with pytest.raises(Halted) as stopped:
        client.direct.client("")
    assert stopped.value.finding.code == finding


def test_an_error_is_found_under_its_other_name_and_under_a_200(server: Server, client: Client) -> None:
    server.answers = [error(53, key="code")]
    with pytest.raises(Halted, match="direct_token"):
        client.direct.report("shop", PARAMS)
    server.answers = [error(54, status=200)]
    with pytest.raises(Halted, match="direct_no_rights"):
        client.direct.client("shop")


def test_what_nobody_documented_is_told_in_its_words_and_not_repeated(server: Server, client: Client) -> None:
    for code in (4000, "what", None):
        server.answers = [error(code)]
        with pytest.raises(DirectRefused) as refused:
            client.direct.report("shop", PARAMS)
        assert not refused.value.passes
        assert "Refused" in refused.value.message
        assert "secret-name" not in refused.value.message
        assert "a@b.ru" not in refused.value.message
    assert client.waits == []
    server.answers = [Answer(418, b"tea")]
    with pytest.raises(DirectRefused, match="HTTP 418"):
        client.direct.report("shop", PARAMS)


def test_a_report_that_cannot_be_made_online_is_told_with_the_mode_that_can(server: Server) -> None:
    client = Client(server, mode="online")
    server.answers = [error(8312)]
    with pytest.raises(DirectRefused) as refused:
        client.direct.report("shop", PARAMS)
    assert 'direct_mode = "auto"' in refused.value.advice
    client.wire.close()


def test_a_login_or_token_that_no_header_can_carry_is_named_before_anything_is_sent(
    server: Server, client: Client
) -> None:
    with pytest.raises(ConfigError, match="'магазин' is no login"):
        client.direct.client("магазин")
    with pytest.raises(ConfigError, match="blanks or letters no token has") as refused:
        Client(server, token="y0 secret")
    assert "secret" not in str(refused.value)
    assert server.asked == []


def test_an_account_that_nobody_tells_of_is_no_answer(server: Server, client: Client) -> None:
    for body in (b"", b"[]", b'{"result":{"Clients":[]}}', b'{"result":{"Clients":[5]}}', b"<html>"):
        server.answers = [Answer(200, body)]
        with pytest.raises(NotSent, match="no account in the answer"):
            client.direct.client("shop")


# -- what it waits for


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        (56, [10, 20, 40, 80, 160]),
        (506, [10, 20, 40, 80, 160]),
        (9000, [10, 20, 40, 80, 160]),
        (152, [300]),
        (52, [5, 10, 20, 40, 80]),
        (1000, [5, 10, 20, 40, 80]),
        (1002, [5, 10, 20, 40, 80]),
    ],
)
def test_a_limit_is_waited_for_and_then_told_as_something_that_passes(
    server: Server, client: Client, code: int, waits: list[float]
) -> None:
    server.answers = [error(code)]
    with pytest.raises(DirectRefused, match=f"Direct says: {code} Refused") as refused:
        client.direct.report("shop", PARAMS)
    assert refused.value.passes
    assert "Try again later." in refused.value.advice
    assert client.waits == waits
    assert len({body for _, _, body in server.asked}) == 1


def test_a_wait_longer_than_the_patience_is_not_begun(server: Server, client: Client) -> None:
    for answer in (Answer(201, b"", {"retryIn": "3600"}), error(56, retryIn="3600"), error(152, status=400)):
        server.answers = [answer]
        client.waits.clear()
        impatient = Client(server, patience=timedelta(minutes=4), rest=client._rest)
        with pytest.raises(DirectRefused) as refused:
            impatient.direct.report("shop", PARAMS)
        assert refused.value.passes
        assert client.waits == []
        impatient.wire.close()


def test_a_report_that_is_never_ready_ends_with_the_patience_whatever_direct_wishes(server: Server) -> None:
    client = Client(server, patience=timedelta(seconds=60))
    server.answers = [Answer(202, b"", {"retryIn": "0"})]
    with pytest.raises(DirectRefused, match="has not made the report in time") as refused:
        client.direct.report("shop", PARAMS)
    assert refused.value.passes
    assert len(client.waits) == 120, "as many as the limit of requests allows in a minute"
    client.wire.close()


def test_a_server_in_trouble_is_asked_again_and_its_report_taken(server: Server, client: Client) -> None:
    server.answers = [Answer(500, b""), error(1001, 500), Answer(503, b"<html>"), Answer(0), Answer()]
    assert client.direct.report("shop", PARAMS) == TSV
    assert client.waits == [5, 10, 20, 40]


def test_a_connection_that_always_breaks_is_no_answer(server: Server, client: Client) -> None:
    server.answers = [Answer(0)]
    with pytest.raises(NotSent, match="eof"):
        client.direct.report("shop", PARAMS)
    assert len(client.waits) == 5


def test_a_run_that_is_stopped_does_not_go_on_waiting(server: Server) -> None:
    client = Client(server, rest=None)
    server.answers = [Answer(201, b"", {"retryIn": "500"})]
    threading.Timer(0.05, client.wire.stop.set).start()
    with pytest.raises(NotSent, match="interrupted"):
        client.direct.report("shop", PARAMS)
    assert len(server.asked) == 1
    client.wire.close()


def test_too_long_for_the_server_means_fewer_days(server: Server, client: Client) -> None:
    server.answers = [Answer(502, b"<html>")]
    assert client.direct.report("shop", PARAMS) is None
    server.answers = [error(1000, 502)]
    assert client.direct.report("shop", PARAMS) is None
    with pytest.raises(NotSent, match="HTTP 502"):
        client.direct.client("shop")


# -- what it asks and brings


def test_the_request_stays_the_same_until_the_report_is_there(server: Server, client: Client) -> None:
    server.answers = [
        Answer(201, b"", {"retryIn": "3"}),
        Answer(202, b"", {"RetryIn": "7"}),
        Answer(202, b""),
        Answer(),
    ]
    assert client.direct.report("shop", PARAMS) == TSV
    assert client.waits == [3, 7, 10]
    paths, headers, bodies = zip(*server.asked, strict=True)
    assert set(paths) == {"/json/v501/reports"}
    assert len(set(bodies)) == 1
    assert json.loads(bodies[0]) == {"params": PARAMS}
    for one in headers:
        assert (one["authorization"], one["client-login"], one["processingmode"]) == (f"Bearer {TOKEN}", "shop", "auto")
        assert (one["returnmoneyinmicros"], one["skipreportheader"]) == ("false", "true")
        assert (one["skipcolumnheader"], one["skipreportsummary"]) == ("false", "true")


def test_the_account_of_the_token_is_asked_for_without_a_login_and_without_a_name(server: Server) -> None:
    client = Client(server, version="v5")
    told = {"Login": "shop", "Currency": "RUB"}
    server.answers = [Answer(200, json.dumps({"result": {"Clients": [told]}}).encode())]
    assert client.direct.client("") == told
    ((path, headers, body),) = server.asked
    assert path == "/json/v5/clients"
    assert "client-login" not in headers
    assert json.loads(body)["params"]["FieldNames"] == ["ClientId", "Login", "Currency", "Type"]
    client.wire.close()


# -- the table


def test_every_halt_has_a_finding_with_advice_and_every_wait_an_end() -> None:
    for found in (*direct.REPLIES.values(), *direct.STATUSES.values()):
        if found.means is Means.HALT:
            assert found.code
            assert found.message
            assert found.advice
        if found.means is Means.LATER:
            assert found.wait > 0
            assert found.tries > 0


@given(st.integers(100, 599), st.none() | st.integers(0, 10**6))
def test_only_a_plain_200_is_a_report(status: int, code: int | None) -> None:
    found = direct.meaning(status, code)
    assert (found.means is Means.DONE) == (status == 200 and code is None)


@given(st.binary())
def test_whatever_a_body_holds_is_an_error_or_none(body: bytes) -> None:
    assert direct.said(Reply(400, {}, body)) is None or body.lstrip().startswith(b"{")
