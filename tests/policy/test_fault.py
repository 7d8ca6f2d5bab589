"""Faults are drawn once a call: how often, and which; what a request may ask for itself."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib.policy.fault import FaultPolicy, by_headers, draw


def test_a_fault_draws_delay_and_abort_independently():
    fault = FaultPolicy.from_percents(delay=2.0, delay_percent=50, abort_status=500, abort_percent=50)
    rng = random.Random(1)
    draws = Counter((bool(d), bool(s)) for d, s, _ in (draw(fault, rng) for _ in range(8000)))
    assert all(
        draws[key] == pytest.approx(2000, abs=180) for key in [(a, b) for a in (True, False) for b in (True, False)]
    )


def test_a_grpc_abort_has_the_http_status_that_stands_for_it():
    fault = FaultPolicy.from_percents(abort_grpc_status="UNAVAILABLE", abort_percent=100)
    assert draw(fault, random.Random(1)) == (0.0, 503, 14)


def test_four_decimals_of_a_percentage_count():
    assert FaultPolicy.from_percents(abort_status=500, abort_percent=0.0001).abort_share == 1


# -- faults that a request asks for

HEADER_FAULT = FaultPolicy(delay_share=500_000, abort_share=1_000_000, header_delay=True, header_abort=True)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, (0.0, 0, 0, None)),
        ({"abort-request": "503"}, (0.0, 0, 503, None)),
        ({"abort-request": "199"}, (0.0, 0, 0, None)),
        ({"abort-request": "600"}, (0.0, 0, 0, None)),
        ({"abort-request": "x"}, (0.0, 0, 0, None)),
        ({"abort-grpc-request": "14"}, (0.0, 0, 503, 14)),
        ({"abort-grpc-request": "17"}, (0.0, 0, 0, None)),
        ({"abort-request": "429", "abort-grpc-request": "14"}, (0.0, 0, 429, None)),
        ({"delay-request": "250"}, (0.25, 500_000, 0, None)),
        ({"delay-request": "-1"}, (0.0, 0, 0, None)),
        ({"delay-request": "250", "delay-request-percentage": "20"}, (0.25, 200_000, 0, None)),
        ({"delay-request": "250", "delay-request-percentage": "90"}, (0.25, 500_000, 0, None)),
        ({"delay-request": "250", "delay-request-percentage": "?"}, (0.25, 500_000, 0, None)),
    ],
)
def test_a_request_may_ask_for_its_own_fault_within_what_is_allowed(headers, wanted):
    found = by_headers(HEADER_FAULT, {f"x-envoy-fault-{k}": v for k, v in headers.items()}.get)
    assert (found.delay, found.delay_share, found.abort_status, found.abort_grpc) == wanted


def test_the_share_of_a_header_fault_counts_in_the_units_of_the_configuration():
    fault = FaultPolicy(abort_share=700, header_abort=True, abort_unit=100)
    asked = {"x-envoy-fault-abort-request": "503", "x-envoy-fault-abort-request-percentage": "3"}
    assert by_headers(fault, asked.get).abort_share == 300
    rng = random.Random(1)
    assert sum(draw(by_headers(fault, asked.get), rng)[1] == 503 for _ in range(100_000)) in range(10, 60)
