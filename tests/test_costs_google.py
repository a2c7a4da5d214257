"""What Google says was spent, row by row, and which days are asked for."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ads_rows import Asked, row
from convsync.costs import google
from convsync.costs.google import Accounts
from convsync.errors import SourceError
from convsync.model import Account, Spend, click_hash

SHOP = Account("google", "1234567890", "Shop", "RUB", "Europe/Moscow")
TODAY = date(2026, 11, 22)
DAY = timedelta(days=1)


def customer(**fields: object) -> object:
    told = {
        "id": SHOP.id,
        "descriptive_name": "Shop",
        "currency_code": "RUB",
        "time_zone": "Europe/Moscow",
        "status": "ENABLED",
    }
    return row(customer=told | fields)


def client(number: int, **fields: object) -> object:
    told = {"id": number, "descriptive_name": f"Client {number}", "currency_code": "KZT", "time_zone": "Asia/Almaty"}
    return row(customer_client=told | {"status": "ENABLED", "manager": False} | fields)


def cost(micros: int, **fields: object) -> object:
    metrics = {"cost_micros": micros, "clicks": 3, "impressions": 50}
    return row(campaign={"id": 7, "name": "Brand"}, segments={"date": "2026-11-21"}, metrics=metrics, **fields)


# -- accounts


def test_an_account_in_no_currency_is_refused() -> None:
    with pytest.raises(SourceError, match="no currency of ISO 4217"):
        google.accounts(Asked(customer=[customer(currency_code="XXX")]), SHOP.id)


@pytest.mark.parametrize("status", ["CANCELED", "SUSPENDED", "CLOSED"])
def test_an_account_that_is_not_in_use_is_named_and_not_asked(status: str) -> None:
    assert google.accounts(Asked(customer=[customer(status=status)]), SHOP.id) == Accounts((), (SHOP.id,))


def test_a_manager_stands_for_the_clients_below_it() -> None:
    asked = Asked(customer=[customer(manager=True)], customer_client=[client(5), client(6, status="CLOSED"), client(8)])
    found = google.accounts(asked, SHOP.id)
    assert [one.id for one in found.spending] == ["5", "8"]
    assert found.spending[0] == Account("google", "5", "Client 5", "KZT", "Asia/Almaty")
    assert found.closed == ("6",)


def test_an_account_is_asked_about_itself_alone() -> None:
    asked = Asked(customer=[customer()])
    assert google.accounts(asked, SHOP.id) == Accounts((SHOP,), ())
    assert len(asked.queries) == 1


# -- cost


def test_micros_become_minor_units_half_a_unit_rounded_up() -> None:
    asked = Asked(campaign=[cost(12_345_000), cost(12_344_999), cost(0)])
    assert [one.amount for one in google.spends(asked, SHOP, TODAY, TODAY)] == [1235, 1234, 0]
    dinars = SHOP._replace(currency="KWD")
    assert [one.amount for one in google.spends(Asked(campaign=[cost(1_234_500)]), dinars, TODAY, TODAY)] == [1235]
    yen = SHOP._replace(currency="JPY")
    assert [one.amount for one in google.spends(Asked(campaign=[cost(1_500_000)]), yen, TODAY, TODAY)] == [2]


@given(st.integers(min_value=0, max_value=10**15))
def test_no_amount_is_more_than_half_a_kopeck_off(micros: int) -> None:
    (one,) = google.spends(Asked(campaign=[cost(micros)]), SHOP, TODAY, TODAY)
    assert abs(one.amount * 10_000 - micros) <= 5_000


def test_a_row_has_its_campaign_and_no_vat() -> None:
    asked = Asked(campaign=[cost(1_000_000)])
    (one,) = google.spends(asked, SHOP, TODAY - DAY, TODAY)
    assert one == Spend(TODAY - DAY, "google", SHOP.id, "7", "Brand", 100, "RUB", False, 3, 50)
    assert "BETWEEN '2026-11-21' AND '2026-11-22'" in asked.queries[0][1]


def test_rows_are_handed_on_as_they_arrive() -> None:
    rows = google.spends(Asked(campaign=[cost(1_000_000), ConnectionError()]), SHOP, TODAY, TODAY)
    assert next(rows).amount == 100
    with pytest.raises(ConnectionError):
        next(rows)


# -- clicks


def test_clicks_come_as_hashes_with_their_campaign() -> None:
    seen = [
        row(click_view={"gclid": gclid}, campaign={"id": 7}, segments={"date": "2026-11-21"}) for gclid in ("abc", "")
    ]
    asked = Asked(click_view=seen)
    assert list(google.clicks(asked, SHOP, TODAY - DAY)) == [(click_hash("abc"), "7")]
    assert asked.queries[0][1].endswith("WHERE segments.date = '2026-11-21'")
