"""Calls are noted when they end, added many at a time, and in every scrape all the same."""

from __future__ import annotations

import random
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from meshlib.telemetry.families import BUCKETS, LABELS, families, size_families
from meshlib.telemetry.served import FEW, MOST, served_of
from meshlib.telemetry.tables import CallSeries

AMOUNTS = st.integers(0, 4_000_000) | st.floats(0, 4e6) | st.sampled_from(BUCKETS)


SIZES = st.integers(0, 4_000_000) | st.sampled_from([0, 1, 2])


@given(st.lists(st.tuples(AMOUNTS, SIZES, SIZES), max_size=20), st.integers(0, 20))
def test_each_call_is_added_as_if_it_were_observed(calls, between):
    noted, observed = ([CallSeries(BUCKETS) for _ in range(3)] for _ in range(2))
    served = served_of(*noted)
    for n, call in enumerate(calls):
        served.note(*call)
        if n == between:
            served.settle()
        for series, amount in zip(observed, call, strict=True):
            series.observe(amount)
    served.settle()
    served.settle()
    for here, there in zip(noted, observed, strict=True):
        assert here.counts == there.counts
        assert abs(here.sum - there.sum) <= 1e-6 * max(1.0, there.sum)


def test_calls_of_the_sizes_of_the_last_ones_leave_one_number_each():
    made = [CallSeries(BUCKETS) for _ in range(3)]
    served = served_of(*made)
    for sizes in ((10, 20), (10, 20), (30, 40)):
        for took in (1.0, 700.0):
            served.note(took, *sizes)
        served.settle()
    served.note(2.0, 30, 40)
    served.note(2.0, 10, 20)
    assert (served.took, served.noted) == ([2.0], [2.0, 10, 20])
    served.settle()
    assert [series.sum for series in made] == [2107.0, 140.0, 220.0]
    assert [sum(series.counts) for series in made] == [8, 8, 8]


def test_whoever_reads_one_of_the_families_reads_what_is_noted():
    registry = CollectorRegistry()
    labels = [str(n) for n in range(len(LABELS))]
    calls, sizes = families(registry).calls, size_families(registry)
    names = ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
    made = calls.labels(*labels), sizes.requests.labels(*labels), sizes.responses.labels(*labels)
    served = served_of(*made)
    for name, first in zip(names, (1, 2, 3), strict=True):
        served.noted.extend((1, 2, 3))
        found = {s.name: s.value for f in registry.restricted_registry([f"{name}_sum"]).collect() for s in f.samples}
        assert found[f"{name}_sum"] == first * (names.index(name) + 1)
    assert served_of(*made) is served


def test_threads_that_note_and_settle_lose_nothing():
    made = [CallSeries(BUCKETS) for _ in range(3)]
    served, calls = served_of(*made), 4000

    def serve(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(calls):
            served.note(1, *rng.choice(((2, 3), (2, 3), (3, 2))))
            if rng.random() < 0.02:
                served.settle()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=serve, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    served.settle()
    assert [sum(series.counts) for series in made] == [4 * calls] * 3
    assert made[0].sum == 4 * calls
    assert made[1].sum + made[2].sum == 4 * calls * 5


def test_only_so_many_label_sets_keep_much_waiting(monkeypatch):
    monkeypatch.setattr("meshlib.telemetry.served._large", [])
    monkeypatch.setattr("meshlib.telemetry.served.MOST_LARGE", 2)
    all_of_them = [served_of(*(CallSeries(BUCKETS) for _ in range(3))) for _ in range(5)]
    for served in all_of_them:
        for n in range(MOST):
            served.note(n, 2, 3)
            assert len(served.noted) <= served.most
    assert [served.most for served in all_of_them] == [MOST, MOST, FEW, FEW, FEW]
    for served in all_of_them:
        served.settle()
        assert sum(served._series[0].counts) == MOST


@pytest.mark.parametrize("ids", [(0xA, 0xB), (b"%032x" % 0xA, b"%016x" % 0xB)])
def test_a_call_that_is_noted_may_be_the_example_of_those_that_take_as_long(ids):
    made = [CallSeries(BUCKETS) for _ in range(3)]
    served = served_of(*made)
    served.note(700.0, 1, 2)
    served.exemplify(700.0, *ids)
    counts, _, exemplars = made[0].read()
    assert exemplars is not None
    (example,) = [each for each, count in zip(exemplars, counts, strict=True) if count]
    assert example is not None
    assert (example[0], example[1]) == ({"trace_id": f"{0xA:032x}", "span_id": f"{0xB:016x}"}, 700.0)
