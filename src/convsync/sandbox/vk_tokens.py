"""VK's OAuth: pairs of tokens, at most five for each user, and who used a dead one."""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from convsync.sandbox.clock import Clock
from convsync.sandbox.vk_config import VkConfig
from convsync.sandbox.vk_door import DAY, unauthorised
from convsync.sandbox.web import Refusal, Request, Response, reply

OWNER = "owner"
_SAID = {
    "expired_token": "Access token is expired",
    "invalid_token": "Unknown access token",
    "invalid_client": "Client is blocked",
    "invalid_user": "User is blocked or does not exist",
    "revoked_token": "Token was revoked by the user",
}


@dataclass
class Pair:
    """A token: access value, refresh value, and whose it is."""

    access: str
    refresh: str
    user: str
    until: float
    used: float


@dataclass
class UserBook:
    """What happened to the tokens of one user."""

    new: int = 0
    refreshes: int = 0
    refused: int = 0
    """token_limit_exceeded"""
    deleted: int = 0
    """Pairs that delete.json took."""
    dead_used: int = 0
    """Calls with an access value that a refresh or delete.json had killed."""
    expired_used: int = 0
    dead_refresh_used: int = 0


class Tokens:
    def __init__(self, config: Callable[[], VkConfig], clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._pairs: list[Pair] = []
            self._users: dict[str, UserBook] = {}
            self._dead: dict[str, str] = {}

    def number(self, user: str) -> int:
        """The user's id; of a client that the configuration does not name, always the same one."""
        if user == OWNER:
            return self._config().user_id
        named = (self._config().agency_clients or {}).get(user)
        if named is not None:
            return named
        return int(user) if user.isascii() and user.isdigit() else 1_000_000 + zlib.crc32(user.encode()) % 1_000_000

    # Who asks.

    def whose(self, request: Request) -> str:
        """The user of a living token; raises Refusal (401) and books who used a dead one."""
        with self._lock:
            self._forget_idle()
            access = _bearer(request)
            pair = next((pair for pair in self._pairs if pair.access == access), None)
            if pair is None:
                if access in self._dead:
                    self._book(self._dead[access]).dead_used += 1
                raise _refusal("invalid_token")
            if self._clock.time() >= pair.until:
                self._book(pair.user).expired_used += 1
                raise _refusal("expired_token")
            pair.used = self._clock.time()
            code = self._config().bearer_errors.get(pair.user)
            if code:
                raise _refusal(code)
            return pair.user

    def peeked(self, request: Request) -> str:
        """The same for a request that `whose` let in, without booking anything."""
        with self._lock:
            access = _bearer(request)
            pair = next((pair for pair in self._pairs if pair.access == access), None)
        if pair is None:
            raise _refusal("invalid_token")
        return pair.user

    # The endpoints.

    def token(self, request: Request, names: dict[str, str]) -> Response:
        form = self._client(request)
        grant = form.get("grant_type", "")
        with self._lock:
            if grant == "client_credentials":
                return self._granted(self._new(OWNER))
            if grant == "agency_client_credentials":
                return self._granted(self._new(self._agency_client(form)))
            if grant == "refresh_token":
                return self._granted(self._refreshed(form.get("refresh_token", "")))
        if grant == "authorization_code":  # DOC: only on conditions
            raise self._oauth(400, "unauthorized_client", "This grant is not open to the client")
        if not grant:
            raise self._oauth(400, "invalid_request", "grant_type is required")
        raise self._oauth(400, "unsupported_grant_type", "Unsupported grant type")

    def delete(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: all tokens of the user named, or of the owner."""
        form = self._client(request)
        user = self._named(form.get("username", ""), form.get("user_id", "")) or OWNER
        with self._lock:
            gone = [pair for pair in self._pairs if pair.user == user]
            self._pairs = [pair for pair in self._pairs if pair.user != user]
            self._dead.update({value: user for pair in gone for value in (pair.access, pair.refresh)})
            self._book(user).deleted += len(gone)
        return Response(204)

    def _client(self, request: Request) -> dict[str, str]:
        """The form of a request whose client is the right one."""
        form, c = request.form(), self._config()
        if (form.get("client_id"), form.get("client_secret")) != (c.client_id, c.client_secret):
            raise self._oauth(401, "invalid_client", "Client authentication failed")
        return form

    def _agency_client(self, form: dict[str, str]) -> str:
        user = self._named(form.get("agency_client_name", ""), form.get("agency_client_id", ""))
        if not user:
            raise self._oauth(400, "invalid_request", "agency_client_name or agency_client_id is required")
        known = self._config().agency_clients
        if known is not None and user not in known:
            raise self._oauth(401, "invalid_user", "No such client of the agency")
        if self._config().agency_token_required:
            agency = form.get("access_token", "")
            now = self._clock.time()
            if not any(p.access == agency and p.user == OWNER and now < p.until for p in self._pairs):
                raise self._oauth(401, "invalid_token", "The agency's access_token is required")
        return user

    def _named(self, username: str, number: str) -> str:
        """A user by name or by id, under one name."""
        if username or not number:
            return username
        known = {str(self._config().user_id): OWNER}
        known |= {str(one): name for name, one in (self._config().agency_clients or {}).items()}
        known |= {str(self.number(pair.user)): pair.user for pair in self._pairs}
        return known.get(number, number)

    def _new(self, user: str) -> Pair:
        """DOC: at most 5 tokens per client and user, whatever their status; idle for a month = deleted."""
        now = self._clock.time()
        self._forget_idle()
        if sum(pair.user == user for pair in self._pairs) >= self._config().max_tokens:
            self._book(user).refused += 1
            said = "Active access token limit reached. Delete tokens that are not used."
            raise self._oauth(403, "token_limit_exceeded", said)
        pair = Pair(secrets.token_hex(20), secrets.token_hex(20), user, now + self._config().token_life_s, now)
        self._pairs.append(pair)
        self._book(user).new += 1
        return pair

    def _forget_idle(self) -> None:
        idle = self._config().token_idle_days * DAY
        self._pairs = [pair for pair in self._pairs if self._clock.time() - pair.used < idle]

    def _refreshed(self, refresh: str) -> Pair:
        """DOC: no new token; the old access value dies at once."""
        self._forget_idle()
        pair = next((pair for pair in self._pairs if pair.refresh == refresh), None)
        if pair is None:
            if refresh in self._dead:
                self._book(self._dead[refresh]).dead_refresh_used += 1
            raise self._oauth(401, "invalid_token", "Unknown refresh token")
        code = self._config().bearer_errors.get(pair.user)
        if code in ("invalid_user", "revoked_token"):
            raise self._oauth(401, code, _SAID[code])
        self._dead[pair.access] = pair.user
        pair.access, pair.used = secrets.token_hex(20), self._clock.time()
        pair.until = pair.used + self._config().token_life_s
        if self._config().rotate_refresh_token:
            self._dead[pair.refresh] = pair.user
            pair.refresh = secrets.token_hex(20)
        self._book(pair.user).refreshes += 1
        return pair

    def _granted(self, pair: Pair) -> Response:
        c = self._config()
        scopes = ["read_ads", "create_ads", "read_payments"]
        life = c.token_life_s if c.expires_in_told is None else c.expires_in_told
        return reply(
            {
                "access_token": pair.access,
                "token_type": "bearer",
                "scope": scopes if c.scope_as_list else " ".join(scopes),
                "expires_in": str(life) if c.expires_in_as_text else life,
                "refresh_token": pair.refresh,
            }
        )

    def _oauth(self, status: int, error: str, description: str) -> Refusal:
        """DOC, second-hand: OAuth's own shape, or VK's."""
        shape = self._config().token_error_shape
        if shape == "vk":
            return Refusal(reply({"error": {"code": error, "message": description}}, status))
        if shape == "flat":
            return Refusal(reply({"code": error, "message": description}, status))
        return Refusal(reply({"error": error, "error_description": description}, status))

    def _book(self, user: str) -> UserBook:
        return self._users.setdefault(user, UserBook())

    def books(self) -> dict[str, Any]:
        """`tokens`: pairs that exist; `token_users`: what each user's tokens went through."""
        with self._lock:
            held = {user: sum(pair.user == user for pair in self._pairs) for user in sorted(self._users)}
            users = {user: {"pairs": count, **asdict(self._users[user])} for user, count in held.items()}
            return {"tokens": len(self._pairs), "token_users": users}


def _bearer(request: Request) -> str:
    scheme, _, access = request.header("authorization").partition(" ")
    return access.strip() if scheme.lower() == "bearer" else ""


def _refusal(code: str) -> Refusal:
    return Refusal(unauthorised(code, _SAID.get(code, code)))
