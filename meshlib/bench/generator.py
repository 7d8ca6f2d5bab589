"""A load generator of HTTP/1.1: bytes out, bytes in, no client library, for what is measured by itself (proxies, servers).

``python -m meshlib.bench.generator '{"url": "http://127.0.0.1:PORT", ...}'``: rounds as the parent asks for them. Its own limit
is what it makes without anything between it and the backend: the row ``no proxy``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from meshlib.bench.http_client import AUTHORITY, Wrong, run_on_a_loop
from meshlib.bench.measuring import Asked, Taken, serve_taken

SECONDS = 10.0
"""A response takes at most."""
_LENGTH = b"\r\ncontent-length:"
_GOOD = b"HTTP/1.1 200 "


class Connection(asyncio.Protocol):
    """One, with a request on it or none. ``responded`` is called with it at the end of each response, ``failed`` with why
    there is none."""

    def __init__(self, responded: Callable[[Connection], None], failed: Callable[[Exception], None]) -> None:
        self.due = 0.0
        """When the request under way was."""
        self.body = 0
        self.closed = False
        self._responded = responded
        self._failed = failed
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, body: int, due: float) -> None:
        assert self._transport is not None
        self.due, self.body = due, body
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        read = self._read = self._read + data if self._read else data
        head = read.find(b"\r\n\r\n")
        if head < 0:
            return
        if read[:13] != _GOOD:
            self._failed(Wrong(f"the response is {read[:60]!r}, not 200"))
            return
        at = read.find(_LENGTH, 0, head)
        if at < 0:
            at = read[:head].lower().find(_LENGTH)
        end = read.find(b"\r", at + len(_LENGTH), head + 1)
        length = int(read[at + len(_LENGTH) : end]) if at >= 0 else -1
        if length != self.body:
            self._failed(Wrong(f"the response has content-length {length if at >= 0 else None}, not {self.body}"))
            return
        if len(read) - head - 4 >= length:
            self._read = b""
            self._responded(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._failed(exc or ConnectionError("the connection was closed"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Load:
    """Rounds over connections that are kept from one to the next."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._kept: list[Connection] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._taken = Taken()
        self._asked = Asked(0, 0, 0.0)
        self._until = 0.0
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._left = 0
        """Connections of a closed loop that have not made their last call, calls of an open one that are not over."""

    async def round(self, asked: Asked) -> Taken:
        """Raises Wrong, ConnectionError, TimeoutError."""
        self._kept = [each for each in self._kept if not each.closed]  # between rounds
        while len(self._kept) < asked.in_flight:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._responded, self._failed), *self._address
            )
            self._kept.append(connection)
        self._asked, self._taken, self._over = asked, Taken(), self._loop.create_future()
        began = self._loop.time()
        self._until = began + asked.seconds
        connections = self._kept[: asked.in_flight]
        if asked.rate:
            self._idle, self._waiting = list(connections), deque()
            self._left = round(asked.rate * asked.seconds)
            for n in range(self._left):
                self._loop.call_at(began + n / asked.rate, self._is_due, began + n / asked.rate)
        else:
            self._left = len(connections)
            for each in connections:
                self._send(each, self._loop.time())
        try:
            async with asyncio.timeout(asked.seconds + SECONDS):
                await self._over
        except BaseException:
            self.close()
            raise
        return self._taken

    def close(self) -> None:
        """All connections, in the loop's next turn."""
        for each in self._kept:
            each.close()
        self._kept = []

    def _send(self, connection: Connection, due: float) -> None:
        self._count += 1
        body = self._asked.body
        request = b"GET /size/%d?n=%d HTTP/1.1\r\nhost: %b\r\nx-request-id: %032x\r\n\r\n"
        connection.send(request % (body, self._count, AUTHORITY.encode(), self._count), body, due)

    def _is_due(self, due: float) -> None:
        if self._idle:
            self._taken.late.append(self._loop.time() - due)
            self._send(self._idle.pop(), due)
        else:
            self._waiting.append(due)

    def _responded(self, connection: Connection) -> None:
        now = self._loop.time()
        self._taken.latencies.append(now - connection.due)
        if self._asked.rate:
            self._left -= 1
            if self._waiting:
                due = self._waiting.popleft()
                self._taken.late.append(now - due)
                self._send(connection, due)
            else:
                self._idle.append(connection)
        elif now < self._until:
            self._send(connection, now)
        else:
            self._left -= 1
        if self._left == 0 and not self._over.done():
            self._over.set_result(None)

    def _failed(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)


async def _serve(spec: dict[str, Any]) -> None:
    load = Load(spec["url"])
    await serve_taken(load.round)


if __name__ == "__main__":
    asked_for = json.loads(sys.argv[1])
    run_on_a_loop(lambda: _serve(asked_for), exact=bool(asked_for.get("exact")))
