"""The Ads API's part of the sandbox's world: accounts, cost, clicks, and the switches where sources disagree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Account:
    """What `customer` and `customer_client` tell of one account; whether it is a manager says `google.managers`."""

    name: str = "Sandbox"
    currency_code: str = "RUB"
    time_zone: str = "Europe/Moscow"
    status: str = "ENABLED"
    """ENABLED | CANCELED | SUSPENDED | CLOSED; anything but ENABLED refuses every call: CUSTOMER_NOT_ENABLED."""
    auto_tagging: bool = True
    test_account: bool = False
    data_terms: bool = True
    """conversion_tracking_setting.accepted_customer_data_terms: False raises no error at upload, as in reality."""
    tracking_status: str = "CONVERSION_TRACKING_MANAGED_BY_SELF"
    conversion_customer: str = ""
    """The account that owns the conversions; empty = itself."""
    enablement: str = "ON"
    """conversion_tracking_setting.enablement_setting (v26) and the older enhanced_conversions_for_leads_enabled: ON | OFF;
    empty = unset."""


@dataclass
class Cost:
    """What one campaign cost on one day of the account's zone."""

    day: str = ""
    campaign_id: str = ""
    cost_micros: int = 0
    clicks: int = 0
    impressions: int = 0
    campaign: str = ""
    account: str = "1234567890"


@dataclass
class AdClick:
    """One click on an ad. `at` is an ISO time with an offset."""

    gclid: str = ""
    at: str = ""
    campaign_id: str = ""
    ad_group_id: str = ""
    account: str = "1234567890"


@dataclass
class AdsConfig:
    versions: list[str] = field(default_factory=lambda: ["v23", "v24", "v25", "v26"])
    """Versions that answer."""
    dead_answer: str = "UNIMPLEMENTED"
    """What any other version says: UNIMPLEMENTED ("501 GRPC target method can't be resolved") | UNSUPPORTED_VERSION."""
    accounts: dict[str, Account] = field(default_factory=dict, metadata={"item": Account, "depth": 1})
    """Whoever is missing here but known to `google.customers` or `google.managers` has the usual values."""
    costs: list[Cost] = field(default_factory=list, metadata={"item": Cost, "depth": 1})
    clicks: list[AdClick] = field(default_factory=list, metadata={"item": AdClick, "depth": 1})
    """Rows of click_view; an upload with one of these gclids is also held against the time of the click."""
    unknown_click: str = "accept"
    """A gclid that is not in `clicks`: accept | EVENT_NOT_FOUND (or any other ConversionUploadError)."""
    known_calls: dict[str, list[str]] | None = None
    """Caller id → ISO starts of its calls; another call is CALL_NOT_FOUND. None: every call took place."""

    allowlisted: bool = True
    """False: every row of an upload of clicks is NotAllowlistedError inside an OK call, as for everybody new."""
    allowlisted_calls: bool = True
    """The same for calls: whether Google refuses them is not stated."""
    allowlisted_adjustments: bool = True
    fates: dict[str, str] = field(default_factory=dict)
    """Order id, click id, caller id or hash of a contact → error name(s) with + between; besides the magic ids."""
    adjustment_fates: dict[str, str] = field(default_factory=dict)
    """Order id or gclid of an adjustment, or "*" → ConversionAdjustmentUploadError name(s)."""
    errors_located: bool = True
    """False: row errors carry no location at all."""
    details: str = "any"
    """details of partial_failure_error: any (as documented) | absent | undecodable."""
    retraction_finds_data_manager: bool = True
    """Whether an adjustment by order id finds what came in as a transactionId. Undocumented."""
    disabled_variables: list[str] = field(default_factory=list)
    """Names of `google.custom_variables` that exist but are not enabled."""

    max_rows: int = 2000
    max_identifiers: int = 5
    recent_event_s: float = 6 * 3600
    max_adjustment_age_days: int = 54

    rows_per_batch: int = 10_000
    """Rows in one message of search_stream."""
    client_summaries: list[dict[str, Any]] | None = None
    """Rows of offline_conversion_upload_client_summary as {"customer": id, field: value}; None = from the uploads."""
    action_summaries: list[dict[str, Any]] | None = None
    """The same for offline_conversion_upload_conversion_action_summary."""
