"""`check --online`: what of a VK account keeps conversions from counting, although the tracker takes every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from convsync.destinations.vk.api import Api
from convsync.destinations.vk.goals import SHOWN, goals, lack, named, pixels, shown
from convsync.destinations.vk.replies import MOSCOW
from convsync.destinations.vk.tokens import Kept
from convsync.errors import Halted, NotSent
from convsync.model import Finding

LISTS = "/api/v2/remarketing/offline_goals.json"
FIVE = 5
"""Tokens of a client_id and user. DOC Авторизация в API."""
MANY = 3
"""New tokens that a ledger has asked for, from which a person should know: one is usual."""
NAMED = 10


class Account(NamedTuple):
    """Who is asked with these keys. What VK does not tell is empty."""

    id: str
    username: str
    currency: str

    def __str__(self) -> str:
        return " ".join(filter(None, (shown(self.username), f"({self.id})" if self.id else ""))) or "of no name"


def account(api: Api) -> Account:
    """`GET /api/v3/user.json`, v2 where that is not there, which tells no currency. Raises as `Api.ask`."""
    told = api.ask("/api/v3/user.json", none_if=("404",)) or api.ask("/api/v2/user.json") or {}
    number, name, currency = (told.get(key) for key in ("id", "username", "currency"))
    return Account(
        str(number) if isinstance(number, int | str) and str(number).isdigit() else "",
        name if isinstance(name, str) else "",
        currency if isinstance(currency, str) and currency.isalpha() else "",
    )


def look(
    api: Api, kept: Callable[[], Kept], *, pixel_id: str, targets: Sequence[Any], currency: str | None
) -> list[Finding]:
    """Everything that can be asked about the account, the pixel and its goals and, if any target names one, lists.

    `kept` tells what is remembered of the token; `currency` is what reports are written in.
    """
    try:
        who = account(api)
        remembered = kept()
    except Halted as stop:
        return [stop.finding]
    except NotSent as fault:
        return [api.finding("error", "no_answer", *no_answer(fault))]
    return [
        api.finding("info", "account", f"the keys open the VK Ads account {who}."),
        token(api.where, remembered),
        *_currency(api, who, currency),
        *_pixel(api, pixel_id, targets),
        *(found for part in (_lists, _campaigns) if any(target.list for target in targets) for found in part(api)),
    ]


def token(where: str, kept: Kept) -> Finding:
    """Until when it lives, and how many of the five this ledger has asked for."""
    until = f"the token lives until {moment(kept.expires_at)} Moscow time" if kept.expires_at else "there is no token"
    message = f"{until}; this ledger has asked for {kept.asked} so far, of the {FIVE} that VK gives a client and user."
    if kept.asked < MANY:
        return Finding("info", "token", where, message)
    advice = "One is usual, for it is refreshed. Was the file of tokens lost, or has somebody revoked them?"
    return Finding("warning", "many_tokens", where, message, advice)


def moment(when: datetime) -> str:
    return f"{when.astimezone(MOSCOW):%Y-%m-%d %H:%M}"


def no_answer(fault: NotSent) -> tuple[str, str]:
    """What was not told, and what to do about it."""
    if fault.reason.startswith("rate_limit"):
        return f"{fault.reason.partition(': ')[2]}.", "Every program with these keys shares it: see what else asks."
    if fault.reason.startswith("HTTP 429"):
        return (
            f"VK takes no more requests for now ({fault.reason}).",
            "Every program with these keys shares its limits.",
        )
    if fault.reason.startswith("HTTP"):
        return f"VK gave no usable answer ({fault.reason}).", "Try again later; see that a proxy lets requests through."
    return f"VK did not answer ({fault.reason}).", "Check the network, then try again."


# -- one question each ----------------------------------------------------------------------------------------


def _currency(api: Api, who: Account, configured: str | None) -> Iterator[Finding]:
    if not who.currency:
        yield api.finding("info", "currency_untold", "VK did not tell the account's currency.")
        return
    message = f"its currency is {who.currency}: values and cost are in it."
    if configured and configured != who.currency:
        message = f"its currency is {who.currency}, and reports are in {configured}: values go to VK unconverted."
    yield api.finding("info", "currency", message)


def _pixel(api: Api, pixel_id: str, targets: Sequence[Any]) -> Iterator[Finding]:
    wanted = named(targets)
    if not wanted:
        return
    try:
        seen = pixels(api)
        if not any(one.number == pixel_id for one in seen):
            listed = ", ".join(f"{one.number} ({shown(one.name)})" for one in seen[:SHOWN])
            some = f"It sees {listed}{' and more' if len(seen) > SHOWN else ''}." if seen else "It sees none."
            message = f"the account does not see the pixel {pixel_id}. {some}"
            advice = "Correct pixel_id, or share the pixel with this account; agencies: see agency_client_name."
            yield api.finding("error", "no_pixel", message, advice)
            return
        known = goals(api, pixel_id)
    except Halted as stop:
        yield stop.finding
        return
    except NotSent as fault:
        message, advice = no_answer(fault)
        yield api.finding("warning", "goals_unseen", f"pixel and goals were not looked at: {message}", advice)
        return
    wrong = [found for name in wanted if (found := lack(name, known))]
    for one in wrong:
        yield api.finding("error", one.code, f"pixel {pixel_id}: {one.message}", one.advice)
    sound = [name for name in wanted if name not in {one.goal for one in wrong}]
    if sound:
        yield api.finding("info", "goals_ready", f"pixel {pixel_id} has these JS goals: {', '.join(sound)}.")


def _lists(api: Api) -> Iterator[Finding]:
    """An ordinary account may be refused: CODE kw; mcp says it works in 2026."""
    try:
        api.ask(LISTS)
    except Halted as stop:
        if stop.finding.code != "no_rights":
            yield stop.finding
            return
        message = f"lists of offline conversions are closed: {stop.finding.message}"
        advice = "Ask ads_api@vk.team or your VK manager to open them; or remove `list` from the actions."
        yield stop.finding._replace(message=message, advice=advice)
    except NotSent as fault:
        message, advice = no_answer(fault)
        yield api.finding(
            "warning", "lists_unseen", f"lists of offline conversions were not looked at: {message}", advice
        )
    else:
        yield api.finding("info", "lists_open", "lists of offline conversions are open to these keys.")


def _campaigns(api: Api) -> Iterator[Finding]:
    """DOC AdPlan: `enable_offline_goals`. Campaigns that stand still are not told of."""
    asked = {"fields": "id,name,status,enable_offline_goals", "_status__in": "active"}
    try:
        without = [one for one in api.pages("/api/v2/ad_plans.json", asked) if one.get("enable_offline_goals") is False]
    except (Halted, NotSent) as fault:
        reason = fault.finding.message if isinstance(fault, Halted) else no_answer(fault)[0]
        yield api.finding("info", "campaigns_unseen", f"which campaigns use lists was not found out: {reason}")
        return
    if without:
        listed = ", ".join(shown(str(one.get("name") or one.get("id"))) for one in without[:NAMED])
        more = ", …" if len(without) > NAMED else ""
        message = f"active campaigns that do not use offline conversions: {len(without)} ({listed}{more})."
        advice = "Switch it on in the settings of those for which they shall count (enable_offline_goals)."
        yield api.finding("warning", "campaigns_without_lists", message, advice)
