"""Payloads as requests of the Google Ads API: pure, and the same bytes for the same rows.

The payloads are those of the Data Manager route (`events`). A body is one line that names the method, then the request
as protobuf; rows are made in place in the request, which is twenty times as fast as by Google's wrappers (MEASURED).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from convsync.destinations.google.events import CALL, RETRACT
from convsync.model import WHOLE, Group

MOST_IDENTIFIERS = 5
"""User identifiers of a conversion; e-mails and phones only, no address. CODE google-ads 34.0.0"""
JOBS = 2**31 - 1
"""Job ids are 1..2³¹-1. CODE google-ads 34.0.0 (INVALID_JOB_ID)"""
GRANTED, DENIED = 2, 3
NEW, RETURNING = 2, 3
RETRACTION, RESTATEMENT = 2, 3
"""Numbers of Google's enums, the same in v23 to v26: ConsentStatus, ConversionCustomerType, ConversionAdjustmentType."""


class Method(NamedTuple):
    """One way to upload: the service, its method, the module of its messages, and the field that holds the rows."""

    name: str
    service: str
    module: str
    rows: str

    @property
    def request(self) -> str:
        return "".join(word.title() for word in self.name.split("_")) + "Request"


CLICKS = Method("upload_click_conversions", "ConversionUploadService", "conversion_upload_service", "conversions")
CALLS = Method("upload_call_conversions", "ConversionUploadService", "conversion_upload_service", "conversions")
ADJUST = Method(
    "upload_conversion_adjustments",
    "ConversionAdjustmentUploadService",
    "conversion_adjustment_upload_service",
    "conversion_adjustments",
)
METHODS = {method.name: method for method in (CLICKS, CALLS, ADJUST)}


