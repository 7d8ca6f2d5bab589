"""A request that came to the inbound side of the proxy, as policies see it: over the bytes that it came in, which go on to its
application (``ProxyRequest.to_application``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.engine.inbound_request import InboundRequest
from meshlib.proxy.laid_out_request import LaidOutRequest
from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.protocol.special_lines import SpecialLines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlib.engine.body_source import BodySource
    from meshlib.engine.header_changes import HeaderChanges
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.ext_authz import Change
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.policy.peer_metadata import PeerMetadata
    from meshlib.proxy.request import ProxyRequest


HTTP1 = "HTTP/1.1"


class ServedRequest(InboundRequest):
    """``sent``: what goes to the application, if policies let it. Of the connection: ``peer``, ``local_ip``, ``sni`` and
    ``secure``; ``port`` is the application's."""

    # No slots, as AsgiRequest has none: what is the same for most requests stands here, and what few are asked for is made
    # when it is
    claims: Mapping[str, object] | None = None
    request_principal = ""
    body_source: BodySource | None = None
    deadline: float | None = None
    body: bytes | None = None
    counted = False
    of_connection: tuple[str, int, str, str] | None = None
    """Of a request of a connection that keeps it: ``local_ip``, ``port``, ``sni`` and ``principal``."""
    asked: tuple[str, ...] = ()
    host_known = True
    _known: tuple[WantedHeaders, Values] | None = None
    _sent_headers: RawHeaders | None = None
    _source_ip: str | None = None

    def __init__(self, sent: ProxyRequest, peer: str, local_ip: str, port: int, sni: str, secure: bool) -> None:
        self.sent_on = sent
        self.method = sent.method
        self.path = sent.path
        self.query = sent.query
        self.protocol = sent.protocol
        self.version = version = sent.version
        self.authority = sent.authority
        self.target = sent.target
        self.peer = peer
        self.local_ip = local_ip
        self.port = port
        self.sni = sni
        self.secure = secure
        self.scheme = "https" if secure else "http"
        self.http2 = version != HTTP1 and version is not None and version[:6] == "HTTP/2"
        self.mutual = False
        self.peer_id = None
        self.principal = ""
        # what each request is asked for: an attribute that its class has takes CPython 3.11 ten times as long
        self.peer_metadata: PeerMetadata | None = None
        self.routed: str | None = None
        self.for_application: HeaderChanges | None = None
        self._values: dict[str, list[str]] | None = None
        self._for_caller: tuple[Change, ...] = ()
        self._told: list[tuple[bytes, bytes]] | None = None

    def spoke(self, version: str) -> None:
        """It came over this version of HTTP."""
        self.version = version
        self.http2 = version[:6] == "HTTP/2"

    @property
    def _raw(self) -> RawHeaders:  # type: ignore[override]
        return RawHead(self.sent_on.lines).pairs

    @property
    def for_caller(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        """Headers that the response gets."""
        if self._told is None:
            self._told = []
        return self._told

    @property
    def changes_response(self) -> bool:
        """Whether the response gets other headers than the application's."""
        return self._told is not None or self._for_caller != ()

    def header(self, name: str) -> str | None:
        """As ``InboundRequest``'s: found in the bytes until a check changes something."""
        return self.sent_on.header(name) if self._values is None else super().header(name)

    def header_values(self, name: str) -> list[str] | None:
        """As ``InboundRequest``'s."""
        return self.sent_on.header_values(name) if self._values is None else super().header_values(name)

    def values_of(self, wanted: WantedHeaders) -> Values:
        """As ``InboundRequest``'s. What a span has wanted an access log need not look for."""
        if self._values is not None:
            return super().values_of(wanted)
        known, sent = self._known, self.sent_on
        if type(sent) is LaidOutRequest:  # nearly always
            laid_out = sent.laid_out_values(wanted)
            if laid_out is not None:
                return laid_out
        lines: bytes = sent._received.lines  # type: ignore[union-attr]  # as ``sent.lines``
        if known is None:
            special = sent.special
            if type(special) is SpecialLines:  # nearly always
                read = special.readings.get(wanted) or special.reading(wanted)
            else:
                read = wanted.readings.get(None) or wanted.beside(None)
            found = read(lines, sent.lower, sent.header, ())
            self._known = wanted, found
            return found
        others, values = known
        read = wanted.readings.get(others) or wanted.beside(others)
        return read(lines, sent.lower, sent.header, values)

    def goes_on_in(self, names: Iterable[bytes], headers: Iterable[tuple[bytes, bytes]]) -> None:
        """As ``InboundRequest``'s: before anything is decided about it."""
        self._known = None
        self.sent_on.retraced(names, b"".join([b"%b: %b\r\n" % each for each in headers]))

    def traced_by(self, traceparent: bytes, came: bytes) -> None:
        """As ``InboundRequest``'s."""
        self.sent_on.traced_by(traceparent, came)  # what is ``_known`` of other headers stays so

    def header_bytes(self) -> int:
        """As ``InboundRequest``'s."""
        return self.sent_on.head_bytes()

    def for_the_application(self) -> ProxyRequest:
        """What is sent on, as the checks have changed it."""
        sent, changes = self.sent_on, self.for_application
        if changes is not None:
            sent.headers = changes.applied(sent.headers)
            if changes.target is not None:
                sent.target = changes.target
        return sent
