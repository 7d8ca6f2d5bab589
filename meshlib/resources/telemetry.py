"""Telemetry (telemetry.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
from meshlib.resources.selection import Selector, TargetRef
from meshlib.resources.types import AnyDuration, names


class Filter(Model):
    """``spec.accessLogging.filter`` of Telemetry."""

    expression: str | None = None


class AccessLoggingMatch(Model):
    """``spec.accessLogging.match`` of Telemetry."""

    mode: (
        Annotated[Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"], names("CLIENT_AND_SERVER", "CLIENT", "SERVER")]
        | None
    ) = None


class Provider(Model):
    """``spec.accessLogging.providers`` of Telemetry."""

    name: str


class AccessLogging(Model):
    """``spec.accessLogging`` of Telemetry."""

    disabled: bool | None = None
    filter: Filter | None = None
    match: AccessLoggingMatch | None = None
    providers: list[Provider] | None = None


class OverridesMatch(Model):
    """``spec.metrics.overrides.match`` of Telemetry."""

    custom_metric: str | None = None
    metric: (
        Annotated[
            Literal[
                "ALL_METRICS",
                "REQUEST_COUNT",
                "REQUEST_DURATION",
                "REQUEST_SIZE",
                "RESPONSE_SIZE",
                "TCP_OPENED_CONNECTIONS",
                "TCP_CLOSED_CONNECTIONS",
                "TCP_SENT_BYTES",
                "TCP_RECEIVED_BYTES",
                "GRPC_REQUEST_MESSAGES",
                "GRPC_RESPONSE_MESSAGES",
            ],
            names(
                "ALL_METRICS",
                "REQUEST_COUNT",
                "REQUEST_DURATION",
                "REQUEST_SIZE",
                "RESPONSE_SIZE",
                "TCP_OPENED_CONNECTIONS",
                "TCP_CLOSED_CONNECTIONS",
                "TCP_SENT_BYTES",
                "TCP_RECEIVED_BYTES",
                "GRPC_REQUEST_MESSAGES",
                "GRPC_RESPONSE_MESSAGES",
            ),
        ]
        | None
    ) = None
    mode: (
        Annotated[Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"], names("CLIENT_AND_SERVER", "CLIENT", "SERVER")]
        | None
    ) = None


class TagOverride(Model):
    """``spec.metrics.overrides.tagOverrides`` of Telemetry."""

    operation: Annotated[Literal["UPSERT", "REMOVE"], names("UPSERT", "REMOVE")] | None = None
    value: str | None = None


class Override(Model):
    """``spec.metrics.overrides`` of Telemetry."""

    disabled: bool | None = None
    match: OverridesMatch | None = None
    tag_overrides: dict[str, TagOverride] | None = None


class Metric(Model):
    """``spec.metrics`` of Telemetry."""

    overrides: list[Override] | None = None
    providers: list[Provider] | None = None
    reporting_interval: AnyDuration | None = None


class Environment(Model):
    """``spec.tracing.customTags.environment`` of Telemetry."""

    name: str | None = None
    default_value: str | None = None


class Formatter(Model):
    """``spec.tracing.customTags.formatter`` of Telemetry."""

    value: str | None = None


class CustomTag(Model):
    """``spec.tracing.customTags`` of Telemetry."""

    environment: Environment | None = None
    formatter: Formatter | None = None
    header: Environment | None = None
    literal: Formatter | None = None


class Tracing(Model):
    """``spec.tracing`` of Telemetry."""

    custom_tags: dict[str, CustomTag] | None = None
    disable_context_propagation: bool | None = None
    disable_span_reporting: bool | None = None
    enable_istio_tags: bool | None = None
    match: AccessLoggingMatch | None = None
    providers: list[Provider] | None = None
    random_sampling_percentage: float | None = None
    use_request_id_for_trace_sampling: bool | None = None


class TelemetrySpec(Model):
    """``spec`` of Telemetry."""

    access_logging: list[AccessLogging] | None = None
    metrics: list[Metric] | None = None
    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] | None = None
    tracing: list[Tracing] | None = None


class Telemetry(Resource):
    """Istio's Telemetry."""

    kind: Literal["Telemetry"]
    spec: Annotated[TelemetrySpec, NothingIsEmpty] = Field(default_factory=TelemetrySpec)
    status: object = None
