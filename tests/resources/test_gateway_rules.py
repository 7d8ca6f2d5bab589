"""What istiod's webhook refuses of a Gateway is refused at its own line; what it lets pass loads."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_accepted, assert_refused, document, errors

HTTP = "port: {number: 80, name: http, protocol: HTTP}"
HTTPS = "port: {number: 443, name: https, protocol: HTTPS}"


def server(settings: str) -> str:
    return f"servers:\n- {settings}"


def plain(more: str) -> str:
    return server(f"{HTTP}\n  {more}")


def secure(tls: str, port: str = HTTPS) -> str:
    return server(f"{port}\n  hosts: ['*']\n  tls: {tls}")


REFUSED = [
    ("no hosts", plain("hosts: []  # here"), "missing-host", '"*"'),
    ("a short host", plain("hosts: [reviews]  # here"), "short-host", "whole name"),
    ("a host with a space", plain("hosts:\n  - a b.com  # here"), "bad-host", "not a DNS label"),
    ("a namespace that is none", plain("hosts: ['~/a.com']  # here"), "bad-namespace", "~"),
    ("no host behind the slash", plain("hosts: ['a/']  # here"), "missing-host", "lacks"),
    ("a wildcard of a part", plain("hosts: ['*a.com']  # here"), "partial-wildcard", "*.example.com"),
    # ports
    ("no protocol", server("port: {number: 80, name: a, protocol: ''}  # here\n  hosts: ['*']"), "bad-protocol", "HTTPS"),
    ("port 0", server("port: {number: 0, name: a, protocol: HTTP}  # here\n  hosts: ['*']"), "bad-port", "1..65535"),
    (
        "a target port",
        server("port: {number: 80, name: a, protocol: HTTP, targetPort: 1}  # here\n  hosts: ['*']"),
        "target-port",
        "Gateway",
    ),
    ("no name", server("port: {number: 80, name: '', protocol: HTTP}  # here\n  hosts: ['*']"), "missing-name", "http"),
    ("a name twice", f"servers:\n- {HTTP}\n  hosts: ['*']\n- {HTTP}  # here\n  hosts: ['*']", "duplicate-port", "http"),
    # bind
    ("a bind that is no address", plain("hosts: ['*']\n  bind: localhost  # here"), "bad-address", "localhost"),
    (
        "a socket with a port",
        server("port: {number: 80, name: a, protocol: HTTP}  # here\n  hosts: ['*']\n  bind: unix:///a"),
        "port-of-socket",
        "number: 0",
    ),
    (
        "a relative socket",
        server("port: {number: 0, name: a, protocol: HTTP}\n  hosts: ['*']\n  bind: unix://a  # here"),
        "bad-unix-socket",
        "absolute",
    ),
    # tls
    ("HTTPS without tls", server(f"{HTTPS}  # here\n  hosts: ['*']"), "missing-field", "PASSTHROUGH"),
    (
        "certificates of plain HTTP",
        secure("{mode: SIMPLE, credentialName: a}  # here", HTTP),
        "tls-of-plain-port",
        "plain text",
    ),
    (
        "tls of TCP",
        secure("{mode: PASSTHROUGH}  # here", "port: {number: 1, name: a, protocol: TCP}"),
        "tls-of-plain-port",
        "TLS",
    ),
    ("SIMPLE without key", secure("{mode: SIMPLE, serverCertificate: /a}  # here"), "tls-files", "privateKey"),
    (
        "MUTUAL without CA",
        secure("{mode: MUTUAL, serverCertificate: /a, privateKey: /b}  # here"),
        "tls-files",
        "CA of its clients",
    ),
    ("files of ISTIO_MUTUAL", secure("{mode: ISTIO_MUTUAL, privateKey: /b}  # here"), "tls-files", "mesh's own"),
    (
        "two sources",
        secure("{mode: SIMPLE, credentialName: a, serverCertificate: /a, privateKey: /b}  # here"),
        "several-certificates",
        "credentialName",
    ),
    (
        "revoked clients of SIMPLE",
        secure("{mode: SIMPLE, serverCertificate: /a, privateKey: /b, caCrl: /c}  # here"),
        "crl-without-clients",
        "SIMPLE",
    ),
    (
        "one of several certificates without key",
        secure("{mode: SIMPLE, tlsCertificates: [{serverCertificate: /a}]}  # here"),
        "tls-files",
        "privateKey",
    ),
    ("an unknown mode", secure("{mode: TERMINATE}  # here"), "bad-enum", "PASSTHROUGH"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_at_its_line(spec: str, code: str, words: str) -> None:
    assert_refused(document("Gateway", spec), code, words)


def test_servers_are_needed() -> None:
    (problem,) = errors(document("Gateway", "selector: {istio: ingressgateway}"))
    assert (problem.code, problem.path) == ("missing-field", "spec")


def test_its_name_has_no_dots() -> None:
    text = document("Gateway", plain("hosts: ['*']"), name="a.b").replace("name: a.b", "name: a.b  # here")
    assert_refused(text, "bad-name", "no dots")


def test_what_istiod_made_of_the_gateway_api_is_less_bound() -> None:
    made = "  annotations: {internal.istio.io/gateway-semantics: gateway}\n"
    assert_accepted(document("Gateway", plain("hosts: ['~/a.com']"), name="a.b", metadata=made))


ACCEPTED = {
    "hosts of all forms": plain("hosts: ['*', '*.a.com', ./a.com, '*/b.com', a/*, 10.0.0.1]"),
    "a redirect to HTTPS": secure("{httpsRedirect: true}", HTTP),
    "a credential": secure("{mode: SIMPLE, credentialName: a}"),
    "a credential of MUTUAL": secure("{mode: OPTIONAL_MUTUAL, credentialName: a}"),
    "what passes through": secure("{}"),
    "the mesh's own": secure("{mode: ISTIO_MUTUAL}"),
    "a socket": server("port: {number: 0, name: a, protocol: HTTP}\n  hosts: ['*']\n  bind: unix:///a"),
    "a protocol in lower case": server("port: {number: 80, name: a, protocol: grpc-web}\n  hosts: ['*']"),
    "a port's name with a dot": server("port: {number: 80, name: a.b, protocol: HTTP}\n  hosts: ['*']"),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what: str) -> None:
    assert_accepted(document("Gateway", ACCEPTED[what]))
