"""An HTTP/1.1 request head as HTTP/2 writes it (RFC 9113, 8.2 and 8.3)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import compress, repeat
from operator import itemgetter
from typing import NamedTuple

from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.request_head import IN_TARGETS, KNOWN_NAMES, METHODS, InvalidHead, encode_head
from meshlib.transport.protocol.sent_head import SentHead

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_SECRETS = frozenset((b"authorization", b"proxy-authorization"))
_SHORT_COOKIE = 20  # bytes; one that short could be guessed through the compression of others
_WHITE = b" \t"
_NOMINATE_NOTHING = (b"keep-alive", b"close")  # of Connection
KNOWN_PLANS = 256
"""How many lists of names are remembered at most."""

_name = itemgetter(0)
_value = itemgetter(1)


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

_PLANNED = frozenset((_Kind.PLAIN, _Kind.HOST, _Kind.CONNECTION, _Kind.DROPPED))


@functools.lru_cache(KNOWN_NAMES)
def _known(name: bytes) -> tuple[bytes, _Kind]:
    """A name as HTTP/2 writes it, and its kind."""
    lower = name.lower()
    return lower, _KINDS.get(lower, _Kind.PLAIN)


class _Plan(NamedTuple):
    """What becomes of headers with certain names in a certain order: ``host`` and ``connection`` are where those stand (-1:
    nowhere), ``written`` says of each whether it is written, as ``names`` says."""

    names: tuple[bytes, ...]
    written: tuple[bool, ...]
    host: int
    connection: int


@functools.lru_cache(KNOWN_PLANS)
def _plan(names: tuple[bytes, ...]) -> _Plan | None:
    """None: the values have a say, too, or the headers are wrong."""
    known = [_known(name) for name in names]
    kinds = [kind for _, kind in known]
    if kinds.count(_Kind.HOST) > 1 or kinds.count(_Kind.CONNECTION) > 1 or not _PLANNED.issuperset(kinds):
        return None
    host = kinds.index(_Kind.HOST) if _Kind.HOST in kinds else -1
    connection = kinds.index(_Kind.CONNECTION) if _Kind.CONNECTION in kinds else -1
    return _Plan(tuple(lower for lower, _ in known), tuple(kind is _Kind.PLAIN for kind in kinds), host, connection)


Written = tuple[tuple[tuple[bytes, bytes], ...], bytes | None]
"""Headers as HTTP/2 writes them, and the authority."""

_written: HeadsSeen[Written] = HeadsSeen()
"""Of headers that were found to be proper."""


def request_head(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], scheme: bytes
) -> list[tuple[bytes, bytes]]:
    """Pseudo headers and headers: Host becomes ``:authority``, names lower-case, what belongs to an HTTP/1.1 connection is
    left out, secrets stay out of the compression table. Raises ``InvalidHead`` for whatever HTTP/1.1 would refuse, for a
    second Host and for CONNECT."""
    known = (headers.written, headers.authority) if type(headers) is SentHead else _written.of(key := tuple(headers))
    if known is None or method not in METHODS or not target or target.translate(None, IN_TARGETS):
        encode_head(method, target, headers)  # one rule for what may be written, in both versions
        if method == b"CONNECT":
            raise InvalidHead("CONNECT cannot be sent over a shared HTTP/2 connection")
        known = planned(headers)
        if known is None:
            known = _one_by_one(headers)
        elif type(headers) is not SentHead:
            _written.learn(key, known)  # there is no secret in it, as there is a plan
    written, authority = known
    if authority:
        return [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", target), *written]
    return [(b":method", method), (b":scheme", scheme), (b":path", target), *written]


def hidden(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that came over HTTP/2, with secrets that stay out of the compression table."""
    return [
        SecretHeader(*pair) if pair[0] in _SECRETS or (pair[0] == b"cookie" and len(pair[1]) < _SHORT_COOKIE) else pair
        for pair in fields
    ]


def planned(headers: Sequence[tuple[bytes, bytes]]) -> Written | None:
    """Proper headers as HTTP/2 writes them. None where the values have a say, or where some are secrets."""
    # a program's requests have the same few lists of names, so that no step of bytecode a header is needed but for secrets,
    # short cookies and the like (row "HTTP/2 at 32 in flight")
    plan = _plan(tuple(map(_name, headers)))
    if plan is None or (plan.connection >= 0 and headers[plan.connection][1] not in _NOMINATE_NOTHING):
        return None
    values = map(bytes.strip, map(_value, headers), repeat(_WHITE))
    rest = tuple(compress(zip(plan.names, values, strict=True), plan.written))
    return rest, headers[plan.host][1].strip(_WHITE) if plan.host >= 0 else None


def _one_by_one(headers: Sequence[tuple[bytes, bytes]]) -> Written:
    """Whatever the headers are: all but the pseudo ones, and the authority."""
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
    return tuple(rest), authority
