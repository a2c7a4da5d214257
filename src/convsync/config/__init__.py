"""What the operator wrote: one TOML file, the environment over it, and a secrets directory between the two.

`load` reads all of it once, at the edge; sections are handed down from there. Everything that is wrong is told at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator

from convsync.config.action import (
    YANDEX_STATUSES,
    ActionSettings,
    GoogleTarget,
    Target,
    VkTarget,
    YandexTarget,
    gather,
)
from convsync.config.destination import (
    DESTINATIONS,
    CommonDestination,
    DestinationSettings,
    GoogleSettings,
    VkSettings,
    YandexSettings,
)
from convsync.config.problem import Key, Problem, problems_of
from convsync.config.source import (
    CommonSource,
    CsvSource,
    FileSource,
    JsonlSource,
    SourceSettings,
    SqlSource,
    VkLeadsSource,
)
from convsync.config.values import (
    NOT_YET,
    Currency,
    Duration,
    PositiveDuration,
    Region,
    StrictModel,
    Zone,
    duration,
    folder_of,
    nearest,
    sqlite_path,
    suggestion,
)
from convsync.config.written import PREFIX, Written, read
from convsync.errors import ConfigError
from convsync.model import Finding

__all__ = [
    "ActionSettings",
    "CommonDestination",
    "CommonSource",
    "Config",
    "CsvSource",
    "DestinationSettings",
    "FileSource",
    "GoogleSettings",
    "GoogleTarget",
    "JsonlSource",
    "LedgerSettings",
    "RetentionSettings",
    "RunSettings",
    "SourceSettings",
    "SqlSource",
    "Target",
    "VkLeadsSource",
    "VkSettings",
    "VkTarget",
    "YandexSettings",
    "YandexTarget",
    "duration",
    "load",
    "parse",
]

_HIDDEN = "**********"
_NAME = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")
"""Names of sources and destinations: they are part of keys, variables and file names."""


class LedgerSettings(StrictModel):
    url: str = Field(default="sqlite:///convsync.db", validate_default=True)

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith(("postgresql:", "postgresql+", "postgres:")):
            raise ValueError(f'(PostgreSQL) {NOT_YET} Write "sqlite:///convsync.db".')
        path = None if "?" in value else sqlite_path(value, folder_of(info))
        if path is None:
            raise ValueError('must be "sqlite:///" and the name of a file, such as "sqlite:///convsync.db".')
        return f"sqlite:///{path}"

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))


class RunSettings(StrictModel):
    deadline: PositiveDuration = timedelta(minutes=45)
    page_rows: int = Field(default=2000, ge=1, le=100_000)
    wait: Duration = timedelta(0)


class RetentionSettings(StrictModel):
    identifiers: PositiveDuration = timedelta(days=120)


class Config(StrictModel):
    """Everything convsync was told. `load` and `parse` make one; what they cannot make sense of is a ConfigError."""

    timezone: Zone | None = None
    phone_region: Region | None = None
    reporting_currency: Currency | None = None
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    sources: dict[str, SourceSettings] = Field(default_factory=dict)
    actions: dict[str, ActionSettings] = Field(default_factory=dict)
    destinations: dict[str, DestinationSettings] = Field(default_factory=dict)
    run: RunSettings = Field(default_factory=RunSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)

    _written: Written = PrivateAttr(default_factory=Written)

    @model_validator(mode="before")
    @classmethod
    def _arranged(cls, values: Any) -> Any:
        """Say what the file leaves unsaid: the platform of `[destinations.google]`, the targets among an action's keys."""
        if not isinstance(values, dict):
            return values
        platforms = _platforms(values)
        arranged = dict(values)
        arranged.setdefault("ledger", {})  # built with the folder of the file, not by default_factory
        if isinstance(values.get("destinations"), dict):
            arranged["destinations"] = {
                name: section | {"platform": section.get("platform") or name} if _named_so(name, section) else section
                for name, section in values["destinations"].items()
            }
        if isinstance(values.get("actions"), dict):
            arranged["actions"] = {name: gather(section, platforms) for name, section in values["actions"].items()}
        return arranged

    @property
    def file(self) -> Path | None:
        """The file this was read from."""
        return self._written.file

    @property
    def folder(self) -> Path:
        """The folder relative paths start from."""
        return self._written.folder

    def zone_of(self, source: str) -> ZoneInfo | None:
        """The zone of naive times of `source`; None: such a time is a bad row."""
        return self.sources[source].timezone or self.timezone

    def page_rows_of(self, source: str) -> int:
        settings = self.sources[source]
        return (isinstance(settings, CommonSource) and settings.page_rows) or self.run.page_rows

    def feeds(self, source: str, destination: str) -> bool:
        """Whether actions of `source` may go to `destination`."""
        settings = self.destinations[destination]
        return settings.enabled and (settings.sources is None or source in settings.sources)

    def variables_of(self, destination: str) -> tuple[str, ...]:
        """The names of custom variables that the sources of `destination` have, each once."""
        named = (
            source.custom_variables
            for name, source in self.sources.items()
            if isinstance(source, CommonSource) and self.feeds(name, destination)
        )
        return tuple(dict.fromkeys(variable for variables in named for variable in variables))

    def tells_lead_forms(self) -> bool:
        """Whether a source tells by which lead form an action came in."""
        return any(isinstance(one, VkLeadsSource) or one.fields.get("lead_form") for one in self.sources.values())

    def require_credentials(self, destination: str, *, reading: bool = False) -> None:
        """Raise ConfigError unless `destination` can sign in: to send, or (`reading`) to ask for cost and goals."""
        settings = self.destinations.get(destination)
        if settings is None:
            raise ConfigError(f"there is no [destinations.{destination}].", suggestion(destination, self.destinations))
        key = ("destinations", destination)
        problems = [_empty(key, name) for name in settings.missing(reading=reading)]
        _raise(self._written, [*problems, *_absent_files(key, settings)])

    def warnings(self) -> list[Finding]:
        """What can be meant, but seldom is."""
        ours = (
            self._unused(), self._misspelt(), self._both_ways(), self._unread_login(), self._half_keys(), self._unlisted()
        )  # fmt: skip
        return [*self._written.findings, *(found for part in ours for found in part)]

    def _unused(self) -> Iterator[Finding]:
        named = {name for action in self.actions.values() for name in action.targets}
        for name, settings in self.destinations.items():
            if settings.enabled and name not in named:
                advice = f"Add a line `{name} = {{ … }}` to an [actions.*] section, or say enabled = false."
                yield Finding("warning", "unused_destination", f"destinations.{name}", "no action names it.", advice)
        forms = {source.action for source in self.sources.values() if isinstance(source, VkLeadsSource)}
        for name, action in self.actions.items():
            if (action.kind == "micro" or name in forms) and not action.targets:
                continue  # counted in reports and sent nowhere is what micro-conversions are for, and leads that VK knows
            if not any(self.destinations[target].enabled for target in action.targets):
                message = "no enabled destination takes it: it is counted in reports and sent nowhere."
                yield Finding(
                    "warning", "unsent_action", f"actions.{name}", message, "Name a destination in its section."
                )

    def _misspelt(self) -> Iterator[Finding]:
        """Metrica takes any word as the name of a goal, so PAYED would be one, and nobody would ever see a sale."""
        for name, action in self.actions.items():
            for where, target in action.targets.items():
                word = target.status if isinstance(target, YandexTarget) else None
                if not word or word in YANDEX_STATUSES:
                    continue
                meant = nearest(word, YANDEX_STATUSES) if word.isupper() else None
                if meant or not word.isascii():
                    message = f"{word} is no status of Metrica, so it counts as a JavaScript goal of that name."
                    advice = f"If {meant} was meant, write that."
                    if not meant:
                        advice = f"If it is a stage of the CRM, write what it means: {', '.join(YANDEX_STATUSES)}."
                    yield Finding("warning", "status_as_goal", f"actions.{name}.{where}", message, advice)

    def _both_ways(self) -> Iterator[Finding]:
        """Metrica does not match what orders reach with what conversions reach: one deal that does both counts twice."""
        for where in self.destinations:
            by_order: dict[str, str] = {}
            by_goal: dict[str, str] = {}
            for name, action in self.actions.items():
                target = action.targets.get(where)
                if isinstance(target, YandexTarget):
                    by_order |= dict.fromkeys(target.reached, name)
                    by_goal |= {target.goal: name} if target.goal else {}
            for goal in sorted(by_order.keys() & by_goal.keys()):
                message = (
                    f"the goal {goal} is reached by orders (actions.{by_order[goal]}) and by conversions"
                    f" (actions.{by_goal[goal]}): a deal that is both counts twice in it."
                )
                advice = "Let one of them go to another goal."
                yield Finding("warning", "goal_both_ways", f"destinations.{where}", message, advice)

    def _unread_login(self) -> Iterator[Finding]:
        for name, settings in self.destinations.items():
            if not isinstance(settings, YandexSettings) or not settings.client_login:
                continue
            if settings.cost_client_logins and settings.client_login not in settings.cost_client_logins:
                message = "cost is read of cost_client_logins alone, which does not name client_login."
                advice = "Add it there, or remove client_login."
                yield Finding("warning", "login_unread", f"destinations.{name}", message, advice)

    def _half_keys(self) -> Iterator[Finding]:
        """VK's pixel needs no keys, so that half a pair stops nothing that is sent."""
        for name, settings in self.destinations.items():
            lacking = settings.missing(reading=True) if isinstance(settings, VkSettings) else []
            if len(lacking) == 1:
                message = f"{lacking[0]} is empty, and the other half of the keys is not: they open nothing."
                advice = "Write both for cost, goals, lists and lead forms, or neither."
                yield Finding("warning", "half_keys", f"destinations.{name}", message, advice)

    def _unlisted(self) -> Iterator[Finding]:
        """Leads of forms carry contacts alone and never say themselves whether these may be passed on."""
        for name, source in self.sources.items():
            if not isinstance(source, VkLeadsSource):
                continue
            for key, target in self.actions[source.action].targets.items():
                if not isinstance(target, VkTarget) or not self.feeds(name, key):
                    continue
                where = f"actions.{source.action}.{key}"
                if target.list is None:
                    message = f"no lead of it reaches the goal of {where}: what comes by a lead form has no click id."
                    advice = "VK knows these leads already: remove it, or name a `list` of their phones."
                    yield Finding("warning", "no_click", f"sources.{name}", message, advice)
                elif not source.consent_ad_user_data:
                    message = f"no lead of it goes to the list of {where}: nobody says that people consented."
                    advice = "Write consent_ad_user_data = true in it if the forms ask for that."
                    yield Finding("warning", "no_consent", f"sources.{name}", message, advice)

    def redacted(self) -> dict[str, Any]:
        """All settings with their defaults as plain data for display, secrets hidden."""
        shown = self.model_dump(mode="json")
        for name, source in self.sources.items():
            if isinstance(source, SqlSource):
                shown["sources"][name]["url"] = _shown_url(source.url.get_secret_value())
                shown["sources"][name]["options"] = dict.fromkeys(source.options, _HIDDEN)
        return shown


