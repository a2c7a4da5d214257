"""README and docs/ are run, not believed: commands with their output, configurations, names, tables and links.

A block marked `console` is typed as it stands: a line that begins with `$ ` is a command, the lines below it are the
whole of what it prints (no line: not compared). In these lines `…` stands for any text, alone on a line for any lines; times, run ids, request
ids and digests are compared by their shape. A command ends with exit code 0, unless `$ echo $?` below it says otherwise.
A block marked `file=NAME` is that file; 127.0.0.1:8080 is the sandbox; `<!-- folder: PAGE -->` starts with the files of
another page, `<!-- sandbox: yandex -->` puts the sandbox in the place of Metrica and Direct, `<!-- sandbox: vk -->` in that of VK Ads,
`<!-- sandbox: google -->` in that of the Google Ads API, with a little cost. Shell that is not run (installing, editing, cron) is marked `sh`; its names are checked all the same.
A page NAME.ru.md tells in Russian what NAME.md does: its commands, files, tables and names are compared.
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from convsync.cli import EXIT_CODES, commands
from convsync.config import Config, LedgerSettings, RetentionSettings, RunSettings, parse
from convsync.config.action import TARGETS, ActionSettings
from convsync.config.destination import DESTINATIONS
from convsync.config.source import FIELDS, SOURCES
from convsync.destinations import vk
from convsync.destinations.google import auth, replies
from convsync.destinations.google.ads import replies as ads_replies
from convsync.destinations.vk import list_replies
from convsync.destinations.vk import replies as vk_replies
from convsync.destinations.yandex import direct, metrica, uploadings
from convsync.errors import Exit
from convsync.ledger.verify import CHECKS
from convsync.model import Action, SkipReason, State, Verdict
from convsync.report.rows import FIGURES
from convsync.sandbox import Sandbox, SandboxConfig
from convsync.sandbox.ads.config import AdClick, Cost
from convsync.sync import Summary

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", *DOCS]

HOME = "/home/anna/ads"
ADDRESS = "http://127.0.0.1:8080"
WRITTEN = date(2026, 11, 22)
"""The day of the dates in files and commands: they are moved, for platforms do not take old actions."""
NOT_YET = "Not yet"

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block(NamedTuple):
    """A fenced block: its language, the file it is, and where it stands."""

    language: str
    file: str
    text: str
    page: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"


@cache
def text_of(page: Path) -> str:
    return page.read_text("utf-8")


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    found = []
    for match in FENCE.finditer(text_of(page)):
        language, _, rest = match[1].strip().partition(" ")
        line = text_of(page).count("\n", 0, match.start()) + 1
        found.append(Block(language, rest.removeprefix("file="), match[2], page, line))
    return tuple(found)


def prose(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", text_of(page))


def section(page: Path, title: str) -> str:
    """What stands under a heading, up to the next of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    assert match, f"{page.name} has no section {title!r}"
    return match[2]


def table(page: Path, first: str) -> list[list[str]]:
    """The cells of every table of a page whose first header is `first`."""
    rows: list[list[str]] = []
    inside = False
    for line in prose(page).splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not re.fullmatch(r":?-+:?", cells[0]):
            rows.append(cells)
    return rows


def plain(cell: str) -> str:
    return cell.strip("`")


# -- commands are run ------------------------------------------------------------------------------------------------

VARIES = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?(\+\d\d:\d\d|Z)?)?"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<day>"),
    (re.compile(r"\b\d{8}t\d{6}[0-9a-f]{6}\b"), "<run>"),
    (re.compile(r"\bhead \d+:[0-9a-f]{32}\b"), "head <head>"),
    (re.compile(r"\b\d+:[0-9a-f]{32}\b"), "<head>"),
    (re.compile(r"\bsandbox-[0-9a-f]{16}\b"), "<request>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<upload>"),
    (re.compile(r"sha256 [0-9a-f]{12}"), "sha256 <digest>"),
    (re.compile(r"\(who: [^)]*\)"), "(who: <login>)"),
    (re.compile(r"\bpid \d+"), "pid <pid>"),
)


def shape(text: str) -> str:
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in shape(text).splitlines() if line.strip()]


def pattern_of(expected: list[str]) -> re.Pattern[str]:
    parts = [
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", r"[^\n]*") + r"\n"
        for line in expected
    ]
    return re.compile("".join(parts))


class Command(NamedTuple):
    typed: str
    printed: str
    where: str


def typed(block: Block) -> Iterator[Command]:
    """Commands of a console block; a line that ends with a backslash goes on."""
    parts = re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0].strip(), f"{block.where}: a console block begins with a command"
    for part in parts[1:]:
        command, _, printed = part.partition("\n")
        yield Command(command.strip(), printed, block.where)


