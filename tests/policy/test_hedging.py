"""Which requests are sent a second time, and when."""

from __future__ import annotations

import pytest

from meshlib.policy.hedging import HedgeSettings
from meshlib.policy.latency import Latencies


@pytest.mark.parametrize(
    ("method", "unsafe", "may"), [("GET", False, True), ("POST", False, False), ("POST", True, True)]
)
def test_only_safe_methods_are_hedged_unless_asked(method, unsafe, may):
    assert HedgeSettings(0.1, unsafe_methods=unsafe).may(method) is may


def test_a_hedge_waits_for_its_delay_or_its_percentile():
    latencies = Latencies()
    assert HedgeSettings(0.25).wait(latencies, 0.0) == 0.25
    assert HedgeSettings(percentile=95.0).wait(latencies, 0.0) is None
    for number in range(100):
        latencies.record(0.010 if number < 95 else 1.0, 0.0)
    assert HedgeSettings(percentile=95.0).wait(latencies, 0.0) == pytest.approx(0.010, rel=0.1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_the_safe_methods_are_http_s_and_are_spelled_as_it_spells_them(method):
    assert HedgeSettings().may(method)
    assert not HedgeSettings().may(method.lower())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", ""])
def test_no_other_method_is_safe(method):
    assert not HedgeSettings().may(method)


def test_a_delay_counts_more_than_a_percentile_and_there_is_one_hedge():
    both = HedgeSettings(delay=0.0, percentile=95.0)
    assert both.wait(Latencies(), 0.0) == 0.0
    assert (both.max_hedges, both.unsafe_methods) == (1, False)
