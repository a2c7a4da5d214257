"""A sandbox whose clock stands still, and three small clients that know nothing of convsync."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
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


class AdsCaller:
    """The unmodified google-ads client, at the sandbox: raw messages, errors as `(row, code)`."""

    action = "customers/1234567890/conversionActions/1111111111"
    call_action = "customers/1234567890/conversionActions/8888888888"

    def __init__(self, box: Sandbox, version: str = "v26", login: str | None = None, token: str = "ads-token") -> None:
        from google.ads.googleads.client import GoogleAdsClient
        from google.oauth2.credentials import Credentials

        box.config.google.static_tokens["ads-token"] = ["https://www.googleapis.com/auth/adwords"]
        self.box = box
        self.client = GoogleAdsClient(
            credentials=Credentials(token=token),
            endpoint=box.ads_endpoint,
            version=version,
            login_customer_id=login,
            use_proto_plus=False,
        )
        self._services: dict[str, Any] = {}

    def close(self) -> None:
        for service in self._services.values():
            service.transport.close()

    def service(self, name: str) -> Any:
        if name not in self._services:
            self._services[name] = self.client.get_service(name)
        return self._services[name]

    def time(self, *, ago: float = 0) -> str:
        return f"{self.box.clock.now() - timedelta(seconds=ago):%Y-%m-%d %H:%M:%S}+00:00"

    def click(self, number: int = 1, *, ago: float = 86400, **changes: Any) -> Any:
        """A conversion of yesterday. A change to None leaves a field out."""
        usual = {
            "gclid": f"click-{number}",
            "conversion_action": self.action,
            "conversion_date_time": self.time(ago=ago),
            "conversion_value": 100.5,
            "currency_code": "RUB",
            "order_id": f"cs-{number}",
        }
        return self._made("ClickConversion", usual | changes)

    def call(self, number: int = 1, *, ago: float = 86400, lasted: float = 600, **changes: Any) -> Any:
        usual = {
            "caller_id": f"+7495000000{number}",
            "call_start_date_time": self.time(ago=ago),
            "conversion_date_time": self.time(ago=ago - lasted),
            "conversion_action": self.call_action,
            "conversion_value": 50.0,
            "currency_code": "RUB",
        }
        return self._made("CallConversion", usual | changes)

    def adjustment(self, kind: str, number: int = 1, value: float | None = None, **changes: Any) -> Any:
        usual = {
            "order_id": f"cs-{number}",
            "conversion_action": self.action,
            "adjustment_date_time": self.time(),
            "adjustment_type": {"RETRACTION": 2, "RESTATEMENT": 3, "ENHANCEMENT": 4}[kind],
        }
        made = self._made("ConversionAdjustment", usual | changes)
        if value is not None:
            made.restatement_value.adjusted_value = value
        return made

    def _made(self, name: str, fields: dict[str, Any]) -> Any:
        made = self.client.get_type(name)
        for field, value in fields.items():
            if value is not None:
                setattr(made, field, value)
        return made

    def upload(self, *rows: Any, **changes: Any) -> Any:
        return self._send("ConversionUploadService", "UploadClickConversions", "conversions", rows, changes)

    def upload_calls(self, *rows: Any, **changes: Any) -> Any:
        return self._send("ConversionUploadService", "UploadCallConversions", "conversions", rows, changes)

    def adjust(self, *rows: Any, **changes: Any) -> Any:
        service, method = "ConversionAdjustmentUploadService", "UploadConversionAdjustments"
        return self._send(service, method, "conversion_adjustments", rows, changes)

    def _send(self, service: str, method: str, field: str, rows: Any, changes: dict[str, Any]) -> Any:
        timeout = changes.pop("timeout", 20)
        usual = {"customer_id": "1234567890", "partial_failure": True}
        request = self._made(f"{method}Request", usual | changes)
        getattr(request, field).extend(rows)
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in method).lstrip("_")
        return getattr(self.service(service), name)(request=request, timeout=timeout)

    def search(self, query: str, customer: str = "1234567890") -> list[Any]:
        return [row for batch in self.batches(query, customer) for row in batch]

    def batches(self, query: str, customer: str = "1234567890") -> Iterator[list[Any]]:
        stream = self.service("GoogleAdsService").search_stream(customer_id=customer, query=query, timeout=20)
        for batch in stream:
            yield list(batch.results)

    def errors(self, response: Any) -> list[tuple[int | None, str]]:
        """Of a partial failure: the index of the row (None = no location) and the name of the error."""
        found = []
        for detail in response.partial_failure_error.details:
            failure = self.client.get_type("GoogleAdsFailure")
            assert detail.Unpack(failure)
            found += [(row_of(error), named(error)) for error in failure.errors]
        return found

    def refused(self, call: Callable[[], Any]) -> tuple[str, list[str]]:
        """The gRPC status of a call that fails, and the names of its errors."""
        from google.ads.googleads.errors import GoogleAdsException

        with pytest.raises(GoogleAdsException) as caught:
            call()
        return caught.value.error.code().name, [named(error) for error in caught.value.failure.errors]

    def book(self, action: str = "1111111111", account: str = "1234567890") -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["google"]["accounts"][account][action]
        return found


def row_of(error: Any) -> int | None:
    for element in error.location.field_path_elements:
        if element.field_name in ("conversions", "conversion_adjustments") and element.HasField("index"):
            return int(element.index)
    return None


def named(error: Any) -> str:
    """The name of an error, raw or as google-ads hands it out."""
    code = type(error).pb(error).error_code if hasattr(type(error), "pb") else error.error_code
    family = code.WhichOneof("error_code")
    field = code.DESCRIPTOR.fields_by_name[family]
    known = field.enum_type.values_by_number.get(getattr(code, family))
    return known.name if known else "?"


@pytest.fixture
def ads_box(ads_certificate: Path) -> Iterator[Sandbox]:
    config = SandboxConfig()
    with Sandbox(config, clock=Clock(frozen_at=NOW), ads=True, ads_folder=ads_certificate.parent) as made:
        yield made


@pytest.fixture
def ads(ads_box: Sandbox) -> Iterator[AdsCaller]:
    made = AdsCaller(ads_box)
    yield made
    made.close()


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
