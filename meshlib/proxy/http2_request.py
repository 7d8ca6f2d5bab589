"""A request that came over HTTP/2, and goes on over it as it came where nothing has changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.http2_headers import hidden
from meshlib.transport.protocol.http2_request import SECRETS

if TYPE_CHECKING:
    from meshlib.transport.protocol.http2_codec import Head

_FIRST = (ATTEMPT_COUNT, b"1")
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))


class Http2Request(ProxyRequest):
    """A request that came over HTTP/2."""

    __slots__ = ("fields", "host")

    version = "HTTP/2"
    fields: Head
    """As they came, but for Host."""
    host: bytes

    def http2_head(self, attempt: int, scheme: bytes) -> Head | None:
        """As HTTP/2 writes it for this attempt, where rules have changed nothing; else None."""
        verb, fields = self.verb, self.fields
        if self._headers is not self._received or self.has_envoy_headers or verb not in _METHODS or not self.counts:
            return None
        if not SECRETS.isdisjoint(self.special):
            fields = hidden(fields)
        # as nghttp2 has taken them: tokens in lower case, no blanks around values, and none that is for one connection
        return [
            (b":method", verb),
            (b":scheme", scheme),
            (b":authority", self.host),
            (b":path", self.target),
            *fields,
            _FIRST if attempt == 1 else (ATTEMPT_COUNT, b"%d" % attempt),
        ]
