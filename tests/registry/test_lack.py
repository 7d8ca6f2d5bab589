"""What is said of a host without endpoints is one sentence, which names a remedy that can be pasted."""

from __future__ import annotations

import ast

import pytest

from meshlib.registry.lack import UNDEFINED, no_endpoints, remedy
from meshlib.resources.endpoints_argument import local_endpoints
from meshlib.resources.endpoints_text import resource_of_words

FULL = "reviews.prod.svc.cluster.local"


@pytest.mark.parametrize(
    ("host", "client", "subset", "message"),
    [
        (FULL, "prod", "", "service reviews has no endpoints: it rains"),
        (FULL, "prod", "v1", "subset v1 of service reviews has no endpoints: it rains"),
        (FULL, "shop", "", "service reviews of namespace prod has no endpoints: it rains"),
        ("api.example.com", "prod", "", "api.example.com has no endpoints: it rains"),
        ("a.b.prod.svc.cluster.local", "prod", "", "a.b.prod.svc.cluster.local has no endpoints: it rains"),
    ],
)
def test_what_and_why(host, client, subset, message):
    lack = no_endpoints(host, client, "it rains", subset=subset, port=9080)
    assert lack.message == message
    assert str(lack) == f"{message}; {lack.remedy}"


def test_a_host_that_nothing_defines():
    lack = no_endpoints(FULL, "prod", UNDEFINED)
    assert lack.message == f"host {FULL} is not in the registry: no Service, ServiceEntry or LocalEndpoints defines it"


@pytest.mark.parametrize(
    ("client", "subset", "port", "argument", "word"),
    [
        ("prod", "", 9080, '{"reviews": "localhost:9080"}', "reviews=:9080"),
        ("prod", "v1", 9080, '{"reviews": {"v1": "localhost:9080"}}', "reviews=v1@:9080"),
        ("shop", "", 9080, f'{{"{FULL}": "localhost:9080"}}', f"{FULL}=:9080"),
        ("prod", "", 80, '{"reviews": "localhost:8080"}', "reviews=:8080"),
        ("prod", "", 0, '{"reviews": "localhost:8080"}', "reviews=:8080"),
    ],
)
def test_the_remedy_can_be_pasted(client, subset, port, argument, word):
    text = no_endpoints(FULL, client, "", subset=subset, port=port).remedy
    assert f"endpoints={argument}, or `meshlib local {word}`" in text
    given = local_endpoints(ast.literal_eval(argument), client)
    words = resource_of_words([word], file="x", name="x", namespace=client)
    (one,), (other,) = given.spec.hosts, words["spec"]["hosts"]
    assert (one.host, one.subset or "", one.addresses) == (other["host"], other.get("subset", ""), other["addresses"])


def test_the_remedy_alone():
    assert remedy("reviews", port=9080).endswith("`meshlib local reviews=:9080`")
