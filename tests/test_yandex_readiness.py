"""What `check --online` says of a Metrica counter and its goals, and the making of goals, over the real wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st
from requests import ReadTimeout

from convsync.config import YandexTarget
from convsync.destinations.yandex import readiness, readings
from convsync.destinations.yandex.metrica import Metrica
from convsync.destinations.yandex.readings import Goal
from convsync.destinations.yandex.uploadings import Uploadings
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding
from convsync.net import Wire
from convsync.sandbox import Clock, Sandbox, SandboxConfig

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
COUNTER = "12345678"
HOST = "https://api-metrika.yandex.net"
MANAGED = f"{HOST}/management/v1/counter/{COUNTER}"
LEAD = YandexTarget(status="IN_PROGRESS")
GOOD = YandexTarget(status="good_lead")
HIT = YandexTarget(goal="crm_lead")
LINKING = timedelta(days=21)


def opened(url: str, token: str = "sandbox-token", counter: str = COUNTER, clock: Any = None) -> Metrica:
    wire = Wire(requests_per_second=10_000, timeout=5, sleep=lambda _: None, clock=clock or (lambda: NOW))
    return Metrica(
        "destinations.yandex", counter_id=counter, token=token, url=url, wire=wire, jitter=lambda low, high: low
    )


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as sandbox:
        yield sandbox


@pytest.fixture
def metrica(box: Sandbox) -> Iterator[Metrica]:
    made = opened(box.url, clock=box.clock.now)
    yield made
    made.wire.close()


@pytest.fixture
def server() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def told(server: responses.RequestsMock) -> Iterator[Metrica]:
    """A counter that a test tells about itself."""
    made = opened(HOST)
    yield made
    made.wire.close()


def orders(metrica: Metrica, *targets: YandexTarget, **more: Any) -> dict[str, Finding]:
    asked: dict[str, Any] = {"zone": "", "link_window": LINKING, "clear": False}
    return {one.code: one for one in readiness.orders(metrica, targets, **(asked | more))}


def conversions(metrica: Metrica, *targets: YandexTarget) -> dict[str, Finding]:
    waits = dict.fromkeys(("after", "every", "until"), timedelta(0))
    last = Uploadings(metrica, **waits).last
    return {one.code: one for one in readiness.conversions(metrica, targets, link_window=LINKING, last=last)}


def levels(found: dict[str, Finding]) -> dict[str, str]:
    return {code: one.level for code, one in found.items()}


def rights(box: Sandbox, *names: str) -> None:
    box.config.yandex.tokens["sandbox-token"] = [f"metrika:{name}" for name in names]


# -- one identifier against the goals that are there


JS = Goal("1", "Good lead", "action", (("exact", "good_lead"),))
PAGE = Goal("2", "Thanks", "url", (("contain", "thanks"),))
LOOSE = Goal("3", "Loose", "action", (("contain", "loose"),))
KNOWN = [JS, PAGE, LOOSE, Goal("4", "CRM lead", "action", (("exact", "crm_lead"),)), Goal("5", "Depth", "number")]


@pytest.mark.parametrize(
    ("identifier", "code", "near", "message", "advice"),
    [
        ("loose", "goal_not_exact", LOOSE, "condition contain", "`matches`"),
        ("thanks", "goal_type", PAGE, "type url", "goals create"),
        ("Good_Lead", "goal_case", JS, "but good_lead", 'Write "good_lead"'),
        ("good lead", "goal_identifier", JS, "the name of a goal", 'Write "good_lead"'),
        ("1", "goal_identifier", JS, "the number of a goal", 'Write "good_lead"'),
        ("god_lead", "no_goal", JS, "no JavaScript goal god_lead", "Did you mean good_lead?"),
        ("purchase", "no_goal", None, "no JavaScript goal purchase", "There are good_lead, crm_lead."),
    ],
)
def test_a_goal_that_would_be_missed_is_told_with_what_is_there_instead(
    identifier: str, code: str, near: Goal | None, message: str, advice: str
) -> None:
    found = readiness.lack(identifier, KNOWN)
    assert found is not None
    assert (found.code, found.near) == (code, near)
    assert message in found.message
    assert advice in found.advice


def test_a_javascript_goal_that_matches_is_not_lacking() -> None:
    assert readiness.lack("good_lead", KNOWN) is None
    both = Goal("6", "Both", "action", (("contain", "either"), ("exact", "either")))
    assert readiness.lack("either", [both]) is None
    assert readiness.lack("either", [LOOSE, Goal("7", "", "action", (("action", "either"),))]) is None


def test_a_counter_without_goals_is_told_what_makes_them() -> None:
    found = readiness.lack("crm_lead", [])
    assert found is not None
    assert found.advice == "`convsync yandex goals create` makes those that are missing."


texts = st.text(max_size=20)
some_goals = st.lists(
    st.builds(
        Goal,
        st.integers(1, 9).map(str),
        texts,
        st.sampled_from(["action", "url", "number", ""]),
        st.lists(st.tuples(st.sampled_from(["exact", "contain", "action", ""]), texts), max_size=2).map(tuple),
    ),
    max_size=5,
)


@given(identifier=st.text(min_size=1, max_size=20), known=some_goals)
def test_nothing_is_lacking_exactly_where_an_identifier_is_the_same_text(identifier: str, known: list[Goal]) -> None:
    found = readiness.lack(identifier, known)
    assert (found is None) == any(identifier in goal.identifiers for goal in known)
    assert found is None or (found.message and found.advice and (found.near is None or found.near in known))


def test_the_goals_of_a_target_know_their_way_in() -> None:
    target = YandexTarget(status="good_lead", goals=("qualified", "basket:200"), goal="crm_lead")
    assert [(use.identifier, use.door, use.own) for use in readings.uses(target)] == [
        ("good_lead", "orders", True),
        ("qualified", "orders", False),
        ("basket", "orders", False),
        ("crm_lead", "conversions", True),
    ]
    assert readings.wanted([target, target, LEAD]) == ["good_lead", "qualified", "basket", "crm_lead"]


# -- check --online: what stands in the way


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_token_is_the_one_thing_that_is_told(box: Sandbox, status: int) -> None:
    box.config.yandex.bad_token_status = status
    found = orders(opened(box.url, "another-token"), LEAD, GOOD)
    assert levels(found) == {"bad_token": "error"}
    assert "another-token" not in str(found)


def test_a_counter_of_somebody_else_and_one_that_is_not_there_are_errors(box: Sandbox) -> None:
    assert levels(orders(opened(box.url, counter="99999999"), LEAD)) == {"no_rights": "error"}
    assert levels(orders(opened(box.url, counter="11111111"), LEAD)) == {"no_counter": "error"}


def test_no_answer_is_told_without_further_questions(box: Sandbox, metrica: Metrica) -> None:
    box.faults.add(on="yandex.counter", status=503)
    assert levels(orders(metrica, LEAD, GOOD)) == {"no_answer": "error"}


def test_a_page_of_a_proxy_is_not_called_silence(box: Sandbox, metrica: Metrica) -> None:
    box.faults.add(on="yandex.counter", kind="html")
    found = orders(metrica, LEAD)["no_answer"]
    assert "gave no usable answer (HTTP 502, a page of HTML" in found.message
    assert "proxy" in found.advice


def test_a_daily_quota_that_is_used_up_is_told_as_one(box: Sandbox, metrica: Metrica) -> None:
    box.config.yandex.requests_per_day = 0
    found = orders(metrica, LEAD)["no_answer"]
    assert "today's quota of requests to Metrica is used up" in found.message
    assert "shared by every program" in found.advice


def test_a_token_that_may_only_upload_needs_the_zone_for_orders(box: Sandbox, metrica: Metrica) -> None:
    rights(box, "offline_data")
    found = orders(metrica, LEAD, GOOD)
    assert levels(found) == {"no_rights": "error"}
    assert "set `counter_timezone`" in found["no_rights"].advice


def test_a_token_that_may_only_upload_leaves_goals_unseen(box: Sandbox, metrica: Metrica) -> None:
    rights(box, "offline_data")
    found = orders(metrica, LEAD, GOOD, zone="Europe/Moscow")
    assert levels(found) == {"goals_unseen": "warning", "uploads": "info"}
    assert "good_lead" in found["goals_unseen"].message
    assert levels(orders(metrica, LEAD, zone="Europe/Moscow")) == {"uploads": "info"}
    assert levels(conversions(metrica, HIT)) == {"goals_unseen": "warning", "uploads": "info"}


def test_a_token_that_may_only_read_cannot_upload_orders(box: Sandbox, metrica: Metrica) -> None:
    rights(box, "read")
    found = orders(metrica, GOOD)
    assert found["no_rights"].level == "error"
    assert "metrika:offline_data" in found["no_rights"].advice
    assert found["goals_ready"].level == "info"


def test_whether_a_token_may_upload_conversions_is_told_as_a_doubt(box: Sandbox, metrica: Metrica) -> None:
    rights(box, "read")
    found = conversions(metrica, HIT)
    assert levels(found) == {"goals_ready": "info", "uploads_doubtful": "warning", "uploads": "info"}
    assert "metrika:offline_data" in found["uploads_doubtful"].advice
    box.faults.add(on="yandex.last_uploadings", status=503)
    assert conversions(metrica, HIT)["no_answer"].level == "info"


@pytest.mark.parametrize("permission", ["view", "analyst", "view_access_filter", "analyst_access_filter"])
def test_an_account_that_may_only_look_is_an_error(box: Sandbox, metrica: Metrica, permission: str) -> None:
    box.config.yandex.counters[COUNTER].permission = permission
    found = orders(metrica, LEAD)
    assert found["no_rights"].level == "error"
    assert "contacts_untold" not in found, "first things first"


@pytest.mark.parametrize(("permission", "told"), [("own", False), ("edit", False), ("", True), ("partner", True)])
def test_an_access_that_nobody_documented_is_a_note(
    box: Sandbox, metrica: Metrica, permission: str, told: bool
) -> None:
    box.config.yandex.counters[COUNTER].permission = permission
    assert ("permission_untold" in orders(metrica, LEAD)) == told


def test_goals_that_cannot_be_listed_are_a_warning(box: Sandbox, metrica: Metrica) -> None:
    box.faults.add(on="yandex.goals", status=503)
    assert orders(metrica, GOOD)["goals_unseen"].level == "warning"


# -- check --online: the counter and its goals


def test_a_counter_that_is_set_up_is_not_complained_about(metrica: Metrica) -> None:
    found = orders(metrica, LEAD, GOOD)
    assert levels(found) == dict.fromkeys(("time_zone", "goals_ready", "uploads", "contacts_untold"), "info")
    assert "Europe/Moscow" in found["time_zone"].message
    assert "good_lead" in found["goals_ready"].message
    assert "within 21 days" in found["uploads"].advice
    assert levels(conversions(metrica, HIT)) == {"goals_ready": "info", "uploads": "info"}


def test_each_way_in_tells_its_own_and_the_counter_is_told_once(metrica: Metrica) -> None:
    both = YandexTarget(status="good_lead", goal="crm_lead")
    assert "good_lead, crm_lead" in orders(metrica, both)["goals_ready"].message
    assert set(conversions(metrica, both)) == {"uploads"}
    assert orders(metrica, HIT) == {}
    assert conversions(metrica, LEAD) == {}


def test_every_goal_that_would_be_missed_is_an_error(box: Sandbox, metrica: Metrica) -> None:
    box.config.yandex.counters[COUNTER].goals[2].condition = "start"
    target = YandexTarget(status="Good_Lead", goals=("qualified:10", "crm_lead"), goal="Good lead".replace(" ", "_"))
    found = readiness.orders(metrica, [target], zone="", link_window=LINKING, clear=False)
    assert [(one.level, one.code) for one in found if one.level == "error"] == [
        ("error", "goal_case"), ("error", "goal_not_exact"), ("error", "goal_case"),
    ]  # fmt: skip
    assert next(one for one in found if one.code == "goals_ready").message.endswith("to: crm_lead.")
    assert all(COUNTER in one.message for one in found)


def test_a_window_longer_than_metrica_links_is_a_warning(metrica: Metrica) -> None:
    found = orders(metrica, LEAD, link_window=timedelta(days=30))
    assert found["link_window"].level == "warning"


def test_a_configured_zone_of_another_place_is_a_warning(metrica: Metrica) -> None:
    assert orders(metrica, LEAD, zone="Asia/Omsk")["time_zone"].level == "warning"
    assert orders(metrica, LEAD, zone="Europe/Moscow")["time_zone"].level == "info"


def test_contacts_in_clear_are_a_warning(metrica: Metrica) -> None:
    assert orders(metrica, LEAD, clear=True)["contacts_in_clear"].level == "warning"


def test_a_deleted_counter_is_an_error(server: responses.RequestsMock, told: Metrica) -> None:
    server.get(MANAGED, json={"counter": {"id": 1, "status": "Deleted", "permission": "own"}})
    assert levels(orders(told, LEAD)) == {"counter_deleted": "error"}


@pytest.mark.parametrize(("flag", "code"), [(False, "contacts_off"), (None, "contacts_untold"), (True, "")])
def test_contact_data_that_is_not_used_is_told(
    server: responses.RequestsMock, told: Metrica, flag: bool | None, code: str
) -> None:
    flags = {"counter_flags": {"collect_first_party_data": flag}}
    server.get(MANAGED, json={"counter": {"time_zone_name": "Europe/Moscow", "permission": "own", **flags}})
    server.get(f"{HOST}/cdp/api/v1/counter/{COUNTER}/last_uploadings", json={"uploadings": []})
    found = orders(told, LEAD)
    assert set(found) - {"time_zone", "uploads"} == ({code} if code else set())
    assert "field=counter_flags" in str(server.calls[0].request.url)
    if flag is False:
        assert found[code].level == "warning"


def test_the_last_upload_is_told_without_what_it_held(server: responses.RequestsMock, told: Metrica) -> None:
    server.get(f"{MANAGED}/goals", json={"goals": [{"id": 7, "type": "action", "conditions": None}, "?", {"id": "x"}]})
    server.get(MANAGED, json={"counter": {"permission": "own"}})
    last = {"id": 5, "create_time": "2026-11-20T10:00:00Z", "status": "LINKAGE_FAILURE", "comment": "anna@example.com"}
    server.get(f"{HOST}/cdp/api/v1/counter/{COUNTER}/last_uploadings", json={})
    server.get(f"{MANAGED}/offline_conversions/uploadings", json={"uploadings": [last]})
    found = conversions(told, HIT)
    assert "2026-11-20T10:00:00+00:00: LINKAGE_FAILURE" in found["uploads"].message
    assert found["no_goal"].level == "error"
    assert "anna" not in str(found)


def test_a_list_of_conversions_that_is_shut_or_silent_is_told(box: Sandbox, metrica: Metrica) -> None:
    both = YandexTarget(status="PAID", goal="crm_lead")
    box.faults.add(on="yandex.uploadings", status=503)
    assert levels(conversions(metrica, both)) == {"no_answer": "info"}
    rights(box)
    assert levels(conversions(metrica, both)) == {"no_rights": "error"}


def test_the_days_quota_is_told_as_far_as_it_is_known() -> None:
    assert "used 12 of them today" in readiness.quota("destinations.yandex", 12).message
    assert "used" not in readiness.quota("destinations.yandex", None).message


# -- goals are listed and made


def test_a_goal_is_made_once_and_found_again(box: Sandbox, metrica: Metrica) -> None:
    made = readings.create(metrica, "crm_sale", "x" * 300)
    assert made in [goal._replace(name=made.name) for goal in readings.goals(metrica)]
    assert readiness.lack("crm_sale", readings.goals(metrica)) is None
    assert len(made.name) == 255


def test_goals_of_other_kinds_cannot_be_uploaded_to(metrica: Metrica) -> None:
    kinds = {goal.type: goal.identifiers for goal in readings.goals(metrica)}
    assert kinds["url"] == ()
    assert kinds["action"]


def test_a_deleted_goal_is_none(server: responses.RequestsMock, told: Metrica) -> None:
    server.get(f"{MANAGED}/goals", json={"goals": [{"id": 7, "type": "action", "status": "Deleted"}]})
    assert readings.goals(told) == []


@pytest.mark.parametrize("body", [{}, {"goals": None}, {"goals": {}}])
def test_a_list_that_cannot_be_read_is_no_empty_list(
    server: responses.RequestsMock, told: Metrica, body: dict[str, Any]
) -> None:
    server.get(f"{MANAGED}/goals", json=body)
    with pytest.raises(NotSent):
        readings.goals(told)


def test_without_the_right_to_write_the_advice_says_how_to_get_it(box: Sandbox, metrica: Metrica) -> None:
    rights(box, "read", "offline_data")
    with pytest.raises(Halted) as stop:
        readings.create(metrica, "crm_sale", "sale")
    assert stop.value.finding.code == "no_write"
    assert "metrika:write" in stop.value.finding.advice


def error(kind: str) -> dict[str, Any]:
    return {"errors": [{"error_type": kind, "message": "said so"}], "code": 400, "message": "said so"}


@pytest.mark.parametrize(
    ("reply", "fault", "code"),
    [
        ({"status": 400, "json": error("limit_exceeded")}, Halted, "goal_refused"),
        ({"status": 400, "json": error("invalid_parameter")}, Halted, "goal_refused"),
        ({"status": 409, "json": error("conflict")}, Halted, "goal_refused"),
        ({"status": 401, "json": error("unauthorized")}, Halted, "bad_token"),
        ({"status": 403, "json": error("invalid_token")}, Halted, "bad_token"),
        ({"status": 404, "json": error("not_found")}, Halted, "no_counter"),
        ({"status": 302, "body": ""}, Halted, "moved"),
        ({"status": 429, "json": error("quota_requests_by_uid")}, NotSent, ""),
        ({"status": 420, "json": error("quota_requests_by_counter_id")}, NotSent, ""),
        ({"status": 425, "body": ""}, NotSent, ""),
        ({"status": 503, "json": error("backend_error")}, Unclear, ""),
        ({"status": 504, "json": error("timeout")}, Unclear, ""),
        ({"status": 418, "body": ""}, Unclear, ""),
        ({"status": 200, "body": "<html>"}, Unclear, ""),
        ({"status": 200, "json": {"goal": {"name": "sale"}}}, Unclear, ""),
        ({"body": ReadTimeout()}, Unclear, ""),
    ],
)
def test_what_became_of_a_goal_is_never_guessed(
    server: responses.RequestsMock, told: Metrica, reply: dict[str, Any], fault: type[Exception], code: str
) -> None:
    server.post(f"{MANAGED}/goals", **reply)
    with pytest.raises(fault) as raised:
        readings.create(told, "crm_sale", "sale")
    if isinstance(raised.value, Halted):
        assert raised.value.finding.code == code
    assert "sandbox-token" not in str(raised.value)
    assert len(server.calls) == 1, "a goal is asked for once"
