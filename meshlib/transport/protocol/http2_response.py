"""The head of a response as HTTP/2 writes it for a client (RFC 9113, 8.2 and 8.3.2), whatever version the upstream spoke."""

from __future__ import annotations

import functools
import re
from itertools import compress, repeat
from operator import itemgetter
from typing import NamedTuple

from meshlib.policy.header_ops import Headers
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http2_headers import CONNECTION_SPECIFIC
from meshlib.transport.protocol.http2_stream import ProperHead
from meshlib.transport.protocol.request_head import IN_VALUES

KNOWN_PLANS = 256
NOT_SENT_ON = CONNECTION_SPECIFIC | {b"te", b"trailer"}
"""Headers that were for the connection to the upstream only; which trailers there are, HTTP/2 does not announce."""

_NOMINATE_NOTHING = (b"keep-alive", b"close")
_STATUSES = {status: b"%d" % status for status in range(100, 1000)}
NO_CONTENT = 204
_BLANK = b" \t"
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")

_written: HeadsSeen[list[tuple[bytes, bytes]]] = HeadsSeen()
"""What came of heads and trailers that were met before."""
_name = itemgetter(0)
_value = itemgetter(1)


class _Plan(NamedTuple):
    """What becomes of headers with certain names in a certain order."""

    names: tuple[bytes, ...]
    written: tuple[bool, ...]
    connections: tuple[int, ...]
    """Where Connection stands."""
    all: bool
    """All of them are written."""


@functools.lru_cache(KNOWN_PLANS)
def _plan(names: tuple[bytes, ...]) -> _Plan:
    lower = tuple(map(bytes.lower, names))
    written = tuple(name not in NOT_SENT_ON and _TOKEN.fullmatch(name) is not None for name in lower)
    return _Plan(lower, written, tuple(at for at, name in enumerate(lower) if name == b"connection"), all(written))


def fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers (or trailers) as HTTP/2 writes them: names in lower case, none that belongs to a connection of HTTP/1.1 or that
    is no header at all, as a pseudo one among trailers. A value that could end a line is left out with its name."""
    if not headers:
        return []
    key = tuple(headers)
    known = _written.of(key)
    if known is not None:
        return known.copy()
    made = _fields(headers)
    _written.learn(key, made.copy())
    return made


def _fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    values = list(map(bytes.strip, map(_value, headers), repeat(_BLANK)))
    plan = _plan(tuple(map(_name, headers)))
    if plan.all and not b"".join(values).translate(None, IN_VALUES):
        return list(zip(plan.names, values, strict=True))
    rest = list(compress(zip(plan.names, values, strict=True), plan.written))
    for at in plan.connections:
        if values[at].lower() not in _NOMINATE_NOTHING:
            named = {token.strip(_BLANK).lower() for token in values[at].split(b",")} - {b"content-length"}
            rest = [pair for pair in rest if pair[0] not in named]
    if b"".join(map(_value, rest)).translate(None, IN_VALUES):
        rest = [pair for pair in rest if not pair[1].translate(None, IN_VALUES)]
    return rest


def response_head(status: int, headers: Headers) -> list[tuple[bytes, bytes]]:
    """``:status`` and headers."""
    written = fields(headers)
    if status == NO_CONTENT:  # clients may refuse a length with it
        written = [pair for pair in written if pair[0] != b"content-length"]
    return [(b":status", _STATUSES[status]), *written]


def written_head(known: ProperHead) -> list[tuple[bytes, bytes]]:
    """The same of a response over HTTP/2, whose head came before: made once. Nobody may change it."""
    written = known.written
    if written is None:
        known.written = written = response_head(known.status, known.headers)
    return written
