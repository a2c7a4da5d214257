"""VK's two ways in, side by side over time: what one may have told the other never tells, and nothing is lost between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from convsync.config.action import VkTarget
from convsync.ledger import Filter, Patience
from convsync.model import Action, State
from convsync.settling import Settling
from test_vk_lists import counted, in_file, of_lines, people, person_of
from worlds import World


@pytest.fixture
def both(world: World) -> Iterator[World]:
    """A world whose actions go to the pixel, else to a list."""
    world.platforms, world.patience = ("vk",), Patience(first_wait=0)
    world.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list=f"{name}s")
    yield world
    world.is_sound()


def with_clicks(actions: list[Action]) -> list[Action]:
    return [one._replace(rb_clickid=f"rb-{one.external_id}") for one in actions]


def shut_lists(world: World) -> None:
    """The keys of the API and every `list` are taken out of the configuration."""
    world.restart()
    world.routes["vk"] = lambda: world.vk()[0]
    world.vk_target = lambda name: VkTarget(goal=f"crm_{name}")


def die_unheard(world: World, kind: str = "reset_after", on: str = "vk.new_list") -> None:
    """A run whose upload gets no answer, and which ends before anybody asks for it."""
    world.box.faults.add(on=on, kind=kind, times=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settling, "settle", lambda self, send=True: None)
        world.sync()
    assert State.UNKNOWN in world.states("vk").values()


def decide(world: World, state: State, to: State) -> int:
    """How many of those in a state a person's word has moved."""
    ids = [row["id"] for row in world.ledger.audit.rows(Filter((state.value,)))]
    now = int(world.clock.now().timestamp() * 1000)
    return len(world.ledger.record.resolve(ids, to, "a person", now=now, run_id=None))


def ways(world: World) -> dict[tuple[str, str], str]:
    """The state by action and route."""
    return {(row["external_id"], row["route"]): row["state"] for row in world.rows("vk")}


# -- a way in that is shut


def test_what_went_by_a_way_that_is_shut_by_now_is_not_told_by_the_other(both: World) -> None:
    both.given(*people(both, 10))
    both.sync()
    shut_lists(both)
    both.given(*with_clicks(people(both, 10)))
    both.sync()
    assert both.hits() == {}
    assert both.ledger.audit.stats()["skipped"] == {"other_way": 10}


def test_what_waits_at_a_way_that_is_shut_is_told_and_its_contacts_are_erased(both: World) -> None:
    both.given(*people(both, 9))
    both.sync()
    shut_lists(both)
    summary = both.sync()
    assert [one.code for one in summary.findings] == ["goal_gone"]
    assert summary.destinations["vk"]["superseded"] == 9
    assert not in_file(both, b"79160000003")
    both.given(*with_clicks(people(both, 9)))
    both.sync()
    assert (set(both.hits().values()), len(both.hits())) == ({1}, 9)


def test_what_is_in_doubt_at_a_way_that_is_shut_is_told_in_every_run(both: World) -> None:
    both.given(*people(both, 10))
    die_unheard(both)
    shut_lists(both)
    both.given(*with_clicks(people(both, 10)))
    for _ in range(2):
        summary = both.sync()
        assert ([one.code for one in summary.findings], summary.exit_code) == (["shut"], 1)
    assert both.hits() == {}


# -- refused by both, and a person


def test_of_two_ways_that_a_person_tries_again_at_once_one_goes(both: World) -> None:
    both.vk_options = {"contact_hash": "md5"}
    both.box.faults.add(on="vk.tracker", kind="status", status=400, times=3)
    both.given(*with_clicks(people(both, 3)))
    both.sync()
    both.box.config.vk.lists.md5_accepted = False
    both.given(*people(both, 12))
    both.sync()
    conn = both.ledger.store.conn
    conn.execute("UPDATE delivery SET not_before = 0")
    told = of_lines(*[(_line(both, number), "invalid_phone") for number in range(3)])
    both.box.faults.add(on="vk.new_list", kind="status", status=400, body=told, times=1)
    both.box.config.vk.lists.md5_accepted = True
    both.sync()
    assert {ways(both)["p0", route] for route in ("vk.pixel", "vk.offline_list")} == {"refused"}
    assert decide(both, State.REFUSED, State.PENDING) == 3
    assert [ways(both)["p0", route] for route in ("vk.pixel", "vk.offline_list")] == ["refused", "pending"]


def _line(world: World, number: int) -> str:
    from hashlib import md5

    return f"{md5(b'7916%07d' % number, usedforsecurity=False).hexdigest()},{world.clock.now():%d.%m.%Y}"


def test_what_waits_does_not_make_way_for_what_was_refused_and_stays_so(both: World) -> None:
    both.box.faults.add(on="vk.tracker", kind="status", status=400, times=1)
    both.given(*with_clicks(people(both, 1)))
    both.sync()
    both.given(*people(both, 1))
    both.sync()
    both.given(*with_clicks(people(both, 1)))  # the click is there again, and the pixel has refused it
    both.sync()
    assert ways(both) == {("p0", "vk.pixel"): "refused", ("p0", "vk.offline_list"): "pending"}


