"""The codec on nghttp2 (package ngh2): some twenty times as fast as h2.

nghttp2 bounds frames, header blocks and what is queued for the server by itself. What it leaves to its user is a flood of
frames that are legal and carry nothing: those that it tells of are counted, those that it does not (PRIORITY, unknown ones) are
the bytes that came and were never explained.
"""

from __future__ import annotations

import contextlib
from itertools import chain, compress, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import ngh2
from ngh2.events import (
    ConnectionClosed,
    DataReceived,
    Event,
    GoAwayReceived,
    InformationalResponseReceived,
    PingAcknowledged,
    PingReceived,
    PushedStreamReceived,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES
from meshlib.transport.protocol.http2_codec import (
    HEADER_TABLE,
    MAX_FRAME,
    SEND_AT_ONCE,
    Code,
    Head,
    Sink,
    Violation,
    Whole,
)
from meshlib.transport.protocol.http2_frames import (
    BUDGET,
    BUDGET_A_FRAME,
    BUDGET_A_SECOND,
    EACH_AT_ONCE,
    FRAME_HEAD,
    FRAMES_AT_ONCE,
    TINY,
    FrameBudget,
)
from meshlib.transport.protocol.http2_stream import A_HEADER
from meshlib.transport.protocol.ngh2_connection import Ngh2Connection, closed_by
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

_SETTINGS, _ACK = 4, 1
_CLIENT = ngh2.Role.CLIENT
_CONFIGURATION = ngh2.Configuration(
    auto_window_update=False,
    max_deflate_dynamic_table_size=HEADER_TABLE,
    # a head between MAX_HEAD_BYTES and this fails its own stream; beyond it the connection
    max_inbound_header_list_size=4 * MAX_HEAD_BYTES,
    max_inbound_header_count=4096,
)
ALL_STREAMS = 2**31 - 1
"""The connection's window: nghttp2 gives bytes back to a stream and its connection at once, when they have been read, and a
reader that is behind must stop its own stream only."""

NOT_EXPLAINED = MAX_FRAME + FRAME_HEAD + int(BUDGET) * FRAME_HEAD
"""Bytes that may be waiting for the rest of their frame, or were frames that nothing is told of."""

MAX_PADDING = 256
_A_WHOLE = 2 * BUDGET_A_FRAME - 1.0
"""For the stream and its frame. Less one: the trailers of a response that comes at once are not charged."""
_WHOLE_FRAMES = 3 * (MAX_PADDING + FRAME_HEAD)

_flat: Final = chain.from_iterable
_HEAD: Final = [ResponseReceived]
_WITHOUT_TRAILERS: Final = [DataReceived, StreamClosed]
_WITH_TRAILERS: Final = [DataReceived, TrailersReceived, StreamClosed]
"""What is told of a response that is over, behind its head."""
_FEWEST: Final = len(_HEAD + _WITHOUT_TRAILERS)
_headers: Final = attrgetter("headers")
_error_code: Final = attrgetter("error_code")
_data: Final = attrgetter("data")
_end_stream: Final = attrgetter("end_stream")
_stream_id: Final = attrgetter("stream_id")


class Ngh2Codec(Ngh2Connection[Sink]):
    """See ``Codec``."""

    __slots__ = (
        "_budget",
        "_closing",
        "_first",
        "_goaway",
        "_ignored",
        "_opened",
        "_unexplained",
        "_violation",
        "_wholes",
        "max_streams",
    )

    def __init__(self, now: float, stream_window: int, connection_window: int) -> None:
        connection = ngh2.Connection(_CLIENT, _CONFIGURATION)
        super().__init__(connection)
        connection.initiate_connection(
            {
                ngh2.Setting.HEADER_TABLE_SIZE: HEADER_TABLE,
                ngh2.Setting.ENABLE_PUSH: 0,
                ngh2.Setting.INITIAL_WINDOW_SIZE: stream_window,
                ngh2.Setting.MAX_FRAME_SIZE: MAX_FRAME,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
            }
        )
        if connection_window > 65535:
            connection.set_local_window_size(ALL_STREAMS)
        self._budget = FrameBudget(now)
        self._first: bytes | None = b""  # what came of the first frame's head
        self._goaway: int | None = None  # the code of the server's
        self._closing = False
        self._violation: Violation | None = None
        self._unexplained = 0.0
        self._ignored = stream_window + MAX_HEAD_BYTES  # bytes of a stream that we reset which may be under way
        self._opened = self._wholes = 0  # streams that the budget has not been told of; those of ``open_whole``
        self.max_streams = ALL_STREAMS
        self._flush()

    def open(self, headers: Head, end: bool) -> int | None:
        try:
            number = self._connection.send_request(headers, end_stream=end)
        except (ngh2.NoAvailableStreamIDError, ngh2.ConnectionClosingError):
            return None
        self._opened += 1
        self._fresh = number
        return number

    def send(self, number: int, data: memoryview, end: bool) -> int:
        connection, size = self._connection, len(data)
        try:
            if number == self._fresh and 0 < size <= self._room():
                # nearly all messages of gRPC: head and body are written together, with those of other calls
                connection.send_data(number, bytes(data), end_stream=end)
                self._promised += size
                self._budget.earned += BUDGET_A_FRAME
                return size
            if self._fresh:
                self._flush()
            window = self._window(number)
            if window < size and self._promised:
                self._flush()
                window = self._window(number)
            taken = min(size, SEND_AT_ONCE, window)
            if taken > 0:
                connection.send_data(number, bytes(data[:taken]), end_stream=end and taken == size)
                self._promised += taken
                self._budget.earned += BUDGET_A_FRAME
                return taken
        except ngh2.NGH2Error:  # the stream is over, which its owner hears next
            pass
        return 0

    def open_whole(self, headers: Head, data: bytes) -> int:
        size, connection = len(data), self._connection
        promised = self._promised + size
        if size > self._first_window or size > SEND_AT_ONCE or (promised > self._least and not self._fits(promised)):
            return 0
        try:
            number: int = connection.send_request(headers)
        except (ngh2.NoAvailableStreamIDError, ngh2.ConnectionClosingError):
            return 0
        self._wholes += 1
        self._fresh = number
        try:
            connection.send_data(number, data, end_stream=True)
        except ngh2.NGH2Error:  # there is no memory: the server shall not wait for it
            self.reset(number, Code.CANCEL)
            return 0
        self._promised = promised
        return number

    def _window(self, number: int) -> int:
        """Bytes that the windows have, less those promised to any stream: a little less than there may be."""
        connection = self._connection
        return min(connection.remote_window_size, connection.stream_remote_window_size(number)) - self._promised

    def _room(self) -> int:
        """Bytes of the body of a stream that nghttp2 does not know yet."""
        return min(self._first_window, SEND_AT_ONCE, self._connection.remote_window_size - self._promised)

    def end(self, number: int, trailers: Head = ()) -> None:
        if self._fresh:
            self._flush()
        with contextlib.suppress(ngh2.NGH2Error):  # the stream, or the connection, is over: its owner hears that next
            if trailers:
                self._connection.send_trailers(number, trailers)
            else:
                self._connection.end_stream(number)
            self._flush()

    def reset(self, number: int, code: int) -> None:
        if self._fresh:
            self._flush()
        with contextlib.suppress(ngh2.NGH2Error):  # there is nothing left to reset
            self._connection.reset_stream(number, code)
            self._unexplained -= self._ignored
            self._flush()

    def consumed(self, number: int, size: int) -> None:
        try:  # not suppress: this is for every response
            self._connection.acknowledge_received_data(size, number)
        except ngh2.NGH2Error:
            return  # of a connection that is over nobody wants more

    ignored = consumed

    def close(self, code: int) -> None:
        self._closing = True
        self._say_goodbye(code, 0)

    def outgoing(self) -> bytes:
        return self._said()

    def receive(self, data: bytes, now: float, sink: Sink) -> bool:
        budget = self._budget
        if self._opened:
            budget.opened(self._opened)
            self._opened = 0
        if self._wholes:
            budget.opened(self._wholes, _A_WHOLE)
            self._wholes = 0
        passed = budget.refill(now)
        if passed:
            self._explain(passed * BUDGET_A_SECOND * FRAME_HEAD)
        if data:
            self._feed(data, sink)
        waiting = self._events
        for _ in EACH_AT_ONCE:
            if not waiting:
                break
            event = waiting.popleft()
            # what nearly all frames are, here, and the rest in a function: by type, as nobody derives from them (row "HTTP/2
            # at 32 in flight")
            if type(event) is ResponseReceived:
                if (
                    waiting
                    and type(piece := waiting[0]) is DataReceived
                    and not PLAIN
                    and self._whole(event, piece, sink)
                ):
                    continue
                headers = event.headers
                budget.charge()
                if self._unexplained > 0:
                    self._explain_block(headers)
                sink.on_head(event.stream_id, headers)
                if event.end_stream:
                    sink.on_end(event.stream_id)
            elif type(event) is DataReceived:
                data = event.data
                size = len(data)
                if self._unexplained > 0:
                    self._explain(size + MAX_PADDING)
                budget.data(size)
                if event.end_stream:
                    sink.on_last(event.stream_id, data)
                else:
                    sink.on_data(event.stream_id, data, size)
            elif type(event) is StreamClosed:
                # for whichever reason; one that nobody ended before was broken by the server
                if event.error_code:
                    self._unexplained -= self._ignored
                sink.on_broken(event.stream_id, event.error_code)
            elif type(event) is TrailersReceived:
                budget.charge()
                headers = event.headers
                if self._unexplained > 0:
                    self._explain_block(headers)
                sink.on_last_trailers(event.stream_id, headers)
            else:
                self._tell(event, sink)
        if waiting:
            return True
        if self._unexplained > NOT_EXPLAINED:
            self._budget.flooded()
        if self._violation is not None:
            raise self._violation
        return False

    def _rows(self, told: list[Event], sink: Sink) -> list[Event]:
        """``_whole`` of all responses that have come, if each has, of the same kind, and ended well, as they do where there are
        many small ones: without a step of bytecode an event but for ``on_wholes``. All else is left."""
        if not _FEWEST <= len(told) <= FRAMES_AT_ONCE or type(told[0]) is not ResponseReceived:
            return told
        kinds = list(map(type, told))
        rest = _WITH_TRAILERS if kinds[-2] is TrailersReceived else _WITHOUT_TRAILERS
        step = len(rest)
        count = len(told) // (step + 1)
        # nghttp2 writes all heads first: to sort them would take a third of all this
        if kinds == _HEAD * count + rest * count:
            heads, at = told[:count], count
        elif kinds == (_HEAD + rest) * count:
            step += 1
            heads, at = told[::step], 1
        else:
            return told
        pieces, lasts, ends = told[at::step], told[at + 1 :: step], told[at + len(rest) - 1 :: step]
        of = list(map(_stream_id, heads))
        trailers: Iterable[Whole | None]
        if rest is _WITHOUT_TRAILERS:
            if not all(map(_end_stream, pieces)):
                return told
            trailers = repeat(None)
        else:
            if list(map(_stream_id, lasts)) != of:
                return told
            trailers = map(_headers, lasts)
        if list(map(_stream_id, pieces)) != of or list(map(_stream_id, ends)) != of or any(map(_error_code, ends)):
            return told
        bodies = list(map(_data, pieces))
        sizes = list(map(len, bodies))
        if min(sizes) < TINY:
            return told
        weights = sink.on_wholes(of, map(_headers, heads), bodies, trailers)
        left: list[Event] = []
        if not all(weights):  # some were not taken
            not_taken = {number for number, weight in zip(of, weights, strict=True) if not weight}
            left = [event for event in told if _stream_id(event) in not_taken]
            of, sizes = list(compress(of, weights)), list(compress(sizes, weights))
        unexplained = self._unexplained
        if unexplained > 0:
            unexplained -= sum(weights) + sum(sizes) + len(of) * _WHOLE_FRAMES
            self._unexplained = unexplained if unexplained > 0 else 0.0
        self._gave_back(sizes, of)
        return left

    def _whole(self, head: ResponseReceived, piece: DataReceived, sink: Sink) -> bool:
        """A response that has come with its end, and what tells of its end: nearly all small ones. False: one by one."""
        waiting, number, data = self._events, head.stream_id, piece.data
        if piece.stream_id != number:
            return False
        if piece.end_stream:
            (weight,) = sink.on_wholes((number,), (head.headers,), (data,), (None,))
            if not weight:
                return False
        else:
            try:
                last = waiting[1]
            except IndexError:
                return False
            if type(last) is not TrailersReceived or last.stream_id != number:
                return False
            (weight,) = sink.on_wholes((number,), (head.headers,), (data,), (last.headers,))
            if not weight:
                return False
            waiting.popleft()  # without a charge: to open the stream has earned more
        waiting.popleft()
        size = len(data)
        if size < TINY:  # else it brings as much as its head takes
            self._budget.charge()
            self._budget.data(size)
        try:  # noqa: SIM105 (as ``consumed``, for every response): others share the connection's window
            self._connection.acknowledge_received_data(size, number)
        except ngh2.NGH2Error:
            pass
        left = self._unexplained
        if left > 0:
            left -= weight + size + _WHOLE_FRAMES
            self._unexplained = left if left > 0 else 0.0
        if (
            waiting
            and type(closed := waiting[0]) is StreamClosed
            and closed.stream_id == number
            and not closed.error_code
        ):
            waiting.popleft()
        return True

    def _feed(self, data: bytes, sink: Sink) -> None:
        if self._first is not None:
            data = self._first + data
            if len(data) < FRAME_HEAD:
                self._first = data
                return
            self._first = None
            if data.startswith(b"HTTP/1"):
                raise Violation("the server speaks HTTP/1, not HTTP/2")
            if data[3] != _SETTINGS or data[4] & _ACK:
                raise Violation("the server does not speak HTTP/2: its first frame is not SETTINGS")
        if self._fresh:
            self._flush()
        self._unexplained += len(data)
        violation = self._read(data, sink)
        if violation is not None:
            self._violation = violation
        self._flush()

    def _explain(self, size: float) -> None:
        """A frame of (at most) so many bytes. Only a reset stream lets more come than is explained."""
        if self._unexplained > 0:
            self._unexplained = max(0.0, self._unexplained - size - FRAME_HEAD)

    # -- what nghttp2 tells -----------------------------------------------------------------------------------------

    def _tell(self, event: Event, sink: Sink) -> None:
        """What is nothing of a final response, nor the end of a stream."""
        if isinstance(event, ConnectionClosed):
            self._over(event)
        elif isinstance(event, InformationalResponseReceived):
            self._budget.charge()
            self._explain_block(event.headers)
            sink.on_interim(event.stream_id, event.headers)
        elif isinstance(event, PushedStreamReceived | RequestReceived):
            raise Violation("the server opened a stream, which was not allowed to it")
        else:
            self._budget.charge()
            self._tell_control(event, sink)

    def _tell_control(self, event: Event, sink: Sink) -> None:
        """Of a frame that carries nothing of a response."""
        if isinstance(event, WindowUpdated):
            self._explain(4)
            sink.on_window(event.stream_id)
        elif isinstance(event, StreamReset):
            self._explain(4)
            sink.on_reset(event.stream_id, event.error_code)
        elif isinstance(event, SettingsReceived):
            settings = event.settings
            self._explain(6 * len(settings))
            self.max_streams = settings.get(ngh2.Setting.MAX_CONCURRENT_STREAMS, self.max_streams)
            self._set(settings)
            sink.on_settings()
        elif isinstance(event, GoAwayReceived):
            self._explain(8 + len(event.debug_data))
            self._goaway = event.error_code
            sink.on_goaway(event.last_stream_id)
        elif isinstance(event, SettingsAcknowledged | PingReceived | PingAcknowledged):
            self._explain(8)

    def _explain_block(self, headers: Head) -> None:
        if self._unexplained > 0:
            self._explain(len(b"".join(_flat(headers))) + A_HEADER * len(headers) + MAX_PADDING)

    def _over(self, event: ConnectionClosed) -> None:
        code = event.error_code
        if self._closing or code == self._goaway or not code:
            return
        self._violation = closed_by(event)
