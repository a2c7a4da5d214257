"""VK's world in the sandbox: pixels, goals, campaigns, who may ask, and the switches of what is unsure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convsync.sandbox.vk_leads import LeadsConfig
from convsync.sandbox.vk_lists import ListsConfig


@dataclass
class PixelGoal:
    name: str = ""
    condition: str = "jse"
    """Only a goal of condition jse is fired by the tracker's parameter `e`."""
    goal_type: str = "lead"
    value: int = 0


def _pixel_goals() -> dict[str, PixelGoal]:
    return {
        "crm_lead": PixelGoal("CRM lead", goal_type="lead"),
        "crm_sale": PixelGoal("CRM sale", goal_type="purchase"),
        "crm_micro": PixelGoal("CRM micro", goal_type="custom"),
    }


@dataclass
class Pixel:
    name: str = "Site"
    goals: dict[str, PixelGoal] = field(default_factory=_pixel_goals, metadata={"item": PixelGoal, "depth": 1})
    confirmed: bool = True
    """False: no goal can be created on it."""
    shared: bool = False
    """True: it was lent by another account; no goal can be created on it."""


@dataclass
class AdPlan:
    """A campaign of today's cabinet."""

    name: str = ""
    status: str = "active"
    """active | blocked | deleted"""
    objective: str = "site_conversions"
    enable_offline_goals: bool = False
    user: str = ""
    """Whose it is: `owner` or an agency's client; empty = of whoever asks."""
    spend: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Day (YYYY-MM-DD, Moscow) → {"spent": "12.30", "clicks": 4, "shows": 560}; spent None = null in the answer."""
    usual: dict[str, Any] = field(default_factory=dict)
    """The same for every day from `since` until today that `spend` does not name; empty = zeros."""
    since: str = ""
    """First day of `usual`; empty = since the statistics began."""
    offline: dict[str, int] = field(default_factory=dict)
    """Day → people of offline lists who converted, as statistics/offline_conversions tells them."""


def _ad_plans() -> dict[str, AdPlan]:
    return {
        "9100101": AdPlan("Лента: осень", usual={"spent": "2600.40", "clicks": 75, "shows": 14200}),
        "9100102": AdPlan("Лид-форма", "blocked", "leadads", enable_offline_goals=True),
        "9100103": AdPlan("Лето, старая", "deleted"),
    }


@dataclass
class GoalEvent:
    """Conversions of a goal that did not come through the sandbox's tracker, such as those of the site itself."""

    ad_plan_id: str = ""
    day: str = ""
    """YYYY-MM-DD, Moscow."""
    goal: str = "crm_sale"
    counter_id: int = 1234567
    count: int = 1
    value: str = "0"
    conversion_type: str = "postclick"
    """postclick | postview"""
    source: str = "topmail"
    """topmail = a pixel | mobile = installs"""


@dataclass
class VkConfig:
    pixels: dict[str, Pixel] = field(
        default_factory=lambda: {"1234567": Pixel(), "7654321": Pixel("Second site")},
        metadata={"item": Pixel, "depth": 1},
    )
    client_id: str = "sandbox-vk"
    client_secret: str = "sandbox-vk-secret"

    lists: ListsConfig = field(default_factory=ListsConfig)
    leads: LeadsConfig = field(default_factory=LeadsConfig)

    # The tracker.
    known_clicks: dict[str, str | dict[str, Any]] | None = None
    """rb_clickid → ISO time of the click, or {"time": ISO, "ad_plan_id": 9100101}. None: all were issued, except those
    that begin with `lost-`."""
    known_users: list[str] | dict[str, str] | None = None
    """Values of userid the site sent before, or userid → ISO time when it did. None: all, except those that begin with
    `lost-`."""
    attribution_days: float = 30
    """How old a click or a visit may be whose time is known."""
    decimal_values: bool = False
    """True: a decimal or negative value is summed. False: such a hit is booked with value 0. Undocumented."""
    tracker_per_second: int | None = None
    """No limit is documented; a number makes the tracker answer 429."""
    tracker_redirect: str | None = None
    """Scheme and host to which every hit is sent by 302, uncounted."""

    # Tokens.
    token_life_s: int = 86400
    expires_in_told: int | None = None
    """What `expires_in` says; None = token_life_s."""
    max_tokens: int = 5
    token_idle_days: int = 30
    """A token not used for so long is deleted."""
    expires_in_as_text: bool = True
    scope_as_list: bool = False
    rotate_refresh_token: bool = False
    token_error_shape: str = "oauth"
    """oauth {"error", "error_description"} | vk {"error": {"code", "message"}} | flat {"code", "message"}."""
    agency_clients: dict[str, int] | None = None
    """Username → user id of the agency's clients; others get 401 invalid_user. None = any name or id is one."""
    agency_token_required: bool = False
    """True: a third party's agency, so agency_client_credentials needs the agency's living access_token as well."""
    bearer_errors: dict[str, str] = field(default_factory=dict)
    """User → code of the 401 that every call with that user's living token gets: expired_token | invalid_token |
    invalid_client | invalid_user | revoked_token. The last two refuse a refresh as well."""

    # Who asks.
    user_id: int = 12345
    """Of the cabinet's owner, whose username is `owner`."""
    currency: str | None = "RUB"
    """None: user.json has no such field."""
    currencies: dict[str, str | None] = field(default_factory=dict)
    """User → currency, where it is another one."""

    # Campaigns and statistics.
    ad_plans: dict[str, AdPlan] = field(default_factory=_ad_plans, metadata={"item": AdPlan, "depth": 1})
    deleted_shown: bool = False
    """True: ad_plans.json shows deleted campaigns unasked. Undocumented."""
    goal_events: list[GoalEvent] = field(default_factory=list, metadata={"item": GoalEvent, "depth": 1})
    goal_delay_s: float = 0
    """How long what the tracker attributed stays out of the statistics."""
    goal_zeros: bool = False
    """True: a goal of the period stands in every row, also with count 0, as in the documentation's sample."""
    settling_percent: list[int] = field(default_factory=list)
    """A day's spend, clicks and shows while it is 0, 1, 2 … days old in Moscow, in percent of the final figures."""
    empty_days: bool = True
    """False: a day without any figure has no row in day.json."""
    max_days: int = 366
    max_ids: int = 200
    statistics_limit: int = 200
    """Items of an answer of statistics v2 that was not asked for a `limit`. Undocumented."""
    attribution_required: bool = False
    """True: `attribution` has to be there ("all parameters except metrics are required"), False: `conversion`."""
    error_prefix: bool = False
    """True: statistics say ERR_WRONG_DATE as documented, False: WRONG_DATE as they do."""

    # The door.
    api_redirect: str | None = None
    """Scheme and host to which every call of the API is sent by 302."""
    gzip: bool = False
    """True: bodies are compressed for those who accept it."""
    max_body: int | None = None
    """Bytes of a request's body; more → 413."""
    max_page: int = 50
    """`limit` is clamped to this whatever is asked."""
    api_per_second: int | None = None
    api_per_minute: int | None = None
    """Documented nowhere, an old client knew it: limits only, and stands in headers only, if not None."""
    api_per_hour: int | None = None
    api_per_day: int | None = None
    """Per method, shown in the X-RateLimit headers; None = a large number and no refusal."""
    retry_after: int | None = None
    """Seconds in Retry-After of a 429, or no such header."""
