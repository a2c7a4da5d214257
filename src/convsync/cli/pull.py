"""What `convsync costs pull` does, account by account."""

from __future__ import annotations

import shlex
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convsync.cli.asking import DIRECT, VK, Asking
from convsync.cli.show import counted
from convsync.cli.show import days as span_of
from convsync.costs import days, google, vk, vk_goals, yandex
from convsync.errors import Exit, Halted, LedgerBusy, LedgerError
from convsync.model import Finding
from convsync.normalise import major

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from convsync.config import Config, VkSettings, YandexSettings
    from convsync.costs.days import Keeps
    from convsync.costs.google import Search
    from convsync.ledger import Ledger
    from convsync.ledger.figures import Pulled
    from convsync.model import Account, Spend

DAY = timedelta(days=1)
KEEPS = {"google": google.KEEPS, "yandex": yandex.KEEPS, "vk": vk.KEEPS}
T = TypeVar("T")
NOT_OPEN = ("no_rights", "not_found")
"""Findings about a question that VK does not answer everybody."""
NAMED = 10
MOST_HELD = 250_000
"""Clicks that wait in memory until they are written, 4 MB of them; a day is never torn apart."""


class Shelf:
    """The ledger, taken out for moments only: a platform may be minutes over an answer, and a `sync` must not wait for
    it. `wait`: how long to wait for another run each time something is written; None: as [run] wait says."""

    def __init__(self, config: Config, wait: timedelta | None) -> None:
        self._config, self._wait = config, wait

    def writing(self) -> AbstractContextManager[Ledger]:
        """Alone, under the lock. Raises LedgerBusy."""
        from convsync.cli.runs import locked

        return locked(self._config, self._wait)

    @contextmanager
    def reading(self) -> Iterator[Ledger]:
        """Beside whoever writes. Without a ledger that can be read one is made, or brought up to date: that takes the lock."""
        book = self._opened()
        try:
            yield book
        finally:
            book.close()

    def _opened(self) -> Ledger:
        from convsync.ledger import Ledger
        from convsync.ledger.store import refuse_readable_by_others

        path = self._config.ledger.path
        if path.exists():
            refuse_readable_by_others(path)
        try:
            return Ledger.open(path, read_only=True)
        except LedgerError:
            with self.writing():
                pass
            return Ledger.open(path, read_only=True)


class Read(NamedTuple):
    """An account that was read: its days, what changed in the ledger, what it spent (minor units by currency)."""

    destination: str
    account: Account
    since: date
    until: date
    rows: Pulled
    cost: Counter[str]
    vat: bool
    """Whether the cost includes it."""
    click_days: int = 0
    clicks: int = 0
    goal_days: int = 0
    goals: int = 0
    """Conversions of the goals of pixels, as the platform itself counts them."""

    def amounts(self) -> dict[str, str]:
        """In major units, by currency."""
        return {currency: str(major(minor, currency)) for currency, minor in sorted(self.cost.items())}

    def as_json(self) -> dict[str, Any]:
        return {
            "destination": self.destination, "account": self.account.id, "name": self.account.name,
            "time_zone": self.account.time_zone, "since": str(self.since), "until": str(self.until),
            "days": (self.until - self.since).days + 1, **self.rows._asdict(), "cost": self.amounts(),
            "vat_included": self.vat, "click_days": self.click_days, "clicks": self.clicks,
            "goal_days": self.goal_days, "goals": self.goals,
        }  # fmt: skip


class Held:
    """Clicks in memory, 16 bytes each: the hash of the click, and the one text that names its campaign."""

    def __init__(self, clicks: Iterable[tuple[int, str]]) -> None:
        self._ids = array("q")
        self._campaigns: list[str] = []
        names: dict[str, str] = {}
        for click, campaign in clicks:
            self._ids.append(click)
            self._campaigns.append(names.setdefault(campaign, campaign))

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return zip(self._ids, self._campaigns, strict=True)


