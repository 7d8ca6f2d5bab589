"""Resolvers, which are asked for what the mesh does not know: the bytes of a query go to one after the other until one
responds, each once, over what the client has used. Each query has a socket and a number of its
own, so that nobody else can respond."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from meshlib.proxy.dns_messages import Query, is_response_to, numbered

log = logging.getLogger("meshlib.proxy")

PATIENCE = 5.0
"""Seconds that a resolver has, as with Istio and the C library."""
OUTSTANDING = 1000
"""Queries that may wait for resolvers at once; more are responded to with SERVFAIL."""


class Resolvers:
    """``servers``: address and port of each. ``asked`` counts what was sent, ``failures`` what was not responded to,
    ``overflows`` the queries beyond ``most``. Of one event loop."""

    def __init__(self, servers: Sequence[tuple[str, int]], patience: float = PATIENCE, most: int = OUTSTANDING) -> None:
        self._servers = list(servers)
        self._patience = patience
        self._most = most
        self._silent: set[tuple[str, int]] = set()
        self.outstanding = 0
        self.asked = 0
        self.failures = 0
        self.overflows = 0

    async def ask(self, query: Query, *, tcp: bool) -> bytes | None:
        """The response, under the client's own number; None: nobody has responded. A resolver that does not is asked last from
        then on."""
        if self.outstanding >= self._most:
            self.overflows += 1
            return None
        self.outstanding += 1
        try:
            for server in tuple(self._servers):
                self.asked += 1
                try:
                    async with asyncio.timeout(self._patience):
                        found = await (_over_tcp if tcp else _over_udp)(query, server)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                    self._has_failed(server, query, error)
                    continue
                self._silent.discard(server)
                return numbered(found, query.number)
            return None
        finally:
            self.outstanding -= 1

    def _has_failed(self, server: tuple[str, int], query: Query, error: Exception) -> None:
        self.failures += 1
        level = logging.DEBUG if server in self._silent else logging.WARNING  # once, until it responds again
        self._silent.add(server)
        why = str(error) or type(error).__name__
        log.log(level, "resolver %s:%d does not respond about %s: %s", *server, query.name, why)
        if server in self._servers:
            self._servers.remove(server)
            self._servers.append(server)


async def _over_udp(query: Query, server: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    number = secrets.token_bytes(2)
    responded: asyncio.Future[bytes] = loop.create_future()

    def fits(wire: bytes) -> bool:
        return is_response_to(wire, query, number)

    transport, _ = await loop.create_datagram_endpoint(lambda: _Asking(responded, fits), remote_addr=server)
    try:
        transport.sendto(numbered(query.wire, number))
        return await responded
    finally:
        transport.close()


class _Asking(asyncio.DatagramProtocol):
    """What is no response to the query is passed over: the right one may still come."""

    def __init__(self, responded: asyncio.Future[bytes], fits: Callable[[bytes], bool]) -> None:
        self._responded = responded
        self._fits = fits

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._responded.done() and self._fits(data):
            self._responded.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._responded.done():
            self._responded.set_exception(exc)


async def _over_tcp(query: Query, server: tuple[str, int]) -> bytes:
    """Raises ``ValueError`` for a response to something else."""
    number = secrets.token_bytes(2)
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query.wire).to_bytes(2) + numbered(query.wire, number))
        wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.transport.abort()
    if not is_response_to(wire, query, number):
        raise ValueError("it has responded to something else")
    return wire
