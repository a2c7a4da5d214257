"""The leads of VK's lead forms as a source: each names its campaign exactly, and the phone of whoever filled the form in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, Protocol

from convsync.errors import Halted, NotSent, SourceError, SourceUnavailable
from convsync.model import Action, BadRow, Finding
from convsync.sources import Page, Window, values
from convsync.sources.values import Unreadable

LEADS = "/api/v1/lead_ads/leads.json"
PAGE = 50
"""Leads: the most that VK gives at once. DOC."""
WIDE = timedelta(days=1)
"""How much wider a span is asked for than it is: in which zone VK reads it is UNSURE."""
UTM_SOURCE = "vk_ads"
"""What VK writes as utm_source by itself. DOC."""
EXPORT = (
    "Export the leads from VK Ads as CSV, and read that: a source of type csv with `lead_form` under its fields, whose"
    " column is that of the form."
)
RIGHT = "Ask ads_api@vk.team, or your VK manager, for the right to read the leads of lead forms (lead_ads)."

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONE_NAME = re.compile(r"(?<=[+-][0-9]{4}) [A-Z]{1,5}$")
"""`2023-01-31 09:25:41.26 +0000 UTC` is how Go prints a time. DOC."""


class Api(Protocol):
    """Who asks VK. Raises Halted (a person is needed) and NotSent (later)."""

    def ask(
        self, path: str, params: Mapping[str, str] = ..., *, none_if: Collection[str] = ...
    ) -> dict[str, Any] | None:
        """The JSON object at `path`; None where VK refuses with a code of `none_if` ("404": any 404)."""
        ...


class Lead(NamedTuple):
    """A lead as VK lists it: what it is told from others by, when it was left, and what became of it."""

    id: str
    moment: datetime | None
    made: Action | BadRow


class VkLeads:
    """Leads since the mark, less `overlap`, asked for by `created_at`, the oldest first: what comes in while the list is read
    then stands at its end and moves no other lead over the border of a page.

    Nothing is lost if VK keeps to that order only by half: each page begins with the last lead of the one before, or else
    the reading ends there (some went that stood before it); and as soon as a lead is older than one before it, the mark
    stays where it is until the whole list is read. Times are told to VK in UTC: should it take them for Moscow's, the list
    begins three hours earlier. Of a window VK is asked for a day more on either side, and what is outside is left out here.
    """

    def __init__(
        self,
        name: str,
        *,
        api: Callable[[], AbstractContextManager[Api]],
        action: str,
        timezone: tzinfo,
        forms: Sequence[str] = (),
        overlap: timedelta = timedelta(days=1),
        consent_ad_user_data: bool | None = None,
        consent_ad_personalization: bool | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`api` is opened for each reading, and closed behind it. `timezone` is that of a `created_at` that names none:
        Moscow's by the rule of the API (DOC overview), UTC where VK sends leads by itself (DOC); UNSURE."""
        self.name = name
        self._api = api
        self._forms = tuple(forms)
        self._overlap = overlap
        self._now = now
        self._read_time = values.time_reader(timezone)
        self._like = Action(
            name,
            "",
            action,
            EPOCH,
            consent_ad_user_data=consent_ad_user_data,
            consent_ad_personalization=consent_ad_personalization,
            utm_source=UTM_SOURCE,
        )

    def read(self, cursors: Mapping[str, str], window: Window | None = None) -> Iterator[Page]:
        if window is None:
            yield from self._since(self._mark(cursors.get("")))
            return
        span = {"_created_at__gte": _told(window.since - WIDE), "_created_at__lte": _told(window.until + WIDE)}
        for leads in self._pages(span):
            actions, bad = _parted(leads)
            yield Page([one for one in actions if window.since <= one.occurred_at < window.until], bad)

    def check(self) -> list[Finding]:
        """Asks VK for one lead, and tells how many there are."""
        where = f"source {self.name}"
        try:
            with self._asking() as api:
                count = _whole(self._ask(api, {}, 0, 1).get("count"))
        except (SourceError, SourceUnavailable) as error:
            return [Finding("error", "vk_leads", where, error.message, error.advice)]
        number = "its leads" if count is None else f"{count} lead{'' if count == 1 else 's'}"
        return [Finding("info", "vk_leads", where, f"VK lists {number}.")]

    def _since(self, mark: datetime | None) -> Iterator[Page]:
        asked = {} if mark is None else {"_created_at__gte": _told(mark - min(self._overlap, mark - EPOCH))}
        latest: datetime | None = None
        rising = True
        for leads in self._pages(asked):
            for moment in (lead.moment for lead in leads if lead.moment is not None):
                rising = rising and (latest is None or latest <= moment)
                latest = moment if latest is None else max(latest, moment)
            yield Page(*_parted(leads), self._cursor(latest, mark) if rising else None)
        if not rising:
            yield Page([], [], self._cursor(latest, mark))

    # -- marks

    def _mark(self, kept: str | None) -> datetime | None:
        try:
            return None if kept is None else datetime.fromisoformat(kept).astimezone(UTC)
        except ValueError:
            raise SourceError(
                f"The stored cursor of source {self.name} cannot be read by this version.",
                "Update convsync, or give the source a new name.",
            ) from None

    def _cursor(self, latest: datetime | None, mark: datetime | None) -> tuple[str, str] | None:
        """Where the next run begins. Never later than now: honest leads would be passed over."""
        if latest is None:
            return None
        reached = min(latest, datetime.fromtimestamp(self._now(), UTC))
        return None if mark is not None and reached <= mark else ("", reached.isoformat())

    # -- asking

    def _pages(self, asked: Mapping[str, str]) -> Iterator[list[Lead]]:
        """Every lead of a list, page by page."""
        offset, before = 0, frozenset[str]()
        with self._asking() as api:
            while True:
                told = self._ask(api, asked, offset, PAGE)
                leads, count = [self._lead(item) for item in told["items"]], _whole(told.get("count"))
                ids = frozenset(lead.id for lead in leads)
                if before and not before & ids:
                    raise self._changed()
                yield [lead for lead in leads if lead.id not in before]
                end = offset + len(leads)
                if end >= count if count is not None else len(leads) < 2:
                    return
                if len(leads) < 2:
                    raise self._changed()
                offset, before = end - 1, ids

    def _changed(self) -> SourceUnavailable:
        message = f"source {self.name}: VK's list of leads changed while it was read."
        return SourceUnavailable(message, "Nothing is lost; the next run reads it again.")

    def _ask(self, api: Api, asked: Mapping[str, str], offset: int, limit: int) -> dict[str, Any]:
        params = {**asked, "sorting": "created_at", "limit": str(limit), "offset": str(offset)}
        if self._forms:
            params["_form_ids__in"] = ",".join(self._forms)
        told = api.ask(LEADS, params, none_if=("404",))
        if told is None:
            raise SourceError(f"source {self.name}: VK does not open lead forms to this client.", EXPORT)
        if not isinstance(told.get("items"), list):
            raise SourceUnavailable(f"source {self.name}: VK answered without a list of leads.", "Try again later.")
        return told

    @contextmanager
    def _asking(self) -> Iterator[Api]:
        try:
            with self._api() as api:
                yield api
        except Halted as halt:
            found = halt.finding
            advice = f"{RIGHT} Or: {EXPORT}" if found.code == "no_rights" else found.advice
            raise SourceError(f"source {self.name} ({found.where}): {found.message}", advice) from halt
        except NotSent as later:
            message = f"source {self.name}: VK could not be asked for leads ({later.reason})."
            raise SourceUnavailable(message, "Nothing is lost; the next run asks again.") from later

    # -- from a lead to an action

    def _lead(self, item: object) -> Lead:
        """Of what cannot be read, the BadRow names the lead and the field, and shows nothing of a contact."""
        if not isinstance(item, dict):
            return Lead("", None, BadRow(self.name, "a lead", "row", "is not a JSON object"))
        listed, own, moment, field = str(item.get("id")), "without an id", None, "id"
        try:
            own = _needed(item.get(field))
            field = "created_at"
            moment = self._time(item.get(field))
            field = "form_id"
            form = _needed(item.get(field))
            field = "ad_plan_id"
            campaign = _campaign(item.get(field))
            field = "contact_info"
            first_name, last_name, phone, email = _contact(item.get(field))
        except Unreadable as error:
            return Lead(listed, moment, BadRow(self.name, f"lead {own}", field, error.problem, error.advice))
        action = self._like._replace(
            external_id=own,
            occurred_at=moment,
            email=email,
            phone=phone,
            first_name=first_name,
            last_name=last_name,
            campaign_id=campaign,
            lead_form=form,
        )
        return Lead(listed, moment, action)

    def _time(self, told: object) -> datetime:
        word = _ZONE_NAME.sub("", told.strip()) if isinstance(told, str) else told
        moment = None if word is None else self._read_time(word)
        if moment is None or moment < EPOCH:  # year 1 is how Go writes that there is none
            raise _missing()
        return moment