class Sheet(NamedTuple):
    """What requests take besides their rows: the version of the API, the account, and its custom variables by name."""

    version: str
    customer: str
    variables: Mapping[str, str] = {}
    """Name → resource name. A name that is not here is one that the configuration no longer has: it is left out."""

    def body(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The request for a group of rows. `token` (hexadecimal) gives its job id, by which Google's diagnostics name it."""
        method, rows = self._rows(payloads, group)
        request = self._request(method, rows)
        if "job_id" in request.DESCRIPTOR.fields_by_name:
            request.job_id = int(token, 16) % JOBS + 1
        return b"\n".join((method.name.encode(), request.SerializeToString(deterministic=True)))

    def request(self, body: bytes) -> tuple[Method, Any]:
        """The method of a body and its request."""
        name, _, data = body.partition(b"\n")
        method = METHODS[name.decode()]
        return method, _kind(self.version, method).FromString(data)

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[dict[str, Any]]:
        """Each row as it is sent, but a number in clear."""
        from google.protobuf.json_format import MessageToDict

        names = {
            one["variable"] for payload in payloads for one in orjson.loads(payload)["e"].get("customVariables", ())
        }
        sheet = self._replace(variables={name: name for name in names} | dict(self.variables))
        method, rows = sheet._rows(payloads, group)
        for row in getattr(sheet._request(method, rows), method.rows):
            shown = MessageToDict(row, preserving_proto_field_name=True)
            if "caller_id" in shown:
                shown["caller_id"] = f"{shown['caller_id'][:2]}… (sent in clear)"
            yield {"method": method.name} | shown

    def _request(self, method: Method, fill: Callable[[Any], None]) -> Any:
        request = _kind(self.version, method)(customer_id=self.customer, partial_failure=True)
        fill(getattr(request, method.rows))
        return request

    def _rows(self, payloads: Sequence[bytes], group: Group) -> tuple[Method, Callable[[Any], None]]:
        prefix = f"customers/{self.customer}/conversionActions/"
        told = [orjson.loads(payload) for payload in payloads]
        if group.part == CALL:
            return CALLS, lambda rows: _calls(rows, told, prefix, self.variables)
        if group.adjusts or group.part == RETRACT:
            return ADJUST, lambda rows: _adjustments(rows, told, prefix, group)
        return CLICKS, lambda rows: _clicks(rows, told, prefix, self.variables)


@functools.cache
def _kind(version: str, method: Method) -> Any:
    """The raw protobuf class of a request, as shipped with google-ads."""
    module = importlib.import_module(f"google.ads.googleads.{version}.services.types.{method.module}")
    return getattr(module, method.request).pb()


# -- rows --------------------------------------------------------------------------------------------


def _clicks(rows: Any, payloads: Sequence[Mapping[str, Any]], prefix: str, variables: Mapping[str, str]) -> None:
    """A gclid goes with contacts; a braid goes alone, for Google refuses it beside contacts. CODE, DOC
    ads/conversions/upload-clicks. gclid and gbraid go together only where there are no contacts."""
    for payload in payloads:
        event = payload["e"]
        row = rows.add(
            conversion_action=prefix + payload["a"],
            order_id=event["transactionId"],
            conversion_date_time=_time(event["eventTimestamp"]),
        )
        ids = event.get("adIdentifiers")
        gclid = ids.get("gclid") if ids else None
        if gclid or not ids:
            _identify(row, event)
        if gclid:
            row.gclid = gclid
        if ids and not row.user_identifiers:
            if "gbraid" in ids:
                row.gbraid = ids["gbraid"]
            elif "wbraid" in ids and not gclid:
                row.wbraid = ids["wbraid"]
        _tell(row, event, variables)
        if "cartData" in event:
            _cart(row.cart_data, event["cartData"])
        customer = event.get("userProperties")
        if customer:
            kind = customer.get("customerType")
            if kind in ("NEW", "RETURNING"):  # the Ads API has no word for REENGAGED
                row.customer_type = NEW if kind == "NEW" else RETURNING


def _identify(row: Any, event: Mapping[str, Any]) -> None:
    people = event.get("userData")
    if not people:
        return
    add, room = row.user_identifiers.add, MOST_IDENTIFIERS
    for one in people["userIdentifiers"]:
        if "emailAddress" in one:
            add(hashed_email=one["emailAddress"])
        elif "phoneNumber" in one:
            add(hashed_phone_number=one["phoneNumber"])
        else:
            continue
        room -= 1
        if not room:
            return


def _calls(rows: Any, payloads: Sequence[Mapping[str, Any]], prefix: str, variables: Mapping[str, str]) -> None:
    """A call has no id of ours: Google knows it by caller, call, action and time. A number that was erased since stays
    away, and Google refuses the row."""
    for payload in payloads:
        event = payload["e"]
        row = rows.add(
            conversion_action=prefix + payload["a"],
            conversion_date_time=_time(event["eventTimestamp"]),
            call_start_date_time=_time(event["callInfo"]["startTimestamp"]),
        )
        if "callerId" in payload:
            row.caller_id = payload["callerId"]
        _tell(row, event, variables)


def _adjustments(rows: Any, payloads: Sequence[Mapping[str, Any]], prefix: str, group: Group) -> None:
    """By order id alone, as every conversion was sent with one. A retraction must not carry a value, a restatement has
    to: one without is left to Google to refuse, since no number would be true."""
    retract = group.part == RETRACT
    for payload, at in zip(payloads, group.at, strict=True):
        event = payload["e"]
        row = rows.add(
            conversion_action=prefix + payload["a"],
            order_id=event["transactionId"],
            adjustment_type=RETRACTION if retract else RESTATEMENT,
            adjustment_date_time=datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds"),
        )
        if not retract and "conversionValue" in event:
            row.restatement_value.adjusted_value = event["conversionValue"]
            row.restatement_value.currency_code = event["currency"]


def _tell(row: Any, event: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """What clicks and calls have in common: money, consent, custom variables."""
    if "conversionValue" in event:
        row.conversion_value = event["conversionValue"]
    if "currency" in event:
        row.currency_code = event["currency"]
    consent = event.get("consent")
    if consent:
        if "adUserData" in consent:
            row.consent.ad_user_data = _CONSENT[consent["adUserData"]]
        if "adPersonalization" in consent:
            row.consent.ad_personalization = _CONSENT[consent["adPersonalization"]]
    for one in event.get("customVariables", ()):
        if one["variable"] in variables:
            row.custom_variables.add(conversion_custom_variable=variables[one["variable"]], value=one["value"])


_CONSENT = {"CONSENT_GRANTED": GRANTED, "CONSENT_DENIED": DENIED}


def _cart(cart: Any, told: Mapping[str, Any]) -> None:
    if "merchantId" in told:
        cart.merchant_id = int(told["merchantId"])
    if len(told.get("merchantFeedLabel", "")) == 2:  # here a feed is named by its country
        cart.feed_country_code = told["merchantFeedLabel"]
    if "merchantFeedLanguageCode" in told:
        cart.feed_language_code = told["merchantFeedLanguageCode"]
    if "transactionDiscount" in told:
        cart.local_transaction_cost = told["transactionDiscount"]
    for item in told["items"]:
        row = cart.items.add(quantity=int(item["quantity"]))
        if "merchantProductId" in item:
            row.product_id = item["merchantProductId"]
        if "unitPrice" in item:
            row.unit_price = item["unitPrice"]


def _time(text: str) -> str:
    """RFC 3339 as Google Ads writes it, `yyyy-mm-dd hh:mm:ss+hh:mm`: whole seconds, never later than they were."""
    if len(text) == 25:
        return f"{text[:10]} {text[11:]}"
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset()
    assert offset is not None
    if offset.total_seconds() % 60:  # local mean time, before zones were zones
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "seconds")
