"""Outcomes in doubt at a platform that can be asked: found and adopted, or sent again byte for byte after the quarantine.

The platform here is a list: what arrived under which token, and what it counts by what identifies a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convsync.destinations import Route
from convsync.errors import NotSent, Unclear
from convsync.ledger import Patience
from convsync.model import (
    WHOLE,
    Action,
    Answer,
    Conversion,
    Group,
    OnUnknown,
    Outcome,
    Person,
    Skip,
    Sought,
    State,
    Verdict,
)
from convsync.net import Wire
from convsync.sandbox import Sandbox
from worlds import StandingClock, World

TAKEN = Answer(Outcome(Verdict.ACCEPTED), ref="up-1", poll_in=None)


@dataclasses.dataclass
class Arrival:
    token: str
    body: bytes
    listed_from: float = 0.0
    """Seconds of the world's clock until which the list does not show it."""


class Registry(Route):
    """Rows are told apart by who and when; a repeat overwrites. `fates` say what becomes of each request in turn."""

    name = "registry"
    route = "registry.rows"
    platform = "yandex"
    account = "1"
    on_unknown = OnUnknown.ASK
    adjusts = True
    fixed = True
    apart = True
    changes_apart = False
    reason_per_row = False
    batch_rows = 100
    in_flight = 1
    max_age = adjust_max_age = timedelta(days=21)
    quarantine = timedelta(minutes=15)
    request_seconds = 1.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.wire = Wire(requests_per_second=1000)
        self.arrivals: list[Arrival] = []
        self.fates: list[str] = []
        self.sent: list[tuple[str, bytes]] = []
        self.asked = 0
        self.deaf = False
        self.extra = b""

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        value = 0 if action.status != "active" else value
        row = {"who": action.ym_client_id, "at": int(action.occurred_at.timestamp()), "value": value}
        return self._conversion(action.status, value, action.currency, "who" if action.ym_client_id else "none", row)

    def _conversion(self, status: str, value: int | None, currency: str | None, part: str, row: Any) -> Conversion:
        return Conversion(
            self.name, "g", orjson.dumps(row), None, status, value, currency, part=part,
            identity=f"{row['who']}/{row['at']}",
        )  # fmt: skip

    def shift(self, conversion: Conversion) -> Conversion:
        row = orjson.loads(conversion.payload)
        row["at"] += 1
        return conversion._replace(payload=orjson.dumps(row), identity=f"{row['who']}/{row['at']}")

    def merge(self, earlier: bytes, later: bytes) -> bytes:
        return orjson.dumps(orjson.loads(earlier) | {"value": orjson.loads(later)["value"]})

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        return orjson.dumps({"token": token, "part": group.part}) + b"\n" + b"\n".join(payloads) + self.extra

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        token = orjson.loads(body.split(b"\n")[0])["token"]
        self.sent.append((token, body))
        fate = self.fates.pop(0) if self.fates else "taken"
        if fate == "lost":
            raise Unclear("cut before it arrived")
        hidden = float(fate.removeprefix("late ")) if fate.startswith("late ") else 0.0
        self.arrivals.append(Arrival(token, body, self.world.clock.now().timestamp() + hidden))
        if fate != "taken":
            raise Unclear("no answer")
        return TAKEN

    def find(self, sought: Sought) -> Answer | None:
        self.asked += 1
        if self.deaf:
            raise NotSent("the list cannot be read")
        now = self.world.clock.now().timestamp()
        assert sought.since <= self.world.clock.now()
        return TAKEN if any(one.token == sought.token and one.listed_from <= now for one in self.arrivals) else None

    def counted(self) -> dict[tuple[str, int], int | None]:
        """What the platform counts: by who and when, the last value."""
        found = {}
        for one in self.arrivals:
            for line in one.body.split(b"\n")[1:]:
                row = orjson.loads(line)
                found[row["who"], row["at"]] = row["value"]
        return found


@pytest.fixture
def registry(world: World, monkeypatch: pytest.MonkeyPatch) -> Registry:
    return opened(world, monkeypatch)


def opened(world: World, monkeypatch: pytest.MonkeyPatch) -> Registry:
    import worlds

    registry = Registry(world)
    world.platforms, world.routes["registry"] = ("registry",), lambda: registry
    target = type("Target", (), {"goal_key": "g", "doors": {"": "g"}})()
    monkeypatch.setitem(worlds.TARGETS, "registry", lambda name: target)
    return registry


def states(world: World) -> set[str]:
    return {row["state"] for row in world.ledger.audit.deliveries()}


def test_a_request_that_arrived_behind_a_lost_answer_is_found_and_not_sent_again(
    world: World, registry: Registry
) -> None:
    registry.fates = ["unanswered"]
    world.given(world.action("a"), world.action("b"))
    summary = world.sync()
    assert states(world) == {State.ACCEPTED}
    assert len(registry.sent) == 1
    assert summary.exit_code == 0
    assert {row["platform_ref"] for row in world.ledger.audit.deliveries()} == {"up-1"}
    world.is_sound()


