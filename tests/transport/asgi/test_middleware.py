"""MeshASGIMiddleware: who comes in, what is current meanwhile, and what stays undisturbed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading

import pytest
from fastapi import BackgroundTasks, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

import meshlib
from meshlib.engine import deadlines
from meshlib.engine.effects import Peek
from meshlib.engine.inbound import InboundCall
from meshlib.transport.asgi.http import HttpServing
from meshlib.transport.asgi.request import AsgiRequest
from tests.support.asgi import DENIED, DISCONNECT, Client, Served, ask, body, http_scope, responds, ws_scope
from tests.support.fake_clock import FakeClock
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import service
from tests.support.spiffe import Authority

OPS = "spiffe://cluster.local/ns/default/sa/ops"
TLS = {"tls": {"client_cert_chain": [Authority().issue(OPS)[1].decode()]}}


@pytest.fixture
def served():
    made = Served()
    yield made
    made.mesh.close()


def wrapped(served, app, port=None):
    return meshlib.MeshASGIMiddleware(app, served.mesh, port)


async def never(scope, receive, send):
    raise AssertionError("the application was called")


class TestRefusals:
    async def test_the_application_is_not_called_and_the_request_is_not_read(self, served):
        served.denies()
        client = await ask(wrapped(served, never), http_scope("/", (b"expect", b"100-continue"), method="POST"))
        assert (client.status, client.body, client.reads) == (403, b"RBAC: access denied", 0)
        assert served.counted() == [("403", "-")]
        assert served.sample("istio_response_bytes_sum") == len(b"content-typetext/plaincontent-length19") + 19

    async def test_a_malformed_request_is_refused_before_any_check(self, served):
        served.checks(lambda request: pytest.fail("a check was asked"))
        client = await ask(wrapped(served, never), http_scope("/a#b"))
        assert (client.status, client.body) == (400, b"Bad Request")
        assert served.counted() == [("400", "DPE")]

    async def test_a_websocket_is_turned_away(self, served):
        served.denies()
        client = Client({"type": "websocket.connect"})
        scope = ws_scope(extensions={"websocket.http.response": {}})
        await wrapped(served, never)(scope, client.receive, client.send)
        assert client.status == 403
        assert served.counted() == [("403", "-")]

    async def test_a_check_that_raises_refuses(self, served):
        def broken(_request):
            raise KeyError("x")

        served.checks(broken)
        assert (await ask(wrapped(served, never))).status == 500

    async def test_a_closed_mesh_lets_nothing_in(self, served):
        app = wrapped(served, never)
        served.mesh.close()
        assert (await ask(app)).status == 503

    async def test_one_whose_client_goes_meanwhile_is_counted_once(self, served):
        served.denies()

        class Gone(Client):
            async def send(self, message):
                raise BrokenPipeError

        client = Gone()
        with pytest.raises(BrokenPipeError):
            await wrapped(served, never)(http_scope(), client.receive, client.send)
        assert served.counted() == [("403", "-")]

    async def test_a_fault_of_an_envoy_filter_is_injected(self):
        served = Served(envoy_filter("slow", fault_patch(abort={"httpStatus": 418, "percentage": {"numerator": 100}})))
        client = await ask(wrapped(served, never))
        assert (client.status, client.body) == (418, b"fault filter abort")
        assert served.counted() == [("418", "FI")]
        served.mesh.close()

    async def test_a_connection_of_a_kind_that_no_policy_knows_is_not_served(self, served):
        with pytest.raises(NotImplementedError, match="'raw'"):
            await wrapped(served, never)({"type": "raw"}, None, None)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_told(served, port):
    with pytest.raises(ValueError, match="1 to 65535"):
        wrapped(served, never, port)


async def test_the_lifespan_is_the_applications_own(served):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    scope, client = {"type": "lifespan", "asgi": {}}, Client()
    await wrapped(served, app)(scope, client.receive, client.send)
    assert seen == [(scope, client.receive, client.send)]
    assert seen[0][0] is scope


async def test_a_request_that_nothing_changes_reaches_the_application_with_its_own_scope(served):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        await responds()(scope, receive, send)

    scope = http_scope()
    await ask(wrapped(served, app), scope)
    assert seen[0] is scope


async def test_changes_of_checks_reach_the_application_and_the_caller(served):
    def check(request):
        request.change().put("x-user", b"ann")
        request.change().remove.add("authorization")
        request.for_caller.append((b"x-left", b"1"))

    served.checks(check)
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])
        await responds(headers=[(b"own", b"1")])(scope, receive, send)

    client = await ask(wrapped(served, app), http_scope("/", (b"authorization", b"t"), (b"x-user", b"forged")))
    assert seen == [(b"host", b"shop.test"), (b"x-user", b"ann")]
    assert client.headers == {b"own": b"1", b"x-left": b"1"}


class TestWhatIsCurrent:
    async def test_handlers_know_their_request_and_nobody_else_does(self, served):
        async def app(scope, receive, send):
            request = served.mesh.inbound()
            assert (request.principal, request.path, request.port) == (OPS, "/a", 9080)
            assert await asyncio.create_task(self.path(served)) == "/a"
            assert await asyncio.to_thread(lambda: served.mesh.inbound().path) == "/a"
            await responds()(scope, receive, send)

        await ask(wrapped(served, app, 9080), http_scope("/a", extensions=TLS))
        assert served.mesh.inbound() is None

    @staticmethod
    async def path(served):
        return served.mesh.inbound().path

    async def test_concurrent_requests_each_know_their_own(self, served):
        async def app(scope, receive, send):
            for _ in range(3):
                await asyncio.sleep(0)
                assert served.mesh.inbound().path == scope["path"]
            await responds()(scope, receive, send)

        app_ = wrapped(served, app)
        await asyncio.gather(*(ask(app_, http_scope(f"/{n}")) for n in range(20)))
        assert len(served.counted()) == 20

    async def test_context_variables_of_the_application_stay_as_it_has_set_them(self, served):
        mine = contextvars.ContextVar("mine", default=0)

        async def app(scope, receive, send):
            mine.set(1)
            await responds()(scope, receive, send)

        await ask(wrapped(served, app))
        assert mine.get() == 1

    async def test_the_deadline_of_a_request_binds_what_its_handler_does_until_the_response_has_ended(self):
        clock = FakeClock()
        served = Served(clock=clock)
        seen: list[float | None] = []

        async def app(scope, receive, send):
            seen.append(deadlines.around())
            later = asyncio.create_task(self.around_later())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            seen.append(deadlines.around())
            await send({"type": "http.response.body", "body": b"a"})
            seen.append(deadlines.around())
            seen.append(await asyncio.to_thread(deadlines.around))
            seen.append(await later)

        await ask(wrapped(served, app), http_scope("/", (b"x-request-deadline", b"2000")))
        by = clock.monotonic() + 2.0
        assert seen == [by, by, None, None, None]
        served.mesh.close()

    @staticmethod
    async def around_later():
        for _ in range(10):
            await asyncio.sleep(0)
        return deadlines.around()

    async def test_background_tasks_of_fastapi_are_not_bound_by_it(self, served):
        app, seen = FastAPI(), []

        @app.get("/")
        async def handler(tasks: BackgroundTasks):
            seen.append(deadlines.around() is None)
            tasks.add_task(lambda: seen.append(deadlines.around() is None))
            tasks.add_task(lambda: seen.append(served.mesh.inbound().path))

        with TestClient(wrapped(served, app)) as client:
            assert client.get("/", headers={"x-request-deadline": "60000"}).status_code == 200
        assert seen == [False, True, "/"]

    @pytest.mark.parametrize("header", [(b"x-request-deadline", b"0"), (b"grpc-timeout", b"0m")])
    async def test_a_deadline_that_has_passed_is_refused(self, served, header):
        assert (await ask(wrapped(served, never), http_scope("/", header))).status == 408

    async def test_the_header_of_a_resilience_policy_counts_and_garbage_does_not(self):
        policy = {
            "apiVersion": "meshlib.dev/v1",
            "kind": "ResiliencePolicy",
            "metadata": {"name": "ratings", "namespace": "default"},
            "spec": {"host": "ratings", "deadline": {"header": "X-Left"}},
        }
        clock = FakeClock()
        served = Served(service("ratings"), policy, clock=clock)
        seen: list[float | None] = []

        async def app(scope, receive, send):
            seen.append(deadlines.around())
            await responds()(scope, receive, send)

        app_ = wrapped(served, app)
        for value in (b"3000", b"soon", b""):
            await ask(app_, http_scope("/", (b"x-left", value)))
        assert seen == [clock.monotonic() + 3.0, None, None]
        served.mesh.apply([])
        await ask(app_, http_scope("/", (b"x-left", b"3000")))
        assert seen[-1] is None
        served.mesh.close()


class TestSpans:
    @pytest.fixture
    def exporter(self):
        return InMemorySpanExporter()

    @pytest.fixture
    def traced(self, exporter):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        made = Served(tracer_provider=provider)
        yield made
        made.mesh.close()

    def test_a_request_is_a_span_of_its_callers_trace_named_by_its_route(self, traced, exporter):
        app = FastAPI()

        @app.get("/items/{item}")
        async def item(item: str) -> str:
            return item

        client = TestClient(wrapped(traced, app))
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        client.get("/items/7?secret=1", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        [span] = exporter.get_finished_spans()
        assert span.name == "GET /items/{item}"
        assert format(span.context.trace_id, "032x") == trace
        assert span.kind.name == "SERVER"
        wanted = {
            "http.request.method": "GET",
            "url.path": "/items/7",
            "http.route": "/items/{item}",
            "http.response.status_code": 200,
        }
        assert wanted.items() <= dict(span.attributes).items()
        assert "secret" not in span.to_json()

    async def test_a_refusal_says_why_there_and_nowhere_else(self, traced, exporter):
        traced.denies()
        client = await ask(wrapped(traced, never))
        [span] = exporter.get_finished_spans()
        assert span.attributes["meshlib.refusal"] == DENIED.detail
        assert DENIED.detail.encode() not in client.body + repr(client.headers).encode()

    async def test_spans_that_the_handler_begins_are_children_of_it(self, traced, exporter):
        async def app(scope, receive, send):
            tracer = traced.mesh._telemetry_of_servers()._tracing._tracer
            with tracer.start_as_current_span("inner"):
                await responds()(scope, receive, send)

        await ask(wrapped(traced, app))
        outer, inner = sorted(exporter.get_finished_spans(), key=lambda span: span.name != "GET")
        assert inner.parent.span_id == outer.context.span_id


async def test_a_server_that_rewrites_the_peers_address_is_told_of_once(served, caplog):
    app = wrapped(served, responds())
    with caplog.at_level(logging.WARNING, "meshlib.asgi"):
        for _ in range(2):
            await ask(app, http_scope("/", (b"x-forwarded-for", b"1.2.3.4"), client=("1.2.3.4", 0)))
    [record] = caplog.records
    assert "--no-proxy-headers" in record.getMessage()


async def test_a_request_ends_on_the_configuration_that_it_began_with(served):
    began, go = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        began.set()
        await go.wait()
        await responds()(scope, receive, send)

    app_ = wrapped(served, app)
    task = asyncio.create_task(ask(app_))
    await began.wait()
    served.mesh.apply([])
    served.denies()
    assert (await ask(app_)).status == 403
    go.set()
    assert (await task).status == 200


def test_one_middleware_serves_eight_event_loops(served):
    app = wrapped(served, responds())
    statuses: list[int] = []

    def run():
        async def all_():
            found = await asyncio.gather(*(ask(app) for _ in range(25)))
            statuses.extend(client.status for client in found)

        asyncio.run(all_())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 200
    assert served.counted() == [("200", "-")] * 200


async def test_a_thousand_cancelled_requests_leave_nothing(served):
    """``tests/faults/test_inbound_cancellation.py`` cancels twenty thousand, at every await."""

    async def app(scope, receive, send):
        await receive()

    def alive():
        gc.collect()
        return sum(type(o) in (InboundCall, AsgiRequest, HttpServing) for o in gc.get_objects())

    app_, before = wrapped(served, app), alive()
    for _ in range(10):
        clients = [Client() for _ in range(100)]
        tasks = [asyncio.create_task(app_(http_scope(), c.receive, c.send)) for c in clients]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    del tasks, task, clients
    assert alive() <= before, "of tests that have run here some may have gone meanwhile"
    assert served.counted() == [("0", "DC")] * 1000


class TestLooksAtTheBody:
    """As an authorizer that wants the beginning of it does."""

    @staticmethod
    def looks(*limits):
        seen = []

        def check(request):
            for limit in limits:
                effect = Peek(request.body_source, limit)
                yield effect
                seen.append((effect.head, effect.ended))

        return check, seen

    async def test_the_application_reads_the_body_from_its_first_byte_all_the_same(self, served):
        check, seen = self.looks(0, 1, 4, 100)
        served.checks(check)
        got = []

        async def app(scope, receive, send):
            while True:
                got.append(await receive())
                if not got[-1]["more_body"]:
                    break
            await responds()(scope, receive, send)

        says = [body(b"ab", True), body(b"cde", True), body(b"f")]
        await ask(wrapped(served, app), http_scope(method="POST"), *says)
        assert seen == [(b"", False), (b"ab", False), (b"abcde", False), (b"abcdef", True)]
        assert got == says
        assert served.sample("istio_request_bytes_sum") == len("POST/hostshop.test") + 6

    async def test_what_was_not_looked_at_is_read_as_it_comes(self, served):
        served.checks(self.looks(1)[0])
        got = []

        async def app(scope, receive, send):
            got.extend([await receive(), await receive()])
            await responds()(scope, receive, send)

        says = [body(b"ab", True), body(b"c")]
        await ask(wrapped(served, app), None, *says)
        assert got == says

    async def test_a_client_that_goes_meanwhile_is_counted_and_nobody_is_called(self, served):
        served.checks(self.looks(10)[0])
        await ask(wrapped(served, never), None, body(b"a", True), DISCONNECT)
        assert served.counted() == [("0", "DC")]

    async def test_a_websocket_has_no_body(self, served):
        check, seen = self.looks(10)
        served.checks(check, lambda _request: DENIED)
        client = Client({"type": "websocket.connect"})
        await wrapped(served, never)(ws_scope(), client.receive, client.send)
        assert seen == [(b"", True)]


def test_what_is_not_a_mesh_is_refused_when_the_application_is_made_not_when_it_is_called():
    with pytest.raises(
        TypeError, match=r"MeshASGIMiddleware\(app, mesh\) needs a meshlib.Mesh as its second argument, not str"
    ):
        meshlib.MeshASGIMiddleware(lambda *args: None, "mesh/")
