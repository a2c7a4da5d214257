"""The commands for one platform alone: `convsync google …`."""

from __future__ import annotations

import click

from convsync.cli import google_login, google_read
from convsync.cli.frame import Group


@click.group(cls=Group, short_help="Sign in to Google Ads, and look into an account.")
def google() -> None:
    """Sign in to Google Ads, and look into an account. Nothing here changes anything at Google."""


google.add_command(google_login.login)
google.add_command(google_read.actions)
google.add_command(google_read.diagnostics)
