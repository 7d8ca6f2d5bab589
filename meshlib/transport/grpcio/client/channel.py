"""``mesh.grpc_channel``: a ``grpc.Channel`` whose calls go through the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

import grpc

from meshlib.engine import plain_call
from meshlib.engine.drivers import finish, run_brief
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.run_call import break_off, go_on
from meshlib.transport.grpcio.client.connectivity import Connectivity
from meshlib.transport.grpcio.client.dialer import AS_IT_IS, Dialer
from meshlib.transport.grpcio.client.errors import error_of, ok_without_message
from meshlib.transport.grpcio.client.future import FutureCall
from meshlib.transport.grpcio.client.method import Method, Stubs
from meshlib.transport.grpcio.client.outcome import OK, GrpcOutcome
from meshlib.transport.grpcio.client.requests import ReplayIterator
from meshlib.transport.grpcio.client.serialize import serializer_of
from meshlib.transport.grpcio.client.shown_call import error_with_metadata, with_metadata
from meshlib.transport.grpcio.client.stream import StreamCall
from meshlib.transport.grpcio.client.thread_runtime import Blocking
from meshlib.transport.grpcio.contracts import Req, Resp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.engine.outcome import Outcome
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.callback_run import CallbackRun
    from meshlib.transport.grpcio.client.connectivity import Watcher
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import Metadata, Options, ThreadCall

CLOSED = "Cannot invoke RPC on closed channel!"
"""grpcio's own words."""


def settle(outcome: Outcome, exchange: Exchange[ThreadRequest] | None, call: Call[ThreadRequest]) -> GrpcOutcome:
    """End the exchange of a call whose response has no message, or is not a server's: what it comes to, or the exception
    it ends with."""
    record = call.record
    if outcome.grpc_status == 0:
        outcome = ok_without_message(outcome, call) or outcome
    if type(outcome) is not GrpcOutcome:
        error = error_of(outcome, call)
        if exchange is not None:
            finish(exchange)
        raise error
    record.status = outcome.status
    record.grpc_status = outcome.code
    failure = outcome.error if outcome.error is None else error_with_metadata(outcome.error, outcome, record)
    if exchange is not None:
        finish(exchange)
    if failure is not None:
        raise failure
    if call.request.with_call:
        with_metadata(outcome.call, outcome, record)
    return outcome


class _MultiCallable(Generic[Req, Resp]):
    """What all multicallables hold. ``_messages``: the requests of a call as they are sent."""

    __slots__ = ("_channel", "_dialer", "_messages", "_method", "_runtime")

    def __init__(self, channel: MeshChannel, method: Method[Req, Resp]) -> None:
        self._channel = channel
        self._dialer = channel.dialer
        self._runtime = channel.runtime
        self._method = method
        self._messages: Callable[..., bytes | ReplayIterator[Req]] = self._messages_of(method)

    def _messages_of(self, method: Method[Req, Resp]) -> Callable[..., bytes | ReplayIterator[Req]]:
        return serializer_of(method)


