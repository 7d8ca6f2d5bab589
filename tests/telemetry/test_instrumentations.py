"""Beside OpenTelemetry's own instrumentations: nothing is told twice, and what the mesh knows is on the span that there is.

Each is put on one client, channel or application, so that no other test of the process sees it; ``tests/guests`` patches whole
libraries, in processes of their own. Flask's needs another version of what they share: there, too.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as AsgiInstrumentation
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WsgiInstrumentation
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_echo import Message, eventually, stubs
from tests.support.grpc_runtimes import TARGET
from tests.support.grpc_runtimes import mesh_of as grpc_mesh
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.spans import Kept
from tests.support.telemetry import telemetry

RETRIES = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
TRACE, PARENT = "80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1"
TOLD = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def kept():
    made = Kept()
    yield made
    made.provider.shutdown()


@pytest.fixture
def server():
    left = [503]
    with EchoServer("v1", lambda handler: bool(left) and (handler.answer(left.pop()) or True)) as made:
        yield made


def mesh_of(kept, port=1):
    rules = virtual_service("reviews", {"route": [to("reviews")], "retries": RETRIES})
    resources = [service("reviews"), pod("reviews", "v1", port), rules]
    return meshlib.Mesh.from_resources(resources, tracer_provider=kept.provider, registry=CollectorRegistry())


# -- calls made -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_the_span_of_instrumentation_httpx_is_the_calls_and_attempts_are_below_it(kept, server, runtime):
    with mesh_of(kept, server.port) as mesh:
        client = mesh.client() if runtime == "threads" else mesh.async_client()
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=kept.provider)
        if runtime == "threads":
            with client:
                assert client.get("http://reviews:9080/").status_code == 200
        else:

            async def go():
                async with client:
                    assert (await client.get("http://reviews:9080/")).status_code == 200

            asyncio.run(go())
    [call] = kept.calls
    assert call.instrumentation_scope.name == "opentelemetry.instrumentation.httpx"
    assert call.attributes["meshlib.resource"] == "VirtualService/default/reviews"
    assert [event.name for event in call.events] == ["meshlib.retry"]
    assert [attempt.parent.span_id for attempt in kept.attempts] == [call.context.span_id] * 2
    sent = [seen["headers"]["traceparent"].split("-")[1:3] for seen in server.seen]
    assert sent == [[f"{a.context.trace_id:032x}", f"{a.context.span_id:016x}"] for a in kept.attempts]


def test_an_instrumented_client_that_the_sdk_does_not_sample_makes_no_spans_of_the_mesh_either(server):
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    kept = Kept(sampler=ParentBased(ALWAYS_OFF))
    with mesh_of(kept, server.port) as mesh, mesh.client() as client:
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=kept.provider)
        client.get("http://reviews:9080/")
    assert kept.spans == ()
    assert {int(seen["headers"]["traceparent"].split("-")[3], 16) & 1 for seen in server.seen} == {0}


def test_a_client_span_of_anything_else_is_the_parent_of_the_calls_below_it(kept, server):
    """A CLIENT span around several calls (of an SDK for language models, say) is none of theirs."""
    tracer = kept.provider.get_tracer("opentelemetry.instrumentation.openai")
    with mesh_of(kept, server.port) as mesh, mesh.client() as client:
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT) as chat:
            client.get("http://reviews:9080/")
            client.get("http://reviews:9080/")
    calls = [span for span in kept.calls if span.name == "GET"]
    assert [span.parent.span_id for span in calls] == [chat.get_span_context().span_id] * 2


@pytest.mark.parametrize("kind", ["unary", "future", "expand"])
def test_the_span_of_instrumentation_grpc_is_the_calls_and_attempts_are_below_it(kept, kind):
    with GrpcServer(script=["UNAVAILABLE", "ok"]) as server, grpc_mesh(server, tracer_provider=kept.provider) as mesh:
        with mesh.grpc_channel(TARGET) as channel:
            stub = stubs.EchoStub(intercept_channel(channel, client_interceptor(kept.provider)))
            if kind == "unary":
                stub.Unary(Message(text="a"), timeout=20)
            elif kind == "future":
                stub.Unary.future(Message(text="a"), timeout=20).result()
            else:
                list(stub.Expand(Message(text="a", count=2), timeout=20))
            assert eventually(lambda: len(kept.calls) == 1 and len(kept.attempts) == 2)
    [call] = kept.calls
    assert call.instrumentation_scope.name == "opentelemetry.instrumentation.grpc"
    assert [attempt.parent.span_id for attempt in kept.attempts] == [call.context.span_id] * 2
    sent = [seen.metadata["traceparent"].split("-")[2] for seen in server.seen]
    assert sent == [f"{attempt.context.span_id:016x}" for attempt in kept.attempts]


async def test_the_span_of_instrumentation_grpc_on_asyncio_is_the_calls(kept):
    with GrpcServer() as server, grpc_mesh(server, tracer_provider=kept.provider) as mesh:
        interceptors = aio_client_interceptors(tracer_provider=kept.provider)
        async with mesh.aio_grpc_channel(TARGET, interceptors=interceptors) as channel:
            await stubs.EchoStub(channel).Unary(Message(text="a"), timeout=20)
        await mesh.aclose()
    assert {span.context.trace_id for span in kept.spans} == {kept.calls[0].context.trace_id}
    [attempt] = kept.attempts
    assert server.seen[0].metadata["traceparent"].split("-")[2] == f"{attempt.context.span_id:016x}"


# -- requests served --------------------------------------------------------------------------------------------------


async def ok(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def get_asgi(app, **headers):
    async def go():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.get("/page", headers={**TOLD, **headers})

    return asyncio.run(go())


def of_server(kept):
    """The SERVER spans; all spans are of the caller's trace."""
    assert {f"{span.context.trace_id:032x}" for span in kept.spans} == {TRACE}
    return [span for span in kept.spans if span.kind is SpanKind.SERVER]


