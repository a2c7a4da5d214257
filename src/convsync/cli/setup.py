"""The commands that come first: init writes a configuration, check says what is missing in it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convsync.cli.frame import Command, Talk, leave, mark, put_json, told
from convsync.errors import ConfigError, ConvsyncError, Exit, UsageError
from convsync.model import Finding

if TYPE_CHECKING:
    from convsync.config import Config

YEARS = range(2024, 2100)
"""A clock outside of these years is wrong, and everything would be too old or in the future."""


AFTER_A_LOST_ANSWER = {
    "resend": "After a lost answer it is sent again: the platform drops repeats by id.",
    "ask": "After a lost answer the platform is asked what arrived.",
    "hold": "After a lost answer it is held for a person: the platform would count a repeat.",
}


@click.command(cls=Command, short_help="Write a commented configuration and an empty ledger.")
@click.option(
    "--force", is_flag=True, help="Write a new configuration although there is one; the old one is kept as .old."
)
@click.pass_obj
def init(talk: Talk, force: bool) -> None:
    """Write a commented configuration and an empty ledger, both readable by you alone.

    \b
    Examples:
      convsync init
      convsync --config /etc/convsync/convsync.toml init

    Never overwrites a configuration (--force keeps the old one beside it) and never touches a ledger that is there.

    Exit codes: 0 written · 2 there is one already, or the folder cannot be written to
    """
    path = talk.config_path or Path(os.environ.get("CONVSYNC_CONFIG") or "convsync.toml")
    _write_private(path, _example(), force)
    from convsync.cli.runs import locked
    from convsync.config import load

    config = load(path, need_credentials=False)
    there = config.ledger.path.exists()
    with locked(config):
        pass
    click.echo(f"configuration  {path}")
    click.echo(f"ledger         {config.ledger.path}{' (was there already)' if there else ''}")
    here = "" if path == Path("convsync.toml") else f" --config {path}"
    talk.say(
        f"\nWhat to do next:\n"
        f"  1. Open {path.name}: name your source, your actions, and the accounts they go to.\n"
        f"  2. convsync{here} check --online      says what is still missing\n"
        f"  3. convsync{here} sync --dry-run      does everything but the sending; then `sync` does it all"
    )


def _example() -> bytes:
    """The example configuration: in the installed package, or in the checkout this runs from."""
    from importlib.resources import files

    packaged = files("convsync") / "config.example.toml"
    if packaged.is_file():
        return packaged.read_bytes()
    return (Path(__file__).parents[3] / "config.example.toml").read_bytes()


def _write_private(path: Path, content: bytes, force: bool) -> None:
    try:
        if path.exists() and not force:
            raise UsageError(f"{path} is there already.", "Edit it; or --force writes a new one and keeps it as .old.")
        if path.exists():
            old = path.with_name(path.name + ".old")
            if old.exists():
                raise UsageError(
                    f"{old} is there as well.", "Move it away first: it may hold the only copy of a token."
                )
            path.rename(old)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


# -- check


@click.command(cls=Command, short_help="Say what is wrong or missing, and what to do about it.")
@click.option("--online", is_flag=True, help="Ask the platforms too: credentials, goals, rights. Sends no conversion.")
@click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
@click.pass_obj
def check(talk: Talk, online: bool, json_: bool) -> None:
    """Look at everything a run needs and say what is wrong or missing, with advice.

    Looks at the configuration (all of its errors at once), who can read which file, the ledger, the clock, the first
    rows of every source, and credentials; with --online also asks each platform whether an upload could work.

    \b
    Examples:
      convsync check
      convsync check --online --json | jq '.findings[] | select(.level == "error")'

    Never sends a conversion, and writes nothing but the token of VK Ads, which every run shares (LEDGER.tokens).

    Exit codes: 0 no error · 1 an error needs a person · 2 the configuration is wrong or lacks credentials
    """
    found, code = [], Exit.OK
    try:
        config = talk.config()
    except ConfigError as error:
        found = [_of_config(line) for line in str(error).splitlines()]
        code = Exit.USAGE
        if not json_:
            _show(found)
    else:
        for one in _look(config, online):
            found.append(one)
            if one.level == "error":
                code = Exit.USAGE if one.code == "configuration" else max(code, Exit.ATTENTION)
            if not json_:
                _show([one])
    if json_:
        put_json({"findings": [one._asdict() for one in found], "exit_code": int(code)})
    else:
        click.echo(f"\n{_verdict(found, online)}")
    leave(code)


def _show(found: list[Finding]) -> None:
    for one in found:
        click.echo(f"{mark(one.level)} {told(one)}")


def _verdict(found: list[Finding], online: bool) -> str:
    from convsync.cli.show import counted

    errors = sum(one.level == "error" for one in found)
    warnings = sum(one.level == "warning" for one in found)
    said = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}."
    if errors:
        return f"{said} Mend the errors, then check again."
    return f"{said} " + (
        "Ready: convsync sync --dry-run" if online else "Next: convsync check --online asks the platforms."
    )


def _of_config(line: str) -> Finding:
    return Finding("error", "configuration", "", line)


def _ok(where: str, message: str) -> Finding:
    return Finding("ok", "ok", where, message)


def _look(config: Config, online: bool) -> Iterator[Finding]:
    yield _ok("configuration", f"{config.file} can be used.")
    yield from config.warnings()
    yield from _files(config)
    yield from _ledger(config)
    yield from _clock(config)
    yield from _sources(config, online)
    yield from _actions(config)
    yield from _destinations(config, online)


def _files(config: Config) -> Iterator[Finding]:
    secrets = os.environ.get("CONVSYNC_SECRETS_DIR")
    open_to_others = False
    for path in [config.file, Path(secrets) if secrets else None]:
        if path is not None and path.stat().st_mode & 0o022:
            open_to_others = True
            advice = f"Run chmod go-w {path}"
            yield Finding("warning", "writable_by_others", str(path), "other users can change it.", advice)
    if not open_to_others:
        yield _ok("files", "nobody else can change the configuration.")


def _ledger(config: Config) -> Iterator[Finding]:
    import sqlite3

    from convsync.ledger import Ledger, schema
    from convsync.ledger.store import refuse_readable_by_others, wal_reset_bug

    path = config.ledger.path
    if not path.exists():
        yield Finding("info", "no_ledger", "ledger", f"there is none at {path} yet; the first sync makes it.")
    else:
        try:
            refuse_readable_by_others(path)
            book = Ledger.open(path, read_only=True)
            told = book.audit.stats()
            book.close()
        except ConvsyncError as error:
            yield Finding("error", "ledger", "ledger", error.message, error.advice)
        else:
            actions, deliveries = told["actions"], told["deliveries"]
            yield _ok("ledger", f"{path}, schema {schema.VERSION}, {actions} actions, {deliveries} deliveries.")
            yield from _last_run(told["last_run"])
    version = sqlite3.sqlite_version
    if wal_reset_bug():
        message = (
            f"version {version} has the WAL-reset bug, which can damage a database that two connections write to at the same"
            " moment. convsync lets one process write at a time, so it cannot happen here."
        )
        yield Finding("info", "wal_reset", "sqlite", message, "Open the ledger for writing with no other program.")
    else:
        yield _ok("sqlite", f"{version} with Python {platform.python_version()}.")


def _last_run(last: dict[str, Any] | None) -> Iterator[Finding]:
    if last and datetime.fromisoformat(last["started_at"]) > datetime.now(UTC):
        message = f"the last run began at {last['started_at']}, which is yet to come: the clock was set back."
        yield Finding("error", "clock_behind", "clock", message, "Set the clock: leases and waiting times go by it.")


def _clock(config: Config) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now.year not in YEARS:
        yield Finding("error", "clock", "clock", f"it says {now:%Y-%m-%d}.", "Set the clock of this machine.")
        return
    zone = config.timezone
    if zone is None:
        message = f"{now:%Y-%m-%d %H:%M} UTC; the configuration names no timezone."
        advice = "Times without a zone will be bad rows, and reports cannot tell days. Write timezone at its top."
        yield Finding("warning", "no_timezone", "clock", message, advice)
        return
    local = now.astimezone(zone)
    yield _ok("clock", f"{local:%Y-%m-%d %H:%M} in {zone.key} (UTC{local:%z}).")


def _sources(config: Config, online: bool) -> Iterator[Finding]:
    from convsync.cli import assemble

    if not config.sources:
        yield Finding(
            "error", "no_source", "sources", "there is none.", "Add a [sources.*] section: where actions come from."
        )
    for name in config.sources:
        try:
            source = assemble.source(config, name)
            if config.sources[name].type == "vk_leads" and not online:
                yield _ok(f"source {name}", "VK is asked for its leads with --online.")
                continue
            found = source.check()
        except ConvsyncError as error:
            found = [Finding("error", "source", f"source {name}", error.message, error.advice)]
        yield from found
        if not any(one.level == "error" for one in found):
            yield _ok(f"source {name}", f"it can be read ({config.sources[name].type}).")


def _actions(config: Config) -> Iterator[Finding]:
    if not config.actions:
        advice = "Add an [actions.*] section for each name that the sources use."
        yield Finding("error", "no_action", "actions", "there is none: every row would be skipped.", advice)
    for name, action in config.actions.items():
        where = [target for target in action.targets if config.destinations[target].enabled]
        if where:
            yield _ok(f"actions.{name}", f"a {action.kind} for {', '.join(where)}.")


def _destinations(config: Config, online: bool) -> Iterator[Finding]:
    from convsync.cli import assemble
    from convsync.cli.runs import by_file

    if not config.destinations:
        yield Finding("error", "no_destination", "destinations", "there is none.", "Add a [destinations.*] section.")
    for name, settings in config.destinations.items():
        where = f"destinations.{name}"
        if not settings.enabled:
            yield Finding("info", "switched_off", where, "it is switched off (enabled = false).")
            continue
        try:
            assemble.require_credentials(config, [name])
            routes = assemble.routes(config, name)
        except ConfigError as error:
            for line in str(error).splitlines():
                yield _of_config(line)
            continue
        if by_file(config, name):
            yield _ok(
                where, f"account {settings.account}: Direct fetches a file, which `convsync export yandex` writes."
            )
            continue
        used = {door for action in config.actions.values() for door in assemble.doors_of(action, name)}
        probed: list[Finding] = []
        for route in routes:
            if route.door in used or not (used or route.door):
                message = f"{route.route}, account {route.account}. {AFTER_A_LOST_ANSWER[route.on_unknown.value]}"
                yield _ok(where, message)
                fresh = [one for one in _probed(route, where) if one not in probed] if online else []
                yield from fresh
                probed += fresh
        if online and not any(one.level == "error" or one.code == "no_answer" for one in probed):
            fine = (
                "nothing speaks against an upload."
                if settings.platform == "vk"
                else "it answers, and an upload could work."
            )
            yield _ok(where, fine)
        if online and settings.platform == "yandex":
            yield _quota(config, name, where)


def _quota(config: Config, name: str, where: str) -> Finding:
    from convsync.destinations.yandex.readiness import quota
    from convsync.ledger import Ledger

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        book = Ledger.open(config.ledger.path, read_only=True)
    except ConvsyncError:
        return quota(where, None)
    try:
        return quota(where, book.figures.sent_since(name, int(midnight.timestamp() * 1000)))
    finally:
        book.close()


def _probed(route: Any, where: str) -> list[Finding]:
    from convsync.errors import Halted, WireError

    try:
        return list(route.probe())
    except Halted as halt:
        return [halt.finding]
    except (WireError, ConvsyncError) as error:
        return [Finding("error", "unreachable", where, f"it could not be asked ({error}).", "Try again later.")]
    finally:
        route.close()
