"""Spans that wait to be sent, in the bytes that they are sent in (``otlp_spans.py``), and the thread that sends them.

Who ends a span never waits: it appends, and what there is no room for is dropped and counted. The thread does nearly nothing
of its own in Python but wait for a collector: a thread that encodes would hold up an event loop by as much as it takes."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from opentelemetry import context as contexts

from meshlib.clock import SystemClock
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.otlp_spans import request, resource_of
from meshlib.telemetry.tracing import SUPPRESSED

log = logging.getLogger("meshlib.telemetry")

MOST = 4096
"""Spans that wait; more are dropped."""
BATCH = 1024
"""Of one request, which takes a millisecond whatever is in it."""
DELAY = 5.0
"""Seconds after which fewer are sent as well."""
GRACE = 5.0
"""Seconds that what waits is still sent once the end has come: a collector that hangs must not hold the process."""

NOT_SENT = "spans_queue_full"
NOT_TAKEN = "spans_export_failed"

SCOPE = "meshlib"
"""The library that makes spans."""
_END = object()
now = SystemClock().monotonic


class SpanQueue:
    """``send`` sends a request of OTLP, and says whether it was taken; ``resource`` says whose spans they are; ``close`` breaks
    off what ``send`` waits for, for good; ``where`` names the collector in the log. One per process: where its thread is, forks
    are not safe."""

    __slots__ = (
        "_batch",
        "_close",
        "_delay",
        "_lost",
        "_most",
        "_over",
        "_resource",
        "_room",
        "_send",
        "_thread",
        "_under_way",
        "_until",
        "_waiting",
        "_wake",
        "_where",
        "_woken",
    )

    def __init__(
        self,
        send: Callable[[bytes], bool],
        resource: Mapping[str, object],
        close: Callable[[], None],
        *,
        where: str = "",
        most: int = MOST,
        batch: int = BATCH,
        delay: float = DELAY,
    ) -> None:
        self._send = send
        self._resource = resource_of(resource)
        self._close = close
        self._most = most
        self._batch = min(batch, most)
        self._delay = delay
        self._room = self._batch - 1
        """As many that wait are nothing to wake anybody for; none once it is over."""
        self._over = False
        self._where = f"the collector of spans {where}".rstrip()
        self._lost = 0
        """Since it has last taken some."""
        self._under_way = 0
        self._until = float("inf")
        self._waiting: deque[bytes] = deque()
        # its ``put`` may come amid another one of the same thread: the garbage collector ends spans at any allocation
        self._wake: SimpleQueue[object] = SimpleQueue()
        self._woken = False
        self._thread = threading.Thread(target=self._run, name="meshlib-spans", daemon=True)
        self._thread.start()

    def put(self, span: bytes) -> None:
        """Take a span, if there is room for it."""
        waiting = self._waiting
        if len(waiting) < self._room:  # nearly always
            waiting.append(span)
            return
        if len(waiting) >= self._most:
            dropped.add(NOT_SENT)
            return
        if self._over:
            dropped.add(NOT_TAKEN)
            return
        waiting.append(span)
        if len(waiting) >= self._batch and not self._woken:
            self._woken = True
            self._wake.put(None)

    def flush(self, timeout: float) -> bool:
        """Send what waits now, for at most so many seconds. False: some of it was not sent; what a collector has not taken was,
        and is counted."""
        if self._over:
            return False
        done = threading.Event()
        self._wake.put(done)
        return done.wait(timeout)

    def shutdown(self) -> None:
        """Send what waits, and end. The second time nothing happens."""
        if self._over:
            return
        self._room = 0
        self._over = True
        self._until = now() + GRACE
        self._wake.put(_END)
        self._thread.join(GRACE)
        self._close()  # a request that is under way may end; what it would wait for before the next try is broken off
        left = len(self._waiting)
        if left:
            self._lose(left)
        lost = self._lost + self._under_way
        if lost:
            log.warning("%s has not taken the last %d spans: they are lost", self._where, lost)

    def _run(self) -> None:
        # the exporter's own calls are nobody's spans
        contexts.attach(contexts.set_value(SUPPRESSED, True))
        while True:
            try:
                order = self._wake.get(timeout=self._delay)
            except Empty:
                order = self  # all that waits
            self._woken = False
            due = 0 if order is None else len(self._waiting)  # not what comes meanwhile: that may wait
            while (due > 0 or len(self._waiting) >= self._batch) and now() <= self._until:
                due -= self._send_some()
            if isinstance(order, threading.Event):
                order.set()
            if order is _END:
                return

    def _send_some(self) -> int:
        """One batch, or all that there is. How many."""
        waiting = self._waiting
        spans = [waiting.popleft() for _ in range(min(len(waiting), self._batch))]
        self._under_way = len(spans)
        try:
            taken = self._send(request(self._resource, SCOPE, spans))
        except Exception:
            log.debug("spans could not be sent", exc_info=True)
            taken = False
        self._under_way = 0
        if not taken:
            self._lose(len(spans))
        elif self._lost:
            log.warning("%s takes spans again; %d were lost by then", self._where, self._lost)
            self._lost = 0
        return len(spans)

    def _lose(self, spans: int) -> None:
        dropped.add(NOT_TAKEN, spans)
        if not self._lost and not self._over:
            log.warning(
                "%s does not take spans: lost, and counted (meshlib_telemetry_dropped_total, %s), until it does again: "
                "is it up, and is this where it listens?",
                self._where,
                NOT_TAKEN,
            )
        self._lost += spans