def _campaign(told: object) -> str | None:
    return None if told in (None, 0, "0") else values.own_id(told)


def _needed(told: object) -> str:
    found = None if told is None else values.own_id(told)
    if found is None:
        raise _missing()
    return found


def _missing() -> Unreadable:
    return Unreadable("is missing", "A lead has an id, a form and a time.")


def _contact(told: object) -> tuple[str | None, str | None, str | None, str | None]:
    """First name, last name, phone, e-mail."""
    if told is None:
        return None, None, None, None
    if not isinstance(told, dict):
        raise Unreadable("is not a JSON object (not shown)")
    cells = (told.get(name) for name in ("first_name", "last_name", "phone", "email"))
    try:
        first_name, last_name, phone, email = (None if cell is None else values.text(cell) for cell in cells)
    except Unreadable:
        raise Unreadable("holds something that is no text (a contact: not shown)") from None
    return first_name, last_name, phone, email


def _parted(leads: Sequence[Lead]) -> tuple[list[Action], list[BadRow]]:
    made = [lead.made for lead in leads]
    return [one for one in made if isinstance(one, Action)], [one for one in made if isinstance(one, BadRow)]


def _told(moment: datetime) -> str:
    """As VK takes a time. DOC; in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _whole(told: object) -> int | None:
    return told if type(told) is int and told >= 0 else None
