"""Spend from CSV: what cannot be trusted is told with its line, what can is kept to the kopeck."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.costs.files import read
from convsync.errors import ConvsyncError, Exit, SourceError, UsageError
from convsync.model import BadRow, Spend

HEADER = "day,platform,campaign,campaign_id,amount,currency"
GOOD = "2026-11-01,google,Brand,11,100.50,RUB"
SPEND = Spend(date(2026, 11, 1), "google", "", "11", "Brand", 10050, "RUB")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*lines: str, encoding: str = "utf-8", name: str = "costs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return make


def spends(path: Path, **options: object) -> list[Spend]:
    rows = list(read(path, **options))  # type: ignore[arg-type]
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row for row in rows if isinstance(row, Spend)]


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ("2026-11-01,google,Brand,11,100.50,", "currency", "no currency is ever assumed"),
        ("2026-11-01,google,Brand,11,100.50,руб", "currency", "not an ISO code"),
        ("2026-11-01,google,Brand,11,100.50,RUD", "currency", "not an ISO code"),
        ("2026-11-01,google,Brand,11,-5,RUB", "amount", "negative"),
        ("2026-11-01,google,Brand,11,\u22125,RUB", "amount", "negative"),
        ("2026-11-01,google,Brand,11,,RUB", "amount", "empty"),
        ("2026-11-01,google,Brand,11,much,RUB", "amount", "not an amount"),
        ("2026-11-01,google,Brand,11,1.5E+3,RUB", "amount", "not an amount"),
        ("2026-11-01,google,Brand,11,NaN,RUB", "amount", "not an amount"),
        ("2026-11-01,google,Brand,11,1 23.00,RUB", "amount", "not an amount"),
        ('2026-11-01,google,Brand,11,"1,234.56",RUB', "amount", "not an amount"),
        ('2026-11-01,google,Brand,11,"100,50",RUB', "amount", "a point"),
        ("2026-11-01,bing,Brand,11,100.50,RUB", "platform", "'bing'"),
        ("2026-11-01,,Brand,11,100.50,RUB", "platform", "empty"),
        ("2026-02-30,google,Brand,11,100.50,RUB", "day", "no day 2026-02-30"),
        ("11/01/2026,google,Brand,11,100.50,RUB", "day", "not a day"),
        ("Итого,,,,100.50,", "currency", "no currency"),
        ("Итого,google,,,100.50,RUB", "day", "not a day"),
        (",google,Brand,11,100.50,RUB", "day", "empty"),
        ("2026-11-01,google,Brand,1.23E+10,100.50,RUB", "campaign_id", "a spreadsheet"),
        ("2026-11-01,google,Brand,11.0,100.50,RUB", "campaign_id", "a spreadsheet"),
        ("2026-11-01,google,Brand,11,100.50", "", "5 cells under 6 headers"),
        ("2026-11-01,google,Brand, Moscow,11,100.50,RUB", "", "7 cells under 6 headers"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_good_ones_stay(write: Write, row: str, field: str, words: str) -> None:
    path = write(HEADER, GOOD, row, GOOD.replace("-01,", "-02,"))
    first, bad, last = read(path)
    assert first == SPEND
    assert last == SPEND._replace(day=date(2026, 11, 2))
    assert isinstance(bad, BadRow)
    assert (bad.where, bad.field) == (f"{path}:3", field)
    assert words in bad.problem


@pytest.mark.parametrize("cell", ["-1", "many", "1.5"])
def test_clicks_that_are_no_whole_number_are_told(write: Write, cell: str) -> None:
    (bad,) = read(write(HEADER + ",clicks", f"{GOOD},{cell}"))
    assert isinstance(bad, BadRow)
    assert bad.field == "clicks"


def test_a_vat_cell_with_a_rate_in_it_is_told(write: Write) -> None:
    (bad,) = read(write(HEADER + ",ндс", f"{GOOD},20%"))
    assert isinstance(bad, BadRow)
    assert bad.field == "vat_included"


def test_the_second_amount_for_one_campaign_and_day_is_refused_and_names_the_first_line(write: Write) -> None:
    """A sum or a correction? Only the person who made the file knows."""
    first, bad = read(write(HEADER, GOOD, GOOD.replace("100.50", "7")))
    assert first == SPEND
    assert isinstance(bad, BadRow)
    assert "line 2" in bad.problem


def test_campaigns_without_an_id_are_told_apart_by_name_whatever_the_case(write: Write) -> None:
    nameless = GOOD.replace(",11,", ",,")
    _, second, third = read(
        write(HEADER, nameless, nameless.replace("Brand", "Other"), nameless.replace("Brand", "bRAND"))
    )
    assert isinstance(second, Spend)
    assert isinstance(third, BadRow)


def test_one_campaign_in_two_accounts_is_two_spends(write: Write) -> None:
    one, two = spends(write(HEADER + ",account", f"{GOOD},a", f"{GOOD},"), account="b")
    assert (one.account, two.account) == ("a", "b")


def test_a_bad_first_row_does_not_block_the_corrected_second(write: Write) -> None:
    bad, good = read(write(HEADER, GOOD.replace("RUB", ""), GOOD))
    assert isinstance(bad, BadRow)
    assert good == SPEND


@pytest.mark.parametrize("missing", ["day", "platform", "amount", "currency"])
def test_a_missing_column_is_named_together_with_the_nearest_header(write: Write, missing: str) -> None:
    path = write(HEADER.replace(missing, f"{missing}s_"), GOOD)
    with pytest.raises(SourceError, match=f"no column {missing}") as caught:
        read(path)
    assert f"{missing}s_" in caught.value.advice
    assert caught.value.exit_code == Exit.USAGE


def test_a_file_without_any_campaign_column_is_refused(write: Write) -> None:
    with pytest.raises(SourceError, match="no column campaign"):
        read(write("day,platform,amount,currency", "2026-11-01,google,1,RUB"))


def test_two_columns_that_could_be_the_amount_are_refused(write: Write) -> None:
    with pytest.raises(SourceError, match="could both be amount"):
        read(write(HEADER + ",Расход", f"{GOOD},1"))


def test_an_empty_file_is_refused(write: Write) -> None:
    with pytest.raises(SourceError, match="empty"):
        read(write(""))


def test_a_file_that_is_not_there_is_a_slip_of_the_keyboard(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read(tmp_path / "nowhere.csv")


def test_a_wrong_encoding_is_noticed_before_any_row_is_taken(write: Write) -> None:
    with pytest.raises(SourceError, match="not utf-8-sig") as caught:
        read(write(HEADER, GOOD.replace("Brand", "Поиск"), encoding="cp1251"))
    assert "cp1251" in caught.value.advice


def test_an_unknown_encoding_is_a_usage_error(write: Write) -> None:
    with pytest.raises(UsageError, match="koi-nothing"):
        read(write(HEADER), encoding="koi-nothing")


def test_a_gzip_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode())[:-9])
    with pytest.raises(SourceError, match="damaged or cut short"):
        read(path)


def test_a_quote_never_closed_is_refused_before_any_row_is_taken(write: Write) -> None:
    with pytest.raises(SourceError, match=":3: not CSV"):
        read(write(HEADER, GOOD, '2026-11-02,google,"Brand,11,100.50,RUB'))


def test_the_line_of_a_row_counts_the_lines_inside_quoted_cells(write: Write) -> None:
    path = write(HEADER, '2026-11-01,google,"two\nlines",12,1,RUB', "", GOOD.replace("RUB", ""))
    _, bad = read(path)
    assert isinstance(bad, BadRow)
    assert bad.where == f"{path}:5"


def test_a_russian_export_with_semicolons_and_decimal_commas_is_read(write: Write) -> None:
    path = write(
        "Валюта;Расход;Клики;ДАТА;Площадка;Кампания;ID кампании;Показы;НДС;Лишнее",
        "rub;1\u00a0234,56;1 200;01.11.2026;Яндекс Директ;Поиск: бренд;777;30 000;да;x",
        encoding="cp1251",
    )
    assert spends(path, encoding="cp1251", decimal_comma=True) == [
        Spend(date(2026, 11, 1), "yandex", "", "777", "Поиск: бренд", 123456, "RUB", True, 1200, 30000)
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_in_the_header(write: Write, delimiter: str) -> None:
    assert spends(write(HEADER.replace(",", delimiter), GOOD.replace(",", delimiter))) == [SPEND]


def test_columns_come_in_any_order_case_and_spelling(write: Write) -> None:
    path = write("Currency,COST,CampaignId,Campaign Name,Platform,Date", "RUB,100.50,11,Brand,google,2026-11-01")
    assert spends(path) == [SPEND]


def test_a_byte_order_mark_and_gzip_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode("utf-8-sig")))
    assert spends(path) == [SPEND]


@pytest.mark.parametrize(
    ("word", "platform"),
    [
        ("Google Ads", "google"), ("GOOGLE", "google"), ("Яндекс", "yandex"), ("яндекс.директ", "yandex"), ("Директ", "yandex"),
        ("yandex_direct", "yandex"), ("ВК", "vk"), ("VK Ads", "vk"), ("myTarget", "vk"),
    ],
)  # fmt: skip
def test_a_platform_has_many_names(write: Write, word: str, platform: str) -> None:
    assert spends(write(HEADER, GOOD.replace("google", word)))[0].platform == platform


def test_minor_units_follow_the_currency(write: Write) -> None:
    rows = [
        GOOD.replace("100.50,RUB", f"100.5,{currency}").replace(",11,", f",{currency},") for currency in ("KWD", "JPY")
    ]
    assert [spend.amount for spend in spends(write(HEADER, *rows))] == [100500, 101]


def test_nothing_spent_is_an_amount(write: Write) -> None:
    assert spends(write(HEADER, GOOD.replace("100.50", "0")))[0].amount == 0


def test_what_is_not_told_stays_unknown(write: Write) -> None:
    (spend,) = spends(write(HEADER + ",clicks,impressions,vat", GOOD + ",,,"))
    assert (spend.clicks, spend.impressions, spend.vat_included) == (None, None, None)


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=20), st.booleans())
def test_amounts_survive_to_the_kopeck(
    tmp_path_factory: pytest.TempPathFactory, kopecks: list[int], comma: bool
) -> None:
    """However large, and with blanks between thousands."""
    path = tmp_path_factory.mktemp("costs") / "costs.csv"
    shown = [f"{Decimal(minor) / 100:,.2f}".replace(",", "\u202f") for minor in kopecks]
    cells = [amount.replace(".", ",") if comma else amount for amount in shown]
    lines = [f"2026-11-01;vk;;{at};{cell};RUB" for at, cell in enumerate(cells)]
    path.write_text("\n".join([HEADER.replace(",", ";"), *lines]), encoding="utf-8")
    assert sum(spend.amount for spend in spends(path, decimal_comma=comma)) == sum(kopecks)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_it_fail_unread(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Rows, bad rows or one of our errors: never a traceback."""
    path = tmp_path_factory.mktemp("costs") / "costs.csv"
    path.write_bytes(HEADER.encode() + b"\n" + data)
    try:
        rows = list(read(path))
    except ConvsyncError as error:
        assert error.exit_code == Exit.USAGE
    else:
        assert all(isinstance(row, Spend | BadRow) for row in rows)
