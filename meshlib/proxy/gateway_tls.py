"""TLS that a gateway ends: what each server shows, and what it demands of clients.

Every ``tls`` of a server is a context of its own, made when a connection asks for it; a certificate that is replaced is a new
context, and touches no other. What its files say is kept as long as nothing about it changes; of the contexts, at 20 kB each,
those of the servers that were asked for last.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from meshlib.compiler.gateway_model import ALPN, GatewayTls, KeyPair
from meshlib.identity.credentials import CIPHERS
from meshlib.identity.memory_file import memory_file
from meshlib.security.chain import parsed
from meshlib.security.pem import CERTIFICATE, REVOCATIONS, Unusable, blocks, without_accents
from meshlib.serving.tls_peer import Chains, HandshakeDone, peer_of
from meshlib.transport.upstream.followed import Followed, UnusableFiles

if TYPE_CHECKING:
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.transport.core.mesh_core import MeshCore

VERSIONS = {
    "TLSV1_0": ssl.TLSVersion.TLSv1,
    "TLSV1_1": ssl.TLSVersion.TLSv1_1,
    "TLSV1_2": ssl.TLSVersion.TLSv1_2,
    "TLSV1_3": ssl.TLSVersion.TLSv1_3,
}
MOST_CONTEXTS = 128
"""Contexts that are kept for connections to come. To make one again takes half as long as a handshake; connections that are
open keep theirs."""
T = TypeVar("T")
NOBODY: Callable[[], SpiffeId | None] = lambda: None  # noqa: E731


class NotServed(Exception):
    """Why a connection over TLS is not served."""


class GatewayPeer:
    """A client over TLS. ``leaf`` and ``chain``: what it has shown and what stands behind that; ``ours``: the certificate that
    it was shown, DER; all empty where it has shown none. ``identity``: who it is in the mesh, asked at each request."""

    __slots__ = ("chain", "identity", "leaf", "ours", "sni")

    def __init__(
        self,
        sni: str,
        ours: bytes = b"",
        leaf: bytes = b"",
        chain: Sequence[bytes] = (),
        identity: Callable[[], SpiffeId | None] = NOBODY,
    ) -> None:
        self.sni = sni
        self.ours = ours
        self.leaf = leaf
        self.chain = tuple(chain)
        self.identity = identity


class Contents(NamedTuple):
    """What the files of a ``GatewayTls`` say; of one without files, what it says itself. ``shown``: the certificate that
    clients see, DER, where they are asked for theirs, else empty."""

    pairs: tuple[KeyPair, ...]
    ca: bytes
    crl: bytes
    shown: bytes = b""


class Contexts:
    """Those of a process, by what they are made of; ``most`` of them."""

    def __init__(self, core: MeshCore, alpn: Sequence[str] = ALPN, most: int = MOST_CONTEXTS) -> None:
        self._core = core
        self._alpn = tuple(alpn)
        self._most = most
        self._read: dict[GatewayTls, Followed[Contents]] = {}
        self._made: dict[GatewayTls, tuple[Contents, ssl.SSLContext]] = {}  # who was asked for last stands last
        self._good: dict[str, KeyPair] = {}  # by the Secret that it is of: the last that could be used
        self._instead: dict[GatewayTls, GatewayTls] = {}  # of those that cannot, and of those that nobody has tried yet
        self._chains = Chains()

    def keep(self, wanted: Collection[GatewayTls]) -> None:
        """A reload has these, and no others. Until one is tried, what was good of its Secrets before is shown."""
        there = set(wanted)
        sources = {pair.source for tls in there for pair in tls.pairs}
        self._good = {source: pair for source, pair in self._good.items() if source in sources}
        found = {tls: self._instead.get(tls) or self._with(tls, tls.pairs) for tls in there}
        self._instead = {tls: instead for tls, instead in found.items() if instead != tls}
        there.update(self._instead.values())
        for tls in [tls for tls in self._read if tls not in there]:
            self._forget(tls)

    def _forget(self, tls: GatewayTls) -> None:
        self._read.pop(tls, None)
        self._made.pop(tls, None)

    def can_be_used(self, tls: GatewayTls) -> None:
        """It was tried: on what is in its Secrets now, what comes later may fall back."""
        instead = self._instead.pop(tls, None)
        if instead is not None and instead not in self._instead.values():
            self._forget(instead)
        self._good.update({pair.source: pair for pair in tls.pairs if pair.source})

    def falls_back(self, tls: GatewayTls) -> bool:
        """Whether what was good of its Secrets before stands in from here on in one that cannot be used: in place of
        certificates and keys alone. Whom it asks for a certificate, which roots, revocations and names count is as it says
        now; where these are what cannot be used, nobody is served."""
        instead = self._with(tls, [pair for pair in tls.pairs if not can_be_shown(pair)])
        if instead == tls or unusable(instead, "", self._alpn):
            self._instead.pop(tls, None)
            return False
        self._instead[tls] = instead
        return True

    def _with(self, tls: GatewayTls, bad: Collection[KeyPair]) -> GatewayTls:
        """With what was good before in place of these."""
        return replace(tls, pairs=tuple(self._good.get(p.source, p) if p in bad else p for p in tls.pairs))

    def __len__(self) -> int:
        """Servers whose certificates were read."""
        return len(self._read)

    @property
    def kept(self) -> int:
        """Contexts that are there for connections to come."""
        return len(self._made)

    def context(self, tls: GatewayTls, server: str) -> ssl.SSLContext:
        """For a connection that is accepted now. Raises ``NotServed``."""
        if tls.mode == "ISTIO_MUTUAL":
            identity = self._core.identity
            current = None if identity is None else identity.current()
            if current is None:
                raise NotServed(
                    f"{server} is ISTIO_MUTUAL, and there is no certificate of the mesh: give --cert, --key and --bundle"
                )
            return current.server_context(self._alpn)
        if self._instead:
            tls = self._instead.get(tls, tls)
        contents = self._contents(tls, server)
        known = self._made.pop(tls, None)
        if known is not None and known[0] is contents:
            self._made[tls] = known
            return known[1]
        try:
            return self._keep(tls, contents, made(tls, contents, self._alpn))
        except (OSError, ValueError) as error:  # they were good when they were read: too many open files, for example
            raise NotServed(f"{server} is not served: {error}") from error

    def _keep(self, tls: GatewayTls, contents: Contents, context: ssl.SSLContext) -> ssl.SSLContext:
        self._made.pop(tls, None)
        while len(self._made) >= self._most:
            del self._made[next(iter(self._made))]
        self._made[tls] = contents, context
        return context

    def _contents(self, tls: GatewayTls, server: str) -> Contents:
        found = self._read.get(tls)
        if found is None:
            found = _followed(tls, server, lambda: self._usable(tls))
            self._read[tls] = found
        try:
            return found.current()
        except UnusableFiles as error:
            del self._read[tls]
            raise NotServed(f"{server} is not served: {error}") from error

    def _usable(self, tls: GatewayTls) -> Contents:
        """As ``contents_of``; a context is made of them, which says whether they can be used."""
        contents = contents_of(tls)
        self._keep(tls, contents, made(tls, contents, self._alpn))
        return contents

    def peer(self, tls: GatewayTls, server: str, done: HandshakeDone, sni: str) -> GatewayPeer:
        """The client of a connection whose handshake has ended. Raises ``NotServed`` where it is not one that may come in."""
        if tls.mode == "ISTIO_MUTUAL":
            return self._of_the_mesh(tls, server, done, sni)
        leaf = done.getpeercert(True) if tls.asks_clients else None
        if not isinstance(leaf, bytes) or not leaf:
            return GatewayPeer(sni)
        check_client(tls, leaf)
        return GatewayPeer(sni, self._contents(self._instead.get(tls, tls), server).shown, leaf)

    def _of_the_mesh(self, tls: GatewayTls, server: str, done: HandshakeDone, sni: str) -> GatewayPeer:
        identity = self._core.identity
        current = None if identity is None else identity.current()
        peer = None if current is None else peer_of(done, current, self._chains)
        judge = self._core.peers.identity_of
        found = None if peer is None else judge(peer.leaf, peer.chain)
        if peer is None or found is None:
            raise NotServed(f"a client of {server} has no identity of the mesh")
        if tls.names and found.text not in tls.names:
            raise NotServed(f"{found.text} is none of the subjectAltNames of {server}")
        leaf, chain = peer.leaf, peer.chain
        return GatewayPeer(sni, peer.credentials.svid.leaf, leaf, chain, lambda: judge(leaf, chain))


def why_not_served(tls: GatewayTls, server: str, alpn: Sequence[str] = ALPN) -> str:
    """What a client of this server would meet now; "" where it is served."""
    why = unusable(tls, server, alpn)
    return why and f"{server} is not served: {why}"


def unusable(tls: GatewayTls, server: str, alpn: Sequence[str] = ALPN) -> str:
    """Why it cannot be served; "" where it can. The certificate of the mesh is not looked at: it may come later."""
    if tls.mode == "ISTIO_MUTUAL":
        return ""
    try:
        _followed(tls, server, lambda: made(tls, contents_of(tls), alpn)).current()
    except UnusableFiles as error:
        return str(error)
    return ""


def doubts(tls: GatewayTls, server: str, names: Sequence[str], now: float) -> list[str]:
    """Sentences about a server that is served, and that clients will refuse, or that will refuse all clients. ``names``: those
    that its certificate is shown for; ``now`` in seconds since the epoch."""
    if tls.mode == "ISTIO_MUTUAL":
        return []
    from meshlib.proxy.certificate_doubts import of_clients, of_server

    try:
        pairs, ca, crl, _ = contents_of(tls)
        return [f"{server}: {each}" for each in (*of_server(pairs, names, now), *of_clients(ca, crl, now))]
    except Exception as error:  # noqa: BLE001 (a doubt is no reason to serve nobody)
        return [
            f"{server}: whether clients will refuse its certificate could not be found out ({type(error).__name__})"
        ]


def _followed(tls: GatewayTls, server: str, load: Callable[[], T]) -> Followed[T]:
    of_pairs = (file for pair in tls.pairs for file in (pair.certificate_file, pair.key_file))
    secrets = ", ".join(pair.source for pair in tls.pairs if pair.source)
    return Followed(f"tls of {server}", [tls.ca_file, tls.crl_file, *of_pairs], load, secrets)


def contents_of(tls: GatewayTls) -> Contents:
    """Read all files. Raises OSError, and ValueError of one that is empty and of a certificate that is none."""
    pairs = tuple(
        KeyPair(_content(p.certificate_file), _content(p.key_file)) if p.certificate_file else p for p in tls.pairs
    )
    ca, crl = (_content(tls.ca_file) or tls.ca, _content(tls.crl_file) or tls.crl) if tls.asks_clients else (b"", b"")
    return Contents(pairs, ca, crl, _shown(pairs[0].certificate) if tls.asks_clients else b"")


def _content(path: str) -> bytes:
    if not path:
        return b""
    with open(path, "rb") as file:
        content = file.read()
    if not content:
        raise ValueError(f"{path} is empty")
    return content


def made(tls: GatewayTls, contents: Contents, alpn: Sequence[str]) -> ssl.SSLContext:
    """A context. Raises OSError (ssl.SSLError too) and ValueError, and nothing else: what one server's files bring about closes
    that server alone."""
    try:
        return _context(tls, contents, alpn)
    except (OSError, ValueError):
        raise
    except Exception as error:  # its text might show a key
        raise ValueError(
            f"OpenSSL or Python cannot read it ({type(error).__name__}); write it again, in PEM"
        ) from error


def _context(tls: GatewayTls, contents: Contents, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[tls.minimum], VERSIONS[tls.maximum]
    old = tls.minimum in ("TLSV1_0", "TLSV1_1")
    ciphers = ":".join(tls.ciphers) or CIPHERS
    # OpenSSL has versions before 1.2 only below its usual level
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0" if old else ciphers)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    for pair in contents.pairs:
        _load(context, pair)
    if tls.asks_clients:
        _trust(context, contents.ca, of_secret=not tls.ca_file)
        if contents.crl:
            _revoke(context, contents.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.verify_mode = ssl.CERT_REQUIRED if tls.needs_clients else ssl.CERT_OPTIONAL
    return context


def can_be_shown(pair: KeyPair) -> bool:
    """Whether OpenSSL takes it: a certificate, and its key."""
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except (OSError, ValueError):
        return False
    return True


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    # no password: a key that wants one is an error, not a question on somebody's terminal
    try:
        with memory_file(pair.certificate) as certificate:
            if not pair.key:  # it is in the file of the certificate
                context.load_cert_chain(certificate, password="")
                return
            with memory_file(pair.key) as key:
                context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        from meshlib.proxy.certificate_doubts import remedy

        told = remedy(pair)
        if told:
            raise ValueError(told) from error
        raise


def _trust(context: ssl.SSLContext, pem: bytes, *, of_secret: bool) -> None:
    error: Exception | None = None
    try:
        if of_secret:
            context.load_verify_locations(cadata=without_accents(pem).decode("ascii", "replace"))
        else:
            with memory_file(pem) as path:
                context.load_verify_locations(path)
    except (ssl.SSLError, TypeError) as found:  # TypeError: it is not ASCII, and no PEM
        error = found
    if error is not None or not context.cert_store_stats()["x509"]:  # OpenSSL takes a revocation list alone, too
        raise _unreadable(pem, "the roots of clients (ca.crt, caCertificates)", CERTIFICATE) from error


def _revoke(context: ssl.SSLContext, pem: bytes) -> None:
    what = "the revocation list (ca.crl, caCrl)"
    trusted = context.cert_store_stats()["x509"]
    error: Exception | None = None
    try:
        with memory_file(pem) as path:
            context.load_verify_locations(path)
    except ssl.SSLError as found:
        error = found
    if error is not None or not context.cert_store_stats()["crl"]:
        raise _unreadable(pem, what, REVOCATIONS) from error
    if context.cert_store_stats()["x509"] != trusted:  # OpenSSL would trust it
        raise ValueError(f"{what} has a certificate that is none of the roots of clients; give {REVOCATIONS} alone")


def _unreadable(pem: bytes, what: str, label: str) -> ValueError:
    from meshlib.proxy.certificate_doubts import why_none

    return ValueError(f"{what} cannot be read: {why_none(pem, label)}")


def _shown(text: bytes) -> bytes:
    try:
        return next(
            block.content for block in blocks(without_accents(text), "the certificate") if block.label == CERTIFICATE
        )
    except (Unusable, StopIteration) as error:
        raise ValueError(f"there is no certificate in it: {error}") from error


def check_client(tls: GatewayTls, leaf: bytes) -> None:
    """Whether a client's certificate, which a root has vouched for, is one that the server takes. Raises ``NotServed``."""
    if tls.hashes or tls.keys:
        digest = hashlib.sha256(leaf).hexdigest()
        if not any(hmac.compare_digest(digest, each) for each in tls.hashes) and not _has_key(tls, leaf):
            raise NotServed("a client's certificate is none of verifyCertificateHash and verifyCertificateSpki")
    if tls.names and not set(tls.names) & set(_names(leaf)):
        raise NotServed("a client's certificate has none of the subjectAltNames")


def _has_key(tls: GatewayTls, leaf: bytes) -> bool:
    certificate = parsed(leaf) if tls.keys else None
    if certificate is None:
        return False
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return any(hmac.compare_digest(found, each) for each in tls.keys)


def _names(leaf: bytes) -> Sequence[str]:
    """The URIs, DNS names and addresses that a certificate is for."""
    from cryptography import x509

    certificate = parsed(leaf)
    if certificate is None:
        return ()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return [str(name.value) for name in found]
