"""The history of the ledger: append-only, each event bound to the one before it by a hash.

An event says what moved: the rows of a batch (by position, in the order of `batch.items`), a run of newly planned
deliveries (by first and last id), or single deliveries (by id, also listed in `event_delivery`). One event a request
keeps the chain cheap; `verify` replays all of them and must arrive at the states that the ledger holds.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

GENESIS = b"\0" * 32


def append(
    conn: sqlite3.Connection,
    kind: str,
    body: dict[str, Any],
    *,
    at: int,
    run_id: str | None,
    batch_id: int | None = None,
    deliveries: Sequence[int] = (),
) -> None:
    """Write one event inside the caller's transaction."""
    last = conn.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    conn.execute(
        "INSERT INTO event (seq, at, run_id, batch_id, kind, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, at, run_id, batch_id, kind, text, link(previous, seq, at, run_id, batch_id, kind, text)),
    )
    if deliveries:
        conn.executemany("INSERT INTO event_delivery VALUES (?, ?)", [(one, seq) for one in deliveries])


def link(previous: bytes, seq: int, at: int, run_id: str | None, batch_id: int | None, kind: str, body: str) -> bytes:
    """The hash of an event: over the hash before it and everything the event says."""
    said = orjson.dumps([seq, at, run_id, batch_id, kind, body])
    return hashlib.sha256(previous + said).digest()


def head(conn: sqlite3.Connection) -> str:
    """The number and the hash of the newest event, as printed with every run: keep it elsewhere to notice tampering."""
    last = conn.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    return f"{last[0]}:{last[1].hex()[:32]}" if last else "0:"
