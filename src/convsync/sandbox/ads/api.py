"""The Ads API as a client sees it: who may call, what a call answers, which trouble was ordered. gRPC stays outside."""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from convsync.sandbox.ads.adjust import adjustments
from convsync.sandbox.ads.calls import calls
from convsync.sandbox.ads.clicks import clicks
from convsync.sandbox.ads.desk import CallRefused, Desk, Target, Upload, below, refused
from convsync.sandbox.ads.tables import search
from convsync.sandbox.ads.types import Flaw, Types, shipped, types
from convsync.sandbox.config import ADWORDS
from convsync.sandbox.faults import Fault
from convsync.sandbox.google import Google
from convsync.sandbox.web import Request

if TYPE_CHECKING:
    from convsync.sandbox.app import Sandbox


@dataclass(frozen=True)
class Method:
    """One method of a service: what it is called here, and the names of its messages."""

    operation: str
    module: str
    request: str
    response: str
    result: str = ""
    rows: str = "conversions"


_UPLOAD, _ADJUST, _READ = "conversion_upload_service", "conversion_adjustment_upload_service", "google_ads_service"
METHODS = {
    "ConversionUploadService/UploadClickConversions": Method(
        "ads.clicks",
        _UPLOAD,
        "UploadClickConversionsRequest",
        "UploadClickConversionsResponse",
        "ClickConversionResult",
    ),
    "ConversionUploadService/UploadCallConversions": Method(
        "ads.calls", _UPLOAD, "UploadCallConversionsRequest", "UploadCallConversionsResponse", "CallConversionResult"
    ),
    "ConversionAdjustmentUploadService/UploadConversionAdjustments": Method(
        "ads.adjust",
        _ADJUST,
        "UploadConversionAdjustmentsRequest",
        "UploadConversionAdjustmentsResponse",
        "ConversionAdjustmentResult",
        "conversion_adjustments",
    ),
    "GoogleAdsService/SearchStream": Method(
        "ads.search", _READ, "SearchGoogleAdsStreamRequest", "SearchGoogleAdsStreamResponse"
    ),
    "GoogleAdsService/Search": Method("ads.search", _READ, "SearchGoogleAdsRequest", "SearchGoogleAdsResponse"),
}
OPERATIONS = {method.operation for method in METHODS.values()}
_OF_HTTP = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    420: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_OF_FAMILY = {
    "QuotaError": "RESOURCE_EXHAUSTED",
    "InternalError": "INTERNAL",
    "AuthenticationError": "UNAUTHENTICATED",
    "AuthorizationError": "PERMISSION_DENIED",
    "NotAllowlistedError": "PERMISSION_DENIED",
    "DatabaseError": "ABORTED",
}


class _Row(Protocol):
    flaws: list[Flaw]
    target: Target | None

    def book(self, target: Target) -> None: ...


@dataclass(frozen=True)
class Call:
    """One call as it arrived. `name` is `Service/Method`, `metadata` has lower-case names, `peer` is a port."""

    version: str
    name: str
    metadata: dict[str, str]
    body: bytes
    peer: int = 0


@dataclass
class Reply:
    """Messages, then a status; and the way it travels: send | cut (connection reset) | hang (nothing, then a reset)."""

    messages: list[Any] = field(default_factory=list)
    status: str = "OK"
    said: str = ""
    trailing: list[tuple[str, str | bytes]] = field(default_factory=list)
    way: str = "send"
    wait_s: float = 0


