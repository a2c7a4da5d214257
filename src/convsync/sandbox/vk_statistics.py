"""VK's statistics: spend, clicks and shows by day (v2) or in one sum (v3), goals by day, and offline lists."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from convsync.sandbox.vk_cabinet import Cabinet
from convsync.sandbox.vk_config import AdPlan, VkConfig
from convsync.sandbox.vk_door import Door, span
from convsync.sandbox.vk_figures import Books, Figures, Reached, money, percent, plain, span_of, summed
from convsync.sandbox.vk_tokens import Tokens
from convsync.sandbox.web import Refusal, Request, Response, reply

_FOREIGN = {
    "ad_plans": "WRONG_ADPLANS",
    "ad_groups": "WRONG_ADGROUPS",
    "banners": "WRONG_BANNERS",
    "campaigns": "WRONG_CAMPAIGNS",
    "users": "WRONG_USERS",
}
_TYPES = ("postclick", "postview", "total")
_V3_MOST = 250


@dataclass(frozen=True, slots=True)
class Asked:
    """Objects with the campaigns of each, and the days."""

    objects: dict[str, dict[str, AdPlan]]
    since: date
    until: date
    attribution: str
    users: bool
    """Whole cabinets: with conversions whose campaign is not known."""

    def plans(self) -> dict[str, AdPlan]:
        return {number: plan for plans in self.objects.values() for number, plan in plans.items()}

    def own(self, reached: Iterable[Reached], plans: Container[str]) -> list[Reached]:
        """Those of the campaigns."""
        return [one for one in reached if one.ad_plan in plans or (self.users and one.ad_plan is None)]


class Statistics:
    def __init__(
        self, door: Door, config: Callable[[], VkConfig], cabinet: Cabinet, tokens: Tokens, books: Books
    ) -> None:
        self._door = door
        self._config = config
        self._cabinet = cabinet
        self._tokens = tokens
        self._books = books

    # The resources.

    def base(self, request: Request, names: dict[str, str]) -> Response:
        """v2. DOC: `summary` tells a whole life, whatever the dates say."""
        if names["period"] not in ("day", "summary"):
            raise self._no(404, "WRONG_RESOURCE", "Unknown resource")
        for metric in request.params().get("metrics", "base").split(","):
            if metric not in ("base", "all"):
                raise self._no(400, "WRONG_PARAMETER", f"Unknown metrics {metric[:40]!r}")
        daily = names["period"] == "day"
        asked = self._asked(request, names["kind"], dated=daily)
        items, wholes = [], []
        for number, days in self._figures(asked).items():
            whole = summed(days.values())
            rows = {"rows": [{"date": day, "base": days[day].shown()} for day in self._kept(days)]} if daily else {}
            items.append({"id": int(number), **rows, "total": {"base": whole.shown()}})
            wholes.append(whole)
        return self._paged(request, items, {"base": summed(wholes).shown()})

    def third(self, request: Request, names: dict[str, str]) -> Response:
        """v3. DOC: no rows of days, one total for each object."""
        limit, offset = span(request, 20)
        if not 1 <= limit <= _V3_MOST:
            raise self._no(400, "WRONG_PARAMETER", f"limit must be from 1 to {_V3_MOST}")
        asked = self._asked(request, names["kind"], dated=True, third=True)
        totals = {number: summed(days.values()) for number, days in self._figures(asked).items()}
        items = [{"id": int(number), "total": {"base": whole.shown()}} for number, whole in totals.items()]
        return reply(
            {
                "items": items[offset : offset + limit],
                "total": {"base": summed(totals.values()).shown()},
                "count": len(items),
                "limit": limit,
                "offset": offset,
            }
        )

    def goals(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: post-click unless another conversion_type is asked for; `total` = post-click + post-view."""
        asked = self._asked(request, names["kind"], dated=True)
        types = request.params().get("conversion_type", "postclick").split(",")
        if not set(types) <= set(_TYPES):
            raise self._no(400, "WRONG_PARAMETER", "Unknown conversion_type")
        figures = self._figures(asked)
        reached = [one for one in self._books.reached(asked.attribution) if asked.since <= one.day <= asked.until]
        items: list[dict[str, Any]] = []
        for number, plans in asked.objects.items():
            own, days = asked.own(reached, plans), figures[number]
            zeros = own if self._config().goal_zeros else []
            rows = [
                {"date": day, "goals": _goals([one for one in own if one.day == day], zeros, types, days[day])}
                for day in days
            ]
            kept = [row for row in rows if row["goals"] or self._config().empty_days]
            items.append(
                {"id": int(number), "rows": kept, "total": {"goals": _goals(own, [], types, summed(days.values()))}}
            )
        whole = summed(one for days in figures.values() for one in days.values())
        return self._paged(request, items, {"goals": _goals(asked.own(reached, asked.plans()), [], types, whole)})

    def offline(self, request: Request, names: dict[str, str]) -> Response:
        """What offline lists matched. CODE mcp: summary.json is 404 WRONG_RESOURCE."""
        if names["period"] != "day" or names["kind"] not in ("users", "ad_groups", "ad_plans"):
            raise self._no(404, "WRONG_RESOURCE", "Unknown resource")
        asked = self._asked(request, names["kind"], dated=True)
        figures = self._figures(asked)
        items = []
        for number, plans in asked.objects.items():
            days = figures[number]
            people = {day: sum(plan.offline.get(day.isoformat(), 0) for plan in plans.values()) for day in days}
            rows = [{"date": day, **_offline(people[day], days[day])} for day in days]
            kept = [row for row in rows if row["offline"] or self._config().empty_days]
            whole = _offline(sum(people.values()), summed(days.values()))
            items.append({"id": int(number), "total": whole, "rows": kept})
        return reply({"items": items})

    # What is asked for.

    def _asked(self, request: Request, kind: str, *, dated: bool, third: bool = False) -> Asked:
        """Raises Refusal: resource, parameters, days, number of ids, foreign ids, in this order."""
        if kind not in _FOREIGN:
            raise self._no(404, "WRONG_RESOURCE", "Unknown resource")
        said = request.params()
        needed = (["date_from"] if third else ["id", "date_from", "date_to"]) if dated else ["id"]
        if dated and not third and self._config().attribution_required:
            needed.append("attribution")
        for name in needed:
            if not said.get(name):
                raise self._no(400, "WRONG_PARAMETER", f"Parameter {name} is required")
        attribution = said.get("attribution", "conversion")
        if attribution not in ("conversion", "impression"):
            raise self._no(400, "WRONG_PARAMETER", "attribution must be conversion or impression")
        since, until = self._days(said) if dated else (date.min, self._door.today())
        objects = self._objects(kind, said.get("id"), self._door.user(request))
        asked = Asked(objects, since, until, attribution, kind == "users")
        return asked if dated else replace(asked, since=self._books.began(asked.plans(), attribution))

    def _days(self, said: dict[str, str]) -> tuple[date, date]:
        today = self._door.today()
        try:
            since = date.fromisoformat(said["date_from"])
            until = date.fromisoformat(said["date_to"]) if "date_to" in said else max(today, since)
        except ValueError:
            raise self._no(400, "WRONG_DATE", "Dates must be YYYY-MM-DD") from None
        most = timedelta(days=self._config().max_days - 1)
        if since > until or until - since > most or today - since > most:
            raise self._no(400, "WRONG_DATE", f"Dates must be within the last {self._config().max_days} days")
        return since, until

    def _objects(self, kind: str, told: str | None, user: str) -> dict[str, dict[str, AdPlan]]:
        plans = self._cabinet.owned(user)
        known = {"ad_plans": {number: {number: plan} for number, plan in plans.items()}}
        known["users"] = {str(self._tokens.number(user)): plans}
        own = known.get(kind, {})
        if told is None:
            return own
        ids = list(dict.fromkeys(told.split(",")))
        if not all(one.isascii() and one.isdigit() for one in ids):
            raise self._no(400, "WRONG_PARAMETER", "id must be a list of numbers")
        if len(ids) > self._config().max_ids:
            raise self._no(400, "LIMIT_EXCEEDED", f"No more than {self._config().max_ids} ids")
        if not set(ids) <= set(own):
            raise self._no(400, _FOREIGN[kind], "Some objects do not exist or belong to somebody else")
        return {one: own[one] for one in ids}

    # What is told.

    def _figures(self, asked: Asked) -> dict[str, dict[date, Figures]]:
        """By object and day."""
        by_plan = self._books.days(asked.plans(), asked.since, asked.until, asked.attribution)
        parts = {number: [*plans, *([""] if asked.users else [])] for number, plans in asked.objects.items()}
        return {
            number: {day: summed(by_plan[plan][day] for plan in plans) for day in span_of(asked.since, asked.until)}
            for number, plans in parts.items()
        }

    def _kept(self, days: dict[date, Figures]) -> Iterable[date]:
        return [day for day, one in days.items() if self._config().empty_days or one != Figures()]

    def _paged(self, request: Request, items: list[dict[str, Any]], total: dict[str, Any]) -> Response:
        limit, offset = span(request, self._config().statistics_limit)
        shown = items[offset : offset + limit]
        return reply({"items": shown, "total": total, "count": len(items), "limit": limit, "offset": offset})

    def _no(self, status: int, code: str, message: str) -> Refusal:
        prefix = "ERR_" if self._config().error_prefix else ""
        return Refusal(self._door.fail(status, prefix + code, message))


