"""A client of an HTTP/2 server in memory: raw frames to send, and what the server writes, read frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from meshlib.transport.protocol.http2_client_frames import PREFACE
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_server_stream import ServerStream

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "reviews")]
POST = [(":method", "POST"), *GET[1:]]


class Told:
    """A ``Sink`` that keeps what it is told. ``answers``: with 200 and no body, at the end of each request."""

    def __init__(self, consumes: bool = True) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.streams: dict[int, ServerStream] = {}
        self.session: ServerSession | None = None
        self.consumes = consumes

    def on_request(self, stream: ServerStream) -> None:
        self.streams[stream.id] = stream
        self.calls.append(("request", stream.id, stream.request_over))

    def on_whole(self, stream: ServerStream, data: bytes) -> None:
        stream.request_over = False
        self.on_request(stream)
        self.on_body(stream, data)
        stream.request_over = True
        if not stream.response_over:
            self.on_end(stream)

    def on_malformed(self) -> None:
        self.calls.append(("malformed",))

    def on_body(self, stream: ServerStream, data: bytes) -> None:
        self.calls.append(("body", stream.id, data))
        if self.consumes and self.session is not None and stream.unread:  # what is told at once is given back already
            self.session.consumed(stream, len(data))

    def on_trailers(self, stream: ServerStream, trailers: Head) -> None:
        self.calls.append(("trailers", stream.id, list(trailers)))

    def on_end(self, stream: ServerStream) -> None:
        self.calls.append(("end", stream.id))

    def on_reset(self, stream: ServerStream, why: str) -> None:
        self.calls.append(("reset", stream.id, why))

    def on_room(self, stream: ServerStream) -> None:
        self.calls.append(("room", stream.id))

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] == kind]


@dataclass
class Got:
    """What the server has written."""

    heads: dict[int, list[list[tuple[str, str]]]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    resets: dict[int, int] = field(default_factory=dict)
    goaways: list[tuple[int, int]] = field(default_factory=list)
    settings: dict[int, int] = field(default_factory=dict)
    pings: list[tuple[bool, bytes]] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)


class Client:
    """Sends frames to a session, at ``now`` seconds."""

    def __init__(self, told: Told | None = None, greet: bool = True, **options: object) -> None:
        self.told = told or Told()
        self.session = ServerSession(self.told, 0.0, **options)  # type: ignore[arg-type]
        self.told.session = self.session
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.got = Got()
        self.now = 0.0
        self.behind = False
        self._rest = b""
        if greet:
            self.send(PREFACE + SettingsFrame(0).serialize())

    def send(self, *frames: Frame | bytes) -> None:
        self.send_at_once(b"".join([one if isinstance(one, bytes) else one.serialize() for one in frames]))

    def send_at_once(self, data: bytes) -> None:
        self.behind = self.session.receive(data, self.now)
        self.read()

    def request(self, stream: int = 1, headers: list[tuple[str, str]] = GET, end: bool = True) -> None:
        self.send(self.head(stream, headers, end))

    def head(self, stream: int, headers: list[tuple[str, str]], end: bool = True) -> HeadersFrame:
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return HeadersFrame(stream, self.encoder.encode(headers), flags=flags)

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        self.send(DataFrame(stream, data, flags=["END_STREAM"] if end else []))

    def reset(self, stream: int, code: int = 8) -> None:
        self.send(RstStreamFrame(stream, error_code=code))

    def read(self) -> None:
        """What the server has to say."""
        data = self._rest + self.session.outgoing()
        at, got = 0, self.got
        while len(data) - at >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[at : at + 9]))
            frame.parse_body(memoryview(data[at + 9 : at + 9 + length]))
            at += 9 + length
            stream = frame.stream_id
            if isinstance(frame, HeadersFrame):
                got.heads.setdefault(stream, []).append(self.decoder.decode(frame.data))
            elif isinstance(frame, DataFrame):
                got.bodies[stream] = got.bodies.get(stream, b"") + frame.data
            elif isinstance(frame, RstStreamFrame):
                got.resets[stream] = frame.error_code
            elif isinstance(frame, GoAwayFrame):
                got.goaways.append((frame.last_stream_id, frame.error_code))
            elif isinstance(frame, SettingsFrame):
                got.settings.update(frame.settings)
            elif isinstance(frame, PingFrame):
                got.pings.append(("ACK" in frame.flags, frame.opaque_data))
            elif isinstance(frame, WindowUpdateFrame):
                got.windows.append((stream, frame.window_increment))
            if "END_STREAM" in frame.flags:
                got.ended.append(stream)
        self._rest = data[at:]
