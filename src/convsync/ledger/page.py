"""What is to be told of a page of actions: what is new, what changed, and what makes way for what.

Nothing here knows a platform: what a destination can do comes in as `Traits`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from convsync.ledger.identities import Identities
from convsync.ledger.known import Known, Sent, known_of, sent_of
from convsync.ledger.lanes import Lanes, Member
from convsync.ledger.moves import WITHDRAWN
from convsync.ledger.rows import NOBODY, Rows
from convsync.ledger.store import Insert
from convsync.model import Conversion, Mapped, Skip, SkipReason, State

MARGIN_MS = 60_000
"""How long after its second a row may be sent that is dated ahead of what it tells of."""

CORRECTED = (State.REFUSED, State.UNMATCHED)
"""States out of which a row goes again when its source has learnt something since."""

UNTOLD = (SkipReason.CANNOT_ADJUST, SkipReason.REFUND_IGNORED)
"""Why a change of what was sent is not told."""

NEW_ACTIONS = Insert(
    "action (id, source, external_id, action, kind, occurred_at, updated_at, value, currency, order_id, status,"
    " platform, campaign, click, person, lead_form, first_seen_at)",
    17,
    "ON CONFLICT (source, external_id, action) DO NOTHING",
)
UPDATE_ACTION = """
UPDATE action SET kind = ?, occurred_at = ?, updated_at = ?, value = ?, currency = ?, order_id = ?, status = ?,
                  platform = ?, campaign = ?, click = ?, person = ?, lead_form = ? WHERE id = ?"""


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
    titles: bool = False
    """Whether its goals are only titles to the platform: what was told under one was told under all."""
    passes_contacts: bool = False
    shift: Callable[[Conversion], Conversion] | None = None


class PageWriter:
    """What is to be told of the actions of one page. `traits`: by the name of a destination and its door."""

    def __init__(self, conn: sqlite3.Connection, traits: dict[tuple[str, str], Traits], now: int) -> None:
        self.conn = conn
        self.traits = traits
        self.now = now
        self.numbers: dict[str, list[int]] = {}
        """By name, every door that a destination ever had: what went through one that is shut by now counts as well."""
        for name, number in conn.execute("SELECT name, id FROM destination ORDER BY name, door"):
            self.numbers.setdefault(name, []).append(number)
        self.lanes = {name: Lanes(conn, one.id, one.merge) for (name, _), one in traits.items() if one.snapshots}
        self.identities = {one.id: Identities(conn, one.id, one.shift) for one in traits.values() if one.shift}
        self.rows = Rows(conn, self.numbers, self.lanes.values(), now)
        self.taken = self.rows.taken

    # -- actions

    def take(self, mapped: Sequence[Mapped]) -> None:
        if not mapped:
            return
        if self.lanes:
            mapped = _nameless_last(mapped)
        self.rows.base = base = self.conn.execute("SELECT max(id) FROM action").fetchone()[0] or 0
        actions: list[object] = []
        for number, one in enumerate(mapped, base + 1):
            actions += _action_row(number, one, self.now)
        changes = self.conn.total_changes
        NEW_ACTIONS.run(self.conn, actions)
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
        for number, owners in self.identities.items():
            owners.load(by_destination.get(number, ()))

    def _take_mixed(self, mapped: Sequence[Mapped], base: int) -> None:
        """A page that holds known actions, or one action twice."""
        known = known_of(self.conn, mapped)
        sent = sent_of(self.conn, [one.id for one in known.values() if one.id <= base])
        fresh = {(one.action.source, one.action.external_id, one.action.action) for one in mapped}
        fresh = {identity for identity in fresh if known[identity].id > base}
        seen = set[int]()
        for one in mapped:
            action = one.action
            identity = (action.source, action.external_id, action.action)
            remembered = known[identity]
            if identity in fresh:
                fresh.discard(identity)
                self.taken.new += 1
                self._plan_new(remembered.id, one)
                continue
            if remembered.id > base or remembered.id in seen:
                self.rows.flush()  # the same action twice in one page: the first must be in the tables to be compared with
                sent.update(sent_of(self.conn, [remembered.id]))
            seen.add(remembered.id)
            known[identity] = self._take_known(remembered, one, sent[remembered.id])

    def _take_known(self, known: Known, one: Mapped, sent: dict[tuple[int, str], Sent]) -> Known:
        facts = _facts(one)
        updated_at = _ms(one.action.updated_at)
        if known.updated_at is not None and updated_at is not None and updated_at < known.updated_at:
            return known  # an older state of an action we know better
        revised = False
        for result in one.results:
            if isinstance(result, Skip):
                revised |= self._skip_known(known.id, one, result, sent)
            else:
                revised |= self._plan_known(known.id, one, result, sent)
        if facts != known.facts or updated_at != known.updated_at:
            self.conn.execute(UPDATE_ACTION, (*facts[:2], updated_at, *facts[2:], known.id))
            revised |= (facts[2], facts[3], facts[5]) != (known.facts[2], known.facts[3], known.facts[5])
        self.taken.revised += revised
        return Known(known.id, updated_at, facts)

    # -- deliveries

    def _plan_new(self, action_id: int, one: Mapped) -> None:
        for result in one.results:
            if isinstance(result, Skip):
                self.rows.skip(action_id, _unsent(result))
            elif result.lane is None and result.status == "active" and not result.identity:
                self.rows.add(self._of(result).id, action_id, one, result)
            else:
                self._plan_first(action_id, one, result)

    def _plan_first(self, action_id: int, one: Mapped, conversion: Conversion) -> None:
        """The first revision of a key."""
        in_lane = bool(self._before(action_id, one, conversion))
        if conversion.alone is not None and not in_lane:
            if isinstance(conversion.alone, Skip):
                self.rows.skip(action_id, _unsent(conversion.alone))
            else:
                self._plan_first(action_id, one, conversion.alone)
            return
        if conversion.status != "active" and not in_lane:
            self.rows.skip(action_id, Skip(conversion.destination, SkipReason.CANCELLED_UNSENT))
            return
        late = self._late(action_id, one, conversion)
        one, conversion = self._told_apart(action_id, one, conversion)
        self._insert(action_id, one, conversion, 1, None, State.EXPIRED if late else State.PENDING, late)

    def _before(self, action_id: int, one: Mapped, conversion: Conversion) -> list[Member]:
        """What it follows of its order that was sent, or is about to be."""
        lanes = self.lanes.get(conversion.destination)
        if lanes is None or conversion.lane is None or not lanes.members.get(conversion.lane):
            return []
        return lanes.before(conversion.lane, _ms(one.action.occurred_at) or 0, (action_id, conversion.goal))

    def _late(self, action_id: int, one: Mapped, conversion: Conversion) -> str:
        """Why the platform could make nothing of it any more, if it has nothing of the order and this is too old for that."""
        first_ms = self._of(conversion).first_ms
        if first_ms is None or conversion.lane is None or self.now - (_ms(one.action.occurred_at) or 0) <= first_ms:
            return ""
        if any(before.reached for before in self._before(action_id, one, conversion)):
            return ""
        return f"too late to be tied to a visit: first told more than {first_ms // 86_400_000} days after it happened"

    def _told_apart(self, action_id: int, one: Mapped, conversion: Conversion) -> tuple[Mapped, Conversion]:
        """Where the platform would take it and another conversion for one row: the nearest that it tells apart.

        That may be a later second, which must not be yet to come when it is sent.
        """
        owners = self.identities.get(self._of(conversion).id)
        if not conversion.identity or owners is None:
            return one, conversion
        conversion, seconds = owners.place(action_id, conversion)
        if seconds:
            moment = (_ms(one.action.occurred_at) or 0) + 1000 * seconds
            one = one._replace(due_at=max(one.due_at, moment + MARGIN_MS))
        return one, conversion

    def _plan_known(self, action_id: int, one: Mapped, new: Conversion, sent: dict[tuple[int, str], Sent]) -> bool:
        """A key seen before, or a destination new to a known action. True when something is to be told."""
        new = self._as_it_went(new, sent)
        traits = self._of(new)
        slot = (traits.id, new.goal)
        last = sent.get(slot)
        if (last is None or not last.reached) and self._went_elsewhere(action_id, new, sent):
            return False
        if last is None:
            self._make_way(new, sent)
            self._plan_first(action_id, one, new)
            return False
        told = (new.value, new.currency, new.status)
        if last.reached and new.lane != last.lane:
            new = self._of_its_order(new, last)
        elif not last.reached and new.alone is not None:  # it said whose it is when it was planned
            new = new._replace(payload=traits.merge(self.rows.payload(last.id), new.payload))
        if traits.fixed and (told != last.told or last.state in (State.PENDING, State.SUPERSEDED, *CORRECTED)):
            if last.reached:
                new = self._as_first_told(last.id, new, traits)
            else:
                one, new = self._told_apart(action_id, one, new)
        if told == last.told:
            if last.state == State.PENDING and last.attempts == 0 and new.lane == last.lane:
                self._refresh(last.id, new, one.due_at)
                return False
            if not self._again(action_id, one, new, last, traits):
                return False
        if not last.reached:
            self._make_way(new, sent)
        revised = self._revise(action_id, one, new, last, traits)
        if revised is not None:
            sent[slot] = revised
        return revised is not None

    def _as_it_went(self, new: Conversion, sent: dict[tuple[int, str], Sent]) -> Conversion:
        """Of the two ways that one may go which does not say whose it is: that by which it went, or waits to go."""
        if not isinstance(new.alone, Conversion):
            return new
        here, there = (sent.get((self._of(way).id, way.goal)) for way in (new, new.alone))
        left = here is None or (here.state == State.SUPERSEDED and not here.reached)
        return new.alone if left and there is not None else new

    def _again(self, action_id: int, one: Mapped, new: Conversion, last: Sent, traits: Traits) -> bool:
        """Whether what says the same as before is to be sent once more."""
        if last.state == State.PENDING:
            return last.attempts == 0  # it belongs to another order now
        if last.state == State.HELD:
            return last.erased and not last.reached and new.status == "active"  # the person consents again
        if last.state == State.SUPERSEDED:
            return new.status == "active"  # it is to be sent after all
        if last.state == State.EXPIRED:
            # the configuration gives it more time now
            waits = not last.reached and new.status == "active" and new.lane is not None
            return waits and not self._late(action_id, one, new)
        if last.state in CORRECTED:
            return self._corrected(last.id, new.payload, traits)
        return last.state == State.ACCEPTED and self._completes(one, new, last, traits)

    def _went_elsewhere(self, action_id: int, new: Conversion, sent: dict[tuple[int, str], Sent]) -> bool:
        """Whether the platform was told of this action through another door, or under what is only another title of the same,
        so that it would count twice by this one.
        """
        traits = self._of(new)
        others = self._others(new, sent)
        if any(last.reached and (number != traits.id or traits.titles) for number, last in others):
            self.rows.skip(action_id, Skip(new.destination, SkipReason.OTHER_WAY))
            return True
        return False

    def _make_way(self, new: Conversion, sent: dict[tuple[int, str], Sent]) -> None:
        """What only waits, at another door or for another goal, makes way for what is planned now."""
        for number, last in self._others(new, sent):
            if not last.reached and last.state in (State.PENDING, State.HELD):
                instead = "to another goal" if number == self._of(new).id else "by another way in"
                self.rows.move(State.SUPERSEDED, f"it goes {instead} now", last.id, new.destination)

    def _others(self, new: Conversion, sent: dict[tuple[int, str], Sent]) -> list[tuple[int, Sent]]:
        """What is known of the same action at other doors and for other goals of the destination, and which door."""
        mine, doors = (self._of(new).id, new.goal), self.numbers[new.destination]
        return [(where[0], last) for where, last in sent.items() if where != mine and where[0] in doors]

    def _revise(self, action_id: int, one: Mapped, new: Conversion, last: Sent, traits: Traits) -> Sent | None:
        """A changed value or status: what was not sent is replaced, what was sent is followed by an adjustment."""
        if last.reached and not (traits.adjusts and new.adjusts):
            self.rows.skip(action_id, Skip(new.destination, SkipReason.CANNOT_ADJUST))
            return None
        after: int | None = last.id
        if last.state in (State.PENDING, State.HELD):
            self.rows.move(State.SUPERSEDED, "a newer revision came first", last.id, new.destination)
            after = last.after
        elif last.state in (State.SUPERSEDED, State.EXPIRED):
            after = last.after  # whoever waited behind it goes on waiting for whom it waited
        state, reason = State.PENDING, ""
        if not last.reached and new.status != "active":
            state, reason = State.SUPERSEDED, SkipReason.CANCELLED_UNSENT.value
        elif last.reached and self.now - (_ms(one.action.occurred_at) or 0) > traits.adjust_ms:
            state, reason = State.EXPIRED, "too old to be adjusted"
        elif not last.reached and (late := self._late(action_id, one, new)):
            state, reason = State.EXPIRED, late
        number = self._insert(action_id, one, new, last.revision + 1, after, state, reason, replaces=last.id)
        if number is None:
            return None
        told = (new.value, new.currency, new.status)
        return Sent(number, last.revision + 1, state, 0, after, new.lane, told, last.reached)

    def _of_its_order(self, new: Conversion, last: Sent) -> Conversion:
        """A change of what was told as a state of some order: it stays with that one, whatever the source calls it now."""
        if new.lane is not None and last.lane is not None:
            self.lanes[new.destination].load((last.lane,))
        return new._replace(lane=last.lane)

    def _as_first_told(self, delivery_id: int, new: Conversion, traits: Traits) -> Conversion:
        """A change of a row whose identity is part of it: that stays what it was, whatever the source says now."""
        payload = traits.merge(self.rows.payload(delivery_id), new.payload)
        query = "SELECT part, identity FROM delivery WHERE id = ?"
        part, identity = self.conn.execute(query, (delivery_id,)).fetchone()
        return new._replace(payload=payload, part=part, identity=identity)

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
        number, payload = self.rows.next_id, conversion.payload
        lanes = self.lanes.get(conversion.destination)
        if lanes is not None and conversion.lane is not None and state is State.PENDING:
            happened = _ms(one.action.occurred_at) or 0
            owner = (action_id, conversion.goal)
            worth = conversion.value is not None and conversion.status == "active"
            place = lanes.place(
                conversion.lane, number, owner, happened, payload, conversion.clear, worth, same_key_as=replaces
            )
            if place is None:
                self.rows.skip(action_id, Skip(conversion.destination, SkipReason.STALE))
                return None
            if worth and revision == 1 and lanes.has_another(conversion.lane, owner):
                self.taken.overwritten[conversion.destination] += 1
                self.taken.example.setdefault(conversion.destination, conversion.lane)
            after = place.after
            if place.payload is not payload:
                conversion = conversion._replace(payload=place.payload or b"", clear=place.clear)
        return self.rows.add(self._of(conversion).id, action_id, one, conversion, revision, after, state, reason)

    def _corrected(self, delivery_id: int, payload: bytes, traits: Traits) -> bool:
        """Whether the source has learnt something since a platform refused this row, or found nobody for it."""
        told = self.rows.payload(delivery_id)
        payload = traits.merge(told, payload) if traits.snapshots else payload
        return told not in (payload, traits.redact(payload))

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

    def _refresh(self, delivery_id: int, new: Conversion, due_at: int) -> None:
        """An unsent delivery takes on what its source, or the configuration, says by now."""
        if due_at:  # it is dated ahead now
            self.rows.written(delivery_id)
            due = "UPDATE delivery SET not_before = ?1 WHERE id = ?2 AND not_before < ?1"
            self.conn.execute(due, (due_at, delivery_id))
        lanes = self.lanes.get(new.destination)
        if lanes is None or new.lane is None:
            self.rows.refresh(delivery_id, new)
        elif new.alone is None:
            lanes.refresh(new.lane, delivery_id, new.payload, new.clear)

    def _skip_known(self, action_id: int, one: Mapped, skip: Skip, sent: dict[tuple[int, str], Sent]) -> bool:
        """A known action that would not be sent today. What waits unsent is stopped; what was sent stays as it is, and the
        skip says why if there is something to be told of it."""
        numbers = self.numbers[skip.destination] if skip.destination else [NOBODY]
        mine = [(where, last) for (where, _), last in sent.items() if where in numbers]
        if not mine:
            self.rows.skip(action_id, _unsent(skip))
            return False
        stopped = False
        for where, last in mine:
            if last.reached:
                if (
                    (last.state == State.UNKNOWN and self._withdrawn(where, skip))
                    or skip.reason in UNTOLD
                    or _differs(one, last)
                ):
                    self.rows.skip(action_id, skip)
            elif last.state == State.PENDING:
                if skip.reason in UNTOLD or one.action.status != "active":
                    self.rows.move(State.SUPERSEDED, SkipReason.CANCELLED_UNSENT.value, last.id, skip.destination)
                    stopped = True
                elif skip.reason in WITHDRAWN:
                    self.rows.move(State.HELD, skip.reason.value, last.id, skip.destination)
                    stopped = True
        return stopped

    def _withdrawn(self, destination_id: int, skip: Skip) -> bool:
        """Whether what is in doubt there must not be sent again: its contact would be handed on without consent."""
        return skip.reason in WITHDRAWN and any(
            one.id == destination_id and one.passes_contacts for one in self.traits.values()
        )

    def _of(self, conversion: Conversion) -> Traits:
        return self.traits[conversion.destination, conversion.door]


def _nameless_last(mapped: Sequence[Mapped]) -> Sequence[Mapped]:
    """What does not say whose it is behind what may say it, unless an action stands there twice."""
    nameless = {at for at, one in enumerate(mapped) if any(_is_nameless(result) for result in one.results)}
    if not nameless or len({one.action[:3] for one in mapped}) < len(mapped):
        return mapped
    return [one for _, one in sorted(enumerate(mapped), key=lambda pair: pair[0] in nameless)]


def _is_nameless(result: Conversion | Skip) -> bool:
    return isinstance(result, Conversion) and result.alone is not None


def _differs(one: Mapped, last: Sent) -> bool:
    """Whether the source says another amount or status than was sent."""
    value, currency, status = last.told
    if one.action.status != status:
        return True
    return None not in (value, one.value) and (one.value, one.action.currency) != (value, currency)


def _unsent(skip: Skip) -> Skip:
    """A change that cannot be told, of something that was never sent: there is nothing to take back."""
    return Skip(skip.destination, SkipReason.CANCELLED_UNSENT) if skip.reason in UNTOLD else skip


def _action_row(number: int, one: Mapped, now: int) -> tuple[object, ...]:
    action = one.action
    return (
        number, action.source, action.external_id, action.action, one.kind, _ms(action.occurred_at),
        _ms(action.updated_at), one.value, action.currency, action.order_id, action.status, one.platform, one.campaign,
        one.click, one.person, action.lead_form is not None, now,
    )  # fmt: skip


def _facts(one: Mapped) -> tuple[object, ...]:
    """What of an action is kept and compared, in the order of `_known`."""
    action = one.action
    return (
        one.kind, _ms(action.occurred_at), one.value, action.currency, action.order_id, action.status, one.platform,
        one.campaign, one.click, one.person, action.lead_form is not None,
    )  # fmt: skip


def _ms(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1000)


def _lanes_of(one: Mapped, destination: str) -> Iterable[str]:
    for result in one.results:
        if isinstance(result, Conversion) and result.destination == destination and result.lane is not None:
            yield result.lane
