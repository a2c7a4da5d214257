"""`yandex goals` and `yandex goals create` against the sandbox's Metrica."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

COUNTER = "12345678"
LEADS = 'yandex = { status = "IN_PROGRESS" }'


def named(shop: Any, lead: str, more: str = "") -> None:
    """Another line in the section of leads, and further sections."""
    shop.configure(lambda text: text.replace(LEADS, f"yandex = {lead}") + more)


def told(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("yandex", "goals", *args, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exit_code"] == code
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [one["code"] for one in found["findings"]]


def states(found: dict[str, Any]) -> dict[str, str]:
    return {one["identifier"]: one["state"] for one in found["goals"]}


def goals(shop: Any) -> list[str]:
    """What the counter has by now, in the words of the sandbox itself."""
    return [row["conditions"][0]["url"] for row in told_by_the_counter(shop)]


def told_by_the_counter(shop: Any) -> list[dict[str, Any]]:
    import requests

    answer = requests.get(
        f"{shop.box.url}/management/v1/counter/{COUNTER}/goals",
        headers={"Authorization": "OAuth sandbox-token"},
        timeout=5,
    )
    found: list[dict[str, Any]] = answer.json()["goals"]
    return found


THERE = ["good_lead", "crm_lead", "qualified", "/thanks"]


# -- what stands in the way


@pytest.mark.parametrize("command", [(), ("create", "--yes")], ids=["list", "create"])
def test_without_a_yandex_destination_there_is_nobody_to_ask(shop: Any, command: tuple[str, ...]) -> None:
    result = shop.run("yandex", "goals", *command, "--destination", "vk")
    assert (result.exit_code, "no Yandex destination" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", [(), ("create", "--yes")], ids=["list", "create"])
def test_without_a_token_nothing_is_asked(shop: Any, command: tuple[str, ...]) -> None:
    shop.configure(lambda text: text.replace('token = "sandbox-token"', ""))
    result = shop.run("yandex", "goals", *command)
    assert result.exit_code == 2
    assert "destinations.yandex.token" in result.stderr


def test_a_destination_that_writes_a_file_needs_a_token_for_goals(shop: Any) -> None:
    shop.configure(
        lambda text: text.replace('token = "sandbox-token"', 'upload = "file"\ncounter_timezone = "Europe/Moscow"')
    )
    result = shop.run("yandex", "goals")
    assert result.exit_code == 2
    assert "metrika:read" in result.stderr


@pytest.mark.parametrize("command", [(), ("create", "--yes")], ids=["list", "create"])
def test_a_wrong_token_exits_2_and_is_not_shown(shop: Any, command: tuple[str, ...]) -> None:
    shop.configure(lambda text: text.replace("sandbox-token", "another-token"))
    found = told(shop, *command, code=2)
    assert codes(found) == ["bad_token"]
    assert "another-token" not in str(found)


@pytest.mark.parametrize("command", [(), ("create", "--yes")], ids=["list", "create"])
def test_a_counter_that_does_not_answer_exits_3(shop: Any, command: tuple[str, ...]) -> None:
    shop.box.faults.add(on="yandex.goals", status=503)
    assert codes(told(shop, *command, code=3)) == ["no_answer"]
    shop.box.config.yandex.requests_per_day = 0
    assert "today's quota" in told(shop, *command, code=3)["findings"][0]["message"]


# -- the list


def test_goals_come_with_what_goes_to_them(shop: Any) -> None:
    named(shop, '{ status = "good_lead", goals = ["qualified:100"], goal = "crm_lead" }')
    result = shop.run("yandex", "goals")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["yandex:", "counter", COUNTER]
    assert ["100001", "Good", "lead", "JavaScript", "good_lead", "lead", "(orders)"] in lines
    assert ["100002", "CRM", "lead", "JavaScript", "crm_lead", "lead", "(conversions)"] in lines
    assert ["100004", "Thank-you", "page", "page", "–", "–"] in lines
    assert "problem" not in result.stdout
    rows = {row["id"]: row["actions"] for row in told(shop)["goals"]}
    assert rows["100003"] == [{"action": "lead", "door": "orders"}]
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_goals_that_metrica_makes_itself_show_the_statuses_that_reach_them(shop: Any) -> None:
    shop.row("1", "lead")
    shop.run("sync", "--destination", "yandex")
    rows = {row["type"]: row["actions"] for row in told(shop)["goals"]}
    assert rows["cdp_order_paid"] == [{"action": "sale", "door": "orders"}]
    assert rows["cdp_order_in_progress"] == [{"action": "lead", "door": "orders"}]


def test_goals_that_are_named_in_vain_are_errors_with_what_is_there(shop: Any) -> None:
    named(shop, '{ status = "Good_lead", goals = ["purchase", "quallified"] }')
    found = told(shop, code=1)
    assert {one["identifier"]: (one["problem"], one["nearest"]) for one in found["missing"]} == {
        "Good_lead": ("goal_case", "good_lead"),
        "purchase": ("no_goal", None),
        "quallified": ("no_goal", "qualified"),
    }
    assert [one["level"] for one in found["findings"]] == ["error"] * 3
    assert all(one["message"].startswith(f"counter {COUNTER}: lead (orders): ") for one in found["findings"])
    result = shop.run("yandex", "goals")
    assert "Good_lead? capitals differ" in result.stdout
    assert 'Write "good_lead"' in result.stderr


def test_goals_of_another_kind_and_condition_are_problems(shop: Any) -> None:
    shop.box.config.yandex.counters[COUNTER].goals[1].condition = "contain"
    named(shop, '{ status = "/thanks", goal = "crm_lead" }')
    found = told(shop, code=1)
    assert codes(found) == ["goal_type", "goal_not_exact"]
    assert [row["problem"] for row in found["goals"]] == [
        "", "crm_lead? not `matches`", "", "/thanks? no JavaScript event",
    ]  # fmt: skip


def test_a_counter_without_goals_is_said(shop: Any) -> None:
    shop.box.config.yandex.counters[COUNTER].goals.clear()
    assert "it has no goals" in shop.run("yandex", "goals").stdout


def test_options_before_create_are_no_options_of_create(shop: Any) -> None:
    result = shop.run("yandex", "goals", "--json", "create", "--yes")
    assert result.exit_code == 2
    assert "behind `create`" in result.stderr
    assert goals(shop) == THERE


# -- making them


def test_what_is_missing_is_made_once(shop: Any) -> None:
    named(shop, '{ status = "IN_PROGRESS", goals = ["basket:10"], goal = "crm_leads_all" }')
    found = told(shop, "create", "--yes")
    assert states(found) == {"basket": "made", "crm_leads_all": "made"}
    assert {one["identifier"]: one["name"] for one in found["goals"]} == {"basket": "basket", "crm_leads_all": "lead"}
    made = told_by_the_counter(shop)[len(THERE) :]
    assert [(goal["type"], goal["conditions"]) for goal in made] == [
        ("action", [{"type": "exact", "url": "basket"}]),
        ("action", [{"type": "exact", "url": "crm_leads_all"}]),
    ]
    assert [one["id"] for one in found["goals"]] == [str(goal["id"]) for goal in made]
    again = told(shop, "create", "--yes")
    assert (again["goals"], goals(shop)) == ([], [*THERE, "basket", "crm_leads_all"])
    assert "has every goal that the configuration names" in shop.run("yandex", "goals", "create").stdout
    assert shop.run("yandex", "goals").exit_code == 0


def test_a_configuration_without_javascript_goals_has_nothing_to_make(shop: Any) -> None:
    result = shop.run("yandex", "goals", "create")
    assert (result.exit_code, "names no JavaScript goal" in result.stdout) == (0, True)


def test_a_dry_run_shows_and_makes_nothing(shop: Any) -> None:
    named(shop, '{ goal = "crm_sale" }')
    found = told(shop, "create", "--dry-run")
    assert states(found) == {"crm_sale": "would be made"}
    result = shop.run("yandex", "goals", "create", "--dry-run")
    assert "lacks 1 goal:" in result.stdout
    assert "nothing was made" in result.stdout
    assert goals(shop) == THERE


def test_with_nobody_to_ask_nothing_is_made(shop: Any) -> None:
    named(shop, '{ goal = "crm_sale" }')
    result = shop.run("yandex", "goals", "create")
    assert result.exit_code == 2
    assert "--yes makes them without asking" in result.stderr
    assert goals(shop) == THERE


def at_a_terminal(shop: Any, answer: bytes) -> tuple[int, str]:
    mine, theirs = pty.openpty()
    os.write(mine, answer)
    command = [sys.executable, "-m", "convsync", "--config", str(shop.path), "yandex", "goals", "create"]
    try:
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(mine)
        os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_a_person_is_asked_and_may_say_no(shop: Any) -> None:
    named(shop, '{ goal = "crm_sale" }')
    code, said = at_a_terminal(shop, b"n\n")
    assert (code, goals(shop)) == (1, THERE)
    assert "Make this goal?" in said
    assert "Nothing was made." in said


def test_a_person_who_agrees_also_gets_what_looked_like_a_slip(shop: Any) -> None:
    named(shop, '{ goal = "CRM_lead" }')
    code, said = at_a_terminal(shop, b"y\n")
    assert (code, goals(shop)) == (0, [*THERE, "CRM_lead"])
    assert "there is no goal CRM_lead, but crm_lead" in said


def test_a_slip_is_not_made_without_a_person_unless_it_is_named(shop: Any) -> None:
    named(shop, '{ status = "Good_lead", goal = "crm_sale" }')
    found = told(shop, "create", "--yes", code=1)
    assert states(found) == {"Good_lead": "left out", "crm_sale": "made"}
    assert codes(found) == ["goal_case"]
    assert "goals create Good_lead" in found["findings"][0]["advice"]
    assert states(told(shop, "create", "--yes", "Good_lead")) == {"Good_lead": "made"}
    assert goals(shop) == [*THERE, "crm_sale", "Good_lead"]


def test_a_slip_is_not_named_by_the_action_that_is_spelled_like_the_goal(shop: Any) -> None:
    named(shop, '{ goal = "crm_leads" }', '[actions.good_lead]\nkind = "lead"\nyandex = { status = "Good_lead" }\n')
    assert states(told(shop, "create", "--yes", "good_lead", code=1)) == {"Good_lead": "left out"}
    assert goals(shop) == THERE


def test_a_counter_that_does_not_answer_keeps_no_other_from_its_goals(shop: Any) -> None:
    second = '[destinations.second]\nplatform = "yandex"\ncounter_id = "99999999"\ntoken = "sandbox-token"\n'
    second += f'metrica_url = "{shop.box.url}"\n'
    call = '[actions.call]\nkind = "micro"\nyandex = { goal = "call_goal" }\nsecond = { goal = "far_goal" }\n'
    named(shop, '{ goal = "crm_lead" }', call + second)
    assert states(told(shop, "create", "--yes", "far_goal", code=2)) == {}
    found = told(shop, "create", "--yes", code=2)
    assert (states(found), codes(found)) == ({"call_goal": "made"}, ["no_rights"])
    assert goals(shop) == [*THERE, "call_goal"]


def test_names_limit_what_is_made_and_an_action_stands_for_its_goals(shop: Any) -> None:
    named(shop, '{ goal = "one_goal" }', '[actions.call]\nkind = "micro"\nyandex = { goal = "call_goal" }\n')
    assert states(told(shop, "create", "--yes", "call")) == {"call_goal": "made"}
    assert goals(shop) == [*THERE, "call_goal"]
    assert "lacks nothing of these names" in shop.run("yandex", "goals", "create", "call").stdout
    result = shop.run("yandex", "goals", "create", "--yes", "one_gaol")
    assert result.exit_code == 2
    assert "Did you mean one_goal?" in result.stderr


def test_a_goal_of_several_actions_is_called_by_its_identifier(shop: Any) -> None:
    named(shop, '{ goal = "any_lead" }', '[actions.call]\nkind = "lead"\nyandex = { goal = "any_lead" }\n')
    assert [one["name"] for one in told(shop, "create", "--yes")["goals"]] == ["any_lead"]


def test_a_token_without_the_right_to_write_makes_nothing_and_says_what_is_needed(shop: Any) -> None:
    shop.box.config.yandex.tokens["sandbox-token"].remove("metrika:write")
    named(shop, '{ status = "first_goal", goal = "second_goal" }')
    found = told(shop, "create", "--yes", code=2)
    assert states(found) == {"first_goal": "not made", "second_goal": "not made"}
    assert codes(found) == ["no_write"]
    assert "metrika:write" in found["findings"][0]["advice"]


def test_a_full_counter_is_told_before_and_in_metricas_words(shop: Any) -> None:
    counter = shop.box.config.yandex.counters[COUNTER]
    counter.goals = [type(counter.goals[0])(number, f"g{number}", f"g{number}") for number in range(1, 200)]
    named(shop, '{ status = "first_goal", goal = "second_goal" }')
    found = told(shop, "create", "--yes", code=1)
    assert states(found) == {"first_goal": "made", "second_goal": "refused"}
    assert codes(found) == ["goal_limit", "goal_refused"]
    assert "limit_exceeded" in found["findings"][1]["message"]


@pytest.mark.parametrize("kind", ["reset_after", "cut_body", "garbage"])
def test_a_goal_whose_answer_was_lost_is_found_and_not_made_twice(shop: Any, kind: str) -> None:
    named(shop, '{ goal = "crm_sale" }')
    shop.box.faults.add(on="yandex.new_goal", kind=kind, times=1)
    found = told(shop, "create", "--yes")
    assert [(one["state"], one["id"]) for one in found["goals"]] == [("made", str(told_by_the_counter(shop)[-1]["id"]))]
    assert goals(shop) == [*THERE, "crm_sale"]


@pytest.mark.parametrize("kind", ["reset_before", "status"])
def test_a_goal_that_may_have_been_made_is_not_asked_for_again(shop: Any, kind: str) -> None:
    named(shop, '{ status = "first_goal", goal = "second_goal" }')
    shop.box.faults.add(on="yandex.new_goal", kind=kind, status=503 if kind == "status" else None, times=1)
    found = told(shop, "create", "--yes", code=3)
    assert states(found) == {"first_goal": "unknown", "second_goal": "not made"}
    assert codes(found) == ["goal_unknown"]
    assert goals(shop) == THERE
    assert states(told(shop, "create", "--yes")) == {"first_goal": "made", "second_goal": "made"}


def test_a_quota_that_ends_in_the_middle_is_told_and_the_next_run_goes_on(shop: Any) -> None:
    named(shop, '{ status = "first_goal", goal = "second_goal" }')
    refusal = {"errors": [{"error_type": "quota_requests_by_uid", "message": "Quota exceeded"}], "code": 429}
    shop.box.faults.add(on="yandex.new_goal", status=429, body=refusal, skip=1, times=1)
    found = told(shop, "create", "--yes", code=3)
    assert states(found) == {"first_goal": "made", "second_goal": "not made"}
    assert "after 00:00 GMT" in found["findings"][0]["message"]
    assert states(told(shop, "create", "--yes")) == {"second_goal": "made"}
