"""CSV files as a source: streamed, with the cells of every row counted and every physical line accounted for."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any, Unpack

from convsync.errors import SourceError
from convsync.model import BadRow
from convsync.sources.fields import Rows
from convsync.sources.files import FileOptions, FileSource, Reading

_DELIMITERS = {";": ";", "\t": r"\t", ",": ",", "|": "|"}
_OPEN_END = "its last line has no end, and it changed less than a minute ago"


class CsvSource(FileSource):
    """The first row names the columns. Rows are told apart by their id, never by their place in the file."""

    def __init__(self, name: str, *, delimiter: str = ",", **options: Unpack[FileOptions]) -> None:
        super().__init__(name, **options)
        self._delimiter = delimiter

    def _rows(self, stream: IO[str], reading: Reading) -> tuple[Rows, Iterator[Sequence[Any]]]:
        tail = _Tail(stream)
        reader = csv.reader(tail, delimiter=self._delimiter, strict=True)
        header = self._header(reader, reading.part)
        layout = self._map.resolve(header, f"{reading.part} (line {reader.line_num})")
        return self._map.compile(layout, header), self._records(reader, tail, len(header), reading)

    def _header(self, reader: Iterator[list[str]], part: str) -> list[str]:
        try:
            cells = next((cells for cells in reader if cells), None)
        except csv.Error as error:
            raise SourceError(f"{part}: its first line is not CSV: {error}.") from None
        if cells is None:
            raise SourceError(f"{part} is empty: it has no line with the names of its columns.")
        header = [cell.strip().removeprefix("\ufeff") for cell in cells]
        twice = [name for name, count in Counter(header).items() if count > 1 and name]
        if twice:
            raise SourceError(f"{part}: two columns are named {twice[0]}.", "Give each column its own name.")
        if len(header) == 1:
            self._check_delimiter(header[0], part)
        return header

    def _check_delimiter(self, line: str, part: str) -> None:
        for other, written in _DELIMITERS.items():
            if other in line and other != self._delimiter:
                raise SourceError(f"{part}: its first line has a single column.", f'Set delimiter = "{written}".')

    def _records(self, reader: Any, tail: _Tail, width: int, reading: Reading) -> Iterator[list[Any]]:
        """Rows of the right width, each with the line where it begins as its last cell."""
        first = reader.line_num + 1
        while True:
            try:
                for cells in reader:
                    if tail.open and not reading.quiet:
                        break
                    if len(cells) == width:
                        cells.append(first)
                        yield cells
                    elif cells:
                        reading.bad.append(self._wrong_width(reading.part, first, len(cells), width))
                    first = reader.line_num + 1
            except csv.Error as error:
                if not tail.open or reading.quiet:
                    reading.bad.append(self._not_csv(reading.part, first, reader.line_num, error))
                    first = reader.line_num + 1
                    continue
            if tail.open and not reading.quiet:
                reading.unfinished = _OPEN_END
            return

    def _wrong_width(self, part: str, line: int, cells: int, width: int) -> BadRow:
        problem = f"has {cells} cells where the header has {width}"
        return BadRow(self.name, f"{part}:{line}", "row", problem, "Quote a cell that holds the delimiter.")

    def _not_csv(self, part: str, first: int, last: int, error: csv.Error) -> BadRow:
        lines = f"line {first}" if last <= first else f"lines {first} to {last}"
        problem = f"is not CSV: {lines} cannot be taken apart ({error})"
        return BadRow(self.name, f"{part}:{first}", "row", problem, "Double each quotation mark inside a quoted cell.")


class _Tail:
    """The lines of a stream; `open` tells that the last one handed out has no end, which only the very last can."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.open = False

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            if line[-1] not in "\r\n":
                self.open = True
            yield line
