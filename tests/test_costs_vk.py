"""What VK Ads says was spent and counts of goals: whose account it is, what is asked, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.costs import vk, vk_goals
from convsync.costs.vk import Row, Vat
from convsync.costs.vk_goals import Counted
from convsync.errors import Halted, SourceError, UsageError
from convsync.model import Account, Finding, Spend

SHOP = Account("vk", "12345", "owner", "RUB", "Europe/Moscow")
USER = {"id": 12345, "username": "owner", "currency": "RUB"}
DAY = timedelta(days=1)
FIRST, LAST = date(2026, 11, 16), date(2026, 11, 22)
PIXEL = "1234567"


class Told:
    """A VK that knows some campaigns, with the limits of the real one, and tells what a test says."""

    def __init__(self, *plans: str, **more: Any) -> None:
        self.plans = list(plans)
        self.listed: list[dict[str, Any]] = [{"id": int(one), "name": f"Plan  {one}"} for one in plans]
        self.user: dict[str, Any] = USER
        self.user_v2: dict[str, Any] = {}
        self.most_ids, self.most_days, self.items = 200, 366, 200
        self.answer: Callable[[str, date], Any] = lambda plan, day: row(day)
        self.goals: list[dict[str, Any]] | dict[str, Any] | None = []
        self.asked: list[Mapping[str, str]] = []
        for name, value in more.items():
            setattr(self, name, value)

    def ask(self, path: str, params: Mapping[str, str] = {}, *, none_if: Collection[str] = ()) -> dict[str, Any] | None:
        if "user.json" in path:
            return self.user if "/v3/" in path else self.user_v2
        self.asked.append(params)
        if "/goals/" in path:
            return self.goals if self.goals is None or isinstance(self.goals, dict) else answer(12345, *self.goals)
        since, until = date.fromisoformat(params["date_from"]), date.fromisoformat(params["date_to"])
        ids = params["id"].split(",")
        refused = "LIMIT_EXCEEDED" if len(ids) > self.most_ids or (until - since).days >= self.most_days else ""
        refused = refused or ("WRONG_ADPLANS" if set(ids) - set(self.plans) else "")
        if refused:
            if refused not in none_if:
                raise Halted(Finding("error", "request_refused", "destinations.vk", refused))
            return None
        days = [since + number * DAY for number in range((until - since).days + 1)]
        found = [{"id": int(one), "rows": [self.answer(one, day) for day in days]} for one in ids[: self.items]]
        return {"items": found, "total": {}}

    def pages(
        self, path: str, params: Mapping[str, str] = {}, *, limit: int = 50, none_if: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        assert path == "/api/v2/ad_plans.json"
        self.asked.append(params)
        yield from self.listed

    @property
    def questions(self) -> list[tuple[list[str], date, date]]:
        """Of statistics: campaigns and days."""
        return [
            (one["id"].split(","), date.fromisoformat(one["date_from"]), date.fromisoformat(one["date_to"]))
            for one in self.asked
            if "date_from" in one
        ]


def row(day: object = LAST, **base: Any) -> dict[str, Any]:
    return {"date": str(day), "base": {"shows": 50, "clicks": 3, "goals": 0, "spent": "12.30", "vk": {"cpa": 0}} | base}


def answer(number: int, *rows: Any) -> dict[str, Any]:
    return {"items": [{"id": number, "rows": list(rows)}], "total": {}}


def spends(
    ads: Told, since: date = LAST, until: date = LAST, vat: Vat = None
) -> tuple[list[Spend], list[Row], list[str]]:
    blank, left_out = list[Row](), list[str]()
    found = vk.spends(ads, SHOP, since, until, vat=vat, blank=blank.append, left_out=left_out.append)
    return list(found), blank, left_out


def told(**base: Any) -> Told:
    """One campaign, whose day has these figures."""
    return Told("77", answer=lambda plan, day: row(day, **base))


# -- whose account


@pytest.mark.parametrize("currency", [None, "", 5])
def test_a_currency_that_nobody_told_is_not_guessed(currency: object) -> None:
    with pytest.raises(SourceError, match=r"does not tell the currency of the account 12345.*costs import"):
        vk.account(Told(user=USER | {"currency": currency}))


def test_a_currency_that_is_none_cannot_be_kept() -> None:
    with pytest.raises(SourceError, match="'VOTES', which is no currency of ISO 4217"):
        vk.account(Told(user=USER | {"currency": "VOTES"}))


def test_who_it_is_may_stand_in_the_older_resource_alone() -> None:
    ads = Told(user={"currency": "RUB"}, user_v2={"id": "12345", "username": "owner"})
    assert vk.account(ads) == SHOP
    with pytest.raises(SourceError, match=r"user\.json tells no id"):
        vk.account(Told(user={"currency": "RUB"}))


def test_an_account_is_its_number_and_an_e_mail_as_username_is_left_out() -> None:
    assert vk.account(Told()) == SHOP
    assert vk.account(Told(user=USER | {"username": "anna@mail.ru"})).name == ""
    assert vk.account(Told(user=USER | {"username": "ab12@agency_client"})).name == "ab12@agency_client"
    assert vk.account(Told(user=USER | {"username": None})).name == ""


# -- what is asked


def test_campaigns_are_listed_with_the_deleted_ones_in_an_order_that_stands() -> None:
    ads = Told("77", "78")
    assert vk.campaigns(ads) == {"77": "Plan 77", "78": "Plan 78"}
    assert ads.asked == [{"fields": "id,name,status", "sorting": "id", "_status__in": "active,blocked,deleted"}]
    with pytest.raises(SourceError, match="without an id"):
        vk.campaigns(Told(listed=[{"name": "?"}]))


def test_statistics_are_asked_for_by_day_and_conversion() -> None:
    ads = Told("77")
    spends(ads)
    assert ads.asked[1] == {
        "id": "77", "date_from": "2026-11-22", "date_to": "2026-11-22", "metrics": "base", "attribution": "conversion",
    }  # fmt: skip


def test_an_account_without_campaigns_is_not_asked_for_figures() -> None:
    ads = Told()
    assert spends(ads) == ([], [], [])
    assert ads.questions == []


def test_many_campaigns_and_many_days_are_asked_for_in_pieces_that_leave_nothing_out() -> None:
    ads = Told(*map(str, range(1, 451)))
    since = LAST - 364 * DAY
    found, _, _ = spends(ads, since, LAST)
    assert len({(one.day, one.campaign_id) for one in found}) == len(found) == 450 * 365
    assert max(len(ids) for ids, _, _ in ads.questions) == 200
    assert max((until - first).days + 1 for _, first, until in ads.questions) == 92
    assert len(ads.questions) == 3 * 4


@pytest.mark.parametrize("unknown", [{"1"}, {"7"}, {"3", "4", "7"}, {"1", "2", "3", "4", "5", "6", "7"}])
def test_a_campaign_that_vk_does_not_know_is_left_out_alone_and_asked_about_once(unknown: set[str]) -> None:
    ids = [str(number) for number in range(1, 8)]
    ads = Told(*ids)
    ads.plans = [one for one in ids if one not in unknown]
    found, _, left_out = spends(ads, LAST - 99 * DAY, LAST)
    assert {one.campaign_id for one in found} == set(ids) - unknown
    assert len(found) == 100 * (7 - len(unknown))
    assert left_out == sorted(unknown)
    for one in unknown:
        assert len([ids for ids, _, _ in ads.questions if one in ids]) <= 5, "7, 4, 2, 1 campaigns, and alone"


@pytest.mark.parametrize(("ids", "days"), [(2, 366), (200, 10), (1, 1), (1, 3)])
def test_what_is_too_much_at_once_is_asked_for_in_halves(ids: int, days: int) -> None:
    ads = Told("1", "2", "3", "4", "5", most_ids=ids, most_days=days)
    found, blank, left_out = spends(ads, LAST - 29 * DAY, LAST)
    assert len({(one.day, one.campaign_id) for one in found}) == len(found) == 5 * 30
    assert (blank, left_out) == ([], [])


def test_a_limit_that_one_campaign_and_day_exceed_is_told_and_does_not_go_on_for_ever() -> None:
    with pytest.raises(Halted):
        spends(Told("1", "2", most_days=0))


@pytest.mark.parametrize("items", [1, 2, 3])
def test_an_answer_that_holds_only_the_first_campaigns_is_asked_for_the_others(items: int) -> None:
    ads = Told("1", "2", "3", items=items)
    assert {one.campaign_id for one in spends(ads)[0]} == {"1", "2", "3"}


def test_campaigns_that_an_answer_does_not_have_are_not_asked_about_for_ever() -> None:
    ads = Told("1", "2", items=0)
    assert spends(ads) == ([], [], [])
    assert len(ads.questions) == 1


def test_vk_keeps_366_days_with_today() -> None:
    oldest = vk.KEEPS.oldest(LAST)
    assert (LAST - oldest).days + 1 == 366
    with pytest.raises(UsageError, match="VK Ads keeps cost by the day for 366 days"):
        vk.KEEPS.require(oldest - DAY, LAST)


@given(st.dates(date(2025, 1, 1), date(2026, 12, 31)), st.integers(0, 400))
def test_stretches_of_days_follow_each_other(since: date, more: int) -> None:
    found = list(vk.spans(since, since + more * DAY))
    assert (found[0][0], found[-1][1]) == (since, since + more * DAY)
    assert all(after[0] == before[1] + DAY for before, after in pairwise(found))
    assert all((last - first).days < 92 for first, last in found)


# -- what is told


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spent": "12,30"}, "no usable spent of campaign 77 on 2026-11-22"),
        ({"spent": ""}, "no usable spent of campaign 77 on 2026-11-22"),
        ({"spent": "NaN"}, "no usable spent"),
        ({"spent": True}, "no usable spent"),
        ({"spent": {"amount": 1}}, "no usable spent"),
        ({"clicks": "3.5"}, "no usable clicks of campaign 77 on 2026-11-22"),
        ({"clicks": -1}, "no usable clicks"),
        ({"shows": "many"}, "no usable shows"),
    ],
)
def test_a_figure_that_cannot_be_read_names_field_and_day(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        spends(told(**change))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "no list of items"),
        ({"items": {}}, "no list of items"),
        ({"items": [5]}, "no list of items"),
        ({"items": [{"id": 77}]}, "no list of items"),
        (answer(5, row()), "tell of 5, unasked or twice"),
        ({"items": [*answer(77)["items"], *answer(77)["items"]]}, "tell of 77, unasked or twice"),
        (answer(77, row(), row()), "2026-11-22, campaign 77, unasked or twice"),
        (answer(77, row(LAST + DAY)), "2026-11-23, campaign 77, unasked or twice"),
        (answer(77, row(FIRST)), "2026-11-16, campaign 77, unasked or twice"),
        (answer(77, row("22.11.2026")), "without a usable date"),
        (answer(77, row("20261122")), "without a usable date"),
        (answer(77, {"base": {}}), "without a usable date"),
        (answer(77, "2026-11-22"), "without a usable date"),
        (answer(77, {"date": "2026-11-22"}), "no usable base of campaign 77 on 2026-11-22"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_refused(said: dict[str, Any], problem: str) -> None:
    ads = Told("77")
    ads.ask = lambda *_, **__: said  # type: ignore[method-assign]
    with pytest.raises(SourceError, match=problem):
        spends(ads)


@pytest.mark.parametrize("spent", [None, ...])
def test_no_cost_is_not_zero(spent: object) -> None:
    ads = told(spent=None)
    if spent is ...:
        ads.answer = lambda plan, day: {"date": str(day), "base": {"clicks": 3}}
    found, blank, _ = spends(ads)
    assert found == []
    assert [(one.day, one.cost, one.clicks) for one in blank] == [(LAST, None, 3)]


def test_a_day_on_which_nothing_happened_is_no_row_and_clicks_without_cost_are_one() -> None:
    assert spends(told(spent="0", clicks=0, shows=0)) == ([], [], [])
    assert spends(told(spent="0.00", clicks=None, shows=None)) == ([], [], [])
    assert [one.amount for one in spends(told(spent="0", clicks=0, shows=2))[0]] == [0]


@pytest.mark.parametrize(
    ("spent", "amount"), [("12.30", 1230), (12.3, 1230), (12, 1200), ("23328.925", 2332893), ("-1.5", -150)]
)
def test_money_is_text_or_a_number_and_becomes_minor_units(spent: object, amount: int) -> None:
    ((one,), _, _) = spends(told(spent=spent, clicks="3"))
    assert one == Spend(LAST, "vk", "12345", "77", "Plan 77", amount, "RUB", False, 3, 50)


def test_vat_is_added_at_the_rate_of_the_day() -> None:
    ads = told(spent="100.00")
    around = (date(2025, 12, 31), date(2026, 1, 1))
    found, _, _ = spends(ads, *around, vat="russia")
    assert [(one.day, one.amount, one.vat_included) for one in found] == [
        (around[0], 12000, True), (around[1], 12200, True),
    ]  # fmt: skip
    found, _, _ = spends(ads, vat=Decimal("0.12"))
    assert [(one.amount, one.vat_included) for one in found] == [(11200, True)]
    found, _, _ = spends(ads)
    assert [(one.amount, one.vat_included) for one in found] == [(10000, False)]


@given(st.decimals(0, 10**7, places=2), st.sampled_from([None, "russia", Decimal("0.2"), Decimal(0)]))
def test_an_amount_is_rounded_once_after_the_tax(spent: Decimal, vat: Vat) -> None:
    ((one,), _, _) = spends(told(spent=str(spent)), vat=vat)
    exact = spent * 100 * (1 if vat is None else 1 + vk.rate(vat, LAST))
    assert abs(one.amount - exact) <= Decimal("0.5")


# -- goals


def goal(**said: Any) -> dict[str, Any]:
    usual = {"conversion_type": "total", "source": "topmail", "goal": "crm_sale", "counter_id": 1234567, "count": 2}
    return usual | {"cr": 0.0, "cpa": "0.0", "value": "500", "romi": -100} | said


def counted(*rows: Any, since: date = LAST, until: date = LAST) -> list[Counted] | None:
    return vk_goals.counted(Told(goals=list(rows)), "12345", PIXEL, since, until)


def of(*goals: Any, day: object = LAST) -> dict[str, Any]:
    return {"date": str(day), "goals": list(goals)}


def test_goals_are_asked_for_as_a_total_of_the_whole_account() -> None:
    ads = Told()
    assert vk_goals.counted(ads, "12345", PIXEL, LAST - 100 * DAY, LAST) == []
    assert [one[1:] for one in ads.questions] == [(LAST - 100 * DAY, LAST - 9 * DAY), (LAST - 8 * DAY, LAST)]
    assert ads.asked[1] == {
        "id": "12345", "conversion_type": "total", "date_from": "2026-11-14", "date_to": "2026-11-22",
        "attribution": "conversion",
    }  # fmt: skip


def test_figures_that_vk_does_not_tell_are_none_and_no_zero() -> None:
    assert vk_goals.counted(Told(goals=None), "12345", PIXEL, LAST, LAST) is None


def test_a_total_is_never_added_to_its_parts() -> None:
    parts = [goal(conversion_type="postclick"), goal(conversion_type="postview")]
    assert counted(of(*parts, goal(count=4))) == [Counted(LAST, "crm_sale", 4, "500")]
    with pytest.raises(SourceError, match="2026-11-22 have parts and no total"):
        counted(of(*parts))


def test_only_goals_of_the_pixel_itself_count() -> None:
    others = [goal(source="mobile"), goal(counter_id=7654321), goal(counter_id=None), goal(source=None)]
    assert counted(of(*others)) == []
    assert counted(of(*others, goal(counter_id=PIXEL))) == [Counted(LAST, "crm_sale", 2, "500")]


def test_days_and_goals_without_conversions_are_not_there() -> None:
    found = counted(of(day=LAST - DAY), of(goal(count=0), goal(goal="crm_lead", value=None)), since=LAST - DAY)
    assert found == [Counted(LAST, "crm_lead", 2, None)]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([of(goal(), goal())], "2026-11-22, goal 'crm_sale', unasked or twice"),
        ([of(goal()), of(goal())], "unasked or twice"),
        ([of(goal(), day=LAST + DAY)], "2026-11-23, goal 'crm_sale', unasked or twice"),
        ([of(goal(count=None))], "no usable count of the goal 'crm_sale' on 2026-11-22"),
        ([of(goal(count="two"))], "no usable count"),
        ([of(goal(value="much"))], "no usable value of the goal 'crm_sale' on 2026-11-22"),
        ([of(goal(goal=None))], "no usable goal on 2026-11-22"),
        ([{"date": "2026-11-22", "goals": None}], "no usable goals on 2026-11-22"),
        ([{"date": "2026-11-22", "goals": [5]}], "no usable goals on 2026-11-22"),
        ([{"goals": []}], "without a usable date"),
    ],
)
def test_counts_that_cannot_be_trusted_are_refused(rows: list[Any], problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        counted(*rows)


def test_counts_of_another_account_are_refused() -> None:
    with pytest.raises(SourceError, match="tell of 5, unasked or twice"):
        vk_goals.counted(Told(goals=answer(5)), "12345", PIXEL, LAST, LAST)
