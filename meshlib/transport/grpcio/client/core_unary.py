"""Unary calls straight on the binding of gRPC core, for the two ways that nearly all calls take: a thread that waits, and a
task that awaits.

grpcio's own multicallables do the same and, around it, what these calls have no use for: a state under a condition, a
future with its callbacks, on asyncio one more task. ``make bench`` shows it: 3 to 5 % of a call between two processes.
Everything else (``with_call``, futures, call credentials, compression, observability plugins) goes to grpcio's own.

The binding (``grpc._cython.cygrpc``) has no public name. Where it is not what we know, ``Unary`` and ``AioUnary`` leave the
calls to grpcio's own multicallables, and say so once in the log at level INFO; test_core_unary.py holds them against the
installed grpcio.
"""

from __future__ import annotations

import logging
import types
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from grpc import aio

from meshlib.clock import SystemClock
from meshlib.engine.message_size import FRAME
from meshlib.transport.grpcio.client.outcome import GrpcOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from meshlib.transport.grpcio.contracts import (
        Deserializer,
        EndpointChannel,
        LoopCall,
        LoopMultiCallable,
        Metadata,
        Pairs,
        ThreadMultiCallable,
    )

_machine_time = (
    SystemClock.time
)  # gRPC core's deadlines are points of the machine's time, whatever the mesh's clock says

log = logging.getLogger("meshlib.grpc")
LOCALLY_CANCELLED = "Locally cancelled by application!"
UNKNOWN_BINDING = "grpcio's binding is not the one that meshlib knows (%s): unary calls take grpcio's own way"

_BindingsCall: Any = ()
deserialized: Callable[[bytes, Deserializer[object]], object] = lambda message, deserialize: deserialize(message)  # noqa: E731

try:
    from grpc import _channel, _common, _observability
    from grpc._cython import cygrpc

    _SendMetadata = cygrpc.SendInitialMetadataOperation
    _SendMessage = cygrpc.SendMessageOperation
    _ReceiveMetadata = cygrpc.ReceiveInitialMetadataOperation
    _ReceiveMessage = cygrpc.ReceiveMessageOperation
    _ReceiveStatus = cygrpc.ReceiveStatusOnClientOperation
    _CLOSE = cygrpc.SendCloseFromClientOperation(0)  # it keeps nothing, so that all calls can share one
    _PROPAGATE = cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS
    _CODES: dict[int, grpc.StatusCode] = _common.CYGRPC_STATUS_CODE_TO_STATUS_CODE
    _BindingsCall = cygrpc._AioCall
    deserialized = _common.deserialize
    if not hasattr(_observability, "_OBSERVABILITY_PLUGIN"):
        raise AttributeError("grpc._observability has no _OBSERVABILITY_PLUGIN")
    _known = True
except (ImportError, AttributeError, TypeError) as unknown:
    _known = False
    log.info(UNKNOWN_BINDING, unknown)


class StatusSource(Protocol):
    """What says how a call has ended: those of grpc.aio are awaited, those of the mesh and exceptions say it at once."""

    def code(self) -> Awaitable[grpc.StatusCode] | grpc.StatusCode: ...
    def details(self) -> Awaitable[str] | str: ...
    def debug_error_string(self) -> Awaitable[str] | str: ...
    def initial_metadata(self) -> Awaitable[aio.Metadata] | aio.Metadata: ...
    def trailing_metadata(self) -> Awaitable[aio.Metadata] | aio.Metadata: ...


class BindingStatus(Protocol):
    """How the binding's call ended."""

    def code(self) -> int: ...
    def details(self) -> str: ...
    def debug_error_string(self) -> str: ...
    def trailing_metadata(self) -> Pairs: ...


class BindingCall(Protocol):
    """The binding's own call, of asyncio."""

    def unary_unary(self, request: bytes, metadata: Metadata) -> Coroutine[object, object, bytes | None]: ...
    def done(self) -> bool: ...
    def is_ok(self) -> bool: ...
    def cancel(self, details: str) -> bool: ...
    async def status(self) -> BindingStatus: ...
    async def initial_metadata(self) -> Pairs: ...


