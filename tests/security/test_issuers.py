"""What others have written as an authority's certificates: which are one, and of which trust domain."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshlib.security.authority import Authority
from meshlib.security.issuers import issuers_of, path_length_of, signed_by, spoken_for, why_no_issuer

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
BELOW = ROOT.intermediate(NOW)
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNS = dict.fromkeys(
    ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"],
    False,
)


def built(
    *, ca: bool = True, signs: bool = True, critical: bool = True, key_id: bool = True, uris: tuple[str, ...] = ()
) -> x509.Certificate:
    """A root that another tool has made, with what may be wrong with it."""
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "theirs")])
    usage = x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=False, **SIGNS)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(datetime.datetime.fromtimestamp(NOW, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(NOW + 1000, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=critical)
        .add_extension(usage, critical=True)
    )
    if key_id:
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        made = made.add_extension(names, critical=False)
    return made.sign(KEY, hashes.SHA256())


def test_a_chain_ends_with_its_root() -> None:
    assert issuers_of(BELOW.certificates_pem) == (BELOW.certificate, ROOT.certificate)
    with pytest.raises(ValueError, match="is not a root: it is signed by another"):
        issuers_of(BELOW.chain_pem)
    with pytest.raises(ValueError, match=r"number 1, .* is not signed by the one behind it"):
        issuers_of(ROOT.certificates_pem + BELOW.certificates_pem)


def test_garbage_is_no_chain() -> None:
    for text in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x00"):
        with pytest.raises(ValueError, match="has no valid certificate in PEM"):
            issuers_of(text)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (built(ca=False), "is not the certificate of an authority"),
        (built(signs=False), "must not sign certificates"),
        (built(critical=False), "basicConstraints that are not critical"),
        (built(key_id=False), "has no subjectKeyIdentifier"),
    ],
)
def test_what_strict_verifiers_refuse_of_an_authority(made: x509.Certificate, why: str) -> None:
    assert why in why_no_issuer(made)
    assert why_no_issuer(built()) == ""


def test_a_path_length_counts_the_authorities_below() -> None:
    assert why_no_issuer(ROOT.certificate, 1) == ""
    assert why_no_issuer(ROOT.certificate, 2) == "has path length 1, with 2 more between it and an SVID"
    assert (path_length_of(ROOT.certificate), path_length_of(built())) == (1, None)


def test_who_has_signed_is_told_by_name_and_signature() -> None:
    other = Authority.root("cluster.local", NOW)
    assert signed_by(BELOW.certificate, ROOT.certificate)
    assert not signed_by(BELOW.certificate, other.certificate)
    assert not signed_by(BELOW.certificate, BELOW.certificate)


def test_the_trust_domain_is_said_by_the_certificate_or_by_who_reads_it() -> None:
    assert spoken_for(ROOT.certificate) == "cluster.local"
    assert spoken_for(built(), "mine.test") == "mine.test"
    with pytest.raises(ValueError, match="does not name its trust domain; name it yourself"):
        spoken_for(built())
    with pytest.raises(ValueError, match=r"is of the trust domain cluster\.local, not of mine\.test"):
        spoken_for(ROOT.certificate, "mine.test")


@pytest.mark.parametrize("uris", [("spiffe://a.test/ns/x",), ("spiffe://a.test", "spiffe://b.test"), ("spiffe://A",)])
def test_an_authority_has_one_spiffe_uri_without_a_path(uris: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="where that of an authority has one"):
        spoken_for(built(uris=uris))
