"""Where actions come from. A source reads; it knows neither the ledger nor a destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from convsync.model import Action, BadRow, Finding


class Window(NamedTuple):
    """The half-open span `since <= occurred_at < until` of a backfill."""

    since: datetime
    until: datetime


class Page(NamedTuple):
    """What one transaction of the ledger takes in: actions, rows that could not become one, and how far this page got.

    `cursor` is `(part, value)`: a source may keep several marks (one a file), each under its own `part` (empty for a
    source with one). It is stored with the actions of the page or not at all. `findings` concern the source as a whole.
    """

    actions: list[Action]
    bad: list[BadRow]
    cursor: tuple[str, str] | None = None
    findings: tuple[Finding, ...] = ()


class Source(Protocol):
    """The seam of every source."""

    name: str

    def read(self, cursors: Mapping[str, str], window: Window | None = None) -> Iterator[Page]:
        """Yield what is new since `cursors` (part → value as yielded before), with the source's overlap, page by page.

        With a `window` the cursors are neither used nor yielded. Raises `SourceUnavailable` when another try may help
        and `SourceError` when somebody has to change something; pages yielded before that stand.
        """
        ...

    def check(self) -> list[Finding]:
        """Look, without storing anything, whether this source can be read; an empty list is a good answer."""
        ...
