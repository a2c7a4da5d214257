"""From a file to the emulator: what a row can carry arrives, and more conversion actions than Google takes at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from convsync.cli import assemble, commands
from convsync.config import parse
from convsync.ledger import Ledger
from convsync.ledger.verify import verify
from convsync.model import Action, Cart, Conversion, Item, Person, Skip, SkipReason
from convsync.sandbox import Sandbox, SandboxConfig
from convsync.sandbox.config import ConversionAction

CUSTOMER = "1234567890"
CONFIG = """\
timezone = "Europe/Moscow"
phone_region = "RU"

[sources.shop]
type = "csv"
path = "*.csv"
id = "id"
custom_variables = {{ lead_quality = "quality", branch = "office" }}

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
merchant_id = "77"
merchant_feed_label = "RU"
"""
ACTION = '[actions.{name}]\nkind = "sale"\ngoogle = {{ conversion_action = "{id}"{more} }}\n'
COLUMNS = ["id", "action", "occurred_at", "value", "currency", "gclid", "phone", "call_start_at", "customer_type", "cart",
           "quality", "office", "status"]  # fmt: skip


class Shop:
    """A folder with a configuration, and the emulator; `sync` is what a person types."""

    def __init__(self, folder: Path, box: Sandbox) -> None:
        self.folder, self.box = folder, box

    def given(self, actions: str, rows: list[dict[str, Any]]) -> None:
        config = self.folder / "convsync.toml"
        config.write_text(CONFIG.format(url=self.box.url) + actions)
        config.chmod(0o600)
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        with (self.folder / "a.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows({"occurred_at": yesterday, "gclid": f"Cj0KCQ-{row['id']}"} | row for row in rows)

    def sync(self) -> dict[str, Any]:
        result = CliRunner().invoke(commands, ["sync", "--json"])
        summary: dict[str, Any] = json.loads(result.stdout)
        assert (result.exit_code, summary["findings"]) == (0, []), result.output
        with closing(Ledger.open(self.folder / "convsync.db", read_only=True)) as ledger:
            assert verify(ledger.store) == []
        return summary

    def counted(self) -> dict[str, int]:
        books = self.box.books()["google"]["accounts"][CUSTOMER]
        return {action: found["conversions"] for action, found in books.items() if found["conversions"]}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    config = SandboxConfig()
    config.google.processing_seconds = config.google.status_visible_after_s = 0
    config.google.customers[CUSTOMER] |= {str(n): ConversionAction(f"Action {n}") for n in range(100, 125)}
    with Sandbox(config) as box:
        yield Shop(tmp_path, box)


@pytest.mark.parametrize("count", [10, 11, 25])
def test_more_conversion_actions_than_a_request_takes_go_in_several(
    shop: Shop, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = "".join(ACTION.format(name=f"a{n}", id=100 + n, more="") for n in range(count))
    shop.given(actions, [{"id": f"{n}-{turn}", "action": f"a{n}"} for turn in range(2) for n in range(count)])
    summary = shop.sync()
    assert summary["destinations"]["google"]["accepted"] == 2 * count
    assert shop.counted() == {str(100 + n): 2 for n in range(count)}


def test_what_a_row_carries_arrives(shop: Shop, events: Callable[[], list[dict[str, Any]]]) -> None:
    call = ACTION.format(name="call", id="8888888888", more=", calls = true")
    granted = ACTION.format(name="sale", id="2222222222", more=', consent_ad_user_data = "granted"')
    cart = '{"items": [{"id": "sku-1", "quantity": 2, "price": "199.90"}], "discount": 10}'
    began = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    shop.given(
        granted + call,
        [
            {"id": 1, "action": "sale", "value": "389.80", "currency": "RUB", "cart": cart, "customer_type": "New"},
            {"id": 2, "action": "sale", "quality": "hot", "office": "anna@example.ru"},
            {
                "id": 3,
                "action": "call",
                "phone": "8 (916) 123-45-67",
                "call_start_at": began,
                "gclid": "",
                "office": "Omsk",
            },
        ],
    )
    assert shop.sync()["destinations"]["google"]["accepted"] == 3
    assert shop.counted() == {"2222222222": 2, "8888888888": 1}
    by_kind = {("cartData" in one, "callInfo" in one): one for one in events()}
    assert by_kind[True, False]["cartData"] == {
        "merchantId": "77",
        "merchantFeedLabel": "RU",
        "transactionDiscount": 10.0,
        "items": [{"merchantProductId": "sku-1", "quantity": 2, "unitPrice": 199.9}],
    }
    assert by_kind[True, False]["userProperties"] == {"customerType": "NEW"}
    assert by_kind[False, False]["customVariables"] == [{"variable": "lead_quality", "value": "hot"}]
    assert by_kind[False, False]["consent"] == {"adUserData": "CONSENT_GRANTED"}
    assert by_kind[False, True]["customVariables"] == [{"variable": "branch", "value": "Omsk"}]
    assert by_kind[False, True]["eventSource"] == "PHONE"


@pytest.fixture
def events(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Every event that was sent."""
    from convsync.net import Wire

    sent: list[bytes] = []
    exchange = Wire.exchange

    def seen(self: Wire, method: str, url: str, **options: Any) -> Any:
        sent.extend([options["body"]] if "events:ingest" in url else [])
        return exchange(self, method, url, **options)

    monkeypatch.setattr(Wire, "exchange", seen)
    return lambda: [event for body in sent for event in json.loads(body)["events"]]


def test_a_call_that_is_cancelled_later_stays_counted_and_the_ledger_says_why(shop: Shop) -> None:
    call = ACTION.format(name="call", id="8888888888", more=", calls = true")
    began = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    when = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    row = {"id": 1, "action": "call", "phone": "+79161234567", "call_start_at": began, "occurred_at": when, "gclid": ""}
    shop.given(call, [row])
    shop.sync()
    shop.given(call, [row | {"status": "cancelled"}])
    assert shop.sync()["skipped"] == {"cannot_adjust": 1}
    assert shop.counted() == {"8888888888": 1}


@pytest.mark.parametrize("api", ["data_manager", "ads"])
def test_each_way_into_google_is_made_as_the_configuration_says(api: str, tmp_path: Path) -> None:
    source = {"type": "csv", "path": "a.csv", "custom_variables": {"branch": "office"}}
    google = {"customer_id": CUSTOMER, "api": api, "on_refund": "ignore", "merchant_id": "77"}
    sale = {"kind": "sale", "google": {"conversion_action": "2222222222"}}
    config = parse(
        {"sources": {"shop": source}, "destinations": {"google": google}, "actions": {"sale": sale}}, tmp_path
    )
    (route,) = assemble.routes(config, "google")
    assert route.route == config.destinations["google"].route
    action = Action("shop", "1", "sale", datetime.now(UTC), gclid="G", cart=Cart((Item("sku-1", 1, None),)))
    target = config.actions["sale"].targets["google"]
    made = route.convert(action, Person(), target, None)
    assert isinstance(made, Conversion)
    assert b'"cartData":{"merchantId":"77"' in made.payload
    refused = route.convert(action._replace(status="refunded"), Person(), target, None)
    assert isinstance(refused, Skip)
    assert refused.reason is SkipReason.REFUND_IGNORED
    route.close()