def moved(text: str) -> str:
    """Its days as many days later as the page is old."""
    days = timedelta((datetime.now(UTC).date() - WRITTEN).days)
    return re.sub(r"\b2026-\d\d-\d\d\b", lambda day: str(date.fromisoformat(day[0]) + days), text)


class Terminal:
    """A shell that knows the few commands that the documents use."""

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.environment = environment
        self.code = 0
        self.asked = True
        self.box: Sandbox | None = None
        self.served: subprocess.Popen[str] | None = None
        self.url = ""

    # -- files

    def write(self, block: Block) -> None:
        self.need_sandbox()
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(moved(block.text).replace(ADDRESS, self.url), "utf-8")
        if block.language == "toml":
            path.chmod(0o600)

    # -- commands

    def do(self, command: Command) -> None:
        words = shlex.split(moved(command.typed))
        if words == ["echo", "$?"]:
            assert self.code == int(command.printed), f"{command.where}: exit code {self.code}"
            self.asked = True
            return
        self.expect_success(command.where)
        program, *args = words
        run = getattr(self, f"do_{program}", None)
        assert run is not None, f"{command.where}: this test does not know {program!r}; mark the block sh"
        said = run(args) or ""
        said = said.replace(self.url or ADDRESS, ADDRESS).replace(str(self.folder), HOME)
        expected, found = lines(command.printed), lines(said)
        text = "".join(f"{line}\n" for line in found)
        if expected and not pattern_of(expected).fullmatch(text):
            pytest.fail(
                f"{command.where}: $ {command.typed}\n--- the page says\n{command.printed}\n--- it prints\n{said}"
            )
        self.asked = False
        self.last = command

    def expect_success(self, where: str) -> None:
        if not self.asked:
            assert self.code == 0, f"{where}: exit code {self.code} of `{self.last.typed}` is not told by $ echo $?"

    def do_convsync(self, args: list[str]) -> str:
        if args[0] == "sandbox":
            return self.serve(args)
        if args[0] not in ("demo", "init"):
            self.need_sandbox()
        result = CliRunner().invoke(commands, args, prog_name="convsync")
        self.code = result.exit_code
        return result.output

    def serve(self, args: list[str]) -> str:
        """`convsync sandbox`, on another port than 8080, until the page ends."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "convsync", *args, "--port", str(port)]
        self.served = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder
        )
        said = ""
        while "what it counted" not in said:
            line = self.served.stdout.readline()  # type: ignore[union-attr]
            assert line, said
            said += line
        self.code = 0
        return said

    def do_make(self, args: list[str]) -> str:
        """`make demo`, without making an environment for it."""
        typed = re.search(r"^demo:.*\n\t\S*bin/convsync (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert args == ["demo"]
        assert typed
        return self.do_convsync(typed[1].split())

    def do_python3(self, args: list[str]) -> str:
        return self._shell([sys.executable, *args])

    def do_cat(self, args: list[str]) -> str:
        self.code = 0
        return "".join((self.folder / name).read_text("utf-8") for name in args)

    def do_chmod(self, args: list[str]) -> None:
        (self.folder / args[1]).chmod(int(args[0], 8))
        self.code = 0

    def do_sleep(self, args: list[str]) -> None:
        time.sleep(float(args[0]))
        self.code = 0

    def do_export(self, args: list[str]) -> None:
        name, _, value = args[0].partition("=")
        self.environment.setenv(name, value)
        self.code = 0

    def do_curl(self, args: list[str]) -> str:
        """`curl -s -d BODY URL` and `curl -s URL`, for the sandbox only."""
        body = args[args.index("-d") + 1] if "-d" in args else None
        assert args[-1].startswith(ADDRESS)
        self.need_sandbox()
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"))
        connection.request("POST" if body else "GET", args[-1].removeprefix(ADDRESS), body)
        reply = connection.getresponse()
        self.code = 0 if reply.status == 200 else 22
        said = reply.read().decode()
        connection.close()
        return said

    def _shell(self, args: list[str]) -> str:
        run = subprocess.run(args, capture_output=True, text=True, cwd=self.folder)
        self.code = run.returncode
        return run.stdout + run.stderr

    # -- the platforms

    def need_sandbox(self) -> None:
        if not self.url:
            config = SandboxConfig()
            config.google.processing_seconds = config.google.status_visible_after_s = 0
            self.box = Sandbox(config)
            self.box.__enter__()
            self.url = self.box.url

    def be_metrica(self) -> None:
        """Metrica and Direct. What Metrica makes of conversions is there at once, not after two hours."""
        config = SandboxConfig()
        config.yandex.processing_seconds = 0
        self.box = Sandbox(config)
        self.box.__enter__()
        self.url = self.box.url
        for key, value in (("METRICA_URL", self.url), ("DIRECT_URL", self.url), ("TOKEN", "sandbox-token"),
                           ("POLL_AFTER", "0s"), ("POLL_EVERY", "1ms")):  # fmt: skip
            self.environment.setenv(f"CONVSYNC_DESTINATIONS__YANDEX__{key}", value)

    def be_vk(self) -> None:
        """The pixel and the API of VK Ads. What it makes of a list is there at once."""
        config = SandboxConfig()
        config.vk.lists.match_s = 0
        self.box = Sandbox(config)
        self.box.__enter__()
        self.url = self.box.url
        for key, value in (("TRACKER_URL", f"{self.url}/tracker"), ("API_URL", self.url), ("CLIENT_ID", "sandbox-vk"),
                           ("CLIENT_SECRET", "sandbox-vk-secret"), ("POLL_AFTER", "0s"), ("POLL_EVERY", "1ms"),
                           ("API_REQUESTS_PER_SECOND", "1000")):  # fmt: skip
            self.environment.setenv(f"CONVSYNC_DESTINATIONS__VK__{key}", value)

    def be_google(self, certificate: Path) -> None:
        """The Ads API too, with what two campaigns cost and where one of the quickstart's clicks came from."""
        config = SandboxConfig()
        config.google.processing_seconds = config.google.status_visible_after_s = 0
        days = [str(datetime.now(UTC).date() - timedelta(n)) for n in (3, 2)]
        config.ads.costs = [
            Cost(days[0], "11", 1_250_500_000, 31, 640, "shoes"),
            Cost(days[1], "12", 980_000_000, 12, 2210, "boots"),
        ]
        config.ads.clicks = [AdClick("Cj0KCQ-made-up-anna", f"{days[0]}T10:00:00+03:00", "11")]
        self.box = Sandbox(config, ads=True, ads_folder=certificate.parent)
        self.box.__enter__()
        self.url = self.box.url
        self.environment.setenv("CONVSYNC_DESTINATIONS__GOOGLE__ADS_ENDPOINT", self.box.ads_endpoint)
        self.environment.setenv("CONVSYNC_DESTINATIONS__GOOGLE__POLL_AFTER", "0s")
        self.environment.setenv("CONVSYNC_DESTINATIONS__GOOGLE__POLL_EVERY", "1ms")

    def close(self) -> None:
        if self.box:
            self.box.__exit__(None, None, None)
        if self.served:
            self.served.terminate()
            self.served.communicate(timeout=10)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in [name for name in os.environ if name.upper().startswith("CONVSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    shell = Terminal(tmp_path, monkeypatch)
    yield shell
    shell.close()


def is_run(page: Path) -> bool:
    return any(block.language == "console" for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if is_run(page)], ids=lambda page: page.stem)
def test_what_a_page_types_prints_what_it_shows(page: Path, terminal: Terminal, ads_certificate: Path) -> None:
    if "<!-- sandbox: google -->" in text_of(page):
        terminal.be_google(ads_certificate)
    if "<!-- sandbox: yandex -->" in text_of(page):
        terminal.be_metrica()
    if "<!-- sandbox: vk -->" in text_of(page):
        terminal.be_vk()
    before = re.search(r"<!-- folder: (\S+) -->", text_of(page))
    if before:
        for block in blocks(page.parent / before[1]):
            if block.file:
                terminal.write(block)
        terminal.do_python3(["shop.py"])
        assert terminal.code == 0
        terminal.asked = True
    for block in blocks(page):
        if block.language == "console":
            for command in typed(block):
                terminal.do(command)
        elif block.file:
            terminal.write(block)
    terminal.expect_success(page.name)


def test_the_readme_runs_the_demo_and_four_commands_on_what_it_leaves() -> None:
    run = [command.typed for block in blocks(README) if block.language == "console" for command in typed(block)]
    assert sum(command.startswith("convsync") for command in run) >= 5


# -- configurations load ---------------------------------------------------------------------------------------------


def full(values: Mapping[str, Any]) -> bool:
    return all(name in values for name in ("sources", "actions", "destinations"))


def completed(fragment: Mapping[str, Any]) -> dict[str, Any]:
    """The example configuration with the sections of a fragment in place of its own."""
    values = tomllib.loads((ROOT / "config.example.toml").read_text("utf-8"))
    for name, part in fragment.items():
        named = name in ("sources", "actions", "destinations")
        values[name] = {**values[name], **part} if named else part
    return values


TOML = [block for page in PAGES for block in blocks(page) if block.language == "toml"]


@pytest.mark.parametrize("block", TOML, ids=lambda block: block.where)
def test_every_configuration_loads(block: Block, tmp_path: Path) -> None:
    values = tomllib.loads(block.text)
    parse(values if full(values) else completed(values), tmp_path)


def test_there_are_configurations_to_load() -> None:
    assert len(TOML) >= 8


# -- names exist -----------------------------------------------------------------------------------------------------


def named(text: str) -> Iterator[list[str]]:
    """The words of every command that a text names in code, `convsync` itself left out."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.split(r"(?:^|\s)#", line)[0]
        for match in re.finditer(r"(?:^|[\s\"(=/])convsync((?: +[^\s|&;<>)]+)+)", line):
            yield match[1].split()


def spans(text: str) -> Iterator[list[str]]:
    for code in CODE.findall(text):
        words = code.split()
        if words[0] == "convsync" and len(words) > 1:
            yield words[1:]
        elif words[0] in commands.commands and len(words) > 1 and re.match(r"[a-z-]", words[1]):
            yield words


def options_of(command: click.Command) -> set[str]:
    own = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return own | {"--help", "-h", "--config", "-v", "--verbose", "-q", "--quiet"}


def meant(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words lead to, and what follows it; LookupError if there is none."""
    at: click.Command = commands
    words = [word for word in words if word != "…"]
    while isinstance(at, click.Group) and words:
        word = words[0]
        if word.startswith("-"):
            if word not in options_of(at) | {"--version"}:
                raise LookupError(f"option {word}")
            words = words[2 if word == "--config" else 1 :]
            continue
        if word not in at.commands:
            raise LookupError(f"command {word}")
        at, words = at.commands[word], words[1:]
    return at, words


def test_every_command_and_option_that_is_named_exists() -> None:
    wrong, seen = [], 0
    for page in PAGES:
        text = prose(page)
        if page == README:
            text = text.replace(section(README, NOT_YET), "")
        code = [block.text for block in blocks(page) if block.language in ("sh", "console", "ini", "")]
        found = [*spans(text), *(words for block in code for words in named(block))]
        for words in found:
            seen += 1
            try:
                command, rest = meant(words)
            except LookupError as error:
                wrong.append(f"{page.name}: {' '.join(words)}: there is no {error}")
                continue
            for word in rest:
                option = word.split("=")[0]
                if re.match(r"--?[a-z]", option) and option not in options_of(command):
                    wrong.append(f"{page.name}: {' '.join(words)}: there is no {option}")
    assert wrong == []
    assert seen > 60


def every_option() -> set[str]:
    def walk(command: click.Command) -> Iterator[str]:
        yield from options_of(command)
        for one in getattr(command, "commands", {}).values():
            yield from walk(one)

    return {*walk(commands), "--version"}


def test_every_option_that_is_named_alone_exists() -> None:
    known = every_option()
    for page in PAGES:
        words = [word for code in CODE.findall(prose(page)) if code.startswith("--") for word in code.split()]
        alone = [word.split("=")[0] for word in words if word.startswith("--")]
        assert [option for option in alone if option not in known] == [], page.name


def test_every_command_is_documented() -> None:
    told = "\n".join(text_of(page) for page in PAGES)
    for name, command in commands.commands.items():
        below = getattr(command, "commands", {})
        for words in [f"{name} {one}" for one in below] or [name]:
            assert re.search(rf"convsync {words}\b", told), f"convsync {words} is nowhere"


def absent() -> list[list[str]]:
    """The commands that the README says are not there yet."""
    listed = CODE.findall(section(README, NOT_YET))
    return [code.split()[1:] for code in listed if code.startswith("convsync ")]


def test_what_is_not_there_yet_is_not_there() -> None:
    """When one of these is made, its line has to leave the list."""
    listed = section(README, NOT_YET)
    assert len(absent()) >= 6
    for words in absent():
        with pytest.raises(LookupError):
            meant(words)
    assert not re.search(r"`(google|yandex|vk)\.\w+`", listed), "every route that is planned is there"
    assert not {"amocrm", "bitrix24", "hubspot", "parquet"} & SOURCES.keys()


def test_what_is_not_there_yet_is_promised_nowhere() -> None:
    for page in PAGES:
        text = text_of(page).replace(section(README, NOT_YET), "")
        for words in absent():
            assert not re.search(rf"(`|convsync ){' '.join(words)}\b", text), f"{page.name}: {' '.join(words)}"


SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "ledger": (LedgerSettings,),
    "run": (RunSettings,),
    "retention": (RetentionSettings,),
    "sources": tuple(SOURCES.values()),
    "destinations": tuple(DESTINATIONS.values()),
    "actions": (ActionSettings,),
}


