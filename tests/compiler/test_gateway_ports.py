"""What a gateway listens on, and what is said of resources that do not fit."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.snapshot import Snapshot
from meshlib.resources.loader import load_objects, load_text
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import INGRESS, gateway, server
from tests.support.resources import pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1)]


def compiled(*resources: dict[str, Any], choice: GatewayChoice = GatewayChoice()) -> Snapshot:
    result = load_objects([*BASE, *resources])
    assert not result.errors, result.errors
    return Compiler(INGRESS, gateways=choice).compile(result.resources)


def said(snapshot: Snapshot, code: str) -> list[str]:
    return [problem.message for problem in snapshot.problems if problem.code == code]


def bound(*hosts: str, name: str = "vs", gateways: tuple[str, ...] = ("gw",), **spec: Any) -> dict[str, Any]:
    rules = [] if spec else [{"route": [to("reviews")]}]
    return virtual_service(name, *rules, hosts=list(hosts), gateways=list(gateways), **spec)


def tls(*hosts: str, name: str = "", protocol: str = "HTTPS", **settings: Any) -> dict[str, Any]:
    return server(*hosts, port=443, protocol=protocol, name=name or hosts[0].strip("*."), tls=settings)


PASSED = {"mode": "PASSTHROUGH"}


def test_servers_of_http_share_a_port_and_its_hosts():
    made = compiled(
        gateway(server("a.test"), server("b.test", protocol="HTTP2", name="two")),
        gateway(server("c.test"), name="other"),
        bound("a.test", "b.test"),
        bound("c.test", name="vs2", gateways=("other",)),
    )
    (port,) = made.gateway.values()
    assert port.plain is not None
    assert port.plain.http is not None
    assert sorted(port.plain.http.plain.names) == ["a.test", "b.test", "c.test"]
    assert made.problems == ()


def test_a_server_that_cannot_share_a_port_is_left_out_and_told_of():
    made = compiled(
        gateway(server("a.test"), server("*", protocol="TCP", name="tcp"), server("a.test", port=443)),
        gateway(tls("x.test", credentialName="x", mode="SIMPLE"), name="later"),
        bound("a.test"),
    )
    assert [message.partition(" (<memory>")[0] for message in said(made, "conflicting-server")] == [
        "Gateway/default/gw servers[1] (TCP) is not served: port 80 is HTTP of Gateway/default/gw servers[0]",
        "Gateway/default/later servers[0] (HTTPS) is not served: port 443 is HTTP of Gateway/default/gw servers[2]",
    ]


def test_a_host_is_one_servers_of_a_port_over_tls():
    made = compiled(
        tls_secret("x", leaf("x.test")),
        gateway(tls("x.test", credentialName="x", mode="SIMPLE")),
        gateway(tls("x.test", "y.test", credentialName="x", mode="SIMPLE"), name="later"),
        bound("x.test"),
    )
    (message,) = said(made, "duplicate-host")
    assert (
        "Gateway/default/later servers[0] is not served: x.test on port 443 is taken by Gateway/default/gw" in message
    )
    assert [chain.server for chain in made.gateway["", 443].chains] == ["Gateway/default/gw servers[0]"]


def test_other_addresses_are_other_listeners():
    made = compiled(
        gateway(server("*", bind="127.0.0.1"), server("*", name="two", bind="127.0.0.2", protocol="TCP")),
        bound("a.test"),
    )
    assert sorted(made.gateway) == [("127.0.0.1", 80), ("127.0.0.2", 80)]
    assert said(made, "conflicting-server") == []


def test_problems_say_where():
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingress}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["shop.test"]
    tls:
      mode: SIMPLE
      credentialName: shop
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  gateways: [gw]
  hosts:
  - other.test
  http: [{directResponse: {status: 200}}]
"""
    result = load_text(text, "gw.yaml")
    made = Compiler(INGRESS, gateways=GatewayChoice()).compile(result.resources)
    found = {p.code: (p.file, p.line, p.path) for p in made.problems}
    assert found["certificate-missing"][0] == found["host-not-in-gateway"][0] == "gw.yaml"
    assert found["certificate-missing"][2] == "Gateway/default/gw spec.servers[0].tls.credentialName"
    (message,) = said(made, "host-not-in-gateway")
    assert message.startswith("it is bound to Gateway/default/gw, which lists none of its hosts (other.test)")


