"""HTTP/2 as bytes in, events out: no socket, no clock and no waiting here. Shared by threads and asyncio.

``Http2Session`` is one connection with many streams, ``Stream`` one request and its answer. The protocol itself is h2's;
this file adds what a client that shares a connection between strangers needs: nothing that a server sends raises, grows
without bound, or lets one stream hold up another.

Flow control: what is received is given back to the connection's window at once and to the stream's window as its reader
takes it. So a reader that is behind stops its own stream only, and holds at most ``STREAM_WINDOW`` bytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hpack import HeaderTuple

from meshlib.engine.outcome import Failure, RawHeaders
from meshlib.transport.http1 import MAX_HEAD_BYTES, MAX_HEADERS
from meshlib.transport.http2_frames import HEADER_TABLE, MAX_FRAME, FrameGate, GoAway, Violation

STREAM_WINDOW = 1024 * 1024  # bytes of an answer that may wait for its reader
CONNECTION_WINDOW = 16 * 1024 * 1024  # bytes on their way to us over all streams
SEND_AT_ONCE = 64 * 1024  # of one body, before others get their turn
LAST_STREAM_ID = 2**31 - 1
NO_LIMIT = 2**31 - 1

_DECODED_MOST = 4 * MAX_HEAD_BYTES
"""A head between ``MAX_HEAD_BYTES`` and this fails its own stream; beyond it decoding stops, and with it the connection."""

_UNSAFE = re.compile(rb"[\0\r\n]")  # h2 before 4.3 lets them pass

_CODES = h2.errors.ErrorCodes


class StreamFailure(NamedTuple):
    """Why a stream has no (whole) answer. ``stale``: the server has not worked on the request."""

    failure: Failure
    detail: str
    stale: bool = False
    error: BaseException | None = None


class Stream:
    """One request and its answer. ``head_done``, ``complete`` and ``failed`` tell how far it is; ``wake`` is called when
    something changed: the head or data came, it ended or failed, or more of the body may be sent."""

    __slots__ = (
        "begun",
        "chunks",
        "complete",
        "continue_seen",
        "credit",
        "failed",
        "head_done",
        "head_request",
        "headers",
        "id",
        "length",
        "received",
        "reused",
        "sent",
        "status",
        "trailers",
        "wake",
    )

    def __init__(self, number: int, head_request: bool, reused: bool, wake: Callable[[], None]) -> None:
        self.id = number
        self.head_request = head_request
        self.reused = reused
        self.wake = wake
        self.status = 0
        self.headers: RawHeaders = []
        self.trailers: RawHeaders = []
        self.chunks: list[bytes] = []
        self.received = 0  # bytes of the body
        self.length: int | None = None  # what content-length says
        self.credit = 0  # bytes taken by the reader and not given back to the stream's window yet
        self.begun = False
        self.head_done = False
        self.complete = False
        self.continue_seen = False
        self.sent = False  # the request is over
        self.failed: StreamFailure | None = None

    @property
    def settled(self) -> bool:
        """Nothing more will come."""
        return self.complete or self.failed is not None


class Http2Session:
    """One client connection. Not thread-safe. After every call, what ``outgoing`` returns must be written.

    ``broken`` says that and why the connection is over; ``going_away`` that it takes no new streams.
    """

    __slots__ = (
        "_blocked",
        "_connection",
        "_credit",
        "_gate",
        "_limit",
        "_stream_window",
        "_window",
        "answered",
        "broken",
        "going_away",
        "ready",
        "streams",
        "writable",
    )

    def __init__(
        self,
        now: float,
        limit: int = NO_LIMIT,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
    ) -> None:
        """``limit``: streams open at a time, whatever more the server would allow. Windows in bytes, 65535 at least for
        the connection."""
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,  # http2_headers.py writes and checks them
            normalize_outbound_headers=False,
            normalize_inbound_headers=False,
        )
        codes = h2.settings.SettingCodes
        self._connection = connection = h2.connection.H2Connection(config)
        connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.HEADER_TABLE_SIZE: HEADER_TABLE,
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: stream_window,
                codes.MAX_FRAME_SIZE: MAX_FRAME,
                codes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
            },
        )
        connection.decoder.max_header_list_size = _DECODED_MOST
        connection.initiate_connection()
        if connection_window > 65535:
            connection.increment_flow_control_window(connection_window - 65535)
        self._gate = FrameGate(now)
        self._limit = limit
        self._stream_window = stream_window
        self._window = connection_window
        self._credit = 0
        self._blocked: set[Stream] = set()
        self.streams: dict[int, Stream] = {}
        self.answered = 0  # heads of answers so far
        self.ready = False  # the server's SETTINGS have come
        self.going_away = False
        self.broken: StreamFailure | None = None
        self.writable = True

    # -- requests ---------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more streams may be opened now."""
        if self.going_away or not self.ready or self.broken is not None:
            return 0
        allowed = self._connection.remote_settings.max_concurrent_streams
        return max(0, min(self._limit, allowed) - len(self.streams))

    def open(
        self, headers: Sequence[HeaderTuple], end: bool, head_request: bool, wake: Callable[[], None]
    ) -> Stream | None:
        """Begin a request; ``end``: it has no body. None when there is no room for another stream."""
        if self.room() <= 0:
            return None
        newest = self._connection.highest_outbound_stream_id
        number = newest + 2 if newest else 1
        if number > LAST_STREAM_ID:
            self.going_away = True  # numbers are never used again: time for a new connection
            return None
        self._connection.send_headers(number, headers, end_stream=end)
        self._gate.opened()
        stream = self.streams[number] = Stream(number, head_request, self.answered > 0, wake)
        stream.sent = end
        return stream

    def send(self, stream: Stream, data: memoryview, end: bool) -> int:
        """As much of ``data`` as the windows and the socket take now, with the end of the request when it is all and
        ``end``. Returns the number of bytes; when it is not all, ``wake`` comes when there may be more room."""
        if stream.id not in self.streams or stream.sent:
            return 0
        connection = self._connection
        taken, size = 0, len(data)
        if self.writable:
            most = min(size, SEND_AT_ONCE)
            largest = min(connection.max_outbound_frame_size, SEND_AT_ONCE)
            while taken < most:
                piece = min(most - taken, connection.local_flow_control_window(stream.id), largest)
                if piece <= 0:
                    break
                last = end and taken + piece == size
                connection.send_data(stream.id, data[taken : taken + piece], end_stream=last)
                self._gate.reward()
                taken += piece
                if last:
                    self._request_over(stream)
        if taken < size:
            self._blocked.add(stream)
        else:
            self._blocked.discard(stream)
        return taken

    def end(self, stream: Stream) -> None:
        """The request's body is over."""
        if stream.id in self.streams and not stream.sent:
            self._connection.end_stream(stream.id)
            self._request_over(stream)

    def set_writable(self, writable: bool) -> None:
        """Whether the socket takes more than it has; while not, no bodies are sent."""
        if writable and not self.writable:
            self.writable = True
            self._wake_blocked()
        self.writable = writable

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the (rest of the) answer: tell the server, unless it is over."""
        stream.chunks.clear()
        if stream.failed is None and not stream.complete:
            stream.failed = StreamFailure(Failure.RESET, "the call was given up")
        self._forget(stream, _CODES.CANCEL)

    def take(self, stream: Stream) -> bytes:
        """Body bytes received since the last call, which lets the server send as many more."""
        chunks = stream.chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._give_back(stream, len(data))
        return data

    def outgoing(self) -> bytes:
        """What must be written to the server."""
        return self._connection.data_to_send()

    def goodbye(self) -> None:
        """The connection will be closed politely: tell the server."""
        self.going_away = True
        if self.broken is None:
            self.broken = StreamFailure(Failure.RESET, "the connection was closed")
            self._connection.close_connection()
            self._fail_all(self.broken)

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone: closed by the server (None) or broken."""
        if self.broken is not None:
            return
        detail = "the server closed the connection" if error is None else f"the connection broke: {error}"
        self.broken = StreamFailure(Failure.RESET, detail, error=error)
        for stream in list(self.streams.values()):
            if stream.head_done:
                text = "the server closed the connection in the middle of the answer"
                what = StreamFailure(Failure.RESET, text if error is None else f"{text}: {error}", error=error)
            else:
                text = "the server closed the connection without an answer" if error is None else detail
                what = StreamFailure(Failure.RESET, text, stream.reused and not stream.begun, error)
            self._fail(stream, what)

    def give_up(self, what: StreamFailure) -> None:
        """This side wants no more of the connection."""
        if self.broken is None:
            self.broken = what
            self._fail_all(what)

    # -- what the server sends --------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the server. Raises nothing: a violation ends the connection (``broken``) and every stream on it."""
        while self.receive_some(data, now):
            data = b""

    def receive_some(self, data: bytes, now: float) -> bool:
        """As ``receive``, but no more than some milliseconds of work; True when there is more of it, for the next call."""
        if self.broken is not None:
            return False
        changed: dict[Stream, None] = {}
        try:
            for run in self._gate.feed(data, now):
                if isinstance(run, GoAway):
                    self._goaway(run)
                    continue
                for event in self._connection.receive_data(run):
                    stream = self._handle(event)
                    if stream is not None:
                        changed[stream] = None
        except Violation as error:
            with contextlib.suppress(h2.exceptions.H2Error):  # it may have said goodbye already
                self._connection.close_connection(error.code)
            self._violated(str(error))
        except h2.exceptions.ProtocolError as error:
            self._violated(_words(error))
        except Exception as error:  # noqa: BLE001 (a hostile server must not find the one frame that h2 stumbles over)
            self._violated(f"{type(error).__name__}: {error}")
        for stream in changed:
            stream.wake()
        return self._gate.behind and self.broken is None

    def _handle(self, event: h2.events.Event) -> Stream | None:
        """The stream that has something new."""
        kind = type(event)
        if kind is h2.events.DataReceived:
            return self._data(event)  # type: ignore[arg-type]
        if kind is h2.events.ResponseReceived:
            return self._head(event)  # type: ignore[arg-type]
        if kind is h2.events.StreamEnded:
            return self._end(event.stream_id)  # type: ignore[attr-defined]
        if kind is h2.events.WindowUpdated:
            if not event.stream_id:  # type: ignore[attr-defined]
                self._wake_blocked()
                return None
            return self.streams.get(event.stream_id)  # type: ignore[attr-defined]
        if kind is h2.events.StreamReset:
            return self._reset(event)  # type: ignore[arg-type]
        if kind is h2.events.TrailersReceived:
            return self._trailers(event)  # type: ignore[arg-type]
        if kind is h2.events.InformationalResponseReceived:
            return self._interim(event)  # type: ignore[arg-type]
        if kind is h2.events.RemoteSettingsChanged:
            self.ready = True
            self._wake_blocked()
        elif kind is h2.events.RequestReceived or kind is h2.events.PushedStreamReceived:
            raise Violation("the server opened a stream, which was not allowed to it")
        return None

    def _head(self, event: h2.events.ResponseReceived) -> Stream | None:
        self.answered += 1
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return None
        stream.begun = True
        headers: RawHeaders = []
        size = 0
        for name, value in event.headers or ():
            name, value = bytes(name), bytes(value)
            if name == b":status":
                if len(value) != 3 or not value.isdigit() or value < b"100":
                    return self._bad(stream, f"the status of the answer is {value[:20]!r}")
                stream.status = int(value)
                continue
            if _UNSAFE.search(value):
                return self._bad(stream, f"the value of the answer's header {name[:50]!r} holds a line break")
            size += len(name) + len(value) + 4
            headers.append((name, value))
            if name == b"content-length":
                if not value.isdigit() or len(value) > 18 or stream.length not in (None, int(value)):
                    return self._bad(stream, f"the answer's content-length is {value[:20]!r}")
                stream.length = int(value)
        if size > MAX_HEAD_BYTES:
            return self._bad(stream, f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes")
        if len(headers) > MAX_HEADERS:
            return self._bad(stream, f"the answer has more than {MAX_HEADERS} headers")
        if stream.head_request or stream.status in (204, 304):
            stream.length = None  # it may tell of a body that does not come
        stream.headers = headers
        stream.head_done = True
        return stream

    def _interim(self, event: h2.events.InformationalResponseReceived) -> Stream | None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return None
        stream.begun = True
        status = dict(event.headers or ()).get(b":status")
        if status == b"101":
            return self._bad(stream, "the server switched protocols (101), which HTTP/2 does not know")
        if status == b"100":
            stream.continue_seen = True
        return stream

    def _data(self, event: h2.events.DataReceived) -> Stream | None:
        size = event.flow_controlled_length or 0
        data = event.data or b""
        self._credit += size
        if self._credit >= self._window // 4:
            self._connection.increment_flow_control_window(self._credit)
            self._credit = 0
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return None
        if size > len(data):
            self._give_back(stream, size - len(data))  # padding
        if not data:
            return None
        stream.received += len(data)
        if stream.length is not None and stream.received > stream.length:
            return self._bad(stream, f"the answer's body is longer than its content-length of {stream.length}")
        if stream.head_request:
            return self._bad(stream, "the server sent a body in answer to HEAD")
        stream.chunks.append(bytes(data))
        return stream

    def _trailers(self, event: h2.events.TrailersReceived) -> Stream | None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return None
        trailers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
        together = [*stream.headers, *trailers]
        if len(together) > MAX_HEADERS:
            return self._bad(stream, f"the answer has more than {MAX_HEADERS} headers and trailers")
        if sum(len(name) + len(value) + 4 for name, value in together) > MAX_HEAD_BYTES:
            return self._bad(
                stream, f"the trailers of the answer are, with its head, larger than {MAX_HEAD_BYTES} bytes"
            )
        if any(_UNSAFE.search(value) for _, value in trailers):
            return self._bad(stream, "a trailer of the answer holds a line break")
        stream.trailers.extend(trailers)
        return stream

    def _end(self, number: int) -> Stream | None:
        stream = self.streams.get(number)
        if stream is None:
            return None
        if stream.length is not None and stream.received != stream.length:
            return self._bad(stream, f"the answer's body ended after {stream.received} of {stream.length} bytes")
        stream.complete = True
        # an answer before the request was over: the server does not want the rest
        self._forget(stream, _CODES.NO_ERROR if stream.sent else _CODES.CANCEL)
        return stream

    def _reset(self, event: h2.events.StreamReset) -> Stream | None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return None
        code = event.error_code
        name = code.name if isinstance(code, _CODES) else f"code {code}"
        if not event.remote_reset:
            what = StreamFailure(Failure.PROTOCOL_ERROR, f"the server broke the flow control of the stream ({name})")
        elif code == _CODES.REFUSED_STREAM and not stream.begun:
            what = StreamFailure(Failure.REFUSED, "the server refused the stream before working on it (REFUSED_STREAM)")
        else:
            where = " in the middle of the answer" if stream.head_done else ""
            what = StreamFailure(Failure.RESET, f"the server reset the stream{where} ({name})")
        self._drop(stream)
        stream.failed = what
        return stream

    def _goaway(self, goaway: GoAway) -> None:
        self.going_away = True
        for stream in [stream for number, stream in self.streams.items() if number > goaway.last]:
            text = "the server is closing the connection and did not work on this request (GOAWAY)"
            self._fail(stream, StreamFailure(Failure.REFUSED, text, stale=True))

    # -- ends -------------------------------------------------------------------------------------------------------

    def _request_over(self, stream: Stream) -> None:
        stream.sent = True
        self._blocked.discard(stream)

    def _give_back(self, stream: Stream, size: int) -> None:
        if stream.complete or stream.id not in self.streams:
            return
        stream.credit += size
        if stream.credit >= self._stream_window // 2:
            self._connection.increment_flow_control_window(stream.credit, stream.id)
            stream.credit = 0

    def _bad(self, stream: Stream, detail: str) -> Stream:
        """The answer on this stream is not proper HTTP; the others are not touched."""
        stream.failed = StreamFailure(Failure.PROTOCOL_ERROR, detail)
        stream.chunks.clear()
        self._forget(stream, _CODES.PROTOCOL_ERROR)
        return stream

    def _forget(self, stream: Stream, code: int) -> None:
        """The stream is over for us; for the server too, after RST_STREAM unless both sides have ended it."""
        if not self._drop(stream) or self.broken is not None:
            return
        if stream.complete and stream.sent:
            return
        with contextlib.suppress(h2.exceptions.H2Error):
            # h2 may have seen its end already, in the bytes that are being handled now
            self._connection.reset_stream(stream.id, code)

    def _drop(self, stream: Stream) -> bool:
        self._blocked.discard(stream)
        return self.streams.pop(stream.id, None) is not None

    def _fail(self, stream: Stream, what: StreamFailure) -> None:
        if not stream.settled:
            stream.failed = what
        self._forget(stream, _CODES.CANCEL)
        stream.wake()

    def _fail_all(self, what: StreamFailure) -> None:
        for stream in list(self.streams.values()):
            self._fail(stream, what)

    def _violated(self, detail: str) -> None:
        self.broken = StreamFailure(Failure.PROTOCOL_ERROR, f"the server broke HTTP/2: {detail}")
        self._fail_all(self.broken)

    def _wake_blocked(self) -> None:
        for stream in list(self._blocked):
            stream.wake()


def _words(error: h2.exceptions.ProtocolError) -> str:
    return str(error) or type(error).__name__
