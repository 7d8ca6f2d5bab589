"""What metrics cost: a call that is counted over one that is not, and a scrape of many series beside prometheus_client's."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit
from meshlib.engine.call import Call
from meshlib.engine.drivers import run_brief
from meshlib.engine.exchange import exchange_of
from meshlib.engine.outcome import Outcome
from meshlib.engine.route import route
from meshlib.telemetry.exposition import exposition
from meshlib.telemetry.families import BUCKETS, LABELS, families, size_families
from meshlib.telemetry.served import FEW, MOST, Served, served_of
from meshlib.telemetry.tables import CallSeries
from meshlib.transport.httpx.request import HttpxRequest

SERVICES, CODES = 500, ("200", "201", "404", "500", "503")
MIB = 1024 * 1024


def telemetry(quick: bool) -> list[Row]:
    """Metrics on, no access log, no tracer: what a call costs more than one that nobody watches, with its share of adding what
    is noted to the series: those of the same sizes, as these calls are. Short interleaved rounds, the best of each."""
    with meshlib.Mesh.from_resources(synthetic.reviews(1), seed=1, registry=CollectorRegistry()) as mesh:
        core = mesh._core
        assert core.live is not None
        live, watcher = core.live, core.telemetry
        with mesh.client() as client:
            request = client.build_request("GET", "http://reviews:9080/reviews/0")
        answer = Outcome(status=200, headers=[(b"content-length", b"2")], whole=b"{}")
        answer.size = 40

        class Answering:
            def send(self, _effect: Any) -> Outcome:
                return answer

        runtime: Any = Answering()

        def made() -> Call[HttpxRequest]:
            call = Call(HttpxRequest(request, None), live, core.clock, core.rng)
            call.record = route(live.snapshot, call.request)
            return call

        def alone() -> None:
            call = made()
            call.record.status = run_brief(exchange_of(call, brief=True), runtime).outcome.status

        def counted() -> None:
            call = made()
            span = watcher.began(call)
            call.record.status = run_brief(exchange_of(call, brief=True), runtime).outcome.status
            watcher.ended(call, span)

        served = Served(*(CallSeries(BUCKETS) for _ in range(3)))
        some = [float(n * 7 % 23 + (300, 200, 0)[n % 3]) for n in range(MOST)]

        def settled() -> None:
            served.took, served.sent, served.received = some[:], 300, 200
            served.settle()

        def settled_each() -> None:
            served.noted = some[:]
            served.settle()

        unit = Unit()
        best = _interleaved([alone, counted, settled, settled_each], 1000 if quick else 6000, unit)
    added = best[1] - best[0] + best[2] / MOST
    each = added - best[2] / MOST + best[3] / (MOST / 3)
    return [
        Row(
            "telemetry (metrics, no log, no tracer) of one call",
            added / unit.us,
            "x",
            0.5,
            details=f"{added:.2f} us of {unit.us:.2f} us; were all calls of other sizes {each / unit.us:.2f} x",
            json=added / unit.us,
        )
    ]


def _interleaved(calls: list[Callable[[], None]], rounds: int, unit: Unit) -> list[float]:
    """us of each, the best of many short rounds."""
    best, clock, times = [float("inf")] * len(calls), time.perf_counter, 32
    for each in calls:
        for _ in range(1000):
            each()
    gc.disable()
    try:
        for _ in range(rounds):
            unit.take(100)
            for n, each in enumerate(calls):
                began = clock()
                for _ in range(times):
                    each()
                best[n] = min(best[n], (clock() - began) / times * 1e6)
    finally:
        gc.enable()
    return best


def label_sets() -> list[tuple[str, ...]]:
    """As 500 services with five codes have them."""
    found = []
    for service in range(SERVICES):
        host = f"service-{service}.shop.svc.cluster.local"
        for code in CODES:
            values = dict.fromkeys(LABELS, "unknown") | {
                "reporter": "source",
                "destination_service": host,
                "destination_service_name": f"service-{service}",
                "destination_workload": f"service-{service}-v1",
                "destination_principal": f"spiffe://cluster.local/ns/shop/sa/service-{service}",
                "response_code": code,
            }
            found.append(tuple(values[name] for name in LABELS))
    return found


def scrape(quick: bool) -> list[Row]:
    """Storage of 500 services x 5 codes, CPU of their scrape over that of prometheus_client's own, and its longest piece."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    calls, sizes = families(ours).calls, size_families(ours)
    for n, labels in enumerate(label_sets()):
        made = [each.labels(*labels) for each in (calls, sizes.requests, sizes.responses)]
        for series in made:
            for took in range(0, 2000, 40):
                series.observe(took + n % 7)
        waiting: Any = served_of(*made)  # type: ignore[arg-type]  # tables, as nobody writes elsewhere
        for took in range(FEW // 3 - 1):
            waiting.note(took + 0.5, 1000 + took, 2000 + took)
    storage = (tracemalloc.get_traced_memory()[0] - before) / MIB
    tracemalloc.stop()
    best, longest = [float("inf")] * 2, float("inf")
    for _ in range(3 if quick else 6):
        took, worst = _scraped(ours)
        best[1], longest = min(best[1], took), min(longest, worst)
    counter = Counter("istio_requests_total", "Requests through the mesh.", LABELS, registry=theirs)
    histograms = [
        Histogram(name, "", LABELS, registry=theirs, buckets=BUCKETS)
        for name in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
    ]
    for labels in label_sets():
        counter.labels(*labels).inc(64)
        for histogram in histograms:
            histogram.labels(*labels).observe(64)
    clock = time.process_time
    for _ in range(1 if quick else 3):
        began = clock()
        generate_latest(theirs)
        best[0] = min(best[0], clock() - began)
    many = f"{SERVICES * len(CODES)} label sets, {3 * (len(BUCKETS) + 3) + 1} samples each"
    return [
        Row("scrape: CPU, mesh / prometheus_client", best[1] / best[0], "x", 0.25, details=_times(best, many)),
        Row("scrape: longest piece", longest * 1000, "ms", 10.0),
        Row("scrape: storage", storage, "MB", 20.0, details=many),
    ]


def _scraped(registry: CollectorRegistry) -> tuple[float, float]:
    """Seconds of CPU of a scrape, and of its longest piece."""
    clock = time.process_time
    gc.collect()
    began = before = clock()
    worst = 0.0
    for _ in exposition(registry).pieces:
        now = clock()
        worst, before = max(worst, now - before), now
    return clock() - began, worst


def _times(best: list[float], many: str) -> str:
    return f"{best[1] * 1000:.0f} ms against {best[0] * 1000:.0f} ms; {many}"


TELEMETRY_ROWS: dict[str, Callable[[bool], list[Row]]] = {"telemetry": telemetry, "scrape": scrape}
