"""What people type. Decides nothing: each command reads the configuration, calls the engine or the ledger, and shows.

Only click is imported here and in the command modules; everything else waits until a command asks for it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

import click

from convsync import __version__
from convsync.cli import costs, export, google, ledger, money, runs, setup, trial, vk, yandex
from convsync.cli.frame import COMMON, Commands, Talk

__all__ = ["commands", "main"]

EXIT_CODES = """\b
Exit codes:
  0    done, nothing needs a person
  1    finished; some conversions were refused, held or need a person
  2    usage or configuration
  3    did not finish: a source or platform was unavailable; nothing lost, the next run continues
  4    another run holds the ledger
  5    `ledger verify` found a broken invariant
  130  interrupted; the next run settles"""

SECTIONS = {
    "Set up": (setup.init, google.google, yandex.yandex, vk.vk, setup.check),
    "Every day": (runs.sync, runs.settle, runs.backfill, export.export, costs.costs),
    "Look": (money.report, ledger.ledger),
    "Try": (trial.demo, trial.sandbox),
}


@click.group(
    cls=Commands,
    sections=SECTIONS,
    name="convsync",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="convsync %(version)s")
@click.pass_context
def commands(ctx: click.Context, config: Path | None, verbose: bool, quiet: bool) -> None:
    """Tells Google Ads, Yandex.Direct and VK Ads about your leads, sales and refunds, each counted once; tells you what
    a lead and a sale cost.

    \b
    New here?
      convsync demo                     the whole of it on made-up data, no account needed
      convsync init                     writes a commented configuration to fill in
      convsync check --online           says what is still missing
      convsync sync --dry-run           everything but the sending
      convsync sync                     what cron runs, every 15 minutes or so

    Results are printed on stdout, everything else on stderr. Every command has its own --help; each one that answers
    has --json, whose fields are only ever added to.
    """
    ctx.obj = Talk(config, verbose, quiet)


commands.params += COMMON


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to stderr past us what comes to us as an error anyway
    try:
        commands()
    except BrokenPipeError:  # the reader of our stderr went away as well
        os._exit(0)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """Ends whatever runs as Ctrl-C does; a run that sends puts a gentler handler in place (`runs.until_told`)."""
    raise KeyboardInterrupt
