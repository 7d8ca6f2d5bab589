"""One request through the proxy in this process, over transports that only keep what is written: what the proxy itself costs,
without the kernel. In microseconds, ``json.loads`` of the same run, and steps of bytecode, which no busy machine changes."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit
from benchmarks.proxy_load import AUTHORITY, FEW, FIELDS, MANY, TARGETS
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.http1_laid_out import Http1LaidOut
from meshlib.proxy.listener import Listener
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.loop_connection import Connection, connection_to
from meshlib.transport.upstream.loop_turn import Turn

BODY = b"x" * 64
_FEW = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 25 Nov 2026 15:29:28 GMT\r\nContent-Type: text/plain\r\n"
_FEW += "Content-Length: 64\r\nConnection: keep-alive\r\n"
_MANY = 'cache-control: no-cache, no-store\r\netag: "%(n)032x"\r\nvary: accept-encoding\r\nx-response-id: %(n)032x\r\n'
_MANY += "strict-transport-security: max-age=31536000\r\nx-content-type-options: nosniff\r\n"
RESPONSES = {FEW: _FEW, MANY: _FEW + _MANY}
REQUESTS = 2_000
"""As many different ones are made before time is taken."""


class Kept:
    """A transport that takes all at once. ``written`` is called with what is."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        self.write = written

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int = 0, low: int = 0) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = close


class Idle:
    """A loop whose turns are ended by whoever has it: of the proxy's, which are ended by one handle for many requests."""

    def call_soon(self, function: Callable[[], None]) -> None:
        pass


def turn_of(forwarder: Forwarder) -> Turn:
    """The turn that its requests and responses go out at the end of, from here on."""
    loop: Any = Idle()
    forwarder.turn = forwarder.upstream.turn = made = Turn(loop)
    return made


class Scene:
    """A client's connection, and an idle one to each endpoint."""

    def __init__(self, mesh: meshlib.Mesh, sock: socket.socket) -> None:
        self.forwarder = forwarder = Forwarder(mesh._core)
        self._turn = turn_of(forwarder)
        self.responses: list[bytes] = []
        self._asked: Connection | None = None
        transport: Any = Kept(self.responses.append)
        self.downstream = Http1LaidOut(Listener(sock, forwarder))
        self.downstream.connection_made(transport)
        live = mesh._core.live
        assert live is not None
        request = ProxyRequest(b"GET", AUTHORITY.encode(), b"/", b"Host: x\r\n", b"\r\nhost: x\r\n", None)
        for key in live.snapshot.clusters:
            cluster = live.cluster(key)
            for endpoint in cluster.endpoints:
                target = find_target(mesh._core, cluster, endpoint, request, forwarder.settings)
                self._connect(connection_to(target, forwarder.upstream))

    def _connect(self, connection: Connection) -> None:
        def asked(data: bytes) -> None:
            self._asked = connection

        transport: Any = Kept(asked)
        connection.connection_made(transport)
        # as after a response: it is one that may be used again
        connection.reader.complete = connection.reader.keep_alive = True
        self.forwarder.upstream.release(connection)

    def once(self, request: bytes, response: bytes) -> None:
        """One request and its response."""
        turn = self._turn
        self.downstream.data_received(request)
        turn.end()
        connection, self._asked = self._asked, None
        assert connection is not None, "the request took no connection: it went the long way"
        connection.data_received(response)
        turn.end()


def in_process(quick: bool) -> list[Row]:
    """Of both shapes of requests."""
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Row]:
    made = []
    with meshlib.Mesh.from_resources(synthetic.reviews(1), seed=1) as mesh, socket.socket() as sock:
        for shape in (FEW, MANY):
            scene = Scene(mesh, sock)
            pairs = [(request_of(shape, n), response_of(shape, n)) for n in range(REQUESTS)]
            for request, response in pairs:
                scene.once(request, response)
            if not all(each.startswith(b"HTTP/1.1 200 ") and each.endswith(BODY) for each in scene.responses):
                raise RuntimeError(f"not forwarded: {scene.responses[-1][:200]!r}")
            scene.responses.clear()
            steps = bytecodes(lambda scene=scene, pairs=pairs: scene.once(*pairs[0]))
            best, unit = _best(scene, pairs, 5 if quick else 20)
            name = f"proxy, one request in process, {shape}"
            made.append(
                Row(name, best, "us", details=f"{steps} steps of bytecode", extra={"steps": steps}, json=best / unit)
            )
    return made


def _best(scene: Scene, pairs: list[tuple[bytes, bytes]], rounds: int) -> tuple[float, float]:
    """Microseconds of a request and of ``json.loads``, the best of the rounds."""
    unit, best, once = Unit(), float("inf"), scene.once
    gc.collect()
    for _ in range(rounds):
        unit.take()
        began = time.thread_time()
        for request, response in pairs:
            once(request, response)
        best = min(best, (time.thread_time() - began) / len(pairs) * 1e6)
        scene.responses.clear()
    return best, unit.us


def bytecodes(call: Callable[[], object]) -> int:
    """Steps of bytecode that a call takes in this thread."""
    steps = 0

    def each(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            steps += 1
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps


def request_of(shape: str, number: int) -> bytes:
    """No two are alike."""
    lines = "".join(f"{line}\r\n" for line in FIELDS[shape])
    ids = f"x-request-id: {number:08x}-16cd-43dd-8448-eb211c80319c\r\n"
    ids += f"traceparent: 00-{number:08x}16cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    return f"GET {TARGETS[shape]} HTTP/1.1\r\nHost: {AUTHORITY}\r\n{lines}{ids}\r\n".encode()


def response_of(shape: str, number: int) -> bytes:
    """No two with many fields are alike."""
    return (RESPONSES[shape] % {"n": number}).encode() + b"\r\n" + BODY
