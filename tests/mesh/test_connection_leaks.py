"""Connections that nobody can use any more are closed: after reloads, also in the middle of a call, and when a name's
addresses change. Counted in the system's table of sockets."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import meshlib
from meshlib.clock import SystemClock
from meshlib.compiler.routes import Cluster
from meshlib.engine.cluster import BoundCluster
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads import SyncUpstream
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_server import H2Server, Peer, Request
from tests.support.open_sockets import sockets_to
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer

SOON = 30.0
URL = "http://reviews:9080/"


def until(condition: Callable[[], object], seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


class Server:
    """Answers at once, or a call at a time when ``gate`` is closed."""

    def __init__(self, http2: bool) -> None:
        self.http2 = http2
        self.gate = threading.Event()
        self.gate.set()
        self.asked = 0
        self._server: Any = H2Server(self._answer) if http2 else EvilServer([self._wait, OK])
        self.port = self._server.port

    def _wait(self, sock: Any) -> None:
        self.asked += 1
        assert self.gate.wait(60)

    def _answer(self, peer: Peer, request: Request) -> None:
        def answer() -> None:
            self._wait(None)
            peer.respond(request, b"ok")

        threading.Thread(target=answer, daemon=True).start()

    def __enter__(self) -> Server:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.gate.set()
        self._server.__exit__(*exc)

    def resources(self, generation: int) -> list[dict[str, Any]]:
        ports = [{"name": "http2" if self.http2 else "http", "port": 9080, "targetPort": "http"}]
        rule = destination_rule("reviews", connectionPool={"tcp": {"connectTimeout": f"{60_000 + generation}ms"}})
        return [service("reviews", ports=ports), pod("reviews", "v1", self.port), rule]


class Threads:
    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.client = mesh.client()

    def begin(self, url: str = URL) -> Future[Any]:
        result: Future[Any] = Future()

        def call() -> None:
            try:
                result.set_result(self.client.get(url))
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        return result

    def end(self) -> None:
        self.client.close()


class Loop:
    """asyncio, its loop in a thread of its own: reloads come from another one."""

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.loop = asyncio.new_event_loop()
        self.client = mesh.async_client()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, url: str = URL) -> Any:
        return asyncio.run_coroutine_threadsafe(self.client.get(url), self.loop)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result(SOON)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SOON)
        self.loop.close()


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request) -> Iterator[Callable[[meshlib.Mesh], Any]]:
    made: list[Any] = []

    def make(mesh: meshlib.Mesh) -> Any:
        made.append(request.param(mesh))
        return made[-1]

    yield make
    for one in made:
        one.end()
        one.mesh.close()


@pytest.fixture(params=[False, True], ids=["HTTP/1.1", "HTTP/2"])
def server(request) -> Iterator[Server]:
    with Server(request.param) as made:
        yield made


def test_a_reload_that_changes_a_destination_rule_closes_its_idle_connections(runtime, server):
    at_work = runtime(meshlib.Mesh.from_resources(server.resources(0)))
    for generation in range(1, 6):
        at_work.begin().result(SOON)
        at_work.mesh.apply(server.resources(generation))
    until(lambda: sockets_to(server.port) == 0)


def test_a_call_under_way_during_a_reload_does_not_keep_its_connection(runtime, server):
    at_work = runtime(meshlib.Mesh.from_resources(server.resources(0)))
    for generation in range(1, 6):
        server.gate.clear()
        call = at_work.begin()
        until(lambda: server.asked == generation)  # noqa: B023
        at_work.mesh.apply(server.resources(generation))
        assert sockets_to(server.port) == 1
        server.gate.set()
        assert call.result(SOON).status_code == 200
    until(lambda: sockets_to(server.port) == 0)


def test_a_call_that_has_yet_to_connect_during_a_reload_is_answered_and_keeps_nothing(runtime, server, monkeypatch):
    """It lives on the configuration it began with, whose targets have gone meanwhile."""
    mesh = meshlib.Mesh.from_resources(server.resources(0))
    at_work = runtime(mesh)
    at_work.begin().result(SOON)
    old = mesh._core.live
    mesh.apply(server.resources(1))
    with monkeypatch.context() as patched:
        patched.setattr(mesh._core, "live", old)
        for _ in range(3):
            assert at_work.begin().result(SOON).status_code == 200
    until(lambda: sockets_to(server.port) == 0)
    assert not mesh._core.upstream._idle
    http2 = mesh._core.upstream._http2
    assert http2 is None or not (http2._pools or http2._open)


def test_a_reload_that_changes_nothing_about_connecting_keeps_them(runtime, server):
    at_work = runtime(meshlib.Mesh.from_resources(server.resources(0)))
    at_work.begin().result(SOON)
    at_work.mesh.apply([*server.resources(0), service("other"), pod("other", "v1", 1)])
    at_work.begin().result(SOON)
    assert sockets_to(server.port) == 1


def test_a_name_whose_address_changes_keeps_no_connection_to_the_old_ones(runtime):
    with socket_everywhere() as server:
        address = ["127.0.0.1"]
        entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "pods", "namespace": "default"},
            "spec": {
                "hosts": ["pods.test"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "DNS",
                "endpoints": [{"address": "a.pods.test", "ports": {"http": server.port}}],
            },
        }
        mesh = meshlib.Mesh.from_resources([entry])
        names = mesh._core.names
        names._lookup = lambda name: list(address)
        at_work = runtime(mesh)
        for number in range(1, 8):
            assert at_work.begin("http://pods.test/").result(SOON).status_code == 200
            address[0] = f"127.0.0.{number + 1}"
            names._names["a.pods.test"].due = 0.0
            names.refresh()
            (bound,) = mesh._core.live.bound.values()
            until(lambda: [e.endpoint.address for e in bound.endpoints] == address)  # noqa: B023
            until(lambda: sockets_to(server.port) == 0)
            assert not bound.targets


def socket_everywhere() -> EvilServer:
    """On all addresses of loopback."""
    import socket

    server = EvilServer([OK])
    server._sock.close()
    server._sock = socket.create_server(("0.0.0.0", 0), backlog=64)
    server.port = server._sock.getsockname()[1]
    return server


def test_each_configuration_of_a_cluster_hears_of_new_addresses():
    """An old one, which a call under way may still hold, is told first."""
    mesh = meshlib.Mesh.from_resources(
        [
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": "pods", "namespace": "default"},
                "spec": {
                    "hosts": ["pods.test"],
                    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                    "resolution": "DNS",
                    "endpoints": [{"address": "a.pods.test"}],
                },
            }
        ]
    )
    with mesh:
        live = mesh._core.live
        spec: Cluster = live.snapshot.clusters["outbound|80||pods.test"]
        old = live.cluster(spec.key)
        new = BoundCluster(spec, old.state, 0.0)
        for bound in (old, new):
            bound.resolved("a.pods.test", ("10.0.0.1", "10.0.0.2"), 0.0)
            assert [e.endpoint.address for e in bound.endpoints] == ["10.0.0.1", "10.0.0.2"]


def test_idle_connections_that_their_servers_have_closed_go_when_another_is_made():
    """In threads, which have nobody who would hear of it."""
    with EchoServer() as other:
        resources = [service("reviews"), service("other")]
        with EvilServer([OK]) as leaving:
            port = leaving.port
            mesh = meshlib.Mesh.from_resources([*resources, pod("reviews", "v1", port), pod("other", "v1", other.port)])
            client = mesh.client()
            assert client.get(URL).text == "ok"
        until(lambda: sockets_to(port) == 1)  # half closed: nobody looks at it
        mesh._core.upstream._swept = 0.0
        client.get("http://other:9080/")
        assert sockets_to(port) == 0
        client.close()
        mesh.close()
    gc.collect()


def test_connections_of_a_loop_go_when_it_ends_although_nobody_closed_their_client(server):
    """A job that is run by ``asyncio.run`` leaves nothing behind, also when no other loop comes after it."""
    with meshlib.Mesh.from_resources(server.resources(0)) as mesh:
        client = mesh.async_client()

        async def job() -> int:
            assert (await client.get(URL)).text == "ok"
            return sockets_to(server.port)

        assert asyncio.run(job()) == 1
        assert sockets_to(server.port) == 0
        assert asyncio.run(job()) == 1  # and the next loop connects again


def test_a_call_under_way_when_the_loop_ends_goes_on_and_does_not_keep_its_connection(server):
    """Generators that end beside ours may make one."""
    with meshlib.Mesh.from_resources(server.resources(0)) as mesh:
        client = mesh.async_client()

        async def job() -> int:
            loop = asyncio.get_running_loop()
            assert (await client.get(URL)).text == "ok"
            server.gate.clear()
            call = asyncio.ensure_future(client.get(URL))
            while server.asked < 2:
                await asyncio.sleep(0.001)
            mesh._core.loop_ended(loop)
            server.gate.set()
            assert (await call).text == "ok"
            mesh._core.loop_ended(loop)
            for _ in range(10):
                await asyncio.sleep(0)
            return sockets_to(server.port)

        assert asyncio.run(job()) == 0


@pytest.mark.filterwarnings("ignore:asynchronous generator")  # httpx reads by generators of its own
def test_generators_that_call_as_their_loop_ends_are_answered(server):
    with meshlib.Mesh.from_resources(server.resources(0)) as mesh:
        client = mesh.async_client()
        told = []

        async def calls_at_its_end() -> AsyncIterator[None]:
            try:
                yield
            finally:
                for _ in range(2):
                    told.append((await client.get(URL)).status_code)

        async def job() -> list[AsyncIterator[None]]:
            some = [calls_at_its_end() for _ in range(3)]
            for each in some:
                await anext(each)
            assert (await client.get(URL)).text == "ok"  # the mesh waits for the end, too
            some += [calls_at_its_end() for _ in range(3)]
            for each in some[3:]:
                await anext(each)
            return some  # which keeps them alive until then

        kept = asyncio.run(job())
        assert told == [200] * 2 * len(kept)


def test_a_target_is_dropped_while_other_threads_take_its_connections():
    upstream = SyncUpstream(SystemClock(), Names(SystemClock()))
    target = Target("127.0.0.1", 1)

    class TakesAnother:
        """Another thread takes a connection as this one is closed."""

        closed = False

        def close(self) -> None:
            self.closed = True
            if idle:
                idle.pop().close()

    idle: deque[Any] = deque(TakesAnother() for _ in range(5))
    connections = list(idle)
    upstream._idle[target] = idle
    upstream.drop_idle(target)
    assert all(connection.closed for connection in connections)
