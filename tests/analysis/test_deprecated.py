"""What Istio calls deprecated."""

from __future__ import annotations

from tests.support.analysis import expect


def test_the_old_percent_of_a_delay():
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart}
spec:
  hosts: [cart]
  http:
  - fault:
      delay:
        fixedDelay: 5s
        percent: 50  # IST0002
    route: [{destination: {host: cart}}]
"""
    (found,) = expect(text, "IST0002")
    assert found.hint == "write percentage: {value: 50}"
    expect(text.replace("percent: 50  # IST0002", "percentage: {value: 50}"), "IST0002")


def test_the_egress_proxy_of_a_sidecar():
    text = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: one}
spec:
  outboundTrafficPolicy:
    mode: ALLOW_ANY
    egressProxy: {host: proxy, port: {number: 3128}}  # IST0002
"""
    expect(text, "IST0002")
    expect(text.replace("    egressProxy: {host: proxy, port: {number: 3128}}  # IST0002\n", ""), "IST0002")


def test_kinds_that_are_gone():
    text = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicerolebindings.rbac.istio.io}
spec:
  group: rbac.istio.io
  names:
    kind: ServiceRoleBinding  # IST0002
"""
    expect(text, "IST0002")
    expect(text.replace("rbac.istio.io", "rbac.example").replace("  # IST0002", ""), "IST0002")
