"""The process dies at every point where it could: before, inside and after each transaction, before and after each request.

The n-th point is made to kill the run, for n = 1, 2, 3 … until a run passes untouched. Then one quiet run follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from convsync.config.action import VkTarget, YandexTarget
from convsync.ledger.store import Store
from convsync.model import Action
from convsync.net import Reply, Wire
from convsync.sandbox import Sandbox, SandboxConfig
from worlds import StandingClock, World

FAR = 10_000


class Death(BaseException):
    """What no `except Exception` catches: as close to SIGKILL as one process can come to itself."""


class Fate:
    """Kills at the n-th point it passes."""

    def __init__(self, at: int) -> None:
        self.left = at

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Death


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Fate:
    fate = Fate(FAR)
    atomic, exchange, through = Store.atomic, Wire.exchange, Wire.through

    @contextmanager
    def mortal_atomic(self: Store) -> Iterator[object]:
        fate.pass_by()
        with atomic(self) as conn:
            yield conn
            fate.pass_by()
        fate.pass_by()

    def mortal_exchange(self: Wire, *args: object, **options: object) -> Reply:
        fate.pass_by()
        reply = exchange(self, *args, **options)  # type: ignore[arg-type]
        fate.pass_by()
        return reply

    def mortal_through(self: Wire, *args: Any) -> Any:
        fate.pass_by()
        answer = through(self, *args)
        fate.pass_by()
        return answer

    monkeypatch.setattr(Wire, "through", mortal_through)
    monkeypatch.setattr(Store, "atomic", mortal_atomic)
    monkeypatch.setattr(Wire, "exchange", mortal_exchange)
    return fate


def live_through(world: World, fate: Fate, deaths: tuple[int, ...]) -> bool:
    """Run until dead, once for each number in `deaths`; then quietly. True if the first run was not killed at all."""
    untouched = False
    for number, at in enumerate(deaths):
        fate.left = at
        try:
            world.sync()
            world.settle_everything()
            untouched = number == 0
        except Death:
            pass
        world.restart()
        if untouched:
            break
    fate.left = FAR
    world.sync()
    world.settle_everything()
    world.sync()
    return untouched


def everything_counts_once(world: World, actions: int) -> None:
    world.is_sound()
    assert {one["count"] for one in world.conversions().values()} == {1}
    assert len(world.conversions()) == actions
    assert set(world.states("google").values()) == {"confirmed"}
    assert set(world.states("yandex").values()) == {"accepted"}
    hits = world.hits()
    for row in world.rows("vk"):
        click = f"rb-{row['external_id']}"
        if row["state"] == "accepted":
            assert hits.get(click) == 1, "accepted means that it arrived, once"
        else:
            assert row["state"] == "unknown", "what is doubtful is listed"
            assert hits.get(click, 0) <= 1


def new_world(folder: Path) -> tuple[World, Sandbox]:
    clock = StandingClock()
    box = Sandbox(SandboxConfig(), clock=clock, port=0)
    box.__enter__()
    world = World(folder, box, clock)
    world.source.page = 2
    world.batch_rows = {"google": 2}
    lead = world.action("L", "lead", order_id="deal", occurred_at=clock.now() - timedelta(days=2))
    world.given(lead, world.action("S", "sale", order_id="deal", value=Decimal(70)), world.action("3"))
    return world, box


@pytest.mark.slow
def test_a_run_killed_at_any_point_loses_nothing_and_counts_nothing_twice(tmp_path: Path, fate: Fate) -> None:
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        fate.left = FAR
        world, box = new_world(folder)
        with box:
            untouched = live_through(world, fate, (at,))
            everything_counts_once(world, 3)
            assert [one["status"] for one in world.orders()["deal"]["versions"]][-1] == "PAID"
            world.ledger.close()
        if untouched:
            assert at > 40, "the points were really passed"
            return


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3, 60, 7))
def test_a_second_death_during_the_recovery_changes_nothing(tmp_path: Path, fate: Fate, first: int) -> None:
    for second in range(1, 40, 5):
        folder = tmp_path / str(second)
        folder.mkdir()
        fate.left = FAR
        world, box = new_world(folder)
        with box:
            live_through(world, fate, (first, second, second + 2))
            everything_counts_once(world, 3)
            world.ledger.close()


@pytest.mark.slow
@pytest.mark.parametrize("api", ["ads", "data_manager"])
def test_changes_and_retractions_killed_at_any_point_end_with_the_last_word(
    tmp_path: Path, fate: Fate, ads_certificate: Path, api: str
) -> None:
    for at in itertools.count(1):
        clock = StandingClock()
        fate.left = FAR
        with Sandbox(SandboxConfig(), clock=clock, ads=True, ads_folder=ads_certificate.parent) as box:
            folder = tmp_path / str(at)
            folder.mkdir()
            world = World(folder, box, clock)
            world.platforms, world.api, world.ads, world.on_refund = ("google",), api, True, "retract"
            sold, changed, refunded = (world.action(name) for name in ("sold", "changed", "refunded"))
            world.given(sold, changed, refunded)
            world.sync()
            clock.advance(60)
            world.given(sold, changed._replace(value=Decimal(70)), refunded._replace(status="refunded"))
            fate.left = at
            try:
                world.sync()
                untouched = True
            except Death:
                untouched = False
            world.restart()
            fate.left = FAR
            world.sync()
            world.sync()
            told = {one["click"]["gclid"]: (one["count"], one["values"]) for one in world.conversions().values()}
            assert (told["Cj0KCQ-sold"], told["Cj0KCQ-refunded"][0]) == ((1, ["100"]), 0)
            assert (told["Cj0KCQ-changed"][0], told["Cj0KCQ-changed"][1][-1]) == (1, "70")
            world.is_sound()
            world.ledger.close()
        if untouched:
            assert at > 10, "the points were really passed"
            return


DEAL = (
    ("lead", {"order_id": "deal", "value": None, "currency": None}),
    ("qualified", {"order_id": "deal", "value": None, "currency": None}),
    ("sale", {"order_id": "deal", "value": Decimal(100)}),
)
GOALS = {"lead": "crm_lead", "qualified": "qualified", "sale": "good_lead"}
STATUSES = {"lead": "IN_PROGRESS", "qualified": "good_lead", "sale": "PAID"}


def days_of_a_deal(world: World) -> Iterator[list[Action]]:
    """What the CRM tells, day by day: lead, qualified, paid, partly refunded, cancelled. A second deal is told by yclid."""
    actions: dict[str, Action] = {}
    for name, fields in DEAL:
        for deal, more in (("order", {}), ("click", {"order_id": None, "ym_client_id": None, "yclid": "1234567890"})):
            actions[f"{deal}-{name}"] = world.action(f"{deal}-{name}", name, **(fields | more))
        yield list(actions.values())
    for change in ({"value": Decimal(40)}, {"status": "refunded"}):
        for deal in ("order", "click"):
            actions[f"{deal}-sale"] = actions[f"{deal}-sale"]._replace(**change)  # type: ignore[arg-type]
        yield list(actions.values())


@pytest.mark.slow
@pytest.mark.parametrize("killed_on", [0, *(pytest.param(day, marks=pytest.mark.soak) for day in (1, 2, 3)), 4])
def test_a_deal_lives_its_five_days_through_both_doors_whatever_dies_on_one_of_them(
    tmp_path: Path, fate: Fate, killed_on: int
) -> None:
    for at in itertools.count(1):
        clock = StandingClock()
        fate.left = FAR
        with Sandbox(SandboxConfig(), clock=clock) as box:
            folder = tmp_path / str(at)
            folder.mkdir()
            world = World(folder, box, clock)
            world.platforms, world.names = ("yandex",), tuple(STATUSES)
            world.yandex_target = lambda name: YandexTarget(status=STATUSES[name], goal=GOALS[name])
            untouched = True
            for day, actions in enumerate(days_of_a_deal(world)):
                world.given(*actions)
                fate.left = at if day == killed_on else FAR
                try:
                    world.sync()
                except Death:
                    untouched = False
                world.restart()
                fate.left = FAR
                if day == killed_on:
                    world.sync()  # cron comes again, and once more when the quarantine is over
                    clock.advance(16 * 60)
                    world.sync()
                clock.advance(86_400 - 16 * 60)
            world.sync()
            world.sync()
            order, offline = world.orders()["deal"], world.offline()
            assert [one["status"] for one in order["versions"] if one["changed"]] == [
                "IN_PROGRESS", "good_lead", "PAID", "PAID", "CANCELLED",
            ]  # fmt: skip
            assert [one["revenue"] for one in order["versions"] if one["changed"]][2:] == ["100", "40", "0"]
            assert {one["target"]: one["count"] for one in offline["conversions"]} == dict.fromkeys(GOALS.values(), 1)
            assert [one["price"] for one in offline["conversions"] if one["target"] == "good_lead"] == ["0"]
            world.is_sound()
            world.ledger.close()
        if untouched:
            assert at > 15, "the points were really passed"
            return


def buyers(world: World, first: int, count: int) -> list[Action]:
    """Sales that only a phone tells of."""
    return [
        world.action(f"p{one}", rb_clickid=None, phone=f"+7916{one:07d}", consent_ad_user_data=True)
        for one in range(first, first + count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_on", "mode"),
    [
        (0, "append"),
        (2, "new"),
        *(
            pytest.param(day, mode, marks=pytest.mark.soak)
            for day, mode in ((0, "new"), (1, "new"), (1, "append"), (2, "append"))
        ),
    ],
)
def test_people_are_listed_once_and_forgotten_whatever_dies_on_one_of_three_days(
    tmp_path: Path, fate: Fate, killed_on: int, mode: str
) -> None:
    for at in itertools.count(1):
        clock = StandingClock()
        fate.left = FAR
        with Sandbox(SandboxConfig(), clock=clock) as box:
            folder = tmp_path / str(at)
            folder.mkdir()
            world = World(folder, box, clock)
            world.platforms, world.vk_options = ("vk",), {"mode": mode}
            world.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list=f"{name}s")
            told: list[Action] = [world.action("click")]
            untouched = True
            for day, count in enumerate((6, 8, 10)):
                told += buyers(world, 10 * day, count)
                world.given(*told)
                fate.left = at if day == killed_on else FAR
                try:
                    world.sync()
                except Death:
                    untouched = False
                world.restart()
                fate.left = FAR
                if day == killed_on:
                    world.sync()
                    clock.advance(16 * 60)
                    world.sync()
                clock.advance(86_400 - 16 * 60)
            world.sync()
            world.sync()
            counted: dict[str, int] = {}
            for one in world.lists():
                for contact, count in one["by_contact"].items():
                    counted[contact] = counted.get(contact, 0) + count
            assert set(counted.values()) == {1}
            assert len(counted) == 24
            assert world.hits().get("rb-click", 0) <= 1
            listed = {row["state"] for row in world.rows("vk") if row["route"] == "vk.offline_list"}
            assert listed == {"confirmed"}
            world.is_sound()
            world.ledger.close()
            for path in folder.glob("ledger.db*"):
                assert b"7916000" not in path.read_bytes(), f"a phone is left in {path.name}"
        if untouched:
            assert at > 10, "the points were really passed"
            return
