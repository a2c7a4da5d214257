"""The commands about cost: it comes from files and from the platforms, and an import can be taken out again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli import when
from convsync.cli.frame import Group, Talk, ending, label, leave, put_json
from convsync.errors import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convsync.cli.pull import Pull
    from convsync.config import Config
    from convsync.model import BadRow, Spend

as_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
wait = click.option("--wait", type=when.Length(), help="How long to wait for a run to end.")
for_destination = click.option(
    "--destination", "destinations", multiple=True, metavar="NAME", help="Only this one. Repeatable."
)


@click.group(cls=Group, short_help="What the advertising cost: from files and from the platforms.")
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
@wait
@as_json
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

    The same day and campaign again replaces what was there, so a file may be imported twice; what `convsync costs pull`
    read stays as the platform told it. Never guesses: a row that
    cannot be read is shown with its line and left out, the good rows count. A file that cannot be read at all stops the
    import before anything is stored.

    Exit codes: 0 all rows are in · 1 some rows are bad · 2 a file cannot be read · 4 a run is at work
    """
    config = talk.config()
    from convsync.cli.pull import doubled
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
        found_twice = list(doubled(book))
    code = Exit.ATTENTION if bad else Exit.OK
    ending(code)
    talk.tell(found_twice)
    if json_:
        bad_rows = [row._asdict() for row in bad]
        findings = [one._asdict() for one in found_twice]
        told = {"rows": given, "changed": changed, "bad_rows": bad_rows, "findings": findings, "exit_code": int(code)}
        put_json(told)
    else:
        _imported(rows, given, changed, bad)
    leave(code)


def _imported(rows: list[tuple[Path, list[Spend | BadRow]]], given: int, changed: int, bad: list[BadRow]) -> None:
    from convsync.cli.frame import sentences
    from convsync.cli.show import counted, days
    from convsync.model import Spend

    for one in bad:
        what = f"{one.field}: " if one.field else ""
        click.echo(f"{label('error')} {one.where}: {what}{sentences(one.problem, one.advice)}", err=True)
    told = sorted({row.day for _, found in rows for row in found if isinstance(row, Spend)})
    span = f" {days(told[0], told[-1])}" if told else ""
    left = f", {counted(len(bad), 'bad row')} left out" if bad else ""
    click.echo(f"{counted(given, 'row')}{span}: {changed} new or changed, {given - changed} known already{left}.")


@costs.command(short_help="Spend from Google Ads, Yandex.Direct and VK Ads.")
@click.option("--since", type=when.Day(), help="The first day; else a week before the last one that was read.")
@click.option("--until", type=when.Day(), help="The last day, which is read too; else today.")
@for_destination
@click.option("--no-clicks", is_flag=True, help="Do not read from Google which click belonged to which campaign.")
@wait
@as_json
@click.pass_obj
def pull(
    talk: Talk,
    since: date | None,
    until: date | None,
    destinations: tuple[str, ...],
    no_clicks: bool,
    wait: timedelta | None,
    json_: bool,
) -> None:
    """Read from Google Ads, Yandex.Direct and VK Ads what was spent, by day and campaign.

    At Google: the account of each destination, all clients of it if it is a manager account, or the accounts that
    `cost_customer_ids` names; and which click belonged to which campaign. At Yandex: the account that the token belongs
    to, or those whose logins `client_login` or `cost_client_logins` name. At VK: the account that the keys open; and how
    many conversions of the pixel's goals VK counted, which is all it ever tells of them.

    Days are those of the account. Once a day is enough: the last week is read again each time, because platforms
    correct their numbers; rows that they no longer tell of go. The first time reads 30 days of cost and 90 days of
    clicks. An action that names no campaign counts for that of its Google click, of which only a hash is kept.

    Keeps no `sync` waiting: it takes the ledger only to write down an account that was read to its end. Where another
    run has it then, for longer than --wait, that account is told and read again by the next pull.

    \b
    Examples:
      convsync costs pull
      convsync costs pull --since 2026-01-01 --destination yandex
      convsync -q costs pull --wait 30m           for cron, once a day

    Cost is in the account's currency: Google's without VAT, Yandex's as `direct_vat` says, VK's without VAT unless
    `vat_rate` adds it. Of Yandex without a token and VK without keys it comes from files.

    Exit codes: 0 done · 1 an account could not be read · 2 configuration, credentials, an account that they do not
    open, or days that a platform no longer keeps · 3 did not finish, the next one continues · 4 a run was at work, so
    that not all was written
    """
    config = talk.config()
    from convsync.cli import assemble
    from convsync.cli.pull import KEEPS, Pull, Shelf

    if since is not None and until is not None and since > until:
        raise UsageError("--until lies before --since.", "Both days are read: the same day twice is one day.")
    chosen = assemble.destination_names(config, destinations)
    names = [name for name in chosen if _tells(config, name, named=bool(destinations))]
    if not names:
        raise UsageError(
            "There is no Google or Yandex destination, and none of VK with keys, to read cost from.", FROM_FILES
        )
    assemble.require_credentials(config, names, reading=True)
    now = datetime.now(UTC)
    for platform in sorted({config.destinations[name].platform for name in names}):
        KEEPS[platform].require(since, now.date())
    shelf = Shelf(config, wait)
    with shelf.reading():
        pass  # what is wrong with the ledger is told before a platform is asked
    done = Pull(shelf, config.timezone, since, until, not no_clicks, now, talk.say)
    for name in chosen:
        if name not in names:
            done.asking.find(
                "info", "cost_from_files", f"destinations.{name}", "its cost is not read here.", FROM_FILES
            )
    for name in names:
        _read(config, name, done)
    done.finish()
    found, code = done.asking.findings, done.exit_code
    ending(code)
    talk.tell(found)
    if json_:
        findings = [one._asdict() for one in found]
        put_json({"accounts": [one.as_json() for one in done.read], "findings": findings, "exit_code": int(code)})
    elif not talk.quiet:
        for line in _pulled(done):
            click.echo(line)
    leave(code)


