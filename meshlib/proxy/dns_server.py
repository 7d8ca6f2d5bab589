"""The port of ``--dns-capture``: queries over UDP and TCP, of this machine alone. Names of the mesh are told at once
(``dns_names.py``), all others by the resolvers (``dns_upstream.py``)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.proxy.dns_messages import MOST, Malformed, Query, failed, fitting, query_of, told
from meshlib.proxy.dns_names import Names, Network

if TYPE_CHECKING:
    from meshlib.compiler.visible_hosts import VisibleHosts
    from meshlib.proxy.dns_upstream import Resolvers
    from meshlib.transport.core.mesh_core import MeshCore

BACKLOG = 256
"""Clients over TCP that may wait to be accepted."""
CONNECTIONS = 256
"""Clients over TCP at once; more are closed."""
IDLE = 10.0
"""Seconds that a client over TCP has for its next query."""


Unreachable = Callable[[], Network | None]


class DnsSockets(NamedTuple):
    """Of one worker: the same port of each of this machine's own addresses, over UDP and over TCP."""

    udp: Sequence[socket.socket]
    tcp: Sequence[socket.socket]

    def close(self) -> None:
        """All of them. Idempotent."""
        for each in (*self.udp, *self.tcp):
            each.close()

    @property
    def address(self) -> tuple[str, int]:
        """The first."""
        host, port = self.udp[0].getsockname()[:2]
        return host, port


class DnsServer:
    """Responds by what ``core`` has compiled last. ``requests`` counts by protocol (udp, tcp) and what became of them: mesh,
    forwarded, failed (SERVFAIL, no resolver has responded), refused (no query that anybody takes), malformed (dropped)."""

    def __init__(
        self, sockets: DnsSockets, core: MeshCore, search: Sequence[str], resolvers: Resolvers, unreachable: Unreachable
    ) -> None:
        """``unreachable``: the automatic addresses that this machine has no route to."""
        self._unreachable = unreachable
        self._sockets = sockets
        self._core = core
        self._search = search
        self.resolvers = resolvers
        self._rng: random.Random = core.rng
        self._made_of: VisibleHosts | None = None
        self._names: Names
        self.requests: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._clients = 0

    async def start(self) -> None:
        """Respond from now on."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets.udp:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
            self._transports.append(transport)
        for sock in self._sockets.tcp:
            self._servers.append(await asyncio.start_server(self._serve, sock=sock, backlog=BACKLOG))

    async def close(self) -> None:
        """Respond no more; what is asked of resolvers is given up."""
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def respond(self, query: Query, protocol: str) -> bytes | None:
        """What is responded at once. None: the resolvers are to be asked."""
        live = self._core.live
        if query.refused is not None:
            self.requests[protocol, "refused"] += 1
            return failed(query, query.refused)
        if live is None:
            self.requests[protocol, "failed"] += 1
            return failed(query)
        hosts = live.snapshot.hosts
        if hosts is not self._made_of:
            self._names, self._made_of = Names(hosts, self._search, self._unreachable()), hosts
        found = self._names.find(query.name) if query.addresses else None
        if found is None:
            return None
        self.requests[protocol, "mesh"] += 1
        addresses = list(found.ipv4 if query.addresses == 4 else found.ipv6)
        if len(addresses) > 1:
            self._rng.shuffle(addresses)
        return told(query, found, addresses, query.room if protocol == "udp" else MOST)

    async def forwarded(self, query: Query, protocol: str) -> bytes:
        """What the resolvers say, or that they do not."""
        wire = await self.resolvers.ask(query, tcp=protocol == "tcp")
        self.requests[protocol, "forwarded" if wire is not None else "failed"] += 1
        if wire is None:
            return failed(query)
        return fitting(wire, query, query.room if protocol == "udp" else MOST)

    def received(self, wire: bytes, client: tuple[Any, ...], transport: asyncio.DatagramTransport) -> None:
        """A datagram."""
        try:
            query = query_of(wire)
        except Malformed:
            self.requests["udp", "malformed"] += 1
            return
        response = self.respond(query, "udp")
        if response is not None:
            transport.sendto(response, client)
            return

        async def ask() -> None:
            response = await self.forwarded(query, "udp")
            if not transport.is_closing():
                transport.sendto(response, client)

        self._keep(asyncio.create_task(ask()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client over TCP: one query after the other."""
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        if self._clients >= CONNECTIONS:
            writer.transport.abort()
            return
        self._clients += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._clients -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE):
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            try:
                query = query_of(wire)
            except Malformed:
                self.requests["tcp", "malformed"] += 1
                return
            response = self.respond(query, "tcp")
            if response is None:
                response = await self.forwarded(query, "tcp")
            async with asyncio.timeout(IDLE):
                writer.write(len(response).to_bytes(2) + response)
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._server.received(data, addr, self._transport)