def key_exists(path: list[str]) -> bool:
    if len(path) == 1:
        return path[0] in Config.model_fields
    head, *rest = path
    models = SECTIONS.get(head, ())
    if head in ("sources", "destinations", "actions"):
        name, *rest = rest
        models = (DESTINATIONS[name],) if head == "destinations" and name in DESTINATIONS else models
        if head == "sources" and rest[:1] == ["fields"] and len(rest) == 2:
            return rest[1] in FIELDS
        if head == "sources" and rest[:1] == ["options"]:
            return True
        if head == "actions" and rest and rest[0] in TARGETS:
            return len(rest) == 1 or rest[1] in TARGETS[rest[0]].model_fields
    return len(rest) <= 1 and (not rest or any(rest[0] in model.model_fields for model in models))


def test_every_configuration_key_that_is_named_exists() -> None:
    seen = 0
    for page in PAGES:
        for code in CODE.findall(prose(page)):
            if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.[a-z_0-9]+)+", code):
                seen += 1
                assert key_exists(code.split(".")), f"{page.name}: {code}"
        for variable in re.findall(r"\bCONVSYNC_([A-Z0-9_]+__[A-Z0-9_]+)\b", text_of(page)):
            seen += 1
            assert key_exists(variable.lower().split("__")), f"{page.name}: CONVSYNC_{variable}"
    assert seen > 10


