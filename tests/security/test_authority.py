"""Certificates of our own authority are what SPIFFE and OpenSSL expect."""

from __future__ import annotations

import datetime
import itertools
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshlib.identity.credentials import Credentials
from meshlib.security.authority import SKEW, Authority
from meshlib.security.keys import signing_key
from meshlib.security.peer_certificate import identity_of
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles, pem_of

NOW = 1_790_000_000.0
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
RSA_KEY = rsa.generate_private_key(65537, 2048)


def leaf(svid: Svid) -> x509.Certificate:
    return x509.load_der_x509_certificate(svid.leaf)


def test_an_svid_says_who_its_holder_is() -> None:
    found = identity_of(Authority.root("cluster.local", NOW).intermediate(NOW).issue(REVIEWS, NOW).leaf)
    assert found is not None
    assert found.text == REVIEWS


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ("spiffe://evil.local/ns/default/sa/reviews", "it is of evil.local"),
        ("spiffe://cluster.local", "it has no path"),
        ("spiffe://Cluster.local/ns/default/sa/reviews", "character in its trust domain"),
        ("spiffe://cluster.local/ns/default/sa/reviews?x", "has a query"),
        ("https://cluster.local/ns/default/sa/reviews", "does not begin with spiffe://"),
    ],
)
def test_an_authority_signs_for_workloads_of_its_own_trust_domain(identity: str, why: str) -> None:
    with pytest.raises(
        ValueError, match=f"not a valid SPIFFE ID of a workload in the trust domain cluster.local: .*{why}"
    ):
        Authority.root("cluster.local", NOW).issue(identity, NOW)


