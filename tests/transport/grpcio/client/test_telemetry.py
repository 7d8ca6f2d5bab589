"""What is recorded of gRPC calls, and the trace context that goes on with them."""

from __future__ import annotations

from concurrent import futures
from functools import partial

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from tests.support.grpc_echo import SERVICE, Echo, EchoServer, Message, echo_servers, stubs
from tests.support.grpc_runtimes import (
    HOST,
    KINDS,
    TARGET,
    TIMEOUTS,
    by_kind,
    mesh_of,
    messages_until_it_is_over,
    quick,
    refused,
    soon,
)
from tests.support.resources import to
from tests.support.spans import Kept, attempts_of, calls_of

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def total(registry, **labels):
    """The sum of the series that have these labels."""
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "istio_requests_total" and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_are_counted_with_their_grpc_status(runtime_class, kind):
    registry = CollectorRegistry()
    script = ["ok", "NOT_FOUND", ("after", 1, "INTERNAL")]
    with EchoServer(script=script) as server, mesh_of(server, registry=registry) as mesh:
        runtime = runtime_class(mesh)
        await by_kind(runtime, kind)
        await refused(by_kind(runtime, kind))
        if kind in ("expand", "chat"):
            await refused(by_kind(runtime, kind))
        assert await soon(lambda: total(registry, request_protocol="grpc", grpc_response_status="0") == 1)
        assert total(registry, grpc_response_status="5", response_code="200", destination_service=HOST) == 1
        if kind in ("expand", "chat"):
            assert await soon(lambda: total(registry, grpc_response_status="13") == 1)


async def test_streams_that_are_read_to_their_end_and_dropped_are_no_cancellations(runtime_class):
    registry = CollectorRegistry()
    with echo_servers(None) as [server], mesh_of(server, registry=registry) as mesh:
        runtime = runtime_class(mesh)
        for _ in range(100):
            await runtime.expand(1)
            await runtime.chat("a")
        assert await soon(lambda: total(registry) == 200)
        assert total(registry, grpc_response_status="0", response_flags="-") == 200


async def test_a_route_that_takes_too_long_in_the_middle_of_a_stream_is_counted_as_the_caller_hears_it(runtime_class):
    for timeout in TIMEOUTS:
        counted = partial(total, registry := CollectorRegistry())
        rules = [{"route": [to(HOST)], "timeout": timeout}]
        with EchoServer() as server, mesh_of(server, rules=rules, registry=registry) as mesh:
            messages, error = await messages_until_it_is_over(runtime_class(mesh))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert await soon(partial(counted, grpc_response_status="14", response_flags="UT"))
            assert counted() == 1
            await mesh.aclose()
        if messages:
            return
    raise AssertionError("no message came in time")


async def test_what_the_mesh_answers_is_counted_with_its_flags(runtime_class):
    registry = CollectorRegistry()
    rules = [{"route": [to(HOST)], "fault": {"abort": {"grpcStatus": "ABORTED", "percentage": {"value": 100}}}}]
    with mesh_of(1, rules=rules, registry=registry) as mesh:
        await refused(runtime_class(mesh).unary())
        assert total(registry, request_protocol="grpc", grpc_response_status="10", response_flags="FI") == 1


async def test_a_cancelled_stream_is_counted_once(runtime_class):
    registry = CollectorRegistry()
    with echo_servers(None) as [server], mesh_of(server, registry=registry) as mesh:
        call = runtime_class(mesh).stub.Expand(Message(count=10_000))
        first = next(call) if hasattr(call, "__next__") else await call.read()
        assert first.text == "0"
        call.cancel()
        if hasattr(call, "read"):
            await call.code()
        assert await soon(lambda: total(registry) == 1)
        assert total(registry, grpc_response_status="1", response_flags="DC") == 1


