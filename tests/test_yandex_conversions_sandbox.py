"""Offline conversions of the emulated Metrica over raw HTTP: what is refused, what a repeat means, what time does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from convsync.sandbox import Clock, Sandbox, SandboxConfig
from convsync.sandbox.yandex import Yandex
from convsync.sandbox.yandex_offline import Book, Key, Row

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
COUNTER = "12345678"
AGO = str(SECONDS - 3600)


class Metrica:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.config = box.config.yandex
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "OAuth sandbox-token"
        self.root = f"{box.url}/management/v1/counter/{COUNTER}/offline_conversions"

    def upload(self, *rows: str, header: str = "Yclid,Target,DateTime,Price,Currency", **more: Any) -> Any:
        """`more`: parameters of the query, and `part`, the name of the file's part."""
        text = "\n".join([header, *rows]) + "\n"
        files = {more.pop("part", "file"): ("conversions.csv", text.encode())}
        return self.session.post(f"{self.root}/upload", params=more, files=files)

    def uploaded(self, *rows: str, **more: Any) -> dict[str, Any]:
        answer = self.upload(*rows, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["uploading"]
        return found

    def finished(self, *rows: str, **more: Any) -> dict[str, Any]:
        """What the upload has come to when its processing is over."""
        number = self.uploaded(*rows, **more)["id"]
        self.box.clock.advance(2)
        return self.status(number)

    def status(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.session.get(f"{self.root}/uploading/{number}").json()["uploading"]
        return found

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.session.get(f"{self.root}/uploadings", params=query).json()["uploadings"]
        return found

    def book(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["yandex"]["counters"][COUNTER]["offline"]
        return found

    def one(self) -> dict[str, Any]:
        (found,) = self.book()["conversions"]
        return dict(found)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as made:
        yield made


@pytest.fixture
def metrica(box: Sandbox) -> Iterator[Metrica]:
    made = Metrica(box)
    yield made
    made.session.close()


def refusal(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["errors"][0]["error_type"], body["errors"][0].get("location", "")


def row(number: int = 1, *, target: str = "crm_lead", at: str = AGO, worth: str = "100.50,RUB") -> str:
    return f"1500000{number},{target},{at},{worth}"


# What is refused.


@pytest.mark.parametrize(
    "header",
    [
        "yclid,Target,DateTime,Price,Currency",
        "\ufeffYclid,Target,DateTime,Price,Currency",
        "Yclid;Target;DateTime;Price;Currency",
        "Yclid,Target,Price,Currency",
        "Yclid,DateTime,Price,Currency",
        "Target,DateTime,Price,Currency",
        "Yclid,Target,DateTime,Price,Comment",
        "Yclid,Yclid,Target,DateTime,Price",
        row(2),
    ],
)
def test_a_header_that_is_not_spelled_as_documented_refuses_the_file(metrica: Metrica, header: str) -> None:
    assert refusal(metrica.upload(row(), header=header)) == (400, "invalid_uploading", "file")
    assert metrica.box.books()["yandex"]["counters"] == {}


def test_a_file_without_rows_or_under_another_name_is_refused(metrica: Metrica) -> None:
    assert refusal(metrica.upload())[1] == "invalid_uploading"
    assert refusal(metrica.upload(row(), part="data"))[1] == "missing_parameter"
    assert refusal(metrica.session.post(f"{metrica.root}/upload", data=b"Yclid"))[1] == "invalid_uploading"
    metrica.config.max_file_bytes = 40
    assert refusal(metrica.upload(row()))[1] == "limit_exceeded"


BAD_ROWS = {
    "no id": ",crm_lead," + AGO + ",1,RUB",
    "no target": "1,," + AGO + ",1,RUB",
    "no time": "1,crm_lead,,1,RUB",
    "a time in the future": f"1,crm_lead,{SECONDS + 1},1,RUB",
    "milliseconds": f"1,crm_lead,{AGO}000,1,RUB",
    "a date": "1,crm_lead,2026-03-20 11:00:00,1,RUB",
    "a negative time": "1,crm_lead,-5,1,RUB",
    "a price with a comma": f'1,crm_lead,{AGO},"1,5",RUB',
    "a negative price": f"1,crm_lead,{AGO},-1,RUB",
    "a currency in small letters": f"1,crm_lead,{AGO},1,rub",
    "too few cells": f"1,crm_lead,{AGO}",
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_refuses_the_whole_file_or_is_dropped(metrica: Metrica, bad: str) -> None:
    answer = metrica.upload(row(), bad)
    assert refusal(answer) == (400, "invalid_uploading", "file")
    assert answer.json()["message"].startswith("line 3: ")
    metrica.config.bad_conversion = "drop"
    told = metrica.finished(row(), bad)
    assert (told["source_quantity"], told["line_quantity"], told["status"]) == (2, 1, "PROCESSED")
    assert metrica.book()["goals"]["crm_lead"]["reaches"] == 1


def test_a_file_of_bad_rows_only_may_be_taken_and_come_to_nothing(metrica: Metrica) -> None:
    metrica.config.bad_conversion = "drop"
    told = metrica.finished(BAD_ROWS["no id"])
    assert (told["source_quantity"], told["line_quantity"], told["status"]) == (1, 0, "LINKAGE_FAILURE")


@pytest.mark.parametrize("comment", ["a-b", "a_b", "a b", "a:b", "x" * 256])
def test_a_comment_holds_letters_and_digits_only(metrica: Metrica, comment: str) -> None:
    assert refusal(metrica.upload(row(), comment=comment)) == (400, "invalid_parameter", "comment")
    metrica.config.comment_letters_only = False
    assert metrica.upload(row(), comment=comment).status_code == (400 if len(comment) > 255 else 200)


def test_a_comment_may_be_cyrillic_and_255_characters_long(metrica: Metrica) -> None:
    comment = ("Ёж7" + "z" * 255)[:255]
    assert metrica.uploaded(row(), comment=comment)["comment"] == comment


def test_the_type_of_ids_may_be_required(metrica: Metrica) -> None:
    metrica.config.client_id_type_required = True
    assert refusal(metrica.upload(row())) == (400, "missing_parameter", "client_id_type")
    assert metrica.uploaded(row(), client_id_type="YCLID")["client_id_type"] == "YCLID"


def test_a_type_of_ids_must_be_known_and_have_its_column(metrica: Metrica) -> None:
    assert refusal(metrica.upload(row(), client_id_type="yclid")) == (400, "invalid_parameter", "client_id_type")
    assert refusal(metrica.upload(row(), client_id_type="PURCHASE_ID"))[1] == "invalid_parameter"
    assert refusal(metrica.upload(row(), client_id_type="CLIENT_ID")) == (400, "invalid_uploading", "file")
    metrica.config.client_id_types.append("PURCHASE_ID")
    header = "PurchaseId,Target,DateTime,Price,Currency"
    assert metrica.uploaded(row(), header=header, client_id_type="PURCHASE_ID")["client_id_type"] == "PURCHASE_ID"


def test_calls_and_chats_are_not_taken_as_ordinary_conversions(metrica: Metrica) -> None:
    assert refusal(metrica.upload(row(), type="CALLS")) == (400, "invalid_parameter", "type")
    assert metrica.uploaded(row(), type="BASIC")["type"] == "BASIC"


def test_uploading_needs_its_right_and_a_counter_that_may_be_edited(metrica: Metrica) -> None:
    metrica.config.tokens = {"sandbox-token": ["metrika:read"]}
    assert refusal(metrica.upload(row()))[:2] == (403, "access_denied")
    assert metrica.listed() == [], "but it may look"
    metrica.config.tokens = {"sandbox-token": ["metrika:write"]}
    assert metrica.upload(row()).status_code == 200, "metrika:write uploads everything"
    metrica.config.counters[COUNTER].permission = "view"
    assert refusal(metrica.upload(row()))[:2] == (403, "access_denied")


def test_an_unknown_upload_is_not_found(metrica: Metrica) -> None:
    assert refusal(metrica.session.get(f"{metrica.root}/uploading/77"))[:2] == (404, "not_found")


# What a conversion is, and when it is the same one again.


def test_the_same_conversion_again_counts_once_and_its_amount_is_overwritten(metrica: Metrica) -> None:
    for worth in ("100.50,RUB", "100.50,RUB", "40,USD", "0,RUB"):
        assert metrica.finished(row(worth=worth))["linked_quantity"] == 1
    told = metrica.one()
    assert (told["count"], told["price"], told["currency"], len(told["versions"])) == (1, "0", "RUB", 4)
    assert metrica.book()["goals"] == {"crm_lead": {"reaches": 1, "revenue": {"RUB": "0"}}}


def test_a_repeat_may_count_again_where_a_switch_says_so(metrica: Metrica) -> None:
    metrica.config.repeat_counts = True
    for _ in range(3):
        metrica.finished(row())
    assert metrica.book()["goals"]["crm_lead"] == {"reaches": 3, "revenue": {"RUB": "100.5"}}


def test_another_second_target_id_or_kind_of_id_is_another_conversion(metrica: Metrica) -> None:
    metrica.finished(row(), row(2), row(at=str(SECONDS - 3601)), row(target="qualified"))
    metrica.finished(row(), header="UserId,Target,DateTime,Price,Currency")
    assert len(metrica.book()["conversions"]) == 5
    assert metrica.box.books()["totals"]["yandex"]["offline"]["conversions"] == 5


def test_targets_are_case_sensitive_identifiers_of_javascript_goals(metrica: Metrica) -> None:
    targets = ("crm_lead", "Crm_lead", "CRM lead", "100002", "/thanks", "nobody")
    told = metrica.finished(*(row(target=target) for target in targets))
    assert (told["status"], told["linked_quantity"], told["goal_not_found_quantity"]) == ("PROCESSED", 1, 5)
    assert list(metrica.book()["goals"]) == ["crm_lead"]
    metrica.config.unknown_target = "refuse"
    assert refusal(metrica.upload(row(target="nobody")))[1] == "invalid_uploading"


def test_amounts_of_one_goal_and_visit_in_two_currencies_become_empty(metrica: Metrica) -> None:
    metrica.config.known_clicks = {"15000001": "2026-03-19T00:00:00Z", "15000002": "2026-03-19T00:00:00Z"}
    metrica.finished(row(), row(at=str(SECONDS - 60), worth="5,USD"), row(2))
    told = {(one["id"], one["datetime"]): (one["price"], one["currency"]) for one in metrica.book()["conversions"]}
    assert told == {
        ("15000001", int(AGO)): (None, None),
        ("15000001", SECONDS - 60): (None, None),
        ("15000002", int(AGO)): ("100.5", "RUB"),
    }
    assert metrica.book()["goals"]["crm_lead"] == {"reaches": 3, "revenue": {"RUB": "100.5"}}


def test_a_twenty_digit_id_stays_as_it_is(metrica: Metrica) -> None:
    metrica.finished(f"18446744073709551615,crm_lead,{AGO}", header="ClientId,Target,DateTime")
    told = metrica.one()
    assert (told["id"], told["price"], told["currency"]) == ("18446744073709551615", None, None)


def test_which_of_several_ids_wins_is_a_switch(metrica: Metrica) -> None:
    both = {"header": "Yclid,ClientId,Target,DateTime"}
    metrica.finished(f"11,22,crm_lead,{AGO}", **both)
    metrica.config.id_priority = ["Yclid", "ClientId"]
    metrica.finished(f"11,22,crm_lead,{AGO}", **both)
    metrica.finished(f",33,crm_lead,{AGO}", **both)
    assert [(one["kind"], one["id"]) for one in metrica.book()["conversions"]] == [
        ("ClientId", "22"),
        ("Yclid", "11"),
        ("ClientId", "33"),
    ]
    metrica.config.one_id_type = True
    assert refusal(metrica.upload(f"11,22,crm_lead,{AGO}", **both))[1] == "invalid_uploading"


keys = st.builds(Key, st.just("Yclid"), st.sampled_from("12"), st.just("crm_lead"), st.sampled_from([SECONDS, 5]))
rows = st.builds(Row, keys, st.none() | st.sampled_from([Decimal(1), Decimal(2)]), st.sampled_from(["RUB", ""]))


@given(st.lists(st.lists(rows, max_size=4), max_size=4))
def test_whatever_is_repeated_each_key_counts_once_with_its_last_amount(files: list[list[Row]]) -> None:
    world = SandboxConfig()
    world.yandex.known_clicks = {"1": "1970-01-01T00:00:01Z", "2": "1970-01-01T00:00:02Z"}
    world.yandex.link_days = 10**6
    book = Book(world.yandex, Yandex(world, Clock(frozen_at=NOW))._goals, COUNTER)
    for number, file in enumerate(files):
        assert book.process(number, file, SECONDS).linked == len(file)
    last = {row.key: row for file in files for row in file}
    assert book.shown()["goals"].get("crm_lead", {"reaches": 0})["reaches"] == len(last)
    assert [len(one["versions"]) for one in book.shown()["conversions"]] == [
        sum(row.key == key for file in files for row in file) for key in dict.fromkeys(last)
    ]


# Whose visit is found.


def test_a_client_is_tied_to_the_visit_before_the_conversion(metrica: Metrica) -> None:
    """The example of the documentation: visits on the 1st, 5th and 11th, bought on the 10th, uploaded on the 20th."""
    visits = [f"2026-03-{day:02}T10:00:00Z" for day in (1, 5, 11)]
    metrica.config.known_clients = {"777777": visits}
    metrica.config.known_users = {"u-1": list(reversed(visits))}
    tenth = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp())
    metrica.finished(f"777777,crm_lead,{tenth}", header="ClientId,Target,DateTime")
    metrica.finished(f"u-1,crm_lead,{tenth}", header="UserId,Target,DateTime")
    assert [one["visit"][:10] for one in metrica.book()["conversions"]] == ["2026-03-05"] * 2


def test_a_click_and_a_purchase_are_tied_to_their_own_visit(metrica: Metrica) -> None:
    visits: list[str] = ["2026-03-05T10:00:00Z", "2026-03-11T10:00:00Z"]
    metrica.config.known_clicks = {"15000001": visits}
    metrica.config.known_purchases = {"T-1": visits}
    metrica.finished(row())
    metrica.finished(f"T-1,crm_lead,{AGO}", header="PurchaseId,Target,DateTime")
    assert [one["visit"][:10] for one in metrica.book()["conversions"]] == ["2026-03-05"] * 2


def test_nobody_is_found_by_an_id_that_the_site_never_saw(metrica: Metrica) -> None:
    metrica.config.known_clicks, metrica.config.known_users = {}, {}
    metrica.config.known_clients, metrica.config.known_purchases = {}, {}
    for kind in ("Yclid", "UserId", "ClientId", "PurchaseId"):
        told = metrica.finished(f"5,crm_lead,{AGO}", header=f"{kind},Target,DateTime")
        assert (told["status"], told["user_not_found_quantity"]) == ("LINKAGE_FAILURE", 1)
    assert {one["count"] for one in metrica.book()["conversions"]} == {0}


def test_a_conversion_before_the_first_visit_finds_none(metrica: Metrica) -> None:
    metrica.config.known_clicks = {"15000001": "2026-03-20T11:30:00Z"}
    assert metrica.finished(row())["status"] == "LINKAGE_FAILURE"
    assert metrica.one()["why_not"] == "user not found"


def test_without_lists_of_visits_everybody_was_there_but_the_lost_and_the_damaged(metrica: Metrica) -> None:
    metrica.finished(f"lost-5,crm_lead,{AGO}", header="UserId,Target,DateTime")
    metrica.finished(f"1.5E+18,crm_lead,{AGO}", header="ClientId,Target,DateTime")
    assert metrica.finished(row())["status"] == "PROCESSED"
    assert [one["linked"] for one in metrica.book()["conversions"]] == [False, False, True]


def test_the_21_days_run_from_the_last_visit_to_the_processing(metrica: Metrica) -> None:
    last = NOW - timedelta(days=21)
    metrica.config.known_clicks = {"15000001": [(last - timedelta(days=9)).isoformat(), last.isoformat()]}
    metrica.config.processing_seconds = 0
    assert metrica.finished(row())["status"] == "PROCESSED"
    assert metrica.finished(row(worth="0,RUB"))["status"] == "LINKAGE_FAILURE", "two seconds later"
    assert metrica.one()["price"] == "100.5"


def test_a_file_uploaded_in_time_may_be_processed_too_late(metrica: Metrica) -> None:
    metrica.config.known_clicks = {"15000001": (NOW - timedelta(days=21)).isoformat()}
    assert metrica.finished(row())["status"] == "LINKAGE_FAILURE"


def test_rows_of_one_file_are_linked_each_by_itself(metrica: Metrica) -> None:
    metrica.config.known_clicks = {"15000001": "2026-03-19T00:00:00Z"}
    told = metrica.finished(row(1), row(2), row(3, target="nobody"))
    found = [told[f"{word}_quantity"] for word in ("linked", "user_not_found", "goal_not_found")]
    assert (told["status"], found) == ("PROCESSED", [1, 1, 1])


# What time does, and what is told of it.


def test_an_upload_goes_through_four_states_in_two_hours(metrica: Metrica) -> None:
    metrica.config.processing_seconds = 7200
    told = metrica.uploaded(row())
    seen = [told["status"]]
    for _ in range(4):
        metrica.box.clock.advance(1800)
        seen.append(metrica.status(told["id"])["status"])
    assert seen == ["PREPARED", "UPLOADED", "EXPORTED", "MATCHED", "PROCESSED"]


def test_nothing_counts_before_it_is_processed(metrica: Metrica) -> None:
    told = metrica.uploaded(row())
    assert metrica.book()["goals"] == {} and told["linked_quantity"] == 0
    metrica.box.clock.advance(2)
    assert metrica.book()["goals"]["crm_lead"]["reaches"] == 1


def test_a_finished_upload_may_say_a_word_nobody_documented(metrica: Metrica) -> None:
    metrica.config.finished_word = "ARCHIVED"
    assert metrica.uploaded(row())["status"] == "PREPARED"
    assert metrica.finished(row())["status"] == "ARCHIVED"


@pytest.mark.parametrize(
    ("edition", "absent"),
    [
        ("2025", {"type", "linked_quantity", "goal_not_found_quantity", "user_not_found_quantity"}),
        ("short", {"type", "comment", "create_time", "linked_quantity"}),
        ("id", {"status", "line_quantity", "comment"}),
    ],
)
def test_older_editions_leave_fields_out(metrica: Metrica, edition: str, absent: set[str]) -> None:
    whole = set(metrica.uploaded(row()))
    metrica.config.uploading_fields = edition
    told = metrica.uploaded(row())
    assert absent <= whole and not absent & set(told)
    assert {"id"} <= set(told) < whole
    assert set(metrica.listed()[0]) == set(told) == set(metrica.status(told["id"]))


def test_the_list_is_newest_first_or_not_and_comes_in_pages(metrica: Metrica) -> None:
    ids = [metrica.uploaded(row())["id"] for _ in range(5)]
    assert [one["id"] for one in metrica.listed()] == ids[::-1]
    assert [one["id"] for one in metrica.listed(limit=2, offset=1)] == [ids[3], ids[2]]
    assert metrica.listed(limit=2, offset=5) == []
    metrica.config.newest_first = False
    assert [one["id"] for one in metrica.listed(limit=2, type="BASIC")] == ids[:2]
    for query in ({"limit": 0}, {"limit": 10_001}, {"offset": -1}, {"limit": "x"}, {"type": "OTHER"}):
        assert refusal(metrica.session.get(f"{metrica.root}/uploadings", params=query))[1] == "invalid_parameter"


@pytest.mark.parametrize(("way", "told"), [("verbatim", "7f3a9c"), ("empty", ""), ("altered", "(7F3A9C)")])
def test_a_comment_comes_back_verbatim_empty_or_altered(metrica: Metrica, way: str, told: str) -> None:
    metrica.config.comment_returned = way
    made = metrica.uploaded(row(), comment="7f3a9c")
    assert [made["comment"], metrica.status(made["id"])["comment"], metrica.listed()[0]["comment"]] == [told] * 3
    assert metrica.book()["uploads"][0]["comment"] == "7f3a9c"


def test_an_upload_that_was_answered_may_come_late_into_the_list(metrica: Metrica) -> None:
    metrica.config.list_delay_s = 60
    made = metrica.uploaded(row())
    assert metrica.listed() == []
    metrica.box.clock.advance(59)
    assert metrica.listed() == [] and metrica.status(made["id"])["id"] == made["id"]
    metrica.box.clock.advance(1)
    assert [one["id"] for one in metrica.listed()] == [made["id"]]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset_late", "seconds": 40},
        {"kind": "reset_before", "apply_after_s": 40},
        {"kind": "timeout_after", "seconds": 0.01, "apply_after_s": 40},
        {"kind": "cut_body", "apply_after_s": 40},
        {"kind": "status", "status": 503, "apply_after_s": 40},
    ],
)
def test_a_request_that_got_no_answer_may_be_processed_much_later(metrica: Metrica, fault: dict[str, Any]) -> None:
    metrica.box.faults.add(on="yandex.conversions", rows=1, **fault)
    try:
        assert metrica.upload(row(), comment="7f3a9c").status_code == 503
    except requests.RequestException:
        assert fault["kind"] != "status"
    metrica.box.clock.advance(39)
    assert metrica.listed() == []
    metrica.box.clock.advance(1)
    assert [one["comment"] for one in metrica.listed()] == ["7f3a9c"]
    assert metrica.box.requests()[-2]["fault"] == "arrived late"


def test_a_late_request_and_its_repeat_count_once(metrica: Metrica) -> None:
    metrica.box.faults.add(on="yandex.conversions", kind="reset_late", seconds=40)
    with pytest.raises(requests.ConnectionError):
        metrica.upload(row())
    metrica.uploaded(row())
    metrica.box.clock.advance(60)
    assert [len(metrica.listed()), metrica.one()["count"]] == [2, 1]


def test_an_answer_may_be_lost_after_the_file_was_taken(metrica: Metrica) -> None:
    metrica.box.faults.add(on="yandex.conversions", kind="reset_after")
    with pytest.raises(requests.ConnectionError):
        metrica.upload(row(), comment="7f3a9c")
    assert [one["comment"] for one in metrica.listed()] == ["7f3a9c"]


def test_the_journal_tells_rows_and_no_data(metrica: Metrica) -> None:
    metrica.uploaded(row(), row(2), comment="7f3a9c")
    (entry,) = metrica.box.requests()
    assert (entry["operation"], entry["rows"], entry["note"]) == ("yandex.conversions", 2, "2 of 2 rows taken")
    assert "7f3a9c" not in str(entry) and "15000001" not in str(entry)


def test_a_reset_forgets_uploads_and_conversions(metrica: Metrica) -> None:
    metrica.finished(row())
    metrica.box.reset()
    assert metrica.listed() == []
    assert metrica.box.books()["yandex"]["counters"] == {}


def test_a_hundred_thousand_rows_are_read(metrica: Metrica) -> None:
    told = metrica.finished(*(row(number) for number in range(100_000)))
    assert told["linked_quantity"] == 100_000


def test_the_page_shows_conversions_uploads_and_the_figures_of_each_goal(metrica: Metrica) -> None:
    metrica.finished(row(), row(2, target="nobody"), comment="7f3a9c")
    page = metrica.session.get(f"{metrica.box.url}/_sandbox/").text
    for shown in ("7f3a9c", "15000001", "goal not found", "100.5\u00a0RUB", "PROCESSED", "2 of 2"):
        assert shown in page
