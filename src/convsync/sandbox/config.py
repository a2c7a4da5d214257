"""The sandbox's world and its switches: where the documentation is unsure, both readings can be chosen."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from convsync.sandbox.ads.config import AdsConfig
from convsync.sandbox.vk_config import VkConfig
from convsync.sandbox.yandex_config import YandexConfig

ADWORDS = "https://www.googleapis.com/auth/adwords"
DATAMANAGER = "https://www.googleapis.com/auth/datamanager"


@dataclass
class ConversionAction:
    name: str = ""
    type: str = "UPLOAD_CLICKS"
    created: str = ""
    """ISO time; empty = long ago; "start" = when the sandbox started (too recent for 6 h)."""
    status: str = "ENABLED"
    """ENABLED | REMOVED | HIDDEN"""
    category: str = "IMPORTED_LEAD"
    counting_type: str = "MANY_PER_CLICK"
    """MANY_PER_CLICK | ONE_PER_CLICK (the Ads API refuses a braid for it)"""
    lookback_days: int = 90
    primary_for_goal: bool = True
    always_default_value: bool = False
    """True: the Ads API refuses to restate its conversions."""


def _google_customers() -> dict[str, dict[str, ConversionAction]]:
    return {
        "1234567890": {
            "1111111111": ConversionAction("Lead"),
            "2222222222": ConversionAction("Sale"),
            "3333333333": ConversionAction("Micro"),
            "4444444444": ConversionAction("Site form", type="WEBPAGE"),
            "5555555555": ConversionAction("Brand new", created="start"),
            "8888888888": ConversionAction("Phone call", type="UPLOAD_CALLS", category="PHONE_CALL_LEAD"),
        },
        "9876543210": {"6666666666": ConversionAction("Second account lead")},
    }


@dataclass
class GoogleConfig:
    customers: dict[str, dict[str, ConversionAction]] = field(
        default_factory=_google_customers, metadata={"item": ConversionAction, "depth": 2}
    )
    """Who owns which conversion action: customer → action id → action."""
    managers: dict[str, list[str]] = field(default_factory=lambda: {"5550001111": ["1234567890", "9876543210"]})
    """Manager account → the customers below it; the values that `loginAccount` may have."""
    login_account_required: bool = False
    """True: the credential's user sits on the manager, so a request without loginAccount is 403."""
    custom_variables: list[str] = field(default_factory=lambda: ["lead_quality", "branch"])
    """Names that `customVariables` may use."""
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"
    refresh_token: str = "sandbox-refresh"
    scopes: list[str] = field(default_factory=lambda: [ADWORDS, DATAMANAGER])
    """What the refresh token grants; without datamanager an ingest answers 403, without adwords the Ads API."""
    consent_scopes: list[str] | None = None
    """What the user ticks on the consent screen; None = everything that was asked for."""
    consent_error: str = ""
    """Not empty: the consent screen sends the browser back with this error, such as access_denied."""
    refresh_revoked: bool = False
    """True: the token endpoint answers invalid_grant."""
    service_accounts: list[str] = field(default_factory=list)
    """E-mails a signed JWT may come from; empty = any."""
    static_tokens: dict[str, list[str]] = field(default_factory=dict)
    """Access tokens that are always good, with their scopes."""
    token_life_s: int = 3599

    max_events: int = 2000
    max_destinations: int = 10
    max_identifiers: int = 10
    future_tolerance_s: float = 0
    """How far ahead of the clock an event may lie."""
    violations: str = "all"
    """Which rows a 400 names: all | first (the first bad one) | events[0] (whichever is bad) | none."""
    violation_prefix: str = "events."
    """Field paths look like `events.events[3].currency` in reality, `events[3].currency` with "" ."""
    error_info_reason: str = "specific"
    """ErrorInfo.reason: specific = that of the first violation | generic = INVALID_ARGUMENT."""
    future_named: bool = False
    """True: a time in the future is named as EVENT_TIME_INVALID instead of nothing."""
    numeric_transaction_id_refused: bool = True
    """A field report, one source; never under validateOnly."""
    click_id_rule: str = "ads"
    """ads = wbraid alone, never both braids | any. Undocumented for Data Manager."""
    negative_value_refused: bool = False
    """Undocumented."""
    unknown_action_answer: str = "INVALID_CONVERSION_ACTION_ID"
    """INVALID_CONVERSION_ACTION_ID (400) | NOT_FOUND (404 "Resource not found")."""
    too_recent_answer: str = "CONVERSION_ACTION_TOO_RECENTLY_CREATED"
    """CONVERSION_ACTION_TOO_RECENTLY_CREATED (400) | NOT_FOUND (404 "Resource not found")."""
    action_age_s: int = 6 * 3600
    field_warnings: list[dict[str, str]] = field(default_factory=list)
    """Put on every successful ingest; they never block."""
    omit_request_id: bool = False
    """True: a 200 without requestId."""

    processing_seconds: float = 2.0
    """From the ingest until the status stops being PROCESSING."""
    status_visible_after_s: float = 0.5
    """Until then the status answers 404."""
    status_kept_days: int = 50
    """After that: REQUEST_TOO_OLD."""
    failed_word: str = "FAILED"
    """FAILED (schema) | FAILURE (prose of the documentation)."""
    status_word: str = ""
    """Not empty: every finished destination says this, such as REQUEST_STATUS_UNKNOWN."""
    counts_as_strings: bool = True
    """recordCount as "3" (JSON of an int64) or 3."""
    indices_as_strings: bool = False
    """recordIndices as "3" or 3: undocumented."""
    indices_absent: bool = False
    """errorCounts without recordIndices, as before v1.9."""
    error_counts_absent: bool = False
    """FAILED or PARTIAL_SUCCESS without errorInfo: "may not be populated in all cases"."""
    max_event_age_days: int = 90
    """Older events get EVENT_TOO_OLD when they are processed."""

    # Windows of the sandbox's clock: one that stands still never leaves its minute. None = no limit.
    ingest_per_minute: int | None = 300
    ingest_per_day: int | None = 100_000
    status_per_minute: int | None = 300
    status_per_day: int | None = 100_000
    day_shift_h: float = -8
    """The day of the quota starts at midnight Pacific (standard) time. UNSURE."""