class Ads:
    def __init__(self, box: Sandbox, google: Google) -> None:
        self._box = box
        self._google = google
        self._handlers: dict[str, Callable[[Desk, Method, Any, str], list[Any]]] = {
            "ads.clicks": self._upload,
            "ads.calls": self._upload,
            "ads.adjust": self._upload,
            "ads.search": self._search,
        }
        self.reset()

    def reset(self) -> None:
        with self._google.book.lock:
            self._uploads: list[Upload] = []
            self._tries: Counter[tuple[str, str]] = Counter()
            self._rows = {op: Counter[str]() for op in sorted(OPERATIONS - {"ads.search"})}
            self._jobs = 0

    def books(self) -> dict[str, Any]:
        """Rows by operation; what was counted stands in the books of `google`."""
        names = ("received", "accepted", "refused", "validated")
        with self._google.book.lock:
            rows = {op: {name: counted[name] for name in names} for op, counted in self._rows.items()}
            return {"rows": rows, "uploads": len(self._uploads)}

    # One call.

    def answer(self, call: Call) -> Reply:
        self._box.arrivals()
        began = time.perf_counter()
        method = METHODS.get(call.name)
        path = f"/google.ads.googleads.{call.version}.services.{call.name}"
        noted = Request("gRPC", path, "", {})
        if method is None or not shipped(call.version):
            self._box.note("unknown", noted, "UNIMPLEMENTED", 0)
            return _unimplemented()
        loaded = types(call.version)
        message = loaded.read(loaded.of(f"services.types.{method.module}", method.request), call.body)
        if message is None:
            self._box.note(method.operation, noted, "INTERNAL", 0)
            return Reply([], "INTERNAL", "Failed parsing request proto.")
        if method.result:
            noted.rows = len(getattr(message, method.rows))
        faults = self._box.faults
        fault = faults.choose(method.operation, noted.rows, reading=True) or faults.choose(method.operation, noted.rows)
        if fault:
            self._box.postpone(fault, lambda: self._arrive(method, call, message, noted))
        reply = Reply() if fault and not fault.applies_first() else self._handled(method, call, message, noted)
        if fault:
            noted.fault = fault.kind
            reply = _faulty(fault, reply, loaded)
        status = reply.status if reply.way == "send" else None
        self._box.note(method.operation, noted, status, time.perf_counter() - began)
        return reply

    def _arrive(self, method: Method, call: Call, message: Any, noted: Request) -> None:
        status = self._handled(method, call, message, noted).status
        self._box.note(method.operation, replace(noted, fault="arrived late"), status, 0)

    def _handled(self, method: Method, call: Call, message: Any, noted: Request) -> Reply:
        config, loaded = self._box.config, types(call.version)
        request_id = secrets.token_urlsafe(16)
        trailing: list[tuple[str, str | bytes]] = [("request-id", request_id)]
        try:
            if call.version not in config.ads.versions:
                if config.ads.dead_answer == "UNIMPLEMENTED":
                    return _unimplemented()
                raise refused("RequestError.UNSUPPORTED_VERSION", "The version is not supported any more.")
            self._admit(call, message.customer_id)
            with self._google.book.lock:
                desk = Desk(
                    config.google,
                    config.ads,
                    loaded,
                    self._google.book,
                    message.customer_id,
                    self._box.clock.time(),
                    self._google.started,
                    self._uploads,
                    self._tries,
                )
                messages = self._handlers[method.operation](desk, method, message, request_id)
        except CallRefused as error:
            return Reply(
                [], error.status, error.said, [*trailing, *_details(loaded, error.flaws, error.said, request_id)]
            )
        return Reply(messages, trailing=trailing)

    def _admit(self, call: Call, customer: str) -> None:
        """Token, scope, account, and the manager that login-customer-id names."""
        google = self._box.config.google
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        said = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        if scheme.lower() != "bearer" or not token:
            raise CallRefused("UNAUTHENTICATED", said)
        scopes = self._google.sign_in.scopes(token.strip())
        if scopes is None:
            word = "OAUTH_TOKEN_EXPIRED" if self._google.sign_in.gave(token.strip()) else "OAUTH_TOKEN_INVALID"
            raise CallRefused("UNAUTHENTICATED", said, [Flaw(f"AuthenticationError.{word}", said)])
        if ADWORDS not in scopes:
            said = "Request had insufficient authentication scopes."
            raise CallRefused("PERMISSION_DENIED", said, [Flaw("ACCESS_TOKEN_SCOPE_INSUFFICIENT", said)])
        login = call.metadata.get("login-customer-id", "")
        if login and not re.fullmatch(r"\d{10}", login):
            raise refused("HeaderError.INVALID_LOGIN_CUSTOMER_ID", "The login customer id is not ten digits.")
        if not re.fullmatch(r"\d{10}", customer):
            raise refused("RequestError.INVALID_CUSTOMER_ID", "The customer id is not ten digits.", "customer_id")
        known = customer in google.customers or customer in google.managers
        managed = customer in (login, *below(google, login)) if login else not google.login_account_required
        if not known or not (managed or (not login and customer in google.managers)):
            said = "User doesn't have permission to access customer. Note: If you're accessing a client customer, the manager's customer id must be set in the 'login-customer-id' header."
            raise CallRefused("PERMISSION_DENIED", said, [Flaw("AuthorizationError.USER_PERMISSION_DENIED", said)])
        account = self._box.config.ads.accounts.get(customer)
        if account and account.status != "ENABLED":
            said = "The customer account can't be accessed because it is not yet enabled or has been deactivated."
            raise CallRefused("PERMISSION_DENIED", said, [Flaw("AuthorizationError.CUSTOMER_NOT_ENABLED", said)])

    # Uploads.

    def _upload(self, desk: Desk, method: Method, message: Any, request_id: str) -> list[Any]:
        given = getattr(message, method.rows)
        counted = self._rows[method.operation]
        counted["received"] += len(given)
        read: Sequence[_Row] = []
        try:
            _whole(desk, method, message, len(given))
            read = _CHECKS[method.operation](desk, given)
        finally:
            if not read:
                counted["refused"] += len(given)
        job = self._job(message)
        failed = sum(bool(row.flaws) for row in read)
        if message.validate_only:
            counted["validated"] += len(read)
        else:
            counted["refused"] += failed
            counted["accepted"] += len(read) - failed
            self._book(desk, read, job)
        return [self._answered(desk, method, message, read, job, request_id)]

    def _job(self, message: Any) -> int:
        """CODE google-ads 34.0.0: one that is not given is made by the server, 2³¹ or more."""
        if "job_id" in message.DESCRIPTOR.fields_by_name and message.HasField("job_id"):
            return int(message.job_id)
        self._jobs += 1
        return 2**31 + self._jobs

    def _book(self, desk: Desk, read: Sequence[_Row], job: int) -> None:
        upload = Upload(desk.now, desk.customer, job)
        for row in read:
            if row.target is None:
                continue
            row.book(row.target)
            upload.taken[row.target.id] += 1
            if row.flaws:
                upload.failed[row.target.id] += 1
                upload.errors[row.target.id, row.flaws[0].code] += 1
        self._uploads.append(upload)

    def _answered(
        self, desk: Desk, method: Method, message: Any, read: Sequence[_Row], job: int, request_id: str
    ) -> Any:
        made = desk.types.of(f"services.types.{method.module}", method.response)()
        if "job_id" in made.DESCRIPTOR.fields_by_name:
            made.job_id = job
        if not message.validate_only:
            names = desk.types.of(f"services.types.{method.module}", method.result).DESCRIPTOR.fields_by_name
            for row, given in zip(read, getattr(message, method.rows), strict=True):
                result = made.results.add()
                if not row.flaws:
                    _copy(given, result, names)
        flaws = [flaw.below(f"{method.rows}[{i}]") for i, row in enumerate(read) for flaw in row.flaws]
        if flaws:
            _partial(desk, made.partial_failure_error, flaws, request_id)
        return made

    # Reads.

    def _search(self, desk: Desk, method: Method, message: Any, request_id: str) -> list[Any]:
        query, found = search(desk, message.query)
        response = desk.types.of(f"services.types.{method.module}", method.response)
        stream = method.response == "SearchGoogleAdsStreamResponse"
        size = desk.ads.rows_per_batch if stream else 10_000
        rows = list(found)
        start = 0 if stream or not message.page_token else int(message.page_token)
        batches = []
        for at in range(start, max(len(rows), start + 1), size):
            made = response()
            made.field_mask.paths.extend(query.fields)
            for row in rows[at : at + size]:
                into = made.results.add()
                for name, value in row.items():
                    desk.types.fill(into, name, value)
            batches.append(made)
            if stream:
                made.request_id = request_id
                continue
            made.total_results_count = len(rows)
            if at + size < len(rows):
                made.next_page_token = str(at + size)
            break
        return batches


