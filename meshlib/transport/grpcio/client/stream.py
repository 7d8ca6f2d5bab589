"""Streams of answers in threads.

No thread waits for an attempt: the caller's own, when it reads, or grpcio's, when the attempt ends. Up to the first message
an attempt that fails may be followed by another one; from then on the caller reads grpcio's own stream, and a message costs
what it costs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc._cython import cygrpc

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.callback_run import CallbackRun
from meshlib.transport.grpcio.client.errors import RpcFailed, failed
from meshlib.transport.grpcio.client.future import PublicCall
from meshlib.transport.grpcio.client.heads import head_is_here, initial_metadata, once_the_head_is_here
from meshlib.transport.grpcio.client.outcome import MIDDLE, GrpcOutcome, answered, ended
from meshlib.transport.grpcio.client.runtimes import (
    FromCallbacks,
    end_of_stream,
    invoker,
    not_begun,
    outcome_of_end,
    refused,
    total_time,
    wants_headers,
)
from meshlib.transport.grpcio.client.told import with_metadata
from meshlib.transport.grpcio.client.upstreams import CannotConnect
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Acquire, Exchange, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.dialer import Dialer
    from meshlib.transport.grpcio.client.upstreams import Upstream

READ = cygrpc.OperationType.receive_message
CALLBACKS = 1.0
"""Seconds in which grpcio, which tells readers of a call's end first, has told its callbacks."""

FORGOTTEN = 0.5
"""Seconds after an attempt's end when a read that still waits is taken for forgotten."""

TRAILERS_ONLY_GRACE = 0.02
"""Seconds to tell an answer without initial metadata from one that has nothing but a status: the status of the latter
comes with the same frame."""


class Try:
    """One attempt. ``state``: "" while nobody knows, "answered" (a message or a head came), "ended" (it did not).
    ``reading``: the caller waits for its first message; ``terminated``: grpcio has said that it is over."""

    __slots__ = ("alarm", "done", "effect", "inner", "reading", "state", "terminated", "timed", "upstream")

    def __init__(self, effect: Send, upstream: Upstream, inner: Any, done: Callable[[Any], None], timed: bool) -> None:
        self.effect = effect
        self.upstream = upstream
        self.inner = inner
        self.done = done
        self.timed = timed
        self.state = ""
        self.reading = False
        self.terminated = False
        self.alarm: Any = None


class _Remaining(set[Any]):
    """grpcio's set of operations under way, for one that may yet be told of an operation that was taken out."""

    remove = set.discard


def unblock(inner: Any) -> None:
    """Let a read return that grpcio has forgotten.

    When a connection ends just as a read begins, gRPC core (1.85, and plain channels too) may tell the call's status and
    never the end of the read, which then waits for ever. Called a while after the status; where grpcio's inner state is not
    what we know, nothing is done.
    """
    state: Any = getattr(inner, "_state", None)
    condition, due = getattr(state, "condition", None), getattr(state, "due", None)
    if condition is None or type(due) is not set:
        return
    with condition:
        if state.code is not None and READ in due:
            state.due = _Remaining(due - {READ})
            condition.notify_all()


