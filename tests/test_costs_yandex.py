"""What Yandex.Direct says was spent: whose account it is, what is asked, and how a report is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.costs import yandex
from convsync.costs.yandex import COLUMNS, Row
from convsync.errors import ConfigError, PlatformUnavailable, SourceError
from convsync.model import Account, Spend

SHOP = Account("yandex", "shop-direct", "", "RUB", "Europe/Moscow")
DAY = timedelta(days=1)
FIRST, LAST = date(2026, 11, 16), date(2026, 11, 22)
HEAD = "\t".join(COLUMNS)


class Told:
    """A Direct that tells what the test says; `longest` days are as many as fit into one report."""

    def __init__(self, *reports: str, longest: int = 1000, **client: str) -> None:
        self.reports = list(reports)
        self.longest = longest
        self.told = client
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def client(self, login: str) -> Mapping[str, Any]:
        return self.told

    def report(self, login: str, params: Mapping[str, Any]) -> bytes | None:
        self.asked.append((login, params))
        first, last = self.span(params)
        if (last - first).days >= self.longest:
            return None
        return (self.reports.pop(0) if self.reports else HEAD).encode()

    @staticmethod
    def span(params: Mapping[str, Any]) -> tuple[date, date]:
        said = params["SelectionCriteria"]
        return date.fromisoformat(said["DateFrom"]), date.fromisoformat(said["DateTo"])


def line(day: object = LAST, cost: str = "12.30", **cells: str) -> str:
    said = {"Date": str(day), "CampaignId": "77", "CampaignName": "Brand", "Impressions": "50", "Clicks": "3"}
    return "\t".join((said | {"Cost": cost} | cells).values())


def read(*lines: str) -> list[Row]:
    return list(yandex.rows("\n".join([HEAD, *lines]).encode()))


def spends(direct: Told, account: Account = SHOP, *, vat: bool = False) -> tuple[list[Spend], list[Row]]:
    blank: list[Row] = []
    found = yandex.spends(direct, account.id, account, FIRST, LAST, vat=vat, stamp="1", blank=blank.append)
    return list(found), blank


# -- whose account


def test_an_agency_has_no_cost_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"my-agency is an agency.*cost_client_logins"):
        yandex.client(Told(Login="my-agency", Type="AGENCY"), "", "RUB")


def test_a_currency_that_nobody_told_is_not_guessed() -> None:
    with pytest.raises(ConfigError, match=r"does not tell the currency.*direct_currency"):
        yandex.client(Told(Login="shop-direct"), "", None)


def test_a_currency_told_otherwise_than_written_stops_the_account() -> None:
    with pytest.raises(ConfigError, match=r"counts the account shop-direct in KZT, direct_currency says RUB"):
        yandex.client(Told(Login="shop-direct", Currency="KZT"), "", "RUB")


def test_the_units_of_old_accounts_are_no_currency() -> None:
    with pytest.raises(SourceError, match="'YND_FIXED', which is no currency of ISO 4217"):
        yandex.client(Told(Login="shop-direct", Currency="YND_FIXED"), "", None)


def test_a_token_of_nobody_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match=r"whose account the token opens.*client_login"):
        yandex.client(Told(Currency="RUB"), "", None)


def test_an_account_is_its_login_and_days_are_those_of_moscow() -> None:
    found = yandex.client(Told(Login="Shop-Direct", Currency="RUB", ClientId="5"), "", None)
    assert found == (SHOP, "5")
    named = yandex.client(Told(Login="somebody", Currency="KZT"), "Second-Direct", "KZT")
    assert (named.account.id, named.account.currency, named.number) == ("second-direct", "KZT", "")
    assert yandex.client(Told(), "shop-direct", "RUB").account == SHOP


# -- what is asked


def test_a_report_has_a_name_of_its_own_and_the_same_question_the_same_name() -> None:
    def name(account: str = "a", since: date = FIRST, *, vat: bool = False, stamp: str = "1") -> str:
        return str(yandex.params(account, since, LAST, vat=vat, stamp=stamp)["ReportName"])

    assert name() == name()
    others = {name("b"), name(since=FIRST + DAY), name(vat=True), name(stamp="2")}
    assert len(others) == 4
    assert name() not in others
    assert name().startswith("convsync-")
    assert len(name(stamp="1790000000000")) < 255


def test_a_report_is_asked_for_by_campaign_and_day_with_the_vat_that_was_wished_for() -> None:
    direct = Told()
    assert spends(direct) == ([], [])
    ((login, params),) = direct.asked
    assert login == SHOP.id
    assert params["FieldNames"] == ["Date", "CampaignId", "CampaignName", "Impressions", "Clicks", "Cost"]
    assert params["SelectionCriteria"] == {"DateFrom": "2026-11-16", "DateTo": "2026-11-22"}
    assert (params["ReportType"], params["DateRangeType"]) == ("CAMPAIGN_PERFORMANCE_REPORT", "CUSTOM_DATE")
    assert params["IncludeVAT"] == "NO"
    assert yandex.params("a", FIRST, LAST, vat=True, stamp="1")["IncludeVAT"] == "YES"


@pytest.mark.parametrize("longest", [1, 2, 3, 6, 7])
def test_what_takes_too_long_is_asked_for_in_halves_that_leave_no_day_out(longest: int) -> None:
    direct = Told(longest=longest)
    spends(direct)
    answered = [direct.span(params) for _, params in direct.asked]
    days = [
        first + number * DAY
        for first, last in answered
        if (last - first).days < longest
        for number in range((last - first).days + 1)
    ]
    assert days == [FIRST + number * DAY for number in range(7)]
    assert len({params["ReportName"] for _, params in direct.asked}) == len(direct.asked)


def test_a_day_that_takes_too_long_ends_it_at_once() -> None:
    direct = Told(longest=0)
    with pytest.raises(PlatformUnavailable, match="2026-11-16 in time"):
        spends(direct)
    assert len(direct.asked) == 4, "7 days, 4, 2, 1: whoever is down is not asked about every day"


# -- what a report says


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "does not name its columns"),
        (b"Date\tCampaignId\n", "does not name its columns"),
        (f"a\nb\n{HEAD}\n".encode(), "does not name its columns"),
        (b"\xff\xfe", "is not UTF-8"),
        (f"{HEAD}\n{line()}\n{line()[:20]}".encode(), "cells in line 3, not 6"),
        (f"{HEAD}\n\n{line()}".encode(), "1 cells in line 2, not 6"),
        (f"{HEAD}\nTotal rows: 1\n{line()}".encode(), "1 cells in line 2"),
        (f"{HEAD}\n{line('22.11.2026')}".encode(), "no usable Date in line 2"),
        (f"{HEAD}\n{line(CampaignId='--')}".encode(), "no usable CampaignId in line 2"),
        (f"{HEAD}\n{line(Clicks='1.5')}".encode(), "no usable Clicks in line 2"),
        (f"{HEAD}\n{line(Impressions='')}".encode(), "no usable Impressions in line 2"),
        (f"{HEAD}\n{line(cost='12,30')}".encode(), "no usable Cost in line 2"),
        (f"{HEAD}\n{line(cost='nan')}".encode(), "no usable Cost in line 2"),
        (f"{HEAD}\n{line(cost='12300000')}".encode(), r"no usable Cost in line 2 \(it seems to be in millionths\)"),
    ],
)
def test_a_report_that_cannot_be_trusted_is_refused_and_its_content_is_not_shown(said: bytes, problem: str) -> None:
    with pytest.raises(SourceError, match=problem) as refused:
        list(yandex.rows(said))
    assert "Brand" not in str(refused.value)


def test_lines_around_the_rows_are_known_for_what_they_are() -> None:
    rows = f'"convsync-1 (2026-11-16 - 2026-11-22)"\n{HEAD}\n{line()}\nTotal rows: 1\n'
    assert list(yandex.rows(rows.encode())) == read(line())
    assert read() == []
    assert read("Total rows: 0") == []


def test_columns_are_found_by_their_names_in_any_order() -> None:
    turned = "\n".join("\t".join(["x", *reversed(one.split("\t"))]) for one in (HEAD, line()))
    assert list(yandex.rows(turned.encode())) == read(line())


def test_no_value_is_not_zero() -> None:
    (row,) = read(line(cost="--", Clicks="--", Impressions="--"))
    assert (row.cost, row.clicks, row.impressions) == (None, None, None)
    found, blank = spends(Told(f"{HEAD}\n{line(cost='--')}\n{line(LAST - DAY, Clicks='--')}"))
    assert [(one.day, one.amount, one.clicks) for one in found] == [(LAST - DAY, 1230, None)]
    assert blank == read(line(cost="--"))


@pytest.mark.parametrize("lines", [(line(), line()), (line(LAST + DAY),), (line(FIRST - DAY),)])
def test_a_row_told_twice_or_of_a_day_nobody_asked_about_is_not_counted(lines: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match="unasked or twice"):
        spends(Told("\n".join([HEAD, *lines])))


def test_a_row_becomes_minor_units_of_the_account_with_its_vat() -> None:
    name = 'Бренд "Осень"   \u2028 \x0b 2026'
    (found,), _ = spends(Told(f"{HEAD}\n{line(CampaignName=name)}\n"), vat=True)
    assert found == Spend(LAST, "yandex", SHOP.id, "77", 'Бренд "Осень" 2026', 1230, "RUB", True, 3, 50)
    (yen,), _ = spends(Told(f"{HEAD}\n{line(cost='12.50')}"), SHOP._replace(currency="JPY"))
    assert (yen.amount, yen.vat_included) == (13, False)
    (taken_back,), _ = spends(Told(f"{HEAD}\n{line(cost='-0.55')}"))
    assert taken_back.amount == -55


@given(st.integers(min_value=0, max_value=10**13))
def test_amounts_are_exact_whatever_their_size(kopecks: int) -> None:
    (row,) = read(line(cost=f"{kopecks // 100}.{kopecks % 100:02d}"))
    assert row.cost == Decimal(kopecks) / 100
    (found,), _ = spends(Told(f"{HEAD}\n{line(cost=f'{kopecks // 100}.{kopecks % 100:02d}')}"))
    assert found.amount == kopecks


@given(st.binary())
def test_whatever_comes_is_read_or_refused(said: bytes) -> None:
    try:
        list(yandex.rows(said))
    except SourceError as problem:
        assert problem.advice


@given(st.lists(st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"])), max_size=5))
def test_a_name_never_breaks_its_row(names: list[str]) -> None:
    found = read(*(line(CampaignId=str(number), CampaignName=name) for number, name in enumerate(names)))
    assert [row.campaign for row in found] == [" ".join(name.split()) for name in names]
