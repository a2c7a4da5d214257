"""The sandbox's own pages: what was counted, faults, clock, configuration. Nothing of the platforms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convsync.sandbox.web import Request, Response, reply

if TYPE_CHECKING:
    from convsync.sandbox.app import Sandbox


class Control:
    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._table: dict[tuple[str, str], Callable[[Any], Response]] = {
            ("GET", ""): self._page,
            ("GET", "books.json"): lambda _: reply(box.books()),
            ("GET", "requests.json"): lambda _: reply(box.requests()),
            ("GET", "faults"): lambda _: reply(box.faults.listed()),
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "clock"): lambda _: self._clock({}),
            ("POST", "clock"): self._clock,
            ("GET", "config"): lambda _: reply(asdict(box.config)),
            ("POST", "config"): self._configure,
            ("POST", "reset"): self._reset,
        }

    def handle(self, request: Request) -> Response:
        name = request.path.removeprefix("/_sandbox").strip("/")
        handler = self._table.get((request.method, name))
        if handler is None:
            known = any(name == path for _, path in self._table)
            return reply({"error": "no such page"}, 405 if known else 404)
        try:
            return handler(json.loads(request.body) if request.body else None)
        except (ValueError, TypeError, AttributeError) as problem:
            return reply({"error": str(problem)}, 400)

    def _page(self, body: Any) -> Response:
        from convsync.sandbox.page import render

        shown = render(self._box.books(), self._box.requests())
        return Response(200, shown.encode(), "text/html; charset=utf-8")

    def _add_faults(self, body: Any) -> Response:
        asked = body if isinstance(body, list) else [body]
        return reply([self._box.faults.add(one).shown() for one in asked])

    def _clear_faults(self, body: Any) -> Response:
        self._box.faults.clear()
        return reply([])

    def _clock(self, body: Any) -> Response:
        if body and "advance_s" in body:
            self._box.clock.advance(float(body["advance_s"]))
        return reply({"now": self._box.clock.now().isoformat()})

    def _configure(self, body: Any) -> Response:
        self._box.configure(body)
        return reply({"ok": True})

    def _reset(self, body: Any) -> Response:
        self._box.reset()
        return reply({"ok": True})
