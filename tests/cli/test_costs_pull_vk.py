"""`costs pull` from VK Ads, against the sandbox's, and what `report` makes of VK's own counts."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from convsync.ledger import Ledger
from convsync.model import Spend
from convsync.sandbox.vk_config import AdPlan, GoalEvent

DAY = timedelta(days=1)
PULL = ("costs", "pull", "--destination", "vk")
OWNER = "12345"
SECRET = "sandbox-vk-secret"
KEYS = ('client_id = "sandbox-vk"', f'client_secret = "{SECRET}"')


@pytest.fixture
def today() -> date:
    return datetime.now(UTC).astimezone(ZoneInfo("Europe/Moscow")).date()


@pytest.fixture
def vk(shop: Any) -> Any:
    """A shop with keys for VK, whose three campaigns cost the same every day; the third is deleted."""
    shop.box.config.vk.ad_plans = {
        number: AdPlan(name, status, usual={"spent": "100.50", "clicks": 5, "shows": 100})
        for number, name, status in (("71", "Бренд", "active"), ("72", "Осень", "blocked"), ("73", "Лето", "deleted"))
    }
    configure(shop)
    return shop


def configure(shop: Any, *lines: str, keys: tuple[str, ...] = KEYS, url: str = "") -> None:
    """Keys and lines more in the section of VK."""
    more = [*keys, f'api_url = "{url or shop.box.url}"', "api_requests_per_second = 1000", *lines]
    shop.configure(lambda text: text.replace("[destinations.vk]", "\n".join(["[destinations.vk]", *more])))


def pull(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("-q", *PULL, "--json", *args)
    assert result.exit_code == code, result.output
    assert SECRET not in result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["exit_code"] == code
    return told


def kept(shop: Any) -> list[Spend]:
    book = Ledger.open(shop.ledger, read_only=True)
    try:
        return list(book.figures.spends(date(2000, 1, 1), date(2100, 1, 1)))
    finally:
        book.close()


def counts(shop: Any) -> list[tuple[date, str, int]]:
    """Of goals, as the ledger has them."""
    book = Ledger.open(shop.ledger, read_only=True)
    try:
        return [(*one,) for one in book.goals.counted("vk", "1234567", date(2000, 1, 1), date(2100, 1, 1))]
    finally:
        book.close()


def codes(told: dict[str, Any]) -> dict[str, str]:
    """What a person should look at."""
    return {one["code"]: one["level"] for one in told["findings"] if one["level"] != "info"}


def of(told: dict[str, Any], code: str) -> dict[str, str]:
    (found,) = [one for one in told["findings"] if one["code"] == code]
    return dict(found)


def requests(shop: Any, operation: str = "vk.statistics") -> dict[str, int]:
    found: dict[str, int] = shop.box.books()["requests"].get(operation, {})
    return found


def event(day: date, count: int = 1, **more: Any) -> GoalEvent:
    return GoalEvent(ad_plan_id="71", day=str(day), count=count, **more)


def report(shop: Any, *args: str) -> dict[str, Any]:
    result = shop.run("report", "--json", *args)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


# -- what stands in the way


def test_vk_without_keys_is_left_out_and_whoever_names_it_is_told_what_is_missing(shop: Any) -> None:
    result = shop.run(*PULL)
    assert result.exit_code == 2
    assert "destinations.vk.client_id" in result.stderr
    shop.configure(
        lambda text: (
            text[: text.index("[destinations.google]")].replace("google = {", "# ").replace("yandex = {", "# ")
            + text[text.index("[destinations.vk]") :]
        )
    )
    result = shop.run("costs", "pull")
    assert (result.exit_code, "none of VK with keys, to read cost from" in result.stderr) == (2, True)
    assert "VK needs client_id and client_secret" in result.stderr


def test_half_a_pair_of_keys_exits_2_before_anything_is_asked(vk: Any) -> None:
    configure(vk, keys=KEYS[:1])
    result = vk.run(*PULL)
    assert (result.exit_code, "destinations.vk.client_secret is empty" in result.stderr) == (2, True)
    assert requests(vk, "vk.token") == {}


def test_keys_that_vk_refuses_exit_2_with_advice(vk: Any) -> None:
    vk.box.config.vk.client_secret = "another"
    found = of(pull(vk, code=2), "bad_client")
    assert "client_secret" in found["message"]
    assert "Copy both again" in found["advice"]


def test_a_currency_that_vk_does_not_tell_keeps_no_cost(vk: Any) -> None:
    vk.box.config.vk.currency = None
    told = pull(vk, code=1)
    assert "does not tell the currency of the account 12345" in of(told, "account")["message"]
    assert kept(vk) == []


def test_days_that_vk_no_longer_keeps_exit_2_before_anything_is_asked(vk: Any) -> None:
    result = vk.run(*PULL, "--since", "2020-01-01")
    assert (result.exit_code, "VK Ads keeps cost by the day for 366 days" in result.stderr) == (2, True)
    assert requests(vk) == {}


def test_vk_out_of_reach_exits_3_and_keeps_what_there_was(vk: Any) -> None:
    pull(vk)
    known = kept(vk)
    configure(vk, url="http://127.0.0.1:1")
    told = pull(vk, code=3)
    assert "the VK Ads API was not reached (nothing listens at its address)" in of(told, "no_answer")["message"]
    assert kept(vk) == known


def test_a_host_that_moved_exits_2_and_names_the_key(vk: Any) -> None:
    vk.box.config.vk.api_redirect = "https://ads.vk.ru"
    told = pull(vk, code=2)
    assert "api_url" in of(told, "moved")["advice"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_answer_that_may_come_later_exits_3_and_leaves_the_range_as_it_was(
    vk: Any, today: date, status: int
) -> None:
    pull(vk)
    known = kept(vk)
    vk.box.config.vk.ad_plans["71"].spend[str(today)] = {"spent": "7.00"}
    vk.box.faults.add(on="vk.statistics", status=status, headers={"Retry-After": "3600"}, times=None)
    assert codes(pull(vk, code=3)) == {"no_answer": "error"}
    assert kept(vk) == known
    vk.box.faults.clear()
    assert pull(vk)["accounts"][0]["changed"] == 1


def test_statistics_that_cannot_be_read_change_nothing(vk: Any) -> None:
    pull(vk)
    known = kept(vk)
    body = {"items": [{"id": 71, "rows": [{"date": str(known[-1].day), "base": {"spent": "12,30"}}]}]}
    vk.box.faults.add(on="vk.statistics", status=200, body=body)
    told = pull(vk, code=1)
    assert f"no usable spent of campaign 71 on {known[-1].day}" in of(told, "account")["message"]
    assert kept(vk) == known


def test_a_campaign_that_statistics_do_not_know_is_told_and_stops_no_other(vk: Any) -> None:
    listed = {"items": [{"id": number, "name": "x", "status": "active"} for number in (71, 72, 99)], "count": 3}
    vk.box.faults.add(on="vk.ad_plans", status=200, body=listed)
    told = pull(vk)
    assert "1 campaign and knows no statistics of them: 99." in of(told, "campaign_unknown")["message"]
    assert {one.campaign_id for one in kept(vk)} == {"71", "72"}


# -- what it brings


def test_cost_comes_once_and_corrections_and_removals_follow(vk: Any, today: date) -> None:
    first = pull(vk)["accounts"][0]
    assert (first["account"], first["name"], first["time_zone"]) == (OWNER, "owner", "Europe/Moscow")
    assert (first["rows"], first["new"], first["days"], first["cost"]) == (90, 90, 30, {"RUB": "9045.00"})
    assert kept(vk)[0] == Spend(today - 29 * DAY, "vk", OWNER, "71", "Бренд", 10050, "RUB", False, 5, 100)
    again = pull(vk)["accounts"][0]
    assert (again["days"], again["rows"], again["new"], again["changed"], again["removed"]) == (8, 24, 0, 0, 0)
    vk.box.config.vk.ad_plans["71"].spend = {
        str(today): {"spent": "20.00", "clicks": 1, "shows": 9},
        str(today - DAY): {"spent": "0", "clicks": 0, "shows": 0},
    }
    third = pull(vk)["accounts"][0]
    assert (third["new"], third["changed"], third["removed"]) == (0, 1, 1)
    assert pull(vk, "--since", str(today - 34 * DAY))["accounts"][0]["new"] == 15


def test_a_whole_year_comes_in_stretches_that_vk_takes(vk: Any, today: date) -> None:
    vk.box.config.vk.ad_plans = {str(n): AdPlan(str(n), usual={"spent": "1", "shows": 1}) for n in range(1, 61)}
    told = pull(vk, "--since", str(today - 365 * DAY))["accounts"][0]
    assert (told["rows"], told["days"]) == (60 * 366, 366)
    assert requests(vk) == {"200": 4}
    assert requests(vk, "vk.ad_plans") == {"200": 2}, "lists end at 50, whatever is asked"


def test_vat_is_added_as_asked_for_and_stands_with_each_row(vk: Any) -> None:
    configure(vk, "vat_rate = 0.22")
    assert [one["vat_included"] for one in pull(vk)["accounts"]] == [True]
    assert {(one.amount, one.vat_included) for one in kept(vk)} == {(12261, True)}
    assert " RUB with VAT from " in vk.run(*PULL).stdout


def test_a_cost_that_is_not_told_is_no_zero(vk: Any, today: date) -> None:
    pull(vk)
    vk.box.config.vk.ad_plans["71"].spend[str(today)] = {"spent": None, "clicks": 3}
    told = pull(vk)
    assert of(told, "no_cost")["level"] == "warning"
    assert f"VK Ads told no cost of 1 row on {today}" in of(told, "no_cost")["message"]
    assert told["accounts"][0]["removed"] == 1


def test_the_client_of_an_agency_is_an_account_of_its_own(vk: Any) -> None:
    configure(vk, 'agency_client_name = "ab12@agency_client"')
    told = pull(vk)["accounts"]
    assert [one["name"] for one in told] == ["ab12@agency_client"]
    assert told[0]["account"] != OWNER


def test_two_pixels_of_one_account_have_one_cost_and_each_its_goals(vk: Any, today: date) -> None:
    section = vk.path.read_text().split("[destinations.vk]")[1].replace("1234567", "7654321")
    vk.path.write_text(f'{vk.path.read_text()}\n[destinations.branch]\nplatform = "vk"\n{section}')
    vk.box.config.vk.goal_events = [event(today, 2), event(today, 3, counter_id=7654321)]
    told = pull(vk, "--destination", "branch")
    assert [(one["destination"], one["account"], one["rows"], one["goals"]) for one in told["accounts"]] == [
        ("vk", OWNER, 90, 5)
    ]
    assert counts(vk) == [(today, "crm_sale", 2)]


def test_an_import_of_the_same_money_is_told(vk: Any, today: date) -> None:
    path = vk.folder / "november.csv"
    path.write_text(f"day,platform,account,campaign,amount,currency\n{today},vk,,Brand,10.50,RUB\n", "utf-8")
    assert vk.run("costs", "import", str(path)).exit_code == 0
    found = of(pull(vk), "cost_twice")
    assert "costs drop november.csv --platform vk" in found["advice"]


def test_google_yandex_and_vk_come_together(ads_shop: Any, today: date) -> None:
    more = "\n".join(["[destinations.vk]", *KEYS, f'api_url = "{ads_shop.box.url}"'])
    ads_shop.path.write_text(ads_shop.path.read_text().replace("[destinations.vk]", more))
    result = ads_shop.run("-q", "costs", "pull", "--json", "--no-clicks")
    assert [one["destination"] for one in json.loads(result.stdout)["accounts"]] == ["google", "yandex", "vk"]


def test_nothing_of_google_is_loaded_to_ask_vk(vk: Any) -> None:
    command = ["--config", str(vk.path), "-q", *PULL]
    code = f"from convsync.cli import commands\ncommands({command!r}, standalone_mode=False)"
    check = f"import atexit, sys; atexit.register(lambda: print('grpc' in sys.modules))\n{code}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert len(kept(vk)) == 90


def test_a_person_reads_days_rows_cost_and_goals(vk: Any, today: date) -> None:
    vk.box.config.vk.goal_events = [event(today)]
    result = vk.run(*PULL)
    since = today - 29 * DAY
    assert result.exit_code == 0
    assert result.stdout == (
        f"{OWNER} owner: 9045.00 RUB from {since} to {today}\n  90 rows: 90 new\n"
        "  1 conversion of 30 days, as the platform counts goals\n"
    )
    assert result.stderr == (
        f"{OWNER}: cost from {since} to {today} …\n{OWNER}: goals of the pixel 1234567 from {since} to {today} …\n"
    )
    assert vk.run("-q", *PULL).output == ""
    soon = vk.run(*PULL, "--since", str(today + DAY))
    assert (soon.exit_code, "no day of the span has begun there" in soon.stderr) == (0, True)


# -- goals


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"code": "WRONG_RESOURCE", "message": "no"}}),
        (404, "not found"),
        (403, {"error": {"code": "access_denied", "message": "no", "required_permission": "x"}}),
        (403, {"error": {"code": "something_new", "message": "no"}}),
        (400, {"error": {"code": "ERR_WRONG_USERS", "message": "no"}}),
    ],
)
def test_counts_that_vk_does_not_tell_are_said_and_cost_is_read_all_the_same(vk: Any, status: int, body: Any) -> None:
    vk.box.faults.add(on="vk.goal_statistics", status=status, body=body, times=None)
    told = pull(vk)
    assert of(told, "no_goal_statistics")["level"] == "info"
    assert (told["accounts"][0]["rows"], told["accounts"][0]["goal_days"]) == (90, 0)


def test_counts_that_cannot_be_read_leave_the_cost_that_was(vk: Any) -> None:
    vk.box.faults.add(on="vk.goal_statistics", status=200, body={"items": [{"id": 12345, "rows": [{}]}]})
    told = pull(vk, code=1)
    assert "without a usable date" in of(told, "account")["message"]
    assert "Nothing was changed" not in of(told, "account")["advice"]
    assert len(kept(vk)) == 90
    vk.box.faults.add(on="vk.goal_statistics", status=503, times=None)
    told = pull(vk, code=3)
    assert codes(told) == {"no_answer": "error"}
    assert of(told, "no_answer")["message"].startswith(
        "Account 12345: what VK counts of goals was not read; cost was read all the same: "
    )


def test_counts_come_once_with_post_view_and_what_is_gone_goes(vk: Any, today: date) -> None:
    vk.box.config.vk.goal_events = [
        event(today), event(today, 2, conversion_type="postview"), event(today - DAY, 5), event(today - 20 * DAY, 1),
        event(today, 7, source="mobile"), event(today, 9, counter_id=7654321),
    ]  # fmt: skip
    assert (pull(vk)["accounts"][0]["goals"], len(counts(vk))) == (9, 3)
    assert counts(vk)[-1] == (today, "crm_sale", 3)
    del vk.box.config.vk.goal_events[2]
    pull(vk)
    assert counts(vk) == [(today - 20 * DAY, "crm_sale", 1), (today, "crm_sale", 3)]


# -- what the report makes of them


def lose(shop: Any, *numbers: str, kind: str) -> None:
    """Sales whose answers are lost, one by one."""
    for number in numbers:
        shop.row(number)
        shop.box.faults.add(on="vk.tracker", kind=kind)
        shop.run("sync", "--destination", "vk")


def doubt(shop: Any) -> dict[str, Any]:
    (found,) = report(shop)["doubts"]
    return dict(found)


def test_without_statistics_a_report_says_what_is_missing_and_guesses_nothing(vk: Any, today: date) -> None:
    lose(vk, "1", kind="reset_after")
    found = doubt(vk)
    assert (found["unknown"], found["arrived"], found["counted"], found["unread"]) == (1, None, None, 1)
    assert found["unread_days"] == [str(today)]
    assert found["message"].endswith(f"1 of them left on {today}: convsync costs pull.")
    vk.configure()
    assert doubt(vk)["message"].endswith("add client_id and client_secret, then convsync costs pull.")


def test_unknown_outcomes_that_vk_counted_are_told_from_those_that_it_did_not(vk: Any) -> None:
    lose(vk, "1", "2", kind="reset_after")
    lose(vk, "3", kind="reset_before")
    vk.row("4")
    vk.run("sync", "--destination", "vk")
    assert sorted(vk.states("vk").values()) == ["accepted", "unknown", "unknown", "unknown"]
    pull(vk)
    found = doubt(vk)
    assert (found["unknown"], found["arrived"], found["accepted"], found["counted"]) == (3, 2, 1, 3)
    assert found["message"] == (
        "vk: 3 outcomes unknown; by VK's own count at least 2 of them arrived: it counts only what it ties to its ads."
    )
    assert found["message"] in report(vk)["notes"]
    assert found["message"] in " ".join(vk.run("report").stdout.split())
    assert sorted(vk.states("vk").values()) == ["accepted", "unknown", "unknown", "unknown"], "no guess in the ledger"


def test_what_was_sent_after_the_counts_were_read_waits_for_the_next_pull(vk: Any) -> None:
    pull(vk)
    lose(vk, "1", kind="reset_after")
    assert (doubt(vk)["arrived"], doubt(vk)["unread"]) == (None, 1)
    pull(vk)
    assert (doubt(vk)["arrived"], doubt(vk)["unread"]) == (1, 0)


def test_what_is_known_to_be_sent_counts_so_and_what_was_given_up_may_have_been_counted(vk: Any) -> None:
    lose(vk, "1", "2", kind="reset_after")
    for number, verdict in (("1", "sent"), ("2", "give-up")):
        decided = ("ledger", "resolve", f"shop/{number}", "--destination", "vk", "--as", verdict, "--why", "seen")
        assert vk.run(*decided).exit_code == 0
    pull(vk)
    found = doubt(vk)
    assert (found["unknown"], found["accepted"], found["counted"], found["more"]) == (0, 1, 2, 0)
    assert found["message"].endswith("1 more may be among them: sent again since, or given up while in doubt.")


def test_where_the_site_fires_the_goal_too_nothing_is_said_to_have_arrived(vk: Any, today: date) -> None:
    lose(vk, "1", kind="reset_before")
    vk.box.config.vk.goal_events = [event(today, 4)]
    pull(vk)
    found = doubt(vk)
    assert (found["unknown"], found["arrived"], found["unclear"], found["more"]) == (1, None, 1, 3)


def test_what_was_sent_again_is_not_taken_for_another_that_arrived(vk: Any) -> None:
    lose(vk, "1", kind="reset_after")
    again = ("ledger", "resolve", "shop/1", "--destination", "vk", "--as", "send-again", "--yes", "--why", "hurry")
    assert vk.run(*again).exit_code == 0
    vk.run("sync", "--destination", "vk")
    lose(vk, "2", kind="reset_before")
    pull(vk)
    found = doubt(vk)
    assert (found["unknown"], found["accepted"], found["counted"], found["arrived"]) == (1, 1, 2, 0)


def test_more_than_was_sent_is_said_to_come_from_somewhere_else(vk: Any, today: date) -> None:
    vk.row("1")
    vk.run("sync", "--destination", "vk")
    vk.box.config.vk.goal_events = [event(today, 4), event(today - DAY, 2), event(today, 8, goal="crm_lead")]
    pull(vk)
    assert doubt(vk)["message"] == (
        "vk: 1 accepted by the tracker, VK counted 7, of what it ties to its ads. VK counted 6 more than was sent: the"
        " site itself may fire the same goal."
    )


def test_nothing_sent_says_nothing(vk: Any) -> None:
    pull(vk)
    assert report(vk)["doubts"] == []