SWAPPED = {
    "tls.crt": base64.b64encode(b"-----BEGIN PRIVATE KEY-----").decode(),
    "tls.key": base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode(),
}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "there is no Secret default/shop among the resources"),
        ({"token": "eA=="}, "Secret default/shop has neither tls.crt and tls.key nor cert and key (it has token)"),
        ({"tls.crt": "eA==", "tls.key": "eA=="}, "the certificate of Secret default/shop is not PEM"),
        (SWAPPED, "certificate and private key of Secret default/shop are swapped"),
        ({"tls.crt": "%", "tls.key": "eA=="}, "tls.crt of Secret default/shop is not valid base64"),
    ],
)
def test_a_credential_that_cannot_be_used_says_why(data, why):
    there = [] if data is None else [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop"}, "data": data}]
    made = compiled(*there, gateway(tls("shop.test", credentialName="shop", mode="SIMPLE")), bound("shop.test"))
    assert said(made, "certificate-missing") == [f"Gateway/default/gw servers[0] is not served: {why}"]
    assert made.gateway["", 443].chains[0].refusal == why
    hints = [each.hint for each in made.problems if each.code == "certificate-missing"]
    assert not any(hint.startswith("put the Secret") for hint in hints if data is not None)  # it is there


def test_the_gateways_that_are_named_are_served_and_no_others():
    resources = gateway(server("a.test")), gateway(server("a.test", port=81), name="other"), bound("a.test")
    assert sorted(compiled(*resources).gateway) == [("", 80), ("", 81)]
    assert list(compiled(*resources, choice=GatewayChoice(("default/other",))).gateway) == [("", 81)]
    made = compiled(*resources, choice=GatewayChoice(("default/none",)))
    assert (made.gateway, said(made, "gateway-missing")) == (
        {},
        ["there is no Gateway default/none among the resources: nothing is listened on for it"],
    )


def test_a_port_is_listened_on_where_the_workloads_service_sends_it():
    edge = service("edge", ports=[{"name": "http", "port": 80, "targetPort": 8080}])
    edge["spec"]["selector"] = {"istio": "ingress"}
    made = compiled(edge, gateway(server("a.test"), server("a.test", port=8443)), bound("a.test"))
    assert {place: port.server_port for place, port in made.gateway.items()} == {("", 8080): 80, ("", 8443): 8443}


def test_what_a_server_over_tls_passes_through_is_by_the_names_of_tls_rules():
    rules = [
        {"match": [{"sniHosts": ["a.test", "b.test"]}], "route": [to("reviews")]},
        {"match": [{"sniHosts": ["b.test"]}], "route": [to("reviews")]},
        {"match": [{"sniHosts": ["c.test"], "port": 444}], "route": [to("reviews")]},
    ]
    made = compiled(gateway(tls("*.test", protocol="TLS", **PASSED)), bound("*.test", tls=rules))
    assert [chain.snis for chain in made.gateway["", 443].chains] == [("a.test", "b.test")]
    assert [m.partition(" at ")[0] for m in said(made, "duplicate-host")] == ["b.test"]


def test_what_is_not_served_yet_is_said():
    unix = server("*", name="u", bind="unix:///tmp/x", port=0)
    made = compiled(gateway(unix), bound("a.test"))
    assert made.gateway == {}
    assert [message.partition(":")[0] for message in said(made, "no-effect")] == [
        "Gateway/default/gw servers[0] is bound to unix",
    ]


def test_virtual_services_that_are_not_exported_to_the_gateway_do_not_count():
    away = bound("a.test", gateways=("default/gw",), exportTo=["."], http=[{"route": [to("reviews")]}])
    away["metadata"]["namespace"] = "away"
    made = compiled(gateway(server("a.test")), away)
    assert made.gateway["", 80].plain.http.plain.names == {}
