"""`check --online`: what of a counter keeps conversions from counting, although uploads are answered with success.

A goal that is missing, of another kind or spelled otherwise is not refused: its conversions reach nothing (facts: no
result per row). So they are looked at before anything is sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from convsync.destinations.yandex.metrica import Metrica, zone_of
from convsync.destinations.yandex.readings import (
    JAVASCRIPT,
    Counter,
    Goal,
    counter,
    goals,
    shown,
    wanted,
)
from convsync.destinations.yandex.uploadings import Uploading
from convsync.errors import Halted, NotSent, WireError
from convsync.model import Finding

LINKING = timedelta(days=21)
"""How long after the last visit a conversion, or a new order, is still linked. DOC M/management/conversion."""
CHANGES = timedelta(days=111)
"""How long after the visit an order that is linked may change. DOC M/data-import/contacts."""
MAY_CHANGE = frozenset(("own", "edit"))
MAY_LOOK = frozenset(("view", "analyst", "view_access_filter", "analyst_access_filter"))
"""`permission` of a counter. DOC M/management/openapi/counter/counter."""
SHOWN = 5
NEAR = 0.8
"""How alike two spellings have to be, of 1, to be taken for a slip: crm_lead and new_lead are not."""


class Lack(NamedTuple):
    """Why nothing that is uploaded for an identifier would reach a goal."""

    identifier: str
    code: str
    message: str
    advice: str
    near: Goal | None = None
    """The goal that was probably meant."""


def lack(identifier: str, known: Sequence[Goal]) -> Lack | None:
    """None for the identifier of a JavaScript goal with the condition "matches"; else what is there instead."""
    if any(identifier in one.identifiers for one in known):
        return None
    there = next((one for one in known if any(text == identifier for _, text in one.conditions)), None)
    if there is not None and there.type == JAVASCRIPT:
        kind = next(kind for kind, text in there.conditions if text == identifier)
        message = f"the goal {_named(there)} is reached by the condition {shown(kind)}, and uploads need `exact`."
        advice = "Change its condition to `matches` in Metrica, or name another goal."
        return Lack(identifier, "goal_not_exact", message, advice, there)
    if there is not None:
        message = f"the goal {_named(there)} is of type {shown(there.type)}, and uploads reach JavaScript events only."
        return Lack(identifier, "goal_type", message, f"Make a goal of that type for it. {MAKE}", there)
    fit = {text: one for one in known for text in one.identifiers}
    same = next((text for text in fit if text.casefold() == identifier.casefold()), None)
    if same is not None:
        message = f"there is no goal {identifier}, but {shown(same)}: capital and small letters are told apart."
        return Lack(identifier, "goal_case", message, f'Write "{shown(same)}" in the configuration.', fit[same])
    called = [one for one in fit.values() if identifier.casefold() in (one.id, one.name.casefold())]
    if called:
        what = "number" if called[0].id == identifier else "name"
        message = (
            f"{identifier} is the {what} of a goal; uploads go by its identifier, {shown(called[0].identifiers[0])}."
        )
        advice = f'Write "{shown(called[0].identifiers[0])}" in the configuration.'
        return Lack(identifier, "goal_identifier", message, advice, called[0])
    near = difflib.get_close_matches(identifier.casefold(), folded := {text.casefold(): text for text in fit}, 1, NEAR)
    message = f"there is no JavaScript goal {identifier}."
    if near:
        meant = folded[near[0]]
        return Lack(identifier, "no_goal", message, f"Did you mean {shown(meant)}? If not: {MAKE}", fit[meant])
    some = f"There are {', '.join(shown(text) for text in list(fit)[:SHOWN])}. " if fit else ""
    return Lack(identifier, "no_goal", message, f"{some}{MAKE}")


MAKE = "`convsync yandex goals create` makes those that are missing."


def _named(goal: Goal) -> str:
    return f"{goal.id} ({shown(goal.name)})"


# -- check --online


def orders(
    metrica: Metrica, targets: Sequence[Any], *, zone: str, link_window: timedelta, clear: bool
) -> list[Finding]:
    """For the route of orders: the counter, the goals of all targets, and whether orders may be uploaded.

    `zone`: the configured time zone, empty if the counter is asked. `clear`: contacts leave unhashed. Nothing if targets
    are goals alone, for `conversions` tells then.
    """
    if targets and not any(target.status for target in targets):
        return []
    told = _read(metrica)
    if isinstance(told, Counter):
        found = [*_permission(metrica, told), *_zone(metrica, told, zone), *_goals(metrica, targets)]
    elif told.code == "no_rights" and zone:
        found = list(_unseen(metrica, targets))
    elif told.code == "no_rights":
        return [unread(told)]
    else:
        return [told]
    found += [*_window(metrica, link_window), *_uploads_of_orders(metrica)]
    if isinstance(told, Counter) and not any(one.level == "error" for one in found):
        found += _contacts(metrica, told)
    if clear:
        message = "contact_hash is none: e-mails and phones stand in clear in the ledger until Metrica has taken them."
        found.append(metrica.note("warning", "contacts_in_clear", message, 'Write contact_hash = "md5".'))
    return found


def conversions(
    metrica: Metrica, targets: Sequence[Any], *, link_window: timedelta, last: Callable[[], Uploading | None]
) -> list[Finding]:
    """For the route of conversions: whether they may be uploaded; the counter and goals, too, unless `orders` tells.

    `last` asks for the newest upload. Nothing if no target is a goal.
    """
    if not any(target.goal for target in targets):
        return []
    if any(target.status for target in targets):
        return list(_uploads_of_conversions(metrica, last))
    told = _read(metrica)
    if isinstance(told, Counter):
        found = [*_permission(metrica, told), *_goals(metrica, targets)]
    elif told.code == "no_rights":
        found = list(_unseen(metrica, targets))
    else:
        return [told]
    found += [*_window(metrica, link_window), *_may_upload(metrica)]
    return [*found, *_uploads_of_conversions(metrica, last)]


def _read(metrica: Metrica) -> Counter | Finding:
    """The counter, or the one thing that keeps everything from working."""
    try:
        told = counter(metrica)
    except Halted as stop:
        return stop.finding
    except NotSent as fault:
        return metrica.note("error", "no_answer", *no_answer(fault))
    if told.status == "Deleted":
        message = "it has been deleted; nothing that is uploaded to it counts."
        return metrica.note("error", "counter_deleted", message, "Restore it in Metrica, or name another counter.")
    return told


def unread(refused: Finding) -> Finding:
    """The refusal to tell of the counter, with the way to do without."""
    hint = "If the token may only upload, set `counter_timezone`: then nothing is asked."
    return refused._replace(advice=f"{refused.advice} {hint}") if refused.code == "no_rights" else refused


def _unseen(metrica: Metrica, targets: Sequence[Any]) -> Iterator[Finding]:
    """A token that may only upload is enough where no order needs the counter's time zone; its goals go unseen."""
    if named := wanted(targets):
        message = f"the token may not read it, so nobody looked whether it has these goals: {', '.join(named)}."
        yield metrica.note("warning", "goals_unseen", message, "Give the token the right metrika:read, too.")


