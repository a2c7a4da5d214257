"""What a single value may look like: durations, addresses, ids, secrets. No message here repeats what was written."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    model_validator,
)

NOT_YET = "is not in this version."

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?")
_DURATION_ADVICE = 'Write a number and a unit, such as "500ms", "30s", "15m", "2h" or "120d", or a number of seconds.'
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")


class StrictModel(BaseModel):
    """A section: unknown keys are errors, nothing changes after loading, and "" means that an optional key is unset."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value != "" or not _optional(cls, key)}


def _optional(model: type[BaseModel], key: str) -> bool:
    field = model.model_fields.get(key)
    return field is not None and not field.is_required() and field.default is None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be."""
    lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """One sentence that leads from a wrong name to a right one."""
    names = sorted(known)
    close = nearest(name, names)
    if close is not None:
        return f"Did you mean {close}?"
    return f"Known here: {', '.join(names)}." if names else "Nothing can be written here."


def duration(value: Any) -> Any:
    """Durations are text with a unit or a number of seconds; ISO 8601, which pydantic would take, is not announced."""
    if isinstance(value, timedelta):
        return value
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"is not a duration. {_DURATION_ADVICE}")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"is too long a duration. {_DURATION_ADVICE}") from None


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2] or "s"] if match else None


def duration_text(value: timedelta) -> str:
    """The shortest way to write `value`: `15m`, not `900s`."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def _above_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError(f"must be longer than zero. {_DURATION_ADVICE}")
    return value


Duration = Annotated[timedelta, BeforeValidator(duration), PlainSerializer(duration_text)]
PositiveDuration = Annotated[Duration, AfterValidator(_above_zero)]


def is_loopback(host: str) -> bool:
    """Whether `host`, as written, cannot leave this machine. Names other than localhost are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (
        address in ipaddress.ip_network("127.0.0.0/8") if address.version == 4 else address == ipaddress.IPv6Address(1)
    )


def _url(value: str) -> str:
    # Blanks, control characters and backslashes are read differently by different parsers: never let them through.
    if not value or re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise ValueError("is not an address. Write one such as https://example.com, without blanks.")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address. Write one such as https://example.com.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must begin with https:// and a host name.")
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must not carry a user name, a password or a query. Write credentials under their own keys.")
    if not _HOST.fullmatch(parts.netloc):
        raise ValueError("has no readable host name. Write one such as https://example.com.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "must begin with https://. Plain http:// is accepted for loopback hosts only (127.0.0.0/8, localhost, [::1])."
        )
    return value.rstrip("/")


def _endpoint(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(
            "must be a host name with an optional port, such as googleads.googleapis.com, without https://."
        )
    return value


Url = Annotated[str, AfterValidator(_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _secret(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text in quotes.")  # noqa: TRY004  (pydantic collects ValueErrors)
    if not value.strip().isascii() or not value.strip().isprintable():
        raise ValueError(
            "has a character that no credential has (a line break, a quotation mark of a word processor?)."
        )
    return SecretStr(value.strip())


Secret = Annotated[SecretStr, BeforeValidator(_secret)]
"""A credential, trimmed of what pasting leaves around it. It prints as hidden."""


def _digits(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,20}", text.strip()):
        raise ValueError('must be digits only, such as "12345678".')
    return text.strip()


def _customer_id(value: Any) -> str:
    text = str(value).replace("-", "").replace(" ", "")
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{10}", text):
        raise ValueError('must be ten digits, such as "1234567890" or "123-456-7890".')
    return text


Digits = Annotated[str, BeforeValidator(_digits)]
CustomerId = Annotated[str, BeforeValidator(_customer_id)]


def _matching(pattern: str, advice: str, *, upper: bool = False) -> AfterValidator:
    def check(value: str) -> str:
        text = value.strip().upper() if upper else value
        if not re.fullmatch(pattern, text):
            raise ValueError(advice)
        return text

    return AfterValidator(check)


Currency = Annotated[
    str, _matching(r"[A-Z]{3}", 'must be a currency code of three letters, such as "RUB".', upper=True)
]
Region = Annotated[str, _matching(r"[A-Z]{2}", 'must be a country code of two letters, such as "RU".', upper=True)]
ApiVersion = Annotated[
    str, _matching(r"v2[3-6]", 'must be "v23", "v24", "v25" or "v26": other versions are not answered.')
]
"""Those that Google answers (v22 ended on 2026-10-07, DOC ads/deprecations) and google-ads 34.0.0 speaks."""
FeedLabel = Annotated[
    str, _matching(r"[A-Z0-9-]{1,20}", 'must be a feed label of Merchant Center, such as "RU".', upper=True)
]
"""DOC shopping-content/guides/products/feed-labels: up to 20 capital letters, digits and dashes."""
Language = Annotated[str, _matching(r"[a-z]{2}", 'must be a language code of two small letters, such as "ru".')]
Text = Annotated[str, _matching(r"(?s).*\S.*", "must not be empty.")]
HeaderText = Annotated[str, _matching(r"[\x20-\x7e]+", "must be plain Latin text on one line.")]
VkGoal = Annotated[str, _matching(r"[A-Za-z0-9_\-]{1,64}", "must be 1 to 64 Latin letters, digits, _ or -.")]
ListName = Annotated[
    str, _matching(r"[\w.()+-]([\w .()+-]{0,58}[\w.()+-])?", "must be 1 to 60 letters, digits, blanks or _ . ( ) + -")
]


def _zone(value: Any) -> Any:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError, TypeError):
        raise ValueError(f'is not a time zone. Write a name such as "Europe/Moscow".{_zone_hint(value)}') from None


def _zone_hint(value: Any) -> str:
    from zoneinfo import available_timezones

    cities = {name.rsplit("/", 1)[-1]: name for name in sorted(available_timezones(), reverse=True)}
    close = nearest(value.rsplit("/", 1)[-1], cities) if isinstance(value, str) else None
    return f" Did you mean {cities[close]}?" if close else ""


Zone = Annotated[ZoneInfo, BeforeValidator(_zone), PlainSerializer(str)]


def names(value: Any) -> Any:
    """A list, or (as environment variables have it) names between commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(names)]
CustomerIds = Annotated[tuple[CustomerId, ...], Field(min_length=1), BeforeValidator(names)]


def folder_of(info: ValidationInfo) -> Path:
    """The folder that relative paths start from: that of the configuration file."""
    context: Mapping[str, Any] = info.context or {}
    return Path(context.get("folder", "")).absolute()


def _relative_path(value: Path, info: ValidationInfo) -> Path:
    return folder_of(info) / value.expanduser()


LocalPath = Annotated[Path, AfterValidator(_relative_path)]


def sqlite_path(url: str, folder: Path) -> Path | None:
    """The file behind a `sqlite:///` URL: three slashes are relative to `folder`, four are absolute."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?!:memory:|file:)(.+)", url)
    return folder / match[1] if match else None


Count = Annotated[int, Field(ge=1)]
