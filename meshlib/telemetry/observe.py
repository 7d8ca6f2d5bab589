"""An exchange that is watched: metrics and span are finished exactly once, also when the call is cancelled or dropped.

A call that is *closed* may be closed by the garbage collector, at any allocation, perhaps inside a lock of the very
registry or exporter that would record it. Such calls are only noted then, and recorded at the next call or scrape.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

log = logging.getLogger("meshlib.telemetry")


class Telemetry:
    """What watches the calls that a mesh makes, or those that it serves. ``failures`` counts what it could not record; a
    call never hears of it. ``metrics`` (made for the registry) has ``finished(call, now)``, ``tracing`` ``started(call)``,
    which gives a span or None, and ``finished(call, span)``.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None,
        metrics: Callable[[CollectorRegistry], Any],
        tracing: Any,
        clock: Callable[[], float],
    ) -> None:
        if registry is None:
            import prometheus_client

            registry = prometheus_client.REGISTRY
        _catch_up_before_scrapes(registry, self)
        self._metrics = metrics(registry)
        self._tracing = tracing
        self._clock = clock
        self._closed: deque[tuple[Any, Any, float]] = deque()
        self.failures = 0

    def _count_closed(self) -> None:
        while self._closed:
            try:
                self._finished(*self._closed.popleft())
            except IndexError:  # another thread took the last one
                return

    def began(self, call: Any) -> Any:
        """A call begins; what this returns goes to ``ended``. For callers that are sure to come to an end themselves: where
        an exchange may be dropped, ``watch`` it."""
        if self._closed:
            self._count_closed()
        try:
            return self._tracing.started(call)
        except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
            self._failed()
            return None

    def ended(self, call: Any, span: Any) -> None:
        """A call is over, whichever way."""
        try:
            self._metrics.finished(call, self._clock())
            if span is not None:
                self._tracing.finished(call, span)
        except Exception:  # noqa: BLE001 (whatever a registry or provider raises, the call goes on)
            self._failed()

    def watch(self, call: Any, exchange: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        """``exchange``, watched."""
        if self._closed:
            self._count_closed()
        span = None
        try:
            span = self._tracing.started(call)
        except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
            self._failed()
        try:
            yield from exchange
        except GeneratorExit:
            self._closed.append((call, span, self._clock()))
            raise
        except BaseException:
            self._finished(call, span, self._clock())
            raise
        self._finished(call, span, self._clock())

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """A mechanism of a ResiliencePolicy did (or, in shadow, would have done) something."""
        try:
            self._metrics.resilience(host, mechanism, mode, verdict)
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()

    def reconfigured(self) -> None:
        """The mesh has other resources than before."""
        self._metrics.forget_short_cuts()

    def after_fork(self) -> None:
        """In a forked child: what the parent has noted is the parent's to record."""
        self._closed.clear()
        self._metrics.forget_pending()

    def catch_up(self) -> None:
        """Record the calls that were closed, and count those that were noted."""
        self._count_closed()
        try:
            self._metrics.count()
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()

    def _finished(self, call: Any, span: Any, now: float) -> None:
        try:
            self._metrics.finished(call, now)
            if span is not None:
                self._tracing.finished(call, span)
        except Exception:  # noqa: BLE001 (whatever a registry or provider raises, the call goes on)
            self._failed()

    def _failed(self) -> None:
        # fail open: once in the log with its cause, then counted
        self.failures += 1
        if self.failures == 1:
            log.exception(
                "a call could not be recorded; further failures are only counted (status: telemetry_failures)"
            )


class _CatchUp:
    """A collector without metrics of its own, asked first at each scrape: lets every mesh record what it has noted."""

    def __init__(self) -> None:
        self.meshes: weakref.WeakSet[Telemetry] = weakref.WeakSet()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for telemetry in list(self.meshes):
            telemetry.catch_up()
        return []


_catching_up: weakref.WeakKeyDictionary[Any, _CatchUp] = weakref.WeakKeyDictionary()


def _catch_up_before_scrapes(registry: CollectorRegistry, telemetry: Telemetry) -> None:
    found = _catching_up.get(registry)
    if found is None:
        found = _catching_up[registry] = _CatchUp()
        registry.register(found)  # before the families, so that it comes first
    found.meshes.add(telemetry)
