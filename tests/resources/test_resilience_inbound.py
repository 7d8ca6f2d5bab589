"""What ``spec.inbound`` refuses, at the field and with the remedy."""

from __future__ import annotations

import pytest

from meshlib.resources.loader import load_objects
from tests.support.protection import protection

LIMIT = {"requests": 5}
REDIS = {"redis": {"url": "redis://r"}}


@pytest.mark.parametrize(
    ("inbound", "code", "path"),
    [
        ({"rateLimits": [{}]}, "missing-field", "rateLimits[0].requests"),
        ({"rateLimits": [{"requests": 0}]}, "out-of-range", "rateLimits[0].requests"),
        ({"rateLimits": [LIMIT | {"burst": 0}]}, "out-of-range", "rateLimits[0].burst"),
        ({"rateLimits": [LIMIT | {"per": "10"}]}, "bad-duration", "rateLimits[0].per"),
        ({"rateLimits": [LIMIT | {"key": "everybody"}]}, "bad-enum", "rateLimits[0].key"),
        ({"rateLimits": [LIMIT | {"key": {}}]}, "limit-key", "rateLimits[0].key"),
        ({"rateLimits": [LIMIT | {"key": {"header": "a", "claim": "b"}}]}, "limit-key", "rateLimits[0].key"),
        ({"rateLimits": [LIMIT | {"mode": "maybe"}]}, "bad-enum", "rateLimits[0].mode"),
        ({"rateLimits": [LIMIT | {"storage": {}}]}, "limit-storage", "rateLimits[0].storage"),
        ({"rateLimits": [LIMIT | {"storage": REDIS, "burst": 3}]}, "limit-burst", "rateLimits[0]"),
        ({"rateLimits": [LIMIT | {"storage": REDIS, "per": "1500ms"}]}, "limit-per", "rateLimits[0]"),
        ({"rateLimits": [LIMIT | {"match": [{"uri": "/"}]}]}, "unknown-field", "rateLimits[0].match[0].uri"),
        ({"quotas": [LIMIT | {"per": "10m", "storage": REDIS}]}, "quota-per", "quotas[0]"),
        ({"quotas": [LIMIT | {"storage": REDIS}]}, "missing-field", "quotas[0].per"),
        ({"quotas": [LIMIT | {"per": "24h"}]}, "quota-storage", "quotas[0]"),
        ({"loadShedding": {}}, "shedding-when", "loadShedding"),
        ({"maxConcurrent": 0}, "out-of-range", "maxConcurrent"),
        ({"maxBodyBytes": -1}, "negative", "maxBodyBytes"),
        ({"maxHeaderBytes": "8Ki"}, "wrong-type", "maxHeaderBytes"),
        ({"priorities": [{"match": [], "priority": "urgent"}]}, "bad-enum", "priorities[0].priority"),
        ({"deadline": {"default": "0s"}}, "duration-too-short", "deadline.default"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(inbound, code, path):
    problems = {(p.code, p.path.partition("spec.inbound.")[2]) for p in load_objects([protection(**inbound)]).errors}
    assert (code, path) in problems


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"selector": {}, "host": "reviews"}, "two-targets"),
        ({"selector": {}, "bulkhead": {"maxConcurrent": 3}}, "no-target"),
        ({"bulkhead": {"maxConcurrent": 3}}, "no-target"),
    ],
)
def test_whom_it_is_for_is_clear(spec, code):
    assert [p.code for p in load_objects([protection(spec=spec, maxConcurrent=3)]).errors] == [code]
