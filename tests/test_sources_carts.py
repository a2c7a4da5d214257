"""A cart is read completely and exactly, or its row is a bad row that says where and why."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.model import Cart, Item
from convsync.sources import values
from convsync.sources.carts import MOST, cart_reader
from convsync.sources.delimited import CsvSource
from convsync.sources.jsonl import JsonlSource
from convsync.sources.values import Unreadable

read = cart_reader(values.money_reader(decimal_comma=False))

ITEM = {"id": "sku-1", "quantity": 2, "price": "199.90"}
CART = Cart((Item("sku-1", 2, Decimal("199.90")),), Decimal("10"))


def refused(value: object) -> str:
    with pytest.raises(Unreadable) as caught:
        read(value)
    assert caught.value.advice
    return caught.value.problem


@pytest.mark.parametrize(
    ("cart", "problem"),
    [
        ("{", "is not JSON (column 2)"),
        ("[" * 100_000, "is not JSON that can be read"),
        ('[{"quantity": ' + "9" * 5000 + "}]", "is not JSON that can be read"),
        ('[{"quantity": 1, "price": NaN}]', "is not JSON that can be read"),
        ('[{"quantity": 1, "price": -Infinity}]', "is not JSON that can be read"),
        ("5", "is not an object"),
        ('"sku-1"', "is not an object"),
        (True, "is not an object"),
        ({"positions": []}, 'has "positions", which is not known there'),
        ({"discount": 1}, "has no list of items"),
        ({"items": {"id": "x"}}, "has no list of items"),
        ({"items": None}, "has no list of items"),
        ({"items": [], "discount": 1}, "has a discount and no items"),
        ({"items": [ITEM], "discount": "a lot"}, "discount is not an amount"),
        ({"items": [ITEM], "discount": -1}, "discount is not an amount"),
        ({"items": [ITEM], "discount": [1]}, "discount is not an amount"),
        ([ITEM, 5], "items[1] is not an object"),
        ([ITEM, None], "items[1] is not an object"),
        ([{**ITEM, "sku": "x"}], 'items[0] has "sku", which is not known there'),
        ([{**ITEM, "ivan@example.ru": 1}], "items[0] has a key, which is not known there"),
        ([{**ITEM, "phone79161234567": 1}], "items[0] has a key, which is not known there"),
        ([{"id": "x"}], "items[0].quantity is missing"),
        ([ITEM, {**ITEM, "quantity": None}], "items[1].quantity is missing"),
        *(
            ([{**ITEM, "quantity": wrong}], "items[0].quantity is not a whole number above zero")
            for wrong in (0, -1, 1.5, "1.5", "two", "", True, [], MOST + 1, "9" * 30, "²", float("inf"), float("nan"))
        ),
        *(
            ([{**ITEM, "price": wrong}], "items[0].price is not an amount")
            for wrong in ("1,50", "free", -1, "-0.01", True, {}, 10**15, float("inf"))
        ),
        *(
            ([{**ITEM, "id": wrong}], "items[0].id is not the id of a product")
            for wrong in ({}, [], True, 1.5, 1.2e20, "1.23E+11", "ivan@example.ru", "+7 916 123-45-67", "a\x00b", "\ud800")
        ),
    ],
)  # fmt: skip
def test_a_cart_that_cannot_be_read_says_where_and_why(cart: object, problem: str) -> None:
    assert refused(cart) == problem


@pytest.mark.parametrize("empty", [None, "", "  ", "null", "[]", [], {"items": []}, '{"items": [], "discount": null}'])
def test_nothing_bought_is_no_cart(empty: object) -> None:
    assert read(empty) is None


@pytest.mark.parametrize(
    "cart",
    [
        {"items": [ITEM], "discount": "10"},
        {"items": [{**ITEM, "quantity": "2", "price": 199.9}], "discount": 10},
        {"items": [{**ITEM, "quantity": 2.0, "price": " 199.90 "}], "discount": 10.0},
        '{"items": [{"id": "sku-1", "quantity": 2, "price": 199.90}], "discount": 10}',
        ' {"items": [{"id": " sku-1 ", "quantity": 2e0, "price": "199.90"}], "discount": 10.00}',
    ],
)
def test_a_cart_is_an_object_or_text_with_one(cart: object) -> None:
    found = read(cart)
    assert found == CART
    assert found is not None
    assert type(found.items[0].quantity) is int
    assert type(found.items[0].price) is Decimal


def test_a_list_of_items_alone_is_a_cart_without_discount() -> None:
    assert read([ITEM]) == read(json.dumps([ITEM])) == CART._replace(discount=None)


def test_what_may_be_left_out_stays_out_and_is_not_invented() -> None:
    assert read([{"quantity": 1}]) == Cart((Item(None, 1, None),))
    assert read([{"id": "", "quantity": 1, "price": None}]) == Cart((Item(None, 1, None),))
    assert read([{"id": 4006381333931, "quantity": MOST, "price": 0}]) == Cart(
        (Item("4006381333931", MOST, Decimal(0)),)
    )


@given(st.decimals(0, 10**12, places=4, allow_nan=False))
def test_a_price_loses_no_digit_on_the_way(price: Decimal) -> None:
    for written in (f"{price}", f'"{price}"'):
        found = read(f'[{{"quantity": 1, "price": {written}}}]')
        assert found is not None
        assert found.items[0].price == price


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "id", "quantity", "price", "discount", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_a_cart_or_is_refused_the_same_as_text_and_as_an_object(value: Any) -> None:
    def told(cart: object) -> object:
        try:
            return read(cart)
        except Unreadable as error:
            return error.problem

    told(value)
    text = json.dumps(value)
    if "NaN" not in text and "Infinity" not in text and not isinstance(value, str):
        assert told(text) == told(value)


def test_files_hold_carts_as_text_or_as_objects(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "external_id,action,occurred_at,cart\n"
        '1,sale,2026-03-01T09:00:00Z,"{""items"": [{""id"": ""sku-1"", ""quantity"": 2, ""price"": ""199.90""}], ""discount"": 10}"\n'
        "2,sale,2026-03-01T09:00:00Z,\n"
        "3,sale,2026-03-01T09:00:00Z,sku-1 x 2\n"
    )
    row = {"external_id": "1", "action": "sale", "occurred_at": "2026-03-01T09:00:00Z"}
    lines = [
        {**row, "deal": {"cart": {"items": [ITEM], "discount": 10}}},
        {**row, "deal": {}},
        {**row, "deal": {"cart": [{**ITEM, "qty": 1}]}},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for source, problem in (
        (CsvSource("a", path=str(tmp_path / "a.csv")), "is not JSON (column 1)"),
        (
            JsonlSource("b", path=str(tmp_path / "a.jsonl"), fields={"cart": "deal.cart"}),
            'items[0] has "qty", which is not known there',
        ),
    ):
        (page,) = source.read({})
        assert [action.cart for action in page.actions] == [CART, None]
        assert [(bad.field, bad.problem) for bad in page.bad] == [("cart", problem)]


def test_amounts_of_a_cart_are_written_as_the_other_amounts_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "external_id;action;occurred_at;cart\n"
        '1;sale;2026-03-01T09:00:00Z;"[{""quantity"": 1, ""price"": ""1 199,90""}]"\n'
    )
    (page,) = CsvSource("a", path=str(tmp_path / "a.csv"), delimiter=";", decimal_comma=True).read({})
    assert page.actions[0].cart == Cart((Item(None, 1, Decimal("1199.90")),))
