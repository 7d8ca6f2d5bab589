"""What is said of Gateways among resources, whoever serves them: the same as ``meshlib proxy --check`` says."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler import gateway_problems as module
from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.gateway_problems import gateway_problems
from meshlib.problems import Severity
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import gateway, server
from tests.support.resources import pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1)]
SECURE = {"mode": "SIMPLE", "credentialName": "cert"}


def said(*resources: dict[str, Any]):
    result = load_objects([*BASE, *resources])
    assert not result.errors, result.errors
    return gateway_problems(result.resources)


def bound(*hosts: str, gateways: tuple[str, ...] = ("gw",)) -> dict[str, Any]:
    return virtual_service("vs", {"route": [to("reviews")]}, hosts=list(hosts), gateways=list(gateways))


def of(name: str, *servers: dict[str, Any], **selector: str) -> dict[str, Any]:
    made = gateway(*servers, name=name)
    return {**made, "spec": {**made["spec"], **({"selector": selector} if selector else {})}}


PROBLEMS = [
    ("conflicting-server", [gateway(server("a.test"), server("b.test", protocol="TCP", name="tcp")), bound("a.test")]),
    (
        "duplicate-host",
        [
            gateway(server("a.test", port=443, protocol="HTTPS", tls=SECURE)),
            of("other", server("a.test", port=443, protocol="HTTPS", tls=SECURE)),
            tls_secret("cert", leaf("a.test")),
        ],
    ),
    (
        "certificate-missing",
        [
            gateway(server("a.test", port=443, protocol="HTTPS", tls=SECURE)),
            tls_secret("another", leaf("a.test")),
        ],
    ),
    ("host-not-in-gateway", [gateway(server("a.test")), bound("b.test")]),
    ("no-routes", [gateway(server("a.test", port=7000, protocol="TCP")), bound("a.test")]),
]


@pytest.mark.parametrize(("code", "resources"), PROBLEMS, ids=[row[0] for row in PROBLEMS])
def test_they_are_those_of_the_gateway_itself(code, resources):
    found = said(*resources)
    assert code in [each.code for each in found]
    workload = Workload("gateway", namespace="default", labels={"istio": "ingress"})
    snapshot = Compiler(workload, gateways=GatewayChoice()).compile(load_objects([*BASE, *resources]).resources)
    assert set(found) <= set(snapshot.problems)


def test_gateways_of_other_workloads_are_not_in_each_others_way():
    secure = server("a.test", port=443, protocol="HTTPS", tls=SECURE)
    one, other = of("one", secure, istio="one"), of("other", secure, istio="other")
    assert said(one, other, tls_secret("cert", leaf("a.test"))) == []


def test_a_secret_is_looked_for_where_the_workload_is():
    edge = {**pod("edge", "v1", 2, namespace="edge"), "spec": {"containers": [{"name": "proxy"}]}}
    secure = of("gw", server("a.test", port=443, protocol="HTTPS", tls=SECURE), app="edge")
    assert said(secure, edge, tls_secret("cert", leaf("a.test"), namespace="edge")) == []
    (problem,) = said(secure, edge, tls_secret("cert", leaf("a.test")))
    assert "edge/cert" in problem.message


def test_where_there_are_no_secrets_at_all_a_missing_one_is_a_notice():
    (problem,) = said(gateway(server("a.test", port=443, protocol="HTTPS", tls=SECURE)))
    assert (problem.code, problem.severity) == ("certificate-missing", Severity.NOTICE)


def test_a_secret_that_is_for_servers_alone_is_none_for_a_server_that_asks_clients():
    mutual = server("a.test", port=443, protocol="HTTPS", tls={**SECURE, "mode": "MUTUAL"})
    (problem,) = said(gateway(mutual), tls_secret("cert", leaf("a.test")))
    assert (problem.code, problem.severity) == ("certificate-missing", Severity.WARNING)


def test_ingresses_are_looked_at_without_any_gateway():
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "istio"}},
        "spec": {"rules": [{"host": "a.test"}]},
    }
    assert [each.path for each in said(ingress)] == ["Ingress/default/i spec.rules[0]"]


def test_of_very_many_it_says_that_some_were_not_looked_at(monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    found = said(*(of(f"gw{n}", server("a.test"), istio=str(n)) for n in range(5)))
    assert [each.code for each in found] == ["gateways-not-checked"]
    assert "3 more selectors" in found[0].message
