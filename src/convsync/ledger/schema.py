"""The tables of the ledger, as numbered steps. A released step is never edited: the schema only grows.

Times are epoch milliseconds in UTC, money is integer minor units beside its currency, states are their words.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from contextlib import closing

from convsync.errors import LedgerError
from convsync.ledger.store import APPLICATION_ID, Store

FIRST = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, command TEXT NOT NULL, version TEXT NOT NULL, pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL, ended_at INTEGER, exit_code INTEGER, counts TEXT, head TEXT
) STRICT;

CREATE TABLE destination (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, door TEXT NOT NULL,  -- a section, and which of its routes
    platform TEXT NOT NULL, account TEXT NOT NULL, route TEXT NOT NULL, on_unknown TEXT NOT NULL,
    identities TEXT NOT NULL,  -- what an identity of its deliveries is: 'fixed': a row for ever, 'distinct': once a request
    learned TEXT NOT NULL DEFAULT '{}', UNIQUE (name, door)
) STRICT;

CREATE TABLE lease (
    destination_id INTEGER PRIMARY KEY REFERENCES destination(id),
    owner TEXT NOT NULL, epoch INTEGER NOT NULL, until INTEGER NOT NULL
) STRICT;

CREATE TABLE mark (
    source TEXT NOT NULL, part TEXT NOT NULL, value TEXT NOT NULL, updated_at INTEGER NOT NULL,
    PRIMARY KEY (source, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE action (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL, external_id TEXT NOT NULL, action TEXT NOT NULL, kind TEXT NOT NULL,
    occurred_at INTEGER NOT NULL, updated_at INTEGER, value INTEGER, currency TEXT, order_id TEXT,
    status TEXT NOT NULL, platform TEXT NOT NULL, campaign TEXT NOT NULL, click INTEGER,
    person INTEGER,  -- its phone, hashed
    lead_form INTEGER NOT NULL,  -- 1: it came in by a platform's lead form, so that its campaign is exact
    first_seen_at INTEGER NOT NULL,
    CHECK (value IS NULL OR currency IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX action_identity ON action (source, external_id, action);
CREATE INDEX action_form ON action (person, occurred_at) WHERE lead_form = 1;

CREATE TABLE skip (
    action_id INTEGER NOT NULL REFERENCES action(id), destination_id INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (action_id, destination_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE bad_row (
    source TEXT NOT NULL, place TEXT NOT NULL, field TEXT NOT NULL, problem TEXT NOT NULL, advice TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (source, place, field, problem)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    action_id INTEGER NOT NULL REFERENCES action(id), destination_id INTEGER NOT NULL REFERENCES destination(id),
    goal TEXT NOT NULL, revision INTEGER NOT NULL, key BLOB NOT NULL, lane TEXT, after_id INTEGER,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', not_before INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, first_attempt_at INTEGER, batch_id INTEGER,
    reached INTEGER NOT NULL DEFAULT 0,  -- whether the platform may have had it: 1 it said so, 2 an answer was lost, 3 both
    status TEXT NOT NULL, value INTEGER, currency TEXT, part TEXT NOT NULL,
    identity TEXT,  -- what the platform tells its rows apart by, hashed, where that is part of the row
    clear INTEGER NOT NULL,  -- 1: its payload holds a contact in clear, to be erased after the verdict; 2: it was erased
    planned_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    CHECK (value IS NULL OR currency IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX delivery_identity ON delivery (action_id, destination_id, goal, revision);
CREATE INDEX delivery_due ON delivery (destination_id, not_before, id) WHERE state = 'pending';
CREATE INDEX delivery_attention ON delivery (destination_id, state)
    WHERE state = 'unknown' OR state = 'held' OR state = 'refused';
CREATE INDEX delivery_lane ON delivery (destination_id, lane) WHERE lane IS NOT NULL;
CREATE INDEX delivery_at_platform ON delivery (destination_id, identity) WHERE identity IS NOT NULL;
CREATE INDEX delivery_special ON delivery (destination_id) WHERE state = 'pending' AND (part <> '' OR revision > 1);
CREATE INDEX delivery_clear ON delivery (destination_id) WHERE clear = 1;

CREATE TABLE payload (delivery_id INTEGER PRIMARY KEY REFERENCES delivery(id), body BLOB NOT NULL) STRICT;

CREATE TABLE batch (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, destination_id INTEGER NOT NULL REFERENCES destination(id),
    run_id TEXT NOT NULL REFERENCES run(id), epoch INTEGER NOT NULL, part TEXT NOT NULL, n INTEGER NOT NULL,
    items TEXT NOT NULL, body_sha BLOB NOT NULL, state TEXT NOT NULL, created_at INTEGER NOT NULL, answered_at INTEGER,
    platform_ref TEXT, poll_at INTEGER, polls INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX batch_open ON batch (destination_id, id) WHERE state = 'in_flight' OR state = 'unknown';
CREATE INDEX batch_poll ON batch (destination_id, poll_at) WHERE poll_at IS NOT NULL;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, run_id TEXT, batch_id INTEGER, kind TEXT NOT NULL,
    body TEXT NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE INDEX event_batch ON event (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE event_delivery (
    delivery_id INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (delivery_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER event_is_append_only_u BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER event_is_append_only_d BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER batch_rows_are_fixed BEFORE UPDATE OF token, destination_id, part, n, items, body_sha ON batch
    BEGIN SELECT RAISE(ABORT, 'what was in a request never changes'); END;
CREATE TRIGGER delivery_identity_is_fixed BEFORE UPDATE OF action_id, destination_id, goal, revision, key ON delivery
    BEGIN SELECT RAISE(ABORT, 'the identity of a delivery never changes'); END;

CREATE TABLE spend (
    day TEXT NOT NULL, platform TEXT NOT NULL, account TEXT NOT NULL, campaign_key TEXT NOT NULL,
    campaign_id TEXT NOT NULL, campaign TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL,
    vat_included INTEGER, clicks INTEGER, impressions INTEGER, origin TEXT NOT NULL, fetched_at INTEGER NOT NULL,
    PRIMARY KEY (day, platform, account, campaign_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    platform TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, currency TEXT NOT NULL, time_zone TEXT NOT NULL,
    read_at INTEGER NOT NULL,
    spend_since TEXT NOT NULL, spend_until TEXT NOT NULL,  -- the latest days on end whose cost was asked for
    PRIMARY KEY (platform, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE click (  -- id: click_hash of the gclid
    id INTEGER PRIMARY KEY, campaign_id TEXT NOT NULL, day TEXT NOT NULL
) STRICT;
CREATE TABLE click_day (
    account TEXT NOT NULL, day TEXT NOT NULL, read_on TEXT NOT NULL, clicks INTEGER NOT NULL,
    PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE goal_day (  -- what a platform counts of a pixel's goals, which it gives no verdict on
    platform TEXT NOT NULL, account TEXT NOT NULL, counter TEXT NOT NULL, day TEXT NOT NULL, goal TEXT NOT NULL,
    conversions INTEGER NOT NULL, value TEXT,  -- a decimal number, as it was told
    PRIMARY KEY (platform, account, counter, day, goal)
) STRICT, WITHOUT ROWID;
CREATE TABLE goal_read (  -- days that were asked about: one without a row above had none
    platform TEXT NOT NULL, account TEXT NOT NULL, counter TEXT NOT NULL, day TEXT NOT NULL, read_at INTEGER NOT NULL,
    PRIMARY KEY (platform, account, counter, day)
) STRICT, WITHOUT ROWID;
"""