class UnaryUnary(_MultiCallable[Req, Resp], grpc.UnaryUnaryMultiCallable):
    """One request, one response."""

    __slots__ = ()

    def __call__(
        self,
        request: Req,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
        _with_call: bool = False,
    ) -> Resp | tuple[Resp, ThreadCall]:
        if self._channel.closed:
            raise ValueError(CLOSED)
        dialer, messages = self._dialer, self._messages(request)
        call = dialer.routed(self._method, messages, timeout, metadata, credentials, compression, _with_call)
        streamed = None if isinstance(messages, bytes) else messages
        core = dialer.core
        telemetry = core.telemetry
        span = telemetry.began(call)
        ended = telemetry.ended
        delivered: Send[ThreadRequest] | Deliver | None = None
        exchange: Exchange[ThreadRequest] | None = None
        try:
            if span is None and not wait_for_ready and core.exchange_of is AS_IT_IS:
                delivered = plain_call.begun(call)  # nearly always; as ``run_call``, without its function
                if type(delivered) is not Send:
                    delivered, exchange = go_on(call, delivered, self._runtime)
                else:
                    delivered.outcome = self._runtime.send(delivered)
                    if not plain_call.ended(call, delivered):
                        delivered, exchange = go_on(call, delivered, self._runtime)
            else:
                exchange = dialer.exchange_of(call, wait_for_ready, brief=True)
                if span is not None:
                    exchange = telemetry.spanned(span, exchange)
                delivered = run_brief(exchange, self._runtime)
                if type(delivered) is Send:
                    exchange = None
            outcome: Any = delivered.outcome  # one of gRPC, once it is settled
            if not outcome.usual:
                outcome = settle(outcome, exchange, call)
            else:  # nearly always: a response with a message
                record = call.record
                record.status = outcome.status
                record.grpc_status = OK
                if _with_call:
                    with_metadata(outcome.call, outcome, record)
                if exchange is not None:
                    finish(exchange)
                if streamed is None:
                    ended = telemetry.ended_with_message
            response: Resp = outcome.message
            return (response, outcome.call) if _with_call else response
        except BaseException:
            break_off(delivered)
            raise
        finally:
            ended(call, span)
            if streamed is not None:
                streamed.over()

    def with_call(
        self,
        request: Req,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Resp | tuple[Resp, ThreadCall]:
        return self(request, timeout, metadata, credentials, wait_for_ready, compression, _with_call=True)

    def future(
        self,
        request: Req,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> FutureCall:
        self._channel.check_open()
        call, exchange = self._dialer.begin(
            self._method, self._messages(request), timeout, metadata, credentials, wait_for_ready, compression
        )
        made = FutureCall(call, self._dialer.core.telemetry.watch(call, exchange), self._dialer)
        self._channel.started(made.run)
        return made


class StreamUnary(UnaryUnary[Req, Resp], grpc.StreamUnaryMultiCallable):
    """A stream of requests, one response."""

    __slots__ = ()

    def _messages_of(self, method: Method[Req, Resp]) -> Callable[..., bytes | ReplayIterator[Req]]:
        return replayed(method)


class UnaryStream(_MultiCallable[Req, Resp], grpc.UnaryStreamMultiCallable):
    """One request, a stream of responses."""

    __slots__ = ()

    def __call__(
        self,
        request: Req,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamCall:
        self._channel.check_open()
        call, exchange = self._dialer.begin(
            self._method, self._messages(request), timeout, metadata, credentials, wait_for_ready, compression
        )
        made = StreamCall(call, self._dialer.core.telemetry.watch(call, exchange), self._dialer)
        self._channel.started(made.run)
        return made


class StreamStream(UnaryStream[Req, Resp], grpc.StreamStreamMultiCallable):
    """Streams both ways."""

    __slots__ = ()

    def _messages_of(self, method: Method[Req, Resp]) -> Callable[..., bytes | ReplayIterator[Req]]:
        return replayed(method)


def replayed(method: Method[Req, Resp]) -> Callable[[Iterable[Req]], ReplayIterator[Req]]:
    """What keeps the stream of requests of a call."""
    serialize = method.serialize
    return lambda requests: ReplayIterator(iter(requests), serialize)


class MeshChannel(Stubs[UnaryUnary, UnaryStream, StreamUnary, StreamStream], grpc.Channel):
    """A channel to a host of the mesh. It has no connection of its own: those to endpoints are the mesh's, and shared."""

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
    ) -> None:
        self.dialer = Dialer(core, target, credentials, options, compression)
        self.runtime = Blocking(core, self.dialer.settings)
        self.closed = False
        self._connectivity = Connectivity(self.dialer)
        self._under_way: set[CallbackRun] = set()

    def check_open(self) -> None:
        """As grpcio: ValueError for calls on a closed channel."""
        if self.closed:
            raise ValueError(CLOSED)

    def started(self, run_of_call: CallbackRun) -> None:
        """Remember a call that goes on by itself, so that ``close`` can cancel it."""
        self._under_way.add(run_of_call)
        run_of_call.on_end(lambda: self._under_way.discard(run_of_call))

    def subscribe(self, callback: Watcher, try_to_connect: bool | None = False) -> None:
        """Tell ``callback`` of the channel's state: the best of its endpoints'."""
        self._connectivity.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Watcher) -> None:
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
