"""Google's own client on the loopback interface: what each way to fail becomes, and what nobody may ever read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convsync.destinations.google import Ads, DataManager
from convsync.destinations.google.ads.answers import AdsRefused
from convsync.destinations.google.ads.client import AdsClient, is_this_machine, messages
from convsync.destinations.google.auth import ADWORDS, SignIn
from convsync.errors import Halted, NotSent, Unclear
from convsync.net import Wire
from convsync.sandbox import Sandbox, SandboxConfig
from convsync.sandbox.certificate import certificate_in

OWNER = "1234567890"
UPLOAD = ("ConversionUploadService", "upload_click_conversions")
GCLID = "Cj0KCQiA-secret-click-4711"
ACTIONS = "SELECT conversion_action.id FROM conversion_action"


@pytest.fixture
def ads(ads_certificate: Path) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), ads=True, ads_folder=ads_certificate.parent) as box:
        yield box


class Connected:
    """A client of the sandbox, closed at the end of the test, with what it was made of."""

    def __init__(self, box: Sandbox, endpoint: str = "", **options: Any) -> None:
        self.wire = Wire(requests_per_second=1e6, timeout=5, connect_timeout=2, sleep=lambda _: None)
        self.sign_in = SignIn(
            "destinations.google",
            wire=self.wire,
            token_url=f"{box.url}/token",
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            refresh_token="sandbox-refresh",
            scopes=(ADWORDS,),
        )
        self.client = AdsClient(
            "destinations.google",
            sign_in=self.sign_in,
            wire=self.wire,
            endpoint=endpoint or box.ads_endpoint,
            **options,
        )

    def upload(self) -> Any:
        return self.client.call(*UPLOAD, request())

    def close(self) -> None:
        self.client.close()
        self.wire.close()


@pytest.fixture
def one(ads: Sandbox) -> Iterator[Connected]:
    made = Connected(ads)
    yield made
    made.close()


@pytest.fixture
def made() -> Iterator[list[Connected]]:
    connected: list[Connected] = []
    yield connected
    for each in connected:
        each.close()


def request(version: str = "v26") -> Any:
    kind = messages(version, "services.types.conversion_upload_service").UploadClickConversionsRequest.pb()
    asked = kind(customer_id=OWNER, partial_failure=True)
    asked.conversions.add(
        gclid=GCLID,
        conversion_action=f"customers/{OWNER}/conversionActions/2222222222",
        conversion_date_time="2026-11-21 10:00:00+00:00",
        order_id="cs-1",
    )
    return asked


def calls(box: Sandbox, operation: str = "ads.clicks") -> int:
    return sum(each["operation"] == operation for each in box.requests())


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# -- nothing left ----------------------------------------------------------------------------------------


def test_nobody_at_the_address_is_not_sent(ads: Sandbox, made: list[Connected]) -> None:
    made.append(Connected(ads, f"localhost:{closed_port()}"))
    with pytest.raises(NotSent, match="refused"):
        made[0].upload()


def test_a_server_without_tls_is_not_sent(ads: Sandbox, made: list[Connected]) -> None:
    made.append(Connected(ads, f"localhost:{ads.port}"))
    with pytest.raises(NotSent, match=r"tls|unreachable|connect_timeout"):
        made[0].upload()


def test_a_certificate_that_nobody_vouches_for_is_not_sent(made: list[Connected]) -> None:
    with Sandbox(SandboxConfig(), ads=True) as stranger:
        made.append(Connected(stranger))
        with pytest.raises(NotSent, match="tls"):
            made[0].upload()
        assert calls(stranger) == 0


def test_whoever_lost_the_right_to_send_sends_nothing(ads: Sandbox, one: Connected) -> None:
    def gate() -> None:
        raise NotSent("lease_lost")

    one.sign_in.token()  # which goes through the same gate
    one.wire.before_bytes = gate
    with pytest.raises(NotSent, match="lease_lost"):
        one.upload()
    assert calls(ads) == 0


def test_a_run_that_was_told_to_stop_sends_nothing(ads: Sandbox, one: Connected) -> None:
    one.sign_in.token()
    one.wire.stop.set()
    with pytest.raises(NotSent, match="interrupted"):
        one.upload()
    assert calls(ads) == 0


def test_credentials_that_nobody_knows_stop_before_anything_is_sent(ads: Sandbox, one: Connected) -> None:
    ads.faults.add(on="google.token", status=400, body={"error": "invalid_grant"}, times=None)
    with pytest.raises(Halted) as caught:
        one.upload()
    assert caught.value.finding.code == "invalid_grant"
    assert calls(ads) == 0


# -- it may have arrived ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"kind": "status", "code": "UNAVAILABLE"}, "unavailable"),
        ({"kind": "status", "code": "INTERNAL"}, "internal"),
        ({"kind": "status", "code": "DEADLINE_EXCEEDED"}, "deadline_exceeded"),
        ({"kind": "status", "code": "UNKNOWN"}, "unknown"),
        ({"kind": "status", "code": "ABORTED"}, "aborted"),
        ({"kind": "status", "error": "InternalError.TRANSIENT_ERROR"}, "transient_error"),
        ({"kind": "status", "error": "DatabaseError.CONCURRENT_MODIFICATION"}, "concurrent_modification"),
        ({"kind": "status", "error": "RequestError.RPC_DEADLINE_TOO_SHORT"}, "rpc_deadline_too_short"),
        ({"kind": "reset_before"}, "unavailable"),
        ({"kind": "reset_after"}, "unavailable"),
        ({"kind": "garbage"}, "internal"),
    ],
)
def test_what_may_have_arrived_is_unclear_and_the_next_call_gets_through(
    ads: Sandbox, one: Connected, fault: dict[str, Any], word: str
) -> None:
    ads.faults.add(on="ads.clicks", **fault)
    with pytest.raises(Unclear, match=word):
        one.upload()
    assert calls(ads) == 1
    one.upload()
    assert calls(ads) == 2


def test_an_answer_that_never_comes_is_unclear_when_the_time_is_up(ads: Sandbox, one: Connected) -> None:
    one.upload()
    one.wire.timeout = 0.3
    ads.faults.add(on="ads.clicks", kind="timeout_after")
    with pytest.raises(Unclear, match="deadline_exceeded"):
        one.upload()


# -- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ({"error": "AuthorizationError.USER_PERMISSION_DENIED"}, "user_permission_denied", "login_customer_id"),
        ({"error": "AuthorizationError.CUSTOMER_NOT_ENABLED"}, "customer_not_enabled", "Google Ads"),
        ({"error": "RequestError.UNSUPPORTED_VERSION"}, "unsupported_version", "ads_api_version"),
        ({"error": "RequestError.RESOURCE_NAME_MALFORMED"}, "resource_name_malformed", "report it"),
        ({"error": "SERVICE_DISABLED", "code": "PERMISSION_DENIED"}, "api_disabled", "Enable it"),
        ({"error": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}, "scope_missing", "convsync google login"),
        ({"error": "QuotaError.ACCESS_PROHIBITED"}, "access_prohibited", "Access level"),
        ({"code": "PERMISSION_DENIED"}, "permission_denied", "login_customer_id"),
        ({"code": "PERMISSION_DENIED", "error": "A_REASON_OF_NEXT_YEAR"}, "permission_denied", "login_customer_id"),
        ({"code": "UNIMPLEMENTED"}, "unimplemented", "ads_api_version"),
    ],
)
def test_configuration_stops_with_one_finding_that_advises(
    ads: Sandbox, one: Connected, fault: dict[str, Any], code: str, says: str
) -> None:
    ads.faults.add(on="ads.clicks", kind="status", **fault)
    with pytest.raises(Halted) as caught:
        one.upload()
    finding = caught.value.finding
    assert (finding.level, finding.code, finding.where) == ("error", code, "destinations.google")
    assert says in finding.sentence()
    assert calls(ads) == 1


def test_a_version_that_google_switched_off_is_configuration(ads: Sandbox, made: list[Connected]) -> None:
    ads.config.ads.versions = ["v26"]
    made.append(Connected(ads, version="v23"))
    with pytest.raises(Halted) as caught:
        made[0].client.call(*UPLOAD, request("v23"))
    assert "ads_api_version" in caught.value.finding.advice


def test_a_version_that_the_client_does_not_know_is_configuration(ads: Sandbox, made: list[Connected]) -> None:
    made.append(Connected(ads, version="v99"))
    for call in (made[0].upload, lambda: list(made[0].client.search(OWNER, ACTIONS))):
        with pytest.raises(Halted) as caught:
            call()
        assert caught.value.finding.code == "api_version"
    options: dict[str, Any] = {"customer_id": OWNER, "ads_api_version": "v99"}
    for route in (Ads("google", **options), DataManager("google", on_refund="retract", **options)):
        with pytest.raises(Halted):
            route.learn({})
        route.close()


def test_another_bundle_in_the_same_process_is_told_not_ignored(
    ads: Sandbox, made: list[Connected], tmp_path: Path
) -> None:
    made.append(Connected(ads))
    made[0].upload()
    made.append(Connected(ads, ca_bundle=tmp_path / "other.pem"))
    with pytest.raises(Halted) as caught:
        made[1].upload()
    assert caught.value.finding.code == "ca_bundle"


# -- signing in ------------------------------------------------------------------------------------------


def test_a_token_that_google_does_not_take_is_renewed_once(ads: Sandbox, one: Connected) -> None:
    ads.faults.add(on="ads.clicks", kind="status", error="AuthenticationError.OAUTH_TOKEN_EXPIRED")
    assert one.upload().results[0].gclid == GCLID
    assert (calls(ads), calls(ads, "google.token")) == (2, 2)


def test_a_call_carries_the_token_that_another_thread_fetched_while_it_waited(ads: Sandbox, one: Connected) -> None:
    """Else the threads of a run would overwrite a new token with the one that Google no longer takes."""
    stale = one.sign_in.token()

    def gate() -> None:
        one.wire.before_bytes = None
        one.sign_in.renew(stale)
        signed_in: Any = ads.platforms["google"]
        del signed_in.sign_in._tokens[stale]

    one.wire.before_bytes = gate
    assert one.upload().results[0].gclid == GCLID
    assert calls(ads) == 1


@pytest.mark.parametrize("fault", [{"error": "AuthenticationError.OAUTH_TOKEN_INVALID"}, {"code": "UNAUTHENTICATED"}])
def test_a_fresh_token_that_google_does_not_take_stops(ads: Sandbox, one: Connected, fault: dict[str, Any]) -> None:
    ads.faults.add(on="ads.clicks", kind="status", times=None, **fault)
    with pytest.raises(Halted) as caught:
        one.upload()
    assert "convsync google login" in caught.value.finding.advice
    assert (calls(ads), calls(ads, "google.token")) == (2, 2)


def test_the_manager_and_the_developer_token_travel_with_a_call(ads: Sandbox, made: list[Connected]) -> None:
    ads.config.google.login_account_required = True
    made.append(Connected(ads))
    with pytest.raises(Halted):
        made[0].upload()
    made.append(Connected(ads, login_customer_id="555-000-1111", developer_token="dev-token-12345678"))
    assert made[1].upload().job_id


# -- refusals --------------------------------------------------------------------------------------------


def test_a_quota_says_how_long_to_wait(ads: Sandbox, one: Connected) -> None:
    ads.faults.add(on="ads.clicks", kind="status", error="QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", retry_after=30)
    with pytest.raises(AdsRefused) as caught:
        one.upload()
    assert (caught.value.code, caught.value.wait) == ("QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", 30)


def test_a_bare_quota_is_a_refusal_without_a_wait(ads: Sandbox, one: Connected) -> None:
    ads.faults.add(on="ads.clicks", kind="status", code="RESOURCE_EXHAUSTED")
    with pytest.raises(AdsRefused) as caught:
        one.upload()
    assert (caught.value.code, caught.value.wait) == ("RESOURCE_EXHAUSTED", None)


def test_a_query_that_google_does_not_take_is_refused_with_its_word(one: Connected) -> None:
    with pytest.raises(AdsRefused) as caught:
        list(one.client.search(OWNER, "SELECT conversion_action.nonsense FROM conversion_action"))
    assert caught.value.code == "QueryError.UNRECOGNIZED_FIELD"


def test_a_request_that_is_too_large_for_the_server_was_not_processed(
    ads: Sandbox, made: list[Connected], ads_certificate: Path
) -> None:
    import grpc

    certificate, key = certificate_in(ads_certificate.parent)
    handler = grpc.unary_unary_rpc_method_handler(lambda body, context: b"")
    server = grpc.server(ThreadPoolExecutor(1))  # takes 4 MB, as grpc does by itself
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "google.ads.googleads.v26.services.ConversionUploadService", {"UploadClickConversions": handler}
            )
        ]
    )
    pair = (key.read_bytes(), certificate.read_bytes())
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    server.start()
    made.append(Connected(ads, f"localhost:{port}"))
    large = request()
    large.conversions[0].gclid = "x" * 5_000_000
    with pytest.raises(AdsRefused) as caught:
        made[0].client.call(*UPLOAD, large)
    assert caught.value.code == "DatabaseError.REQUEST_TOO_LARGE"
    server.stop(None).wait()


# -- reading ---------------------------------------------------------------------------------------------


def test_rows_arrive_as_raw_messages(one: Connected) -> None:
    found = {row.conversion_action.id for row in one.client.search("123-456-7890", ACTIONS)}
    assert found >= {1111111111, 2222222222}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "code": "UNAVAILABLE"}, Unclear),
        ({"kind": "status", "error": "InternalError.INTERNAL_ERROR"}, Unclear),
        ({"kind": "status", "error": "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED"}, AdsRefused),
        ({"kind": "status", "error": "AuthorizationError.USER_PERMISSION_DENIED"}, Halted),
        ({"kind": "status", "error": "AuthenticationError.OAUTH_TOKEN_EXPIRED"}, Halted),
    ],
)
def test_an_error_in_the_middle_of_a_stream_comes_after_its_rows(
    ads: Sandbox, one: Connected, fault: dict[str, Any], kind: type[Exception]
) -> None:
    ads.config.ads.rows_per_batch = 1
    ads.faults.add(on="ads.search", after=1, **fault)
    rows = one.client.search(OWNER, ACTIONS)
    assert next(rows).conversion_action.id
    with pytest.raises(kind):
        list(rows)


def test_a_stream_that_breaks_off_never_looks_like_its_end(ads: Sandbox, one: Connected) -> None:
    ads.config.ads.rows_per_batch = 1
    ads.faults.add(on="ads.search", kind="reset_after", after=1)
    with pytest.raises(Unclear):
        list(one.client.search(OWNER, ACTIONS))


def test_a_reader_that_has_enough_lets_go(ads: Sandbox, one: Connected) -> None:
    ads.config.ads.rows_per_batch = 1
    rows = one.client.search(OWNER, ACTIONS)
    next(rows)
    rows.close()
    assert one.upload().job_id


def test_many_threads_share_one_channel_and_one_token(ads: Sandbox, one: Connected) -> None:
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(one.upload().job_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8
    assert calls(ads, "google.token") == 1


# -- what nobody may read --------------------------------------------------------------------------------

_TALK = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
for name in ("google", "google.ads", "google.ads.googleads.client", "grpc"):
    logging.getLogger(name).setLevel(logging.DEBUG)
from test_google_ads_client import Connected
from convsync.sandbox import Sandbox, SandboxConfig
from pathlib import Path
with Sandbox(SandboxConfig(), ads=True, ads_folder=Path(sys.argv[1])) as box:
    one = Connected(box, developer_token="dev-token-12345678")
    one.upload()
    logging.getLogger("google.ads.googleads.client").disabled = False
    logging.getLogger("google.ads.googleads.client").setLevel(logging.DEBUG)
    one.upload()
    for error in ("InternalError.INTERNAL_ERROR", "AuthorizationError.USER_PERMISSION_DENIED"):
        box.faults.add(on="ads.clicks", kind="status", error=error)
        try:
            one.upload()
        except Exception:
            logging.getLogger("test").exception("it failed")
    print(len(list(one.client.search("1234567890", "SELECT conversion_action.id FROM conversion_action"))) > 0)
    one.close()
"""


