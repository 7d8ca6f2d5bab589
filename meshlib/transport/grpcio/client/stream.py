"""Streams of responses in threads.

No thread waits for an attempt: the caller's own, when it reads, or grpcio's, when the attempt ends. Up to the first message
an attempt that fails may be followed by another one; from then on the caller reads grpcio's own stream, and a message costs
what it costs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from meshlib.engine.message_size import size_of_message
from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.attempt import (
    arguments,
    invoker,
    not_begun,
    refused,
    total_time,
    upstream_for,
)
from meshlib.transport.grpcio.client.callback_runtime import FromCallbacks, canceller
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.core_stream import count_messages, reader_of
from meshlib.transport.grpcio.client.errors import RpcFailed
from meshlib.transport.grpcio.client.future import PublicCall
from meshlib.transport.grpcio.client.outcome import ended
from meshlib.transport.grpcio.client.stream_run import StreamAttempt, StreamRun
from meshlib.transport.grpcio.contracts import ended_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Acquire, Exchange, Send
    from meshlib.transport.grpcio.client.dialer import Dialer
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import Metadata, ThreadCall

CALLBACKS = 1.0
"""Seconds in which grpcio, which tells readers of a call's end first, has told its callbacks."""

TRAILERS_ONLY_GRACE = 0.02
"""Seconds to tell a response without initial metadata from one that has nothing but a status: the status of the latter
comes with the same frame."""


class StreamRuntime(FromCallbacks):
    """Begins attempts whose end somebody else will tell."""

    def __init__(self, dialer: Dialer, run: StreamRun) -> None:
        super().__init__(dialer.core, dialer.settings)
        self._run = run

    def send(self, effect: Send[ThreadRequest], done: Callable[[Outcome], None]) -> Callable[[], None]:
        run = self._run
        sent = effect.call.request
        messages = sent.messages
        inner: ThreadCall | None = None
        try:
            upstream = upstream_for(self._core, self._settings, effect)
            called: Callable[..., ThreadCall] = invoker(upstream, effect)
            total = total_time(self._core, effect)
            inner = called(
                messages if isinstance(messages, bytes) else messages.attempt(),
                total,
                sent.metadata(effect.attempt),
                *arguments(sent),
            )
            if not count_messages(inner, effect.call):
                run.counted = False
            attempt = StreamAttempt(effect, upstream, inner, done, total is not None)
            head = effect.timeout
            if head is not None and (total is None or head < total - 1e-3):
                attempt.alarm = run.alarms.after(head, lambda: run.head_late(attempt))
        except grpc.RpcError as error:  # it could not even begin: invalid metadata
            refusal = ended_call(error)
            done(ended(refusal.code().value[0], refusal.details(), None, refusal, error, False))
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
        return canceller(inner)

    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]:
        return super().sleep(seconds, self._run.unless_over(done))

    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]:
        return super().after(seconds, self._run.unless_over(ring))

    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]:
        return super().acquire(effect, self._run.slot_unless_over(effect, done))

    def spawn(self, exchange: Exchange[ThreadRequest]) -> None:
        from meshlib.transport.grpcio.client.mirrors import spawn_stream

        spawn_stream(self._core, self._settings, exchange)


def _nothing() -> None:
    return None


class StreamCall(PublicCall):
    """A call with a stream of responses: iterate it, as grpcio's."""

    def __init__(self, call: Call[ThreadRequest], exchange: Exchange[ThreadRequest], dialer: Dialer) -> None:
        run = StreamRun(call, exchange, dialer.core)
        super().__init__(run)
        self._run = run
        self._read: Callable[[], object] | None = None  # the next message, of the attempt whose response has begun
        run.start(StreamRuntime(dialer, run))

    def __iter__(self) -> StreamCall:
        return self

    def next(self) -> object:
        return self.__next__()

    def __next__(self) -> object:
        read = self._read
        if read is None:
            return self._first()
        try:
            message = read()
        except StopIteration:
            self._run.wait(CALLBACKS)  # the caller may drop the call now, which must not look as if it had cancelled it
            raise
        except grpc.RpcError as error:
            raise self._as_told(error) from None
        if not self._run.counted:
            self._count(message)
        return message

    def _count(self, message: object) -> None:
        call = self._run.call
        call.messages += 1
        call.streamed += size_of_message(message)

    def _first(self) -> object:
        """The first message, from whichever attempt."""
        run = self._run
        while True:
            attempt = self._attempt()
            if attempt is None:
                if run.error is not None:
                    raise run.error
                if isinstance(run.inner, RpcFailed):  # a policy's own status
                    if run.inner.code() is not grpc.StatusCode.OK:
                        raise run.inner
                    raise StopIteration
                self._read = reader_of(run.shown())
                return self.__next__()  # ended already: StopIteration, or the server's status
            run.reads(attempt)
            try:
                message = next(attempt.inner)
                if run.commit(attempt):
                    self._read = reader_of(attempt.inner)
                    if not run.counted:
                        self._count(message)
                    return message
                continue
            except (StopIteration, grpc.RpcError):
                pass
            finally:
                run.has_read(attempt)
            with run.changed:
                run.changed.wait_for(lambda: run.over or run.current is not attempt)  # noqa: B023

    def _attempt(self) -> StreamAttempt | None:
        """The attempt to read from; None when the call is over."""
        run = self._run
        with run.changed:
            run.changed.wait_for(lambda: run.over or run.current is not None)
            return None if run.over else run.current

    def _as_told(self, error: grpc.RpcError) -> BaseException:
        """The exception of a stream that ended in the middle."""
        run = self._run
        run.wait(CALLBACKS)
        if run.error is not None and not run.cancelled:
            return run.error
        ended_call(error).exchange = run.call.record
        return error

    def initial_metadata(self) -> Metadata:
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
        return self._ended().initial_metadata() if run.inner is None else run.inner.initial_metadata()
