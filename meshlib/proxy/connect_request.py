"""CONNECT as policy and telemetry see it: a request of which the host and port count, and bytes that are no part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from meshlib.proxy.destination import connect_authority
from meshlib.proxy.request import ProxyRequest

if TYPE_CHECKING:
    from meshlib.transport.protocol.http1_head import RequestHead


class ConnectRequest(ProxyRequest):
    """For ``authority``, a host and port. ``received``: bytes that the client has sent through the tunnel, known at its end.
    ``came_by``: the addresses of its client's connection, who has connected and where to, "" where that is not known."""

    __slots__ = ("came_by", "received")

    def __init__(self, authority: bytes, lines: bytes, lower: bytes) -> None:
        super().__init__(b"CONNECT", authority, b"", lines, lower, None)
        self.protocol = "tcp"
        self.received = 0
        self.came_by = ("", "")

    @classmethod
    def of(cls, head: RequestHead) -> Self:
        """What a head asks for. Raises ``Refused``."""
        return cls(connect_authority(head), head.lines, head.lower)

    def shadow(self) -> Self:
        """Nothing mirrors a tunnel."""
        raise NotImplementedError

    def sent_bytes(self) -> int:
        """Its head, and what came through the tunnel."""
        return self.head_bytes() + self.received

    def body_bytes(self) -> int:
        """What came through the tunnel."""
        return self.received
