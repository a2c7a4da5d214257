"""The Data Manager route against the emulator over real HTTP: what counts at the other end, and what is said here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convsync.config.action import GoogleTarget
from convsync.destinations.google import DataManager
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Action, Answer, Conversion, Person, Verdict, key_of
from convsync.net import Wire

sandbox = pytest.importorskip("convsync.sandbox")

HOUR = timedelta(hours=1)
LEAD, SALE = (GoogleTarget(conversion_action=action) for action in ("1111111111", "2222222222"))


@pytest.fixture
def box() -> Iterator[Any]:
    config = sandbox.SandboxConfig()
    config.google.processing_seconds = 0
    config.google.status_visible_after_s = 0
    with sandbox.Sandbox(config) as made:
        yield made


@pytest.fixture
def google(box: Any) -> Iterator[DataManager]:
    made = route(box)
    yield made
    made.close()


def route(box: Any, **options: Any) -> DataManager:
    known: dict[str, Any] = {
        "customer_id": "1234567890",
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "refresh_token": "sandbox-refresh",
        "data_manager_url": box.url,
        "token_url": f"{box.url}/token",
        "poll_after": timedelta(seconds=1),
        "poll_every": timedelta(seconds=1),
        "targets": (LEAD, SALE),
        "wire": Wire(requests_per_second=1e6, timeout=0.3, sleep=lambda _: None),
    }
    return DataManager("google", **(known | options))


def payload(google: DataManager, number: int, target: Any = SALE, value: int = 10000, **fields: Any) -> bytes:
    known: dict[str, Any] = {
        "occurred_at": datetime.now(UTC) - 24 * HOUR,
        "gclid": f"Cj0KCQ-{number}",
        "currency": "RUB",
    }
    action = Action("shop", str(number), "sale", **(known | fields))
    person = Person((f"ivan{number}@gmail.com",), ("+79161234567",), "иван", "петров")
    made = google.convert(action, person, target, value)
    assert isinstance(made, Conversion), made
    return made.payload


def send(google: DataManager, rows: Sequence[bytes]) -> Answer:
    return google.send(google.encode(rows, "token"), len(rows))


def deliver(google: DataManager, rows: Sequence[bytes]) -> tuple[dict[bytes, Verdict], int]:
    """What the engine does: halves when asked to, and rows that come back again; how many requests it took."""
    verdicts: dict[bytes, Verdict] = {}
    queue, requests = [list(rows)], 0
    while queue:
        batch = queue.pop()
        requests += 1
        answer = send(google, batch)
        assert answer.halt is None, answer.halt
        if answer.split:
            queue += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            continue
        again = []
        for position, row in enumerate(batch):
            outcome = answer.rows.get(position, answer.default)
            if outcome.verdict is Verdict.RETURNED:
                again.append(row)
            else:
                verdicts[row] = outcome.verdict
        if again:
            queue.append(again)
    return verdicts, requests


def booked(box: Any, action: str = "2222222222") -> dict[str, Any]:
    return dict(box.books()["google"]["accounts"]["1234567890"][action])


def transaction(box: Any, number: int) -> dict[str, Any]:
    key = key_of("shop", str(number), "sale", "google", "2222222222").hex()
    return dict(booked(box)["transactions"][f"cs-{key}"])


def test_two_thousand_conversions_go_in_are_confirmed_and_count_once(box: Any, google: DataManager) -> None:
    rows = [payload(google, number) for number in range(2000)]
    answer = send(google, rows)
    assert (answer.default.verdict, answer.poll_in, answer.findings) == (Verdict.ACCEPTED, 1, ())
    assert answer.ref
    settled = google.poll(answer.ref, 2000, HOUR)
    assert (settled.default.verdict, dict(settled.rows), settled.findings) == (Verdict.CONFIRMED, {}, ())
    send(google, rows)
    assert booked(box)["conversions"] == 2000


def test_a_new_value_and_a_refund_adjust_the_same_conversion(box: Any, google: DataManager) -> None:
    for value, status in ((10000, "active"), (7550, "active"), (7550, "refunded")):
        assert send(google, [payload(google, 1, value=value, status=status)]).default.verdict is Verdict.ACCEPTED
    assert booked(box)["conversions"] == 1
    assert [float(value) for value in transaction(box, 1)["values"]] == [100, 75.5, 0]


@pytest.mark.parametrize("mode", ["all", "first", "events[0]", "none"])
def test_bad_rows_among_two_thousand_are_found_and_no_innocent_one_is_refused(
    box: Any, google: DataManager, mode: str
) -> None:
    box.config.google.violations = mode
    bad = {0, 7, 1024, 1999}
    rows = [
        payload(google, number).replace(b'"RUB"', b'"R1B"') if number in bad else payload(google, number)
        for number in range(2000)
    ]
    verdicts, requests = deliver(google, rows)
    assert {number for number, row in enumerate(rows) if verdicts[row] is Verdict.REFUSED} == bad
    assert sum(verdict is Verdict.ACCEPTED for verdict in verdicts.values()) == 1996
    assert booked(box)["conversions"] == 1996
    assert requests < 100


def test_rows_of_the_future_wait_and_the_others_go(box: Any, google: DataManager) -> None:
    late = payload(google, 3, occurred_at=datetime.now(UTC) + HOUR)
    rows = [payload(google, 1), payload(google, 2), late]
    verdicts, requests = deliver(google, rows)
    assert (verdicts[late], requests) == (Verdict.LATER, 2)
    assert booked(box)["conversions"] == 2


def test_what_fails_in_processing_is_told_by_position(box: Any, google: DataManager) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    rows = [
        payload(google, number, occurred_at=old) if number in (2, 5) else payload(google, number) for number in range(9)
    ]
    answer = send(google, rows)
    assert answer.ref
    settled = google.poll(answer.ref, 9, HOUR)
    assert {row: outcome.reason.partition(":")[0] for row, outcome in settled.rows.items()} == {
        2: "EVENT_TOO_OLD",
        5: "EVENT_TOO_OLD",
    }
    assert {outcome.verdict for outcome in settled.rows.values()} == {Verdict.REFUSED}
    assert settled.default.verdict is Verdict.CONFIRMED


@pytest.mark.parametrize("switch", ["indices_absent", "error_counts_absent"])
def test_failed_rows_that_are_not_named_make_the_request_unknown(box: Any, google: DataManager, switch: str) -> None:
    setattr(box.config.google, switch, True)
    old = datetime.now(UTC) - timedelta(days=100)
    answer = send(google, [payload(google, 1), payload(google, 2, occurred_at=old)])
    assert answer.ref
    settled = google.poll(answer.ref, 2, HOUR)
    assert (settled.default.verdict, dict(settled.rows)) == (Verdict.UNKNOWN, {})


def test_two_conversion_actions_in_one_request_are_told_apart(box: Any, google: DataManager) -> None:
    box.config.google.failed_word = "FAILURE"
    box.config.google.indices_as_strings = True
    old = datetime.now(UTC) - timedelta(days=100)
    rows = [payload(google, n, LEAD) if n % 2 else payload(google, n, SALE, occurred_at=old) for n in range(6)]
    answer = send(google, rows)
    assert answer.ref
    assert answer.ref.endswith(" 3+3")
    settled = google.poll(answer.ref, 6, HOUR)
    assert settled.default.verdict is Verdict.CONFIRMED
    assert {row: outcome.verdict for row, outcome in settled.rows.items()} == dict.fromkeys((0, 2, 4), Verdict.REFUSED)
    assert booked(box, "1111111111")["conversions"] == 3


def test_a_status_that_is_not_there_yet_is_asked_for_again(box: Any, google: DataManager) -> None:
    box.config.google.status_visible_after_s = 3600
    answer = send(google, [payload(google, 1)])
    assert answer.ref
    assert google.poll(answer.ref, 1, timedelta(seconds=1)).poll_in == 1
    box.config.google.status_visible_after_s = 0
    box.config.google.processing_seconds = 3600
    assert google.poll(answer.ref, 1, timedelta(seconds=5)).poll_in == 2.5


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "timeout_after", "cut_body", "reset_in_body"])
def test_a_lost_answer_is_unclear_and_sending_again_counts_once(box: Any, google: DataManager, kind: str) -> None:
    box.faults.add(on="google.ingest", kind=kind)
    rows = [payload(google, number) for number in range(3)]
    with pytest.raises(Unclear):
        send(google, rows)
    assert send(google, rows).default.verdict is Verdict.ACCEPTED
    assert booked(box)["conversions"] == 3


@pytest.mark.parametrize("kind", ["garbage", "empty", "html", "status"])
def test_an_answer_that_cannot_be_read_is_unknown(box: Any, google: DataManager, kind: str) -> None:
    box.faults.add(on="google.ingest", kind=kind)
    assert send(google, [payload(google, 1)]).default.verdict is Verdict.UNKNOWN


def test_a_used_up_quota_is_told_with_its_pause(box: Any, google: DataManager) -> None:
    send(google, [payload(google, 1)])
    box.config.google.ingest_per_minute = 1
    answer = send(google, [payload(google, 2)])
    assert (answer.default.verdict, answer.rest) == (Verdict.RETURNED, 60)
    box.config.google.ingest_per_minute = None
    box.config.google.ingest_per_day = 1
    answer = send(google, [payload(google, 2)])
    assert answer.rest is not None
    assert 60 < answer.rest <= 25 * 3600


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("refresh_revoked", True, "invalid_grant"),
        ("client_secret", "other", "invalid_client"),
        ("scopes", ["https://www.googleapis.com/auth/adwords"], "scope_missing"),
        ("login_account_required", True, "no_access"),
    ],
)
def test_what_a_person_has_to_mend_stops_the_destination_with_advice(
    box: Any, google: DataManager, setting: str, value: Any, code: str
) -> None:
    setattr(box.config.google, setting, value)
    try:
        finding = send(google, [payload(google, 1)]).halt
    except Halted as halted:
        finding = halted.finding
    assert finding is not None
    assert (finding.code, finding.level) == (code, "error")
    assert finding.advice
    assert code in {found.code for found in google.probe()}


def test_the_manager_account_opens_the_customer(box: Any) -> None:
    box.config.google.login_account_required = True
    google = route(box, login_customer_id="5550001111")
    assert send(google, [payload(google, 1)]).default.verdict is Verdict.ACCEPTED
    google.close()


def test_a_wrong_or_young_conversion_action_is_not_the_rows_fault(box: Any, google: DataManager) -> None:
    def to(action: str) -> Answer:
        target = GoogleTarget(conversion_action=action)
        return send(google, [payload(google, 1, target)])

    for action in ("9999999999", "4444444444", "6666666666"):
        assert to(action).halt is not None
        assert to(action).default.verdict is Verdict.RETURNED
    young = to("5555555555")
    assert (young.halt, young.default.verdict, young.default.wait) == (None, Verdict.LATER, 6 * 3600)


def test_a_look_stores_nothing(box: Any, google: DataManager) -> None:
    assert [finding.code for finding in google.probe()] == ["signed_in", "validated"]
    assert box.books()["google"]["totals"]["conversions"] == 0


def test_an_expired_token_is_renewed_on_the_way(box: Any, google: DataManager) -> None:
    send(google, [payload(google, 1)])
    box.clock.advance(2 * 3600)
    assert send(google, [payload(google, 2)]).default.verdict is Verdict.ACCEPTED


def test_nothing_listening_means_nothing_sent(box: Any) -> None:
    google = route(box)
    rows = [payload(google, 1)]
    box.close()
    with pytest.raises(NotSent):
        send(google, rows)
    google.close()
