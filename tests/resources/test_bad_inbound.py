"""What is wrong with the resources of servers is told with file, line and column: where to put the cursor."""

from __future__ import annotations

import textwrap

import pytest

from meshlib.problems import Severity
from meshlib.resources.loader import load_text
from meshlib.resources.report import as_github, as_json, as_text

HEAD = "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec:\n"
LINES_OF_HEAD = 4


def found(kind: str, spec: str) -> list[tuple[str, str, int, int, str]]:
    """Code, severity, line of ``spec`` (from 1), column and field of what is said."""
    text = HEAD.format(kind=kind) + textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ") + "\n"
    problems = load_text(text, "policy.yaml").problems
    assert {p.file for p in problems} <= {"policy.yaml"}
    return [(p.code, p.severity.value, p.line - LINES_OF_HEAD, p.column, p.path) for p in problems]


AUTHORIZATION = [
    (
        "an unknown key of a condition",
        """
        rules:
        - when:
          - key: source.ip
            values: [10.0.0.1]
          - key: source.adress
            values: [10.0.0.1]
        """,
        ("bad-key", "error", 5, 7, "spec.rules[0].when[1].key"),
    ),
    (
        "a key without a name in brackets",
        """
        rules:
        - when:
          - {key: 'request.headers', values: [a]}
        """,
        ("bad-key", "error", 3, 8, "spec.rules[0].when[0].key"),
    ),
    (
        "a range that is none",
        """
        rules:
        - from:
          - source:
              ipBlocks: [10.0.0.0/8, 10.0.0.0/40]
        """,
        ("bad-value", "error", 4, 32, "spec.rules[0].from[0].source.ipBlocks[1]"),
    ),
    (
        "an address in a condition that is none",
        """
        rules:
        - when:
          - key: remote.ip
            notValues:
            - 10.0.0
        """,
        ("bad-value", "error", 5, 9, "spec.rules[0].when[0].notValues[0]"),
    ),
    (
        "a port that is none",
        """
        rules:
        - to:
          - operation:
              ports:
              - "80"
              - "http"
        """,
        ("bad-value", "error", 6, 11, "spec.rules[0].to[0].operation.ports[1]"),
    ),
    (
        "a port of a condition that is too large",
        """
        rules:
        - when:
          - key: destination.port
            values: ["65536"]
        """,
        ("bad-value", "error", 4, 16, "spec.rules[0].when[0].values[0]"),
    ),
    (
        "a template with an operator behind the last one",
        """
        rules:
        - to:
          - operation:
              paths: ["/ok/{*}", "/a/{**}/b/{*}"]
        """,
        ("bad-value", "error", 4, 28, "spec.rules[0].to[0].operation.paths[1]"),
    ),
    (
        "a template inside a segment",
        """
        rules:
        - to:
          - operation:
              notPaths: ["/a{*}"]
        """,
        ("bad-value", "error", 4, 20, "spec.rules[0].to[0].operation.notPaths[0]"),
    ),
    (
        "an empty list of sources' names",
        """
        rules:
        - from:
          - source: {principals: []}
        """,
        ("empty-source", "error", 3, 7, "spec.rules[0].from[0].source"),
    ),
    (
        "an operation of nothing",
        """
        rules:
        - to:
          - operation: {}
        """,
        ("empty-operation", "error", 3, 7, "spec.rules[0].to[0].operation"),
    ),
    (
        "a condition without values",
        """
        rules:
        - when:
          - key: source.ip
            values: []
        """,
        ("empty-condition", "error", 3, 7, "spec.rules[0].when[0]"),
    ),
    (
        "an empty value",
        """
        rules:
        - from:
          - source: {principals: [a, ""]}
        """,
        ("empty-value", "error", 3, 32, "spec.rules[0].from[0].source.principals[1]"),
    ),
    (
        "a rule that is null",
        """
        rules:
        -
        """,
        ("crd-type", "error", 2, 4, "spec.rules[0]"),
    ),
    (
        "DENY without rules",
        """
        action: DENY
        """,
        ("no-rules", "error", 0, 1, "spec.rules"),
    ),
    (
        "CUSTOM with a claim",
        """
        action: CUSTOM
        provider: {name: opa}
        rules:
        - when:
          - key: request.auth.claims[iss]
            values: [a]
        """,
        ("not-with-custom", "error", 5, 7, "spec.rules[0].when[0].key"),
    ),
    (
        "CUSTOM with a token's principal",
        """
        action: CUSTOM
        provider: {name: opa}
        rules:
        - from:
          - source:
              notRequestPrincipals: ["*"]
        """,
        ("not-with-custom", "error", 6, 9, "spec.rules[0].from[0].source.notRequestPrincipals"),
    ),
    (
        "CUSTOM without a provider",
        """
        action: CUSTOM
        rules: [{}]
        """,
        ("missing-provider", "error", 0, 1, "spec.provider"),
    ),
    (
        "a provider of DENY",
        """
        action: DENY
        provider: {name: opa}
        rules: [{}]
        """,
        ("provider-without-custom", "error", 2, 3, "spec.provider"),
    ),
    (
        "an action that is none",
        """
        action: REFUSE
        """,
        ("bad-enum", "error", 1, 3, "spec.action"),
    ),
    (
        "a field that is none",
        """
        rules:
        - from:
          - source:
              principal: [a]
        """,
        ("unknown-field", "error", 4, 9, "spec.rules[0].from[0].source.principal"),
    ),
]

