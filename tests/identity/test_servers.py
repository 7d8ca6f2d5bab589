"""Who may be at the other end of a connection that we make, and how long it may be used. (Handshakes:
tests/transport/upstream/test_mutual.py.)"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from meshlib.identity.credentials import Credentials
from meshlib.identity.identity import Identity
from meshlib.identity.servers import GRACE, NoCertificate, ServerRefused, Servers, Standing, Vouched
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.mesh_tls import (
    BUNDLES,
    CLIENT,
    DOMAIN,
    NOW,
    OTHER_ROOT,
    RATINGS,
    REVIEWS,
    ROOT,
    ByHand,
    WallClock,
    bundles,
    identity,
    svid,
)

SERVER = svid(REVIEWS, ttl=1800.0)


class Client:
    def __init__(self, trusts: TrustBundles = BUNDLES, aliases: Sequence[str] = ()) -> None:
        self.clock = WallClock()
        self.identity: Identity
        self.source: ByHand
        self.identity, self.source = identity(svid(CLIENT), trusts)
        self.servers = Servers(self.identity, lambda: aliases, self.clock)

    @property
    def current(self) -> Credentials:
        return self.servers.credentials("a test")

    def judge(self, leaf: bytes, root: Authority = ROOT, *allowed: str) -> Vouched:
        return self.servers.judge(leaf, (leaf, root.root_der), allowed, self.current)


def test_it_is_known_by_its_spiffe_id_until_the_first_certificate_ends() -> None:
    client = Client()
    found = client.judge(SERVER.leaf, ROOT, RATINGS, REVIEWS)
    assert (found.identity.text, found.leaf, found.root, found.until) == (
        REVIEWS,
        SERVER.leaf,
        ROOT.root_der,
        SERVER.not_after,
    )
    brief = svid(CLIENT, ttl=600.0)
    client.source.publish(brief, BUNDLES)
    assert client.judge(SERVER.leaf).until == brief.not_after


def test_without_names_that_are_allowed_any_identity_of_our_trust_domain_is() -> None:
    assert Client().judge(SERVER.leaf).identity.text == REVIEWS


def test_one_of_another_trust_domain_has_to_be_named() -> None:
    partner = Authority.root("partner.test", NOW)
    theirs = partner.issue("spiffe://partner.test/ns/a/sa/b", NOW)
    client = Client(bundles(ROOT, partner))
    with pytest.raises(ServerRefused, match=r"only identities of our trust domain cluster\.local may"):
        client.judge(theirs.leaf, partner)
    assert client.judge(theirs.leaf, partner, theirs.identity.text).identity == theirs.identity
    assert Client(bundles(ROOT, partner), ["partner.test"]).judge(theirs.leaf, partner).identity == theirs.identity


@pytest.mark.parametrize(
    ("leaf", "chain", "why"),
    [
        (None, (), "was not verified in the handshake"),
        (SERVER.leaf, (), "was not verified in the handshake"),
        (SERVER.leaf, (svid(RATINGS).leaf, ROOT.root_der), "was not verified in the handshake"),
        (ROOT.root_der, (ROOT.root_der,), "is the certificate of an authority"),
        (SERVER.leaf, (SERVER.leaf, OTHER_ROOT.root_der), "does not vouch for the trust domain cluster.local"),
    ],
)
def test_what_the_handshake_has_not_shown_is_refused(leaf: bytes | None, chain: tuple[bytes, ...], why: str) -> None:
    client = Client()
    with pytest.raises(ServerRefused, match=why):
        client.servers.judge(leaf, chain, (), client.current)


def test_dates_go_by_the_mesh_s_clock() -> None:
    client = Client()
    client.clock.jump(1801.0)
    with pytest.raises(ServerRefused, match="expired 1 s ago"):
        client.judge(SERVER.leaf)
    client.clock.jump(-1801.0 - 3600.0)
    with pytest.raises(ServerRefused, match="is not valid before"):
        client.judge(SERVER.leaf)


def test_the_root_of_another_trust_domain_vouches_for_none_of_ours() -> None:
    other = Authority.root("other.example", NOW)
    impostor = Authority(DOMAIN, other.key, other.certificate).issue(REVIEWS, NOW)
    client = Client(bundles(ROOT, other))
    with pytest.raises(ServerRefused, match=re.escape("(roots are there for: cluster.local, other.example)")):
        client.judge(impostor.leaf, other)
    friend = other.issue("spiffe://other.example/ns/a/sa/b", NOW)
    assert client.judge(friend.leaf, other, friend.identity.text).identity.trust_domain == "other.example"


def test_an_alias_stands_for_our_trust_domain_unless_it_has_roots_of_its_own() -> None:
    old = Authority("old.example", ROOT.key, ROOT.certificate).issue("spiffe://old.example/ns/a/sa/b", NOW)
    assert Client(aliases=["old.example"]).judge(old.leaf).identity.text == "spiffe://old.example/ns/a/sa/b"
    own = Authority.root("old.example", NOW)
    with pytest.raises(ServerRefused, match="does not vouch"):
        Client(bundles(ROOT, own), ["old.example"]).judge(old.leaf)


def test_of_a_resumed_session_the_certificate_is_that_of_the_session() -> None:
    client = Client()
    before = client.judge(SERVER.leaf)
    assert client.servers.judge_again(SERVER.leaf, before, (REVIEWS,)).root == ROOT.root_der
    with pytest.raises(ServerRefused, match="is not that of the session"):
        client.servers.judge_again(svid(REVIEWS).leaf, before, ())
    with pytest.raises(ServerRefused, match="only"):
        client.servers.judge_again(SERVER.leaf, before, (RATINGS,))


def test_who_made_a_connection_is_told_and_who_was_refused_is_not() -> None:
    client, told = Client(), []
    client.servers.noticed = lambda: told.append(True)
    with pytest.raises(ServerRefused):
        client.judge(SERVER.leaf, ROOT, RATINGS)
    assert told == []
    client.judge(SERVER.leaf)
    assert told == [True]


# -- how long -----------------------------------------------------------------------------------------------------------


def test_a_newer_version_takes_the_new_calls() -> None:
    client = Client()
    vouched = client.judge(SERVER.leaf)
    assert client.servers.standing(vouched) is Standing.USED
    client.source.publish(svid(), BUNDLES)
    client.clock.advance(1000.0)
    assert client.servers.standing(vouched) is Standing.DRAINED  # a long call goes on: nothing is wrong with it


@pytest.mark.parametrize(
    "how", ["its root was dropped", "its certificate has ended", "ours has ended", "the clock jumped"]
)
def test_what_is_worth_nothing_any_more_is_cut_after_a_while(how: str) -> None:
    client = Client()
    if how == "ours has ended":
        client.source.publish(svid(ttl=1800.0), BUNDLES)
    vouched = client.judge((svid(REVIEWS) if how == "ours has ended" else SERVER).leaf)
    client.clock.advance(1799.0)
    assert client.servers.standing(vouched) is Standing.USED
    if how == "its root was dropped":
        client.source.publish(svid(root=OTHER_ROOT), bundles(OTHER_ROOT))
    elif how == "the clock jumped":
        client.clock.jump(3600.0)
    else:
        client.clock.advance(1.0)
    assert client.servers.standing(vouched) is Standing.DRAINED
    client.clock.advance(GRACE - 0.1)
    assert client.servers.standing(vouched) is Standing.DRAINED
    client.clock.advance(0.1)
    assert client.servers.standing(vouched) is Standing.CUT


def test_our_certificate_is_asked_for_when_a_connection_is_made() -> None:
    client = Client()
    assert client.servers.ready
    client.clock.jump(3600.0)
    client.source.report("the file a.pem cannot be read")
    with pytest.raises(
        NoCertificate, match=r"DestinationRule a/b requires .* expired 0 s ago: the file a\.pem cannot be read"
    ):
        client.servers.credentials("DestinationRule a/b")
    none = Servers(None, tuple, client.clock)
    assert not none.ready
    with pytest.raises(NoCertificate, match="this process has no certificate: give the mesh one"):
        none.credentials("DestinationRule a/b")
