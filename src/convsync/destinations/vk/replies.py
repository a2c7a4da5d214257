"""What the VK Ads API says when it does not say yes: the words of a reply, its limits, and the table of what they mean."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from convsync.errors import Halted, NotSent
from convsync.model import Finding
from convsync.net import Reply, http_fault, scrub

MOSCOW = timezone(timedelta(hours=3), "Moscow")
"""Calendar days of limits, and times without a zone. DOC overview; that the days of limits are Moscow's is INFERRED."""
DEAD = frozenset({"expired_token", "invalid_token"})
"""Codes of a 401 that another access token mends. DOC, second-hand."""
SAT_OUT = 60.0
"""Seconds: a limit that asks for no more is waited for on the spot."""


class Means(enum.Enum):
    """What a reply says about a question; about a request that changes something, its route decides itself."""

    HALT = "halt"
    LATER = "later"


class Meaning(NamedTuple):
    means: Means
    code: str
    """Of the finding, where there is one."""
    message: str = ""
    advice: str = ""


_LATER = Meaning(Means.LATER, "later")
_REQUEST = Meaning(
    Means.HALT,
    "request_refused",
    "VK does not accept the form of the request.",
    "This is a mistake of convsync or a change at VK: look for a newer version, or report it.",
)
_BAD_TOKEN = Meaning(
    Means.HALT,
    "bad_token",
    "VK does not accept the token, although it was renewed.",
    "Check that `api_url` is where the keys were issued; `convsync vk token status` shows what is kept.",
)
REVOKE = "`convsync vk token revoke` ends all of them, also those of other programs, which then have to sign in anew"

REPLIES: Mapping[tuple[int, str], Meaning] = {
    # (HTTP status or 0 for any, code in small letters and without ERR_, or empty for every other). Codes: DOC Авторизация
    # в API, DOC Statistics, CODE kw, CODE mcp; what each means for us is our reading (facts, 12.3).
    (0, "invalid_client"): Meaning(
        Means.HALT,
        "bad_client",
        "VK does not know this client_id with this client_secret, or has blocked it.",
        "Copy both again from VK Ads, Settings, API access (the secret is shown there for ten minutes only), or ask"
        " ads_api@vk.team.",
    ),
    (0, "invalid_user"): Meaning(
        Means.HALT,
        "bad_user",
        "VK does not let this user in.",
        "See that it can still sign in at VK Ads, and compare agency_client_name or agency_client_id, if there is one.",
    ),
    (0, "revoked_token"): Meaning(
        Means.HALT,
        "revoked",
        "access was withdrawn at VK.",
        "Ask who owns the account why; then `convsync vk token revoke --here` forgets the token, and the next run asks"
        " for another.",
    ),
    (0, "token_limit_exceeded"): Meaning(
        Means.HALT,
        "token_limit",
        "VK gives a client_id and user at most five tokens, whatever their state, and all five are taken. Every program"
        " with this client_id shares them; VK deletes one that was not used for a month.",
        f"{REVOKE}. Or stop the program that asks for a token on each of its runs, and wait; or ask VK for keys that only"
        " convsync uses.",
    ),
    (401, "expired_token"): _BAD_TOKEN,
    (401, "invalid_token"): _BAD_TOKEN,
    (401, ""): Meaning(
        Means.HALT,
        "sign_in_refused",
        "VK does not let us in.",
        "Check client_id and client_secret, and `api_url`.",
    ),
    (403, ""): Meaning(
        Means.HALT,
        "no_rights",
        "these keys may not ask for this.",
        "Ask for the right at ads_api@vk.team or from your VK manager; if a proxy stands between, check that it lets"
        " requests to VK through.",
    ),
    (404, ""): Meaning(
        Means.HALT,
        "not_found",
        "VK does not know what was asked for.",
        "Compare the ids in the configuration with VK Ads, and `api_url` with the default.",
    ),
    (400, ""): _REQUEST,
    (405, ""): _REQUEST,
    (413, ""): _REQUEST,
    (429, ""): _LATER,
    (500, ""): _LATER,
    (502, ""): _LATER,
    (503, ""): _LATER,
    (504, ""): _LATER,
}
_MOVED = Meaning(
    Means.HALT,
    "moved",
    "the VK Ads API answered with a redirect, which is not followed: it would lose the authorisation.",
    "Check `api_url`, and whether a proxy asks for a login.",
)


def meaning(status: int, code: str) -> Meaning:
    """What the table says of a reply that is not a success; `code` as in `Said`."""
    code = code.lower()
    found = REPLIES.get((0, code)) or REPLIES.get((status, code)) or REPLIES.get((status, ""))
    if found is not None:
        return found
    if 300 <= status < 400:
        return _MOVED
    return _REQUEST if http_fault(status) == "refused" else _LATER


# -- the words ------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """A reply that is not a success, in VK's words."""

    code: str
    """As VK spells it, without ERR_; empty if it has none."""
    text: str
    """Status, code and words, scrubbed: it may be printed and kept."""
    fields: Mapping[str, Any]
    """`error.fields` as it came. It echoes what was sent: contacts, too. Never to be shown."""
    permission: str
    """The right that is missing, in VK's words; empty if it names none."""

    def __repr__(self) -> str:
        return f"Said({self.text!r})"


