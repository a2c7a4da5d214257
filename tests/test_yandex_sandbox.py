"""The route yandex.orders against the local emulator: what Metrica would know after each step of a deal's life."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from convsync.destinations.yandex import Orders
from convsync.errors import Halted, Unclear
from convsync.model import Action, Answer, Conversion, Person, Verdict
from convsync.net import Wire
from convsync.sandbox import Clock, Sandbox, SandboxConfig

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOBODY = Person()
PERSON = Person(emails=("mail@yandex.ru",), phones=("+79995551111",))
COUNTER = "12345678"


class Target(NamedTuple):
    status: str
    goals: tuple[str, ...] = ()

    @property
    def goal_key(self) -> str:
        return self.status


LEAD, GOOD, PAID = Target("IN_PROGRESS"), Target("good_lead"), Target("PAID")


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as sandbox:
        yield sandbox


def open_route(box: Sandbox, **settings: Any) -> Orders:
    wire = Wire(requests_per_second=10_000, timeout=5, sleep=lambda _: None, clock=box.clock.now)
    given = {"counter_id": COUNTER, "token": "sandbox-token", "metrica_url": box.url, **settings}
    return Orders("yandex", wire=wire, **given)


@pytest.fixture
def route(box: Sandbox) -> Iterator[Orders]:
    made = open_route(box)
    made.learn({})
    yield made
    made.close()


def action(**told: Any) -> Action:
    first = {"source": "shop", "external_id": "1", "action": "lead", "order_id": "A-1", "ym_client_id": "1606999999160"}
    return Action(**{**first, "occurred_at": NOW - timedelta(days=3), "currency": "RUB", **told})


def payload(route: Orders, told: Action, target: Target, value: int | None = None, person: Person = NOBODY) -> bytes:
    made = route.convert(told, person, target, value)
    assert isinstance(made, Conversion), made
    return made.payload


def sent(route: Orders, *payloads: bytes) -> Answer:
    return route.send(route.encode(payloads, "token"), len(payloads))


def order(box: Sandbox, name: str = "A-1") -> Any:
    return box.books()["yandex"]["counters"][COUNTER]["orders"][name]


def totals(box: Sandbox) -> Any:
    return box.books()["totals"]["yandex"]


def test_a_deal_lives_as_one_order_from_lead_to_refund(box: Sandbox, route: Orders) -> None:
    """Contacts told with the lead only, the amount with the sale only, the refund with neither."""
    life = payload(route, action(user_id="u-1"), LEAD, person=PERSON)
    assert sent(route, life).default.verdict is Verdict.ACCEPTED
    assert (order(box)["status"], order(box)["linked"]) == ("IN_PROGRESS", True)

    box.clock.advance(30 * 86400)
    later = {"external_id": "2", "occurred_at": box.clock.now(), "ym_client_id": None}
    life = route.merge(life, payload(route, action(**later, action="sale"), PAID, 500000, PERSON))
    assert sent(route, life).default.verdict is Verdict.ACCEPTED
    assert (order(box)["status"], order(box)["revenue"]) == ("PAID", "5000")

    refund = payload(route, action(**later, action="sale", status="refunded"), PAID, person=PERSON)
    assert sent(route, route.merge(life, refund)).default.verdict is Verdict.ACCEPTED
    after = order(box)
    assert (after["status"], after["revenue"], after["client_uniq_id"]) == ("CANCELLED", "0", "u-1")
    assert after["identifiers"]["client_ids"] == ["1606999999160"]
    assert after["create_date_time"] == "2026-11-19 15:00:00"
    assert totals(box)["orders"] == 1
    assert {"CRM: Order created", "CRM: Order paid"} <= set(after["goals"])


def test_sending_the_same_state_again_changes_nothing(box: Sandbox, route: Orders) -> None:
    paid = payload(route, action(), PAID, 500000)
    sent(route, paid)
    before = totals(box)
    sent(route, paid)
    assert order(box)["uploads"] == 2 and not order(box)["versions"][-1]["changed"]
    assert {**totals(box), "uploads": 0, "rows": 0} == {**before, "uploads": 0, "rows": 0}


def test_a_partial_refund_lowers_the_revenue_of_the_same_order(box: Sandbox, route: Orders) -> None:
    paid = payload(route, action(), PAID, 500000)
    sent(route, paid)
    sent(route, route.merge(paid, payload(route, action(), PAID, 120050)))
    assert (order(box)["status"], Decimal(order(box)["revenue"]), totals(box)["orders"]) == (
        "PAID",
        Decimal("1200.5"),
        1,
    )


def test_a_javascript_goal_is_a_stage_of_the_same_order(box: Sandbox, route: Orders) -> None:
    lead = payload(route, action(), LEAD)
    sent(route, lead)
    good = route.merge(lead, payload(route, action(), GOOD))
    sent(route, good)
    sent(route, route.merge(good, payload(route, action(), PAID, 100)))
    assert {"CRM: Order created", "good_lead", "CRM: Order paid"} <= set(order(box)["goals"])


def test_names_that_need_quotes_arrive_as_they_are(box: Sandbox, route: Orders) -> None:
    names = ['a,"b"', "№ 7; x", "=1+1", "'q"]
    told = sent(route, *(payload(route, action(order_id=name, user_id=name), LEAD) for name in names))
    assert told.findings == ()
    assert sorted(box.books()["yandex"]["counters"][COUNTER]["orders"]) == sorted(names)


def test_the_date_of_an_order_is_read_back_as_the_moment_it_was(box: Sandbox, route: Orders) -> None:
    sent(route, payload(route, action(), LEAD))
    assert order(box)["created"] == "2026-11-19T12:00:00.000Z"


@pytest.mark.parametrize("contact_hash", ["md5", "none"])
def test_contacts_arrive_as_the_platform_wants_them(box: Sandbox, contact_hash: Any) -> None:
    route = open_route(box, contact_hash=contact_hash, counter_timezone="Europe/Moscow")
    assert sent(route, payload(route, action(), LEAD, person=PERSON)).default.verdict is Verdict.ACCEPTED
    found = order(box)["identifiers"]
    hashed = {"emails_md5": ["3c56ff8fef0f6c65b36b2d25720fe276"], "phones_md5": ["f09f2c3d48f31e2a802944ade2e5aec5"]}
    plain = {"emails": ["mail@yandex.ru"], "phones": ["79995551111"]}
    assert found == {"client_ids": ["1606999999160"], **(hashed if contact_hash == "md5" else plain)}


def test_an_answer_lost_after_storing_is_unclear_and_a_resend_is_harmless(box: Sandbox, route: Orders) -> None:
    box.faults.add(on="yandex.orders", kind="reset_after")
    paid = payload(route, action(), PAID, 500000)
    with pytest.raises(Unclear):
        sent(route, paid)
    assert sent(route, paid).default.verdict is Verdict.ACCEPTED
    assert (totals(box)["orders"], totals(box)["revenue"]) == (1, {"RUB": "5000"})


def test_one_order_the_platform_refuses_is_found_by_halving(box: Sandbox, route: Orders) -> None:
    old = payload(route, action(order_id="old", occurred_at=NOW - timedelta(days=200)), LEAD)
    good = payload(route, action(), LEAD)
    assert sent(route, good, old).split
    assert sent(route, good).default.verdict is Verdict.ACCEPTED
    refused = sent(route, old)
    assert refused.default.verdict is Verdict.REFUSED and "invalid_uploading" in refused.default.reason


def test_a_file_that_failed_with_200_is_not_taken_for_accepted(box: Sandbox, route: Orders) -> None:
    box.configure({"yandex": {"force_failed": True}})
    assert sent(route, payload(route, action(), LEAD)).default.verdict is Verdict.REFUSED


def test_orders_that_metrica_dropped_in_silence_are_shown(box: Sandbox, route: Orders) -> None:
    box.configure({"yandex": {"bad_row": "drop"}})
    old = payload(route, action(order_id="old", occurred_at=NOW - timedelta(days=200)), LEAD)
    told = sent(route, payload(route, action(), LEAD), old)
    assert told.default.verdict is Verdict.ACCEPTED and "counted 1" in told.findings[0].message


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_token_halts_before_and_while_sending(box: Sandbox, status: int) -> None:
    box.configure({"yandex": {"bad_token_status": status}})
    route = open_route(box, token="wrong")
    with pytest.raises(Halted):
        route.learn({})
    route.learn({"time_zone": "Europe/Moscow"})
    told = sent(route, payload(route, action(), LEAD))
    assert told.halt and told.halt.code == "bad_token"
    assert totals(box)["rows"] == 0


def test_the_quota_of_a_day_stops_the_run_until_midnight(box: Sandbox, route: Orders) -> None:
    box.configure({"yandex": {"requests_per_day": 1, "quota_status": 420}})
    assert sent(route, payload(route, action(), LEAD)).default.verdict is Verdict.ACCEPTED
    told = sent(route, payload(route, action(), PAID, 100))
    assert (told.default.verdict, told.rest) == (Verdict.LATER, 12 * 3600)


def test_probing_the_emulator_finds_nothing_wrong(route: Orders) -> None:
    assert {finding.level for finding in route.probe()} == {"info"}
