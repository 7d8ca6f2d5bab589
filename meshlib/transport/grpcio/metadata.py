"""gRPC metadata and raw HTTP headers: the same pairs, spelled as grpcio and as the wire want them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from meshlib.policy.header_ops import Headers, RawHeaders
from meshlib.policy.regex import wire
from meshlib.transport.grpcio.contracts import Pairs, Value

NOT_METADATA = frozenset(("host", "te", "content-type", "grpc-status", "grpc-message", "content-length"))
"""Headers that are HTTP's or gRPC's own business: they have no place in metadata."""


def to_text(name: str, value: Value) -> str:
    """A value as a wire string, where binary ones are base64 without padding."""
    if isinstance(value, bytes):
        if name.endswith("-bin"):
            return base64.b64encode(value).decode("ascii").rstrip("=")
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise TypeError(f"metadata {name!r}: expected str or bytes, not {type(value).__name__}")
    return wire(value)


def to_raw(metadata: Iterable[tuple[str, Value]]) -> RawHeaders:
    """As header operations see it."""
    return [(wire(name).encode("latin-1"), to_text(name, value).encode("latin-1")) for name, value in metadata]


def from_raw(headers: Headers) -> Pairs:
    """What header operations left, as grpcio wants it."""
    made: list[tuple[str, Value]] = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name in NOT_METADATA or name.startswith(":"):
            continue
        made.append((name, _binary(raw_value) if name.endswith("-bin") else raw_value.decode("latin-1")))
    return tuple(made)


def _binary(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return value  # a rule put something there that is not base64: the server gets it as it is
