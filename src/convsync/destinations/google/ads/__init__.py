"""The Google Ads API: uploads for whom Google still lets in, retractions and reading for all."""
