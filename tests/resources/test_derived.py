"""What is said of resources that were made of another one is said of that one, at its lines."""

from __future__ import annotations

from meshlib.resources.derived import derived_gateway, derived_virtual_service, nearest
from meshlib.resources.loader import load_text

TEXT = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: prod}
spec:
  rules: [{host: a.test}]
  tls:
  - secretName: cert
"""
GATEWAY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "made", "namespace": "istio-system"},
    "spec": {"servers": [{"hosts": ["*"], "port": {"number": 443, "name": "a", "protocol": "HTTPS"}}]},
}
ROUTES = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "made", "namespace": "prod"},
    "spec": {"hosts": ["a.test"]},
}
FIELDS = {(): ("spec",), ("spec", "servers", 0, "tls"): ("spec", "tls", 0, "secretName")}


def source():
    (found,) = load_text(TEXT, "shop.yaml").resources
    return found


def test_a_gateway_has_the_name_and_the_places_of_its_source():
    made = derived_gateway(source(), GATEWAY, FIELDS)
    assert (made.id, made.origin.file, f"{made.namespace}/{made.name}") == (
        "Ingress/prod/shop",
        "shop.yaml",
        "istio-system/made",
    )
    assert made.place_of(("spec", "servers", 0, "tls", "credentialName")) == (7, 5)
    assert made.as_written(("spec", "servers", 0, "tls", "credentialName")) == ("spec", "tls", 0, "secretName")
    assert made.place_of(("spec", "servers", 0, "hosts")) == (4, 1)


def test_virtual_services_of_one_source_are_told_apart():
    one, other = (derived_virtual_service(source(), name, ROUTES, FIELDS) for name in ("a.test", "b.test"))
    assert (one.id, other.id) == ("Ingress/prod/shop (a.test)", "Ingress/prod/shop (b.test)")


def test_a_field_without_a_source_is_that_around_it():
    assert nearest(("spec", "servers", 1), FIELDS) == ("spec",)
    assert nearest(("spec",), {}) == ()
