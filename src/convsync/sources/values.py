"""What one cell of a source can mean: text, ids, money, times, status words and consent, each read or refused aloud."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

from convsync.model import Status
from convsync.normalise import is_currency

EXACT = 2**53
"""Above this a float no longer holds every integer, so an id read as one may already be another id."""

_SHOWN = 40
_DAMAGED = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE]\+[0-9]+|[0-9]+[.,][0-9]+[eE][0-9]+").fullmatch
_PHONE = re.compile(r"\+[0-9][0-9 ()\-.]{8,}").fullmatch
_POINT_ZERO = re.compile(r"[0-9]+\.0").fullmatch
_SPREADSHEET_ADVICE = (
    "Export this column as text (in a spreadsheet, format it as text before the import) and read again."
)
_NUMBER_ADVICE = "Store this column as text; a floating point number does not hold an id."


class Unreadable(ValueError):
    """One cell cannot be read: the problem completes the sentence "FIELD …", the advice says what to change."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


def shown(value: object) -> str:
    """A value as a message may show it: short, on one line, and never something that looks like an e-mail."""
    text = str(value)
    if "@" in text:
        return "(hidden: it looks like a contact)"
    line = " ".join(text.split())
    return f'"{line[:_SHOWN]}…"' if len(line) > _SHOWN else f'"{line}"'


def _guarded(value: object) -> str:
    """As `shown`, for fields of few words: in a shifted row a phone may stand where a status was meant."""
    text = str(value)
    return "(hidden: it looks like a contact)" if sum(map(str.isdigit, text)) > 6 else shown(text)


