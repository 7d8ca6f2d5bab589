"""What Istio's webhook lets pass with a warning, of the networking kinds, loads with a warning at its own line."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_warned, document

ROUTE = "[{route: [{destination: {host: a}}]}]"
POLICY = "host: a\ntrafficPolicy:\n  "
TLS = "servers:\n- port: {number: 443, name: a, protocol: HTTPS}\n  hosts: ['*']\n  tls: "

WARNED = [
    ("VirtualService", f"hosts: [a]\ngateways: [gw.shop.svc]  # here\nhttp: {ROUTE}", "old-gateway-name", "shop/gw"),
    (
        "VirtualService",
        "hosts: [a]\nhttp:\n- directResponse:\n    status: 200\n    body: {string: " + "a" * 102_401 + "}  # here",
        "large-body",
        "100 kB",
    ),
    (
        "VirtualService",
        "hosts: [a]\ntls:\n- match: [{sniHosts: [10.0.0.1]}]  # here\n  route: [{destination: {host: a}}]",
        "address-as-server-name",
        "destinationSubnets",
    ),
    (
        "VirtualService",
        "hosts: [a]\nhttp: [{redirect: {uri: /, redirectCode: 305}}]  # here",
        "redirect-code",
        "301, 302",
    ),
    (
        "VirtualService",
        r"hosts: [a]" + "\nhttp:\n- route: [{destination: {host: a}}]\n"
        r"  rewrite: {uriRegexRewrite: {match: a, rewrite: '\1'}}  # here",
        "rewrite-without-effect",
        "stays as it is",
    ),
    ("DestinationRule", "host: a\nworkloadSelector: {}  # here", "empty-selector", "name labels"),
    (
        "DestinationRule",
        f"{POLICY}loadBalancer: {{localityLbSetting: {{failover: [{{from: a, to: b}}]}}}}  # here",
        "failover-without-ejection",
        "outlierDetection",
    ),
    (
        "DestinationRule",
        f"{POLICY}tls: {{mode: ISTIO_MUTUAL, caCertificates: /a}}  # here",
        "unread-certificate",
        "caCertificates",
    ),
    ("ServiceEntry", "hosts: ['*a.com']  # here", "partial-wildcard", "*.example.com"),
    (
        "ServiceEntry",
        "hosts: [a.com]\nworkloadSelector: {labels: {a: b}}  # here",
        "selector-without-resolution",
        "STATIC",
    ),
    ("ServiceEntry", "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {}  # here", "empty-selector", "labels"),
    ("ServiceEntry", "hosts: [a.com]\nresolution: STATIC\nendpoints: [{network: n}]  # here", "no-address", "network n"),
    (
        "ServiceEntry",
        "hosts: [a.com, b.com]  # here\nresolution: DNS\naddresses: [10.0.0.1]\n"
        "ports: [{number: 1, name: a, protocol: TLS}]",
        "several-hosts-on-tcp",
        "one ServiceEntry a host",
    ),
    ("Sidecar", "workloadSelector: {}  # here\negress: [{hosts: [./*]}]", "empty-selector", "all workloads"),
    ("Sidecar", "egress:\n- hosts: [./*, shop/a.com]  # here", "duplicate-host", "shop/a.com"),
    ("Sidecar", "egress:\n- hosts: ['*/*', ./*]  # here", "duplicate-host", "every host"),
    (
        "Sidecar",
        "ingress:\n- port: {number: 1, protocol: TCP}\n  connectionPool: {http: {maxRetries: 1}}  # here",
        "http-pool-of-tcp",
        "only the settings of tcp",
    ),
    ("Gateway", f"{TLS}{{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_1}}  # here", "no-ciphers", "cipherSuites"),
    ("Gateway", f"{TLS}{{mode: SIMPLE, credentialName: a, cipherSuites: [RC4]}}  # here", "unknown-cipher", "RC4"),
    (
        "Gateway",
        f"{TLS}{{mode: SIMPLE, credentialName: a, cipherSuites: [AES128-SHA, AES128-SHA]}}  # here",
        "duplicate-cipher",
        "twice",
    ),
    ("Gateway", f"{TLS}{{mode: PASSTHROUGH, credentialName: a}}  # here", "unread-certificate", "no certificates"),
    ("Gateway", f"{TLS}{{mode: PASSTHROUGH, httpsRedirect: true}}  # here", "redirect-without-http", "port 80"),
    ("WorkloadEntry", "network: n", "no-address", "network n"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "code", "words"), [pytest.param(*c, id=f"{c[0]}: {c[2]}") for c in WARNED])
def test_warned_of_at_its_line(kind: str, spec: str, code: str, words: str) -> None:
    text = document(kind, spec)
    if kind == "WorkloadEntry":
        text = text.replace("spec:", "spec:  # here")
    assert_warned(text, code, words)
