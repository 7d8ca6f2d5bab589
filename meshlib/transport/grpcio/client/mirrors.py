"""Copies of calls whose answers are streams: read to their end in the background, and thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from meshlib.engine.drivers import discard, run
from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.attempt import invoker, not_begun, refused, total_time
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.outcome import ended, responded
from meshlib.transport.runtimes.threads import ThreadRuntime

if TYPE_CHECKING:
    from meshlib.engine.effects import Exchange, Send
    from meshlib.transport.core.mesh_core import MeshCore


class _ReadToTheEnd(ThreadRuntime):
    """Sends, reads every message and drops it."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    def send(self, effect: Send) -> Outcome:
        sent = effect.call.request
        request = sent.messages
        try:
            _, invoke = invoker(self._core, self._settings, effect)
            inner = invoke(
                request if type(request) is bytes else request.attempt(),
                total_time(self._core, effect),
                sent.metadata(effect.attempt),
            )
            for _ in inner:
                pass
        except grpc.RpcError as error:
            told: Any = error
            return ended(told.code().value[0], told.details(), told.initial_metadata(), inner, error, True)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (an outcome as any other)
            return not_begun(self._core, error)
        return responded(None, inner)


def spawn_stream(core: MeshCore, settings: ChannelSettings, exchange: Exchange) -> None:
    """Run a copy in one of the mesh's background threads."""
    runtime: Any = _ReadToTheEnd(core, settings)
    core.background.submit(lambda: discard(run(exchange, runtime), exchange), exchange.close)
