"""From a row to an Action: which column is which field, compiled once, then applied to every row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import time, tzinfo
from itertools import repeat
from typing import Any, Final, NamedTuple, TypedDict

from convsync.errors import SourceError
from convsync.model import Action, BadRow
from convsync.normalise import is_currency
from convsync.sources import values
from convsync.sources.carts import cart_reader
from convsync.sources.columns import (
    Column,
    Convert,
    amounts,
    each,
    local_times,
    own_ids,
    platform_ids,
    texts,
    words,
)
from convsync.sources.values import Unreadable

PLACE = {name: place for place, name in enumerate(Action._fields)}
VARIABLES: Final = "custom_variables"
FIELDS = tuple(name for name in Action._fields[1:] if name != VARIABLES)
CONTACTS = frozenset(("email", "phone", "first_name", "last_name"))
OWN_IDS = frozenset(("external_id", "order_id", "user_id", "campaign_id"))
PLATFORM_IDS = frozenset(
    ("gclid", "gbraid", "wbraid", "yclid", "rb_clickid", "ym_client_id", "vk_user_id", "ga_client_id")
)
TIMES = frozenset(("occurred_at", "updated_at", "created_at", "call_start_at"))
REQUIRED = ("external_id", "action", "occurred_at")

_VALUE, _CURRENCY, _EXTERNAL_ID = PLACE["value"], PLACE["currency"], PLACE["external_id"]
_VARIABLES, _CART = PLACE[VARIABLES], PLACE["cart"]
_REQUIRED = tuple(PLACE[field] for field in REQUIRED)


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
    custom_variables: Mapping[str, str]
    """Name of a custom variable at Google → their column."""
    consent_ad_user_data: bool | None
    consent_ad_personalization: bool | None


class Layout(NamedTuple):
    """Where a mapping found its fields among the columns of one table or file."""

    fields: dict[str, str]
    ids: tuple[str, ...]
    variables: dict[str, str]

    def columns(self) -> tuple[str, ...]:
        """Each column that is read, once, the id first."""
        return tuple(dict.fromkeys((*self.ids, *self.fields.values(), *self.variables.values())))

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
        self._variables = dict(options.get(VARIABLES) or {})
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
        meant: dict[str, tuple[str, str]] = {}
        for word, meaning in (self._options.get("statuses") or {}).items():
            other, before = meant.setdefault(values.same_word(word), (word, meaning))
            if before != meaning:
                raise SourceError(
                    f"[sources.{self.source}] statuses: {other} and {word} are one word, and mean two things.",
                    "Keep one of them: letter case, and ё or е, make no difference.",
                )

    def named(self) -> tuple[str, ...]:
        """Columns that the operator named, and which must therefore exist."""
        columns = (column for column in self._named.values() if column)
        return tuple(dict.fromkeys((*self.ids, *columns, *self._variables.values())))

    def column(self, field: str) -> str:
        """The column of a field as the operator calls it."""
        return self._named.get(field) or field

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
        variables = {name: found[column] for name, column in self._variables.items()}
        layout = Layout(fields, tuple(found[column] for column in self.ids), variables)
        self._no_contacts(layout)
        return layout

    def _no_contacts(self, layout: Layout) -> None:
        """A custom variable leaves in clear, and the ledger keeps it: it may not read a contact's column."""
        private = layout.private()
        for name, column in layout.variables.items():
            if column in private:
                raise SourceError(
                    f"[sources.{self.source}.{VARIABLES}]: {name} reads {column}, which holds a contact.",
                    "Contacts are never sent in clear. Choose a column that says nothing of the person.",
                )

    def _complete(self, fields: Mapping[str, str], columns: Sequence[str], where: str) -> None:
        constant = {"action"} if self._options.get("action") else set()
        for field in REQUIRED[1:]:
            if field not in fields and field not in constant:
                advice = f"Name it under [sources.{self.source}.fields]. {nearest(field, columns)}".strip()
                raise SourceError(f"{where} has no column for {field}.", advice)

    def compile(self, layout: Layout, columns: Sequence[str]) -> Rows:
        """A reader of rows whose cells stand in the order of `columns`."""
        at = {column: place for place, column in reversed(list(enumerate(columns)))}
        plain: list[_Field] = []
        others: list[_Field] = []
        for field, column in layout.fields.items():
            convert, read = self._readers(field)
            group = plain if convert is values.text else others
            group.append(_Field(at[column], PLACE[field], convert, read))
        template: list[Any] = list(Action(self.source, None, None, None))  # type: ignore[arg-type]
        for field in ("action", "consent_ad_user_data", "consent_ad_personalization"):
            template[PLACE[field]] = self._options.get(field)
        private = layout.private()
        hidden = frozenset(PLACE[field] for field, column in layout.fields.items() if column in private)
        if private.intersection(layout.ids):
            hidden |= {_EXTERNAL_ID}
        ids = tuple(at[column] for column in layout.ids)
        variables = {name: at[column] for name, column in layout.variables.items()}
        return Rows(self.source, template, ids, [*plain, *others], self._options.get("currency"), hidden, variables)

    def _readers(self, field: str) -> tuple[Convert, Column]:
        """The careful reader of a cell of this field, and the quick one of a whole column."""
        if field in OWN_IDS:
            return values.own_id, own_ids
        if field in PLATFORM_IDS:
            return values.platform_id, platform_ids
        if field in TIMES:
            return self._time_readers()
        if field in ("value", "cost", "cart"):
            money = values.money_reader(decimal_comma=self._options.get("decimal_comma", False))
            cart = cart_reader(money)
            return (cart, each(cart)) if field == "cart" else (money, amounts(money))
        word = self._word_reader(field)
        return (word, words(word)) if word is not None else (values.text, texts)

    def _time_readers(self) -> tuple[Convert, Column]:
        options = self._options
        zone, pattern = options.get("timezone"), options.get("occurred_format")
        moment = values.time_reader(zone, options.get("time_of_day"), pattern)
        return moment, local_times(moment, zone) if pattern is None else each(moment)

    def _word_reader(self, field: str) -> Convert | None:
        if field.startswith("consent_"):
            return values.consent
        if field == "status":
            return values.status_reader(self._options.get("statuses") or {})
        if field == "currency":
            return values.currency
        if field == "customer_type":
            return values.customer_type
        return values.text if field == "action" else None