KEYS = {"google.md": DESTINATIONS["google"], "yandex.md": DESTINATIONS["yandex"], "vk.md": DESTINATIONS["vk"]}


@pytest.mark.parametrize("page", [page for page in DOCS if page.name in KEYS], ids=lambda page: page.stem)
def test_keys_of_a_destination_are_told_with_their_defaults(page: Path) -> None:
    model = KEYS[page.name]
    account = {model.ACCOUNT: "1234567890"}
    shown = parse({"destinations": {page.stem: account}}).redacted()["destinations"][page.stem]
    told = {plain(row[0]): plain(row[1]) for row in table(page, "key")}
    assert told.keys() <= model.model_fields.keys()
    for key, default in told.items():
        value = shown[key]
        expected = "–" if value is None else f'"{value}"' if isinstance(value, str) else str(value).lower()
        assert default == ("needed" if key == model.ACCOUNT else expected), f"{page.name}: {key}"
    own = model.__annotations__.keys() - {"ROUTE", "ACCOUNT", "platform", "direct_url", "ads_endpoint"}
    assert own - told.keys() <= {"api", "ads_api_version", "client_login", "client_id", "client_secret"}


def test_fields_of_an_action_are_all_told() -> None:
    told = [plain(name) for row in table(ROOT / "docs/sources.md", "field") for name in row[0].split(", ")]
    assert sorted(told) == sorted({*Action._fields} - {"source"})


