"""A call that goes on by itself, driven by grpcio's callbacks, with nobody's thread waiting for it.

The object that the caller holds (``FutureCall``, ``StreamCall``) only refers to a ``CallbackRun``, never the other way
round: when the caller drops it, it cancels the call, as grpcio's own do.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from meshlib.engine.drivers import CallbackDriver, finish
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.errors import CODES, RpcFailed, error_of, ok_without_message, reason
from meshlib.transport.grpcio.client.outcome import CANCELLED, GrpcOutcome
from meshlib.transport.grpcio.client.shown_call import with_metadata

log = logging.getLogger("meshlib.grpc")
T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.call import Call
    from meshlib.engine.drivers import CallbackRuntime
    from meshlib.engine.effects import Acquire, Deliver, Exchange
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import ThreadCall


class CallbackRun:
    """``inner`` is grpcio's object of the attempt that was delivered, ``error`` the exception that the mesh ended the call
    with; exactly one of them is set when ``delivered``. ``over``: nothing more will come."""

    def __init__(self, call: Call[ThreadRequest], exchange: Exchange[ThreadRequest]) -> None:
        self.call = call
        self.exchange: Exchange[ThreadRequest] | None = exchange
        self.inner: ThreadCall | None = None
        self.error: BaseException | None = None
        self.delivered = False
        self.over = False
        self.cancelled = False
        self.cancel_details = ""
        # one thread at a time advances the exchange: grpcio's, the alarms', or one that cancels
        self.stepping = threading.RLock()
        self.changed = threading.Condition(threading.RLock())
        self._on_end: list[Callable[[], None]] = []
        self._driver: CallbackDriver | None = None

    def start(self, runtime: CallbackRuntime) -> None:
        """Begin. The call may be over when this returns."""
        with self.stepping:
            assert self.exchange is not None
            driver = self._driver = CallbackDriver(self.exchange, runtime, self._deliver, self._broken)
            driver.start()

    def unless_over(self, done: Callable[[T], None]) -> Callable[[T], None]:
        """``done`` of an effect, for any thread; too late once the call is cancelled."""

        def tell(result: T) -> None:
            with self.stepping:
                if not self.over:
                    done(result)

        return tell

    def slot_unless_over(self, effect: Acquire, done: Callable[[bool | None], None]) -> Callable[[bool | None], None]:
        """The same for a slot, which goes back when it comes too late."""

        def tell(granted: bool | None) -> None:
            with self.stepping:
                if not self.over:
                    done(granted)
                elif granted:
                    effect.slots.release(effect.place)

        return tell

    def shown(self) -> ThreadCall:
        """``inner``, of a call that was delivered without an error."""
        assert self.inner is not None
        return self.inner

    # -- what the driver says -----------------------------------------------------------------------------------------

    def _deliver(self, delivered: Deliver) -> None:
        outcome = delivered.outcome
        if outcome.grpc_status == 0:
            outcome = ok_without_message(outcome, self.call) or outcome
        if type(outcome) is GrpcOutcome:
            self.respond(outcome)
        else:
            self.error = error_of(outcome, self.call)
            self._finish(None)
            self._end()

    def respond(self, outcome: GrpcOutcome) -> None:
        """An attempt has its response: the call is over with it."""
        record = self.call.record
        record.status = outcome.status
        record.grpc_status = outcome.code
        self.inner = with_metadata(outcome.call, outcome, record)
        self._finish(None)
        self._end()

    def _broken(self, error: BaseException) -> None:
        """A bug, or something the caller handed in that grpcio cannot take: told as what it is."""
        self.error = error
        self.exchange = None
        self._end()

    def _finish(self, failure: Failure | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            finish(exchange, failure)

    def _end(self) -> None:
        with self.changed:
            self.delivered = True
            self.over = True
            self._driver = None
            callbacks, self._on_end = self._on_end, []
            self.changed.notify_all()
        sent = self.call.request
        if not isinstance(sent.messages, bytes):
            sent.messages.over()
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("a callback of a finished call raised")

    # -- what the caller says -----------------------------------------------------------------------------------------

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Call back once the call is over; at once, and False, when it is already."""
        with self.changed:
            if not self.over:
                self._on_end.append(callback)
                return True
        callback()
        return False

    def cancel(self, details: str = "Locally cancelled by application!") -> bool:
        """Break the call off."""
        if self.over:
            return False
        with self.stepping:
            if self.over:
                return False
            self.cancelled = True
            self.cancel_details = details
            record = self.call.record
            record.grpc_status = CANCELLED
            record.add_flag("DC")
            driver = self._driver
            inner = self.inner
            if self.exchange is not None and self.delivered:
                self.exchange.close()  # before grpcio's own end of the call is told
                self.exchange = None
            if driver is not None:
                driver.cancel()
            if inner is not None:
                inner.cancel()
            if self.error is None:
                self.error = cancelled(self.call, details)
            self._end()
            return True

    def wait(self, timeout: float | None) -> bool:
        """Until it is over; False when ``timeout`` seconds passed first."""
        with self.changed:
            return self.changed.wait_for(lambda: self.over, timeout)


def cancelled(call: Call[ThreadRequest], details: str) -> RpcFailed:
    """What a cancelled call ends with."""
    why = reason(Outcome(Failure.RESET, "the caller cancelled the call"), call)
    return RpcFailed(CODES[CANCELLED], details, (("meshlib-reason", why),), call.record)
