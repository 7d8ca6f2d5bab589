"""HTTP/2 as bytes in, events out: no socket, no clock and no waiting here. Shared by threads and asyncio.

``Http2Session`` is one connection with many streams, ``Stream`` (``http2_stream.py``) one request and its response. The
protocol itself is a library's (``http2_codec.py``); this file adds what a client that shares a connection between strangers
needs: nothing that a server sends raises, grows without bound, or lets one stream hold up another.

Flow control: what is received is given back to its stream's window as the reader takes it, and never keeps other streams
waiting. So a reader that is behind stops its own stream only, and holds at most ``STREAM_WINDOW`` bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshlib.engine.outcome import Failure
from meshlib.problems import said
from meshlib.transport.protocol.http2_choice import preferred
from meshlib.transport.protocol.http2_codec import Code, Factory, Head, Violation, Whole, name_of
from meshlib.transport.protocol.http2_stream import Received, Stream, StreamFailure, known_head, known_trailers
from meshlib.transport.protocol.shortcuts import PLAIN

STREAM_WINDOW = 1024 * 1024  # bytes of a response that may wait for its reader
CONNECTION_WINDOW = 16 * 1024 * 1024  # bytes on their way to us over all streams
NO_LIMIT = 2**31 - 1
_new = object.__new__
_init = Stream.__init__


class Http2Session:
    """One client connection. Not thread-safe. After every call, what ``outgoing`` returns must be written.

    ``broken`` says that and why the connection is over; ``going_away`` that it takes no new streams.
    """

    __slots__ = (
        "_blocked",
        "_codec",
        "_limit",
        "_most",
        "_stream_window",
        "broken",
        "changed",
        "going_away",
        "outgoing",
        "ready",
        "responded",
        "streams",
        "writable",
    )

    def __init__(
        self,
        now: float,
        limit: int = NO_LIMIT,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        codec: Factory | None = None,
    ) -> None:
        """``limit``: streams open at a time, whatever more the server would allow. Windows in bytes, 65535 at least for
        the connection. ``codec``: the library, ``preferred()`` without one."""
        self._codec = made = (codec or preferred())(now, stream_window, connection_window)
        self.outgoing = made.outgoing
        """What must be written to the server."""
        self._limit = limit
        self._most = 0  # streams open at a time, for now; 0: the server takes none yet, or no more
        self._stream_window = stream_window
        self._blocked: set[Stream] = set()
        self.changed: dict[Stream, None] = {}  # by what is being received, or was last
        self.streams: dict[int, Stream] = {}
        self.responded = False  # the server has, to a request
        self.ready = False  # the server's SETTINGS have come
        self.going_away = False
        self.broken: StreamFailure | None = None
        self.writable = True

    # -- requests ---------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more streams may be opened now."""
        return max(0, self._most - len(self.streams))

    def open(
        self, headers: Head, end: bool, head_request: bool, wake: Callable[[], None], body: bytes | None = None
    ) -> Stream | None:
        """Begin a request; ``end``: it has no body. None when there is no room for another stream. ``body`` goes with its head
        where all of it can, and ``sent`` of the stream tells; else nothing of it does, and it is to be sent."""
        streams, codec = self.streams, self._codec
        if len(streams) >= self._most:
            return None
        whole = codec.open_whole(headers, body) if body and self.writable and not PLAIN else 0
        number = whole or codec.open(headers, end)
        if number is None:
            self._most = 0
            self.going_away = True  # numbers are never used again: time for a new connection
            return None
        stream = _new(Stream)  # as Stream(...), which is as much again
        _init(stream, number, head_request, self.responded, wake)
        streams[number] = stream
        if whole or end:
            stream.sent = True
        return stream

    def send(self, stream: Stream, data: memoryview, end: bool) -> int:
        """As much of ``data`` as the windows and the socket take now, with the end of the request when it is all and
        ``end``. Returns the number of bytes; when it is not all, ``wake`` comes when there may be more room."""
        if stream.id not in self.streams or stream.sent:
            return 0
        taken, size = 0, len(data)
        if self.writable:
            taken = self._codec.send(stream.id, data, end)
        if taken < size:
            self._blocked.add(stream)
        else:
            self._blocked.discard(stream)
            if end and taken:
                self._request_over(stream)
        return taken

    def end(self, stream: Stream, trailers: Head = ()) -> None:
        """The request's body is over, with these trailers."""
        if stream.id in self.streams and not stream.sent:
            self._codec.end(stream.id, trailers)
            self._request_over(stream)

    def set_writable(self, writable: bool) -> None:
        """Whether the socket takes more than it has; while not, no bodies are sent."""
        if writable and not self.writable:
            self.writable = True
            self._wake_blocked()
        self.writable = writable

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the (rest of the) response: tell the server, unless it is over."""
        stream.chunks.clear()
        if stream.failed is None and not stream.complete:
            stream.failed = StreamFailure(Failure.RESET, "the call was given up")
        self._forget(stream, Code.CANCEL)

    def take(self, stream: Stream) -> bytes:
        """Body bytes received since the last call, which lets the server send as many more."""
        chunks = stream.chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        stream.unread -= len(data)
        if not stream.complete:
            self._give_back(stream, len(data))
        return data

    def goodbye(self) -> None:
        """The connection will be closed politely: tell the server."""
        self._most = 0
        self.going_away = True
        if self.broken is None:
            self.broken = StreamFailure(Failure.RESET, "the connection was closed")
            self._codec.close(Code.NO_ERROR)
            self._fail_all(self.broken)

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone: closed by the server (None) or broken."""
        if self.broken is not None:
            return
        detail = "the server closed the connection" if error is None else f"the connection broke: {said(error)}"
        self._most = 0
        self.broken = StreamFailure(Failure.RESET, detail, error=error)
        for stream in list(self.streams.values()):
            if stream.head_done:
                text = "the server closed the connection in the middle of the response"
                what = StreamFailure(Failure.RESET, text if error is None else f"{text}: {said(error)}", error=error)
            else:
                text = "the server closed the connection without a response" if error is None else detail
                what = StreamFailure(Failure.RESET, text, stream.reused and not stream.begun, error)
            self._fail(stream, what)

    def give_up(self, what: StreamFailure) -> None:
        """This side wants no more of the connection."""
        if self.broken is None:
            self._most = 0
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
        changed = self.changed = {}
        behind = False
        try:
            behind = self._codec.receive(data, now, self)
        except Violation as error:
            if error.code is not None:
                self._codec.close(error.code)
            self._violated(said(error))
        except Exception as error:  # noqa: BLE001 (a hostile server must not find the one frame that a library stumbles over)
            self._violated(f"{type(error).__name__}: {error}")
        for stream in changed:
            wake = stream.wake  # as an attribute: CPython 3.11 looks long for it as a method
            wake()
        return behind and self.broken is None

    # -- Sink -------------------------------------------------------------------------------------------------------

    def on_settings(self) -> None:
        self.ready = True
        if not self.going_away and self.broken is None:
            self._most = min(self._limit, self._codec.max_streams)
        self._wake_blocked()

    def on_window(self, number: int) -> None:
        if not number:
            self._wake_blocked()
        else:
            stream = self.streams.get(number)
            if stream is not None:
                self.changed[stream] = None

    def on_head(self, number: int, headers: Received) -> None:
        self.responded = True
        stream = self.streams.get(number)
        if stream is not None:
            self.changed[stream] = None
            problem = stream.take_head(headers)
            if problem is not None:
                self._bad(stream, problem)

    def on_interim(self, number: int, headers: Received) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self.changed[stream] = None
            problem = stream.take_interim(headers)
            if problem is not None:
                self._bad(stream, problem)

    def on_data(self, number: int, data: bytes, size: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._codec.ignored(number, size)
            return
        if size > len(data):
            self._give_back(stream, size - len(data))  # padding
        if data:
            self.changed[stream] = None
            problem = stream.take_data(data)
            if problem is not None:
                self._bad(stream, problem)

    def on_last(self, number: int, data: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None or not stream.sent or PLAIN or not stream.take_last(data):
            self.on_data(number, data, len(data))
            self.on_end(number)
            return
        # what the two come to for the response to a request that was over, its body as long as its head says
        self.changed[stream] = None
        del self.streams[number]
        left = stream.credit + stream.unread  # nothing more will come of this stream, but others share the connection
        stream.credit = 0
        self._codec.ignored(number, left)

    def on_wholes(
        self, numbers: Iterable[int], heads: Iterable[Whole], bodies: Iterable[bytes], trailers: Iterable[Whole | None]
    ) -> list[int]:
        streams, changed, weights = self.streams, self.changed, []
        head: Whole = ()
        last: Whole | None = None
        known, few, weight = None, None, 0
        for number, headers, data, ends in zip(numbers, heads, bodies, trailers):  # noqa: B905 (trailers may be endless)
            # nearly all are like the one before: to compare them takes less than to look them up
            if headers != head or ends != last:
                head, last = headers, ends
                known, few = known_head(headers), None if ends is None else known_trailers(ends)
                weight = known.with_body(few) if known is not None and (few is not None or ends is None) else 0
                if not weight:
                    known = None
            stream = streams.get(number)
            if known is not None and stream is not None and stream.sent and stream.take_whole(known, data, few):
                self.responded = True
                changed[stream] = None
                del streams[number]
                weights.append(weight)
            else:
                weights.append(0)
        return weights

    def on_trailers(self, number: int, headers: Received) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self.changed[stream] = None
            problem = stream.take_trailers(headers)
            if problem is not None:
                self._bad(stream, problem)

    def on_last_trailers(self, number: int, headers: Received) -> None:
        stream = self.streams.get(number)
        if stream is None or not stream.sent or PLAIN or not stream.take_last_trailers(headers):
            self.on_trailers(number, headers)
            self.on_end(number)
            return
        self.changed[stream] = None  # as in ``on_last``
        del self.streams[number]
        left = stream.credit + stream.unread
        if left:
            stream.credit = 0
            self._codec.ignored(number, left)

    def on_end(self, number: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            return
        self.changed[stream] = None
        problem = stream.take_end()
        if problem is not None:
            self._bad(stream, problem)
        elif stream.sent:
            self._drop(stream)
        else:
            self._forget(
                stream, Code.CANCEL
            )  # a response before the request was over: the server does not want the rest

    def on_reset(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            return
        name = name_of(code)
        if code == Code.REFUSED_STREAM and not stream.begun:
            what = StreamFailure(Failure.REFUSED, "the server refused the stream before working on it (REFUSED_STREAM)")
        else:
            where = " in the middle of the response" if stream.head_done else ""
            what = StreamFailure(Failure.RESET, f"the server reset the stream{where} ({name})")
        self._over(stream, what)

    def on_broken(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            flow = code == Code.FLOW_CONTROL_ERROR
            what = "the flow control of the stream" if flow else "HTTP/2 on this stream"
            self._over(stream, StreamFailure(Failure.PROTOCOL_ERROR, f"the server broke {what} ({name_of(code)})"))

    def on_goaway(self, last: int) -> None:
        self._most = 0
        self.going_away = True
        for stream in [stream for number, stream in self.streams.items() if number > last]:
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
            self._codec.consumed(stream.id, stream.credit)
            stream.credit = 0

    def _over(self, stream: Stream, what: StreamFailure) -> None:
        """The stream is over for the server."""
        self.changed[stream] = None
        self._drop(stream)
        stream.failed = what

    def _bad(self, stream: Stream, detail: str) -> None:
        """The response on this stream is not proper HTTP; the others are not touched."""
        stream.failed = StreamFailure(Failure.PROTOCOL_ERROR, detail)
        stream.chunks.clear()
        self._forget(stream, Code.PROTOCOL_ERROR)

    def _forget(self, stream: Stream, code: int) -> None:
        """The stream is over for us; for the server too, after RST_STREAM unless both sides have ended it."""
        if not self._drop(stream) or self.broken is not None:
            return
        if stream.complete and stream.sent:
            return
        self._codec.reset(stream.id, code)

    def _drop(self, stream: Stream) -> bool:
        if self._blocked:
            self._blocked.discard(stream)
        if self.streams.pop(stream.id, None) is None:
            return False
        left = stream.credit + stream.unread  # of this stream nothing more will come, but others share the connection
        if left:
            stream.credit = 0
            if self.broken is None:
                self._codec.ignored(stream.id, left)
        return True

    def _fail(self, stream: Stream, what: StreamFailure) -> None:
        if not stream.settled:
            stream.failed = what
        self._forget(stream, Code.CANCEL)
        stream.wake()

    def _fail_all(self, what: StreamFailure) -> None:
        for stream in list(self.streams.values()):
            self._fail(stream, what)

    def _violated(self, detail: str) -> None:
        self._most = 0
        self.broken = StreamFailure(Failure.PROTOCOL_ERROR, f"the server broke HTTP/2: {detail}")
        self._fail_all(self.broken)

    def _wake_blocked(self) -> None:
        for stream in list(self._blocked):
            stream.wake()
