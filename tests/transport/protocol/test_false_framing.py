"""Requests whose headers are not true of their bodies, on real connections: refused, and nobody else's answer is touched."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshlib
from meshlib import errors
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_server import H2Server
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.strict_server import StrictServer

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: reviews\r\n\r\n"
URL = "http://reviews:9080"
LENGTH, CODING = b"Content-Length", b"Transfer-Encoding"
FRAMING = frozenset((b"content-length", b"transfer-encoding"))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


class Caller:
    """One client that stays open, blocking or asyncio, of httpx or httpx2."""

    def __init__(self, name: str, module: Any = httpx) -> None:
        self.name = name
        self.module = module
        self._loop = asyncio.new_event_loop() if name == "asyncio" else None

    def open(self, mesh: meshlib.Mesh, inner: bool = False) -> None:
        module = self.module
        if self._loop is None:
            own = module.HTTPTransport() if inner else None
            self._client = module.Client(transport=mesh.http_transport(own, module=module))
        else:
            own = module.AsyncHTTPTransport() if inner else None
            self._client = module.AsyncClient(transport=mesh.async_http_transport(own, module=module))

    def body(self, pieces: list[bytes]) -> Any:
        return iter(pieces) if self._loop is None else _each(pieces)

    def send(
        self, method: str, path: str, headers: Any = None, content: Any = None, without: tuple[str, ...] = ()
    ) -> Any:
        request = self._client.build_request(method, URL + path, content=content)
        for name in without:
            del request.headers[name]
        if headers is not None:
            named = {name.lower() for name, _ in headers}
            if named & FRAMING:
                named |= FRAMING  # what httpx itself says of the body
            kept = [(k, v) for k, v in request.headers.raw if k.lower() not in named]
            request.headers = self.module.Headers([*kept, *headers])
        sent = self._client.send(request)
        return sent if self._loop is None else self._loop.run_until_complete(sent)

    def close(self) -> None:
        if self._loop is None:
            self._client.close()
        else:
            self._loop.run_until_complete(self._client.aclose())
            self._loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def caller(request):
    made = Caller(request.param)
    yield made
    made.close()


def mesh_to(port: int, *more: dict[str, Any], http2: bool = False) -> meshlib.Mesh:
    resources = [service("reviews"), pod("reviews", "v1", port), *more]
    if http2:
        upgrade = {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}
        resources.append(destination_rule("reviews", **upgrade))
    return meshlib.Mesh.from_resources(resources)


class Http1:
    """A strict server of HTTP/1.1."""

    def __init__(self) -> None:
        self.server = StrictServer()

    def __enter__(self) -> Http1:
        self.server.__enter__()
        self.mesh = mesh_to(self.server.port, *self.rules())
        return self

    def rules(self) -> list[dict[str, Any]]:
        retries = {"attempts": 2, "retryOn": "5xx,reset,connect-failure,gateway-error,refused-stream"}
        return [virtual_service("reviews", {"route": [to("reviews")], "retries": retries})]

    def __exit__(self, *exc: object) -> None:
        self.mesh.close()
        self.server.__exit__()

    def whole(self) -> list[bytes]:
        return self.server.whole

    def bodies(self) -> list[bytes]:
        return [seen.body for seen in self.server.requests if seen.whole]


class Http2(Http1):
    """The same over HTTP/2."""

    def __init__(self) -> None:
        self.server = H2Server(lambda peer, request: peer.respond(request, b"answer to " + request.path.encode()))

    def __enter__(self) -> Http2:
        self.server.__enter__()
        self.mesh = mesh_to(self.server.port, *self.rules(), http2=True)
        return self

    def whole(self) -> list[bytes]:
        return [seen.path.encode() for seen in self.server.requests if seen.ended]

    def bodies(self) -> list[bytes]:
        return [bytes(seen.body) for seen in self.server.requests if seen.ended]


@pytest.fixture(params=[Http1, Http2], ids=["HTTP/1.1", "HTTP/2"])
def runtime(request, caller):
    with request.param() as made:
        caller.open(made.mesh)
        yield made


FALSE = {
    "a length shorter than the body": ([(LENGTH, b"3")], b"abc" + SMUGGLED),
    "a length of 0": ([(LENGTH, b"0")], SMUGGLED),
    "a length longer than the body": ([(LENGTH, b"50")], b"abc"),
    "a length and no body": ([(LENGTH, b"5")], None),
    "a length that is no number": ([(LENGTH, b"abc")], b"abc"),
    "two lengths": ([(LENGTH, b"3"), (LENGTH, b"%d" % len(b"abc" + SMUGGLED))], b"abc" + SMUGGLED),
    "a short length beside chunks": ([(LENGTH, b"3"), (CODING, b"chunked")], b"abc" + SMUGGLED),
    "identity": ([(CODING, b"identity")], b"abc" + SMUGGLED),
    "gzip": ([(CODING, b"gzip")], b"abc" + SMUGGLED),
    "two codings": ([(CODING, b"gzip, chunked")], b"abc"),
    "two Hosts": ([(b"Host", b"reviews:9080"), (b"Host", b"other")], None),
}


@pytest.mark.parametrize("name", list(FALSE))
def test_a_request_whose_headers_are_false_is_refused_before_a_byte_of_it_is_written(caller, runtime, name):
    headers, content = FALSE[name]
    assert caller.send("GET", "/before").text == "answer to /before"
    with pytest.raises(httpx.LocalProtocolError) as caught:
        caller.send("POST", "/false", headers, content)
    assert isinstance(caught.value, errors.InvalidRequest)
    assert [attempt.failure for attempt in caught.value.exchange.attempts] == ["invalid_request"]
    for n in range(3):
        assert caller.send("GET", f"/after/{n}").text == f"answer to /after/{n}"
    assert runtime.whole() == [b"/before", b"/after/0", b"/after/1", b"/after/2"]
    assert runtime.server.connections == 1


STREAMS = {
    "a stream longer than its length": (b"5", [b"abc", b"de", SMUGGLED]),
    "a first piece longer than its length": (b"3", [b"abc" + SMUGGLED]),
    "a length of 0 for a stream": (b"0", [SMUGGLED]),
    "a stream shorter than its length": (b"500", [b"abc", b"de"]),
    "an empty stream with a length": (b"5", []),
}


@pytest.mark.parametrize("name", list(STREAMS))
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_stream_that_is_not_as_long_as_declared_fails_at_the_piece_that_shows_it(caller, runtime, name, chunked):
    declared, pieces = STREAMS[name]
    headers = [(LENGTH, declared), *([(CODING, b"chunked")] if chunked else [])]
    assert caller.send("GET", "/before").text == "answer to /before"
    with pytest.raises(httpx.LocalProtocolError) as caught:
        caller.send("POST", "/false", headers, caller.body(pieces))
    assert isinstance(caught.value, errors.InvalidRequest)
    assert len(caught.value.exchange.attempts) == 1  # no retry sends it again
    for n in range(3):
        assert caller.send("GET", f"/after/{n}").text == f"answer to /after/{n}"
    # what was declared may have come whole; never more, and never another request
    assert [target for target in runtime.whole() if target != b"/false"] == [
        b"/before",
        b"/after/0",
        b"/after/1",
        b"/after/2",
    ]
    assert all(len(body) <= int(declared) for body in runtime.bodies())
    # HTTP/1.1 cannot take a request back: its connection goes; HTTP/2 resets the stream
    assert runtime.server.connections == (2 if isinstance(runtime.server, StrictServer) else 1)


def test_an_endpoint_is_not_to_blame_for_requests_that_are_false(caller):
    outlier = {"consecutive5xxErrors": 1, "consecutiveLocalOriginFailures": 1, "splitExternalLocalOriginErrors": True}
    policy = destination_rule(
        "reviews", outlierDetection={**outlier, "interval": "1s", "baseEjectionTime": "60s", "maxEjectionPercent": 100}
    )
    with StrictServer() as server, mesh_to(server.port, policy) as mesh:
        caller.open(mesh)
        for _ in range(3):
            with pytest.raises(httpx.LocalProtocolError):
                caller.send("POST", "/false", [(LENGTH, b"50")], caller.body([b"abc"]))
        assert caller.send("GET", "/after").text == "answer to /after"
        (cluster,) = mesh._core.live.bound.values()
        assert cluster.state.failures == 0


@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "stream"])
@pytest.mark.parametrize(
    ("headers", "without"),
    [
        (None, ("content-length",)),
        ([(CODING, b"chunked")], ()),
        ([(CODING, b"CHUNKED"), (LENGTH, b"6")], ()),
        ([(LENGTH, b"6")], ()),
    ],
    ids=["neither header", "chunked", "both", "length"],
)
def test_a_body_arrives_as_it_is_whatever_of_its_framing_the_caller_left(caller, runtime, headers, without, streamed):
    content = caller.body([b"abc", b"def"]) if streamed else b"abcdef"
    if streamed and headers is None:
        without = ("transfer-encoding",)
    assert caller.send("POST", "/one", headers, content, without).text == "answer to /one"
    assert caller.send("GET", "/two").text == "answer to /two"
    assert (runtime.whole(), runtime.bodies()) == ([b"/one", b"/two"], [b"abcdef", b""])
    assert runtime.server.connections == 1


@pytest.mark.parametrize("content", [b"", []], ids=["bytes", "stream"])
def test_chunks_without_a_byte_in_them_are_a_whole_request(caller, runtime, content):
    body = caller.body(content) if isinstance(content, list) else content
    assert caller.send("POST", "/one", [(CODING, b"chunked")], body).text == "answer to /one"
    assert caller.send("GET", "/two").text == "answer to /two"
    assert runtime.server.connections == 1


def test_a_rule_that_removes_the_length_sends_the_body_in_chunks(caller):
    rule = {"route": [to("reviews")], "headers": {"request": {"remove": ["content-length"]}}}
    with StrictServer() as server, mesh_to(server.port, virtual_service("reviews", rule)) as mesh:
        caller.open(mesh)
        assert caller.send("POST", "/one", content=b"abc" + SMUGGLED).text == "answer to /one"
        assert caller.send("GET", "/two").text == "answer to /two"
        assert server.whole == [b"/one", b"/two"]
        assert server.requests[0].body == b"abc" + SMUGGLED


def test_a_rule_that_sets_a_false_length_sends_nothing(caller):
    rule = {"route": [to("reviews")], "headers": {"request": {"set": {"content-length": "3"}}}}
    with StrictServer() as server, mesh_to(server.port, virtual_service("reviews", rule)) as mesh:
        caller.open(mesh)
        with pytest.raises(httpx.LocalProtocolError):
            caller.send("POST", "/one", content=b"abc" + SMUGGLED)
        assert server.whole == []


def test_a_mirror_of_a_false_request_sends_nothing_either(caller):
    rule = {"route": [to("reviews")], "mirror": {"host": "copies"}}
    with StrictServer() as server, StrictServer() as copies:
        more = [service("copies"), pod("copies", "v1", copies.port), virtual_service("reviews", rule)]
        with mesh_to(server.port, *more) as mesh:
            caller.open(mesh)
            with pytest.raises(httpx.LocalProtocolError):
                caller.send("POST", "/false", [(LENGTH, b"3")], b"abc" + SMUGGLED)
            assert caller.send("POST", "/true", content=b"abc").text == "answer to /true"
            while b"/true" not in copies.whole:  # mirrors go beside their calls, in whatever order
                caller.send("GET", "/more")
            assert set(copies.whole) <= {b"/true", b"/more"}
            assert b"/smuggled" not in server.whole


def test_a_retry_counts_the_body_from_its_start(caller):
    busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    retried = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx"}})
    with EvilServer([busy], [OK]) as server, mesh_to(server.port, retried) as mesh:
        caller.open(mesh)
        assert caller.send("POST", "/", [(LENGTH, b"6")], caller.body([b"abc", b"def"])).text == "ok"
        assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [b"abcdef"] * 2


# -- through another transport ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FALSE))
def test_an_inner_transport_never_sees_a_request_whose_headers_are_false(caller, name):
    headers, content = FALSE[name]
    with StrictServer() as server, mesh_to(server.port) as mesh:
        caller.open(mesh, inner=True)
        with pytest.raises(httpx.LocalProtocolError) as caught:
            caller.send("POST", "/false", headers, content)
        assert isinstance(caught.value, errors.InvalidRequest)
        assert caller.send("GET", "/after").text == "answer to /after"
        assert server.whole == [b"/after"]


@pytest.mark.parametrize("name", list(STREAMS))
def test_a_stream_through_an_inner_transport_is_held_to_its_length(caller, name):
    declared, pieces = STREAMS[name]
    with StrictServer() as server, mesh_to(server.port) as mesh:
        caller.open(mesh, inner=True)
        with pytest.raises(httpx.LocalProtocolError) as caught:
            caller.send("POST", "/false", [(LENGTH, declared)], caller.body(pieces))
        assert isinstance(caught.value, errors.InvalidRequest)
        assert caller.send("GET", "/after").text == "answer to /after"
        assert b"/smuggled" not in server.whole


@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "stream"])
def test_an_inner_transport_gets_one_framing(caller, streamed):
    with StrictServer() as server, mesh_to(server.port) as mesh:
        caller.open(mesh, inner=True)
        for headers, without in ((None, ("content-length",)), ([(CODING, b"chunked"), (LENGTH, b"6")], ())):
            content = caller.body([b"abc", b"def"]) if streamed else b"abcdef"
            gone = ("transfer-encoding",) if streamed and headers is None else without
            assert caller.send("POST", "/one", headers, content, gone).text == "answer to /one"
        for seen in server.requests:
            assert seen.body == b"abcdef"
            assert [name for name, _ in seen.headers if name in (b"content-length", b"transfer-encoding")] == [
                b"transfer-encoding"
            ]


def test_a_body_that_fails_raises_what_it_raised_through_an_inner_transport_too(caller):
    class Broken(Exception):
        pass

    def fail() -> Iterator[bytes]:
        yield b"one"
        raise Broken

    async def fail_async() -> AsyncIterator[bytes]:
        yield b"one"
        raise Broken

    with StrictServer() as server, mesh_to(server.port) as mesh:
        caller.open(mesh, inner=True)
        with pytest.raises(Broken):
            caller.send("POST", "/", content=fail() if caller.name == "threads" else fail_async())


# -- any headers, any body --------------------------------------------------------------------------------------------

header = st.one_of(
    st.tuples(st.sampled_from([LENGTH, b"content-length"]), st.integers(0, 9).map(lambda n: b"%d" % n)),
    st.tuples(st.just(CODING), st.sampled_from([b"chunked", b"CHUNKED", b"gzip", b"chunked, chunked", b"identity"])),
)


@pytest.mark.parametrize("http", [Http1, Http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_the_next_caller_gets_its_own_answer_whatever_was_sent_before(name, http):
    caller = Caller(name)
    with http() as runtime:
        caller.open(runtime.mesh)
        number = 0

        @settings(max_examples=40, deadline=None)
        @given(st.lists(header, max_size=3), st.lists(st.binary(min_size=1, max_size=5), max_size=3), st.booleans())
        def attack(headers: Any, pieces: list[bytes], streamed: bool) -> None:
            nonlocal number
            number += 1
            before, connections = Counter(runtime.whole()), runtime.server.connections
            content = caller.body(pieces) if streamed else b"".join(pieces)
            try:
                answer = caller.send("POST", f"/one/{number}", headers, content)
            except httpx.LocalProtocolError:
                pass  # what the server has seen of it is looked at below
            else:
                assert answer.text == f"answer to /one/{number}"
                assert runtime.whole()[-1] == f"/one/{number}".encode()
                assert runtime.bodies()[-1] == b"".join(pieces)
                connections = max(1, connections)
                reused = runtime.server.connections == connections
                assert reused  # a whole request leaves a connection for the next
            # (the server may hear the last bytes of what was broken off before a little later)
            assert set(Counter(runtime.whole()) - before) <= {f"/one/{n}".encode() for n in range(1, number + 1)}
            assert caller.send("GET", f"/two/{number}").text == f"answer to /two/{number}"

        attack()
    caller.close()


@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_callers_of_httpx2_are_told_in_its_own_words(name):
    caller = Caller(name, httpx2)
    with StrictServer() as server, mesh_to(server.port) as mesh:
        caller.open(mesh)
        with pytest.raises(httpx2.LocalProtocolError):
            caller.send("POST", "/", [(LENGTH, b"3")], b"abcdef")
        assert server.whole == []
    caller.close()
