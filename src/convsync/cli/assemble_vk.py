"""From the configuration to what belongs to VK: its two routes, the client of its API, its lead forms as a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convsync.cli.assemble import clear, doors_of, require_credentials, wire_of
from convsync.errors import ConfigError

if TYPE_CHECKING:
    from convsync.config import Config, VkLeadsSource, VkSettings
    from convsync.destinations import Route
    from convsync.destinations.vk.api import Api
    from convsync.destinations.vk.tokens import Tokens
    from convsync.model import Finding
    from convsync.sources import Source


def routes(config: Config, name: str, settings: VkSettings) -> tuple[Route, ...]:
    """The pixel, and with keys for the API also the lists: what was once sent to them is asked about for as long."""
    from convsync.destinations.vk import Pixel

    ready = _ready(config, name, settings)
    pixel = Pixel(
        name,
        pixel_id=settings.pixel_id,
        wire=wire_of(settings, keep_alive=False),
        tracker_url=settings.tracker_url,
        on_ambiguous=settings.on_ambiguous,
        slash_encoding=settings.slash_encoding,
        click_max_age=settings.click_max_age,
        max_age=settings.max_age,
        send_value=settings.send_value,
        max_value=settings.max_value,
        user_agent=settings.user_agent,
        in_flight=settings.in_flight,
        ready=ready,
    )
    return (pixel,) if ready is None else (pixel, _lists(config, name, settings, ready))


def _lists(config: Config, name: str, settings: VkSettings, ready: Callable[[], list[Finding]]) -> Route:
    from convsync.destinations.vk import Lists

    return Lists(
        name,
        account=settings.account,
        api=client_of(config, name),
        mode=settings.list_mode,
        header=settings.list_header,
        fields_mode=settings.list_fields_mode,
        contact_hash=settings.contact_hash,
        attribution_period=settings.attribution_period,
        min_rows=settings.list_min_rows,
        max_rows=settings.list_max_rows,
        quarantine=settings.quarantine,
        poll_after=settings.poll_after,
        poll_every=settings.poll_every,
        poll_until=settings.poll_until,
        ready=ready,
    )


@contextmanager
def api_of(config: Config, name: str) -> Iterator[Api]:
    """A client of the VK Ads API, with the token that every run of this ledger shares."""
    api = client_of(config, name)
    try:
        yield api
    finally:
        api.wire.close()


def client_of(config: Config, name: str) -> Api:
    """The same for a route, which closes the wire itself."""
    from convsync.destinations.vk.api import Api

    tokens = tokens_of(config, name)
    return Api(f"destinations.{name}", tokens=tokens, wire=tokens.wire, url=tokens.url)


def tokens_of(config: Config, name: str) -> Tokens:
    from convsync.destinations.vk.tokens import Client, Tokens
    from convsync.ledger.vault import Vault

    require_credentials(config, [name], reading=True)
    settings = config.destinations[name]
    assert settings.platform == "vk"
    patience = {"timeout": settings.api_timeout, "requests_per_second": settings.api_requests_per_second}
    client = Client(
        settings.client_id or "",
        (clear(settings.client_secret) or "").strip(),
        settings.agency_client_name or "",
        settings.agency_client_id or "",
        (clear(settings.agency_token) or "").strip(),
    )
    return Tokens(
        f"destinations.{name}",
        client=client,
        keeper=Vault(config.ledger.path),
        wire=wire_of(settings.model_copy(update=patience)),
        url=settings.api_url,
    )


def _ready(config: Config, name: str, settings: VkSettings) -> Callable[[], list[Finding]] | None:
    """What `check --online` asks VK; None without keys to ask with, which only the pixel does not need."""
    if settings.missing(reading=True):
        listing = next((key for key, one in config.actions.items() if "lists" in doors_of(one, name)), None)
        if listing is None:
            return None
        try:
            config.require_credentials(name, reading=True)
        except ConfigError as lacking:
            why = f"actions.{listing}.{name}.list needs it: lists of contacts are uploaded through the VK Ads API."
            raise ConfigError(f"{lacking} {why}", "The keys are in VK Ads, Settings, API access.") from lacking

    def ready() -> list[Finding]:
        from convsync.destinations.vk.api import Api
        from convsync.destinations.vk.readiness import look

        tokens = tokens_of(config, name)
        api = Api(f"destinations.{name}", tokens=tokens, wire=tokens.wire, url=tokens.url)
        targets = [one.targets[name] for one in config.actions.values() if name in one.targets]
        try:
            return look(
                api, tokens.kept, pixel_id=settings.pixel_id, targets=targets, currency=config.reporting_currency
            )
        finally:
            api.wire.close()

    return ready


def leads(config: Config, name: str, settings: VkLeadsSource) -> Source:
    """Signed in when it is read, and not before."""
    from convsync.sources.vk_leads import VkLeads

    config.require_credentials(settings.account, reading=True)
    return VkLeads(
        name,
        api=lambda: api_of(config, settings.account),
        action=settings.action,
        forms=settings.forms or (),
        overlap=settings.overlap,
        timezone=settings.timezone,
        consent_ad_user_data=settings.consent_ad_user_data,
        consent_ad_personalization=settings.consent_ad_personalization,
    )
