"""`convsync yandex goals create`: make the goals that the configuration names and the counter lacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convsync.cli.frame import Command, Talk, ending, leave, put_json
from convsync.cli.yandex_goals import Look, apart, as_json, for_destination, looked, opened
from convsync.errors import Exit, Halted, NotSent, Unclear, UsageError

if TYPE_CHECKING:
    from convsync.cli.asking import Asking
    from convsync.destinations.yandex.metrica import Metrica
    from convsync.destinations.yandex.readiness import Lack
    from convsync.destinations.yandex.readings import Goal


@click.command(cls=Command, short_help="Make the JavaScript goals that the configuration names and the counter lacks.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@for_destination
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be made.")
@as_json
@click.pass_obj
def create(
    talk: Talk, names: tuple[str, ...], destinations: tuple[str, ...], yes: bool, dry_run: bool, json_: bool
) -> None:
    """Make the goals that the configuration names and the counter lacks, as JavaScript events with the condition
    `matches`. NAME, an identifier or an action of the configuration, limits it to those.

    \b
    Examples:
      convsync yandex goals create --dry-run
      convsync yandex goals create good_lead
      convsync yandex goals create --yes

    What looks like a slip (a goal that differs only by capital letters, or has another condition) is told; with --yes
    it is made only if its identifier is typed. Run twice, it makes nothing the second time. A counter has at most 200 goals, and a
    goal counts from the day it was made.

    Needs the rights metrika:read and metrika:write, and edit access to the counter.

    Exit codes: 0 all are there now · 1 some were not made · 2 configuration, rights, or nobody there to ask · 3 no
    answer: what was made is told, and the same command goes on
    """
    config = talk.config()
    from convsync.cli.asking import Asking

    asking = Asking()
    made: list[dict[str, Any]] = []
    with opened(config, destinations) as counters:
        looks = list(looked(config, counters, asking))
        chosen = _chosen(names, looks, whole=len(looks) == len(counters))
        wishes = [wish for look in looks for wish in _wishes(look, chosen if names else None)]
        _show_plan(looks, wishes, some=bool(names), quiet=json_)
        _tell_limits(looks, wishes, asking)
        if wishes and not dry_run and not yes:
            _ask(len(wishes))
        if dry_run:
            made = [wish.as_json("would be made") for wish in wishes]
        else:
            made = list(_made(wishes, asking, sure=set(names) if yes else None))
    ending(asking.exit_code)
    talk.tell(asking.findings)
    if json_:
        findings = [one._asdict() for one in asking.findings]
        put_json({"dry_run": dry_run, "goals": made, "findings": findings, "exit_code": int(asking.exit_code)})
    else:
        for line in _ended(made, dry_run):
            click.echo(line)
    leave(asking.exit_code)


SLIPS = frozenset(("goal_case", "goal_not_exact", "goal_identifier"))
"""What is lacking, but looks as if a goal that is there was meant."""


class Wish(NamedTuple):
    look: Look
    lack: Lack
    title: str

    def as_json(self, state: str, number: str | None = None) -> dict[str, Any]:
        return {
            "destination": self.look.destination,
            "counter": self.look.metrica.counter_id,
            "identifier": self.lack.identifier,
            "name": self.title,
            "state": state,
            "id": number,
        }


def _wishes(look: Look, chosen: set[str] | None) -> Iterator[Wish]:
    """What to make of it, named as people will see it in Metrica: as the action that alone goes there, if one does."""
    taken = {goal.name.casefold() for goal in look.goals}
    for lack in look.lacking:
        if chosen is not None and lack.identifier not in chosen:
            continue
        users = look.named[lack.identifier]
        action, use = users[0]
        alone = len(users) == 1 and use.own and action.casefold() not in taken
        title = action if alone else lack.identifier
        taken.add(title.casefold())
        yield Wish(look, lack, title)


# -- making what is missing


def _chosen(names: Sequence[str], looks: Sequence[Look], *, whole: bool) -> set[str]:
    """The identifiers that were meant by the names that were typed; empty for all. `whole`: every counter answered."""
    from convsync.config.values import suggestion

    by_name: dict[str, set[str]] = {}
    for look in looks:
        for identifier, uses in look.named.items():
            by_name.setdefault(identifier, set()).add(identifier)
            for action, _ in uses:
                by_name.setdefault(action, set()).add(identifier)
    for name in names:
        if whole and name not in by_name:
            raise UsageError(f"The configuration names no JavaScript goal {name!r}.", suggestion(name, by_name))
    return {identifier for name in names for identifier in by_name.get(name, ())}


def _show_plan(looks: Sequence[Look], wishes: Sequence[Wish], *, some: bool, quiet: bool) -> None:
    from convsync.cli.show import columns, counted

    def say(line: str) -> None:
        click.echo(line, err=quiet)

    for look in looks:
        own = [wish for wish in wishes if wish.look is look]
        where = f"{look.destination}: counter {look.metrica.counter_id}"
        if not own:
            if some:
                say(f"{where} lacks nothing of these names.")
            elif look.named:
                say(f"{where} has every goal that the configuration names.")
            else:
                say(f"{where}: the configuration names no JavaScript goal.")
            continue
        say(f"{where} lacks {counted(len(own), 'goal')}:")
        for line in columns(
            [[wish.lack.identifier, wish.title, look.users(wish.lack.identifier)] for wish in own],
            ["identifier", "name", "used by"],
        ):
            say(f"  {line}")
        for wish in own:
            if wish.lack.near is not None:
                say(f"  {wish.lack.identifier}: {_instead(wish.lack, wish.lack.near)}")


def _instead(lack: Lack, near: Goal) -> str:
    """What is there and may have been meant."""
    return lack.message if lack.code != "no_goal" else f"did you mean {', '.join(near.identifiers)} (goal {near.id})?"


def _tell_limits(looks: Sequence[Look], wishes: Sequence[Wish], asking: Asking) -> None:
    from convsync.destinations.yandex.readings import LIMIT

    for look in looks:
        more = sum(wish.look is look for wish in wishes)
        if more and len(look.goals) + more > LIMIT:
            message = f"it has {len(look.goals)} goals, and a counter takes {LIMIT}: {more} more may be refused."
            asking.add(look.metrica.note("warning", "goal_limit", message, "Delete goals that nobody uses in Metrica."))


def _ask(count: int) -> None:
    """Go on only if a person says so."""
    from convsync.cli.show import counted

    if not sys.stdin.isatty():
        raise UsageError(
            f"Nothing was made: {counted(count, 'goal')} to make, and nobody to ask.",
            "--yes makes them without asking, --dry-run only shows them.",
        )
    if not click.confirm(f"Make {'this goal' if count == 1 else f'these {count} goals'}?", err=True):
        click.echo("Nothing was made.", err=True)
        leave(Exit.ATTENTION)


def _made(wishes: Sequence[Wish], asking: Asking, *, sure: set[str] | None) -> Iterator[dict[str, Any]]:
    """`sure`: identifiers that were typed, where no person has seen what looks like a slip; None: one agreed to all."""
    stopped = set[str]()
    for wish in wishes:
        if wish.look.destination in stopped:
            yield wish.as_json("not made")
        elif sure is not None and wish.lack.code in SLIPS and wish.lack.identifier not in sure:
            advice = f"{wish.lack.advice} If it is right: convsync yandex goals create {wish.lack.identifier} --yes"
            asking.add(wish.look.finding(wish.lack)._replace(advice=advice))
            yield wish.as_json("left out")
        else:
            state, number = _make(wish, asking)
            if state in ("not made", "unknown"):
                stopped.add(wish.look.destination)
            yield wish.as_json(state, number)


def _make(wish: Wish, asking: Asking) -> tuple[str, str | None]:
    """What became of it, and the goal's number: made, refused (it alone), not made, unknown (the answer was lost)."""
    from convsync.destinations.yandex import readings

    metrica, identifier = wish.look.metrica, wish.lack.identifier
    became: tuple[str, str | None] = ("not made", None)
    with apart(asking, f"destinations.{wish.look.destination}"):
        try:
            became = "made", readings.create(metrica, identifier, wish.title).id
        except Halted as stop:
            if stop.finding.code != "goal_refused":
                raise
            asking.add(stop.finding)
            became = "refused", None
        except Unclear as fault:
            number = _found(metrica, identifier)
            became = "made" if number else "unknown", number
            if number is None:
                asking.unfinished = True
                message = f"whether the goal {identifier} was made is not known: the answer was lost ({fault.reason})."
                advice = "Run the command again in a few minutes: it looks first, and makes only what is not there."
                asking.add(metrica.note("error", "goal_unknown", message, advice))
    return became


def _found(metrica: Metrica, identifier: str) -> str | None:
    """After an answer that was lost: the number of the goal, if the counter has it now."""
    from convsync.destinations.yandex import readings

    try:
        known = readings.goals(metrica)
    except (Halted, NotSent):
        return None
    return next((goal.id for goal in known if identifier in goal.identifiers), None)


def _ended(made: Sequence[dict[str, Any]], dry_run: bool) -> Iterator[str]:
    if dry_run:
        yield "Dry run: nothing was made."
        return
    for one in made:
        yield f"{one['state']}: {one['identifier']}{' is goal ' + one['id'] if one['id'] else ''}"
    if any(one["state"] == "made" for one in made):
        yield "Goals count from now on. Choose them in the strategies of your campaigns."