# -- tables say what the code says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [README, ROOT / "docs/operating.md"], ids=lambda page: page.stem)
def test_the_exit_codes_are_those_of_the_program(page: Path) -> None:
    told = {int(row[0]): row[1] for row in table(page, "exit code")}
    assert told.keys() == {int(code) for code in Exit}
    for code, meaning in told.items():
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", EXIT_CODES, re.MULTILINE), f"{page.name}: {code}"


def test_the_states_are_those_of_the_ledger() -> None:
    assert [plain(row[0]) for row in table(ROOT / "docs/ledger.md", "state")] == [state.value for state in State]
    for page in (README, ROOT / "docs/ledger.md"):
        assert all(state.value in text_of(page) for state in State), page.name


def test_the_promise_of_each_route_is_what_the_route_declares() -> None:
    from convsync.destinations.google import Ads, DataManager
    from convsync.destinations.yandex import Conversions, Orders

    told = {plain(row[0]): plain(row[1]) for row in table(ROOT / "docs/ledger.md", "route")}
    declared = {route.route: str(route.on_unknown) for route in (DataManager, Ads, Orders, Conversions)}
    pixel = vk.Pixel("vk", pixel_id="1", wire=None_Wire())  # type: ignore[arg-type]
    assert told == {**declared, "vk.pixel": str(pixel.on_unknown), "vk.offline_list": str(vk.Lists.on_unknown)}


class None_Wire:
    longest = 1.0


def test_the_promises_of_verify_are_all_listed() -> None:
    told = [row[0] for row in table(ROOT / "docs/ledger.md", "promise")]
    assert told == [check.__name__.replace("_", " ") for check in CHECKS]


def test_the_reasons_of_skips_are_all_listed() -> None:
    told = {plain(row[0]): row[1] for row in table(ROOT / "docs/ledger.md", "skip")}
    assert told == {reason.value: reason.sentence for reason in SkipReason}


