"""The API of VK in the sandbox: tokens, limits, the cabinet, counters and goals. Raw HTTP, nothing of convsync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from convsync.sandbox.vk_config import AdPlan

if TYPE_CHECKING:
    from conftest import VkClient

CLIENT = {"client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret"}
GOALS = "/api/v2/goals.json"
PLANS = "/api/v2/ad_plans.json"
PIXEL_GOALS = "/api/v2/remarketing/counters/1234567/goals.json"


class Caller:
    """Holds a token; `get` and `post` use it, and never follow a redirect."""

    def __init__(self, vk: VkClient, **form: str) -> None:
        self.vk = vk
        self.config = vk.box.config.vk
        self.pair = vk.token(**form).json()

    def get(self, path: str, **params: Any) -> requests.Response:
        return self._ask("GET", path, params=params)

    def post(self, path: str, **body: Any) -> requests.Response:
        return self._ask("POST", path, json=body)

    def refresh(self, **form: str) -> requests.Response:
        asked = {"grant_type": "refresh_token", "refresh_token": self.pair["refresh_token"]}
        return self.vk.token(**(asked | form))

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.pair['access_token']}"}
        url = self.vk.box.url + path
        return self.vk.session.request(method, url, headers=headers, allow_redirects=False, **more)

    def book(self, user: str = "owner") -> dict[str, int]:
        found: dict[str, int] = self.vk.box.books()["vk"]["token_users"][user]
        return found


@pytest.fixture
def api(vk: VkClient) -> Caller:
    return Caller(vk)


def told(answer: requests.Response) -> tuple[int, str]:
    """Status and code of a nested error."""
    return answer.status_code, answer.json()["error"]["code"]


def oauth(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# Tokens.


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ({"grant_type": "authorization_code", "code": "x"}, (400, "unauthorized_client")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"grant_type": "agency_client_credentials"}, (400, "invalid_request")),
        ({"grant_type": "refresh_token", "refresh_token": "nobody's"}, (401, "invalid_token")),
        ({"client_secret": "wrong"}, (401, "invalid_client")),
    ],
)
def test_a_grant_that_is_not_open_is_refused_in_its_words(
    vk: VkClient, form: dict[str, str], answer: tuple[int, str]
) -> None:
    assert oauth(vk.token(**form)) == answer
    assert vk.box.books()["vk"]["tokens"] == 0


def test_the_secret_is_not_read_from_the_address(vk: VkClient) -> None:
    url = f"{vk.box.url}/api/v2/oauth2/token.json"
    answer = vk.session.post(url, params=CLIENT | {"grant_type": "client_credentials"})
    assert oauth(answer) == (401, "invalid_client")


def test_the_books_tell_who_used_a_dead_access_value(api: Caller) -> None:
    assert api.refresh().status_code == 200
    for _ in range(2):
        assert (api.get(GOALS).status_code, api.get(GOALS).json()["code"]) == (401, "invalid_token")
    assert {"pairs": 1, "new": 1, "refreshes": 1, "dead_used": 4}.items() <= api.book().items()


def test_the_books_tell_who_used_an_expired_value(api: Caller) -> None:
    api.vk.box.clock.advance(86400)
    assert api.get(GOALS).json()["code"] == "expired_token"
    assert api.book()["expired_used"] == 1
    api.pair = api.refresh().json()
    assert api.get(GOALS).status_code == 200
    assert (api.book()["refreshes"], api.book()["dead_used"]) == (1, 0)


def test_the_limit_holds_for_each_user_alone(api: Caller) -> None:
    for _ in range(4):
        api.vk.token()
    assert oauth(api.vk.token()) == (403, "token_limit_exceeded")
    assert api.vk.token(grant_type="agency_client_credentials", agency_client_name="shop").status_code == 200
    assert (api.book()["pairs"], api.book()["refused"], api.book("shop")["pairs"]) == (5, 1, 1)
    assert api.refresh().status_code == 200, "a refresh makes no new token"


def test_a_rotating_refresh_value_is_good_once(api: Caller) -> None:
    api.config.rotate_refresh_token = True
    renewed = api.refresh().json()
    assert renewed["refresh_token"] != api.pair["refresh_token"]
    assert oauth(api.refresh()) == (401, "invalid_token")
    assert api.refresh(refresh_token=renewed["refresh_token"]).status_code == 200
    assert api.book()["dead_refresh_used"] == 1


def test_a_token_idle_for_a_month_is_gone_and_not_merely_expired(api: Caller) -> None:
    api.vk.box.clock.advance(30 * 86400)
    assert api.get(GOALS).json()["code"] == "invalid_token"
    assert oauth(api.refresh()) == (401, "invalid_token")


def test_a_token_may_die_before_the_time_it_told(vk: VkClient) -> None:
    vk.box.config.vk.token_life_s, vk.box.config.vk.expires_in_told = 60, 86400
    api = Caller(vk)
    assert api.pair["expires_in"] == "86400"
    vk.box.clock.advance(60)
    assert api.get(GOALS).json()["code"] == "expired_token"


@pytest.mark.parametrize(
    ("code", "refreshes"),
    [
        ("expired_token", 200),
        ("invalid_token", 200),
        ("invalid_client", 200),
        ("invalid_user", 401),
        ("revoked_token", 401),
    ],
)
def test_a_living_token_can_be_refused_by_word(api: Caller, code: str, refreshes: int) -> None:
    api.config.bearer_errors = {"owner": code}
    answer = api.get(GOALS)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert "error" not in answer.json(), "the body of a 401 is flat"
    assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="api", error="{code}"')
    assert api.refresh().status_code == refreshes
    client = Caller(api.vk, grant_type="agency_client_credentials", agency_client_name="shop")
    assert client.get(GOALS).status_code == 200, "other users are not concerned"


@pytest.mark.parametrize("header", ["", "Bearer", "Basic {token}", "OAuth {token}", "{token}"])
def test_only_a_bearer_is_let_in(api: Caller, header: str) -> None:
    said = header.format(token=api.pair["access_token"])
    answer = api.vk.session.get(api.vk.box.url + GOALS, headers={"Authorization": said})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert api.book()["dead_used"] == 0


def test_an_agencys_client_is_one_user_by_name_and_by_id(vk: VkClient) -> None:
    vk.box.config.vk.agency_clients = {"shop": 777}
    by_name = Caller(vk, grant_type="agency_client_credentials", agency_client_name="shop")
    by_id = Caller(vk, grant_type="agency_client_credentials", agency_client_id="777")
    for one in (by_name, by_id):
        assert {"id": 777, "username": "shop"}.items() <= one.get("/api/v3/user.json").json().items()
    assert by_id.book("shop")["new"] == 2
    stranger = vk.token(grant_type="agency_client_credentials", agency_client_name="nobody")
    assert oauth(stranger) == (401, "invalid_user")


def test_a_third_partys_agency_needs_its_own_token_as_well(api: Caller) -> None:
    api.config.agency_token_required = True
    form = {"grant_type": "agency_client_credentials", "agency_client_name": "shop"}
    assert oauth(api.vk.token(**form)) == (401, "invalid_token")
    assert api.vk.token(**form, access_token=api.pair["access_token"]).status_code == 200
    api.vk.box.clock.advance(86400)
    assert oauth(api.vk.token(**form, access_token=api.pair["access_token"])) == (401, "invalid_token")


@pytest.mark.parametrize("form", [{"username": "shop"}, {"user_id": "777"}])
def test_deleting_the_tokens_of_one_user_leaves_the_others(api: Caller, form: dict[str, str]) -> None:
    api.config.agency_clients = {"shop": 777}
    client = Caller(api.vk, grant_type="agency_client_credentials", agency_client_name="shop")
    url = f"{api.vk.box.url}/api/v2/oauth2/token/delete.json"
    answer = api.vk.session.post(url, data=CLIENT | form)
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(GOALS).json()["code"] == "invalid_token"
    assert (client.book("shop")["deleted"], client.book("shop")["dead_used"]) == (1, 1)
    assert api.get(GOALS).status_code == 200


def test_deleting_needs_the_secret(api: Caller) -> None:
    url = f"{api.vk.box.url}/api/v2/oauth2/token/delete.json"
    assert api.vk.session.post(url, data={"client_id": "sandbox-vk"}).status_code == 401
    assert api.get(GOALS).status_code == 200


# The door.


def test_limits_are_counted_by_method_in_calendar_windows(api: Caller) -> None:
    api.config.api_per_second, api.config.api_per_hour, api.config.api_per_day = 1, 2, 3
    first, second = api.get(GOALS), api.get(GOALS)
    assert (first.status_code, first.headers["X-RateLimit-RPS-Remaining"]) == (200, "0")
    assert (second.status_code, second.headers["X-RateLimit-Hourly-Remaining"]) == (429, "1"), "it was not counted"
    assert "Retry-After" not in second.headers
    assert api.get(PLANS).status_code == 200, "another method has its own windows"
    api.vk.box.clock.advance(1)
    assert api.get(GOALS).headers["X-RateLimit-Hourly-Remaining"] == "0"
    api.vk.box.clock.advance(1)
    assert api.get(GOALS).status_code == 429
    api.vk.box.clock.advance(3598)  # 13:00:00 on the dot
    assert api.get(GOALS).headers["X-RateLimit-Daily-Remaining"] == "0"
    api.vk.box.clock.advance(7 * 3600)  # 23:00 in Moscow
    assert api.get(GOALS).status_code == 429
    api.vk.box.clock.advance(3600)
    assert api.get(GOALS).headers["X-RateLimit-Daily-Remaining"] == "2"


def test_a_throttled_call_may_say_when_to_come_again(api: Caller) -> None:
    api.config.api_per_second, api.config.retry_after = 0, 7
    assert (api.get(GOALS).status_code, api.get(GOALS).headers["Retry-After"]) == (429, "7")


def test_limits_come_before_the_token_and_on_every_answer(api: Caller) -> None:
    for path in ("/api/v2/user.json", "/api/v2/statistics/ad_plans/day.json", "/api/v2/remarketing/offline_goals.json"):
        answer = requests.get(api.vk.box.url + path, timeout=10)
        assert answer.status_code == 401
        assert {
            f"X-RateLimit-{name}-{end}" for name in ("RPS", "Hourly", "Daily") for end in ("Limit", "Remaining")
        } <= {*answer.headers}
    assert "X-RateLimit-Minutely-Limit" not in api.get(GOALS).headers
    api.config.api_per_minute = 1
    assert api.get(GOALS).headers["X-RateLimit-Minutely-Remaining"] == "0"
    assert api.get(GOALS).status_code == 429


def test_throttling_tells_what_is_left_of_each_method(api: Caller) -> None:
    api.config.api_per_second = 5
    api.get(PLANS)
    shown = api.get("/api/v2/throttling.json").json()
    read = shown["AdPlans"]["v2"]["READ"]
    assert (read["limits"]["1"], read["remaining"]["1"]) == (5, 4)
    assert {"READ", "CREATE"} == set(shown["RemarketingOfflineGoals"]["v2"]), "listed before anybody used it"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", PLANS), ("DELETE", "/api/v2/user.json"), ("GET", "/api/v2/oauth2/token.json"), ("POST", PLANS)],
)
def test_a_wrong_method_is_405(api: Caller, method: str, path: str) -> None:
    assert told(api._ask(method, path)) == (405, "method_not_allowed")


def test_a_host_that_moved_names_the_other_one(api: Caller) -> None:
    api.config.api_redirect = "http://ads.example"
    answer = api.get(GOALS, limit=5)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"http://ads.example{GOALS}?limit=5")
    form = CLIENT | {"grant_type": "client_credentials"}
    url = f"{api.vk.box.url}/api/v2/oauth2/token.json"
    assert api.vk.session.post(url, data=form, allow_redirects=False).status_code == 302
    assert api.book()["new"] == 1


def test_a_body_that_is_too_large_is_413(api: Caller) -> None:
    api.config.max_body = 100
    assert api.post(PIXEL_GOALS, substr="x", name="y" * 100, condition="jse").status_code == 413


def test_bodies_are_compressed_on_order_for_who_accepts_it(api: Caller) -> None:
    plain = api.get(GOALS)
    api.config.gzip = True
    packed = api.get(GOALS)
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.json() == packed.json()
    api.vk.session.headers["Accept-Encoding"] = "identity"
    assert "Content-Encoding" not in api.get(GOALS).headers


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "validation_failed"),
        (403, "access_denied"),
        (404, "not_found"),
        (413, "request_entity_too_large"),
        (429, "too_many_requests"),
        (500, "INTERNAL"),
        (503, "INTERNAL"),
    ],
)
def test_an_ordered_error_has_the_words_of_its_status(api: Caller, status: int, code: str) -> None:
    api.vk.box.faults.add(on="vk.goals", kind="status", status=status)
    assert told(api.get(GOALS)) == (status, code)


def test_an_ordered_401_is_flat(api: Caller) -> None:
    api.vk.box.faults.add(on="vk.goals", kind="status", status=401)
    assert api.get(GOALS).json() == {"code": "invalid_token", "message": "Unknown access token"}


def test_a_page_of_html_can_come_with_a_200(api: Caller) -> None:
    api.vk.box.faults.add(on="vk.goals", kind="html", status=200)
    answer = api.get(GOALS)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")


# The cabinet.


def test_the_currency_is_told_by_v3_and_may_be_absent(api: Caller) -> None:
    assert api.get("/api/v3/user.json").json()["currency"] == "RUB"
    assert "currency" not in api.get("/api/v2/user.json").json()
    assert api.get("/api/v2/user.json").json()["id"] == 12345
    api.config.currencies = {"shop": "KZT"}
    client = Caller(api.vk, grant_type="agency_client_credentials", agency_client_name="shop")
    assert client.get("/api/v3/user.json").json()["currency"] == "KZT"
    api.config.currency = None
    assert "currency" not in api.get("/api/v3/user.json").json()


def test_deleted_campaigns_are_hidden_from_those_who_do_not_ask(api: Caller) -> None:
    def ids(**params: Any) -> list[int]:
        return [one["id"] for one in api.get(PLANS, **params).json()["items"]]

    assert ids() == [9100101, 9100102]
    assert ids(_status__in="active,blocked,deleted") == [9100101, 9100102, 9100103]
    assert ids(_status="deleted") == [9100103]
    assert ids(_status__ne="active") == [9100102]
    assert ids(_id__in="9100103,9100102") == [9100102]
    assert ids(_id="9100103", _status__in="deleted") == [9100103]
    assert ids(sorting="-name") == [9100102, 9100101]
    assert ids(sorting="-id") == [9100102, 9100101]
    api.config.deleted_shown = True
    assert ids() == [9100101, 9100102, 9100103]


def test_a_campaign_shows_the_fields_that_were_asked_for(api: Caller) -> None:
    shown = api.get(PLANS, fields="id,enable_offline_goals", _id=9100102).json()
    assert shown["items"] == [{"id": 9100102, "enable_offline_goals": True}]
    assert set(api.get(PLANS).json()["items"][0]) == {"id", "name", "status"}


@pytest.mark.parametrize("params", [{"sorting": "spent"}, {"_status": "archived"}, {"_status__in": "active,gone"}])
def test_a_filter_that_nobody_knows_is_refused(api: Caller, params: dict[str, str]) -> None:
    answer = api.get(PLANS, **params)
    assert told(answer) == (400, "validation_failed")
    assert list(answer.json()["error"]["fields"]) == list(params)


def test_campaigns_come_in_pages_of_at_most_fifty(api: Caller) -> None:
    api.config.ad_plans = {str(n): AdPlan(f"Plan {n}") for n in range(1, 121)}
    first = api.get(PLANS).json()
    assert (first["count"], first["limit"], len(first["items"])) == (120, 20, 20)
    found: list[int] = []
    while len(found) < 120:
        page = api.get(PLANS, limit=250, offset=len(found)).json()
        assert (page["limit"], page["offset"], len(page["items"]) > 0) == (50, len(found), True)
        found += [one["id"] for one in page["items"]]
    assert found == list(range(1, 121))
    assert api.get(PLANS, offset=120).json()["items"] == []


def test_an_agencys_own_token_opens_no_clients_campaigns(api: Caller) -> None:
    api.config.ad_plans = {"1": AdPlan("Client's", user="shop")}
    assert api.get(PLANS).json()["count"] == 0
    client = Caller(api.vk, grant_type="agency_client_credentials", agency_client_name="shop")
    assert client.get(PLANS).json()["count"] == 1


# Counters and goals.


def test_counters_are_found_by_their_number(api: Caller) -> None:
    def counters(**params: Any) -> list[int]:
        return [one["counter_id"] for one in api.get("/api/v2/remarketing/counters.json", **params).json()["items"]]

    assert counters(_counter_id=7654321) == [7654321]
    assert counters(_counter_id=1) == []


def test_the_goals_of_one_counter_are_listed(api: Caller) -> None:
    items = api.get(PIXEL_GOALS).json()["items"]
    assert [one["substr"] for one in items] == ["crm_lead", "crm_sale", "crm_micro"]
    assert {"condition": "jse", "goal_type": "purchase", "value": 0}.items() <= items[1].items()
    assert api.get("/api/v2/remarketing/counters/1/goals.json").status_code == 404


def test_a_goal_that_was_made_is_listed_and_fires(api: Caller) -> None:
    asked = {"substr": "crm_visit", "name": "Visit", "condition": "jse", "goal_type": "custom", "value": 45}
    api.vk.hit("id=1234567;e=RG%3A/crm_visit;rb_clickid=a")
    made = api.post(PIXEL_GOALS, **asked)
    assert made.status_code == 200
    assert asked.items() <= made.json().items()
    api.vk.hit("id=1234567;e=RG%3A/crm_visit;rb_clickid=a")
    assert (api.vk.goal("crm_visit")["hits"], api.vk.goal("crm_visit")["value"]) == (1, "45")
    assert "crm_visit" in [one["goal"] for one in api.get(GOALS).json()["items"]]
    api.vk.box.reset()
    assert "crm_visit" not in [one["goal"] for one in Caller(api.vk).get(GOALS).json()["items"]]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"substr": "required", "name": "required", "condition": "required"}),
        ({"substr": "crm_sale", "name": "Again", "condition": "jse"}, {"substr": "not_unique"}),
        ({"substr": 5, "name": "N", "condition": "jse"}, {"substr": "invalid"}),
        ({"substr": "x", "name": "N", "condition": "jse", "goal_type": "sale"}, {"goal_type": "invalid_choice"}),
        ({"substr": "x", "name": "N", "condition": "jse", "value": 1.5}, {"value": "invalid"}),
        ({"substr": "x", "name": "N", "condition": "jse", "value": 2**31}, {"value": "invalid"}),
    ],
)
def test_a_goal_that_is_not_valid_is_refused_by_field(
    api: Caller, body: dict[str, Any], fields: dict[str, str]
) -> None:
    answer = api.post(PIXEL_GOALS, **body)
    assert told(answer) == (400, "validation_failed")
    assert {name: one["code"] for name, one in answer.json()["error"]["fields"].items()} == fields


@pytest.mark.parametrize("flag", [{"confirmed": False}, {"shared": True}])
def test_a_counter_that_is_not_ours_or_not_confirmed_takes_no_goal(api: Caller, flag: dict[str, bool]) -> None:
    api.vk.box.configure({"vk": {"pixels": {"1234567": flag}}})
    answer = api.post(PIXEL_GOALS, substr="x", name="X", condition="jse")
    assert told(answer) == (400, "validation_failed")
    word = "unconfirmed" if "confirmed" in flag else "shared"
    assert answer.json()["error"]["message"] == f"Can not create goal for {word} counter"


def test_substr_and_condition_can_be_set_only_at_creation(api: Caller) -> None:
    goal = api.get(PIXEL_GOALS).json()["items"][1]
    path = PIXEL_GOALS.replace(".json", f"/{goal['id']}.json")
    for change in ({"substr": "crm_other"}, {"condition": "url"}):
        answer = api.post(path, **change)
        assert told(answer) == (400, "validation_failed")
        assert list(answer.json()["error"]["fields"]) == list(change)
    assert api.post(path, substr="crm_sale", value=70).json()["value"] == 70
    assert api.get(PIXEL_GOALS).json()["items"][1] == {**goal, "value": 70}
    assert api.post(path.replace(str(goal["id"]), "1"), value=1).status_code == 404


def test_a_goal_of_another_condition_is_not_fired_by_the_tracker(api: Caller) -> None:
    api.post(PIXEL_GOALS, substr="thanks", name="Page", condition="url")
    api.vk.hit("id=1234567;e=RG%3A1/thanks;rb_clickid=a")
    assert api.vk.box.books()["vk"]["lost"] == {"unknown_goal": 1}


# The page.


def test_the_page_shows_tokens_lists_and_days_and_no_secret(api: Caller) -> None:
    lines = "".join(f"7900123456{n},19.11.2026\n" for n in range(10))
    form = {"name": (None, "october <b>"), "type": (None, "phone"), "list_users": ("l.csv", "ID,date\n" + lines)}
    path = "/api/v2/remarketing/offline_goals.json"
    assert api._ask("POST", path, files=form).status_code == 204
    api.refresh()
    api.get(GOALS)
    api.vk.hit("id=1234567;e=RG%3A1500/crm_sale;rb_clickid=secret-click")
    page = api.vk.session.get(f"{api.vk.box.url}/_sandbox/").text
    for shown in ("VK API", "Dead ones used", "By day of arrival in Moscow", "2026-11-20", "october &lt;b&gt;"):
        assert shown in page
    for hidden in ("79001234560", "secret-click", api.pair["access_token"], api.pair["refresh_token"]):
        assert hidden not in page


def test_the_page_says_nothing_of_an_api_that_nobody_called(vk: VkClient) -> None:
    assert "VK API" not in vk.session.get(f"{vk.box.url}/_sandbox/").text


def test_books_and_a_reset_know_every_part(api: Caller) -> None:
    books = api.vk.box.books()["vk"]
    assert {"totals", "pixels", "lost", "glued_persons", "tokens", "token_users", "lists", "leads"} <= set(books)
    api.vk.box.reset()
    books = api.vk.box.books()["vk"]
    assert (books["tokens"], books["token_users"], books["totals"]["hits"]) == (0, {}, 0)
