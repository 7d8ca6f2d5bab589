"""An SVID keeps to every rule of SPIFFE, and does not give its key away."""

from __future__ import annotations

import copy
import datetime
import pickle

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.authority import Authority
from meshlib.security.pem import Unusable, blocks, pem_of
from meshlib.security.svid import read_svid
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
SVID = Authority.root("cluster.local", NOW).issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)


def test_its_repr_says_who_and_nothing_of_the_key() -> None:
    assert repr(SVID) == "<Svid spiffe://cluster.local/ns/default/sa/reviews>"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_copied(way: object) -> None:
    with pytest.raises(TypeError, match="not pickled or copied"):
        way(SVID)  # type: ignore[operator]


ID = "spiffe://cluster.local/ns/default/sa/reviews"
ROOT = Authority.root("cluster.local", NOW)
BETWEEN = ROOT.intermediate(NOW)
BUNDLES = TrustBundles({"cluster.local": (ROOT.root_der,)})
GOOD = BETWEEN.issue(ID, NOW)


def certificates(pem: bytes) -> list[bytes]:
    return [block.content for block in blocks(pem, "")]


def written(*certificates: bytes) -> bytes:
    return "".join(map(pem_of, certificates)).encode()


def test_what_an_authority_has_issued_is_read() -> None:
    found = read_svid(GOOD.chain_pem, GOOD.key_pem, now=NOW, bundles=BUNDLES)
    assert (found.identity, found.leaf, found.chain_pem) == (GOOD.identity, GOOD.leaf, GOOD.chain_pem)
    assert (found.not_before, found.not_after) == (NOW - 60, NOW + 86400)


def test_the_chain_is_put_in_order_without_roots() -> None:
    leaf, first = certificates(GOOD.chain_pem)
    second = Authority.root("cluster.local", NOW).intermediate(NOW)
    spare = second.certificate.public_bytes(Encoding.DER)
    found = read_svid(written(leaf, ROOT.root_der, spare, first), GOOD.key_pem, now=NOW, bundles=BUNDLES)
    assert certificates(found.chain_pem) == [leaf, spare, first] or certificates(found.chain_pem) == [
        leaf,
        first,
        spare,
    ]
    assert ROOT.root_der not in certificates(found.chain_pem)


def test_certificate_and_key_may_be_in_one_text() -> None:
    both = GOOD.key_pem + GOOD.chain_pem
    assert read_svid(both, both, now=NOW).identity.text == ID


def signed(*extensions: tuple[x509.ExtensionType, bool], uris: tuple[str, ...] = (ID,)) -> tuple[bytes, bytes]:
    """A leaf of the root with these extensions, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(NOW + 60, datetime.UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), critical=True
        )
    )
    for value, critical in extensions:
        built = built.add_extension(value, critical)
    der = built.sign(ROOT.key, hashes.SHA256()).public_bytes(Encoding.DER)
    return written(der), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def usage(*, signature: bool = True, signs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signature, False, False, False, False, signs, False, False, False)


CLIENT = x509.ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = x509.ExtendedKeyUsageOID.SERVER_AUTH
OTHERS = Authority.root("other.example", NOW).issue("spiffe://other.example/ns/default/sa/a", NOW)
STRANGER = Authority.root("cluster.local", NOW).issue(ID, NOW)
REFUSED = {
    "empty": (b"", GOOD.key_pem, "is empty"),
    "no certificate": (GOOD.key_pem, GOOD.key_pem, "has no certificate, but: PRIVATE KEY"),
    "not one": (written(b"garbage"), GOOD.key_pem, "is not a valid X.509 certificate"),
    "half of it": (GOOD.chain_pem[:300], GOOD.key_pem, "is cut off"),
    "an intermediate that is none": (written(GOOD.leaf, b"x"), GOOD.key_pem, "an intermediate that is not a valid"),
    "another's key": (GOOD.chain_pem, STRANGER.key_pem, "is not the key of the certificate"),
    "intermediate first": (written(*reversed(certificates(GOOD.chain_pem))), GOOD.key_pem, "put the leaf first"),
    "without its intermediate": (written(GOOD.leaf), GOOD.key_pem, "append the intermediates"),
    "of an unknown root": (STRANGER.chain_pem, STRANGER.key_pem, "not a root of its trust domain"),
    "of another trust domain": (OTHERS.chain_pem, OTHERS.key_pem, "there are for: cluster.local"),
    "an authority's": (
        *signed((x509.BasicConstraints(ca=True, path_length=None), True), (usage(signs=True), True)),
        "cA=true",
    ),
    "keyCertSign": (*signed((usage(signs=True), True)), "keyCertSign"),
    "no digitalSignature": (*signed((usage(signature=False), True)), "digitalSignature"),
    "no keyUsage": (*signed(), "has no keyUsage"),
    "keyUsage not critical": (*signed((usage(), False)), "not critical"),
    "not for clients": (*signed((usage(), True), (x509.ExtendedKeyUsage([SERVER]), False)), "clientAuth"),
    "not for servers": (*signed((usage(), True), (x509.ExtendedKeyUsage([CLIENT]), False)), "serverAuth"),
    "two URIs": (*signed((usage(), True), uris=(ID, ID + "2")), "2 URIs"),
    "the trust domain's ID": (*signed((usage(), True), uris=("spiffe://cluster.local",)), "no path"),
    "upper case": (*signed((usage(), True), uris=("spiffe://Cluster.local/a",)), "trust domain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_refused_with_a_remedy(name: str) -> None:
    certificate, key, why = REFUSED[name]
    with pytest.raises(Unusable) as raised:
        read_svid(certificate, key, now=NOW, bundles=BUNDLES)
    assert why in str(raised.value)
    assert raised.value.remedy


def test_the_dates_are_said_beside_the_time_that_it_is() -> None:
    with pytest.raises(Unusable, match=r"has expired on 2026-09-22 14:13:20 UTC \(now: 2026-09-22 15:13:20 UTC\)"):
        read_svid(GOOD.chain_pem, GOOD.key_pem, now=NOW + 90000)
    with pytest.raises(Unusable, match="is not valid before .*clock"):
        read_svid(GOOD.chain_pem, GOOD.key_pem, now=NOW - 3600)
    assert read_svid(GOOD.chain_pem, GOOD.key_pem).identity.text == ID


@given(st.integers(0, len(GOOD.chain_pem) - 2))
def test_half_a_chain_is_none_or_lacks_its_intermediate(length: int) -> None:
    with pytest.raises(Unusable):
        read_svid(GOOD.chain_pem[:length], GOOD.key_pem, now=NOW, bundles=BUNDLES)
