"""One request to an application behind the proxy in this process, in plain text and over mTLS: what the inbound side itself
costs, without the kernel. As ``proxy_inprocess_rows.py`` has it for the outbound side."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import meshlib
from benchmarks.certificates import write_certificates
from benchmarks.measure import Row, Unit
from benchmarks.proxy_inprocess_rows import BODY, Kept, bytecodes, request_of, response_of, turn_of
from benchmarks.proxy_load import FEW, MANY
from benchmarks.proxy_mtls_rows import callers_context
from benchmarks.proxy_policy_rows import RULES, resources
from meshlib.engine.live import Live
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.inbound_application import ApplicationAddress
from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.request import ProxyRequest
from meshlib.proxy.spans import SpansByProcess
from meshlib.proxy.tls_listener import ALPN
from meshlib.serving.acceptor import _Greeter
from meshlib.serving.tickets import Accepts
from meshlib.serving.tls_peer import remember_sni
from meshlib.telemetry.own_spans import OwnTracerProvider
from meshlib.telemetry.span_queue import SpanQueue
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.loop_connection import Connection, connection_to
from meshlib.transport.upstream.loop_tls import LoopTls

APPLICATION = ApplicationAddress("127.0.0.1", 9)
REQUESTS = 500
"""As many different ones are made before time is taken; over TLS they are encrypted anew for each round."""
ADDRESSES = {"peername": ("10.0.0.7", 4711), "sockname": ("10.0.0.1", 15006)}
FLIGHTS = 6
"""Of a handshake, at most."""


class Below(Kept):
    """A transport that takes all at once, and whose protocol may change."""

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return ADDRESSES.get(name, default)

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Plain:
    """A client's connection in plain text."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.written: list[bytes] = []
        self._below = Below(self.written.append)
        self._below.protocol = protocol
        self._below.protocol.connection_made(self._below)  # type: ignore[arg-type]

    def receive(self, data: bytes) -> None:
        """As the transport does."""
        self._below.protocol.data_received(data)

    def end_of_turn(self) -> None:
        """Of the event loop: nothing waits for it."""

    def sent(self, requests: Sequence[bytes]) -> list[bytes]:
        """As they are on the wire."""
        return list(requests)

    def responses(self) -> list[bytes]:
        """What was written since the last time."""
        found = list(self.written)
        self.written.clear()
        return found


class Mutual:
    """The same over mTLS, with the client's side of it."""

    def __init__(self, listener: InboundListener, callers: ssl.SSLContext) -> None:
        self.written: list[bytes] = []
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = callers.wrap_bio(self._incoming, self._outgoing, server_hostname="server")
        identity = listener.core.identity
        credentials = None if identity is None else identity.current()
        assert credentials is not None
        context = credentials.server_context(ALPN)
        remember_sni(context)
        greeter = _Greeter(listener.acceptor, credentials)
        server = LoopTls(asyncio.get_running_loop(), greeter, Accepts(context), None)
        self.receive = server.data_received
        below: Any = Below(self.written.append)
        server.connection_made(below)
        for _ in range(FLIGHTS):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._client.do_handshake()
            if self._outgoing.pending:
                server.data_received(self._outgoing.read())
            self.responses()
        server.handshake.result()
        serving: Any = server.get_protocol()
        self.end_of_turn = serving.transport.flush  # JoinedWrites keeps a response as long

    def sent(self, requests: Sequence[bytes]) -> list[bytes]:
        """As they are on the wire."""
        made = []
        for request in requests:
            self._client.write(request)
            made.append(self._outgoing.read())
        return made

    def responses(self) -> list[bytes]:
        """What was written since the last time, decrypted; without it the next ones cannot be."""
        found = []
        for each in self.written:
            self._incoming.write(each)
            with contextlib.suppress(ssl.SSLError):  # there is nothing for us, or no handshake yet
                found.append(self._client.read(1 << 16))
        self.written.clear()
        return found


