"""How a gRPC attempt is made: blocking, from callbacks, or on asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.core_unary import AioUnary, deserialized, let_go, plain, raise_for
from meshlib.transport.grpcio.client.heads import initial_metadata, once_the_head_is_here
from meshlib.transport.grpcio.client.outcome import OK, UNAVAILABLE, UNKNOWN, GrpcOutcome, answered, ended, failure_of
from meshlib.transport.grpcio.client.reachability import lost_connection
from meshlib.transport.grpcio.client.upstreams import (
    CannotConnect,
    ChannelSettings,
    MeshGone,
    Upstream,
    connect,
    upstreams_of_mesh,
)
from meshlib.transport.runtimes.loop import LoopRuntime
from meshlib.transport.runtimes.race import ThreadRace, race_on_loop
from meshlib.transport.runtimes.threads import ThreadRuntime
from meshlib.transport.upstream.problems import MESH_CLOSED, mesh_closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.alarms import Alarms
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Acquire, Exchange, Race, Send
    from meshlib.transport.core.mesh_core import MeshCore

INFINITE = float("inf")

_connecting = threading.Lock()
os.register_at_fork(after_in_child=_connecting._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


def upstream_for(core: MeshCore, settings: ChannelSettings, effect: Send, loop: Any = None) -> Upstream:
    """The channel for an attempt, of this runtime alone; made on first use. Raises ``CannotConnect``."""
    cluster, endpoint = effect.cluster, effect.endpoint
    authority = effect.call.request.sent_authority
    key: Any
    if loop is None:
        key = (endpoint, settings, authority) if authority else (endpoint, settings)
    else:
        key = (endpoint, settings, loop, authority)
    found: Upstream | None = cluster.targets.get(key)
    if found is not None and (not found.worn or found.usable(core.clock.monotonic())):
        return found
    with _connecting:
        if core.closed:
            raise MeshGone(MESH_CLOSED)
        again: Upstream | None = cluster.targets.get(key)
        if again is not None and again is not found:
            return again
        if found is not None and found.pid == os.getpid():
            core.forget_targets([found])
        if loop is not None:
            _forget_closed_loops(core, cluster.targets)
        upstreams_of_mesh(core).check()
        now = core.clock.monotonic()
        try:
            made = connect(cluster, endpoint, settings, authority or settings.authority, loop, now)
            if settings.health_service is not None:
                from meshlib.transport.grpcio.client.health import watch

                watch(made, cluster, endpoint, settings.health_service, core.alarms)
        except Exception as error:
            raise unable(error, f"no channel to {endpoint.key} could be made") from error
        made.usable(now)
        cluster.targets[key] = made
        if cluster.has_left(endpoint):  # looked at after the channel can be found by who takes the endpoint out
            cluster.targets.pop(key, None)
        return made


def unable(error: Exception, what: str) -> CannotConnect:
    """Raise it from ``error``."""
    return error if isinstance(error, CannotConnect) else CannotConnect(f"{what}: {type(error).__name__}: {error}")


def _forget_closed_loops(core: MeshCore, targets: dict[Any, Any]) -> None:
    for key, target in list(targets.items()):
        if isinstance(target, Upstream) and target.loop is not None and target.loop.is_closed():
            core.forget_targets([targets.pop(key)])


def invoker(core: MeshCore, settings: ChannelSettings, effect: Send, loop: Any = None) -> tuple[Upstream, Any]:
    """The channel for an attempt, and grpcio's multicallable on it. Raises ``CannotConnect``."""
    upstream, sent = upstream_for(core, settings, effect, loop), effect.call.request
    return upstream, upstream.calls.get((sent.multicallable.key, sent.target)) or callable_on(upstream, effect)


def callable_on(upstream: Upstream, effect: Send) -> Any:
    """A new multicallable for an attempt. Raises ``CannotConnect``."""
    sent = effect.call.request
    try:
        return upstream.multicallable(sent.multicallable, sent.target)
    except Exception as error:
        raise unable(error, f"the channel to {effect.endpoint.key} cannot make calls") from error


def refused(error: CannotConnect) -> Outcome:
    """No attempt can be made."""
    if isinstance(error, MeshGone):
        return mesh_closed(error)
    return Outcome(Failure.CONNECT_FAILED, str(error), error.__cause__ or error)


def not_begun(core: MeshCore, error: Exception) -> Outcome:
    """Something raised where an attempt begins (or where its end is told), and not to say how the call ended: whatever it
    is, it ends this attempt. No endpoint is to blame."""
    if core.closed:  # grpcio refuses calls on a channel that the mesh's closing has closed
        return mesh_closed(error)
    return Outcome(Failure.INVALID_REQUEST, f"the call could not be made: {type(error).__name__}: {error}", error)


