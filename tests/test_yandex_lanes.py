"""Orders with a life that does not go as it should: dates, numbers and ids that change, and rows out of their order."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from worlds import World


@pytest.fixture
def metrica(world: World) -> World:
    world.platforms = ("yandex",)
    return world


def shut(world: World) -> None:
    """A run of which nothing leaves: what it plans waits."""
    world.token = "no-such-token"
    assert world.sync().exit_code == 2
    world.token = "sandbox-token"


def skipped(world: World) -> dict[str, str]:
    return {one["external_id"]: one["reason"] for one in world.ledger.audit.skipped()}


def test_a_refund_follows_its_sale_whenever_the_source_says_by_then_that_it_happened(metrica: World) -> None:
    sale = metrica.action("a")
    metrica.given(sale)
    metrica.sync()
    metrica.given(sale._replace(status="refunded", occurred_at=sale.occurred_at - timedelta(minutes=1)))
    metrica.sync()
    assert metrica.orders()["order-a"]["status"] == "CANCELLED"


def test_a_lead_that_is_dated_behind_its_sale_afterwards_does_not_turn_the_order_back(metrica: World) -> None:
    now = metrica.clock.now()
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=now - timedelta(days=2))
    sale = metrica.action("sale", order_id="deal")
    metrica.given(lead, sale)
    metrica.sync()
    moved = lead._replace(occurred_at=now - timedelta(minutes=1), value=Decimal(5), currency="RUB")
    metrica.given(moved, sale)
    metrica.sync()
    assert metrica.orders()["deal"]["status"] == "PAID"
    metrica.given(moved, sale._replace(status="refunded"))
    metrica.sync()
    assert metrica.orders()["deal"]["status"] == "CANCELLED"


def test_an_order_that_is_given_a_number_later_stays_the_order_it_was(metrica: World) -> None:
    sale = metrica.action("a", order_id=None)
    metrica.given(sale)
    metrica.sync()
    metrica.given(sale._replace(order_id="deal", value=Decimal(70)))
    metrica.sync()
    assert {name: one["revenue"] for name, one in metrica.orders().items()} == {"shop:a": "70"}


def test_an_order_that_waits_takes_on_the_number_that_it_was_given(metrica: World) -> None:
    sale = metrica.action("a", order_id=None)
    metrica.given(sale)
    shut(metrica)
    metrica.given(sale._replace(order_id="deal"))
    metrica.sync()
    assert set(metrica.orders()) == {"deal"}


def test_a_refund_that_names_nobody_finds_the_order_that_had_no_number(metrica: World) -> None:
    sale = metrica.action("a", order_id=None)
    metrica.given(sale, metrica.action("b", order_id=None, ym_client_id=None, status="refunded"))
    metrica.sync()
    metrica.given(sale._replace(status="refunded", ym_client_id=None))
    metrica.sync()
    assert {name: one["status"] for name, one in metrica.orders().items()} == {"shop:a": "CANCELLED"}


def test_an_order_that_waits_and_loses_its_ids_goes_with_those_it_had(metrica: World) -> None:
    sale = metrica.action("a")
    metrica.given(sale)
    shut(metrica)
    metrica.given(sale._replace(ym_client_id=None, value=Decimal(70)))
    metrica.sync()
    order = metrica.orders()["order-a"]
    assert (order["revenue"], list(order["identifiers"])) == ("70", ["client_ids"])


def test_a_row_that_names_nobody_may_stand_before_its_lead_in_the_page(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=metrica.clock.now() - timedelta(days=2))
    metrica.given(metrica.action("sale", order_id="deal", ym_client_id=None), lead)
    metrica.sync()
    assert metrica.orders()["deal"]["status"] == "PAID"


def test_a_lead_that_names_nobody_does_not_go_before_the_sale_that_does(metrica: World) -> None:
    lead = metrica.action(
        "lead", "lead", order_id="deal", ym_client_id=None, occurred_at=metrica.clock.now() - timedelta(2)
    )
    metrica.given(metrica.action("sale", order_id="deal"), lead)
    assert metrica.sync().exit_code == 0
    assert [one["status"] for one in metrica.orders()["deal"]["versions"]] == ["PAID"]
    assert skipped(metrica) == {"lead": "no_identifier"}


def test_a_late_lead_does_not_date_the_order_of_a_sale_that_waits(metrica: World) -> None:
    sale = metrica.action("sale", order_id="deal")
    lead = metrica.action("lead", "lead", order_id="deal", occurred_at=metrica.clock.now() - timedelta(days=30))
    metrica.given(sale, lead)
    metrica.sync()
    assert metrica.states("yandex") == {"lead": "expired", "sale": "accepted"}
    assert metrica.orders()["deal"]["created"][:10] == str(metrica.clock.now())[:10]


def test_contacts_of_somebody_who_said_no_do_not_go_with_another_row_of_the_order(metrica: World) -> None:
    lead = metrica.action("lead", "lead", order_id="deal", email="anna@example.com")
    metrica.given(lead)
    shut(metrica)
    metrica.given(lead._replace(consent_ad_user_data=False))
    metrica.sync()
    metrica.given(metrica.action("sale", order_id="deal", ym_client_id="1700000000000000001"))
    metrica.sync()
    assert metrica.orders()["deal"]["identifiers"] == {"client_ids": ["1700000000000000001"]}


def test_orders_that_expired_go_when_the_operator_says_that_late_ones_do(metrica: World) -> None:
    metrica.given(metrica.action("old", occurred_at=metrica.clock.now() - timedelta(days=22)))
    metrica.sync()
    metrica.sync()
    assert [row["state"] for row in metrica.rows("yandex")] == ["expired"]
    metrica.yandex_options = {"late_orders": "send"}
    metrica.sync()
    assert metrica.states("yandex") == {"old": "accepted"}


def test_contacts_that_were_planned_in_clear_leave_hashed_when_the_operator_says_so_by_then(metrica: World) -> None:
    metrica.yandex_options = {"contact_hash": "none"}
    metrica.given(metrica.action("a", ym_client_id=None, email="anna@example.com"))
    shut(metrica)
    metrica.yandex_options = {}
    metrica.given()
    metrica.sync()
    assert list(metrica.orders()["order-a"]["identifiers"]) == ["emails_md5"]
    metrica.is_sound()


def test_an_order_number_with_an_at_sign_is_no_contact(metrica: World) -> None:
    metrica.given(metrica.action("a", order_id="A@1"))
    metrica.sync()
    metrica.is_sound()