def _permission(metrica: Metrica, told: Counter) -> Iterator[Finding]:
    if told.permission in MAY_LOOK:
        message = "the token's account may look at the counter but not change it, so uploads will be refused."
        yield metrica.note("error", "no_rights", message, "Give the account edit access in Metrica's settings.")
    elif told.permission not in MAY_CHANGE:
        word = f" ({shown(told.permission)})" if told.permission else ""
        yield metrica.note("info", "permission_untold", f"the counter is there; Metrica did not tell our rights{word}.")


def _zone(metrica: Metrica, told: Counter, configured: str) -> Iterator[Finding]:
    if zone_of(told.time_zone) is None:
        if not configured:
            message = "Metrica did not tell a time zone that is known here."
            yield metrica.note("error", "time_zone", message, 'Set counter_timezone, for example "Europe/Moscow".')
    elif configured and configured != told.time_zone:
        message = f"its time zone is {told.time_zone}, but counter_timezone is {configured}: orders may shift by hours."
        yield metrica.note("warning", "time_zone", message, "Remove counter_timezone: then the counter is asked.")
    else:
        yield metrica.note("info", "time_zone", f"orders are dated in its time zone, {told.time_zone}.")


def _goals(metrica: Metrica, targets: Sequence[Any]) -> Iterator[Finding]:
    named = wanted(targets)
    if not named:
        return
    try:
        known = goals(metrica)
    except Halted as stop:
        yield stop.finding
        return
    except NotSent as fault:
        message, advice = no_answer(fault)
        yield metrica.note("warning", "goals_unseen", f"its goals were not looked at: {message}", advice)
        return
    wrong = [found for identifier in named if (found := lack(identifier, known))]
    for one in wrong:
        yield metrica.note("error", one.code, one.message, one.advice)
    sound = [identifier for identifier in named if identifier not in {one.identifier for one in wrong}]
    if sound:
        yield metrica.note("info", "goals_ready", f"JavaScript goals that can be uploaded to: {', '.join(sound)}.")


