"""The VK Ads API: its words in every shape, its limits, its lists, and what each reply means."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync.destinations.vk.api import Api, said
from convsync.destinations.vk.replies import REPLIES, Means, fault, meaning, wait_of
from convsync.errors import Halted, NotSent, Unclear
from convsync.net import Reply, Wire
from convsync.sandbox import Sandbox
from worlds import StandingClock

NOON = datetime(2026, 11, 22, 12, 20, tzinfo=UTC)
"""20 past three in Moscow."""
PLANS = "/api/v2/ad_plans.json"
SECRET = "0123456789abcdef0123456789abcdef"


def reply(status: int, told: Any = None, **headers: str) -> Reply:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


class Pass:
    """Tokens of the sandbox without the file: what is new each time it is asked for."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.access = ""
        self.renewals = 0

    def bearer(self) -> str:
        self.access = self.access or self.new()
        return self.access

    def renewed(self, dead: str) -> str:
        assert dead == self.access
        self.renewals += 1
        self.access = self.new()
        return self.access

    def new(self) -> str:
        import requests

        keys = {"client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret", "grant_type": "client_credentials"}
        told = requests.post(f"{self.box.url}/api/v2/oauth2/token.json", data=keys, timeout=5).json()
        return str(told["access_token"])


class Asked:
    """An Api at the sandbox, and how long it rested."""

    def __init__(self, box: Sandbox, clock: StandingClock) -> None:
        self.rested: list[float] = []
        self.waited: list[float] = []
        self.tokens = Pass(box)
        wire = Wire(requests_per_second=10_000, timeout=5, sleep=self.waited.append, clock=clock.now)
        self.api = Api("destinations.vk", tokens=self.tokens, wire=wire, url=box.url, rest=self.rested.append)


@pytest.fixture
def asked(box: Sandbox, clock: StandingClock) -> Iterator[Asked]:
    made = Asked(box, clock)
    yield made
    made.api.wire.close()


def plans(box: Sandbox, count: int) -> None:
    from convsync.sandbox.vk_config import AdPlan

    box.config.vk.ad_plans = {str(9100000 + i): AdPlan(f"plan {i}") for i in range(count)}


# -- the words


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"code": "token_limit_exceeded", "message": "Too many"}},
        {"error": "token_limit_exceeded", "error_description": "Too many"},
        {"code": "token_limit_exceeded", "message": "Too many"},
    ],
    ids=["nested", "oauth", "flat"],
)
def test_all_three_shapes_of_an_error_are_one(told: Any) -> None:
    found = said(reply(403, told))
    assert (found.code, found.text) == ("token_limit_exceeded", "HTTP 403 token_limit_exceeded Too many")


def test_the_prefix_of_statistics_is_stripped_and_the_capitals_are_kept() -> None:
    assert said(reply(400, {"error": {"code": "ERR_WRONG_ADPLANS", "message": "no"}})).code == "WRONG_ADPLANS"


def test_a_missing_right_is_told_by_its_name() -> None:
    error = {"code": "access_denied", "message": "No", "required_permission": "OfflineGoalses_read_permission"}
    found = said(reply(403, {"error": error}))
    assert found.permission == "OfflineGoalses_read_permission"
    assert "OfflineGoalses_read_permission" in found.text


def test_the_line_of_a_contact_is_in_fields_and_in_no_text() -> None:
    line = {"line_number": 3, "line": "79161234567", "code": "invalid_phone"}
    found = said(reply(400, {"error": {"code": "validation_failed", "fields": {"list_users": [line]}}}))
    assert found.fields["list_users"] == [line]
    assert "list_users: invalid_phone" in found.text
    assert "7916" not in found.text + repr(found)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Gateway</html>", "a page of HTML instead of JSON"),
        (b"oops", "no JSON"),
        (b"[1]", "JSON of an unknown shape"),
    ],
)
def test_what_a_proxy_made_of_a_reply_is_told_without_its_text(body: bytes, words: str) -> None:
    assert said(Reply(502, {}, body)).text == f"HTTP 502 {words}"