def _goals(
    found: Iterable[Reached], zeros: Iterable[Reached], types: list[str], figures: Figures
) -> list[dict[str, Any]]:
    """One entry for each goal and type asked for; the goals of `zeros` are there even with count 0."""
    sums: dict[tuple[str, str, int, str], tuple[int, Decimal]] = {}
    for one, counts in [*((one, True) for one in found), *((one, False) for one in zeros)]:
        for kind in types:
            if kind in (one.conversion_type, "total"):
                key = (one.source, one.goal, one.counter_id, kind)
                count, value = sums.get(key, (0, Decimal(0)))
                sums[key] = (count + one.count, value + one.value) if counts else (count, value)
    spent = figures.spent or Decimal(0)
    return [
        {
            "conversion_type": kind,
            "source": source,
            "goal": goal,
            "counter_id": counter,
            "count": count,
            "cr": percent(count, figures.clicks),
            "cpa": money(spent / count) if count else "0.0",
            "value": plain(value),
            "romi": percent(value - spent, spent),
            "adv_cost_share": percent(spent, value),
        }
        for (source, goal, counter, kind), (count, value) in sorted(sums.items())
    ]


def _offline(people: int, figures: Figures) -> dict[str, Any]:
    spent = figures.spent or Decimal(0)
    cost = money(spent / people) if people else "0"
    return {"rate": percent(people, figures.shows), "cost": cost, "offline": people}
