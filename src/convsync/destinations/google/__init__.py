"""Google Ads. Two routes: the Data Manager API, open to everybody, and the Google Ads API, for those it was open to."""

from convsync.destinations.google.ads.route import Ads
from convsync.destinations.google.data_manager import DataManager

__all__ = ["Ads", "DataManager"]
