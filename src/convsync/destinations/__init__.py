"""Where conversions go. A destination is one route into a platform; it knows neither the ledger nor its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

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
    Sought,
    Verdict,
)

if TYPE_CHECKING:
    from convsync.net import Wire


class Route(Protocol):
    """The seam of every destination.

    `convert`, `merge`, `encode` and `preview` are pure: the same input gives the same bytes for ever. `learn`, `send`,
    `poll` and `probe` may use the network and are called from worker threads, several at once up to `in_flight`.
    """

    name: str
    """The section's name in the configuration, part of every key."""
    route: str
    """`google.data_manager`, `yandex.orders`, `vk.pixel` …"""
    door: str = ""
    """Tells the routes of one section apart: empty for its first or only one, `conversions` for Yandex's second."""
    platform: str
    account: str
    on_unknown: OnUnknown
    adjusts: bool
    """Whether a changed value or a refund can be told to the platform under the same identity."""
    snapshots: bool = False
    """Whether each row carries the whole state of its lane, so that `merge` carries identity and contacts forward."""
    reason_per_row: bool
    """Whether the platform ever gives a verdict per row; if not, deliveries end as `accepted`."""
    apart: bool = False
    """Whether rows have to be told apart by their part: one `Group` a request."""
    changes_apart: bool = True
    """Where rows are told apart: whether adjustments are, too, from first tellings."""
    fixed: bool = False
    """Whether what identifies a row at the platform is part of the row, so that `merge` carries it from the first
    telling into each change, and `shift` makes room where two conversions would be one row there."""
    distinct: bool = False
    """Where rows are told apart: whether one request holds each identity only once."""
    least: int = 1
    """How many rows one request must have: fewer wait for more. Only where rows are told apart."""
    titles: bool = False
    """Whether goals are only titles here: what the platform was told under one, it was told under all."""
    passes_contacts: bool = False
    """Whether a request hands contacts on, so that one in doubt must not leave again once somebody in it consents no more."""
    hides_doubt: bool = False
    """Whether the next request may hide one whose outcome is unknown from whoever asks for it: then it waits."""
    goals_together: int | None = None
    """How many goals the rows of one request may have between them; None: any number."""
    batch_rows: int
    in_flight: int
    wire: Wire
    """The engine sets its `before_bytes`, `stop` and `deadline`."""
    request_seconds: float
    """The longest one `send` may take, retries included; a lease must outlast it."""
    max_age: timedelta
    adjust_max_age: timedelta
    first_max_age: timedelta | None = None
    """How old an action may be to open a lane of a route that `snapshots`; None: as `max_age`."""
    link_window: timedelta | None = None
    """How long after a visit or click the platform ties a conversion to it, where it is so short that waiting matters."""
    quarantine: timedelta = timedelta(0)
    """Where an outcome in doubt is asked for: how long a request may still arrive, after which it may be sent again."""

    redacted_is_whole: bool = False
    """Whether a redacted payload can still be sent, its contacts hashed."""

    def convert(self, action: Action, person: Person, target: Any, value: int | None) -> Conversion | Skip:
        """Address `action` to `target`, this destination's part of an `[actions.*]` section; `value` in minor units."""
        ...

    def merge(self, earlier: bytes, later: bytes) -> bytes:
        """The payload of `later`, with what `earlier` (of the same lane or, of `fixed` rows, of the same key) had fixed."""
        return later

    def shift(self, conversion: Conversion) -> Conversion:
        """For a route with `fixed` rows: the nearest row that the platform would tell apart from this one."""
        return conversion

    def tells_more(self, earlier: bytes, later: bytes) -> bool:
        """For a route that `snapshots`: whether `later` says of whom or what it cost, where value and status are the same,
        something that `earlier` did not."""
        return False

    def learn(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """Find out, once, what encoding needs and only the platform knows (a time zone). Returns what to remember."""
        return known

    def redact(self, payload: bytes) -> bytes:
        """A payload that was planned as `clear` without its contact, once nothing more is to be sent with it."""
        return payload

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The body of one request, rows in the order given. `token` names the batch where the platform can keep it."""
        ...

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        """What `encode` would send, one readable object a row, for `sync --dry-run --payloads`."""
        ...

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        """Send one request and read the answer: one outcome a row. Raises NotSent, Unclear or Halted (errors.py)."""
        ...

    def validate(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer | None:
        """Let the platform check what `send` would send, without taking it; None where it offers no such thing."""
        return None

    def poll(self, ref: str, rows: int, age: timedelta) -> Answer:
        """Ask what became of an accepted request. `default` ACCEPTED with `poll_in` means: not yet."""
        return Answer(Outcome(Verdict.ACCEPTED))

    def find(self, sought: Sought) -> Answer | None:
        """Ask whether a request has arrived: what `send` would have answered, or None.

        For a route whose `on_unknown` is ASK.
        """
        return None

    def probe(self) -> list[Finding]:
        """`check --online`: look, without sending a conversion, whether an upload could work."""
        return []

    def close(self) -> None:
        self.wire.close()
