"""What a POST to an offline list carries: a form, and in its part `list_users` a CSV file of contacts and days.

The file has two comma columns, an id and a day `DD.MM.YYYY` (CODE mcp); what is wrong with a line is said in the words of
the sister resource users_lists (DOC there, INFERRED here).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from convsync.sandbox import multipart
from convsync.sandbox.web import Request

if TYPE_CHECKING:
    from convsync.sandbox.vk_lists import ListsConfig

_PART = "list_users"
_PHONE = re.compile(r"(?!0|89)\d{10,15}", re.ASCII)
"""Digits with a country code; none begins with 89, that is a Russian number with the 8 of long distance."""
_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;.]+(?:\.[^@\s,;.]+)+")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_HASH = re.compile(r"(?=.*[a-fA-F])[0-9a-fA-F]{20,128}")
"""What is meant as a hash, of whatever length."""
_DATE = re.compile(r"\d{2}\.\d{2}\.\d{4}", re.ASCII)


class BadLine(NamedTuple):
    number: int
    line: str
    code: str


class BadFile(Exception):
    """The file is refused: one `code` for all of it, or lines that are wrong."""

    def __init__(self, code: str, lines: list[BadLine] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.lines = lines or []


class Row(NamedTuple):
    contact: str
    date: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A form: its text fields, its JSON (`data`), the file; `problem` = why it is none."""

    texts: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    file: bytes | None = None
    lines: list[str] | None = None
    """Of the file, without line ends; None: it is not UTF-8."""
    problem: str = ""


def read(request: Request) -> Sent:
    """Only a part with a file name is a file."""
    try:
        parts = multipart.parts(request.header("content-type"), request.body)
    except multipart.Malformed as problem:
        return Sent(problem=str(problem))
    texts = {part.name: part.content.decode("utf-8", "replace") for part in parts if part.filename is None}
    files = [part.content for part in parts if part.name == _PART and part.filename is not None]
    if len(files) > 1:
        return Sent(problem=f"there is more than one part {_PART}")
    data = next((part.content.decode("utf-8", "replace") for part in parts if part.name == "data"), None)
    file = files[0] if files else None
    return Sent(texts, data, file, None if file is None else _lines(file))


def _lines(content: bytes) -> list[str] | None:
    try:
        lines = [line.removesuffix("\r") for line in content.decode("utf-8").split("\n")]
    except UnicodeDecodeError:
        return None
    while lines and not lines[-1]:
        lines.pop()
    return lines


def fields_of(sent: Sent, mode: str) -> dict[str, Any]:
    """What the form says beside the file, by `fields_mode`; ValueError: `data` is not a JSON object."""
    found: dict[str, Any] = {}
    if mode in ("data_json", "both") and sent.data is not None:
        found = json.loads(sent.data)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    texts = {name: text for name, text in sent.texts.items() if name not in ("data", _PART)}
    return found if mode == "data_json" else {**found, **texts}


def rows(lines: list[str] | None, config: ListsConfig, kind: str, least: int, today: date) -> list[Row]:
    """The rows of a list of phones or e-mails (`kind`); raises BadFile. Either every row is good, or none is taken."""
    if lines is None or not lines:
        raise BadFile("file_reading_error")
    first, body = _without_header(lines, config)
    if len(body) < least:
        raise BadFile("not_enough_ids")
    if len(body) > config.max_rows:
        raise BadFile("too_many_ids")
    reader = _Reader(config, kind, today)
    found: list[Row] = []
    bad: list[BadLine] = []
    for number, line in enumerate(body, first):
        told = reader.row(line)
        if isinstance(told, Row):
            found.append(told)
        else:
            bad.append(BadLine(number, line, told))
    if bad:
        raise BadFile(bad[0].code, bad)
    return list(dict.fromkeys(found)) if config.duplicates == "dropped" else found


def _without_header(lines: list[str], config: ListsConfig) -> tuple[int, list[str]]:
    """The number of the first row, and the rows."""
    given = lines[0] == config.header_line
    if config.header == "required" and not given:
        raise BadFile("invalid_csv_header")
    if config.header == "forbidden":
        if given and not config.header_taken_as_row:
            raise BadFile("invalid_csv_header")
        given = False
    if given or config.header == "skipped":
        return 2 if config.count_header else 1, lines[1:]
    return 1, lines


class _Reader:
    """Reads the lines of one file; remembers what it has seen."""

    def __init__(self, config: ListsConfig, kind: str, today: date) -> None:
        self._config = config
        self._kind = kind
        self._today = today
        self._seen: set[str | Row] = set()

    def row(self, line: str) -> Row | str:
        """The row, or the code of what is wrong with the line."""
        try:
            cells = next(_cells(line), [])
        except csv.Error:
            return "csv_line_column_index_error"
        if len(cells) != 2:
            return "csv_line_column_index_error"
        row = Row(*cells)
        return self._wrong(row) or self._again(row) or row

    def _wrong(self, row: Row) -> str:
        if not row.contact and row.date:
            return "empty_user_id_with_non_empty_date_time"
        if _HASH.fullmatch(row.contact) or _MD5.fullmatch(row.contact):
            if not (self._config.md5_accepted and _MD5.fullmatch(row.contact)):
                return "invalid_md5"
        elif not (_PHONE if self._kind == "phone" else _EMAIL).fullmatch(row.contact):
            return f"invalid_{self._kind}"
        return "" if self._is_a_day(row.date) else "invalid_date_time"

    def _is_a_day(self, text: str) -> bool:
        if not _DATE.fullmatch(text):
            return False
        try:
            day = datetime.strptime(text, "%d.%m.%Y").date()
        except ValueError:
            return False
        return day <= self._today or not self._config.future_refused

    def _again(self, row: Row) -> str:
        again = self._config.duplicates == "reported" and row in self._seen
        other_day = self._config.two_dates_reported and row.contact in self._seen and row not in self._seen
        self._seen |= {row, row.contact}
        return "duplicated_user_id" if again or other_day else ""


def _cells(line: str) -> Iterator[list[str]]:
    return csv.reader([line], strict=True)
