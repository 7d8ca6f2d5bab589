"""What the API server refuses by Istio's CRDs, beyond types, is refused at load too: a file that passes here can be applied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshlib.resources.crd import schema
from meshlib.resources.crd.rules import RULES
from meshlib.resources.crd.schema import crd_refusals
from meshlib.resources.hints import dotted
from meshlib.resources.loader import load_text
from tests.support.crd_schemas import FILE, digest_of, schemas_in, table
from tests.support.schema import REFERENCE
from tests.support.verdicts import refusals

URL = {"url": "oci://registry.example.com/plugin:1"}
ENTRY = {"address": "10.0.0.1"}
SERVICE = {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
TO = {"destination": {"host": "a"}}


def se(**fields: Any) -> dict[str, Any]:
    return {**SERVICE, **fields}


def policy(**fields: Any) -> dict[str, Any]:
    return {"host": "a", "trafficPolicy": fields}


def group(**fields: Any) -> dict[str, Any]:
    return {"template": {"serviceAccount": "a"}, **fields}


REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a cluster size of 0": (
        "DestinationRule",
        policy(loadBalancer={"zoneAwareLbSetting": {"minClusterSize": 0}}),
        "crd-bounds",
        "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.minClusterSize",
    ),
    "a share above 100": (
        "DestinationRule",
        policy(retryBudget={"percent": 100.5}),
        "crd-bounds",
        "spec.trafficPolicy.retryBudget.percent",
    ),
    "a cookie without a name": (
        "DestinationRule",
        policy(loadBalancer={"consistentHash": {"httpCookie": {"ttl": "0s"}}}),
        "crd-required",
        "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name",
    ),
    "an empty claim": (
        "RequestAuthentication",
        {"jwtRules": [{"issuer": "a", "spaceDelimitedClaims": ["b", ""]}]},
        "crd-length",
        "spec.jwtRules[0].spaceDelimitedClaims[1]",
    ),
    "jwks twice": (
        "RequestAuthentication",
        {"jwtRules": [{"issuer": "a", "jwks": '{"keys": []}', "jwksUri": "https://a/b"}]},
        "crd-rule",
        "spec.jwtRules[0].jwksUri",
    ),
    "an empty secret's name": ("WasmPlugin", {**URL, "imagePullSecret": ""}, "crd-length", "spec.imagePullSecret"),
    "an empty plugin's name": (
        "TrafficExtension",
        {"wasm": {**URL, "pluginName": ""}},
        "crd-length",
        "spec.wasm.pluginName",
    ),
    "a port twice": (
        "WasmPlugin",
        {**URL, "match": [{"ports": [{"number": 80}, {"number": 80}]}]},
        "crd-duplicate",
        "spec.match[0].ports[1].number",
    ),
    "an empty value from the host": (
        "WasmPlugin",
        {**URL, "vmConfig": {"env": [{"name": "a", "valueFrom": "HOST", "value": ""}]}},
        "crd-rule",
        "spec.vmConfig.env[0].value",
    ),
    "a waypoint without its context": (
        "EnvoyFilter",
        {"configPatches": [{"applyTo": "BOOTSTRAP", "match": {"waypoint": {}}, "patch": {"operation": "REMOVE"}}]},
        "crd-rule",
        "spec.configPatches[0].match.waypoint",
    ),
    "a waypoint's context without it": (
        "EnvoyFilter",
        {"configPatches": [{"match": {"context": "WAYPOINT"}}]},
        "crd-rule",
        "spec.configPatches[0].match",
    ),
    "two targets of a filter": (
        "EnvoyFilter",
        {"workloadSelector": {"labels": {"a": "b"}}, "targetRefs": [{"kind": "Service", "name": "a"}]},
        "crd-rule",
        "spec.targetRefs",
    ),
    "a target of a bad name": (
        "EnvoyFilter",
        {"targetRefs": [{"kind": "Serv_ice", "name": "a", "group": "A"}]},
        "crd-pattern",
        "spec.targetRefs[0].kind",
    ),
    "an empty tag": (
        "Telemetry",
        {"tracing": [{"customTags": {"a": {"formatter": {"value": ""}}}}]},
        "crd-length",
        "spec.tracing[0].customTags.a.formatter.value",
    ),
    "two values of a tag": (
        "Telemetry",
        {"tracing": [{"customTags": {"a": {"literal": {"value": "b"}, "header": {"name": "c"}}}}]},
        "crd-one-of",
        "spec.tracing[0].customTags.a.header",
    ),
    "an empty value of a removed tag": (
        "Telemetry",
        {"metrics": [{"overrides": [{"tagOverrides": {"a": {"operation": "REMOVE", "value": ""}}}]}]},
        "crd-rule",
        "spec.metrics[0].overrides[0].tagOverrides.a.value",
    ),
    "an entry nowhere": ("WorkloadEntry", {}, "crd-rule", "spec"),
    "a socket that is a folder": ("WorkloadEntry", {"address": "unix:///a/"}, "crd-rule", "spec.address"),
    "a socket of a relative path": ("WorkloadEntry", {"address": "unix://a"}, "crd-rule", "spec.address"),
    "a socket with ports": ("WorkloadEntry", {"address": "unix://@a", "ports": {"http": 80}}, "crd-rule", "spec.ports"),
    "a port's name with @": ("WorkloadEntry", {**ENTRY, "ports": {"@": 80}}, "crd-rule", 'spec.ports["@"]'),
    "a port of 99999": ("WorkloadEntry", {**ENTRY, "ports": {"http": 99999}}, "crd-rule", "spec.ports.http"),
    "a probe of no port": (
        "WorkloadGroup",
        group(probe={"tcpSocket": {"port": 65536}}),
        "bad-port",
        "spec.probe.tcpSocket.port",
    ),
    "a probe of another scheme": (
        "WorkloadGroup",
        group(probe={"httpGet": {"port": 80, "scheme": "http"}}),
        "crd-rule",
        "spec.probe.httpGet.scheme",
    ),
    "a probe's bad header": (
        "WorkloadGroup",
        group(probe={"httpGet": {"port": 80, "httpHeaders": [{"name": "**", "value": "a"}]}}),
        "crd-pattern",
        "spec.probe.httpGet.httpHeaders[0].name",
    ),
    "a wildcard in a service's selector": (
        "ServiceEntry",
        se(workloadSelector={"labels": {"a": "*"}}, resolution="STATIC"),
        "crd-rule",
        "spec.workloadSelector.labels.a",
    ),
    "a target port of 0, which istiod takes for none": (
        "ServiceEntry",
        se(ports=[{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 0}], resolution="DNS"),
        "crd-rule",
        "spec.ports[0].targetPort",
    ),
    "too many addresses": (
        "ServiceEntry",
        se(addresses=[f"10.0.{n // 256}.{n % 256}" for n in range(257)], resolution="STATIC"),
        "crd-length",
        "spec.addresses",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(what):
    kind, spec, code, path = REFUSED[what]
    assert refusals(kind, spec)
    by_crd = [(notice.code, dotted(notice.loc)) for notice in crd_refusals(kind, spec)]
    assert (code, path) in [*refusals(kind, spec), *by_crd]


ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "an entry of a network": ("WorkloadEntry", {"network": "vm"}),
    "an abstract socket": ("WorkloadEntry", {"address": "unix://@a"}),
    "a probe": ("WorkloadGroup", group(probe={"httpGet": {"port": 80, "scheme": "HTTPS"}})),
    "a waypoint": ("EnvoyFilter", {"configPatches": [{"match": {"context": "WAYPOINT", "waypoint": {"portNumber": 80}}}]}),
    "ranges": ("ServiceEntry", se(addresses=["10.0.0.0/8"])),
    "a target": ("AuthorizationPolicy", {"targetRefs": [{"kind": "Service", "name": "a", "group": ""}]}),
    "rules": ("VirtualService", {"hosts": ["a"], "http": [{"route": [TO], "match": [{"uri": {"exact": "/"}}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what):
    kind, spec = ACCEPTED[what]
    assert refusals(kind, spec) == []


def test_a_mistake_that_istio_refuses_too_is_told_once_in_istios_words():
    assert refusals("PeerAuthentication", {"portLevelMtls": {"0": {}}, "selector": {"matchLabels": {"a": "b"}}}) == [
        ("bad-port", "spec.portLevelMtls.0")
    ]


def test_a_mistake_is_found_at_its_line_and_column():
    text = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec:
  address: 10.0.0.1
  ports: {http: 80, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": 81}
"""
    (found,) = load_text(text, "vm.yaml").problems
    assert (found.code, found.line, found.column) == ("crd-rule", 6, 21)
    assert found.hint == "letters, digits and dashes, at most 62"


