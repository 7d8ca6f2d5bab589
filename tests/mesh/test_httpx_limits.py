"""limits= of a client: how many connections it has, and how long it keeps those it does not use. In both runtimes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.support.eventually import eventually, soon
from tests.support.fake_clock import FakeClock
from tests.support.h2_server import H2Server
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

PATIENT = httpx.Timeout(60)
HURRIED = httpx.Timeout(60, pool=0.05)


def port_of_client(handler: Any) -> bool:
    handler.answer(200, str(handler.client_address[1]).encode())
    return True


class Client:
    """One client of either runtime; what it is asked happens on a loop that goes on, in the case of asyncio."""

    def __init__(self, runtime: str, mesh: meshlib.Mesh, **options: Any) -> None:
        self.runtime = runtime
        self.mesh = mesh
        if runtime == "threads":
            self.inner: Any = mesh.client(**options)
        else:
            self.inner = mesh.async_client(**options)
            self.loop = asyncio.new_event_loop()

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.inner.get(url, **options) if self.runtime == "threads" else self.run(self.inner.get(url, **options))

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def all(self, *urls: str, **options: Any) -> list[httpx.Response]:
        """At once."""
        if self.runtime == "asyncio":
            return self.run(self._gather(urls, options))
        answers: list[Any] = [None] * len(urls)

        def call(number: int) -> None:
            answers[number] = self.inner.get(urls[number], **options)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(len(urls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return answers

    async def _gather(self, urls: tuple[str, ...], options: dict[str, Any]) -> list[httpx.Response]:
        return await asyncio.gather(*(self.inner.get(url, **options) for url in urls))

    @contextlib.contextmanager
    def holding(self, url: str) -> Iterator[httpx.Response]:
        """A response that is not read: its connection is in use."""
        request = self.inner.build_request("GET", url, timeout=PATIENT)
        if self.runtime == "threads":
            response = self.inner.send(request, stream=True)
            yield response
            response.close()
        else:
            response = self.run(self.inner.send(request, stream=True))
            yield response
            self.run(response.aclose())

    def idle(self) -> int:
        core = self.mesh._core
        if self.runtime == "threads":
            return core.upstream.idle_connections()
        self.run(asyncio.sleep(0))
        return sum(upstream.idle_connections() for upstream in core.loops.values())

    def close(self) -> None:
        if self.runtime == "threads":
            self.inner.close()
        else:
            self.run(self.inner.aclose())
            self.run(asyncio.sleep(0.01))
            self.loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def made() -> Iterator[Callable[..., Client]]:
    """Makes clients, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def make(runtime: str, mesh: meshlib.Mesh, *, timeout: httpx.Timeout = PATIENT, **limits: Any) -> Client:
            client = Client(runtime, mesh, limits=httpx.Limits(**limits), timeout=timeout)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_resources([]) as running:
        yield running


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.port}/"


def big(handler: Any) -> bool:
    with contextlib.suppress(OSError):  # nobody reads it to its end
        handler.answer(200, b"x" * 4_000_000)
    return True


class Crowd:
    """Behaviour of a server: how many calls it had at a time. It responds to none before so many ``wanted`` are there."""

    def __init__(self, wanted: int = 1) -> None:
        self.wanted = wanted
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, handler: Any) -> bool:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        _ = eventually(lambda: self.most >= self.wanted)
        time.sleep(0.01)  # as long as it takes others to come in
        with self.lock:
            self.now -= 1
        return port_of_client(handler)


def test_no_more_calls_are_under_way_than_max_connections(runtime, mesh, made):
    crowd = Crowd(2)
    with EchoServer(behave=crowd) as server:
        client = made(runtime, mesh, max_connections=2)
        answers = client.all(*[url(server)] * 10)
    assert [answer.status_code for answer in answers] == [200] * 10
    assert crowd.most == 2
    assert len({answer.text for answer in answers}) == 2, "and two connections carried them"


def test_who_waits_longer_than_the_pool_timeout_gets_pool_timeout(runtime, mesh, made):
    with EchoServer(behave=big) as server:
        client = made(runtime, mesh, max_connections=1, timeout=HURRIED)
        with client.holding(url(server)), pytest.raises(httpx.PoolTimeout, match="max_connections"):
            client.get(url(server))
        server.behave = None
        assert client.get(url(server)).status_code == 200, "the slot came back with the response"


