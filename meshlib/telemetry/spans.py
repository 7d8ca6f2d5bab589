"""What spans of calls made and of calls served have in common: a tracer, and that nothing is done while nobody records.

Only opentelemetry-api is used. Until the application installs an SDK, the global provider is a stand-in whose spans nobody
sees: making them anyway would cost a call as much as the whole policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind, TracerProvider

EAGER_LOOKS = 100
LOOK_EVERY = 50
"""After so many calls that looked for an SDK, one call of so many looks."""


class Told(Protocol):
    """What a span tells of a request."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def protocol(self) -> str: ...


class Spans:
    """``unrecorded``: how many calls may pass before the next look for an SDK; counted down by whoever begins calls."""

    __slots__ = ("_kind", "_looks", "_proxy", "_trace", "_tracer", "unrecorded")

    def __init__(self, provider: TracerProvider | None, kind: SpanKind) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("meshlib", tracer_provider=provider)
        self._kind = kind
        self._proxy = trace.ProxyTracerProvider if provider is None else None
        self._looks = 0
        self.unrecorded = 0

    def nobody_records(self) -> bool:
        """Whether there is no SDK. Asking OpenTelemetry costs two looks into os.environ, as much as a balancer: once an
        application is under way without one, few calls ask."""
        if self._proxy is None:
            return False
        if self.unrecorded > 0:
            self.unrecorded -= 1
            return True
        if type(self._trace.get_tracer_provider()) is not self._proxy:
            self._proxy = None
            return False
        self._looks += 1
        if self._looks >= EAGER_LOOKS:
            self.unrecorded = LOOK_EVERY - 1
        return True


def name_of(request: Told) -> str:
    """A span's name, by OpenTelemetry's conventions."""
    return request.path.removeprefix("/") if request.protocol == "grpc" else request.method


def describe(span: Span, request: Told) -> None:
    """The request's own attributes, by OpenTelemetry's conventions."""
    if request.protocol == "grpc":
        service, _, method = request.path.removeprefix("/").rpartition("/")
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("rpc.service", service)
        span.set_attribute("rpc.method", method)
    else:
        span.set_attribute("http.request.method", request.method)
        span.set_attribute("url.path", request.path)
