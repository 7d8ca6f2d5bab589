"""An HTTP/2 server of any frames, and a client that goes on using the connection: no exception, nothing grows."""

from __future__ import annotations

import hpack

from meshlib.transport.protocol.http1 import MAX_HEADERS
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream
from tests.fuzz.raw_input import RawInput

WINDOW = 65_535
NAMES = (
    b":status",
    b":path",
    b"content-length",
    b"connection",
    b"x",
    b"",
    b"X",
    b"grpc-status",
    b"te",
    b"transfer-encoding",
)
VALUES = (b"200", b"204", b"304", b"100", b"101", b"099", b"", b"3", b"0", b"a\r\nb", b"9" * 30, b"trailers", b"\0")
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def run(data: bytes) -> None:
    raw = RawInput(data)
    now = 0.0
    session = Http2Session(now, limit=4, stream_window=WINDOW, connection_window=WINDOW)
    encoder = hpack.Encoder()
    streams: list[Stream] = []
    session.receive(SETTINGS, now)
    session.outgoing()

    def number() -> int:
        return raw.pick((0, 1, 3, 5, 2, 7, 2**31 - 1))

    while raw.left:
        match raw.below(12):
            case 0 | 1:
                head = request_head(b"HEAD" if raw.flag() else b"POST", b"/", [(b"host", b"a")], b"http")
                stream = session.open(head, raw.flag(), raw.flag(), lambda: None)
                if stream is not None:
                    streams.append(stream)
            case 2:
                session.receive(raw.piece(), now)
            case 3:
                session.receive(frame(raw.below(12), raw.byte(), number(), raw.piece()), now)
            case 4 | 5:
                fields = [
                    (raw.pick(NAMES) if raw.flag() else raw.piece(), raw.pick(VALUES) if raw.flag() else raw.piece())
                    for _ in range(raw.below(6))
                ]
                if raw.flag():
                    fields.insert(0, (b":status", raw.pick(VALUES)))
                session.receive(frame(1, 4 | raw.below(2), number(), encoder.encode(fields)), now)
            case 6:
                session.receive(frame(0, raw.below(2), number(), raw.piece()), now)
            case 7:
                session.receive(frame(*raw.pick(CONTROL)), now)
            case 8 if streams:
                stream = raw.pick(streams)
                before = sum(map(len, stream.chunks))
                assert len(session.take(stream)) == before
            case 9 if streams:
                session.send(raw.pick(streams), memoryview(bytes(raw.below(65536))), raw.flag())
            case 10 if streams:
                stream = raw.pick(streams)
                (session.end if raw.flag() else session.cancel)(stream)
            case 11:
                session.set_writable(raw.flag())
                now += raw.byte() / 100
        session.outgoing()
        check(session, streams)
    session.lost(None)
    check(session, streams)
    assert all(stream.settled for stream in streams)


def check(session: Http2Session, streams: list[Stream]) -> None:
    assert len(session.streams) <= 4
    for stream in streams:
        assert sum(map(len, stream.chunks)) <= WINDOW
        assert len(stream.headers) <= MAX_HEADERS
        assert len(stream.trailers) <= MAX_HEADERS
        assert stream.settled or stream.id in session.streams
        if stream.complete and stream.failed is None and stream.length is not None:
            assert stream.received == stream.length
        if session.broken is not None:
            assert stream.settled


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


CONTROL = (
    (3, 0, 1, b"\0\0\0\7"),
    (3, 0, 3, b"\0\0\0\1"),
    (4, 0, 0, b"\0\3\0\0\0\2"),
    (4, 0, 0, b"\0\4\x7f\xff\xff\xff"),
    (4, 0, 0, b"\0\1\xff\xff\xff\xff"),
    (4, 0, 0, b"\0\5\0\0\0\1"),
    (4, 1, 0, b""),
    (6, 0, 0, bytes(8)),
    (7, 0, 0, b"\0\0\0\1\0\0\0\0"),
    (7, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0"),
    (8, 0, 0, b"\0\0\xff\xff"),
    (8, 0, 1, b"\x7f\xff\xff\xff"),
    (8, 0, 1, b"\0\0\0\0"),
    (9, 4, 1, b"\x82"),
    (2, 0, 1, bytes(5)),
)
