"""Costs come in, a report goes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from convsync.ledger import Lock

DAY = timedelta(days=1)
HEADER = "day,platform,campaign,amount,currency,clicks\n"


@pytest.fixture
def today() -> str:
    return str(datetime.now(UTC).date())


def costs(shop: Any, *lines: str, name: str = "costs.csv") -> Path:
    path: Path = shop.folder / name
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines), "utf-8")
    return path


# -- costs import


def test_bad_rows_are_shown_with_their_line_and_exit_1_and_good_rows_count(shop: Any, today: str) -> None:
    path = costs(shop, f"{today},google,Brand,10.50,RUB,3", f"{today},google,Other,ten,RUB,3")
    result = shop.run("costs", "import", str(path))
    assert result.exit_code == 1
    assert "costs.csv:3: amount: 'ten' is not an amount" in result.stderr
    assert "1 new or changed" in result.stdout
    told = json.loads(shop.run("costs", "import", str(path), "--json").stdout)
    assert (told["rows"], told["changed"], len(told["bad_rows"]), told["exit_code"]) == (1, 0, 1, 1)


def test_one_file_that_cannot_be_read_stops_the_import_before_anything_is_stored(shop: Any, today: str) -> None:
    good = costs(shop, f"{today},google,Brand,10.50,RUB,3")
    result = shop.run("costs", "import", str(good), str(shop.folder / "none.csv"))
    assert result.exit_code == 2
    assert "none.csv: No such file" in result.stderr
    assert not shop.ledger.exists()


def test_a_missing_column_exits_2_and_names_the_nearest(shop: Any) -> None:
    path = shop.folder / "wrong.csv"
    path.write_text("day,platform,campaign,ammount,currency\n", "utf-8")
    result = shop.run("costs", "import", str(path))
    assert result.exit_code == 2
    assert "'ammount'" in result.stderr


def test_an_import_does_not_write_beside_a_running_sync(shop: Any, today: str) -> None:
    path = costs(shop, f"{today},google,Brand,10.50,RUB,3")
    lock = Lock(shop.ledger)
    lock.take()
    try:
        assert shop.run("costs", "import", str(path)).exit_code == 4
    finally:
        lock.release()


def test_the_same_file_again_changes_nothing(shop: Any, today: str) -> None:
    path = costs(shop, f"{today},google,Brand,10.50,RUB,3")
    assert "1 new or changed, 0 known already" in shop.run("costs", "import", str(path)).stdout
    result = shop.run("costs", "import", str(path))
    assert (result.exit_code, "0 new or changed, 1 known already" in result.stdout) == (0, True)


# -- report


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--basis", "click"), "not in this version"),
        (("--basis", "visit"), "no basis"),
        (("--format", "html"), "not in this version"),
        (("--format", "xml"), "no format"),
        (("--format", "csv", "--json"), "two formats"),
        (("--by", "platfrom"), "Did you mean platform?"),
        (("--since", "22.11.2026"), "is not a day"),
        (("--since", "2026-11-22T10:00"), "whole days"),
        (("--since", "2026-11-22", "--until", "2026-11-21"), "lies before"),
    ],
)
def test_what_a_report_cannot_be_exits_2(shop: Any, args: tuple[str, ...], said: str) -> None:
    shop.run("sync")
    result = shop.run("report", *args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_report_without_a_ledger_exits_2(shop: Any) -> None:
    result = shop.run("report")
    assert result.exit_code == 2
    assert "There is no ledger" in result.stderr


def test_days_need_a_timezone(shop: Any) -> None:
    shop.run("sync")
    shop.configure(lambda text: text.replace('timezone = "Europe/Moscow"\n', "", 1))
    result = shop.run("report")
    assert result.exit_code == 2
    assert "timezone" in result.stderr


def test_a_report_divides_cost_by_leads_and_sales(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    day = datetime.now(UTC).date()
    path = costs(shop, f"{day},google,Brand,300.00,RUB,30")
    shop.run("costs", "import", str(path))
    told = json.loads(shop.run("report", "--json", "--since", str(day - DAY), "--until", str(day + DAY)).stdout)
    google = next(row for row in told["rows"] if row["platform"] == "google")
    assert (google["cost"], google["leads"], google["sales"]) == (300.0, 1, 2)
    assert (google["cpl"], google["cpa"], google["value"]) == (300.0, 150.0, 350.5)
    assert google["coverage"] == 1.0


def test_a_report_of_what_was_skipped_alone_says_where_the_reasons_are(shop: Any) -> None:
    shop.row("1", "nobody_configured_this")
    shop.run("sync")
    notes = " ".join(json.loads(shop.run("report", "--json").stdout)["rows"][0]["notes"])
    assert "Nothing was addressed to a platform (what was skipped, and why: convsync ledger list --skipped)" in notes
    assert "nobody_configured_this" in shop.run("ledger", "list", "--skipped").stdout


def test_a_report_goes_to_a_file_as_csv(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    target = shop.folder / "report.csv"
    result = shop.run("report", "--by", "platform,campaign", "--format", "csv", "-o", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    assert target.read_text("utf-8").startswith("platform,campaign,cost,")
    assert shop.run("report", "-o", str(shop.folder / "no" / "report.csv")).exit_code == 2


def test_a_table_says_which_days_it_covers(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    result = shop.run("report", "--since", "2026-11-01", "--until", "2026-11-30", "--by", "total")
    assert result.stdout.startswith("From 2026-11-01 until 2026-11-30")