async def test_a_span_for_each_call(runtime_class):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    rules = [{"route": [to(HOST)], "retries": quick("unavailable", 1)}]
    with (
        EchoServer(script=["UNAVAILABLE", "ok", "UNAVAILABLE"]) as server,
        mesh_of(server, rules=rules, tracer_provider=provider) as mesh,
    ):
        runtime = runtime_class(mesh)
        await runtime.unary()
        await refused(runtime.unary())
        good, bad = calls_of(exporter.get_finished_spans())
        assert good.name == f"{SERVICE}/Unary"
        assert good.attributes["rpc.system"] == "grpc"
        assert good.attributes["rpc.service"] == SERVICE
        assert good.attributes["rpc.method"] == f"{SERVICE}/Unary"
        assert (good.attributes["rpc.system.name"], good.attributes["rpc.response.status_code"]) == ("grpc", "OK")
        assert good.attributes["rpc.grpc.status_code"] == 0
        assert good.attributes["http.request.resend_count"] == 1
        assert good.status.is_unset
        assert (bad.attributes["rpc.grpc.status_code"], bad.status.is_ok) == (14, False)
        sent = [s.metadata["traceparent"].split("-")[2] for s in server.seen]
        attempts = attempts_of(exporter.get_finished_spans())
        assert sent == [f"{attempt.context.span_id:016x}" for attempt in attempts]
        assert [attempt.parent.span_id for attempt in attempts[:2]] == [good.context.span_id] * 2
        told = [(a.attributes["meshlib.attempt"], a.attributes["rpc.response.status_code"]) for a in attempts[:2]]
        assert told == [(1, "UNAVAILABLE"), (2, "OK")]
        assert attempts[1].attributes["http.request.resend_count"] == 1


async def test_a_callers_own_trace_goes_on_with_the_spans_of_the_call_in_it(runtime_class):
    kept = Kept()
    with echo_servers(None) as [server], mesh_of(server, tracer_provider=kept.provider) as mesh:
        await runtime_class(mesh).unary(metadata=(("traceparent", TRACE),))
        assert await soon(lambda: len(kept.spans) == 2)
        [attempt], [call] = kept.attempts, kept.calls
        assert f"{call.parent.span_id:016x}" == TRACE.split("-")[2]
        sent = [value for name, value in server.seen[0].metadata.items() if name == "traceparent"]
        assert sent == [f"00-{TRACE.split('-')[1]}-{attempt.context.span_id:016x}-01"]


class _Relay(Echo):
    """A service that calls another one for each call it serves."""

    def __init__(self, mesh):
        super().__init__("relay")
        self.stub = stubs.EchoStub(mesh.grpc_channel(TARGET))

    def Unary(self, request, context):
        self._begin("Unary", context)
        return self.stub.Unary(request)


async def test_without_an_sdk_the_trace_of_the_call_being_served_goes_on():
    with echo_servers(None) as [inner], mesh_of(inner) as mesh:
        grpc_server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=mesh.grpc_server_interceptors())
        stubs.add_EchoServicer_to_server(_Relay(mesh), grpc_server)
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        grpc_server.start()
        try:
            outer = stubs.EchoStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
            sent = (("traceparent", TRACE), ("x-request-id", "r-1"), ("other", "x"))
            assert outer.Unary(Message(text="x"), metadata=sent, timeout=60).server == "a"
        finally:
            grpc_server.stop(None)
        seen = inner.seen[0]
        assert seen.metadata["traceparent"] == TRACE
        assert seen.metadata["x-request-id"] == "r-1"
        assert "other" not in seen.metadata
        assert seen.time_remaining < 60.2


async def test_telemetry_never_stands_in_the_way(runtime_class, monkeypatch):
    with echo_servers(None) as [server], mesh_of(server, registry=CollectorRegistry()) as mesh:
        monkeypatch.setattr(type(mesh._core.telemetry._metrics), "finished", lambda *_: 1 / 0)
        assert await runtime_class(mesh).server() == "a"
        assert mesh.status()["telemetry_failures"] == 1
