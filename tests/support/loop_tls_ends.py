"""TLS over a transport of a loop with both ends in memory, so that bytes come and go as a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import trustme

from meshlib.transport.upstream.loop_tls import RECORD, LoopTls

AUTHORITY = trustme.CA()
NAME = "reviews.test"
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert(NAME).configure_cert(SERVER)
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
AUTHORITY.configure_trust(CLIENT)
OLD_CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
OLD_CLIENT.maximum_version = ssl.TLSVersion.TLSv1_2
AUTHORITY.configure_trust(OLD_CLIENT)
BIG = bytes(range(256)) * 4096


class Below(asyncio.Transport):
    """The transport below: what was written, and how it ended."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.ended: list[str] = []
        self.reading = True

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        self.written += data

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 7


class Inner(asyncio.Protocol):
    """Who hears; ``on_data`` may do something at once."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.received = bytearray()
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        assert self.heard == ["made"]
        self.received += data
        self.on_data()

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.append(("lost", error))

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class Ends:
    """A client, and a server that sees what it sends."""

    def __init__(self, wraps: Any = CLIENT) -> None:
        self.inner, self.below = Inner(), Below()
        self.tls = LoopTls(asyncio.get_running_loop(), self.inner, wraps, NAME)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = SERVER.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.tls.connection_made(self.below)

    def take(self) -> None:
        """What the client wrote goes to the server."""
        self.incoming.write(bytes(self.below.written))
        self.below.written.clear()

    def sent(self, piece: int = 1 << 30) -> None:
        """What the server wrote comes to the client, in pieces."""
        data = self.outgoing.read()
        for start in range(0, len(data), piece):
            self.tls.data_received(data[start : start + piece])

    def shake(self, piece: int = 1 << 30) -> None:
        for _ in range(3):
            self.take()
            try:
                self.server.do_handshake()
            except ssl.SSLWantReadError:
                self.sent(piece)
            else:
                self.sent(piece)
                return

    def read(self) -> bytes:
        """What the server has been sent."""
        self.take()
        found = bytearray()
        try:
            while data := self.server.read(RECORD):
                found += data
        except ssl.SSLWantReadError:
            pass
        return bytes(found)


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run
