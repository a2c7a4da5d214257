"""How many conversions of unknown outcome arrived, by the platform's own count of their goals.

Only arithmetic on two counts that are kept elsewhere: nothing here decides what becomes of a delivery. The platform counts
less than it gets (only what it ties to its ads), so that what it counts beyond the accepted ones surely arrived, unless
somebody else fires the same goal: where more was counted than was ever sent, the counts of that goal say nothing of any day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple

NAMED = 3
"""So many days are named; more are told as a span."""


class Day(NamedTuple):
    """One goal on one day: what was sent for it, as it stands now, and what the platform counted."""

    goal: str
    day: date
    accepted: int
    unknown: int
    other: int = 0
    """What may have been counted besides: repeats of what was in doubt before, or somebody else's."""
    counted: int | None = None
    """None: its count was not read since the last of it was sent."""

    @property
    def arrived(self) -> int | None:
        """How many of the unknown ones arrived, at least."""
        if self.counted is None:
            return None
        return max(0, min(self.unknown, self.counted - self.accepted - self.other))

    @property
    def more(self) -> int:
        """What was counted beyond all that was sent."""
        return max(0, (self.counted or 0) - self.accepted - self.unknown - self.other)


class Doubt(NamedTuple):
    """A destination: sums of its days. `accepted`, `counted` and `more` are of the days whose counts were read."""

    destination: str
    unknown: int
    unread: int
    """How many of the unknown ones were sent on days whose counts were not read since."""
    unread_days: tuple[date, ...]
    arrived: int | None
    """At least so many of the unknown ones; None where no count was read that could tell."""
    accepted: int
    counted: int | None
    more: int
    other: int
    """Requests besides, of the days whose counts were read, that may have been counted as well."""
    unclear: int
    """How many of the unknown ones are of goals that somebody else fires, so that their counts cannot tell."""

    def as_json(self, advice: str) -> dict[str, Any]:
        return self._asdict() | {"message": self.sentence(advice)}

    def sentence(self, advice: str) -> str:
        """For people. `advice` is how to read the counts that are missing."""
        return f"{self.destination}: " + " ".join(self._sentences(advice))

    def _sentences(self, advice: str) -> Iterable[str]:
        if not self.unknown:
            yield f"{self.accepted} accepted by the tracker, VK counted {self.counted}, of what it ties to its ads."
            if self.other and (self.counted or 0) > self.accepted:
                yield f"{self.other} more may be among them: sent again since, or given up while in doubt."
        elif self.arrived is None:
            yield f"{_outcomes(self.unknown)} unknown."
        else:
            least = "none of them arrived for sure" if not self.arrived else f"at least {self.arrived} of them arrived"
            found = f"{least}: it counts only what it ties to its ads"
            found = "all of them arrived" if self.arrived == self.unknown else found
            yield f"{_outcomes(self.unknown)} unknown; by VK's own count {found}."
        if self.unclear:
            yield f"VK's count cannot tell of {self.unclear} of them: it is higher than what was sent for their goal."
        if self.unread:
            yield f"VK's count was not read since {self.unread} of them left {_days(self.unread_days)}: {advice}."
        if self.more:
            yield f"VK counted {self.more} more than was sent: the site itself may fire the same goal."


def weigh(destination: str, days: Iterable[Day], before: Iterable[Day] = ()) -> Doubt | None:
    """The sum of these days; None where nothing is unknown and no count was read. `before`: earlier days, which only tell
    of what goals somebody else fires."""
    known = list(days)
    read = [one for one in known if one.counted is not None]
    unread = [one for one in known if one.counted is None and one.unknown]
    foreign = {one.goal for one in (*before, *known) if one.more}
    unknown = sum(one.unknown for one in known)
    if not unknown and not read:
        return None
    told = [one.arrived for one in known if one.unknown and one.arrived is not None and one.goal not in foreign]
    return Doubt(
        destination=destination,
        unknown=unknown,
        unread=sum(one.unknown for one in unread),
        unread_days=tuple(sorted({one.day for one in unread})),
        arrived=sum(told) if told else None,
        accepted=sum(one.accepted for one in read),
        counted=sum(one.counted or 0 for one in read) if read else None,
        more=sum(one.more for one in read),
        other=sum(one.other for one in read),
        unclear=sum(one.unknown for one in read if one.goal in foreign),
    )


def _outcomes(number: int) -> str:
    return f"{number} outcome{'' if number == 1 else 's'}"


def _days(days: tuple[date, ...]) -> str:
    if len(days) <= NAMED:
        return f"on {', '.join(map(str, days))}"
    return f"on {len(days)} days from {days[0]} to {days[-1]}"
