"""The ports that a gateway's configuration has, listened on: a reload adds some, drains others and leaves the rest alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.gateway_model import ALPN
from meshlib.problems import MeshError
from meshlib.proxy.gateway_listener import GatewayListener
from meshlib.proxy.gateway_tls import Contexts, doubts, unusable
from meshlib.proxy.http_version import speaks_http2
from meshlib.proxy.places import TcpPlace, meet
from meshlib.proxy.sockets import listening

if TYPE_CHECKING:
    import socket

    from meshlib.compiler.gateway_model import GatewayChain, GatewayPort, GatewayTls, Place
    from meshlib.proxy.forward import Forwarder
    from meshlib.proxy.listener import Listener

log = logging.getLogger("meshlib.proxy")

OPTION = "--gateway-port"
EVERYWHERE = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class GatewayPlaces:
    """Where the ports of Gateways are listened on, where that is not their own number: by that number. ``share``: other
    processes listen there, too."""

    mapped: Mapping[int, TcpPlace] = field(default_factory=dict)
    share: bool = False

    def of(self, port: GatewayPort) -> TcpPlace:
        """The place of a port: ``host`` of an entry "" is the Gateway's ``bind``, else all addresses."""
        found = self.mapped.get(port.server_port)
        number = port.number if found is None else found.port
        host = port.bind or EVERYWHERE if found is None or not found.host else found.host
        return TcpPlace(host, number)

    def clash(self, ports: Iterable[GatewayPort]) -> str:
        """Which two of ``ports`` would be listened on at one place, and what to do; "" when none."""
        seen: dict[int, list[tuple[str, GatewayPort]]] = {}
        for port in ports:
            place = self.of(port)
            there = seen.setdefault(place.port, [])
            for host, first in there if place.port else ():
                if meet(place.host, host):
                    return (
                        f"{port.place} {place}: that is where {first.place} is listened on, too; give {OPTION} "
                        f"{port.server_port}= another port"
                    )
            there.append((place.host, port))
        return ""

    def looked_at(self, ports: Collection[GatewayPort]) -> list[str]:
        """What is worth a warning, before ``ports`` are listened on. Raises ``MeshError`` for two at one place."""
        if clash := self.clash(ports):
            raise MeshError(clash)
        have = {port.server_port for port in ports}
        return [
            f"{OPTION} {number}= has no effect: no Gateway that is served here has a server with routes on port {number}"
            for number in self.mapped
            if number not in have
        ]

    def open(self, port: GatewayPort, share: bool) -> socket.socket:
        """Listen. Raises ``MeshError`` that names the server and what to do."""
        place = self.of(port)
        try:
            return listening(place, port.place, share=share)[0]
        except MeshError as error:
            told = str(error).replace(f"give {port.place}", f"give {OPTION} {port.server_port}=")
            raise MeshError(told) from error


class GatewayListeners:
    """``added`` and ``gone`` are told of each listener. ``drain``: seconds that the connections of a port have that is no
    more."""

    def __init__(
        self,
        forwarder: Forwarder,
        places: GatewayPlaces,
        drain: float,
        added: Callable[[str, socket.socket, Listener], None],
        gone: Callable[[str], None],
    ) -> None:
        self._forwarder = forwarder
        self._places = places
        self._drain = drain
        self._added = added
        self._gone = gone
        self._open: dict[Place, tuple[str, GatewayListener]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._refused: dict[Place, str] = {}
        self._turn = asyncio.Lock()
        self._contexts = Contexts(forwarder.core, ALPN if speaks_http2() else ALPN[1:])
        self._looked_at: dict[GatewayTls, bool] = {}  # whether it can be used

    async def begin(self) -> None:
        """Listen at all there are. Raises ``MeshError`` where one cannot be listened at."""
        wanted = self._wanted()
        await self._look_at(wanted.values())
        for place, port in wanted.items():
            await self._listen(place, port)

    async def follow(self) -> None:
        """Listen where the configuration says so now. What cannot be listened at is said once, and tried the next time."""
        async with self._turn:
            wanted = self._wanted()
            self._contexts.keep(
                [chain.tls for port in wanted.values() for chain in port.chains if chain.tls is not None]
            )
            await self._look_at(wanted.values())
            for place in [place for place in self._open if place not in wanted]:
                self._leave(place)
            for place, port in wanted.items():
                if place in self._open:
                    continue
                try:
                    await self._listen(place, port)
                except MeshError as error:
                    if self._refused.get(place) != str(error):
                        self._refused[place] = str(error)
                        log.error("%s", error)

    async def _look_at(self, ports: Collection[GatewayPort]) -> None:
        """Certificates that cannot be used are said now, not when the first client comes; others are served. A millisecond
        each, between which the loop goes on."""
        chains = [chain for port in ports for chain in port.chains if chain.tls is not None and not chain.refusal]
        there = {chain.tls for chain in chains}
        self._looked_at = {tls: good for tls, good in self._looked_at.items() if tls in there}
        for chain in chains:
            if chain.tls is None:
                continue
            good = self._looked_at.get(chain.tls)
            if good is None:
                good = self._looked_at[chain.tls] = self._can_be_used(chain, chain.tls)
                await asyncio.sleep(0)
            if good:
                self._contexts.can_be_used(chain.tls)

    def _can_be_used(self, chain: GatewayChain, tls: GatewayTls) -> bool:
        """Whether it can; what is wrong, or may be, is said."""
        why = unusable(tls, chain.server)
        if not why:
            for doubt in doubts(tls, chain.server, chain.snis, self._forwarder.core.clock.time()):
                log.warning("%s", doubt)
        elif self._contexts.falls_back(tls):
            log.error("%s; the last good certificate stays in use for new connections", why)
        else:
            log.error("%s is not served: %s", chain.server, why)
        return not why

    def _wanted(self) -> Mapping[Place, GatewayPort]:
        live = self._forwarder.core.live
        return {} if live is None else {place: p for place, p in live.snapshot.gateway.items() if p.chains}

    async def _listen(self, place: Place, port: GatewayPort) -> None:
        clash = self._places.clash([*(listener.port for _, listener in self._open.values() if listener.port), port])
        if clash:
            raise MeshError(clash)
        sock = self._places.open(port, self._places.share)
        listener = GatewayListener(sock, self._forwarder, place, self._contexts)
        name = f"gateway:{place[1]}" if not place[0] else f"gateway:{place[0]}:{place[1]}"
        self._open[place] = name, listener
        self._refused.pop(place, None)
        self._added(name, sock, listener)
        await listener.start()
        host, number = sock.getsockname()[:2]
        log.info("serving %s, listening on %s", port.place, TcpPlace(host, number))

    def _leave(self, place: Place) -> None:
        name, listener = self._open.pop(place)
        log.info("%s: no Gateway has this port any more; its connections drain", name)
        listener.stopped = True
        listener.stop()
        task = self._forwarder.loop.create_task(self._left(name, listener))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _left(self, name: str, listener: GatewayListener) -> None:
        await listener.drained(self._drain)
        self._gone(name)