@pytest.mark.parametrize("name", ["", "Cluster.local", "a/b", "a:80", "u@a", "a%62", "a" * 256])
def test_a_root_is_of_a_valid_trust_domain(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid trust domain"):
        Authority.root(name, NOW)


def test_extensions_of_an_svid() -> None:
    signer = Authority.root("cluster.local", NOW).intermediate(NOW)
    made = leaf(signer.issue(REVIEWS, NOW, dns=("reviews.default.svc", "127.0.0.1")))
    of = made.extensions.get_extension_for_class
    assert (of(x509.BasicConstraints).critical, of(x509.BasicConstraints).value.ca) == (True, False)
    usage = of(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_encipherment))
    assert set(of(x509.ExtendedKeyUsage).value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = of(x509.SubjectAlternativeName)
    assert names.critical, "there is no subject"
    assert list(made.subject) == []
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [REVIEWS]
    assert names.value.get_values_for_type(x509.DNSName) == ["reviews.default.svc"]
    assert [str(each) for each in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    above = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert of(x509.AuthorityKeyIdentifier).value.key_identifier == above.value.key_identifier
    assert not of(x509.SubjectKeyIdentifier).critical


def test_only_an_rsa_key_may_encrypt_keys() -> None:
    root = Authority.root("cluster.local", NOW)
    made = root.sign(REVIEWS, RSA_KEY.public_key(), NOW)
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment


def test_extensions_of_an_authority() -> None:
    root = Authority.root("cluster.local", NOW)
    for each, length in ((root, 1), (root.intermediate(NOW), 0)):
        of = each.certificate.extensions.get_extension_for_class
        assert (of(x509.BasicConstraints).critical, of(x509.BasicConstraints).value.path_length) == (True, length)
        assert of(x509.KeyUsage).critical
        assert of(x509.KeyUsage).value.key_cert_sign
        assert not of(x509.KeyUsage).value.digital_signature, "SPIFFE: a signing certificate authenticates nobody"
        uris = of(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["spiffe://cluster.local"]


def test_no_two_certificates_share_a_serial_number_and_no_two_authorities_a_name() -> None:
    roots = [Authority.root("cluster.local", NOW) for _ in range(5)]
    made = [leaf(roots[0].issue(REVIEWS, NOW)) for _ in range(5)]
    serials = {each.serial_number for each in [*made, *(root.certificate for root in roots)]}
    assert len(serials) == 10
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert len({root.certificate.subject for root in roots}) == 5


def test_path_lengths_go_down_to_where_nobody_signs_authorities() -> None:
    root = Authority.root("cluster.local", NOW, path_length=2)
    middle = root.intermediate(NOW)
    lowest = middle.intermediate(NOW)
    assert len(lowest.issue(REVIEWS, NOW).chain_pem.split(b"-----BEGIN")) == 4, "leaf and two, no root"
    assert lowest.root_der == root.root_der
    with pytest.raises(ValueError, match="has path length 0"):
        lowest.intermediate(NOW)
    with pytest.raises(ValueError, match="has path length 2: one below it has at most 1"):
        root.intermediate(NOW, path_length=2)
    assert middle.intermediate(NOW, path_length=0).chain_pem
    unbounded = Authority.root("cluster.local", NOW, path_length=None).intermediate(NOW).intermediate(NOW)
    assert unbounded.intermediate(NOW).issue(REVIEWS, NOW)


def test_nothing_outlives_its_issuer_or_begins_before_it() -> None:
    root = Authority.root("cluster.local", NOW, ttl=1000.4)
    signer = root.intermediate(NOW + 500, ttl=1e9)
    svid = signer.issue(REVIEWS, NOW + 900, ttl=1e9)
    assert svid.not_after == signer.not_after == NOW + 1000
    assert (root.issue(REVIEWS, NOW).not_before, svid.not_before) == (NOW - SKEW, NOW + 900 - SKEW)
    assert signer.issue(REVIEWS, NOW + 450).not_before == NOW + 500 - SKEW, "with its issuer at the earliest"
    with pytest.raises(ValueError, match=r"certificate has expired on 20\d\d-"):
        signer.issue(REVIEWS, NOW + 1000)
    with pytest.raises(ValueError, match=r"is not valid before 20\d\d-"):
        signer.issue(REVIEWS, NOW)
    with pytest.raises(ValueError, match="a certificate of 0 seconds"):
        root.issue(REVIEWS, NOW, ttl=0)
    with pytest.raises(ValueError, match="a certificate of nan seconds"):
        root.issue(REVIEWS, NOW, ttl=float("nan"))


@pytest.mark.parametrize(
    "name", ["*.default.svc", "spiffe://cluster.local/ns/default/sa/x", "a..b", "A.b", "", "a" * 64]
)
def test_a_name_that_is_no_dns_name_is_not_certified(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid DNS name or IP address"):
        Authority.root("cluster.local", NOW).issue(REVIEWS, NOW, dns=(name,))


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())])
def test_a_key_that_envoy_would_not_take_is_not_certified(key: ed25519.Ed25519PrivateKey) -> None:
    with pytest.raises(ValueError, match="is not certified; use EC P-256"):
        Authority.root("cluster.local", NOW).sign(REVIEWS, key.public_key(), NOW)


# -- requests of others -------------------------------------------------------------------------------------------------


def evil_request(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """It asks for another's identity, to be an authority, and for names."""
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "admin")])
    uri = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/admin")
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri, x509.DNSName("admin.test")]), critical=True)
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_of_a_request_nothing_but_its_key_is_taken(encoding: Encoding) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = Authority.root("cluster.local", NOW)
    made = root.sign_request(REVIEWS, evil_request(key).public_bytes(encoding), NOW)
    assert made.public_key() == key.public_key()
    found = identity_of(made.public_bytes(Encoding.DER))
    assert found is not None
    assert found.text == REVIEWS
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 1
    assert list(made.subject) == []


# -- the judgement of others --------------------------------------------------------------------------------------------

