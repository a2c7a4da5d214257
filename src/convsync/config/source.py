"""What `[sources.NAME]` may say: where actions come from and which column is which field."""

from __future__ import annotations

import codecs
import glob
import re
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from convsync.config.values import (
    Count,
    Currency,
    Digits,
    Duration,
    Secret,
    StrictModel,
    Text,
    Zone,
    duration,
    duration_text,
    folder_of,
    names,
    sqlite_path,
    suggestion,
)
from convsync.model import Action

LATER_TYPES = ("parquet", "amocrm", "bitrix24", "hubspot")
"""Kinds of source that the design names and this version does not have."""

ELSEWHERE = {
    "external_id": "write its column as `id` of the source.",
    "custom_variables": "write name = column under custom_variables of the source.",
}
"""Fields of an Action that have a place of their own."""
FIELDS = tuple(name for name in Action._fields if name != "source" and name not in ELSEWHERE)
"""Fields of an Action that `fields` can map."""


def _columns(value: Any) -> Any:
    columns = (value,) if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not all(isinstance(column, str) and column for column in columns):
        raise ValueError("must be the name of a column, or a list of names whose values are joined by a colon.")
    if not columns:
        raise ValueError("must name at least one column.")
    return tuple(columns)


def _known_fields(value: dict[str, str]) -> dict[str, str]:
    problems = []
    for name in value:
        if name in ELSEWHERE:
            problems.append(f"{name} is not mapped here: {ELSEWHERE[name]}")
        elif name not in FIELDS:
            problems.append(f"{name} is not a field of an action. {suggestion(name, FIELDS)}")
    if problems:
        raise ValueError(" ".join(problems))
    return value


def _variable_names(value: dict[str, str]) -> dict[str, str]:
    """DOC ads/reference ConversionCustomVariable: at most 100 characters, no blanks around them."""
    if any(not name.strip() or name != name.strip() or len(name) > 100 for name in value):
        raise ValueError("has a name that no custom variable has: 1 to 100 characters, no blanks around them.")
    return value


def _clock(value: Any) -> Any:
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?", value):
        raise ValueError('must be a clock time such as "12:00".')
    return time.fromisoformat(value.zfill(8) if value.count(":") == 2 else value.zfill(5))


def _glob(value: str, info: ValidationInfo) -> str:
    """Make a pattern absolute; the folder itself is no pattern, whatever characters its name has."""
    return value if Path(value).is_absolute() else str(Path(glob.escape(str(folder_of(info)))) / value)


def _encoding(value: str) -> str:
    try:
        codecs.lookup(value)
    except (LookupError, ValueError):
        raise ValueError('is not a known encoding. Write one such as "utf-8" or "cp1251".') from None
    return value


def _overlap(value: Any) -> Any:
    """A bare whole number stays one: it counts ids of an integer cursor."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return duration(value)


def _overlap_text(value: timedelta | int) -> str | int:
    return value if isinstance(value, int) else duration_text(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_columns)]
FieldMap = Annotated[dict[str, str], AfterValidator(_known_fields)]
"""Our field → their column. An empty name: a column that happens to be named as our field is not to be read."""
Variables = Annotated[dict[str, Text], AfterValidator(_variable_names)]
"""Name of a custom variable at Google → the column with its values."""
StatusWord = Literal["active", "cancelled", "refunded", "spam"]
Clock = Annotated[time, BeforeValidator(_clock)]
Pattern = Annotated[Text, AfterValidator(_glob)]
Overlap = Annotated[timedelta | int, BeforeValidator(_overlap), PlainSerializer(_overlap_text)]
Encoding = Annotated[str, AfterValidator(_encoding)]


class CommonSource(StrictModel):
    """The keys of every source. What is constant here was written by the operator; nothing is ever assumed."""

    id: Columns = ("external_id",)
    fields: FieldMap = Field(default_factory=dict)
    statuses: dict[str, StatusWord] = Field(default_factory=dict)
    custom_variables: Variables = Field(default_factory=dict)
    action: Text | None = None
    currency: Currency | None = None
    timezone: Zone | None = None
    time_of_day: Clock | None = None
    consent_ad_user_data: bool | None = None
    consent_ad_personalization: bool | None = None
    page_rows: Count | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        if self.action is not None and "action" in self.fields:
            raise ValueError("has both `action` (one for all rows) and `fields.action` (a column). Keep one of them.")
        return self

    def column(self, field: str) -> str:
        """The column that holds `field`: as mapped, else of the same name."""
        return self.fields.get(field, field)


class SqlSource(CommonSource):
    """A database. `url` may hold a password, so it prints as hidden."""

    type: Literal["sql"] = "sql"
    url: Secret = Field(description='the address of the database, such as "sqlite:///shop.db"')
    query: Text | None = None
    table: Text | None = None
    cursor: Text | None = None
    overlap: Overlap = timedelta(minutes=15)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        url = value.get_secret_value()
        if "://" not in url:
            raise ValueError('must be an address such as "sqlite:///shop.db" or "postgresql+psycopg://user@host/base".')
        path = sqlite_path(url, folder_of(info))
        return SecretStr(f"{url.partition(':')[0]}:///{path}") if path else value

    @model_validator(mode="after")
    def _query_or_table(self) -> Self:
        if (self.query is None) == (self.table is None):
            raise ValueError("needs either `query` (a SELECT) or `table` (a name), one of them.")
        return self


class FileSource(CommonSource):
    """The keys of every source that reads files. `path` may hold wildcards."""

    path: Pattern = Field(description='the files to read, such as "exports/*.csv"')
    encoding: Encoding = "utf-8-sig"
    occurred_format: Text | None = None


class CsvSource(FileSource):
    type: Literal["csv"] = "csv"
    delimiter: str = ","
    decimal_comma: bool = False

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) != 1 or value in '"\r\n':
            raise ValueError(r'must be one character, such as "," or ";" or "\t".')
        return value


class JsonlSource(FileSource):
    type: Literal["jsonl"] = "jsonl"


class VkLeadsSource(StrictModel):
    """The leads of VK's lead forms, through its API: they have no columns, so none of the keys that name one."""

    type: Literal["vk_leads"] = "vk_leads"
    account: Text = Field(description="the name of the [destinations.*] section of VK Ads whose keys sign in")
    action: Text = Field(description="the name of the [actions.*] section that these leads are")
    forms: Annotated[tuple[Digits, ...], Field(min_length=1), BeforeValidator(names)] | None = None
    overlap: Duration = timedelta(days=1)
    timezone: Zone = ZoneInfo("Europe/Moscow")
    consent_ad_user_data: bool | None = None
    consent_ad_personalization: bool | None = None


SOURCES: dict[str, type[StrictModel]] = {
    "sql": SqlSource,
    "csv": CsvSource,
    "jsonl": JsonlSource,
    "vk_leads": VkLeadsSource,
}
SourceSettings = Annotated[SqlSource | CsvSource | JsonlSource | VkLeadsSource, Field(discriminator="type")]
