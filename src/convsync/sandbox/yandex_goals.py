"""Goals of Metrica's counters: those of the configuration and those made through the API."""

from __future__ import annotations

import json
import threading
from typing import Any

from convsync.sandbox.clock import Clock, epoch_iso
from convsync.sandbox.web import Request
from convsync.sandbox.yandex_config import Counter, Goal
from convsync.sandbox.yandex_door import Door, refused
from convsync.sandbox.yandex_visits import instant

_MOST = 200  # DOC, second-hand: goals of one counter
_LONGEST = 255
_FIRST_ID = 500_000_001


class Goals:
    """Identifiers are case-sensitive; a goal counts from its creation on."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._made: dict[str, list[Goal]] = {}

    def of(self, name: str) -> list[Goal]:
        with self._lock:
            made = list(self._made.get(name, ()))
        counter = self._door.config.counters.get(name)
        return [*(counter.goals if counter else ()), *made]

    def events(self, name: str) -> dict[str, float]:
        """Identifiers of JavaScript goals, and since when each counts in visits (0 = always).

        DOC M/management/offline-conv: type JavaScript event, condition "matches". DOC, second-hand: a goal counts from
        its creation on.
        """
        found: dict[str, float] = {}
        for goal in self.of(name):
            if goal.type == "action" and goal.condition == "exact":
                always = not goal.created or self._door.config.goals_count_at_once
                since = 0 if always else instant(goal.created).timestamp()
                found[goal.url] = min(since, found.get(goal.url, since))
        return found

    def create(self, request: Request, name: str, counter: Counter) -> Goal:
        """Raises Refusal."""
        told = _told(request.body)
        with self._lock:
            made = self._made.setdefault(name, [])
            if len(counter.goals) + len(made) >= _MOST:
                raise refused("limit_exceeded", f"a counter has at most {_MOST} goals")
            number = _FIRST_ID + sum(map(len, self._made.values()))
            goal = Goal(number, *told, created=epoch_iso(self._clock.time()))
            made.append(goal)
        return goal


def shown(goal: Goal) -> dict[str, Any]:
    conditions = [{"type": goal.condition, "url": goal.url}]
    return {"id": goal.id, "name": goal.name, "type": goal.type, "conditions": conditions}


def _told(body: bytes) -> tuple[str, str, str, str]:
    """Name, identifier, type and condition of the goal to be made; raises Refusal.

    DOC M/management/addgoal-example. Goals of steps and of numbers of pages are not made here.
    """
    try:
        asked = json.loads(body)
    except ValueError:
        raise refused("invalid_json", "the body is not JSON") from None
    goal = asked.get("goal") if isinstance(asked, dict) else None
    if not isinstance(goal, dict):
        raise refused("missing_parameter", "goal is required", "goal")
    if goal.get("type") not in ("action", "url"):
        raise refused("invalid_parameter", "type must be action or url", "goal.type")
    conditions = goal.get("conditions")
    if not isinstance(conditions, list) or len(conditions) != 1 or not isinstance(conditions[0], dict):
        raise refused("invalid_parameter", "conditions must hold one condition", "goal.conditions")
    name = _text(goal, "name", "goal.name")
    return name, _text(conditions[0], "url", "url"), str(goal["type"]), _text(conditions[0], "type", "type")


def _text(given: dict[str, Any], key: str, location: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise refused("invalid_parameter", f"{key} must be text of 1 to {_LONGEST} characters", location)
    return value
