"""Rows become actions, or bad rows that say where and why without showing a contact."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.errors import SourceError
from convsync.model import Action, BadRow
from convsync.sources.delimited import CsvSource
from convsync.sources.fields import FieldMap, FieldOptions
from convsync.sources.jsonl import JsonlSource
from convsync.sources.sql import SqlSource

COLUMNS = ["external_id", "action", "occurred_at"]
GOOD = ["1", "lead", "2026-03-01T09:00:00Z"]
NOON = datetime(2026, 3, 1, 9, tzinfo=UTC)


def take(cells: dict[str, Any], options: FieldOptions | None = None) -> Action | BadRow:
    """What becomes of one row with these cells, beside an id, a name and a time."""
    row = {**dict(zip(COLUMNS, GOOD, strict=True)), **cells}
    mapping = FieldMap("shop", options or {})
    rows = mapping.compile(mapping.resolve(list(row), "table"), list(row))
    actions, bad = rows.read([tuple(row.values())], lambda _row: "row 1")
    assert len(actions) + len(bad) == 1
    return (*actions, *bad)[0]


def refused(cells: dict[str, Any], options: FieldOptions | None = None) -> BadRow:
    found = take(cells, options)
    assert isinstance(found, BadRow)
    return found


def taken(cells: dict[str, Any], options: FieldOptions | None = None) -> Action:
    found = take(cells, options)
    assert isinstance(found, Action)
    return found


@pytest.mark.parametrize("field", COLUMNS)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_an_action_needs_an_id_a_name_and_a_time(field: str, empty: object) -> None:
    assert refused({field: empty}) == BadRow(
        "shop", "row 1", field, "is missing", "An action needs an id, a name and a time."
    )


IDS = (
    "external_id order_id gclid gbraid wbraid yclid rb_clickid ym_client_id vk_user_id ga_client_id user_id campaign_id"
)


@pytest.mark.parametrize("field", IDS.split())
@pytest.mark.parametrize("value", ["1.23E+18", "1,23E+18", 1.23e18])
def test_every_id_is_guarded_against_spreadsheets(field: str, value: object) -> None:
    bad = refused({field: value})
    assert bad.field == field
    assert "damaged" in bad.problem
    assert bad.advice


@pytest.mark.parametrize("field", ["email", "phone", "first_name", "last_name"])
@pytest.mark.parametrize("value", [b"ivan@mail.ru", ["ivan@mail.ru"], {"is": "ivan@mail.ru"}])
def test_a_bad_contact_is_never_shown(field: str, value: object) -> None:
    bad = refused({field: value})
    assert bad.field == field
    assert "ivan" not in "".join(bad)


def test_a_contact_column_is_hidden_whatever_else_it_is_mapped_to() -> None:
    cells = {"email": "1.5E+10"}
    for options in ({"fields": {"yclid": "email"}}, {"id": "email"}):
        bad = refused(cells, options)  # type: ignore[arg-type]
        assert "1.5E" not in "".join(bad)


@given(st.dictionaries(st.sampled_from(["value", "status", "consent_ad_user_data", "currency", "gclid"]), st.text()))
def test_a_row_becomes_an_action_or_a_bad_row_and_never_an_exception(cells: dict[str, str]) -> None:
    take(cells)


def test_a_column_named_as_our_field_needs_no_line_and_an_empty_name_switches_it_off() -> None:
    assert taken({"gclid": "x"}).gclid == "x"
    assert taken({"status": "Won"}, {"fields": {"status": ""}}).status == "active"
    assert refused({"status": "Won"}).field == "status"


def test_a_row_is_read_field_by_field() -> None:
    cells = {
        "kind": "sale",
        "value": "10.5",
        "currency": "rur",
        "status": "canceled",
        "consent_ad_user_data": "да",
        "phone": 7.9e10,
    }
    action = taken({**cells, "utm_source": " ", "utm_term": 5}, {"fields": {"action": "kind"}})
    expected = Action("shop", "1", "sale", NOON, value=Decimal("10.5"), currency="RUB", status="cancelled")
    assert action == expected._replace(consent_ad_user_data=True, phone="79000000000", utm_term="5")
    assert type(action) is Action


def test_a_value_without_a_currency_stays_an_action_for_the_mapping_to_judge() -> None:
    assert taken({"value": 5}).currency is None
    assert taken({"value": 5}, {"currency": "RUB"}).currency == "RUB"
    assert taken({"value": 5, "currency": "USD"}, {"currency": "RUB"}).currency == "USD"
    assert taken({"value": None}, {"currency": "RUB"}).currency is None


def test_what_is_constant_fills_empty_cells() -> None:
    options: FieldOptions = {"action": "lead", "consent_ad_user_data": False}
    assert taken({"action": ""}, options).action == "lead"
    assert taken({"consent_ad_user_data": None}, options).consent_ad_user_data is False
    assert taken({"consent_ad_user_data": "yes"}, options).consent_ad_user_data is True


@pytest.mark.parametrize(
    ("written", "read"),
    [("new", "new"), (" Returning ", "returning"), ("REENGAGED", "reengaged"), ("re-engaged", "reengaged"), ("", None)],
)
def test_a_kind_of_customer_is_one_of_googles_three(written: str, read: str | None) -> None:
    assert taken({"customer_type": written}).customer_type == read


@pytest.mark.parametrize("word", ["existing", "VIP", True, 1, "+7 916 123-45-67"])
def test_another_kind_of_customer_is_a_bad_row_that_tells_the_words(word: object) -> None:
    bad = refused({"customer_type": word})
    assert (bad.field, bad.advice) == ("customer_type", "Allowed: new, returning, reengaged, or empty.")
    assert "916" not in bad.problem


def test_a_call_begins_at_a_time_like_any_other() -> None:
    assert (
        taken({"call_start_at": "2026-03-01 12:00:00"}, {"timezone": ZoneInfo("Europe/Moscow")}).call_start_at == NOON
    )
    assert taken({"call_start_at": ""}).call_start_at is None
    assert refused({"call_start_at": "2026-03-01 12:00:00"}).problem == "is a naive time without a zone"


PLAN: FieldOptions = {"custom_variables": {"plan": "tariff", "Город": "city"}}


def test_custom_variables_are_text_under_the_names_that_google_knows() -> None:
    action = taken({"tariff": " gold ", "city": 7.0}, PLAN)
    assert action.custom_variables == (("plan", "gold"), ("Город", "7"))
    assert taken({"tariff": "  ", "city": None}, PLAN).custom_variables == ()
    assert taken({"tariff": None, "city": "x"}, PLAN).custom_variables == (("Город", "x"),)
    assert taken({"TARIFF": "gold", "city": ""}, PLAN).custom_variables == (("plan", "gold"),)


def test_a_column_named_custom_variables_is_nobodys_field() -> None:
    assert taken({"custom_variables": "gold"}).custom_variables == ()


def test_a_custom_variable_that_is_no_text_says_which_it_is() -> None:
    bad = refused({"tariff": "gold", "city": b"\xff"}, PLAN)
    assert (bad.field, bad.problem) == ("custom_variables", "(Город) holds bytes that are not text in UTF-8")


def test_a_column_of_a_custom_variable_has_to_be_there() -> None:
    with pytest.raises(SourceError, match=r"no column city\. There are: .*tariff"):
        take({"tariff": "gold"}, PLAN)


@pytest.mark.parametrize(
    ("fields", "column"), [({}, "email"), ({"phone": "Tel"}, "tel"), ({"first_name": "who", "user_id": "who"}, "who")]
)
def test_a_custom_variable_never_reads_a_contact(fields: dict[str, str], column: str) -> None:
    options: FieldOptions = {"fields": fields, "custom_variables": {"plan": column}}
    with pytest.raises(SourceError, match=r"plan reads .*, which holds a contact") as caught:
        take({"email": "a@b.ru", "Tel": "1", "who": "Ivan"}, options)
    assert "never sent in clear" in caught.value.advice


def test_prices_of_a_cart_have_the_currency_of_the_source_too() -> None:
    cart = '[{"quantity": 1, "price": "5"}]'
    options: FieldOptions = {"currency": "RUB"}
    assert taken({"cart": cart}, options).currency == "RUB"
    assert taken({"cart": cart, "value": None}, options).currency == "RUB"
    assert taken({"cart": "", "value": 1}, options).currency == "RUB"
    assert taken({"cart": "", "value": None}, options).currency is None
    assert taken({"cart": cart, "currency": "USD"}, options).currency == "USD"


@given(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=2),
    st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=2),
)
def test_two_different_pairs_of_ids_never_read_alike(one: list[str], other: list[str]) -> None:
    options: FieldOptions = {"id": ("a", "b")}
    first, second = (take({"a": pair[0], "b": pair[1]}, options) for pair in (one, other))
    if isinstance(first, Action) and isinstance(second, Action):
        same = [part.strip() for part in one] == [part.strip() for part in other]
        assert (first.external_id == second.external_id) == same


def test_several_ids_are_joined_by_a_colon_and_none_may_be_empty() -> None:
    assert taken({"deal": 7, "stage": "won"}, {"id": ["deal", "stage"]}).external_id == "7:won"
    assert refused({"deal": 7, "stage": ""}, {"id": ["deal", "stage"]}).field == "external_id"


@pytest.mark.parametrize("options", [{"fields": {"gclid": "glcid"}}, {"id": "glcid"}])
def test_a_column_that_is_not_there_is_named_with_the_nearest(options: FieldOptions) -> None:
    with pytest.raises(SourceError, match=r"no column glcid\. Did you mean gclid\?"):
        take({"gclid": "x"}, options)


def test_a_source_without_a_time_is_an_error_and_not_a_thousand_bad_rows() -> None:
    mapping = FieldMap("shop", {"id": "id"})
    with pytest.raises(SourceError, match="no column for action"):
        mapping.resolve(["id", "occurred_at"], "table")
    with pytest.raises(SourceError, match=r"no column for occurred_at.*Did you mean occured_at\?"):
        mapping.resolve(["id", "action", "occured_at"], "table")


@pytest.mark.parametrize("options", [{"fields": {"emial": "e"}}, {"currency": "RUR"}, {"statuses": {"Won": "won"}}])
def test_a_mapping_that_cannot_work_is_refused_at_once(options: FieldOptions) -> None:
    with pytest.raises(SourceError):
        FieldMap("shop", options)


def test_one_status_word_that_shall_mean_two_things_is_refused() -> None:
    with pytest.raises(SourceError, match="Отменён and ОТМЕНЕН are one word, and mean two things"):
        FieldMap("shop", {"statuses": {"Отменён": "cancelled", "ОТМЕНЕН": "refunded"}})
    FieldMap("shop", {"statuses": {"Отменён": "cancelled", "отменен": "cancelled"}})


def test_letter_case_of_a_named_column_does_not_matter_unless_it_tells_two_apart() -> None:
    assert taken({"Kind": "sale"}, {"fields": {"action": "kind"}}).action == "sale"
    with pytest.raises(SourceError):
        take({"Kind": "sale", "KIND": "lead"}, {"fields": {"action": "kind"}})


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        (SqlSource, {"url": "sqlite:///x", "table": "t"}),
        (CsvSource, {"path": "x"}),
        (JsonlSource, {"path": "x"}),
    ],
)
def test_an_option_that_a_source_does_not_have_is_an_error_of_the_caller(source: Any, needed: dict[str, str]) -> None:
    assert source("shop", **needed).name == "shop"
    with pytest.raises(TypeError, match="delimeter"):
        source("shop", **needed, delimeter=";")


def test_the_cost_of_what_was_sold_is_money_as_its_value_is() -> None:
    action = taken({"value": "100,5", "cost": "40,25"}, {"decimal_comma": True, "currency": "RUB"})
    assert (action.value, action.cost, action.currency) == (Decimal("100.5"), Decimal("40.25"), "RUB")
    bad = refused({"cost": "a lot"})
    assert (bad.field, bad.problem) == ("cost", 'is not a number: "a lot"')


def test_a_cost_alone_asks_for_no_currency() -> None:
    action = taken({"cost": 5}, {"currency": "RUB"})
    assert (action.cost, action.currency) == (Decimal(5), None)
