"""An AuthorizationPolicy that Istio's webhook refuses is refused here, at the field that is wrong: a policy that does not
mean what it says must not be in force."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.loader import load_text
from tests.support.verdicts import refusals, warnings


def rule(**parts: Any) -> dict[str, Any]:
    return {"rules": [parts]}


def source(**fields: Any) -> dict[str, Any]:
    return rule(**{"from": [{"source": fields}]})


def operation(**fields: Any) -> dict[str, Any]:
    return rule(to=[{"operation": fields}])


def when(key: str, *values: str, **more: Any) -> dict[str, Any]:
    return rule(when=[{"key": key, "values": list(values), **more}])


CUSTOM = {"action": "CUSTOM", "provider": {"name": "opa"}}
SOURCE = "spec.rules[0].from[0].source"
OPERATION = "spec.rules[0].to[0].operation"

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a DENY that never acts": ({"action": "DENY"}, "no-rules", "spec.rules"),
    "a DENY with an empty list of rules": ({"action": "DENY", "rules": []}, "no-rules", "spec.rules"),
    "a CUSTOM that never acts": (CUSTOM, "no-rules", "spec.rules"),
    "a CUSTOM that nobody decides": ({"action": "CUSTOM", "rules": [{}]}, "missing-provider", "spec.provider"),
    "a provider without a name": (
        {"action": "CUSTOM", "rules": [{}], "provider": {}},
        "missing-provider",
        "spec.provider",
    ),
    "a provider of an ALLOW": ({"provider": {"name": "opa"}}, "provider-without-custom", "spec.provider"),
    "principals with CUSTOM": ({**CUSTOM, **source(principals=["*"])}, "not-with-custom", f"{SOURCE}.principals"),
    "namespaces with CUSTOM": (
        {**CUSTOM, **source(notNamespaces=["a"])},
        "not-with-custom",
        f"{SOURCE}.notNamespaces",
    ),
    "service accounts with CUSTOM": (
        {**CUSTOM, **source(serviceAccounts=["a"])},
        "not-with-custom",
        f"{SOURCE}.serviceAccounts",
    ),
    "trust domains with CUSTOM": (
        {**CUSTOM, **source(trustDomains=["a"])},
        "not-with-custom",
        f"{SOURCE}.trustDomains",
    ),
    "request principals with CUSTOM": (
        {**CUSTOM, **source(requestPrincipals=["a"])},
        "not-with-custom",
        f"{SOURCE}.requestPrincipals",
    ),
    "a claim with CUSTOM": (
        {**CUSTOM, **when("request.auth.claims[iss]", "a")},
        "not-with-custom",
        "spec.rules[0].when[0].key",
    ),
    "a principal as condition of CUSTOM": (
        {**CUSTOM, **when("source.principal", "a")},
        "not-with-custom",
        "spec.rules[0].when[0].key",
    ),
    "from without a source": (rule(**{"from": [{}]}), "empty-source", "spec.rules[0].from[0]"),
    "a source of nothing": (source(), "empty-source", SOURCE),
    "a source of an empty list": (source(principals=[]), "empty-source", SOURCE),
    "an empty principal": (source(principals=["a", ""]), "empty-value", f"{SOURCE}.principals[1]"),
    "an empty namespace": (source(notNamespaces=[""]), "empty-value", f"{SOURCE}.notNamespaces[0]"),
    "an address with a letter": (source(ipBlocks=["1.2.3.x"]), "bad-value", f"{SOURCE}.ipBlocks[0]"),
    "an address with a leading zero": (source(ipBlocks=["01.2.3.4"]), "bad-value", f"{SOURCE}.ipBlocks[0]"),
    "a range of 33 bits": (source(notIpBlocks=["1.2.3.0/33"]), "bad-value", f"{SOURCE}.notIpBlocks[0]"),
    "a range with a netmask": (
        source(remoteIpBlocks=["1.2.3.0/255.255.255.0"]),
        "bad-value",
        f"{SOURCE}.remoteIpBlocks[0]",
    ),
    "a range of 08 bits": (source(notRemoteIpBlocks=["1.2.3.0/08"]), "bad-value", f"{SOURCE}.notRemoteIpBlocks[0]"),
    "a range within a zone": (source(ipBlocks=["fe80::1%eth0/64"]), "bad-value", f"{SOURCE}.ipBlocks[0]"),
    "an IPv4 address with a zone": (source(ipBlocks=["1.2.3.4%eth0"]), "bad-value", f"{SOURCE}.ipBlocks[0]"),
    "a service account with a wildcard": (
        source(serviceAccounts=["prod/*"]),
        "bad-value",
        f"{SOURCE}.serviceAccounts[0]",
    ),
    "a service account in two namespaces": (
        source(serviceAccounts=["a/b/c"]),
        "bad-value",
        f"{SOURCE}.serviceAccounts[0]",
    ),
    "a service account in no namespace": (
        source(notServiceAccounts=["/a"]),
        "bad-value",
        f"{SOURCE}.notServiceAccounts[0]",
    ),
    "a service account without a name": (source(serviceAccounts=["a/"]), "bad-value", f"{SOURCE}.serviceAccounts[0]"),
    "a service account of 321 characters": (
        source(serviceAccounts=["a" * 321]),
        "bad-value",
        f"{SOURCE}.serviceAccounts[0]",
    ),
    "seventeen service accounts": (source(serviceAccounts=["a"] * 17), "too-many", f"{SOURCE}.serviceAccounts"),
    "service accounts and namespaces": (
        source(serviceAccounts=["a"], namespaces=["b"]),
        "service-accounts-and-others",
        f"{SOURCE}.namespaces",
    ),
    "service accounts and not principals": (
        source(notServiceAccounts=["a"], notPrincipals=["b"]),
        "service-accounts-and-others",
        f"{SOURCE}.notPrincipals",
    ),
    "a trust domain with a path": (source(trustDomains=["a/b"]), "bad-value", f"{SOURCE}.trustDomains[0]"),
    "a trust domain with * in the middle": (source(trustDomains=["a*b"]), "bad-value", f"{SOURCE}.trustDomains[0]"),
    "a trust domain with two *": (source(notTrustDomains=["*a*"]), "bad-value", f"{SOURCE}.notTrustDomains[0]"),
    "to without an operation": (rule(to=[{}]), "empty-operation", "spec.rules[0].to[0]"),
    "an operation of nothing": (operation(), "empty-operation", OPERATION),
    "a port with a name": (operation(ports=["http"]), "bad-value", f"{OPERATION}.ports[0]"),
    "a port with a wildcard": (operation(ports=["80*"]), "bad-value", f"{OPERATION}.ports[0]"),
    "a port with a sign": (operation(notPorts=["+80"]), "bad-value", f"{OPERATION}.notPorts[0]"),
    "a port of 65536": (operation(ports=["65536"]), "bad-value", f"{OPERATION}.ports[0]"),
    "an empty method": (operation(methods=[""]), "empty-value", f"{OPERATION}.methods[0]"),
    "an empty host": (operation(notHosts=[""]), "empty-value", f"{OPERATION}.notHosts[0]"),
    "a template after {**}": (operation(paths=["/{**}/{*}"]), "bad-value", f"{OPERATION}.paths[0]"),
    "a named template": (operation(paths=["/users/{id}"]), "bad-value", f"{OPERATION}.paths[0]"),
    "a template within a segment": (operation(notPaths=["/users/a{*}"]), "bad-value", f"{OPERATION}.notPaths[0]"),
    "a wildcard beside a template": (operation(paths=["/users/{*}/a*"]), "bad-value", f"{OPERATION}.paths[0]"),
    "an empty segment in a template": (operation(paths=["/a//{*}"]), "bad-value", f"{OPERATION}.paths[0]"),
    "a condition without key": (when("", "a"), "missing-key", "spec.rules[0].when[0].key"),
    "a condition of nothing": (when("source.ip"), "empty-condition", "spec.rules[0].when[0]"),
    "an unknown attribute": (when("source.port", "1"), "bad-key", "spec.rules[0].when[0].key"),
    "a header without a name": (when("request.headers", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "a header with an empty name": (when("request.headers[]", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "a claim in open brackets": (when("request.auth.claims[a", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "a label of the destination": (when("destination.labels[app]", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "the destination's name": (when("destination.name", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "the destination's namespace": (when("destination.namespace", "a"), "bad-key", "spec.rules[0].when[0].key"),
    "an empty value of a condition": (when("source.namespace", ""), "empty-value", "spec.rules[0].when[0].values[0]"),
    "a condition's bad address": (when("remote.ip", "1.2.3"), "bad-value", "spec.rules[0].when[0].values[0]"),
    "a condition's bad port": (
        when("destination.port", notValues=["a"]),
        "bad-value",
        "spec.rules[0].when[0].notValues[0]",
    ),
    "a condition's bad trust domain": (
        when("source.trustDomain", "*a*"),
        "bad-value",
        "spec.rules[0].when[0].values[0]",
    ),
    "a condition's bad account": (when("source.serviceAccount", "*"), "bad-value", "spec.rules[0].when[0].values[0]"),
    "selector and targetRefs": (
        {"selector": {"matchLabels": {"a": "b"}}, "targetRefs": [{"kind": "Service", "name": "a"}]},
        "several-targets",
        "spec.targetRefs",
    ),
    "targetRef and targetRefs": (
        {"targetRef": {"kind": "Service", "name": "a"}, "targetRefs": [{"kind": "Service", "name": "a"}]},
        "several-targets",
        "spec.targetRefs",
    ),
    "a wildcard in a label": (
        {"selector": {"matchLabels": {"app": "a*"}}},
        "wildcard-label",
        "spec.selector.matchLabels.app",
    ),
    "a label without key": ({"selector": {"matchLabels": {"": "a"}}}, "bad-label", 'spec.selector.matchLabels[""]'),
    "a target of another namespace": (
        {"targetRef": {"kind": "Service", "name": "a", "namespace": "b"}},
        "target-namespace",
        "spec.targetRef.namespace",
    ),
    "a target without a name": (
        {"targetRefs": [{"kind": "Service", "name": ""}]},
        "missing-name",
        "spec.targetRefs[0].name",
    ),
    "a Deployment as target": (
        {"targetRefs": [{"kind": "Deployment", "group": "apps", "name": "a"}]},
        "bad-target",
        "spec.targetRefs[0].kind",
    ),
    "a Gateway without its group": (
        {"targetRefs": [{"kind": "Gateway", "name": "a"}]},
        "bad-target",
        "spec.targetRefs[0].group",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(what):
    spec, code, path = REFUSED[what]
    assert refusals("AuthorizationPolicy", spec) == [(code, path)]


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing: all is refused": {},
    "an empty rule: all is allowed": {"rules": [{}]},
    "no rules at all in an ALLOW": {"rules": []},
    "a CUSTOM with an empty rule": {**CUSTOM, "rules": [{}]},
    "addresses and hosts with CUSTOM": {**CUSTOM, **source(ipBlocks=["1.2.3.4"])},
    "an empty list of sources": rule(**{"from": []}),
    "ranges": source(ipBlocks=["10.0.0.0/8", "10.1.2.3/8", "2001:db8::/32", "::1", "1.2.3.4", "0.0.0.0/0"]),
    "an address in a zone": source(ipBlocks=["fe80::1%eth0"]),
    "service accounts": source(serviceAccounts=["a", "prod/a"], requestPrincipals=["*"]),
    "trust domains": source(trustDomains=["cluster.local", "*", "*.example.com", "td-*"]),
    "principals as they are": source(principals=["*", "a*", "*a", "a*b"]),
    "ports": operation(ports=["0", "80", "0080", "65535"]),
    "paths": operation(paths=["/a", "/a*", "*a", "/{*}", "/a/{*}/b", "/a/{**}", "/a/{*}/{**}/b", "/a b"]),
    "hosts and methods": operation(hosts=["*.example.com"], methods=["GET", "BREW", "*"]),
    "attributes": {
        "rules": [
            {"when": [{"key": key, "values": [value]}]}
            for key, value in (
                ("request.headers[User-Agent]", "*"),
                ("source.ip", "1.2.3.0/24"),
                ("remote.ip", "::1"),
                ("source.namespace", "a"),
                ("source.serviceAccount", "a/b"),
                ("source.principal", "a"),
                ("source.trustDomain", "a/*"),
                ("request.auth.principal", "a"),
                ("request.auth.audiences", "a"),
                ("request.auth.presenter", "a"),
                ("request.auth.claims[a][b]", "a"),
                ("destination.ip", "1.2.3.4"),
                ("destination.port", "80"),
                ("connection.sni", "a"),
                ("experimental.envoy.filters.a.b[c]", "a"),
            )
        ]
    },
    "targets": {
        "targetRefs": [
            {"kind": "Service", "name": "a"},
            {"kind": "Service", "group": "core", "name": "a"},
            {"kind": "ServiceEntry", "group": "networking.istio.io", "name": "a"},
            {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "a"},
            {"kind": "GatewayClass", "group": "gateway.networking.k8s.io", "name": "a"},
        ]
    },
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what):
    assert refusals("AuthorizationPolicy", ACCEPTED[what]) == []


def test_every_error_of_a_policy_is_told_at_once_each_at_its_line_and_column():
    text = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ops}
spec:
  action: DENY
  rules:
  - from:
    - source:
        ipBlocks: [10.0.0.0/8, 10.0.0.0/80]
    to:
    - operation:
        ports: ["8080"]
        paths: ["/{id}"]
"""
    found = load_text(text, "ops.yaml").problems
    assert [(p.code, p.line, p.column) for p in found] == [("bad-value", 9, 32), ("bad-value", 13, 17)]
    assert found[0].hint == "for example 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"


