"""`costs pull` from Yandex.Direct, against the sandbox's: what stands in the way first, then what it brings."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from convsync.cli import assemble
from convsync.ledger import Ledger, Lock
from convsync.model import Spend
from convsync.sandbox.ads.config import Cost
from convsync.sandbox.config import DirectCampaign, DirectChange, DirectClient

DAY = timedelta(days=1)
PULL = ("costs", "pull", "--destination", "yandex")
SHOP, SECOND = "shop-direct", "second-direct"
NOT_SOON = {"retryIn": "3600"}
"""More than anybody waits for, so that nothing is waited for."""


@pytest.fixture
def today() -> date:
    return datetime.now(UTC).astimezone(ZoneInfo("Europe/Moscow")).date()


@pytest.fixture
def direct(shop: Any) -> Any:
    """A shop whose two campaigns cost the same every day, from now on and before."""
    settle(shop.box)
    return shop


def settle(box: Any) -> None:
    world = box.config.direct
    world.settling_percent, world.build_seconds, world.retry_in = [], 0.1, 0
    campaigns = {"71": DirectCampaign("Бренд", 100, 5), "72": DirectCampaign('Осень "2026"', 100, 5)}
    world.clients = {
        SHOP: DirectClient(campaigns=campaigns),
        SECOND: DirectClient("KZT", 16, {"81": DirectCampaign("Алматы")}),
    }
    world.changes = [DirectChange(one, impressions=100, clicks=5, cost_micros=100_500_000) for one in ("71", "72")]
    world.changes.append(DirectChange("81", login=SECOND, impressions=10, clicks=1, cost_micros=2_000_000_000))


def change(shop: Any, day: date, **told: Any) -> None:
    shop.box.config.direct.changes.append(DirectChange("71", str(day), **told))


def configure(shop: Any, *lines: str, **values: str) -> None:
    """Lines more, or other values, in the section of Yandex."""

    def changed(text: str) -> str:
        head, _, tail = text.partition("[destinations.yandex]\n")
        for name, value in values.items():
            tail = tail.replace(f'{name} = "sandbox-token"', f'{name} = "{value}"', 1)
        return "\n".join([head + "[destinations.yandex]", *lines, tail])

    shop.configure(changed)


def pull(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("-q", *PULL, "--json", *args)
    assert result.exit_code == code, result.output
    assert "sandbox-token" not in result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["exit_code"] == code
    return told


def kept(shop: Any) -> list[Spend]:
    book = Ledger.open(shop.ledger, read_only=True)
    try:
        return list(book.figures.spends(date(2000, 1, 1), date(2100, 1, 1)))
    finally:
        book.close()


def codes(told: dict[str, Any]) -> dict[str, str]:
    """What a person should look at."""
    return {one["code"]: one["level"] for one in told["findings"] if one["level"] != "info"}


def of(told: dict[str, Any], code: str) -> dict[str, str]:
    (found,) = [one for one in told["findings"] if one["code"] == code]
    return found


def requests(shop: Any) -> dict[str, int]:
    found: dict[str, int] = shop.box.books()["requests"].get("direct.reports", {})
    return found


def answered(shop: Any, status: str, seconds: float = 60) -> None:
    """Wait until Direct has given this answer to somebody who wants a report."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if status in requests(shop):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody was answered {status}: {requests(shop)}")


@pytest.fixture
def queue(direct: Any) -> Any:
    """The same, where a report is made within an hour of the sandbox's clock and not before."""
    configure(direct, 'direct_mode = "offline"')
    direct.box.config.direct.build_seconds = 3600
    return direct


# -- what stands in the way


def test_a_destination_without_a_token_exits_2_and_one_that_writes_files_is_left_out(direct: Any) -> None:
    configure(direct, token="")
    result = direct.run(*PULL)
    assert (result.exit_code, "destinations.yandex" in result.stderr) == (2, True)
    head, tail = direct.path.read_text().split("[destinations.google]")
    tail = tail.replace('token = ""', 'token = ""\nupload = "file"\ncounter_timezone = "Europe/Moscow"', 1)
    direct.path.write_text(f"{head}[destinations.google]\nenabled = false\n{tail}")
    result = direct.run("costs", "pull")
    assert (result.exit_code, "no Google or Yandex destination" in result.stderr) == (2, True)
    assert "destinations.yandex.token is empty" in direct.run(*PULL).stderr, "who names it is told what is missing"


