"""A message that the server's error follows at once reaches the caller, and is the end of retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import meshlib
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.resources import pod, service, to, virtual_service

CALLS = 150


@contextmanager
def failing() -> Iterator[tuple[EchoServer, meshlib.Mesh]]:
    """A server that fails after one message, and a mesh that would retry."""
    with EchoServer("a", [("after", 1, "UNAVAILABLE")]) as server:
        rule = {"route": [to("echo")], "retries": {"attempts": 2, "retryOn": "unavailable", "backoff": "1ms"}}
        resources = [service("echo"), pod("echo", "v1", server.port), virtual_service("echo", rule)]
        with meshlib.Mesh.from_resources(resources) as mesh:
            yield server, mesh


def test_a_message_right_before_an_error_is_read_and_never_retried():
    with failing() as (server, mesh), mesh.grpc_channel("echo:9080") as channel:
        stub = stubs.EchoStub(channel)
        for _ in range(CALLS):
            answers = stub.Expand(Message(text="x", count=3))
            assert next(answers).server == "a"
            with pytest.raises(grpc.RpcError) as error:
                next(answers)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(server.seen) == CALLS


def test_the_same_on_asyncio():
    async def read(answers: Any) -> list[str]:
        received = []
        try:
            async for answer in answers:
                received.append(answer.server)
        except grpc.RpcError as error:
            received.append(error.code().name)
        return received

    async def calls(mesh: meshlib.Mesh) -> None:
        channel = mesh.aio_grpc_channel("echo:9080")
        stub = stubs.EchoStub(channel)
        for _ in range(CALLS):
            assert await read(stub.Expand(Message(text="x", count=3))) == ["a", "UNAVAILABLE"]
        await channel.close()

    with failing() as (server, mesh):
        asyncio.run(calls(mesh))
        assert len(server.seen) == CALLS