STATE_OF = {
    Verdict.DUPLICATE: "accepted",
    Verdict.LATER: "pending",
    Verdict.RETURNED: "pending",
    Verdict.UNMATCHED: "unmatched",
    Verdict.REFUSED: "refused",
    Verdict.HELD: "held",
}
MEANS = {"refused": "refused", "later": "pending", "halt": "pending, stops", "unknown": "unknown", "split": "pending",
         "minute_quota": "pending", "day_quota": "pending", "untold": "by what else it says"}  # fmt: skip


def answers(first: str) -> dict[str, tuple[str, ...]]:
    """A table of google-answers.md by the names in its first column."""
    rows = table(ROOT / "docs/google-answers.md", first)
    return {plain(name): tuple(row[1:]) for row in rows for name in row[0].split(", ")}


def of_row(fate: replies.Fate) -> tuple[str, str, str]:
    """What a page has to say of what became of a row."""
    cure = fate.advice.replace(f" {replies._HALTS}", "") or "–"
    return STATE_OF[fate.verdict] + (", stops" if fate.halts else ""), fate.sentence.rstrip("."), cure


def of_call(meaning: replies.Meaning) -> tuple[str, str, str]:
    return MEANS[meaning.means], meaning.sentence.rstrip("."), meaning.advice or "–"


def test_every_answer_of_data_manager_is_told_with_its_cure() -> None:
    assert answers("later") == {reason: of_row(fate) for reason, fate in replies.FATES.items()}
    assert answers("at once") == {reason: of_call(one) for reason, one in replies.REASONS.items() if reason}


def test_every_answer_of_the_ads_api_is_told_with_its_cure() -> None:
    told = {
        **{f"ConversionUploadError.{name}": row for name, row in answers("upload").items()},
        **{f"ConversionAdjustmentUploadError.{name}": row for name, row in answers("change").items()},
        **answers("elsewhere"),
    }
    assert told == {reason: of_row(fate) for reason, fate in ads_replies.FATES.items()}
    assert answers("call") == {reason: of_call(one) for reason, one in ads_replies.CALLS.items()}


def test_what_stops_google_is_told_with_its_cure() -> None:
    told = {plain(row[0]): (row[1], row[2]) for row in table(ROOT / "docs/google.md", "stops with")}
    stops = {call.code: (call.sentence, call.advice) for call in replies.CALLS if call.means is replies.Means.HALT}
    assert told == {**stops, **auth.SAID}


def codes(cell: str) -> set[str]:
    return set(CODE.findall(cell))


YANDEX = ROOT / "docs/yandex.md"


def test_what_stops_yandex_is_told_with_its_cure() -> None:
    told = {(plain(row[0]), row[2], row[3]) for row in table(YANDEX, "stops with")}
    said = [one for one in metrica.REPLIES.values() if one.means in (metrica.Means.HALT, metrica.Means.TOO_LARGE)]
    said += [one for replies in metrica.CLIENT_ID_TYPE.values() for one in replies.values()]
    assert told == {(one.code, one.message, one.advice) for one in [*said, metrica._MOVED]}


def test_every_finding_about_yandex_is_told() -> None:
    code = ROOT / "src/convsync"
    files = [*(code / "destinations/yandex").glob("*.py"), code / "watch.py", code / "sources/rounded.py"]
    raised = {name for file in files for name in re.findall(r'"(?:error|warning)",\s*"(\w+)"', text_of(file))}
    assert len(raised) > 15
    assert raised - codes(prose(YANDEX)) - codes(prose(ROOT / "docs/operating.md")) == set()


BECOMES = {
    metrica.Means.BAD_ROWS: "the file is halved; a single row: refused",
    metrica.Means.TOO_LARGE: "the file is halved",
    metrica.Means.SHORTLY: "pending, a few seconds",
    metrica.Means.TOMORROW: "pending, until 00:00 GMT",
    metrica.Means.LATER: "pending, as long as Metrica asks for",
    metrica.Means.UNKNOWN: "unknown",
}


def test_every_reply_of_metrica_is_told_with_what_it_means() -> None:
    told = {code: row[1] for row in table(YANDEX, "Metrica says") for code in codes(row[0]) - {"FAILED"}}
    stops = {code: plain(row[0]) for row in table(YANDEX, "stops with")[::-1] for code in codes(row[1])}
    meant = {f"{status} {error}".strip(): one for (status, error), one in metrica.REPLIES.items()}
    halts = {reply: one.code for reply, one in meant.items() if one.means is metrica.Means.HALT}
    assert told == {reply: BECOMES[one.means] for reply, one in meant.items() if reply not in halts}
    named = {f"{status} {error}" for replies in metrica.CLIENT_ID_TYPE.values() for status, error, _ in replies}
    assert {reply: code for reply, code in stops.items() if reply not in named | told.keys()} == {
        reply: code for reply, code in halts.items() if reply not in named
    }
    assert named <= stops.keys()


