"""Runs: one row an invocation, closed with its exit code and counts; and the destinations they work on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from convsync import __version__
from convsync.errors import ConfigError, LedgerError
from convsync.ledger import events
from convsync.ledger.audit import iso
from convsync.ledger.store import Store

CLOCK_SLACK_MS = 10 * 60_000


class Runs:
    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(self, run_id: str, command: str, *, now: int) -> None:
        """Open a run. A clock that was set back would take honest actions for future ones, and pass them over."""
        last = self.store.one("SELECT max(started_at) FROM run")
        if last is not None and last > now + CLOCK_SLACK_MS:
            raise LedgerError(
                f"The last run of this ledger began at {iso(last)}, which is yet to come: the clock was set back.",
                "Set the clock of this machine, then run again.",
            )
        with self.store.atomic() as conn:
            conn.execute(
                "INSERT INTO run (id, command, version, pid, started_at) VALUES (?, ?, ?, ?, ?)",
                (run_id, command, __version__, os.getpid(), now),
            )

    def end(self, run_id: str, exit_code: int, counts: Mapping[str, Any], *, now: int) -> str:
        """Close a run; returns the head of the history, to be printed and kept elsewhere."""
        with self.store.atomic() as conn:
            head = events.head(conn)
            conn.execute(
                "UPDATE run SET ended_at = ?, exit_code = ?, counts = ?, head = ? WHERE id = ?",
                (now, exit_code, orjson.dumps(counts).decode(), head, run_id),
            )
        return head

    def enlist(
        self,
        name: str,
        platform: str,
        account: str,
        route: str,
        on_unknown: str,
        *,
        door: str = "",
        identities: str = "",
    ) -> int:
        """The number of a destination. Its account is part of what its deliveries are, and can never change."""
        with self.store.atomic() as conn:
            row = conn.execute(
                "SELECT id, platform, account FROM destination WHERE name = ? AND door = ?", (name, door)
            ).fetchone()
            if row is None:
                self._refuse_new_name(name, platform, account)
                sql = (
                    "INSERT INTO destination (name, door, platform, account, route, on_unknown, identities)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)"
                )
                told = (name, door, platform, account, route, on_unknown, identities)
                return int(conn.execute(sql, told).lastrowid or 0)
            if (row[1], row[2]) != (platform, account) and self._reached(row[0]):
                raise ConfigError(
                    f"[destinations.{name}] was {row[1]} account {row[2]} until now, and is {platform} account {account}"
                    " in this configuration.",
                    "What was sent belongs to the old account: give the new one a section name of its own.",
                )
            conn.execute(
                "UPDATE destination SET platform = ?, account = ?, route = ?, on_unknown = ?, identities = ?, learned = CASE"
                " WHEN account = ? THEN learned ELSE '{}' END WHERE id = ?",
                (platform, account, route, on_unknown, identities, account, row[0]),
            )
            return int(row[0])

    def _refuse_new_name(self, name: str, platform: str, account: str) -> None:
        """A section that was renamed would send everything anew that is read again: its name is part of every key. (Two
        sections of one account the configuration refuses.)"""
        known = self.store.conn.execute(
            "SELECT id, name FROM destination WHERE platform = ? AND account = ? AND name <> ?",
            (platform, account, name),
        ).fetchall()
        other = next((other for number, other in known if self._reached(number)), None)
        if other is not None:
            raise ConfigError(
                f"[destinations.{name}] is {platform} account {account}, which this ledger knows as [destinations.{other}].",
                "Give it that name again: under another one, what is read again would be sent once more and count twice.",
            )

    def _reached(self, destination_id: int) -> bool:
        """Whether anything may have reached the account of this destination: a mistyped one can still be mended."""
        query = "SELECT 1 FROM delivery WHERE destination_id = ? AND (reached OR state = 'in_flight') LIMIT 1"
        return self.store.one(query, (destination_id,)) is not None

    def shut(self, names: Collection[str], opened: Collection[int]) -> list[tuple[int, str]]:
        """The doors of these destinations that are not `opened`: number and name of each."""
        known = self.store.conn.execute("SELECT id, name FROM destination ORDER BY id")
        return [(number, name) for number, name in known if name in names and number not in opened]

    def others(self, configured: Collection[str]) -> list[tuple[int, str]]:
        """Every door of destinations that are none of these: number and name of each."""
        known = self.store.conn.execute("SELECT id, name FROM destination ORDER BY id")
        return [(number, name) for number, name in known if name not in configured]

    def learned(self, destination_id: int) -> dict[str, str]:
        text = self.store.one("SELECT learned FROM destination WHERE id = ?", (destination_id,))
        return dict(orjson.loads(text or "{}"))

    def learn(self, destination_id: int, facts: Mapping[str, str]) -> None:
        """Keep what a route found out about its account (a counter's time zone), so that it stays the same for ever."""
        with self.store.atomic() as conn:
            conn.execute(
                "UPDATE destination SET learned = ? WHERE id = ?", (orjson.dumps(dict(facts)).decode(), destination_id)
            )
