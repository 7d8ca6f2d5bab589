"""Gateways: workloads, ports, secrets, certificates, and other gateways."""

from __future__ import annotations

import base64

from tests.support.analysis import expect


def gateway(name: str, selector: str, *servers: str, namespace: str = "default") -> str:
    lines = "\n".join(f"  - {server}" for server in servers)
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector:
    {selector}
  servers:
{lines}
---
"""


def server(port: int, hosts: str = "[shop.example]", more: str = "") -> str:
    return f"port: {{number: {port}, name: http-{port}, protocol: HTTP}}\n    hosts: {hosts}\n    {more}"


POD = """
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: infra, labels: {app: edge, track: canary}}
spec: {containers: [{name: proxy}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: infra}
spec: {selector: {app: edge}, ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]}
---
"""


def test_a_selector_that_finds_no_workload():
    text = POD + gateway("edge", "app: egde  # IST0101", server(80))
    (found,) = expect(text, "IST0101", "IST0162")
    assert found.hint == "did you mean app: edge?"


def test_istios_own_ingress_gateway_is_taken_to_be_there():
    expect(gateway("edge", "istio: ingressgateway", server(80), server(443)), "IST0101", "IST0162")
    (found,) = expect(gateway("edge", "istio: ingresgateway  # IST0101", server(80)), "IST0101")
    assert found.hint == "did you mean istio: ingressgateway?"


def test_a_port_that_no_service_before_the_workload_has():
    servers = (
        server(80),
        server(8080),
        "port:\n      number: 9000  # IST0162\n      name: x\n      protocol: HTTP\n    hosts: [a.example]",
    )
    (found,) = expect(POD + gateway("edge", "app: edge", *servers), "IST0101", "IST0162")
    assert found.hint == "ports there: 80, 8080"


def test_udp_ports_are_not_counted():
    bad = "port:\n      number: 53  # IST0162\n      name: x\n      protocol: HTTP\n    hosts: [a.example]"
    expect(POD + gateway("edge", "app: edge", bad), "IST0162")


def test_gateways_of_the_same_port_host_and_workload_are_in_each_others_way():
    one, other = server(80, "[a.example, b.example]  # IST0145"), server(80, "[b.example]  # IST0145")
    expect(gateway("one", "istio: ingressgateway", one) + gateway("other", "istio: ingressgateway", other), "IST0145")


def test_gateways_of_other_ports_hosts_or_binds_are_not():
    for other in (server(443), server(80, "[b.example]"), server(80, more="bind: 10.0.0.1")):
        text = gateway("one", "istio: ingressgateway", server(80)) + gateway("other", "istio: ingressgateway", other)
        expect(text, "IST0145")


def test_a_narrower_selector_is_for_the_same_workloads_when_one_has_both_labels():
    conflicting = server(80, "[a.example]  # IST0145")
    both = gateway("one", "app: edge", conflicting) + gateway("other", "{app: edge, track: canary}", conflicting)
    expect(POD + both, "IST0145")
    free = server(80, "[a.example]")
    expect(POD + gateway("one", "app: edge", free) + gateway("other", "{app: edge, track: stable}", free), "IST0145")
    expect(POD + gateway("one", "app: edge", free) + gateway("other", "track: canary", free), "IST0145")


def secret(name: str, namespace: str, certificate: str, key: str = "x") -> str:
    encoded = base64.b64encode(certificate.encode()).decode()
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
type: kubernetes.io/tls
data: {{tls.crt: "{encoded}", tls.key: "{base64.b64encode(key.encode()).decode()}"}}
---
"""


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def tls(name: str) -> str:
    return server(80, more=f"tls:\n      mode: SIMPLE\n      credentialName: {name}")


def test_a_secret_is_looked_for_where_the_workload_runs():
    expect(
        POD + secret("shop-cert", "infra", PEM) + gateway("edge", "app: edge", tls("shop-cert")), "IST0101", "IST0161"
    )
    text = POD + secret("shop-cert", "default", PEM) + gateway("edge", "app: edge", tls("shop-cert  # IST0101"))
    (found,) = expect(text, "IST0101", "IST0161")
    assert found.hint.startswith("there is one in namespace default")
    text = POD + secret("shop-cert", "infra", PEM) + gateway("edge", "app: edge", tls("shop-crt  # IST0101"))
    (found,) = expect(text, "IST0101")
    assert found.hint == "did you mean shop-cert?"


def test_without_any_secret_nothing_is_known_of_them():
    expect(POD + gateway("edge", "app: edge", tls("shop-cert")), "IST0101")


def test_a_secret_without_certificate_or_key():
    for wrong in (secret("c", "infra", "no certificate"), secret("c", "infra", PEM, ""), secret("c", "infra", "")):
        expect(POD + wrong + gateway("edge", "app: edge", tls("c  # IST0161")), "IST0101", "IST0161")


def test_the_same_certificate_in_two_gateways():
    text = gateway("one", "istio: ingressgateway", server(80, more="tls:  # IST0138\n      credentialName: shop"))
    text += gateway("other", "istio: ingressgateway", server(80, more="tls:  # IST0138\n      credentialName: shop"))
    expect(text, "IST0138")
    text = gateway("one", "istio: ingressgateway", tls("shop")) + gateway("other", "app: edge", tls("shop"))
    expect(text + gateway("third", "istio: ingressgateway", tls("bank")), "IST0138")


def test_a_gateway_without_servers_is_judged_by_its_selector():
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector:
    app: nobody  # IST0101
"""
    expect(text, "IST0101")
