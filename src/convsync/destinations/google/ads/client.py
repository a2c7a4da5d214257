"""The Google Ads API through Google's own client, unmodified; what comes of a call is told as our wire tells it.

    NotSent      no connection, or our side stopped: safe to send again
    Unclear      the request may have been processed
    Halted       credentials or configuration: a person is told once
    AdsRefused   Google did not take the call, for a reason of its own

Google's client and grpc take 0.6 s and 100 MB to load, so nothing here imports them before the first call. They know
no time-out, no retry and no privacy by themselves: all three are added here.
"""

from __future__ import annotations

import functools
import importlib.util
import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convsync.destinations.google.ads.answers import (
    AdsReader,
    AdsRefused,
    Fault,
    failure_in,
    faults,
    never_left,
    weighed,
)
from convsync.destinations.google.auth import SignIn, quiet
from convsync.destinations.google.replies import Means
from convsync.errors import Halted, NotSent, Unclear, WireError
from convsync.model import Finding
from convsync.net import Wire, scrub

ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
"""Where grpc looks for the certificates it trusts, once in a process. CODE grpcio 1.85.1"""
UNPROXIED = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
"""Where grpc looks for hosts that no proxy stands before; the first that is set counts. CODE grpcio 1.85.1"""
STREAM_TIMES = 10
"""A report may take so many times the time-out of a request: it is read while it is written."""
_DEFINITE = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"})
"""Statuses that say the call itself is at fault, so that nothing came of it. DOC grpc.io/docs/guides/status-codes"""

_trusting = threading.Lock()
_trusted: str | None = None
"""The roots that grpc reads, or has read, in this process; it never reads them again."""


def messages(version: str, module: str) -> Any:
    """The module of the Ads API's message types, as shipped: `messages("v26", "services.types.google_ads_service")`."""
    return importlib.import_module(f"google.ads.googleads.{version}.{module}")


