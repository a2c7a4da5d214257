"""VK's counters (pixels) and their goals: those of the configuration and those made through the API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from convsync.sandbox.vk_config import Pixel, PixelGoal, VkConfig
from convsync.sandbox.vk_door import Door
from convsync.sandbox.web import Refusal, Request, Response, reply

_TYPES = (
    "content", "search", "basket", "wishlist", "checkout", "payment_info", "purchase", "lead", "registration", "custom",
)  # fmt: skip
_INT32 = 2**31 - 1
_FIRST_ID = 9001


class Goals:
    def __init__(self, door: Door, config: Callable[[], VkConfig]) -> None:
        self._door = door
        self._config = config
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._made: dict[str, dict[str, PixelGoal]] = {}

    def of(self, pixel: str) -> dict[str, PixelGoal]:
        """Goals of a pixel by `substr`; what was made or changed through the API is over the configuration."""
        with self._lock:
            made = dict(self._made.get(pixel, {}))
        found = self._config().pixels.get(pixel)
        return {**(found.goals if found else {}), **made}

    def counters(self, request: Request, names: dict[str, str]) -> Response:
        asked = request.params().get("_counter_id")
        items = [
            {"id": i, "counter_id": int(number), "name": pixel.name, "status": "active"}
            for i, (number, pixel) in enumerate(self._config().pixels.items(), 501)
            if asked is None or number in asked.split(",")
        ]
        return self._door.page(request, items)

    def all(self, request: Request, names: dict[str, str]) -> Response:
        """goals.json: those of every counter."""
        return self._door.page(
            request,
            [{"counter_id": int(p), "goal": g["substr"], **g} for p in self._config().pixels for g in self._of(p)],
        )

    def listed(self, request: Request, names: dict[str, str]) -> Response:
        self._counter(names)
        return self._door.page(request, list(self._of(names["counter"])))

    def create(self, request: Request, names: dict[str, str]) -> Response:
        pixel = self._counter(names)
        if not pixel.confirmed:
            raise Refusal(self._door.fail(400, "validation_failed", "Can not create goal for unconfirmed counter"))
        if pixel.shared:
            raise Refusal(self._door.fail(400, "validation_failed", "Can not create goal for shared counter"))
        told = self._told(request)
        wrong = {name: _wrong("required") for name in ("substr", "name", "condition") if not told.get(name)}
        wrong |= {name: _wrong("invalid") for name in ("substr", "name", "condition") if not _text(told.get(name, ""))}
        wrong |= _invalid(told)
        if not wrong and told["substr"] in self.of(names["counter"]):
            wrong["substr"] = _wrong("not_unique")
        self._complain(wrong)
        goal = PixelGoal(told["name"], told["condition"], told.get("goal_type") or "custom", told.get("value") or 0)
        return self._keep(names["counter"], told["substr"], goal)

    def change(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: `substr` and `condition` can be set only at creation."""
        self._counter(names)
        shown = next((one for one in self._of(names["counter"]) if str(one["id"]) == names["goal"]), None)
        if shown is None:
            raise Refusal(self._door.error(404))
        told = self._told(request)
        fixed = [name for name in ("substr", "condition") if told.get(name, shown[name]) != shown[name]]
        self._complain({name: _wrong("read_only") for name in fixed} | _invalid(told))
        changes = {name: told[name] for name in ("name", "goal_type", "value") if name in told}
        return self._keep(
            names["counter"], shown["substr"], replace(self.of(names["counter"])[shown["substr"]], **changes)
        )

    def _keep(self, pixel: str, substr: str, goal: PixelGoal) -> Response:
        with self._lock:
            self._made.setdefault(pixel, {})[substr] = goal
        return reply(next(one for one in self._of(pixel) if one["substr"] == substr))

    def _of(self, pixel: str) -> list[dict[str, Any]]:
        """As the API shows them. Ids are given in the order of the counters and never change by a new goal."""
        counters = list(self._config().pixels)
        first = _FIRST_ID + 1000 * counters.index(pixel)
        return [
            {
                "id": first + i,
                "substr": substr,
                "name": goal.name,
                "condition": goal.condition,
                "goal_type": goal.goal_type,
                "value": goal.value,
            }
            for i, (substr, goal) in enumerate(self.of(pixel).items())
        ]

    def _counter(self, names: dict[str, str]) -> Pixel:
        found = self._config().pixels.get(names["counter"])
        if found is None:
            raise Refusal(self._door.error(404))
        return found

    def _told(self, request: Request) -> dict[str, Any]:
        try:
            told = json.loads(request.body)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise Refusal(self._door.fail(400, "validation_failed", "The body is not a JSON object"))
        return told

    def _complain(self, wrong: dict[str, Any]) -> None:
        if wrong:
            raise Refusal(self._door.fail(400, "validation_failed", "Validation failed", wrong))


def _invalid(told: dict[str, Any]) -> dict[str, Any]:
    wrong = {}
    if told.get("goal_type") is not None and told["goal_type"] not in _TYPES:
        wrong["goal_type"] = _wrong("invalid_choice")
    value = told.get("value")
    if value is not None and (type(value) is not int or not 0 <= value <= _INT32):
        wrong["value"] = _wrong("invalid")
    return wrong


def _wrong(code: str) -> dict[str, str]:
    return {"code": code, "message": f"This field is {code.replace('_', ' ')}"}


def _text(value: object) -> bool:
    return isinstance(value, str)
