"""Who a peer is, by the certificate that it has shown: the rules of X.509-SVID for the leaf of a caller, and of a server.

That the certificate is genuine (its chain and dates, and that the peer has its key) the TLS handshake has seen to. What no
TLS library checks is checked here: exactly one URI among its names, which is a valid SPIFFE ID with a path, and that it is
no certificate for signing others. A DNS name that is spelled like a SPIFFE ID is a DNS name.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SpiffeId
from meshlib.policy.spiffe_id import why_not as why_not_spiffe

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger("meshlib.security")

REMEMBERED = 1024
"""Certificates whose meaning is kept: kept-alive connections, and callers that come again, show the same bytes."""
LONGEST = 32 * 1024
"""Bytes of one certificate; what is longer is not looked at."""
REMEDY = "pip install 'sidecarless[security]'"
DER = b"\x30"
"""What begins a certificate that is not text: a SEQUENCE."""


def identity_of(certificate: bytes | str) -> SpiffeId | None:
    """The identity in a leaf certificate, DER or PEM (of several PEM blocks the first is the leaf, as TLS sends them); None
    when it has none, or one that breaks a rule of SPIFFE: ``why_no_identity`` says which.

    Without the library ``cryptography`` no caller has an identity, and the log says once what to install.
    """
    if len(certificate) > LONGEST or not installed():
        return None
    found = _remembered(certificate)
    return None if isinstance(found, str) else found


def why_no_identity(certificate: bytes | str) -> str:
    """Why ``identity_of`` gives None for this certificate, as the end of a sentence about it; "" when it does not."""
    found = _read(certificate)
    return found if isinstance(found, str) else ""


def server_identity(certificate: bytes | str) -> SpiffeId | str:
    """The identity in the leaf of a server that we call, or why it has none, as the end of a sentence about it. The same rules
    as for callers, but that extendedKeyUsage, where there is one, has serverAuth."""
    return _read(certificate, True)


def _read(certificate: bytes | str, server: bool = False) -> SpiffeId | str:
    if len(certificate) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if not installed():
        return f"is not read without the library cryptography: {REMEDY}"
    return _remembered(certificate, server)


@functools.lru_cache(1)
def installed() -> bool:
    """Whether certificates can be read; the log says once that they cannot."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        log.warning(
            "a peer has shown a certificate, which is not read without the library cryptography: "
            "all peers are unauthenticated. %s",
            REMEDY,
        )
        return False
    return True


@functools.lru_cache(REMEMBERED)
def _remembered(certificate: bytes | str, server: bool = False) -> SpiffeId | str:
    """The identity, or why there is none."""
    from cryptography import x509

    try:
        if isinstance(certificate, bytes) and certificate.startswith(DER):
            found = x509.load_der_x509_certificate(certificate)
        else:
            text = certificate if isinstance(certificate, bytes) else certificate.encode()
            found = x509.load_pem_x509_certificate(text)
        return identity_in(found, server)
    except Exception as error:  # noqa: BLE001 (whatever a stranger's bytes bring about, they identify nobody)
        return f"is not a valid certificate ({type(error).__name__})"


def identity_in(certificate: x509.Certificate, server: bool = False) -> SpiffeId | str:
    """The identity of a leaf, or why it has none, as the end of a sentence."""
    return _why_no_leaf(certificate, server) or _identity(certificate)


def why_not_ours(certificate: x509.Certificate) -> str:
    """What SPIFFE demands of who makes a leaf, beyond what it demands of who looks at one, as the end of a sentence; "" when
    it holds: others are stricter with us than we may be with them."""
    from cryptography import x509

    usage = None
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            usage = extension
        if isinstance(value, x509.ExtendedKeyUsage) and x509.oid.ExtendedKeyUsageOID.SERVER_AUTH not in value:
            return "is not for servers (extendedKeyUsage has no serverAuth)"
    if usage is None:
        return "has no keyUsage"
    return "" if usage.critical else "has a keyUsage that is not critical"


def _why_no_leaf(certificate: x509.Certificate, server: bool) -> str:
    """Why it must not be used to authenticate a caller (or a server); "" when it may be."""
    from cryptography import x509

    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            return "is the certificate of an authority (basicConstraints has cA=true)"
        if isinstance(value, x509.KeyUsage):
            if value.key_cert_sign:
                return "may sign certificates (keyUsage has keyCertSign)"
            if value.crl_sign:
                return "may sign revocation lists (keyUsage has cRLSign)"
            if not value.digital_signature:
                return "must not sign (keyUsage has no digitalSignature)"
        if isinstance(value, x509.ExtendedKeyUsage):
            usages = x509.oid.ExtendedKeyUsageOID
            if not server and usages.CLIENT_AUTH not in value:
                return "is not for clients (extendedKeyUsage has no clientAuth)"
            if server and usages.SERVER_AUTH not in value:
                return "is not for servers (extendedKeyUsage has no serverAuth)"
    return ""


def _identity(certificate: x509.Certificate) -> SpiffeId | str:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "has no subjectAltName"
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        return f"has {len(uris)} URIs among its names, where SPIFFE demands exactly one"
    found = SpiffeId.parse(uris[0])
    if found is None:
        return f"has a URI that is not a valid SPIFFE ID: it {why_not_spiffe(uris[0])}"
    if not found.path:
        return "has the SPIFFE ID of a trust domain, not of a workload: it has no path"
    return found