def test_the_code_of_an_empty_401_is_read_from_its_header() -> None:
    challenge = 'Bearer realm="api", error="expired_token", error_description="x"'
    assert said(reply(401, b"", WWW_Authenticate=challenge)).code == "expired_token"


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "message", "fields", "required_permission", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ),
    st.integers(100, 599),
)
def test_any_reply_can_be_told(told: Any, status: int) -> None:
    found = reply(status, told)
    text = said(found).text
    assert text.startswith(f"HTTP {status}")
    assert text.isprintable()
    assert isinstance(fault("destinations.vk", found, NOON), Halted | NotSent)


# -- what they mean


def test_every_line_of_the_table_that_stops_says_what_to_do() -> None:
    for found in REPLIES.values():
        assert (found.means is Means.LATER) or (found.message and found.advice)


@pytest.mark.parametrize(
    ("status", "code", "means"),
    [
        (401, "invalid_client", "bad_client"), (400, "invalid_client", "bad_client"), (401, "invalid_user", "bad_user"),
        (401, "revoked_token", "revoked"), (401, "expired_token", "bad_token"), (401, "other", "sign_in_refused"),
        (403, "token_limit_exceeded", "token_limit"), (403, "ACCESS_DENIED", "no_rights"),
        (403, "access_denied", "no_rights"), (404, "WRONG_RESOURCE", "not_found"), (400, "WRONG_DATE", "request_refused"),
        (400, "LIMIT_EXCEEDED", "request_refused"), (405, "", "request_refused"), (413, "", "request_refused"),
        (429, "", "later"), (500, "INTERNAL", "later"), (503, "", "later"), (302, "", "moved"), (308, "", "moved"),
        (418, "", "request_refused"), (599, "", "later"), (408, "", "later"),
    ],
)  # fmt: skip
def test_a_reply_means_what_the_table_says(status: int, code: str, means: str) -> None:
    assert meaning(status, code).code == means


def test_five_tokens_are_explained_with_the_way_out_and_its_price() -> None:
    stop = fault("destinations.vk", reply(403, {"error": "token_limit_exceeded"}), NOON)
    assert isinstance(stop, Halted)
    told = stop.finding.message + stop.finding.advice
    for words in ("five", "whatever their state", "a month", "convsync vk token revoke", "other programs"):
        assert words in told


def test_a_moved_host_is_named_with_the_line_to_write() -> None:
    stop = fault("destinations.vk", reply(302, b"", location="https://ads.vk.ru/api/v2/user.json"), NOON)
    assert isinstance(stop, Halted)
    assert (stop.finding.code, 'api_url = "https://ads.vk.ru"' in stop.finding.advice) == ("moved", True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "9", "X-RateLimit-Daily-Remaining": "0"}, 9.0),
        ({"X-RateLimit-Daily-Remaining": "0", "X-RateLimit-Hourly-Remaining": "0"}, (8 * 60 + 40) * 60.0),
        ({"x-ratelimit-hourly-remaining": "0"}, 40 * 60.0),
        ({"X-RateLimit-RPS-Remaining": "0"}, None),
        ({"X-RateLimit-Hourly-Remaining": "0", "X-RateLimit-Hourly-Limit": "0"}, None),
        ({"X-RateLimit-Hourly-Remaining": "soon"}, None),
        ({}, None),
    ],
)
def test_a_429_is_waited_for_as_long_as_it_says(headers: dict[str, str], wait: float | None) -> None:
    assert wait_of(Reply(429, headers, b""), NOON) == wait


# -- asking


def test_an_answer_is_its_object(asked: Asked) -> None:
    told = asked.api.ask("/api/v3/user.json")
    assert told is not None
    assert (told["username"], told["currency"]) == ("owner", "RUB")


