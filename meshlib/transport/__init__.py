"""The worlds: httpx, and the upstream connections."""
