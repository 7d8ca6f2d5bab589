"""What becomes of a connection by its first byte and the mode of its port. Pure.

A TLS client speaks first, and the first byte of its first record is 0x16 (handshake), whatever the version (RFC 8446 5.1,
RFC 5246 6.2.1). No request of HTTP, in no version, begins with it. Envoy's TLS inspector, which reads the whole
ClientHello, tells the two apart by the same byte.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.mtls_mode import MtlsMode

if TYPE_CHECKING:
    import asyncio
    import socket

    from meshlib.alarms import Alarms

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


class Judge(Protocol):
    """Decides by what a client has sent so far, which may be nothing; None: that does not tell yet."""

    def __call__(self, sock: socket.socket, first: bytes, has_certificate: bool, /) -> Verdict | None: ...


class Detection(Protocol):
    """Says how long it is waited for a client to say enough for ``Judge``, and what then becomes of its connection: it may be
    the server who speaks first."""

    @property
    def alarms(self) -> Alarms: ...
    def seconds(self) -> float:
        """0: for as long as for anything else that a client has to say."""
        ...

    def verdict(self, sock: socket.socket, first: bytes, has_certificate: bool, /) -> Verdict:
        """By what has come until then."""
        ...

    def plain(self) -> asyncio.Protocol:
        """What then serves it in plain text, and waits for nothing."""
        ...
