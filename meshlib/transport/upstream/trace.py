"""The ``trace`` extension of a request: the caller is told what happens on the wire, in httpcore's events.

``started``, then ``complete`` (with ``return_value``) or ``failed`` (with ``exception``), of ``connection.connect_tcp``,
``connection.connect_unix_socket``, ``connection.start_tls``, ``http11.`` (or ``http2.``) ``send_request_headers``,
``send_request_body``, ``receive_response_headers``, ``receive_response_body`` and ``response_closed``, and
``http2.send_connection_init``. Each attempt tells its own.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from typing import NamedTuple, Protocol

from meshlib.engine.outcome import Outcome
from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.raw_head import Headers
from meshlib.transport.upstream.target import Target


class TracedUrl(NamedTuple):
    """As ``httpcore.URL``."""

    scheme: bytes
    host: bytes
    port: int
    target: bytes


class TracedRequest(NamedTuple):
    """As ``httpcore.Request``: one attempt, as it goes to its endpoint."""

    method: bytes
    url: TracedUrl
    headers: RawHeaders


class Told:
    """What there is to await when everything has been told already."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


TOLD = Told()


class Trace:
    """The events of one call. Each method returns what is to be awaited on event loops, and blocking clients ignore."""

    __slots__ = ("_call", "_under_way", "version")

    def __init__(self, call: Callable[[str, dict[str, object]], object]) -> None:
        self._call = call
        self._under_way = ""
        self.version = "http11"

    def started(self, name: str, info: dict[str, object] | None = None) -> Awaitable[None]:
        """Something begins; there is one thing at a time."""
        self._under_way = name
        return self._tell(f"{name}.started", info or {})

    def complete(self, value: object = None) -> Awaitable[None]:
        """What began last went well."""
        name, self._under_way = self._under_way, ""
        return self._tell(f"{name}.complete", {"return_value": value})

    def failed(self, error: BaseException) -> Awaitable[None]:
        """What began last, if it is not over, did not."""
        name, self._under_way = self._under_way, ""
        return self._tell(f"{name}.failed" if name else "", {"exception": error})

    def abandon(self) -> None:
        """What began last will not be told of any more."""
        self._under_way = ""

    def connecting(self, target: Target, timeout: float | None) -> Awaitable[None]:
        """A connection begins."""
        if target.host.startswith("unix://"):
            path = target.host.removeprefix("unix://")
            return self.started("connection.connect_unix_socket", {"path": path, "timeout": timeout})
        info = {"host": target.host, "port": target.port, "timeout": timeout}
        return self.started("connection.connect_tcp", {**info, "local_address": None, "socket_options": None})

    def starting_tls(self, target: Target, context: object, timeout: float | None) -> Awaitable[None]:
        """It is there, and the handshake begins."""
        name = target.server_hostname or target.host
        return self.started(
            "connection.start_tls", {"ssl_context": context, "server_hostname": name, "timeout": timeout}
        )

    def send_headers(self, method: bytes, request_target: bytes, headers: Headers, target: Target) -> Awaitable[None]:
        """The request begins."""
        url = TracedUrl(target.scheme, target.host.encode(), target.port, request_target)
        request = TracedRequest(method, url, list(headers))
        return self.started(f"{self.version}.send_request_headers", {"request": request})

    def step(self, name: str) -> Awaitable[None]:
        """The next thing of the request or response begins."""
        return self.started(f"{self.version}.{name}")

    def ended(self, outcome: Outcome) -> Awaitable[None]:
        """The head came, or will not."""
        if outcome.failure is not None:
            return self.failed(outcome.error or ConnectionError(outcome.detail))
        if self.version == "http2":
            return self.complete((outcome.status, outcome.headers))
        return self.complete((outcome.http_version, outcome.status, outcome.reason, outcome.headers))

    def sent(self) -> Awaitable[None]:
        """The request is written, its head and body perhaps at once."""
        raise NotImplementedError

    def _tell(self, name: str, info: dict[str, object]) -> Awaitable[None]:
        raise NotImplementedError


class SyncTrace(Trace):
    """For blocking clients. Raises TypeError when the caller's function is a coroutine function."""

    __slots__ = ()

    def sent(self) -> Awaitable[None]:
        """The request is written, its head and body perhaps at once."""
        if self._under_way.endswith("headers"):
            self.complete()
            self.step("send_request_body")
        self.complete()
        return self.step("receive_response_headers")

    def _tell(self, name: str, info: dict[str, object]) -> Awaitable[None]:
        result = self._call(name, info) if name else None
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                "the trace extension of a blocking client must be a plain function, not a coroutine function"
            )
        return TOLD


class AsyncTrace(Trace):
    """For event loops; the caller's function may be either."""

    __slots__ = ()

    async def sent(self) -> None:
        """As ``SyncTrace.sent``."""
        if self._under_way.endswith("headers"):
            await self.complete()
            await self.step("send_request_body")
        await self.complete()
        await self.step("receive_response_headers")

    async def _tell(self, name: str, info: dict[str, object]) -> None:
        result = self._call(name, info) if name else None
        if inspect.isawaitable(result):
            await result


class Notes(AsyncTrace):
    """What happened to a connection that is made for several calls: told to the first of them when it is there."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        super().__init__(lambda name, info: self.events.append((name, info)))

    async def tell(self, trace: Trace) -> None:
        """Now."""
        for name, info in self.events:
            await trace._tell(name, info)


class Stream(Iterable[bytes], Protocol):
    """httpx's SyncByteStream."""

    def close(self) -> None:
        """End the response."""


class AsyncStream(AsyncIterable[bytes], Protocol):
    """httpx's AsyncByteStream."""

    async def aclose(self) -> None:
        """End the response."""


class TracedBody:
    """A response's stream that tells of itself, blocking."""

    def __init__(self, stream: Stream, trace: Trace) -> None:
        self._stream = stream
        self._trace = trace

    def __iter__(self) -> Iterator[bytes]:
        self._trace.step("receive_response_body")
        try:
            yield from self._stream
        except BaseException as error:
            self._trace.failed(error)
            raise
        self._trace.complete()

    def close(self) -> None:
        """End the response."""
        self._trace.step("response_closed")
        try:
            self._stream.close()
        except BaseException as error:
            self._trace.failed(error)
            raise
        self._trace.complete()


class AsyncTracedBody:
    """A response's stream that tells of itself, on an event loop."""

    def __init__(self, stream: AsyncStream, trace: Trace) -> None:
        self._stream = stream
        self._trace = trace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._trace.step("receive_response_body")
        try:
            async for chunk in self._stream:
                yield chunk
        except GeneratorExit:
            self._trace.abandon()  # nothing may be awaited any more
            raise
        except BaseException as error:
            await self._trace.failed(error)
            raise
        await self._trace.complete()

    async def aclose(self) -> None:
        """End the response."""
        await self._trace.step("response_closed")
        try:
            await self._stream.aclose()
        except BaseException as error:
            await self._trace.failed(error)
            raise
        await self._trace.complete()
