"""A port of the inbound side of the proxy: TLS and plain text by the mode of the application's port, and what comes of each
connection served to the application."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.engine.exchange import exchange_of
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.sidecar_headers import at_the_sidecar, proto_line
from meshlib.proxy.http_connection import SAYS_DEADLINE, SAYS_TIMEOUT, Accepts, ServedConnection, deadline_of
from meshlib.proxy.inbound_application import Application, ApplicationAddress
from meshlib.proxy.inbound_hop import Hop, HopForwarder
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.inbound_serving import Serving
from meshlib.proxy.laid_out_request import LaidOutRequest
from meshlib.proxy.plain_serving import PlainServing
from meshlib.proxy.refusals import TURNED_AWAY, asked_of, told_of_inbound
from meshlib.proxy.request import UPGRADE, ProxyRequest
from meshlib.proxy.responder import Straight
from meshlib.proxy.tls_listener import TlsListener
from meshlib.security.shown_certificate import element_of
from meshlib.serving.port_mode import mode_of
from meshlib.transport.asgi.peer import address
from meshlib.transport.protocol.special_lines import SpecialLines

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.engine.inbound_state import BoundInbound, BoundPorts
    from meshlib.engine.live import Live
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.forwarded_client_cert import CertDetails
    from meshlib.policy.sidecar_headers import AtTheSidecar, ProxyHeaders
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.proxy.inbound_hop import Lane
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.responder import Downstream, Responder
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.runtimes.serving import Server

log = logging.getLogger("meshlib.proxy")


class InboundListener(TlsListener):
    """Accepts on ``sock``, which listens already, for the application at ``application``, whose port is that of policies."""

    def __init__(
        self,
        sock: socket.socket,
        server: Server,
        application: ApplicationAddress,
        rng: random.Random | None = None,
    ) -> None:
        core = server.core
        self.application = Application(core, application, sock.getsockname()[1])
        self.port = port = application.known_as
        forwarder = HopForwarder(core)
        self.place = Place(port, "", Hop(forwarder, self.application))
        super().__init__(sock, server, forwarder, rng, lambda: mode_of(core, port))

    async def start(self) -> None:
        """Accept from now on."""
        self.connections_over_tls.start()
        self.acceptor.start()
        if self.core.live is not None:
            self.application.path(False)  # which pages show before the first request has come
        why = self.why_not_ready()
        if why:
            log.error(
                "%s is not served: %s. Give --cert, --key and --bundle, or MESHLIB_CERT, MESHLIB_KEY and MESHLIB_BUNDLE",
                self.application.address,
                why,
            )

    @property
    def beside(self) -> Live | None:
        """The application's own clusters."""
        return self.application.live

    def strict(self) -> str:
        """Nobody is let in without mTLS."""
        strict = mode_of(self.core, self.port) is MtlsMode.STRICT
        return f"PeerAuthentication says STRICT for port {self.port}" if strict else ""

    # -- what the acceptor asks for -------------------------------------------------------------------------------------

    def plain(self) -> asyncio.Protocol:
        """For a plain text connection."""
        return InboundConnection(self, None, self.place).protocol()

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        """For a TLS connection of this peer."""
        return InboundConnection(self, peer, self.place).protocol()


class Place(NamedTuple):
    """Where requests are served. ``port``: the one that policies know it by; ``ip``: the address that a connection was meant
    for, "": that of its socket."""

    port: int
    ip: str
    hop: Hop


class Inbound(Accepts, Protocol):
    """A listener before applications."""

    server: Server
    core: MeshCore

    def count_refusal(self, refused: Refused, client: asyncio.BaseTransport, /) -> None: ...


