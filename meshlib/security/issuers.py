"""The certificates of an authority as others have written them: whether each may sign, and whose each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SCHEME, SpiffeId
from meshlib.security.certificate_forms import trust_domain_of

if TYPE_CHECKING:
    from cryptography import x509


def issuers_of(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The chain of an authority, its own certificate first, the root last. Raises ValueError, as the end of a sentence about
    what was read, for what is not such a chain."""
    from cryptography import x509

    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except Exception:  # noqa: BLE001 (cryptography has errors of its own for versions and encodings)
        raise ValueError("has no valid certificate in PEM") from None
    for place, each in enumerate(chain):
        wrong = why_no_issuer(each, place)
        signer = chain[min(place + 1, len(chain) - 1)]
        if not wrong and not signed_by(each, signer):
            wrong = (
                "is not signed by the one behind it" if each is not signer else "is not a root: it is signed by another"
            )
        if wrong:
            raise ValueError(f"has a certificate (number {place + 1}, {each.subject.rfc4514_string()}) that {wrong}")
    return chain


def why_no_issuer(certificate: x509.Certificate, below: int = 0) -> str:
    """Why ``certificate`` must not sign others, with ``below`` more authorities between it and a leaf; "" when it may. What
    OpenSSL's strict mode, Go and SPIFFE demand of it."""
    from cryptography import x509

    def of(kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType] | None:
        try:
            return certificate.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            return None

    try:
        constraints, usage, key_id = of(x509.BasicConstraints), of(x509.KeyUsage), of(x509.SubjectKeyIdentifier)
    except Exception as error:  # noqa: BLE001 (an extension twice is an error of its own)
        return f"has an extension that cannot be read ({type(error).__name__})"
    if constraints is None or not isinstance(constraints.value, x509.BasicConstraints) or not constraints.value.ca:
        return "is not the certificate of an authority (basicConstraints has no cA=true)"
    if usage is None or not isinstance(usage.value, x509.KeyUsage) or not usage.value.key_cert_sign:
        return "must not sign certificates (keyUsage has no keyCertSign)"
    if not constraints.critical:
        return "has basicConstraints that are not critical"
    if key_id is None:
        return "has no subjectKeyIdentifier"
    if constraints.value.path_length is not None and constraints.value.path_length < below:
        return f"has path length {constraints.value.path_length}, with {below} more between it and an SVID"
    return ""


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` has signed ``certificate``: the names agree and the signature is genuine. Dates are not looked at."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def path_length_of(certificate: x509.Certificate) -> int | None:
    """How many authorities there may be below this one; None: any number."""
    from cryptography import x509

    found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    return found.value.path_length


def spoken_for(certificate: x509.Certificate, otherwise: str = "") -> str:
    """The trust domain in an authority's certificate (a URI spiffe://<trust domain>), else ``otherwise``. Raises ValueError
    when neither says, or both do and differ."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        uris: list[str] = []
    else:
        uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(SCHEME)]
    if not uris:
        if not otherwise:
            raise ValueError("does not name its trust domain; name it yourself")
        return trust_domain_of(otherwise)
    found = SpiffeId.parse(uris[0]) if len(uris) == 1 else None
    if found is None or found.path:
        raise ValueError("has SPIFFE URIs, where that of an authority has one, which is a trust domain without a path")
    if otherwise and otherwise != found.trust_domain:
        raise ValueError(f"is of the trust domain {found.trust_domain}, not of {otherwise}")
    return found.trust_domain
