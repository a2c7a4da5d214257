"""The Google Ads API: uploads for whom Google still lets in, retractions and reading for all."""

from convsync.destinations.google.ads.route import Ads

__all__ = ["Ads"]
