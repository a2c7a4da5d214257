"""What an event may carry beyond click, person and money: custom variables, the cart, the kind of customer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from convsync.model import Cart
from convsync.normalise import major, minor_units

LONGEST_VALUE = 100
"""Characters of a custom variable's value. Google states it for names only; a longer value risks FIELD_VALUE_TOO_LONG."""

CUSTOMERS = {"new": "NEW", "returning": "RETURNING", "reengaged": "REENGAGED"}

_MAIL = re.compile(r"\S@\S").search
_NUMBERS = re.compile(r"(?<![\w-])\+?\d[\d\s().-]{5,}\d(?![\w-])").finditer
_INTERNATIONAL, _CALLABLE = range(7, 16), range(9, 16)
"""Digits of a phone number, after a plus and without one; E.164 ends at 15."""


class Merchant(NamedTuple):
    """Where the products of carts are listed: a Merchant Center account, and the feed in it."""

    id: str | None = None
    feed_label: str | None = None
    feed_language: str | None = None


def is_personal(text: str) -> bool:
    """Whether there is, or could be, an e-mail address or a phone number in a text.

    Google refuses a custom variable with either (CUSTOM_VARIABLE_VALUE_CONTAINS_PII), and the whole request with it.
    How it recognises them is not told; a bare number of nine to fifteen digits counts here, a part of a longer word does not.
    """
    if _MAIL(text):
        return True
    numbers = (found[0] for found in _NUMBERS(text))
    return any(
        sum(map(str.isdigit, number)) in (_INTERNATIONAL if number[0] == "+" else _CALLABLE) for number in numbers
    )


def custom_variables(pairs: Sequence[tuple[str, str]]) -> str:
    """The member `customVariables` with a comma before it. What may not be sent is left out: the conversion matters more."""
    told = [
        {"variable": name, "value": value}
        for name, value in pairs
        if len(value) <= LONGEST_VALUE and not is_personal(value)
    ]
    return f',"customVariables":{orjson.dumps(told).decode()}' if told else ""


def customer(kind: str | None) -> str:
    """The member `userProperties` with a comma before it."""
    return f',"userProperties":{{"customerType":"{CUSTOMERS[kind]}"}}' if kind else ""


def is_priced(cart: Cart) -> bool:
    """Whether a cart says amounts, which need a currency."""
    return cart.discount is not None or any(item.price is not None for item in cart.items)


def shopping(cart: Cart, currency: str, merchant: Merchant) -> str:
    """The member `cartData` with a comma before it.

    Amounts are exact decimals in major units, rounded as the value is. An id that is a contact is left out.
    """
    names = ("merchantId", "merchantFeedLabel", "merchantFeedLanguageCode")
    told = [_member(name, text) for name, text in zip(names, merchant, strict=True) if text]
    if cart.discount is not None:
        told.append(f'"transactionDiscount":{_amount(cart.discount, currency)}')
    items = ",".join(_item(*item, currency) for item in cart.items)
    members = ",".join((*told, f'"items":[{items}]'))
    return f',"cartData":{{{members}}}'


def _item(product: str | None, quantity: int, price: Any, currency: str) -> str:
    told = [_member("merchantProductId", product)] if product and not _names_somebody(product) else []
    told.append(f'"quantity":{quantity:d}')
    if price is not None:
        told.append(f'"unitPrice":{_amount(price, currency)}')
    return f"{{{','.join(told)}}}"


def _names_somebody(product: str) -> bool:
    """Ids of products are numbers of any length (EAN), so only what nothing else is counts."""
    return bool(_MAIL(product)) or (product[0] == "+" and is_personal(product))


def _amount(amount: Any, currency: str) -> str:
    return f"{major(minor_units(amount, currency), currency):f}"


def _member(name: str, text: str) -> str:
    return f'"{name}":{orjson.dumps(text).decode()}'
