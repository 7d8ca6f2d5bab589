"""Destinations of VirtualServices that are not there."""

from __future__ import annotations

from meshlib.errors import Severity
from tests.support.analysis import expect, findings

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: backend}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 7001}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [api.bank.example]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
"""


def routes(*destinations: str, more: str = "", rule: str = "") -> str:
    lines = "\n".join(f"    - destination: {d}" for d in destinations)
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop]
{more}
  http:
  - route:
{lines}
{rule}
"""


def test_a_host_that_nobody_has_is_an_error_at_its_own_field():
    (found,) = expect(SERVICES + routes("{host: crat}  # IST0101"), "IST0101")
    assert found.code.severity is Severity.ERROR
    assert found.problem().column == len("    - destination: {") + 1
    assert found.problem().path.endswith("spec.http[0].route[0].destination.host")
    assert found.hint == "did you mean cart?"


def test_hosts_of_services_and_service_entries_are_there_by_their_names():
    good = ("{host: cart}", "{host: cart.default.svc.cluster.local}", "{host: api.bank.example}")
    expect(SERVICES + routes(*good), "IST0101", "IST0112")


def test_a_short_name_means_a_service_of_the_own_namespace():
    (found,) = expect(SERVICES + routes("{host: stock, port: {number: 80}}  # IST0101"), "IST0101")
    assert found.hint == "did you mean stock.backend.svc.cluster.local?"


def test_a_name_with_a_namespace_is_no_host_of_istio():
    (found,) = expect(SERVICES + routes("{host: stock.backend, port: {number: 80}}  # IST0101"), "IST0101")
    assert found.hint == "did you mean stock.backend.svc.cluster.local?"


def test_the_port_must_be_named_where_the_host_has_several():
    (found,) = expect(SERVICES + routes("{host: stock.backend.svc.cluster.local}  # IST0112"), "IST0101", "IST0112")
    assert "80, 7001" in found.message


def test_a_port_that_the_host_lacks():
    (found,) = expect(SERVICES + routes("{host: cart, port: {number: 8080}}  # IST0101"), "IST0101", "IST0112")
    assert found.hint == "its ports: 80"


def test_mirrors_are_destinations():
    rule = """
    mirror: {host: ghost}  # IST0101
  - route: [{destination: {host: cart}}]
    mirrors:
    - destination: {host: cart}
    - destination: {host: spirit}  # IST0101
"""
    found = expect(SERVICES + routes("{host: cart}", rule=rule), "IST0101")
    assert all("mirror" in finding.message for finding in found)


def test_tcp_and_tls_routes_have_destinations_too():
    more = """
  tcp: [{route: [{destination: {host: nobody}}]}]  # IST0101
  tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: none}}]}]  # IST0101
"""
    expect(SERVICES + routes("{host: cart}", more=more), "IST0101")


def test_a_host_that_is_not_exported_here_is_not_there():
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: finance}
spec:
  hosts: [ledger.example]
  exportTo: ["."]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
"""
    (found,) = expect(entry + routes("{host: ledger.example}  # IST0101"), "IST0101")
    assert found.hint == "ServiceEntry/finance/private has it, and is not exported to namespace default"


def test_a_wildcard_of_a_service_entry_has_the_hosts_below_it():
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partners}
spec:
  hosts: ["*.partner.example"]
  ports: [{number: 80, name: http, protocol: HTTP}]
---
"""
    text = entry + routes("{host: eu.partner.example}", "{host: partner.example}  # IST0101")
    expect(text, "IST0101")


def test_a_service_with_an_error_is_still_there():
    broken = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [api.bank.example]
  ports: [{number: 443, name: tls, protocol: TLS, prtocol: HTTPS}]
  resolution: DMS
---
"""
    expect(broken + routes("{host: api.bank.example}", "{host: api.bnk.example}  # IST0101"), "IST0101")


def test_a_delegate_that_does_not_exist():
    delegates = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart-rules, namespace: backend}
spec:
  http: [{route: [{destination: {host: cart.default.svc.cluster.local}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [cart]
  http:
  - match: [{uri: {prefix: /a}}]
    delegate: {name: cart-rules, namespace: backend}
  - delegate:
      name: cart-rules  # IST0101
"""
    (found,) = expect(SERVICES + delegates, "IST0101")
    assert found.hint == "there is one in namespace backend"


def test_gateway_routes_do_not_meet_the_subsets_of_the_mesh():
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: split}
spec:
  hosts: [cart]
  http: [{route: [{destination: {host: cart, subset: v1}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
  - route:
    - destination: {host: cart}  # IST0140
    - destination: {host: cart, subset: v1}
"""
    expect(SERVICES + text, "IST0140")
    expect(SERVICES + text.replace("  gateways: [edge]\n", "").replace("  # IST0140", ""), "IST0140")


def test_namespaces_of_kubernetes_itself_are_left_alone():
    text = routes("{host: nobody}").replace("{name: shop}", "{name: shop, namespace: kube-system}")
    assert findings(text) == []
