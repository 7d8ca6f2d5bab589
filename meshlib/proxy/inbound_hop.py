"""The hop from the inbound side of the proxy to its application: an outbound exchange over one endpoint, of which nothing is
told but by the request that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.explanation import Exchange
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.responder import Responder, mesh_closed
from meshlib.proxy.sent_headers import sent_headers
from meshlib.transport.protocol.received_head import ReceivedHead

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.header_ops import Headers
    from meshlib.proxy.inbound_application import Application
    from meshlib.proxy.request import ProxyRequest
    from meshlib.transport.core.mesh_core import MeshCore

AnyExchange = TypeVar("AnyExchange")


class Untold:
    """Records nothing: what the hop comes to is told with the request that was served."""

    keeps_calls = True

    def began(self, _call: object) -> None:
        """No span."""

    def spanned(self, _span: object, exchange: AnyExchange) -> AnyExchange:
        """As it is."""
        return exchange

    def ended(self, _call: object, _span: object) -> None:
        """It is over."""

    def broken(self, _call: object, _span: object) -> None:
        """It was broken off."""


UNTOLD = Untold()


class Waiting(Responder, Protocol):
    """Whom the response goes to: a request that is served."""

    call: InboundCall
    """What it comes to. ``hop`` is noted on it."""


def _untimed(call: Call[ProxyRequest], outcome: Outcome, local: bool) -> Headers:
    """As ``sent_headers``; how long it took is said, of a head that came, by who serves the request, with the rest that he says
    (``as_server``)."""
    headers = outcome.headers
    return headers if type(headers) is ReceivedHead and not local else sent_headers(call, outcome, local)


class HopForwarding(Forwarding):
    """One whose response goes to who serves the request that it is for."""

    __slots__ = ()
    _sent_headers = staticmethod(_untimed)


class HopForwarder(Forwarder):
    """The connections of all ``Hop``s of an event loop."""

    def __init__(self, core: MeshCore) -> None:
        super().__init__(core)
        self.telemetry = UNTOLD
        self.serving_spares: list[Any] = []  # ``PlainServing``s, whose module needs this one


class Hop:
    """Forwards to ``application``, by the connections of ``forwarder``."""

    __slots__ = ("application", "forwarder", "loop")

    def __init__(self, forwarder: HopForwarder, application: Application) -> None:
        self.forwarder = forwarder
        self.application = application
        self.loop = forwarder.loop

    def serve(self, request: ProxyRequest, waiting: Waiting, http2: bool) -> Forwarding | None:
        """Begin; the response may be on its way before this returns. What this returns cancels it; None: the mesh is closed,
        and the client was told."""
        try:
            live, path = self.application.path(http2)
        except LookupError:
            mesh_closed(waiting)
            return None
        core = self.forwarder.core
        call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        call.record = Exchange(path, path.single, live.snapshot.version)
        waiting.call.hop = call
        forwarding = HopForwarding(self.forwarder, call, waiting)
        forwarding.start()
        return forwarding
