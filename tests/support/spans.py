"""Spans that a mesh has made, for tests: kept in memory, and told apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Kept:
    """A provider whose spans are kept as they end."""

    def __init__(self, **options: object) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)  # type: ignore[arg-type]
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    @property
    def calls(self) -> list[ReadableSpan]:
        return calls_of(self.spans)

    @property
    def attempts(self) -> list[ReadableSpan]:
        return attempts_of(self.spans)

    def breaks(self, method: str) -> None:
        """From here on this method of spans raises: the SDK is on fire."""
        spans = type(self.provider.get_tracer("t").start_span("x"))
        broken = type("Broken", (spans,), {method: _raises})
        real = self.provider.get_tracer

        def get_tracer(*args: Any, **options: Any) -> Any:
            tracer = real(*args, **options)
            start = tracer.start_span

            def start_span(*given: Any, **named: Any) -> Any:
                span = start(*given, **named)
                if isinstance(span, spans):
                    span.__class__ = broken
                return span

            tracer.start_span = start_span  # type: ignore[method-assign]
            return tracer

        self.provider.get_tracer = get_tracer  # type: ignore[method-assign]

    def clear(self) -> None:
        self.exporter.clear()


def _raises(*_args: object, **_options: object) -> None:
    raise RuntimeError("the SDK is on fire")


def is_attempt(span: ReadableSpan) -> bool:
    """Whether a span is that of an attempt."""
    return "meshlib.attempt" in (span.attributes or {})


def calls_of(spans: Iterable[ReadableSpan]) -> list[ReadableSpan]:
    """Those that are not of attempts."""
    return [span for span in spans if not is_attempt(span)]


def attempts_of(spans: Iterable[ReadableSpan]) -> list[ReadableSpan]:
    """Those of attempts, as they ended."""
    return [span for span in spans if is_attempt(span)]
