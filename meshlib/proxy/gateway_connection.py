"""One HTTP connection of a client of a gateway: its requests are judged as those to an application are, and forwarded as those
of an application are, by the routes of the server that it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.exchange import exchange_of
from meshlib.engine.inbound import asked_at_once
from meshlib.engine.route import MOST_HOSTS, host_in, route_in
from meshlib.policy.client_address import ClientFacts, ip_of, remote_of
from meshlib.policy.edge_headers import DETAILS, AtTheEdge
from meshlib.proxy.gateway_request import GatewayRequest, GatewayServed
from meshlib.proxy.http_connection import SAYS_DEADLINE, SAYS_TIMEOUT, ServedConnection, deadline_of
from meshlib.proxy.http_connection import UPGRADE as ASKS_UPGRADE
from meshlib.proxy.inbound_hop import HopForwarding
from meshlib.proxy.inbound_serving import Serving
from meshlib.proxy.plain_forwarding import PlainForwarding
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_outbound
from meshlib.proxy.request import UPGRADE
from meshlib.proxy.responder import Straight, mesh_closed
from meshlib.proxy.served_responses import ServedResponses
from meshlib.proxy.splice import DIRECT
from meshlib.security.shown_certificate import element_of
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Mapping

    from meshlib.compiler.gateway_model import GatewayChain, GatewayPort
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.compiler.routes import VirtualHost
    from meshlib.engine.check import Check
    from meshlib.engine.inbound_state import BoundInbound
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.request_ids import RequestIds
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.proxy.first_words import Greets
    from meshlib.proxy.forward import Forwarder
    from meshlib.proxy.forwarding import Forwarding
    from meshlib.proxy.gateway_tls import Contexts, GatewayPeer
    from meshlib.proxy.inbound_hop import Waiting
    from meshlib.proxy.overload import Overload
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Downstream, Responder, StraightResponder, UnderWay
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.runtimes.serving import Server


class PortNow:
    """Of a port and a configuration (None: the mesh is closed): ``bound``, as ``Server.straight`` has it, the settings of the
    mesh, and what connections are served by, by the names of their chains. Connections ask for it anew at each request: one
    that is idle keeps no configuration."""

    __slots__ = ("bound", "chains", "hosts", "live", "mesh")

    def __init__(
        self, live: LiveMesh | None, bound: BoundInbound | None, mesh: MeshSettings, chains: Mapping[str, GatewayChain]
    ) -> None:
        self.live = live
        self.bound = bound
        self.mesh = mesh
        self.chains = chains
        self.hosts: dict[tuple[str, str, str], VirtualHost] = {}
        """What ``host`` has found."""

    def host(self, chain: str, scheme: str, authority: str) -> VirtualHost | None:
        """Whose requests with this authority are that come by this chain; None: nobody's."""
        there = self.chains.get(chain)
        hosts = None if there is None else there.http
        found = None if hosts is None else host_in(hosts.secure if scheme == "https" else hosts.plain, authority)
        if found is not None and len(self.hosts) < MOST_HOSTS:
            self.hosts[chain, scheme, authority] = found
        return found


class Gate(Protocol):
    """A port of a gateway as its connections know it: a ``GatewayListener``, which says what each of these is."""

    core: MeshCore
    server: Server
    forwarder: Forwarder
    contexts: Contexts
    counts: Counter[str]
    ids: RequestIds
    draining: bool
    overload: Overload | None

    @property
    def number(self) -> int: ...
    @property
    def port(self) -> GatewayPort | None: ...
    def now(self) -> PortNow: ...
    def opened(self, connection: Downstream, /) -> None: ...
    def passed_on(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...
    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None, /) -> None: ...
    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, flood: bool = False, /) -> None: ...
    def greeting(self, connection: Greets, /) -> None: ...
    def greeted(self, connection: Greets, /) -> None: ...
    def say(self, sentence: str, /) -> None: ...
    def not_shaken(self, transport: asyncio.BaseTransport, error: BaseException | None, /) -> None: ...


