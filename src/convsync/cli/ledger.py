"""The commands that look into the ledger, and the one that lets a person decide."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convsync.cli import when
from convsync.cli.frame import Group, Talk, leave, mark, put_json, put_line
from convsync.errors import Exit, LedgerBroken, UsageError
from convsync.model import State

if TYPE_CHECKING:
    from convsync.config import Config
    from convsync.ledger import Filter, Ledger

STATES = [state.value for state in State]
WAITING = (State.UNKNOWN.value, State.HELD.value, State.REFUSED.value, State.UNMATCHED.value)
"""States that wait for a person, or that only a person can move."""

VERDICTS = {"sent": State.ACCEPTED, "send-again": State.PENDING, "give-up": State.REFUSED}
DECIDED = {
    "sent": "to count as sent",
    "send-again": "to go out with the next `convsync sync`",
    "give-up": "given up, never to be sent",
}

lines_json = click.option("--json", "json_", is_flag=True, help="One JSON object a line instead of text.")
one_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
destination = click.option("--destination", metavar="NAME", help="Only this destination.")
action = click.option("--action", metavar="NAME", help="Only this action.")
source = click.option("--source", metavar="NAME", help="Only this source.")
reason = click.option("--reason", metavar="TEXT", help="Only where the reason holds this text, whatever its case.")
batch = click.option("--batch", type=int, metavar="N", help="Only rows whose latest request was this batch.")
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


@click.group(cls=Group, short_help="What was sent, what came of it, and why not.")
def ledger() -> None:
    """Look into the ledger: what was sent, what came of it, and why something was not.

    The ledger remembers every action, every request and every answer; its history is chained by hashes, so that a
    change behind its back shows. All of these only read, beside a running sync too; `resolve` and `retry` alone write.
    """


@contextmanager
def _open(talk: Talk) -> Iterator[tuple[Config, Ledger]]:
    """The ledger, open for reading beside whoever writes."""
    config = talk.config()
    from convsync.ledger import Ledger

    book = Ledger.open(config.ledger.path, read_only=True)
    try:
        yield config, book
    finally:
        book.close()


@ledger.command("list", short_help="Deliveries, one a line.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state. Repeatable.")
@destination
@action
@source
@click.option("--since", type=when.When(), help="Only what happened on this day or later.")
@click.option("--until", type=when.When(), help="Only what happened on this day or earlier.")
@reason
@batch
@click.option("--run", metavar="ID", help="Only rows whose latest request left in this run.")
@click.option("--skipped", is_flag=True, help="Instead: actions that are not sent to a destination, and why.")
@click.option("--bad-rows", is_flag=True, help="Instead: rows of the sources that could not be read.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most so many; 0 is all.")
@lines_json
@click.pass_obj
def list_(
    talk: Talk,
    states: tuple[str, ...],
    destination: str | None,
    action: str | None,
    source: str | None,
    since: date | datetime | None,
    until: date | datetime | None,
    reason: str | None,
    batch: int | None,
    run: str | None,
    skipped: bool,
    bad_rows: bool,
    limit: int,
    json_: bool,
) -> None:
    """List deliveries: one line for each action at each destination, and for each later change of it.

    \b
    Examples:
      convsync ledger list --state held --state unknown
      convsync ledger list --destination google --state refused --reason gclid
      convsync ledger list --since 2026-11-01 --limit 0 --json > november.jsonl
      convsync ledger list --skipped --limit 0
      convsync ledger list --bad-rows

    \b
    States:
      pending      waits to be sent            in_flight   its request has left, or is about to
      accepted     the platform has it         confirmed   the platform says it has processed it
      refused      with the platform's reason  unmatched   processed, no click or person found
      unknown      it may have arrived; to be settled
      held         waits for a person          superseded  a newer change came first
      expired      too old for the platform by now

    Never shows contacts: the ledger holds none in clear. Days are those of `timezone`; times are shown in UTC.

    Exit codes: 0 told, even if nothing fits · 2 a name that nobody knows, or no ledger
    """
    if skipped and bad_rows:
        raise UsageError("--skipped and --bad-rows are two different lists.", "Ask for one of them.")
    with _open(talk) as (config, book):
        _known(book, config, destination, action, source)
        from convsync.ledger import Filter

        begin, end = when.span(since, until, config.timezone)
        chosen = Filter(
            state=states, destination=destination, action=action, source=source, reason=reason, batch=batch, run=run,
            since=begin, until=end,
        )  # fmt: skip
        if bad_rows:
            _refuse(chosen, "--bad-rows", ("source", "reason"))
            _print(talk, _bad_rows(book, chosen), _BAD_ROW, limit, json_)
        elif skipped:
            _refuse(chosen, "--skipped", ("destination", "action", "source", "reason", "since", "until"))
            _print(talk, _skipped(book, chosen), _SKIP, limit, json_)
        else:
            _print(talk, book.audit.deliveries(chosen), None, limit, json_)


_SKIP = ("destination", "action", "from", "happened (UTC)", "why")
_BAD_ROW = ("where", "field", "problem")


def _print(talk: Talk, rows: Iterator[dict[str, Any]], header: tuple[str, ...] | None, limit: int, json_: bool) -> None:
    from convsync.cli import show

    more: list[Any] = []
    rows = _first(rows, limit, more) if limit else rows
    if json_:
        for row in rows:
            put_line(row)
    else:
        told = 0
        lines = show.deliveries(rows) if header is None else show.columns(map(_cells, rows), header)
        for told, line in enumerate(lines):  # noqa: B007 - the first line is the header
            click.echo(line)
        if not told:
            talk.say("(none)")
    if more:
        talk.say(f"There are more than {limit}; --limit 0 shows all.")


def _first(rows: Iterator[dict[str, Any]], limit: int, more: list[Any]) -> Iterator[dict[str, Any]]:
    """At most `limit` rows; `more` gets one if there are others."""
    yield from islice(rows, limit)
    more += islice(rows, 1)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "place" in row:
        return row["place"], row["field"], f"{row['problem']}. {row['advice']}".strip()
    detail = f" ({row['detail']})" if row["detail"] else ""
    happened = row["occurred_at"][:16].replace("T", " ")
    where = row["destination"] or "(all)"
    return where, row["action"], f"{row['source']}/{row['external_id']}", happened, row["sentence"] + detail


def _skipped(book: Ledger, chosen: Filter) -> Iterator[dict[str, Any]]:
    for row in book.audit.skipped():
        happened = datetime.fromisoformat(row["occurred_at"])
        if (
            (chosen.destination in (None, row["destination"]) or not row["destination"])
            and chosen.action in (None, row["action"])
            and chosen.source in (None, row["source"])
            and (chosen.reason or "").lower() in f"{row['reason']} {row['detail']} {row['sentence']}".lower()
            and (chosen.since is None or happened >= chosen.since)
            and (chosen.until is None or happened < chosen.until)
        ):
            yield row


def _bad_rows(book: Ledger, chosen: Filter) -> Iterator[dict[str, Any]]:
    for row in book.audit.bad_rows():
        said = f"{row['field']} {row['problem']}".lower()
        if chosen.source in (None, row["source"]) and (chosen.reason or "").lower() in said:
            yield row


def _refuse(chosen: Filter, what: str, fit: Sequence[str]) -> None:
    for name, value in chosen._asdict().items():
        if value not in (None, ()) and name not in fit:
            raise UsageError(f"--{name} does not apply to {what}.", f"There: {', '.join('--' + one for one in fit)}.")


def _known(book: Ledger, config: Config, destination: str | None, action: str | None, source: str | None) -> None:
    """A misspelled name must not look like an empty list. Names of the past count as well."""
    from convsync.config.values import suggestion

    for what, name, written in (
        ("destination", destination, config.destinations), ("action", action, config.actions),
        ("source", source, config.sources),
    ):  # fmt: skip
        if name is not None and name not in written:
            known = {*written, *book.audit.names(what)}
            if name not in known:
                raise UsageError(
                    f"Neither the configuration nor the ledger knows a {what} {name!r}.", suggestion(name, known)
                )


@ledger.command(short_help="The life of one action in sentences.")
@click.argument("what", metavar="KEY|SOURCE/ID")
@lines_json
@click.pass_obj
def show(talk: Talk, what: str, json_: bool) -> None:
    """Tell the life of one action in sentences: read, planned, sent, answered, and what happens next.

    KEY is what `ledger list` shows, or its first digits; SOURCE/ID is the name of the source and the id in it, and
    tells of every destination, also of those it is not sent to.

    \b
    Examples:
      convsync ledger show shop/e000417
      convsync ledger show 3f9a2c

    Exit codes: 0 told · 2 there is no such action
    """
    from convsync.cli.show import plain
    from convsync.ledger.life import tell

    with _open(talk) as (_, book):
        stories = _by_destination(list(tell(book.store, what)))
    if not stories:
        raise UsageError(
            f"The ledger knows nothing of {what}.",
            "A key is hex digits as `convsync ledger list` shows them; or write SOURCE/ID, such as shop/1234.",
        )
    for number, story in enumerate(stories):
        if json_:
            put_line(story)
            continue
        if number:
            click.echo()
        where = story["destination"] or "any destination"
        title = f"{story['source']}/{story['external_id']} {story['action']} → {where}: {story['state']}"
        click.echo(click.style(plain(title), bold=True))
        if "key" in story:
            click.echo(f"  key {story['key']}, revision {story['revision']}")
        for sentence in story["sentences"]:
            click.echo(f"  {plain(sentence)}")


def _by_destination(stories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The revisions of one destination below each other, otherwise in the order of the ledger."""
    first = {name: number for number, name in reversed(list(enumerate(story["destination"] for story in stories)))}
    return sorted(stories, key=lambda story: first[story["destination"]])


