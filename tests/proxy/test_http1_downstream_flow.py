"""Connections of HTTP/1.1 without a network: clients that do not read, and when responses are written."""

from __future__ import annotations

import asyncio
import gc
import random
from types import SimpleNamespace

import pytest

from meshlib.policy.request_ids import RequestIds
from meshlib.proxy import http1_downstream
from meshlib.proxy.http1_downstream import PIPELINED, Http1Downstream
from meshlib.proxy.slow_clients import Wait
from meshlib.transport.protocol.http1_request import RequestReader


class Transport:
    """A client's. ``full``: the system takes nothing, and so it says ``pause_writing`` at the next write."""

    def __init__(self):
        self.down: Http1Downstream
        self.full = self.closing = False
        self.unsent = 0
        self.calls = []

    def write(self, data):
        if self.full and self.down.writable:
            self.down.pause_writing()

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def get_write_buffer_size(self):
        return self.unsent

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")


class Port:
    """Responds to each request at once."""

    proto, draining, tunnels = b"", False, None

    def __init__(self):
        self.ids, self.forwarder, self.core, self.loop = (
            RequestIds(random.Random(1)),
            self,
            SimpleNamespace(live=None),
            self,
        )
        self.served, self.soon, self.turn = [], [], self

    def create_future(self):
        return asyncio.get_running_loop().create_future()

    def call_soon(self, call):
        self.soon.append(call)

    def next_turn(self):
        soon, self.soon = self.soon, []
        for call in soon:
            call()

    def forward(self, request, responder):
        self.served.append(request.target)
        responder.respond(200, b"OK", [], b"whole", None)

    def opened(self, connection):
        pass

    closed = opened


def connected():
    port, transport = Port(), Transport()
    transport.down = down = Http1Downstream(port)
    down.connection_made(transport)
    return down, transport, port


def asked(number):
    return b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number


def test_a_client_that_does_not_read_responses_gets_no_more_of_them():
    """It could have any number of them kept for it, sending requests ahead."""
    down, transport, port = connected()
    transport.full = True
    down.data_received(asked(1) + asked(2) + asked(3))
    port.next_turn()
    assert port.served == [b"/1"]
    assert down.waits() == (Wait.NEXT, 1)  # not for a head, and so it hears no 408
    transport.full = False
    down.resume_writing()
    for _ in range(3):
        port.next_turn()
    assert port.served == [b"/1", b"/2", b"/3"]


def test_nor_does_it_when_it_asks_later_and_what_it_asks_is_read_no_further():
    down, transport, port = connected()
    transport.full = True
    down.data_received(asked(1))
    port.next_turn()
    for _ in range(2):
        down.data_received(asked(2) * (PIPELINED // 20))
    assert (port.served, transport.calls) == ([b"/1"], ["pause"])
    transport.full = False
    down.resume_writing()
    port.next_turn()
    assert (port.served, transport.calls) == ([b"/1", b"/2"], ["pause", "resume"])


async def test_who_waits_for_a_client_that_sends_no_more_waits_until_it_reads_or_has_gone():
    """Its transport is closing: what is written meanwhile would be kept, all of it."""
    down, transport, _ = connected()
    down.pause_writing()
    transport.closing = True
    waiting = asyncio.ensure_future(down.drained())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    down.connection_lost(None)
    await asyncio.wait_for(waiting, 20)


def test_a_client_that_is_behind_when_it_leaves_http_is_behind_in_the_tunnel(monkeypatch):
    said = []
    tunnel = SimpleNamespace(writable=said.append, received=None)
    monkeypatch.setattr(http1_downstream, "Tunnel", lambda *_: tunnel)
    down, transport, _ = connected()
    transport.full = True
    down.switch(101, b"Switching Protocols", [], None)  # type: ignore[arg-type]
    assert said == [False]


def test_a_connection_that_is_over_is_not_kept_until_the_garbage_collector_comes():
    def readers():
        return sum(type(each) is RequestReader for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = readers()
        down, transport, port = connected()
        down.data_received(asked(1) + asked(2))
        assert readers() == before + 1
        down.connection_lost(None)
        port.soon.clear()
        del down, transport.down, transport, port
        assert readers() == before
    finally:
        gc.enable()


def test_a_client_that_does_not_take_its_last_response_is_not_waited_for_without_end():
    down, transport, _ = connected()
    down.drain()
    assert (transport.calls, down.waits()) == (["close"], None)
    transport.unsent = 70_000
    assert down.waits() == (Wait.LEAVE, 70_000)
    down.give_up(Wait.LEAVE)
    assert transport.calls == ["close", "abort"]


@pytest.fixture
def written(monkeypatch):
    """By the transport."""
    found = []
    monkeypatch.setattr(Transport, "write", lambda _self, data: found.append(bytes(data)))
    return found


def test_a_response_is_written_when_the_turn_of_the_loop_ends(written):
    """Written between the work for one request and the next, each wakes its reader."""
    down, _, port = connected()
    down.data_received(asked(1))
    assert written == []
    port.next_turn()
    assert [each.count(b"whole") for each in written] == [1]


def test_a_connection_that_is_drained_after_its_response_loses_nothing_of_it(written):
    down, transport, _ = connected()
    down.data_received(asked(1))
    down.drain()
    assert [each.count(b"whole") for each in written] == [1]
    assert transport.calls == ["close"]


def test_nor_does_one_whose_client_sends_no_more(written):
    down, _, _ = connected()
    down.data_received(asked(1))
    assert down.eof_received() is False  # which closes the transport
    assert [each.count(b"whole") for each in written] == [1]


def test_to_a_client_that_has_gone_nothing_is_written(written):
    down, _, port = connected()
    down.data_received(asked(1))
    down.connection_lost(None)
    port.next_turn()
    assert written == []
