"""Calls by host, and percentiles out of the histogram."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.telemetry.families import BUCKETS
from meshlib.telemetry.host_calls import calls_by_host, is_error, percentile
from tests.support.resources import pod, service

HOST = "reviews.default.svc.cluster.local"


def test_percentiles_are_those_of_histogram_quantile():
    bounds = (1.0, 5.0, 10.0)
    assert percentile(bounds, [0, 0, 0, 0], 0.5) is None
    assert percentile(bounds, [4, 0, 0, 0], 0.5) == 0.5
    assert percentile(bounds, [2, 2, 0, 0], 0.5) == 1.0
    assert percentile(bounds, [2, 2, 0, 0], 0.75) == 3.0
    assert percentile(bounds, [0, 0, 0, 3], 0.99) == 10.0  # beyond the last bound: at least that
    assert percentile(bounds, [1, 0, 0, 9], 0.05) == 0.5


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.floats(0.01, 1.0))
def test_a_percentile_is_in_the_bucket_of_the_wanted_call(counts, share):
    bounds = (1.0, 5.0, 10.0)
    found = percentile(bounds, counts, share)
    if not sum(counts):
        assert found is None
        return
    calls = [bucket for bucket, count in enumerate(counts) for _ in range(count)]
    bucket = next(b for n, b in enumerate(calls, 1) if n >= share * len(calls) - 1e-9)
    lower, upper = (0.0, *bounds, 10.0)[bucket], (*bounds, 10.0)[bucket]
    assert lower - 1e-9 <= found <= upper + 1e-9


@pytest.mark.parametrize(
    ("code", "grpc", "flags", "expected"),
    [
        ("200", "", "-", False),
        ("404", "", "-", False),
        ("503", "", "-", True),
        ("0", "", "-", True),
        ("200", "", "DI", False),
        ("200", "", "FB,DI", False),
        ("200", "", "UC", True),
        ("200", "0", "-", False),
        ("200", "5", "-", False),
        ("200", "14", "-", True),
    ],
)
def test_what_counts_as_an_error(code, grpc, flags, expected):
    assert is_error(code, grpc, flags) is expected


def test_calls_of_all_endpoints_and_results_of_a_host_are_added_up():
    registry, statuses = CollectorRegistry(), [200, 200, 503, 404]
    resources = [service("reviews"), pod("reviews", "v1", 9081), pod("reviews", "v2", 9082)]
    me, other = meshlib.Workload("me"), meshlib.Workload("other")
    for workload in (me, other):
        with meshlib.Mesh.from_resources(resources, registry=registry, workload=workload, seed=1) as mesh:
            answers = iter(statuses)
            transport = httpx.MockTransport(lambda _request, answers=answers: httpx.Response(next(answers)))
            with mesh.client(transport=transport) as client:
                for _ in statuses:
                    client.get("http://reviews:9080/")
    found = calls_by_host(registry, me)
    assert list(found) == [("made", HOST)]
    assert (found["made", HOST].calls, found["made", HOST].errors) == (4, 1)
    assert len(found["made", HOST].counts) == len(BUCKETS) + 1


def test_where_prometheus_client_counts_in_files_it_is_read_there(tmp_path):
    code = """
import httpx, meshlib
from prometheus_client import CollectorRegistry
from meshlib.telemetry.host_calls import calls_by_host
from tests.support.resources import pod, service
registry = CollectorRegistry()
with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 9081)], registry=registry) as mesh:
    with mesh.client(transport=httpx.MockTransport(lambda request: httpx.Response(503))) as client:
        for _ in range(3): client.get("http://reviews:9080/")
    ((key, calls),) = calls_by_host(registry, mesh.workload).items()
    assert key == ("made", "reviews.default.svc.cluster.local"), key
    assert calls.calls == 3 and calls.errors == 3, (calls.calls, calls.errors)
    assert calls.counts[-1] == 0 and all(count >= 0 for count in calls.counts), calls.counts
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
