"""The attempts of a stream in threads: who hears first of a response or of an end, the caller that reads or grpcio's callback,
decides what the exchange is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc._cython import cygrpc

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.attempt import (
    end_of_stream,
    not_begun,
    outcome_of_end,
    wants_headers,
)
from meshlib.transport.grpcio.client.callback_run import CallbackRun
from meshlib.transport.grpcio.client.errors import error_of
from meshlib.transport.grpcio.client.initial_metadata import (
    after_initial_metadata,
    has_initial_metadata,
    received_initial_metadata,
)
from meshlib.transport.grpcio.client.outcome import MIDDLE, GrpcOutcome
from meshlib.transport.grpcio.client.shown_call import with_metadata
from meshlib.transport.upstream.problems import mesh_closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.alarms import Alarm
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.client.upstream import Upstream
    from meshlib.transport.grpcio.contracts import ThreadCall

READ = cygrpc.OperationType.receive_message
FORGOTTEN = 0.5
"""Seconds after an attempt's end when a read that still waits is taken for forgotten."""


class StreamAttempt:
    """One attempt. ``state``: "" while nobody knows, "responded" (a message or a head came), "ended" (it did not).
    ``reading``: the caller waits for its first message; ``terminated``: grpcio has said that it is over."""

    __slots__ = ("alarm", "done", "effect", "inner", "reading", "state", "terminated", "timed", "upstream")

    def __init__(
        self,
        effect: Send[ThreadRequest],
        upstream: Upstream,
        inner: ThreadCall,
        done: Callable[[Outcome], None],
        timed: bool,
    ) -> None:
        self.effect = effect
        self.upstream = upstream
        self.inner = inner
        self.done = done
        self.timed = timed
        self.state = ""
        self.reading = False
        self.terminated = False
        self.alarm: Alarm | None = None


class _Remaining(set[object]):
    """grpcio's set of operations under way, for one that may yet be told of an operation that was taken out."""

    remove = set.discard


def unblock(inner: object) -> None:
    """Let a read return that grpcio has forgotten.

    When a connection ends just as a read begins, gRPC core (1.85, and plain channels too) may tell the call's status and
    never the end of the read, which then waits for ever. Called a while after the status; where grpcio's inner state is not
    what we know, nothing is done.
    """
    state: Any = getattr(inner, "_state", None)  # grpcio's own, which has no public name
    condition, due = getattr(state, "condition", None), getattr(state, "due", None)
    if condition is None or type(due) is not set:
        return
    with condition:
        if state.code is not None and READ in due:
            state.due = _Remaining(due - {READ})
            condition.notify_all()