def test_the_span_of_instrumentation_asgi_around_the_middleware_is_enriched(kept):
    with mesh_of(kept) as mesh:
        get_asgi(AsgiInstrumentation(MeshASGIMiddleware(ok, mesh), tracer_provider=kept.provider))
    [span] = of_server(kept)
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.asgi"
    assert (span.attributes["istio.namespace"], span.attributes["url.path"]) == ("default", "/page")
    assert f"{span.parent.span_id:016x}" == PARENT


def test_instrumentation_asgi_inside_the_middleware_tells_of_the_application_below_the_meshs_span(kept):
    with mesh_of(kept) as mesh:
        get_asgi(MeshASGIMiddleware(AsgiInstrumentation(ok, tracer_provider=kept.provider), mesh))
    [span] = of_server(kept)
    assert span.instrumentation_scope.name == "meshlib"
    [theirs] = [each for each in kept.spans if each.parent.span_id == span.context.span_id]
    assert theirs.kind is SpanKind.INTERNAL


@pytest.mark.parametrize("first", [True, False], ids=["before the extension", "after it"])
def test_instrumentation_fastapi_and_the_middleware_make_one_server_span(kept, first):
    from fastapi import FastAPI
    from meshlib_fastapi import MeshExtension

    app = FastAPI()
    with mesh_of(kept) as mesh:
        if first:
            FastAPIInstrumentor.instrument_app(app, tracer_provider=kept.provider)
        MeshExtension(app, mesh)
        app.get("/page")(lambda: "page")
        if not first:
            FastAPIInstrumentor.instrument_app(app, tracer_provider=kept.provider)
        assert get_asgi(app).json() == "page"
    [span] = of_server(kept)
    outer = "meshlib" if first else "opentelemetry.instrumentation.fastapi"  # whoever comes last is outside
    assert span.instrumentation_scope.name == outer
    assert (span.attributes["istio.namespace"], span.attributes["http.route"]) == ("default", "/page")


def get_wsgi(app, **headers):
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://shop.test") as client:
        client.get("/page", headers={**TOLD, **headers})


