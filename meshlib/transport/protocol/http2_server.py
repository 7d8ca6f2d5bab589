"""The server's side of HTTP/2 as bytes in, events out: no socket, no clock and no waiting here. On nghttp2 (package ngh2).

``ServerSession`` is one connection of a client with many streams, ``ServerStream`` one request and its response. nghttp2 reads
frames, decompresses heads, holds what RFC 9113 asks of each and ends the stream or the connection where it asks for that; this
file adds what a server of strangers needs: nothing that a client sends raises, grows without bound, or lets one stream hold up
another, and floods of what is legal by itself end the connection (Envoy's limits, or stricter).

Flow control: what is received is given back to the client's windows as its consumer says (``consumed``), so that a consumer
that is behind stops its own stream, and holds at most ``STREAM_WINDOW`` bytes of it and ``CONNECTION_WINDOW`` of all. A request
that has come whole is given back at once: one frame of each stream at most, beside these.
"""

from __future__ import annotations

import contextlib
from itertools import chain
from operator import attrgetter

import ngh2
from ngh2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
)

from meshlib.problems import said
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, MAX_HEADERS
from meshlib.transport.protocol.http2_client_frames import ClientFrames
from meshlib.transport.protocol.http2_codec import HEADER_TABLE, MAX_FRAME, SEND_AT_ONCE, Code, Head, Violation, name_of
from meshlib.transport.protocol.http2_frames import BUDGET_A_FRAME, EACH_AT_ONCE, FRAMES_AT_ONCE, TINY
from meshlib.transport.protocol.http2_request import read_head
from meshlib.transport.protocol.http2_server_connection import ServerConnection
from meshlib.transport.protocol.http2_server_limits import (
    AT_ONCE,
    CONFIGURATION,
    CONNECTION_WINDOW,
    FIRST_WINDOW,
    LARGEST_WINDOW,
    MAX_STREAMS,
    RESETS_JUDGED,
    STREAM_WINDOW,
    UNWRITTEN,
)
from meshlib.transport.protocol.http2_server_stream import ServerStream, Sink
from meshlib.transport.protocol.shortcuts import PLAIN

_SERVER = ngh2.Role.SERVER
_CLOSED = frozenset((StreamClosed,))
_error_code = attrgetter("error_code")
_stream_id = attrgetter("stream_id")
_headers = attrgetter("headers")
_data = attrgetter("data")
_end_stream = attrgetter("end_stream")
_HEAD = [RequestReceived]
_BODY = [DataReceived]
"""What is told of a request that is over."""
_A_RESPONSE = 2 * BUDGET_A_FRAME
_flat = chain.from_iterable
_new = object.__new__


