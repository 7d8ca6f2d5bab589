"""Spans of the proxy, sent by OTLP: each process has a provider of its own, made with its first span. A provider has threads,
and where threads are, forks are not safe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.trace import Span, Tracer, TracerProvider

from meshlib.policy.secret_values import url_shown
from meshlib.telemetry.own_spans import SDK_SETTINGS, OwnTracer, OwnTracerProvider
from meshlib.telemetry.span_queue import SpanQueue

if TYPE_CHECKING:
    from opentelemetry.util import types


class Provider(Protocol):
    """The SDK's."""

    def get_tracer(self, name: str, /) -> Tracer: ...
    def shutdown(self) -> None: ...


class SpansByProcess(TracerProvider):
    """``make`` makes the provider of a process."""

    def __init__(self, make: Callable[[], Provider]) -> None:
        self._make = make
        self.made: Provider | None = None
        """This process's, once somebody has asked for it."""
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self.made = None

    def here(self) -> Provider:
        """This process's."""
        made = self.made
        if made is None:
            with self._lock:
                made = self.made
                if made is None:
                    made = self.made = self._make()
        return made

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> Tracer:
        """One whose spans are made by the provider of the process that it is used in."""
        return _Here(self, instrumenting_module_name)

    def shutdown(self) -> None:
        """Send what waits in this process, and end."""
        if self.made is not None:
            self.made.shutdown()


class _Here(Tracer):
    def __init__(self, spans: SpansByProcess, name: str) -> None:
        self._spans = spans
        self._name = name
        self._found: tuple[Provider, Tracer] | None = None
        self._own: OwnTracer | None = None
        self._of: Provider | None = None  # of which that is

    def _find(self) -> tuple[Provider, Tracer]:
        provider, found = self._spans.here(), self._found
        if found is None or found[0] is not provider:
            self._found = found = provider, provider.get_tracer(self._name)
        return found

    def own(self) -> OwnTracer | None:
        """The tracer of this process, where it is ours; None: the SDK's."""
        made = self._spans.made
        if made is not None and made is self._of:
            return self._own
        self._of, tracer = self._find()
        self._own = tracer if type(tracer) is OwnTracer else None
        return self._own

    def start_span(self, *arguments: Any, **named: Any) -> Span:
        """As the SDK's."""
        return self._find()[1].start_span(*arguments, **named)

    @contextmanager  # the API's own works for coroutines as well, and is private
    def start_as_current_span(  # type: ignore[override]
        self, *arguments: Any, **named: Any
    ) -> Iterator[Span]:
        """As the SDK's."""
        with self._find()[1].start_as_current_span(*arguments, **named) as span:
            yield span


def spans_to(endpoint: str, service: str) -> SpansByProcess:
    """To the collector at this URL, in the name of this service. Raises ``MeshError`` for what is not a URL of a collector, and
    where the exporter is not installed (extra ``otel``)."""
    from meshlib import otel

    otel.exporter_to(endpoint).shutdown()  # says what is wrong with the URL, before anything begins
    return SpansByProcess(lambda: _provider(endpoint, service))


def _provider(endpoint: str, service: str) -> Provider:
    """Over HTTP spans are written by ourselves; by the SDK over gRPC, and where an environment says how it makes them."""
    from meshlib import otel

    exporter = otel.exporter_to(endpoint)
    send = otel.sends_bytes(exporter) if endpoint.startswith("http") else None
    if send is None or any(name in os.environ for name in SDK_SETTINGS):
        exporter.shutdown()
        return otel.tracer_provider(endpoint, service=service)
    where = url_shown(endpoint)
    return OwnTracerProvider(SpanQueue(send, otel.resource_of(service).attributes, exporter.shutdown, where=where))
