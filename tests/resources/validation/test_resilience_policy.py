"""What a ResiliencePolicy is refused for beyond its types."""

from __future__ import annotations

import pytest

from meshlib.resources.loader import load_objects
from tests.support.protection import protection


def resilience_policy(**spec):
    metadata = {"name": "it", "namespace": "default"}
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": metadata,
        "spec": {"host": "reviews", **spec},
    }


LIMIT = {"requests": 5}


def match(**written):
    return {"rateLimits": [LIMIT | {"match": [written]}]}


@pytest.mark.parametrize(
    ("inbound", "code", "path"),
    [
        (match(path={"regex": "("}), "bad-regex", "rateLimits[0].match[0].path"),
        (match(method={"regex": "(?=x)"}), "bad-regex", "rateLimits[0].match[0].method"),
        (match(headers={"x-a": {"regex": "["}}), "bad-regex", "rateLimits[0].match[0].headers.x-a"),
        (match(headers={"x a": "b"}), "bad-header-name", 'rateLimits[0].match[0].headers["x a"]'),
        ({"rateLimits": [LIMIT | {"key": {"header": "a:b"}}]}, "bad-header-name", "rateLimits[0].key.header"),
        (
            {"priorities": [{"match": [{"path": {"regex": "("}}], "priority": "low"}]},
            "bad-regex",
            "priorities[0].match[0].path",
        ),
        ({"healthChecks": [{"regex": "("}]}, "bad-regex", "healthChecks[0]"),
        ({"deadline": {"header": ""}}, "bad-header-name", "deadline.header"),
        (
            {"quotas": [LIMIT | {"per": "24h", "storage": {"redis": {"url": "localhost:6379"}}}]},
            "bad-redis-url",
            "quotas[0].storage.redis.url",
        ),
    ],
)
def test_expressions_and_names_that_match_nothing(inbound, code, path):
    (problem,) = load_objects([protection(**inbound)]).errors
    assert problem.code == code
    assert problem.path.partition("spec.inbound.")[2].startswith(path)


def test_nothing_is_said_of_what_is_right():
    inbound = match(path={"prefix": "/api"}, method="GET", headers={"x-a": {"regex": "a|b"}})
    assert load_objects([protection(**inbound, healthChecks=["/up"], deadline={})]).problems == []


@pytest.mark.parametrize(
    ("mechanism", "settings", "code"),
    [
        ("retryBudget", {"percent": 200}, "bad-percent"),
        ("retryBudget", {"percent": -1}, "bad-percent"),
        ("retryBudget", {"percent": float("nan")}, "bad-percent"),
        ("bulkhead", {"maxConcurrent": 0}, "out-of-range"),
        ("bulkhead", {"maxConcurrent": 0, "maxWaiting": 5}, "out-of-range"),
        ("circuitBreaker", {"failureThreshold": 0}, "out-of-range"),
        ("hedging", {"percentile": 101}, "bad-percent"),
        ("hedging", {"percentile": 0}, "bad-percent"),
        ("hedging", {"delay": "1s", "maxHedges": 0}, "out-of-range"),
        ("adaptiveConcurrency", {"minLimit": 0}, "out-of-range"),
        ("adaptiveConcurrency", {"minLimit": 10, "maxLimit": 5}, "out-of-range"),
        ("fallback", {"response": {"status": 99}}, "bad-status"),
        ("fallback", {"response": {"status": 600}}, "bad-status"),
    ],
)
def test_numbers_that_no_mechanism_can_act_by(mechanism, settings, code):
    (problem,) = load_objects([resilience_policy(**{mechanism: settings})]).errors
    assert (problem.code, problem.path.split(".")[1]) == (code, mechanism)


def test_a_limit_of_a_server_has_its_order_too():
    (problem,) = load_objects([protection(adaptiveConcurrency={"minLimit": 10, "maxLimit": 5})]).errors
    assert problem.path.endswith(" spec.inbound.adaptiveConcurrency.minLimit")


@pytest.mark.parametrize(
    ("mechanism", "settings"),
    [
        ("retryBudget", {"percent": 0}),
        ("retryBudget", {"percent": 100}),
        ("bulkhead", {"maxConcurrent": 1}),
        ("hedging", {"percentile": 99.9}),
        ("adaptiveConcurrency", {"minLimit": 5, "maxLimit": 5}),
        ("fallback", {"response": {"status": 204}}),
    ],
)
def test_the_last_numbers_that_it_can_act_by(mechanism, settings):
    assert load_objects([resilience_policy(**{mechanism: settings})]).problems == []
