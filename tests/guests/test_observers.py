"""OpenTelemetry's instrumentations and Sentry, which patch what they watch: each in a process of its own.

A mesh makes one span a call by itself. What watches httpx's transports or grpcio's channels sees none of its connections, so
nothing is told twice; what watches clients (Sentry) sees the call.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.forked import Forked

ALL_OF_THEM = pytest.mark.skipif(os.environ.get("MESHLIB_GUESTS") != "1", reason="make guests")
ROOT = Path(__file__).parents[2]

BEGINS = """
import json, sys
sys.modules["eventlet"] = None  # Sentry looks into it where it is installed, which trio does not survive
import httpx, httpx2, meshlib
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.spans import attempts_of, calls_of

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
RETRIED = virtual_service("guest", {"route": [to("guest")], "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}})
left = [1]

def refuse_one(handler):
    if left and left.pop():
        handler.answer(503)
        return True
    return False

def mesh_of(server, **options):
    return meshlib.Mesh.from_resources([service("guest"), pod("guest", "v1", server.port), RETRIED], **options)

def trace_of(request):
    return int(request["headers"]["traceparent"].split("-")[1], 16)
"""

OTEL_HTTPX = """
from opentelemetry.instrumentation.httpx import {instrumentor}
{instrumentor}().instrument(tracer_provider=provider)
with EchoServer("v1", refuse_one) as server, mesh_of(server, tracer_provider=provider) as mesh:
    for client in (mesh.client(module={module}), {module}.Client(transport=mesh.http_transport())):
        with client:
            assert client.get("http://guest:9080/").status_code == 200
    calls = calls_of(exporter.get_finished_spans())
    assert [span.kind for span in calls] == [SpanKind.CLIENT] * 2, [span.name for span in calls]
    assert [trace_of(request) for request in server.seen] == [
        calls[0].context.trace_id, calls[0].context.trace_id, calls[1].context.trace_id
    ]
    exporter.clear()
    with {module}.Client() as bare:
        bare.get(f"http://127.0.0.1:{{server.port}}/")
    assert len(exporter.get_finished_spans()) == 1, "what is not the mesh's is told by the instrumentation"
"""

OTEL_FASTAPI = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from meshlib_fastapi import MeshClient, MeshExtension
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

with EchoServer("v1", refuse_one) as server:
    app = FastAPI()
    if {first}:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    MeshExtension(app, mesh_of(server, tracer_provider=provider))

    @app.get("/page")
    async def page(client: MeshClient):
        return (await client.get("http://guest:9080/")).json()["server"]

    if not {first}:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    with TestClient(app) as client:
        assert client.get("/page").json() == "v1"
    spans = exporter.get_finished_spans()
    servers = [span for span in spans if span.kind is SpanKind.SERVER]
    calls = [span for span in calls_of(spans) if span.kind is SpanKind.CLIENT]
    assert (len(servers), len(calls)) == (1, 1), [(span.name, span.kind) for span in spans]
    assert calls[0].context.trace_id == servers[0].context.trace_id
    assert [trace_of(request) for request in server.seen] == [servers[0].context.trace_id] * 2
"""

OTEL_FLASK = """
from flask import Flask
from meshlib_flask import Mesh
from opentelemetry.instrumentation.flask import FlaskInstrumentor

with EchoServer("v1", refuse_one) as server:
    app = Flask("page")
    mesh = mesh_of(server, tracer_provider=provider)
    if {first}:
        FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    Mesh(app, mesh)

    @app.get("/page")
    def page():
        with mesh.client() as client:
            return client.get("http://guest:9080/").json()["server"]

    if not {first}:
        FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    assert app.test_client().get("/page").text == "v1"
    spans = exporter.get_finished_spans()
    servers = [span for span in spans if span.kind is SpanKind.SERVER]
    calls = [span for span in calls_of(spans) if span.kind is SpanKind.CLIENT]
    assert (len(servers), len(calls)) == (1, 1), [(span.name, span.kind) for span in spans]
    assert calls[0].context.trace_id == servers[0].context.trace_id
    assert servers[0].attributes["istio.namespace"] == "default"
    assert [trace_of(request) for request in server.seen] == [servers[0].context.trace_id] * 2
"""

OTEL_GRPC = """
import asyncio
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
GrpcInstrumentorClient().instrument(tracer_provider=provider)
GrpcAioInstrumentorClient().instrument(tracer_provider=provider)
from tests.support.grpc_echo import EchoServer as Echo, Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of as grpc_mesh

with Echo("one") as server, grpc_mesh(server, tracer_provider=provider) as mesh:
    with mesh.grpc_channel(TARGET) as channel:
        stub = stubs.EchoStub(channel)
        assert stub.Unary(Message(text="a"), timeout=20).text == "a"
        assert len(list(stub.Expand(Message(text="a", count=3), timeout=20))) == 3

    async def go():
        async with mesh.aio_grpc_channel(TARGET) as channel:
            assert (await stubs.EchoStub(channel).Unary(Message(text="a"), timeout=20)).text == "a"

    asyncio.run(go())
    spans = calls_of(exporter.get_finished_spans())
    assert [span.kind for span in spans] == [SpanKind.CLIENT] * 3, [span.name for span in spans]
    sent = [int(seen.metadata["traceparent"].split("-")[1], 16) for seen in server.echo.seen]
    assert sent == [span.context.trace_id for span in spans]
"""

SENTRY = """
import asyncio
import sentry_sdk
from sentry_sdk.transport import Transport

class Kept(Transport):
    kept = []
    def capture_envelope(self, envelope):
        self.kept += [item.payload.json for item in envelope.items if item.headers.get("type") == "transaction"]

def start():
    sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", transport=Kept, traces_sample_rate=1.0)

{before}
with EchoServer("v1", refuse_one) as server, mesh_of(server) as mesh:
    client = mesh.client(module={module})
    {after}
    with sentry_sdk.start_transaction(name="page") as transaction, client:
        assert client.get("http://guest:9080/").status_code == 200

    async def go():
        async with mesh.async_client(module={module}) as client:
            assert (await client.get("http://guest:9080/")).status_code == 200

    with sentry_sdk.start_transaction(name="page"):
        asyncio.run(go())
    sentry_sdk.flush()
    traces = [request["headers"]["sentry-trace"].split("-")[0] for request in server.seen]
assert len(Kept.kept) == 2
for told in Kept.kept:
    calls = [span for span in told["spans"] if span["op"] == "http.client"]
    assert [span["description"] for span in calls] == ["GET http://guest:9080/"], told["spans"]
assert traces == [transaction.trace_id] * 2 + [Kept.kept[1]["contexts"]["trace"]["trace_id"]]
"""


def run(text):
    with Forked(text, folder=ROOT) as program:
        said = program.stdout.read()
        assert program.wait(120) == 0, said


@pytest.mark.parametrize(
    ("module", "instrumentor"), [("httpx", "HTTPXClientInstrumentor"), ("httpx2", "HTTPX2ClientInstrumentor")]
)
def test_opentelemetry_instrumentation_httpx_beside_a_mesh_tells_nothing_twice(module, instrumentor):
    pytest.importorskip("opentelemetry.instrumentation.httpx", reason="make guests")
    run(BEGINS + OTEL_HTTPX.format(module=module, instrumentor=instrumentor))


@pytest.mark.parametrize("first", [True, False], ids=["before the extension", "after it"])
def test_opentelemetry_instrumentation_fastapi_is_the_parent_of_a_meshs_call(first):
    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="make guests")
    run(BEGINS + OTEL_FASTAPI.format(first=first))


@pytest.mark.parametrize("first", [True, False], ids=["before the extension", "after it"])
def test_opentelemetry_instrumentation_flask_makes_no_second_server_span(first):
    pytest.importorskip("opentelemetry.instrumentation.flask", reason="make guests")
    run(BEGINS + OTEL_FLASK.format(first=first))


def test_opentelemetry_instrumentation_grpc_beside_a_mesh_tells_nothing_twice():
    pytest.importorskip("opentelemetry.instrumentation.grpc", reason="make guests")
    run(BEGINS + OTEL_GRPC)


@pytest.mark.parametrize(
    ("module", "begins"),
    [
        ("httpx", "before"),
        pytest.param("httpx", "after", marks=ALL_OF_THEM),
        pytest.param("httpx2", "before", marks=ALL_OF_THEM),
        pytest.param("httpx2", "after", marks=ALL_OF_THEM),
    ],
)
def test_sentry_sees_one_call_whenever_it_was_started(module, begins):
    pytest.importorskip("sentry_sdk", reason="make guests")
    when = {"before": "", "after": ""} | {begins: "start()"}
    run(BEGINS + SENTRY.format(module=module, **when))
