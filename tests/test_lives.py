"""Random lives of actions under random faults, against a model: what the platforms hold at the end is the last word."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convsync.config.action import VkTarget, YandexTarget
from convsync.ledger import Patience
from convsync.model import Action
from convsync.sandbox import Sandbox, SandboxConfig
from worlds import StandingClock, World

FAULTS = st.sampled_from(
    [
        None,
        {"on": "google.ingest", "kind": "reset_after"},
        {"on": "google.ingest", "kind": "reset_before"},
        {"on": "google.ingest", "kind": "status", "status": 503},
        {"on": "google.ingest", "kind": "status", "status": 429},
        {"on": "google.ingest", "kind": "garbage"},
        {"on": "google.token", "kind": "status", "status": 500},
        {"on": "yandex.orders", "kind": "reset_after"},
        {"on": "yandex.orders", "kind": "cut_body"},
        {"on": "yandex.orders", "kind": "status", "status": 504},
        {"on": "vk.tracker", "kind": "reset_after"},
        {"on": "vk.tracker", "kind": "reset_before"},
        {"on": "*", "kind": "reset_before", "rate": 0.5, "times": 3},
    ]
)
STEP = st.tuples(
    st.integers(0, 2),  # which action
    st.sampled_from(["active", "active", "active", "refunded", "cancelled"]),
    st.integers(0, 5),  # its value
    FAULTS,
)


Step = tuple[int, str, int, dict[str, object] | None]


def lived(world: World, steps: list[Step]) -> tuple[dict[str, Action], dict[str, list[str]]]:
    """Each step in a run of its own, then quiet ones: the actions as they are at last, and the values each was told with."""
    actions: dict[str, Action] = {}
    told: dict[str, list[str]] = {}
    for which, status, value, fault in steps:
        world.clock.advance(60)
        now, name = world.clock.now(), str(which)
        known = actions.get(name) or world.action(name, occurred_at=now - timedelta(hours=2))
        actions[name] = known._replace(status=status, value=Decimal(value), updated_at=now)
        told.setdefault(name, []).append(str(value if status == "active" else 0))
        world.given(*actions.values())
        if fault:
            world.box.faults.add(fault)
        world.sync()
    world.box.faults.clear()
    for _ in range(3):
        world.clock.advance(3 * 3600)
        world.sync()
    world.is_sound()
    return actions, told


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=1, max_size=8))
def test_the_platforms_end_with_the_last_word_and_never_see_an_older_one_after_a_newer(
    steps: list[Step],
) -> None:
    clock = StandingClock()
    with tempfile.TemporaryDirectory() as folder, Sandbox(SandboxConfig(), clock=clock, port=0) as box:
        world = World(Path(folder), box, clock)
        actions, told = lived(world, steps)
        for name, action in actions.items():
            _google_is_right(world, name, action, told[name])
            _yandex_is_right(world, name, action)
            assert world.hits().get(f"rb-{name}", 0) <= 1
        world.ledger.close()


ADS_FAULTS = st.sampled_from(
    [
        None,
        *[{"on": on, "kind": kind} for on in ("ads.clicks", "ads.adjust") for kind in ("reset_after", "reset_before")],
        {"on": "ads.*", "kind": "status", "code": "INTERNAL"},
        {"on": "ads.*", "kind": "status", "code": "UNAVAILABLE", "applied": True},
        {"on": "ads.*", "kind": "status", "error": "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", "retry_after": 60},
        {"on": "ads.*", "kind": "garbage"},
        {"on": "ads.*", "kind": "reset_before", "rate": 0.5, "times": 3},
    ]
)


@pytest.mark.parametrize(
    ("api", "on_refund"), [("ads", "retract"), ("ads", "zero"), ("data_manager", "retract")], ids=lambda value: value
)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP.flatmap(lambda step: st.tuples(*map(st.just, step[:3]), FAULTS | ADS_FAULTS)), max_size=7))
def test_google_ends_with_the_last_word_through_every_door(
    ads_certificate: Path, api: str, on_refund: str, steps: list[Step]
) -> None:
    clock = StandingClock()
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(SandboxConfig(), clock=clock, ads=True, ads_folder=ads_certificate.parent) as box,
    ):
        world = World(Path(folder), box, clock)
        world.platforms, world.api, world.ads, world.on_refund = ("google",), api, True, on_refund
        actions, told = lived(world, steps)
        for name, action in actions.items():
            counted = world.conversions().get(f"Cj0KCQ-{name}")
            if on_refund == "retract" and counted is not None and counted["retracted"]:
                # what was taken back cannot come again: Google says so, and the row says it too
                assert counted["count"] == 0
                if action.status == "active" and api == "ads":
                    assert world.states("google")[name] == "refused"
            else:
                _google_is_right(world, name, action, told[name])
                assert counted is None or action.status == "active" or on_refund == "zero"
        world.ledger.close()


def _google_is_right(world: World, name: str, action: Action, told: list[str]) -> None:
    counted = world.conversions().get(f"Cj0KCQ-{name}")
    if counted is None:
        assert action.status != "active", "an action that stands was sent"
        return
    assert counted["count"] == 1
    assert counted["value"] == told[-1]
    remaining = iter(told)
    seen = [value for value, _ in itertools.groupby(counted["values"])]  # the same value sent again is no step back
    assert all(any(value == one for one in remaining) for value in seen), f"{counted['values']} does not follow {told}"


def _yandex_is_right(world: World, name: str, action: Action) -> None:
    order = world.orders().get(f"order-{name}")
    if order is None:
        assert action.status != "active"
        return
    assert order["status"] == ("PAID" if action.status == "active" else "CANCELLED")
    assert order["revenue"] == (str(action.value) if action.status == "active" else "0")


LASTING = st.sampled_from(
    [
        None,
        None,
        {"on": "google.ingest", "kind": "reset_after"},
        {"on": "ads.*", "kind": "reset_after", "times": None},
        {"on": "google.ingest", "kind": "reset_before", "times": None},
        {"on": "ads.*", "kind": "reset_before", "times": None},
        {"on": "ads.*", "kind": "status", "code": "INTERNAL", "times": None},
        {"on": "ads.*", "kind": "status", "error": "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", "times": None},
        {"on": "google.*", "kind": "status", "status": 429, "times": None},
    ]
)
"""Faults of a whole run: what it sent is in doubt, or waits, when the next one reads the source again."""
RUN = st.tuples(
    st.integers(0, 1),  # which action
    st.sampled_from(["active", "active", "refunded"]),
    st.integers(1, 4),  # its value
    st.sampled_from(["data_manager", "ads"]),
    st.sampled_from(["zero", "retract", "ignore"]),
    st.sampled_from([60, 1900, 7 * 3600]),  # since the run before
    LASTING,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(RUN, min_size=1, max_size=7), st.sampled_from([0.0, 400.0]))
def test_no_change_of_mind_about_the_way_to_google_loses_or_doubles_anything(
    ads_certificate: Path, runs: list[tuple[int, str, int, str, str, int, dict[str, object] | None]], first_wait: float
) -> None:
    clock = StandingClock()
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(SandboxConfig(), clock=clock, ads=True, ads_folder=ads_certificate.parent) as box,
    ):
        world = World(Path(folder), box, clock)
        world.platforms, world.ads = ("google",), True
        world.patience = Patience(max_attempts=50, give_up_after=1e9, first_wait=first_wait)
        actions: dict[str, Action] = {}
        found = []
        for which, status, value, world.api, world.on_refund, seconds, fault in runs:
            clock.advance(seconds)
            name = str(which)
            known = actions.get(name) or world.action(name, occurred_at=clock.now() - timedelta(hours=2))
            actions[name] = known._replace(status=status, value=Decimal(value), updated_at=clock.now())
            world.given(*actions.values())
            if fault:
                box.faults.add(fault)
            found += world.sync().findings
            box.faults.clear()
        for _ in range(16):
            clock.advance(3 * 3600)
            found += world.sync().findings
        world.is_sound()
        assert not [one for one in found if one.code == "bug" or "could not be built" in one.message]
        assert not {"pending", "unknown", "in_flight"} & {row["state"] for row in world.rows("google")}
        for name, action in actions.items():
            counted = world.conversions().get(f"Cj0KCQ-{name}")
            if action.status == "active" and not (counted and counted["retracted"]):
                assert counted is not None
                assert (counted["count"], counted["value"]) == (1, str(action.value))
        world.ledger.close()


METRICA_FAULTS = st.sampled_from(
    [
        None,
        *[
            {"on": "yandex.conversions", "kind": kind}
            for kind in ("reset_after", "reset_before", "garbage", "cut_body")
        ],
        {"on": "yandex.conversions", "kind": "reset_after", "apply_after_s": 40},
        {"on": "yandex.conversions", "kind": "reset_after", "apply_after_s": 600},
        {"on": "yandex.conversions", "kind": "status", "status": 503},
        {"on": "yandex.conversions", "kind": "status", "status": 420},
        {"on": "yandex.orders", "kind": "reset_after"},
        {"on": "yandex.orders", "kind": "status", "status": 504},
        {"on": "yandex.uploadings", "kind": "status", "status": 500},
        {"on": "yandex.uploading", "kind": "garbage"},
        {"on": "yandex.*", "kind": "reset_before", "rate": 0.5, "times": 4},
    ]
)
METRICA_STEP = st.tuples(
    st.integers(0, 3),  # which action; the even ones are known by a yclid alone
    st.sampled_from(["active", "active", "active", "refunded"]),
    st.integers(1, 5),
    st.booleans(),  # whether its ClientID is known by now
    METRICA_FAULTS,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(METRICA_STEP, min_size=1, max_size=8))
def test_each_action_ends_with_its_last_word_at_one_of_metricas_doors_and_never_at_both(
    steps: list[tuple[int, str, int, bool, dict[str, object] | None]],
) -> None:
    clock = StandingClock()
    with tempfile.TemporaryDirectory() as folder, Sandbox(SandboxConfig(), clock=clock, port=0) as box:
        world = World(Path(folder), box, clock)
        world.platforms, world.patience = ("yandex",), Patience(max_attempts=50, first_wait=0)
        world.yandex_target = lambda action: YandexTarget(status="PAID", goal="qualified")
        happened, actions = clock.now() - timedelta(hours=2), dict[str, Action]()
        for which, status, value, known, fault in steps:
            clock.advance(60)
            name = str(which)
            client = world.action(name).ym_client_id if which % 2 or known else None
            actions[name] = world.action(
                name, occurred_at=happened, status=status, value=Decimal(value), updated_at=clock.now(),
                yclid="1234567890", ym_client_id=client,
            )  # fmt: skip
            world.given(*actions.values())
            if fault:
                box.faults.add(fault)
            world.sync()
        box.faults.clear()
        for _ in range(4):
            clock.advance(20 * 60)
            world.sync()
        world.is_sound()
        _metrica_is_right(world, actions)
        world.ledger.close()


def _metrica_is_right(world: World, actions: dict[str, Action]) -> None:
    told: dict[str, list[dict[str, object]]] = {}
    for row in world.rows("yandex"):
        assert row["state"] in ("accepted", "confirmed", "superseded", "unmatched"), row
        if row["state"] in ("accepted", "confirmed"):
            told.setdefault(row["external_id"], []).append(row)
    orders, offline = world.orders(), world.offline()["conversions"]
    assert all(one["count"] == 1 for one in offline)
    values = []
    for name, rows in told.items():
        assert len({row["route"] for row in rows}) == 1, "one door"
        if rows[0]["route"] == "yandex.orders":
            last = actions[name]
            assert orders[f"order-{name}"]["revenue"] == str(last.value if last.status == "active" else 0)
        else:
            assert f"order-{name}" not in orders
            values.append(str(Decimal(str(rows[-1]["value"])).normalize()))
    assert sorted(one["price"] for one in offline) == sorted(values)


def _listed_as(title: str) -> Callable[[str], VkTarget]:
    return lambda name: VkTarget(goal=f"crm_{name}", list=title)


VK_FAULTS = st.sampled_from(
    [
        None,
        *[
            {"on": on, "kind": kind}
            for on in ("vk.new_list", "vk.list_add", "vk.tracker")
            for kind in ("reset_after", "reset_before", "garbage", "cut_body")
        ],
        {"on": "vk.new_list", "kind": "reset_late", "seconds": 300},
        {"on": "vk.new_list", "kind": "status", "status": 503, "applied": True},
        {"on": "vk.new_list", "kind": "status", "status": 413},
        {"on": "vk.lists", "kind": "status", "status": 500, "times": None},
        {"on": "vk.lists", "kind": "html", "times": None},
        {"on": "vk.*", "kind": "status", "status": 429, "times": None},
        {"on": "vk.*", "kind": "reset_before", "rate": 0.5, "times": 3},
    ]
)
"""A list that arrives late does so within the quarantine: past it, two of one name would be the platform's to drop."""
VK_RUN = st.tuples(
    st.integers(0, 14),  # how many more people
    st.integers(0, 3),  # how many of those known by a phone turn out to have clicked
    st.integers(0, 2),  # how many are cancelled
    st.sampled_from([None, None, False, True]),  # consent of the last one known, where it changes
    st.sampled_from(["new", "append"]),
    st.sampled_from(["Sales", "Sales", "Sold"]),  # the title of the list
    st.sampled_from([60, 400, 1900, 7 * 3600]),  # seconds since the run before
    VK_FAULTS,
)
VkRun = tuple[int, int, int, bool | None, str, str, int, Any]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(VK_RUN, min_size=1, max_size=7))
def test_vk_hears_of_everybody_by_one_way_and_once(runs: list[VkRun]) -> None:
    clock = StandingClock()
    with tempfile.TemporaryDirectory() as folder, Sandbox(SandboxConfig(), clock=clock, port=0) as box:
        world = World(Path(folder), box, clock)
        world.platforms = ("vk",)
        world.patience = Patience(max_attempts=50, give_up_after=1e9, first_wait=0)
        world.source.page = 5
        people: dict[int, Action] = {}
        found = []
        for more, clicked, cancelled, consents, mode, title, seconds, fault in runs:
            clock.advance(seconds)
            world.vk_target = _listed_as(title)
            for number in range(len(people), len(people) + more):
                who = {"rb_clickid": None, "phone": f"+7916{number:07d}", "consent_ad_user_data": True}
                people[number] = world.action(str(number), **who)
            for number, known in list(people.items())[:clicked]:
                people[number] = known._replace(rb_clickid=f"rb-{number}")
            for number, known in list(people.items())[3 : 3 + cancelled]:
                people[number] = known._replace(status="cancelled")
            if consents is not None and people:
                number, known = list(people.items())[-1]
                people[number] = known._replace(consent_ad_user_data=consents)
            world.given(*people.values())
            world.vk_options = {"mode": mode}
            if fault:
                box.faults.add(fault)
            found += world.sync().findings
            box.faults.clear()
        for _ in range(8):
            clock.advance(3 * 3600)
            found += world.sync().findings
        world.is_sound()
        assert not [one for one in found if one.code == "bug" or "could not be built" in one.message]
        rows, hits = world.rows("vk"), world.hits()
        counted: dict[str, int] = {}
        for one in world.lists():
            for contact, count in one["by_contact"].items():
                counted[contact] = counted.get(contact, 0) + count
        assert set(counted.values()) <= {1}
        assert set(hits.values()) <= {1}
        listed = [row for row in rows if row["route"] == "vk.offline_list"]
        assert {row["state"] for row in listed} <= {"confirmed", "pending", "superseded", "held"}
        assert len(counted) == sum(row["state"] == "confirmed" for row in listed)
        assert sum(row["state"] == "pending" for row in listed) < 10, "fewer than a list takes"
        called = [row for row in rows if row["route"] == "vk.pixel" and row["state"] != "superseded"]
        assert {row["state"] for row in called} <= {"accepted", "unknown"}
        assert sum(row["state"] == "accepted" for row in called) <= len(hits) <= len(called)
        assert not {row["external_id"] for row in called} & {
            row["external_id"] for row in listed if row["state"] == "confirmed"
        }
        world.ledger.close()
        for number in range(len(people)):
            mine = [row for row in listed if row["external_id"] == str(number)]
            told = [row for row in mine if row["state"] != "pending"]
            waits = any(row["state"] == "pending" or row["reason"].startswith("in doubt") for row in mine)
            if told and not waits:
                assert b"7916%07d" % number not in (Path(folder) / "ledger.db").read_bytes()