def broken_off(core: MeshCore) -> bool:
    """Whether a CancelledError in this task is what grpcio's call ended with when the mesh was closed."""
    task = asyncio.current_task()
    return core.closed and task is not None and not task.cancelling()


def wants_headers(effect: Send) -> bool:
    """Whether a rule looks at the headers of the answer."""
    record = effect.call.record
    destination, rule = record.destination, record.rule_object
    return (destination is not None and bool(destination.response_ops)) or (rule is not None and rule.cors is not None)


def total_time(core: MeshCore, effect: Send) -> float | None:
    """Seconds until all of a call must be over: the route's timeout and the caller's, whichever is earlier."""
    read = effect.call.timeouts.read
    end = effect.deadline
    if read is not None:
        by = effect.call.record.started + read
        end = by if end is None or by < end else end
    return None if end is None else max(0.0, end - core.clock.monotonic())


def outcome_of_end(
    core: MeshCore, upstream: Upstream, effect: Send, told: Any, timed: bool, initial: Any = None, call: Any = None
) -> Outcome:
    """What an attempt that ended without any message comes to. ``told`` has the status: grpcio's exception, or its call.
    ``initial``: its initial metadata, where that must not be asked for here; ``call``: grpcio's call, if ``told`` is none."""
    if core.closed:
        return mesh_closed(told if isinstance(told, BaseException) else None)
    if initial is None:
        initial = told.initial_metadata()
    request = effect.call.request.messages
    code, details = told.code().value, told.details() or ""
    number = code[0] if isinstance(code, tuple) else UNKNOWN
    outcome = ended(
        number,
        details,
        initial,
        told if call is None else call,
        told if number else None,
        timed,
        None if type(request) is bytes else request.error,
    )
    if outcome.failure is Failure.CONNECT_FAILED:
        lost_connection(core, upstream, effect)
    elif type(outcome) is GrpcOutcome and wants_headers(effect):
        outcome.tell_headers(tuple(initial), told.trailing_metadata(), details)
    return outcome


def end_of_stream(call: Call, code: int, details: str, timed: bool) -> Failure | None:
    """What cut a stream that had been answered, None when the server ended it; the record learns the caller's status."""
    record = call.record
    record.grpc_status = code
    failure = failure_of(code, details, timed) if code else None
    if failure is not Failure.TIMEOUT:
        return failure
    read = call.timeouts.read
    if read is not None and call.clock.monotonic() >= record.started + read:
        record.add_flag("DC")  # the caller's own time, which no endpoint is to blame for
        return None
    record.grpc_status = UNAVAILABLE  # what the caller of a route that took too long hears
    return failure


