"""Which version of HTTP a client speaks: by ALPN over TLS, else by its first bytes, on one port."""

from __future__ import annotations

import asyncio
import importlib.util
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.proxy.slow_clients import Wait
from meshlib.transport.protocol.http2_client_frames import PREFACE

if TYPE_CHECKING:
    from collections.abc import Callable


class HttpVersion(Enum):
    """What a connection is to be read as."""

    HTTP1 = "http/1.1"
    HTTP2 = "h2"


def version_of(first: bytes) -> HttpVersion | None:
    """Of the first bytes of a connection; None: there are too few to tell. HTTP/2 is what begins as RFC 9113 (3.4) says, by
    prior knowledge; anything else is HTTP/1.1, or nothing, which its reader says."""
    if first[: len(PREFACE)] == PREFACE:
        return HttpVersion.HTTP2
    return None if PREFACE.startswith(first) else HttpVersion.HTTP1


def speaks_http2() -> bool:
    """Whether clients can be spoken to in HTTP/2: nghttp2 is there (extra ``proxy``)."""
    return importlib.util.find_spec("ngh2") is not None


class Chosen(asyncio.Protocol):
    """A connection whose version is not known yet: then ``made`` makes what reads on, which is told all that has come."""

    __slots__ = ("_first", "_listener", "_made", "transport")

    def __init__(self, listener: Port, made: Callable[[HttpVersion], Reader]) -> None:
        self._listener = listener
        self._made = made
        self._first = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._listener.opened(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == HttpVersion.HTTP2.value:
            self._go_on(HttpVersion.HTTP2)

    def data_received(self, data: bytes) -> None:
        self._first += data
        version = version_of(self._first)
        if version is not None:
            self._go_on(version)

    def _go_on(self, version: HttpVersion) -> Reader:
        reader, transport = self._made(version), self.transport
        self._listener.passed_on(self)
        transport.set_protocol(reader)
        reader.connection_made(transport)
        if self._first:
            reader.data_received(self._first)
        return reader

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.closed(self)

    def drain(self) -> None:
        """It has asked for nothing."""
        self.transport.close()

    def waits(self) -> tuple[Wait, int]:
        """What the client is waited for (``slow_clients.py``): whatever of a first request it has sent, there is none yet."""
        return (Wait.HEAD if self._first else Wait.NEXT), 0

    def give_up(self, wait: Wait) -> None:
        """It is not waited for any longer: what it has begun is said to be too late as to a client of HTTP/1.1."""
        if wait is Wait.NEXT:
            self.transport.close()
        else:
            self._go_on(HttpVersion.HTTP1).give_up(wait)


class Reader(Protocol):
    """What reads a connection once its version is known."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def give_up(self, wait: Wait) -> None: ...


class Port(Protocol):
    """What a connection came in by."""

    def opened(self, connection: Chosen) -> None: ...
    def closed(self, connection: Chosen) -> None: ...
    def passed_on(self, connection: Chosen) -> None: ...
