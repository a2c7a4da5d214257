"""VK's offline lists at the sandbox: what a file must look like, how it is refused, and what is counted."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from convsync.sandbox import Sandbox, vk_list_file
from convsync.sandbox.vk_list_file import BadFile
from convsync.sandbox.vk_lists import ListsConfig

if TYPE_CHECKING:
    from conftest import VkClient

LISTS = "/api/v2/remarketing/offline_goals.json"
DAY = "19.11.2026"
FORM = {"name": "sales", "type": "phone", "attribution_period": "90"}


def phones(count: int, first: int = 0) -> list[str]:
    return [f"{79010000000 + first + number},{DAY}" for number in range(count)]


def file(*lines: str, header: str | None = "ID,date") -> bytes:
    return "".join(f"{line}\n" for line in ([header] if header is not None else []) + list(lines)).encode()


def key(contact: str, day: str = DAY) -> str:
    return f"{hashlib.sha256(contact.encode()).hexdigest()[:16]} {day}"


class Caller:
    def __init__(self, vk: VkClient) -> None:
        self.box: Sandbox = vk.box
        self.session = vk.session
        self.switch: ListsConfig = vk.box.config.vk.lists
        self.login()

    def login(self, **changes: str) -> None:
        form = {"grant_type": "client_credentials", "client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret"}
        token = self.session.post(f"{self.box.url}/api/v2/oauth2/token.json", data=form | changes).json()
        self.session.headers["Authorization"] = f"Bearer {token['access_token']}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.box.url + path, **options)

    def new(self, content: bytes | None = None, **changes: str) -> requests.Response:
        sent = file(*phones(10)) if content is None else content
        fields = {name: value for name, value in (FORM | changes).items() if value}
        return self.call("POST", LISTS, data=fields, files={"list_users": ("list.csv", sent, "text/csv")})

    def made(self, **changes: str) -> int:
        """The id of a new list of ten rows, learnt as everybody learns it."""
        assert self.new(**changes).status_code == 204
        found: int = self.items()[-1]["id"]
        return found

    def add(self, number: int | str, content: bytes | None = None, **fields: str) -> requests.Response:
        files = None if content is None else {"list_users": ("list.csv", content)}
        path = f"/api/v2/remarketing/offline_goals/{number}.json"
        if files is None:
            return self.call("POST", path, files={name: (None, value) for name, value in fields.items()})
        return self.call("POST", path, data=fields, files=files)

    def delete(self, number: int | str) -> requests.Response:
        return self.call("DELETE", f"/api/v2/remarketing/offline_goals/{number}.json")

    def items(self, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", LISTS, params=params).json()["items"]
        return found

    def books(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.books()["vk"]["lists"]
        return found

    def book(self) -> dict[str, Any]:
        (found,) = self.books()["lists"].values()
        assert isinstance(found, dict)
        return found


@pytest.fixture
def lists(vk: VkClient) -> Caller:
    return Caller(vk)


def error(answer: requests.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


def lines(answer: requests.Response) -> list[tuple[int, str, str]]:
    told = error(answer)
    assert told["code"] == "validation_failed"
    return [(bad["line_number"], bad["line"], bad["code"]) for bad in told["fields"]["list_users"]]


def whole(answer: requests.Response) -> str:
    """The word about the file as a whole."""
    word: str = error(answer)["fields"]["list_users"]["code"]
    return word


# The file.


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("79011234567", "csv_line_column_index_error"),
        (f"79011234567,{DAY},1500", "csv_line_column_index_error"),
        (f"79011234567;{DAY}", "csv_line_column_index_error"),
        (f'"79011234567,{DAY}', "csv_line_column_index_error"),
        ("", "csv_line_column_index_error"),
        (f",{DAY}", "empty_user_id_with_non_empty_date_time"),
        (f"+79011234567,{DAY}", "invalid_phone"),
        (f"89011234567,{DAY}", "invalid_phone"),
        (f"9011234567890123,{DAY}", "invalid_phone"),
        (f"901123,{DAY}", "invalid_phone"),
        (f"7901123456٧,{DAY}", "invalid_phone"),
        (f" 79011234567,{DAY}", "invalid_phone"),
        (f"a@example.com,{DAY}", "invalid_phone"),
        (",", "invalid_phone"),
        ("79011234567,", "invalid_date_time"),
        ("79011234567,2026-11-19", "invalid_date_time"),
        ("79011234567,31.02.2026", "invalid_date_time"),
        ("79011234567,1.1.2026", "invalid_date_time"),
        ("79011234567,19.11.2026 10:00:00", "invalid_date_time"),
        ("79011234567,21.11.2026", "invalid_date_time"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_nothing_of_the_file_counts(
    lists: Caller, line: str, code: str
) -> None:
    answer = lists.new(file(*phones(10), line, *phones(1, 50)))
    assert lines(answer) == [(12, line, code)]
    assert lists.items() == []
    assert lists.books()["totals"] == {"lists": 0, "deleted": 0, "rows": 0, "contacts": 0, "refused": {code: 1}}


@pytest.mark.parametrize(
    "contact", ["79011234567", "no-at.example.com", "a@b@example.com", "a@example", "a b@example.com"]
)
def test_a_bad_email_is_named(lists: Caller, contact: str) -> None:
    good = [f"someone{n}@example.com,{DAY}" for n in range(10)]
    answer = lists.new(file(*good, f"{contact},{DAY}"), type="email")
    assert lines(answer) == [(12, f"{contact},{DAY}", "invalid_email")]


def test_a_list_of_emails_is_taken(lists: Caller) -> None:
    assert lists.new(file(*(f"someone{n}@example.com,{DAY}" for n in range(10))), type="email").status_code == 204
    assert lists.book()["by_contact"][key("someone3@example.com")] == 1


def test_all_bad_lines_are_named_unless_it_is_switched_to_the_first_few(lists: Caller) -> None:
    content = file(*phones(10), "x,y", *phones(1, 20), "z")
    assert [number for number, _, _ in lines(lists.new(content))] == [12, 14]
    lists.switch.lines_named = 1
    assert [number for number, _, _ in lines(lists.new(content))] == [12]


def test_lines_can_be_counted_from_the_first_row(lists: Caller) -> None:
    lists.switch.count_header = False
    assert lines(lists.new(file(*phones(10), "x,y")))[0][0] == 11


def test_a_file_without_its_header_is_refused(lists: Caller) -> None:
    assert whole(lists.new(file(*phones(10), header=None))) == "invalid_csv_header"
    for header in ("id;date", "phone,date", "ID, date", "\ufeffID,date"):
        assert whole(lists.new(file(*phones(10), header=header))) == "invalid_csv_header"
    assert lists.books()["totals"]["refused"] == {"invalid_csv_header": 5}


def test_a_header_can_be_forbidden(lists: Caller) -> None:
    lists.switch.header = "forbidden"
    assert whole(lists.new()) == "invalid_csv_header"
    lists.switch.header_taken_as_row = True
    assert lines(lists.new()) == [(1, "ID,date", "invalid_phone")]
    assert lines(lists.new(file("x,y", *phones(9), header=None))) == [(1, "x,y", "invalid_phone")]
    assert lists.new(file(*phones(10), header=None)).status_code == 204
    assert lists.book()["rows"] == 10


@pytest.mark.parametrize("header", ["ID,date", None])
def test_a_header_can_be_left_to_the_sender(lists: Caller, header: str | None) -> None:
    lists.switch.header = "either"
    assert lists.new(file(*phones(10), header=header)).status_code == 204
    assert lists.book()["rows"] == 10


def test_the_first_line_can_be_swallowed_without_a_word(lists: Caller) -> None:
    lists.switch.header = "skipped"
    assert lists.new(file(*phones(11), header=None)).status_code == 204
    assert (lists.book()["rows"], key("79010000000") in lists.book()["by_contact"]) == (10, False)


def test_too_few_and_too_many_rows_have_words_of_their_own(lists: Caller) -> None:
    lists.switch.max_rows = 12
    assert whole(lists.new(file(*phones(9)))) == "not_enough_ids"
    assert whole(lists.new(file())) == "not_enough_ids"
    assert whole(lists.new(file(*phones(13)))) == "too_many_ids"
    assert whole(lists.new(b"")) == "file_reading_error"
    assert whole(lists.new(b"ID,date\n\xff\xfe\n")) == "file_reading_error"
    assert lists.new(file(*phones(12))).status_code == 204


def test_a_word_about_the_whole_file_comes_in_three_shapes(lists: Caller) -> None:
    few = file(*phones(3))
    lists.switch.file_error_shape = "list"
    assert error(lists.new(few))["fields"]["list_users"][0]["code"] == "not_enough_ids"
    lists.switch.file_error_shape = "code"
    told = error(lists.new(few))
    assert (told["code"], "fields" in told) == ("not_enough_ids", False)


def test_a_large_file_is_413(lists: Caller) -> None:
    content = file(*phones(20))
    lists.switch.max_bytes = len(content) - 1
    error(lists.new(content), 413)
    lists.switch.max_bytes = len(content)
    assert lists.new(content).status_code == 204


def test_line_ends_of_windows_and_a_missing_last_one_are_read(lists: Caller) -> None:
    assert lists.new(file(*phones(10)).replace(b"\n", b"\r\n")).status_code == 204
    assert lists.new(file(*phones(10)).rstrip(b"\n")).status_code == 204
    assert lists.books()["totals"]["rows"] == 20


def test_an_md5_counts_unless_it_is_switched_off(lists: Caller) -> None:
    hashes = [hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest() for n in range(10)]
    good = file(*(f"{one},{DAY}" for one in hashes))
    assert lists.new(good).status_code == 204
    wrong = hashlib.sha256(b"1").hexdigest()
    assert lines(lists.new(file(*phones(10), f"{wrong},{DAY}"))) == [(12, f"{wrong},{DAY}", "invalid_md5")]
    lists.switch.md5_accepted = False
    assert {code for _, _, code in lines(lists.new(good))} == {"invalid_md5"}


def test_the_last_day_is_today_in_moscow(lists: Caller) -> None:
    tomorrow = file(*(line.replace(DAY, "21.11.2026") for line in phones(10)))
    assert lines(lists.new(tomorrow))[0][2] == "invalid_date_time"
    lists.box.clock.advance(9 * 3600)
    assert lists.new(tomorrow).status_code == 204, "21:00 UTC is midnight in Moscow"


def test_a_future_day_can_be_let_through(lists: Caller) -> None:
    lists.switch.future_refused = False
    assert lists.new(file(*phones(10), "79011234567,01.01.2030")).status_code == 204


def test_the_same_contact_and_day_counts_twice_in_one_file(lists: Caller) -> None:
    assert lists.new(file(*phones(10), *phones(1))).status_code == 204
    assert (lists.book()["rows"], lists.book()["by_contact"][key("79010000000")]) == (11, 2)
    assert lists.books()["totals"]["contacts"] == 10


def test_the_same_contact_and_day_can_be_reported_or_dropped(lists: Caller) -> None:
    content = file(*phones(10), *phones(2), "79010000002,18.11.2026")
    lists.switch.duplicates = "reported"
    assert [(number, code) for number, _, code in lines(lists.new(content))] == [
        (12, "duplicated_user_id"),
        (13, "duplicated_user_id"),
    ]
    lists.switch.duplicates = "dropped"
    assert lists.new(content).status_code == 204
    assert (lists.book()["rows"], lists.book()["by_contact"][key("79010000000")]) == (11, 1)


def test_one_contact_with_two_days_can_be_reported(lists: Caller) -> None:
    content = file(*phones(10), "79010000002,18.11.2026")
    assert lists.new(content).status_code == 204
    lists.switch.two_dates_reported = True
    assert lines(lists.new(content)) == [(12, "79010000002,18.11.2026", "duplicated_user_id")]


LINE = st.one_of(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=30),
    st.from_regex(r"[+78]?[0-9 @a]{0,12},?[0-9.]{8,10}", fullmatch=True),
    st.sampled_from(phones(3)),
)


@given(st.lists(LINE, max_size=15), st.sampled_from(["phone", "email"]), st.sampled_from(["counted", "reported"]))
def test_whatever_the_file_says_each_row_is_taken_or_named(text: list[str], kind: str, duplicates: str) -> None:
    content = file(*text).decode().split("\n")[:-1]
    try:
        rows = vk_list_file.rows(content, ListsConfig(min_rows=0, duplicates=duplicates), kind, 0, date(2026, 11, 20))
    except BadFile as problem:
        assert problem.lines
        assert all(content[bad.number - 1] == bad.line for bad in problem.lines)
    else:
        assert [f"{row.contact},{row.date}" for row in rows] == [line.replace('"', "") for line in content[1:]]


# The form.


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "  "}, "name", "required"),
        ({"name": "n" * 256}, "name", "too_long"),
        ({"type": ""}, "type", "required"),
        ({"type": "phones"}, "type", "invalid"),
        ({"attribution_period": "0"}, "attribution_period", "invalid"),
        ({"attribution_period": "366"}, "attribution_period", "invalid"),
        ({"attribution_period": "a month"}, "attribution_period", "invalid"),
    ],
)
def test_a_bad_field_is_named(lists: Caller, changes: dict[str, str], field: str, code: str) -> None:
    told = error(lists.new(**changes))
    assert (told["code"], {name: one["code"] for name, one in told["fields"].items()}) == (
        "validation_failed",
        {field: code},
    )
    assert lists.items() == []


def test_the_days_may_be_left_out_unless_they_are_required(lists: Caller) -> None:
    assert lists.new(attribution_period="").status_code == 204
    assert lists.items()[0]["attribution_period"] == 90
    lists.switch.attribution_period = None
    assert error(lists.new(attribution_period=""))["fields"]["attribution_period"]["code"] == "required"


def test_a_file_without_a_file_name_or_no_form_at_all_is_refused(lists: Caller) -> None:
    content = file(*phones(10))
    assert (
        whole(
            lists.call(
                "POST", LISTS, files={"list_users": (None, content), "name": (None, "n"), "type": (None, "phone")}
            )
        )
        == "required"
    )
    assert error(lists.call("POST", LISTS, json=FORM))["code"] == "validation_failed"
    twice = [("list_users", ("a.csv", content)), ("list_users", ("b.csv", content))]
    assert error(lists.call("POST", LISTS, data=FORM, files=twice))["code"] == "validation_failed"
    assert lists.items() == []


def in_json(lists: Caller, data: str) -> requests.Response:
    files = {"data": (None, data, "application/json"), "list_users": ("list.csv", file(*phones(10)))}
    return lists.call("POST", LISTS, files=files)


def test_the_fields_stand_where_the_switch_says(lists: Caller) -> None:
    data = json.dumps(FORM | {"attribution_period": 30})
    assert set(error(in_json(lists, data))["fields"]) == {"name", "type"}
    lists.switch.fields_mode = "data_json"
    assert in_json(lists, data).status_code == 204
    assert lists.items()[0]["attribution_period"] == 30
    assert set(error(lists.new())["fields"]) == {"name", "type"}
    for broken in ("{", "[]", '"name"'):
        assert set(error(in_json(lists, broken))["fields"]) == {"data"}
    lists.switch.fields_mode = "both"
    assert (in_json(lists, data).status_code, lists.new().status_code) == (204, 204)


# What becomes of it.


def test_a_new_list_is_answered_with_nothing_and_found_by_asking(lists: Caller) -> None:
    answer = lists.new()
    assert (answer.status_code, answer.content) == (204, b"")
    (found,) = lists.items()
    assert found == {
        "id": found["id"],
        "created": "2026-11-20 15:00:00",
        "updated": "2026-11-20 15:00:00",
        "name": "sales",
        "type": "phone",
        "attribution_period": 90,
        "load_status": "new",
    }
    assert lists.items(fields="id,name") == [{"id": found["id"], "name": "sales"}]


def test_a_blind_repeat_makes_a_second_list_of_the_same_name(lists: Caller) -> None:
    lists.new()
    lists.new()
    first, second = lists.items()
    assert (first["name"], first["id"] < second["id"]) == (second["name"], True)
    totals = lists.books()["totals"]
    assert (totals["rows"], totals["contacts"]) == (20, 10)


def test_a_new_list_can_stay_out_of_the_listing_for_a_while(lists: Caller) -> None:
    lists.switch.list_delay_s = 60
    lists.new()
    lists.box.clock.advance(59)
    assert lists.items() == []
    lists.box.clock.advance(1)
    assert len(lists.items()) == 1


def test_a_list_is_matched_by_the_clock(lists: Caller) -> None:
    lists.switch.match_s = 100
    number = lists.made()
    seen = []
    for seconds in (0, 60, 40):
        lists.box.clock.advance(seconds)
        seen.append(lists.items()[0]["load_status"])
    assert seen == ["new", "processing", "matched"]
    lists.add(number, file(*phones(10, 20)))
    assert lists.items()[0]["load_status"] == "new"
    lists.switch.match_s = 0
    assert lists.items()[0]["load_status"] == "matched"


def test_the_load_status_can_be_a_word_nobody_knows_or_absent(lists: Caller) -> None:
    lists.made()
    lists.switch.status_word = "loading"
    assert lists.items()[0]["load_status"] == "loading"
    lists.switch.status_absent = True
    assert "load_status" not in lists.items()[0]


def test_rows_are_added_and_the_list_renamed(lists: Caller) -> None:
    number = lists.made()
    lists.box.clock.advance(60)
    assert lists.add(number, file(*phones(10, 5))).status_code == 204
    assert lists.add(number, name="renamed").status_code == 204
    assert lists.add(number, file(*phones(10, 30)), name="again").status_code == 204
    (found,) = lists.items()
    assert (found["name"], found["created"], found["updated"]) == (
        "again",
        "2026-11-20 15:00:00",
        "2026-11-20 15:01:00",
    )
    assert (lists.book()["rows"], lists.book()["by_contact"][key("79010000007")]) == (30, 2)


def test_a_refused_addition_neither_adds_nor_renames(lists: Caller) -> None:
    number = lists.made()
    assert lines(lists.add(number, file(*phones(10), f"a@example.com,{DAY}"), name="renamed"))[0][2] == "invalid_phone"
    assert whole(lists.add(number, type="phone")) == "required"
    assert error(lists.add(number, name=" "))["fields"]["name"]["code"] == "required"
    assert (lists.items()[0]["name"], lists.book()["rows"]) == ("sales", 10)


def test_the_least_number_of_rows_may_hold_for_new_lists_only(lists: Caller) -> None:
    number = lists.made()
    assert whole(lists.add(number, file(*phones(1, 50)))) == "not_enough_ids"
    lists.switch.min_rows_when_adding = False
    assert lists.add(number, file(*phones(1, 50))).status_code == 204
    assert lists.book()["rows"] == 11


def test_a_deleted_list_is_gone(lists: Caller) -> None:
    number = lists.made()
    other = lists.made(name="other")
    answer = lists.delete(number)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [item["id"] for item in lists.items()] == [other]
    for again in (
        lists.delete(number),
        lists.add(number, name="x"),
        lists.delete("x"),
        lists.add(1, file(*phones(10))),
    ):
        assert error(again, 404)["code"] == "not_found"
    assert lists.made() > other, "numbers are not used twice"
    assert lists.books()["totals"]["deleted"] == 1


def test_one_list_cannot_be_asked_for(lists: Caller) -> None:
    number = lists.made()
    assert lists.call("GET", f"/api/v2/remarketing/offline_goals/{number}.json").status_code == 405


def test_the_listing_can_have_pages(lists: Caller) -> None:
    for _ in range(22):
        lists.new()
    assert len(lists.items(limit="5")) == 22
    lists.switch.paged = True
    answer = lists.call("GET", LISTS, params={"limit": "5", "offset": "20"}).json()
    assert (answer["count"], answer["offset"], answer["limit"], len(answer["items"])) == (22, 20, 5, 2)
    assert len(lists.items()) == 20


@pytest.mark.parametrize(
    ("what", "permission"),
    [
        ("read", "OfflineGoalses_read_permission"),
        ("create", "OfflineGoalses_create_permission"),
        ("update", "OfflineGoals_update_permission"),
        ("delete", "OfflineGoals_delete_permission"),
    ],
)
def test_a_missing_right_is_named(lists: Caller, what: str, permission: str) -> None:
    number = lists.made()
    lists.switch.denied = [what]
    calls = {
        "read": lambda: lists.call("GET", LISTS),
        "create": lists.new,
        "update": lambda: lists.add(number, file(*phones(10))),
        "delete": lambda: lists.delete(number),
    }
    told = error(calls[what](), 403)
    assert (told["code"], told["required_permission"]) == ("access_denied", permission)
    assert lists.book()["rows"] == 10
    assert lists.books()["totals"]["refused"] == {"access_denied": 1}


def test_nothing_is_said_without_a_token(lists: Caller) -> None:
    number = lists.made()
    lists.session.headers["Authorization"] = "Bearer nobody"
    for answer in (lists.call("GET", LISTS), lists.new(), lists.add(number, name="x"), lists.delete(number)):
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert len(lists.books()["lists"]) == 1


def test_a_client_of_an_agency_has_lists_of_its_own(lists: Caller) -> None:
    number = lists.made()
    lists.login(grant_type="agency_client_credentials", agency_client_name="client-1")
    assert lists.items() == []
    assert (lists.delete(number).status_code, lists.add(number, name="x").status_code) == (404, 404)
    lists.made(name="theirs")
    assert [one["name"] for one in lists.items()] == ["theirs"]


def test_the_books_hold_no_contact_and_forget_on_reset(lists: Caller) -> None:
    lists.made()
    lists.new(file(*phones(10), f"+79011234567,{DAY}"))
    shown = json.dumps([lists.box.books(), lists.box.requests()])
    assert "7901" not in shown
    assert lists.books()["totals"]["rows"] == 10
    lists.box.reset()
    assert lists.books() == {"totals": {"lists": 0, "deleted": 0, "rows": 0, "contacts": 0, "refused": {}}, "lists": {}}


def test_faults_go_by_the_rows_of_the_file(lists: Caller) -> None:
    lists.box.faults.add({"on": "vk.new_list", "kind": "status", "status": 413, "rows": {"min": 11}, "times": None})
    assert lists.new(file(*phones(11))).status_code == 413
    assert lists.new().status_code == 204
    assert [entry["rows"] for entry in lists.box.requests() if entry["operation"] == "vk.new_list"] == [11, 10]


def test_a_list_whose_answer_was_lost_is_there(lists: Caller) -> None:
    lists.box.faults.add({"on": "vk.new_list", "kind": "reset_after"})
    with pytest.raises(requests.ConnectionError):
        lists.new()
    assert [one["name"] for one in lists.items()] == ["sales"]


def test_rows_that_arrive_late_are_there_late(lists: Caller) -> None:
    number = lists.made()
    lists.box.faults.add({"on": "vk.list_add", "kind": "reset_late", "seconds": 120})
    with pytest.raises(requests.ConnectionError):
        lists.add(number, file(*phones(10, 20)))
    lists.box.clock.advance(119)
    assert lists.book()["rows"] == 10
    lists.box.clock.advance(1)
    assert lists.book()["rows"] == 20


def test_the_switches_are_set_by_name_over_http(lists: Caller, http: requests.Session) -> None:
    body = {"vk": {"lists": {"min_rows": 2, "header": "either"}}}
    assert http.post(f"{lists.box.url}/_sandbox/config", json=body).json() == {"ok": True}
    assert lists.new(file(*phones(2), header=None)).status_code == 204
