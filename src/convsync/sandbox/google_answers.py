"""Answers in the form of google.rpc.Status, as Data Manager gives them, and those of the token endpoint."""

from __future__ import annotations

import secrets
from typing import Any

from convsync.sandbox import google_schema
from convsync.sandbox.config import DATAMANAGER
from convsync.sandbox.web import Response, reply

SERVICE = "datamanager.googleapis.com"
WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def failure(
    status: int,
    message: str,
    details: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    error: dict[str, Any] = {"code": status, "message": message, "status": WORDS.get(status, "UNKNOWN")}
    if details:
        error["details"] = details
    return reply({"error": error}, status, headers)


def oauth(status: int, error: str, description: str) -> Response:
    return reply({"error": error, "error_description": description}, status)


def info(reason: str, domain: str = SERVICE, **metadata: str) -> dict[str, Any]:
    metadata = metadata or {"requestId": f"t-{secrets.token_hex(8)}"}
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}


def bad(violations: list[tuple[str, str, str]]) -> dict[str, Any]:
    shown = [{"field": at, "description": said, "reason": reason} for at, reason, said in violations]
    return {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": shown}


def frontend(problems: list[google_schema.Problem]) -> Response:
    """Refused while parsing: no ErrorInfo, no reason, paths without the `events.` prefix."""
    found = [problem for problem in problems if problem.frontend]
    shown = [{"field": p.path, "description": p.description} for p in found]
    shown = [{k: v for k, v in one.items() if v} for one in shown]
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": shown}
    return failure(400, "\n".join(p.description for p in found[:50]), [detail])


def unauthenticated(reason: str, method: str) -> Response:
    said = "Request had invalid authentication credentials. Expected OAuth 2 access token."
    detail = info(reason, "googleapis.com", service=SERVICE, method=method)
    headers = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'}
    return failure(401, said, [detail], headers)


def denied(said: str) -> Response:
    return failure(403, said, [info("PERMISSION_DENIED")])


def scope_missing(method: str) -> Response:
    """DOC dm/devguides/quickstart/set-up-access: an old refresh token lacks the scope."""
    detail = info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com", service=SERVICE, method=method)
    headers = {
        "WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", '
        f'error="insufficient_scope", scope="{DATAMANAGER}"'
    }
    return failure(403, "Request had insufficient authentication scopes.", [detail], headers)
