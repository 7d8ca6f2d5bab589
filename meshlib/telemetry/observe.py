"""Calls that are watched: metrics and span are finished exactly once, also when the call is cancelled or dropped.

Where a call's end is certain, its caller says ``began`` and ``ended`` (or ``broken``). Where the call may be dropped by the
garbage collector, ``watch`` or ``watch_rest`` puts a generator around its exchange, which hears of that.

A call that is *closed* may be closed by the garbage collector, at any allocation, perhaps inside a lock of the very
exporter that would record it. Such calls are only noted then, and recorded at the next call or scrape, or at exit.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshlib.engine.call import Call
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_context import current
from meshlib.policy.telemetry_settings import DEFAULT_SETTINGS, TelemetrySettings, TracingSettings, expressions
from meshlib.telemetry.attempt_spans import CallSpan, spanned
from meshlib.telemetry.cluster_codes import ClusterCodes
from meshlib.telemetry.inbound_metrics import InboundMetrics
from meshlib.telemetry.inbound_tracing import InboundTracing, ServedSpan
from meshlib.telemetry.metrics import UNUSUAL, Metrics
from meshlib.telemetry.sizes import response_size
from meshlib.telemetry.tag_overrides import made, overrides_of, served
from meshlib.telemetry.tcp_series import UNCOUNTED, TcpSeries
from meshlib.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry, Metric

    from meshlib.policy.telemetry_settings import AccessLog
    from meshlib.telemetry.access_log.entry import Traced
    from meshlib.telemetry.access_log.logs import AccessLogs
    from meshlib.telemetry.served import Served
    from meshlib.workload import Workload

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
    def traced(self, call: CallIn, now: float, trace: Mapping[str, str], /) -> None: ...
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
    """Watches calls of one kind. ``failures`` counts what could not be recorded; a call never hears of it."""

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
        _catch_up_before_scrapes(registry, self)
        self._metrics = metrics(registry)
        self._tracing = tracing
        self._clock = clock
        self._tells = False
        """Whether somebody wants more of a call than numbers and a span."""
        self._closed: deque[tuple[WatchedCall, WatchedSpan | None, float]] = deque()
        self.failures = 0
        self.settings: TelemetrySettings = DEFAULT_SETTINGS
        """What is to be told of calls, as the newest resources say it."""
        self._remember: Callable[[WatchedCall, float, str], None] | None = None
        self._logs: AccessLogs[WatchedCall] | None = None
        """None: nobody wants lines."""
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
        self._tells = remember is not None or self._logs is not None

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
        if span is not None or self._tells:
            self._told(call, span, now)

    def _told(self, call: WatchedCall, span: WatchedSpan | None, now: float) -> None:
        """All but the metrics of a call that is over since ``now``."""
        if span is not None or self._remember is not None:
            self._tell(call, span, now, late=False)
        logs = self._logs
        if logs is not None:  # as ``_write``
            try:
                logs.write(call, now, None if span is None else self._context_of(span))
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
                context = self._context_of(span)
                trace = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
                self._metrics.traced(call, now, trace)
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
        _record_at_exit()

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
        if self._tells:
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
        self._tells = self._logs is not None or self._remember is not None

    def access_logs(self) -> list[dict[str, object]]:
        """For ``mesh.status()``."""
        return [] if self._all_logs is None else self._all_logs.status()

    def expression_errors(self) -> dict[str, int]:
        """How often expressions in CEL of the settings have come to an error, by their text; those that never have left out.
        For ``mesh.status()``."""
        if not expressions(self.settings):
            return {}
        from meshlib.telemetry.cel import failures_of

        return failures_of(self.settings)

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


class Telemetry(Watcher[Call, CallSpan]):
    """Watches the calls that a mesh makes."""

    _metrics: Metrics

    def __init__(
        self,
        registry: CollectorRegistry | None,
        provider: TracerProvider | None,
        workload: Workload,
        clock: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        tracing = Tracing(provider, workload, seed)
        self.workload = workload
        super().__init__(registry, lambda there: Metrics(there, workload), tracing, clock)
        self._usual = self._metrics.usual

    def ended(self, call: Call, span: CallSpan | None) -> None:
        """A call is over, whichever way."""
        record, outcome = call.record, call.outcome
        try:
            # ``Metrics.finished`` and ``Served.note`` for most calls, without theirs (row telemetry of the benchmarks)
            try:
                found = self._usual[record.endpoint]
            except KeyError:
                found = UNUSUAL
            if (
                found.status == record.status
                and found.destination is record.destination
                and outcome is not None
                and outcome.whole is not None
                and (ended := record.attempted) is not None
                and not record.flags
                and record.grpc_status is None
                and record.peer_metadata is None
            ):  # it has ended when its response came, and it came whole
                sent, received = call.request.sent_bytes(), outcome.size or response_size(call)
                took = (ended[3] - record.started) * 1000.0
                served = found.served
                if sent == served.sent and received == served.received:  # no call from here on: see there
                    noted = served.took
                    noted.append(took)
                else:
                    numbers = took, sent, received
                    noted = served.noted
                    noted.extend(numbers)
                if len(noted) >= served.most:
                    served.filled()
            else:
                self._metrics.finished(call, self._clock())
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()
        if span is not None or self._tells:
            self._told(call, span, self._clock())

    def spanned(self, span: CallSpan, exchange: Generator[Effect, Result, None]) -> Generator[Effect, Result, None]:
        """``exchange``, with a span for each attempt."""
        return spanned(span, exchange, self._do)

    def broken(self, call: Call, span: CallSpan | None) -> None:
        """A call is over amid its work. What is noted of it keeps no connection: the body of its response has other owners."""
        outcome = call.outcome
        if outcome is not None:
            outcome.body = None
        super().broken(call, span)

    def _do(self, method: Callable[..., None], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
            self._failed()

    def _context_of(self, span: CallSpan) -> Traced:
        return span.span.get_span_context()

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """A mechanism of a ResiliencePolicy did (or, in shadow, would have done) something."""
        try:
            self._metrics.resilience(host, mechanism, mode, verdict)
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()

    def dry_run(self, policy: str, result: str) -> None:
        """AuthorizationPolicies on trial would have ``allowed`` or ``denied`` a request: ``policy`` ("namespace/name", "": none
        of those that allow has matched)."""
        try:
            self._metrics.dry_run(policy, result)
        except Exception:  # noqa: BLE001 (likewise)
            self._failed()

    @property
    def codes(self) -> ClusterCodes | None:
        """Calls by cluster and status, once ``count_codes`` has asked for them."""
        return self._metrics.codes

    def count_codes(self) -> None:
        """Count calls by cluster and status from now on, for Envoy's statistics."""
        self._metrics.codes = ClusterCodes()

    @property
    def failed_calls(self) -> dict[str, int]:
        """How many calls have failed, by what happened."""
        return self._metrics.failed

    def vouched(self, endpoint: str) -> None:
        """Who is at the endpoint with this key is known now, or another one than before."""
        self._metrics.vouched(endpoint)

    def reconfigured(self, settings: TelemetrySettings) -> None:
        """The mesh has resources, or others than before."""
        if settings.metrics != self.settings.metrics:
            self._metrics.override(overrides_of(settings.metrics, self.workload, True, made))
        super().reconfigured(settings)
        self._metrics.forget_short_cuts()