class _Field(NamedTuple):
    """Where a field stands in a row and in an action, and its two readers."""

    at: int
    place: int
    convert: Convert
    column: Column


class Rows:
    """Turns rows into actions, a page at a time and column by column: a row alone pays for each of its cells.

    A row that this does not make an action of is read again by itself, carefully, to say what is wrong with it.
    """

    def __init__(
        self,
        source: str,
        template: list[Any],
        ids: tuple[int, ...],
        fields: list[_Field],
        currency: str | None,
        hidden: frozenset[int],
        variables: Mapping[str, int],
    ) -> None:
        self.source = source
        self.ids = ids
        self.id_is_private = _EXTERNAL_ID in hidden
        self._template, self._fields = template, fields
        self._currency, self._hidden, self._variables = currency, hidden, variables

    def read(
        self, rows: Sequence[Sequence[Any]], where: Callable[[Sequence[Any]], str]
    ) -> tuple[list[Action], list[BadRow]]:
        """Actions, and the rows that could not become one; `where` is asked only about the latter."""
        if not rows:
            return [], []
        found, doubtful = self._columns(list(zip(*rows, strict=True)))
        constant = [repeat(value) for value in self._template]
        cells = zip(*(found.get(place, value) for place, value in enumerate(constant)), strict=False)
        actions = list(map(tuple.__new__, repeat(Action), cells))
        if not doubtful:
            return actions, []
        made = [self.one(row, where) if at in doubtful else actions[at] for at, row in enumerate(rows)]
        return [one for one in made if isinstance(one, Action)], [one for one in made if isinstance(one, BadRow)]

    def one(self, row: Sequence[Any], where: Callable[[Sequence[Any]], str]) -> Action | BadRow:
        """One row, carefully, cell by cell: what it is, or the first thing that is wrong with it."""
        cells, place = self._template.copy(), _EXTERNAL_ID
        try:
            cells[place] = self._id(row)
            for at, place, convert, _ in self._fields:
                cell = None if row[at] is None else convert(row[at])
                cells[place] = cells[place] if cell is None else cell
            place = _VARIABLES
            cells[place] = self._pairs(row)
        except Unreadable as error:
            return self._bad(place, error, where(row))
        if None in (cells[place] for place in _REQUIRED):
            return self._missing(cells, where(row))
        if cells[_CURRENCY] is None and (cells[_VALUE] is not None or cells[_CART] is not None):
            cells[_CURRENCY] = self._currency
        return Action(*cells)

    def _columns(self, cells: list[tuple[Any, ...]]) -> tuple[dict[int, list[Any]], set[int]]:
        """What was read, by place in an action, and the rows with a cell that is unreadable or missing."""
        doubtful: set[int] = set()
        found = {_EXTERNAL_ID: self._id_column(cells, doubtful)}
        for field in self._fields:
            column = _readable(field.column, field.convert, cells[field.at], doubtful)
            default = self._template[field.place]
            found[field.place] = column if default is None else [default if c is None else c for c in column]
        for place in _REQUIRED:
            if place in found and not all(found[place]):  # a time or text that is not empty, so only None is false
                doubtful.update(at for at, cell in enumerate(found[place]) if cell is None)
        if self._variables:
            found[_VARIABLES] = self._variable_column(cells, doubtful)
        worth = _worth(found)
        if self._currency is not None and worth is not None:
            written = zip(found.get(_CURRENCY, repeat(None)), worth, strict=False)
            found[_CURRENCY] = [self._currency if c is None and v is not None else c for c, v in written]
        return found, doubtful

    def _variable_column(self, cells: list[tuple[Any, ...]], doubtful: set[int]) -> list[Any]:
        found = [_readable(texts, values.text, cells[at], doubtful) for at in self._variables.values()]
        names = tuple(self._variables)
        return [
            tuple((name, word) for name, word in zip(names, row, strict=True) if word)
            for row in zip(*found, strict=True)
        ]

    def _pairs(self, row: Sequence[Any]) -> tuple[tuple[str, str], ...]:
        """The same of one row: custom variables that have a value, as an action holds them."""
        found = []
        for name, at in self._variables.items():
            try:
                word = None if row[at] is None else values.text(row[at])
            except Unreadable as error:
                raise Unreadable(f"({name}) {error.problem}", error.advice) from None
            found += [(name, word)] if word else []
        return tuple(found)

    def _id_column(self, cells: list[tuple[Any, ...]], doubtful: set[int]) -> list[Any]:
        if len(self.ids) == 1:
            return _readable(own_ids, values.own_id, cells[self.ids[0]], doubtful)
        parts = list(zip(*(cells[at] for at in self.ids), strict=True))
        return _readable(each(_joined_id), _joined_id, parts, doubtful)

    def _id(self, row: Sequence[Any]) -> str | None:
        if len(self.ids) > 1:
            return _joined_id([row[at] for at in self.ids])
        cell = row[self.ids[0]]
        return None if cell is None else values.own_id(cell)

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


