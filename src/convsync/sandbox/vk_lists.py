"""VK's offline lists: files of phones or e-mails with a day each, and what VK makes of them.

`Vk.peek` hands the operations in `FILES` to `Lists.read`, so that faults can go by the rows of a file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from convsync.sandbox import vk_list_file
from convsync.sandbox.clock import Clock
from convsync.sandbox.vk_door import MOSCOW, Door
from convsync.sandbox.vk_list_file import BadFile, Row, Sent
from convsync.sandbox.web import Refusal, Request, Response, Route, reply, route

FILES = ("vk.new_list", "vk.list_add")
_PATH = "/api/v2/remarketing/offline_goals"
_FIRST_ID = 83213
_TYPES = ("phone", "email")
_FIELDS = ("id", "created", "updated", "name", "type", "attribution_period", "load_status")
_RIGHTS = {
    "read": "OfflineGoalses_read_permission",
    "create": "OfflineGoalses_create_permission",
    "update": "OfflineGoals_update_permission",
    "delete": "OfflineGoals_delete_permission",
}
"""CODE kw for the first three; the name of the last is INFERRED from them."""
_SAID = {
    "not_enough_ids": "There are not enough ids in the file",
    "too_many_ids": "There are too many ids in the file",
    "invalid_csv_header": "The header of the file is invalid",
    "file_reading_error": "The file cannot be read",
}


@dataclass
class ListsConfig:
    """How VK takes offline lists. What the documentation leaves open can be switched."""

    denied: list[str] = field(default_factory=list)
    """Any of read | create | update | delete: 403 access_denied with the permission that is missing."""
    fields_mode: str = "fields"
    """Where name, type, attribution_period stand: fields = parts of their own | data_json = a part `data` | both."""
    name_max: int = 255
    """Longest name. UNSURE."""
    attribution_period: int | None = 90
    """For a list that comes without; None = it is required. Days, 1 … 365."""

    header: str = "required"
    """required | forbidden | either | skipped (the first line is dropped, whatever it says). UNSURE."""
    header_line: str = "ID,date"
    header_taken_as_row: bool = False
    """With `forbidden`: a header is not named invalid_csv_header but read as a row, and refused as line 1."""
    count_header: bool = True
    """Line numbers begin with 1 at the header (True) or at the first row. UNSURE."""
    min_rows: int = 10
    """Fewer rows → not_enough_ids."""
    min_rows_when_adding: bool = True
    """Whether that holds for a file that is added to a list. UNSURE."""
    max_rows: int = 5_000_000
    """More → too_many_ids. DOC for users_lists."""
    max_bytes: int = 128 << 20
    """Of the file; more → 413. DOC for users_lists."""
    md5_accepted: bool = True
    """True: the MD5 (32 hex) of a contact is as good as the contact; False: invalid_md5. UNSURE."""
    future_refused: bool = True
    """A day after today in Moscow → invalid_date_time. Undocumented."""
    duplicates: str = "counted"
    """The same contact and day again in one file: counted | reported (duplicated_user_id) | dropped. UNSURE."""
    two_dates_reported: bool = False
    """True: one contact with two days in one file is duplicated_user_id. UNSURE."""
    lines_named: int | None = None
    """How many of the bad lines a 400 names; None = all."""
    file_error_shape: str = "object"
    """Of a word about the whole file: object {"list_users": {"code"}} | list {"list_users": [{"code"}]} | code
    (`error.code` itself). UNSURE."""

    list_delay_s: float = 0
    """By the sandbox's clock: until then a new list is not in the listing."""
    paged: bool = False
    """True: the listing has limit, offset, count, as others have. DOC shows none."""
    match_s: float = 2
    """From a file's arrival until load_status is `matched`; before: `new`, then `processing`."""
    status_word: str = ""
    """Not empty: every list has this load_status."""
    status_absent: bool = False
    """True: lists are shown without load_status."""


@dataclass
class OfflineList:
    id: int
    user: str
    name: str
    type: str
    attribution_period: int
    created: float
    updated: float
    loaded: float
    """When its last file came."""
    rows: int = 0
    by_contact: Counter[str] = field(default_factory=Counter)
    """`HASH DD.MM.YYYY` → how many rows; see `key`."""

    def take(self, rows: list[Row]) -> None:
        self.rows += len(rows)
        self.by_contact.update(key(row.contact, row.date) for row in rows)


