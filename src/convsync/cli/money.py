"""The command that tells what came of the money: `convsync report`."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk
from convsync.errors import UsageError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from convsync.config import Config
    from convsync.ledger import Ledger
    from convsync.model import Account
    from convsync.report.doubt import Doubt

DAYS = 30
"""What a report covers when nobody says."""
CHANCE = 3
"""So many people who left a lead in two ways within hours are no chance any more."""


@click.command(cls=Command, short_help="What a lead and a sale cost: CPL, CPA, ROAS.")
@click.option("--since", type=when.Day(), help=f"The first day; else {DAYS} days back.")
@click.option("--until", type=when.Day(), help="The last day, which belongs to the report; else today.")
@click.option(
    "--by", default="platform", show_default=True, metavar="A,B",
    help="One row for each: platform, campaign, action, day, source; several with commas; `total` for one row.",
)  # fmt: skip
@click.option("--basis", default="event", help="Date actions by their own day (event). `click` is not in this version.")
@click.option("--format", "format_", metavar="[table|csv|json]", help="Table unless said otherwise.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to a file instead of stdout.",
)
@click.option("--json", "json_", is_flag=True, help="The same as --format json.")
@click.pass_obj
def report(
    talk: Talk,
    since: date | None,
    until: date | None,
    by: str,
    basis: str,
    format_: str | None,
    output: Path | None,
    json_: bool,
) -> None:
    """Report what a lead and a sale cost: cost, clicks, leads, sales, value, CPL, CPA, ROAS, conversion rate, coverage.

    Actions come from the ledger (cancelled, refunded and spam ones do not count), cost from `convsync costs`.
    Coverage is the share of conversions that the platform of the click took. Days are those of `timezone`.

    VK's pixel confirms nothing. Below the table stands how many of its conversions have an unknown outcome, and how many
    of these arrived by VK's own count of the goals (`costs pull` reads it), by Moscow's day of the request; its count
    proves nothing where the site fires the same goals. A later action with the phone of a lead form counts for the
    campaign of that form, unless it names its own.

    \b
    Examples:
      convsync report
      convsync report --by platform,campaign --since 2026-11-01 --until 2026-11-30
      convsync report --by day --format csv -o november.csv

    Never shows a 0 for what cannot be computed: such a figure is empty, and a note says why.

    Exit codes: 0 told · 2 a day or a dimension that does not exist, or no ledger
    """
    shape = _shape(format_, json_)
    if basis == "click":
        raise UsageError(
            "--basis click is not in this version.", "Reports date actions by when they happened: --basis event."
        )
    if basis != "event":
        raise UsageError(f"There is no basis {basis!r}.", "Write --basis event.")
    config = talk.config()
    zone = when.zone_for_days(config.timezone)
    until = until or datetime.now(zone).date()
    since = since or until - timedelta(days=DAYS - 1)
    when.span(since, until, zone)
    from convsync.ledger import Ledger
    from convsync.report import render, rows

    dimensions = () if by == "total" else tuple(part.strip() for part in by.split(","))
    book = Ledger.open(config.ledger.path, read_only=True)
    try:
        after = until + timedelta(days=1)
        tallies, spends = list(book.figures.tallies(since, after, zone)), list(book.figures.spends(since, after))
        asked = book.figures.asked()
        skipped = any(book.audit.skipped(limit=1))
        remarks = _zones(book.figures.accounts(since, after), zone, since, until)
        remarks += _told_twice(book, since, after, zone)
        doubts = _doubts(config, book, since, after)
    finally:
        book.close()
    skipping = {one.platform for one in config.destinations.values() if skipped and one.enabled}
    built = rows.build(
        tallies, spends, by=dimensions, currency=config.reporting_currency, asked=asked, skipping=skipping
    )
    remarks += [one.sentence(advice) for one, advice in doubts]
    if shape == "json":
        text = render.as_json(
            built, since=since, until=until, currency=config.reporting_currency, remarks=remarks,
            doubts=[one.as_json(advice) for one, advice in doubts],
        )  # fmt: skip
    elif shape == "csv":
        text = render.as_csv(built, remarks=remarks)
    else:
        width, colour = _width(output), _colour(output)
        text = render.as_table(built, since=since, until=until, width=width, colour=colour, remarks=remarks)
    _put(talk, text, output)


def _zones(accounts: list[Account], zone: ZoneInfo, since: date, until: date) -> list[str]:
    """What a reader has to know of accounts whose days begin at another moment than those of the report."""
    from convsync.cli.show import counted
    from convsync.costs.days import zones_differ

    other = Counter(one.time_zone for one in accounts if zones_differ(one, zone, since, until))
    return [
        f"Cost of {counted(number, 'account')} is by days of {name}, all else by days of {zone.key}."
        for name, number in sorted(other.items())
    ]


def _told_twice(book: Ledger, since: date, after: date, zone: ZoneInfo) -> list[str]:
    """Leads of lead forms that another source tells of as well; a few may be chance."""
    return [
        f"{leads} leads of {other} are of people who left a lead at {forms} within hours, by their phone: both count. If"
        f' they are the same, give those of {forms} an action of kind = "micro".'
        for forms, other, leads in book.figures.told_twice(since, after, zone)
        if leads >= CHANCE
    ]


def _doubts(config: Config, book: Ledger, since: date, after: date) -> list[tuple[Doubt, str]]:
    """What VK's own counts say of what was sent to each of its pixels, and how to read those that are missing."""
    from convsync.report.doubt import Day, weigh

    found = []
    for name, settings in config.destinations.items():
        if settings.platform != "vk":
            continue
        begin = min(since, after - timedelta(days=DAYS))
        of = ("vk", settings.pixel_id, begin, after)
        read = book.goals.read_at(*of)
        counts = {(one.day, one.goal): one.conversions for one in book.goals.counted(*of)}
        days = list[Day]()
        for one in book.goals.sent("vk", name, settings.pixel_id, begin, after):
            told = counts.pop((one.day, one.goal), 0)
            is_read = read.get(one.day, 0) > one.last
            days.append(Day(one.goal, one.day, one.accepted, one.unknown, one.other, told if is_read else None))
        ours = {one.goal for one in days}
        days += [Day(goal, day, 0, 0, counted=told) for (day, goal), told in counts.items() if goal in ours]
        before = (one for one in days if one.day < since)
        if doubt := weigh(name, (one for one in days if one.day >= since), before):
            keys = "" if settings.client_id else "add client_id and client_secret, then "
            found.append((doubt, f"{keys}convsync costs pull"))
    return found


def _shape(said: str | None, json_: bool) -> str:
    if said == "html":
        raise UsageError("--format html is not in this version.", "There are table, csv and json.")
    if said not in (None, "table", "csv", "json"):
        raise UsageError(f"There is no format {said!r}.", "There are table, csv and json.")
    if json_ and said not in (None, "json"):
        raise UsageError(f"--json and --format {said} are two formats.", "Ask for one of them.")
    return "json" if json_ else said or "table"


def _width(output: Path | None) -> int:
    return shutil.get_terminal_size().columns if output is None and sys.stdout.isatty() else 120


def _colour(output: Path | None) -> bool:
    import os

    return output is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _put(talk: Talk, text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    from convsync.cli.runs import replaced

    with replaced(output) as file:
        file.write(text)
    talk.say(f"written: {output}")