def test_a_response_holds_its_place_until_it_is_read_however_small_it_is(runtime, mesh, made):
    with EchoServer() as server:
        client = made(runtime, mesh, max_connections=1, timeout=HURRIED)
        with client.holding(url(server)), pytest.raises(httpx.PoolTimeout):
            client.get(url(server))
        port = client.get(url(server)).extensions["network_stream"].get_extra_info("client_addr")
        assert client.get(url(server)).extensions["network_stream"].get_extra_info("client_addr") == port


def test_the_read_timeout_bounds_the_wait_too(runtime, mesh, made):
    with EchoServer(behave=big) as server:
        client = made(runtime, mesh, max_connections=1, timeout=httpx.Timeout(60, pool=None, read=0.05))
        with client.holding(url(server)), pytest.raises(httpx.ReadTimeout):
            client.get(url(server))


def test_an_idle_connection_elsewhere_makes_room(runtime, mesh, made):
    with EchoServer() as one, EchoServer() as other:
        client = made(runtime, mesh, max_connections=1)
        for server in (one, other, one, other):
            assert client.get(url(server)).status_code == 200
            assert client.idle() == 1


def test_hosts_of_the_mesh_and_hosts_outside_count_together(runtime, made):
    with EchoServer(behave=big) as outside, EchoServer() as reviews:
        with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", reviews.port)]) as mesh:
            client = made(runtime, mesh, max_connections=1, timeout=HURRIED)
            with client.holding(url(outside)), pytest.raises(httpx.PoolTimeout):
                client.get("http://reviews:9080/")
            assert client.get("http://reviews:9080/").status_code == 200


def test_no_keepalive_connections_means_a_new_connection_for_every_call(runtime, mesh, made):
    with EchoServer(behave=port_of_client) as server:
        client = made(runtime, mesh, max_keepalive_connections=0)
        assert len({client.get(url(server)).text for _ in range(3)}) == 3
        assert client.idle() == 0


def test_no_more_connections_are_kept_than_max_keepalive_connections(runtime, mesh, made):
    with EchoServer(behave=Crowd()) as one, EchoServer(behave=Crowd()) as other:
        client = made(runtime, mesh, max_keepalive_connections=2)
        client.all(*[url(one), url(other)] * 4)
        assert client.idle() == 2


def test_a_kept_connection_is_not_used_after_keepalive_expiry(made):
    clock = FakeClock()
    with EchoServer(behave=port_of_client) as server, meshlib.Mesh.from_resources([], clock=clock) as mesh:
        client = made("threads", mesh, keepalive_expiry=5.0)
        first = client.get(url(server)).text
        clock.advance(4.9)
        assert client.get(url(server)).text == first
        clock.advance(5.0)
        assert client.get(url(server)).text != first


def test_a_kept_connection_is_closed_after_keepalive_expiry_on_loops(made):
    clock = FakeClock()
    with EchoServer(behave=port_of_client) as server, meshlib.Mesh.from_resources([], clock=clock) as mesh:
        client = made("asyncio", mesh, keepalive_expiry=5.0)
        client.run(mesh.async_client().get(url(server)))  # what others keep, they keep for an hour
        first = client.get(url(server)).text
        clock.advance(4.9)
        assert client.idle() == 2
        clock.advance(0.2)
        assert eventually(lambda: client.idle() == 1)
        assert client.get(url(server)).text != first


def test_limits_are_those_of_one_client(runtime, mesh, made):
    with EchoServer(behave=big) as server:
        bounded, other = made(runtime, mesh, max_connections=1), Client(runtime, mesh)
        with bounded.holding(url(server)):
            server.behave = port_of_client
            port = other.get(url(server)).text
            assert other.get(url(server)).text == port
        assert bounded.get(url(server)).text != port, "what one client keeps is not used by another"
        other.close()


def test_calls_that_fail_give_their_place_back(runtime, mesh, made):
    with EchoServer() as server:
        client = made(runtime, mesh, max_connections=1, timeout=HURRIED)
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                client.get(f"http://127.0.0.1:{free_port()}/")
        assert client.get(url(server)).status_code == 200


