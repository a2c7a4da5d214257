"""CRM orders of Metrica: taking files of `simple_orders`, listing them, and what the counters know of each order."""

from __future__ import annotations

import random
import threading
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from convsync.sandbox import yandex_files, yandex_orders, yandex_visits
from convsync.sandbox.clock import Clock, iso
from convsync.sandbox.decimals import sums
from convsync.sandbox.web import Request, Response, reply
from convsync.sandbox.yandex_config import YandexConfig
from convsync.sandbox.yandex_door import DAY, UPLOAD, Door, failure, refused, whole
from convsync.sandbox.yandex_files import Table
from convsync.sandbox.yandex_goals import Goals
from convsync.sandbox.yandex_orders import Order, Row, Version

_DELIMITERS = {"COMMA": ",", "SEMICOLON": ";"}
_MODES = ("SAVE", "UPDATE", "APPEND")
_SYSTEM_GOALS = {
    "cdp_order_in_progress": yandex_orders.CREATED,
    "cdp_order_paid": yandex_orders.PAID,
    "cdp_order_cancelled": yandex_orders.CANCELLED,
    "cdp_order_spam": yandex_orders.SPAM,
}


@dataclass
class Book:
    """What one counter knows of CRM orders."""

    orders: dict[str, Order] = field(default_factory=dict)
    uploadings: list[dict[str, Any]] = field(default_factory=list)
    first_upload: float | None = None
    rows: int = 0
    nameless: int = 0


