"""The commands about money: costs come in, a report goes out."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli import when
from convsync.cli.frame import Command, Group, Talk, label, leave, put_json
from convsync.errors import Exit, UsageError

if TYPE_CHECKING:
    from convsync.model import BadRow, Spend

DAYS = 30
"""What a report covers when nobody says."""


@click.group(cls=Group, short_help="What the advertising cost: `costs import FILE`.")
def costs() -> None:
    """Bring in what the advertising cost, so that reports can tell what a lead and a sale cost."""


@costs.command("import", short_help="Spend from CSV files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--account", default="", metavar="A", help="For rows that name no account.")
@click.option("--delimiter", metavar="C", help="What stands between cells; else found in the header.")
@click.option(
    "--encoding", default="utf-8-sig", show_default=True, help="How the files are written; Excel often means cp1251."
)
@click.option("--decimal-comma", is_flag=True, help="Amounts are written 1234,50.")
@click.option("--wait", type=when.Length(), help="How long to wait for a run to end.")
@click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
@click.pass_obj
def import_(
    talk: Talk,
    files: tuple[Path, ...],
    account: str,
    delimiter: str | None,
    encoding: str,
    decimal_comma: bool,
    wait: timedelta | None,
    json_: bool,
) -> None:
    """Import what was spent, by day and campaign, from CSV files (.gz too).

    Needed columns: day, platform, amount, currency, and campaign or campaign_id. Welcome: account, clicks, impressions,
    vat_included. Headers may be English or Russian as the platforms write them; other columns are ignored.

    \b
    Examples:
      convsync costs import november.csv
      convsync costs import yandex.csv --encoding cp1251 --decimal-comma

    The same day and campaign again replaces what was there, so a file may be imported twice. Never guesses: a row that
    cannot be read is shown with its line and left out, the good rows count. A file that cannot be read at all stops the
    import before anything is stored.

    \b
    Exit codes: 0 all rows are in · 1 some rows are bad · 2 a file cannot be read · 4 a run is at work
    """
    config = talk.config()
    from convsync.cli.runs import locked
    from convsync.costs.files import read
    from convsync.model import BadRow

    rows = [
        (path, list(read(path, encoding=encoding, delimiter=delimiter, decimal_comma=decimal_comma, account=account)))
        for path in files
    ]
    bad = [row for _, found in rows for row in found if isinstance(row, BadRow)]
    given = changed = 0
    with locked(config, wait) as book:
        for path, found in rows:
            good = [row for row in found if not isinstance(row, BadRow)]
            counts = book.figures.put(good, path.name, now=int(datetime.now(UTC).timestamp() * 1000))
            given, changed = given + counts[0], changed + counts[1]
    code = Exit.ATTENTION if bad else Exit.OK
    if json_:
        bad_rows = [row._asdict() for row in bad]
        put_json({"rows": given, "changed": changed, "bad_rows": bad_rows, "exit_code": int(code)})
    else:
        _imported(rows, given, changed, bad)
    leave(code)


def _imported(rows: list[tuple[Path, list[Spend | BadRow]]], given: int, changed: int, bad: list[BadRow]) -> None:
    from convsync.cli.frame import sentences
    from convsync.cli.show import counted
    from convsync.model import Spend

    for one in bad:
        what = f"{one.field}: " if one.field else ""
        click.echo(f"{label('error')} {one.where}: {what}{sentences(one.problem, one.advice)}", err=True)
    days = sorted({row.day for _, found in rows for row in found if isinstance(row, Spend)})
    span = f" from {days[0]} to {days[-1]}" if days else ""
    left = f", {counted(len(bad), 'bad row')} left out" if bad else ""
    click.echo(f"{counted(given, 'row')}{span}: {changed} new or changed, {given - changed} known already{left}.")


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

    Actions come from the ledger (cancelled, refunded and spam ones do not count), cost from `convsync costs import`.
    Coverage is the share of conversions that the platform of the click took. Days are those of `timezone`.

    \b
    Examples:
      convsync report
      convsync report --by platform,campaign --since 2026-11-01 --until 2026-11-30
      convsync report --by day --format csv -o november.csv

    Never shows a 0 for what cannot be computed: such a figure is empty, and a note says why.

    \b
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
    finally:
        book.close()
    built = rows.build(tallies, spends, by=dimensions, currency=config.reporting_currency)
    if shape == "json":
        text = render.as_json(built, since=since, until=until, currency=config.reporting_currency)
    elif shape == "csv":
        text = render.as_csv(built)
    else:
        text = render.as_table(built, since=since, until=until, width=_width(output), colour=_colour(output))
    _put(talk, text, output)


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
