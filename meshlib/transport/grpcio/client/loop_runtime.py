"""Attempts with a single response, on asyncio."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.attempt import (
    broken_off,
    callable_on,
    keywords,
    not_begun,
    outcome_of_end,
    refused,
    upstream_for,
    wants_headers,
)
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.core_unary import AioUnary
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.runtimes.loop import LoopRuntime
from meshlib.transport.runtimes.race import race_on_loop
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshlib.engine.effects import Race, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import LoopRequest
    from meshlib.transport.grpcio.contracts import LoopMultiCallable, Metadata


class OnLoop(LoopRuntime["LoopRequest"]):
    """Calls with a single response on asyncio."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    async def race(self, effect: Race[LoopRequest]) -> None:
        effect.winner, effect.winner.outcome = await race_on_loop(effect, self.send, self._core.alarms)

    async def send(self, effect: Send[LoopRequest]) -> Outcome:
        upstream: Upstream | None = None
        try:
            upstream, coming = self.begun(effect, get_running_loop())
            outcome: Any = await coming
        except BaseException as error:  # noqa: BLE001 (raised again where it is no end of an attempt)
            return self.broken(effect, upstream, error)
        if not effect.call.record.rule_object.plain and wants_headers(effect):  # type: ignore[union-attr]  # there is one
            outcome.tell_headers(await outcome.call.initial_metadata(), None, "")
        return outcome  # type: ignore[no-any-return]

    def begun(self, effect: Send[LoopRequest], loop: asyncio.AbstractEventLoop) -> tuple[Upstream, Awaitable[Outcome]]:
        """The attempt, for who awaits it, on ``loop``, in ``send`` or, of a plain rule, in its place: what raises, here or
        there, is for ``broken``."""
        sent = effect.call.request
        known = effect.cluster.targets.get((effect.endpoint, self._settings, loop, ""))
        if type(known) is Upstream and not known.worn and not sent.sent_authority:
            upstream = known  # nearly always
        else:
            upstream = upstream_for(self._core, self._settings, effect, loop)
        called: AioUnary | LoopMultiCallable = upstream.calls.get((sent.method_called.key, sent.target)) or callable_on(
            upstream, effect
        )
        messages, metadata = sent.messages, sent.metadata(effect.attempt)
        if type(called) is AioUnary and type(messages) is bytes and sent.call_options is None:
            return upstream, called.outcome(messages, effect.timeout, metadata, upstream.under_way)
        return upstream, _by_grpcio(called, sent, effect.timeout, metadata)

    def broken(self, effect: Send[LoopRequest], upstream: Upstream | None, error: BaseException) -> Outcome:
        """What an attempt comes to that raised ``error``, which is raised again if it is no end of one."""
        if isinstance(error, grpc.aio.AioRpcError):
            timed = effect.timeout is not None
            return outcome_of_end(self._core, upstream, effect, ended_call(error), timed)
        if isinstance(error, asyncio.CancelledError) and broken_off(self._core):
            return mesh_closed()
        if isinstance(
            error, grpc.aio.InternalError
        ):  # what grpcio makes of metadata that cannot be sent, here and only here
            return Outcome(Failure.INVALID_REQUEST, "Invalid metadata", error)
        if isinstance(error, CannotConnect):
            return refused(error)
        if isinstance(error, Exception):
            return not_begun(self._core, error)
        raise error


async def _by_grpcio(
    called: LoopMultiCallable, sent: LoopRequest, timeout: float | None, metadata: Metadata
) -> GrpcOutcome:
    """An attempt by grpcio's own call."""
    arguments, messages = keywords(sent, timeout, metadata), sent.messages
    outcome = GrpcOutcome()
    call = called(messages, **arguments) if isinstance(messages, bytes) else called(**arguments)
    try:
        outcome.message = await (call if isinstance(messages, bytes) else messages.send_to(call))
    except Exception:
        if isinstance(call, grpc.aio.Call):
            call.cancel()
        raise
    outcome.call = call
    return outcome