@pytest.mark.parametrize(
    ("user", "code", "advice"),
    [
        ({"rights": []}, "direct_no_rights", "direct:api"),
        ({"app_registered": False}, "direct_no_access", "Ask for it in Direct"),
        ({"api_access": False}, "direct_no_access", "Ask for it in Direct"),
        ({"in_direct": False}, "direct_no_login", "client_login"),
    ],
)
def test_what_direct_does_not_open_exits_2_with_advice(
    direct: Any, user: dict[str, Any], code: str, advice: str
) -> None:
    for name, value in user.items():
        setattr(direct.box.config.direct.tokens["sandbox-token"], name, value)
    found = of(pull(direct, code=2), code)
    assert advice in found["advice"]


def test_a_token_that_is_refused_stops_every_login_and_is_told_once(direct: Any) -> None:
    configure(direct, f'cost_client_logins = ["{SHOP}", "{SECOND}"]', token="another")
    told = pull(direct, code=2)
    assert [one["code"] for one in told["findings"]] == ["direct_token"]
    assert "another" not in json.dumps(told)


def test_the_token_of_an_agency_needs_the_names_of_its_clients(direct: Any) -> None:
    configure(direct, token="sandbox-agency")
    found = of(pull(direct, code=2), "account")
    assert "agency-direct is an agency" in found["message"]
    assert "cost_client_logins" in found["advice"]


def test_a_login_that_is_refused_stops_no_other(direct: Any) -> None:
    configure(direct, f'cost_client_logins = ["nobody", "{SECOND}"]', token="sandbox-agency")
    told = pull(direct, code=2)
    assert of(told, "direct_no_login")["message"].startswith("Account nobody: Yandex.Direct does not know this login.")
    assert [one["account"] for one in told["accounts"]] == [SECOND]


def test_a_currency_that_contradicts_direct_stops_before_anything_is_kept(direct: Any) -> None:
    configure(direct, 'direct_currency = "KZT"')
    assert "in RUB, direct_currency says KZT" in of(pull(direct, code=2), "account")["message"]
    assert kept(direct) == []


def test_days_that_direct_no_longer_keeps_exit_2_before_anything_is_asked(direct: Any) -> None:
    result = direct.run(*PULL, "--since", "2020-01-01")
    assert (result.exit_code, "Yandex.Direct keeps cost by the day for 36 months" in result.stderr) == (2, True)
    assert requests(direct) == {}


def test_direct_out_of_reach_exits_3_and_keeps_what_there_was(direct: Any) -> None:
    pull(direct)
    known = kept(direct)
    direct.configure(lambda text: text.replace(f'direct_url = "{direct.box.url}"', 'direct_url = "http://127.0.0.1:1"'))
    told = pull(direct, code=3)
    assert "Yandex.Direct was not reached (nothing listens at its address)" in of(told, "no_answer")["message"]
    assert "Account of the token was not read to its end" in of(told, "no_answer")["message"]
    assert kept(direct) == known


@pytest.mark.parametrize("error", [152, 9000, 56, 506, 52, 1000])
def test_a_limit_exits_3_and_leaves_the_range_as_it_was(direct: Any, today: date, error: int) -> None:
    pull(direct)
    known = kept(direct)
    change(direct, today, gone=True)
    direct.box.faults.add(on="direct.reports", status=error, headers=NOT_SOON, times=None)
    told = pull(direct, code=3)
    assert codes(told) == {"refused": "error"}
    assert f"Direct says: {error} " in of(told, "refused")["message"]
    assert of(told, "refused")["advice"].startswith("Try again later.")
    assert kept(direct) == known
    direct.box.faults.clear()
    assert pull(direct)["accounts"][0]["removed"] == 1


def test_a_long_wait_is_said_before_it_begins(direct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "LONG_WAIT", 0.0)
    direct.box.faults.add(on="direct.reports", status=152, headers={"retryIn": "0"})
    result = direct.run(*PULL)
    assert result.exit_code == 0
    assert "yandex: Yandex.Direct has no answer yet, it is asked again in" in result.stderr


def test_an_error_that_nobody_documented_exits_1(direct: Any) -> None:
    direct.box.faults.add(on="direct.reports", status=4000, times=None)
    assert codes(pull(direct, code=1)) == {"refused": "error"}


