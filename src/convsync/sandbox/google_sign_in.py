"""Google's sign-in: the consent screen of an installed app, the token endpoint, and the tokens it gave out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from convsync.sandbox.clock import Clock
from convsync.sandbox.config import GoogleConfig, SandboxConfig
from convsync.sandbox.google_answers import oauth
from convsync.sandbox.web import Refusal, Request, Response, Route, reply, route

_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CODE_LIFE_S = 600
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True)
class _Token:
    scopes: frozenset[str]
    until: float


@dataclass(frozen=True)
class _Code:
    """What the user agreed to, until it is changed for tokens, once."""

    scopes: list[str]
    redirect: str
    challenge: str
    method: str
    refreshes: bool
    until: float


class SignIn:
    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.Lock()
        self.reset()

    @property
    def _config(self) -> GoogleConfig:
        return self._world.google

    def reset(self) -> None:
        with self._lock:
            self._tokens: dict[str, _Token] = {}
            self._codes: dict[str, _Code] = {}
            self._refreshes: dict[str, list[str]] = {}
            self._consented = False

    def routes(self) -> list[Route]:
        return [
            *route("google.consent", "GET", "/o/oauth2/v2/auth", self._consent),
            *route("google.consent", "GET", "/o/oauth2/auth", self._consent),
            *route("google.token", "POST", "/token", self._token),
            *route("google.token", "POST", "/o/oauth2/token", self._token),
        ]

    def scopes(self, token: str) -> frozenset[str] | None:
        """What an access token may do; None for one that was never given or is over."""
        if token in self._config.static_tokens:
            return frozenset(self._config.static_tokens[token])
        with self._lock:
            found = self._tokens.get(token)
        return found.scopes if found and self._clock.time() < found.until else None

    def gave(self, token: str) -> bool:
        """Whether an access token was ever given, over or not."""
        with self._lock:
            return token in self._tokens

    # The consent screen: the sandbox's user agrees at once, or refuses as configured.

    def _consent(self, request: Request, names: dict[str, str]) -> Response:
        asked = request.params()
        redirect = asked.get("redirect_uri", "")
        if asked.get("client_id") != self._config.client_id:
            return _page(401, "Error 401: invalid_client. The OAuth client was not found.")
        target = urlsplit(redirect)
        if target.scheme != "http" or target.hostname not in _LOOPBACK:
            return _page(400, "Error 400: redirect_uri_mismatch. A desktop app goes back to a loopback address.")
        scopes, problem = asked.get("scope", "").split(), _wrong(asked)
        if problem or not scopes:
            return _page(400, f"Error 400: invalid_request. {problem or 'Missing required parameter: scope'}")
        if self._config.consent_error:
            return _back(redirect, error=self._config.consent_error, state=asked.get("state"))
        if self._config.consent_scopes is not None:
            scopes = [scope for scope in scopes if scope in self._config.consent_scopes]
        code = f"4/0sandbox-{secrets.token_urlsafe(24)}"
        with self._lock:
            # A refresh token comes with the first consent only, unless prompt=consent asks again.
            first = not self._consented or "consent" in asked.get("prompt", "").split()
            self._consented = True
            self._codes[code] = _Code(
                scopes,
                redirect,
                asked.get("code_challenge", ""),
                asked.get("code_challenge_method", "plain"),
                asked.get("access_type") == "offline" and first,
                self._clock.time() + _CODE_LIFE_S,
            )
        return _back(redirect, state=asked.get("state"), code=code, scope=" ".join(scopes))

    # The token endpoint.

    def _token(self, request: Request, names: dict[str, str]) -> Response:
        form = request.form()
        refresh = ""
        match form.get("grant_type"):
            case "refresh_token":
                scopes = self._refresh_grant(form)
            case "authorization_code":
                scopes, refresh = self._code_grant(form)
            case kind if kind == _JWT:
                scopes = self._jwt_grant(form.get("assertion", ""))
            case _:
                return oauth(400, "unsupported_grant_type", "Invalid grant_type.")
        token = "ya29.sandbox-" + secrets.token_urlsafe(24)
        life = self._config.token_life_s
        with self._lock:
            self._tokens[token] = _Token(frozenset(scopes), self._clock.time() + life)
        given = {"access_token": token, "expires_in": life, "token_type": "Bearer", "scope": " ".join(scopes)}
        return reply({**given, "refresh_token": refresh} if refresh else given)

    def _client(self, form: dict[str, str]) -> None:
        c = self._config
        if (form.get("client_id"), form.get("client_secret")) != (c.client_id, c.client_secret):
            raise Refusal(oauth(401, "invalid_client", "The OAuth client was not found."))

    def _refresh_grant(self, form: dict[str, str]) -> list[str]:
        self._client(form)
        given = form.get("refresh_token", "")
        with self._lock:
            scopes = self._refreshes.get(given)
        if scopes is None and given == self._config.refresh_token:
            scopes = self._config.scopes
        if self._config.refresh_revoked or scopes is None:
            raise Refusal(oauth(400, "invalid_grant", "Token has been expired or revoked."))
        return scopes

    def _code_grant(self, form: dict[str, str]) -> tuple[list[str], str]:
        """The scopes granted, and a refresh token or nothing. A code is good once, whatever comes of it."""
        self._client(form)
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
        if code is None or self._clock.time() >= code.until:
            raise Refusal(oauth(400, "invalid_grant", "Malformed auth code."))
        if form.get("redirect_uri") != code.redirect:
            raise Refusal(oauth(400, "redirect_uri_mismatch", "Bad Request"))
        if code.challenge and not _proven(code, form.get("code_verifier", "")):
            said = "Invalid code verifier." if form.get("code_verifier") else "Missing code verifier."
            raise Refusal(oauth(400, "invalid_grant", said))
        if not code.refreshes:
            return code.scopes, ""
        refresh = f"1//sandbox-{secrets.token_urlsafe(24)}"
        with self._lock:
            self._refreshes[refresh] = code.scopes
        return code.scopes, refresh

    def _jwt_grant(self, assertion: str) -> list[str]:
        """A service account; the signature is not checked."""
        try:
            payload = assertion.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            issuer, scopes = str(claims["iss"]), str(claims["scope"]).split()
        except (IndexError, KeyError, TypeError, ValueError):
            raise Refusal(oauth(400, "invalid_grant", "Invalid JWT.")) from None
        known = self._config.service_accounts
        if self._config.refresh_revoked or (known and issuer not in known):
            raise Refusal(oauth(400, "invalid_grant", "Invalid grant: account not found"))
        return scopes


def _wrong(asked: dict[str, str]) -> str:
    if asked.get("response_type") != "code":
        return "Invalid parameter value for response_type"
    if asked.get("code_challenge_method", "plain") not in ("plain", "S256"):
        return "Invalid parameter value for code_challenge_method"
    if "code_challenge" in asked and not _CHALLENGE.fullmatch(asked["code_challenge"]):
        return "Invalid parameter value for code_challenge"
    return ""


def _proven(code: _Code, verifier: str) -> bool:
    """RFC 7636: the verifier, or its SHA-256, is the challenge."""
    if code.method == "plain":
        return verifier == code.challenge
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == code.challenge


def _back(redirect: str, **said: str | None) -> Response:
    query = urlencode({name: value for name, value in said.items() if value is not None})
    joined = f"{redirect}{'&' if urlsplit(redirect).query else '?'}{query}"
    return Response(302, b"", "text/plain", {"Location": joined})


def _page(status: int, said: str) -> Response:
    return Response(status, f"<!doctype html><title>Sign in</title><p>{said}</p>".encode(), "text/html; charset=utf-8")
