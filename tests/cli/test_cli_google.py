"""`google actions`, `google diagnostics` and the online check against the sandbox's Google Ads API."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from convsync.sandbox.ads.config import Account

ME = "1234567890"
DAY = timedelta(days=1)
READS = [("costs", "pull"), ("google", "actions"), ("google", "diagnostics")]


@pytest.fixture
def today() -> date:
    return datetime.now(UTC).astimezone(ZoneInfo("Europe/Moscow")).date()


def told(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run(*args, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exit_code"] == code
    return found


# -- what stands in the way


@pytest.mark.parametrize("command", READS[1:], ids=" ".join)
def test_without_a_google_destination_there_is_nobody_to_ask(shop: Any, command: tuple[str, ...]) -> None:
    result = shop.run(*command, "--destination", "vk")
    assert (result.exit_code, "no Google destination" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", READS, ids=" ".join)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda box: setattr(box.config.google, "refresh_revoked", True), 2),
        (lambda box: setattr(box.config.google, "scopes", ["https://www.googleapis.com/auth/datamanager"]), 2),
        (lambda box: setattr(box.config.ads, "versions", ["v27"]), 2),
        (lambda box: box.faults.add(on="ads.search", error="AuthorizationError.CUSTOMER_NOT_ENABLED", times=None), 2),
        (
            lambda box: box.faults.add(on="ads.search", error="SERVICE_DISABLED", code="PERMISSION_DENIED", times=None),
            2,
        ),
        (lambda box: box.faults.add(on="ads.search", error="QueryError.BAD_FIELD_NAME", times=None), 1),
        (lambda box: box.faults.add(on="ads.search", code="INTERNAL", times=None), 3),
        (lambda box: box.faults.add(on="ads.search", error="QuotaError.RESOURCE_EXHAUSTED", times=None), 3),
    ],
    ids=["revoked", "scope", "version", "not_enabled", "disabled", "query", "internal", "quota"],
)
def test_what_google_refuses_is_told_with_the_code_that_fits(
    ads_shop: Any, command: tuple[str, ...], change: Callable[[Any], Any], code: int
) -> None:
    change(ads_shop.box)
    found = told(ads_shop, *command, code=code)
    assert [one["level"] for one in found["findings"] if one["where"] == "destinations.google"] == ["error"]


# -- actions


def test_conversion_actions_come_with_their_use_and_the_lines_to_copy(ads_shop: Any) -> None:
    result = ads_shop.run("google", "actions")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    (lead,) = [line for line in lines if line.startswith("1111111111")]
    assert lead.split() == [
        "1111111111", "Lead", "UPLOAD_CLICKS", "IMPORTED_LEAD", "every", "90", "d", "lead",
    ]  # fmt: skip
    assert not any(line.startswith("4444444444") for line in lines), "a tag of the site takes no uploads"
    assert 'google = { conversion_action = "3333333333" }    # Micro' in lines
    assert 'google = { conversion_action = "8888888888", calls = true }    # Phone call' in lines
    assert not any("1111111111" in line for line in lines if line.startswith("google ="))
    assert max(map(len, lines)) <= 80


def test_a_status_or_an_owner_that_is_not_the_usual_one_gets_a_column(ads_shop: Any) -> None:
    assert "owner" not in ads_shop.run("google", "actions").stdout
    ads_shop.box.config.google.customers[ME]["3333333333"].status = "HIDDEN"
    said = ads_shop.run("google", "actions").stdout
    assert "HIDDEN" in said
    assert "owner" not in said


def test_a_manager_account_is_told_from_one_that_lacks_conversion_actions(ads_shop: Any) -> None:
    ads_shop.google(customer_id="5550001111")
    found = told(ads_shop, "google", "actions", code=1)["findings"]
    assert [one["code"] for one in found] == ["manager_account"]
    assert 'login_customer_id = "5550001111"' in found[0]["advice"]
    assert ads_shop.run("google", "actions").stdout == ""


def test_all_conversion_actions_are_told_on_demand_also_removed_ones(ads_shop: Any) -> None:
    ads_shop.box.config.google.customers[ME]["3333333333"].status = "REMOVED"
    short = told(ads_shop, "google", "actions")["conversion_actions"]
    everything = told(ads_shop, "google", "actions", "--all")["conversion_actions"]
    numbers = {one["id"]: one["status"] for one in everything}
    assert numbers["4444444444"] == "ENABLED"
    assert numbers["3333333333"] == "REMOVED"
    assert {"3333333333", "4444444444"}.isdisjoint(one["id"] for one in short)
    assert {one["id"]: one["actions"] for one in short}["2222222222"] == ["sale"]


def test_an_account_without_one_for_clicks_and_a_wrong_number_are_said(ads_shop: Any) -> None:
    known = ads_shop.box.config.google.customers[ME]
    for number in [number for number, one in known.items() if one.type == "UPLOAD_CLICKS"]:
        del known[number]
    said = ads_shop.run("google", "actions").stdout
    assert "no conversion action takes clicks" in said
    assert "lead: the account has no conversion action 1111111111." in said


# -- diagnostics


def summary(**fields: Any) -> dict[str, Any]:
    return {
        "client": "ADS_DATA_CONNECTOR",
        "status": "GOOD",
        "total_event_count": 3,
        "successful_event_count": 2,
    } | fields


def days(*counts: tuple[date, int, int, int]) -> list[dict[str, Any]]:
    names = ("upload_date", "successful_count", "failed_count", "pending_count")
    return [dict(zip(names, (str(day), *more), strict=True)) for day, *more in counts]


def lines(found: dict[str, Any]) -> dict[tuple[str, str], tuple[Any, ...]]:
    names = ("google_successful", "google_failed", "google_pending", "sent", "confirmed", "refused")
    rows = found["destinations"][0]["days"]
    return {(row["day"], row["conversion_action"]): tuple(row[name] for name in names) for row in rows}


def test_uploads_that_need_attention_exit_1_and_errors_are_in_words(ads_shop: Any, today: date) -> None:
    alert = {"error": "ConversionUploadError.CLICK_NOT_FOUND", "error_percentage": 0.4}
    ads_shop.box.config.ads.client_summaries = [summary(status="NEEDS_ATTENTION", alerts=[alert])]
    result = ads_shop.run("google", "diagnostics")
    assert result.exit_code == 1
    assert "Ads Data Connector: needs attention. 3 events, 2 successful, 0 pending" in result.stdout
    assert "40 % CLICK_NOT_FOUND: " in result.stdout
    found = told(ads_shop, "google", "diagnostics", code=1)["destinations"][0]
    assert (found["needs_attention"], found["clients"][0]["alerts"][0]["share"]) == (True, 0.4)
    assert not ads_shop.ledger.exists()


def test_what_google_counts_stands_beside_what_the_ledger_sent(ads_shop: Any, today: date) -> None:
    ads_shop.three()
    ads_shop.row("4", gclid="fate-INVALID_GCLID-4")
    ads_shop.run("sync")
    ads_shop.box.config.ads.action_summaries = [
        summary(conversion_action_id=2222222222, daily_summaries=days((today, 1, 1, 1), (today - 8 * DAY, 9, 9, 9))),
        summary(conversion_action_id=4444444444, daily_summaries=days((today, 5, 0, 0), (today - DAY, 2, 0, 0))),
    ]
    found = told(ads_shop, "google", "diagnostics")
    assert lines(found) == {
        (str(today - DAY), "4444444444"): (2, 0, 0, 0, 0, 0),
        (str(today), "1111111111"): (None, None, None, 1, 1, 0),
        (str(today), "2222222222"): (1, 1, 1, 3, 2, 1),
        (str(today), "4444444444"): (5, 0, 0, 0, 0, 0),
    }
    notes = " ".join(found["destinations"][0]["notes"])
    assert "still at work on 1 of them (pending)" in notes
    assert "counts 7 that did not leave from this ledger" in notes
    assert "does not count 1 that left from here" in notes
    assert "Days are those of the account (Europe/Moscow)" in notes
    assert len(lines(told(ads_shop, "google", "diagnostics", "--days", "1"))) == 3


def test_what_left_twice_counts_twice_as_sent_and_once_where_it_stands(ads_shop: Any, today: date) -> None:
    ads_shop.row("1", "lead")
    ads_shop.box.faults.add(on="google.ingest", kind="reset_after")
    ads_shop.run("sync")
    ads_shop.run("sync")
    assert ads_shop.states("google") == {"1": "confirmed"}
    assert lines(told(ads_shop, "google", "diagnostics")) == {(str(today), "1111111111"): (None, None, None, 2, 1, 0)}


def test_what_never_left_does_not_count_as_sent(ads_shop: Any) -> None:
    ads_shop.row("1", "lead")
    ads_shop.box.faults.add(on="google.ingest", status=429, times=None)
    ads_shop.run("sync")
    assert lines(told(ads_shop, "google", "diagnostics")) == {}


def test_a_table_of_one_action_fits_a_terminal(ads_shop: Any) -> None:
    ads_shop.row("1", "lead")
    ads_shop.run("sync")
    said = ads_shop.run("google", "diagnostics").stdout
    assert max(map(len, said.splitlines())) <= 80
    assert "unmatched" not in said, "a column in which nobody counts anything"


def test_a_ledger_that_cannot_be_opened_exits_2(ads_shop: Any) -> None:
    ads_shop.ledger.mkdir(mode=0o700)
    assert ads_shop.run("google", "diagnostics").exit_code == 2
    ads_shop.ledger.rmdir()


def test_an_account_that_got_nothing_is_told_so(ads_shop: Any) -> None:
    result = ads_shop.run("google", "diagnostics")
    assert result.exit_code == 0
    assert "Google tells of no upload to this account." in result.stdout


# -- check --online


def findings(shop: Any, code: int = 0) -> dict[str, dict[str, str]]:
    found = told(shop, "check", "--online", code=code)["findings"]
    return {one["code"]: one for one in found if one["where"] == "destinations.google"}


def test_a_check_reads_the_account_and_its_conversion_actions(ads_shop: Any) -> None:
    found = findings(ads_shop)
    assert "1111111111 (Lead), 2222222222 (Sale)" in found["actions_ready"]["message"]
    assert not {"warning", "error"} & {one["level"] for one in found.values()}


def test_settings_that_keep_conversions_from_counting_are_warnings(ads_shop: Any) -> None:
    ads_shop.box.config.ads.accounts[ME] = Account(auto_tagging=False, data_terms=False, test_account=True)
    ads_shop.google('ads_api_version = "v23"')
    found = findings(ads_shop)
    warnings = {code for code, one in found.items() if one["level"] == "warning"}
    assert warnings == {"auto_tagging_off", "data_terms", "test_account", "version_ends"}


def test_conversions_that_belong_to_another_account_are_an_error(ads_shop: Any) -> None:
    ads_shop.box.config.ads.accounts[ME] = Account(conversion_customer="5550001111")
    assert 'customer_id = "5550001111"' in findings(ads_shop, 1)["not_owner"]["advice"]


def test_data_manager_does_without_the_ads_api_and_says_what_is_not_checked(ads_shop: Any) -> None:
    ads_shop.box.config.google.scopes = ["https://www.googleapis.com/auth/datamanager"]
    assert findings(ads_shop)["not_readable"]["level"] == "info"
    ads_shop.box.config.google.scopes.append("https://www.googleapis.com/auth/adwords")
    ads_shop.box.faults.add(on="ads.search", error="SERVICE_DISABLED", code="PERMISSION_DENIED")
    shut = findings(ads_shop)["not_readable"]
    assert shut["level"] == "info"
    assert shut["advice"].startswith("Uploads work without it. Enable it in the Google Cloud console")


def test_a_closed_account_is_an_error_whichever_way_uploads_go(ads_shop: Any) -> None:
    ads_shop.box.config.ads.accounts[ME] = Account(status="CANCELED")
    assert findings(ads_shop, 1)["customer_not_enabled"]["level"] == "error"


def test_a_rehearsal_on_this_machine_asks_nobody_outside_of_it(shop: Any) -> None:
    found = findings(shop)
    assert found.keys() == {"ok", "signed_in", "validated"}


def test_the_route_of_the_ads_api_reads_the_account_too(ads_shop: Any) -> None:
    ads_shop.google('api = "ads"')
    assert findings(ads_shop)["actions_ready"]["level"] == "info"
    ads_shop.box.config.google.customers[ME]["1111111111"].status = "HIDDEN"
    assert findings(ads_shop, 1)["action_not_enabled"]["level"] == "error"
