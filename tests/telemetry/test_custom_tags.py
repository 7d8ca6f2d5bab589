"""customTags: what every span has beside what the mesh tells."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.policy.telemetry_settings import CustomTag
from meshlib.telemetry.custom_tags import LONGEST, CustomTags, expressions_of
from tests.support.access_log import MadeUp
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.telemetry import telemetry


def tags(*made, **headers):
    found = CustomTags(made)
    return {**found.always, **found.of(headers.get)}


def test_literals_and_variables_are_known_beforehand(monkeypatch):
    monkeypatch.setenv("REGION", "eu")
    found = CustomTags((CustomTag("team", "literal", "shop"), CustomTag("region", "environment", "REGION")))
    assert found.always == {"team": "shop", "region": "eu"}
    assert not found.by_header


def test_a_default_stands_in_and_without_one_there_is_no_such_attribute(monkeypatch):
    monkeypatch.delenv("REGION", raising=False)
    assert tags(CustomTag("region", "environment", "REGION", "none"), CustomTag("zone", "environment", "ZONE_X")) == {
        "region": "none"
    }
    assert tags(CustomTag("user", "header", "x-user", "nobody"), CustomTag("plan", "header", "x-plan")) == {
        "user": "nobody"
    }


def test_a_header_of_the_request():
    assert tags(CustomTag("user", "header", "end-user"), **{"end-user": "jason"}) == {"user": "jason"}


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key"])
def test_a_header_that_opens_doors_is_not_shown(name):
    assert tags(CustomTag("who", "header", name), **{name: "canary"}) == {"who": "(not shown)"}


def test_a_header_of_any_length_makes_an_attribute_of_a_bounded_one():
    [value] = tags(CustomTag("user", "header", "end-user"), **{"end-user": "x" * 10_000}).values()
    assert len(value) == 1024


@pytest.mark.parametrize("name", ["referer", "Referer", "x-envoy-original-path"])
def test_a_header_that_has_a_url_tells_no_secret_of_its_query(name):
    made = CustomTags((CustomTag("from", "header", name, "nowhere"),))
    url = "https://shop.example/pay?step=2&token=s3cret&q=a"
    assert made.of({name.lower(): url}.get) == {"from": "https://shop.example/pay?step=2&token=***&q=a"}
    long = f"/?a={'b' * (LONGEST - 5)}&token=s3cret"
    assert "s3cret" not in made.of({name.lower(): long}.get)["from"]
    assert made.of({}.get) == {"from": "nowhere"}


def test_a_format_is_told_when_the_call_is_over_and_there_is_no_attribute_when_nothing_is_known():
    made = CustomTags((CustomTag("t", "formatter", "%REQ(X-A)%"), CustomTag("u", "formatter", "%DURATION% ms")))
    assert made.ended(MadeUp(headers={"x-a": "it"})) == {"t": "it", "u": "1500 ms"}
    assert made.ended(MadeUp()) == {"u": "1500 ms"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(":path", "/pay?step=2&token=***"), (":Method", "GET"), (":authority", "reviews:9080"), (":scheme", "http")],
)
def test_a_pseudo_header_is_what_the_request_says_and_tells_no_secret(name, value):
    made = CustomTags((CustomTag("it", "header", name, "unused"),))
    assert not made.by_header
    assert made.ended(MadeUp("/pay?step=2&token=s3cret")) == {"it": value}


def test_an_attribute_has_the_characters_that_the_header_has_and_no_escapes_of_a_log():
    wire = 'j"\\é'.encode().decode("latin-1")
    assert tags(CustomTag("user", "header", "end-user"), **{"end-user": wire}) == {"user": 'j"\\é'}
    made = CustomTags((CustomTag("t", "formatter", "<%REQ(X-A)%>"),))
    assert made.ended(MadeUp(headers={"x-a": 'j"\\é'})) == {"t": '<j"\\é>'}


def test_a_format_does_not_show_a_header_that_opens_doors():
    made = CustomTags((CustomTag("t", "formatter", "Bearer %REQ(X-A?COOKIE)%"),))
    assert made.ended(MadeUp(headers={"cookie": "s3cret"})) == {"t": "Bearer ***"}


def test_spans_of_a_running_mesh_have_them_and_a_reload_takes_them_away() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    wanted = telemetry(tracing=[{"customTags": {"how": {"formatter": {"value": "%REQ(:METHOD)% %RESPONSE_CODE%"}}}}])
    with EchoServer("v1") as server:
        base = [service("reviews"), pod("reviews", "v1", server.port)]
        with (
            meshlib.Mesh.from_resources(
                [*base, wanted], registry=CollectorRegistry(), tracer_provider=provider
            ) as mesh,
            mesh.client() as client,
        ):
            assert isinstance(client.get("http://reviews:9080/"), httpx.Response)
            mesh.apply(base)
            client.get("http://reviews:9080/")
    told = [(span.attributes or {}).get("how") for span in exporter.get_finished_spans() if span.kind.name == "CLIENT"]
    roots = [span for span in exporter.get_finished_spans() if span.parent is None]
    assert [(span.attributes or {}).get("how") for span in roots] == ["GET 200", None]
    assert "GET 200" in told


def test_an_expression_in_a_format_reads_the_workload_and_its_errors_are_told() -> None:
    pytest.importorskip("cel_expr_python")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = {
        "by": {"formatter": {"value": "%CEL(node.metadata.NAME)% in %CEL(node.metadata.NAMESPACE)%"}},
        "tenant": {"formatter": {"value": "%CEL(request.headers['x-not-there'])%"}},
    }
    wanted = telemetry(tracing=[{"customTags": made}])
    with (
        meshlib.Mesh.from_resources(
            [service("reviews"), pod("reviews", "v1", 9080), wanted],
            registry=CollectorRegistry(),
            tracer_provider=provider,
            workload=meshlib.Workload("orders-v1", namespace="default"),
        ) as mesh,
        mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client,
    ):
        client.get("http://reviews:9080/")
        errors = mesh.status()["telemetry"]["expression_errors"]
    [root] = [span for span in exporter.get_finished_spans() if span.parent is None]
    assert (root.attributes or {})["by"] == "orders-v1 in default"
    assert "tenant" not in (root.attributes or {})
    assert errors == {"request.headers['x-not-there']": 1}


def test_expressions_are_those_of_formats_that_are_valid() -> None:
    found = expressions_of(
        (
            CustomTag("a", "formatter", "%CEL(request.path)% %DURATION%"),
            CustomTag("b", "formatter", "%CEL("),
            CustomTag("c", "literal", "%CEL(request.id)%"),
        )
    )
    assert found == ["request.path"]