class InboundConnection(ServedConnection[Inbound]):
    """One connection of a client, as its requests know it."""

    __slots__ = (
        "_alike",
        "_details",
        "_element",
        "_headers",
        "_lane",
        "_local_ip",
        "_mesh",
        "_mine",
        "_peer",
        "_place",
        "_seen",
        "_settings",
        "_straight",
        "_tls",
    )

    def __init__(self, listener: Inbound, tls: TlsPeer | None, place: Place) -> None:
        super().__init__(listener, proto_line(tls is not None))
        self._place = place
        self._tls = tls  # and with it the connection, which is judged for as long as this serves it
        self._peer = self._local_ip = ""
        self._alike: tuple[str, int, str, str] | None = None  # of its requests, as ``ServedRequest.of_connection``
        self._details: CertDetails | None = None  # by which the element was made
        self._element: bytes | None = None
        self._mine: bytes | None = None
        self._seen: BoundPorts | None = None  # by which these are
        self._mesh: MeshSettings
        self._settings: ProxyHeaders
        self._straight: BoundInbound | None
        self._lane: Lane | None = None  # None: something is in the way of a ``PlainServing``
        self._headers: AtTheSidecar  # and by ``_mine``

    # -- as a listener --------------------------------------------------------------------------------------------------

    def opened(self, connection: Downstream) -> None:
        """It is there."""
        if not self._peer:  # else it was said before its version was known
            self._peer = told_of(connection.transport.get_extra_info("peername"))
            name = connection.transport.get_extra_info("sockname")
            self._local_ip = self._place.ip or (name[0] if isinstance(name, tuple) else "")
        self._listener.opened(connection)

    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None) -> None:
        """A request was refused before anything was decided about it. ``asked``: as for ``Listener``."""
        self._listener.count_refusal(refused, client)
        if asked is not None:
            self._tell(refused, asked)

    def _turned_away(self, request: ProxyRequest) -> None:
        self._tell(TURNED_AWAY, asked_of(request))

    def _tell(self, refused: Refused, asked: Asked) -> None:
        sent = ProxyRequest(asked.method, asked.authority, asked.target, asked.lines, asked.lower, None)
        tls = self._tls
        found = None if tls is None else identity_of(self.core, tls)
        served = self._served(sent, found)
        if asked.version is not None:
            served.spoke(asked.version)
        told_of_inbound(self._listener.server, refused, served)

    # -- requests -------------------------------------------------------------------------------------------------------

    def _serve(self, request: ProxyRequest, responder: Responder) -> PlainServing | Serving:
        live, tls = self.core.live, self._tls
        if live is None or live.inbound is not self._seen:
            self._look(live)
        if tls is None:
            found = None
        else:
            found = identity_of(self.core, tls)
            # of the certificate of a peer that has no identity, whoever has signed it, nothing is told
            mine = None if found is None else self._about_the_peer(self._settings.details)
            if mine is not self._mine:
                self._mine = mine
                self._headers = self._headers_by(mine)
        headers, special, straight = self._headers, request.special, self._straight
        server, deadline, upgrade = self._listener.server, None, False
        if type(request) is LaidOutRequest and request._found is not None:  # as below: its layout says the same
            request.to_application_with(headers.added, headers.lower)
            hurries = request._layout.hurries
        elif (
            type(special) is SpecialLines and special.unproxied
        ):  # nearly always: its reader has said by which scheme it came
            request.counts = False  # as ``to_application``
            if headers.added:
                request.to_application_with(headers.added, headers.lower)
            hurries = special.hurries
        else:
            lines: bytes = request._received.lines  # type: ignore[union-attr]  # as ``lines``, without a call of it
            request.to_application(*headers.of(lines, request.lower, request.has_envoy_headers))
            upgrade = UPGRADE in special
            hurries = SAYS_DEADLINE in special or SAYS_TIMEOUT in special
        if not upgrade and (straight is None or hurries):  # few
            deadline = deadline_of(request, server)
            if deadline is not None:
                straight = None
        lane, alike, body = self._lane, self._alike, request.body
        if tls is None and alike is not None:  # as ``_served``
            served = ServedRequest(request, self._peer, alike[0], alike[1], "", False)
            served.of_connection = alike
        else:
            served = self._served(request, found)
        if (
            lane is not None
            and straight is not None
            and isinstance(responder, Straight)
            and not upgrade
            and (body is None or type(body) is bytes)
            and request.protocol == "http"
        ):  # nearly always
            spares: list[PlainServing] = lane.spares
            plain = spares.pop() if spares else PlainServing(lane, server, served)
            return plain.begin(served, responder)
        serving = Serving(server, self._place.hop, self._settings, served, responder, deadline, upgrade, straight)
        serving.start()
        return serving

    def _look(self, live: LiveMesh | None) -> None:
        """What the configuration of this moment says of its requests."""
        self._mesh = mesh = DEFAULTS if live is None else live.inbound.of(self._place.port).settings.mesh
        self._settings = mesh.proxy_headers
        self._headers = self._headers_by(self._mine)
        server = self._listener.server
        self._straight = server.straight(self._place.port)
        self._lane = None
        if (
            live is not None
            and self._straight is not None
            and server.telemetry.notes
            and self.core.exchange_of is exchange_of
        ):
            self._lane = self._place.hop.lane_of(live.inbound, self._straight, self._settings)
        self._seen = None if live is None else live.inbound  # last: what fails half-way is looked at again

    def _headers_by(self, mine: bytes | None) -> AtTheSidecar:
        mesh = self._mesh
        return at_the_sidecar(self.proto, mesh.proxy_headers.client_cert, mine, mesh.peer_metadata is not None)

    def _served(self, sent: ProxyRequest, found: SpiffeId | None) -> ServedRequest:
        """``found``: who the peer is."""
        tls, alike = self._tls, self._alike
        if tls is None:
            if alike is None:
                self._alike = alike = self._local_ip, self._place.port, "", ""
            served = ServedRequest(sent, self._peer, alike[0], alike[1], "", False)
            served.of_connection = alike
            return served
        principal = "" if found is None else found.text
        if alike is None or alike[3] != principal:
            self._alike = alike = self._local_ip, self._place.port, tls.sni, principal
        served = ServedRequest(sent, self._peer, alike[0], alike[1], alike[2], True)
        served.of_connection = alike
        served.mutual = True
        served.peer_id, served.principal = found, principal
        return served

    def _about_the_peer(self, details: CertDetails) -> bytes | None:
        """The element of X-Forwarded-Client-Cert; None in plain text."""
        tls = self._tls
        if tls is None:
            return None
        if self._details is not details:
            self._element = element_of(tls.credentials.svid.leaf, tls.leaf, tls.chain, details)
            self._details = details
        return self._element


def identity_of(core: MeshCore, tls: TlsPeer) -> SpiffeId | None:
    """Who the peer is. Asked at each request: roots may have been dropped meanwhile."""
    return core.peers.identity_of(tls.leaf, tls.chain)


def told_of(name: object) -> str:
    """What a socket says of itself or its peer, as policies read it."""
    if isinstance(name, tuple):
        return address(name[0], name[1])
    return f"unix:{name}" if isinstance(name, str) and name else ""
