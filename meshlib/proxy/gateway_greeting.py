"""A connection over TLS to a gateway until it is known which server it is for: by the first message of its client, before
anything is decided about its certificate. Then its handshake, where TLS ends here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshlib.identity.credentials import TICKETS
from meshlib.proxy.first_words import FirstWords
from meshlib.proxy.gateway_connection import Gate, GatewayConnection
from meshlib.proxy.gateway_tcp import GatewayTcp
from meshlib.proxy.gateway_tls import NotServed
from meshlib.serving.hello_names import Hello, NotTls, hello_of
from meshlib.serving.joined_writes import JoinedWrites
from meshlib.serving.tickets import Accepts
from meshlib.transport.upstream.loop_tls import LoopTls

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChain, GatewayTls
    from meshlib.transport.upstream.loop_turn import Turn


class Greeting(FirstWords[Gate]):
    """Until the first message of TLS is there, and its handshake is over."""

    def data_received(self, data: bytes) -> None:
        self._first += data
        try:
            hello = hello_of(self._first)
        except NotTls:
            self._drop("not_tls")
            return
        if hello is not None:
            self._choose(hello)

    def _choose(self, hello: Hello) -> None:
        listener = self._listener
        port = listener.port
        chain = None if port is None or not port.tls else port.find(hello.sni, hello.alpn)
        if chain is None:
            self._drop("no_server")
        elif chain.refusal:
            listener.say(f"connections to {chain.server} are closed: {chain.refusal}")
            self._drop("refused")
        elif chain.tls is not None:
            self._end_tls(chain, chain.tls, hello)
        else:
            listener.counts["passed_through"] += 1
            self._hand_over(GatewayTcp(listener, chain, hello.sni, self._first))

    def _end_tls(self, chain: GatewayChain, tls: GatewayTls, hello: Hello) -> None:
        listener, transport = self._listener, self.transport
        try:
            context = listener.contexts.context(tls, chain.server)
        except NotServed as error:
            listener.say(str(error))
            self._drop("refused")
            return
        # without a client's certificate they cost little, and browsers use two
        tickets = TICKETS if tls.asks_clients else None
        shaking = _Handshake(self, chain, tls, hello.sni)
        secured = LoopTls(listener.forwarder.loop, shaking, Accepts(context, tickets), None)
        secured.handshake.add_done_callback(self._shaken)
        transport.set_protocol(secured)
        secured.connection_made(transport)
        secured.data_received(self._first)
        self._first = b""

    def _shaken(self, handshake: asyncio.Future[None]) -> None:
        """It has ended, well or not."""
        listener = self._listener
        listener.greeted(self)
        if handshake.cancelled() or handshake.exception() is not None:
            listener.counts["handshake_failed"] += 1
            listener.closed(self)
            error = None if handshake.cancelled() else handshake.exception()
            listener.not_shaken(self.transport, error)

    @property
    def turn(self) -> Turn:
        """Of its loop."""
        return self._listener.forwarder.turn

    def shaken(
        self, chain: GatewayChain, tls: GatewayTls, sni: str, transport: asyncio.Transport
    ) -> asyncio.Protocol | None:
        """What serves a connection whose handshake is over; None: nobody does."""
        listener = self._listener
        done = transport.get_extra_info("ssl_object")
        try:
            peer = listener.contexts.peer(tls, chain.server, done, sni)
        except NotServed as error:
            listener.counts["refused_peer"] += 1
            listener.say(str(error))
            listener.closed(self)
            return None
        listener.counts["tls"] += 1
        listener.passed_on(self)
        if chain.http is not None:
            return GatewayConnection(listener, chain, peer).protocol()
        return GatewayTcp(listener, chain, sni, tls=peer)

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._listener.greeted(self)
        self._listener.passed_on(self)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)

    def _drop(self, why: str) -> None:
        self._listener.counts[why] += 1
        self._listener.greeted(self)
        self.transport.close()


class _Handshake(asyncio.Protocol):
    """Who hears of the end of a handshake."""

    def __init__(self, greeting: Greeting, chain: GatewayChain, tls: GatewayTls, sni: str) -> None:
        self._greeting = greeting
        self._asked = chain, tls, sni

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        joined = JoinedWrites(transport, self._greeting.turn)  # type: ignore[arg-type]
        serving = self._greeting.shaken(*self._asked, joined)
        if serving is None:
            joined.abort()
            return
        joined.set_protocol(serving)
        serving.connection_made(joined)
