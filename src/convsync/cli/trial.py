"""The commands to try things with: the sandbox, and the demo on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convsync.cli.frame import Command, Talk, leave
from convsync.errors import UsageError

if TYPE_CHECKING:
    from convsync.sandbox import SandboxConfig

EXAMPLE = """\
Point a configuration at it:

  [destinations.google]                       [destinations.yandex]                    [destinations.vk]
  customer_id = "1234567890"                  counter_id = "12345678"                  pixel_id = "1234567"
  client_id = "sandbox-client"                token = "sandbox-token"                  client_id = "sandbox-vk"
  client_secret = "sandbox-secret"            quarantine = "10s"                       client_secret = "sandbox-vk-secret"
  refresh_token = "sandbox-refresh"           {metrica:<41}{api}
  {google:<44}{direct:<41}{tracker}
  token_url = "{url}/token"

Conversion actions it knows at Google: 1111111111 (lead), 2222222222 (sale). Any status at Yandex, and the goals
good_lead, crm_lead and qualified; at VK the goals crm_lead, crm_sale and crm_micro.
"""
ADS = """\
For the Google Ads API, put into [destinations.google] what it prints below as ads_endpoint and ca_bundle; conversion
action 8888888888 takes phone calls. For `convsync google login`: auth_url = "{url}/o/oauth2/v2/auth"
"""


@click.command(cls=Command, short_help="A local emulator of the three platforms.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 is any free port.")
@click.option(
    "--config", "settings", type=click.Path(dir_okay=False, path_type=Path), metavar="JSON",
    help="A file: what differs from its usual world.",
)  # fmt: skip
@click.option(
    "--processing-seconds",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Until the verdicts of Google and Metrica appear.",
)
@click.option("--ads", is_flag=True, help="Serve the Google Ads API too: gRPC over TLS, on a port of its own.")
@click.option("--ads-port", type=click.IntRange(0, 65535), default=0, help="Of the Google Ads API; else any free port.")
@click.pass_obj
def sandbox(
    talk: Talk, port: int, settings: Path | None, processing_seconds: float | None, ads: bool, ads_port: int
) -> None:
    """Serve an emulator of Google, Yandex and VK on this machine until Ctrl-C.

    It refuses, answers and counts as the platforms do, and shows on a page what it counted. Trouble can be ordered:
    POST /_sandbox/faults, such as {"on": "yandex.orders", "kind": "timeout_after"}.

    \b
    Examples:
      convsync sandbox
      convsync sandbox --port 8765 --processing-seconds 60
      convsync sandbox --ads --ads-port 8766

    Never listens to anybody but this machine, and forgets everything when it ends.

    Exit codes: 0 stopped · 2 the port is taken, or the settings cannot be read
    """
    from convsync.sandbox import SandboxConfig, serve

    config = _world(settings) if settings else SandboxConfig()
    if processing_seconds is not None:
        config.google.processing_seconds = config.yandex.processing_seconds = processing_seconds
    ads = ads or bool(ads_port)
    if port:
        url = f"http://127.0.0.1:{port}"
        keys = {"google": "data_manager_url", "metrica": "metrica_url", "direct": "direct_url", "api": "api_url"}
        lines = {name: f'{key} = "{url}"' for name, key in keys.items()} | {"tracker": f'tracker_url = "{url}/tracker"'}
        talk.say((EXAMPLE + (ADS if ads else "")).format(url=url, **lines))
    try:
        leave(serve(port=port, config=config, quiet=talk.quiet, ads=ads, ads_port=ads_port))
    except OSError as error:
        ports = f"Port {port} or {ads_port}" if ads_port else f"Port {port}"
        raise UsageError(f"{ports} cannot be used: {error.strerror}.", "Name another: --port 8765") from error


def _world(path: Path) -> SandboxConfig:
    import json

    from convsync.sandbox import SandboxConfig

    try:
        return SandboxConfig.from_dict(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        said = str(error) if str(error).endswith("?") else f"{error}."
        raise UsageError(
            f"{path}: {said}", 'It is a JSON object, such as {"google": {"processing_seconds": 60}}.'
        ) from error


@click.command(cls=Command, short_help="The whole of it on made-up data, no account needed.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=Path("convsync-demo"), show_default=True,
    help="Where the made-up world is put.",
)  # fmt: skip
@click.option("--keep-serving", is_flag=True, help="Leave the sandbox running at the end, to look at its page.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the sandbox; else any free port.")
def demo(folder: Path, keep_serving: bool, port: int) -> None:
    """Show all of convsync in a minute: a made-up shop and clinic, and an emulator of the three platforms.

    Every step is a command you could type yourself, shown with a $ before it. At the end the ledger is compared with
    what the platforms counted.

    \b
    Examples:
      convsync demo
      convsync demo --folder demo --keep-serving

    Never leaves this machine. Writes into its folder only, and into no folder that holds anything else.

    Exit codes: 0 everything agreed · 1 it did not (please report it) · 2 the folder is not empty
    """
    from convsync.cli import commands
    from convsync.demo.tour import Tour

    leave(Tour(commands, folder, port=port, keep_serving=keep_serving).run())
