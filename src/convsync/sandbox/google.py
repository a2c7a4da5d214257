"""Google's Data Manager (`events:ingest`, `requestStatus:retrieve`), and what it shares with the Ads API."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from convsync.sandbox import decimals, google_schema
from convsync.sandbox.clock import Clock, epoch_iso
from convsync.sandbox.config import DATAMANAGER, ConversionAction, GoogleConfig, SandboxConfig
from convsync.sandbox.google_answers import (
    SERVICE,
    bad,
    denied,
    failure,
    frontend,
    info,
    scope_missing,
    unauthenticated,
)
from convsync.sandbox.google_books import Books, Fate, book
from convsync.sandbox.google_rules import Row, Rules
from convsync.sandbox.google_sign_in import SignIn
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Refusal, Request, Response, Route, reply, route

_DAY = 86400
_WRONG_TYPE = "INVALID_CONVERSION_ACTION_TYPE"


@dataclass(frozen=True)
class Destination:
    raw: dict[str, Any]
    account: str
    action: str
    reference: str

    def takes(self, event: dict[str, Any]) -> bool:
        asked = event.get("destinationReferences")
        return not asked or self.reference in asked


@dataclass
class Ingested:
    """What a request became: per destination how many rows it got and which of them failed, and why."""

    at: float
    events: int
    destinations: list[Destination]
    routed: list[int] = field(default_factory=list)
    errors: list[dict[str, list[int]]] = field(default_factory=list)


class Google:
    name = "google"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self.book = Books()
        self._lock = self.book.lock
        self.sign_in = SignIn(world, clock)
        self._quota = Windows()
        self.reset()

    @property
    def _config(self) -> GoogleConfig:
        return self._world.google

    def reset(self) -> None:
        with self._lock:
            self.started = self._clock.time()
            self.sign_in.reset()
            self._requests: dict[str, Ingested] = {}
            self.book.actions.clear()
            self._rows = {"received": 0, "accepted": 0, "refused": 0, "validated": 0}
            self._quota.clear()

    def routes(self) -> list[Route]:
        return [
            *self.sign_in.routes(),
            *route("google.ingest", "POST", "/v1/events:ingest", self._ingest),
            *route("google.status", "GET", "/v1/requestStatus:retrieve", self._status),
        ]

    def peek(self, operation: str, request: Request) -> None:
        if operation != "google.ingest":
            return
        try:
            request.data = decimals.loads(request.body)
        except (ValueError, RecursionError):
            return
        if isinstance(request.data, dict) and isinstance(request.data.get("events"), list):
            request.rows = len(request.data["events"])

    def begin(self, request: Request) -> None:
        pass

    def end(self, request: Request) -> None:
        pass

    def error(self, status: int) -> Response:
        return failure(status, "The sandbox was asked to fail.")

    def _authorise(self, request: Request, method: str) -> None:
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(unauthenticated("CREDENTIALS_MISSING", method))
        scopes = self.sign_in.scopes(token.strip())
        if scopes is None:
            raise Refusal(unauthenticated("ACCESS_TOKEN_EXPIRED", method))
        if DATAMANAGER not in scopes:
            raise Refusal(scope_missing(method))

    def _count(self, kind: str, per_minute: int | None, per_day: int | None) -> None:
        """DOC dm/devguides/limits: mutate and read apart, minute and day told apart by quota_limit."""
        now, shift = self._clock.time(), -self._config.day_shift_h * 3600
        for window, limit, seconds in (("Minute", per_minute, 60), ("Day", per_day, _DAY)):
            if not self._quota.take(f"{kind}{window}", limit, seconds, now, shift):
                name = f"Ingestion{kind}RequestsPer{window}PerProject"
                detail = info("RESOURCE_EXHAUSTED", quota_limit=name, service=SERVICE)
                said = f"Quota exceeded for quota metric '{kind} requests' and limit '{name}'."
                raise Refusal(failure(429, said, [detail]))

    # events:ingest

    def _ingest(self, request: Request, names: dict[str, str]) -> Response:
        self._authorise(request, "google.ads.datamanager.v1.IngestionService.IngestEvents")
        self._count("Mutate", self._config.ingest_per_minute, self._config.ingest_per_day)
        body = request.data
        with self._lock:
            self._rows["received"] += request.rows or 0
        try:
            return self._checked(request, body)
        except Refusal:
            with self._lock:
                self._rows["refused"] += request.rows or 0
            raise

    def _checked(self, request: Request, body: Any) -> Response:
        if not isinstance(body, dict):
            raise Refusal(failure(400, "Invalid JSON payload received. Unexpected token.", [bad([])]))
        problems = google_schema.problems(body)
        if any(problem.frontend for problem in problems):
            raise Refusal(frontend(problems))
        destinations = self._structure(body)
        rows = self._rows_of(body, destinations, problems)
        request_id = f"sandbox-{secrets.token_hex(8)}"
        if body.get("validateOnly"):
            request.note = "validateOnly"
            with self._lock:
                self._rows["validated"] += len(rows)
        else:
            failed = self._book(request_id, body["events"], rows, destinations)
            request.note = f"{len(rows)} rows booked, {failed} will fail"
        answer: dict[str, Any] = {} if self._config.omit_request_id else {"requestId": request_id}
        warnings = [*self._config.field_warnings, *_cart_warnings(body["events"])]
        return reply({**answer, "fieldWarnings": warnings} if warnings else answer)

    def _structure(self, body: dict[str, Any]) -> list[Destination]:
        """Counts and destinations: faults of the request, not of a row."""
        given, events = body.get("destinations") or [], body.get("events") or []
        config = self._config
        for name, items, most, reason in (
            ("destinations", given, config.max_destinations, "TOO_MANY_DESTINATIONS"),
            ("events", events, config.max_events, "TOO_MANY_EVENTS"),
        ):
            if not items:
                raise Refusal(self._refused([(name, "REQUIRED_FIELD_MISSING", f"{name} is required.")]))
            if len(items) > most:
                raise Refusal(self._refused([(name, reason, f"At most {most} {name} in a request.")]))
        found = [self._destination(raw, f"destinations[{i}]") for i, raw in enumerate(given)]
        references = [d.reference for d in found if d.reference]
        if len(set(references)) < len(references):
            said = ("destinations", "DUPLICATE_DESTINATION_REFERENCE", "References must be unique.")
            raise Refusal(self._refused([said]))
        return found

    def _destination(self, raw: dict[str, Any], at: str) -> Destination:
        account = self._account(raw, at)
        action = raw.get("productDestinationId") or ""
        field_name = f"{at}.product_destination_id"
        if not action:
            raise Refusal(self._refused([(field_name, "REQUIRED_FIELD_MISSING", "Required for Google Ads.")]))
        if not action.isdigit():
            raise Refusal(self._refused([(field_name, "INVALID_CONVERSION_ACTION_ID", "Must be numeric.")]))
        self._action(account, action, at)
        return Destination(raw, account, action, raw.get("reference") or "")

    def _account(self, raw: dict[str, Any], at: str) -> str:
        operating = raw.get("operatingAccount") or {}
        account, field_name = operating.get("accountId") or "", f"{at}.operating_account"
        kind = operating.get("accountType") or operating.get("product") or "ACCOUNT_TYPE_UNSPECIFIED"
        if not account or kind == "ACCOUNT_TYPE_UNSPECIFIED":
            said = "account_id and account_type are required."
            raise Refusal(self._refused([(field_name, "REQUIRED_FIELD_MISSING", said)]))
        if kind != "GOOGLE_ADS":
            said = "The account is not of this type."
            raise Refusal(self._refused([(field_name, "DESTINATION_ACCOUNT_TYPE_MISMATCH", said)]))
        if not re.fullmatch(r"\d{10}", account):
            said = "Ten digits without dashes."
            raise Refusal(self._refused([(f"{field_name}.account_id", "INVALID_FORMAT", said)]))
        if account not in self._config.customers and account not in self._config.managers:
            raise Refusal(denied(f"The caller has no access to account {account}."))
        self._login(raw, account, at)
        return account

    def _login(self, raw: dict[str, Any], account: str, at: str) -> None:
        login = (raw.get("loginAccount") or {}).get("accountId") or ""
        if not login and self._config.login_account_required:
            raise Refusal(denied("The caller has access only through a manager account."))
        if login and login != account and account not in self._config.managers.get(login, ()):
            reason = "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH"
            said = "The login account does not manage the operating account."
            raise Refusal(self._refused([(f"{at}.login_account", reason, said)]))

    def _action(self, account: str, action: str, at: str) -> None:
        owner = next((who for who, owned in self._config.customers.items() if action in owned), None)
        field_name = f"{at}.product_destination_id"
        if owner is None:
            said = "No such conversion action."
            raise Refusal(self._no_action(self._config.unknown_action_answer, field_name, said))
        if owner != account:
            # DOC dm/…/offline/upgrade: the account must own the action; a parent or child is refused.
            said = "The operating account does not own the conversion action."
            raise Refusal(self._refused([(f"{at}.operating_account.account_id", "INVALID_DESTINATION", said)]))
        found = self._config.customers[owner][action]
        if found.type not in ("UPLOAD_CLICKS", "UPLOAD_CALLS"):
            raise Refusal(self._refused([(field_name, _WRONG_TYPE, "Must be of type UPLOAD_CLICKS or UPLOAD_CALLS.")]))
        if self._clock.time() - created(found, self.started) < self._config.action_age_s:
            said = "The conversion action was created too recently."
            raise Refusal(self._no_action(self._config.too_recent_answer, field_name, said))

    def _no_action(self, answer: str, field_name: str, said: str) -> Response:
        if answer == "NOT_FOUND":
            return failure(404, "Resource not found.", [info("NOT_FOUND")])
        return self._refused([(field_name, answer, said)])

    def _rows_of(
        self, body: dict[str, Any], destinations: list[Destination], problems: list[google_schema.Problem]
    ) -> list[Row]:
        """All rows, or a refusal of the whole request (DOC dm/…/understand-errors: fail-fast)."""
        references = {d.reference for d in destinations if d.reference}
        rules = Rules(self._config, body, references, self._clock.time())
        violations = [(_dm(p.path, self._config), p.reason, p.description) for p in problems]
        prefix, rows = f"{self._config.violation_prefix}events", []
        for index, event in enumerate(body["events"]):
            row, bad = rules.read(event)
            rows.append(row)
            for at, reason, said in bad:
                where = f"{prefix}[{index}].{at}" if at else f"{prefix}[{index}]"
                violations.append((where, reason, said))
        violations += self._calls_and_clicks(body["events"], destinations)
        if rules.encoding_missing:
            violations.append(("encoding", "REQUIRED_FIELD_MISSING", "Required with user data."))
        if violations:
            raise Refusal(self._refused(violations))
        if rules.future:
            # CODE, field report: an unspecific 400 that names no field.
            raise Refusal(failure(400, "Request contains an invalid argument."))
        return rows

    def _calls_and_clicks(
        self, events: list[dict[str, Any]], destinations: list[Destination]
    ) -> list[tuple[str, str, str]]:
        """DOC dm/…/call/upgrade: calls go to actions of type UPLOAD_CALLS, and nothing else does."""
        found = []
        for number, destination in enumerate(destinations):
            calls = self._config.customers[destination.account][destination.action].type == "UPLOAD_CALLS"
            if any(("callInfo" in event) != calls for event in events if destination.takes(event)):
                said = "Calls, and only calls, go to a conversion action of type UPLOAD_CALLS."
                found.append((f"destinations[{number}].product_destination_id", _WRONG_TYPE, said))
        return found

    def _refused(self, violations: list[tuple[str, str, str]]) -> Response:
        shown = _named(violations, self._config.violations)
        specific = shown and self._config.error_info_reason == "specific"
        detail = info(shown[0][1] if specific else "INVALID_ARGUMENT")
        said = "There was a problem with the request."
        return failure(400, said, [detail, bad(shown)] if shown else [detail])

    # Booking and verdicts.

    def _book(
        self, request_id: str, events: list[dict[str, Any]], rows: list[Row], destinations: list[Destination]
    ) -> int:
        now = self._clock.time()
        made = Ingested(now, len(events), destinations)
        fates = Fate(now, self._config.max_event_age_days * _DAY)
        with self._lock:
            self._rows["accepted"] += len(rows)
            for destination in destinations:
                actions = self.book.of(destination.account, destination.action)
                routed, errors = 0, dict[str, list[int]]()
                for index, (event, row) in enumerate(zip(events, rows, strict=True)):
                    if not destination.takes(event):
                        continue
                    routed += 1
                    reason = book(actions, row, fates)
                    if reason:
                        errors.setdefault(reason, []).append(index)
                made.routed.append(routed)
                made.errors.append(errors)
            self._requests[request_id] = made
        return sum(len(rows) for errors in made.errors for rows in errors.values())

    def _status(self, request: Request, names: dict[str, str]) -> Response:
        self._authorise(request, "google.ads.datamanager.v1.IngestionService.RetrieveRequestStatus")
        self._count("Read", self._config.status_per_minute, self._config.status_per_day)
        request_id = request.params().get("requestId") or request.params().get("request_id") or ""
        if not request_id:
            return self._refused([("request_id", "REQUIRED_FIELD_MISSING", "request_id is required.")])
        with self._lock:
            found = self._requests.get(request_id)
        age = self._clock.time() - found.at if found else 0
        if found is None or age < self._config.status_visible_after_s:
            return failure(404, "The request ID was not found.", [info("INVALID_REQUEST_ID")])
        if age > self._config.status_kept_days * _DAY:
            return failure(400, "The request is too old.", [info("REQUEST_TOO_OLD")])
        done = age >= self._config.processing_seconds
        shown = [self._verdict(found, i, done) for i in range(len(found.destinations))]
        request.note = ", ".join(sorted({str(one["requestStatus"]) for one in shown}))
        return reply({"requestStatusPerDestination": shown})

    def _verdict(self, request: Ingested, index: int, done: bool) -> dict[str, Any]:
        errors = request.errors[index] if done else {}
        failed = sum(len(rows) for rows in errors.values())
        shown: dict[str, Any] = {
            "destination": request.destinations[index].raw,
            "requestStatus": self._word(done, failed, request.routed[index]),
            "eventsIngestionStatus": {"recordCount": self._number(request.events)},
        }
        if errors and not self._config.error_counts_absent:
            counts = [self._error_count(reason, rows) for reason, rows in errors.items()]
            shown["errorInfo"] = {"errorCounts": counts}
        return shown

    def _word(self, done: bool, failed: int, routed: int) -> str:
        if not done:
            return "PROCESSING"
        if self._config.status_word:
            return self._config.status_word
        if not failed:
            return "SUCCESS"
        return "PARTIAL_SUCCESS" if failed < routed else self._config.failed_word

    def _error_count(self, reason: str, rows: list[int]) -> dict[str, Any]:
        # CODE: one value of the enum has the shorter prefix.
        short = reason == "OPERATING_ACCOUNT_MISMATCH_FOR_AD_IDENTIFIER"
        prefix = "PROCESSING_ERROR_" if short else "PROCESSING_ERROR_REASON_"
        shown: dict[str, Any] = {"recordCount": self._number(len(rows)), "reason": prefix + reason}
        if not self._config.indices_absent:
            shown["recordIndices"] = [str(row) if self._config.indices_as_strings else row for row in rows]
        return shown

    def _number(self, count: int) -> int | str:
        return str(count) if self._config.counts_as_strings else count

    # The books.

    def books(self) -> dict[str, Any]:
        with self._lock:
            accounts: dict[str, dict[str, Any]] = {}
            values: list[tuple[str, Decimal]] = []
            for (account, action), found in sorted(self.book.actions.items()):
                accounts.setdefault(account, {})[action] = found.shown()
                values += found.values()
            requests = {
                request_id: {
                    "at": epoch_iso(r.at),
                    "events": r.events,
                    "errors": r.errors,
                }
                for request_id, r in self._requests.items()
            }
            rows = dict(self._rows)
        shown = [action for actions in accounts.values() for action in actions.values()]
        totals = {
            "rows": rows,
            "conversions": sum(action["conversions"] for action in shown),
            "adjustments": sum(action["adjustments"] for action in shown),
            "errors": sum(sum(action["errors"].values()) for action in shown),
            "value": decimals.sums(values),
        }
        return {"totals": totals, "accounts": accounts, "requests": requests}


def created(action: ConversionAction, started: float) -> float:
    """When a conversion action was made, in seconds since 1970."""
    if action.created == "start":
        return started
    return datetime.fromisoformat(action.created).timestamp() if action.created else 0


def _dm(path: str, config: GoogleConfig) -> str:
    return config.violation_prefix + path if path.startswith("events[") else path


_ROW = re.compile(r"events\[(\d+)\]")


def _named(violations: list[tuple[str, str, str]], mode: str) -> list[tuple[str, str, str]]:
    """CODE, field report: sometimes only one row is named, or nothing."""
    of_rows = [v for v in violations if _ROW.search(v[0])]
    if mode == "none":
        return []
    if mode == "all" or not of_rows:
        return violations
    first = of_rows[0]
    if mode == "events[0]":
        return [(_ROW.sub("events[0]", first[0]), first[1], first[2])]
    row = _ROW.search(first[0])
    return [v for v in of_rows if row and f"events[{row[1]}]" in v[0]]


def _cart_warnings(events: list[dict[str, Any]]) -> list[dict[str, str]]:
    """CODE: what is odd about cart data is a warning, never an error."""
    found: list[tuple[str, str, str]] = []
    for index, event in enumerate(events):
        cart = event.get("cartData")
        if not cart:
            continue
        ids, where = event.get("adIdentifiers") or {}, f"events.events[{index}].cart_data"
        if ids.get("gbraid") or ids.get("wbraid"):
            found.append((where, "NOT_SUPPORTED_WITH_GBRAID_OR_WBRAID", "Cart data was ignored."))
        for number, item in enumerate(cart.get("items") or []):
            at = f"{where}.items[{number}]"
            if not item.get("merchantProductId"):
                said = "The item has no merchant product id."
                found.append((f"{at}.merchant_product_id", "ITEM_MERCHANT_PRODUCT_ID_MISSING", said))
            if "unitPrice" not in item:
                found.append((f"{at}.unit_price", "ITEM_UNIT_PRICE_MISSING", "The item has no unit price."))
    return [
        {"reason": f"WARNING_REASON_CART_DATA_{reason}", "description": said, "field": at} for at, reason, said in found
    ]
