"""mesh.close() with calls under way: they fail at once, in every runtime, whatever they wait for, and nothing more is tried."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import errors
from tests.support.evil_server import EvilServer
from tests.support.h2_server import H2Server, Peer, Request
from tests.support.resources import destination_rule, pod, service, to, virtual_service

SOON = 30.0
URL = "http://reviews:9080/"


class Server:
    """Says what it is told of an answer and then nothing for as long as the test lasts. ``asked`` counts requests."""

    def __init__(self, http2: bool, begin: bytes = b"") -> None:
        self.over = threading.Event()
        self.asked = 0
        self.begin = begin
        self.http2 = http2
        self._server: Any = H2Server(self._answer) if http2 else EvilServer([self._hang])

    def _hang(self, sock: socket.socket) -> None:
        self.asked += 1
        if self.begin:
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + self.begin)  # its length is said by the end of the connection
        self.over.wait(60)

    def _answer(self, peer: Peer, request: Request) -> None:
        self.asked += 1
        if self.begin:
            peer.head(request, end=False)
            peer.some(request, self.begin)

    def __enter__(self) -> Server:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self._server.__exit__(*exc)

    def mesh(self, **policy: Any) -> meshlib.Mesh:
        return mesh_of(self._server.port, self.http2, **policy)


def mesh_of(port: int, http2: bool = False, rule: dict[str, Any] | None = None, **policy: Any) -> meshlib.Mesh:
    """One that retries whatever fails."""
    retries = {"attempts": 3, "retryOn": "reset,connect-failure,5xx"}
    return meshlib.Mesh.from_resources(
        [
            service("reviews", ports=[{"name": "http2" if http2 else "http", "port": 9080, "targetPort": "http"}]),
            pod("reviews", "v1", port),
            destination_rule("reviews", **policy),
            virtual_service("reviews", {"route": [to("reviews")], "retries": retries, **(rule or {})}),
        ]
    )


class Threads:
    name = "threads"

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.client = mesh.client(timeout=None)

    def begin(self, **request: Any) -> Future[httpx.Response]:
        result: Future[httpx.Response] = Future()

        def call() -> None:
            try:
                result.set_result(self.client.request(request.pop("method", "GET"), URL, **request))
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        return result

    def close(self) -> None:
        self.mesh.close()

    def end(self) -> None:
        self.client.close()


class Loop:
    """asyncio, its loop in a thread of its own. ``outside``: the mesh is closed from another thread than the loop's."""

    name = "asyncio"

    def __init__(self, mesh: meshlib.Mesh, outside: bool = False) -> None:
        self.mesh = mesh
        self.outside = outside
        self.loop = asyncio.new_event_loop()
        self.client = mesh.async_client(timeout=None)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, **request: Any) -> Any:
        method = request.pop("method", "GET")
        return asyncio.run_coroutine_threadsafe(self.client.request(method, URL, **request), self.loop)

    def close(self) -> None:
        if self.outside:
            self.mesh.close()
        else:
            asyncio.run_coroutine_threadsafe(self.mesh.aclose(), self.loop).result(SOON)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result(SOON)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SOON)
        self.loop.close()


RUNTIMES: dict[str, Callable[[meshlib.Mesh], Any]] = {
    "threads": Threads,
    "asyncio": Loop,
    "asyncio, closed by another thread": lambda mesh: Loop(mesh, outside=True),
}


@pytest.fixture(params=list(RUNTIMES))
def runtime(request) -> Iterator[Callable[[meshlib.Mesh], Any]]:
    made: list[Any] = []

    def make(mesh: meshlib.Mesh) -> Any:
        made.append(RUNTIMES[request.param](mesh))
        return made[-1]

    yield make
    for one in made:
        one.mesh.close()
        one.end()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


def fails_as_closed(call: Future[httpx.Response]) -> None:
    error = call.exception(SOON)
    assert isinstance(error, errors.ClosedMeanwhile), repr(error)
    assert isinstance(error, httpx.RemoteProtocolError)
    assert isinstance(error, errors.MeshClosed)
    assert "the mesh was closed" in str(error)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("begin", [b"", b"half of it"], ids=["waiting for the head", "reading the body"])