def text(value: object) -> str | None:
    """Any plain value as text; blank is None."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date | time):
        return value.isoformat()
    raise Unreadable(*_no_text(value))


def _float_text(value: float) -> str | None:
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)


def _no_text(value: object) -> tuple[str, str]:
    if isinstance(value, bytes | bytearray | memoryview):
        return "holds bytes that are not text in UTF-8", "Convert this column to text in the query."
    return f"holds {type(value).__name__} instead of plain text", "Name the value inside it by a dotted path."


def own_id(value: object) -> str | None:
    """An id that the shop or CRM gave: text for ever. A float counts while it is exact, so 123.0 is "123"."""
    if type(value) is str:
        word = value.strip()
        if not word or word.isalnum():
            return word or None
        if is_contact(word):
            raise _contact()
        if word[0] > "9" or not _DAMAGED(word):
            return word
        raise _damaged(word)
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and not (value.is_integer() and abs(value) < EXACT):
        raise _damaged(value)
    return _id_text(value)


def platform_id(value: object) -> str | None:
    """A click or client id: a platform issued text or an integer, so a float means that a spreadsheet was there."""
    if type(value) is str:
        word = value.strip()
        if not word or word.isalnum():
            return word or None
        if is_contact(word):
            raise _contact()
        if word[0] > "9" or not (_DAMAGED(word) or _POINT_ZERO(word)):
            return word
        raise _damaged(word)
    if type(value) is int:
        return str(value)
    if isinstance(value, float):
        raise _damaged(value)
    return _id_text(value)


def _id_text(value: object) -> str | None:
    if isinstance(value, bool):
        raise Unreadable(f"is {str(value).lower()}, which is no id", "Map the column that holds the id.")
    if isinstance(value, Decimal):
        if value != value.to_integral_value():
            raise _damaged(value)
        return str(int(value))
    return text(value)


def is_contact(word: str) -> bool:
    """Whether an id is in truth an e-mail address or a phone number, which the ledger never holds in clear."""
    return "@" in word or (word[0] == "+" and _PHONE(word) is not None)


def _contact() -> Unreadable:
    return Unreadable(
        "looks like an e-mail address or a phone number (not shown)",
        "Name a column with an id that says nothing of the person, or a hash: the ledger keeps no contact in clear.",
    )


def _damaged(value: object) -> Unreadable:
    if isinstance(value, str):
        return Unreadable(f"was damaged by a spreadsheet: {shown(value)} has lost its digits", _SPREADSHEET_ADVICE)
    return Unreadable(f"was damaged: {shown(value)} is a floating point number", _NUMBER_ADVICE)


# --- money ------------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?").fullmatch
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+").fullmatch
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+").fullmatch
_GROUPED = re.compile(r"(?<=[0-9])[ \u00a0\u2007\u2009\u202f'](?=[0-9]{3}(?![0-9]))")
_MOST_DIGITS = 15
_MOST = 10.0**_MOST_DIGITS


def money_reader(*, decimal_comma: bool) -> Callable[[object], Decimal | None]:
    """A reader of amounts in major units. What could be read in two ways is refused, never guessed."""

    def read(value: object) -> Decimal | None:
        kind = type(value)
        if kind is float and -_MOST < value < _MOST:  # type: ignore[operator]
            return Decimal(repr(value))
        if kind is str:
            amount = _money_of_text(value, decimal_comma)  # type: ignore[arg-type]
        elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise Unreadable(f"is no number but {kind.__name__}")
        else:
            amount = Decimal(value)
        if amount is None:
            return None
        if not amount.is_finite():
            raise Unreadable(f"is not a number: {shown(value)}")
        if amount and amount.adjusted() >= _MOST_DIGITS:
            raise Unreadable(f"is too large to be an amount: {shown(value)}")
        return amount

    return read


def _money_of_text(value: str, decimal_comma: bool) -> Decimal | None:
    word = value.strip()
    if not word:
        return None
    if not word.isascii() or " " in word or "'" in word:
        word = _GROUPED.sub("", word)
    if _PLAIN(word):
        if decimal_comma and _THOUSANDS(word):
            raise Unreadable(f"can be read in two ways: {shown(word)}", "Export amounts without thousands separators.")
        return Decimal(word)
    if decimal_comma and _COMMA(word):
        return Decimal(word.replace(",", "."))
    raise _no_money(word)


def _no_money(word: str) -> Unreadable:
    if _COMMA(word):
        return Unreadable(f"has a comma: {shown(word)}", "If it is a decimal comma, set decimal_comma = true.")
    if "," in word and "." in word:
        return Unreadable(
            f"has both a comma and a point: {shown(word)}", "Export amounts without thousands separators."
        )
    if _DAMAGED(word):
        return Unreadable(f"was damaged by a spreadsheet: {shown(word)} has lost its digits", _SPREADSHEET_ADVICE)
    return Unreadable(f"is not a number: {_guarded(word)}", "Write digits only, and the currency in its own column.")


def currency(value: object) -> str | None:
    """A currency of ISO 4217, upper-cased; RUR, which old Russian software still writes, is RUB."""
    if type(value) is str and is_currency(value):
        return value
    word = (text(value) or "").upper()
    if word == "RUR":
        return "RUB"
    if not word or is_currency(word):
        return word or None
    raise Unreadable(f"is not a currency code: {_guarded(value)}", 'Write three letters of ISO 4217, such as "RUB".')


# --- words ------------------------------------------------------------------------------------------------------------

STATUS_WORDS: Mapping[str, str] = MappingProxyType(
    {**{status.value: status.value for status in Status}, "canceled": Status.CANCELLED.value}
)
_CONSENT = {
    **dict.fromkeys(("true", "1", "yes", "y", "granted", "да"), True),
    **dict.fromkeys(("false", "0", "no", "n", "denied", "нет"), False),
}


def same_word(word: str) -> str:
    """What a word is compared by: people write Отменён, ОТМЕНЕН and отменен, and mean one thing."""
    return unicodedata.normalize("NFC", word).strip().casefold().replace("ё", "е")


def status_reader(words: Mapping[str, str]) -> Callable[[object], str | None]:
    """A reader of status words: ours, and those of the source that `words` translates."""
    known = {same_word(word): meaning for word, meaning in (*STATUS_WORDS.items(), *words.items())}

    def read(value: object) -> str | None:
        if type(value) is str and value in known:
            return known[value]
        word = same_word(text(value) or "")
        if not word or word in known:
            return known.get(word)
        allowed = ", ".join(dict.fromkeys((*STATUS_WORDS, *(word.strip() for word in words))))
        raise Unreadable(f"is not a status: {_guarded(value)}", f"Allowed: {allowed}, or empty for active.")

    return read


def consent(value: object) -> bool | None:
    """Whether the person agreed; empty is None, which means that nobody asked."""
    if type(value) is bool:
        return value
    word = (text(value) or "").casefold()
    if not word or word in _CONSENT:
        return _CONSENT.get(word)
    raise Unreadable(f"is neither yes nor no: {_guarded(value)}", f"Allowed: {', '.join(_CONSENT)}, or empty.")


_CUSTOMERS = {"new": "new", "returning": "returning", "reengaged": "reengaged", "re-engaged": "reengaged"}


def customer_type(value: object) -> str | None:
    """What kind of customer it is, in the words of Google; empty is None, which means that nobody said."""
    word = (text(value) or "").casefold()
    if not word or word in _CUSTOMERS:
        return _CUSTOMERS.get(word)
    raise Unreadable(f"is not a kind of customer: {_guarded(value)}", "Allowed: new, returning, reengaged, or empty.")


# --- time -------------------------------------------------------------------------------------------------------------

_SECONDS = range(10**8, 10**11)
_MILLISECONDS = range(10**11, 10**14)
_EPOCH = re.compile(r"[0-9]+(?:\.[0-9]+)?").fullmatch
_CLOCK_DIRECTIVES = re.compile(r"%[-#]?[HIXcsTR]")
_ZONE_TAIL = re.compile(r"\s*(?:UTC|GMT|Z)$|\s+(?=[+-][0-9:]+$)", re.IGNORECASE)
_MOST_HOURS = 50_000
_ISO = 'ISO 8601, such as "2026-03-01 12:30:00+03:00"'
_EPOCH_ADVICE = "A number is read as seconds (9 to 11 digits) or milliseconds (12 to 14 digits) since 1970."


def time_reader(
    zone: tzinfo | None, time_of_day: time | None = None, pattern: str | None = None
) -> Callable[[object], datetime | None]:
    """A reader of moments, answered in UTC.

    A naive time is local in `zone`. Where the clock goes back and a local time happens twice, the first is meant;
    where it goes forward and skips one, the offset before the change counts (both are `fold=0` of Python).
    """
    from_iso, offsets = datetime.fromisoformat, Offsets(zone)

    def read(value: object) -> datetime | None:
        if pattern is None and type(value) is str and len(value) > 13 and value[4] == "-":
            try:
                if value[-1] == "Z":
                    return from_iso(value)
                if value[-6] == "+":
                    return from_iso(value).astimezone(UTC)
                offset = offsets[value[:13]]
                if offset is not None:
                    return from_iso(value + "Z") - offset
            except (ValueError, OverflowError):
                pass
        return slowly(value)

    def slowly(value: object) -> datetime | None:
        if isinstance(value, str):
            value = value.strip()
            if not value:
                return None
        try:
            moment = _moment(value, pattern)
            if not isinstance(moment, datetime):
                moment = datetime.combine(moment, _clock(time_of_day))
            return _aware(moment, zone).astimezone(UTC)
        except OverflowError:
            raise _no_time(value, pattern) from None

    return read


class Offsets(dict[str, timedelta | None]):
    """The UTC offset of each local hour, by its text (`2026-03-01T12`), where the whole hour has one."""

    def __init__(self, zone: tzinfo | None) -> None:
        super().__init__()
        self._zone = zone

    def __missing__(self, hour: str) -> timedelta | None:
        if len(self) > _MOST_HOURS:
            self.clear()
        if hour[4:5] != "-":
            raise ValueError("the shorter forms of ISO 8601 are not taken")
        first = datetime.fromisoformat(hour).replace(tzinfo=self._zone)
        offset = first.utcoffset()
        self[hour] = offset if offset == first.replace(minute=59, second=59).utcoffset() else None
        return self[hour]


def _clock(time_of_day: time | None) -> time:
    if time_of_day is None:
        raise Unreadable("is a date without a time of day", 'Set `time_of_day`, such as "12:00", for this source.')
    return time_of_day


def _aware(moment: datetime, zone: tzinfo | None) -> datetime:
    if moment.tzinfo is not None:
        return moment
    if zone is None:
        raise Unreadable("is a naive time without a zone", 'Set `timezone`, such as "Europe/Moscow", for this source.')
    return moment.replace(tzinfo=zone)


def _moment(value: object, pattern: str | None) -> date:
    """A datetime, or a date where no time of day was written."""
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        return _moment_of_text(value, pattern)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _no_time(value, pattern)
    return _moment_of_number(value, pattern)


def _moment_of_text(word: str, pattern: str | None) -> date:
    if pattern is not None:
        try:
            moment = datetime.strptime(word, pattern)
        except ValueError:
            pass
        else:
            return moment if _CLOCK_DIRECTIVES.search(pattern) else moment.date()
    if _EPOCH(word):
        return _moment_of_number(Decimal(word), pattern)
    try:
        # The shorter forms of ISO 8601 (weeks, no dashes) would turn other numbers into dates: not taken.
        if len(word) > 10 and word[4] == "-":
            return datetime.fromisoformat(_ZONE_TAIL.sub(_zone_tail, word))
        if len(word) == 10 and word[4] == word[7] == "-":
            return date.fromisoformat(word)
    except ValueError:
        pass
    raise _no_time(word, pattern)


def _zone_tail(match: re.Match[str]) -> str:
    return "+00:00" if match[0].strip() else ""


def _moment_of_number(number: float | Decimal, pattern: str | None) -> datetime:
    if isinstance(number, float) and not math.isfinite(number):
        raise _no_time(number, pattern)
    whole = int(number)
    if whole in _SECONDS:
        return datetime.fromtimestamp(float(number) if number != whole else whole, UTC)
    if whole in _MILLISECONDS:
        return datetime.fromtimestamp(whole // 1000, UTC).replace(microsecond=whole % 1000 * 1000)
    raise Unreadable(f"is not a time: {shown(number)}", f"{_EPOCH_ADVICE} {_time_advice(pattern)}")


def _no_time(value: object, pattern: str | None) -> Unreadable:
    return Unreadable(f"is not a time: {shown(value)}", _time_advice(pattern))


def _time_advice(pattern: str | None) -> str:
    if pattern is None:
        return f"Write {_ISO}, or set `occurred_format`."
    return f'Write it as `occurred_format` says ("{pattern}", for every time of this source), or {_ISO}.'