@ledger.command(short_help="How many there are in which state.")
@one_json
@click.pass_obj
def stats(talk: Talk, json_: bool) -> None:
    """Count: deliveries by destination and state, actions that are not sent and why, and how the last run ended.

    \b
    Example:
      convsync ledger stats --json | jq .destinations.google.held

    Exit codes: 0 told · 2 there is no ledger
    """
    with _open(talk) as (_, book):
        told = book.audit.stats()
    if json_:
        put_json(told)
        return
    for line in _stats(told):
        click.echo(line)


def _stats(told: dict[str, Any]) -> Iterator[str]:
    from convsync.cli.show import columns, count, counted
    from convsync.model import SkipReason

    yield (
        f"{counted(told['actions'], 'action')}, {counted(told['deliveries'], 'delivery', 'deliveries')},"
        f" {counted(told['runs'], 'run')}"
    )
    found = told["destinations"]
    states = [state for state in STATES if any(state in counts for counts in found.values())]
    if states:
        yield ""
        rows = [
            [name, *(count(counts[one]) if one in counts else "·" for one in states)] for name, counts in found.items()
        ]
        yield from columns(rows, ["", *states], right=states)
    if told["skipped"]:
        yield "\nNot sent (counted once for each destination):"
        width = max(len(count(n)) for n in told["skipped"].values())
        for reason, n in told["skipped"].items():
            yield f"  {count(n).rjust(width)}  {SkipReason(reason).sentence}"
    if told["bad_rows"]:
        yield f"\n{counted(told['bad_rows'], 'row')} could not be read: convsync ledger list --bad-rows"
    last = told["last_run"]
    if last:
        ended = f"ended {last['ended_at']} with exit code {last['exit_code']}" if last["ended_at"] else "has not ended"
        yield f"\nLast run: {last['command']} {last['id']}, {ended}."
        if last["head"]:
            yield f"Head of the history: {last['head']}"


