"""`vk goals`, `vk token` and `check --online` against the sandbox's VK."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

KEYS = 'client_id = "sandbox-vk"\nclient_secret = "sandbox-vk-secret"\napi_url = "{url}"\n'


@pytest.fixture
def vk(shop: Any) -> Any:
    """A shop with keys of the VK Ads API."""
    written(shop)
    return shop


def written(shop: Any, sale: str = '{ goal = "crm_sale" }', more: str = "", keys: str = KEYS) -> None:
    keys = keys.replace("{url}", shop.box.url)
    shop.configure(
        lambda text: text.replace('{ goal = "crm_sale" }', sale).replace(
            "[destinations.vk]", f"{more}\n[destinations.vk]\n{keys}"
        )
    )


def told(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("vk", *args, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exit_code"] == code
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [one["code"] for one in found["findings"]]


def tokens_at_vk(shop: Any) -> int:
    return int(shop.box.books()["vk"]["tokens"])


# -- what stands in the way


@pytest.mark.parametrize("command", [("goals",), ("token", "status"), ("token", "revoke", "--yes")])
def test_without_a_vk_destination_there_is_nobody_to_ask(vk: Any, command: tuple[str, ...]) -> None:
    result = vk.run("vk", *command, "--destination", "google")
    assert (result.exit_code, "no VK destination" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", [("goals",), ("token", "status"), ("token", "revoke", "--yes")])
def test_without_keys_nothing_is_asked(shop: Any, command: tuple[str, ...]) -> None:
    result = shop.run("vk", *command)
    assert result.exit_code == 2
    assert "client_id" in result.stderr
    assert not shop.ledger.with_name("ledger.db.tokens").exists()


def test_a_wrong_secret_exits_2_and_is_not_shown(vk: Any) -> None:
    written(vk, keys=KEYS.replace("sandbox-vk-secret", "another-secret"))
    found = told(vk, "goals", code=2)
    assert codes(found) == ["bad_client"]
    assert "another-secret" not in str(found)


def test_a_moved_host_exits_2_with_the_line_to_write(vk: Any) -> None:
    vk.box.config.vk.api_redirect = "https://ads.vk.ru"
    found = told(vk, "goals", code=2)
    assert 'api_url = "https://ads.vk.ru"' in found["findings"][0]["advice"]


def test_no_answer_exits_3(vk: Any) -> None:
    vk.box.faults.add(on="vk.counter_goals", kind="status", status=500, times=None)
    assert codes(told(vk, "goals", code=3)) == ["no_answer"]


@pytest.mark.parametrize(
    ("operation", "command", "said"),
    [
        (
            "vk.counter_goals",
            ("goals",),
            "The goals of the pixel 1234567 were not read to their end: the VK Ads API gave",
        ),
        ("vk.user", ("token", "status"), "Whether VK takes the token is not known: the VK Ads API gave"),
        (
            "vk.token_delete",
            ("token", "revoke", "--yes"),
            "Whether the tokens have ended is not known, and to ask again does",
        ),
    ],
)
def test_what_did_not_come_about_is_said_by_its_name(
    vk: Any, operation: str, command: tuple[str, ...], said: str
) -> None:
    told(vk, "goals")
    vk.box.faults.add(on=operation, kind="status", status=500, times=None)
    assert told(vk, *command, code=3)["findings"][0]["message"].startswith(said)


def test_a_limit_that_is_used_up_is_said_with_its_end_and_any_other_as_a_limit(vk: Any) -> None:
    vk.box.faults.add(on="vk.counter_goals", kind="status", status=429, headers={"Retry-After": "7200"}, times=None)
    assert "takes no more requests for now (HTTP 429" in told(vk, "goals", code=3)["findings"][0]["message"]
    vk.box.faults.clear()
    vk.box.faults.add(
        on="vk.counter_goals", kind="status", status=429, times=None,
        headers={"X-RateLimit-Daily-Limit": "9", "X-RateLimit-Daily-Remaining": "0"},
    )  # fmt: skip
    assert "the daily limit of VK is used up until" in told(vk, "goals", code=3)["findings"][0]["message"]


def test_an_e_mail_as_username_is_nobodys_business(vk: Any) -> None:
    told(vk, "goals")
    body = {"id": 12345, "username": "anna.petrova@example.com", "currency": "RUB"}
    vk.box.faults.add(on="vk.user", kind="status", status=200, body=body, times=None)
    (row,) = told(vk, "token", "status")["tokens"]
    assert row["account"] == {"id": "12345", "username": "[email]"}


# -- goals


def test_goals_are_listed_with_the_actions_that_go_to_them(vk: Any) -> None:
    result = vk.run("vk", "goals")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert "pixel 1234567" in lines["vk:"]
    assert lines["crm_sale"].rstrip().endswith("sale")
    assert "JS event" in lines["crm_lead"]


def test_goals_as_json(vk: Any) -> None:
    found = told(vk, "goals")
    sale = next(one for one in found["goals"] if one["goal"] == "crm_sale")
    assert (sale["pixel"], sale["condition"], sale["goal_type"], sale["actions"]) == (
        "1234567", "jse", "purchase", ["sale"],
    )  # fmt: skip
    assert found["missing"] == []


@pytest.mark.parametrize(
    ("goal", "code", "nearest"),
    [("Crm_Sale", "goal_case", "crm_sale"), ("crm_salle", "no_goal", "crm_sale"), ("paid", "no_goal", None)],
)
def test_a_goal_that_is_named_in_vain_exits_1(vk: Any, goal: str, code: str, nearest: str | None) -> None:
    written(vk, f'{{ goal = "{goal}" }}')
    found = told(vk, "goals", code=1)
    assert [(one["goal"], one["problem"], one["nearest"], one["actions"]) for one in found["missing"]] == [
        (goal, code, nearest, ["sale"])
    ]
    shown = vk.run("vk", "goals").stdout
    assert (f"{goal}?" in shown) == (nearest is not None)


def test_a_pixel_of_another_account_is_told(vk: Any) -> None:
    written(vk, more='[destinations.vk_two]\nplatform = "vk"\npixel_id = "999"\n' + KEYS.replace("{url}", vk.box.url))
    found = told(vk, "goals", "--destination", "vk_two")
    assert (found["goals"], found["missing"]) == ([], [])


# -- token


def test_before_anything_was_asked_no_token_is_kept_and_none_is_asked_for(vk: Any) -> None:
    (row,) = told(vk, "token", "status")["tokens"]
    assert (row["kept"], row["works"], row["asked"], row["client_id"]) == (False, None, 0, "sandbox-vk")
    assert tokens_at_vk(vk) == 0
    assert "no token is kept" in vk.run("vk", "token", "status").stdout


def test_commands_share_the_token_that_is_kept(vk: Any) -> None:
    for _ in range(6):
        told(vk, "goals")
    (row,) = told(vk, "token", "status")["tokens"]
    assert (row["kept"], row["works"], row["asked"]) == (True, True, 1)
    assert row["account"] == {"id": "12345", "username": "owner"}
    assert tokens_at_vk(vk) == 1


def test_status_never_shows_a_token_and_offline_asks_nobody(vk: Any) -> None:
    told(vk, "goals")
    kept = json.loads(vk.ledger.with_name("ledger.db.tokens").read_text())
    asked = vk.box.books()["requests"].get("vk.user")
    for args in (("--offline",), ("--offline", "--json"), (), ("--json",)):
        shown = vk.run("-v", "vk", "token", "status", *args)
        assert shown.exit_code == 0
        if "--offline" in args:
            assert vk.box.books()["requests"].get("vk.user") == asked
        for pair in kept.values():
            assert not any(pair[name] in shown.output for name in ("access", "refresh"))
    assert "sandbox-vk-secret" not in vk.run("vk", "token", "status").output


def test_status_tells_of_a_dead_token_and_leaves_it_as_it_is(vk: Any) -> None:
    told(vk, "goals")
    vk.box.clock.advance(86401)
    found = told(vk, "token", "status")
    assert (found["tokens"][0]["works"], codes(found)) == (False, ["dead_token"])
    assert vk.box.books()["vk"]["token_users"]["owner"]["refreshes"] == 0


def test_revoke_asks_nobody_who_is_not_there(vk: Any) -> None:
    told(vk, "goals")
    result = vk.run("vk", "token", "revoke")
    assert (result.exit_code, "--yes" in result.stderr, tokens_at_vk(vk)) == (2, True, 1)


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 1, 1), ("y\n", 0, 0)])
def test_revoke_explains_its_price_to_a_person(vk: Any, typed: str, code: int, left: int) -> None:
    told(vk, "goals")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "convsync", "--config", str(vk.path), "vk", "token", "revoke"],
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=vk.folder,
    )  # fmt: skip
    os.write(master, typed.encode())
    _, stderr = process.communicate(timeout=60)
    os.close(master)
    os.close(slave)
    assert (process.returncode, tokens_at_vk(vk)) == (code, left)
    for words in ("ALL tokens", "sandbox-vk", "other program", "signed out"):
        assert words in stderr


def test_revoke_ends_all_tokens_and_forgets_ours(vk: Any) -> None:
    told(vk, "goals")
    assert told(vk, "token", "revoke", "--yes")["done"] == ["vk"]
    assert tokens_at_vk(vk) == 0
    assert told(vk, "token", "status")["tokens"][0]["kept"] is False
    told(vk, "goals")
    assert tokens_at_vk(vk) == 1


def test_revoke_here_leaves_vk_alone(vk: Any) -> None:
    told(vk, "goals")
    assert vk.run("vk", "token", "revoke", "--here", "--yes").exit_code == 0
    assert (tokens_at_vk(vk), told(vk, "token", "status")["tokens"][0]["kept"]) == (1, False)


def test_revoke_with_wrong_keys_exits_2_and_keeps_what_is_kept(vk: Any) -> None:
    told(vk, "goals")
    written(vk, keys=KEYS.replace("sandbox-vk-secret", "another-secret"))
    assert told(vk, "token", "revoke", "--yes", code=2)["done"] == []
    assert told(vk, "token", "status", "--offline")["tokens"][0]["kept"] is True


def test_a_file_of_tokens_that_others_can_read_exits_2(vk: Any) -> None:
    told(vk, "goals")
    vk.ledger.with_name("ledger.db.tokens").chmod(0o644)
    assert codes(told(vk, "goals", code=2)) == ["token_file"]
    assert codes(told(vk, "token", "status", code=2)) == ["token_file"]


# -- check


def checked(shop: Any, *args: str) -> dict[str, str]:
    found = json.loads(shop.run("check", *args, "--json").stdout)["findings"]
    return {one["code"]: one["level"] for one in found if one["where"] == "destinations.vk"}


def test_check_asks_the_account_only_online_and_only_with_keys(vk: Any) -> None:
    assert set(checked(vk)) == {"ok"}
    assert tokens_at_vk(vk) == 0
    online = checked(vk, "--online")
    assert {"account", "token", "currency", "goals_ready", "ok"} <= set(online)
    assert tokens_at_vk(vk) == 1
    vk.configure()
    assert "not_checkable" in checked(vk, "--online")


def test_a_list_without_keys_is_told_with_its_line_by_check_and_by_sync(shop: Any) -> None:
    shop.configure(lambda text: text.replace('{ goal = "crm_sale" }', '{ goal = "crm_sale", list = "Sales" }'))
    line = next(at for at, one in enumerate(shop.path.read_text("utf-8").splitlines(), 1) if one == "[destinations.vk]")
    for command in ("check", "sync"):
        result = shop.run(command)
        assert result.exit_code == 2
        assert f"{shop.path.name}:{line}: destinations.vk.client_id is empty." in result.output
        assert "actions.sale.vk.list needs it: lists of contacts are uploaded through the VK Ads API." in result.output


def test_check_finds_a_goal_that_is_named_in_vain(vk: Any) -> None:
    written(vk, '{ goal = "Crm_sale" }')
    result = vk.run("check", "--online")
    assert result.exit_code == 1
    assert 'Write "crm_sale"' in result.stdout


def test_a_sync_without_lists_asks_for_no_token(vk: Any) -> None:
    vk.row("1")
    vk.run("sync", "--destination", "vk")
    assert vk.states("vk") == {"1": "accepted"}
    assert tokens_at_vk(vk) == 0
