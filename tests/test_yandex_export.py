"""The file that Direct's Conversion Centre fetches: what is in it, what the ledger says of it, and who dies in between."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from convsync.config.action import YandexTarget
from convsync.destinations.yandex import Orders, centre, states
from convsync.errors import Exit, UsageError
from convsync.ledger.export import EXPORTED, WITHIN, InFile
from convsync.ledger.life import tell
from convsync.ledger.store import Store
from convsync.mapping import Address, Mapper, Rule
from convsync.model import Action, State
from convsync.sync import Destination, Engine, Span, Summary
from worlds import World

MOSCOW = ZoneInfo("Europe/Moscow")
STATUSES = {"lead": "IN_PROGRESS", "good": "good_lead", "sale": "PAID"}
Rows = list[dict[str, str]]


class Death(BaseException):
    """What no `except Exception` catches."""


class Memory:
    """A file in memory: `made` is beside the old one, `there` is what Direct fetches."""

    def __init__(self, hashed: bool = True) -> None:
        self.hashed = hashed
        self.made = self.there = b""
        self.dies = ""

    def newest(self, payloads: Sequence[bytes]) -> bytes:
        return centre.newest(payloads)

    def write(self, payloads: Iterator[bytes]) -> None:
        self.made = b"".join(centre.lines(payloads, MOSCOW, hashed=self.hashed))
        self._die("written")

    def publish(self) -> None:
        self._die("marked")
        self.there = self.made
        self._die("published")

    def _die(self, when: str) -> None:
        if self.dies == when:
            raise Death

    @property
    def rows(self) -> Rows:
        return list(csv.DictReader(io.StringIO(self.there.decode()), delimiter=";"))

    @property
    def row(self) -> dict[str, str]:
        (one,) = self.rows
        return one


class Desk:
    """A world whose only destination is a file."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sheet = Memory()
        self.contact_hash: Any = "md5"

    def engine(self) -> Engine:
        world = self.world
        route = Orders(
            "yandex",
            counter_id="12345678",
            token="",
            wire=world.wire(),
            metrica_url=world.box_url,
            counter_timezone="Europe/Moscow",
            contact_hash=self.contact_hash,
        )
        rules = {name: Rule(name, (Address(route, YandexTarget(status=word)),)) for name, word in STATUSES.items()}
        return Engine(
            world.ledger,
            [Destination(route, world.patience)],
            Mapper(rules, [route], "RU"),
            [world.source],
            clock=world.clock,
            stop=world.stop,
            by_file=frozenset({"yandex"}),
        )

    def action(self, action: str, order: str = "A-1", hours: float = 1, **more: Any) -> Action:
        known = {"occurred_at": self.world.clock.now() - timedelta(hours=hours), "order_id": order} | more
        return self.world.action(f"{order}-{action}", action, **known)

    def given(self, *actions: Action) -> None:
        """What the source has, beside what it had."""
        kept = {one.external_id: one for one in (*self.world.source.actions, *actions)}
        self.world.given(*kept.values())

    def export(self, days: float = 3, until: datetime | None = None, **options: Any) -> tuple[Summary, InFile | None]:
        now = self.world.clock.now()
        return self.engine().export("yandex", self.sheet, Span(now - timedelta(days=days), until or now), **options)

    def in_file(self, **options: Any) -> InFile:
        summary, found = self.export(**options)
        assert found is not None
        assert summary.exit_code == Exit.OK
        return found

    def states(self) -> dict[str, tuple[str, str]]:
        """By action, its newest revision."""
        rows = self.world.ledger.audit.deliveries()
        return {row["external_id"]: (row["state"], row["reason"]) for row in rows}

    def confirm(self) -> None:
        ids = [row["id"] for row in self.world.ledger.audit.find("shop/A-1-lead") if row["state"] == "held"]
        now = int(self.world.clock.now().timestamp() * 1000)
        self.world.ledger.record.resolve(ids, State.ACCEPTED, "a person: seen", now=now, run_id=None)

    def events(self) -> int:
        return int(self.world.ledger.store.one("SELECT count(*) FROM event"))

    def fetch(self) -> dict[str, Any]:
        """Direct takes the file to Metrica. Returns what is known of the orders there."""
        url = f"{self.world.box_url}/cdp/api/v1/counter/12345678/data/simple_orders"
        reply = requests.post(
            url,
            params={"merge_mode": "SAVE", "delimiter_type": "SEMICOLON"},
            files={"file": ("orders.csv", self.sheet.there)},
            headers={"Authorization": "OAuth sandbox-token"},
            timeout=5,
        )
        assert reply.status_code == 200, reply.text
        told = reply.json()["uploading"]
        assert (told["api_validation_status"], told["elements_count"]) == ("PASSED", len(self.sheet.rows))
        return self.world.orders()


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def state(**told: Any) -> bytes:
    return states.packed({"id": "A-1", "created": 0, "order_status": "PAID", "client_ids": ["1600000000001"]} | told)


