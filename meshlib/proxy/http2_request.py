"""A request that came over HTTP/2, and goes on over it as it came where nothing has changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT
from meshlib.proxy.request import METHODS, ProxyRequest, is_grpc
from meshlib.transport.protocol.http2_headers import hidden
from meshlib.transport.protocol.http2_request import SECRETS
from meshlib.transport.protocol.raw_head import RawHead

if TYPE_CHECKING:
    from collections.abc import Collection

    from meshlib.transport.protocol.http2_codec import Head
    from meshlib.transport.protocol.request_body import ReplayBody

FIRST = (ATTEMPT_COUNT, b"1")
METHODS_SENT_ON = {
    method: (b":method", method) for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
}
"""Methods of requests that go on without a look at them, as HTTP/2 writes them."""
SCHEMES = {scheme: (b":scheme", scheme) for scheme in (b"http", b"https")}
"""Likewise."""


class Http2Request(ProxyRequest):
    """A request that came over HTTP/2."""

    __slots__ = ("fields", "host")

    version = "HTTP/2"
    fields: Head
    """As they came, but for Host."""
    host: bytes

    def __init__(
        self,
        method: bytes,
        authority: bytes,
        target: bytes,
        fields: Head,
        lines: bytes,
        lower: bytes,
        body: bytes | ReplayBody | None,
        special: Collection[bytes],
        grpc: bool | None,
    ) -> None:
        # as ``ProxyRequest`` has it, without what is known of one that came so
        self.verb = method
        self.method = METHODS.get(method) or method.decode("latin-1")
        self.scheme = "http"
        self.host = authority
        self.authority = self.dialled = authority.decode("latin-1")
        self.target = target
        self.full_path = full_path = target.decode() if target.isascii() else target.decode("latin-1")
        self.path, _, self.query = full_path.partition("?")
        self.fields = fields
        self.lower = lower
        self.special = special
        self.has_envoy_headers = b"x-envoy-" in special
        if grpc is None:
            grpc = is_grpc(lower)
        self.protocol = "grpc" if grpc else "http"
        self._headers = self._received = RawHead(lines)
        self.body = body
        if type(body) is bytes:
            self._framed = b"content-length:" in special
        elif body is None:
            self._framed = True
        else:
            self.comes_in_pieces()
        self.counted = False
        self.counts = True

    def http2_head(self, attempt: int, scheme: bytes) -> Head | None:
        """As HTTP/2 writes it for this attempt, where rules have changed nothing; else None."""
        method, fields = METHODS_SENT_ON.get(self.verb), self.fields
        if self._headers is not self._received or self.has_envoy_headers or method is None or not self.counts:
            return None
        if not SECRETS.isdisjoint(self.special):
            fields = hidden(fields)
        # as nghttp2 has taken them: tokens in lower case, no blanks around values, and none that is for one connection
        return [
            method,
            SCHEMES[scheme],
            (b":authority", self.host),
            (b":path", self.target),
            *fields,
            FIRST if attempt == 1 else (ATTEMPT_COUNT, b"%d" % attempt),
        ]
