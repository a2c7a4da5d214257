"""What a platform counts of goals, in the ledger: replaced as a whole, told from days that nobody asked about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from convsync.ledger import Ledger
from convsync.ledger.goals import Counted

TODAY = date(2026, 11, 22)
DAY = timedelta(days=1)
ALWAYS = (date(2000, 1, 1), date(2100, 1, 1))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def pull(
    book: Ledger, *counts: tuple[date, str, int], days: int = 2, now: int = 1, account: str = "5", counter: str = "77"
) -> None:
    told = [(*one, None) for one in counts]
    book.goals.pull("vk", account, counter, TODAY - (days - 1) * DAY, TODAY + DAY, told, now=now)


def kept(book: Ledger, counter: str = "77") -> list[Counted]:
    return list(book.goals.counted("vk", counter, *ALWAYS))


def test_a_span_is_replaced_and_what_lies_outside_of_it_stays(book: Ledger) -> None:
    pull(book, (TODAY, "sale", 3), (TODAY, "lead", 1), (TODAY - 2 * DAY, "sale", 9), days=3)
    pull(book, (TODAY - DAY, "sale", 4))
    assert kept(book) == [(TODAY - 2 * DAY, "sale", 9), (TODAY - DAY, "sale", 4)]


def test_a_goal_told_twice_leaves_everything_as_it_was(book: Ledger) -> None:
    pull(book, (TODAY, "sale", 3))
    with pytest.raises(Exception, match="UNIQUE"):
        pull(book, (TODAY, "sale", 1), (TODAY, "sale", 2), now=2)
    assert kept(book) == [(TODAY, "sale", 3)]
    assert book.goals.read_at("vk", "77", *ALWAYS)[TODAY] == 1


def test_a_day_without_conversions_is_told_from_one_that_nobody_asked_about(book: Ledger) -> None:
    pull(book)
    assert kept(book) == []
    assert book.goals.read_at("vk", "77", *ALWAYS) == {TODAY - DAY: 1, TODAY: 1}
    assert book.goals.read_until("vk", "5", "77") == TODAY
    assert book.goals.read_until("vk", "5", "78") is None


def test_accounts_that_count_one_pixel_add_up_and_a_day_is_as_old_as_its_oldest_reading(book: Ledger) -> None:
    pull(book, (TODAY, "sale", 3), now=1)
    pull(book, (TODAY, "sale", 2), now=9, account="6")
    pull(book, (TODAY, "sale", 8), now=9, counter="78")
    assert kept(book) == [(TODAY, "sale", 5)]
    assert book.goals.read_at("vk", "77", *ALWAYS)[TODAY] == 1


# -- what was sent


def send(
    book: Ledger, at: datetime, state: str, batch: str = "done", *, to: str = "vk", again: str | None = None
) -> None:
    """One conversion in a request of its own; `again`: the state of an earlier request with it, a minute before."""
    conn, number = book.store.conn, book.store.one("SELECT count(*) FROM batch") + 1
    conn.execute("INSERT OR IGNORE INTO run (id, command, version, pid, started_at) VALUES ('r', 'sync', '1', 1, 0)")
    conn.execute(
        "INSERT OR IGNORE INTO destination (name, door, platform, account, route, on_unknown, identities)"
        " VALUES (?, '', 'vk', '77', 'vk.pixel', 'hold', '')",
        (to,),
    )
    place = book.store.one("SELECT id FROM destination WHERE name = ?", (to,))
    conn.execute(
        "INSERT INTO action (id, source, external_id, action, kind, occurred_at, status, platform, campaign, lead_form,"
        " first_seen_at) VALUES (?, 's', ?, 'sale', 'sale', 0, 'active', 'vk', '', 0, 0)",
        (number, str(number)),
    )
    moments = [(batch, at)] if again is None else [(again, at - timedelta(minutes=1)), (batch, at)]
    for more, (became, moment) in enumerate(moments):
        conn.execute(
            "INSERT INTO batch (id, token, destination_id, run_id, epoch, part, n, items, body_sha, state, created_at)"
            " VALUES (?, ?, ?, 'r', 1, '', 1, ?, x'00', ?, ?)",
            (number + more, str(number + more), place, f"[{number}]", became, int(moment.timestamp() * 1000)),
        )
    conn.execute(
        "INSERT INTO delivery (id, action_id, destination_id, goal, revision, key, state, status, part, clear, planned_at,"
        " updated_at, batch_id) VALUES (?, ?, ?, 'sale', 1, x'00', ?, 'active', '', 0, 0, 0, ?)",
        (number, number, place, state, number + len(moments) - 1),
    )


def sent(book: Ledger) -> dict[date, tuple[int, int, int]]:
    """By day: accepted, unknown, other."""
    return {one.day: (one.accepted, one.unknown, one.other) for one in book.goals.sent("vk", "vk", "77", *ALWAYS)}


NOON = datetime(2026, 11, 22, 9, tzinfo=UTC)


def test_a_request_belongs_to_its_day_in_moscow(book: Ledger) -> None:
    send(book, datetime(2026, 11, 21, 20, 59, 59, tzinfo=UTC), "accepted")
    send(book, datetime(2026, 11, 21, 21, 0, 0, tzinfo=UTC), "accepted")
    assert sent(book) == {TODAY - DAY: (1, 0, 0), TODAY: (1, 0, 0)}
    (only,) = book.goals.sent("vk", "vk", "77", TODAY, TODAY + DAY)
    assert (only.day, only.last) == (TODAY, int(datetime(2026, 11, 21, 21, tzinfo=UTC).timestamp() * 1000))


@pytest.mark.parametrize(
    ("state", "batch", "again", "counts"),
    [
        ("accepted", "done", None, (1, 0, 0)),
        ("unknown", "unknown", None, (0, 1, 0)),
        ("accepted", "unknown", None, (1, 0, 0)),
        ("refused", "unknown", None, (0, 0, 1)),
        ("refused", "done", None, (0, 0, 0)),
        ("in_flight", "in_flight", None, (0, 0, 1)),
        ("held", "resent", None, (0, 0, 1)),
        ("pending", "unknown", None, (0, 0, 1)),
        ("accepted", "done", "unknown", (1, 0, 1)),
        ("accepted", "done", "resent", (1, 0, 1)),
        ("unknown", "unknown", "done", (0, 1, 0)),
        ("accepted", "done", "not_sent", (1, 0, 0)),
    ],
)
def test_where_a_conversion_stands_says_what_it_is_in_the_comparison(
    book: Ledger, state: str, batch: str, again: str | None, counts: tuple[int, int, int]
) -> None:
    send(book, NOON, state, batch, again=again)
    assert sent(book) == {TODAY: counts}


def test_what_another_section_sent_to_the_same_goal_may_have_been_counted_too(book: Ledger) -> None:
    send(book, NOON, "unknown", "unknown")
    send(book, NOON, "accepted", to="branch")
    send(book, NOON, "refused", to="branch")
    assert sent(book) == {TODAY: (0, 1, 1)}
