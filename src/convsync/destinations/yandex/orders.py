"""CRM orders (simple_orders): each row is the whole present state of one order, and the order id is its identity.

A repeat changes nothing, a later state replaces an earlier one, and there is never a verdict on a single order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson

from convsync.destinations import Route
from convsync.destinations.yandex import files, people, readiness, states
from convsync.destinations.yandex.metrica import Metrica, Said, object_of, zone_of, zone_of_counter
from convsync.errors import ConfigError, Halted, NotSent
from convsync.model import (
    WHOLE,
    Action,
    Answer,
    Conversion,
    Finding,
    Group,
    OnUnknown,
    Outcome,
    Person,
    Skip,
    SkipReason,
    Status,
    Verdict,
)
from convsync.net import Reply, Wire
from convsync.normalise import major, minor_units

REVENUE_LIMIT = 9_223_372_036_854
CHANGES = timedelta(days=111)
"""How long an order that was tied to a visit takes changes: 21 days and 90 more. DOC M/data-import/contacts"""


class Orders(Route):
    """Upload to `simple_orders` with `merge_mode=SAVE`.

    The order id is the action's `order_id`. An action without one becomes an order of its own, named by source and
    external id, so that it can never be taken for another source's order of the same number: a lead and a sale that
    are one deal must share `order_id`.

    `max_age` is what the platform takes; an order that is not tied to a visit within `link_window` of that visit never
    reaches the goals, so a lead should be sent when it is born. One that comes to light too late for that expires, or
    with `late_orders` "send" is sent for the customer reports alone. `targets`, for `probe`, are what the
    configuration's actions send here.
    """

    route = "yandex.orders"
    platform = "yandex"
    on_unknown = OnUnknown.RESEND
    adjusts = True
    snapshots = True
    redacted_is_whole = True
    reason_per_row = False

    def __init__(
        self,
        name: str,
        *,
        counter_id: str,
        token: str,
        wire: Wire,
        metrica_url: str = "https://api-metrika.yandex.net",
        counter_timezone: str | ZoneInfo | None = None,
        contact_hash: Literal["md5", "none"] = "md5",
        late_orders: Literal["expire", "send"] = "expire",
        max_age: timedelta = timedelta(days=113),
        link_window: timedelta = timedelta(days=21),
        batch_rows: int = 100_000,
        in_flight: int = 3,
        targets: Sequence[Any] = (),
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.account = counter_id
        self.wire = wire
        self.request_seconds = wire.longest
        self.max_age = max_age
        self.adjust_max_age = min(max_age, CHANGES)
        self.first_max_age = link_window if late_orders == "expire" else None
        self.link_window = self._window = link_window
        self.batch_rows = batch_rows
        self.in_flight = in_flight
        where = f"destinations.{name}"
        self._metrica = Metrica(
            where, counter_id=counter_id, token=token.strip(), url=metrica_url, wire=wire, jitter=jitter
        )
        self._note = self._metrica.note
        self._targets = targets
        self._hashed = contact_hash == "md5"
        self._configured = str(counter_timezone or "")
        self._zone = zone_of(self._configured)
        if self._configured and self._zone is None:
            raise ConfigError(
                f"{where}.counter_timezone: no time zone is called {self._configured!r}.",
                'Write a name such as "Europe/Moscow", or remove the line: then the counter is asked.',
            )

    # -- from an action to the state of an order ---------------------------------------------------------

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        if not target.status:
            raise ConfigError(f"actions.{action.action}: the order status is empty, which Metrica reads as PAID.")
        order = (action.order_id or "").strip() or f"{action.source}:{action.external_id}"
        wrong = _bad_order(order) or _bad_value(value, action.currency)
        if wrong:
            return Skip(self.name, *wrong)
        ids, why = people.client_ids(action.ym_client_id)
        emails, phones = people.emails(person), people.phones(person)
        nameless = None
        if not (ids or emails or phones):
            nameless = Skip(self.name, *_unidentified(why, action.yclid))
            if not (action.order_id or "").strip() and action.status == Status.ACTIVE:
                return nameless  # a refund of what was sent still finds its order by this very row
        currency = action.currency
        status = states.ENDED.get(action.status, target.status)
        state: dict[str, Any] = {
            "id": order,
            "created": int(action.occurred_at.timestamp()),
            "client_uniq_id": people.customer(action.user_id),
            "client_ids": ids,
            "order_status": status,
            "currency": currency,
        }
        if value is not None and currency is not None:
            state["revenue"] = format(major(value, currency), "f")
            if action.cost is not None:
                wrong = _bad_cost(action.cost)
                if wrong:
                    return Skip(self.name, *wrong)
                state["cost"] = [format(major(minor_units(action.cost, currency), currency), "f"), currency]
        if action.status not in states.ENDED:  # what is no more must not reach a goal that it had not reached before
            state["goals"] = list(target.goals)
        if self._hashed:
            state["emails_md5"], state["phones_md5"] = list(map(people.md5, emails)), list(map(people.md5, phones))
        else:
            state["emails"], state["phones"] = emails, phones
        if status in states.WORTHLESS:
            value = 0 if currency else None
        return Conversion(
            self.name,
            target.status,
            states.packed(state),
            order,
            action.status,
            value,
            currency,
            clear=not self._hashed,  # even of a row that names nobody: `merge` may bring contacts into it
            alone=nameless,
        )

    def tells_more(self, earlier: bytes, later: bytes) -> bool:
        """An id, a contact or a cost that the state before did not have: with them Metrica ties more orders to visits."""
        return states.tells_more(orjson.loads(earlier), orjson.loads(later))

    def merge(self, earlier: bytes, later: bytes) -> bytes:
        if self._hashed:
            earlier, later = self.redact(earlier), self.redact(later)
        return states.packed(states.merged(orjson.loads(earlier), orjson.loads(later)))

    def redact(self, payload: bytes) -> bytes:
        """Contacts stay as their hashes, which later states of the order are told with as well."""
        return states.packed(states.hashed(orjson.loads(payload))) if states.in_clear(payload) else payload

    # -- from states to a file -----------------------------------------------------------------------------

    def learn(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """The counter's time zone, in which Metrica reads the dates of orders.

        A configured one goes first and is not remembered: a wrong line is mended by removing it.
        """
        if self._configured:
            return known
        told = known.get("time_zone", "")
        zone = zone_of(told)
        if zone is None:
            told = zone_of_counter(self._counter())
            zone = zone_of(told)
        if zone is None:
            raise Halted(self._no_zone())
        self._zone = zone
        return {"time_zone": told}

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The multipart body. Its boundary is made from the rows, so that the same rows are the same bytes."""
        if self._zone is None:
            raise ValueError("the counter's time zone has to be learned first")
        payloads = self._leaving(payloads)
        columns = states.columns(payloads)
        return files.multipart("orders.csv", columns, states.rows(payloads, columns, self._zone))

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        payloads = self._leaving(payloads)
        columns = states.columns(payloads)
        zone = self._zone
        for row in states.rows(payloads, columns, zone or UTC):
            shown = dict(zip(columns, row, strict=True))
            if zone is None:
                shown["create_date_time"] += " UTC (the counter's time zone is not known yet)"
            yield shown

    def _leaving(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """What was planned with contacts in clear leaves without them when the configuration says so by now."""
        return list(map(self.redact, payloads)) if self._hashed and any(map(states.in_clear, payloads)) else payloads

    # -- the wire ------------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        path = f"/cdp/api/v1/counter/{self.account}/data/simple_orders?merge_mode=SAVE&delimiter_type=COMMA"
        reply = self._metrica.upload(path, body, files.boundary_of(body))
        return self._taken(reply, rows) if 200 <= reply.status < 300 else self._metrica.judge(reply, rows)

    def _taken(self, reply: Reply, rows: int) -> Answer:
        told = object_of(reply).get("uploading")
        if not isinstance(told, dict):
            return Answer(Outcome(Verdict.UNKNOWN, f"HTTP {reply.status}, the answer cannot be read"))
        match told.get("api_validation_status"):
            case "PASSED":
                return self._passed(told, rows)
            case "FAILED" if rows > 1:
                return Answer(Outcome(Verdict.RETURNED, "FAILED: Metrica refused the file"), split=True)
            case "FAILED":
                return Answer(Outcome(Verdict.REFUSED, "FAILED: Metrica refused the order and gave no reason"))
            case word:
                return self._metrica.strange(Said("", f"api_validation_status {str(word)[:40]!r}"))

    def _passed(self, told: Mapping[str, Any], rows: int) -> Answer:
        ref, counted = told.get("uploading_id"), told.get("elements_count")
        findings = () if counted is None or str(counted) == str(rows) else (self._miscounted(counted, rows),)
        taken = Outcome(Verdict.ACCEPTED, "PASSED: Metrica took the file; it never tells about single orders")
        return Answer(taken, ref=str(ref) if ref else None, findings=findings)

    def probe(self) -> list[Finding]:
        clear = not self._hashed
        return readiness.orders(
            self._metrica, self._targets, zone=self._configured, link_window=self._window, clear=clear
        )

    def _counter(self) -> Mapping[str, Any]:
        try:
            told = self._metrica.ask(f"/management/v1/counter/{self.account}").get("counter")
        except Halted as stop:
            raise Halted(readiness.unread(stop.finding)) from None
        if not isinstance(told, dict):
            raise NotSent("the counter's description cannot be read")
        return told

    def _no_zone(self) -> Finding:
        message = "Metrica did not tell a time zone that is known here."
        return self._note("error", "time_zone", message, 'Set counter_timezone, for example "Europe/Moscow".')

    def _miscounted(self, counted: object, rows: int) -> Finding:
        message = f"Metrica took a file of {rows} orders but counted {str(counted)[:20]} in it."
        advice = "It does not tell which; compare the number of orders in Metrica with the report."
        return self._note("warning", "elements_count", message, advice)


# -- what an order may be ---------------------------------------------------------------------------------
# The rules of a row: DOC DH/statistics/conversions, the Conversion Centre's list of errors. Dates are the mapping's.


def _bad_order(order: str) -> tuple[SkipReason, str] | None:
    wrong = people.bad_order(order)
    return (SkipReason.BAD_IDENTIFIER, f"the order id {wrong}") if wrong else None


def _bad_value(value: int | None, currency: str | None) -> tuple[SkipReason, str] | None:
    if value is None:
        return None
    if currency is None:
        return SkipReason.NO_CURRENCY, "Metrica reads an amount without a currency as roubles: name the currency"
    if value < 0:
        return SkipReason.NEGATIVE_VALUE, "Metrica takes amounts from 0: tell a refund by the row's status"
    if major(value, currency) > REVENUE_LIMIT:
        return (
            SkipReason.VALUE_TOO_LARGE,
            f"more than Metrica can hold ({REVENUE_LIMIT}): look for a lost decimal point",
        )
    return None


def _bad_cost(cost: Decimal) -> tuple[SkipReason, str] | None:
    if cost < 0:
        return SkipReason.NEGATIVE_VALUE, "of its cost, which Metrica takes from 0: without one leave the cell empty"
    if cost > REVENUE_LIMIT:
        rule = f"of its cost, which is more than Metrica can hold ({REVENUE_LIMIT}): look for a lost decimal point"
        return SkipReason.VALUE_TOO_LARGE, rule
    return None


def _unidentified(why: str, yclid: str | None) -> tuple[SkipReason, str]:
    if why:
        return SkipReason.BAD_IDENTIFIER, why
    if yclid:
        detail = "a yclid alone cannot carry an order: keep the Metrica ClientID too, or map the action to a `goal`"
        return SkipReason.NO_IDENTIFIER, detail
    return SkipReason.NO_IDENTIFIER, "an order needs a Metrica ClientID (ym_client_id), an e-mail or a phone"
