"""Yandex.Metrica: counter, goals, CRM orders (`simple_orders`) and the list of uploads."""

from __future__ import annotations

import random
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from convsync.sandbox import multipart, yandex_orders
from convsync.sandbox.clock import Clock, iso
from convsync.sandbox.config import Counter, Goal, SandboxConfig, YandexConfig
from convsync.sandbox.decimals import sums
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Refusal, Request, Response, Route, reply, route
from convsync.sandbox.yandex_orders import BadFile, BadRow, Order, Row, Version

_DAY = 86400
_DELIMITERS = {"COMMA": ",", "SEMICOLON": ";"}
_MODES = ("SAVE", "UPDATE", "APPEND")
_SYSTEM_GOALS = {
    "cdp_order_in_progress": yandex_orders.CREATED,
    "cdp_order_paid": yandex_orders.PAID,
    "cdp_order_cancelled": yandex_orders.CANCELLED,
    "cdp_order_spam": yandex_orders.SPAM,
}
_TYPES = {
    400: "invalid_parameter",
    401: "unauthorized",
    403: "access_denied",
    404: "not_found",
    409: "conflict",
    420: "quota_requests_by_ip",
    429: "quota_requests_by_ip",
    503: "backend_error",
    504: "timeout",
}


@dataclass
class CounterBook:
    orders: dict[str, Order] = field(default_factory=dict)
    uploadings: list[dict[str, Any]] = field(default_factory=list)
    first_upload: float | None = None
    rows: int = 0
    nameless: int = 0