def test_every_status_of_an_upload_is_told() -> None:
    becomes = {
        "wait": "`accepted`; asked again",
        "done": "`confirmed`, or `unmatched` if none was tied",
        "nobody": "`unmatched`",
    }
    told = {code: row[1] for row in table(YANDEX, "status of an upload") for code in codes(row[0])}
    assert told == {word: becomes[stage.value] for word, stage in uploadings.STATUSES.items()}


def test_every_answer_of_direct_is_told_with_its_cure() -> None:
    meant = {str(number): one for number, one in direct.REPLIES.items()}
    meant |= {f"HTTP {status}": one for status, one in direct.STATUSES.items() if status != 200}
    stops = {
        code: (plain(row[0]), row[2], row[3]) for row in table(YANDEX, "cost stops with") for code in codes(row[1])
    }
    assert stops == {
        code: (one.code, one.message, one.advice) for code, one in meant.items() if one.means is direct.Means.HALT
    }
    told = {code: row[1] for row in table(YANDEX, "Direct says") for code in codes(row[0])}
    assert told.keys() == meant.keys() - stops.keys()
    how_often = {5: "five times", 1: "once"}
    for code, one in meant.items():
        if one.means is direct.Means.LATER:
            assert told[code].endswith(how_often[one.tries]), code


VK = ROOT / "docs/vk.md"


def test_what_stops_vk_is_told() -> None:
    told = {plain(row[0]): codes(row[1]) - {"name", "type"} for row in table(VK, "stops with")}
    meant: dict[str, set[str]] = {}
    for (status, code), one in vk_replies.REPLIES.items():
        if one.means is vk_replies.Means.HALT:
            meant.setdefault(one.code, set()).add(code or str(status))
    assert told == meant | {vk_replies._MOVED.code: set()}


def test_what_stops_the_lists_of_vk_is_told() -> None:
    told = {plain(row[0]): codes(row[1]) for row in table(VK, "list stops with")}
    meant: dict[str, set[str]] = {}
    for word, one in list_replies.STOPS.items():
        meant.setdefault(one.code, set()).add(word)
    others = {list_replies.NO_ACCESS: {"403 access_denied"}, list_replies.GONE: {"404"}}
    others |= {one: set() for one in (list_replies.OURS, list_replies.ALL_ROWS)}
    assert told == meant | {one.code: said for one, said in others.items()}


def test_every_other_answer_to_a_list_of_vk_is_told() -> None:
    told = {code: row[1] for row in table(VK, "answer to a list") for code in codes(row[0])}
    for code in list_replies.REFUSED:
        assert told[code].startswith("refused"), code
    assert told[list_replies.TOO_FEW].startswith("pending")
    assert told[list_replies.TOO_MANY] == told["413"] == "the list is halved"
    assert told[list_replies.TWICE].startswith("this row waits")


def test_every_finding_about_vk_is_told() -> None:
    files = (ROOT / "src/convsync/destinations/vk").glob("*.py")
    finding = r'inding\(\s*"(?:error|warning|info)",\s*"(\w+)"'
    raised = {name for file in files for name in re.findall(finding, text_of(file))}
    raised |= set(re.findall(r'_halted\([\w.]+, "(\w+)"', text_of(ROOT / "src/convsync/destinations/vk/pixel.py")))
    raised |= set(re.findall(r'Lack\(name, "(\w+)"', text_of(ROOT / "src/convsync/destinations/vk/goals.py")))
    assert len(raised) > 20
    assert raised - codes(prose(VK)) == set()


def test_every_word_for_an_answer_is_told() -> None:
    rows = table(ROOT / "docs/adding-a-destination.md", "verdict")
    assert {code for row in rows for code in codes(row[0])} == {verdict.name for verdict in Verdict}


def test_the_json_of_a_run_has_the_fields_that_are_told() -> None:
    told = {plain(row[0]) for row in table(ROOT / "docs/operating.md", "field")}
    assert told == Summary("r", "sync", False, datetime.now(UTC)).as_json().keys()


def test_the_figures_of_a_report_are_all_defined() -> None:
    assert [plain(row[0]) for row in table(ROOT / "docs/report.md", "figure")] == list(FIGURES)


# -- a page in Russian says the same ---------------------------------------------------------------------------------

RUSSIAN = [page for page in DOCS if page.name.endswith(".ru.md")]


def english(page: Path) -> Path:
    return page.with_name(page.name.replace(".ru.md", ".md"))


def told_in(block: Block) -> object:
    """What a block says, its comments left out."""
    return tomllib.loads(block.text) if block.language == "toml" else re.sub(r"(?m)(^| +)# .*$", "", block.text)


