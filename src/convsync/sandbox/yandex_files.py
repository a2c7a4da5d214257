"""The uploaded CSV of Metrica: the part `file` of a form, its header and its lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from convsync.sandbox import multipart
from convsync.sandbox.web import Request, Response
from convsync.sandbox.yandex_door import failure

Table: TypeAlias = tuple[list[str], list[list[str]]]
R = TypeVar("R")


class BadFile(ValueError):
    """The file as a whole cannot be read."""


class BadRow(ValueError):
    """One row cannot be taken."""


def read(
    request: Request, check: Callable[[list[str]], None], most_bytes: int, delimiter: str = ","
) -> Table | Response:
    """Header and lines of the part `file`, or the answer that refuses them; `check` raises BadFile about a header."""
    try:
        parts = multipart.parts(request.header("content-type"), request.body)
    except multipart.Malformed as problem:
        return failure(400, "invalid_uploading", str(problem))
    files = [part for part in parts if part.name == "file"]
    if len(files) != 1:
        return failure(400, "missing_parameter", "one part named file is required", "file")
    if len(files[0].content) > most_bytes:
        return failure(400, "limit_exceeded", f"the file is larger than {most_bytes} bytes", "file")
    try:
        header, lines = _table(files[0].content, delimiter)
        check(header)
    except BadFile as problem:
        return failure(400, "invalid_uploading", str(problem), "file")
    if not lines:
        return failure(400, "invalid_uploading", "the file has no rows", "file")
    return header, lines


def _table(content: bytes, delimiter: str) -> Table:
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), delimiter=delimiter, strict=True)
        found = [line for line in lines if line]
    except UnicodeDecodeError:
        raise BadFile("the file is not UTF-8") from None
    except csv.Error as problem:
        raise BadFile(f"the file is not CSV: {problem}") from None
    if not found:
        raise BadFile("the file is empty, a header line is required")
    return found[0], found[1:]


def check_names(header: list[str], known: frozenset[str]) -> None:
    unknown = [name for name in header if name not in known]
    if unknown:
        raise BadFile(f"unknown column {unknown[0]!r}")
    if len(set(header)) < len(header):
        raise BadFile("a column is repeated")


def rows(lines: list[list[str]], row: Callable[[list[str]], R]) -> tuple[list[R], list[str]]:
    """What `row` made of the lines, and what was wrong with the others."""
    good, errors = list[R](), list[str]()
    for number, line in enumerate(lines, 2):
        try:
            good.append(row(line))
        except BadRow as problem:
            errors.append(f"line {number}: {problem}")
    return good, errors
