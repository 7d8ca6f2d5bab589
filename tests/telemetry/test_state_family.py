"""State metrics are rendered row by row, and read as prometheus_client's own."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from meshlib.telemetry.exposition import exposition
from meshlib.telemetry.mesh_metrics import FAMILIES
from meshlib.telemetry.state_family import StateFamily, chained

ROWS = [(("a", ""), 1), (('q"uo\nted\\', "b"), 2.5), (("c", "d"), float("inf")), (("e", "f"), 4294967295)]
NAMES = ("service", "mesh")


class Of:
    def __init__(self, *families):
        self.families = families

    def describe(self):
        return []

    def collect(self):
        return self.families


def registry_of(*families):
    registry = CollectorRegistry()
    registry.register(Of(*families))
    return registry


@pytest.mark.parametrize("kind", ["gauge", "counter"])
def test_both_formats_are_prometheus_clients_own(kind):
    made = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}[kind]
    name = "meshlib_x_total" if kind == "counter" else "meshlib_x"
    theirs = made(name, 'What "it"\nsays.', labels=NAMES)
    for values, number in ROWS:
        theirs.add_metric(values, number)
    ours = StateFamily(name, 'What "it"\nsays.', kind, NAMES, lambda: ROWS)
    text = b"".join(exposition(registry_of(ours)).pieces)
    assert text == generate_latest(registry_of(theirs)) == generate_latest(registry_of(ours))
    pieces = exposition(registry_of(ours), accept="application/openmetrics-text; version=1.0.0").pieces
    assert b"".join(pieces) == openmetrics(registry_of(theirs)) == openmetrics(registry_of(ours))


def test_rows_are_made_as_they_are_asked_for():
    made = []

    def rows():
        for number in range(10_000):
            made.append(number)
            yield (f"service-{number}", ""), number

    pieces = exposition(registry_of(StateFamily("meshlib_x", "X.", "gauge", NAMES, rows))).pieces
    assert next(pieces).count(b"\n") - 2 == len(made) < 1000, "a piece is what is made at once"
    assert sum(piece.count(b"\n") for piece in pieces) > 9000
    assert len(made) == 10_000


def test_rows_of_several_meshes_follow_each_other_and_none_are_none():
    both = chained([lambda: [(("a", ""), 1)], tuple, lambda: [(("b", "2"), 2)]])
    family = StateFamily("meshlib_x", "X.", "gauge", NAMES, both)
    assert family.has_rows
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"service": "a", "mesh": ""}, 1),
        ({"service": "b", "mesh": "2"}, 2),
    ]
    assert not StateFamily("meshlib_x", "X.", "gauge", NAMES, chained([])).has_rows
    assert not any(family.name.endswith("_created") for family in FAMILIES)
