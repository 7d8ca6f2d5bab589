"""How effects are performed through somebody else's httpx transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Race, Send
from meshlib.engine.outcome import Outcome
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.httpx.inner import AsyncInner, SyncInner
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.runtimes.loop import AsyncNetwork, LoopRuntime
from meshlib.transport.runtimes.race import race_on_loop
from meshlib.transport.runtimes.threads import SyncNetwork, ThreadRuntime
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    import httpx

    from meshlib.httpx_module import HttpxModule


class SyncThroughInner(ThreadRuntime[HttpxRequest], SyncInner):
    """Threads, through another httpx transport."""

    def race(self, effect: Race[HttpxRequest]) -> None:
        # somebody else's transport cannot be broken off from outside: its calls are not hedged
        effect.winner, effect.first.outcome = effect.first, self.send(effect.first)

    def __init__(
        self, core: MeshCore, inner: httpx.BaseTransport, module: HttpxModule | None, verbatim: bool = False
    ) -> None:
        ThreadRuntime.__init__(self, core)
        SyncInner.__init__(self, inner, module, verbatim)

    def send(self, effect: Send[HttpxRequest]) -> Outcome:
        return mesh_closed() if self._core.closed else SyncInner.send(self, effect)


class AsyncThroughInner(LoopRuntime[HttpxRequest], AsyncInner):
    """Asyncio, through another httpx transport."""

    async def race(self, effect: Race[HttpxRequest]) -> None:
        effect.winner, effect.winner.outcome = await race_on_loop(effect, self.send, self._core.alarms)

    def __init__(
        self, core: MeshCore, inner: httpx.AsyncBaseTransport, module: HttpxModule | None, verbatim: bool = False
    ) -> None:
        LoopRuntime.__init__(self, core)
        AsyncInner.__init__(self, inner, module, verbatim)

    async def send(self, effect: Send[HttpxRequest]) -> Outcome:
        """The mesh's closing breaks it off too, by cancelling it."""
        upstream = self._core.loop_upstream()
        try:
            async with upstream.until_closed():
                return await AsyncInner.send(self, effect)
        except TimeoutError as error:
            if not upstream.closed:
                raise
            return mesh_closed(error)


def sync_runtime(
    core: MeshCore, inner: httpx.BaseTransport | None, settings: ClientSettings, module: HttpxModule | None
) -> SyncNetwork | SyncThroughInner:
    """The runtime of a blocking transport."""
    return SyncNetwork(core, settings) if inner is None else SyncThroughInner(core, inner, module)


def async_runtime(
    core: MeshCore, inner: httpx.AsyncBaseTransport | None, settings: ClientSettings, module: HttpxModule | None
) -> AsyncNetwork | AsyncThroughInner:
    """The runtime of an asyncio transport."""
    return AsyncNetwork(core, settings) if inner is None else AsyncThroughInner(core, inner, module)
