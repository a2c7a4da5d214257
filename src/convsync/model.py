"""The nouns of convsync, all frozen: what happened, what we would send, why we would not, what was said about it."""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple


class Status(enum.StrEnum):
    """What the source says of an action today."""

    ACTIVE = "active"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    SPAM = "spam"


class Kind(enum.StrEnum):
    """What an action counts as: CPL divides by leads, CPA by sales; a micro-conversion is counted in neither."""

    LEAD = "lead"
    SALE = "sale"
    MICRO = "micro"


class State(enum.StrEnum):
    """Where a delivery stands. DESIGN section 1 draws the arrows; `ledger.record` is the only room that moves them."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNMATCHED = "unmatched"
    UNKNOWN = "unknown"
    HELD = "held"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


OPEN_STATES = (State.PENDING, State.IN_FLIGHT, State.UNKNOWN)
"""States in which a delivery may still reach the wire by itself: what comes after it in its lane waits."""


class SkipReason(enum.StrEnum):
    """Why an action is not addressed to a destination."""

    UNKNOWN_ACTION = "unknown_action"
    NOT_MAPPED = "not_mapped"
    NO_IDENTIFIER = "no_identifier"
    BAD_IDENTIFIER = "bad_identifier"
    CONSENT_DENIED = "consent_denied"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    BAD_TIME = "bad_time"
    NO_CURRENCY = "no_currency"
    NEGATIVE_VALUE = "negative_value"
    VALUE_TOO_LARGE = "value_too_large"
    CANCELLED_UNSENT = "cancelled_unsent"
    CANNOT_ADJUST = "cannot_adjust"
    REFUND_IGNORED = "refund_ignored"
    STALE = "stale"
    NO_CONSENT = "no_consent"
    OTHER_WAY = "other_way"

    @property
    def sentence(self) -> str:
        """The reason as people read it."""
        return SENTENCES[self]


SENTENCES = {
    SkipReason.UNKNOWN_ACTION: "the configuration has no [actions.*] section of this name",
    SkipReason.NOT_MAPPED: "its [actions.*] section does not name this destination, or its source does not feed it",
    SkipReason.NO_IDENTIFIER: "it has no click id, client id or contact that this platform could match",
    SkipReason.BAD_IDENTIFIER: "its click or client id is not one this platform could have issued",
    SkipReason.CONSENT_DENIED: "the person did not consent to sharing data with advertising platforms",
    SkipReason.TOO_OLD: "it is older than the platform accepts",
    SkipReason.IN_FUTURE: "it is dated more than a day in the future",
    SkipReason.BAD_TIME: "its times contradict each other: what led to it cannot have come after it",
    SkipReason.NO_CURRENCY: "it has a value but no currency, and no default is ever assumed",
    SkipReason.NEGATIVE_VALUE: "its value is negative; a refund is a status, not a negative sale",
    SkipReason.VALUE_TOO_LARGE: "its value is larger than this platform takes",
    SkipReason.CANCELLED_UNSENT: "it was cancelled or refunded before anything was sent: nothing to take back",
    SkipReason.CANNOT_ADJUST: "this platform cannot change what was once sent; the change stays in the ledger",
    SkipReason.REFUND_IGNORED: "the configuration says not to tell this platform of refunds (on_refund)",
    SkipReason.STALE: "the order has already been reported in a later state",
    SkipReason.NO_CONSENT: "nobody said that the person consented, which passing a contact on to this platform needs",
    SkipReason.OTHER_WAY: "this platform was told of it by another way in, so that it would count twice by this one",
}


class OnUnknown(enum.StrEnum):
    """What a route does with an unknown outcome (DESIGN section 2)."""

    RESEND = "resend"
    ASK = "ask"
    HOLD = "hold"


class Verdict(enum.StrEnum):
    """What a platform said about one conversion."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNMATCHED = "unmatched"
    LATER = "later"
    """Definitely not processed, or processed and to be sent again: pending with a due time; the attempt counts."""
    RETURNED = "returned"
    """Definitely not processed, through no fault of the row: pending again, and the attempt does not count."""
    UNKNOWN = "unknown"
    HELD = "held"
    STRANDED = "stranded"
    """Held as well, but it may have been processed: a person has to look."""


class Item(NamedTuple):
    """One line of a cart: the id of the product in the Merchant Center feed, how many, and the price of one."""

    id: str | None
    quantity: int
    price: Decimal | None


class Cart(NamedTuple):
    """What was bought. `discount` and the prices are in major units of the action's currency."""

    items: tuple[Item, ...]
    discount: Decimal | None = None