# -- who dies, and what does not fit


@pytest.mark.parametrize("dies", ["written", "marked", "published"])
def test_whoever_dies_while_a_file_is_made_has_its_orders_in_the_next_one(desk: Desk, dies: str) -> None:
    desk.given(desk.action("lead"))
    desk.in_file()
    old = desk.sheet.there
    desk.given(desk.action("sale"), desk.action("sale", "B-2"))
    desk.sheet.dies = dies
    with pytest.raises(Death):
        desk.export()
    assert (desk.sheet.there == old) == (dies != "published")
    assert desk.states()["B-2-sale"][0] == ("pending" if dies == "written" else "held")
    desk.world.restart()
    desk.sheet.dies = ""
    found = desk.in_file()
    assert found == (InFile(2, 1, 1) if dies == "written" else InFile(2, 0, 0))
    assert [row["order_status"] for row in desk.sheet.rows] == ["PAID", "PAID"]


@pytest.mark.parametrize("point", range(1, 40))
def test_a_death_at_any_transaction_loses_no_order(desk: Desk, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    desk.given(desk.action("lead"), desk.action("good", hours=0.5), desk.action("sale", "B-2"))
    left, atomic = point, Store.atomic

    @contextmanager
    def mortal(store: Store) -> Iterator[object]:
        nonlocal left
        with atomic(store) as conn:
            yield conn
            left -= 1
            if left == 0:
                raise Death
        left -= 1
        if left == 0:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Store, "atomic", mortal)
        try:
            desk.export()
        except Death:
            desk.world.restart()
    desk.in_file()
    assert {row["id"]: row["order_status"] for row in desk.sheet.rows} == {"A-1": "good_lead", "B-2": "PAID"}
    assert {word for word, _ in desk.states().values()} == {"held"}


def test_a_file_that_cannot_be_made_marks_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.given(desk.action("lead"))

    def full(payloads: Iterator[bytes]) -> None:
        raise UsageError("The file would be too large.", "Write a part of it.")

    monkeypatch.setattr(desk.sheet, "write", full)
    summary, found = desk.export()
    assert (found, summary.exit_code) == (None, Exit.USAGE)
    assert "too large" in next(one.message for one in summary.findings if one.code == "export")
    assert desk.states()["A-1-lead"] == ("pending", "")


