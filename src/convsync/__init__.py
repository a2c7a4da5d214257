"""Offline conversions from a CRM or an event store to Google Ads, Yandex.Direct and VK Ads, each counted once."""

__version__ = "0.1.0"
