"""A backend faster than any client measured here: asyncio and httptools, 64 bytes. Prints its port; ends with stdin."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import httptools

OTHER_ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # further endpoints (``synthetic.ADDRESSES``)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 64\r\n\r\n" + b"x" * 64


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Answer on a port of all addresses, which is printed, until stdin ends."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(protocol))
    else:
        uvloop.run(_serve(protocol))


async def _serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for address in OTHER_ADDRESSES:
        await loop.create_server(protocol, address, port)
    print(port, flush=True)

    def until_parent_ends() -> None:
        sys.stdin.read()
        os._exit(0)

    loop.run_in_executor(None, until_parent_ends)
    await server.serve_forever()


if __name__ == "__main__":
    serve(Answering)
