"""One version of what a process shows and trusts. A rotation makes another; a connection takes the one that is current when it
is made."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.identity.memory_file import memory_file
from meshlib.security.chain import find_path, parsed
from meshlib.security.pem import pem_of

if TYPE_CHECKING:
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles

CIPHERS = ":".join(
    f"ECDHE-{signed}-{sealed}"
    for sealed in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signed in ("ECDSA", "RSA")
)
"""Of TLS 1.2: those of Mozilla's "intermediate" configuration without its finite-field Diffie-Hellman. OpenSSL has those of
TLS 1.3, which are the same as Mozilla's."""
TICKETS = 1
"""Session tickets of a handshake over TLS 1.3: each has the peer's certificate in it and costs a seventh of a handshake;
OpenSSL would make two. (Ports that see whether callers resume give fewer: ``serving/tickets.py``.)"""
_BEGIN = b"-----BEGIN CERTIFICATE-----"
GROUPS = ("X25519", "prime256v1", "secp384r1")


class Credentials:
    """``version`` grows with each rotation of one ``Identity``. Contexts are made once a version and kept: a session that was
    made under a version is known to no later one, so it does not outlive a root that was dropped. ``replaced``: there is a
    later one."""

    __slots__ = ("_contexts", "bundles", "replaced", "svid", "version")

    def __init__(self, svid: Svid, bundles: TrustBundles, version: int = 1) -> None:
        self.svid = svid
        self.bundles = bundles
        self.version = version
        self.replaced = False
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}  # servers': (peer required, oldest TLS, *alpn)

    def server_context(
        self, alpn: Sequence[str], *, require_peer: bool = True, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ) -> ssl.SSLContext:
        """For connections that are accepted: TLS ``minimum`` or newer (MeshConfig's ``meshMTLS.minProtocolVersion``), the peer
        shows a certificate of one of our roots (with ``require_peer`` False: if it has one). What SPIFFE demands of it is
        judged after the handshake (``Peers``)."""
        key = (require_peer, minimum, *alpn)
        found = self._contexts.get(key)
        if found is None:
            made = self._made(ssl.PROTOCOL_TLS_SERVER, alpn)
            made.verify_mode = ssl.CERT_REQUIRED if require_peer else ssl.CERT_OPTIONAL
            made.minimum_version = minimum
            made.num_tickets = TICKETS
            found = self._contexts.setdefault(key, made)  # another thread's: a session of a context resumes in no other
        return found

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """For connections that are made: our certificate is shown, the server's must come of one of our roots; whose it is is
        judged after the handshake, before a byte is sent."""
        key = tuple(alpn)
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts.setdefault(key, self._made(ssl.PROTOCOL_TLS_CLIENT, alpn))
        return found

    def _made(self, side: int, alpn: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION  # nor does Envoy; a peer is judged once
        _set_groups(context)
        _load(context, self.svid, self._root_pem())
        context.load_verify_locations(cadata=self.bundles.pem)
        context.set_alpn_protocols(list(alpn))
        return context

    def _root_pem(self) -> bytes:
        """The root that has issued our certificate, where no intermediate stands between them; else nothing.

        OpenSSL shows what it is given behind the leaf. Where that is nothing it looks for more among what is trusted, at each
        handshake, and so checks our own signature: a tenth of the handshake, to show this same root."""
        if self.svid.chain_pem.count(_BEGIN) > 1 or (leaf := parsed(self.svid.leaf)) is None:
            return b""
        for root in self.bundles.roots_of(self.svid.identity.trust_domain):
            if not isinstance(find_path(leaf, (), (root,)), str):
                return pem_of(root).encode()
        return b""

    def after_fork(self) -> None:
        """In a forked child: contexts of its own. With those of its parent it would resume sessions of which it has not seen
        the chain, and of several trust domains nobody could tell whose root it ended at."""
        self._contexts = {}

    def __repr__(self) -> str:
        return f"<Credentials {self.svid.identity} version {self.version}>"


def _set_groups(context: ssl.SSLContext) -> None:
    """Mozilla's, where Python can set several (3.15); before, OpenSSL's own. P-256 alone would refuse those on P-384 over
    TLS 1.2, and cost most handshakes a round trip."""
    several = getattr(context, "set_groups", None)
    if several is not None:
        several(":".join(GROUPS))


def _load(context: ssl.SSLContext, svid: Svid, behind: bytes) -> None:
    with memory_file(svid.key_pem, svid.chain_pem, behind) as path:
        context.load_cert_chain(path)
