"""The mesh as an httpx transport, blocking and asyncio, for httpx and for httpx2.

``transports(module)`` makes the two classes over whichever module the user has. The exchange decides; these classes only
put a request into it and make a ``Response`` of what comes out.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from meshlib import errors
from meshlib.engine import replies
from meshlib.engine.actions import change_answer
from meshlib.engine.call import NO_TIMEOUTS, Call, CallerTimeouts
from meshlib.engine.drivers import finish, run, run_async
from meshlib.engine.effects import Deliver, Exchange
from meshlib.engine.fallback import exchange_of
from meshlib.engine.outcome import Outcome
from meshlib.engine.route import route
from meshlib.transport.httpx.errors import bad_url, call_error
from meshlib.transport.httpx.origins import BadUrl
from meshlib.transport.httpx.other_way import OtherWay
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.httpx.through_inner import AsyncThroughInner, SyncThroughInner
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import body_of
from meshlib.transport.upstream.network_stream import switched_streams
from meshlib.transport.upstream.switched import AsyncSwitched, SyncSwitched
from meshlib.transport.upstream.trace import AsyncTrace, AsyncTracedBody, SyncTrace, TracedBody

if TYPE_CHECKING:
    from meshlib.transport.core.mesh_core import MeshCore

LOCAL_REPLIES = ("raise", "respond")


class Transports(NamedTuple):
    """The two transport classes of one httpx module."""

    sync: Any
    asynchronous: Any


def _begin(core: MeshCore, request: Any, sync: bool, module: ModuleType) -> tuple[Call, Exchange]:
    """Route the request and make its exchange."""
    live = core.live
    if live is None:
        raise errors.MeshClosed("the mesh is closed: make the call before mesh.close(), or make a new Mesh")
    try:
        seen = HttpxRequest(request, body_of(request, sync, module))
    except BadUrl as error:
        raise bad_url(error, request, module) from None
    timeout = request.extensions.get("timeout")
    timeouts = NO_TIMEOUTS
    if timeout is not None:
        timeouts = CallerTimeouts(
            timeout.get("connect"), timeout.get("read"), timeout.get("write"), timeout.get("pool")
        )
    call = Call(
        seen,
        live,
        core.clock,
        core.rng,
        timeouts,
        core.retry_wait,
    )
    trace = request.extensions.get("trace")
    if trace is not None:
        seen.trace = SyncTrace(trace) if sync else AsyncTrace(trace)
    call.record = route(live.snapshot, seen)
    return call, core.telemetry.watch(call, exchange_of(call))


def _final(
    delivered: Deliver, exchange: Exchange, call: Call, request: Any, respond: bool, module: ModuleType
) -> Outcome:
    """The outcome to answer with; raises when the network failed and the caller wants exceptions."""
    outcome = delivered.outcome
    if outcome.failure is not None:
        answered = change_answer(call, replies.for_failure(outcome, len(call.record.attempts) > 1))
        if outcome.failure in replies.FLAG_OF_FAILURE:
            call.record.status = answered.status
        finish(exchange)
        if not respond or outcome.failure not in replies.FLAG_OF_FAILURE or "DC" in call.record.flags:
            raise call_error(outcome, call.record, request, module)
        return answered
    call.record.status = outcome.status
    if outcome.body is None:
        finish(exchange)
    return outcome


@functools.cache
def transports(module: ModuleType) -> Transports:
    """``MeshTransport`` and ``AsyncMeshTransport`` over ``module`` (httpx or httpx2)."""
    make_response = module.Response
    whole_stream = module.ByteStream

    def response(outcome: Outcome, call: Call, stream: Any) -> Any:
        network_stream = outcome.stream
        extensions = {
            "mesh": call.record,
            "http_version": outcome.http_version,
            "reason_phrase": outcome.reason,
            "network_stream": network_stream,
        }
        if network_stream is None:
            del extensions["network_stream"]
        return make_response(outcome.status, headers=outcome.headers, stream=stream, extensions=extensions)

    class SyncBodyStream(module.SyncByteStream):  # type: ignore[misc,name-defined]
        """The answer's body on its way; the exchange ends with it."""

        def __init__(self, outcome: Outcome, call: Call, exchange: Exchange, request: Any) -> None:
            self._outcome = outcome
            self._call = call
            self._exchange: Exchange | None = exchange
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._outcome.body
            except BodyFailed as error:
                self._end(error)
            self._end(None)

        def _end(self, error: BodyFailed | None) -> None:
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                finish(exchange, error.failure if error is not None else None)
            if error is not None:
                failed = Outcome(error.failure, error.detail, error)
                raise call_error(failed, self._call.record, self._request, module) from error

        def close(self) -> None:
            self._outcome.body.close()
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.close()

    class AsyncBodyStream(module.AsyncByteStream):  # type: ignore[misc,name-defined]
        """The answer's body on its way; the exchange ends with it."""

        def __init__(self, outcome: Outcome, call: Call, exchange: Exchange, request: Any) -> None:
            self._outcome = outcome
            self._call = call
            self._exchange: Exchange | None = exchange
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._outcome.body:
                    yield chunk
            except BodyFailed as error:
                self._end(error)
            self._end(None)

        _end = SyncBodyStream._end

        async def aclose(self) -> None:
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.close()
            await self._outcome.body.aclose()

    class SyncTraced(TracedBody, module.SyncByteStream):  # type: ignore[misc,name-defined]
        """Of the kind that httpx asks for."""

    class AsyncTraced(AsyncTracedBody, module.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Of the kind that httpx asks for."""

    class MeshTransport(module.BaseTransport):  # type: ignore[misc,name-defined]
        """``httpx.Client(transport=mesh.http_transport())``: every request of the client obeys the mesh's resources."""

        def __init__(self, core: MeshCore, runtime: Any, local_replies: str, other_way: OtherWay | None = None) -> None:
            self._core = core
            self._runtime = runtime
            self._local_replies = local_replies
            self._respond = _wants_replies(local_replies)
            self._other_way = other_way
            self._owned = runtime if other_way is None else other_way.runtime

        def with_other_way(self, transport: Any, pattern: str) -> MeshTransport:
            """This transport, with another one for hosts outside the registry. ``pattern`` is where the caller mounted it,
            "" for a proxy."""
            way = OtherWay(SyncThroughInner(self._core, transport, module, verbatim=True), pattern)
            return MeshTransport(self._core, self._runtime, self._local_replies, way)

        def handle_request(self, request: Any) -> Any:
            call, exchange = _begin(self._core, request, True, module)
            way = self._other_way
            runtime = self._runtime if way is None or not way.takes(call) else way.runtime
            delivered = run(exchange, runtime)
            outcome = _final(delivered, exchange, call, request, self._respond, module)
            trace = call.request.trace
            if trace is not None and not (runtime.traces and outcome.stream is not None):
                trace = None  # another transport tells, or there was nothing on the wire
            if outcome.body is None:
                whole = whole_stream(outcome.whole or b"")
                return response(outcome, call, whole if trace is None else SyncTraced(whole, trace))
            stream = SyncBodyStream(outcome, call, exchange, request)
            if type(outcome.stream) is SyncSwitched:
                outcome.stream = switched_streams(module).sync(outcome.stream, stream.close)
            return response(outcome, call, stream if trace is None else SyncTraced(stream, trace))

        def __enter__(self) -> Self:
            self._owned.enter()
            return self

        def __exit__(self, *exc: Any) -> None:
            self._owned.leave(*exc)

        def close(self) -> None:
            """Closes an ``inner`` transport; the mesh's own connections are shared and close with the mesh."""
            self._owned.close()

    class AsyncMeshTransport(module.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        """``httpx.AsyncClient(transport=mesh.async_http_transport())``: the same on asyncio, from any number of loops."""

        def __init__(self, core: MeshCore, runtime: Any, local_replies: str, other_way: OtherWay | None = None) -> None:
            self._core = core
            self._runtime = runtime
            self._local_replies = local_replies
            self._respond = _wants_replies(local_replies)
            self._other_way = other_way
            self._owned = runtime if other_way is None else other_way.runtime

        def with_other_way(self, transport: Any, pattern: str) -> AsyncMeshTransport:
            """As ``MeshTransport.with_other_way``."""
            way = OtherWay(AsyncThroughInner(self._core, transport, module, verbatim=True), pattern)
            return AsyncMeshTransport(self._core, self._runtime, self._local_replies, way)

        async def handle_async_request(self, request: Any) -> Any:
            call, exchange = _begin(self._core, request, False, module)
            way = self._other_way
            runtime = self._runtime if way is None or not way.takes(call) else way.runtime
            delivered = await run_async(exchange, runtime)
            outcome = _final(delivered, exchange, call, request, self._respond, module)
            trace = call.request.trace
            if trace is not None and not (runtime.traces and outcome.stream is not None):
                trace = None  # another transport tells, or there was nothing on the wire
            if outcome.body is None:
                whole = whole_stream(outcome.whole or b"")
                return response(outcome, call, whole if trace is None else AsyncTraced(whole, trace))
            stream = AsyncBodyStream(outcome, call, exchange, request)
            if type(outcome.stream) is AsyncSwitched:
                outcome.stream = switched_streams(module).asynchronous(outcome.stream, stream.aclose)
            return response(outcome, call, stream if trace is None else AsyncTraced(stream, trace))

        async def __aenter__(self) -> Self:
            await self._owned.enter()
            return self

        async def __aexit__(self, *exc: Any) -> None:
            await self._owned.leave(*exc)

        async def aclose(self) -> None:
            """Closes an ``inner`` transport; the mesh's own connections are shared and close with the mesh."""
            await self._owned.aclose()

    return Transports(MeshTransport, AsyncMeshTransport)


def _wants_replies(local_replies: str) -> bool:
    if local_replies not in LOCAL_REPLIES:
        raise ValueError(f"local_replies is {local_replies!r}; it must be 'raise' or 'respond'")
    return local_replies == "respond"
