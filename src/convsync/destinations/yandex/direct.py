"""Yandex.Direct, to read from: what a client's account is (`Clients.get`) and what it spent (Reports), over JSON.

A report that is made offline is asked for again and again, with the identical request, until it is there (DOC DD/mode,
DD/codes). Reading changes nothing, so a request whose answer was lost is simply sent again.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import orjson

from convsync.errors import ConfigError, Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import Reply, Wire, http_fault, scrub

PER_SECOND = 2.0
"""Requests of one user: 20 in 10 seconds. DOC DD/restrictions."""
PATIENCE = 600.0
"""Seconds of waiting for one answer. A report made offline usually takes a minute or two."""
FIELDS = ("ClientId", "Login", "Currency", "Type")
"""Neither name nor contacts. DOC DD/clients/get: of an agency itself no currency is told."""


class Means(enum.Enum):
    DONE = "done"
    BUILDING = "building"
    """Not ready: the identical request again."""
    LATER = "later"
    """It will be answered at another time."""
    TOO_LONG = "too_long"
    """Too much to make in time: fewer days."""
    HALT = "halt"
    REFUSED = "refused"
    """Not answered, for a reason that is neither time nor configuration, or that nobody documented."""


class Meaning(NamedTuple):
    means: Means
    code: str = ""
    """Of the finding."""
    message: str = ""
    advice: str = ""
    wait: float = 0
    """Seconds before the next try, for `LATER` doubled each time, unless Direct asks for another wait."""
    tries: int = 0
    """How often it is asked again."""


OF_THE_LOGIN = frozenset({"direct_no_rights", "direct_no_login"})
"""Findings that stop one login and say nothing of the others."""

_SERVER = Meaning(Means.LATER, wait=5, tries=5)
_RATE = Meaning(Means.LATER, wait=10, tries=5)
_REFUSED = Meaning(Means.REFUSED)
_LOGIN = Meaning(
    Means.HALT,
    "direct_no_login",
    "Yandex.Direct does not know this login.",
    "Check client_login and cost_client_logins: the login of the client in Direct, not its e-mail.",
)
_ADDRESS = Meaning(
    Means.HALT,
    "direct_address",
    "this is not the address of Yandex.Direct's API, or a version that it does not answer.",
    "Check direct_url and direct_version, and whether a proxy asks for a login.",
)
_TOKEN = Meaning(
    Means.HALT,
    "direct_token",
    "Yandex.Direct does not accept the token.",
    "Issue a new OAuth token with the right direct:api and put it in direct_token, or in token if one has all rights.",
)
_RIGHTS = Meaning(
    Means.HALT,
    "direct_no_rights",
    "the token may not read this account.",
    "Its owner needs access to the account in Direct, and the token the right direct:api.",
)
_ACCESS = Meaning(
    Means.HALT,
    "direct_no_access",
    "the application of the token has no access to Yandex.Direct's API.",
    "Ask for it in Direct, Tools, API, and have it approved; a trial request opens only Direct's own sandbox.",
)

REPLIES: Mapping[int, Meaning] = {
    # By error_code. DOC DD/concepts/errors-list; what to do, and how long to wait, is our reading (facts, 12.3).
    52: _SERVER,
    53: _TOKEN,
    54: _RIGHTS,
    56: _RATE,
    58: _ACCESS,
    152: Meaning(
        Means.LATER,
        advice="The day's points are shared by every program of this account; a part comes back every hour.",
        wait=300,
        tries=1,
    ),
    500: _SERVER,
    506: _RATE,
    513: _LOGIN,
    1000: _SERVER,
    1001: _SERVER,
    1002: _SERVER,
    3000: _ACCESS,
    8000: Meaning(
        Means.HALT,
        "direct_bad_request",
        "Yandex.Direct does not accept the request.",
        "The token of an agency needs client_login or cost_client_logins. Cost is kept for about three years."
        " If it is neither, look for a newer version of convsync, or report it.",
    ),
    8800: _LOGIN,  # "object not found": a login is the only object that these requests name
    9000: Meaning(
        Means.LATER,
        advice="Five reports at a time are made for one user: see what else asks for them.",
        wait=10,
        tries=5,
    ),
}
STATUSES: Mapping[int, Meaning] = {
    # By HTTP status, where no error is told. DOC DD/codes.
    200: Meaning(Means.DONE),
    201: Meaning(Means.BUILDING, wait=10),
    202: Meaning(Means.BUILDING, wait=10),
    401: _TOKEN,
    403: _RIGHTS,
    404: _ADDRESS,
    429: _RATE,
    502: Meaning(Means.TOO_LONG),
}


def meaning(status: int, code: int | None) -> Meaning:
    """What the tables say of a reply. Of HTTP 502 the status counts, of all others the error, if one is told."""
    if status == 502:
        return STATUSES[status]
    if code is not None:
        return REPLIES.get(code, _REFUSED)
    if status in STATUSES:
        return STATUSES[status]
    if 300 <= status < 400:
        return _ADDRESS
    return _SERVER if status >= 500 or http_fault(status) == "not_processed" else _REFUSED


class Said(NamedTuple):
    """An error in Direct's words, scrubbed; `code` is None where it told none."""

    code: int | None
    text: str


def said(reply: Reply) -> Said | None:
    """`{"error": {"error_code", "error_string", "error_detail"}}`, also under HTTP 200; None for anything else.

    The number may come as text (DOC DD/codes shows a number; CODE tapi-direct, direct-cli read `code`).
    """
    if reply.body.lstrip()[:1] != b"{":
        return None
    try:
        told = reply.json()
    except ValueError:
        return None
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return None
    number = str(error.get("error_code", error.get("code", "")))
    words = [str(error[name]) for name in ("error_string", "error_detail") if error.get(name)]
    code = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else None
    return Said(code, f"{'' if code is None else code} {scrub(': '.join(words))}".strip())


