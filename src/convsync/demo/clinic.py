"""A made-up clinic: its leads and visits as a booking program exports them (cp1251, semicolons, decimal commas), with dirt.

The dirt is what real exports have. `DIRT` says of each kind what convsync should make of it.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from convsync.demo.people import Crowd, Visitor

PATIENTS = 270
SHARES = {"google": 34, "yandex": 40, "vk": 10, "": 16}
HEADER = (
    "Номер", "Событие", "Дата", "Сумма", "Валюта", "Договор", "Имя", "Фамилия", "Телефон", "Почта", "gclid", "yclid",
    "ClientID", "rb_clickid", "Согласие", "utm_source", "utm_medium", "utm_campaign",
)  # fmt: skip
FILES = (("archive.csv.gz", 0.3), ("visits-1.csv", 0.65), ("visits-2.csv", 1.0))
"""Which part of the rows, oldest first, ends in which file."""

UNREADABLE, SKIPPED, FINE = "unreadable", "skipped", "fine"
DIRT = {
    "spreadsheet_yclid": UNREADABLE,
    "unreadable_time": UNREADABLE,
    "unknown_action": SKIPPED,
    "no_identifier": SKIPPED,
    "consent_denied": SKIPPED,
    "too_old": SKIPPED,
    "in_future": SKIPPED,
    "no_currency": SKIPPED,
    "phone_extension": FINE,
    "two_phones": FINE,
}
"""What is wrong with a row, and whether it can become an action and be sent."""


@dataclass(frozen=True)
class Entry:
    """One row of the export."""

    kind: str
    at: datetime
    visitor: Visitor
    contract: str
    amount: Decimal | None = None
    currency: str = "RUB"
    consent: str = "да"
    dirt: str = ""


def entries(chance: Random, now: datetime) -> list[Entry]:
    """Some 400 clean rows, oldest first, then one row of each kind of dirt among the last of them."""
    crowd = Crowd(chance)
    latest = now - timedelta(hours=2)
    made: list[Entry] = []
    for number in range(PATIENTS):
        at = latest - timedelta(minutes=chance.randrange(29 * 1440))
        visitor, contract = crowd.visitor(SHARES, at), f"C{500 + number}"
        made.append(Entry("lead", at, visitor, contract, consent=chance.choice(("да", "да", ""))))
        came = at + timedelta(minutes=chance.randrange(600, 5 * 1440))
        if chance.random() < 0.6 and came <= latest:
            made.append(Entry("visit", came, visitor, contract, Decimal(chance.randrange(2000, 15_000))))
    made.sort(key=lambda entry: (entry.at, entry.contract, entry.kind))
    for number, dirty in enumerate(_dirty(crowd, now)):
        made.insert(len(made) - 10 * number - 5, dirty)
    return made


def _dirty(crowd: Crowd, now: datetime) -> list[Entry]:
    at = now - timedelta(days=1, hours=3)
    clean = {
        dirt: Entry("lead", at, crowd.visitor({"yandex": 1}, at), f"C9{number:03}", dirt=dirt)
        for number, dirt in enumerate(DIRT)
    }
    phone = "+7 975 000-11-22"
    nobody = Visitor("", "Тест", "Тестов", "", "")
    changed = {
        "spreadsheet_yclid": {"visitor": replace(clean["spreadsheet_yclid"].visitor, yclid="1.23E+18")},
        "unknown_action": {"kind": "callback"},
        "no_identifier": {"visitor": nobody},
        "consent_denied": {"consent": "нет"},
        "too_old": {"at": now - timedelta(days=200)},
        "in_future": {"at": now + timedelta(days=3)},
        "no_currency": {"kind": "visit", "amount": Decimal(4800), "currency": ""},
        "phone_extension": {"visitor": replace(clean["phone_extension"].visitor, phone=f"{phone} доб. 12")},
        "two_phones": {"visitor": replace(clean["two_phones"].visitor, phone=f"{phone}, 8 975 000-33-44")},
    }
    return [replace(entry, **changed.get(dirt, {})) for dirt, entry in clean.items()]  # type: ignore[arg-type]


def write(folder: Path, made: Sequence[Entry]) -> None:
    folder.mkdir()
    begin = 0
    for name, part in FILES:
        end = round(len(made) * part)
        data = _csv([_row(number, made[number]) for number in range(begin, end)]).encode("cp1251")
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        begin = end


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    return out.getvalue()


def _row(number: int, entry: Entry) -> tuple[str, ...]:
    who = entry.visitor
    at = "вчера после обеда" if entry.dirt == "unreadable_time" else f"{entry.at:%d.%m.%Y %H:%M}"
    money = ("", "") if entry.amount is None else (f"{entry.amount:.2f}".replace(".", ","), entry.currency)
    return (
        f"Z{1000 + number}", entry.kind, at, *money, entry.contract, who.first_name, who.last_name, who.phone, who.email,
        who.gclid, who.yclid, who.ym_uid, who.rb_clickid, entry.consent, *who.utm,
    )  # fmt: skip
