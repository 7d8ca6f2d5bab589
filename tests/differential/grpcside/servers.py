"""gRPC servers that do what a call's metadata tells them, and keep a ledger of every attempt that reaches them.

Metadata of a call: ``x-call`` names it in the ledger; ``x-script`` holds a step per attempt, separated by commas, the last
one repeated (``x-script-a``: for the server a only). Steps of both kinds of server:

- ``ok``; ``0.2``: wait so many seconds, then ok
- ``s14``: status 14 at once, in a trailers-only answer
- ``h14``: status 14 after initial metadata, before any message; ``m14``: after one message (of a stream, at the gRPC server)

of the gRPC server:

- ``hold``: wait until ``Ledger.release`` is set, then ok
- ``w0.2``: one message, then wait so many seconds, then ok

of the raw server, which knows no deadlines:

- ``rst8``: RST_STREAM with this code before the head; ``hrst8``: after it; ``mrst8``: after a message
- ``close``, ``hclose``, ``mclose``: the connection ends; ``goaway``: it ends with GOAWAY, which did not take the stream
- ``http503``: a plain HTTP answer; ``grpc503``: an HTTP status in an answer of type application/grpc
- ``nostatus``: an answer that ends without a status; ``notrailers``: a head of that kind alone
- ``w2``: a message, and nothing more ever
"""

from __future__ import annotations

import contextlib
import functools
import struct
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
import h2.exceptions

from tests.support.grpc_echo import Message
from tests.support.h2_server import H2Server, Peer, Request

Pairs = tuple[tuple[str, Any], ...]
CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Attempt:
    """One attempt as a server saw it."""

    server: str
    path: str
    authority: str
    metadata: Pairs
    seconds_left: float | None

    def values(self, name: str) -> list[Any]:
        return [value for key, value in self.metadata if key == name]


class Ledger:
    """What all servers saw, by call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, list[Attempt]] = {}
        self.release = threading.Event()

    def enter(self, attempt: Attempt) -> str:
        """Write an attempt down; the step of the script that it meets."""
        name = (attempt.values("x-call") or ["?"])[0]
        own = attempt.values(f"x-script-{attempt.server}")
        steps = (own or attempt.values("x-script") or ["ok"])[0].split(",")
        with self._lock:
            attempts = self._calls.setdefault(name, [])
            attempts.append(attempt)
            return str(steps[min(len(attempts), len(steps)) - 1])

    def of(self, name: str) -> list[Attempt]:
        with self._lock:
            return list(self._calls.get(name, ()))

    def at(self, server: str) -> list[Attempt]:
        """Every attempt that reached a server."""
        with self._lock:
            return [attempt for attempts in self._calls.values() for attempt in attempts if attempt.server == server]


# -- a real gRPC server ---------------------------------------------------------------------------------------------------


class ScriptedServer(grpc.GenericRpcHandler):
    """A grpcio server on 127.0.0.1 that serves every path; the last part of the path tells the kind of call."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name = name
        self.ledger = ledger
        self.server = grpc.server(futures.ThreadPoolExecutor(24), handlers=[self], options=[("grpc.so_reuseport", 0)])
        self.port: int = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> ScriptedServer:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.release.set()
        self.server.stop(None).wait(60)

    def service(self, details: Any) -> Any:
        kind = details.method.rpartition("/")[2]
        streams_in, streams_out = kind in ("Collect", "Chat"), kind in ("Expand", "Chat")
        name = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        make = getattr(grpc, f"{name}_rpc_method_handler")
        behave = self._stream if streams_out else self._one
        return make(
            lambda requests, context: behave(details.method, requests, context, streams_in),
            request_deserializer=Message.FromString,
            response_serializer=Message.SerializeToString,
        )

    def _begin(self, path: str, context: Any) -> str:
        metadata = tuple((name, value) for name, value in context.invocation_metadata())
        # no public door tells a handler the authority
        authority = context._rpc_event.call_details.host.decode()
        step = self.ledger.enter(Attempt(self.name, path, authority, metadata, context.time_remaining()))
        context.set_trailing_metadata((("answered-by", self.name), ("x-back", "trailing")))
        if step.startswith("s"):
            context.abort(CODES[int(step[1:])], f"scripted {step}")
        if step[0].isdigit() or step == "hold":
            self.ledger.release.wait(30 if step == "hold" else float(step))
            step = "ok"
        context.send_initial_metadata((("x-head", self.name), ("x-back", "initial")))
        if step.startswith("h"):
            context.abort(CODES[int(step[1:])], f"scripted {step}")
        return step

    def _one(self, path: str, request: Any, context: Any, streams_in: bool) -> Any:
        self._begin(path, context)
        requests = list(request) if streams_in else [request]
        return Message(text="".join(r.text for r in requests), server=self.name, count=len(requests))

    def _stream(self, path: str, request: Any, context: Any, streams_in: bool) -> Any:
        step = self._begin(path, context)
        requests = request if streams_in else [Message(text=f"{request.text}{i}") for i in range(request.count)]
        for number, one in enumerate(requests):
            yield Message(text=one.text, server=self.name, count=number)
            if step.startswith("m"):
                context.abort(CODES[int(step[1:])], f"scripted {step}")
            if step.startswith("w"):
                self.ledger.release.wait(float(step[1:]))


