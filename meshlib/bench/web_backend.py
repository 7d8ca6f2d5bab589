"""A web server of our own, faster than the clients measured against it, for machines without nginx: asyncio and httptools.

By path: ``/same`` has the same head for a second at least, ``/unique`` another one each time, and ``/size/N``,
too, with a body of N bytes.
``python -m meshlib.bench.web_backend [FOLDER]``: prints ``{"port": P, "tls": P}``, the second of mTLS with the certificates of
the folder (``certificates.py``), and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import httptools

from meshlib.bench.resources import ADDRESSES

ALL_ADDRESSES = tuple(address for each in ADDRESSES.values() for address in each)
SMALL = b"x" * 64


class Responding(asyncio.Protocol):
    """A connection."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_message_complete(self) -> None:
        path = self.url.partition(b"?")[0]
        body, more = SMALL, b""
        if path != b"/same":
            Responding.count += 1
            more = b"X-Id: %032x\r\n" % Responding.count
        if path.startswith(b"/size/"):
            body = b"x" * int(path[6:])
        head = (
            b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: %b\r\nContent-Type: text/plain\r\n%bContent-Length: %d\r\n\r\n"
        )
        self.transport.write(head % (formatdate(usegmt=True).encode(), more, len(body)) + body)  # type: ignore[attr-defined]
        if not self.parser.should_keep_alive():
            self.transport.close()


def mutual_tls(folder: Path) -> ssl.SSLContext:
    """Of a server whose callers need a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "bundle.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["http/1.1"])
    return context


async def listen(protocol: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None = None) -> int:
    """The port that is served on all addresses. Raises OSError: it is taken on one of them."""
    loop = asyncio.get_running_loop()
    first, *others = ALL_ADDRESSES
    server = await loop.create_server(protocol, first, 0, ssl=context)
    port: int = server.sockets[0].getsockname()[1]
    for address in others:
        await loop.create_server(protocol, address, port, ssl=context)
    return port


def until_stdin_ends(loop: asyncio.AbstractEventLoop) -> None:
    """This process is over with its standard input."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    loop.run_in_executor(None, wait)


async def _serve(folder: Path | None) -> None:
    ports = {"port": await listen(Responding)}
    if folder is not None:
        ports["tls"] = await listen(Responding, mutual_tls(folder))
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    until_stdin_ends(asyncio.get_running_loop())
    await asyncio.Event().wait()


def run(main: Callable[[], object]) -> None:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())  # type: ignore[arg-type]
    else:
        uvloop.run(main())  # type: ignore[arg-type]


if __name__ == "__main__":
    run(lambda: _serve(Path(sys.argv[1]) if sys.argv[1:] else None))
