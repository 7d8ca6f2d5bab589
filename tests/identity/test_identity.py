"""An identity is the newest good version of what its source has told."""

from __future__ import annotations

from meshlib.alarms import Alarms
from meshlib.clock import Clock
from meshlib.identity.identity import Identity
from meshlib.identity.source import Publish, Report
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.support.credential_files import HandAlarms
from tests.support.fake_clock import FakeClock

NOW = FakeClock().time()
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


class ByHand:
    """A source that tells what the test tells it."""

    what = "the test"

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        self.publish, self.report = publish, report

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def started() -> tuple[Identity, ByHand]:
    identity = Identity(source := ByHand())
    identity.start(clock := FakeClock(), HandAlarms(clock))
    return identity, source


ROOT = Authority.root("cluster.local", NOW)
BUNDLES = TrustBundles({"cluster.local": (ROOT.root_der,)})


def svid() -> Svid:
    return ROOT.issue(REVIEWS, NOW)


def test_there_is_none_until_the_source_has_told_one() -> None:
    identity, source = started()
    assert identity.current() is None
    source.publish(svid(), BUNDLES)
    current = identity.current()
    assert current is not None
    assert current.svid.identity.text == REVIEWS


def test_what_is_told_twice_is_no_rotation() -> None:
    identity, source = started()
    heard: list[int] = []
    identity.subscribe(lambda credentials: heard.append(credentials.version))
    first = svid()
    for told in (first, first, svid()):
        source.publish(told, BUNDLES)
    assert heard == [1, 2]


def test_a_rotation_tells_the_version_before_that_it_is_replaced() -> None:
    identity, source = started()
    source.publish(svid(), BUNDLES)
    before = identity.current()
    assert before is not None
    assert not before.replaced
    source.publish(svid(), BUNDLES)
    after = identity.current()
    assert after is not None
    assert (before.replaced, after.replaced) == (True, False)


def test_a_problem_leaves_the_last_good_version() -> None:
    identity, source = started()
    source.publish(svid(), BUNDLES)
    source.report("the key is not that of the certificate")
    assert identity.current() is not None
    assert identity.status()["problem"] == "the key is not that of the certificate"


def test_what_a_listener_raises_is_not_the_source_s_fault() -> None:
    identity, source = started()
    heard: list[int] = []
    identity.subscribe(lambda credentials: 1 / 0)
    identity.subscribe(lambda credentials: heard.append(credentials.version))
    source.publish(svid(), BUNDLES)
    assert heard == [1]


def test_it_is_ready_with_a_certificate_that_is_valid() -> None:
    identity, source = started()
    assert not identity.ready
    source.publish(svid(), BUNDLES)
    assert identity.ready
