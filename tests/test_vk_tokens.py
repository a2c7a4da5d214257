"""Signing in to VK: one pair of tokens for all threads, processes and deaths, and never a sixth."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync.destinations.vk.api import Api
from convsync.destinations.vk.tokens import Client, Kept, Tokens
from convsync.errors import Halted, NotSent
from convsync.ledger.vault import Vault
from convsync.net import Wire
from convsync.sandbox import Sandbox, SandboxConfig
from worlds import NOW, StandingClock

DAY = 86400
OWN = Client("sandbox-vk", "sandbox-vk-secret")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


class Runs:
    """One run after another (or beside another) on one ledger."""

    def __init__(self, box: Sandbox, ledger: Path, clock: StandingClock) -> None:
        self.box, self.ledger, self.clock = box, ledger, clock
        self.wires: list[Wire] = []

    def tokens(self, client: Client = OWN, **more: Any) -> Tokens:
        wire = Wire(requests_per_second=10_000, timeout=2, sleep=lambda _: None, clock=self.clock.now, **more)
        self.wires.append(wire)
        return Tokens("destinations.vk", client=client, keeper=Vault(self.ledger), wire=wire, url=self.box.url)

    def api(self, client: Client = OWN) -> Api:
        tokens = self.tokens(client)
        return Api(tokens.where, tokens=tokens, wire=tokens.wire, url=tokens.url)

    def book(self, user: str = "owner") -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["vk"]["token_users"][user]
        return found


@pytest.fixture
def runs(box: Sandbox, ledger: Path, clock: StandingClock) -> Iterator[Runs]:
    made = Runs(box, ledger, clock)
    yield made
    for wire in made.wires:
        wire.close()


# -- who is signed in


def test_a_key_tells_no_secret_and_each_client_has_its_own() -> None:
    clients = [
        OWN, OWN._replace(client_id="other"), OWN._replace(agency_client_name="a"), OWN._replace(agency_client_id="1"),
    ]  # fmt: skip
    keys = {client.key(url) for client in clients for url in ("https://ads.vk.com", "https://ads.vk.ru")}
    assert len(keys) == 8
    assert OWN.key("https://ads.vk.com") == OWN._replace(client_secret="new").key("https://ads.vk.com/")
    assert "secret" not in repr(OWN) + "".join(keys)


@pytest.mark.parametrize(
    ("client", "user"),
    [
        (OWN, "owner"),
        (OWN._replace(agency_client_name="shop"), "shop"),
        (OWN._replace(agency_client_id="777"), "shop"),
    ],
)
def test_a_token_is_asked_for_in_the_name_of_the_client(runs: Runs, client: Client, user: str) -> None:
    runs.box.config.vk.agency_clients = {"shop": 777}
    assert (runs.api(client).ask("/api/v3/user.json") or {})["username"] == user
    assert runs.book(user)["new"] == 1


def test_a_third_partys_agency_shows_its_own_token(runs: Runs) -> None:
    runs.box.config.vk.agency_token_required = True
    agency = runs.tokens().bearer()
    shop = OWN._replace(agency_client_name="shop", agency_token=agency)
    assert (runs.api(shop).ask("/api/v3/user.json") or {})["username"] == "shop"
    with pytest.raises(Halted, match="agency_token"):
        runs.tokens(OWN._replace(agency_client_name="shop2", agency_token="old")).bearer()


@pytest.mark.parametrize("shape", ["oauth", "vk", "flat"])
@pytest.mark.parametrize(
    ("client", "code"),
    [(OWN._replace(client_secret="wrong-secret"), "bad_client"), (OWN._replace(agency_client_name="foe"), "bad_user")],
)
def test_what_a_person_has_to_mend_is_told_once_and_asked_once(
    runs: Runs, shape: str, client: Client, code: str
) -> None:
    runs.box.config.vk.token_error_shape = shape
    runs.box.config.vk.agency_clients = {}
    tokens = runs.tokens(client)
    for _ in range(2):
        with pytest.raises(Halted, match=code) as stop:
            tokens.bearer()
        assert "wrong-secret" not in str(stop.value.finding)
    assert sum(runs.box.books()["requests"]["vk.token"].values()) == 1
    assert tokens.kept().asked == 0


# -- one token for everybody


@pytest.mark.parametrize(("text", "scopes", "told"), [(True, False, None), (False, True, None), (True, True, 0)])
def test_runs_share_one_token_in_whatever_form_it_comes(runs: Runs, text: bool, scopes: bool, told: int | None) -> None:
    vk = runs.box.config.vk
    vk.expires_in_as_text, vk.scope_as_list, vk.expires_in_told = text, scopes, told
    assert len({runs.tokens().bearer() for _ in range(7)}) == 1
    assert runs.book()["new"] == 1
    kept = runs.tokens().kept()
    assert (kept.expires_at, kept.made_at, kept.asked) == (NOW + timedelta(days=1), NOW, 1)


def test_threads_that_need_a_token_at_once_ask_for_one(runs: Runs) -> None:
    runs.box.faults.add(on="vk.token", kind="slow", seconds=0.2)
    tokens, found = [runs.tokens(), runs.tokens()], list[str]()
    threads = [threading.Thread(target=lambda i=i: found.append(tokens[i % 2].bearer())) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(found), len(set(found)), runs.book()["new"]) == (8, 1, 1)


@pytest.mark.parametrize("rotates", [False, True])
def test_a_token_is_refreshed_before_it_ends_and_never_made_anew(runs: Runs, rotates: bool) -> None:
    runs.box.config.vk.rotate_refresh_token = rotates
    tokens = runs.tokens()
    first = tokens.bearer()
    runs.clock.advance(DAY - 601)
    assert tokens.bearer() == first
    for day in range(9):
        runs.clock.advance(DAY - 599 if day else 2)
        assert tokens.bearer() == runs.tokens().bearer() != first
    book = runs.book()
    assert (book["new"], book["refreshes"], book["expired_used"], book["dead_used"]) == (1, 9, 0, 0)
    kept = tokens.kept()
    assert (kept.made_at, kept.refreshed_at, kept.asked) == (NOW, runs.clock.now(), 1)


def test_a_run_whose_token_another_has_refreshed_takes_that_one(runs: Runs) -> None:
    mine, other = runs.api(), runs.tokens()
    assert mine.ask("/api/v3/user.json")
    runs.clock.advance(DAY - 300)
    taken = other.bearer()
    runs.clock.advance(-3600)  # mine sees no reason to look
    assert mine.ask("/api/v3/user.json")
    assert other.bearer() == taken
    assert (runs.book()["refreshes"], runs.book()["dead_used"]) == (1, 1)


def test_a_token_that_vk_forgot_is_replaced_by_one_new_one(runs: Runs) -> None:
    mine, other = runs.api(), runs.api()
    assert mine.ask("/api/v3/user.json")
    assert other.ask("/api/v3/user.json")
    Runs(runs.box, runs.ledger.with_name("of another program"), runs.clock).tokens().revoke()
    assert mine.ask("/api/v3/user.json")
    assert other.ask("/api/v3/user.json")
    assert (runs.book()["new"], runs.book()["pairs"]) == (2, 1)


def test_a_refresh_that_is_turned_away_leaves_the_living_token_in_use(runs: Runs) -> None:
    tokens = runs.tokens()
    first = tokens.bearer()
    runs.clock.advance(DAY - 300)
    runs.box.faults.add(on="vk.token", kind="status", status=429, times=None)
    asked = sum(runs.box.books()["requests"]["vk.token"].values())
    assert [tokens.bearer() for _ in range(5)] == [first] * 5
    assert sum(runs.box.books()["requests"]["vk.token"].values()) == asked + 1
    runs.clock.advance(301)
    with pytest.raises(NotSent):
        tokens.bearer()
    assert runs.book()["new"] == 1


@pytest.mark.parametrize("kind", ["reset_after", "cut_body", "garbage", "empty"])
@pytest.mark.parametrize("rotates", [False, True])
def test_a_refresh_whose_answer_is_lost_is_asked_for_again(runs: Runs, kind: str, rotates: bool) -> None:
    runs.box.config.vk.rotate_refresh_token = rotates
    tokens = runs.tokens()
    tokens.bearer()
    runs.clock.advance(DAY - 300)
    runs.box.faults.add(on="vk.token", kind=kind)
    with pytest.raises(NotSent, match="token_"):
        tokens.bearer()
    tokens.bearer()
    assert runs.api().ask("/api/v3/user.json")
    book = runs.book()
    assert (book["new"], book["dead_used"]) == (
        2 if rotates else 1,
        0,
    )  # a rotated refresh token is lost with the answer


def test_new_tokens_whose_answers_are_lost_do_not_use_up_all_five(runs: Runs) -> None:
    runs.box.faults.add(on="vk.token", kind="reset_after", times=3)
    for _ in range(20):
        with pytest.raises(NotSent):
            runs.tokens().bearer()
    assert runs.book()["new"] == 2
    assert runs.tokens().kept().asked == 2
    runs.clock.advance(601)
    with pytest.raises(NotSent):
        runs.tokens().bearer()
    runs.clock.advance(601)
    with pytest.raises(NotSent) as pause:  # each pause is twice as long
        runs.tokens().bearer()
    assert pause.value.wait == 1200 - 601
    runs.clock.advance(600)
    assert runs.tokens().bearer()
    assert (runs.book()["new"], runs.tokens().kept().asked, runs.tokens().kept().lost) == (4, 4, 0)


def test_a_clock_that_was_ahead_when_answers_were_lost_stops_nothing(runs: Runs) -> None:
    tokens = runs.tokens()
    with Vault(runs.ledger).lock(1):
        Vault(runs.ledger).keep(OWN.key(runs.box.url), Kept(lost=2, asked_at=NOW + timedelta(days=400)).written())
    assert tokens.bearer()


def test_a_new_token_that_was_certainly_not_made_is_not_counted(runs: Runs) -> None:
    runs.box.faults.add(on="vk.token", kind="status", status=429, headers={"Retry-After": "900"})
    with pytest.raises(NotSent) as stop:
        runs.tokens().bearer()
    assert (stop.value.wait, runs.tokens().kept().asked) == (900.0, 0)


def test_the_sixth_token_is_refused_with_the_way_out(runs: Runs, tmp_path: Path) -> None:
    for number in range(5):
        Runs(runs.box, tmp_path / f"{number}.db", runs.clock).tokens().bearer()
    with pytest.raises(Halted, match="token_limit") as stop:
        runs.tokens().bearer()
    assert "convsync vk token revoke" in stop.value.finding.advice
    assert runs.book()["deleted"] == 0
    runs.tokens().revoke()
    assert runs.tokens().bearer()
    assert (runs.book()["pairs"], runs.book()["deleted"]) == (1, 5)


def test_a_withdrawn_token_is_not_replaced_behind_the_persons_back(runs: Runs) -> None:
    api = runs.api()
    assert api.ask("/api/v3/user.json")
    runs.box.config.vk.bearer_errors = {"owner": "revoked_token"}
    with pytest.raises(Halted, match="revoked"):
        api.ask("/api/v3/user.json")
    runs.clock.advance(DAY)
    with pytest.raises(Halted, match="revoked"):
        runs.tokens().bearer()
    assert runs.book()["new"] == 1


def test_a_lost_answer_to_a_revocation_keeps_what_is_kept(runs: Runs) -> None:
    runs.tokens().bearer()
    runs.box.faults.add(on="vk.token_delete", kind="reset_after")
    with pytest.raises(NotSent):
        runs.tokens().revoke()
    assert runs.tokens().kept().access
    runs.tokens().revoke()
    assert runs.tokens().kept() == Kept()


def test_a_file_that_cannot_be_used_stops_the_destination_with_advice(runs: Runs) -> None:
    runs.tokens().bearer()
    path = runs.ledger.with_name("ledger.db.tokens")
    path.chmod(0o644)
    with pytest.raises(Halted, match="token_file") as stop:
        runs.tokens().bearer()
    assert "chmod 600" in stop.value.finding.advice


def test_a_run_that_is_told_to_end_does_not_wait_for_the_lock(runs: Runs) -> None:
    tokens = runs.tokens()
    tokens.wire.stop.set()
    with Vault(runs.ledger).lock(0), pytest.raises(NotSent, match="interrupted"):
        tokens.bearer()


def test_what_is_kept_shows_no_token() -> None:
    assert "abc" not in repr(Kept("abc1", "abc2", NOW, NOW, None, 1))


moments = st.none() | st.datetimes(timezones=st.just(UTC))
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)


@settings(deadline=None)
@given(st.builds(Kept, printable, printable, moments, moments, moments, st.integers(), st.integers(), moments))
def test_what_is_written_is_read_again(kept: Kept) -> None:
    assert Kept.of(json.loads(json.dumps(kept.written()))) == kept


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(Kept._fields), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_whatever_stands_in_the_file_is_read(told: dict[str, Any]) -> None:
    Kept.of(told).good(datetime(2026, 1, 1, tzinfo=UTC))


# -- processes

WORKER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from convsync.destinations.vk.api import Api
from convsync.destinations.vk.tokens import Client, Tokens
from convsync.errors import NotSent
from convsync.ledger.vault import Vault
from convsync.net import Wire

url, ledger, ahead, times = sys.argv[1], Path(sys.argv[2]), timedelta(seconds=int(sys.argv[3])), int(sys.argv[4])
wire = Wire(requests_per_second=10_000, timeout=30, clock=lambda: datetime.now(UTC) + ahead)
client = Client("sandbox-vk", "sandbox-vk-secret")
tokens = Tokens("destinations.vk", client=client, keeper=Vault(ledger), wire=wire, url=url)
api = Api("destinations.vk", tokens=tokens, wire=wire, url=url)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(times):
    try:
        print(api.ask("/api/v3/user.json")["username"], flush=True)
    except NotSent as fault:
        print(fault.reason, flush=True)
"""


