"""VK's lead forms at the sandbox: filters, order, pages, and leads that arrive in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from convsync.sandbox.vk_leads import Lead, LeadsConfig

if TYPE_CHECKING:
    from conftest import VkClient

LEADS = "/api/v1/lead_ads/leads.json"
ANSWER = {"question_text": "When?", "answer_options": ["now", "later"], "answer_text": "now"}


def lead(number: int, created: str, **changes: Any) -> Lead:
    usual: dict[str, Any] = {"form_id": 101, "form_name": "Request a call", "phone": "+70000000000"}
    return Lead(id=number, created=created, **(usual | changes))


class Caller:
    def __init__(self, vk: VkClient) -> None:
        self.vk = vk
        self.box = vk.box
        self.session = vk.session
        self.login()
        self.switch: LeadsConfig = vk.box.config.vk.leads
        self.switch.leads = [
            lead(501, "2026-11-10T09:00:00+00:00", ad_plan_id=1, ad_group_id=11, banner_id=111),
            lead(502, "2026-11-10T12:00:00+03:00", ad_plan_id=2, form_id=102),
            lead(
                503,
                "2026-11-12T09:25:41.260000+00:00",
                first_name="A",
                last_name="B",
                email="a@b.test",
                answers=[ANSWER],
            ),
        ]

    def login(self, **changes: str) -> None:
        self.token = self.vk.token(**changes).json()["access_token"]

    def get(self, **params: str | int) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.session.get(self.box.url + LEADS, params=params, headers=headers)

    def page(self, **params: str | int) -> dict[str, Any]:
        answer = self.get(**params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ids(self, **params: str | int) -> list[str]:
        return [one["id"] for one in self.page(**params)["items"]]


@pytest.fixture
def leads(vk: VkClient) -> Caller:
    return Caller(vk)


@pytest.mark.parametrize(
    "params",
    [
        {"_created_at__gte": "2026-11-10"},
        {"_created_at__lte": "2026-11-10T00:00:00"},
        {"_form_ids__in": "form"},
        {"_ad_plan_ids__in": ""},
        {"sorting": "name"},
    ],
)
def test_a_parameter_that_cannot_be_read_is_named(leads: Caller, params: dict[str, str]) -> None:
    answer = leads.get(**params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")
    assert set(answer.json()["error"]["fields"]) == set(params)


def test_the_resource_can_be_closed_or_denied(leads: Caller) -> None:
    leads.switch.denied = True
    answer = leads.get()
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access_denied")
    leads.switch.closed = True
    assert leads.get().status_code == 404


def test_nothing_is_told_without_a_token(leads: Caller) -> None:
    leads.token = "nobody"
    assert (leads.get().status_code, leads.get().json()["code"]) == (401, "invalid_token")


def test_a_client_of_an_agency_has_leads_of_its_own(leads: Caller) -> None:
    leads.switch.leads[0].user = "client-1"
    assert leads.ids() == ["503", "502"]
    leads.login(grant_type="agency_client_credentials", agency_client_name="client-1")
    assert leads.ids() == ["503", "502", "501"]


def test_a_lead_shows_what_is_known_of_it(leads: Caller) -> None:
    newest, second, first = leads.page()["items"]
    assert newest == {
        "id": "503",
        "form_id": "101",
        "form_name": "Request a call",
        "ad_plan_id": None,
        "ad_group_id": None,
        "banner_id": None,
        "created_at": "2026-11-12 09:25:41",
        "contact_info": {"first_name": "A", "last_name": "B", "phone": "+70000000000", "email": "a@b.test"},
        "answers": [ANSWER],
    }
    assert (second["form_id"], second["contact_info"]) == ("102", {"phone": "+70000000000"})
    assert (first["ad_plan_id"], first["ad_group_id"], first["banner_id"]) == (1, 11, 111)
    leads.switch.numbers = True
    assert [(one["id"], one["form_id"]) for one in leads.page()["items"]] == [(503, 101), (502, 102), (501, 101)]


def test_the_time_is_printed_as_the_switches_say(leads: Caller) -> None:
    assert [one["created_at"] for one in leads.page(sorting="id")["items"]][:2] == ["2026-11-10 09:00:00"] * 2
    leads.switch.created_zone = "moscow"
    assert leads.page()["items"][0]["created_at"] == "2026-11-12 12:25:41"
    leads.switch.created_format = "go"
    shown = [one["created_at"] for one in leads.page()["items"]]
    assert shown[:2] == ["2026-11-12 09:25:41.26 +0000 UTC", "2026-11-10 09:00:00 +0000 UTC"]


def test_the_filters_go_by_object(leads: Caller) -> None:
    assert leads.ids(_form_ids__in="101") == ["503", "501"]
    assert leads.ids(_form_ids__in="101,102", _ad_plan_ids__in="2") == ["502"]
    assert leads.ids(_ad_group_ids__in="11") == leads.ids(_banner_ids__in="111") == ["501"]
    assert leads.ids(_banner_ids__in="7") == []


def test_both_ends_of_the_time_belong_to_it(leads: Caller) -> None:
    at = "2026-11-10 09:00:00"
    assert leads.ids(_created_at__gte=at, _created_at__lte=at) == ["502", "501"]
    assert leads.ids(_created_at__gte="2026-11-10 09:00:01") == ["503"]
    assert leads.ids(_created_at__lte="2026-11-12 09:25:41") == ["502", "501"], "a fraction of a second is later"


def test_the_zone_of_the_filter_can_be_moscow(leads: Caller) -> None:
    leads.switch.filter_zone = "moscow"
    assert leads.ids(_created_at__gte="2026-11-10 09:00:00", _created_at__lte="2026-11-10 09:00:00") == []
    assert leads.ids(_created_at__gte="2026-11-10 12:00:00", _created_at__lte="2026-11-10 12:00:00") == ["502", "501"]


def test_the_order_is_the_one_asked_for(leads: Caller) -> None:
    leads.switch.leads.append(lead(40, "2026-11-11T00:00:00+00:00"))
    assert leads.ids(sorting="id") == ["40", "501", "502", "503"]
    assert leads.ids(sorting="-id") == ["503", "502", "501", "40"]
    assert leads.ids(sorting="created_at") == ["501", "502", "40", "503"]
    assert leads.ids(sorting="-created_at") == ["503", "40", "502", "501"]
    leads.switch.sorting = "created_at"
    assert leads.ids() == ["501", "502", "40", "503"]


def test_a_page_has_twenty_leads_and_never_more_than_fifty(leads: Caller) -> None:
    leads.switch.leads = [lead(number, "2026-11-10T09:00:00+00:00") for number in range(1, 61)]
    assert [len(leads.ids()), len(leads.ids(limit=100)), len(leads.ids(limit=5))] == [20, 50, 5]
    told = leads.page(limit=250, offset=50, sorting="id")
    assert (told["count"], told["offset"], len(told["items"]), told["items"][0]["id"]) == (60, 50, 10, "51")
    assert leads.ids(offset=60) == []


def test_a_lead_that_arrives_while_reading_shifts_the_pages_of_newest_first(leads: Caller) -> None:
    leads.switch.arrives_while_reading = 2
    first = leads.page(limit=1, sorting="-id")
    second = leads.page(limit=1, offset=1, sorting="-id")
    assert [(one["count"], one["items"][0]["id"]) for one in (first, second)] == [(2, "502"), (3, "502")]
    assert leads.ids(sorting="id") == ["501", "502", "503"]
    leads.box.reset()
    leads.login()
    assert leads.ids() == ["502", "501"], "it arrives anew"


def test_a_lead_that_arrives_while_reading_shifts_nothing_of_oldest_first(leads: Caller) -> None:
    leads.switch.arrives_while_reading = 2
    assert [leads.ids(limit=1, offset=offset, sorting="id")[0] for offset in range(3)] == ["501", "502", "503"]


def test_a_lead_of_the_future_is_not_there_yet(leads: Caller) -> None:
    leads.switch.leads = [
        lead(1, "2026-11-20T13:00:00+00:00"),
        lead(2, "2026-11-20T11:00:00+00:00", arrives="2026-11-20T14:00:00+00:00"),
    ]
    seen = [leads.ids()]
    for _ in range(2):
        leads.box.clock.advance(3600)
        seen.append(leads.ids(sorting="id"))
    assert seen == [[], ["1"], ["1", "2"]]


def test_a_misspelt_filter_filters_nothing_and_is_noted(leads: Caller) -> None:
    assert len(leads.ids(_form_id="101")) == 3
    assert leads.box.requests()[-1]["note"] == "unknown parameter _form_id"


def test_leads_are_configured_over_http_and_a_time_without_a_zone_is_refused(
    leads: Caller, http: requests.Session
) -> None:
    url = f"{leads.box.url}/_sandbox/config"
    made = {"id": 9, "form_id": 3, "created": "2026-11-10T09:00:00+00:00"}
    assert http.post(url, json={"vk": {"leads": {"leads": [made]}}}).status_code == 200
    assert leads.ids() == ["9"]
    for wrong in ({**made, "created": "2026-11-10T09:00:00"}, {"id": 9}, {**made, "arrives": "soon"}):
        assert http.post(url, json={"vk": {"leads": {"leads": [wrong]}}}).status_code == 400
    assert leads.box.books()["vk"]["leads"] == {"totals": {"leads": 1, "pages": 1}}
