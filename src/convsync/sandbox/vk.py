"""VK: the pixel's tracker and the OAuth API around it, in one platform."""

from __future__ import annotations

from typing import Any

from convsync.sandbox import vk_lists
from convsync.sandbox.clock import Clock
from convsync.sandbox.config import SandboxConfig
from convsync.sandbox.vk_cabinet import Cabinet
from convsync.sandbox.vk_config import VkConfig
from convsync.sandbox.vk_door import Door
from convsync.sandbox.vk_figures import Books
from convsync.sandbox.vk_goals import Goals
from convsync.sandbox.vk_leads import Leads
from convsync.sandbox.vk_lists import Lists
from convsync.sandbox.vk_statistics import Statistics
from convsync.sandbox.vk_tokens import Tokens
from convsync.sandbox.vk_tracker import Tracker
from convsync.sandbox.web import Handler, Request, Response, Route, reply, route


class Vk:
    name = "vk"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        def config() -> VkConfig:
            return world.vk

        self._tokens = Tokens(config, clock)
        self._door = Door(config, clock, self._tokens.whose, self._tokens.peeked)
        self._goals = Goals(self._door, config)
        self._tracker = Tracker(self._door, config, clock, self._goals)
        self._cabinet = Cabinet(self._door, config, self._tokens)
        figures = Books(self._door, config, clock, self._tracker)
        self._statistics = Statistics(self._door, config, self._cabinet, self._tokens, figures)
        self._lists = Lists(self._door, lambda: config().lists, clock)
        self._leads = Leads(self._door, lambda: config().leads, clock)

    def reset(self) -> None:
        for part in (self._door, self._tokens, self._goals, self._tracker, self._lists, self._leads):
            part.reset()

    def routes(self) -> list[Route]:
        v2, limited = "/api/v2", self._door.limited
        known = [
            *route("vk.token", "POST", f"{v2}/oauth2/token.json", limited(self._tokens.token)),
            *route("vk.token_delete", "POST", f"{v2}/oauth2/token/delete.json", limited(self._tokens.delete)),
            *self._resources(),
            *self._lists.routes(),
            *self._leads.routes(),
        ]
        self._door.know(known)
        wrong = [
            Route("vk.wrong_method", method, pattern, limited(self._door.wrong_method))
            for pattern in dict.fromkeys(one.pattern for one in known)
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        ]
        return [*route("vk.tracker", "GET POST", "/tracker", self._tracker.hit), *known, *wrong]

    def _resources(self) -> list[Route]:
        """Everything that needs a token, but lists and leads."""
        v2, counters = "/api/v2", "/api/v2/remarketing/counters"
        figures, sums = "/statistics/{kind}/{period}.json", "/api/v3/statistics/{kind}/day.json"
        goals, offline = "/statistics/goals/{kind}/day.json", "/statistics/offline_conversions/{kind}/{period}.json"
        return [
            *self._api("vk.user", "GET", "/api/v3/user.json", self._cabinet.user),
            *self._api("vk.user", "GET", f"{v2}/user.json", self._cabinet.user),
            *self._api("vk.ad_plans", "GET", f"{v2}/ad_plans.json", self._cabinet.plans),
            *self._api("vk.statistics", "GET", v2 + figures, self._statistics.base),
            *self._api("vk.statistics_v3", "GET", sums, self._statistics.third),
            *self._api("vk.goal_statistics", "GET", v2 + goals, self._statistics.goals),
            *self._api("vk.offline_statistics", "GET", v2 + offline, self._statistics.offline),
            *self._api("vk.counters", "GET", f"{counters}.json", self._goals.counters),
            *self._api("vk.counter_goals", "GET", counters + "/{counter}/goals.json", self._goals.listed),
            *self._api("vk.new_goal", "POST", counters + "/{counter}/goals.json", self._goals.create),
            *self._api("vk.change_goal", "POST", counters + "/{counter}/goals/{goal}.json", self._goals.change),
            *self._api("vk.goals", "GET", f"{v2}/goals.json", self._goals.all),
            *self._api("vk.throttling", "GET", f"{v2}/throttling.json", lambda *_: reply(self._door.throttling())),
        ]

    def _api(self, operation: str, method: str, path: str, handler: Handler) -> list[Route]:
        return route(operation, method, path, self._door.guarded(handler))

    def peek(self, operation: str, request: Request) -> None:
        if operation == "vk.tracker":
            request.rows = 1
        elif operation in vk_lists.FILES:
            self._lists.read(request)

    def begin(self, request: Request) -> None:
        pass

    def end(self, request: Request) -> None:
        pass

    def error(self, status: int) -> Response:
        return self._door.error(status)

    def books(self) -> dict[str, Any]:
        return {
            **self._tracker.books(),
            **self._tokens.books(),
            "lists": self._lists.books(),
            "leads": self._leads.books(),
        }
