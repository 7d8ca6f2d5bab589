"""``future()`` of calls with a single response."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from meshlib.transport.grpcio.client.callback_run import CallbackRun
from meshlib.transport.grpcio.client.callback_runtime import FromCallbacks
from meshlib.transport.grpcio.client.thread_runtime import Blocking
from meshlib.transport.grpcio.contracts import ended_call, raised

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Acquire, Exchange, Send
    from meshlib.engine.explanation import Exchange as Explained
    from meshlib.engine.outcome import Outcome
    from meshlib.transport.grpcio.client.dialer import Dialer
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import Metadata, ThreadCall


class _Runtime(FromCallbacks):
    """Every effect tells the run that it is over, whichever thread it ends in."""

    def __init__(self, dialer: Dialer, run: CallbackRun) -> None:
        super().__init__(dialer.core, dialer.settings)
        self._run = run

    def send(self, effect: Send[ThreadRequest], done: Callable[[Outcome], None]) -> Callable[[], None]:
        return super().send(effect, self._run.unless_over(done))

    def sleep(self, seconds: float, done: Callable[[None], None]) -> Callable[[], None]:
        return super().sleep(seconds, self._run.unless_over(done))

    def after(self, seconds: float, ring: Callable[[None], None]) -> Callable[[], None]:
        return super().after(seconds, self._run.unless_over(ring))

    def acquire(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[], None]:
        return super().acquire(effect, self._run.slot_unless_over(effect, done))

    def spawn(self, exchange: Exchange[ThreadRequest]) -> None:
        Blocking(self._core, self._settings).spawn(exchange)


class PublicCall(grpc.Call, grpc.Future):
    """What futures and streams show of a ``CallbackRun``: the interfaces of ``grpc.Call`` and ``grpc.Future``."""

    def __init__(self, run: CallbackRun) -> None:
        self.run = run
        call = run.call
        read = call.timeouts.read
        self._now = call.clock.monotonic
        self._expires = None if read is None else self._now() + read

    def __del__(self) -> None:
        run = getattr(self, "run", None)
        if run is not None and not run.over:
            run.cancel("Cancelled upon garbage collection!")

    @property
    def exchange(self) -> Explained:
        """What the mesh decided and did."""
        return self.run.call.record

    def _ended(self) -> ThreadCall:
        """The object that has the status: grpcio's, or the mesh's own exception."""
        run = self.run
        run.wait(None)
        return ended_call(run.error) if run.error is not None else run.shown()

    # -- grpc.Call ------------------------------------------------------------------------------------------------------

    def is_active(self) -> bool:
        return not self.run.over

    def time_remaining(self) -> float | None:
        return None if self._expires is None else max(0.0, self._expires - self._now())

    def cancel(self) -> bool:
        return self.run.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self.run.changed:
            if self.run.over:
                return False
            return self.run.on_end(callback)

    def initial_metadata(self) -> Metadata:
        return self._ended().initial_metadata()

    def trailing_metadata(self) -> Metadata:
        return self._ended().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        return self._ended().code()

    def details(self) -> str | None:
        return self._ended().details()

    def debug_error_string(self) -> str | None:
        return self._ended().debug_error_string()

    # -- grpc.Future ----------------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        return self.run.cancelled

    def running(self) -> bool:
        return not self.run.over

    def done(self) -> bool:
        return self.run.over

    def result(self, timeout: float | None = None) -> object:
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        run = self.run
        if not run.wait(timeout):
            raise grpc.FutureTimeoutError(f"no response within the {timeout or 0:g} s that were waited for it")
        if run.cancelled:
            raise grpc.FutureCancelledError("the call was cancelled")
        if run.error is not None:
            return run.error
        inner = run.shown()
        return None if inner.code() is grpc.StatusCode.OK else raised(inner)

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    def add_done_callback(self, fn: Callable[[PublicCall], None]) -> None:
        self.run.on_end(lambda: fn(self))

    def _value(self) -> object:
        return None


class FutureCall(PublicCall):
    """A call with a single response, on its way."""

    def __init__(self, call: Call[ThreadRequest], exchange: Exchange[ThreadRequest], dialer: Dialer) -> None:
        run = CallbackRun(call, exchange)
        super().__init__(run)
        run.start(_Runtime(dialer, run))

    def _value(self) -> object:
        return self.run.shown().result()
