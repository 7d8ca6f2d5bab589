"""OpenTelemetry's and Sentry's global instrumentation of grpcio, which patch its functions: calls go on as ever, the channels
of the mesh to its endpoints are not touched, and who wants the interceptors puts them around the mesh's channel.

Each in a process of its own: they patch all of it."""

from __future__ import annotations

import pytest

from tests.support.forked import ROOT, Forked

pytestmark = pytest.mark.slow

PATCH = {
    "opentelemetry": """
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
def patch():
    GrpcInstrumentorClient().instrument()
    GrpcAioInstrumentorClient().instrument()
""",
    "sentry": """
import sys
sys.modules["eventlet"] = sys.modules["eventlet.patcher"] = None  # Sentry imports it where it is installed
import sentry_sdk
from sentry_sdk.integrations.grpc import GRPCIntegration
def patch():
    options = {"traces_sample_rate": 1.0, "default_integrations": False}
    sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", integrations=[GRPCIntegration()], **options)
""",
}
PATCH["both"] = (
    PATCH["opentelemetry"].replace("def patch", "def otel") + PATCH["sentry"].replace("def patch", "def sentry")
    + "def patch():\n    otel(); sentry()\n"
)  # fmt: skip

CALLS = """
import asyncio, gc, sys
%s
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
if %r == "before":
    patch()
import grpc
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import TARGET, RUNTIMES, mesh_of, quick
from tests.support.resources import to

RULES = [{"route": [to("echo.test")], "retries": quick("unavailable", 2)}]


async def main():
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    with EchoServer(script=["ok"]) as server, mesh_of(server, rules=RULES, tracer_provider=TracerProvider()) as mesh:
        if %r == "after":
            patch()
        for runtime_class in RUNTIMES:
            server.echo.script[:] = ["UNAVAILABLE", "ok"]
            runtime = runtime_class(mesh)
            assert (await runtime.unary("x", timeout=20)).text == "x"
            server.echo.script[:] = ["UNAVAILABLE", "ok"]
            assert await runtime.expand(2, "x", timeout=20) == ["x0", "x1"]
            assert await runtime.collect("a", "b", timeout=20) == "ab"
            assert await runtime.chat("a", "b", timeout=20) == ["a", "b"]
            assert (await runtime.with_call("x", timeout=20))[0].text == "x"
            await runtime.close()
        assert [c["active"] for c in mesh.status()["clusters"]] == [0]
        assert not [s.name for s in exporter.get_finished_spans()], "the mesh's own channels were instrumented"
%s
    gc.collect()
    await asyncio.sleep(0)
    assert not problems, problems
    print("fine")

asyncio.run(main())
"""

AT_THE_USERS_LEVEL = """
        from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor
        from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
        server.echo.script[:] = ["UNAVAILABLE", "ok"]
        channel = intercept_channel(mesh.grpc_channel(TARGET), client_interceptor())
        assert stubs.EchoStub(channel).Unary(Message(text="y")).text == "y"
        assert [s.name for s in exporter.get_finished_spans()] == ["/meshlib.test.Echo/Unary"]
        server.echo.script[:] = ["UNAVAILABLE", "ok"]
        async with mesh.aio_grpc_channel(TARGET, interceptors=aio_client_interceptors()) as channel:
            assert (await stubs.EchoStub(channel).Unary(Message(text="y"))).text == "y"
        assert len(exporter.get_finished_spans()) == 2
"""


def run(script):
    with Forked(script, folder=ROOT) as process:
        said = process.stdout.read()
        assert process.wait(120) == 0, said[-3000:]
    assert "fine" in said
    assert "never retrieved" not in said, said[-3000:]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("library", PATCH)
def test_calls_go_on_as_ever(library, when):
    run(CALLS % (PATCH[library], when, when, ""))


def test_interceptors_around_the_meshs_channel_see_a_call_once():
    run(CALLS % (PATCH["opentelemetry"], "before", "before", AT_THE_USERS_LEVEL))
