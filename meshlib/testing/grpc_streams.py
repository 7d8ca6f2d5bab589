"""Streams of gRPC that chaos cuts: their callers get so many messages, and then UNAVAILABLE, as of a connection that broke.

grpcio hands the messages of a stream to its caller itself, so this reaches into its call objects: it has no public way to end
a call with a status. Where they are not what we know, nothing is cut, and that is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio
from grpc._cython import cygrpc

from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.errors import CODES, RpcFailed
from meshlib.transport.grpcio.client.outcome import UNAVAILABLE, GrpcOutcome

DESERIALIZER = "_response_deserializer"


def cut_stream(outcome: Outcome, after: int, come: int, detail: str) -> Outcome:
    """What becomes of a stream that the server has begun, and of which ``come`` messages have come: it breaks ``after`` so many
    (0: there is none). Raises TypeError when grpcio's call is not one that can be cut."""
    if type(outcome) is not GrpcOutcome or outcome.grpc_status is not None:
        return outcome  # what is nothing but a status has no middle
    inner = outcome.call
    if after <= 0:
        inner.cancel()
        ended = RpcFailed(CODES[UNAVAILABLE], detail, (), None)
        return GrpcOutcome(None, ended, UNAVAILABLE, ended)
    cython = getattr(inner, "_cython_call", None)
    core = getattr(inner, "_call", None)
    if isinstance(inner, aio.Call) and hasattr(cython, "receive_serialized_message"):
        setattr(inner, "_cython_call", _CutCall(cython, after - 1, detail))  # noqa: B010 (the first message is on its way)
    elif isinstance(inner, grpc.Call) and hasattr(core, "cancel") and hasattr(inner, DESERIALIZER):
        _cut_in_threads(inner, core, max(0, after - come), detail)
    else:
        raise TypeError(
            f"chaos cannot cut this stream: grpcio {grpc.__version__} has another kind of call than is known here "
            f"({type(inner).__name__}); use an upstream: upstreams.grpc(...).reset(after=...)"
        )
    return outcome


def give_up(outcome: Outcome) -> None:
    """Nobody reads the response any more."""
    cancel = getattr(outcome.call, "cancel", None) if type(outcome) is GrpcOutcome else None
    if cancel is not None:
        cancel()


# -- threads ----------------------------------------------------------------------------------------------------------


def _cut_in_threads(inner: Any, core: Any, left: int, detail: str) -> None:
    """Let ``left`` more messages come to grpcio's call."""
    deserialize: Callable[[bytes], object] | None = getattr(inner, DESERIALIZER)

    def counted(data: bytes) -> object:
        nonlocal left
        left -= 1
        if not left:
            _end(core, detail)
        return data if deserialize is None else deserialize(data)

    if left:
        setattr(inner, DESERIALIZER, counted)
    else:
        _end(core, detail)


def _end(core: Any, detail: str) -> None:
    core.cancel(cygrpc.StatusCode.unavailable, detail)


# -- asyncio ----------------------------------------------------------------------------------------------------------


class _CutCall:
    """In the place of gRPC core's call on a loop: ``left`` more messages, then the end. How the real one ends is told when its
    messages have come."""

    def __init__(self, real: Any, left: int, detail: str) -> None:
        self._real = real
        self._left = left
        self._detail = detail
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # True: cut

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def _cut(self) -> bool:
        return self._over.done() and not self._over.cancelled() and self._over.result()

    async def receive_serialized_message(self) -> object:
        if self._cut:
            return cygrpc.EOF
        if not self._left:
            self._over.set_result(True)
            self._real.cancel(self._detail)
            return cygrpc.EOF
        self._left -= 1
        message = await self._real.receive_serialized_message()
        if message is cygrpc.EOF and not self._over.done():
            self._over.set_result(False)
        return message

    async def status(self) -> Any:
        if not self._cut:
            real = await self._real.status()
            if real.code() and not self._cut:
                return real
            if not self._cut and not await asyncio.shield(self._over):
                return real
        return cygrpc.AioRpcStatus(cygrpc.StatusCode.unavailable, self._detail, (), None)

    def done(self) -> bool:
        return bool(self._over.done() and self._real.done())

    def cancel(self, details: str) -> None:
        if not self._over.done():
            self._over.set_result(False)
        self._real.cancel(details)

    def cancelled(self) -> bool:
        return not self._cut and bool(self._real.cancelled())

    def is_locally_cancelled(self) -> bool:
        return not self._cut and bool(self._real.is_locally_cancelled())
