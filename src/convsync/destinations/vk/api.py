"""The VK Ads API as everything that asks it meets it: the bearer, limits, lists page by page, and refusals in words."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from convsync.destinations.vk.replies import DEAD, SAT_OUT, Said, UsedUp, fault, said, second_used_up, used_up, wait_of
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import Reply, Wire

__all__ = ["Api", "Bearer", "Said", "said"]

RENEWALS = 2
"""The first may bring what another process has left, dead as well where somebody withdrew all of them."""
PAGE = 50
"""Items: the most that lists give. DOC overview."""


class Bearer(Protocol):
    """Who knows an access token: `tokens.Tokens`. Both raise NotSent or Halted."""

    def bearer(self) -> str:
        """A token that is good for now."""
        ...

    def renewed(self, dead: str) -> str:
        """Another than `dead`, which VK did not take."""
        ...


class Api:
    """VK's API under one token. Its methods may be called from several threads."""

    def __init__(
        self,
        where: str,
        *,
        tokens: Bearer,
        wire: Wire,
        url: str,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        """`where` is the section of the configuration, for findings; `url` the scheme and host alone."""
        self.where = where
        self.wire = wire
        self._tokens = tokens
        self._url = url.rstrip("/")
        self._rest = rest or wire.stop.wait
        self._lock = threading.Lock()
        self._full: dict[str, UsedUp] = {}
        self._breath: dict[str, datetime] = {}

    def ask(self, path: str, params: Mapping[str, str] = {}, *, none_if: Collection[str] = ()) -> dict[str, Any] | None:
        """GET `path` ("/api/v2/ad_plans.json") → its JSON object; a bare list becomes `{"count", "items"}`.

        None where VK refuses with a code of `none_if`, whatever its capitals; "404" stands for any 404. Raises Halted
        (token, rights, a moved host, a mistake of ours) and NotSent (a limit, 5xx, no answer, an unreadable one).
        """
        query = f"?{urlencode(params, safe=',', quote_via=quote)}" if params else ""
        try:
            reply = self.exchange("GET", path + query)
        except Unclear as lost:
            raise NotSent(lost.reason) from lost
        if reply.status == 200:
            return _object(reply)
        code = said(reply).code
        if ("404" in none_if and reply.status == 404) or code.lower() in {one.lower() for one in none_if if one}:
            return None
        raise self.fault(reply)

    def pages(
        self, path: str, params: Mapping[str, str] = {}, *, limit: int = PAGE, none_if: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page, whatever `limit` the server makes of ours; raises as `ask`.

        It goes by the items that came: a server may clamp the limit, or know no pages and tell all at once.
        """
        seen, before = 0, None
        while True:
            told = self.ask(path, {**params, "limit": str(limit), "offset": str(seen)}, none_if=none_if)
            if told is None:
                return
            items, count = told.get("items"), _whole(told.get("count"))
            if not isinstance(items, list):
                raise NotSent("HTTP 200, no list of items")
            if items and items == before:
                if count is None:
                    return
                raise NotSent("HTTP 200, the same page twice")
            yield from (one for one in items if isinstance(one, dict))
            seen, before = seen + len(items), items
            if not items or (count is not None and seen >= count):
                return

    def exchange(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Reply:
        """A request with the bearer, and its answer whatever it says. Raises NotSent, Unclear, Halted.

        Only a 401 of a dead token, which VK did not process, is not returned at once: the token is renewed, and the
        request sent again.
        """
        bearer = self._tokens.bearer()
        for _ in range(RENEWALS):
            reply = self._sent(method, path, body, content_type, bearer)
            if reply.status != 401 or said(reply).code.lower() not in DEAD:
                return reply
            bearer = self._tokens.renewed(bearer)
        return self._sent(method, path, body, content_type, bearer)

    def fault(self, reply: Reply) -> Halted | NotSent:
        """What a reply that is not a success means for a question: to be raised."""
        return fault(self.where, reply, self.wire.clock())

    def wait_of(self, reply: Reply) -> float | None:
        """Seconds that a 429 asks for: Retry-After, else till Moscow's midnight or the next full hour if a limit of that
        window is used up; None if it does not tell."""
        return wait_of(reply, self.wire.clock())

    def finding(self, level: str, code: str, message: str, advice: str = "") -> Finding:
        return Finding(level, code, self.where, message, advice)

    # -- one request, and the limits of its method -------------------------------------------------------------

    def _sent(self, method: str, path: str, body: bytes | None, content_type: str, bearer: str) -> Reply:
        headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        limited = _method(method, path)
        self._wait_for(limited)
        growing = itertools.count()

        def again(reply: Reply) -> float | None:
            if reply.status != 429:
                return None
            wait = self.wait_of(reply)
            wait = 2.0 ** next(growing) if wait is None else wait
            return wait if wait <= SAT_OUT else None

        reply = self.wire.exchange(method, f"{self._url}{path}", headers=headers, body=body, again=again)
        self._note(limited, reply)
        return reply

    def _wait_for(self, limited: str) -> None:
        """Rest for what is left of a window that is used up, or raise NotSent with the wait if that is long."""
        now = self.wire.clock()
        with self._lock:
            full, breath = self._full.get(limited), self._breath.pop(limited, None)
        if full is not None and now < full.until:
            wait = (full.until - now).total_seconds()
            late = self.wire.deadline is not None and time.monotonic() + wait > self.wire.deadline
            if wait > SAT_OUT or late:
                raise NotSent(str(full), wait)
            self._rest(wait)
        elif breath is not None and now < breath:
            self._rest((breath - now).total_seconds())

    def _note(self, limited: str, reply: Reply) -> None:
        """Limits are told on every answer, for each method apart, in calendar windows. DOC overview."""
        now = self.wire.clock()
        full = used_up(reply, now)
        with self._lock:
            if full is not None:
                self._full[limited] = full
            else:
                self._full.pop(limited, None)
            if second_used_up(reply):
                self._breath[limited] = now.replace(microsecond=0) + timedelta(seconds=1)


def _method(method: str, path: str) -> str:
    """What VK counts together: the path without its ids."""
    resource = re.sub(r"(?<=/)\d+(?=[./])", "0", path.partition("?")[0])
    return f"{method} {resource}"


def _object(reply: Reply) -> dict[str, Any]:
    try:
        told = reply.json()
    except ValueError as wrong:
        raise NotSent("HTTP 200, no JSON") from wrong
    if isinstance(told, list):
        return {"count": len(told), "items": told}
    if not isinstance(told, dict):
        raise NotSent("HTTP 200, JSON of an unknown shape")
    return told


def _whole(told: object) -> int | None:
    text = str(told) if isinstance(told, int | str) and not isinstance(told, bool) else ""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None
