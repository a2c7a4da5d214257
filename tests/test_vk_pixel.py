"""The route vk.pixel: whose click it was, the address that is called, and what an answer can mean."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st
from requests import ReadTimeout

from convsync.destinations import Route
from convsync.destinations.vk.pixel import REFUSALS_IN_A_ROW, Pixel
from convsync.errors import ConfigError, Unclear
from convsync.model import Action, Answer, Conversion, OnUnknown, Person, Skip, SkipReason, Verdict
from convsync.net import Reply, Wire

TRACKER = "https://top-fwz1.mail.ru/tracker"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
NOBODY = Person()


class Target(NamedTuple):
    goal: str = "crm_sale"

    @property
    def goal_key(self) -> str:
        return self.goal


SALE = Target()


def pixel(**settings: Any) -> Pixel:
    wire = Wire(requests_per_second=10_000, keep_alive=False, sleep=lambda _: None)
    return Pixel("vk", wire=wire, **{"pixel_id": "1234567", **settings})


def action(**told: Any) -> Action:
    first = {"source": "shop", "external_id": "e1", "action": "sale", "occurred_at": NOON}
    return Action(**{**first, "rb_clickid": "click-1", "currency": "RUB", **told})


def made(told: Action, value: int | None = None, **settings: Any) -> Conversion:
    conversion = pixel(**settings).convert(told, NOBODY, SALE, value)
    assert isinstance(conversion, Conversion), conversion
    return conversion


def skipped(told: Action, value: int | None = None, **settings: Any) -> Skip:
    skip = pixel(**settings).convert(told, NOBODY, SALE, value)
    assert isinstance(skip, Skip), skip
    return skip


def url(told: Action, value: int | None = None, **settings: Any) -> str:
    return pixel(**settings).encode([made(told, value, **settings).payload], "token").decode()


def test_the_pixel_keeps_the_contract_of_a_route() -> None:
    route: Route = pixel()
    assert (route.adjusts, route.snapshots, route.reason_per_row, route.batch_rows) == (False, False, False, 1)
    assert (route.on_unknown, pixel(on_ambiguous="retry").on_unknown) == (OnUnknown.HOLD, OnUnknown.RESEND)
    assert route.learn({}) == {}


# -- not sent, and why -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancelled", "refunded", "spam"])
def test_nothing_can_be_taken_back(status: str) -> None:
    assert skipped(action(status=status), 100).reason is SkipReason.CANNOT_ADJUST


def test_an_action_that_vk_could_not_know_has_no_identifier() -> None:
    skip = skipped(action(rb_clickid=" ", gclid="x", yclid="1"))
    assert skip.reason is SkipReason.NO_IDENTIFIER and "vk_user_id" in skip.detail


@pytest.mark.parametrize(
    ("text", "macro"),
    [
        ("{{clickid}}", "{{clickid}}"),
        ("%7B%7Bclickid%7D%7D", "{{clickid}}"),
        ("{click_id}", "{click_id}"),
        ("abc{{", "{"),
    ],
)
def test_a_macro_nobody_replaced_is_refused_by_its_name(text: str, macro: str) -> None:
    skip = skipped(action(rb_clickid=text))
    assert skip.reason is SkipReason.BAD_IDENTIFIER and f"macro {macro}," in skip.detail


@pytest.mark.parametrize("text", ["Cj0KCQiA-abc_DEF", "EAIaIQobChMI", "CjwKCAiA", "IwAR0abc"])
def test_a_click_id_of_another_platform_is_refused_by_its_form(text: str) -> None:
    assert skipped(action(rb_clickid=text)).reason is SkipReason.BAD_IDENTIFIER


def test_digits_are_refused_only_when_they_stand_in_another_column_too() -> None:
    """A yclid is digits, and so may be a click id of VK: only the double tells."""
    digits = "1234567890123456789"
    skip = skipped(action(rb_clickid=digits, yclid=digits))
    assert skip.reason is SkipReason.BAD_IDENTIFIER and "yclid" in skip.detail
    assert b"rb_clickid" in made(action(rb_clickid=digits)).payload


@pytest.mark.parametrize("text", ["a\nb", "a%0Ab", "a%FFb", "x" * 513])
def test_a_click_id_no_address_should_hold_is_refused(text: str) -> None:
    assert skipped(action(rb_clickid=text)).reason is SkipReason.BAD_IDENTIFIER


@pytest.mark.parametrize("contact", ["ivan@example.ru", "+7 999 555-11-11", "+79995551111"])
def test_a_user_id_that_is_a_contact_in_clear_is_refused_without_repeating_it(contact: str) -> None:
    skip = skipped(action(rb_clickid=None, vk_user_id=contact))
    assert skip.reason is SkipReason.BAD_IDENTIFIER and contact not in skip.detail


def test_a_click_older_than_it_lives_is_not_sent() -> None:
    old = action(created_at=NOON - timedelta(days=31))
    skip = skipped(old)
    assert skip.reason is SkipReason.TOO_OLD and "click_max_age" in skip.detail
    assert b"rb_clickid" in made(old, click_max_age=timedelta(days=90)).payload


@pytest.mark.parametrize("click", ["{{clickid}}", "Cj0KCQiA", "  "])
def test_a_good_user_id_stands_in_for_a_bad_click_id(click: str) -> None:
    assert b'"userid":"42"' in made(action(rb_clickid=click, vk_user_id="42")).payload


def test_a_value_that_no_goal_of_vk_can_hold_is_skipped_and_names_the_setting() -> None:
    skip = skipped(action(), 2_147_483_648_00)
    assert (skip.reason, skip.detail) == (SkipReason.VALUE_TOO_LARGE, "more than 2147483647 (max_value)")
    assert made(action(), 2_147_483_647_00)
    assert made(action(), 2_147_483_648_00, send_value=False)
    assert skipped(action(), 101_00, max_value=100).reason is SkipReason.VALUE_TOO_LARGE


def test_a_negative_value_never_leaves() -> None:
    assert skipped(action(), -1).reason is SkipReason.NEGATIVE_VALUE


@pytest.mark.parametrize(
    "settings",
    [{"pixel_id": "12 34"}, {"tracker_url": "https://x/?a=1"}, {"tracker_url": "top-fwz1.mail.ru/tracker"}],
)
def test_settings_that_cannot_work_are_named_at_once(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"destinations.vk.{next(iter(settings))}"):
        pixel(**settings)


def test_a_goal_no_pixel_can_have_is_named() -> None:
    with pytest.raises(ConfigError, match=r"actions\.sale"):
        pixel().convert(action(), NOBODY, Target("продажа"), None)


# -- the address -------------------------------------------------------------------------------------


def test_the_address_is_the_documented_one() -> None:
    assert url(action(), 150000) == f"{TRACKER}?id=1234567;e=RG%3A1500/crm_sale;rb_clickid=click-1"
    by_user = url(action(rb_clickid=None, vk_user_id="a b;c"), 150000, slash_encoding="%2F")
    assert by_user == f"{TRACKER}?id=1234567;e=RG%3A1500%2Fcrm_sale;userid=a%20b%3Bc"


@pytest.mark.parametrize("settings", [{}, {"send_value": False}])
def test_without_a_value_the_place_before_the_slash_is_empty(settings: dict[str, bool]) -> None:
    value = 150000 if settings else None
    assert ";e=RG%3A/crm_sale;" in url(action(), value, **settings)


@pytest.mark.parametrize(
    ("value", "currency", "whole"),
    [
        (149, "RUB", 1),
        (150, "RUB", 2),
        (250, "RUB", 3),
        (49, "RUB", 0),
        (0, "RUB", 0),
        (150, "JPY", 150),
        (1500, "KWD", 2),
    ],
)
def test_the_value_is_rounded_half_up_to_whole_units(value: int, currency: str, whole: int) -> None:
    assert orjson.loads(made(action(currency=currency), value).payload)["value"] == whole


def test_a_click_id_kept_as_it_stood_in_an_address_is_encoded_once() -> None:
    assert url(action(rb_clickid="a%2Fb%3D")) == url(action(rb_clickid="a/b="))
    assert url(action(rb_clickid="a%2Fb%3D")).endswith(";rb_clickid=a%2Fb%3D")


ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=40)
CLICK = ANY.filter(lambda text: text == text.strip() and not set(text) & set("{}%"))


@given(CLICK, st.integers(0, 10**12))
def test_every_click_id_and_value_can_be_read_back_by_semicolons(click: str, value: int) -> None:
    parts = urlsplit(url(action(rb_clickid=click), value, max_value=10**12))
    fields = parse_qs(parts.query, separator=";", strict_parsing=True)
    assert fields == {"id": ["1234567"], "e": [f"RG:{(value + 50) // 100}/crm_sale"], "rb_clickid": [click]}
    assert parts.fragment == ""


def test_the_preview_shows_goal_value_kind_of_id_and_address() -> None:
    (shown,) = pixel().preview([made(action(), 150000).payload])
    assert shown == {"goal": "crm_sale", "value": 1500, "id_kind": "rb_clickid", "url": url(action(), 150000)}


def test_one_request_carries_one_conversion() -> None:
    payload = made(action()).payload
    with pytest.raises(ValueError, match="one conversion"):
        pixel().encode([payload, payload], "token")


# -- the table of replies ----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def answer(server: responses.RequestsMock, route: Pixel, **reply: Any) -> Answer:
    server.get(TRACKER, **reply)
    return route.send(url(action(), 150000).encode(), 1)


@pytest.mark.parametrize("status", [400, 404, 405, 410, 418])
def test_a_refused_call_is_refused(server: responses.RequestsMock, status: int) -> None:
    told = answer(server, pixel(), status=status)
    assert told.default.verdict is Verdict.REFUSED and told.halt is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_blocked_caller_halts(server: responses.RequestsMock, status: int) -> None:
    told = answer(server, pixel(), status=status)
    assert told.default.verdict is Verdict.RETURNED and told.halt


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_moved_tracker_halts_and_names_only_the_new_host(server: responses.RequestsMock, status: int) -> None:
    told = answer(server, pixel(), status=status, headers={"Location": "https://new.vk.ru/t?rb_clickid=secret"})
    assert told.default.verdict is Verdict.RETURNED
    assert told.halt and "new.vk.ru" in told.halt.advice and "secret" not in str(told.halt)
    assert len(server.calls) == 1


@pytest.mark.parametrize("headers", [{}, {"Location": "/elsewhere"}])
def test_a_redirect_to_nowhere_halts_all_the_same(server: responses.RequestsMock, headers: dict[str, str]) -> None:
    assert answer(server, pixel(), status=302, headers=headers).halt


def test_a_redirect_to_what_is_no_address_halts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    route = pixel()
    monkeypatch.setattr(route.wire, "exchange", lambda *_, **__: Reply(302, {"Location": "http://[broken"}, b""))
    assert route.send(url(action()).encode(), 1).halt


@pytest.mark.parametrize(("headers", "wait", "rest"), [({}, None, 30.0), ({"Retry-After": "7"}, 7.0, 7.0)])
def test_a_tracker_that_is_asked_too_often_is_left_alone(
    server: responses.RequestsMock, headers: dict[str, str], wait: float | None, rest: float
) -> None:
    told = answer(server, pixel(), status=429, headers=headers)
    assert (told.default.verdict, told.default.wait, told.rest) == (Verdict.LATER, wait, rest)
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 499])
def test_a_failing_tracker_may_have_counted_so_nothing_is_repeated(server: responses.RequestsMock, status: int) -> None:
    told = answer(server, pixel(), status=status)
    assert told.default.verdict is Verdict.UNKNOWN
    assert len(server.calls) == 1


def test_a_lost_answer_comes_as_the_wire_tells_it(server: responses.RequestsMock) -> None:
    with pytest.raises(Unclear):
        answer(server, pixel(), body=ReadTimeout())
    assert len(server.calls) == 1


def test_a_tracker_that_refuses_everything_stops_the_destination(server: responses.RequestsMock) -> None:
    route = pixel()
    told = [answer(server, route, status=404) for _ in range(REFUSALS_IN_A_ROW)]
    assert [one.default.verdict for one in told[:-1]] == [Verdict.REFUSED] * (REFUSALS_IN_A_ROW - 1)
    assert told[-1].default.verdict is Verdict.RETURNED and told[-1].halt


def test_a_success_between_refusals_starts_the_count_again(server: responses.RequestsMock) -> None:
    route = pixel()
    for status in (404, 404, 404, 404, 200, 404, 404, 404, 404):
        server.get(TRACKER, status=status)
    told = [route.send(url(action()).encode(), 1) for _ in range(9)]
    assert not any(one.halt for one in told)


@pytest.mark.parametrize(("status", "body"), [(200, b"GIF89a"), (200, b""), (204, b""), (202, b"<html>")])
def test_any_success_means_accepted_by_the_tracker_and_no_more(
    server: responses.RequestsMock, status: int, body: bytes
) -> None:
    told = answer(server, pixel(), status=status, body=body)
    assert (told.default.verdict, told.ref, told.poll_in) == (Verdict.ACCEPTED, None, None)
    assert "tracker" in told.default.reason


def test_the_call_leaves_as_it_was_encoded_without_body_or_credentials(server: responses.RequestsMock) -> None:
    answer(server, pixel(user_agent="shop/1.0"), body=b"GIF89a", headers={"Set-Cookie": "VID=1"})
    route = pixel()
    route.send(url(action(), 150000).encode(), 1)
    for call in server.calls:
        assert call.request.url == url(action(), 150000)
        assert call.request.body is None
        assert not {"Authorization", "Cookie"} & set(call.request.headers)
    assert server.calls[0].request.headers["User-Agent"] == "shop/1.0"


# -- check --online ----------------------------------------------------------------------------------


def test_probing_sends_nothing_and_says_that_nothing_can_be_checked(server: responses.RequestsMock) -> None:
    (finding,) = pixel().probe()
    assert (finding.level, finding.code) == ("info", "not_checkable")
    assert len(server.calls) == 0


def test_probing_warns_of_a_setting_that_may_count_twice() -> None:
    assert [finding.code for finding in pixel(on_ambiguous="retry").probe()] == ["not_checkable", "may_count_twice"]