CHAINS: dict[str, Callable[[bool], Authority]] = {
    "root": lambda rsa: Authority.root("cluster.local", NOW, rsa=rsa),
    "root of path length 0": lambda rsa: Authority.root("cluster.local", NOW, rsa=rsa, path_length=0),
    "intermediate": lambda rsa: Authority.root("cluster.local", NOW, rsa=rsa).intermediate(NOW, rsa=not rsa),
    "two intermediates": lambda rsa: (
        Authority.root("cluster.local", NOW, path_length=2, rsa=rsa).intermediate(NOW).intermediate(NOW)
    ),
}


@pytest.mark.parametrize(("shape", "rsa"), [*itertools.product(CHAINS, [False, True])])
def test_openssl_verifies_our_chains_in_its_strict_mode(shape: str, rsa: bool, tmp_path: Path) -> None:
    signer = CHAINS[shape](rsa)
    svid = signer.issue(REVIEWS, NOW, dns=("reviews.default.svc",), rsa=rsa)
    (tmp_path / "chain.pem").write_bytes(svid.chain_pem)
    (tmp_path / "root.pem").write_text(pem_of(signer.root_der))
    for purpose in ("sslserver", "sslclient"):
        ran = subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-check_ss_sig", "-policy_check", "-purpose", purpose),
                *("-attime", str(int(NOW)), "-verify_hostname", "reviews.default.svc"),
                *("-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("rsa", [False, True])
def test_python_shakes_hands_in_its_strict_mode(rsa: bool) -> None:
    """What Python 3.13 and newer do unless told otherwise."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    signer = Authority.root("cluster.local", now, rsa=rsa).intermediate(now)
    bundles = TrustBundles({"cluster.local": (signer.root_der,)})
    server = Credentials(signer.issue(REVIEWS, now, rsa=rsa), bundles).server_context(["http/1.1"])
    client = Credentials(signer.issue(REVIEWS + "2", now), bundles).client_context(["http/1.1"])
    for each in (server, client):
        each.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert shaken(server, client) == (REVIEWS, REVIEWS + "2")


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """Who client and server see after a handshake in memory."""
    a_in, a_out, b_in, b_out = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(a_in, a_out, server_hostname="reviews"),
        server.wrap_bio(b_in, b_out, server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for place, side in enumerate(sides):
            try:
                side.do_handshake()
                done[place] = True
            except ssl.SSLWantReadError:
                pass
            b_in.write(a_out.read())
            a_in.write(b_out.read())
        if all(done):
            break
    seen = [identity_of(side.getpeercert(True) or b"") for side in sides]
    return str(seen[0]), str(seen[1])


def test_openssl_takes_the_key_and_the_chain_without_a_file() -> None:
    root = Authority.root("cluster.local", NOW)
    svid = root.intermediate(NOW).issue(REVIEWS, NOW)
    made = Credentials(svid, TrustBundles({"cluster.local": (root.root_der,)})).server_context(["http/1.1"])
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.cert_store_stats()["x509_ca"] == 1


# -- read back ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", CHAINS)
def test_an_authority_is_read_back_from_what_it_writes(shape: str) -> None:
    made = CHAINS[shape](False)
    read = Authority.from_pem(made.certificates_pem, signing_key(made.key_pem))
    assert (read.trust_domain, read.root_der, read.chain_pem) == ("cluster.local", made.root_der, made.chain_pem)
    assert read.issue(REVIEWS, NOW).chain_pem.endswith(made.chain_pem)


def test_the_key_of_another_is_no_authority() -> None:
    root = Authority.root("cluster.local", NOW)
    with pytest.raises(ValueError, match="is the certificate of another key"):
        Authority.from_pem(root.certificates_pem, root.intermediate(NOW).key)


def test_a_key_is_in_no_repr() -> None:
    root = Authority.root("cluster.local", NOW)
    svid = root.issue(REVIEWS, NOW)
    assert "PRIVATE" not in repr(svid) + repr(root)
    assert "PRIVATE" in svid.key_pem.decode()
