"""What is told of the certificates of a connection."""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshlib.policy.forwarded_client_cert import CertDetails
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.security.shown_certificate import element_of, shown_certificate

NOW = 1_800_000_000.0
OURS = "spiffe://cluster.local/ns/default/sa/reviews"
THEIRS = "spiffe://cluster.local/ns/default/sa/productpage"


def leaf_with(subject: x509.Name, *names: x509.GeneralName) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    day = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(day).not_valid_after(day + datetime.timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_of_svids_the_ids_and_the_hash():
    root = Authority.root("cluster.local", NOW)
    ours, theirs = root.issue(OURS, NOW).leaf, root.issue(THEIRS, NOW).leaf
    found = shown_certificate(ours, theirs)
    assert (found.by, found.uris, found.dns, found.subject) == ((OURS,), (THEIRS,), (), "")
    assert found.sha256 == hashlib.sha256(theirs).hexdigest()
    assert found.pem == found.chain_pem == pem_of(theirs)


def test_the_subject_is_as_rfc_2253_has_it_and_the_chain_begins_with_the_leaf():
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, 'a "b", c'),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "x"),
        ]
    )
    leaf, signer = leaf_with(subject, x509.DNSName("a.example")), leaf_with(x509.Name([]))
    found = shown_certificate(leaf, leaf, (signer,))
    assert found.subject == 'CN=x,O=a \\"b\\"\\, c'
    assert (found.uris, found.dns) == ((), ("a.example",))
    assert found.chain_pem == pem_of(leaf) + pem_of(signer)


def test_what_cannot_be_read_has_a_hash_and_nothing_else():
    found = shown_certificate(b"junk", b"no certificate")
    assert (found.by, found.uris, found.subject) == ((), (), "")
    assert found.sha256 == hashlib.sha256(b"no certificate").hexdigest()


def test_the_element_is_of_exactly_these_certificates_and_details():
    root = Authority.root("cluster.local", NOW)
    ours, first, second = (root.issue(name, NOW).leaf for name in (OURS, THEIRS, THEIRS))
    asked = [(each, details) for each in (first, second) for details in (CertDetails(), CertDetails(cert=True))]
    for leaf, details in [*asked, *asked]:
        found = element_of(ours, leaf, (), details)
        assert hashlib.sha256(leaf).hexdigest().encode() in found
        assert (b"Cert=" in found) is details.cert