FROM_FILES = (
    "VK needs client_id and client_secret for it, Yandex a token. Else it is imported from files:"
    " convsync costs import FILE"
)


def _tells(config: Config, name: str, *, named: bool) -> bool:
    """Whether a destination's platform is asked for cost: Google always, Yandex and VK unless they go without keys."""
    from convsync.config import GoogleSettings, VkSettings, YandexSettings

    settings = config.destinations[name]
    if isinstance(settings, VkSettings):
        return named or settings.client_id is not None
    if isinstance(settings, YandexSettings):
        return named or settings.upload == "api" or not settings.missing(reading=True)
    return isinstance(settings, GoogleSettings)


def _read(config: Config, name: str, done: Pull) -> None:
    from convsync.cli import assemble, assemble_vk
    from convsync.config import GoogleSettings, VkSettings, YandexSettings

    settings = config.destinations[name]
    if isinstance(settings, VkSettings):
        with assemble_vk.api_of(config, name) as ads:
            done.read_vk(name, settings, ads)
    elif isinstance(settings, YandexSettings):
        with assemble.direct(name, settings, done.say) as direct:
            done.read_yandex(name, settings, direct)
    elif isinstance(settings, GoogleSettings):
        with assemble.reading(name, settings) as client:
            done.read_google(name, settings.cost_customer_ids or (settings.customer_id,), client.search)


def _pulled(done: Pull) -> Iterator[str]:
    from convsync.cli.show import count, counted, days, plain

    for one in done.read:
        cost = ", ".join(f"{amount} {currency}" for currency, amount in one.amounts().items())
        name = f"{one.account.id} {plain(one.account.name)}".strip()
        vat = " with VAT" if one.vat and cost else ""
        yield f"{name}: {cost or 'nothing spent'}{vat} {days(one.since, one.until)}"
        moved = ", ".join(
            f"{count(rows)} {word}" for word, rows in one.rows._asdict().items() if word != "rows" and rows
        )
        yield f"  {counted(one.rows.rows, 'row')}: {moved or 'nothing new'}"
        if one.click_days:
            yield f"  {counted(one.clicks, 'click')} of {counted(one.click_days, 'day')}"
        if one.goal_days:
            yield f"  {counted(one.goals, 'conversion')} of {counted(one.goal_days, 'day')}, as the platform counts goals"


@costs.command(short_help="Take an import out again.")
@click.argument("file", metavar="FILE")
@click.option("--platform", type=click.Choice(["google", "yandex", "vk"]), help="Only rows of this platform.")
@wait
@as_json
@click.pass_obj
def drop(talk: Talk, file: str, platform: str | None, wait: timedelta | None, json_: bool) -> None:
    """Take out what was imported from a file, named as it was when it was imported (without its folder).

    For a file with wrong numbers, or one that tells of the same money as `convsync costs pull`. Rows of other files, and
    what was pulled, stay.

    \b
    Examples:
      convsync costs drop november.csv
      convsync costs drop all.csv --platform google

    Exit codes: 0 taken out · 2 nothing was imported from such a file · 4 a run is at work
    """
    config = talk.config()
    from convsync.cli.runs import locked
    from convsync.cli.show import counted
    from convsync.config.values import suggestion

    with locked(config, wait) as book:
        known = book.figures.origins()
        if file not in known:
            advice = suggestion(file, known) if known else "Nor from any other file."
            raise UsageError(f"No cost was imported from {file!r}.", advice)
        rows = book.figures.drop(file, platform)
    ending(Exit.OK)
    if json_:
        put_json({"removed": rows, "exit_code": int(Exit.OK)})
    else:
        click.echo(f"{counted(rows, 'row')} of {file} taken out.")
