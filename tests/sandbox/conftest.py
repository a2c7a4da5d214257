"""A sandbox whose clock stands still, and three small clients that know nothing of convsync."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from convsync.sandbox import Clock, Sandbox, SandboxConfig

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class GoogleClient:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers: dict[str, str] = {}
        self.login()

    def login(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.token().json()['access_token']}"}

    def token(self, **changes: str) -> requests.Response:
        form = {
            "grant_type": "refresh_token",
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "refresh_token": "sandbox-refresh",
        }
        return self.session.post(f"{self.box.url}/token", data=form | changes)

    def event(self, number: int = 1, *, ago: float = 3600, **changes: Any) -> dict[str, Any]:
        made = {
            "transactionId": f"cs-{number}",
            "eventTimestamp": (self.box.clock.now() - timedelta(seconds=ago)).isoformat(),
            "eventSource": "WEB",
            "adIdentifiers": {"gclid": f"click-{number}"},
            "conversionValue": 100.5,
            "currency": "RUB",
        }
        return {name: value for name, value in (made | changes).items() if value is not None}

    def destination(self, action: str = "1111111111", account: str = "1234567890", **more: Any) -> dict[str, Any]:
        operating = {"accountType": "GOOGLE_ADS", "accountId": account}
        return {"operatingAccount": operating, "productDestinationId": action, **more}

    def ingest(self, *events: dict[str, Any], **changes: Any) -> requests.Response:
        body = {"destinations": [self.destination()], "events": list(events), **changes}
        return self.session.post(f"{self.box.url}/v1/events:ingest", json=body, headers=self.headers)

    def status(self, request_id: str) -> requests.Response:
        params = {"requestId": request_id}
        return self.session.get(f"{self.box.url}/v1/requestStatus:retrieve", params=params, headers=self.headers)

    def settled(self, ingested: requests.Response) -> list[dict[str, Any]]:
        self.box.clock.advance(1800)
        self.login()
        found: list[dict[str, Any]] = self.status(ingested.json()["requestId"]).json()["requestStatusPerDestination"]
        return found

    def book(self, action: str = "1111111111", account: str = "1234567890") -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["google"]["accounts"][account][action]
        return found


class YandexClient:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "OAuth sandbox-token"

    def csv(self, *rows: dict[str, str], delimiter: str = ",") -> str:
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [delimiter.join(names)]
        lines += [delimiter.join(row.get(name, "") for name in names) for row in rows]
        return "\n".join(lines) + "\n"

    def row(self, number: int = 1, **changes: str) -> dict[str, str]:
        """An order of one hour ago in the counter's zone (Moscow)."""
        made = {
            "id": f"order-{number}",
            "create_date_time": self.local(hours=-1),
            "client_ids": str(10**17 + number),
            "order_status": "PAID",
            "revenue": "1500.50",
            "currency": "RUB",
        }
        return made | changes

    def local(self, **shift: float) -> str:
        return f"{self.box.clock.now() + timedelta(hours=3) + timedelta(**shift):%Y-%m-%d %H:%M:%S}"

    def upload(self, *rows: dict[str, str], **options: Any) -> requests.Response:
        mode, counter = options.get("mode", "SAVE"), options.get("counter", "12345678")
        text = options.get("text") or self.csv(*rows)
        url = f"{self.box.url}/cdp/api/v1/counter/{counter}/data/simple_orders"
        query = options.get("query", f"merge_mode={mode}")
        return self.session.post(f"{url}?{query}", files={options.get("part", "file"): ("orders.csv", text)})

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.session.get(self.box.url + path, params=params)

    def order(self, number: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = self.book()["orders"][f"order-{number}"]
        return found

    def book(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["yandex"]["counters"]["12345678"]
        return found


class VkClient:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False

    def hit(self, query: str, *, forget: bool = True) -> requests.Response:
        if forget:
            self.session.cookies.clear()
        return self.session.get(f"{self.box.url}/tracker?{query}")

    def token(self, **changes: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": "sandbox-vk",
            "client_secret": "sandbox-vk-secret",
        }
        return self.session.post(f"{self.box.url}/api/v2/oauth2/token.json", data=form | changes)

    def get(self, path: str, token: str) -> requests.Response:
        return self.session.get(self.box.url + path, headers={"Authorization": f"Bearer {token}"})

    def goal(self, name: str = "crm_sale") -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["vk"]["pixels"]["1234567"][name]
        return found


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as made:
        yield made


@pytest.fixture
def http() -> Iterator[requests.Session]:
    """Somebody with a browser."""
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.fixture
def google(box: Sandbox) -> GoogleClient:
    return GoogleClient(box)


@pytest.fixture
def yandex(box: Sandbox) -> YandexClient:
    return YandexClient(box)


@pytest.fixture
def vk(box: Sandbox) -> VkClient:
    return VkClient(box)
