"""`convsync google login`: from a person's consent to secrets files that a run can read."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli import when
from convsync.cli.frame import Command, Talk, leave, put_json
from convsync.errors import ConfigError, Exit, PlatformUnavailable, UsageError
from convsync.model import Finding

if TYPE_CHECKING:
    from convsync.config import Config, GoogleSettings
    from convsync.destinations.google.login import Client, Consent, Grant, Listener
    from convsync.net import Wire

SECRETS_DIR = "CONVSYNC_SECRETS_DIR"
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
      convsync google login --no-browser --port 8085    on a server; where the browser is:
                                                        ssh -L 8085:127.0.0.1:8085 SERVER
      convsync google login --paste                     on a server, without a tunnel

    Two rights are asked for: .../auth/datamanager (uploads) and .../auth/adwords (cost, retractions). Google shows a box
    for each: tick both. It may warn that the app is not verified, which is your own: Advanced, then Go on.

    \b
    The consent screen of the Google Cloud project (Google Auth Platform, Audience) decides how long this lasts:
      Internal                   Google Workspace only; simplest: no warning, no end
      External, In production    no end; Google may ask to verify the app
      External, Testing          ends after seven days: publish it, then sign in once more

    Without a person: make a service account, download its JSON key, write credentials_file = "key.json" into the
    destination, and add the account's e-mail address as a user in Google Ads. Then nobody has to sign in.

    \b
    Exit codes: 0 signed in · 1 signed in, but another value wins · 2 refused, or the configuration is wrong
      · 3 no answer in time, or Google cannot be reached · 130 interrupted. Unless 0 or 1, nothing was stored.
    """
    from convsync.destinations.google import login as google

    named = os.environ.get(SECRETS_DIR)
    directory = (secrets_dir or Path(named or _file(talk).absolute().parent / "secrets")).absolute()
    if secrets_dir or named:
        _prepare(directory)
    with _read_too(directory):
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
    _prepare(directory)
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
    files = _store(directory, name, values)
    found = [
        *google.shortcomings(grant, where),
        *_what_wins(_file(talk), name, values),
        *_where_runs_look(named, directory),
        *_left_lying(client_file),
    ]
    code = Exit.ATTENTION if any(one.level == "error" for one in found) else Exit.OK
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
    talk.say(f"\nNext: convsync{here} check --online")
    leave(code)


# -- what the sign-in is for


def _file(talk: Talk) -> Path:
    return talk.config_path or Path(os.environ.get("CONVSYNC_CONFIG") or "convsync.toml")


@contextmanager
def _read_too(directory: Path) -> Iterator[None]:
    """As runs will: what an earlier sign-in stored is known, and a file there that is no key is told before anything."""
    if not directory.is_dir():
        yield
        return
    before = os.environ.get(SECRETS_DIR)
    os.environ[SECRETS_DIR] = str(directory)
    try:
        yield
    finally:
        del os.environ[SECRETS_DIR]
        os.environ.update({} if before is None else {SECRETS_DIR: before})


def _prepare(directory: Path) -> None:
    """Found out before a person is sent to Google: whether the answer can be kept."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error.strerror}.", "--secrets-dir names another.") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"{directory} cannot be written to.", "--secrets-dir names another.")


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
            talk.say(f"Waiting for the answer. If the browser is on another machine, say there: {tunnel}")
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
        if not line:
            break
        try:
            return consent.code(query_of(line))
        except NotOurs:
            click.echo(f"That is not the answer to this sign-in. Its address begins with {home}?", err=True)
    raise UsageError(
        "Nothing was stored: the answer was not pasted.", "Sign in again; each sign-in has its own address."
    )


# -- what is kept


def _known(settings: GoogleSettings, client: Client) -> list[str]:
    """Keys of the client that the configuration says already, wherever it says them."""
    secret = settings.client_secret.get_secret_value() if settings.client_secret else None
    same = {"client_id": settings.client_id == client.id, "client_secret": secret == client.secret}
    return [key for key, known in same.items() if known]


def _store(directory: Path, name: str, values: Mapping[str, str]) -> dict[str, Path]:
    """One file a value. Nothing takes its place before all are on the disk; the token comes last, after its client."""
    import tempfile

    there = {path.name.lower(): path for path in directory.iterdir()}  # names of keys have no case
    names = {key: f"destinations__{name}__{key}" for key in values}
    files = {key: there.get(file.lower(), directory / file) for key, file in names.items()}
    fresh: dict[str, Path] = {}
    try:
        for key, value in values.items():
            # mkstemp makes it 0600; the dot hides it from a run that looks into the directory meanwhile.
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=directory)
            fresh[key] = Path(temporary)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
        for key, path in files.items():
            fresh[key].replace(path)
        _sync(directory)
    except OSError as error:
        advice = "Make room or rights, then sign in again."
        raise UsageError(f"{directory}: the token cannot be stored ({error.strerror}).", advice) from None
    finally:
        for path in fresh.values():
            path.unlink(missing_ok=True)
    return files


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _what_wins(file: Path, name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Other places that say the same keys: the environment wins over secrets, secrets over the file."""
    import tomllib

    from convsync.config.written import key_lines

    where = f"destinations.{name}"
    text = file.read_bytes().decode("utf-8-sig")
    section = tomllib.loads(text)["destinations"].get(name, {})
    variables = {variable.upper(): variable for variable in os.environ}
    for key, value in values.items():
        variable = variables.get(f"CONVSYNC_DESTINATIONS__{name}__{key}".upper())
        if variable and os.environ[variable].strip() != value:
            message = f"the environment variable {variable} holds another {key}, which wins over the one just stored."
            yield Finding("error", "environment_wins", where, message, "Remove it, here and where cron gets it from.")
        if section.get(key, "") not in ("", value):
            line = key_lines(text).get(("destinations", name, key), 1)
            message = f"{file}:{line} holds another {key}; it is used wherever {SECRETS_DIR} is not set."
            yield Finding("warning", "other_value_in_file", where, message, "Remove that line.")


def _where_runs_look(named: str | None, directory: Path) -> Iterator[Finding]:
    if named and Path(named).resolve() == directory.resolve():
        return
    message = "names another directory than" if named else "is not set, so a run does not yet find"
    line = f"{SECRETS_DIR}={shlex.quote(str(directory))}"
    advice = f"Say `export {line}`; in cron, write {line} as a line of its own above the command."
    yield Finding("warning", "secrets_dir_elsewhere", SECRETS_DIR, f"{message} {directory}.", advice)


def _left_lying(file: Path | None) -> Iterator[Finding]:
    if file is not None and file.exists() and file.stat().st_mode & 0o077:
        message = "holds a secret that other users can read, and is not needed any more."
        yield Finding("warning", "readable_secret", str(file), message, f"Delete it, or run chmod 600 {file}")
