"""The commands for one platform alone: `convsync vk …`."""

from __future__ import annotations

import click

from convsync.cli import vk_goals, vk_token
from convsync.cli.frame import Group


@click.group(cls=Group, short_help="Look into a VK Ads account: its goals, the token that is kept.")
def vk() -> None:
    """Look into an account of VK Ads, and at the token that convsync keeps for it."""


vk.add_command(vk_goals.goals)
vk.add_command(vk_token.token)
