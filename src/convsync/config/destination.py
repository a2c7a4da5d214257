"""What `[destinations.NAME]` may say: the account, its credentials, and how long to wait for what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from convsync.config.values import (
    ApiVersion,
    Count,
    Currency,
    CustomerId,
    CustomerIds,
    Digits,
    Duration,
    Endpoint,
    FeedLabel,
    HeaderText,
    Language,
    LocalPath,
    Names,
    PositiveDuration,
    Secret,
    StrictModel,
    Text,
    Url,
    Zone,
)

EventSource = Literal["WEB", "APP", "IN_STORE", "PHONE", "MESSAGE", "OTHER"]
Consent = Literal["granted", "denied", "unset"]
OnRefund = Literal["retract", "zero", "ignore"]
"""What Google is told of a cancelled, refunded or spam action: take the conversion back, set its value to 0, nothing."""
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class CommonDestination(StrictModel):
    """The keys of every destination. Each platform puts its own value where waiting is concerned."""

    ROUTE: ClassVar[str]
    ACCOUNT: ClassVar[str]
    """The key that names the account."""

    sources: Names | None = None
    enabled: bool = True
    poll_after: Duration = timedelta(minutes=30)
    poll_every: PositiveDuration = timedelta(minutes=30)
    poll_until: Duration = timedelta(days=7)
    quarantine: Duration = timedelta(minutes=15)
    requests_per_second: Rate = 5.0
    timeout: PositiveDuration = timedelta(seconds=60)
    connect_timeout: PositiveDuration = timedelta(seconds=5)
    max_attempts: Count = 8
    give_up_after: PositiveDuration = timedelta(hours=24)
    retry_after: Duration = timedelta(seconds=60)
    in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    batch_rows: Count = 2000
    ca_bundle: LocalPath | None = None

    @property
    def route(self) -> str:
        return self.ROUTE

    @property
    def account(self) -> str:
        return str(getattr(self, self.ACCOUNT))

    def missing(self, *, reading: bool = False) -> list[str]:
        """The keys that are empty and must not be: to send, or (`reading`) to ask for cost and goals."""
        return self.lacking(lambda key: getattr(self, key), reading=reading)

    @classmethod
    def lacking(cls, get: Callable[[str], Any], *, reading: bool = False) -> list[str]:
        """The same of a section as it was written, which `get` looks into: it need not be valid otherwise."""
        keys = cls.needs(get, reading=reading)
        return [key for key in keys if not _filled(get(key))]

    @classmethod
    def needs(cls, get: Callable[[str], Any], *, reading: bool) -> tuple[str, ...]:
        """The keys that sign in."""
        raise NotImplementedError


class GoogleSettings(CommonDestination):
    ROUTE = "google.data_manager"
    ACCOUNT = "customer_id"

    platform: Literal["google"] = "google"
    api: Literal["data_manager", "ads"] = "data_manager"
    customer_id: CustomerId = Field(description="the ten digits of the account that owns the conversion actions")
    login_customer_id: CustomerId | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    credentials_file: LocalPath | None = None
    developer_token: Secret | None = None
    data_manager_url: Url = "https://datamanager.googleapis.com"
    ads_endpoint: Endpoint = "googleads.googleapis.com"
    ads_api_version: ApiVersion = "v26"
    token_url: Url = "https://oauth2.googleapis.com/token"  # noqa: S105  (an address)
    auth_url: Url = "https://accounts.google.com/o/oauth2/v2/auth"
    event_source: EventSource = "WEB"
    consent_ad_user_data: Consent = "unset"
    consent_ad_personalization: Consent = "unset"
    on_refund: OnRefund = "zero"
    merchant_id: Digits | None = None
    merchant_feed_label: FeedLabel | None = None
    merchant_feed_language: Language | None = None
    cost_customer_ids: CustomerIds | None = None
    max_age: PositiveDuration = timedelta(days=90)
    adjust_max_age: PositiveDuration = timedelta(days=54)
    requests_per_second: Rate = 4.5
    batch_rows: Annotated[int, Field(ge=1, le=2000)] = 2000

    @model_validator(mode="before")
    @classmethod
    def _refunds(cls, values: Any) -> Any:
        """Data Manager cannot take a conversion back by itself, the Ads API can: each has its own default."""
        if not isinstance(values, dict) or values.get("on_refund", "") != "":
            return values
        return values | {"on_refund": "retract" if values.get("api") == "ads" else "zero"}

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.credentials_file and (self.refresh_token or self.client_secret):
            raise ValueError("has both credentials_file and client_secret or refresh_token. Keep one way to sign in.")
        return self

    @property
    def route(self) -> str:
        return "google.ads" if self.api == "ads" else self.ROUTE

    @classmethod
    def needs(cls, get: Callable[[str], Any], *, reading: bool) -> tuple[str, ...]:
        return () if _filled(get("credentials_file")) else ("client_id", "client_secret", "refresh_token")


class YandexSettings(CommonDestination):
    ROUTE = "yandex.orders"
    ACCOUNT = "counter_id"

    platform: Literal["yandex"] = "yandex"
    counter_id: Digits = Field(description="the number of the Metrica counter, digits only")
    token: Secret | None = None
    metrica_url: Url = "https://api-metrika.yandex.net"
    upload: Literal["api", "file"] = "api"
    counter_timezone: Zone | None = None
    contact_hash: Literal["md5", "none"] = "md5"
    max_age: PositiveDuration = timedelta(days=113)
    link_window: PositiveDuration = timedelta(days=21)
    late_orders: Literal["expire", "send"] = "expire"
    send_client_id_type: bool = False
    direct_url: Url = "https://api.direct.yandex.com"
    direct_version: Literal["v5", "v501"] = "v501"
    direct_mode: Literal["auto", "online", "offline"] = "auto"
    direct_token: Secret | None = None
    direct_vat: bool = False
    direct_currency: Currency | None = None
    client_login: Text | None = None
    cost_client_logins: Annotated[Names, Field(min_length=1)] | None = None
    poll_after: Duration = timedelta(minutes=15)
    poll_every: PositiveDuration = timedelta(minutes=15)
    poll_until: Duration = timedelta(hours=24)
    requests_per_second: Rate = 25.0
    in_flight: Annotated[int, Field(ge=1, le=64)] = 3
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000

    @classmethod
    def needs(cls, get: Callable[[str], Any], *, reading: bool) -> tuple[str, ...]:
        """A file for the Conversion Centre is fetched by Direct: whoever writes one needs no token."""
        if reading:
            return () if _filled(get("direct_token")) else ("token",)
        return () if get("upload") == "file" else ("token",)


def _slash(value: object) -> object:
    return "/" if value == "raw" else value


def _whole_days(value: timedelta) -> timedelta:
    if value % timedelta(days=1):
        raise ValueError('must be whole days, such as "90d".')
    return value


def _vat_rate(value: object) -> object:
    """One sentence, whichever of the two kinds was meant."""
    text = str(value) if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) else ""
    if text == "russia":
        return text
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal("NaN")
    if not rate.is_finite() or not 0 <= rate < 1:
        raise ValueError('must be a part of the net amount, such as 0.22 for 22 %, or "russia": its rate of each day.')
    return rate


VatRate = Annotated[Decimal | Literal["russia"], BeforeValidator(_vat_rate)]
"""As a part of the net amount (0.22), or `russia`: 0.20 until the end of 2025, 0.22 from 2026."""


class VkSettings(CommonDestination):
    ROUTE = "vk.pixel"
    ACCOUNT = "pixel_id"

    platform: Literal["vk"] = "vk"
    pixel_id: Digits = Field(description="the number of the VK Ads (Top.Mail.Ru) pixel, digits only")
    client_id: Text | None = None
    client_secret: Secret | None = None
    agency_client_name: Text | None = None
    agency_client_id: Digits | None = None
    agency_token: Secret | None = None
    tracker_url: Url = "https://top-fwz1.mail.ru/tracker"
    api_url: Url = "https://ads.vk.com"
    api_timeout: PositiveDuration = timedelta(seconds=60)
    api_requests_per_second: Rate = 2.0
    on_ambiguous: Literal["hold", "retry"] = "hold"
    slash_encoding: Annotated[Literal["/", "%2F"], BeforeValidator(_slash)] = "/"
    click_max_age: PositiveDuration = timedelta(days=30)
    max_age: PositiveDuration = timedelta(days=30)
    user_agent: HeaderText = "convsync"
    send_value: bool = True
    max_value: Count = 2_147_483_647
    list_mode: Literal["new", "append"] = "new"
    list_header: HeaderText = "ID,date"
    list_fields_mode: Literal["fields", "data_json"] = "fields"
    list_min_rows: Count = 10
    list_max_rows: Count = 20_000
    contact_hash: Literal["none", "md5"] = "none"
    attribution_period: Annotated[PositiveDuration, AfterValidator(_whole_days)] = timedelta(days=90)
    vat_rate: VatRate | None = None
    timeout: PositiveDuration = timedelta(seconds=10)
    connect_timeout: PositiveDuration = timedelta(seconds=3)
    in_flight: Annotated[int, Field(ge=1, le=64)] = 5
    batch_rows: Annotated[int, Field(ge=1, le=1)] = 1

    @classmethod
    def needs(cls, get: Callable[[str], Any], *, reading: bool) -> tuple[str, ...]:
        """The pixel takes events from anybody; lists, cost and goals ask who is there."""
        return ("client_id", "client_secret") if reading else ()

    @model_validator(mode="after")
    def _one_client(self) -> Self:
        if self.agency_client_name and self.agency_client_id:
            raise ValueError("has both agency_client_name and agency_client_id. Keep one: both name the same client.")
        if self.agency_token and not (self.agency_client_name or self.agency_client_id):
            raise ValueError("has agency_token, which is for a client of an agency: add agency_client_name.")
        if self.list_max_rows < self.list_min_rows:
            raise ValueError("has a list_max_rows below list_min_rows: no list would ever be sent.")
        return self


def _filled(value: Any) -> bool:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return bool(text.strip() if isinstance(text, str) else text)


DESTINATIONS: dict[str, type[CommonDestination]] = {
    "google": GoogleSettings,
    "yandex": YandexSettings,
    "vk": VkSettings,
}
DestinationSettings = Annotated[GoogleSettings | YandexSettings | VkSettings, Field(discriminator="platform")]
