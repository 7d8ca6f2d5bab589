"""What a peer has shown in a TLS handshake, of sockets and objects of ``ssl``."""

from __future__ import annotations

DER = 2
"""``_ssl.ENCODING_DER``."""


def shown_chain(connection: object) -> tuple[bytes, ...]:
    """Its certificates (DER) as it has sent them, which need not be those that were verified, nor in order; none after a
    session was resumed by a ticket. CPython tells it since 3.10, in public (and as bytes) since 3.13; of others: ()."""
    inner = getattr(connection, "_sslobj", None) or connection
    ask = getattr(inner, "get_unverified_chain", None) or getattr(connection, "get_unverified_chain", None)
    try:
        told = (ask() if ask is not None else ()) or ()
    except (ValueError, OSError):  # no handshake yet, or no connection any more (ssl.SSLError is an OSError)
        return ()
    found = []
    for each in told:
        if isinstance(each, bytes):
            found.append(each)
        else:
            found.append(each.public_bytes(DER))
    return tuple(found)
