"""What a campaign spent and reached on a day: the figures that all of VK's statistics are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from convsync.sandbox.clock import Clock
from convsync.sandbox.decimals import text
from convsync.sandbox.vk_config import AdPlan, VkConfig
from convsync.sandbox.vk_door import Door
from convsync.sandbox.vk_tracker import Tracker, moscow_day

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Figures:
    shows: int = 0
    clicks: int = 0
    spent: Decimal | None = Decimal(0)
    """Without VAT. None = the answer says null."""
    goals: int = 0
    """Post-click."""

    def __add__(self, other: Figures) -> Figures:
        spent = (self.spent or Decimal(0)) + (other.spent or Decimal(0))
        return Figures(self.shows + other.shows, self.clicks + other.clicks, spent, self.goals + other.goals)

    def shown(self) -> dict[str, Any]:
        """`base`. DOC: spent, cpm, cpc, cpa are text, vk.cpa a number."""
        spent = self.spent or Decimal(0)
        cost, rate = money(spent / self.goals if self.goals else Decimal(0)), percent(self.goals, self.clicks)
        return {
            "shows": self.shows,
            "clicks": self.clicks,
            "goals": self.goals,
            "spent": None if self.spent is None else money(self.spent),
            "cpm": money(spent * 1000 / self.shows if self.shows else Decimal(0)),
            "cpc": money(spent / self.clicks if self.clicks else Decimal(0)),
            "cpa": cost,
            "ctr": percent(self.clicks, self.shows),
            "cr": rate,
            "vk": {"goals": self.goals, "cpa": float(cost), "cr": rate, "result": self.goals},
        }


@dataclass(frozen=True, slots=True)
class Reached:
    """Conversions of one goal."""

    source: str
    goal: str
    counter_id: int
    conversion_type: str
    """postclick | postview"""
    ad_plan: str | None
    day: date
    count: int
    value: Decimal


class Books:
    """The figures of campaigns by day, as they stand now."""

    def __init__(self, door: Door, config: Callable[[], VkConfig], clock: Clock, tracker: Tracker) -> None:
        self._door = door
        self._config = config
        self._clock = clock
        self._tracker = tracker

    def reached(self, by: str) -> list[Reached]:
        """Every conversion that is visible by now, dated by `conversion` (its arrival) or `impression` (its click)."""
        c = self._config()
        visible = self._clock.time() - c.goal_delay_s
        own = [
            Reached(
                source="topmail",
                goal=one.goal,
                counter_id=int(one.pixel),
                conversion_type="postclick",
                ad_plan=one.ad_plan,
                day=moscow_day(one.at if by == "conversion" or one.clicked is None else one.clicked),
                count=1,
                value=one.value,
            )
            for one in self._tracker.attributed()
            if one.at <= visible
        ]
        foreign = [
            Reached(
                source=one.source,
                goal=one.goal,
                counter_id=one.counter_id,
                conversion_type=one.conversion_type,
                ad_plan=one.ad_plan_id or None,
                day=date.fromisoformat(one.day),
                count=one.count,
                value=Decimal(one.value),
            )
            for one in c.goal_events
        ]
        return own + foreign

    def days(self, plans: dict[str, AdPlan], since: date, until: date, by: str) -> dict[str, dict[date, Figures]]:
        """By campaign: every day of the span, also without figures; under "" what no campaign is known of."""
        found = {
            number: {day: self._spent(plan, day) for day in span_of(since, until)}
            for number, plan in {**plans, "": AdPlan()}.items()
        }
        for one in self.reached(by):
            days = found.get(one.ad_plan or "", {})
            if one.conversion_type == "postclick" and one.day in days:
                days[one.day] = replace(days[one.day], goals=days[one.day].goals + one.count)
        return found

    def began(self, plans: dict[str, AdPlan], by: str) -> date:
        """The first day that has figures: where a lifetime begins."""
        named = [
            date.fromisoformat(day)
            for plan in plans.values()
            for day in (*plan.spend, plan.since, *plan.offline)
            if day
        ]
        return min([*named, *(one.day for one in self.reached(by)), self._oldest()])

    def _oldest(self) -> date:
        return self._door.today() - timedelta(days=self._config().max_days - 1)

    def _spent(self, plan: AdPlan, day: date) -> Figures:
        told = plan.spend.get(day.isoformat())
        age = (self._door.today() - day).days
        if told is None:
            since = date.fromisoformat(plan.since) if plan.since else self._oldest()
            told = plan.usual if age >= 0 and day >= since else {}
        percents = self._config().settling_percent
        share = percents[age] if 0 <= age < len(percents) else 100
        spent = told.get("spent", "0")
        return Figures(
            told.get("shows", 0) * share // 100,
            told.get("clicks", 0) * share // 100,
            None if spent is None else Decimal(str(spent)) * share / 100,
        )


def span_of(since: date, until: date) -> Iterable[date]:
    """Both ends included."""
    return (since + timedelta(days=n) for n in range((until - since).days + 1))


def summed(figures: Iterable[Figures]) -> Figures:
    """One alone keeps its null."""
    found = list(figures)
    return found[0] if len(found) == 1 else sum(found, Figures())


def money(value: Decimal) -> str:
    return str(value.quantize(_CENT, ROUND_HALF_UP))


def percent(part: Decimal | int, whole: Decimal | int) -> float:
    return float(round(Decimal(100 * part) / Decimal(whole), 4)) if whole else 0.0


def plain(value: Decimal) -> str:
    """`value` of a goal: no trailing zeros."""
    return text(value) or "0"