def test_a_report_that_is_not_ready_in_time_exits_3(direct: Any) -> None:
    configure(direct, 'direct_mode = "offline"')
    direct.box.config.direct.retry_in = 3600
    told = pull(direct, code=3)
    assert "Direct has not made the report in time." in of(told, "refused")["message"]
    assert requests(direct) == {"201": 1}


def test_half_a_range_is_never_taken_over(direct: Any, today: date) -> None:
    pull(direct)
    known = kept(direct)
    change(direct, today, cost_micros=1_000_000)
    change(direct, today - 7 * DAY, cost_micros=1_000_000)
    direct.box.faults.add(on="direct.reports", kind="html", status=502)
    direct.box.faults.add(on="direct.reports", status=152, headers=NOT_SOON, skip=1)
    assert codes(pull(direct, code=3)) == {"refused": "error"}
    assert kept(direct) == known
    assert pull(direct)["accounts"][0]["changed"] == 2


def test_a_report_that_cannot_be_read_changes_nothing(direct: Any) -> None:
    pull(direct)
    known = kept(direct)
    direct.box.faults.add(on="direct.reports", kind="garbage")
    assert codes(pull(direct, code=1)) == {"account": "error"}
    assert kept(direct) == known


# -- beside other runs


def test_a_sync_works_while_direct_has_a_report_in_its_queue(queue: Any) -> None:
    queue.three()
    with queue.start("-q", *PULL, "--json") as pulling:
        answered(queue, "202")
        assert queue.run("sync").exit_code == 0
        assert pulling.poll() is None
        queue.box.clock.advance(3600)
        told = json.loads(pulling.communicate()[0])
    assert (pulling.returncode, told["accounts"][0]["new"]) == (0, 60)
    assert len(kept(queue)) == 60
    assert len(queue.states("yandex")) == 3


def test_what_was_read_while_another_run_began_is_told_not_written_and_read_again(queue: Any) -> None:
    with queue.start("-q", *PULL, "--json") as pulling:
        answered(queue, "202")
        lock = Lock(queue.ledger)
        lock.take()
        queue.box.clock.advance(3600)
        told = json.loads(pulling.communicate()[0])
        lock.release()
    assert (pulling.returncode, told["exit_code"], told["accounts"]) == (4, 4, [])
    found = of(told, "ledger_busy")
    assert f"The cost of account {SHOP} was read and not kept. Another run holds this ledger: pid " in found["message"]
    assert "the next pull reads it again" in found["advice"]
    assert kept(queue) == []
    queue.box.config.direct.build_seconds = 0
    assert pull(queue)["accounts"][0]["new"] == 60


def test_with_wait_what_was_read_is_written_once_the_other_run_has_ended(queue: Any) -> None:
    with queue.start("-q", *PULL, "--json", "--wait", "10m") as pulling:
        answered(queue, "202")
        lock = Lock(queue.ledger)
        lock.take()
        queue.box.clock.advance(3600)
        answered(queue, "200")
        assert kept(queue) == []
        lock.release()
        told = json.loads(pulling.communicate()[0])
    assert (pulling.returncode, told["accounts"][0]["new"]) == (0, 60)


def test_a_ledger_that_cannot_be_used_is_told_before_direct_is_asked(direct: Any) -> None:
    pull(direct)
    asked = requests(direct)
    direct.ledger.chmod(0o644)
    result = direct.run(*PULL)
    assert (result.exit_code, "can be read by other users" in result.stderr) == (2, True)
    assert requests(direct) == asked


# -- what it brings


def test_cost_comes_once_and_corrections_and_removals_follow(direct: Any, today: date) -> None:
    first = pull(direct)["accounts"][0]
    assert (first["account"], first["name"], first["time_zone"]) == (SHOP, "", "Europe/Moscow")
    assert (first["rows"], first["new"], first["days"], first["cost"]) == (60, 60, 30, {"RUB": "6030.00"})
    assert kept(direct)[0] == Spend(
        today - 29 * DAY, "yandex", SHOP, "71", "Бренд", 10050, "RUB", False, 5, 100
    )  # fmt: skip
    again = pull(direct)["accounts"][0]
    assert (again["days"], again["rows"], again["new"], again["changed"], again["removed"]) == (8, 16, 0, 0, 0)
    change(direct, today, cost_micros=20_000_000)
    change(direct, today - DAY, gone=True)
    third = pull(direct)["accounts"][0]
    assert (third["new"], third["changed"], third["removed"]) == (0, 1, 1)
    assert len(kept(direct)) == 59
    assert pull(direct, "--since", str(today - 34 * DAY))["accounts"][0]["new"] == 10


