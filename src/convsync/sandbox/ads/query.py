"""The part of Google's query language that the sandbox understands: SELECT … FROM … WHERE … AND … ORDER BY … LIMIT."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from convsync.sandbox.ads.desk import refused

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'[^']*'|"[^"]*")|(?P<sign>>=|<=|!=|[=<>(),])|(?P<word>[A-Za-z0-9_.+-]+)|(?P<bad>\S))"""
)
_NAME = re.compile(r"[a-z_]+(\.[a-z0-9_]+)*")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NOT_HERE = {"LIKE", "NOT", "DURING", "CONTAINS", "IS", "REGEXP_MATCH", "OR"}


@dataclass(frozen=True)
class Condition:
    field: str
    sign: str
    """= != >= <= > < IN BETWEEN"""
    values: list[str]

    def holds(self, row: dict[str, Any]) -> bool:
        value = row.get(self.field)
        if value is None:
            return False
        asked = [_like(value, text, self.field) for text in self.values]
        if self.sign == "IN":
            return value in asked
        if self.sign == "BETWEEN":
            return bool(asked[0] <= value <= asked[1])
        return _COMPARE[self.sign](value, asked[0])


@dataclass
class Query:
    fields: list[str]
    resource: str
    conditions: list[Condition] = field(default_factory=list)
    order: list[tuple[str, bool]] = field(default_factory=list)
    """(field, descending)"""
    limit: int | None = None

    def named(self) -> Iterator[str]:
        yield from self.fields
        yield from (condition.field for condition in self.conditions)
        yield from (name for name, _ in self.order)

    def days(self) -> tuple[date | None, date | None]:
        """The first and the last day that the conditions on segments.date leave; None = open."""
        first: date | None = None
        last: date | None = None
        for condition in self.conditions:
            if condition.field != "segments.date":
                continue
            found = [_day(text) for text in condition.values]
            if condition.sign in ("=", "BETWEEN", ">=") and (first is None or found[0] > first):
                first = found[0]
            if condition.sign in ("=", "BETWEEN", "<=") and (last is None or found[-1] < last):
                last = found[-1]
        return first, last

    def run(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows that meet the conditions, with the selected fields only; metrics are summed over equal rows."""
        kept = (row for row in rows if all(condition.holds(row) for condition in self.conditions))
        if self.order:
            wanted = self._grouped(kept, [*self.fields, *(n for n, _ in self.order if n not in self.fields)])
            for name, descending in reversed(self.order):
                wanted = sorted(wanted, key=lambda row: (row[name] is not None, row[name]), reverse=descending)
        else:
            wanted = self._grouped(kept, self.fields)
        for number, row in enumerate(wanted):
            if self.limit is not None and number >= self.limit:
                return
            yield {name: row[name] for name in self.fields}

    def _grouped(self, rows: Iterable[dict[str, Any]], names: list[str]) -> Iterable[dict[str, Any]]:
        metrics = [name for name in names if name.startswith("metrics.")]
        if not metrics:
            return ({name: row.get(name) for name in names} for row in rows)
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            key = tuple(row.get(name) for name in names if name not in metrics)
            if key not in groups:
                groups[key] = {name: row.get(name) for name in names}
                continue
            for name in metrics:
                groups[key][name] += row.get(name)
        return groups.values()


class _Words:
    """The tokens of a query, taken one after another."""

    def __init__(self, text: str) -> None:
        self._left: list[str] = []
        for found in _TOKEN.finditer(text.strip()):
            if found["bad"]:
                error = "STRING_NOT_TERMINATED" if found["bad"] in "'\"" else "BAD_SYMBOL"
                raise refused(f"QueryError.{error}", f"Error in query: unexpected input {found['bad']}.")
            self._left.append(found["text"] or found["sign"] or found["word"])
        self._left.reverse()

    def peek(self) -> str:
        return self._left[-1] if self._left else ""

    def take(self) -> str:
        if not self._left:
            raise refused("QueryError.UNEXPECTED_END_OF_QUERY", "Error in query: unexpected end of query.")
        return self._left.pop()

    def took(self, *words: str) -> bool:
        """Take these words if they come next."""
        ahead = self._left[::-1][: len(words)]
        if [word.upper() for word in ahead] != list(words):
            return False
        del self._left[len(self._left) - len(words) :]
        return True

    def name(self) -> str:
        word = self.take()
        if not _NAME.fullmatch(word):
            raise refused("QueryError.BAD_FIELD_NAME", f"Error in query: invalid field name '{word}'.")
        return word

    def value(self) -> str:
        word = self.take()
        if word in _COMPARE or word in ("(", ")", ","):
            raise refused("QueryError.BAD_VALUE", f"Error in query: unexpected input {word}.")
        return word[1:-1] if word[0] in "'\"" else word


def parse(text: str) -> Query:
    words = _Words(text)
    if not words.took("SELECT"):
        raise refused("QueryError.EXPECTED_SELECT", "Error in query: SELECT expected.")
    fields = _list(words, words.name)
    if not words.took("FROM"):
        raise refused("QueryError.EXPECTED_FROM", "Error in query: FROM expected.")
    query = Query(list(dict.fromkeys(fields)), words.name())
    if words.took("WHERE"):
        query.conditions.append(_condition(words))
        while words.took("AND"):
            query.conditions.append(_condition(words))
    if words.took("ORDER", "BY"):
        query.order = _list(words, lambda: _order(words))
    if words.took("LIMIT"):
        limit = words.take()
        if not limit.isdigit() or int(limit) < 1:
            raise refused("QueryError.BAD_LIMIT_VALUE", "Error in query: LIMIT must be a positive number.")
        query.limit = int(limit)
    if words.took("PARAMETERS"):
        raise refused("QueryError.BAD_PARAMETER_NAME", "PARAMETERS is not emulated by the sandbox.")
    if words.peek():
        raise refused("QueryError.UNEXPECTED_INPUT", f"Error in query: unexpected input {words.peek()}.")
    return query


def _list(words: _Words, one: Callable[[], Any]) -> list[Any]:
    found = [one()]
    while words.took(","):
        found.append(one())
    return found


def _order(words: _Words) -> tuple[str, bool]:
    name = words.name()
    descending = words.took("DESC")
    if not descending:
        words.took("ASC")
    return name, descending


def _condition(words: _Words) -> Condition:
    name, sign = words.name(), words.take().upper()
    if sign in _COMPARE:
        return Condition(name, sign, [words.value()])
    if sign == "BETWEEN":
        first = words.value()
        if not words.took("AND"):
            raise refused("QueryError.EXPECTED_AND", "Error in query: AND expected.")
        return Condition(name, sign, [first, words.value()])
    if sign == "IN":
        if not words.took("("):
            raise refused("QueryError.EXPECTED_LIST", "Error in query: a list is expected.")
        values = _list(words, words.value)
        if not words.took(")"):
            raise refused("QueryError.UNEXPECTED_INPUT", "Error in query: ) expected.")
        return Condition(name, sign, values)
    said = (
        f"{sign} is not emulated by the sandbox." if sign in _NOT_HERE else f"Error in query: invalid operator {sign}."
    )
    raise refused("QueryError.BAD_OPERATOR", said)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise refused("QueryError.INVALID_DATE_FORMAT", f"The date '{text}' is not YYYY-MM-DD.") from None


def _like(value: Any, text: str, name: str) -> Any:
    """A value of a query, as the type that the field has."""
    if isinstance(value, bool):
        if text.upper() not in ("TRUE", "FALSE"):
            raise refused("QueryError.BAD_VALUE", f"The value of {name} must be TRUE or FALSE.")
        return text.upper() == "TRUE"
    if isinstance(value, int):
        if not re.fullmatch(r"-?\d+", text):
            raise refused("QueryError.BAD_NUMBER", f"The value of {name} must be a number.")
        return int(text)
    return text