def load(path: Path | None = None, *, need_credentials: bool = True) -> Config:
    """Read the configuration at `path`, else at CONVSYNC_CONFIG, else at ./convsync.toml.

    Raises ConfigError, and nothing else, with one line for every problem: place, key, what is wrong, what to write.
    Commands that ask no platform anything say `need_credentials=False`.
    """
    return _built(read(path), need_credentials=need_credentials)


def parse(values: Mapping[str, Any], folder: Path | None = None, *, need_credentials: bool = False) -> Config:
    """The same from plain data, without a file, the environment or a secrets directory."""
    return _built(Written(values=values, folder=(folder or Path()).absolute()), need_credentials=need_credentials)


def _built(written: Written, *, need_credentials: bool) -> Config:
    config, problems = _validated(written)
    problems += [*_crossed(written.values), *written.stray]
    if need_credentials:
        problems += _lacking(written.values)
    if need_credentials and config is not None:
        for name, settings in config.destinations.items():
            problems += _absent_files(("destinations", name), settings) if settings.enabled else []
    _raise(written, problems)
    assert config is not None  # or there was a problem
    config._written = written
    return config


def _validated(written: Written) -> tuple[Config | None, list[Problem]]:
    try:
        return Config.model_validate(dict(written.values), context={"folder": written.folder}), []
    except ValidationError as error:
        return None, problems_of(error, Config, _sections(written.values, "destinations"))


