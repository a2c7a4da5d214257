"""Claiming: the one statement that decides who may send what, and the lease that says for how long.

A batch is `in_flight` on disk, with the digest of its bytes, before the first of them leaves. What a dead run left in
flight becomes `unknown`, never `pending`: it may have arrived.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from convsync.errors import ConvsyncError, LedgerBusy
from convsync.ledger import events
from convsync.ledger.store import Store
from convsync.model import WHOLE, Group, State

LEASE_SECONDS = 600.0
LAST = 2**63 - 1
"""The last moment that the ledger can write down."""


def monotonic() -> float:
    """Seconds that also pass while the process, or the whole machine, is asleep: a lease does not wait for us."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


OPEN_BEFORE = "SELECT 1 FROM delivery p WHERE p.id = d.after_id AND p.state IN ('pending', 'in_flight', 'unknown')"

CLAIM = f"""
UPDATE delivery SET state = 'in_flight', reason = '', batch_id = :batch, attempts = attempts + 1,
                    first_attempt_at = coalesce(first_attempt_at, :now), updated_at = :now
WHERE id IN (
    SELECT d.id FROM delivery d
    WHERE d.destination_id = :destination AND d.state = 'pending' AND d.not_before <= :now
      AND (d.after_id IS NULL OR NOT EXISTS ({OPEN_BEFORE}))
    ORDER BY d.not_before, d.id LIMIT :limit)
RETURNING id"""

EARLIER = """
SELECT {} FROM delivery e LEFT JOIN batch b ON b.id = e.batch_id WHERE e.action_id = d.action_id
  AND e.destination_id = d.destination_id AND e.goal = d.goal AND e.revision < d.revision AND e.reached"""
"""Earlier revisions of the same key that the platform may have; a person may say so of one that was in no batch."""

ADJUSTS = f"(d.revision > 1 AND EXISTS ({EARLIER.format('1')} AND (e.reached & 1 OR d.status <> 'active')))"
"""Whether one is a change: of what the platform said it has. What has a value is told anew where that is in doubt, for a
change of what is not there would be lost; a refund never is, for that would make a conversion."""

DUE = f"""
SELECT d.id, d.goal, d.identity, d.part, {ADJUSTS} FROM delivery d
WHERE d.destination_id = :destination AND d.state = 'pending' AND d.not_before <= :now
  AND (d.after_id IS NULL OR NOT EXISTS ({OPEN_BEFORE}))
ORDER BY d.not_before, d.id"""

PARTS = DUE.replace(ADJUSTS, "0")
"""The same where a change and a first telling look alike."""

THESE = ("FROM delivery d\n", "FROM json_each(:ids) j CROSS JOIN delivery d ON d.id = j.value\n", 1)

CHANGES = f"""
SELECT max(d.planned_at, a.occurred_at + 1000) / 1000 + d.revision - 2, ({EARLIER.format("coalesce(max(b.created_at), 0) / 1000")})
FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value JOIN action a ON a.id = d.action_id ORDER BY j.key"""
"""When each was changed, later for each later revision, and when the platform was last told of its key."""

CLAIM_THESE = f"""
UPDATE delivery SET state = 'in_flight', reason = '', batch_id = :batch, attempts = attempts + 1,
                    first_attempt_at = coalesce(first_attempt_at, :now), updated_at = :now
WHERE id IN (
    SELECT d.id FROM json_each(:ids) j CROSS JOIN delivery d ON d.id = j.value
    WHERE d.destination_id = :destination AND d.state = 'pending' AND d.not_before <= :now
      AND (d.after_id IS NULL OR NOT EXISTS ({OPEN_BEFORE})))
RETURNING id"""


@dataclass
class Lease:
    """Our right to send to one destination. `epoch` grows with every owner; only the newest may record."""

    destination_id: int
    epoch: int
    until: float
    """By the monotonic clock of this process: a pause of the process counts, a jump of the wall clock does not."""

    def remaining(self) -> float:
        return self.until - monotonic()


