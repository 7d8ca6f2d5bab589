"""Roots by trust domain."""

from __future__ import annotations

import base64
import json
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.security.authority import Authority
from meshlib.security.pem import Unusable, pem_of
from meshlib.security.trust_bundles import TrustBundles, read_roots

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW).root_der


def test_a_trust_domain_without_roots_is_not_trusted() -> None:
    bundles = TrustBundles({"cluster.local": (ROOT,), "other.example": ()})
    assert bundles.trust_domains == {"cluster.local"}
    assert bundles.roots_of("other.example") == ()


def test_openssl_reads_the_text() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=TrustBundles({"cluster.local": (ROOT,)}).pem)
    assert context.get_ca_certs(binary_form=True) == [ROOT]


OTHER = Authority.root("cluster.local", NOW).root_der
CA = Authority.root("cluster.local", NOW)
LEAF = CA.issue("spiffe://cluster.local/ns/default/sa/a", NOW)
OLD = Authority.root("cluster.local", NOW - 7200, ttl=3600).root_der


def pem(*certificates: bytes) -> bytes:
    return "".join(map(pem_of, certificates)).encode()


def spiffe_bundle(*keys: dict[str, object]) -> bytes:
    return json.dumps({"spiffe_sequence": 1, "spiffe_refresh_hint": 300, "keys": keys}).encode()


def jwk(certificate: bytes, use: str = "x509-svid") -> dict[str, object]:
    return {"use": use, "kty": "EC", "crv": "P-256", "x5c": [base64.b64encode(certificate).decode()]}


def test_roots_in_pem_are_read_each_once() -> None:
    assert read_roots(pem(ROOT, OTHER, ROOT), NOW) == (ROOT, OTHER)


def test_of_a_spiffe_bundle_the_keys_for_certificates_are_read() -> None:
    text = spiffe_bundle({"use": "jwt-svid", "kty": "EC"}, {"kty": "EC"}, jwk(ROOT), jwk(OTHER))
    assert read_roots(text, NOW) == read_roots(b"\xef\xbb\xbf" + text, NOW) == (ROOT, OTHER)


def test_an_intermediate_may_be_trusted() -> None:
    between = CA.intermediate(NOW).certificate.public_bytes(Encoding.DER)
    assert read_roots(pem(between), NOW) == (between,)


def test_one_root_that_has_expired_does_no_harm_beside_another() -> None:
    assert read_roots(pem(OLD, ROOT), NOW) == (OLD, ROOT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "is empty"),
        (b"garbage", "is not PEM"),
        (pem(ROOT)[:-40], "is cut off"),
        (pem(b"garbage"), "has a certificate that is not valid"),
        (pem(ROOT, LEAF.leaf), "is not the certificate of an authority"),
        (pem(ROOT) + LEAF.key_pem, "has a block PRIVATE KEY"),
        (pem(OLD), "has no root that has not expired"),
        (pem(Authority.root("cluster.local", NOW + 7200).root_der), "clock of this machine"),
        (b"{", "is not valid JSON"),
        (b'{"keys": 1}', "without a list"),
        (spiffe_bundle(), "has no key for x509-svid"),
        (spiffe_bundle(jwk(ROOT, "jwt-svid")), "has no key for x509-svid"),
        (spiffe_bundle({"use": "x509-svid"}), "x5c is not one certificate"),
        (spiffe_bundle({"use": "x509-svid", "x5c": ["*"]}), "x5c that is not valid base64"),
        (spiffe_bundle(jwk(b"x")), "has a certificate that is not valid"),
    ],
)
def test_what_is_no_bundle_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(Unusable) as raised:
        read_roots(text, NOW)
    assert why in str(raised.value)
    assert str(raised.value).startswith("the bundle ")


def test_a_trust_domain_is_trusted_until_its_last_root_expires() -> None:
    sooner, later = (Authority.root("cluster.local", NOW - before) for before in (5000.0, 0.0))
    bundles = TrustBundles({"cluster.local": (later.root_der, sooner.root_der), "other": (sooner.root_der,)})
    assert bundles.until("cluster.local") == bundles.until("other") + 5000.0
    assert bundles.until("nobody") == 0.0
