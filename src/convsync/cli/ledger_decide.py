"""The commands by which a person decides: `convsync ledger resolve|retry`."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk, put_json
from convsync.cli.ledger_look import action, batch, known, one_json, reason
from convsync.errors import Exit, UsageError
from convsync.model import State

if TYPE_CHECKING:
    from convsync.ledger import Ledger

WAITING = (State.UNKNOWN.value, State.HELD.value, State.REFUSED.value, State.UNMATCHED.value)
"""States that wait for a person, or that only a person can move."""

VERDICTS = {"sent": State.ACCEPTED, "send-again": State.PENDING, "give-up": State.REFUSED}
DECIDED = {
    "sent": "to count as sent",
    "send-again": "to go out with the next `convsync sync`",
    "give-up": "given up, never to be sent",
}

dry_run_decision = click.option("--dry-run", is_flag=True, help="Only show what would be decided.")
yes_again = click.option("--yes", is_flag=True, help="Yes, send again although it may count twice.")
wait_for_run = click.option("--wait", type=when.Length(), help="How long to wait for a run to end.")


def which(command: Callable[..., Any]) -> Callable[..., Any]:
    """The ways to say which deliveries are meant."""
    keys = click.argument("keys", nargs=-1, metavar="[KEY]...")
    state = click.option("--state", type=click.Choice(WAITING), help="Instead of keys: all in this state …")
    where = click.option("--destination", metavar="NAME", help="… at this destination.")
    for one in reversed((keys, state, where, action, reason, batch)):
        command = one(command)
    return command


@click.command(cls=Command, short_help="Decide about what waits for a person.")
@which
@click.option("--as", "verdict", required=True, type=click.Choice(list(VERDICTS)), help="What you decided.")
@click.option("--why", required=True, metavar="TEXT", help="Your reason; it is kept for ever, with your login name.")
@dry_run_decision
@yes_again
@wait_for_run
@one_json
@click.pass_obj
def resolve(
    talk: Talk,
    keys: tuple[str, ...],
    state: str | None,
    destination: str | None,
    action: str | None,
    reason: str | None,
    batch: int | None,
    verdict: str,
    why: str,
    dry_run: bool,
    yes: bool,
    wait: Any,
    json_: bool,
) -> None:
    """Decide about deliveries that are unknown, held or refused.

    \b
      --as sent         it did arrive (you looked at the platform): counts as accepted
      --as send-again   it did not, or what was wrong is mended: goes out with the next sync
      --as give-up      it shall not be sent: stays refused, with your reason

    \b
    Examples:
      convsync ledger resolve 3f9a2c --as sent --why "seen in the VK statistics of 22 Nov"
      convsync ledger resolve --state unknown --destination vk --as give-up --why "outage" --dry-run
      convsync ledger resolve --state refused --destination google --reason CURRENCY --as send-again --why "mended"

    Never sends by itself, and never touches what is accepted or on its way. Where the platform cannot recognise a
    repeat (VK), sending an unknown one again may count it twice, and asks for --yes. Who decided what, when and why
    becomes part of the history.

    Exit codes: 0 decided · 2 nothing fits, or it is not for a person to decide · 4 a run is at work
    """
    asked = _Asked(keys, state, destination, action, reason, batch)
    _resolve(talk, asked, verdict, why, dry_run, yes, wait, json_)


@click.command(cls=Command, short_help="Send again what was refused or held, once it is mended.")
@which
@click.option(
    "--why", default="tried again", show_default=True, metavar="TEXT", help="Your reason; it is kept for ever."
)
@dry_run_decision
@yes_again
@wait_for_run
@one_json
@click.pass_obj
def retry(
    talk: Talk,
    keys: tuple[str, ...],
    state: str | None,
    destination: str | None,
    action: str | None,
    reason: str | None,
    batch: int | None,
    why: str,
    dry_run: bool,
    yes: bool,
    wait: Any,
    json_: bool,
) -> None:
    """Let deliveries that were refused or held go out with the next sync: `ledger resolve --as send-again` in short.

    For the time after something was mended at the platform: a conversion action, a right, an address. What is wrong in
    a row itself is mended in the source; the next sync then sends the corrected row by itself.

    \b
    Examples:
      convsync ledger retry --state refused --destination google --reason CONVERSION_ACTION
      convsync ledger retry 3f9a2c --why "goal added in Metrica"

    Never sends by itself.

    Exit codes: as for resolve.
    """
    _resolve(
        talk, _Asked(keys, state, destination, action, reason, batch), "send-again", why, dry_run, yes, wait, json_
    )


class _Asked(NamedTuple):
    """Which deliveries a person decides about: some keys, or all that fit."""

    keys: tuple[str, ...]
    state: str | None
    destination: str | None
    action: str | None
    reason: str | None
    batch: int | None


def _resolve(
    talk: Talk, asked: _Asked, verdict: str, why: str, dry_run: bool, yes: bool, wait: Any, json_: bool
) -> None:
    if bool(asked.keys) == bool(asked.state):
        raise UsageError("Say which deliveries: keys, or --state with --destination.")
    if asked.state and not asked.destination:
        raise UsageError(
            "--state needs --destination.", "One destination at a time: what is true of one is not of all."
        )
    if not why.strip():
        raise UsageError("--why is empty.", "Write what the next person should know.")
    config = talk.config()
    from convsync.cli.runs import locked

    with locked(config, wait) as book:
        known(book, config, asked.destination, asked.action, None)
        rows = _chosen(book, asked)
        repeats = "" if verdict != "send-again" or yes else _repeats(rows)
        if repeats and not dry_run:
            raise UsageError(repeats, "Say --yes if that is better than losing them.")
        moved = [] if dry_run else _decide(book, rows, verdict, why)
    _decided(rows, moved, verdict, dry_run, json_)
    if repeats and not json_:
        click.echo(f"{repeats} It will ask for --yes.")


def _chosen(book: Ledger, asked: _Asked) -> list[dict[str, Any]]:
    from convsync.ledger import Filter

    if asked.state:
        chosen = Filter((asked.state,), asked.destination, asked.action, reason=asked.reason, batch=asked.batch)
        rows = list(book.audit.rows(chosen))
    else:
        rows = [row for key in asked.keys for row in _of_key(book, key, asked.destination)]
    if not rows:
        raise UsageError("Nothing in the ledger fits.", "See `convsync ledger list --state unknown --state held`.")
    return list({row["id"]: row for row in rows}.values())


def _of_key(book: Ledger, key: str, destination: str | None) -> list[dict[str, Any]]:
    found = [row for row in book.audit.find(key) if destination in (None, row["destination"])]
    if not found:
        raise UsageError(f"The ledger has no key {key}.", "`convsync ledger list --state unknown` shows keys.")
    if "/" not in key and len({row["key"] for row in found}) > 1:
        raise UsageError(f"{key} begins several keys.", "Write more digits of the one you mean.")
    waiting = [row for row in found if row["state"] in WAITING]
    if not waiting:
        states = ", ".join(sorted({row["state"] for row in found}))
        raise UsageError(f"{key} is {states}: nothing to decide.", f"A person decides about {', '.join(WAITING)}.")
    return waiting


def _repeats(rows: Sequence[dict[str, Any]]) -> str:
    """An unknown one may be there already, also if somebody gave it up since; where the platform cannot tell, sending it
    again may count it twice. Empty if there is none."""
    doubtful = [row for row in rows if _may_be_there(row)]
    if not doubtful:
        return ""
    names = ", ".join(sorted({row["destination"] for row in doubtful}))
    return f"{len(doubtful)} of these may have arrived, and {names} cannot recognise a repeat: they may count twice."


def _may_be_there(row: dict[str, Any]) -> bool:
    """Whether the platform may have it, and would take it for another if it came again."""
    if row["on_unknown"] == "resend" or (row["on_unknown"] == "ask" and row["identities"] == "fixed"):
        return False
    held_in_doubt = row["state"] == State.HELD and row["reached"] & 2
    return State.UNKNOWN in (row["state"], row["request"]) or bool(held_in_doubt)


def _decide(book: Ledger, rows: Sequence[dict[str, Any]], verdict: str, why: str) -> list[int]:
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dt%H%M%S}{secrets.token_hex(3)}"
    ms = int(now.timestamp() * 1000)
    book.runs.begin(run_id, "resolve", now=ms)
    said = f"a person: {' '.join(why.split())} (who: {_login()})"
    moved = book.record.resolve([row["id"] for row in rows], VERDICTS[verdict], said, now=ms, run_id=run_id)
    book.runs.end(run_id, Exit.OK, {}, now=ms)
    return moved


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"uid {os.getuid()}"


def _decided(rows: Sequence[dict[str, Any]], moved: Sequence[int], verdict: str, dry_run: bool, json_: bool) -> None:
    from convsync.cli.show import counted, deliveries

    if json_:
        keys = [{"key": row["key"], "revision": row["revision"], "was": row["state"]} for row in rows]
        put_json({"verdict": verdict, "dry_run": dry_run, "moved": len(moved), "deliveries": keys})
        return
    for line in deliveries(_as_listed(row) for row in rows[:50]):
        click.echo(line)
    if len(rows) > 50:
        click.echo(f"… and {len(rows) - 50} more")
    number = len(rows) if dry_run else len(moved)
    would = "Dry run, nothing is decided. It would be: " if dry_run else "Decided: "
    click.echo(f"\n{would}{counted(number, 'delivery', 'deliveries')} {DECIDED[verdict]}.")
    left = 0 if dry_run else len(rows) - len(moved)
    if left:
        stays = counted(left, "delivery stays", "deliveries stay")
        click.echo(f"{stays} as before: a newer revision took the place, the action goes by another way in, or what")
        click.echo(
            "would be sent (a phone number in clear) was erased with the verdict: correct the row in the source, then"
        )
        click.echo("it goes again.")


def _as_listed(row: dict[str, Any]) -> dict[str, Any]:
    from convsync.ledger.audit import readable

    return readable(row)
