"""Signing in to VK Ads: one token for all runs of a ledger, refreshed by one of them at a time.

VK gives a client_id and user five tokens, whatever their state, and a refresh kills the old access value at once (DOC
Авторизация в API). So the pair is kept, every change of it happens under a lock that processes share, and whoever was
told that a token is dead looks first whether another has left a newer one.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlencode, urlsplit

from convsync.destinations.vk.replies import DEAD, SAT_OUT, fault, said, wait_of
from convsync.errors import ConvsyncError, Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import Reply, Wire, http_fault

TOKEN = "/api/v2/oauth2/token.json"  # noqa: S105  (a path)
DELETE = "/api/v2/oauth2/token/delete.json"
LIFE = timedelta(hours=24)
"""Of an access value whose answer does not tell. DOC Авторизация в API."""
EARLY = timedelta(minutes=10)
"""How long before its end an access value is refreshed; less where it lives shortly."""
HOLD_OFF = timedelta(minutes=1)
"""How long a value that is still good is used after its refresh was turned away."""
LOST = 2
"""New tokens whose answer was lost that are asked for without a pause; each may be one of the five."""
PAUSE, LONGEST_PAUSE = timedelta(minutes=10), timedelta(hours=6)
STEP = 0.5
"""Seconds between two looks, while another holds the lock, whether this run is to end."""
FINAL = frozenset({"invalid_client", "invalid_user", "revoked_token", "token_limit_exceeded", "access_denied"})
"""Refusals of a refresh that a new token would meet as well, or that a person has meant."""


class Keeper(Protocol):
    """Where objects of JSON outlive a run (`ledger.vault.Vault`). All but `read` only under the lock.

    Raises ConvsyncError where it cannot; `lock` raises TimeoutError.
    """

    def read(self, key: str) -> Mapping[str, Any] | None: ...

    def keep(self, key: str, kept: Mapping[str, Any]) -> None: ...

    def forget(self, key: str) -> None: ...

    def lock(self, timeout: float) -> AbstractContextManager[None]: ...


class Client(NamedTuple):
    """Whose data: the owner of the keys, or a client of an agency by name or by id."""

    client_id: str
    client_secret: str
    agency_client_name: str = ""
    agency_client_id: str = ""
    agency_token: str = ""
    """Of a third party's agency."""

    def __repr__(self) -> str:
        return f"Client({self.client_id!r})"

    def key(self, url: str) -> str:
        """The same for every process that signs in as this client at this host; tells no secret."""
        told = "\n".join((urlsplit(url).netloc.lower(), self.client_id, self.agency_client_name, self.agency_client_id))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def wish(self) -> dict[str, str]:
        """The form that asks for a new token. DOC Авторизация в API."""
        if not (self.agency_client_name or self.agency_client_id):
            return {"grant_type": "client_credentials", **self._keys()}
        named = {
            "agency_client_name": self.agency_client_name,
            "agency_client_id": self.agency_client_id,
            "access_token": self.agency_token,
        }
        chosen = {key: value for key, value in named.items() if value}
        return {"grant_type": "agency_client_credentials", **self._keys(), **chosen}

    def refresh(self, refresh: str) -> dict[str, str]:
        return {"grant_type": "refresh_token", "refresh_token": refresh, **self._keys()}

    def farewell(self) -> dict[str, str]:
        """The form that ends every token of the client. CODE mcp."""
        named = {"username": self.agency_client_name, "user_id": self.agency_client_id}
        return {**self._keys(), **{key: value for key, value in named.items() if value}}

    def _keys(self) -> dict[str, str]:
        return {"client_id": self.client_id, "client_secret": self.client_secret}


class Kept(NamedTuple):
    """What is remembered of a client: its pair, if there is one, and what was asked for."""

    access: str = ""
    refresh: str = ""
    expires_at: datetime | None = None
    made_at: datetime | None = None
    refreshed_at: datetime | None = None
    asked: int = 0
    """New tokens that were made, or may have been."""
    lost: int = 0
    """Those of them, the last in a row, whose answer never came."""
    asked_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Kept(expires_at={self.expires_at}, asked={self.asked})"

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Self:
        """What `written` made; what cannot be read counts as not there."""
        told = told or {}
        access, refresh = (_token(told.get(name)) for name in ("access", "refresh"))
        expires_at, made_at, refreshed_at, asked_at = (_time(told.get(name)) for name in TIMES)
        asked, lost = (told[name] if type(told.get(name)) is int else 0 for name in ("asked", "lost"))
        return cls(access, refresh, expires_at, made_at, refreshed_at, asked, lost, asked_at)

    def written(self) -> dict[str, Any]:
        times = {name: value.isoformat() for name in TIMES if (value := getattr(self, name)) is not None}
        return {**self._asdict(), **dict.fromkeys(TIMES), **times}

    def good(self, now: datetime, early: bool = True) -> bool:
        """Whether the access value lives; `early`: and long enough to be left alone."""
        if not self.access or self.expires_at is None:
            return False
        begun = self.refreshed_at or self.made_at or now
        margin = min(EARLY, max(timedelta(0), self.expires_at - begun) / 4) if early else timedelta(0)
        return now < self.expires_at - margin


