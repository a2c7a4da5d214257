"""Who did it: the ids and contacts that Metrica knows people by, in the form it takes, or in words why they are none."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from convsync.model import Person
from convsync.normalise import quick_phone

ID_LENGTH = 255
EMAIL = re.compile(r"[^\s@]@[^\s@]+\.[^\s@]")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_CLIENT_ID = re.compile(r"\d{6,20}", re.ASCII).fullmatch
_YCLID = re.compile(r"\d{6,32}", re.ASCII).fullmatch
_ENDS = re.compile(r"[\s,;\"]").search
_BETWEEN = re.compile(r"[\s,;/]+")

_POINT_ZERO = (re.compile(r"\d+[.,]0+", re.ASCII), "a spreadsheet or a float column has damaged it (it ends in .0)")
_ANALYTICS = (
    re.compile(r"(GA\d\.\d\.)?\d+\.\d+", re.ASCII),
    "it looks like an id of Google Analytics (digits, dot, digits)",
)
_EXPONENT = (re.compile(r"\d+([.,]\d+)?[eE]\+?\d+", re.ASCII), "a spreadsheet has damaged it (1.6E+18)")

DAMAGED = (_POINT_ZERO, _ANALYTICS, _EXPONENT)
"""What is found in place of a ClientID, the first that fits. One that a spreadsheet rounded to zeros cannot be told."""
ADVICE_CLIENT_ID = "a ClientID is 6 to 20 digits, from ym(counter, 'getClientID') on the site"
ADVICE_YCLID = "a yclid is digits only, as it stands in the address of the page that the click opened"


class Ids(NamedTuple):
    """Those ids of a cell that are good and, where none is, why not (empty: the cell is)."""

    good: list[str]
    why: str = ""


NONE = Ids([])


def client_ids(cell: str | None) -> Ids:
    """The ClientIDs of one person, between commas, semicolons, blanks or slashes, each once.

    A ClientID is an unsigned number of 64 bits, kept as text: 17 to 20 digits on real sites, and shorter ones in the
    samples of the documentation. DOC M/management/offline-conv
    """
    text = (cell or "").strip()
    if _CLIENT_ID(text):
        return Ids([text])
    if not text:
        return NONE
    parts = [text] if _damage(text, DAMAGED) else dict.fromkeys(part for part in _BETWEEN.split(text) if part)
    good = [part for part in parts if _CLIENT_ID(part)]
    if good:
        return Ids(good)
    whys = dict.fromkeys(_damage(part, DAMAGED) or "it has another form" for part in parts)
    return Ids([], f"ym_client_id: {', or '.join(whys) or 'it holds none'}; {ADVICE_CLIENT_ID}")


def yclid(cell: str | None) -> Ids:
    """The id of a click, which Direct puts into the address of the page it opens."""
    text = (cell or "").strip()
    if _YCLID(text):
        return Ids([text])
    if not text:
        return NONE
    why = _damage(text, (_POINT_ZERO, _EXPONENT)) or "it has another form"
    return Ids([], f"yclid: {why}; {ADVICE_YCLID}")


def user_id(cell: str | None) -> Ids:
    """The site's own name of a visitor (`setUserID`). It leaves as it is, so it may not be a contact."""
    text = (cell or "").strip()
    if not text:
        return NONE
    if is_contact(text):
        why = "it is an e-mail address or a phone number, which never leave in clear; let setUserID and CRM share an id"
        return Ids([], f"user_id: {why} that says nothing of the person")
    wrong = bad_text(text)
    return Ids([], f"user_id: it {wrong}") if wrong else Ids([text])


def bad_text(text: str) -> str:
    """What is wrong with an id that people make up ("it …"), or nothing."""
    if len(text) > ID_LENGTH:
        return f"is longer than {ID_LENGTH} characters: give the source a shorter one"
    if CONTROL.search(text):
        return "holds a line break or a control character: clean it at the source"
    return ""


def bad_order(text: str) -> str:
    """The same of the id of a deal, which leaves as it is."""
    if "@" in text and EMAIL.search(text):
        return "holds an e-mail address, which would leave in clear: name the deal by something else"
    return bad_text(text)


def is_contact(text: str) -> bool:
    """Whether an id is in truth an e-mail address or a phone number."""
    return "@" in text or text.startswith("+") or quick_phone(text, "RU") is not None


def customer(cell: str | None) -> str | None:
    """The CRM's id of a customer. One that is a contact in disguise leaves as its hash; it only has to be stable."""
    text = (cell or "").strip()
    if not text or bad_text(text):
        return None
    return md5(text.lower()) if is_contact(text) else text


def emails(person: Person) -> list[str]:
    """As Metrica normalises them: lower-case Latin. DOC DH/statistics/conversions

    A comma or a blank would be read as the end of an address.
    """
    return [email for email in person.emails if email.isascii() and not _ENDS(email)]


def phones(person: Person) -> list[str]:
    """Digits with the country code. DOC DH/statistics/conversions"""
    return [text for phone in person.phones if (text := phone.lstrip("+")).isdecimal() and text.isascii()]


def md5(text: str) -> str:
    """As the platform wants contacts. It protects from a glance, not from a search: ledger and files stay private."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _damage(text: str, patterns: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    return next((words for pattern, words in patterns if pattern.fullmatch(text)), "")