@pytest.mark.parametrize("page", RUSSIAN, ids=lambda page: page.stem)
def test_a_page_in_russian_has_the_same_commands_and_files(page: Path) -> None:
    ours, theirs = ([(one.language, one.file, told_in(one)) for one in blocks(name)] for name in (page, english(page)))
    assert ours == theirs


def rows_of(page: Path) -> list[list[str]]:
    """The code of every row of every table, as often as it is there; an empty list is a row of headers."""
    lines = [line for line in prose(page).splitlines() if line.startswith("|") and not re.match(r"\|[-| :]+$", line)]
    return [sorted(CODE.findall(line)) for line in lines]


@pytest.mark.parametrize("page", RUSSIAN, ids=lambda page: page.stem)
def test_a_page_in_russian_has_the_same_tables(page: Path) -> None:
    ours, theirs = rows_of(page), rows_of(english(page))
    assert [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]] == []
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("page", RUSSIAN, ids=lambda page: page.stem)
def test_a_page_in_russian_names_the_same(page: Path) -> None:
    ours, theirs = (
        {*CODE.findall(prose(name)), *re.findall(r"https://[^)\s]+", prose(name))} for name in (page, english(page))
    )
    assert ours == theirs
    levels = [re.findall(r"(?m)^#+ ", prose(name)) for name in (page, english(page))]
    assert levels[0] == levels[1]


def test_there_is_a_page_in_russian() -> None:
    assert RUSSIAN


# -- the example of a destination works ------------------------------------------------------------------------------


def test_the_example_of_a_destination_is_complete() -> None:
    """Runs the page's Python, which ends with assertions of its own, and breaks them once."""
    code = "\n".join(
        block.text for block in blocks(ROOT / "docs/adding-a-destination.md") if block.language == "python"
    )
    assert code.count("assert ") >= 3
    exec(compile(code, "adding-a-destination.md", "exec"), {"__name__": "example"})  # noqa: S102 - our own page
    broken = code.replace("OnUnknown.RESEND", "OnUnknown.HOLD")
    assert broken != code
    names: dict[str, Any] = {"__name__": "example"}
    with pytest.raises(AssertionError):
        exec(compile(broken, "adding-a-destination.md", "exec"), names)  # noqa: S102 - our own page, broken
    names["ledger"].close()


def test_the_example_that_asks_counts_twice_where_it_does_not_ask() -> None:
    """Breaks the second example of the page: what is not found is sent again, although it is there."""
    code = "\n".join(
        block.text for block in blocks(ROOT / "docs/adding-a-destination.md") if block.language == "python"
    )
    broken = code.replace("found = sought.token in reply.json()", "found = False")
    assert broken != code
    names: dict[str, Any] = {"__name__": "example"}
    with pytest.raises(AssertionError):
        exec(compile(broken, "adding-a-destination.md", "exec"), names)  # noqa: S102 - our own page, broken
    names["asking"].close()


# -- pages -----------------------------------------------------------------------------------------------------------


def slug(title: str) -> str:
    """As GitHub makes anchors."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"`|\*", "", title).strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose(README))}
    assert {f"docs/{page.name}" for page in DOCS} <= linked
    assert {"CHANGELOG.md", "LICENSE"} <= linked


def test_the_package_and_the_licence_are_what_the_pages_say() -> None:
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")
    assert "convsync contributors" in (ROOT / "LICENSE").read_text("utf-8")
    from convsync import __version__

    assert __version__.split(".dev")[0] in text_of(ROOT / "CHANGELOG.md")


def test_no_page_names_a_folder_of_the_machine_it_was_written_on() -> None:
    for page in PAGES:
        assert str(ROOT) not in text_of(page), page.name
        assert not re.search(r"(?<![\w.~])/(tmp|root|work|mnt|opt)/", text_of(page)), page.name


# -- and the test of all this can fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\n…\nc\n", "a\nb\nb\nc\n", True),
        ("Read … actions\n", "Read 9 actions\n", True),
        ("run 20261122t175625240d4f\n", "run 20270101t000000abcdef\n", True),
        ("a\n", "a\nb\n", False),
        ("a\nc\n", "a\nb\nc\n", False),
        ("Read 8 actions\n", "Read 9 actions\n", False),
        ("key 95b59f4ac330\n", "key 95b59f4ac331\n", False),
    ],
)
def test_output_is_compared_line_by_line(shown: str, printed: str, same: bool) -> None:
    text = "".join(f"{line}\n" for line in lines(printed))
    assert bool(pattern_of(lines(shown)).fullmatch(text)) is same


def test_a_command_that_fails_in_silence_fails_the_page(terminal: Terminal) -> None:
    terminal.do(Command("convsync ledger stats --no-such-option", "", "here"))
    with pytest.raises(AssertionError, match="is not told"):
        terminal.expect_success("here")
