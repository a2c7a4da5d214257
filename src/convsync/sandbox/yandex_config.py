"""Metrica's world in the sandbox: tokens, counters, goals, whom the site saw, and the switches of what is unsure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta, timezone, tzinfo
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Visited: TypeAlias = dict[str, str | list[str]]
"""Identifier → ISO time or times of visits."""


@dataclass
class Goal:
    id: int
    name: str
    url: str
    """The identifier of the JavaScript event."""
    type: str = "action"
    condition: str = "exact"
    created: str = ""
    """ISO time; empty = long ago. It counts in visits from then on."""


def _goals(first: int) -> list[Goal]:
    names = {"good_lead": "Good lead", "crm_lead": "CRM lead", "qualified": "Qualified"}
    page = Goal(first + len(names), "Thank-you page", "/thanks", type="url", condition="contain")
    return [*(Goal(first + i, name, url) for i, (url, name) in enumerate(names.items())), page]


@dataclass
class Counter:
    name: str = "Shop"
    time_zone_name: str = "Europe/Moscow"
    time_zone_offset: int = 180
    """Minutes east of UTC, as the counter tells it; times are read by the name unless that is no known zone."""
    goals: list[Goal] = field(default_factory=lambda: _goals(100001), metadata={"item": Goal, "depth": 1})
    permission: str = "edit"
    """own | edit | view (nothing can be uploaded or made: 403)."""
    foreign: bool = False
    """True: it exists but belongs to somebody else (403)."""

    def zone(self) -> tzinfo:
        try:
            return ZoneInfo(self.time_zone_name)
        except (ZoneInfoNotFoundError, ValueError):
            return timezone(timedelta(minutes=self.time_zone_offset))


@dataclass
class YandexConfig:
    tokens: dict[str, list[str]] = field(
        default_factory=lambda: {"sandbox-token": ["metrika:read", "metrika:write", "metrika:offline_data"]}
    )
    """Token → rights. A right missing → 403 access_denied."""
    counters: dict[str, Counter] = field(
        default_factory=lambda: {
            "12345678": Counter(),
            "87654321": Counter("Second shop", goals=_goals(200001)),
            "99999999": Counter("Somebody else's", foreign=True),
        },
        metadata={"item": Counter, "depth": 1},
    )
    bad_token_status: int = 403
    """401 = unauthorized | 403 = invalid_token: the documentation says both."""
    bearer_accepted: bool = False
    """True: `Authorization: Bearer` works as well as `OAuth`."""

    missing_id: str = "refused"
    """An order without id: refused | separate (each row an order of its own, the older rule)."""
    bad_row: str = "refuse_400"
    """One bad row: refuse_400 (the file: 400 invalid_uploading) | failed_200 (the file: 200 with FAILED)
    | drop (that row only; elements_count is lower). Undocumented."""
    force_failed: bool = False
    """True: every upload answers 200 with FAILED and nothing is applied."""
    cancelled_and_spam_goals: bool = True
    """CANCELLED and SPAM reach goals of their own: newer page yes, older page no."""
    strict_contacts: bool = True
    """True: e-mail, phone and MD5 must be normalised as documented. False: taken as they are."""
    max_order_age_days: int = 113
    link_days: int = 21
    change_days: int = 111
    known_clients: Visited | None = None
    """Visits by ClientID. None: whoever is named visited at create_date_time or DateTime."""
    known_contacts: Visited | None = None
    """Visits by the MD5 of an e-mail or phone, for orders. None: all, unless `known_clients` is given: then none."""
    known_users: Visited | None = None
    """Visits by UserID (those where setUserID ran). None: all at DateTime, except those that begin with `lost-`."""
    known_clicks: Visited | None = None
    """By yclid: the visit of the click, then later ones of that visitor. None: as `known_users`."""
    known_purchases: Visited | None = None
    """By PurchaseId: the visit with the purchase, then later ones. None: as `known_users`."""
    goals_count_at_once: bool = False
    """True: a goal also counts in visits before its creation."""

    processing_seconds: float = 2.0
    """Offline conversions: from the upload to PROCESSED or LINKAGE_FAILURE, PREPARED, UPLOADED, EXPORTED and MATCHED
    a quarter each (documented: up to 2 h)."""
    finished_word: str = ""
    """Not empty: every finished upload has this status, such as one that is not documented."""
    uploading_fields: str = "new"
    """new (all) | 2025 (no type, no counters of links) | short (id, quantities, client_id_type, status) | id."""
    comment_returned: str = "verbatim"
    """verbatim | empty | altered"""
    comment_letters_only: bool = True
    """False: blanks and signs pass in a comment."""
    newest_first: bool = True
    """Order of the list of uploads. Undocumented."""
    list_delay_s: float = 0
    """How long an upload that was answered stays out of the list."""
    bad_conversion: str = "refuse_400"
    """One bad row: refuse_400 (the file: 400 invalid_uploading) | drop (line_quantity is lower). Undocumented."""
    unknown_target: str = "count"
    """A Target that no goal has: count (in goal_not_found_quantity) | refuse (a bad row)."""
    repeat_counts: bool = False
    """True: the same conversion sent again counts again. Documented is only that its revenue is overwritten."""
    client_id_type_required: bool = False
    """True: an upload without client_id_type is 400 missing_parameter, as it once was."""
    client_id_types: list[str] = field(default_factory=lambda: ["CLIENT_ID", "USER_ID", "YCLID"])
    """What client_id_type may be. PURCHASE_ID is claimed by others only."""
    one_id_type: bool = False
    """True: a file with two columns of ids is refused, the older rule."""
    id_priority: list[str] = field(default_factory=lambda: ["ClientId", "UserId", "Yclid", "PurchaseId"])
    """Which id of a row wins, if client_id_type does not say so. Undocumented."""

    system_goals_after_s: float = 0
    """How long after the first upload the CRM goals appear in the list of goals (documented: up to 24 h)."""
    max_file_bytes: int = 1 << 30

    quota_status: int = 429
    """429 (Russian page) | 420 (English page)."""
    retry_after: int | None = None
    """Seconds in Retry-After, or no such header."""
    retry_after_every: int = 1
    """2: only every second refusal has it, and so on."""
    # Windows of the sandbox's clock: one that stands still never leaves its second. None = no limit.
    requests_per_second: int | None = 30
    parallel_requests: int | None = 3
    requests_per_day: int | None = 5000
