"""Bad input: each mistake is told where it stands, with what is known."""

from __future__ import annotations

import pytest

from meshlib.compiler.telemetry.providers import Providers
from meshlib.compiler.telemetry.reports import problems_of
from tests.support.telemetry import said

HEAD = """apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: t}
spec:
"""
CONFIG = """---
apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {name: m}
spec:
  extensionProviders:
  - name: zipkin
    zipkin: {service: z, port: 9411}
  - name: als
    envoyHttpAls: {service: a, port: 1}
"""


@pytest.mark.parametrize(
    ("spec", "code", "place", "message", "hint"),
    [
        (
            "  tracing:\n  - providers:\n    - name: zipkn\n",
            "unknown-provider",
            (7, 7),
            "MeshConfig has no provider zipkn: no spans are recorded",
            "known for spans: zipkin; did you mean zipkin?",
        ),
        (
            "  accessLogging:\n  - providers:\n    - name: stdout\n",
            "unknown-provider",
            (7, 7),
            "MeshConfig has no provider stdout: nothing is logged by it",
            "known for access logs: envoy; others are extensionProviders of MeshConfig",
        ),
        (
            "  metrics:\n  - providers:\n    - name: zipkin\n",
            "unusable-provider",
            (7, 7),
            "the provider zipkin (zipkin) is not for metrics: no metrics are recorded by it",
            "known for metrics: prometheus",
        ),
        (
            "  tracing:\n  - providers: [{name: stackdriver}]\n",
            "unusable-provider",
            (6, 18),
            "stackdriver (stackdriver) is not for spans",
            "known for spans: zipkin",
        ),
        (
            "  accessLogging:\n  - providers: [{name: als}]\n",
            "unusable-provider",
            (6, 18),
            "a log that only Envoy writes",
            "envoyFileAccessLog and envoyOtelAls are written",
        ),
        (
            "  accessLogging:\n  - providers: [{name: envoy}]\n    filter:\n      expression: response.cod >= 400\n",
            "unknown-attribute",
            (8, 7),
            "reads response.cod, which does not exist",
            "code, code_details, flags",
        ),
        (
            "  metrics:\n  - overrides:\n    - tagOverrides:\n        tenant:\n          value: bar\n",
            "unknown-attribute",
            (9, 11),
            "reads bar",
            "a text stands in quotes: 'bar'",
        ),
        (
            "  metrics:\n  - overrides:\n    - tagOverrides:\n        tenant:\n          value: request.host +\n",
            "bad-expression",
            (9, 11),
            "is not an expression of CEL: it ends too early",
            "request.headers",
        ),
        (
            "  metrics:\n  - overrides:\n    - tagOverrides:\n        source_ap: {operation: REMOVE}\n",
            "unknown-tag",
            (8, 9),
            "no metric of Istio has the tag source_ap",
            "did you mean source_app? known tags: reporter, source_workload",
        ),
        (
            "  metrics:\n  - overrides:\n    - tagOverrides:\n        le: {value: \"'x'\"}\n",
            "unusable-tag",
            (8, 9),
            "le is a label that Prometheus uses itself",
            "",
        ),
        (
            "  metrics:\n  - overrides:\n    - match: {customMetric: mine}\n      disabled: true\n",
            "unknown-metric",
            (7, 15),
            "there is no metric mine",
            "metric takes REQUEST_COUNT, REQUEST_DURATION",
        ),
    ],
)
def test_a_mistake_is_told_where_it_stands_with_what_is_known(spec, code, place, message, hint):
    (problem,) = said(HEAD + spec + CONFIG)
    assert (problem.code, problem.file, (problem.line, problem.column)) == (code, "mesh.yaml", place)
    assert message in problem.message
    assert hint in problem.hint


def test_without_a_mesh_config_it_is_said_that_nobody_knows():
    tracing, logs = said(
        HEAD + "  tracing: [{providers: [{name: zipkin}]}]\n  accessLogging: [{providers: [{name: file}]}]\n"
    )
    assert "no MeshConfig is loaded" in tracing.message
    assert "spans are recorded all the same" in tracing.message
    assert "nothing is logged by it" in logs.message


def test_a_default_provider_is_told_too():
    (problem,) = said(CONFIG + "  defaultProviders:\n    tracing:\n    - jaeger\n")
    assert (problem.code, problem.line) == ("unknown-provider", 13)


def test_a_format_of_json_that_is_none():
    (problem,) = said(CONFIG + "  accessLogEncoding: JSON\n  accessLogFormat: '%DURATION%'\n")
    assert (problem.code, problem.line) == ("bad-format", 12)


def test_the_younger_of_two_for_one_namespace():
    (problem,) = said(HEAD + "  tracing: [{}]\n---\n" + HEAD.replace("name: t", "name: u") + "  tracing: [{}]\n")
    assert (problem.code, problem.line) == ("not-the-oldest", 7)
    assert "Telemetry/default/t is older" in problem.message


def test_a_filter_that_names_no_providers_counts_for_none():
    """As ``test_logs.py`` has it of istiod, which says nothing."""
    entry = '  accessLogging:\n  - filter: {expression: "response.code >= 500"}\n'
    (problem,) = said(HEAD + entry)
    assert (problem.code, problem.line) == ("filter-without-providers", 6)
    assert "the filter counts for no log" in problem.message
    assert said(HEAD + entry + "    disabled: true\n") == []


def test_a_tag_that_another_telemetry_adds_may_be_removed():
    override = "  metrics:\n  - overrides:\n    - tagOverrides:\n        tenant: "
    nearer = HEAD.replace("name: t", "name: u, namespace: shop") + override + "{operation: REMOVE}\n"
    assert said(HEAD + override + "{value: request.host}\n---\n" + nearer) == []
    assert [problem.code for problem in said(nearer)] == ["unknown-tag"]


def test_what_is_right_says_nothing():
    spec = (
        "  metrics:\n  - providers: [{name: prometheus}]\n    overrides:\n    - tagOverrides:\n"
        "        source_app: {operation: REMOVE}\n"
        "        host: {value: \"has(request.host) ? request.host : 'none'\"}\n"
        "        port: {value: string(destination.port)}\n"
        '        peer: {value: "upstream_peer.app"}\n'
        "        any: {value: \"request.headers.exists(h, h == 'x') ? 'x' + request.method : ''\"}\n"
        "  tracing: [{providers: [{name: zipkin}]}]\n"
        "  accessLogging:\n  - providers: [{name: envoy}]\n    filter: {expression: \"'x' in request.headers\"}\n"
    )
    assert said(HEAD + spec + CONFIG) == []
    assert list(problems_of((), Providers())) == []