def _worth(found: Mapping[int, list[Any]]) -> list[Any] | None:
    """Whatever of each row is money: its value, else its cart. None if the source tells neither."""
    amounts, carts = found.get(_VALUE), found.get(_CART)
    if amounts is None or carts is None:
        return carts if amounts is None else amounts
    return [cart if amount is None else amount for amount, cart in zip(amounts, carts, strict=True)]


def _readable(column: Column, convert: Convert, cells: Sequence[Any], doubtful: set[int]) -> list[Any]:
    """A column, with None for each cell that cannot be read, whose row is then doubtful."""
    try:
        return column(cells)
    except Unreadable:
        found: list[Any] = [None] * len(cells)
        for at, cell in enumerate(cells):
            try:
                found[at] = None if cell is None else convert(cell)
            except Unreadable:
                doubtful.add(at)
        return found


def _joined_id(cells: Sequence[Any]) -> str | None:
    """No two different tuples of ids may read alike, so a colon inside a part is escaped."""
    parts = []
    for cell in cells:
        part = None if cell is None else values.own_id(cell)
        if part is None:
            return None
        parts.append(part.replace("\\", "\\\\").replace(":", "\\:"))
    return ":".join(parts)


def nearest(name: str, known: Iterable[str]) -> str:
    """One sentence that leads from a wrong name to a right one."""
    lower = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), lower, n=1, cutoff=0.6)
    if found:
        return f"Did you mean {lower[found[0]]}?"
    names = list(lower.values())
    return f"There are: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}." if names else ""
