"""A shop of a few rows, a configuration that points at the local emulator, and the commands as people type them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convsync.cli import commands
from convsync.errors import ConvsyncError
from convsync.ledger import Ledger
from convsync.ledger.verify import verify
from convsync.sandbox import Sandbox, SandboxConfig

CONFIG = """\
timezone = "Europe/Moscow"
phone_region = "RU"
reporting_currency = "RUB"

[ledger]
url = "sqlite:///ledger.db"

[sources.shop]
type = "sql"
url = "sqlite:///shop.db"
table = "deals"
id = "id"
cursor = "updated_at"

[actions.lead]
kind = "lead"
google = {{ conversion_action = "1111111111" }}
yandex = {{ status = "IN_PROGRESS" }}

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
poll_after = "0s"
poll_every = "100ms"
requests_per_second = 1000
retry_after = "0s"
timeout = "5s"

[destinations.yandex]
counter_id = "12345678"
token = "sandbox-token"
metrica_url = "{url}"
direct_url = "{url}"
poll_after = "0s"
requests_per_second = 1000
retry_after = "0s"
timeout = "5s"

[destinations.vk]
pixel_id = "1234567"
tracker_url = "{url}/tracker"
requests_per_second = 1000
retry_after = "0s"
timeout = "5s"
"""

SCHEMA = """
CREATE TABLE deals (id TEXT PRIMARY KEY, action TEXT, occurred_at TEXT, updated_at TEXT, value TEXT, currency TEXT,
                    order_id TEXT, status TEXT, gclid TEXT, ym_client_id TEXT, rb_clickid TEXT, email TEXT)"""


class Shop:
    """The folder an operator would have."""

    def __init__(self, folder: Path, box: Sandbox) -> None:
        self.folder = folder
        self.box = box
        self.path = folder / "convsync.toml"
        self.ledger = folder / "ledger.db"
        self.configure()
        with closing(sqlite3.connect(folder / "shop.db")) as store, store:
            store.execute(SCHEMA)
        self.changes = 0

    # -- given

    def configure(self, change: Callable[[str], str] = lambda text: text, *, url: str = "") -> None:
        self.path.write_text(change(CONFIG.format(url=url or self.box.url)), "utf-8")
        self.path.chmod(0o600)

    def google(self, *lines: str, endpoint: str = "", **values: str) -> None:
        """Other values, or lines more, in the section of Google, whose Ads API is the sandbox's."""

        def change(text: str) -> str:
            for name, value in values.items():
                text = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', text, count=1, flags=re.MULTILINE)
            more = "\n".join([f'ads_endpoint = "{endpoint or self.box.ads_endpoint}"', *lines])
            return text.replace("[destinations.google]", f"[destinations.google]\n{more}")

        self.configure(change)

    def row(self, number: str, action: str = "sale", **fields: Any) -> None:
        """A row of the shop, or a new state of one. Each is touched a second after the one before."""
        self.changes += 1
        now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        told: dict[str, Any] = {
            "id": number, "action": action, "occurred_at": (now - timedelta(hours=1)).isoformat(),
            "updated_at": (now + timedelta(seconds=self.changes)).isoformat(),
            "value": "100.00" if action == "sale" else None, "currency": "RUB" if action == "sale" else None,
            "order_id": f"order-{number}", "status": "active", "gclid": f"Cj0KCQ-{number}",
            "ym_client_id": f"16000000000{sum(map(ord, number)):08d}", "rb_clickid": f"rb-{number}",
            "email": "anna@example.com",
        } | fields  # fmt: skip
        with closing(sqlite3.connect(self.folder / "shop.db")) as store, store:
            names = ", ".join(told)
            marks = ", ".join("?" * len(told))
            store.execute(f"INSERT OR REPLACE INTO deals ({names}) VALUES ({marks})", tuple(told.values()))

    def three(self) -> None:
        self.row("1", "lead")
        self.row("2")
        self.row("3", value="250.50")

    # -- when

    def run(self, *args: str) -> Result:
        return CliRunner().invoke(commands, ["--config", str(self.path), *args])

    def start(self, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "convsync", "--config", str(self.path), *args]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    # -- then

    def rows(self, *args: str) -> list[dict[str, Any]]:
        result = self.run("ledger", "list", "--json", "--limit", "0", *args)
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    def states(self, destination: str) -> dict[str, str]:
        return {row["external_id"]: row["state"] for row in self.rows("--destination", destination)}

    def wait_for(self, state: str, seconds: float = 10) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.ledger.exists() and any(row["state"] == state for row in self._peek()):
                return
            time.sleep(0.02)
        raise AssertionError(f"nothing became {state}")

    def _peek(self) -> list[dict[str, Any]]:
        try:
            book = Ledger.open(self.ledger, read_only=True)
        except (ConvsyncError, sqlite3.Error):
            return []  # it is being made
        with closing(book):
            return list(book.audit.deliveries())

    def is_sound(self) -> None:
        with closing(Ledger.open(self.ledger, read_only=True)) as book:
            assert verify(book.store) == []


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("CONVSYNC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def platforms() -> Iterator[Sandbox]:
    config = SandboxConfig()
    config.google.processing_seconds = config.google.status_visible_after_s = 0
    with Sandbox(config) as box:
        yield box


@pytest.fixture
def shop(tmp_path: Path, platforms: Sandbox) -> Iterator[Shop]:
    made = Shop(tmp_path, platforms)
    yield made
    if made.ledger.exists() and made.ledger.stat().st_mode & 0o077 == 0:
        made.is_sound()


@pytest.fixture
def ads_shop(tmp_path: Path, ads_certificate: Path) -> Iterator[Shop]:
    """The same with the Google Ads API, by gRPC."""
    config = SandboxConfig()
    config.google.processing_seconds = config.google.status_visible_after_s = 0
    with Sandbox(config, ads=True, ads_folder=ads_certificate.parent) as box:
        made = Shop(tmp_path, box)
        made.google()
        yield made
        if made.ledger.exists():
            made.is_sound()
