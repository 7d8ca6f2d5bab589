"""Requests of the outbound side: routed by the mesh's rules, and on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.route import route
from meshlib.policy.sidecar_headers import outbound_lines
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.http2_forwarding import Http2Forwarding
from meshlib.proxy.http2_request import Http2Request
from meshlib.proxy.means import Means
from meshlib.proxy.responder import mesh_closed

if TYPE_CHECKING:
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder

CLIENT_CERT = b"x-forwarded-client-cert:"


class Forwarder(Means):
    """Forwards the requests of one event loop by one mesh."""

    def forward(self, request: ProxyRequest, responder: Responder) -> Forwarding | None:
        """Begin; the response may be on its way before this returns. What this returns cancels it; None: the mesh is closed,
        and the client was told."""
        core = self.core
        live = core.live
        if live is None:
            mesh_closed(responder)
            return None
        if request.has_envoy_headers or CLIENT_CERT in request.special:
            request.relined(*outbound_lines(request.lines, request.lower))
        if not live.snapshot.inbound.default.mesh.proxy_headers.attempt_count:
            request.counts = False
        call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        call.record = route(live.snapshot, request)
        if type(request) is Http2Request:
            forwarding: Forwarding = Http2Forwarding(self, call, responder)  # type: ignore[arg-type]  # its ``Http2Call``
        else:
            forwarding = Forwarding(self, call, responder)
        forwarding.start()
        return forwarding
