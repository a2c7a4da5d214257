"""Who may call the Ads API, which versions answer, and the trouble that can be ordered, seen by the real client."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.ads.googleads.errors import GoogleAdsException
from google.api_core import exceptions

from convsync.sandbox import Sandbox
from convsync.sandbox.ads.config import Account, Cost

if TYPE_CHECKING:
    from conftest import AdsCaller

QUERY = "SELECT campaign.id FROM campaign"


def caller(ads: AdsCaller, **changes: Any) -> AdsCaller:
    return type(ads)(ads.box, **changes)


def failure_of(ads: AdsCaller, error: Any, version: str = "v26") -> Any:
    """What google-ads leaves undecoded: the failure in the trailing metadata of a bare api_core exception."""
    trailing = dict(error.value.errors[0].trailing_metadata())
    key = f"google.ads.googleads.{version}.errors.googleadsfailure-bin"
    return ads.client.get_type("GoogleAdsFailure").FromString(trailing[key]) if key in trailing else None


# Access.


def test_a_token_nobody_gave_and_one_that_is_over_are_unauthenticated(ads: AdsCaller) -> None:
    stranger = caller(ads, token="never-given")
    assert stranger.refused(lambda: stranger.upload(stranger.click()))[0] == "UNAUTHENTICATED"
    stranger.close()
    assert ads.box.books()["google"]["totals"]["conversions"] == 0


def test_a_token_of_the_token_endpoint_is_good_until_it_is_over(ads: AdsCaller, http: Any) -> None:
    form = {"grant_type": "refresh_token", "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    answer = http.post(f"{ads.box.url}/token", data=form | {"refresh_token": "sandbox-refresh"})
    one = caller(ads, token=answer.json()["access_token"])
    assert one.errors(one.upload(one.click())) == []
    ads.box.clock.advance(3600)
    assert one.refused(lambda: one.upload(one.click())) == ("UNAUTHENTICATED", ["OAUTH_TOKEN_EXPIRED"])
    one.close()


def test_a_token_without_the_adwords_scope_is_refused_by_googles_front_end(ads: AdsCaller) -> None:
    ads.box.config.google.static_tokens["dm-only"] = ["https://www.googleapis.com/auth/datamanager"]
    one = caller(ads, token="dm-only")
    with pytest.raises(exceptions.PermissionDenied) as caught:
        one.search(QUERY)
    assert caught.value.reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    one.close()


def test_a_missing_or_wrong_manager_is_a_missing_permission(ads: AdsCaller) -> None:
    denied = ("PERMISSION_DENIED", ["USER_PERMISSION_DENIED"])
    assert ads.refused(lambda: ads.search(QUERY, "1112223333")) == denied
    ads.box.config.google.login_account_required = True
    assert ads.refused(lambda: ads.search(QUERY)) == denied
    for login, expected in (("9876543210", denied), ("5550001111", None)):
        one = caller(ads, login=login)
        if expected:
            assert one.refused(lambda one=one: one.search(QUERY)) == expected
        else:
            assert one.search(QUERY) == []
        one.close()


def test_an_account_that_is_not_enabled_refuses_every_call(ads: AdsCaller) -> None:
    ads.box.config.ads.accounts["1234567890"] = Account(status="SUSPENDED")
    assert ads.refused(lambda: ads.search(QUERY)) == ("PERMISSION_DENIED", ["CUSTOMER_NOT_ENABLED"])


def test_a_customer_id_with_dashes_is_refused(ads: AdsCaller) -> None:
    assert ads.refused(lambda: ads.search(QUERY, "123-456-7890")) == ("INVALID_ARGUMENT", ["INVALID_CUSTOMER_ID"])


# Versions.


@pytest.mark.parametrize("version", ["v23", "v24", "v25", "v26"])
def test_every_version_that_is_alive_answers_in_its_own_types(ads: AdsCaller, version: str) -> None:
    one = caller(ads, version=version)
    assert one.errors(one.upload(one.click(1), one.click(2, currency_code="x"))) == [(1, "UNSUPPORTED")]
    assert one.refused(lambda: one.search("SELECT"))[1] == ["UNEXPECTED_END_OF_QUERY"]
    one.close()


def test_a_dead_version_is_not_implemented(ads: AdsCaller) -> None:
    ads.box.config.ads.versions = ["v25"]
    with pytest.raises(exceptions.MethodNotImplemented, match="501 GRPC target method can't be resolved"):
        ads.upload(ads.click())
    ads.box.config.ads.dead_answer = "UNSUPPORTED_VERSION"
    assert ads.refused(lambda: ads.upload(ads.click())) == ("INVALID_ARGUMENT", ["UNSUPPORTED_VERSION"])


# Trouble.


@pytest.mark.parametrize("retry_after", [None, 30.5])
@pytest.mark.parametrize("error", ["QuotaError.RESOURCE_EXHAUSTED", "QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED"])
def test_a_quota_is_a_bare_exception_with_its_failure_in_the_metadata(
    ads: AdsCaller, error: str, retry_after: float | None
) -> None:
    ads.box.faults.add(on="ads.clicks", error=error, retry_after=retry_after)
    with pytest.raises(exceptions.ResourceExhausted) as caught:
        ads.upload(ads.click())
    (found,) = failure_of(ads, caught).errors
    assert found.error_code.WhichOneof("error_code") == "quota_error"
    delay = found.details.quota_error_details.retry_delay
    assert delay.seconds + delay.nanos / 1e9 == (retry_after or 0)
    assert ads.box.books()["requests"]["ads.clicks"] == {"RESOURCE_EXHAUSTED": 1}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"code": "RESOURCE_EXHAUSTED"}, exceptions.ResourceExhausted),
        ({"status": 429}, exceptions.ResourceExhausted),
        ({"status": 500}, exceptions.InternalServerError),
        ({"error": "InternalError.TRANSIENT_ERROR"}, exceptions.InternalServerError),
        ({"status": 503}, exceptions.ServiceUnavailable),
        ({"code": "UNAVAILABLE"}, exceptions.ServiceUnavailable),
        ({"code": "UNAVAILABLE", "applied": True}, exceptions.ServiceUnavailable),
        ({"status": 504}, exceptions.DeadlineExceeded),
        ({"code": "UNIMPLEMENTED"}, exceptions.MethodNotImplemented),
        ({"code": "UNAUTHENTICATED"}, exceptions.Unauthenticated),
        ({"error": "SERVICE_DISABLED"}, exceptions.PermissionDenied),
        ({"kind": "html"}, exceptions.ServiceUnavailable),
        ({"kind": "redirect"}, exceptions.Unknown),
        ({"kind": "reset_in_body"}, exceptions.ServiceUnavailable),
        ({"kind": "reset_before"}, exceptions.ServiceUnavailable),
        ({"kind": "reset_after"}, exceptions.ServiceUnavailable),
        ({"kind": "cut_body"}, exceptions.ServiceUnavailable),
    ],
)
def test_trouble_reaches_the_client_and_is_applied_or_not(
    ads: AdsCaller, fault: dict[str, Any], expected: type[Exception]
) -> None:
    made = ads.box.faults.add({"on": "ads.clicks", **fault})
    with pytest.raises(expected):
        ads.upload(ads.click(1))
    counted = ads.box.books()["google"]["totals"]["conversions"]
    assert counted == made.applies_first()
    again = ads.upload(ads.click(1))
    assert ads.errors(again) == ([(0, "ORDER_ID_ALREADY_IN_USE")] if counted else [])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("AuthorizationError.USER_PERMISSION_DENIED", "PERMISSION_DENIED"),
        ("AuthenticationError.OAUTH_TOKEN_REVOKED", "UNAUTHENTICATED"),
        ("DatabaseError.CONCURRENT_MODIFICATION", "ABORTED"),
        ("NotAllowlistedError.CUSTOMER_NOT_ALLOWLISTED_FOR_THIS_FEATURE", "PERMISSION_DENIED"),
        ("RequestError.RPC_DEADLINE_TOO_SHORT", "INVALID_ARGUMENT"),
        ("QueryError.BAD_SYMBOL+QueryError.BAD_VALUE", "INVALID_ARGUMENT"),
    ],
)
def test_an_error_of_the_whole_call_has_the_status_of_its_family(ads: AdsCaller, error: str, status: str) -> None:
    ads.box.faults.add(on="ads.*", error=error, times=2)
    names = [one.partition(".")[2] for one in error.split("+")]
    assert ads.refused(lambda: ads.adjust(ads.adjustment("RETRACTION"))) == (status, names)
    assert ads.refused(lambda: ads.search(QUERY)) == (status, names)


@pytest.mark.parametrize(("kind", "counted"), [("timeout_before", 0), ("timeout_after", 1)])
def test_an_answer_that_never_comes_ends_with_the_clients_patience(ads: AdsCaller, kind: str, counted: int) -> None:
    ads.box.faults.add(on="ads.clicks", kind=kind)
    with pytest.raises(exceptions.DeadlineExceeded):
        ads.upload(ads.click(1), timeout=0.3)
    assert ads.box.books()["google"]["totals"]["conversions"] == counted


def test_a_slow_answer_comes(ads: AdsCaller) -> None:
    ads.box.faults.add(on="ads.*", kind="slow", seconds=0.05, times=2)
    assert ads.errors(ads.upload(ads.click(1))) == []
    assert ads.search(QUERY) == []


def test_what_was_cut_off_can_arrive_later_on_the_clock(ads: AdsCaller) -> None:
    ads.box.faults.add(on="ads.clicks", kind="reset_late", seconds=60)
    with pytest.raises(exceptions.ServiceUnavailable):
        ads.upload(ads.click(1))
    assert ads.box.books()["google"]["totals"]["conversions"] == 0
    ads.box.clock.advance(60)
    assert ads.box.books()["google"]["totals"]["conversions"] == 1
    assert [entry["fault"] for entry in ads.box.requests()] == ["reset_late", "arrived late"]


def test_an_empty_answer_has_no_results(ads: AdsCaller) -> None:
    ads.box.faults.add(on="ads.clicks", kind="empty")
    answer = ads.upload(ads.click(1))
    assert (len(answer.results), answer.HasField("partial_failure_error"), answer.job_id) == (0, False, 0)
    assert ads.book()["conversions"] == 1


def test_an_answer_that_cannot_be_read_is_no_answer_at_all(ads: AdsCaller) -> None:
    """CODE google-ads 34.0.0: its interceptors stumble over the missing message and raise a TypeError."""
    ads.box.faults.add(on="ads.clicks", kind="garbage")
    with pytest.raises((TypeError, exceptions.GoogleAPICallError)):
        ads.upload(ads.click(1))
    assert ads.book()["conversions"] == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"code": "INTERNAL"}, exceptions.InternalServerError),
        ({"error": "QuotaError.EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION"}, exceptions.ResourceExhausted),
        ({"error": "InternalError.INTERNAL_ERROR", "code": "UNAVAILABLE"}, GoogleAdsException),
        ({"kind": "cut_body"}, exceptions.ServiceUnavailable),
    ],
)
def test_a_stream_can_break_in_the_middle(ads: AdsCaller, fault: dict[str, Any], expected: type[Exception]) -> None:
    ads.box.config.ads.costs = [Cost("2026-11-19", str(number)) for number in range(6)]
    ads.box.config.ads.rows_per_batch = 2
    ads.box.faults.add({"on": "ads.search", "after": 1, **fault})
    stream = ads.batches(QUERY)
    assert [row.campaign.id for row in next(stream)] == [0, 1]
    with pytest.raises(expected):
        list(stream)
    assert len(ads.search(QUERY)) == 6


def test_faults_know_the_names_of_grpc(ads: AdsCaller) -> None:
    with pytest.raises(ValueError, match="unknown gRPC status 'BROKEN'"):
        ads.box.faults.add(on="ads.clicks", code="BROKEN")
    with pytest.raises(ValueError, match="unknown operation"):
        ads.box.faults.add(on="ads.upload")


# The journal, and the end.


def test_the_journal_tells_calls_and_never_what_was_in_them(ads: AdsCaller) -> None:
    ads.upload(ads.click(1, gclid="SECRET-click"), ads.click(2))
    ads.search(QUERY)
    upload, search = ads.box.requests()
    assert (upload["operation"], upload["method"], upload["rows"], upload["status"]) == ("ads.clicks", "gRPC", 2, "OK")
    assert search["path"] == "/google.ads.googleads.v26.services.GoogleAdsService/SearchStream"
    assert "SECRET" not in str(ads.box.requests())
    assert ads.box.books()["requests"] == {"ads.clicks": {"OK": 1}, "ads.search": {"OK": 1}}


def test_reset_forgets_uploads(ads: AdsCaller) -> None:
    ads.upload(ads.click(1))
    ads.box.reset()
    assert ads.box.books()["ads"]["uploads"] == 0
    assert ads.errors(ads.upload(ads.click(1))) == []


def test_closing_ends_a_call_that_hangs_and_leaves_no_thread(ads_certificate: Path, ads: AdsCaller) -> None:
    before = set(threading.enumerate())
    with Sandbox(ads=True, ads_folder=ads_certificate.parent) as box:
        box.faults.add(on="ads.*", kind="timeout_before")
        one = type(ads)(box)
        failed: list[BaseException] = []

        def hang() -> None:
            try:
                one.upload(one.click(1))
            except exceptions.GoogleAPICallError as error:
                failed.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        while not box.faults.listed()[0]["fired"]:
            thread.join(0.01)
    thread.join(10)
    one.close()
    assert len(failed) == 1
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith("sandbox")]


def test_a_sandbox_without_ads_has_no_endpoint_and_a_private_certificate_is_removed() -> None:
    with Sandbox() as box, pytest.raises(RuntimeError, match="ads=True"):
        _ = box.ads_endpoint
    with Sandbox(ads=True) as box:
        certificate = box.ads_certificate
        assert certificate.parent.stat().st_mode & 0o777 == 0o700
        assert certificate.with_suffix(".key").stat().st_mode & 0o777 == 0o600
    assert not certificate.parent.exists()


def test_a_port_that_is_taken_is_told_and_leaves_nothing_behind(ads: AdsCaller, tmp_path: Path) -> None:
    taken = int(ads.box.ads_endpoint.partition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Sandbox(ads=True, ads_port=taken, ads_folder=tmp_path / "new")
