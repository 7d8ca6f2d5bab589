"""The server's side of a connection over HTTP/2 as a whole: whether anything is written, how it is drained, closed or lost, and
frames that carry nothing of a request. Its streams: ``http2_server.py``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import ngh2
from ngh2.events import (
    ConnectionClosed,
    Event,
    GoAwayReceived,
    PingAcknowledged,
    SettingsReceived,
    WindowUpdated,
)

from meshlib.problems import said
from meshlib.transport.protocol.http2_client_frames import never
from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.ngh2_connection import Ngh2Connection, closed_by

if TYPE_CHECKING:
    from meshlib.transport.protocol.http2_client_frames import ClientFrames
    from meshlib.transport.protocol.http2_server_stream import ServerStream, Sink

_DRAIN = b"draining"  # of the PING whose acknowledgement says that the client has seen the first GOAWAY


class ServerConnection(Ngh2Connection["Sink"]):
    """``sink`` is told what happens to ``streams``. ``broken``: why the connection is over before its time; ``draining``: no
    new streams are taken."""

    __slots__ = (
        *("_blocked", "_closing", "_final", "_frames", "_last", "_peer_left", "_sink"),
        *("broken", "draining", "streams", "writable"),
    )

    def __init__(self, connection: ngh2.Connection, sink: Sink, frames: ClientFrames) -> None:
        super().__init__(connection)
        self._sink = sink
        self._frames = frames
        self._blocked: dict[ServerStream, None] = {}
        self._last = 0  # the newest stream
        self._closing = self._final = self._peer_left = self.draining = False
        self.streams: dict[int, ServerStream] = {}
        self.broken: str | None = None
        self.writable = True

    def set_writable(self, writable: bool) -> None:
        """Whether the socket takes more than it has; while not, no bodies are sent."""
        woken = writable and not self.writable
        self.writable = writable
        if woken:
            self._wake_blocked()

    def go_on(self) -> None:
        """What ``outgoing`` returned has been written: bodies that waited for that go on, if the socket takes more."""
        if self.writable and self.broken is None:
            self._wake_blocked()

    def drain(self) -> None:
        """Say that there will be no new streams here: first that the client should open none, and what it has opened meanwhile
        is still taken; ``drained`` when it has seen that. Those under way go on."""
        if not self.draining and self.broken is None:
            self.draining = True
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.send_shutdown_notice()
                self._connection.ping(_DRAIN)

    def drained(self) -> None:
        """From now on, new streams are not taken. For a client that does not acknowledge ``drain`` in time, too."""
        if not self._final and self.broken is None:
            self.draining = self._final = True
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.send_goaway(Code.NO_ERROR, last_stream_id=self._last)

    def close(self, why: str, code: int = Code.NO_ERROR) -> None:
        """The connection is over now, with all its streams."""
        if self.broken is None:
            self._closing = True
            self._say_goodbye(code, self._last)
            self._break(why)

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone: closed by the client (None) or broken."""
        if self.broken is None:
            self._break("the client closed the connection" if error is None else f"the connection broke: {said(error)}")
        # they refer to this: with what nghttp2 keeps of a connection it would stay until the garbage collector comes
        self._sink = cast("Sink", None)  # is told nothing more
        self._frames.overflows = never

    @property
    def over(self) -> bool:
        """Nothing more will happen here."""
        return self.broken is not None or ((self._final or self._peer_left) and not self.streams)

    def _control(self, event: Event) -> None:
        """Of a frame that carries nothing of a request."""
        if isinstance(event, ConnectionClosed):
            if event.error_code and not self._closing:
                raise closed_by(event)
            return
        if isinstance(event, WindowUpdated | SettingsReceived):
            if isinstance(event, SettingsReceived):
                self._set(event.settings)
            self._wake_blocked()
        elif isinstance(event, PingAcknowledged):
            if self.draining and event.opaque_data == _DRAIN:
                self.drained()
        elif isinstance(event, GoAwayReceived):
            self._peer_left = True

    def _break(self, why: str) -> None:
        self.broken = why
        for stream in list(self.streams.values()):
            del self.streams[stream.id]
            self._sink.on_reset(stream, why)
        self._blocked.clear()

    def _wake_blocked(self) -> None:
        for stream in list(self._blocked):
            if self._blocked.pop(stream, self) is None:
                self._sink.on_room(stream)