class InboundTelemetry(Watcher[InboundCall, ServedSpan]):
    """Watches the calls that a mesh serves."""

    _metrics: InboundMetrics

    def __init__(
        self,
        registry: CollectorRegistry | None,
        provider: TracerProvider | None,
        workload: Workload,
        clock: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        self.workload = workload
        self.tracing = InboundTracing(provider, workload, seed)
        """While ``unrecorded`` is left, calls may begin without ``began``, each counted down."""
        super().__init__(registry, lambda there: InboundMetrics(there, workload), self.tracing, clock)

    def noting(self, call: InboundCall) -> Served | None:
        """Where calls like ``call``, which is over, are noted; None: they are told of one by one."""
        return self._metrics.noting(call) if self._remember is None else None

    def noted(self, call: InboundCall, now: float) -> None:
        """A call without a span has been noted where ``noting`` said, and is over since ``now``: all else is told of it."""
        if self._tells:
            self._told(call, None, now)

    def _context_of(self, span: ServedSpan) -> Traced:
        return span.span.get_span_context()

    def reconfigured(self, settings: TelemetrySettings) -> None:
        """The mesh has resources, or others than before."""
        if settings.metrics != self.settings.metrics:
            self._metrics.override(overrides_of(settings.metrics, self.workload, False, served))
        super().reconfigured(settings)


class _Catching(Protocol):
    def catch_up(self) -> None: ...


class _CatchUp:
    """A collector without metrics of its own, asked first at each scrape: lets every mesh record what it has noted."""

    def __init__(self) -> None:
        self.watchers: weakref.WeakSet[_Catching] = weakref.WeakSet()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for watcher in list(self.watchers):
            watcher.catch_up()
        return []


_catching_up: weakref.WeakKeyDictionary[CollectorRegistry, _CatchUp] = weakref.WeakKeyDictionary()


def record_all() -> None:
    """Record what every mesh of this process has noted: at its end, when nobody scrapes it any more, prometheus_client's files
    (PROMETHEUS_MULTIPROC_DIR) and the exporters of spans have everything."""
    for found in list(_catching_up.values()):
        found.collect()


_exit_of = 0
"""The process whose end has been asked for."""


def _record_at_exit() -> None:
    """A process asks for it at its first call that was only noted: what its parent has asked for is not its own."""
    global _exit_of
    if _exit_of == os.getpid():
        return
    _exit_of = os.getpid()
    atexit.register(record_all)
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, record_all, exitpriority=0)  # such a child ends without atexit


def _catch_up_before_scrapes(registry: CollectorRegistry, watcher: _Catching) -> None:
    found = _catching_up.get(registry)
    if found is None:
        found = _catching_up[registry] = _CatchUp()
        registry.register(found)  # before the families, so that it comes first
    found.watchers.add(watcher)