_CHECKS: dict[str, Callable[[Desk, Any], Sequence[_Row]]] = {
    "ads.clicks": clicks,
    "ads.calls": calls,
    "ads.adjust": adjustments,
}


def _whole(desk: Desk, method: Method, message: Any, rows: int) -> None:
    """What refuses a whole upload."""
    if not message.partial_failure:
        said = "partial_failure must be true."
        raise refused("PartialFailureError.PARTIAL_FAILURE_MODE_REQUIRED", said, "partial_failure")
    if not rows:
        raise refused("FieldError.REQUIRED", "The required field was not present.", method.rows)
    adjusts = method.operation == "ads.adjust"
    family = "ConversionAdjustmentUploadError" if adjusts else "ConversionUploadError"
    if rows > desk.ads.max_rows:
        word = "TOO_MANY_ADJUSTMENTS_IN_REQUEST" if adjusts else "TOO_MANY_CONVERSIONS_IN_REQUEST"
        said = f"The number of rows must be fewer than {desk.ads.max_rows + 1}."
        raise refused(f"{family}.{word}", said, method.rows)
    if "job_id" in message.DESCRIPTOR.fields_by_name and message.job_id < 0:
        raise refused(f"{family}.INVALID_JOB_ID", "The job id must be in [1, 2^31).", "job_id")


