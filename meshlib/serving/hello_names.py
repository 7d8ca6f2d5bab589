"""What a client names in the first message of a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301): the server that it
wants, and the protocols that it speaks. Read before anybody has accepted it, out of as many records as it comes in."""

from __future__ import annotations

from typing import NamedTuple

HEADER = 5
"""Bytes of a record before its content."""
MOST = 64 * 1024
"""Bytes of a ClientHello that are waited for."""
LONGEST_RECORD = 16384
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16


class NotTls(ValueError):
    """The bytes are no ClientHello."""


class Hello(NamedTuple):
    """``sni`` in lower case, "" where none is named; ``alpn`` in the client's order."""

    sni: str
    alpn: tuple[str, ...]


def hello_of(data: bytes) -> Hello | None:
    """What ``data``, the beginning of a connection, names; None: more has to come. Raises ``NotTls``."""
    message = b""
    at = 0
    while True:
        if data[at : at + 1] not in (b"", b"\x16") or data[at + 1 : at + 2] not in (b"", b"\x03"):
            raise NotTls("not a TLS record of a handshake")
        if len(data) < at + HEADER:
            break
        size = int.from_bytes(data[at + 3 : at + HEADER])
        if not 0 < size <= LONGEST_RECORD:
            raise NotTls("a record of a length that is none")
        message += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if message and message[:1] != bytes((_CLIENT_HELLO,)):
            raise NotTls("the handshake does not begin with a ClientHello")
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return _read(message[4 : 4 + int.from_bytes(message[1:4])])
        if at > len(data):
            break
    if len(data) > MOST:
        raise NotTls("a ClientHello that does not end")
    return None


def _read(hello: bytes) -> Hello:
    rest = hello[34:]  # the version of old and the random
    for width in (1, 2, 1):  # session, suites, compressions
        _, rest = _vector(rest, width)
    sni = ""
    alpn: tuple[str, ...] = ()
    if rest:
        extensions, _ = _vector(rest, 2)
        while extensions:
            number = int.from_bytes(extensions[:2])
            body, extensions = _vector(extensions[2:], 2)
            if number == _SERVER_NAME:
                sni = _server_name(body)
            elif number == _ALPN:
                alpn = _protocols(body)
    return Hello(sni, alpn)


def _server_name(body: bytes) -> str:
    names, _ = _vector(body, 2)
    while names:
        kind = names[:1]
        name, names = _vector(names[1:], 2)
        if kind == b"\x00":
            return name.decode("latin-1").lower()
    return ""


def _protocols(body: bytes) -> tuple[str, ...]:
    found = []
    rest, _ = _vector(body, 2)
    while rest:
        name, rest = _vector(rest, 1)
        found.append(name.decode("latin-1"))
    return tuple(found)


def _vector(data: bytes, width: int) -> tuple[bytes, bytes]:
    """What follows a length of ``width`` bytes, and the rest. Raises ``NotTls``."""
    end = width + int.from_bytes(data[:width])
    if len(data) < width or len(data) < end:
        raise NotTls("a ClientHello that has less than it announces")
    return data[width:end], data[end:]
