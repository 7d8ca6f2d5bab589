"""Istio's client metrics and a span a call; telemetry never fails a call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import meshlib
from benchmarks.free_ports import free_port
from meshlib.telemetry.families import LABELS
from tests.support.eventually import soon
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing
from tests.support.spans import attempts_of, calls_of


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


def resources(port: int, **rule) -> list[dict]:
    return [
        service("reviews"),
        pod("reviews", "v1", port),
        destination_rule("reviews", "v1"),
        virtual_service("reviews", {"route": [to("reviews", "v1")], **rule}),
    ]


def samples(registry: CollectorRegistry, name: str) -> list[tuple[dict[str, str], float]]:
    return [(s.labels, s.value) for family in registry.collect() for s in family.samples if s.name == name]


def test_calls_are_counted_with_istios_name_and_labels(server):
    registry = CollectorRegistry()
    workload = meshlib.Workload("productpage-v1", labels={"app": "productpage", "version": "v1"})
    with meshlib.Mesh.from_resources(resources(server.port), registry=registry, workload=workload) as mesh:
        with mesh.client() as client:
            for _ in range(3):
                client.get("http://reviews:9080/")
    ((labels, value),) = samples(registry, "istio_requests_total")
    assert value == 3
    assert tuple(labels) == LABELS
    assert {k: labels[k] for k in ("reporter", "source_workload", "source_app", "response_code", "response_flags")} == {
        "reporter": "source",
        "source_workload": "productpage-v1",
        "source_app": "productpage",
        "response_code": "200",
        "response_flags": "-",
    }
    assert labels["destination_service"] == "reviews.default.svc.cluster.local"
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == ("reviews", "default")
    assert (labels["destination_app"], labels["destination_version"]) == ("reviews", "v1")
    ((_, count),) = samples(registry, "istio_request_duration_milliseconds_count")
    assert count == 3
    assert b'le="3.6e+06"' in generate_latest(registry)


def test_failures_and_faults_are_counted_with_their_flags():
    registry = CollectorRegistry()
    fault = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
    with meshlib.Mesh.from_resources(resources(free_port()), registry=registry) as mesh, mesh.client() as client:
        with contextlib.suppress(httpx.ConnectError):
            client.get("http://reviews:9080/")
        mesh.apply(resources(1, fault=fault))
        client.get("http://reviews:9080/")
    found = {
        (labels["response_code"], labels["response_flags"]) for labels, _ in samples(registry, "istio_requests_total")
    }
    assert found == {("503", "UF,URX"), ("418", "FI")}


async def test_a_cancelled_call_is_counted_once_with_code_0(server):
    registry = CollectorRegistry()
    over = threading.Event()
    server.behave = lambda handler: over.wait(60)
    async with meshlib.Mesh.from_resources(resources(server.port), registry=registry) as mesh:
        async with mesh.async_client() as client:
            task = asyncio.create_task(client.get("http://reviews:9080/"))
            assert await soon(lambda: server.seen)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            over.set()
    ((labels, value),) = samples(registry, "istio_requests_total")
    assert (labels["response_code"], value) == ("0", 1)


def test_hosts_outside_the_registry_make_one_series_however_many_there_are():
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry) as mesh:
        with mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as client:
            for n in range(50):
                client.get(f"http://random-{n}.example/")
    ((labels, value),) = samples(registry, "istio_requests_total")
    assert (labels["destination_service_name"], labels["destination_service"], value) == (
        "PassthroughCluster",
        "unknown",
        50,
    )


def test_many_meshes_share_one_registry(server):
    registry = CollectorRegistry()
    for _ in range(3):
        with meshlib.Mesh.from_resources(resources(server.port), registry=registry) as mesh, mesh.client() as client:
            client.get("http://reviews:9080/")
    assert [value for _, value in samples(registry, "istio_requests_total")] == [3]


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_each_call_is_a_client_span_whose_context_reaches_the_upstream(server, spans):
    provider, exporter = spans
    with meshlib.Mesh.from_resources(resources(server.port), tracer_provider=provider) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/x?key=secret")
    (span,) = calls_of(exporter.get_finished_spans())
    assert (span.name, span.kind.name) == ("GET", "CLIENT")
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["meshlib.resource"] == "VirtualService/default/reviews"
    assert "secret" not in str(dict(span.attributes))
    assert f"{span.context.trace_id:032x}" in server.seen[0]["headers"]["traceparent"]


def test_calls_that_look_the_same_have_each_its_own_context_on_every_attempt(server, spans):
    provider, exporter = spans
    server.behave = lambda handler: handler.path == "/busy" and (handler.answer(503) or True)
    retried = resources(server.port, retries={"attempts": 1, "retryOn": "5xx", "backoff": "1ms"})
    with meshlib.Mesh.from_resources(retried, tracer_provider=provider, registry=CollectorRegistry()) as mesh:
        with mesh.client() as client:
            for path in ("ok", "busy", "ok"):
                client.get(f"http://reviews:9080/{path}")
    told = [f"{span.context.trace_id:032x}" for span in calls_of(exporter.get_finished_spans())]
    sent = [seen["headers"]["traceparent"].split("-")[1] for seen in server.seen]
    assert len(set(told)) == 3
    assert sent == [told[0], told[1], told[1], told[2]]


def test_a_callers_own_trace_goes_on_with_the_spans_of_the_call_in_it(server, spans):
    provider, exporter = spans
    own = "00-11111111111111111111111111111111-2222222222222222-01"
    with meshlib.Mesh.from_resources(resources(server.port), tracer_provider=provider) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/", headers={"traceparent": own, "tracestate": "vendor=1"})
    attempt, call = exporter.get_finished_spans()
    assert (call.parent.span_id, attempt.parent.span_id) == (0x2222222222222222, call.context.span_id)
    sent = server.seen[0]["headers"]
    assert sent["traceparent"] == f"00-{'1' * 32}-{attempt.context.span_id:016x}-01"
    assert sent["tracestate"] == "vendor=1"


def test_retries_are_told_on_the_span_of_the_call_and_each_has_its_own(server, spans):
    provider, exporter = spans
    server.behave = failing(503)
    made = resources(server.port, retries={"attempts": 2, "retryOn": "5xx"})
    with meshlib.Mesh.from_resources(made, tracer_provider=provider) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/")
    (span,) = calls_of(exporter.get_finished_spans())
    assert (span.attributes["http.request.resend_count"], span.status.status_code.name) == (2, "ERROR")
    assert len(attempts_of(exporter.get_finished_spans())) == 3


def test_a_broken_provider_never_fails_a_call_and_is_counted_and_logged_once(server, caplog):
    class Broken:
        def get_tracer(self, *args, **kwargs):
            return self

        def start_span(self, *args, **kwargs):
            raise RuntimeError("collector is on fire")

    with caplog.at_level(logging.ERROR):
        with (
            meshlib.Mesh.from_resources(resources(server.port), tracer_provider=Broken()) as mesh,
            mesh.client() as client,
        ):
            for _ in range(3):
                assert client.get("http://reviews:9080/").status_code == 200
            assert mesh.status()["telemetry_failures"] == 3
    assert len([r for r in caplog.records if r.name == "meshlib.telemetry"]) == 1


def test_a_global_provider_installed_after_the_mesh_is_used(server, spans, monkeypatch):
    from opentelemetry import trace

    provider, exporter = spans
    with meshlib.Mesh.from_resources(resources(server.port)) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/")
        assert "traceparent" not in server.seen[0]["headers"]
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        monkeypatch.setattr(mesh._core.telemetry._tracing, "_tracer", trace.get_tracer("meshlib"))
        client.get("http://reviews:9080/")
    assert "traceparent" in server.seen[1]["headers"]
    assert len(calls_of(exporter.get_finished_spans())) == 1


def test_a_call_dropped_inside_the_registrys_own_lock_does_not_hang(server):
    """The garbage collector may close an abandoned response at any allocation, also while somebody scrapes."""
    registry = CollectorRegistry()
    server.behave = lambda handler: handler.answer(200, b"x" * 500_000) or True
    with meshlib.Mesh.from_resources(resources(server.port), registry=registry) as mesh, mesh.client() as client:
        client.get("http://reviews:9080/")
        dropped = client.send(client.build_request("GET", "http://reviews:9080/"), stream=True)
        done = threading.Event()

        def drop_it_in_the_worst_place() -> None:
            nonlocal dropped
            with registry._lock:
                dropped.close()
                dropped = None
            done.set()

        threading.Thread(target=drop_it_in_the_worst_place, daemon=True).start()
        assert done.wait(30), "it hangs"
        assert sum(value for _, value in samples(registry, "istio_requests_total")) == 2


def test_a_match_with_a_stat_prefix_is_counted_by_it(server):
    registry = CollectorRegistry()
    match = [{"uri": {"prefix": "/a"}, "statPrefix": "first"}, {"uri": {"prefix": "/b"}}, {"statPrefix": "rest"}]
    with meshlib.Mesh.from_resources(resources(server.port, match=match), registry=registry) as mesh:
        with mesh.client() as client:
            for path in ("/a", "/a/x", "/b", "/c"):
                client.get(f"http://reviews:9080{path}")
    found = {s["stat_prefix"]: value for s, value in samples(registry, "meshlib_route_requests_total")}
    assert found == {"first": 2, "rest": 1}
