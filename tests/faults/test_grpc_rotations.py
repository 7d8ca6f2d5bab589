"""Certificates rotate and the authority changes while gRPC calls are made, by threads and asyncio, to servers of both: no
call fails, and the old root lets nobody in afterwards. ``MESHLIB_FAULTS=1`` makes 180 rotations."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import meshlib
from meshlib.security.authority import Authority
from tests.support.grpc_echo import eventually
from tests.support.grpc_mtls import CLIENT, COUNT, SERVER, WHO, World, ask, peer_authentication, served
from tests.support.grpc_mutual import Client
from tests.support.grpc_runtimes import TARGET

LONG = bool(os.environ.get("MESHLIB_FAULTS"))
ROTATIONS = 180 if LONG else 6
BETWEEN = 3
"""Calls of each client between two rotations."""


class Load:
    """Clients that call until they are told to stop. ``done`` counts calls by client, ``failed`` has what went wrong."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.done: collections.Counter[str] = collections.Counter()
        self.failed: list[str] = []
        self._threads: list[threading.Thread] = []

    def run(self, name: str, call: Callable[[], object]) -> None:
        def loop() -> None:
            while not self.stop.is_set():
                self._one(name, call)

        self._start(loop)

    def _one(self, name: str, call: Callable[[], object]) -> None:
        try:
            found = call()
        except grpc.RpcError as error:
            self.failed.append(f"{name}: {error}")
        else:
            if found != CLIENT:
                self.failed.append(f"{name}: {found!r}")
            self.done[name] += 1

    def run_async(self, name: str, client: Client) -> None:
        async def loop() -> None:
            channel = client.mesh.aio_grpc_channel(TARGET)
            method = channel.unary_unary(WHO)
            while not self.stop.is_set():
                try:
                    found = bytes(await method(b"", timeout=30)).decode()
                except grpc.RpcError as error:
                    self.failed.append(f"{name}: {error}")
                else:
                    if found != CLIENT:
                        self.failed.append(f"{name}: {found!r}")
                    self.done[name] += 1
            await channel.close()

        self._start(lambda: asyncio.run(loop()))

    def _start(self, job: Callable[[], None]) -> None:
        thread = threading.Thread(target=job, daemon=True)
        self._threads.append(thread)
        thread.start()

    def more(self, names: list[str]) -> None:
        """Wait until each client has made some more calls."""
        before = dict(self.done)
        assert eventually(
            lambda: bool(self.failed) or all(self.done[name] >= before.get(name, 0) + BETWEEN for name in names), 60
        ), dict(self.done)

    def end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)


def stranger(world: World) -> grpc.ChannelCredentials:
    """Of a grpcio client without a mesh that has the certificate and roots of the moment."""
    current = world.identity.current()
    assert current is not None
    return grpc.ssl_channel_credentials(current.bundles.pem.encode(), current.svid.key_pem, current.svid.chain_pem)


NAMES = ["threads", "stream", "asyncio", "stranger"]


@contextlib.contextmanager
def world(runtime: str) -> Iterator[tuple[World, Client, int, Load]]:
    server = World()
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=server.identity) as mesh:
        server.rotate()
        with served(mesh, runtime, workers=16) as (port, _):
            client, load = Client(server.root, port), Load()
            client.policy(SERVER)
            client.world.rotate()
            channel = client.channel()
            method, count = channel.unary_unary(WHO), channel.stream_stream(COUNT)

            def stream() -> str:
                assert list(count(iter([b"a", b"b"]), timeout=30)) == [b"a", b"b"]
                return CLIENT

            load.run("threads", lambda: bytes(method(b"", timeout=30)).decode())
            load.run("stream", stream)
            load.run_async("asyncio", client)
            load.run("stranger", lambda: ask(port, stranger(client.world)))
            try:
                yield server, client, port, load
            finally:
                load.end()
                channel.close()
                client.close()


@pytest.mark.fault
@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_no_call_fails_while_certificates_rotate(runtime: str) -> None:
    with world(runtime) as (server, client, _, load):
        for number in range(ROTATIONS):
            (server if number % 2 else client.world).rotate()
            load.more(NAMES)
        load.end()
        assert not load.failed, load.failed
        assert all(load.done[name] >= ROTATIONS * BETWEEN for name in NAMES)


@pytest.mark.fault
@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_no_call_fails_while_the_authority_changes_in_three_steps_and_the_old_root_is_refused_afterwards(
    runtime: str,
) -> None:
    with world(runtime) as (server, client, port, load):
        for _ in range(10 if LONG else 1):
            old, new = server.root, Authority.root("cluster.local", server.now)
            everybody = (server, client.world)
            for each in everybody:  # both roots are trusted
                each.rotate(old, new)
            load.more(NAMES)
            for each in everybody:  # the new one signs
                each.root = new
                each.rotate(old, new)
            load.more(NAMES)
            for each in everybody:  # the old one is gone
                each.rotate(new)
            load.more(NAMES)
            late: Any = World(CLIENT, old)
            assert ask(port, late.client(new, svid=old.issue(CLIENT, server.now))) == "UNAVAILABLE"
        load.end()
        assert not load.failed, load.failed


@pytest.mark.fault
def test_a_certificate_that_comes_late_and_one_that_expires_under_load() -> None:
    """STRICT: nobody is served before it comes, everybody afterwards; when it has expired nobody, until the next one
    comes."""
    from tests.support.grpc_mtls import TodaysClock

    server, clock = World(), TodaysClock()
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=server.identity, clock=clock) as mesh:
        with served(mesh) as (port, _):
            assert ask(port, server.client()) == "UNAVAILABLE"
            clock.advance(5)
            server.rotate(ttl=3600)
            assert ask(port, server.client()) == CLIENT
            clock.advance(3600)
            assert eventually(lambda: ask(port, server.client()) == "UNAVAILABLE")
            server.rotate(ttl=86400)
            assert ask(port, server.client()) == CLIENT