class AdsClient:
    """One account's way into the Google Ads API; shared by the threads of a run.

    `where` names the section of the configuration that findings point at. Nothing happens before the first call.
    """

    def __init__(
        self,
        where: str,
        *,
        sign_in: SignIn,
        wire: Wire,
        endpoint: str = "googleads.googleapis.com",
        version: str = "v26",
        login_customer_id: str | None = None,
        developer_token: str | None = None,
        ca_bundle: Path | None = None,
    ) -> None:
        self.version = version
        self.reader = AdsReader(where, wire.clock)
        self._sign_in = sign_in
        self._wire = wire
        self.endpoint = endpoint
        self._headers = {
            "login_customer_id": (login_customer_id or "").replace("-", "").strip() or None,
            "developer_token": developer_token or None,
        }
        self._ca_bundle = ca_bundle
        self._lock = threading.Lock()
        self._google: Any = None
        self._services: dict[str, Any] = {}
        self._local = threading.local()

    @property
    def request_id(self) -> str:
        """Google's name for the last call of this thread that succeeded; empty if it gave none."""
        return str(getattr(self._local, "request_id", ""))

    def search(self, customer_id: str, query: str) -> Iterator[Any]:
        """The rows of a GAQL query, raw protobuf `GoogleAdsRow`, as they arrive. An error may come between two rows."""
        self.require_version()
        kind = messages(self.version, "services.types.google_ads_service").SearchGoogleAdsStreamRequest.pb()
        request = kind(customer_id=customer_id.replace("-", ""), query=query)
        stream = self._carry("GoogleAdsService", "search_stream", request, STREAM_TIMES * self._wire.timeout)
        try:
            while True:
                try:
                    batch = next(stream)
                except StopIteration:
                    return
                except Exception as error:  # noqa: BLE001 - whatever the client raises, it is told in our words
                    told = self._told(error)
                    raise Halted(told.finding) if isinstance(told, _Stale) else told from None
                yield from batch.results
                del batch  # ten thousand rows take 70 MB: not two such messages at a time
        finally:
            stream.cancel()

    def call(self, service: str, method: str, request: Any) -> Any:
        """One call, e.g. ("ConversionUploadService", "upload_click_conversions", a raw request); the raw response."""
        return self._carry(service, method, request, self._wire.timeout)

    def require_version(self) -> None:
        """Raises Halted where the installed google-ads has not the version that the configuration asks for."""
        if importlib.util.find_spec(f"google.ads.googleads.{self.version}") is None:
            message = f"the installed google-ads does not know {self.version} of the Google Ads API."
            advice = "Set ads_api_version to one it knows, or update google-ads."
            raise Halted(self._finding("api_version", message, advice))

    def parse(self, data: bytes) -> Any:
        """A raw `GoogleAdsFailure`. Versions differ in comments only, so one class reads those of all. MEASURED"""
        return messages(self.version, "errors.types.errors").GoogleAdsFailure.pb().FromString(data)

    def close(self) -> None:
        with self._lock:
            services, self._services = self._services, {}
        for service in services.values():
            service.transport.close()

    # -- one call ------------------------------------------------------------------------------------

    def _carry(self, service: str, method: str, request: Any, timeout: float) -> Any:
        """A token that Google does not take is renewed once. Signing in waits outside, as it has retries of its own."""
        token = self._sign_in.token()
        try:
            return self._attempts(service, method, request, timeout)
        except _Stale:
            self._sign_in.renew(token)
        try:
            return self._attempts(service, method, request, timeout)
        except _Stale as refused:
            raise Halted(refused.finding) from None

    def _attempts(self, service: str, method: str, request: Any, timeout: float) -> Any:
        def attempt(gate: Callable[[], None]) -> Any:
            stub = self._service(service)
            hush(self.version)
            gate()  # the time-out counts the connecting, too: nothing leaves later than the gate allows for
            self._local.request_id = ""
            try:
                return getattr(stub, method)(request=request, timeout=timeout)
            except Exception as error:  # noqa: BLE001 - whatever the client raises, it is told in our words
                raise self._told(error) from None

        return self._wire.through(attempt)

    # -- what went wrong -----------------------------------------------------------------------------

    def _told(self, error: Exception) -> Exception:
        """The client wraps what grpc raised in one of three ways, or not at all (MEASURED): here it is one again."""
        if isinstance(error, WireError):
            return error
        rpc = next((one for one in _links(error) if callable(getattr(one, "trailing_metadata", None))), None)
        status = rpc.code() if rpc is not None else None
        if rpc is None or status is None:
            return Unclear(type(error).__name__)
        name, details = str(status.name), str(rpc.details() or "")
        metadata = [(str(key), value) for key, value in rpc.trailing_metadata() or ()]
        failure = failure_in(metadata, self.parse)
        found = faults(failure) if failure is not None else []
        if not found:
            if name == "UNAVAILABLE" and (word := never_left(details)):
                return NotSent(word)
            if "message larger than max" in details:
                if "CLIENT:" in details:  # said on our side, of an answer that did come
                    return Unclear("too_large")
                found = [Fault("DatabaseError.REQUEST_TOO_LARGE", "")]
                return self._judged(name, found, "")
            words = [word for word in (_reason_in(metadata), name) if word]
            found = [Fault(word, scrub(details)) for word in words]
        return self._judged(name, found, failure.request_id if failure is not None else "")

    def _judged(self, status: str, found: list[Fault], request_id: str) -> Exception:
        fault, meaning = weighed(found)
        if meaning is None:
            if status in _DEFINITE or "." in fault.code:
                return AdsRefused(found, request_id=request_id)
            return Unclear(status.lower())
        match meaning.means:
            case Means.HALT:
                finding = self.reader.halted(fault, meaning, request_id)
                return _Stale(finding) if status == "UNAUTHENTICATED" else Halted(finding)
            case Means.UNKNOWN:
                return Unclear(fault.code.rpartition(".")[2].lower())
            case _:
                return AdsRefused(found, meaning.means, request_id)

    # -- Google's client -----------------------------------------------------------------------------

    def _service(self, name: str) -> Any:
        """Each get_service opens a channel of its own, so there is one of a kind. MEASURED"""
        with self._lock:
            if name not in self._services:
                self._services[name] = self._open(name)
            return self._services[name]

    def _open(self, name: str) -> Any:
        hush(self.version)
        self.require_version()
        self._trust()
        from google.ads.googleads.client import GoogleAdsClient

        if self._google is None:
            self._google = GoogleAdsClient(
                credentials=_bearer_class()(self._sign_in),
                use_proto_plus=False,
                version=self.version,
                endpoint=self.endpoint,
                **self._headers,
            )
        service = self._google.get_service(name, interceptors=[_listener_class()(self._local)])
        hush(self.version)
        return service

    def _trust(self) -> None:
        """grpc takes its roots from the environment, once a process; a later bundle would be ignored in silence."""
        global _trusted
        wanted = str(self._ca_bundle) if self._ca_bundle is not None else os.environ.get(ROOTS, "")
        with _trusting:
            if _trusted is None:
                _trusted = wanted
                if wanted:
                    os.environ[ROOTS] = wanted
            elif wanted != _trusted:
                raise Halted(
                    self._finding(
                        "ca_bundle",
                        "another ca_bundle is already in use for the Google Ads API in this process.",
                        "Give all Google destinations the same ca_bundle (one file may hold several certificates), "
                        "or run them apart: convsync sync --destination.",
                    )
                )
        if is_this_machine(self.endpoint):
            skip = next((os.environ[name] for name in UNPROXIED if os.environ.get(name)), "")
            os.environ[UNPROXIED[0]] = ",".join(sorted({*filter(None, skip.split(",")), "localhost", "127.0.0.1"}))

    def _finding(self, code: str, message: str, advice: str) -> Finding:
        return self.reader.finding("error", code, message, advice)


