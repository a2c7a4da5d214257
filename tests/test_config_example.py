"""The example is complete, right as it stands and right with its comments switched on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from convsync import config as module
from convsync.config import (
    ActionSettings,
    Config,
    CsvSource,
    GoogleSettings,
    JsonlSource,
    LedgerSettings,
    RetentionSettings,
    RunSettings,
    SqlSource,
    VkLeadsSource,
    VkSettings,
    YandexSettings,
    load,
)
from convsync.config.action import TARGETS
from convsync.config.written import _Layers
from convsync.errors import ConfigError
from convsync.model import Kind

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"


def test_the_example_loads_as_it_stands(tmp_path: Path) -> None:
    config = load(EXAMPLE, need_credentials=False)
    assert [action.kind for action in config.actions.values()] == [Kind.LEAD, Kind.SALE]
    assert list(config.destinations) == ["google", "yandex", "vk"]
    assert [finding for finding in config.warnings() if finding.code != "readable_secret"] == []


def test_the_example_with_every_comment_switched_on_still_loads(tmp_path: Path) -> None:
    """A line that is a comment and a key must be right, too: people will remove its #."""
    lines = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        body = line.removeprefix("# ")
        key = body.split(" = ")[0]
        on = line.startswith("# ") and ((" = " in body and key.isidentifier()) or body.startswith("[sources."))
        lines.append(body if on and key not in ("table", "credentials_file", "ca_bundle") else line)
    text = "\n".join(lines)
    for wrong in ('action = "sale" ', 'type = "csv" '):
        assert wrong in text
    file = tmp_path / "all.toml"
    file.write_text(text.replace('\naction = "sale" ', '\n# action = "sale" '), encoding="utf-8")
    config = load(file, need_credentials=False)
    assert isinstance(config.sources["exports"], CsvSource)
    assert parse_defaults(config) == parse_defaults(load(EXAMPLE, need_credentials=False))


def parse_defaults(config: Config) -> object:
    """What the example says are defaults; apart from keys where it shows one way to set what has none."""
    shown = config.redacted()
    for settings in (*shown["destinations"].values(), shown["ledger"]):
        for key in ("sources", "counter_timezone", "cost_customer_ids", "cost_client_logins", "url"):
            settings.pop(key, None)
    return [shown["run"], shown["retention"], shown["destinations"]]


@pytest.mark.parametrize(
    "model",
    [
        Config,
        LedgerSettings,
        RunSettings,
        RetentionSettings,
        SqlSource,
        CsvSource,
        JsonlSource,
        VkLeadsSource,
        ActionSettings,
        GoogleSettings,
        YandexSettings,
        VkSettings,
        *TARGETS.values(),
    ],
)
def test_every_key_is_in_the_example(model: type[BaseModel]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for key in set(model.model_fields) - {"targets"}:
        assert f"{key} = " in text or f"[{key}" in text or f".{key}]" in text, key


def test_the_layers_know_every_section() -> None:
    assert set(_Layers.model_fields) == set(Config.model_fields)


def test_importing_the_configuration_imports_no_client() -> None:
    heavy = "google, requests, grpc, phonenumbers, rich, sqlite_utils, convsync.sandbox"
    code = f"import sys, convsync.config; print([m for m in {heavy.split(', ')!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=EXAMPLE.parent)
    assert run.stdout.strip() == "[]"


def test_a_failure_can_cross_a_process_boundary(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301  (our own bytes)


def test_what_the_package_says_it_offers_is_there() -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