class Lists:
    """The lists of everybody; a token sees those of its user."""

    def __init__(self, door: Door, config: Callable[[], ListsConfig], clock: Clock) -> None:
        self._door = door
        self._settings = config
        self._clock = clock
        self._lock = threading.RLock()
        self.reset()

    @property
    def _config(self) -> ListsConfig:
        return self._settings()

    def reset(self) -> None:
        with self._lock:
            self._lists: dict[int, OfflineList] = {}
            self._next = _FIRST_ID
            self._deleted = 0
            self._refused: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        guarded, one = self._door.guarded, _PATH + "/{id}.json"
        return [
            *route("vk.lists", "GET", f"{_PATH}.json", guarded(self._listed)),
            *route("vk.new_list", "POST", f"{_PATH}.json", guarded(self._create)),
            *route("vk.list", "GET", one, guarded(self._door.wrong_method)),
            *route("vk.list_add", "POST", one, guarded(self._add)),
            *route("vk.list_delete", "DELETE", one, guarded(self._delete)),
        ]

    def read(self, request: Request) -> None:
        """Read the form once; never fails. `rows` = lines of the file without a header."""
        request.data = sent = vk_list_file.read(request)
        if sent.lines is not None:
            request.rows = len(sent.lines) - (sent.lines[:1] == [self._config.header_line])

    # GET

    def _listed(self, request: Request, names: dict[str, str]) -> Response:
        self._allow("read")
        user, visible = self._door.user(request), self._clock.time() - self._config.list_delay_s
        asked = request.params().get("fields", "")
        wanted = asked.split(",") if asked else list(_FIELDS)
        with self._lock:
            found = [one for one in self._lists.values() if one.user == user and one.created <= visible]
            items = [{name: value for name, value in self._shown(one).items() if name in wanted} for one in found]
        return self._door.page(request, items) if self._config.paged else reply({"items": items})

    def _shown(self, one: OfflineList) -> dict[str, Any]:
        shown = {
            "id": one.id,
            "created": _moscow(one.created),
            "updated": _moscow(one.updated),
            "name": one.name,
            "type": one.type,
            "attribution_period": one.attribution_period,
            "load_status": self._status(one),
        }
        if self._config.status_absent:
            del shown["load_status"]
        return shown

    def _status(self, one: OfflineList) -> str:
        """DOC names only `matched`; the words before it are ours."""
        since = self._clock.time() - one.loaded
        late = "matched" if since >= self._config.match_s else "processing"
        return self._config.status_word or ("new" if since < self._config.match_s / 2 else late)

    # POST and DELETE

    def _create(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: 204, no body, no id; a name may be there already."""
        self._allow("create")
        sent = self._sent(request)
        name, kind, period = self._described(sent)
        rows = self._rows(sent, kind, self._config.min_rows)
        user, now = self._door.user(request), self._clock.time()
        with self._lock:
            made = OfflineList(self._next, user, name, kind, period, now, now, now)
            made.take(rows)
            self._lists[made.id] = made
            self._next += 1
        request.note = f"list {made.id}: {len(rows)} rows"
        return Response(204)

    def _add(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: a file, a name or both; 204."""
        self._allow("update")
        one = self._own(request, names["id"])
        sent = self._sent(request)
        asked = self._asked(sent)
        if sent.file is None and "name" not in asked:
            raise self._invalid({"list_users": _problem("required")})
        name, wrong = self._name(asked) if "name" in asked else (one.name, {})
        if wrong:
            raise self._invalid(wrong)
        least = self._config.min_rows if self._config.min_rows_when_adding else 1
        rows = [] if sent.file is None else self._rows(sent, one.type, least)
        with self._lock:
            self._own(request, names["id"])
            one.name, one.updated = name, self._clock.time()
            if rows:
                one.take(rows)
                one.loaded = one.updated
        request.note = f"list {one.id}: {len(rows)} rows more"
        return Response(204)

    def _delete(self, request: Request, names: dict[str, str]) -> Response:
        self._allow("delete")
        with self._lock:
            del self._lists[self._own(request, names["id"]).id]
            self._deleted += 1
        return Response(204)

    # What is asked for, or why not.

    def _allow(self, what: str) -> None:
        if what in self._config.denied:
            raise self._no(403, "access_denied", "Access denied", required_permission=_RIGHTS[what])

    def _own(self, request: Request, given: str) -> OfflineList:
        user = self._door.user(request)
        with self._lock:
            found = self._lists.get(int(given)) if given.isascii() and given.isdigit() else None
        if found is None or found.user != user:
            raise self._no(404, "not_found", "Object not found")
        return found

    def _sent(self, request: Request) -> Sent:
        sent: Sent = request.data
        if sent.problem:
            raise self._no(400, "validation_failed", f"Not a form: {sent.problem}")
        if sent.file is not None and len(sent.file) > self._config.max_bytes:
            raise self._no(413, "request_too_large", f"The file is larger than {self._config.max_bytes} bytes")
        return sent

    def _asked(self, sent: Sent) -> dict[str, Any]:
        try:
            return vk_list_file.fields_of(sent, self._config.fields_mode)
        except ValueError:
            raise self._invalid({"data": _problem("invalid")}) from None

    def _described(self, sent: Sent) -> tuple[str, str, int]:
        """Name, type and days of a new list."""
        asked = self._asked(sent)
        name, wrong = self._name(asked)
        kind = asked.get("type")
        if kind not in _TYPES:
            wrong["type"] = _problem("invalid" if kind else "required")
        period = _days(asked.get("attribution_period", self._config.attribution_period))
        if not 1 <= period <= 365:
            wrong["attribution_period"] = _problem("invalid" if "attribution_period" in asked else "required")
        if sent.file is None:
            wrong["list_users"] = _problem("required")
        if wrong:
            raise self._invalid(wrong)
        return name, str(kind), period

    def _name(self, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        given = asked.get("name")
        if not isinstance(given, str) or not given.strip():
            return "", {"name": _problem("required")}
        return given, {"name": _problem("too_long")} if len(given) > self._config.name_max else {}

    def _rows(self, sent: Sent, kind: str, least: int) -> list[Row]:
        try:
            return vk_list_file.rows(sent.lines, self._config, kind, least, self._door.today())
        except BadFile as problem:
            raise self._bad_file(problem) from None

    def _bad_file(self, problem: BadFile) -> Refusal:
        if problem.lines:
            named = problem.lines[: self._config.lines_named]
            lines = [{"line_number": bad.number, "line": bad.line, "code": bad.code} for bad in named]
            return self._invalid({"list_users": lines}, problem.code)
        told = _problem(problem.code)
        shape = self._config.file_error_shape
        if shape == "code":
            return self._no(400, problem.code, told["message"])
        return self._invalid({"list_users": [told] if shape == "list" else told}, problem.code)

    def _invalid(self, fields: dict[str, Any], code: str = "validation_failed") -> Refusal:
        """A 400 about `fields`, booked under `code`."""
        self._book(code)
        return Refusal(self._door.fail(400, "validation_failed", "Validation failed", fields))

    def _no(self, status: int, code: str, message: str, **more: Any) -> Refusal:
        self._book(code)
        return Refusal(self._door.fail(status, code, message, **more))

    def _book(self, code: str) -> None:
        with self._lock:
            self._refused[code] += 1

    # The books.

    def books(self) -> dict[str, Any]:
        """Lists by id. Contacts are hashed; a refused request is counted under its code, a bad file under the first."""
        with self._lock:
            lists = {str(one.id): self._booked(one) for one in self._lists.values()}
            counted = {pair for one in self._lists.values() for pair in one.by_contact}
            totals = {
                "lists": len(lists),
                "deleted": self._deleted,
                "rows": sum(one.rows for one in self._lists.values()),
                "contacts": len(counted),
                "refused": dict(sorted(self._refused.items())),
            }
        return {"totals": totals, "lists": lists}

    def _booked(self, one: OfflineList) -> dict[str, Any]:
        return {
            "id": one.id,
            "user": one.user,
            "name": one.name,
            "type": one.type,
            "attribution_period": one.attribution_period,
            "load_status": self._status(one),
            "rows": one.rows,
            "by_contact": dict(sorted(one.by_contact.items())),
        }


def key(contact: str, day: str) -> str:
    """What the books call a contact of a day: 16 characters of the SHA-256 of the contact as it was sent, and the day."""
    return f"{hashlib.sha256(contact.encode()).hexdigest()[:16]} {day}"


def _problem(code: str) -> dict[str, str]:
    return {"code": code, "message": _SAID.get(code, f"The field is {code.replace('_', ' ')}")}


def _days(given: Any) -> int:
    """Days as a number or text; 0 for what is neither."""
    if isinstance(given, int):
        return given
    return int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 5 else 0


def _moscow(moment: float) -> str:
    """DOC: `2017-07-04 17:36:16`, Moscow."""
    return f"{datetime.fromtimestamp(moment, MOSCOW):%Y-%m-%d %H:%M:%S}"
