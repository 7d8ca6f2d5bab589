"""A root vouches for its own trust domain, and for the aliases of ours."""

from __future__ import annotations

from meshlib.alarms import Alarms
from meshlib.clock import Clock, SystemClock
from meshlib.identity.identity import Identity
from meshlib.identity.peers import Peers
from meshlib.identity.source import Publish, Report
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
OURS = Authority.root("cluster.local", NOW)
OTHERS = Authority.root("other.example", NOW)
PEER = OTHERS.issue("spiffe://other.example/ns/default/sa/a", NOW)


class Fixed:
    """Publishes one version."""

    what = "the test"

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        svid = OURS.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)
        publish(svid, TrustBundles({"cluster.local": (OURS.root_der,)}))

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def ours() -> Identity:
    identity = Identity(Fixed())
    identity.start(SystemClock(), Alarms())
    return identity


def test_without_an_identity_of_ours_the_server_has_verified_it() -> None:
    assert Peers(None).identity_of(PEER.leaf) == PEER.identity


def test_a_trust_domain_without_a_root_of_ours_identifies_nobody() -> None:
    assert Peers(ours()).identity_of(PEER.leaf) is None
