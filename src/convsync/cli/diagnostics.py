"""What Google says it made of uploads, beside what the ledger says left for it on the same days."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from convsync.destinations.google.ads.replies import fate_of

if TYPE_CHECKING:
    from convsync.destinations.google.readings import Customer, Uploads
    from convsync.ledger.figures import Uploads as Sent

STATES = ("accepted", "confirmed", "refused", "unmatched", "unknown")
GOOGLES = ("successful", "failed", "pending")
STATUSES = {
    "EXCELLENT": "excellent",
    "GOOD": "good",
    "NEEDS_ATTENTION": "needs attention",
    "NO_RECENT_UPLOAD": "nothing uploaded in the last 28 days",
}
CLIENTS = {
    "GOOGLE_ADS_API": "Google Ads API",
    "GOOGLE_ADS_WEB_CLIENT": "web interface of Google Ads",
    "ADS_DATA_CONNECTOR": "Ads Data Connector",
}
WIDTH = 80
NOT_SAID = "Google does not say"
WEB_REPORT = (
    "Of conversions matched by e-mail or phone Google tells here only that they came: whether they were matched, see Google"
    " Ads, Goals, Summary, the conversion action, Diagnostics."
)
DATA_MANAGER = "Under which client Google lists uploads by the Data Manager API is not documented; look at all of them."


@dataclass(frozen=True)
class Told:
    """One destination: the last days in the zone of its account, as Google counts them and as the ledger does."""

    destination: str
    route: str
    customer: Customer
    since: date
    until: date
    clients: tuple[Uploads, ...]
    actions: tuple[Uploads, ...]
    sent: tuple[Sent, ...]
    names: Mapping[str, str]
    """The actions of the configuration, by conversion action."""

    @property
    def needs_attention(self) -> bool:
        return any(one.status == "NEEDS_ATTENTION" for one in (*self.clients, *self.actions))

    def lines(self) -> list[dict[str, Any]]:
        """A row for each day and conversion action that anybody tells of; what nobody tells of is None."""
        google: dict[tuple[date, str], Counter[str]] = {}
        for one in self.actions:
            for day in one.days:
                if self.since <= day.day <= self.until:
                    counts = google.setdefault((day.day, one.action), Counter())
                    counts.update(successful=day.successful, failed=day.failed, pending=day.pending)
        ours: defaultdict[tuple[date, str], Counter[str]] = defaultdict(Counter)
        for row in self.sent:
            ours[row.day, row.goal].update({"sent": row.rows, row.state: row.rows})
        return [
            {"day": str(day), "conversion_action": action, "action": self.names.get(action, "")}
            | {f"google_{word}": _count(google, (day, action), word) for word in GOOGLES}
            | {word: ours[day, action][word] if (day, action) in ours else 0 for word in ("sent", *STATES)}
            for day, action in sorted({*google, *ours})
        ]

    def remarks(self) -> Iterator[str]:
        """Why the two need not agree, as far as the numbers show it."""
        lines = self.lines()
        told = [line for line in lines if line["google_successful"] is not None]
        pending = sum(line["google_pending"] for line in told)
        if pending:
            yield f"Google is still at work on {pending} of them (pending)."
        more = [line for line in told if _seen(line) > line["sent"]]
        if more:
            extra = sum(_seen(line) - line["sent"] for line in more)
            yield (
                f"Google counts {extra} that did not leave from this ledger ({_where(more)}): something else uploads to"
                " the same conversion actions, or an upload around midnight counts for the next day."
            )
        less = [line for line in lines if line["sent"] > _seen(line)]
        if less:
            lacking = sum(line["sent"] - _seen(line) for line in less)
            yield f"Google does not count {lacking} that left from here ({_where(less)}): its counts follow after hours."
        if lines:
            yield f"Days are those of the account ({self.customer.time_zone}), by the moment of the upload."
        if self.route == "google.data_manager":
            yield DATA_MANAGER
        yield WEB_REPORT

    def as_json(self) -> dict[str, Any]:
        return {
            "destination": self.destination, "account": self.customer.id, "name": self.customer.name,
            "time_zone": self.customer.time_zone, "since": str(self.since), "until": str(self.until),
            "needs_attention": self.needs_attention,
            "clients": [_summary(one) for one in self.clients],
            "conversion_actions": [
                {"conversion_action": one.action, "name": one.name, "action": self.names.get(one.action, "")}
                | _summary(one)
                for one in self.actions
            ],
            "days": self.lines(), "notes": list(self.remarks()),
        }  # fmt: skip

    def text(self) -> Iterator[str]:
        from convsync.cli.show import columns, days, plain

        yield f"{self.destination}: account {self.customer.id} {plain(self.customer.name)}".rstrip()
        if not self.clients:
            yield "  Google tells of no upload to this account."
        for one in self.clients:
            yield from _told(CLIENTS.get(one.client, one.client), one)
        for one in self.actions:
            name = f"{one.action} {plain(one.name)}"
            yield from _told(f"{name} ({CLIENTS.get(one.client, one.client)})", one)
        lines = self.lines()
        if lines:
            states = [state for state in STATES if any(line[state] for line in lines)]
            header = ("day", "id", "action", "successful", "failed", "pending", "sent", *states)
            rows = [
                ["–" if line[key] is None else str(line[key]) for key in ("day", "conversion_action", "action")]
                + ["–" if line[f"google_{key}"] is None else str(line[f"google_{key}"]) for key in GOOGLES]
                + [str(line[key]) for key in ("sent", *states)]
                for line in lines
            ]
            yield ""
            yield f"Uploads {days(self.since, self.until)}"
            yield f"(Google counts {', '.join(GOOGLES)}; the ledger counts the rest):"
            yield from columns(rows, header, right=header[3:])
        yield ""
        for remark in self.remarks():
            yield from textwrap.wrap(remark, WIDTH, break_on_hyphens=False)


def _told(name: str, one: Uploads) -> Iterator[str]:
    counted = f"{one.total} events, {one.successful} successful, {one.pending} pending"
    last = f"; the last upload {one.last}" if one.last else ""
    yield f"  {name}: {STATUSES.get(one.status, NOT_SAID)}. {counted}{last}"
    for code, share in one.alerts:
        yield f"    {share * 100:.3g} % {code.rpartition('.')[2]}: {fate_of(code).sentence}"


def _summary(one: Uploads) -> dict[str, Any]:
    return {
        "client": one.client, "status": one.status, "total": one.total, "successful": one.successful,
        "pending": one.pending, "last_upload": one.last or None,
        "days": [day._asdict() | {"day": str(day.day)} for day in one.days],
        "alerts": [{"error": code, "share": share, "sentence": fate_of(code).sentence} for code, share in one.alerts],
    }  # fmt: skip


def _count(counts: Mapping[tuple[date, str], Counter[str]], key: tuple[date, str], word: str) -> int | None:
    return counts[key][word] if key in counts else None


def _seen(line: Mapping[str, Any]) -> int:
    return sum(line[f"google_{word}"] or 0 for word in GOOGLES)


def _where(lines: Sequence[Mapping[str, Any]]) -> str:
    days: list[str] = sorted({line["day"] for line in lines})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