class Crm:
    def __init__(self, door: Door, clock: Clock, goals: Goals, seed: int) -> None:
        self._door = door
        self._clock = clock
        self._goals = goals
        self._seed = seed
        self._lock = threading.RLock()
        self.reset()

    @property
    def _config(self) -> YandexConfig:
        return self._door.config

    def reset(self) -> None:
        with self._lock:
            self._books: dict[str, Book] = {}
            self._random = random.Random(self._seed)

    def read(self, request: Request) -> Table | Response:
        delimiter = _DELIMITERS.get(request.params().get("delimiter_type", "COMMA"), ",")
        return yandex_files.read(request, yandex_orders.check_header, self._config.max_file_bytes, delimiter)

    def system_goals(self, name: str) -> list[dict[str, Any]]:
        """DOC: the CRM's own goals appear after the first upload."""
        with self._lock:
            book = self._books.get(name)
        first = book.first_upload if book else None
        if first is None or self._clock.time() - first < self._config.system_goals_after_s:
            return []
        base = int(name) * 10
        return [{"id": base + i, "name": goal, "type": kind} for i, (kind, goal) in enumerate(_SYSTEM_GOALS.items())]

    def last_uploadings(self, request: Request, names: dict[str, str]) -> Response:
        self._door.admit(request, names["counter"], UPLOAD, "client_read")
        asked = request.params()
        limit = whole(asked, "limit", 10, 1, 1000)
        try:
            before = yandex_visits.instant(asked["datetime_offset"]) if asked.get("datetime_offset") else None
        except ValueError:
            return failure(400, "invalid_parameter", "datetime_offset cannot be read", "datetime_offset")
        with self._lock:
            kept = list(self._books.get(names["counter"], Book()).uploadings)
        source = asked.get("source", "API")
        found = [u for u in reversed(kept) if source == u["uploading_source"]]
        if before:
            found = [u for u in found if datetime.fromisoformat(u["datetime"]) < before]
        return reply({"uploadings": found[:limit]})

    def upload(self, request: Request, names: dict[str, str]) -> Response:
        name = names["counter"]
        counter = self._door.admit(request, name, UPLOAD, "client_write")
        mode = _parameters(request)
        if isinstance(request.data, Response):
            return request.data
        header, lines = request.data
        now = self._clock.time()
        reader = yandex_orders.Reader(self._config, counter, set(self._goals.events(name)), header, now)
        rows, errors = yandex_files.rows(lines, reader.row)
        if errors and self._config.bad_row == "refuse_400":
            request.note = f"file refused, {len(errors)} bad rows"
            return failure(400, "invalid_uploading", errors[0], "file", errors)
        failed = self._config.force_failed or bool(errors and self._config.bad_row == "failed_200")
        with self._lock:
            book = self._books.setdefault(name, Book())
            uploading = self._uploading(book, 0 if failed else len(rows), "FAILED" if failed else "PASSED")
            if not failed:
                self._apply(name, book, rows, mode, str(uploading["uploading_id"]), now)
        request.note = f"{uploading['api_validation_status']}, {uploading['elements_count']} orders"
        return reply({"uploading": uploading})

    def _uploading(self, book: Book, count: int, status: str) -> dict[str, Any]:
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

    def _apply(self, name: str, book: Book, rows: list[Row], mode: str, upload: str, now: float) -> None:
        book.rows += len(rows)
        goals = self._goals.events(name)
        book.first_upload = now if book.first_upload is None else book.first_upload
        for row in self._in_random_order(book, rows):
            order = book.orders.get(row.id)
            if order is None:
                order = book.orders[row.id] = Order(row.id, row.created, row.created_text, {})
            self._change(goals, order, row, mode, upload, now)

    def _in_random_order(self, book: Book, rows: list[Row]) -> list[Row]:
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

    def _change(self, goals: dict[str, float], order: Order, row: Row, mode: str, upload: str, now: float) -> None:
        """Apply one row. The create_date_time of the first load stays, whatever comes later."""
        first = order.uploads == 0
        order.uploads += 1
        state = yandex_orders.merged(None if first else order.state, row.sent, mode)
        late = order.visit is not None and now - order.visit > self._config.change_days * DAY
        changed = first or state != order.state
        order.versions.append(Version(now, upload, state, changed, not late))
        if late:
            return
        order.state = state
        self._link(order, now)
        if order.visit is None:
            return
        known = {goal for goal, since in goals.items() if order.visit >= since}
        for goal, price in yandex_orders.reached(state, known, self._config.cancelled_and_spam_goals).items():
            if price is not None or goal not in order.goals:
                order.goals[goal] = price
        order.unknown_goals |= set(state.get("goals", ())) - known

    def _link(self, order: Order, now: float) -> None:
        """DOC M/data-import/contacts: the visit must lie within 21 days at first linking."""
        if order.visit is None:
            visit = yandex_visits.of_order(self._config, order.state, order.created)
            if visit is not None and now - visit <= self._config.link_days * DAY:
                order.visit = visit

    # The books.

    def books(self) -> dict[str, dict[str, Any]]:
        """By counter."""
        with self._lock:
            return {name: _shown(book) for name, book in self._books.items()}

    def totals(self) -> dict[str, Any]:
        with self._lock:
            books = list(self._books.values())
            orders = [order for book in books for order in book.orders.values()]
            return {
                "rows": sum(book.rows for book in books),
                "uploads": sum(len(book.uploadings) for book in books),
                "orders": len(orders),
                "linked": sum(order.visit is not None for order in orders),
                "goals": sum(len(order.goals) for order in orders),
                "revenue": _revenue(orders, "PAID"),
            }


def _shown(book: Book) -> dict[str, Any]:
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


def nothing() -> dict[str, Any]:
    """The books of a counter without orders."""
    return _shown(Book())


def _revenue(orders: list[Order], status: str) -> dict[str, str]:
    return sums((order.currency(), order.revenue()) for order in orders if order.status() == status)


def _goal_book(name: str, orders: list[Order]) -> dict[str, Any]:
    reached = [order for order in orders if name in order.goals]

    def income(order: Order) -> Decimal:
        price = order.goals[name]
        return order.income() if price is None else price

    return {"reaches": len(reached), "income": sums((o.currency(), income(o)) for o in reached)}


def _parameters(request: Request) -> str:
    """The merge mode; the delimiter was used while reading."""
    asked = request.params()
    mode, delimiter = asked.get("merge_mode", ""), asked.get("delimiter_type", "COMMA")
    if not mode:
        raise refused("missing_parameter", "merge_mode is required", "merge_mode")
    if mode not in _MODES:
        raise refused("invalid_parameter", f"merge_mode must be one of {_MODES}", "merge_mode")
    if delimiter not in _DELIMITERS:
        raise refused("invalid_parameter", "delimiter_type must be COMMA or SEMICOLON", "delimiter_type")
    return mode
