"""A list for VK: a multipart body of named fields and one CSV file, the same rows always the same bytes.

Which form the fields have is not established (facts, 2): each by itself, or all of them as JSON in a part `data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import orjson

FILE = "list_users"
"""The part that holds the rows. DOC RemarketingOfflineGoals"""
_BOUNDARY = re.compile(rb"--([0-9a-f]{24})\r\n")
_NAMED = re.compile(rb'form-data; name="([a-z_]+)"')


def body(
    fields: Mapping[str, str | int], header: str, rows: Iterable[Sequence[str]], boundary: str, *, data: bool
) -> bytes:
    """`data`: the fields as one part of JSON. `header`: the first line of the file, or empty for none."""
    if not re.fullmatch("[0-9a-f]{24}", boundary):
        raise ValueError("a boundary is the token of its batch")
    told = {"data": orjson.dumps(fields).decode()} if data else {name: str(value) for name, value in fields.items()}
    parts = [_part(boundary, f'name="{name}"', text.encode()) for name, text in told.items()]
    lines = ([header] if header else []) + [",".join(row) for row in rows]
    file = "".join(line + "\n" for line in lines).encode()
    parts.append(_part(boundary, f'name="{FILE}"; filename="{FILE}.csv"\r\nContent-Type: text/csv', file))
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def renaming(whole: bytes) -> bytes:
    """The same body for a list that is there already: of the fields only its name. DOC RemarketingOfflineGoal"""
    boundary = boundary_of(whole)
    kept = []
    for part in _parts(whole, boundary):
        name = _name(part)
        if name == "data":
            fields = orjson.loads(_content(part))
            kept.append(_part(boundary, 'name="data"', orjson.dumps({"name": fields["name"]})))
        elif name in ("name", FILE):
            kept.append(b"--" + boundary.encode() + b"\r\n" + part)
    return b"".join([*kept, f"--{boundary}--\r\n".encode()])


def boundary_of(whole: bytes) -> str:
    found = _BOUNDARY.match(whole)
    if found is None:
        raise ValueError("the body does not begin with a boundary")
    return found[1].decode()


def fields_of(whole: bytes) -> dict[str, str]:
    """The fields, whichever form they have."""
    found: dict[str, str] = {}
    for part in _parts(whole, boundary_of(whole)):
        name = _name(part)
        if name == "data":
            found |= {key: str(value) for key, value in orjson.loads(_content(part)).items()}
        elif name != FILE:
            found[name] = _content(part).decode()
    return found


def lines_of(whole: bytes) -> list[str]:
    """The lines of the file, its header among them."""
    file = next(part for part in _parts(whole, boundary_of(whole)) if _name(part) == FILE)
    return _content(file).decode().splitlines()


def _part(boundary: str, head: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


def _parts(whole: bytes, boundary: str) -> list[bytes]:
    return whole.split(f"--{boundary}\r\n".encode())[1:]


def _name(part: bytes) -> str:
    found = _NAMED.search(part)
    return found[1].decode() if found else ""


def _content(part: bytes) -> bytes:
    return part.partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0].removesuffix(b"\r\n")
