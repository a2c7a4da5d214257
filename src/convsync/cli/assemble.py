"""From the configuration to the sources and routes it names: the one place where concrete names meet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convsync.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from convsync.config import (
        ActionSettings,
        CommonSource,
        Config,
        DestinationSettings,
        GoogleSettings,
        YandexSettings,
    )
    from convsync.destinations import Route
    from convsync.destinations.google.ads.client import AdsClient
    from convsync.destinations.yandex import Conversions, Orders
    from convsync.destinations.yandex.direct import Direct
    from convsync.mapping import Mapper
    from convsync.net import Wire
    from convsync.sources import Source
    from convsync.sync import Destination

LONG_WAIT = 10.0
"""Seconds."""
CONSENT = {"granted": True, "denied": False, "unset": None}


def chosen(kind: str, wanted: Collection[str], known: Iterable[str], *, disabled: Collection[str] = ()) -> list[str]:
    """Those of `known` that were asked for, in their own order; all that are not disabled when nothing was asked."""
    from convsync.config.values import suggestion

    names = list(known)
    for name in wanted:
        if name not in names:
            raise UsageError(f"The configuration has no {kind} {name!r}.", suggestion(name, names))
        if name in disabled:
            raise UsageError(f"The {kind} {name} is switched off.", f"See enabled in [{kind}s.{name}].")
    return [name for name in names if (name in wanted if wanted else name not in disabled)]


def source_names(config: Config, wanted: Collection[str] = ()) -> list[str]:
    return chosen("source", wanted, config.sources)


def destination_names(config: Config, wanted: Collection[str] = ()) -> list[str]:
    off = [name for name, settings in config.destinations.items() if not settings.enabled]
    return chosen("destination", wanted, config.destinations, disabled=off)


SIGN_IN = "At Google, `convsync google login` gets what is missing."


def require_credentials(config: Config, names: Sequence[str], *, reading: bool = False) -> None:
    """Every destination that shall be sent to (or read from) can sign in, or one ConfigError tells of all that cannot."""
    lacking, platforms = [], set()
    for name in names:
        try:
            config.require_credentials(name, reading=reading)
        except ConfigError as error:
            lacking.append(str(error))
            platforms.add(config.destinations[name].platform)
    if lacking:
        raise ConfigError("\n".join(lacking), SIGN_IN if "google" in platforms else "")


# -- destinations


def destinations(config: Config, names: Sequence[str]) -> list[Destination]:
    """Routes, each with its own wire and as patient as the operator is. Nothing here touches the network."""
    from convsync.ledger import Patience
    from convsync.sync import Destination

    made = []
    for name in names:
        settings = config.destinations[name]
        patience = Patience(
            settings.max_attempts, settings.give_up_after.total_seconds(), settings.retry_after.total_seconds()
        )
        made += [Destination(route, patience) for route in routes(config, name)]
    return made


def routes(config: Config, name: str) -> tuple[Route, ...]:
    """The routes of one section, the first door first."""
    settings = config.destinations[name]
    if settings.platform == "google":
        return (_google(config, name, settings),)
    if settings.platform == "yandex":
        return _yandex(config, name, settings)
    from convsync.cli import assemble_vk

    return assemble_vk.routes(config, name, settings)


def _google(config: Config, name: str, settings: GoogleSettings) -> Route:
    common: dict[str, Any] = {
        "customer_id": settings.customer_id,
        "login_customer_id": settings.login_customer_id,
        "client_id": settings.client_id,
        "client_secret": clear(settings.client_secret),
        "refresh_token": clear(settings.refresh_token),
        "credentials_file": settings.credentials_file,
        "developer_token": clear(settings.developer_token),
        "ads_endpoint": settings.ads_endpoint,
        "ads_api_version": settings.ads_api_version,
        "token_url": settings.token_url,
        "ca_bundle": settings.ca_bundle,
        "event_source": settings.event_source,
        "consent_ad_user_data": CONSENT[settings.consent_ad_user_data],
        "consent_ad_personalization": CONSENT[settings.consent_ad_personalization],
        "on_refund": settings.on_refund,
        "merchant_id": settings.merchant_id,
        "merchant_feed_label": settings.merchant_feed_label,
        "merchant_feed_language": settings.merchant_feed_language,
        "max_age": settings.max_age,
        "adjust_max_age": settings.adjust_max_age,
        "batch_rows": settings.batch_rows,
        "in_flight": settings.in_flight,
        "targets": [one.targets[name] for one in config.actions.values() if name in one.targets],
        "custom_variables": config.variables_of(name),
        "wire": wire_of(settings),
    }
    if settings.api == "ads":
        from convsync.destinations.google import Ads

        return Ads(name, **common)
    from convsync.destinations.google.data_manager import DataManager

    return DataManager(
        name,
        data_manager_url=settings.data_manager_url,
        poll_after=settings.poll_after,
        poll_every=settings.poll_every,
        poll_until=settings.poll_until,
        **common,
    )


@contextmanager
def reading(name: str, settings: GoogleSettings) -> Iterator[AdsClient]:
    """A client of the Google Ads API, to read with: open to everybody, whichever way the uploads go."""
    from convsync.destinations.google.ads.client import AdsClient
    from convsync.destinations.google.auth import ADWORDS, SignIn

    where, wire = f"destinations.{name}", wire_of(settings)
    sign_in = SignIn(
        where,
        wire=wire,
        token_url=settings.token_url,
        client_id=settings.client_id,
        client_secret=clear(settings.client_secret),
        refresh_token=clear(settings.refresh_token),
        credentials_file=settings.credentials_file,
        scopes=(ADWORDS,),
    )
    client = AdsClient(
        where,
        sign_in=sign_in,
        wire=wire,
        endpoint=settings.ads_endpoint,
        version=settings.ads_api_version,
        login_customer_id=settings.login_customer_id,
        developer_token=clear(settings.developer_token),
        ca_bundle=settings.ca_bundle,
    )
    try:
        yield client
    finally:
        client.close()
        wire.close()


@contextmanager
def direct(name: str, settings: YandexSettings, say: Callable[[str], None]) -> Iterator[Direct]:
    """A client of Yandex.Direct, to read with. `say` hears of waits that a person would take for a standstill."""
    from convsync.destinations.yandex.direct import PER_SECOND, Direct

    def rest(seconds: float) -> bool:
        if seconds >= LONG_WAIT:
            say(f"{name}: Yandex.Direct has no answer yet, it is asked again in {seconds:.0f} s …")
        return wire.stop.wait(seconds)

    slow = min(settings.requests_per_second, PER_SECOND)
    wire = wire_of(settings.model_copy(update={"requests_per_second": slow}))
    try:
        yield Direct(
            f"destinations.{name}",
            token=clear(settings.direct_token) or clear(settings.token) or "",
            wire=wire,
            url=settings.direct_url,
            version=settings.direct_version,
            mode=settings.direct_mode,
            rest=rest,
        )
    finally:
        wire.close()


def _yandex(config: Config, name: str, settings: YandexSettings) -> tuple[Route, ...]:
    """Both doors into one counter. Each has its own wire, and so its own lease; they share the requests at one time."""
    targets = [one.targets[name] for one in config.actions.values() if name in one.targets]
    both = any("conversions" in target.doors for target in targets)
    orders = settings.model_copy(update={"in_flight": max(1, settings.in_flight - both)})
    return _yandex_orders(name, orders, targets), _yandex_conversions(name, settings, targets)


def _yandex_orders(name: str, settings: YandexSettings, targets: Sequence[Any]) -> Orders:
    from convsync.destinations.yandex import Orders

    return Orders(
        name,
        counter_id=settings.counter_id,
        token=clear(settings.token) or "",
        wire=wire_of(settings),
        metrica_url=settings.metrica_url,
        counter_timezone=settings.counter_timezone,
        contact_hash=settings.contact_hash,
        late_orders=settings.late_orders,
        max_age=settings.max_age,
        link_window=settings.link_window,
        batch_rows=settings.batch_rows,
        in_flight=settings.in_flight,
        targets=targets,
    )


def _yandex_conversions(name: str, settings: YandexSettings, targets: Sequence[Any]) -> Conversions:
    """One file at a time, with a little of the 30 requests a second that Metrica lets one address make."""
    from convsync.destinations.yandex import Conversions

    slow = min(settings.requests_per_second, 4.0)
    return Conversions(
        name,
        counter_id=settings.counter_id,
        token=clear(settings.token) or "",
        wire=wire_of(settings.model_copy(update={"requests_per_second": slow})),
        metrica_url=settings.metrica_url,
        send_client_id_type=settings.send_client_id_type,
        link_window=settings.link_window,
        quarantine=settings.quarantine,
        poll_after=settings.poll_after,
        poll_every=settings.poll_every,
        poll_until=settings.poll_until,
        batch_rows=min(settings.batch_rows, 100_000),
        targets=targets,
    )


def doors_of(action: ActionSettings, destination: str) -> Iterable[str]:
    target = action.targets.get(destination)
    return () if target is None else target.doors


def wire_of(settings: DestinationSettings, *, keep_alive: bool = True) -> Wire:
    from convsync.net import Wire

    if settings.ca_bundle is not None:
        _trusted(settings.ca_bundle)
    return Wire(
        requests_per_second=settings.requests_per_second,
        timeout=settings.timeout.total_seconds(),
        connect_timeout=settings.connect_timeout.total_seconds(),
        keep_alive=keep_alive,
        ca_bundle=settings.ca_bundle,
    )


def _trusted(bundle: Path) -> None:
    """Certificates that nothing can be made of would show as a network that is down."""
    import ssl

    try:
        ssl.create_default_context(cafile=bundle)
    except OSError as error:  # ssl.SSLError is one
        message = f"{bundle}, which ca_bundle names, holds no certificates that can be read."
        raise ConfigError(
            message, "It is a file of certificates in PEM form: -----BEGIN CERTIFICATE----- and so on."
        ) from error


def clear(secret: Any) -> str | None:
    return None if secret is None else str(secret.get_secret_value())


# -- rules and sources


def mapper(config: Config, made: Sequence[Destination]) -> Mapper:
    """The `[actions.*]` sections, as far as they concern these destinations."""
    from convsync.mapping import Address, Mapper, Rule

    doors = {(one.route.name, one.route.door): one.route for one in made}
    rules = {}
    for name, action in config.actions.items():
        addresses = []
        for where, target in action.targets.items():
            known = [doors[where, door] for door in target.doors if (where, door) in doors]
            if known:
                addresses.append(Address(known[0], target, _feeding(config, where), *known[1:]))
        rules[name] = Rule(action.kind.value, tuple(addresses), action.max_age)
    return Mapper(rules, [one.route for one in made], config.phone_region, persons=config.tells_lead_forms())


def _feeding(config: Config, destination: str) -> frozenset[str] | None:
    named = config.destinations[destination].sources
    return None if named is None else frozenset(named)


def sources(config: Config, names: Sequence[str]) -> list[Source]:
    return [source(config, name) for name in names]


def source(config: Config, name: str) -> Source:
    settings = config.sources[name]
    if settings.type == "vk_leads":
        from convsync.cli import assemble_vk

        return assemble_vk.leads(config, name, settings)
    common = _columns(config, name, settings)
    if settings.type == "sql":
        from convsync.sources.sql import SqlSource

        return SqlSource(
            name,
            url=settings.url.get_secret_value(),
            query=settings.query,
            table=settings.table,
            cursor=settings.cursor,
            overlap=settings.overlap,
            options=settings.options,
            **common,
        )
    files: dict[str, Any] = {
        "path": settings.path,
        "encoding": settings.encoding,
        "occurred_format": settings.occurred_format,
    }
    if settings.type == "csv":
        from convsync.sources.delimited import CsvSource

        return CsvSource(name, delimiter=settings.delimiter, decimal_comma=settings.decimal_comma, **files, **common)
    from convsync.sources.jsonl import JsonlSource

    return JsonlSource(name, **files, **common)


def _columns(config: Config, name: str, settings: CommonSource) -> dict[str, Any]:
    """What every source is told about its columns."""
    return {
        "id": settings.id,
        "fields": settings.fields,
        "statuses": settings.statuses,
        "timezone": config.zone_of(name),
        "time_of_day": settings.time_of_day,
        "action": settings.action,
        "currency": settings.currency,
        "consent_ad_user_data": settings.consent_ad_user_data,
        "consent_ad_personalization": settings.consent_ad_personalization,
        "custom_variables": settings.custom_variables,
        "page_rows": config.page_rows_of(name),
        "base": config.folder,
    }
