"""How many conversions of each goal of a pixel VK Ads counts, by the day: the only thing it ever tells of them.

VK counts what it ties to its ads, whoever fired the goal: this program or the site itself.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

from convsync.costs import vk
from convsync.costs.vk import Ads, unreadable

NOT_TOLD = ("404", "WRONG_RESOURCE", "WRONG_USERS", "WRONG_IDS", "access_denied")
"""VK has no such figures for these keys: it is no fault of the question."""
ALL = "total"
"""post-click and post-view together (DOC Statistics): never to be added to either."""
PIXEL = "topmail"
"""The source of what a pixel counted; `mobile` are installs. DOC Statistics."""


class Counted(NamedTuple):
    """Conversions of one goal on one day. `value` is a decimal number of the account's currency; None: not told."""

    day: date
    goal: str
    conversions: int
    value: str | None


def counted(ads: Ads, account: str, pixel: str, since: date, until: date) -> list[Counted] | None:
    """What VK counted of a pixel's goals on the days, both included; a goal without any on a day is not there.

    None where VK does not tell it to these keys. Raises SourceError for an answer that cannot be read; whatever `ads`
    raises passes through.
    """
    found: dict[tuple[date, str], Counted] = {}
    for first, last in vk.spans(since, until):
        asked = {"id": account, "conversion_type": ALL, **vk.period(first, last)}
        told = ads.ask("/api/v2/statistics/goals/users/day.json", asked, none_if=NOT_TOLD)
        if told is None:
            return None
        for rows in vk.items(told, [account]).values():
            for row in rows:
                day = vk.day_of(row)
                for one in _day(row, day, pixel):
                    if not first <= day <= last or (day, one.goal) in found:
                        raise unreadable(f"statistics tell of {day}, goal {one.goal!r}, unasked or twice")
                    found[day, one.goal] = one
    return [one for one in found.values() if one.conversions]


def _day(row: dict[str, Any], day: date, pixel: str) -> list[Counted]:
    """The goals of this pixel in the row of a day."""
    goals = row.get("goals")
    if not isinstance(goals, list) or not all(isinstance(one, dict) for one in goals):
        raise unreadable(f"statistics have no usable goals on {day}")
    found, partly = list[Counted](), set[str]()
    for one in goals:
        if one.get("source") != PIXEL or vk.number(one.get("counter_id")) != pixel:
            continue
        name = one.get("goal")
        if not isinstance(name, str) or not name:
            raise unreadable(f"statistics have no usable goal on {day}")
        if one.get("conversion_type", ALL) == ALL:
            found.append(_counted(one, day, name))
        else:
            partly.add(name)
    if partly - {one.goal for one in found}:
        raise unreadable(f"statistics of goals on {day} have parts and no total")
    return found


def _counted(told: dict[str, Any], day: date, name: str) -> Counted:
    where = f"of the goal {name[:64]!r}"
    count = vk.count(told.get("count"), "count", day, where)
    if count is None:
        raise unreadable(f"statistics have no usable count {where} on {day}")
    value = vk.amount(told.get("value"), "value", day, where)
    return Counted(day, name, count, None if value is None else f"{value:f}")