class Action(NamedTuple):
    """One completed target action as a source tells it (DESIGN section 4).

    A tuple because a million of them pass through a run. Ids are text, money is Decimal in major units, times aware.
    `email` and `phone` are as the source wrote them; `Person` holds what normalisation made of them.
    """

    source: str
    external_id: str
    action: str
    occurred_at: datetime
    updated_at: datetime | None = None
    created_at: datetime | None = None
    value: Decimal | None = None
    currency: str | None = None
    order_id: str | None = None
    status: str = "active"
    gclid: str | None = None
    gbraid: str | None = None
    wbraid: str | None = None
    yclid: str | None = None
    rb_clickid: str | None = None
    ym_client_id: str | None = None
    vk_user_id: str | None = None
    ga_client_id: str | None = None
    user_id: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None
    consent_ad_user_data: bool | None = None
    consent_ad_personalization: bool | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_content: str | None = None
    utm_term: str | None = None
    campaign_id: str | None = None
    call_start_at: datetime | None = None
    """When the phone call began that led to this action (call conversions)."""
    customer_type: str | None = None
    """`new`, `returning` or `reengaged`, as the source tells it."""
    custom_variables: tuple[tuple[str, str], ...] = ()
    """Name and value of each custom variable, in the order of the configuration; empty ones are left out."""
    cart: Cart | None = None
    lead_form: str | None = None
    """The platform's lead form that it came in by: its `campaign_id` is exact, for later actions of the same phone, too."""
    cost: Decimal | None = None
    """What the sold goods or services cost the advertiser, in major units of `currency`: value − cost is the margin."""


class Person(NamedTuple):
    """The contacts of an action in canonical form: lower-case e-mails, E.164 phones, folded names. Never stored."""

    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    first_name: str | None = None
    last_name: str | None = None


class Money(NamedTuple):
    """An amount in integer minor units of its currency."""

    minor: int
    currency: str


class Conversion(NamedTuple):
    """An action addressed to one destination and goal, in the platform's own form.

    `payload` is JSON: everything the route needs to build this row of a request, contacts already hashed, nothing that
    changes from run to run. The ledger keeps these bytes, so a request can be made again byte for byte.
    `lane` names what must stay in order beyond the key itself (an order id at Yandex), or None.
    """

    destination: str
    goal: str
    payload: bytes
    lane: str | None = None
    status: str = "active"
    value: int | None = None
    currency: str | None = None
    key: bytes | None = None
    """The key, where the route had to compute it anyway; the ledger computes it otherwise."""
    part: str = ""
    """Conversions of different parts never share a request (calls and clicks are two methods of one API)."""
    adjusts: bool = True
    """Whether the platform can be told of a change of this one; on top of what its route can do at all."""
    clear: bool = False
    """Whether the payload holds a contact in clear, because the platform hashes itself: erased after the verdict."""
    door: str = ""
    """Which of its destination's routes takes it (`Route.door`)."""
    identity: str = ""
    """Where the platform tells rows apart by something that two conversions may share: that something, hashed."""
    alone: Conversion | Skip | None = None
    """What takes its place where it would be the first of its lane but does not say whose it is; None: it can be first."""


class Group(NamedTuple):
    """What the rows of one request have in common, for a route that keeps some of them `apart`.

    `adjusts`: each row follows an earlier revision of its key that the platform may have. In such a group, and in one with
    a part, `at` is row by row the time of the change (epoch seconds; later for each later revision of a key), and
    `taken_at` when the platform was last told of the key before, 0 if it never was.
    """

    part: str = ""
    adjusts: bool = False
    at: Sequence[int] = ()
    taken_at: Sequence[int] = ()

    def only(self, rows: Sequence[int]) -> Group:
        """The group of some rows of the request, by position."""
        if not self.at:
            return self
        return self._replace(at=[self.at[row] for row in rows], taken_at=[self.taken_at[row] for row in rows])


WHOLE = Group()
"""The group of every request of a route that keeps nothing apart."""


class Skip(NamedTuple):
    """An action not addressed to a destination (`destination` is empty: to none at all)."""

    destination: str
    reason: SkipReason
    detail: str = ""


class Mapped(NamedTuple):
    """An action, what it counts as, whose click brought it, and one answer for each destination."""

    action: Action
    kind: str
    platform: str
    campaign: str
    value: int | None
    """Minor units of `action.currency`; None when the action has no value, or one that cannot be counted."""
    due_at: int
    """Epoch milliseconds before which nothing may be sent (an action dated slightly ahead of our clock), else 0."""
    results: tuple[Conversion | Skip, ...]
    click: int | None = None
    """`click_hash` of its gclid, by which a click that Google reports is found again."""
    person: int | None = None
    """`person_hash` of its first phone, by which it is joined to the lead form that the same person filled in before; None
    where it has no phone, or nothing is read of lead forms."""


