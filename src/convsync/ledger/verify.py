"""The invariants of DESIGN section 6, each one small function that reads and never writes.

`verify` returns what is broken, as Findings; an empty list is the promise kept. Replaying the history is the heart of
it: starting from nothing, the events alone must lead to the states, the attempts and the batches that the tables hold.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import orjson

from convsync.ledger import events
from convsync.ledger.store import Store
from convsync.model import Finding, State

STATES = [state.value for state in State]
CODE = {state: number + 1 for number, state in enumerate(STATES)}
SHOWN = 20
"""How many broken rows one finding names."""

CONTACT = re.compile(rb'[^\s"@]@[^\s"@]+\.[^\s"@]|"\+\d{7}|"phone":"\d{7,15}"')
"""An e-mail address (not every order id with an @ is one), or a phone number."""

Check = Callable[[Store], Iterator[str]]


def verify(store: Store, expect: str | None = None) -> list[Finding]:
    """Run every check. `expect` is a head (`number:hash`) noted earlier: it must still be part of the history."""
    findings = [Finding("error", check.__name__, "ledger", message) for check in CHECKS for message in check(store)]
    if expect:
        findings += [Finding("error", "head_is_kept", "ledger", message) for message in head_is_kept(store, expect)]
    return findings


def file_is_sound(store: Store) -> Iterator[str]:
    for row in store.conn.execute("PRAGMA quick_check"):
        if row[0] != "ok":
            yield f"SQLite reports: {row[0]}"
    for row in store.conn.execute("PRAGMA foreign_key_check"):
        yield f"table {row[0]}, row {row[1]} points to a row of {row[2]} that is not there"


def one_delivery_per_key_and_revision(store: Store) -> Iterator[str]:
    found = store.conn.execute("SELECT hex(key), revision, count(*) FROM delivery GROUP BY 1, 2 HAVING count(*) > 1")
    yield from (
        f"key {key.lower()} revision {revision} has {n} deliveries" for key, revision, n in found.fetchmany(SHOWN)
    )


def every_action_has_a_delivery_or_a_skip(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT source, external_id, action FROM action a WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.action_id = a.id)"
        " AND NOT EXISTS (SELECT 1 FROM skip s WHERE s.action_id = a.id)"
    )
    yield from (
        f"{source}/{external_id} {action} has neither" for source, external_id, action in found.fetchmany(SHOWN)
    )


def every_waiting_delivery_has_its_payload(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT d.id FROM delivery d LEFT JOIN payload p ON p.delivery_id = d.id"
        " WHERE d.state IN ('pending', 'in_flight', 'unknown') AND p.delivery_id IS NULL"
    )
    yield from (f"delivery {row[0]} has nothing to send" for row in found.fetchmany(SHOWN))


def in_flight_belongs_to_an_open_run(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT d.id, b.run_id FROM delivery d LEFT JOIN batch b ON b.id = d.batch_id LEFT JOIN run r ON r.id = b.run_id"
        " WHERE d.state = 'in_flight' AND (b.state IS NOT 'in_flight' OR r.id IS NULL OR r.ended_at IS NOT NULL)"
    )
    yield from (f"delivery {row[0]} is in flight, but run {row[1]} has ended" for row in found.fetchmany(SHOWN))


def accepted_has_a_batch(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT d.id, d.state FROM delivery d LEFT JOIN batch b ON b.id = d.batch_id"
        " WHERE d.state IN ('accepted', 'confirmed', 'unmatched') AND (b.id IS NULL OR b.answered_at IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM event_delivery e WHERE e.delivery_id = d.id)"
    )
    yield from (f"delivery {row[0]} is {row[1]} without an answered batch" for row in found.fetchmany(SHOWN))


def accepted_has_the_platforms_reference(store: Store) -> Iterator[str]:
    """Where a destination's requests of a kind get a reference at all, each that was taken has one."""
    found = store.conn.execute(
        "SELECT b.id FROM batch b WHERE b.platform_ref IS NULL AND b.state = 'done' AND (b.destination_id, b.part)"
        " IN (SELECT DISTINCT destination_id, part FROM batch WHERE platform_ref IS NOT NULL)"
        " AND EXISTS (SELECT 1 FROM json_each(b.items) i JOIN delivery d ON d.id = i.value"
        "             WHERE d.batch_id = b.id AND d.state IN ('accepted', 'confirmed')"
        "             AND NOT EXISTS (SELECT 1 FROM event_delivery e WHERE e.delivery_id = d.id))"
    )
    yield from (f"batch {row[0]} was accepted without a reference of the platform" for row in found.fetchmany(SHOWN))


