"""Offline conversions (offline_conversions): a row says that somebody reached a goal at a moment, and is that, for ever.

Metrica tells rows apart by id, goal and second: the same row again overwrites its price (DOC M/faq) and adds nothing,
any other row is another conversion. There is no verdict on a row, and a list of uploads with our token in the comment.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson

from convsync.destinations import Route
from convsync.destinations.yandex import files, people, readiness
from convsync.destinations.yandex.metrica import CLIENT_ID_TYPE, Metrica
from convsync.destinations.yandex.uploadings import TOKEN, Uploadings
from convsync.errors import ConfigError
from convsync.model import (
    WHOLE,
    Action,
    Answer,
    Conversion,
    Finding,
    Group,
    OnUnknown,
    Person,
    Skip,
    SkipReason,
    Sought,
    Status,
    key_of,
)
from convsync.net import Wire
from convsync.normalise import major

COLUMNS = {"yclid": "Yclid", "client_id": "ClientId", "user_id": "UserId", "purchase_id": "PurchaseId"}
"""Kind of id → its column, spelled exactly so. DOC M/management/offline-conv. One kind a file: which of two ids wins is
not documented."""
TYPES = {"Yclid": "YCLID", "ClientId": "CLIENT_ID", "UserId": "USER_ID", "PurchaseId": "PURCHASE_ID"}
"""Column → `client_id_type`. DOC, older; PURCHASE_ID is in no documentation."""
FIELDS = ("kind", "id", "target", "at", "price", "currency", "void")
"""Of a row. `at` is in epoch seconds; `void`: it was cancelled, so its price is told as 0."""
FIXED = FIELDS[:4]
"""What Metrica tells rows apart by."""
EPOCH = 1_000_000_000
"""Unix seconds are above this; what is not was never a time of a conversion (facts, 2.2)."""


class Conversions(Route):
    """Upload to `offline_conversions`, one kind of id a file.

    A change (another value, a refund) is the same row with another price, for as long as Metrica still links rows:
    `link_window` from the visit, of which the action's own age is the nearest that we know. `targets`, for `probe`, are
    what the configuration's actions send here.
    """

    route = "yandex.conversions"
    door = "conversions"
    platform = "yandex"
    on_unknown = OnUnknown.ASK
    adjusts = True
    reason_per_row = False
    apart = True
    changes_apart = False
    fixed = True

    def __init__(
        self,
        name: str,
        *,
        counter_id: str,
        token: str,
        wire: Wire,
        metrica_url: str = "https://api-metrika.yandex.net",
        send_client_id_type: bool = False,
        link_window: timedelta = timedelta(days=21),
        quarantine: timedelta = timedelta(minutes=15),
        poll_after: timedelta = timedelta(minutes=15),
        poll_every: timedelta = timedelta(minutes=15),
        poll_until: timedelta = timedelta(hours=24),
        batch_rows: int = 100_000,
        targets: Sequence[Any] = (),
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.account = counter_id
        self.wire = wire
        self.request_seconds = wire.longest
        self.max_age = self.adjust_max_age = self.link_window = link_window
        self.quarantine = quarantine
        self.batch_rows = batch_rows
        self.in_flight = 1
        self._metrica = Metrica(
            f"destinations.{name}",
            counter_id=counter_id,
            token=token.strip(),
            url=metrica_url,
            wire=wire,
            jitter=jitter,
        )
        self._uploadings = Uploadings(self._metrica, after=poll_after, every=poll_every, until=poll_until)
        self._targets = targets
        self._typed = send_client_id_type

    # -- from an action to a row -------------------------------------------------------------------------------

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        goal, currency = target.goal, action.currency
        if not goal:
            raise ConfigError(f"actions.{action.action}: `goal` is empty.")
        moment = int(action.occurred_at.timestamp())
        if moment <= EPOCH:
            return Skip(self.name, SkipReason.TOO_OLD, "Metrica takes times from the year 2001")
        if value is not None and currency is None:
            return Skip(
                self.name, SkipReason.NO_CURRENCY, "Metrica would read the amount as roubles: name the currency"
            )
        if value is not None and value < 0:
            return Skip(self.name, SkipReason.NEGATIVE_VALUE, "tell a refund by the row's status")
        found = _identified(action, target.by)
        if isinstance(found, Skip):
            return found._replace(destination=self.name)
        kind, text = found
        row: dict[str, Any] = {"kind": kind, "id": text, "target": goal, "at": moment}
        if value is not None and currency is not None:
            row["price"] = format(major(value, currency), "f")
        if currency is not None:
            row["currency"] = currency
        if action.status != Status.ACTIVE:
            row["void"] = True
            value = 0 if currency else None
        return Conversion(
            self.name,
            goal,
            _packed(row),
            None,
            action.status,
            value,
            currency,
            key_of(action.source, action.external_id, action.action, self.name, f"{self.door}/{goal}"),
            part=kind,
            door=self.door,
            identity=self._identity(row),
        )

    def merge(self, earlier: bytes, later: bytes) -> bytes:
        """Who, what and when stay as first sent: another row would be another conversion. The price is `later`'s.

        One without an amount says nothing about the amount; one that is void has to say 0, and keeps the amount for the
        day it is revived.
        """
        was, now = orjson.loads(earlier), orjson.loads(later)
        row = {**was, **now, **{name: was[name] for name in FIXED}}
        if "price" in was and "price" not in now:
            row["currency"] = was["currency"]
        if "void" not in now:
            row.pop("void", None)
        return _packed(row)

    def shift(self, conversion: Conversion) -> Conversion:
        row = orjson.loads(conversion.payload)
        row["at"] += 1
        return conversion._replace(payload=_packed(row), identity=self._identity(row))

    def _identity(self, row: Mapping[str, Any]) -> str:
        text = "\n".join((self.account, row["kind"], row["id"], row["target"], str(row["at"])))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    # -- from rows to a file -----------------------------------------------------------------------------------

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The multipart body. Its boundary is the token, which `send` puts into the query."""
        if not TOKEN.fullmatch(token):
            raise ValueError("a token is 24 hexadecimal digits: Metrica takes nothing but letters and digits")
        columns = _columns(payloads)
        return files.multipart("conversions.csv", columns, _rows(payloads, columns), token)

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        columns = _columns(payloads)
        for row in _rows(payloads, columns):
            yield dict(zip(columns, row, strict=True))

    # -- the wire ----------------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        token = files.boundary_of(body)
        kind = f"&client_id_type={TYPES[files.header_of(body)[0]]}" if self._typed else ""
        path = f"/management/v1/counter/{self.account}/offline_conversions/upload?comment={token}{kind}"
        reply = self._metrica.upload(path, body, token)
        if 200 <= reply.status < 300:
            return self._uploadings.taken(reply, rows)
        return self._metrica.judge(reply, rows, CLIENT_ID_TYPE[self._typed])

    def poll(self, ref: str, rows: int, age: timedelta) -> Answer:
        return self._uploadings.look(quote(ref, safe=""), rows, age)

    def find(self, sought: Sought) -> Answer | None:
        return self._uploadings.find(sought, TYPES.get(COLUMNS.get(sought.part, "")), self.request_seconds)

    def probe(self) -> list[Finding]:
        return readiness.conversions(self._metrica, self._targets, link_window=self.max_age, last=self._uploadings.last)


