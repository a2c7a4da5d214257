"""Signing in as a person: what is asked, which answer is believed, what becomes of each reply of the token endpoint."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from convsync.destinations.google.auth import DATA_MANAGER, SAID
from convsync.destinations.google.login import (
    ADWORDS,
    REFUSED,
    SCOPES,
    Client,
    Consent,
    Grant,
    Listener,
    LoginRefused,
    NotOurs,
    enough,
    exchange,
    query_of,
    shortcomings,
)
from convsync.errors import Exit, PlatformUnavailable
from convsync.net import Wire

AUTH = "https://accounts.example/auth"
TOKEN = "https://token.example/token"
HOME = "http://127.0.0.1:5000/"
CANARY = "4/0canary-code-1234567890"
CLIENT = Client("client-1", "canary-secret-1")


@pytest.fixture
def consent() -> Consent:
    return Consent(AUTH, "client-1", HOME)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(requests_per_second=1000, sleep=lambda seconds: None)
    yield made
    made.close()


def asked(consent: Consent) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(consent.address).query).items()}


def answer(consent: Consent, **said: str) -> str:
    return urlencode({"state": asked(consent)["state"], **said})


# -- the question


def test_two_questions_share_neither_state_nor_verifier() -> None:
    first, second = Consent(AUTH, "c", HOME), Consent(AUTH, "c", HOME)
    assert asked(first)["state"] != asked(second)["state"]
    assert first.verifier != second.verifier


def test_the_question_shows_the_hash_of_the_verifier_and_not_the_verifier(consent: Consent) -> None:
    digest = hashlib.sha256(consent.verifier.encode()).digest()
    told = asked(consent)
    assert told["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert told["code_challenge_method"] == "S256"
    assert consent.verifier not in consent.address
    assert 43 <= len(consent.verifier) <= 128


def test_the_question_asks_for_both_scopes_and_for_a_token_that_lasts(consent: Consent) -> None:
    told = asked(consent)
    assert told["scope"].split() == [DATA_MANAGER, ADWORDS] == list(SCOPES)
    assert (told["access_type"], told["prompt"], told["response_type"]) == ("offline", "consent", "code")
    assert (told["client_id"], told["redirect_uri"]) == ("client-1", HOME)


# -- the answer


@pytest.mark.parametrize(
    "query", ["", "code=x", "code=x&state=", "code=x&state=other", "error=access_denied&state=other"]
)
def test_an_answer_without_our_state_is_not_ours(consent: Consent, query: str) -> None:
    with pytest.raises(NotOurs):
        consent.code(query)


def test_an_answer_with_two_states_is_not_ours(consent: Consent) -> None:
    with pytest.raises(NotOurs):
        consent.code(answer(consent, code="x") + "&state=other")


@given(st.text())
def test_no_text_is_taken_for_an_answer(text: str) -> None:
    with pytest.raises(NotOurs):
        Consent(AUTH, "c", HOME).code(query_of(text))


@pytest.mark.parametrize("word", ["access_denied", "admin_policy_enforced", "org_internal"])
def test_a_no_is_told_with_what_to_do(consent: Consent, word: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        consent.code(answer(consent, error=word))
    assert (caught.value.message, caught.value.advice) == REFUSED[word]
    assert caught.value.exit_code == Exit.USAGE


def test_a_no_that_nobody_knows_is_told_without_what_it_may_hide(consent: Consent) -> None:
    with pytest.raises(LoginRefused) as caught:
        consent.code(answer(consent, error="no way, anna@example.com"))
    assert "no way" in str(caught.value)
    assert "anna@" not in str(caught.value)


def test_an_answer_that_is_ours_but_holds_nothing_is_refused(consent: Consent) -> None:
    with pytest.raises(LoginRefused, match="holds no code"):
        consent.code(answer(consent))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1))
def test_a_code_comes_through_as_it_is(code: str) -> None:
    consent = Consent(AUTH, "c", HOME)
    assert consent.code(f"state={asked(consent)['state']}&scope=a+b&code={quote(code, safe='')}") == code


@pytest.mark.parametrize(
    "pasted",
    [
        "http://127.0.0.1:5000/?{}",
        "127.0.0.1:5000/?{}",
        "?{}",
        "{}",
        "  http://127.0.0.1:5000/?{} \n",
        "http://127.0.0.1:5000/?{}#",
    ],
)
def test_a_pasted_address_is_read_whatever_the_browser_shows_of_it(consent: Consent, pasted: str) -> None:
    assert consent.code(query_of(pasted.format(answer(consent, code=CANARY)))) == CANARY


def test_a_pasted_address_that_the_terminal_broke_is_put_together(consent: Consent) -> None:
    whole = f"{HOME}?{answer(consent, code=CANARY)}"
    assert consent.code(query_of(f"{whole[:60]}\n {whole[60:]}")) == CANARY


# -- the loopback port


class Waiting:
    """A listener that waits in a thread, and what came of it."""

    def __init__(self, listener: Listener) -> None:
        self.url = f"http://127.0.0.1:{listener.port}/"
        self.consent = Consent(AUTH, "c", self.url)
        self.result: str | BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(listener,))
        self.thread.start()
        self.session = requests.Session()
        self.session.trust_env = False

    def _run(self, listener: Listener) -> None:
        try:
            self.result = listener.wait(self.consent, 30)
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.result = error

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=10)

    def ended(self) -> str | BaseException | None:
        self.thread.join(10)
        self.session.close()
        assert not self.thread.is_alive()
        return self.result


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with Listener() as listener:
        yield Waiting(listener)


def test_nobody_answers_and_the_waiting_ends(consent: Consent) -> None:
    with Listener() as listener, pytest.raises(TimeoutError):
        listener.wait(consent, 0)


def test_a_port_that_is_taken_is_an_error_of_the_system() -> None:
    with Listener() as listener, pytest.raises(OSError, match="in use"):
        Listener(listener.port)


def test_the_port_is_open_to_this_machine_alone() -> None:
    with Listener() as listener:
        assert listener._server.server_address[0] == "127.0.0.1"


def test_strangers_and_spare_connections_are_waited_past(waiting: Waiting) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(waiting.url).port or 0)) as silent:
        assert waiting.get("favicon.ico").status_code == 404
        assert waiting.get(f"?code={CANARY}&state=stolen").status_code == 400
        assert waiting.get("").status_code == 400
        assert waiting.session.post(waiting.url, data="x").status_code == 501
        assert waiting.get("?" + answer(waiting.consent, code=CANARY)).status_code == 200
        assert waiting.ended() == CANARY
        silent.shutdown(socket.SHUT_RDWR)


def test_a_no_ends_the_waiting(waiting: Waiting) -> None:
    page = waiting.get("?" + answer(waiting.consent, error="access_denied"))
    assert "Not signed in" in page.text
    assert isinstance(waiting.ended(), LoginRefused)


def test_a_browser_that_does_not_wait_for_the_page_has_answered(waiting: Waiting) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(waiting.url).port or 0)) as hasty:
        hasty.sendall(f"GET /?{answer(waiting.consent, code=CANARY)} HTTP/1.0\r\n\r\n".encode())
    assert waiting.ended() == CANARY


def test_the_page_of_the_browser_needs_nothing_from_anywhere(waiting: Waiting) -> None:
    page = waiting.get("?" + answer(waiting.consent, code=CANARY))
    assert "You can close this window" in page.text
    assert "http" not in page.text
    assert CANARY not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    waiting.ended()


def test_what_the_listener_is_asked_is_printed_nowhere(waiting: Waiting, capfd: pytest.CaptureFixture[str]) -> None:
    waiting.get(f"?code={CANARY}&state=wrong")
    waiting.get("?" + answer(waiting.consent, code=CANARY))
    waiting.ended()
    assert capfd.readouterr() == ("", "")


# -- the exchange


@pytest.fixture
def server() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


GIVEN = {"access_token": "ya29.canary", "refresh_token": "1//canary", "scope": " ".join(SCOPES), "expires_in": 3599}


@pytest.fixture
def trade(server: responses.RequestsMock, wire: Wire, consent: Consent) -> Callable[..., Grant]:
    def made(**reply: Any) -> Grant:
        server.add("POST", TOKEN, **reply)
        return exchange(wire, TOKEN, CLIENT, consent, CANARY)

    return made


@pytest.mark.parametrize("word", ["invalid_grant", "redirect_uri_mismatch", "invalid_client", "deleted_client"])
def test_an_exchange_that_google_refuses_says_why(trade: Callable[..., Grant], word: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        trade(status=400, json={"error": word, "error_description": f"Malformed {CANARY}"})
    assert (caught.value.message, caught.value.advice) == (REFUSED.get(word) or SAID[word])
    assert CANARY not in str(caught.value)


def test_a_refusal_that_nobody_knows_keeps_googles_words_and_hides_ours(trade: Callable[..., Grant]) -> None:
    with pytest.raises(LoginRefused) as caught:
        trade(status=400, json={"error": "invalid_request", "error_description": f"Bad code {CANARY}"})
    assert "invalid_request Bad code" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 503, "json": {"error": "backend_error"}},
        {"status": 429, "json": {"error": "rate_limited"}},
        {"status": 500, "body": "<html>"},
        {"status": 200, "body": "<html>"},
        {"status": 200, "json": ["1//canary"]},
        {"body": requests.ConnectionError("reset")},
    ],
    ids=str,
)
def test_an_endpoint_that_does_not_answer_leaves_the_sign_in_unfinished(
    trade: Callable[..., Grant], reply: dict[str, Any]
) -> None:
    with pytest.raises(PlatformUnavailable, match="Nothing was stored"):
        trade(**reply)


@pytest.mark.parametrize("token", [None, "", 5, "two\nlines", "тест"])
def test_no_refresh_token_is_told_with_the_cure(trade: Callable[..., Grant], token: Any) -> None:
    with pytest.raises(LoginRefused, match=r"myaccount\.google\.com"):
        trade(json=GIVEN | {"refresh_token": token})


def test_the_exchange_proves_who_asked(
    trade: Callable[..., Grant], server: responses.RequestsMock, consent: Consent
) -> None:
    trade(json=GIVEN)
    sent = {key: values[0] for key, values in parse_qs(str(server.calls[0].request.body, "ascii")).items()}
    assert sent == {
        "grant_type": "authorization_code",
        "code": CANARY,
        "client_id": CLIENT.id,
        "client_secret": CLIENT.secret,
        "redirect_uri": HOME,
        "code_verifier": consent.verifier,
    }


def test_a_grant_holds_what_google_says(trade: Callable[..., Grant]) -> None:
    grant = trade(json=GIVEN | {"scope": DATA_MANAGER, "refresh_token_expires_in": 604799})
    assert grant == Grant("1//canary", frozenset({DATA_MANAGER}), 604799)


def test_scopes_that_are_not_told_are_those_that_were_asked_for(trade: Callable[..., Grant]) -> None:
    assert trade(json={"refresh_token": "1//canary"}).scopes == frozenset(SCOPES)


def test_neither_a_client_nor_a_grant_shows_its_secret() -> None:
    assert "canary" not in repr(CLIENT)
    assert "canary" not in repr(Grant("1//canary", frozenset()))


# -- what was granted


@pytest.mark.parametrize(("api", "scope"), [("data_manager", ADWORDS), ("ads", DATA_MANAGER)])
def test_a_sign_in_that_cannot_upload_is_refused(api: str, scope: str) -> None:
    with pytest.raises(LoginRefused, match="no uploads") as caught:
        enough(Grant("1//canary", frozenset({scope})), api)
    assert "tick every box" in caught.value.advice


@pytest.mark.parametrize(
    ("api", "scope", "lost"), [("data_manager", DATA_MANAGER, "no cost, no retractions"), ("ads", ADWORDS, "uploads")]
)
def test_what_an_empty_box_costs_is_told(api: str, scope: str, lost: str) -> None:
    grant = Grant("1//canary", frozenset({scope}))
    enough(grant, api)
    found = {one.code: one for one in shortcomings(grant, "destinations.google")}
    assert found["scope_not_granted"].level == "warning"
    assert lost in found["scope_not_granted"].message


def test_a_sign_in_that_ends_by_itself_is_a_warning() -> None:
    [found] = shortcomings(Grant("1//canary", frozenset(SCOPES), 604799), "destinations.google")
    assert (found.level, found.code) == ("warning", "short_lived")
    assert "7.0 days" in found.message


def test_what_testing_means_is_told_when_google_does_not_say() -> None:
    [found] = shortcomings(Grant("1//canary", frozenset(SCOPES)), "destinations.google")
    assert (found.level, found.code) == ("info", "consent_screen")
