"""What shares a request, what a change follows, and what is left of a payload afterwards: the engine with a route that
keeps kinds apart and tells of its requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from convsync.destinations import Route
from convsync.errors import Unclear
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
    State,
    Verdict,
    key_of,
)  # fmt: skip
from convsync.net import Wire
from worlds import World

ACCEPTED = Outcome(Verdict.ACCEPTED)


@dataclasses.dataclass
class Request:
    """What reached the platform: its group, and the id and value of each row."""

    group: Group
    rows: list[tuple[str, int | None, str]]


class Desk(Route):
    """A platform that is a list of requests. `answers` are given one a request; then everything is accepted."""

    name = "desk"
    route = "desk.forms"
    platform = "google"
    account = "1"
    on_unknown = OnUnknown.RESEND
    adjusts = True
    reason_per_row = True
    apart = True
    batch_rows = 100
    in_flight = 1
    max_age = adjust_max_age = timedelta(days=90)
    request_seconds = 1.0

    def __init__(self) -> None:
        self.wire = Wire(requests_per_second=1000)
        self.requests: list[Request] = []
        self.checked: list[Request] = []
        self.answers: list[Answer | Exception] = []
        self.checks: list[Answer | None] = []

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        call = action.external_id.startswith("call")
        body = {"id": action.external_id, "value": value, "status": action.status} | ({"phone": "+79"} if call else {})
        key = key_of(action.source, action.external_id, action.action, self.name, "g")
        return Conversion(
            self.name, "g", orjson.dumps(body), None, action.status, value, action.currency, key,
            "call" if call else "", adjusts=not call, clear=call, identity=action.email or "",
        )  # fmt: skip

    def redact(self, payload: bytes) -> bytes:
        return orjson.dumps({name: value for name, value in orjson.loads(payload).items() if name != "phone"})

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        return b"[" + b",".join(payloads) + b"]"

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        yield from map(orjson.loads, payloads)

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        self.requests.append(_request(body, group))
        answer = self.answers.pop(0) if self.answers else Answer(ACCEPTED)
        if isinstance(answer, Exception):
            raise answer
        return dataclasses.replace(answer, ref=f"r{len(self.requests)}")

    def validate(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer | None:
        self.checked.append(_request(body, group))
        return self.checks.pop(0) if self.checks else Answer(ACCEPTED)


def _request(body: bytes, group: Group) -> Request:
    return Request(group, [(row["id"], row["value"], row["status"]) for row in orjson.loads(body)])


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch) -> Desk:
    import worlds

    desk = Desk()
    world.platforms, world.routes["desk"] = ("desk",), lambda: desk
    monkeypatch.setitem(
        worlds.TARGETS, "desk", lambda name: type("Target", (), {"goal_key": "g", "doors": {"": "g"}})()
    )
    return desk


def refused(*rows: int) -> Answer:
    return Answer(ACCEPTED, {row: Outcome(Verdict.REFUSED, "NO: not like this") for row in rows})


def shown(desk: Desk) -> list[tuple[str, bool, list[str]]]:
    return [(one.group.part, one.group.adjusts, [row[0] for row in one.rows]) for one in desk.requests]


def test_what_waits_for_a_section_that_is_gone_is_told(world: World, desk: Desk) -> None:
    desk.answers = [Answer(Outcome(Verdict.RETURNED, "not now", 3600))]
    world.given(world.action("1"))
    world.sync(configured=frozenset({"desk"}))
    world.platforms = ("google",)
    (found,) = world.sync(configured=frozenset({"google"})).findings
    assert (found.level, found.code, found.where) == ("warning", "no_section", "destinations.desk")
    assert found.message.startswith("1 conversion is waiting for it")
    assert world.sync(configured=frozenset({"google", "desk"})).findings == [], "it is only left alone by this run"


# -- how many share one


def test_fewer_than_a_platform_takes_wait_and_the_run_says_so(world: World, desk: Desk) -> None:
    desk.least = 3
    world.given(world.action("1"), world.action("2"))
    summary = world.sync()
    assert (desk.requests, set(world.states("desk").values()), summary.exit_code) == ([], {"pending"}, 0)
    (finding,) = summary.findings
    assert (finding.level, finding.code) == ("info", "gathering")
    assert finding.message.startswith("2 conversions are waiting until there are 3 of a kind")
    world.given(world.action("1"), world.action("2"), world.action("3"))
    assert world.sync().findings == []
    assert shown(desk) == [("", False, ["1", "2", "3"])]
    world.is_sound()


def test_only_kinds_of_which_there_is_enough_go(world: World, desk: Desk) -> None:
    desk.least = 2
    world.given(world.action("call1"), world.action("2"), world.action("3"))
    world.sync()
    assert shown(desk) == [("", False, ["2", "3"])]
    world.given(world.action("call1"), world.action("2"), world.action("3"), world.action("call4"))
    world.sync()
    assert shown(desk)[1:] == [("call", False, ["call1", "call4"])]


def test_one_row_at_the_platform_stands_once_in_a_request(world: World, desk: Desk) -> None:
    desk.distinct = True
    world.given(*(world.action(name, email=who) for name, who in (("1", "a"), ("2", "b"), ("3", "a"), ("4", ""))))
    world.sync()
    assert shown(desk) == [("", False, ["1", "2", "4"]), ("", False, ["3"])]
    world.is_sound()


def test_repeats_of_a_row_do_not_make_a_request_long_enough(world: World, desk: Desk) -> None:
    desk.distinct, desk.least = True, 2
    world.given(world.action("1", email="a"), world.action("2", email="a"))
    world.sync()
    assert desk.requests == []
    world.given(world.action("1", email="a"), world.action("2", email="a"), world.action("3", email="b"))
    world.sync()
    assert shown(desk) == [("", False, ["1", "3"])]
    assert world.states("desk") == {"1": "accepted", "2": "pending", "3": "accepted"}


def test_halves_of_a_refused_request_may_be_shorter(world: World, desk: Desk) -> None:
    desk.least = 2
    desk.answers = [Answer(Outcome(Verdict.RETURNED, "too many"), split=True)]
    world.given(world.action("1"), world.action("2"))
    world.sync()
    assert [[row[0] for row in one.rows] for one in desk.requests] == [["1", "2"], ["1"], ["2"]]


def test_a_dry_run_shows_only_what_would_go(world: World, desk: Desk) -> None:
    desk.least = 2
    world.given(world.action("1"))
    told: list[Any] = []
    summary = world.engine().rehearse(lambda name, rows: told.extend(rows))
    assert (told, [one.code for one in summary.findings]) == ([], ["gathering"])


# -- what shares a request


def test_parts_never_share_a_request(world: World, desk: Desk) -> None:
    world.given(world.action("a"), world.action("call-1"), world.action("b"), world.action("call-2"))
    world.sync()
    assert shown(desk) == [("", False, ["a", "b"]), ("call", False, ["call-1", "call-2"])]
    world.is_sound()


def test_changes_and_first_tellings_never_share_a_request(world: World, desk: Desk) -> None:
    world.given(world.action("a"))
    world.sync()
    world.given(world.action("a", value=Decimal(50)), world.action("b"))
    world.sync()
    assert shown(desk)[1:] == [("", True, ["a"]), ("", False, ["b"])]
    world.is_sound()


def test_each_change_of_a_key_is_dated_later_than_the_one_before(world: World, desk: Desk) -> None:
    world.given(world.action("a"))
    world.sync()
    for value in (50, 40, 30):  # the clock stands still
        world.given(world.action("a", value=Decimal(value)))
        world.sync()
    times = [one.group.at[0] for one in desk.requests[1:]]
    assert times == sorted(set(times)) and len(times) == 3
    world.is_sound()


def test_a_change_is_dated_after_a_conversion_that_lies_slightly_ahead(world: World, desk: Desk) -> None:
    ahead = world.clock.now() + timedelta(minutes=5)
    world.given(world.action("a", occurred_at=ahead))
    world.sync()
    world.clock.advance(600)
    world.sync()
    world.given(world.action("a", occurred_at=ahead, value=Decimal(1)))
    world.sync()
    (change,) = [one for one in desk.requests if one.group.adjusts]
    assert change.group.at[0] > ahead.timestamp()
    assert change.group.taken_at == (int(world.clock.now().timestamp()),)


# -- what a change follows


def test_a_refund_of_what_was_refused_in_the_meantime_is_not_sent(world: World, desk: Desk) -> None:
    desk.answers = [Unclear("reset"), refused(0)]
    world.patience = world.patience._replace(first_wait=3600)
    world.given(world.action("a"))
    world.sync()
    assert world.states("desk") == {"a": "unknown"}
    world.given(world.action("a", status="refunded"))
    world.sync()
    world.clock.advance(4000)
    world.sync()
    assert [(row["revision"], row["state"], row["reason"]) for row in world.rows("desk")] == [
        (1, "refused", "NO: not like this"),
        (2, "superseded", "cancelled_unsent"),
    ]
    assert [one.rows for one in desk.requests] == [[("a", 10000, "active")]] * 2
    world.is_sound()


def test_a_change_of_what_was_refused_is_told_as_new(world: World, desk: Desk) -> None:
    desk.answers = [refused(0)]
    world.given(world.action("a"))
    world.sync()
    world.given(world.action("a", value=Decimal(50)))
    world.sync()
    assert shown(desk) == [("", False, ["a"]), ("", False, ["a"])]
    world.is_sound()


def test_what_a_person_calls_accepted_is_changed_not_told_anew(world: World, desk: Desk) -> None:
    desk.answers = [Answer(Outcome(Verdict.HELD, "a person must look"))]
    world.given(world.action("a"))
    world.sync()
    world.ledger.record.resolve([1], State.ACCEPTED, "seen in the account", now=1, run_id=None)
    world.given(world.action("a", value=Decimal(50)))
    world.sync()
    assert shown(desk)[1:] == [("", True, ["a"])]
    world.is_sound()


def test_a_call_that_changes_stays_as_it_was_sent(world: World, desk: Desk) -> None:
    world.given(world.action("call-1"))
    world.sync()
    world.given(world.action("call-1", value=Decimal(50)))
    summary = world.sync()
    assert summary.taken.skipped["cannot_adjust"] == 1
    assert len(desk.requests) == 1
    world.is_sound()


# -- what the platform had already


def test_a_duplicate_on_a_first_attempt_is_counted_apart(world: World, desk: Desk) -> None:
    desk.answers = [Answer(ACCEPTED, {1: Outcome(Verdict.DUPLICATE, "ID_IN_USE: we have it")})]
    world.given(world.action("a"), world.action("b"))
    summary = world.sync()
    assert {word: n for word, n in summary.destinations["desk"].items() if n} == {
        "claimed": 2, "accepted": 2, "already_there": 1,
    }  # fmt: skip
    assert [row["reason"] for row in world.rows("desk")] == ["", "already there: ID_IN_USE: we have it"]
    world.is_sound()


def test_a_duplicate_after_a_lost_answer_is_what_was_hoped_for(world: World, desk: Desk) -> None:
    desk.answers = [Unclear("reset"), Answer(Outcome(Verdict.DUPLICATE, "ID_IN_USE: we have it"))]
    world.given(world.action("a"))
    summary = world.sync()
    assert (summary.destinations["desk"]["accepted"], summary.destinations["desk"]["already_there"]) == (1, 0)
    assert [(row["state"], row["reason"]) for row in world.rows("desk")] == [("accepted", "")]
    world.is_sound()


# -- contacts in clear


def payloads(world: World) -> list[dict[str, Any]]:
    return [orjson.loads(row[0]) for row in world.ledger.store.conn.execute("SELECT body FROM payload")]


@pytest.mark.parametrize(
    "answer",
    [Answer(ACCEPTED), refused(0), Answer(Outcome(Verdict.UNMATCHED, "nobody"))],
    ids=["accepted", "refused", "unmatched"],
)
def test_a_contact_in_clear_is_erased_with_the_verdict(world: World, desk: Desk, answer: Answer) -> None:
    desk.answers = [answer]
    world.given(world.action("call-1"))
    world.sync()
    assert "phone" not in payloads(world)[0]
    world.is_sound()


@pytest.mark.parametrize(
    "answer",
    [Unclear("reset"), Answer(Outcome(Verdict.LATER, "wait", 3600.0)), Answer(Outcome(Verdict.HELD, "look"))],
    ids=["unknown", "later", "held"],
)
def test_a_contact_in_clear_stays_while_it_may_be_sent_again(world: World, desk: Desk, answer: Any) -> None:
    desk.answers = [answer]
    world.patience = world.patience._replace(first_wait=3600)
    world.given(world.action("call-1"))
    world.sync()
    assert payloads(world)[0]["phone"] == "+79"
    world.is_sound()


def test_what_was_erased_is_not_sent_again(world: World, desk: Desk) -> None:
    desk.answers = [refused(0)]
    world.given(world.action("call-1"))
    world.sync()
    assert world.ledger.record.resolve([1], State.PENDING, "once more", now=1, run_id=None) == []
    assert world.states("desk") == {"call-1": "refused"}


def test_what_was_found_by_nobody_may_be_tried_again(world: World, desk: Desk) -> None:
    desk.answers = [Answer(Outcome(Verdict.UNMATCHED, "nobody"))]
    world.given(world.action("a"))
    world.sync()
    assert world.ledger.record.resolve([1], State.PENDING, "terms accepted since", now=1, run_id=None) == [1]
    world.sync()
    assert world.states("desk") == {"a": "accepted"}
    world.is_sound()


# -- dry run with the platform's word


def rehearse(world: World) -> Any:
    return world.engine().rehearse(lambda name, rows: list(rows) and None, validate=True)


def test_a_validated_dry_run_names_what_would_be_refused_and_keeps_nothing(world: World, desk: Desk) -> None:
    desk.checks = [refused(1)]
    world.given(world.action("a"), world.action("b"))
    summary = rehearse(world)
    (finding,) = [one for one in summary.findings if one.code == "would_refuse"]
    assert "sale b of shop: NO: not like this" in finding.message
    assert (summary.exit_code, desk.requests, world.rows("desk")) == (1, [], [])
    assert "refused" not in {one.code for one in summary.findings}, "the ledger has nothing to show of it"


def test_validation_looks_at_the_rest_when_a_request_is_refused_as_a_whole(world: World, desk: Desk) -> None:
    returned = Outcome(Verdict.RETURNED, "another row was refused")
    desk.checks = [Answer(returned, {0: Outcome(Verdict.REFUSED, "NO")}), refused(1)]
    world.given(world.action("a"), world.action("b"), world.action("c"))
    summary = rehearse(world)
    assert [[row[0] for row in one.rows] for one in desk.checked] == [["a", "b", "c"], ["b", "c"]]
    assert [one.message.split(":")[0] for one in summary.findings if one.code == "would_refuse"] == [
        "would refuse sale a of shop", "would refuse sale c of shop",
    ]  # fmt: skip


def test_validation_halves_a_request_that_names_no_row(world: World, desk: Desk) -> None:
    split = Answer(Outcome(Verdict.RETURNED, "no reason"), split=True)
    desk.checks = [split, Answer(ACCEPTED), Answer(Outcome(Verdict.REFUSED, "NO"))]
    world.given(world.action("a"), world.action("b"))
    summary = rehearse(world)
    assert sum(one.code == "would_refuse" for one in summary.findings) == 1


def test_a_platform_that_cannot_check_says_so(world: World, desk: Desk) -> None:
    desk.checks = [None]
    world.given(world.action("a"))
    summary = rehearse(world)
    assert [one.code for one in summary.findings] == ["cannot_validate"]
    assert summary.exit_code == 0
