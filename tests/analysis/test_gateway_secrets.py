"""Secrets and certificates of Gateways."""

from __future__ import annotations

import base64

from tests.support.analysis import expect
from tests.support.gateways import POD, gateway, server

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


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
