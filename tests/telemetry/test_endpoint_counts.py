"""What came of attempts, by endpoint, under Envoy's names."""

from __future__ import annotations

import pytest

from meshlib.engine.explanation import Attempt
from meshlib.telemetry import endpoint_counts
from meshlib.telemetry.endpoint_counts import EndpointCounts


def counted(*attempts: Attempt) -> dict[str, int]:
    counts = EndpointCounts()
    counts.note("c", attempts)
    found = counts.of("c", "a:1")
    return {} if found is None else {name: value for name, value in found.facts().items() if value}


@pytest.mark.parametrize(
    ("status", "failure", "expected"),
    [
        (200, "", {"rq_total": 1, "rq_success": 1}),
        (404, "", {"rq_total": 1, "rq_success": 1}),
        (503, "", {"rq_total": 1, "rq_error": 1}),
        (0, "reset", {"rq_total": 1, "rq_error": 1}),
        (0, "timeout", {"rq_total": 1, "rq_error": 1, "rq_timeout": 1}),
        (0, "connect_failed", {"cx_connect_fail": 1, "rq_error": 1}),
        (0, "connect_timeout", {"cx_connect_fail": 1, "rq_error": 1}),
        (200, "unavailable", {"rq_total": 1, "rq_error": 1}),
        (200, "not_found", {"rq_total": 1, "rq_success": 1}),
        (0, "overflow", {}),
        (0, "invalid_request", {}),
    ],
)
def test_an_attempt_counts_as_in_envoys_host_statistics(status, failure, expected):
    assert counted(Attempt("a:1", status, failure, 1.0)) == expected


def test_attempts_of_a_call_count_at_the_endpoint_of_each():
    counts = EndpointCounts()
    counts.note("c", [Attempt("a:1", 503, "", 1.0), Attempt("b:1", 200, "", 1.0)])
    assert counts.of("c", "a:1").rq_error == counts.of("c", "b:1").rq_success == 1
    assert counts.of("other", "a:1") is None


def test_addresses_beyond_the_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr(endpoint_counts, "MOST", 3)
    counts = EndpointCounts()
    for n in range(10):
        counts.note("c", [Attempt(f"a:{n}", 200, "", 1.0)])
    assert counts.of("c", "a:2").rq_total == 1
    assert counts.of("c", "a:3") is None
    assert counts.of("", "").rq_total == 7
    assert len(counts._found) == 4
