"""Series with labels of their own stand in the family of the others, in every format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from meshlib.telemetry.exposition import exposition
from meshlib.telemetry.own_labels import BothCounted, BothObserved, OwnLabels
from meshlib.telemetry.tables import (
    CallSeries,
    CallTable,
    CountSeries,
    CountTable,
    SizeTable,
    WrittenCalls,
    WrittenCounts,
    WrittenSizes,
)

NAMES, OWN = ("a", "b"), ("b", "tenant")


def tables() -> CollectorRegistry:
    registry = CollectorRegistry()
    counts = CountTable("messages_total", "Messages.", NAMES)
    counts.labels("1", "2").inc(3)
    counts.counted(OWN, ("2", 'x"\n')).inc(4)
    calls = CallTable(("calls_total", "Calls."), ("ms", "Durations."), NAMES, (1.0, 10.0))
    calls.labels("1", "2").observe(5.0)
    calls.counted(OWN, ("2", "x")).inc()
    calls.timed(("tenant",), ("x",)).observe(50.0)
    calls.counted(NAMES, ("1", "2")).inc()
    calls.timed(NAMES, ("1", "2")).observe(0.5)
    sizes = SizeTable("bytes", "Sizes.", NAMES, (1.0,))
    sizes.timed(NAMES, ("1", "2")).observe(0.5)
    sizes.timed(OWN, ("2", "x")).observe(2.0)
    for table in (counts, calls, sizes):
        registry.register(table)
    return registry


def values(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_samples_have_their_own_labels_and_equal_ones_are_added_up() -> None:
    found = values(tables())
    assert found["messages_total", "a=1", "b=2"] == 3
    assert found["messages_total", "b=2", 'tenant=x"\n'] == 4
    assert found["calls_total", "a=1", "b=2"] == 2, "counted with its duration, and alone"
    assert found["calls_total", "b=2", "tenant=x"] == 1
    assert found["ms_count", "a=1", "b=2"] == 2
    assert found["ms_bucket", "a=1", "b=2", "le=1.0"] == 1
    assert found["ms_sum", "a=1", "b=2"] == 5.5
    assert found["ms_bucket", "le=10.0", "tenant=x"] == 0
    assert found["bytes_count", "a=1", "b=2"] == found["bytes_count", "b=2", "tenant=x"] == 1


def test_both_formats_are_byte_for_byte_what_prometheus_client_writes() -> None:
    registry = tables()
    for accept, written in (("", generate_latest(registry)), ("application/openmetrics-text", openmetrics(registry))):
        assert b"".join(exposition(registry, accept).pieces) == written
    families = list(text_string_to_metric_families(openmetrics(tables()).decode()))
    assert [family.name for family in families] == ["messages", "calls", "ms", "bytes"]


def test_series_are_found_again_by_names_and_values() -> None:
    own: OwnLabels[list[int]] = OwnLabels(list)
    assert own.labels(("a",), ("1",)) is own.labels(("a",), ("1",))
    assert own.labels(("a",), ("1",)) is not own.labels(("b",), ("1",))
    assert [names for names, _ in own.rows()] == [("a",), ("b",)]
    assert own.beside(("a",))[0][0] == ("b",)
    assert own.among(("a",)).keys() == {("1",)}


def test_two_series_that_are_shown_as_one_began_with_the_older() -> None:
    one, other = CountSeries(), CountSeries()
    one.began, other.began = 5.0, 3.0
    one.inc(2)
    other.inc(3)
    both = BothCounted(one, other)
    assert (both.counted(), both.began) == (5, 3.0)


def test_of_two_exemplars_the_younger_is_kept() -> None:
    one, other = CallSeries((1.0,)), CallSeries((1.0,))
    assert BothObserved(one, other).read()[2] is None
    one.exemplars = [(0xA, 1, 1.0, 1.0), (0xB, 1, 2.0, 1.0)]
    first = one.read()[2]
    assert first is not None
    assert BothObserved(one, other).read()[2] == first
    other.exemplars = [None, (0xC, 1, 2.0, 2.0)]
    second = other.read()[2]
    assert second is not None
    assert BothObserved(one, other).read()[2] == [first[0], second[1]]


def test_what_prometheus_client_writes_itself_has_them_too() -> None:
    registry = CollectorRegistry()
    counter, histogram = Counter("c", "C.", NAMES, registry=None), Histogram("h", "H.", NAMES, registry=None)
    made: list[Counter | Histogram] = []

    def count(names: object) -> Counter:
        made.append(Counter("c", "C.", names, registry=registry))  # type: ignore[arg-type]
        return made[-1]  # type: ignore[return-value]

    def time(names: object) -> Histogram:
        made.append(Histogram("h", "H.", names, registry=registry))  # type: ignore[arg-type]
        return made[-1]  # type: ignore[return-value]

    calls, counts, sizes = (
        WrittenCalls(counter, histogram, count, time),
        WrittenCounts(counter, count),
        WrittenSizes(histogram, time),
    )
    calls.counted(OWN, ("1", "x")).inc()
    calls.counted(OWN, ("1", "y")).inc()
    calls.timed(OWN, ("1", "x")).observe(1.0)
    assert len(made) == 2
    found = values(registry)
    assert found["c_total", "b=1", "tenant=x"] == found["c_total", "b=1", "tenant=y"] == 1
    assert found["h_count", "b=1", "tenant=x"] == 1
    registry = CollectorRegistry()
    counts.counted(OWN, ("1", "x")).inc()
    counts.labels("1", "2").inc()
    sizes.timed(OWN, ("1", "x")).observe(1.0)
    found = values(registry)
    assert found["c_total", "b=1", "tenant=x"] == found["h_count", "b=1", "tenant=x"] == 1
