"""A gRPC server that sends back what it is sent: bytes, no generated code, on grpcio's asyncio server.

``python -m meshlib.bench.grpc_backend``: prints ``{"port": P}`` and ends with its standard input.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from meshlib.bench.measuring import reply
from meshlib.bench.web_backend import ALL_ADDRESSES, until_stdin_ends

UNARY = "/bench.Echo/Unary"


async def unary(request: bytes, context: Any) -> bytes:
    """The request again."""
    return request


async def main() -> None:
    """Until standard input ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    _, service, method = UNARY.split("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(unary)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    first, *others = ALL_ADDRESSES
    port = server.add_insecure_port(f"{first}:0")
    for address in others:
        server.add_insecure_port(f"{address}:{port}")
    await server.start()
    reply({"port": port})
    until_stdin_ends(asyncio.get_running_loop())
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
