"""The VK pixel: it always says yes, and counts what it can read. The API around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from conftest import VkClient


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("id=999;e=RG%3A1/crm_sale;rb_clickid=a", "unknown_pixel"),
        ("id=1234567;e=RG%3A1/nobody;rb_clickid=a", "unknown_goal"),
        ("id=1234567;rb_clickid=a", "no_event"),
        ("id=1234567;e=1/crm_sale;rb_clickid=a", "no_event"),
        ("id=1234567;e=RG%3A1/crm_sale", "no_identifier"),
        ("id=1234567;e=RG%3A1/crm_sale;rb_clickid=lost-1", "unknown_click"),
        ("id=1234567;e=RG%3A1/crm_sale;userid=lost-1", "unknown_userid"),
        ("id=1234567;e=RG%3A1/crm_sale;rb_clickid=%7B%7Bclickid%7D%7D", "macro_not_expanded"),
        ("id=1234567&e=RG%3A1%2Fcrm_sale&rb_clickid=a", "ampersand"),
        ("id=1234567;e=RG%3A1/crm_sale&rb_clickid=a", "ampersand"),
        ("", "unknown_pixel"),
    ],
)
def test_the_tracker_says_yes_to_what_it_loses(vk: VkClient, query: str, why: str) -> None:
    answer = vk.hit(query)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/gif")
    assert answer.content.startswith(b"GIF89a")
    books = vk.box.books()["vk"]
    assert books["lost"] == {why: 1}
    assert (books["totals"]["hits"], books["totals"]["attributed"], books["totals"]["lost"]) == (1, 0, 1)


def test_every_repeat_counts_again(vk: VkClient) -> None:
    for _ in range(3):
        vk.hit("id=1234567;e=RG%3A1500/crm_sale;rb_clickid=abc")
    goal = vk.goal()
    assert (goal["hits"], goal["attributed"], goal["value"], goal["by_click"]) == (3, 3, "4500", {"abc": 3})


def test_the_slash_and_the_colon_may_be_encoded_or_not(vk: VkClient) -> None:
    for event in ("RG:5/crm_sale", "RG%3A5/crm_sale", "RG:5%2Fcrm_sale", "RG%3A5%2Fcrm_sale"):
        vk.hit(f"id=1234567;e={event};rb_clickid=a%2Bb")
    assert (vk.goal()["value"], vk.goal()["by_click"]) == ("20", {"a+b": 4})


def test_post_is_accepted_as_well(vk: VkClient) -> None:
    url = f"{vk.box.url}/tracker?id=1234567;e=RG%3A5/crm_sale;userid=u1"
    assert vk.session.post(url, data={}).status_code == 200
    assert vk.goal()["by_userid"] == {"u1": 1}


def test_a_value_that_is_not_a_whole_number_is_worth_nothing_unless_switched(vk: VkClient) -> None:
    for value in ("1.5", "-3", "many"):
        vk.hit(f"id=1234567;e=RG%3A{value}/crm_sale;rb_clickid=a")
    assert (vk.goal()["value"], vk.goal()["hits"], vk.goal()["bad_values"]) == ("0", 3, 3)
    vk.box.config.vk.decimal_values = True
    vk.hit("id=1234567;e=RG%3A1.5/crm_sale;rb_clickid=a")
    assert vk.goal()["value"] == "1.5"


def test_an_empty_value_means_the_goals_own(vk: VkClient) -> None:
    vk.box.config.vk.pixels["1234567"].goals["crm_sale"].value = 45
    vk.hit("id=1234567;e=RG%3A/crm_sale;rb_clickid=a")
    assert vk.goal()["value"] == "45"


def test_only_clicks_that_were_issued_lately_count_when_they_are_listed(vk: VkClient) -> None:
    vk.box.config.vk.known_clicks = {
        "new": "2026-11-10T00:00:00+00:00",
        "old": "2026-09-10T00:00:00+00:00",
    }
    vk.box.config.vk.known_users = ["u1"]
    for who in ("rb_clickid=new", "rb_clickid=old", "rb_clickid=other", "userid=u1", "userid=u2"):
        vk.hit(f"id=1234567;e=RG%3A1/crm_sale;{who}")
    assert (vk.goal()["attributed"], vk.goal()["lost"]) == (2, 3)
    vk.box.config.vk.known_users = {"u1": "2026-11-10T00:00:00+00:00", "u2": "2026-09-10T00:00:00+00:00"}
    for user in ("u1", "u2", "u3"):
        vk.hit(f"id=1234567;e=RG%3A1/crm_sale;userid={user}")
    assert (vk.goal()["attributed"], vk.goal()["lost"]) == (3, 5)


def test_a_click_that_tells_its_campaign_is_booked_for_it(vk: VkClient) -> None:
    vk.box.config.vk.known_clicks = {
        "c1": {"time": "2026-11-19T21:30:00+00:00", "ad_plan_id": 9100101},
        "old": {"time": "2026-09-10T00:00:00+00:00", "ad_plan_id": 9100101},
        "c2": {"time": "2026-11-19T21:30:00+00:00"},
    }
    for who in ("rb_clickid=c1", "rb_clickid=c2", "rb_clickid=old", "rb_clickid=old;userid=u1"):
        vk.hit(f"id=1234567;e=RG%3A10/crm_sale;{who}")
    assert vk.goal()["by_ad_plan"] == {"9100101": {"hits": 1, "attributed": 1, "value": "10"}}
    assert (vk.goal()["attributed"], vk.goal()["attributed_value"]) == (3, "30"), "one of them by its userid"


def test_hits_are_booked_by_the_day_they_arrive_in_moscow(vk: VkClient) -> None:
    vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=a")
    vk.box.clock.advance(9 * 3600)  # 21:00 UTC: the next day there
    vk.hit("id=1234567;e=RG%3A2/crm_sale;rb_clickid=lost-a")
    assert vk.goal()["by_day"] == {
        "2026-11-20": {"hits": 1, "attributed": 1, "value": "1"},
        "2026-11-21": {"hits": 1, "attributed": 0, "value": "2"},
    }


def test_a_hit_may_stand_in_the_body(vk: VkClient) -> None:
    url = f"{vk.box.url}/tracker"
    assert vk.session.post(url, data="id=1234567;e=RG%3A5/crm_sale;rb_clickid=a").status_code == 200
    assert vk.goal()["value"] == "5"
    vk.session.cookies.clear()
    vk.session.post(url, data={"id": "1234567", "e": "RG:5/crm_sale", "rb_clickid": "a"})
    assert vk.box.books()["vk"]["lost"] == {"ampersand": 1}


def test_a_tracker_that_moved_counts_nothing(vk: VkClient) -> None:
    vk.box.config.vk.tracker_redirect = "http://elsewhere.example"
    query = "id=1234567;e=RG%3A5/crm_sale;rb_clickid=a"
    answer = vk.session.get(f"{vk.box.url}/tracker?{query}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"http://elsewhere.example/tracker?{query}")
    assert vk.box.books()["vk"]["totals"]["hits"] == 0


@pytest.mark.parametrize("agent", ["python-requests/2.34", "Mozilla/5.0", ""])
def test_the_tracker_asks_nobody_who_they_are(vk: VkClient, agent: str) -> None:
    query = "id=1234567;e=RG%3A/crm_sale;userid=u1"
    assert vk.session.get(f"{vk.box.url}/tracker?{query}", headers={"User-Agent": agent}).status_code == 200
    assert vk.goal()["attributed"] == 1


def test_one_cookie_glues_customers_into_one_person(vk: VkClient) -> None:
    for n in range(3):
        vk.hit(f"id=1234567;e=RG%3A1/crm_sale;rb_clickid=c{n}", forget=False)
    books = vk.box.books()["vk"]
    assert (books["totals"]["persons"], books["glued_persons"]) == (1, 1)
    vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=c9")
    assert vk.box.books()["vk"]["totals"]["persons"] == 2


def test_the_tracker_can_be_told_to_throttle(vk: VkClient) -> None:
    vk.box.config.vk.tracker_per_second, vk.box.config.vk.retry_after = 1, 3
    vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=a")
    answer = vk.hit("id=1234567;e=RG%3A1/crm_sale;rb_clickid=a")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert vk.goal()["hits"] == 1


def test_a_sixth_token_is_refused_even_when_the_others_have_expired(vk: VkClient) -> None:
    for _ in range(5):
        assert vk.token().status_code == 200
        vk.box.clock.advance(2 * 86400)
    answer = vk.token()
    assert (answer.status_code, answer.json()["error"]) == (403, "token_limit_exceeded")
    vk.box.clock.advance(30 * 86400)
    assert vk.token().status_code == 200, "idle tokens are deleted after a month"


def test_a_refresh_makes_no_new_token_and_kills_the_old_value_at_once(vk: VkClient) -> None:
    first = vk.token().json()
    assert vk.get("/api/v2/goals.json", first["access_token"]).status_code == 200
    second = vk.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] == first["refresh_token"]
    dead = vk.get("/api/v2/goals.json", first["access_token"])
    assert (dead.status_code, dead.json()["code"]) == (401, "invalid_token")
    assert vk.get("/api/v2/goals.json", second["access_token"]).status_code == 200
    assert vk.box.books()["vk"]["tokens"] == 1


def test_a_token_lives_24_hours_on_the_clock(vk: VkClient) -> None:
    token = vk.token().json()["access_token"]
    vk.box.clock.advance(86400)
    answer = vk.get("/api/v2/goals.json", token)
    assert (answer.status_code, answer.json()["code"]) == (401, "expired_token")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="api", error="expired_token"')


def test_a_token_answer_comes_in_more_than_one_shape(vk: VkClient) -> None:
    made = vk.token().json()
    assert (made["expires_in"], made["scope"]) == ("86400", "read_ads create_ads read_payments")
    vk.box.config.vk.expires_in_as_text, vk.box.config.vk.scope_as_list = False, True
    made = vk.token().json()
    assert (made["expires_in"], made["scope"][0]) == (86400, "read_ads")
    for shape, code in (("oauth", "invalid_client"), ("vk", {"code": "invalid_client"}), ("flat", None)):
        vk.box.config.vk.token_error_shape = shape
        answer = vk.token(client_secret="x")
        assert answer.status_code == 401
        error = answer.json().get("error")
        assert (error if not isinstance(error, dict) else {"code": error["code"]}) == code


def test_deleting_tokens_kills_all_of_them(http: requests.Session, vk: VkClient) -> None:
    token = vk.token().json()["access_token"]
    form = {"client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret"}
    assert http.post(f"{vk.box.url}/api/v2/oauth2/token/delete.json", data=form).status_code == 204
    assert vk.get("/api/v2/goals.json", token).status_code == 401


def test_lists_show_the_pixels_and_goals_and_clamp_the_limit(vk: VkClient) -> None:
    token = vk.token().json()["access_token"]
    counters = vk.get("/api/v2/remarketing/counters.json", token).json()
    assert [one["counter_id"] for one in counters["items"]] == [1234567, 7654321]
    goals = vk.get("/api/v2/goals.json?limit=500", token)
    assert (goals.json()["limit"], goals.json()["count"]) == (50, 6)
    assert {"goal": "crm_sale", "counter_id": 1234567, "condition": "jse"}.items() <= goals.json()["items"][1].items()
    assert "X-RateLimit-RPS-Remaining" in goals.headers


def test_the_api_can_be_told_to_throttle(vk: VkClient) -> None:
    token = vk.token().json()["access_token"]
    vk.box.config.vk.api_per_hour = 1
    assert vk.get("/api/v2/goals.json", token).status_code == 200
    answer = vk.get("/api/v2/goals.json", token)
    assert (answer.status_code, answer.headers["X-RateLimit-Hourly-Remaining"]) == (429, "0")