def test_a_known_action_twice_in_a_page_is_planned_once(both: World) -> None:
    both.given(*people(both, 1))
    both.sync()
    both.given(*with_clicks(people(both, 1)) * 2)
    both.sync()
    assert both.hits() == {"rb-p0": 1}
    both.given(both.action("a", rb_clickid=None))
    both.sync()
    both.given(*[both.action("a")] * 2)
    both.sync()
    assert both.hits() == {"rb-p0": 1, "rb-a": 1}


# -- the title of a list


def test_another_title_is_no_other_conversion(both: World) -> None:
    both.given(*people(both, 10))
    both.sync()
    both.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list="Buyers")
    both.given(*people(both, 20))
    both.sync()
    assert sorted(one["name"].rsplit(" ", 1)[0] for one in both.lists()) == ["Buyers phone", "sales phone"]
    assert set(counted(both).values()) == {1}


def test_what_is_in_doubt_under_one_title_is_not_told_under_another(both: World) -> None:
    both.given(*people(both, 10))
    die_unheard(both)
    both.vk_target = lambda name: VkTarget(goal=f"crm_{name}", list="Buyers")
    for _ in range(3):
        both.sync()
        both.clock.advance(1000)
    assert set(counted(both).values()) == {1}


# -- consent that is withdrawn


@pytest.mark.parametrize("consent", [None, False])
def test_without_consent_any_more_what_waits_is_stopped_and_erased(both: World, consent: bool | None) -> None:
    both.given(*people(both, 9))
    both.sync()
    both.given(*people(both, 8), person_of(both, 8, consent_ad_user_data=consent), *people(both, 3, 20))
    both.sync()
    assert [one["rows"] for one in both.lists()] == [11]
    assert both.states("vk")["p8"] == "held"
    assert not in_file(both, b"79160000008")


def test_who_consents_again_is_told_of(both: World) -> None:
    both.given(*people(both, 10))
    both.vk_options = {"min_rows": 11}
    both.sync()
    both.given(*people(both, 9), person_of(both, 9, consent_ad_user_data=False))
    both.sync()
    assert decide(both, State.HELD, State.PENDING) == 0
    both.given(*people(both, 11))
    both.sync()
    assert [one["rows"] for one in both.lists()] == [11]
    assert set(both.states("vk").values()) == {"accepted"}


# -- in doubt


def test_what_a_person_wants_sent_again_and_vk_has_is_not_sent(both: World) -> None:
    both.given(*people(both, 10))
    die_unheard(both)
    assert decide(both, State.UNKNOWN, State.PENDING) == 10
    both.sync()
    assert set(both.states("vk").values()) == {"accepted"}
    assert set(counted(both).values()) == {1}


def test_what_cannot_be_made_again_as_it_was_is_for_a_person(both: World) -> None:
    both.given(*people(both, 10))
    die_unheard(both, "reset_before")
    both.vk_options = {"attribution_period": timedelta(days=30)}
    both.clock.advance(1000)
    assert both.sync().exit_code == 1
    assert {row["reason"] for row in both.rows("vk")} == {
        "in doubt: its request did not arrive, and cannot be made again as it was"
    }
    assert decide(both, State.HELD, State.PENDING) == 10
    both.sync()
    assert set(counted(both).values()) == {1}


def test_nothing_is_added_to_a_list_while_an_addition_is_in_doubt(both: World) -> None:
    both.vk_options = {"mode": "append", "max_rows": 10}
    both.given(*people(both, 10))
    both.sync()
    both.given(*people(both, 20))
    die_unheard(both, on="vk.list_add")
    both.given(*people(both, 30))
    both.box.faults.add(on="vk.lists", kind="status", status=500, times=1)
    both.sync()
    for _ in range(3):
        both.clock.advance(1000)
        both.sync()
    assert set(counted(both).values()) == {1}
    assert set(both.states("vk").values()) == {"confirmed"}


def test_an_addition_in_doubt_is_found_after_the_mode_was_changed(both: World) -> None:
    both.given(*people(both, 10))
    both.sync()
    both.vk_options = {"mode": "append"}
    both.given(*people(both, 20))
    die_unheard(both, on="vk.list_add")
    both.vk_options = {}
    for _ in range(3):
        both.clock.advance(1000)
        both.sync()
    assert set(counted(both).values()) == {1}
    assert set(both.states("vk").values()) == {"confirmed"}


def test_what_waited_till_it_was_too_old_leaves_no_contact_behind(both: World) -> None:
    both.given(*people(both, 9))
    both.sync()
    both.clock.advance(91 * 86_400)
    both.given()
    both.sync()
    assert set(both.states("vk").values()) == {"expired"}
    assert not in_file(both, b"7916000000")