def _contacts(metrica: Metrica, told: Counter) -> Iterator[Finding]:
    """That the flag is the switch of Advanced Matching is read from its description: it uses contacts that visitors
    leave on the site. DOC M/management/openapi/counter/counter; that they are one thing is INFERRED."""
    advice = "In Metrica: the counter's settings, use of contact data for better tracking (Advanced Matching)."
    if told.contacts is False:
        message = "it does not use contact data, so orders that name a person only by e-mail or phone find no visit."
        yield metrica.note("warning", "contacts_off", message, f"Switch it on if yours do. {advice}")
    elif told.contacts is None:
        message = (
            "orders that name a person only by e-mail or phone need Advanced Matching; it did not tell if it is on."
        )
        yield metrica.note("info", "contacts_untold", message, advice)


def _window(metrica: Metrica, link_window: timedelta) -> Iterator[Finding]:
    if link_window > LINKING:
        message = f"link_window is {link_window.days} days, but Metrica links for {LINKING.days} days after the visit."
        yield metrica.note("warning", "link_window", message, "Remove link_window: what comes later reaches no goal.")


def _may_upload(metrica: Metrica) -> Iterator[Finding]:
    """No call tells what a token may do, and the list of conversions may be open to readers. That of orders stands
    behind the right to upload, which is the same for both (M/intro/authorization; the first half is INFERRED)."""
    try:
        metrica.ask(_last_uploads(metrica))
    except Halted as stop:
        if stop.finding.code == "no_rights":
            message = "nothing but an upload tells for sure, but it seems that the token may not upload conversions."
            yield metrica.note("warning", "uploads_doubtful", message, stop.finding.advice)
    except NotSent as fault:
        yield metrica.note("info", "no_answer", f"whether the token may upload was not found out ({fault.reason}).")


def _last_uploads(metrica: Metrica) -> str:
    return f"/cdp/api/v1/counter/{metrica.counter_id}/last_uploadings?limit=1"


def _uploads_of_orders(metrica: Metrica) -> Iterator[Finding]:
    """The list of uploads stands behind the same right as uploading."""
    try:
        listed = metrica.ask(_last_uploads(metrica)).get("uploadings")
    except Halted as stop:
        yield stop.finding
        return
    except NotSent as fault:
        yield metrica.note("info", "no_answer", f"its list of uploads could not be read ({fault.reason}).")
        return
    if listed and isinstance(listed, list) and isinstance(listed[0], dict):
        when, state = (shown(str(listed[0].get(name))) for name in ("datetime", "api_validation_status"))
        message = f"the last upload was at {when}: {state}."
    else:
        message = "nothing was uploaded yet; the goals of orders appear within 24 hours of the first upload."
    hint = (
        f"An order counts for advertising only if it comes within {LINKING.days} days of the visit, and may change for"
        f" {CHANGES.days}: send leads early."
    )
    yield metrica.note("info", "uploads", message, hint)


def _uploads_of_conversions(metrica: Metrica, last: Callable[[], Uploading | None]) -> Iterator[Finding]:
    try:
        newest = last()
    except Halted as stop:
        yield stop.finding
        return
    except NotSent as fault:
        message = f"its list of offline conversions could not be read ({fault.reason})."
        yield metrica.note("info", "no_answer", message)
        return
    if newest is None:
        message = "no conversion was uploaded yet; a goal counts from the day it was made."
    else:
        when = f" at {newest.created.isoformat()}" if newest.created else ""
        message = f"the last upload of conversions{when}: {newest.status or 'without a status'}."
    hint = f"A conversion counts only if Metrica handles it within {LINKING.days} days of the last visit: send early."
    yield metrica.note("info", "uploads", message, hint)


DAILY = 5000
"""Requests a day of one account, and of one counter, reading and writing counted apart. DOC M/intro/quotas."""


def quota(where: str, uploads: int | None) -> Finding:
    """What is known of the day's quota: no reply tells what is left. `uploads`: what this ledger began to send since
    00:00 GMT; None where there is no ledger."""
    used = "" if uploads is None else f" This ledger has used {uploads} of them today for uploads."
    message = f"Metrica takes {DAILY:,} uploads a day and does not tell how many are left.{used}"
    advice = "Every program of the token's account and of the counter shares them, until 00:00 GMT."
    return Finding("info", "quota", where, message, advice)


def no_answer(fault: WireError) -> tuple[str, str]:
    """What was not told, and what to do about it."""
    if "quota_requests_by_uid" in fault.reason or "quota_requests_by_counter_id" in fault.reason:
        advice = "5,000 requests a day are shared by every program of this account and counter: see what else asks."
        return "today's quota of requests to Metrica is used up; it is open again after 00:00 GMT.", advice
    if fault.reason.startswith("HTTP"):
        advice = "Try again later. If a proxy stands between, check that it lets requests to Metrica through."
        return f"Metrica gave no usable answer ({fault.reason}).", advice
    return f"Metrica did not answer ({fault.reason}).", "Check the network, then try again."