def _copy(given: Any, result: Any, names: Any) -> None:
    """A result repeats what names its row."""
    for name, kind in names.items():
        if kind.is_repeated:
            getattr(result, name).extend(getattr(given, name))
        elif kind.message_type:
            if given.HasField(name):
                getattr(result, name).CopyFrom(getattr(given, name))
        elif value := getattr(given, name):
            setattr(result, name, value)


def _partial(desk: Desk, target: Any, flaws: list[Flaw], request_id: str) -> None:
    target.code = 3
    located = [flaw if desk.ads.errors_located else replace(flaw, path="") for flaw in flaws]
    first, several = located[0], len(located) > 1
    where = f", at {first.path}" if first.path else ""
    target.message = f"Multiple errors in 'details'. First error: {first.message}{where}" if several else first.message
    if desk.ads.details == "absent":
        return
    target.details.add().Pack(desk.types.failure(located, request_id))
    if desk.ads.details == "undecodable":
        target.details[0].value = b"\xff\xfe not a message"


def _details(loaded: Types, flaws: list[Flaw], said: str, request_id: str) -> list[tuple[str, str | bytes]]:
    """Trailing metadata: a GoogleAdsFailure, or what Google's front end says of a reason without a family."""
    own = [flaw for flaw in flaws if "." in flaw.code]
    found: list[tuple[str, str | bytes]] = []
    if own:
        found.append((loaded.failure_key, loaded.failure(own, request_id).SerializeToString()))
    for flaw in flaws:
        if flaw not in own:
            from google.rpc import code_pb2, error_details_pb2, status_pb2

            info = error_details_pb2.ErrorInfo(
                reason=flaw.code, domain="googleapis.com", metadata={"service": "googleads.googleapis.com"}
            )
            status = status_pb2.Status(code=code_pb2.PERMISSION_DENIED, message=said)
            status.details.add().Pack(info)
            found.append(("grpc-status-details-bin", status.SerializeToString()))
    return found


def _unimplemented() -> Reply:
    """CODE, field report googleads/google-ads-python#897: how a version that was switched off answers."""
    return Reply([], "UNIMPLEMENTED", "501 GRPC target method can't be resolved")


_SAID = {
    "html": ("UNAVAILABLE", "Received http2 header with status: 502"),
    "redirect": ("UNKNOWN", "Received http2 header with status: 302"),
}


def _faulty(fault: Fault, reply: Reply, loaded: Types) -> Reply:
    """The way a broken answer travels; `reply` is empty when the call was not applied."""
    match fault.kind:
        case "reset_in_body" | "reset_before" | "reset_after" | "reset_late":
            return Reply(way="cut")
        case "timeout_before" | "timeout_after":
            return Reply(way="hang", wait_s=3600 if fault.seconds is None else fault.seconds)
        case "cut_body":
            kept = reply.messages[: fault.after or len(reply.messages) // 2]
            return Reply(kept, way="cut")
        case "slow":
            return replace(reply, wait_s=1 if fault.seconds is None else fault.seconds)
        case "garbage":
            return replace(reply, messages=[b"\xff\xfe not a message"])
        case "empty":
            return replace(reply, messages=[type(one)() for one in reply.messages[:1]])
        case "html" | "redirect":
            return Reply([], *_SAID[fault.kind])
    return _failing(fault, reply.messages[: fault.after], loaded)


def _failing(fault: Fault, before: list[Any], loaded: Types) -> Reply:
    said = fault.body if isinstance(fault.body, str) else "The sandbox was asked to fail."
    codes = fault.error.split("+") if fault.error else []
    flaws = [Flaw(code, said, retry_after=fault.retry_after) for code in codes]
    if codes:
        usual = _OF_FAMILY.get(
            codes[0].partition(".")[0], "INVALID_ARGUMENT" if "." in codes[0] else "PERMISSION_DENIED"
        )
    else:
        usual = _OF_HTTP.get(fault.status or 503, "UNAVAILABLE")
    request_id = secrets.token_urlsafe(16)
    trailing = [("request-id", request_id), *_details(loaded, flaws, said, request_id)]
    return Reply(before, fault.code or usual, said, trailing)
