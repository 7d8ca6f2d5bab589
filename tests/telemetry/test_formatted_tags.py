"""``customTags`` of the kind formatter."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.policy.secret_values import HIDDEN
from meshlib.policy.telemetry_settings import CustomTag
from meshlib.telemetry.formatted_tags import FormattedTags, formatted
from tests.support.access_log import MadeUp
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.telemetry import telemetry


def tag(value: str) -> CustomTag:
    return CustomTag("t", "formatter", value)


def test_operators_are_those_of_access_logs() -> None:
    made = FormattedTags([tag("%REQ(X-A)% took %DURATION% ms")], lambda: 0.0)
    assert made.of(MadeUp(headers={"x-a": "it"})) == {"t": "it took 1500 ms"}
    assert made.of(MadeUp()) == {"t": "- took 1500 ms"}


@pytest.mark.parametrize("form", ["%REQ(AUTHORIZATION)%", "Bearer %REQ(X-A?COOKIE)%"])
def test_a_header_that_opens_doors_is_not_shown(form: str) -> None:
    entry = MadeUp(headers={"authorization": "s3cret", "cookie": "s3cret"})
    assert FormattedTags([tag(form)], lambda: 0.0).of(entry) == {"t": HIDDEN}


def test_without_such_tags_nothing_is_made() -> None:
    assert formatted([CustomTag("a", "literal", "x")], lambda: 0.0) is None


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
