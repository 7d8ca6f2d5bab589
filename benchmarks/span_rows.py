"""What spans cost a call, with the SDK's batch processor: those of a mesh beside the one of instrumentation-httpx.

A mesh makes two, the call's and its attempt's. All that is measured takes turns in short rounds, in CPU of the process (the
batch processor's thread with it); of each the best round counts, as the machine is never faster than it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import httpx

import meshlib
from benchmarks import synthetic
from benchmarks.measure import UNIT_TEXT, Row, Unit
from benchmarks.processes import backend

MESH_URL = "http://reviews:9080/reviews/0"


def _best_us(calls: Sequence[Callable[[], object]], rounds: int, each: int, unit: Unit) -> list[float]:
    best = [float("inf")] * len(calls)
    for call in calls:
        for _ in range(150):
            call()
    clock = time.process_time
    for _ in range(rounds):
        unit.take()
        for at, call in enumerate(calls):
            began = clock()
            for _ in range(each):
                call()
            best[at] = min(best[at], (clock() - began) / each * 1e6)
    return best


def spans(quick: bool) -> list[Row]:
    """What a call costs more with spans: a mesh's over those of opentelemetry-instrumentation-httpx."""
    name = "spans, cost of a call: a mesh's (2) / instrumentation-httpx's (1)"
    try:
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ImportError as error:
        return [Row(name, 0.0, "", details=f"not measured: {error}")]

    class Discarded(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            """Nothing is held."""

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discarded()))
    unit = Unit()
    with backend() as (port, _):
        resources = synthetic.reviews(port)
        url = f"http://127.0.0.1:{port}/reviews/0"
        with (
            meshlib.Mesh.from_resources(resources) as mesh,
            meshlib.Mesh.from_resources(resources, tracer_provider=provider) as traced,
            mesh.client() as plain_client,
            traced.client() as traced_client,
            httpx.Client() as bare,
            httpx.Client() as instrumented,
        ):
            HTTPXClientInstrumentor.instrument_client(instrumented, tracer_provider=provider)
            calls = (
                lambda: bare.get(url),
                lambda: instrumented.get(url),
                lambda: plain_client.get(MESH_URL),
                lambda: traced_client.get(MESH_URL),
            )
            best = _best_us(calls, 40 if quick else 150, 25, unit)
    provider.shutdown()
    theirs, ours = best[1] - best[0], best[3] - best[2]
    details = (
        f"{ours:.0f} us more ({best[2]:.0f} -> {best[3]:.0f}) against {theirs:.0f} us more ({best[0]:.0f} -> {best[1]:.0f}); "
        f"in json.loads of {UNIT_TEXT}: {ours / unit.us:.0f} against {theirs / unit.us:.0f}"
    )
    return [Row(name, ours / theirs, "x", 1.1, details=details, json=ours / unit.us)]
