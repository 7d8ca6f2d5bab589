"""One call through the mesh: the request as policy sees it, and all that lives as long as the call does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Generic

from meshlib.clock import Clock
from meshlib.engine.explanation import Exchange
from meshlib.engine.message import R

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tenacity import RetryCallState

    from meshlib.engine.live import Live
    from meshlib.engine.outcome import Outcome


INFINITE = float("inf")


class CallerTimeouts:
    """What the caller itself allows, in seconds (None: no limit); httpx's ``timeout=`` in its four parts.

    ``read`` bounds the wait for the head of the response over all attempts, delays and backoffs, as it would if a sidecar
    stood in between; ``connect`` bounds each connect, ``pool`` the wait for a connection slot. ``patience`` is ``read``,
    infinite where that is None.
    """

    __slots__ = ("connect", "patience", "pool", "read", "write")

    def __init__(
        self,
        connect: float | None = None,
        read: float | None = None,
        write: float | None = None,
        pool: float | None = None,
    ) -> None:
        self.connect = connect
        self.read = read
        self.write = write
        self.pool = pool
        self.patience = INFINITE if read is None else read


NO_TIMEOUTS = CallerTimeouts()


class Call(Generic[R]):
    """``request`` (``engine.message.Request``) is what policies read, rules change and a runtime sends. ``outcome`` is that of
    the last attempt, or the response that the mesh made itself; of a response that came in pieces ``streamed`` are the bytes
    and ``messages`` the messages (gRPC) that the caller has read so far, unset before the first (``telemetry/sizes.py``)."""

    __slots__ = (
        "clock",
        "live",
        "messages",
        "outcome",
        "record",
        "request",
        "rng",
        "streamed",
        "timeouts",
        "wait",
    )

    def __init__(
        self,
        request: R,
        live: Live,
        clock: Clock,
        rng: random.Random,
        timeouts: CallerTimeouts = NO_TIMEOUTS,
        wait: Callable[[RetryCallState], float] | None = None,
    ) -> None:
        self.request = request
        self.live = live
        self.clock = clock
        self.rng = rng
        self.timeouts = timeouts
        self.wait = wait
        self.outcome: Outcome | None = None
        self.streamed: int
        self.messages: int
        self.record: Exchange

    def went(self) -> tuple[Hashable, ...] | None:
        """Of a call that is over: what those have in common of whose way to its endpoint an access log says the same, but for
        our address. None: it came to more than a response to its first attempt, or began before there was a log."""
        record = self.record
        try:
            outcome, _, local = record.answered
        except AttributeError:
            return None
        if local or record._attempts is not None or outcome.failure is not None:
            return None
        return (
            record.status,
            record.flags,
            record.endpoint,
            record.rule_object,
            record.destination,
            outcome.http_version,
        )
