"""The mesh as an httpx transport, blocking and asyncio, for clients of httpx and of httpx2 alike.

The exchange decides; these classes only put a request into it and make a ``Response`` of what comes out, of the module whose
the request is (``dialect.py``). ``transports`` makes them transports in the eyes of one module, or of both.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, Self, TypeVar

from meshlib import errors
from meshlib.engine import replies
from meshlib.engine.actions import change_own_response
from meshlib.engine.call import NO_TIMEOUTS, Call, CallerTimeouts
from meshlib.engine.drivers import AsyncRuntime, SyncRuntime, finish, run_async, run_brief
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.route import route
from meshlib.engine.run_call import run_call
from meshlib.httpx_module import module_of_transport
from meshlib.transport.httpx.dialect import dialect_of, known
from meshlib.transport.httpx.errors import bad_url, call_error
from meshlib.transport.httpx.origins import BadUrl
from meshlib.transport.httpx.other_way import OtherWay
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.httpx.through_inner import AsyncThroughInner, SyncThroughInner
from meshlib.transport.protocol.request_body import body_of
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.upstream.network_stream import switched_streams
from meshlib.transport.upstream.switched import AsyncSwitched, SyncSwitched
from meshlib.transport.upstream.trace import AsyncTrace, SyncTrace

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from meshlib.engine.effects import Exchange
    from meshlib.engine.outcome import Outcome
    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.httpx.dialect import Dialect

    Exit = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

LOCAL_REPLIES = ("raise", "respond")


class BlockingRuntime(SyncRuntime[HttpxRequest], Protocol):
    """What a blocking transport sends through. ``traces``: it tells a caller's trace extension of the wire."""

    traces: bool

    def enter(self) -> None: ...
    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def close(self) -> None: ...


class AwaitedRuntime(AsyncRuntime[HttpxRequest], Protocol):
    """The same on an event loop."""

    traces: bool

    async def enter(self) -> None: ...
    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    async def aclose(self) -> None: ...


R = TypeVar("R", BlockingRuntime, AwaitedRuntime)


class _Door(Generic[R]):
    """What both transports do with a request before it is sent, and with what comes of it."""

    _blocking: bool
    _timeouts: tuple[dict[str, float | None] | None, CallerTimeouts] = None, NO_TIMEOUTS
    """What the last caller allowed: the next one hardly ever allows anything else."""

    def __init__(self, core: MeshCore, runtime: R, local_replies: str, other_way: OtherWay[R] | None = None) -> None:
        self._core = core
        self._runtime: R = runtime
        self._local_replies = local_replies
        self._respond = _wants_replies(local_replies)
        self._other_way: OtherWay[R] | None = other_way
        self._owned: R = runtime if other_way is None else other_way.runtime

    def _begin(self, request: httpx.Request, caller: Dialect) -> Call[HttpxRequest]:
        """Route the request."""
        core = self._core
        live = core.live
        if live is None:
            raise errors.MeshClosed("the mesh is closed: make the call before mesh.close(), or make a new Mesh")
        module = caller.module
        try:
            seen = HttpxRequest(request, body_of(request, self._blocking, module))
        except BadUrl as error:
            raise bad_url(error, request, module) from None
        extensions = request.extensions
        timeout = extensions.get("timeout")
        timeouts = NO_TIMEOUTS
        if timeout is not None:
            asked, timeouts = self._timeouts  # one tuple: other threads see all of it or nothing
            if asked != timeout:
                get = timeout.get
                timeouts = CallerTimeouts(get("connect"), get("read"), get("write"), get("pool"))
                self._timeouts = dict(timeout), timeouts
        call = Call(seen, live, core.clock, core.rng, timeouts, core.retry_wait)
        trace = extensions.get("trace")
        if trace is not None:
            seen.trace = SyncTrace(trace) if self._blocking else AsyncTrace(trace)
        call.record = route(live.snapshot, seen)
        return call

    def _failed(self, outcome: Outcome, exchange: Exchange[HttpxRequest] | None, call: Call[HttpxRequest]) -> Outcome:
        """The network has failed the call. Ends the exchange, if there is one; the response that Envoy would give."""
        reply = change_own_response(call, replies.for_failure(outcome, len(call.record.attempts) > 1))
        if outcome.failure in replies.FLAG_OF_FAILURE:
            call.record.status = reply.status
            if self._respond:
                call.outcome = reply
        if exchange is not None:
            finish(exchange)
        return reply

    def _local(
        self, outcome: Outcome, reply: Outcome, call: Call[HttpxRequest], request: httpx.Request, caller: Dialect
    ) -> httpx.Response:
        """What the caller gets of a failed call. Raises when it wants exceptions."""
        if not self._respond or outcome.failure not in replies.FLAG_OF_FAILURE or "DC" in call.record.flags:
            raise call_error(outcome, call, request, caller.module)
        return self._whole(reply, call, False, caller)

    def _whole(self, outcome: Outcome, call: Call[HttpxRequest], told: bool, caller: Dialect) -> httpx.Response:
        """The response of a call that is over. ``told``: by the runtime, what happened on the wire."""
        trace = call.request.trace
        if trace is None or not told or outcome.stream is None:  # nobody asks, or there was nothing on the wire
            return caller.responses.make(outcome, call, None)
        traced = caller.traced if self._blocking else caller.async_traced
        return caller.responses.make(outcome, call, traced(caller.module.ByteStream(outcome.whole or b""), trace))