class Yandex:
    name = "yandex"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.RLock()
        self._quota = Windows()
        self._busy: dict[str, int] = {}
        self.reset()

    @property
    def _config(self) -> YandexConfig:
        return self._world.yandex

    def reset(self) -> None:
        with self._lock:
            self._books: dict[str, CounterBook] = {}
            self._random = random.Random(self._world.seed)
            self._quota.clear()

    def routes(self) -> list[Route]:
        cdp, counter = "/cdp/api/v1/counter/{counter}", "/management/v1/counter/{counter}"
        return [
            *route("yandex.counter", "GET", counter, self._counter),
            *route("yandex.goals", "GET", counter + "/goals", self._goals),
            *route("yandex.orders", "POST", cdp + "/data/simple_orders", self._orders),
            *route("yandex.last_uploadings", "GET", cdp + "/last_uploadings", self._uploadings),
        ]

    def peek(self, operation: str, request: Request) -> None:
        if operation != "yandex.orders":
            return
        request.data = read = _read(request)
        if isinstance(read, tuple):
            request.rows = len(read[1])

    def begin(self, request: Request) -> None:
        with self._lock:
            token = request.header("authorization")
            self._busy[token] = self._busy.get(token, 0) + 1

    def end(self, request: Request) -> None:
        with self._lock:
            self._busy[request.header("authorization")] -= 1

    def error(self, status: int) -> Response:
        return failure(status, _TYPES.get(status, "backend_error"), "The sandbox was asked to fail.")

    # Who may ask, and how often.

    def _admit(self, request: Request, counter: str, right: str, kind: str) -> Counter:
        self._limit_rate(request, kind)
        token = self._token(request)
        for name, subject in (("uid", token), ("counter_id", counter)):
            day = f"{kind} {name} {subject}"
            if not self._quota.take(day, self._config.requests_per_day, _DAY, self._clock.time()):
                raise Refusal(self._over(f"quota_requests_by_{name}"))
        found = self._config.counters.get(counter)
        if found is None:
            raise Refusal(failure(404, "not_found", f"Counter {counter} not found", "counterId"))
        if found.foreign or right not in self._config.tokens[token]:
            raise Refusal(failure(403, "access_denied", f"Access is denied: {right}"))
        return found

    def _limit_rate(self, request: Request, kind: str) -> None:
        """DOC M/intro/quotas: 30 requests/s per IP, 3 in parallel per user."""
        limit = self._config.requests_per_second
        if not self._quota.take(f"{kind} ip {request.peer}", limit, 1, self._clock.time()):
            raise Refusal(self._over("quota_requests_by_ip"))
        with self._lock:
            busy = self._busy.get(request.header("authorization"), 0)
        if self._config.parallel_requests is not None and busy > self._config.parallel_requests:
            raise Refusal(self._over("quota_parallel_requests"))

    def _over(self, error_type: str) -> Response:
        made = failure(self._config.quota_status, error_type, f"Quota exceeded: {error_type}")
        if self._config.retry_after is not None:
            made.headers["Retry-After"] = str(self._config.retry_after)
        return made

    def _token(self, request: Request) -> str:
        scheme, _, token = request.header("authorization").partition(" ")
        schemes = ("oauth", "bearer") if self._config.bearer_accepted else ("oauth",)
        if scheme.lower() in schemes and token.strip() in self._config.tokens:
            return token.strip()
        if self._config.bad_token_status == 401:
            raise Refusal(failure(401, "unauthorized", "Unauthorized"))
        raise Refusal(failure(self._config.bad_token_status, "invalid_token", "Invalid oauth_token"))

    # Reading.

    def _counter(self, request: Request, names: dict[str, str]) -> Response:
        found = self._admit(request, names["counter"], "metrika:read", "client_read")
        shown = {
            "id": int(names["counter"]),
            "status": "Active",
            "name": found.name,
            "time_zone_name": found.time_zone_name,
            "time_zone_offset": found.time_zone_offset,
            "permission": "edit",
        }
        return reply({"counter": shown})

    def _goals(self, request: Request, names: dict[str, str]) -> Response:
        found = self._admit(request, names["counter"], "metrika:read", "client_read")
        goals = [_goal(goal) for goal in found.goals]
        if self._system_goals_visible(names["counter"]):
            base = int(names["counter"]) * 10
            shown = enumerate(_SYSTEM_GOALS.items())
            goals += [{"id": base + i, "name": name, "type": kind} for i, (kind, name) in shown]
        return reply({"goals": goals})

    def _system_goals_visible(self, counter: str) -> bool:
        """DOC: the CRM's own goals appear after the first upload."""
        with self._lock:
            book = self._books.get(counter)
        first = book.first_upload if book else None
        return first is not None and self._clock.time() - first >= self._config.system_goals_after_s

    def _uploadings(self, request: Request, names: dict[str, str]) -> Response:
        self._admit(request, names["counter"], "metrika:offline_data", "client_read")
        asked = request.params()
        limit = asked.get("limit", "10")
        if not limit.isdigit() or not 1 <= int(limit) <= 1000:
            return failure(400, "invalid_parameter", "limit must be between 1 and 1000", "limit")
        try:
            before = _instant(asked["datetime_offset"]) if asked.get("datetime_offset") else None
        except ValueError:
            return failure(400, "invalid_parameter", "datetime_offset cannot be read", "datetime_offset")
        with self._lock:
            kept = list(self._books.get(names["counter"], CounterBook()).uploadings)
        source = asked.get("source", "API")
        found = [u for u in reversed(kept) if source == u["uploading_source"]]
        if before:
            found = [u for u in found if datetime.fromisoformat(u["datetime"]) < before]
        return reply({"uploadings": found[: int(limit)]})

    # simple_orders

    def _orders(self, request: Request, names: dict[str, str]) -> Response:
        counter = self._admit(request, names["counter"], "metrika:offline_data", "client_write")
        mode = _parameters(request)
        read = request.data
        if isinstance(read, Response):
            return read
        header, lines = read
        now = self._clock.time()
        rows, errors = self._rows(counter, header, lines, now)
        if errors and self._config.bad_row == "refuse_400":
            request.note = f"file refused, {len(errors)} bad rows"
            return failure(400, "invalid_uploading", errors[0], "file", errors)
        failed = self._config.force_failed or bool(errors and self._config.bad_row == "failed_200")
        with self._lock:
            book = self._books.setdefault(names["counter"], CounterBook())
            uploading = self._uploading(book, 0 if failed else len(rows), "FAILED" if failed else "PASSED")
            if not failed:
                self._apply(counter, book, rows, mode, str(uploading["uploading_id"]), now)
        request.note = f"{uploading['api_validation_status']}, {uploading['elements_count']} orders"
        return reply({"uploading": uploading})

    def _rows(
        self, counter: Counter, header: list[str], lines: list[list[str]], now: float
    ) -> tuple[list[Row], list[str]]:
        reader = yandex_orders.Reader(self._config, counter, header, now)
        rows, errors = list[Row](), list[str]()
        for index, line in enumerate(lines):
            try:
                rows.append(reader.row(line))
            except BadRow as problem:
                errors.append(f"line {index + 2}: {problem}")
        return rows, errors

    def _uploading(self, book: CounterBook, count: int, status: str) -> dict[str, Any]:
        made = {
            "uploading_id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "datetime": iso(self._clock.now()),
            "api_validation_status": status,
            "elements_count": count,
            "entity_type": "SIMPLE_ORDERS",
            "uploading_format": "CSV",
            "uploading_source": "API",
        }
        book.uploadings.append(made)
        return made

    def _apply(self, counter: Counter, book: CounterBook, rows: list[Row], mode: str, upload: str, now: float) -> None:
        book.rows += len(rows)
        book.first_upload = now if book.first_upload is None else book.first_upload
        for row in self._in_random_order(book, rows):
            order = book.orders.get(row.id)
            if order is None:
                order = book.orders[row.id] = Order(row.id, row.created, row.created_text, {})
            self._change(counter, order, row, mode, upload, now)

    def _in_random_order(self, book: CounterBook, rows: list[Row]) -> list[Row]:
        """DOC M/data-import/modes: rows of one id in one file are applied in random order."""
        by_id: dict[str, list[Row]] = {}
        for row in rows:
            if not row.id:
                book.nameless += 1
                row.id = f"(none) {book.nameless}"
            by_id.setdefault(row.id, []).append(row)
        for same in by_id.values():
            if len(same) > 1:
                self._random.shuffle(same)
        return [row for same in by_id.values() for row in same]

    def _change(self, counter: Counter, order: Order, row: Row, mode: str, upload: str, now: float) -> None:
        """Apply one row. The create_date_time of the first load stays, whatever comes later."""
        first = order.uploads == 0
        order.uploads += 1
        state = yandex_orders.merged(None if first else order.state, row.sent, mode)
        late = order.visit is not None and now - order.visit > self._config.change_days * _DAY
        changed = first or state != order.state
        order.versions.append(_version(state, upload, now, changed, not late))
        if late:
            return
        order.state = state
        self._link(order, now)
        if order.visit is None:
            return
        known = {goal.url for goal in counter.goals}
        for name, price in yandex_orders.reached(state, known, self._config.cancelled_and_spam_goals).items():
            if price is not None or name not in order.goals:
                order.goals[name] = price
        order.unknown_goals |= set(state.get("goals", ())) - known

    def _link(self, order: Order, now: float) -> None:
        """DOC M/data-import/contacts: the visit must lie within 21 days at first linking."""
        if order.visit is not None:
            return
        visit = self._visit(order)
        if visit is not None and now - visit <= self._config.link_days * _DAY:
            order.visit = visit

    def _visit(self, order: Order) -> float | None:
        known = self._config.known_clients
        if known is None:
            return order.created
        visits = [_instant(known[c]).timestamp() for c in order.state.get("client_ids", ()) if c in known]
        return max((visit for visit in visits if visit <= order.created), default=None)

    # The books.

    def books(self) -> dict[str, Any]:
        with self._lock:
            counters = {name: _shown(book) for name, book in sorted(self._books.items())}
            orders = [order for book in self._books.values() for order in book.orders.values()]
            totals = {
                "rows": sum(book.rows for book in self._books.values()),
                "uploads": sum(len(book.uploadings) for book in self._books.values()),
                "orders": len(orders),
                "linked": sum(order.visit is not None for order in orders),
                "goals": sum(len(order.goals) for order in orders),
                "revenue": _revenue(orders, "PAID"),
            }
        return {"totals": totals, "counters": counters}


