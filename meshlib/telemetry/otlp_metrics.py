"""The metrics of a registry through OpenTelemetry's SDK: same tables, same names and labels as in a scrape.

The SDK has no histogram that is observed, and Python's has no MetricProducer: what it exports is what its own instruments have
been told, one by one. Here the data points are made of the tables instead, when the SDK's reader is due, and go out with
whatever the SDK collects: histograms with Istio's buckets, counters and gauges, all cumulative. The SDK's own observable
counter of exports is what makes its reader fire.

Imports OpenTelemetry's SDK: the extra ``otel``.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from meshlib.telemetry.tables import now

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family
    from prometheus_client.samples import Exemplar as ClientsExemplar
    from prometheus_client.samples import Sample

    from meshlib.workload import Workload

log = logging.getLogger("meshlib.telemetry")

OURS = ("istio_", "meshlib_", "envoy_")
"""What the names of our families begin with: others of the registry are their owners' to export."""
LAST_EXPORT = 5000.0
"""Milliseconds that the last export may take once the mesh is closed; nobody waits for it but the end of the process."""


class MetricExport:
    """Exports the metrics of a registry through ``exporter``, every OTEL_METRIC_EXPORT_INTERVAL milliseconds (60000) and when
    it is closed. ``exports`` counts, ``failures`` those that did not arrive or could not be made: a collector that is down,
    slow or refuses costs these, and holds nobody."""

    def __init__(self, exporter: MetricExporter, registry: CollectorRegistry | None, workload: Workload) -> None:
        if registry is None:
            from prometheus_client import REGISTRY

            registry = REGISTRY
        self._registry = registry
        self._began = now()
        self._instances: dict[int, str] = {}
        self._workload = workload
        self._closed = False
        self.exports = 0
        self.failures = 0
        self._provider = MeterProvider(
            metric_readers=[PeriodicExportingMetricReader(_WithTables(exporter, self))], resource=resource_of(workload)
        )
        self._provider.get_meter("meshlib").create_observable_counter(
            "meshlib_otlp_exports_total", [self._count], description="Exports of metrics through OpenTelemetry's SDK."
        )

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self.exports)]

    def flush(self) -> None:
        """Export now, and wait for it."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export once more, beside the caller, and stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        last = threading.Thread(target=self._shut_down, name="meshlib-otlp-metrics")
        try:
            last.start()
        except RuntimeError:  # the interpreter is ending: there are no new threads any more
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._provider.shutdown(LAST_EXPORT)
        except Exception:  # noqa: BLE001 (whatever an exporter raises)
            self.failed("the last metrics could not be exported")

    def failed(self, what: str) -> None:
        """Counted, and in the log once."""
        self.failures += 1
        if self.failures == 1:
            log.exception("%s; further failures are only counted", what)

    def with_tables(self, data: MetricsData) -> MetricsData:
        """What the SDK has collected, and our tables."""
        scope = ScopeMetrics(InstrumentationScope("meshlib"), list(self.metrics()), "")
        first = data.resource_metrics[0]
        mine = ResourceMetrics(self._of_this_process(first.resource), [*first.scope_metrics, scope], first.schema_url)
        return MetricsData([mine, *data.resource_metrics[1:]])

    def metrics(self) -> Iterator[Metric]:
        """The families of the registry that are ours, as of now."""
        at = now()
        for family in self._registry.collect():
            if family.name.startswith(OURS):
                yield from metrics_of(family, self._began, at)

    def _of_this_process(self, resource: Resource) -> Resource:
        # a forked child counts on from its parent's numbers: as the same instance, both would write the same series
        if "service.instance.id" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            return resource
        instance = self._instances.setdefault(os.getpid(), str(uuid.uuid4()))
        return resource.merge(Resource({"service.instance.id": instance}))


class _WithTables(MetricExporter):
    """An exporter as the reader has it."""

    def __init__(self, exporter: MetricExporter, export: MetricExport) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._export = export

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        export = self._export
        try:
            metrics_data = export.with_tables(metrics_data)
        except Exception:  # noqa: BLE001 (a collector of the registry raises: what the SDK has goes out all the same)
            export.failed("the metrics of the registry could not be read for OpenTelemetry")
        export.exports += 1
        try:
            result = self._exporter.export(metrics_data, timeout_millis=timeout_millis, **kwargs)
        except Exception:  # noqa: BLE001 (whatever an exporter raises)
            export.failed("metrics could not be exported")
            return MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            export.failures += 1  # the exporter has said so itself
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def resource_of(workload: Workload) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, where they are set, else the workload."""
    found = Resource.create()
    named = {} if str(found.attributes.get("service.name", "")).startswith("unknown_service") else found.attributes
    return found.merge(
        Resource(
            {
                **({} if named else {"service.name": workload.name}),
                **({} if "service.namespace" in found.attributes else {"service.namespace": workload.namespace}),
            }
        )
    )


