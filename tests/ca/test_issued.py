"""What ``meshlib ca serve`` hands out: one certificate an identity, made anew in time."""

from __future__ import annotations

import pytest

from meshlib.alarms import Alarms
from meshlib.ca.issued import Issued
from meshlib.identity.workload_svid import chosen
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from meshlib.security.workload_messages import read_bundles, read_svids
from tests.support.fake_clock import FakeClock
from tests.support.standing import Standing

START = 1_700_001_000.0
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
ROOT = Authority.root("cluster.local", START - 86_400)
NEXT = Authority.root("cluster.local", START)
OTHER = Authority.root("other.test", START)


class Office:
    def __init__(self, ttl: float = 3600.0) -> None:
        self.clock = FakeClock(1000.0)
        self.standing = Standing(
            ROOT.intermediate(START - 86_400),
            TrustBundles({"cluster.local": (ROOT.root_der,), "other.test": (OTHER.root_der,)}),
        )
        self.issued = Issued(lambda: self.standing, REVIEWS, self.clock, Alarms(self.clock), ttl=ttl, hint="mine")


def test_it_is_what_a_workload_accepts() -> None:
    office = Office()
    svid, bundles = chosen(read_svids(office.issued.svids), "mine", START)
    assert svid.identity.text == REVIEWS
    assert svid.not_after == START + 3600
    assert bundles == office.standing.bundles


def test_bundles_are_told_by_trust_domain() -> None:
    assert read_bundles(Office().issued.bundles) == {
        "spiffe://cluster.local": ROOT.root_der,
        "spiffe://other.test": OTHER.root_der,
    }


@pytest.mark.parametrize(("ttl", "early", "late"), [(3600.0, 1700, 1800), (20.0, 9, 10)])
def test_it_is_made_anew_at_half_of_its_life(ttl: float, early: float, late: float) -> None:
    office = Office(ttl)
    heard: list[int] = []
    office.issued.subscribe(lambda: heard.append(office.issued.version))
    office.clock.now += early
    office.issued.look()
    assert not heard
    office.clock.now += late - early
    office.issued.look()
    assert heard == [2]


def test_a_clock_that_jumps_back_has_it_made_anew() -> None:
    office = Office()
    office.clock.now -= 3600
    office.issued.look()
    assert office.issued.version == 2


def test_another_root_or_authority_is_told_at_the_next_look() -> None:
    office = Office()
    both = TrustBundles({"cluster.local": (ROOT.root_der, NEXT.root_der)})
    office.standing = Standing(office.standing.signer, both)
    office.issued.look()
    assert office.issued.version == 2
    office.issued.look()
    assert office.issued.version == 2
    office.standing = Standing(NEXT, both)
    office.issued.look()
    svid, bundles = chosen(read_svids(office.issued.svids), "", START)
    assert bundles.roots_of("cluster.local") == (ROOT.root_der, NEXT.root_der)
    assert office.issued.version == 3


def test_who_listens_no_more_is_told_nothing() -> None:
    office = Office()
    heard: list[int] = []
    office.issued.subscribe(lambda: heard.append(1))()
    office.issued.renew()
    assert not heard


def test_an_id_of_another_trust_domain_is_refused() -> None:
    office = Office()
    with pytest.raises(ValueError, match=r"other\.test"):
        Issued(lambda: office.standing, "spiffe://other.test/x", office.clock, Alarms(office.clock), ttl=60)


def test_no_repr_shows_what_it_holds() -> None:
    assert repr(Office().issued) == f"<Issued {REVIEWS} version 1>"


def test_an_authority_that_cannot_sign_is_said_once_and_the_last_one_stays(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    before = office.issued.svids
    office.clock.now += 20 * 365 * 86_400
    for _ in range(2):
        office.issued.ring()
    assert office.issued.svids == before
    assert len(caplog.records) == 1
    assert REVIEWS in caplog.text
