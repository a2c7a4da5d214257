"""A small, strict reader of multipart/form-data (RFC 7578), quick on files of many megabytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'(?:^|[;\s])name="([^"]*)"', re.IGNORECASE)
_FILENAME = re.compile(rb'filename="([^"]*)"', re.IGNORECASE)


class Malformed(ValueError):
    """The body is not what its Content-Type says."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    filename: str | None
    content: bytes


def boundary(content_type: str) -> bytes:
    if not content_type.lower().startswith("multipart/form-data"):
        raise Malformed("Content-Type is not multipart/form-data")
    found = _BOUNDARY.search(content_type)
    if not found:
        raise Malformed("no boundary in Content-Type")
    return (found[1] or found[2]).encode("latin-1")


def parts(content_type: str, body: bytes) -> list[Part]:
    mark = b"--" + boundary(content_type)
    if not body.startswith(mark):
        raise Malformed("the body does not begin with its boundary")
    found: list[Part] = []
    at = len(mark)
    while body[at : at + 2] != b"--":
        end = body.find(b"\r\n" + mark, at)
        if body[at : at + 2] != b"\r\n" or end < 0:
            raise Malformed("the closing boundary is missing")
        found.append(_part(body, at + 2, end))
        at = end + 2 + len(mark)
    return found


def _part(body: bytes, start: int, end: int) -> Part:
    blank = body.find(b"\r\n\r\n", start - 2, end)
    if blank < 0:
        raise Malformed("a part has no headers")
    disposition = _disposition(body[start:blank])
    name, filename = _NAME.search(disposition), _FILENAME.search(disposition)
    if not name:
        raise Malformed("a part has no name")
    shown = filename[1].decode("utf-8", "replace") if filename else None
    return Part(name[1].decode("utf-8", "replace"), shown, body[blank + 4 : end])


def _disposition(head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition" and value.strip().lower().startswith(b"form-data"):
            return value
    raise Malformed("a part has no Content-Disposition")