def test_a_rule_is_not_looked_at_where_nothing_can_be_wrong():
    """30,000 rules are loaded as quickly as ever: of a plain rule only what has bounds is looked at."""
    looked: list[Any] = []

    def counted(node: schema.Node, value: Any, loc: Any) -> None:
        looked.append(loc)
        for key, inside in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        ):
            there = node.items if isinstance(value, list) else node.fields.get(key, node.values)
            if there is not None:
                counted(there, inside, (*loc, key))

    rule = {"name": "a", "route": [TO], "match": [{"uri": {"prefix": "/a"}}], "rewrite": {"uri": "/"}}
    counted(schema._kinds()["VirtualService"], {"hosts": ["a"], "http": [rule]}, ("spec",))
    assert len(looked) <= 10


def test_every_rule_that_the_table_names_has_a_check():
    named = {digest for node in json.loads(FILE.read_text())["nodes"] for digest in node.get("rules", ())}
    assert named <= set(RULES)


def test_every_cel_rule_of_the_reference_has_a_check_and_no_check_is_for_a_rule_that_is_gone():
    if not REFERENCE.exists():
        pytest.skip("the reference schema is not beside this clone")
    found: set[str] = set()

    def look(schema: Any) -> None:
        if isinstance(schema, dict):
            found.update(digest_of(rule["rule"]) for rule in schema.get("x-kubernetes-validations", ()))
        for inside in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            look(inside)

    look(schemas_in(REFERENCE.read_text()))
    assert found == set(RULES)


def test_the_table_is_that_of_the_reference():
    if not REFERENCE.exists():
        pytest.skip("the reference schema is not beside this clone")
    assert json.loads(FILE.read_text()) == table(schemas_in(REFERENCE.read_text()))


def test_the_table_is_made_of_crds_too():
    crd = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  names: {kind: Thing}
  versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        properties:
          spec:
            properties:
              name: {type: string, maxLength: 3}
              more: {type: string}
"""
    assert table(schemas_in(crd)) == {"kinds": {"Thing": 1}, "nodes": [{"maxLength": 3}, {"fields": {"name": 0}}]}