def test_what_the_list_shows_only_after_forty_seconds_is_not_sent_again_before_the_quarantine_is_over(
    world: World, registry: Registry
) -> None:
    registry.fates = ["late 40"]
    world.given(world.action("a"))
    first = world.sync()
    assert states(world) == {State.UNKNOWN}
    assert first.exit_code == 3
    assert "quarantine" in next(one.advice for one in first.findings if one.code == "unsettled")
    world.clock.advance(30)
    world.sync()
    assert states(world) == {State.UNKNOWN}
    assert registry.asked == 1  # once a minute is enough
    world.clock.advance(31)
    assert world.sync().exit_code == 0
    assert states(world) == {State.ACCEPTED}
    assert len(registry.sent) == 1
    world.is_sound()


@pytest.mark.parametrize(("passes_contacts", "state"), [(False, "accepted"), (True, "held")])
def test_one_who_consents_no_more_keeps_the_others_of_a_request_only_where_it_hands_contacts_on(
    world: World, registry: Registry, passes_contacts: bool, state: str
) -> None:
    registry.passes_contacts = passes_contacts
    registry.fates = ["lost"]
    world.given(world.action("a"), world.action("b"))
    world.sync()
    world.given(world.action("a", consent_ad_user_data=False), world.action("b"))
    for _ in range(2):
        world.clock.advance(1000)
        world.sync()
    assert states(world) == {state}
    assert len(registry.sent) == (1 if passes_contacts else 2)
    world.is_sound()


def test_what_is_not_there_after_the_quarantine_goes_again_with_identical_bytes_and_under_its_token(
    world: World, registry: Registry
) -> None:
    registry.fates = ["lost", "taken"]
    world.given(world.action("a"), world.action("b"))
    world.sync()
    world.given(world.action("a"), world.action("b"), world.action("c"))
    world.sync()
    assert [len(body.split(b"\n")) for _, body in registry.sent] == [3, 2]  # the new one does not wait
    world.clock.advance(16 * 60)
    summary = world.sync()
    assert registry.sent[2] == registry.sent[0]
    assert states(world) == {State.ACCEPTED}
    assert {row["attempts"] for row in world.ledger.audit.deliveries() if row["external_id"] != "c"} == {2}
    assert summary.exit_code == 0
    assert len(registry.counted()) == 3
    world.is_sound()


def test_a_second_lost_answer_begins_a_quarantine_of_its_own(world: World, registry: Registry) -> None:
    registry.fates = ["lost", "lost", "taken"]
    world.given(world.action("a"))
    world.sync()
    world.clock.advance(16 * 60)
    world.sync()
    assert len(registry.sent) == 2
    world.clock.advance(60)
    world.sync()
    assert len(registry.sent) == 2
    world.clock.advance(16 * 60)
    world.sync()
    assert len(registry.sent) == 3
    assert states(world) == {State.ACCEPTED}
    world.is_sound()


def test_what_is_never_found_is_sent_as_often_as_the_configuration_allows_and_then_left_to_a_person(
    world: World, registry: Registry
) -> None:
    registry.fates = ["lost"] * 9
    world.patience = Patience(max_attempts=3, first_wait=0)
    world.given(world.action("a"))
    for _ in range(6):
        world.sync()
        world.clock.advance(16 * 60)
    assert len(registry.sent) == 3
    (row,) = world.ledger.audit.deliveries()
    assert (row["state"], row["reason"]) == (State.HELD, "in doubt: sent 3 times, and never found")
    world.is_sound()


def test_a_list_that_cannot_be_read_decides_nothing(world: World, registry: Registry) -> None:
    registry.fates = ["lost"]
    world.given(world.action("a"))
    world.sync()
    registry.deaf = True
    world.clock.advance(3600)
    assert world.sync().exit_code == 3
    assert states(world) == {State.UNKNOWN}
    assert len(registry.sent) == 1
    world.is_sound()


def test_a_request_that_would_be_other_bytes_today_is_for_a_person(world: World, registry: Registry) -> None:
    registry.fates = ["lost"]
    world.given(world.action("a"))
    world.sync()
    registry.extra = b" "
    world.clock.advance(16 * 60)
    assert world.sync().exit_code == 1
    assert states(world) == {State.HELD}
    assert len(registry.sent) == 1
    world.is_sound()


