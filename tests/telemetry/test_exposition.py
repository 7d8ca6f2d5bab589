"""A scrape is made piece by piece, and its bytes are prometheus_client's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, Summary
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.samples import Sample

from meshlib.telemetry.exposition import PIECE, exposition
from meshlib.telemetry.tables import CallTable, CountTable, SizeTable

OPENMETRICS = "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ACCEPTED = ("", "text/plain", OPENMETRICS, PROMETHEUS_3)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(['q"uo\nted', "\\", "\\n", "ü", "a" * 300])
AMOUNT = (
    st.floats(-10, 1e12) | st.sampled_from([0, 0.5, 1, 999_999, 1_000_000, 1e16, float("inf")]) | st.integers(0, 10**9)
)
EXEMPLAR = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), AMOUNT, st.floats(0, 2e9))
NAMES = st.lists(st.sampled_from(["le_", "l", "a", "reporter", "z", "Z", "destination"]), unique=True, max_size=3)


def whole(registry: CollectorRegistry, accept: str) -> bytes:
    return b"".join(exposition(registry, accept).pieces)


class TheirsOf:
    """The same families, with samples that are plain objects of prometheus_client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self):
        for family in self._registry.collect():
            plain = Metric(family.name, family.documentation, family.type)
            plain.samples = [Sample(*each) for each in family.samples]
            yield plain


@settings(max_examples=40)
@given(st.data(), NAMES)
def test_the_bytes_are_those_of_prometheus_client(data, names):
    registry = CollectorRegistry()
    documentation = data.draw(TEXT)
    calls = CallTable(("calls_total", documentation), ("took", "How long."), names, (0.5, 1, 10, 1_800_000))
    tables = calls, SizeTable("sizes", 'How "large".', names, (1, 1e7)), CountTable("odd", documentation, names)
    for table in tables:
        registry.register(table)
    own = Counter("own", documentation, ["label"], registry=registry)
    for labels in data.draw(st.lists(st.tuples(*[TEXT for _ in names]), max_size=2)):
        calls.labels(*labels).observe(data.draw(AMOUNT))
        tables[1].labels(*labels).observe(data.draw(AMOUNT))
        tables[2].labels(*labels).inc(data.draw(AMOUNT))
        if data.draw(st.booleans()):
            kept = st.none() | EXEMPLAR
            calls.labels(*labels).exemplars = data.draw(st.lists(kept, min_size=5, max_size=5))
        own.labels(data.draw(TEXT)).inc()
    for accept in ACCEPTED:
        encode, content_type = choose_encoder(accept)
        assert whole(registry, accept) == encode(registry) == encode(TheirsOf(registry))
        assert exposition(registry, accept).content_type == content_type


def test_all_that_a_registry_may_have_is_in_a_scrape():
    registry = CollectorRegistry(target_info={"version": "1"})
    Gauge("g", "A gauge.", registry=registry).set(3)
    Summary("s", "A summary.", registry=registry).observe(2)
    Histogram("h", "A histogram.", registry=registry).observe(2, {"trace_id": "abc"})
    CountTable("none", "Without labels.", ())
    registry.register(table := CountTable("bare", "Without labels.", ()))
    table.labels().inc(2)
    assert whole(registry, "") == generate_latest(registry)
    assert whole(registry, OPENMETRICS) == openmetrics(registry)
    assert b"bare_total 2.0\n" in whole(registry, "")


def test_a_scrape_may_ask_for_some_names_only():
    registry = CollectorRegistry()
    Gauge("g", "A gauge.", registry=registry).set(3)
    registry.register(table := CallTable(("calls_total", ""), ("took", ""), ("a",), (1,)))
    table.labels("x").observe(0.5)
    text = b"".join(exposition(registry, "", ["took_sum", "g"]).pieces).decode()
    assert {line for line in text.splitlines() if line[0] != "#"} == {'took_sum{a="x"} 0.5', "g 3.0"}


def test_many_series_come_in_many_small_pieces():
    registry = CollectorRegistry()
    registry.register(table := CallTable(("calls_total", ""), ("took", ""), ("a",), range(1, 19)))
    for n in range(600):
        table.labels(f"{n:0200}").observe(n % 20)
    pieces = list(exposition(registry).pieces)
    line = 3 * 20 * 250  # a series is written in one go
    assert max(map(len, pieces)) < PIECE + line
    assert len(pieces) > 50
    assert b"".join(pieces) == generate_latest(registry)


def test_calls_that_end_while_a_scrape_is_under_way_do_not_disturb_it():
    registry = CollectorRegistry()
    registry.register(table := CallTable(("calls_total", ""), ("took", ""), ("a",), (1, 2)))
    for n in range(400):
        table.labels(f"{n:0300}").observe(1)
    text = b""
    for n, piece in enumerate(exposition(registry).pieces):
        text += piece
        for other in range(5):
            table.labels(f"new {n} {other}").observe(1)
        table.labels(f"{399:0300}").observe(1)
    buckets = [
        line for line in text.splitlines() if line.startswith(b"took_bucket") and line.endswith(b'le="+Inf"} 1.0')
    ]
    assert len(buckets) >= 399


def test_a_collector_that_raises_does_so_to_whoever_asks_for_its_piece():
    class Raising:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError("no")

    registry = CollectorRegistry()
    registry.register(Raising())
    pieces = exposition(registry).pieces
    with pytest.raises(RuntimeError, match="no"):
        next(pieces)
