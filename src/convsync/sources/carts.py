"""What a cell with a cart can mean: JSON text or an object that a JSON file held, read completely or refused aloud."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from convsync.model import Cart, Item
from convsync.sources.values import Unreadable, own_id

MOST = 2**31 - 1
"""Of one product. CODE google-ads 34.0.0: `CartData.Item.quantity` is an int32."""

_CART, _ITEM = ("items", "discount"), ("id", "quantity", "price")
_ADVICE = (
    'Write {"items": [{"id": "sku-1", "quantity": 2, "price": "199.90"}], "discount": "10"};'
    " id, price and discount may be left out."
)

Amount = Callable[[object], Decimal | None]


def cart_reader(amount: Amount) -> Callable[[object], Cart | None]:
    """A reader of carts; amounts are read by `amount`, as those of the source's other columns.

    A cart is an object with `items` and perhaps `discount`, or the list of items alone; without any item it is no cart.
    A message names the place and the key, never what stands there.
    """

    def read(value: object) -> Cart | None:
        found = _parsed(value)
        if found is None:
            return None
        if isinstance(found, list):
            found = {"items": found}
        _known(found, _CART, "")
        items = found.get("items")
        if not isinstance(items, list):
            raise Unreadable("has no list of items", _ADVICE)
        discount = _amount(found, "discount", "", amount)
        if not items:
            if discount is not None:
                raise Unreadable("has a discount and no items", _ADVICE)
            return None
        return Cart(tuple(_item(item, f"items[{at}]", amount) for at, item in enumerate(items)), discount)

    return read


def _parsed(value: object) -> Any:
    """Text as JSON, its numbers exact; a blank, and null, is no cart."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value, parse_float=Decimal, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON (column {error.colno})", _ADVICE) from None
    except (ValueError, RecursionError):
        raise Unreadable("is not JSON that can be read", _ADVICE) from None


def _no_number(_word: str) -> float:
    raise ValueError("no number of JSON")


def _item(item: Any, where: str, amount: Amount) -> Item:
    _known(item, _ITEM, where)
    return Item(
        _id(item.get("id"), where), _quantity(item.get("quantity"), where), _amount(item, "price", where, amount)
    )


def _known(value: Any, keys: tuple[str, ...], where: str) -> None:
    """An object with other keys than ours is refused: `qty` or `sku`, passed over, would be half a cart."""
    if not isinstance(value, dict):
        raise Unreadable(f"{where} is not an object".strip(), _ADVICE)
    for key in value:
        if key not in keys:
            word = f'"{key[:20]}"' if key.isidentifier() and not sum(map(str.isdigit, key)) > 6 else "a key"
            raise Unreadable(f"{where} has {word}, which is not known there".strip(), f"Known: {', '.join(keys)}.")


def _id(value: object, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str | int | float | Decimal):
        try:
            word = own_id(value)
        except Unreadable:
            pass
        else:
            if word is None or word.isprintable():
                return word
    raise Unreadable(f"{where}.id is not the id of a product", "Write the id that the product has in Merchant Center.")


def _quantity(value: object, where: str) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 < value <= MOST:
        whole = int(value)
        if whole == value:
            return whole
    problem = "is missing" if value is None else "is not a whole number above zero"
    raise Unreadable(f"{where}.quantity {problem}", _ADVICE)


def _amount(holder: dict[str, Any], key: str, where: str, amount: Amount) -> Decimal | None:
    try:
        found = amount(holder[key]) if holder.get(key) is not None else None
    except Unreadable:
        found = Decimal(-1)
    if found is None or found >= 0:
        return found
    raise Unreadable(f"{where}.{key} is not an amount".lstrip("."), _ADVICE)
