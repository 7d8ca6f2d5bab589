"""What a proxy adds to every response, whoever made it, as Envoy does: who has sent it, and when."""

from __future__ import annotations

import operator
from email.utils import formatdate
from typing import TYPE_CHECKING

from meshlib.transport.protocol.received_head import ReceivedHead

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.sidecar_headers import ProxyHeaders

SERVICE_TIME = b"x-envoy-upstream-service-time"
_NAME = operator.itemgetter(0)
_date: tuple[int, bytes] = 0, b""


def as_server(
    headers: Headers, settings: ProxyHeaders, clock: Clock, took: float | None = None
) -> RawHeaders | ReceivedHead:
    """``headers`` as a client gets them: ``settings.server`` in place of what upstream calls itself, Date where it has none,
    and, where ``settings.debug`` says so, that upstream ``took`` so many milliseconds (None: it says so). Bytes stay bytes."""
    if type(headers) is ReceivedHead:
        found = _in_bytes(headers, settings, clock)
        return found.plus(SERVICE_TIME, b"%d" % took) if took is not None and settings.debug else found
    # no step of bytecode a header: what is asked here is one pass in C
    made = list(headers)
    names = list(map(bytes.lower, map(_NAME, made)))
    server = settings.server
    if server:
        _take_away(b"server", names, made)
    if not settings.debug:
        _take_away(SERVICE_TIME, names, made)
    if b"date" not in names:
        made.append((b"date", _now(clock)))
    if server:
        made.append((b"server", server.encode("latin-1", "replace")))
    if took is not None and settings.debug:
        made.append((SERVICE_TIME, b"%d" % took))
    return made


def _in_bytes(headers: ReceivedHead, settings: ProxyHeaders, clock: Clock) -> ReceivedHead:
    told = headers.told  # a head that was read before (``known_heads.py``) is the same object again
    if told is not None and told[0] is settings:
        return told[1]
    made, server = headers, settings.server
    if server:
        made = made.without(b"server")
    if not settings.debug:
        made = made.without(SERVICE_TIME)
    added = b"server: %b\r\n" % server.encode("latin-1", "replace") if server else b""
    dated = headers.says(b"date")
    if not dated:
        added = b"date: %b\r\n%b" % (_now(clock), added)
    if added:
        made = made.with_lines(added)
    if dated and made is not headers:
        headers.told = settings, made
    return made


def _take_away(name: bytes, names: list[bytes], headers: RawHeaders) -> None:
    while name in names:
        at = names.index(name)
        del names[at], headers[at]


def _now(clock: Clock) -> bytes:
    """HTTP's date, made once a second."""
    global _date
    now = int(clock.time())
    found = _date
    if found[0] != now:
        _date = found = now, formatdate(now, usegmt=True).encode()
    return found[1]