def plain_wsgi(_environ, start_response):
    start_response("200 OK", [])
    return [b""]


def test_the_span_of_instrumentation_wsgi_around_the_middleware_is_enriched(kept):
    with mesh_of(kept) as mesh:
        get_wsgi(WsgiInstrumentation(MeshWSGIMiddleware(plain_wsgi, mesh), tracer_provider=kept.provider))
    [span] = of_server(kept)
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.wsgi"
    assert span.attributes["istio.namespace"] == "default"


def test_instrumentation_wsgi_inside_the_middleware_is_below_the_meshs_span(kept):
    with mesh_of(kept) as mesh:
        get_wsgi(MeshWSGIMiddleware(WsgiInstrumentation(plain_wsgi, tracer_provider=kept.provider), mesh))
    [span] = of_server(kept)
    assert span.instrumentation_scope.name == "meshlib"
    assert [each.kind for each in kept.spans if each is not span] == [SpanKind.INTERNAL]


def test_the_application_sees_the_id_that_its_request_was_given(kept):
    seen = []

    async def looks(scope, receive, send):
        seen.append(dict(scope["headers"]).get(b"x-request-id"))
        await ok(scope, receive, send)

    def looks_wsgi(environ, start_response):
        seen.append(environ.get("HTTP_X_REQUEST_ID", "").encode())
        return plain_wsgi(environ, start_response)

    with mesh_of(kept) as mesh:
        asgi, wsgi = MeshASGIMiddleware(looks, mesh), MeshWSGIMiddleware(looks_wsgi, mesh)
        for _ in range(4):  # the first ones are looked at, those like them go straight
            get_asgi(asgi)
            get_wsgi(wsgi)
    told = [span.attributes["guid:x-request-id"].encode() for span in kept.spans]
    assert seen == told
    assert len(set(seen)) == 8


@pytest.mark.parametrize("method", ["set_attributes", "set_status", "end", "is_recording"])
def test_an_sdk_that_raises_anywhere_fails_no_request_and_is_counted(kept, method):
    async def fails(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def fails_wsgi(_environ, start_response):
        start_response("500 Sorry", [])
        return [b""]

    kept.breaks(method)
    with mesh_of(kept) as mesh:
        assert get_asgi(MeshASGIMiddleware(fails, mesh)).status_code == 500
        get_wsgi(MeshWSGIMiddleware(fails_wsgi, mesh))
        assert mesh.status()["failures"]["telemetry"] == 2


def test_formats_of_the_access_log_are_attributes_of_what_is_served():
    kept = Kept()
    tags = {"line": {"formatter": {"value": "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%"}}}
    made = telemetry(tracing=[{"customTags": tags}])
    with meshlib.Mesh.from_resources([made], tracer_provider=kept.provider, registry=CollectorRegistry()) as mesh:
        get_asgi(MeshASGIMiddleware(ok, mesh))
        get_wsgi(MeshWSGIMiddleware(plain_wsgi, mesh))
    assert [span.attributes["line"] for span in kept.spans] == ["GET /page 200"] * 2


def test_an_id_that_a_request_comes_with_is_what_the_application_sees(kept):
    seen = []

    async def looks(scope, receive, send):
        seen.append([value for name, value in scope["headers"] if name == b"x-request-id"])
        await ok(scope, receive, send)

    def looks_wsgi(environ, start_response):
        seen.append([environ["HTTP_X_REQUEST_ID"].encode()])
        return plain_wsgi(environ, start_response)

    with mesh_of(kept) as mesh:
        asgi, wsgi = MeshASGIMiddleware(looks, mesh), MeshWSGIMiddleware(looks_wsgi, mesh)
        for _ in range(4):
            get_asgi(asgi, **{"x-request-id": "mine"})
            get_wsgi(wsgi, **{"x-request-id": "mine"})
    assert seen == [[b"mine"]] * 8
    assert {span.attributes["guid:x-request-id"] for span in kept.spans} == {"mine"}
