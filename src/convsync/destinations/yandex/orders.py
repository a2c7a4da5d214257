"""CRM orders (simple_orders): each row is the whole present state of one order, and the order id is its identity.

A repeat changes nothing, a later state replaces an earlier one, and there is never a verdict on a single order.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson

from convsync.destinations import Route
from convsync.destinations.yandex.metrica import Metrica, Said, zone_of, zone_of_counter
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
    Verdict,
)
from convsync.net import Reply, Wire
from convsync.normalise import major

ENDED = {"cancelled": "CANCELLED", "refunded": "CANCELLED", "spam": "SPAM"}
"""The status of an action that is no more → the status of its order."""
WORTHLESS = frozenset(ENDED.values())
"""Orders in these statuses bring no money, whatever the CRM still shows as their amount."""

REVENUE_LIMIT = 9_223_372_036_854
ID_LENGTH = 255
CLIENT_ID = re.compile(r"\d{6,20}", re.ASCII)
DAMAGED = (
    (re.compile(r"\d+\.0+", re.ASCII), "a spreadsheet or a float column has damaged it (it ends in .0)"),
    (re.compile(r"(GA\d\.\d\.)?\d+\.\d+", re.ASCII), "it looks like an id of Google Analytics (digits, dot, digits)"),
    (re.compile(r"\d([.,]\d+)?[eE]\+?\d+", re.ASCII), "a spreadsheet has damaged it (1.6E+18)"),
)
ADVICE_CLIENT_ID = "a ClientID is 6 to 20 digits, from ym(counter, 'getClientID') on the site"
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

FIELDS = (
    "id", "created", "client_uniq_id", "client_ids", "emails", "phones", "emails_md5", "phones_md5",
    "order_status", "revenue", "currency",
)  # fmt: skip
"""Of a payload. `created` is in epoch seconds; what an action does not tell is absent."""
SEVERAL = frozenset(("client_ids", "emails", "phones", "emails_md5", "phones_md5"))


class Orders(Route):
    """Upload to `simple_orders` with `merge_mode=SAVE`.

    The order id is the action's `order_id`. An action without one becomes an order of its own, named by source and
    external id, so that it can never be taken for another source's order of the same number: a lead and a sale that
    are one deal must share `order_id`.

    `max_age` is what the platform takes; an order that is not tied to a visit within `link_window` of that visit never
    reaches the goals, so a lead should be sent when it is born.
    """

    route = "yandex.orders"
    platform = "yandex"
    on_unknown = OnUnknown.RESEND
    adjusts = True
    snapshots = True
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
        max_age: timedelta = timedelta(days=113),
        link_window: timedelta = timedelta(days=21),
        batch_rows: int = 100_000,
        in_flight: int = 3,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.account = counter_id
        self.wire = wire
        self.request_seconds = wire.longest
        self.max_age = self.adjust_max_age = max_age
        self.link_window = link_window
        self.batch_rows = batch_rows
        self.in_flight = in_flight
        where = f"destinations.{name}"
        self._metrica = Metrica(
            where, counter_id=counter_id, token=token.strip(), url=metrica_url, wire=wire, jitter=jitter
        )
        self._note = self._metrica.note
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
        client = (action.ym_client_id or "").strip()
        known = {"client_ids": [client] if CLIENT_ID.fullmatch(client) else [], **self._contacts(person)}
        if not any(known.values()):
            return Skip(self.name, *_unidentified(client, action.yclid))
        status = ENDED.get(action.status, target.status)
        state = {
            "id": order,
            "created": int(action.occurred_at.timestamp()),
            "client_uniq_id": _customer(action.user_id),
            **known,
            "order_status": status,
            "revenue": None if value is None else format(major(value, action.currency or ""), "f"),
            "currency": action.currency,
        }
        if status in WORTHLESS:
            value = 0 if action.currency else None
        return Conversion(self.name, target.goal_key, _packed(state), order, action.status, value, action.currency)

    def merge(self, earlier: bytes, later: bytes) -> bytes:
        """Id and creation time stay as first sent, everything known of the customer adds up, the rest is `later`'s.

        A state without an amount says nothing about the amount, so what was said last holds (SAVE would erase it); an
        order worth nothing has to say 0. The amount of a cancelled order is kept too, for the day it is revived.
        """
        was, now = orjson.loads(earlier), orjson.loads(later)
        state = {**was, **now, "id": was["id"], "created": was["created"]}
        for column in was.keys() & now.keys() & SEVERAL:
            state[column] = list(dict.fromkeys([*was[column], *now[column]]))
        if "revenue" not in now and "revenue" in was:
            state["currency"] = was.get("currency")
        return _packed(state)

    def _contacts(self, person: Person) -> dict[str, list[str]]:
        emails = [text for email in person.emails if (text := _email(email))]
        phones = [text for phone in person.phones if (text := phone.lstrip("+")).isdecimal() and text.isascii()]
        if not self._hashed:
            return {"emails": emails, "phones": phones}
        return {"emails_md5": [md5(text) for text in emails], "phones_md5": [md5(text) for text in phones]}

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
        columns = _columns(payloads)
        body = io.BytesIO()
        body.write(_head(b"0" * 32))
        start = body.tell()
        body.write(_line(columns))
        for row in _rows(payloads, columns, self._zone):
            body.write(_line(row))
        with body.getbuffer() as whole, whole[start:] as content:
            boundary = hashlib.sha256(content).hexdigest()[:32].encode()
        body.write(b"\r\n--" + boundary + b"--\r\n")
        body.seek(0)
        body.write(_head(boundary))
        return body.getvalue()

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        columns = _columns(payloads)
        zone = self._zone
        for row in _rows(payloads, columns, zone or UTC):
            shown = dict(zip(columns, row, strict=True))
            if zone is None:
                shown["create_date_time"] += " UTC (the counter's time zone is not known yet)"
            yield shown

    # -- the wire ------------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        boundary = body[2 : body.index(b"\r\n")].decode("ascii")
        path = f"/cdp/api/v1/counter/{self.account}/data/simple_orders?merge_mode=SAVE&delimiter_type=COMMA"
        reply = self._metrica.exchange("POST", path, body, f"multipart/form-data; boundary={boundary}")
        return self._taken(reply, rows) if 200 <= reply.status < 300 else self._metrica.judge(reply, rows)

    def _taken(self, reply: Reply, rows: int) -> Answer:
        told = _object(reply).get("uploading")
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
        try:
            counter = self._counter()
        except Halted as stop:
            if self._configured and stop.finding.code == "no_rights":
                return list(self._probe_uploads())
            advice = "If the token may only upload, set `counter_timezone`: then nothing is asked."
            return [stop.finding._replace(advice=f"{stop.finding.advice} {advice}")]
        except NotSent as fault:
            message = f"Metrica did not answer ({fault.reason})."
            return [self._note("error", "no_answer", message, "Check the network, then try again.")]
        findings = [*self._probe_permission(counter), *self._probe_zone(counter), *self._probe_uploads()]
        if not self._hashed:
            message = "contact_hash is none: e-mails and phones stand in clear in the ledger until they are pruned."
            findings.append(self._note("warning", "contacts_in_clear", message, 'Write contact_hash = "md5".'))
        return findings

    # -- looking, without sending ----------------------------------------------------------------------------

    def _counter(self) -> Mapping[str, Any]:
        told = self._metrica.ask(f"/management/v1/counter/{self.account}").get("counter")
        if not isinstance(told, dict):
            raise NotSent("the counter's description cannot be read")
        return told

    def _probe_permission(self, counter: Mapping[str, Any]) -> Iterator[Finding]:
        permission = counter.get("permission")
        if permission == "view":
            message = "the token's account may look at the counter but not change it, so uploads will be refused."
            yield self._note("error", "no_rights", message, "Give the account edit access in Metrica's settings.")
        elif permission is None:
            yield self._note("info", "permission_untold", "the counter is there; Metrica did not tell our rights.")

    def _probe_zone(self, counter: Mapping[str, Any]) -> Iterator[Finding]:
        told = zone_of_counter(counter)
        if zone_of(told) is None:
            if not self._configured:
                yield self._no_zone()
        elif self._configured and self._configured != told:
            message = f"its time zone is {told}, but counter_timezone is {self._configured}: orders may shift by hours."
            yield self._note("warning", "time_zone", message, "Remove counter_timezone: then the counter is asked.")
        else:
            yield self._note("info", "time_zone", f"orders are dated in its time zone, {told}.")

    def _probe_uploads(self) -> Iterator[Finding]:
        """The list of uploads stands behind the same right as uploading."""
        try:
            told = self._metrica.ask(f"/cdp/api/v1/counter/{self.account}/last_uploadings?limit=1")
        except Halted as stop:
            yield stop.finding
            return
        except NotSent as fault:
            yield self._note("info", "no_answer", f"its list of uploads could not be read ({fault.reason}).")
            return
        listed = told.get("uploadings")
        if listed and isinstance(listed, list) and isinstance(listed[0], dict):
            last = f"the last upload was at {listed[0].get('datetime')}: {listed[0].get('api_validation_status')}."
        else:
            last = "nothing was uploaded yet; the goals of orders appear within 24 hours of the first upload."
        days = self.link_window.days
        hint = f"An order counts for advertising only if it comes within {days} days of the visit: send leads early."
        yield self._note("info", "uploads", last, hint)

    def _no_zone(self) -> Finding:
        message = "Metrica did not tell a time zone that is known here."
        return self._note("error", "time_zone", message, 'Set counter_timezone, for example "Europe/Moscow".')

    def _miscounted(self, counted: object, rows: int) -> Finding:
        message = f"Metrica took a file of {rows} orders but counted {str(counted)[:20]} in it."
        advice = "It does not tell which; compare the number of orders in Metrica with the report."
        return self._note("warning", "elements_count", message, advice)


# -- one order --------------------------------------------------------------------------------------------


def md5(text: str) -> str:
    """As the platform wants contacts. It protects from a glance, not from a search: ledger and files stay private."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _email(text: str) -> str | None:
    """Latin letters only, as documented; a comma or a blank would be read as the end of the address."""
    text = text.strip().lower()
    return text if text.isascii() and "@" in text and not re.search(r"[\s,;\"]", text) else None


