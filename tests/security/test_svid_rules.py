"""All that is wrong with a certificate, not the first of it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.security.authority import Authority
from meshlib.security.peer_certificate import why_no_identity, why_not_ours
from meshlib.security.svid_rules import broken_by_authority, broken_by_leaf, is_authority, spiffe_uris
from tests.support.broken_svids import BROKEN, OURS, signed

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)


def test_what_our_authority_makes_breaks_nothing() -> None:
    below = ROOT.intermediate(NOW)
    assert broken_by_leaf(signed(below, NOW)) == []
    assert broken_by_leaf(below.sign("spiffe://cluster.local/a", ROOT.key.public_key(), NOW)) == []
    assert broken_by_authority(ROOT.certificate) == broken_by_authority(below.certificate) == []


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_certificate_is_told_by_its_rule(name: str) -> None:
    made = signed(ROOT, NOW, **BROKEN[name])
    assert why_no_identity(made.public_bytes(Encoding.DER)), "and it identifies nobody"
    found = broken_by_leaf(made)
    assert len(found) == (2 if name in ("an authority", "two URIs, one of another scheme") else 1), found
    assert all(each.endswith(")") for each in found), "with its section"


@pytest.mark.parametrize("name", OURS)
def test_what_must_not_be_made_is_told_too(name: str) -> None:
    made = signed(ROOT, NOW, **OURS[name])
    assert len(broken_by_leaf(made)) == 1
    assert why_not_ours(made) or name == "names that are not critical"


def test_several_rules_are_told_together() -> None:
    made = signed(
        ROOT, NOW, ca=True, usage={"crl_sign": True, "digital_signature": False}, uris=("spiffe://A", "x://y")
    )
    assert len(broken_by_leaf(made)) == 6


def test_an_authority_is_one_that_has_no_workloads_identity() -> None:
    assert is_authority(ROOT.certificate)
    assert not is_authority(signed(ROOT, NOW))
    made = signed(ROOT, NOW, ca=True, usage={"key_cert_sign": True})
    assert not is_authority(made), "it is a workload that may sign others"
    assert any("has the SPIFFE ID of a workload" in each for each in broken_by_authority(made))
    assert spiffe_uris(made) == ["spiffe://cluster.local/ns/default/sa/reviews"]