def revisions_are_sent_in_order(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT later.id, earlier.id FROM delivery later JOIN delivery earlier ON earlier.id = later.after_id"
        " WHERE later.attempts > 0 AND earlier.attempts > 0 AND later.batch_id <= earlier.batch_id"
        " AND later.first_attempt_at < coalesce(earlier.first_attempt_at, 0)"
    )
    yield from (f"delivery {later} was sent before delivery {earlier}" for later, earlier in found.fetchmany(SHOWN))


def a_held_route_sends_once(store: Store) -> Iterator[str]:
    """What is in doubt on a route that holds or asks is never simply sent again by the settling of a run: on the one a
    person says so, on the other the identical bytes go.

    (That no row is claimed while it is in doubt is part of replaying the history.)
    """
    found = store.conn.execute(
        "SELECT e.batch_id FROM event e JOIN batch b ON b.id = e.batch_id JOIN destination t ON t.id = b.destination_id"
        " WHERE e.kind = 'requeued' AND t.on_unknown <> 'resend' AND json_extract(e.body, '$.on_unknown') IS NOT 'resend'"
    )
    yield from (f"batch {row[0]} was sent again on a route that cannot drop repeats" for row in found.fetchmany(SHOWN))


def rows_stay_what_they_were(store: Store) -> Iterator[str]:
    """Where a platform tells rows apart by what is in them: no two keys are one row there, and no key ever is two; or no
    two of one request, where each request is a table of its own."""
    shared = store.conn.execute(
        "SELECT min(d.id), max(d.id) FROM destination t JOIN delivery d ON d.destination_id = t.id"
        " WHERE t.identities = 'fixed' AND d.identity IS NOT NULL AND (d.reached OR d.attempts)"
        " GROUP BY t.id, d.identity HAVING count(DISTINCT d.key) > 1"
    )
    yield from (f"deliveries {one} and {two} are one row at their platform" for one, two in shared.fetchmany(SHOWN))
    moved = store.conn.execute(
        "SELECT d.id, e.id FROM delivery d JOIN delivery e ON e.action_id = d.action_id AND e.goal = d.goal"
        " AND e.destination_id = d.destination_id AND e.revision < d.revision AND e.identity <> d.identity"
        " JOIN destination t ON t.id = d.destination_id AND t.identities = 'fixed'"
        " WHERE d.identity IS NOT NULL AND e.reached AND d.attempts"
    )
    yield from (
        f"delivery {one} is another row at its platform than delivery {two}" for one, two in moved.fetchmany(SHOWN)
    )
    twice = store.conn.execute(
        "SELECT b.id FROM destination t JOIN batch b ON b.destination_id = t.id CROSS JOIN json_each(b.items) i"
        " CROSS JOIN delivery d ON d.id = i.value WHERE t.identities = 'distinct' AND d.identity IS NOT NULL"
        " GROUP BY b.id, d.identity HAVING count(*) > 1"
    )
    yield from (f"batch {row[0]} holds one row of its platform twice" for row in twice.fetchmany(SHOWN))


