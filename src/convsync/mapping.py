"""From an action to what each destination is to hear of it, or why it hears nothing. Pure: no clock, no network, no ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from convsync.destinations import Route
from convsync.model import Action, Conversion, Mapped, Person, Skip, SkipReason, click_hash, person_hash
from convsync.normalise import minor_units, person

TOLERANCE = timedelta(days=1)
"""How far ahead of our clock an action may be dated and still be believed: it is sent when its time has come."""

FUTURE_MARGIN_MS = 60_000

PLATFORM_WORDS = {
    "google": "google", "googleads": "google", "adwords": "google",
    "yandex": "yandex", "direct": "yandex", "yandexdirect": "yandex", "yadirect": "yandex",
    "vk": "vk", "vkads": "vk", "mytarget": "vk", "vkreklama": "vk",
}  # fmt: skip
"""What `utm_source` says about whose click it was, letters only, when there is no click id."""


WITHOUT_ID = (SkipReason.NO_IDENTIFIER, SkipReason.BAD_IDENTIFIER)


class Address(NamedTuple):
    """One destination an action goes to: the route, its part of the `[actions.*]` section, the sources that feed it.

    `other` takes what the route cannot carry for want of an id that it knows.
    """

    route: Route
    target: Any
    sources: frozenset[str] | None = None
    other: Route | None = None


class Rule(NamedTuple):
    """One `[actions.*]` section."""

    kind: str
    addresses: tuple[Address, ...]
    max_age: timedelta | None = None


class Mapper:
    """Maps pages of actions by the rules of the configuration. `persons`: whether a later action of whoever filled in a
    lead form is to be known by its phone."""

    def __init__(
        self, rules: Mapping[str, Rule], routes: Sequence[Route], phone_region: str | None, *, persons: bool = False
    ) -> None:
        self.rules = rules
        self.phone_region = phone_region
        self.persons = persons
        self.strangers = {
            name: tuple(
                Skip(other, SkipReason.NOT_MAPPED)
                for other in dict.fromkeys(route.name for route in routes)
                if other not in {address.route.name for address in rule.addresses}
            )
            for name, rule in rules.items()
        }

    def goals(self) -> dict[tuple[str, str], frozenset[str]]:
        """By destination and door: what the configuration sends there."""
        found: dict[tuple[str, str], set[str]] = {}
        for rule in self.rules.values():
            for address in rule.addresses:
                for door, goal in address.target.doors.items():
                    found.setdefault((address.route.name, door), set()).add(goal)
        return {where: frozenset(goals) for where, goals in found.items()}

    def page(self, actions: Sequence[Action], now: datetime) -> list[Mapped]:
        return [self.action(action, now) for action in actions]

    def action(self, action: Action, now: datetime) -> Mapped:
        rule = self.rules.get(action.action)
        somebody = person(action, self.phone_region) if self.persons else None
        if rule is None:
            skip = Skip("", SkipReason.UNKNOWN_ACTION, action.action)
            return _mapped(action, "", None, (skip,), 0, somebody)
        value, wrong = (None, None) if action.value is None else _value(action.value, action.currency)
        occurred_at = action.occurred_at
        ahead = occurred_at > now
        if wrong is None and (ahead or action.consent_ad_user_data is False):
            wrong = _wrong_for_all(action, now)
        results: list[Conversion | Skip] = list(self.strangers[action.action])
        if wrong is not None:
            results += [Skip(address.route.name, *wrong) for address in rule.addresses]
        elif rule.addresses:
            somebody = somebody or person(action, self.phone_region)
            age = now - occurred_at
            for route, target, sources, other in rule.addresses:
                oldest = rule.max_age or route.max_age
                if sources is not None and action.source not in sources:
                    results.append(Skip(route.name, SkipReason.NOT_MAPPED, "its source does not feed this destination"))
                else:
                    late = age > oldest
                    result = _too_old(route, oldest) if late else route.convert(action, somebody, target, value)
                    if other is not None and _leaves_it(result):
                        oldest = rule.max_age or other.max_age
                        late = age > oldest
                        asked = _too_old(other, oldest) if late else other.convert(action, somebody, target, value)
                        result = _either(result, asked)
                    results.append(result)
        if not results:
            results.append(Skip("", SkipReason.NOT_MAPPED))
        due_at = int(occurred_at.timestamp() * 1000) + FUTURE_MARGIN_MS if ahead else 0
        return _mapped(action, rule.kind, value, tuple(results), due_at, somebody if self.persons else None)


def _too_old(route: Route, oldest: timedelta) -> Skip:
    return Skip(route.name, SkipReason.TOO_OLD, f"older than {oldest.days} days, which {route.route} does not take")


def _leaves_it(result: Conversion | Skip) -> bool:
    """Whether another route may carry what this one cannot, or not by itself: for want of an id that it knows, or because
    it, or the click that it came by, is too old here."""
    if isinstance(result, Skip):
        return result.reason in WITHOUT_ID or result.reason is SkipReason.TOO_OLD
    return result.alone is not None


def _either(first: Conversion | Skip, other: Conversion | Skip) -> Conversion | Skip:
    """Of what the first way cannot take: the other, where that can, else why neither can."""
    if isinstance(first, Skip):
        same = isinstance(other, Skip) and (other.reason in WITHOUT_ID or other.reason is first.reason)
        return first if same else other
    return first if isinstance(other, Skip) else first._replace(alone=other)


def _mapped(
    action: Action,
    kind: str,
    value: int | None,
    results: tuple[Conversion | Skip, ...],
    due_at: int,
    somebody: Person | None,
) -> Mapped:
    click = None if action.gclid is None else click_hash(action.gclid)
    who = person_hash(somebody.phones[0]) if somebody is not None and somebody.phones else None
    return Mapped(action, kind, platform_of(action), campaign_of(action), value, due_at, results, click, who)


def _value(value: Decimal, currency: str | None) -> tuple[int | None, tuple[SkipReason, str] | None]:
    """The value in minor units, or why it cannot be counted."""
    if currency is None:
        return None, (SkipReason.NO_CURRENCY, "")
    if value < 0:
        return None, (SkipReason.NEGATIVE_VALUE, "")
    try:
        return minor_units(value, currency), None
    except ValueError:
        return None, (SkipReason.NO_CURRENCY, f"{currency} is not a currency of ISO 4217")


def _wrong_for_all(action: Action, now: datetime) -> tuple[SkipReason, str] | None:
    if action.consent_ad_user_data is False:
        return SkipReason.CONSENT_DENIED, ""
    if action.occurred_at > now and action.occurred_at - now > TOLERANCE:
        return SkipReason.IN_FUTURE, ""
    return None


def platform_of(action: Action) -> str:
    """Whose click brought the action: its utm_source where that names a platform, else the click id it carries.

    A ClientID of Metrica says nothing here: every visitor of the site has one.
    """
    if action.utm_source:
        letters = "".join(filter(str.isalpha, action.utm_source.lower()))
        if letters in PLATFORM_WORDS:
            return PLATFORM_WORDS[letters]
    if action.gclid or action.gbraid or action.wbraid:
        return "google"
    if action.yclid:
        return "yandex"
    return "vk" if action.rb_clickid else ""


def campaign_of(action: Action) -> str:
    return action.campaign_id or action.utm_campaign or ""