def test_a_compressed_answer_is_read(box: Sandbox, asked: Asked) -> None:
    box.config.vk.gzip = True
    assert (asked.api.ask("/api/v3/user.json") or {})["id"] == 12345


def test_a_code_that_was_reckoned_with_is_none_whatever_its_capitals(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=403, times=2)
    assert asked.api.ask(PLANS, none_if=("ACCESS_DENIED",)) is None
    with pytest.raises(Halted, match="no_rights"):
        asked.api.ask(PLANS, none_if=("404", ""))
    assert asked.api.ask("/api/v2/remarketing/counters/1/goals.json", none_if=("404",)) is None


@pytest.mark.parametrize("kind", ["reset_before", "cut_body", "garbage", "html", "empty"])
def test_a_question_without_an_answer_may_be_asked_again(box: Sandbox, asked: Asked, kind: str) -> None:
    box.faults.add(on="vk.ad_plans", kind=kind, times=None)
    with pytest.raises((NotSent, Halted)) as stop:
        asked.api.ask(PLANS)
    assert isinstance(stop.value, NotSent) or kind == "html"


def test_a_redirect_is_not_followed(box: Sandbox, asked: Asked) -> None:
    asked.api.ask(PLANS)
    box.config.vk.api_redirect = "https://ads.vk.ru"
    with pytest.raises(Halted, match="moved") as stop:
        asked.api.ask(PLANS)
    assert "ads.vk.ru" in stop.value.finding.advice


