"""A gRPC backend: bytes in, bytes out, no generated code. Prints its port; ends with stdin.

Of grpcio's two servers the asyncio one is used: its streams are faster, so that less of a client's cost hides behind it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from benchmarks.backend import OTHER_ADDRESSES

UNARY, EXPAND, CHAT = (f"/bench.Echo/{method}" for method in ("Unary", "Expand", "Chat"))
MESSAGE = b"x" * 64


async def unary(request: bytes, context: Any) -> bytes:
    """The request again."""
    return request


async def expand(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """As many messages as the request says, a decimal number."""
    for _ in range(int(request)):
        yield MESSAGE


async def chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Each message as it comes."""
    async for request in requests:
        yield request


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Expand": grpc.unary_stream_rpc_method_handler(expand),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    for address in OTHER_ADDRESSES:
        server.add_insecure_port(f"{address}:{port}")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
