"""The runtimes: httpx, and the upstream connections."""
