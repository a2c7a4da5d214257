"""What a platform sees of HTTP: a request, a response, and the table of its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote_plus


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    peer: str = "127.0.0.1"
    rows: int | None = None
    """How many conversions it carried: filled in by the platform, shown in the journal."""
    note: str = ""
    """What the platform made of it, in a few words; never data."""
    fault: str | None = None
    data: Any = None
    """What the platform read out of the body, kept so that it is read once."""

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    def params(self) -> dict[str, str]:
        """The query, read the ordinary way; the last of a repeated name wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def reply(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    return Response(status, body, headers=headers or {})


Handler = Callable[[Request, dict[str, str]], Response]


@dataclass(frozen=True)
class Route:
    operation: str
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(operation: str, methods: str, path: str, handler: Handler) -> list[Route]:
    """Routes for `GET POST` and a path such as `/counter/{counter}/goals`."""
    escaped = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    pattern = re.compile("^" + re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", escaped) + "$")
    return [Route(operation, method, pattern, handler) for method in methods.split()]


def decoded(found: re.Match[str]) -> dict[str, str]:
    return {name: unquote_plus(value) for name, value in found.groupdict().items()}


class Refusal(Exception):
    """A platform's answer, thrown from deep inside a check."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Platform(Protocol):
    """One platform: its routes, its state and what it says when it is broken on order."""

    name: str

    def routes(self) -> list[Route]: ...

    def peek(self, operation: str, request: Request) -> None:
        """Read the body once: fill in `rows` and `data`; never fail."""

    def begin(self, request: Request) -> None: ...

    def end(self, request: Request) -> None: ...

    def error(self, status: int) -> Response:
        """The platform's usual body for a status."""

    def reset(self) -> None: ...

    def books(self) -> dict[str, Any]: ...