def _first(conn: sqlite3.Connection) -> None:
    for statement in _statements(FIRST):
        conn.execute(statement)


def _statements(script: str) -> list[str]:
    """Split a script into statements; `executescript` would commit behind our back."""
    statements: list[str] = []
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return [statement for statement in statements if statement.strip(" ;\n")]


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first,)
"""Step n brings a ledger from schema n-1 to n (`PRAGMA user_version`), in one transaction with that number."""

VERSION = len(MIGRATIONS)


def version(store: Store) -> int:
    return int(store.one("PRAGMA user_version"))


def migrate(store: Store) -> None:
    """Bring the schema up to date; refuse one that a newer convsync made."""
    have = version(store)
    if have > VERSION:
        raise LedgerError(
            f"{store.path} has schema {have}, this convsync knows {VERSION}.",
            "Upgrade convsync before using this ledger.",
        )
    if store.read_only and have < VERSION:
        raise LedgerError(
            f"{store.path} has schema {have}, {VERSION} is needed.", "Run `convsync sync` or `init` once."
        )
    for number in range(have, VERSION):
        with store.atomic() as conn:
            MIGRATIONS[number](conn)
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            conn.execute(f"PRAGMA user_version = {number + 1}")
    if lacking := _expected() - _columns(store.conn):
        table, column = min(lacking)
        raise LedgerError(
            f"{store.path} was made by a convsync that was not released yet: its table {table} has no {column}.",
            "Keep it for the record, and begin a new ledger: another [ledger] url. CHANGELOG.md says what that means for each platform.",
        )


@functools.cache
def _expected() -> frozenset[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as conn:
        for step in MIGRATIONS:
            step(conn)
        return _columns(conn)


def _columns(conn: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Table and column, of each."""
    query = "SELECT m.name, p.name FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'"
    return frozenset(conn.execute(query))
