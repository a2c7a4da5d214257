"""`costs pull` from Google, against the sandbox's Google Ads API: what stands in the way first, then what it brings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ads_rows import Asked, row
from convsync.cli import pull as pulling
from convsync.cli.pull import Pull, Shelf
from convsync.config import load
from convsync.ledger import Ledger, Lock
from convsync.sandbox.ads.config import Account, AdClick, Cost
from convsync.sandbox.certificate import certificate_in

DAY = timedelta(days=1)
PULL = ("costs", "pull", "--destination", "google")
ME, OTHER, MANAGER = "1234567890", "9876543210", "5550001111"


@pytest.fixture
def today() -> date:
    return datetime.now(UTC).astimezone(ZoneInfo("Europe/Moscow")).date()


def spent(shop: Any, day: date, campaign: str = "77", rubles: float = 10.5, account: str = ME) -> Cost:
    one = Cost(str(day), campaign, int(rubles * 1_000_000), 5, 100, f"Campaign {campaign}", account)
    shop.box.config.ads.costs.append(one)
    return one


def clicked(shop: Any, gclid: str, day: date, campaign: str = "77") -> None:
    shop.box.config.ads.clicks.append(AdClick(gclid, f"{day}T12:00:00+03:00", campaign))


def pull(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("-q", *PULL, "--json", *args)
    assert result.exit_code == code, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["exit_code"] == code
    return told


def kept(shop: Any) -> list[tuple[str, str, int, str]]:
    book = Ledger.open(shop.ledger, read_only=True)
    try:
        spends = list(book.figures.spends(date(2000, 1, 1), date(2100, 1, 1)))
    finally:
        book.close()
    return [(one.account, one.campaign_id, one.amount, one.currency) for one in spends]


def codes(told: dict[str, Any]) -> dict[str, str]:
    """What a person should look at."""
    return {one["code"]: one["level"] for one in told["findings"] if one["level"] != "info"}


# -- what stands in the way


def test_days_in_the_wrong_order_and_days_long_gone_exit_2_and_store_nothing(ads_shop: Any) -> None:
    wrong = ads_shop.run(*PULL, "--since", "2026-11-02", "--until", "2026-11-01")
    assert (wrong.exit_code, "lies before" in wrong.stderr) == (2, True)
    old = ads_shop.run(*PULL, "--since", "2020-01-01")
    assert (old.exit_code, "37 months" in old.stderr) == (2, True)
    assert not ads_shop.ledger.exists()


def test_credentials_that_are_missing_or_refused_exit_2(ads_shop: Any) -> None:
    ads_shop.google(refresh_token="")
    assert ads_shop.run(*PULL).exit_code == 2
    ads_shop.google(refresh_token="another")
    assert codes(pull(ads_shop, code=2)) == {"invalid_grant": "error"}


def test_a_grant_without_the_ads_api_exits_2_and_says_how_to_get_it(ads_shop: Any) -> None:
    ads_shop.box.config.google.scopes = ["https://www.googleapis.com/auth/datamanager"]
    (finding,) = [one for one in pull(ads_shop, code=2)["findings"] if one["level"] == "error"]
    assert "convsync google login" in finding["advice"]


def test_what_stops_every_account_is_told_once(ads_shop: Any) -> None:
    ads_shop.google(f'cost_customer_ids = ["1112223333", "{ME}", "{OTHER}"]')
    ads_shop.box.config.ads.versions = ["v27"]
    ads_shop.box.config.ads.dead_answer = "UNSUPPORTED_VERSION"
    assert [one["code"] for one in pull(ads_shop, code=2)["findings"] if one["level"] == "error"] == [
        "unsupported_version"
    ]


def test_missing_credentials_lead_to_the_sign_in(ads_shop: Any) -> None:
    ads_shop.google(refresh_token="")
    for command in (PULL, ("google", "actions"), ("check",), ("sync",)):
        result = ads_shop.run(*command)
        assert (result.exit_code, "`convsync google login`" in result.output) == (2, True), command


def test_certificates_that_cannot_be_read_exit_2_and_are_named(ads_shop: Any) -> None:
    (ads_shop.folder / "ca.pem").write_text("nothing of the kind")
    ads_shop.google('ca_bundle = "ca.pem"')
    for command in (PULL, ("check", "--online"), ("sync",)):
        result = ads_shop.run(*command)
        assert (result.exit_code, "ca.pem, which ca_bundle names, holds no" in result.output) == (2, True), command


def test_a_certificate_that_is_not_trusted_is_told_in_our_words_alone(
    ads_shop: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, _ = certificate_in(tmp_path_factory.mktemp("stranger"))
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(stranger))
    with ads_shop.start("-q", *PULL) as pulling:
        said = pulling.communicate()[1]
    assert pulling.returncode == 3
    assert said.startswith("error: destinations.google: Account 1234567890 was not read to its end: ")
    assert len(said.splitlines()) == 1, "grpc writes past us unless it is told not to"


def test_google_out_of_reach_exits_3_and_keeps_what_there_was(ads_shop: Any, today: date) -> None:
    spent(ads_shop, today)
    pull(ads_shop)
    ads_shop.google(endpoint="localhost:1")
    assert codes(pull(ads_shop, code=3)) == {"no_answer": "error"}
    assert len(kept(ads_shop)) == 1


def test_a_quota_exits_3(ads_shop: Any) -> None:
    ads_shop.box.faults.add(on="ads.search", error="QuotaError.RESOURCE_EXHAUSTED", times=None)
    assert codes(pull(ads_shop, code=3)) == {"refused": "error"}


def test_an_answer_that_breaks_off_changes_nothing_of_the_account(ads_shop: Any, today: date) -> None:
    first = spent(ads_shop, today)
    spent(ads_shop, today, "78")
    pull(ads_shop, "--no-clicks")
    first.cost_micros = 99_000_000
    ads_shop.box.config.ads.rows_per_batch = 1
    ads_shop.box.faults.add(on="ads.search", code="INTERNAL", skip=1, after=1)
    assert codes(pull(ads_shop, "--no-clicks", code=3)) == {"no_answer": "error"}
    assert sorted(kept(ads_shop)) == [(ME, "77", 1050, "RUB"), (ME, "78", 1050, "RUB")]
    assert pull(ads_shop, "--no-clicks")["accounts"][0]["changed"] == 1


def test_an_account_that_is_refused_stops_no_other(ads_shop: Any, today: date) -> None:
    ads_shop.google(f'cost_customer_ids = ["1112223333", "{ME}"]')
    spent(ads_shop, today)
    told = pull(ads_shop, code=2)
    assert codes(told) == {"user_permission_denied": "error"}
    (refused,) = [one["message"] for one in told["findings"] if one["level"] == "error"]
    assert refused.startswith("Account 1112223333: these credentials have no access")
    assert [one["account"] for one in told["accounts"]] == [ME]
    assert len(kept(ads_shop)) == 1


def test_a_pull_does_not_write_beside_a_running_sync(ads_shop: Any, today: date) -> None:
    spent(ads_shop, today)
    clicked(ads_shop, "Cj0KCQ-1", today)
    lock = Lock(ads_shop.ledger)
    lock.take()
    assert ads_shop.run(*PULL).exit_code == 4, "there is no ledger yet, and nobody may make one"
    lock.release()
    Ledger.open(ads_shop.ledger).close()
    lock.take()
    told = pull(ads_shop, code=4)
    lock.release()
    assert (told["accounts"], codes(told)) == ([], {"ledger_busy": "error"})
    assert kept(ads_shop) == []
    again = pull(ads_shop)["accounts"][0]
    assert (again["new"], again["clicks"]) == (1, 1)


def test_a_run_that_begins_between_cost_and_clicks_leaves_the_cost_written(ads_shop: Any, today: date) -> None:
    told = {"id": ME, "descriptive_name": "Shop", "currency_code": "RUB", "time_zone": "Europe/Moscow", "status": 2}
    campaign = {"id": 77, "name": "Brand"}
    cost = row(campaign=campaign, segments={"date": str(today)}, metrics={"cost_micros": 10_500_000})
    asked = Asked(customer=[row(customer=told)], campaign=[cost], click_view=[row(click_view={"gclid": "Cj0KCQ-1"})])
    lock = Lock(ads_shop.ledger)

    def search(customer: str, query: str) -> Iterator[Any]:
        if "FROM click_view" in query and "FROM click_view" not in asked.queries[-1][1]:
            lock.take()
        return asked(customer, query)

    config = load(ads_shop.path)
    done = Pull(Shelf(config, timedelta(0)), config.timezone, None, None, True, datetime.now(UTC), str)
    done.read_google("google", (ME,), search)
    lock.release()
    (finding,) = done.asking.findings
    assert (finding.code, done.exit_code) == ("ledger_busy", 4)
    assert finding.message.startswith(f"The clicks of account {ME} were read and not kept. Another run holds")
    assert [(one.account.id, one.rows.new, one.click_days) for one in done.read] == [(ME, 1, 0)]
    assert kept(ads_shop) == [(ME, "77", 1050, "RUB")]


def test_days_of_clicks_before_one_that_breaks_off_are_kept(ads_shop: Any, today: date) -> None:
    for back in range(6):
        clicked(ads_shop, f"Cj0KCQ-{back}", today - back * DAY)
    ads_shop.box.faults.add(on="ads.search", code="INTERNAL", skip=7)
    told = pull(ads_shop, code=3)["accounts"][0]
    assert (told["click_days"], told["clicks"]) == (5, 5)
    again = pull(ads_shop)["accounts"][0]
    assert (again["click_days"], again["clicks"]) == (88, 4), "the last three days still grow"


def test_many_clicks_are_written_in_parts(ads_shop: Any, today: date, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "MOST_HELD", 2)
    for back in range(5):
        clicked(ads_shop, f"Cj0KCQ-{back}", today - back * DAY)
    told = pull(ads_shop)["accounts"][0]
    assert (told["click_days"], told["clicks"]) == (90, 5)


# -- what it brings


def test_cost_comes_once_and_corrections_and_removals_follow(ads_shop: Any, today: date) -> None:
    costs = [spent(ads_shop, today - back * DAY) for back in range(40)]
    first = pull(ads_shop)["accounts"][0]
    assert (first["rows"], first["new"], first["days"]) == (30, 30, 30)
    assert first["cost"] == {"RUB": "315.00"}
    assert (first["name"], first["time_zone"]) == ("Account 1234567890", "Europe/Moscow")
    again = pull(ads_shop)["accounts"][0]
    assert (again["days"], again["rows"], again["new"], again["changed"], again["removed"]) == (8, 8, 0, 0, 0)
    costs[0].cost_micros = 20_000_000
    del ads_shop.box.config.ads.costs[1]
    third = pull(ads_shop)["accounts"][0]
    assert (third["new"], third["changed"], third["removed"]) == (0, 1, 1)
    assert len(kept(ads_shop)) == 29
    assert pull(ads_shop, "--since", str(today - 39 * DAY))["accounts"][0]["new"] == 10


def test_a_manager_stands_for_its_clients_each_in_its_currency(ads_shop: Any, today: date) -> None:
    accounts = ads_shop.box.config.ads.accounts
    accounts[OTHER] = Account("Almaty", "KZT", "Asia/Almaty")
    ads_shop.google(f'cost_customer_ids = ["{MANAGER}", "{ME}"]', f'login_customer_id = "{MANAGER}"')
    spent(ads_shop, today - DAY)
    spent(ads_shop, today - DAY, "88", 2000, OTHER)
    told = pull(ads_shop)
    assert [(one["account"], one["cost"]) for one in told["accounts"]] == [
        (ME, {"RUB": "10.50"}), (OTHER, {"KZT": "2000.00"}),
    ]  # fmt: skip
    assert sorted(kept(ads_shop)) == [(ME, "77", 1050, "RUB"), (OTHER, "88", 200000, "KZT")]


def test_days_of_another_zone_are_a_note_and_every_report_says_it(ads_shop: Any, today: date) -> None:
    ads_shop.box.config.ads.accounts[ME] = Account("Almaty", "KZT", "Asia/Almaty")
    spent(ads_shop, today - DAY)
    told = pull(ads_shop)
    assert codes(told) == {}, "cron should not mail what stays so for ever"
    assert "cost_zone" in {one["code"] for one in told["findings"]}
    sentence = "Cost of 1 account is by days of Asia/Almaty, all else by days of Europe/Moscow."
    assert sentence in json.loads(ads_shop.run("report", "--json").stdout)["notes"]
    for shape in ("csv", "table"):
        assert sentence in " ".join(ads_shop.run("report", "--format", shape).stdout.split()), shape
    earlier = ("report", "--json", "--since", "2026-01-01", "--until", "2026-01-31")
    assert sentence not in json.loads(ads_shop.run(*earlier).stdout)["notes"]


def test_a_client_that_is_not_in_use_is_named_and_left_out(ads_shop: Any) -> None:
    ads_shop.box.config.ads.accounts[OTHER] = Account(status="CANCELED")
    ads_shop.google(f'cost_customer_ids = ["{MANAGER}"]', f'login_customer_id = "{MANAGER}"')
    told = pull(ads_shop)
    assert [one["account"] for one in told["accounts"]] == [ME]
    (closed,) = [one for one in told["findings"] if one["code"] == "account_closed"]
    assert OTHER in closed["message"]


def test_an_import_of_the_same_money_is_told_and_can_be_taken_out(ads_shop: Any, today: date) -> None:
    path = ads_shop.folder / "november.csv"
    path.write_text(
        f"day,platform,campaign,amount,currency\n{today},google,Brand,10.50,RUB\n{today},vk,A,1,RUB\n", "utf-8"
    )
    assert ads_shop.run("costs", "import", str(path)).exit_code == 0
    spent(ads_shop, today)
    (twice,) = [one for one in pull(ads_shop)["findings"] if one["code"] == "cost_twice"]
    assert twice["level"] == "warning"
    assert "costs drop november.csv --platform google" in twice["advice"]
    again = json.loads(ads_shop.run("costs", "import", str(path), "--json").stdout)
    assert [one["code"] for one in again["findings"]] == ["cost_twice"]
    assert "Did you mean november.csv?" in ads_shop.run("costs", "drop", "novembre.csv").stderr
    result = ads_shop.run("costs", "drop", "november.csv", "--platform", "google")
    assert result.stdout == "1 row of november.csv taken out.\n"
    assert "cost_twice" not in codes(pull(ads_shop))
    assert json.loads(ads_shop.run("costs", "drop", "november.csv", "--json").stdout)["removed"] == 1


def test_where_no_file_was_imported_none_can_be_taken_out(ads_shop: Any) -> None:
    result = ads_shop.run("costs", "drop", "november.csv")
    assert result.exit_code == 2
    assert result.stderr == "error: No cost was imported from 'november.csv'.\nadvice: Nor from any other file.\n"


def test_an_action_without_a_campaign_is_reported_under_that_of_its_click(ads_shop: Any, today: date) -> None:
    ads_shop.row("1", "lead")
    ads_shop.row("2", "lead", gclid="nobody-knows")
    ads_shop.run("sync")
    clicked(ads_shop, "Cj0KCQ-1", today - 89 * DAY)
    clicked(ads_shop, "Cj0KCQ-3", today)
    spent(ads_shop, today - DAY)
    pull(ads_shop, "--no-clicks")
    since, until = str(today - DAY), str(today + DAY)
    report = ("report", "--json", "--by", "campaign", "--since", since, "--until", until)

    def campaigns() -> dict[str, int]:
        return {row["campaign"]: row["leads"] for row in json.loads(ads_shop.run(*report).stdout)["rows"]}

    assert campaigns() == {"Campaign 77": 0, "(no campaign)": 2}
    told = pull(ads_shop)["accounts"][0]
    assert (told["click_days"], told["clicks"]) == (90, 2)
    assert campaigns() == {"Campaign 77": 1, "(no campaign)": 1}
    assert pull(ads_shop)["accounts"][0]["click_days"] == 3
    everything = b"".join(path.read_bytes() for path in ads_shop.folder.glob("ledger.db*"))
    assert b"Cj0KCQ-3" not in everything


def test_a_person_reads_days_rows_and_cost(ads_shop: Any, today: date) -> None:
    spent(ads_shop, today)
    result = ads_shop.run(*PULL)
    assert result.exit_code == 0
    first, rows, clicks = result.stdout.splitlines()
    assert first == f"{ME} Account {ME}: 10.50 RUB from {today - 29 * DAY} to {today}"
    assert (rows, clicks) == ("  1 row: 1 new", "  0 clicks of 90 days")
    again = ads_shop.run(*PULL, "--no-clicks", "--since", str(today - DAY), "--until", str(today - DAY))
    assert again.stdout == f"{ME} Account {ME}: nothing spent on {today - DAY}\n  0 rows: nothing new\n"
    assert ads_shop.run("-q", *PULL).output == ""


def test_no_command_loads_grpc_before_it_asks_google(ads_shop: Any) -> None:
    path = ads_shop.folder / "a.csv"
    path.write_text("day,platform,campaign,amount,currency\n2026-11-01,vk,A,1,RUB\n", "utf-8")
    code = (
        "import sys; from convsync.cli import commands\n"
        f"commands(['--config', {str(ads_shop.path)!r}, 'costs', 'import', {str(path)!r}], standalone_mode=False)"
    )
    check = f"import atexit, sys; atexit.register(lambda: print('grpc' in sys.modules))\n{code}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
