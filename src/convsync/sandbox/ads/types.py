"""The messages of one version of the Ads API: the raw protobuf classes behind google-ads, loaded by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from typing import Any

_ELEMENT = re.compile(r"(\w+)(?:\[(\d+)\])?")
_NOBODY_KNOWS = 9999
"""The number of an error that this version of the client has no name for."""


@dataclass(frozen=True)
class Flaw:
    """One error. `code` such as `ConversionUploadError.CLICK_NOT_FOUND`; `path` such as `conversions[3].gclid`."""

    code: str
    message: str
    path: str = ""
    retry_after: float | None = None

    def below(self, path: str) -> Flaw:
        return Flaw(self.code, self.message, f"{path}.{self.path}" if self.path else path, self.retry_after)


def shipped(version: str) -> bool:
    """Whether the installed google-ads has this version."""
    return bool(re.fullmatch(r"v\d+", version)) and util.find_spec(f"google.ads.googleads.{version}") is not None


class Types:
    def __init__(self, version: str) -> None:
        self.package = f"google.ads.googleads.{version}"
        self.failure_key = f"{self.package}.errors.googleadsfailure-bin"
        self._failure = self.of("errors.types.errors", "GoogleAdsFailure")
        self._families = self._failure().errors.add().error_code.DESCRIPTOR.fields_by_name
        self.row = self.of("services.types.google_ads_service", "GoogleAdsRow")

    def of(self, module: str, name: str) -> Any:
        """The raw class behind a proto-plus one."""
        made = getattr(import_module(f"{self.package}.{module}"), name)
        return type(made.pb(made()))

    def read(self, kind: Any, body: bytes) -> Any:
        """The message in `body`, or None."""
        from google.protobuf.message import DecodeError

        try:
            return kind.FromString(body)
        except DecodeError:
            return None

    def failure(self, flaws: Iterable[Flaw], request_id: str) -> Any:
        made = self._failure(request_id=request_id)
        for flaw in flaws:
            error = made.errors.add()
            self.put_code(error.error_code, flaw.code)
            error.message = flaw.message
            for name, index in _ELEMENT.findall(flaw.path):
                element = error.location.field_path_elements.add(field_name=name)
                if index:
                    element.index = int(index)
            if flaw.retry_after is not None:
                quota = error.details.quota_error_details
                quota.rate_name = "Number of operations for explorer access"
                quota.retry_delay.FromNanoseconds(int(flaw.retry_after * 1_000_000_000))
        return made

    def put_code(self, target: Any, code: str) -> None:
        family, _, name = code.partition(".")
        field = re.sub(r"(?<!^)([A-Z])", r"_\1", family).lower()
        known = target.DESCRIPTOR.fields_by_name[field].enum_type.values_by_name
        setattr(target, field, known[name].number if name in known else _NOBODY_KNOWS)

    def knows(self, code: str) -> bool:
        """Whether an error has a name in this version."""
        family, _, name = code.partition(".")
        field = self._families.get(re.sub(r"(?<!^)([A-Z])", r"_\1", family).lower())
        return field is not None and name in field.enum_type.values_by_name

    def has(self, path: str) -> bool:
        """Whether GoogleAdsRow has the field `campaign.id`."""
        at = self.row.DESCRIPTOR
        for name in path.split("."):
            field = _field(at, name) if at is not None else None
            if field is None:
                return False
            at = field.message_type
        return True

    def fill(self, row: Any, path: str, value: Any) -> None:
        """Set `campaign.id` in a row; None leaves it out. Enums by name, messages as mappings, repeated ones as lists."""
        *parents, last = path.split(".")
        for name in parents:
            row = getattr(row, _field(row.DESCRIPTOR, name).name)
        self._put(row, last, value)

    def _put(self, message: Any, name: str, value: Any) -> None:
        if value is None:
            return
        field = _field(message.DESCRIPTOR, name)
        if field is None:
            raise ValueError(f"{message.DESCRIPTOR.name} has no field {name!r}")
        if isinstance(value, list):
            for one in value:
                self._put_each(getattr(message, field.name).add(), one)
        elif isinstance(value, dict):
            self._put_each(getattr(message, field.name), value)
        else:
            chosen = field.enum_type.values_by_name[value].number if field.enum_type else value
            setattr(message, field.name, chosen)

    def _put_each(self, message: Any, values: dict[str, Any]) -> None:
        if "error" in values and isinstance(values["error"], str):
            self.put_code(message.error, values["error"])
            message.error_percentage = float(values.get("error_percentage", 0))
            return
        for name, value in values.items():
            self._put(message, name, value)


def _field(descriptor: Any, name: str) -> Any:
    """GAQL says `type` where the messages say `type_`."""
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_name.get(f"{name}_")


@cache
def types(version: str) -> Types:
    return Types(version)
