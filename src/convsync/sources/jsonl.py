"""JSON lines as a source: one object a line; what lies deeper is named by a dotted path (`contact.email`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import orjson

from convsync.model import BadRow
from convsync.sources.fields import FIELDS, Rows
from convsync.sources.files import FileSource, Reading

_EXACT_INTEGERS = 2**63


class JsonlSource(FileSource):
    """A key that an object lacks is an empty cell. A last line that does not parse and has no end is left for later."""

    _newline = "\n"

    def _rows(self, stream: IO[str], reading: Reading) -> tuple[Rows, Iterator[Sequence[Any]]]:
        paths = tuple(dict.fromkeys((*self._map.named(), *FIELDS)))
        rows = self._map.compile(self._map.resolve(paths, reading.part), paths)
        return rows, self._objects(stream, _getter(paths), reading)

    def _objects(
        self, stream: IO[str], cells_of: Callable[[dict[str, Any]], list[Any]], reading: Reading
    ) -> Iterator[list[Any]]:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if not line.endswith("\n"):
                    reading.unfinished = "its last line is half written"
                    return
                reading.bad.append(self._bad(reading.part, number, f"is not JSON (column {error.colno})"))
                continue
            if not isinstance(found, dict):
                reading.bad.append(self._bad(reading.part, number, "is not a JSON object"))
                continue
            cells = cells_of(found)
            if float in map(type, cells) and any(type(cell) is float and cell >= _EXACT_INTEGERS for cell in cells):
                cells = cells_of(json.loads(line))  # orjson makes floats of integers that need more than 64 bits
            cells.append(number)
            yield cells

    def _bad(self, part: str, line: int, problem: str) -> BadRow:
        return BadRow(self.name, f"{part}:{line}", "row", problem, "Write one JSON object on each line.")


def _getter(paths: Sequence[str]) -> Callable[[dict[str, Any]], list[Any]]:
    plain = [path for path in paths if "." not in path]
    deep = [(place, path.split(".")) for place, path in enumerate(paths) if "." in path]
    if not deep:
        return lambda found: [found.get(path) for path in plain]

    def cells_of(found: dict[str, Any]) -> list[Any]:
        cells = [found.get(path) for path in paths]
        for place, steps in deep:
            value: Any = found
            for step in steps:
                value = value.get(step) if isinstance(value, dict) else None
            cells[place] = value
        return cells

    return cells_of
