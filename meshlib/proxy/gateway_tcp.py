"""A connection of a client of a gateway whose bytes nobody reads: TCP, TLS that ends elsewhere, and what comes out of TLS that
ends here. It goes where a tcp or tls rule leads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.explanation import Exchange
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.client_address import ClientFacts, ip_of
from meshlib.proxy.connect import Connecting
from meshlib.proxy.gateway_request import GatewayConnect
from meshlib.proxy.splice import DIRECT, Splice, refused_by_policies

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChain
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.proxy.connect_request import ConnectRequest
    from meshlib.proxy.gateway_connection import Gate
    from meshlib.proxy.gateway_tls import GatewayPeer

log = logging.getLogger("meshlib.proxy")


class ConnectionFacts(InboundRequest):
    """``client_ip``: who the client is, by the PROXY protocol or by its connection."""

    client_ip = ""

    @property
    def remote_ip(self) -> str:
        """As ``client_ip``."""
        return self.client_ip


class GatewayTcp(Splice):
    """A connection of ``chain``, which is as it was when it came. ``sni``: the server name that it asked for; ``first``: what
    has been read of it; ``tls``: its client, where TLS ended here."""

    _listener: Gate

    def __init__(
        self,
        listener: Gate,
        chain: GatewayChain,
        sni: str = "",
        first: bytes = b"",
        tls: GatewayPeer | None = None,
    ) -> None:
        super().__init__(listener, first)
        self._chain = chain
        self._sni = sni
        self._tls = tls

    def begun(self) -> Connecting | None:
        """By the first rule of its chain, if policies let it in."""
        live = self._listener.core.live
        path = self._chain.path
        if live is None or path is None or not self._may(live):
            return None
        core = self._listener.core
        authority = f"{self._sni}:{self._listener.number}" if self._sni else self._own_address()
        peer, direct, tls = self._address("peername"), self._direct(), self._tls
        found = None if tls is None else tls.identity()
        client = ClientFacts(peer, direct, self._own_address(), "" if found is None else found.text, self._sni)
        request = GatewayConnect(authority.encode("latin-1", "replace"), client)
        request.came_by = (peer, self._own_address())
        call: Call[ConnectRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS)
        call.record = Exchange(path, path.single, live.snapshot.version)
        return Connecting(self._listener.forwarder, call, self)

    def _may(self, live: LiveMesh) -> bool:
        if not self._chain.judged:
            return True
        tls = self._tls
        found = None if tls is None else tls.identity()
        peer = self._direct()
        request = ConnectionFacts(
            "",
            "/",  # no rule is left that asks for one
            protocol="tcp",
            peer=peer,
            local_ip=ip_of(self._address("sockname")),
            port=self._listener.number,
            sni=self._sni,
            peer_id=found,
            secure=bool(self._sni),
            mutual=tls is not None and bool(tls.leaf),
        )
        request.client_ip = ip_of(self._address("peername"))
        refusal = refused_by_policies(self._listener.core, live, request)
        if refusal is not None:
            log.debug("a connection of %s to %s is refused by AuthorizationPolicies", peer, self._chain.server)
        return refusal is None

    def _direct(self) -> str:
        """Who has connected: behind a load balancer of the PROXY protocol that."""
        return self._address(DIRECT) or self._address("peername")

    def _own_address(self) -> str:
        return self._address("sockname")