class Scene:
    """A client's connection, and an idle one to each endpoint of ``live``. ``forwarder`` has its own turn (``turn_of``)."""

    def __init__(self, mesh: meshlib.Mesh, live: Live, forwarder: Forwarder, client: Plain | Mutual) -> None:
        self.client = client
        self._asked: Connection | None = None
        self._turn = forwarder.turn
        upstream = forwarder.upstream
        request = ProxyRequest(b"GET", b"x", b"/", b"Host: x\r\n", b"\r\nhost: x\r\n", None)
        for key in live.snapshot.clusters:
            cluster = live.cluster(key)
            for endpoint in cluster.endpoints:
                target = find_target(mesh._core, cluster, endpoint, request, forwarder.settings)
                connection = connection_to(target, upstream)
                transport: Any = Kept(self._notes(connection))
                connection.connection_made(transport)
                # as after a response: it is one that may be used again
                connection.reader.complete = connection.reader.keep_alive = True
                upstream.release(connection)

    def _notes(self, connection: Connection) -> Any:
        def asked(_data: bytes) -> None:
            self._asked = connection

        return asked

    def once(self, request: bytes, response: bytes) -> None:
        """One request and its response."""
        self.client.receive(request)
        self._turn.end()
        connection, self._asked = self._asked, None
        assert connection is not None, "the request took no connection: it went the long way"
        connection.data_received(response)
        self._turn.end()
        self.client.end_of_turn()


def inbound_in_process(quick: bool) -> list[Row]:
    """Of both shapes of requests, in plain text and over mTLS; and with access log, 20 rules and all traces, in plain text."""
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Row]:
    made = []
    with tempfile.TemporaryDirectory(prefix="meshlib-inbound-") as name, socket.socket() as sock:
        folder = Path(name)
        write_certificates(folder)
        sock.bind(("127.0.0.1", 0))
        identity = meshlib.Identity.from_files(*(str(folder / f"{part}.pem") for part in ("cert", "key", "bundle")))
        with meshlib.Mesh.from_resources([], seed=1, identity=identity) as mesh:
            for how in ("plain text", "mTLS"):
                for shape in (FEW, MANY):
                    listener = InboundListener(sock, mesh._server(), APPLICATION)
                    turn_of(listener.forwarder)
                    client = (
                        Plain(listener.plain()) if how == "plain text" else Mutual(listener, callers_context(folder))
                    )
                    live, _ = listener.application.path(False)
                    scene = Scene(mesh, live, listener.forwarder, client)
                    made.append(
                        row(f"inbound, one request in process, {how}, {shape}", scene, shape, 3 if quick else 20)
                    )
        spans = SpansByProcess(lambda: OwnTracerProvider(SpanQueue(lambda _sent: True, {}, lambda: None)))
        with meshlib.Mesh.from_resources(resources(folder / "log"), seed=1, tracer_provider=spans) as mesh:
            for shape in (FEW, MANY):
                listener = InboundListener(sock, mesh._server(), APPLICATION)
                turn_of(listener.forwarder)
                live, _ = listener.application.path(False)
                scene = Scene(mesh, live, listener.forwarder, Plain(listener.plain()))
                name = f"inbound with access log, {RULES} rules and all traces, one request in process, {shape}"
                made.append(row(name, scene, shape, 3 if quick else 20))
        spans.shutdown()
    return made


def row(name: str, scene: Scene, shape: str, rounds: int) -> Row:
    """Of this scene and shape of requests."""
    client = scene.client
    asked = [request_of(shape, n) for n in range(REQUESTS)]
    said = [response_of(shape, n) for n in range(REQUESTS)]
    for request, response in zip(client.sent(asked), said, strict=True):
        scene.once(request, response)
    found = client.responses()
    if len(found) != REQUESTS or not all(each.startswith(b"HTTP/1.1 200 ") and each.endswith(BODY) for each in found):
        raise RuntimeError(f"not served: {found[-1:]!r}")
    (one,) = client.sent(asked[:1])
    steps = bytecodes(lambda: scene.once(one, said[0]))
    unit, best = Unit(), float("inf")
    gc.collect()
    for _ in range(rounds):
        client.responses()
        sent = client.sent(asked)
        unit.take()
        began = time.thread_time()
        for request, response in zip(sent, said, strict=True):
            scene.once(request, response)
        best = min(best, (time.thread_time() - began) / REQUESTS * 1e6)
    client.responses()
    details = f"{steps} steps of bytecode"
    return Row(
        f"proxy, {name}",
        best,
        "us",
        None,
        True,
        details,
        {"steps": steps},
        best / unit.us,
    )
