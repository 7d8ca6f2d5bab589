"""Callers that go away before their answer: counted once, and the handler is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from meshlib.transport.grpcio.server import loop as server_aio
from meshlib.transport.grpcio.server.served import Served
from tests.support.grpc_echo import Message, eventually
from tests.support.grpc_probe import probe
from tests.support.grpc_served import call


def test_a_caller_that_goes_away_amid_a_stream_is_counted_once_and_the_handler_is_closed(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio leaves the pool's thread hanging for ever when a plain generator's caller goes away")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stream = stub.Expand(Message(text="a", count=1_000_000))
        next(stream)
        next(stream)
        stream.cancel()
        assert server.notes.closed.wait(30)
        assert counted.settled({("200", "2", "DR"): 1})
        assert call(stub, "Expand", "b") == ["b0", "b1"]
        assert counted.settled({("200", "2", "DR"): 1, ("200", "0", "-"): 1})
    closing = [seen for seen in server.notes.seen if seen.where == "Expand closed"]
    assert len(closing) == 2
    assert all(seen.request is not None for seen in closing), "what a handler cleans up may ask whom it serves"


@pytest.mark.parametrize("kind", ["Unary", "Collect"])
def test_a_caller_that_goes_away_before_the_answer_is_counted_without_a_status(runtime, counted, kind):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        message = Message(text="wait")
        future = getattr(stub, kind).future(message if kind == "Unary" else iter([message]))
        assert server.notes.waiting.wait(30)
        future.cancel()
        if runtime == "threads":
            # a thread cannot be interrupted: it is counted when its handler returns
            assert not counted.results
            assert eventually(lambda: not server.notes.context.is_active())
            server.notes.release.set()
        assert counted.settled({("0", "", "DR"): 1}), counted.results


def test_a_deadline_that_passes_in_the_handler_is_what_is_counted(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="wait"), timeout=0.8)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if runtime == "threads":
            assert eventually(lambda: not server.notes.context.is_active())
            server.notes.release.set()
        assert counted.settled({("200", "4", "-"): 1})


def test_chats_that_their_callers_break_off_end_their_handlers_and_are_counted_once_each(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")

    def requests(until: threading.Event) -> Iterator[Any]:
        yield Message(text="a")
        until.wait(10)

    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        for _ in range(20):
            over = threading.Event()
            stream = stub.Chat(requests(over))
            assert next(stream).text == "a"
            stream.cancel()
            over.set()
            assert server.notes.closed.wait(30)
            server.notes.closed.clear()
        assert eventually(lambda: sum(counted.results.values()) == 20)
    # grpcio may show a handler a stream that was broken off as one that has ended: then the call was a success to us, too
    assert set(counted.results) <= {("200", "2", "DR"), ("200", "0", "-")}
    assert counted.results["200", "2", "DR"]
    assert counted.messages() == (20, 20)


class Context:
    """A context of grpc.aio, as much as a generator of responses asks of it, in the hands of the test."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def auth_context(self) -> dict[str, Any]:
        return {}

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def peer(self) -> str:
        return "ipv6:%5B::1%5D:4711"

    def time_remaining(self) -> float | None:
        return None

    def code(self) -> Any:
        return None

    def add_done_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)


@pytest.mark.parametrize("end", ["done", "dropped", "both"])
async def test_a_generator_that_hears_nothing_of_its_callers_leaving_is_counted_once_and_closed(counted, end):
    """grpcio cancels a call while it writes: the generator is told by a callback, or by being closed, or by both."""
    closed_for: list[Any] = []

    async def behaviour(request: Any, _context: Any) -> Any:
        try:
            while True:
                yield request
        finally:
            closed_for.append(counted.mesh.inbound())

    served = Served(counted.mesh._core, counted.mesh._telemetry_of_servers(), True)
    context = Context()
    responses = server_aio.response_stream(served, "/a.B/C", behaviour, False)("x", context)
    assert await anext(responses) == "x"
    assert counted.mesh.inbound() is None
    if end != "dropped":
        for callback in context.callbacks:
            callback(context)
        assert counted.results == {("200", "2", "DR"): 1}
    if end != "done":
        await responses.aclose()
    assert counted.results == {("200", "2", "DR"): 1}
    if end == "done":
        await responses.aclose()
    assert [request.peer for request in closed_for] == ["[::1]:4711"]
    assert counted.mesh.inbound() is None
