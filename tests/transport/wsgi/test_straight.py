"""A request of which nothing is asked: what is recorded of it, and what goes by, are those of one that takes the exchange."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshlib.engine import deadlines
from meshlib.engine.inbound_context import current
from meshlib.transport.runtimes import serving as servers
from meshlib.transport.wsgi.response import serving
from meshlib.transport.wsgi.straight import Straight
from tests.support.spiffe import Authority
from tests.support.tokens import issuer
from tests.support.wsgi import Answered, PlainSock, Sock, Watched, environ

STATUSES = ["200 OK", "204 No Content", "404 Not Found", "nonsense"]
HEADERS: list[list[tuple[str, str]]] = [[], [("Content-Length", "3")]]
ERRORS: list[type[BaseException] | None] = [None, ValueError, KeyboardInterrupt, GeneratorExit]


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "PLAIN", False)
        yield


class Wrapper:
    """The server's, for files."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    def __iter__(self) -> Any:
        return self._pieces


class Way:
    """One of the two: a mesh with nothing to ask, or with a check that lets in everybody."""

    def __init__(self, asks: bool) -> None:
        self.spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.watched = Watched(tracer_provider=provider)
        self.checks = [lambda _request: None] if asks else []

    def record(self, asked: dict[str, Any], make: Any, reads: int) -> list[Any]:
        """All that is known afterwards. ``reads``: pieces that the server takes."""
        raised: list[Any] = []
        inside: list[Any] = []

        def app(got: dict[str, Any], start_response: Any) -> Any:
            inside.append((current.get() is serving.get().request, deadlines.current.get()))  # type: ignore[union-attr]
            return make(start_response)

        answered = Answered()
        door = self.watched.around(app, *self.checks)
        try:
            pieces = door(dict(asked), answered.start_response)
            try:
                for _ in range(reads):
                    raised.append(next(iter(pieces)))
            finally:
                close = getattr(pieces, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            raised.append(repr(error))
        assert (current.get(), serving.get()) == (None, None)
        call = self.watched.calls.pop()
        assert self.watched.calls == []
        (span,) = self.spans.get_finished_spans()
        self.spans.clear()
        told = {name: value for name, value in (span.attributes or {}).items() if name != "guid:x-request-id"}
        shown = (span.name, told, span.status.status_code)
        facts = call.status, call.grpc_status, call.flags, call.sent, call.request_bytes, call.response_bytes
        return [answered.begun, answered.body, raised, inside, shown, facts, type(call) is Straight]


@pytest.fixture(scope="module")
def ways():
    made = Way(False), Way(True)
    yield made
    for way in made:
        way.watched.mesh.close()


def application(
    kind: str, begins: list[tuple[int, int]], pieces: list[bytes], error: type[BaseException] | None
) -> Any:
    def streamed(start_response: Any) -> Any:
        for status, headers in begins:
            start_response(STATUSES[status], HEADERS[headers])
        yield from pieces
        if error is not None:
            raise error("x")

    def whole(start_response: Any) -> Any:
        write = None
        for status, headers in begins:
            write = start_response(STATUSES[status], HEADERS[headers])
        if kind == "writes" and write is not None:
            for piece in pieces:
                write(piece)
            pieces_left: list[bytes] = []
        else:
            pieces_left = pieces
        if error is not None:
            raise error("x")
        return Wrapper(pieces_left) if kind == "file" else list(pieces_left)

    return streamed if kind == "streams" else whole


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["streams", "list", "writes", "file"]),
    begins=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=2),
    pieces=st.lists(st.sampled_from([b"", b"abc", b"d"]), max_size=3),
    error=st.sampled_from(ERRORS),
    reads=st.integers(0, 5),
    method=st.sampled_from(["GET", "HEAD"]),
    length=st.sampled_from([{}, {"CONTENT_LENGTH": "5"}, {"CONTENT_LENGTH": "x"}]),
)
@example("streams", [(0, 1)], [b"abc"], None, 1, "GET", {})
@example("list", [(0, 0)], [b"abc"], None, 5, "GET", {"CONTENT_LENGTH": "5"})
@example("streams", [(1, 0)], [], None, 0, "GET", {})
@example("writes", [(0, 0)], [b"abc"], ValueError, 0, "GET", {})
@example("file", [(0, 1)], [b"abc"], None, 1, "GET", {})
@example("streams", [], [b"abc"], None, 5, "GET", {})
@example("streams", [(0, 0)], [b"abc"], KeyboardInterrupt, 5, "GET", {})
def test_both_ways_record_the_same(ways, kind, begins, pieces, error, reads, method, length):
    make = application(kind, begins, pieces, error)
    asked = environ(REQUEST_METHOD=method, **{"wsgi.file_wrapper": Wrapper}, **length)
    straight, exchanged = (way.record(asked, make, reads) for way in ways)
    assert (straight.pop(), exchanged.pop()) == (True, False)
    assert straight == exchanged


@pytest.fixture
def watched():
    made = Watched()
    yield made
    made.mesh.close()


