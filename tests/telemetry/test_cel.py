"""Expressions in CEL over a call: what Envoy's runtime makes of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import meshlib
from meshlib.policy.cel_attributes import ATTRIBUTES
from meshlib.policy.telemetry_settings import (
    AccessLog,
    MetricOverride,
    MetricSettings,
    TagOverride,
    TelemetrySettings,
)
from meshlib.problems import MeshError
from meshlib.telemetry import cel
from meshlib.telemetry.access_log.escaping import as_json, escaped
from meshlib.telemetry.attributes import CALLS, FLAGS, HEADERS, OBJECTS, VALUES, Facts, node_of, text
from meshlib.telemetry.cel import EvaluationError, Expression, compiled, failures_of, filter_of, require, shown
from meshlib.workload import Workload
from tests.support.access_log import MadeUp
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import telemetry

NODE = node_of(Workload("orders", "shop", {"app": "orders"}, locality="eu/a"))


def value(expression: str, entry: MadeUp | None = None, *, outbound: bool = True, labels: Any = None) -> object:
    return Expression(expression).evaluate(Facts(entry or MadeUp(), NODE, outbound, labels))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("request.path", "/a?b=c"),
        ("request.url_path", "/a"),
        ("request.query", "b=c"),
        ("request.method + ' ' + request.scheme", "GET http"),
        ("request.host", "reviews:9080"),
        ("request.protocol", "HTTP/1.1"),
        ("request.headers['x-a']", "1"),
        ("request.headers[':method']", "GET"),
        ("request.useragent", "test"),
        ("'x-a' in request.headers", True),
        ("'x-b' in request.headers", False),
        ("request.headers.exists(name, name == 'x-a')", True),
        ("has(request.headers.referer) ? 'yes' : 'no'", "no"),
        ("has(request.referer)", False),
        ("request.time.getFullYear()", 2016),
        ("request.time > timestamp('2016-04-15T16:00:00Z')", True),
        ("has(request.time)", True),
        ("request.duration == duration('1.5s')", True),
        ("response.code", 200),
        ("response.code >= 200 && response.code < 300", True),
        ("response.headers['x-b']", "2"),
        ("response.trailers['x-trailer']", "t"),
        ("response.code_details", "via upstream"),
        ("response.flags", 0),
        ("upstream.address", "10.1.2.3:9080"),
        ("upstream.port", 9080),
        ("upstream.request_attempt_count", 2),
        ("connection.mtls", False),
        ("node.metadata.NAMESPACE", "shop"),
        ("xds.node.locality.zone", "a"),
        ("node.metadata['LABELS']['app']", "orders"),
        ("xds.listener_direction", 2),
        ("xds.cluster_name == 'BlackHoleCluster' || response.code == 200", True),
        ("size(request.headers) > 1", True),
        ("'a text'", "a text"),
        ("1.5 + 2.0", 3.5),
        ("bytes('a')", b"a"),
    ],
)
def test_attributes_have_envoys_values(expression: str, expected: object) -> None:
    entry = MadeUp(headers={"x-a": "1", "user-agent": "test"}, back={"x-b": "2"})
    assert value(expression, entry) == expected


def test_flags_are_envoys_bits() -> None:
    assert value("response.flags", MadeUp(flags="UF,URX")) == 2**5 + 2**15
    assert value("response.flags", MadeUp(flags="UH,nobody's")) == 2
    assert len(FLAGS) == len(set(FLAGS)) == 30


def test_of_a_call_without_a_response_there_is_no_code() -> None:
    assert value("has(response.code)", MadeUp(status=0)) is False
    assert Expression("response.code >= 0").holds(Facts(MadeUp(status=0), NODE, True)) is False


def test_the_other_workload_is_known_by_the_labels_of_metrics() -> None:
    labels = {"destination_workload": "reviews-v1", "destination_app": "unknown", "source_principal": "spiffe://x"}
    assert value("upstream_peer.workload", labels=labels) == "reviews-v1"
    assert value("filter_state.upstream_peer.workload", labels=labels) == "reviews-v1"
    assert value("has(upstream_peer.app)", labels=labels) is False
    assert value("downstream_peer.identity", outbound=False, labels=labels) == "spiffe://x"
    with pytest.raises(EvaluationError):
        value("downstream_peer.identity", labels=labels)


@pytest.mark.parametrize(
    "expression",
    ["request.headers['x-z']", "response.code / 0", "nobody", "response.code + 'a'", "request.nothing", "1 > 'a'"],
)
def test_what_goes_wrong_is_counted_and_the_call_never_hears_of_it(expression: str) -> None:
    made, facts = Expression(expression), Facts(MadeUp(), NODE, True)
    assert made.label(facts) == "unknown"
    assert made.holds(facts) is False
    assert made.failures == 2
    with pytest.raises(EvaluationError, match="^" + expression[:5]):
        made.evaluate(facts)


def test_an_entry_that_raises_is_an_error_like_any_other() -> None:
    class Broken(MadeUp):
        __slots__ = ()

        def details(self) -> str | None:
            raise ZeroDivisionError

    assert Expression("response.code_details").label(Facts(Broken(), NODE, True)) == "unknown"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "NULL"),
        (7, "7"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        ("x", "x"),
        (b"x", "x"),
    ],
)
def test_values_are_written_as_envoy_writes_them(found: object, text: str) -> None:
    assert shown(found) == text


def test_only_what_is_true_holds() -> None:
    facts = Facts(MadeUp(), NODE, True)
    assert Expression("response.code == 200").holds(facts)
    assert not Expression("'a text'").holds(facts)
    assert not Expression("1").holds(facts)


def test_headers_are_texts_whatever_their_bytes_were() -> None:
    assert text("é".encode().decode("latin-1")) == "é"
    assert text("\xff") == "\xff"

    class Wire(MadeUp):
        __slots__ = ()

        def header(self, name: str) -> str | None:
            return "ü".encode().decode("latin-1")

    entry = Wire()
    assert value("request.headers['x-a'] == 'ü'", entry) is True


def test_an_expression_is_compiled_once() -> None:
    assert compiled("response.code > 1") is compiled("response.code > 1")


def test_every_attribute_that_has_a_value_is_one_that_may_be_read() -> None:
    known = {(root, name) for root, fields in ATTRIBUTES.items() for name in fields}
    assert {*VALUES, *HEADERS, *CALLS} <= known
    assert OBJECTS.keys() <= ATTRIBUTES.keys()


# -- settings


LOG = AccessLog("envoy", expression="response.code == 200", expression_where="mesh.yaml:1:2")


def test_a_log_has_the_calls_that_its_expression_holds_for() -> None:
    fits = filter_of(NODE, True)(LOG)
    assert fits is not None
    assert fits(MadeUp())
    assert not fits(MadeUp(status=500))
    assert filter_of(NODE, True)(AccessLog("envoy")) is None


@pytest.mark.parametrize("typed", [False, True])
def test_a_value_of_a_line_has_the_characters_that_the_header_has(typed: bool) -> None:
    read = cel.value_of("request.headers['x-user']", NODE, typed)
    entry = MadeUp(headers={"x-user": 'j"é'})
    assert escaped(read(entry)) == 'j\\"é'
    assert as_json(read(entry)) == '"j\\"\\u00e9"'


def test_failures_are_told_by_expression() -> None:
    settings = TelemetrySettings(access_logs=(AccessLog("envoy", expression="request.headers['never'] == 'there'"),))
    texts = [settings.access_logs[0].expression]
    assert failures_of(texts) == {}
    fits = filter_of(NODE, True)(settings.access_logs[0])
    assert fits is not None
    with pytest.raises(EvaluationError):
        fits(MadeUp())
    assert failures_of(texts) == {"request.headers['never'] == 'there'": 1}


@pytest.fixture
def without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    for cached in (cel.compiled, cel._environment):
        cached.cache_clear()


@pytest.mark.usefixtures("without_the_library")
def test_without_the_library_a_mesh_with_expressions_is_not_made_and_the_error_names_the_extra() -> None:
    tags = MetricSettings(overrides={"requests_total": MetricOverride(tags=(TagOverride("a", "'x'", "m.yaml:3:4"),))})
    for settings, place in (
        (TelemetrySettings(access_logs=(LOG,)), "mesh.yaml:1:2"),
        (TelemetrySettings(tags), "m.yaml:3:4"),
    ):
        with pytest.raises(MeshError, match=rf"^{place}: .*pip install 'sidecarless\[cel\]'"):
            require(settings)
    require(TelemetrySettings())
    with pytest.raises(MeshError, match=r"sidecarless\[cel\]"):
        meshlib.Mesh.from_resources(
            [telemetry(accessLogging=[{"providers": [{"name": "envoy"}], "filter": {"expression": "true"}}])]
        )
    meshlib.Mesh.from_resources([telemetry(accessLogging=[]), mesh_config()]).close()


def test_a_text_that_is_not_cel_is_said_with_its_place() -> None:
    with pytest.raises(MeshError, match=r"^f:1:1: 'a \|\|' is not an expression of CEL"):
        require(TelemetrySettings(access_logs=(AccessLog("x", expression="a ||", expression_where="f:1:1"),)))


def test_a_value_of_a_line_is_read_of_the_workload_and_the_side_of_the_call() -> None:
    class Made(MadeUp):
        outbound = True

    read = cel.value_of("node.metadata.NAMESPACE + ' ' + string(xds.listener_direction)", NODE, False)
    assert read(MadeUp()) == "shop 1"
    assert read(Made()) == "shop 2"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("1.0 / 0.0", "inf"),
        ("true", True),
        ("null", None),
        ("'a'", "a"),
        ("b'a'", "YQ=="),
        ("duration('1h30m')", "5400s"),
        ("timestamp('2023-08-26T12:39:00-07:00')", "2023-08-26T19:39:00+00:00"),
        ("[1, 'a', [true]]", [1, "a", [True]]),
        ("{'a': {1: null}}", {"a": {"1": None}}),
        ("request.headers['never']", None),
    ],
)
def test_a_typed_value_is_one_of_json(expression: str, expected: object) -> None:
    assert cel.value_of(expression, {}, True)(MadeUp()) == expected
