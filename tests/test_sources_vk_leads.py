"""VK's lead forms as a source: what cannot be read, what VK may do to a list while it is read, and that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from convsync.destinations.vk.api import Api
from convsync.errors import Halted, NotSent, SourceError, SourceUnavailable
from convsync.model import Action, Finding
from convsync.net import Wire
from convsync.sandbox import Sandbox
from convsync.sandbox.vk_leads import Lead, LeadsConfig
from convsync.sources import Page, Source, Window
from convsync.sources.vk_leads import PAGE, VkLeads
from worlds import NOW, StandingClock

MOSCOW = ZoneInfo("Europe/Moscow")
PHONE, EMAIL, NAME = "+7 916 123-45-67", "anna@example.com", "Анна"
NIGHT = datetime(2026, 11, 10, 1, 0, tzinfo=UTC)
ITEM = {
    "id": "501",
    "form_id": "101",
    "ad_plan_id": 7,
    "created_at": "2026-11-10 04:00:00",
    "contact_info": {"first_name": NAME, "last_name": "Иванова", "phone": PHONE, "email": EMAIL},
}


def source(api: Any, **options: Any) -> VkLeads:
    @contextmanager
    def opened() -> Iterator[Any]:
        yield api

    known: dict[str, Any] = {"action": "form_lead", "timezone": MOSCOW, "now": NOW.timestamp}
    return VkLeads("forms", api=opened, **(known | options))


def actions(pages: Sequence[Page]) -> list[Action]:
    return [action for page in pages for action in page.actions]


def ids(pages: Sequence[Page]) -> list[str]:
    return [action.external_id for action in actions(pages)]


def cursors(pages: Sequence[Page]) -> list[str]:
    return [page.cursor[1] for page in pages if page.cursor]


def marked(moment: datetime) -> dict[str, str]:
    return {"": moment.isoformat()}


class StandIn:
    """A list of leads that the test can do anything to. `asked` are the questions, `before_page` is called before each."""

    def __init__(self, items: Sequence[Any], limit: int = PAGE, **told: Any) -> None:
        self.items = list(items)
        self.limit = limit
        self.told = told
        self.asked: list[dict[str, str]] = []
        self.before_page: Callable[[int], None] = lambda number: None

    def ask(self, path: str, params: Mapping[str, str] = {}, *, none_if: Collection[str] = ()) -> dict[str, Any] | None:
        assert path == "/api/v1/lead_ads/leads.json"
        self.asked.append(dict(params))
        self.before_page(len(self.asked))
        offset, limit = int(params["offset"]), min(int(params["limit"]), self.limit)
        told = {"count": len(self.items), "items": self.items[offset : offset + limit]}
        told |= {name.removeprefix("told_"): value for name, value in self.told.items()}
        return {name: value for name, value in told.items() if value != "gone"}


def left(number: int, minutes: int | None = None) -> dict[str, Any]:
    """A lead of the tenth of November, so many minutes after its first."""
    moment = NIGHT + timedelta(minutes=number if minutes is None else minutes)
    return ITEM | {"id": str(number), "created_at": moment.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S")}


# -- what cannot be read


@pytest.mark.parametrize(
    ("change", "where", "field", "problem"),
    [
        ({"id": None}, "lead without an id", "id", "is missing"),
        ({"id": EMAIL}, "lead without an id", "id", "looks like an e-mail address or a phone number (not shown)"),
        ({"id": 5.5}, "lead without an id", "id", "was damaged: "),
        ({"created_at": None}, "lead 501", "created_at", "is missing"),
        ({"created_at": "0001-01-01 00:00:00 +0000 UTC"}, "lead 501", "created_at", "is missing"),
        ({"created_at": "yesterday"}, "lead 501", "created_at", 'is not a time: "yesterday"'),
        ({"created_at": {"s": PHONE}}, "lead 501", "created_at", "is not a time: "),
        ({"form_id": None}, "lead 501", "form_id", "is missing"),
        ({"ad_plan_id": {"id": 7}}, "lead 501", "ad_plan_id", "holds dict instead of plain text"),
        ({"contact_info": PHONE}, "lead 501", "contact_info", "is not a JSON object (not shown)"),
        ({"contact_info": {"phone": [PHONE]}}, "lead 501", "contact_info", "holds something that is no text"),
        ({"contact_info": {"first_name": {"x": EMAIL}}}, "lead 501", "contact_info", "holds something that is no text"),
    ],
)
def test_a_lead_that_cannot_be_read_is_named_and_its_contacts_are_not(
    change: dict[str, Any], where: str, field: str, problem: str
) -> None:
    (page,) = source(StandIn([ITEM | change])).read({})
    (bad,) = page.bad
    assert (page.actions, bad.source, bad.where, bad.field) == ([], "forms", where, field)
    assert bad.problem.startswith(problem)
    if field != "created_at":
        assert not any(secret in str(bad) for secret in (PHONE, EMAIL, NAME))


def test_what_is_no_lead_at_all_is_a_bad_row_and_the_others_are_read() -> None:
    (page,) = source(StandIn([7, ITEM])).read({})
    assert (ids([page]), [(bad.where, bad.problem) for bad in page.bad]) == (
        ["501"],
        [("a lead", "is not a JSON object")],
    )


def test_a_resource_that_is_not_there_says_what_else_can_be_done(box: Sandbox, clock: StandingClock) -> None:
    box.config.vk.leads.closed = True
    vk = source(client(box, clock))
    with pytest.raises(SourceError, match="VK does not open lead forms to this client") as caught:
        list(vk.read({}))
    assert "type csv with `lead_form` under its fields" in caught.value.advice
    [finding] = vk.check()
    assert (finding.level, finding.where, finding.advice) == ("error", "source forms", caught.value.advice)


def test_a_missing_right_is_named(box: Sandbox, clock: StandingClock) -> None:
    box.config.vk.leads.denied = True
    with pytest.raises(SourceError, match=r"destinations\.vk.*HTTP 403 access_denied") as caught:
        list(source(client(box, clock)).read({}))
    assert "the right to read the leads of lead forms" in caught.value.advice


def test_keys_that_vk_refuses_are_a_source_error_with_its_words() -> None:
    class Refusing:
        def ask(self, path: str, params: object, *, none_if: object) -> None:
            raise Halted(Finding("error", "bad_client", "destinations.vk", "VK does not know this client.", "Copy it."))

    with pytest.raises(SourceError) as caught:
        list(source(Refusing()).read({}))
    assert str(caught.value) == "source forms (destinations.vk): VK does not know this client. Copy it."
    [finding] = source(Refusing()).check()
    assert (finding.level, finding.advice) == ("error", "Copy it.")


def test_a_vk_that_does_not_answer_is_unavailable_and_what_was_read_stands(box: Sandbox, clock: StandingClock) -> None:
    given_leads(box, 120, created_zone="moscow")
    box.faults.add({"on": "vk.leads", "kind": "status", "status": 503, "skip": 1, "times": None})
    pages = source(client(box, clock)).read({})
    first = next(pages)
    assert (len(first.actions), first.cursor) == (PAGE, ("", (NIGHT + timedelta(minutes=49)).isoformat()))
    with pytest.raises(SourceUnavailable, match="VK could not be asked for leads"):
        list(pages)


@pytest.mark.parametrize("items", ["gone", None, {}, "leads"])
def test_an_answer_without_a_list_is_unavailable(items: Any) -> None:
    with pytest.raises(SourceUnavailable, match="without a list of leads"):
        list(source(StandIn([], told_items=items)).read({}))


@pytest.mark.parametrize("kept", ["", "yesterday", "{}"])
def test_a_cursor_of_another_version_is_not_guessed_at(kept: str) -> None:
    api = StandIn([ITEM])
    with pytest.raises(SourceError, match="The stored cursor of source forms cannot be read"):
        list(source(api).read({"": kept}))
    assert api.asked == []


# -- a list that changes while it is read


def test_leads_that_come_in_meanwhile_are_read_as_well() -> None:
    api = StandIn([left(number) for number in range(PAGE)])
    api.before_page = lambda number: api.items.extend(
        left(PAGE + number * 10 + extra) for extra in range(2 * (number < 3))
    )
    pages = list(source(api).read({}))
    assert ids(pages) == [item["id"] for item in api.items]


def test_leads_that_went_end_the_reading_before_one_is_passed_over() -> None:
    api = StandIn([left(number) for number in range(130)])
    gone = {2: slice(0, 5)}
    api.before_page = lambda number: api.items.__delitem__(gone.get(number, slice(0, 0)))
    pages = source(api).read({})
    first = next(pages)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        next(pages)
    assert first.cursor is not None
    (again, *rest) = source(api).read({"": first.cursor[1]})
    assert ids([first, again, *rest])[-1] == "129"
    assert {*ids([first]), *ids([again, *rest])} == {str(number) for number in range(130)}


def test_a_late_one_that_stands_before_others_passes_over_none() -> None:
    api = StandIn([left(number) for number in range(130)])

    def late(number: int) -> None:
        if number == 2:
            api.items.insert(3, left(999, 3))

    api.before_page = late
    found = ids(list(source(api).read({})))
    assert found == [str(number) for number in range(130)]
    overlapping = ids(list(source(api).read(marked(NIGHT + timedelta(minutes=129)))))
    assert "999" in overlapping, "the overlap finds it"


def test_a_vk_that_gives_one_lead_at_a_time_is_no_endless_list() -> None:
    api = StandIn([left(1), left(2)], limit=1)
    with pytest.raises(SourceUnavailable):
        list(source(api).read({}))
    assert len(api.asked) == 1


@pytest.mark.parametrize("count", ["gone", None, "130", -1])
@pytest.mark.parametrize("size", [0, 1, 2, PAGE, PAGE + 1, 130])
def test_without_a_count_the_list_is_read_to_its_end(size: int, count: Any) -> None:
    api = StandIn([left(number) for number in range(size)], count=count)
    assert ids(list(source(api).read({}))) == [str(number) for number in range(size)]


@given(st.integers(0, 200), st.integers(2, 60))
def test_every_lead_is_read_once_whatever_the_limit_becomes(size: int, limit: int) -> None:
    pages = list(source(StandIn([left(number) for number in range(size)], limit)).read({}))
    assert ids(pages) == [str(number) for number in range(size)]
    assert cursors(pages)[-1:] == ([(NIGHT + timedelta(minutes=size - 1)).isoformat()] if size else [])


@pytest.mark.parametrize("turned", [True, False])
def test_where_vk_ignores_the_order_the_mark_waits_for_the_end(turned: bool) -> None:
    items = [left(number) for number in range(120)]
    api = StandIn(items[::-1] if turned else [*items[60:], *items[:60]])
    pages = list(source(api).read({}))
    assert sorted(ids(pages), key=int) == [str(number) for number in range(120)]
    newest = (NIGHT + timedelta(minutes=119)).isoformat()
    assert [page.cursor for page in pages][-2:] == [None, ("", newest)]
    if turned:
        assert cursors(pages) == [newest]


def test_new_leads_at_the_head_of_such_a_list_pass_over_none() -> None:
    api = StandIn([left(number) for number in range(120)][::-1])

    def arrive(number: int) -> None:
        api.items.insert(0, left(120 + number))

    api.before_page = arrive
    found = ids(list(source(api).read({})))
    assert {str(number) for number in range(120)} <= {*found}
    assert len(found) == len({*found})


# -- the mark


def test_the_next_run_begins_an_overlap_before_the_mark() -> None:
    api = StandIn([left(0), left(60)])
    (page,) = source(api, overlap=timedelta(hours=6)).read(marked(NIGHT))
    assert api.asked[0]["_created_at__gte"] == "2026-11-09 19:00:00"
    assert (ids([page]), page.cursor) == (["0", "60"], ("", "2026-11-10T02:00:00+00:00"))


def test_a_mark_never_goes_back_nor_beyond_now() -> None:
    ahead = (NOW + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (page,) = source(StandIn([ITEM | {"created_at": ahead}])).read(marked(NIGHT))
    assert page.cursor == ("", NOW.isoformat())
    (page,) = source(StandIn([ITEM])).read(marked(NOW))
    assert page.cursor is None


def test_an_overlap_longer_than_all_time_reads_everything() -> None:
    api = StandIn([ITEM])
    (page,) = source(api, overlap=timedelta(days=10**6)).read(marked(NIGHT))
    assert (ids([page]), api.asked[0]["_created_at__gte"]) == (["501"], "1970-01-01 00:00:00")


# -- what a lead is


@pytest.mark.parametrize(
    ("created_at", "moment"),
    [
        ("2026-11-10 04:00:00", NIGHT),
        ("2026-11-10 01:00:00 +0000 UTC", NIGHT),
        ("2026-11-10 01:00:00.26 +0000 UTC", NIGHT + timedelta(milliseconds=260)),
        ("2026-11-10 04:00:00.123456789 +0300 MSK", NIGHT + timedelta(microseconds=123456)),
        ("2026-11-10T01:00:00Z", NIGHT),
        ("2026-11-10T04:00:00+03:00", NIGHT),
        (1794272400, NIGHT),
    ],
)
def test_every_way_in_which_vk_writes_a_time_is_read(created_at: Any, moment: datetime) -> None:
    (page,) = source(StandIn([ITEM | {"created_at": created_at}])).read({})
    assert [action.occurred_at for action in page.actions] == [moment]


def test_the_zone_of_a_time_that_names_none_can_be_said() -> None:
    (page,) = source(StandIn([ITEM | {"created_at": "2026-11-10 01:00:00"}]), timezone=UTC).read({})
    assert [action.occurred_at for action in page.actions] == [NIGHT]


def test_an_action_holds_what_vk_told_and_nothing_else() -> None:
    (page,) = source(StandIn([ITEM]), consent_ad_user_data=True, consent_ad_personalization=False).read({})
    (action,) = page.actions
    told = {name: value for name, value in action._asdict().items() if value is not None and value != ()}
    assert told == {
        "source": "forms", "external_id": "501", "action": "form_lead", "occurred_at": NIGHT, "status": "active",
        "email": EMAIL, "phone": PHONE, "first_name": NAME, "last_name": "Иванова", "campaign_id": "7",
        "utm_source": "vk_ads", "lead_form": "101", "consent_ad_user_data": True, "consent_ad_personalization": False,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"ad_plan_id": None}, {"ad_plan_id": 0}, {"ad_plan_id": ""}])
def test_a_lead_without_a_campaign_gets_none(change: dict[str, Any]) -> None:
    (page,) = source(StandIn([ITEM | change])).read({})
    assert [action.campaign_id for action in page.actions] == [None]


@pytest.mark.parametrize("contact", [None, {}, {"phone": None, "email": " "}])
def test_a_lead_without_a_contact_is_an_action_all_the_same(contact: Any) -> None:
    (page,) = source(StandIn([ITEM | {"contact_info": contact}])).read({})
    assert [(action.phone, action.email) for action in page.actions] == [(None, None)]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=12), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from([*ITEM, "phone", "email"]), inner, max_size=5), max_leaves=12))  # fmt: skip
def test_whatever_stands_in_the_list_is_an_action_or_a_bad_row(item: Any) -> None:
    json.dumps(item)
    (page,) = source(StandIn([item])).read({})
    assert len(page.actions) + len(page.bad) == 1


# -- against the emulator


class Bearer:
    def __init__(self, token: str) -> None:
        self.token = token

    def bearer(self) -> str:
        return self.token

    def renewed(self, dead: str) -> str:
        raise NotSent("dead")


def client(box: Sandbox, clock: StandingClock) -> Api:
    form = {"grant_type": "client_credentials", "client_id": "sandbox-vk", "client_secret": "sandbox-vk-secret"}
    session = requests.Session()
    session.trust_env = False
    token = session.post(f"{box.url}/api/v2/oauth2/token.json", data=form).json()["access_token"]
    session.close()
    wire = Wire(requests_per_second=10_000, timeout=5, clock=clock.now, sleep=lambda _: None)
    return Api("destinations.vk", tokens=Bearer(token), wire=wire, url=box.url)


def given_leads(box: Sandbox, count: int, every: int = 1, **told: Any) -> LeadsConfig:
    """Leads with the numbers 1, 2 …, so many minutes apart."""
    moments = [NIGHT + number * timedelta(minutes=every) for number in range(count)]
    leads = [
        Lead(number, form_id=101, ad_plan_id=9100102, created=moment.isoformat(), phone=PHONE)
        for number, moment in enumerate(moments, 1)
    ]
    box.config.vk.leads = LeadsConfig(leads, **told)
    return box.config.vk.leads


@pytest.mark.parametrize("shown", ["plain", "go"])
@pytest.mark.parametrize("filters", ["utc", "moscow"])
def test_a_window_holds_what_it_says_whatever_zone_vk_means(
    box: Sandbox, clock: StandingClock, shown: str, filters: str
) -> None:
    given_leads(box, 240, 60, created_format=shown, created_zone="moscow", filter_zone=filters)
    since = NIGHT + timedelta(hours=100)
    window = Window(since, since + timedelta(hours=60))
    pages = list(source(client(box, clock)).read(marked(NIGHT), window))
    assert ids(pages) == [str(number) for number in range(101, 161)]
    assert cursors(pages) == []


@pytest.mark.parametrize("filters", ["utc", "moscow"])
def test_what_arrives_late_is_found_by_the_overlap(box: Sandbox, clock: StandingClock, filters: str) -> None:
    leads = given_leads(box, 240, 60, filter_zone=filters, created_zone="moscow")
    leads.leads[220].arrives = NOW.isoformat()
    clock.advance(-1)
    api = client(box, clock)
    first = list(source(api, now=clock.now().timestamp).read({}))
    assert len(ids(first)) == 239
    clock.advance(1)
    second = ids(list(source(api).read({"": cursors(first)[-1]})))
    assert "221" in second
    assert len(second) in (25, 28), "a day, or from three hours earlier"


def test_a_lead_that_comes_in_between_two_pages_is_not_lost(box: Sandbox, clock: StandingClock) -> None:
    given_leads(box, 130, created_zone="moscow", numbers=True, arrives_while_reading=129)
    pages = list(source(client(box, clock)).read({}))
    assert ids(pages) == [str(number + 1) for number in range(130)]


def test_only_the_forms_that_were_named_are_read(box: Sandbox, clock: StandingClock) -> None:
    given_leads(box, 3).leads[1].form_id = 202
    vk = source(client(box, clock), forms=("202",))
    assert ids(list(vk.read({}))) == ["2"]
    assert [finding.message for finding in vk.check()] == ["VK lists 1 lead."]


def test_a_check_asks_for_one_lead_and_tells_how_many_there_are(box: Sandbox, clock: StandingClock) -> None:
    given_leads(box, 120)
    vk: Source = source(client(box, clock))
    assert [(one.level, one.message) for one in vk.check()] == [("info", "VK lists 120 leads.")]
    assert box.books()["vk"]["leads"]["totals"]["pages"] == 1
    assert [one.message for one in source(StandIn([ITEM], count="gone")).check()] == ["VK lists its leads."]


def test_the_client_is_closed_when_the_reading_stops() -> None:
    closed = []

    @contextmanager
    def opened() -> Iterator[Any]:
        try:
            yield StandIn([left(number) for number in range(120)])
        finally:
            closed.append(True)

    pages = VkLeads("forms", api=opened, action="form_lead", timezone=MOSCOW).read({})
    next(pages)
    assert not closed
    pages.close()  # type: ignore[attr-defined]
    assert closed
