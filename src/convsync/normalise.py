"""Pure text work: contacts in canonical form, and money in integer minor units. Hashing belongs to the destinations."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Context, Decimal

from convsync.model import Action, Person

_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
_SEVERAL = re.compile(r"[,;/\n]")

# --- e-mail -----------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+=?^_`{|}~-]+@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})"
).fullmatch
# What most addresses look like: some of what _EMAIL takes, so neither blanks, separators nor capitals to fold.
_CLEAN_EMAIL = re.compile(r"[a-z0-9._+-]{1,64}+@(?:[a-z0-9]{1,63}+\.)+[a-z]{2,63}").fullmatch
_IN_BRACKETS = re.compile(r"[^<>]*<([^<>]+)>").fullmatch
_LONGEST_EMAIL = 254


def emails(text: str | None) -> tuple[str, ...]:
    """The e-mail addresses in a cell, lower-case and in ASCII, each once; what is no address is left out.

    A name before the @ that is not Latin is no address: no advertising platform has an account under one.
    """
    if not text:
        return ()
    if _CLEAN_EMAIL(text) and len(text) <= _LONGEST_EMAIL:
        return (text,)
    if "," not in text and ";" not in text and "/" not in text and "\n" not in text:
        one = _email(text)
        return (one,) if one else ()
    found = (_email(part) for part in _SEVERAL.split(text))
    return tuple(dict.fromkeys(address for address in found if address))


def _email(text: str) -> str | None:
    address = text.strip().casefold()
    if len(address) <= _LONGEST_EMAIL and _EMAIL(address):
        return address
    return _odd_email(address)


def _odd_email(text: str) -> str | None:
    """Pasted and Cyrillic addresses: `Иван <ivan@example.ru>`, `ivan@пример.рф`, invisible characters, a last point."""
    bracketed = _IN_BRACKETS(_INVISIBLE.sub("", text).strip())
    address = (bracketed[1] if bracketed else _INVISIBLE.sub("", text)).strip().removeprefix("mailto:").rstrip(".")
    name, at, domain = address.rpartition("@")
    if not at or len(domain) > _LONGEST_EMAIL:
        return None
    try:
        address = f"{name}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return None
    return address if len(address) <= _LONGEST_EMAIL and _EMAIL(address) else None


# --- phone ------------------------------------------------------------------------------------------------------------

# The national part after +7, 7 or 8 where the numbering plan has no exceptions: Russian mobile numbers except the
# block 930 0, and Kazakh ones. A test proves that the library says the same about every number that this takes.
_NATIONAL = r"(9(?:[0-24-9][0-9]{2}|3[1-9][0-9])[0-9]{6}|7(?:0[0-25-8]|47|7[15-8])[0-9]{7})"
_INTERNATIONAL = re.compile(r"\+7" + _NATIONAL).fullmatch
_IN_RUSSIA = re.compile(r"(?:\+7|7|8)" + _NATIONAL).fullmatch
_IN_KAZAKHSTAN = re.compile(r"(?:\+7|8)" + _NATIONAL).fullmatch
_FAST = {"RU": _IN_RUSSIA, "KZ": _IN_KAZAKHSTAN}
_PUNCTUATION = str.maketrans("", "", " -()\u00a0")
_NUMBER = re.compile(r"[+0-9][^a-zа-яё#]*", re.IGNORECASE)
_POINT_ZERO = re.compile(r"[0-9]{10,15}\.0").fullmatch
_LONGEST_PHONE = 100


def phones(text: str | None, region: str | None) -> tuple[str, ...]:
    """The phone numbers in a cell, in E.164, each once; what is no valid number is left out.

    `region` is the country of numbers without a country code. A number counts when its numbering plan has it
    (`is_valid_number`): a merely possible one would make a wrong person out of a truncated or mistyped number.
    """
    if not text:
        return ()
    quick = quick_phone(text, region)
    if quick is not None:
        return (quick,)
    found = (_phone(part, region) for part in _SEVERAL.split(text))
    return tuple(dict.fromkeys(number for number in found if number))


def quick_phone(text: str, region: str | None) -> str | None:
    """The number, if the text is one of the ordinary forms of a Russian or Kazakh mobile number."""
    if _INTERNATIONAL(text):  # +7 and nothing to take out: every region reads it so
        return text
    match = _FAST.get(region or "", _INTERNATIONAL)(text.translate(_PUNCTUATION))
    return "+7" + match[1] if match else None


def _phone(text: str, region: str | None) -> str | None:
    """Words before and after the number are cut (`тел.`, `доб. 12`, `(WhatsApp)`), then the library decides."""
    match = _NUMBER.search(_INVISIBLE.sub("", text[:_LONGEST_PHONE]))
    if not match:
        return None
    number = match[0].strip()
    if _POINT_ZERO(number):
        number = number[:-2]
    found = library_phone(number, region)
    if found is None and not number.startswith("+"):
        digits = "".join(filter(str.isdigit, number))
        # An international number that lost its plus on the way: eleven digits or more, and valid only with it.
        found = library_phone("+" + digits, None) if len(digits) >= 11 else None
    return found


def library_phone(text: str, region: str | None) -> str | None:
    """What the numbering plans of `phonenumbers` make of one number."""
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# --- person -----------------------------------------------------------------------------------------------------------


def name(text: str | None) -> str | None:
    """A first or last name in small letters, single blanks inside; without any letter it is no name."""
    if not text:
        return None
    folded = " ".join(text.lower().split())
    return folded if any(map(str.isalpha, folded)) else None


def person(action: Action, region: str | None) -> Person:
    """The contacts of an action in canonical form."""
    email, phone, first, last = action.email, action.phone, action.first_name, action.last_name
    contacts = (emails(email), phones(phone, region), name(first) if first else None, name(last) if last else None)
    return tuple.__new__(Person, contacts)  # as Person(...), without the call of its constructor in Python


# --- money ------------------------------------------------------------------------------------------------------------

_TWO_DIGITS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE
CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW
KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK
PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS
UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_NO_DIGITS = """
BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF
"""
_THREE_DIGITS = """
BHD IQD JOD KWD LYD OMR TND
"""
_EXPONENTS = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
_FACTORS = {code: Decimal(10) ** exponent for code, exponent in _EXPONENTS.items()}
# Wide enough never to round by itself, and independent of what the caller's context says.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)


def is_currency(code: str) -> bool:
    return code in _EXPONENTS


def _unknown(code: str) -> ValueError:
    return ValueError(f"{code[:10]} is not a currency of ISO 4217.")


def minor_units(value: Decimal, currency: str) -> int:
    """An amount in integer minor units (kopecks, cents). Half a unit is rounded away from zero, as invoices are."""
    factor = _FACTORS.get(currency)
    if factor is None:
        raise _unknown(currency)
    if not value.is_finite():
        raise ValueError("An amount must be finite.")
    scaled = _EXACT.multiply(value, factor)
    whole = int(scaled)
    return whole if whole == scaled else int(scaled.to_integral_value(context=_EXACT))


def major(minor: int, currency: str) -> Decimal:
    """The amount in major units, with as many digits as the currency has: 1250 RUB is 12.50."""
    if currency not in _EXPONENTS:
        raise _unknown(currency)
    return _EXACT.scaleb(Decimal(minor), -_EXPONENTS[currency])
