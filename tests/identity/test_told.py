"""What a remote source tells its identity."""

from __future__ import annotations

from meshlib.identity.told import Told
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
BUNDLES = TrustBundles({"cluster.local": (ROOT.root_der,)})
SVID = ROOT.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)


def heard() -> tuple[Told, list[object], list[str]]:
    published: list[object] = []
    said: list[str] = []
    return Told(lambda svid, _: published.append(svid), said.append), published, said


def test_what_is_good_ends_what_was_wrong() -> None:
    told, published, said = heard()
    told.failed("nobody is there", "UNAVAILABLE")
    told.good(SVID, BUNDLES)
    told.failed("nobody is there", "UNAVAILABLE")
    assert published == [SVID]
    assert said == ["nobody is there; there is no certificate yet, so no mTLS", "", "nobody is there"]


def test_one_failure_is_said_once_whatever_words_it_comes_in() -> None:
    told, _, said = heard()
    for words in ("call 1 failed", "call 2 failed"):
        told.failed(words, "UNAVAILABLE")
    told.failed("no such method", "UNIMPLEMENTED")
    assert [each.partition(";")[0] for each in said] == ["call 1 failed", "no such method"]


def test_nothing_is_told_after_the_end() -> None:
    told, published, said = heard()
    told.stop()
    told.good(SVID, BUNDLES)
    told.failed("nobody is there", "UNAVAILABLE")
    assert not published
    assert not said