# -- one row ----------------------------------------------------------------------------------------------------


def _identified(action: Action, by: Sequence[str]) -> tuple[str, str] | Skip:
    """Kind and text of the first id, in the order of `by`, that is good; or what the row has instead."""
    whys = []
    for kind in by:
        found = _READ[kind](action)
        if found.good:
            return kind, found.good[0]
        if found.why:
            whys.append(found.why)
    other = [kind for kind in COLUMNS if kind not in by and _READ[kind](action).good]
    has = f"; it has {_fields(other)}, for which write by = {orjson.dumps([*by, *other]).decode()}" if other else ""
    if whys:
        return Skip("", SkipReason.BAD_IDENTIFIER, "; ".join(whys) + has)
    return Skip("", SkipReason.NO_IDENTIFIER, f"`by` asks for {_fields(by)}, the row has none{has}")


def _purchase(action: Action) -> people.Ids:
    text = (action.order_id or "").strip()
    wrong = people.bad_order(text)
    return people.Ids([], f"order_id: it {wrong}") if wrong else people.Ids([text] if text else [])


_READ: Mapping[str, Callable[[Action], people.Ids]] = {
    "yclid": lambda action: people.yclid(action.yclid),
    "client_id": lambda action: people.client_ids(action.ym_client_id),
    "user_id": lambda action: people.user_id(action.user_id),
    "purchase_id": _purchase,
}
_FIELD = {"yclid": "yclid", "client_id": "ym_client_id", "user_id": "user_id", "purchase_id": "order_id"}


def _fields(kinds: Sequence[str]) -> str:
    return " or ".join(_FIELD[kind] for kind in kinds)


def _packed(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps({name: row[name] for name in FIELDS if name in row})


# -- a file of rows ---------------------------------------------------------------------------------------------


def _columns(payloads: Sequence[bytes]) -> list[str]:
    """The id first; price and currency only where a row has one. A quote inside JSON text is escaped."""
    priced = any(b'"price":' in payload or b'"void":' in payload for payload in payloads)
    column = COLUMNS[orjson.loads(payloads[0])["kind"]] if payloads else COLUMNS["yclid"]
    return [column, "Target", "DateTime", *(("Price", "Currency") if priced else ())]


def _rows(payloads: Sequence[bytes], columns: Sequence[str]) -> Iterator[list[str]]:
    """Cells by these `columns`. `DateTime` is in Unix seconds. DOC M/management/offline-conv"""
    priced = len(columns) > 3
    seen = set[tuple[str, str, int]]()
    for payload in payloads:
        row = orjson.loads(payload)
        if COLUMNS[row["kind"]] != columns[0]:
            raise ValueError("a file holds ids of one kind")
        identity = (row["id"], row["target"], row["at"])
        if identity in seen:
            raise ValueError("a conversion stands twice in one file: Metrica would keep one of its rows")
        seen.add(identity)
        cells = [row["id"], row["target"], str(row["at"])]
        if priced:
            price = "0" if "void" in row else row.get("price", "")
            cells += [price, row.get("currency", "") if price else ""]
        yield cells