def test_a_report_made_offline_is_waited_for_and_fresh_each_time(direct: Any, today: date) -> None:
    configure(direct, 'direct_mode = "offline"')
    assert pull(direct)["accounts"][0]["rows"] == 60
    change(direct, today, cost_micros=20_000_000)
    assert pull(direct)["accounts"][0]["changed"] == 1, "not the finished report of before"
    assert (requests(direct)["201"], requests(direct)["200"]) == (2, 2)


def test_a_range_that_takes_too_long_is_read_in_halves(direct: Any) -> None:
    direct.box.faults.add(on="direct.reports", kind="html", status=502, times=2)
    assert pull(direct)["accounts"][0]["rows"] == 60
    assert requests(direct) == {"502": 2, "200": 3}


def test_vat_is_as_asked_for_and_stands_with_each_row(direct: Any) -> None:
    configure(direct, "direct_vat = true")
    direct.box.config.direct.clients[SHOP].vat_percent = 22
    assert [one["vat_included"] for one in pull(direct)["accounts"]] == [True]
    assert {(one.amount, one.vat_included) for one in kept(direct)} == {(12261, True)}
    assert " RUB with VAT from " in direct.run(*PULL).stdout


def test_a_change_of_direct_vat_is_told_by_the_report_and_mended_as_it_says(direct: Any, today: date) -> None:
    pull(direct)
    configure(direct, "direct_vat = true")
    pull(direct)

    def mixed() -> list[str]:
        notes = [note for row in json.loads(direct.run("report", "--json").stdout)["rows"] for note in row["notes"]]
        return [note for note in notes if note.startswith("The cost mixes")]

    command = mixed()[0].rpartition(": ")[2]
    assert command == f"convsync costs pull --since {today - 29 * DAY}"
    assert direct.run(*command.split()[1:], "--destination", "yandex").exit_code == 0
    assert mixed() == []


def test_the_clients_of_an_agency_come_each_in_its_currency(direct: Any, today: date) -> None:
    configure(direct, f'cost_client_logins = ["{SHOP}", "{SECOND}"]', token="sandbox-agency")
    told = pull(direct, "--since", str(today), "--until", str(today))
    assert [(one["account"], one["cost"]) for one in told["accounts"]] == [
        (SHOP, {"RUB": "201.00"}), (SECOND, {"KZT": "2000.00"}),
    ]  # fmt: skip
    assert {(one.account, one.currency) for one in kept(direct)} == {(SHOP, "RUB"), (SECOND, "KZT")}


def test_an_account_that_two_destinations_name_counts_once(direct: Any) -> None:
    section = direct.path.read_text().split("[destinations.yandex]")[1].split("[destinations.vk]")[0]
    more = f'\n[destinations.branch]\nplatform = "yandex"\nclient_login = "{SHOP}"{section}'
    direct.path.write_text(direct.path.read_text() + more.replace("12345678", "87654321"))
    told = pull(direct, "--destination", "branch")
    assert [(one["destination"], one["account"]) for one in told["accounts"]] == [("yandex", SHOP)]
    assert requests(direct) == {"200": 1}


def test_two_logins_of_one_advertiser_count_once(direct: Any) -> None:
    configure(direct, f'cost_client_logins = ["{SHOP}", "{SECOND}"]', token="sandbox-agency")
    told = {"ClientId": 5, "Currency": "RUB", "Type": "SUBCLIENT"}
    direct.box.faults.add(on="direct.clients", status=200, body={"result": {"Clients": [told]}}, times=None)
    found = pull(direct)
    assert [one["account"] for one in found["accounts"]] == [SHOP]
    assert of(found, "same_advertiser")["message"].startswith(f"{SECOND} and {SHOP} are logins of one advertiser")


def test_nothing_of_google_is_loaded_to_ask_direct(direct: Any) -> None:
    command = ["--config", str(direct.path), "-q", *PULL]
    code = f"from convsync.cli import commands\ncommands({command!r}, standalone_mode=False)"
    check = f"import atexit, sys; atexit.register(lambda: print('grpc' in sys.modules))\n{code}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert len(kept(direct)) == 60


