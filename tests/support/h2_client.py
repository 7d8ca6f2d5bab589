"""A client of HTTP/2 on a socket, by prior knowledge: what a proxy's clients do, step by step."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Self

import h2.config
import h2.connection
import h2.events

from meshlib.transport.protocol.http2_frames import FrameGate, GoAway


@dataclass
class Answer:
    """What has come on a stream so far."""

    interim: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # of headers, as often as they came
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class H2Client:
    """One connection. ``reads``: the windows are given back as bodies come."""

    def __init__(self, port: int, reads: bool = True, window: int = 65535) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings.initial_window_size = window
        self.h2.initiate_connection()
        self.reads = reads
        self.answers: dict[int, Answer] = {}
        self.goaway: GoAway | None = None
        self._gate = FrameGate(0.0)  # h2 would take no frame after a GOAWAY
        self.closed = False
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def open(
        self, path: str = "/", method: str = "GET", host: str = "reviews:9080", end: bool = True, **more: str
    ) -> int:
        """Begin a request; names of headers with ``_`` for ``-``."""
        number = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
        headers += [(name.replace("_", "-"), value) for name, value in more.items()]
        self.h2.send_headers(number, headers, end_stream=end)
        self.answers[number] = Answer()
        self.flush()
        return number

    def send(self, stream: int, data: bytes = b"", end: bool = False) -> None:
        """Some of the body, as windows allow."""
        while True:
            size = min(len(data), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if size or not data:
                self.h2.send_data(stream, data[:size], end_stream=end and size == len(data))
                self.flush()
                data = data[size:]
            if not data:
                return
            if not size:
                self.receive()

    def trailers(self, stream: int, **trailers: str) -> None:
        self.h2.send_headers(
            stream, [(name.replace("_", "-"), value) for name, value in trailers.items()], end_stream=True
        )
        self.flush()

    def reset(self, stream: int, code: int = 8) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    def receive(self) -> None:
        """What comes next."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for run in self._gate.feed(data, 0.0):
            if isinstance(run, GoAway):
                self.goaway = run
            else:
                self._take(run)
        with contextlib.suppress(OSError):  # the server has closed
            self.flush()

    def _take(self, frames: bytes) -> None:
        for event in self.h2.receive_data(frames):
            answer = self.answers.get(getattr(event, "stream_id", 0) or 0, Answer())
            if isinstance(event, h2.events.InformationalResponseReceived):
                answer.interim.append(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
                answer.names = [name for name, _ in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                if self.reads and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                answer.trailers = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                answer.ended = True
            elif isinstance(event, h2.events.StreamReset):
                answer.reset = int(event.error_code)

    def until(self, done) -> None:
        """Receive until that is so."""
        while not done():
            if self.closed:
                raise ConnectionResetError("the server has closed the connection")
            self.receive()

    def answer(self, stream: int) -> Answer:
        """The whole response."""
        self.until(lambda: self.answers[stream].over)
        return self.answers[stream]

    def get(self, path: str = "/", method: str = "GET", host: str = "reviews:9080", **more: str) -> Answer:
        """A request without a body, and its response."""
        return self.answer(self.open(path, method, host, **more))
