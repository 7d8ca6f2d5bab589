"""Spans of ``--otlp``, made and sent by Envoy: its OpenTelemetry tracer at each filter that reads requests.

Envoy's spans have the URL with its query, in which secrets may be: the tag is written over with the path alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from meshlib.envoy.clusters import HTTP_OPTIONS
from meshlib.envoy.listeners import MANAGER
from meshlib.envoy.span_tags import envoys_tag, left_out
from meshlib.envoy.values import TYPES, Json, address, typed

if TYPE_CHECKING:
    from meshlib.policy.telemetry_settings import TracingSettings, WorkloadTelemetry

CLUSTER = "meshlib-otlp"
TIMEOUT = "5s"
GRPC_PORT, HTTP_PORT = 4317, 4318
PATH = "/v1/traces"
URL: Json = {"tag": "http.url", "value": "%PATH(NQ:ORIG_OR_PATH)%"}


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go, in plain text; ``path`` "": over gRPC. ``service``: in whose name."""

    host: str
    port: int
    path: str
    service: str


def collector_of(url: str, service: str) -> Collector:
    """Raises ``ValueError``, in words, for one that Envoy is not told of."""
    found = urlsplit(url)
    if found.scheme not in ("http", "grpc") or not found.hostname:
        raise ValueError("it takes http://host:4318 and grpc://host:4317: spans go to a collector nearby in plain text")
    if found.username is not None or found.query:
        raise ValueError("a name, a password or a query in its URL are not handed on: leave them out")
    over_http = found.scheme == "http"
    path = (found.path if found.path.strip("/") else PATH) if over_http else ""
    return Collector(found.hostname, found.port or (HTTP_PORT if over_http else GRPC_PORT), path, service)


def collector_cluster(collector: Collector) -> Json:
    """Where Envoy sends them."""
    made: Json = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": TIMEOUT,
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(collector.host, collector.port)}}]}],
        },
    }
    if not collector.path:
        options = typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})
        made["typed_extension_protocol_options"] = {HTTP_OPTIONS: options}
    return made


def traced(listeners: Mapping[str, Json], collector: Collector | None, telemetry: WorkloadTelemetry) -> None:
    """Have requests at these listeners recorded, as the resources have it for calls made or served."""
    if collector is None:
        return
    for listener in listeners.values():
        settings = (telemetry.server if listener.get("traffic_direction") == "INBOUND" else telemetry.client).tracing
        chains = [*listener.get("filter_chains", ()), *filter(None, [listener.get("default_filter_chain")])]
        for each in (each for chain in chains for each in chain.get("filters", ())):
            if each["name"] == MANAGER and not settings.disabled:
                each["typed_config"]["tracing"] = _tracing(collector, settings)


def not_traced(telemetry: WorkloadTelemetry) -> list[str]:
    """What of the resources acts otherwise on Envoy, in words."""
    both = telemetry.client.tracing, telemetry.server.tracing
    found = []
    if not all(each.propagates for each in both):
        found.append("disableContextPropagation: Envoy hands the context of a trace on wherever it makes a span")
    if not all(each.use_request_id for each in both):
        found.append("useRequestIdForTraceSampling: Envoy decides by x-request-id")
    recorded = [each for each in both if not each.disabled]
    if any(each.istio_tags for each in recorded):
        found.append("enableIstioTags: Envoy's spans have no attributes istio.*; customTags can say them")
    tags = dict.fromkeys(tag for each in recorded for tag in each.custom_tags)
    found += [f"{tag.where or 'customTags'}: {tag.name} is left out: {why}" for tag in tags if (why := left_out(tag))]
    return found


def _tracing(collector: Collector, settings: TracingSettings) -> Json:
    sampling = 100.0 if settings.sampling is None else settings.sampling
    whole = {"value": 100.0}
    return {
        "client_sampling": whole,
        "random_sampling": {"value": sampling},
        "overall_sampling": whole,
        "max_path_tag_length": settings.max_tag_length,
        "spawn_upstream_span": True,
        "custom_tags": [URL, *filter(None, map(envoys_tag, settings.custom_tags))],
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": _provider(collector)},
    }


def _provider(collector: Collector) -> Json:
    made: Json = {"@type": f"{TYPES}envoy.config.trace.v3.OpenTelemetryConfig", "service_name": collector.service}
    if not collector.path:
        return {**made, "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": TIMEOUT}}
    host = f"[{collector.host}]" if ":" in collector.host else collector.host
    uri = {"uri": f"http://{host}:{collector.port}{collector.path}", "cluster": CLUSTER, "timeout": TIMEOUT}
    return {**made, "http_service": {"http_uri": uri}}
