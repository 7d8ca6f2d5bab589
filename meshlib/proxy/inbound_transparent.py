"""One port in front of all ports of an application: Istio's 15006. The kernel has led connections here (``iptables.py``); each
is served for the port that it was meant for, and goes on to the address that it was meant for.

What is spoken there is what the workload's Services declare of the port: HTTP is served as requests, TCP and TLS as bytes;
where nothing is declared (of a port of no Service: Istio's InboundPassthroughCluster) the first bytes tell, or over mTLS of the
mesh what its client offers (ALPN). A client's own TLS, which is not the mesh's, goes on unread where the mode is PERMISSIVE.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from typing import TYPE_CHECKING, Any

from meshlib.compiler.routes import Source
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.proxy.inbound_application import Application, ApplicationAddress
from meshlib.proxy.inbound_hop import Hop, HopForwarder
from meshlib.proxy.inbound_listener import InboundConnection, Place
from meshlib.proxy.inbound_tcp import InboundTcp
from meshlib.proxy.iptables import InterceptionMode
from meshlib.proxy.listener import where
from meshlib.proxy.original_destination import is_at, original_destination
from meshlib.proxy.protocol_detection import detection_timeout, is_http
from meshlib.proxy.slow_clients import Wait
from meshlib.proxy.tls_listener import TlsListener
from meshlib.registry.service import HTTP_PROTOCOLS, SNIFFED
from meshlib.serving.first_byte import HANDSHAKE, Verdict
from meshlib.serving.hello_names import NotTls, hello_of
from meshlib.serving.port_mode import mode_of
from meshlib.transport.upstream.from_source import allow_any_address

if TYPE_CHECKING:
    from meshlib.alarms import Alarms, Cancellable
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.proxy.responder import Downstream
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.transport.runtimes.serving import Server

log = logging.getLogger("meshlib.proxy")

SOURCES = {False: Source("127.0.0.6"), True: Source("::6")}
"""Istio's, by whether it is IPv6: where connections to the application come from, which interception leaves alone."""
MOST_PLACES = 1024
"""Places that nobody is connected to, of which connections to the application are kept."""
NO_ADMIN = "--interception-mode TPROXY takes CAP_NET_ADMIN, which this process has not"
OF_THE_MESH = "istio"
"""What the protocols of ALPN begin with that clients of the mesh offer."""


class MeantFor:
    """Where connections were meant to go: an address and a port of this machine. ``users`` are connected to it now."""

    __slots__ = ("application", "place", "to", "users")

    def __init__(self, forwarder: HopForwarder, to: tuple[str, int], source: Source) -> None:
        self.to = to
        self.users = 0
        self.application = Application(forwarder.core, ApplicationAddress(*to), source=source)
        self.place = Place(to[1], to[0], Hop(forwarder, self.application))


