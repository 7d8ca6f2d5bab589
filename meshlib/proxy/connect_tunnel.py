"""Bytes both ways between a client that has sent CONNECT and its upstream, counted, unread.

Back-pressure: who is behind has the other side read no further. A side that has said all (FIN) is told to the other, which may
go on for as long as it likes; TLS has no such half, so there the end of one is the end of both, after what was written. A
tunnel ends, too, when nothing has come either way for as long as the cluster's idle timeout, or when it is too old. Streams
between plain sockets are the kernel's to move (``zero_copy.py``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.proxy.zero_copy import LARGE, Pipes, Way
from meshlib.transport.upstream.mutual import WORTHLESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.alarms import Alarms, Cancellable
    from meshlib.identity.servers import Vouched
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.telemetry.tcp_series import TcpSeries

AHEAD = 64 * 1024
"""Bytes of an upstream that has spoken before its client was told that it is there, until it is no longer read."""


class ConnectTunnel(asyncio.Protocol):
    """The protocol of the upstream's connection, and what a client's connection hands its bytes to. It is made before there is
    an upstream; ``join`` when there is one. ``bytes_sent`` go to the client, ``bytes_received`` come from it."""

    __slots__ = (
        "_alarms",
        "_client",
        "_client_ended",
        "_client_lost",
        "_downwards",
        "_early",
        "_idle",
        "_idle_alarm",
        "_last",
        "_loop",
        "_oldest",
        "_over",
        "_pipes",
        "_series",
        "_upstream_ended",
        "_upwards",
        "bytes_received",
        "bytes_sent",
        "flag",
        "lost_by",
        "upstream",
        "upstream_lost",
        "vouched",
        "why",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, alarms: Alarms, pipes: Pipes) -> None:
        self._loop = loop
        self._pipes = pipes
        self._upwards: Way | None = None  # once a large read has come
        self._downwards: Way | None = None
        self._alarms = alarms
        self.upstream: Any = None
        self.upstream_lost = False
        self.lost_by: Exception | None = None
        self.bytes_sent = self.bytes_received = 0
        self.vouched: Vouched | None = None  # what the upstream's connection stands on, of mTLS of the mesh
        self.why = self.flag = ""  # it was ended here: why, and Envoy's flag for that
        self._client: Any = None
        self._series: TcpSeries
        self._over: Callable[[], None] = _nothing
        self._early: list[bytes] = []
        self._client_ended = self._client_lost = self._upstream_ended = False
        self._last = 0.0  # when bytes came last
        self._idle = 0.0
        self._idle_alarm: Cancellable | None = None
        self._oldest: Cancellable | None = None

    def begin(self, series: TcpSeries, idle: float, age: float | None, over: Callable[[], None]) -> None:
        """There is an upstream: count bytes in ``series``; end after ``idle`` seconds (0: never) without bytes, or ``age``
        seconds (None: never) from now; ``over`` is called once, when the client's connection has gone."""
        self._series = series
        self._over = over
        self._idle = idle
        self._last = self._alarms.now()
        if idle:
            self._idle_alarm = self._alarms.on_loop(self._loop, idle, self._look)
        if age is not None:
            self._oldest = self._alarms.on_loop(self._loop, age, self._too_old)

    # -- the client's connection ----------------------------------------------------------------------------------------

    def join(self, client: Any) -> None:
        """The client knows; ``client`` is its transport."""
        self._client = client
        early, self._early = b"".join(self._early), []
        if early:
            self._count_down(len(early))
            client.write(early)
        if self.upstream_lost:
            client.close()
        elif self._upstream_ended:
            client.write_eof()
        else:
            self.upstream.resume_reading()

    def received(self, data: bytes) -> None:
        """From the client."""
        size = len(data)
        self._count_up(size)
        if self.upstream_lost:
            return
        if size >= LARGE and self._client is not None:
            way = self._upwards
            if way is None:
                way = self._upwards = Way(self._loop, self._pipes, self._client, self.upstream, self._count_up)
            if way.takes(data):
                return
        self.upstream.write(data)

    def ended(self) -> bool:
        """The client sends no more. Whether it may still be written to."""
        self._client_ended = True
        if self._upstream_ended or self.upstream_lost:
            return False
        if self.upstream.can_write_eof():
            self.upstream.write_eof()
        else:
            self.upstream.close()
        return True

    def writable(self, writable: bool) -> None:
        """Whether the client takes what is written."""
        if not self.upstream_lost and not self.upstream.is_closing() and not _carried(self._downwards):
            if writable:
                self.upstream.resume_reading()
            else:
                self.upstream.pause_reading()

    def lost(self) -> None:
        """The client's connection has gone: what it sent still goes out."""
        self._client_lost = True
        self._settle()
        if self._oldest is not None:
            self._oldest.cancel()
        if not self.upstream_lost:
            self.upstream.close()
        else:
            self._rest()
        over, self._over = self._over, _nothing  # who is told refers to this
        over()

    # -- the upstream's connection, as asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.upstream = transport

    def data_received(self, data: bytes) -> None:
        client = self._client
        if client is not None:
            size = len(data)
            self._count_down(size)
            if size >= LARGE:
                way = self._downwards
                if way is None:
                    way = self._downwards = Way(self._loop, self._pipes, self.upstream, client, self._count_down)
                if way.takes(data):
                    return
            client.write(data)
            return
        self._early.append(data)
        if sum(map(len, self._early)) > AHEAD:
            self.upstream.pause_reading()

    def eof_received(self) -> bool:
        self._upstream_ended = True
        client = self._client
        if client is None:
            return True
        if self._client_ended or not client.can_write_eof():
            client.close()
            return False
        if not client.is_closing():
            client.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.upstream_lost = True
        self.lost_by = error
        self._settle()
        if self._client_lost:
            self._rest()
        elif self._client is not None:
            self._client.close()  # after what was written

    def pause_writing(self) -> None:
        if self._client is not None and not self._client.is_closing():
            self._client.pause_reading()

    def resume_writing(self) -> None:
        if self._client is not None and not self._client.is_closing() and not _carried(self._upwards):
            self._client.resume_reading()

    # -- time -----------------------------------------------------------------------------------------------------------

    def _count_up(self, size: int) -> None:
        self._last = self._alarms.now()
        self.bytes_received += size
        self._series.received.inc(size)

    def _count_down(self, size: int) -> None:
        self._last = self._alarms.now()
        self.bytes_sent += size
        self._series.sent.inc(size)

    def _look(self) -> None:
        left = self._last + self._idle - self._alarms.now()
        if left > 0:
            self._idle_alarm = self._alarms.on_loop(self._loop, left, self._look)
        else:
            self._end(f"no bytes for {self._idle:g} s")

    def _too_old(self) -> None:
        self.flag = "DT"
        self._end("maxConnectionDuration")

    def cut(self) -> None:
        """The certificates that it stands on are worth nothing any more."""
        self.flag = "UC"
        self._end(WORTHLESS)

    def _end(self, why: str) -> None:
        """Now, whatever has not been sent."""
        self.why = self.why or why
        self._settle()
        if self._client is not None and not self._client_lost:
            self._client.abort()
        if not self.upstream_lost:
            self.upstream.abort()

    def _settle(self) -> None:
        """One of the two connections is over: the kernel's part is."""
        for way in (self._upwards, self._downwards):
            if way is not None:
                way.settle()

    def _rest(self) -> None:
        """Both connections have gone."""
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()


def _nothing() -> None:
    """Nobody is told."""


def _carried(way: Way | None) -> bool:
    return way is not None and way.carried


class ConnectClient(Protocol):
    """Who has sent CONNECT: told one of the two, once."""

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """There is no tunnel."""

    def connected(self, tunnel: ConnectTunnel) -> None:
        """There is one. ``lost`` of the tunnel is called when the client's connection has gone."""
