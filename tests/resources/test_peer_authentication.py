"""A PeerAuthentication that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

import pytest

from tests.support.verdicts import refusals, warnings

APP = {"matchLabels": {"app": "a"}}
STRICT = {"mode": "STRICT"}


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        ({"portLevelMtls": {"80": STRICT}}, "ports-without-selector", "spec.portLevelMtls"),
        ({"selector": {}, "portLevelMtls": {"80": STRICT}}, "ports-without-selector", "spec.portLevelMtls"),
        ({"selector": APP, "portLevelMtls": {}}, "empty-ports", "spec.portLevelMtls"),
        ({"portLevelMtls": {}}, "empty-ports", "spec.portLevelMtls"),
        ({"selector": APP, "portLevelMtls": {"0": STRICT}}, "bad-port", "spec.portLevelMtls.0"),
        ({"selector": APP, "portLevelMtls": {"65536": STRICT}}, "bad-port", "spec.portLevelMtls.65536"),
        ({"selector": APP, "portLevelMtls": {"-1": STRICT}}, "bad-port", "spec.portLevelMtls.-1"),
        ({"selector": APP, "portLevelMtls": {"http": STRICT}}, "bad-port", "spec.portLevelMtls.http"),
        ({"selector": APP, "portLevelMtls": {"080": STRICT}}, "bad-port", "spec.portLevelMtls.080"),
        ({"selector": {"matchLabels": {"app": "*"}}}, "wildcard-label", "spec.selector.matchLabels.app"),
        ({"selector": {"matchLabels": {"": "a"}}}, "bad-label", 'spec.selector.matchLabels[""]'),
        ({"mtls": {"mode": "strict"}}, "bad-enum", "spec.mtls.mode"),
    ],
)
def test_refused(spec, code, path):
    assert refusals("PeerAuthentication", spec) == [(code, path)]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"mtls": {}},
        {"mtls": STRICT, "selector": APP, "portLevelMtls": {"1": STRICT, "65535": {}}},
        {"selector": {"matchLabels": {"a.b/c": ""}}},
    ],
)
def test_accepted(spec):
    assert refusals("PeerAuthentication", spec) == []


def test_a_selector_without_labels_is_warned_of():
    assert warnings("PeerAuthentication", {"selector": {}}) == [("empty-selector", "spec.selector")]


def test_ports_may_be_numbers_as_other_yaml_readers_give_them() -> None:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {8080: {"mode": "DISABLE"}}}
    assert refusals("PeerAuthentication", spec) == []
    spec["portLevelMtls"] = {70000: {"mode": "DISABLE"}}
    assert ("bad-port", "spec.portLevelMtls.70000") in refusals("PeerAuthentication", spec)
