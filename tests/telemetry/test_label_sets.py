"""However many label sets callers make, and whatever is in them, metrics stay bounded and scrapes are whole."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import meshlib
from meshlib.problems import MeshError
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.exposition import exposition
from meshlib.telemetry.families import BUCKETS, LABELS, families
from meshlib.telemetry.label_sets import LONGEST, MOST_SERIES, OTHER, VARIABLE, Admitted, LabelSets, cleaned
from meshlib.telemetry.tables import CallTable, CountTable, WrittenCalls, WrittenCounts

NAMES = ("reporter", "destination_service", "response_code")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlib.telemetry.label_sets.MOST_SERIES", 3)


@pytest.mark.usefixtures("small")
def test_label_sets_past_the_cap_are_counted_as_other_and_none_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    before = dropped.counts().get("metric_label_sets", 0)
    table = CallTable(("calls_total", ""), ("took", ""), NAMES, (1, 2))
    with caplog.at_level(logging.WARNING):
        for n in range(50):
            for _ in range(2):
                table.labels("source", f"host-{n}", str(200 + n % 2)).observe(1)
    counted = {labels: series.counted() for labels, series in table.rows()}
    assert counted == {
        ("source", "host-0", "200"): 2,
        ("source", "host-1", "201"): 2,
        ("source", "host-2", "200"): 2,
        ("source", OTHER, "201"): 48,
        ("source", OTHER, "200"): 46,
    }
    assert table.label_sets.folded == 2 * 47
    assert dropped.counts()["metric_label_sets"] - before == 2 * 47
    (warning,) = caplog.messages
    assert warning.startswith("calls_total has 3 label sets")


@pytest.mark.usefixtures("small")
def test_series_that_were_there_before_go_on() -> None:
    table = CountTable("things_total", "", NAMES)
    for n in range(5):
        table.labels("source", str(n), "200").inc()
    table.labels("source", "1", "200").inc()
    assert table.labels("source", "1", "200").value == 2
    assert len(table.rows()) == 4


@pytest.mark.usefixtures("small")
def test_what_prometheus_client_keeps_is_bounded_too() -> None:
    registry = CollectorRegistry()
    calls = WrittenCalls(
        Counter("calls", "", NAMES, registry=registry), Histogram("took", "", NAMES, registry=registry)
    )
    counts = WrittenCounts(Counter("things", "", NAMES, registry=registry), lambda names: Counter("things", "", names))
    for n in range(20):
        calls.labels("source", f"host-{n}", "200").observe(1.0)
        counts.labels("source", f"host-{n}", "200").inc()
    for name in ("calls_total", "things_total", "took_count"):
        found = {
            s.labels["destination_service"]: s.value for f in registry.collect() for s in f.samples if s.name == name
        }
        assert found == {"host-0": 1, "host-1": 1, "host-2": 1, OTHER: 17}


HOSTILE = [
    'a"b',
    "a\nb",
    "a\\b",
    "\\n",
    "x" * 10_000,
    "\udc80\ud800",
    "ü\N{SNOWMAN}",
    "",
    '"} 1\nistio_requests_total{a="',
]


def test_whatever_is_in_a_label_a_scrape_is_whole() -> None:
    registry = CollectorRegistry()
    calls = families(registry).calls
    for n, value in enumerate(HOSTILE):
        calls.labels(*[value] * (len(LABELS) - 1), str(n)).observe(3.0)
    ours = b"".join(exposition(registry).pieces)
    assert ours == generate_latest(registry)
    parsed = {
        sample.labels["connection_security_policy"]: sample
        for family in text_string_to_metric_families(ours.decode())
        for sample in family.samples
        if sample.name == "istio_requests_total"
    }
    assert [parsed[str(n)].value for n in range(len(HOSTILE))] == [1.0] * len(HOSTILE)
    assert [parsed[str(n)].labels["source_workload"] for n in range(len(HOSTILE))] == [*map(cleaned, HOSTILE)]
    assert len(BUCKETS) == 19


def test_a_value_is_cut_and_made_unicode_and_else_left_as_it_is() -> None:
    assert len(cleaned("x" * 10_000)) == LONGEST
    assert cleaned("\udc80a") == "?a"
    assert cleaned("ü") == "ü"
    sets = LabelSets("m", NAMES)
    assert sets.admit(("a", "b", "c"), {}) == ("a", "b", "c")


def test_what_is_admitted_once_is_known() -> None:
    admitted = Admitted("m", NAMES)
    assert admitted.of(("a", "\udc80", "c")) == admitted.of(("a", "\udc80", "c")) == ("a", "?", "c")
    assert admitted.label_sets.folded == 0


def test_an_operator_says_how_many_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    table = CountTable("things_total", "", NAMES)
    for n in range(5):
        table.labels("source", f"host-{n}", "200").inc()
    assert (len(list(table.rows())), table.label_sets.most) == (3, 2)
    monkeypatch.delenv(VARIABLE)
    assert CountTable("things_total", "", NAMES).label_sets.most == MOST_SERIES


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5", "1" * 30])
def test_what_is_no_number_of_label_sets_is_told_where_the_mesh_is_made(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(MeshError, match=f"{VARIABLE} must be a whole number from 1 on, such as 10000, not '{said}'"):
        meshlib.Mesh.from_resources([], registry=CollectorRegistry())
