"""Which campaign an action names: the one with this id, else the one of this name whatever the case."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from convsync.model import Spend

NO_CAMPAIGN = "(no campaign)"


class Campaigns:
    """The campaigns that money was spent on; the latest name of an id is its name."""

    def __init__(self, spends: Iterable[Spend]) -> None:
        self._name: dict[tuple[str, str], str] = {}
        self._ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for spend in sorted(spends, key=lambda spend: (spend.day, spend.campaign)):
            if spend.campaign_id:
                self._name[spend.platform, spend.campaign_id] = spend.campaign or spend.campaign_id
                if spend.campaign:
                    self._ids[spend.platform, spend.campaign.casefold()].add(spend.campaign_id)
        self._bearers = Counter((platform, name.casefold()) for (platform, _), name in self._name.items())
        self._platforms = sorted({platform for platform, _ in self._name})

    def of_spend(self, spend: Spend) -> str:
        if spend.campaign_id:
            return self._label(spend.platform, spend.campaign_id)
        return self.of_action(spend.platform, spend.campaign)[0]

    def of_action(self, platform: str, text: str) -> tuple[str, str]:
        """The label of the campaign an action names, and a remark when the name fits several."""
        text = text.strip()
        if not text:
            return NO_CAMPAIGN, ""
        meant = {place for where in ([platform] if platform else self._platforms) for place in self._meant(where, text)}
        if len(meant) == 1:
            return self._label(*meant.pop()), ""
        if len(meant) > 1 and platform:
            ids = ", ".join(sorted(campaign for _, campaign in meant))
            return text, f"Several campaigns are called {text!r} ({ids}), so none of their cost is in this row."
        return text, ""

    def _meant(self, platform: str, text: str) -> set[tuple[str, str]]:
        if (platform, text) in self._name:
            return {(platform, text)}
        return {(platform, campaign) for campaign in self._ids.get((platform, text.casefold()), ())}

    def _label(self, platform: str, campaign: str) -> str:
        name = self._name[platform, campaign]
        return name if self._bearers[platform, name.casefold()] == 1 else f"{name} ({campaign})"
