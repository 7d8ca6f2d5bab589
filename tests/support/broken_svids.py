"""Certificates that break X.509-SVID, one rule each, all genuinely signed: what a peer may show, or a file may hold."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshlib.security.authority import Authority
from meshlib.security.keys import key_pem

GOOD = "spiffe://cluster.local/ns/default/sa/reviews"
USAGE: dict[str, bool] = {
    "digital_signature": True,
    **dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    ),
}
KEY = ec.generate_private_key(ec.SECP256R1())
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def signed(
    signer: Authority,
    now: float,
    *,
    uris: Sequence[str] = (GOOD,),
    dns: Sequence[str] = (),
    ca: bool = False,
    usage: dict[str, bool] | None = None,
    usage_critical: bool = True,
    purposes: Sequence[x509.ObjectIdentifier] | None = BOTH,
    begin: float = -60,
    end: float = 3600,
    subject: str = "",
    names_critical: bool = True,
) -> x509.Certificate:
    """A leaf with what is asked for, right or wrong. ``usage`` None: as it should be; {}: without the extension."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(each) for each in uris]
    names += [x509.DNSName(each) for each in dns]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []))
        .issuer_name(signer.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(now + begin, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(now + end, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
    )
    if usage is None or usage:
        made = made.add_extension(x509.KeyUsage(**{**USAGE, **(usage or {})}), critical=usage_critical)
    if purposes is not None:
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=names_critical)
    return made.sign(signer.key, hashes.SHA256())


BROKEN: dict[str, dict[str, Any]] = {
    "an authority": {"ca": True, "usage": {"key_cert_sign": True}},
    "cA=true alone": {"ca": True},
    "keyCertSign": {"usage": {"key_cert_sign": True}},
    "cRLSign": {"usage": {"crl_sign": True}},
    "no digitalSignature": {"usage": {"digital_signature": False, "key_encipherment": True}},
    "two URIs": {"uris": (GOOD, "spiffe://cluster.local/ns/default/sa/other")},
    "two URIs, one of another scheme": {"uris": (GOOD, "https://cluster.local/")},
    "no URI": {"uris": (), "dns": ("reviews.default.svc",)},
    "no names": {"uris": (), "subject": "reviews"},
    "the trust domain itself": {"uris": ("spiffe://cluster.local",)},
    "upper case": {"uris": ("spiffe://Cluster.local/ns/default/sa/reviews",)},
    "upper-case scheme": {"uris": ("SPIFFE://cluster.local/ns/default/sa/reviews",)},
    "a query": {"uris": (GOOD + "?x=1",)},
    "a fragment": {"uris": (GOOD + "#x",)},
    "a port": {"uris": ("spiffe://cluster.local:8080/ns/default/sa/reviews",)},
    "userinfo": {"uris": ("spiffe://u@cluster.local/ns/default/sa/reviews",)},
    "a trailing slash": {"uris": (GOOD + "/",)},
    "an empty segment": {"uris": ("spiffe://cluster.local/ns//sa/reviews",)},
    "a dot segment": {"uris": ("spiffe://cluster.local/ns/../sa/reviews",)},
    "percent-encoded": {"uris": ("spiffe://cluster.local/ns/default/sa/%72eviews",)},
    "another scheme": {"uris": ("https://cluster.local/ns/default/sa/reviews",)},
    "too long": {"uris": ("spiffe://cluster.local/" + "a" * 2100,)},
    "a DNS name spelled as a URI": {"uris": (), "dns": (GOOD,)},
    "not for clients": {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)},
}
"""By what is wrong: nobody may be taken for anybody by one of these."""

OURS: dict[str, dict[str, Any]] = {
    "no keyUsage": {"usage": {}},
    "a keyUsage that is not critical": {"usage_critical": False},
    "not for servers": {"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
    "names that are not critical": {"names_critical": False},
}
"""What SPIFFE or RFC 5280 forbids to make, beyond what a peer must refuse."""

KEY_PEM = key_pem(KEY)