class Batch(NamedTuple):
    """Deliveries claimed together for one request."""

    id: int
    token: str
    destination_id: int
    epoch: int
    items: tuple[int, ...]
    body: bytes
    group: Group = WHOLE


Encode = Callable[[Sequence[bytes], str, Group], bytes]


class Claimer:
    """Leases and batches."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- the lease

    def lease(self, destination_id: int, owner: str, *, now: int, seconds: float = LEASE_SECONDS) -> Lease:
        """Take the lease and raise its epoch. The file lock already keeps other processes of this machine out."""
        until = now + int(seconds * 1000)
        with self.store.atomic() as conn:
            row = conn.execute(
                "INSERT INTO lease (destination_id, owner, epoch, until) VALUES (?, ?, 1, ?)"
                " ON CONFLICT (destination_id) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1,"
                " until = excluded.until RETURNING epoch",
                (destination_id, owner, until),
            ).fetchone()
        return Lease(destination_id, row[0], monotonic() + seconds)

    def renew(self, lease: Lease, *, now: int, seconds: float = LEASE_SECONDS) -> None:
        """Extend our lease if it is still ours; raises LedgerBusy if somebody took it."""
        with self.store.atomic() as conn:
            self._still_ours(lease.destination_id, lease.epoch)
            until = now + int(seconds * 1000)
            conn.execute("UPDATE lease SET until = ? WHERE destination_id = ?", (until, lease.destination_id))
        lease.until = monotonic() + seconds

    def _still_ours(self, destination_id: int, epoch: int) -> None:
        if self.store.one("SELECT epoch FROM lease WHERE destination_id = ?", (destination_id,)) != epoch:
            raise LedgerBusy("Another run took over this destination.", "What this run had sent will be settled there.")

    # -- batches

    def batch(
        self,
        lease: Lease,
        limit: int,
        encode: Encode,
        *,
        now: int,
        run_id: str,
        ids: Sequence[int] | None = None,
        apart: bool = False,
        changes: bool = True,
        goals: int | None = None,
        least: int = 1,
        distinct: bool = False,
    ) -> Batch | None:
        """Move up to `limit` due deliveries (or those of `ids` that are due) to `in_flight` and store their request.

        `apart`: only those that may share a request with the one that is due first (`changes`: changes share none with
        first tellings), have no more than `goals` goals between them, are at least `least` unless `ids` are given, and, if
        `distinct`, are no two rows with one identity.
        """
        with self.store.atomic() as conn:
            self._still_ours(lease.destination_id, lease.epoch)
            number = (conn.execute("SELECT max(id) FROM batch").fetchone()[0] or 0) + 1
            bound = {"batch": number, "now": now, "destination": lease.destination_id, "limit": limit}
            group = WHOLE
            if apart and (
                distinct or least > 1 or ids is not None or goals is not None or self._mixed(lease.destination_id)
            ):
                due, kind = DUE if changes else PARTS, None
                if ids is None and least > 1:
                    kind = self._enough(bound, least)
                    if kind is None:
                        return None
                ids, group = self._together(due, bound, ids, limit, goals, kind, distinct=distinct)
            if ids is None:
                claimed = conn.execute(CLAIM, bound)
            else:
                claimed = conn.execute(CLAIM_THESE, bound | {"ids": _json(ids)})
            items = tuple(sorted(row[0] for row in claimed))
            if not items:
                return None
            text = _json(items)
            if group != WHOLE and changes:
                group = self._changed(group, text)
            token = hashlib.sha256(f"{run_id}/{number}/{now}".encode()).hexdigest()[:24]
            body = encode(self.payloads(text, len(items)), token, group)
            digest = hashlib.sha256(body).digest()
            part = group.part or ("adjust" if group.adjusts else "")
            conn.execute(
                "INSERT INTO batch (id, token, destination_id, run_id, epoch, part, n, items, body_sha, state, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'in_flight', ?)",
                (number, token, lease.destination_id, run_id, lease.epoch, part, len(items), text, digest, now),
            )
            said = {
                "to": "in_flight", "n": len(items), "body": digest.hex(),
                "items": hashlib.sha256(text.encode()).hexdigest(),
            }  # fmt: skip
            events.append(conn, "claimed", said, at=now, run_id=run_id, batch_id=number)
        return Batch(number, token, lease.destination_id, lease.epoch, items, body, group)

    def again(self, lease: Lease, batch_id: int, encode: Encode, *, now: int, run_id: str) -> Batch | None:
        """Move a batch in doubt back to `in_flight`, to send its identical bytes again; None where that cannot be.

        It cannot where a person has decided about one of its rows, or where the same rows would be other bytes now
        (another version of convsync): whoever can be asked for a request must find one and the same.
        """
        with self.store.atomic() as conn:
            self._still_ours(lease.destination_id, lease.epoch)
            token, part, text, n, digest = conn.execute(
                "SELECT token, part, items, n, body_sha FROM batch WHERE id = ? AND state = 'unknown'", (batch_id,)
            ).fetchone()
            claimed = conn.execute(
                "UPDATE delivery SET state = 'in_flight', reason = '', attempts = attempts + 1, updated_at = ?"
                " WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ? AND state = 'unknown'",
                (now, text, batch_id),
            ).rowcount
            group = Group(part) if part else WHOLE
            body = encode(self.payloads(text, n), token, group) if claimed == n else b""
            if claimed != n or hashlib.sha256(body).digest() != digest:
                conn.execute(
                    "UPDATE delivery SET state = 'unknown', attempts = attempts - 1"
                    " WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ? AND state = 'in_flight'",
                    (text, batch_id),
                )
                return None
            conn.execute(
                "UPDATE batch SET state = 'in_flight', epoch = ?, run_id = ?, poll_at = NULL, answered_at = NULL WHERE id = ?",
                (lease.epoch, run_id, batch_id),
            )
            said = {"from": ["unknown"], "to": "in_flight", "n": n, "body": digest.hex()}
            events.append(conn, "resent", said, at=now, run_id=run_id, batch_id=batch_id)
        return Batch(batch_id, token, lease.destination_id, lease.epoch, tuple(orjson.loads(text)), body, group)

    def _mixed(self, destination_id: int) -> bool:
        """Whether anything waits that might not share a request with everything else: the rare case, and the slow one."""
        query = "SELECT 1 FROM delivery WHERE destination_id = ? AND state = 'pending' AND (part <> '' OR revision > 1) LIMIT 1"
        return self.store.one(query, (destination_id,)) is not None

    def _enough(self, bound: dict[str, Any], least: int) -> tuple[str, str] | None:
        """Goal and part of which enough is due for a request, the first that has; ends with the row that makes it enough."""
        rows: dict[tuple[str, str], set[object]] = {}
        found = self.store.conn.execute(PARTS, bound)
        for number, goal, identity, part, _ in found:
            mine = rows.setdefault((goal, part), set())
            mine.add(number if identity is None else identity)
            if len(mine) == least:
                found.close()
                return goal, part
        return None

    def _together(
        self,
        due: str,
        bound: dict[str, Any],
        ids: Sequence[int] | None,
        limit: int,
        goals: int | None,
        only: tuple[str, str] | None,
        *,
        distinct: bool,
    ) -> tuple[list[int], Group]:
        """What is due first (`only`: of this goal and part), and what may share its request. One look at what is due, which
        ends with the last row."""
        query = due if ids is None else due.replace(*THESE)
        found = self.store.conn.execute(query, bound if ids is None else bound | {"ids": _json(ids)})
        kind, chosen, named, seen = ("", 0), list[int](), set[str](), set[str]()
        for number, goal, identity, *own in found:
            if only is not None and (goal, own[0]) != only:
                continue
            kind = kind if chosen else tuple(own)
            if tuple(own) != kind or (goal not in named and len(named) == goals):
                continue
            if distinct and identity is not None:
                if identity in seen:
                    continue
                seen.add(identity)
            named.add(goal)
            chosen.append(number)
            if len(chosen) == limit:
                break
        found.close()
        part, adjusts = kind
        return chosen, Group(part, bool(adjusts))

    def _changed(self, group: Group, items: str) -> Group:
        found = self.store.conn.execute(CHANGES, (items,)).fetchall()
        return group._replace(at=tuple(row[0] for row in found), taken_at=tuple(row[1] for row in found))

    def payloads(self, items: str, count: int) -> list[bytes]:
        """The payloads of these deliveries (a JSON list of ids), in its order."""
        found = self.store.conn.execute(
            "SELECT p.body FROM json_each(?) j CROSS JOIN payload p ON p.delivery_id = j.value ORDER BY j.key", (items,)
        )
        bodies = [row[0] for row in found]
        if len(bodies) != count:
            raise ConvsyncError(
                f"{count - len(bodies)} deliveries have lost what they would send.",
                "Were identifiers erased while they waited? See `convsync ledger verify`.",
            )
        return bodies

    def payloads_of(self, batch: Batch) -> list[bytes]:
        return self.payloads(_json(batch.items), len(batch.items))

    def named(self, delivery_id: int) -> tuple[str, str, str]:
        """Source, external id and name of the action of a delivery."""
        query = "SELECT a.source, a.external_id, a.action FROM delivery d JOIN action a ON a.id = d.action_id WHERE d.id = ?"
        source, external_id, action = self.store.conn.execute(query, (delivery_id,)).fetchone()
        return source, external_id, action

    def due(self, destination_id: int, now: int, least: int = 1) -> bool:
        """Whether a request of at least so many rows could be claimed now."""
        if least > 1:
            return self._enough({"destination": destination_id, "now": now}, least) is not None
        found = self.store.one(
            "SELECT 1 FROM delivery d WHERE d.destination_id = ? AND d.state = 'pending' AND d.not_before <= ?"
            f" AND (d.after_id IS NULL OR NOT EXISTS ({OPEN_BEFORE})) LIMIT 1",
            (destination_id, now),
        )
        return found is not None

    def in_doubt(self, destination_id: int) -> bool:
        """Whether there is a request whose outcome nobody knows yet."""
        query = "SELECT 1 FROM batch WHERE destination_id = ? AND state = 'unknown' LIMIT 1"
        return self.store.one(query, (destination_id,)) is not None

    def waiting(self, destination_id: int, until: int = LAST) -> int:
        """How many deliveries wait to be sent, of those that are due by `until`."""
        query = "SELECT count(*) FROM delivery WHERE destination_id = ? AND state = 'pending' AND not_before <= ?"
        return int(self.store.one(query, (destination_id, until)))

    # -- what a dead run left behind

    def take_over(self, lease: Lease, *, now: int, run_id: str) -> int:
        """Batches of earlier epochs still in flight become unknown: they may have arrived. Returns how many rows."""
        rows = 0
        with self.store.atomic() as conn:
            orphans = conn.execute(
                "SELECT id, items FROM batch WHERE destination_id = ? AND state = 'in_flight' AND epoch < ?",
                (lease.destination_id, lease.epoch),
            ).fetchall()
            for number, items in orphans:
                moved = conn.execute(
                    "UPDATE delivery SET state = 'unknown', reason = 'its run died before an answer was recorded',"
                    " reached = reached | 2, not_before = 0, updated_at = ? WHERE id IN (SELECT value FROM json_each(?))"
                    " AND batch_id = ? AND state = 'in_flight'",
                    (now, items, number),
                ).rowcount
                conn.execute("UPDATE batch SET state = 'unknown', answered_at = ? WHERE id = ?", (now, number))
                body = {"to": State.UNKNOWN.value, "from": ["in_flight"], "n": moved}
                events.append(conn, "taken_over", body, at=now, run_id=run_id, batch_id=number)
                rows += moved
        return rows


def _json(ids: Sequence[int]) -> str:
    return orjson.dumps(list(ids)).decode()
