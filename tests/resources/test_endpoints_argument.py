"""``endpoints=``: every form that it takes, and an error for every other, at its place in the argument."""

from __future__ import annotations

import pytest

from meshlib.problems import ConfigError
from meshlib.resources.endpoints_argument import local_endpoints


def hosts(given: object, namespace: str = "default") -> list[tuple[str, str | None, int | None, list[str]]]:
    return [(h.host, h.subset, h.port, h.addresses) for h in local_endpoints(given, namespace).spec.hosts]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"reviews": "localhost:9080"}, [("reviews", None, None, ["localhost:9080"])]),
        ({"reviews": ["a:1", "b:2"]}, [("reviews", None, None, ["a:1", "b:2"])]),
        ({"reviews": ("a:1",)}, [("reviews", None, None, ["a:1"])]),
        (
            {"reviews": {"v1": "localhost:9081", "v2": ["localhost:9082"]}},
            [("reviews", "v1", None, ["localhost:9081"]), ("reviews", "v2", None, ["localhost:9082"])],
        ),
        ({"reviews:9080": ":1"}, [("reviews", None, 9080, [":1"])]),
        ({"reviews:80": ":1", "reviews:81": ":2"}, [("reviews", None, 80, [":1"]), ("reviews", None, 81, [":2"])]),
        ({"api.example.com": "[::1]:8443"}, [("api.example.com", None, None, ["[::1]:8443"])]),
    ],
)
def test_the_forms(given, meant):
    assert hosts(given) == meant


def test_it_is_of_the_workloads_namespace_and_says_where_it_comes_from():
    made = local_endpoints({"reviews": ":1"}, "prod")
    assert (made.namespace, made.id, made.origin.file) == ("prod", "LocalEndpoints/prod/endpoints=", "endpoints=")
    assert made.is_argument


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        (5, "", "addresses by host are expected, found 5"),
        ("localhost:9080", "", "addresses by host are expected, found 'localhost:9080'"),
        (["localhost:9080"], "", "addresses by host are expected, found a list"),
        ({}, "", "there is no host"),
        ({1: "a"}, "[1]", "a host is a text, found 1"),
        ({"": "a"}, "['']", "the host is empty"),
        ({"*.example.com": ":1"}, "['*.example.com']", "is a wildcard"),
        ({"a b": ":1"}, "['a b']", "is not a host name"),
        ({"::1": ":1"}, "['::1']", "is not a host"),
        ({"reviews:http": ":1"}, "['reviews:http']", "is not a host, or a host and its port"),
        ({"reviews:0": ":1"}, "['reviews:0']", "port 0 is outside 1..65535"),
        ({"reviews": 9080}, "['reviews']", "an address, or a list of addresses, is expected, found 9080"),
        ({"reviews": None}, "['reviews']", "found None"),
        ({"reviews": b"a:1"}, "['reviews']", "found a bytes"),
        ({"reviews": []}, "['reviews']", "there is no address"),
        ({"reviews": {}}, "['reviews']", "there is no subset"),
        ({"reviews": {"": ":1"}}, "['reviews']['']", "a subset is the name"),
        ({"reviews": {"v1": {"x": ":1"}}}, "['reviews']['v1']", "found a dict"),
        ({"reviews": {"v1": [":1", "http://x"]}}, "['reviews']['v1'][1]", "an address has no scheme"),
        ({"reviews": [":1", ":1"]}, "['reviews'][1]", ":1 is there twice"),
        ({"reviews": ":1", "Reviews.": ":2"}, "['Reviews.']", "'Reviews.' is the same host as 'reviews'"),
        (
            {"reviews.prod.svc.cluster.local": ":1", "reviews": {"v1": ":2"}},
            "['reviews']",
            "'reviews' is the same host as 'reviews.prod.svc.cluster.local'",
        ),
    ],
)
def test_what_is_wrong_is_named_at_its_place(given, path, message):
    with pytest.raises(ConfigError) as caught:
        local_endpoints(given, "prod")
    (problem,) = caught.value.problems
    assert (problem.file, problem.path) == ("endpoints=", path)
    assert message in problem.message
    assert problem.hint


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        local_endpoints({"a": "", "b": {"v1": 7, "v2": "x:0"}, "c": ":1"}, "default")
    assert sorted(p.path for p in caught.value.problems) == ["['a']", "['b']['v1']", "['b']['v2']"]


def test_a_port_number_alone_gets_the_address_that_was_meant():
    with pytest.raises(ConfigError, match="write 'localhost:9080'"):
        local_endpoints({"reviews": 9080}, "default")


@pytest.mark.parametrize(
    "given",
    [
        "http://me:s3cret@localhost:1",
        {"http://me:s3cret@localhost": ":1"},
        {"me:s3cret@localhost": ":1"},
        {"reviews": "http://me:s3cret@localhost:1"},
        {"reviews": ["me:s3cret@localhost:1"]},
    ],
)
def test_no_password_is_repeated(given):
    with pytest.raises(ConfigError) as caught:
        local_endpoints(given, "default")
    assert "s3cret" not in str(caught.value)
