"""Signing in as a person, once: consent in a browser, the answer on a loopback port, a refresh token for it.

The flow is RFC 8252 (native apps) with PKCE, RFC 7636. google-auth-oauthlib knows it too, but takes the first request of
anybody for the answer, prints the address on stdout, raises when a person unticks a scope, takes plain http to a
loopback token endpoint only by a process-wide switch, and speaks past our time-outs and certificates
(CODE google-auth-oauthlib 1.5.0, requests-oauthlib 2.0.0). Nothing here shows a code, a token or a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import queue
import secrets
import socketserver
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode

from convsync.destinations.google.auth import ADWORDS, DATA_MANAGER, SAID
from convsync.errors import ConvsyncError, Exit, PlatformUnavailable, WireError
from convsync.model import Finding
from convsync.net import Reply, Wire, http_fault, scrub

SCOPES = (DATA_MANAGER, ADWORDS)
NEEDED = {"data_manager": DATA_MANAGER, "ads": ADWORDS}
"""The scope that uploads need, by `api`."""
WITHOUT = {
    DATA_MANAGER: "no uploads through the Data Manager API",
    ADWORDS: "no cost, no retractions, no look at conversion actions, no uploads through the Google Ads API",
}
"""What is lost with a scope that was not granted."""


class LoginRefused(ConvsyncError):
    """The person or Google said no, and will until a person changes something."""

    exit_code = Exit.USAGE


class NotOurs(Exception):
    """A request that does not carry our state: somebody else's, or of an earlier sign-in."""


@dataclass(frozen=True)
class Client:
    """The OAuth client of type Desktop app. Its secret shows nowhere."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Grant:
    """What Google gave: `lifetime` in seconds, None where the refresh token has no end."""

    refresh_token: str = field(repr=False)
    scopes: frozenset[str]
    lifetime: int | None = None


REFUSED: Mapping[str, tuple[str, str]] = {
    "access_denied": (
        "Access was not given: the question was answered with no, or Google does not let this person be asked.",
        "Sign in again and agree. If the consent screen is in Testing, the person has to be one of its test users.",
    ),
    "admin_policy_enforced": (
        "An administrator of this person's organisation does not allow what was asked for.",
        "Let the administrator trust your OAuth client, or sign in as somebody else.",
    ),
    "org_internal": (
        "The consent screen is Internal, and this person is not of its organisation.",
        "Sign in as a member of it, or make the consent screen External.",
    ),
    "redirect_uri_mismatch": (
        "Google does not send answers for this OAuth client to this machine: it is not of type Desktop app.",
        "Make a client of that type in the Google Cloud console and sign in with it.",
    ),
    "invalid_grant": (
        "Google did not take the code: it was used already, or it came too late.",
        "Sign in again: every sign-in has a code of its own.",
    ),
}
"""Google's word, in the redirect or at the exchange → what happened, what to do. DOC RFC 6749 4.1.2.1 and 5.2; DOC
developers.google.com/identity/protocols/oauth2/native-app."""


class Consent:
    """One question to Google: the address to open, and what makes an answer ours."""

    def __init__(self, auth_url: str, client_id: str, redirect_uri: str) -> None:
        self.redirect_uri = redirect_uri
        self.verifier = secrets.token_urlsafe(64)  # 86 characters of RFC 7636 4.1's 43 to 128
        self._state = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(SCOPES),
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",  # without it a second sign-in brings no refresh token
        }
        self.address = f"{auth_url}?{urlencode(asked)}"

    def code(self, query: str) -> str:
        """The code in the query of an answer. Raises NotOurs, or LoginRefused when the answer is no."""
        told = parse_qs(query)
        state = told.get("state", [])
        if len(state) != 1 or not hmac.compare_digest(state[0].encode(), self._state.encode()):
            raise NotOurs
        if "error" in told:
            raise _refusal(told["error"][0], "")
        if len(told.get("code", [])) != 1:
            raise LoginRefused("Google's answer holds no code.", "Sign in again.")
        return told["code"][0]


def query_of(pasted: str) -> str:
    """The query of an address that a person copied, whatever the terminal or the browser left of it."""
    text = "".join(pasted.split()).partition("#")[0]
    return text.partition("?")[2] or text


def exchange(wire: Wire, token_url: str, client: Client, consent: Consent, code: str) -> Grant:
    """The refresh token for a code. Raises LoginRefused, or PlatformUnavailable; the code is spent either way."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client.id,
        "client_secret": client.secret,
        "redirect_uri": consent.redirect_uri,
        "code_verifier": consent.verifier,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        reply = wire.exchange("POST", token_url, headers=headers, body=urlencode(form).encode())
    except WireError as fault:
        raise _no_answer(fault.reason) from None
    return _grant(reply)


