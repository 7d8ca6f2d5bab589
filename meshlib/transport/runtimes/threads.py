"""How effects are performed in threads."""

from __future__ import annotations

import threading

from meshlib.engine.drivers import discard, run
from meshlib.engine.effects import Acquire, Exchange, Race, Send
from meshlib.engine.outcome import Outcome
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.runtimes.race import ThreadRace
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.attempt import Attempt, Watch
from meshlib.transport.upstream.client_settings import ClientSettings


class ThreadRuntime:
    """What all blocking runtimes have in common. ``traces``: the caller's trace extension is told of the wire here, and not by
    another transport."""

    traces = False

    def __init__(self, core: MeshCore) -> None:
        self._core = core

    def sleep(self, seconds: float) -> None:
        if self._core.alarms.real:
            self._core.closing.sleep(seconds)
        else:
            self._core.clock.sleep(seconds)

    def acquire(self, effect: Acquire) -> bool | None:
        changed = threading.Condition(threading.RLock())

        def granted() -> None:
            with changed:
                changed.notify()

        waiter = effect.slots.enqueue(granted, effect.place)
        if waiter is None:
            return None
        core = self._core
        now = core.clock.monotonic
        until = None if effect.timeout is None else now() + effect.timeout
        try:
            with core.closing.waking(lambda: effect.slots.admit(waiter)), changed:
                while waiter.state == "waiting" and (until is None or now() < until):
                    if until is None:
                        changed.wait()
                    else:
                        core.wait(changed, until)
        except BaseException:
            if effect.slots.cancel(waiter):
                effect.slots.release(effect.place)
            raise
        return effect.slots.cancel(waiter)

    def spawn(self, exchange: Exchange) -> None:
        # each runtime that inherits this has send()
        self._core.background.submit(
            lambda: discard(run(exchange, self), exchange),  # type: ignore[arg-type]
            exchange.close,
        )


class SyncNetwork(ThreadRuntime):
    """Threads, on the mesh's own connections."""

    traces = True

    def race(self, effect: Race) -> tuple[Send, Outcome]:
        return ThreadRace(effect, self._send, self._core.alarms).run()

    def __init__(self, core: MeshCore, settings: ClientSettings) -> None:
        super().__init__(core)
        self._settings = settings
        if settings.limits is not None:
            settings.limits.acquire = self.acquire
            core.limits.add(settings.limits)

    def send(self, effect: Send) -> Outcome:
        return self._send(effect, None)

    def _send(self, effect: Send, watch: Watch | None) -> Outcome:
        call = effect.call
        request = call.request
        target = find_target(self._core, effect.cluster, effect.endpoint, request, self._settings)
        return self._core.upstream.send(
            Attempt(
                request.method.encode("latin-1"),
                request.target,
                request.attempt_headers(effect.attempt),
                request.body,
                target,
                effect.timeout,
                effect.deadline,
                call.timeouts,
                request.trace,
                watch,
            )
        )

    def enter(self) -> None:
        """Nothing to open."""

    def leave(self, *_exc: object) -> None:
        """The client is left."""
        self.close()

    def close(self) -> None:
        """Close idle connections. Other clients of the mesh that are still open make new ones when they need them."""
        self._core.forget_limits(self._settings.limits)
        self._core.upstream.close_idle()
