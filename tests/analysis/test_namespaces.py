"""Namespaces that are named and do not exist."""

from __future__ import annotations

import re

from tests.support.analysis import expect


def namespaces(*names: str) -> str:
    return "".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n" for name in names)


def exported(kind: str, name: str) -> str:
    spec = {
        "DestinationRule": "host: cart.example",
        "ServiceEntry": "hosts: [cart.example]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: DNS",
        "VirtualService": "hosts: [cart.example]\n  http: [{redirect: {uri: /}}]",
    }[kind]
    return f"""
apiVersion: networking.istio.io/v1
kind: {kind}
metadata: {{name: cart, namespace: shop}}
spec:
  {spec}
  exportTo:
  - "."
  - {name}
---
"""


def test_export_to_a_namespace_that_does_not_exist():
    for kind in ("VirtualService", "DestinationRule", "ServiceEntry"):
        (found,) = expect(namespaces("shop", "backend") + exported(kind, "bakend  # IST0101"), "IST0101")
        assert found.hint == "did you mean backend?"
        expect(namespaces("shop", "backend") + exported(kind, "backend"), "IST0101")
        expect(namespaces("shop", "backend") + exported(kind, '"*"'), "IST0101")


def test_without_namespaces_only_what_looks_like_a_slip_is_said():
    expect(exported("VirtualService", "elsewhere"), "IST0101")
    expect(exported("VirtualService", "shopp  # IST0101"), "IST0101")


def test_the_annotation_of_a_service():
    text = """
apiVersion: v1
kind: Service
metadata:
  name: cart
  namespace: shop
  annotations:
    networking.istio.io/exportTo: backend, nowhere  # IST0101
spec: {ports: [{name: http, port: 80}]}
"""
    expect(namespaces("shop", "backend") + text, "IST0101")
    expect(namespaces("shop", "backend", "nowhere") + text.replace("  # IST0101", ""), "IST0101")


def test_sources_of_a_policy():
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: one, namespace: shop}
spec:
  rules:
  - from:
    - source:
        namespaces:
        - shop
        - SHOP
        - sh*
        - "*op"
        - "*"
        - nowhere  # IST0101
        - nowhere-*  # IST0101
    - source:
        notNamespaces:
        - "*-nowhere"  # IST0101
"""
    expect(namespaces("shop") + text, "IST0101")
    expect(re.sub(r" *# IST0101", "", text), "IST0101")  # no Namespace is known
