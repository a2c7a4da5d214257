"""`convsync vk goals`: the goals of a VK pixel, beside what the configuration says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convsync.cli.frame import Command, Talk
from convsync.cli.yandex_goals import as_json, for_destination
from convsync.errors import UsageError

if TYPE_CHECKING:
    from convsync.cli.asking import Asking
    from convsync.config import Config
    from convsync.destinations.vk.goals import Goal, Lack
    from convsync.model import Finding


@click.command(cls=Command, short_help="The goals of a pixel, and which are missing.")
@for_destination
@as_json
@click.pass_obj
def goals(talk: Talk, destinations: tuple[str, ...], json_: bool) -> None:
    """List the goals of the pixel, which action goes to which, and those that the configuration names in vain.

    A goal can be called if it is of type JS event; its name there has to be spelled as in the configuration, capital and
    small letters alike. VK answers every call with success, also where there is no such goal.

    \b
    Examples:
      convsync vk goals
      convsync vk goals --json | jq '.missing'

    Needs client_id and client_secret of the VK Ads API. Changes nothing.

    Exit codes: 0 every goal that is named can be called · 1 one cannot · 2 configuration or credentials · 3 no answer
    """
    from convsync.cli.asking import Asking
    from convsync.cli.goal_lists import tell

    asking = Asking()
    found = list(_looks(talk.config(), destinations, asking))
    tell(talk, asking, found, _listed, json_)


def vk_names(config: Config, wanted: tuple[str, ...]) -> list[str]:
    """The VK destinations that were asked for, each with keys to ask with."""
    from convsync.cli import assemble

    known = assemble.destination_names(config, wanted)
    names = [name for name in known if config.destinations[name].platform == "vk"]
    if not names:
        raise UsageError("There is no VK destination to ask about.", "See [destinations.*] in the configuration.")
    assemble.require_credentials(config, names, reading=True)
    return names


def _looks(config: Config, wanted: tuple[str, ...], asking: Asking) -> Iterator[Look]:
    from convsync.cli import assemble_vk
    from convsync.cli.asking import VK
    from convsync.config.action import VkTarget
    from convsync.destinations.vk.goals import goals, lack

    for name in vk_names(config, wanted):
        pixel = config.destinations[name].account
        lost = f"The goals of the pixel {pixel} were not read to their end"
        with (
            asking.apart(f"destinations.{name}", pixel, VK, lost=lost),
            assemble_vk.api_of(config, name) as api,
        ):
            known = goals(api, pixel)
            named: dict[str, list[str]] = {}
            for action, settings in config.actions.items():
                target = settings.targets.get(name)
                if isinstance(target, VkTarget) and target.goal:
                    named.setdefault(target.goal, []).append(action)
            yield Look(name, pixel, known, named, [found for goal in named if (found := lack(goal, known))])


class Look(NamedTuple):
    """A pixel, beside what the configuration says of it."""

    destination: str
    pixel: str
    goals: list[Goal]
    named: dict[str, list[str]]
    """The goals that the configuration names, and which actions do."""
    lacking: list[Lack]

    def users(self, goal: Goal) -> list[str]:
        return self.named.get(goal.substr, []) if goal.fits else []

    def problem(self, goal: Goal) -> str:
        """Why the configuration, which seems to mean this goal, does not reach it."""
        return next((f"{one.goal}? {PROBLEMS[one.code]}" for one in self.lacking if one.near == goal), "")

    def rows(self) -> Iterator[dict[str, Any]]:
        for goal in self.goals:
            yield {
                "destination": self.destination,
                "pixel": self.pixel,
                "id": goal.id,
                "goal": goal.substr,
                "name": goal.name,
                "condition": goal.condition,
                "goal_type": goal.type,
                "actions": self.users(goal),
                "problem": self.problem(goal),
            }

    def missing(self, lack: Lack) -> dict[str, Any]:
        return {
            "destination": self.destination,
            "pixel": self.pixel,
            "goal": lack.goal,
            "actions": self.named[lack.goal],
            "problem": lack.code,
            "nearest": lack.near and lack.near.substr,
        }

    def finding(self, lack: Lack) -> Finding:
        from convsync.model import Finding

        message = f"pixel {self.pixel}: {', '.join(self.named[lack.goal])}: {lack.message}"
        return Finding("error", lack.code, f"destinations.{self.destination}", message, lack.advice)


PROBLEMS = {"no_goal": "spelled alike", "goal_case": "capitals differ", "goal_type": "no JS event"}


def _listed(look: Look) -> Iterator[str]:
    from convsync.cli.show import columns

    yield f"{look.destination}: pixel {look.pixel}"
    if not look.goals:
        yield "it has no goals"
        return
    rows = [
        {
            "goal": goal.substr,
            "name": goal.name,
            "kind": KINDS.get(goal.condition, goal.condition),
            "counts as": goal.type or "–",
            "used by": ", ".join(look.users(goal)) or "–",
            "problem": look.problem(goal),
        }
        for goal in look.goals
    ]
    header = [key for key in rows[0] if key != "problem" or any(row["problem"] for row in rows)]
    yield from columns([[row[key] for key in header] for row in rows], header)


KINDS = {"jse": "JS event", "": "not told"}
