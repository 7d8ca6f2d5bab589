"""HTTP/2 as frames on both sides: what a client wrote, and a session that is told what its server sends."""

from __future__ import annotations

from hpack import Encoder
from hyperframe.frame import Frame, HeadersFrame, SettingsFrame

from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = request_head(b"GET", b"/", [(b"Host", b"reviews")], b"http")
SETTINGS = SettingsFrame(0).serialize()


def frames_of(data: bytes) -> list[Frame]:
    """What a client wrote, its preface aside."""
    found, view = [], memoryview(data.removeprefix(PREFACE))
    while view:
        frame, length = Frame.parse_frame_header(view[:9])
        frame.parse_body(view[9 : 9 + length])
        found.append(frame)
        view = view[9 + length :]
    return found


def response_head(stream: int, *flags: str, status: bytes = b"200") -> bytes:
    """The head of a response without headers."""
    block = Encoder().encode([(b":status", status)])
    data: bytes = HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()
    return data


class Played:
    """A connection with one stream on it, and a server that says one of ``says`` each time that somebody waits; when it has
    nothing more to say, the time of whoever waits is over. ``ended`` tells how the stream was given up."""

    def __init__(self, *says: bytes) -> None:
        self.says = list(says)
        self.ended: list[str] = []
        self.waited: list[float | None] = []
        self.session = Http2Session(0.0)
        self.session.receive(SETTINGS, 0.0)
        self.session.outgoing()
        stream = self.session.open(HEAD, True, False, lambda: None)
        assert stream is not None
        self.stream: Stream = stream
        self.session.receive(response_head(stream.id), 0.0)

    def now(self) -> float:
        return 100.0

    time = now

    def run(self, steps):
        """As ``perform`` of a connection."""
        try:
            step = next(steps)
            while True:
                self.waited.append(step)
                if self.says:
                    self.session.receive(self.says.pop(0), 0.0)
                    step = steps.send(True)
                else:
                    step = steps.send(False)
        except StopIteration as over:
            return over.value

    def cancel(self, stream: Stream) -> None:
        self.ended.append("cancelled")
        self.session.cancel(stream)

    def drop(self, stream: Stream) -> None:
        self.ended.append("dropped")
