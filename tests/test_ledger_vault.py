"""The file of sign-ins beside the ledger: private, whole, and one at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from convsync.errors import LedgerError
from convsync.ledger.vault import Vault


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_the_file_is_private_and_whole_and_forgets(ledger: Path) -> None:
    vault = Vault(ledger)
    assert vault.read("a") is None
    with vault.lock(0):
        vault.keep("a", {"access": "1"})
        vault.keep("b", {"access": "2"})
        vault.forget("a")
    assert (vault.read("a"), vault.read("b")) == (None, {"access": "2"})
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    assert vault.path.name == "ledger.db.tokens"
    assert sorted(one.name for one in ledger.parent.iterdir()) == ["ledger.db.tokens", "ledger.db.tokens.lock"]


def test_a_file_that_others_can_read_is_refused(ledger: Path) -> None:
    vault = Vault(ledger)
    vault.keep("a", {})
    vault.path.chmod(0o640)
    with pytest.raises(LedgerError, match="can be read by other users") as refusal:
        vault.read("a")
    assert "chmod 600" in refusal.value.advice


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_file_that_is_none_of_ours_is_not_overwritten(ledger: Path, text: str) -> None:
    vault = Vault(ledger)
    vault.path.write_text(text)
    vault.path.chmod(0o600)
    with pytest.raises(LedgerError, match="cannot be read"):
        vault.keep("a", {})
    assert vault.path.read_text() == text


def test_a_death_while_it_is_written_leaves_the_old_file(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(ledger)
    vault.keep("a", {"access": "old"})

    def die(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            vault.keep("a", {"access": "new"})
    assert vault.read("a") == {"access": "old"}
    vault.keep("a", {"access": "new"})
    assert vault.read("a") == {"access": "new"}


def test_the_lock_keeps_out_other_threads_and_is_given_back(ledger: Path) -> None:
    vault = Vault(ledger)
    with vault.lock(0), pytest.raises(TimeoutError), Vault(ledger).lock(0):
        pass
    with Vault(ledger).lock(0):
        pass


def test_a_folder_that_cannot_be_written_to_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be used"), Vault(tmp_path / "file" / "ledger.db").lock(0):
        pass
