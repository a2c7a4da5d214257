"""`convsync demo`: the commands a person would type, one after another, on the made-up world and the local sandbox."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import click

from convsync.demo import world
from convsync.errors import Exit, UsageError
from convsync.model import State

OURS = (world.STORE, world.EXPORTS, world.COSTS, world.CONFIG, "report.csv")
"""What a tour leaves behind, apart from the ledger's files; the next one may take it away."""
PATIENCE = 12
"""How often the tour asks the sandbox for its last verdicts."""


class Compared(NamedTuple):
    """One figure, as the ledger has it and as the sandbox counted it."""

    what: str
    ledger: Decimal | int
    platform: Decimal | int

    @property
    def agrees(self) -> bool:
        return bool(self.ledger == self.platform)


class Tour:
    """One tour. `run` returns 0 when everything agreed."""

    def __init__(self, commands: click.Group, folder: Path, *, port: int = 0, keep_serving: bool = False) -> None:
        self.commands = commands
        self.folder = folder
        self.port = port
        self.keep_serving = keep_serving
        self.surprises: list[str] = []

    def run(self) -> int:
        from convsync.sandbox import Sandbox, SandboxConfig

        started = time.monotonic()
        _clear(self.folder)
        config = SandboxConfig()
        config.google.processing_seconds = 1
        with _sandbox(Sandbox, config, self.port) as box, _environment(self.folder / world.CONFIG):
            self._begin(box)
            self._walk(box)
            agreed = self._compare(box)
            self._end(box, time.monotonic() - started, agreed)
            if self.keep_serving:
                _serve()
        return Exit.OK if agreed and not self.surprises else Exit.ATTENTION

    # -- the way

    def _begin(self, box: Any) -> None:
        from datetime import UTC, datetime

        self.made = world.build(self.folder, datetime.now(UTC), box.url)
        rows = self.made.rows
        self._tell(
            f"A made-up shop ({rows['shop']} actions in SQLite) and a clinic ({rows['clinic']} rows in CSV exports, with the"
            f" dirt that real exports have) are in {self.folder}. An emulator of Google Ads, Yandex.Direct and VK Ads"
            f" listens on {box.url}. Nothing leaves this machine."
        )
        click.echo(click.style(f"$ export CONVSYNC_CONFIG={shlex.quote(str(self.made.config))}", bold=True))

    def _walk(self, box: Any) -> None:
        self._step("Is everything there? check looks, and says what to do.", ["check"])
        self._step(
            "The first run reads everything, sends it and remembers it. Some rows cannot be read: exit code 1 tells cron"
            " that somebody should look; the others are not held up.",
            ["sync"],
            expect=(Exit.ATTENTION,),
        )
        self._step("The second run finds nothing new: what was sent is never sent again.", ["sync"], expect=(0, 1))
        change = world.refund_one(self.folder)
        self._step(
            f"A day later in the shop: sale {change.refunded} is refunded, and {change.repriced} turns out to be worth"
            f" {change.after} instead of {change.before} RUB. Both go out as changes of what was sent, not as new sales.",
            ["sync"],
            expect=(0, 1),
        )
        self._wait_for_verdicts()
        self._step(
            "What did the advertising cost? A CSV of any origin tells.", ["costs", "import", str(self.made.costs)]
        )
        self._step("Now a lead and a sale have a price.", ["report", "--by", "platform,campaign"])
        self._step(
            "The same for a spreadsheet.",
            ["report", "--by", "platform,campaign", "--format", "csv", "-o", str(self.folder / "report.csv")],
        )
        self._step("Where everything stands:", ["ledger", "stats"])
        self._step("The life of the refunded sale:", ["ledger", "show", f"shop/{change.refunded}"])
        self._step("Does the ledger keep its promises?", ["ledger", "verify"])

    def _wait_for_verdicts(self) -> None:
        """Google tells after a second here what takes it half an hour in reality."""
        self._tell("Google tells its verdict later: half an hour in reality, seconds here. settle asks for it.")
        for _ in range(PATIENCE):
            time.sleep(1)
            if self._waiting() == 0:
                break
            if self._due():
                self._command(["settle"], (0, 1))
        else:
            self.surprises.append("Google's verdicts did not come.")

    # -- telling and doing

    def _step(self, why: str, args: list[str], expect: Collection[int] = (0,)) -> None:
        self._tell(why)
        self._command(args, expect)

    def _tell(self, why: str) -> None:
        import textwrap

        width = min(shutil.get_terminal_size().columns, 100)
        click.echo()
        for line in textwrap.wrap(why, width - 2, break_on_hyphens=False, break_long_words=False):
            click.echo(click.style(f"# {line}", fg="cyan"))

    def _command(self, args: list[str], expect: Collection[int]) -> None:
        click.echo(click.style(f"$ convsync {shlex.join(args)}", bold=True))
        code: Any = 0
        try:
            self.commands.main(args, prog_name="convsync")
        except SystemExit as ended:
            code = ended.code
        if code:
            click.echo(click.style(f"(exit code {code})", dim=True))
        if code == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        if code not in expect:
            self.surprises.append(f"`convsync {shlex.join(args)}` ended with exit code {code}.")

    # -- does it agree?

    def _rows(self) -> list[dict[str, Any]]:
        from convsync.ledger import Filter, Ledger

        book = Ledger.open(self.folder / world.LEDGER, read_only=True)
        try:
            return list(book.audit.rows(Filter()))
        finally:
            book.close()

    def _waiting(self) -> int:
        return sum(row["destination"] == "google" and row["state"] in ("accepted", "pending") for row in self._rows())

    def _due(self) -> bool:
        """Whether a look would be answered: three seconds after the upload, as the configuration says."""
        newest: int = max(row["updated_at"] for row in self._rows() if row["state"] == State.ACCEPTED)
        return time.time() * 1000 - newest > 3500

    def _compare(self, box: Any) -> bool:
        rows, totals = self._rows(), box.books()["totals"]
        found = list(_compared(rows, totals))
        self._tell("And do the platforms agree? This is what the emulator counted by itself.")
        click.echo(f"{'':34}{'ledger':>14}{'platform':>14}")
        for one in found:
            said = "agrees" if one.agrees else "DIFFERS"
            click.echo(f"{one.what:34}{_figure(one.ledger):>14}{_figure(one.platform):>14}  {said}")
        return all(one.agrees for one in found)

    def _end(self, box: Any, seconds: float, agreed: bool) -> None:
        for surprise in self.surprises:
            click.echo(click.style(f"error: {surprise}", fg="red"), err=True)
        click.echo()
        if agreed and not self.surprises:
            click.echo(click.style(f"Every action counted once, in {seconds:.0f} seconds.", fg="green"))
        else:
            click.echo(click.style("Something did not come out as it should: please report it.", fg="red"))
        click.echo("\nWhere to look next")
        found = list(self._next(box))
        width = max(len(where) for where, _ in found)
        for where, what in found:
            click.echo(f"  {where:{width}}  {what}")

    def _next(self, box: Any) -> Iterator[tuple[str, str]]:
        config = shlex.quote(str(self.made.config))
        yield str(self.made.config), "the configuration of all this"
        yield str(self.folder / "report.csv"), "the report for a spreadsheet"
        yield f"convsync --config {config} ledger list --state refused", "what was refused, and why"
        yield f"convsync --config {config} ledger list --bad-rows", "which rows could not be read"
        yield "convsync init", "begin with your own"
        if self.keep_serving:
            yield f"{box.url}/_sandbox/", "what the platforms counted; Ctrl-C ends it"


