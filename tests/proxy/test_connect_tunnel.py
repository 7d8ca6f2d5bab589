"""Bytes both ways, counted: who waits for whom, and how it ends, between two transports that do what a test says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshlib.alarms import Alarms
from meshlib.proxy.connect_tunnel import AHEAD, ConnectTunnel
from meshlib.proxy.zero_copy import Pipes
from meshlib.telemetry.tables import CountSeries
from meshlib.telemetry.tcp_series import TcpSeries


class Transport:
    """A connection; what was done to it, in order."""

    def __init__(self, halves: bool = True) -> None:
        self.halves = halves
        self.written = b""
        self.done: list[str] = []
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return self.halves

    def write_eof(self) -> None:
        self.done.append("eof")

    def is_closing(self) -> bool:
        return "close" in self.done or "abort" in self.done

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Scene:
    """A tunnel whose upstream is there."""

    def __init__(self, tls: bool = False, joined: bool = True) -> None:
        self.client, self.upstream = Transport(), Transport(halves=not tls)
        self.series = TcpSeries(*(CountSeries() for _ in range(4)))
        self.over: list[bool] = []
        self.tunnel = ConnectTunnel(asyncio.get_running_loop(), Alarms(), Pipes())
        self.tunnel.connection_made(self.upstream)  # type: ignore[arg-type]
        self.tunnel.begin(self.series, 0, None, lambda: self.over.append(True))
        if joined:
            self.tunnel.join(self.client)


async def test_what_each_side_says_arrives_at_the_other_and_is_counted() -> None:
    scene = Scene()
    scene.tunnel.received(b"up")
    scene.tunnel.data_received(b"down")
    assert (scene.upstream.written, scene.client.written) == (b"up", b"down")
    assert (scene.series.received.value, scene.series.sent.value) == (2, 4)
    assert (scene.tunnel.bytes_received, scene.tunnel.bytes_sent) == (2, 4)


async def test_who_is_behind_has_the_other_side_wait() -> None:
    scene = Scene()
    scene.tunnel.pause_writing()
    scene.tunnel.writable(False)
    assert (scene.client.reading, scene.upstream.reading) == (False, False)
    scene.tunnel.resume_writing()
    scene.tunnel.writable(True)
    assert (scene.client.reading, scene.upstream.reading) == (True, True)


async def test_an_upstream_that_speaks_before_its_client_is_told_is_heard_up_to_a_limit() -> None:
    scene = Scene(joined=False)
    scene.tunnel.data_received(b"220 ")
    assert scene.upstream.reading
    scene.tunnel.data_received(b"x" * AHEAD)
    assert not scene.upstream.reading
    scene.tunnel.join(scene.client)
    assert scene.client.written == b"220 " + b"x" * AHEAD
    assert scene.upstream.reading


async def test_an_upstream_that_has_gone_before_its_client_is_told_says_its_last_words() -> None:
    scene = Scene(joined=False)
    scene.tunnel.data_received(b"bye")
    scene.tunnel.connection_lost(None)
    scene.tunnel.join(scene.client)
    assert (scene.client.written, scene.client.done) == (b"bye", ["close"])


async def test_an_upstream_that_has_said_all_before_its_client_is_told_may_still_hear() -> None:
    scene = Scene(joined=False)
    assert scene.tunnel.eof_received() is True
    scene.tunnel.join(scene.client)
    scene.tunnel.received(b"up")
    assert (scene.client.done, scene.upstream.written) == (["eof"], b"up")


async def test_half_of_a_connection_may_end_and_then_the_other() -> None:
    scene = Scene()
    assert scene.tunnel.ended() is True
    assert scene.upstream.done == ["eof"]
    scene.tunnel.data_received(b"an answer")
    assert scene.tunnel.eof_received() is False
    assert (scene.client.written, scene.client.done) == (b"an answer", ["close"])


async def test_the_other_way_round() -> None:
    scene = Scene()
    assert scene.tunnel.eof_received() is True
    assert scene.client.done == ["eof"]
    scene.tunnel.received(b"more")
    assert scene.tunnel.ended() is False
    assert scene.upstream.written == b"more"


async def test_tls_has_no_half() -> None:
    scene = Scene(tls=True)
    scene.tunnel.received(b"last")
    assert scene.tunnel.ended() is True
    assert (scene.upstream.written, scene.upstream.done) == (b"last", ["close"])
    scene.tunnel.connection_lost(None)
    assert scene.client.done == ["close"]


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_the_end_of_the_upstream_is_the_clients_and_no_byte_is_written_to_it_any_more(error: Any) -> None:
    scene = Scene()
    scene.tunnel.connection_lost(error)
    assert scene.client.done == ["close"]
    scene.tunnel.received(b"late")
    scene.tunnel.writable(False)
    assert scene.upstream.written == b""
    scene.tunnel.lost()
    assert scene.over == [True]


async def test_the_end_of_the_client_is_the_upstreams_after_what_was_sent() -> None:
    scene = Scene()
    scene.tunnel.received(b"last")
    scene.tunnel.lost()
    assert (scene.upstream.written, scene.upstream.done, scene.over) == (b"last", ["close"], [True])