class MeshTransport(_Door[BlockingRuntime]):
    """``httpx.Client(transport=mesh.http_transport())``: every request of the client obeys the mesh's resources."""

    _blocking = True

    def with_other_way(self, transport: httpx.BaseTransport, pattern: str) -> Self:
        """This transport, with another one for hosts outside the registry. ``pattern`` is where the caller mounted it,
        "" for a proxy."""
        way = OtherWay[BlockingRuntime](
            SyncThroughInner(self._core, transport, module_of_transport(transport), True), pattern
        )
        return type(self)(self._core, self._runtime, self._local_replies, way)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        caller = known.get(type(request)) or dialect_of(request)
        call = self._begin(request, caller)
        way = self._other_way
        runtime = self._runtime if way is None or not way.takes(call) else way.runtime
        core = self._core
        telemetry = core.telemetry
        span = telemetry.began(call)
        reply = exchange = None
        try:
            delivered: Send[HttpxRequest] | Deliver
            if span is None and not PLAIN and core.exchange_of is exchange_of:
                delivered, exchange = run_call(call, runtime)
            else:
                exchange = core.exchange_of(call, brief=not PLAIN)
                if span is not None:
                    exchange = telemetry.spanned(span, exchange)
                delivered = run_brief(exchange, runtime)
            outcome = delivered.outcome
            if outcome.failure is not None:
                reply = self._failed(outcome, exchange, call)
            else:
                call.record.status = outcome.status
                if type(delivered) is Deliver:
                    call.outcome = outcome  # it may be the mesh's own
                    if outcome.body is None and exchange is not None:
                        finish(exchange)
        except BaseException:
            telemetry.broken(call, span)
            raise
        if reply is not None:
            telemetry.ended(call, span)
            return self._local(outcome, reply, call, request, caller)
        if outcome.body is None:
            telemetry.ended(call, span)
            return self._whole(outcome, call, runtime.traces, caller)
        assert exchange is not None  # nothing is left to do of a call without one
        body = caller.stream(outcome, call, telemetry.watch_rest(call, span, exchange, delivered), request)
        if type(outcome.stream) is SyncSwitched:
            outcome.stream = switched_streams(caller.module).sync(outcome.stream, body.close)
        trace = call.request.trace
        if trace is not None and runtime.traces and outcome.stream is not None:
            return caller.responses.make(outcome, call, caller.traced(body, trace))
        return caller.responses.make(outcome, call, body)

    def __enter__(self) -> Self:
        self._owned.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owned.leave(kind, error, traceback)

    def close(self) -> None:
        """Closes an ``inner`` transport; the mesh's own connections are shared and close with the mesh."""
        self._owned.close()


