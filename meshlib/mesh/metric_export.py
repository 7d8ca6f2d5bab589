"""The options by which metrics leave a mesh through OpenTelemetry's SDK: ``metric_exporter=`` and MESHLIB_OTLP_METRICS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from meshlib.problems import MeshError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from prometheus_client import CollectorRegistry

    from meshlib.telemetry.otlp_metrics import MetricExport
    from meshlib.workload import Workload

VARIABLE = "MESHLIB_OTLP_METRICS"
MISSING = "needs OpenTelemetry's SDK: pip install 'sidecarless[otel]'"


def metric_exporter_from_env(environ: Mapping[str, str]) -> MetricExporter | None:
    """OTLP over HTTP to MESHLIB_OTLP_METRICS, the collector's URL (``http://localhost:4318``), or with ``1`` to where the
    OTEL_EXPORTER_OTLP_* variables say. None: it is not set. Raises ``MeshError`` for what is not a URL, and without the extra
    ``otel``."""
    value = environ.get(VARIABLE, "")
    if not value:
        return None
    endpoint = None
    if value != "1":
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise MeshError(
                f"{VARIABLE} is not valid: give the URL of a collector (http://localhost:4318), or 1 for the one that "
                "OTEL_EXPORTER_OTLP_ENDPOINT names"
            )
        endpoint = value if url.path.rstrip("/") else f"{value.rstrip('/')}/v1/metrics"
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        from meshlib.telemetry.replaced_files import replaced

        raise MeshError(replaced(error) or f"{VARIABLE} {MISSING}") from error
    from meshlib.telemetry.partial_success import POINTS, counting_session

    made: MetricExporter = OTLPMetricExporter(endpoint, session=counting_session(POINTS))
    return made


def check_exporter(exporter: object) -> None:
    """Raises ``MeshError`` for what is not one, and without the extra ``otel``; None is none that is wanted."""
    if exporter is None:
        return
    try:
        from opentelemetry.sdk.metrics.export import MetricExporter as Exporter

        import meshlib.telemetry.otlp_metrics  # noqa: F401 (it needs more of the SDK)
    except ImportError as error:
        raise MeshError(f"metric_exporter= {MISSING}") from error
    if not isinstance(exporter, Exporter):
        raise MeshError(
            "metric_exporter= must be a MetricExporter of OpenTelemetry's SDK, such as OTLPMetricExporter(), "
            f"not {type(exporter).__name__}"
        )


def metric_export_of(
    exporter: MetricExporter | None, registry: CollectorRegistry | None, workload: Workload
) -> MetricExport | None:
    """What exports a registry's metrics from now on, in a thread; None without an exporter."""
    if exporter is None:
        return None
    from meshlib.telemetry.otlp_metrics import MetricExport

    return MetricExport(exporter, registry, workload)
