"""What a lead costs: nothing is added that cannot be added, and every gap has its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.errors import UsageError
from convsync.model import Spend, Tally
from convsync.normalise import major
from convsync.report.rows import DIMENSIONS, FIGURES, Row, build

DAY = date(2026, 11, 20)
PULL_AGAIN = f"To read Yandex's again, as direct_vat says: convsync costs pull --since {DAY - timedelta(days=9)}"
PULL_VK_AGAIN = PULL_AGAIN.replace("Yandex's", "VK's").replace("direct_vat", "vat_rate")
IMPORT_AGAIN = "Import its files again with the column vat_included."


def tally(
    actions: int,
    kind: str = "lead",
    *,
    platform: str = "google",
    campaign: str = "11",
    value: int | None = None,
    currency: str | None = None,
    day: date = DAY,
    action: str = "",
    source: str = "shop",
    deliveries: tuple[int, int, int] = (0, 0, 0),
) -> Tally:
    currency = currency or ("RUB" if value is not None else None)
    return Tally(day, platform, campaign, action or kind, kind, source, currency, actions, value, *deliveries)


def spend(
    amount: int,
    *,
    platform: str = "google",
    campaign_id: str = "11",
    campaign: str = "Brand",
    currency: str = "RUB",
    clicks: int | None = 100,
    day: date = DAY,
    vat: bool | None = True,
) -> Spend:
    return Spend(day, platform, "", campaign_id, campaign, amount, currency, vat, clicks)


def only(rows: Sequence[Row]) -> Row:
    """The total, of a report by nothing."""
    (row,) = rows
    assert row.total
    return row


def named(rows: Sequence[Row], *parts: str) -> Row:
    (row,) = [row for row in rows if tuple(part for _, part in row.dimensions) == parts]
    return row


def says(row: Row, words: str) -> bool:
    return any(words in note for note in row.notes)


# --- what cannot be computed ------------------------------------------------------------------------------------------


def test_without_cost_nothing_is_free() -> None:
    row = only(build([tally(5), tally(2, "sale", value=10000)], []))
    assert (row.cost, row.clicks, row.cpl, row.cpa, row.roas, row.cr) == (None,) * 6
    assert (row.leads, row.sales, row.value, row.currency) == (5, 2, Decimal("100.00"), "RUB")
    assert says(row, "No cost is known: cost, clicks, cpl, cpa, roas and cr")


def test_cost_without_actions_is_shown_and_has_no_cost_per_lead() -> None:
    row = named(build([], [spend(5000)], by=("campaign",)), "Brand")
    assert (row.cost, row.actions, row.cpl, row.cpa, row.value, row.roas, row.coverage) == (
        Decimal("50.00"),
        0,
        *[None] * 5,
    )
    assert says(row, "No leads")
    assert says(row, "No sales")


def test_clicks_that_are_missing_for_a_part_are_missing_for_the_sum() -> None:
    row = only(build([tally(5)], [spend(100, clicks=7), spend(100, campaign_id="12", clicks=None)]))
    assert (row.clicks, row.cr) == (None, None)
    assert says(row, "A part of the cost came without clicks: clicks and cr")


def test_no_clicks_is_no_division_by_zero() -> None:
    row = only(build([tally(5)], [spend(100, clicks=0)]))
    assert (row.clicks, row.cr) == (0, None)
    assert says(row, "No clicks: cr")


def test_nothing_spent_makes_leads_free_but_returns_nothing_per_rouble() -> None:
    row = only(build([tally(5), tally(1, "sale", value=100)], [spend(0)]))
    assert (row.cost, row.cpl, row.cpa, row.roas) == (Decimal("0.00"), 0, 0, None)
    assert says(row, "Nothing was spent: roas")


@pytest.mark.parametrize("by", [("action",), ("source",), ("platform", "action")])
def test_cost_is_never_split_by_what_it_does_not_have(by: tuple[str, ...]) -> None:
    rows = build([tally(5), tally(2, "sale", value=700)], [spend(1000)], by=by)
    *parts, total = rows
    costless = [row for row in parts if row.actions]
    assert all((row.cost, row.cpl, row.cpa, row.roas, row.clicks) == (None,) * 5 for row in costless)
    assert all(says(row, f"Cost cannot be split by {by[-1]}, it stands in the row (cost)") for row in costless)
    (cost,) = [row for row in parts if not row.actions]
    assert cost.dimensions[-1] == (by[-1], "(cost)")
    assert cost.cost == total.cost == Decimal("10.00")
    assert total.cpl == 2


def test_cost_in_two_currencies_has_no_sum_but_is_told() -> None:
    row = only(build([tally(5)], [spend(10000), spend(500, platform="vk", currency="USD")]))
    assert (row.cost, row.cpl, row.currency) == (None, None, None)
    assert says(
        row, "Cost is in several currencies (100.00 RUB, 5.00 USD) and there is no rate: cost, cpl, cpa and roas"
    )


def test_sales_in_two_currencies_have_no_sum_but_the_leads_still_have_a_price() -> None:
    sales = [tally(1, "sale", value=10000), tally(1, "sale", value=500, currency="USD")]
    row = only(build([tally(5), *sales], [spend(10000)]))
    assert (row.value, row.roas, row.cpl, row.cpa) == (None, None, 20, 50)
    assert says(row, "Sales are in several currencies (100.00 RUB, 5.00 USD)")


def test_value_in_another_currency_than_the_cost_is_told_apart() -> None:
    row = only(build([tally(1, "sale", value=500, currency="USD")], [spend(10000)], currency="RUB"))
    assert (row.currency, row.value, row.roas, row.cpa) == ("RUB", None, None, 100)
    assert says(row, "Sales are in USD (5.00), cost is in RUB, and there is no rate: value and roas")


def test_money_all_in_another_currency_keeps_it_and_says_that_there_is_no_rate() -> None:
    row = only(build([tally(4)], [spend(500, currency="USD")], currency="RUB"))
    assert (row.cost, row.currency, row.cpl) == (Decimal("5.00"), "USD", Decimal("1.25"))
    assert says(row, "There is no rate from USD to RUB: money is shown in USD.")


def test_a_zero_in_another_currency_does_not_hide_the_sum() -> None:
    row = only(build([tally(4)], [spend(500), spend(0, platform="vk", currency="USD")], currency="RUB"))
    assert (row.cost, row.currency) == (Decimal("5.00"), "RUB")


def test_sales_without_value_are_told() -> None:
    row = only(build([tally(3, "sale"), tally(1, "sale", value=1000)], [spend(100)]))
    assert row.value == Decimal("10.00")
    assert says(row, "Sales without a value: 3 of 4.")
    assert says(only(build([tally(3, "sale")], [])), "No sale has a value: value and roas")


def test_coverage_needs_something_addressed() -> None:
    row = only(build([tally(3)], []))
    assert row.coverage is None
    assert says(row, "Nothing was addressed to a platform: coverage")


def test_where_something_was_skipped_the_missing_coverage_says_where_the_reasons_are() -> None:
    see = "Nothing was addressed to a platform (what was skipped, and why: convsync ledger list --skipped): coverage"
    assert says(only(build([tally(3)], [], skipping=("google",))), see)
    assert not says(only(build([tally(3)], [], skipping=("vk",))), "skipped"), "nothing is sent to Google"
    assert not says(only(build([tally(3, platform="")], [], skipping=("google",))), "skipped")
    assert not says(only(build([], [spend(1)], skipping=("google",))), "skipped")


def test_an_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no dimension 'campain'") as caught:
        build([], [], by=("campain",))
    assert "campaign" in caught.value.advice


@pytest.mark.parametrize("wrong", [{"by": ("day", "day")}, {"basis": "lead"}])
def test_a_dimension_twice_and_an_unknown_basis_are_usage_errors(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        build([], [], **wrong)  # type: ignore[arg-type]


# --- what misleads unless it is told ----------------------------------------------------------------------------------


def test_a_platform_without_cost_in_a_sum_is_told() -> None:
    row = only(build([tally(5), tally(7, platform="vk")], [spend(1200)]))
    assert row.cpl == 1
    assert says(row, "No cost of vk is known, so its leads and sales (7) make cpl and cpa too low.")


def test_actions_of_no_known_platform_in_a_sum_are_told() -> None:
    row = only(build([tally(5), tally(7, platform="")], [spend(1200)]))
    assert says(row, "Leads and sales that no known platform brought (7) count")


def test_actions_on_days_without_cost_are_told() -> None:
    late = tally(3, day=DAY + timedelta(days=2))
    assert says(only(build([tally(5), late], [spend(800)])), "Cost of google covers 2026-11-20 to 2026-11-20")
    daily = build([tally(5), late], [spend(800)], by=("day",))
    assert named(daily, "2026-11-22").cost is None


def test_days_on_which_nothing_was_spent_have_a_cost_if_the_platform_was_asked_about_them() -> None:
    late = tally(3, day=DAY + timedelta(days=2))
    asked = {"google": (DAY - timedelta(days=30), DAY + timedelta(days=2))}
    assert not says(only(build([tally(5), late], [spend(800)], asked=asked)), "Cost of google covers")
    later = tally(3, day=DAY + timedelta(days=3))
    assert says(
        only(build([tally(5), later], [spend(800)], asked=asked)), "Cost of google covers 2026-10-21 to 2026-11-22"
    )


def test_amounts_with_and_without_vat_in_one_sum_are_told() -> None:
    assert says(only(build([], [spend(1), spend(1, campaign_id="12", vat=False)])), "The cost mixes")
    assert not says(only(build([], [spend(1, vat=None), spend(1, campaign_id="12", vat=None)])), "The cost mixes")


@pytest.mark.parametrize(
    ("told", "pulled", "mend"),
    [
        ([("yandex", True), ("yandex", False)], True, PULL_AGAIN),  # direct_vat was changed between two pulls
        ([("yandex", None), ("yandex", False)], True, PULL_AGAIN),
        ([("yandex", True), ("google", False)], True, PULL_AGAIN),
        ([("yandex", True), ("google", False)], False, IMPORT_AGAIN),  # neither came from the platform itself
        ([("yandex", False), ("google", False), ("vk", None)], True, IMPORT_AGAIN),
        ([("google", True), ("google", False)], True, IMPORT_AGAIN),
        ([("vk", True), ("vk", False)], True, PULL_VK_AGAIN),  # vat_rate was changed between two pulls
        ([("vk", True), ("google", False)], True, PULL_VK_AGAIN),
        ([("vk", True), ("vk", False)], False, IMPORT_AGAIN),
    ],
)
def test_a_mix_of_vat_tells_how_to_mend_it(told: list[tuple[str, bool | None]], pulled: bool, mend: str) -> None:
    spends = [spend(1, platform=platform, vat=vat, campaign_id=str(at)) for at, (platform, vat) in enumerate(told)]
    asked = dict.fromkeys(("yandex", "vk"), (DAY - timedelta(days=9), DAY)) if pulled else {}
    (note,) = [note for note in only(build([], spends, asked=asked)).notes if note.startswith("The cost mixes")]
    assert note.endswith(f" nobody said. {mend}")


def test_deliveries_nobody_knows_of_are_told_and_count_as_not_taken() -> None:
    row = only(build([tally(10, deliveries=(8, 6, 2))], []))
    assert row.coverage == Decimal("0.75")
    assert says(row, "nobody knows yet: 2.")


# --- what belongs to which campaign -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["11", "Brand", "bRAND", " brand "])
def test_an_action_finds_its_campaign_by_id_or_by_name_whatever_the_case(text: str) -> None:
    rows = build([tally(4, campaign=text)], [spend(1000)], by=("platform", "campaign"))
    assert named(rows, "google", "Brand").cpl == Decimal("2.5")


def test_the_id_of_one_campaign_wins_over_the_name_of_another() -> None:
    rows = build([tally(4)], [spend(1000), spend(9000, campaign_id="22", campaign="11")], by=("campaign",))
    assert named(rows, "Brand").cost == Decimal("10.00")
    assert named(rows, "Brand").leads == 4


def test_a_campaign_of_another_platform_is_another_campaign() -> None:
    rows = build([tally(4, platform="yandex")], [spend(1000)], by=("platform", "campaign"))
    assert named(rows, "yandex", "11").cost is None
    assert named(rows, "google", "Brand").leads == 0


def test_a_name_that_fits_two_campaigns_takes_the_cost_of_neither() -> None:
    spends = [spend(1000), spend(2000, campaign_id="12")]
    rows = build([tally(4, campaign="brand"), tally(1, campaign="12")], spends, by=("campaign",))
    assert named(rows, "brand").cost is None
    assert says(named(rows, "brand"), "Several campaigns are called 'brand' (11, 12)")
    assert named(rows, "Brand (12)").cpl == 20


def test_a_renamed_campaign_stays_one_under_its_latest_name() -> None:
    spends = [spend(1000), spend(2000, campaign="Brand 2", day=DAY + timedelta(days=1))]
    rows = build([tally(3, campaign="brand")], spends, by=("campaign",))
    assert named(rows, "Brand 2").cpl == 10


def test_actions_without_campaign_or_platform_are_shown_apart() -> None:
    rows = build(
        [tally(3, campaign=""), tally(2, platform="", campaign="")], [spend(1000)], by=("platform", "campaign")
    )
    assert named(rows, "google", "(no campaign)").leads == 3
    assert named(rows, "(unattributed)", "(no campaign)").leads == 2
    assert named(rows, "google", "Brand").leads == 0


# --- what adds up -----------------------------------------------------------------------------------------------------


def test_micro_actions_count_as_actions_only() -> None:
    row = only(build([tally(2), tally(50, "micro", value=100)], [spend(1000)]))
    assert (row.actions, row.leads, row.sales, row.value, row.cpl) == (52, 2, 0, None, 5)


def test_the_value_of_a_lead_is_no_revenue() -> None:
    row = only(build([tally(2, value=99900), tally(1, "sale", value=5000)], [spend(1000)]))
    assert (row.value, row.roas) == (Decimal("50.00"), 5)


def test_a_line_of_a_good_report() -> None:
    tallies = [tally(20, deliveries=(20, 19, 0)), tally(4, "sale", value=800000, deliveries=(4, 4, 0))]
    row = named(build(tallies, [spend(100000, clicks=400)], by=("platform",), currency="RUB"), "google")
    assert row == Row(
        dimensions=(("platform", "google"),),
        cost=Decimal("1000.00"),
        currency="RUB",
        clicks=400,
        actions=24,
        leads=20,
        sales=4,
        value=Decimal("8000.00"),
        cpl=Decimal(50),
        cpa=Decimal(250),
        roas=Decimal(8),
        cr=Decimal("0.05"),
        coverage=row.coverage,
        notes=(),
    )


DAYS = st.dates(DAY, DAY + timedelta(days=3))
CURRENCIES = st.sampled_from(["RUB", "RUB", "USD", "JPY"])
CAMPAIGNS = st.sampled_from(["", "11", "12", "Brand", "brand", "Other", "(cost)"])
TALLIES = st.lists(
    st.builds(
        Tally,
        day=DAYS,
        platform=st.sampled_from(["", "google", "vk"]),
        campaign=CAMPAIGNS,
        action=st.sampled_from(["a", "b"]),
        kind=st.sampled_from(["lead", "sale", "micro"]),
        source=st.sampled_from(["shop", "clinic"]),
        currency=st.none() | CURRENCIES,
        actions=st.integers(1, 9),
        value=st.none() | st.integers(0, 10**30),
        addressed=st.integers(5, 9),
        taken=st.integers(0, 5),
        unknown=st.integers(0, 1),
    ),
    max_size=12,
)
SPENDS = st.lists(
    st.builds(
        Spend,
        day=DAYS,
        platform=st.sampled_from(["google", "vk"]),
        account=st.just(""),
        campaign_id=st.sampled_from(["", "11", "12"]),
        campaign=CAMPAIGNS,
        amount=st.integers(0, 10**30),
        currency=CURRENCIES,
        vat_included=st.none() | st.booleans(),
        clicks=st.none() | st.integers(0, 9),
    ),
    max_size=12,
)
BY = st.lists(st.sampled_from(DIMENSIONS), unique=True, min_size=1)


@given(TALLIES, SPENDS, BY)
def test_every_action_and_every_kopeck_is_in_exactly_one_row(
    tallies: list[Tally], spends: list[Spend], by: list[str]
) -> None:
    tallies = [each._replace(currency="RUB") for each in tallies]
    spends = [each._replace(currency="RUB") for each in spends]
    *rows, total = build(tallies, spends, by=by)
    assert len({row.dimensions for row in rows}) == len(rows)
    assert sum(row.actions for row in rows) == total.actions == sum(each.actions for each in tallies)
    assert sum(row.leads for row in rows) == total.leads
    assert sum(row.sales for row in rows) == total.sales
    spent = sum(each.amount for each in spends)
    assert total.cost == (major(spent, "RUB") if spends else None)
    assert _sum(row.cost for row in rows) == spent
    sold = [each for each in tallies if each.kind == "sale" and each.value is not None]
    assert _sum(row.value for row in rows) == sum(each.value or 0 for each in sold)


def _sum(amounts: Iterable[Decimal | None]) -> int:
    """In kopecks: a sum of Decimals would round numbers as long as these."""
    return sum(int(f"{amount:.2f}".replace(".", "")) for amount in amounts if amount)


@given(TALLIES, SPENDS, BY, st.none() | CURRENCIES)
def test_a_number_that_is_missing_always_has_its_reason(
    tallies: list[Tally], spends: list[Spend], by: list[str], currency: str | None
) -> None:
    for row in build(tallies, spends, by=by, currency=currency):
        reasons = " ".join(note.split(": ", 1)[-1] for note in row.notes if note.endswith("cannot be computed."))
        for figure in FIGURES:
            if getattr(row, figure) is None and figure != "currency":
                assert figure in reasons.replace(",", "").split(), (figure, row)
        assert (row.currency is None) == (row.cost is None and row.value is None)


@given(TALLIES, SPENDS, BY, st.randoms())
def test_the_order_of_rows_does_not_depend_on_the_order_of_what_came_in(
    tallies: list[Tally], spends: list[Spend], by: list[str], chance: Random
) -> None:
    mixed, paid = list(tallies), list(spends)
    chance.shuffle(mixed)
    chance.shuffle(paid)
    assert build(mixed, paid, by=by) == build(tallies, spends, by=by)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_cost_per_lead_times_leads_is_the_cost(kopecks: int, leads: int) -> None:
    row = only(build([tally(leads)], [spend(kopecks)]))
    assert row.cpl is not None
    assert abs(row.cpl * leads - Decimal(kopecks) / 100) < Decimal("0.000001")
