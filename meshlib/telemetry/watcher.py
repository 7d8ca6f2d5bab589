"""Calls that are watched: metrics and span are finished exactly once, also when the call is cancelled or dropped.

Where a call's end is certain, its caller says ``began`` and ``ended`` (or ``broken``). Where the call may be dropped by the
garbage collector, ``watch`` or ``watch_rest`` puts a generator around its exchange, which hears of that.

A call that is *closed* may be closed by the garbage collector, at any allocation, perhaps inside a lock of the very
exporter that would record it. Such calls are only noted then, and recorded at the next call or scrape, or at exit
(``catching_up.py``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.engine.inbound_context import current
from meshlib.policy.telemetry_settings import DEFAULT_SETTINGS, TelemetrySettings, TracingSettings, expressions
from meshlib.telemetry.catching_up import catch_up_before_scrapes, record_at_exit
from meshlib.telemetry.custom_tags import expressions_of
from meshlib.telemetry.families import registering
from meshlib.telemetry.tcp_series import UNCOUNTED, TcpSeries

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.policy.telemetry_settings import AccessLog
    from meshlib.telemetry.access_log.entry import Traced
    from meshlib.telemetry.access_log.logs import AccessLogs

log = logging.getLogger("meshlib.telemetry")
inside = current.get

CLOSE_SECONDS = 1.0
"""That ``mesh.close()`` waits for a sink; what it has not taken by then goes on in the background."""

WatchedCall = TypeVar("WatchedCall")
WatchedSpan = TypeVar("WatchedSpan")
Effect = TypeVar("Effect")
Result = TypeVar("Result")
CallIn = TypeVar("CallIn", contravariant=True)


class Counting(Protocol[CallIn]):
    """Metrics of calls."""

    def finished(self, call: CallIn, now: float, /) -> None: ...
    def traced(self, call: CallIn, now: float, traced: Traced, /) -> None: ...
    def connection(self, call: CallIn, now: float, /) -> TcpSeries: ...


class Spanning(Protocol[CallIn, WatchedSpan]):
    """Spans of calls."""

    unrecorded: int

    def started(self, call: CallIn, /) -> WatchedSpan | None: ...
    def finished(self, call: CallIn, span: WatchedSpan, /) -> None: ...
    def late(self, call: CallIn, span: WatchedSpan, at: float, /) -> None: ...
    def reconfigured(self, settings: TracingSettings, /) -> None: ...
    def after_fork(self) -> None: ...


class Watcher(Generic[WatchedCall, WatchedSpan]):
    """Watches calls of one kind. ``failures`` counts what could not be recorded; a call never hears of it. Whoever makes the
    mesh does: a registry that takes no collectors is a ``MeshError`` then."""

    def __init__(
        self,
        registry: CollectorRegistry | None,
        metrics: Callable[[CollectorRegistry], Counting[WatchedCall]],
        tracing: Spanning[WatchedCall, WatchedSpan],
        clock: Callable[[], float],
    ) -> None:
        if registry is None:
            import prometheus_client

            registry = prometheus_client.REGISTRY
        with registering(registry):
            catch_up_before_scrapes(registry, self)
            self._metrics = metrics(registry)
        self._tracing = tracing
        self._clock = clock
        self.tells = False
        """Whether somebody wants more of a call than numbers and a span."""
        self.keeps_calls = False
        """Whether calls may be in somebody's hands here after their end."""
        self._closed: deque[tuple[WatchedCall, WatchedSpan | None, float]] = deque()
        self.failures = 0
        self.settings: TelemetrySettings = DEFAULT_SETTINGS
        """What is to be told of calls, as the newest resources say it."""
        self._remember: Callable[[WatchedCall, float, str], None] | None = None
        self._logs: AccessLogs[WatchedCall] | None = None
        """None: nobody wants lines."""
        self._lines: AccessLogs[WatchedCall] | None = None
        """Where nobody wants more of a call without a span than its line: those logs."""
        self._made_logs: Callable[[], AccessLogs[WatchedCall]] | None = None
        self._all_logs: AccessLogs[WatchedCall] | None = None

    @property
    def remember(self) -> Callable[[WatchedCall, float, str], None] | None:
        """Keeps the last calls (``recent.py``), from when they are over, with the trace of their span ("": they have none);
        None: nobody asks for them."""
        return self._remember

    @remember.setter
    def remember(self, remember: Callable[[WatchedCall, float, str], None] | None) -> None:
        self._remember = remember
        self._look()

    def began(self, call: WatchedCall) -> WatchedSpan | None:
        """A call begins; what this returns goes to ``ended`` or ``broken``. For callers that are sure to come to an end
        themselves: where an exchange may be dropped, ``watch`` it."""
        if self._closed:
            self.catch_up()
        tracing = self._tracing
        if tracing.unrecorded > 0 and inside() is None:  # nobody records, and there is no context to forward
            tracing.unrecorded -= 1
            return None
        try:
            return tracing.started(call)
        except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
            self._failed()
            return None

    def ended(self, call: WatchedCall, span: WatchedSpan | None) -> None:
        """A call is over, whichever way."""
        now = self._clock()
        try:
            self._metrics.finished(call, now)
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()
        if span is not None or self.tells:
            self._told(call, span, now)

    def _told(self, call: WatchedCall, span: WatchedSpan | None, now: float) -> None:
        """All but the metrics of a call that is over since ``now``."""
        if span is not None or self._remember is not None:
            self._tell(call, span, now, late=False)
        logs = self._logs
        if logs is not None:  # as ``_write``
            try:
                traced = None if span is None else self._context_of(span)
                if not logs.short(call, now, traced):
                    logs.write(call, now, traced)
            except Exception:  # noqa: BLE001 (whatever is wrong with a line, the call goes on)
                self._failed()

    def refused(self, call: WatchedCall, counted: bool = True) -> None:
        """A request that was refused before anything was decided about it; ``counted``: as one that has a response."""
        if counted:
            self.ended(call, None)
        elif self._logs is not None:
            self._write(self._logs, call, None, self._clock())

    def _tell(self, call: WatchedCall, span: WatchedSpan | None, now: float, late: bool) -> None:
        """What is told of few calls, after their metrics. ``late``: it was over before."""
        try:
            if span is not None and late:
                self._tracing.late(call, span, now)
            elif span is not None:
                self._tracing.finished(call, span)
                self._metrics.traced(call, now, self._context_of(span))
            if self._remember is not None:
                self._remember(call, now, "" if span is None else f"{self._context_of(span).trace_id:032x}")
        except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
            self._failed()

    def _write(
        self, logs: AccessLogs[WatchedCall], call: WatchedCall, span: WatchedSpan | None, now: float, cut: bool = False
    ) -> None:
        try:
            logs.write(call, now, None if span is None else self._context_of(span), cut)
        except Exception:  # noqa: BLE001 (whatever is wrong with a line, the call goes on)
            self._failed()

    def _context_of(self, span: WatchedSpan) -> Traced:
        """Where ``span`` is in its trace."""
        raise NotImplementedError

    def broken(self, call: WatchedCall, span: WatchedSpan | None) -> None:
        """A call is over amid its work: it was cancelled, interrupted or dropped, and this may be the garbage collector's
        doing."""
        self._closed.append((call, span, self._clock()))
        record_at_exit()

    def watch(self, call: WatchedCall, exchange: Generator[Effect, Result, None]) -> Generator[Effect, Result, None]:
        """``exchange``, watched."""
        span = self.began(call)
        if span is not None:
            exchange = self.spanned(span, exchange)
        try:
            yield from exchange
        except GeneratorExit:
            self.broken(call, span)
            raise
        except BaseException:
            self.ended(call, span)
            raise
        self.ended(call, span)

    def connected(self, call: WatchedCall) -> TcpSeries:
        """A connection is open whose bytes nobody reads: where they are counted, and who ``disconnected``."""
        try:
            series = self._metrics.connection(call, self._clock())
            series.opened.inc()
        except Exception:  # noqa: BLE001 (whatever a registry raises, the connection goes on)
            self._failed()
            return UNCOUNTED
        return series

    def disconnected(self, call: WatchedCall, series: TcpSeries) -> None:
        """It is over."""
        now = self._clock()
        try:
            series.closed.inc()
        except Exception:  # noqa: BLE001 (whatever a registry raises, the connection has ended well)
            self._failed()
        if self.tells:
            self._told(call, None, now)

    def not_connected(self, call: WatchedCall) -> None:
        """There was none to be had: opened and closed at once, with the flags of what was wrong."""
        self.disconnected(call, self.connected(call))

    def spanned(self, span: WatchedSpan, exchange: Generator[Effect, Result, None]) -> Generator[Effect, Result, None]:
        """``exchange``, with spans for the steps of a call that has one; whoever says ``began`` himself drives this one."""
        return exchange

    def watch_rest(
        self,
        call: WatchedCall,
        span: WatchedSpan | None,
        exchange: Generator[Effect, Result, None],
        delivered: Effect,
    ) -> Generator[Effect, Result, None]:
        """``exchange``, which has ``delivered`` its response, watched from here on: its body may be read, cut or dropped."""
        watched = self._rest(call, span, exchange, delivered)
        next(watched)
        return watched

    def _rest(
        self,
        call: WatchedCall,
        span: WatchedSpan | None,
        exchange: Generator[Effect, Result, None],
        delivered: Effect,
    ) -> Generator[Effect, Result, None]:
        try:
            yield exchange.send((yield delivered))
        except StopIteration:
            self.ended(call, span)
        except GeneratorExit:
            exchange.close()
            self.broken(call, span)
            raise
        except BaseException:
            self.ended(call, span)
            raise

    def reconfigured(self, settings: TelemetrySettings) -> None:
        """The mesh has resources, or others than before: from here on calls that end are told of by ``settings``."""
        self.settings = settings
        self._tracing.reconfigured(settings.tracing)
        self.log_to(settings.access_logs)

    def log_with(self, make: Callable[[], AccessLogs[WatchedCall]], at_once: bool) -> None:
        """Where lines come from when somebody wants some: the resources, or ``at_once`` the program."""
        self._made_logs = make
        if at_once:
            self._all_logs = make()
        self.log_to(self.settings.access_logs)

    def log_to(self, wanted: tuple[AccessLog, ...]) -> None:
        """The resources want these logs from here on."""
        if self._all_logs is None:
            if not wanted or self._made_logs is None:
                return
            self._all_logs = self._made_logs()
        self._all_logs.take(wanted)
        self._logs = self._all_logs if self._all_logs.active else None
        self._look()

    def _look(self) -> None:
        self.keeps_calls = self._remember is not None  # the line of a call is made, or its values are taken, as it ends
        self.tells = self.keeps_calls or self._logs is not None
        self._lines = self._logs if self._remember is None else None

    def access_logs(self) -> list[dict[str, object]]:
        """For ``mesh.status()``."""
        return [] if self._all_logs is None else self._all_logs.status()

    def expression_errors(self) -> dict[str, int]:
        """How often expressions in CEL of the settings and of formats have come to an error, by their text; those that never
        have left out. For ``mesh.status()``."""
        texts = [text for _, text in expressions(self.settings)]
        texts += expressions_of(self.settings.tracing.custom_tags)
        if self._all_logs is not None:
            texts += self._all_logs.expressions()
        if not texts:
            return {}
        from meshlib.telemetry.cel import failures_of

        return failures_of(texts)

    def unwritten_lines(self, counted: set[str]) -> int:
        """Of access logs, as ``AccessLogs.unwritten``."""
        return 0 if self._all_logs is None else self._all_logs.unwritten(counted)

    def flush_logs(self, timeout: float) -> bool:
        """Wait until the lines of calls that are over are written, at most so many seconds. False: they are not."""
        self.catch_up()
        return self._all_logs is None or self._all_logs.flush(timeout)

    def close(self) -> None:
        """The mesh is closed: what was noted is recorded, and lines are written. Calls that it breaks off may end later, and
        are told of as well: files stay open as long as the mesh is there."""
        self.flush_logs(CLOSE_SECONDS)

    def catch_up(self) -> None:
        """Record the calls that were broken."""
        while self._closed:
            try:
                call, span, at = self._closed.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                self._metrics.finished(call, at)
            except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
                self._failed()
            if span is not None or self._remember is not None:
                self._tell(call, span, at, late=True)
            if self._logs is not None:
                self._write(self._logs, call, span, at, cut=True)

    def after_fork(self) -> None:
        """In a forked child: what the parent has noted is the parent's to record. Its metrics go on from the parent's, as
        those of prometheus_client do."""
        self._closed.clear()
        self._tracing.after_fork()

    def _failed(self) -> None:
        # fail open: once in the log with its cause, then counted
        self.failures += 1
        if self.failures == 1:
            log.exception(
                "a call could not be recorded; further failures are only counted (status: telemetry_failures)"
            )
