"""A root vouches for its own trust domain, and for the aliases of ours; who is vouched for by nobody is nobody."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import meshlib
from meshlib.identity import peers as module
from meshlib.identity.identity import Identity
from meshlib.identity.peers import LOOK_AGAIN, Peers
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.security.trust_bundles import TrustBundles
from tests.support.credential_files import HandAlarms
from tests.support.fake_clock import FakeClock
from tests.support.identities import ByHand

NOW = FakeClock().time()
OURS = Authority.root("cluster.local", NOW)
BETWEEN = OURS.intermediate(NOW)
OTHERS = Authority.root("other.example", NOW)
FORGED = Authority.root("cluster.local", NOW)
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
A = OURS.issue("spiffe://cluster.local/ns/default/sa/a", NOW)
FAR = BETWEEN.issue("spiffe://cluster.local/ns/default/sa/far", NOW)
OTHER = OTHERS.issue("spiffe://other.example/ns/default/sa/a", NOW)
BETWEEN_DER = BETWEEN.certificate.public_bytes(Encoding.DER)


class Judging:
    """Peers of a mesh whose identity the test rotates."""

    def __init__(self, *trusted: Authority, signer: Authority = OURS, aliases: tuple[str, ...] = ()) -> None:
        self.clock = FakeClock()
        self.alarms = HandAlarms(self.clock)
        self.source = ByHand()
        self.identity = Identity(self.source)
        self.aliases = aliases
        self.peers = Peers(self.identity, lambda: self.aliases, self.clock)
        self.identity.start(self.clock, self.alarms)
        self.rotate(*(trusted or (OURS,)), signer=signer)

    def rotate(self, *trusted: Authority, signer: Authority = OURS) -> None:
        roots: dict[str, tuple[bytes, ...]] = {}
        for each in trusted:
            roots[each.trust_domain] = (*roots.get(each.trust_domain, ()), each.root_der)
        self.source.publish(signer.issue(REVIEWS, self.clock.time()), TrustBundles(roots))


def test_without_an_identity_of_ours_the_server_has_verified_it() -> None:
    assert Peers(None).identity_of(OTHER.leaf) == OTHER.identity


def test_before_there_is_a_certificate_of_ours_nobody_is_anybody() -> None:
    identity = Identity(ByHand())
    clock = FakeClock()
    identity.start(clock, HandAlarms(clock))
    assert Peers(identity, clock=clock).identity_of(A.leaf) is None


@pytest.mark.parametrize("leaf", [A.leaf, pem_of(A.leaf), pem_of(A.leaf).encode()])
def test_a_root_vouches_for_its_trust_domain(leaf: bytes | str) -> None:
    assert Judging().peers.identity_of(leaf) == A.identity


def test_a_trust_domain_without_a_root_of_ours_identifies_nobody() -> None:
    assert Judging().peers.identity_of(OTHER.leaf) is None


def test_of_two_trust_domains_each_has_its_own_root() -> None:
    """The root of the one has signed a name of the other: the handshake accepts it, since both roots are trusted there."""
    peers = Judging(OURS, OTHERS).peers
    assert peers.identity_of(OTHER.leaf) == OTHER.identity
    crossed = Authority("cluster.local", OTHERS.key, OTHERS.certificate).issue(REVIEWS, NOW)
    assert peers.identity_of(crossed.leaf) is None


def test_a_server_that_trusts_other_roots_than_ours_vouches_for_nobody() -> None:
    """gunicorn with ``--ca-certs`` of its own: its handshake has accepted what our bundle does not."""
    forged = FORGED.issue(REVIEWS, NOW)
    assert Judging().peers.identity_of(forged.leaf, [FORGED.root_der]) is None


@pytest.mark.parametrize(
    "chain",
    [
        [BETWEEN_DER],
        [FAR.leaf, BETWEEN_DER, OURS.root_der],
        [FORGED.root_der, pem_of(BETWEEN_DER)],
        [FAR.chain_pem],
        [b"garbage", "garbage", "\ud800", BETWEEN_DER],
    ],
)
def test_the_path_is_found_in_what_was_shown(chain: list[bytes | str]) -> None:
    assert Judging().peers.identity_of(FAR.leaf, chain) == FAR.identity
    assert Judging().peers.identity_of(FAR.leaf) is None


def test_the_leaf_may_come_with_its_chain_in_one_text() -> None:
    assert Judging().peers.identity_of(FAR.chain_pem) == FAR.identity


def test_an_intermediate_of_our_own_need_not_be_shown() -> None:
    assert Judging(signer=BETWEEN).peers.identity_of(FAR.leaf) == FAR.identity


def test_an_intermediate_that_was_shown_before_need_not_be_shown_when_a_session_is_resumed() -> None:
    peers = Judging().peers
    assert peers.identity_of(FAR.leaf, [BETWEEN_DER]) == FAR.identity
    again = BETWEEN.issue("spiffe://cluster.local/ns/default/sa/again", NOW)
    assert peers.identity_of(again.leaf) == again.identity


def test_intermediates_are_not_kept_that_nobody_of_ours_vouches_for() -> None:
    judging = Judging()
    forged = FORGED.intermediate(NOW)
    assert (
        judging.peers.identity_of(forged.issue(REVIEWS, NOW).leaf, [forged.certificate.public_bytes(Encoding.DER)])
        is None
    )
    assert not judging.peers._signers


def test_an_alias_of_our_trust_domain_has_our_roots() -> None:
    old = Authority("old.example", OURS.key, OURS.certificate).issue("spiffe://old.example/ns/default/sa/a", NOW)
    judging = Judging()
    assert judging.peers.identity_of(old.leaf) is None
    judging.aliases = ("old.example",)
    judging.peers.reloaded()
    assert judging.peers.identity_of(old.leaf) == old.identity
    judging.aliases = ()
    judging.peers.reloaded()
    assert judging.peers.identity_of(old.leaf) is None


def test_an_alias_that_has_a_bundle_has_no_other_roots() -> None:
    judging = Judging(OURS, OTHERS, aliases=("other.example",))
    crossed = Authority("other.example", OURS.key, OURS.certificate).issue(OTHER.identity.text, NOW)
    assert judging.peers.identity_of(crossed.leaf) is None
    assert judging.peers.identity_of(OTHER.leaf) == OTHER.identity


def test_aliases_are_those_of_mesh_config() -> None:
    clock, source = FakeClock(), ByHand()
    config = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "MeshConfig",
        "metadata": {"name": "mesh", "namespace": "istio-system"},
        "spec": {"trustDomain": "cluster.local", "trustDomainAliases": ["old.example"]},
    }
    old = Authority("old.example", OURS.key, OURS.certificate).issue("spiffe://old.example/ns/default/sa/a", NOW)
    with meshlib.Mesh.from_resources([], identity=Identity(source), clock=clock) as mesh:
        source.publish(OURS.issue(REVIEWS, NOW), TrustBundles({"cluster.local": (OURS.root_der,)}))
        assert mesh._core.peers.identity_of(old.leaf) is None
        mesh.apply([config])
        assert mesh._core.peers.identity_of(old.leaf) == old.identity


def test_after_a_rotation_it_is_judged_again() -> None:
    judging = Judging()
    assert judging.peers.identity_of(A.leaf) == A.identity
    judging.rotate(FORGED, signer=FORGED)
    assert judging.peers.identity_of(A.leaf) is None
    judging.rotate(OURS)
    assert judging.peers.identity_of(A.leaf) == A.identity


def test_it_is_nobody_outside_of_the_dates_of_its_certificate_by_the_wall_clock() -> None:
    judging = Judging()
    short = OURS.issue(REVIEWS, NOW, ttl=600)
    assert judging.peers.identity_of(short.leaf) == short.identity
    judging.clock.advance(601)
    assert judging.peers.identity_of(short.leaf) is None
    judging.clock.advance(-3600 - 60)
    assert judging.peers.identity_of(short.leaf) is None
    judging.clock.advance(3600)
    assert judging.peers.identity_of(short.leaf) == short.identity


def test_what_a_door_keeps_is_emptied_when_it_may_have_changed() -> None:
    judging = Judging()
    memo: dict[str, int] = judging.peers.memo()

    def kept() -> bool:
        found = bool(memo)
        memo["a"] = 1
        return found

    assert not kept()
    assert kept()
    judging.rotate(OURS)
    assert not kept()
    judging.aliases = ("old.example",)
    judging.peers.reloaded()
    assert not kept()
    short = OURS.issue(REVIEWS, NOW, ttl=600)
    judging.peers.identity_of(short.leaf)
    judging.alarms.advance(590)
    assert kept()
    judging.alarms.advance(60)
    assert not kept()


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    monkeypatch.setattr(module, "MOST_REFUSED", 3)
    monkeypatch.setattr(module, "MOST_SIGNERS", 3)
    peers = Judging().peers
    for n in range(8):
        middle = OURS.intermediate(NOW)
        peers.identity_of(middle.issue(f"{REVIEWS}{n}", NOW).chain_pem)
        peers.identity_of(b"\x30" + str(n).encode())
    assert 0 < len(peers._known) <= 3
    assert 0 < len(peers._refused) <= 3
    assert len(peers._signers) == 3


def test_who_is_refused_is_not_looked_for_at_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    judging, looks = Judging(), []
    find = module.find_path
    monkeypatch.setattr(module, "find_path", lambda *told: looks.append(1) or find(*told))
    for _ in range(5):
        judging.peers.identity_of(FORGED.issue(REVIEWS, NOW).leaf if not looks else FAR.leaf)
    assert len(looks) == 2
    judging.clock.advance(LOOK_AGAIN + 1)
    judging.peers.identity_of(FAR.leaf)
    assert len(looks) == 3


def test_what_is_too_long_is_not_looked_at() -> None:
    assert Judging().peers.identity_of(FAR.leaf, [BETWEEN_DER, b"\x30" * module.LONGEST_CHAIN]) is None
