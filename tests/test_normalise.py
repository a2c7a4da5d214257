"""Contacts and money in canonical form: what is no address, no number or no currency never becomes one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convsync.model import Action, Person
from convsync.normalise import emails, library_phone, major, minor_units, name, person, phones, quick_phone

# --- e-mail -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "  ",
        "ivan",
        "@mail.ru",
        "ivan@",
        "ivan@mail",
        "iv an@mail.ru",
        "ivan @mail.ru",
        "ivan@@mail.ru",
        "ivan@mail..ru",
        "ivan@-mail.ru",
        "ivan@mail.r",
        "иван@mail.ru",
        "нет",
        "ivan@mail.ru x",
        "a" * 250 + "@mail.ru",
        "ivan@" + "a" * 64 + ".ru",
        "ivan@\ud800.ru",
    ],
)
def test_what_is_no_address_is_left_out(text: str | None) -> None:
    assert emails(text) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Ivan.Petrov+shop@Mail.RU ", ("ivan.petrov+shop@mail.ru",)),
        ("ivan@почта.рф", ("ivan@xn--80a1acny.xn--p1ai",)),
        ("Иван Петров <Ivan@mail.ru>", ("ivan@mail.ru",)),
        ("\u200bivan@mail.ru\ufeff", ("ivan@mail.ru",)),
        ("mailto:ivan@mail.ru", ("ivan@mail.ru",)),
        ("ivan@mail.ru.", ("ivan@mail.ru",)),
        ("a@b.ru, c@d.ru; A@B.RU / нет", ("a@b.ru", "c@d.ru")),
    ],
)
def test_addresses_are_lower_case_ascii_and_each_once(text: str, expected: tuple[str, ...]) -> None:
    assert emails(text) == expected


@given(st.text(max_size=60))
@example("İ@mail.ru")
def test_an_address_that_was_taken_is_taken_again_unchanged(text: str) -> None:
    for address in emails(text):
        assert emails(address) == (address,)
        assert address.isascii()
        assert address.count("@") == 1


_address_parts = st.text(alphabet="abz09.-_+'@A,; я", max_size=70)


@settings(max_examples=500)
@given(
    st.text(max_size=30) | st.builds("{}@{}.{}".format, _address_parts, _address_parts, st.sampled_from(["ru", "рф"]))
)
@example("a" * 60 + "@" + ".".join(["b" * 63] * 3) + ".ru")
@example("a@b.ru\n")
def test_a_clean_address_is_read_as_carefully_as_one_in_blanks(text: str) -> None:
    """A blank beside it takes the quick path away."""
    assert emails(text) == emails(f" {text}")


# --- phone ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "нет",
        "123",
        "7,91612E+10",
        "7.91612E+10",
        "+7 000 000-00-00",
        "8-800-FLOWERS",
        "80 29 123 45 67",
        "+7 916 123",
        "9" * 300,
    ],
)
def test_what_is_no_number_is_left_out(text: str | None) -> None:
    assert phones(text, "RU") == ()


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        ("+7 (916) 123-45-67", "RU", ("+79161234567",)),
        ("8 916 123 45 67", "RU", ("+79161234567",)),
        ("79161234567", "KZ", ("+79161234567",)),
        ("8 701 123 45 67", "RU", ("+77011234567",)),
        ("8 701 123 45 67", "KZ", ("+77011234567",)),
        ("8 701 123 45 67", "DE", ("+4987011234567",)),
        ("916 123 45 67 Иван", "RU", ("+79161234567",)),
        ("8 916 123-45-67 (WhatsApp)", "RU", ("+79161234567",)),
        ("+7-916-1234567 доб. 12", "RU", ("+79161234567",)),
        ("+7 916 1234567 ext 12", "RU", ("+79161234567",)),
        ("8 916 123 45 67 #12", "RU", ("+79161234567",)),
        ("тел. 8 (495) 123-45-67", "RU", ("+74951234567",)),
        ("810 375 29 1234567", "RU", ("+375291234567",)),
        ("375 29 1234567", "RU", ("+375291234567",)),
        ("+44 (0)20 7946 0018", "RU", ("+442079460018",)),
        ("8 916 123 45 67, +7 916 123-45-67; 8 495 123 45 67", "RU", ("+79161234567", "+74951234567")),
        ("89161234567 / 84951234567", "RU", ("+79161234567", "+74951234567")),
        ("79161234567.0", "RU", ("+79161234567",)),
        ("+79161234567", None, ("+79161234567",)),
        ("89161234567", None, ()),
        (
            "\u200e+7 916 123 45 67\u200f",
            "RU",
            ("+79161234567",),
        ),
    ],
)
def test_ordinary_text_of_a_crm_becomes_the_right_number(
    text: str, region: str | None, expected: tuple[str, ...]
) -> None:
    assert phones(text, region) == expected


_separators = st.text(alphabet=" -()\u00a0", max_size=2)


@st.composite
def _written_phones(draw: st.DrawFn) -> str:
    """A national number of ten digits behind a prefix, with punctuation anywhere."""
    digits = draw(st.sampled_from(["", "7", "8", "9", "93", "930", "70", "74", "76", "77", "78"]))
    digits += draw(st.text(alphabet="0123456789", min_size=10 - len(digits), max_size=10 - len(digits)))
    spaced = "".join(digit + draw(_separators) for digit in digits)
    return draw(_separators) + draw(st.sampled_from(["+7", "7", "8", ""])) + draw(_separators) + spaced


@settings(max_examples=1500, deadline=None)
@given(_written_phones(), st.sampled_from(["RU", "KZ", "US", None]))
@example("8930000 00 00", "RU")
@example("7930 059 00 00", "RU")
@example("+7(701)1234567", "RU")
@example("7 701 123 45 67", "KZ")
def test_wherever_the_fast_path_answers_the_library_says_the_same(text: str, region: str | None) -> None:
    quick = quick_phone(text, region)
    if quick is not None:
        assert quick == library_phone(text, region)


@settings(max_examples=500, deadline=None)
@given(st.text("0123456789", min_size=9, max_size=11), st.sampled_from(["+79", "+77", "+7", "+", "79", "8"]),
       st.sampled_from(["RU", "KZ", "US", None]))  # fmt: skip
@example("161234567", "+79", "US")
@example("011234567", "+77", "KZ")
def test_a_number_without_punctuation_is_read_as_one_with_it(digits: str, prefix: str, region: str | None) -> None:
    assert quick_phone(prefix + digits, region) == quick_phone(f"{prefix} ({digits[:2]}) {digits[2:]}", region)


@settings(max_examples=500, deadline=None)
@given(_written_phones(), st.sampled_from(["RU", "KZ", "US", None]))
def test_no_number_that_the_library_finds_is_lost(text: str, region: str | None) -> None:
    expected = library_phone(text, region)
    if expected is not None:
        assert phones(text, region) == (expected,)


@pytest.mark.parametrize("text", ["+79161234567", "8 (916) 123-45-67", "7 701 123 45 67", "8-747-123-45-67"])
def test_an_ordinary_mobile_number_takes_the_fast_path(text: str) -> None:
    quick = quick_phone(text, "RU")
    assert quick is not None
    assert quick == library_phone(text, "RU")


# --- names and persons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), (" - ", None), ("12", None), (" Анна  Мария ", "анна мария"), ("Weiß", "weiß")],
)
def test_names_are_folded(text: str | None, expected: str | None) -> None:
    assert name(text) == expected


def test_a_person_is_the_contacts_of_an_action() -> None:
    action = Action(
        "shop", "1", "lead", datetime(2026, 3, 1, tzinfo=UTC), email="A@b.ru", phone="89161234567", first_name="Иван"
    )
    found = person(action, "RU")
    assert found == Person(("a@b.ru",), ("+79161234567",), "иван", None)
    assert type(found) is Person
    assert person(action._replace(first_name="", last_name=" - "), "RU")[2:] == (None, None)


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("12.5", "RUB", 1250),
        ("12.345", "RUB", 1235),
        ("-12.345", "RUB", -1235),
        ("0.004", "RUB", 0),
        ("12.5", "JPY", 13),
        ("1.2345", "KWD", 1235),
        ("999999999999999.99", "USD", 99999999999999999),
        ("1.23456", "CLF", 12346),
    ],
)
def test_minor_units_round_half_away_from_zero(value: str, currency: str, minor: int) -> None:
    assert minor_units(Decimal(value), currency) == minor


@pytest.mark.parametrize("currency", ["RUR", "XXX", "rub", "", "₽"])
def test_an_unknown_currency_is_an_error(currency: str) -> None:
    with pytest.raises(ValueError, match="not a currency"):
        minor_units(Decimal(1), currency)
    with pytest.raises(ValueError, match="not a currency"):
        major(1, currency)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_an_amount_must_be_finite(value: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        minor_units(Decimal(value), "RUB")


@given(st.integers(-(10**18), 10**18), st.sampled_from(["RUB", "JPY", "KWD", "CLF"]))
def test_minor_and_major_are_each_other_backwards(minor: int, currency: str) -> None:
    assert minor_units(major(minor, currency), currency) == minor


def test_money_does_not_depend_on_the_context_of_the_caller() -> None:
    with localcontext() as context:
        context.prec = 3
        assert minor_units(Decimal("1234567.89"), "RUB") == 123456789
        assert major(123456789, "RUB") == Decimal("1234567.89")
    assert getcontext().prec != 3
