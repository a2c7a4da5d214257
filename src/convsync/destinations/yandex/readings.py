"""What Metrica tells of a counter: its settings and its goals, of which those for JavaScript events can be made, too.

Each reading takes a `Metrica` and lets through what its `ask` raises: Halted (credentials, rights, a wrong number) and
NotSent (no answer). DOC M/management/openapi/counter/counter, goal/goals, goal/addgoal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from convsync.destinations.yandex.metrica import Means, Metrica, meaning, object_of, said, zone_of_counter
from convsync.errors import Halted, NotSent, Unclear
from convsync.net import http_fault, scrub

SYSTEM = {
    "IN_PROGRESS": "CRM: Order created",
    "PAID": "CRM: Order paid",
    "CANCELLED": "CRM: Order cancelled",
    "SPAM": "CRM: Spam order",
}
"""The statuses of orders, and the goals that Metrica makes for them itself. Any other word is a JavaScript goal."""

JAVASCRIPT = "action"
EXACT = frozenset(("exact", "action"))
"""Conditions by which a JavaScript event has to be the identifier: what the page calls "matches", and the one that is
documented as special to such goals."""

LIMIT = 200
"""Goals of one counter. DOC, second-hand; whether those that Metrica makes itself count is not documented."""
NAME_LENGTH = 255

ORDERS, CONVERSIONS = "orders", "conversions"


class Counter(NamedTuple):
    """The settings of a counter that uploads depend on. What Metrica does not tell is empty or None."""

    name: str
    status: str
    """Active or Deleted."""
    permission: str
    """own, edit, view, analyst, view_access_filter, analyst_access_filter."""
    time_zone: str
    """Its name or, if that is none we know, its offset."""
    contacts: bool | None
    """`collect_first_party_data`: whether Metrica may use contacts that visitors leave on the site."""


class Goal(NamedTuple):
    id: str
    name: str
    type: str
    """`action` is a JavaScript event; url, number, step, phone, email …; the CRM's own begin with `cdp_`."""
    conditions: tuple[tuple[str, str], ...] = ()
    """Type (exact, contain, start, regexp …) and text of each."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What an upload may call this goal; empty where it cannot be uploaded to."""
        if self.type != JAVASCRIPT:
            return ()
        return tuple(text for kind, text in self.conditions if kind in EXACT and text)


class Use(NamedTuple):
    """A JavaScript goal that a target names, and the way in by which it is reached."""

    identifier: str
    door: str
    own: bool
    """Whether it is what the action is there, not one of the further goals of its order."""


def uses(target: Any) -> Iterator[Use]:
    """The JavaScript goals of a target (`status`, `goals`, `goal` as in the configuration)."""
    if target.status and target.status not in SYSTEM:
        yield Use(target.status, ORDERS, True)
    for one in target.goals:
        yield Use(one.partition(":")[0], ORDERS, False)
    if target.goal:
        yield Use(target.goal, CONVERSIONS, True)


def wanted(targets: Iterable[Any]) -> list[str]:
    """The identifiers that these targets name, each once."""
    return list(dict.fromkeys(use.identifier for target in targets for use in uses(target)))


def counter(metrica: Metrica) -> Counter:
    told = metrica.ask(f"{_path(metrica)}?field=counter_flags").get("counter")
    if not isinstance(told, dict):
        raise NotSent("the counter's description cannot be read")
    flags = told.get("counter_flags")
    contacts = flags.get("collect_first_party_data") if isinstance(flags, dict) else None
    return Counter(
        name=_text(told.get("name")),
        status=_text(told.get("status")),
        permission=_text(told.get("permission")),
        time_zone=zone_of_counter(told),
        contacts=contacts if isinstance(contacts, bool) else None,
    )


def goals(metrica: Metrica) -> list[Goal]:
    """Every goal of the counter, in Metrica's order."""
    told = metrica.ask(f"{_path(metrica)}/goals").get("goals")
    if not isinstance(told, list):
        raise NotSent("the list of goals cannot be read")
    return [goal for one in told if (goal := _goal(one)) is not None]


def create(metrica: Metrica, identifier: str, name: str) -> Goal:
    """Make a goal that the JavaScript event `identifier` reaches. It is asked for once, whatever becomes of the answer.

    Raises NotSent (certainly not made), Unclear (it may have been made: look, do not repeat) and Halted; its finding is
    `goal_refused` if only this goal was refused.
    """
    wish = {"name": name[:NAME_LENGTH], "type": JAVASCRIPT, "conditions": [{"type": "exact", "url": identifier}]}
    reply = metrica.exchange("POST", f"{_path(metrica)}/goals", orjson.dumps({"goal": wish}), "application/json")
    if reply.status in (200, 201):
        made = _goal(object_of(reply).get("goal"))
        if made is None:
            raise Unclear(f"HTTP {reply.status}, an answer that cannot be read")
        return made._replace(type=JAVASCRIPT, conditions=(("exact", identifier),))
    answer = said(reply)
    found = meaning(reply.status, answer.error)
    if found.means in (Means.SHORTLY, Means.TOMORROW, Means.LATER):
        raise NotSent(answer.text)
    if found.means in (Means.UNKNOWN, Means.STRANGE):
        raise (NotSent if http_fault(reply.status) == "not_processed" else Unclear)(answer.text)
    if found.code == "no_rights":
        message = f"the token may not make goals. It said: {answer.text}."
        raise Halted(metrica.note("error", "no_write", message, NO_WRITE))
    if reply.status in (400, 409, 413):
        message = f"Metrica did not make the goal {identifier}. It said: {answer.text}."
        raise Halted(metrica.note("error", "goal_refused", message, BY_HAND))
    raise Halted(metrica.finding("error", found, answer))


NO_WRITE = (
    "Making goals needs the right metrika:write and edit access to the counter: tick it for your app at oauth.yandex.ru,"
    " issue a token with it, and give it to this command alone (CONVSYNC_DESTINATIONS__…__TOKEN); uploads do without."
    " Or make the goals by hand: Metrica, Goals, JavaScript event, matches."
)
BY_HAND = f"Make it by hand: Metrica, Goals, JavaScript event, matches. A counter has at most {LIMIT} goals."


def _path(metrica: Metrica) -> str:
    return f"/management/v1/counter/{metrica.counter_id}"


def _goal(told: object) -> Goal | None:
    if not isinstance(told, Mapping) or not re.fullmatch(r"\d{1,20}", number := str(told.get("id")), re.ASCII):
        return None
    if _text(told.get("status")).lower() == "deleted":
        return None
    conditions = told.get("conditions")
    return Goal(
        id=number,
        name=_text(told.get("name")),
        type=_text(told.get("type")),
        conditions=tuple(
            (_text(one.get("type")), _text(one.get("url")))
            for one in (conditions if isinstance(conditions, list) else ())
            if isinstance(one, Mapping)
        ),
    )


def _text(told: object) -> str:
    return told if isinstance(told, str) else ""


def shown(text: str) -> str:
    """A name that somebody gave, as it may stand in a message: it could hold anything."""
    return scrub(text)[:80]
