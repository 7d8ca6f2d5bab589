"""What MeshConfig says of traces, logs and metrics: the providers among ``extensionProviders``, and ``defaultConfig.tracing``.

Of exporters of spans only the fields that act here have a type; the others are not looked at, nor ever shown: some are tokens.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from meshlib.resources.base import Model
from meshlib.resources.kubernetes import Loose
from meshlib.resources.telemetry import CustomTag
from meshlib.resources.types import UInt32, is_quoted_number


def _unquoted(value: object) -> object:
    return int(value) if is_quoted_number(value) and value.strip() != "null" else value


def _unquoted_share(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _not_kept(_value: object) -> None:
    return None


Unread = Annotated[object, BeforeValidator(_not_kept)]
"""What may be there and is not looked at, tokens among it."""
Number = Annotated[UInt32, BeforeValidator(_unquoted)]
"""A whole number; quotes are as good, to protobuf's JSON: no API server looks into the text of a ConfigMap."""


class LogFormat(Model):
    """``logFormat`` of envoyFileAccessLog and envoyOtelAls: a line of text, or an object whose texts have operators."""

    text: str | None = None
    labels: dict[str, object] | None = None


class EnvoyFileAccessLog(Model):
    """``extensionProviders[].envoyFileAccessLog``."""

    path: str | None = None
    log_format: LogFormat | None = None
    omit_empty_values: bool | None = None


class EnvoyOtelAls(Model):
    """``extensionProviders[].envoyOtelAls``. ``service`` is ``[namespace/]host``."""

    service: str | None = None
    port: Number | None = None
    log_name: str | None = None
    log_format: LogFormat | None = None


class SpanExporter(Loose):
    """``extensionProviders[].zipkin``, ``.opentelemetry`` and ``.datadog``."""

    max_tag_length: Number | None = None
    dynatrace_sampler: object = Field(default=None, repr=False)

    @property
    def samples(self) -> bool:
        """Whether it has a sampler of its own, which decides instead of a percentage."""
        return self.dynatrace_sampler is not None


class ProxyTracing(Model):
    """``defaultConfig.tracing``, and ``tracing`` of the annotation proxy.istio.io/config. Where spans go is the program's to
    say: the fields of tracers are read and mean nothing here."""

    sampling: Annotated[float, BeforeValidator(_unquoted_share)] | None = None
    custom_tags: dict[str, CustomTag] | None = None
    max_path_tag_length: Number | None = None
    enable_istio_tags: bool | None = None
    zipkin: Unread = None
    lightstep: Unread = None
    datadog: Unread = None
    stackdriver: Unread = None
    open_census_agent: Unread = None
    tls_settings: Unread = None