class Blocking(ThreadRuntime):
    """Calls with a single answer, the caller's thread waiting."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    def send(self, effect: Send) -> Outcome:
        # between two calls everything here falls out of the processor's caches: each function that need not be called is a
        # microsecond of `make bench`
        call = effect.call
        sent = call.request
        upstream: Any = effect.cluster.targets.get((effect.endpoint, self._settings))
        destination, rule = call.record.destination, call.record.rule_object
        changes = destination.response_ops or rule.cors is not None  # type: ignore[union-attr]
        looked_at = sent.with_call or changes
        # made before the answer is waited for: after that, every line runs cold
        outcome = GrpcOutcome(OK, None, None, None, at_once=False)
        try:
            if upstream is None or sent.sent_authority or upstream.worn:
                upstream = upstream_for(self._core, self._settings, effect)
            method = sent.multicallable
            invoke = upstream.calls.get((method.key, sent.target)) or callable_on(upstream, effect)
            request = sent.messages
            answer = (invoke.with_call if looked_at else invoke)(
                request if type(request) is bytes else request.attempt(),
                effect.timeout,
                sent.metadata(effect.attempt),
                sent.credentials,
                None,
                sent.compression,
            )
        except grpc.RpcError as error:
            return outcome_of_end(self._core, upstream, effect, error, effect.timeout is not None)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (told to the caller)
            return not_begun(self._core, error)
        if not looked_at:
            outcome.message = answer
            return outcome
        outcome.message, outcome.call = answer
        if changes:
            outcome.tell_headers(outcome.call.initial_metadata(), None, "")
        return outcome

    def race(self, effect: Race) -> tuple[Send, Outcome]:
        return ThreadRace(effect, self._send_watched, self._core.alarms).run()

    def _send_watched(self, effect: Send, watch: Callable[[Callable[[], None]], None]) -> Outcome:
        """As ``send``, but so that it can be broken off."""
        over = threading.Event()
        result: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            result.append(outcome)
            over.set()

        watch(FromCallbacks(self._core, self._settings).send(effect, done))
        over.wait()
        return result[0]


class FromCallbacks:
    """Calls with a single answer that nobody waits for in a thread (``future``)."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        self._core = core
        self._settings = settings

    def send(self, effect: Send, done: Callable[[Outcome], None]) -> Callable[[], None]:
        core, sent = self._core, effect.call.request
        request = sent.messages
        upstream: Any = None
        try:
            upstream, invoke = invoker(core, self._settings, effect)
            future = invoke.future(
                request if type(request) is bytes else request.attempt(),
                effect.timeout,
                sent.metadata(effect.attempt),
                sent.credentials,
                None,
                sent.compression,
            )
        except grpc.RpcError as error:  # it could not even begin: invalid metadata
            done(outcome_of_end(core, upstream, effect, error, effect.timeout is not None))
            return _nothing
        except CannotConnect as error:
            done(refused(error))
            return _nothing
        except Exception as error:  # noqa: BLE001 (told to the caller)
            done(not_begun(core, error))
            return _nothing

        # grpcio and the alarms only log what their callbacks raise: the call would never hear of its end
        def over(ended_call: Any) -> None:
            try:
                if ended_call.code() is not grpc.StatusCode.OK:
                    once_the_head_is_here(ended_call, core.real_alarms, lambda: failed(ended_call))
                    return
                outcome: Outcome = answered(ended_call.result(), ended_call)
                if wants_headers(effect):
                    outcome.tell_headers(ended_call.initial_metadata(), None, "")  # type: ignore[attr-defined]
            except Exception as error:  # noqa: BLE001 (told to the caller)
                outcome = not_begun(core, error)
            done(outcome)

        def failed(ended_call: Any) -> None:
            timed = effect.timeout is not None
            try:
                outcome = outcome_of_end(core, upstream, effect, ended_call, timed, initial_metadata(ended_call))
            except Exception as error:  # noqa: BLE001 (told to the caller)
                outcome = not_begun(core, error)
            done(outcome)

        future.add_done_callback(over)
        return lambda: future.cancel()

    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]:
        return self._core.alarms.sleep(seconds, lambda: done(None)).cancel

    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]:
        return self._core.alarms.after(seconds, lambda: ring(None)).cancel

    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]:
        return acquire_from_callbacks(effect, done, self._core.alarms)

    def spawn(self, exchange: Exchange) -> None:
        Blocking(self._core, self._settings).spawn(exchange)


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


def _nothing() -> None:
    return None


class OnLoop(LoopRuntime):
    """Calls with a single answer on asyncio."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    async def race(self, effect: Race) -> tuple[Send, Outcome]:
        return await race_on_loop(effect, self.send, self._core.alarms)

    async def send(self, effect: Send) -> Outcome:
        sent = effect.call.request
        loop = asyncio.get_running_loop()
        upstream: Any = effect.cluster.targets.get((effect.endpoint, self._settings, loop, ""))
        request, timeout = sent.messages, effect.timeout
        credentials, compression = sent.credentials, sent.compression
        outcome = GrpcOutcome(OK, None, None, None, at_once=False)
        call: Any = None
        try:
            if upstream is None or sent.sent_authority or upstream.worn:
                upstream = upstream_for(self._core, self._settings, effect, loop)
            method = sent.multicallable
            invoke = upstream.calls.get((method.key, sent.target)) or callable_on(upstream, effect)
            metadata = sent.metadata(effect.attempt)
            if type(invoke) is AioUnary and credentials is None and compression is None and plain():
                call, answering = invoke.begin(request, timeout, metadata)
                upstream.under_way.add(call)
                try:
                    message = outcome.message = await answering
                except BaseException:  # cancelled, or dropped with its loop
                    let_go(call)
                    raise
                finally:
                    upstream.under_way.discard(call)
                if message is None:
                    await raise_for(call)
                elif invoke.deserialize is not None:
                    outcome.message = deserialized(message, invoke.deserialize)
            else:
                arguments = {
                    "timeout": timeout,
                    "metadata": metadata,
                    "credentials": credentials,
                    "compression": compression,
                }
                if type(request) is bytes:
                    call = invoke(request, **arguments)
                    outcome.message = await call
                else:
                    call = invoke(**arguments)
                    outcome.message = await request.send_to(call)
        except grpc.aio.AioRpcError as error:
            return outcome_of_end(self._core, upstream, effect, error, timeout is not None)
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
        outcome.call = call
        destination, rule = effect.call.record.destination, effect.call.record.rule_object
        if destination.response_ops or rule.cors is not None:  # type: ignore[union-attr]
            outcome.tell_headers(await call.initial_metadata(), None, "")
        return outcome
