"""Ports of Services."""

from __future__ import annotations

from meshlib.errors import Severity
from tests.support.analysis import expect


def service(name: str, ports: str, more: str = "", labels: str = "{}") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, labels: {labels}}}
spec:
  {more}
  ports:
{ports}
---
"""


def test_a_name_that_tells_no_protocol():
    ports = """
  - name: web  # IST0118
    port: 80
  - port: 81  # IST0118
"""
    found = expect(service("cart", ports), "IST0118", "IST0150")
    assert {f.code.severity for f in found} == {Severity.NOTICE}
    assert "name: http-web" in found[0].hint


def test_names_that_tell_one():
    names = ("http", "http-web", "HTTP2-x", "grpc", "grpc-web", "grpc-web-x", "tcp", "tls-a", "https", "mongo", "redis")
    ports = "\n".join(f"  - {{name: {name}, port: {number}}}" for number, name in enumerate(names, 8000))
    expect(service("cart", ports), "IST0118")


def test_app_protocol_udp_and_well_known_ports_need_no_name():
    ports = """
  - {name: web, port: 80, appProtocol: http}
  - {name: h2, port: 81, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 5353, protocol: UDP}
  - {name: db, port: 3306}
"""
    expect(service("cart", ports), "IST0118")
    expect(service("cart", "  - name: web  # IST0118\n    port: 80\n    appProtocol: mine"), "IST0118")


def test_services_of_istio_and_of_its_gateways_are_left_alone():
    for labels in ("{istio: pilot}", "{release: istio}", "{gateway.istio.io/managed: istio.io-gateway-controller}"):
        expect(service("cart", "  - {name: web, port: 80}", labels=labels), "IST0118")


def test_an_external_name_with_a_port_that_is_tcp_or_nothing():
    external = "type: ExternalName\n  externalName: a.example"
    for name in ("tcp", "web"):
        expect(service("bank", f"  - name: {name}  # IST0150\n    port: 443", external), "IST0118", "IST0150")
    expect(service("bank", "  - {name: https, port: 443}", external), "IST0118", "IST0150")


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart  # MARK
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: cart}]}
---
"""
SELECTS = "selector: {app: cart}"


def test_services_of_one_deployment_that_disagree():
    tcp = service("one", "  - {name: http, port: 80, protocol: TCP}", SELECTS)
    udp = service("other", "  - {name: udp, port: 80, protocol: UDP}", SELECTS)
    expect(tcp + udp + DEPLOYMENT.replace("MARK", "IST0116"), "IST0116", "IST0137")
    other_port = service("other", "  - {name: http, port: 81, targetPort: 80}", SELECTS)
    expect(tcp + other_port + DEPLOYMENT.replace("MARK", "IST0137"), "IST0116", "IST0137")
    same = service("other", "  - {name: http, port: 80}", SELECTS)
    expect(tcp + same + DEPLOYMENT, "IST0116", "IST0137")


def test_a_deployment_outside_the_mesh_may():
    outside = DEPLOYMENT.replace("{labels: {app: cart}}", '{labels: {app: cart, sidecar.istio.io/inject: "false"}}')
    text = service("one", "  - {name: http, port: 80}", SELECTS)
    text += service("other", "  - {name: http, port: 81, targetPort: 80}", SELECTS)
    expect(text + outside, "IST0116", "IST0137")
