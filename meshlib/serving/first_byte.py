"""What becomes of a connection by its first byte and the mode of its port. Pure.

A TLS client speaks first, and the first byte of its first record is 0x16 (handshake), whatever the version (RFC 8446 5.1,
RFC 5246 6.2.1). No request of HTTP, in no version, begins with it. Envoy's TLS inspector, which reads the whole
ClientHello, tells the two apart by the same byte.
"""

from __future__ import annotations

from enum import Enum

from meshlib.policy.mtls_mode import MtlsMode

HANDSHAKE = 0x16
"""The content type of the record that a TLS connection begins with."""


class Verdict(Enum):
    """What the acceptor does."""

    PLAIN = "plain"
    """Serve it as it is."""
    TLS = "tls"
    """Shake hands."""
    RESET = "reset"
    """Reset it (RST), as an Envoy without a filter chain that matches does."""
    RESET_UNSAID = "reset, unsaid"
    """The same, of which whoever has judged it has told."""


class Refusal(Enum):
    """Why a connection is reset."""

    PLAIN_TEXT = "plain text"
    """The port takes TLS only."""
    NO_CERTIFICATE = "no certificate"
    """It is TLS, and there is nothing that we can show."""


def verdict(first: int, mode: MtlsMode, has_certificate: bool) -> Verdict:
    """``first``: the first byte that the client has sent. ``has_certificate``: whether there is one that we can show now;
    without one nobody can be spoken to over TLS. DISABLE looks at nothing: what is not HTTP is refused by its reader."""
    if mode is MtlsMode.DISABLE:
        return Verdict.PLAIN
    if first == HANDSHAKE:
        return Verdict.TLS if has_certificate else Verdict.RESET
    return Verdict.PLAIN if mode is MtlsMode.PERMISSIVE else Verdict.RESET


def why_reset(first: int) -> Refusal:
    """Of a connection whose verdict is RESET, by its first byte."""
    return Refusal.NO_CERTIFICATE if first == HANDSHAKE else Refusal.PLAIN_TEXT
