"""A request of which nothing is asked: what is recorded of it, and what goes by, are those of one that takes the exchange."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshlib.engine import deadlines
from meshlib.engine.inbound_context import current, here
from meshlib.engine.inbound_request import InboundRequest
from meshlib.transport.asgi.http import HttpServing
from meshlib.transport.asgi.middleware import CALL, MeshASGIMiddleware
from meshlib.transport.asgi.straight import Straight
from meshlib.transport.runtimes import serving
from tests.support.asgi import DISCONNECT, Client, Served, ask, body, http_scope, responds
from tests.support.resources import service
from tests.support.tokens import issuer

START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"7")]}
SAID = [
    START,
    {"type": "http.response.start", "status": 404},
    {**START, "trailers": True},
    {"type": "http.response.body", "body": b"abc", "more_body": True},
    {"type": "http.response.body", "body": b"de"},
    {"type": "http.response.body"},
    {"type": "http.response.pathsend", "path": "/x"},
    {"type": "http.response.trailers", "headers": [(b"grpc-status", b"3")], "more_trailers": True},
    {"type": "http.response.trailers"},
    {"type": "http.response.early_hint", "links": []},
]
ENDS: list[BaseException | None] = [None, ValueError("x"), OSError("x"), asyncio.CancelledError(), GeneratorExit()]

REQUEST = InboundRequest("GET", "/")


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "PLAIN", False)
        yield


class Fails(Client):
    """``at``: the message that is not sent, because the client has gone."""

    def __init__(self, at: int, *says: dict[str, Any]) -> None:
        super().__init__(*says)
        self.at = at

    async def send(self, message: dict[str, Any]) -> None:
        self.at -= 1
        if self.at == 0:
            raise OSError("gone")
        await super().send(message)


class Way:
    """One of the two: a mesh with nothing to ask, or with a check that lets in everybody."""

    def __init__(self, asks: bool) -> None:
        self.spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.served = Served(tracer_provider=provider)
        if asks:
            self.served.checks(lambda _request: None)

    def record(self, scope: dict[str, Any], acts: list[Any], end: BaseException | None, at: int) -> list[Any]:
        """All that is known afterwards."""
        client, raised, kinds = Fails(at, body(b"12345", True), body(b"6"), DISCONNECT), [], []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            kinds.append(type(scope[CALL]))
            for act in acts:
                try:
                    raised.append(await receive() if act is None else await send(dict(act)))
                except OSError as error:
                    raised.append(repr(error))
            if end is not None:
                raise end

        running = MeshASGIMiddleware(app, self.served.mesh)(scope, client.receive, client.send)
        try:
            running.send(None)
        except BaseException as error:
            raised.append(repr(error))
        else:  # it waits for a client that says no more
            running.close()
        (span,) = self.spans.get_finished_spans() or (self.served.counted() and self.spans.get_finished_spans())
        self.spans.clear()
        samples = {
            (s.name, *sorted(s.labels.items())): s.value
            for family in self.served.registry.collect()
            for s in family.samples
            if s.name.startswith("istio_") and not s.name.endswith("_created") and "duration" not in s.name
        }
        assert current.get() is None
        told = {name: value for name, value in (span.attributes or {}).items() if name != "guid:x-request-id"}
        shown = (span.name, told, span.status.status_code)
        return [client.got, raised, samples, shown, [kind is Straight for kind in kinds]]


@pytest.fixture(scope="module")
def ways():
    made = Way(False), Way(True)
    yield made
    for way in made:
        way.served.mesh.close()


@settings(max_examples=40, deadline=None)
@given(
    acts=st.lists(st.none() | st.sampled_from(SAID), max_size=6),
    end=st.sampled_from(ENDS),
    at=st.integers(0, 4),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    target=st.sampled_from(["/a", "/a?b=c"]),
)
@example([START, SAID[4]], None, 0, "GET", "/a?b=c")
@example([SAID[2], SAID[4], SAID[8]], None, 0, "GET", "/a")
@example([START, SAID[6]], None, 0, "GET", "/a")
@example([START, SAID[3], None, None, None, SAID[4]], None, 0, "GET", "/a")
@example([START, SAID[4], None, None, None], ValueError("x"), 0, "GET", "/a")
@example([START, SAID[4]], None, 2, "GET", "/a")
@example([START, None, None, None, None], None, 0, "GET", "/a")
def test_both_ways_record_the_same(ways, acts, end, at, method, target):
    straight, asked = (way.record(http_scope(target, method=method), acts, end, at) for way in ways)
    assert (straight.pop(), asked.pop()) == ([True], [False])
    assert straight == asked


class Seen:
    """An application that says which way its request has come."""

    def __init__(self) -> None:
        self.ways: list[type] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        call = scope[CALL]
        self.ways.append(type(call))
        assert here() is call.request
        assert deadlines.current.get() is (None if type(call) is Straight else call.until)
        await responds()(scope, receive, send)


@pytest.fixture
def served():
    made = Served()
    yield made
    made.mesh.close()


@pytest.mark.parametrize(
    ("headers", "straight"),
    [
        ([], True),
        ([(b"content-type", b"application/json")], True),
        ([(b"x-forwarded-for", b"1.2.3.4")], True),
        ([(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-for", b"1.2.3.5")], True),
        ([(b"content-type", b"application/grpc")], False),
        ([(b"grpc-timeout", b"5S")], False),
        ([(b"x-request-deadline", b"5")], False),
    ],
)
async def test_requests_with_a_deadline_or_of_another_protocol_take_the_exchange(served, headers, straight):
    app = Seen()
    await ask(MeshASGIMiddleware(app, served.mesh), http_scope("/", *headers))
    assert [way is Straight for way in app.ways] == [straight]


@pytest.mark.parametrize("target", ["http://shop.test/a", "/a#b"])
async def test_a_target_that_is_no_path_does_not_go_straight(served, target):
    app = Seen()
    for _ in range(2):
        await ask(MeshASGIMiddleware(app, served.mesh), http_scope(target))
    assert Straight not in app.ways


async def test_what_a_reload_asks_is_asked_of_the_next_request(served):
    app = Seen()
    door = MeshASGIMiddleware(app, served.mesh)
    await ask(door)
    served.denies()
    assert (await ask(door)).status == 403
    served.mesh.apply([])
    await ask(door)
    assert app.ways == [Straight, Straight]
    served.mesh.close()
    assert (await ask(door)).status == 503


async def test_a_deadline_around_it_is_not_its_own(served):
    app = Seen()
    token = deadlines.current.set(7.0)
    await ask(MeshASGIMiddleware(app, served.mesh))
    assert (deadlines.current.get(), app.ways) == (7.0, [Straight])
    deadlines.current.reset(token)


async def test_a_call_that_goes_straight_is_a_call_like_others(served):
    calls = []

    async def app(scope, receive, send):
        calls.append(scope[CALL])
        await responds()(scope, receive, send)

    await ask(MeshASGIMiddleware(app, served.mesh))
    (call,) = calls
    core = served.mesh._core
    assert (call.clock, call.rng, call.failures) == (core.clock, core.rng, core.live.check_failures)
    assert (call.status, call.sent, call.flags, call.checks) == (200, 200, "", ())
    assert not isinstance(call, HttpServing)


def test_a_mesh_of_another_name_for_deadlines_lets_none_go_straight(served):
    server = served.mesh._server()
    assert server.straight(REQUEST) is not None
    assert served.mesh._server(propagate_deadline=False).straight(REQUEST) is None
    served.mesh.apply(
        [
            service("ratings"),
            {
                "apiVersion": "meshlib.dev/v1",
                "kind": "ResiliencePolicy",
                "metadata": {"name": "d", "namespace": "default"},
                "spec": {"host": "ratings", "deadline": {"header": "x-left"}},
            },
        ]
    )
    assert "x-left" in server.deadline_names()
    assert server.straight(REQUEST) is None


ISSUER = issuer("ES256")
POLICIES: list[dict[str, Any]] = [
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "me", "jwks": ISSUER.jwks()}]},
    },
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "ann", "namespace": "default"},
        "spec": {"rules": [{"from": [{"source": {"requestPrincipals": ["me/ann"]}}]}]},
    },
]


async def test_what_checks_let_in_at_once_goes_straight_and_what_they_do_not_is_asked_no_second_time():
    served = Served(*POLICIES)
    seen: list[Any] = []

    async def app(scope, receive, send):
        seen.append((type(scope[CALL]), dict(scope["headers"]).get(b"authorization"), scope[CALL].request.claims))
        await responds()(scope, receive, send)

    middleware = MeshASGIMiddleware(app, served.mesh)
    counts = served.mesh._core.inbound.authorization

    async def status(token: str) -> int:
        client = await ask(middleware, http_scope("/", (b"authorization", b"Bearer " + token.encode())))
        return client.status

    ann, bob = (ISSUER.token({"iss": "me", "sub": who}) for who in ("ann", "bob"))
    for n in range(3):
        assert await status(ann) == 200
        assert await status(bob) == 403
        assert counts.of("denied") == {"": n + 1}
        assert await status(ann + "x") == 401
    # the token was taken away, as no rule says to forward it
    assert [found[:2] for found in seen] == [(Straight, None)] * 3
    assert all(found[2] == {"iss": "me", "sub": "ann"} for found in seen)
    assert sorted(code for code, _ in served.counted()) == ["200"] * 3 + ["401"] * 3 + ["403"] * 3


def test_a_request_that_was_served_leaves_nothing_to_the_garbage_collector():
    served, calls = Served(), []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        calls.append(weakref.ref(scope[CALL]))
        await responds()(scope, receive, send)

    meshed = MeshASGIMiddleware(app, served.mesh)
    scopes = [http_scope() for _ in range(20)]  # kept: a scope refers to nothing of the mesh's afterwards

    async def serve() -> None:
        for scope in scopes:
            client = Client(body(b"", False))
            await meshed(scope, client.receive, client.send)
            assert CALL not in scope

    gc.disable()
    try:
        asyncio.run(serve())
        left = [call for call in calls if call() is not None]
    finally:
        gc.enable()
    assert (len(calls), left) == (20, [])


def test_the_request_is_made_only_when_somebody_asks_for_it():
    served, seen = Served(), []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        call = scope[CALL]
        seen.append(call._request is not None)
        if scope["path"] == "/asks-for-it":
            request = here()
            assert request is not None
            seen.append((request.method, request.path, request.query, request is call.request))
        await responds()(scope, receive, send)

    meshed = MeshASGIMiddleware(app, served.mesh)
    for target in (
        "/never-seen",
        "/never-seen",
        "/asks-for-it",
        "/asks-for-it",
    ):  # the first of each is looked at closely
        asyncio.run(ask(meshed, http_scope(f"{target}?a=1")))
    asked = ("GET", "/asks-for-it", "a=1", True)
    assert seen == [True, False, True, asked, False, asked]


def test_a_client_that_has_left_stays_gone_whatever_else_is_noted_of_its_call():
    noted = []

    async def app(scope, receive, send):
        await receive()
        call = scope[CALL]
        call.add_flag("NR")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        noted.append((type(call), call.flags, call.status))

    async def left():
        return {"type": "http.disconnect"}

    async def send(_message):
        pass

    with_mesh = Served()
    asyncio.run(MeshASGIMiddleware(app, with_mesh.mesh)(http_scope("/a"), left, send))
    assert noted == [(Straight, "NR,DC", 200)]
    with_mesh.mesh.close()
