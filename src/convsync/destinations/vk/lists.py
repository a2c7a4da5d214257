"""Offline conversions by contact (offline_goals): a list of phones or e-mails, each with the day something happened.

VK knows no value, goal, order or time of day here, gives no verdict on a row and takes nothing back. Each request makes
a list of its own, whose name ends with the token of its batch: so a request whose answer was lost can be found again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from convsync.destinations import Route
from convsync.destinations.vk import files, list_replies
from convsync.destinations.vk.api import Api
from convsync.destinations.vk.replies import MOSCOW
from convsync.errors import ConfigError, Halted, NotSent
from convsync.model import (
    WHOLE,
    Action,
    Answer,
    Conversion,
    Finding,
    Group,
    OnUnknown,
    Outcome,
    Person,
    Skip,
    SkipReason,
    Sought,
    Verdict,
    key_of,
)

PATH = "/api/v2/remarketing/offline_goals"
SHOWN_AFTER = 60.0
"""Seconds until a list is looked for again that VK took and did not show at once."""
TURNED_AWAY = 20
"""Lists on end that VK refuses for some of their lines: what it refuses next is hardly the lines."""
MATCHED = "matched"
"""The one word of `load_status` that is documented; every other is waited for."""

TAKEN = Outcome(Verdict.ACCEPTED, "VK took the list; it never tells about single people")


class Listed(NamedTuple):
    """A list as VK shows it."""

    id: str
    name: str
    type: str
    load_status: str


class _Target(Protocol):
    list: str | None
    by: Sequence[str]


class Lists(Route):
    """Upload to `remarketing/offline_goals`.

    Contacts stand in the ledger in clear (`contact_hash = "none"`: whether VK takes their MD5 here is not established)
    only until VK has taken them. `attribution_period` is told to VK, and older actions are not sent. `ready` is what
    `check --online` asks.
    """

    route = "vk.offline_list"
    door = "lists"
    platform = "vk"
    on_unknown = OnUnknown.ASK
    adjusts = False
    reason_per_row = False
    apart = True
    changes_apart = False
    distinct = True
    titles = True
    passes_contacts = True
    goals_together = 1
    in_flight = 1

    def __init__(
        self,
        name: str,
        *,
        account: str,
        api: Api,
        mode: Literal["new", "append"] = "new",
        header: str = "ID,date",
        fields_mode: Literal["fields", "data_json"] = "fields",
        contact_hash: Literal["none", "md5"] = "none",
        attribution_period: timedelta = timedelta(days=90),
        min_rows: int = 10,
        max_rows: int = 20_000,
        quarantine: timedelta = timedelta(minutes=15),
        poll_after: timedelta = timedelta(minutes=30),
        poll_every: timedelta = timedelta(minutes=30),
        poll_until: timedelta = timedelta(days=7),
        ready: Callable[[], list[Finding]] | None = None,
    ) -> None:
        self.name = name
        self.account = account
        self.wire = api.wire
        self.request_seconds = 3 * self.wire.longest  # a look before, the upload, a look after
        self.max_age = self.adjust_max_age = attribution_period
        self.quarantine = quarantine
        self.least = min_rows
        self.batch_rows = max_rows
        self._api = api
        self._appends = self.hides_doubt = mode == "append"  # an addition renames the list: the last one shows
        self._header = "" if header == "none" else header
        self._data = fields_mode == "data_json"
        self._hashed = contact_hash == "md5"
        self._days = attribution_period.days
        self._after, self._every, self._until = poll_after, poll_every, poll_until
        self._ready = ready
        self._turned_away = 0

    # -- from an action to a row -------------------------------------------------------------------------------

    def convert(self, action: Action, person: Person, target: _Target, value: int | None) -> Conversion | Skip:
        if not target.list:
            raise ConfigError(f"actions.{action.action}: `list` is empty.")
        found = next(((kind, had[0]) for kind in target.by if (had := _CONTACTS[kind](person))), None)
        if found is None:
            fields = " or ".join(target.by)
            return Skip(self.name, SkipReason.NO_IDENTIFIER, f"a list needs {fields}, one that can be read")
        if action.consent_ad_user_data is not True:
            return Skip(self.name, SkipReason.NO_CONSENT, "set consent_ad_user_data in the row, or in its source")
        if action.status != "active":
            return Skip(self.name, SkipReason.CANNOT_ADJUST, "VK cannot take a row of a list back")
        kind, contact = found
        day = f"{action.occurred_at.astimezone(MOSCOW):%d.%m.%Y}"
        told = hashlib.md5(contact.encode(), usedforsecurity=False).hexdigest() if self._hashed else contact
        row = {"list": target.list, kind: told, "day": day}
        return Conversion(
            self.name,
            target.list,
            orjson.dumps(row),
            status=action.status,
            key=key_of(action.source, action.external_id, action.action, self.name, f"{self.door}/{target.list}"),
            part=f"{kind} md5" if self._hashed else kind,  # the setting may change while rows wait
            clear=not self._hashed,
            door=self.door,
            identity=_digest(f"{self.account}\n{kind}\n{told}\n{day}"),
        )

    def redact(self, payload: bytes) -> bytes:
        row = orjson.loads(payload)
        kind = _kind(row)
        return payload if "erased" in row else orjson.dumps(row | {kind: _digest(row[kind]), "erased": True})

    # -- from rows to a file -----------------------------------------------------------------------------------

    def encode(self, payloads: Sequence[bytes], token: str, group: Group = WHOLE) -> bytes:
        """The multipart body that makes a list. Its boundary is the token, which its name ends with."""
        rows = [orjson.loads(payload) for payload in payloads]
        kinds = {(row["list"], _kind(row)) for row in rows}
        if len(kinds) != 1 or any("erased" in row for row in rows):
            raise ValueError("a file holds contacts of one kind for one list, none of which was erased")
        ((title, kind),) = kinds
        fields: dict[str, str | int] = {
            "name": f"{title} {kind} {token}",
            "type": kind,
            "attribution_period": self._days,
        }
        return files.body(fields, self._header, ((row[kind], row["day"]) for row in rows), token, data=self._data)

    def preview(self, payloads: Sequence[bytes], group: Group = WHOLE) -> Iterator[Mapping[str, Any]]:
        for payload in payloads:
            row = orjson.loads(payload)
            kind = _kind(row)
            yield {"list": row["list"], "type": kind, "ID": row[kind], "date": row["day"]}

    # -- the wire ----------------------------------------------------------------------------------------------

    def send(self, body: bytes, rows: int, group: Group = WHOLE) -> Answer:
        token = files.boundary_of(body)
        there = self._to_append(files.fields_of(body)) if self._appends else None
        content_type = f"multipart/form-data; boundary={token}"
        if there is not None:
            reply = self._api.exchange("POST", f"{PATH}/{there.id}.json", files.renaming(body), content_type)
            if 200 <= reply.status < 300:
                self._turned_away = 0
                return Answer(TAKEN, ref=f"{there.id}/{token}", poll_in=self._after.total_seconds())
        if there is None or reply.status == 404:  # it was deleted since: a new one takes its place
            reply = self._api.exchange("POST", f"{PATH}.json", body, content_type)
        if 200 <= reply.status < 300:
            self._turned_away = 0
            return self._taken(token)
        answer = list_replies.judge(self._api, reply, rows, _rows_of(body, self._header), self._header)
        self._turned_away += bool(answer.rows)
        return list_replies.enough(self._api, answer) if self._turned_away >= TURNED_AWAY else answer

    def _to_append(self, fields: Mapping[str, str]) -> Listed | None:
        """The newest list of the same title and kind that was made here."""
        title = re.escape(fields["name"][:-24])
        made = [one for one in self._lists() if re.fullmatch(f"{title}[0-9a-f]{{24}}", one.name)]
        return max((one for one in made if one.type == fields["type"]), key=lambda one: int(one.id), default=None)

    def _taken(self, token: str) -> Answer:
        """VK says nothing but that it took it; what it calls the list, the lists tell."""
        try:
            found = self._named(token)
        except (NotSent, Halted):
            found = None  # it was taken all the same: looked for again by its name
        if found is None:
            return Answer(TAKEN, ref=f"name/{token}", poll_in=SHOWN_AFTER)
        return self._received(found, token)

    def _received(self, found: Listed, token: str, others: frozenset[str] = frozenset()) -> Answer:
        ref = self._ref(found, token, others)
        if found.load_status == MATCHED and ref == found.id:  # of an older list that tells of what was there before
            return Answer(TAKEN, ref=ref, poll_in=0.0)
        return Answer(TAKEN, ref=ref, poll_in=self._after.total_seconds())

    def _ref(self, found: Listed, token: str, others: frozenset[str] = frozenset()) -> str:
        """Where several uploads went into one list, what it is called says which of them this was."""
        return f"{found.id}/{token}" if self._appends or found.id in others else found.id

    def poll(self, ref: str, rows: int, age: timedelta) -> Answer:
        number, _, token = ref.partition("/")
        lists = self._lists()
        if number == "name":
            found = next((one for one in lists if token in one.name), None)
        else:
            found = next((one for one in lists if one.id == number), None)
        if found is not None and found.load_status == MATCHED:
            return Answer(Outcome(Verdict.CONFIRMED), ref=self._ref(found, token) if number == "name" else None)
        left = (self._until - age).total_seconds()
        if left > 0 and (found is not None or number == "name"):
            again = self._every.total_seconds() if found is not None else SHOWN_AFTER
            told = "" if found is None else found.load_status
            renamed = self._ref(found, token) if found is not None and number == "name" else None
            return Answer(Outcome(Verdict.ACCEPTED, told), ref=renamed, poll_in=min(again, left))
        return Answer(Outcome(Verdict.ACCEPTED), findings=(self._no_verdict(ref, found),))

    def _no_verdict(self, ref: str, found: Listed | None) -> Finding:
        if found is None:
            message = f"VK does not show the list {ref} any more, or never did, though it took it."
            advice = (
                "Its rows stay accepted, not confirmed. Look for it in VK Ads among the lists of offline conversions."
            )
        else:
            message = (
                f"after {self._until.days} days the list {ref} is still {found.load_status or 'without a status'}."
            )
            advice = "Its rows stay accepted, not confirmed. VK Ads shows the list among those of offline conversions."
        return self._api.finding("warning", "no_verdict", message, advice)

    def find(self, sought: Sought) -> Answer | None:
        found = self._named(sought.token)
        return None if found is None else self._received(found, sought.token, sought.others)

    def _named(self, token: str) -> Listed | None:
        return next((one for one in self._lists() if token in one.name), None)

    def _lists(self) -> list[Listed]:
        """All lists of the account. DOC RemarketingOfflineGoals: no paging is shown; if there is some, it is followed."""
        params = {"fields": "id,name,type,attribution_period,load_status"}
        return [_listed(one) for one in self._api.pages(f"{PATH}.json", params)]

    def probe(self) -> list[Finding]:
        return [] if self._ready is None else self._ready()


_CONTACTS: Mapping[str, Callable[[Person], Sequence[str]]] = {
    # As VK's other lists want them: 79011234567, and plain small letters. DOC for users_lists
    "phone": lambda person: [one.removeprefix("+") for one in person.phones[:1]],
    "email": lambda person: person.emails[:1],
}


def _kind(row: Mapping[str, Any]) -> str:
    return next(kind for kind in _CONTACTS if kind in row)


def _rows_of(body: bytes, header: str) -> list[str]:
    """The lines of the file by the position of their row."""
    return files.lines_of(body)[1 if header else 0 :]


def _listed(told: Mapping[str, Any]) -> Listed:
    if not re.fullmatch(r"[0-9]{1,20}", str(told.get("id"))):
        raise NotSent("the lists of offline conversions cannot be read")
    status = re.sub(r"[^a-z_]", "", str(told.get("load_status") or "").lower())[:40]
    return Listed(str(told["id"]), str(told.get("name") or ""), str(told.get("type") or ""), status)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
