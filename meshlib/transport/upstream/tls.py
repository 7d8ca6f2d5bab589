"""SSL contexts for upstream connections, made once per settings, and the subjectAltNames check after the handshake."""

from __future__ import annotations

import functools
import os
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.httpx_module import usual
from meshlib.identity.memory_file import memory_file
from meshlib.policy.peer_names import allows, type_of
from meshlib.transport.upstream.followed import Followed
from meshlib.transport.upstream.mutual import Handshake, MutualTls
from meshlib.transport.upstream.refused_certificates import note_handshake

if TYPE_CHECKING:
    from meshlib.compiler.routes import TlsSettings


Certificate = Mapping[str, Any]
"""A dict of ``getpeercert()``, whose values are of several shapes."""

Verify = ssl.SSLContext | str | bool
Cert = str | tuple[str, str] | tuple[str, str, str] | None
"""httpx's ``verify`` and ``cert``."""


class PeerNameMismatch(Exception):
    """The server's certificate is valid but carries none of the names the DestinationRule allows."""


def check_peer(certificate: Certificate, allowed: Sequence[str]) -> None:
    """Raise ``PeerNameMismatch`` unless one of the names of the certificate, a dict of ``getpeercert()``, is ``allowed``
    (none: no check). See ``policy/peer_names.py``."""
    if not allowed:
        return
    names = [(kind, text) for kind, text in certificate.get("subjectAltName", ()) if isinstance(text, str)]
    if not allows(allowed, names):
        said = ", ".join(text if type_of(text) == kind else f"{text} ({kind})" for kind, text in names)
        raise PeerNameMismatch(
            f"the server's certificate is for {said or 'no name at all'}; "
            f"the DestinationRule (or the ServiceEntry, where it names none) wants one of {', '.join(allowed)}"
        )


def certificate_of(peer: ssl.SSLObject) -> Certificate:
    """The server's certificate. Raises ``PeerNameMismatch`` when its names are not text."""
    try:
        return peer.getpeercert() or {}
    except UnicodeDecodeError as error:
        raise PeerNameMismatch(UNREADABLE) from error


UNREADABLE = "the names of the server's certificate cannot be read"
HTTP1_ONLY = ("http/1.1",)
OPAQUE: Sequence[str] = ()
"""Of connections whose bytes nobody here reads."""
HTTP2_OR_1 = ("h2", "http/1.1")

_offering = threading.Lock()
os.register_at_fork(after_in_child=_offering._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


class Wraps(Protocol):
    """An ``Offering`` or a ``Handshake``."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_hostname: str | bytes | None
    ) -> ssl.SSLObject:
        """As ``SSLContext.wrap_bio``."""


class Offering:
    """A TLS context that offers these protocols (ALPN) in its next handshakes, whatever the context offers elsewhere:
    OpenSSL copies the offer when a connection is made. Stands where asyncio wants an ``SSLContext``."""

    __slots__ = ("_protocols", "context")

    def __init__(self, context: ssl.SSLContext, protocols: Sequence[str]) -> None:
        self.context = context
        self._protocols = list(protocols)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As ``SSLContext.wrap_bio``."""
        with _offering:
            self.context.set_alpn_protocols(self._protocols)
            return self.context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def done(self, peer: ssl.SSLObject) -> None:
        """The handshake is; whom it was with, ``check_peer`` says."""
        note_handshake(peer)


class Cipher(Protocol):
    """What encrypts and decrypts of a connection."""

    def read(self, length: int, /) -> bytes:
        """As ``ssl.SSLObject.read``."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """As ``ssl.SSLObject.write``."""


def inner_of(peer: ssl.SSLObject) -> Cipher:
    """The object in C that ``peer`` calls, for who calls it with each request; where Python has none, ``peer`` itself."""
    return getattr(peer, "_sslobj", None) or peer


Context = ssl.SSLContext | Followed[ssl.SSLContext]
"""A TLS context, or the files that it is made of."""


def context_of(tls: Context) -> ssl.SSLContext:
    """The context for a new connection. Raises ``UnusableFiles``."""
    return tls.current() if isinstance(tls, Followed) else tls


def handshake_of(tls: Context | MutualTls, protocols: Sequence[str]) -> Offering | Handshake:
    """The handshake of a new connection that offers ``protocols``; mTLS of the mesh has its own names for them. Raises
    ``UnusableFiles``, ``NoCertificate``."""
    if isinstance(tls, MutualTls):
        return tls.begin("h2" in protocols, not protocols)
    return Offering(context_of(tls), protocols)


def chose_http1(tls: Context | MutualTls | None, selected: str | None) -> bool:
    """Whether a server that was offered HTTP/2 has chosen HTTP/1.1. Over mTLS of the mesh, one that does not choose speaks what
    its port says, as for Envoy."""
    return selected in ("http/1.1", "istio-http/1.1") if isinstance(tls, MutualTls) else selected != "h2"


@functools.lru_cache(maxsize=256)
def upstream_context(settings: TlsSettings) -> Followed[ssl.SSLContext]:
    """The context for a DestinationRule's ``tls`` block, which follows its files."""
    files = (settings.ca_certificates, settings.client_certificate, settings.private_key, settings.ca_crl)
    return Followed(settings.credential or "the TLS files of a DestinationRule", files, lambda: load_context(settings))


def load_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context, of the files as they are now. Raises OSError (ssl.SSLError too)."""
    if settings.credential:
        context = _of_secret(settings)
    elif settings.ca_certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(settings.ca_certificates)
    else:
        context = ssl.create_default_context()
    if settings.ca_crl:
        context.load_verify_locations(settings.ca_crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if settings.client_certificate:
        # no password: a key that wants one is an error, not a question on somebody's terminal
        context.load_cert_chain(settings.client_certificate, settings.private_key or None, password="")
    # the names to accept may be given explicitly; then it is check_peer that decides, not the host name
    by_name = settings.named_too or not settings.subject_alt_names
    context.check_hostname = by_name and not settings.insecure_skip_verify
    if settings.insecure_skip_verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def _of_secret(settings: TlsSettings) -> ssl.SSLContext:
    """A context with what a Secret has: its roots and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca_pem:
        with memory_file(settings.ca_pem, settings.crl_pem) as path:
            context.load_verify_locations(path)
    if settings.crl_pem:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if settings.certificate_pem:
        with memory_file(settings.key_pem, settings.certificate_pem) as path:
            context.load_cert_chain(path, password="")
    return context


def caller_context(verify: Verify, cert: Cert, trust_env: bool = True) -> Context:
    """The context for https URLs, from httpx's ``verify``, ``cert`` and ``trust_env`` (SSL_CERT_FILE, SSL_CERT_DIR). It
    follows the files that these name; a context that the caller made stays as it is."""
    if isinstance(verify, ssl.SSLContext) and cert is None:
        return verify

    def load() -> ssl.SSLContext:
        return usual().create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)

    files = [os.fspath(verify)] if isinstance(verify, (str, os.PathLike)) else []
    if verify is True and trust_env:
        files += [os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")]
    if cert is not None:
        files += [os.fspath(part) for part in ((cert,) if isinstance(cert, (str, os.PathLike)) else cert[:2]) if part]
    return Followed("the certificate files of the client", files, load)
