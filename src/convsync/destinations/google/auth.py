"""Signing in to Google: one access token for all threads of a run, fetched when the first of them sends.

google-auth knows the grants; its requests leave through our wire, so that retries, time-outs and TLS have one owner.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import Wire, http_fault, scrub

DATA_MANAGER = "https://www.googleapis.com/auth/datamanager"
ADWORDS = "https://www.googleapis.com/auth/adwords"
"""Uploads, and everything else: cost, retractions, the Ads API. DOC dm/devguides/quickstart/set-up-access"""

_TESTING = "If the consent screen of your Google Cloud project is in Testing, its tokens die after seven days: publish it first."
SAID: Mapping[str, tuple[str, str]] = {
    "invalid_grant": (
        "Google no longer accepts the refresh token: it expired, was withdrawn, or a newer one replaced it.",
        f"Run `convsync google login`. {_TESTING}",
    ),
    "invalid_client": (
        "Google does not know this client_id with this client_secret.",
        "Copy both again from the Google Cloud console, APIs & Services, Credentials, or let `convsync google login --client-file` read them.",
    ),
    "deleted_client": (
        "the OAuth client was deleted in the Google Cloud console.",
        "Make a new one of type Desktop app there and run `convsync google login --client-file` with its file.",
    ),
    "unauthorized_client": (
        "the refresh token was made with another OAuth client than client_id names.",
        "All three must come from one client: run `convsync google login`.",
    ),
    "invalid_scope": (
        "these credentials were not granted what convsync asks for.",
        "Run `convsync google login` and tick every box that Google shows.",
    ),
}
"""The token endpoint's error → what happened, what to do. DOC RFC 6749 5.2; invalid_grant and its seven days: DOC
dm/devguides/quickstart/set-up-access, CODE, field report PostHog/posthog#85903."""


class SignIn:
    """The access token of one destination. Threads that need it at the same time wait for one refresh."""

    granted: frozenset[str] | None = None
    """The scopes that Google says the token has; None until it said so."""

    def __init__(
        self,
        where: str,
        *,
        wire: Wire,
        token_url: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        refresh_token: str | None = None,
        credentials_file: Path | None = None,
        scopes: Sequence[str] = (DATA_MANAGER,),
    ) -> None:
        """`scopes` are what a service account asks for; a person has granted theirs with the refresh token."""
        self._where = where
        self._wire = wire
        self._token_url = token_url
        self._user = {"client_id": client_id, "client_secret": client_secret, "refresh_token": refresh_token}
        self._file = credentials_file
        self._scopes = list(scopes)
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._refused: Finding | None = None

    def token(self) -> str:
        """A token that is good for now. Raises NotSent or Halted."""
        with self._lock:
            if self._credentials is None or not self._credentials.valid:
                self._refresh()
            return str(self._credentials.token)

    @property
    def newest(self) -> str:
        """The token that was fetched last, for a request that was told to leave after `token` or `renew`."""
        return str(self._credentials.token)

    def renew(self, stale: str) -> str:
        """Another token than `stale`, which Google did not take."""
        with self._lock:
            if self._credentials is None or self._credentials.token == stale:
                self._refresh()
            return str(self._credentials.token)

    def _refresh(self) -> None:
        if self._refused is not None:
            raise Halted(self._refused)
        try:
            self._ask()
        except Halted as refusal:
            self._refused = refusal.finding
            raise

    def _ask(self) -> None:
        from google.auth.exceptions import GoogleAuthError, RefreshError

        if self._credentials is None:
            quiet()
            self._credentials = self._load()
        try:
            # Not before_request(): that would also look up "regional access boundaries", a request nobody asked for.
            self._credentials.refresh(self._transport)
        except RefreshError as refusal:
            raise Halted(self._finding(*_told(refusal))) from None
        except GoogleAuthError as fault:
            raise Halted(self._finding("sign_in_failed", scrub(str(fault)), "Check the credentials.")) from None

    def _load(self) -> Any:
        if self._file is None:
            from google.oauth2.credentials import Credentials

            return Credentials(None, token_uri=self._token_url, **self._user)  # type: ignore[no-untyped-call]
        from google.oauth2.service_account import Credentials as ServiceAccount

        try:
            account = orjson.loads(self._file.read_bytes()) | {"token_uri": self._token_url}
            return ServiceAccount.from_service_account_info(  # type: ignore[no-untyped-call]
                account, scopes=self._scopes
            )
        except (OSError, ValueError, TypeError):
            message = "credentials_file cannot be read as the key of a service account."
            advice = "Download a JSON key in the Google Cloud console and let convsync's user read the file."
            raise Halted(self._finding("credentials_file", message, advice)) from None

    def _transport(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> _Answer:
        """What google-auth calls a transport. What may pass by itself becomes NotSent here: it must not wait on its own."""
        try:
            reply = self._wire.exchange(method, url, headers=headers or {}, body=body)
        except Unclear as fault:
            raise NotSent(f"token_{fault.reason}") from None
        error = _oauth_error(reply.body)
        unreadable = reply.status == 200 and not _object(reply.body)
        passing = reply.status != 200 and http_fault(reply.status) != "refused"
        if unreadable or passing or error in _PASSING:
            raise NotSent("token_endpoint", wait=reply.retry_after(self._wire.clock()))
        if reply.status == 200:
            self._note_scopes(reply.body)
        return _Answer(reply.status, reply.headers, reply.body)

    def _note_scopes(self, body: bytes) -> None:
        told = _object(body).get("scope")
        if isinstance(told, str):
            self.granted = frozenset(told.split())

    def _finding(self, code: str, message: str, advice: str) -> Finding:
        return Finding("error", code, self._where, message, advice)


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: bytes


_PASSING = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


def quiet() -> None:
    """google-auth and grpc print tokens and whole requests at DEBUG: they never get below WARNING."""
    for name in ("google", "google.auth", "google.oauth2", "grpc"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def _told(refusal: Exception) -> tuple[str, str, str]:
    """Code, message and advice of what the token endpoint said."""
    told = next((arg for arg in refusal.args if isinstance(arg, dict)), {})
    code = str(told.get("error") or "")
    if code in SAID:
        return (code, *SAID[code])
    text = scrub(str(told.get("error_description") or refusal.args[0] if refusal.args else ""))
    return (
        "sign_in_refused",
        f"Google did not let us sign in: {scrub(code)} {text}".strip(),
        "Check credentials and token_url.",
    )


def _oauth_error(body: bytes) -> str:
    error = _object(body).get("error")
    return error if isinstance(error, str) else ""


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        told = orjson.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