def _version(state: dict[str, Any], upload: str, now: float, changed: bool, taken: bool) -> Version:
    currency = state.get("currency") or "RUB"
    return Version(now, upload, state["order_status"], state.get("revenue"), currency, changed, taken)


def _shown(book: CounterBook) -> dict[str, Any]:
    orders = list(book.orders.values())
    statuses = sorted({order.status() for order in orders})
    goals = sorted({name for order in orders for name in order.goals})
    return {
        "rows": book.rows,
        "uploads": len(book.uploadings),
        "orders": {order.id: order.shown() for order in orders},
        "statuses": {name: sum(order.status() == name for order in orders) for name in statuses},
        "revenue": {name: _revenue(orders, name) for name in statuses},
        "goals": {name: _goal_book(name, orders) for name in goals},
        "unlinked": sum(order.visit is None for order in orders),
        "unknown_goals": sorted({name for order in orders for name in order.unknown_goals}),
    }


def _revenue(orders: list[Order], status: str) -> dict[str, str]:
    return sums((order.currency(), order.revenue()) for order in orders if order.status() == status)


def _goal_book(name: str, orders: list[Order]) -> dict[str, Any]:
    reached = [order for order in orders if name in order.goals]

    def income(order: Order) -> Decimal:
        price = order.goals[name]
        return order.income() if price is None else price

    return {"reaches": len(reached), "income": sums((o.currency(), income(o)) for o in reached)}