def _raise(written: Written, problems: list[Problem]) -> None:
    # Raised outside of any except block: pydantic's own error, which holds values, stays out of the traceback.
    if problems:
        ordered = sorted(problems, key=lambda problem: written.line(problem.key) or 0)
        lines = [f"{written.where(problem.key)}: {_dotted(problem.key)} {problem.text}" for problem in ordered]
        raise ConfigError("\n".join(dict.fromkeys(lines)))


def _dotted(key: Key) -> str:
    return ".".join(part if part.isprintable() else ascii(part) for part in key)


def _sections(values: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The sections below `kind` that can be looked into, valid or not."""
    found = values.get(kind)
    return {name: part for name, part in found.items() if isinstance(part, dict)} if isinstance(found, dict) else {}


def _named_so(name: str, section: Any) -> bool:
    return isinstance(section, dict) and name in DESTINATIONS


def _platforms(values: Mapping[str, Any]) -> dict[str, str | None]:
    """The platform of each destination, None where it cannot be told."""
    platforms: dict[str, str | None] = {}
    for name, section in _sections(values, "destinations").items():
        said = section.get("platform") or name
        platforms[name] = said if isinstance(said, str) and said in DESTINATIONS else None
    return platforms


def _crossed(values: Mapping[str, Any]) -> Iterator[Problem]:
    """What one section alone cannot tell: names that others must know, accounts that must not repeat."""
    yield from _bad_names(values)
    yield from _unknown_sources(values)
    yield from _lead_forms(values)
    yield from _same_accounts(values)
    yield from _files(values)


def _bad_names(values: Mapping[str, Any]) -> Iterator[Problem]:
    for kind in ("sources", "destinations"):
        for name in _sections(values, kind):
            if not _NAME.fullmatch(name) or "__" in name or len(name) > 64:
                yield Problem((kind, name), "must be named with letters, digits and single _ or - between them.")
            elif kind == "destinations" and name in ("kind", "max_age", "targets"):
                yield Problem((kind, name), "cannot have this name: it is a key of [actions.*].")


def _unknown_sources(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = _sections(values, "sources")
    for name, section in _sections(values, "destinations").items():
        listed = section.get("sources")
        names = [part.strip() for part in listed.split(",")] if isinstance(listed, str) else listed
        for wanted in names if isinstance(names, list | tuple) else []:
            if isinstance(wanted, str) and wanted and wanted not in known:
                key = ("destinations", name, "sources")
                yield Problem(key, f"names a source that does not exist. {suggestion(wanted, known)}")


def _lead_forms(values: Mapping[str, Any]) -> Iterator[Problem]:
    """What a source of lead forms names: whose keys sign in, and what its leads are."""
    accounts = [name for name, platform in _platforms(values).items() if platform == "vk"]
    actions = _sections(values, "actions")
    for name, section in _sections(values, "sources").items():
        if section.get("type") != "vk_leads":
            continue
        account, action = section.get("account"), section.get("action")
        if isinstance(account, str) and account and account not in accounts:
            text = f"names no [destinations.*] section of VK Ads. {suggestion(account, accounts)}"
            if not accounts:
                text = "needs a [destinations.vk] section with the keys of VK Ads (enabled = false if nothing is sent)."
            yield Problem(("sources", name, "account"), text)
        if isinstance(action, str) and action and action not in actions:
            text = f"names no [actions.*] section, so that every lead would be skipped. {suggestion(action, actions)}"
            yield Problem(("sources", name, "action"), text)


def _same_accounts(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Two destinations of one account would count everything twice."""
    first: dict[tuple[str, str], str] = {}
    for name, section in _sections(values, "destinations").items():
        platform = _platforms(values)[name]
        key = DESTINATIONS[platform].ACCOUNT if platform else ""
        account = re.sub(r"[\s-]", "", str(section.get(key) or ""))
        if platform and account and first.setdefault((platform, account), name) != name:
            other = first[platform, account]
            text = f"is the same account as in [destinations.{other}]: it would count twice. Remove one of the two."
            yield Problem(("destinations", name, key), text)


def _files(values: Mapping[str, Any]) -> Iterator[Problem]:
    """A file for the Conversion Centre is written without asking anybody, and holds orders."""
    for name, section in _sections(values, "destinations").items():
        if _platforms(values)[name] != "yandex" or section.get("upload") != "file":
            continue
        if not section.get("counter_timezone"):
            text = 'is needed for upload = "file": no counter is asked for it. Write "Europe/Moscow", for example.'
            yield Problem(("destinations", name, "counter_timezone"), text)
        for action, rule in _sections(values, "actions").items():
            target = rule.get(name)
            if isinstance(target, dict) and target.get("goal"):
                text = 'needs upload = "api": the Conversion Centre takes orders only. Name a `status` instead.'
                yield Problem(("actions", action, name, "goal"), text)


def _lacking(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Credentials that are not there, looked for in what was written, so that this waits for no other correction."""
    for name, platform in _platforms(values).items():
        section = values["destinations"][name]
        if platform and str(section.get("enabled", True)).lower() not in ("false", "0", "no", "off", "f", "n"):
            for key in DESTINATIONS[platform].lacking(section.get):
                yield _empty(("destinations", name), key)


def _empty(section: Key, key: str) -> Problem:
    path = (*section, key)
    variable = PREFIX + "__".join(path).upper()
    return Problem(path, f"is empty. Write it here, or in the environment variable {variable}.")


def _absent_files(section: Key, settings: CommonDestination) -> list[Problem]:
    paths = {key: getattr(settings, key, None) for key in ("credentials_file", "ca_bundle")}
    return [
        Problem((*section, key), "names a file that cannot be read. Check the path and who may read it.")
        for key, path in paths.items()
        if path is not None and not os.access(path, os.R_OK)
    ]


def _shown_url(url: str) -> str:
    return (
        url
        if url.startswith("sqlite:") and "@" not in url and "?" not in url
        else f"{url.partition('://')[0]}://{_HIDDEN}"
    )
