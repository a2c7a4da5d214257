"""The commands of the ledger: `convsync ledger …`."""

from __future__ import annotations

import click

from convsync.cli import ledger_decide, ledger_look
from convsync.cli.frame import Group


@click.group(cls=Group, short_help="What was sent, what came of it, and why not.")
def ledger() -> None:
    """Look into the ledger: what was sent, what came of it, and why something was not.

    The ledger remembers every action, every request and every answer; its history is chained by hashes, so that a
    change behind its back shows. All of these only read, beside a running sync too; `resolve` and `retry` alone write.
    """


for command in (ledger_look.list_, ledger_look.show, ledger_look.stats, ledger_look.verify):
    ledger.add_command(command)
for command in (ledger_decide.resolve, ledger_decide.retry):
    ledger.add_command(command)