def said(reply: Reply) -> Said:
    """`{"error": {"code", "message", "fields", "required_permission"}}`, `{"error", "error_description"}`, or
    `{"code", "message"}` (DOC overview, DOC Авторизация в API), or whatever a proxy made of it."""
    try:
        told = reply.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        page = reply.body.lstrip()[:1] == b"<"
        code = _challenged(reply)
        words = "a page of HTML instead of JSON" if page else "no JSON" if told is None else "JSON of an unknown shape"
        return Said(code, " ".join(filter(None, (f"HTTP {reply.status}", code, words))), {}, "")
    error = told.get("error")
    inner = error if isinstance(error, dict) else told
    code = _code(inner.get("code")) or _code(error) or _challenged(reply)
    message = inner.get("message") or told.get("error_description") or ""
    fields = inner.get("fields")
    fields = fields if isinstance(fields, dict) else {}
    right = next((text for one in (inner, told) if (text := _permission(one.get("required_permission")))), "")
    parts = (str(message), *_wrong(fields), f"(it needs {right})" if right else "")
    shown = scrub(" ".join(filter(None, parts)))
    return Said(code, " ".join(filter(None, (f"HTTP {reply.status}", code, shown))), fields, right)


def _code(told: object) -> str:
    text = told.removeprefix("ERR_") if isinstance(told, str) else ""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}", text) else ""


def _challenged(reply: Reply) -> str:
    """The error in `WWW-Authenticate: Bearer realm="api", error="…"`."""
    found = re.search(r'\berror="?([A-Za-z_]+)', header(reply, "WWW-Authenticate"))
    return _code(found[1]) if found else ""


def _permission(told: object) -> str:
    first = told[0] if isinstance(told, list) and told else told
    return _code(first)


def _wrong(fields: Mapping[str, Any]) -> Iterator[str]:
    """Names of fields and what is wrong with them; an object, a list of them, or nested. Not their values."""
    for name, told in list(fields.items())[:5]:
        first = told[0] if isinstance(told, list) and told else told
        code = _code(first.get("code")) if isinstance(first, dict) else _code(first)
        yield ": ".join(filter(None, (_code(name) or "a field", code)))


def header(reply: Reply, name: str) -> str:
    return next((value for key, value in reply.headers.items() if key.lower() == name.lower()), "")


# -- the limits -----------------------------------------------------------------------------------------------


def _midnight(now: datetime) -> datetime:
    return now.astimezone(MOSCOW).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


_WINDOWS: tuple[tuple[str, Callable[[datetime], datetime]], ...] = (
    ("Daily", _midnight),
    ("Hourly", _hour),
    ("Minutely", _minute),  # CODE: an old client knew it
)


class UsedUp(NamedTuple):
    window: str
    """daily, hourly or minutely"""
    until: datetime

    def __str__(self) -> str:
        when = self.until.astimezone(MOSCOW)
        return f"rate_limit: the {self.window} limit of VK is used up until {when:%Y-%m-%d %H:%M} Moscow time"


def used_up(reply: Reply, now: datetime) -> UsedUp | None:
    """The longest calendar window in which nothing is left of the limit of this method, by the reply's headers."""
    for name, end in _WINDOWS:
        if _left(reply, name) == 0:
            return UsedUp(name.lower(), end(now))
    return None


def second_used_up(reply: Reply) -> bool:
    return _left(reply, "RPS") == 0


def wait_of(reply: Reply, now: datetime) -> float | None:
    """Seconds that a 429 asks for: Retry-After, else the end of a window that is used up; None if it does not tell."""
    asked = reply.retry_after(now)
    if asked is not None:
        return asked
    found = used_up(reply, now)
    return None if found is None else (found.until - now).total_seconds()


def _left(reply: Reply, window: str) -> int | None:
    """None without the header, and where the limit itself is 0: nobody could have been answered under that."""
    limit, left = (header(reply, f"X-RateLimit-{window}-{what}") for what in ("Limit", "Remaining"))
    if not re.fullmatch(r"-?\d{1,18}", left.strip()) or limit.strip() == "0":
        return None
    return max(0, int(left))


# -- from words to what is done -------------------------------------------------------------------------------


def fault(where: str, reply: Reply, now: datetime) -> Halted | NotSent:
    """What a reply that is not a success means for a question, or for a sign-in."""
    told = said(reply)
    found = meaning(reply.status, told.code)
    if found.means is Means.LATER:
        wait = wait_of(reply, now)
        limit = used_up(reply, now) if reply.status == 429 else None
        return NotSent(f"{limit}" if limit else told.text, wait)
    if 300 <= reply.status < 400:
        found = _moved(reply, found)
    return Halted(
        Finding("error", found.code, where, f"{found.message} It said: {told.text.rstrip('.')}.", found.advice)
    )


def _moved(reply: Reply, found: Meaning) -> Meaning:
    try:
        host = urlsplit(header(reply, "Location")).hostname or ""
    except ValueError:
        host = ""
    if not re.fullmatch(r"[a-z0-9.-]{1,253}", host):
        return found
    message = found.message.replace("a redirect", f"a redirect to {host}")
    return found._replace(message=message, advice=f'If that is VK\'s own host, write api_url = "https://{host}".')