@dataclass
class DirectCampaign:
    name: str = ""
    impressions: int = 0
    """About so many a day; the sandbox's seed decides each day."""
    clicks: int = 0
    click_micros: int = 0
    """About what a click costs, without VAT, in millionths of the client's currency."""
    since: str = ""
    """First and last day of it, YYYY-MM-DD; empty = as long as there are statistics."""
    until: str = ""


def _direct_campaigns() -> dict[str, DirectCampaign]:
    return {
        "70011001": DirectCampaign("Поиск: бренд", 1400, 70, 39_000_000),
        "70011002": DirectCampaign("РСЯ: каталог", 21_000, 160, 23_000_000),
        "70011003": DirectCampaign('Ретаргетинг: "корзина"\u2028осень, 2-й показ', 3000, 40, 18_000_000),
        "70011004": DirectCampaign("Медийная, без кликов", 500),
    }


@dataclass
class DirectClient:
    """An advertiser: what one value of Client-Login stands for."""

    currency: str = "RUB"
    vat_percent: int = 22
    """What IncludeVAT=YES puts on top."""
    campaigns: dict[str, DirectCampaign] = field(
        default_factory=_direct_campaigns, metadata={"item": DirectCampaign, "depth": 1}
    )


def _direct_clients() -> dict[str, DirectClient]:
    kazakh = {"80022001": DirectCampaign("Алматы: поиск", 900, 30, 210_000_000)}
    return {"shop-direct": DirectClient(), "second-direct": DirectClient("KZT", 16, kazakh)}


@dataclass
class DirectUser:
    """Who granted a token."""

    login: str = ""
    rights: list[str] = field(default_factory=lambda: ["direct:api"])
    """Without direct:api → error 54."""
    clients: list[str] | None = None
    """Not None: an agency with these clients, which has to name one of them in Client-Login."""
    app_registered: bool = True
    """False → 58."""
    api_access: bool = True
    """False → 3000."""
    in_direct: bool = True
    """False → 513."""


@dataclass
class DirectChange:
    """What differs from the usual on one day of one campaign."""

    campaign_id: str = ""
    day: str = ""
    """YYYY-MM-DD; empty = every day."""
    login: str = "shop-direct"
    gone: bool = False
    """True: no such row any more."""
    impressions: int | str | None = None
    """A number, `--` (no value), or None: as usual. A campaign nobody knows gets rows by being named here with a day."""
    clicks: int | str | None = None
    cost_micros: int | str | None = None
    """Without VAT."""
    name: str | None = None


