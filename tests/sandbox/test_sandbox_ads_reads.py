"""search_stream by the real google-ads client: cost, clicks, actions, readiness, diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from convsync.sandbox.ads.config import Account, AdClick, Cost

if TYPE_CHECKING:
    from conftest import AdsCaller

COST = "SELECT customer.id, customer.currency_code, customer.time_zone, campaign.id, campaign.name, segments.date, metrics.cost_micros, metrics.clicks, metrics.impressions FROM campaign"
WEEK = "segments.date BETWEEN '2026-11-14' AND '2026-11-20'"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "EXPECTED_SELECT"),
        ("SELECT", "UNEXPECTED_END_OF_QUERY"),
        ("SELECT campaign.id", "EXPECTED_FROM"),
        ("SELECT campaign.id FROM campaigns", "BAD_RESOURCE_TYPE_IN_FROM_CLAUSE"),
        ("SELECT campaign.price FROM campaign", "UNRECOGNIZED_FIELD"),
        ("SELECT Campaign FROM campaign", "BAD_FIELD_NAME"),
        ("SELECT campaign.id FROM customer", "PROHIBITED_FIELD_COMBINATION_IN_SELECT_CLAUSE"),
        ("SELECT campaign.id FROM campaign WHERE campaign.name LIKE 'B%'", "BAD_OPERATOR"),
        ("SELECT campaign.id FROM campaign WHERE campaign.id = x", "BAD_NUMBER"),
        ("SELECT campaign.id FROM campaign WHERE campaign.name = 'Brand", "STRING_NOT_TERMINATED"),
        ("SELECT campaign.id FROM campaign WHERE campaign.id IN 1, 2", "EXPECTED_LIST"),
        ("SELECT campaign.id FROM campaign LIMIT none", "BAD_LIMIT_VALUE"),
        ("SELECT campaign.id FROM campaign PARAMETERS include_drafts=true", "BAD_PARAMETER_NAME"),
        ("SELECT campaign.id FROM campaign ORDER campaign.id", "UNEXPECTED_INPUT"),
        ("SELECT campaign.id, segments.date FROM campaign", "EXPECTED_FILTERS_ON_DATE_RANGE"),
        ("SELECT campaign.id, segments.date FROM campaign WHERE segments.date = 'today'", "INVALID_DATE_FORMAT"),
        (f"{COST} WHERE segments.date BETWEEN '2026-11-20'", "EXPECTED_AND"),
        (f"{COST} WHERE segments.date BETWEEN '2026-11-20' AND '2026-11-14'", "INVALID_VALUE_WITH_BETWEEN_OPERATOR"),
        (
            "SELECT campaign.id FROM campaign WHERE metrics.clicks > 1",
            "EXPECTED_REFERENCED_FIELD_IN_SELECT_CLAUSE",
        ),
    ],
)
def test_a_query_that_is_not_understood_is_refused(ads: AdsCaller, query: str, code: str) -> None:
    ads.box.config.ads.costs = [Cost("2026-11-19", "11", 1)]
    assert ads.refused(lambda: ads.search(query)) == ("INVALID_ARGUMENT", [code])


def test_a_manager_has_no_metrics(ads: AdsCaller) -> None:
    refusal = ads.refused(lambda: ads.search(f"{COST} WHERE {WEEK}", "5550001111"))
    assert refusal == ("INVALID_ARGUMENT", ["REQUESTED_METRICS_FOR_MANAGER"])


def test_cost_comes_by_day_and_campaign_and_can_change(ads: AdsCaller) -> None:
    ads.box.config.ads.costs = [
        Cost("2026-11-13", "11", 9_000_000),
        Cost("2026-11-19", "11", 1_500_000, clicks=3, impressions=40, campaign="Brand"),
        Cost("2026-11-20", "12", 0),
        Cost("2026-11-20", "11", 7, account="9876543210"),
    ]
    first, second = ads.search(f"{COST} WHERE {WEEK}")
    assert (first.campaign.id, first.campaign.name, first.segments.date) == (11, "Brand", "2026-11-19")
    assert (first.metrics.cost_micros, first.metrics.clicks, first.metrics.impressions) == (1_500_000, 3, 40)
    assert (first.customer.id, first.customer.currency_code, first.customer.time_zone) == (
        1234567890,
        "RUB",
        "Europe/Moscow",
    )
    assert second.metrics.HasField("cost_micros"), "a zero is told, not left out"
    ads.box.config.ads.costs[1].cost_micros = 1_600_000
    assert ads.search(f"{COST} WHERE {WEEK}")[0].metrics.cost_micros == 1_600_000


def test_cost_and_clicks_can_be_told_over_http(ads: AdsCaller, http: requests.Session) -> None:
    told = {"costs": [{"day": "2026-11-17", "campaign_id": "11", "cost_micros": 5}]}
    url = f"{ads.box.url}/_sandbox/config"
    assert http.post(url, json={"ads": told}).status_code == 200
    assert http.get(url).json()["ads"]["costs"][0]["cost_micros"] == 5
    assert http.post(url, json={"ads": {"costs": [{"date": "2026-11-17"}]}}).status_code == 400
    assert ads.search(f"{COST} WHERE {WEEK}")[0].metrics.cost_micros == 5


def test_without_days_the_metrics_are_summed_and_only_selected_fields_come(ads: AdsCaller) -> None:
    ads.box.config.ads.costs = [Cost(f"2026-11-{day}", "11", 5, campaign="Brand") for day in (18, 19, 20)]
    (row,) = ads.search(f"SELECT campaign.id, metrics.cost_micros FROM campaign WHERE {WEEK}")
    assert (row.campaign.id, row.metrics.cost_micros) == (11, 15)
    assert (row.campaign.name, row.segments.date) == ("", "")


def test_conditions_order_and_limit(ads: AdsCaller) -> None:
    ads.box.config.ads.costs = [Cost("2026-11-19", str(number), number) for number in (3, 1, 2, 4)]
    query = "SELECT campaign.id FROM campaign WHERE campaign.id IN (1, 2, 4) AND campaign.id >= 2 AND campaign.id != 3"
    assert [row.campaign.id for row in ads.search(query)] == [2, 4]
    assert [row.campaign.id for row in ads.search(f"{query} ORDER BY campaign.id DESC LIMIT 1")] == [4]
    cost = f"SELECT campaign.id FROM campaign WHERE {WEEK} ORDER BY metrics.cost_micros"
    assert [row.campaign.id for row in ads.search(cost)] == [1, 2, 3, 4]


def test_rows_come_in_batches_and_nothing_is_one_empty_batch(ads: AdsCaller) -> None:
    query = f"SELECT campaign.id FROM campaign WHERE {WEEK}"
    assert list(ads.batches(query)) == [[]]
    ads.box.config.ads.costs = [Cost("2026-11-19", str(number)) for number in range(5)]
    ads.box.config.ads.rows_per_batch = 2
    assert [len(batch) for batch in ads.batches(query)] == [2, 2, 1]


def test_search_gives_pages(ads: AdsCaller) -> None:
    ads.box.config.ads.costs = [Cost("2026-11-19", str(number)) for number in range(10_001)]
    service = ads.service("GoogleAdsService")
    pages = service.search(customer_id="1234567890", query="SELECT campaign.id FROM campaign", timeout=20)
    assert sum(1 for _ in pages) == 10_001


def test_clicks_come_for_exactly_one_day_in_the_accounts_zone(ads: AdsCaller) -> None:
    ads.box.config.ads.clicks = [
        AdClick("late", "2026-11-18T22:00:00+00:00", "11", "7"),
        AdClick("early", "2026-11-18T20:00:00+00:00", "12"),
        AdClick("foreign", "2026-11-19T09:00:00+00:00", "13", account="9876543210"),
    ]
    query = "SELECT click_view.gclid, campaign.id, ad_group.id, segments.date FROM click_view"
    (row,) = ads.search(f"{query} WHERE segments.date = '2026-11-19'")
    assert (row.click_view.gclid, row.campaign.id, row.ad_group.id, row.segments.date) == (
        "late",
        11,
        7,
        "2026-11-19",
    )
    for when in ("", f" WHERE {WEEK}"):
        assert ads.refused(lambda when=when: ads.search(query + when))[1] == ["EXPECTED_FILTER_ON_A_SINGLE_DAY"]
    assert ads.search(f"{query} WHERE segments.date = '2026-08-22'") == []
    old = ads.refused(lambda: ads.search(f"{query} WHERE segments.date = '2026-08-21'"))
    assert old == ("INVALID_ARGUMENT", ["DATE_TOO_OLD"])


def test_conversion_actions_tell_their_settings(ads: AdsCaller) -> None:
    ads.box.config.google.customers["1234567890"]["3333333333"].status = "HIDDEN"
    fields = "id name resource_name type status category counting_type click_through_lookback_window_days owner_customer primary_for_goal"
    names = ", ".join(f"conversion_action.{name}" for name in fields.split())
    query = f"SELECT {names} FROM conversion_action WHERE conversion_action.type = 'UPLOAD_CLICKS' AND conversion_action.status = 'ENABLED'"
    rows = [row.conversion_action for row in ads.search(query)]
    assert [row.id for row in rows] == [1111111111, 2222222222, 5555555555]
    assert rows[0].resource_name == "customers/1234567890/conversionActions/1111111111"
    assert (rows[0].name, rows[0].click_through_lookback_window_days, rows[0].primary_for_goal) == ("Lead", 90, True)
    assert rows[0].owner_customer == "customers/1234567890"


def test_the_account_tells_what_readiness_needs(ads: AdsCaller) -> None:
    ads.box.config.ads.accounts["1234567890"] = Account(
        "Shop",
        "EUR",
        "Europe/Berlin",
        auto_tagging=False,
        data_terms=False,
        conversion_customer="5550001111",
        enablement="OFF",
    )
    setting = "customer.conversion_tracking_setting"
    query = f"SELECT customer.descriptive_name, customer.currency_code, customer.time_zone, customer.manager, customer.status, customer.auto_tagging_enabled, {setting}.google_ads_conversion_customer, {setting}.accepted_customer_data_terms, {setting}.conversion_tracking_status, {setting}.enablement_setting FROM customer"
    (row,) = ads.search(query)
    customer = row.customer
    assert (customer.descriptive_name, customer.currency_code, customer.time_zone) == ("Shop", "EUR", "Europe/Berlin")
    assert (customer.manager, customer.auto_tagging_enabled) == (False, False)
    tracking = customer.conversion_tracking_setting
    assert tracking.google_ads_conversion_customer == "customers/5550001111"
    assert (tracking.accepted_customer_data_terms, tracking.HasField("enablement_setting")) == (False, True)


def test_a_manager_lists_the_accounts_below_it(ads: AdsCaller) -> None:
    ads.box.config.google.managers = {"5550001111": ["5550002222", "9876543210"], "5550002222": ["1234567890"]}
    query = "SELECT customer_client.id, customer_client.manager, customer_client.level, customer_client.status, customer_client.currency_code, customer_client.time_zone, customer_client.descriptive_name FROM customer_client"
    rows = [row.customer_client for row in ads.search(query, "5550001111")]
    assert [(row.id, row.manager, row.level) for row in rows] == [
        (5550001111, True, 0),
        (5550002222, True, 1),
        (9876543210, False, 1),
        (1234567890, False, 2),
    ]
    leaves = ads.search(f"{query} WHERE customer_client.manager = FALSE AND customer_client.level <= 1", "5550001111")
    assert [row.customer_client.id for row in leaves] == [9876543210]
    assert [row.customer_client.id for row in ads.search(query)] == [1234567890]


def test_custom_variables_have_ids_and_names(ads: AdsCaller) -> None:
    query = "SELECT conversion_custom_variable.id, conversion_custom_variable.name, conversion_custom_variable.resource_name, conversion_custom_variable.tag, conversion_custom_variable.status FROM conversion_custom_variable"
    rows = [row.conversion_custom_variable for row in ads.search(query)]
    assert [(row.id, row.name) for row in rows] == [(700001, "lead_quality"), (700002, "branch")]
    assert rows[0].resource_name == "customers/1234567890/conversionCustomVariables/700001"


def test_a_field_that_a_version_does_not_have_is_unknown_there(ads: AdsCaller, ads_box: Any) -> None:
    field = "customer.conversion_tracking_setting.enhanced_conversions_for_leads_enabled"
    assert ads.refused(lambda: ads.search(f"SELECT {field} FROM customer"))[1] == ["UNRECOGNIZED_FIELD"]
    older = type(ads)(ads_box, "v25")
    (row,) = older.search(f"SELECT {field} FROM customer")
    assert row.customer.conversion_tracking_setting.enhanced_conversions_for_leads_enabled
    older.close()


CLIENT = "offline_conversion_upload_client_summary"
ACTION = "offline_conversion_upload_conversion_action_summary"
COMMON = "client status total_event_count successful_event_count pending_event_count last_upload_date_time daily_summaries job_summaries alerts"


def diagnostics(resource: str, more: str) -> str:
    names = ", ".join(f"{resource}.{name}" for name in f"{COMMON} {more}".split())
    return f"SELECT customer.id, {names} FROM {resource}"


def test_diagnostics_are_computed_from_the_uploads(ads: AdsCaller) -> None:
    assert ads.search(diagnostics(CLIENT, "success_rate pending_rate")) == []
    ads.upload(ads.click(1), ads.click(2), ads.click(3, currency_code="x"), job_id=5)
    ads.upload(ads.click(4, conversion_action="customers/1/conversionActions/2222222222"))
    (row,) = ads.search(diagnostics(CLIENT, "success_rate pending_rate"))
    summary = row.offline_conversion_upload_client_summary
    assert (summary.total_event_count, summary.successful_event_count, summary.success_rate) == (4, 3, 0.75)
    assert summary.last_upload_date_time == "2026-11-20 15:00:00"
    assert [(day.upload_date, day.failed_count) for day in summary.daily_summaries] == [("2026-11-20", 1)]
    assert [(job.job_id == 5, job.successful_count) for job in summary.job_summaries] == [(True, 2), (False, 1)]
    actions = ads.search(diagnostics(ACTION, "conversion_action_id conversion_action_name"))
    told = [row.offline_conversion_upload_conversion_action_summary for row in actions]
    assert [(one.conversion_action_id, one.conversion_action_name, one.total_event_count) for one in told] == [
        (1111111111, "Lead", 3),
        (2222222222, "Sale", 1),
    ]


def test_diagnostics_can_be_told(ads: AdsCaller) -> None:
    ads.box.config.ads.client_summaries = [
        {
            "client": "ADS_DATA_CONNECTOR",
            "status": "NEEDS_ATTENTION",
            "total_event_count": 10,
            "alerts": [{"error": "ConversionUploadError.CLICK_NOT_FOUND", "error_percentage": 0.4}],
            "daily_summaries": [{"upload_date": "2026-11-19", "failed_count": 4}],
        },
        {"customer": "9876543210", "client": "GOOGLE_ADS_API"},
    ]
    (row,) = ads.search(diagnostics(CLIENT, "success_rate"))
    (alert,) = row.offline_conversion_upload_client_summary.alerts
    assert alert.error.WhichOneof("error_code") == "conversion_upload_error"
    assert alert.error_percentage == 0.4
