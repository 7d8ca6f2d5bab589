"""What a client offers in the first record of a TLS connection (RFC 8446, 4.1.2), before anybody has accepted it.

gRPC core cannot be told a minimum version of TLS from Python. It takes the newest that the client offers, so a client that
offers TLS 1.3 gets it.
"""

from __future__ import annotations

HEADER = 5
"""Bytes of a record before its content."""
_HANDSHAKE, _CLIENT_HELLO, _SUPPORTED_VERSIONS = 22, 1, 43
_TLS13 = b"\x03\x04"


class _Ends(Exception):
    """There is less than was announced."""


def record_length(start: bytes) -> int:
    """Bytes of the record that begins so, its header included; of less than a header: that of a header."""
    return HEADER if len(start) < HEADER else HEADER + int.from_bytes(start[3:5])


def offers_tls13(record: bytes) -> bool:
    """Whether ``record`` is a ClientHello, whole, that offers TLS 1.3. Of one that goes on in a second record: False."""
    try:
        kind, content = record[:1], record[HEADER : record_length(record)]
        if kind != bytes((_HANDSHAKE,)) or content[:1] != bytes((_CLIENT_HELLO,)):
            return False
        hello, _ = _vector(content[1:], 3)
        rest = hello[34:]  # the version of old and the random
        for width in (1, 2, 1):  # session, suites, compressions
            _, rest = _vector(rest, width)
        extensions, _ = _vector(rest, 2)
        while extensions:
            number, (body, extensions) = int.from_bytes(extensions[:2]), _vector(extensions[2:], 2)
            if number == _SUPPORTED_VERSIONS:
                versions, _ = _vector(body, 1)
                return _TLS13 in (versions[at : at + 2] for at in range(0, len(versions), 2))
    except _Ends:
        pass
    return False


def _vector(data: bytes, width: int) -> tuple[bytes, bytes]:
    """What follows a length of ``width`` bytes, and the rest."""
    end = width + int.from_bytes(data[:width])
    if len(data) < width or len(data) < end:
        raise _Ends
    return data[width:end], data[end:]