def test_an_interrupted_run_makes_no_file(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    desk.world.stop.set()
    summary, found = desk.export()
    assert (found, summary.exit_code, desk.sheet.made) == (None, Exit.INTERRUPTED, b"")


def test_an_order_that_lost_what_it_would_tell_stops_the_file(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    desk.in_file()
    desk.world.ledger.store.conn.execute("DELETE FROM payload")
    summary, found = desk.export()
    assert found is None
    assert any("1 orders have lost" in one.message for one in summary.findings)


def test_states_given_as_orders_twice_are_no_file() -> None:
    with pytest.raises(ValueError, match="twice"):
        list(centre.lines([state(), state()], UTC, hashed=True))


# -- what is in it


def test_a_file_without_orders_is_its_header(desk: Desk) -> None:
    assert desk.in_file() == InFile(0, 0, 0)
    assert desk.sheet.there == (
        b"id;create_date_time;client_uniq_id;client_ids;emails_md5;phones_md5;order_status;revenue;cost;goals;currency\n"
    )


def test_an_order_is_dated_on_the_counters_clock_and_several_ids_stand_in_quotes(desk: Desk) -> None:
    happened = datetime(2026, 11, 22, 8, 0, 5, tzinfo=UTC)
    ids = "1600000000001, 1600000000002"
    desk.given(desk.action("sale", occurred_at=happened, ym_client_id=ids, email="mail@yandex.ru", cost=Decimal(30)))
    desk.in_file()
    header, line, _ = desk.sheet.there.split(b"\n")
    assert header.startswith(centre.BEGINS)
    assert line == (
        b'A-1;2026-11-22 11:00:05;;"1600000000001,1600000000002";3c56ff8fef0f6c65b36b2d25720fe276;;PAID;100.00;30.00;;RUB'
    )


def test_metrica_takes_the_file_and_a_repeat_of_it_counts_nothing_twice(desk: Desk) -> None:
    desk.given(desk.action("lead"), desk.action("good", "B;2"), desk.action("sale", 'C "3"', hours=50))
    desk.in_file()
    first = desk.fetch()
    desk.in_file()
    again = desk.fetch()
    assert {name: (one["status"], one["goals"]) for name, one in again.items()} == {
        "A-1": ("IN_PROGRESS", ["CRM: Order created"]),
        "B;2": ("good_lead", ["good_lead"]),
        'C "3"': ("PAID", ["CRM: Order created", "CRM: Order paid"]),
    }
    assert [one["goals"] for one in first.values()] == [one["goals"] for one in again.values()]
    assert not any(version["changed"] for one in again.values() for version in one["versions"][1:])


def test_one_row_an_order_its_newest_state_with_the_goal_of_the_one_it_passes_over(desk: Desk) -> None:
    lead = desk.action("lead", hours=9, email="mail@yandex.ru")
    desk.given(lead, desk.action("good", hours=5), desk.action("sale", hours=1))
    assert desk.in_file() == InFile(1, 1, 0)
    row = desk.sheet.row
    assert (row["order_status"], row["goals"], row["revenue"]) == ("PAID", "good_lead", "100.00")
    assert row["create_date_time"] == lead.occurred_at.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S")
    assert row["emails_md5"] == "3c56ff8fef0f6c65b36b2d25720fe276"
    assert desk.states() == {
        "A-1-lead": ("held", WITHIN),
        "A-1-good": ("held", WITHIN),
        "A-1-sale": ("held", EXPORTED),
    }
    assert desk.fetch()["A-1"]["goals"] == ["CRM: Order created", "CRM: Order paid", "good_lead"]


def test_a_goal_told_in_an_earlier_file_stays_while_its_state_would(desk: Desk) -> None:
    desk.given(desk.action("good"))
    desk.in_file()
    desk.given(desk.action("sale", hours=0))
    desk.world.clock.advance(3600)
    assert desk.in_file() == InFile(1, 0, 1)
    assert desk.sheet.row["goals"] == "good_lead"  # Direct may have fetched neither file before
    desk.world.clock.advance(2.99 * 86_400)
    desk.in_file()
    assert desk.sheet.row["goals"] == ""


@pytest.mark.parametrize(
    ("earlier", "last", "goals"),
    [
        ({"order_status": "good_lead"}, {"revenue": "900", "currency": "RUB"}, ["good_lead"]),
        ({"order_status": "good_lead", "revenue": "200", "currency": "RUB"}, {"currency": "RUB"}, ["good_lead:200"]),
        ({"order_status": "good_lead", "revenue": "200", "currency": "USD"}, {"currency": "RUB"}, ["good_lead"]),
        (
            {"order_status": "good_lead", "revenue": "200", "cost": ["50.5", "RUB"], "currency": "RUB"},
            {"currency": "RUB"},
            ["good_lead:149.5"],
        ),
        (
            {"order_status": "good_lead", "revenue": "20", "cost": ["50", "RUB"], "currency": "RUB"},
            {"currency": "RUB"},
            ["good_lead"],
        ),
        ({"order_status": "good_lead"}, {"goals": ["good_lead:5", "big"]}, ["good_lead:5", "big"]),
        ({"order_status": "IN_PROGRESS"}, {}, None),
        ({"order_status": "good_lead"}, {"order_status": "good_lead"}, None),
        ({"order_status": "good_lead"}, {"order_status": "CANCELLED"}, None),
        ({"order_status": "good_lead"}, {"order_status": "SPAM"}, None),
    ],
)
def test_a_goal_passed_over_comes_with_the_income_of_its_own_state(
    earlier: dict[str, Any], last: dict[str, Any], goals: list[str] | None
) -> None:
    assert orjson.loads(centre.newest([state(**earlier), state(**last)])).get("goals") == goals


def test_a_sale_of_an_exported_lead_is_in_the_next_file_as_the_same_order(desk: Desk) -> None:
    desk.given(lead := desk.action("lead", hours=5))
    desk.in_file()
    desk.fetch()
    desk.given(desk.action("sale", hours=1))
    assert desk.in_file() == InFile(1, 0, 1)
    assert desk.sheet.row["create_date_time"] == f"{lead.occurred_at.astimezone(MOSCOW):%Y-%m-%d %H:%M:%S}"
    assert desk.fetch()["A-1"]["goals"] == ["CRM: Order created", "CRM: Order paid"]


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_refund_of_an_exported_order_is_told_however_long_after(desk: Desk, confirmed: bool) -> None:
    sale = desk.action("sale")
    desk.given(desk.action("lead", hours=2), sale)
    desk.in_file()
    desk.fetch()
    if confirmed:
        desk.confirm()
    desk.world.clock.advance(30 * 86_400)
    assert desk.in_file() == InFile(0, 0, 0)
    desk.given(sale._replace(status="refunded"))
    assert desk.in_file() == InFile(1, 0, 1)
    row = desk.sheet.row
    assert (row["order_status"], row["revenue"]) == ("CANCELLED", "0")
    order = desk.fetch()["A-1"]
    assert (order["status"], order["revenue"], len(order["versions"])) == ("CANCELLED", "0", 2)


def test_a_sale_cancelled_before_any_file_is_in_none(desk: Desk) -> None:
    sale = desk.action("sale")
    desk.given(sale)
    desk.engine().sync()
    desk.given(sale._replace(status="cancelled"))
    assert desk.in_file() == InFile(0, 0, 0)


def test_a_changed_amount_replaces_what_was_in_the_file(desk: Desk) -> None:
    sale = desk.action("sale")
    desk.given(sale)
    desk.in_file()
    desk.given(sale._replace(value=Decimal("70.00")))
    assert desk.in_file() == InFile(1, 0, 1)
    assert desk.sheet.row["revenue"] == "70.00"


def test_an_order_stays_in_the_files_for_three_days_whatever_a_person_says(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    desk.in_file()
    desk.confirm()
    for _ in range(2):
        desk.world.clock.advance(86_400)
        assert desk.in_file() == InFile(1, 0, 0)
    desk.world.clock.advance(86_401)
    assert desk.in_file() == InFile(0, 0, 0)


def test_an_earlier_since_brings_back_what_has_left_the_files(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    desk.in_file()
    desk.world.clock.advance(10 * 86_400)
    assert desk.in_file() == InFile(0, 0, 0)
    assert desk.in_file(days=30) == InFile(1, 0, 0)


def test_what_came_to_light_late_is_in_the_file_and_stays_there_too(desk: Desk) -> None:
    desk.given(desk.action("lead", hours=10 * 24))
    assert desk.in_file() == InFile(1, 1, 0)
    desk.world.clock.advance(2 * 86_400)
    assert desk.in_file() == InFile(1, 0, 0)


def test_an_older_state_never_follows_a_newer_one(desk: Desk) -> None:
    """A file of days gone by does not turn back an order that was in a later file in a later state."""
    desk.given(desk.action("lead", hours=60), desk.action("sale", hours=1))
    desk.in_file()
    assert desk.in_file(until=desk.world.clock.now() - timedelta(hours=30)) == InFile(0, 0, 0)


def test_what_happens_after_the_end_of_the_span_waits(desk: Desk) -> None:
    desk.given(desk.action("lead", hours=60), desk.action("sale", hours=1))
    assert desk.in_file(until=desk.world.clock.now() - timedelta(hours=30)) == InFile(1, 1, 0)
    assert desk.sheet.row["order_status"] == "IN_PROGRESS"
    assert desk.states()["A-1-sale"][0] == "pending"


def test_what_is_dated_ahead_of_our_clock_waits_for_its_time(desk: Desk) -> None:
    desk.given(desk.action("lead", hours=-2))
    assert desk.in_file(until=desk.world.clock.now() + timedelta(days=1)) == InFile(0, 0, 0)
    desk.world.clock.advance(3 * 3600)
    assert desk.in_file() == InFile(1, 1, 0)


# -- what the ledger says of it


def test_a_file_written_again_changes_nothing_in_the_ledger(desk: Desk) -> None:
    desk.given(desk.action("lead"), desk.action("sale"))
    desk.in_file()
    events, there = desk.events(), desk.sheet.there
    desk.in_file()
    assert (desk.events(), desk.sheet.there) == (events, there)


def test_a_dry_run_shows_the_file_and_keeps_nothing(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    summary, found = desk.export(dry_run=True)
    assert (found, summary.head, summary.dry_run) == (InFile(1, 1, 0), "", True)
    assert desk.sheet.there.count(b"\n") == 2
    assert desk.events() == 0
    assert list(desk.world.ledger.audit.deliveries()) == []


def test_sync_sends_nothing_of_it_and_says_what_waits(desk: Desk) -> None:
    desk.given(desk.action("lead"), desk.action("sale", "B-2"))
    for _ in range(2):
        summary = desk.engine().sync()
        assert summary.exit_code == Exit.OK
        assert [one.sentence() for one in summary.findings] == [
            "yandex: 2 orders wait for a file. See: convsync export yandex"
        ]
    assert desk.world.orders() == {}
    assert desk.states()["A-1-lead"][0] == "pending"


def test_what_was_in_a_file_waits_for_a_persons_word_and_troubles_nobody(desk: Desk) -> None:
    desk.given(desk.action("lead"), desk.action("sale"))
    desk.in_file()
    summary = desk.engine().sync()
    assert summary.exit_code == Exit.OK
    (finding,) = summary.findings
    assert (finding.level, finding.code) == ("info", "exported")
    assert finding.message == "1 order was in a file; whether the platform has taken it is for a person to say."
    assert "--destination yandex --state held --reason exported --as sent" in finding.advice


def test_what_is_held_for_another_reason_is_still_told_as_an_error(desk: Desk) -> None:
    lead = desk.action("lead")
    desk.given(lead, desk.action("sale", "B-2"))
    desk.engine().sync()
    desk.given(lead._replace(consent_ad_user_data=False))
    summary, found = desk.export()
    assert found == InFile(1, 1, 0)
    assert summary.exit_code == Exit.ATTENTION
    assert "1 conversion is waiting for a person." in {one.message for one in summary.findings}


def test_the_life_of_an_exported_order_reads_well(desk: Desk) -> None:
    desk.given(desk.action("lead"))
    desk.in_file()
    (story,) = tell(desk.world.ledger.store, "shop/A-1-lead")
    assert f"it became held: {EXPORTED}." in story["sentences"][-2]
    assert story["sentences"][-1].startswith("Next: the platform fetches the file it is in; a person says")
    desk.confirm()
    (story,) = tell(desk.world.ledger.store, "shop/A-1-lead")
    assert story["state"] == "accepted"


# -- contacts


def test_contacts_are_in_clear_only_where_the_configuration_says_so_and_until_a_person_confirms(desk: Desk) -> None:
    desk.contact_hash, desk.sheet = "none", Memory(hashed=False)
    desk.given(desk.action("lead", email="mail@yandex.ru", phone="+7 999 555-11-11"))
    desk.in_file()
    row = desk.sheet.row
    assert (row["emails"], row["phones"], row["emails_md5"]) == ("mail@yandex.ru", "79995551111", "")
    desk.confirm()
    desk.in_file()  # each run ends with erasing
    desk.in_file()
    row = desk.sheet.row
    assert (row["emails"], row["phones"]) == ("", "")
    assert row["emails_md5"] == "3c56ff8fef0f6c65b36b2d25720fe276"


def test_contacts_of_a_time_when_they_were_sent_in_clear_are_hashed(desk: Desk) -> None:
    desk.contact_hash = "none"
    desk.given(desk.action("lead", email="mail@yandex.ru"))
    desk.in_file()
    assert b"mail@yandex.ru" not in desk.sheet.there
    assert desk.sheet.row["emails_md5"] == "3c56ff8fef0f6c65b36b2d25720fe276"


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=12))
def test_what_is_in_a_cell_is_read_back_as_it_was(cells: list[str]) -> None:
    line = centre._line(cells).decode()
    assert line.endswith("\n")
    read = csv.reader(io.StringIO(line, newline=""), delimiter=";", strict=True)
    assert list(read) == ([cells] if cells != [""] else [[]])


def test_an_earlier_action_that_comes_to_light_after_the_file_never_moves_the_orders_date(desk: Desk) -> None:
    desk.given(desk.action("sale", hours=1))
    desk.in_file()
    there = desk.sheet.there
    desk.given(desk.action("lead", hours=30))
    assert desk.in_file() == InFile(1, 0, 0)
    assert desk.sheet.there == there


def test_a_change_keeps_the_date_and_the_contacts_that_were_in_the_file(desk: Desk) -> None:
    sale = desk.action("sale", email="mail@yandex.ru")
    desk.given(sale)
    desk.in_file()
    before = desk.sheet.row
    later = sale.occurred_at + timedelta(minutes=10)
    desk.given(sale._replace(value=Decimal(5), occurred_at=later, email=None))
    desk.in_file()
    assert desk.sheet.row == before | {"revenue": "5.00"}
