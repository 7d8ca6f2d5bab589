"""What a mesh watches (``watcher.py``): the calls that it makes, and those that it serves."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from meshlib.engine.call import Call
from meshlib.engine.inbound import InboundCall
from meshlib.policy.telemetry_settings import TelemetrySettings
from meshlib.telemetry.attempt_spans import CallSpan, spanned
from meshlib.telemetry.cluster_codes import ClusterCodes
from meshlib.telemetry.inbound_metrics import InboundMetrics
from meshlib.telemetry.inbound_records import Recorded, ServedSpan
from meshlib.telemetry.inbound_tracing import InboundTracing
from meshlib.telemetry.metrics import UNUSUAL, Metrics
from meshlib.telemetry.sizes import response_size
from meshlib.telemetry.tag_overrides import made, overrides_of, served
from meshlib.telemetry.tracing import Tracing
from meshlib.telemetry.watcher import Watcher

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from meshlib.engine.explanation import Exchange
    from meshlib.engine.inbound_state import Noting
    from meshlib.telemetry.access_log.entry import Traced
    from meshlib.telemetry.served import Served
    from meshlib.workload import Workload

Effect = TypeVar("Effect")
Result = TypeVar("Result")


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
        self._one_message = self._metrics.one_message

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
        if span is not None or self.tells:
            clock, logs = self._clock, self._lines
            now = clock()  # and no method: CPython 3.11 would look for one
            if span is not None or logs is None:
                self._told(call, span, now)
                return
            try:  # as ``_told``, without a call of it
                short = logs.short
                if not short(call, now, None):
                    logs.write(call, now, None)
            except Exception:  # noqa: BLE001 (whatever is wrong with a line, the call goes on)
                self._failed()

    def ended_with_message(self, call: Call, span: CallSpan | None) -> None:
        """``ended`` of a call of gRPC with one message each way, whose outcome is ``usual`` and in the record: nearly all are
        counted where the last one like it was (as by ``OneMessage.took``, without its functions)."""
        record, outcome = call.record, call.outcome
        try:
            found = self._one_message.get(record.endpoint)
            if (
                found is not None
                and found.destination is record.destination
                and outcome is not None
                and (received := outcome.size)
                and (ended := record.attempted) is not None
                and not record.flags
                and record.peer_metadata is None
            ):  # it has ended when its response came
                served, sent = found.served, call.request.sent_bytes()
                took = (ended[3] - record.started) * 1000.0
                if sent == served.sent and received == served.received:  # no call from here on: see ``Served.note``
                    noted = served.took
                    noted.append(took)
                    if len(noted) >= served.most:
                        served.filled()
                else:
                    served.note(took, sent, received)
                found.sent.value += 1.0  # likewise one step to other threads (``tables.py``)
                found.received.value += 1.0
            else:
                self._metrics.finished(call, self._clock())
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()
        if span is not None or self.tells:
            self._told(call, span, self._clock())

    def noted(self, record: Exchange, grpc: bool, took: float, sent: int, received: int) -> bool:
        """``ended`` of a call without a span that has ended well in so many milliseconds and bytes: a 200, and where it is
        gRPC's, OK with one message each way. Its record has neither a flag nor metadata of its peer, and nobody wants more of
        it than numbers (``tells``). False: the last one to its endpoint was not like that, and nothing is counted."""
        try:
            if grpc:
                one = self._one_message.get(record.endpoint)
                if one is None or one.destination is not record.destination:
                    return False
                served = one.served
                # no call from here on: one step to other threads (``tables.py``); to add an integer takes CPython 3.11 longer
                one.sent.value += 1.0
                one.received.value += 1.0
            else:
                usual = self._usual.get(record.endpoint)
                if usual is None or usual.destination is not record.destination or usual.status != 200:
                    return False
                served = usual.served
            if sent == served.sent and received == served.received:  # as in ``ended``
                noted = served.took
                noted.append(took)
            else:
                numbers = took, sent, received
                noted = served.noted
                noted.extend(numbers)
            if len(noted) >= served.most:
                served.filled()
        except Exception:  # noqa: BLE001 (whatever a registry raises, the call goes on)
            self._failed()
        return True

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

    notes = True
    """Whether ``series_of`` may know where calls are noted."""
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

    def series_of(self, call: InboundCall) -> Served | None:
        """Where calls like ``call``, which is over, are noted by whoever tells of each as well (``told``); None: nowhere."""
        return self._metrics.noting(call)

    def noted(self, call: InboundCall, now: float) -> None:
        """A call without a span has been noted where ``noting`` said, and is over since ``now``: all else is told of it."""
        logs = self._lines
        if logs is None:
            if self.tells:
                self._told(call, None, now)
            return
        try:  # as ``_told``
            try:
                short = logs.doors[type(call)]
            except KeyError:
                short = logs.door(type(call))
            if not short(call, now, None):
                logs.write(call, now, None)
        except Exception:  # noqa: BLE001 (whatever is wrong with a line, the call goes on)
            self._failed()

    def told(self, call: InboundCall, span: ServedSpan | None, now: float, series: Noting) -> None:
        """A call has been noted in ``series`` and is over since ``now``: all else is told of it."""
        if self._remember is not None:
            self._told(call, span, now)
            return
        if span is not None:
            try:
                took = now - call.started
                if type(span) is Recorded:  # nearly always; by the clock of its duration, as ``InboundTracing.late``
                    tracing, status = self.tracing, call.status
                    if call.answered is not None and status < 500 and not tracing.tells_more:  # as its ``recorded``
                        tracing.records.write(call.request, span, status, span.start + int(took * 1e9))
                    else:
                        tracing.recorded(call, span, span.start + int(took * 1e9))
                    series.exemplify(took * 1000.0, span.trace, span.own)
                else:
                    self.tracing.finished(call, span)
                    series.exemplify(took * 1000.0, span.trace_id, span.span_id)
            except Exception:  # noqa: BLE001 (whatever a provider raises, the call goes on)
                self._failed()
        logs = self._lines
        if logs is not None:
            try:
                if not logs.short(call, now, span):
                    logs.write(call, now, span)
            except Exception:  # noqa: BLE001 (whatever is wrong with a line, the call goes on)
                self._failed()

    def _context_of(self, span: ServedSpan) -> Traced:
        return span

    def reconfigured(self, settings: TelemetrySettings) -> None:
        """The mesh has resources, or others than before."""
        if settings.metrics != self.settings.metrics:
            self._metrics.override(overrides_of(settings.metrics, self.workload, False, served))
        super().reconfigured(settings)
