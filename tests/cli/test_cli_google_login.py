"""`convsync google login`: the command as a person runs it, with a browser that does what it is told."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from convsync.cli.google_login import _wire
from convsync.config import load, parse
from convsync.destinations.google.auth import ADWORDS, DATA_MANAGER, SignIn
from convsync.net import Wire

CLIENT_FILE = {"installed": {"client_id": "sandbox-client", "client_secret": "sandbox-secret", "token_uri": "x"}}


class Login:
    """A sign-in on its way: the address it shows, the browser, and how it ended."""

    def __init__(self, shop: Any, *args: str, terminal: int | None = None, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "convsync", "--config", str(shop.path), "google", "login", *args],
            stdin=subprocess.PIPE if terminal is None else terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=shop.folder, env={**os.environ, **env}, start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []

    def address(self) -> str:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if re.match("https?://", line):
                return line.strip()
        raise AssertionError("".join(self.said))

    def browse(self) -> requests.Response:
        """Opens the address, lets the sandbox's user agree, and goes where Google sends it."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.address(), timeout=20)

    def answer(self) -> str:
        """The address at which a browser ends whose machine has nobody listening."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.address(), timeout=20, allow_redirects=False).headers["Location"]

    def end(self, typed: str | None = None) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(typed, timeout=60)
        return self.process.returncode, stdout, "".join(self.said) + stderr


@pytest.fixture
def signing_in(shop: Any) -> Iterator[Callable[..., Login]]:
    """Of a shop that has an OAuth client and no refresh token yet."""
    configure(shop)
    begun: list[Login] = []

    def begin(*args: str, **more: Any) -> Login:
        begun.append(Login(shop, *args, **more))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            if stream:
                stream.close()


def configure(shop: Any, change: Callable[[str], str] = lambda text: text) -> None:
    """The shop's configuration, with the sandbox's consent page and no refresh token, and then changed."""
    lines = f'auth_url = "{shop.box.url}/o/oauth2/v2/auth"'
    shop.configure(lambda text: change(text.replace('refresh_token = "sandbox-refresh"', lines)))


def without_client(text: str) -> str:
    return re.sub(r'client_(id|secret) = "sandbox-\w+"\n', "", text)


def said_by(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text().strip() for file in sorted(folder.iterdir())}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- before anybody is asked


def test_without_a_client_and_a_terminal_it_says_where_one_is_made(shop: Any) -> None:
    configure(shop, without_client)
    result = shop.run("google", "login")
    assert result.exit_code == 2
    assert "type Desktop app" in result.stderr
    assert "--client-file" in result.stderr


def test_a_service_account_needs_nobody_to_sign_in(shop: Any) -> None:
    configure(shop, lambda text: without_client(text).replace("auth_url", 'credentials_file = "key.json"\nauth_url'))
    result = shop.run("google", "login")
    assert result.exit_code == 2
    assert "credentials_file" in result.stderr


def test_without_a_destination_at_google_there_is_nothing_to_sign_in_for(shop: Any) -> None:
    shop.path.write_text("")
    result = shop.run("google", "login")
    assert result.exit_code == 2
    assert "[destinations.google]" in result.stderr


def test_of_several_destinations_one_has_to_be_named(shop: Any) -> None:
    configure(shop, lambda text: text + '\n[destinations.kz]\nplatform = "google"\ncustomer_id = "9876543210"\n')
    result = shop.run("google", "login")
    assert result.exit_code == 2
    assert "google, kz" in result.stderr
    assert shop.run("google", "login", "--destination", "yandex").exit_code == 2
    assert "type Desktop app" in shop.run("google", "login", "--destination", "kz").stderr


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("not json", "not the file of an OAuth client"),
        ("[]", "not the file of an OAuth client"),
        ('{"installed": []}', "not the file of an OAuth client"),
        ('{"installed": {"client_id": "x"}}', "no client_secret"),
        ('{"installed": {"client_id": "две", "client_secret": "x"}}', "no client_id"),
        ('{"web": {"client_id": "x", "client_secret": "canary"}}', "type Web application"),
        ('{"type": "service_account", "private_key": "canary"}', "credentials_file"),
    ],
)
def test_a_file_that_is_not_of_such_a_client_is_told_from_it(shop: Any, content: str, word: str) -> None:
    file = shop.folder / "client.json"
    file.write_text(content)
    result = shop.run("google", "login", "--client-file", str(file))
    assert result.exit_code == 2
    assert word in result.stderr
    assert "canary" not in result.output


def test_a_port_that_is_taken_is_told(shop: Any) -> None:
    configure(shop)
    result = shop.run("google", "login", "--port", str(shop.box.port))
    assert result.exit_code == 2
    assert "cannot be used" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_to_is_found_before_google_is_asked(shop: Any) -> None:
    closed = shop.folder / "closed"
    closed.mkdir(0o500)
    result = shop.run("google", "login", "--secrets-dir", str(closed))
    assert result.exit_code == 2
    assert "cannot be written to" in result.stderr


def test_a_directory_that_cannot_be_made_is_found_before_google_is_asked(shop: Any) -> None:
    (shop.folder / "file").write_text("")
    result = shop.run("google", "login", "--secrets-dir", str(shop.folder / "file" / "secrets"))
    assert result.exit_code == 2
    assert "cannot be made" in result.stderr


def test_a_file_among_the_secrets_that_is_no_key_is_told_before_google_is_asked(shop: Any) -> None:
    """Else the advice to export CONVSYNC_SECRETS_DIR would break every other command."""
    (shop.folder / "secrets").mkdir()
    (shop.folder / "secrets" / "notes.txt").write_text("")
    configure(shop)
    result = shop.run("google", "login")
    assert result.exit_code == 2
    assert "notes.txt" in result.stderr
    assert "CONVSYNC_SECRETS_DIR" not in os.environ


# -- nobody agrees


def test_no_answer_in_time_ends_with_3_and_what_may_be_wrong(shop: Any) -> None:
    configure(shop)
    result = shop.run("google", "login", "--no-browser", "--timeout", "0s", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 3
    assert "redirect_uri_mismatch" in told["advice"]
    assert list((shop.folder / "secrets").iterdir()) == []


def test_a_no_in_the_browser_is_told_and_nothing_is_stored(shop: Any, signing_in: Callable[..., Login]) -> None:
    shop.box.config.google.consent_error = "access_denied"
    login = signing_in("--no-browser")
    assert "Not signed in" in login.browse().text
    code, _, stderr = login.end()
    assert code == 2
    assert "Access was not given" in stderr
    assert list((shop.folder / "secrets").iterdir()) == []


def test_an_empty_box_for_uploads_stores_nothing_and_keeps_what_was_there(
    shop: Any, signing_in: Callable[..., Login]
) -> None:
    shop.box.config.google.consent_scopes = [ADWORDS]
    (shop.folder / "secrets").mkdir()
    kept = shop.folder / "secrets" / "destinations__google__refresh_token"
    kept.write_text("older")
    kept.chmod(0o600)
    login = signing_in("--no-browser")
    login.browse()
    code, _, stderr = login.end()
    assert code == 2
    assert "tick every box" in stderr
    assert kept.read_text() == "older"


def test_a_client_that_google_does_not_know_is_told(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, lambda text: text.replace("sandbox-secret", "canary-secret"))
    login = signing_in("--no-browser")
    login.browse()
    code, stdout, stderr = login.end()
    assert code == 2
    assert "does not know this client_id" in stderr
    assert "canary" not in stdout + stderr


def test_a_token_endpoint_that_is_away_ends_with_3(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, lambda text: re.sub('token_url = ".*"', 'token_url = "http://127.0.0.1:9"', text))
    login = signing_in("--no-browser")
    login.browse()
    code, _, stderr = login.end()
    assert code == 3
    assert "Nothing was stored" in stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_with_130(signing_in: Callable[..., Login], sent: signal.Signals) -> None:
    login = signing_in("--no-browser")
    login.address()
    login.process.send_signal(sent)
    code, _, stderr = login.end()
    assert code == 130
    assert "Traceback" not in stderr


# -- somebody agrees


def test_what_is_stored_signs_in(shop: Any, signing_in: Callable[..., Login], monkeypatch: pytest.MonkeyPatch) -> None:
    login = signing_in("--no-browser")
    assert "You can close this window" in login.browse().text
    code, stdout, stderr = login.end()
    assert code == 0, stderr
    folder = shop.folder / "secrets"
    file = folder / "destinations__google__refresh_token"
    assert said_by(folder).keys() == {file.name}
    assert (mode(folder), mode(file)) == (0o700, 0o600)
    assert str(file) in stdout
    assert f"export CONVSYNC_SECRETS_DIR={folder}" in stderr
    assert "check --online" in stderr
    token = file.read_text().strip()
    assert token not in stdout + stderr

    monkeypatch.setenv("CONVSYNC_SECRETS_DIR", str(folder))
    google: Any = load(shop.path).destinations["google"]
    wire = Wire(requests_per_second=1000)
    try:
        sign_in = SignIn(
            "destinations.google", wire=wire, token_url=google.token_url, client_id=google.client_id,
            client_secret=google.client_secret.get_secret_value(), refresh_token=google.refresh_token.get_secret_value(),
        )  # fmt: skip
        assert sign_in.token()
        assert sign_in.granted == {DATA_MANAGER, ADWORDS}
    finally:
        wire.close()
    assert shop.run("check", "--online").exit_code == 0


def test_neither_code_nor_token_nor_secret_is_ever_shown(signing_in: Callable[..., Login], shop: Any) -> None:
    login = signing_in("--no-browser", "--json", "-v")
    page = login.browse()
    _, stdout, stderr = login.end()
    code = re.search("code=([^&]+)", page.url)
    assert code
    [token] = said_by(shop.folder / "secrets").values()
    for secret in (code[1], token, "sandbox-secret", "ya29"):
        assert secret not in stdout + stderr + page.text


def test_the_client_of_a_file_is_stored_beside_the_token(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, without_client)
    file = shop.folder / "client_secret_1.json"
    file.write_text(json.dumps(CLIENT_FILE))
    file.chmod(0o644)
    login = signing_in("--no-browser", "--client-file", str(file), "--json")
    login.browse()
    code, stdout, _ = login.end()
    told = json.loads(stdout)
    folder = shop.folder / "secrets"
    assert code == told["exit_code"] == 0
    assert told["destination"] == "google"
    assert told["scopes"] == sorted([ADWORDS, DATA_MANAGER])
    assert told["secrets_dir"] == str(folder)
    names = [f"destinations__google__{key}" for key in ("client_id", "client_secret", "refresh_token")]
    assert told["files"] == [str(folder / name) for name in names]
    assert {one["code"] for one in told["findings"]} == {"consent_screen", "secrets_dir_elsewhere", "readable_secret"}
    stored = said_by(folder)
    assert (stored[names[0]], stored[names[1]]) == ("sandbox-client", "sandbox-secret")
    assert {mode(folder / name) for name in names} == {0o600}


def test_the_second_sign_in_finds_what_the_first_stored(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, without_client)
    file = shop.folder / "client.json"
    file.write_text(json.dumps(CLIENT_FILE))
    first = signing_in("--no-browser", "--client-file", str(file))
    first.browse()
    assert first.end()[0] == 0
    before = said_by(shop.folder / "secrets")
    second = signing_in("--no-browser")
    second.browse()
    code, stdout, _ = second.end()
    after = said_by(shop.folder / "secrets")
    assert code == 0
    assert "client_secret" not in stdout
    assert after.keys() == before.keys()
    assert [key for key in after if after[key] != before[key]] == ["destinations__google__refresh_token"]


def test_a_terminal_is_asked_for_the_client_and_shows_no_secret(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, without_client)
    ours, theirs = os.openpty()
    try:
        login = signing_in("--no-browser", terminal=theirs)
        os.write(ours, b"sandbox-client\n")
        assert login.process.stderr
        said = ""
        while "not shown" not in said:
            said += login.process.stderr.read(1)
        os.write(ours, b" sandbox-secret \n")
        login.browse()
        code, _, stderr = login.end()
        echoed = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert code == 0, stderr
    assert "sandbox-client" in echoed
    assert "sandbox-secret" not in said + stderr + echoed
    assert said_by(shop.folder / "secrets")["destinations__google__client_secret"] == "sandbox-secret"


def test_an_empty_box_for_cost_is_a_warning(shop: Any, signing_in: Callable[..., Login]) -> None:
    shop.box.config.google.consent_scopes = [DATA_MANAGER]
    login = signing_in("--no-browser")
    login.browse()
    code, stdout, stderr = login.end()
    assert code == 0
    assert "no cost" in stderr
    assert ADWORDS not in stdout


def test_a_variable_that_wins_over_what_was_stored_needs_a_person(
    shop: Any, signing_in: Callable[..., Login], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere" / "secrets"
    name = "convsync_destinations__google__refresh_token"
    login = signing_in("--no-browser", "--json", CONVSYNC_SECRETS_DIR=str(folder), **{name: "canary-token"})
    login.browse()
    code, stdout, stderr = login.end()
    told = json.loads(stdout)
    assert code == told["exit_code"] == 1
    [wins] = [one for one in told["findings"] if one["level"] == "error"]
    assert (wins["code"], name in wins["message"]) == ("environment_wins", True)
    assert "canary" not in stdout + stderr
    assert mode(folder) == 0o700


def test_a_token_left_in_the_file_is_a_warning_with_its_line(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, lambda text: text.replace("auth_url", 'refresh_token = "canary-token"\nauth_url'))
    line = shop.path.read_text().splitlines().index('refresh_token = "canary-token"') + 1
    login = signing_in("--no-browser", "--secrets-dir", str(shop.folder / "mine"))
    login.browse()
    code, _, stderr = login.end()
    assert code == 0
    assert f"{shop.path}:{line} holds another refresh_token" in stderr
    assert "canary" not in stderr


def test_an_empty_token_in_the_file_does_not_count(shop: Any, signing_in: Callable[..., Login]) -> None:
    configure(shop, lambda text: text.replace("auth_url", 'refresh_token = ""\nauth_url'))
    folder = shop.folder / "secrets"
    login = signing_in("--no-browser", "--json", CONVSYNC_SECRETS_DIR=str(folder))
    login.browse()
    code, stdout, _ = login.end()
    assert code == 0
    assert {one["code"] for one in json.loads(stdout)["findings"]} == {"consent_screen"}


def test_a_name_with_capitals_and_a_file_of_an_older_hand_are_found(
    shop: Any, signing_in: Callable[..., Login]
) -> None:
    configure(shop, lambda text: text.replace("destinations.google]", 'destinations.Ads_KZ]\nplatform = "google"')
              .replace("google = {", "Ads_KZ = {"))  # fmt: skip
    folder = shop.folder / "secrets"
    folder.mkdir()
    older = folder / "DESTINATIONS__ADS_KZ__REFRESH_TOKEN"
    older.write_text("older")
    login = signing_in("--no-browser")
    login.browse()
    assert login.end()[0] == 0
    assert list(folder.iterdir()) == [older]
    assert older.read_text() != "older"
    assert mode(older) == 0o600


def test_a_browser_of_the_machine_is_opened(shop: Any, signing_in: Callable[..., Login]) -> None:
    browser = shop.folder / "browser.py"
    browser.write_text("import sys, urllib.request as u\nu.build_opener(u.ProxyHandler({})).open(sys.argv[1]).read()\n")
    login = signing_in(BROWSER=f"{sys.executable} {browser} %s")
    code, stdout, stderr = login.end()
    assert code == 0, stderr
    assert "signed in" in stdout


def test_a_token_that_cannot_be_put_in_its_place_leaves_nothing_behind(
    shop: Any, signing_in: Callable[..., Login]
) -> None:
    folder = shop.folder / "secrets"
    (folder / "destinations__google__refresh_token").mkdir(parents=True)
    login = signing_in("--no-browser")
    login.browse()
    code, _, stderr = login.end()
    assert code == 2
    assert "cannot be stored" in stderr
    assert [path.name for path in folder.iterdir()] == ["destinations__google__refresh_token"]


# -- an answer that is pasted


def test_a_pasted_answer_signs_in_with_nobody_listening(shop: Any, signing_in: Callable[..., Login]) -> None:
    login = signing_in("--paste")
    answer = login.answer()
    code, stdout, stderr = login.end(f"https://accounts.google.com/wrong?state=x\n{answer}\n")
    assert code == 0, stderr
    assert "not the answer to this sign-in" in stderr
    assert "signed in" in stdout
    assert (shop.folder / "secrets" / "destinations__google__refresh_token").exists()


@pytest.mark.parametrize("typed", ["", "x\n", "x\n\ny\nz\n"])
def test_an_answer_that_is_never_pasted_ends_with_2(signing_in: Callable[..., Login], typed: str) -> None:
    code, _, stderr = signing_in("--paste").end(typed)
    assert code == 2
    assert "the answer was not pasted" in stderr


def test_the_exchange_trusts_the_certificates_of_the_destination(tmp_path: Path) -> None:
    section = {"customer_id": "1234567890", "ca_bundle": "ca.pem", "timeout": "7s"}
    settings: Any = parse({"destinations": {"google": section}}, tmp_path).destinations["google"]
    wire = _wire(settings)
    assert wire._trusted() == str(tmp_path / "ca.pem")
    assert wire.timeout == 7
    wire.close()