TIMES = ("expires_at", "made_at", "refreshed_at", "asked_at")


class Tokens:
    """The access token of one client, for every thread of a run. `bearer` and `renewed` raise NotSent and Halted."""

    def __init__(self, where: str, *, client: Client, keeper: Keeper, wire: Wire, url: str) -> None:
        self.wire = wire
        self.url = url.rstrip("/")
        self.where = where
        self._client = client
        self._keeper = keeper
        self._key = client.key(url)
        self._lock = threading.Lock()
        self._memory = Kept()
        self._until: datetime | None = None
        """Till when a value near its end is good enough: its refresh was turned away just now."""
        self._refused: Finding | None = None

    def bearer(self) -> str:
        """A token that is good for now: the one in memory, the one that is kept, or one that VK is asked for."""
        if not self._enough(self._memory):
            self._memory = self.kept()
        if self._enough(self._memory):
            return self._memory.access
        with self._alone():
            kept = self.kept()
            if not self._enough(kept):
                kept = self._early(kept)
            self._memory = kept
        return kept.access

    def renewed(self, dead: str) -> str:
        """Another than `dead`, which VK did not take: what another process has left meanwhile, or a fresh one."""
        with self._alone():
            kept = self.kept()
            if kept.access == dead or not self._enough(kept):
                kept = self._fresh(kept)
            self._memory = kept
        return kept.access

    def kept(self) -> Kept:
        """What is remembered. Asks nobody; raises Halted where the file cannot be read."""
        with self._readable():
            return Kept.of(self._keeper.read(self._key))

    def forget(self) -> None:
        """Here, not at VK."""
        with self._alone(), self._readable():
            self._memory = Kept()
            self._keeper.forget(self._key)

    def revoke(self) -> None:
        """End every token of this client and user at VK, other programs' too, and forget ours. Raises NotSent (it may
        have happened all the same: to ask again is harmless) and Halted."""
        with self._alone():
            try:
                reply = self._post(DELETE, self._client.farewell())
            except Unclear as lost:
                raise NotSent(f"token_{lost.reason}") from None
            if not 200 <= reply.status < 300:
                raise self._fault(reply)
            with self._readable():
                self._memory = Kept()
                self._keeper.forget(self._key)

    # -- from what is kept to what is fresh: under the lock -----------------------------------------------------

    def _enough(self, kept: Kept) -> bool:
        now = self.wire.clock()
        return kept.good(now) or (self._until is not None and now < self._until and kept.good(now, early=False))

    def _early(self, kept: Kept) -> Kept:
        """Fresh, or as it is if VK certainly did not touch it and it still lives."""
        try:
            return self._fresh(kept)
        except NotSent:
            kept, now = self.kept(), self.wire.clock()
            if not kept.good(now, early=False):
                raise
            self._until = now + HOLD_OFF
            return kept

    def _fresh(self, kept: Kept) -> Kept:
        if self._refused is not None:
            raise Halted(self._refused)
        try:
            return (self._refreshed(kept) if kept.refresh else None) or self._new(kept)
        except Halted as stop:
            self._refused = stop.finding
            raise

    def _refreshed(self, kept: Kept) -> Kept | None:
        """None if VK does not know the refresh token any more. A lost answer leaves the old access value in doubt, so it
        counts as ended; the refresh token works again."""
        now = self.wire.clock()
        try:
            reply = self._post(TOKEN, self._client.refresh(kept.refresh))
            fresh = self._granted(reply, now) if reply.status == 200 else None
        except Unclear as lost:
            self._keep(kept._replace(expires_at=now))
            raise NotSent(f"token_{lost.reason}") from None
        if fresh is not None:
            refresh = fresh.refresh or kept.refresh
            return self._keep(
                kept._replace(access=fresh.access, refresh=refresh, expires_at=fresh.expires_at, refreshed_at=now)
            )
        told = said(reply)
        if reply.status in (400, 401, 404) and told.code and told.code.lower() not in FINAL:
            return None
        if http_fault(reply.status) == "ambiguous" and not 300 <= reply.status < 400:
            self._keep(kept._replace(expires_at=now))
        raise self._fault(reply)

    def _new(self, kept: Kept) -> Kept:
        """One of the five: it is counted before it is asked for, so that one whose answer is lost is not forgotten."""
        now = self.wire.clock()
        # what a clock that was ahead has left says nothing
        if kept.lost >= LOST and kept.asked_at is not None and kept.asked_at <= now:
            pause = min(PAUSE * 2 ** min(kept.lost - LOST, 10), LONGEST_PAUSE)
            left = (kept.asked_at + pause - now).total_seconds()
            if left > 0:
                raise NotSent("token_unanswered: VK did not answer when a new token was asked for, a pause", left)
        self._keep(kept._replace(asked=kept.asked + 1, lost=kept.lost + 1, asked_at=now))
        try:
            reply = self._post(TOKEN, self._client.wish())
            if reply.status == 200:
                return self._keep(self._granted(reply, now)._replace(asked=kept.asked + 1))
        except Unclear as lost:
            raise NotSent(f"token_{lost.reason}") from None
        except NotSent:
            self._keep(kept)
            raise
        if http_fault(reply.status) != "ambiguous" or 300 <= reply.status < 400:
            self._keep(kept)
        told = said(reply)
        if self._client.agency_token and told.code.lower() in DEAD:
            message = f"VK does not accept agency_token. It said: {told.text.rstrip('.')}."
            advice = (
                "Put the agency's present access token there: it lives a day, and each refresh of it makes another."
            )
            raise Halted(Finding("error", "agency_token", self.where, message, advice))
        raise self._fault(reply)

    def _granted(self, reply: Reply, now: datetime) -> Kept:
        """`{"access_token", "refresh_token", "expires_in": "86400" or 86400, …}`; Unclear if it cannot be read."""
        try:
            told = reply.json()
        except ValueError:
            told = None
        access, refresh = (_token(told.get(name)) for name in NAMES) if isinstance(told, dict) else ("", "")
        if not access:
            raise Unclear("bad_reply")
        seconds = str(told.get("expires_in"))
        life = timedelta(seconds=int(seconds)) if re.fullmatch(r"[1-9]\d{0,8}", seconds, re.ASCII) else LIFE
        return Kept(access, refresh, now + life, now)

    # -- the wire and the file --------------------------------------------------------------------------------

    def _post(self, path: str, form: Mapping[str, str]) -> Reply:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}

        def again(reply: Reply) -> float | None:
            wait = wait_of(reply, self.wire.clock()) if reply.status == 429 else None
            return wait if wait is not None and wait <= SAT_OUT else None

        body = urlencode(form).encode("ascii")
        return self.wire.exchange("POST", f"{self.url}{path}", headers=headers, body=body, again=again)

    def _fault(self, reply: Reply) -> Halted | NotSent:
        return fault(self.where, reply, self.wire.clock())

    def _keep(self, kept: Kept) -> Kept:
        with self._readable():
            self._keeper.keep(self._key, kept.written())
        return kept

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except ConvsyncError as error:
            raise Halted(Finding("error", "token_file", self.where, error.message, error.advice)) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only one, of all threads and processes, that changes the pair. Whoever holds the lock sends one or two
        requests, so it is waited for as long as those may take."""
        until = time.monotonic() + 2 * self.wire.longest + STEP
        with self._lock, ExitStack() as held:
            while True:
                if self.wire.stop.is_set():
                    raise NotSent("interrupted")
                try:
                    with self._readable():
                        held.enter_context(self._keeper.lock(STEP))
                    break
                except TimeoutError:
                    if time.monotonic() > until:
                        raise NotSent("token_lock: another process has been signing in to VK for too long") from None
            yield


class Dead(Exception):
    """VK does not take the access value."""


class AsItIs:
    """One access value, to see whether VK takes it: neither asks for another nor refreshes. Raises Dead."""

    def __init__(self, access: str) -> None:
        self._access = access

    def bearer(self) -> str:
        return self._access

    def renewed(self, dead: str) -> str:
        raise Dead


NAMES = ("access_token", "refresh_token")


def _token(told: object) -> str:
    return told if isinstance(told, str) and re.fullmatch(r"[!-~]{1,4096}", told) else ""


def _time(told: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