def each_action_goes_by_one_way(store: Store) -> Iterator[str]:
    """Where a destination has several routes: what one of them may have told is told by no other."""
    found = store.conn.execute(
        "SELECT d.id, o.id FROM destination y JOIN delivery d ON d.destination_id = y.id AND d.reached"
        " JOIN delivery o ON o.action_id = d.action_id AND o.reached JOIN destination x ON x.id = o.destination_id"
        " WHERE y.door <> '' AND x.name = y.name AND x.id <> y.id"
    )
    yield from (f"deliveries {one} and {two} tell one action by two ways" for one, two in found.fetchmany(SHOWN))


def times_are_plausible(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT id FROM action WHERE occurred_at < 0 OR occurred_at > 4102444800000 OR first_seen_at < 978307200000"
    )
    yield from (f"action {row[0]} has a time that is not UTC milliseconds" for row in found.fetchmany(SHOWN))


def no_contact_in_clear(store: Store) -> Iterator[str]:
    """Payloads hold hashes only: nothing in them looks like an e-mail or a phone number in international form.

    Except what waits for a platform that hashes itself, until it has its verdict.
    """
    found = store.conn.execute(
        "SELECT delivery_id, body FROM payload p JOIN delivery d ON d.id = p.delivery_id WHERE d.clear <> 1"
        " AND (instr(body, CAST('@' AS BLOB)) > 0 OR instr(body, CAST('\"phone\":\"' AS BLOB)) > 0 OR (instr(body, CAST('\"+' AS BLOB)) > 0"
        "  AND CAST(body AS TEXT) GLOB '*\"+[0-9][0-9][0-9][0-9][0-9][0-9][0-9]*'))"
    )
    clear = (number for number, body in found if CONTACT.search(body))
    yield from (f"what delivery {number} sends holds a contact in clear" for number in islice(clear, SHOWN))


def history_is_chained(store: Store) -> Iterator[str]:
    previous = events.GENESIS
    found = store.conn.execute("SELECT seq, at, run_id, batch_id, kind, body, hash FROM event ORDER BY seq")
    for number, (seq, at, run_id, batch_id, kind, body, stored) in enumerate(found, 1):
        if seq != number:
            yield f"event {number} is missing"
            return
        if events.link(previous, seq, at, run_id, batch_id, kind, body) != stored:
            yield f"event {seq} ({kind}) is not what was written, or one before it is not"
            return
        previous = stored


def head_is_kept(store: Store, expect: str | None) -> Iterator[str]:
    number, _, digest = (expect or "").partition(":")
    row = store.conn.execute("SELECT hash FROM event WHERE seq = ?", (int(number or 0),)).fetchone()
    if row is None or not row[0].hex().startswith(digest):
        yield f"the history does not contain the head {expect}: it was cut or rewritten since"


def batches_hold_what_was_claimed(store: Store) -> Iterator[str]:
    found = store.conn.execute(
        "SELECT b.id, b.items, b.n, hex(b.body_sha), e.body FROM batch b"
        " LEFT JOIN event e ON e.batch_id = b.id AND e.kind = 'claimed'"
    )
    for number, items, n, body_sha, text in found:
        said = orjson.loads(text or "{}")
        digest = hashlib.sha256(items.encode()).hexdigest()
        if said.get("items") != digest or said.get("body") != body_sha.lower() or said.get("n") != n:
            yield f"batch {number} does not hold the rows that its claim names"


def states_follow_from_history(store: Store) -> Iterator[str]:
    """Replay every event; then compare state, attempts and batch of every delivery."""
    replay = _Replay(store)
    replay.run()
    yield from replay.wrong[:SHOWN]
    broken = 0
    for number, state, attempts, batch_id in store.conn.execute("SELECT id, state, attempts, batch_id FROM delivery"):
        told = replay.told(number)
        if told != (state, attempts, batch_id or 0):
            broken += 1
            if broken <= SHOWN:
                yield f"delivery {number} is {state} after {attempts} attempts; its history says {told[0]} after {told[1]}"


