"""A request that came to a gateway: as policies see it (``GatewayServed``), and as it is routed and goes on
(``GatewayRequest``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.routing_claims import reader_of
from meshlib.proxy.connect_request import ConnectRequest
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.raw_head import RawHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.client_address import ClientFacts


class GatewayRequest(ProxyRequest):
    """On its way to where the gateway's routes lead. ``scheme`` is what the client has spoken, to the gateway or to a trusted
    proxy before it."""

    __slots__ = ("came_by", "claims", "client")

    claims: Mapping[str, object] | None
    client: ClientFacts | None

    def at_the_edge(
        self,
        lines: bytes,
        lower: bytes,
        scheme: str,
        asks: bool,
        came_by: tuple[str, str] = ("", ""),
        client: ClientFacts | None = None,
    ) -> None:
        """It came with these header lines, those that the edge makes of its own: before anybody asks for anything. ``asks``:
        some of them are Envoy's (``x-envoy-``) and may say how to route it."""
        self.scheme = scheme
        self.lower = lower
        self.special = list(self.special)  # of another head than this one, which has X-Forwarded-For and more
        self.has_envoy_headers = asks
        self._headers = self._received = RawHead(lines)
        self.came_by = came_by
        self.client = client
        self.claims = None

    @classmethod
    def of(cls, request: ProxyRequest) -> GatewayRequest:
        """What a client has sent, by another version of HTTP: ``at_the_edge`` is still to come."""
        made = cls.__new__(cls)
        made.verb = request.verb
        made.method = request.method
        made.authority = made.dialled = request.authority
        made.target = request.target
        made.full_path = request.full_path
        made.path = request.path
        made.query = request.query
        made.special = request.special
        made.protocol = request.protocol
        made.body = request.body
        made._framed = request._framed
        made.counted = False
        made.counts = True
        return made

    def header(self, name: str) -> str | None:
        """As ``ProxyRequest``'s; of ``@request.auth.claims``, a claim of the token that the client has shown."""
        if name[:1] != "@" or (read := reader_of(name)) is None:
            return super().header(name)
        texts = read(self.claims)
        return ",".join(texts) if texts else None

    def header_values(self, name: str) -> list[str] | None:
        """As ``ProxyRequest``'s."""
        if name[:1] != "@" or (read := reader_of(name)) is None:
            return super().header_values(name)
        texts = read(self.claims)
        return list(texts) if len(texts) > 1 else None

    def values_of(self, wanted: WantedHeaders) -> Values:
        """As ``ProxyRequest``'s."""
        return wanted.of_texts(map(self.header, wanted.names))


class GatewayConnect(ConnectRequest):
    """A connection on its way, of which no request is seen."""

    __slots__ = ("client",)

    def __init__(self, authority: bytes, client: ClientFacts) -> None:
        super().__init__(authority, b"", b"\r\n")
        self.client = client


class GatewayServed(ServedRequest):
    """``client_ip``: who the client is, by trusted proxies or by its connection."""

    sent_on: GatewayRequest

    def __init__(
        self, sent: GatewayRequest, peer: str, local_ip: str, port: int, sni: str, secure: bool, client_ip: str
    ) -> None:
        super().__init__(sent, peer, local_ip, port, sni, secure)
        self.scheme = sent.scheme
        self._client_ip = client_ip

    @property
    def remote_ip(self) -> str:
        """Nobody but trusted proxies says who the client is."""
        return self._client_ip

    @property
    def forwarded(self) -> bool:
        """As ``InboundRequest``'s."""
        return True

    def for_the_application(self) -> GatewayRequest:
        """What is sent on, as the checks have changed it, and as it is routed then."""
        sent, changes = self.sent_on, self.for_application
        sent.claims = self.claims
        if changes is not None:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in changes.applied(sent.headers)])
            sent.relined(lines, b"\r\n" + lines.lower())
            if changes.target is not None:
                sent.retarget(changes.target)
        return sent
