"""What `[actions.NAME]` may say: what an action counts as, and which goal it is at each destination."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from convsync.config.destination import Consent, EventSource
from convsync.config.values import Digits, ListName, Names, PositiveDuration, StrictModel, VkGoal, names
from convsync.model import Kind

GATHERED = "(targets)"
"""Where `gather` puts the destinations' keys: a word that nobody writes as a key."""

YANDEX_STATUSES = ("IN_PROGRESS", "PAID", "CANCELLED", "SPAM")


YandexId = Literal["yclid", "client_id", "user_id", "purchase_id"]
VkContact = Literal["phone", "email"]
_GOAL = re.compile(r"""[^\s,;:"']{1,255}""")


class GoogleTarget(StrictModel):
    """`calls`: the conversion action is of type UPLOAD_CALLS, matched by the caller's number and the time of the call."""

    conversion_action: Digits = Field(description="the numeric id of a conversion action of type UPLOAD_CLICKS")
    event_source: EventSource | None = None
    calls: bool = False
    consent_ad_user_data: Consent | None = None
    consent_ad_personalization: Consent | None = None

    @cached_property
    def told(self) -> tuple[str, str | None, bool, str | None, str | None]:
        """All of it in one look: a run takes a million of them, and a model is slow to ask."""
        return (
            self.conversion_action, self.event_source, self.calls,
            self.consent_ad_user_data, self.consent_ad_personalization,
        )  # fmt: skip

    @property
    def goal_key(self) -> str:
        return self.conversion_action

    @property
    def doors(self) -> dict[str, str]:
        return {"": self.conversion_action}


class YandexTarget(StrictModel):
    """`status`: route orders. `goal`: route conversions. Both: what an order cannot carry goes to the goal.

    `goals` are further JavaScript goals that an order reaches; `by` are the ids that a conversion is found by, the best
    first. A UserID and a PurchaseID mean something only where the site tells them to Metrica, so they have to be named.
    """

    status: str | None = None
    goal: str | None = None
    goals: Names = ()
    by: Annotated[tuple[YandexId, ...], Field(min_length=1), BeforeValidator(names)] = ("yclid", "client_id")

    @field_validator("status")
    @classmethod
    def _known_spelling(cls, value: str) -> str:
        """Statuses are case-sensitive, and any other word is a goal identifier: a near miss would be a new goal."""
        meant = "CANCELLED" if value.upper() == "CANCELED" else value.upper()
        if meant in YANDEX_STATUSES and value != meant:
            raise ValueError(f"is spelled {meant}, in capital letters.")
        if not _GOAL.fullmatch(value):
            raise ValueError(f"must be {', '.join(YANDEX_STATUSES)} or the identifier of a JavaScript goal.")
        return value

    @field_validator("goal")
    @classmethod
    def _is_a_goal(cls, value: str) -> str:
        meant = "CANCELLED" if value.upper() == "CANCELED" else value.upper()
        if meant in YANDEX_STATUSES:
            raise ValueError(f'is a status of orders: write status = "{meant}".')
        if not _GOAL.fullmatch(value):
            raise ValueError("must be the identifier of a JavaScript goal, not its name: no blanks, quotes, commas.")
        return value

    @field_validator("goals")
    @classmethod
    def _are_goals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(rf"{_GOAL.pattern}(:\d+(\.\d+)?)?", one) or one.upper() in YANDEX_STATUSES:
                raise ValueError(
                    'must list identifiers of JavaScript goals, each with or without a price: ["a", "b:200"].'
                )
        if len({one.partition(":")[0] for one in value}) < len(value):
            raise ValueError("names a goal twice.")
        return value

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.status is None and self.goal is None:
            raise ValueError(
                f"needs `status` ({', '.join(YANDEX_STATUSES)} or a JavaScript goal: route orders) or `goal` (a"
                " JavaScript goal: route conversions)."
            )
        if self.goal in self.reached:
            raise ValueError(
                f"sends {self.goal} as an order and as a conversion: it would count twice. Keep one of them."
            )
        if self.goals and self.status is None:
            raise ValueError("has `goals`, which belong to an order: add `status`, or name one `goal`.")
        if "by" in self.model_fields_set and self.goal is None:
            raise ValueError("has `by`, which is for the `goal` of conversions: add `goal`, or remove `by`.")
        return self

    @property
    def reached(self) -> set[str]:
        """The JavaScript goals that its orders reach."""
        status = {self.status} if self.status and self.status not in YANDEX_STATUSES else set[str]()
        return status | {one.partition(":")[0] for one in self.goals}

    @property
    def goal_key(self) -> str:
        return self.status or self.goal or ""

    @property
    def doors(self) -> dict[str, str]:
        """By the door it goes through (see `Route.door`): what the ledger calls its goal there."""
        found = {"": self.status, "conversions": self.goal}
        return {door: goal for door, goal in found.items() if goal is not None}


class VkTarget(StrictModel):
    """`goal`: route pixel. `list`: route offline_list. Both: what the pixel cannot carry goes to the list.

    `by` are the contacts that a list finds people by, the best first.
    """

    goal: VkGoal | None = None
    list: ListName | None = None
    by: Annotated[tuple[VkContact, ...], Field(min_length=1), BeforeValidator(names)] = ("phone", "email")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.goal is None and self.list is None:
            raise ValueError(
                "needs `goal` (a JavaScript goal of the pixel: route pixel) or `list` (the name of a list of offline"
                " conversions, to which phones or e-mails are sent: route offline_list)."
            )
        if "by" in self.model_fields_set and self.list is None:
            raise ValueError("has `by`, which is for the contacts of a `list`: add `list`, or remove `by`.")
        return self

    @property
    def goal_key(self) -> str:
        return self.goal or self.list or ""

    @property
    def doors(self) -> dict[str, str]:
        """By the door it goes through (see `Route.door`): what the ledger calls its goal there."""
        found = {"": self.goal, "lists": self.list}
        return {door: goal for door, goal in found.items() if goal is not None}


TARGETS: dict[str, type[StrictModel]] = {"google": GoogleTarget, "yandex": YandexTarget, "vk": VkTarget}
_PLATFORM_OF: dict[type, str] = {model: platform for platform, model in TARGETS.items()}


class Addressed(dict[str, Any]):
    """What a destination's key says, together with the platform of that destination, which decides how it is read."""

    platform: str = ""


def _platform(value: Any) -> str | None:
    return value.platform if isinstance(value, Addressed) else _PLATFORM_OF.get(type(value))


Target = Annotated[
    Annotated[GoogleTarget, Tag("google")] | Annotated[YandexTarget, Tag("yandex")] | Annotated[VkTarget, Tag("vk")],
    Discriminator(_platform),
]


class ActionSettings(StrictModel):
    """In the file each destination's key stands beside `kind`; here they are gathered in `targets`."""

    kind: Kind = Field(description='"lead", "sale" or "micro"')
    max_age: PositiveDuration | None = None
    targets: dict[str, Target] = Field(default_factory=dict, validation_alias=GATHERED)


def gather(section: Any, platforms: dict[str, str | None]) -> Any:
    """Move the keys named like destinations together. A destination whose platform is in doubt is left out."""
    if not isinstance(section, dict):
        return section
    own = {key: value for key, value in section.items() if key not in platforms}
    targets = {key: _addressed(value, platforms[key]) for key, value in section.items() if platforms.get(key)}
    return own | {GATHERED: targets} if targets else own


def _addressed(value: Any, platform: str | None) -> Any:
    if not isinstance(value, dict):
        return value
    addressed = Addressed(value)
    addressed.platform = platform or ""
    return addressed
