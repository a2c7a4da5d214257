"""The made-up world is the same every time, dirty where it says so, and nobody real is in it."""

from __future__ import annotations

import csv
import gzip
import io
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import phonenumbers
import pytest

from convsync.config import load
from convsync.costs.files import read
from convsync.demo.world import World, build, refund_one
from convsync.errors import UsageError
from convsync.model import Spend
from convsync.normalise import phones

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
URL = "http://127.0.0.1:8123"
Entry = dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("world"), NOW, URL)


@pytest.fixture
def fresh(tmp_path: Path) -> World:
    return build(tmp_path / "new" / "folder", NOW, URL)


def stored(world: World, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(world.folder / "shop.db")) as store:
        return store.execute(query).fetchall()


@pytest.fixture(scope="module")
def exported(world: World) -> list[Entry]:
    return list(entries(world.folder))


def entries(folder: Path) -> Iterator[Entry]:
    for path in sorted((folder / "clinic").iterdir()):
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("cp1251")
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter=";")


def test_a_folder_with_something_in_it_is_left_alone(fresh: World) -> None:
    before = (fresh.folder / "shop.db").read_bytes()
    with pytest.raises(UsageError, match="already there"):
        build(fresh.folder, NOW, URL, seed=2)
    assert (fresh.folder / "shop.db").read_bytes() == before


def test_a_time_without_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aware"):
        build(tmp_path, NOW.replace(tzinfo=None), URL)


def test_the_same_seed_makes_the_same_bytes_in_another_folder(world: World, fresh: World) -> None:
    assert contents(world.folder) == contents(fresh.folder)
    assert fresh == World(**{**vars(world), "folder": fresh.folder, "config": fresh.config, "costs": fresh.costs})


