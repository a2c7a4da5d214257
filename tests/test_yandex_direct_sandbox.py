"""The emulator's Reports service of Yandex.Direct, spoken to in raw HTTP: it answers as the documentation says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from convsync.sandbox import Clock, Sandbox, SandboxConfig
from convsync.sandbox.yandex_direct_report import Shape, Spec, read, tsv

NOW = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
TODAY, YESTERDAY, BEFORE, SETTLED = "2026-11-23", "2026-11-22", "2026-11-21", "2026-11-10"
"""Of Moscow, where it is half past one at night."""
OFFLINE = {"processingMode": "offline"}
ROUBLES = {"returnMoneyInMicros": "false"}
BARE = {"skipReportHeader": "true", "skipColumnHeader": "true", "skipReportSummary": "true"}


class Client:
    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False

    def params(self, name: str = "r", since: str = SETTLED, until: str = SETTLED, **changes: Any) -> dict[str, Any]:
        made = {
            "SelectionCriteria": {"DateFrom": since, "DateTo": until},
            "FieldNames": ["Date", "CampaignId", "CampaignName", "Impressions", "Clicks", "Cost"],
            "ReportName": name,
            "ReportType": "CAMPAIGN_PERFORMANCE_REPORT",
            "DateRangeType": "CUSTOM_DATE",
            "Format": "TSV",
            "IncludeVAT": "NO",
        } | changes
        return {key: value for key, value in made.items() if value is not None}

    def post(self, body: Any, headers: dict[str, str] | None = None, **options: str) -> requests.Response:
        given = {"Authorization": f"Bearer {options.get('token', 'sandbox-token')}"} | (headers or {})
        path = options.get("path", "/json/v501/reports")
        return self.session.post(self.box.url + path, json=body, headers=given)

    def ask(self, *said: str, headers: dict[str, str] | None = None, **changes: Any) -> requests.Response:
        return self.post({"params": self.params(*said, **changes)}, headers)

    def rows(self, *said: str, headers: dict[str, str] | None = None, **changes: Any) -> list[list[str]]:
        """The cells of a report, without its frame."""
        found = self.ask(*said, headers=ROUBLES | BARE | (headers or {}), **changes)
        assert found.status_code == 200, found.text
        return [line.split("\t") for line in found.content.decode().split("\n")[:-1]]

    def set(self, **changes: Any) -> None:
        self.box.configure({"direct": changes})


@pytest.fixture
def direct() -> Iterator[Client]:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as box:
        box.configure({"direct": {"requests_per_10s": None}})
        made = Client(box)
        yield made
        made.session.close()


def code(answer: requests.Response, status: int = 400) -> int:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"request_id", "error_code", "error_string", "error_detail"}
    assert error["request_id"] == answer.headers["RequestId"]
    return int(error["error_code"])


# Who may ask.


def test_a_token_nobody_knows_is_53_and_none_or_another_scheme_is_8000(direct: Client) -> None:
    assert code(direct.post({}, token="wrong")) == 53
    assert code(direct.post({}, {"Authorization": ""})) == 8000
    assert code(direct.post({}, {"Authorization": "OAuth sandbox-token"})) == 8000


@pytest.mark.parametrize(
    ("user", "expected"),
    [({"app_registered": False}, 58), ({"rights": []}, 54), ({"api_access": False}, 3000), ({"in_direct": False}, 513)],
)
def test_a_user_without_access_is_told_which(direct: Client, user: dict[str, Any], expected: int) -> None:
    direct.set(tokens={"sandbox-token": {"login": "shop-direct", **user}})
    assert code(direct.ask()) == expected


def test_an_agency_has_to_name_one_of_its_clients(direct: Client) -> None:
    body, path = {"params": direct.params()}, "/json/v5/reports"
    for header in ({}, {"Client-Login": "agency-direct"}):
        assert code(direct.post(body, header, token="sandbox-agency", path=path)) == 8000
    assert code(direct.post(body, {"Client-Login": "stranger"}, token="sandbox-agency", path=path)) == 8800
    found = [
        direct.post(body, {"Client-Login": login}, token="sandbox-agency", path=path).text
        for login in ("shop-direct", "second-direct")
    ]
    assert "70011001" in found[0] and "80022001" in found[1]


def test_an_advertiser_sees_itself_only(direct: Client) -> None:
    assert direct.ask(headers={"Client-Login": "shop-direct"}).status_code == 200
    assert code(direct.ask(headers={"Client-Login": "second-direct"})) == 8800
    direct.set(foreign_login_code=54)
    assert code(direct.ask(headers={"Client-Login": "second-direct"})) == 54


def test_the_21st_request_of_ten_seconds_is_56(direct: Client) -> None:
    direct.set(requests_per_10s=20)
    assert [direct.ask().status_code for _ in range(20)] == [200] * 20
    assert code(direct.ask()) == 56
    direct.box.clock.advance(10)
    assert direct.ask().status_code == 200


def test_the_sixth_request_at_once_is_506(direct: Client) -> None:
    direct.box.faults.add(on="direct.reports", kind="timeout_before", times=5)
    held_back = threading.Semaphore(0)
    choose = direct.box.faults.choose

    def seen(*asked: Any, **how: Any) -> Any:
        found = choose(*asked, **how)
        if found:
            held_back.release()
        return found

    direct.box.faults.choose = seen  # type: ignore[method-assign]

    def hang() -> None:
        with pytest.raises(requests.ConnectionError):
            requests.post(
                direct.box.url + "/json/v5/reports", headers={"Authorization": "Bearer sandbox-token"}, timeout=60
            )

    held = [threading.Thread(target=hang) for _ in range(5)]
    for one in held:
        one.start()
    for _ in held:
        held_back.acquire()
    assert code(direct.ask()) == 506
    direct.box.close()
    for one in held:
        one.join()


# What may be asked.


def changed(**criteria: Any) -> dict[str, Any]:
    return {"SelectionCriteria": {"DateFrom": SETTLED, "DateTo": SETTLED} | criteria}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ReportName": None}, "ReportName"),
        ({"ReportName": 5}, "ReportName"),
        ({"IncludeVAT": None}, "IncludeVAT"),
        ({"IncludeVAT": True}, "IncludeVAT"),
        ({"Format": "CSV"}, "Format"),
        ({"ReportType": "AD_PERFORMANCE_REPORT"}, "ReportType"),
        ({"DateRangeType": "LAST_YEAR"}, "DateRangeType"),
        ({"DateRangeType": "TODAY"}, "CUSTOM_DATE"),
        ({"SelectionCriteria": {}}, "DateFrom"),
        ({"SelectionCriteria": []}, "SelectionCriteria"),
        ({"Surprise": 1}, "Surprise"),
        ({"FieldNames": "Date"}, "FieldNames"),
        ({"FieldNames": ["Date", "Klicks"]}, "Klicks"),
        ({"FieldNames": ["Date", "Date"]}, "FieldNames"),
        ({"Page": {"Limit": 0}}, "Page.Limit"),
        ({"Page": {"Offset": 1}}, "Page.Limit"),
        ({"OrderBy": [{"Field": "Cost", "SortOrder": "UP"}]}, "SortOrder"),
        (changed(DateFrom="2026-11-11"), "later"),
        (changed(DateFrom="20261101"), "YYYY-MM-DD"),
        (changed(DateFrom="2026-11-31"), "YYYY-MM-DD"),
        (changed(DateFrom="2023-11-23"), "earlier"),
        (changed(Filter=[{"Field": "Cost", "Operator": "LIKE", "Values": ["1"]}]), "Cost"),
        (changed(Filter=[{"Field": "Cost", "Operator": "EQUALS", "Values": [1]}]), "Values"),
        (changed(CampaignIds=[1]), "CampaignIds"),
    ],
)
def test_a_request_that_is_wrong_is_8000_and_says_where(direct: Client, changes: dict[str, Any], word: str) -> None:
    answer = direct.ask(**changes)
    assert code(answer) == 8000
    assert word in answer.json()["error"]["error_detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"params": {}, "sort": 1}', b"[" * 100_000])
def test_a_body_that_is_no_specification_is_8000(direct: Client, body: bytes) -> None:
    answer = direct.session.post(
        direct.box.url + "/json/v5/reports", data=body, headers={"Authorization": "Bearer sandbox-token"}
    )
    assert code(answer) == 8000


@pytest.mark.parametrize("headers", [{"processingMode": "later"}, {"returnMoneyInMicros": "no"}])
def test_a_header_with_an_unknown_word_is_8000(direct: Client, headers: dict[str, str]) -> None:
    assert code(direct.ask(headers=headers)) == 8000


def test_error_codes_are_text_or_numbers_and_strings_in_the_language_asked_for(direct: Client) -> None:
    error = direct.ask(ReportType="X", headers={"Accept-Language": "ru"}).json()["error"]
    assert (error["error_code"], error["error_string"]) == ("8000", "Некорректный запрос")
    direct.set(error_code_as_text=False)
    error = direct.ask(ReportType="X").json()["error"]
    assert (error["error_code"], error["error_string"]) == (8000, "Invalid request")


@pytest.mark.parametrize(
    ("status", "http", "expected"),
    [(152, 400, 152), (506, 400, 506), (52, 500, 52), (1002, 500, 1002), (500, 500, 1000), (502, 502, 1000)],
)
def test_a_fault_may_be_an_error_of_direct_or_of_http(direct: Client, status: int, http: int, expected: int) -> None:
    direct.box.faults.add(on="direct.reports", kind="status", status=status)
    assert code(direct.ask(), http) == expected
    assert direct.ask().status_code == 200


# The queue.


def test_an_offline_report_is_queued_then_built_then_handed_out(direct: Client) -> None:
    first = direct.ask(headers=OFFLINE)
    assert (first.status_code, first.content) == (201, b"")
    assert (first.headers["retryIn"], first.headers["reportsInQueue"]) == ("1", "1")
    direct.box.clock.advance(1.9)
    assert direct.ask(headers=OFFLINE).status_code == 202
    direct.box.clock.advance(0.1)
    ready = direct.ask(headers=OFFLINE)
    assert (ready.status_code, "retryIn" in ready.headers) == (200, False)
    assert ready.text == direct.ask("online").text.replace('"online', '"r')


def test_only_the_identical_request_asks_for_the_same_report(direct: Client) -> None:
    direct.ask(headers=OFFLINE)
    for answer in (direct.ask("r", BEFORE, TODAY, headers=OFFLINE), direct.ask(headers=OFFLINE | ROUBLES)):
        assert code(answer) == 4000
    direct.set(name_taken_code=8000)
    assert code(direct.ask(IncludeVAT="YES")) == 8000
    assert direct.ask("another", headers=OFFLINE).status_code == 201


def test_a_finished_report_is_handed_out_unchanged_for_five_hours(direct: Client) -> None:
    direct.ask(headers=OFFLINE)
    direct.box.clock.advance(2)
    before = direct.ask(headers=OFFLINE).text
    direct.set(changes=[{"campaign_id": "70011001", "gone": True}])
    direct.box.clock.advance(5 * 3600 - 1)
    assert direct.ask(headers=OFFLINE).text == before
    direct.box.clock.advance(1)
    assert direct.ask(headers=OFFLINE).status_code == 201
    direct.box.clock.advance(2)
    assert "70011001" in before and "70011001" not in direct.ask(headers=OFFLINE).text


def test_a_report_built_online_is_fresh_unless_it_is_kept(direct: Client) -> None:
    first = direct.ask().text
    direct.set(changes=[{"campaign_id": "70011001", "gone": True}])
    assert direct.ask().text != first
    direct.set(keep_online=True)
    kept = direct.ask().text
    direct.set(changes=[])
    assert direct.ask().text == kept
    assert code(direct.ask(IncludeVAT="YES")) == 4000


def test_the_sixth_report_in_the_queue_is_9000_until_one_is_ready(direct: Client) -> None:
    assert [direct.ask(f"r{n}", headers=OFFLINE).headers["reportsInQueue"] for n in range(5)] == list("12345")
    assert code(direct.ask("r5", headers=OFFLINE)) == 9000
    assert direct.ask("online").status_code == 200
    direct.box.clock.advance(2)
    assert direct.ask("r5", headers=OFFLINE).status_code == 201


def test_a_long_range_is_built_offline_and_refused_online(direct: Client) -> None:
    assert direct.ask("short", "2026-10-24", TODAY).status_code == 200
    assert direct.ask("long", "2026-10-23", TODAY).status_code == 201
    assert code(direct.ask("longer", "2026-10-22", TODAY, headers={"processingMode": "online"})) == 8312
    direct.set(online_days=1)
    assert direct.ask("two days", BEFORE, YESTERDAY).status_code == 201


# The report.


def test_the_frame_of_a_report_is_left_out_line_by_line(direct: Client) -> None:
    whole = direct.ask().text.split("\n")
    assert whole[0] == f'"r ({SETTLED} - {SETTLED})"'
    assert whole[1] == "Date\tCampaignId\tCampaignName\tImpressions\tClicks\tCost"
    assert whole[-2:] == ["Total rows: 4", ""]
    assert direct.ask(headers={"skipReportHeader": "true"}).text.split("\n") == whole[1:]
    assert direct.ask(headers={"skipColumnHeader": "true"}).text.split("\n") == whole[:1] + whole[2:]
    assert direct.ask(headers={"skipReportSummary": "true"}).text.split("\n") == [*whole[:-2], ""]
    assert direct.ask(headers=BARE).text.split("\n") == [*whole[2:-2], ""]


def test_money_is_millionths_or_two_decimals_of_the_same_amount(direct: Client) -> None:
    micros = [int(row[5]) for row in direct.rows(headers={"returnMoneyInMicros": "true"})]
    roubles = [row[5] for row in direct.rows()]
    assert micros[0] > 0 and roubles[-1] == "0.00"
    assert [Decimal(one) * 1_000_000 for one in roubles] == micros
    assert {len(one.partition(".")[2]) for one in roubles} == {2}


def test_vat_goes_on_top_only_when_it_is_asked_for(direct: Client) -> None:
    direct.set(changes=[{"campaign_id": "70011001", "cost_micros": 100_030_000}])
    assert direct.rows()[0][5] == "100.03"
    assert direct.rows(IncludeVAT="YES")[0][5] == "122.04"


def test_names_come_as_they_are_with_quotes_and_separators_that_split_lines_elsewhere(direct: Client) -> None:
    names = [row[2] for row in direct.rows()]
    assert names[2] == 'Ретаргетинг: "корзина"\u2028осень, 2-й показ'
    direct.set(changes=[{"campaign_id": "70011001", "name": "a\tb\r\nc"}])
    assert direct.rows()[0][2] == "a b  c"


def test_no_value_is_two_dashes_and_a_campaign_without_clicks_a_zero(direct: Client) -> None:
    assert direct.rows()[3][4:] == ["0", "0.00"]
    direct.set(changes=[{"campaign_id": "70011001", "clicks": "--", "cost_micros": "--"}])
    assert direct.rows()[0][4:] == ["--", "--"]
    direct.set(dash_zeros=True)
    assert direct.rows()[3][4:] == ["--", "--"]


def test_figures_change_for_three_days_and_then_stand(direct: Client) -> None:
    found = []
    for _ in range(6):
        found.append(direct.rows("r", TODAY, TODAY))
        direct.box.clock.advance(86400)
    assert found[0] != found[1] != found[2] != found[3] == found[4] == found[5]


def test_the_day_begins_in_moscow(direct: Client) -> None:
    assert direct.rows("r", TODAY, "2026-11-30")[0][0] == TODAY
    assert {row[0] for row in direct.rows("r", BEFORE, "2026-11-30")} == {BEFORE, YESTERDAY, TODAY}
    assert direct.rows("r", "2026-11-24", "2026-11-30") == []


@pytest.mark.parametrize(
    ("kind", "days"),
    [("TODAY", {TODAY}), ("YESTERDAY", {YESTERDAY}), ("LAST_3_DAYS", {"2026-11-20", BEFORE, YESTERDAY})],
)
def test_a_named_range_counts_from_moscows_today(direct: Client, kind: str, days: set[str]) -> None:
    assert {row[0] for row in direct.rows(DateRangeType=kind, SelectionCriteria={})} == days


def test_the_same_seed_makes_the_same_world(direct: Client) -> None:
    with Sandbox(SandboxConfig(), clock=Clock(frozen_at=NOW)) as box:
        other = Client(box)
        assert other.rows("r", BEFORE, TODAY) == direct.rows("r", BEFORE, TODAY)
        box.config.seed += 1
        assert other.rows("r", BEFORE, TODAY) != direct.rows("r", BEFORE, TODAY)
        other.session.close()


def test_a_row_vanishes_another_changes_and_a_new_one_appears(direct: Client) -> None:
    before = direct.rows("r", BEFORE, YESTERDAY)
    direct.set(
        changes=[
            {"campaign_id": "70011001", "day": BEFORE, "gone": True},
            {"campaign_id": "70011002", "day": BEFORE, "cost_micros": 1_500_000, "clicks": 3},
            {"campaign_id": "9", "day": YESTERDAY, "cost_micros": 10_000, "name": "New"},
        ]
    )
    after = direct.rows("r", BEFORE, YESTERDAY)
    assert [row[:2] for row in after] == sorted([*(row[:2] for row in before[1:]), [YESTERDAY, "9"]])
    assert after[0][1:] == ["70011002", before[1][2], before[1][3], "3", "1.50"]
    assert after[-1] == [YESTERDAY, "9", "New", "0", "0", "0.01"]


def test_without_a_date_column_days_are_added_up(direct: Client) -> None:
    days = direct.rows("r", "2026-11-09", SETTLED)
    fields = ["CampaignId", "Cost"]
    total = direct.rows("r", "2026-11-09", SETTLED, FieldNames=fields)
    for campaign, cost in total:
        assert Decimal(cost) == sum(Decimal(row[5]) for row in days if row[1] == campaign)
    assert len(total) == 4


def test_rows_are_filtered_sorted_and_cut(direct: Client) -> None:
    def filtered(field: str, operator: str, *values: str) -> list[str]:
        criteria = changed(Filter=[{"Field": field, "Operator": operator, "Values": list(values)}])
        return [row[1] for row in direct.rows(**criteria)]

    assert filtered("CampaignId", "IN", "70011001", "70011004") == ["70011001", "70011004"]
    assert filtered("CampaignName", "NOT_EQUALS", "Поиск: бренд") == ["70011002", "70011003", "70011004"]
    assert filtered("Clicks", "LESS_THAN", "1") == ["70011004"]
    order = [{"Field": "Clicks", "SortOrder": "DESCENDING"}]
    clicks = [int(row[4]) for row in direct.rows(OrderBy=order)]
    assert clicks == sorted(clicks, reverse=True)
    assert direct.rows(OrderBy=order, Page={"Limit": 2, "Offset": 1}) == direct.rows(OrderBy=order)[1:3]


def test_clients_tells_the_currency_of_a_client_and_none_of_an_agency(direct: Client) -> None:
    body = {"method": "get", "params": {"FieldNames": ["Login", "Currency", "Type"]}}
    path, agency = "/json/v501/clients", {"Client-Login": "second-direct"}

    def told(*said: Any, **options: str) -> list[str]:
        (client,) = direct.post(body, *said, path=path, **options).json()["result"]["Clients"]
        return list(client.values())

    assert told() == ["shop-direct", "RUB", "CLIENT"]
    assert told(agency, token="sandbox-agency") == ["second-direct", "KZT", "SUBCLIENT"]
    assert told(token="sandbox-agency") == ["agency-direct", "AGENCY"]
    assert code(direct.post(body, {"Client-Login": "stranger"}, token="sandbox-agency", path=path)) == 8800
    assert code(direct.post({**body, "method": "add"}, path=path)) == 55
    assert code(direct.post({"method": "get", "params": {"FieldNames": ["Shoe"]}}, path=path)) == 8000
    assert code(direct.post([], path=path)) == 8000


# What is remembered.


def test_the_books_tell_requests_by_client_and_report(direct: Client) -> None:
    direct.ask("later", headers=OFFLINE)
    direct.ask("later", headers=OFFLINE)
    direct.box.clock.advance(2)
    direct.ask("later", headers=OFFLINE)
    direct.ask("now", IncludeVAT="YES")
    direct.ask("now", Format="CSV")
    direct.post({}, token="wrong")
    books = direct.box.books()["direct"]
    assert books["totals"] == {"requests": 6, "reports": 2, "handed_out": 2, "refused": 2}
    assert books["errors"] == {"8000": 1, "53": 1}
    reports = books["clients"]["shop-direct"]
    assert reports["later"]["answers"] == {"201": 1, "202": 1, "200": 1}
    assert reports["now"] == {"since": SETTLED, "until": SETTLED, "vat": True, "rows": 4, "answers": {"200": 1}}
    assert direct.box.books()["requests"]["direct.reports"] == {"201": 1, "202": 1, "200": 2, "400": 2}
    direct.box.reset()
    assert direct.box.books()["direct"]["clients"] == {}
    assert direct.ask("later").status_code == 200


def test_no_token_and_no_name_of_a_report_is_in_the_journal(direct: Client) -> None:
    direct.ask("my-report")
    direct.post({}, token="secret-token")
    told = repr(direct.box.requests())
    assert "sandbox-token" not in told and "secret-token" not in told and "my-report" not in told


def test_the_page_shows_what_was_asked(direct: Client) -> None:
    direct.ask()
    page = direct.session.get(direct.box.url + "/_sandbox/").text
    assert "Yandex.Direct" in page and "shop-direct" in page


@given(st.text(), st.text())
def test_a_report_has_as_many_lines_and_cells_as_rows_and_fields_whatever_is_in_a_name(
    name: str, campaign: str
) -> None:
    today = NOW.date()
    spec = Spec(name, ("CampaignName", "Clicks"), today, today, False)
    lines = tsv(spec, [{"CampaignName": campaign, "Clicks": 1}] * 3, Shape()).split("\n")
    assert [line.count("\t") for line in lines] == [0, 1, 1, 1, 1, 0, 0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(Client.params(None))), JSON)  # type: ignore[arg-type]
def test_whatever_a_parameter_holds_is_read_or_refused(name: str, value: Any) -> None:
    params = Client.params(None, **{name: value})  # type: ignore[arg-type]
    try:
        assert read({"params": params}, NOW.date(), 1095).days == 1
    except ValueError as problem:
        assert str(problem)