def _customer(user_id: str | None) -> str | None:
    """The CRM's id of the customer. One that is a contact in disguise leaves as its hash; it only has to be stable."""
    text = (user_id or "").strip()
    if not text or len(text) > ID_LENGTH or CONTROL.search(text):
        return None
    return md5(text.lower()) if "@" in text or text.startswith("+") else text


def _bad_order(order: str) -> tuple[SkipReason, str] | None:
    if len(order) > ID_LENGTH:
        return SkipReason.BAD_IDENTIFIER, f"the order id is longer than {ID_LENGTH} characters"
    if CONTROL.search(order):
        return SkipReason.BAD_IDENTIFIER, "the order id holds a line break or a control character"
    return None


def _bad_value(value: int | None, currency: str | None) -> tuple[SkipReason, str] | None:
    if value is None:
        return None
    if currency is None:
        return SkipReason.NO_CURRENCY, ""
    if value < 0:
        return SkipReason.NEGATIVE_VALUE, ""
    if major(value, currency) > REVENUE_LIMIT:
        return SkipReason.NEGATIVE_VALUE, f"not negative, but more than Metrica can hold ({REVENUE_LIMIT})"
    return None


def _unidentified(client: str, yclid: str | None) -> tuple[SkipReason, str]:
    if client:
        why = next((words for pattern, words in DAMAGED if pattern.fullmatch(client)), "it has another form")
        return SkipReason.BAD_IDENTIFIER, f"ym_client_id: {why}; {ADVICE_CLIENT_ID}"
    if yclid:
        detail = "a yclid alone cannot carry an order: keep the Metrica ClientID too, or map the action to a `goal`"
        return SkipReason.NO_IDENTIFIER, detail
    return SkipReason.NO_IDENTIFIER, "an order needs a Metrica ClientID (ym_client_id), an e-mail or a phone"


