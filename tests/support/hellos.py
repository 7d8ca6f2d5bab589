"""What OpenSSL says first, by the versions that it may speak."""

from __future__ import annotations

import contextlib
import ssl

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def hello(oldest: ssl.TLSVersion, newest: ssl.TLSVersion) -> bytes:
    """The first record of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = oldest, newest
    context.set_alpn_protocols(["istio-h2", "istio", "h2"])
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="reviews").do_handshake()
    return said.read()


BOTH, OLD, NEW = hello(V12, V13), hello(V12, V12), hello(V13, V13)
