"""The same rows for people, spreadsheets and programs: exact, harmless, and readable at a hundred columns."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.model import Spend, Tally
from convsync.report.render import as_csv, as_json, as_table
from convsync.report.rows import FIGURES, Row, build

DAY, NEXT = date(2026, 11, 20), date(2026, 11, 21)
BY = ("platform", "campaign")


def report(by: tuple[str, ...] = BY, *, campaign: str = "Brand", scale: int = 1, currency: str = "RUB") -> list[Row]:
    return build(
        [
            Tally(DAY, "google", campaign, "lead", "lead", "shop", None, 30, None, 30, 29, 1),
            Tally(DAY, "google", campaign, "sale", "sale", "shop", currency, 7, 70_000 * scale, 7, 7, 0),
            Tally(DAY, "", "", "lead", "lead", "shop", None, 2, None, 0, 0, 0),
        ],
        [Spend(DAY, "google", "", "", campaign, 10_010 * scale, currency, True, 1200)],
        by=by,
        currency=currency,
    )


def table(rows: list[Row], width: int = 100, **options: object) -> str:
    return as_table(rows, since=DAY, until=NEXT, width=width, **options)  # type: ignore[arg-type]


# --- table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "by", [(), ("day",), BY, ("platform", "action"), ("platform", "campaign", "action", "day", "source")]
)
@pytest.mark.parametrize("scale", [1, 10**6])
@pytest.mark.parametrize("width", [100, 120, 200])
def test_a_table_fits_its_width_whatever_is_in_it(by: tuple[str, ...], scale: int, width: int) -> None:
    rows = report(by, campaign="Осень: распродажа тёплых вещей в трёх городах, смотри лендинг", scale=scale)
    assert max(map(len, table(rows, width).splitlines())) <= width


def test_a_narrow_table_says_what_it_left_out() -> None:
    text = " ".join(table(report(campaign="Осень: распродажа тёплых вещей", scale=1000)).split())
    assert "Too narrow for actions" in text
    assert "csv and json have everything" in text
    assert "Too narrow" not in table(report(), 200)


def test_terminal_codes_and_markup_in_a_name_are_only_text() -> None:
    """Names come from a CRM: they must not colour, erase or reverse a terminal."""
    text = table(report(campaign="\x1b[31m[red]\u202eevil\nline"), 200)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\ufffd[31m[red]\ufffdevil line" in text


def test_without_a_terminal_there_is_no_colour_and_with_one_the_words_are_the_same() -> None:
    plain, coloured = table(report()), table(report(), colour=True)
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    for code in ("\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured.split() == plain.split()


def test_what_is_missing_is_a_dash_with_the_number_of_its_reason() -> None:
    text = table(report(), 200)
    (line,) = [line for line in text.splitlines() if line.startswith("(unattributed)")]
    assert line.split()[3] == "–"
    assert "0.00" not in line
    first = line.split()[-3].rstrip(",")
    assert f"\n{first}. No cost is known" in text


def test_a_table_is_labelled_with_its_days_its_currency_and_its_date_basis() -> None:
    text = table(report())
    assert text.startswith("From 2026-11-20 until 2026-11-21, money in RUB\n")
    assert "Dated by when the action happened; recent days still grow." in text
    assert "Dated by when the click happened" in table(report(), basis="click")


def test_large_amounts_lose_their_kopecks_and_the_table_says_so() -> None:
    text = table(report(scale=1_000_000), 200)
    assert "100 100 000 " in text
    assert "whole units" in text
    assert " 100.10 " in table(report(), 200)


def test_several_currencies_get_a_column() -> None:
    rows = build(
        [], [Spend(DAY, "google", "", "1", "a", 1, "RUB"), Spend(DAY, "vk", "", "1", "a", 1, "USD")], by=("platform",)
    )
    assert "currency" in table(rows)
    assert "currency" not in table(report()).splitlines()[2]


def test_coverage_is_a_hundred_per_cent_only_when_nothing_is_missing() -> None:
    rows = build([Tally(DAY, "google", "", "a", "lead", "s", None, 1, None, 100_000, 99_999, 0)], [])
    assert "99.9 %" in table(rows)
    assert json.loads(as_json(rows, since=DAY, until=NEXT))["total"]["coverage"] == 0.9999


def test_an_empty_report_is_a_total_of_nothing() -> None:
    assert "No cost is known" in table(build([], [], by=BY))


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\x00"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start: str) -> None:
    row = Row((("campaign", f"{start}1+1"),), *[None] * 3, 0, 0, 0, *[None] * 6)
    assert as_csv([row]).split("\r\n")[1].lstrip('"').startswith(f"'{start}1+1")


def test_a_negative_number_stays_a_number() -> None:
    row = Row((), None, "RUB", None, 1, 0, 1, Decimal("-5.00"), *[None] * 5)
    assert ",-5.00," in as_csv([row])


def test_csv_is_rfc_4180_with_the_total_last() -> None:
    text = as_csv(report(campaign='two "words", a\nline'))
    assert text.endswith("\r\n")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(lines[0]) == [*BY, *FIGURES, "notes"]
    assert lines[0]["campaign"] == 'two "words", a\nline'
    assert (lines[-1]["platform"], lines[-1]["campaign"], lines[-1]["leads"]) == ("total", "", "32")
    assert lines[1]["cost"] == ""
    assert "recent days still grow" in lines[-1]["notes"]


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_is_one_object_with_the_total_beside_the_rows() -> None:
    told = json.loads(as_json(report(), since=DAY, until=NEXT, currency="RUB"))
    assert list(told) == ["since", "until", "basis", "currency", "rows", "total", "doubts", "notes"]
    assert list(told["rows"][0]) == [*BY, *FIGURES, "notes"]
    assert list(told["total"]) == [*FIGURES, "notes"]
    assert (told["since"], told["until"], told["basis"], told["currency"]) == (
        "2026-11-20",
        "2026-11-21",
        "event",
        "RUB",
    )
    assert told["rows"][0]["cpl"] == 3.34
    assert told["rows"][1]["cost"] is None
    assert "No cost is known" in told["rows"][1]["notes"][0]
    assert told["notes"] == ["Dated by when the action happened; recent days still grow."]


def test_a_report_by_nothing_has_no_rows_but_a_total() -> None:
    told = json.loads(as_json(report(by=()), since=DAY, until=NEXT))
    assert told["rows"] == []
    assert told["total"]["leads"] == 32


@given(st.integers(0, 10**30), st.sampled_from(["RUB", "JPY", "KWD"]))
def test_money_in_json_and_csv_is_exact_however_large(minor: int, currency: str) -> None:
    rows = build([], [Spend(DAY, "vk", "", "1", "a", minor, currency)])
    exact = rows[-1].cost
    assert json.loads(as_json(rows, since=DAY, until=NEXT), parse_float=Decimal)["total"]["cost"] == exact
    (line,) = csv.DictReader(io.StringIO(as_csv(rows), newline=""))
    assert Decimal(line["cost"]) == exact
