"""init and check: the first minutes of a newcomer."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from convsync.cli import commands
from convsync.ledger import Ledger
from convsync.ledger.verify import verify

ROOT = Path(__file__).parents[2]


def invoke(*args: str) -> Any:
    return CliRunner().invoke(commands, list(args))


# -- init


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_refuses_to_overwrite(folder: Path) -> None:
    (folder / "convsync.toml").write_text("mine")
    result = invoke("init")
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert (folder / "convsync.toml").read_text() == "mine"


def test_init_by_force_keeps_the_old_configuration_and_never_loses_one(folder: Path) -> None:
    (folder / "convsync.toml").write_text("mine")
    assert invoke("init", "--force").exit_code == 0
    assert (folder / "convsync.toml.old").read_text() == "mine"
    assert invoke("init", "--force").exit_code == 2
    assert (folder / "convsync.toml.old").read_text() == "mine"


def test_init_into_a_folder_that_cannot_be_made_exits_2(folder: Path) -> None:
    (folder / "file").write_text("")
    result = invoke("--config", "file/convsync.toml", "init")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_init_writes_the_example_and_an_empty_ledger_for_you_alone(folder: Path) -> None:
    result = invoke("init")
    assert result.exit_code == 0
    assert (folder / "convsync.toml").read_bytes() == (ROOT / "config.example.toml").read_bytes()
    for name in ("convsync.toml", "convsync.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    ledger = Ledger.open(folder / "convsync.db", read_only=True)
    assert verify(ledger.store) == []
    ledger.close()
    assert len(result.stderr.strip().splitlines()) == 4


def test_init_does_not_touch_a_ledger_that_is_there(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    shop.path.rename(shop.folder / "elsewhere.toml")
    Ledger.open(shop.folder / "convsync.db").close()
    result = shop.run("init")
    assert "was there already" in result.stdout


def test_the_example_is_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"config.example.toml": "convsync/config.example.toml"}


# -- check


def test_a_fresh_configuration_is_told_what_is_missing_and_exits_2(folder: Path) -> None:
    invoke("init")
    result = invoke("check")
    assert result.exit_code == 2
    assert "there is no database shop.db" in result.stdout
    assert "CONVSYNC_DESTINATIONS__GOOGLE__REFRESH_TOKEN" in result.stdout
    assert "ok       clock" in result.stdout


def test_all_errors_of_a_configuration_are_told_at_once(shop: Any) -> None:
    shop.configure(lambda text: text.replace('kind = "lead"', 'kind = "leed"').replace("pixel_id", "pixl_id"))
    result = shop.run("check", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 2
    assert len(told["findings"]) >= 2
    assert {one["code"] for one in told["findings"]} == {"configuration"}


def test_a_source_that_is_missing_exits_1(shop: Any) -> None:
    (shop.folder / "shop.db").unlink()
    assert shop.run("check").exit_code == 1


def test_a_ledger_that_others_can_read_is_an_error(shop: Any) -> None:
    shop.run("sync")
    shop.ledger.chmod(0o644)
    result = shop.run("check")
    assert result.exit_code == 1
    assert "chmod 600" in result.stdout


def test_a_configuration_with_secrets_that_others_can_read_is_a_warning(shop: Any) -> None:
    shop.path.chmod(0o644)
    result = shop.run("check")
    assert result.exit_code == 0
    assert "holds a secret that other users can read" in result.stdout


def test_a_file_that_is_no_ledger_is_an_error(shop: Any) -> None:
    shop.ledger.write_text("not a database, but long enough to be looked at " * 20)
    shop.ledger.chmod(0o600)
    result = shop.run("check")
    assert result.exit_code == 1
    assert "cannot be read as a ledger" in result.stdout
    shop.ledger.unlink()


def test_a_wrong_token_shows_only_online(shop: Any) -> None:
    shop.configure(lambda text: text.replace("sandbox-token", "another-token"))
    assert shop.run("check").exit_code == 0
    result = shop.run("check", "--online")
    assert result.exit_code == 1
    assert "destinations.yandex" in result.stdout
    assert "another-token" not in result.stdout


def through_both_doors(shop: Any, *, goal: str = "crm_lead", token: str = "sandbox-token") -> None:
    one = 'yandex = { status = "IN_PROGRESS" }'
    both = f'yandex = {{ status = "IN_PROGRESS", goal = "{goal}" }}'
    shop.configure(lambda text: text.replace(one, both).replace("sandbox-token", token))


def of_yandex(shop: Any) -> list[tuple[str, str]]:
    found = json.loads(shop.run("check", "--online", "--json").stdout)["findings"]
    return [(one["level"], one["message"]) for one in found if one["where"] == "destinations.yandex"]


def test_what_concerns_both_doors_of_a_counter_is_said_once(shop: Any) -> None:
    through_both_doors(shop, token="another-token")
    assert [level for level, _ in of_yandex(shop)].count("error") == 1


def test_no_door_is_called_open_while_the_other_has_an_error(shop: Any) -> None:
    through_both_doors(shop, goal="nowhere")
    told = of_yandex(shop)
    assert any("there is no JavaScript goal nowhere" in message for _, message in told)
    assert not any("an upload could work" in message for _, message in told)


def test_two_open_doors_of_a_counter_are_one_good_word(shop: Any) -> None:
    through_both_doors(shop)
    assert of_yandex(shop).count(("ok", "it answers, and an upload could work.")) == 1


def test_a_counter_whose_uploads_nobody_could_look_at_is_not_called_open(shop: Any) -> None:
    shop.box.faults.add(on="yandex.last_uploadings", kind="html", times=None)
    assert not any("an upload could work" in message for _, message in of_yandex(shop))


def test_a_platform_that_does_not_answer_is_an_error_online(shop: Any) -> None:
    shop.configure(lambda text: text.replace("/token", "/nowhere"))
    assert shop.run("check", "--online").exit_code == 1


def test_a_good_configuration_shows_all_that_was_looked_at(shop: Any) -> None:
    shop.three()
    shop.run("sync")
    result = shop.run("check", "--online")
    assert result.exit_code == 0, result.stdout
    for what in (
        "configuration",
        "files",
        "ledger",
        "sqlite",
        "clock",
        "source shop",
        "actions.sale",
        "destinations.vk",
    ):
        assert what in result.stdout
    assert "Ready: convsync sync --dry-run" in result.stdout
    assert shop.box.books()["vk"]["totals"]["hits"] == 2


def test_check_writes_nothing(shop: Any) -> None:
    shop.run("check", "--online")
    assert not shop.ledger.exists()