def says(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize(
    ("more", "straight"),
    [
        ({}, True),
        ({"CONTENT_TYPE": "application/json"}, True),
        ({"HTTP_X_REQUEST_DEADLINE": "5"}, False),
        ({"HTTP_GRPC_TIMEOUT": "5S"}, False),
        ({"RAW_URI": "/a#b"}, False),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}, False),
    ],
)
def test_what_has_a_deadline_or_is_malformed_takes_the_exchange(watched, more, straight):
    Answered().serve(watched.around(says), environ(**more))
    assert [type(call) is Straight for call in watched.calls] == [straight]


def test_a_response_that_is_begun_again_with_an_error_is_the_later_one(watched):
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError("x")
        except ValueError as error:
            start_response("500 Oh", [("x", "1")], (type(error), error, error.__traceback__))
        return [b"no"]

    answered = Answered().serve(watched.around(app), environ())
    assert (answered.status, watched.results) == ("500 Oh", [(500, "")])


def test_one_that_its_server_drops_is_noted_and_lets_go_of_the_servers_connection(watched):
    class Connection:
        alive = 0

        def __init__(self) -> None:
            Connection.alive += 1

        def __call__(self, *said: Any) -> Any:
            return len

        def __del__(self) -> None:
            Connection.alive -= 1

    watched.around(says)(environ(), Connection())
    gc.collect()
    assert Connection.alive == 0
    assert watched.counted() == {("0", "DC"): 1}


def test_a_deadline_around_it_is_not_its_own(watched):
    seen = []

    def app(got: Any, start_response: Any) -> list[bytes]:
        seen.append(deadlines.current.get())
        return says(got, start_response)

    token = deadlines.current.set(7.0)
    Answered().serve(watched.around(app), environ())
    assert (deadlines.current.get(), seen) == (7.0, [None])
    deadlines.current.reset(token)


def test_a_call_that_goes_straight_is_a_call_like_others(watched):
    Answered().serve(watched.around(says), environ())
    (call,) = watched.calls
    core = watched.mesh._core
    assert (call.clock, call.rng, call.failures) == (core.clock, core.rng, core.live.check_failures)
    assert (call.status, call.sent, call.flags, call.checks) == (200, 200, "", ())


def test_series_by_status_and_principal_are_those_of_the_exchange():
    """All but the first of a kind are noted where the first one was."""
    names = [("spiffe://cluster.local/ns/a/sa/a",), ("spiffe://cluster.local/ns/b/sa/b",), ()]  # the last is nobody's
    authority = Authority()
    socks = [PlainSock(), *(Sock(ssl.PEM_cert_to_DER_cert(authority.issue(*each)[1].decode())) for each in names)]
    samples = []
    for checks in ((), (lambda _request: None,)):
        watched = Watched()
        for _ in range(3):
            for n, sock in enumerate(socks):
                for status in ("200 OK", "404 Not Found", "nonsense"):

                    def app(
                        _: Any, start_response: Any, status: str = status, n: int = n, watched: Any = watched
                    ) -> Any:
                        watched.clock.advance(0.01 * n)
                        start_response(status, [])
                        return [b"x" * n]

                    asked = environ(**{"gunicorn.socket": sock, "CONTENT_LENGTH": str(n)})
                    Answered().serve(watched.around(app, *checks), asked)
        kinds = {type(call) is Straight for call in watched.calls}
        assert kinds == {not checks}
        samples.append([sample[:3] for family in watched.registry.collect() for sample in family.samples])
        watched.mesh.close()
    straight, exchanged = ([each for each in found if not each[0].endswith("_created")] for found in samples)
    assert straight == exchanged
    assert sorted({value for name, _, value in straight if name == "istio_requests_total"}) == [3.0]


def test_the_port_is_asked_for_only_where_ports_differ(watched):
    asked: list[int] = []
    sock = PlainSock()
    sock.getsockname = lambda: asked.append(1) or ("10.0.0.9", 8000)
    Answered().serve(watched.around(says), environ(**{"gunicorn.socket": sock}))
    assert (watched.results, asked) == ([(200, "")], [])


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


def test_what_checks_let_in_at_once_goes_straight_and_what_they_do_not_is_asked_no_second_time():
    watched = Watched(*POLICIES)
    seen: list[Any] = []

    def app(got: Any, start_response: Any) -> list[bytes]:
        seen.append((got.get("HTTP_AUTHORIZATION"), watched.calls[-1].request.claims))
        return says(got, start_response)

    middleware = watched.around(app)
    counts = watched.mesh._core.inbound.authorization

    def status(token: str) -> str:
        return Answered().serve(middleware, environ(HTTP_AUTHORIZATION=f"Bearer {token}")).status[:3]

    ann, bob = (ISSUER.token({"iss": "me", "sub": who}) for who in ("ann", "bob"))
    for n in range(3):
        assert status(ann) == "200"
        assert isinstance(watched.calls[-1], Straight)
        assert status(bob) == "403"
        assert counts.of("denied") == {"": n + 1}
        assert status(ann + "x") == "401"
        assert not isinstance(watched.calls[-1], Straight)
    assert seen == [(None, {"iss": "me", "sub": "ann"})] * 3
