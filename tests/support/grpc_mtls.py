"""gRPC servers and clients with SVIDs of an authority of the test's own, rotated by hand; the same for threads and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio

import meshlib
from meshlib.alarms import Alarms
from meshlib.clock import Clock, SystemClock
from meshlib.identity.identity import Identity
from meshlib.identity.source import Publish, Report
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles, pem_of
from tests.support.fake_clock import FakeClock

SERVER = "spiffe://cluster.local/ns/default/sa/reviews"
CLIENT = "spiffe://cluster.local/ns/default/sa/productpage"
DNS = "reviews.default.svc.cluster.local"
WHO, PEER, HOLD, COUNT = "/t.T/Who", "/t.T/Peer", "/t.T/Hold", "/t.T/Count"


class TodaysClock(FakeClock):
    """Moved by hand, beginning today: gRPC core judges certificates by the machine's time."""

    def __init__(self) -> None:
        super().__init__()
        self._today = SystemClock.time() - self.now

    def time(self) -> float:
        return self._today + self.now


class ByHand:
    """A source of an identity that tells what the test tells it."""

    what = "the test"

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        self.publish, self.report = publish, report

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


class World:
    """An authority; and an identity (of a server, if nothing is said) that it rotates."""

    def __init__(self, name: str = SERVER, root: Authority | None = None) -> None:
        self.now = SystemClock.time()
        self.name = name
        self.root = root or Authority.root("cluster.local", self.now)
        self.source = ByHand()
        self.identity = Identity(self.source)

    def bundles(self, *roots: Authority) -> TrustBundles:
        return TrustBundles({"cluster.local": tuple(each.root_der for each in roots or (self.root,))})

    def rotate(self, *trusted: Authority, ttl: float = 86400.0, dns: tuple[str, ...] = (DNS,)) -> Svid:
        """A new certificate, by ``root``; ``trusted``: all roots that count from now on. After the mesh has been made."""
        svid = self.root.issue(self.name, self.now, ttl=ttl, dns=dns)
        self.source.publish(svid, self.bundles(*trusted))
        return svid

    def client(
        self, signer: Authority | None = None, name: str = CLIENT, *, ttl: float = 86400.0, svid: Any = None
    ) -> grpc.ChannelCredentials:
        """Of a grpcio client that has nothing to do with the mesh, and trusts the root and ``signer``."""
        svid = svid or (signer or self.root).issue(name, self.now, ttl=ttl)
        roots = "".join(pem_of(each.root_der) for each in {self.root, signer or self.root})
        return grpc.ssl_channel_credentials(roots.encode(), svid.key_pem, svid.chain_pem)


def peer_authentication(mode: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"mtls": {"mode": mode}, **more},
    }


@contextlib.contextmanager
def dialled(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[grpc.Channel]:
    """A channel of grpcio's own, with a connection of its own."""
    options = [("grpc.ssl_target_name_override", DNS), ("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{port}"
    channel = (
        grpc.insecure_channel(target, options[1:])
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    with channel:
        yield channel


def ask(port: int, credentials: grpc.ChannelCredentials | None = None, method: str = WHO) -> str:
    """One call on a fresh connection: what came back, or the name of its status."""
    with dialled(port, credentials) as channel:
        return on(channel, method)


def on(channel: grpc.Channel, method: str = WHO) -> str:
    """The same on a channel."""
    try:
        return bytes(channel.unary_unary(method)(b"", timeout=60)).decode()
    except grpc.RpcError as error:
        return str(error.code().name)


class Handlers:
    """``Who`` tells the peer's principal, ``Peer`` its address as mesh and grpcio tell it, ``Hold`` streams once and waits,
    ``Count`` streams back what it gets."""

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.release = threading.Event()
        self.ended = threading.Event()

    def _who(self) -> bytes:
        request = self.mesh.inbound()
        assert request is not None
        return (request.principal or "nobody").encode()

    def _peer(self, context: Any) -> bytes:
        request = self.mesh.inbound()
        assert request is not None
        return f"{request.peer} {context.peer()} {request.port}".encode()

    def of_threads(self) -> Any:
        def hold(_request: bytes, _context: Any) -> Iterator[bytes]:
            try:
                yield b"held"
                self.release.wait(20)
            finally:
                self.ended.set()

        return _service(
            lambda _request, _context: self._who(),
            lambda _request, context: self._peer(context),
            hold,
            lambda requests, _context: iter(requests),
        )

    def of_asyncio(self) -> Any:
        async def who(_request: bytes, _context: Any) -> bytes:
            return self._who()

        async def peer(_request: bytes, context: Any) -> bytes:
            return self._peer(context)

        async def hold(_request: bytes, _context: Any) -> Any:
            try:
                yield b"held"
                await asyncio.get_running_loop().run_in_executor(None, self.release.wait, 20)
            finally:
                self.ended.set()

        async def count(requests: Any, _context: Any) -> Any:
            async for request in requests:
                yield request

        return _service(who, peer, hold, count)


def _service(who: Any, peer: Any, hold: Any, count: Any) -> Any:
    return grpc.method_handlers_generic_handler(
        "t.T",
        {
            "Who": grpc.unary_unary_rpc_method_handler(who),
            "Peer": grpc.unary_unary_rpc_method_handler(peer),
            "Hold": grpc.unary_stream_rpc_method_handler(hold),
            "Count": grpc.stream_stream_rpc_method_handler(count),
        },
    )


@contextlib.contextmanager
def served(
    mesh: meshlib.Mesh, runtime: str = "threads", listen: Callable[[Any], int] | None = None, workers: int = 8
) -> Iterator[tuple[int, Handlers]]:
    """A server of these handlers with one port (``mesh.add_grpc_port``, if nothing is said)."""
    handlers = Handlers(mesh)
    listen = listen or (lambda server: mesh.add_grpc_port(server, "127.0.0.1:0"))
    if runtime == "threads":
        server = grpc.server(futures.ThreadPoolExecutor(workers), interceptors=mesh.grpc_server_interceptors())
        server.add_generic_rpc_handlers((handlers.of_threads(),))
        port = listen(server)
        server.start()
        try:
            yield port, handlers
        finally:
            handlers.release.set()
            server.stop(None).wait(60)
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, int]:
        made = grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())
        made.add_generic_rpc_handlers((handlers.of_asyncio(),))
        chosen = listen(made)
        await made.start()
        return made, chosen

    async def stop(made: Any) -> None:
        await made.stop(None)

    try:
        aio_server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        try:
            yield port, handlers
        finally:
            handlers.release.set()
            asyncio.run_coroutine_threadsafe(stop(aio_server), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
