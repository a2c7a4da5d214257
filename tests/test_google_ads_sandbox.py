"""The Ads API's route, and retractions for the other one, against the emulator through Google's own client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from convsync.config.action import GoogleTarget
from convsync.destinations.google import Ads, DataManager
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import WHOLE, Action, Answer, Conversion, Finding, Group, Person, Verdict, key_of
from convsync.net import Wire
from convsync.sandbox import Sandbox, SandboxConfig
from convsync.sandbox.config import ConversionAction

SALE = GoogleTarget(conversion_action="2222222222")
CALL = GoogleTarget(conversion_action="3333333333", calls=True)
DAY = 86_400


@pytest.fixture
def box(ads_certificate: Path) -> Iterator[Sandbox]:
    config = SandboxConfig()
    config.google.customers["1234567890"]["3333333333"] = ConversionAction(type="UPLOAD_CALLS")
    with Sandbox(config, ads=True, ads_folder=ads_certificate.parent) as made:
        yield made


def settings(box: Sandbox, options: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "customer_id": "1234567890",
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "refresh_token": "sandbox-refresh",
        "token_url": f"{box.url}/token",
        "ads_endpoint": box.ads_endpoint,
        "targets": (SALE,),
        "wire": Wire(requests_per_second=1e6, timeout=5, sleep=lambda _: None),
    }
    return known | options


@pytest.fixture
def ads(box: Sandbox) -> Iterator[Ads]:
    made = Ads("google", **settings(box, {}))
    yield made
    made.close()


@pytest.fixture
def manager(box: Sandbox) -> Iterator[DataManager]:
    made = DataManager("google", **settings(box, {"data_manager_url": box.url, "on_refund": "retract"}))
    yield made
    made.close()


def payload(
    route: Ads | DataManager, number: int = 1, target: Any = SALE, value: int | None = 10000, **fields: Any
) -> bytes:
    known: dict[str, Any] = {
        "occurred_at": datetime.now(UTC).replace(microsecond=0) - timedelta(days=2),
        "gclid": f"Cj0KCQ-{number}",
        "currency": "RUB",
    }
    person = Person((f"ivan{number}@gmail.com",), ("+79161234567",))
    made = route.convert(Action("shop", str(number), "sale", **(known | fields)), person, target, value)
    assert isinstance(made, Conversion), made
    return made.payload


def send(route: Ads | DataManager, rows: Sequence[bytes], group: Group = WHOLE, token: str = "ab" * 12) -> Answer:
    return route.send(route.encode(rows, token, group), len(rows), group)


def changed(rows: int = 1, part: str = "", *, later: int = 0, told: int = DAY * 2) -> Group:
    now = int(time.time())
    return Group(part, True, (now + later,) * rows, (now - told,) * rows)


def verdicts(answer: Answer, rows: int) -> list[Verdict]:
    return [answer.rows.get(row, answer.default).verdict for row in range(rows)]


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def booked(box: Sandbox, action: str = "2222222222") -> dict[str, Any]:
    return dict(box.books()["google"]["accounts"]["1234567890"][action])


def transaction(box: Sandbox, number: int = 1) -> dict[str, Any]:
    key = key_of("shop", str(number), "sale", "google", "2222222222").hex()
    return dict(booked(box)["transactions"][f"cs-{key}"])


# -- uploads -----------------------------------------------------------------------------------------------


def test_a_project_that_google_does_not_let_in_is_told_the_way_out_and_loses_no_row(box: Sandbox, ads: Ads) -> None:
    box.config.ads.allowlisted = False
    answer = send(ads, [payload(ads, number) for number in range(3)])
    assert verdicts(answer, 3) == [Verdict.RETURNED] * 3
    assert answer.halt is not None
    assert 'api = "data_manager"' in answer.halt.advice
    assert booked(box)["conversions"] == 0


def test_rows_that_google_refuses_keep_its_words_and_the_others_count(box: Sandbox, ads: Ads) -> None:
    rows = [
        payload(ads, 1, gclid="fate-UNPARSEABLE_GCLID-1"),
        payload(ads, 2),
        payload(ads, 3, gclid="fate-EVENT_NOT_FOUND-3"),
        payload(ads, 4, gclid="fate-TOO_RECENT_EVENT-4", occurred_at=datetime.now(UTC) - timedelta(hours=1)),
        payload(ads, 5, gclid="fate-UNAUTHORIZED_CUSTOMER-5"),
        payload(ads, 6),
    ]
    answer = send(ads, rows)
    assert verdicts(answer, 6) == [
        Verdict.REFUSED, Verdict.ACCEPTED, Verdict.UNMATCHED, Verdict.LATER, Verdict.REFUSED, Verdict.ACCEPTED,
    ]  # fmt: skip
    assert answer.rows[0].reason.startswith("UNPARSEABLE_GCLID: ")
    assert answer.rows[3].wait == 6 * 3600
    assert answer.ref and answer.ref.startswith("job ")
    assert booked(box)["conversions"] == 2


def test_of_several_errors_of_a_row_the_gravest_is_kept(box: Sandbox, ads: Ads) -> None:
    answer = send(ads, [payload(ads, 1, gclid="fate-TOO_RECENT_EVENT+EXPIRED_EVENT-1"), payload(ads, 2)])
    assert verdicts(answer, 2) == [Verdict.REFUSED, Verdict.ACCEPTED]
    assert answer.rows[0].reason.startswith("EXPIRED_EVENT")


def test_a_conversion_sent_again_is_recognised_and_counts_once(box: Sandbox, ads: Ads) -> None:
    rows = [payload(ads, number) for number in range(2000)]
    assert verdicts(send(ads, rows), 2000) == [Verdict.ACCEPTED] * 2000
    again = send(ads, rows, token="cd" * 12)
    assert verdicts(again, 2000) == [Verdict.DUPLICATE] * 2000
    assert again.rows[0].reason.startswith("ORDER_ID_ALREADY_IN_USE")
    assert booked(box)["conversions"] == 2000


@pytest.mark.parametrize("fault", [{"kind": "reset_after"}, {"kind": "status", "code": "UNAVAILABLE", "applied": True}])
def test_an_answer_that_was_lost_is_found_out_by_sending_again(box: Sandbox, ads: Ads, fault: dict[str, Any]) -> None:
    box.faults.add(on="ads.clicks", **fault)
    rows = [payload(ads, number) for number in range(3)]
    with pytest.raises(Unclear):
        send(ads, rows)
    assert verdicts(send(ads, rows), 3) == [Verdict.DUPLICATE] * 3
    assert booked(box)["conversions"] == 3


def test_one_conversion_twice_in_a_request_is_taken_by_neither_and_goes_apart(box: Sandbox, ads: Ads) -> None:
    answer = send(ads, [payload(ads, 1), payload(ads, 2), payload(ads, 1)])
    assert (verdicts(answer, 3), answer.split) == ([Verdict.RETURNED, Verdict.ACCEPTED, Verdict.RETURNED], True)
    assert booked(box)["conversions"] == 1


@pytest.mark.parametrize(("located", "details"), [(False, "any"), (True, "absent"), (True, "undecodable")])
def test_a_failure_that_names_no_row_leaves_the_batch_in_doubt(
    box: Sandbox, ads: Ads, located: bool, details: str
) -> None:
    box.config.ads.errors_located, box.config.ads.details = located, details
    answer = send(ads, [payload(ads, 1, gclid="fate-UNPARSEABLE_GCLID-1"), payload(ads, 2)])
    assert verdicts(answer, 2) == [Verdict.UNKNOWN] * 2


def test_a_quota_with_a_wait_rests_the_destination(box: Sandbox, ads: Ads) -> None:
    box.faults.add(on="ads.clicks", kind="status", error="QuotaError.RESOURCE_TEMPORARILY_EXHAUSTED", retry_after=30)
    answer = send(ads, [payload(ads)])
    assert (answer.default.verdict, answer.default.wait, answer.rest) == (Verdict.RETURNED, 30, 30)


def test_a_call_is_told_by_its_number_and_counts_once(box: Sandbox, ads: Ads) -> None:
    group, began = Group("call"), datetime.now(UTC).replace(microsecond=0) - timedelta(days=2, minutes=3)
    rows = [payload(ads, 1, CALL, call_start_at=began)]
    assert verdicts(send(ads, rows, group), 1) == [Verdict.ACCEPTED]
    assert verdicts(send(ads, rows, group), 1) == [Verdict.DUPLICATE]
    erased = [ads.redact(row) for row in rows]
    assert verdicts(send(ads, erased, group), 1) == [Verdict.REFUSED]
    assert booked(box, "3333333333")["conversions"] == 1


def test_a_request_that_is_only_checked_stores_nothing_and_says_what_it_would_refuse(box: Sandbox, ads: Ads) -> None:
    rows = [payload(ads, 1, gclid="fate-UNPARSEABLE_GCLID-1"), payload(ads, 2)]
    answer = ads.validate(ads.encode(rows, "ab" * 12), 2)
    assert verdicts(answer, 2) == [Verdict.REFUSED, Verdict.ACCEPTED]
    assert booked(box)["conversions"] == 0


# -- custom variables --------------------------------------------------------------------------------------


def test_a_custom_variable_that_does_not_exist_is_named(box: Sandbox, ads: Ads) -> None:
    one = Ads("google", **settings(box, {"custom_variables": ("plan", "nonsense")}))
    box.config.google.custom_variables = ["plan"]
    with pytest.raises(Halted) as caught:
        one.learn({})
    assert "nonsense" in caught.value.finding.message and "plan" not in caught.value.finding.message
    one.close()


def test_custom_variables_are_asked_for_once_and_go_by_number(box: Sandbox) -> None:
    box.config.google.custom_variables = ["plan"]
    one = Ads("google", **settings(box, {"custom_variables": ("plan",)}))
    known = one.learn({"other": "kept"})
    assert known["other"] == "kept"
    assert one.learn(known) == known
    assert sum(each["operation"] == "ads.search" for each in box.requests()) == 1
    assert verdicts(send(one, [payload(one, custom_variables=(("plan", "gold"),))]), 1) == [Verdict.ACCEPTED]
    one.close()


# -- changes -----------------------------------------------------------------------------------------------


def test_a_new_value_and_a_refund_change_the_same_conversion(box: Sandbox, ads: Ads) -> None:
    send(ads, [payload(ads)])
    assert verdicts(send(ads, [payload(ads, value=7550)], changed()), 1) == [Verdict.ACCEPTED]
    assert [float(value) for value in transaction(box)["values"]] == [100, 75.5]
    back = changed(part="retract", later=60)
    assert verdicts(send(ads, [payload(ads, status="refunded")], back), 1) == [Verdict.ACCEPTED]
    assert verdicts(send(ads, [payload(ads, status="refunded")], back), 1) == [Verdict.DUPLICATE]
    assert (booked(box)["conversions"], booked(box)["retracted"]) == (0, 1)


def test_the_same_change_sent_again_is_recognised(box: Sandbox, ads: Ads) -> None:
    send(ads, [payload(ads)])
    group, rows = changed(), [payload(ads, value=7550)]
    assert verdicts(send(ads, rows, group), 1) == [Verdict.ACCEPTED]
    assert verdicts(send(ads, rows, group), 1) == [Verdict.DUPLICATE]
    assert len(transaction(box)["values"]) == 2


@pytest.mark.parametrize(("told", "verdict"), [(3600, Verdict.LATER), (DAY * 2, Verdict.UNMATCHED)])
def test_a_conversion_that_google_does_not_find_is_asked_for_again_on_its_first_day(
    ads: Ads, told: int, verdict: Verdict
) -> None:
    assert verdicts(send(ads, [payload(ads, 99)], changed(told=told)), 1) == [verdict]


def test_a_conversion_past_54_days_is_refused_with_its_reason(box: Sandbox, ads: Ads) -> None:
    old = {"occurred_at": datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)}
    send(ads, [payload(ads, **old)])
    answer = send(ads, [payload(ads, value=1, **old)], changed())
    assert answer.rows[0].reason.startswith("CONVERSION_EXPIRED")


def test_a_restatement_without_a_value_is_refused_by_google_not_guessed_by_us(box: Sandbox, ads: Ads) -> None:
    send(ads, [payload(ads)])
    answer = send(ads, [payload(ads, value=None)], changed())
    assert verdicts(answer, 1) == [Verdict.REFUSED]
    assert [float(value) for value in transaction(box)["values"]] == [100]


# -- moving to the Data Manager API ------------------------------------------------------------------------


def test_who_moves_to_the_other_route_counts_nothing_twice(box: Sandbox, ads: Ads, manager: DataManager) -> None:
    rows = [payload(ads, number) for number in range(3)]
    send(ads, rows)
    assert send(manager, rows).default.verdict is Verdict.ACCEPTED
    assert booked(box)["conversions"] == 3


# -- retractions for the Data Manager API ------------------------------------------------------------------


def test_a_refund_of_the_other_route_is_taken_back_through_the_ads_api(box: Sandbox, manager: DataManager) -> None:
    assert manager.apart
    send(manager, [payload(manager, number) for number in range(3)])
    back = changed(2, "retract")
    answer = send(manager, [payload(manager, number, status="refunded") for number in range(2)], back)
    assert verdicts(answer, 2) == [Verdict.ACCEPTED] * 2
    assert answer.ref and answer.poll_in is None
    assert (booked(box)["conversions"], booked(box)["retracted"]) == (1, 2)


def test_a_value_that_changed_stays_with_the_data_manager_api(box: Sandbox, manager: DataManager) -> None:
    send(manager, [payload(manager)])
    assert send(manager, [payload(manager, value=7550)], changed()).default.verdict is Verdict.ACCEPTED
    assert [float(value) for value in transaction(box)["values"]] == [100, 75.5]
    assert not [each for each in box.requests() if each["operation"].startswith("ads.")]


def _closed_by_row(box: Sandbox) -> None:
    box.config.ads.allowlisted_adjustments = False


def _closed_by_scope(box: Sandbox) -> None:
    box.config.google.scopes = ["https://www.googleapis.com/auth/datamanager"]


def _closed_by(error: str) -> Any:
    return lambda box: box.faults.add(on="ads.adjust", kind="status", error=error, times=None)


@pytest.mark.parametrize(
    "close",
    [
        _closed_by_row,
        _closed_by_scope,
        _closed_by("AuthorizationError.CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION"),
        _closed_by("AuthorizationError.USER_PERMISSION_DENIED"),
        _closed_by("SERVICE_DISABLED"),
    ],
)
def test_where_google_allows_no_retraction_the_rest_of_the_run_restates_to_nothing(
    box: Sandbox, manager: DataManager, close: Any
) -> None:
    close(box)
    send(manager, [payload(manager)])
    rows, back = [payload(manager, status="refunded")], changed(part="retract")
    answer = send(manager, rows, back)
    assert (verdicts(answer, 1), answer.halt) == ([Verdict.RETURNED], None)
    (told,) = answer.findings
    assert (told.level, told.code) == ("warning", "cannot_retract")
    assert "target CPA" in told.message and 'on_refund = "zero"' in told.advice
    answer = send(manager, rows, back)
    assert (answer.default.verdict, answer.findings) == (Verdict.ACCEPTED, ())
    assert answer.poll_in is not None
    assert [float(value) for value in transaction(box)["values"]] == [100, 0]
    assert booked(box)["conversions"] == 1


def test_it_is_told_once_a_run_that_retractions_are_not_to_be_had(box: Sandbox, manager: DataManager) -> None:
    _closed_by_row(box)
    rows, back = [payload(manager, status="refunded")], changed(part="retract")
    bodies = [manager.encode(rows, "ab" * 12, back) for _ in range(2)]
    told = [finding for body in bodies for finding in manager.send(body, 1, back).findings]
    assert codes(told) == ["cannot_retract"]


def test_a_refund_without_a_currency_waits_for_a_person_where_it_can_be_told_in_no_way(
    box: Sandbox, manager: DataManager
) -> None:
    _closed_by_row(box)
    known = payload(manager, 1, status="refunded")
    bare = payload(manager, 2, status="refunded", currency=None, value=None)
    send(manager, [known], changed(part="retract"))
    answer = send(manager, [known, bare], changed(2, "retract"))
    assert verdicts(answer, 2) == [Verdict.RETURNED, Verdict.HELD]
    assert codes(answer.findings) == ["refund_untold"]


def test_a_retraction_that_is_not_found_waits_a_day_and_then_for_a_person(box: Sandbox, manager: DataManager) -> None:
    box.config.ads.retraction_finds_data_manager = False
    send(manager, [payload(manager)])
    rows = [payload(manager, status="refunded")]
    young = send(manager, rows, changed(part="retract", told=3600))
    assert (verdicts(young, 1), young.findings) == ([Verdict.LATER], ())
    old = send(manager, rows, changed(part="retract"))
    assert verdicts(old, 1) == [Verdict.HELD]
    assert codes(old.findings) == ["retraction_not_found"]
    assert 'on_refund = "zero"' in old.findings[0].advice


def test_an_ads_api_that_does_not_answer_leaves_retractions_in_doubt_and_open(
    box: Sandbox, manager: DataManager
) -> None:
    send(manager, [payload(manager)])
    box.faults.add(on="ads.adjust", kind="reset_after")
    rows, back = [payload(manager, status="refunded")], changed(part="retract")
    with pytest.raises(Unclear):
        send(manager, rows, back)
    assert verdicts(send(manager, rows, back), 1) == [Verdict.DUPLICATE]
    assert booked(box)["conversions"] == 0


def test_credentials_that_died_stop_the_destination_and_not_only_retractions(
    box: Sandbox, manager: DataManager
) -> None:
    box.faults.add(on="google.token", status=400, body={"error": "invalid_grant"}, times=None)
    with pytest.raises(Halted):
        send(manager, [payload(manager, status="refunded")], changed(part="retract"))


def test_a_retraction_can_be_checked_without_being_taken(box: Sandbox, manager: DataManager) -> None:
    send(manager, [payload(manager)])
    rows, back = [payload(manager, status="refunded")], changed(part="retract")
    assert verdicts(manager.validate(manager.encode(rows, "ab" * 12, back), 1, back), 1) == [Verdict.ACCEPTED]
    assert booked(box)["conversions"] == 1


def test_what_was_perhaps_never_told_is_restated_to_nothing_by_no_route(box: Sandbox, manager: DataManager) -> None:
    row, group = payload(manager, status="refunded"), Group("retract", False, (1,), (0,))
    box.config.ads.allowlisted_adjustments = False
    answers = [manager.send(manager.encode([row], "ab" * 12, group), 1, group) for _ in range(2)]
    assert [verdicts(answer, 1) for answer in answers] == [[Verdict.RETURNED], [Verdict.HELD]]
    assert booked(box)["conversions"] == 0


def test_a_value_of_nothing_is_explained_once_a_run(box: Sandbox) -> None:
    one = DataManager("google", **settings(box, {"data_manager_url": box.url}))
    send(one, [payload(one)])
    told = [send(one, [payload(one, status="refunded")]) for _ in range(2)]
    assert [codes(answer.findings) for answer in told] == [["restated"], []]
    one.close()


def test_an_upload_of_the_other_route_can_be_checked_without_being_taken(box: Sandbox, manager: DataManager) -> None:
    good = manager.validate(manager.encode([payload(manager)], "ab" * 12), 1)
    assert (good.default.verdict, good.ref, good.poll_in) == (Verdict.ACCEPTED, None, None)
    bad = payload(manager, 2).replace(b'"RUB"', b'"RRR1"')
    answer = manager.validate(manager.encode([bad], "ab" * 12), 1)
    assert verdicts(answer, 1) == [Verdict.REFUSED]
    assert box.books()["google"]["accounts"] == {}


# -- check --online ----------------------------------------------------------------------------------------


def test_the_check_says_that_an_upload_could_work(box: Sandbox) -> None:
    one = Ads("google", **settings(box, {"targets": (SALE, CALL)}))
    found = one.probe()
    assert {"signed_in", "validated"} <= set(codes(found))
    assert codes(found).count("validated") == 2
    assert booked(box)["conversions"] == 0
    one.close()


def test_the_check_finds_what_would_stop_an_upload(box: Sandbox, ads: Ads) -> None:
    box.config.ads.allowlisted = False
    assert any('api = "data_manager"' in finding.advice for finding in ads.probe())


def test_the_check_finds_credentials_without_the_scope(box: Sandbox, ads: Ads) -> None:
    _closed_by_scope(box)
    (found,) = ads.probe()
    assert (found.code, found.level) == ("scope_missing", "error")
    assert "convsync google login" in found.advice


def test_the_check_says_when_nobody_answers(box: Sandbox) -> None:
    one = Ads("google", **settings(box, {"ads_endpoint": "localhost:1"}))
    (found,) = one.probe()
    assert found.code == "no_answer"
    with pytest.raises(NotSent):
        send(one, [payload(one)])
    one.close()
