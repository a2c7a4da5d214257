"""The goals of a VK pixel, and why nothing that is sent for a name would reach one.

The tracker takes every call and tells nothing (facts, 1.1), so names are compared before anything is sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from convsync.destinations.vk.api import Api
from convsync.errors import Halted
from convsync.net import scrub

JAVASCRIPT = "jse"
"""The condition of a goal that a call of the tracker fires. DOC RemarketingCounterGoal."""
COUNTERS = "/api/v2/remarketing/counters"
NEAR = 0.8
"""How alike two spellings have to be, of 1, to be taken for a slip: crm_lead and new_lead are not."""
SHOWN = 5
MAKE = "Make it in VK Ads: Sites, the pixel, Events, of type JS event."


class Pixel(NamedTuple):
    number: str
    """The number of the Top.Mail.Ru counter: `pixel_id`."""
    name: str


class Goal(NamedTuple):
    id: str
    substr: str
    """What a call has to name, capital and small letters alike."""
    name: str
    condition: str
    """jse, or another that no call fires; empty where VK did not tell."""
    type: str
    """purchase, lead, custom …"""

    @property
    def fits(self) -> bool:
        return self.condition in (JAVASCRIPT, "")


class Lack(NamedTuple):
    """Why a name reaches no goal."""

    goal: str
    code: str
    message: str
    advice: str
    near: Goal | None = None
    """The one that was probably meant."""


def pixels(api: Api) -> list[Pixel]:
    """Those that the account sees. Raises as `Api.pages`."""
    found = api.pages(f"{COUNTERS}.json")
    return [Pixel(number, _text(one.get("name"))) for one in found if (number := _number(one.get("counter_id")))]


def goals(api: Api, pixel_id: str) -> list[Goal]:
    """Every goal of a pixel, in VK's order. Raises as `Api.pages`.

    From the pixel's own list; where that is not there, from the list of all goals, which need not tell the kind
    (DOC Goals: goal, id, counter_id).
    """
    try:
        return _goals(api.pages(f"{COUNTERS}/{pixel_id}/goals.json"))
    except Halted as stop:
        if stop.finding.code != "not_found":
            raise
    return _goals(one for one in api.pages("/api/v2/goals.json") if _number(one.get("counter_id")) == pixel_id)


def named(targets: Iterable[Any]) -> list[str]:
    """The goals that these targets name, each once."""
    return list(dict.fromkeys(target.goal for target in targets if target.goal))


def lack(name: str, known: Sequence[Goal]) -> Lack | None:
    """None for the name of a JavaScript goal; else what is there instead."""
    there = [one for one in known if one.substr == name]
    if any(one.fits for one in there):
        return None
    if there:
        message = f"the goal {name} is of another kind ({shown(there[0].condition)}), and calls fire JS events only."
        return Lack(name, "goal_type", message, f"Its kind cannot be changed: name another goal. {MAKE}", there[0])
    fit = {one.substr: one for one in known if one.fits}
    same = next((one for text, one in fit.items() if text.casefold() == name.casefold()), None)
    if same is not None:
        message = f"there is no goal {name}, but {shown(same.substr)}: capital and small letters are told apart."
        return Lack(name, "goal_case", message, f'Write "{shown(same.substr)}" in the configuration.', same)
    near = difflib.get_close_matches(
        name.casefold(), folded := {text.casefold(): one for text, one in fit.items()}, 1, NEAR
    )
    message = f"there is no JS goal {name}."
    if near:
        meant = folded[near[0]]
        return Lack(name, "no_goal", message, f"Did you mean {shown(meant.substr)}? If not: {MAKE}", meant)
    some = f"There are {', '.join(shown(text) for text in list(fit)[:SHOWN])}. " if fit else ""
    return Lack(name, "no_goal", message, f"{some}{MAKE}")


def shown(text: str) -> str:
    """A name that somebody gave, as it may stand in a message: it could hold anything."""
    return scrub(text)[:80]


def _goals(told: Iterable[Mapping[str, Any]]) -> list[Goal]:
    found = (
        Goal(
            id=_number(one.get("id")),
            substr=_text(one.get("substr")) or _text(one.get("goal")),
            name=_text(one.get("name")),
            condition=_text(one.get("condition")),
            type=_text(one.get("goal_type")),
        )
        for one in told
    )
    return [one for one in found if one.substr]


def _text(told: object) -> str:
    return told if isinstance(told, str) else ""


def _number(told: object) -> str:
    text = str(told) if isinstance(told, int | str) and not isinstance(told, bool) else ""
    return text if text.isascii() and text.isdigit() else ""
