"""Text for people: aligned columns, the summary of a run, progress. Programs get --json."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from convsync.errors import Exit

if TYPE_CHECKING:
    from datetime import date

    from convsync.cli.frame import Talk
    from convsync.sync import Summary

PAGE = 500
"""Lines that are aligned with each other; a long list is printed page by page."""
GAP = "  "
WIDEST = 60

ENDINGS = {
    Exit.OK: "Done. Nothing needs a person.",
    Exit.ATTENTION: "Finished, but something needs a person: see what stands above.",
    Exit.USAGE: "Finished as far as it could: a source or a destination needs a correction, see above. The rest went on.",
    Exit.UNFINISHED: "Not finished: something was not to be had. Nothing is lost, the next run continues.",
    Exit.INTERRUPTED: "Interrupted. Nothing is lost, the next run settles what was on its way.",
}


def count(number: int) -> str:
    """1 234 567"""
    return f"{number:,}".replace(",", " ")


def counted(number: int, one: str, more: str = "") -> str:
    """1 action, 2 actions."""
    return f"{count(number)} {one if number == 1 else more or one + 's'}"


def days(first: date, last: date) -> str:
    """from 2026-11-01 to 2026-11-30, or: on 2026-11-30."""
    return f"on {first}" if first == last else f"from {first} to {last}"


def columns(rows: Iterable[Sequence[str]], header: Sequence[str], *, right: Sequence[str] = ()) -> Iterator[str]:
    """Lines with their cells below each other."""
    widths = [len(name) for name in header]
    rest, head = iter(rows), [list(header)]
    while True:
        page = [*head, *(_shown(row) for row in islice(rest, PAGE))]
        for row in page:
            widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
        for row in page:
            yield GAP.join(
                cell.rjust(width) if name in right else cell.ljust(width)
                for cell, width, name in zip(row, widths, header, strict=True)
            ).rstrip()
        if len(page) < PAGE:
            return
        head = []


def _shown(row: Sequence[str]) -> list[str]:
    """One endless id must not push all other lines apart; what stands last may be as long as it likes."""
    *cells, last = map(plain, row)
    return [*(cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…" for cell in cells), last]


def plain(text: str) -> str:
    """Text of a CRM must not move the cursor."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


# -- a run


def summary(done: Summary, sources: int) -> Iterator[str]:
    """What a run did, as short as it can be told."""
    if _idle(done):
        yield f"Nothing to do: {_read_again(done)}."
        return
    if done.command != "settle":
        yield from _taken_in(done, sources)
    for part in (_went_out(done), _left_out(done), _unreadable(done), _to_look_at(done)):
        lines = list(part)
        yield from ["", *lines] if lines else []
    yield ""
    if done.head:
        yield f"run {done.run_id}, head {done.head}"
    yield closing(done)


def closing(done: Summary) -> str:
    if not done.dry_run:
        return ENDINGS[done.exit_code]
    ending = "Dry run: nothing was sent and nothing of it was kept."
    return ending if done.exit_code == Exit.OK else f"{ending} The real run would need a person, see above."


def _idle(done: Summary) -> bool:
    taken = done.taken
    moved = any(+counts for counts in done.destinations.values())
    return not (taken.new or taken.revised or taken.skipped or moved or done.findings or done.exit_code)


def _read_again(done: Summary) -> str:
    read = done.taken.read
    if done.command == "settle":
        return "no verdict is due"
    known = f"{counted(read, 'action')} read again and known already" if read else "nothing new to read"
    return f"{known}, nothing to send, no verdict due"


def _taken_in(done: Summary, sources: int) -> Iterator[str]:
    taken = done.taken
    known = taken.read - taken.new - taken.revised
    told = [f"{count(taken.new)} new"]
    told += [f"{count(taken.revised)} changed"] if taken.revised else []
    told += [f"{count(known)} known already"] if known > 0 else []
    yield f"Read {counted(taken.read, 'action')} from {counted(sources, 'source')}: {', '.join(told)}."


