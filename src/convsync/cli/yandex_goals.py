"""`convsync yandex goals`: the goals of a Metrica counter, beside what the configuration says of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convsync.cli.frame import Command, Group, Talk
from convsync.errors import ConfigError, Halted, UsageError, WireError

if TYPE_CHECKING:
    from convsync.cli.asking import Asking
    from convsync.config import Config, YandexSettings
    from convsync.destinations.yandex.metrica import Metrica
    from convsync.destinations.yandex.readiness import Lack
    from convsync.destinations.yandex.readings import Goal, Use
    from convsync.model import Finding

as_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
for_destination = click.option(
    "--destination", "destinations", multiple=True, metavar="NAME", help="Only this one. Repeatable."
)


class Listing(Command, Group):
    """A command that others stand below."""


@click.group(cls=Listing, invoke_without_command=True, short_help="The goals of a counter, and which are missing.")
@for_destination
@as_json
@click.pass_context
def goals(ctx: click.Context, destinations: tuple[str, ...], json_: bool) -> None:
    """List the goals of the counter, what of the configuration goes to them, and those that it names in vain.

    A goal takes uploads if it is a JavaScript event with the condition `matches`; its identifier has to be spelled as in
    the configuration, capital and small letters alike.

    \b
    Examples:
      convsync yandex goals
      convsync yandex goals --json | jq '.missing'
      convsync yandex goals create

    Needs the right metrika:read. Changes nothing.

    Exit codes: 0 every goal that is named can be used · 1 one cannot · 2 configuration or credentials · 3 no answer
    """
    if ctx.invoked_subcommand is not None:
        if destinations or json_:
            name = ctx.invoked_subcommand
            raise UsageError(
                f"--destination and --json belong behind `{name}`.", f"`convsync yandex goals {name} --help`"
            )
        return
    talk = ctx.find_object(Talk)
    assert talk is not None
    from convsync.cli.asking import Asking
    from convsync.cli.goal_lists import tell

    asking = Asking()
    found = list(_looks(talk.config(), destinations, asking))
    tell(talk, asking, found, _listed, json_)


# -- whom to ask


def _names(config: Config, wanted: tuple[str, ...]) -> list[str]:
    from convsync.cli import assemble

    names = [
        name for name in assemble.destination_names(config, wanted) if config.destinations[name].platform == "yandex"
    ]
    if not names:
        raise UsageError("There is no Yandex destination to ask about.", "See [destinations.*] in the configuration.")
    assemble.require_credentials(config, names)
    for name in names:
        if getattr(config.destinations[name], "token", None) is None:  # one that writes a file uploads without
            message = f"destinations.{name}.token is empty, and Metrica tells of goals to a token only."
            raise ConfigError(message, "Issue one with the right metrika:read.")
    return names


@contextmanager
def opened(config: Config, wanted: tuple[str, ...]) -> Iterator[dict[str, Metrica]]:
    """Metrica, as each of the Yandex destinations that were asked for sees it."""
    made: dict[str, Metrica] = {}
    try:
        for name in _names(config, wanted):
            settings = config.destinations[name]
            assert settings.platform == "yandex"
            made[name] = _metrica(name, settings)
        yield made
    finally:
        for metrica in made.values():
            metrica.wire.close()


def _metrica(name: str, settings: YandexSettings) -> Metrica:
    from convsync.cli.assemble import clear, wire_of
    from convsync.destinations.yandex.metrica import Metrica

    return Metrica(
        f"destinations.{name}",
        counter_id=settings.counter_id,
        token=(clear(settings.token) or "").strip(),
        url=settings.metrica_url,
        wire=wire_of(settings),
        jitter=random.uniform,
    )


@contextmanager
def apart(asking: Asking, where: str) -> Iterator[None]:
    """Whatever keeps this counter from being asked to the end becomes a finding."""
    from convsync.destinations.yandex.readiness import no_answer

    try:
        yield
    except Halted as stop:
        asking.misconfigured = True
        asking.add(stop.finding)
    except WireError as fault:
        asking.unfinished = True
        asking.find("error", "no_answer", where, *no_answer(fault))


def _looks(config: Config, wanted: tuple[str, ...], asking: Asking) -> Iterator[Look]:
    with opened(config, wanted) as counters:
        yield from looked(config, counters, asking)


def looked(config: Config, counters: dict[str, Metrica], asking: Asking) -> Iterator[Look]:
    from convsync.config import YandexTarget
    from convsync.destinations.yandex import readings
    from convsync.destinations.yandex.readiness import lack

    for name, metrica in counters.items():
        with apart(asking, f"destinations.{name}"):
            known = readings.goals(metrica)
            named: dict[str, list[tuple[str, Use]]] = {}
            statuses: dict[str, list[str]] = {}
            for action, settings in config.actions.items():
                target = settings.targets.get(name)
                if not isinstance(target, YandexTarget):
                    continue
                for use in readings.uses(target):
                    named.setdefault(use.identifier, []).append((action, use))
                if target.status in readings.SYSTEM:
                    statuses.setdefault(_system(target.status), []).append(action)
            lacking = [found for identifier in named if (found := lack(identifier, known))]
            yield Look(name, metrica, known, named, statuses, lacking)


def _system(status: str) -> str:
    """The type of the goal that Metrica makes for a status itself. CODE, weak: only to show what goes to it."""
    return f"cdp_order_{status.lower()}"


class Look(NamedTuple):
    """A counter, beside what the configuration says of it."""

    destination: str
    metrica: Metrica
    goals: list[Goal]
    named: dict[str, list[tuple[str, Use]]]
    """The identifiers that the configuration names: which action does, and by which way in."""
    statuses: dict[str, list[str]]
    lacking: list[Lack]

    def users(self, identifier: str) -> str:
        """lead (conversions), sale (orders)"""
        return ", ".join(f"{action} ({use.door})" for action, use in self.named[identifier])

    def used(self, goal: Goal) -> list[dict[str, str]]:
        found = [(action, use.door) for one in goal.identifiers for action, use in self.named.get(one, ())]
        found += [(action, "orders") for action in self.statuses.get(goal.type, ())]
        return [{"action": action, "door": door} for action, door in dict.fromkeys(found)]

    def problem(self, goal: Goal) -> str:
        """Why the configuration, which seems to mean this goal, does not reach it."""
        return next((f"{one.identifier}? {PROBLEMS[one.code]}" for one in self.lacking if one.near == goal), "")

    def rows(self) -> Iterator[dict[str, Any]]:
        for goal in self.goals:
            yield {
                "destination": self.destination,
                "counter": self.metrica.counter_id,
                "id": goal.id,
                "name": goal.name,
                "type": goal.type,
                "identifiers": list(goal.identifiers),
                "conditions": [{"type": kind, "url": text} for kind, text in goal.conditions],
                "actions": self.used(goal),
                "problem": self.problem(goal),
            }

    def missing(self, lack: Lack) -> dict[str, Any]:
        return {
            "destination": self.destination,
            "counter": self.metrica.counter_id,
            "identifier": lack.identifier,
            "actions": [{"action": action, "door": use.door} for action, use in self.named[lack.identifier]],
            "problem": lack.code,
            "nearest": lack.near and (lack.near.identifiers or (lack.near.name,))[0],
        }

    def finding(self, lack: Lack) -> Finding:
        message = f"{self.users(lack.identifier)}: {lack.message}"
        return self.metrica.note("error", lack.code, message, lack.advice)


PROBLEMS = {
    "no_goal": "spelled alike",
    "goal_case": "capitals differ",
    "goal_not_exact": "not `matches`",
    "goal_type": "no JavaScript event",
    "goal_identifier": "its name or number",
}
# -- the list


def _listed(look: Look) -> Iterator[str]:
    from convsync.cli.show import columns

    yield f"{look.destination}: counter {look.metrica.counter_id}"
    if not look.goals:
        yield "it has no goals"
        return
    rows = [
        {
            "id": goal.id,
            "name": goal.name,
            "type": TYPES.get(goal.type, goal.type),
            "identifier": ", ".join(goal.identifiers) or "–",
            "used by": ", ".join(f"{one['action']} ({one['door']})" for one in look.used(goal)) or "–",
            "problem": look.problem(goal),
        }
        for goal in look.goals
    ]
    header = [key for key in rows[0] if key != "problem" or any(row["problem"] for row in rows)]
    yield from columns([[row[key] for key in header] for row in rows], header)


TYPES = {"action": "JavaScript", "url": "page", "number": "page views", "step": "composite"}