def test_the_zone_of_the_machine_does_not_matter(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Vladivostok")
        time.tzset()
        there = build(tmp_path, NOW.astimezone(ZoneInfo("America/New_York")), URL)
    time.tzset()
    assert contents(there.folder) == contents(world.folder)


def test_another_seed_makes_another_world(world: World, tmp_path: Path) -> None:
    other = contents(build(tmp_path, NOW, URL, seed=2).folder)
    same = {name for name, data in contents(world.folder).items() if other[name] == data}
    assert same == {"convsync.toml"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_configuration_is_one_that_convsync_accepts(world: World) -> None:
    config = load(world.config)
    assert set(config.sources) == {"shop", "clinic"}
    assert set(config.destinations) == {"google", "yandex", "vk"}
    assert set(config.actions) == {"lead", "sale", "visit", "cart"}
    assert not [name for name, destination in config.destinations.items() if destination.missing(reading=True)]


def test_no_address_of_a_real_platform_is_left_in_its_configuration(world: World) -> None:
    for destination in load(world.config).destinations.values():
        addresses = [
            getattr(destination, key) for key in type(destination).model_fields if key.endswith(("_url", "_endpoint"))
        ]
        assert addresses
        assert all("127.0.0.1:8123" in address for address in addresses)


def test_it_has_what_it_says(world: World, exported: list[Entry]) -> None:
    assert world.rows == {"shop": 3000, "clinic": len(exported)}
    assert world.made == 3000 + len(exported)
    assert 350 <= len(exported) <= 450
    shop = dict(stored(world, "SELECT kind, count(*) FROM target_actions GROUP BY kind"))
    clinic = Counter(entry["Событие"] for entry in exported)
    assert world.kinds == {**{("shop", k): n for k, n in shop.items()}, **{("clinic", k): n for k, n in clinic.items()}}


def test_vk_has_few_events_because_each_is_a_request(world: World, exported: list[Entry]) -> None:
    (shop,) = stored(world, "SELECT count(*) FROM target_actions WHERE rb_clickid IS NOT NULL AND kind <> 'cart'")
    assert shop[0] + sum(1 for entry in exported if entry["rb_clickid"]) == world.clicks["vk"] <= 250


def test_some_click_ids_meet_each_fate_of_the_sandbox(world: World, exported: list[Entry]) -> None:
    ids = [
        row[0] or row[1] or ""
        for row in stored(world, "SELECT gclid, rb_clickid FROM target_actions WHERE kind <> 'cart'")
    ]
    ids += [entry["gclid"] or entry["rb_clickid"] for entry in exported]
    for fate, begin in (
        ("CLICK_NOT_FOUND", "fate-CLICK_NOT_FOUND-"),
        ("INVALID_GCLID", "fate-INVALID_GCLID-"),
        ("lost", "lost-"),
    ):
        assert sum(each.startswith(begin) for each in ids) == world.fates[fate] > 0


def test_its_dirt_is_there(world: World, exported: list[Entry]) -> None:
    assert sum(entry["yclid"] == "1.23E+18" for entry in exported) == 1
    assert sum(not entry["Дата"][0].isdigit() for entry in exported) == 1
    assert sum(entry["Событие"] == "callback" for entry in exported) == 1
    assert sum(entry["Сумма"] != "" and entry["Валюта"] == "" for entry in exported) == 1
    assert sum(entry["Согласие"] == "нет" for entry in exported) == 1
    assert sum("доб. 12" in entry["Телефон"] for entry in exported) == 1
    assert sum("," in entry["Телефон"] for entry in exported) == 1
    contacts = ("Телефон", "Почта", "gclid", "yclid", "ClientID", "rb_clickid")
    assert sum(not any(entry[name] for name in contacts) for entry in exported) == 1
    days = [
        datetime.strptime(entry["Дата"], "%d.%m.%Y %H:%M").date() for entry in exported if entry["Дата"][0].isdigit()
    ]
    assert sum(day > NOW.date() + timedelta(days=1) for day in days) == 1
    assert sum(day < NOW.date() - timedelta(days=113) for day in days) == 1
    assert len(world.dirt) == 10


def test_what_the_shop_stored_is_past_and_within_its_thirty_days(world: World) -> None:
    local = NOW.astimezone(ZoneInfo("Europe/Moscow")).replace(tzinfo=None)
    ((first, last, touched),) = stored(
        world, "SELECT min(happened_at), max(happened_at), max(updated_at) FROM target_actions"
    )
    assert datetime.fromisoformat(first) > local - timedelta(days=31)
    assert datetime.fromisoformat(last) <= datetime.fromisoformat(touched) < local


def test_a_sale_comes_after_its_lead_under_one_deal(world: World) -> None:
    early = """SELECT count(*) FROM target_actions AS sale LEFT JOIN target_actions AS lead
               ON lead.deal_id = sale.deal_id AND lead.kind = 'lead'
               WHERE sale.kind = 'sale' AND (lead.event_id IS NULL OR lead.happened_at >= sale.happened_at)"""
    assert stored(world, early) == [(0,)]


def test_nobody_real_is_in_it(world: World, exported: list[Entry]) -> None:
    """Phones have the shape of Russian mobiles in a code that no operator holds; e-mails end in example domains."""
    written = {row[0] for row in stored(world, "SELECT tel FROM target_actions WHERE tel IS NOT NULL")}
    written |= {entry["Телефон"] for entry in exported if entry["Телефон"]}
    read_as = [phone for cell in written for phone in phones(cell, "RU")]
    assert len(read_as) >= len(written) > 500
    for phone in read_as:
        assert phone.startswith("+7975")
        assert phonenumbers.number_type(phonenumbers.parse(phone)) == phonenumbers.PhoneNumberType.MOBILE
    emails = [row[0] for row in stored(world, "SELECT mail FROM target_actions WHERE mail IS NOT NULL")]
    emails += [entry["Почта"] for entry in exported if entry["Почта"]]
    assert {email.rsplit("@", 1)[1].lower() for email in emails} == {"example.com", "example.org", "example.net"}


def test_its_costs_can_be_imported_whole(world: World) -> None:
    spends = [row for row in read(world.costs) if isinstance(row, Spend)]
    assert len(spends) == len(list(read(world.costs))) == 31 * 6
    spent: Counter[str] = Counter()
    for spend in spends:
        spent[spend.platform] += spend.amount
    assert {platform: Decimal(kopecks) / 100 for platform, kopecks in spent.items()} == world.spent


def test_the_sales_that_stand_add_up(world: World, exported: list[Entry]) -> None:
    shop = stored(world, "SELECT amount FROM target_actions WHERE kind = 'sale' AND status = 'active'")
    clinic = [entry["Сумма"].replace(",", ".") for entry in exported if entry["Сумма"] and entry["Валюта"]]
    assert sum(Decimal(amount) for amount in [row[0] for row in shop] + clinic) == world.sold


def test_refund_one_touches_two_paid_orders_and_says_which(fresh: World) -> None:
    before = dict(stored(fresh, "SELECT event_id, updated_at FROM target_actions"))
    change = refund_one(fresh.folder)
    after = stored(fresh, "SELECT event_id, status, amount, updated_at FROM target_actions")
    touched = {row[0]: row for row in after if before[row[0]] != row[3]}
    assert set(touched) == {change.refunded, change.repriced}
    assert touched[change.refunded][1] == "refunded"
    assert touched[change.repriced][1:3] == ("active", str(change.after))
    assert change.after != change.before
    assert min(row[3] for row in touched.values()) > max(before.values())


def test_refund_one_again_takes_other_orders(fresh: World) -> None:
    assert set(refund_one(fresh.folder)[:1]).isdisjoint(refund_one(fresh.folder)[:1])
