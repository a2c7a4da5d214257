"""A column read at once is the same as its cells read carefully one by one, whatever stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convsync.model import Action, BadRow
from convsync.sources import columns, values
from convsync.sources.columns import Column, Convert
from convsync.sources.fields import FieldMap, FieldOptions
from convsync.sources.values import Unreadable

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Half an hour of summer time: an hour of the clock with two offsets."""
ZONES = [BERLIN, LORD_HOWE, ZoneInfo("Asia/Kolkata"), UTC, None]

days = st.dates(date(1990, 1, 1), date(2036, 1, 1)) | st.sampled_from([date(2026, 3, 29), date(2026, 10, 25)])
clocks = st.times() | st.builds(time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
moments = st.builds(datetime.combine, days, clocks)
iso = st.builds(
    lambda moment, blank, zone, around: around[0] + moment.isoformat(blank) + zone + around[1],
    moments,
    st.sampled_from("T "),
    st.sampled_from(["", "", "", "Z", " UTC", "+03", "+03:00", "-05:00", " +0300", "z"]),
    st.sampled_from([("", ""), ("", ""), (" ", ""), ("", "\n"), ("", " ")]),
)
odd_times = st.sampled_from(
    ["2026-03-01", "20260301T120000", "2026-W09-7T12:00", "2026-060T12:00:00", "2026-03-01T12", "2026-03-01 12:00",
     "0001-01-01 00:00:00", "9999-12-31 23:59:59", "2026-03-01T24:00:00", "2026-02-30 10:00:00", "1772355600"]
)  # fmt: skip
times = st.none() | iso | odd_times | moments | moments.map(lambda moment: moment.replace(tzinfo=BERLIN)) | days
plain_amounts = st.decimals(-(10**13), 10**13, places=2, allow_nan=False).map(str) | st.integers(0, 10**16).map(str)
odd_amounts = st.sampled_from(["1.234", "1 234,50", "1.", ".5", "0012.50", "٣", "1e5", "-0", "", " 7 ", "NaN", "5\n"])
damaged = st.sampled_from(["1.23E+18", "1,23e+18", "123.0", "-1.5E5", "0", "+7", "_x", " Cj0KCQ-_ ", "²"])
words = st.sampled_from(["active", "Canceled", " SPAM ", "won", "yes", "нет", "RUB", "rur", "usd", "lead", "", "  "])
others = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3),
    st.sampled_from([Decimal(1), Decimal("1.0"), 1, 1.0, True, [1], {"a": 1}, "1", "true"]),
)  # fmt: skip
amounts = plain_amounts | odd_amounts
cells = st.one_of(times, amounts, damaged, words, others)


def told(convert: Convert, cell: Any) -> str:
    """What is made of one cell, exactly: the digits of a Decimal, the zone of a time, the words of a refusal."""
    try:
        return repr(None if cell is None else convert(cell))
    except Unreadable as error:
        return repr((error.problem, error.advice))


def assert_same(column: Column, convert: Convert, page: Sequence[Any]) -> None:
    expected = [told(convert, cell) for cell in page]
    try:
        assert [repr(cell) for cell in column(page)] == expected
    except Unreadable as error:
        assert repr((error.problem, error.advice)) in expected


FIELDS: list[tuple[Column, Convert]] = [
    (columns.texts, values.text),
    (columns.own_ids, values.own_id),
    (columns.platform_ids, values.platform_id),
    *((columns.words(read), read) for read in (values.currency, values.consent, values.status_reader({"Won": "active"}))),
    *((columns.amounts(read), read) for read in (values.money_reader(decimal_comma=d) for d in (False, True))),
]  # fmt: skip


@pytest.mark.parametrize(("column", "convert"), FIELDS)
@given(page=st.lists(cells, max_size=4) | st.lists(amounts, max_size=4) | st.lists(damaged | words, max_size=4))
@example(page=[1, Decimal("1.0")])
@example(page=[True, 1, 1.0])
def test_a_column_is_its_cells(column: Column, convert: Convert, page: list[Any]) -> None:
    assert_same(column, convert, page)


@settings(max_examples=300)
@given(st.lists(times | iso, max_size=4) | st.lists(cells, max_size=3), st.sampled_from(ZONES))
@example(["2026-10-25 01:59:59", "2026-10-25 02:30:00", "2026-10-25 03:00:00"], BERLIN)
@example(["2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-03-29 03:00:00"], BERLIN)
@example(["2026-04-05 01:29:59", "2026-04-05 01:45:00"], LORD_HOWE)
def test_a_column_of_times_is_its_times(page: list[Any], zone: Any) -> None:
    for clock in (None, time(12)):
        read = values.time_reader(zone, clock)
        assert_same(columns.local_times(read, zone), read, page)
        for text in page:
            assert_same(columns.local_times(read, zone), read, [text])


@settings(max_examples=300)
@given(iso, st.sampled_from([BERLIN, LORD_HOWE, timezone(timedelta(hours=-5, minutes=-30)), UTC]))
def test_a_column_of_local_times_is_what_the_zone_says(text: str, zone: Any) -> None:
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        return
    expected = local.replace(tzinfo=local.tzinfo or zone).astimezone(UTC)
    (found,) = columns.local_times(values.time_reader(zone), zone)([text])
    assert repr(found) == repr(expected)


COLUMNS = [
    "a", "b", "action", "occurred_at", "value", "currency", "status", "gclid", "email", "consent_ad_user_data",
    "call_start_at", "customer_type", "cart", "tariff", "city",
]  # fmt: skip
carts = st.sampled_from(
    [None, "", "[]", '[{"quantity": 1, "price": "5"}]', {"items": [{"id": 7, "quantity": "2"}]}, [{"quantity": 0}], "x"]
)
ordinary = st.tuples(
    st.integers(1, 9) | st.just("deal-1"), st.integers(1, 9), st.just("sale"), iso, plain_amounts | st.none(),
    st.just("RUB") | st.none(), st.just("active") | st.none(), st.just("Cj0"), st.just("a@b.ru"), st.none(),
    iso | st.none(), st.sampled_from([None, "new", "Returning"]), carts, st.sampled_from([None, "gold", " "]), st.none(),
)  # fmt: skip
anything = st.tuples(cells, cells, words | cells, times | cells, *[cells] * 8, carts | cells, cells, cells)


@settings(max_examples=300)
@given(
    st.lists(ordinary | anything, max_size=4),
    st.sampled_from(["a", ("a", "b")]),
    st.sampled_from([None, "RUB"]),
    st.sampled_from([{}, {"action": "lead", "consent_ad_user_data": False}, {"fields": {"value": ""}}]),
    st.sampled_from([{}, {"plan": "tariff"}, {"plan": "tariff", "town": "city"}]),
)
def test_a_page_is_its_rows(
    page: list[tuple[Any, ...]], key: Any, currency: str | None, constant: Any, named: Any
) -> None:
    options: FieldOptions = {"id": key, "timezone": BERLIN, "currency": currency, "custom_variables": named, **constant}
    mapping = FieldMap("shop", options)
    rows = mapping.compile(mapping.resolve(COLUMNS, "table"), COLUMNS)
    numbered = [(*row, number) for number, row in enumerate(page)]
    actions, bad = rows.read(numbered, lambda row: f"row {row[-1]}")
    one_by_one = [rows.one(row, lambda row: f"row {row[-1]}") for row in numbered]
    assert repr(actions) == repr([one for one in one_by_one if isinstance(one, Action)])
    assert bad == [one for one in one_by_one if isinstance(one, BadRow)]
    assert all(type(action) is Action for action in actions)
