"""Reading the ledger for people: what is in it, by state, destination, action, source, day and reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from convsync.errors import UsageError
from convsync.ledger.store import Store
from convsync.model import SkipReason
from convsync.normalise import major

COLUMNS = """
    d.id AS id, lower(hex(d.key)) AS key, d.revision AS revision, a.source AS source, a.external_id AS external_id,
    a.action AS action, t.name AS destination, t.route AS route, d.goal AS goal, d.state AS state,
    d.attempts AS attempts, d.batch_id AS batch, b.platform_ref AS platform_ref, d.reason AS reason,
    a.occurred_at AS occurred_at, d.value AS value, d.currency AS currency, d.updated_at AS updated_at,
    d.not_before AS not_before, d.status AS status, t.on_unknown AS on_unknown,
    b.state AS request, d.reached AS reached, t.identities AS identities"""

TABLES = """
    FROM delivery d JOIN action a ON a.id = d.action_id JOIN destination t ON t.id = d.destination_id
    LEFT JOIN batch b ON b.id = d.batch_id"""

HIDDEN = ("id", "not_before", "status", "on_unknown", "request", "reached", "identities")
"""Columns that `ledger list --json` does not show."""

PAGE = 1000


class Filter(NamedTuple):
    """Which deliveries to list; None means any. Times are aware; `since <= occurred_at < until`."""

    state: tuple[str, ...] = ()
    destination: str | None = None
    action: str | None = None
    source: str | None = None
    external_id: str | None = None
    key: str | None = None
    reason: str | None = None
    batch: int | None = None
    run: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        terms: list[str] = []
        bound: dict[str, Any] = {}
        for column, value in (
            ("t.name", self.destination), ("a.action", self.action), ("a.source", self.source),
            ("a.external_id", self.external_id), ("d.batch_id", self.batch), ("b.run_id", self.run),
        ):  # fmt: skip
            if value is not None:
                terms.append(f"{column} = :p{len(bound)}")
                bound[f"p{len(bound)}"] = value
        if self.state:
            terms.append(f"d.state IN ({','.join(f':s{number}' for number in range(len(self.state)))})")
            bound |= {f"s{number}": state for number, state in enumerate(self.state)}
        if self.key is not None:
            terms.append("d.key >= :key_from AND d.key <= :key_to")
            bound |= dict(zip(("key_from", "key_to"), key_span(self.key), strict=True))
        if self.reason is not None:
            terms.append("instr(lower(d.reason), lower(:reason)) > 0")
            bound["reason"] = self.reason
        for column, when in ((">=", self.since), ("<", self.until)):
            if when is not None:
                terms.append(f"a.occurred_at {column} :t{len(bound)}")
                bound[f"t{len(bound)}"] = int(when.timestamp() * 1000)
        return " AND ".join(terms) or "1", bound


def key_span(text: str) -> tuple[bytes, bytes]:
    """The smallest and the largest key that begin with these hex digits."""
    digits = text.lower().removeprefix("cs-")
    if not digits or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
        raise UsageError(f"{text!r} is not a key.", "A key is up to 32 hex digits, as `convsync ledger list` shows it.")
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


class Audit:
    """Answers about the ledger. Never writes."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def deliveries(self, chosen: Filter = Filter(), limit: int | None = None) -> Iterator[dict[str, Any]]:  # noqa: B008
        """Deliveries in the order they were planned, a page at a time; fields as DESIGN section 5 names them."""
        return map(readable, self.rows(chosen, limit))

    def rows(self, chosen: Filter, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The same as the tables hold them, with the row number `id` and what the destination does on `unknown`."""
        where, bound = chosen.where()
        after, left = 0, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            query = f"SELECT {COLUMNS} {TABLES} WHERE d.id > :after AND {where} ORDER BY d.id LIMIT :size"
            page = list(self.store.rows(query, bound | {"after": after, "size": size}))
            yield from page
            if len(page) < size:
                return
            after = page[-1]["id"]
            left = None if left is None else left - size

    def names(self, what: str) -> set[str]:
        """Every destination, action or source that ever was in this ledger."""
        query = {
            "destination": "SELECT name FROM destination",
            "action": "SELECT DISTINCT action FROM action",
            "source": "SELECT source FROM mark UNION SELECT source FROM action UNION SELECT source FROM bad_row",
        }[what]
        return {row[0] for row in self.store.conn.execute(query)}

    def find(self, what: str) -> list[dict[str, Any]]:
        """Deliveries by key (or its first digits), or by `source/external_id`, with their row number `id`."""
        if "/" in what:
            source, _, external_id = what.partition("/")
            where, bound = Filter(source=source, external_id=external_id).where()
        else:
            where, bound = Filter(key=what).where()
        return list(self.store.rows(f"SELECT {COLUMNS} {TABLES} WHERE {where} ORDER BY d.id LIMIT 100", bound))

    def actions(self, source: str, external_id: str) -> list[dict[str, Any]]:
        query = "SELECT * FROM action WHERE source = ? AND external_id = ? ORDER BY occurred_at"
        return list(self.store.rows(query, (source, external_id)))

    def skips_of(self, action_id: int) -> list[dict[str, Any]]:
        query = (
            "SELECT coalesce(t.name, '') AS destination, s.reason AS reason, s.detail AS detail, s.at AS at"
            " FROM skip s LEFT JOIN destination t ON t.id = s.destination_id WHERE s.action_id = ?"
        )
        return list(self.store.rows(query, (action_id,)))

    def skipped(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Actions not addressed to a destination, with the reason."""
        query = (
            "SELECT a.source AS source, a.external_id AS external_id, a.action AS action, coalesce(t.name, '') AS destination,"
            " s.reason AS reason, s.detail AS detail, a.occurred_at AS occurred_at FROM skip s"
            " JOIN action a ON a.id = s.action_id LEFT JOIN destination t ON t.id = s.destination_id"
            " ORDER BY s.action_id LIMIT ?"
        )
        for row in self.store.rows(query, (-1 if limit is None else limit,)):
            yield row | {"occurred_at": iso(row["occurred_at"]), "sentence": SkipReason(row["reason"]).sentence}

    def bad_rows(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        query = "SELECT source, place, field, problem, advice, at FROM bad_row ORDER BY at, source, place LIMIT ?"
        for row in self.store.rows(query, (-1 if limit is None else limit,)):
            yield row | {"at": iso(row["at"])}

    def stats(self) -> dict[str, Any]:
        """Counts by destination and state, skips by reason, bad rows, and the last run."""
        destinations: dict[str, dict[str, int]] = {}
        for name, state, count in self.store.conn.execute(
            "SELECT t.name, d.state, count(d.id) FROM destination t LEFT JOIN delivery d ON d.destination_id = t.id"
            " GROUP BY t.name, d.state ORDER BY t.name"
        ):
            if state is not None:
                destinations.setdefault(name, {})[state] = count
        skips = "SELECT reason, count(*) FROM skip GROUP BY reason ORDER BY 2 DESC"
        last = next(iter(self.store.rows("SELECT * FROM run ORDER BY started_at DESC LIMIT 1")), None)
        return {
            "actions": self.store.one("SELECT count(*) FROM action"),
            "deliveries": sum(sum(states.values()) for states in destinations.values()),
            "destinations": destinations,
            "skipped": dict(self.store.conn.execute(skips).fetchall()),
            "bad_rows": self.store.one("SELECT count(*) FROM bad_row"),
            "runs": self.store.one("SELECT count(*) FROM run"),
            "last_run": last and _run(last),
        }


def _run(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: row[name] and iso(row[name]) for name in ("started_at", "ended_at")}
    return {"id": row["id"], "command": row["command"], **times, "exit_code": row["exit_code"], "head": row["head"]}


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `ledger list --json` prints it: money in major units as text, times in ISO form."""
    row = {name: value for name, value in row.items() if name not in HIDDEN}
    row["value"] = None if row["value"] is None else str(money(row["value"], row["currency"]))
    row["occurred_at"], row["updated_at"] = iso(row["occurred_at"]), iso(row["updated_at"])
    return row


def money(minor: int, currency: str) -> Decimal:
    return major(minor, currency)


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
