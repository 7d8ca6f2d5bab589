"""One version of what is shown and trusted."""

from __future__ import annotations

import ssl

from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)


def credentials() -> Credentials:
    svid = ROOT.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)
    return Credentials(svid, TrustBundles({"cluster.local": (ROOT.root_der,)}))


def test_a_context_is_made_once_a_version_and_offer() -> None:
    made = credentials()
    assert made.client_context(["istio"]) is made.client_context(["istio"])
    assert made.client_context(["istio"]) is not made.client_context(["istio-h2"])


def test_a_peer_must_show_a_certificate_unless_it_need_not() -> None:
    made = credentials()
    assert made.server_context(["http/1.1"]).verify_mode is ssl.CERT_REQUIRED
    assert made.server_context(["http/1.1"], require_peer=False).verify_mode is ssl.CERT_OPTIONAL