@ledger.command(short_help="Check every promise the ledger makes.")
@click.option(
    "--expect", metavar="HEAD", help="A head that an earlier run printed: it must still be part of the history."
)
@one_json
@click.pass_obj
def verify(talk: Talk, expect: str | None, json_: bool) -> None:
    """Check every promise the ledger makes, and that nobody changed its history.

    Starts from nothing and replays all events: they alone must lead to the states, attempts and batches in the tables,
    and to the counts that each run printed. Only reads, and may run beside a sync: it looks at one moment of the ledger.

    \b
    Examples:
      convsync ledger verify
      convsync ledger verify --expect 1042:9c1d…     the head that `sync` printed last month

    Exit codes: 0 every promise is kept · 2 there is no ledger · 5 something is broken
    """
    if expect is not None and not re.fullmatch(r"\d{1,18}:[0-9a-f]{0,64}", expect):
        raise UsageError(
            f"{expect[:40]!r} is not a head.", "A head is what a run prints: a number, a colon, hex digits."
        )
    import sqlite3

    with _open(talk) as (_, book):
        from convsync.ledger import verify as checks
        from convsync.ledger.events import head

        try:
            book.store.conn.execute("BEGIN")  # one moment for all of them, whatever a run writes meanwhile
            broken = checks.verify(book.store, None if expect in (None, "0:") else expect)
            now = head(book.store.conn)
        except sqlite3.DatabaseError as error:
            raise LedgerBroken(f"The ledger cannot be read to its end: {error}.", "Restore it from a copy.") from error
    names = [check.__name__ for check in checks.CHECKS] + (["head_is_kept"] if expect else [])
    wrong = {finding.code for finding in broken}
    code = Exit.BROKEN if broken else Exit.OK
    if json_:
        put_json(
            {
                "ok": not broken, "head": now, "checked": names,
                "findings": [finding._asdict() for finding in broken], "exit_code": int(code),
            }
        )  # fmt: skip
        leave(code)
    for name in names:
        click.echo(f"{mark('error' if name in wrong else 'ok')} {name.replace('_', ' ')}")
    talk.tell(broken)
    if broken:
        click.echo(
            f"\nBroken: {len(wrong)} of {len(names)} promises. Keep this file as it is, and send nothing before it is understood."
        )
    else:
        click.echo(f"\nAll {len(names)} promises are kept. head {now}")
    leave(code)


@ledger.command(short_help="Decide about what waits for a person.")
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


@ledger.command(short_help="Send again what was refused or held, once it is mended.")
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
        _known(book, config, asked.destination, asked.action, None)
        rows = _chosen(book, asked)
        _ask_about_repeats(rows, verdict, yes or dry_run)
        moved = [] if dry_run else _decide(book, rows, verdict, why)
    _decided(rows, moved, verdict, dry_run, json_)


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


def _ask_about_repeats(rows: Sequence[dict[str, Any]], verdict: str, yes: bool) -> None:
    """An unknown one may be there already, also if somebody gave it up since; where the platform cannot tell, sending it
    again may count it twice."""
    if verdict != "send-again" or yes:
        return
    doubtful = [row for row in rows if _may_be_there(row)]
    if doubtful:
        names = ", ".join(sorted({row["destination"] for row in doubtful}))
        raise UsageError(
            f"{len(doubtful)} of these may have arrived, and {names} cannot recognise a repeat: they may count twice.",
            "Say --yes if that is better than losing them.",
        )


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
