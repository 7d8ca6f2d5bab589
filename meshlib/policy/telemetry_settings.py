"""What is told about the calls of a workload, as Telemetry resources, MeshConfig and ProxyConfig say it: compiled once for the
calls it makes (``client``) and once for those it serves (``server``), read by ``telemetry/``.

Everything here is plain data that compares by value: who keeps something for long (a file, an exporter, a series) keeps it by
the settings it was made of, and sees by comparing whether a reload has changed them. Where something stands is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

# -- metrics ----------------------------------------------------------------------------------------------------------

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "REQUEST_COUNT": "requests_total",
        "REQUEST_DURATION": "request_duration_milliseconds",
        "REQUEST_SIZE": "request_bytes",
        "RESPONSE_SIZE": "response_bytes",
        "TCP_OPENED_CONNECTIONS": "tcp_connections_opened_total",
        "TCP_CLOSED_CONNECTIONS": "tcp_connections_closed_total",
        "TCP_SENT_BYTES": "tcp_sent_bytes_total",
        "TCP_RECEIVED_BYTES": "tcp_received_bytes_total",
        "GRPC_REQUEST_MESSAGES": "request_messages_total",
        "GRPC_RESPONSE_MESSAGES": "response_messages_total",
    }
)
"""Telemetry's names of Istio's metrics, and those metrics without ``istio_``."""


TAGS = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
"""Istio's labels, in its order."""


@dataclass(frozen=True, slots=True)
class TagOverride:
    """A label of a metric that is made otherwise (``tagOverrides``). ``expression`` is CEL; "": the label is removed. ``where``
    is ``file:line:column``."""

    name: str
    expression: str
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class MetricOverride:
    """What is said of one metric (``metrics[].overrides[]``, of all levels together): at most one override a label."""

    disabled: bool = False
    tags: tuple[TagOverride, ...] = ()


AS_ISTIO = MetricOverride()
"""Of a metric of which nothing is said."""


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """Istio's metrics; meshlib's own are not concerned. ``overrides`` are by metric, as in the values of ``METRICS``."""

    disabled: bool = False
    overrides: Mapping[str, MetricOverride] = field(default_factory=dict, hash=False)

    def of(self, metric: str) -> MetricOverride:
        """What is said of ``requests_total`` and its like."""
        return self.overrides.get(metric, AS_ISTIO)

    def records(self, metric: str) -> bool:
        """Whether it is recorded at all."""
        return not self.disabled and not self.of(metric).disabled


# -- spans ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomTag:
    """An attribute of every span (``customTags``). ``value`` is the text itself (literal), the name of an environment variable
    or of a request header, or a format of the access log (formatter). ``default`` stands in for what is not there; without one
    there is no such attribute then."""

    name: str
    kind: Literal["literal", "environment", "header", "formatter"]
    value: str
    default: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of MeshConfig that spans are for. ``kind`` is its field (``zipkin``, ``opentelemetry``); the exporter is that
    of the program's own tracer provider."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Spans. ``sampling`` is the percentage of calls without a decision of the caller's that are sampled (0..100); None: the
    sampler of the tracer provider decides alone.

    ``disabled``: no spans are recorded; the trace context of a request goes on all the same. ``use_request_id``: the decision
    is read from, and written to, x-request-id, as Envoy does. ``istio_tags``: spans have Istio's attributes (istio.mesh_id and
    so on). ``propagates`` is False when no trace context is sent with calls. ``max_tag_length``: characters of a path that
    become an attribute."""

    disabled: bool = False
    sampling: float | None = None
    custom_tags: tuple[CustomTag, ...] = ()
    use_request_id: bool = True
    istio_tags: bool = True
    propagates: bool = True
    max_tag_length: int = 256
    provider: Provider | None = None


# -- access logs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One log of calls: where lines go, and what is in them.

    ``provider`` is its name in MeshConfig ("" of ``accessLogFile``). ``sink`` file: to ``path`` (``/dev/stdout`` is the
    program's output); otlp: to the collector at ``service``:``port``, under the name ``log_name``. A line is ``text`` (Envoy's
    operators; None: Istio's default format), or, when ``labels`` is not None, JSON with these keys (empty: Istio's own); otlp
    has both: the body and attributes. ``omit_empty``: what is not there is "" and not "-" (JSON: left out). ``expression`` is
    CEL: only calls it holds for are logged, all when it is "". ``where`` and ``expression_where`` are ``file:line:column``."""

    provider: str
    sink: Literal["file", "otlp"] = "file"
    path: str = "/dev/stdout"
    text: str | None = None
    labels: Mapping[str, object] | None = field(default=None, hash=False)
    omit_empty: bool = False
    service: str = ""
    port: int = 0
    log_name: str = "otel_envoy_accesslog"
    expression: str = ""
    where: str = field(default="", compare=False)
    expression_where: str = field(default="", compare=False)


# -- both directions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is told of the calls of one direction."""

    metrics: MetricSettings = MetricSettings()
    tracing: TracingSettings = TracingSettings()
    access_logs: tuple[AccessLog, ...] = ()


DEFAULT_SETTINGS = TelemetrySettings()
"""Where no resource says anything: all metrics, no access log, spans when the program has a tracer provider that records."""


@dataclass(frozen=True, slots=True)
class WorkloadTelemetry:
    """Of one workload: of the calls that it makes, and of those that it serves. ``resources`` are the Telemetries that say it
    (namespace/name), the nearest last."""

    client: TelemetrySettings = DEFAULT_SETTINGS
    server: TelemetrySettings = DEFAULT_SETTINGS
    resources: tuple[str, ...] = ()


DEFAULT_TELEMETRY = WorkloadTelemetry()


def expressions(settings: TelemetrySettings) -> list[tuple[str, str]]:
    """Every expression in CEL of one direction, with where it stands, once."""
    logs = [(log.expression_where, log.expression) for log in settings.access_logs if log.expression]
    overrides = settings.metrics.overrides.values()
    tags = [(tag.where, tag.expression) for override in overrides for tag in override.tags if tag.expression]
    return list(dict.fromkeys([*logs, *tags]))
