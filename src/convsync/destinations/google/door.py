"""What both ways into Google have in common: an account, a sign-in, what is added to an action, a look before the first upload."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from convsync.destinations import Route
from convsync.destinations.google import events, extras
from convsync.destinations.google.ads.client import AdsClient
from convsync.destinations.google.auth import SignIn
from convsync.errors import Halted, NotSent, Unclear
from convsync.model import Finding, OnUnknown
from convsync.net import Wire

NOBODY = "+18005550100"
"""A number of Google's own examples, for looks that nothing is to come of. DOC dm/devguides/concepts/formatting"""


def digits(customer: str) -> str:
    """The id of an account as the APIs write it: 123-456-7890 without its dashes."""
    return customer.replace("-", "").strip()


class Door(Route):
    """A way into Google. `targets`, for `probe`, are what the configuration's actions send here; `custom_variables` are the
    names that the sources give.

    `client` reads the account through the Google Ads API, whichever way the uploads go.
    """

    platform = "google"
    on_unknown = OnUnknown.RESEND
    adjusts = True
    reason_per_row = True
    apart = True

    def __init__(
        self,
        name: str,
        *,
        scopes: Sequence[str],
        plain_caller: bool,
        on_refund: str,
        customer_id: str,
        login_customer_id: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        refresh_token: str | None = None,
        credentials_file: Path | None = None,
        developer_token: str | None = None,
        token_url: str = "https://oauth2.googleapis.com/token",  # noqa: S107 — an address
        ads_endpoint: str = "googleads.googleapis.com",
        ads_api_version: str = "v26",
        ca_bundle: Path | None = None,
        event_source: str = "WEB",
        consent_ad_user_data: bool | None = None,
        consent_ad_personalization: bool | None = None,
        combine_identifiers: bool = False,
        merchant_id: str | None = None,
        merchant_feed_label: str | None = None,
        merchant_feed_language: str | None = None,
        max_age: timedelta = timedelta(days=90),
        adjust_max_age: timedelta = timedelta(days=54),
        batch_rows: int = 2000,
        in_flight: int = 4,
        requests_per_second: float = 4.5,
        custom_variables: Sequence[str] = (),
        targets: Sequence[Any] = (),
        wire: Wire | None = None,
    ) -> None:
        self.name = name
        self.account = digits(customer_id)
        self.batch_rows, self.in_flight = batch_rows, in_flight
        self.max_age, self.adjust_max_age = max_age, adjust_max_age
        self.wire = wire or Wire(requests_per_second=requests_per_second)
        self.request_seconds = 2 * self.wire.longest + in_flight
        self._targets = targets
        self._names = tuple(dict.fromkeys(custom_variables))
        self._where = f"destinations.{name}"
        self._defaults = events.Defaults(
            name,
            event_source,
            consent_ad_user_data,
            consent_ad_personalization,
            combine_identifiers,
            on_refund,
            extras.Merchant(merchant_id, merchant_feed_label, merchant_feed_language),
            plain_caller,
        )
        self._sign_in = SignIn(
            self._where,
            wire=self.wire,
            token_url=token_url,
            client_id=client_id,
            client_secret=client_secret,
            refresh_token=refresh_token,
            credentials_file=credentials_file,
            scopes=tuple(scopes),
        )
        self.client = AdsClient(
            self._where,
            sign_in=self._sign_in,
            wire=self.wire,
            endpoint=ads_endpoint,
            version=ads_api_version,
            login_customer_id=login_customer_id,
            developer_token=developer_token,
            ca_bundle=ca_bundle,
        )

    def redact(self, payload: bytes) -> bytes:
        """The caller's number stays as a hash: a corrected one is told from the one that was refused."""
        return events.hashed_caller(payload)

    def close(self) -> None:
        self.client.close()
        self.wire.close()

    # -- check --online ------------------------------------------------------------------------------

    def probe(self) -> list[Finding]:
        try:
            self._sign_in.token()
            signed_in = self._probe_scopes()
            if signed_in.level != "info":
                return [signed_in]
            return [signed_in, *self._probe_account(), *self._probe_targets()]
        except Halted as stop:
            return [stop.finding]
        except (NotSent, Unclear) as fault:
            message = f"Google did not answer ({fault.reason})."
            return [Finding("error", "no_answer", self._where, message, "Check the network, then try again.")]

    @abstractmethod
    def _probe_scopes(self) -> Finding:
        """Whether the token opens this way in."""

    @abstractmethod
    def _probe_account(self) -> Iterable[Finding]:
        """What the Google Ads API tells of the account."""

    @abstractmethod
    def _probe_targets(self) -> Iterable[Finding]:
        """Whether Google would take a conversion for each target; it takes none."""
