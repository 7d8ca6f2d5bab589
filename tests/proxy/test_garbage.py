"""Calls that are over, however they ended, leave nothing for the garbage collector.

It looks at what is old once in millions of objects: until then cycles are memory that grows (in 15 minutes of ``make soak``,
with servers that die and resources that are edited, 10 MB), and they hold on to configurations that were replaced.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from meshlib.serving.admission import Accepted
from tests.soak.proxy import Client, answer, resources
from tests.support.event_loops import event_loops
from tests.support.eventually import eventually, soon, turned
from tests.support.gateway_certificates import client as tls_client
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.h2_client import H2Client
from tests.support.identities import World
from tests.support.inbound_proxy import InboundProxy
from tests.support.proxy import Proxy
from tests.support.resources import service_entry, to, virtual_service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow

CALLS = 10


class Server:
    """The soak's; ``heads`` counts the requests that have come."""

    heads = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        until = reader.readuntil

        async def counted(separator: bytes) -> bytes:
            head = await until(separator)
            self.heads += 1
            return head

        reader.readuntil = counted  # type: ignore[method-assign, assignment]
        await answer(reader, writer)


class Caller(Client):
    """One of the soak's, and what that does not do: it calls servers that are gone, and leaves an upload in the middle."""

    server: Server

    async def left_upload(self) -> None:
        before = self.server.heads
        await self._send(b"POST /post/1 HTTP/1.1\r\nHost: soak.example\r\nContent-Length: 100000\r\n\r\nmore")
        assert await soon(lambda: self.server.heads > before)
        self.leave()

    async def refused(self) -> None:
        reader = await self._send(b"GET / HTTP/1.1\r\nHost: gone.example\r\n\r\n")
        assert (await self._read(reader))[0] == 503

    async def no_tunnel(self) -> None:
        reader = await self._send(b"CONNECT gone.example:80 HTTP/1.1\r\nHost: gone.example:80\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        self.leave()


WAYS = (Caller.get, Caller.pipeline, Caller.post, Caller.chunks, Caller.stream, Caller.left_stream, Caller.left_request,
        Caller.cut, Caller.nonsense, Caller.tunnel, Caller.left_upload, Caller.refused, Caller.no_tunnel)  # fmt: skip


class Collected:
    """``with Collected() as found``: what only the garbage collector could free of what ended inside, by type, in ``found``."""

    def __enter__(self) -> Counter[str]:
        gc.collect()
        gc.freeze()  # what other tests have left is not this one's
        gc.disable()
        self._found: Counter[str] = Counter()
        return self._found

    def __exit__(self, *_: object) -> None:
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = (type(each) for each in gc.garbage)
            self._found.update(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()


@pytest.mark.parametrize("loops", event_loops())
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_calls_leave_nothing_for_the_garbage_collector(way: Callable[[Caller], Any], loops: Any) -> None:
    counting = Server()
    server = await asyncio.start_server(counting, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    unheard = socket.socket()
    unheard.bind(("127.0.0.1", 0))  # and does not listen
    nobody = {"address": "127.0.0.1", "ports": {"http": unheard.getsockname()[1]}}
    gone = service_entry("gone", "gone.example", endpoints=[nobody])
    async with server:
        with unheard, Proxy([*yaml.safe_load_all(resources([port], 0)), gone], loops=loops) as proxy:
            verdict: Any = SimpleNamespace(problem=pytest.fail)
            caller = Caller(1, proxy.port, 1, verdict)
            caller.server = counting

            async def calls() -> None:
                for _ in range(CALLS):
                    await way(caller)
                caller.leave()
                assert await soon(lambda: not proxy.process.connections)
                turned(proxy.loop)

            await calls()  # what is made once
            with Collected() as found:
                await calls()
    assert ours(found) == {}


def ours(found: Counter[str]) -> dict[str, int]:
    """Of meshlib's types, those that each call has left. (Transports of asyncio itself are cycles, with the socket in them.)"""
    theirs = f"{Accepted.__module__}.{Accepted.__qualname__}"
    return {
        kind: count
        for kind, count in found.items()
        if count >= CALLS and kind.startswith("meshlib.") and kind != theirs
    }


@pytest.fixture(scope="module")
def app() -> Iterator[EchoServer]:
    with EchoServer("app") as made:
        yield made


@pytest.fixture(scope="module")
def at_gateway(app: EchoServer) -> Iterator[Gateway]:
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    with Gateway(
        service_entry(
            "app", "app.test", resolution="STATIC", endpoints=[{"address": "127.0.0.1", "ports": {"http": app.port}}]
        ),
        virtual_service("shop", {"route": [to("app.test")]}, hosts=["shop.test"], gateways=["gw"]),
        tls_secret("shop", leaf("shop.test")),
        gateway(server("shop.test"), server("shop.test", port=443, protocol="HTTPS", name="tls", tls=tls)),
    ) as made:
        yield made


@pytest.fixture(scope="module")
def world() -> World:
    made = World(of_a_mesh=True)
    made.rotate()
    return made


@pytest.fixture(scope="module")
def inbound(app: EchoServer, world: World) -> Iterator[InboundProxy]:
    with InboundProxy(app.port, identity=world.identity) as made:
        yield made


SPOKEN = ("HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2")


@pytest.mark.parametrize("spoken", SPOKEN)
def test_connections_to_a_gateway_leave_nothing_for_the_garbage_collector(at_gateway: Gateway, spoken: str) -> None:
    context = tls_client()

    def call() -> None:
        if spoken == "HTTP/2":
            asked_over_http2(at_gateway.port(80), "shop.test")
            return
        wrap = (lambda sock: context.wrap_socket(sock, server_hostname="shop.test")) if "TLS" in spoken else None
        with at_gateway.client(443 if wrap else 80, wrap) as made:
            assert made.get("/", "GET", "shop.test").status == 200

    left(call, at_gateway.loop, lambda: not at_gateway.process.connections)


@pytest.mark.parametrize("spoken", SPOKEN[:2])
def test_served_connections_leave_nothing_for_the_garbage_collector(
    inbound: InboundProxy, world: World, spoken: str
) -> None:
    context = world.client()
    context.check_hostname = False

    def call() -> None:
        wrap = (lambda sock: context.wrap_socket(sock, server_hostname="reviews")) if "TLS" in spoken else None
        with inbound.client(wrap) as made:
            assert made.get().status == 200

    left(call, inbound.loop, lambda: not inbound.listener.connections)


def asked_over_http2(port: int, host: str) -> None:
    """A request and its response."""
    with H2Client(port) as made:
        stream = made.open(host=host)
        while not made.answers[stream].over:
            made.receive()
        assert made.answers[stream].status == 200


def left(call: Callable[[], None], loop: asyncio.AbstractEventLoop, over: Callable[[], bool]) -> None:
    """Asserts that nothing is by calls that are ``over``."""
    call()
    assert eventually(over)
    with Collected() as found:
        for _ in range(CALLS):
            call()
        assert eventually(over)
        turned(loop)
    assert ours(found) == {}