class DirectRefused(Exception):
    """Direct did not answer, for a reason that is neither configuration nor credentials. `passes`: another time it may."""

    def __init__(self, message: str, advice: str, *, passes: bool) -> None:
        super().__init__(message)
        self.message, self.advice, self.passes = message, advice, passes


class Direct:
    """Yandex.Direct under one token. `where` names the section of the configuration that findings point at.

    `rest` sleeps so many seconds and says whether the run was stopped meanwhile.
    """

    def __init__(
        self,
        where: str,
        *,
        token: str,
        wire: Wire,
        url: str = "https://api.direct.yandex.com",
        version: str = "v501",
        mode: Literal["auto", "online", "offline"] = "auto",
        patience: timedelta = timedelta(seconds=PATIENCE),
        rest: Callable[[float], bool] | None = None,
    ) -> None:
        if not re.fullmatch(r"[!-~]*", token):
            raise ConfigError(f"{where}: the token of Direct has blanks or letters no token has.", "Copy it again.")
        self._where = where
        self._token = token
        self._wire = wire
        self._url = f"{url.rstrip('/')}/json/{version}"
        self._mode = mode
        self._patience = patience.total_seconds()
        self._rest = rest or wire.stop.wait

    def client(self, login: str) -> dict[str, Any]:
        """What `Clients.get` tells of the client, or of the token's own account (`login` empty): `FIELDS`."""
        reply = self._answer("clients", login, {"method": "get", "params": {"FieldNames": FIELDS}}, {})
        if reply is None:
            raise NotSent("HTTP 502")
        try:
            told = reply.json()["result"]["Clients"][0]
        except (ValueError, LookupError, TypeError):
            told = None
        if not isinstance(told, dict):
            raise NotSent("no account in the answer")
        return told

    def report(self, login: str, params: Mapping[str, Any]) -> bytes | None:
        """A report as TSV, its columns named in the first line; None: too much to make in time, ask for fewer days."""
        headers = {
            "processingMode": self._mode,
            "returnMoneyInMicros": "false",
            "skipReportHeader": "true",
            "skipColumnHeader": "false",
            "skipReportSummary": "true",
        }
        reply = self._answer("reports", login, {"params": params}, headers)
        return None if reply is None else reply.body

    def _answer(self, service: str, login: str, question: Mapping[str, Any], more: Mapping[str, str]) -> Reply | None:
        """Ask until there is an answer or `patience` has run out; None: too much for one answer.

        Raises DirectRefused, NotSent and Halted.
        """
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept-Language": "en",
            "Content-Type": "application/json; charset=utf-8",
            **more,
        }
        if login:
            headers["Client-Login"] = self._checked(login)
        url, body = f"{self._url}/{service}", orjson.dumps(question)
        waited, asked = 0.0, Counter[Meaning]()
        while True:
            lost = ""
            try:
                reply = self._wire.exchange("POST", url, headers=headers, body=body)
            except Unclear as fault:
                if fault.reason == "too_large":
                    return None
                lost, found, told, wait = fault.reason, _SERVER, Said(None, ""), None
            else:
                told = said(reply) or Said(None, f"HTTP {reply.status}")
                found = meaning(reply.status, told.code)
                wait = self._wish(reply)
            match found.means:
                case Means.DONE:
                    return reply
                case Means.TOO_LONG:
                    return None
                case Means.HALT:
                    raise Halted(self._finding(found, told))
                case Means.REFUSED:
                    # DOC DD/mode: in the mode `online` a report that takes too long is an error, of no number told
                    advice = 'If it needs more time than `online` gives it: direct_mode = "auto".'
                    online = service == "reports" and self._mode == "online"
                    raise DirectRefused(f"Direct says: {told.text}", advice if online else "", passes=False)
            later = found.means is Means.LATER
            pause = max(found.wait * (2 ** asked[found] if later else 1) if wait is None else wait, 1 / PER_SECOND)
            if (later and asked[found] >= found.tries) or waited + pause > self._patience:
                if lost:
                    raise NotSent(lost)
                raise self._gave_up(found, told)
            asked[found] += 1
            waited += pause
            if self._rest(pause):
                raise NotSent("interrupted")

    def _gave_up(self, found: Meaning, told: Said) -> DirectRefused:
        if found.means is Means.BUILDING:
            message = "Direct has not made the report in time."
            return DirectRefused(message, "Try again later, or ask for fewer days with --since.", passes=True)
        return DirectRefused(f"Direct says: {told.text}", f"Try again later. {found.advice}".strip(), passes=True)

    def _wish(self, reply: Reply) -> float | None:
        """Seconds that Direct asks to wait. DOC DD/headers: `retryIn`."""
        text = next((value for name, value in reply.headers.items() if name.lower() == "retryin"), "").strip()
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
            return float(text)
        return reply.retry_after(self._wire.clock())

    def _checked(self, login: str) -> str:
        if not re.fullmatch(r"[!-~]+", login):
            raise ConfigError(
                f"{self._where}: {login[:40]!r} is no login: it has blanks or letters that no login of Yandex has.",
                "Check client_login and cost_client_logins.",
            )
        return login

    def _finding(self, found: Meaning, told: Said) -> Finding:
        message = f"{found.message} It said: {told.text.rstrip('.')}."
        return Finding("error", found.code, self._where, message, found.advice)