# -- a raw HTTP/2 server ----------------------------------------------------------------------------------------------------

HEAD = ((b"content-type", b"application/grpc"),)
OK = [(b"grpc-status", b"0")]


def framed(text: str, server: str) -> bytes:
    body = Message(text=text, server=server).SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


@contextlib.contextmanager
def raw_server(name: str, ledger: Ledger) -> Iterator[H2Server]:
    """A server that breaks calls as no gRPC server would."""
    timers: list[threading.Timer] = []

    def after(seconds: float, act: Any, *arguments: Any) -> None:
        def run() -> None:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the client has reset the stream meanwhile
                act(*arguments)

        timers.append(threading.Timer(seconds, run))
        timers[-1].start()

    def later(peer: Peer, step: str, act: Any, *arguments: Any) -> None:
        """At once; but what was sent before must have been read, or the other side may drop it."""
        if step[0] in "hm":
            peer.once_read(functools.partial(act, *arguments))
        else:
            act(*arguments)

    def end(peer: Peer, request: Request) -> None:
        with peer.lock:
            peer.h2.end_stream(request.stream)
            peer.flush()

    def answer(peer: Peer, request: Request) -> None:
        known = dict(request.headers)
        path, authority = known[b":path"].decode(), known[b":authority"].decode()
        metadata = tuple((k.decode(), v.decode()) for k, v in request.headers if not k.startswith(b":"))
        step = ledger.enter(Attempt(name, path, authority, metadata, None))
        if step.startswith("http"):
            peer.head(request, int(step[4:]), [(b"content-type", b"text/plain")])
            later(
                peer, "h", peer.data, request, b"plain"
            )  # grpcio may overlook the head of an answer that comes at once
        elif step.startswith("grpc"):
            peer.respond(request, b"", int(step[4:]), HEAD)
        elif step.startswith("s"):
            status = [(b"grpc-status", step[1:].encode()), (b"grpc-message", b"scripted")]
            peer.respond(request, b"", 200, [*HEAD, *status])
        elif step == "nostatus":
            peer.head(request, 200, HEAD)
            peer.some(request, framed("x", name))
            later(peer, "m", end, peer, request)
        elif step == "notrailers":
            peer.respond(request, b"", 200, HEAD)
        elif step == "goaway":
            peer.goaway(0)
            peer.close()
        elif step[0].isdigit():
            after(float(step), peer.respond, request, framed("ok", name), 200, HEAD, OK)
        else:
            if step[0] in "hmw":
                peer.head(request, 200, [*HEAD, (b"x-head", name.encode())])
            if step[0] in "mw":
                peer.some(request, framed("first", name))
            if step[0] == "w":  # and nothing more ever comes
                return
            rest = step.lstrip("hm")
            if rest.startswith("rst"):
                later(peer, step, peer.reset, request, int(rest[3:]))
            elif rest.isdigit():
                status = [(b"grpc-status", rest.encode()), (b"grpc-message", b"scripted")]
                later(peer, step, peer.data, request, b"", status)
            elif rest == "close":
                later(peer, step, peer.close)
            else:
                peer.respond(request, framed("ok", name), 200, HEAD, OK)

    try:
        with H2Server(answer) as server:
            yield server
    finally:
        for timer in timers:
            timer.cancel()
