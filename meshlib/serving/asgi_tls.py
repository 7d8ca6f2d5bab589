"""The ASGI extension ``tls`` of a connection, as its specification has it: what applications, and policies, are told of the
peer."""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from meshlib.security.pem import pem_of
from meshlib.transport.asgi.peer import SNI

if TYPE_CHECKING:
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.transport.asgi.messages import App, Receive, Scope, Send

VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def tls_extension(peer: TlsPeer) -> dict[str, object]:
    """``client_cert_chain`` is PEM, the leaf first, with the intermediates where Python tells them; the key of ``SNI`` is
    ours."""
    return {
        "server_cert": _pem(peer.credentials.svid.leaf),
        "client_cert_chain": (_pem(peer.leaf), *map(_pem, peer.chain)),
        "client_cert_name": _subject(peer.leaf),
        "client_cert_error": None,
        "tls_version": VERSIONS.get(peer.version),
        "cipher_suite": peer.cipher or None,
        SNI: peer.sni,
    }


class WithTls:
    """An application on a TLS connection: each of its scopes has the extension."""

    __slots__ = ("_app", "_peer", "_tls")

    def __init__(self, app: App, peer: TlsPeer) -> None:
        self._app = app
        self._peer = peer  # and with it the connection, which is judged for as long as this serves it
        self._tls = tls_extension(peer)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        extensions = scope.get("extensions")
        scope["extensions"] = {**extensions, "tls": self._tls} if extensions else {"tls": self._tls}
        return self._app(scope, receive, send)


@functools.lru_cache(1024)
def _pem(der: bytes) -> str:
    # the same text for the same certificate: what is known of it is known by its text
    return pem_of(der)


@functools.lru_cache(1024)
def _subject(leaf: bytes) -> str | None:
    """RFC 4514; "" of most SVIDs, None where the library cryptography is missing."""
    try:
        from cryptography import x509

        return x509.load_der_x509_certificate(leaf).subject.rfc4514_string()
    except (ImportError, ValueError):
        return None