def test_a_cost_that_is_not_told_is_no_zero(direct: Any, today: date) -> None:
    pull(direct)
    change(direct, today, cost_micros="--", clicks=3)
    told = pull(direct)
    assert of(told, "no_cost")["level"] == "warning"
    assert f"Direct told no cost of 1 row on {today}" in of(told, "no_cost")["message"]
    assert told["accounts"][0]["removed"] == 1, "what was told before is no longer told"


def test_days_of_another_zone_are_a_note(direct: Any) -> None:
    direct.configure(lambda text: text.replace('timezone = "Europe/Moscow"', 'timezone = "Asia/Almaty"'))
    told = pull(direct)
    assert of(told, "cost_zone")["level"] == "info"
    sentence = "Cost of 1 account is by days of Europe/Moscow, all else by days of Asia/Almaty."
    assert sentence in json.loads(direct.run("report", "--json").stdout)["notes"]


def test_an_import_of_the_same_money_is_told_and_can_be_taken_out(direct: Any, today: date) -> None:
    path = direct.folder / "november.csv"
    lines = [f"{today},yandex,{account},Brand,10.50,RUB" for account in ("", "Shop-Direct", "other")]
    path.write_text("\n".join(["day,platform,account,campaign,amount,currency", *lines]), "utf-8")
    assert direct.run("costs", "import", str(path)).exit_code == 0
    found = of(pull(direct), "cost_twice")
    assert "cost of yandex may count twice: 2 imported rows" in found["message"]
    assert "costs drop november.csv --platform yandex" in found["advice"]
    assert direct.run("costs", "drop", "november.csv", "--platform", "yandex").stdout.startswith("3 rows")
    assert "cost_twice" not in codes(pull(direct))


def test_a_lead_of_yandex_has_its_price_in_the_report(direct: Any, today: date) -> None:
    fields = '[sources.shop.fields]\nyclid = "rb_clickid"\n[actions.lead]'
    direct.configure(lambda text: text.replace("[actions.lead]", fields))
    for number in ("1", "2"):
        direct.row(number, "lead", gclid=None, rb_clickid=f"1234567890{number}")
    direct.run("sync")
    pull(direct, "--since", str(today - DAY), "--until", str(today))
    days = ("--since", str(today - DAY), "--until", str(today))
    rows = json.loads(direct.run("report", "--json", *days).stdout)["rows"]
    (row,) = [one for one in rows if one["platform"] == "yandex"]
    assert (row["cost"], row["clicks"], row["leads"], row["cpl"]) == (402.0, 20, 2, 201.0)


def test_google_and_yandex_come_together_and_one_that_fails_stops_not_the_other(ads_shop: Any, today: date) -> None:
    settle(ads_shop.box)
    ads_shop.box.config.ads.costs.append(Cost(str(today), "77", 10_500_000, 5, 100, "Brand", "1234567890"))
    result = ads_shop.run("-q", "costs", "pull", "--json", "--no-clicks")
    told = json.loads(result.stdout)
    assert [(one["destination"], one["account"]) for one in told["accounts"]] == [
        ("google", "1234567890"), ("yandex", SHOP),
    ]  # fmt: skip
    assert [one["where"] for one in told["findings"] if one["code"] == "cost_from_files"] == ["destinations.vk"]
    ads_shop.google(refresh_token="another")
    failed = ads_shop.run("-q", "costs", "pull", "--json", "--no-clicks")
    assert failed.exit_code == 2
    assert [one["account"] for one in json.loads(failed.stdout)["accounts"]] == [SHOP]


def test_a_person_reads_days_rows_and_cost(direct: Any, today: date) -> None:
    result = direct.run(*PULL)
    assert result.exit_code == 0
    assert result.stdout == f"{SHOP}: 6030.00 RUB from {today - 29 * DAY} to {today}\n  60 rows: 60 new\n"
    assert result.stderr == f"{SHOP}: cost from {today - 29 * DAY} to {today} …\n"
    assert direct.run("-q", *PULL).output == ""
    soon = direct.run(*PULL, "--since", str(today + DAY))
    assert (soon.exit_code, "no day of the span has begun there" in soon.stderr) == (0, True)
