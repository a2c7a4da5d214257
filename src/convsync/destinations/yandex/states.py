"""One order at Metrica: its whole present state, how states add up, and its row in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import orjson

from convsync.destinations.yandex.people import md5

ENDED = {"cancelled": "CANCELLED", "refunded": "CANCELLED", "spam": "SPAM"}
"""The status of an action that is no more → the status of its order."""
WORTHLESS = frozenset(ENDED.values())
"""Orders in these statuses bring no money, whatever the CRM still shows as their amount."""

FIELDS = (
    "id", "created", "client_uniq_id", "client_ids", "emails", "phones", "emails_md5", "phones_md5",
    "order_status", "revenue", "cost", "goals", "currency",
)  # fmt: skip
"""Of a state. `created` is in epoch seconds, `cost` an amount and its currency; what an action does not tell is absent."""
SEVERAL = ("client_ids", "emails", "phones", "emails_md5", "phones_md5")
CLEAR = ("emails", "phones")


def packed(state: Mapping[str, Any]) -> bytes:
    """Fields in one order, without those that say nothing: the same state is the same bytes."""
    return orjson.dumps({name: value for name in FIELDS if (value := state.get(name)) or value == 0})


def merged(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Id and creation time stay as first sent, everything known of the customer adds up, the rest is what `now` says.

    A state without an amount says nothing about the amount, so what was said last holds (SAVE would erase it); an
    order worth nothing has to say 0. The amount of a cancelled order is kept too, for the day it is revived.
    """
    state = {**was, **now, "id": was["id"], "created": was["created"]}
    for column in SEVERAL:
        if column in was and column in now:
            state[column] = list(dict.fromkeys([*was[column], *now[column]]))
    if "goals" in was and "goals" in now:
        state["goals"] = list({goal.partition(":")[0]: goal for goal in (*was["goals"], *now["goals"])}.values())
    if "revenue" not in now and "revenue" in was:
        state["currency"] = was.get("currency")
    for plain in CLEAR:
        if plain in state:
            told = {md5(text) for text in state[plain]}
            state[f"{plain}_md5"] = [one for one in state.get(f"{plain}_md5", ()) if one not in told]
    return state


def tells_more(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether `now` names an id, a contact or a cost that `was` did not."""
    was, now = hashed(was), hashed(now)
    if any(set(now.get(column, ())) - set(was.get(column, ())) for column in SEVERAL):
        return True
    return any(now.get(column) not in (None, was.get(column)) for column in ("client_uniq_id", "cost"))


def hashed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each contact as its hash."""
    found = {name: value for name, value in state.items() if name not in CLEAR}
    for plain in CLEAR:
        known = [*state.get(f"{plain}_md5", ()), *map(md5, state.get(plain, ()))]
        found[f"{plain}_md5"] = list(dict.fromkeys(known))
    return found


def in_clear(payload: bytes) -> bool:
    """Whether a packed state has a contact. A quote inside JSON text is escaped: a name with both its quotes is a name."""
    return b'"emails":' in payload or b'"phones":' in payload


def columns(payloads: Sequence[bytes]) -> list[str]:
    """Those of a file of these states.

    Always the same, but for plain contacts, which stand in place of (or beside) the hashed ones where there are any,
    and for cost and goals, which are there where a state has some.
    """
    plain = any(map(in_clear, payloads))
    contacts = [*CLEAR] if plain else []
    if not plain or _any(payloads, b'"emails_md5":', b'"phones_md5":'):
        contacts += ["emails_md5", "phones_md5"]
    cost = ["cost"] if _any(payloads, b'"cost":') else []
    goals = ["goals"] if _any(payloads, b'"goals":') else []
    return [
        "id", "create_date_time", "client_uniq_id", "client_ids", *contacts, "order_status", "revenue", *cost, *goals,
        "currency",
    ]  # fmt: skip


def rows(payloads: Iterable[bytes], names: Sequence[str], zone: tzinfo) -> Iterator[list[str]]:
    """Cells by these `columns`; dates as `yyyy-MM-dd HH:mm:ss` on the counter's clock. DOC M/data-import/date"""
    contacts = [name for name in names if name.startswith(CLEAR)]
    priced, aimed = "cost" in names, "goals" in names
    seen = set[str]()
    for payload in payloads:
        state = orjson.loads(payload)
        get = state.get
        order, status = state["id"], state["order_status"]
        if order in seen:
            raise ValueError("an order stands twice in one file: Metrica would apply its rows in random order")
        seen.add(order)
        worthless = status in WORTHLESS
        cells = [
            order,
            str(datetime.fromtimestamp(state["created"], zone))[:19],
            get("client_uniq_id", ""),
            ",".join(get("client_ids", ())),
            *[",".join(get(column, ())) for column in contacts],
            status,
            "0" if worthless else get("revenue", ""),
        ]
        if priced:
            cells.append("0" if worthless else _cost(state))
        if aimed:
            cells.append(_goals(get("goals", ()), worthless))
        cells.append(get("currency", ""))
        yield cells


def _cost(state: Mapping[str, Any]) -> str:
    """Metrica takes it off the revenue: one in another currency, or of an order without revenue, says nothing."""
    amount, currency = state.get("cost", ("", ""))
    return amount if "revenue" in state and currency == state.get("currency") else ""


def _goals(goals: Iterable[str], worthless: bool) -> str:
    """Goals once reached stay, but one without a price of its own is worth what the order is."""
    return ",".join(goal.partition(":")[0] if worthless else goal for goal in goals)


def _any(payloads: Sequence[bytes], *words: bytes) -> bool:
    return any(word in payload for payload in payloads for word in words)
