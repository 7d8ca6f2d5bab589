"""Whatever a resource holds, loading gives resources and problems, and never an exception."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.errors import Severity
from meshlib.resources.kinds import KINDS
from meshlib.resources.loader import load_objects, load_text
from meshlib.resources.report import STYLES, render

pytestmark = pytest.mark.slow

ROUTE = [
    {
        "destination": {"host": "a", "subset": "v1", "port": {"number": 80}},
        "weight": 1,
        "headers": {"request": {"set": {"a": "b"}}},
    }
]
SPECS: dict[str, dict[str, Any]] = {
    "VirtualService": {
        "hosts": ["a"],
        "gateways": ["mesh"],
        "exportTo": ["*"],
        "http": [
            {
                "match": [
                    {
                        "uri": {"prefix": "/"},
                        "headers": {"x": {"regex": "a+"}},
                        "queryParams": {"q": {"exact": ""}},
                        "port": 80,
                    }
                ],
                "route": ROUTE,
                "retries": {"attempts": 2, "perTryTimeout": "1s", "retryOn": "5xx"},
                "timeout": "5s",
                "fault": {
                    "delay": {"fixedDelay": "1s", "percent": 5},
                    "abort": {"httpStatus": 500, "percentage": {"value": 1}},
                },
                "mirrors": [{"destination": {"host": "b"}, "percentage": {"value": 5}}],
                "corsPolicy": {"allowOrigins": [{"exact": "*"}], "maxAge": "1s"},
                "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "b"}},
            },
            {"redirect": {"uri": "/x", "redirectCode": 301}},
            {"directResponse": {"status": 200, "body": {"string": "x"}}},
        ],
        "tcp": [{"match": [{"port": 1}], "route": [{"destination": {"host": "a"}}]}],
        "tls": [{"match": [{"sniHosts": ["a"]}], "route": [{"destination": {"host": "a"}}]}],
    },
    "DestinationRule": {
        "host": "a",
        "trafficPolicy": {
            "loadBalancer": {
                "consistentHash": {"httpHeaderName": "x", "minimumRingSize": 5},
                "warmupDurationSecs": "5s",
            },
            "connectionPool": {"tcp": {"maxConnections": 1, "connectTimeout": "1s"}, "http": {"maxRetries": 1}},
            "outlierDetection": {"consecutiveErrors": 1, "interval": "1s"},
            "tls": {"mode": "MUTUAL", "clientCertificate": "a", "privateKey": "b"},
            "portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "LEAST_CONN"}}],
        },
        "subsets": [{"name": "v1", "labels": {"a": "b"}}],
    },
    "ServiceEntry": {
        "hosts": ["a.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "location": "MESH_EXTERNAL",
        "endpoints": [{"address": "10.0.0.1", "ports": {"http": 8080}, "labels": {"a": "b"}, "weight": 1}],
    },
    "Gateway": {
        "selector": {"a": "b"},
        "servers": [
            {
                "port": {"number": 443, "name": "x", "protocol": "HTTPS"},
                "hosts": ["*"],
                "tls": {"mode": "SIMPLE", "credentialName": "c"},
            }
        ],
    },
    "Sidecar": {
        "egress": [{"hosts": ["./*"], "port": {"number": 80, "protocol": "HTTP"}}],
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
    },
    "AuthorizationPolicy": {
        "action": "DENY",
        "rules": [
            {
                "from": [{"source": {"principals": ["a"]}}],
                "to": [{"operation": {"paths": ["/x"]}}],
                "when": [{"key": "source.namespace", "values": ["b"]}],
            }
        ],
    },
    "RequestAuthentication": {"jwtRules": [{"issuer": "a", "jwksUri": "https://a", "fromHeaders": [{"name": "x"}]}]},
    "PeerAuthentication": {
        "selector": {"matchLabels": {"a": "b"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"80": {"mode": "DISABLE"}},
    },
    "Telemetry": {"metrics": [{"providers": [{"name": "p"}], "overrides": [{"tagOverrides": {"a": {"value": "b"}}}]}]},
    "WorkloadEntry": {"address": "10.0.0.1", "labels": {"a": "b"}, "ports": {"http": 80}},
    "WorkloadGroup": {"template": {"ports": {"http": 80}}, "probe": {"httpGet": {"port": 80}}},
    "Service": {"ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}, "clusterIP": "None"},
    "Pod": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]},
    "Deployment": {"replicas": 1, "template": {"metadata": {"labels": {"a": "b"}}}},
    "ResiliencePolicy": {
        "host": "a",
        "hedging": {"delay": "5ms"},
        "fallback": {"response": {"status": 200}},
        "circuitBreaker": {"storage": {}},
    },
    "LocalEndpoints": {
        "hosts": [{"host": "a", "subset": "v1", "port": 80, "addresses": ["localhost:9081", "[::1]:1"]}]
    },
}


def resource(kind: str) -> dict[str, Any]:
    known = KINDS[kind]
    version = f"{known.group}/{known.versions[0]}" if known.group else known.versions[0]
    metadata = {"name": "a", "namespace": "b", "labels": {"c": "d"}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": copy.deepcopy(SPECS[kind])}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, (dict, list)):
        for step in value if isinstance(value, dict) else range(len(value)):
            found += places(value[step], (*path, step))
    return found


words = st.sampled_from(
    ["", "*", "(", "a..b", "1s", "0s", "-5m", "mesh", "host", "é", "\0", "a" * 300, "*.a", "unix://x", "on"]
)
leaves = st.none() | st.booleans() | st.integers(-3, 70_000) | st.floats() | words | st.text(max_size=5)
junk = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_value_in_any_place_gives_a_resource_or_an_error(kind: str, data: st.DataObject) -> None:
    value = resource(kind)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(value)))
        if not path:
            continue
        here: Any = value
        for step in path[:-1]:
            here = here[step]
        if data.draw(st.booleans()):
            here[path[-1]] = data.draw(junk)
        elif isinstance(here, dict):
            here[data.draw(words)] = here.pop(path[-1])
        else:
            del here[path[-1]]
    result = load_objects([value])
    said = result.errors or [p for p in result.problems if p.code in ("unknown-kind", "not-a-resource")]
    assert bool(result.resources) != bool(said)
    lenient = load_objects([value], lenient=True)
    assert len(lenient.resources) >= len(result.resources)
    for style in STYLES:
        render(result.problems, style)


@pytest.mark.parametrize("kind", SPECS)
def test_the_resources_that_are_fuzzed_reach_their_validators(kind: str) -> None:
    """Without this the fuzzing could run on resources that are refused at once."""
    errors = {p.code for p in load_objects([resource(kind)]).errors}
    assert errors == set()


@given(junk)
def test_anything_may_be_given_as_an_object(value: Any) -> None:
    result = load_objects([value])
    assert result.resources == []
    assert result.problems


@given(
    st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
    st.sampled_from(sorted(SPECS)),
)
def test_text_and_objects_of_the_same_content_have_the_same_problems(value: Any, kind: str) -> None:
    whole = {**resource(kind), "spec": value}
    text = json.dumps(whole, allow_nan=True)
    if any(word in text for word in ("NaN", "Infinity", "\\ud")):
        return  # a text to YAML; half a character
    from_text, from_object = load_text(text), load_objects([whole])
    assert sorted(p.code for p in from_text.problems) == sorted(p.code for p in from_object.problems)
    assert all(p.line > 0 for p in from_text.problems if p.severity is Severity.ERROR)
