"""Offline conversions of Metrica: taking files, the life of an upload, and asking what became of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from convsync.sandbox import yandex_files, yandex_offline
from convsync.sandbox.clock import Clock
from convsync.sandbox.decimals import sums
from convsync.sandbox.web import Request, Response, reply
from convsync.sandbox.yandex_config import YandexConfig
from convsync.sandbox.yandex_door import READ, UPLOAD, Door, failure, refused, whole
from convsync.sandbox.yandex_files import Table
from convsync.sandbox.yandex_goals import Goals
from convsync.sandbox.yandex_offline import IDS, Book, Reader, Row, Verdict

_STEPS = ("PREPARED", "UPLOADED", "EXPORTED", "MATCHED")
_FIRST_ID = 7_000_001
_LONGEST_COMMENT = 255
_LETTERS = re.compile(r"[0-9A-Za-zА-Яа-яЁё]*")
_SHORT = ("id", "source_quantity", "line_quantity", "client_id_type", "status")
_OF_2025 = (*_SHORT, "create_time", "comment")


@dataclass
class Upload:
    id: int
    created: float
    comment: str
    id_type: str
    source: int
    """Rows in the file."""
    rows: list[Row]
    """Those that passed validation."""
    verdict: Verdict | None = None
    """None until it is processed."""


@dataclass
class _Counter:
    book: Book
    uploads: list[Upload] = field(default_factory=list)


class Conversions:
    def __init__(self, door: Door, clock: Clock, goals: Goals) -> None:
        self._door = door
        self._clock = clock
        self._goals = goals
        self._lock = threading.RLock()
        self.reset()

    @property
    def _config(self) -> YandexConfig:
        return self._door.config

    def reset(self) -> None:
        with self._lock:
            self._counters: dict[str, _Counter] = {}

    def read(self, request: Request) -> Table | Response:
        """DOC M/management/offline-conv: a comma separates, nothing else."""
        return yandex_files.read(request, yandex_offline.check_header, self._config.max_file_bytes)

    # POST …/offline_conversions/upload

    def upload(self, request: Request, names: dict[str, str]) -> Response:
        name = names["counter"]
        self._door.admit(request, name, UPLOAD, "client_write")
        asked = request.params()
        comment, id_type = self._comment(asked), self._id_type(asked)
        if isinstance(request.data, Response):
            return request.data
        header, lines = request.data
        kinds = self._kinds(header, id_type)
        now = self._clock.time()
        targets = set(self._goals.events(name)) if self._config.unknown_target == "refuse" else None
        rows, errors = yandex_files.rows(lines, Reader(header, kinds, targets, now).row)
        if errors and self._config.bad_conversion == "refuse_400":
            request.note = f"file refused, {len(errors)} bad rows"
            return failure(400, "invalid_uploading", errors[0], "file", errors)
        used = next(word for word, kind in IDS.items() if kind == next(k for k in kinds if k in header))
        with self._lock:
            number = _FIRST_ID + sum(len(one.uploads) for one in self._counters.values())
            made = Upload(number, now, comment, id_type or used, len(lines), rows)
            told = self._shown(made)
            self._of(name).uploads.append(made)
        request.note = f"{len(rows)} of {len(lines)} rows taken"
        return reply({"uploading": told})

    def _comment(self, asked: dict[str, str]) -> str:
        """DOC M/faq: at most 255 characters; digits, Latin and Cyrillic letters."""
        comment = asked.get("comment", "")
        if len(comment) > _LONGEST_COMMENT:
            raise refused("invalid_parameter", f"comment is longer than {_LONGEST_COMMENT} characters", "comment")
        if self._config.comment_letters_only and not _LETTERS.fullmatch(comment):
            raise refused("invalid_parameter", "comment may hold digits and letters only", "comment")
        return comment

    def _id_type(self, asked: dict[str, str]) -> str:
        """`client_id_type`, empty when it was left out; `type` is checked too."""
        _upload_type(asked)
        given = asked.get("client_id_type", "")
        if not given and self._config.client_id_type_required:
            raise refused("missing_parameter", "client_id_type is required", "client_id_type")
        if given and given not in self._config.client_id_types:
            known = ", ".join(self._config.client_id_types)
            raise refused("invalid_parameter", f"client_id_type must be one of {known}", "client_id_type")
        return given

    def _kinds(self, header: list[str], id_type: str) -> list[str]:
        """Columns of ids, the one that wins first."""
        found = [kind for kind in self._config.id_priority if kind in header]
        if self._config.one_id_type and len(found) > 1:
            raise refused("invalid_uploading", "the file has ids of more than one type", "file")
        named = IDS.get(id_type)
        if named and named not in header:
            raise refused("invalid_uploading", f"client_id_type needs the column {named}", "file")
        return [named, *found] if named else found

    # GET …/offline_conversions/uploadings and …/uploading/{id}

    def uploadings(self, request: Request, names: dict[str, str]) -> Response:
        self._door.admit(request, names["counter"], (*READ, *UPLOAD), "client_read")
        asked = request.params()
        limit, offset = whole(asked, "limit", 10_000, 1, 10_000), whole(asked, "offset", 0, 0, 1 << 31)
        _upload_type(asked)
        with self._lock:
            self._process()
            visible = self._clock.time() - self._config.list_delay_s
            found = [one for one in self._uploads(names["counter"]) if one.created <= visible]
            if self._config.newest_first:
                found.reverse()
            shown = [self._shown(one) for one in found[offset : offset + limit]]
        return reply({"uploadings": shown})

    def uploading(self, request: Request, names: dict[str, str]) -> Response:
        self._door.admit(request, names["counter"], (*READ, *UPLOAD), "client_read")
        with self._lock:
            self._process()
            for one in self._uploads(names["counter"]):
                if str(one.id) == names["id"]:
                    return reply({"uploading": self._shown(one)})
        return failure(404, "not_found", "Uploading not found", "id")

    def _shown(self, upload: Upload) -> dict[str, Any]:
        """DOC M/management/openapi/offline_conversions/findById_1; editions differ in what is there."""
        verdict = upload.verdict or Verdict()
        moment = datetime.fromtimestamp(int(upload.created), UTC)
        whole = {
            "id": upload.id,
            "create_time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            "source_quantity": upload.source,
            "line_quantity": len(upload.rows),
            "comment": self._told(upload.comment),
            "type": "BASIC",
            "client_id_type": upload.id_type,
            "status": self._status(upload),
            "goal_not_found_quantity": verdict.no_goal,
            "user_not_found_quantity": verdict.no_user,
            "linked_quantity": verdict.linked,
        }
        kept = {"2025": _OF_2025, "short": _SHORT, "id": ("id",)}.get(self._config.uploading_fields, whole)
        return {name: value for name, value in whole.items() if name in kept}

    def _told(self, comment: str) -> str:
        ways = {"verbatim": comment, "empty": "", "altered": f"({comment.upper()})"}
        return ways[self._config.comment_returned]

    # What time does.

    def _status(self, upload: Upload) -> str:
        if upload.verdict is None:
            part = (self._clock.time() - upload.created) / (self._config.processing_seconds or 1)
            return _STEPS[max(0, min(int(part * len(_STEPS)), len(_STEPS) - 1))]
        finished = "PROCESSED" if upload.verdict.matched else "LINKAGE_FAILURE"
        return self._config.finished_word or finished

    def _process(self) -> None:
        """Process what is due, as of the moment it was due, in the order it came."""
        until = self._clock.time() - self._config.processing_seconds
        for counter in self._counters.values():
            for one in counter.uploads:
                if one.verdict is None and one.created <= until:
                    due = one.created + self._config.processing_seconds
                    one.verdict = counter.book.process(one.id, one.rows, due)

    def _of(self, name: str) -> _Counter:
        if name not in self._counters:
            self._counters[name] = _Counter(Book(self._config, self._goals, name))
        return self._counters[name]

    def _uploads(self, name: str) -> list[Upload]:
        return list(self._counters[name].uploads) if name in self._counters else []

    # The books.

    def books(self) -> dict[str, dict[str, Any]]:
        """By counter. They know more than any answer does: every row, and the comment as it was sent."""
        with self._lock:
            self._process()
            return {name: self._shown_counter(counter) for name, counter in self._counters.items()}

    def _shown_counter(self, counter: _Counter) -> dict[str, Any]:
        uploads = [
            {
                "id": one.id,
                "comment": one.comment,
                "client_id_type": one.id_type,
                "source": one.source,
                "rows": len(one.rows),
                "linked": one.verdict.linked if one.verdict else 0,
                "status": self._status(one),
            }
            for one in counter.uploads
        ]
        rows = sum(len(one.rows) for one in counter.uploads)
        return {"rows": rows, "uploads": uploads, **counter.book.shown()}


def nothing() -> dict[str, Any]:
    """The books of a counter without offline conversions."""
    return {"rows": 0, "uploads": [], "conversions": [], "goals": {}, "unlinked": 0}


def totals(books: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several counters."""
    goals = [goal for book in books for goal in book["goals"].values()]
    return {
        "rows": sum(book["rows"] for book in books),
        "uploads": sum(len(book["uploads"]) for book in books),
        "conversions": sum(goal["reaches"] for goal in goals),
        "unlinked": sum(book["unlinked"] for book in books),
        "revenue": sums(_amounts(goals)),
    }


def _amounts(goals: list[dict[str, Any]]) -> Iterator[tuple[str, Decimal]]:
    for goal in goals:
        for currency, amount in goal["revenue"].items():
            yield currency, Decimal(amount)


def _upload_type(asked: dict[str, str]) -> None:
    """Calls and chats have columns of their own; nobody sends them here."""
    if asked.get("type", "BASIC") != "BASIC":
        raise refused("invalid_parameter", "type must be BASIC", "type")
