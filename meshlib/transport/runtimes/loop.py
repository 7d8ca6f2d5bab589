"""How effects are performed on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Coroutine
from typing import Generic, TypeVar

from meshlib.alarms import wake
from meshlib.engine.drivers import discard, run_async
from meshlib.engine.effects import Acquire, Exchange, Race, Send, Wait
from meshlib.engine.message import Request, is_awaited
from meshlib.engine.outcome import Outcome
from meshlib.transport.core.background import MAX_WAITING
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.runtimes.network_request import NetworkRequest
from meshlib.transport.runtimes.race import race_on_loop
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.loop_connection import closed
from meshlib.transport.upstream.problems import too_long

R = TypeVar("R", bound=Request)


class LoopRuntime(Generic[R]):
    """What all asyncio runtimes have in common."""

    traces = False

    def __init__(self, core: MeshCore) -> None:
        self._core = core
        self._spawned: set[asyncio.Task[None]] = set()

    async def sleep(self, seconds: float) -> None:
        upstream = self._core.loop_upstream()
        try:
            async with upstream.until_closed():
                await self._core.clock.sleep_async(seconds)
        except TimeoutError:
            if not upstream.closed:
                raise

    async def acquire(self, effect: Acquire) -> bool | None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def wake_from_anywhere() -> None:
            try:
                loop.call_soon_threadsafe(wake, over)
            except RuntimeError:  # the loop was closed under its waiting tasks: the slot goes to the next in line
                effect.slots.release(effect.place)

        waiter = effect.slots.enqueue(wake_from_anywhere, effect.place)
        if waiter is None:
            return None
        alarm = (
            None
            if effect.timeout is None
            else self._core.alarms.on_loop(loop, effect.timeout, functools.partial(wake, over))
        )
        try:
            with self._core.closing.waking(lambda: effect.slots.admit(waiter)):
                await over
        except BaseException:
            if effect.slots.cancel(waiter):
                effect.slots.release(effect.place)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        return effect.slots.cancel(waiter)

    async def wait(self, effect: Wait) -> bool:
        flight, loop = effect.flight, asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def wake_from_anywhere() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under its waiting tasks
                loop.call_soon_threadsafe(wake, over)

        if not flight.board(wake_from_anywhere):
            return True
        alarm = (
            None
            if effect.timeout is None
            else self._core.alarms.on_loop(loop, effect.timeout, functools.partial(wake, over))
        )
        try:
            with self._core.closing.waking(wake_from_anywhere):
                await over
        finally:
            flight.leave(wake_from_anywhere)
            if alarm is not None:
                alarm.cancel()
        return flight.landed

    async def read(self, outcome: Outcome, limit: int) -> Outcome:
        body = outcome.body
        assert is_awaited(body)
        whole = bytearray()
        try:
            async for part in body:
                whole += part
                if len(whole) > limit:
                    body.abort()
                    return too_long(limit)
        except BodyFailed as error:
            return Outcome(error.failure, error.detail, error)
        except BaseException:
            body.abort()
            raise
        outcome.whole, outcome.body = bytes(whole), None
        return outcome

    def spawn(self, exchange: Exchange[R]) -> None:
        background = self._core.background
        if len(self._spawned) >= MAX_WAITING:
            background.dropped += 1
            exchange.close()
            return

        async def run_to_its_end() -> None:
            try:
                discard(await run_async(exchange, self), exchange)  # type: ignore[arg-type]
            except Exception:  # noqa: BLE001 (nobody waits for it: counted and logged, never raised)
                background.failed()

        task = asyncio.get_running_loop().create_task(run_to_its_end())
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)


class AsyncNetwork(LoopRuntime[NetworkRequest]):
    """Asyncio, on the mesh's own connections of the running loop."""

    traces = True

    async def race(self, effect: Race[NetworkRequest]) -> None:
        effect.winner, effect.winner.outcome = await race_on_loop(effect, self.send, self._core.alarms)

    def __init__(self, core: MeshCore, settings: ClientSettings) -> None:
        super().__init__(core)
        self._settings = settings
        if settings.limits is not None:
            settings.limits.acquire_async = self.acquire
            core.limits.add(settings.limits)

    def send(self, effect: Send[NetworkRequest]) -> Coroutine[object, object, Outcome]:
        # no coroutine of its own around the upstream's
        call = effect.call
        request = call.request
        core, deadline = self._core, effect.deadline
        upstream = core.loop_upstream()
        if deadline is not None:  # by the mesh's clock; the wait for what others send goes by the loop's
            deadline += upstream.loop.time() - core.clock.monotonic()
        return upstream.send(
            Attempt(
                request.method.encode("latin-1"),
                request.target,
                request.attempt_headers(effect.attempt),
                request.body,
                find_target(core, effect.cluster, effect.endpoint, request, self._settings),
                effect.timeout,
                deadline,
                call.timeouts,
                request.trace,
            )
        )

    async def enter(self) -> None:
        """Nothing to open."""

    async def leave(self, *_exc: object) -> None:
        """The client is left."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running loop's idle connections; other clients that are still open make new ones when they need them."""
        self._core.forget_limits(self._settings.limits)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # under trio, say: there are no connections here
        self._core.loop_upstream().close_idle()
        await closed()
