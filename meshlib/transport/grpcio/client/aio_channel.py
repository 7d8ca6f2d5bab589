"""``mesh.aio_grpc_channel``: a ``grpc.aio.Channel`` whose calls go through the mesh."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
from grpc import aio

from meshlib.transport.grpcio.client.aio_calls import (
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)
from meshlib.transport.grpcio.client.aio_interceptors import by_kind, intercepted
from meshlib.transport.grpcio.client.aio_requests import AioRequests
from meshlib.transport.grpcio.client.aio_run import AioRun
from meshlib.transport.grpcio.client.aio_stream_run import StreamOnLoop, StreamRun
from meshlib.transport.grpcio.client.channel import serialized
from meshlib.transport.grpcio.client.connectivity import State, together, upstreams_of
from meshlib.transport.grpcio.client.dialer import Dialer
from meshlib.transport.grpcio.client.loop_runtime import OnLoop
from meshlib.transport.grpcio.client.loops import soon_on
from meshlib.transport.grpcio.client.method import Method, Stubs
from meshlib.transport.grpcio.client.next_turn import NextTurn

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore

RESYNC = 0.5
"""Seconds between looks for endpoints that have come or gone, while somebody waits for a change of state."""


class _Callable:
    """What all multicallables hold, and how they begin a call."""

    __slots__ = ("_channel", "_dialer", "_interceptors", "_method")

    def __init__(self, channel: AioMeshChannel, method: Method) -> None:
        self._channel = channel
        self._dialer = channel.dialer
        self._method = method
        self._interceptors = getattr(channel, f"_{method.kind}_interceptors")

    def _intercepted(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> Any:
        self._channel.check_open()
        own = self._method

        def start(details: Any, taken: Any) -> Any:
            path, method = details.method, own
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
        method: Method,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> Any:
        channel, dialer = self._channel, self._dialer
        channel.check_open()
        requests: AioRequests | None = None
        taken: Any
        if method.kind.startswith("stream"):
            taken = requests = AioRequests(request, method.serialize, lambda: run.cancel())
        else:
            taken = serialized(method, request)
        call, exchange = dialer.begin(method, taken, timeout, metadata, credentials, wait_for_ready, compression)
        core = dialer.core
        run: AioRun
        if method.streaming:
            watched = core.telemetry.watch(call, exchange)
            run = StreamRun(
                call, watched, StreamOnLoop(core, dialer.settings), requests, core.telemetry, channel.under_way
            )
        else:
            run = AioRun(call, exchange, channel.runtime, requests, core.telemetry, channel.under_way)
        run.begin()
        return _CALLS[method.kind](run)


_CALLS: dict[str, Any] = {
    "unary_stream": UnaryStreamCall,
    "stream_unary": StreamUnaryCall,
    "stream_stream": StreamStreamCall,
}


class _UnaryRequest(_Callable):
    __slots__ = ()

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        if self._interceptors:
            return self._intercepted(request, timeout, metadata, credentials, wait_for_ready, compression)
        return self._start(self._method, request, timeout, metadata, credentials, wait_for_ready, compression)


class _RequestStream(_Callable):
    __slots__ = ()

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        if self._interceptors:
            return self._intercepted(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return self._start(self._method, request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


class UnaryUnary(_UnaryRequest, aio.UnaryUnaryMultiCallable):
    """One request, one answer."""

    def _start(
        self,
        method: Method,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> Any:
        # the same as above without asking what kind of call it is, and not begun yet: nearly all calls come here
        channel, dialer = self._channel, self._dialer
        if channel.closed:
            channel.check_open()
        taken = serialized(method, request)
        call, exchange = dialer.begin(method, taken, timeout, metadata, credentials, wait_for_ready, compression)
        run = AioRun(call, exchange, channel.runtime, None, dialer.core.telemetry, channel.under_way)
        run.context = contextvars.copy_context()
        turn = channel.turn
        if turn.loop is not run.loop:
            turn = channel.turn = NextTurn(run.loop)
        run.waiting = turn
        turn.begin(run)
        return UnaryUnaryCall(run)


class UnaryStream(_UnaryRequest, aio.UnaryStreamMultiCallable):
    """One request, a stream of answers."""


class StreamUnary(_RequestStream, aio.StreamUnaryMultiCallable):
    """A stream of requests, one answer."""


class StreamStream(_RequestStream, aio.StreamStreamMultiCallable):
    """Streams both ways."""


class AioMeshChannel(Stubs, aio.Channel):
    """A channel to a host of the mesh, for asyncio. It has no connection of its own: those to endpoints are the mesh's, one
    set an event loop."""

    callables: ClassVar[dict[str, Any]] = {
        "unary_unary": UnaryUnary,
        "unary_stream": UnaryStream,
        "stream_unary": StreamUnary,
        "stream_stream": StreamStream,
    }

    def __init__(
        self,
        core: MeshCore,
        target: str,
        credentials: Any,
        options: Any,
        compression: Any,
        interceptors: Sequence[Any] | None,
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
        self.turn = NextTurn(None)  # of the loop that was used last

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
        return together([u.channel.get_state(try_to_connect) for u in upstreams_of(self.dialer, loop)])  # type: ignore[no-any-return]

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Until the state is another one."""
        loop = asyncio.get_running_loop()
        core = self.dialer.core
        while self.get_state() is last_observed_state:
            if last_observed_state is State.SHUTDOWN:  # there is no other any more; grpcio says it so
                raise aio.UsageError("Channel is closed.")
            waiting = [
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