class TransparentInbound(TlsListener):
    """Accepts on ``sock``, which listens already, what ``interception`` leads to it."""

    forwarder: HopForwarder

    def __init__(
        self,
        sock: socket.socket,
        server: Server,
        interception: InterceptionMode = InterceptionMode.REDIRECT,
        rng: random.Random | None = None,
    ) -> None:
        self._keeps_source = interception is InterceptionMode.TPROXY
        if self._keeps_source:
            allow_any_address(sock)
        # it is the judge who knows the mode of the port that a connection was meant for
        super().__init__(
            sock, server, HopForwarder(server.core), rng, lambda: MtlsMode.STRICT, self.judge, FirstBytes(self)
        )
        self._places: dict[tuple[tuple[str, int], str], MeantFor] = {}
        self._own = sock.getsockname()[1]
        self._said = False
        self._declared: dict[int, str] = {}  # by port, of
        self._declared_of: Snapshot | None = None

    async def start(self) -> None:
        """Accept from now on."""
        self.forwarder.upstream.own.add(self._sock.getsockname()[:2])
        self.connections_over_tls.start()
        self.acceptor.start()
        why = self.why_not_ready()
        if why:
            log.error(
                "nothing is served: %s. Give --cert, --key and --bundle, or MESHLIB_CERT, MESHLIB_KEY and MESHLIB_BUNDLE",
                why,
            )

    def strict(self) -> str:
        """Nobody is let in without mTLS at any port."""
        live = self.core.live
        every = () if live is None else (live.inbound.default, *live.inbound.ports.values())
        return "PeerAuthentication says STRICT" if all(each.settings.mtls is MtlsMode.STRICT for each in every) else ""

    # -- where connections were meant to go -----------------------------------------------------------------------------

    def meant(self, sock: Any) -> tuple[str, int] | None:
        """Address and port. None: this very port, or its connection has gone."""
        try:
            found = original_destination(sock)
            if found is None and self._keeps_source:  # it was led here as it is; calls to oneself are not
                found = is_at(sock)
        except OSError:
            return None
        return None if found is None or found[1] == self._own else found

    def protocol_of(self, port: int) -> str:
        """What is spoken at a port of the application, as its Services declare it."""
        live = self.core.live
        if live is None:
            return SNIFFED
        snapshot = live.snapshot
        if snapshot is not self._declared_of:
            self._declared_of, self._declared = snapshot, {}
        found = self._declared.get(port)
        if found is None:
            declared = snapshot.inbound.declared.of(port, snapshot.clusters.values())
            found = self._declared[port] = SNIFFED if declared is None else declared.protocol
        return found

    def detection_timeout(self) -> float:
        """Seconds that a client is waited for whose first bytes decide; 0: without end."""
        live = self.core.live
        return 0.0 if live is None else detection_timeout(live.snapshot)

    def led_to(self, to: tuple[str, int], peer: str) -> MeantFor:
        """What serves connections to there from ``peer``, which counts one more."""
        key = to, peer if self._keeps_source else ""
        found = self._places.pop(key, None)
        if found is None:
            self._forget_some()
            source = Source(peer, True) if self._keeps_source else SOURCES[":" in to[0]]
            found = MeantFor(self.forwarder, to, source)
        self._places[key] = found  # the last one that was used is the last one
        found.users += 1
        return found

    def _forget_some(self) -> None:
        if len(self._places) < MOST_PLACES:
            return
        for key, place in list(self._places.items()):
            if not place.users:
                place.application.close()
                del self._places[key]
                if len(self._places) < MOST_PLACES:
                    return

    # -- what the acceptor asks for -------------------------------------------------------------------------------------

    def judge(self, sock: socket.socket, first: bytes, has_certificate: bool) -> Verdict | None:
        """What becomes of a connection that begins with ``first``; None: that is not enough to tell."""
        meant = self.meant(sock)
        if meant is None:
            self._say_loop(sock)
            return Verdict.RESET_UNSAID
        mode = mode_of(self.core, meant[1])
        if mode is MtlsMode.DISABLE:
            return Verdict.PLAIN
        if not first:
            return None
        if first[0] != HANDSHAKE:
            return Verdict.PLAIN if mode is MtlsMode.PERMISSIVE else Verdict.RESET
        if mode is MtlsMode.PERMISSIVE and self.protocol_of(meant[1]) not in HTTP_PROTOCOLS:
            try:
                hello = hello_of(first)
            except NotTls:
                return Verdict.PLAIN
            if hello is None:
                return None
            if not any(name.startswith(OF_THE_MESH) for name in hello.alpn):
                return Verdict.PLAIN
        return Verdict.TLS if has_certificate else Verdict.RESET

    def _say_loop(self, sock: socket.socket) -> None:
        self.counts["meant_for_the_proxy"] += 1
        if self._said:
            return
        self._said = True
        try:
            peer = where(sock.getpeername())
        except OSError:
            peer = "a client"
        log.warning(
            "a connection of %s was meant for port %d, which is the proxy's own, and was reset: it would lead to itself. "
            "Nothing has led it here: let callers connect to the application's port (a Service's targetPort), and "
            "meshlib iptables apply --inbound '*:%d' lead that here (said once; further ones are only counted)",
            *(peer, self._own, self._own),
        )

    def plain(self) -> asyncio.Protocol:
        """For a plain text connection."""
        return Arrived(self, None)

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        """For a TLS connection of this peer."""
        return Arrived(self, peer)

    def reader(self, serving: Serving) -> asyncio.Protocol:
        """What reads requests of it."""
        return InboundConnection(serving, serving.tls, serving.meant.place).protocol()


class FirstBytes:
    """As long as MeshConfig says (``protocolDetectionTimeout``)."""

    def __init__(self, listener: TransparentInbound) -> None:
        self._listener = listener

    @property
    def alarms(self) -> Alarms:
        """By the mesh's clock."""
        return self._listener.core.alarms

    def seconds(self) -> float:
        """0: it does not say."""
        return self._listener.detection_timeout()

    def verdict(self, sock: socket.socket, first: bytes, has_certificate: bool) -> Verdict:
        """What cannot be told is plain text, where that is served at all."""
        meant = self._listener.meant(sock)
        found = self._listener.judge(sock, first, has_certificate)
        if found is not None:
            return found
        strict = meant is None or mode_of(self._listener.core, meant[1]) is MtlsMode.STRICT
        return Verdict.RESET_UNSAID if strict else Verdict.PLAIN

    def plain(self) -> asyncio.Protocol:
        """It waits for nothing."""
        return Arrived(self._listener, None, waits=False)


