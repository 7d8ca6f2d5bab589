"""The trace extension of a request: httpcore's events, in both runtimes, as httpcore itself tells them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from benchmarks.free_ports import free_port
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_server import H2Server
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_side(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_resources([]) as running:
        yield running


class Events:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def plain(self, name: str, info: dict[str, Any]) -> None:
        self.told.append((name, info))

    async def coroutine(self, name: str, info: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.told.append((name, info))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def info(self, name: str) -> dict[str, Any]:
        return dict(self.told)[name]


def call(
    runtime: str,
    make: Callable[[str], Any],
    url: str,
    times: int = 1,
    method: str = "GET",
    into: Events | None = None,
    **options: Any,
) -> Events:
    """The events of the last of some calls. ``make`` makes a client of either runtime."""
    events = into or Events()

    def traced(tell: Any) -> dict[str, Any]:
        return {"extensions": {"trace": tell}, **options}

    if runtime == "threads":
        with make("client") as client:
            for _ in range(times):
                events.told.clear()
                client.request(method, url, **traced(events.plain))
        return events

    async def go() -> Events:
        async with make("async_client") as client:
            for _ in range(times):
                events.told.clear()
                await client.request(method, url, **traced(events.coroutine))
        return events

    return asyncio.run(go())


def through(mesh: meshlib.Mesh, **options: Any) -> Callable[[str], Any]:
    return lambda kind: getattr(mesh, kind)(**options)


def bare(**options: Any) -> Callable[[str], Any]:
    return lambda kind: (httpx.Client if kind == "client" else httpx.AsyncClient)(trust_env=False, **options)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("content", [None, b"x", b"x" * 300_000])
def test_the_events_are_those_of_httpcore(runtime, mesh, times, content):
    with EchoServer() as server:
        url = f"http://127.0.0.1:{server.port}/path?q"
        options = {"method": "POST", "content": content, "times": times}
        ours = call(runtime, through(mesh), url, **options)
        theirs = call(runtime, bare(), url, **options)
    assert ours.names == theirs.names
    for (name, mine), (_, other) in zip(ours.told, theirs.told, strict=True):
        assert set(other) - {"stream_id"} <= set(mine) | {"request"}, name


@pytest.mark.parametrize("http2", [False, True])
def test_over_tls_too(runtime, mesh, authority, trusting, http2):
    answer = [OK, OK]
    tls = server_side(authority, "h2") if http2 else server_side(authority)
    with H2Server(tls=tls) if http2 else EvilServer(answer, tls=tls) as server:
        url = f"https://localhost:{server.port}/"
        ours = call(runtime, through(mesh, verify=trusting, http2=http2), url)
        theirs = call(runtime, bare(verify=trusting, http2=http2), url)
    # the server's SETTINGS have been waited for before the first request
    assert ours.names == [name for name in theirs.names if "receive_remote_settings" not in name]
    stream = ours.info("connection.start_tls.complete")["return_value"]
    assert stream.get_extra_info("ssl_object") is not None


def test_what_the_events_hold(runtime, mesh):
    with EchoServer() as server:
        events = call(runtime, through(mesh), f"http://127.0.0.1:{server.port}/path?q", headers={"x-mine": "1"})
    assert events.info("connection.connect_tcp.started")["host"] == "127.0.0.1"
    stream = events.info("connection.connect_tcp.complete")["return_value"]
    assert stream is not None
    request = events.info("http11.send_request_headers.started")["request"]
    assert (request.method, request.url.target) == (b"GET", b"/path?q")
    assert (b"x-mine", b"1") in [(name.lower(), value) for name, value in request.headers]
    version, status, reason, headers = events.info("http11.receive_response_headers.complete")["return_value"]
    assert (version, status, reason) == (b"HTTP/1.1", 200, b"OK")
    assert any(name.lower() == b"content-length" for name, _ in headers)


def test_the_address_is_known_when_the_connection_is(runtime, mesh):
    seen: list[Any] = []

    def tell(name: str, info: dict[str, Any]) -> None:
        if name == "connection.connect_tcp.complete":
            seen.append(info["return_value"].get_extra_info("server_addr"))

    with EchoServer() as server:
        url = f"http://127.0.0.1:{server.port}/"
        if runtime == "threads":
            with mesh.client() as client:
                client.get(url, extensions={"trace": tell})
        else:

            async def go() -> None:
                async with mesh.async_client() as client:
                    await client.get(url, extensions={"trace": tell})

            asyncio.run(go())
        assert seen == [("127.0.0.1", server.port)]


def test_a_connection_that_fails_is_told(runtime, mesh):
    events = Events()
    with pytest.raises(httpx.ConnectError):
        call(runtime, through(mesh), f"http://127.0.0.1:{free_port()}/", into=events)
    assert set(events.names) == {"connection.connect_tcp.started", "connection.connect_tcp.failed"}
    assert isinstance(events.info("connection.connect_tcp.failed")["exception"], OSError)


def test_a_response_that_does_not_come_is_told(runtime, mesh):
    events = Events()
    with EvilServer([b""] * 9) as server, pytest.raises(httpx.TransportError):
        call(
            runtime, through(mesh), f"http://127.0.0.1:{server.port}/", into=events, timeout=httpx.Timeout(60, read=0.1)
        )
    assert events.names[-2:] == ["http11.receive_response_headers.started", "http11.receive_response_headers.failed"]


def test_every_attempt_tells_its_own(runtime):
    with EchoServer(behave=failing(503)) as server:
        retries = {"attempts": 2, "retryOn": "5xx"}
        resources = [
            service("reviews"),
            pod("reviews", "v1", server.port),
            virtual_service("reviews", {"route": [to("reviews")], "retries": retries}),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh:
            events = call(runtime, through(mesh), "http://reviews:9080/")
    assert events.names.count("http11.send_request_headers.started") == 3
    assert events.names.count("http11.receive_response_body.complete") == 1


def test_a_coroutine_function_is_refused_in_threads(mesh):
    with EchoServer() as server, mesh.client() as client:
        with pytest.raises(TypeError, match="coroutine"):
            client.get(f"http://127.0.0.1:{server.port}/", extensions={"trace": Events().coroutine})
        assert client.get(f"http://127.0.0.1:{server.port}/").status_code == 200


def test_an_exception_of_the_callers_function_ends_the_call_and_leaks_nothing(runtime, mesh):
    class Stop(Exception):
        pass

    with EchoServer() as server:
        url = f"http://127.0.0.1:{server.port}/"
        events = call(runtime, through(mesh), url)
        for name in events.names:

            def tell(told: str, info: dict[str, Any], name: str = name) -> None:
                if told == name:
                    raise Stop

            limits = httpx.Limits(max_connections=1)
            options = {"extensions": {"trace": tell}}
            if runtime == "threads":
                with mesh.client(limits=limits) as client:
                    with pytest.raises(Stop):
                        client.get(url, **options)
                    assert client.get(url).status_code == 200
            else:

                async def go(limits: Any = limits, options: Any = options) -> None:
                    async with mesh.async_client(limits=limits) as client:
                        with pytest.raises(Stop):
                            await client.get(url, **options)
                        assert (await client.get(url)).status_code == 200

                asyncio.run(go())
        for cluster in mesh.status()["clusters"]:
            assert cluster["active"] == 0


def test_an_inner_transport_tells_by_itself(runtime, mesh):
    with EchoServer() as server:
        url = f"http://127.0.0.1:{server.port}/"
        inner = httpx.HTTPTransport() if runtime == "threads" else httpx.AsyncHTTPTransport()
        ours = call(runtime, through(mesh, transport=inner), url)
        assert ours.names == call(runtime, bare(), url).names


def test_mirrored_copies_tell_nothing(runtime):
    with EchoServer() as one, EchoServer() as other:
        resources = [
            service("reviews"),
            pod("reviews", "v1", one.port),
            pod("reviews", "v2", other.port),
            destination_rule("reviews", "v1", "v2"),
            virtual_service("reviews", {"route": [to("reviews", "v1")], "mirror": to("reviews", "v2")["destination"]}),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh:
            events = call(runtime, through(mesh), "http://reviews:9080/")
    assert events.names.count("http11.send_request_headers.started") == 1
