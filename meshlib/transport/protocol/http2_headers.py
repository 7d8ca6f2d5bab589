"""An HTTP/1.1 request head as HTTP/2 writes it (RFC 9113, 8.2 and 8.3)."""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.request_head import InvalidHead, encode_head

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_SECRETS = frozenset((b"authorization", b"proxy-authorization"))
_SHORT_COOKIE = 20  # bytes; one that short could be guessed through the compression of others


def request_head(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], scheme: bytes
) -> list[tuple[bytes, bytes]]:
    """Pseudo headers and headers: Host becomes ``:authority``, names lower-case, what belongs to an HTTP/1.1 connection is
    left out, secrets stay out of the compression table. Raises ``InvalidHead`` for whatever HTTP/1.1 would refuse, for a
    second Host and for CONNECT."""
    encode_head(method, target, headers)  # one rule for what may be written, in both versions
    if method == b"CONNECT":
        raise InvalidHead("CONNECT cannot be sent over a shared HTTP/2 connection")
    authority: bytes | None = None
    nominated: set[bytes] = set()
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection":
            nominated.update(token.strip().lower() for token in value.split(b","))
    rest: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        name = name.lower()
        if name == b"host":
            if authority is not None:
                raise InvalidHead("the request has two Host headers")
            authority = value.strip(b" \t")
            continue
        value = value.strip(b" \t")
        if name == b"te":
            if value.lower() != b"trailers":
                continue
        elif name in CONNECTION_SPECIFIC or name in nominated:
            continue
        if name in _SECRETS or (name == b"cookie" and len(value) < _SHORT_COOKIE):
            rest.append(SecretHeader(name, value))
        else:
            rest.append((name, value))
    head = [(b":method", method), (b":scheme", scheme)]
    if authority:
        head.append((b":authority", authority))
    head.append((b":path", target))
    return head + rest
