"""Taking in a page of actions: what is new, what changed, what is to be sent, and how far the source was read.

One transaction holds all of it, cursor included, so that a crash re-reads at most one page and the ledger's unique
keys drop the repeats. Nothing here knows a platform: what a destination can do comes in as `Traits`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import orjson

from convsync.ledger import events
from convsync.ledger.identities import Identities
from convsync.ledger.lanes import Lanes
from convsync.ledger.store import Insert, Store
from convsync.model import BadRow, Conversion, Mapped, Skip, SkipReason, State, key_of

NOBODY = 0
"""The `destination_id` of a Skip that concerns every destination."""

MARGIN_MS = 60_000
"""How long after its second a row may be sent that is dated ahead of what it tells of."""

UNTOLD = (SkipReason.CANNOT_ADJUST, SkipReason.REFUND_IGNORED)
"""Why a change of what was sent is not told."""

NEW_ACTIONS = Insert(
    "action (id, source, external_id, action, kind, occurred_at, updated_at, value, currency, order_id, status,"
    " platform, campaign, click, first_seen_at)",
    15,
    "ON CONFLICT (source, external_id, action) DO NOTHING",
)
NEW_DELIVERIES = Insert(
    "delivery (id, action_id, destination_id, goal, revision, key, lane, after_id, state, reason, not_before, status,"
    " value, currency, part, identity, clear, planned_at, updated_at)",
    19,
)
NEW_PAYLOADS = Insert("payload (delivery_id, body)", 2)

UPDATE_ACTION = """
UPDATE action SET kind = ?, occurred_at = ?, updated_at = ?, value = ?, currency = ?, order_id = ?, status = ?,
                  platform = ?, campaign = ?, click = ? WHERE id = ?"""

UPSERT_SKIP = """
INSERT INTO skip (action_id, destination_id, reason, detail, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (action_id, destination_id) DO UPDATE SET reason = excluded.reason, detail = excluded.detail, at = excluded.at
WHERE reason <> excluded.reason OR detail <> excluded.detail"""


class Traits(NamedTuple):
    """What planning has to know of a destination."""

    id: int
    adjusts: bool
    snapshots: bool
    adjust_ms: int
    """How old an action may be, in milliseconds, for a change of it to be told."""
    merge: Callable[[bytes, bytes], bytes]
    redact: Callable[[bytes], bytes]
    first_ms: int | None = None
    """How old an action may be to open a lane; None: any age."""
    tells_more: Callable[[bytes, bytes], bool] = lambda earlier, later: False
    fixed: bool = False
    shift: Callable[[Conversion], Conversion] | None = None


@dataclass
class Taken:
    """What a page, or a run, took in."""

    read: int = 0
    new: int = 0
    revised: int = 0
    superseded: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    """The bad rows of a page that were not known yet."""

    def add(self, other: Taken) -> None:
        self.read += other.read
        self.new += other.new
        self.revised += other.revised
        self.superseded.update(other.superseded)
        self.skipped.update(other.skipped)


class Known(NamedTuple):
    """An action as the ledger remembers it."""

    id: int
    updated_at: int | None
    facts: tuple[object, ...]


class Sent(NamedTuple):
    """The newest revision of a key, and whether any revision of it may have reached the platform."""

    id: int
    revision: int
    state: str
    attempts: int
    after: int | None
    told: tuple[object, ...]
    reached: bool


class Planner:
    """Writes pages. `traits`, by the name of a destination and its door, are set by the engine once a run."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.traits: dict[tuple[str, str], Traits] = {}

    def page(
        self,
        mapped: Sequence[Mapped],
        bad: Sequence[BadRow] = (),
        mark: tuple[str, str, str] | None = None,
        *,
        now: int,
        run_id: str | None = None,
    ) -> Taken:
        """Take in one page and, in the same transaction, the source's mark `(source, part, value)`."""
        with self.store.atomic() as conn:
            writer = _PageWriter(conn, self.traits, now)
            writer.take(mapped)
            taken = writer.finish(run_id)
            taken.bad = [row for row in bad if self._is_new(conn, row, now)]
            if taken.bad:
                taken.skipped["bad_row"] += len(taken.bad)
            if mark is not None:
                conn.execute(
                    "INSERT INTO mark VALUES (?, ?, ?, ?) ON CONFLICT (source, part) DO UPDATE"
                    " SET value = excluded.value, updated_at = excluded.updated_at WHERE value <> excluded.value",
                    (*mark, now),
                )
        return taken

    def marks(self, source: str) -> dict[str, str]:
        """How far a source was read: part → value."""
        return dict(self.store.conn.execute("SELECT part, value FROM mark WHERE source = ?", (source,)))

    def _is_new(self, conn: sqlite3.Connection, row: BadRow, now: int) -> bool:
        """Remember a bad row. It is told once, however often an overlap brings it up again."""
        told = conn.execute(
            "INSERT INTO bad_row VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (row.source, row.where, row.field, row.problem, row.advice, now),
        )
        return told.rowcount > 0


class _PageWriter:
    """One page on its way into the tables. Collects rows and writes them in bulk at the end."""

    def __init__(self, conn: sqlite3.Connection, traits: dict[tuple[str, str], Traits], now: int) -> None:
        self.conn = conn
        self.traits = traits
        self.numbers: dict[str, list[int]] = {}
        """By the name of a destination: its numbers in the ledger, one for each of its doors, the first door first."""
        for (name, _), one in sorted(traits.items()):
            self.numbers.setdefault(name, []).append(one.id)
        self.now = now
        self.taken = Taken()
        self.first_id: int = (conn.execute("SELECT max(id) FROM delivery").fetchone()[0] or 0) + 1
        self.next_id = self.unwritten = self.first_id
        self.base = 0
        self.deliveries: list[object] = []  # flat: nineteen values a row
        self.payloads: list[object] = []  # flat: two values a row
        self.skips: list[tuple[int, int, str, str, int]] = []
        self.unskip: list[tuple[int, int]] = []
        self.moved: dict[tuple[str, str], list[int]] = {}
        self.born: list[tuple[int, str, str]] = []
        self.lanes = {name: Lanes(conn, one.id, one.merge) for (name, _), one in traits.items() if one.snapshots}
        self.identities = {one.id: Identities(conn, one.id, one.shift) for one in traits.values() if one.shift}

    # -- actions

    def take(self, mapped: Sequence[Mapped]) -> None:
        if not mapped:
            return
        self.base = base = self.conn.execute("SELECT max(id) FROM action").fetchone()[0] or 0
        rows: list[object] = []
        for number, one in enumerate(mapped, base + 1):
            rows += _action_row(number, one, self.now)
        changes = self.conn.total_changes
        NEW_ACTIONS.run(self.conn, rows)
        self.taken.read += len(mapped)
        for name, lanes in self.lanes.items():
            lanes.load(lane for one in mapped for lane in _lanes_of(one, name))
        if self.identities:
            self._load_identities(mapped)
        if self.conn.total_changes - changes == len(mapped):
            self.taken.new += len(mapped)
            for number, one in enumerate(mapped, base + 1):
                self._plan_new(number, one)
            return
        self._take_mixed(mapped, base)

    def _load_identities(self, mapped: Sequence[Mapped]) -> None:
        by_destination: dict[int, list[str]] = {}
        for one in mapped:
            for result in one.results:
                for named in (result, result.alone) if isinstance(result, Conversion) else ():
                    if isinstance(named, Conversion) and named.identity:
                        by_destination.setdefault(self._of(named).id, []).append(named.identity)
        for number, wanted in by_destination.items():
            self.identities[number].load(wanted)

    def _take_mixed(self, mapped: Sequence[Mapped], base: int) -> None:
        """A page that holds known actions, or one action twice."""
        known = self._known(mapped)
        sent = self._sent([one.id for one in known.values() if one.id <= base])
        fresh = {(one.action.source, one.action.external_id, one.action.action) for one in mapped}
        fresh = {identity for identity in fresh if known[identity].id > base}
        for one in mapped:
            action = one.action
            identity = (action.source, action.external_id, action.action)
            remembered = known[identity]
            if identity in fresh:
                fresh.discard(identity)
                self.taken.new += 1
                self._plan_new(remembered.id, one)
                continue
            if remembered.id > base:
                self._flush()  # the same action twice in one page: the first must be in the tables to be compared with
                sent.update(self._sent([remembered.id]))
            known[identity] = self._take_known(remembered, one, sent[remembered.id])

    def _take_known(self, known: Known, one: Mapped, sent: dict[tuple[int, str], Sent]) -> Known:
        facts = _facts(one)
        updated_at = _ms(one.action.updated_at)
        if known.updated_at is not None and updated_at is not None and updated_at < known.updated_at:
            return known  # an older state of an action we know better
        revised = False
        for result in one.results:
            if isinstance(result, Skip):
                revised |= self._skip_known(known.id, result, sent)
            else:
                revised |= self._plan_known(known.id, one, result, sent)
        if facts != known.facts or updated_at != known.updated_at:
            self.conn.execute(UPDATE_ACTION, (*facts[:2], updated_at, *facts[2:], known.id))
            revised |= (facts[2], facts[3], facts[5]) != (known.facts[2], known.facts[3], known.facts[5])
        self.taken.revised += revised
        return Known(known.id, updated_at, facts)

    def _known(self, mapped: Sequence[Mapped]) -> dict[tuple[str, str, str], Known]:
        found: dict[tuple[str, str, str], Known] = {}
        for source in {one.action.source for one in mapped}:
            ids = list({one.action.external_id for one in mapped if one.action.source == source})
            query = (
                "SELECT external_id, action, id, updated_at, kind, occurred_at, value, currency, order_id, status,"
                f" platform, campaign, click FROM action WHERE source = ? AND external_id IN ({_marks(len(ids))})"
            )
            for external_id, action, number, updated_at, *facts in self.conn.execute(query, (source, *ids)):
                found[source, external_id, action] = Known(number, updated_at, tuple(facts))
        return found

    def _sent(self, action_ids: Sequence[int]) -> dict[int, dict[tuple[int, str], Sent]]:
        """By action: the newest revision of each of its keys, by destination and goal."""
        query = (
            "SELECT action_id, destination_id, goal, id, revision, state, attempts, after_id, reached, value, currency, status"
            f" FROM delivery WHERE action_id IN ({_marks(len(action_ids))}) ORDER BY action_id, destination_id, goal, revision"
        )
        found: dict[int, dict[tuple[int, str], Sent]] = {one: {} for one in action_ids}
        for action_id, destination_id, goal, number, revision, state, attempts, after, had, *told in self.conn.execute(
            query, tuple(action_ids)
        ):
            mine = found[action_id]
            before = mine.get((destination_id, goal))
            reached = (before is not None and before.reached) or bool(had) or state == State.IN_FLIGHT
            mine[destination_id, goal] = Sent(number, revision, state, attempts, after, tuple(told), reached)
        return found

    # -- deliveries

    def _plan_new(self, action_id: int, one: Mapped) -> None:
        for result in one.results:
            if isinstance(result, Skip):
                self._skip(action_id, _unsent(result))
            elif result.lane is None and result.status == "active" and not result.identity:
                self._add(action_id, one, result)
            else:
                self._plan_first(action_id, one, result)

    def _plan_first(self, action_id: int, one: Mapped, conversion: Conversion) -> None:
        """The first revision of a key."""
        in_lane = self._in_lane(conversion)
        if conversion.alone is not None and not in_lane:
            if isinstance(conversion.alone, Skip):
                self._skip(action_id, _unsent(conversion.alone))
            else:
                self._plan_first(action_id, one, conversion.alone)
            return
        if conversion.status != "active" and not in_lane:
            self._skip(action_id, Skip(conversion.destination, SkipReason.CANCELLED_UNSENT))
            return
        late = self._late(one, conversion, in_lane)
        one, conversion = self._told_apart(action_id, one, conversion)
        self._insert(action_id, one, conversion, 1, None, State.EXPIRED if late else State.PENDING, late)

    def _in_lane(self, conversion: Conversion) -> bool:
        """Whether it follows something of its order that was sent, or is about to be."""
        lanes = self.lanes.get(conversion.destination)
        return lanes is not None and conversion.lane is not None and lanes.started(conversion.lane)

    def _late(self, one: Mapped, conversion: Conversion, in_lane: bool) -> str:
        """Why the platform could make nothing of it any more, if it is the first of its order and too old for that."""
        first_ms = self._of(conversion).first_ms
        if first_ms is None or conversion.lane is None or in_lane:
            return ""
        late = self.now - (_ms(one.action.occurred_at) or 0) > first_ms
        return (
            f"too late to be tied to a visit: first told more than {first_ms // 86_400_000} days after it happened"
            * late
        )

    def _told_apart(self, action_id: int, one: Mapped, conversion: Conversion) -> tuple[Mapped, Conversion]:
        """Where the platform would take it and another conversion for one row: the nearest that it tells apart.

        That may be a later second, which must not be yet to come when it is sent.
        """
        if not conversion.identity:
            return one, conversion
        conversion, seconds = self.identities[self._of(conversion).id].place(action_id, conversion)
        if seconds:
            moment = (_ms(one.action.occurred_at) or 0) + 1000 * seconds
            one = one._replace(due_at=max(one.due_at, moment + MARGIN_MS))
        return one, conversion

    def _plan_known(self, action_id: int, one: Mapped, new: Conversion, sent: dict[tuple[int, str], Sent]) -> bool:
        """A key seen before, or a destination new to a known action. True when something is to be told."""
        if (self._of(new).id, new.goal) not in sent:
            if isinstance(new.alone, Conversion) and (self._of(new.alone).id, new.alone.goal) in sent:
                new = new.alone
            elif self._went_elsewhere(action_id, new, sent):
                return False
        traits = self._of(new)
        slot = (traits.id, new.goal)
        last = sent.get(slot)
        if last is None:
            self._plan_first(action_id, one, new)
            return False
        told = (new.value, new.currency, new.status)
        if traits.fixed and (told != last.told or last.state in (State.PENDING, State.REFUSED, State.UNMATCHED)):
            if last.reached:
                new = self._as_first_told(last.id, new, traits)
            else:
                one, new = self._told_apart(action_id, one, new)
        if told == last.told:
            if last.state == State.PENDING and last.attempts == 0:
                self._refresh(last.id, new)
                return False
            again = last.state == State.SUPERSEDED and new.status == "active"  # it is to be sent after all
            corrected = last.state in (State.REFUSED, State.UNMATCHED)
            if corrected:
                again = self._corrected(last.id, new.payload, traits)
            elif last.state == State.ACCEPTED:
                again = self._completes(one, new, last, traits)
            if not again:
                return False
        revised = self._revise(action_id, one, new, last, traits)
        if revised is not None:
            sent[slot] = revised
        return revised is not None

    def _went_elsewhere(self, action_id: int, new: Conversion, sent: dict[tuple[int, str], Sent]) -> bool:
        """Whether the platform was told of this action through another door, where it would count twice by this one.

        What only waits at the other door makes way.
        """
        numbers = self.numbers[new.destination]
        if len(numbers) == 1:
            return False
        mine = self._of(new).id
        for (number, _), last in sent.items():
            if number not in numbers or number == mine:
                continue
            if last.reached:
                self._skip(action_id, Skip(new.destination, SkipReason.OTHER_WAY))
                return True
            if last.state in (State.PENDING, State.HELD):
                self._move(State.SUPERSEDED, "it goes by another way in now", last.id, new.destination)
        return False

    def _revise(self, action_id: int, one: Mapped, new: Conversion, last: Sent, traits: Traits) -> Sent | None:
        """A changed value or status: what was not sent is replaced, what was sent is followed by an adjustment."""
        if last.reached and not (traits.adjusts and new.adjusts):
            self._skip(action_id, Skip(new.destination, SkipReason.CANNOT_ADJUST))
            return None
        after: int | None = last.id
        if last.state in (State.PENDING, State.HELD):
            self._move(State.SUPERSEDED, "a newer revision came first", last.id, new.destination)
            after = last.after
        elif last.state in (State.SUPERSEDED, State.EXPIRED):
            after = last.after  # whoever waited behind it goes on waiting for whom it waited
        state, reason = State.PENDING, ""
        if not last.reached and new.status != "active":
            state, reason = State.SUPERSEDED, SkipReason.CANCELLED_UNSENT.value
        elif last.reached and self.now - (_ms(one.action.occurred_at) or 0) > traits.adjust_ms:
            state, reason = State.EXPIRED, "too old to be adjusted"
        elif not last.reached and (late := self._late(one, new, self._in_lane(new))):
            state, reason = State.EXPIRED, late
        number = self._insert(action_id, one, new, last.revision + 1, after, state, reason, replaces=last.id)
        if number is None:
            return None
        told = (new.value, new.currency, new.status)
        return Sent(number, last.revision + 1, state, 0, after, told, last.reached)

    def _as_first_told(self, delivery_id: int, new: Conversion, traits: Traits) -> Conversion:
        """A change of a row whose identity is part of it: that stays what it was, whatever the source says now."""
        self._written(delivery_id)
        query = (
            "SELECT p.body, d.part, d.identity FROM delivery d JOIN payload p ON p.delivery_id = d.id WHERE d.id = ?"
        )
        payload, part, identity = self.conn.execute(query, (delivery_id,)).fetchone()
        return new._replace(payload=traits.merge(payload, new.payload), part=part, identity=identity)

    def _insert(
        self,
        action_id: int,
        one: Mapped,
        conversion: Conversion,
        revision: int,
        after: int | None,
        state: State = State.PENDING,
        reason: str = "",
        replaces: int | None = None,
    ) -> int | None:
        number, payload = self.next_id, conversion.payload
        lanes = self.lanes.get(conversion.destination)
        if lanes is not None and conversion.lane is not None and state is State.PENDING:
            happened = _ms(one.action.occurred_at) or 0
            place = lanes.place(conversion.lane, number, happened, payload, conversion.clear, same_key_as=replaces)
            if place is None:
                self._skip(action_id, Skip(conversion.destination, SkipReason.STALE))
                return None
            after = place.after
            if place.payload is not payload:
                conversion = conversion._replace(payload=place.payload or b"", clear=place.clear)
        self._add(action_id, one, conversion, revision, after, state.value, reason)
        if state is not State.PENDING:
            self.born.append((number, state.value, reason))
            self.taken.superseded[conversion.destination] += state is State.SUPERSEDED
        return number

    def _add(
        self,
        action_id: int,
        one: Mapped,
        new: Conversion,
        revision: int = 1,
        after: int | None = None,
        state: str = "pending",
        reason: str = "",
    ) -> None:
        """One row more to be written at the end of the page."""
        action, number, now, destination_id = one.action, self.next_id, self.now, self._of(new).id
        key = new.key or key_of(action.source, action.external_id, action.action, new.destination, new.goal)
        self.next_id = number + 1
        self.deliveries += (
            number, action_id, destination_id, new.goal, revision, key, new.lane, after, state, reason, one.due_at,
            new.status, new.value, new.currency, new.part, new.identity or None, new.clear, now, now,
        )  # fmt: skip
        self.payloads += (number, new.payload)
        if action_id <= self.base:
            self.unskip.append((action_id, self._destination(new.destination)))

    def _corrected(self, delivery_id: int, payload: bytes, traits: Traits) -> bool:
        """Whether the source has learnt something since a platform refused this row, or found nobody for it."""
        self._written(delivery_id)
        row = self.conn.execute("SELECT body FROM payload WHERE delivery_id = ?", (delivery_id,)).fetchone()
        if row is None:
            return False
        payload = traits.merge(row[0], payload) if traits.snapshots else payload
        return row[0] not in (payload, traits.redact(payload))

    def _completes(self, one: Mapped, new: Conversion, last: Sent, traits: Traits) -> bool:
        """Whether the source has learnt more of an order than its newest state told: a phone, what the goods cost."""
        lanes = self.lanes.get(new.destination)
        if lanes is None or new.lane is None or new.status != "active":
            return False
        newest = lanes.newest(new.lane)
        if newest is None or newest.id != last.id or newest.payload is None or newest.payload == new.payload:
            return False
        young = self.now - (_ms(one.action.occurred_at) or 0) <= traits.adjust_ms
        return young and traits.tells_more(newest.payload, new.payload)

    def _refresh(self, delivery_id: int, new: Conversion) -> None:
        """An unsent delivery takes on what was learnt since: by the source (a corrected phone), or by the configuration."""
        lanes = self.lanes.get(new.destination)
        if lanes is not None and new.lane is not None:
            if new.alone is None:
                lanes.refresh(new.lane, delivery_id, new.payload, new.clear)
            return
        self._written(delivery_id)
        updated = self.conn.execute(
            "UPDATE payload SET body = ? WHERE delivery_id = ? AND body <> ?", (new.payload, delivery_id, new.payload)
        )
        if updated.rowcount:
            self.conn.execute(
                "UPDATE delivery SET part = ?, identity = ?, clear = ? WHERE id = ?",
                (new.part, new.identity or None, new.clear, delivery_id),
            )

    def _skip_known(self, action_id: int, skip: Skip, sent: dict[tuple[int, str], Sent]) -> bool:
        """A known action that would not be sent today. What waits unsent is stopped; what was sent stays as it is."""
        numbers = self.numbers[skip.destination] if skip.destination else [NOBODY]
        mine = [last for (where, _), last in sent.items() if where in numbers]
        if not mine:
            self._skip(action_id, _unsent(skip))
            return False
        stopped = False
        for last in mine:
            if last.reached and skip.reason in UNTOLD:
                self._skip(action_id, skip)
            elif last.state == State.PENDING and not last.reached:
                if skip.reason in UNTOLD:
                    self._move(State.SUPERSEDED, SkipReason.CANCELLED_UNSENT.value, last.id, skip.destination)
                    stopped = True
                elif skip.reason is SkipReason.CONSENT_DENIED:
                    self._move(State.HELD, SkipReason.CONSENT_DENIED.value, last.id, skip.destination)
                    stopped = True
        return stopped

    def _skip(self, action_id: int, skip: Skip) -> None:
        self.skips.append((action_id, self._destination(skip.destination), skip.reason.value, skip.detail, self.now))

    def _destination(self, name: str) -> int:
        """The number that its skips stand under."""
        return self.numbers[name][0] if name else NOBODY

    def _of(self, conversion: Conversion) -> Traits:
        return self.traits[conversion.destination, conversion.door]

    def _move(self, to: State, reason: str, delivery_id: int, destination: str) -> None:
        if to is State.SUPERSEDED:
            self.taken.superseded[destination] += 1
        self._written(delivery_id)
        self.conn.execute(
            "UPDATE delivery SET state = ?, reason = ?, updated_at = ? WHERE id = ?",
            (to, reason, self.now, delivery_id),
        )
        self.moved.setdefault((to.value, reason), []).append(delivery_id)

    # -- the end of the page

    def _written(self, delivery_id: int) -> None:
        """Make sure that a delivery planned earlier in this page can be found in the tables."""
        if delivery_id >= self.unwritten:
            self._flush()

    def _flush(self) -> None:
        self.unwritten = self.next_id
        NEW_DELIVERIES.run(self.conn, self.deliveries)
        NEW_PAYLOADS.run(self.conn, self.payloads)
        self.conn.executemany(
            "DELETE FROM skip WHERE action_id = ? AND (destination_id = ? OR destination_id = 0)", self.unskip
        )
        for skip in self.skips:
            if self.conn.execute(UPSERT_SKIP, skip).rowcount:
                self.taken.skipped[skip[2]] += 1
        self.deliveries.clear()
        self.payloads.clear()
        self.skips.clear()
        self.unskip.clear()
        for lanes in self.lanes.values():
            lanes.write()

    def finish(self, run_id: str | None) -> Taken:
        self._flush()
        if self.next_id > self.first_id:
            body = {"first": self.first_id, "last": self.next_id - 1, "to": "pending", "born": self.born}
            events.append(self.conn, "planned", body, at=self.now, run_id=run_id)
        for (to, reason), ids in self.moved.items():
            body = {"to": to, "reason": reason, "ids": ids}
            events.append(self.conn, "moved", body, at=self.now, run_id=run_id, deliveries=ids)
        return self.taken


def _unsent(skip: Skip) -> Skip:
    """A change that cannot be told, of something that was never sent: there is nothing to take back."""
    return Skip(skip.destination, SkipReason.CANCELLED_UNSENT) if skip.reason in UNTOLD else skip


def _action_row(number: int, one: Mapped, now: int) -> tuple[object, ...]:
    action = one.action
    return (
        number, action.source, action.external_id, action.action, one.kind, _ms(action.occurred_at),
        _ms(action.updated_at), one.value, action.currency, action.order_id, action.status, one.platform, one.campaign,
        one.click, now,
    )  # fmt: skip


def _facts(one: Mapped) -> tuple[object, ...]:
    """What of an action is kept and compared, in the order of `_known`."""
    action = one.action
    return (
        one.kind, _ms(action.occurred_at), one.value, action.currency, action.order_id, action.status, one.platform,
        one.campaign, one.click,
    )  # fmt: skip


def _ms(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1000)


def _lanes_of(one: Mapped, destination: str) -> Iterable[str]:
    for result in one.results:
        if isinstance(result, Conversion) and result.destination == destination and result.lane is not None:
            yield result.lane


def _marks(count: int) -> str:
    return ",".join("?" * count)


def items_text(ids: Sequence[int]) -> str:
    """The rows of a batch in their order, as `batch.items` holds them."""
    return orjson.dumps(list(ids)).decode()
