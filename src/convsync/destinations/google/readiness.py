"""`check --online`: what of an account keeps conversions from counting, although uploads are answered with success.

Terms that nobody accepted and auto-tagging that is off raise no error, there are just no conversions (CODE, field report
PostHog/posthog#31164); a conversion action of another account or kind shows only when the first row is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from convsync.destinations.google.ads.answers import AdsRefused
from convsync.destinations.google.readings import (
    OF_THE_ACCOUNT,
    ConversionAction,
    Customer,
    Search,
    actions,
    customer,
    no_answer,
    variables,
)
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding

FIRST_ALIVE = 23
"""v22 was switched off on 2026-10-07. DOC blog/2026/09/google-ads-api-v22-sunset-reminder."""
ENDING = {"v23": "about the first quarter of 2027"}
"""Versions whose end is near. DOC ads/sunset-dates: about 12 months each; the day is not published, UNSURE."""

UPLOAD_CLICKS, UPLOAD_CALLS = "UPLOAD_CLICKS", "UPLOAD_CALLS"
SHOWN = 5


def probe(
    search: Search,
    customer_id: str,
    targets: Iterable[Any],
    *,
    where: str,
    version: str,
    max_age: timedelta,
    names: Sequence[str] = (),
    optional: bool = False,
) -> list[Finding]:
    """Read the account, the conversion actions of `targets` and the custom variables `names`, and say what is wrong.

    `optional`: uploads do not need the Google Ads API, so that not being able to read is a note and no error.
    """
    tell = _Teller(where)
    found = list(_version(tell, version))
    try:
        told = customer(search, customer_id, version)
        if told is None:
            message = f"Google Ads tells of no account {customer_id}."
            return [*found, tell("error", "no_account", message, "Check customer_id and login_customer_id.")]
        found += [*_account(tell, told), *_actions(tell, told, search, list(targets), max_age)]
        lacking = sorted(set(names) - variables(search, customer_id).keys()) if names else []
        return [*found, no_variable(where, lacking, customer_id)] if lacking else found
    except Halted as stop:
        return [*found, _unreadable(tell, stop.finding) if optional else stop.finding]
    except AdsRefused as refusal:
        message = f"Google Ads refused to tell of the account {customer_id}: {refusal.code}. {refusal.message}".strip()
        return [*found, tell("info" if optional else "error", "not_readable", message, "")]
    except (NotSent, Unclear) as fault:
        said, advice = no_answer(fault)
        message = f"The account was not looked at: {said}."
        return [*found, tell("info" if optional else "error", "no_answer", message, advice)]


class _Teller:
    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, level: str, code: str, message: str, advice: str) -> Finding:
        return Finding(level, code, self.where, message, advice)


CLOSED = ("action_not_permitted_for_suspended_account", "customer_not_enabled", "incomplete_signup")
"""Findings about accounts that take nothing, whichever way it comes."""
OPTIONAL = (
    "Uploads work without it. To have the account checked, and its cost read, switch on the Google Ads API in the Cloud"
    " project and run `convsync google login` with both permissions."
)


def no_variable(where: str, lacking: Sequence[str], customer_id: str) -> Finding:
    """Custom variables that a source gives and the account does not have: Google refuses whole requests for them."""
    message = f"Google Ads has no custom variable named {' or '.join(lacking)} in the account {customer_id}."
    advice = "Make it in Google Ads, Goals, Custom variables, or correct custom_variables in the source."
    return Finding("error", "custom_variable", where, message, advice)


def not_granted(where: str) -> Finding:
    """Instead of `probe`, for credentials that were not granted the Google Ads API."""
    message = "The credentials were not granted the Google Ads API, so the account's settings were not looked at."
    return Finding("info", "not_readable", where, message, OPTIONAL)


def _unreadable(tell: _Teller, finding: Finding) -> Finding:
    """What keeps the Google Ads API shut keeps no upload from arriving; what Google says of the account may."""
    if finding.code in CLOSED:
        return finding
    message = f"The account's settings were not looked at: {finding.message}"
    if finding.code in OF_THE_ACCOUNT:
        return tell("warning", "not_readable", message, finding.advice)
    return tell("info", "not_readable", message, f"Uploads work without it. {finding.advice}")


def _version(tell: _Teller, version: str) -> Iterator[Finding]:
    if int(version.removeprefix("v")) < FIRST_ALIVE:
        message = f"Version {version} of the Google Ads API has been switched off."
        yield tell("error", "version_gone", message, "Take ads_api_version out of the configuration.")
    elif version in ENDING:
        message = f"Version {version} of the Google Ads API will be switched off {ENDING[version]}."
        yield tell("warning", "version_ends", message, "Take ads_api_version out of the configuration.")


def _account(tell: _Teller, told: Customer) -> Iterator[Finding]:
    if told.status != "ENABLED":
        message = f"The account {told.id} is {told.status.lower()}."
        yield tell(
            "error", "account_closed", message, "Set it right in Google Ads; until then nothing can be uploaded."
        )
    if told.test_account:
        message = f"The account {told.id} is a test account: it has no ads, so no conversion ever counts."
        yield tell(
            "warning", "test_account", message, "Name the real account in customer_id when you are done testing."
        )
    if told.owner and told.owner != told.id:
        message = f"Conversions of the account {told.id} belong to the account {told.owner} (cross-account tracking)."
        advice = f'Write customer_id = "{told.owner}", and name the conversion actions of that account.'
        yield tell("error", "not_owner", message, advice)
    if not told.data_terms:
        message = (
            "The customer data terms are not accepted: conversions that are matched by e-mail or phone do not count."
        )
        yield tell("warning", "data_terms", message, "Accept them in Google Ads: Goals, Settings, Customer data terms.")
    if told.leads == "OFF":
        message = "Enhanced conversions are off: e-mails and phones are not used to find the person."
        yield tell("warning", "enhanced_conversions_off", message, "Switch them on in Google Ads: Goals, Settings.")
    if not told.auto_tagging:
        message = "Auto-tagging is off: clicks on ads bring no gclid, so there is none to upload."
        yield tell("warning", "auto_tagging_off", message, "Switch it on in Google Ads: Admin, Account settings.")


def _actions(
    tell: _Teller, account: Customer, search: Search, targets: Sequence[Any], max_age: timedelta
) -> Iterator[Finding]:
    known = {one.id: one for one in actions(search, account.id)}
    wanted = {(target.conversion_action, target.calls): target for target in targets}
    sound = []
    strange = sorted({number for number, _ in wanted} - known.keys())
    if strange and account.manager:
        yield tell("error", "manager_account", *manager(account.id, ", ".join(strange)))
    for number, calls in wanted:
        needed = UPLOAD_CALLS if calls else UPLOAD_CLICKS
        if number not in known:
            if account.manager:
                continue
            message = f"The account {account.id} has no conversion action {number}."
            yield tell("error", "no_conversion_action", message, _advice(number, needed, known.values()))
            continue
        wrong = list(_wrong(tell, account, known[number], needed, known.values()))
        yield from wrong
        if not wrong:
            sound.append(known[number])
            yield from _limits(tell, known[number], max_age)
    if sound:
        named = ", ".join(f"{one.id} ({one.name})" for one in sound)
        yield tell("info", "actions_ready", f"Conversion actions that can be uploaded to: {named}.", "")


def manager(account: str, which: str) -> tuple[str, str]:
    """What is wrong with customer_id, and what to write instead."""
    message = f"The account {account} is a manager account and has no conversion action {which}."
    return message, f'Write the account that owns them as customer_id, and login_customer_id = "{account}".'


def _wrong(
    tell: _Teller, account: Customer, one: ConversionAction, needed: str, known: Iterable[ConversionAction]
) -> Iterator[Finding]:
    named = f"The conversion action {one.id} ({one.name})"
    if one.type != needed:
        message = f"{named} is of type {one.type}, and {needed} is needed."
        yield tell("error", "wrong_type", message, _advice(one.name, needed, known))
    elif one.status != "ENABLED":
        message = f"{named} is {one.status.lower()}."
        yield tell("error", "action_not_enabled", message, _advice(one.name, needed, known))
    elif one.owner and one.owner != account.id:
        message = f"{named} belongs to the account {one.owner}, not to {account.id}."
        yield tell("error", "action_of_another", message, f'Write customer_id = "{one.owner}", or name another action.')


def _limits(tell: _Teller, one: ConversionAction, max_age: timedelta) -> Iterator[Finding]:
    named = f"The conversion action {one.id} ({one.name})"
    if one.window and max_age > timedelta(days=one.window):
        message = (
            f"{named} counts up to {one.window} days after the click, and actions up to {max_age.days} days old are sent:"
            " Google refuses those whose click is older."
        )
        advice = "Raise its click-through window in Google Ads (90 days at most), or lower max_age here."
        yield tell("info", "window", message, advice)
    if one.type == UPLOAD_CLICKS and one.counting == "ONE_PER_CLICK":
        message = f"{named} counts one conversion per click: Google refuses clicks of iOS (gbraid, wbraid) for it."
        yield tell("info", "one_per_click", message, "Set its count to Every in Google Ads if such clicks come.")


def usable(known: Iterable[ConversionAction], needed: str) -> list[ConversionAction]:
    """The conversion actions that can be uploaded to."""
    return [one for one in known if one.type == needed and one.status == "ENABLED"]


def _advice(wanted: str, needed: str, known: Iterable[ConversionAction]) -> str:
    """The nearest by id or name, else all there are."""
    fit = usable(known, needed)
    if not fit:
        how = "a phone call, tracked with another system" if needed == UPLOAD_CALLS else "an import from a CRM"
        return f"There is none of type {needed}: make one in Google Ads, Goals, Conversions ({how})."
    words = {text.casefold(): one for one in fit for text in (one.id, one.name)}
    near = [words[text] for text in difflib.get_close_matches(wanted.casefold(), words, 1)]
    some = ", ".join(f"{one.id} ({one.name})" for one in (near or fit)[:SHOWN])
    return f"Did you mean {some}?" if near else f"There are {some}. All of them: convsync google actions"
