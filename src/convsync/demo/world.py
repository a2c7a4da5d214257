"""Builds the made-up world in a folder: a shop, a clinic, what their advertising cost, and the configuration for them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from string import Template
from typing import NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from convsync.demo import clinic, shop
from convsync.demo.people import CAMPAIGNS, Campaign
from convsync.demo.shop import Change
from convsync.errors import UsageError

ZONE = ZoneInfo("Europe/Moscow")
DAYS = 30
STORE, EXPORTS, COSTS, CONFIG, LEDGER = "shop.db", "clinic", "costs.csv", "convsync.toml", "convsync.db"

CONFIGURATION = Template("""\
# The made-up world of `convsync demo`: a shop and a clinic, on the sandbox at $url.
timezone = "Europe/Moscow"
phone_region = "RU"
reporting_currency = "RUB"

[ledger]
url = "sqlite:///$ledger"

[sources.shop]                      # an event store in SQLite
type = "sql"
url = "sqlite:///$store"
query = "SELECT * FROM target_actions"
id = "event_id"
cursor = "updated_at"
overlap = "15m"
[sources.shop.fields]               # our field = their column; a column named as ours needs no line
action = "kind"
occurred_at = "happened_at"
value = "amount"
order_id = "deal_id"
ym_client_id = "ym_uid"
email = "mail"
phone = "tel"

[sources.clinic]                    # exports of a booking program
type = "csv"
path = "$exports/*.csv*"
encoding = "cp1251"
delimiter = ";"
decimal_comma = true
occurred_format = "%d.%m.%Y %H:%M"
id = "Номер"
[sources.clinic.fields]
action = "Событие"
occurred_at = "Дата"
value = "Сумма"
currency = "Валюта"
order_id = "Договор"
first_name = "Имя"
last_name = "Фамилия"
phone = "Телефон"
email = "Почта"
ym_client_id = "ClientID"
consent_ad_user_data = "Согласие"

[actions.lead]
kind = "lead"
google = { conversion_action = "1111111111" }
yandex = { status = "IN_PROGRESS" }
vk = { goal = "crm_lead" }

[actions.sale]                      # the shop's word
kind = "sale"
google = { conversion_action = "2222222222" }
yandex = { status = "PAID" }
vk = { goal = "crm_sale" }

[actions.visit]                     # the clinic's word
kind = "sale"
google = { conversion_action = "2222222222" }
yandex = { status = "PAID" }
vk = { goal = "crm_sale" }

[actions.cart]                      # counted in reports, sent nowhere
kind = "micro"

[destinations.google]
customer_id = "1234567890"
client_id = "sandbox-client"
client_secret = "sandbox-secret"
refresh_token = "sandbox-refresh"
data_manager_url = "$url"
ads_endpoint = "$host"
token_url = "$url/token"
auth_url = "$url/o/oauth2/v2/auth"
poll_after = "3s"                   # these are minutes and hours at the real platforms
poll_every = "1s"
poll_until = "60s"
quarantine = "3s"

[destinations.yandex]
counter_id = "12345678"
token = "sandbox-token"
metrica_url = "$url"
direct_url = "$url"
late_orders = "send"                # this story is two months long; Metrica ties to visits what it hears of within 21 days
poll_after = "1s"
poll_every = "1s"
poll_until = "60s"
quarantine = "3s"

