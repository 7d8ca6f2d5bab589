"""Copies of calls whose responses are streams: read to their end in the background, and thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from meshlib.engine.drivers import discard, run
from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.attempt import invoker, not_begun, refused, total_time, upstream_for
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.outcome import GrpcOutcome, ended
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.runtimes.threads import ThreadRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.effects import Exchange, Race, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import ThreadCall


class _ReadToTheEnd(ThreadRuntime["ThreadRequest"]):
    """Sends, reads every message and drops it."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    def send(self, effect: Send[ThreadRequest]) -> Outcome:
        sent = effect.call.request
        messages = sent.messages
        try:
            called: Callable[..., ThreadCall] = invoker(upstream_for(self._core, self._settings, effect), effect)
            inner = called(
                messages if isinstance(messages, bytes) else messages.attempt(),
                total_time(self._core, effect),
                sent.metadata(effect.attempt),
            )
            for _ in inner:
                pass
        except grpc.RpcError as error:
            end = ended_call(error)
            return ended(end.code().value[0], end.details(), end.initial_metadata(), inner, error, True)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (an outcome as any other)
            return not_begun(self._core, error)
        return GrpcOutcome(None, inner)

    def race(self, effect: Race[ThreadRequest]) -> None:
        """Copies are not hedged: the first attempt is all there is."""
        effect.winner, effect.first.outcome = effect.first, self.send(effect.first)


def spawn_stream(core: MeshCore, settings: ChannelSettings, exchange: Exchange[ThreadRequest]) -> None:
    """Run a copy in one of the mesh's background threads."""
    runtime = _ReadToTheEnd(core, settings)
    core.background.submit(lambda: discard(run(exchange, runtime), exchange), exchange.close)
