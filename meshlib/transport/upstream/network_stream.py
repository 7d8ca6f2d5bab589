"""``response.extensions["network_stream"]``: httpcore's interface to the connection that carried a response.

A connection of a pool tells about itself (``get_extra_info``: client_addr, server_addr, ssl_object, socket), and is not
read or written by others than the mesh. After 101 Switching Protocols it is the caller's, with httpcore's exceptions.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import NamedTuple

from meshlib.problems import said
from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.upstream.switched import AsyncSwitched, SyncSwitched, extra_of_socket, extra_of_transport
from meshlib.transport.upstream.tls_socket import AnySocket

_POOLED = (
    "this connection belongs to a pool of the mesh; raw reads and writes are for responses with status 101 "
    "(Switching Protocols)"
)


class PooledStream:
    """A connection of threads. One for all its responses, so that none pays for it."""

    __slots__ = ("_reader", "_sock", "local_text")
    local_text: bytes
    """Our address of it, as an access log shows it, once one has asked."""

    def __init__(self, sock: AnySocket, reader: ResponseReader | None = None) -> None:
        self._sock = sock
        self._reader = reader

    def get_extra_info(self, info: str) -> object:
        """What ``httpcore.NetworkStream.get_extra_info`` tells; None for what is not known."""
        return extra_of_socket(self._sock, info)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raises RuntimeError."""
        raise RuntimeError(_POOLED)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises RuntimeError."""
        raise RuntimeError(_POOLED)

    def close(self) -> None:
        """The connection carries no further request (HTTP/1.1; in HTTP/2 other calls are on it)."""
        if self._reader is not None:
            self._reader.poisoned = True


class AsyncPooledStream:
    """A connection of an event loop."""

    __slots__ = ("_reader", "_transport", "local_text")
    local_text: bytes
    """As ``PooledStream``'s."""

    def __init__(self, transport: asyncio.BaseTransport, reader: ResponseReader | None = None) -> None:
        self._transport = transport
        self._reader = reader

    def get_extra_info(self, info: str) -> object:
        """What ``httpcore.AsyncNetworkStream.get_extra_info`` tells; None for what is not known."""
        return extra_of_transport(self._transport, info)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raises RuntimeError."""
        raise RuntimeError(_POOLED)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises RuntimeError."""
        raise RuntimeError(_POOLED)

    async def aclose(self) -> None:
        """As ``PooledStream.close``."""
        if self._reader is not None:
            self._reader.poisoned = True


class SwitchedStreams(NamedTuple):
    """The two classes over one httpcore."""

    sync: Callable[[SyncSwitched, Callable[[], None]], object]
    asynchronous: Callable[[AsyncSwitched, Callable[[], Awaitable[None]]], object]


@functools.cache
def switched_streams(module: ModuleType) -> SwitchedStreams:
    """Streams of connections that have switched protocols, for callers of ``module`` (httpx or httpx2). ``close`` closes the
    response too, and with it what the call holds."""
    core = importlib.import_module(module.__name__.replace("httpx", "httpcore"))

    class Stream(core.NetworkStream):  # type: ignore[misc,name-defined]
        def __init__(self, switched: SyncSwitched, close: Callable[[], None]) -> None:
            self._switched = switched
            self._close = close

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            try:
                data = self._switched.read(max_bytes, timeout)
            except TimeoutError as error:
                raise core.ReadTimeout(said(error)) from error
            except OSError as error:
                raise core.ReadError(said(error)) from error
            return data

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            try:
                self._switched.write(buffer, timeout)
            except TimeoutError as error:
                raise core.WriteTimeout(said(error)) from error
            except OSError as error:
                raise core.WriteError(said(error)) from error

        def close(self) -> None:
            self._close()

        def get_extra_info(self, info: str) -> object:
            return self._switched.extra(info)

    class AsyncStream(core.AsyncNetworkStream):  # type: ignore[misc,name-defined]
        def __init__(self, switched: AsyncSwitched, close: Callable[[], Awaitable[None]]) -> None:
            self._switched = switched
            self._close = close

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            try:
                data = await self._switched.read(max_bytes, timeout)
            except TimeoutError as error:
                raise core.ReadTimeout(said(error)) from error
            except OSError as error:
                raise core.ReadError(said(error)) from error
            return data

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            try:
                await self._switched.write(buffer, timeout)
            except TimeoutError as error:
                raise core.WriteTimeout(said(error)) from error
            except OSError as error:
                raise core.WriteError(said(error)) from error

        async def aclose(self) -> None:
            await self._close()

        def get_extra_info(self, info: str) -> object:
            return self._switched.extra(info)

    return SwitchedStreams(Stream, AsyncStream)
