"""What our certificates say: those of authorities and X.509-SVIDs, ready to be signed. After RFC 5280 and the SPIFFE
specification, and as strict as ``openssl verify -x509_strict``, Envoy and Go demand together."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SCHEME, SpiffeId, why_not

if TYPE_CHECKING:
    from cryptography import x509

    from meshlib.security.keys import PublicKey

LONGEST_NAME = 64
"""Characters of a part of a distinguished name (RFC 5280, upper bounds)."""
LONGEST_DNS = 253

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def authority_form(
    trust_domain: str,
    public: PublicKey,
    issuer: x509.Certificate | None,
    span: tuple[float, float],
    path_length: int | None,
) -> x509.CertificateBuilder:
    """The certificate of one that signs: ``issuer`` None, by itself. Its subject has a piece of its key, so that no two
    authorities share a name and none signs in another's."""
    from cryptography import x509

    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    kind = "root" if issuer is None else "intermediate"
    subject = x509.Name(
        [
            x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, trust_domain[:LONGEST_NAME]),
            x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, f"{kind} {key_id.digest.hex()[:16]}"),
        ]
    )
    return (
        _form(subject, subject if issuer is None else issuer.subject, public, span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(_issuer_key(issuer, public), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SCHEME + trust_domain)]), critical=False
        )
    )


def svid_form(
    identity: SpiffeId, public: PublicKey, issuer: x509.Certificate, span: tuple[float, float], dns: Sequence[str]
) -> x509.CertificateBuilder:
    """A workload's certificate, for clients and servers. It has no subject, so its names are critical. Raises ValueError for
    a name in ``dns`` that is neither a DNS name without a wildcard nor an IP address."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.text)]
    names += [_name(each) for each in dict.fromkeys(dns)]
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _form(x509.Name([]), issuer.subject, public, span)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False, rsa=isinstance(public, RSAPublicKey)), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issuer_key(issuer, public), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )


def trust_domain_of(name: str) -> str:
    """``name``, where it is a valid trust domain. Raises ValueError."""
    wrong = why_not(SCHEME + name) or ("has a path" if "/" in name else "")
    if wrong:
        raise ValueError(f"{name!r} is not a valid trust domain: {SCHEME}{name} {wrong}")
    return name


def workload_of(identity: str, trust_domain: str) -> SpiffeId:
    """The SPIFFE ID of a workload in this trust domain that ``identity`` is. Raises ValueError."""
    found = SpiffeId.parse(identity)
    if found is None:
        wrong = f"it {why_not(identity)}"
    elif not found.path:
        wrong = "it has no path: it is that of the trust domain itself"
    elif found.trust_domain != trust_domain:
        wrong = f"it is of {found.trust_domain}"
    else:
        return found
    raise ValueError(f"{identity!r} is not a valid SPIFFE ID of a workload in the trust domain {trust_domain}: {wrong}")


def _form(
    subject: x509.Name, issuer: x509.Name, public: PublicKey, span: tuple[float, float]
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())  # 159 random bits, positive: at most 20 bytes (RFC 5280, 4.1.2.2)
        .not_valid_before(_utc(span[0]))
        .not_valid_after(_utc(span[1]))
    )


def _issuer_key(issuer: x509.Certificate | None, public: PublicKey) -> x509.AuthorityKeyIdentifier:
    """By the issuer's own subjectKeyIdentifier, whatever way it was computed: that is what is compared."""
    from cryptography import x509

    if issuer is None:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)


def _usage(*, signs: bool, rsa: bool = False) -> x509.KeyUsage:
    """``rsa``: such a key may also be used to encrypt a session's key in TLS 1.2, as Istio's and SPIRE's may; an EC key must
    not say so (RFC 8813)."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=rsa,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if len(text) > LONGEST_DNS or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(
            f"{text!r} is not a valid DNS name or IP address for a certificate: labels of a-z, 0-9, '-' and '_' with dots "
            "between them, without a wildcard"
        )
    return x509.DNSName(text)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