class ServerSession(ServerConnection):
    """One connection. Not thread-safe. After every call, or after a few of them, what ``outgoing`` returns must be written; and
    when ``over``, the connection be closed.

    ``broken``: why the connection is over early; ``bug``: by our fault; ``flood``: it floods. ``draining``: no new streams.
    """

    __slots__ = (
        *("_budget", "_closed", "_init", "_made", "_now", "_overflowed", "_premature"),
        *("_resets", "_tunnels", "_unwritten", "_wholes", "bug", "flood"),
    )

    def __init__(
        self,
        sink: Sink,
        now: float,
        max_streams: int = MAX_STREAMS,
        tunnels: bool = False,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        streams: type[ServerStream] = ServerStream,
    ) -> None:
        """``tunnels``: CONNECT, RFC 8441's too, is taken. Windows in bytes, 65535 at least for the connection. ``streams``:
        what is made of each."""
        connection = ngh2.Connection(_SERVER, CONFIGURATION)
        super().__init__(connection, sink, ClientFrames(now, self._overflows))
        settings = {
            ngh2.Setting.HEADER_TABLE_SIZE: HEADER_TABLE,
            ngh2.Setting.MAX_CONCURRENT_STREAMS: max_streams,
            ngh2.Setting.INITIAL_WINDOW_SIZE: stream_window,
            ngh2.Setting.MAX_FRAME_SIZE: MAX_FRAME,
            ngh2.Setting.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
        }
        if tunnels:
            settings[ngh2.Setting.ENABLE_CONNECT_PROTOCOL] = 1
        connection.initiate_connection(settings)
        if connection_window > 65535:
            connection.set_local_window_size(connection_window)
        self._tunnels = tunnels
        self._overflowed: list[int] = []  # streams
        self._budget = self._frames.budget
        self._unwritten = 0  # bytes of bodies since ``outgoing``
        self._resets: set[int] = set()  # streams that were reset, and nghttp2 has not told that they are closed
        self._closed = self._premature = 0  # streams that ended, and those given up at once
        self._wholes = 0  # that ended with a whole response, of which neither the budget nor ``_closed`` was told
        self.bug = self.flood = False
        self._now = now
        self._made, self._init = streams, streams.__init__

    # -- commands -----------------------------------------------------------------------------------------------------

    def interim(self, stream: ServerStream, head: Head) -> None:
        """A head of status 1xx (``http2_response.response_head``)."""
        if stream.id in self.streams and not stream.response_begun:
            with contextlib.suppress(ngh2.NGH2Error):  # the stream is over, which its owner hears next
                self._connection.send_informational_response(stream.id, head)

    def respond(self, stream: ServerStream, head: Head, end: bool) -> None:
        """The head of the response; ``end``: there is no body and there are no trailers."""
        if stream.id not in self.streams or stream.response_begun:
            return
        stream.response_begun = True
        try:  # noqa: SIM105 (suppress is three calls, and this is for every response)
            self._connection.send_response(stream.id, head, end_stream=end)
        except ngh2.NGH2Error:
            pass
        if end:
            self._response_over(stream)

    def send(self, stream: ServerStream, data: bytes, end: bool) -> int:
        """As much of ``data``, which is not empty, as windows, socket and ``UNWRITTEN`` take now, and the end of the response
        when it is all and ``end``. Returns the number of bytes: call again with the rest until it is 0, then wait for
        ``on_room``."""
        if stream.id not in self.streams or stream.response_over:
            return 0
        connection, size = self._connection, len(data)
        taken = 0
        if self.writable:
            try:
                room = self._room(stream)
                if room < size and self._promised:
                    self._flush()
                    room = self._room(stream)
                taken = max(0, min(size, SEND_AT_ONCE, room, UNWRITTEN - self._unwritten))
                if taken:
                    last = end and taken == size
                    connection.send_data(stream.id, data if taken == size else data[:taken], end_stream=last)
                    self._promised += taken
                    self._unwritten += taken
                    self._budget.earned += BUDGET_A_FRAME
            except ngh2.NGH2Error:
                return 0  # as above
        if taken == size:
            if end:
                self._response_over(stream)
        elif not taken:
            self._blocked[stream] = None
        return taken

    def respond_whole(self, stream: ServerStream, head: Head, whole: bytes, trailers: Head) -> bool:
        """What ``respond``, ``send`` and ``trailers`` come to for a response with a body that is all here and fits into what
        they take at once: nearly all. False: go on with these."""
        number, connection, size = stream.id, self._connection, len(whole)
        if number not in self.streams or stream.response_begun or not self.writable or PLAIN:
            return False
        unwritten, promised = self._unwritten + size, self._promised + size
        try:
            if (
                size > SEND_AT_ONCE
                or unwritten > UNWRITTEN
                or (promised > self._least and not self._fits(promised))
                # to ask for a window takes longer; what waits to be told may have made it smaller
                or (
                    (size > self._first_window or self._events)
                    and promised > connection.stream_remote_window_size(number)
                )
            ):
                return False
            connection.send_response(number, head)
            stream.response_begun = True  # not before: what goes on where this fails is ``respond``
            if trailers:  # no name of an argument where it need not be: ngh2 takes long to find it
                connection.send_data(number, whole)
            else:
                connection.send_data(number, whole, end_stream=True)
        except ngh2.NGH2Error:
            return False  # the stream is over, which its owner hears next
        self._unwritten, self._promised = unwritten, promised
        if trailers:
            try:  # noqa: SIM105 (as in ``respond``)
                connection.send_trailers(number, trailers)
            except ngh2.NGH2Error:
                pass
        if not stream.request_over or stream.unread or self._blocked:
            self._budget.earned += BUDGET_A_FRAME
            self._response_over(stream)
            return True
        stream.response_over = True  # as there
        self._wholes += 1
        del self.streams[number]
        return True

    def _room(self, stream: ServerStream) -> int:
        """Bytes that the windows have, less those promised to any stream: a little less than there may be."""
        connection = self._connection
        return min(connection.remote_window_size, connection.stream_remote_window_size(stream.id)) - self._promised

    def end(self, stream: ServerStream) -> None:
        """The response is over."""
        if stream.id in self.streams and not stream.response_over:
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.end_stream(stream.id)
            self._response_over(stream)

    def trailers(self, stream: ServerStream, trailers: Head) -> None:
        """The response is over with these."""
        if not trailers:
            self.end(stream)
        elif stream.id in self.streams and not stream.response_over:
            try:  # noqa: SIM105 (as above)
                self._connection.send_trailers(stream.id, trailers)
            except ngh2.NGH2Error:
                pass
            self._response_over(stream)

    def reset(self, stream: ServerStream, code: int = Code.INTERNAL_ERROR) -> None:
        """Give the stream up. The sink hears nothing more of it."""
        if stream.id in self.streams:
            self._give_up(stream, code)

    def consumed(self, stream: ServerStream, size: int) -> None:
        """So many bytes of its body have gone where they belong: the client may send as many more."""
        if stream.id in self.streams:
            stream.unread -= size
            try:
                self._connection.acknowledge_received_data(size, stream.id)
            except ngh2.NGH2Error:
                return  # of a connection that is over nobody sends more

    @property
    def holds_back(self) -> bool:
        """Whether bodies wait until ``outgoing`` has been written: call ``go_on`` then."""
        return self._unwritten >= UNWRITTEN

    def outgoing(self) -> bytes:
        """What must be written to the client."""
        out = self._said()
        self._unwritten = 0
        told = self._events
        if told and _CLOSED.issuperset(map(type, told)) and not any(map(_error_code, told)):
            # streams that have ended as they should: of nobody's concern
            if self._resets:
                self._resets.difference_update(map(_stream_id, told))
            told.clear()
        return out

    @property
    def begun(self) -> int | None:
        """``ClientFrames.begun``."""
        return self._frames.begun

    # -- what the client sends ----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> bool:
        """Bytes from the client, ``now`` in seconds. True when there is more work in them than was done now: call again with
        nothing. Raises nothing: what breaks the connection is ``broken``."""
        if self.broken is not None:
            return False
        self._now = now
        try:
            return self._receive(data, now)
        except Violation as error:
            self.flood = error.code == Code.ENHANCE_YOUR_CALM
            if error.code is not None:
                self._closing = True
                self._say_goodbye(error.code, self._last)
            self._break(f"the client broke HTTP/2: {said(error)}")
        except Exception as error:  # noqa: BLE001 (a hostile client must not find the one frame that a library stumbles over)
            self.bug = True
            self._closing = True
            self._say_goodbye(Code.INTERNAL_ERROR, self._last)
            self._break(f"{type(error).__name__}: {error}")
        return False

    def _receive(self, data: bytes, now: float) -> bool:
        streams, tunnels, made, sink = self.streams, self._tunnels, self._made, self._sink
        if self._wholes:
            self._budget.earned += self._wholes * _A_RESPONSE
            self._closed += self._wholes
            self._wholes = 0
        self._budget.refill(now)
        violation = self._feed(data, sink) if data else None
        waiting = self._events
        take, acknowledge = waiting.popleft, self._connection.acknowledge_received_data
        flushed = False
        for _ in EACH_AT_ONCE:
            if not waiting:
                if flushed:
                    break
                flushed = True
                self._flush()  # which tells of what nghttp2 ends by itself
                if not waiting:
                    break
            event = take()
            # what nearly all frames are, here, and the rest in a function
            if type(event) is RequestReceived:
                self._last = number = event.stream_id
                head = read_head(event.headers, tunnels)
                if (
                    waiting
                    and type(piece := waiting[0]) is DataReceived
                    and piece.end_stream
                    and piece.stream_id == number
                    and not PLAIN
                    and (data := piece.data)
                ):
                    take()
                    # a request that has come with its end: nearly all calls of gRPC. It is one frame at most, which
                    # whoever is told takes at once: it waits in no window. What it would earn, its response does
                    stream = streams[number] = made(number, head, True, now)
                    try:  # noqa: SIM105 (as in ``respond``)
                        acknowledge(len(data), number)
                    except ngh2.NGH2Error:
                        pass
                    sink.on_whole(stream, data)
                else:
                    stream = streams[number] = made(number, head, event.end_stream, now)
                    sink.on_request(stream)
            elif type(event) is DataReceived:
                self._data(event)
            elif type(event) is StreamClosed:
                if event.error_code:
                    self._ended(event.stream_id, event.error_code)
                elif self._resets:
                    self._resets.discard(event.stream_id)
            elif type(event) is TrailersReceived:
                self._trailers(event)
            elif type(event) is StreamReset:
                self._resets.add(event.stream_id)
                given_up = streams.get(event.stream_id)
                if given_up is not None:
                    self._given_up(given_up, f"the client reset the stream ({name_of(event.error_code)})")
            else:
                self._control(event)
        if violation is not None:
            raise violation
        if waiting:
            return True
        if self._overflowed:
            self._end_overflowed()
        return False

    def _rows(self, told: list[Event], sink: Sink) -> list[Event]:
        """As ``_receive`` has it for each, all requests that have come, if each has with its end, and all with a body or all
        without, as those of a client of many calls do: with hardly a step of bytecode an event. All else is left."""
        count = len(told)
        if count > FRAMES_AT_ONCE or type(told[0]) is not RequestReceived:
            return told
        streams, made, init, tunnels, now = self.streams, self._made, self._init, self._tunnels, self._now
        kinds = list(map(type, told))
        if kinds == _HEAD * count:
            if not all(map(_end_stream, told)):
                return told
            numbers = list(map(_stream_id, told))
            self._last = numbers[-1]
            begin = sink.on_request
            for number, headers in zip(numbers, map(_headers, told), strict=True):
                stream = _new(made)
                init(stream, number, read_head(headers, tunnels), True, now)
                streams[number] = stream
                begin(stream)
            return []
        half = count >> 1
        # nghttp2 writes all heads first: to sort them would take a third of all this
        if kinds == _HEAD * half + _BODY * half:
            heads, pieces = told[:half], told[half:]
        elif kinds == (_HEAD + _BODY) * half:
            heads, pieces = told[::2], told[1::2]
        else:
            return told
        of, bodies = list(map(_stream_id, heads)), list(map(_data, pieces))
        if list(map(_stream_id, pieces)) != of or not all(map(_end_stream, pieces)) or not all(bodies):
            return told
        self._last = of[-1]
        self._gave_back(map(len, bodies), of)
        take = sink.on_whole
        for number, headers, body in zip(of, map(_headers, heads), bodies, strict=True):
            stream = _new(made)  # as in ``Http2Session.open``
            init(stream, number, read_head(headers, tunnels), True, now)
            streams[number] = stream
            take(stream, body)
        return []

    def _feed(self, data: bytes, sink: Sink) -> Violation | None:
        try:
            data = self._frames.look(data)
        except Violation as error:
            self._events.extend(self._connection.events())
            return error
        return self._read(data, sink)

    def _overflows(self, number: int, increment: int) -> bool:
        if not number:
            return False  # the connection's
        window = FIRST_WINDOW  # of a stream that is opened by the same bytes
        if number <= self._last:
            try:
                window = self._connection.stream_remote_window_size(number)
            except ngh2.NGH2Error:
                return False  # it is over
        if window + increment <= LARGEST_WINDOW:
            return False
        self._overflowed.append(number)
        return True

    def _end_overflowed(self) -> None:
        numbers, self._overflowed = self._overflowed, []
        for number in numbers:
            stream = self.streams.get(number)
            if stream is not None:
                self._give_up(stream, Code.FLOW_CONTROL_ERROR)
                self._sink.on_reset(stream, "the client made the stream's window larger than it may be")
            elif number > self._last:
                raise Violation("WINDOW_UPDATE on an idle stream")

    def _data(self, event: DataReceived) -> None:
        data, number = event.data, event.stream_id
        size = len(data)
        if size >= TINY:
            self._budget.earned += 1.0
        stream = self.streams.get(number)
        if stream is None:
            self._connection.acknowledge_received_data(size, number)
            return
        if size:
            stream.unread += size
            self._sink.on_body(stream, data)
        if event.end_stream:  # as ``_request_over``
            stream.request_over = True
            if number in self.streams:
                self._sink.on_end(stream)

    def _trailers(self, event: TrailersReceived) -> None:
        trailers = event.headers
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        if len(trailers) > MAX_HEADERS or len(b"".join(_flat(trailers))) + 4 * len(trailers) > MAX_HEAD_BYTES:
            self._give_up(stream, Code.ENHANCE_YOUR_CALM)
            self._sink.on_reset(stream, f"the request's trailers are larger than {MAX_HEAD_BYTES} bytes, or too many")
            return
        self._sink.on_trailers(stream, trailers)
        self._request_over(stream)

    def _request_over(self, stream: ServerStream) -> None:
        stream.request_over = True
        if stream.id in self.streams:
            self._sink.on_end(stream)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _response_over(self, stream: ServerStream) -> None:
        stream.response_over = True
        if self._blocked:
            self._blocked.pop(stream, None)
        self._budget.earned += BUDGET_A_FRAME
        if stream.request_over:
            self._gone(stream)
        else:
            self._flush()  # the response first: a reset would take it back
            self._give_up(stream, Code.NO_ERROR)  # the rest of the request is not wanted (RFC 9113, 8.1)

    def _give_up(self, stream: ServerStream, code: int) -> None:
        self._gone(stream)
        self._resets.add(stream.id)
        self._frames.reset(stream.id)
        with contextlib.suppress(ngh2.NGH2Error):  # there is nothing left to reset
            self._connection.reset_stream(stream.id, code)

    def _gone(self, stream: ServerStream) -> None:
        del self.streams[stream.id]
        if self._blocked:
            self._blocked.pop(stream, None)
        self._closed += 1
        if stream.unread:  # others share the connection's window
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.acknowledge_received_data(stream.unread, stream.id)
            stream.unread = 0

    def _given_up(self, stream: ServerStream, why: str) -> None:
        """By the client."""
        wasted = not stream.response_begun and self._now - stream.began <= AT_ONCE
        self._gone(stream)
        self._sink.on_reset(stream, why)
        if wasted:
            self._wasted()

    def _wasted(self) -> None:
        self._premature += 1
        if self._premature * 2 >= max(RESETS_JUDGED, self._closed):
            raise Violation(f"it gives up streams at once, half of {RESETS_JUDGED} or more", Code.ENHANCE_YOUR_CALM)

    def _ended(self, number: int, code: int) -> None:
        """nghttp2 has ended a stream; when nobody had told it to, because the client broke the protocol there."""
        if number in self._resets:
            self._resets.discard(number)
            return
        stream = self.streams.get(number)
        if stream is not None:
            self._given_up(stream, f"the client broke HTTP/2 on this stream ({name_of(code)})")
        else:  # its head was malformed
            self._closed += 1
            self._sink.on_malformed()
            self._wasted()