def _packed(state: Mapping[str, Any]) -> bytes:
    return orjson.dumps({name: value for name in FIELDS if (value := state.get(name)) not in (None, "", [])})


# -- a file of orders ---------------------------------------------------------------------------------------


def _columns(payloads: Sequence[bytes]) -> list[str]:
    """Always the same, but for plain contacts, which stand in place of (or beside) the hashed ones where there are any.

    A quote inside JSON text is escaped, so the bytes of a name with both its quotes are a name.
    """
    plain = any(b'"emails":' in payload or b'"phones":' in payload for payload in payloads)
    hashed = any(b'"emails_md5":' in payload or b'"phones_md5":' in payload for payload in payloads)
    contacts = (["emails", "phones"] if plain else []) + (["emails_md5", "phones_md5"] if hashed or not plain else [])
    head = ["id", "create_date_time", "client_uniq_id", "client_ids"]
    return [*head, *contacts, "order_status", "revenue", "currency"]


def _rows(payloads: Sequence[bytes], columns: Sequence[str], zone: tzinfo) -> Iterator[list[str]]:
    contacts = columns[4:-3]
    seen = set[str]()
    for payload in payloads:
        state = orjson.loads(payload)
        get = state.get
        order, status = state["id"], state["order_status"]
        if order in seen:
            raise ValueError(f"order {order} stands twice in one file: Metrica would apply its rows in random order")
        seen.add(order)
        yield [
            order,
            str(datetime.fromtimestamp(state["created"], zone))[:19],
            get("client_uniq_id", ""),
            ",".join(get("client_ids", ())),
            *[",".join(get(column, ())) for column in contacts],
            status,
            "0" if status in WORTHLESS else get("revenue", ""),
            get("currency", ""),
        ]


def _line(cells: Sequence[str]) -> bytes:
    """RFC 4180 by hand, because nearly every line needs no quotes: a third less time than the csv module takes."""
    line = ",".join(cells)
    if line.count(",") >= len(cells) or '"' in line or "\n" in line or "\r" in line:
        line = ",".join(['"' + c.replace('"', '""') + '"' if re.search('[",\r\n]', c) else c for c in cells])
    return line.encode() + b"\n"


def _head(boundary: bytes) -> bytes:
    return (
        b"--" + boundary + b"\r\n"
        b'Content-Disposition: form-data; name="file"; filename="orders.csv"\r\n'
        b"Content-Type: text/csv; charset=utf-8\r\n\r\n"
    )


def _object(reply: Reply) -> Mapping[str, Any]:
    try:
        told = reply.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
