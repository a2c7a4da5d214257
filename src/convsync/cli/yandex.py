"""The commands for Yandex.Metrica alone: `convsync yandex …`."""

from __future__ import annotations

import click

from convsync.cli import yandex_create, yandex_goals
from convsync.cli.frame import Group


@click.group(cls=Group, short_help="Look into a Metrica counter: its goals.")
def yandex() -> None:
    """Look into a counter of Yandex.Metrica, through which conversions reach Yandex.Direct."""


yandex.add_command(yandex_goals.goals)
yandex_goals.goals.add_command(yandex_create.create)