class AsyncMeshTransport(_Door[AwaitedRuntime]):
    """``httpx.AsyncClient(transport=mesh.async_http_transport())``: the same on asyncio, from any number of loops."""

    _blocking = False

    def with_other_way(self, transport: httpx.AsyncBaseTransport, pattern: str) -> Self:
        """As ``MeshTransport.with_other_way``."""
        way = OtherWay[AwaitedRuntime](
            AsyncThroughInner(self._core, transport, module_of_transport(transport), True), pattern
        )
        return type(self)(self._core, self._runtime, self._local_replies, way)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        caller = known.get(type(request)) or dialect_of(request)
        call = self._begin(request, caller)
        exchange = self._core.exchange_of(call, brief=not PLAIN)
        way = self._other_way
        runtime = self._runtime if way is None or not way.takes(call) else way.runtime
        telemetry = self._core.telemetry
        span = telemetry.began(call)
        if span is not None:
            exchange = telemetry.spanned(span, exchange)
        reply = None
        try:
            # as ``run_async``, but for a coroutine of its own: nearly all calls are one attempt and its response
            begun = next(exchange)
            delivered: Send[HttpxRequest] | Deliver
            if type(begun) is Send:
                delivered = begun
                begun.outcome = await runtime.send(begun)
                after = next(exchange, None)
                if after is not None:
                    delivered = after if type(after) is Deliver else await run_async(exchange, runtime, after)
            else:
                delivered = begun if type(begun) is Deliver else await run_async(exchange, runtime, begun)
            outcome = delivered.outcome
            if outcome.failure is not None:
                reply = self._failed(outcome, exchange, call)
            else:
                call.record.status = outcome.status
                if type(delivered) is Deliver:
                    call.outcome = outcome  # it may be the mesh's own
                    if outcome.body is None:
                        finish(exchange)
        except BaseException:
            exchange.close()
            telemetry.broken(call, span)
            raise
        if reply is not None:
            telemetry.ended(call, span)
            return self._local(outcome, reply, call, request, caller)
        if outcome.body is None:
            telemetry.ended(call, span)
            return self._whole(outcome, call, runtime.traces, caller)
        body = caller.async_stream(outcome, call, telemetry.watch_rest(call, span, exchange, delivered), request)
        if type(outcome.stream) is AsyncSwitched:
            outcome.stream = switched_streams(caller.module).asynchronous(outcome.stream, body.aclose)
        trace = call.request.trace
        if trace is not None and runtime.traces and outcome.stream is not None:
            return caller.responses.make(outcome, call, caller.async_traced(body, trace))
        return caller.responses.make(outcome, call, body)

    async def __aenter__(self) -> Self:
        await self._owned.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._owned.leave(kind, error, traceback)

    async def aclose(self) -> None:
        """Closes an ``inner`` transport; the mesh's own connections are shared and close with the mesh."""
        await self._owned.aclose()


class Transports(NamedTuple):
    """The two transport classes, which are also transports of one httpx module or of several."""

    sync: type[MeshTransport]
    asynchronous: type[AsyncMeshTransport]


@functools.cache
def transports(*modules: HttpxModule) -> Transports:
    """The classes, in the eyes of ``modules``."""

    def of(kind: type, theirs: list[type]) -> type:
        return type(kind.__name__, (kind, *theirs), {"__doc__": kind.__doc__})

    return Transports(
        of(MeshTransport, [module.BaseTransport for module in modules]),
        of(AsyncMeshTransport, [module.AsyncBaseTransport for module in modules]),
    )


def _wants_replies(local_replies: str) -> bool:
    if local_replies not in LOCAL_REPLIES:
        raise ValueError(f"local_replies is {local_replies!r}; it must be 'raise' or 'respond'")
    return local_replies == "respond"
