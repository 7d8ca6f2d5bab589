"""What a ResiliencePolicy is refused for beyond its types."""

from __future__ import annotations

import pytest

from meshlib.resources.loader import load_objects
from tests.support.protection import protection

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
