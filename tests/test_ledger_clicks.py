"""Clicks and pulled cost in the ledger: nothing doubled, nothing lost, no click id in clear."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.ledger import Ledger
from convsync.ledger.figures import Doubled, Pulled
from convsync.model import Account, Action, Mapped, Spend, Tally, click_hash

TODAY = date(2026, 11, 22)
DAY = timedelta(days=1)
SHOP = Account("google", "1234567890", "Shop", "RUB", "Europe/Moscow")
MOSCOW = ZoneInfo("Europe/Moscow")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def spend(
    day: date = TODAY, campaign_id: str = "7", amount: int = 100, account: str = SHOP.id, **more: object
) -> Spend:
    told = {"campaign": "Brand", "currency": "RUB", "vat_included": False, "clicks": 3, "impressions": 50} | more
    return Spend(day, "google", account, campaign_id, amount=amount, **told)  # type: ignore[arg-type]


def pull(book: Ledger, *spends: Spend, since: date = TODAY, until: date = TODAY + DAY) -> Pulled:
    return book.figures.pull(SHOP, since, until, spends, now=1)


def kept(book: Ledger) -> list[tuple[date, str, int]]:
    return [(one.day, one.campaign_id, one.amount) for one in book.figures.spends(date(2000, 1, 1), date(2100, 1, 1))]


# -- cost


def test_what_stops_while_it_is_read_leaves_the_ledger_as_it_was(book: Ledger) -> None:
    pull(book, spend())

    def broken() -> Iterator[Spend]:
        yield spend(amount=999)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        book.figures.pull(SHOP, TODAY, TODAY + DAY, broken(), now=2)
    assert kept(book) == [(TODAY, "7", 100)]
    assert pull(book, spend(amount=5)) == Pulled(1, 0, 1, 0)


def test_the_same_again_changes_nothing(book: Ledger) -> None:
    rows = [spend(), spend(campaign_id="8"), spend(day=TODAY - DAY)]
    assert pull(book, *rows, since=TODAY - DAY) == Pulled(3, 3, 0, 0)
    assert pull(book, *rows, since=TODAY - DAY) == Pulled(3, 0, 0, 0)


@pytest.mark.parametrize("field", ["amount", "clicks", "impressions", "campaign", "currency"])
def test_any_figure_that_changed_is_taken_over(book: Ledger, field: str) -> None:
    pull(book, spend())
    other = spend(**{field: {"campaign": "New", "currency": "USD"}.get(field, 9)})
    assert pull(book, other) == Pulled(1, 0, 1, 0)
    assert list(book.figures.spends(TODAY, TODAY + DAY)) == [other]


def test_rows_that_google_no_longer_tells_of_go_and_only_those(book: Ledger) -> None:
    pull(book, spend(day=TODAY - 2 * DAY), spend(day=TODAY - DAY), spend(), since=TODAY - 2 * DAY)
    other = SHOP._replace(id="9999999999")
    book.figures.pull(other, TODAY, TODAY + DAY, [spend(account=other.id)], now=1)
    book.figures.put([spend(campaign_id="", campaign="By hand", account="")], "november.csv", now=1)
    assert pull(book, since=TODAY - DAY) == Pulled(0, 0, 0, 2)
    left = [(one.day, one.account, one.campaign) for one in book.figures.spends(date(2026, 1, 1), date(2027, 1, 1))]
    assert sorted(left) == [
        (TODAY - 2 * DAY, SHOP.id, "Brand"), (TODAY, "", "By hand"), (TODAY, other.id, "Brand"),
    ]  # fmt: skip


def test_what_the_platform_told_stands_whatever_a_file_says(book: Ledger) -> None:
    book.figures.put([spend(amount=1)], "before.csv", now=1)
    assert pull(book, spend()) == Pulled(1, 0, 1, 0)
    assert book.figures.put([spend(amount=2)], "after.csv", now=2) == (1, 0)
    assert kept(book) == [(TODAY, "7", 100)]
    assert book.figures.doubled() == []


@pytest.mark.parametrize("account", ["", "123-456-7890", "123 456 7890", SHOP.id])
def test_imported_rows_of_the_same_account_and_day_count_twice_and_are_found(book: Ledger, account: str) -> None:
    book.figures.put([spend(campaign_id="", account=account), spend(TODAY - DAY, account=account)], "a.csv", now=1)
    pull(book, spend())
    assert book.figures.doubled() == [Doubled("a.csv", "google", SHOP.id, TODAY, TODAY, 1)]
    assert book.figures.origins() == {"a.csv": 2}
    assert book.figures.drop("a.csv", "yandex") == 0
    assert book.figures.drop("a.csv", None) == 2
    assert kept(book) == [(TODAY, "7", 100)]


def test_imported_rows_of_another_account_do_not_count_twice(book: Ledger) -> None:
    book.figures.put([spend(account="5555555555")], "a.csv", now=1)
    pull(book, spend())
    assert book.figures.doubled() == []


def test_the_last_day_that_was_asked_for_is_remembered_and_never_goes_back(book: Ledger) -> None:
    assert book.figures.pulled_until("google", SHOP.id) is None
    pull(book, since=TODAY - DAY, until=TODAY)
    assert book.figures.pulled_until("google", SHOP.id) == TODAY - DAY
    pull(book, since=TODAY - 9 * DAY, until=TODAY - 5 * DAY)
    assert book.figures.pulled_until("google", SHOP.id) == TODAY - DAY


def test_days_that_were_asked_about_join_unless_there_is_a_gap(book: Ledger) -> None:
    assert book.figures.asked() == {}
    pull(book, since=TODAY - 3 * DAY, until=TODAY)
    pull(book, since=TODAY - 9 * DAY, until=TODAY - 3 * DAY)
    assert book.figures.asked() == {"google": (TODAY - 9 * DAY, TODAY - DAY)}
    pull(book, since=TODAY - 40 * DAY, until=TODAY - 30 * DAY)
    assert book.figures.asked() == {"google": (TODAY - 9 * DAY, TODAY - DAY)}, "older days beyond a gap are not in it"
    pull(book, since=TODAY + 5 * DAY, until=TODAY + 6 * DAY)
    assert book.figures.asked() == {"google": (TODAY + 5 * DAY, TODAY + 5 * DAY)}


def test_days_count_as_asked_about_only_when_every_account_was(book: Ledger) -> None:
    pull(book, since=TODAY - 9 * DAY, until=TODAY)
    book.figures.pull(SHOP._replace(id="2"), TODAY - 3 * DAY, TODAY + DAY, [], now=1)
    assert book.figures.asked() == {"google": (TODAY - 3 * DAY, TODAY - DAY)}


# -- clicks


def test_the_hash_of_a_click_is_for_ever() -> None:
    assert click_hash("Cj0KCQiA") == 0xD7BB9A77BF792BE0 - 2**64
    assert click_hash("") == 0xE3B0C44298FC1C14 - 2**64


@given(st.text())
def test_a_hash_fits_into_the_ledger(gclid: str) -> None:
    assert -(2**63) <= click_hash(gclid) < 2**63


def test_days_that_were_not_read_to_the_end_are_read_again(book: Ledger) -> None:
    def broken() -> Iterator[tuple[int, str]]:
        yield 1, "7"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        book.clicks.put(SHOP.id, TODAY - 10 * DAY, broken(), today=TODAY)
    assert TODAY - 10 * DAY in book.clicks.days_to_read(SHOP.id, TODAY)
    assert book.clicks.put(SHOP.id, TODAY - 10 * DAY, [(1, "7")], today=TODAY) == 1
    assert TODAY - 10 * DAY not in book.clicks.days_to_read(SHOP.id, TODAY)


def test_ninety_days_are_read_once_and_the_last_three_again(book: Ledger) -> None:
    days = book.clicks.days_to_read(SHOP.id, TODAY)
    assert days == [TODAY - back * DAY for back in range(90)]
    for day in days:
        book.clicks.put(SHOP.id, day, [], today=TODAY)
    assert book.clicks.days_to_read(SHOP.id, TODAY) == [TODAY, TODAY - DAY, TODAY - 2 * DAY]
    later = TODAY + 5 * DAY  # what was still growing when it was read is read once more, however late
    assert book.clicks.days_to_read(SHOP.id, later) == [later - back * DAY for back in range(8)]
    assert len(book.clicks.days_to_read("9999999999", TODAY)) == 90


def test_more_clicks_than_one_transaction_takes_are_all_kept(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convsync.ledger.clicks.CHUNK", 300)
    clicks = [(click_hash(str(number)), str(number % 5)) for number in range(1010)]
    assert book.clicks.put(SHOP.id, TODAY, iter(clicks), today=TODAY) == 1010
    assert book.clicks.put(SHOP.id, TODAY, iter(clicks), today=TODAY) == 1010
    assert book.store.one("SELECT count(*) FROM click") == 1010
    assert book.clicks.campaign(click_hash("7")) == "2"
    assert book.clicks.campaign(click_hash("never")) is None


def test_old_clicks_are_forgotten_but_not_those_that_actions_came_from(book: Ledger) -> None:
    old = TODAY - 101 * DAY
    book.clicks.put(SHOP.id, old, [(click_hash("kept"), "7"), (click_hash("gone"), "7")], today=old)
    book.clicks.put(SHOP.id, TODAY - 100 * DAY, [(click_hash("young"), "7")], today=TODAY)
    take(book, "1", gclid="kept")
    assert book.clicks.prune(TODAY) == 1
    assert [book.clicks.campaign(click_hash(one)) for one in ("kept", "gone", "young")] == ["7", None, "7"]


# -- an action's campaign


def take(book: Ledger, number: str, *, gclid: str | None, platform: str = "google", campaign: str = "") -> None:
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    action = Action("shop", number, "lead", moment, gclid=gclid)
    hashed = None if gclid is None else click_hash(gclid)
    book.plan.page([Mapped(action, "lead", platform, campaign, None, 0, (), hashed)], now=1)


def tallies(book: Ledger) -> list[Tally]:
    return list(book.figures.tallies(TODAY, TODAY + DAY, MOSCOW))


def test_an_action_without_a_campaign_counts_for_that_of_its_click(book: Ledger) -> None:
    book.clicks.put(SHOP.id, TODAY, [(click_hash("a"), "7"), (click_hash("c"), "8")], today=TODAY)
    take(book, "1", gclid="a")
    take(book, "2", gclid="unheard of")
    take(book, "3", gclid="c", campaign="named by the source")
    take(book, "4", gclid="a", platform="yandex")
    take(book, "5", gclid=None)
    take(book, "6", gclid="a")
    assert {(one.platform, one.campaign): one.actions for one in tallies(book)} == {
        ("google", "7"): 2, ("google", ""): 2, ("google", "named by the source"): 1, ("yandex", ""): 1,
    }  # fmt: skip


def test_no_click_id_is_in_the_ledger_in_clear(book: Ledger, tmp_path: Path) -> None:
    book.clicks.put(SHOP.id, TODAY, [(click_hash("Cj0KCQiA-secret"), "7")], today=TODAY)
    take(book, "1", gclid="Cj0KCQiA-secret")
    book.store.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"Cj0KCQiA-secret" not in (tmp_path / "ledger.db").read_bytes()
