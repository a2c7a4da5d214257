"""VK's cabinet: who asks (user.json) and the campaigns (ad_plans.json)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convsync.sandbox.vk_config import AdPlan, VkConfig
from convsync.sandbox.vk_door import Door
from convsync.sandbox.vk_tokens import Tokens
from convsync.sandbox.web import Refusal, Request, Response, reply

_FIELDS = ("id", "name", "status", "objective", "enable_offline_goals")
_USUAL = ("id", "name", "status")
_STATUSES = ("active", "blocked", "deleted")
_SORTED = ("id", "name", "status")


class Cabinet:
    def __init__(self, door: Door, config: Callable[[], VkConfig], tokens: Tokens) -> None:
        self._door = door
        self._config = config
        self._tokens = tokens

    def owned(self, user: str) -> dict[str, AdPlan]:
        """A user's campaigns by id, the deleted ones too. DOC: an agency's token does not open a client's data."""
        return {number: plan for number, plan in self._config().ad_plans.items() if plan.user in ("", user)}

    def user(self, request: Request, names: dict[str, str]) -> Response:
        """DOC: v3 knows the currency, v2 does not."""
        user = self._door.user(request)
        shown: dict[str, Any] = {"id": self._tokens.number(user), "username": user, "types": ["advertiser"]}
        c = self._config()
        currency = c.currencies.get(user, c.currency)
        if "/v3/" in request.path and currency is not None:
            shown |= {"currency": currency, "info_currency": currency}
        asked = request.params().get("fields")
        if asked:
            shown = {name: value for name, value in shown.items() if name in asked.split(",")}
        return reply(shown)

    def plans(self, request: Request, names: dict[str, str]) -> Response:
        asked = request.params()
        items: list[dict[str, Any]] = [
            {
                "id": int(number),
                "name": plan.name,
                "status": plan.status,
                "objective": plan.objective,
                "enable_offline_goals": plan.enable_offline_goals,
            }
            for number, plan in self.owned(self._door.user(request)).items()
        ]
        wanted = [name for name in asked.get("fields", "").split(",") if name] or list(_USUAL)
        for name in ("_status", "_status__in", "_status__ne"):
            if name in asked and not set(asked[name].split(",")) <= set(_STATUSES):
                raise self._invalid(name)
        found = [one for one in items if self._matches(one, asked)]
        by = asked.get("sorting") or "id"
        if by.removeprefix("-") not in _SORTED:
            raise self._invalid("sorting")
        found.sort(key=lambda one: one[by.removeprefix("-")], reverse=by.startswith("-"))
        return self._door.page(request, [{name: one[name] for name in _FIELDS if name in wanted} for one in found])

    def _matches(self, plan: dict[str, Any], asked: dict[str, str]) -> bool:
        """Deleted campaigns are there for those who ask for that status (INFERRED)."""
        ids, statuses = _chosen(asked, "_id"), _chosen(asked, "_status")
        if statuses is None and plan["status"] == "deleted" and not self._config().deleted_shown:
            return False
        return (
            (ids is None or str(plan["id"]) in ids)
            and (statuses is None or plan["status"] in statuses)
            and plan["status"] != asked.get("_status__ne")
        )

    def _invalid(self, name: str) -> Refusal:
        wrong = {name: {"code": "invalid", "message": "The value is not valid"}}
        return Refusal(self._door.fail(400, "validation_failed", "Validation failed", wrong))


def _chosen(asked: dict[str, str], name: str) -> set[str] | None:
    """What `_id` or `_id__in` let pass; None = everything."""
    found = [{asked[name]}] if name in asked else []
    found += [set(asked[f"{name}__in"].split(","))] if f"{name}__in" in asked else []
    return set.intersection(*found) if found else None
