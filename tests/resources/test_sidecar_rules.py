"""What istiod's webhook refuses of a Sidecar is refused at its own line; what it lets pass loads."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_accepted, assert_refused, document, errors


def ingress(listener: str) -> str:
    return f"ingress:\n- {listener}"


def egress(listener: str) -> str:
    return f"egress:\n- {listener}"


def served(tls: str) -> str:
    return ingress(f"port: {{number: 443, protocol: HTTPS}}\n  tls: {tls}")


REFUSED = [
    (
        "a wildcard of the selector",
        "workloadSelector: {labels: {app: '*'}}  # here\negress: [{hosts: [./*]}]",
        "wildcard-label",
        "compared as they are",
    ),
    # ingress
    ("a port of 0", ingress("port: {protocol: HTTP}  # here"), "bad-port", "1..65535"),
    ("a port twice", "ingress:\n- port: {number: 80}\n- port: {number: 80}  # here", "duplicate-port", "80"),
    ("a target port", ingress("port: {number: 80, targetPort: 81}  # here"), "target-port", "leave it out"),
    ("an unknown protocol", ingress("port: {number: 80, protocol: SMTP}  # here"), "bad-protocol", "SMTP"),
    ("a name with a dot", ingress("port: {number: 80, name: a.b}  # here"), "bad-name", "a.b"),
    ("a bind that is no address", ingress("port: {number: 80}\n  bind: localhost  # here"), "bad-address", "localhost"),
    ("an endpoint without port", ingress("port: {number: 80}\n  defaultEndpoint: 127.0.0.1  # here"), "bad-endpoint", "PORT"),
    ("an endpoint far", ingress("port: {number: 80}\n  defaultEndpoint: 10.0.0.1:80  # here"), "bad-endpoint", "10.0.0.1"),
    ("an endpoint of port 0", ingress("port: {number: 80}\n  defaultEndpoint: 127.0.0.1:0  # here"), "bad-endpoint", "'0'"),
    ("a relative socket", ingress("port: {number: 80}\n  defaultEndpoint: unix://a  # here"), "bad-unix-socket", "absolute"),
    ("a pool of nothing", ingress("port: {number: 80}\n  connectionPool: {}  # here"), "empty-pool", "http or tcp"),
    ("a mesh pool of nothing", "inboundConnectionPool: {}  # here", "empty-pool", "http or tcp"),
    (
        "TLS on a plain port",
        ingress("port: {number: 80, protocol: HTTP}\n  tls: {mode: SIMPLE, serverCertificate: /a, privateKey: /b}  # here"),
        "tls-of-plain-port",
        "HTTPS",
    ),
    ("a credential", served("{mode: SIMPLE, credentialName: a}  # here"), "not-supported", "credentialName"),
    ("mode AUTO_PASSTHROUGH", served("{mode: AUTO_PASSTHROUGH}  # here"), "not-supported", "AUTO_PASSTHROUGH"),
    ("SIMPLE without key", served("{mode: SIMPLE, serverCertificate: /a}  # here"), "tls-files", "privateKey"),
    (
        "MUTUAL without CA",
        served("{mode: MUTUAL, serverCertificate: /a, privateKey: /b}  # here"),
        "tls-files",
        "CA of its clients",
    ),
    # egress
    ("no hosts", egress("hosts: []  # here"), "missing-host", "./*"),
    ("a host without namespace", egress("hosts:\n  - a.com  # here"), "host-without-namespace", "*/a.com"),
    ("a short host", egress("hosts:\n  - ./reviews  # here"), "short-host", "reviews.default.svc.cluster.local"),
    ("a host without name", egress("hosts: [a/]  # here"), "missing-host", "lacks"),
    ("a namespace with a dot", egress("hosts: [a.b/c.com]  # here"), "bad-namespace", "a.b"),
    ("a host with a space", egress("hosts: ['*/a b.com']  # here"), "bad-host", "not a DNS label"),
    ("a wildcard of a part", egress("hosts: ['*/*a.com']  # here"), "partial-wildcard", "*.example.com"),
    (
        "a catch-all before others",
        "egress:\n- hosts: [./*]  # here\n- hosts: [./*]\n  port: {number: 80}",
        "catch-all-not-last",
        "to the end",
    ),
    (
        "a port of egress twice",
        "egress:\n- hosts: [./*]\n  port: {number: 80}\n- hosts: [./*]\n  port: {number: 80}  # here",
        "duplicate-port",
        "80",
    ),
    ("port 0 of egress", egress("hosts: [./*]\n  port: {protocol: HTTP}  # here"), "port-without-socket", "unix:///PATH"),
    (
        "a socket that is captured",
        egress("hosts: [./*]\n  port: {protocol: HTTP}\n  bind: unix:///a\n  captureMode: IPTABLES  # here"),
        "capture-of-socket",
        "NONE",
    ),
    ("a bind of egress", egress("hosts: [./*]\n  port: {number: 80}\n  bind: 1.2.3  # here"), "bad-address", "1.2.3"),
    # outboundTrafficPolicy
    (
        "a proxy without ALLOW_ANY",
        "outboundTrafficPolicy:\n  egressProxy: {host: a.com, port: {number: 80}}  # here",
        "egress-proxy-mode",
        "ALLOW_ANY",
    ),
    (
        "a proxy without port",
        "outboundTrafficPolicy:\n  mode: ALLOW_ANY\n  egressProxy: {host: a.com}  # here",
        "missing-field",
        "port",
    ),
    (
        "a proxy of many names",
        "outboundTrafficPolicy:\n  mode: ALLOW_ANY\n  egressProxy: {host: '*.a.com', port: {number: 80}}  # here",
        "bad-host",
        "*.a.com",
    ),
    ("an unknown mode", "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}  # here", "bad-enum", "REGISTRY_ONLY"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_at_its_line(spec: str, code: str, words: str) -> None:
    assert_refused(document("Sidecar", spec), code, words)


def test_something_is_to_be_set() -> None:
    for spec in ("workloadSelector: {labels: {app: a}}", "egress: []"):
        (problem,) = errors(document("Sidecar", spec))
        assert (problem.code, problem.path) == ("empty-sidecar", "spec")


ACCEPTED = {
    "hosts of all forms": egress("hosts: [./*, '*/*', a/b.com, '*/*.a.com', '~/*', '~a/b.com', b/*]"),
    "a port, then all": "egress:\n- hosts: [./*]\n  port: {number: 80, protocol: HTTP_PROXY}\n- hosts: [./*]",
    "a socket": egress("hosts: [./*]\n  port: {protocol: HTTP}\n  bind: unix:///a\n  captureMode: NONE"),
    "endpoints of all forms": "ingress:\n"
    + "\n".join(
        f"- port: {{number: {number}}}\n  defaultEndpoint: '{endpoint}'"
        for number, endpoint in enumerate(
            ("127.0.0.1:1", ":1", "[::1]:65535", "0.0.0.0:80", "unix://@a", "unix:///a"), 1
        )
    ),
    "a policy alone": "outboundTrafficPolicy: {}",
    "a proxy": "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.com, subset: '', port: {number: 80}}}",
    "TLS": served("{mode: SIMPLE, serverCertificate: /a, privateKey: /b}"),
    "TLS that passes through": served("{}"),
    "a pool": "inboundConnectionPool: {tcp: {idleTimeout: 0s}}",
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what: str) -> None:
    assert_accepted(document("Sidecar", ACCEPTED[what]))
