"""``mesh.aio_grpc_channel``: a ``grpc.aio.Channel`` whose calls go through the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic

import grpc
from grpc import aio

from meshlib.transport.grpcio.client.aio_calls import (
    MeshCall,
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)
from meshlib.transport.grpcio.client.aio_interceptors import ClientInterceptor, by_kind, intercepted
from meshlib.transport.grpcio.client.aio_requests import AioRequests
from meshlib.transport.grpcio.client.aio_run import AioRun
from meshlib.transport.grpcio.client.aio_stream_run import StreamOnLoop, StreamRun
from meshlib.transport.grpcio.client.connectivity import State, together, upstreams_of
from meshlib.transport.grpcio.client.dialer import AS_IT_IS, Dialer
from meshlib.transport.grpcio.client.loop_runtime import OnLoop
from meshlib.transport.grpcio.client.loops import soon_on
from meshlib.transport.grpcio.client.method import Method, Stubs
from meshlib.transport.grpcio.client.next_turn import NextTurn
from meshlib.transport.grpcio.client.serialize import serializer_of
from meshlib.transport.grpcio.contracts import Req, Resp

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import LoopRequest
    from meshlib.transport.grpcio.contracts import Metadata, Options, Serializer

RESYNC = 0.5
"""Seconds between looks for endpoints that have come or gone, while somebody waits for a change of state."""


class _MultiCallable(Generic[Req, Resp]):
    """What all multicallables hold, and how they begin a call."""

    __slots__ = ("_channel", "_dialer", "_interceptors", "_method", "_serialized")

    def __init__(self, channel: AioMeshChannel, method: Method[Req, Resp]) -> None:
        self._channel = channel
        self._dialer = channel.dialer
        self._method = method
        self._serialized: Callable[..., bytes] = serializer_of(method)
        self._interceptors: list[ClientInterceptor] = getattr(channel, f"_{method.kind}_interceptors")

    def _intercepted(
        self,
        request: object,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> object:
        self._channel.check_open()
        own = self._method

        def start(details: aio.ClientCallDetails, taken: object) -> object:
            path: str | bytes | None = details.method
            method = own
            if path is not None and path not in (own.target, own.path):  # an interceptor has changed it
                method = Method(own.kind, path, own.serialize, own.deserialize)
            return self._start(
                method,
                taken,
                details.timeout,
                details.metadata,
                details.credentials,
                details.wait_for_ready,
                compression,
            )

        return intercepted(
            own.kind, self._interceptors, own.path, request, timeout, metadata, credentials, wait_for_ready, start
        )

    def _start(
        self,
        method: Method[Req, Resp],
        request: object,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> MeshCall:
        """Begin a call in a task of its own."""
        channel, dialer = self._channel, self._dialer
        channel.check_open()
        requests: AioRequests[object] | None = None
        messages: bytes | AioRequests[object]
        if isinstance(self, _RequestStream):
            given: AsyncIterable[object] | Iterable[object] | None = request  # type: ignore[assignment]
            serialize: Serializer[object] | None = method.serialize  # type: ignore[assignment]
            messages = requests = AioRequests(given, serialize, lambda: run.cancel())
        else:
            messages = self._serialized(request)
        call = dialer.routed(method, messages, timeout, metadata, credentials, compression)
        exchange = dialer.exchange_of(call, wait_for_ready, brief=not method.streaming)
        core = dialer.core
        run: AioRun
        made: MeshCall
        if method.streaming:
            watched = core.telemetry.watch(call, exchange)
            stream = run = StreamRun(
                call, watched, StreamOnLoop(core, dialer.settings), requests, core.telemetry, channel.under_way
            )
            run.begin()
            made = UnaryStreamCall(stream) if requests is None else StreamStreamCall(stream)
        else:
            run = AioRun(call, exchange, channel.runtime, requests, core.telemetry, channel.under_way)
            run.begin()
            made = StreamUnaryCall(run)
        return made


class _UnaryRequest(_MultiCallable[Req, Resp]):
    __slots__ = ()

    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> object:
        if self._interceptors:
            return self._intercepted(request, timeout, metadata, credentials, wait_for_ready, compression)
        return self._start(self._method, request, timeout, metadata, credentials, wait_for_ready, compression)


class _RequestStream(_MultiCallable[Req, Resp]):
    __slots__ = ()

    def __call__(
        self,
        request_iterator: AsyncIterable[Req] | Iterable[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> object:
        if self._interceptors:
            return self._intercepted(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return self._start(self._method, request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


class UnaryUnary(_UnaryRequest[Req, Resp], aio.UnaryUnaryMultiCallable):
    """One request, one response."""

    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> object:
        # as the others begin, but without asking what kind of call it is, in one function, and not begun yet: nearly all calls
        # come here
        if self._interceptors:
            return self._intercepted(request, timeout, metadata, credentials, wait_for_ready, compression)
        channel, dialer = self._channel, self._dialer
        if channel.closed:
            channel.check_open()
        call: Call[LoopRequest] = dialer.routed(
            self._method, self._serialized(request), timeout, metadata, credentials, compression
        )
        core = dialer.core
        exchange: Exchange[LoopRequest] | None = None
        if wait_for_ready or core.exchange_of is not AS_IT_IS:
            exchange = dialer.exchange_of(call, wait_for_ready, brief=True)
        run = AioRun(call, exchange, channel.runtime, None, core.telemetry, channel.under_way)
        run.context = copy_context()
        turn = channel.turn
        if turn is None or turn.loop is not run.loop:
            turn = channel.turn = NextTurn(run.loop)
        run.waiting = turn
        turn.begin(run)
        return UnaryUnaryCall(run)

    def _start(
        self,
        method: Method[Req, Resp],
        request: Any,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        straight = UnaryUnary(self._channel, method)  # behind the interceptors
        straight._interceptors = []
        return straight(
            request,
            timeout=timeout,
            metadata=metadata,
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )


class UnaryStream(_UnaryRequest[Req, Resp], aio.UnaryStreamMultiCallable):
    """One request, a stream of responses."""


class StreamUnary(_RequestStream[Req, Resp], aio.StreamUnaryMultiCallable):
    """A stream of requests, one response."""


class StreamStream(_RequestStream[Req, Resp], aio.StreamStreamMultiCallable):
    """Streams both ways."""


class AioMeshChannel(Stubs[UnaryUnary, UnaryStream, StreamUnary, StreamStream], aio.Channel):
    """A channel to a host of the mesh, for asyncio. It has no connection of its own: those to endpoints are the mesh's, one
    set an event loop."""

    of_unary_unary = UnaryUnary
    of_unary_stream = UnaryStream
    of_stream_unary = StreamUnary
    of_stream_stream = StreamStream

    def __init__(
        self,
        core: MeshCore,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
        interceptors: Sequence[ClientInterceptor] | None,
    ) -> None:
        self.dialer = Dialer(core, target, credentials, options, compression)
        self.runtime = OnLoop(core, self.dialer.settings)
        # under grpcio's names for them: google-api-core's async transports put theirs into these lists, later on
        found = by_kind(interceptors)
        self._unary_unary_interceptors = found["unary_unary"]
        self._unary_stream_interceptors = found["unary_stream"]
        self._stream_unary_interceptors = found["stream_unary"]
        self._stream_stream_interceptors = found["stream_stream"]
        self.closed = False
        self.under_way: set[AioRun] = set()
        self.turn: NextTurn | None = None  # of the loop that was used last

    def check_open(self) -> None:
        """As grpcio: UsageError for calls on a closed channel."""
        if self.closed:
            raise aio.UsageError("Channel is closed.")

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls; those under way may end within ``grace`` seconds, then they are cancelled. Connections stay
        with the mesh."""
        self.closed = True
        loop = asyncio.get_running_loop()
        ends = [loop.create_task(run.ended()) for run in list(self.under_way) if run.loop is loop]
        if ends and grace:
            await asyncio.wait(ends, timeout=grace)
        for run in list(self.under_way):
            soon_on(run.loop, run.cancel)
        if ends:
            await asyncio.wait(ends)

    async def __aenter__(self) -> AioMeshChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(None)

    # -- connectivity -----------------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The best of the endpoints' states."""
        if self.closed or self.dialer.core.closed:
            return State.SHUTDOWN
        loop = asyncio.get_running_loop()
        return together([u.channel.get_state(try_to_connect) for u in upstreams_of(self.dialer, loop)])

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Until the state is another one."""
        loop = asyncio.get_running_loop()
        core = self.dialer.core
        while self.get_state() is last_observed_state:
            if last_observed_state is State.SHUTDOWN:  # there is no other any more; grpcio says it so
                raise aio.UsageError("Channel is closed.")
            waiting: list[asyncio.Task[None]] = [
                loop.create_task(u.channel.wait_for_state_change(u.channel.get_state()))
                for u in upstreams_of(self.dialer, loop)
            ]
            waiting.append(loop.create_task(core.alarms.pause(RESYNC)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()

    async def channel_ready(self) -> None:
        """Until some endpoint is connected."""
        state = self.get_state(try_to_connect=True)
        while state is not State.READY:
            await self.wait_for_state_change(state)
            state = self.get_state(try_to_connect=True)
