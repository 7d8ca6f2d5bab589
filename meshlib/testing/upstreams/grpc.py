"""A scripted gRPC server: grpcio's own, behind a relay whose connections can be broken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

import grpc

from meshlib.testing.upstreams.listener import Listener
from meshlib.testing.upstreams.script import Gate, Request, Step
from meshlib.testing.upstreams.upstream import TOKEN, Upstream

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.testing.upstreams.listener import LoopThread

THREADS: Final = 16
"""Calls that a server works on at a time; gates hold their threads."""
TURNS: Final = 3
"""Turns of the loop in which what the server has written goes through the relay, before a connection is broken."""


class Message(Protocol):
    """What protobuf generates."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 (protobuf's own name)


@dataclass(frozen=True, slots=True)
class Rpc(Step):
    """The response to one call: messages, and then a status."""

    messages: tuple[bytes, ...] = ()
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    initial: tuple[tuple[str, str | bytes], ...] = ()
    trailing: tuple[tuple[str, str | bytes], ...] = ()


class GrpcUpstream(Upstream[Rpc]):
    """Responds to calls of every method as its script says, then with one empty message; see ``always``. It reads all requests
    of a stream before it responds."""

    def __init__(self, thread: LoopThread, clock: Clock, host: str, subset: str = "") -> None:
        super().__init__(thread, clock, host, subset, Rpc(messages=(b"",)))
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="meshlib-upstream")
        self._server = grpc.server(self._pool, handlers=[_Handlers(self)], options=[("grpc.so_reuseport", 0)])
        self._behind = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._listener = Listener(lambda listener: _Relay(listener, self._behind))
        self.start()

    def respond(
        self,
        *messages: bytes | Message,
        initial: Sequence[tuple[str, str | bytes]] = (),
        trailing: Sequence[tuple[str, str | bytes]] = (),
        delay: float = 0.0,
        gate: Gate | None = None,
        times: int = 1,
    ) -> Self:
        """The next call (the next ``times`` of them) gets these messages, protobuf's or bytes, and the status OK. ``delay`` and
        ``gate``: as of ``HttpUpstream.respond``. ``initial``, ``trailing``: metadata."""
        step = Rpc(delay, gate, messages=_bytes(messages), initial=tuple(initial), trailing=tuple(trailing))
        self._script.add(step, times)
        return self

    def always(self, *messages: bytes | Message, delay: float = 0.0) -> Self:
        """Every call that the script has nothing for gets these messages."""
        self._script.default = Rpc(delay, messages=_bytes(messages))
        return self

    def fail(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        after: Sequence[bytes | Message] = (),
        trailing: Sequence[tuple[str, str | bytes]] = (),
        delay: float = 0.0,
        times: int = 1,
    ) -> Self:
        """The next call ends with this status, ``after`` these messages."""
        if not isinstance(code, grpc.StatusCode):
            raise TypeError(f"the code is a grpc.StatusCode, not {code!r}")
        step = Rpc(delay, messages=_bytes(after), code=code, details=details, trailing=tuple(trailing))
        self._script.add(step, times)
        return self

    def reset(self, *messages: bytes | Message, delay: float = 0.0, gate: Gate | None = None, times: int = 1) -> Self:
        """The connection of the next call is reset, after these messages; other calls on it break with it, as in life.

        Messages that the client has not read by then may be lost, the first one too; with a ``gate`` it breaks when that is
        opened, and not before."""
        step = Rpc(delay, gate, breaks="reset", messages=_bytes(messages))
        self._script.add(step, times)
        return self

    def close(self) -> None:
        """For good."""
        super().close()
        self._server.stop(None)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _serve(self, path: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        metadata = tuple((key, _text(value)) for key, value in context.invocation_metadata())
        token = next((value for key, value in metadata if key == TOKEN), "")
        headers = tuple(pair for pair in metadata if pair[0] != TOKEN)
        messages = tuple(requests)
        step, reserved = self._script.take(token)
        self._script.record(Request("POST", path, headers, b"".join(messages), messages))
        if step.gate is not None and not step.breaks:
            step.gate.hold()
        if step.delay and not reserved:
            self._clock.sleep(step.delay)
        if step.initial:
            context.send_initial_metadata(step.initial)
        yield from step.messages
        if step.breaks:
            if step.gate is not None:
                step.gate.hold()
            with contextlib.suppress(CancelledError, RuntimeError):  # the test has ended
                self._thread.run(_break_all(self._listener))
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was broken")
        context.set_trailing_metadata(step.trailing)
        if step.code is not grpc.StatusCode.OK:
            context.abort(step.code, step.details)


async def _break_all(listener: Listener) -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
    listener.break_all()


def _bytes(messages: Sequence[bytes | Message]) -> tuple[bytes, ...]:
    for message in messages:
        if not isinstance(message, bytes) and not hasattr(message, "SerializeToString"):
            raise TypeError(f"a message is one of protobuf's or bytes, not {message!r}")
    return tuple(m if isinstance(m, bytes) else m.SerializeToString() for m in messages)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


class _Handlers(grpc.GenericRpcHandler):
    """Every method, as bytes: on the wire a single message is a stream of one."""

    def __init__(self, upstream: GrpcUpstream) -> None:
        self._upstream = upstream

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = details.method
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._upstream._serve(path, requests, context)
        )


class _Relay(asyncio.Protocol):
    """A connection of a client, and the server's behind it."""

    def __init__(self, listener: Listener, behind: int) -> None:
        self._listener = listener
        self._port = behind
        self._early = bytearray()
        self._lost = False
        self._client: asyncio.Transport
        self._behind: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        self._listener.opened(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._behind, _ = await loop.create_connection(lambda: _Behind(self._client), "127.0.0.1", self._port)
        self._behind.write(bytes(self._early))
        if self._lost:
            self._behind.abort()

    def data_received(self, data: bytes) -> None:
        if self._behind is None:
            self._early += data
        else:
            self._behind.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost = True
        self._listener.transports.discard(self._client)
        if self._behind is not None:
            self._behind.abort()


class _Behind(asyncio.Protocol):
    """What the server says goes to the client."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._client.close()
