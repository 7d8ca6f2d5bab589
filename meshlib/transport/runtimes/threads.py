"""How effects are performed in threads."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from meshlib.engine.drivers import discard, run
from meshlib.engine.effects import Acquire, Exchange, Race, Send, Wait
from meshlib.engine.message import Request, is_blocking
from meshlib.engine.outcome import Outcome
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.runtimes.network_request import NetworkRequest
from meshlib.transport.runtimes.race import ThreadRace
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.attempt import Attempt, Watch
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.problems import too_long

R = TypeVar("R", bound=Request)


class ThreadRuntime(Generic[R]):
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

        core = self._core
        now = core.clock.monotonic
        until = None if effect.timeout is None else now() + effect.timeout
        waiter = effect.slots.enqueue(granted, effect.place)
        if waiter is None:
            return None
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

    def wait(self, effect: Wait) -> bool:
        core, flight = self._core, effect.flight
        changed = threading.Condition(threading.RLock())

        def wake() -> None:
            with changed:
                changed.notify()

        now = core.clock.monotonic
        until = None if effect.timeout is None else now() + effect.timeout
        if flight.board(wake):
            try:
                with core.closing.waking(wake), changed:
                    while not flight.landed and not core.closed and (until is None or now() < until):
                        if until is None:
                            changed.wait()
                        else:
                            core.wait(changed, until)
            finally:
                flight.leave(wake)
        return flight.landed

    def read(self, outcome: Outcome, limit: int) -> Outcome:
        body = outcome.body
        assert is_blocking(body)
        whole = bytearray()
        try:
            for part in body:
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
        # each runtime that inherits this has send()
        self._core.background.submit(
            lambda: discard(run(exchange, self), exchange),  # type: ignore[arg-type]
            exchange.close,
        )


class SyncNetwork(ThreadRuntime[NetworkRequest]):
    """Threads, on the mesh's own connections."""

    traces = True

    def race(self, effect: Race[NetworkRequest]) -> None:
        effect.winner, effect.winner.outcome = ThreadRace(effect, self._send, self._core.alarms).run()

    def __init__(self, core: MeshCore, settings: ClientSettings) -> None:
        super().__init__(core)
        self._settings = settings
        if settings.limits is not None:
            settings.limits.acquire = self.acquire
            core.limits.add(settings.limits)

    def send(self, effect: Send[NetworkRequest]) -> Outcome:
        return self._send(effect, None)

    def _send(self, effect: Send[NetworkRequest], watch: Watch | None) -> Outcome:
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
