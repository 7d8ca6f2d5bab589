"""Bytes and messages of calls, as both ends count them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from meshlib.engine.message_size import FRAME, size_of_message
from meshlib.engine.wire_headers import size_of
from tests.support.grpc_echo import Message, eventually, stubs
from tests.support.grpc_probe import RUNTIMES, probe
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

LONG = 100_000


def resources(port: int) -> list[dict[str, Any]]:
    return [service("reviews"), pod("reviews", "v1", port)]


def sums(registry: CollectorRegistry) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name.startswith("istio_re") and sample.name.endswith(
                ("_bytes_sum", "_bytes_count", "messages_total")
            ):
                found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


class Told:
    """What a call of a mesh client was counted as, beside what went over the wire."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    @property
    def request(self) -> float:
        return sums(self.registry)["istio_request_bytes_sum"]

    @property
    def response(self) -> float:
        return sums(self.registry)["istio_response_bytes_sum"]


def behave(body: bytes, chunked: bool = False) -> Callable[[Any], bool]:
    def respond(handler: Any) -> bool:
        handler.send_response_only(200)
        if chunked:
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            for _ in range(4):
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
                handler.wfile.flush()
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        return True

    return respond


WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_whole_response_is_counted_as_it_came_and_the_request_as_it_was_sent(runtime: str) -> None:
    told = Told()
    with EchoServer(behave=behave(b"hello")) as server:
        with meshlib.Mesh.from_resources(resources(server.port), registry=told.registry) as mesh:
            request = httpx.Request(
                "POST", "http://reviews:9080/a?b=c", content=b"x" * 70, headers={"host": "reviews:9080"}
            )
            for _ in range(3):  # the second and third time its head is known
                send(mesh, runtime, request)
    assert told.response == 3 * len(WHOLE)
    assert told.request == 3 * (len("POST/a?b=c") + size_of(request.headers.raw) + 70)


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_response_in_pieces_is_counted_as_far_as_it_was_read(runtime: str) -> None:
    told = Told()
    head = len(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    with EchoServer(behave=behave(b"x" * LONG, chunked=True)) as server:
        with meshlib.Mesh.from_resources(resources(server.port), registry=told.registry) as mesh:
            send(mesh, runtime, httpx.Request("GET", "http://reviews:9080/"))
            assert told.response == head + 4 * LONG
            with mesh.client() as client, client.stream("GET", "http://reviews:9080/") as response:
                first = len(next(response.iter_raw()))
    assert told.response == 2 * head + 4 * LONG + first


def test_a_request_that_is_streamed_is_counted_to_its_end_also_when_it_is_too_long_to_be_kept() -> None:
    told = Told()
    pieces = [b"y" * LONG] * 15
    with EchoServer(behave=behave(b"hello")) as server:
        with (
            meshlib.Mesh.from_resources(resources(server.port), registry=told.registry) as mesh,
            mesh.client() as client,
        ):
            client.post("http://reviews:9080/", content=iter(pieces))
    assert 15 * LONG < told.request < 15 * LONG + 400


def test_a_response_that_the_mesh_makes_itself_has_its_size_and_none_has_none() -> None:
    told = Told()
    with meshlib.Mesh.from_resources([service("reviews")], registry=told.registry) as mesh:
        with mesh.client(local_replies="respond") as client:
            response = client.get("http://reviews:9080/")
        assert told.response >= len(response.content) > 0
        before = told.response
        mesh.apply(resources(free_port()))
        with mesh.client() as client, pytest.raises(httpx.TransportError):
            client.get("http://reviews:9080/")
    assert told.response == before


def test_a_response_of_another_transport_counts_by_its_headers() -> None:
    told = Told()
    other = httpx.MockTransport(lambda _: httpx.Response(200, headers={"a": "bc"}, content=b"hello"))
    with meshlib.Mesh.from_resources([], registry=told.registry) as mesh, mesh.client(transport=other) as client:
        response = client.get("http://reviews.example/")
    assert told.response == size_of(response.headers.raw) + 5


def send(mesh: meshlib.Mesh, runtime: str, request: httpx.Request) -> None:
    async def get() -> None:
        async with mesh.async_client() as client:
            (await client.send(request)).raise_for_status()

    if runtime == "asyncio":
        asyncio.run(get())
        return
    with mesh.client() as client:
        client.send(request).raise_for_status()


# -- gRPC -------------------------------------------------------------------------------------------------------------

REQUESTS = [Message(text=text) for text in ("a", "bcd", "")]
EXCHANGED = {"Unary": (1, 1), "Expand": (1, 4), "Collect": (3, 1), "Chat": (3, 3)}


def in_threads(mesh: meshlib.Mesh) -> dict[str, list[Any]]:
    stub = stubs.EchoStub(mesh.grpc_channel("reviews:9080"))
    return {
        "Unary": [stub.Unary(REQUESTS[1])],
        "Expand": list(stub.Expand(Message(text="x", count=4))),
        "Collect": [stub.Collect(iter(REQUESTS))],
        "Chat": list(stub.Chat(iter(REQUESTS))),
    }


def on_a_loop(mesh: meshlib.Mesh) -> dict[str, list[Any]]:
    async def calls() -> dict[str, list[Any]]:
        async with mesh.aio_grpc_channel("reviews:9080") as channel:
            stub = stubs.EchoStub(channel)
            written = stub.Chat()
            got = []
            for request in REQUESTS:
                await written.write(request)
                got.append(await written.read())
            await written.done_writing()
            assert await written.read() is grpc.aio.EOF
            return {
                "Unary": [await stub.Unary(REQUESTS[1])],
                "Expand": [each async for each in stub.Expand(Message(text="x", count=4))],
                "Collect": [await stub.Collect(iter(REQUESTS))],
                "Chat": got,
            }

    return asyncio.run(calls())


@pytest.mark.parametrize("calls", [in_threads, on_a_loop])
@pytest.mark.parametrize("served", RUNTIMES)
def test_messages_of_grpc_and_their_bytes_are_counted_at_both_ends(calls: Any, served: str) -> None:
    if calls is on_a_loop and served not in ("threads", "asyncio"):
        pytest.skip("the ways to write a server are seen from threads")
    here, there = CollectorRegistry(), CollectorRegistry()
    with meshlib.Mesh.from_resources([], registry=there) as serving, probe(served, serving) as running:
        grpc_service = service("reviews")
        grpc_service["spec"]["ports"][0]["name"] = "grpc"
        made = [grpc_service, pod("reviews", "v1", int(running.address.rpartition(":")[2]))]
        made[1]["spec"]["containers"][0]["ports"][0]["name"] = "http"
        with meshlib.Mesh.from_resources(made, registry=here) as mesh:
            got = calls(mesh)
            for registry in (here, there):  # a call is over a moment after its last message
                assert eventually(lambda: sums(registry).get("istio_request_bytes_count") == len(got))  # noqa: B023
    assert {name: len(each) for name, each in got.items()} == {name: n for name, (_, n) in EXCHANGED.items()}
    ours, theirs = sums(here), sums(there)
    sent, received = (sum(each) for each in zip(*EXCHANGED.values(), strict=True))
    for counted in (ours, theirs):
        assert counted["istio_request_messages_total"] == sent
        assert counted["istio_response_messages_total"] == received
    replies = sum(FRAME + each.ByteSize() for messages in got.values() for each in messages)
    assert ours["istio_response_bytes_sum"] == theirs["istio_response_bytes_sum"] == replies
    asked = [REQUESTS[1], Message(text="x", count=4), *REQUESTS, *REQUESTS]
    requests = sum(FRAME + each.ByteSize() for each in asked)
    for counted in (ours, theirs):
        assert requests < counted["istio_request_bytes_sum"] < requests + 4 * 250  # and four heads
        assert counted["istio_request_bytes_count"] == counted["istio_response_bytes_count"] == 4


def test_a_message_that_is_no_protobuf_message_counts_if_it_is_bytes() -> None:
    assert [size_of_message(each) for each in (b"abc", "abc", None, Message(text="a"))] == [8, 0, 0, 8]


def test_a_call_of_grpc_that_fails_has_no_message_and_counts_what_was_sent() -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([service("reviews")], registry=registry) as mesh:
        with pytest.raises(grpc.RpcError):
            stubs.EchoStub(mesh.grpc_channel("reviews:9080")).Unary(REQUESTS[1])
    counted = sums(registry)
    assert (counted["istio_request_messages_total"], counted["istio_response_messages_total"]) == (1, 0)
    assert counted["istio_response_bytes_sum"] == 0
    assert counted["istio_request_bytes_sum"] > FRAME + REQUESTS[1].ByteSize()
