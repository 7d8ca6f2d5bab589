"""Attempts with a single response, on asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
from meshlib.transport.grpcio.client.core_unary import AioUnary, raise_for, unobserved
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.runtimes.loop import LoopRuntime
from meshlib.transport.runtimes.race import race_on_loop
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from meshlib.engine.effects import Race, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.core_unary import BindingCall
    from meshlib.transport.grpcio.client.request import LoopRequest
    from meshlib.transport.grpcio.contracts import LoopCall, LoopMultiCallable


class OnLoop(LoopRuntime["LoopRequest"]):
    """Calls with a single response on asyncio."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    async def race(self, effect: Race[LoopRequest]) -> None:
        effect.winner, effect.winner.outcome = await race_on_loop(effect, self.send, self._core.alarms)

    async def send(self, effect: Send[LoopRequest]) -> Outcome:
        sent = effect.call.request
        loop = asyncio.get_running_loop()
        known = effect.cluster.targets.get((effect.endpoint, self._settings, loop, ""))
        upstream = known if type(known) is Upstream else None
        messages, timeout = sent.messages, effect.timeout
        call: LoopCall | BindingCall | None = None
        try:
            if upstream is None or sent.sent_authority or upstream.worn:
                upstream = upstream_for(self._core, self._settings, effect, loop)
            called: AioUnary | LoopMultiCallable = upstream.calls.get(
                (sent.method_called.key, sent.target)
            ) or callable_on(upstream, effect)
            metadata = sent.metadata(effect.attempt)
            if type(called) is AioUnary and type(messages) is bytes and sent.call_options is None and unobserved():
                outcome = await called.outcome(messages, timeout, metadata, upstream.under_way)  # nearly always
                call = outcome.call
                if not outcome.size:
                    await raise_for(outcome.call)
            else:
                outcome = GrpcOutcome()
                arguments = keywords(sent, timeout, metadata)
                if isinstance(messages, bytes):
                    call = called(messages, **arguments)
                    outcome.message = await call
                else:
                    call = called(**arguments)
                    outcome.message = await messages.send_to(call)
                outcome.call = call
        except grpc.aio.AioRpcError as error:
            return outcome_of_end(self._core, upstream, effect, ended_call(error), timeout is not None)
        except asyncio.CancelledError:
            if broken_off(self._core):
                return mesh_closed()
            raise
        except grpc.aio.InternalError as error:  # what grpcio makes of metadata that cannot be sent, here and only here
            return Outcome(Failure.INVALID_REQUEST, "Invalid metadata", error)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (told to the caller)
            if isinstance(call, grpc.aio.Call):
                call.cancel()
            return not_begun(self._core, error)
        if not effect.call.record.rule_object.plain and wants_headers(effect):  # type: ignore[union-attr]  # there is one
            outcome.tell_headers(await outcome.call.initial_metadata(), None, "")
        return outcome
