"""The hop from the inbound side of the proxy to its application: an outbound exchange over one endpoint, of which nothing is
told but by the request that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.explanation import Exchange
from meshlib.policy.retry import BELOW_500
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.responder import Responder, mesh_closed
from meshlib.proxy.sent_headers import sent_headers
from meshlib.transport.protocol.received_head import ReceivedHead

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_state import BoundInbound, BoundPorts
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.header_ops import Headers
    from meshlib.policy.sidecar_headers import ProxyHeaders
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


class Lane:
    """What the requests that ``hop`` leads to its application have in common for as long as a configuration is in use
    (``ports``): ``bound`` is what ``Server.straight`` says of their port, ``settings`` what a proxy says of itself in headers;
    ``live`` and ``path`` lead to the application. ``usual``: no 200 of it is asked for again, whatever it says. ``spares``:
    ``PlainServing``s of requests that are over, to be used again; they go with the configuration."""

    __slots__ = ("bound", "hop", "live", "path", "ports", "settings", "spares", "usual")

    def __init__(self, hop: Hop, ports: BoundPorts, bound: BoundInbound, settings: ProxyHeaders) -> None:
        self.hop = hop
        self.ports = ports
        self.bound = bound
        self.settings = settings
        self.live, self.path = hop.application.path(False)
        rule = self.path.single
        self.usual = rule is not None and not rule.retry.retry_on.bits & BELOW_500
        self.spares: list[Any] = []  # whose module needs this one


class Hop:
    """Forwards to ``application``, by the connections of ``forwarder``. ``lane``: of the configuration that requests were
    served by last; None: there were none."""

    __slots__ = ("application", "forwarder", "lane", "loop")

    def __init__(self, forwarder: HopForwarder, application: Application) -> None:
        self.forwarder = forwarder
        self.application = application
        self.loop = forwarder.loop
        self.lane: Lane | None = None

    def lane_of(self, ports: BoundPorts, bound: BoundInbound, settings: ProxyHeaders) -> Lane:
        """The lane of this configuration. Raises ``LookupError`` of a mesh that is closed."""
        lane = self.lane
        if lane is None or lane.ports is not ports or lane.bound is not bound or lane.settings is not settings:
            self.forget()
            lane = self.lane = Lane(self, ports, bound, settings)
        return lane

    def forget(self) -> None:
        """What is kept to be used again: nobody uses it now, or another configuration has come."""
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.spares.clear()  # which refer to it

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