def _goal(goal: Goal) -> dict[str, Any]:
    conditions = [{"type": goal.condition, "url": goal.url}]
    return {"id": goal.id, "name": goal.name, "type": goal.type, "conditions": conditions}


def _instant(given: str) -> datetime:
    moment = datetime.fromisoformat(given.replace(" ", "+") if given.count(" ") == 1 and "T" in given else given)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parameters(request: Request) -> str:
    """The merge mode; the delimiter was used while reading."""
    asked = request.params()
    mode, delimiter = asked.get("merge_mode", ""), asked.get("delimiter_type", "COMMA")
    if not mode:
        raise Refusal(failure(400, "missing_parameter", "merge_mode is required", "merge_mode"))
    if mode not in _MODES:
        raise Refusal(failure(400, "invalid_parameter", f"merge_mode must be one of {_MODES}", "merge_mode"))
    if delimiter not in _DELIMITERS:
        said = "delimiter_type must be COMMA or SEMICOLON"
        raise Refusal(failure(400, "invalid_parameter", said, "delimiter_type"))
    return mode


def _read(request: Request) -> tuple[list[str], list[list[str]]] | Response:
    """Header and lines of the part `file`, or the answer that refuses them."""
    try:
        parts = multipart.parts(request.header("content-type"), request.body)
    except multipart.Malformed as problem:
        return failure(400, "invalid_uploading", str(problem))
    files = [part for part in parts if part.name == "file"]
    if len(files) != 1:
        return failure(400, "missing_parameter", "one part named file is required", "file")
    delimiter = _DELIMITERS.get(request.params().get("delimiter_type", "COMMA"), ",")
    try:
        header, lines = yandex_orders.table(files[0].content, delimiter)
        yandex_orders.check_header(header)
    except BadFile as problem:
        return failure(400, "invalid_uploading", str(problem), "file")
    if not lines:
        return failure(400, "invalid_uploading", "the file has no rows", "file")
    return header, lines


def failure(
    status: int, error_type: str, message: str, location: str = "", messages: list[str] | None = None
) -> Response:
    """DOC M/intro/errors."""
    place = {"location": location} if location else {}
    told = messages[:20] if messages else [message]
    errors = [{"error_type": error_type, "message": one, **place} for one in told]
    return reply({"errors": errors, "code": status, "message": message}, status)
