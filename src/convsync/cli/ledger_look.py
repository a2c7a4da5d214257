"""The commands that look into the ledger: `convsync ledger list|show|stats|verify`. All of them only read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk, leave, mark, put_json, put_line
from convsync.errors import Exit, LedgerBroken, UsageError
from convsync.model import State

if TYPE_CHECKING:
    from convsync.config import Config
    from convsync.ledger import Filter, Ledger

STATES = [state.value for state in State]

lines_json = click.option("--json", "json_", is_flag=True, help="One JSON object a line instead of text.")
one_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
destination = click.option("--destination", metavar="NAME", help="Only this destination.")
action = click.option("--action", metavar="NAME", help="Only this action.")
source = click.option("--source", metavar="NAME", help="Only this source.")
reason = click.option("--reason", metavar="TEXT", help="Only where the reason holds this text, whatever its case.")
batch = click.option("--batch", type=int, metavar="N", help="Only rows whose latest request was this batch.")


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


@click.command("list", cls=Command, short_help="Deliveries, one a line.")
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
        known(book, config, destination, action, source)
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


def known(book: Ledger, config: Config, destination: str | None, action: str | None, source: str | None) -> None:
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


@click.command(cls=Command, short_help="The life of one action in sentences.")
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


@click.command(cls=Command, short_help="How many there are in which state.")
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


@click.command(cls=Command, short_help="Check every promise the ledger makes.")
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
