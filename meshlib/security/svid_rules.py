"""Every rule of X.509-SVID that a certificate breaks, for people who look at one. Who a peer is decides
``peer_certificate``, which stops at the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from meshlib.policy.spiffe_id import SCHEME, SpiffeId, why_not

if TYPE_CHECKING:
    from cryptography import x509

    E = TypeVar("E", bound=x509.ExtensionType)


def broken_by_leaf(certificate: x509.Certificate) -> list[str]:
    """What a workload's certificate breaks, each as the end of a sentence about it, with the section of the specification
    X509-SVID (or of RFC 5280); [] when nothing."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if (unread := _unreadable(certificate)) is not None:
        return [unread]
    broken = [*_names(certificate), *_dates(certificate)]
    constraints = _of(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        broken.append("has cA=true, which is for authorities alone (4.1)")
    usage = _of(certificate, x509.KeyUsage)
    if usage is None:
        broken.append("has no keyUsage (4.3)")
    else:
        if not usage.critical:
            broken.append("has a keyUsage that is not critical (4.3)")
        if not usage.value.digital_signature:
            broken.append("has a keyUsage without digitalSignature (4.3)")
        if usage.value.key_cert_sign:
            broken.append("has a keyUsage with keyCertSign, which is for authorities alone (4.3)")
        if usage.value.crl_sign:
            broken.append("has a keyUsage with cRLSign, which is for authorities alone (4.3)")
    extended = _of(certificate, x509.ExtendedKeyUsage)
    if extended is not None:
        for purpose, name in (
            (ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"),
            (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"),
        ):
            if purpose not in extended.value:
                broken.append(f"has an extendedKeyUsage without {name} (4.4)")
    return broken


def broken_by_authority(certificate: x509.Certificate) -> list[str]:
    """The same of the certificate of a root or intermediate."""
    from cryptography import x509

    if (unread := _unreadable(certificate)) is not None:
        return [unread]
    broken = _dates(certificate)
    constraints = _of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        broken.append("has no cA=true, so it cannot sign (4.1)")
    elif not constraints.critical:
        broken.append("has basicConstraints that are not critical (RFC 5280, 4.2.1.9)")
    usage = _of(certificate, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        broken.append("has no keyUsage with keyCertSign (4.3)")
    elif not usage.critical:
        broken.append("has a keyUsage that is not critical (4.3)")
    for uri in spiffe_uris(certificate):
        found = SpiffeId.parse(uri)
        if found is None:
            broken.append(f"has a URI {uri!r} that is not a valid SPIFFE ID: it {why_not(uri)} (SPIFFE-ID 2)")
        elif found.path:
            broken.append(f"has the SPIFFE ID of a workload, {uri}, where an authority's has no path (3.2)")
    if len(spiffe_uris(certificate)) > 1:
        broken.append("has several SPIFFE IDs (2)")
    if _of(certificate, x509.SubjectKeyIdentifier) is None:
        broken.append("has no subjectKeyIdentifier (RFC 5280, 4.2.1.2)")
    return broken


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it means to be one: it says cA=true, and no workload's SPIFFE ID."""
    from cryptography import x509

    if _unreadable(certificate) is not None:
        return False
    constraints = _of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        return False
    found = [SpiffeId.parse(uri) for uri in spiffe_uris(certificate)]
    return not any(each is not None and each.path for each in found)


def spiffe_uris(certificate: x509.Certificate) -> list[str]:
    """URIs among its names that begin as SPIFFE IDs do, valid or not."""
    return [uri for uri in _uris(certificate) if uri.lower().startswith(SCHEME)]


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    names = _of(certificate, x509.SubjectAlternativeName)
    if names is None:
        return ["has no subjectAltName, which has the SPIFFE ID (2)"]
    broken = []
    uris = _uris(certificate)
    if len(uris) != 1:
        broken.append(f"has {len(uris)} URIs among its names, where there is exactly one (2)")
    for uri in uris:
        found = SpiffeId.parse(uri)
        if found is None:
            broken.append(f"has a URI {_short(uri)} that is not a valid SPIFFE ID: it {why_not(uri)} (SPIFFE-ID 2)")
        elif not found.path:
            broken.append(f"has the SPIFFE ID of the trust domain itself, {uri}, where a workload's has a path (3.1)")
    if not list(certificate.subject) and not names.critical:
        broken.append("has no subject, and names that are not critical (RFC 5280, 4.2.1.6)")
    return broken


def _dates(certificate: x509.Certificate) -> list[str]:
    if certificate.not_valid_before_utc > certificate.not_valid_after_utc:
        return ["ends before it begins (RFC 5280, 4.1.2.5)"]
    return []


def _uris(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    names = _of(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.value.get_values_for_type(x509.UniformResourceIdentifier)


def _unreadable(certificate: x509.Certificate) -> str | None:
    try:
        certificate.extensions  # noqa: B018 (read lazily: what is malformed in them raises here)
    except Exception as error:  # noqa: BLE001 (cryptography has errors of its own for what is there twice, or malformed)
        return f"has extensions that cannot be read ({type(error).__name__})"
    return None


def _of(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _short(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."
