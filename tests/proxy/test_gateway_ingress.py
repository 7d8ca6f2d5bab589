"""An Ingress of Kubernetes, served by a gateway: over TLS by its Secret, and in plain text."""

from __future__ import annotations

import ssl

import pytest

from tests.support.gateway_certificates import client, leaf, tls_secret
from tests.support.gateway_proxy import Gateway
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "shop", "namespace": "prod", "annotations": {"kubernetes.io/ingress.class": "istio"}},
    "spec": {
        "rules": [
            {
                "host": "shop.test",
                "http": {
                    "paths": [
                        {
                            "path": "/cart",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "cart", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ],
        "tls": [{"hosts": ["shop.test"], "secretName": "shop-cert"}],
    },
}
MESH = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "MeshConfig",
    "metadata": {"name": "mesh"},
    "spec": {"ingressSelector": "ingress"},
}


@pytest.fixture
def gateway():
    with EchoServer("cart") as app:
        resources = [
            INGRESS,
            MESH,
            service("cart", 80, "prod"),
            pod("cart", "v1", app.port, namespace="prod"),
            tls_secret("shop-cert", leaf("shop.test")),
        ]
        with Gateway(*resources) as made:
            yield made


def test_it_is_served_over_tls_by_its_secret(gateway):
    with gateway.client(443, lambda sock: client().wrap_socket(sock, server_hostname="shop.test")) as caller:
        assert caller.get("/cart/1", "GET", "shop.test").status == 200
        assert caller.get("/cartoons", "GET", "shop.test").status == 404


def test_it_is_served_in_plain_text_too(gateway):
    assert gateway.get("shop.test", "/cart").status == 200
    assert gateway.get("other.test", "/cart").status == 404


def test_a_name_that_its_tls_has_not_is_not_served(gateway):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        gateway.client(443, lambda sock: client().wrap_socket(sock, server_hostname="other.test"))
