"""What we say of grpcio's objects is so: those of the installed grpcio have every member that our protocols name."""

from __future__ import annotations

import inspect

import grpc
import pytest
from grpc import aio

from meshlib.transport.grpcio import contracts
from meshlib.transport.grpcio.client.aio_requests import AioRequests
from meshlib.transport.grpcio.client.errors import RpcFailed
from meshlib.transport.grpcio.client.requests import ReplayIterator

OURS = {"exchange"}
"""What the mesh puts on grpcio's calls."""
THREADS = {"subscribe", "unsubscribe"}
LOOP = {"get_state", "wait_for_state_change"}


def members(protocol: type) -> set[str]:
    found = {
        name
        for kind in protocol.__mro__
        if getattr(kind, "_is_protocol", False) and kind.__module__ == contracts.__name__
        for name in {**vars(kind), **vars(kind).get("__annotations__", {})}
    }
    calls = {"__call__", "__iter__", "__next__", "__await__", "__aiter__"}
    return {name for name in found if not name.startswith("_") or name in calls}


def parameters(call: object) -> list[str]:
    return [name for name in inspect.signature(call).parameters if name != "self"]


@pytest.fixture
def channel():
    with grpc.insecure_channel("127.0.0.1:1") as made:
        yield made


def missing(there: object, protocol: type) -> set[str]:
    return {name for name in members(protocol) if not hasattr(there, name)}


def test_of_threads(channel):
    unary = channel.unary_unary("/a/b")
    assert missing(unary, contracts.ThreadMultiCallable) == set()
    wanted = parameters(contracts.ThreadMultiCallable.__call__)
    for call in (unary.__call__, unary.with_call, unary.future):
        assert parameters(call)[: len(wanted)] == wanted
    assert missing(channel, contracts.EndpointChannel) == LOOP
    call = unary.future(b"")
    call.cancel()
    assert missing(call, contracts.ThreadCall) == OURS


async def test_of_asyncio():
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        assert missing(channel, contracts.EndpointChannel) == THREADS
        unary, stream = channel.unary_unary("/a/b"), channel.stream_stream("/a/b")
        assert set(parameters(contracts.LoopMultiCallable.__call__)) <= set(parameters(unary.__call__))
        calls = unary(b""), stream()
        for call in calls:
            call.cancel()
        has = [{name for name in members(contracts.LoopCall) if hasattr(call, name)} for call in calls]
        assert has[0] | has[1] == members(contracts.LoopCall)
        assert {"__await__"} == members(contracts.LoopCall) - has[1]


@pytest.mark.parametrize(
    ("kind", "protocol"), [(ReplayIterator, contracts.ThreadMessages), (AioRequests, contracts.LoopMessages)]
)
async def test_of_messages_that_are_kept(kind, protocol):
    made = kind(iter([]), None) if kind is ReplayIterator else kind(iter([]), None, lambda: None)
    assert missing(made, protocol) == set()


def test_a_call_that_failed_is_its_exception_and_back():
    error = RpcFailed(grpc.StatusCode.ABORTED, "no", (), None)
    assert contracts.ended_call(error) is error
    assert contracts.raised(contracts.ended_call(error)) is error
    assert missing(error, contracts.ThreadCall) == {"__iter__", "__next__"}
