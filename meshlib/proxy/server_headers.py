"""What a proxy adds to every response, whoever made it, as Envoy does: who has sent it, and when."""

from __future__ import annotations

import operator
from email.utils import formatdate
from typing import TYPE_CHECKING

from meshlib.transport.protocol.received_head import SERVICE_TIME, ReceivedHead

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.sidecar_headers import ProxyHeaders

_NAME = operator.itemgetter(0)
_DATE = b"\r\ndate:"
_TOOK = SERVICE_TIME + b": %d\r\n"
_date: tuple[int, bytes] = 0, b""


_by: tuple[object, tuple[bytes, ...], bytes] = None, (), b""
"""What the settings that responses were last made by say of their lines (``_lines_of``)."""


def as_server(
    headers: Headers, settings: ProxyHeaders, clock: Clock, took: float | None = None
) -> RawHeaders | ReceivedHead:
    """``headers`` as a client gets them: ``settings.server`` in place of what upstream calls itself, Date where it has none,
    and, where ``settings.debug`` says so, that upstream ``took`` so many milliseconds, in place of what it says itself
    (None: they say so). Bytes stay bytes."""
    if type(headers) is ReceivedHead:
        took_line = b"" if took is None or not settings.debug else _TOOK % took
        if took_line and headers.shape.timed:
            headers = headers.without(SERVICE_TIME)
        told = headers.told
        if told is None:  # it comes once
            return in_bytes(headers, settings, clock, took_line)
        if told[0] is not settings:
            headers.told = settings, None
            return in_bytes(headers, settings, clock, took_line)
        # a head that was read before (``known_heads.py``) is the same object again
        again = told[1]
        if again is None:
            again = in_bytes(headers, settings, clock, b"")
            if headers.has_line(_DATE):
                headers.told = settings, again
        return again.with_lines(took_line) if took_line else again
    # no step of bytecode a header: what is asked here is one pass in C
    made = list(headers)
    names = list(map(bytes.lower, map(_NAME, made)))
    server = settings.server
    if server:
        _take_away(b"server", names, made)
    if took is not None or not settings.debug:
        _take_away(SERVICE_TIME, names, made)
    if b"date" not in names:
        made.append((b"date", _now(clock)))
    if server:
        made.append((b"server", server.encode("latin-1", "replace")))
    if took is not None and settings.debug:
        made.append((SERVICE_TIME, b"%d" % took))
    return made


def in_bytes(headers: ReceivedHead, settings: ProxyHeaders, clock: Clock, added: bytes = b"") -> ReceivedHead:
    """As ``as_server``, of a head that comes once, with the lines ``added``."""
    global _by
    by = _by
    if by[0] is not settings:
        _by = by = _lines_of(settings)
    _, away, server = by
    if server and headers.shape.usual:
        made = headers.served(server + added if added else server)
        if made is not None:
            return made
    if headers.has_line(_DATE):
        return headers.instead(away, server + added if added else server)
    return headers.instead(away, b"date: %b\r\n%b%b" % (_now(clock), server, added))


def _lines_of(settings: ProxyHeaders) -> tuple[ProxyHeaders, tuple[bytes, ...], bytes]:
    """Which lines ``settings`` take away, and the one that says who has sent a response."""
    server = settings.server
    away = [b"server"] if server else []
    if not settings.debug:
        away.append(SERVICE_TIME)
    line = b"server: %b\r\n" % server.encode("latin-1", "replace") if server else b""
    return settings, tuple(b"\r\n%b:" % name for name in away), line


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
