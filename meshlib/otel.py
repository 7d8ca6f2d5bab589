"""OpenTelemetry's SDK for programs of a mesh (extra ``otel``): a tracer provider that sends spans by OTLP, in the background,
with a bound on what waits to be sent, and a count of what was lost.

Any other provider does as well: a mesh uses the one it is given (``tracer_provider=``), or the program's global one. This one
is there because it counts: ``mesh.status()["telemetry"]["dropped"]`` and ``meshlib_telemetry_dropped_total`` say how many spans
no collector has seen.

Raises ``MeshError``, when it is imported, where the SDK is not installed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.trace import INVALID_SPAN_CONTEXT

from meshlib.clock import SystemClock
from meshlib.problems import MeshError
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.partial_success import SPANS, counting_exporter, counting_session
from meshlib.telemetry.replaced_files import replaced
from meshlib.telemetry.trace_tree import SpanFacts, render

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
except ImportError as error:
    raise MeshError(f"meshlib.otel needs the extra: pip install 'sidecarless[otel]' ({error})") from error

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

MAX_WAITING = 2048
"""Spans that wait to be sent; more are dropped."""
MAX_BATCH = 512
DELAY = 5.0
GRACE = 5.0
"""Seconds that batches are still sent once the end has come: a collector that hangs must not hold the process."""
TIMEOUT = 10.0
MAX_ATTRIBUTE = 4096
"""Characters of an attribute: whatever strangers put into a header, memory stays bounded."""

now = SystemClock().monotonic

NOT_SENT = "spans_queue_full"
NOT_TAKEN = "spans_export_failed"


class _CountedExporter(SpanExporter):
    """Counts what the collector does not take."""

    def __init__(self, exporter: SpanExporter, waiting: _Waiting) -> None:
        self._exporter = exporter
        self._waiting = waiting
        self._until = float("inf")

    def closing(self) -> None:
        """The end has come."""
        self._until = now() + GRACE

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._waiting.leave(len(spans))
        result = SpanExportResult.FAILURE
        try:
            if now() <= self._until:
                result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                dropped.add(NOT_TAKEN, len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Waiting:
    """How many spans wait to be sent. The lock is re-entrant: the garbage collector may end a span at any allocation."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._after_fork)

    def enter(self) -> bool:
        """One more, if there is room."""
        with self._lock:
            if self.count >= self._most:
                return False
            self.count += 1
            return True

    def leave(self, spans: int) -> None:
        """So many are being sent."""
        with self._lock:
            self.count -= spans

    def _after_fork(self) -> None:
        # what the parent has noted is the parent's to send
        self._lock = threading.RLock()
        self.count = 0


class CountedBatches(SpanProcessor):
    """The SDK's ``BatchSpanProcessor`` around ``exporter``, never holding more than ``max_waiting`` spans beside the batch that
    is being sent. Whoever ends a span never waits; what there is no room for, and what the exporter fails to deliver, is
    counted. ``delay`` is in seconds; after ``shutdown``, batches are sent for ``GRACE`` seconds at most."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        max_waiting: int = MAX_WAITING,
        max_batch: int = MAX_BATCH,
        delay: float = DELAY,
    ) -> None:
        self._waiting = _Waiting(max_waiting)
        self._exporter = _CountedExporter(exporter, self._waiting)
        self._batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=max_waiting,
            max_export_batch_size=min(max_batch, max_waiting),
            schedule_delay_millis=delay * 1000,
        )

    @property
    def waiting(self) -> int:
        """How many spans wait to be sent."""
        return self._waiting.count

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, if there is room for it."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        if self._waiting.enter():
            self._batches.on_end(span)
        else:
            dropped.add(NOT_SENT)

    def shutdown(self) -> None:
        """Send what waits, and end."""
        self._exporter.closing()
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what waits now."""
        return self._batches.force_flush(timeout_millis)


