"""mesh.close() with gRPC calls under way: they fail at once in both runtimes, UNAVAILABLE, and are not tried again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.support.grpc_runtimes import TARGET, mesh_of, quick
from tests.support.resources import to

SOON = 30.0
RULE = {"route": [to("echo.test")], "retries": quick("cancelled,unavailable,reset,connect-failure")}


class Silent(grpc.GenericRpcHandler):
    """Takes calls and says no more: of a stream, nothing after the first message."""

    def __init__(self) -> None:
        self.asked = 0
        self.over = threading.Event()

    def service(self, details: Any) -> Any:
        if "Stream" in details.method:
            return grpc.unary_stream_rpc_method_handler(self.stream)
        return grpc.unary_unary_rpc_method_handler(self.unary)

    def unary(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        self.over.wait(60)
        return b""

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.asked += 1
        if request:
            yield request
        self.over.wait(60)


@pytest.fixture
def silent() -> Iterator[Silent]:
    handler = Silent()
    server = grpc.server(ThreadPoolExecutor(8), handlers=(handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")  # type: ignore[attr-defined]
    server.start()
    yield handler
    handler.over.set()
    server.stop(0).wait(60)


async def asked(silent: Silent) -> None:
    async with asyncio.timeout(SOON):
        while not silent.asked:
            await asyncio.sleep(0.002)


def is_closed(error: Any, silent: Silent) -> None:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "the mesh was closed" in error.details()
    assert silent.asked == 1


@pytest.mark.parametrize("kind", ["unary", "with_call", "future", "stream", "stream in the middle"])
async def test_calls_of_threads_fail_at_once(kind, silent):
    mesh = mesh_of(silent.port, rules=[RULE])
    channel = mesh.grpc_channel(TARGET)
    unary, stream = channel.unary_unary("/Echo/Unary"), channel.unary_stream("/Echo/Stream")

    def call() -> Any:
        match kind:
            case "unary":
                return unary(b"")
            case "with_call":
                return unary.with_call(b"")
            case "future":
                return unary.future(b"").result()
            case _:
                return list(stream(b"first" if "middle" in kind else b""))

    under_way = asyncio.create_task(asyncio.to_thread(call))
    await asked(silent)
    mesh.close()
    with pytest.raises(grpc.RpcError) as failed:
        await asyncio.wait_for(under_way, SOON)
    is_closed(failed.value, silent)


@pytest.mark.parametrize("kind", ["unary", "unary in a task of its own", "stream", "stream in the middle"])
@pytest.mark.parametrize("outside", [False, True], ids=["closed here", "closed by another thread"])
async def test_calls_on_asyncio_fail_at_once_and_are_not_taken_for_cancelled(kind, outside, silent):
    mesh = mesh_of(silent.port, rules=[RULE])
    channel = mesh.aio_grpc_channel(TARGET)
    unary, stream = channel.unary_unary("/Echo/Unary"), channel.unary_stream("/Echo/Stream")

    async def call() -> Any:
        if kind == "unary":
            return await unary(b"")
        if "task" in kind:
            begun = unary(b"")
            await asyncio.sleep(0.01)
            return await begun
        return [message async for message in stream(b"first" if "middle" in kind else b"")]

    under_way = asyncio.create_task(call())
    await asked(silent)
    await asyncio.sleep(0.02)  # the first message is on its way
    if outside:
        await asyncio.to_thread(mesh.close)
    else:
        await mesh.aclose()
    with pytest.raises(grpc.RpcError) as failed:
        await asyncio.wait_for(under_way, SOON)
    is_closed(failed.value, silent)
