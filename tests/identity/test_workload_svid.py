"""Which certificate of a response of the Workload API is ours, and when nothing of it is used."""

from __future__ import annotations

import dataclasses

import pytest

from meshlib.identity.workload_svid import chosen
from meshlib.security.authority import Authority
from meshlib.security.der import split
from meshlib.security.workload_messages import X509Svid, X509SvidResponse
from tests.support.workload_svids import message_of

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
OTHER = Authority.root("other.test", NOW)
REVIEWS = message_of(ROOT.intermediate(NOW).issue("spiffe://cluster.local/ns/default/sa/reviews", NOW), ROOT)
ADMIN = dataclasses.replace(
    message_of(ROOT.issue("spiffe://cluster.local/ns/default/sa/admin", NOW), ROOT), hint="internal"
)
FEDERATED = {"spiffe://other.test": OTHER.root_der}


def response(*svids: X509Svid, **also: object) -> X509SvidResponse:
    return X509SvidResponse(svids, **{"federated": FEDERATED, **also})  # type: ignore[arg-type]


def test_the_first_is_the_default() -> None:
    svid, bundles = chosen(response(REVIEWS, ADMIN), "", NOW)
    assert svid.identity.text == REVIEWS.spiffe_id
    assert bundles.roots_of("cluster.local") == (ROOT.root_der,)
    assert bundles.roots_of("other.test") == (OTHER.root_der,)


def test_a_hint_chooses_and_the_first_of_a_hint_counts() -> None:
    again = dataclasses.replace(REVIEWS, hint="internal")
    svid, _ = chosen(response(REVIEWS, ADMIN, again), "internal", NOW)
    assert svid.identity.text == ADMIN.spiffe_id


def test_another_hint_is_not_the_default() -> None:
    with pytest.raises(ValueError, match="no certificate has the hint 'external'; there are '', 'internal'"):
        chosen(response(REVIEWS, ADMIN), "external", NOW)


CHAIN = split(REVIEWS.chain)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spiffe_id": "spiffe://cluster.local/ns/default/sa/admin"}, "where the response says"),
        ({"spiffe_id": "SPIFFE://cluster.local/ns/default/sa/reviews"}, "is not a valid SPIFFE ID"),
        ({"spiffe_id": ""}, "is not a valid SPIFFE ID"),
        ({"chain": b""}, "the certificate is empty"),
        ({"chain": CHAIN[0]}, "which is not a root of its trust domain and not in its chain"),
        ({"chain": REVIEWS.chain[:-1]}, "the certificate breaks off"),
        ({"chain": b"garbage"}, "the certificate is not a valid certificate in DER"),
        ({"key": b""}, "the key"),
        ({"key": ADMIN.key}, "the key is not the key of the certificate"),
        ({"bundle": b""}, "is empty"),
        ({"bundle": b"garbage"}, "the bundle of cluster.local is not a valid certificate in DER"),
        ({"bundle": OTHER.root_der}, "not a root of its trust domain"),
        ({"bundle": CHAIN[0]}, "is not the certificate of an authority"),
    ],
)
def test_what_does_not_hold_is_not_used(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        chosen(response(dataclasses.replace(REVIEWS, **change)), "", NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("also", "why"),
    [
        ({"crl": [b"\x30\x00"]}, "revocation lists"),
        ({"federated": {"spiffe://cluster.local": ROOT.root_der}}, "its own trust domain"),
        ({"federated": {"other.test": OTHER.root_der}}, "not a valid trust domain"),
        ({"federated": {"spiffe://other.test/": OTHER.root_der}}, "not a valid trust domain"),
        ({"federated": {"spiffe://other.test/x": OTHER.root_der}}, "has a path"),
        ({"federated": {"spiffe://other.test": b""}}, "the bundle of spiffe://other.test is empty"),
        ({"federated": {"spiffe://other.test": b"garbage"}}, "the bundle of spiffe://other.test is not a valid"),
    ],
)
def test_what_is_wrong_beside_it_counts_too(also: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        chosen(response(REVIEWS, **also), "", NOW)


def test_a_response_without_a_certificate_is_none() -> None:
    with pytest.raises(ValueError, match="has no certificate"):
        chosen(response(), "", NOW)


def test_what_is_not_valid_now_is_not_used() -> None:
    for now, why in ((NOW - 7200, "is not valid before"), (NOW + 10 * 86400, "has expired")):
        with pytest.raises(ValueError, match=why):
            chosen(response(REVIEWS), "", now)
