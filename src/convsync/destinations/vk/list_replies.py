"""What VK's answers to a list of offline conversions mean for its rows.

Whatever is refused is refused as a whole: nothing of the file was taken (facts, 12.2). Codes are those of the sister
resource users_lists (DOC); which of them offline_goals uses is inferred.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from convsync.destinations.vk.api import Api, said
from convsync.model import Answer, Finding, Outcome, Verdict
from convsync.net import Reply, http_fault

WAIT_FOR_MORE = 3600.0
"""Seconds until rows go again that VK found too few for a list."""
PAUSE = 30.0
"""Seconds to leave VK alone that says it is too much and not for how long."""
APART = 60.0
"""Seconds until a row goes again that must not share a request with another."""


class Meaning(NamedTuple):
    """A code that stops the route: something has to be changed."""

    code: str
    message: str
    advice: str


REFUSED = frozenset({"invalid_phone", "invalid_email", "invalid_date_time", "empty_user_id_with_non_empty_date_time"})
"""Codes of a line that say what is wrong with it."""
TWICE = "duplicated_user_id"
TOO_FEW = "not_enough_ids"
TOO_MANY = "too_many_ids"

_FORM = Meaning(
    "list_form",
    "VK cannot read the form of the list.",
    'Try list_header = "none" (or a header it names), then list_fields_mode = "data_json": VK documents neither.',
)
STOPS: Mapping[str, Meaning] = {
    "invalid_csv_header": _FORM,
    "csv_line_column_index_error": _FORM,
    "file_reading_error": _FORM,
    "invalid_md5": Meaning(
        "list_hash", "VK takes no hashes in this list, or no others.", 'Write contact_hash = "none".'
    ),
    "name": Meaning("list_name", "VK does not take the name of the list.", "Write another `list` in [actions.*]."),
    "type": Meaning("list_type", "VK does not take the kind of contacts.", "Leave phone or email out of `by`."),
    "attribution_period": Meaning(
        "list_period", "VK does not take the attribution period.", "Write another attribution_period."
    ),
}
"""By the code of a line, or by the name of a field that VK complains of."""
ALL_ROWS = Meaning(
    "rows_refused",
    "VK refuses the rows of a list, all of them or list after list: the fault is hardly in the rows, which wait.",
    "Compare contact_hash and list_header with what it said; `convsync ledger list --state refused` shows what it refused.",
)
NO_ACCESS = Meaning(
    "no_access",
    "VK does not open lists of offline conversions to this account{right}. Nothing was sent; other ways in go on.",
    "Ask your manager at VK or ads_api@vk.team for them, or take `list` out of [actions.*].",
)
GONE = Meaning(
    "no_lists", "VK knows no lists of offline conversions at this address.", "Compare api_url with the default."
)
OURS = Meaning(
    "list_refused",
    "VK does not accept the list.",
    "This may be a mistake of convsync or a change at VK: look for a newer version, or report it.",
)


def judge(api: Api, reply: Reply, rows: int, lines: Sequence[str], header: str = "") -> Answer:
    """What a reply that is not a success means. `lines`: of the file, by the position of their row.

    Raises Halted or NotSent for what VK says of tokens, rights and addresses, whatever is asked.
    """
    told = said(reply)
    match reply.status:
        case 429:
            wait = api.wait_of(reply)
            return Answer(Outcome(Verdict.LATER, told.text, wait), rest=PAUSE if wait is None else wait)
        case 413:
            return _too_large(api, told.text, rows)
        case 403 if told.code.lower() == "access_denied":
            right = f" ({told.permission})" if told.permission else ""
            return _stopped(api, NO_ACCESS._replace(message=NO_ACCESS.message.format(right=right)), told.text)
        case 404:
            return _stopped(api, GONE, told.text)
        case 401 | 403:
            raise api.fault(reply)
        case status if 300 <= status < 400:
            raise api.fault(reply)
        case 400:
            return _refused(api, told.code, told.fields, told.text, rows, lines, header)
        case status if http_fault(status) == "refused":
            return _stopped(api, OURS, told.text)
        case status:
            unprocessed = http_fault(status) == "not_processed"
            return Answer(Outcome(Verdict.LATER if unprocessed else Verdict.UNKNOWN, told.text))


def enough(api: Api, answer: Answer) -> Answer:
    """The same answer, and nothing more to be sent in this run."""
    return replace(answer, halt=_finding(api, ALL_ROWS, "HTTP 400"))


def _refused(
    api: Api, code: str, fields: Mapping[str, Any], text: str, rows: int, lines: Sequence[str], header: str
) -> Answer:
    complaints = [one for name, told in fields.items() for one in _complaints(told, name)]
    codes = {code, *(one.code for one in complaints)}
    if TOO_FEW in codes and not codes & REFUSED:
        message = f"VK found {rows} rows too few for a list."
        finding = api.finding("warning", "list_too_short", message, "Raise list_min_rows.")
        return Answer(Outcome(Verdict.RETURNED, text, WAIT_FOR_MORE), findings=(finding,))
    if TOO_MANY in codes:
        return _too_large(api, text, rows)
    stops = next((STOPS[word] for word in (*codes, *(one.field for one in complaints)) if word in STOPS), None)
    if header and any(one.line == header for one in complaints):
        stops = _FORM  # it was read as a row
    if stops is not None:
        return _stopped(api, stops, text)
    if not complaints or not codes & {*REFUSED, TWICE}:
        return _stopped(api, OURS, text)
    return _some(api, complaints, text, lines)


def _some(api: Api, complaints: Sequence[_Complaint], text: str, lines: Sequence[str]) -> Answer:
    """Lines that VK names, by what stands in them: how it counts them is not established. The others go again."""
    found: dict[int, Outcome] = {}
    unknown, twice, places = 0, set[int](), _places(lines)
    for one in complaints:
        if one.code not in REFUSED and one.code != TWICE:
            continue  # its turn comes when nothing else is wrong with the list
        at = places.get(one.line)
        if at is None:
            unknown += 1
        elif one.code == TWICE:
            twice.add(at)
        else:
            found[at] = Outcome(Verdict.REFUSED, f"HTTP 400 {one.code}")
    if len(found) == len(lines) > 1:
        return _stopped(api, ALL_ROWS, text)
    found |= dict.fromkeys(_later(lines, twice), Outcome(Verdict.LATER, "VK takes this contact once in a list", APART))
    if unknown and not found:
        message = f"VK refused {unknown} lines of a list and does not say what stands in them."
        advice = "All of its rows are tried again, and held after max_attempts. Please report this."
        return Answer(
            Outcome(Verdict.LATER, text), findings=(api.finding("warning", "lines_unknown", message, advice),)
        )
    return Answer(Outcome(Verdict.RETURNED, "VK refused other lines of its list"), found)


def _places(lines: Sequence[str]) -> dict[str, int]:
    return {line: at for at, line in enumerate(lines)}


def _later(lines: Sequence[str], named: Collection[int]) -> list[int]:
    """Which of the lines that VK will not have beside each other wait: where it names all of a contact, not the first."""
    of: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        of.setdefault(line.partition(",")[0], []).append(at)
    kept = {all_[0] for all_ in of.values() if len(all_) > 1 and all(at in named for at in all_)}
    return [at for at in named if at not in kept]


def _too_large(api: Api, text: str, rows: int) -> Answer:
    if rows > 1:
        return Answer(Outcome(Verdict.RETURNED, text), split=True)
    return _stopped(api, OURS, text)


def _stopped(api: Api, meaning: Meaning, text: str) -> Answer:
    return Answer(Outcome(Verdict.RETURNED, text), halt=_finding(api, meaning, text))


def _finding(api: Api, meaning: Meaning, text: str) -> Finding:
    return api.finding("error", meaning.code, f"{meaning.message} It said: {text.rstrip('.')}.", meaning.advice)


class _Complaint(NamedTuple):
    field: str
    code: str
    line: str


def _complaints(told: Any, field: str) -> Iterator[_Complaint]:
    """What VK says of a field or its lines: a word, an object, a list, or either of them deeper (DOC API overview)."""
    if isinstance(told, list):
        for one in told:
            yield from _complaints(one, field)
    elif isinstance(told, dict):
        if isinstance(told.get("code"), str):
            yield _Complaint(field, told["code"], str(told.get("line") or "").strip())
        for value in told.values():
            if isinstance(value, dict | list):
                yield from _complaints(value, field)
    elif isinstance(told, str):
        yield _Complaint(field, told, "")
