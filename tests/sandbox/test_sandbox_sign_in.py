"""Signing in as an installed app: the consent screen, PKCE, and the tokens that come of it."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from convsync.sandbox import Sandbox

if TYPE_CHECKING:
    from conftest import GoogleClient

SCOPES = "https://www.googleapis.com/auth/datamanager https://www.googleapis.com/auth/adwords"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
REDIRECT = "http://127.0.0.1:4711/"


class Browser:
    """Somebody who agrees, and the app that waits for them."""

    def __init__(self, box: Sandbox, http: requests.Session) -> None:
        self._box, self._http = box, http

    def consent(self, **changes: str | None) -> requests.Response:
        asked: dict[str, str | None] = {
            "client_id": "sandbox-client",
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": SCOPES,
            "state": "s1",
            "access_type": "offline",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        params = {name: value for name, value in (asked | changes).items() if value is not None}
        return self._http.get(f"{self._box.url}/o/oauth2/v2/auth", params=params, allow_redirects=False)

    def answer(self, **changes: str | None) -> dict[str, str]:
        came_back = self.consent(**changes)
        assert came_back.status_code == 302, came_back.text
        return {name: values[0] for name, values in parse_qs(urlsplit(came_back.headers["Location"]).query).items()}

    def tokens(self, granted: str, **changes: str) -> requests.Response:
        form = {
            "grant_type": "authorization_code",
            "code": granted,
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        return self._http.post(f"{self._box.url}/token", data=form | changes)


@pytest.fixture
def browser(box: Sandbox, http: requests.Session) -> Browser:
    return Browser(box, http)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"client_id": "stranger"}, 401, "invalid_client"),
        ({"redirect_uri": "https://example.com/"}, 400, "redirect_uri_mismatch"),
        ({"redirect_uri": "http://10.0.0.1/"}, 400, "redirect_uri_mismatch"),
        ({"response_type": "token"}, 400, "response_type"),
        ({"scope": None}, 400, "scope"),
        ({"code_challenge": "short"}, 400, "code_challenge"),
        ({"code_challenge_method": "MD5"}, 400, "code_challenge_method"),
    ],
)
def test_a_wrong_question_never_leaves_the_consent_screen(
    browser: Browser, changes: dict[str, str | None], status: int, word: str
) -> None:
    answer = browser.consent(**changes)
    assert (answer.status_code, word in answer.text) == (status, True)
    assert "Location" not in answer.headers


def test_a_user_can_refuse(browser: Browser, box: Sandbox) -> None:
    box.config.google.consent_error = "access_denied"
    assert browser.answer() == {"error": "access_denied", "state": "s1"}


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": ""}, 400, "invalid_grant"),
        ({"code": "4/never"}, 400, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:9/"}, 400, "redirect_uri_mismatch"),
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_code_is_changed_for_tokens_only_by_who_asked_for_it(
    browser: Browser, changes: dict[str, str], status: int, error: str
) -> None:
    answer = browser.tokens(browser.answer()["code"], **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "access_token" not in answer.text


def test_a_code_is_good_once_and_for_ten_minutes(browser: Browser, box: Sandbox) -> None:
    code = browser.answer()["code"]
    assert browser.tokens(code).status_code == 200
    assert browser.tokens(code).json()["error"] == "invalid_grant"
    late = browser.answer()["code"]
    box.clock.advance(600)
    assert browser.tokens(late).json()["error"] == "invalid_grant"


def test_the_refresh_token_of_a_sign_in_works_afterwards(browser: Browser, google: GoogleClient) -> None:
    told = browser.answer()
    assert (told["state"], told["scope"]) == ("s1", SCOPES)
    given: dict[str, Any] = browser.tokens(told["code"]).json()
    assert given["scope"] == SCOPES
    refreshed = google.token(refresh_token=given["refresh_token"]).json()
    google.headers = {"Authorization": f"Bearer {refreshed['access_token']}"}
    assert google.ingest(google.event()).status_code == 200
    google.box.config.google.refresh_revoked = True
    assert google.token(refresh_token=given["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_user_can_untick_a_scope(browser: Browser, google: GoogleClient) -> None:
    google.box.config.google.consent_scopes = ["https://www.googleapis.com/auth/adwords"]
    given = browser.tokens(browser.answer()["code"]).json()
    assert given["scope"] == "https://www.googleapis.com/auth/adwords"
    google.headers = {"Authorization": f"Bearer {given['access_token']}"}
    assert google.ingest(google.event()).status_code == 403


def test_only_offline_access_gives_a_refresh_token_and_a_second_time_only_on_demand(browser: Browser) -> None:
    def refreshes(**changes: str | None) -> bool:
        return "refresh_token" in browser.tokens(browser.answer(**changes)["code"]).json()

    assert [refreshes(access_type=None), refreshes(prompt="consent"), refreshes()] == [False, True, False]


def test_an_app_without_pkce_is_served_too(browser: Browser) -> None:
    code = browser.answer(code_challenge=None, code_challenge_method=None, state=None)["code"]
    assert browser.tokens(code, code_verifier="").status_code == 200
