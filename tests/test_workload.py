"""Who this process is."""

from __future__ import annotations

import pickle

import pytest

from meshlib.sources.environment import workload_from_env
from meshlib.workload import Workload

ME = Workload("reviews", namespace="shop", service_account="cart")


def test_its_principal():
    assert ME.principal == "spiffe://cluster.local/ns/shop/sa/cart"


def test_a_trust_domain_that_nobody_has_named_is_the_meshs():
    assert not ME.names_trust_domain
    assert ME.in_trust_domain("td.example").principal == "spiffe://td.example/ns/shop/sa/cart"
    assert ME.in_trust_domain("cluster.local") is ME


@pytest.mark.parametrize("named", ["mine.example", "cluster.local"])
def test_one_that_was_named_stays_whatever_it_is(named):
    mine = Workload(trust_domain=named)
    assert mine.names_trust_domain
    assert mine.in_trust_domain("td.example") is mine


@pytest.mark.parametrize(
    ("given", "principal"),
    [
        ({}, "shop/sa/cart"),
        ({"namespace": "default"}, "default/sa/default"),  # of another namespace than the service account
        ({"namespace": "shop"}, "shop/sa/cart"),
        ({"service_account": "web"}, "shop/sa/web"),
        ({"namespace": "default", "service_account": "default"}, "default/sa/default"),
    ],
)
def test_what_nobody_has_given_is_named_by_the_certificate(given, principal):
    named = Workload("reviews", **given).named_by("shop", "cart")
    assert named.principal == f"spiffe://cluster.local/ns/{principal}"
    assert named.named_by("other", "other") is named, "once"


def test_a_certificate_that_names_nobody_names_the_default():
    assert Workload().named_by("", "").principal == "spiffe://cluster.local/ns/default/sa/default"


def test_the_environment_gives_a_namespace_or_does_not():
    assert workload_from_env({"MESHLIB_NAMESPACE": "default"}).named_by("shop", "cart").namespace == "default"
    assert workload_from_env({}).named_by("shop", "cart").namespace == "shop"


def test_the_environment_names_one_or_does_not():
    assert workload_from_env({"MESHLIB_TRUST_DOMAIN": "cluster.local"}).names_trust_domain
    assert not workload_from_env({}).names_trust_domain


def test_a_copy_of_it_in_another_process_is_the_same():
    for one in (ME, Workload(trust_domain="cluster.local")):
        copy = pickle.loads(pickle.dumps(one))
        assert copy == one
        assert copy.names_trust_domain == one.names_trust_domain


def test_the_default_is_a_text_as_any_other():
    assert Workload("reviews", namespace="shop", service_account="cart", trust_domain="cluster.local") == ME
    assert str(ME.trust_domain) == "cluster.local"
    assert repr(ME).count("'cluster.local'") == 1