def test_a_cancelled_call_gives_its_place_back_whether_it_waits_or_not(mesh, made):
    over = threading.Event()
    with EchoServer(behave=lambda handler: over.wait(60)) as server:
        client = made("asyncio", mesh, max_connections=1)

        async def go() -> None:
            calls = [asyncio.ensure_future(client.inner.get(url(server))) for _ in range(2)]
            assert await soon(lambda: server.seen)
            for call in reversed(calls):
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        client.run(go())
        over.set()
        server.behave = None
        assert client.get(url(server)).status_code == 200


def test_a_response_that_is_dropped_gives_its_place_back(mesh, made):
    import gc

    with EchoServer(behave=big) as server:
        client = made("threads", mesh, max_connections=1, timeout=HURRIED)
        client.inner.send(client.inner.build_request("GET", url(server)), stream=True)
        gc.collect()
        server.behave = None
        assert client.get(url(server)).status_code == 200


def test_closing_the_mesh_ends_the_wait(mesh, made):
    with EchoServer(behave=big) as server:
        client = made("threads", mesh, max_connections=1, timeout=httpx.Timeout(30))
        failed: list[Exception] = []

        def call() -> None:
            try:
                client.get(url(server))
            except Exception as error:
                failed.append(error)

        with client.holding(url(server)):
            thread = threading.Thread(target=call)
            thread.start()
            time.sleep(0.05)
            mesh.close()
            thread.join(60)
        assert isinstance(failed[0], meshlib.errors.MeshClosed)


# -- HTTP/2: connections count, not streams ---------------------------------------------------------------------------------


def over_http2(*servers: H2Server) -> meshlib.Mesh:
    resources = []
    for number, server in enumerate(servers):
        ports = [{"name": "http2", "port": 9080, "targetPort": server.port}]
        resources += [service(f"s{number}", ports=ports), pod(f"s{number}", "v1", server.port)]
    return meshlib.Mesh.from_resources(resources)


def test_streams_share_the_one_connection_that_is_allowed(runtime, made):
    with H2Server() as server, over_http2(server) as mesh:
        client = made(runtime, mesh, max_connections=1)
        answers = client.all(*["http://s0:9080/"] * 10)
        assert [answer.http_version for answer in answers] == ["HTTP/2"] * 10
        assert server.connections == 1


def test_an_idle_http2_connection_makes_room(runtime, made):
    with H2Server() as one, H2Server() as other, over_http2(one, other) as mesh:
        client = made(runtime, mesh, max_connections=1)
        for host in ("s0", "s1", "s0", "s1"):
            assert client.get(f"http://{host}:9080/").status_code == 200
        assert (one.connections, other.connections) == (2, 2)


def test_who_waits_for_an_http2_connection_has_the_pool_timeout(runtime, made):
    def silent(peer: Any, request: Any) -> None:
        peer.head(request)  # and never a body

    with H2Server(silent) as one, H2Server() as other, over_http2(one, other) as mesh:
        client = made(runtime, mesh, max_connections=1, timeout=HURRIED)
        with client.holding("http://s0:9080/"), pytest.raises(httpx.PoolTimeout):
            client.get("http://s1:9080/")
        assert client.get("http://s1:9080/").status_code == 200


def test_an_http2_connection_is_closed_when_none_may_be_kept(runtime, made):
    with H2Server() as server, over_http2(server) as mesh:
        client = made(runtime, mesh, max_keepalive_connections=0)
        for _ in range(3):
            client.get("http://s0:9080/")
        assert server.connections == 3
        assert client.idle() == 0


@pytest.mark.parametrize("most", [0, -1])
def test_limits_that_let_nothing_through_are_refused(mesh, most):
    with pytest.raises(ValueError, match="max_connections"):
        mesh.client(limits=httpx.Limits(max_connections=most))


def test_a_closed_client_leaves_no_targets_of_its_own(mesh):
    with EchoServer() as server:
        for _ in range(3):
            with mesh.client(limits=httpx.Limits(max_connections=1)) as client:
                client.get(url(server))
        (cluster,) = mesh._core.live.bound.values()
        assert not cluster.targets