# -- families as OpenTelemetry has them -----------------------------------------------------------------------------------


def metrics_of(family: Family, began: float, at: float) -> Iterator[Metric]:
    """A family of prometheus_client. ``began``: when series began that do not say so themselves; seconds since 1970."""
    samples = list(family.samples)
    created = {_key(each.labels): each.value for each in samples if each.name == f"{family.name}_created"}
    if family.type in ("counter", "unknown"):  # the latter: those of Envoy's names, without ``_total``
        name = family.name if family.type == "unknown" else f"{family.name}_total"
        points = [_number(each, created.get(_key(each.labels), began), at) for each in samples if each.name == name]
        if points:
            yield Metric(name, family.documentation, "", Sum(points, AggregationTemporality.CUMULATIVE, True))
    elif family.type == "gauge":
        points = [_number(each, 0.0, at) for each in samples if each.name == family.name]
        if points:
            yield Metric(family.name, family.documentation, "", Gauge(points))
    elif family.type == "histogram":
        histograms = list(_histograms(family.name, samples, created, began, at))
        if histograms:
            data = Histogram(histograms, AggregationTemporality.CUMULATIVE)
            yield Metric(family.name, family.documentation, "", data)


def _key(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _number(sample: Sample, began: float, at: float) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), _nanoseconds(began), _nanoseconds(at), float(sample.value))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _histograms(
    name: str, samples: Iterable[Sample], created: Mapping[frozenset[tuple[str, str]], float], began: float, at: float
) -> Iterator[HistogramDataPoint]:
    """A series' buckets follow each other, then its count and its sum, in either order."""
    sums = {_key(each.labels): each.value for each in samples if each.name == f"{name}_sum"}
    bounds: list[float] = []
    up_to: list[float] = []
    exemplars: list[Exemplar] = []
    for sample in samples:
        if sample.name != f"{name}_bucket":
            continue
        labels = dict(sample.labels)
        bound = float(labels.pop("le"))
        up_to.append(sample.value)
        if sample.exemplar is not None:
            exemplars.append(_exemplar(sample.exemplar))
        if bound != float("inf"):
            bounds.append(bound)
            continue
        key = _key(labels)
        counts = [int(upper - lower) for lower, upper in zip([0.0, *up_to], up_to, strict=False)]
        yield HistogramDataPoint(
            attributes=labels,
            start_time_unix_nano=_nanoseconds(created.get(key, began)),
            time_unix_nano=_nanoseconds(at),
            count=int(up_to[-1]),
            sum=sums.get(key, 0.0),
            bucket_counts=counts,
            explicit_bounds=bounds,
            min=None,  # type: ignore[arg-type]  # not known: of all time they would say little, and the field is optional
            max=None,  # type: ignore[arg-type]
            exemplars=exemplars,
        )
        bounds, up_to, exemplars = [], [], []


def _exemplar(kept: ClientsExemplar) -> Exemplar:
    labels = dict(kept.labels)
    trace, span = labels.pop("trace_id", ""), labels.pop("span_id", "")
    return Exemplar(
        labels,
        kept.value,
        _nanoseconds(float(kept.timestamp or 0.0)),
        int(span, 16) if span else None,
        int(trace, 16) if trace else None,
    )
