"""Chaos at the doors of gRPC servers, in threads and on asyncio: what callers, handlers and metrics see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
RESET = "Connection reset by peer (injected by meshlib.testing)"
CUT = "the connection was closed in the middle of the response (injected by meshlib.testing)"
LEFT = "the client closed the connection in the middle of its request (injected by meshlib.testing)"


class Threads:
    """Serves in threads. ``log`` has what handlers have read, and that they were closed."""

    def __init__(self, mesh: meshlib.Mesh, log: list[str]) -> None:
        self.mesh = mesh
        self.log = log

    def service(self, details: Any) -> Any:
        return {
            "/a.B/One": grpc.unary_unary_rpc_method_handler(self._one),
            "/a.B/Many": grpc.unary_stream_rpc_method_handler(self._many),
            "/a.B/Sum": grpc.stream_unary_rpc_method_handler(self._sum),
        }[details.method]

    def _one(self, request: bytes, _context: Any) -> bytes:
        self.log.append(f"one {request.decode()}")
        return b"1"

    def _many(self, _request: bytes, _context: Any) -> Any:
        try:
            for number in range(3):
                yield str(number).encode()
        finally:
            self.log.append("closed")

    def _sum(self, requests: Any, _context: Any) -> bytes:
        for request in requests:
            self.log.append(f"read {request.decode()}")
        return b"sum"

    def run(self, call: Callable[[grpc.Channel], Any]) -> Any:
        class Handlers(grpc.GenericRpcHandler):
            service = staticmethod(self.service)

        interceptors = self.mesh.grpc_server_interceptors()
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handlers()], interceptors=interceptors)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                return call(channel)
        finally:
            server.stop(None).wait(60)


class Loop(Threads):
    """Serves on asyncio."""

    async def _one(self, request: bytes, _context: Any) -> bytes:  # type: ignore[override]
        self.log.append(f"one {request.decode()}")
        return b"1"

    async def _many(self, _request: bytes, _context: Any) -> Any:
        try:
            for number in range(3):
                yield str(number).encode()
        finally:
            self.log.append("closed")

    async def _sum(self, requests: Any, _context: Any) -> bytes:  # type: ignore[override]
        async for request in requests:
            self.log.append(f"read {request.decode()}")
        return b"sum"

    def run(self, call: Callable[[grpc.Channel], Any]) -> Any:
        class Handlers(grpc.GenericRpcHandler):
            service = staticmethod(self.service)

        async def go() -> Any:
            server = grpc.aio.server(handlers=[Handlers()], interceptors=self.mesh.aio_grpc_server_interceptors())
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            try:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    return await asyncio.to_thread(call, channel)
            finally:
                await server.stop(None)

        return asyncio.run(go())


class Served:
    """One server and what was counted of it."""

    def __init__(self, kind: type[Threads], make: Any) -> None:
        self.registry = CollectorRegistry()
        self.log: list[str] = []
        self._server = kind(make("", workload=meshlib.Workload("web"), registry=self.registry), self.log)

    def call(self, method: str, *requests: bytes) -> tuple[list[bytes], str]:
        """The messages that came, and how it ended."""

        def go(channel: grpc.Channel) -> tuple[list[bytes], str]:
            got: list[bytes] = []
            try:
                if method == "One":
                    got.append(channel.unary_unary("/a.B/One")(requests[0], timeout=20))
                elif method == "Sum":
                    got.append(channel.stream_unary("/a.B/Sum")(iter(requests), timeout=20))
                else:
                    got.extend(channel.unary_stream("/a.B/Many")(requests[0], timeout=20))
            except grpc.RpcError as error:
                assert error.code() is UNAVAILABLE  # type: ignore[attr-defined]
                return got, error.details()  # type: ignore[attr-defined,no-any-return]
            return got, "OK"

        found: tuple[list[bytes], str] = self._server.run(go)
        return found

    def counted(self) -> list[tuple[str, str]]:
        """Status and flags of each."""
        return [
            (sample.labels["grpc_response_status"], sample.labels["response_flags"])
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "istio_requests_total"
        ]


@pytest.fixture(params=[Threads, Loop])
def served(request, mesh):
    return Served(request.param, mesh)


def test_a_call_whose_connection_breaks_reaches_neither_mesh_nor_handler(served, chaos):
    chaos.served("/a.B/*", workload="web", nth=1).reset()
    assert served.call("One", b"x") == ([], RESET)
    assert (served.log, served.counted()) == ([], [])
    assert served.call("One", b"x") == ([b"1"], "OK")


def test_one_that_is_late_waits_on_the_clock_of_the_mesh(served, chaos, fake_clock):
    chaos.served("/a.B/One").latency(30)
    before = fake_clock.monotonic()
    assert served.call("One", b"x") == ([b"1"], "OK")
    assert fake_clock.monotonic() == before + 30


def test_a_lost_response_is_of_a_call_that_was_served(served, chaos):
    chaos.served().lost_response()
    assert served.call("One", b"x") == ([], RESET)
    assert served.log == ["one x"]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stream_is_cut_after_so_many_messages_and_its_handler_is_closed(served, chaos, after):
    chaos.served("/a.B/Many").partial_body(after)
    got, how = served.call("Many", b"")
    assert (got, how) == ([b"0", b"1", b"2"][:after], CUT)
    assert served.log == ["closed"]
    ((status, flags),) = served.counted()
    assert (status != "0", flags) == (True, "DR")


def test_a_stream_that_is_shorter_is_whole(served, chaos):
    chaos.served().reset(after=3)
    assert served.call("Many", b"") == ([b"0", b"1", b"2"], "OK")
    assert served.counted() == [("0", "-")]


@pytest.mark.parametrize("after", [0, 1])
def test_a_handler_whose_caller_leaves_amid_its_requests_is_ended(served, chaos, after):
    chaos.served("/a.B/Sum").partial_request(after)
    assert served.call("Sum", b"1", b"2", b"3") == ([], LEFT)
    assert served.log == ["read 1"][:after]


def test_a_single_request_comes_whole_or_not_at_all(served, chaos):
    chaos.served("/a.B/One").partial_request()
    assert served.call("One", b"x") == ([], LEFT)
    assert served.log == []


def test_when_chaos_ends_nothing_stands_there_any_more():
    from meshlib.testing import Chaos, FakeClock
    from meshlib.testing.grpc_doors import _loop, _threads
    from meshlib.transport.grpcio.server.loop import MeshAioServerInterceptor
    from meshlib.transport.grpcio.server.threads import MeshServerInterceptor

    with Chaos(1, FakeClock()) as chaos:
        chaos.served().reset()
        assert MeshServerInterceptor.intercept_service is not _threads
        chaos.rules.clear()
    assert MeshServerInterceptor.intercept_service is _threads
    assert MeshAioServerInterceptor.intercept_service is _loop