def _grant(reply: Reply) -> Grant:
    try:
        told = reply.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise _no_answer(f"HTTP {reply.status}, not readable")
    if reply.status != 200:
        if http_fault(reply.status) != "refused":
            raise _no_answer(f"HTTP {reply.status}")
        raise _refusal(str(told.get("error") or f"HTTP {reply.status}"), str(told.get("error_description") or ""))
    token = told.get("refresh_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
        advice = "Take convsync's access away at https://myaccount.google.com/permissions, then sign in again."
        raise LoginRefused("Google gave no refresh token.", advice)
    scope, lifetime = told.get("scope"), told.get("refresh_token_expires_in")
    # RFC 6749 5.1: no scope in the answer means what was asked for.
    scopes = frozenset(scope.split() if isinstance(scope, str) else SCOPES)
    return Grant(token.strip(), scopes, lifetime if isinstance(lifetime, int) and lifetime > 0 else None)


def _refusal(word: str, description: str) -> LoginRefused:
    if word in REFUSED or word in SAID:
        return LoginRefused(*(REFUSED.get(word) or SAID[word]))
    said = f"{scrub(word)} {scrub(description)}".strip()
    return LoginRefused(f"Google refused to sign in: {said}", "Check the OAuth client, auth_url and token_url.")


def _no_answer(reason: str) -> PlatformUnavailable:
    message = f"Google's token endpoint gave no usable answer ({reason})."
    return PlatformUnavailable(message, "Nothing was stored. Check the network and token_url, then sign in again.")


def enough(grant: Grant, api: str) -> None:
    """Raise LoginRefused unless the grant opens what uploads need: Google lets a person untick one scope of several."""
    needed = NEEDED[api]
    if needed not in grant.scopes:
        message = f"Nothing was stored: the box for {needed} was left empty, so there are {WITHOUT[needed]}."
        raise LoginRefused(message, "Sign in again and tick every box that Google shows.")


def shortcomings(grant: Grant, where: str) -> list[Finding]:
    """What a person has to know of a grant that is enough."""
    found = [
        Finding(
            "warning", "scope_not_granted", where, f"the box for {scope} was left empty: {WITHOUT[scope]}.",
            "Sign in again and tick every box, if you want them.",
        )
        for scope in SCOPES
        if scope not in grant.scopes
    ]  # fmt: skip
    cure = "Publish it (Google Cloud console, Google Auth Platform, Audience), then sign in once more."
    if grant.lifetime is not None:
        days = grant.lifetime / 86400
        message = f"Google ends this sign-in after {days:.1f} days: the consent screen is in Testing, or the person gave access for a time."
        found.append(Finding("warning", "short_lived", where, message, cure))
    else:
        message = "if the consent screen of your Google Cloud project is External and in Testing, this sign-in ends after seven days."
        found.append(Finding("info", "consent_screen", where, message, cure))
    return found


# -- the loopback port


class Listener:
    """The port on 127.0.0.1 that the browser is sent back to. Requests that are not the answer are waited past.

    Raises OSError when the port cannot be had.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def wait(self, consent: Consent, seconds: float) -> str:
        """The code. Raises LoginRefused, or TimeoutError when no answer came in so many seconds."""
        server, ends = self._server, time.monotonic() + seconds
        server.consent = consent
        while server.answers.empty():  # in this thread, so that Ctrl-C meets no thread that is just being made
            server.timeout = min(0.25, ends - time.monotonic())
            if server.timeout <= 0:
                raise TimeoutError
            server.handle_request()
        answer = server.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread a connection: browsers open spare ones and send nothing on them."""

    daemon_threads = True
    allow_reuse_address = True
    consent: Consent

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.answers: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is none; a mistake of ours ends the waiting."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self.answers.put(fault)


_PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>convsync</title>
<body style="font: 18px/1.5 sans-serif; max-width: 34em; margin: 4em auto; padding: 0 1em"><h1>{title}</h1><p>{text}</p>
"""


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server_version = "convsync"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path != "/":
            self._show(404, "Nothing here", "This port waits for Google's answer and for nothing else.")
            return
        answer: str | BaseException
        try:
            answer = self.server.consent.code(query)
            shown = ("Google has answered", "You can close this window and go back to the terminal.")
        except NotOurs:
            text = "It does not belong to the sign-in that is waiting. Open the newest address that the terminal shows."
            self._show(400, "Not the answer", text)
            return
        except LoginRefused as refusal:
            answer = refusal
            shown = ("Not signed in", "The terminal says why. You can close this window.")
        try:
            self._show(200, *shown)
        finally:  # a browser that closed early has delivered its answer all the same
            self.server.answers.put(answer)

    def _show(self, status: int, title: str, text: str) -> None:
        page = _PAGE.format(title=title, text=text).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        """The line would hold the code."""