class StreamRun(CallbackRun):
    """A ``CallbackRun`` whose answer goes on after it was delivered. ``current`` is the attempt under way."""

    def __init__(self, call: Call, exchange: Exchange, core: MeshCore) -> None:
        super().__init__(call, exchange)
        self.core = core
        self.current: Try | None = None
        self.alarms = core.real_alarms  # for how long grpcio and the network take

    def begun(self, attempt: Try) -> None:
        """A new attempt is under way."""
        with self.changed:
            self.current = attempt
            self.changed.notify_all()
        if not attempt.inner.add_callback(lambda: self._terminated(attempt)):
            self._terminated(attempt)

    def commit(self, attempt: Try) -> bool:
        """The attempt has answered; False when it was given up before."""
        with self.stepping:
            if attempt.state == "ended" or self.over:
                return attempt.state == "answered"
            if not attempt.state:
                attempt.state = "answered"
                if attempt.alarm is not None:
                    attempt.alarm.cancel()
                outcome = answered(None, attempt.inner)
                if wants_headers(attempt.effect):
                    outcome.tell_headers(attempt.inner.initial_metadata(), None, "")
                attempt.done(outcome)
        return True

    def give_up(self, attempt: Try, outcome: Outcome) -> None:
        """The attempt is over without an answer."""
        with self.stepping:
            if attempt.state or self.over:
                return
            attempt.state = "ended"
            if attempt.alarm is not None:
                attempt.alarm.cancel()
            with self.changed:
                if self.current is attempt:
                    self.current = None
                self.changed.notify_all()
            attempt.done(outcome)

    def head_late(self, attempt: Try) -> None:
        """perTryTimeout has passed."""
        if attempt.state:
            return
        if head_is_here(attempt.inner):  # and nobody has read yet
            self.commit(attempt)
            return
        self.give_up(attempt, Outcome(Failure.TIMEOUT, "no answer within perTryTimeout"))
        attempt.inner.cancel()

    def reads(self, attempt: Try) -> None:
        """The caller is about to read the attempt's first message: until ``has_read`` its end is not looked at."""
        with self.stepping:
            attempt.reading = not attempt.terminated

    def has_read(self, attempt: Try) -> None:
        """The caller has read (and committed) the attempt's first message, or there is none."""
        with self.stepping:
            if not attempt.reading:
                return
            attempt.reading = False
            if not attempt.terminated:
                return
        self._once_the_head_is_here(attempt)

    def _terminated(self, attempt: Try) -> None:
        """grpcio says that an attempt is over (in grpcio's thread)."""
        inner = attempt.inner
        if inner.code() is not grpc.StatusCode.OK:
            self.alarms.after(FORGOTTEN, lambda: unblock(inner))
        with self.stepping:
            attempt.terminated = True
            if attempt.reading:
                return  # a message may have come before the end: whoever reads knows, and tells (``has_read``)
        self._once_the_head_is_here(attempt)

    def _once_the_head_is_here(self, attempt: Try) -> None:
        if attempt.state:
            self._ended(attempt)
        else:
            once_the_head_is_here(attempt.inner, self.alarms, lambda: self._ended(attempt))

    def _ended(self, attempt: Try) -> None:
        inner = attempt.inner
        if not attempt.state:
            try:
                outcome = outcome_of_end(
                    self.core, attempt.upstream, attempt.effect, inner, attempt.timed, initial_metadata(inner)
                )
            except Exception as error:  # noqa: BLE001 (told to the caller; grpcio and the alarms would only log it)
                outcome = not_begun(self.core, error)
            self.give_up(attempt, outcome)
        with self.stepping:
            if attempt.state != "answered" or self.over:
                return
            failure = end_of_stream(self.call, inner.code().value[0], inner.details() or "", attempt.timed)
            closed = self.core.closed and inner.code() is grpc.StatusCode.CANCELLED
            self._finish(Failure.CLOSED if closed else failure)
            if closed:
                self.error = failed(mesh_closed(), self.call)
            elif failure is Failure.TIMEOUT:
                self.error = failed(Outcome(failure, MIDDLE), self.call)
            self._end()

    def answer(self, outcome: GrpcOutcome) -> None:
        """The first message (then the exchange stays until the last), or an end without any."""
        if outcome.error is not None or outcome.grpc_status is not None:
            super().answer(outcome)
            return
        record = self.call.record
        record.status = outcome.status
        record.grpc_status = outcome.code
        with self.changed:
            self.inner = with_metadata(outcome.call, outcome, record)
            self.delivered = True
            self._driver = None
            self.changed.notify_all()
        request = self.call.request.messages
        if type(request) is not bytes:
            request.commit()