@dataclass
class Pull:
    """One run of it. `zone` is that of reports; `say` gets lines that nobody needs to keep.

    An account is read first, to its end, and only then written: the ledger is nobody's while a platform is waited for.
    """

    shelf: Shelf
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
    busy: bool = False
    """Whether another run kept something from being written."""
    pruned: bool = False

    @property
    def exit_code(self) -> Exit:
        """What stops a scheduler for longer than another run does comes first."""
        code = self.asking.exit_code
        return Exit.BUSY if self.busy and code not in (Exit.USAGE, Exit.UNFINISHED) else code

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
                            self._clicks(where, account, search)

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
                    if self._account(name, where, account, yandex.KEEPS, told, vat=settings.direct_vat):
                        self._blank(where, account, "Direct", blank)

    def read_vk(self, name: str, settings: VkSettings, ads: vk.Ads) -> None:
        """Read the account that the keys open, unless another destination had the same, and the goals of its pixel."""
        where = f"destinations.{name}"
        with self.asking.apart(where, "of these keys", VK):
            account = vk.account(ads)
            if not self._is_known(account):
                blank, left_out = list[vk.Row](), list[str]()
                told = partial(
                    vk.spends, ads, account, vat=settings.vat_rate, blank=blank.append, left_out=left_out.append
                )
                if not self._account(name, where, account, vk.KEEPS, told, vat=settings.vat_rate is not None):
                    return
                self._blank(where, account, "VK Ads", blank)
                self._left_out(where, account, left_out)
            lost = f"Account {account.id}: what VK counts of goals was not read; cost was read all the same"
            with self.asking.apart(where, account.id, VK, lost=lost):
                self._goals(where, account, settings.pixel_id, ads)

    def finish(self) -> None:
        """What concerns all accounts: money that counts twice."""
        with self.shelf.reading() as book:
            for finding in doubled(book):
                self.asking.add(finding)

    def _is_known(self, account: Account) -> bool:
        return (account.platform, account.id) in {(one.account.platform, one.account.id) for one in self.read}

    def _account(
        self,
        name: str,
        where: str,
        account: Account,
        keeps: Keeps,
        spends: Callable[[date, date], Iterable[Spend]],
        *,
        vat: bool = False,
    ) -> bool:
        """Put what an account spent into the ledger; False where nothing was put there, which is told."""
        with self.shelf.reading() as book:
            last = book.figures.pulled_until(account.platform, account.id)
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
        told = list(_added(spends(since, until), cost))
        rows = self._keep(
            where, f"The cost of account {account.id} was",
            lambda book: book.figures.pull(account, since, until + DAY, told, now=now),
        )  # fmt: skip
        if rows is None:
            return False
        self.read.append(Read(name, account, since, until, rows, cost, vat))
        if self.zone is not None and days.zones_differ(account, self.zone, since, until):
            message = (
                f"Account {account.id} counts its days in {account.time_zone}, reports in {self.zone.key}:"
                " cost and actions of one day do not quite line up."
            )
            advice = f'Compare weeks, or write timezone = "{account.time_zone}" at the top of the configuration.'
            self.asking.find("info", "cost_zone", where, message, advice)
        return True

    def _clicks(self, where: str, account: Account, search: Search) -> None:
        today = days.today(account, self.now)
        with self.shelf.reading() as book:
            wanted = book.clicks.days_to_read(account.id, today)
        self.say(f"{account.id}: clicks of {len(wanted)} days …")
        held: dict[date, Held] = {}
        try:
            for day in wanted:
                held[day] = Held(google.clicks(search, account, day))
                if sum(map(len, held.values())) >= MOST_HELD and not self._keep_clicks(where, account, held, today):
                    return
        finally:  # a day that cannot be read does not take those before it with it
            self._keep_clicks(where, account, held, today)

    def _keep_clicks(self, where: str, account: Account, held: dict[date, Held], today: date) -> bool:
        """Write the days that were read, and let go of them; False where another run was in the way, which is told."""
        read = held.copy()
        held.clear()

        def write(book: Ledger) -> int:
            return sum(book.clicks.put(account.id, day, clicks, today=today) for day, clicks in read.items())

        clicks = self._keep(where, f"The clicks of account {account.id} were", write) if read else 0
        if clicks is None:
            return False
        done = self.read[-1]
        self.read[-1] = done._replace(click_days=done.click_days + len(read), clicks=done.clicks + clicks)
        return True

    def _keep(self, where: str, what: str, write: Callable[[Ledger], T]) -> T | None:
        """What `write` brought about in the ledger; None where another run was in the way, which is told."""
        try:
            with self.shelf.writing() as book:
                if self.with_clicks and not self.pruned:
                    book.clicks.prune(self.now.date())
                    self.pruned = True
                return write(book)
        except LedgerBusy as busy:
            self.busy = True
            advice = "Nothing is lost: the next pull reads it again. --wait 30m would wait for the other run."
            self.asking.find("error", "ledger_busy", where, f"{what} read and not kept. {busy.message}", advice)
            return None

    def _goals(self, where: str, account: Account, pixel: str, ads: vk.Ads) -> None:
        """What VK counts of the goals of a pixel, for the same days as the cost."""
        with self.shelf.reading() as book:
            last = book.goals.read_until(account.platform, account.id, pixel)
        span = days.span(
            vk.KEEPS, self.since, self.until, today=days.today(account, self.now), pulled_until=last
        )  # fmt: skip
        if span is None:
            return
        since, until = span
        self.say(f"{account.id}: goals of the pixel {pixel} from {since} to {until} …")
        try:
            told = vk_goals.counted(ads, account.id, pixel, since, until)
        except Halted as stop:
            if stop.finding.code not in NOT_OPEN:
                raise
            told = None
        if told is None:
            message = f"Account {account.id}: VK does not tell these keys what it counts of goals; cost was read all the same."
            advice = "Reports cannot tell how many unknown outcomes arrived. Ask ads_api@vk.team for this right."
            self.asking.find("info", "no_goal_statistics", where, message, advice)
            return
        now = int(self.now.timestamp() * 1000)

        def write(book: Ledger) -> bool:
            book.goals.pull(account.platform, account.id, pixel, since, until + DAY, told, now=now)
            return True

        if self._keep(where, f"The goals of the pixel {pixel} were", write):
            at = next(at for at, one in enumerate(self.read) if (one.account.platform, one.account.id) == account[:2])
            done, counts = self.read[at], sum(one.conversions for one in told)
            span_days = max(done.goal_days, (until - since).days + 1)
            self.read[at] = done._replace(goal_days=span_days, goals=done.goals + counts)

    def _blank(self, where: str, account: Account, whose: str, rows: Sequence[yandex.Row | vk.Row]) -> None:
        """Rows that a platform tells no cost of are not in the ledger: it would have to be made up."""
        if rows:
            first, last = min(row.day for row in rows), max(row.day for row in rows)
            message = (
                f"Account {account.id}: {whose} told no cost of {counted(len(rows), 'row')} {span_of(first, last)}."
            )
            level = "warning" if any(row.clicks for row in rows) else "info"
            self.asking.find(level, "no_cost", where, message, "They were left out; the next pulls ask again.")

    def _left_out(self, where: str, account: Account, ids: Sequence[str]) -> None:
        """Campaigns that VK lists and does not know."""
        if ids:
            more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
            message = (
                f"Account {account.id}: VK lists {counted(len(ids), 'campaign')} and knows no statistics of them:"
                f" {', '.join(ids[:NAMED])}{more}."
            )
            advice = "Their cost was left out; that of the others is complete."
            self.asking.find("warning", "campaign_unknown", where, message, advice)


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
