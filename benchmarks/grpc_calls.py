"""``python -m benchmarks.grpc_calls sync|aio PORT [--quick]``: one client process that measures the same gRPC calls in turn
by a bare channel, through the mesh, and through grpcio's own ``xds:///`` (bootstrap in the environment). Prints JSON.

A process of its own, because grpcio reads its xDS bootstrap once a process and because grpcio's sync and asyncio clients
disturb each other's threads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

import meshlib
from benchmarks import synthetic
from benchmarks.grpc_backend import CHAT, EXPAND, MESSAGE, UNARY
from benchmarks.measure import Unit, interleaved, interleaved_async

WAYS = ("bare", "mesh", "xds")
STREAMED = 400
CHATTED = 200

Samples = dict[str, dict[str, list[float]]]
"""By kind of call and by way: seconds a call. Beside them ``json.loads``: ``us``, the unit (``measure.Unit``)."""


def plan(quick: bool) -> dict[str, tuple[int, int, int]]:
    """Rounds, calls a round and calls before the first round."""
    return {
        "unary": (4, 50, 50) if quick else (60, 100, 300),
        "server streaming": (2, 1, 1) if quick else (60, 1, 3),
        "bidirectional": (2, 1, 1) if quick else (60, 1, 3),
    }


def _targets(port: int) -> dict[str, str]:
    return {"bare": f"127.0.0.1:{port}", "mesh": "reviews:9080", "xds": "xds:///reviews"}


def sync_calls(port: int, quick: bool) -> Samples:
    unit = Unit()
    with meshlib.Mesh.from_resources(synthetic.grpc_reviews(port)) as mesh:
        channels = [
            (mesh.grpc_channel if way == "mesh" else grpc.insecure_channel)(target)
            for way, target in _targets(port).items()
        ]

        def unary(channel: Any) -> Callable[[], None]:
            call = channel.unary_unary(UNARY)

            def once() -> None:
                assert call(MESSAGE) == MESSAGE

            return once

        def expand(channel: Any) -> Callable[[], None]:
            call, request = channel.unary_stream(EXPAND), b"%d" % STREAMED

            def once() -> None:
                assert sum(1 for _ in call(request)) == STREAMED

            return once

        def chat(channel: Any) -> Callable[[], None]:
            call, requests = channel.stream_stream(CHAT), [MESSAGE] * CHATTED

            def once() -> None:
                assert sum(1 for _ in call(iter(requests))) == CHATTED

            return once

        kinds = {"unary": unary, "server streaming": expand, "bidirectional": chat}
        samples = {
            kind: dict(zip(WAYS, interleaved([kinds[kind](c) for c in channels], *counts, unit), strict=True))
            for kind, counts in plan(quick).items()
        }
        for channel in channels:
            channel.close()
    return {**samples, "json.loads": {"us": [unit.us]}}


async def aio_calls(port: int, quick: bool) -> Samples:
    unit = Unit()
    async with meshlib.Mesh.from_resources(synthetic.grpc_reviews(port)) as mesh:
        channels = [
            (mesh.aio_grpc_channel if way == "mesh" else grpc.aio.insecure_channel)(target)
            for way, target in _targets(port).items()
        ]

        def unary(channel: Any) -> Callable[[], Awaitable[None]]:
            call = channel.unary_unary(UNARY)

            async def once() -> None:
                assert await call(MESSAGE) == MESSAGE

            return once

        def expand(channel: Any) -> Callable[[], Awaitable[None]]:
            call, request = channel.unary_stream(EXPAND), b"%d" % STREAMED

            async def once() -> None:
                assert await _count(call(request)) == STREAMED

            return once

        def chat(channel: Any) -> Callable[[], Awaitable[None]]:
            call, requests = channel.stream_stream(CHAT), [MESSAGE] * CHATTED

            async def once() -> None:
                assert await _count(call(iter(requests))) == CHATTED

            return once

        kinds = {"unary": unary, "server streaming": expand, "bidirectional": chat}
        samples = {
            kind: dict(
                zip(WAYS, await interleaved_async([kinds[kind](c) for c in channels], *counts, unit), strict=True)
            )
            for kind, counts in plan(quick).items()
        }
        for channel in channels:
            await channel.close()
    return {**samples, "json.loads": {"us": [unit.us]}}


async def _count(stream: Any) -> int:
    received = 0
    async for _ in stream:
        received += 1
    return received


if __name__ == "__main__":
    runtime, served = sys.argv[1], int(sys.argv[2])
    hurried = "--quick" in sys.argv
    if runtime == "sync":
        taken = sync_calls(served, hurried)
    elif runtime == "aio":
        taken = asyncio.run(aio_calls(served, hurried))
    else:
        sys.exit(f"sync or aio, not {runtime}")
    print(json.dumps(taken))
