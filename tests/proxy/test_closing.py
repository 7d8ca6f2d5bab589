"""Connections that close while their clients are still sending."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame

from meshlib.proxy import closing
from meshlib.proxy.closing import Leaving
from meshlib.serving.joined_writes import JoinedWrites
from meshlib.transport.protocol.http2_client_frames import PREFACE
from tests.support.eventually import eventually
from tests.support.h2_client import H2Client
from tests.support.proxy import Client, Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


@pytest.fixture
def proxy(monkeypatch):
    monkeypatch.setattr(closing, "LINGER", 60.0)  # a machine may be slow
    with EchoServer("v1") as server, Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as made:
        yield made


PING = PingFrame(opaque_data=b"12345678").serialize()


def resets(client: Client) -> bool:
    try:
        client.send(b"x")
    except OSError:
        return True
    return False


def rest(sock: socket.socket) -> bytes:
    """All that comes. Raises ConnectionResetError where the connection is broken off, not closed."""
    found = b""
    while more := sock.recv(65536):
        found += more
    return found


def test_a_client_that_goes_on_sending_reads_why_it_was_refused(proxy):
    with Client(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nHost: b\r\nContent-Length: 1000000\r\n\r\n")
        client.sock.recv(1, socket.MSG_PEEK)  # the proxy has closed its side
        for _ in range(10):
            client.send(b"x" * 100_000)
        found = rest(client.sock)
    assert found.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in found


def test_a_client_whose_body_is_not_wanted_reads_the_response(proxy):
    with Client(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: nobody\r\nContent-Length: 1000000\r\n\r\n")
        client.sock.recv(1, socket.MSG_PEEK)
        for _ in range(10):
            client.send(b"x" * 100_000)
        found = rest(client.sock)
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close\r\n" in found


def test_a_client_of_http2_that_has_said_goodbye_is_not_reset(proxy):
    with H2Client(proxy.port) as client:
        client.get()
        client.sock.sendall(GoAwayFrame(last_stream_id=0, error_code=0xFF).serialize() + PING * 50_000)
        rest(client.sock)


def test_a_client_that_breaks_http2_reads_the_goaway(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as sock:
        sock.sendall(PREFACE + PING)  # no SETTINGS
        sock.recv(1, socket.MSG_PEEK)
        sock.sendall(PING * 50_000)
        assert b"SETTINGS expected" in rest(sock)


def test_a_client_that_never_closes_is_left_in_the_end(proxy, monkeypatch):
    monkeypatch.setattr(closing, "LINGER", 0.01)
    with Client(proxy.port) as client:
        client.send(b"nonsense\r\n\r\n")
        rest(client.sock)
        assert eventually(lambda: resets(client))  # what comes after the close


class Transport(asyncio.Transport):
    """What was done to it."""

    def __init__(self, half: bool = True, unsent: int = 0, over: bool = False, gone: bool = False) -> None:
        super().__init__({"peername": "somebody"})
        self.half, self.unsent, self.over, self.gone = half, unsent, over, gone
        self.done: list[str] = []
        self.protocol: asyncio.BaseProtocol

    def can_write_eof(self) -> bool:
        return self.half

    def write(self, data: bytes) -> None:
        self.done.append("write " + data.decode().strip())

    def write_eof(self) -> None:
        if self.gone:
            raise OSError("Transport endpoint is not connected")
        self.done.append("eof")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")


class Owner:
    lost: object = "not yet"

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = error


class Timer:
    """One that was set."""

    def __init__(self, delay: float, run: Callable[[], None]) -> None:
        self.delay, self.run = delay, run
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Its last timer."""

    timer: Timer | None = None

    def call_soon(self, function: Callable[[], None]) -> None:
        """Its turn does not end."""

    def call_later(self, delay: float, run: Callable[[], None]) -> Timer:
        self.timer = Timer(delay, run)
        return self.timer


def leaving(transport: Transport) -> tuple[Leaving, Owner, Loop]:
    owner, loop = Owner(), Loop()
    return Leaving(transport, owner, loop), owner, loop


def test_its_owner_is_told_when_it_is_gone():
    transport = Transport()
    made, owner, loop = leaving(transport)
    assert transport.done == ["eof", "resume"]
    assert made.eof_received() is False
    made.connection_lost(None)
    assert owner.lost is None
    assert loop.timer.cancelled


def test_one_without_halves_closes_when_the_client_has_had_its_time():
    transport = Transport(half=False)
    _, _, loop = leaving(transport)
    assert transport.done == ["resume"]
    assert loop.timer.delay == closing.LINGER
    loop.timer.run()
    assert transport.done == ["resume", "close"]


def test_what_was_joined_over_tls_is_sent_although_the_client_has_closed_its_side():
    transport = Transport(half=False)
    joined = JoinedWrites(transport, Loop())
    joined.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    made, _, _ = leaving(joined)
    assert made.eof_received() is False
    assert transport.done == ["write HTTP/1.1 400 Bad Request", "resume"]


def test_the_time_begins_when_everything_has_been_sent():
    transport = Transport(unsent=10)
    made, _, loop = leaving(transport)
    loop.timer.run()
    assert transport.done == ["eof", "resume"]
    assert made.get_write_buffer_size() == 10
    transport.unsent = 0
    loop.timer.run()
    assert transport.done == ["eof", "resume", "close"]


def test_it_is_a_transport_that_closes():
    transport = Transport()
    made, _, _ = leaving(transport)
    made.write(b"x")
    made.close()
    made.pause_reading()
    made.resume_reading()
    made.data_received(b"x")
    assert made.is_closing()
    assert made.get_extra_info("peername") == "somebody"
    assert transport.done == ["eof", "resume"]
    made.abort()
    assert transport.done == ["eof", "resume", "abort"]


def test_a_client_that_has_gone_is_not_waited_for():
    transport = Transport(gone=True)
    made, owner, loop = leaving(transport)
    assert transport.done == ["close"]
    assert loop.timer is None
    made.connection_lost(None)
    assert owner.lost is None


def test_one_that_closes_already_is_left_to_it():
    transport = Transport(over=True)
    made, _, loop = leaving(transport)
    assert transport.done == []
    assert loop.timer is None
    assert made.is_closing()