class StreamRun(CallbackRun):
    """A ``CallbackRun`` whose response goes on after it was delivered. ``current`` is the attempt under way."""

    def __init__(self, call: Call[ThreadRequest], exchange: Exchange[ThreadRequest], core: MeshCore) -> None:
        super().__init__(call, exchange)
        self.core = core
        self.counted = True  # whether messages are counted where they come
        call.messages = call.streamed = 0
        self.current: StreamAttempt | None = None
        self.alarms = core.real_alarms  # for how long grpcio and the network take

    def begun(self, attempt: StreamAttempt) -> None:
        """A new attempt is under way."""
        with self.changed:
            self.current = attempt
            self.changed.notify_all()
        if not attempt.inner.add_callback(lambda: self._terminated(attempt)):
            self._terminated(attempt)

    def commit(self, attempt: StreamAttempt) -> bool:
        """The response of the attempt has begun; False when it was given up before."""
        with self.stepping:
            if attempt.state == "ended" or self.over:
                return attempt.state == "responded"
            if not attempt.state:
                attempt.state = "responded"
                if attempt.alarm is not None:
                    attempt.alarm.cancel()
                outcome = GrpcOutcome(None, attempt.inner)
                if wants_headers(attempt.effect):
                    outcome.tell_headers(attempt.inner.initial_metadata(), None, "")
                attempt.done(outcome)
                if (
                    self.inner is not attempt.inner
                ):  # it is not what the caller gets: a test has made another outcome of it
                    attempt.state = "ended"
                    self._forget(attempt)
                    return False
        return True

    def _forget(self, attempt: StreamAttempt) -> None:
        """Nobody reads it any more."""
        with self.changed:
            if self.current is attempt:
                self.current = None
            self.changed.notify_all()

    def give_up(self, attempt: StreamAttempt, outcome: Outcome) -> None:
        """The attempt is over without a response."""
        with self.stepping:
            if attempt.state or self.over:
                return
            attempt.state = "ended"
            if attempt.alarm is not None:
                attempt.alarm.cancel()
            self._forget(attempt)
            attempt.done(outcome)

    def head_late(self, attempt: StreamAttempt) -> None:
        """perTryTimeout has passed."""
        if attempt.state:
            return
        if has_initial_metadata(attempt.inner):  # and nobody has read yet
            self.commit(attempt)
            return
        self.give_up(attempt, Outcome(Failure.TIMEOUT, "no response within perTryTimeout"))
        attempt.inner.cancel()

    def reads(self, attempt: StreamAttempt) -> None:
        """The caller is about to read the attempt's first message: until ``has_read`` its end is not looked at."""
        with self.stepping:
            attempt.reading = not attempt.terminated

    def has_read(self, attempt: StreamAttempt) -> None:
        """The caller has read (and committed) the attempt's first message, or there is none."""
        with self.stepping:
            if not attempt.reading:
                return
            attempt.reading = False
            if not attempt.terminated:
                return
        self._once_the_head_is_here(attempt)

    def _terminated(self, attempt: StreamAttempt) -> None:
        """grpcio says that an attempt is over (in grpcio's thread)."""
        inner = attempt.inner
        if inner.code() is not grpc.StatusCode.OK:
            self.alarms.after(FORGOTTEN, lambda: unblock(inner))
        with self.stepping:
            attempt.terminated = True
            if attempt.reading:
                return  # a message may have come before the end: whoever reads knows, and tells (``has_read``)
        self._once_the_head_is_here(attempt)

    def _once_the_head_is_here(self, attempt: StreamAttempt) -> None:
        if attempt.state:
            self._ended(attempt)
        else:
            after_initial_metadata(attempt.inner, self.alarms, lambda: self._ended(attempt))

    def _ended(self, attempt: StreamAttempt) -> None:
        inner = attempt.inner
        if not attempt.state:
            try:
                outcome = outcome_of_end(
                    self.core, attempt.upstream, attempt.effect, inner, attempt.timed, received_initial_metadata(inner)
                )
            except Exception as error:  # noqa: BLE001 (told to the caller; grpcio and the alarms would only log it)
                outcome = not_begun(self.core, error)
            self.give_up(attempt, outcome)
        with self.stepping:
            if attempt.state != "responded" or self.over:
                return
            failure = end_of_stream(self.call, inner.code().value[0], inner.details() or "", attempt.timed)
            closed = self.core.closed and inner.code() is grpc.StatusCode.CANCELLED
            self._finish(Failure.CLOSED if closed else failure)
            if closed:
                self.error = error_of(mesh_closed(), self.call)
            elif failure is Failure.TIMEOUT:
                self.error = error_of(Outcome(failure, MIDDLE), self.call)
            self._end()

    def respond(self, outcome: GrpcOutcome) -> None:
        """The first message (then the exchange stays until the last), or an end without any."""
        if outcome.error is not None or outcome.grpc_status is not None:
            super().respond(outcome)
            return
        record = self.call.record
        record.status = outcome.status
        record.grpc_status = outcome.code
        with self.changed:
            self.inner = with_metadata(outcome.call, outcome, record)
            self.delivered = True
            self._driver = None
            self.changed.notify_all()
        sent = self.call.request
        if not isinstance(sent.messages, bytes):
            sent.messages.commit()