def tracer_provider(
    endpoint: str = "http://127.0.0.1:4318",
    *,
    service: str = "",
    headers: dict[str, str] | None = None,
    max_waiting: int = MAX_WAITING,
    delay: float = DELAY,
    timeout: float = TIMEOUT,
) -> TracerProvider:
    """A provider that sends spans to ``endpoint``: OTLP over HTTP, or over gRPC for ``grpc://host:4317`` (``grpcs://``: with
    TLS).

    ``service`` is the program's name in traces ("": what OTEL_SERVICE_NAME says); ``headers`` go with each request. At most
    ``max_waiting`` spans wait; they are sent every ``delay`` seconds, each request within ``timeout`` seconds. What still waits
    when the process ends is sent then, for a few seconds at most. Give it to a mesh (``tracer_provider=``), or make it the
    global one with ``opentelemetry.trace.set_tracer_provider``. Raises ``MeshError`` for an endpoint that is not a URL of this
    kind, and where the exporter is not installed."""
    exporter = exporter_to(endpoint, headers, timeout)
    resource = resource_of(service)
    limits = SpanLimits(max_attribute_length=MAX_ATTRIBUTE)
    made = TracerProvider(resource=resource, span_limits=limits)
    made.add_span_processor(CountedBatches(exporter, max_waiting=max_waiting, delay=delay))
    return made


def tree(spans: Iterable[ReadableSpan]) -> str:
    """Traces as a tree of text, one line a span: where it ran, how long it took, what came of it."""
    return render([_facts(span) for span in spans])


def _facts(span: ReadableSpan) -> SpanFacts:
    context = span.get_span_context() or INVALID_SPAN_CONTEXT
    return SpanFacts(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id="" if span.parent is None else f"{span.parent.span_id:016x}",
        name=span.name,
        kind=span.kind.name,
        service=str(span.resource.attributes.get("service.name", "")),
        start=span.start_time or 0,
        end=span.end_time or 0,
        attributes=dict(span.attributes or {}),
        events=tuple((event.name, dict(event.attributes or {})) for event in span.events),
        failed=not span.status.is_ok and not span.status.is_unset,
    )


def resource_of(service: str) -> Resource:
    """Who makes spans: ``service`` ("": what OTEL_SERVICE_NAME says), and what OTEL_RESOURCE_ATTRIBUTES say."""
    return Resource.create({"service.name": service} if service else None)


def sends_bytes(exporter: SpanExporter) -> Callable[[bytes], bool] | None:
    """What sends a request that is written already by the connections of ``exporter``, with its retries, its headers and its
    certificates, and says whether it was taken. None: this exporter, or this version of it, has no such thing."""
    send = getattr(getattr(exporter, "_client", None), "export", None)  # not of its API: versions before 1.45 have none
    if send is None or not callable(send):
        return None

    def sent(request: bytes) -> bool:
        return getattr(send(request), "success", None) is True

    return sent


def exporter_to(endpoint: str, headers: dict[str, str] | None = None, timeout: float = TIMEOUT) -> SpanExporter:
    """What sends to ``endpoint``. Raises as ``tracer_provider`` does."""
    try:
        found = urlsplit(endpoint)
        port = found.port
    except ValueError:
        found = urlsplit("")
        port = None
    if found.scheme not in ("http", "https", "grpc", "grpcs") or not found.hostname:
        raise MeshError(
            f"{_shown(endpoint)} is not the URL of an OTLP receiver: http://host:4318, https://host:4318 or grpc://host:4317"
        )
    seconds = max(1, round(timeout))
    if found.scheme in ("grpc", "grpcs"):
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
        except ImportError as error:
            raise MeshError(
                replaced(error)
                or f"OTLP over gRPC needs its exporter: pip install opentelemetry-exporter-otlp-proto-grpc ({error})"
            ) from error
        made: SpanExporter = counting_exporter(OverGrpc)(
            endpoint=f"{found.hostname}:{port or 4317}",
            insecure=found.scheme == "grpc",
            headers=headers,
            timeout=seconds,
        )
        return made
    if port == 4317:
        raise MeshError(f"port 4317 of {_shown(endpoint)} is that of OTLP over gRPC: use grpc://, or port 4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
    except ImportError as error:
        raise MeshError(
            replaced(error) or f"OTLP needs the extra: pip install 'sidecarless[otel]' ({error})"
        ) from error
    url = endpoint if found.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
    return OverHttp(endpoint=url, headers=headers, timeout=seconds, session=counting_session(SPANS))


def _shown(endpoint: str) -> str:
    from meshlib.policy.secret_values import url_shown

    return url_shown(endpoint)
