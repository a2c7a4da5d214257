"""One cell at a time: what it may mean, and what is refused rather than guessed."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.sources import values
from convsync.sources.values import Unreadable

MOSCOW = ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)

# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [values.own_id, values.platform_id])
@pytest.mark.parametrize(
    "value", ["1.23E+18", "1,23E+18", "1.23457e+18", "5E+3", "-1.2E+5", "1.5E18", 1.5, 1.23e18, True, b"x"]
)
def test_a_damaged_id_is_refused(read: Any, value: object) -> None:
    with pytest.raises(Unreadable):
        read(value)


@pytest.mark.parametrize("read", [values.own_id, values.platform_id])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("  ", None),
        (" abc ", "abc"),
        (0, "0"),
        (12345678901234567890, "12345678901234567890"),
        ("1234567890.1699999999", "1234567890.1699999999"),
        ("Cj0KCQ_x-1E+5", "Cj0KCQ_x-1E+5"),
        ("1E18", "1E18"),
        ("12e4-11d3", "12e4-11d3"),
        ("+7-12", "+7-12"),
        (Decimal(17), "17"),
    ],
)
def test_an_id_is_text_for_ever(read: Any, value: object, expected: str | None) -> None:
    assert read(value) == expected


def test_a_whole_float_is_an_id_of_ours_but_never_one_of_a_platform() -> None:
    """A REAL column holds 123.0 for 123, exactly; no platform ever issued a click id as a floating point number."""
    assert values.own_id(123.0) == "123"
    assert values.own_id("123.0") == "123.0"
    for value in (123.0, "123.0"):
        with pytest.raises(Unreadable):
            values.platform_id(value)
    with pytest.raises(Unreadable):
        values.own_id(float(2**53))


# --- money ------------------------------------------------------------------------------------------------------------

point = values.money_reader(decimal_comma=False)
comma = values.money_reader(decimal_comma=True)


@pytest.mark.parametrize(
    "value",
    [
        *("1,234.50", "1.234,50", "1234,5", "abc", "NaN", "inf", "1_000", "1E+5", "100 ₽", "1 2", "12 34", "--1", "1."),
        *("٣", "1" * 16, float("nan"), float("inf"), True, Decimal("NaN"), 1e15, 10**15, b"1", [1]),
    ],
)
def test_an_amount_that_could_mean_anything_else_is_refused(value: object) -> None:
    with pytest.raises(Unreadable):
        point(value)


@pytest.mark.parametrize("value", ["1.234", "1.234.567", "1.234,50", "1,2,3"])
def test_with_a_decimal_comma_thousands_points_are_refused(value: str) -> None:
    with pytest.raises(Unreadable):
        comma(value)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (point, " ", None),
        (point, 0, Decimal(0)),
        (point, 0.1, Decimal("0.1")),
        (point, "1234.50", Decimal("1234.50")),
        (point, "1 234 567.50", Decimal("1234567.50")),
        (point, "1\u00a0234.5", Decimal("1234.5")),
        (point, "-5", Decimal(-5)),
        (point, Decimal("7.10"), Decimal("7.10")),
        (point, 1e-7, Decimal("1e-7")),
        (comma, "1 234,50", Decimal("1234.50")),
        (comma, "1234.50", Decimal("1234.50")),
    ],
)
def test_amounts_are_read_exactly(read: Any, value: object, expected: Decimal | None) -> None:
    assert read(value) == expected


@pytest.mark.parametrize("read", [values.own_id, values.platform_id])
@pytest.mark.parametrize(
    "value", ["anna@example.com", " Anna@example.com ", "+7 (999) 000-11-22", "+79990001122", "1@2"]
)
def test_a_contact_is_no_id_and_is_not_repeated(read: Any, value: str) -> None:
    with pytest.raises(Unreadable, match="looks like an e-mail") as caught:
        read(value)
    assert value.strip() not in f"{caught.value.problem} {caught.value.advice}"


@pytest.mark.parametrize("value", ["+12-x", "a+b", "+1", "№ 5; x", "Cj0KCQ-1_2"])
def test_an_id_may_have_signs(value: str) -> None:
    assert values.own_id(value) == values.platform_id(value) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**14), max_value=10**14))
def test_an_amount_survives_being_written(amount: Decimal) -> None:
    assert point(str(amount)) == amount
    assert comma(str(amount).replace(".", ",")) == amount


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.binary(), st.none()))
def test_every_cell_is_read_or_refused_and_nothing_else(value: object) -> None:
    readers: list[Any] = [point, comma, values.own_id, values.platform_id, values.currency, values.consent, values.text]
    readers += [values.status_reader({}), values.time_reader(MOSCOW), values.time_reader(None, time(12), "%d.%m.%Y")]
    for read in readers:
        try:
            read(value)
        except Unreadable as error:
            assert error.problem


@pytest.mark.parametrize("value", ["₽", "руб", "RUBL", "XXX", "12", 5])
def test_a_currency_that_iso_does_not_know_is_refused(value: object) -> None:
    with pytest.raises(Unreadable, match="not a currency"):
        values.currency(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(" rub ", "RUB"), ("RUR", "RUB"), ("rur", "RUB"), ("", None), ("USD", "USD")]
)
def test_currencies_are_upper_case_and_rur_is_rub(value: str, expected: str | None) -> None:
    assert values.currency(value) == expected


# --- words ------------------------------------------------------------------------------------------------------------


def test_an_unknown_status_lists_the_known_ones_as_they_were_written() -> None:
    with pytest.raises(Unreadable) as caught:
        values.status_reader({"Отменён ": "cancelled"})("closed")
    words = "active, cancelled, refunded, spam, canceled, Отменён"
    assert caught.value.advice == f"Allowed: {words}, or empty for active."


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Canceled", "cancelled"), (" SPAM ", "spam"), ("", None), ("won", "active"), ("ВОЗВРАТ", "refunded")],
)
def test_status_words_are_ours_or_translated(value: str, expected: str | None) -> None:
    assert values.status_reader({"Won": "active", "Возврат": "refunded"})(value) == expected


@pytest.mark.parametrize(
    "written", ["отменён", "отменен", "Отменён", "ОТМЕНЕН ", unicodedata.normalize("NFD", "отменён")]
)
@pytest.mark.parametrize("told", ["отменён", "Отменен", " ОТМЕНЁН", unicodedata.normalize("NFD", "Отменён")])
def test_letter_case_and_the_dots_of_yo_make_no_other_status(written: str, told: str) -> None:
    assert values.status_reader({written: "cancelled"})(told) == "cancelled"


@pytest.mark.parametrize("value", ["maybe", "2", 2, "unknown"])
def test_consent_is_never_guessed(value: object) -> None:
    with pytest.raises(Unreadable):
        values.consent(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (0, False), (1.0, True), ("Granted", True), ("нет", False), ("ДА", True), ("", None), (" ", None)],
)
def test_consent_is_yes_no_or_nobody_asked(value: object, expected: bool | None) -> None:
    assert values.consent(value) is expected


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["2026-03-01 12:00:00", "2026-03-01T12:00", datetime(2026, 3, 1, 12)])
def test_a_naive_time_needs_a_zone(value: object) -> None:
    with pytest.raises(Unreadable, match="naive"):
        values.time_reader(None)(value)
    assert values.time_reader(MOSCOW)(value) == NOON


@pytest.mark.parametrize("value", ["2026-03-01", date(2026, 3, 1)])
def test_a_date_needs_a_time_of_day(value: object) -> None:
    with pytest.raises(Unreadable, match="time of day"):
        values.time_reader(MOSCOW)(value)
    assert values.time_reader(MOSCOW, time(12))(value) == NOON


def test_a_format_without_a_clock_needs_a_time_of_day() -> None:
    with pytest.raises(Unreadable, match="time of day"):
        values.time_reader(MOSCOW, None, "%Y%m%d")("20260301")
    assert values.time_reader(MOSCOW, time(12), "%Y%m%d")("20260301") == NOON
    assert values.time_reader(MOSCOW, None, "%d.%m.%Y %H:%M")("01.03.2026 12:00") == NOON


@pytest.mark.parametrize(
    "value",
    [
        *("вчера", "20260301", "1710120100000000", 20260301, 45321.5, 0, "0000-00-00 00:00:00", "2026-02-30 10:00:00"),
        *("2026-W09-7", "01.03.2026 12:00", True, b"2026", float("nan"), "0001-01-01 00:00:00", "2026-03-01 25:00:00"),
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(Unreadable):
        values.time_reader(MOSCOW, time(12))(value)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T09:00:00Z",
        "2026-03-01 12:00:00+03:00",
        "2026-03-01 12:00:00 +0300",
        "2026-03-01T04:00:00-05:00",
        "2026-03-01 09:00:00 UTC",
        "2026-03-01 09:00:00.000",
        "2026-03-01T12:00:00+03",
        1772355600,
        1772355600000,
        1772355600.0,
        "1772355600",
        "1772355600000",
        datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=3))),
    ],
)
def test_every_shape_of_the_same_moment_is_the_same_moment(value: object) -> None:
    """The zone of the source (here UTC) is used only where none is written."""
    found = values.time_reader(UTC)(value)
    assert found == NOON
    assert found.tzinfo is UTC


def test_a_local_time_that_happens_twice_is_the_first_and_a_skipped_one_counts_by_the_old_offset() -> None:
    read = values.time_reader(BERLIN)
    assert read("2026-10-25 02:30:00") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert read("2026-03-29 02:30:00") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@given(
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2036, 1, 1)), st.sampled_from([BERLIN, MOSCOW, UTC])
)
def test_the_fast_reading_of_local_times_is_that_of_zoneinfo(local: datetime, zone: Any) -> None:
    local = local.replace(fold=0)  # text does not say which of two equal local times is meant: the first
    expected = local.replace(tzinfo=zone).astimezone(UTC)
    assert values.time_reader(zone)(str(local)) == expected
    assert values.time_reader(zone)(local.isoformat()) == expected


# --- what a message may show --------------------------------------------------------------------------------------------


def test_a_message_is_short_and_hides_what_looks_like_a_contact() -> None:
    assert len(values.shown("x" * 500)) < 50
    assert "ivan" not in values.shown("ivan@mail.ru")
    for read in (values.status_reader({}), values.consent, values.currency, point):
        for contact in ("+7 916 123-45-67", "ivan@mail.ru"):
            with pytest.raises(Unreadable) as caught:
                read(contact)
            assert "916" not in caught.value.problem
            assert "ivan" not in caught.value.problem


# --- a form of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1.3.26", "yesterday", "12:30", 17, "17", float("nan"), timedelta(1)])
def test_a_time_that_misses_the_form_of_its_source_is_told_of_that_form(value: object) -> None:
    with pytest.raises(Unreadable) as caught:
        values.time_reader(MOSCOW, None, "%d.%m.%Y %H:%M")(value)
    assert '`occurred_format` says ("%d.%m.%Y %H:%M", for every time of this source), or ISO' in caught.value.advice
    assert "set `occurred_format`" not in caught.value.advice
    with pytest.raises(Unreadable) as caught:
        values.time_reader(MOSCOW)(value)
    assert caught.value.advice.endswith("or set `occurred_format`.")