def counts_of_runs_follow_from_history(store: Store) -> Iterator[str]:
    counted: dict[str, dict[str, int]] = {}
    for run_id, kind, text in store.conn.execute(
        "SELECT run_id, kind, body FROM event WHERE run_id IS NOT NULL"
        " AND kind IN ('claimed', 'resent', 'answered', 'polled', 'found')"
    ):
        said = orjson.loads(text)
        mine = counted.setdefault(run_id, {})
        if kind in ("claimed", "resent"):
            mine["claimed"] = mine.get("claimed", 0) + said["n"]
        for word, n in said.get("counts", {}).items():
            mine[word] = mine.get(word, 0) + n
    for run_id, text in store.conn.execute("SELECT id, counts FROM run WHERE counts IS NOT NULL"):
        destinations = orjson.loads(text).get("destinations", {})
        for word in ("claimed", "accepted", "confirmed", "refused", "unmatched", "unknown"):
            told = sum(one.get(word, 0) for one in destinations.values())
            if told != counted.get(run_id, {}).get(word, 0):
                yield f"run {run_id} says {told} {word}, its history {counted.get(run_id, {}).get(word, 0)}"


class _Replay:
    """The states of all deliveries, as their history tells them. One byte and two integers a delivery."""

    def __init__(self, store: Store) -> None:
        self.store = store
        size = (store.one("SELECT max(id) FROM delivery") or 0) + 1
        self.state = bytearray(size)
        self.attempts = array("q", bytes(8 * size))
        self.batch = array("q", bytes(8 * size))
        self.wrong: list[str] = []

    def told(self, number: int) -> tuple[str, int, int]:
        code = self.state[number]
        return (STATES[code - 1] if code else "never planned", self.attempts[number], self.batch[number])

    def run(self) -> None:
        found = self.store.conn.execute(
            "SELECT e.kind, e.body, e.batch_id, b.items FROM event e LEFT JOIN batch b ON b.id = e.batch_id ORDER BY e.seq"
        )
        for kind, body, batch_id, items in found:
            said = orjson.loads(body)
            if kind == "planned":
                self._planned(said)
            elif batch_id is None:
                self._set(said["ids"], said["to"])
            else:
                self._batch(kind, said, batch_id, orjson.loads(items or "[]"))

    def _planned(self, said: dict[str, Any]) -> None:
        span = range(said["first"], min(said["last"] + 1, len(self.state)))
        self._set(span, said["to"])
        for number, state, _ in said["born"]:
            self._set((number,), state)

    def _set(self, ids: Any, state: str) -> None:
        code = CODE[state]
        for number in ids:
            if number < len(self.state):
                self.state[number] = code

    def _batch(self, kind: str, said: dict[str, Any], batch_id: int, items: list[int]) -> None:
        if kind == "claimed":
            for number in items:
                if self.state[number] != CODE["pending"]:
                    self.wrong.append(
                        f"delivery {number} was claimed for batch {batch_id} while it was {self.told(number)[0]}"
                    )
                self.state[number] = CODE["in_flight"]
                self.batch[number] = batch_id
                self.attempts[number] += 1
            return
        before = CODE[said["from"][0]]
        named = {row[0]: (CODE[row[1]], row[3]) for row in said.get("rows", [])}
        default = (CODE[said["to"]], said.get("verdict", ""))
        for position, number in enumerate(items):
            if self.state[number] != before or self.batch[number] != batch_id:
                continue
            to, verdict = named.get(position, default)
            self.state[number] = to
            self.attempts[number] += (kind == "resent") - (verdict == "returned")


CHECKS: tuple[Check, ...] = (
    file_is_sound,
    one_delivery_per_key_and_revision,
    every_action_has_a_delivery_or_a_skip,
    every_waiting_delivery_has_its_payload,
    in_flight_belongs_to_an_open_run,
    accepted_has_a_batch,
    accepted_has_the_platforms_reference,
    revisions_are_sent_in_order,
    a_held_route_sends_once,
    rows_stay_what_they_were,
    each_action_goes_by_one_way,
    times_are_plausible,
    no_contact_in_clear,
    history_is_chained,
    batches_hold_what_was_claimed,
    states_follow_from_history,
    counts_of_runs_follow_from_history,
)