class BadRow(NamedTuple):
    """A row of a source that could not become an Action. Says where and why, never what a contact field held."""

    source: str
    where: str
    field: str
    problem: str
    advice: str = ""


class Finding(NamedTuple):
    """Something a person should read: what, where, and what to do."""

    level: str
    """`error` (needs a person), `warning` or `info`."""
    code: str
    where: str
    message: str
    advice: str = ""

    def sentence(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.advice}" if self.advice else "")


class Outcome(NamedTuple):
    """What became of one row: the platform's own word where it has one, and seconds until the row may go again."""

    verdict: Verdict
    reason: str = ""
    wait: float | None = None


class Sought(NamedTuple):
    """A request whose outcome is unknown, as its platform can be asked for it."""

    token: str
    part: str
    rows: int
    since: datetime
    """When it was begun."""
    others: frozenset[str]
    """What the platform calls our other requests of that time: it is none of these."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request, or a question about one, came to: one outcome for every row, by position.

    `default` stands for each row that `rows` does not name. `ref` is the platform's name for the request. `poll_in`
    asks to look again after so many seconds; None means that nothing more will be told.
    """

    default: Outcome
    rows: Mapping[int, Outcome] = field(default_factory=dict)
    ref: str | None = None
    poll_in: float | None = None
    halt: Finding | None = None
    """Configuration or credentials: no further request to this destination in this run."""
    rest: float | None = None
    """The platform asks for a pause of so many seconds (quota): claim nothing more before that."""
    split: bool = False
    """Refused as a whole without naming a row: send the halves apart to find it."""
    findings: tuple[Finding, ...] = ()


class Tally(NamedTuple):
    """Actions that agree in every dimension of a report, counted: the ledger sums, `report` divides."""

    day: date
    platform: str
    """Whose click brought it: google, yandex, vk, or empty when nothing tells."""
    campaign: str
    action: str
    kind: str
    source: str
    currency: str | None
    actions: int
    value: int | None
    """Minor units; None when none of them has a value."""
    addressed: int
    """How many of them have a delivery to the platform they came from."""
    taken: int
    """How many of these deliveries were accepted or confirmed."""
    unknown: int
    """How many of these deliveries have an outcome that nobody knows yet."""


class Spend(NamedTuple):
    """Money spent on one campaign on one day, in integer minor units."""

    day: date
    platform: str
    account: str
    campaign_id: str
    campaign: str
    amount: int
    currency: str
    vat_included: bool | None = None
    clicks: int | None = None
    impressions: int | None = None


class Account(NamedTuple):
    """An advertising account that money is spent from, as its platform describes it."""

    platform: str
    id: str
    name: str
    currency: str
    time_zone: str
    """Its days are the days of what it spent."""


def key_of(source: str, external_id: str, action: str, destination: str, goal: str) -> bytes:
    """The 16-byte key of a conversion: same input, same key, in every process, for ever (shown as 32 hex digits).

    Each part is preceded by its length, so that no two different inputs read alike.
    """
    text = f"{len(source)}:{source}{len(external_id)}:{external_id}{_addressed(action, destination, goal)}"
    return hashlib.sha256(text.encode()).digest()[:16]


def click_hash(gclid: str) -> int:
    """64 bits of SHA-256, signed as SQLite keeps them: enough to tell a million clicks apart, too little to be a gclid."""
    return int.from_bytes(hashlib.sha256(gclid.encode()).digest()[:8], "big", signed=True)


def person_hash(phone: str) -> int:
    """64 bits of SHA-256 of a phone in E.164, signed as SQLite keeps them: two actions of one person agree in it.

    It is as private as the phone: there are few enough phones to hash them all and look it up. So it keeps the promise that
    the hashed contacts of payloads keep (no contact in clear), no more; half of the bits would be as easy to look up, and
    would take two persons of a million for one.
    """
    return int.from_bytes(hashlib.sha256(phone.encode()).digest()[:8], "big", signed=True)


@functools.lru_cache(maxsize=1024)
def _addressed(action: str, destination: str, goal: str) -> str:
    """The end of what a key is made of: a run meets few of these, each a hundred thousand times."""
    return f"{len(action)}:{action}{len(destination)}:{destination}{len(goal)}:{goal}"
