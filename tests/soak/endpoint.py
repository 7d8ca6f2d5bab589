"""``python -m tests.soak.endpoint KIND PORT LEDGER SEED``: an endpoint in a process of its own, to be killed (SIGKILL) or
drained (SIGTERM). Notes each request that it works on before it answers. Prints a line when it listens; ends with its parent.

A caller may ask in ``x-soak-fault`` for what goes wrong. ``refuse`` closes without a word, ``cut`` works and then closes
without a word, ``503`` answers that, ``midbody`` breaks off in the body, ``slow`` and ``trickle`` take their time, ``close``
closes after the response, ``idle-close`` a moment later. The first four happen to the first attempt only.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from tests.soak.response import FAULT, ID, SIZE, body_for, step

ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
SLOW = 0.05
TRICKLE = 20
PIECE = 0.005
GRACE = 2.0
STUCK = 10.0
"""Seconds after which a server that is to go says where it stands, and goes."""
FIRST_ATTEMPT_ONLY = {b"refuse", b"cut", b"503", b"midbody"}


class Record:
    """The ledger of a server: whole lines, straight to the kernel, so that a SIGKILL loses none."""

    def __init__(self, path: str, port: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._port = port

    def _write(self, *entry: object) -> None:
        os.write(self._file, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def executed(self, call: bytes, attempt: bytes, host: bytes) -> None:
        name = host.decode("latin-1").rpartition(":")[0] or host.decode("latin-1")
        self._write("x", call.decode("latin-1"), attempt.decode("latin-1"), name, self._port, time.monotonic())

    def broken(self, error: Exception) -> None:
        """A client broke the protocol."""
        self._write("broken", self._port, time.monotonic(), repr(error))

    def idle_close(self) -> None:
        self._write("idle-close", self._port, time.monotonic())


def fault_of(headers: dict[bytes, bytes]) -> bytes:
    fault = headers.get(FAULT, b"")
    first = headers.get(b"x-envoy-attempt-count", b"1") == b"1"
    return fault if first or fault not in FIRST_ATTEMPT_ONLY else b""


# -- HTTP/1.1 -------------------------------------------------------------------------------------------------------------


class Http1(asyncio.Protocol):
    """One connection."""

    open: set[Http1] = set()  # noqa: RUF012
    draining = False
    record: Record

    def connection_made(self, transport: Any) -> None:
        import httptools

        self.transport = transport
        self.parser: Any = httptools.HttpRequestParser(self)
        self.busy: asyncio.Task[None] | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self)
        if self.busy is not None:
            self.busy.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except Exception as error:
            self.record.broken(error)
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        headers, self.headers = self.headers, {}
        body, self.body = b"".join(self.body), []
        self.busy = asyncio.get_running_loop().create_task(self.respond(headers, body))

    async def respond(self, headers: dict[bytes, bytes], body: bytes) -> None:
        fault = fault_of(headers)
        if fault == b"refuse":
            self.transport.abort()
            return
        call = headers.get(ID, b"?")
        self.record.executed(call, headers.get(b"x-envoy-attempt-count", b""), headers.get(b"host", b""))
        if fault == b"cut":
            self.transport.abort()
            return
        if fault == b"slow":
            await asyncio.sleep(SLOW)
        answer = body_for(call, body, int(headers.get(SIZE, b"0")))
        status = b"503 Service Unavailable" if fault == b"503" else b"200 OK"
        close = fault == b"close" or Http1.draining
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        head = b"HTTP/1.1 %s\r\nx-soak-id: %s\r\n" % (status, call)
        if fault == b"trickle":
            self.transport.write(head + b"transfer-encoding: chunked\r\n" + end)
            size = len(answer) // TRICKLE + 1
            for at in range(0, len(answer), size):
                piece = answer[at : at + size]
                self.transport.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await asyncio.sleep(PIECE)
            self.transport.write(b"0\r\n\r\n")
        elif fault == b"midbody":
            self.transport.write(head + b"content-length: %d\r\n" % (len(answer) + 100) + end + answer)
            await asyncio.sleep(0.01)
            self.transport.abort()
            return
        else:
            self.transport.write(head + b"content-length: %d\r\n" % len(answer) + end + answer)
        self.busy = None
        if close or Http1.draining:
            self.transport.close()
        elif fault == b"idle-close":
            await asyncio.sleep(0.03)
            if self.busy is None:
                self.record.idle_close()
                self.transport.close()


async def serve_http1(port: int, record: Record) -> None:
    Http1.record = record
    loop = asyncio.get_running_loop()
    drain = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, drain.set)
    server = await loop.create_server(Http1, ADDRESSES, port, backlog=1024)
    ready()
    await drain.wait()
    faulthandler.dump_traceback_later(STUCK, exit=True)
    Http1.draining = True
    server.close()
    for connection in list(Http1.open):
        if connection.busy is None:
            connection.transport.close()
    end = time.monotonic() + GRACE
    while Http1.open and time.monotonic() < end:
        await asyncio.sleep(0.01)
    os._exit(0)


# -- HTTP/2 ---------------------------------------------------------------------------------------------------------------


def serve_http2(port: int, record: Record) -> None:
    import h2.exceptions

    from tests.support.h2_server import H2Server, Peer, Request

    under_way = set()
    last_stream: dict[Peer, int] = {}  # of connections that were told to go away: later ones are not worked on

    def respond(peer: Peer, request: Request) -> None:
        headers = dict(request.headers)
        call, fault = headers.get(ID, b"?"), fault_of(headers)
        if fault == b"refuse":
            peer.refuse(request)
            return
        record.executed(call, headers.get(b"x-envoy-attempt-count", b""), headers.get(b":authority", b""))
        if fault == b"cut":
            peer.reset(request)
            return
        answer = body_for(call, bytes(request.body), int(headers.get(SIZE, b"0")))
        extra = [(ID, call)]
        if fault == b"midbody":
            peer.head(request, 200, extra)
            peer.some(request, answer[:50])
            peer.reset(request)
        elif fault == b"trickle":
            peer.head(request, 200, extra)
            beside(lambda: trickle(peer, request, answer))
        elif fault == b"slow":
            beside(lambda: (time.sleep(SLOW), peer.respond(request, answer, headers=extra)))
        else:
            peer.respond(request, answer, 503 if fault == b"503" else 200, extra)

    def trickle(peer: Peer, request: Request, answer: bytes) -> None:
        size = len(answer) // TRICKLE + 1
        last = (len(answer) - 1) // size * size
        try:
            for at in range(0, last, size):
                peer.some(request, answer[at : at + size])
                time.sleep(PIECE)
            peer.data(request, answer[last:])
        except h2.exceptions.ProtocolError:
            peer.reset(request)  # unless the client has done so

    def beside(work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                with contextlib.suppress(h2.exceptions.ProtocolError):  # the client has reset it meanwhile, or left
                    work()
            finally:
                under_way.discard(thread)

        thread = threading.Thread(target=run, daemon=True)
        under_way.add(thread)
        thread.start()

    def answer(peer: Peer, request: Request) -> None:
        server.requests.clear()
        while server.broken:
            record.broken(server.broken.pop())
        peer.requests.pop(request.stream - 200, None)
        if request.stream <= last_stream.get(peer, request.stream):
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the client has reset it meanwhile
                respond(peer, request)

    server = H2Server(answer, port=port)
    with server:
        ready()
        told_to_go()
        faulthandler.dump_traceback_later(STUCK, exit=True)
        server.stop_listening()
        for peer in list(server.peers):
            with peer.lock:
                last_stream[peer] = max(peer.requests, default=0)
                peer.goaway(last_stream[peer])
        while server.broken:
            record.broken(server.broken.pop())
        end = time.monotonic() + GRACE
        while (server.open_streams or under_way) and time.monotonic() < end:
            time.sleep(0.01)
        os._exit(0)


# -- gRPC -----------------------------------------------------------------------------------------------------------------


def serve_grpc(port: int, record: Record) -> None:
    import grpc

    def begin(context: Any) -> tuple[bytes, bytes]:
        metadata = {k: v.encode() for k, v in context.invocation_metadata() if isinstance(v, str)}
        found = {name.encode(): value for name, value in metadata.items()}
        call, fault = found.get(ID, b"?"), found.get(FAULT, b"")
        attempt = found.get(b"x-envoy-attempt-count", b"")
        if fault == b"UNAVAILABLE" and attempt in (b"", b"1"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "asked for")
        record.executed(call, attempt, found.get(b"x-soak-host", b""))
        if fault == b"slow":
            time.sleep(SLOW)
        return call, fault

    def unary(request: bytes, context: Any) -> bytes:
        call, _ = begin(context)
        return body_for(call, request, 0)

    def collect(requests: Iterator[bytes], context: Any) -> bytes:
        call, _ = begin(context)
        return body_for(call, b"".join(requests), 0)

    def expand(request: bytes, context: Any) -> Iterator[bytes]:
        call, fault = begin(context)
        for number in range(int(request.rpartition(b" ")[2])):
            if fault == b"trickle":
                time.sleep(PIECE)
            yield step(call, number)

    def chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        call, _ = begin(context)
        for number, _request in enumerate(requests):
            yield step(call, number)

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Expand": grpc.unary_stream_rpc_method_handler(expand),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("soak.Soak", handlers)])
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        raise SystemExit(f"port {port} is taken")
    server.start()
    ready()
    told_to_go()
    faulthandler.dump_traceback_later(STUCK, exit=True)
    server.stop(GRACE).wait(GRACE + 5)
    os._exit(0)


# -- all ------------------------------------------------------------------------------------------------------------------


def told_to_go() -> None:
    """Returns when SIGTERM comes. Waited for, not handled: a handler that sets an Event may find its lock held by the very
    thread that it interrupts."""
    signal.sigwait({signal.SIGTERM})


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main(kind: str, port: str, ledger: str) -> None:
    if kind != "http1":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in every thread; see ``told_to_go``
    threading.Thread(target=_end_with_parent, daemon=True).start()
    record = Record(ledger, int(port))
    if kind == "http1":
        asyncio.run(serve_http1(int(port), record))
    elif kind == "http2":
        serve_http2(int(port), record)
    else:
        serve_grpc(int(port), record)


if __name__ == "__main__":
    main(*sys.argv[1:])
