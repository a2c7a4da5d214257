"""Exact numbers: JSON in without binary fractions, text out without trailing zeros."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any


def loads(body: bytes) -> Any:
    """JSON whose fractions are Decimal, and which knows no NaN or Infinity."""
    return json.loads(body, parse_float=Decimal, parse_constant=_refuse)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def number(value: object) -> Decimal | None:
    """The finite number in `value` (a number or its text), else None."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def text(value: Decimal | None) -> str | None:
    """`1500`, `12.5`: no exponent, no trailing zeros."""
    if value is None:
        return None
    shown = format(value, "f")
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown in ("", "-0") else shown


def sums(pairs: Iterable[tuple[str, Decimal]]) -> dict[str, str]:
    """Sums by currency, as text."""
    found: dict[str, Decimal] = {}
    for currency, value in pairs:
        found[currency] = found.get(currency, Decimal(0)) + value
    return {currency: text(value) or "0" for currency, value in sorted(found.items())}
