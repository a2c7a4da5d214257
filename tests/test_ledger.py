"""The ledger's file: who may open it, what it refuses, and that every broken promise is found."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from convsync.errors import ConfigError, LedgerBusy, LedgerError
from convsync.ledger import Ledger, Lock
from convsync.ledger.store import wal_reset_bug
from convsync.ledger.verify import verify
from convsync.model import key_of
from worlds import World


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "l.db").close()
    with closing(sqlite3.connect(tmp_path / "l.db")) as conn, conn:
        conn.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="Upgrade convsync"):
        Ledger.open(tmp_path / "l.db")


def test_a_ledger_of_a_checkout_before_the_first_release_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("ALTER TABLE destination DROP COLUMN identities")
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=r"destination has no identities.* begin a new ledger"):
            Ledger.open(path, read_only=read_only)


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE orders (id)")
    conn.close()
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="not a convsync ledger"):
        Ledger.open(path)
    conn = sqlite3.connect(path)
    assert conn.execute("SELECT name FROM sqlite_schema").fetchall() == [("orders",)]
    conn.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like a header of something else" * 20)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger.open(path)


def test_a_ledger_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "l.db").close()
    (tmp_path / "l.db").chmod(0o644)
    with pytest.raises(LedgerError, match="chmod 600"):
        Ledger.open(tmp_path / "l.db")


def test_every_file_of_a_ledger_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        ledger = Ledger.open(tmp_path / "l.db")
        lock = Lock(tmp_path / "l.db")
        lock.take()
        ledger.runs.begin("r", "sync", now=1)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"l.db", "l.db-wal", "l.db-shm", "l.db.lock"}
    assert set(modes.values()) == {0o600}
    lock.release()
    ledger.close()


def test_a_reader_needs_a_ledger_and_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger.open(tmp_path / "l.db", read_only=True)
    Ledger.open(tmp_path / "l.db").close()
    reader = Ledger.open(tmp_path / "l.db", read_only=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.runs.begin("r", "sync", now=1)
    reader.close()


def test_a_second_writer_is_told_who_holds_the_ledger(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "l.db"), Lock(tmp_path / "l.db")
    first.take()
    with pytest.raises(LedgerBusy, match=f"pid {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_a_section_name_that_moves_to_another_account_is_refused_once_something_was_sent(world: World) -> None:
    world.given(world.action("1"))
    world.sync()
    with pytest.raises(ConfigError, match="section name of its own"):
        world.ledger.runs.enlist("yandex", "yandex", "87654321", "yandex.orders", "resend")


def test_a_section_that_was_renamed_is_refused_before_anything_is_sent_once_more(world: World) -> None:
    world.given(world.action("1"))
    world.sync()
    with pytest.raises(ConfigError, match=r"which this ledger knows as \[destinations.yandex\].* that name again"):
        world.ledger.runs.enlist("metrica", "yandex", "12345678", "yandex.orders", "resend")
    world.is_sound()


def test_a_mistyped_account_that_took_nothing_can_be_mended(world: World) -> None:
    world.ledger.runs.enlist("yandex", "yandex", "99999999", "yandex.orders", "resend")
    world.given(world.action("1"))
    world.sync()
    assert world.states("yandex") == {"1": "accepted"}


def test_a_clock_that_was_set_back_stops_the_run_before_it_passes_anything_over(world: World) -> None:
    world.given(world.action("1"))
    world.sync()
    world.clock.advance(-3600)
    with pytest.raises(LedgerError, match="clock was set back"):
        world.sync()
    world.clock.advance(3600)


@pytest.mark.parametrize(
    ("version", "buggy"),
    [
        ((3, 40, 1), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 50, 7), False),
        ((3, 44, 6), False),
        ((3, 44, 5), True),
    ],
)
def test_the_sqlite_releases_with_the_wal_reset_bug_are_known(version: tuple[int, ...], buggy: bool) -> None:
    assert wal_reset_bug(version) is buggy


def test_a_key_is_the_same_for_ever() -> None:
    """A changed digit here would send every conversion ever sent once more."""
    assert key_of("shop", "42", "sale", "google", "2222222222").hex() == "3ee2a8a42bb2982a0e3ebd7fd2cb77be"
    assert key_of("a", "bc", "d", "e", "f") != key_of("ab", "c", "d", "e", "f")


TAMPERINGS = {
    "an outcome that nobody gave": "UPDATE delivery SET state = 'confirmed' WHERE id = 1",
    "an attempt that was not made": "UPDATE delivery SET attempts = attempts + 1 WHERE id = 1",
    "a delivery that vanished with its action's skip": "DELETE FROM delivery WHERE id = 1",
    "a payload that is gone while it waits": "DELETE FROM payload WHERE delivery_id = (SELECT id FROM delivery WHERE state = 'unknown')",
    "a contact in clear": 'UPDATE payload SET body = CAST(\'{"m":"a@example.org"}\' AS BLOB) WHERE delivery_id = 1',
    "a run that counts more than it did": "UPDATE run SET counts = json_set(counts, '$.destinations.google.accepted', 77)",
    "an acceptance that no platform vouches for": "UPDATE batch SET platform_ref = NULL WHERE id ="
    " (SELECT max(id) FROM batch WHERE platform_ref IS NOT NULL AND destination_id = 2)",
    "a rewritten event": "UPDATE event SET body = replace(body, 'accepted', 'refused') WHERE kind = 'answered'",
    "a deleted event": "DELETE FROM event WHERE seq = 2",
    "other rows in a batch": "UPDATE batch SET items = '[1]' WHERE n > 1",
    "an action without delivery or skip": "INSERT INTO action SELECT 99, source, 'x99', action, kind, occurred_at, updated_at, value,"
    " currency, order_id, status, platform, campaign, click, person, lead_form, first_seen_at FROM action WHERE id = 1",
    "a time in seconds instead of milliseconds": "UPDATE action SET first_seen_at = 1700000000 WHERE id = 1",
    "an action that was told by both ways of one destination": "INSERT INTO delivery (action_id, destination_id, goal,"
    " revision, key, state, reached, status, part, clear, planned_at, updated_at) SELECT action_id, (SELECT id FROM"
    " destination WHERE door <> ''), goal, 1, x'00', 'held', 1, status, '', 0, planned_at, updated_at FROM delivery"
    " WHERE destination_id = (SELECT id FROM destination WHERE name = 'yandex' AND door = '') LIMIT 1",
    "a flight of a run that ended": "UPDATE delivery SET state = 'in_flight' WHERE id = 1",
}


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=list(TAMPERINGS))
def test_verify_finds(world: World, statement: str) -> None:
    world.given(world.action("1"))
    world.sync()
    world.given(world.action("1"), world.action("2"), world.action("3", "lead"))
    world.box.faults.add({"on": "vk.tracker", "kind": "reset_after"})
    world.sync()
    assert verify(world.ledger.store) == []
    world.ledger.close()
    conn = sqlite3.connect(world.path)
    for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        conn.execute(f"DROP TRIGGER {name}")
    untouched = world.path.read_bytes()
    conn.execute("BEGIN")
    conn.execute(statement)
    conn.commit()
    conn.close()
    world.restart()
    assert verify(world.ledger.store) != []
    world.ledger.close()
    world.path.write_bytes(untouched)
    world.restart()


@pytest.mark.parametrize("table", ["event", "batch", "delivery"])
def test_history_and_identity_cannot_be_changed_by_a_stray_statement(world: World, table: str) -> None:
    world.given(world.action("1"))
    world.sync()
    statement = {
        "event": "UPDATE event SET body = '{}'",
        "batch": "UPDATE batch SET items = '[]'",
        "delivery": "UPDATE delivery SET goal = 'other'",
    }[table]
    with pytest.raises(sqlite3.IntegrityError):
        world.ledger.store.conn.execute(statement)


def test_a_head_noted_earlier_proves_that_nothing_was_cut_off(world: World) -> None:
    world.given(world.action("1"))
    head = world.sync().head
    world.given(world.action("1"), world.action("2"))
    world.sync()
    assert verify(world.ledger.store, expect=head) == []
    forged = head.split(":")[0] + ":" + "0" * 32
    assert [finding.code for finding in verify(world.ledger.store, expect=forged)] == ["head_is_kept"]


def test_no_hot_statement_scans_a_table(world: World) -> None:
    from convsync.ledger import claim

    world.given(world.action("1"))
    world.sync()
    bound = {"batch": 1, "now": 1, "destination": 1, "limit": 10, "ids": "[1]"}
    for statement in (claim.CLAIM, claim.CLAIM_THESE):
        plan = world.ledger.store.conn.execute(f"EXPLAIN QUERY PLAN {statement}", bound).fetchall()
        steps = [row[3] for row in plan]
        assert not [
            step for step in steps if step.startswith("SCAN") and "json_each" not in step and " j " not in f"{step} "
        ], steps