class Serving:
    """What the protocols of one connection take for their listener: ``meant`` has one user more until it has gone."""

    def __init__(self, listener: TransparentInbound, meant: MeantFor, tls: TlsPeer | None) -> None:
        self._listener = listener
        self.meant = meant
        self.tls = tls
        self.server = listener.server
        self.core = listener.core
        self.forwarder = listener.forwarder
        self.ids = listener.ids
        self.overload = listener.overload
        self.passed_on = listener.passed_on
        self.opened = listener.opened
        self.count_refusal = listener.count_refusal
        self.broken = listener.broken
        self.refused = listener.refused

    @property
    def draining(self) -> bool:
        """Whether responses are the last of their connection."""
        return self._listener.draining

    def closed(self, connection: Downstream) -> None:
        """It has gone."""
        meant = self.meant
        meant.users -= 1
        if not meant.users:
            meant.place.hop.forget()
        self._listener.closed(connection)


class Arrived(asyncio.Protocol):
    """A connection, until it is known what reads it. ``tls``: its peer, where mTLS of the mesh ended here. ``waits``: for its
    first bytes, where nothing else tells; ``alarm`` rings when it does so no longer."""

    def __init__(self, listener: TransparentInbound, tls: TlsPeer | None, *, waits: bool = True) -> None:
        self._listener = listener
        self._tls = tls
        self._serving: Serving | None = None
        self._first = b""
        self._waits = waits
        self.alarm: Cancellable | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        listener = self._listener
        listener.opened(self)
        if transport.is_closing():  # one too many
            return
        meant = listener.meant(transport.get_extra_info("socket"))
        peer = transport.get_extra_info("peername")
        if meant is None or not peer:
            self.transport.abort()
            return
        self._serving = serving = Serving(listener, listener.led_to(meant, _unmapped(peer[0])), self._tls)
        protocol = listener.protocol_of(meant[1])
        if protocol in HTTP_PROTOCOLS:
            self._hand_over(listener.reader(serving))
        elif protocol != SNIFFED:
            self._hand_over(self._bytes())
        elif self._tls is not None:
            told = transport.get_extra_info("ssl_object").selected_alpn_protocol()
            self._hand_over(listener.reader(serving) if told else self._bytes())
        elif not self._waits:
            self._hand_over(self._bytes())
        elif seconds := listener.detection_timeout():
            self.alarm = listener.core.alarms.on_loop(listener.forwarder.loop, seconds, self._too_late)

    def data_received(self, data: bytes) -> None:
        self._first += data
        http = is_http(self._first)
        if http is not None and self._serving is not None:
            if http:
                self._hand_over(self._listener.reader(self._serving))
            else:
                first, self._first = self._first, b""
                self._hand_over(self._bytes(first))

    def connection_lost(self, error: Exception | None) -> None:
        self._wait_no_longer()
        if self._serving is not None:
            self._serving.closed(self)
        else:
            self._listener.closed(self)

    def _too_late(self) -> None:
        """It may be the application that speaks first."""
        if not self.transport.is_closing():
            first, self._first = self._first, b""
            self._hand_over(self._bytes(first))

    def _wait_no_longer(self) -> None:
        alarm, self.alarm = self.alarm, None
        if alarm is not None:
            alarm.cancel()

    def _bytes(self, first: bytes = b"") -> InboundTcp:
        assert self._serving is not None
        meant = self._serving.meant
        return InboundTcp(self._serving, meant.application, meant.to, self._tls, first)

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._wait_no_longer()
        transport = self.transport
        self._listener.passed_on(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._first:
            protocol.data_received(self._first)

    # -- as a client's connection ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        """It has said too little to ask for anything."""
        self.transport.close()

    def waits(self) -> tuple[Wait, int] | None:
        """What the client is waited for (``slow_clients.py``)."""
        return (Wait.HEAD if self._first else Wait.NEXT), 0

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer."""
        self.transport.close()


def _unmapped(ip: str) -> str:
    """An address of IPv4 as such."""
    return ip.removeprefix("::ffff:") if "." in ip else ip
