"""Secrets as files that runs read: one value a file, mode 0600, and what stands in the way of their being read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from convsync.errors import UsageError
from convsync.model import Finding

SECRETS_DIR = "CONVSYNC_SECRETS_DIR"


@contextmanager
def read_too(directory: Path) -> Iterator[None]:
    """As runs will: what an earlier sign-in stored is known, and a file there that is no key is told before anything."""
    if not directory.is_dir():
        yield
        return
    before = os.environ.get(SECRETS_DIR)
    os.environ[SECRETS_DIR] = str(directory)
    try:
        yield
    finally:
        del os.environ[SECRETS_DIR]
        os.environ.update({} if before is None else {SECRETS_DIR: before})


def prepare(directory: Path) -> None:
    """Found out before a person is sent to Google: whether the answer can be kept."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error.strerror}.", "--secrets-dir names another.") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"{directory} cannot be written to.", "--secrets-dir names another.")


def store(directory: Path, name: str, values: Mapping[str, str]) -> dict[str, Path]:
    """One file a value. Nothing takes its place before all are on the disk; the token comes last, after its client."""
    import tempfile

    there = {path.name.lower(): path for path in directory.iterdir()}  # names of keys have no case
    names = {key: f"destinations__{name}__{key}" for key in values}
    files = {key: there.get(file.lower(), directory / file) for key, file in names.items()}
    fresh: dict[str, Path] = {}
    try:
        for key, value in values.items():
            # mkstemp makes it 0600; the dot hides it from a run that looks into the directory meanwhile.
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=directory)
            fresh[key] = Path(temporary)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
        for key, path in files.items():
            fresh[key].replace(path)
        _sync(directory)
    except OSError as error:
        advice = "Make room or rights, then sign in again."
        raise UsageError(f"{directory}: the token cannot be stored ({error.strerror}).", advice) from None
    finally:
        for path in fresh.values():
            path.unlink(missing_ok=True)
    return files


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def what_wins(file: Path, name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Other places that say the same keys: the environment wins over secrets, secrets over the file."""
    import tomllib

    from convsync.config.written import key_lines

    where = f"destinations.{name}"
    text = file.read_bytes().decode("utf-8-sig")
    section = tomllib.loads(text)["destinations"].get(name, {})
    variables = {variable.upper(): variable for variable in os.environ}
    for key, value in values.items():
        variable = variables.get(f"CONVSYNC_DESTINATIONS__{name}__{key}".upper())
        if variable and os.environ[variable].strip() != value:
            message = f"the environment variable {variable} holds another {key}, which wins over the one just stored."
            yield Finding("error", "environment_wins", where, message, "Remove it, here and where cron gets it from.")
        if section.get(key, "") not in ("", value):
            line = key_lines(text).get(("destinations", name, key), 1)
            message = f"{file}:{line} holds another {key}; it is used wherever {SECRETS_DIR} is not set."
            yield Finding("warning", "other_value_in_file", where, message, "Remove that line.")


def where_runs_look(named: str | None, directory: Path) -> Iterator[Finding]:
    if named and Path(named).resolve() == directory.resolve():
        return
    message = "names another directory than" if named else "is not set, so a run does not yet find"
    line = f"{SECRETS_DIR}={shlex.quote(str(directory))}"
    advice = f"Say `export {line}`; in cron, write {line} as a line of its own above the command."
    yield Finding("warning", "secrets_dir_elsewhere", SECRETS_DIR, f"{message} {directory}.", advice)


def left_lying(file: Path | None) -> Iterator[Finding]:
    if file is not None and file.exists() and file.stat().st_mode & 0o077:
        message = "holds a secret that other users can read, and is not needed any more."
        yield Finding("warning", "readable_secret", str(file), message, f"Delete it, or run chmod 600 {file}")