class StreamRuntime(FromCallbacks):
    """Begins attempts whose end somebody else will tell."""

    def __init__(self, dialer: Dialer, run: StreamRun) -> None:
        super().__init__(dialer.core, dialer.settings)
        self._run = run

    def send(self, effect: Send, done: Callable[[Outcome], None]) -> Callable[[], None]:
        sent, run = effect.call.request, self._run
        request = sent.messages
        inner: Any = None
        try:
            upstream, invoke = invoker(self._core, self._settings, effect)
            total = total_time(self._core, effect)
            inner = invoke(
                request if type(request) is bytes else request.attempt(),
                total,
                sent.metadata(effect.attempt),
                sent.credentials,
                None,
                sent.compression,
            )
            attempt = Try(effect, upstream, inner, done, total is not None)
            head = effect.timeout
            if head is not None and (total is None or head < total - 1e-3):
                attempt.alarm = run.alarms.after(head, lambda: run.head_late(attempt))
        except grpc.RpcError as error:  # it could not even begin: invalid metadata
            refusal: Any = error
            done(ended(refusal.code().value[0], refusal.details(), None, refusal, refusal, False))
            return _nothing
        except CannotConnect as error:
            done(refused(error))
            return _nothing
        except Exception as error:  # noqa: BLE001 (told to the caller)
            if inner is not None:
                inner.cancel()
            done(not_begun(self._core, error))
            return _nothing
        run.begun(attempt)
        return lambda: inner.cancel()

    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]:
        return super().sleep(seconds, self._run.told(done))

    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]:
        return super().after(seconds, self._run.told(ring))

    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]:
        return super().acquire(effect, self._run.told_slot(effect, done))

    def spawn(self, exchange: Exchange) -> None:
        from meshlib.transport.grpcio.client.mirrors import spawn_stream

        spawn_stream(self._core, self._settings, exchange)


def _nothing() -> None:
    return None


class StreamCall(PublicCall):
    """A call with a stream of answers: iterate it, as grpcio's."""

    def __init__(self, call: Call, exchange: Exchange, dialer: Dialer) -> None:
        run = StreamRun(call, exchange, dialer.core)
        super().__init__(run)
        self._run = run
        self._inner: Any = None
        run.start(StreamRuntime(dialer, run))

    def __iter__(self) -> StreamCall:
        return self

    def next(self) -> Any:
        return self.__next__()

    def __next__(self) -> Any:
        inner = self._inner
        if inner is None:
            return self._first()
        try:
            return next(inner)
        except StopIteration:
            self._run.wait(CALLBACKS)  # the caller may drop the call now, which must not look as if it had cancelled it
            raise
        except grpc.RpcError:
            raise self._as_told(inner) from None

    def _first(self) -> Any:
        """The first message, from whichever attempt."""
        run = self._run
        while True:
            attempt = self._attempt()
            if attempt is None:
                if run.error is not None:
                    raise run.error
                inner = self._inner = run.inner
                if isinstance(inner, RpcFailed):  # a policy's own OK
                    raise StopIteration
                return self.__next__()  # ended already: StopIteration, or the server's status
            run.reads(attempt)
            try:
                message = next(attempt.inner)
                if run.commit(attempt):
                    self._inner = attempt.inner
                    return message
                continue
            except (StopIteration, grpc.RpcError):
                pass
            finally:
                run.has_read(attempt)
            with run.changed:
                run.changed.wait_for(lambda: run.over or run.current is not attempt)  # noqa: B023

    def _attempt(self) -> Try | None:
        """The attempt to read from; None when the call is over."""
        run = self._run
        with run.changed:
            run.changed.wait_for(lambda: run.over or run.current is not None)
            return None if run.over else run.current

    def _as_told(self, inner: Any) -> Any:
        """The exception of a stream that ended in the middle."""
        run = self._run
        run.wait(CALLBACKS)
        if run.error is not None and not run.cancelled:
            return run.error
        inner.exchange = run.call.record
        return inner

    def initial_metadata(self) -> Any:
        run = self._run
        while True:
            with run.changed:
                run.changed.wait_for(lambda: run.over or run.delivered or run.current is not None)
                if run.over or run.delivered:
                    break
                attempt = run.current
            assert attempt is not None
            metadata = attempt.inner.initial_metadata()
            if not metadata:
                with run.changed:
                    if run.changed.wait_for(lambda: run.over or run.current is not attempt, TRAILERS_ONLY_GRACE):  # noqa: B023
                        continue
            run.commit(attempt)
        return (run.inner if run.inner is not None else run.error).initial_metadata()
