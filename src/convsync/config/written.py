"""What the operator wrote, in three layers (environment over secrets directory over TOML), and where it stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import SkipValidation
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from convsync.config.problem import Key, Problem
from convsync.config.values import suggestion
from convsync.errors import ConfigError
from convsync.model import Finding

PREFIX = "CONVSYNC_"
PATH_VARIABLE = "CONVSYNC_CONFIG"
SECRETS_VARIABLE = "CONVSYNC_SECRETS_DIR"
DEFAULT_PATH = Path("convsync.toml")

Section = SkipValidation[dict[str, Any]]
"""A table of the file. The annotation tells pydantic-settings to look for nested names; `Config` judges what is in it."""


class _Layers(BaseSettings):
    """Merges the layers and judges nothing: text from an environment variable stays text."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", enable_decoding=False)

    timezone: Any = None
    phone_region: Any = None
    reporting_currency: Any = None
    ledger: Section = {}
    sources: Section = {}
    actions: Section = {}
    destinations: Section = {}
    run: Section = {}
    retention: Section = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_dir_missing="error", secrets_prefix="")
        return env_settings, secrets, init_settings


# Kubernetes gives every container CONVSYNC_SANDBOX_SERVICE_HOST and the like for each Service of such a name.
_NOT_OURS = re.compile(
    rf"{PATH_VARIABLE}|{SECRETS_VARIABLE}|(?!.*__).*_(?:SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)"
)

SCALARS = frozenset({"timezone", "phone_region", "reporting_currency"})
ROOT = frozenset(_Layers.model_fields)


@dataclass(frozen=True)
class Written:
    """All layers as one tree. It holds secrets in clear, so it shows nothing of itself."""

    file: Path | None = None
    text: str = field(default="", repr=False)
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origins: Mapping[Key, str] = field(default_factory=dict, repr=False)
    """Where a value that is not from the file comes from. Keys in lower case, as variables have no case."""
    stray: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = ()
    folder: Path = Path()

    @cached_property
    def lines(self) -> Mapping[Key, int]:
        return key_lines(self.text)

    def where(self, key: Key) -> str:
        """The place a person has to go to: of the key itself, else of the section it is missing from."""
        for length in range(len(key), 0, -1):
            lower = tuple(part.lower() for part in key[:length])
            if lower in self.origins:
                return self.origins[lower]
            if key[:length] in self.lines:
                return f"{self.file}:{self.lines[key[:length]]}"
            for path, label in self.origins.items():
                if path[:length] == lower:
                    return label
        return str(self.file or "configuration")

    def line(self, key: Key) -> int | None:
        """The line of the key, or of the section it is missing from, if the file has either."""
        found = (self.lines.get(key[:length]) for length in range(len(key), 0, -1))
        return next((line for line in found if line), None)


def read(path: Path | None) -> Written:
    """Read the three layers. Raises ConfigError when one of them cannot be read at all."""
    file = path or Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
    try:
        return _read(file)
    except OSError as error:  # a directory that may not be looked into, a file that went away meanwhile
        reason, place = error.strerror, error.filename or file
    raise ConfigError(f"{place}: cannot be read ({reason}).", "Check who may read it.")


def _read(file: Path) -> Written:
    text = _text(file)
    values = _parsed(file, text)
    secrets = _secrets_directory()
    origins = dict(_origins(secrets))
    return Written(
        file=file,
        text=text,
        values=_merged(values, secrets),
        origins=origins,
        stray=(*_stray(origins), *_led_outside(secrets)),
        findings=tuple(_readable_by_others(file, values, secrets)),
        folder=file.absolute().parent,
    )


def _text(file: Path) -> str:
    advice = f"`convsync init` writes one; --config PATH or {PATH_VARIABLE} names another."
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such configuration file.", advice) from None
    except OSError as error:
        raise ConfigError(f"{file}: the configuration cannot be read ({error.strerror}).", advice) from None
    line = _line_of_bad_byte(content)
    if line:
        raise ConfigError(f"{file}:{line}: this is not UTF-8 text.", "Save the file in the encoding UTF-8.")
    return content.decode("utf-8-sig")


def _line_of_bad_byte(content: bytes) -> int | None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return None


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)
    # tomllib names keys and single characters, never a value.
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason)
    line = (found[1] if found else None) or str(text.count("\n") + 1)
    said = reason[: found.start()] if found else reason
    raise ConfigError(
        f"{file}:{line}: this is not TOML: {said}.",
        'Write key = "value", one a line, text in quotes, sections in [brackets].',
    )


