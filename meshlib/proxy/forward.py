"""Requests of the outbound side: routed by the mesh's rules, and on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.exchange import exchange_of
from meshlib.engine.route import route
from meshlib.policy.sidecar_headers import outbound_lines
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.http2_call import Http2Call
from meshlib.proxy.http2_forwarding import Http2Forwarding
from meshlib.proxy.means import Means
from meshlib.proxy.plain_forwarding import PlainForwarding
from meshlib.proxy.responder import Straight, mesh_closed
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Responder, UnderWay
    from meshlib.transport.core.mesh_core import MeshCore

CLIENT_CERT = b"x-forwarded-client-cert:"


class Forwarder(Means):
    """Forwards the requests of one event loop by one mesh."""

    def __init__(self, core: MeshCore) -> None:
        super().__init__(core)
        self.spares: list[PlainForwarding] = []
        """To be used again. Those used last come first: what they have is in the caches."""
        self.http2_spares: list[Http2Forwarding] = []
        """Likewise."""

    def forward(self, request: ProxyRequest, responder: Responder) -> UnderWay | None:
        """Begin; the response may be on its way before this returns. What this returns cancels it; None: the mesh is closed,
        and the client was told."""
        core = self.core
        live = core.live
        if live is None:
            mesh_closed(responder)
            return None
        if request.has_envoy_headers or CLIENT_CERT in request.special:
            request.relined(*outbound_lines(request.lines, request.lower))
        headers = live.snapshot.inbound.default.mesh.proxy_headers
        if not headers.attempt_count:
            request.counts = False
        multiplexed = type(responder) is Http2Call
        if (
            (multiplexed or (isinstance(responder, Straight) and request.protocol == "http"))
            and not PLAIN
            and core.exchange_of is exchange_of
        ):
            if multiplexed:
                calls = self.http2_spares
                forwarding = calls.pop() if calls else Http2Forwarding(self, calls, request, live)
                return forwarding.begin(request, live, responder, headers)  # type: ignore[arg-type]
            snapshot = live.snapshot
            vhost = snapshot.seen.get((request.dialled, request.authority, request.scheme)) or snapshot.virtual_host(
                request.dialled, request.scheme, request.authority
            )
            rule = vhost.single
            if rule is None:  # as ``route``
                found = vhost.index.find(request)
                if found >= 0:
                    rule = vhost.rules[found]
            spares = self.spares
            plain = spares.pop() if spares else PlainForwarding(self, spares, request, live)
            return plain.begin(request, live, responder, headers, vhost, rule)  # type: ignore[arg-type]  # it is straight
        call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        call.record = route(live.snapshot, request)
        other = Forwarding(self, call, responder)
        other.start()
        return other
