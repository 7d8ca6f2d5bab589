"""What the mesh says of a call in its headers: the number of the attempt, and that it is a mirrored copy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

ATTEMPT_COUNT = b"x-envoy-attempt-count"
HOST = b"host"


def size_of(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes of names and values."""
    return len(b"".join(chain.from_iterable(headers)))  # in C, as most calls ask


def shadow_host(host: bytes) -> bytes:
    """``api-shadow:80`` of ``api:80``."""
    name, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        return name + b"-shadow:" + port
    return host + b"-shadow"


def joined_value(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of a header (``name`` in lower case) among these, of a repeated one all, joined with ","; None when absent."""
    wanted = name.encode("latin-1", "replace")
    found = [value for key, value in headers if key.lower() == wanted]
    return b",".join(found).decode("latin-1") if found else None
