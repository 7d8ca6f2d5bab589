"""Ingress and IngressClass: what is read of them, and that fields of others pass."""

from __future__ import annotations

from meshlib.resources.loader import load_text

TEXT = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: prod}
spec:
  ingressClassName: istio
  defaultBackend: {service: {name: front, port: {number: 80}}}
  rules:
  - host: a.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: front, port: {name: http}}}, later: 1}]}
  tls: [{hosts: [a.test], secretName: cert}]
status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: istio}
spec: {controller: istio.io/ingress-controller, parameters: {kind: Widget, name: a}}
"""


def test_they_are_read():
    result = load_text(TEXT)
    assert result.problems == []
    ingress, its_class = result.resources
    assert (ingress.spec.ingress_class_name, its_class.spec.controller) == ("istio", "istio.io/ingress-controller")
    (path,) = ingress.spec.rules[0].http.paths
    assert (path.path, path.path_type, path.backend.service.port.name) == ("/", "Prefix", "http")
    assert ingress.spec.tls[0].secret_name == "cert"


def test_a_path_type_that_there_is_not_is_refused_where_it_stands():
    (problem,) = load_text(TEXT.replace("pathType: Prefix", "pathType: Regex")).errors
    assert (problem.line, problem.path) == (10, "spec.rules[0].http.paths[0].pathType")
