"""The rows of one request on their way from one state to others, by what was said of each."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import orjson

from convsync.model import Outcome, SkipReason, State, Verdict

TO_STATE = {
    Verdict.ACCEPTED: State.ACCEPTED,
    Verdict.DUPLICATE: State.ACCEPTED,
    Verdict.CONFIRMED: State.CONFIRMED,
    Verdict.REFUSED: State.REFUSED,
    Verdict.UNMATCHED: State.UNMATCHED,
    Verdict.LATER: State.PENDING,
    Verdict.RETURNED: State.PENDING,
    Verdict.UNKNOWN: State.UNKNOWN,
    Verdict.HELD: State.HELD,
    Verdict.STRANDED: State.HELD,
}


NEVER_REACHED = (State.REFUSED, State.UNMATCHED, State.HELD)
"""A row in these states had no effect at its platform; of those held, unless `reached` says so (Verdict.STRANDED)."""

WITHDRAWN = (SkipReason.CONSENT_DENIED, SkipReason.NO_CONSENT)
"""Why what waits is held, and its contact in clear erased."""

SAME_KEY = "{0}.action_id = {1}.action_id AND {0}.destination_id = {1}.destination_id AND {0}.goal = {1}.goal"


class Patience(NamedTuple):
    """How long a delivery is tried again, and how long it waits in between (seconds)."""

    max_attempts: int = 8
    give_up_after: float = 86_400.0
    first_wait: float = 60.0

    def wait(self, attempts: int) -> float:
        """The pause before the next attempt: 1, 5, 15, 60 min, 3, 6, 12, 24 h when the first is a minute."""
        return self.first_wait * (1, 5, 15, 60, 180, 360, 720, 1440)[min(max(attempts, 1), 8) - 1]


EXHAUSTED = "exhausted: tried as often as the configuration allows"


class Move:
    """The rows of one batch on their way from one state to others."""

    def __init__(
        self, conn: sqlite3.Connection, batch_id: int, items: str, before: str, now: int, patience: Patience
    ) -> None:
        self.conn = conn
        self.batch_id = batch_id
        self.items = items
        self.before = before
        self.now = now
        self.patience = patience
        self.exhausted: list[int] = []
        self.duplicates: list[int] = []
        self.already = 0
        """Rows that the platform had before they were ever sent from here."""

    def all(self, default: Outcome, named: dict[int, Outcome]) -> Counter[str]:
        counts: Counter[str] = Counter()
        if named:
            ids = orjson.loads(self.items)
            by_outcome: dict[Outcome, list[int]] = {}
            for position, outcome in named.items():
                by_outcome.setdefault(outcome, []).append(ids[position])
            for outcome, chosen in by_outcome.items():
                counts[_word(outcome)] += self._move(orjson.dumps(chosen).decode(), outcome)
        # the rows named above have left the state `before`, so that the default takes exactly the others
        if TO_STATE[default.verdict].value != self.before:
            exclude = _stays(named, self.before)
            rest = self.items
            if exclude:
                ids = orjson.loads(self.items)
                rest = orjson.dumps([one for at, one in enumerate(ids) if at not in exclude]).decode()
            # what is plainly accepted needs no reason in every row: the event keeps what was said
            plain = default.verdict is Verdict.ACCEPTED
            counts[_word(default)] += self._move(rest, default._replace(reason="") if plain else default)
        return +counts

    def _move(self, ids: str, outcome: Outcome) -> int:
        to = TO_STATE[outcome.verdict]
        if outcome.verdict is Verdict.DUPLICATE:
            self._note_duplicates(ids, outcome)
        if to.value == self.before:
            return 0
        if to is State.PENDING or to is State.UNKNOWN:
            return self._move_to_wait(ids, outcome, to)
        reason = "reason" if outcome.verdict is Verdict.DUPLICATE else "?2"
        stranded = outcome.verdict is Verdict.STRANDED
        reached = 2 if stranded else int(to not in NEVER_REACHED)
        return self.conn.execute(
            f"UPDATE delivery SET state = ?1, reason = {reason}, updated_at = ?3, reached = CASE ?4 WHEN 0 THEN 0 ELSE reached | ?4 END"
            " WHERE id IN (SELECT value FROM json_each(?5)) AND batch_id = ?6 AND state = ?7",
            (to.value, outcome.reason, self.now, reached, ids, self.batch_id, self.before),
        ).rowcount

    def _note_duplicates(self, ids: str, outcome: Outcome) -> None:
        """After a lost answer a repeat is what was hoped for; on a first attempt somebody else had sent the row."""
        self.duplicates += orjson.loads(ids)
        self.already += self.conn.execute(
            "UPDATE delivery SET reason = ? WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ? AND state = ?"
            " AND NOT reached AND NOT EXISTS (SELECT 1 FROM delivery e"
            f" WHERE {SAME_KEY.format('e', 'delivery')} AND e.revision < delivery.revision AND e.reached)",
            (f"already there: {outcome.reason}", ids, self.batch_id, self.before),
        ).rowcount

    def _move_to_wait(self, ids: str, outcome: Outcome, to: State) -> int:
        """Back to pending, or unknown: with a due time, and no more often than patience allows."""
        returned = outcome.verdict is Verdict.RETURNED
        reached = "reached | 2" if to is State.UNKNOWN else "reached"
        if self.before == "accepted" and to is State.PENDING:
            reached = "reached & 2"  # it was received, and had no effect
        wait = _waits(outcome, self.patience)
        self.conn.create_function("convsync_wait", 1, wait, deterministic=True)
        moved = self.conn.execute(
            f"UPDATE delivery SET state = ?, reason = ?, updated_at = ?, attempts = attempts - ?, reached = {reached},"
            " first_attempt_at = CASE WHEN attempts - ? = 0 THEN NULL ELSE first_attempt_at END,"
            " not_before = ? + convsync_wait(attempts)"
            " WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ? AND state = ?",
            (
                to.value,
                outcome.reason,
                self.now,
                returned,
                returned,
                self.now,
                ids,
                self.batch_id,
                self.before,
            ),
        ).rowcount
        if to is State.PENDING and not returned:
            self.exhausted += [
                row[0]
                for row in self.conn.execute(
                    "UPDATE delivery SET state = 'held', reason = ?"
                    " WHERE id IN (SELECT value FROM json_each(?)) AND batch_id = ? AND state = 'pending'"
                    " AND (attempts >= ? OR first_attempt_at < ?) RETURNING id",
                    (EXHAUSTED, ids, self.batch_id, self.patience.max_attempts,
                     self.now - int(self.patience.give_up_after * 1000)),
                )
            ]  # fmt: skip
        return moved


def _waits(outcome: Outcome, patience: Patience) -> Callable[[int], int]:
    """Milliseconds to wait after so many attempts: the platform's own wish, else ours."""
    if outcome.wait is not None:
        fixed = int(outcome.wait * 1000)
        return lambda attempts: fixed
    if outcome.verdict is Verdict.RETURNED:
        return lambda attempts: 0
    return lambda attempts: int(patience.wait(attempts) * 1000)


def _stays(named: dict[int, Outcome], before: str) -> frozenset[int]:
    """Positions that the answer leaves where they are: the default must not take them."""
    return frozenset(position for position, outcome in named.items() if TO_STATE[outcome.verdict].value == before)


def _word(outcome: Outcome) -> str:
    """The word of the run summary."""
    if outcome.verdict in (Verdict.LATER, Verdict.RETURNED):
        return "later"
    return TO_STATE[outcome.verdict].value
