"""`check --online` for VK: what the account sees of pixel and goals, lists, campaigns, and what is known of the token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convsync.config.action import VkTarget
from convsync.destinations.vk import Pixel
from convsync.destinations.vk.api import Api
from convsync.destinations.vk.goals import Goal, goals, lack
from convsync.destinations.vk.readiness import look
from convsync.destinations.vk.tokens import Client, Tokens
from convsync.ledger.vault import Vault
from convsync.model import Finding
from convsync.net import Wire
from convsync.sandbox import Sandbox
from convsync.sandbox.vk_config import AdPlan, PixelGoal
from worlds import StandingClock

BOTH = [VkTarget(goal="crm_lead"), VkTarget(goal="crm_sale")]
LISTED = [VkTarget(list="sales")]

Look = Callable[..., list[Finding]]


@pytest.fixture
def tokens(box: Sandbox, clock: StandingClock, tmp_path: Path) -> Iterator[Tokens]:
    wire = Wire(requests_per_second=10_000, timeout=1, sleep=lambda _: None, clock=clock.now)
    client = Client("sandbox-vk", "sandbox-vk-secret")
    yield Tokens("destinations.vk", client=client, keeper=Vault(tmp_path / "l.db"), wire=wire, url=box.url)
    wire.close()


@pytest.fixture
def api(tokens: Tokens) -> Api:
    return Api(tokens.where, tokens=tokens, wire=tokens.wire, url=tokens.url)


@pytest.fixture
def looked(api: Api, tokens: Tokens) -> Look:
    def look_at(targets: list[VkTarget], pixel_id: str = "1234567", currency: str | None = "RUB") -> list[Finding]:
        return look(api, tokens.kept, pixel_id=pixel_id, targets=targets, currency=currency)

    return look_at


def found(findings: list[Finding]) -> dict[str, str]:
    """Code → level."""
    return {one.code: one.level for one in findings}


def told(findings: list[Finding], code: str) -> str:
    one = next(one for one in findings if one.code == code)
    return f"{one.message} {one.advice}"


# -- who is asked


def test_wrong_keys_are_the_only_thing_told(box: Sandbox, looked: Look) -> None:
    box.config.vk.client_secret = "another"
    assert found(looked(BOTH)) == {"bad_client": "error"}


def test_no_answer_is_the_only_thing_told(box: Sandbox, looked: Look) -> None:
    box.faults.add(on="vk.*", kind="status", status=503, times=None)
    assert found(looked(BOTH)) == {"no_answer": "error"}


def test_a_limit_that_is_used_up_is_told_with_its_end(box: Sandbox, looked: Look) -> None:
    box.faults.add(on="vk.user", kind="status", status=429, headers={"X-RateLimit-Hourly-Remaining": "0"}, times=None)
    assert "until 2026-11-22 16:00 Moscow time" in told(looked(BOTH), "no_answer")


def test_an_account_that_has_everything_is_told_of_without_a_warning(looked: Look) -> None:
    findings = looked(BOTH)
    assert found(findings) == dict.fromkeys(("account", "token", "currency", "goals_ready"), "info")
    assert "owner (12345)" in told(findings, "account")
    assert "until 2026-11-23 15:00 Moscow time" in told(findings, "token")
    assert "asked for 1 so far" in told(findings, "token")
    assert "crm_lead, crm_sale" in told(findings, "goals_ready")


def test_a_ledger_that_asked_for_many_tokens_is_warned_of(
    box: Sandbox, tokens: Tokens, api: Api, looked: Look, tmp_path: Path
) -> None:
    client = Client("sandbox-vk", "sandbox-vk-secret")
    for number in range(3):
        assert api.ask("/api/v3/user.json")
        stranger = Vault(tmp_path / f"of another program {number}")
        Tokens("x", client=client, keeper=stranger, wire=tokens.wire, url=box.url).revoke()
    findings = looked(BOTH)
    assert found(findings)["many_tokens"] == "warning"
    assert "asked for 4 so far" in told(findings, "many_tokens")


@pytest.mark.parametrize(
    ("told_by_vk", "configured", "words"),
    [("RUB", None, "its currency is RUB: values"), ("KZT", "RUB", "reports are in RUB"), (None, "RUB", "did not tell")],
)
def test_the_currency_of_the_account_is_told(
    box: Sandbox, looked: Look, told_by_vk: str | None, configured: str | None, words: str
) -> None:
    box.config.vk.currency = told_by_vk
    assert words in " ".join(one.message for one in looked(BOTH, currency=configured))


def test_without_the_third_version_the_second_tells_who_is_asked(box: Sandbox, looked: Look) -> None:
    box.faults.add(on="vk.user", kind="status", status=404)
    assert "owner (12345)" in told(looked(BOTH), "account")


# -- pixel and goals


def test_a_pixel_that_the_account_does_not_see_is_an_error_with_those_that_it_sees(looked: Look) -> None:
    findings = looked(BOTH, pixel_id="999")
    assert found(findings)["no_pixel"] == "error"
    assert "1234567 (Site), 7654321 (Second site)" in told(findings, "no_pixel")


@pytest.mark.parametrize(
    ("goal", "code", "words"),
    [
        ("CRM_Sale", "goal_case", 'Write "crm_sale"'),
        ("crm_sales", "no_goal", "Did you mean crm_sale?"),
        ("paid", "no_goal", "There are crm_lead, crm_sale, crm_micro."),
        ("thanks", "goal_type", "of another kind (url)"),
    ],
)
def test_a_goal_that_cannot_be_called_is_an_error_with_the_near_miss(
    box: Sandbox, looked: Look, goal: str, code: str, words: str
) -> None:
    box.config.vk.pixels["1234567"].goals["thanks"] = PixelGoal("Thanks", "url")
    findings = looked([VkTarget(goal="crm_lead"), VkTarget(goal=goal)])
    assert found(findings)[code] == "error"
    assert words in told(findings, code)
    assert "JS goals: crm_lead." in told(findings, "goals_ready")


def test_where_a_pixel_has_no_list_of_its_own_the_list_of_all_is_read(box: Sandbox, api: Api) -> None:
    box.faults.add(on="vk.counter_goals", kind="status", status=404)
    assert [one.substr for one in goals(api, "1234567")] == ["crm_lead", "crm_sale", "crm_micro"]


def test_a_goal_whose_kind_is_not_told_may_be_called() -> None:
    known = [Goal("1", "crm_sale", "", "", "")]
    assert lack("crm_sale", known) is None


def test_goals_that_could_not_be_looked_at_are_told_and_the_rest_goes_on(box: Sandbox, looked: Look) -> None:
    box.faults.add(on="vk.counters", kind="status", status=500, times=None)
    findings = looked([*BOTH, *LISTED])
    assert (found(findings)["goals_unseen"], found(findings)["lists_open"]) == ("warning", "info")


# -- lists


def test_without_a_list_nobody_asks_for_lists(box: Sandbox, looked: Look) -> None:
    looked(BOTH)
    assert not any("list" in name or "plans" in name for name in box.books()["requests"])


def test_lists_that_are_closed_are_an_error_that_names_whom_to_ask(box: Sandbox, looked: Look) -> None:
    body = {
        "error": {"code": "access_denied", "message": "No", "required_permission": "OfflineGoalses_read_permission"}
    }
    box.faults.add(on="vk.lists", kind="status", status=403, body=body)
    findings = looked(LISTED)
    assert found(findings)["no_rights"] == "error"
    for words in ("ads_api@vk.team", "manager", "OfflineGoalses_read_permission"):
        assert words in told(findings, "no_rights")


def test_campaigns_without_offline_conversions_are_counted_and_ten_named(box: Sandbox, looked: Look) -> None:
    made = {str(100 + i): AdPlan(f"plan {i:02d}", enable_offline_goals=i >= 12) for i in range(70)}
    box.config.vk.ad_plans = {**made, "999": AdPlan("stopped", "blocked")}
    text = told(findings := looked(LISTED), "campaigns_without_lists")
    assert found(findings)["campaigns_without_lists"] == "warning"
    assert "offline conversions: 12 (plan 00, " in text
    assert "plan 09, …)" in text
    assert "plan 10" not in text
    assert "stopped" not in text


def test_campaigns_that_all_use_lists_are_not_spoken_of(box: Sandbox, looked: Look) -> None:
    for plan in box.config.vk.ad_plans.values():
        plan.enable_offline_goals = True
    assert set(found(looked(LISTED))) == {"account", "token", "currency", "lists_open"}


# -- through the route


def pixel(**more: Any) -> Pixel:
    wire = Wire(requests_per_second=10_000)
    return Pixel("vk", pixel_id="1234567", wire=wire, **more)


def test_a_pixel_with_keys_tells_what_the_account_told() -> None:
    seen = Finding("error", "no_pixel", "destinations.vk", "…")
    probed = pixel(ready=lambda: [seen], on_ambiguous="retry").probe()
    assert [one.code for one in probed] == ["no_pixel", "may_count_twice"]


def test_a_pixel_without_keys_says_that_they_would_help() -> None:
    (one,) = pixel().probe()
    assert (one.code, "client_id" in one.advice) == ("not_checkable", True)
