"""An acceptor on a port of its own, and those who talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

from meshlib.alarms import Alarms
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.security.peer_certificate import identity_of
from meshlib.serving.acceptor import Acceptor
from meshlib.serving.tls_connections import TlsConnections
from meshlib.serving.tls_peer import TlsPeer
from tests.support.identities import TodaysClock, World


class Tells(asyncio.Protocol):
    """Responds to each piece with who has sent it."""

    def __init__(self, peer: TlsPeer | None = None) -> None:
        self.peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        who = "plain" if self.peer is None else str(identity_of(self.peer.leaf))
        self.transport.write(f"{who} {data.decode()}".encode())


class TellsAll:
    def __init__(self) -> None:
        self.peers: list[TlsPeer] = []
        self.made: list[Tells] = []

    def plain(self) -> asyncio.Protocol:
        self.made.append(made := Tells())
        return made

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        self.peers.append(peer)
        self.made.append(made := Tells(peer))
        return made


class Port:
    """An acceptor on a port of its own."""

    def __init__(self, world: World | None, mode: MtlsMode, **settings: int) -> None:
        self.mode = mode
        self.clock = TodaysClock()
        self.alarms = Alarms(self.clock)
        self.serves = TellsAll()
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.sock.getsockname()[1]
        identity = None if world is None else world.identity
        self.connections = TlsConnections(identity, lambda leaf, chain: identity_of(leaf), self.clock, self.alarms)
        self.acceptor = Acceptor(
            self.sock, self.serves, lambda: self.mode, identity, self.clock, self.alarms, self.connections, **settings
        )

    async def connect(self, context: ssl.SSLContext | None = None, name: str | None = None) -> Conversation:
        async with asyncio.timeout(20):
            return Conversation(
                *await asyncio.open_connection(
                    "127.0.0.1", self.port, ssl=context, server_hostname=name if context else None
                )
            )

    async def ask(self, context: ssl.SSLContext | None = None) -> str:
        """What is responded, or the name of the error."""
        try:
            conversation = await self.connect(context, "reviews")
            try:
                return await conversation.say("hello")
            finally:
                conversation.close()
        except OSError as error:
            return type(error).__name__


class Conversation:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        _open.add(self)

    async def say(self, text: str) -> str:
        self.writer.write(text.encode())
        return await self.hear()

    async def hear(self) -> str:
        async with asyncio.timeout(20):
            return (await self.reader.read(1000)).decode() or "closed"

    async def ended(self) -> str:
        try:
            return await self.hear()
        except OSError as error:
            return type(error).__name__

    def close(self) -> None:
        _open.discard(self)
        self.writer.transport.abort()


_open: set[Conversation] = set()
"""Those of a test that it has not closed itself."""


@contextlib.asynccontextmanager
async def accepting(world: World | None, mode: MtlsMode, **settings: int) -> AsyncIterator[Port]:
    port = Port(world, mode, **settings)
    port.connections.start()
    port.acceptor.start()
    try:
        yield port
    finally:
        port.acceptor.stop()
        port.acceptor.abort()
        await port.acceptor.settled()
        for conversation in list(_open):
            conversation.close()
        for connection in port.serves.made:
            connection.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        port.connections.stop()
        port.alarms.close()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.005)