def test_a_lost_answer_to_a_change_is_unclear(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.new_goal", kind="reset_after")
    with pytest.raises(Unclear):
        asked.api.exchange("POST", "/api/v2/remarketing/counters/1234567/goals.json", b"{}", "application/json")


@pytest.mark.parametrize("code", ["expired_token", "invalid_token"])
def test_a_dead_token_is_renewed_once_and_the_request_is_repeated(box: Sandbox, asked: Asked, code: str) -> None:
    asked.api.ask(PLANS)
    if code == "expired_token":
        box.clock.advance(86401)
    else:
        box.faults.add(on="vk.ad_plans", kind="status", status=401)
    assert asked.api.ask(PLANS)
    assert asked.tokens.renewals == 1


def test_a_renewed_token_that_is_refused_as_well_stops_the_destination(box: Sandbox, asked: Asked) -> None:
    box.config.vk.bearer_errors = {"owner": "expired_token"}
    with pytest.raises(Halted, match="bad_token"):
        asked.api.ask(PLANS)
    assert asked.tokens.renewals == 2


def test_a_blocked_client_is_not_asked_about_with_another_token(box: Sandbox, asked: Asked) -> None:
    box.config.vk.bearer_errors = {"owner": "invalid_client"}
    with pytest.raises(Halted, match="bad_client"):
        asked.api.ask(PLANS)
    assert asked.tokens.renewals == 0


# -- lists


@pytest.mark.parametrize("limit", [7, 50, 250])
def test_every_item_comes_whatever_the_server_clamps_to(box: Sandbox, asked: Asked, limit: int) -> None:
    plans(box, 120)
    box.config.vk.max_page = 33
    found = [one["id"] for one in asked.api.pages(PLANS, {"fields": "id"}, limit=limit)]
    assert found == [9100000 + i for i in range(120)]


def test_a_list_that_knows_no_pages_is_read_once(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=200, body={"items": [{"id": 1}]}, times=None)
    assert list(asked.api.pages(PLANS)) == [{"id": 1}]


def test_a_bare_list_is_a_list(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=200, body=[{"id": 1}, {"id": 2}])
    assert [one["id"] for one in asked.api.pages(PLANS)] == [1, 2]


def test_a_page_that_comes_again_is_no_end_of_the_list(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=200, body={"count": 9, "items": [{"id": 1}]}, times=None)
    with pytest.raises(NotSent):
        list(asked.api.pages(PLANS))


def test_a_list_that_is_refused_as_reckoned_with_is_empty(asked: Asked) -> None:
    assert list(asked.api.pages("/api/v2/remarketing/counters/1/goals.json", none_if=("404",))) == []


# -- limits


def test_a_second_that_is_used_up_is_rested_through(box: Sandbox, asked: Asked, clock: StandingClock) -> None:
    clock.advance(0.25)
    box.config.vk.api_per_second = 1
    asked.api.ask(PLANS)
    with pytest.raises(NotSent):  # time stands still, so the second is not over
        asked.api.ask(PLANS)
    assert asked.rested == [0.75]
    asked.api.ask("/api/v3/user.json")
    assert asked.rested == [0.75]  # each method has its own


def test_an_hour_that_is_used_up_is_not_asked_against(box: Sandbox, asked: Asked, clock: StandingClock) -> None:
    clock.advance(20 * 60)
    box.config.vk.api_per_hour = 1
    asked.api.ask(PLANS)
    with pytest.raises(NotSent, match=r"rate_limit: the hourly limit .* 2026-11-22 16:00 Moscow") as stop:
        asked.api.ask(PLANS)
    assert stop.value.wait == 40 * 60
    assert sum(box.books()["requests"]["vk.ad_plans"].values()) == 1
    clock.advance(40 * 60)
    assert asked.api.ask(PLANS)


def test_the_end_of_an_hour_is_waited_for_unless_the_run_ends_before_it(
    box: Sandbox, asked: Asked, clock: StandingClock
) -> None:
    clock.advance(59 * 60 + 30)
    box.config.vk.api_per_hour = 1
    asked.api.ask(PLANS)
    asked.api.wire.deadline = time.monotonic() + 20
    with pytest.raises(NotSent, match="rate_limit"):
        asked.api.ask(PLANS)
    assert asked.rested == []
    asked.api.wire.deadline = None
    with pytest.raises(NotSent):  # time stands still, so the hour is not over
        asked.api.ask(PLANS)
    assert asked.rested == [30.0]


def test_a_day_that_was_used_up_by_others_is_told_with_its_end(box: Sandbox, asked: Asked) -> None:
    asked.api.ask("/api/v3/user.json")
    headers = {"X-RateLimit-Daily-Remaining": "0", "X-RateLimit-Daily-Limit": "9"}
    box.faults.add(on="vk.ad_plans", kind="status", status=429, headers=headers)
    with pytest.raises(NotSent, match="2026-11-23 00:00 Moscow") as stop:
        asked.api.ask(PLANS)
    assert stop.value.wait == 9 * 3600


def test_a_short_wait_is_sat_out_and_a_long_one_is_not(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=429, headers={"Retry-After": "30"})
    assert asked.api.ask(PLANS)
    assert [one for one in asked.waited if one > 1] == [30.0]
    box.faults.add(on="vk.ad_plans", kind="status", status=429, headers={"Retry-After": "600"})
    with pytest.raises(NotSent) as stop:
        asked.api.ask(PLANS)
    assert stop.value.wait == 600.0


def test_a_429_that_does_not_say_how_long_is_asked_again_ever_slower(box: Sandbox, asked: Asked) -> None:
    box.faults.add(on="vk.ad_plans", kind="status", status=429, times=2)
    assert asked.api.ask(PLANS)
    assert [one for one in asked.waited if one >= 1] == [1.0, 2.0]


def test_no_token_is_in_an_address_or_an_error(box: Sandbox, asked: Asked) -> None:
    asked.api.ask(PLANS)
    body = {"error": {"code": "access_denied", "message": f"token {asked.tokens.access} {SECRET} 79161234567"}}
    box.faults.add(on="vk.ad_plans", kind="status", status=403, body=body)
    with pytest.raises(Halted) as stop:
        asked.api.ask(PLANS, {"fields": "id,name"})
    told = f"{stop.value!r} {stop.value.finding}"
    assert not any(word in told for word in (asked.tokens.access, SECRET, "7916"))
    assert asked.tokens.access not in str([(one.get("path"), one.get("query")) for one in box.requests()])
