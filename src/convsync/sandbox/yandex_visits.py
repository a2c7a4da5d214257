"""Whom Metrica saw on the site, and which visit a conversion or an order belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from convsync.sandbox.yandex_config import Visited, YandexConfig

_LOST = "lost-"


def instant(given: str) -> datetime:
    """An ISO time; without a zone it is UTC. A `+` that a query turned into a blank is put back."""
    moment = datetime.fromisoformat(given.replace(" ", "+") if given.count(" ") == 1 and "T" in given else given)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def of_conversion(config: YandexConfig, kind: str, value: str, at: float, now: float) -> float | None:
    """The visit that a conversion `at` of a person `value` is tied to when its file is processed `now`.

    DOC M/management/conversion: the *last* visit lies within 21 days of the processing. ClientId and UserId find the
    visit before the conversion, Yclid that of the click, PurchaseId that with the purchase. A conversion before the
    first visit cannot match (DOC M/management/calls).
    """
    seen = [visit for visit in _seen(config, kind, value, at) if visit <= now]
    if not seen or now - max(seen) > config.link_days * 86400:
        return None
    if kind in ("Yclid", "PurchaseId"):
        return min(seen) if min(seen) <= at else None
    return max((visit for visit in seen if visit <= at), default=None)


def of_order(config: YandexConfig, state: Mapping[str, Any], created: float) -> float | None:
    """The newest visit, not after the order's creation, of anybody whom the order names."""
    if config.known_clients is None and config.known_contacts is None:
        return created
    found = [*_of(config.known_clients, state.get("client_ids", ())), *_of(config.known_contacts, _contacts(state))]
    return max((visit for visit in found if visit <= created), default=None)


def _seen(config: YandexConfig, kind: str, value: str, at: float) -> list[float]:
    known = {
        "ClientId": config.known_clients,
        "UserId": config.known_users,
        "Yclid": config.known_clicks,
        "PurchaseId": config.known_purchases,
    }[kind]
    if known is not None:
        return list(_of(known, [value]))
    readable = value.isdigit() if kind == "ClientId" else not value.startswith(_LOST)
    return [at] if readable else []


def _of(known: Visited | None, names: Any) -> Iterator[float]:
    for name in names:
        told = (known or {}).get(name, [])
        for one in [told] if isinstance(told, str) else told:
            yield instant(one).timestamp()


def _contacts(state: Mapping[str, Any]) -> Iterator[str]:
    """MD5 of every contact: plain and hashed name the same person (DOC DH/statistics/conversions)."""
    for name in ("emails", "phones"):
        yield from state.get(f"{name}_md5", ())
        for plain in state.get(name, ()):
            yield hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest()
