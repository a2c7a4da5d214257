"""From what pydantic found to sentences for a person: which key, what is wrong, what to write. Values never appear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from convsync.config.action import GATHERED, TARGETS, ActionSettings
from convsync.config.destination import DESTINATIONS
from convsync.config.source import LATER_TYPES, SOURCES
from convsync.config.values import NOT_YET, suggestion

Key = tuple[str, ...]


class Problem(NamedTuple):
    """One thing to correct."""

    key: Key
    text: str


_SENTENCES = {
    "string_type": "must be text in quotes.",
    "bool_type": "must be true or false, without quotes.",
    "bool_parsing": "must be true or false, without quotes.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_parsing_size": "is too large a number.",
    "int_from_float": "must be a whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "finite_number": "must be a number.",
    "greater_than": "must be more than {gt}.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than_equal": "must be at most {le}.",
    "literal_error": "must be {expected}.",
    "enum": "must be {expected}.",
    "tuple_type": 'must be a list of names, such as ["shop"].',
    "too_short": "must name at least one, or be left out.",
    "path_type": "must be the path of a file, in quotes.",
    "dict_type": "must be a section with keys of its own.",
    "model_type": "must be a section with keys of its own.",
    "model_attributes_type": "must be a section with keys of its own.",
    "value_error": "{error}",
}
"""pydantic's word for a mistake → ours. None of the placeholders ever holds what was written."""


def problems_of(error: ValidationError, root: type[BaseModel], destinations: Iterable[str]) -> list[Problem]:
    """All that `error` holds; `destinations` are the names an action may use as keys."""
    names = list(destinations)
    details = error.errors(include_url=False, include_input=False)
    spoilt = {detail["loc"][:-1] for detail in details}  # what is wrong inside of a list makes it too short as well
    return [
        _problem(detail, root, names)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in spoilt
    ]


def _problem(detail: ErrorDetails, root: type[BaseModel], destinations: list[str]) -> Problem:
    loc = [str(part) for part in detail["loc"]]
    key = _key(loc)
    model = _model_of(loc, root)
    match detail["type"]:
        case "extra_forbidden":
            return Problem(key, f"is not a known key. {suggestion(key[-1], _known(model, destinations))}")
        case "missing":
            return Problem(key, f"is missing. Write {_description(model, key[-1])}.")
        case "union_tag_invalid" | "union_tag_not_found":
            return _which(key, detail.get("ctx", {}).get("tag"))
    sentence = _SENTENCES.get(detail["type"], "is not a value that can stand here.")
    return Problem(key, sentence.format_map(detail.get("ctx", {})))


def _key(loc: list[str]) -> Key:
    """The key as written: without the tags that pydantic puts behind a section whose kind it had to choose."""
    if loc[0] in ("sources", "destinations"):
        return tuple(loc[:2] + loc[3:])
    if loc[0] == "actions" and loc[2:3] == [GATHERED]:
        return tuple(loc[:2] + loc[3:4] + loc[5:])
    return tuple(loc)


def _model_of(loc: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """The model of the section that the last part of `loc` is a key of."""
    match loc:
        case ["sources", _, tag, _, *_]:
            return SOURCES[tag]
        case ["destinations", _, tag, _, *_]:
            return DESTINATIONS[tag]
        case ["actions", _, gathered, _, tag, _, *_] if gathered == GATHERED:
            return TARGETS[tag]
        case ["actions", _, _]:
            return ActionSettings
        case [section, _, *_] if section in root.model_fields:
            inner = root.model_fields[section].annotation
            return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else root
    return root


def _known(model: type[BaseModel], destinations: list[str]) -> list[str]:
    return ["kind", "max_age", *destinations] if model is ActionSettings else list(model.model_fields)


def _description(model: type[BaseModel], key: str) -> str:
    field = model.model_fields.get(key)
    return (field.description if field else None) or "it"


def _which(key: Key, tag: Any) -> Problem:
    """A section whose kind nobody can tell."""
    if key[0] == "sources":
        if tag in LATER_TYPES:
            advice = "Export to a database or a CSV file and read that: sql, csv or jsonl."
            return Problem((*key, "type"), f'"{tag}" {NOT_YET} {advice}')
        return Problem((*key, "type"), _one_of(SOURCES, tag))
    if key[0] == "destinations":
        return Problem((*key, "platform"), _one_of(DESTINATIONS, tag))
    return Problem(key, 'must be a table, such as { goal = "crm_lead" }.')


def _one_of(known: Mapping[str, Any], tag: Any) -> str:
    names = [f'"{name}"' for name in known]
    choice = f"{', '.join(names[:-1])} or {names[-1]}"
    return f"is missing. Write {choice}." if tag is None else f"must be {choice}."
