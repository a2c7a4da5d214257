"""Rows of the Google Ads API as it sends them, and a stand-in for whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict

from convsync.destinations.google.ads.client import messages


def row(version: str = "v26", /, **parts: Any) -> Any:
    """A raw message: resources and fields by their names, enums by their words."""
    kind = messages(version, "services.types.google_ads_service").GoogleAdsRow.pb()
    return ParseDict(parts, kind())


class Asked:
    """Answers each query with the rows of its resource, or with the error that stands in their place."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.queries: list[tuple[str, str]] = []

    def __call__(self, customer_id: str, query: str) -> Iterator[Any]:
        self.queries.append((customer_id, query))
        resource = query.split(" FROM ")[1].split()[0]
        answer = self.answers.get(resource, ())
        for one in answer.get(customer_id, ()) if isinstance(answer, dict) else answer:
            if isinstance(one, Exception):
                raise one
            yield one
