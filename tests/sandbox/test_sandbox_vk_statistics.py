"""VK's statistics in the sandbox: spend, goals and offline lists by day. Raw HTTP, nothing of convsync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from convsync.sandbox.vk_config import AdPlan, GoalEvent

if TYPE_CHECKING:
    from conftest import VkClient

DAY = "/api/v2/statistics/ad_plans/day.json"
SPAN = {"date_from": "2026-11-18", "date_to": "2026-11-20"}  # the sandbox's clock shows 2026-11-20, 15:00 in Moscow


class Statistics:
    """Two campaigns; `get` asks with a token for the two of them and three days, `params` change that (None = left out)."""

    def __init__(self, vk: VkClient) -> None:
        self.vk = vk
        self.config = vk.box.config.vk
        days = {
            "2026-11-18": {"spent": "12.30", "clicks": 3, "shows": 1000},
            "2026-11-20": {"spent": "7.70", "clicks": 1, "shows": 100},
        }
        self.config.ad_plans = {
            "11": AdPlan("First", spend=days, offline={"2026-11-18": 2}),
            "12": AdPlan("Gone", "deleted", spend={"2026-11-19": {"spent": "5", "clicks": 0, "shows": 7}}),
        }
        self.token = vk.token().json()["access_token"]

    def get(self, path: str = DAY, **params: Any) -> requests.Response:
        asked = {"id": "11,12", **SPAN, **params}
        told = "&".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        return self.vk.get(f"{path}?{told}", self.token)

    def rows(self, path: str = DAY, **params: Any) -> dict[int, dict[str, dict[str, Any]]]:
        """Object → day → base."""
        items = self.get(path, **params).json()["items"]
        return {one["id"]: {row["date"]: row["base"] for row in one["rows"]} for one in items}

    def spent(self, **params: Any) -> list[str]:
        return [base["spent"] for base in self.rows(id=11, **params)[11].values()]

    def goals(self, kind: str = "ad_plans", **params: Any) -> list[tuple[str, str, str, int, str]]:
        """Day, type, goal, count, value of the first object."""
        answer = self.get(f"/api/v2/statistics/goals/{kind}/day.json", **params)
        rows = answer.json()["items"][0]["rows"]
        return [
            (row["date"], one["conversion_type"], one["goal"], one["count"], one["value"])
            for row in rows
            for one in row["goals"]
        ]

    def code(self, path: str = DAY, **params: Any) -> tuple[int, str]:
        answer = self.get(path, **params)
        return answer.status_code, answer.json()["error"]["code"]

    def attributed(self) -> None:
        """A hit of the pixel, now, for campaign 11: clicked on 18 November, late in the evening in UTC."""
        self.config.known_clicks = {"c": {"time": "2026-11-17T22:00:00+00:00", "ad_plan_id": 11}}
        self.vk.hit("id=1234567;e=RG%3A1500/crm_sale;rb_clickid=c")


@pytest.fixture
def figures(vk: VkClient) -> Statistics:
    return Statistics(vk)


# What is refused.


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"id": None}, "WRONG_PARAMETER"),
        ({"id": ""}, "WRONG_PARAMETER"),
        ({"id": "11;12"}, "WRONG_PARAMETER"),
        ({"date_from": None}, "WRONG_PARAMETER"),
        ({"date_to": None}, "WRONG_PARAMETER"),
        ({"metrics": "everything"}, "WRONG_PARAMETER"),
        ({"attribution": "click"}, "WRONG_PARAMETER"),
        ({"date_from": "18.11.2026"}, "WRONG_DATE"),
        ({"date_from": "2026-11-21"}, "WRONG_DATE"),
        ({"date_from": "2025-11-19"}, "WRONG_DATE"),
        ({"date_from": "2025-11-18", "date_to": "2025-11-20"}, "WRONG_DATE"),
        ({"id": ",".join(map(str, range(1, 202)))}, "LIMIT_EXCEEDED"),
        ({"id": "11,13"}, "WRONG_ADPLANS"),
    ],
)
def test_a_question_that_is_not_right_is_refused_as_a_whole(
    figures: Statistics, params: dict[str, str], code: str
) -> None:
    assert figures.code(**params) == (400, code)
    figures.config.error_prefix = True
    assert figures.code(**params) == (400, f"ERR_{code}")


def test_the_widest_span_is_366_days_with_today(figures: Statistics) -> None:
    assert len(figures.spent(date_from="2025-11-20")) == 366


def test_two_hundred_ids_are_taken(figures: Statistics) -> None:
    figures.config.ad_plans = {str(n): AdPlan() for n in range(1, 202)}
    answer = figures.get(id=",".join(map(str, range(1, 201)))).json()
    assert (answer["count"], len(answer["items"]), answer["offset"]) == (200, 200, 0)
    figures.config.statistics_limit = 20
    answer = figures.get(id=",".join(map(str, range(1, 201)))).json()
    assert (answer["count"], len(answer["items"]), answer["limit"]) == (200, 20, 20)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("users", "WRONG_USERS"),
        ("ad_groups", "WRONG_ADGROUPS"),
        ("banners", "WRONG_BANNERS"),
        ("campaigns", "WRONG_CAMPAIGNS"),
    ],
)
def test_a_foreign_object_is_named_by_its_kind(figures: Statistics, kind: str, code: str) -> None:
    assert figures.code(f"/api/v2/statistics/{kind}/day.json") == (400, code)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/statistics/people/day.json",
        "/api/v2/statistics/ad_plans/hour.json",
        "/api/v2/statistics/offline_conversions/ad_plans/summary.json",
        "/api/v2/statistics/offline_conversions/banners/day.json",
        "/api/v2/statistics/goals/people/day.json",
    ],
)
def test_a_resource_that_is_not_there_is_404(figures: Statistics, path: str) -> None:
    assert figures.code(path) == (404, "WRONG_RESOURCE")


def test_a_campaign_of_somebody_else_is_foreign(figures: Statistics) -> None:
    figures.config.ad_plans["11"].user = "shop"
    assert figures.code(id=11) == (400, "WRONG_ADPLANS")
    client = figures.vk.token(grant_type="agency_client_credentials", agency_client_name="shop").json()
    figures.token = client["access_token"]
    assert figures.spent() == ["12.30", "0.00", "7.70"]


def test_attribution_may_be_required(figures: Statistics) -> None:
    figures.config.attribution_required = True
    assert figures.code() == (400, "WRONG_PARAMETER")
    assert figures.get(attribution="conversion").status_code == 200


# Spend.


def test_spend_is_told_by_day_as_text(figures: Statistics) -> None:
    answer = figures.get().json()
    assert figures.spent() == ["12.30", "0.00", "7.70"]
    assert [one["total"]["base"]["spent"] for one in answer["items"]] == ["20.00", "5.00"]
    assert answer["total"]["base"]["spent"] == "25.00"
    base = answer["items"][0]["rows"][0]["base"]
    assert {
        "shows": 1000,
        "clicks": 3,
        "cpm": "12.30",
        "cpc": "4.10",
        "cpa": "0.00",
        "ctr": 0.3,
    }.items() <= base.items()
    assert base["vk"] == {"goals": 0, "cpa": 0.0, "cr": 0.0, "result": 0}


def test_days_without_figures_may_be_left_out(figures: Statistics) -> None:
    figures.config.empty_days = False
    assert {number: list(days) for number, days in figures.rows().items()} == {
        11: ["2026-11-18", "2026-11-20"],
        12: ["2026-11-19"],
    }


def test_a_spend_that_is_not_known_is_null(figures: Statistics) -> None:
    figures.config.ad_plans["11"].spend["2026-11-19"] = {"spent": None, "clicks": 1, "shows": 9}
    assert figures.spent() == ["12.30", None, "7.70"]


def test_the_figures_of_recent_days_grow(figures: Statistics) -> None:
    figures.config.settling_percent = [50, 90]
    for day in ("2026-11-19", "2026-11-20"):
        figures.config.ad_plans["11"].spend[day] = {"spent": "10.00", "clicks": 10, "shows": 100}
    assert figures.spent() == ["12.30", "9.00", "5.00"]
    figures.vk.box.clock.advance(9 * 3600)  # midnight in Moscow
    assert figures.spent() == ["12.30", "10.00", "9.00"]


def test_an_everyday_spend_ends_today_and_a_named_day_differs(figures: Statistics) -> None:
    usual = {"spent": "3.00", "clicks": 1, "shows": 10}
    figures.config.ad_plans["11"] = AdPlan("A", usual=usual, since="2026-11-18", spend={"2026-11-19": {"spent": "4"}})
    assert figures.spent(date_from="2026-11-17", date_to="2026-11-21") == ["0.00", "3.00", "4.00", "3.00", "0.00"]


def test_a_summary_ignores_the_dates(figures: Statistics) -> None:
    figures.config.ad_plans["11"].spend["2024-01-01"] = {"spent": "100", "clicks": 5, "shows": 5}
    for params in ({}, {"date_from": None, "date_to": None}):
        answer = figures.get(DAY.replace("day", "summary"), id=11, **params).json()
        assert answer["items"] == [{"id": 11, "total": answer["total"]}]
        assert answer["total"]["base"]["spent"] == "120.00"


def test_a_cabinet_is_the_sum_of_its_campaigns(figures: Statistics) -> None:
    days = figures.rows("/api/v2/statistics/users/day.json", id=12345)[12345]
    assert [base["spent"] for base in days.values()] == ["12.30", "5.00", "7.70"]


def test_v3_tells_one_total_and_no_days(figures: Statistics) -> None:
    path = "/api/v3/statistics/ad_plans/day.json"
    answer = figures.get(path, id=None, date_to=None, fields="base").json()
    assert [(one["id"], one["total"]["base"]["spent"]) for one in answer["items"]] == [(11, "20.00"), (12, "5.00")]
    assert all("rows" not in one for one in answer["items"])
    assert (answer["count"], answer["limit"]) == (2, 20)
    assert [one["id"] for one in figures.get(path, limit=1, offset=1).json()["items"]] == [12]
    assert figures.code(path, date_from=None) == (400, "WRONG_PARAMETER")
    for limit in (0, 251):
        assert figures.code(path, limit=limit) == (400, "WRONG_PARAMETER")


# Goals.


def test_what_the_pixel_attributed_stands_at_the_day_of_its_arrival(figures: Statistics) -> None:
    figures.attributed()
    figures.attributed()
    assert figures.goals() == [("2026-11-20", "postclick", "crm_sale", 2, "3000")]
    base = figures.rows()[11]["2026-11-20"]
    assert base["vk"] == {"goals": 2, "cpa": 3.85, "cr": 200.0, "result": 2}
    assert (base["goals"], base["cpa"]) == (2, "3.85")


def test_attribution_by_impression_dates_it_by_the_click(figures: Statistics) -> None:
    figures.attributed()
    assert figures.goals(attribution="impression") == [("2026-11-18", "postclick", "crm_sale", 1, "1500")]
    assert figures.rows(attribution="impression")[11]["2026-11-18"]["vk"]["goals"] == 1


def test_a_goal_tells_its_cost_as_text(figures: Statistics) -> None:
    figures.attributed()
    answer = figures.get("/api/v2/statistics/goals/ad_plans/day.json", id=11).json()
    assert answer["items"][0]["rows"][0] == {"date": "2026-11-18", "goals": []}
    (goal,) = answer["items"][0]["rows"][2]["goals"]
    assert {
        "source": "topmail",
        "counter_id": 1234567,
        "cpa": "7.70",
        "value": "1500",
        "cr": 100.0,
    }.items() <= goal.items()
    (total,) = answer["total"]["goals"]
    assert (total["cpa"], total["romi"], total["adv_cost_share"]) == ("20.00", 7400.0, 1.3333)


def test_total_is_post_click_and_post_view_together(figures: Statistics) -> None:
    figures.attributed()
    figures.config.goal_events = [
        GoalEvent("11", "2026-11-20", "crm_sale", count=3, value="10.50", conversion_type="postview"),
        GoalEvent("11", "2026-11-18", "install", 0, 4, source="mobile"),
        GoalEvent("13", "2026-11-18", count=9),
    ]
    assert figures.goals(conversion_type="postview") == [("2026-11-20", "postview", "crm_sale", 3, "10.5")]
    assert figures.goals(conversion_type="postclick,total") == [
        ("2026-11-18", "postclick", "install", 4, "0"),
        ("2026-11-18", "total", "install", 4, "0"),
        ("2026-11-20", "postclick", "crm_sale", 1, "1500"),
        ("2026-11-20", "total", "crm_sale", 4, "1510.5"),
    ]
    path = "/api/v2/statistics/goals/ad_plans/day.json"
    assert figures.code(path, conversion_type="click") == (400, "WRONG_PARAMETER")
    assert figures.rows()[11]["2026-11-20"]["vk"]["goals"] == 1, "base counts what was clicked"


def test_a_cabinet_counts_also_what_no_campaign_is_known_of(figures: Statistics) -> None:
    figures.vk.hit("id=1234567;e=RG%3A7/crm_lead;userid=u1")
    assert figures.goals() == []
    assert figures.goals("users", id=12345) == [("2026-11-20", "postclick", "crm_lead", 1, "7")]
    assert figures.rows("/api/v2/statistics/users/day.json", id=12345)[12345]["2026-11-20"]["vk"]["goals"] == 1


def test_what_was_lost_is_in_no_statistics(figures: Statistics) -> None:
    for query in ("rb_clickid=lost-1", "rb_clickid=%7B%7Bclickid%7D%7D", ""):
        figures.vk.hit(f"id=1234567;e=RG%3A1/crm_sale;{query}")
    assert figures.goals("users", id=12345) == []


def test_goals_come_into_the_statistics_late(figures: Statistics) -> None:
    figures.config.goal_delay_s = 4 * 3600
    figures.attributed()
    assert figures.goals() == []
    figures.vk.box.clock.advance(4 * 3600)
    assert figures.goals() == [("2026-11-20", "postclick", "crm_sale", 1, "1500")]


def test_a_goal_of_the_period_may_stand_in_every_row(figures: Statistics) -> None:
    figures.attributed()
    figures.config.goal_zeros = True
    assert [(day, count) for day, _, _, count, _ in figures.goals()] == [
        ("2026-11-18", 0),
        ("2026-11-19", 0),
        ("2026-11-20", 1),
    ]


# Offline lists.


def test_what_offline_lists_matched_is_told_by_day(figures: Statistics) -> None:
    answer = figures.get("/api/v2/statistics/offline_conversions/ad_plans/day.json", id=11).json()
    first, second = answer["items"][0]["rows"][:2]
    assert first == {"date": "2026-11-18", "rate": 0.2, "cost": "6.15", "offline": 2}
    assert (second["cost"], second["offline"]) == ("0", 0)
    assert answer["items"][0]["total"] == {"rate": 0.1818, "cost": "10.00", "offline": 2}
