"""What the mesh says of a call in its headers: the number of the attempt, and that it is a mirrored copy."""

from __future__ import annotations

ATTEMPT_COUNT = b"x-envoy-attempt-count"
HOST = b"host"


def shadow_host(host: bytes) -> bytes:
    """``api-shadow:80`` of ``api:80``."""
    name, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        return name + b"-shadow:" + port
    return host + b"-shadow"
