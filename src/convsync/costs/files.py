"""Spend from a CSV file, whatever its columns are called. A row that cannot be trusted is told, never guessed.

Needed are the columns day, platform, amount, currency and at least one of campaign and campaign_id; account, clicks,
impressions and vat_included may be there; any other column is ignored. Good rows stand even when others are bad.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, NoReturn

from convsync.errors import SourceError, UsageError
from convsync.model import BadRow, Spend
from convsync.normalise import is_currency, minor_units

HEADERS: Mapping[str, tuple[str, ...]] = {
    "day": ("day", "date", "дата", "день"),
    "platform": ("platform", "площадка", "платформа"),
    "account": ("account", "account id", "customer id", "client login", "аккаунт", "кабинет"),
    "campaign": ("campaign", "campaign name", "кампания", "название кампании", "имя кампании"),
    "campaign_id": ("campaign id", "id кампании", "номер кампании"),
    "amount": ("amount", "cost", "spend", "расход", "расходы", "сумма", "затраты"),
    "currency": ("currency", "currency code", "валюта", "код валюты"),
    "clicks": ("clicks", "клики"),
    "impressions": ("impressions", "показы"),
    "vat_included": ("vat included", "vat", "ндс", "с ндс", "ндс включен"),
}
"""Our column and the headers it is known by; letters and digits are compared, case, blanks and punctuation are not."""

PLATFORMS: Mapping[str, str] = {
    **dict.fromkeys(("google", "google ads", "google adwords", "adwords"), "google"),
    **dict.fromkeys(("yandex", "yandex direct", "direct", "яндекс", "яндекс директ", "директ"), "yandex"),
    **dict.fromkeys(("vk", "vk ads", "vk реклама", "вк", "вк реклама", "вконтакте", "mytarget", "my target"), "vk"),
}

NEEDED = ("day", "platform", "amount", "currency")
DELIMITERS = (",", ";", "\t")
GROUPED = "[0-9]{1,3}(?:[ \u00a0\u2009\u202f][0-9]{3})+|[0-9]+"
AMOUNT = re.compile(rf"(?P<sign>[-\u2212]?)(?P<whole>{GROUPED})(?:(?P<point>[.,])(?P<part>[0-9]+))?")
COUNT = re.compile(GROUPED)
CURRENCY_ADVICE = "Write its ISO code, such as RUB."
DAYS = (
    (re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII), "%Y-%m-%d"),
    (re.compile(r"\d{2}\.\d{2}\.\d{4}", re.ASCII), "%d.%m.%Y"),
)
ROUNDED = re.compile(r"\d+(?:[.,]\d+)?e\+?\d+|\d+[.,]0+", re.ASCII | re.IGNORECASE)
"""What a spreadsheet makes of a long id."""
VAT = {
    **dict.fromkeys(("yes", "true", "1", "да", "с ндс", "включен"), True),
    **dict.fromkeys(("no", "false", "0", "нет", "без ндс", "не включен"), False),
}


class _Line(NamedTuple):
    number: int
    cells: list[str]


class _Unfit(Exception):
    """This row cannot be used: which column, why, and the cure."""

    def __init__(self, field: str, problem: str, advice: str = "") -> None:
        super().__init__(problem)
        self.field, self.problem, self.advice = field, problem, advice


@dataclass(frozen=True)
class _Layout:
    """Where each of our columns stands in this file, and how its numbers are written."""

    where: Mapping[str, int]
    width: int
    decimal_comma: bool
    account: str

    def cell(self, cells: Sequence[str], field: str) -> str:
        at = self.where.get(field)
        return "" if at is None else cells[at].strip()


def read(
    path: str | Path,
    *,
    encoding: str = "utf-8-sig",
    delimiter: str | None = None,
    decimal_comma: bool = False,
    account: str = "",
) -> Iterator[Spend | BadRow]:
    """Yield every row as Spend or BadRow, in the order of the file.

    What is wrong with the file as a whole (missing, unreadable, a needed column absent) raises before the first row.
    `delimiter` is found in the header unless given; `account` is for rows that name none.
    """
    if delimiter is not None and len(delimiter) != 1:
        raise UsageError(f"A delimiter is one character, not {delimiter!r}.")
    text = _text(Path(path), encoding)
    lines = _lines(path, text, delimiter or _sniff(text))
    if not lines:
        raise SourceError(f"{path}: the file is empty.", "Its first line has to name the columns.")
    header, *rows = lines
    layout = _Layout(_columns(path, header.cells), len(header.cells), decimal_comma, account)
    return _spends(path, layout, rows)


def _text(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return data.decode(encoding)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            _damaged(path, error)
        raise UsageError(f"{path}: {error.strerror or error}.") from error
    except (EOFError, zlib.error) as error:
        _damaged(path, error)
    except LookupError as error:
        raise UsageError(
            f"There is no encoding called {encoding!r}.", "Usual ones are utf-8-sig and cp1251."
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: byte {error.start} is not {encoding}.",
            "Name the encoding the file was saved in, such as cp1251 or utf-16.",
        ) from error


def _damaged(path: Path, error: Exception) -> NoReturn:
    raise SourceError(f"{path}: the gzip data is damaged or cut short.", "Fetch the file again.") from error


def _lines(path: str | Path, text: str, delimiter: str) -> list[_Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines, before = [], 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append(_Line(before + 1, cells))
            before = reader.line_num
    except csv.Error as error:
        raise SourceError(
            f"{path}:{before + 1}: not CSV: {error}.", "Nothing after this line can be trusted."
        ) from error
    return lines


def _sniff(text: str) -> str:
    """The delimiter under which the header names most of our columns."""
    head = next((line for line in text.splitlines() if line.strip()), "")

    def known(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([head], delimiter=delimiter), [])
        return sum(_letters(cell) in _BY_LETTERS for cell in cells), len(cells)

    return max(DELIMITERS, key=known)


def _letters(header: str) -> str:
    return re.sub(r"[\W_]+", "", header.casefold().replace("ё", "е"))


_BY_LETTERS = {_letters(name): field for field, names in HEADERS.items() for name in names}


def _columns(path: str | Path, header: Sequence[str]) -> dict[str, int]:
    where: dict[str, int] = {}
    for at, name in enumerate(header):
        field = _BY_LETTERS.get(_letters(name))
        if field is None:
            continue
        if field in where:
            raise SourceError(
                f"{path}: the columns {header[where[field]]!r} and {name!r} could both be {field}.",
                "Leave one of them out, or rename it.",
            )
        where[field] = at
    for field in NEEDED:
        if field not in where:
            _missing(path, field, [name for at, name in enumerate(header) if at not in where.values()])
    if not where.keys() & {"campaign", "campaign_id"}:
        _missing(path, "campaign", [name for at, name in enumerate(header) if at not in where.values()])
    return where


def _missing(path: str | Path, field: str, unused: Sequence[str]) -> NoReturn:
    names = [_letters(name) for name in HEADERS[field]]
    scored = [(max(_alike(_letters(header), name) for name in names), header) for header in unused if header.strip()]
    score, nearest = max(scored, default=(0.0, ""), key=lambda pair: pair[0])
    known = ", ".join(HEADERS[field])
    advice = f"Known headers for it: {known}."
    if score >= 0.5:
        advice = f"The nearest header is {nearest!r}: rename it if that is what it holds. {advice}"
    raise SourceError(f"{path}: there is no column {field}.", advice)


def _alike(one: str, other: str) -> float:
    return 1.0 if one and other in one else difflib.SequenceMatcher(None, one, other).ratio()


def _spends(path: str | Path, layout: _Layout, rows: Iterable[_Line]) -> Iterator[Spend | BadRow]:
    seen: dict[tuple[date, str, str, str, str], int] = {}
    for number, cells in rows:
        try:
            spend = _spend(layout, cells)
            _only_once(seen.setdefault(_identity(spend), number), number)
        except _Unfit as unfit:
            yield BadRow("costs", f"{path}:{number}", unfit.field, unfit.problem, unfit.advice)
        else:
            yield spend


def _only_once(first: int, here: int) -> None:
    if first != here:
        raise _Unfit(
            "campaign",
            f"line {first} already has this day, platform, account and campaign",
            "Two amounts for one thing could mean a sum or a correction: keep one line.",
        )


def _identity(spend: Spend) -> tuple[date, str, str, str, str]:
    name = "" if spend.campaign_id else spend.campaign.casefold()
    return spend.day, spend.platform, spend.account, spend.campaign_id, name


def _spend(layout: _Layout, cells: Sequence[str]) -> Spend:
    if len(cells) != layout.width:
        raise _Unfit(
            "", f"{len(cells)} cells under {layout.width} headers", "An unquoted delimiter, or a line cut short."
        )
    currency = _currency(layout.cell(cells, "currency"))
    return Spend(
        day=_day(layout.cell(cells, "day")),
        platform=_platform(layout.cell(cells, "platform")),
        account=layout.cell(cells, "account") or layout.account,
        campaign_id=_campaign_id(layout.cell(cells, "campaign_id")),
        campaign=" ".join(layout.cell(cells, "campaign").split()),
        amount=minor_units(_amount(layout.cell(cells, "amount"), layout.decimal_comma), currency),
        currency=currency,
        vat_included=_vat(layout.cell(cells, "vat_included")),
        clicks=_count("clicks", layout.cell(cells, "clicks")),
        impressions=_count("impressions", layout.cell(cells, "impressions")),
    )


def _day(text: str) -> date:
    for shape, form in DAYS:
        if shape.fullmatch(text):
            try:
                return datetime.strptime(text, form).date()
            except ValueError:
                raise _Unfit("day", f"there is no day {text}") from None
    if not text:
        raise _Unfit("day", "it is empty")
    raise _Unfit("day", f"{text[:40]!r} is not a day", "Write 2026-11-22 or 22.11.2026; leave lines of totals out.")


def _platform(text: str) -> str:
    words = " ".join(re.split(r"[\W_]+", text.casefold())).strip()
    if not words:
        raise _Unfit("platform", "it is empty")
    try:
        return PLATFORMS[words]
    except KeyError:
        raise _Unfit("platform", f"{text[:40]!r} is not a platform", "Write google, yandex or vk.") from None


def _campaign_id(text: str) -> str:
    if ROUNDED.fullmatch(text):
        raise _Unfit(
            "campaign_id",
            f"{text} is a number a spreadsheet made of an id",
            "Save the column as text and export again.",
        )
    return text


def _currency(text: str) -> str:
    code = "RUB" if text.upper() == "RUR" else text.upper()
    if not code:
        raise _Unfit("currency", "it is empty, and no currency is ever assumed", CURRENCY_ADVICE)
    if not is_currency(code):
        raise _Unfit("currency", f"{text[:40]!r} is not an ISO code", CURRENCY_ADVICE)
    return code


def _amount(text: str, decimal_comma: bool) -> Decimal:
    if not text:
        raise _Unfit("amount", "it is empty", "Write 0 when nothing was spent.")
    match = AMOUNT.fullmatch(text)
    if not match:
        raise _Unfit("amount", f"{text[:40]!r} is not an amount", "Write digits only, such as 1234.56.")
    point = match["point"]
    if point and point != ("," if decimal_comma else "."):
        expected = "a comma" if decimal_comma else "a point"
        raise _Unfit(
            "amount",
            f"{text[:40]!r} does not have {expected} before its decimals",
            "Say how decimals are written: decimal_comma.",
        )
    number = Decimal(f"{re.sub('[^0-9]', '', match['whole'])}.{match['part'] or '0'}")
    if match["sign"] and number:
        raise _Unfit("amount", f"{text[:40]} is negative", "Correct the amount of the day it belongs to.")
    return number


def _count(field: str, text: str) -> int | None:
    if not text:
        return None
    if not COUNT.fullmatch(text):
        raise _Unfit(field, f"{text[:40]!r} is not a whole number", "Leave the cell empty when it is not known.")
    return int(re.sub("[^0-9]", "", text))


def _vat(text: str) -> bool | None:
    words = " ".join(text.casefold().replace("ё", "е").split())
    if not words:
        return None
    try:
        return VAT[words]
    except KeyError:
        raise _Unfit(
            "vat_included", f"{text[:40]!r} is neither yes nor no", "Write yes or no, or leave it empty."
        ) from None
