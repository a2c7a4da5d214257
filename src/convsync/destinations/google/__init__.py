"""Google Ads. One route so far: offline conversions through the Data Manager API."""

from convsync.destinations.google.data_manager import DataManager

__all__ = ["DataManager"]
