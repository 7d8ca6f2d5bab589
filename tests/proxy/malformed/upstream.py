"""The upstream of a case: one port a host, which keeps what it receives, byte for byte, and answers each whole request with
200.

Every response says ``connection: close``, so that the next request comes on a connection of its own; what follows a request
on its connection nevertheless was never meant to be one, and is kept as ``surplus``.
"""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class Message(NamedTuple):
    """A request as the upstream read it. ``headers``: names in lower case, in order, without those that frame the body.
    ``framing``: none, length or chunks. ``surplus``: bytes behind its end."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    framing: str
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...]
    surplus: bytes


class Garbage(Exception):
    """What arrived is not one request in the only way that HTTP/1.1 writes it."""


def read(data: bytes) -> Message | None:
    """The request that ``data`` begins with, read strictly. None: it is not complete. Raises ``Garbage``."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise Garbage(f"request line {first[:100]!r}")
    headers = _headers(lines)
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    others = tuple(pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding"))
    if len(lengths) + len(codings) > 1 or (codings and codings[0].lower() != b"chunked"):
        raise Garbage(f"lengths {lengths}, codings {codings}")
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    framing, body = "none", b""
    if codings:
        chunked = _chunks(rest)
        if chunked is None:
            return None
        framing, (body, trailers, rest) = "chunks", chunked
    elif lengths:
        if not re.fullmatch(rb"[0-9]{1,40}", lengths[0]):
            raise Garbage(f"length {lengths[0]!r}")
        size = int(lengths[0])
        if len(rest) < size:
            return None
        body, rest = rest[:size], rest[size:]
        framing = "length" if size else "none"
    return Message(line[1], line[2], others, framing, body, trailers, rest)


def _headers(lines: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is None:
            raise Garbage(f"header {each[:100]!r}")
        found.append((header[1].lower(), header[2]))
    return tuple(found)


def _chunks(data: bytes) -> tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes] | None:
    body, at = [], 0
    while True:
        size = _SIZE.match(data, at)
        if size is None:
            if b"\r\n" in data[at:]:
                raise Garbage(f"chunk {data[at : at + 50]!r}")
            return None
        at, count = size.end(), int(size[1], 16)
        if count:
            if len(data) < at + count + 2:
                return None
            if data[at + count : at + count + 2] != b"\r\n":
                raise Garbage(f"end of chunk {data[at + count : at + count + 20]!r}")
            body.append(data[at : at + count])
            at += count + 2
        elif data[at : at + 2] == b"\r\n":
            return b"".join(body), (), data[at + 2 :]
        else:
            trailers, end, rest = data[at:].partition(b"\r\n\r\n")
            return (b"".join(body), _headers(trailers.split(b"\r\n")), rest) if end else None


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._answered = False
        self.data = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._upstream._began(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self._answered:
            return
        try:
            message = read(self.data)
        except Garbage:
            self.transport.close()
            self._answered = True
            return
        if message is not None:
            self._answered = True
            upgrade = dict(message.headers).get(b"upgrade")
            if upgrade is not None and message.target == b"/switch":
                self.transport.write(SWITCHED % upgrade)
            else:
                self.transport.write(OK)
                self.transport.write_eof()

    def connection_lost(self, _error: Exception | None) -> None:
        self._upstream._ended(self)


class Upstream:
    """One port of loopback. Used for one case at a time."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._open: set[_Connection] = set()
        self._seen: list[_Connection] = []
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def received(self, seconds: float) -> list[bytes]:
        """The bytes of each connection since the last call, once all of them are closed. What has not ended within so many
        seconds is ended here."""
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            for each in list(self._open):
                each.transport.abort()
        found = [each.data for each in self._seen if each.data]
        self._seen.clear()
        return found

    async def close(self) -> None:
        for each in list(self._open):
            each.transport.abort()
        if self._server is not None:
            self._server.close()

    def _began(self, connection: _Connection) -> None:
        self._open.add(connection)
        self._seen.append(connection)
        self._quiet.clear()

    def _ended(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._quiet.set()
