"""An HTTP/2 client of any frames, and a server that responds as it likes: no exception, nothing grows, each stream is told of
in order, and what is taken is one request to a reader of HTTP/1.1."""

from __future__ import annotations

import hpack

from meshlib.transport.protocol.http2_client_frames import PREFACE
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_response import fields, response_head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_server_stream import ServerStream
from meshlib.transport.protocol.request_head import IN_VALUES
from tests.fuzz.raw_input import RawInput
from tests.fuzz.targets.http2_session import CONTROL, frame

WINDOW = 65_535
STREAMS = 8
NAMES = (
    b":method",
    b":path",
    b":authority",
    b":scheme",
    b":protocol",
    b"host",
    b"content-length",
    b"connection",
    b"te",
    b"transfer-encoding",
    b"expect",
    b"cookie",
    b"X",
    b"x",
    b"",
)
VALUES = (
    b"GET",
    b"POST",
    b"CONNECT",
    b"/",
    b"/a#b",
    b"*",
    b"reviews",
    b"a b",
    b"http",
    b"ftp",
    b"3",
    b"0",
    b"trailers",
    b"gzip",
    b"100-continue",
    b"a\r\nb",
    b"\0",
    b"",
)
GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"reviews"))


HARMLESS = (
    (4, 0, 0, b"\0\4\0\0\0\x64"),
    (4, 0, 0, b"\0\4\0\1\0\0"),
    (4, 1, 0, b""),
    (6, 0, 0, bytes(8)),
    (6, 1, 0, b"draining"),
    (8, 0, 0, b"\0\0\xff\xff"),
    (8, 0, 1, b"\0\0\xff\xff"),
    (8, 0, 1, b"\x7f\xff\xff\xff"),
    (2, 0, 1, bytes(5)),
    (7, 0, 0, bytes(8)),
    (0xF0, 0, 0, b"x"),
)


class Told:
    """A sink that holds the session to its word."""

    def __init__(self) -> None:
        self.states: dict[int, str] = {}
        self.open: list[ServerStream] = []

    def on_request(self, stream: ServerStream) -> None:
        assert stream.id not in self.states
        self.states[stream.id] = "ended" if stream.request_over else "open"
        self.open.append(stream)
        head = stream.head
        if head.refused is None:
            written = b"%b %b HTTP/1.1\r\n%b" % (head.method, head.target, head.lines)
            assert not written.translate(None, IN_VALUES + b"\r\n")
            assert written.count(b"\n") == written.count(b"\r") == written.count(b"\r\n")
            assert written.lower().count(b"\r\nhost:") == 1
            assert b"\r\ntransfer-encoding:" not in head.lower
            assert written.partition(b"\r\n")[0].count(b" ") == 2

    def on_whole(self, stream: ServerStream, data: bytes) -> None:
        stream.request_over = False
        self.on_request(stream)
        self.on_body(stream, data)
        stream.request_over = True
        if not stream.response_over:
            self.on_end(stream)

    def on_malformed(self) -> None:
        """Nothing is known of it."""

    def on_body(self, stream: ServerStream, data: bytes) -> None:
        assert self.states[stream.id] == "open"
        assert data
        assert stream.unread <= WINDOW

    def on_trailers(self, stream: ServerStream, trailers: Head) -> None:
        assert self.states[stream.id] == "open"
        assert all(not name.startswith(b":") for name, _ in trailers)

    def on_end(self, stream: ServerStream) -> None:
        assert self.states[stream.id] == "open"
        self.states[stream.id] = "ended"

    def on_reset(self, stream: ServerStream, why: str) -> None:
        assert self.states[stream.id] in ("open", "ended")
        self.states[stream.id] = "reset"
        self.open.remove(stream)

    def on_room(self, stream: ServerStream) -> None:
        assert self.states[stream.id] in ("open", "ended")


def run(data: bytes) -> None:
    raw = RawInput(data)
    now = 0.0
    told = Told()
    session = ServerSession(told, now, STREAMS, raw.flag(), WINDOW, WINDOW)
    encoder = hpack.Encoder()
    newest = -1
    if raw.byte() == 1:
        session.receive(raw.piece(), now)
    session.receive(PREFACE + frame(4, 0, 0, b""), now)
    session.outgoing()
    while raw.left and session.broken is None:
        number = of_a_stream(raw, told, newest)
        match raw.below(14):
            case 0 | 1 | 2:
                newest += 2
                headers = [*GET, *some(raw)]
                if not raw.byte() & 3:
                    headers[raw.below(4)] = (raw.pick(NAMES), raw.pick(VALUES))
                session.receive(frame(1, 4 | raw.below(2), newest, encoder.encode(headers)), now)
            case 3 if not raw.byte() & 31:
                session.receive(raw.piece(), now)
            case 4 if not raw.byte() & 31:
                session.receive(frame(raw.below(12), raw.byte(), raw.below(8), raw.piece()), now)
            case 5 if number:
                session.receive(frame(1, 4 | raw.below(2), number, encoder.encode(some(raw))), now)
            case 6 | 7 if number:
                size = raw.below(300) if raw.flag() else raw.below(16_384)
                session.receive(frame(0, raw.below(2), number, bytes(size)), now)
            case 8:
                session.receive(frame(*raw.pick(CONTROL if not raw.byte() & 31 else HARMLESS)), now)
            case 9 | 3 | 4 if told.open:
                respond(raw, session, told)
            case 10 if told.open:
                stream = raw.pick(told.open)
                session.consumed(stream, min(stream.unread, raw.below(20_000)))
            case 11:
                session.set_writable(raw.flag())
                now += raw.byte() / 50
            case 12 if not raw.byte() & 15:
                (session.drain if raw.flag() else session.drained)()
            case 13 if number:
                session.receive(frame(3, 0, number, b"\0\0\0\x08"), now)
        while session.receive(b"", now):
            pass
        session.outgoing()
        check(session, told)
    session.lost(None)
    check(session, told)
    assert not session.streams
    assert session.over


def of_a_stream(raw: RawInput, told: Told, newest: int) -> int:
    """Nearly always of one on which the client may still send; 0: there is none."""
    if not raw.byte() & 31:
        return max(1, newest - 2 * raw.below(3))
    may = [stream.id for stream in told.open if told.states[stream.id] == "open"]
    return raw.pick(may) if may else 0


def some(raw: RawInput) -> list[tuple[bytes, bytes]]:
    return [
        (raw.pick(NAMES) if raw.flag() else raw.piece(), raw.pick(VALUES) if raw.flag() else raw.piece())
        for _ in range(raw.below(4))
    ]


def respond(raw: RawInput, session: ServerSession, told: Told) -> None:
    stream = raw.pick(told.open)
    match raw.below(6):
        case 0:
            session.interim(stream, response_head(103, some(raw)))
        case 1 | 2:
            session.respond(stream, response_head(200, some(raw)), raw.flag())
        case 3 if stream.response_begun:
            session.send(stream, bytes(1 + raw.below(65_536)), raw.flag())
        case 4 if stream.response_begun:
            session.trailers(stream, fields(some(raw)))
        case 5:
            session.reset(stream)
    if stream.id not in session.streams:
        told.states[stream.id] = "over"
        told.open.remove(stream)


def check(session: ServerSession, told: Told) -> None:
    assert session.broken is None or session.broken.startswith("the client"), session.broken
    assert len(session.streams) <= STREAMS
    assert sum(stream.unread for stream in session.streams.values()) <= WINDOW
    assert set(session.streams) == {stream.id for stream in told.open}
