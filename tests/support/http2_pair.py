"""A session of HTTP/2 without I/O, and h2's own server side in memory."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hpack import Encoder
from hyperframe.frame import HeadersFrame

from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream

CODES = h2.errors.ErrorCodes
SETTINGS = h2.settings.SettingCodes
HEAD = request_head(b"GET", b"/", [(b"Host", b"reviews")], b"http")
OK = [(b":status", b"200")]


class Pair:
    """A session and an honest server, with nothing in between but ``move``."""

    def __init__(self, server_settings: dict | None = None, limit: int = 2**31 - 1, **windows: int) -> None:
        self.client = Http2Session(0.0, limit, **windows)
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self.server = h2.connection.H2Connection(config)
        values = {SETTINGS.MAX_CONCURRENT_STREAMS: 100, **(server_settings or {})}
        self.server.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.server.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.woken: list[int] = []
        self.move()

    def to_server(self) -> None:
        data = self.client.outgoing()
        if data:
            self.events += self.server.receive_data(data)

    def to_client(self, chunk: int = 1 << 20) -> None:
        data = self.server.data_to_send()
        for at in range(0, len(data), chunk):
            self.client.receive(data[at : at + chunk], 0.0)

    def move(self) -> None:
        for _ in range(4):
            self.to_server()
            self.to_client()

    def open(self, end: bool = True, head_request: bool = False) -> Stream:
        head = request_head(b"HEAD", b"/", [(b"Host", b"reviews")], b"http") if head_request else HEAD
        number = itertools.count(1)
        stream = self.client.open(head, end, head_request, lambda: self.woken.append(next(number)))
        assert stream is not None
        self.to_server()
        return stream

    def raw(self, *frames) -> None:
        """From the server, past its library."""
        self.client.receive(b"".join(frame.serialize() for frame in frames), 0.0)

    def resets(self) -> dict[int, int]:
        self.to_server()
        return {e.stream_id: int(e.error_code) for e in self.events if isinstance(e, h2.events.StreamReset)}


def encoded(headers) -> bytes:
    return Encoder().encode(headers)


def headers_frame(headers, stream: int = 1, *flags: str) -> HeadersFrame:
    return HeadersFrame(stream, encoded(headers), flags=["END_HEADERS", *flags])


def big_head(pair: Pair, kilobytes: int) -> None:
    """A head of this size, small on the wire thanks to the compression table."""
    block = Encoder().encode([*OK, *[(b"x", b"v" * 1000)] * kilobytes])
    pair.raw(HeadersFrame(1, block, flags=["END_HEADERS"]))
