"""What X-Forwarded-Client-Cert tells of certificates: read once a connection, of leaves that a handshake has verified."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.policy.forwarded_client_cert import CertDetails, ShownCertificate, element
from meshlib.security.chain import parsed
from meshlib.security.pem import pem_of

if TYPE_CHECKING:
    from cryptography import x509

MOST_SEEN = 1024
MOST_ELEMENTS = 256


@functools.lru_cache(MOST_SEEN)
def shown_certificate(ours: bytes, leaf: bytes, chain: tuple[bytes, ...] = ()) -> ShownCertificate:
    """``ours``: our own leaf, ``leaf``: the caller's, ``chain``: what stands behind that, all DER. Of a leaf that cannot be
    read, which its handshake would have refused, the hash alone."""
    digest = hashlib.sha256(leaf).hexdigest()
    by = _names(parsed(ours))[0]
    certificate = parsed(leaf)
    if certificate is None:
        return ShownCertificate(by, digest)
    uris, dns = _names(certificate)
    pem = pem_of(leaf)
    return ShownCertificate(
        by, digest, certificate.subject.rfc4514_string(), uris, dns, pem, pem + "".join(map(pem_of, chain))
    )


@functools.lru_cache(MOST_ELEMENTS)
def element_of(ours: bytes, leaf: bytes, chain: tuple[bytes, ...], details: CertDetails) -> bytes:
    """The element about it; callers whose connections do not last show the same certificate each time."""
    return element(shown_certificate(ours, leaf, chain), details)


def _names(certificate: x509.Certificate | None) -> tuple[Sequence[str], Sequence[str]]:
    """URIs and DNS names that it is for."""
    from cryptography import x509

    if certificate is None:
        return (), ()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return (), ()
    return (
        tuple(found.get_values_for_type(x509.UniformResourceIdentifier)),
        tuple(found.get_values_for_type(x509.DNSName)),
    )