def _compared(rows: list[dict[str, Any]], totals: dict[str, Any]) -> Iterator[Compared]:
    """Keys and money of the ledger beside the emulator's books."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        newest[row["destination"], row["key"]] = row
    taken = [row for row in newest.values() if row["state"] in (State.ACCEPTED, State.CONFIRMED)]
    google = [row for row in taken if row["destination"] == "google"]
    lost = [
        row
        for row in newest.values()
        if row["destination"] == "google" and row["state"] in (State.REFUSED, State.UNMATCHED)
    ]
    yandex = [
        row for row in rows if row["destination"] == "yandex" and row["state"] in (State.ACCEPTED, State.CONFIRMED)
    ]
    vk = [row for row in rows if row["destination"] == "vk" and row["state"] == State.ACCEPTED]
    yield Compared("google: conversions", len(google), totals["google"]["conversions"])
    yield Compared("google: value, RUB", _worth(google), Decimal(totals["google"]["value"].get("RUB", 0)))
    yield Compared("google: refused or without a click", len(lost), totals["google"]["errors"])
    yield Compared("yandex: states of orders taken", len(yandex), totals["yandex"]["rows"])
    paid = [row for row in taken if row["destination"] == "yandex"]
    yield Compared("yandex: revenue, RUB", _worth(paid), Decimal(totals["yandex"]["revenue"].get("RUB", 0)))
    yield Compared("vk: calls of goals", len(vk), totals["vk"]["hits"])


def _worth(rows: list[dict[str, Any]]) -> Decimal:
    """What stands today of these: nothing of what was refunded or cancelled."""
    return Decimal(sum(row["value"] or 0 for row in rows if row["status"] == "active")) / 100


def _figure(number: Decimal | int) -> str:
    return f"{number:,}".replace(",", " ")


# -- around it


def _clear(folder: Path) -> None:
    """Make room: a folder that an earlier tour left may go, any other must be empty."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    config = folder / world.CONFIG
    mark = world.CONFIGURATION.template.split("`convsync demo`")[0]
    if not (config.is_file() and config.read_text("utf-8", "replace").startswith(mark)):
        raise UsageError(f"{folder} is not empty, and not from an earlier demo.", "Name a new one: --folder DIR")
    for name in (*OURS, *(f"{world.LEDGER}{end}" for end in ("", "-wal", "-shm", ".lock"))):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _sandbox(make: Any, config: Any, port: int) -> Iterator[Any]:
    try:
        box = make(config, port=port)
    except OSError as error:
        raise UsageError(f"Port {port} cannot be used: {error.strerror}.", "Name another, or none.") from error
    with box:
        yield box


@contextmanager
def _environment(config: Path) -> Iterator[None]:
    """Nothing of the operator's own settings may reach the demo."""
    own = {name: value for name, value in os.environ.items() if name.upper().startswith("CONVSYNC_")}
    for name in own:
        del os.environ[name]
    os.environ["CONVSYNC_CONFIG"] = str(config)
    try:
        yield
    finally:
        del os.environ["CONVSYNC_CONFIG"]
        os.environ.update(own)


def _serve() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo()
