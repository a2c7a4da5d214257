"""Questions to a platform that a person asked, each on its own: one that fails is told and stops no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from convsync.destinations.google.ads.answers import AdsRefused
from convsync.destinations.google.readings import OF_THE_ACCOUNT, no_answer
from convsync.destinations.yandex.direct import OF_THE_LOGIN, DirectRefused
from convsync.errors import ConfigError, ConvsyncError, Exit, Halted, LedgerError, UsageError, WireError
from convsync.model import Finding


class Api(NamedTuple):
    """Who is asked, as findings say it, and the key of the configuration that holds the address."""

    name: str
    address: str


ADS = Api("the Google Ads API", "ads_endpoint")
DIRECT = Api("Yandex.Direct", "direct_url")
VK = Api("the VK Ads API", "api_url")


@dataclass
class Asking:
    """What went wrong so far, and the exit code that says so."""

    findings: list[Finding] = field(default_factory=list)
    misconfigured: bool = False
    unfinished: bool = False
    halted: set[str] = field(default_factory=set)
    """Sections of the configuration that no account can be read with: credentials, a version that is gone."""

    def find(self, level: str, code: str, where: str, message: str, advice: str = "") -> None:
        self.add(Finding(level, code, where, message, advice))

    def add(self, finding: Finding) -> None:
        """Once, however many accounts bring the same."""
        if finding not in self.findings:
            self.findings.append(finding)

    @property
    def exit_code(self) -> Exit:
        """As for a run: what stops a scheduler first comes first."""
        if self.misconfigured:
            return Exit.USAGE
        if self.unfinished:
            return Exit.UNFINISHED
        return Exit.ATTENTION if any(one.level == "error" for one in self.findings) else Exit.OK

    @contextmanager
    def apart(self, where: str, account: str, api: Api = ADS, *, lost: str = "") -> Iterator[None]:
        """Whatever keeps this account from being read to its end becomes a finding. What was typed wrong, and a ledger
        that does not work, do not. `lost`: what did not come about without an answer, if it is something else."""
        try:
            yield
        except Halted as stop:
            self.misconfigured = True
            finding = stop.finding
            if finding.code in OF_THE_ACCOUNT | OF_THE_LOGIN:
                finding = finding._replace(message=f"Account {account}: {finding.message}")
            else:
                self.halted.add(where)
            self.add(finding)
        except WireError as fault:
            self.unfinished = True
            said, advice = no_answer(fault, *api)
            lost = lost or f"Account {account} was not read to its end"
            self.find("error", "no_answer", where, f"{lost}: {said}.", advice)
        except AdsRefused as refusal:
            self.unfinished |= refusal.means is not None  # a quota: it passes
            message = f"Account {account} was not read to its end. Google says: {refusal.code}: {refusal.message}"
            advice = "" if refusal.means is None else "Try again later."
            self.find("error", "refused", where, message.rstrip(": "), advice)
        except DirectRefused as refusal:
            self.unfinished |= refusal.passes
            message = f"Account {account} was not read to its end. {refusal.message}"
            self.find("error", "refused", where, message, refusal.advice)
        except (UsageError, LedgerError):
            raise
        except ConvsyncError as error:
            self.misconfigured |= isinstance(error, ConfigError)
            self.unfinished |= error.exit_code is Exit.UNFINISHED
            self.find("error", "account", where, error.message, error.advice)
