"""Which version of HTTP a client speaks."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.proxy.http_version import Chosen, HttpVersion, version_of
from meshlib.proxy.slow_clients import Wait

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize("size", range(len(PREFACE)))
def test_the_beginning_of_a_preface_does_not_tell_yet(size):
    assert version_of(PREFACE[:size]) is None
    assert version_of(PREFACE[:size] + b"x") is HttpVersion.HTTP1


def test_the_whole_of_it_is_http2_whatever_follows():
    assert version_of(PREFACE) is version_of(PREFACE + b"\0\0\0") is HttpVersion.HTTP2


@pytest.mark.parametrize("first", [b"G", b"PUT / HTTP/1.1\r\n", b"PRI / HTTP/1.1\r\n", b"\x16\x03\x01"])
def test_anything_else_is_for_the_reader_of_http1(first):
    assert version_of(first) is HttpVersion.HTTP1


class Transport:
    """A connection; ``alpn``: what was agreed upon over TLS."""

    def __init__(self, alpn: str | None = "plain") -> None:
        self.alpn = alpn
        self.protocol: object = None
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        return None if self.alpn == "plain" else self

    def selected_alpn_protocol(self) -> str | None:
        return self.alpn

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def close(self) -> None:
        self.closed = True


class Reader(asyncio.Protocol):
    def __init__(self, version: HttpVersion) -> None:
        self.version = version
        self.told: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append(transport)

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def give_up(self, wait: Wait) -> None:
        self.told.append(wait)


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def opened(self, connection: object) -> None:
        self.said.append("opened")

    def closed(self, connection: object) -> None:
        self.said.append("closed")

    def passed_on(self, connection: object) -> None:
        self.said.append("passed on")


def chosen(transport: Transport) -> tuple[Chosen, Listener]:
    listener = Listener()
    made = Chosen(listener, Reader)
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, listener


def test_the_reader_gets_all_that_had_come():
    transport = Transport()
    made, listener = chosen(transport)
    made.data_received(PREFACE[:5])
    assert transport.protocol is None
    made.data_received(PREFACE[5:] + b"more")
    reader = transport.protocol
    assert isinstance(reader, Reader)
    assert (reader.version, reader.told) == (HttpVersion.HTTP2, [transport, PREFACE + b"more"])
    assert listener.said == ["opened", "passed on"]


def test_over_tls_http2_is_what_was_agreed_upon():
    transport = Transport("h2")
    chosen(transport)
    reader = transport.protocol
    assert isinstance(reader, Reader)
    assert (reader.version, reader.told) == (HttpVersion.HTTP2, [transport])


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_over_tls_without_that_the_first_bytes_tell(alpn):
    transport = Transport(alpn)
    made, _ = chosen(transport)
    assert transport.protocol is None
    made.data_received(b"GET")
    reader = transport.protocol
    assert isinstance(reader, Reader)
    assert reader.version is HttpVersion.HTTP1


def test_a_client_that_says_nothing_is_counted_and_closed_when_the_listener_drains():
    transport = Transport()
    made, listener = chosen(transport)
    made.drain()
    assert transport.closed
    made.connection_lost(None)
    assert listener.said == ["opened", "closed"]


def test_a_client_that_does_not_go_on_is_not_waited_for_without_end():
    transport = Transport()
    made, _ = chosen(transport)
    assert made.waits() == (Wait.NEXT, 0)
    made.give_up(Wait.NEXT)
    assert transport.closed


def test_a_client_that_has_begun_is_told_that_it_is_too_late():
    transport = Transport()
    made, _ = chosen(transport)
    made.data_received(b"P")
    assert made.waits() == (Wait.HEAD, 0)
    made.give_up(Wait.HEAD)
    reader = transport.protocol
    assert isinstance(reader, Reader)
    assert (reader.version, reader.told[1:]) == (HttpVersion.HTTP1, [b"P", Wait.HEAD])
