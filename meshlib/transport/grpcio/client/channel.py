"""``mesh.grpc_channel``: a ``grpc.Channel`` whose calls go through the mesh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from meshlib.engine.drivers import finish, run
from meshlib.transport.grpcio.client.connectivity import Connectivity
from meshlib.transport.grpcio.client.dialer import Dialer
from meshlib.transport.grpcio.client.errors import RpcFailed, error_of, ok_without_message
from meshlib.transport.grpcio.client.future import FutureCall
from meshlib.transport.grpcio.client.method import Method, Stubs
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.requests import ReplayIterator, to_bytes
from meshlib.transport.grpcio.client.shown_call import with_metadata
from meshlib.transport.grpcio.client.stream import StreamCall
from meshlib.transport.grpcio.client.thread_runtime import Blocking

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.engine.outcome import Outcome
    from meshlib.transport.core.mesh_core import MeshCore

log = logging.getLogger("meshlib.grpc")
INTERNAL = grpc.StatusCode.INTERNAL


def settle(outcome: Outcome, exchange: Exchange, call: Call) -> GrpcOutcome:
    """End the exchange of a call that was answered without a message, or not by a server: what it comes to, or the exception
    it ends with."""
    record = call.record
    if outcome.grpc_status == 0:
        outcome = ok_without_message(outcome, call) or outcome
    if type(outcome) is not GrpcOutcome:
        error: Any = error_of(outcome, call)
        finish(exchange)
        raise error
    record.status = outcome.status
    record.grpc_status = outcome.code
    failure = None if outcome.error is None else with_metadata(outcome.error, outcome, record)
    finish(exchange)
    if failure is not None:
        raise failure
    if call.request.with_call:
        with_metadata(outcome.call, outcome, record)
    return outcome


def serialized(method: Method, request: Any) -> Any:
    """The request as bytes. Raises what grpcio answers when that fails, with the reason as its cause."""
    try:
        return to_bytes(request, method.serialize)
    except Exception as error:
        log.error("a request of %s could not be serialized", method.path, exc_info=error)
        raise RpcFailed(INTERNAL, "Exception serializing request!", (), None) from error


class _Callable:
    """What all multicallables hold."""

    __slots__ = ("_channel", "_dialer", "_method", "_runtime")

    def __init__(self, channel: MeshChannel, method: Method) -> None:
        self._channel = channel
        self._dialer = channel.dialer
        self._runtime = channel.runtime
        self._method = method


class UnaryUnary(_Callable, grpc.UnaryUnaryMultiCallable):
    """One request, one answer."""

    __slots__ = ()

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
        _with_call: bool = False,
    ) -> Any:
        if self._channel.closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        dialer = self._dialer
        call, exchange = dialer.begin(
            self._method, self._taken(request), timeout, metadata, credentials, wait_for_ready, compression
        )
        call.request.with_call = _with_call
        telemetry = dialer.core.telemetry
        span = telemetry.began(call)
        try:
            outcome = run(exchange, self._runtime).outcome
            if type(outcome) is not GrpcOutcome or outcome.error is not None or outcome.grpc_status is not None:
                outcome = settle(outcome, exchange, call)
            else:  # nearly always: answered with a message
                record = call.record
                record.status = outcome.status
                record.grpc_status = outcome.code
                if _with_call:
                    with_metadata(outcome.call, outcome, record)
                finish(exchange)
            return (outcome.message, outcome.call) if _with_call else outcome.message
        finally:
            telemetry.ended(call, span)
            if type(call.request.messages) is not bytes:
                call.request.messages.over()

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self(request, timeout, metadata, credentials, wait_for_ready, compression, _with_call=True)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        self._channel.check_open()
        call, exchange = self._dialer.begin(
            self._method, self._taken(request), timeout, metadata, credentials, wait_for_ready, compression
        )
        return self._channel.started(FutureCall(call, self._dialer.core.telemetry.watch(call, exchange), self._dialer))

    def _taken(self, request: Any) -> Any:
        return serialized(self._method, request)


class StreamUnary(UnaryUnary, grpc.StreamUnaryMultiCallable):
    """A stream of requests, one answer."""

    __slots__ = ()

    def _taken(self, request: Any) -> Any:
        return ReplayIterator(iter(request), self._method.serialize)


class UnaryStream(_Callable, grpc.UnaryStreamMultiCallable):
    """One request, a stream of answers."""

    __slots__ = ()

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        self._channel.check_open()
        call, exchange = self._dialer.begin(
            self._method, self._taken(request), timeout, metadata, credentials, wait_for_ready, compression
        )
        return self._channel.started(StreamCall(call, self._dialer.core.telemetry.watch(call, exchange), self._dialer))

    def _taken(self, request: Any) -> Any:
        return serialized(self._method, request)


class StreamStream(UnaryStream, grpc.StreamStreamMultiCallable):
    """Streams both ways."""

    __slots__ = ()

    def _taken(self, request: Any) -> Any:
        return ReplayIterator(iter(request), self._method.serialize)


class MeshChannel(Stubs, grpc.Channel):
    """A channel to a host of the mesh. It has no connection of its own: those to endpoints are the mesh's, and shared."""

    callables: ClassVar[dict[str, Any]] = {
        "unary_unary": UnaryUnary,
        "unary_stream": UnaryStream,
        "stream_unary": StreamUnary,
        "stream_stream": StreamStream,
    }

    def __init__(self, core: MeshCore, target: str, credentials: Any, options: Any, compression: Any) -> None:
        self.dialer = Dialer(core, target, credentials, options, compression)
        self.runtime = Blocking(core, self.dialer.settings)
        self.closed = False
        self._connectivity = Connectivity(self.dialer)
        self._under_way: set[Any] = set()

    def check_open(self) -> None:
        """As grpcio: ValueError for calls on a closed channel."""
        if self.closed:
            raise ValueError("Cannot invoke RPC on closed channel!")

    def started(self, handle: Any) -> Any:
        """Remember a call that goes on by itself, so that ``close`` can cancel it."""
        run_of_call = handle.run
        self._under_way.add(run_of_call)
        run_of_call.on_end(lambda: self._under_way.discard(run_of_call))
        return handle

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Tell ``callback`` of the channel's state: the best of its endpoints'."""
        self._connectivity.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        self._connectivity.unsubscribe(callback)

    def close(self) -> None:
        """Cancel the streams and futures under way and refuse new calls. Connections stay with the mesh."""
        self.closed = True
        self._connectivity.close()
        for under_way in list(self._under_way):
            under_way.cancel("Channel closed!")

    def __enter__(self) -> MeshChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