def _secrets_directory() -> Path | None:
    name = os.environ.get(SECRETS_VARIABLE)
    if not name:
        return None
    directory = Path(name)
    if not directory.is_dir():
        raise ConfigError(f"{directory}: there is no such secrets directory.", f"{SECRETS_VARIABLE} names it.")
    return directory


def _merged(values: dict[str, Any], secrets: Path | None) -> dict[str, Any]:
    """The layers in one tree. What the file has beside the known sections stays, to be named as unknown."""
    arguments: dict[str, Any] = {key: value for key, value in values.items() if key in ROOT}
    arguments["_secrets_dir"] = secrets
    try:
        layers = _Layers(**arguments)
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        place = getattr(error, "filename", None) or secrets
    else:
        found = {key: getattr(layers, key) for key in sorted(layers.model_fields_set)}
        return {**values, **_as_spelled(values, found)}
    raise ConfigError(f"{place}: a secrets file cannot be read ({reason}).", "It must be UTF-8 text, with mode 0600.")


def _as_spelled(file: dict[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
    """Variables have no case: what they say of `[sources.shop]` goes to `[sources.Shop]` if the file spells it so."""
    spelled = {key.lower(): key for key in file}
    result: dict[str, Any] = {}
    for key in sorted(merged, key=lambda key: key not in file):
        name = key if key in file else spelled.get(key.lower(), key)
        value, below = merged[key], file.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _as_spelled(below, {**result.get(name, {}), **value} if key != name else value)
        result[name] = value
    return result


def _origins(secrets: Path | None) -> Iterator[tuple[Key, str]]:
    """Every name that the environment and the secrets directory give, the stronger layer last."""
    if secrets is not None:
        for name, file in _secret_files(secrets):
            yield tuple(name.lower().split("__")), f"secrets file {file}"
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and not _NOT_OURS.fullmatch(name.upper()):
            yield tuple(name[len(PREFIX) :].lower().split("__")), f"environment variable {name}"


def _secret_files(directory: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            yield str(name), file


def _stray(origins: Mapping[Key, str]) -> Iterator[Problem]:
    """Names that lead nowhere; pydantic-settings passes them over in silence."""
    for key in origins:
        if key[0] not in ROOT:
            yield Problem(key, f"is not a known key. {suggestion(key[0], ROOT)}")
        elif key[0] in SCALARS and len(key) > 1:
            yield Problem(key, f"is not a known key: {key[0]} has nothing below it.")


def _led_outside(secrets: Path | None) -> Iterator[Problem]:
    """pydantic-settings follows no link out of the directory, and says nothing."""
    for name, file in _secret_files(secrets) if secrets else ():
        if secrets and secrets.resolve() not in file.resolve().parents:
            key = tuple(name.lower().split("__"))
            yield Problem(
                key, "is a link out of the secrets directory, which is not followed. Put the file itself there."
            )


def _readable_by_others(file: Path, values: dict[str, Any], secrets: Path | None) -> Iterator[Finding]:
    files = [path for _, path in _secret_files(secrets)] if secrets else []
    for path in [*files, *([file] if _has_secret(values) else [])]:
        if path.stat().st_mode & 0o077:
            yield Finding(
                "warning",
                "readable_secret",
                str(path),
                "holds a secret that other users can read.",
                f"Run chmod 600 {path}",
            )


def _has_secret(values: Any) -> bool:
    if not isinstance(values, dict):
        return False
    named = any(values.get(key) for key in ("token", "client_secret", "refresh_token", "developer_token"))
    return named or any(_has_secret(value) for value in values.values())


_KEY = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_STATEMENT = re.compile(rf"[ \t]*(?:\[\[?[ \t]*(?P<table>{_DOTTED})[ \t]*\]\]?|(?P<key>{_DOTTED})[ \t]*=)")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n|[^\n]",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Key, int]:
    """The line of every section and key of a text that is TOML (tomllib has no positions)."""
    lines: dict[Key, int] = {}
    table: Key = ()
    found: Key = ()
    at = 0
    while at < len(text):
        statement = _STATEMENT.match(text, at)
        line = text.count("\n", 0, at) + 1
        if statement and statement["table"]:
            table = found = _path(statement["table"])
        elif statement:
            found = table + _path(statement["key"])
        for length in range(1, len(found) + 1 if statement else 0):
            lines.setdefault(found[:length], line)
        at = _end_of_statement(text, statement.end() if statement else at)
    return lines


def _end_of_statement(text: str, at: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, at):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)


def _path(dotted: str) -> Key:
    keys: list[str] = []
    tree: Any = tomllib.loads(f"{dotted} = 0")
    while isinstance(tree, dict):
        key, tree = next(iter(tree.items()))
        keys.append(key)
    return tuple(keys)
