"""The emulated Metrica around its uploads, over raw HTTP: rights, quotas, zones, goals, and what orders keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from convsync.sandbox import Clock, Sandbox, SandboxConfig

NOW = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
COUNTER = "12345678"
YESTERDAY = "2026-07-19 12:00:00"


class Metrica:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.config = box.config.yandex
        self.counter = self.config.counters[COUNTER]
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "OAuth sandbox-token"
        self.root = f"{box.url}/management/v1/counter/{COUNTER}"

    def told(self) -> Any:
        return self.session.get(self.root)

    def goals(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.session.get(f"{self.root}/goals").json()["goals"]
        return found

    def create(self, url: str = "deal_won", **changes: Any) -> Any:
        goal = {"name": "Deal won", "type": "action", "conditions": [{"type": "exact", "url": url}], **changes}
        return self.session.post(f"{self.root}/goals", json={"goal": goal})

    def orders(self, *lines: str, header: str = "id,create_date_time,client_ids,order_status", **query: str) -> Any:
        url = f"{self.box.url}/cdp/api/v1/counter/{COUNTER}/data/simple_orders"
        text = "\n".join([header, *lines]) + "\n"
        return self.session.post(url, params={"merge_mode": "SAVE", **query}, files={"file": ("orders.csv", text)})

    def convert(self, target: str, ago: int = 60) -> Any:
        moment = int(self.box.clock.time()) - ago
        text = f"Yclid,Target,DateTime\n15000001,{target},{moment}\n"
        return self.session.post(f"{self.root}/offline_conversions/upload", files={"file": ("c.csv", text)})

    def order(self, name: str = "A-1") -> dict[str, Any]:
        found: dict[str, Any] = self.book()["orders"][name]
        return found

    def book(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["yandex"]["counters"][COUNTER]
        return found


@pytest.fixture
def metrica() -> Iterator[Metrica]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as box:
        made = Metrica(box)
        yield made
        made.session.close()


def refusal(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["errors"][0]["error_type"]


# Who may, and how often.


def test_each_step_needs_its_own_right(metrica: Metrica) -> None:
    steps = {
        "read": metrica.told,
        "goals": lambda: metrica.session.get(f"{metrica.root}/goals"),
        "create": metrica.create,
        "orders": lambda: metrica.orders(f"A-1,{YESTERDAY},123456,PAID"),
        "convert": lambda: metrica.convert("crm_lead"),
    }
    may = {
        "metrika:read": {"read", "goals"},
        "metrika:offline_data": {"orders", "convert"},
        "metrika:write": {"create", "orders", "convert"},
        "metrika:expenses": set(),
    }
    for right, expected in may.items():
        metrica.config.tokens = {"sandbox-token": [right]}
        answers = {name: step() for name, step in steps.items()}
        assert {name for name, answer in answers.items() if answer.status_code == 200} == expected, right
        refused = {refusal(answer) for name, answer in answers.items() if name not in expected}
        assert refused <= {(403, "access_denied")}


@pytest.mark.parametrize(("permission", "status"), [("own", 200), ("edit", 200), ("view", 403)])
def test_a_counter_that_may_only_be_viewed_takes_nothing(metrica: Metrica, permission: str, status: int) -> None:
    metrica.counter.permission = permission
    assert metrica.told().json()["counter"]["permission"] == permission
    answers = [metrica.create(), metrica.orders(f"A-1,{YESTERDAY},123456,PAID"), metrica.convert("crm_lead")]
    assert [answer.status_code for answer in answers] == [status] * 3


def test_the_quota_of_a_counter_is_shared_by_its_users(metrica: Metrica) -> None:
    metrica.config.tokens["second-token"] = ["metrika:read"]
    metrica.config.requests_per_day = 2
    metrica.told()
    metrica.session.headers["Authorization"] = "OAuth second-token"
    assert metrica.told().status_code == 200
    assert refusal(metrica.told()) == (429, "quota_requests_by_counter_id")
    metrica.session.headers["Authorization"] = "OAuth sandbox-token"
    assert refusal(metrica.told()) == (429, "quota_requests_by_counter_id")
    metrica.box.clock.advance(12 * 3600)
    assert metrica.told().status_code == 200, "unlocked at 00:00 GMT"


def test_reading_and_writing_are_counted_apart(metrica: Metrica) -> None:
    metrica.config.requests_per_day = 1
    assert [metrica.told().status_code, metrica.create().status_code] == [200, 200]
    assert [refusal(metrica.told()), refusal(metrica.create())] == [(429, "quota_requests_by_uid")] * 2


def test_thirty_requests_of_one_address_pass_in_a_second(metrica: Metrica) -> None:
    metrica.config.quota_status = 420
    assert {metrica.told().status_code for _ in range(30)} == {200}
    assert refusal(metrica.told()) == (420, "quota_requests_by_ip")
    metrica.box.clock.advance(1)
    assert metrica.told().status_code == 200


def test_a_refusal_tells_when_to_come_back_only_sometimes(metrica: Metrica) -> None:
    metrica.config.requests_per_second, metrica.config.retry_after, metrica.config.retry_after_every = 0, 7, 2
    assert [metrica.told().headers.get("Retry-After") for _ in range(4)] == ["7", None, "7", None]


# Counter and goals.


def test_dates_of_orders_are_read_in_the_zone_of_their_season(metrica: Metrica) -> None:
    metrica.counter.time_zone_name, metrica.counter.time_zone_offset = "Europe/Berlin", 120
    metrica.config.max_order_age_days = 365
    metrica.orders("A-3,2026-01-19 12:00:00,123456,PAID", "A-1,2026-07-19 12:00:00,123456,PAID")
    assert (metrica.order()["created"], metrica.order("A-3")["created"]) == (
        "2026-07-19T10:00:00.000Z",
        "2026-01-19T11:00:00.000Z",
    )


def test_a_zone_nobody_knows_is_read_by_its_offset(metrica: Metrica) -> None:
    metrica.counter.time_zone_name, metrica.counter.time_zone_offset = "Mars/Base", 90
    metrica.orders(f"A-1,{YESTERDAY},123456,PAID")
    assert metrica.order()["created"] == "2026-07-19T10:30:00.000Z"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": ""}, "invalid_parameter"),
        ({"name": "x" * 256}, "invalid_parameter"),
        ({"type": "step"}, "invalid_parameter"),
        ({"conditions": []}, "invalid_parameter"),
        ({"conditions": [{"type": "exact"}]}, "invalid_parameter"),
        ({"conditions": [{"type": "exact", "url": 5}]}, "invalid_parameter"),
    ],
)
def test_a_goal_that_is_not_complete_is_refused(metrica: Metrica, change: dict[str, Any], word: str) -> None:
    before = metrica.goals()
    assert refusal(metrica.create(**change)) == (400, word)
    assert metrica.goals() == before


def test_a_body_that_holds_no_goal_is_refused(metrica: Metrica) -> None:
    for body, word in ((b"{", "invalid_json"), (b"[]", "missing_parameter"), (b'{"goal": 5}', "missing_parameter")):
        assert refusal(metrica.session.post(f"{metrica.root}/goals", data=body)) == (400, word)


def test_a_goal_that_was_made_is_listed_with_its_id_and_counts(metrica: Metrica) -> None:
    made = metrica.create().json()["goal"]
    assert made["id"] > 0 and made["conditions"] == [{"type": "exact", "url": "deal_won"}]
    assert metrica.goals()[-1] == made
    metrica.box.clock.advance(3600)
    metrica.convert("deal_won")
    metrica.orders("A-1,2026-07-20 15:30:00,123456,deal_won")
    metrica.box.clock.advance(2)
    assert metrica.book()["goals"]["deal_won"]["reaches"] == 1
    assert metrica.book()["offline"]["goals"]["deal_won"]["reaches"] == 1
    metrica.box.reset()
    assert made not in metrica.goals()


def test_a_goal_does_not_count_in_visits_before_its_creation(metrica: Metrica) -> None:
    metrica.create()
    number = metrica.convert("deal_won").json()["uploading"]["id"]
    metrica.orders(
        f'A-1,{YESTERDAY},123456,PAID,"deal_won"', header="id,create_date_time,client_ids,order_status,goals"
    )
    metrica.box.clock.advance(2)
    told = metrica.session.get(f"{metrica.root}/offline_conversions/uploading/{number}").json()["uploading"]
    assert (told["status"], told["goal_not_found_quantity"]) == ("PROCESSED", 1)
    assert "deal_won" not in metrica.order()["goals"]
    metrica.config.goals_count_at_once = True
    metrica.convert("deal_won")
    metrica.box.clock.advance(2)
    assert metrica.book()["offline"]["goals"]["deal_won"]["reaches"] == 1


def test_a_counter_has_at_most_two_hundred_goals(metrica: Metrica) -> None:
    metrica.config.requests_per_second = None
    room = 200 - len(metrica.goals())
    assert {metrica.create(f"goal{number}").status_code for number in range(room)} == {200}
    assert refusal(metrica.create()) == (400, "limit_exceeded")
    assert len({goal["id"] for goal in metrica.goals()}) == 200


def test_only_javascript_goals_can_be_the_status_of_an_order(metrica: Metrica) -> None:
    for status in ("/thanks", "Good_lead", "Good lead"):
        assert refusal(metrica.orders(f"A-1,{YESTERDAY},123456,{status}")) == (400, "invalid_uploading")
    assert metrica.orders(f"A-1,{YESTERDAY},123456,good_lead").status_code == 200


# What orders keep.


def test_every_state_that_reached_an_order_can_be_read(metrica: Metrica) -> None:
    header = "id,create_date_time,client_ids,order_status,revenue,cost,goals"
    metrica.orders(f"A-1,{YESTERDAY},123456,IN_PROGRESS,,,", header=header)
    metrica.orders(f'A-1,{YESTERDAY},654321,PAID,1500.50,500,"good_lead:200,qualified"', header=header)
    metrica.orders(f"A-1,{YESTERDAY},123456,IN_PROGRESS,,,", header=header)
    told = [(v["status"], v["revenue"], v["cost"], v["goals"], v["changed"]) for v in metrica.order()["versions"]]
    assert told == [
        ("IN_PROGRESS", None, None, {}, True),
        ("PAID", "1500.5", "500", {"good_lead": "200", "qualified": None}, True),
        ("IN_PROGRESS", None, None, {}, True),
    ]
    assert metrica.order()["versions"][1]["identifiers"] == {"client_ids": ["654321"]}
    assert metrica.order()["status"] == "IN_PROGRESS", "the older state came last: it was overtaken, and it wins"


def test_the_order_in_which_a_repeated_id_is_applied_follows_the_seed(metrica: Metrica) -> None:
    def last() -> list[str]:
        lines = [f"A-{n},{YESTERDAY},123456,{status}" for n in range(16) for status in ("IN_PROGRESS", "PAID")]
        metrica.orders(*lines)
        found = [metrica.order(f"A-{n}")["status"] for n in range(16)]
        metrica.box.reset()
        return found

    once = last()
    assert once == last() and set(once) == {"IN_PROGRESS", "PAID"}


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize(
    ("column", "known", "unknown"),
    [("emails", "mail@yandex.ru", "liam@yandex.ru"), ("phones", "79995551111", "79995552222")],
)
def test_a_contact_finds_its_visitor_plain_or_hashed(
    metrica: Metrica, column: str, known: str, unknown: str, hashed: bool
) -> None:
    metrica.config.known_contacts = {md5(known): "2026-07-10T00:00:00Z"}
    cells = [md5(one) if hashed else one for one in (known, unknown)]
    header = f"id,create_date_time,{column}{'_md5' if hashed else ''},order_status"
    assert metrica.orders(*(f"A-{n},{YESTERDAY},{cell},PAID" for n, cell in enumerate(cells)), header=header).ok
    assert [metrica.order(f"A-{n}")["linked"] for n in range(2)] == [True, False]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_a_client_may_have_visited_more_than_once(metrica: Metrica) -> None:
    metrica.config.known_clients = {"123456": ["2026-06-01T00:00:00Z", "2026-07-18T00:00:00Z", "2026-07-20T11:00:00Z"]}
    metrica.config.change_days = 1
    metrica.orders(f"A-1,{YESTERDAY},123456,PAID")
    assert metrica.order()["linked"], "by the visit of the 18th"
    metrica.orders(f"A-1,{YESTERDAY},123456,CANCELLED")
    assert metrica.order()["versions"][-1]["taken"] is False, "more than a day after the visit of the 18th"


def test_a_file_that_is_too_large_is_refused(metrica: Metrica) -> None:
    metrica.config.max_file_bytes = 20
    assert refusal(metrica.orders(f"A-1,{YESTERDAY},123456,PAID")) == (400, "limit_exceeded")


def test_the_page_shows_orders_with_their_states(metrica: Metrica) -> None:
    for status in ("IN_PROGRESS", "PAID"):
        metrica.orders(f"A-1,{YESTERDAY},123456,{status}")
    page = metrica.session.get(f"{metrica.box.url}/_sandbox/").text
    assert "IN_PROGRESS \u2192 PAID" in page and "CRM: Order created, CRM: Order paid" in page
