"""`convsync vk token`: what is kept of VK's five tokens, and the way out when all of them are taken."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from convsync.cli.frame import Command, Group, Talk, ending, leave, put_json
from convsync.cli.vk_goals import vk_names
from convsync.cli.yandex_goals import as_json, for_destination
from convsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convsync.cli.asking import Asking
    from convsync.config import Config
    from convsync.destinations.vk.tokens import Kept, Tokens


@click.group(cls=Group, short_help="The token that is kept, and how to be rid of all.")
def token() -> None:
    """VK gives the client_id and a user at most five tokens, shared by every program that signs in with them. convsync
    keeps one beside the ledger (LEDGER.tokens) and refreshes it, which makes no new one."""


@token.command(cls=Command, short_help="Whose token is kept, until when, and whether VK takes it.")
@for_destination
@click.option("--offline", is_flag=True, help="Only what is kept; do not ask VK whether it works.")
@as_json
@click.pass_obj
def status(talk: Talk, destinations: tuple[str, ...], offline: bool, json_: bool) -> None:
    """Show what is kept: whose it is, when it was made and refreshed, until when it lives, and how many new tokens this
    ledger has asked for. Never shows a token, never asks for one, and refreshes none.

    \b
    Examples:
      convsync vk token status
      convsync vk token status --offline --json

    Exit codes: 0 shown, whether VK takes it or not · 2 configuration or credentials · 3 no answer
    """
    from convsync.cli.asking import Asking

    config = talk.config()
    asking = Asking()
    rows = [_row(config, name, offline, asking) for name in vk_names(config, destinations)]
    ending(asking.exit_code)
    if json_:
        put_json({
            "tokens": rows, "findings": [one._asdict() for one in asking.findings], "exit_code": int(asking.exit_code),
        })  # fmt: skip
    else:
        for row in rows:
            for line in _shown(row):
                click.echo(line)
    talk.tell(asking.findings)
    leave(asking.exit_code)


@token.command(cls=Command, short_help="End all tokens of the client and user, other programs' too.")
@for_destination
@click.option("--here", is_flag=True, help="Only forget the one that is kept here; VK ends none.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_obj
def revoke(talk: Talk, destinations: tuple[str, ...], here: bool, yes: bool, json_: bool) -> None:
    """End every token that VK gave to this client_id for this user, and forget the one that is kept here.

    It is the way out when all five are taken (token_limit_exceeded). Its price: every other program that uses the same
    client_id for the same user is signed out at once, and has to ask for a token again. convsync never does this by
    itself; its next run asks for a new token.

    \b
    Examples:
      convsync vk token revoke
      convsync vk token revoke --destination vk_kz --yes
      convsync vk token revoke --here      the token stays one of the five until VK deletes it after an idle month

    Exit codes: 0 done · 1 not done, somebody said no · 2 refused, or the configuration is wrong · 3 no answer
    """
    from convsync.cli.asking import VK, Asking

    config = talk.config()
    names = vk_names(config, destinations)
    if not yes:
        _sure(config, names, here)
    asking, done = Asking(), list[str]()
    for name in names:
        with (
            asking.apart(f"destinations.{name}", config.destinations[name].account, VK, lost=DOUBTFUL),
            _tokens(config, name) as known,
        ):
            if here:
                known.forget()
            else:
                known.revoke()
            done.append(name)
    ending(asking.exit_code)
    talk.tell(asking.findings)
    if json_:
        findings = [one._asdict() for one in asking.findings]
        put_json({"done": done, "here": here, "findings": findings, "exit_code": int(asking.exit_code)})
    else:
        for name in done:
            click.echo(f"{name}: {FORGOTTEN if here else REVOKED}")
    leave(asking.exit_code)


DOUBTFUL = "Whether the tokens have ended is not known, and to ask again does no harm"
FORGOTTEN = "forgotten here; at VK it stays one of the five until it was idle for a month"
REVOKED = "every token of this client and user has ended; the next run asks for a new one"


def _sure(config: Config, names: list[str], here: bool) -> None:
    """Ends the command unless a person agrees."""
    whose = ", ".join(f"{name} (client_id {_client_id(config, name)})" for name in names)
    if here:
        question = f"Forget the token that is kept for {whose}? The next run asks for another of the five."
    else:
        question = (
            f"End ALL tokens of {whose}? Every other program that signs in with the same client_id for the same user is"
            " signed out at once."
        )
    if not sys.stdin.isatty():
        raise UsageError("Nobody is here to be asked.", "Say --yes, if it shall be done.")
    if not click.confirm(question, err=True):
        click.echo("Nothing was done.", err=True)
        leave(1)


def _client_id(config: Config, name: str) -> str:
    return str(getattr(config.destinations[name], "client_id", None))


@contextmanager
def _tokens(config: Config, name: str) -> Iterator[Tokens]:
    from convsync.cli.assemble_vk import tokens_of

    made = tokens_of(config, name)
    try:
        yield made
    finally:
        made.wire.close()


# -- status


def _row(config: Config, name: str, offline: bool, asking: Asking) -> dict[str, Any]:
    from convsync.cli.asking import VK

    settings = config.destinations[name]
    assert settings.platform == "vk"
    row: dict[str, Any] = {
        "destination": name,
        "client_id": settings.client_id,
        "agency_client": settings.agency_client_name or settings.agency_client_id,
        "kept": None, "expires_at": None, "made_at": None, "refreshed_at": None, "asked": None,
        "works": None, "account": None,
    }  # fmt: skip
    lost = "Whether VK takes the token is not known"
    with asking.apart(f"destinations.{name}", settings.account, VK, lost=lost), _tokens(config, name) as tokens:
        kept = tokens.kept()
        times = {key: getattr(kept, key) for key in ("expires_at", "made_at", "refreshed_at")}
        row |= {key: time and time.isoformat() for key, time in times.items()}
        row |= {"kept": bool(kept.access), "asked": kept.asked}
        if kept.access and not offline:
            row |= _tried(tokens, kept, asking)
    return row


def _tried(tokens: Tokens, kept: Kept, asking: Asking) -> dict[str, Any]:
    """Whether VK takes the access value as it is."""
    from convsync.destinations.vk.api import Api
    from convsync.destinations.vk.goals import shown
    from convsync.destinations.vk.readiness import account
    from convsync.destinations.vk.tokens import AsItIs, Dead

    try:
        who = account(Api(tokens.where, tokens=AsItIs(kept.access), wire=tokens.wire, url=tokens.url))
    except Dead:
        message = "VK does not take the access value that is kept, which lives for a day."
        advice = "The next run refreshes it; `convsync check --online` does so now."
        asking.find("info", "dead_token", tokens.where, message, advice)
        return {"works": False}
    return {"works": True, "account": {"id": who.id, "username": shown(who.username)}}


def _shown(row: dict[str, Any]) -> Iterator[str]:
    whose = f"client_id {row['client_id']}" + (
        f", agency's client {row['agency_client']}" if row["agency_client"] else ""
    )
    yield f"{row['destination']}: {whose}"
    if row["kept"] is None:
        yield "  it could not be looked at"
        return
    if not row["kept"]:
        yield "  no token is kept; the next run that needs one asks for it"
    for key, label in LABELS.items():
        if row[key] is not None:
            yield f"  {label:<12}{_moment(row[key])}"
    if row["works"] is not None:
        who = row["account"]
        told = f"yes: account {who['username']} ({who['id']})" if row["works"] else "no"
        yield f"  {'works':<12}{told}"
    yield f"  {'asked for':<12}{row['asked']} so far, of the five that VK gives"


LABELS = {"made_at": "made", "refreshed_at": "refreshed", "expires_at": "lives until"}


def _moment(text: str) -> str:
    from datetime import datetime

    from convsync.destinations.vk.readiness import moment

    return f"{moment(datetime.fromisoformat(text))} Moscow time"
