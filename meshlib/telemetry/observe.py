"""An exchange that is watched: metrics and span are finished exactly once, also when the call is cancelled or dropped."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from meshlib.telemetry.metrics import Metrics
from meshlib.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange

log = logging.getLogger("meshlib.telemetry")


class Telemetry:
    """What watches the calls of a mesh. ``failures`` counts what it could not record; a call never hears of it."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self.failures = 0

    def watch(self, call: Call, exchange: Exchange) -> Exchange:
        """``exchange``, watched."""
        span = None
        try:
            span = self._tracing.started(call)
        except Exception:  # noqa: BLE001 (whatever a provider or registry raises, the call goes on)
            self._failed()
        try:
            yield from exchange
        finally:
            self._finished(call, span)

    def _finished(self, call: Call, span: Any) -> None:
        try:
            self._metrics.finished(call)
            if span is not None:
                self._tracing.finished(call, span)
        except Exception:  # noqa: BLE001 (whatever a provider or registry raises, the call goes on)
            self._failed()

    def _failed(self) -> None:
        # fail open: once in the log with its cause, then counted
        self.failures += 1
        if self.failures == 1:
            log.exception(
                "a call could not be recorded; further failures are only counted (status: telemetry_failures)"
            )
