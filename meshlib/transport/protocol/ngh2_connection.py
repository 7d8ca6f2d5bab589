"""What both sides of a connection over HTTP/2 have of nghttp2 (package ngh2): frames in, events out, bytes to be written."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import ngh2
from ngh2.events import (
    ConnectionClosed,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from meshlib.problems import said
from meshlib.transport.protocol.http2_codec import Code, Violation, name_of
from meshlib.transport.protocol.http2_server_limits import FIRST_WINDOW
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_OF_STREAMS: Final[frozenset[type[Event]]] = frozenset(
    (DataReceived, RequestReceived, ResponseReceived, StreamClosed, StreamReset, TrailersReceived, WindowUpdated)
)
_Sink = TypeVar("_Sink")
_FEW = 2
_stream_id = attrgetter("stream_id")

GOAWAY = b"\0\0\x08\x07\0\0\0\0\0"
"""The head of that frame."""


class Ngh2Connection(Generic[_Sink]):
    """Tells a ``_Sink``, of one side's kind. Not thread-safe.

    ``_fresh``: the newest stream, where nghttp2 does not know it, which knows one from the moment that its
    head is written (a server opens none); ``_promised``: bytes of bodies that nghttp2 has and has not written; ``_least``: the
    bytes of bodies at least that the connection's window has had room for since the last write; ``_first_window``: bytes of
    a stream of which nothing was sent, at least; ``_shrunk``: the peer has made it smaller."""

    __slots__ = ("_connection", "_events", "_first_window", "_fresh", "_least", "_out", "_promised", "_shrunk")

    def __init__(self, connection: ngh2.Connection) -> None:
        self._connection = connection
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._fresh = self._promised = self._least = 0
        self._first_window = FIRST_WINDOW
        self._shrunk = False

    def _set(self, settings: Mapping[int, int]) -> None:
        """By the peer. Bodies that were promised before their streams' windows were made smaller, nghttp2 holds back and writes
        when it can: from then on its window may become smaller than what was promised tells."""
        window = settings.get(ngh2.Setting.INITIAL_WINDOW_SIZE, self._first_window)
        if window < self._first_window:
            self._shrunk = True
            self._least = 0
        self._first_window = window

    def _fits(self, promised: int) -> bool:
        """Whether the connection's window has room for so many bytes of bodies. What it had room for, only writing takes from
        it, if nothing is held back (``_set``): to ask nghttp2 takes longer."""
        if promised <= self._least:
            return True
        window: int = self._connection.remote_window_size
        if not self._shrunk:
            self._least = window
        return promised <= window

    def _flush(self) -> None:
        """Have all written that was said."""
        self._least -= self._promised
        self._fresh = self._promised = 0
        connection = self._connection
        try:
            if not connection.want_write and connection.want_read:
                return  # to be told that there is nothing takes far longer than to ask whether there is something
            data = connection.data_to_send()
        except ngh2.NGH2Error:
            return  # it has failed, which ``_read`` tells
        if data:
            self._out.append(data)
        told = connection.events()
        if told:
            self._events.extend(told)

    def _said(self) -> bytes:
        """All that was said, and was not asked for yet. Has it written, as ``_flush`` does, and without its function."""
        self._least -= self._promised
        self._fresh = self._promised = 0
        connection, out, data = self._connection, self._out, b""
        try:
            if connection.want_write or not connection.want_read:
                data = connection.data_to_send()
                told = connection.events()
                if told:
                    self._events.extend(told)
        except ngh2.NGH2Error:
            pass
        if out:
            out.append(data)
            data = b"".join(out)
            out.clear()
        return data

    def _gave_back(self, sizes: Iterable[int], numbers: Iterable[int]) -> None:
        """So many bytes of each of these streams have gone where they belong: the peer may send as many more."""
        sizes, numbers = iter(sizes), iter(numbers)
        while True:
            try:
                deque(
                    map(self._connection.acknowledge_received_data, sizes, numbers), 0
                )  # no step of bytecode a stream
                return
            except ngh2.NGH2Error:  # one stream, or all, are over: on with the next
                pass

    def _rows(self, told: list[Event], sink: _Sink) -> list[Event]:
        """Tell ``sink`` of calls that have come whole, many of them together, and return what it was not told of."""
        return told

    def _read(self, data: bytes, sink: _Sink) -> Violation | None:
        """Bytes from the peer, of which ``sink`` was told (``_rows``), or whose events are there then. Returns how they break
        HTTP/2."""
        violation = None
        try:
            self._connection.receive_data(data)
        except ngh2.ConnectionStateError:
            return None  # nothing is expected of a connection that is going away
        except ngh2.DenialOfServiceError as error:
            violation = Violation(said(error), Code.ENHANCE_YOUR_CALM)
        except ngh2.NGH2Error as error:
            violation = Violation(said(error))
        told, waiting = self._connection.events(), self._events
        if told and not PLAIN:
            if not waiting:
                told = self._rows(told, sink)
            if len(told) > _FEW and _OF_STREAMS.issuperset(map(type, told)):
                # what belongs to a stream together, in its order: of several that were written at once, nghttp2 sends all
                # heads before all bodies
                told.sort(key=_stream_id)
                if not waiting:
                    told = self._rows(told, sink)
        waiting.extend(told)
        return violation

    def _say_goodbye(self, code: int, last: int) -> None:
        """GOAWAY, also where there is no connection any more. ``last``: the peer's newest stream."""
        try:
            self._connection.terminate_connection(code, last_stream_id=last)
            self._out.append(self._connection.data_to_send())
        except ngh2.NGH2Error:
            self._out.append(GOAWAY + last.to_bytes(4, "big") + int(code).to_bytes(4, "big"))


def closed_by(event: ConnectionClosed) -> Violation:
    """Why nghttp2 has closed it. GOAWAY has been said."""
    detail = event.debug_data.decode("latin-1")
    return Violation(f"{name_of(event.error_code)}{detail and ': ' + detail}", None)
