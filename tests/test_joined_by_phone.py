"""Whoever filled in a lead form is known again by the phone: whose campaign it was, and what that must not be taken for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.ledger import Ledger
from convsync.ledger.figures import FORM_TOLERANCE, FORM_WINDOW
from convsync.ledger.verify import verify
from convsync.mapping import Mapper, Rule
from convsync.model import Action, Tally, click_hash, person_hash

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
THEN = NOW - timedelta(days=10)
MOSCOW = ZoneInfo("Europe/Moscow")
PHONE = "+79161234567"
RULES = {"form_lead": Rule("micro", ()), "lead": Rule("lead", ()), "sale": Rule("sale", ())}


class Book:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger.open(path)
        self.mapper = Mapper(RULES, [], "RU", persons=True)

    def take(self, *actions: Action) -> None:
        self.ledger.plan.page(self.mapper.page(actions, NOW), now=int(NOW.timestamp() * 1000))

    def form(self, number: str = "1", **told: Any) -> None:
        known = {"occurred_at": THEN, "phone": PHONE, "campaign_id": "7", "utm_source": "vk_ads", "lead_form": "101"}
        self.take(Action("forms", number, "form_lead", **(known | told)))

    def sale(self, number: str = "s", **told: Any) -> None:
        known = {
            "occurred_at": THEN + timedelta(days=1),
            "phone": "8 (916) 123-45-67",
            "value": Decimal(5),
            "currency": "RUB",
        }
        self.take(Action("crm", number, "sale", **(known | told)))

    def tallies(self) -> list[Tally]:
        return list(self.ledger.figures.tallies(date(2020, 1, 1), date(2027, 1, 1), MOSCOW))

    def sales(self) -> list[tuple[str, str]]:
        """Platform and campaign that the sales count for."""
        return [(one.platform, one.campaign) for one in self.tallies() if one.action == "sale"]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "ledger.db")
    yield made
    assert verify(made.ledger.store) == []
    made.ledger.close()


# -- what is not joined


@pytest.mark.parametrize("phone", [None, "", "call me", "+7916", "+79161234568"])
def test_nobody_else_and_nobody_without_a_phone_is_joined(book: Book, phone: str | None) -> None:
    book.form()
    book.form("2", phone=None, campaign_id="8")
    book.form("3", phone="call me", campaign_id="9")
    book.sale(phone=phone)
    assert book.sales() == [("", "")]


def test_a_form_that_was_filled_in_later_brought_nothing(book: Book) -> None:
    book.form(occurred_at=THEN + timedelta(days=1) + FORM_TOLERANCE + timedelta(milliseconds=1))
    book.sale()
    assert book.sales() == [("", "")]


def test_a_form_of_long_ago_brought_nothing(book: Book) -> None:
    book.form(occurred_at=THEN + timedelta(days=1) - FORM_WINDOW - timedelta(milliseconds=1))
    book.sale()
    assert book.sales() == [("", "")]


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"utm_campaign": "own"}, ("", "own")),
        ({"campaign_id": "55", "utm_source": "vk"}, ("vk", "55")),
        ({"gclid": "Cj0"}, ("google", "")),
        ({"gclid": "known"}, ("google", "70")),
        ({"yclid": "1"}, ("yandex", "")),
        ({"utm_source": "google"}, ("google", "")),
    ],
)
def test_what_an_action_says_itself_goes_first(book: Book, told: dict[str, str], counts: tuple[str, str]) -> None:
    book.ledger.clicks.put("1234567890", NOW.date(), [(click_hash("known"), "70")], today=NOW.date())
    book.form()
    book.sale(**told)
    assert book.sales() == [counts]


def test_a_lead_form_without_a_campaign_is_not_joined_to_another(book: Book) -> None:
    book.form()
    book.form("2", campaign_id=None, occurred_at=THEN + timedelta(hours=1))
    assert sorted((one.platform, one.campaign, one.actions) for one in book.tallies()) == [
        ("vk", "", 1),
        ("vk", "7", 1),
    ]


def test_an_action_that_came_by_no_form_joins_nothing(book: Book) -> None:
    book.form(lead_form=None)
    book.sale()
    assert book.sales() == [("", "")]


def test_where_nothing_is_read_of_forms_no_phone_is_hashed(book: Book) -> None:
    book.mapper = Mapper(RULES, [], "RU")
    book.form()
    book.sale()
    assert book.ledger.store.one("SELECT count(*) FROM action WHERE person IS NOT NULL") == 0
    assert book.sales() == [("", "")]


# -- what is joined


@pytest.mark.parametrize("told", [{}, {"utm_source": "vk"}, {"rb_clickid": "x"}, {"utm_source": "newsletter"}])
def test_a_sale_counts_for_the_campaign_of_its_lead_form(book: Book, told: dict[str, str]) -> None:
    book.form()
    book.sale(**told)
    (sale,) = [one for one in book.tallies() if one.action == "sale"]
    assert (sale.platform, sale.campaign, sale.kind, sale.actions, sale.value) == ("vk", "7", "sale", 1, 500)


@pytest.mark.parametrize("ago", [FORM_WINDOW, timedelta(0), -FORM_TOLERANCE])
def test_the_window_holds_its_ends(book: Book, ago: timedelta) -> None:
    book.form(occurred_at=THEN + timedelta(days=1) - ago)
    book.sale()
    assert book.sales() == [("vk", "7")]


def test_the_last_form_before_it_counts(book: Book) -> None:
    book.form("1", campaign_id="first")
    book.form("3", campaign_id="later", occurred_at=THEN + timedelta(days=3))
    book.form("2", campaign_id="last", occurred_at=THEN + timedelta(hours=1))
    book.sale()
    assert book.sales() == [("vk", "last")]


def test_the_last_form_of_its_own_platform_counts(book: Book) -> None:
    book.form("1", campaign_id="vk's")
    book.form("2", campaign_id="another's", utm_source="google", occurred_at=THEN + timedelta(hours=1))
    book.sale(utm_source="vk")
    book.sale("t")
    assert sorted(book.sales()) == [("google", "another's"), ("vk", "vk's")]


def test_a_form_without_a_campaign_still_tells_the_platform(book: Book) -> None:
    book.form(campaign_id=None)
    book.sale()
    assert book.sales() == [("vk", "")]


def test_sales_are_joined_one_by_one_and_the_sum_stays(book: Book) -> None:
    for number in range(30):
        book.form(str(number), phone=f"+791600000{number:02}", campaign_id=str(number % 3))
    for number in range(60):
        book.sale(str(number), phone=f"8916 00000{number:02}")
    counted = {(one.platform, one.campaign): (one.actions, one.value) for one in book.tallies() if one.kind == "sale"}
    assert counted == {("vk", "0"): (10, 5000), ("vk", "1"): (10, 5000), ("vk", "2"): (10, 5000), ("", ""): (30, 15000)}


def test_the_form_may_come_into_the_ledger_after_the_sale(book: Book) -> None:
    book.sale()
    book.form()
    assert book.sales() == [("vk", "7")]


# -- what the source says later


def test_the_person_follows_a_corrected_phone(book: Book) -> None:
    book.form()
    book.sale(phone="+79990000000")
    assert book.sales() == [("", "")]
    book.sale()
    assert book.sales() == [("vk", "7")]
    book.form(phone="+79990000000")
    assert book.sales() == [("", "")]


def test_what_turns_out_to_be_a_lead_form_joins_what_is_known(book: Book) -> None:
    book.form(lead_form=None)
    book.sale()
    book.form()
    assert book.sales() == [("vk", "7")]


def test_the_same_again_changes_nothing(book: Book) -> None:
    book.form()
    book.sale()
    changes = book.ledger.store.conn.total_changes
    book.form()
    book.sale()
    assert book.ledger.store.conn.total_changes == changes


def test_an_action_that_nobody_configured_is_joined_as_well(book: Book) -> None:
    book.form()
    book.take(Action("crm", "x", "visit", THEN, phone=PHONE))
    assert ("vk", "7", 1) in [
        (one.platform, one.campaign, one.actions) for one in book.tallies() if one.action == "visit"
    ]


# -- the hash


def test_the_hash_of_a_person_is_for_ever() -> None:
    assert person_hash(PHONE) == int.from_bytes(bytes.fromhex("c795313d1a25fea4"), "big", signed=True)


@given(st.text())
def test_a_hash_fits_into_the_ledger(phone: str) -> None:
    assert -(2**63) <= person_hash(phone) < 2**63


def test_no_phone_is_in_the_ledger_in_clear(book: Book) -> None:
    book.form()
    book.sale()
    book.ledger.store.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = book.path.read_bytes()
    assert not any(form in found for form in (b"9161234567", b"123-45-67"))


SPAN = (date(2020, 1, 1), date(2027, 1, 1), MOSCOW)


def leads(book: Book, *ways: tuple[str, timedelta], form: str = "lead", **told: Any) -> list[tuple[str, str, int]]:
    """Forms at `THEN`, and what the CRM tells of the same people: action, and how much later."""
    for number, (action, later) in enumerate(ways):
        phone = f"+7916000000{number}"
        book.take(Action("forms", f"f{number}", form, THEN, phone=phone, lead_form="101"))
        book.take(Action("crm", f"c{number}", action, THEN + later, **({"phone": phone} | told)))
    return book.ledger.figures.told_twice(*SPAN)


@pytest.mark.parametrize("later", [-timedelta(hours=3), timedelta(0), timedelta(minutes=5), timedelta(hours=4)])
def test_a_lead_that_the_crm_tells_of_as_well_is_found(book: Book, later: timedelta) -> None:
    assert leads(book, ("lead", later), ("lead", later)) == [("forms", "crm", 2)]


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (("lead", timedelta(hours=5)), {}),
        (("sale", timedelta(minutes=5)), {}),
        (("lead", timedelta(minutes=5)), {"phone": "+79169999999"}),
        (("lead", timedelta(minutes=5)), {"phone": None}),
        (("lead", timedelta(minutes=5)), {"status": "spam"}),
        (("lead", timedelta(minutes=5)), {"form": "form_lead"}),
    ],
)
def test_what_does_not_count_twice_is_not_taken_for_it(
    book: Book, way: tuple[str, timedelta], told: dict[str, Any]
) -> None:
    assert leads(book, way, **told) == []


def test_only_rows_without_a_campaign_are_looked_up_and_by_an_index(book: Book) -> None:
    from convsync.ledger.figures import TALLIES

    book.tallies()  # lays out the days
    bound = {"since": 0, "until": 1}
    plan = [row[3] for row in book.ledger.store.conn.execute(f"EXPLAIN QUERY PLAN {TALLIES}", bound)]
    assert any("USING INDEX action_form (person=? AND occurred_at>? AND occurred_at<?)" in step for step in plan)
    assert sum(step.startswith("SCAN") for step in plan) == 1


def test_leads_told_twice_are_looked_up_by_an_index(book: Book) -> None:
    from convsync.ledger.figures import TOLD_TWICE

    plan = [
        row[3] for row in book.ledger.store.conn.execute(f"EXPLAIN QUERY PLAN {TOLD_TWICE}", {"since": 0, "until": 1})
    ]
    assert [step for step in plan if step.startswith(("SCAN", "SEARCH"))] == [
        "SCAN a",
        "SEARCH f USING INDEX action_form (person=? AND occurred_at>? AND occurred_at<?)",
    ]
