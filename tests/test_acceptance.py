"""69,659 real purchases (CDNOW, 1997-1998), mapped by configuration alone and followed to the last cent.

The test adds what the data set does not have: click ids, and days within the platforms' windows. The figures it compares
with are computed from the file by the few lines below, which know nothing of convsync.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from convsync.ledger import Ledger
from convsync.ledger.verify import verify
from convsync.sandbox import Sandbox, SandboxConfig

WHERE = "CONVSYNC_CDNOW"
DATA = Path(os.environ.get(WHERE, Path(__file__).parents[2] / "shared" / "data" / "cdnow.csv.gz"))
SPAN = 80

CONFIG = """
timezone = "America/New_York"
reporting_currency = "USD"
[ledger]
url = "sqlite:///ledger.db"
[sources.music]
type = "csv"
path = "purchases.csv.gz"
id = "purchase"
action = "sale"
currency = "USD"
occurred_format = "%Y%m%d"
time_of_day = "12:00"
[sources.music.fields]
occurred_at = "day"
value = "dollars"
[actions.sale]
kind = "sale"
google = {{ conversion_action = "2222222222" }}
yandex = {{ status = "PAID" }}
vk = {{ goal = "crm_sale" }}
[destinations.google]
customer_id = "1234567890"
client_id = "sandbox-client"
client_secret = "sandbox-secret"
refresh_token = "sandbox-refresh"
data_manager_url = "{url}"
token_url = "{url}/token"
poll_after = "1s"
poll_every = "1s"
[destinations.yandex]
counter_id = "12345678"
token = "sandbox-token"
metrica_url = "{url}"
batch_rows = 10000
[destinations.vk]
pixel_id = "1234567"
tracker_url = "{url}/tracker"
requests_per_second = 400
"""


class Figures:
    """What must come out, counted from the file."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = defaultdict(int)
        self.money: dict[str, Decimal] = defaultdict(Decimal)
        self.rounded = 0

    def add(self, platform: str, dollars: Decimal) -> None:
        self.rows[platform] += 1
        self.money[platform] += dollars
        if platform == "vk":
            self.rounded += int(dollars + Decimal("0.5"))


def make_purchases(path: Path, today: date) -> Figures:
    """The real purchases, with a click id by the customer's number and the day moved into the last eighty."""
    figures = Figures()
    start = date(1997, 1, 1)
    with gzip.open(DATA, "rt") as given, gzip.open(path, "wt", newline="") as made:
        writer = csv.writer(made)
        writer.writerow(
            ["purchase", "customer", "day", "discs", "dollars", "gclid", "yclid", "ym_client_id", "rb_clickid"]
        )
        for row in csv.DictReader(given):
            customer, text = int(row["customer"]), row["day"]
            offset = (date(int(text[:4]), int(text[4:6]), int(text[6:])) - start).days % SPAN
            platform = "vk" if customer % 400 == 2 else ("google", "yandex", "")[customer % 3]
            # VK takes what is younger than 30 days; Metrica ties an order to a visit of the last 21
            day = today - timedelta(days=1 + offset % {"vk": 28, "yandex": 20}.get(platform, SPAN))
            ids = {
                "google": [f"Cj0KCQ{row['purchase']:0>12}", "", "", ""],
                "yandex": ["", f"17{row['purchase']:0>17}", f"16{customer:0>17}", ""],
                "vk": ["", "", "", f"rb{row['purchase']}"],
                "": ["", "", "", ""],
            }[platform]
            writer.writerow([row["purchase"], customer, day.strftime("%Y%m%d"), row["discs"], row["dollars"], *ids])
            figures.add(platform, Decimal(row["dollars"]))
    return figures


def convsync(folder: Path, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "convsync", "--config", str(folder / "convsync.toml"), *arguments, "--json"]
    env = {name: value for name, value in os.environ.items() if name != WHERE}  # convsync takes it for a key of its own
    done = subprocess.run(command, capture_output=True, timeout=300, check=False, env=env)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout, parse_float=Decimal)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="THE REAL PURCHASES ARE NOT HERE: set CONVSYNC_CDNOW to cdnow.csv.gz")
def test_real_purchases_reach_every_platform_once_and_the_sums_agree_to_the_cent(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    figures = make_purchases(tmp_path / "purchases.csv.gz", today)
    assert sum(figures.rows.values()) == 69_659
    with Sandbox(SandboxConfig()) as box:
        config = tmp_path / "convsync.toml"
        config.write_text(CONFIG.format(url=box.url))
        config.chmod(0o600)
        code, first = convsync(tmp_path, "sync")
        assert code == 0, first
        assert (first["read"], first["new"]) == (69_659, 69_659)
        requests = dict(box.books()["requests"])
        code, second = convsync(tmp_path, "sync")
        assert (second["read"], second["new"]) == (0, 0), "an unchanged file is not even read"
        box.clock.advance(60)
        convsync(tmp_path, "settle")
        books = box.books()
    assert books["requests"]["google.ingest"] == requests["google.ingest"]

    google, yandex, vk = (books["totals"][name] for name in ("google", "yandex", "vk"))
    assert (google["conversions"], Decimal(google["value"]["USD"])) == (figures.rows["google"], figures.money["google"])
    assert (yandex["orders"], Decimal(yandex["revenue"]["USD"])) == (figures.rows["yandex"], figures.money["yandex"])
    assert (vk["hits"], int(vk["value"])) == (figures.rows["vk"], figures.rounded)

    ledger = Ledger.open(tmp_path / "ledger.db", read_only=True)
    stats = ledger.audit.stats()
    assert verify(ledger.store) == []
    ledger.close()
    assert stats["destinations"] == {
        "google": {"confirmed": figures.rows["google"]},
        "yandex": {"accepted": figures.rows["yandex"]},
        "vk": {"accepted": figures.rows["vk"]},
    }
    _, report = convsync(
        tmp_path, "report", "--since", str(today - timedelta(days=SPAN + 5)), "--until", str(today), "--by", "platform"
    )
    told = {row["platform"]: (row["sales"], row["value"]) for row in report["rows"]}
    assert {name.strip("()").replace("unattributed", ""): counts for name, counts in told.items()} == {
        name: (figures.rows[name], figures.money[name]) for name in figures.rows
    }
    assert (report["total"]["sales"], report["total"]["value"]) == (69_659, sum(figures.money.values()))