def test_a_call_under_way_fails_at_once_and_is_not_tried_again(runtime, http2, begin):
    with Server(http2, begin) as server:
        at_work = runtime(server.mesh())
        call = at_work.begin()
        until(lambda: server.asked)
        if begin:
            until(lambda: state_of(at_work.mesh).active)
        at_work.close()
        fails_as_closed(call)
        assert server.asked == 1
        until(lambda: nothing_is_held(at_work.mesh))


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_call_that_is_connecting_fails_at_once(runtime, http2):
    """The listener takes the connection and never answers the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls = {"mode": "SIMPLE", "insecureSkipVerify": True}
        pool = {"tcp": {"connectTimeout": "600s"}}
        at_work = runtime(mesh_of(listener.getsockname()[1], http2, tls=tls, connectionPool=pool))
        call = at_work.begin()
        taken, _ = listener.accept()
        with taken:
            at_work.close()
            fails_as_closed(call)


def test_a_call_whose_body_is_not_at_hand_yet_fails_at_once_on_asyncio():
    with Server(http2=False) as server:
        at_work = Loop(server.mesh())
        try:
            sent = threading.Event()

            async def body() -> AsyncIterator[bytes]:
                yield b"some"
                sent.set()
                await asyncio.sleep(3600)

            call = at_work.begin(method="POST", content=body())
            assert sent.wait(SOON)
            at_work.close()
            fails_as_closed(call)
        finally:
            at_work.end()


def test_a_call_that_waits_for_a_slot_fails_at_once_though_the_slot_stays_taken(runtime):
    """The first call's caller has stopped reading, and so gives nothing back."""
    with Server(http2=False, begin=b"some") as server:
        at_work = runtime(server.mesh(connectionPool={"tcp": {"maxConnections": 1}}))
        slots = state_of(at_work.mesh).slots
        assert slots.try_acquire()
        call = at_work.begin()
        until(lambda: slots.pending == 1)
        at_work.close()
        fails_as_closed(call)
        assert server.asked == 0
        assert (slots.in_use, slots.pending) == (1, 0)


def test_a_call_that_sleeps_before_a_retry_fails_at_once(runtime, monkeypatch):
    monkeypatch.setattr("meshlib.engine.outbound.backoff", lambda *args: 600.0)
    at_work = runtime(mesh_of(free_port()))
    call = at_work.begin()
    until(lambda: state_of(at_work.mesh).retries_active)
    at_work.close()
    fails_as_closed(call)


def test_a_call_that_is_delayed_by_a_fault_fails_at_once(runtime):
    fault = {"delay": {"percentage": {"value": 100}, "fixedDelay": "600s"}}
    at_work = runtime(mesh_of(free_port(), rule={"fault": fault}))
    call = at_work.begin()
    time.sleep(0.05)  # it sleeps by now, or finds the mesh closed before: either way it fails
    at_work.close()
    assert isinstance(call.exception(SOON), errors.MeshClosed)


def test_a_loop_that_does_not_run_ends_its_calls_when_it_runs_next():
    with Server(http2=False) as server:
        mesh = server.mesh()
        loop = asyncio.new_event_loop()
        client = mesh.async_client(timeout=None)
        call = loop.create_task(client.get(URL))
        while not server.asked:
            loop.run_until_complete(asyncio.sleep(0.002))
        mesh.close()
        with pytest.raises(errors.ClosedMeanwhile):
            loop.run_until_complete(asyncio.wait_for(call, SOON))
        loop.run_until_complete(client.aclose())
        loop.close()


def test_a_call_through_an_inner_transport_is_broken_off_on_asyncio():
    async def main() -> None:
        asked = asyncio.Event()

        async def never(request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.sleep(3600)
            raise AssertionError

        mesh = meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)])
        async with mesh.async_client(transport=httpx.MockTransport(never), timeout=None) as client:
            call = asyncio.create_task(client.get(URL))
            await asked.wait()
            await mesh.aclose()
            with pytest.raises(errors.ClosedMeanwhile):
                await asyncio.wait_for(call, SOON)

    asyncio.run(main())


def state_of(mesh: meshlib.Mesh) -> Any:
    live = mesh._core.live
    return live.cluster("outbound|9080||reviews.default.svc.cluster.local").state


def nothing_is_held(mesh: meshlib.Mesh) -> bool:
    core = mesh._core
    loops = [upstream for upstream in core.loops.values() if not upstream.loop.is_closed()]
    return not core.upstream._busy and not any(upstream._busy for upstream in loops)
