"""One HTTP connection of a client of a gateway: its requests are judged as those to an application are, and forwarded as those
of an application are, by the routes of the server that it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.route import route_in
from meshlib.policy.client_address import ClientFacts, ip_of, remote_of
from meshlib.policy.edge_headers import DETAILS, AtTheEdge
from meshlib.policy.request_ids import new_request_id
from meshlib.proxy.gateway_request import GatewayRequest, GatewayServed
from meshlib.proxy.http_connection import UPGRADE, ServedConnection, deadline_of
from meshlib.proxy.inbound_hop import HopForwarding
from meshlib.proxy.inbound_serving import Serving
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_outbound
from meshlib.proxy.responder import mesh_closed
from meshlib.proxy.splice import DIRECT
from meshlib.security.shown_certificate import element_of
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    import asyncio
    import random
    from collections import Counter

    from meshlib.compiler.gateway_model import GatewayChain, GatewayPort
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.proxy.first_words import Greets
    from meshlib.proxy.forward import Forwarder
    from meshlib.proxy.forwarding import Forwarding
    from meshlib.proxy.gateway_tls import Contexts, GatewayPeer
    from meshlib.proxy.inbound_hop import Waiting
    from meshlib.proxy.overload import Overload
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Downstream, Responder
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.runtimes.serving import Server


class Gate(Protocol):
    """A port of a gateway as its connections know it: a ``GatewayListener``, which says what each of these is."""

    core: MeshCore
    server: Server
    forwarder: Forwarder
    contexts: Contexts
    counts: Counter[str]
    rng: random.Random
    draining: bool
    overload: Overload | None

    @property
    def number(self) -> int: ...
    @property
    def port(self) -> GatewayPort | None: ...
    def chain(self, name: str, /) -> GatewayChain | None: ...
    def opened(self, connection: Downstream, /) -> None: ...
    def passed_on(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...
    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None, /) -> None: ...
    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, /) -> None: ...
    def greeting(self, connection: Greets, /) -> None: ...
    def greeted(self, connection: Greets, /) -> None: ...
    def say(self, sentence: str, /) -> None: ...
    def not_shaken(self, transport: asyncio.BaseTransport, error: BaseException | None, /) -> None: ...


class GatewayConnection(ServedConnection[Gate]):
    """A connection as its requests know it, and what forwards them. ``chain``: as it was when it came; ``tls`` None in plain
    text."""

    __slots__ = (
        "_chain",
        "_client",
        "_client_ip",
        "_edge",
        "_edge_by",
        "_element",
        "_facts",
        "_facts_by",
        "_local",
        "_local_ip",
        "_local_port",
        "_peer",
        "_tls",
    )

    def __init__(self, listener: Gate, chain: GatewayChain, tls: GatewayPeer | None) -> None:
        super().__init__(listener, b"")
        self._chain = chain.name
        self._tls = tls
        self._peer = self._client = self._client_ip = self._local_ip = self._local = ""
        self._local_port: int | None = None
        self._element: bytes | None = None
        self._edge: AtTheEdge
        self._edge_by: MeshSettings | None = None  # by which the edge was made
        self._facts: ClientFacts | None = None
        self._facts_by: tuple[str, str] | None = None

    # -- as a listener --------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether responses are the last of their connection: also where its server is no more."""
        return self._listener.draining or self._listener.chain(self._chain) is None

    def opened(self, connection: Downstream) -> None:
        """It is there."""
        transport = connection.transport
        name = transport.get_extra_info("peername")
        self._client = address(name[0], name[1]) if isinstance(name, tuple) else ""
        self._client_ip = ip_of(self._client)
        direct = transport.get_extra_info(DIRECT)
        self._peer = self._client if direct is None else address(direct[0], direct[1])
        name = transport.get_extra_info("sockname")
        self._local_ip = name[0] if isinstance(name, tuple) else ""
        self._local = address(name[0], name[1]) if isinstance(name, tuple) else ""
        self._local_port = name[1] if isinstance(name, tuple) else None
        self._listener.opened(connection)

    # -- requests -------------------------------------------------------------------------------------------------------

    def _turned_away(self, request: ProxyRequest) -> None:
        told_of_outbound(self.core, TURNED_AWAY, asked_of(request))

    def _serve(self, request: ProxyRequest, responder: Responder) -> Serving:
        listener, mesh, tls = self._listener, _settings(self), self._tls
        server = listener.server
        if mesh is not self._edge_by:  # the first request, or a reload
            self._edge, self._edge_by = self._edge_of(mesh), mesh
        lines, lower, client_ip, scheme, asks = self._edge.of(request.lines, request.lower, new_request_id(self.rng))
        sent = GatewayRequest.of(request, lines, lower, scheme, asks)
        served = GatewayServed(
            sent,
            self._peer,
            self._local_ip,
            listener.number,
            "" if tls is None else tls.sni,
            tls is not None,
            client_ip,
        )
        if request.version is not None:
            served.version = request.version
            served.http2 = request.version[:6] == "HTTP/2"
        if tls is not None:
            _note(served, tls, tls.identity())
        sent.came_by = (self._client, self._local)
        facts_by = client_ip, served.principal
        if facts_by != self._facts_by:  # nearly all requests of a connection have the same
            self._facts, self._facts_by = self._facts_of(*facts_by), facts_by
        sent.client = self._facts
        upgrade = sent.lower.find(UPGRADE) >= 0
        deadline = None if upgrade else deadline_of(sent, server)
        serving = Serving(
            server,
            self,
            mesh.proxy_headers,
            served,
            responder,
            deadline,
            upgrade,
            None if deadline is not None else server.straight(listener.number),
        )
        serving.start()
        return serving

    def serve(self, request: GatewayRequest, waiting: Waiting, _http2: bool) -> Forwarding | None:
        """Policies have let it in: forward it by the routes of its server. As of ``Hop``."""
        forwarder = self._listener.forwarder
        core = forwarder.core
        live = core.live
        if live is None:
            mesh_closed(waiting)
            return None
        if not live.snapshot.inbound.default.mesh.proxy_headers.attempt_count:
            request.counts = False
        call: Call[ProxyRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS, core.retry_wait)
        chain = self._listener.chain(self._chain)
        hosts = None if chain is None else chain.http
        table = None if hosts is None else hosts.secure if request.scheme == "https" else hosts.plain
        call.record = route_in(table, live.snapshot, request)
        rule = call.record.rule_object
        if rule is None or (rule.redirect is None and rule.direct is None):
            request.scheme = "http"  # what the client has spoken ends here: TLS to the upstream is the cluster's to say
        waiting.call.hop = call
        forwarding = HopForwarding(forwarder, call, waiting)
        forwarding.start()
        return forwarding

    def _edge_of(self, mesh: MeshSettings) -> AtTheEdge:
        return AtTheEdge(
            mesh.edge,
            self._client_ip,
            self._tls is not None,
            self._about_the_peer(),
            self._local_port if mesh.proxy_headers.forwarded_port else None,
        )

    def _facts_of(self, client_ip: str, principal: str) -> ClientFacts:
        sni = "" if self._tls is None else self._tls.sni
        return ClientFacts(remote_of(self._client, client_ip), self._peer, self._local, principal, sni)

    def _about_the_peer(self) -> bytes | None:
        """The element of X-Forwarded-Client-Cert; None where no certificate was shown."""
        tls = self._tls
        if tls is None or not tls.leaf:
            return None
        if self._element is None:
            self._element = element_of(tls.ours, tls.leaf, tls.chain, DETAILS)
        return self._element


def _note(served: GatewayServed, tls: GatewayPeer, found: SpiffeId | None) -> None:
    served.mutual = bool(tls.leaf)
    if found is not None:
        served.peer_id, served.principal = found, found.text


def _settings(connection: GatewayConnection) -> MeshSettings:
    live = connection.core.live
    return DEFAULTS if live is None else live.inbound.default.settings.mesh
