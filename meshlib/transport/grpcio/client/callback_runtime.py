"""Attempts with a single response that nobody waits for in a thread: grpcio's callbacks tell of their end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc

from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.attempt import (
    arguments,
    invoker,
    not_begun,
    outcome_of_end,
    refused,
    upstream_for,
    wants_headers,
)
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.initial_metadata import after_initial_metadata, received_initial_metadata
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.contracts import ended_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.alarms import Alarms
    from meshlib.engine.effects import Acquire, Send, Wait
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.client.upstream import Upstream
    from meshlib.transport.grpcio.contracts import ThreadCall, ThreadMultiCallable

INFINITE = float("inf")


class FromCallbacks:
    """Calls with a single response that nobody waits for in a thread (``future``)."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        self._core = core
        self._settings = settings

    def send(self, effect: Send[ThreadRequest], done: Callable[[Outcome], None]) -> Callable[[], None]:
        core = self._core
        sent = effect.call.request
        messages = sent.messages
        upstream: Upstream | None = None
        try:
            upstream = upstream_for(core, self._settings, effect)
            called: ThreadMultiCallable = invoker(upstream, effect)
            future = called.future(
                messages if isinstance(messages, bytes) else messages.attempt(),
                effect.timeout,
                sent.metadata(effect.attempt),
                *arguments(sent),
            )
        except grpc.RpcError as error:  # it could not even begin: invalid metadata
            done(outcome_of_end(core, upstream, effect, ended_call(error), effect.timeout is not None))
            return _nothing
        except CannotConnect as error:
            done(refused(error))
            return _nothing
        except Exception as error:  # noqa: BLE001 (told to the caller)
            done(not_begun(core, error))
            return _nothing

        # grpcio and the alarms only log what their callbacks raise: the call would never hear of its end
        def over(call: ThreadCall) -> None:
            try:
                if call.code() is not grpc.StatusCode.OK:
                    after_initial_metadata(call, core.real_alarms, lambda: failed(call))
                    return
                responded = GrpcOutcome(call.result(), call)
                if wants_headers(effect):
                    responded.tell_headers(call.initial_metadata(), None, "")
                outcome: Outcome = responded
            except Exception as error:  # noqa: BLE001 (told to the caller)
                outcome = not_begun(core, error)
            done(outcome)

        def failed(call: ThreadCall) -> None:
            timed = effect.timeout is not None
            try:
                outcome = outcome_of_end(core, upstream, effect, call, timed, received_initial_metadata(call))
            except Exception as error:  # noqa: BLE001 (told to the caller)
                outcome = not_begun(core, error)
            done(outcome)

        future.add_done_callback(over)
        return canceller(future)

    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]:
        return self._core.alarms.sleep(seconds, lambda: done(None)).cancel

    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]:
        return self._core.alarms.after(seconds, lambda: ring(None)).cancel

    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]:
        return acquire_from_callbacks(effect, done, self._core.alarms)

    def wait(self, effect: Wait, done: Callable[[bool], None]) -> Callable[[], None]:
        return wait_from_callbacks(effect, done, self._core.alarms)

    def read(self, outcome: Outcome, _limit: int, done: Callable[[Outcome], None]) -> Callable[[], None]:
        done(outcome)  # it has its message: there is no body beside
        return _nothing


def acquire_from_callbacks(effect: Acquire, done: Callable[[bool | None], None], alarms: Alarms) -> Callable[[], None]:
    """Wait in line without a thread. ``done`` is called once: by the line or by the clock."""
    claim = threading.Lock()  # taken by whoever may tell

    def granted() -> None:
        if claim.acquire(blocking=False):
            done(True)
        else:
            effect.slots.release(effect.place)

    waiter = effect.slots.enqueue(granted, effect.place)
    if waiter is None:
        done(None)
        return _nothing

    def gave_up() -> None:
        if alarms.closed:  # the attempt will say so
            effect.slots.admit(waiter)
            return
        if effect.slots.cancel(waiter):
            return  # granted at this very moment, and told so
        if claim.acquire(blocking=False):
            done(False)

    alarm = alarms.after(INFINITE if effect.timeout is None else effect.timeout, gave_up)

    def stop() -> None:
        alarm.cancel()
        if claim.acquire(blocking=False) and effect.slots.cancel(waiter):
            effect.slots.release(effect.place)

    return stop


def canceller(call: ThreadCall) -> Callable[[], None]:
    """What cancels an attempt that has begun."""

    def cancel() -> None:
        call.cancel()

    return cancel


def wait_from_callbacks(effect: Wait, done: Callable[[bool], None], alarms: Alarms) -> Callable[[], None]:
    """Wait for a flight without a thread. ``done`` is called once: when it lands, or by the clock."""
    flight = effect.flight
    claim = threading.Lock()  # taken by whoever may tell

    def landed() -> None:
        if claim.acquire(blocking=False):
            alarm.cancel()
            done(True)

    def gave_up() -> None:
        if claim.acquire(blocking=False):
            flight.leave(landed)
            done(flight.landed)

    alarm = alarms.after(INFINITE if effect.timeout is None else effect.timeout, gave_up)
    if not flight.board(landed):
        landed()

    def stop() -> None:
        claim.acquire(blocking=False)
        alarm.cancel()
        flight.leave(landed)

    return stop


def _nothing() -> None:
    return None
