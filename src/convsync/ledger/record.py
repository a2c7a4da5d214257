"""Recording: what a request or a question came to, moved into the ledger in one transaction with its history.

All changes of a delivery's state after planning and claiming happen here. A row that the answer does not name follows
the answer's default; each row moves only out of the states the answer can be about, so that a late or repeated answer
changes nothing it should not.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from convsync.errors import LedgerBusy
from convsync.ledger import events
from convsync.ledger.moves import EXHAUSTED, NEVER_REACHED, SAME_KEY, TO_STATE, WITHDRAWN, Move, Patience
from convsync.ledger.store import Store
from convsync.model import Answer, Outcome, SkipReason, Sought, State, Verdict

REDACTED_AT_ONCE = 2000
"""Payloads in memory while contacts are erased."""
NEARBY = 1000
"""So many requests before and after one may be taken for it, where the platform keeps no token."""


class Poll(NamedTuple):
    """An accepted batch whose platform can be asked what became of it."""

    batch_id: int
    ref: str
    rows: int
    created_at: int
    polls: int


class Doubt(NamedTuple):
    """A batch whose outcome nobody knows, at a platform that can be asked for it."""

    batch_id: int
    sought: Sought
    since: int
    """When its outcome became unknown, epoch milliseconds."""
    sent: int
    """How often it was sent."""


class Recorder:
    """Moves deliveries by what was answered."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def answer(
        self, batch_id: int, answer: Answer, patience: Patience, *, epoch: int, now: int, run_id: str
    ) -> Counter[str]:
        """Record the answer to a request. Returns how many rows went where (the words of the run summary)."""
        return self._record(batch_id, answer, patience, "in_flight", epoch, now, run_id)

    def polled(
        self, batch_id: int, answer: Answer, patience: Patience, *, epoch: int, now: int, run_id: str
    ) -> Counter[str]:
        """Record what a platform told about an accepted batch."""
        return self._record(batch_id, answer, patience, "accepted", epoch, now, run_id)

    def found(
        self, batch_id: int, answer: Answer, patience: Patience, *, epoch: int, now: int, run_id: str
    ) -> Counter[str]:
        """Record what a platform has, after it was asked for a request whose outcome was unknown.

        That includes rows that a person wanted sent again meanwhile and that have not left yet: they did arrive.
        """
        if answer.default.verdict in (Verdict.ACCEPTED, Verdict.CONFIRMED):
            self._back_in_doubt(batch_id, now, run_id)
        return self._record(batch_id, answer, patience, "unknown", epoch, now, run_id)

    def _back_in_doubt(self, batch_id: int, now: int, run_id: str) -> None:
        with self.store.atomic() as conn:
            items = self.store.one("SELECT items FROM batch WHERE id = ? AND state = 'unknown'", (batch_id,))
            _move_all(
                conn, State.UNKNOWN, "the platform has the request it was in", now, run_id,
                "SELECT d.id FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value WHERE d.state = 'pending'"
                f" AND d.reached & 2 AND d.batch_id = {int(batch_id)}", items or "[]",
            )  # fmt: skip

    def _record(
        self, batch_id: int, answer: Answer, patience: Patience, before: str, epoch: int, now: int, run_id: str
    ) -> Counter[str]:
        with self.store.atomic() as conn:
            destination_id, text, n, state = conn.execute(
                "SELECT destination_id, items, n, state FROM batch WHERE id = ?", (batch_id,)
            ).fetchone()
            if self.store.one("SELECT epoch FROM lease WHERE destination_id = ?", (destination_id,)) != epoch:
                raise LedgerBusy("Another run took over this destination while its answer was on the way.")
            move = Move(conn, batch_id, text, before, now, patience)
            named = {position: one for position, one in answer.rows.items() if 0 <= position < n}
            counts = move.all(answer.default, named)
            polling = answer.ref is not None and answer.poll_in is not None
            poll_at = now + int((answer.poll_in or 0) * 1000) if polling or _again(answer, before) else None
            conn.execute(
                "UPDATE batch SET state = ?, answered_at = coalesce(answered_at, ?), poll_at = ?, polls = polls + ?,"
                " platform_ref = coalesce(?, platform_ref) WHERE id = ?",
                (_batch_state(answer, before, state), now, poll_at, before == "accepted", answer.ref, batch_id),
            )
            body: dict[str, Any] = {"from": [before], "to": TO_STATE[answer.default.verdict].value, "n": counts.total()}
            body |= {"verdict": answer.default.verdict.value, "counts": dict(counts), "ref": answer.ref}
            body |= {"reason": answer.default.reason} if answer.default.reason else {}
            if named:
                body["rows"] = [
                    [at, TO_STATE[one.verdict], one.reason, one.verdict] for at, one in sorted(named.items())
                ]
            if move.already:
                counts["already_there"] = body["counts"]["already_there"] = move.already
            if counts or before == "in_flight":
                kind = {"in_flight": "answered", "accepted": "polled", "unknown": "found"}[before]
                events.append(conn, kind, body, at=now, run_id=run_id, batch_id=batch_id)
            if move.exhausted:
                said = {"to": "held", "reason": EXHAUSTED, "ids": move.exhausted}
                events.append(conn, "moved", said, at=now, run_id=run_id, deliveries=move.exhausted)
                counts["held"] += len(move.exhausted)
                counts["later"] -= len(move.exhausted)
            if move.duplicates and before == "in_flight":
                counts["later"] += self._tell_as_change(conn, move.duplicates, now, run_id)
            become = {TO_STATE[one.verdict] for one in (answer.default, *named.values())}
            if before == "accepted" and become & {State.PENDING, State.UNKNOWN}:
                counts["superseded"] += self._outdated(conn, text, now, run_id)
            if become & {*NEVER_REACHED} or (before == "accepted" and State.PENDING in become):
                counts["superseded"] += self._nothing_to_take_back(conn, text, now, run_id)
        return +counts

    def _tell_as_change(self, conn: sqlite3.Connection, items: Sequence[int], now: int, run_id: str | None) -> int:
        """First tellings that the platform had already, after an earlier revision whose arrival was in doubt: that one
        has arrived, with an older value, so that these are changes of it. Returns how many."""
        pairs = conn.execute(
            "SELECT d.id, e.id, e.reached FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value"
            f" JOIN delivery e ON {SAME_KEY.format('e', 'd')} AND e.revision < d.revision AND e.reached"
            " WHERE d.status = 'active'",
            (orjson.dumps(items).decode(),),
        ).fetchall()
        known = {number for number, _, reached in pairs if reached & 1}
        arrived = [(earlier,) for number, earlier, _ in pairs if number not in known]
        conn.executemany("UPDATE delivery SET reached = reached | 1 WHERE id = ?", arrived)
        ids = orjson.dumps(sorted({number for number, *_ in pairs} - known)).decode()
        return _move_all(
            conn, State.PENDING, "the platform has an earlier value of it", now, run_id,
            "SELECT value FROM json_each(?)", ids, "reached = reached & 2, not_before = 0",
        )  # fmt: skip

    def _outdated(self, conn: sqlite3.Connection, items: str, now: int, run_id: str | None) -> int:
        """What would be sent again after a newer revision of it was sent: the platform would take the older for the newer."""
        return _move_all(
            conn, State.SUPERSEDED, "a newer revision came first", now, run_id,
            "SELECT d.id FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value WHERE d.state IN ('pending', 'unknown')"
            f" AND d.lane IS NULL AND EXISTS (SELECT 1 FROM delivery n WHERE {SAME_KEY.format('n', 'd')}"
            "  AND n.revision > d.revision AND (n.state IN ('in_flight', 'unknown', 'accepted', 'confirmed')"
            "  OR (n.state = 'pending' AND n.attempts > 0)))", items,
        )  # fmt: skip

    def _nothing_to_take_back(self, conn: sqlite3.Connection, items: str, now: int, run_id: str | None) -> int:
        """What waits of keys that the platform has not taken after all, where the last word is a refund: to tell it would
        make a conversion. Also a refund that a newer word follows."""
        return _move_all(
            conn, State.SUPERSEDED, SkipReason.CANCELLED_UNSENT.value, now, run_id,
            "SELECT f.id FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value"
            f" JOIN delivery f ON {SAME_KEY.format('f', 'd')}"
            " WHERE d.lane IS NULL AND (f.state = 'pending' OR (f.state = 'held' AND f.status <> 'active'))"
            " AND (f.status <> 'active' OR (NOT f.reached AND (SELECT n.status FROM delivery n"
            f"  WHERE {SAME_KEY.format('n', 'f')} ORDER BY n.revision DESC LIMIT 1) <> 'active'))"
            f" AND NOT EXISTS (SELECT 1 FROM delivery e WHERE {SAME_KEY.format('e', 'f')}"
            "  AND e.revision < f.revision AND (e.reached OR e.state = 'in_flight'))", items,
        )  # fmt: skip

    # -- settling

    def polls_due(self, destination_id: int, now: int) -> list[Poll]:
        """Accepted batches that may be asked about now, oldest first."""
        found = self.store.conn.execute(
            "SELECT id, platform_ref, n, created_at, polls FROM batch"
            " WHERE destination_id = ? AND poll_at IS NOT NULL AND poll_at <= ? AND state <> 'unknown'"
            " ORDER BY poll_at LIMIT 1000",
            (destination_id, now),
        )
        return [Poll(*row) for row in found]

    def doubts_due(self, destination_id: int, now: int) -> list[Doubt]:
        """Batches whose outcome is unknown and may be asked for now, in the order they were sent."""
        found = self.store.conn.execute(
            "SELECT id, answered_at, token, part, n, created_at,"
            " (SELECT 1 + count(*) FROM event e WHERE e.batch_id = b.id AND e.kind = 'resent')"
            " FROM batch b WHERE destination_id = ? AND state = 'unknown' AND coalesce(poll_at, 0) <= ? ORDER BY id LIMIT 1000",
            (destination_id, now),
        ).fetchall()
        return [
            Doubt(number, Sought(token, part, n, _moment(created_at), self.others(destination_id, number)), since, sent)
            for number, since, token, part, n, created_at, sent in found
        ]

    def others(self, destination_id: int, batch_id: int) -> frozenset[str]:
        """What the platform calls the requests about this one in time."""
        query = "SELECT platform_ref FROM batch WHERE destination_id = ? AND id BETWEEN ? AND ? AND platform_ref IS NOT NULL"
        span = (batch_id - NEARBY, batch_id + NEARBY)
        return frozenset(row[0] for row in self.store.conn.execute(query, (destination_id, *span)))

    def ask_again(self, batch_id: int, at: int) -> None:
        """The platform does not have it yet: it is asked again at `at`."""
        with self.store.atomic() as conn:
            conn.execute("UPDATE batch SET poll_at = ? WHERE id = ? AND state = 'unknown'", (at, batch_id))

    def withdraw(self, batch_id: int, *, now: int, run_id: str) -> int:
        """What of a request in doubt must not be sent again, because the person consents no more. Returns how many rows."""
        moved = 0
        with self.store.atomic() as conn:
            items = self.store.one("SELECT items FROM batch WHERE id = ?", (batch_id,))
            for reason in WITHDRAWN:
                moved += _move_all(
                    conn, State.HELD, reason.value, now, run_id,
                    "SELECT d.id FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value JOIN skip s ON s.action_id = d.action_id"
                    " JOIN destination x ON x.id = s.destination_id JOIN destination y ON y.id = d.destination_id"
                    f" WHERE x.name = y.name AND s.reason = '{reason.value}' AND d.state = 'unknown' AND d.batch_id = {int(batch_id)}",
                    items,
                )  # fmt: skip
        return moved

    def strand(self, batch_id: int, reason: str, *, now: int, run_id: str) -> int:
        """What is in doubt and can neither be found nor sent again as it was is for a person. Returns how many rows."""
        with self.store.atomic() as conn:
            items = self.store.one("SELECT items FROM batch WHERE id = ?", (batch_id,))
            conn.execute("UPDATE batch SET state = 'done', poll_at = NULL WHERE id = ?", (batch_id,))
            return _move_all(
                conn, State.HELD, reason, now, run_id,
                "SELECT d.id FROM json_each(?) j CROSS JOIN delivery d ON d.id = j.value"
                f" WHERE d.state = 'unknown' AND d.batch_id = {int(batch_id)}", items,
            )  # fmt: skip

    def requeue_unknown(self, destination_id: int, patience: Patience, *, now: int, run_id: str) -> int:
        """Where the platform drops repeats by our id: what is unknown and due goes back to pending. Returns how many."""
        rows = 0
        with self.store.atomic() as conn:
            waiting = conn.execute(
                "SELECT id, items FROM batch WHERE destination_id = ? AND state = 'unknown' ORDER BY id",
                (destination_id,),
            ).fetchall()
            for number, items in waiting:
                due = conn.execute(
                    "SELECT count(*) FROM delivery WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ?"
                    " AND state = 'unknown' AND not_before > ?",
                    (items, number, now),
                ).fetchone()[0]
                if due:
                    continue
                move = Move(conn, number, items, "unknown", now, patience)
                counts = move.all(Outcome(Verdict.LATER, "sent again: the platform drops repeats by our id", 0.0), {})
                conn.execute("UPDATE batch SET state = 'resent' WHERE id = ?", (number,))
                body = {"from": ["unknown"], "to": "pending", "n": counts.total(), "verdict": "later"}
                body["on_unknown"] = "resend"  # the policy of that moment; the configuration may change
                events.append(conn, "requeued", body, at=now, run_id=run_id, batch_id=number)
                if move.exhausted:
                    said = {"to": "held", "reason": EXHAUSTED, "ids": move.exhausted}
                    events.append(conn, "moved", said, at=now, run_id=run_id, deliveries=move.exhausted)
                rows += counts.total() - len(move.exhausted) - self._nothing_to_take_back(conn, items, now, run_id)
        return rows

    def expire(
        self,
        destination_id: int,
        before_id: int,
        oldest: int,
        oldest_change: int,
        oldest_first: int | None = None,
        *,
        now: int,
        run_id: str,
    ) -> int:
        """What waited (planned before this run) until the platform's window passed. Returns how many.

        `oldest` is for a first telling, `oldest_change` for what changes a conversion that the platform may have,
        `oldest_first` for what is the first of its order.
        """
        earlier = (
            f"SELECT 1 FROM delivery e WHERE {SAME_KEY.format('e', 'd')} AND e.revision < d.revision AND e.reached"
        )
        changes = f"d.revision > 1 AND EXISTS ({earlier})"
        opens = (
            "d.lane IS NOT NULL AND NOT EXISTS (SELECT 1 FROM delivery o WHERE o.destination_id = d.destination_id"
            " AND o.lane = d.lane AND (o.reached OR o.state = 'in_flight'))"
        )
        counted = 0
        for reason, passed, limit in (
            ("the platform window passed while it waited", "1", oldest),
            ("too old to be adjusted", changes, oldest_change),
            ("too late to be tied to a visit: it waited too long", opens, oldest_first),
        ):
            if limit is None:
                continue
            with self.store.atomic() as conn:
                found = conn.execute(
                    "UPDATE delivery SET state = 'expired', reason = ?, updated_at = ? WHERE id IN"
                    " (SELECT d.id FROM delivery d JOIN action a ON a.id = d.action_id WHERE d.destination_id = ?"
                    f" AND d.state = 'pending' AND d.id < ? AND a.occurred_at < ? AND {passed}) RETURNING id",
                    (reason, now, destination_id, before_id, limit),
                )
                ids = sorted(row[0] for row in found)
                if ids:
                    body = {"to": "expired", "reason": reason, "ids": ids}
                    events.append(conn, "moved", body, at=now, run_id=run_id, deliveries=ids)
            counted += len(ids)
        return counted

    def standing(self, destination_id: int) -> Counter[str]:
        """How many deliveries are in flight, unknown or held, from whatever run; what is held because it is in a
        file (`Exports`) counts as `exported`."""
        found = self.store.conn.execute(
            "SELECT state, count(*) FROM delivery WHERE destination_id = ? AND state = 'unknown'"
            " UNION ALL SELECT CASE WHEN reason GLOB 'exported*' THEN 'exported' ELSE state END, count(*) FROM delivery"
            " WHERE destination_id = ? AND state = 'held' GROUP BY 1"
            " UNION ALL SELECT 'in_flight', sum(n) FROM batch WHERE destination_id = ? AND state = 'in_flight'",
            (destination_id,) * 3,
        )
        return Counter({state: n for state, n in found if n})

    def retire(self, destination_id: int, goals: frozenset[str], *, now: int, run_id: str) -> int:
        """What waits for a goal that the configuration names no more, and is no change of what the platform may have."""
        reason = "the configuration does not name its goal any more"
        with self.store.atomic() as conn:
            found = conn.execute(
                "UPDATE delivery SET state = 'superseded', reason = ?, updated_at = ? WHERE destination_id = ?"
                " AND state = 'pending' AND NOT reached AND goal NOT IN (SELECT value FROM json_each(?))"
                f" AND NOT EXISTS (SELECT 1 FROM delivery e WHERE {SAME_KEY.format('e', 'delivery')}"
                "  AND e.revision < delivery.revision AND e.reached) RETURNING id",
                (reason, now, destination_id, orjson.dumps(sorted(goals)).decode()),
            )
            ids = sorted(row[0] for row in found)
            if ids:
                said = {"to": "superseded", "reason": reason, "ids": ids}
                events.append(conn, "moved", said, at=now, run_id=run_id, deliveries=ids)
        return len(ids)

    def resolve(self, ids: Sequence[int], to: State, reason: str, *, now: int, run_id: str | None) -> list[int]:
        """A person's word about deliveries that wait for one. Returns the ids that were moved.

        What would be sent again stays where it is if it has been erased since (a contact in clear), if it is not the last
        word on its key any more, or if its action goes by another way in; of two ways that are asked for, the later goes.
        """
        with self.store.atomic() as conn:
            moved = [
                row[0]
                for row in conn.execute(
                    "UPDATE delivery SET state = :to, reason = :reason, not_before = 0, updated_at = :now,"
                    " reached = CASE :to WHEN 'accepted' THEN reached | 1 WHEN 'refused' THEN 0 ELSE reached END"
                    " WHERE id IN (SELECT value FROM json_each(:ids)) AND state IN ('unknown', 'held', 'refused', 'unmatched')"
                    " AND NOT (:to = 'pending' AND (clear = 2 OR EXISTS (SELECT 1 FROM delivery n"
                    f"  WHERE {SAME_KEY.format('n', 'delivery')} AND n.revision > delivery.revision)"
                    "  OR EXISTS (SELECT 1 FROM delivery o JOIN destination x ON x.id = o.destination_id"
                    "   JOIN destination y ON y.id = delivery.destination_id WHERE o.action_id = delivery.action_id"
                    "   AND x.name = y.name AND x.id <> y.id AND (o.reached OR o.state IN ('pending', 'in_flight')"
                    "    OR (o.id > delivery.id AND o.clear <> 2 AND o.id IN (SELECT value FROM json_each(:ids))"
                    "     AND o.state IN ('unknown', 'held', 'refused', 'unmatched'))))))"
                    " RETURNING id",
                    {"to": to.value, "reason": reason, "now": now, "ids": orjson.dumps(list(ids)).decode()},
                )
            ]
            if moved:
                body = {"to": to.value, "reason": reason, "ids": sorted(moved), "person": True}
                events.append(conn, "moved", body, at=now, run_id=run_id, deliveries=sorted(moved))
                if to is not State.ACCEPTED:
                    self._nothing_to_take_back(conn, orjson.dumps(moved).decode(), now, run_id)
        return moved

    def redact(self, destination_id: int, redact: Callable[[bytes], bytes], *, whole: bool = False) -> int:
        """Erase the contacts in clear of what has its verdict, or no consent any more. Returns how many rows.

        `whole`: what is left (their hashes) could be sent as well.
        """
        query = (
            "SELECT d.id, p.body FROM delivery d JOIN payload p ON p.delivery_id = d.id WHERE d.destination_id = ?"
            " AND d.clear = 1 AND (d.state NOT IN ('pending', 'in_flight', 'unknown', 'held')"
            f" OR (d.state = 'held' AND d.reason IN (?, ?))) LIMIT {REDACTED_AT_ONCE}"
        )
        erased, left = 0, 0 if whole else 2
        with self.store.atomic() as conn:
            while found := conn.execute(query, (destination_id, *WITHDRAWN)).fetchall():
                bare = ((redact(body), number) for number, body in found)
                conn.executemany("UPDATE payload SET body = ? WHERE delivery_id = ?", bare)
                conn.executemany("UPDATE delivery SET clear = ? WHERE id = ?", [(left, number) for number, _ in found])
                erased += len(found)
        if erased:
            self.store.forget()
        return erased


def _again(answer: Answer, before: str) -> bool:
    return before == "accepted" and answer.poll_in is not None


def _batch_state(answer: Answer, before: str, state: str) -> str:
    verdicts = {answer.default.verdict, *(one.verdict for one in answer.rows.values())}
    if Verdict.UNKNOWN in verdicts:
        return "unknown"
    if before == "accepted":
        return state
    return "not_sent" if verdicts <= {Verdict.LATER, Verdict.RETURNED} else "done"


def _move_all(
    conn: sqlite3.Connection,
    to: State,
    reason: str,
    now: int,
    run_id: str | None,
    which: str,
    items: str,
    also: str = "",
) -> int:
    """Move the deliveries that the query `which` finds for `items`, whatever request they were in. Returns how many."""
    found = conn.execute(
        f"UPDATE delivery SET state = ?, reason = ?, updated_at = ?{also and ', '}{also} WHERE id IN ({which}) RETURNING id",
        (to.value, reason, now, items),
    )
    ids = sorted(row[0] for row in found)
    if ids:
        said = {"to": to.value, "reason": reason, "ids": ids}
        events.append(conn, "moved", said, at=now, run_id=run_id, deliveries=ids)
    return len(ids)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
