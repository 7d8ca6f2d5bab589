"""The codec on h2 (pure Python), behind a look at its frames."""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hpack import NeverIndexedHeaderTuple

from meshlib.problems import said
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES
from meshlib.transport.protocol.http2_codec import (
    HEADER_TABLE,
    MAX_FRAME,
    SEND_AT_ONCE,
    Head,
    SecretHeader,
    Sink,
    Violation,
)
from meshlib.transport.protocol.http2_frames import FrameGate, GoAway

LAST_STREAM_ID = 2**31 - 1

DECODED_MOST = 4 * MAX_HEAD_BYTES
"""A head between ``MAX_HEAD_BYTES`` and this fails its own stream; beyond it decoding stops, and with it the connection."""


class H2Codec:
    """See ``Codec``. What is received is given back to the connection's window at once."""

    __slots__ = ("_connection", "_credit", "_gate", "_window")

    def __init__(self, now: float, stream_window: int, connection_window: int) -> None:
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
        connection.decoder.max_header_list_size = DECODED_MOST
        connection.initiate_connection()
        if connection_window > 65535:
            connection.increment_flow_control_window(connection_window - 65535)
        self._gate = FrameGate(now)
        self._window = connection_window
        self._credit = 0

    @property
    def max_streams(self) -> int:
        """SETTINGS_MAX_CONCURRENT_STREAMS of the server."""
        return int(self._connection.remote_settings.max_concurrent_streams)

    def open(self, headers: Head, end: bool) -> int | None:
        newest = self._connection.highest_outbound_stream_id
        number = newest + 2 if newest else 1
        if number > LAST_STREAM_ID:
            return None
        written = [NeverIndexedHeaderTuple(*pair) if type(pair) is SecretHeader else pair for pair in headers]
        self._connection.send_headers(number, written, end_stream=end)
        self._gate.budget.opened()
        return int(number)

    def send(self, number: int, data: memoryview, end: bool) -> int:
        connection = self._connection
        taken, size = 0, len(data)
        most = min(size, SEND_AT_ONCE)
        largest = min(connection.max_outbound_frame_size, SEND_AT_ONCE)
        while taken < most:
            piece = min(most - taken, connection.local_flow_control_window(number), largest)
            if piece <= 0:
                break
            connection.send_data(number, data[taken : taken + piece], end_stream=end and taken + piece == size)
            self._gate.budget.reward()
            taken += piece
        return taken

    def open_whole(self, headers: Head, data: bytes) -> int:
        return 0

    def end(self, number: int, trailers: Head = ()) -> None:
        if trailers:
            self._connection.send_headers(number, list(trailers), end_stream=True)
        else:
            self._connection.end_stream(number)

    def reset(self, number: int, code: int) -> None:
        with contextlib.suppress(h2.exceptions.H2Error):
            # h2 may have seen its end already, in the bytes that are being handled now
            self._connection.reset_stream(number, code)

    def consumed(self, number: int, size: int) -> None:
        self._connection.increment_flow_control_window(size, number)

    def ignored(self, number: int, size: int) -> None:
        """They have been given back to the connection already."""

    def close(self, code: int) -> None:
        with contextlib.suppress(h2.exceptions.H2Error):  # it may have said goodbye already
            self._connection.close_connection(code)

    def outgoing(self) -> bytes:
        return self._connection.data_to_send()

    def receive(self, data: bytes, now: float, sink: Sink) -> bool:
        for run in self._gate.feed(data, now):
            if isinstance(run, GoAway):
                sink.on_goaway(run.last)
                continue
            try:
                events = self._connection.receive_data(run)
            except h2.exceptions.ProtocolError as error:
                raise Violation(said(error), None) from error
            for event in events:
                self._tell(event, sink)
        return self._gate.behind

    def _tell(self, event: h2.events.Event, sink: Sink) -> None:
        kind = type(event)
        if kind is h2.events.DataReceived:
            self._data(event, sink)  # type: ignore[arg-type]
        elif kind is h2.events.ResponseReceived:
            sink.on_head(event.stream_id, _pairs(event))  # type: ignore[attr-defined]
        elif kind is h2.events.StreamEnded:
            sink.on_end(event.stream_id)  # type: ignore[attr-defined]
        elif kind is h2.events.WindowUpdated:
            sink.on_window(event.stream_id or 0)  # type: ignore[attr-defined]
        elif kind is h2.events.StreamReset:
            told = sink.on_reset if event.remote_reset else sink.on_broken  # type: ignore[attr-defined]
            told(event.stream_id, int(event.error_code or 0))  # type: ignore[attr-defined]
        elif kind is h2.events.TrailersReceived:
            sink.on_trailers(event.stream_id, _pairs(event))  # type: ignore[attr-defined]
        elif kind is h2.events.InformationalResponseReceived:
            sink.on_interim(event.stream_id, _pairs(event))  # type: ignore[attr-defined]
        elif kind is h2.events.RemoteSettingsChanged:
            sink.on_settings()
        elif kind is h2.events.RequestReceived or kind is h2.events.PushedStreamReceived:
            raise Violation("the server opened a stream, which was not allowed to it")

    def _data(self, event: h2.events.DataReceived, sink: Sink) -> None:
        size = event.flow_controlled_length or 0
        self._credit += size
        if self._credit >= self._window // 4:
            self._connection.increment_flow_control_window(self._credit)
            self._credit = 0
        sink.on_data(event.stream_id or 0, bytes(event.data or b""), size)


def _pairs(event: object) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in event.headers or ()]  # type: ignore[attr-defined]
