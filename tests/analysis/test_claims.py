"""Routes by claims of a token."""

from __future__ import annotations

from tests.support.analysis import expect

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example]}]
---
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: infra, labels: {app: edge}}
spec: {containers: [{name: proxy}]}
---
"""


def route(header: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
  - match:
    - headers:
        {header}
    redirect: {{uri: /}}
---
"""


def authentication(namespace: str, selector: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: {namespace}}}
spec:
  {selector}
  jwtRules: [{{issuer: a, jwksUri: https://a.example/keys}}]
---
"""


def test_nobody_verifies_the_token():
    for name in ('"@request.auth.claims.group"', '"@request.auth.claims[group]"'):
        expect(GATEWAY + route(name + ": {exact: staff}  # IST0149"), "IST0149")


def test_a_request_authentication_selects_the_gateway():
    claims = route('"@request.auth.claims.group": {exact: staff}')
    for namespace, selector in (("infra", ""), ("istio-system", ""), ("infra", "selector: {matchLabels: {app: edge}}")):
        expect(GATEWAY + claims + authentication(namespace, selector), "IST0149")


def test_one_that_selects_others_does_not_help():
    claims = route('"@request.auth.claims.group": {exact: staff}  # IST0149')
    expect(GATEWAY + claims + authentication("default"), "IST0149")
    expect(GATEWAY + claims + authentication("infra", "selector: {matchLabels: {app: cart}}"), "IST0149")


def test_other_headers_are_no_claims():
    expect(GATEWAY + route("x-group: {exact: staff}"), "IST0149")