class Process:
    """A run of its own: it says when it is ready, and begins when it is told to."""

    def __init__(self, box: Sandbox, ledger: Path, *, ahead: int = 0, times: int = 20) -> None:
        command = [sys.executable, "-c", WORKER, box.url, str(ledger), str(ahead), str(times)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> list[str]:
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return out.splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def real() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig()) as box:
        yield box


def book(box: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = box.books()["vk"]["token_users"].get("owner", {"new": 0, "refreshes": 0})
    return found


def until(reached: Callable[[], bool]) -> None:
    for _ in range(3000):
        if reached():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def signed_in(box: Sandbox, ledger: Path) -> None:
    one = Process(box, ledger, times=1)
    one.go()
    assert one.end() == ["owner"]
    assert book(box)["new"] == 1


def test_two_processes_that_begin_at_once_ask_for_one_token(real: Sandbox, ledger: Path) -> None:
    real.faults.add(on="vk.token", kind="slow", seconds=0.3, times=None)
    both = [Process(real, ledger) for _ in range(2)]
    for one in both:
        one.go()
    assert [one.end() for one in both] == [["owner"] * 20] * 2
    assert (book(real)["new"], book(real)["refreshes"], book(real)["pairs"]) == (1, 0, 1)


@pytest.mark.parametrize("ahead", [DAY - 300, DAY + 1], ids=["nearly", "gone"])
def test_two_processes_that_share_an_ending_token_refresh_it_once(real: Sandbox, ledger: Path, ahead: int) -> None:
    signed_in(real, ledger)
    real.clock.advance(ahead)
    real.faults.add(on="vk.token", kind="slow", seconds=0.3, times=None)
    both = [Process(real, ledger, ahead=ahead) for _ in range(2)]
    for one in both:
        one.go()
    assert [one.end() for one in both] == [["owner"] * 20] * 2
    found = book(real)
    assert (found["new"], found["refreshes"], found["pairs"], found["expired_used"]) == (1, 1, 1, 0)


def test_two_processes_whose_token_ends_unexpectedly_refresh_it_once_each_time(real: Sandbox, ledger: Path) -> None:
    signed_in(real, ledger)
    both = [Process(real, ledger, times=120) for _ in range(2)]
    for one in both:
        one.go()
    for _ in range(3):  # their clocks know nothing of it
        real.clock.advance(DAY + 1)
        assert {one.line() for one in both for _ in range(20)} == {"owner"}
    assert {word for one in both for word in one.end()} == {"owner"}
    found = book(real)
    assert (found["new"], found["pairs"]) == (1, 1)
    assert 1 <= found["refreshes"] <= 3


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
def test_who_dies_with_the_lock_in_the_hand_locks_nobody_out(real: Sandbox, ledger: Path, kind: str) -> None:
    signed_in(real, ledger)
    real.clock.advance(DAY + 1)
    fault = real.faults.add(on="vk.token", kind=kind)
    holder, waiting = (Process(real, ledger, ahead=DAY + 1, times=3) for _ in range(2))
    holder.go()
    until(lambda: fault.fired == 1 and book(real)["refreshes"] == (kind == "timeout_after"))
    waiting.go()
    holder.kill()
    assert waiting.end() == ["owner"] * 3
    found = book(real)
    assert (found["new"], found["pairs"], found["refreshes"]) == (1, 1, 2 if kind == "timeout_after" else 1)


def test_a_lost_answer_to_a_refresh_costs_one_more_refresh_and_no_token(real: Sandbox, ledger: Path) -> None:
    signed_in(real, ledger)
    real.clock.advance(DAY + 1)
    real.faults.add(on="vk.token", kind="reset_after")
    both = [Process(real, ledger, ahead=DAY + 1, times=10) for _ in range(2)]
    for one in both:
        one.go()
    told = [word for one in both for word in one.end()]
    assert sorted(told) == ["owner"] * 19 + ["token_eof" if "token_eof" in told else "token_reset"]
    assert (book(real)["new"], book(real)["refreshes"], book(real)["pairs"]) == (1, 2, 1)
