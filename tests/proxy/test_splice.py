"""A connection whose bytes nobody reads, before there is an upstream and with one."""

from __future__ import annotations

import asyncio

from meshlib.proxy.slow_clients import Wait
from meshlib.proxy.splice import AHEAD, Splice


class Transport(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.over = False

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def abort(self) -> None:
        self.done.append("abort")
        self.over = True

    def close(self) -> None:
        self.done.append("close")
        self.over = True

    def is_closing(self) -> bool:
        return self.over


class Tunnel:
    """Takes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def join(self, client: object) -> None:
        self.told.append("join")

    def received(self, data: bytes) -> None:
        self.told.append(len(data))

    def writable(self, writable: bool) -> None:
        self.told.append(writable)

    def ended(self) -> bool:
        self.told.append("end")
        return True

    def lost(self) -> None:
        self.told.append("lost")


class Listener:
    def __init__(self) -> None:
        self.open = 0

    def opened(self, connection: object) -> None:
        self.open += 1

    def closed(self, connection: object) -> None:
        self.open -= 1


class Way:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Spliced(Splice):
    way: Way | None = None

    def begun(self):
        return self.way


def begun(way: Way | None, first: bytes = b"") -> tuple[Spliced, Transport, Listener]:
    listener, transport = Listener(), Transport()
    made = Spliced(listener, first)
    made.way = way
    made.connection_made(transport)
    return made, transport, listener


def test_who_may_not_go_anywhere_is_cut_off():
    _, transport, listener = begun(None)
    assert transport.done == ["abort"]
    assert listener.open == 1


def test_what_a_client_sends_ahead_waits_for_the_upstream_and_is_bounded():
    made, transport, _ = begun(Way(), b"first")
    made.data_received(b"x" * AHEAD)
    made.data_received(b"x")
    assert transport.done == ["pause"]
    tunnel = Tunnel()
    made.connected(tunnel)  # type: ignore[arg-type]
    assert tunnel.told == ["join", AHEAD + 6]
    assert transport.done == ["pause", "resume"]
    made.data_received(b"more")
    made.pause_writing()
    made.resume_writing()
    assert made.eof_received()
    made.connection_lost(None)
    assert tunnel.told[2:] == [4, False, True, "end", "lost"]


def test_a_client_that_has_said_all_before_there_is_an_upstream_hears_its_end():
    made, _, _ = begun(Way())
    made.pause_writing()
    assert made.eof_received()
    tunnel = Tunnel()
    made.connected(tunnel)  # type: ignore[arg-type]
    assert tunnel.told == ["join", False, "end"]


def test_a_client_that_leaves_takes_its_way_with_it():
    way = Way()
    made, _, listener = begun(way)
    made.connection_lost(None)
    assert way.cancelled
    assert listener.open == 0


def test_no_upstream_is_the_end_and_nobody_is_waited_for():
    made, transport, _ = begun(Way())
    assert made.waits() is None
    made.drain()
    assert transport.done == []
    made.respond(503, b"", [], b"", None)
    assert transport.done == ["abort"]
    made.give_up(Wait.NEXT)
    assert transport.done == ["abort", "abort"]
