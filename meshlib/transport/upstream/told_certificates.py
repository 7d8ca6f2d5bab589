"""What OpenSSL tells of a peer's certificate, read once for each certificate: peers come again, and to read names and dates
takes longer than to compare bytes.

It is known by all of its bytes, so it says the same each time; whether it is genuine and trusted each handshake verifies
anew, and its dates are compared with the clock by whoever reads them here.
"""

from __future__ import annotations

import ssl
from typing import Any

MOST = 256
"""Certificates that are kept."""

Told = dict[str, object]

_in_c: Any = getattr(ssl.SSLContext.__base__, "verify_mode", ssl.SSLContext.verify_mode)
_verify_mode = _in_c.__get__
"""The number that ``SSLContext.verify_mode`` makes a member of an enum, in 60 steps."""

_told: dict[bytes, Told] = {}


def told_of(peer: Any, leaf: bytes | None = None) -> Told | None:
    """As ``peer.getpeercert()`` of an ``SSLObject`` or ``SSLSocket``, to be read alone: None without a certificate, {} of
    one that nobody has verified. ``leaf``: what ``peer.getpeercert(True)`` gives, where that was asked. Raises ValueError of
    names that are not text."""
    # what is told of a verified certificate must not be told of the same bytes where nobody has verified them
    if _verify_mode(peer.context) == ssl.CERT_NONE:
        return _read(peer)
    der = leaf or peer.getpeercert(True)
    if der is None:
        return None
    found = _told.get(der)
    if found is None:
        found = _read(peer)
        if found:
            if len(_told) >= MOST:
                _told.clear()
            _told[der] = found
    return found


def _read(peer: Any) -> Told | None:
    found = peer.getpeercert()
    return found if isinstance(found, dict) else None