class _Stale(Exception):
    """Google does not accept the access token: once it may have expired, twice it is the credentials."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code)
        self.finding = finding


def hush(version: str) -> None:
    """Google's client prints whole requests at INFO when a call fails, and at DEBUG always; its mask does not know
    uploads (CODE google-ads 34.0.0). Its failures are ours to tell, so that logger says nothing, however it is set up.
    """
    quiet()
    logging.getLogger("google.ads.googleads.client").disabled = True
    for service in ("conversion_upload_service", "conversion_adjustment_upload_service", "google_ads_service"):
        for end in ("client", "transports.grpc"):
            name = f"google.ads.googleads.{version}.services.services.{service}.{end}"
            logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def _bearer_class() -> type:
    from google.auth.credentials import Credentials

    class Bearer(Credentials):
        """Carries the token that our own sign-in got last, whichever thread asked for it; it never asks anybody itself."""

        def __init__(self, sign_in: SignIn) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._sign_in = sign_in

        def refresh(self, request: Any) -> None:
            raise NotImplementedError("the token is renewed by our own sign-in")

        def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
            headers["authorization"] = f"Bearer {self._sign_in.newest}"

    return Bearer


@functools.cache
def _listener_class() -> type:
    import grpc

    class Listener(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        """Notes Google's name for a call, which the client passes on only when the call fails."""

        def __init__(self, local: threading.local) -> None:
            self._local = local

        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            answer = continuation(details, request)
            metadata = answer.initial_metadata() or ()
            self._local.request_id = next((str(value) for key, value in metadata if key == "request-id"), "")
            return answer

    return Listener


def _links(error: Exception) -> Iterator[Any]:
    """GoogleAdsException has `error`, google.api_core's errors have `errors`, and grpc's are themselves the call."""
    yield getattr(error, "error", None)
    yield from getattr(error, "errors", None) or ()
    yield error


def _reason_in(metadata: list[tuple[str, Any]]) -> str:
    """The reason of a google.rpc.ErrorInfo: what the front door says before the Ads API is asked."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    for key, value in metadata:
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            try:
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info) and info.reason:
                        return scrub(info.reason)
            except DecodeError:
                return ""
    return ""


def is_this_machine(endpoint: str) -> bool:
    """Whether `host` or `host:port` never leaves this machine."""
    host = endpoint.rpartition(":")[0] or endpoint
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
