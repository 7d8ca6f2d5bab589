"""What Kubernetes' API server refuses of an Ingress is refused at its own line."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_accepted, assert_refused

HEAD = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: shop, namespace: prod}\nspec:\n"
TO = "backend: {service: {name: a, port: {number: 80}}}"


def spec(text: str) -> str:
    return HEAD + "".join(f"  {line}\n" for line in text.splitlines())


def path(kind: str, text: str) -> str:
    return spec(f"rules:\n- http:\n    paths:\n    - pathType: {kind}\n      path: {text!r}  # here\n      {TO}")


def backend(text: str) -> str:
    return spec(f"rules:\n- http:\n    paths:\n    - path: /\n      pathType: Prefix\n      {text}")


REFUSED = [
    ("no rules", HEAD.replace("spec:", "spec: {}  # here"), "missing-field", "needs rules"),
    ("no paths", spec("rules:\n- http:\n    paths: []  # here"), "missing-field", "no paths"),
    ("a host with a port", spec(f"rules:\n- host: a.test:80  # here\n  http: {{paths: [{{{TO}}}]}}"), "bad-host", "port"),
    ("an address", spec(f"rules:\n- host: 10.0.0.1  # here\n  http: {{paths: [{{{TO}}}]}}"), "bad-host", "address"),
    ("a wildcard in a label", spec(f"rules:\n- host: a*.test  # here\n  http: {{paths: [{{{TO}}}]}}"), "bad-host", "wildcard"),
    ("a lone wildcard", spec(f"rules:\n- host: '*'  # here\n  http: {{paths: [{{{TO}}}]}}"), "bad-host", "wildcard"),
    ("capitals", spec(f"rules:\n- host: A.test  # here\n  http: {{paths: [{{{TO}}}]}}"), "bad-host", "lower case"),
    ("a host of tls", spec(f"rules: [{{http: {{paths: [{{{TO}}}]}}}}]\ntls:\n- hosts:\n  - a b  # here"), "bad-host", "DNS"),
    ("a path without slash", path("Prefix", "a"), "bad-path", "path: /a"),
    ("an empty exact path", path("Exact", ""), "bad-path", "begin with /"),
    ("a path of two slashes", path("Prefix", "/a//b"), "bad-path", "normalized"),
    ("a path that goes up", path("Exact", "/a/.."), "bad-path", "normalized"),
    ("an escaped slash", path("Prefix", "/a%2fb"), "bad-path", "normalized"),
    ("no backend", backend("backend: {}  # here"), "missing-field", "no service"),
    ("two backends", backend("backend: {service: {name: a, port: {number: 1}}, resource: {}}  # here"), "one-of", "resource"),
    ("no port", backend("backend:\n        service: {name: a}  # here"), "missing-field", "no port"),
    (
        "a port twice",
        backend("backend:\n        service:\n          name: a\n          port: {number: 1, name: b}  # here"),
        "one-of",
        "number and a name",
    ),
    (
        "port 0",
        backend("backend:\n        service:\n          name: a\n          port:\n            number: 0  # here"),
        "bad-port",
        "65535",
    ),
    (
        "a port's name",
        backend("backend:\n        service:\n          name: a\n          port:\n            name: HTTP  # here"),
        "bad-port",
        "lower-case",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_is_refused(text, code, words):
    assert_refused(text, code, words)


@pytest.mark.parametrize(
    "text",
    [
        spec(f"rules: [{{http: {{paths: [{{{TO}}}]}}}}]"),
        spec(
            f"rules: [{{host: '*.a.test', http: {{paths: [{{path: /a.*, pathType: ImplementationSpecific, {TO}}}]}}}}]"
        ),
        spec("defaultBackend: {service: {name: a, port: {name: http}}}"),
        spec("rules: [{host: a.test}]\ntls: [{hosts: ['*.a.test'], secretName: b}, {}]"),
    ],
)
def test_it_loads(text):
    assert_accepted(text)
