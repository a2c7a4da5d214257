"""`convsync google login`: from a person's consent to secrets files that a run can read."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk, ending, leave, put_json
from convsync.cli.secret_files import (
    SECRETS_DIR,
    left_lying,
    prepare,
    read_too,
    store,
    what_wins,
    where_runs_look,
)
from convsync.errors import ConfigError, Exit, PlatformUnavailable, UsageError

if TYPE_CHECKING:
    from convsync.config import Config, GoogleSettings
    from convsync.destinations.google.login import Client, Consent, Grant, Listener
    from convsync.net import Wire

PASTE_PORT = 51789
"""Written into the address with --paste, when nobody listens: any port will do that a browser does not block."""
TRIES = 3
WHERE_CLIENTS_ARE_MADE = (
    "Make one in the Google Cloud console (APIs & Services, Credentials, Create OAuth client ID, type Desktop app),"
    " download its file and say --client-file FILE; or write client_id and client_secret into the configuration."
)
PAGE_SAID = (
    "If Google's page showed an error instead: redirect_uri_mismatch means that the OAuth client is not of type Desktop"
    " app; `access blocked` that the consent screen is in Testing and this person is none of its test users."
    " If the browser is on another machine, see --paste."
)


@click.command(cls=Command, short_help="Sign in with a browser and keep the refresh token.")
@click.option("--destination", "wanted", metavar="NAME", help="Which one, if several are Google's.")
@click.option(
    "--client-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="client_secret_….json of an OAuth client of type Desktop app, as the Google Cloud console gives it.",
)
@click.option(
    "--secrets-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to store; else CONVSYNC_SECRETS_DIR, else `secrets` beside the configuration.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Of the answer, on 127.0.0.1; else any free one.")
@click.option("--no-browser", is_flag=True, help="Open none; only show the address.")
@click.option("--paste", is_flag=True, help="Listen to nothing: ask for the address at which the browser ended.")
@click.option("--timeout", type=when.Length(), default="5m", show_default=True, help="How long to wait for the answer.")
@click.option("--json", "json_", is_flag=True, help="One JSON object on stdout instead of text.")
@click.pass_obj
def login(
    talk: Talk,
    wanted: str | None,
    client_file: Path | None,
    secrets_dir: Path | None,
    port: int | None,
    no_browser: bool,
    paste: bool,
    timeout: timedelta,
    json_: bool,
) -> None:
    """Sign in to Google in a browser, with a person who has access to the account in Google Ads, and store the refresh
    token (and what OAuth client it belongs to, where the configuration does not say) as files of mode 0600.

    \b
    Examples:
      convsync google login --client-file client_secret_1234.json
      convsync google login --destination google_kz
      convsync google login --paste                   on a server
      convsync google login --no-browser --port 8085  on a server that you came to
                            with ssh -L 8085:127.0.0.1:8085 SERVER

    Two rights are asked for: .../auth/datamanager (uploads) and .../auth/adwords (cost, retractions). Google shows a box
    for each: tick both. It may warn that the app is not verified, which is your own: Advanced, then Go on.

    How long this lasts, the consent screen of the Google Cloud project decides (Google Auth Platform, Audience):

    \b
      Internal                 Google Workspace only; simplest: no warning, no end
      External, In production  no end; Google may ask to verify the app
      External, Testing        ends after seven days: publish it, then sign in again

    Without a person: make a service account, download its JSON key, write credentials_file = "key.json" into the
    destination, and add the account's e-mail address as a user in Google Ads. Then nobody has to sign in.

    Exit codes: 0 signed in · 1 signed in, but another value wins · 2 refused, or the configuration is wrong · 3 no
    answer in time, or Google cannot be reached · 130 interrupted. Unless 0 or 1, nothing was stored.
    """
    from convsync.destinations.google import login as google

    named = os.environ.get(SECRETS_DIR)
    directory = (secrets_dir or Path(named or _file(talk).absolute().parent / "secrets")).absolute()
    if secrets_dir or named:
        prepare(directory)
    with read_too(directory):
        config = talk.config()
    name = _destination(config, wanted)
    settings = config.destinations[name]
    assert settings.platform == "google"
    where = f"destinations.{name}"
    if settings.credentials_file is not None:
        raise ConfigError(
            f"{where} signs in with credentials_file, which nobody has to sign in for.",
            "Remove that line first, if a person shall sign in instead.",
        )
    prepare(directory)
    client = _from_file(client_file) if client_file else _from_settings(settings, where)
    wire = _wire(settings)
    try:
        grant = _asked(talk, wire, settings, where, client, port, no_browser, paste, timeout)
    finally:
        wire.close()
    google.enough(grant, settings.api)
    values = {"client_id": client.id, "client_secret": client.secret, "refresh_token": grant.refresh_token}
    for key in _known(settings, client):
        del values[key]
    files = store(directory, name, values)
    elsewhere = list(where_runs_look(named, directory))
    found = [
        *google.shortcomings(grant, where),
        *what_wins(_file(talk), name, values),
        *elsewhere,
        *left_lying(client_file),
    ]
    code = Exit.ATTENTION if any(one.level == "error" for one in found) else Exit.OK
    ending(code)
    if json_:
        put_json({
            "destination": name, "scopes": sorted(grant.scopes), "secrets_dir": str(directory),
            "files": [str(path) for path in files.values()], "findings": [one._asdict() for one in found],
            "exit_code": int(code),
        })  # fmt: skip
    else:
        click.echo(f"signed in  {where}, account {settings.customer_id}")
        for scope in sorted(grant.scopes):
            click.echo(f"granted    {scope}")
        for path in files.values():
            click.echo(f"stored     {path}")
    talk.tell(found)
    here = f" --config {shlex.quote(str(talk.config_path))}" if talk.config_path else ""
    there = f"{SECRETS_DIR}={shlex.quote(str(directory))} " if elsewhere else ""
    talk.say(f"\nNext: {there}convsync{here} check --online")
    leave(code)


# -- what the sign-in is for


def _file(talk: Talk) -> Path:
    return talk.config_path or Path(os.environ.get("CONVSYNC_CONFIG") or "convsync.toml")


def _destination(config: Config, wanted: str | None) -> str:
    from convsync.cli.assemble import chosen

    known = [name for name, one in config.destinations.items() if one.platform == "google"]
    if not known:
        raise ConfigError("The configuration has no destination at Google.", "Add a section [destinations.google].")
    names = chosen("destination", [wanted] if wanted else [], known)
    if len(names) > 1:
        raise UsageError(f"Several destinations are Google's: {', '.join(names)}.", "Say which: --destination NAME.")
    return names[0]


def _wire(settings: GoogleSettings) -> Wire:
    from convsync.net import Wire

    return Wire(
        requests_per_second=settings.requests_per_second,
        timeout=settings.timeout.total_seconds(),
        connect_timeout=settings.connect_timeout.total_seconds(),
        ca_bundle=settings.ca_bundle,
    )


# -- the OAuth client


def _from_settings(settings: GoogleSettings, where: str) -> Client:
    """What the configuration says; what it does not say is asked for, if somebody sits there."""
    from convsync.destinations.google.login import Client

    secret = settings.client_secret.get_secret_value() if settings.client_secret else None
    if not (settings.client_id and secret) and not sys.stdin.isatty():
        raise ConfigError(f"{where} has no OAuth client to sign in with.", WHERE_CLIENTS_ARE_MADE)
    if not (settings.client_id and secret):
        click.echo(WHERE_CLIENTS_ARE_MADE, err=True)
    return Client(
        settings.client_id or _clean(click.prompt("client_id", err=True), "client_id"),
        secret or _clean(click.prompt("client_secret (not shown)", hide_input=True, err=True), "client_secret"),
    )


def _from_file(file: Path) -> Client:
    import json

    from convsync.destinations.google.login import Client

    try:
        told = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and told.get("type") == "service_account":
        raise UsageError(
            f"{file} is the key of a service account.", "Name it as credentials_file: nobody has to sign in for it."
        )
    if isinstance(told, dict) and "web" in told:
        raise UsageError(f"{file} is of an OAuth client of type Web application.", "Make one of type Desktop app.")
    part = told.get("installed") if isinstance(told, dict) else None
    if not isinstance(part, dict):
        raise UsageError(f"{file} is not the file of an OAuth client.", WHERE_CLIENTS_ARE_MADE)
    return Client(_clean(part.get("client_id"), "client_id"), _clean(part.get("client_secret"), "client_secret"))


def _clean(value: object, key: str) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isascii() or not text.isprintable():
        raise UsageError(f"This is no {key}.", "Copy it again from the Google Cloud console.")
    return text


# -- the person


def _asked(
    talk: Talk,
    wire: Wire,
    settings: GoogleSettings,
    where: str,
    client: Client,
    port: int | None,
    no_browser: bool,
    paste: bool,
    timeout: timedelta,
) -> Grant:
    from convsync.destinations.google.login import Consent, Listener, exchange

    who = f"Sign in for {where} with a person who has access to account {settings.customer_id} in Google Ads."
    if paste:
        consent = Consent(settings.auth_url, client.id, _redirect(port or PASTE_PORT))
        _show(who, consent)
        code = _pasted(consent)
    else:
        try:
            listener = Listener(port or 0)
        except OSError as error:
            raise UsageError(f"Port {port} cannot be used: {error.strerror}.", "Name another, or none.") from None
        with listener:
            consent = Consent(settings.auth_url, client.id, _redirect(listener.port))
            _show(who, consent)
            tunnel = f"ssh -L {listener.port}:127.0.0.1:{listener.port} SERVER"
            talk.say(f"Waiting for the answer. If the browser is on another machine, run there: {tunnel}")
            if not no_browser:
                _open(consent.address)
            code = _awaited(listener, consent, timeout)
    return exchange(wire, settings.token_url, client, consent, code)


def _redirect(port: int) -> str:
    return f"http://127.0.0.1:{port}/"  # DOC identity/protocols/oauth2/native-app: the number, not localhost


def _show(who: str, consent: Consent) -> None:
    click.echo(f"{who}\nOpen this address in a browser:\n\n{consent.address}\n", err=True)


def _open(address: str) -> None:
    """A browser with windows: one of those that run in the terminal would take it away, and cannot show the page."""
    if sys.platform in ("darwin", "win32") or any(
        os.environ.get(one) for one in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    ):
        threading.Thread(target=_browse, args=(address,), daemon=True).start()


def _browse(address: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(address)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        click.echo("No browser could be opened here.", err=True)


def _awaited(listener: Listener, consent: Consent, timeout: timedelta) -> str:
    from convsync.config.values import duration_text

    try:
        return listener.wait(consent, timeout.total_seconds())
    except TimeoutError:
        message = f"Nothing was stored: no answer came within {duration_text(timeout)}."
        raise PlatformUnavailable(message, PAGE_SAID) from None


def _pasted(consent: Consent) -> str:
    from convsync.destinations.google.login import NotOurs, query_of

    home = consent.redirect_uri
    click.echo(
        f"At the end the browser cannot show a page whose address begins with {home}. That is as it should be.",
        err=True,
    )
    for _ in range(TRIES):
        click.echo("Copy that whole address and paste it here: ", err=True, nl=False)
        line = sys.stdin.readline()
        if not sys.stdin.isatty():  # nobody pressed Enter
            click.echo(err=True)
        if not line:
            break
        try:
            return consent.code(query_of(line))
        except NotOurs:
            click.echo(f"That is not the answer to this sign-in. Its address begins with {home}?", err=True)
    raise UsageError(
        "Nothing was stored: the answer was not pasted.", "Sign in again; each sign-in has its own address."
    )


def _known(settings: GoogleSettings, client: Client) -> list[str]:
    """Keys of the client that the configuration says already, wherever it says them."""
    secret = settings.client_secret.get_secret_value() if settings.client_secret else None
    same = {"client_id": settings.client_id == client.id, "client_secret": secret == client.secret}
    return [key for key, known in same.items() if known]
