"""The file that Yandex.Direct's Conversion Centre fetches: the columns of `simple_orders`, but between semicolons.

It reaches Metrica as CRM orders, like an upload. UTF-8 without BOM, at most 300 MB. DOC DH/statistics/conversions
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any

import orjson

from convsync.destinations.yandex import states

LARGEST = 300_000_000
"""Bytes. DOC DH/statistics/conversions: 300 MB, without saying which."""

SYSTEM = states.WORTHLESS | {"IN_PROGRESS", "PAID"}
"""Statuses of Metrica's own; any other is the JavaScript goal that the order reaches by it."""

BEGINS = b"id;create_date_time;"
"""How each of these files begins."""


def columns(*, hashed: bool) -> list[str]:
    """Always the same for one configuration, whatever the orders have: the file is set up once, and fetched every day."""
    plain = [] if hashed else list(states.CLEAR)
    return [
        "id", "create_date_time", "client_uniq_id", "client_ids", *plain, "emails_md5", "phones_md5", "order_status",
        "revenue", "cost", "goals", "currency",
    ]  # fmt: skip


def lines(payloads: Iterable[bytes], zone: tzinfo, *, hashed: bool) -> Iterator[bytes]:
    """The header and a line for each order, one at a time; dates on the clock of `zone`, the counter's."""
    names = columns(hashed=hashed)
    yield _line(names)
    told = map(_without_contacts, payloads) if hashed else payloads
    yield from map(_line, states.rows(told, names, zone))


def newest(payloads: Sequence[bytes]) -> bytes:
    """Of these states of one order, the last. A JavaScript goal that an earlier one stands for comes along in `goals`, for
    to pass over a state is to pass over its goal; Metrica's own goals of an order come with the later ones.

    It comes with the income of its own state, where that had one in the same currency, else with that of the order. What
    is no more reaches no goals.
    """
    *earlier, last = map(orjson.loads, payloads)
    if last["order_status"] in states.WORTHLESS:
        return payloads[-1]
    goals = {goal.partition(":")[0]: goal for goal in last.get("goals", ())}
    for state in reversed(earlier):
        status = state["order_status"]
        if status not in SYSTEM and status != last["order_status"]:
            goals.setdefault(status, f"{status}{_price(state, last.get('currency'))}")
    return states.packed({**last, "goals": list(goals.values())})


def _price(state: dict[str, Any], currency: str | None) -> str:
    if "revenue" not in state or state.get("currency") != currency:
        return ""
    cost, of = state.get("cost", ("0", currency))
    income = Decimal(state["revenue"]) - (Decimal(cost) if of == currency else 0)
    return f":{income:f}" if income >= 0 else ""


def _without_contacts(payload: bytes) -> bytes:
    """Of a time when the configuration sent them in clear."""
    return states.packed(states.hashed(orjson.loads(payload))) if states.in_clear(payload) else payload


def _line(cells: Sequence[str]) -> bytes:
    """RFC 4180, and in quotes what holds a comma too: several ids in one cell. DOC M/data-import/simple-orders-data"""
    text = ";".join(cells)
    if text.count(";") >= len(cells) or re.search('[",\r\n]', text):
        text = ";".join(['"' + c.replace('"', '""') + '"' if re.search('[";,\r\n]', c) else c for c in cells])
    return text.encode() + b"\n"