PRIVATE = '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"c2VjcmV0LWtleS1vZi1vdXJz"}]}'
TOKENS = [
    (
        "neither issuer nor key set",
        """
        jwtRules:
        - audiences: [a]
        """,
        ("missing-issuer", "error", 2, 5, "spec.jwtRules[0]"),
    ),
    (
        "an empty audience",
        """
        jwtRules:
        - issuer: a
          audiences: [b, ""]
        """,
        ("empty-value", "error", 3, 20, "spec.jwtRules[0].audiences[1]"),
    ),
    (
        "a key set by another scheme",
        """
        jwtRules:
        - issuer: a
          jwksUri: ftp://idp.example/keys
        """,
        ("bad-url", "error", 3, 5, "spec.jwtRules[0].jwksUri"),
    ),
    (
        "keys that are no key set",
        """
        jwtRules:
        - issuer: a
          jwks: '{"keys": [{"kty": "RSA"}]}'
        """,
        ("bad-jwks", "error", 3, 5, "spec.jwtRules[0].jwks"),
    ),
    (
        "a private key",
        f"""
        jwtRules:
        - issuer: a
          jwks: '{PRIVATE}'
        """,
        ("private-key", "warning", 3, 5, "spec.jwtRules[0].jwks"),
    ),
    (
        "a header without a name",
        """
        jwtRules:
        - issuer: a
          fromHeaders:
          - name: ""
        """,
        ("missing-name", "error", 4, 7, "spec.jwtRules[0].fromHeaders[0].name"),
    ),
    (
        "a parameter without a name",
        """
        jwtRules:
        - issuer: a
          fromParams: [""]
        """,
        ("empty-value", "error", 3, 18, "spec.jwtRules[0].fromParams[0]"),
    ),
    (
        "a cookie without a name",
        """
        jwtRules:
        - issuer: a
          fromCookies: [b, ""]
        """,
        ("empty-value", "error", 3, 22, "spec.jwtRules[0].fromCookies[1]"),
    ),
    (
        "a claim for no header",
        """
        jwtRules:
        - issuer: a
          outputClaimToHeaders:
          - claim: sub
            header: ""
        """,
        ("missing-name", "error", 5, 7, "spec.jwtRules[0].outputClaimToHeaders[0].header"),
    ),
    (
        "a claim for what is no header",
        """
        jwtRules:
        - issuer: a
          outputClaimToHeaders:
          - claim: sub
            header: "x sub"
        """,
        ("bad-header-name", "error", 5, 7, "spec.jwtRules[0].outputClaimToHeaders[0].header"),
    ),
    (
        "a timeout of nothing",
        """
        jwtRules:
        - issuer: a
          timeout: 0s
        """,
        ("duration-too-short", "error", 3, 5, "spec.jwtRules[0].timeout"),
    ),
]


@pytest.mark.parametrize(("what", "spec", "expected"), AUTHORIZATION, ids=[what for what, *_ in AUTHORIZATION])
def test_of_an_authorization_policy(what, spec, expected):
    assert found("AuthorizationPolicy", spec) == [expected]


@pytest.mark.parametrize(("what", "spec", "expected"), TOKENS, ids=[what for what, *_ in TOKENS])
def test_of_a_request_authentication(what, spec, expected):
    assert found("RequestAuthentication", spec) == [expected]


def test_every_mistake_of_a_policy_is_told_at_once():
    spec = """
    rules:
    - from:
      - source: {ipBlocks: [10.0.0.0/40], principals: [""]}
      when:
      - {key: nothing, values: [a]}
    - to:
      - operation: {ports: ["http"]}
    """
    assert [line for _, _, line, _, _ in found("AuthorizationPolicy", spec)] == [3, 3, 5, 7]


def test_a_selection_of_gateways_and_of_workloads_is_one_too_many():
    spec = """
    selector: {matchLabels: {app: a}}
    targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]
    """
    for kind in ("AuthorizationPolicy", "RequestAuthentication"):
        assert any(severity == Severity.ERROR.value for _, severity, *_ in found(kind, spec)), kind


def test_a_private_key_is_told_of_and_not_shown(tmp_path):
    file = tmp_path / "keys.yaml"
    text = HEAD.format(kind="RequestAuthentication") + f"  jwtRules:\n  - issuer: a\n    jwks: '{PRIVATE}'\n"
    file.write_text(text)
    problems = load_text(text, str(file)).problems
    assert [p.code for p in problems] == ["private-key"]
    for shown in (as_text(problems), as_json(problems), as_github(problems)):
        assert "private" in shown
        assert "c2VjcmV0LWtleS1vZi1vdXJz" not in shown
