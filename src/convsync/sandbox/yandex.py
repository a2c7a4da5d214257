"""Yandex.Metrica: counter, goals, CRM orders (`simple_orders`), offline conversions, and the lists of uploads."""

from __future__ import annotations

from typing import Any

from convsync.sandbox import yandex_conversions, yandex_crm, yandex_goals
from convsync.sandbox.clock import Clock
from convsync.sandbox.config import SandboxConfig
from convsync.sandbox.web import Request, Response, Route, reply, route
from convsync.sandbox.yandex_conversions import Conversions
from convsync.sandbox.yandex_crm import Crm
from convsync.sandbox.yandex_door import READ, TYPES, WRITE, Door, failure
from convsync.sandbox.yandex_goals import Goals


class Yandex:
    name = "yandex"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._door = Door(world, clock)
        self._goals = Goals(self._door, clock)
        self._crm = Crm(self._door, clock, self._goals, world.seed)
        self._conversions = Conversions(self._door, clock, self._goals)
        self._files = {"yandex.orders": self._crm.read, "yandex.conversions": self._conversions.read}

    def reset(self) -> None:
        for part in (self._door, self._goals, self._crm, self._conversions):
            part.reset()

    def routes(self) -> list[Route]:
        cdp, counter = "/cdp/api/v1/counter/{counter}", "/management/v1/counter/{counter}"
        offline = counter + "/offline_conversions"
        return [
            *route("yandex.counter", "GET", counter, self._counter),
            *route("yandex.goals", "GET", counter + "/goals", self._listed),
            *route("yandex.new_goal", "POST", counter + "/goals", self._create),
            *route("yandex.orders", "POST", cdp + "/data/simple_orders", self._crm.upload),
            *route("yandex.last_uploadings", "GET", cdp + "/last_uploadings", self._crm.last_uploadings),
            *route("yandex.conversions", "POST", offline + "/upload", self._conversions.upload),
            *route("yandex.uploadings", "GET", offline + "/uploadings", self._conversions.uploadings),
            *route("yandex.uploading", "GET", offline + "/uploading/{id}", self._conversions.uploading),
        ]

    def peek(self, operation: str, request: Request) -> None:
        read = self._files.get(operation)
        if read is None:
            return
        request.data = found = read(request)
        if isinstance(found, tuple):
            request.rows = len(found[1])

    def begin(self, request: Request) -> None:
        self._door.begin(request)

    def end(self, request: Request) -> None:
        self._door.end(request)

    def error(self, status: int) -> Response:
        return failure(status, TYPES.get(status, "backend_error"), "The sandbox was asked to fail.")

    def _counter(self, request: Request, names: dict[str, str]) -> Response:
        found = self._door.admit(request, names["counter"], READ, "client_read")
        shown = {
            "id": int(names["counter"]),
            "status": "Active",
            "name": found.name,
            "time_zone_name": found.time_zone_name,
            "time_zone_offset": found.time_zone_offset,
            "permission": found.permission,
        }
        return reply({"counter": shown})

    def _listed(self, request: Request, names: dict[str, str]) -> Response:
        self._door.admit(request, names["counter"], READ, "client_read")
        goals = [yandex_goals.shown(goal) for goal in self._goals.of(names["counter"])]
        return reply({"goals": goals + self._crm.system_goals(names["counter"])})

    def _create(self, request: Request, names: dict[str, str]) -> Response:
        counter = self._door.admit(request, names["counter"], WRITE, "client_write")
        return reply({"goal": yandex_goals.shown(self._goals.create(request, names["counter"], counter))})

    def books(self) -> dict[str, Any]:
        """By counter: CRM orders, and under `offline` the offline conversions."""
        orders, offline = self._crm.books(), self._conversions.books()
        counters = {
            name: {
                **(orders.get(name) or yandex_crm.nothing()),
                "offline": offline.get(name) or yandex_conversions.nothing(),
            }
            for name in sorted({*orders, *offline})
        }
        told = yandex_conversions.totals(list(offline.values()))
        return {"totals": {**self._crm.totals(), "offline": told}, "counters": counters}
