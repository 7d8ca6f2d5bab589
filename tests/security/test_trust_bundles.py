"""Roots by trust domain."""

from __future__ import annotations

import ssl

from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

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
