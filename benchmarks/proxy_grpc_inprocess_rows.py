"""One gRPC call through the proxy in this process, over transports that only keep what is written: what the proxy itself costs,
without the kernel. HTTP/2 on both sides, eight calls at a time, a message each way and trailers. Client and server are
nghttp2's own sessions, whose time is not taken. In microseconds, ``json.loads`` of the same run, and steps of bytecode, which
no busy machine changes."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from typing import Any

import ngh2
from ngh2.events import DataReceived, RequestReceived, ResponseReceived, TrailersReceived

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit
from benchmarks.proxy_http2_rows import GRPC_FIELDS, STREAMS
from benchmarks.proxy_inprocess_rows import Kept, bytecodes
from benchmarks.proxy_load import AUTHORITY
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.http2_downstream import Http2Downstream
from meshlib.proxy.listener import Listener
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.http2_loop import AsyncioHttp2, _Pool
from meshlib.transport.upstream.http2_loop_connection import Connection

MESSAGE = b"\0\0\0\0\x40" + b"x" * 64
BATCHES = 250
"""Of ``STREAMS`` calls each."""
_FIELDS = [(name.encode(), value.strip().encode()) for name, _, value in (each.partition(":") for each in GRPC_FIELDS)]
_HEAD = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-encoding", b"identity"),
    (b"grpc-accept-encoding", b"gzip"),
]
_TRAILERS = [(b"grpc-status", b"0")]
_BEFORE_TIMING = 20  # batches


class _Server:
    """An endpoint, and the proxy's connection to it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.session = session = ngh2.Connection(ngh2.Role.SERVER)
        self.written: list[bytes] = []
        transport: Any = Kept(self.written.append)
        session.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 100})
        connection.connection_made(transport)
        connection.admitted(transport)
        connection.flush()
        connection.data_received(session.data_to_send())

    def responses(self) -> bytes:
        """To what has been written to it."""
        session = self.session
        session.receive_data(b"".join(self.written))
        self.written.clear()
        for event in session.events():
            if type(event) is RequestReceived:
                if dict(event.headers)[b"te"] != b"trailers":
                    raise RuntimeError(f"not a call of gRPC: {event.headers}")
            elif type(event) is DataReceived and event.end_stream:
                if event.data != MESSAGE:
                    raise RuntimeError(f"not the message: {event.data[:100]!r}")
                session.send_response(event.stream_id, _HEAD)
                session.send_data(event.stream_id, MESSAGE)
                session.send_trailers(event.stream_id, _TRAILERS)
        out: bytes = session.data_to_send()
        return out


class Scene:
    """A client's connection, and one to each endpoint."""

    def __init__(self, mesh: meshlib.Mesh, sock: socket.socket) -> None:
        self.forwarder = forwarder = Forwarder(mesh._core)
        self.taken = 0.0
        """Seconds of the proxy's so far."""
        self.counts = False
        """Whether steps of bytecode are counted instead, in ``steps``."""
        self.steps = self.calls = 0
        self._written: list[bytes] = []
        transport: Any = Kept(self._written.append)
        self._client = client = ngh2.Connection(ngh2.Role.CLIENT)
        client.initiate_connection()
        self._downstream = Http2Downstream(Listener(sock, forwarder))
        self._downstream.connection_made(transport)
        self._servers: list[_Server] = []
        live = mesh._core.live
        assert live is not None
        http2 = forwarder.upstream._http2 = AsyncioHttp2(forwarder.upstream)
        request = ProxyRequest(b"GET", AUTHORITY.encode(), b"/", b"Host: x\r\n", b"\r\nhost: x\r\n", None)
        for key in live.snapshot.clusters:
            cluster = live.cluster(key)
            for endpoint in cluster.endpoints:
                target = find_target(mesh._core, cluster, endpoint, request, forwarder.settings)
                pool = http2._pools.setdefault(target, _Pool())
                if not pool.connections:
                    made = _Server(Connection(http2, target))
                    pool.connections = (made.connection,)
                    self._servers.append(made)

    def batch(self) -> None:
        """A batch of calls, to their ends."""
        client, ended, messages = self._client, 0, 0
        for _ in range(STREAMS):
            self.calls += 1
            path = b"/shop.Catalog/GetItem?call=%d" % self.calls
            pseudo = [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":authority", AUTHORITY.encode()),
                (b":path", path),
            ]
            client.send_data(client.send_request([*pseudo, *_FIELDS], end_stream=False), MESSAGE, end_stream=True)
        self._timed(client.data_to_send(), [])
        for server in self._servers:
            if server.written and (data := server.responses()):
                self._timed(data, [server])
        client.receive_data(b"".join(self._written))
        self._written.clear()
        for event in client.events():
            if type(event) is ResponseReceived and dict(event.headers)[b":status"] != b"200":
                raise RuntimeError(f"not forwarded: {event.headers}")
            if type(event) is DataReceived:
                messages += event.data == MESSAGE
            ended += type(event) is TrailersReceived and (b"grpc-status", b"0") in event.headers
        if ended != STREAMS or messages != STREAMS:
            raise RuntimeError(
                f"of {STREAMS} calls {ended} have ended, with {messages} messages: some went the long way"
            )

    def _timed(self, data: bytes, servers: list[_Server]) -> None:
        """What the client (or that server) sends, and what the proxy writes in the same turn of the loop."""
        if self.counts:
            self.steps += bytecodes(lambda: self.received(data, servers))
            return
        began = time.thread_time()
        self.received(data, servers)
        self.taken += time.thread_time() - began

    def received(self, data: bytes, servers: list[_Server]) -> None:
        """The proxy's work."""
        if servers:
            servers[0].connection.data_received(data)
            self._downstream._flush()
        else:
            self._downstream.data_received(data)
        for server in self._servers:
            if server.connection._flushing:
                server.connection._flush_all()


def grpc_in_process(quick: bool) -> list[Row]:
    """The row."""
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Row]:
    unit, best = Unit(), float("inf")
    with meshlib.Mesh.from_resources(synthetic.grpc_reviews(1), seed=1) as mesh, socket.socket() as sock:
        scene = Scene(mesh, sock)
        for _ in range(_BEFORE_TIMING):
            scene.batch()
        scene.calls, scene.counts = 0, True
        for _ in range(_BEFORE_TIMING):
            scene.batch()
        scene.counts, steps = False, round(scene.steps / scene.calls)
        await asyncio.sleep(0)
        for _ in range(5 if quick else 20):
            unit.take()
            gc.collect()
            scene.taken = scene.calls = 0
            for _ in range(BATCHES):
                scene.batch()
            best = min(best, scene.taken / scene.calls * 1e6)
            await asyncio.sleep(0)
    return [
        Row(
            "proxy, one gRPC call in process",
            best,
            "us",
            details=f"{steps} steps of bytecode",
            extra={"steps": steps},
            json=best / unit.us,
        )
    ]
