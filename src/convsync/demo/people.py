"""Made-up visitors: who brought them, which click ids they carry, and what they wrote into the form.

No person and no address is real: e-mails end in the example domains of RFC 2606, and phones have the Russian code 975,
which no operator holds although it is the shape of a mobile number.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple


class Campaign(NamedTuple):
    platform: str
    id: str
    name: str
    clicks: int
    """A usual number of clicks a day."""
    cpc: int
    """A usual cost of a click, in kopecks."""
    share: int
    """Its part of the visitors of its platform; a campaign with none costs money and brings nobody."""


CAMPAIGNS = (
    Campaign("google", "21001001001", "Brand Search", 60, 4200, 3),
    Campaign("google", "21001001002", "Shoes Moscow", 95, 7100, 4),
    Campaign("yandex", "70011001", "Поиск: бренд", 70, 3900, 4),
    Campaign("yandex", "70011002", "РСЯ: каталог", 160, 2300, 3),
    Campaign("yandex", "70011003", "Ретаргетинг: корзина", 40, 1800, 0),
    Campaign("vk", "9100101", "Лента: осень", 75, 2600, 1),
)

NAMES = (
    ("Анна", "anna"), ("Мария", "maria"), ("Ольга", "olga"), ("Елена", "elena"), ("Дарья", "daria"),
    ("Иван", "ivan"), ("Пётр", "petr"), ("Сергей", "sergey"), ("Алексей", "alexey"), ("Игорь", "igor"),
)  # fmt: skip
SURNAMES = (
    ("Ткач", "tkach"), ("Мороз", "moroz"), ("Мельник", "melnik"), ("Гончар", "gonchar"), ("Шевчук", "shevchuk"),
    ("Белых", "belyh"), ("Долгих", "dolgih"), ("Черных", "chernyh"), ("Бондарь", "bondar"), ("Коваль", "koval"),
)  # fmt: skip
DOMAINS = ("example.com", "example.org", "example.net")
URL_SAFE = string.ascii_letters + string.digits + "-_"


@dataclass(frozen=True)
class Visitor:
    """Empty text stands for what is not known."""

    platform: str
    first_name: str
    last_name: str
    email: str
    phone: str
    gclid: str = ""
    yclid: str = ""
    ym_uid: str = ""
    rb_clickid: str = ""
    utm: tuple[str, str, str] = ("", "", "")
    """Source, medium, campaign."""
    fate: str = ""
    """What the sandbox will say about the click id: it recognises these by how they begin."""


class Crowd:
    """Visitors one after another, the same ones for the same chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._came: Counter[str] = Counter()

    def visitor(self, shares: dict[str, int], at: datetime) -> Visitor:
        chance = self._chance
        platform = chance.choices(list(shares), list(shares.values()))[0]
        self._came[platform] += 1
        (name, latin), (surname, latin_surname) = chance.choice(NAMES), chance.choice(SURNAMES)
        phone, email = self._phone(), self._email(f"{latin}.{latin_surname}")
        reachable = chance.random()
        if platform and reachable < 0.2:
            phone = ""
        elif reachable > 0.55:
            email = ""
        visitor = Visitor(platform, name, surname, email, phone)
        ways: dict[str, Callable[[Visitor, datetime], Visitor]] = {
            "google": self._of_google,
            "yandex": self._of_yandex,
            "vk": self._of_vk,
        }
        return ways[platform](visitor, at) if platform else visitor

    def _of_google(self, visitor: Visitor, at: datetime) -> Visitor:
        fate = _now_and_then(self._came["google"], {"CLICK_NOT_FOUND": (40, 7), "INVALID_GCLID": (90, 11)})
        gclid = (f"fate-{fate}-" if fate else "Cj0KCQ") + "".join(self._chance.choices(URL_SAFE, k=48))
        utm = ("google", "cpc", self._campaign("google").name.lower())
        return replace(visitor, gclid=gclid, utm=utm, fate=fate)

    def _of_yandex(self, visitor: Visitor, at: datetime) -> Visitor:
        yclid = f"{self._chance.randrange(10**18, 9 * 10**18)}"
        # Wall clocks are naive here; read as UTC they are the same number on every machine.
        first_seen = int(at.replace(tzinfo=UTC).timestamp()) - 4 * 3_600 - self._chance.randrange(86_400)
        ym_uid = f"{first_seen}{self._chance.randrange(10**9):09}"
        return replace(visitor, yclid=yclid, ym_uid=ym_uid, utm=("yandex", "cpc", self._campaign("yandex").id))

    def _of_vk(self, visitor: Visitor, at: datetime) -> Visitor:
        fate = _now_and_then(self._came["vk"], {"lost": (12, 5)})
        rb_clickid = ("lost-" if fate else "") + f"{self._chance.getrandbits(128):032x}"
        return replace(visitor, rb_clickid=rb_clickid, utm=("vk_ads", "cpc", self._campaign("vk").id), fate=fate)

    def _campaign(self, platform: str) -> Campaign:
        """Now and then the link of an ad does not name its campaign."""
        if self._chance.random() < 0.04:
            return Campaign(platform, "", "", 0, 0, 0)
        campaigns = [campaign for campaign in CAMPAIGNS if campaign.platform == platform]
        return self._chance.choices(campaigns, [campaign.share for campaign in campaigns])[0]

    def _phone(self) -> str:
        digits = f"975{self._chance.randrange(10**7):07}"
        area, first, second, third = digits[:3], digits[3:6], digits[6:8], digits[8:]
        return self._chance.choice(
            (f"+7 {area} {first}-{second}-{third}", f"8 ({area}) {first}-{second}-{third}", f"7{digits}", digits)
        )

    def _email(self, name: str) -> str:
        address = f"{name}{self._chance.randrange(1000)}@{self._chance.choice(DOMAINS)}"
        return f" {address.title()}" if self._chance.random() < 0.1 else address


def _now_and_then(number: int, fates: dict[str, tuple[int, int]]) -> str:
    return next((fate for fate, (every, at) in fates.items() if number % every == at), "")