def test_a_request_about_one_row_of_which_a_person_has_decided_is_not_sent_again(
    world: World, registry: Registry
) -> None:
    registry.fates = ["lost"]
    world.given(world.action("a"), world.action("b"))
    world.sync()
    number = world.ledger.audit.find("shop/a")[0]["id"]
    world.ledger.record.resolve([number], State.REFUSED, "by hand", now=1, run_id=None)
    world.clock.advance(16 * 60)
    world.sync()
    assert world.states("registry") == {"a": "refused", "b": "held"}
    assert len(registry.sent) == 1
    world.is_sound()


def test_a_change_waits_until_the_first_telling_is_settled_and_keeps_its_identity(
    world: World, registry: Registry
) -> None:
    registry.fates = ["late 40"]
    world.given(world.action("a"))
    world.sync()
    world.given(world.action("a", value=Decimal(50), ym_client_id="1700000000000000001"))
    world.sync()
    assert len(registry.sent) == 1
    world.clock.advance(16 * 60)
    world.sync()
    assert len(registry.sent) == 2
    assert list(registry.counted().values()) == [5000]
    world.is_sound()


def test_a_refund_overwrites_the_value_of_the_same_row(world: World, registry: Registry) -> None:
    world.given(world.action("a"))
    world.sync()
    world.given(world.action("a", status="refunded"))
    world.sync()
    assert list(registry.counted().values()) == [0]
    world.is_sound()


def test_two_sales_of_one_client_in_one_second_are_two_rows_for_ever(world: World, registry: Registry) -> None:
    def sale(name: str, **more: Any) -> Action:
        return world.action(name, ym_client_id="1600000000000000001", **more)

    world.given(sale("a"), sale("b"), sale("c"))
    world.sync()
    at = sorted(when for _, when in registry.counted())
    assert at == [at[0], at[0] + 1, at[0] + 2]
    world.given(sale("c", value=Decimal(7)), sale("b"), sale("a"))
    world.sync()
    assert sorted(registry.counted()) == sorted(("1600000000000000001", when) for when in at)
    assert registry.counted()["1600000000000000001", at[2]] == 700
    assert len(registry.sent) == 2
    world.is_sound()


def test_a_dead_runs_request_is_asked_for_before_anything_is_sent_again(world: World, registry: Registry) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> Any:
        raise Killed

    world.given(world.action("a"))
    engine = world.engine()
    registry_send, registry.send = registry.send, die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        engine.sync()
    registry.send = registry_send  # type: ignore[method-assign]
    world.restart()
    world.sync()
    assert (registry.asked, len(registry.sent)) == (1, 0)
    world.clock.advance(16 * 60)
    world.sync()
    assert states(world) == {State.ACCEPTED}
    assert len(registry.sent) == 1
    world.is_sound()


def test_settling_alone_asks_and_sends_nothing(world: World, registry: Registry) -> None:
    registry.fates = ["lost", "lost"]
    world.given(world.action("a"), world.action("b", ym_client_id=None))
    world.sync()
    assert len(registry.sent) == 2
    world.clock.advance(16 * 60)
    assert world.engine().settle().exit_code == 3
    assert (len(registry.sent), states(world)) == (2, {State.UNKNOWN})
    world.sync()
    assert (len(registry.sent), states(world)) == (4, {State.ACCEPTED})


def test_what_a_person_says_of_a_request_in_doubt_leaves_a_sound_ledger(world: World, registry: Registry) -> None:
    registry.fates = ["lost"]
    world.given(world.action("a"))
    world.sync()
    number = world.ledger.audit.find("shop/a")[0]["id"]
    world.ledger.record.resolve([number], State.ACCEPTED, "seen", now=1, run_id=None)
    world.clock.advance(16 * 60)
    world.given(world.action("a"), world.action("b"))
    world.sync()
    assert (len(registry.sent), states(world)) == (2, {State.ACCEPTED})
    world.is_sound()


FATES = st.sampled_from(["taken", "taken", "unanswered", "lost", "late 40", "late 800"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 4), FATES, st.sampled_from([10, 300, 1000])),
    min_size=2,
    max_size=7,
)


@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_gets_lost_each_key_is_one_row_with_its_last_value(
    tmp_path_factory: pytest.TempPathFactory, box: Sandbox, steps: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("life"), box, StandingClock())
        registry, told = opened(world, patch), {}
        happened = world.clock.now() - timedelta(hours=1)
        for name, value, fate, pause in steps:
            registry.fates.append(fate)
            told[name] = world.action(
                name, value=Decimal(value), ym_client_id="1600000000000000001", occurred_at=happened
            )
            world.given(*told.values())
            world.sync()
            world.clock.advance(pause)
        registry.fates = []
        for _ in range(4):
            world.clock.advance(1000)
            world.sync()
        assert states(world) <= {State.ACCEPTED, State.SUPERSEDED}
        assert len(registry.counted()) == len(told)
        assert sorted(registry.counted().values()) == sorted(int(one.value * 100) for one in told.values())
        world.is_sound()
        world.ledger.close()
