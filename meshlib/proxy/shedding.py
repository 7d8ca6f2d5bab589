"""A forwarder that turns requests away while the process has more than it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.proxy.forward import Forwarder, Forwarding
from meshlib.proxy.overload import BODY, HEADERS, STATUS, Overload
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_outbound

if TYPE_CHECKING:
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder
    from meshlib.transport.core.mesh_core import MeshCore


class Shedding(Forwarder):
    """Forwards what ``overload`` lets through."""

    def __init__(self, core: MeshCore, overload: Overload) -> None:
        super().__init__(core)
        self._overload = overload

    def forward(self, request: ProxyRequest, responder: Responder) -> Forwarding | None:
        """As of ``Forwarder``; None too when it was turned away: the client was told."""
        if self._overload.refuses_request():
            turn_away(responder)
            told_of_outbound(self.core, TURNED_AWAY, asked_of(request))
            return None
        return super().forward(request, responder)


class Told(Protocol):
    """Who is told: a ``Responder``, or who has sent CONNECT."""

    def respond(
        self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None, /
    ) -> None: ...


def turn_away(responder: Told) -> None:
    """Envoy's response."""
    responder.respond(STATUS, b"Service Unavailable", HEADERS, BODY, None)
