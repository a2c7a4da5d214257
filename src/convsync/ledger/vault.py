"""Sign-ins that have to be remembered from run to run: `<ledger>.tokens`, a file of its own beside the ledger.

Not tables of the ledger: its lock is held over a network call, and no transaction of the ledger ever is; a `sync` holds
the ledger's own lock for all of its run, while `costs pull` and `check` need the same token; and a copy of the ledger
for an auditor must hold no credentials.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convsync.errors import LedgerError

POLL = 0.05
"""Seconds between two tries to take the lock."""


class Vault:
    """Small JSON objects by key, in one file of mode 0600. Raises LedgerError where the file cannot be used."""

    def __init__(self, ledger: Path) -> None:
        self.path = ledger.with_name(ledger.name + ".tokens")
        self._lock = ledger.with_name(ledger.name + ".tokens.lock")

    def read(self, key: str) -> dict[str, Any] | None:
        """What is kept under `key`: as the last `keep` left it, with the lock or without."""
        found = self._all().get(key)
        return found if isinstance(found, dict) else None

    def keep(self, key: str, kept: Mapping[str, Any]) -> None:
        """Replace what is kept under `key`. Only under the lock: it writes the other keys again, too."""
        self._write(self._all() | {key: dict(kept)})

    def forget(self, key: str) -> None:
        """Under the lock, as `keep`."""
        self._write({one: kept for one, kept in self._all().items() if one != key})

    @contextmanager
    def lock(self, timeout: float) -> Iterator[None]:
        """One process, and one thread of it, at a time; TimeoutError after `timeout` seconds.

        The kernel's lock: it goes away with its process, however that dies.
        """
        descriptor = self._opened_lock()
        try:
            until = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise TimeoutError("the lock of the tokens is held") from None
                    time.sleep(POLL)
            yield
        finally:
            os.close(descriptor)

    def _opened_lock(self) -> int:
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(self._lock, error) from error

    def _all(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(self.path, error) from error
        if mode & 0o077:
            message = f"{self.path} holds tokens and can be read by other users (mode {mode:04o})."
            raise LedgerError(message, f"Make it private: chmod 600 {self.path}")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            message = f"{self.path} cannot be read as the file of tokens."
            raise LedgerError(message, "Move it away: the next run asks for a new token, of which there are few.")
        return found

    def _write(self, content: Mapping[str, Any]) -> None:
        """Whole or not at all, whatever dies in between."""
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unusable(new, error) from error

    def _unusable(self, path: Path, error: OSError) -> LedgerError:
        advice = "Tokens are kept beside the ledger: let every program that runs convsync be the same user."
        return LedgerError(f"{path} cannot be used: {error.strerror}.", advice)
