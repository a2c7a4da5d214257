"""The world of the scenarios: a clock that stands still, a source of a few lines, a real ledger, and the emulator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from convsync.config.action import GoogleTarget, VkTarget, YandexTarget
from convsync.destinations import Route
from convsync.destinations.google.data_manager import DataManager
from convsync.destinations.vk import Lists, Pixel
from convsync.destinations.vk.api import Api
from convsync.destinations.yandex import Conversions, Orders
from convsync.errors import NotSent
from convsync.ledger import Ledger, Patience
from convsync.ledger.verify import verify
from convsync.mapping import Address, Mapper, Rule
from convsync.model import Action, BadRow, Finding
from convsync.net import Wire
from convsync.sandbox import Sandbox
from convsync.sources import Page, Window
from convsync.sync import Destination, Engine, Summary

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def google_target(action: str, **said: Any) -> GoogleTarget:
    return GoogleTarget(conversion_action={"lead": "1111111111", "sale": "2222222222"}[action], **said)


TARGETS: dict[str, Callable[[str], Any]] = {
    "google": google_target,
    "yandex": lambda action: YandexTarget(status={"lead": "IN_PROGRESS", "sale": "PAID"}[action]),
    "vk": lambda action: VkTarget(goal=f"crm_{action}"),
}


class StandingClock:
    """Time passes when a test says so; the emulator and the engine share it."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class ListSource:
    """A source that tells what the test put into it, in pages; its mark is how many actions it told."""

    def __init__(self, name: str = "shop", page: int = 3) -> None:
        self.name = name
        self.page = page
        self.actions: list[Action] = []
        self.bad: list[BadRow] = []

    def read(self, cursors: Mapping[str, str], window: Window | None = None) -> Iterator[Page]:
        for start in range(0, len(self.actions), self.page):
            actions = self.actions[start : start + self.page]
            yield Page(actions, self.bad if start == 0 else [], None if window else ("", str(start + len(actions))))

    def check(self) -> list[Finding]:
        return []


