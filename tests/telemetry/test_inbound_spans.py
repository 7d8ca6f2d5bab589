"""A SERVER span for each call served: its parent, its place around the handler, its result; telemetry never fails a call."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.inbound import NOTHING
from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from tests.support.grpc_echo import Message, eventually
from tests.support.grpc_probe import RUNTIMES, probe
from tests.support.inbound import admitted, envoy_filter, fault_patch
from tests.support.spiffe import Authority

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = 0xB7AD6B7169203331
SAMPLED = (("traceparent", f"00-{TRACE:032x}-{PARENT:016x}-01"), ("tracestate", "vendor=1"))
NOT_SAMPLED = (("traceparent", f"00-{TRACE:032x}-{PARENT:016x}-00"),)


class Traced:
    """A mesh whose spans are kept."""

    def __init__(self, *resources: dict[str, Any]) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.mesh = meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), tracer_provider=self.provider)

    def ended(self, count: int = 1) -> tuple[ReadableSpan, ...]:
        """The spans, once there are so many (a server ends its span after its caller has the answer)."""
        assert eventually(lambda: len(self.exporter.get_finished_spans()) >= count)
        found = self.exporter.get_finished_spans()
        assert len(found) == count
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    with made.mesh:
        yield made


@pytest.fixture(params=RUNTIMES)
def runtime(request) -> str:
    return request.param


def call(stub: Any, kind: str, **options: Any) -> None:
    message = Message(text="a", count=2)
    if kind in ("Collect", "Chat"):
        message = iter([message, message])
    found = getattr(stub, kind)(message, **options)
    if kind in ("Expand", "Chat"):
        list(found)


@pytest.mark.parametrize("kind", ["Unary", "Expand", "Collect", "Chat"])
def test_a_call_is_a_server_span_below_its_callers_and_current_in_the_handler(runtime, traced, kind):
    with probe(runtime, traced.mesh) as server, server.stub() as stub:
        call(stub, kind, metadata=SAMPLED)
        (span,) = traced.ended()
    assert (span.name, span.kind) == (f"meshlib.test.Echo/{kind}", SpanKind.SERVER)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (TRACE, PARENT, True)
    assert span.context.trace_state.get("vendor") == "1"
    assert span.attributes is not None
    wanted = {
        "rpc.system.name": "grpc",
        "rpc.system": "grpc",
        "rpc.service": "meshlib.test.Echo",
        "rpc.method": f"meshlib.test.Echo/{kind}",
        "rpc.response.status_code": "OK",
        "rpc.grpc.status_code": 0,
        "network.peer.address": "127.0.0.1",
        "client.address": "127.0.0.1",
    }
    assert {name: span.attributes[name] for name in wanted} == wanted
    assert isinstance(span.attributes["network.peer.port"], int)
    assert span.status.status_code is StatusCode.UNSET
    assert {seen.span.span_id for seen in server.notes.seen} == {span.context.span_id}


def test_without_a_callers_context_the_span_is_a_root(runtime, traced):
    with probe(runtime, traced.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"))
        (span,) = traced.ended()
    assert span.parent is None


def test_a_span_that_the_server_was_started_in_is_nobodys_parent(traced):
    """asyncio copies the context of whoever starts a server into the task of each call."""
    telemetry = traced.mesh._telemetry_of_servers()
    request = InboundRequest("POST", "/a.B/C", protocol="grpc")
    call = InboundCall(request, NOTHING, traced.mesh._core.clock, random.Random(1))
    exchange = telemetry.watch(call, inbound(call))
    with traced.provider.get_tracer("t").start_as_current_span("starting up"):
        admitted(exchange, lambda _: None)
        finish(exchange, Ended(200, 0))
    span, _ = traced.ended(2)
    assert (span.name, span.parent) == ("a.B/C", None)


def test_a_context_that_cannot_be_read_starts_a_trace_of_its_own(traced):
    with probe("threads", traced.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), metadata=(("traceparent", "00-zz-1-01"),))
        (span,) = traced.ended()
    assert span.parent is None


@pytest.mark.parametrize(
    ("order", "code", "status"),
    [
        ("abort NOT_FOUND", 5, StatusCode.UNSET),
        ("abort CANCELLED", 1, StatusCode.UNSET),
        ("abort UNAVAILABLE", 14, StatusCode.ERROR),
        ("abort DATA_LOSS", 15, StatusCode.ERROR),
        ("raise", 2, StatusCode.ERROR),
        ("code INTERNAL", 13, StatusCode.ERROR),
    ],
)
@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_only_a_servers_own_failures_are_errors(runtime, traced, order, code, status):
    with probe(runtime, traced.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError):
            stub.Unary(Message(text=order))
        (span,) = traced.ended()
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code
    assert span.status.status_code is status


def test_a_refusal_says_what_refused(runtime):
    traced = Traced(envoy_filter("f", fault_patch(abort={"http_status": 503, "percentage": {"numerator": 100}})))
    with traced.mesh, probe(runtime, traced.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError):
            stub.Unary(Message(text="a"))
        (span,) = traced.ended()
    assert span.attributes is not None
    assert (span.attributes["meshlib.flags"], span.attributes["meshlib.refusal"]) == ("FI", "fault_filter_abort")
    assert span.status.status_code is StatusCode.ERROR


def test_the_principal_of_the_caller_is_on_the_span(traced):
    authority, mine = Authority(), "spiffe://cluster.local/ns/default/sa/me"
    with probe("threads", traced.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(mine)) as stub:
            stub.Unary(Message(text="a"))
        (span,) = traced.ended()
    assert span.attributes is not None
    assert span.attributes["meshlib.source.principal"] == mine


@pytest.mark.parametrize("runtime", ["threads", "asyncio", "writer"])
def test_a_stream_that_its_caller_breaks_off_ends_its_span_once(runtime, traced):
    with probe(runtime, traced.mesh) as server, server.stub() as stub:
        stream = stub.Expand(Message(text="a", count=1_000_000))
        next(stream)
        stream.cancel()
        assert server.notes.closed.wait(30)
        # recorded at the next call or scrape at the latest, as calls that are closed are
        stub.Unary(Message(text="a"))
        broken, whole = sorted(traced.ended(2), key=lambda s: s.name)
    assert broken.attributes is not None
    assert whole.attributes is not None
    assert (broken.attributes["rpc.grpc.status_code"], broken.attributes["meshlib.flags"]) == (1, "DR")
    assert whole.attributes["rpc.grpc.status_code"] == 0


def test_a_caller_that_is_not_sampled_makes_calls_of_the_handler_not_sampled_either(runtime, traced):
    with probe(runtime, traced.mesh) as server, server.stub() as stub:
        call(stub, "Expand", metadata=NOT_SAMPLED)
    assert traced.exporter.get_finished_spans() == ()
    assert {(s.span.trace_id, s.span.trace_flags.sampled) for s in server.notes.seen} == {(TRACE, False)}


def test_without_an_sdk_no_span_is_made(runtime):
    with meshlib.Mesh.from_resources([], registry=CollectorRegistry()) as mesh:
        with probe(runtime, mesh) as server, server.stub() as stub:
            call(stub, "Expand", metadata=SAMPLED)
    assert {seen.span.is_valid for seen in server.notes.seen} == {False}


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_calls_that_a_handler_makes_through_the_mesh_are_below_its_span(runtime, traced):
    def upstream(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"seen": request.headers.get("traceparent", "")})

    def serve(_request: bytes, _context: Any) -> bytes:
        with traced.mesh.client(transport=httpx.MockTransport(upstream)) as client:
            return client.get("http://ratings:9080/").headers["seen"].encode()

    async def serve_async(_request: bytes, _context: Any) -> bytes:
        async with traced.mesh.async_client(transport=httpx.MockTransport(upstream)) as client:
            return (await client.get("http://ratings:9080/")).headers["seen"].encode()

    class Generic(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(serve if runtime == "threads" else serve_async)

    with probe(runtime, traced.mesh, handlers=[Generic()]) as server:
        with grpc.insecure_channel(server.address) as channel:
            sent = channel.unary_unary("/any/thing")(b"", metadata=SAMPLED, timeout=60).decode()
        attempt, client, serving = traced.ended(3)
    assert (client.kind, serving.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert client.parent is not None
    assert client.parent.span_id == serving.context.span_id
    assert attempt.parent is not None
    assert attempt.parent.span_id == client.context.span_id
    assert sent == f"00-{TRACE:032x}-{attempt.context.span_id:016x}-01"


# -- beside OpenTelemetry's own instrumentation -----------------------------------------------------------------------


def around(behaviour: Callable[..., Any], span: Any, *, asynchronous: bool) -> Callable[..., Any]:
    """A unary behaviour with a span current around it, ended after it."""

    def serve(request: Any, context: Any) -> Any:
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            return behaviour(request, context)
        finally:
            otel_context.detach(token)
            span.set_attribute("ended by", "its owner")
            span.end()

    async def serve_async(request: Any, context: Any) -> Any:
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            return await behaviour(request, context)
        finally:
            otel_context.detach(token)
            span.set_attribute("ended by", "its owner")
            span.end()

    return serve_async if asynchronous else serve


def instrumentation(tracer: Any, kind: SpanKind, *, asynchronous: bool) -> Any:
    """An interceptor that begins a span, as opentelemetry-instrumentation-grpc does."""

    def wrapped(handler: Any) -> Any:
        made = around(handler.unary_unary, tracer.start_span("theirs", kind=kind), asynchronous=asynchronous)
        return grpc.unary_unary_rpc_method_handler(made, handler.request_deserializer, handler.response_serializer)

    class Theirs(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            return wrapped(continuation(details))

    class TheirsAio(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            return wrapped(await continuation(details))

    return TheirsAio() if asynchronous else Theirs()


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_server_span_of_the_instrumentation_is_enriched_and_no_second_is_made(runtime, traced):
    theirs = instrumentation(traced.provider.get_tracer("t"), SpanKind.SERVER, asynchronous=runtime == "asyncio")
    with probe(runtime, traced.mesh, interceptors=[theirs]) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError):
            stub.Unary(Message(text="abort UNAVAILABLE"), metadata=SAMPLED)
        (span,) = traced.ended()
    assert span.name == "theirs"
    assert span.attributes is not None
    assert span.attributes["ended by"] == "its owner"
    assert (span.attributes["rpc.service"], span.attributes["rpc.grpc.status_code"]) == ("meshlib.test.Echo", 14)
    assert [seen.span.span_id for seen in server.notes.seen] == [span.context.span_id]


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_span_of_another_kind_around_a_handler_is_left_alone(runtime, traced):
    theirs = instrumentation(traced.provider.get_tracer("t"), SpanKind.INTERNAL, asynchronous=runtime == "asyncio")
    with probe(runtime, traced.mesh, interceptors=[theirs]) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), metadata=SAMPLED)
        mine, other = sorted(traced.ended(2), key=lambda s: s.name)
    assert (mine.kind, other.name) == (SpanKind.SERVER, "theirs")
    assert dict(other.attributes or {}) == {"ended by": "its owner"}
    assert mine.parent is not None
    assert mine.parent.span_id == PARENT


# -- telemetry never fails a call -------------------------------------------------------------------------------------


class Broken(TracerProvider):
    """A provider whose spans cannot be begun."""

    def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
        class Tracer:
            def start_span(self, *_args: Any, **_kwargs: Any) -> Any:
                raise RuntimeError("no spans today")

        return Tracer()


@pytest.mark.parametrize("kind", ["Unary", "Expand", "Collect", "Chat"])
def test_a_tracer_that_raises_is_counted_and_fails_no_call(runtime, kind):
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=registry, tracer_provider=Broken()) as mesh:
        with probe(runtime, mesh) as server, server.stub() as stub:
            call(stub, kind)
        assert mesh.status()["telemetry_failures"] == 1


def test_two_meshes_of_one_process_count_into_one_registry():
    registry = CollectorRegistry()
    one, two = (
        meshlib.Mesh.from_resources([], registry=registry, workload=meshlib.Workload(name)) for name in ("one", "two")
    )
    with one, two:
        for mesh in (one, two):
            with probe("threads", mesh) as server, server.stub() as stub:
                call(stub, "Unary")
        found = {
            s.labels["destination_workload"]: s.value
            for family in registry.collect()
            for s in family.samples
            if s.name in ("istio_requests_total", "istio_request_messages_total")
        }
    assert found == {"one": 1, "two": 1}
