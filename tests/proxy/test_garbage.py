"""Calls that are over, however they ended, leave nothing for the garbage collector.

It looks at what is old once in millions of objects: until then cycles are memory that grows (in 15 minutes of ``make soak``,
with servers that die and resources that are edited, 10 MB), and they hold on to configurations that were replaced.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from benchmarks.free_ports import free_port
from tests.soak.proxy import Client, answer, resources
from tests.support.event_loops import event_loops
from tests.support.eventually import soon, turned
from tests.support.proxy import Proxy
from tests.support.resources import service_entry

CALLS = 10


class Server:
    """The soak's; ``heads`` counts the requests that have come."""

    heads = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        until = reader.readuntil

        async def counted(separator: bytes) -> bytes:
            head = await until(separator)
            self.heads += 1
            return head

        reader.readuntil = counted  # type: ignore[method-assign, assignment]
        await answer(reader, writer)


class Caller(Client):
    """One of the soak's, and what that does not do: it calls servers that are gone, and leaves an upload in the middle."""

    server: Server

    async def left_upload(self) -> None:
        before = self.server.heads
        await self._send(b"POST /post/1 HTTP/1.1\r\nHost: soak.example\r\nContent-Length: 100000\r\n\r\nmore")
        assert await soon(lambda: self.server.heads > before)
        self.leave()

    async def refused(self) -> None:
        reader = await self._send(b"GET / HTTP/1.1\r\nHost: gone.example\r\n\r\n")
        assert (await self._read(reader))[0] == 503

    async def no_tunnel(self) -> None:
        reader = await self._send(b"CONNECT gone.example:80 HTTP/1.1\r\nHost: gone.example:80\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        self.leave()


WAYS = (Caller.get, Caller.pipeline, Caller.post, Caller.chunks, Caller.stream, Caller.left_stream, Caller.left_request,
        Caller.cut, Caller.nonsense, Caller.tunnel, Caller.left_upload, Caller.refused, Caller.no_tunnel)  # fmt: skip


class Collected:
    """``with Collected() as found``: what only the garbage collector could free of what ended inside, by type, in ``found``."""

    def __enter__(self) -> Counter[str]:
        gc.collect()
        gc.freeze()  # what other tests have left is not this one's
        gc.disable()
        self._found: Counter[str] = Counter()
        return self._found

    def __exit__(self, *_: object) -> None:
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = (type(each) for each in gc.garbage)
            self._found.update(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()


@pytest.mark.parametrize("loops", event_loops())
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_calls_leave_nothing_for_the_garbage_collector(way: Callable[[Caller], Any], loops: Any) -> None:
    counting = Server()
    server = await asyncio.start_server(counting, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    nobody = {"address": "127.0.0.1", "ports": {"http": free_port()}}
    gone = service_entry("gone", "gone.example", endpoints=[nobody])
    async with server:
        with Proxy([*yaml.safe_load_all(resources([port], 0)), gone], loops=loops) as proxy:
            verdict: Any = SimpleNamespace(problem=pytest.fail)
            caller = Caller(1, proxy.port, 1, verdict)
            caller.server = counting

            async def calls() -> None:
                for _ in range(CALLS):
                    await way(caller)
                caller.leave()
                assert await soon(lambda: not proxy.process.connections)
                turned(proxy.loop)

            await calls()  # what is made once
            with Collected() as found:
                await calls()
    assert {kind: count for kind, count in found.items() if count >= CALLS and kind.startswith("meshlib.")} == {}
