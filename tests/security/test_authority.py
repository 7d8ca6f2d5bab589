"""Certificates of our own authority are what SPIFFE and OpenSSL expect."""

from __future__ import annotations

import ssl

import pytest

from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.peer_certificate import identity_of
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


def test_an_svid_says_who_its_holder_is() -> None:
    found = identity_of(Authority.root("cluster.local", NOW).intermediate(NOW).issue(REVIEWS, NOW).leaf)
    assert found is not None
    assert found.text == REVIEWS


def test_an_authority_does_not_speak_for_another_trust_domain() -> None:
    with pytest.raises(ValueError, match="not a valid SPIFFE ID of a workload in the trust domain cluster.local"):
        Authority.root("cluster.local", NOW).issue("spiffe://evil.local/ns/default/sa/reviews", NOW)


@pytest.mark.parametrize("rsa", [False, True])
def test_openssl_takes_the_key_and_the_chain_without_a_file(rsa: bool) -> None:
    root = Authority.root("cluster.local", NOW, rsa=rsa)
    svid = root.intermediate(NOW, rsa=rsa).issue(REVIEWS, NOW, rsa=rsa)
    made = Credentials(svid, TrustBundles({"cluster.local": (root.root_der,)})).server_context(["http/1.1"])
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.cert_store_stats()["x509_ca"] == 1


def test_a_key_is_in_no_repr() -> None:
    svid = Authority.root("cluster.local", NOW).issue(REVIEWS, NOW)
    assert "PRIVATE" not in repr(svid)
    assert "PRIVATE" in svid.key_pem.decode()