@pytest.mark.parametrize("scope", ["", "google", "google.ads.googleads"])
def test_no_click_and_no_token_is_printed_whatever_logging_is_asked_for(ads_certificate: Path, scope: str) -> None:
    env = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ads_certificate),
        "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": scope,
    }
    command = [sys.executable, "-W", "error", "-c", _TALK, str(ads_certificate.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert run.stdout.strip() == "True"
    assert "it failed" in run.stderr
    for secret in (GCLID, "Bearer", "dev-token", "sandbox-refresh", "conversion_date_time"):
        assert secret not in run.stderr


def test_a_proxy_of_the_environment_does_not_stand_between_us_and_this_machine(ads_certificate: Path) -> None:
    env = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ads_certificate),
        "https_proxy": f"http://127.0.0.1:{closed_port()}",
        "no_proxy": "example.com",
    }
    code = _TALK.partition('    logging.getLogger("google.ads')[0] + "    one.close()\n    print('through')\n"
    command = [sys.executable, "-W", "error", "-c", code, str(ads_certificate.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert run.stdout.strip() == "through"


def test_nothing_of_google_is_loaded_before_the_first_call() -> None:
    code = (
        "import sys, convsync.cli, convsync.destinations.google as g; g.Ads('g', customer_id='1').close();"
        "print(sorted({'google.ads.googleads', 'google.api_core', 'google.protobuf', 'grpc'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [
        ("localhost:443", True),
        ("127.0.0.1:8443", True),
        ("[::1]:8443", True),
        ("localhost", True),
        ("googleads.googleapis.com", False),
        ("10.0.0.1:443", False),
    ],
)
def test_which_addresses_are_this_machine(endpoint: str, here: bool) -> None:
    assert is_this_machine(endpoint) is here