@dataclass
class DirectConfig:
    """Yandex.Direct. A fault of kind `status` on `direct.*` takes an error code of Direct such as 152 as its `status`."""

    tokens: dict[str, DirectUser] = field(
        default_factory=lambda: {
            "sandbox-token": DirectUser("shop-direct"),
            "sandbox-agency": DirectUser("agency-direct", clients=["shop-direct", "second-direct"]),
        },
        metadata={"item": DirectUser, "depth": 1},
    )
    clients: dict[str, DirectClient] = field(
        default_factory=_direct_clients, metadata={"item": DirectClient, "depth": 1}
    )
    changes: list[DirectChange] = field(default_factory=list, metadata={"item": DirectChange, "depth": 1})
    """In their order; a later one wins."""
    settling_percent: list[int] = field(default_factory=lambda: [55, 104, 101])
    """A day's figures while it is 0, 1, 2 … days old in Moscow, in percent of what they come to in the end."""
    dash_zeros: bool = False
    """True: a zero of Impressions, Clicks or Cost is written as `--`. UNSURE."""
    max_age_days: int = 3 * 365
    """Days before that are refused: "about the last three years"."""

    online_days: int = 31
    """Longer ranges are built offline; with `processingMode: online` they are refused."""
    build_seconds: float = 2
    """How long an offline report takes by the sandbox's clock."""
    retry_in: int = 1
    """Seconds in `retryIn`."""
    queue_limit: int = 5
    """Offline reports of one client that may be unfinished at once; one more → 9000."""
    keep_hours: float = 5
    """How long a finished offline report is handed out again, unchanged."""
    keep_online: bool = False
    """True: reports built online are kept as well. UNSURE."""
    name_taken_code: int = 4000
    """The error for the name of a kept report with other parameters: the documentation gives no number. UNSURE."""
    foreign_login_code: int = 8800
    """The error for a Client-Login that the token may not name: 8800 | 54, both are documented."""
    error_code_as_text: bool = True
    """"53" or 53: documented as a number, seen as text. UNSURE."""

    # A window of the sandbox's clock: one that stands still never leaves it. None = no limit.
    requests_per_10s: int | None = 20
    """Per user; one more → 56."""
    parallel_requests: int | None = 5
    """Per client; one more → 506."""


@dataclass
class SandboxConfig:
    google: GoogleConfig = field(default_factory=GoogleConfig)
    ads: AdsConfig = field(default_factory=AdsConfig)
    yandex: YandexConfig = field(default_factory=YandexConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    vk: VkConfig = field(default_factory=VkConfig)
    seed: int = 20261122
    """For everything that is left to chance: the order of repeated ids, the `rate` of faults."""
    journal_size: int = 1000

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> SandboxConfig:
        made = cls()
        update(made, settings)
        return made


def update(target: Any, settings: Mapping[str, Any], path: str = "") -> None:
    """Set the named fields of a configuration, sections by parts, everything else as a whole."""
    known = {f.name: f for f in fields(target)}
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown setting {path + name!r}{hint}")
        current = getattr(target, name)
        if is_dataclass(current):
            update(current, value, f"{path}{name}.")
        else:
            meta = known[name].metadata
            setattr(target, name, _built(meta.get("item"), meta.get("depth", 0), value))


def _built(item: type[Any] | None, depth: int, value: Any) -> Any:
    if item is None or is_dataclass(value):
        return value
    if depth:
        if isinstance(value, Mapping):
            return {str(key): _built(item, depth - 1, inner) for key, inner in value.items()}
        return [_built(item, depth - 1, inner) for inner in value]
    made = {f.name: value[f.name] for f in fields(item) if f.name in value}
    unknown = set(value) - set(made)
    if unknown:
        raise ValueError(f"unknown setting {sorted(unknown)[0]!r} of {item.__name__}")
    return item(**{name: _nested(item, name, inner) for name, inner in made.items()})


def _nested(item: type[Any], name: str, value: Any) -> Any:
    meta = next(f for f in fields(item) if f.name == name).metadata
    return _built(meta.get("item"), meta.get("depth", 0), value)
