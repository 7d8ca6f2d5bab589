"""Calls that wait until somebody can answer (gRPC's ``wait_for_ready``): no endpoint, or none that can be connected to, is
no failure for them until their time is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Deliver, Sleep
from meshlib.engine.message import R
from meshlib.engine.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange

SHORTEST = 0.02
LONGEST = 1.0
"""Seconds between two looks; doubled each time."""


def until_ready(call: Call[R], exchange_of: Callable[[Call[R]], Exchange[R]]) -> Exchange[R]:
    """The exchange of ``call``, begun again as long as it ends for want of an endpoint."""
    record = call.record
    begun = call.clock.monotonic()
    patience = call.timeouts.read
    pause = SHORTEST
    while True:
        exchange = exchange_of(call)
        again = False
        try:
            effect = next(exchange)
            while True:
                if type(effect) is Deliver and _nobody(effect, record.flags):
                    again = True
                    break
                cut = yield effect
                effect = exchange.send(cut)
        except StopIteration:
            return
        finally:
            exchange.close()
        if again:
            now = call.clock.monotonic()
            left = None if patience is None else begun + patience - now
            if left is not None:
                pause = min(pause, max(0.0, left))
            yield Sleep(pause)
            pause = min(LONGEST, pause * 2)
            record.keep_attempt()
            record.flags = ""
            record.destination = None
            if left is not None:
                call.timeouts = type(call.timeouts)(None, max(0.0, begun + (patience or 0.0) - call.clock.monotonic()))


def _nobody(effect: Deliver, flags: str) -> bool:
    failure = effect.outcome.failure
    return failure in (Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT) or (failure is None and flags == "UH")
