"""Faults are drawn once a call: how often, and which; what a request may ask for itself."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib.policy.fault import FaultPolicy, by_headers, draw


class Drawn:
    """A generator whose draws are known."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)


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
    assert draw(by_headers(fault, asked.get), Drawn(0.000_299))[1] == 503
    assert draw(by_headers(fault, asked.get), Drawn(0.000_3))[1] == 0


# -- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "drawn", "hit"),
    [
        (250_000, 0.249_999, True),
        (250_000, 0.25, False),
        (1, 0.0, True),
        (1, 0.000_001, False),
        (999_999, 0.999_998, True),
        (999_999, 0.999_999, False),
    ],
)
def test_a_share_is_of_a_million(share, drawn, hit):
    assert draw(FaultPolicy(abort_status=503, abort_share=share), Drawn(drawn))[1] == (503 if hit else 0)
    assert draw(FaultPolicy(delay=2.0, delay_share=share), Drawn(drawn))[0] == (2.0 if hit else 0.0)


def test_what_is_always_or_never_is_not_drawn():
    both = FaultPolicy(delay=2.0, delay_share=1_000_000, abort_status=503, abort_share=0)
    assert draw(both, Drawn()) == (2.0, 0, None)
    assert draw(FaultPolicy(abort_status=503, abort_grpc=14, abort_share=1_000_000), Drawn()) == (0.0, 503, 14)


def test_percents_are_of_a_hundred_and_the_named_http_status_counts_before_grpcs():
    made = FaultPolicy.from_percents(
        delay=0.5, delay_percent=12.5, abort_status=418, abort_grpc_status="not_found", abort_percent=100
    )
    assert made == FaultPolicy(0.5, 125_000, 418, 5, 1_000_000)
    assert FaultPolicy.from_percents() == FaultPolicy()
    with pytest.raises(KeyError):
        FaultPolicy.from_percents(abort_grpc_status="NONE", abort_percent=1)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (FaultPolicy(7.0, 1_000_000, 500, None, 100_000), "delay 7 s for 100 %, abort 500 for 10 %"),
        (FaultPolicy(abort_status=503, abort_grpc=14, abort_share=5000), "abort UNAVAILABLE (503) for 0.5 %"),
        (FaultPolicy(delay=1.0, abort_status=500), ""),
    ],
)
def test_a_fault_has_words(fault, text):
    assert fault.text == text


@pytest.mark.parametrize("header", ["header_delay", "header_abort"])
def test_headers_are_read_only_where_the_configuration_says_so(header):
    asked = {"x-envoy-fault-delay-request": "250", "x-envoy-fault-abort-request": "418"}
    fixed = FaultPolicy(1.0, 1_000_000, 500, None, 1_000_000)
    assert not fixed.reads_headers
    assert by_headers(fixed, asked.get) is fixed
    one = FaultPolicy(1.0, 1_000_000, 500, None, 1_000_000, **{header: True})
    assert one.reads_headers
    found = by_headers(one, asked.get)
    assert (found.delay, found.abort_status) == ((0.25, 500) if header == "header_delay" else (1.0, 418))


@pytest.mark.parametrize(("asked", "status"), [("200", 200), ("599", 599), ("199", 0), ("600", 0), ("0", 0)])
def test_a_status_that_is_asked_for_is_one_of_http(asked, status):
    found = by_headers(HEADER_FAULT, {"x-envoy-fault-abort-request": asked}.get)
    assert (found.abort_status, found.abort_share) == (status, 1_000_000 if status else 0)


@pytest.mark.parametrize(("asked", "grpc", "status"), [("0", 0, 200), ("16", 16, 401), ("17", None, 0)])
def test_a_grpc_status_that_is_asked_for_is_one_of_grpcs(asked, grpc, status):
    found = by_headers(HEADER_FAULT, {"x-envoy-fault-abort-grpc-request": asked}.get)
    assert (found.abort_grpc, found.abort_status) == (grpc, status)


def test_a_delay_of_no_length_is_none():
    assert by_headers(HEADER_FAULT, {"x-envoy-fault-delay-request": "0"}.get).delay_share == 0