def test_a_dry_run_is_true_or_false_and_for_allow_and_deny():
    def judged(value: str, **spec: Any) -> list[tuple[str, str]]:
        return refusals("AuthorizationPolicy", spec, annotations={"istio.io/dry-run": value})

    assert judged("true") == judged("F", action="DENY", rules=[{}]) == []
    place = 'metadata.annotations["istio.io/dry-run"]'
    assert judged("yes") == [("dry-run", place)]
    assert judged("true", **CUSTOM, rules=[{}]) == [("dry-run", place)]
    assert refusals("PeerAuthentication", {}, annotations={"istio.io/dry-run": "true"}) == [("dry-run", place)]


@pytest.mark.parametrize("name", ["webhook-always-reject", "parent-namespace", "parents"])
def test_annotations_of_istio_itself_are_not_for_users(name):
    found = refusals("VirtualService", {"http": [{"directResponse": {"status": 200}}]},
                     annotations={f"internal.istio.io/{name}": "a"})  # fmt: skip
    assert found == [("internal-annotation", f'metadata.annotations["internal.istio.io/{name}"]')]


def test_a_deny_that_http_alone_can_match_is_warned_of_for_it_closes_tcp_ports():
    deny = {"action": "DENY"}
    at = [("deny-all-tcp", "spec.rules[0]")]
    assert warnings("AuthorizationPolicy", {**deny, **operation(paths=["/a"])}) == at
    assert warnings("AuthorizationPolicy", {**deny, **source(requestPrincipals=["a"])}) == at
    assert warnings("AuthorizationPolicy", {**deny, **operation(paths=["/a"], ports=["80"])}) == []
    assert warnings("AuthorizationPolicy", {**deny, **source(principals=["a"])}) == []
    assert warnings("AuthorizationPolicy", operation(paths=["/a"])) == []


def test_a_selector_without_labels_is_warned_of():
    assert warnings("AuthorizationPolicy", {"selector": {}}) == [("empty-selector", "spec.selector")]
