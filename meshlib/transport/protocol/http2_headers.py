"""An HTTP/1.1 request head as HTTP/2 writes it (RFC 9113, 8.2 and 8.3)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum
from operator import itemgetter

from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.request_head import KNOWN_NAMES, InvalidHead, encode_head

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_SECRETS = frozenset((b"authorization", b"proxy-authorization"))
_SHORT_COOKIE = 20  # bytes; one that short could be guessed through the compression of others
_WHITE = b" \t"
_name = itemgetter(0)


class _Kind(IntEnum):
    """What becomes of a header. 0: it is written as it is."""

    PLAIN = 0
    HOST = 1
    CONNECTION = 2
    DROPPED = 3
    TE = 4
    SECRET = 5
    COOKIE = 6


_KINDS = {
    **dict.fromkeys(CONNECTION_SPECIFIC, _Kind.DROPPED),  # but for Connection, see below
    **dict.fromkeys(_SECRETS, _Kind.SECRET),
    b"host": _Kind.HOST,
    b"connection": _Kind.CONNECTION,
    b"te": _Kind.TE,
    b"cookie": _Kind.COOKIE,
}


@functools.lru_cache(KNOWN_NAMES)
def _known(name: bytes) -> tuple[bytes, _Kind]:
    """A name as HTTP/2 writes it, and its kind."""
    lower = name.lower()
    return lower, _KINDS.get(lower, _Kind.PLAIN)


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
    rest: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        lower, kind = _known(name)
        value = value.strip(_WHITE)
        if kind:
            if kind is _Kind.HOST:
                if authority is not None:
                    raise InvalidHead("the request has two Host headers")
                authority = value
                continue
            if kind is _Kind.CONNECTION:
                nominated.update(token.strip().lower() for token in value.split(b","))
                continue
            if kind is _Kind.DROPPED or (kind is _Kind.TE and value.lower() != b"trailers"):
                continue
            if kind is _Kind.SECRET or (kind is _Kind.COOKIE and len(value) < _SHORT_COOKIE):
                rest.append(SecretHeader(lower, value))
                continue
        rest.append((lower, value))
    if nominated:
        nominated.discard(b"te")  # it is for HTTP/2, too
        if not nominated.isdisjoint(map(_name, rest)):
            rest = [pair for pair in rest if pair[0] not in nominated]
    if authority:
        return [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", target), *rest]
    return [(b":method", method), (b":scheme", scheme), (b":path", target), *rest]
