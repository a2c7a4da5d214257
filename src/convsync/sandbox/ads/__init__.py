"""The Google Ads API of the sandbox: gRPC over TLS, the unmodified client connects to it."""