[destinations.vk]
pixel_id = "1234567"
client_id = "sandbox-vk"
client_secret = "sandbox-vk-secret"
tracker_url = "$url/tracker"
api_url = "$url"
requests_per_second = 400
quarantine = "3s"
""")


@dataclass(frozen=True)
class World:
    """What was made, counted while it was made."""

    folder: Path
    config: Path
    costs: Path
    now: datetime
    rows: Mapping[str, int]
    """Rows by source, the unreadable ones included."""
    kinds: Mapping[tuple[str, str], int]
    """Rows by source and name of the action."""
    clicks: Mapping[str, int]
    """Rows other than carts by the platform whose click id they carry; empty for none."""
    fates: Mapping[str, int]
    """The same rows whose click id the sandbox will not know, by what it will say."""
    dirt: Mapping[str, str]
    """One row of each of these problems, and what should come of it: unreadable, skipped or fine."""
    sold: Decimal
    """Roubles of the sales that stand: not cancelled, not refunded, with a currency."""
    spent: Mapping[str, Decimal]
    """Roubles by platform."""

    @property
    def made(self) -> int:
        return sum(self.rows.values())

    @property
    def unreadable(self) -> int:
        """Rows that cannot become an action."""
        return sum(1 for end in self.dirt.values() if end == clinic.UNREADABLE)


class _Paid(NamedTuple):
    day: date
    campaign: Campaign
    kopecks: int
    clicks: int
    impressions: int


def build(folder: str | Path, now: datetime, sandbox_url: str, *, seed: int = 1) -> World:
    """Make the world of the thirty days before `now`. The same arguments make the same bytes, in whatever folder."""
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    folder, local = Path(folder), now.astimezone(ZONE).replace(tzinfo=None, microsecond=0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (STORE, EXPORTS, COSTS, CONFIG, LEDGER):
        if (folder / name).exists():
            raise UsageError(f"{folder / name} is already there.", "Name an empty folder for the made-up world.")
    # Made up, not secret: the same every time is the point.
    sold = shop.events(Random(f"shop {seed}"), local)  # noqa: S311
    treated = clinic.entries(Random(f"clinic {seed}"), local)  # noqa: S311
    paid = _spending(Random(f"costs {seed}"), local.date())  # noqa: S311
    shop.write(folder / STORE, sold)
    clinic.write(folder / EXPORTS, treated)
    (folder / COSTS).write_bytes(_costs(paid).encode())
    (folder / CONFIG).touch(mode=0o600)
    (folder / CONFIG).write_bytes(_configuration(sandbox_url).encode())
    return _counted(folder, now, sold, treated, paid)


def refund_one(folder: str | Path) -> Change:
    """A day later in the shop: one paid order is refunded, the amount of another changes."""
    return shop.refund_one(Path(folder) / STORE)


def _configuration(url: str) -> str:
    url = url.rstrip("/")
    return CONFIGURATION.substitute(url=url, host=urlsplit(url).netloc, ledger=LEDGER, store=STORE, exports=EXPORTS)


def _spending(chance: Random, today: date) -> list[_Paid]:
    paid = []
    for day in [today - timedelta(days=back) for back in range(DAYS, -1, -1)]:
        for campaign in CAMPAIGNS:
            clicks = round(campaign.clicks * chance.uniform(0.7, 1.3))
            kopecks = sum(round(campaign.cpc * chance.uniform(0.6, 1.4)) for _ in range(clicks))
            paid.append(_Paid(day, campaign, kopecks, clicks, clicks * chance.randrange(15, 40)))
    return paid


def _costs(paid: Sequence[_Paid]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("day", "platform", "campaign", "campaign_id", "amount", "currency", "clicks", "impressions", "vat_included")
    )
    for day, campaign, kopecks, clicks, impressions in paid:
        amount = f"{Decimal(kopecks) / 100:.2f}"
        writer.writerow((day, campaign.platform, campaign.name, campaign.id, amount, "RUB", clicks, impressions, "yes"))
    return out.getvalue()


def _counted(
    folder: Path, now: datetime, sold: Sequence[shop.Event], treated: Sequence[clinic.Entry], paid: Sequence[_Paid]
) -> World:
    kinds = Counter([("shop", event.kind) for event in sold] + [("clinic", entry.kind) for entry in treated])
    visitors = [event.visitor for event in sold if event.kind != "cart"] + [entry.visitor for entry in treated]
    spent: Counter[str] = Counter()
    for cost in paid:
        spent[cost.campaign.platform] += cost.kopecks
    revenue = [event.amount for event in sold if event.amount and event.status == "active"]
    revenue += [entry.amount for entry in treated if entry.amount and entry.currency]
    return World(
        folder=folder,
        config=folder / CONFIG,
        costs=folder / COSTS,
        now=now,
        rows={"shop": len(sold), "clinic": len(treated)},
        kinds=dict(kinds),
        clicks=dict(Counter(visitor.platform for visitor in visitors)),
        fates=dict(Counter(visitor.fate for visitor in visitors if visitor.fate)),
        dirt=dict(clinic.DIRT),
        sold=sum(revenue, Decimal(0)),
        spent={platform: Decimal(kopecks) / 100 for platform, kopecks in spent.items()},
    )