def _went_out(done: Summary) -> Iterator[str]:
    """One line a destination; a column for every word that counts something."""
    words = [word for word in done.WORDS if any(counts[word] for counts in done.destinations.values())]
    if done.dry_run:
        words = [word for word in words if word not in ("in_flight",)]
    if not words:
        return
    header = ["", *("would send" if done.dry_run and word == "claimed" else _word(word) for word in words)]
    rows = [
        [name, *(count(counts[word]) if counts[word] else "·" for word in words)]
        for name, counts in done.destinations.items()
        if any(counts[word] for word in words)
    ]
    yield from columns(rows, header, right=header[1:])


def _word(word: str) -> str:
    return {"claimed": "sent", "in_flight": "in flight", "already_there": "already there"}.get(word, word)


def _left_out(done: Summary) -> Iterator[str]:
    """Skips in words, the most frequent first."""
    from convsync.model import SkipReason

    reasons = Counter({reason: n for reason, n in done.taken.skipped.items() if reason != "bad_row"})
    if reasons:
        yield "Not sent (an action counts once for each destination it does not go to):"
        width = max(len(count(n)) for n in reasons.values())
        for reason, n in reasons.most_common():
            yield f"  {count(n).rjust(width)}  {SkipReason(reason).sentence}"


def _unreadable(done: Summary) -> Iterator[str]:
    bad = done.taken.skipped["bad_row"]
    if bad:
        yield f"Unreadable: {counted(bad, 'row')}, not seen before. All of them: convsync ledger list --bad-rows"


def _to_look_at(done: Summary) -> Iterator[str]:
    """What a platform took and could not use, or would not have used. What needs a person is told as a finding."""
    for name, counts in done.destinations.items():
        if counts["unmatched"]:
            see = f"convsync ledger list --destination {name} --state unmatched"
            yield f"{name}: {count(counts['unmatched'])} processed, but no click or person found. Which: {see}"
        if counts["expired"]:
            see = f"convsync ledger list --destination {name} --state expired"
            late = counted(counts["expired"], "was", "were")
            yield f"{name}: {late} too late to be sent. Which and why: {see}"


# -- progress


class Bar:
    """A line on the terminal that tells how far a run is, at most ten times a second."""

    def __init__(self, talk: Talk) -> None:
        self._live = not talk.quiet and sys.stderr.isatty()
        self._verbose = talk.verbose and not self._live
        self._counts: Counter[str] = Counter()
        self._next = 0.0
        self._status: Any = None

    def read(self, source: str, rows: int) -> None:
        self._add("read from", source, rows)

    def sent(self, destination: str, rows: int) -> None:
        self._add("sent to", destination, rows)

    def _add(self, verb: str, name: str, rows: int) -> None:
        self._counts[f"{verb} {name}"] += rows
        if self._verbose:
            click.echo(f"{verb} {name}: {count(rows)}", err=True)
        elif self._status is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            told = " · ".join(f"{what} {count(n)}" for what, n in self._counts.items())
            self._status.update(told)

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self._live:
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status("starting") as self._status:
            try:
                yield
            finally:
                self._status = None


# -- the ledger


def deliveries(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    header = ("key", "rev", "state", "destination", "action", "from", "happened (UTC)", "value", "reason")
    return columns((_delivery(row) for row in rows), header, right=("rev", "value"))


SECOND_WAYS = {"yandex.conversions": "conversions"}
"""Routes of a section that has another one: said beside its name, as `convsync yandex goals` does."""


def _way(row: dict[str, Any]) -> str:
    door = SECOND_WAYS.get(row["route"])
    return f"{row['destination']} ({door})" if door else str(row["destination"])


def _delivery(row: dict[str, Any]) -> tuple[str, ...]:
    value = "" if row["value"] is None else f"{row['value']} {row['currency']}"
    where = f"{row['source']}/{row['external_id']}"
    happened = row["occurred_at"][:16].replace("T", " ")
    return (
        row["key"][:12], str(row["revision"]), row["state"], _way(row), row["action"], where, happened, value,
        row["reason"],
    )  # fmt: skip
