"""What `convsync costs pull` does, account by account."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from convsync.cli.asking import DIRECT, Asking
from convsync.cli.show import counted
from convsync.cli.show import days as span_of
from convsync.costs import days, google, yandex
from convsync.model import Finding
from convsync.normalise import major

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from convsync.config import YandexSettings
    from convsync.costs.days import Keeps
    from convsync.costs.google import Search
    from convsync.ledger import Ledger
    from convsync.ledger.figures import Pulled
    from convsync.model import Account, Spend

DAY = timedelta(days=1)
KEEPS = {"google": google.KEEPS, "yandex": yandex.KEEPS}


class Read(NamedTuple):
    """An account that was read: its days, what changed in the ledger, what it spent (minor units by currency)."""

    destination: str
    account: Account
    since: date
    until: date
    rows: Pulled
    cost: Counter[str]
    click_days: int = 0
    clicks: int = 0

    def amounts(self) -> dict[str, str]:
        """In major units, by currency."""
        return {currency: str(major(minor, currency)) for currency, minor in sorted(self.cost.items())}

    def as_json(self) -> dict[str, Any]:
        return {
            "destination": self.destination, "account": self.account.id, "name": self.account.name,
            "time_zone": self.account.time_zone, "since": str(self.since), "until": str(self.until),
            "days": (self.until - self.since).days + 1, **self.rows._asdict(), "cost": self.amounts(),
            "click_days": self.click_days, "clicks": self.clicks,
        }  # fmt: skip


@dataclass
class Pull:
    """One run of it. `zone` is that of reports; `say` gets lines that nobody needs to keep."""

    book: Ledger
    zone: ZoneInfo | None
    since: date | None
    until: date | None
    with_clicks: bool
    now: datetime
    say: Callable[[str], None]
    asking: Asking = field(default_factory=Asking)
    read: list[Read] = field(default_factory=list)
    advertisers: dict[str, str] = field(default_factory=dict)
    """Numbers of Yandex's advertisers, each with the login that its cost was read of."""

    def read_google(self, name: str, customers: Sequence[str], search: Search) -> None:
        """Read the accounts that these ids stand for, but none a second time."""
        where = f"destinations.{name}"
        for customer in customers:
            if where in self.asking.halted:
                return
            with self.asking.apart(where, customer):
                found = google.accounts(search, customer)
                if found.closed:
                    message = f"Accounts that are not in use were left out: {', '.join(found.closed)}."
                    self.asking.find("info", "account_closed", where, message)
                if not found.spending:
                    message = f"There is no account in use under {customer}, so no cost was read."
                    advice = "Check customer_id and cost_customer_ids."
                    self.asking.find("warning", "no_account", where, message, advice)
                for account in found.spending:
                    if self._is_known(account) or where in self.asking.halted:
                        continue
                    with self.asking.apart(where, account.id):
                        told = partial(google.spends, search, account)
                        if self._account(name, where, account, google.KEEPS, told) and self.with_clicks:
                            self._clicks(account, search)

    def read_yandex(self, name: str, settings: YandexSettings, direct: yandex.Direct) -> None:
        """Read the accounts of these logins, or that of the token, but none a second time."""
        where = f"destinations.{name}"
        stamp = str(int(self.now.timestamp() * 1000))
        for login in settings.cost_client_logins or (settings.client_login or "",):
            if where in self.asking.halted:
                return
            with self.asking.apart(where, login or "of the token", DIRECT):
                account, number = yandex.client(direct, login, settings.direct_currency)
                same = self.advertisers.setdefault(number, account.id) if number else account.id
                if same != account.id:
                    message = f"{account.id} and {same} are logins of one advertiser, whose cost counts once."
                    self.asking.find("info", "same_advertiser", where, message, "Name one of them.")
                elif not self._is_known(account):
                    blank: list[yandex.Row] = []
                    told = partial(
                        yandex.spends, direct, login, account,
                        vat=settings.direct_vat, stamp=stamp, blank=blank.append,
                    )  # fmt: skip
                    self._account(name, where, account, yandex.KEEPS, told)
                    self._blank(where, account, blank)

    def finish(self) -> None:
        """What concerns all accounts: old clicks go, money that counts twice is told."""
        if self.with_clicks:
            self.book.clicks.prune(self.now.date())
        for finding in doubled(self.book):
            self.asking.add(finding)

    def _is_known(self, account: Account) -> bool:
        return (account.platform, account.id) in {(one.account.platform, one.account.id) for one in self.read}

    def _account(
        self, name: str, where: str, account: Account, keeps: Keeps, spends: Callable[[date, date], Iterable[Spend]]
    ) -> bool:
        """Put what an account spent into the ledger; False where no day that is wished for has begun there."""
        last = self.book.figures.pulled_until(account.platform, account.id)
        today = days.today(account, self.now)
        span = days.span(keeps, self.since, self.until, today=today, pulled_until=last)
        if span is None:
            message = f"Account {account.id}: no day of the span has begun there ({account.time_zone})."
            self.asking.find("info", "not_begun", where, message)
            return False
        since, until = span
        self.say(f"{account.id}: cost from {since} to {until} …")
        cost: Counter[str] = Counter()
        now = int(self.now.timestamp() * 1000)
        rows = self.book.figures.pull(account, since, until + DAY, _added(spends(since, until), cost), now=now)
        self.read.append(Read(name, account, since, until, rows, cost))
        if self.zone is not None and days.zones_differ(account, self.zone, since, until):
            message = (
                f"Account {account.id} counts its days in {account.time_zone}, reports in {self.zone.key}:"
                " cost and actions of one day do not quite line up."
            )
            advice = f'Compare weeks, or write timezone = "{account.time_zone}" at the top of the configuration.'
            self.asking.find("info", "cost_zone", where, message, advice)
        return True

    def _clicks(self, account: Account, search: Search) -> None:
        today = days.today(account, self.now)
        wanted = self.book.clicks.days_to_read(account.id, today)
        self.say(f"{account.id}: clicks of {len(wanted)} days …")
        for day in wanted:
            clicks = self.book.clicks.put(account.id, day, google.clicks(search, account, day), today=today)
            done = self.read[-1]
            self.read[-1] = done._replace(click_days=done.click_days + 1, clicks=done.clicks + clicks)

    def _blank(self, where: str, account: Account, rows: Sequence[yandex.Row]) -> None:
        """Rows that Direct tells no cost of are not in the ledger: it would have to be made up."""
        if rows:
            first, last = min(row.day for row in rows), max(row.day for row in rows)
            message = (
                f"Account {account.id}: Direct told no cost of {counted(len(rows), 'row')} {span_of(first, last)}."
            )
            level = "warning" if any(row.clicks for row in rows) else "info"
            self.asking.find(level, "no_cost", where, message, "They were left out; the next pulls ask again.")


def _added(spends: Iterable[Spend], cost: Counter[str]) -> Iterator[Spend]:
    for one in spends:
        cost[one.currency] += one.amount
        yield one


def doubled(book: Ledger) -> Iterator[Finding]:
    """Rows of a file beside what the platform told: a report adds both."""
    for one in book.figures.doubled():
        message = (
            f"cost of {one.platform} may count twice: {counted(one.rows, 'imported row')} {span_of(one.first, one.last)}"
            f" beside what the account {one.account} itself told."
        )
        advice = f"To take them out: convsync costs drop {shlex.quote(one.origin)} --platform {one.platform}"
        yield Finding("warning", "cost_twice", f"costs {one.origin}", message, advice)