class Unary:
    """What ``channel.unary_unary(...)`` gives, for callers in threads. ``own``: the one that ``channel`` gave."""

    __slots__ = ("_deserialize", "_ended", "_own", "_path", "_start", "future", "with_call")

    def __init__(
        self, inner: Any, path: bytes, deserialize: Deserializer[object] | None, own: ThreadMultiCallable
    ) -> None:
        self._path = path
        self._deserialize = deserialize
        self._own = own
        self._start = inner.segregated_call
        self._ended: object = None  # the last call that ended
        self.with_call = own.with_call
        self.future = own.future

    def __call__(
        self,
        request: object,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> object:
        """The response. Raises ``grpc.RpcError`` as grpcio does."""
        if credentials is not None or compression is not None:
            return self._own(request, timeout, metadata, credentials, wait_for_ready, compression)
        return self.outcome(request, timeout, metadata).message

    def outcome(self, request: object, timeout: float | None, metadata: Metadata | None) -> GrpcOutcome:
        """``__call__`` of a call without credentials and compression of its own, its response as an outcome."""
        if not _known or _observability._OBSERVABILITY_PLUGIN is not None:
            return GrpcOutcome(self._own(request, timeout, metadata))
        try:
            response, status = _ReceiveMessage(0), _ReceiveStatus(0)
            operations = (
                _SendMetadata(metadata, 0),
                _SendMessage(request, 0),
                _CLOSE,
                _ReceiveMetadata(0),
                response,
                status,
            )
            deadline = None if timeout is None else _machine_time() + timeout
            call = self._start(_PROPAGATE, self._path, None, deadline, metadata, None, ((operations, None),))
        except (TypeError, AttributeError) as error:
            return GrpcOutcome(self._elsewhere(error, request, timeout, metadata))
        # what is done while the server works on this call, its caller need not wait for: the outcome is made now, and the last
        # call of gRPC core goes, which takes as long as much of what the mesh does for one (`make bench` shows it)
        outcome = GrpcOutcome()
        self._ended = None
        event = call.next_event()
        self._ended = call
        deserialize = self._deserialize
        if status.code() == 0:
            message = response.message()
            if message is not None:
                outcome.size = FRAME + len(message)
            if deserialize is not None and message is not None:
                message = deserialized(message, deserialize)
                if message is None:
                    return self._failed(event, call, _nothing)
            outcome.message = message
            return outcome
        return self._failed(event, call, deserialize)

    def _failed(self, event: object, call: object, deserialize: Deserializer[object] | None) -> GrpcOutcome:
        """Let grpcio make of the end of a call what it raises for it."""
        state = _channel._RPCState(_channel._UNARY_UNARY_INITIAL_DUE, None, None, None, None)
        state.method = _common.decode(self._path)
        _channel._handle_event(event, state, deserialize)
        return GrpcOutcome(_channel._end_unary_response_blocking(state, call, False, None))

    def _elsewhere(self, error: Exception, request: object, timeout: float | None, metadata: Metadata | None) -> object:
        """Nothing was sent: either grpcio does not take these arguments either, or its binding is not the one we know."""
        response = self._own(request, timeout, metadata)
        _give_up(error)
        return response


class AioUnary:
    """What ``channel.unary_unary(...)`` gives, for callers on asyncio: ``outcome`` for calls without credentials and
    compression of their own, ``__call__`` for the others."""

    __slots__ = ("_begin", "_deserialize", "_ended", "_own", "_path")

    def __init__(
        self, inner: Any, path: bytes, deserialize: Deserializer[object] | None, own: LoopMultiCallable
    ) -> None:
        self._path = path
        self._deserialize = deserialize
        self._begin: Callable[..., BindingCall] = inner.call
        self._own = own
        self._ended: object = None  # the last call that ended

    def __call__(
        self,
        request: bytes | None = None,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> LoopCall:
        """grpcio's own call."""
        return self._own(request, timeout=timeout, metadata=metadata, credentials=credentials, compression=compression)

    def probe(self) -> None:
        """Raises TypeError or AttributeError where the binding is not the one that is known. Nothing is sent."""
        self._begin(self._path, None, None, None).unary_unary(b"", ()).close()

    @types.coroutine
    def outcome(
        self, request: bytes, timeout: float | None, metadata: Metadata, under_way: set[BindingCall]
    ) -> Generator[object, object, GrpcOutcome]:
        """Await the response, as an outcome with the binding's call. Raises ``grpc.aio.AioRpcError`` as grpcio does. The
        call is in ``under_way`` meanwhile. As in threads, the last call goes while the server works on this one, for which
        nobody need wait: to destroy one takes as long as much of what the mesh does for it (`make bench` shows it)."""
        if not _known or _observability._OBSERVABILITY_PLUGIN is not None:
            elsewhere: GrpcOutcome = yield from self._elsewhere(request, timeout, metadata)
            return elsewhere
        call = self._begin(self._path, None if timeout is None else _machine_time() + timeout, None, None)
        coming = call.unary_unary(request, metadata).__await__()
        under_way.add(call)
        try:
            future = coming.send(None)
            outcome = GrpcOutcome()
            self._ended = None
            try:
                yield future
            except BaseException as error:  # noqa: BLE001 (cancelled, or dropped with its loop: the call's own matter)
                message = yield from _thrown(coming, error)
            else:
                message = yield from coming
        except StopIteration as end:  # it was over at once
            message, outcome = end.value, GrpcOutcome()
        except BaseException:
            cancel_unless_done(call)
            raise
        finally:
            under_way.discard(call)
        self._ended = outcome.call = call
        if message is None:
            yield from _raise_for(call)
        else:
            outcome.size = FRAME + len(message)
            deserialize = self._deserialize
            outcome.message = message if deserialize is None else deserialized(message, deserialize)
        return outcome

    async def _elsewhere(self, request: bytes, timeout: float | None, metadata: Metadata) -> GrpcOutcome:
        """By grpcio's own call."""
        call = self(request, timeout=timeout, metadata=metadata)
        return GrpcOutcome(await call, call)


def _thrown(
    coming: Generator[object, object, bytes | None], error: BaseException
) -> Generator[object, object, bytes | None]:
    """As ``yield from coming`` goes on that has been resumed with ``error``."""
    try:
        future = coming.throw(error)
    except StopIteration as end:
        message: bytes | None = end.value
        return message
    yield future
    return (yield from coming)


def cancel_unless_done(call: BindingCall) -> None:
    """Nobody waits for the response any more."""
    if not call.done():
        call.cancel(LOCALLY_CANCELLED)


class FinishedCall:
    """What grpcio's users ask a call that has its response, of the binding's object for it."""

    __slots__ = ("_call",)

    def __init__(self, call: BindingCall) -> None:
        self._call = call

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    async def details(self) -> str:
        return (await self._call.status()).details()

    async def debug_error_string(self) -> str:
        return (await self._call.status()).debug_error_string()

    async def initial_metadata(self) -> aio.Metadata:
        return aio.Metadata.from_tuple(await self._call.initial_metadata())

    async def trailing_metadata(self) -> aio.Metadata:
        return aio.Metadata.from_tuple((await self._call.status()).trailing_metadata())


def public_call(call: Any) -> StatusSource:
    """A call as grpcio's users know them."""
    shown: StatusSource = FinishedCall(call) if isinstance(call, _BindingsCall) else call
    return shown


async def _raise_for(call: BindingCall) -> None:
    """Raise ``grpc.aio.AioRpcError`` as grpcio does, unless the call has ended well."""
    if call.is_ok():
        return
    status = await call.status()
    raise aio.AioRpcError(
        _CODES.get(status.code(), grpc.StatusCode.UNKNOWN),
        aio.Metadata.from_tuple(await call.initial_metadata()),
        aio.Metadata.from_tuple(status.trailing_metadata()),
        status.details(),
        status.debug_error_string(),
    )


def for_threads(
    channel: EndpointChannel, path: bytes, deserialize: Deserializer[object] | None, own: ThreadMultiCallable
) -> ThreadMultiCallable:
    """``Unary`` where it can be, else ``own``."""
    inner = getattr(channel, "_channel", None)
    return Unary(inner, path, deserialize, own) if _known and hasattr(inner, "segregated_call") else own


def for_loops(
    channel: EndpointChannel, path: bytes, deserialize: Deserializer[object] | None, own: LoopMultiCallable
) -> LoopMultiCallable:
    """``AioUnary`` where it can be, else ``own``."""
    inner = getattr(channel, "_channel", None)
    if not _known or not hasattr(inner, "call"):
        return own
    made = AioUnary(inner, path, deserialize, own)
    try:
        made.probe()
    except (TypeError, AttributeError) as error:
        _give_up(error)
        return own
    return made


def known() -> bool:
    """Whether grpcio's binding is the one we know."""
    return _known


def _nothing(message: bytes) -> None:
    """Deserializes a message that has been refused already."""


def _give_up(error: Exception) -> None:
    """Use grpcio's own multicallables from now on."""
    global _known
    _known = False
    log.info(UNKNOWN_BINDING, error)
