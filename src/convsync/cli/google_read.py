"""The commands that ask Google Ads about an account: its conversion actions, and what it made of uploads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import click

from convsync.cli.frame import Command, Talk, ending, leave, put_json
from convsync.errors import Exit, UsageError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from convsync.cli.asking import Asking
    from convsync.cli.diagnostics import Told
    from convsync.config import Config, GoogleSettings
    from convsync.destinations.google.readings import ConversionAction, Search
    from convsync.ledger.figures import Uploads as Sent

as_json = click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
for_destination = click.option(
    "--destination", "destinations", multiple=True, metavar="NAME", help="Only this one. Repeatable."
)


@click.command(cls=Command, short_help="The conversion actions of an account, with the lines to copy.")
@for_destination
@click.option("--all", "all_", is_flag=True, help="Also those that cannot be uploaded to, and removed ones.")
@as_json
@click.pass_obj
def actions(talk: Talk, destinations: tuple[str, ...], all_: bool, json_: bool) -> None:
    """List the conversion actions of the Google Ads account, with their numbers, and the lines for the configuration.

    Only actions of the types UPLOAD_CLICKS and UPLOAD_CALLS take uploads; --all lists the others too.

    \b
    Examples:
      convsync google actions
      convsync google actions --destination google_kz --all

    Needs the Google Ads API in the Cloud project, and a grant for it (`convsync google login`). Changes nothing.

    Exit codes: 0 listed · 1 Google refused to tell · 2 configuration or credentials · 3 no answer
    """
    config = talk.config()
    from convsync.cli.asking import Asking
    from convsync.destinations.google import readings

    asking = Asking()
    found: dict[str, list[ConversionAction]] = {}
    for name, settings, search in _each(config, destinations, asking):
        with asking.apart(f"destinations.{name}", settings.customer_id):
            known = sorted(readings.actions(search, settings.customer_id), key=lambda one: int(one.id))
            if any(map(_takes_uploads, known)) or not _manages(settings, search, name, asking):
                found[name] = known
    ending(asking.exit_code)
    talk.tell(asking.findings)
    if json_:
        told = [
            {"destination": name, **one._asdict(), "actions": _uses(config, name).get(one.id, [])}
            for name, known in found.items()
            for one in known
            if all_ or _takes_uploads(one)
        ]
        findings = [one._asdict() for one in asking.findings]
        put_json({"conversion_actions": told, "findings": findings, "exit_code": int(asking.exit_code)})
    else:
        for name, known in found.items():
            for line in _listed(config, name, known, all_):
                click.echo(line)
    leave(asking.exit_code)


@click.command(cls=Command, short_help="What Google made of uploads, beside what the ledger sent.")
@for_destination
@click.option("--days", type=click.IntRange(1, 28), default=7, show_default=True, help="So many days, today included.")
@as_json
@click.pass_obj
def diagnostics(talk: Talk, destinations: tuple[str, ...], days: int, json_: bool) -> None:
    """Show what Google says of the uploads to an account, by client and conversion action, beside the ledger's counts.

    Google keeps counts of the last seven days with uploads, and shares of errors of the last of them.

    \b
    Examples:
      convsync google diagnostics
      convsync google diagnostics --days 3 --json

    Needs the Google Ads API in the Cloud project, and a grant for it (`convsync google login`). Changes nothing.

    Exit codes: 0 told · 1 Google says that uploads need attention · 2 configuration or credentials · 3 no answer
    """
    config = talk.config()
    from convsync.cli.asking import Asking

    asking = Asking()
    found: list[Told] = []
    for name, settings, search in _each(config, destinations, asking):
        with asking.apart(f"destinations.{name}", settings.customer_id):
            found += _diagnosed(config, name, settings, search, days, asking)
    code = asking.exit_code or (Exit.ATTENTION if any(one.needs_attention for one in found) else Exit.OK)
    ending(code)
    talk.tell(asking.findings)
    if json_:
        findings = [one._asdict() for one in asking.findings]
        told = [one.as_json() for one in found]
        put_json({"destinations": told, "findings": findings, "exit_code": int(code)})
    else:
        for one in found:
            for line in one.text():
                click.echo(line)
    leave(code)


# -- whom to ask


def _each(config: Config, wanted: tuple[str, ...], asking: Asking) -> Iterator[tuple[str, GoogleSettings, Search]]:
    """The Google destinations that were asked for, each with a way to ask about it."""
    from convsync.cli import assemble
    from convsync.config import GoogleSettings

    names = assemble.destination_names(config, wanted)
    chosen = [(name, settings) for name in names if isinstance(settings := config.destinations[name], GoogleSettings)]
    if not chosen:
        raise UsageError("There is no Google destination to ask about.", "See [destinations.*] in the configuration.")
    assemble.require_credentials(config, [name for name, _ in chosen], reading=True)
    for name, settings in chosen:
        with assemble.reading(name, settings) as client:
            yield name, settings, client.search


def _uses(config: Config, destination: str) -> dict[str, list[str]]:
    """The actions of the configuration, by the conversion action that they go to."""
    found: dict[str, list[str]] = {}
    for name, action in config.actions.items():
        target = action.targets.get(destination)
        if target is not None:
            found.setdefault(target.goal_key, []).append(name)
    return found


# -- conversion actions


def _takes_uploads(one: ConversionAction) -> bool:
    return one.type in ("UPLOAD_CLICKS", "UPLOAD_CALLS") and one.status != "REMOVED"


def _manages(settings: GoogleSettings, search: Search, name: str, asking: Asking) -> bool:
    """Whether an account without conversion actions is a manager account, which is told."""
    from convsync.destinations.google import readings
    from convsync.destinations.google.readiness import manager

    account = readings.customer(search, settings.customer_id, settings.ads_api_version)
    if account is None or not account.manager:
        return False
    asking.find("error", "manager_account", f"destinations.{name}", *manager(account.id, "that takes uploads"))
    return True


COUNTING = {"MANY_PER_CLICK": "every", "ONE_PER_CLICK": "one"}
"""As the pages of Google Ads call it."""


def _listed(config: Config, name: str, known: list[ConversionAction], all_: bool) -> Iterator[str]:
    from convsync.cli.show import columns, plain
    from convsync.destinations.google.readiness import usable

    uses = _uses(config, name)
    shown = [one for one in known if all_ or _takes_uploads(one)]
    if shown:
        rows = [
            {
                "id": one.id, "name": one.name, "type": one.type, "status": one.status, "category": one.category,
                "count": COUNTING.get(one.counting, one.counting), "window": f"{one.window} d" if one.window else "–",
                "owner": one.owner, "used by": ", ".join(uses.get(one.id, [])) or "–",
            }
            for one in shown
        ]  # fmt: skip
        usual = {"status": "ENABLED", "owner": config.destinations[name].account}
        header = [key for key in rows[0] if any(row[key] != usual.get(key) for row in rows)]
        yield f"{name}:"
        yield from columns([[row[key] for key in header] for row in rows], header, right=("window",))
    fit = [*usable(known, "UPLOAD_CLICKS"), *usable(known, "UPLOAD_CALLS")]
    if not any(one.type == "UPLOAD_CLICKS" for one in fit):
        yield (
            f"{name}: no conversion action takes clicks (type UPLOAD_CLICKS).\nMake one in Google Ads: Goals, Conversions,"
            " New, import from a CRM or another data source."
        )
    free = [one for one in fit if one.id not in uses]
    if free:
        yield ""
        yield "Lines to copy into an [actions.*] section:"
        for one in free:
            calls = ", calls = true" if one.type == "UPLOAD_CALLS" else ""
            yield f'{name} = {{ conversion_action = "{one.id}"{calls} }}    # {plain(one.name)}'
    for number in sorted(uses.keys() - {one.id for one in known}):
        yield f"{', '.join(uses[number])}: the account has no conversion action {number}."


# -- diagnostics


def _diagnosed(
    config: Config, name: str, settings: GoogleSettings, search: Search, days: int, asking: Asking
) -> Iterator[Told]:
    from convsync.cli.diagnostics import Told
    from convsync.costs.days import zone
    from convsync.destinations.google import readings

    customer = readings.customer(search, settings.customer_id, settings.ads_api_version)
    if customer is None:
        message = f"Google Ads tells of no account {settings.customer_id}."
        asking.find("error", "no_account", f"destinations.{name}", message, "Check customer_id.")
        return
    own = zone(customer.id, customer.time_zone)
    until = datetime.now(UTC).astimezone(own).date()
    since = until - timedelta(days=days - 1)
    uses = {number: ", ".join(names) for number, names in _uses(config, name).items()}
    yield Told(
        name,
        settings.route,
        customer,
        since,
        until,
        tuple(readings.uploads(search, settings.customer_id)),
        tuple(readings.uploads_by_action(search, settings.customer_id)),
        _sent(config, name, since, until, own),
        uses,
    )


def _sent(config: Config, name: str, since: date, until: date, zone: ZoneInfo) -> tuple[Sent, ...]:
    """What the ledger says; nothing where there is none yet."""
    from convsync.ledger import Ledger

    if not config.ledger.path.exists():
        return ()
    book = Ledger.open(config.ledger.path, read_only=True)
    try:
        return tuple(book.figures.uploads(name, since, until + timedelta(days=1), zone))
    finally:
        book.close()
