"""CRM orders of Metrica: what is refused, what a repeat means, what reaches a goal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import YandexClient

CREATED, PAID = "CRM: Order created", "CRM: Order paid"


def kind(response: Any) -> str:
    assert response.json()["code"] == response.status_code
    return str(response.json()["errors"][0]["error_type"])


@pytest.mark.parametrize(("status", "word"), [(403, "invalid_token"), (401, "unauthorized")])
def test_a_bad_token_is_401_or_403_by_a_switch(yandex: YandexClient, status: int, word: str) -> None:
    yandex.box.config.yandex.bad_token_status = status
    for bad in ("OAuth wrong", "Bearer sandbox-token", ""):
        yandex.session.headers["Authorization"] = bad
        answer = yandex.upload(yandex.row())
        assert (answer.status_code, kind(answer)) == (status, word)


def test_a_missing_right_and_a_foreign_counter_are_access_denied(yandex: YandexClient) -> None:
    assert kind(yandex.upload(yandex.row(), counter="99999999")) == "access_denied"
    assert kind(yandex.upload(yandex.row(), counter="11111111")) == "not_found"
    yandex.box.config.yandex.tokens = {"sandbox-token": ["metrika:read"]}
    answer = yandex.upload(yandex.row())
    assert (answer.status_code, kind(answer)) == (403, "access_denied")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("", "missing_parameter"),
        ("merge_mode=REPLACE", "invalid_parameter"),
        ("merge_mode=SAVE&delimiter_type=TAB", "invalid_parameter"),
        ("merge_mode=SAVE&delimiter_type=SEMICOLON", "invalid_uploading"),
    ],
)
def test_wrong_parameters_are_refused(yandex: YandexClient, query: str, word: str) -> None:
    answer = yandex.upload(yandex.row(), query=query)
    assert (answer.status_code, kind(answer)) == (400, word)


@pytest.mark.parametrize(
    "text",
    [
        "order-1,2026-11-20 10:00:00,123456\n",
        "Id,create_date_time,client_ids\n1,2026-11-20 10:00:00,123456\n",
        "\ufeffid,create_date_time,client_ids\n1,2026-11-20 10:00:00,123456\n",
        "id,create_date_time,revenue\n1,2026-11-20 10:00:00,5\n",
        "id,create_date_time,client_ids\n",
        'id,create_date_time,client_ids\n1,2026-11-20 10:00:00,"123456\n',
    ],
)
def test_a_file_that_cannot_be_read_is_refused(yandex: YandexClient, text: str) -> None:
    answer = yandex.upload(text=text)
    assert (answer.status_code, kind(answer)) == (400, "invalid_uploading")


def test_the_part_must_be_named_file(yandex: YandexClient) -> None:
    assert kind(yandex.upload(yandex.row(), part="data")) == "missing_parameter"
    url = f"{yandex.box.url}/cdp/api/v1/counter/12345678/data/simple_orders?merge_mode=SAVE"
    assert kind(yandex.session.post(url, data=b"id,create_date_time")) == "invalid_uploading"


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"create_date_time": ""},
        {"create_date_time": "2026/11/20 10:00"},
        {"create_date_time": "2026-02-30 10:00:00"},
        {"create_date_time": "2026-11-20 15:00:01"},
        {"create_date_time": "2026-07-30 14:59:59"},
        {"client_ids": ""},
        {"client_ids": "123.456"},
        {"client_ids": "", "emails": "Mail@Yandex.ru"},
        {"client_ids": "", "phones": "+79995551111"},
        {"client_ids": "", "emails_md5": "3C56FF8FEF0F6C65B36B2D25720FE276"},
        {"revenue": "-1"},
        {"revenue": "1e3"},
        {"revenue": "9223372036855"},
        {"cost": "many"},
        {"order_status": "paid"},
        {"order_status": "CANCELED"},
        {"currency": "rub"},
        {"goals": "good_lead:x"},
    ],
)
def test_a_bad_row_refuses_the_file_by_default(yandex: YandexClient, change: dict[str, str]) -> None:
    answer = yandex.upload(yandex.row(1), yandex.row(2, **change))
    assert (answer.status_code, kind(answer)) == (400, "invalid_uploading")
    assert answer.json()["message"].startswith("line 3: ")
    assert yandex.box.books()["yandex"]["totals"]["orders"] == 0


def test_a_bad_row_may_also_fail_with_200_or_be_dropped(yandex: YandexClient) -> None:
    rows = (yandex.row(1), yandex.row(2, revenue="-1"))
    yandex.box.config.yandex.bad_row = "failed_200"
    answer = yandex.upload(*rows)
    assert answer.status_code == 200
    assert answer.json()["uploading"]["api_validation_status"] == "FAILED"
    assert yandex.box.books()["yandex"]["totals"]["orders"] == 0
    yandex.box.config.yandex.bad_row = "drop"
    uploading = yandex.upload(*rows).json()["uploading"]
    assert (uploading["api_validation_status"], uploading["elements_count"]) == ("PASSED", 1)


def test_any_upload_can_be_made_to_fail_with_200(yandex: YandexClient) -> None:
    yandex.box.config.yandex.force_failed = True
    assert yandex.upload(yandex.row()).json()["uploading"]["api_validation_status"] == "FAILED"
    assert yandex.box.books()["yandex"]["totals"]["orders"] == 0


def test_orders_without_id_can_become_separate_orders(yandex: YandexClient) -> None:
    yandex.box.config.yandex.missing_id = "separate"
    for _ in range(2):
        yandex.upload(yandex.row(id=""))
    assert len(yandex.book()["orders"]) == 2


def test_quotas_refuse_with_the_documented_words(yandex: YandexClient) -> None:
    config = yandex.box.config.yandex
    config.requests_per_second, config.quota_status, config.retry_after = 1, 420, 7
    yandex.upload(yandex.row())
    answer = yandex.upload(yandex.row())
    assert (answer.status_code, kind(answer)) == (420, "quota_requests_by_ip")
    assert answer.headers["Retry-After"] == "7"
    yandex.box.clock.advance(1)
    config.requests_per_day, config.requests_per_second, config.quota_status = 1, None, 429
    assert kind(yandex.upload(yandex.row())) == "quota_requests_by_uid"
    yandex.box.clock.advance(12 * 3600)
    assert yandex.upload(yandex.row()).status_code == 200, "unlocked at 00:00 GMT"


def test_more_requests_in_parallel_than_allowed_are_refused(yandex: YandexClient) -> None:
    yandex.box.config.yandex.parallel_requests = 1
    yandex.box.faults.add(on="yandex.goals", kind="timeout_before")
    waiting = threading.Thread(target=_ignore, args=(yandex,), daemon=True)
    waiting.start()
    while not yandex.box.requests():
        pass
    assert kind(yandex.upload(yandex.row())) == "quota_parallel_requests"
    yandex.box.close()
    waiting.join(5)
    assert not waiting.is_alive()


def _ignore(yandex: YandexClient) -> None:
    import contextlib

    import requests

    headers = {"Authorization": "OAuth sandbox-token"}
    with contextlib.suppress(requests.RequestException):
        requests.get(f"{yandex.box.url}/management/v1/counter/12345678/goals", headers=headers, timeout=30)


def test_an_empty_status_is_a_sale(yandex: YandexClient) -> None:
    yandex.upload(yandex.row(order_status=""))
    assert yandex.order()["status"] == "PAID"
    assert yandex.order()["goals"] == [CREATED, PAID]


def test_the_same_order_again_changes_nothing(yandex: YandexClient) -> None:
    for _ in range(3):
        assert yandex.upload(yandex.row()).json()["uploading"]["elements_count"] == 1
    order = yandex.order()
    assert order["uploads"] == 3
    assert [version["changed"] for version in order["versions"]] == [True, False, False]
    assert yandex.book()["goals"][PAID] == {"reaches": 1, "income": {"RUB": "1500.5"}}


def test_a_lead_becomes_a_sale_and_each_goal_is_reached_once(yandex: YandexClient) -> None:
    for status in ("IN_PROGRESS", "good_lead", "PAID"):
        yandex.upload(yandex.row(order_status=status))
    order = yandex.order()
    assert [version["status"] for version in order["versions"]] == ["IN_PROGRESS", "good_lead", "PAID"]
    assert order["goals"] == [CREATED, PAID, "good_lead"]
    assert {name: goal["reaches"] for name, goal in yandex.book()["goals"].items()} == {
        CREATED: 1,
        PAID: 1,
        "good_lead": 1,
    }


def test_an_older_state_that_arrives_later_wins(yandex: YandexClient) -> None:
    yandex.upload(yandex.row(revenue="200"))
    yandex.upload(yandex.row(revenue="100", order_status="IN_PROGRESS"))
    assert (yandex.order()["status"], yandex.order()["revenue"]) == ("IN_PROGRESS", "100")


def test_the_first_create_date_time_stays(yandex: YandexClient) -> None:
    first = yandex.row()
    yandex.upload(first)
    yandex.upload(yandex.row(create_date_time=yandex.local(hours=-2)))
    assert yandex.order()["create_date_time"] == first["create_date_time"]


def test_a_cancelled_order_keeps_its_goal_and_loses_its_revenue(yandex: YandexClient) -> None:
    yandex.upload(yandex.row())
    yandex.upload(yandex.row(order_status="CANCELLED", revenue="0"))
    assert yandex.book()["statuses"] == {"CANCELLED": 1}
    assert yandex.book()["goals"][PAID] == {"reaches": 1, "income": {"RUB": "0"}}
    assert yandex.book()["goals"]["CRM: Order cancelled"]["reaches"] == 1


def test_the_older_page_gives_cancelled_and_spam_no_goal(yandex: YandexClient) -> None:
    yandex.box.config.yandex.cancelled_and_spam_goals = False
    yandex.upload(yandex.row(1, order_status="CANCELLED"), yandex.row(2, order_status="SPAM"))
    assert yandex.book()["goals"] == {}


def test_goals_in_their_own_column_have_their_own_price(yandex: YandexClient) -> None:
    yandex.upload(yandex.row(goals='"good_lead:200,qualified,nobody"', cost="500"))
    goals = yandex.book()["goals"]
    assert goals["good_lead"]["income"] == {"RUB": "200"}
    assert goals["qualified"]["income"] == goals[PAID]["income"] == {"RUB": "1000.5"}
    assert yandex.book()["unknown_goals"] == ["nobody"]


def test_save_replaces_update_merges_append_extends(yandex: YandexClient) -> None:
    yandex.upload(yandex.row(client_ids="111111", phones="79995551111"))
    yandex.upload(yandex.row(client_ids="222222", revenue=""), mode="UPDATE")
    order = yandex.order()
    assert order["identifiers"] == {"client_ids": ["222222"], "phones": ["79995551111"]}
    assert order["revenue"] == "1500.5"
    yandex.upload(yandex.row(client_ids="333333"), mode="APPEND")
    assert yandex.order()["identifiers"]["client_ids"] == ["222222", "333333"]
    yandex.upload(yandex.row(client_ids="444444", revenue=""), mode="SAVE")
    assert yandex.order()["identifiers"] == {"client_ids": ["444444"]}
    assert yandex.order()["revenue"] is None


def test_an_id_repeated_in_one_file_is_applied_in_random_order(yandex: YandexClient) -> None:
    rows = [yandex.row(n, revenue=str(revenue)) for n in range(20) for revenue in (1, 2)]
    yandex.upload(*rows)
    last = [order["revenue"] for order in yandex.book()["orders"].values()]
    assert set(last) == {"1", "2"}


def test_a_visit_more_than_21_days_ago_is_not_linked_and_reaches_no_goal(yandex: YandexClient) -> None:
    yandex.upload(yandex.row(1, create_date_time=yandex.local(days=-22)), yandex.row(2))
    assert not yandex.order(1)["linked"]
    assert yandex.order(1)["goals"] == []
    assert yandex.book()["unlinked"] == 1
    assert yandex.book()["goals"][PAID]["reaches"] == 1


def test_only_known_clients_are_linked_when_visits_are_given(yandex: YandexClient) -> None:
    yandex.box.config.yandex.known_clients = {"111111": "2026-11-10T00:00:00+00:00"}
    yandex.upload(yandex.row(1, client_ids="111111"), yandex.row(2, client_ids="222222"))
    assert (yandex.order(1)["linked"], yandex.order(2)["linked"]) == (True, False)


def test_a_linked_order_takes_changes_for_111_days(yandex: YandexClient) -> None:
    row = yandex.row(order_status="IN_PROGRESS")
    yandex.upload(row)
    yandex.box.clock.advance(110 * 86400)
    yandex.upload(row | {"order_status": "PAID"})
    assert yandex.order()["status"] == "PAID"
    yandex.box.clock.advance(2 * 86400)
    yandex.upload(row | {"order_status": "CANCELLED"})
    assert yandex.order()["status"] == "PAID"
    assert yandex.order()["versions"][-1]["taken"] is False


@pytest.mark.parametrize(
    ("given", "utc"),
    [
        ("2026-11-20 10:00:00", "2026-11-20T07:00:00.000Z"),
        ("2026-11-20 10:00", "2026-11-20T07:00:00.000Z"),
        ("20.11.2026 10:00:05", "2026-11-20T07:00:05.000Z"),
        ("20.11.26 10:00", "2026-11-20T07:00:00.000Z"),
        ("2026-11-19", "2026-11-19T20:59:59.000Z"),
    ],
)
def test_dates_are_of_the_counters_zone(yandex: YandexClient, given: str, utc: str) -> None:
    assert yandex.upload(yandex.row(create_date_time=given)).status_code == 200
    assert yandex.order()["created"] == utc


def test_semicolons_are_read_when_they_are_announced(yandex: YandexClient) -> None:
    text = yandex.csv(yandex.row(), delimiter=";")
    answer = yandex.upload(text=text, query="merge_mode=SAVE&delimiter_type=SEMICOLON")
    assert answer.json()["uploading"]["elements_count"] == 1


def test_last_uploadings_are_the_newest_first_and_strictly_before_the_offset(yandex: YandexClient) -> None:
    ids, times = [], []
    for n in range(12):
        uploading = yandex.upload(yandex.row(n)).json()["uploading"]
        ids.append(uploading["uploading_id"])
        times.append(uploading["datetime"])
        yandex.box.clock.advance(60)

    def listed(**params: Any) -> list[str]:
        answer = yandex.get("/cdp/api/v1/counter/12345678/last_uploadings", **params)
        return [one["uploading_id"] for one in answer.json()["uploadings"]]

    assert listed() == ids[:1:-1]
    assert listed(limit=2, datetime_offset=times[5]) == [ids[4], ids[3]]
    assert listed(source="FILE") == []
    assert yandex.get("/cdp/api/v1/counter/12345678/last_uploadings", limit=1001).status_code == 400


def test_the_counter_tells_its_zone_and_its_goals(yandex: YandexClient) -> None:
    counter = yandex.get("/management/v1/counter/12345678").json()["counter"]
    assert (counter["time_zone_name"], counter["time_zone_offset"]) == ("Europe/Moscow", 180)
    goals = yandex.get("/management/v1/counter/12345678/goals").json()["goals"]
    assert goals[0]["conditions"][0] == {"type": "exact", "url": "good_lead"}
    yandex.upload(yandex.row())
    after = yandex.get("/management/v1/counter/12345678/goals").json()["goals"]
    assert len(after) == len(goals) + 4, "the CRM's own goals appear after the first upload"


def test_ten_megabytes_are_read(yandex: YandexClient) -> None:
    rows = [yandex.row(n, client_uniq_id="c" * 900) for n in range(10_000)]
    answer = yandex.upload(*rows)
    assert answer.json()["uploading"]["elements_count"] == 10_000
