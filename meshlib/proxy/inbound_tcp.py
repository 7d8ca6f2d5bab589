"""A connection to an application whose bytes nobody reads: Istio's inbound TCP proxy. AuthorizationPolicies count as for all
connections without requests, and what it comes to is told as a server tells it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.route import straight
from meshlib.proxy.connect import Connecting
from meshlib.proxy.connect_request import ConnectRequest
from meshlib.proxy.inbound_listener import identity_of, told_of
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.splice import Splice, refused_by_policies
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.proxy.inbound_application import Application
    from meshlib.proxy.inbound_listener import Inbound
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.telemetry.tcp_series import TcpSeries

log = logging.getLogger("meshlib.proxy")


class InboundTcp(Splice):
    """To ``application``, which is where it was ``meant`` to go. ``tls``: its peer, where mTLS of the mesh ended here."""

    _listener: Inbound

    def __init__(
        self,
        listener: Inbound,
        application: Application,
        meant: tuple[str, int],
        tls: TlsPeer | None,
        first: bytes = b"",
    ) -> None:
        super().__init__(listener, first)
        self._application = application
        self._meant = meant
        self._tls = tls  # and with it the connection, which is judged for as long as this serves it

    def begun(self) -> Connecting | None:
        """To the application, if policies let it in."""
        listener = self._listener
        core = listener.core
        live = core.live
        if live is None:
            return None
        ip, port = self._meant
        request = ConnectRequest(address(ip, port).encode("latin-1"), b"", b"\r\n")
        peer, tls = told_of(self.transport.get_extra_info("peername")), self._tls
        served = ServedRequest(request, peer, ip, port, "" if tls is None else tls.sni, tls is not None)
        served.path = "/"  # no rule is left that asks for one
        if tls is not None:
            served.mutual = True
            found = identity_of(core, tls)
            if found is not None:
                served.peer_id, served.principal = found, found.text
        if refused_by_policies(core, live, served) is not None:
            log.debug("a connection of %s to %s is refused by AuthorizationPolicies", peer, served.authority)
            return None
        before, path = self._application.path(False)
        call: Call[ConnectRequest] = Call(request, before, core.clock, core.rng, NO_TIMEOUTS)
        call.record = straight(before.snapshot, path)
        told = ToldAsServer(listener.server.telemetry, listener.server.call(served, lasts=True))
        return Connecting(listener.forwarder, call, self, told)


class ToldAsServer:
    """Tells what a connection came to as ``served``, in place of the call by which it reaches its application."""

    def __init__(self, telemetry: InboundTelemetry, served: InboundCall) -> None:
        self._telemetry = telemetry
        self._served = served
        served.started = served.clock.monotonic()

    def connected(self, call: Call[ConnectRequest]) -> TcpSeries:
        """It is open."""
        self._served.hop = call
        return self._telemetry.connected(self._served)

    def disconnected(self, call: Call[ConnectRequest], series: TcpSeries) -> None:
        """It is over."""
        served = self._served
        served.request_bytes, served.response_bytes = call.request.received, call.streamed
        served.flags = call.record.flags
        self._telemetry.disconnected(served, series)

    def not_connected(self, call: Call[ConnectRequest]) -> None:
        """The application could not be reached."""
        self._served.hop = call
        self._served.flags = call.record.flags
        self._telemetry.not_connected(self._served)
