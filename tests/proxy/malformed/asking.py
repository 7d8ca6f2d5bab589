"""Sends cases to a proxy and notes what came of each: the responses, what the upstream received, and whether the connection
is still good.

Behind the first whole response one more request is sent (``SENTINEL``, which asks for the connection to be closed). When it
is answered and reaches the upstream, the proxy was where the client was; and no time has to pass to know that nothing more is
coming.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from hpack import Decoder

from tests.proxy.malformed.case import SHOP, Case
from tests.proxy.malformed.upstream import Garbage, Message, Upstream, read

SLOTS = 48
SENTINEL_TARGET = b"/sentinel"
SENTINEL = b"GET " + SENTINEL_TARGET + b" HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
OURS = (
    b"x-request-id",
    b"x-forwarded-proto",
    b"x-forwarded-for",
    b"x-envoy-",
    b"traceparent",
    b"tracestate",
    b"x-b3-",
    b"b3",
)
"""Headers (beginnings of names) that a proxy adds: they are not kept. No case sends one with a meaning."""
GRACE = 0.5
"""Seconds that upstream connections have to end when the client's has."""


class Result(NamedTuple):
    """``statuses``: of all responses, interim ones too, without the sentinel's. ``end``: closed (by the proxy), open (the
    client gave up), or wait (no response came). ``upstream``: what arrived whole. ``garbage``: what is wrong with what
    arrived and is no request. ``in_step``: the sentinel was answered by the upstream."""

    statuses: tuple[int, ...]
    end: str
    upstream: tuple[Message, ...] = ()
    garbage: tuple[bytes, ...] = ()
    in_step: bool = False


class Slot:
    """A host of the proxy's and its upstream. ``proxy``: where it is asked for, if not where all are."""

    proxy: tuple[str, int] | None = None

    def __init__(self, at: int, port: int = 0) -> None:
        self.host = b"shop%02d" % at
        self.upstream = Upstream(port)

    def canonical(self, data: bytes) -> bytes:
        return data.replace(self.host, SHOP).replace(self.host.upper(), SHOP.upper())


@contextlib.asynccontextmanager
async def slots(count: int = SLOTS, first_port: int = 0) -> AsyncIterator[list[Slot]]:
    """Hosts shop01, shop02, ... each with its own upstream port (counted from the first; 0: whatever is free)."""
    made = [Slot(at, first_port and first_port + at - 1) for at in range(1, count + 1)]
    for slot in made:
        await slot.upstream.start()
    try:
        yield made
    finally:
        for slot in made:
            await slot.upstream.close()


async def ask_all(
    proxy: tuple[str, int], slots: list[Slot], cases: Iterable[Case], patience: Callable[[Case], float]
) -> dict[str, Result]:
    """What came of each case, by id. ``patience``: seconds that a case may take to be answered."""
    left, found = iter(cases), {}

    async def work(slot: Slot) -> None:
        for case in left:
            found[case.id] = await ask(proxy, slot, case, patience(case))

    await asyncio.gather(*map(work, slots))
    return found


async def ask(proxy: tuple[str, int], slot: Slot, case: Case, patience: float) -> Result:
    """What came of one case."""
    client = (Http2Client if case.family.startswith("h2-") else _Client)(slot, case)
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(patience):
            await client.talk(slot.proxy or proxy)
    client.close()
    statuses, end = client.statuses, client.end
    whole, garbage, in_step = [], [], False
    for data in await slot.upstream.received(GRACE):
        try:
            message = read(slot.canonical(data))
        except Garbage as error:
            garbage.append(str(error).encode())
            continue
        if message is None:
            continue  # cut short: nobody takes it for a request
        if client.sent_sentinel and message.target == SENTINEL_TARGET and not message.surplus:
            in_step = True
            continue
        whole.append(message._replace(headers=tuple(pair for pair in message.headers if not pair[0].startswith(OURS))))
    if in_step and statuses:
        statuses = statuses[:-1]
    # several at once are answered in order and arrive upstream in any
    return Result(tuple(statuses), end, tuple(sorted(whole)), tuple(garbage), in_step)


class _Client:
    def __init__(self, slot: Slot, case: Case) -> None:
        self.statuses: list[int] = []
        self.end = "wait"
        self.sent_sentinel = False
        self._slot, self._case = slot, case
        self._to_head = case.data.lstrip(b"\r\n").startswith(b"HEAD")  # Envoy's refusals have a body nevertheless
        self._answered = asyncio.Event()  # by a whole response, not an interim one
        self._writer: asyncio.StreamWriter | None = None

    async def talk(self, proxy: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*proxy, limit=2**22)
        self._writer = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sending = asyncio.ensure_future(self._send(writer))
        try:
            while await self._response(reader):
                self.end = "open"
            self.end = "closed"
        except (ConnectionError, asyncio.IncompleteReadError):
            self.end = "closed"
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sending

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        for piece in self._case.pieces(self._slot.host):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if self._case.leaves:
            writer.write_eof()
            return
        await self._answered.wait()
        self.sent_sentinel = True
        writer.write(SENTINEL % self._slot.host)

    async def _response(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            if cut.partial and not self._to_head:
                self.statuses.append(-1)  # not HTTP
            return False
        status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") and head[9:12].isdigit() else -1
        self.statuses.append(status)
        if status == -1 or status == 101:
            return False
        if status < 200:
            return True
        lower = head.lower()
        size = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or b"0")
        if self._to_head:
            pass
        elif b"\r\ntransfer-encoding: chunked" in lower:
            await reader.readuntil(b"0\r\n\r\n")
        elif size:
            await reader.readexactly(size)
        self._answered.set()
        return True

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Http2Client:
    """Sends a connection of HTTP/2 and reads what comes of its stream 1. Other streams would go on in any case: none is
    begun."""

    sent_sentinel = False

    def __init__(self, slot: Slot, case: Case) -> None:
        self.statuses: list[int] = []
        self.end = "wait"
        self._slot, self._case = slot, case
        self._decoder = Decoder()
        self._writer: asyncio.StreamWriter | None = None

    async def talk(self, proxy: tuple[str, int]) -> None:
        reader, self._writer = await asyncio.open_connection(*proxy)
        self._writer.write(b"".join(self._case.pieces(self._slot.host)))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not await self._frame(reader):
                pass
        self.end = "closed"

    async def _frame(self, reader: asyncio.StreamReader) -> bool:
        """Read one; whether it is the last word about stream 1."""
        start = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
        kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big")
        if kind == GOAWAY:
            return payload[4:8] != bytes(4)
        if stream != 1:
            return False
        if kind == HEADERS:
            fields = dict(self._decoder.decode(payload, raw=True))
            if b":status" in fields:
                self.statuses.append(int(fields[b":status"]))
        return kind == RST_STREAM or bool(kind in (DATA, HEADERS) and flags & END_STREAM)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


DATA, HEADERS, RST_STREAM, GOAWAY = 0, 1, 3, 7
END_STREAM = 1