class GatewayConnection(ServedConnection[Gate]):
    """A connection as its requests know it, and what forwards them. ``chain``: as it was when it came; ``tls`` None in plain
    text."""

    __slots__ = (
        "_came_by",
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
        "_responses",
        "_tls",
    )

    request_type = GatewayRequest

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
        self._came_by = ("", "")
        self._responses: ServedResponses | None = None

    # -- as a listener --------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether responses are the last of their connection: also where its server is no more."""
        listener = self._listener
        return listener.draining or self._chain not in listener.now().chains

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
        self._came_by = self._client, self._local
        self._listener.opened(connection)

    def closed(self, connection: Downstream) -> None:
        """It has gone."""
        self._responses = None  # which knows the client, that knows this: nothing is left for the garbage collector
        self._listener.closed(connection)

    # -- requests -------------------------------------------------------------------------------------------------------

    def _turned_away(self, request: ProxyRequest) -> None:
        told_of_outbound(self.core, TURNED_AWAY, asked_of(request))

    def _serve(self, request: ProxyRequest, responder: Responder) -> UnderWay:
        listener, tls = self._listener, self._tls
        now = listener.now()
        mesh = now.mesh
        if mesh is not self._edge_by:  # the first request, or a reload
            self._edge, self._edge_by = self._edge_of(mesh), mesh
        found = None if tls is None else tls.identity()
        lines, lower, client_ip, scheme, asks = self._edge.of(request.lines, request.lower, self.ids.take().decode())
        facts_by = client_ip, "" if found is None else found.text
        if facts_by != self._facts_by:  # nearly all requests of a connection have the same
            self._facts, self._facts_by = self._facts_of(*facts_by), facts_by
        sent = request if type(request) is GatewayRequest else GatewayRequest.of(request)
        sent.at_the_edge(lines, lower, scheme, asks, self._came_by, self._facts)
        bound, checks, special = now.bound, None, request.special
        if (
            bound is not None
            and isinstance(responder, Straight)
            and self.core.exchange_of is exchange_of
            and request.protocol == "http"
            and UPGRADE not in special
            and SAYS_DEADLINE not in special
            and SAYS_TIMEOUT not in special
        ):  # nearly all
            served: GatewayServed | None = None
            checks = bound.checks
            if checks:
                served = self._served(sent, request.version, client_ip, found)
                checks = asked_at_once(served, checks) or ()
                sent.claims = served.claims
            if served is None or not (checks or served.changes_response or served.for_application is not None):
                begun = self._forwarded(now, sent, responder)
                if begun is not None:
                    return begun
        else:
            served = None
        if served is None:
            served = self._served(sent, request.version, client_ip, found)
        return self._judged(now, served, responder, checks)

    def _forwarded(self, now: PortNow, sent: GatewayRequest, responder: StraightResponder) -> UnderWay | None:
        """Go on with a request that was let in. None: its host is nobody's, and nothing has happened."""
        live, asked = now.live, (self._chain, sent.scheme, sent.authority)
        vhost = now.hosts.get(asked) or now.host(*asked)
        if vhost is None or live is None:
            return None
        rule = vhost.single
        if rule is None:  # as ``route_in``
            at = vhost.index.find(sent)
            if at >= 0:
                rule = vhost.rules[at]
        if rule is None or (rule.redirect is None and rule.direct is None):
            sent.scheme = "http"  # as in ``serve``
        headers = now.mesh.proxy_headers
        if not headers.attempt_count:
            sent.counts = False
        responses = self._responses
        if responses is None:
            responses = self._responses = ServedResponses(responder, self.core.clock)
        responses.settings = headers
        forwarder = self._listener.forwarder
        spares = forwarder.spares
        plain = spares.pop() if spares else PlainForwarding(forwarder, spares, sent, live)
        return plain.begin(sent, live, responses, headers, vhost, rule)

    def _judged(
        self, now: PortNow, served: GatewayServed, responder: Responder, checks: tuple[Check, ...] | None
    ) -> Serving:
        """The same by the long way. ``checks``: those that are left to be asked, None: nothing was asked."""
        server, sent = self._listener.server, served.sent_on
        upgrade = sent.lower.find(ASKS_UPGRADE) >= 0
        deadline = None if upgrade else deadline_of(sent, server)
        bound = now.bound if deadline is None else None
        serving = Serving(server, self, now.mesh.proxy_headers, served, responder, deadline, upgrade, bound)
        if checks is not None:
            serving.call.checks = checks
        serving.start()
        return serving

    def _served(
        self, sent: GatewayRequest, version: str | None, client_ip: str, found: SpiffeId | None
    ) -> GatewayServed:
        """As policies see it."""
        tls = self._tls
        sni = "" if tls is None else tls.sni
        number = self._listener.number
        served = GatewayServed(sent, self._peer, self._local_ip, number, sni, tls is not None, client_ip)
        if version is not None:
            served.spoke(version)
        if tls is not None:
            served.mutual = bool(tls.leaf)
            if found is not None:
                served.peer_id, served.principal = found, found.text
        return served

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
        chain = self._listener.now().chains.get(self._chain)
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
