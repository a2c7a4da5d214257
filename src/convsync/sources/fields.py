"""From a row to an Action: which column is which field, compiled once, then applied to every row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import time, tzinfo
from typing import Any, NamedTuple, TypedDict

from convsync.errors import SourceError
from convsync.model import Action, BadRow
from convsync.normalise import is_currency
from convsync.sources import values
from convsync.sources.values import Unreadable

PLACE = {name: place for place, name in enumerate(Action._fields)}
FIELDS = Action._fields[1:]
CONTACTS = frozenset(("email", "phone", "first_name", "last_name"))
OWN_IDS = frozenset(("external_id", "order_id", "user_id", "campaign_id"))
PLATFORM_IDS = frozenset(
    ("gclid", "gbraid", "wbraid", "yclid", "rb_clickid", "ym_client_id", "vk_user_id", "ga_client_id")
)
TIMES = frozenset(("occurred_at", "updated_at", "created_at"))
REQUIRED = ("external_id", "action", "occurred_at")

_VALUE, _CURRENCY, _EXTERNAL_ID = PLACE["value"], PLACE["currency"], PLACE["external_id"]

Convert = Callable[[Any], Any]


class FieldOptions(TypedDict, total=False):
    """What every source lets the operator say about its columns. What is constant fills the cells that are empty."""

    id: str | Sequence[str]
    """The column of the external id. Several are joined by a colon (a colon or backslash inside gets a backslash)."""
    fields: Mapping[str, str]
    """Our field → their column; an empty column name means that a column named as ours is not to be read."""
    timezone: tzinfo | None
    time_of_day: time | None
    occurred_format: str | None
    decimal_comma: bool
    currency: str | None
    action: str | None
    statuses: Mapping[str, str]
    """Their status word → ours."""
    consent_ad_user_data: bool | None
    consent_ad_personalization: bool | None


class Layout(NamedTuple):
    """Where a mapping found its fields among the columns of one table or file."""

    fields: dict[str, str]
    ids: tuple[str, ...]

    def columns(self) -> tuple[str, ...]:
        """Each column that is read, once, the id first."""
        return tuple(dict.fromkeys((*self.ids, *self.fields.values())))

    def private(self) -> frozenset[str]:
        """The columns that hold a contact, whatever else they are mapped to."""
        return frozenset(column for field, column in self.fields.items() if field in CONTACTS)


class FieldMap:
    """The mapping of one source as the operator wrote it."""

    def __init__(self, source: str, options: FieldOptions) -> None:
        unknown = sorted(options.keys() - FieldOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"source {source}: unexpected option {unknown[0]}")
        self.source = source
        self._options = options
        self._named = dict(options.get("fields") or {})
        ids = options.get("id") or self._named.get("external_id") or "external_id"
        self.ids = (ids,) if isinstance(ids, str) else tuple(ids)
        self._check()

    def _check(self) -> None:
        for field in self._named:
            if field not in FIELDS:
                raise SourceError(
                    f"[sources.{self.source}.fields]: {field} is no field of an action.", nearest(field, FIELDS)
                )
        currency = self._options.get("currency")
        if currency is not None and not is_currency(currency):
            raise SourceError(f"[sources.{self.source}] currency: {currency} is not a currency of ISO 4217.")
        wrong = set((self._options.get("statuses") or {}).values()) - set(values.STATUS_WORDS.values())
        if wrong:
            allowed = ", ".join(dict.fromkeys(values.STATUS_WORDS.values()))
            raise SourceError(
                f"[sources.{self.source}] statuses: {sorted(wrong)[0]} is no status.", f"Allowed: {allowed}."
            )

    def named(self) -> tuple[str, ...]:
        """Columns that the operator named, and which must therefore exist."""
        return tuple(dict.fromkeys((*self.ids, *(column for column in self._named.values() if column))))

    @staticmethod
    def find(name: str, columns: Sequence[str], where: str) -> str:
        """The column as the source spells it; letter case counts only where it tells two columns apart."""
        if name in columns:
            return name
        alike = [column for column in columns if column.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        raise SourceError(f"{where} has no column {name}.", nearest(name, columns))

    def resolve(self, columns: Sequence[str], where: str) -> Layout:
        """Find every named column among `columns`, and those that are named as our fields are."""
        found = {column: self.find(column, columns, where) for column in self.named()}
        fields = {field: field for field in FIELDS if field in columns and field not in self._named}
        fields.update({field: found[column] for field, column in self._named.items() if column})
        fields.pop("external_id", None)
        self._complete(fields, columns, where)
        return Layout(fields, tuple(found[column] for column in self.ids))

    def _complete(self, fields: Mapping[str, str], columns: Sequence[str], where: str) -> None:
        constant = {"action"} if self._options.get("action") else set()
        for field in REQUIRED[1:]:
            if field not in fields and field not in constant:
                advice = f"Name it under [sources.{self.source}.fields]. {nearest(field, columns)}".strip()
                raise SourceError(f"{where} has no column for {field}.", advice)

    def compile(self, layout: Layout, columns: Sequence[str]) -> Rows:
        """A reader of rows whose cells stand in the order of `columns`."""
        at = {column: place for place, column in reversed(list(enumerate(columns)))}
        texts, others = [], []
        for field, column in layout.fields.items():
            convert = self._converter(field)
            if convert is None:
                texts.append((at[column], PLACE[field]))
            else:
                others.append((at[column], PLACE[field], convert))
        template: list[Any] = list(Action(self.source, None, None, None))  # type: ignore[arg-type]
        for field in ("action", "consent_ad_user_data", "consent_ad_personalization"):
            template[PLACE[field]] = self._options.get(field)
        private = layout.private()
        hidden = frozenset(PLACE[field] for field, column in layout.fields.items() if column in private)
        if private.intersection(layout.ids):
            hidden |= {_EXTERNAL_ID}
        ids = tuple(at[column] for column in layout.ids)
        return Rows(self.source, template, ids, texts, others, self._options.get("currency"), hidden)

    def _converter(self, field: str) -> Convert | None:
        """None is plain text, which `Rows` reads without a call."""
        options = self._options
        if field in OWN_IDS:
            return values.own_id
        if field in PLATFORM_IDS:
            return values.platform_id
        if field in TIMES:
            return values.time_reader(
                options.get("timezone"), options.get("time_of_day"), options.get("occurred_format")
            )
        if field.startswith("consent_"):
            return values.consent
        if field == "status":
            return values.status_reader(options.get("statuses") or {})
        if field == "value":
            return values.money_reader(decimal_comma=options.get("decimal_comma", False))
        return values.currency if field == "currency" else None


class Rows:
    """Turns rows into actions: one list to fill per action, no dictionary, a call only where text is not enough."""

    def __init__(
        self,
        source: str,
        template: list[Any],
        ids: tuple[int, ...],
        texts: list[tuple[int, int]],
        others: list[tuple[int, int, Convert]],
        currency: str | None,
        hidden: frozenset[int],
    ) -> None:
        self.source = source
        self.ids = ids
        self.id_is_private = _EXTERNAL_ID in hidden
        self._template, self._texts, self._others = template, texts, others
        self._currency, self._hidden = currency, hidden
        self._id_of = _only_id(ids[0]) if len(ids) == 1 else _joined_id(ids)

    def read(
        self, rows: Iterable[Sequence[Any]], where: Callable[[Sequence[Any]], str]
    ) -> tuple[list[Action], list[BadRow]]:
        """Actions, and the rows that could not become one; `where` is asked only about the latter."""
        actions: list[Action] = []
        bad: list[BadRow] = []
        template, texts, others, id_of, currency = (
            self._template,
            self._texts,
            self._others,
            self._id_of,
            self._currency,
        )
        new, place = tuple.__new__, 0
        for row in rows:
            cells = template.copy()
            try:
                place = 1
                cells[1] = id_of(row)
                for at, place in texts:
                    cell = row[at]
                    if type(cell) is str:
                        cell = cell.strip()
                        if cell:
                            cells[place] = cell
                    elif cell is not None:
                        cells[place] = values.text(cell)
                for at, place, convert in others:
                    cell = row[at]
                    if cell is not None:
                        cell = convert(cell)
                        if cell is not None:
                            cells[place] = cell
            except Unreadable as error:
                bad.append(self._bad(place, error, where(row)))
                continue
            if cells[1] is None or cells[2] is None or cells[3] is None:
                bad.append(self._missing(cells, where(row)))
                continue
            if currency is not None and cells[_CURRENCY] is None and cells[_VALUE] is not None:
                cells[_CURRENCY] = currency
            actions.append(new(Action, cells))
        return actions, bad

    def _bad(self, place: int, error: Unreadable, where: str) -> BadRow:
        field = Action._fields[place]
        if place in self._hidden:
            return BadRow(
                self.source, where, field, "cannot be read (its column holds a contact: not shown)", error.advice
            )
        return BadRow(self.source, where, field, error.problem, error.advice)

    def _missing(self, cells: list[Any], where: str) -> BadRow:
        field = next(field for field in REQUIRED if cells[PLACE[field]] is None)
        return BadRow(self.source, where, field, "is missing", "An action needs an id, a name and a time.")


def _only_id(at: int) -> Convert:
    own_id = values.own_id

    def read(row: Sequence[Any]) -> str | None:
        cell = row[at]
        return None if cell is None else own_id(cell)

    return read


def _joined_id(places: tuple[int, ...]) -> Convert:
    """No two different tuples of ids may read alike, so a colon inside a part is escaped."""

    def read(row: Sequence[Any]) -> str | None:
        parts = []
        for at in places:
            part = None if row[at] is None else values.own_id(row[at])
            if part is None:
                return None
            parts.append(part.replace("\\", "\\\\").replace(":", "\\:"))
        return ":".join(parts)

    return read


def nearest(name: str, known: Iterable[str]) -> str:
    """One sentence that leads from a wrong name to a right one."""
    lower = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), lower, n=1, cutoff=0.6)
    if found:
        return f"Did you mean {lower[found[0]]}?"
    names = list(lower.values())
    return f"There are: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}." if names else ""