class World:
    """Three platforms, one ledger, one source. `sync` is a whole run in a fresh engine, as cron would start it."""

    def __init__(self, folder: Path, box: Sandbox, clock: StandingClock) -> None:
        self.box = box
        self.box_url = box.url
        self.clock = clock
        self.path = folder / "ledger.db"
        self.source = ListSource()
        self.platforms: tuple[str, ...] = ("google", "yandex", "vk")
        self.patience = Patience(first_wait=0)
        self.on_ambiguous = "hold"
        self.batch_rows: dict[str, int] = {}
        self.timeout = 5.0
        self.stop = threading.Event()
        self.token = "sandbox-token"
        self.api = "data_manager"
        self.ads = False
        self.google_token = "sandbox-refresh"
        self.on_refund: str | None = None
        self.ledger = Ledger.open(self.path)
        self.routes: dict[str, Callable[[], Route | tuple[Route, ...]]] = {
            "google": self.google,
            "yandex": self.yandex,
            "vk": self.vk,
        }
        self.yandex_target: Callable[[str], YandexTarget] = TARGETS["yandex"]
        self.yandex_options: dict[str, Any] = {}
        self.vk_target: Callable[[str], VkTarget] = TARGETS["vk"]
        self.vk_options: dict[str, Any] = {}
        self.vk_bearer = ""
        self.names: tuple[str, ...] = ("lead", "sale")

    # -- given

    def action(self, external_id: str, action: str = "sale", **fields: Any) -> Action:
        """An action of an hour ago with an identifier for every platform."""
        known: dict[str, Any] = {
            "occurred_at": self.clock.now() - timedelta(hours=1),
            "value": Decimal("100.00") if action == "sale" else None,
            "currency": "RUB" if action == "sale" else None,
            "order_id": f"order-{external_id}",
            "gclid": f"Cj0KCQ-{external_id}",
            "ym_client_id": f"16000000000{sum(map(ord, external_id)):08d}",
            "rb_clickid": f"rb-{external_id}",
        }
        return Action("shop", external_id, action, **(known | fields))

    def given(self, *actions: Action) -> None:
        self.source.actions = list(actions)

    # -- when

    def engine(self, **options: Any) -> Engine:
        made = [self.routes[name]() for name in self.platforms]
        routes = [route for one in made for route in (one if isinstance(one, tuple) else (one,))]
        doors = {(route.name, route.door): route for route in routes}
        rules = {}
        for name in self.names:
            addresses = []
            for platform in self.platforms:
                told = {"yandex": self.yandex_target, "vk": self.vk_target}
                target = told.get(platform, TARGETS[platform])(name)
                known = [doors[platform, door] for door in target.doors]
                addresses.append(Address(known[0], target, None, *known[1:]))
            rules[name] = Rule(name if name in ("lead", "sale") else "micro", tuple(addresses))
        destinations = [Destination(route, self.patience) for route in routes]
        options = {
            "clock": self.clock,
            "stop": self.stop,
            "grace": timedelta(seconds=1),
            "short_rest": timedelta(0),
        } | options
        return Engine(self.ledger, destinations, Mapper(rules, routes, "RU"), [self.source], **options)

    def sync(self, **options: Any) -> Summary:
        return self.engine(**options).sync()

    def settle_everything(self) -> Summary:
        """Let the platforms finish what they process, and ask them."""
        self.clock.advance(2 * 3600)
        return self.engine().settle()

    def restart(self) -> None:
        """As if the process had been killed: whatever was not committed is gone."""
        self.ledger.close()
        self.ledger = Ledger.open(self.path)

    # -- then

    def states(self, destination: str) -> dict[str, str]:
        """State of the newest revision of each action."""
        rows = [row for row in self.ledger.audit.deliveries() if row["destination"] == destination]
        return {f"{row['external_id']}": row["state"] for row in rows}

    def rows(self, destination: str) -> list[dict[str, Any]]:
        return [row for row in self.ledger.audit.deliveries() if row["destination"] == destination]

    def conversions(self) -> dict[str, dict[str, Any]]:
        """What the emulator counted for Google, by the click id of the conversion."""
        actions = self.box.books()["google"]["accounts"].get("1234567890", {}).values()
        return {one["click"]["gclid"]: one for action in actions for one in action["transactions"].values()}

    def orders(self) -> dict[str, dict[str, Any]]:
        """What the emulator knows of Metrica's CRM orders, by order id."""
        counters = self.box.books()["yandex"]["counters"]
        return dict(counters["12345678"]["orders"]) if counters else {}

    def offline(self) -> dict[str, Any]:
        """What the emulator knows of Metrica's offline conversions."""
        counters = self.box.books()["yandex"]["counters"]
        return (
            dict(counters["12345678"]["offline"])
            if counters
            else {"rows": 0, "conversions": [], "uploads": [], "goals": {}}
        )

    def reached(self) -> dict[str, tuple[int, str]]:
        """How often each goal of offline conversions was reached, and what it brought, when all is processed."""
        self.clock.advance(5)
        return {goal: (one["reaches"], one["revenue"]) for goal, one in self.offline()["goals"].items()}

    def lists(self) -> list[dict[str, Any]]:
        """What the emulator knows of VK's lists of offline conversions, in the order they were made."""
        return list(self.box.books()["vk"]["lists"]["lists"].values())

    def hits(self) -> dict[str, int]:
        """How often each click id hit the emulator's VK pixel."""
        pixels = self.box.books()["vk"]["pixels"].values()
        return {click: hits for goals in pixels for goal in goals.values() for click, hits in goal["by_click"].items()}

    def is_sound(self) -> None:
        assert verify(self.ledger.store) == []

    # -- the routes

    def wire(self, **options: Any) -> Wire:
        known = {"requests_per_second": 10_000, "timeout": self.timeout, "clock": self.clock.now}
        options = known | {"sleep": lambda _: None} | options
        return Wire(**options)

    def google(self, **more: Any) -> Any:
        options: dict[str, Any] = {
            "customer_id": "1234567890",
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "refresh_token": self.google_token,
            "token_url": f"{self.box_url}/token",
            "batch_rows": self.batch_rows.get("google", 2000),
            "wire": self.wire(),
        } | more
        if self.ads:
            options |= {"ads_endpoint": self.box.ads_endpoint, "ca_bundle": self.box.ads_certificate}
        if self.api == "ads":
            from convsync.destinations.google import Ads

            return Ads("google", on_refund=self.on_refund or "retract", **options)
        return DataManager(
            "google",
            data_manager_url=self.box_url,
            poll_after=timedelta(minutes=30),
            poll_every=timedelta(minutes=30),
            on_refund=self.on_refund or "zero",
            **options,
        )

    def yandex(self) -> Any:
        """Both doors of Metrica."""
        options: dict[str, Any] = {
            "counter_id": "12345678",
            "token": self.token,
            "metrica_url": self.box_url,
            "batch_rows": self.batch_rows.get("yandex", 100_000),
        }
        own = {"late_orders", "contact_hash", "max_age"}
        orders = {name: value for name, value in self.yandex_options.items() if name in own}
        others = {name: value for name, value in self.yandex_options.items() if name not in own}
        return (
            Orders("yandex", wire=self.wire(), **options, **orders),
            Conversions("yandex", wire=self.wire(), **options, **others),
        )

    def vk(self) -> Any:
        """Both doors of VK."""
        pixel = Pixel(
            "vk",
            pixel_id="1234567",
            tracker_url=f"{self.box_url}/tracker",
            on_ambiguous=self.on_ambiguous,  # type: ignore[arg-type]
            wire=self.wire(keep_alive=False),
        )
        api = Api("destinations.vk", tokens=_SignedIn(self), wire=self.wire(), url=self.box_url, rest=lambda _: None)
        return pixel, Lists("vk", account="1234567", api=api, **self.vk_options)


class _SignedIn:
    """A bearer of the emulator's, got once a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def bearer(self) -> str:
        if not self.world.vk_bearer:
            form = {"grant_type": "client_credentials", "client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret"}
            url = f"{self.world.box_url}/api/v2/oauth2/token.json"
            with requests.Session() as session:
                session.trust_env = False
                try:
                    told = session.post(url, data=form, timeout=20)
                except requests.RequestException as fault:
                    raise NotSent("no token") from fault
            if told.status_code != 200 or b"access_token" not in told.content:
                raise NotSent("no token")
            self.world.vk_bearer = told.json()["access_token"]
        return self.world.vk_bearer

    def renewed(self, dead: str) -> str:
        self.world.vk_bearer = ""
        return self.bearer()
